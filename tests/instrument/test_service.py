r"""
Tests for `equipnet.instrument.service` and `equipnet.instrument.operation`: an instrument and a device in memory, and a
clock that only the tests move.

Every test ends with a disconnection, after which nothing may wait and nothing may be scheduled.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost as TransportLost
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from equipnet.connection.address import Address
from equipnet.connection.memory import MemoryEndpoint
from equipnet.connection.retry import RetryPolicy
from equipnet.connection.state import Change, State
from equipnet.errors import (
    AddressError,
    ConnectFailed,
    ConnectionLost,
    Disconnected,
    EquipmentConnectionError,
    EquipmentTimeout,
    LocalProtocolError,
    MessageTooLong,
    NotConnected,
    QueueFull,
    RemoteProtocolError,
)
from equipnet.instrument import IdleGap, Instrument, Resync, Terminator
from equipnet.instrument.service import LATE_LIMIT
from equipnet.interfaces import IConnection, Traffic


class Device(Protocol):
    """One conversation as the device sees it: what it has heard, and what the test lets it say."""

    transport: Any

    def __init__(self) -> None:
        self.heard = b""
        self.gone = False

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: object = None) -> None:
        self.gone = True

    def take(self) -> bytes:
        """Give what was heard since the last time."""
        heard, self.heard = self.heard, b""
        return heard


class Laboratory(Factory):
    """Where the device is: its conversations, one after the other, and whether it takes another one."""

    noisy = False

    def __init__(self, device: Callable[[], Any] = Device) -> None:
        self.conversations: list[Any] = []
        self.refuses = False
        self._device = device

    def buildProtocol(self, addr: IAddress | None) -> Any:
        if self.refuses:
            return None
        self.conversations.append(self._device())
        return self.conversations[-1]


class Stuck:
    """An endpoint whose attempts end only when they are cancelled."""

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred()


class InstrumentTestCase(SynchronousTestCase):
    """An instrument, the device that it is connected to, and the clock between them."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.laboratory = Laboratory()
        self.instruments: list[Instrument] = []
        self.addCleanup(self.put_away)

    def make(self, address: Any = None, **settings: Any) -> Instrument:
        """Give an instrument that is not connected."""
        defaults = {"termination": "\n", "timeout": 5.0, "retry": RetryPolicy.fixed(1.0), "name": "dmm"}
        settings = {**defaults, **settings}
        if address is None:
            address = MemoryEndpoint(self.laboratory, self.clock)
        instrument = Instrument(address, reactor=self.clock, **settings)
        self.instruments.append(instrument)
        return instrument

    def connected(self, **settings: Any) -> Instrument:
        """Give an instrument that is connected."""
        instrument = self.make(**settings)
        self.assertIs(self.successResultOf(instrument.connect()), instrument)
        self.turn()
        return instrument

    def put_away(self) -> None:
        """Disconnect everything, and check that nothing is left."""
        closed = [instrument.disconnect() for instrument in self.instruments]
        self.turn()
        for each in closed:
            self.successResultOf(each)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertLessEqual({instrument.state for instrument in self.instruments}, {State.STOPPED})

    def turn(self) -> None:
        """Let everything that has been sent arrive."""
        self.clock.advance(0)

    @property
    def device(self) -> Device:
        """The device's end of the latest conversation."""
        device: Device = self.laboratory.conversations[-1]
        return device

    def say(self, data: bytes) -> None:
        """Let the device send bytes, which arrive."""
        self.device.transport.write(data)
        self.turn()

    def heard(self) -> bytes:
        """Give what has arrived at the device."""
        self.turn()
        return self.device.take()


class BasicsTests(InstrumentTestCase):
    """What every user begins with."""

    def test_interface(self) -> None:
        """
        An instrument is a connection, before and after it is connected.
        """
        verifyObject(IConnection, self.make())
        verifyObject(IConnection, self.connected())

    def test_address(self) -> None:
        """
        An address in MSL-Equipment's form is read; construction connects to nothing.
        """
        dmm = Instrument("TCP::192.168.1.100::5025", termination="\n", timeout=5.0, reactor=self.clock)
        self.assertEqual((dmm.host, dmm.port, dmm.name), ("192.168.1.100", 5025, "tcp:192.168.1.100:5025"))
        self.assertIs(dmm.state, State.STOPPED)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(Instrument.parse_address("TCPIP::h::5025::SOCKET"), Address("tcp", "h", 5025))
        self.assertRaises(AddressError, Instrument, "TCP::192.168.1.100", reactor=self.clock)

    def test_no_address(self) -> None:
        """
        Where an endpoint was given there is no host and no port.
        """
        self.assertEqual((self.make().host, self.make().port), ("", 0))

    def test_query(self) -> None:
        """
        A query gives the reply with its terminator, as MSL-Equipment does.
        """
        dmm = self.connected()
        answer = dmm.query("*IDN?")
        self.assertEqual(self.heard(), b"*IDN?\n")
        self.say(b"ACME,1,2,3\n")
        self.assertEqual(self.successResultOf(answer), "ACME,1,2,3\n")

    def test_write(self) -> None:
        """
        A write gives the number of bytes on the wire, terminator included.
        """
        dmm = self.connected()
        self.assertEqual(self.successResultOf(dmm.write("CONF:VOLT")), 10)
        self.assertEqual(self.successResultOf(dmm.write("CONF:VOLT\n")), 10)
        self.assertEqual(self.heard(), b"CONF:VOLT\nCONF:VOLT\n")

    def test_write_numbers(self) -> None:
        """
        Numbers follow the command as a block.
        """
        dmm = self.connected()
        self.assertEqual(self.successResultOf(dmm.write("DATA ", [1, 2], dtype="<u2")), 13)
        self.assertEqual(self.heard(), b"DATA #14\x01\x00\x02\x00\n")

    def test_block(self) -> None:
        """
        A query for a block gives an array, also when a terminator stands in it.
        """
        dmm = self.connected()
        answer = dmm.query("CURV?", fmt="ieee", dtype="<f")
        self.say(b"#18\x0a\x0a\x0a\x0a")
        self.assertNoResult(answer)
        self.say(b"\x00\x00\x80\x3f\n")
        np.testing.assert_array_equal(self.successResultOf(answer), np.array([6.646346445936972e-33, 1.0], "<f4"))

    def test_read_bytes(self) -> None:
        """
        A sized read without decoding gives so many bytes, terminators among them.
        """
        dmm = self.connected()
        raw = dmm.read(size=4, decode=False)
        self.say(b"1\n2\n3\n")
        self.assertEqual(self.successResultOf(raw), b"1\n2\n")
        self.assertEqual(self.successResultOf(dmm.read()), "3\n")

    def test_query_with_its_own_ending(self) -> None:
        """
        One query can have another ending than the instrument.
        """
        dmm = self.connected()
        answer = dmm.query("A?", ending=Terminator(b";"))
        self.say(b"1\n2;")
        self.assertEqual(self.successResultOf(answer), "1\n2;")

    def test_ending_of_the_instrument(self) -> None:
        """
        An instrument can have an ending of its own for all text replies.
        """
        dmm = self.connected(ending=IdleGap(0.1))
        answer = dmm.query("A?")
        self.say(b"1\n2")
        self.clock.advance(0.05)
        self.say(b"3")
        self.clock.advance(0.05)
        self.assertNoResult(answer)
        self.clock.advance(0.05)
        self.assertEqual(self.successResultOf(answer), "1\n23")

    def test_recv(self) -> None:
        """
        SOCS's recv gives what has come, at most as much as is asked for, and leaves the rest.
        """
        dmm = self.connected(buffer_size=4)
        received = dmm.recv()
        self.say(b"123456789")
        self.assertEqual(self.successResultOf(received), b"1234")
        self.assertEqual(self.successResultOf(dmm.recv(3)), b"567")
        self.assertEqual(self.successResultOf(dmm.recv(100)), b"89")

    def test_recv_keeps_within_the_limit(self) -> None:
        """
        What recv gives is never too long; the rest of a long chunk is there for the next one.
        """
        dmm = self.connected(max_read_size=4)
        received = dmm.recv()
        self.say(b"123456")
        self.assertEqual(self.successResultOf(received), b"1234")
        self.assertEqual(self.successResultOf(dmm.recv()), b"56")

    def test_recv_nothing(self) -> None:
        """
        A recv of no bytes fails as every other call does, in its Deferred.
        """
        self.failureResultOf(self.connected().recv(0), LocalProtocolError)

    def test_refused_arguments(self) -> None:
        """
        What cannot be said fails in the Deferred, and nothing is sent.
        """
        dmm = self.connected(encoding="ascii")
        for answer in (
            dmm.write("µ"),
            dmm.query("µ?"),
            dmm.write("A", [1, 2], fmt="nothing"),
            dmm.read(fmt="nothing"),
            dmm.read(size=0),
            dmm.read(size=2_000_000),
            dmm.query("A?", size=2_000_000),
            dmm.query("A?", delay=-1.0),
            dmm.query("A?", delay=float("nan")),
            dmm.query("A?", delay=float("inf")),
        ):
            self.failureResultOf(answer, LocalProtocolError)
        self.assertEqual(self.heard(), b"")
        self.assertFalse(dmm.degraded)

    def test_too_big_a_read(self) -> None:
        """
        A sized read over the limit is refused in MSL-Equipment's words.
        """
        error = self.failureResultOf(self.connected().read(size=1048577), LocalProtocolError).value
        self.assertEqual(str(error), "max_read_size is 1048576 bytes, requesting 1048577 bytes")

    def test_taps(self) -> None:
        """
        A tap sees each message once, whole, in both directions.
        """
        dmm = self.connected()
        seen: list[tuple[str, bytes]] = []

        def tap(traffic: Traffic) -> None:
            seen.append((traffic.direction, traffic.raw))

        dmm.add_tap(tap)
        answer = dmm.query("A?")
        self.say(b"1.")
        self.say(b"5\n")
        self.successResultOf(answer)
        self.assertEqual(seen, [("out", b"A?\n"), ("in", b"1.5\n")])

    def test_tap_that_disconnects(self) -> None:
        """
        A tap may end the connection while a command is written; the operation ends with it.
        """
        asks: list[Callable[[Instrument], Deferred[Any]]] = [
            lambda dmm: dmm.query("A?"),
            lambda dmm: dmm.write("A"),
            lambda dmm: dmm.query("A?", delay=1.0),
        ]
        for ask in asks:
            dmm = self.connected()

            def tap(traffic: Traffic, dmm: Instrument = dmm) -> None:
                dmm.disconnect()

            dmm.add_tap(tap)
            self.failureResultOf(ask(dmm), Disconnected)
            self.turn()
            self.assertEqual(self.clock.getDelayedCalls(), [])


class QueueTests(InstrumentTestCase):
    """Operations wait their turn."""

    def test_no_room(self) -> None:
        """
        A queue without room for anything is refused.
        """
        with self.assertRaisesRegex(ValueError, "queue_limit is 0"):
            self.make(queue_limit=0)

    def test_order(self) -> None:
        """
        Queries are asked one after the other, in the order of the calls.
        """
        dmm = self.connected()
        answers = [dmm.query(f"{number}?") for number in range(3)]
        for number in range(3):
            self.assertEqual(self.heard(), b"%d?\n" % number)
            self.say(b"%d\n" % number)
        self.assertEqual([self.successResultOf(answer) for answer in answers], ["0\n", "1\n", "2\n"])

    def test_order_of_different_operations(self) -> None:
        """
        Writes and reads wait behind a query, too.
        """
        dmm = self.connected()
        query, write, read = dmm.query("1?"), dmm.write("2"), dmm.read()
        self.assertEqual(self.heard(), b"1?\n")
        self.assertNoResult(write)
        self.say(b"1\n2\n")
        self.assertEqual(self.heard(), b"2\n")
        self.assertEqual(self.successResultOf(query), "1\n")
        self.assertEqual(self.successResultOf(write), 2)
        self.assertEqual(self.successResultOf(read), "2\n")

    def test_the_callers_come_first(self) -> None:
        """
        Who gets an answer hears of it before the next command is sent.
        """
        dmm = self.connected()
        order: list[object] = []
        dmm.add_tap(lambda traffic: order.append(traffic.raw) if traffic.direction == "out" else None)
        dmm.query("1?").addCallback(order.append)
        dmm.query("2?")
        self.say(b"1\n")
        self.assertEqual(order, [b"1?\n", "1\n", b"2?\n"])
        self.say(b"2\n")

    def test_asked_in_a_callback(self) -> None:
        """
        Who asks again as soon as an answer is there waits behind the others.
        """
        dmm = self.connected()
        last = dmm.query("1?").addCallback(lambda _: dmm.query("3?"))
        dmm.query("2?")
        self.say(b"1\n")
        self.assertEqual(self.heard(), b"1?\n2?\n")
        self.say(b"2\n")
        self.assertEqual(self.heard(), b"3?\n")
        self.say(b"3\n")
        self.assertEqual(self.successResultOf(last), "3\n")

    def test_limit(self) -> None:
        """
        One operation more than may wait is not accepted; it changes nothing for the others.
        """
        dmm = self.connected(queue_limit=2)
        answers = [dmm.query(f"{number}?") for number in range(3)]
        self.failureResultOf(dmm.query("3?"), QueueFull)
        for number in range(3):
            self.say(b"%d\n" % number)
        self.assertEqual([self.successResultOf(answer) for answer in answers], ["0\n", "1\n", "2\n"])

    def test_many(self) -> None:
        """
        A long queue is worked off without growing the stack.
        """
        dmm = self.connected(queue_limit=4_000)
        held = dmm.query("0?")
        writes = [dmm.write("1") for _ in range(2_000)]
        reads = [dmm.read() for _ in range(2_000)]
        self.say(b"0\n" + b"1\n" * 2_000)
        self.successResultOf(held)
        self.assertEqual({self.successResultOf(write) for write in writes}, {2})
        self.assertEqual({self.successResultOf(read) for read in reads}, {"1\n"})

    def test_cancel_one_that_waits(self) -> None:
        """
        An operation that is cancelled before its turn is never begun.
        """
        dmm = self.connected()
        first, second, third = dmm.query("1?"), dmm.query("2?"), dmm.query("3?")
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.say(b"1\n")
        self.say(b"3\n")
        self.assertEqual(self.heard(), b"1?\n3?\n")
        self.assertEqual([self.successResultOf(first), self.successResultOf(third)], ["1\n", "3\n"])

    def test_cancel_the_active_query(self) -> None:
        """
        A query that is cancelled after it was sent counts as one that was not answered in time.
        """
        dmm = self.connected()
        first, second = dmm.query("1?"), dmm.query("2?")
        self.turn()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertFalse(dmm.degraded)
        self.turn()
        self.assertEqual(len(self.laboratory.conversations), 2)
        self.assertEqual(self.heard(), b"2?\n")
        self.say(b"2\n")
        self.assertEqual(self.successResultOf(second), "2\n")

    def test_cancel_the_active_query_and_drop(self) -> None:
        """
        Where late replies are dropped, that of a cancelled query is.
        """
        dmm = self.connected(resync="drop")
        first = dmm.query("1?")
        self.say(b"1")
        first.cancel()
        self.failureResultOf(first, CancelledError)
        second = dmm.query("2?")
        self.say(b".5\n2\n")
        self.assertEqual(self.successResultOf(second), "2\n")

    def test_cancel_in_the_delay(self) -> None:
        """
        A query that is cancelled before its reply is read leaves nothing behind.
        """
        dmm = self.connected(resync="drop")
        answer = dmm.query("1?", delay=1.0)
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        second = dmm.query("2?")
        self.say(b"1\n2\n")
        self.assertEqual(self.successResultOf(second), "2\n")

    def test_cancel_the_active_read(self) -> None:
        """
        A read that is cancelled leaves what has come to the next one.
        """
        dmm = self.connected()
        first = dmm.read()
        self.say(b"1.")
        first.cancel()
        self.failureResultOf(first, CancelledError)
        second = dmm.read()
        self.say(b"5\n")
        self.assertEqual(self.successResultOf(second), "1.5\n")

    def test_cancel_the_active_write(self) -> None:
        """
        A write that is cancelled while it goes out ends the connection: what was said of it cannot be taken back.
        """
        dmm = self.connected()
        dmm.protocol.pauseProducing()
        write = dmm.write("A" * 100)
        self.assertNoResult(write)
        write.cancel()
        self.failureResultOf(write, CancelledError)
        self.turn()
        self.assertEqual(len(self.laboratory.conversations), 2)

    def test_cancelled_by_another_answer(self) -> None:
        """
        A caller who cancels another one's operation at the moment of its reply harms nobody.
        """
        dmm = self.connected()
        first = dmm.query("1?")
        dmm.write("2").addCallback(lambda _: first.cancel())
        third = dmm.query("3?")
        self.say(b"1\n")
        self.assertEqual(self.successResultOf(first), "1\n")
        self.say(b"3\n")
        self.assertEqual(self.successResultOf(third), "3\n")

    def test_cancelled_by_an_observer(self) -> None:
        """
        An observer who cancels the operation that it is told of harms nobody.
        """
        dmm = self.connected()
        self.clock.advance(0)
        answer = dmm.query("1?")
        dmm.observe_degraded(lambda *_: answer.cancel())
        self.clock.advance(5.0)
        self.failureResultOf(answer, CancelledError)
        self.turn()
        again = dmm.query("2?")
        dmm.observe_degraded(lambda *_: again.cancel())
        self.say(b"2\n")
        self.failureResultOf(again, CancelledError)
        third = dmm.query("3?")
        self.say(b"3\n")
        self.assertEqual(self.successResultOf(third), "3\n")


class DelayTests(InstrumentTestCase):
    """A query with a pause between the command and the reading."""

    def test_delay(self) -> None:
        """
        The reply is read after the delay, whenever it comes; the timeout counts from there.
        """
        dmm = self.connected(timeout=1.0)
        answer = dmm.query("1?", delay=3.0)
        self.assertEqual(self.heard(), b"1?\n")
        self.clock.advance(2.0)
        self.say(b"1\n")
        self.assertNoResult(answer)
        self.clock.advance(1.0)
        self.assertEqual(self.successResultOf(answer), "1\n")
        answer = dmm.query("2?", delay=3.0)
        self.clock.advance(3.0)
        self.clock.advance(0.9)
        self.say(b"2\n")
        self.assertEqual(self.successResultOf(answer), "2\n")

    def test_timeout(self) -> None:
        """
        Nothing in the time after the delay is a timeout.
        """
        dmm = self.connected(timeout=1.0)
        answer = dmm.query("1?", delay=3.0)
        self.clock.advance(3.0)
        self.clock.advance(0.9)
        self.assertNoResult(answer)
        self.clock.advance(0.1)
        self.failureResultOf(answer, EquipmentTimeout)

    def test_connection_lost(self) -> None:
        """
        A connection that is lost in the delay fails the query at once, and the next one is asked on the new connection.
        """
        dmm = self.connected()
        answer = dmm.query("1?", delay=1.0)
        self.turn()
        self.clock.advance(0.5)
        self.device.transport.loseConnection()
        self.turn()
        self.failureResultOf(answer, ConnectionLost)
        self.clock.advance(1.0)
        second = dmm.query("2?")
        self.say(b"2\n")
        self.assertEqual(self.successResultOf(second), "2\n")

    def test_disconnected(self) -> None:
        """
        A disconnection in the delay fails the query, and leaves no call.
        """
        dmm = self.connected()
        answer = dmm.query("1?", delay=1.0)
        closed = dmm.disconnect()
        self.failureResultOf(answer, Disconnected)
        self.turn()
        self.successResultOf(closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class NotConnectedTests(InstrumentTestCase):
    """What happens to operations where there is no connection."""

    def test_never_connected(self) -> None:
        """
        Without a connection or an attempt every operation fails at once.
        """
        dmm = self.make()
        for answer in (dmm.query("1?"), dmm.read(), dmm.write("1"), dmm.recv()):
            error = self.failureResultOf(answer, NotConnected).value
            self.assertIsInstance(error, ConnectionError)
            self.assertIn("connect it first", str(error))

    def test_while_connecting(self) -> None:
        """
        An operation that is called in the middle of an attempt waits for it.
        """
        made: Deferred[None] = Deferred()
        endpoint = MemoryEndpoint(self.laboratory, self.clock)

        class Slow:
            def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
                return made.addCallback(lambda _: endpoint.connect(factory))

        dmm = self.make(Slow())
        dmm.connect()
        answer = dmm.query("1?")
        self.assertNoResult(answer)
        made.callback(None)
        self.assertEqual(self.heard(), b"1?\n")
        self.say(b"1\n")
        self.assertEqual(self.successResultOf(answer), "1\n")

    def test_attempt_fails(self) -> None:
        """
        What waits for an attempt fails with it, and the cause is kept.
        """
        made: Deferred[IProtocol] = Deferred()

        class Slow:
            def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
                return made

        dmm = self.make(Slow())
        connected = dmm.connect()
        answers = [dmm.query("1?"), dmm.write("2"), dmm.read()]
        made.errback(ConnectionRefusedError(111, "refused"))
        for answer in (connected, *answers):
            error = self.failureResultOf(answer, ConnectFailed).value
            self.assertEqual(error.errno, 111)
        self.assertTrue(dmm.degraded)

    def test_waiting_to_retry(self) -> None:
        """
        Between two attempts operations fail at once, and say why there is no connection.
        """
        self.laboratory.refuses = True
        dmm = self.make()
        connected = dmm.connect(max_attempts=None)
        self.turn()
        self.assertIs(dmm.state, State.WAITING)
        error = self.failureResultOf(dmm.query("1?"), NotConnected).value
        self.assertIn("waiting", str(error))
        self.assertIsInstance(error.__cause__, ConnectFailed)
        self.assertNoResult(connected)
        dmm.disconnect()
        self.failureResultOf(connected, Disconnected)

    def test_black_hole(self) -> None:
        """
        An attempt that nothing answers fails after connect_timeout, and what waits for it, too.
        """
        dmm = self.make(Stuck(), connect_timeout=3.0)
        connected = dmm.connect()
        answer = dmm.query("1?")
        self.clock.advance(2.9)
        self.assertNoResult(answer)
        self.clock.advance(0.1)
        for each in (answer, connected):
            self.failureResultOf(each, TimeoutError)

    def test_disconnect_while_connecting(self) -> None:
        """
        What waits for an attempt fails when it is ended from our side.
        """
        dmm = self.make(Stuck())
        connected = dmm.connect()
        answer = dmm.query("1?")
        closed = dmm.disconnect()
        self.failureResultOf(answer, Disconnected)
        self.failureResultOf(connected, Disconnected)
        self.successResultOf(closed)
        self.assertFalse(dmm.degraded)

    def test_endpoint_that_raises(self) -> None:
        """
        Construction and connecting raise nothing because a device is away; the Deferred fails.
        """

        class Broken:
            def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
                raise OSError(2, "no such file")

        error = self.failureResultOf(self.make(Broken()).connect(), ConnectFailed).value
        self.assertEqual(error.errno, 2)


class ConnectionLostTests(InstrumentTestCase):
    """Everything that waits fails at once when the connection goes."""

    def everything(self, dmm: Instrument) -> list[Deferred[Any]]:
        """Give one of each operation, the first of them active."""
        return [dmm.query("1?"), dmm.write("2"), dmm.read(), dmm.recv(), dmm.query("3?", delay=1.0)]

    def test_lost(self) -> None:
        """
        The active operation and those that wait fail with ConnectionLost and the cause.
        """
        dmm = self.connected()
        answers = self.everything(dmm)
        self.turn()
        self.device.transport.abortConnection()
        self.turn()
        for answer in answers:
            error = self.failureResultOf(answer, ConnectionLost).value
            self.assertIsInstance(error, ConnectionError)
            self.assertIsInstance(error.__cause__, TransportLost)

    def test_lost_while_a_write_waits(self) -> None:
        """
        A write that the device did not take in full fails with the connection, and the instrument can be used again.
        """
        dmm = self.connected()
        dmm.protocol.pauseProducing()
        write, query = dmm.write("A" * 100), dmm.query("1?")
        self.device.transport.abortConnection()
        self.turn()
        self.failureResultOf(write, ConnectionLost)
        self.failureResultOf(query, ConnectionLost)
        self.clock.advance(1.0)
        again = dmm.query("2?")
        self.assertEqual(self.heard(), b"2?\n")
        self.say(b"2\n")
        self.assertEqual(self.successResultOf(again), "2\n")

    def test_disconnect_while_a_write_waits(self) -> None:
        """
        A disconnection fails a write that waits for the device.
        """
        dmm = self.connected()
        dmm.protocol.pauseProducing()
        write = dmm.write("A" * 100)
        closed = dmm.disconnect()
        self.failureResultOf(write, Disconnected)
        self.turn()
        self.successResultOf(closed)

    def test_disconnect(self) -> None:
        """
        A disconnection fails everything with Disconnected.
        """
        dmm = self.connected()
        answers = self.everything(dmm)
        closed = dmm.disconnect()
        for answer in answers:
            self.failureResultOf(answer, Disconnected)
        self.turn()
        self.successResultOf(closed)
        self.assertFalse(dmm.degraded)

    def test_stop_service(self) -> None:
        """
        Stopping the service is a disconnection that fires when nothing is scheduled any more.
        """
        dmm = self.make()
        dmm.startService()
        self.turn()
        answers = self.everything(dmm)
        stopped = dmm.stopService()
        for answer in answers:
            self.failureResultOf(answer, Disconnected)
        self.turn()
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_reconnect(self) -> None:
        """
        A reconnection fails what waits for the old connection; what is asked after it waits for the new one.
        """
        dmm = self.connected()
        before = self.everything(dmm)
        reconnected = dmm.reconnect()
        after = dmm.query("4?")
        for answer in before:
            self.failureResultOf(answer, Disconnected)
        self.turn()
        self.successResultOf(reconnected)
        self.assertEqual(self.heard(), b"4?\n")
        self.say(b"4\n")
        self.assertEqual(self.successResultOf(after), "4\n")
        self.assertFalse(dmm.degraded)

    def test_reconnect_in_vain(self) -> None:
        """
        What waits for a reconnection fails with its first failed attempt.
        """
        dmm = self.connected()
        self.laboratory.refuses = True
        reconnected = dmm.reconnect(max_attempts=2)
        after = dmm.query("4?")
        self.turn()
        self.failureResultOf(after, ConnectFailed)
        self.assertNoResult(reconnected)
        self.clock.advance(1.0)
        self.failureResultOf(reconnected, ConnectFailed)

    def test_reconnect_forgets_old_bytes(self) -> None:
        """
        Bytes of the old connection are not read on the new one.
        """
        dmm = self.connected()
        self.say(b"old")
        self.successResultOf(self.turned(dmm.reconnect()))
        read = dmm.read()
        self.say(b"new\n")
        self.assertEqual(self.successResultOf(read), "new\n")

    def turned(self, result: Deferred[Any]) -> Deferred[Any]:
        """Give the Deferred after a turn of the clock."""
        self.turn()
        return result

    def test_asked_by_who_is_failed(self) -> None:
        """
        Who asks again because a connection was lost is told at once that there is none.
        """
        dmm = self.connected()
        again: list[Deferred[Any]] = []
        dmm.query("1?").addErrback(lambda _: again.append(dmm.query("2?")))
        self.device.transport.abortConnection()
        self.turn()
        self.failureResultOf(again[0], ConnectionLost, NotConnected)

    def test_last_words(self) -> None:
        """
        A message that only silence ends, ends with the connection; no other operation is begun on it.
        """
        dmm = self.connected(ending=IdleGap(0.1))
        answer, write = dmm.query("1?"), dmm.write("2")
        self.say(b"1")
        self.device.transport.loseConnection()
        self.turn()
        self.assertEqual(self.successResultOf(answer), "1")
        self.failureResultOf(write, ConnectionLost)

    def test_cut_off(self) -> None:
        """
        A message in the middle of which the connection is reset is no message, even if silence would have ended it.
        """
        dmm = self.connected(ending=IdleGap(0.1))
        answer = dmm.query("1?")
        self.say(b"1")
        self.device.transport.abortConnection()
        self.turn()
        self.failureResultOf(answer, ConnectionLost)


class TimeoutTests(InstrumentTestCase):
    """Operations end in time."""

    def test_error(self) -> None:
        """
        A timeout is a TimeoutError and a ConnectionError, and says how long was waited, for what, and what had come.
        """
        dmm = self.connected()
        answer = dmm.query("1?")
        self.say(b"1.")
        self.clock.advance(5.0)
        error = self.failureResultOf(answer, EquipmentTimeout).value
        self.assertIsInstance(error, TimeoutError)
        self.assertIsInstance(error, ConnectionError)
        self.assertEqual((error.seconds, error.received), (5.0, b"1."))
        self.assertEqual(
            str(error),
            "Timeout occurred after 5 second(s), waiting for the terminator b'\\n'; "
            "received 2 bytes, ending with b'1.'",
        )

    def test_counts_from_its_turn(self) -> None:
        """
        The time in the queue does not count.
        """
        dmm = self.connected()
        first, second = dmm.query("1?"), dmm.query("2?")
        self.clock.advance(4.0)
        self.say(b"1\n")
        self.clock.advance(4.9)
        self.assertNoResult(second)
        self.say(b"2\n")
        self.assertEqual([self.successResultOf(first), self.successResultOf(second)], ["1\n", "2\n"])

    def test_each_has_its_own(self) -> None:
        """
        A timeout that is changed counts for the operations that are called from then on.
        """
        dmm = self.connected()
        first = dmm.query("1?")
        dmm.timeout = 1.0
        second = dmm.query("2?")
        self.clock.advance(4.9)
        self.say(b"1\n")
        self.successResultOf(first)
        self.clock.advance(0.9)
        self.assertNoResult(second)
        self.clock.advance(0.1)
        self.failureResultOf(second, EquipmentTimeout)

    def test_none(self) -> None:
        """
        Without a timeout an operation waits as long as the connection lasts.
        """
        dmm = self.connected(timeout=None)
        answer = dmm.query("1?")
        self.clock.advance(1e6)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.say(b"1\n")
        self.assertEqual(self.successResultOf(answer), "1\n")

    def test_zero(self) -> None:
        """
        With a timeout of 0 a read gives what is there, and nothing else.
        """
        dmm = self.connected(timeout=0)
        read = dmm.read()
        self.turn()
        self.failureResultOf(read, EquipmentTimeout)
        self.say(b"1\n")
        self.assertEqual(self.successResultOf(dmm.read()), "1\n")

    def test_write(self) -> None:
        """
        A write that the device does not take in time fails, and the connection is made anew: half a command was said.
        """
        dmm = self.connected()
        dmm.protocol.pauseProducing()
        write, query = dmm.write("A" * 100), dmm.query("1?")
        self.clock.advance(5.0)
        self.failureResultOf(write, EquipmentTimeout)
        self.turn()
        self.assertEqual(len(self.laboratory.conversations), 2)
        self.assertEqual(self.heard(), b"1?\n")
        self.say(b"1\n")
        self.assertEqual(self.successResultOf(query), "1\n")

    def test_write_that_is_taken(self) -> None:
        """
        A write ends when the device takes it.
        """
        dmm = self.connected()
        dmm.protocol.pauseProducing()
        write = dmm.write("A" * 100)
        self.clock.advance(4.0)
        self.assertNoResult(write)
        dmm.protocol.resumeProducing()
        self.assertEqual(self.successResultOf(write), 101)
        self.clock.advance(10.0)
        self.assertEqual(len(self.laboratory.conversations), 1)

    def test_read_keeps_what_came(self) -> None:
        """
        What a read had received when its time was over is there for the next one.
        """
        dmm = self.connected()
        read = dmm.read()
        self.say(b"1.")
        self.clock.advance(5.0)
        self.failureResultOf(read, EquipmentTimeout)
        self.assertEqual(len(self.laboratory.conversations), 1)
        read = dmm.read()
        self.say(b"5\n")
        self.assertEqual(self.successResultOf(read), "1.5\n")

    def test_one_timer(self) -> None:
        """
        A thousand queries do not schedule a thousand calls.
        """
        dmm = self.connected()
        for number in range(1000):
            answer = dmm.query(f"{number}?")
            self.say(b"%d\n" % number)
            self.assertEqual(self.successResultOf(answer), f"{number}\n")
        self.assertLessEqual(len(self.clock.getDelayedCalls()), 1)


class ResetTests(InstrumentTestCase):
    """After a reply that did not come in time the connection is made anew, unless the user says something else."""

    def test_default(self) -> None:
        """
        Resetting is the default.
        """
        self.assertIs(self.make().resync, Resync.RESET)

    def test_late_by_one(self) -> None:
        """
        A reply that is late goes to nobody; the next query is answered on a new connection.
        """
        dmm = self.connected()
        first, second = dmm.query("1?"), dmm.query("2?")
        self.turn()
        old = self.device
        self.clock.advance(5.0)
        old.transport.write(b"1\n")
        self.turn()
        self.failureResultOf(first, EquipmentTimeout)
        self.assertTrue(old.gone)
        self.assertIsNot(self.device, old)
        self.assertEqual(self.heard(), b"2?\n")
        self.say(b"2\n")
        self.assertEqual(self.successResultOf(second), "2\n")

    def test_half_a_reply_and_silence(self) -> None:
        """
        Half a reply is dropped with its connection.
        """
        dmm = self.connected()
        first = dmm.query("1?")
        self.say(b"1")
        self.clock.advance(5.0)
        self.failureResultOf(first, EquipmentTimeout)
        self.turn()
        second = dmm.query("2?")
        self.say(b"2\n")
        self.assertEqual(self.successResultOf(second), "2\n")

    def test_in_a_row(self) -> None:
        """
        Every timeout resets, and each query is asked.
        """
        dmm = self.connected()
        answers = [dmm.query(f"{number}?") for number in range(5)]
        for number, answer in enumerate(answers):
            self.assertEqual(self.heard(), b"%d?\n" % number)
            self.clock.advance(5.0)
            self.failureResultOf(answer, EquipmentTimeout)
            self.turn()
        self.assertEqual(len(self.laboratory.conversations), 6)

    def test_asked_in_the_errback(self) -> None:
        """
        Who asks again because of a timeout is answered on the new connection.
        """
        dmm = self.connected()
        answer = dmm.query("1?").addErrback(lambda _: dmm.query("2?"))
        self.clock.advance(5.0)
        self.turn()
        self.say(b"2\n")
        self.assertEqual(self.successResultOf(answer), "2\n")

    def test_in_vain(self) -> None:
        """
        When no new connection can be made, what waits for it fails.
        """
        dmm = self.connected()
        first, second = dmm.query("1?"), dmm.query("2?")
        self.laboratory.refuses = True
        self.clock.advance(5.0)
        self.turn()
        self.failureResultOf(first, EquipmentTimeout)
        self.failureResultOf(second, ConnectFailed)
        self.failureResultOf(dmm.query("3?"), NotConnected)

    def test_after_a_read(self) -> None:
        """
        A query that follows a read without its message is asked on a new connection.
        """
        dmm = self.connected()
        read = dmm.read()
        self.clock.advance(5.0)
        self.failureResultOf(read, EquipmentTimeout)
        answer = dmm.query("1?")
        self.say(b"late\n")
        self.assertEqual(len(self.laboratory.conversations), 2)
        self.say(b"1\n")
        self.assertNotEqual(self.successResultOf(answer), "late\n")

    def test_after_a_read_that_was_repeated(self) -> None:
        """
        A read that gets the message after all makes up for the one before it.
        """
        dmm = self.connected()
        read = dmm.read()
        self.clock.advance(5.0)
        self.failureResultOf(read, EquipmentTimeout)
        read = dmm.read()
        self.say(b"late\n")
        self.assertEqual(self.successResultOf(read), "late\n")
        answer = dmm.query("1?")
        self.say(b"1\n")
        self.assertEqual(self.successResultOf(answer), "1\n")
        self.assertEqual(len(self.laboratory.conversations), 1)

    def test_observer_disconnects(self) -> None:
        """
        An observer that disconnects because of a timeout ends everything cleanly.
        """
        for observe in (
            lambda dmm: dmm.observe_degraded(lambda *_: dmm.disconnect()),
            lambda dmm: dmm.add_observer(lambda change: change.new is State.CONNECTED and dmm.disconnect()),
        ):
            dmm = self.connected()
            observe(dmm)
            first, second = dmm.query("1?"), dmm.query("2?")
            self.clock.advance(5.0)
            self.turn()
            self.failureResultOf(first, EquipmentTimeout)
            self.failureResultOf(second, Disconnected)
            self.assertIs(dmm.state, State.STOPPED)
            self.assertEqual(self.clock.getDelayedCalls(), [])
            self.failureResultOf(dmm.query("3?"), NotConnected)


class DropTests(InstrumentTestCase):
    """An instrument of which exactly the late reply is dropped."""

    def test_late_by_one(self) -> None:
        """
        The late reply is dropped, whether it comes before or after the next command.
        """
        dmm = self.connected(resync="drop")
        first, second, third = dmm.query("1?"), dmm.query("2?"), dmm.query("3?")
        self.clock.advance(5.0)
        self.failureResultOf(first, EquipmentTimeout)
        self.assertEqual(self.heard(), b"1?\n2?\n")
        self.say(b"1\n")
        self.say(b"2\n")
        self.say(b"3\n")
        self.assertEqual([self.successResultOf(second), self.successResultOf(third)], ["2\n", "3\n"])
        self.assertEqual(len(self.laboratory.conversations), 1)

    def test_two_in_a_row(self) -> None:
        """
        Two late replies are two that are dropped.
        """
        dmm = self.connected(resync=Resync.DROP)
        answers = [dmm.query("1?"), dmm.query("2?")]
        self.clock.advance(5.0)
        self.clock.advance(5.0)
        for answer in answers:
            self.failureResultOf(answer, EquipmentTimeout)
        third = dmm.query("3?")
        self.say(b"1\n2\n3\n")
        self.assertEqual(self.successResultOf(third), "3\n")

    def test_half_a_reply(self) -> None:
        """
        Of a reply that had begun the rest is dropped.
        """
        dmm = self.connected(resync="drop")
        first = dmm.query("1?")
        self.say(b"1.")
        self.clock.advance(5.0)
        self.failureResultOf(first, EquipmentTimeout)
        second = dmm.query("2?")
        self.say(b"5\n2\n")
        self.assertEqual(self.successResultOf(second), "2\n")

    def test_each_with_its_ending(self) -> None:
        """
        A late reply ends as it would have ended in time.
        """
        dmm = self.connected(resync="drop")
        answers = [dmm.query("1?", size=4), dmm.query("2?", fmt="ieee"), dmm.query("3?")]
        for answer in answers[:2]:
            self.clock.advance(5.0)
            self.failureResultOf(answer, EquipmentTimeout)
        self.say(b"1\n1\n#13a\nb\n3\n")
        self.assertEqual(self.successResultOf(answers[2]), "3\n")

    def test_one_that_never_comes(self) -> None:
        """
        A reply that never comes takes others with it, but only so many: then the connection is made anew.
        """
        dmm = self.connected(resync="drop")
        self.failed(dmm.query("0?"))
        for number in range(1, LATE_LIMIT + 1):
            answer = dmm.query(f"{number}?")
            self.say(b"%d\n" % number)
            self.failed(answer)
        self.assertEqual(len(self.laboratory.conversations), 2)
        answer = dmm.query("9?")
        self.say(b"9\n")
        self.assertEqual(self.successResultOf(answer), "9\n")

    def failed(self, answer: Deferred[Any]) -> None:
        """Let the time of a query pass."""
        self.clock.advance(5.0)
        self.failureResultOf(answer, EquipmentTimeout)
        self.turn()

    def test_limit_counts_those_in_a_row(self) -> None:
        """
        A reply in time begins the count anew.
        """
        dmm = self.connected(resync="drop")
        for _ in range(3 * LATE_LIMIT):
            self.failed(dmm.query("1?"))
            answer = dmm.query("2?")
            self.say(b"1\n2\n")
            self.assertEqual(self.successResultOf(answer), "2\n")
        self.assertEqual(len(self.laboratory.conversations), 1)

    def test_silence(self) -> None:
        """
        An instrument that has gone silent is connected anew after so many replies.
        """
        dmm = self.connected(resync="drop")
        for _ in range(LATE_LIMIT):
            self.failed(dmm.query("1?"))
            self.assertEqual(len(self.laboratory.conversations), 1)
        self.failed(dmm.query("1?"))
        self.assertEqual(len(self.laboratory.conversations), 2)

    def test_where_nothing_tells(self) -> None:
        """
        Where nothing tells how a late reply ends, it cannot be dropped, and the connection is made anew.
        """
        dmm = self.connected(resync="drop", read_termination=None, termination=None)
        first, second = dmm.query("1?"), dmm.query("2?", size=2)
        self.say(b"1")
        self.failed(first)
        self.assertEqual(len(self.laboratory.conversations), 2)
        self.say(b"2\n")
        self.assertEqual(self.successResultOf(second), "2\n")

    def test_after_recv(self) -> None:
        """
        What a recv did not get in time may come in any pieces, so that the next query is asked on a new connection.
        """
        dmm = self.connected(resync="drop")
        self.failed(dmm.recv())
        answer = dmm.query("2?")
        self.turn()
        self.assertEqual(len(self.laboratory.conversations), 2)
        self.say(b"2\n")
        self.assertEqual(self.successResultOf(answer), "2\n")

    def test_after_a_read(self) -> None:
        """
        The message of a read that did not get it is dropped before a query is answered, also if it has come since.
        """
        dmm = self.connected(resync="drop")
        self.failed(dmm.read())
        answer = dmm.query("1?")
        self.say(b"late\n1\n")
        self.assertEqual(self.successResultOf(answer), "1\n")
        self.failed(dmm.read())
        self.say(b"late\n")
        answer = dmm.query("2?")
        self.say(b"2\n")
        self.assertEqual(self.successResultOf(answer), "2\n")
        self.assertEqual(len(self.laboratory.conversations), 1)

    def test_after_two_reads(self) -> None:
        """
        Of two reads without a message nobody knows how many messages will come, and the connection is made anew.
        """
        dmm = self.connected(resync="drop")
        dmm.write("1?")
        dmm.write("2?")
        self.failed(dmm.read())
        self.failed(dmm.read())
        answer = dmm.query("3?")
        self.say(b"1\n2\n")
        self.assertEqual(len(self.laboratory.conversations), 2)
        self.say(b"3\n")
        self.assertEqual(self.successResultOf(answer), "3\n")

    def test_announced_too_long(self) -> None:
        """
        The rest of a block over the limit is dropped before the next reply.
        """
        dmm = self.connected(max_read_size=16)
        first = dmm.query("1?", fmt="ieee")
        self.say(b"#217abc")
        self.failureResultOf(first, MessageTooLong)
        second = dmm.query("2?")
        self.say(b"d" * 14 + b"\n")
        self.say(b"2\n")
        self.assertEqual(self.successResultOf(second), "2\n")


class GapTests(InstrumentTestCase):
    """An instrument that is in step again after a silence."""

    def test_silence(self) -> None:
        """
        What comes within the gap is dropped and begins it anew; the next command is sent after it.
        """
        dmm = self.connected(resync="gap", resync_gap=2.0)
        first, second = dmm.query("1?"), dmm.query("2?")
        self.say(b"1")
        self.clock.advance(5.0)
        self.failureResultOf(first, EquipmentTimeout)
        self.assertIs(dmm.state, State.CONNECTED)
        self.clock.advance(1.9)
        self.say(b".5\n")
        self.clock.advance(1.9)
        self.assertEqual(self.heard(), b"1?\n")
        self.clock.advance(0.1)
        self.assertIs(dmm.state, State.READY)
        self.assertEqual(self.heard(), b"2?\n")
        self.say(b"2\n")
        self.assertEqual(self.successResultOf(second), "2\n")
        self.assertEqual(len(self.laboratory.conversations), 1)

    def test_twice(self) -> None:
        """
        Two timeouts in a row are two gaps.
        """
        dmm = self.connected(resync="gap", resync_gap=2.0)
        for _ in range(2):
            answer = dmm.query("1?")
            self.clock.advance(5.0)
            self.failureResultOf(answer, EquipmentTimeout)
            self.say(b"1\n")
            self.clock.advance(2.0)
        answer = dmm.query("2?")
        self.say(b"2\n")
        self.assertEqual(self.successResultOf(answer), "2\n")

    def test_after_a_read(self) -> None:
        """
        A query after a read without its message waits for the gap, too.
        """
        dmm = self.connected(resync="gap", resync_gap=2.0)
        read = dmm.read()
        self.clock.advance(5.0)
        self.failureResultOf(read, EquipmentTimeout)
        answer = dmm.query("1?")
        self.assertEqual(self.heard(), b"")
        self.say(b"late\n")
        self.clock.advance(2.0)
        self.assertEqual(self.heard(), b"1?\n")
        self.say(b"1\n")
        self.assertEqual(self.successResultOf(answer), "1\n")

    def test_lost_in_the_gap(self) -> None:
        """
        What waits for the silence fails with the connection.
        """
        dmm = self.connected(resync="gap", resync_gap=2.0)
        dmm.query("1?").addErrback(lambda _: None)
        second = dmm.query("2?")
        self.clock.advance(5.0)
        self.device.transport.abortConnection()
        self.turn()
        self.failureResultOf(second, ConnectionLost)

    def test_disconnected_in_the_gap(self) -> None:
        """
        A disconnection in the gap leaves nothing scheduled, also if an observer calls for it at the gap's beginning.
        """
        dmm = self.connected(resync="gap", resync_gap=2.0)
        dmm.add_observer(lambda change: change.new is State.CONNECTED and dmm.disconnect())
        first, second = dmm.query("1?"), dmm.query("2?")
        self.clock.advance(5.0)
        self.failureResultOf(first, EquipmentTimeout)
        self.failureResultOf(second, Disconnected)
        self.turn()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_silence(self) -> None:
        """
        An instrument that is never silent is connected anew, and what waits is asked then.
        """
        dmm = self.connected(resync="gap", resync_gap=2.0)
        first, second = dmm.query("1?"), dmm.query("2?")
        self.clock.advance(5.0)
        self.failureResultOf(first, EquipmentTimeout)
        for _ in range(100):
            self.clock.advance(1.0)
            if len(self.laboratory.conversations) > 1:
                break
            self.say(b"1\n")
        self.assertEqual(len(self.laboratory.conversations), 2)
        self.assertEqual(self.heard(), b"2?\n")
        self.say(b"2\n")
        self.assertEqual(self.successResultOf(second), "2\n")

    def test_without_a_gap(self) -> None:
        """
        The gap has to be stated.
        """
        for gap in (None, 0, -1.0, float("nan"), float("inf")):
            with self.assertRaises(ValueError):
                self.make(resync="gap", resync_gap=gap)
        with self.assertRaises(ValueError):
            self.make(resync="hope")


class MadeNoSenseTests(InstrumentTestCase):
    """Replies that are not what they should be."""

    def test_not_in_the_encoding(self) -> None:
        """
        Bytes that are no text fail that query, and the next one is answered.
        """
        dmm = self.connected()
        first, second = dmm.query("1?"), dmm.query("2?")
        self.say(b"\xff\xfe\n")
        self.assertEqual(self.failureResultOf(first, RemoteProtocolError).value.data, b"\xff\xfe\n")
        self.assertTrue(dmm.degraded)
        self.say(b"2\n")
        self.assertEqual(self.successResultOf(second), "2\n")
        self.assertFalse(dmm.degraded)
        self.assertEqual(len(self.laboratory.conversations), 1)

    def test_too_long(self) -> None:
        """
        A message over the limit fails that query as soon as it is known, and the next message is the next reply.
        """
        dmm = self.connected(max_read_size=10)
        first, second = dmm.query("1?"), dmm.query("2?")
        self.say(b"12345678901")
        error = self.failureResultOf(first, MessageTooLong).value
        self.assertIn("max_read_size is 10 bytes", str(error))
        self.say(b"x" * 100)
        self.say(b"x\n2\n")
        self.assertEqual(self.successResultOf(second), "2\n")
        self.assertEqual(len(self.laboratory.conversations), 1)

    def test_too_long_without_an_end(self) -> None:
        """
        After a message over the limit that nothing ends, the connection is made anew.
        """
        dmm = self.connected(max_read_size=10, termination=None, read_termination=None)
        first, second = dmm.query("1?"), dmm.query("2?", size=1)
        self.say(b"12345678901")
        self.failureResultOf(first, MessageTooLong)
        self.turn()
        self.assertEqual(len(self.laboratory.conversations), 2)
        self.say(b"2")
        self.assertEqual(self.successResultOf(second), "2")

    def test_a_line_instead_of_a_block(self) -> None:
        """
        A line of text where a block should be is dropped to its end, and the connection stays.
        """
        dmm = self.connected()
        first, second = dmm.query("CURV?", fmt="ieee"), dmm.query("2?")
        self.say(b"\r\nERROR -113\r\n")
        self.failureResultOf(first, RemoteProtocolError)
        self.say(b"2\n")
        self.assertEqual(self.successResultOf(second), "2\n")
        self.assertEqual(len(self.laboratory.conversations), 1)

    def test_another_block_instead(self) -> None:
        """
        After a block of another form nobody knows where the next message begins, and the connection is made anew.
        """
        dmm = self.connected()
        first, second = dmm.query("CURV?", fmt="ieee"), dmm.query("2?")
        self.say(b"#A\x08\x0012\n45678\n")
        self.failureResultOf(first, RemoteProtocolError)
        self.turn()
        self.assertEqual(len(self.laboratory.conversations), 2)
        self.say(b"2\n")
        self.assertEqual(self.successResultOf(second), "2\n")

    def test_not_numbers(self) -> None:
        """
        Numbers that are none fail that query only.
        """
        dmm = self.connected()
        first, second = dmm.query("1?", fmt="ascii", dtype=float), dmm.query("2?", fmt="ascii", dtype=float)
        self.say(b"1,two,3\n")
        self.failureResultOf(first, RemoteProtocolError)
        self.say(b"1,2,3\n")
        np.testing.assert_array_equal(self.successResultOf(second), [1.0, 2.0, 3.0])

    def test_stale(self) -> None:
        """
        What came before a query is no reply to it.
        """
        dmm = self.connected()
        self.say(b"stale\nsta")
        answer = dmm.query("1?")
        self.say(b"1\n")
        self.assertEqual(self.successResultOf(answer), "1\n")

    def test_too_much_that_nobody_reads(self) -> None:
        """
        Where the device had to be held back, more old bytes are on the way, and a query is asked on a new connection.
        """
        dmm = self.connected(max_read_size=10)
        self.say(b"old " * 5)
        self.device.transport.write(b"old\n")
        answer = dmm.query("1?")
        self.turn()
        self.assertEqual(len(self.laboratory.conversations), 2)
        self.assertEqual(self.heard(), b"1?\n")
        self.say(b"1\n")
        self.assertEqual(self.successResultOf(answer), "1\n")


class TransactionTests(InstrumentTestCase):
    """Several operations are kept together."""

    def run_both(self, *coroutines: Any) -> list[Deferred[Any]]:
        """Start coroutines one after the other."""
        return [Deferred.fromCoroutine(coroutine) for coroutine in coroutines]

    def answer_all(self) -> list[bytes]:
        """Answer each command with itself, until there is none; gives the commands."""
        commands: list[bytes] = []
        while heard := self.heard():
            for command in heard.splitlines(keepends=True):
                commands.append(command)
                if b"?" in command:
                    self.say(command.replace(b"?", b""))
        return commands

    def test_exclusive(self) -> None:
        """
        Nobody else's operation comes between those of a transaction; the others come after it in their order.
        """
        dmm = self.connected()

        async def several() -> list[str]:
            async with dmm.transaction() as same:
                self.assertIs(same, dmm)
                await dmm.write("a1")
                return [await dmm.query("a2?"), await dmm.query("a3?")]

        (both,) = self.run_both(several())
        others = [dmm.query("b?"), dmm.write("c")]
        self.assertEqual(self.answer_all(), [b"a1\n", b"a2?\n", b"a3?\n", b"b?\n", b"c\n"])
        self.assertEqual(self.successResultOf(both), ["a2\n", "a3\n"])
        self.assertEqual([self.successResultOf(other) for other in others], ["b\n", 2])

    def test_waits_its_turn(self) -> None:
        """
        A transaction begins when what was asked before it has ended.
        """
        dmm = self.connected()
        before = dmm.query("a?")

        async def several() -> str:
            async with dmm.transaction():
                return str(await dmm.query("b?"))

        (both,) = self.run_both(several())
        after = dmm.query("c?")
        self.assertEqual(self.answer_all(), [b"a?\n", b"b?\n", b"c?\n"])
        for answer in (before, both, after):
            self.successResultOf(answer)

    def test_nested(self) -> None:
        """
        A transaction inside of another one is a part of it, also if it is the same object.
        """
        dmm = self.connected()

        async def nested(same: bool) -> None:
            outer = dmm.transaction()
            async with outer:
                async with outer if same else dmm.transaction():
                    await dmm.query("a?")
                await dmm.query("b?")

        for same in (False, True):
            (both,) = self.run_both(nested(same))
            after = dmm.query("c?")
            self.assertEqual(self.answer_all(), [b"a?\n", b"b?\n", b"c?\n"])
            self.successResultOf(both)
            self.successResultOf(after)

    def test_two_instruments(self) -> None:
        """
        A transaction of one instrument holds no other one.
        """
        dmm, scope = self.connected(), self.connected()

        async def both() -> tuple[str, str]:
            async with dmm.transaction(), scope.transaction():
                return await dmm.query("a?"), await scope.query("b?")

        (answers,) = self.run_both(both())
        first, second = self.laboratory.conversations
        self.turn()
        first.transport.write(b"1\n")
        self.turn()
        second.transport.write(b"2\n")
        self.turn()
        self.assertEqual(self.successResultOf(answers), ("1\n", "2\n"))
        for each in (dmm, scope):
            write = each.write("after")
            self.turn()
            self.successResultOf(write)

    def test_child(self) -> None:
        """
        A coroutine that is started inside of a transaction belongs to it; what it asks after its end does not.
        """
        dmm = self.connected()
        goes_on: Deferred[None] = Deferred()
        children: list[Deferred[None]] = []

        async def child() -> None:
            await dmm.query("child?")
            await goes_on
            await dmm.query("orphan?")

        async def parent() -> None:
            async with dmm.transaction():
                children.append(Deferred.fromCoroutine(child()))
                await dmm.query("parent?")

        (both,) = self.run_both(parent())
        other = dmm.query("other?")
        self.assertEqual(self.answer_all(), [b"child?\n", b"parent?\n", b"other?\n"])
        self.successResultOf(both)
        self.successResultOf(other)

        async def stranger() -> None:
            async with dmm.transaction():
                goes_on.callback(None)
                await dmm.query("stranger?")

        (third,) = self.run_both(stranger())
        self.assertEqual(self.answer_all(), [b"stranger?\n", b"orphan?\n"])
        self.successResultOf(third)
        self.successResultOf(children[0])

    def test_callback(self) -> None:
        """
        What the callback of an operation's Deferred asks belongs to the transaction, which may wait for it; after the
        end of the block it does not.
        """
        dmm = self.connected()

        async def chain() -> None:
            async with dmm.transaction():
                left = dmm.query("left?").addCallback(lambda _: dmm.query("after?"))
                await dmm.query("first?").addCallback(lambda _: dmm.query("second?"))
                refused = dmm.query("third?", size=-1).addErrback(lambda _: dmm.query("instead?"))
                await refused
            await left

        (both,) = self.run_both(chain())
        other = dmm.query("other?")
        self.assertEqual(
            self.answer_all(), [b"left?\n", b"first?\n", b"after?\n", b"second?\n", b"instead?\n", b"other?\n"]
        )
        self.successResultOf(both)
        self.successResultOf(other)

    def test_what_waits_inside_at_the_end(self) -> None:
        """
        What a transaction leaves unfinished is done before what the others wait for.
        """
        dmm = self.connected()
        inside: list[Deferred[Any]] = []

        async def hasty() -> None:
            async with dmm.transaction():
                inside.extend(dmm.query(f"in{number}?") for number in range(3))

        (both,) = self.run_both(hasty())
        other = dmm.query("other?")
        self.successResultOf(both)
        self.assertEqual(self.answer_all(), [b"in0?\n", b"in1?\n", b"in2?\n", b"other?\n"])
        for answer in (*inside, other):
            self.successResultOf(answer)

    def test_exception(self) -> None:
        """
        An exception inside ends the transaction, and passes.
        """
        dmm = self.connected()

        async def fails() -> None:
            async with dmm.transaction():
                await dmm.query("a?")
                raise RuntimeError("inside")

        (both,) = self.run_both(fails())
        other = dmm.query("b?")
        self.assertEqual(self.answer_all(), [b"a?\n", b"b?\n"])
        self.failureResultOf(both, RuntimeError)
        self.successResultOf(other)

    def test_cancelled_while_waiting(self) -> None:
        """
        A transaction that is cancelled before it begins holds nothing.
        """
        dmm = self.connected()
        before = dmm.query("a?")

        async def never() -> None:
            async with dmm.transaction():
                await dmm.query("never?")

        (both,) = self.run_both(never())
        after = dmm.query("b?")
        both.cancel()
        self.failureResultOf(both, CancelledError)
        self.assertEqual(self.answer_all(), [b"a?\n", b"b?\n"])
        self.successResultOf(before)
        self.successResultOf(after)

    def test_cancelled_inside(self) -> None:
        """
        A transaction that is cancelled in the middle ends.
        """
        dmm = self.connected()

        async def stuck() -> None:
            async with dmm.transaction():
                await Deferred()

        (both,) = self.run_both(stuck())
        after = dmm.query("b?")
        self.assertEqual(self.heard(), b"")
        both.cancel()
        self.failureResultOf(both, CancelledError)
        self.assertEqual(self.answer_all(), [b"b?\n"])
        self.successResultOf(after)

    def test_connection_lost_inside(self) -> None:
        """
        A transaction goes on over a lost connection, and still holds the instrument.
        """
        dmm = self.connected()

        async def several() -> str:
            async with dmm.transaction():
                try:
                    await dmm.query("a?")
                except ConnectionLost:
                    await dmm.connect()
                return str(await dmm.query("b?"))

        (both,) = self.run_both(several())
        waiting = dmm.query("c?")
        self.turn()
        self.device.transport.abortConnection()
        self.turn()
        self.failureResultOf(waiting, ConnectionLost)
        later = dmm.query("d?")
        self.assertEqual(self.answer_all(), [b"b?\n", b"d?\n"])
        self.assertEqual(self.successResultOf(both), "b\n")
        self.successResultOf(later)

    def test_timeout_inside(self) -> None:
        """
        A timeout in a transaction resets the connection, and the transaction goes on.
        """
        dmm = self.connected()

        async def several() -> str:
            async with dmm.transaction():
                try:
                    await dmm.query("a?")
                except TimeoutError:
                    return str(await dmm.query("b?"))
                return "no timeout"

        (both,) = self.run_both(several())
        waiting = dmm.query("c?")
        self.clock.advance(5.0)
        self.turn()
        self.assertEqual(len(self.laboratory.conversations), 2)
        self.assertEqual(self.answer_all(), [b"b?\n", b"c?\n"])
        self.assertEqual(self.successResultOf(both), "b\n")
        self.successResultOf(waiting)

    def test_not_connected(self) -> None:
        """
        A transaction cannot be begun without a connection.
        """
        dmm = self.make()

        async def several() -> None:
            async with dmm.transaction():
                self.fail("it has begun")

        (both,) = self.run_both(several())
        self.failureResultOf(both, NotConnected)

    def test_limit(self) -> None:
        """
        Inside of a transaction no more may wait than outside.
        """
        dmm = self.connected(queue_limit=1)

        async def several() -> None:
            async with dmm.transaction():
                first, second = dmm.query("a?"), dmm.query("b?")
                self.failureResultOf(dmm.query("c?"), QueueFull)
                await first
                await second

        (both,) = self.run_both(several())
        self.answer_all()
        self.successResultOf(both)


class UnsolicitedTests(InstrumentTestCase):
    """Messages that nobody asked for."""

    def handled(self, dmm: Instrument, pattern: str | None = None) -> list[str]:
        """Give the list in which the handler puts what it gets."""
        messages: list[str] = []
        dmm.on_unsolicited(messages.append, pattern)
        return messages

    def test_handler(self) -> None:
        """
        A message that comes while nobody waits goes to the handler, however it is cut.
        """
        dmm = self.connected()
        messages = self.handled(dmm)
        for piece in (b"!A", b"LARM\n!", b"B\n"):
            self.say(piece)
        self.assertEqual(messages, ["!ALARM\n", "!B\n"])

    def test_without_a_handler(self) -> None:
        """
        Without a handler messages are kept for the next read.
        """
        dmm = self.connected()
        self.say(b"1\n2\n")
        self.assertEqual(self.successResultOf(dmm.read()), "1\n")
        self.assertEqual(self.successResultOf(dmm.read()), "2\n")

    def test_handler_that_comes_later(self) -> None:
        """
        What was kept goes to a handler as soon as there is one.
        """
        dmm = self.connected(max_read_size=4)
        self.say(b"1\n2\n3\n")
        self.say(b"4\n")
        messages = self.handled(dmm)
        self.turn()
        self.assertEqual(messages, ["1\n", "2\n", "3\n", "4\n"])

    def test_no_handler_any_more(self) -> None:
        """
        A handler that is taken away gets nothing any more, not even the rest of a message.
        """
        dmm = self.connected(ending=IdleGap(0.1))
        messages = self.handled(dmm)
        self.say(b"1")
        dmm.on_unsolicited(None)
        self.clock.advance(0.1)
        self.assertEqual(messages, [])
        read = dmm.read()
        self.clock.advance(0.1)
        self.assertEqual(self.successResultOf(read), "1")

    def test_bytes_that_are_no_text(self) -> None:
        """
        The handler gets every message, whatever its bytes are.
        """
        dmm = self.connected()
        messages = self.handled(dmm)
        self.say(b"\xff\n")
        self.assertEqual(messages, ["\ufffd\n"])

    def test_handler_that_raises(self) -> None:
        """
        What a handler raises is logged, and costs neither the connection nor the next message.
        """
        dmm = self.connected()
        dmm.on_unsolicited(lambda message: 1 // 0)
        self.say(b"1\n2\n")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        answer = dmm.query("1?")
        self.say(b"1\n")
        self.assertEqual(self.successResultOf(answer), "1\n")

    def test_handler_that_asks(self) -> None:
        """
        A handler may ask the instrument.
        """
        dmm = self.connected()
        answers: list[Deferred[Any]] = []
        dmm.on_unsolicited(lambda message: answers.append(dmm.query("WHY?")))
        self.say(b"!ALARM\n")
        self.assertEqual(self.heard(), b"WHY?\n")
        self.say(b"BECAUSE\n")
        self.assertEqual(self.successResultOf(answers[0]), "BECAUSE\n")

    def test_handler_that_disconnects(self) -> None:
        """
        A handler may end the connection; what came behind its message is not told.
        """
        dmm = self.connected()
        messages: list[str] = []

        def handler(message: str) -> None:
            messages.append(message)
            dmm.disconnect()

        dmm.on_unsolicited(handler)
        self.say(b"1\n2\n")
        self.assertEqual(messages, ["1\n"])
        self.assertIs(dmm.state, State.STOPPED)

    def test_pattern(self) -> None:
        """
        A message with the pattern goes to the handler also while a reply is awaited.
        """
        dmm = self.connected()
        messages = self.handled(dmm, "^!")
        answer = dmm.query("1?")
        self.say(b"!ALARM\n")
        self.say(b"!B\n1\n!C\n")
        self.assertEqual(self.successResultOf(answer), "1\n")
        self.assertEqual(messages, ["!ALARM\n", "!B\n", "!C\n"])

    def test_pattern_that_comes_in_the_middle(self) -> None:
        """
        A pattern counts from the moment it is given, also for a reply that is awaited already.
        """
        dmm = self.connected()
        answer = dmm.query("1?")
        messages = self.handled(dmm, "^!")
        self.say(b"!ALARM\n")
        self.say(b"1\n")
        self.assertEqual(self.successResultOf(answer), "1\n")
        self.assertEqual(messages, ["!ALARM\n"])

    def test_pattern_and_a_late_reply(self) -> None:
        """
        An unsolicited message is not taken for a late reply, and the late reply not for the next one.
        """
        dmm = self.connected(resync="drop")
        messages = self.handled(dmm, "^!")
        first = dmm.query("1?")
        self.clock.advance(5.0)
        self.failureResultOf(first, EquipmentTimeout)
        self.say(b"!AL")
        self.say(b"ARM\n")
        self.assertEqual(messages, ["!ALARM\n"])
        second = dmm.query("2?")
        self.say(b"1\n!B\n2\n")
        self.assertEqual(self.successResultOf(second), "2\n")
        self.assertEqual(messages, ["!ALARM\n", "!B\n"])

    def test_pattern_and_a_block(self) -> None:
        """
        An unsolicited line in front of a block goes to the handler, and the block to who asked for it.
        """
        for cut in range(1, 9):
            dmm = self.connected()
            messages = self.handled(dmm, "^!")
            answer = dmm.query("CURV?", fmt="ieee")
            stream = b"!ALARM\r\n#14\n\n\n\n\n"
            self.say(stream[:cut])
            self.say(stream[cut:])
            self.assertEqual(self.successResultOf(answer), b"\n\n\n\n")
            self.assertEqual(messages, ["!ALARM\r\n"])

    def test_a_line_instead_of_a_block_with_a_pattern(self) -> None:
        """
        A line without the pattern in front of a block fails the query, as it does without a pattern.
        """
        dmm = self.connected()
        messages = self.handled(dmm, "^!")
        answer, second = dmm.query("CURV?", fmt="ieee"), dmm.query("2?")
        self.say(b"ERROR\r")
        self.say(b"\n")
        self.failureResultOf(answer, RemoteProtocolError)
        self.say(b"2\n")
        self.assertEqual(self.successResultOf(second), "2\n")
        self.assertEqual(messages, [])

    def test_begun_before_a_query(self) -> None:
        """
        A message that had begun before a query was sent goes to the handler when it is whole.
        """
        for pattern in (None, "^!"):
            dmm = self.connected()
            messages = self.handled(dmm, pattern)
            self.say(b"!AL")
            answer = dmm.query("1?")
            self.say(b"ARM\n1\n")
            self.assertEqual(self.successResultOf(answer), "1\n")
            self.assertEqual(messages, ["!ALARM\n"])

    def test_not_in_the_delay_of_a_query(self) -> None:
        """
        A reply that comes before it is read is a reply all the same.
        """
        dmm = self.connected()
        messages = self.handled(dmm)
        answer = dmm.query("1?", delay=1.0)
        self.say(b"1\n")
        self.clock.advance(1.0)
        self.assertEqual(self.successResultOf(answer), "1\n")
        self.assertEqual(messages, [])

    def test_not_in_a_transaction(self) -> None:
        """
        In a transaction nothing is unsolicited without a pattern: a reply may come before it is read.
        """
        dmm = self.connected()
        messages = self.handled(dmm)
        goes_on: Deferred[None] = Deferred()

        async def several() -> str:
            async with dmm.transaction():
                await dmm.write("1?")
                await goes_on
                return str(await dmm.read())

        result = Deferred.fromCoroutine(several())
        self.say(b"1\n!2\n")
        goes_on.callback(None)
        self.assertEqual(self.successResultOf(result), "1\n")
        self.turn()
        self.assertEqual(messages, ["!2\n"])

    def test_not_at_the_end_of_everything(self) -> None:
        """
        A reply that had begun when the instrument was disconnected is not unsolicited because of that.
        """
        dmm = self.connected()
        messages = self.handled(dmm)

        async def several() -> None:
            async with dmm.transaction():
                await dmm.query("CURV?", fmt="ieee")

        result = Deferred.fromCoroutine(several())
        self.say(b"#12\n")
        dmm.disconnect()
        self.failureResultOf(result, Disconnected)
        self.assertEqual(messages, [])

    def test_begun_before_a_transaction(self) -> None:
        """
        A message that had begun before a transaction is no reply in it.
        """
        dmm = self.connected()
        messages = self.handled(dmm)

        async def several() -> str:
            async with dmm.transaction():
                await dmm.write("1?")
                return str(await dmm.read())

        self.say(b"!AL")
        result = Deferred.fromCoroutine(several())
        self.say(b"ARM\n1\n")
        self.assertEqual(self.successResultOf(result), "1\n")
        self.assertEqual(messages, ["!ALARM\n"])

    def test_pattern_in_a_transaction(self) -> None:
        """
        With a pattern unsolicited messages are told in a transaction, too, at the latest with the next query.
        """
        dmm = self.connected()
        messages = self.handled(dmm, "^!")
        goes_on: Deferred[None] = Deferred()

        async def several() -> str:
            async with dmm.transaction():
                await goes_on
                return str(await dmm.query("1?"))

        result = Deferred.fromCoroutine(several())
        self.say(b"!A\nx\n!B\n!C")
        goes_on.callback(None)
        self.say(b"\n1\n")
        self.assertEqual(self.successResultOf(result), "1\n")
        self.assertEqual(messages, ["!A\n", "!B\n", "!C\n"])

    def test_handler_in_the_middle_of_a_beginning(self) -> None:
        """
        A handler that is told as a query begins may ask or disconnect: the query has its turn, or ends.
        """
        for resync in ("reset", "gap"):
            dmm = self.connected(resync=resync, resync_gap=1.0)
            answers: list[Deferred[Any]] = []
            goes_on: Deferred[None] = Deferred()

            async def several(dmm: Instrument = dmm, goes_on: Deferred[None] = goes_on) -> str:
                async with dmm.transaction():
                    await goes_on
                    return str(await dmm.query("1?"))

            result = Deferred.fromCoroutine(several())

            def handler(message: str, dmm: Instrument = dmm, answers: list[Deferred[Any]] = answers) -> None:
                answers.append(dmm.query("2?"))

            dmm.on_unsolicited(handler, "^!")
            self.say(b"!A\n")
            goes_on.callback(None)
            self.assertEqual(self.heard(), b"1?\n")
            self.say(b"1\n")
            self.say(b"2\n")
            self.assertEqual(self.successResultOf(result), "1\n")
            self.assertEqual(self.successResultOf(answers[0]), "2\n")

    def test_handler_that_disconnects_as_a_query_begins(self) -> None:
        """
        A handler that disconnects as a query begins ends the query, before anything of it is written.
        """
        for timeout in (None, 1.0):
            dmm = self.connected(resync="gap", resync_gap=1.0)
            goes_on: Deferred[None] = Deferred()

            async def several(
                dmm: Instrument = dmm, goes_on: Deferred[None] = goes_on, timeout: float | None = timeout
            ) -> None:
                async with dmm.transaction():
                    if timeout is not None:
                        dmm.timeout = timeout
                        read = dmm.read()
                        self.clock.advance(timeout)
                        self.failureResultOf(read, EquipmentTimeout)
                    await goes_on
                    await dmm.query("1?")

            result = Deferred.fromCoroutine(several())

            def handler(message: str, dmm: Instrument = dmm) -> None:
                dmm.disconnect()

            dmm.on_unsolicited(handler, "^!")
            self.say(b"!A\n")
            goes_on.callback(None)
            self.failureResultOf(result, Disconnected)
            self.assertEqual(self.heard(), b"")
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_not_the_message_of_a_read(self) -> None:
        """
        The message that a read did not get in time is kept for the next read, and is not unsolicited.
        """
        dmm = self.connected()
        messages = self.handled(dmm)
        read = dmm.read()
        self.say(b"1.")
        self.clock.advance(5.0)
        self.failureResultOf(read, EquipmentTimeout)
        self.say(b"5\n")
        self.assertEqual(self.successResultOf(dmm.read()), "1.5\n")
        self.assertEqual(messages, [])
        self.say(b"!2\n")
        self.assertEqual(messages, ["!2\n"])

    def test_settings_that_change(self) -> None:
        """
        Settings that change count for unsolicited messages, too.
        """
        dmm = self.connected()
        messages = self.handled(dmm)
        self.say(b"1")
        dmm.read_termination = ";"
        self.say(b";2\n;")
        self.assertEqual(messages, ["1;", "2\n;"])
        dmm.max_read_size = 3
        self.say(b"1234;5;")
        self.assertEqual(messages, ["1;", "2\n;", "5;"])

    def test_on_every_connection(self) -> None:
        """
        The handler stays over a lost connection.
        """
        dmm = self.connected()
        messages = self.handled(dmm)
        self.device.transport.loseConnection()
        self.turn()
        self.clock.advance(1.0)
        self.say(b"!A\n")
        self.assertEqual(messages, ["!A\n"])


class DegradedTests(InstrumentTestCase):
    """SOCS's flag: whether the last thing failed and nothing has succeeded since."""

    def observed(self, dmm: Instrument) -> list[bool]:
        """Give the list of changes."""
        changes: list[bool] = []

        def observer(instrument: Instrument, degraded: bool, reason: str) -> None:
            self.assertIs(instrument, dmm)
            self.assertTrue(reason)
            changes.append(degraded)

        dmm.observe_degraded(observer)
        return changes

    def test_timeouts(self) -> None:
        """
        Each change is told once, however many operations fail.
        """
        dmm = self.connected()
        changes = self.observed(dmm)
        for _ in range(3):
            answer = dmm.query("1?")
            self.clock.advance(5.0)
            self.failureResultOf(answer, EquipmentTimeout)
            self.turn()
        self.assertEqual((changes, dmm.degraded), ([True], True))
        answer = dmm.query("1?")
        self.say(b"1\n")
        self.successResultOf(answer)
        self.assertEqual((changes, dmm.degraded), ([True, False], False))

    def test_connection(self) -> None:
        """
        A device that is away degrades; its return ends that.
        """
        self.laboratory.refuses = True
        dmm = self.make()
        changes = self.observed(dmm)
        dmm.startService()
        self.turn()
        self.clock.advance(1.0)
        self.assertEqual(changes, [True])
        self.laboratory.refuses = False
        self.clock.advance(1.0)
        self.assertEqual(changes, [True, False])
        self.device.transport.abortConnection()
        self.turn()
        self.clock.advance(1.0)
        self.assertEqual(changes, [True, False, True, False])

    def test_our_own_wish(self) -> None:
        """
        Disconnecting and reconnecting from our side does not degrade.
        """
        dmm = self.connected()
        changes = self.observed(dmm)
        dmm.query("1?").addErrback(lambda _: None)
        dmm.reconnect()
        self.turn()
        dmm.disconnect()
        self.turn()
        self.assertEqual(changes, [])

    def test_observer_that_raises(self) -> None:
        """
        What an observer raises is logged, and the others are told.
        """
        dmm = self.connected()
        dmm.observe_degraded(lambda *_: 1 / 0)
        changes = self.observed(dmm)
        answer = dmm.query("1?")
        self.clock.advance(5.0)
        self.failureResultOf(answer, EquipmentTimeout)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(changes, [True])

    def test_state_observer_that_raises(self) -> None:
        """
        An observer of the state that raises changes nothing either.
        """
        dmm = self.connected()
        dmm.add_observer(lambda change: 1 / 0)
        answer = dmm.query("1?")
        self.clock.advance(5.0)
        self.turn()
        self.failureResultOf(answer, EquipmentTimeout)
        self.assertIs(dmm.state, State.READY)
        dmm.disconnect()
        self.turn()
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))

    def test_one_call_per_change_of_state(self) -> None:
        """
        The observers of the state are called once per change.
        """
        dmm = self.make()
        changes: list[tuple[State, State]] = []

        def observer(change: Change) -> None:
            changes.append((change.old, change.new))

        dmm.add_observer(observer)
        dmm.connect()
        self.turn()
        dmm.query("1?").addErrback(lambda _: None)
        self.clock.advance(5.0)
        self.turn()
        self.assertEqual(
            changes,
            [
                (State.STOPPED, State.CONNECTING),
                (State.CONNECTING, State.CONNECTED),
                (State.CONNECTED, State.READY),
                (State.READY, State.CONNECTED),
                (State.CONNECTED, State.WAITING),
                (State.WAITING, State.CONNECTING),
                (State.CONNECTING, State.CONNECTED),
                (State.CONNECTED, State.READY),
            ],
        )


class SendTests(InstrumentTestCase):
    """SOCS's send: bytes as they are, after connecting if there is no connection."""

    def test_connected(self) -> None:
        """
        Over a connection the bytes are sent, and nothing is added.
        """
        dmm = self.connected()
        self.assertEqual(self.successResultOf(dmm.send(b"\x01\x02")), 2)
        self.assertEqual(self.heard(), b"\x01\x02")

    def test_connects(self) -> None:
        """
        Without a connection one is made first.
        """
        dmm = self.make()
        sent = dmm.send(b"1")
        self.turn()
        self.assertEqual(self.successResultOf(sent), 1)
        self.assertEqual(self.heard(), b"1")

    def test_hurries(self) -> None:
        """
        It does not wait for the next try to come.
        """
        self.laboratory.refuses = True
        dmm = self.make(retry=RetryPolicy.fixed(1000.0))
        dmm.startService()
        self.turn()
        self.laboratory.refuses = False
        sent = dmm.send(b"1")
        self.turn()
        self.successResultOf(sent)

    def test_in_vain(self) -> None:
        """
        It fails with the one attempt it makes.
        """
        self.laboratory.refuses = True
        dmm = self.make()
        sent = dmm.send(b"1")
        self.turn()
        self.failureResultOf(sent, ConnectFailed)
        self.assertIs(dmm.state, State.STOPPED)

    def test_again_if_nothing_was_written(self) -> None:
        """
        Bytes that waited behind a query when the connection was lost are sent over the next one.
        """
        dmm = self.connected()
        query = dmm.query("1?")
        sent = dmm.send(b"2\n")
        self.turn()
        self.device.transport.abortConnection()
        self.turn()
        self.failureResultOf(query, ConnectionLost)
        self.assertEqual(self.heard(), b"2\n")
        self.assertEqual(self.successResultOf(sent), 2)

    def test_not_again_in_the_middle(self) -> None:
        """
        Bytes that were given to the system are not sent again: the instrument may have acted on them.
        """
        dmm = self.connected()
        dmm.protocol.pauseProducing()
        sent = dmm.send(b"2\n")
        self.device.transport.abortConnection()
        self.turn()
        self.failureResultOf(sent, ConnectionLost)
        self.clock.advance(1.0)
        self.assertEqual(self.heard(), b"")

    def test_not_again_after_a_disconnection(self) -> None:
        """
        A disconnection from our side is never undone.
        """
        dmm = self.connected()
        dmm.query("1?").addErrback(lambda _: None)
        sent = dmm.send(b"2\n")
        dmm.disconnect()
        self.turn()
        self.failureResultOf(sent, Disconnected)
        self.assertIs(dmm.state, State.STOPPED)

    def test_cancelled(self) -> None:
        """
        A send that is cancelled while it connects sends nothing.
        """
        dmm = self.make(Stuck())
        sent = dmm.send(b"1")
        sent.cancel()
        self.failureResultOf(sent, CancelledError)


class TransportTests(InstrumentTestCase):
    """What is special to some addresses."""

    def test_prologix(self) -> None:
        """
        A Prologix controller is told its mode and the GPIB address on every connection, before anything else.
        """
        laboratory, clock = self.laboratory, self.clock

        class InMemory(Instrument):
            def endpoint(self) -> IStreamClientEndpoint:
                return MemoryEndpoint(laboratory, clock)

        dmm = InMemory("Prologix::h::GPIB0::12::96", reactor=clock, write_termination="\n")
        self.instruments.append(dmm)
        for _ in range(2):
            dmm.reconnect()
            dmm.write("*CLS")
            # Prologix GPIB-ETHERNET manual: controller, read after write, primary and secondary address.
            self.assertEqual(self.heard(), b"++mode 1\n++auto 1\n++addr 12 96\n*CLS\n")

    def test_too_long_for_a_datagram(self) -> None:
        """
        What UDP cannot send fails as a refused call, and the next operation is begun.
        """
        dmm = self.connected()
        write = dmm.protocol.write

        def refuse(data: bytes) -> None:
            dmm.protocol.write = write
            raise LocalProtocolError("70001 bytes do not fit into a datagram")

        dmm.protocol.write = refuse
        self.failureResultOf(dmm.write("A" * 70_000), LocalProtocolError)
        self.assertFalse(dmm.degraded)
        answer = dmm.query("1?")
        self.say(b"1\n")
        self.assertEqual(self.successResultOf(answer), "1\n")

    def test_transport_that_raises(self) -> None:
        """
        What the system says at once fails the operation with its number, and the next operation is begun.
        """
        dmm = self.connected()
        write = dmm.protocol.write

        def refuse(data: bytes) -> None:
            dmm.protocol.write = write
            raise OSError(101, "Network is unreachable")

        dmm.protocol.write = refuse
        error = self.failureResultOf(dmm.query("1?"), EquipmentConnectionError).value
        self.assertEqual(error.errno, 101)
        answer = dmm.query("1?")
        self.say(b"1\n")
        self.assertEqual(self.successResultOf(answer), "1\n")

    def test_datagrams(self) -> None:
        """
        With datagrams every chunk is one reply, whatever ends it.
        """
        dmm = self.connected(socket_type="DGRAM")
        answer = dmm.query("1?")
        self.say(b"1\n2\n")
        self.assertEqual(self.successResultOf(answer), "1\n2\n")
        read = dmm.read(size=3)
        self.say(b"12")
        self.failureResultOf(read, RemoteProtocolError)
        read = dmm.recv(1)
        self.say(b"12")
        self.assertEqual(self.successResultOf(read), b"12")

    def test_stale_datagrams(self) -> None:
        """
        Datagrams that came before a query are no reply to it, not even empty ones.
        """
        dmm = self.connected(socket_type="DGRAM")
        for stale in (b"old", b""):
            dmm.protocol.dataReceived(stale)
            answer = dmm.query("1?")
            self.assertNoResult(answer)
            self.say(b"1")
            self.assertEqual(self.successResultOf(answer), "1")

    def test_datagrams_over_what(self) -> None:
        """
        There are datagrams over UDP only.
        """
        for address in ("unix:/tmp/x", "tls:h:1"):
            dmm = self.make(address, socket_type="DGRAM")
            error = self.failureResultOf(dmm.connect(), ConnectFailed).value
            self.assertIsInstance(error.__cause__, LocalProtocolError)


class WhenNothingIsLeftTests(InstrumentTestCase):
    """A disconnection leaves nothing scheduled and nobody waiting, in whatever situation it comes."""

    def situations(self) -> dict[str, Callable[[], tuple[Instrument, list[Deferred[Any]]]]]:
        """Give the situations by name."""

        def in_flight() -> tuple[Instrument, list[Deferred[Any]]]:
            dmm = self.connected()
            return dmm, [dmm.query("1?"), dmm.query("2?")]

        def half_a_reply() -> tuple[Instrument, list[Deferred[Any]]]:
            dmm, answers = in_flight()
            self.say(b"1")
            return dmm, answers

        def reading() -> tuple[Instrument, list[Deferred[Any]]]:
            dmm = self.connected()
            return dmm, [dmm.read(), dmm.recv()]

        def writing() -> tuple[Instrument, list[Deferred[Any]]]:
            dmm = self.connected()
            dmm.protocol.pauseProducing()
            return dmm, [dmm.write("1"), dmm.write("2")]

        def delay() -> tuple[Instrument, list[Deferred[Any]]]:
            dmm = self.connected()
            return dmm, [dmm.query("1?", delay=1.0)]

        def draining() -> tuple[Instrument, list[Deferred[Any]]]:
            dmm = self.connected(resync="gap", resync_gap=1.0)
            dmm.query("1?").addErrback(lambda _: None)
            answers = [dmm.query("2?")]
            self.clock.advance(5.0)
            return dmm, answers

        def gap() -> tuple[Instrument, list[Deferred[Any]]]:
            dmm = self.connected(ending=IdleGap(1.0))
            answers = [dmm.query("1?")]
            self.say(b"1")
            return dmm, answers

        def late_gap() -> tuple[Instrument, list[Deferred[Any]]]:
            dmm = self.connected(ending=IdleGap(6.0), resync="drop")
            dmm.query("1?").addErrback(lambda _: None)
            self.say(b"1")
            self.clock.advance(5.0)
            return dmm, [dmm.query("2?")]

        def retrying() -> tuple[Instrument, list[Deferred[Any]]]:
            self.laboratory.refuses = True
            dmm = self.make()
            ready = dmm.connect(None)
            self.turn()
            return dmm, [ready]

        def connecting() -> tuple[Instrument, list[Deferred[Any]]]:
            dmm = self.make(Stuck())
            return dmm, [dmm.connect(), dmm.query("1?"), dmm.send(b"1")]

        def resetting() -> tuple[Instrument, list[Deferred[Any]]]:
            dmm = self.connected()
            first = dmm.query("1?")
            answers = [dmm.query("2?")]
            first.cancel()
            self.failureResultOf(first, CancelledError)
            return dmm, answers

        def idle() -> tuple[Instrument, list[Deferred[Any]]]:
            dmm = self.connected()
            answer = dmm.query("1?")
            self.say(b"1\n")
            self.successResultOf(answer)
            return dmm, []

        def overdue() -> tuple[Instrument, list[Deferred[Any]]]:
            dmm = self.connected()
            dmm.read().addErrback(lambda _: None)
            self.clock.advance(5.0)
            return dmm, [dmm.query("1?"), dmm.query("2?")]

        def held() -> tuple[Instrument, list[Deferred[Any]]]:
            dmm = self.connected()

            async def hold() -> None:
                async with dmm.transaction():
                    await dmm.query("1?")

            return dmm, [Deferred.fromCoroutine(hold()), dmm.query("2?")]

        return {name: situation for name, situation in locals().items() if name != "self"}

    def test_all(self) -> None:
        """
        Everything that waits fails with Disconnected at once, and one turn later nothing is scheduled.
        """
        for name, situation in self.situations().items():
            for end in (Instrument.disconnect, Instrument.stopService):
                self.laboratory.refuses = False
                dmm, waiting = situation()
                closed = end(dmm)
                for answer in waiting:
                    self.failureResultOf(answer, Disconnected)
                self.turn()
                self.assertIsNone(self.successResultOf(closed), name)
                self.assertEqual(self.clock.getDelayedCalls(), [], name)
                self.assertIs(dmm.state, State.STOPPED, name)
                self.failureResultOf(dmm.query("3?"), NotConnected)

    def test_used_again(self) -> None:
        """
        After each of them the instrument can be connected and used again.
        """
        for name, situation in self.situations().items():
            self.laboratory.refuses = False
            dmm, waiting = situation()
            for answer in waiting:
                answer.addErrback(lambda _: None)
            dmm.disconnect()
            self.turn()
            self.laboratory.refuses = False
            dmm.address = MemoryEndpoint(self.laboratory, self.clock)
            dmm.ending = None
            self.successResultOf(dmm.connect())
            again = dmm.query("3?")
            self.assertEqual(self.heard(), b"3?\n", name)
            self.say(b"3\n")
            self.assertEqual(self.successResultOf(again), "3\n", name)


class Echo(Protocol):
    """
    A device whose every reply holds the number of its command.

    The first letter of a command says what the reply is: a line (L), a block with line ends in it (B), six bytes (S).
    """

    transport: Any

    def __init__(self) -> None:
        self.heard = b""
        self.unanswered: list[bytes] = []
        self.rest = b""
        self.gone = False

    def dataReceived(self, data: bytes) -> None:
        *commands, self.heard = (self.heard + data).split(b"\n")
        self.unanswered.extend(command[:-1] for command in commands if command.endswith(b"?"))

    def connectionLost(self, reason: object = None) -> None:
        self.gone = True

    def take_reply(self) -> bytes:
        """Give the bytes that are to be sent next: the rest of a reply, or the next one."""
        rest, self.rest = self.rest, b""
        return rest or as_reply(self.unanswered.pop(0))


def as_reply(command: bytes) -> bytes:
    """Give the reply to a command."""
    if command.startswith(b"B"):
        content = command + b"\n#11\n"
        return b"#2%02d%b\n" % (len(content), content)
    return b"%-6b" % command if command.startswith(b"S") else command + b"\n"


class NoWrongAnswer(RuleBasedStateMachine):
    """
    Everything that callers, a device and the time can do, in any order.

    Whatever happens, a query gets its own reply or an error, and it ends.
    """

    lost = (
        ConnectionLost,
        NotConnected,
        EquipmentTimeout,
        RemoteProtocolError,
        CancelledError,
        ConnectFailed,
        QueueFull,
    )

    @initialize(resync=st.sampled_from(Resync), sized=st.booleans())
    def begin(self, resync: Resync, sized: bool) -> None:
        self.clock = Clock()
        self.laboratory = Laboratory(Echo)
        self.resync = resync
        # A reply of a fixed size and unsolicited messages do not go together.
        self.kinds = "LBS" if sized else "LB"
        self.dmm = Instrument(
            MemoryEndpoint(self.laboratory, self.clock),
            reactor=self.clock,
            termination="\n",
            timeout=5.0,
            retry=RetryPolicy.fixed(1.0),
            resync=resync,
            resync_gap=2.0,
            queue_limit=20,
        )
        self.unsolicited: list[str] = []
        if not sized:
            self.dmm.on_unsolicited(self.unsolicited.append, "^!")
        self.asked: list[Deferred[Any]] = []
        self.wrong: list[tuple[str, Any]] = []
        self.number = 0
        self.dmm.startService()
        self.clock.advance(0)

    def ask(self, kind: str, delay: float = 0.0) -> Deferred[Any]:
        """Ask a query, and look at its result when it has one."""
        self.number += 1
        command = f"{kind}{self.number}"
        size, fmt = 6 if kind == "S" else None, "ieee" if kind == "B" else None
        answer = self.dmm.query(f"{command}?", delay, size, fmt)
        self.asked.append(answer)
        answer.addBoth(self.check, command)
        self.clock.advance(0)
        return answer

    @property
    def device(self) -> Echo:
        """The device's end of the latest conversation."""
        device = self.laboratory.conversations[-1]
        assert isinstance(device, Echo)
        return device

    def say(self, *pieces: bytes) -> None:
        """Let the device send, piece by piece."""
        for piece in pieces:
            if piece:
                self.device.transport.write(piece)
                self.clock.advance(0)

    @rule(kind=st.integers(0, 2), delay=st.sampled_from([0.0, 0.0, 0.0, 1.0]))
    def query(self, kind: int, delay: float) -> None:
        self.ask(self.kinds[kind % len(self.kinds)], delay)

    @rule(kinds=st.lists(st.integers(0, 2), min_size=1, max_size=3))
    def transaction(self, kinds: list[int]) -> None:
        async def several() -> None:
            async with self.dmm.transaction():
                for kind in kinds:
                    await self.ask(self.kinds[kind % len(self.kinds)])

        Deferred.fromCoroutine(several()).addErrback(lambda reason: reason.trap(*self.lost))

    @rule()
    def write(self) -> None:
        self.dmm.write("SET").addErrback(lambda reason: reason.trap(*self.lost))

    @precondition(lambda self: self.device.unanswered or self.device.rest)
    @rule(at=st.integers(0, 20), more=st.booleans())
    def answer(self, at: int, more: bool) -> None:
        """The next reply comes in two pieces, perhaps with another one glued to it."""
        reply = self.device.take_reply()
        if more and self.device.unanswered:
            reply += self.device.take_reply()
        self.say(reply[:at], reply[at:])

    @precondition(lambda self: self.device.unanswered or self.device.rest)
    @rule(at=st.integers(1, 20))
    def answer_in_part(self, at: int) -> None:
        """Only the beginning of the next reply comes."""
        reply = self.device.take_reply()
        self.device.rest = reply[at:]
        self.say(reply[:at])

    @precondition(lambda self: self.device.unanswered and not self.device.rest)
    @rule(text=st.sampled_from([b"\xff\xfe\n", b"ERROR\n"]))
    def answer_nonsense(self, text: bytes) -> None:
        """Something that makes no sense comes instead of the next reply."""
        if self.device.unanswered[0].startswith(b"S"):
            text = b"\xff" * 6
        elif self.device.unanswered[0].startswith(b"B"):
            text = b"ERROR\n"
        elif text == b"ERROR\n":
            return
        self.device.unanswered.pop(0)
        self.say(text)

    @precondition(lambda self: self.device.unanswered and self.resync is not Resync.DROP)
    @rule()
    def never_answer(self) -> None:
        """The next reply never comes."""
        self.device.unanswered.pop(0)

    @precondition(lambda self: "S" not in self.kinds and not self.device.rest)
    @rule()
    def speak_unasked(self) -> None:
        """An unsolicited message comes, between two replies."""
        self.number += 1
        self.say(b"!A", b"LARM %d\n" % self.number)

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 5.0]), says=st.booleans())
    def wait(self, seconds: float, says: bool) -> None:
        """Time passes."""
        if self.resync is Resync.GAP and self.dmm.state is State.CONNECTED:
            # What the user has stated: what is late comes before the silence, or never.
            while says and (self.device.rest or self.device.unanswered):
                self.say(self.device.take_reply())
            self.device.unanswered.clear()
            self.device.rest = b""
        self.clock.advance(seconds)
        self.clock.advance(0)

    @precondition(lambda self: self.asked)
    @rule(which=st.integers(0, 100))
    def cancel(self, which: int) -> None:
        self.asked[which % len(self.asked)].cancel()
        self.clock.advance(0)

    @rule(abort=st.booleans())
    def lose(self, abort: bool) -> None:
        """The device hangs up."""
        transport = self.device.transport
        if abort:
            transport.abortConnection()
        else:
            transport.loseConnection()
        self.clock.advance(0)

    @rule()
    def reconnect(self) -> None:
        self.dmm.reconnect().addErrback(lambda reason: reason.trap(*self.lost))
        self.clock.advance(0)

    @rule(refuses=st.booleans())
    def come_and_go(self, refuses: bool) -> None:
        """The device takes connections, or does not."""
        self.laboratory.refuses = refuses

    @rule()
    def disconnect(self) -> None:
        self.dmm.disconnect()
        self.clock.advance(0)
        assert self.clock.getDelayedCalls() == []
        assert all(answer.called for answer in self.asked)
        self.dmm.connect(None).addErrback(lambda reason: reason.trap(*self.lost))
        self.clock.advance(0)

    def check(self, result: Any, command: str) -> None:
        """Look at one result, and keep it if it is wrong."""
        if isinstance(result, Failure):
            right = result.check(*self.lost) is not None
        elif command.startswith("B"):
            right = result == f"{command}\n#11\n".encode()
        else:
            right = result.rstrip() == command
        if not right:
            self.wrong.append((command, result))

    @invariant()
    def nothing_wrong(self) -> None:
        """Who has an answer has the one to their own command."""
        assert not self.wrong, self.wrong
        self.asked = [answer for answer in self.asked if not answer.called]
        assert all(re.fullmatch(r"!ALARM \d+\n", message) for message in self.unsolicited), self.unsolicited

    def teardown(self) -> None:
        if not hasattr(self, "dmm"):
            return
        self.laboratory.refuses = False
        self.disconnect()
        self.nothing_wrong()
        assert not self.asked
        answer = self.ask("L")
        self.say(self.device.take_reply())
        assert answer.called
        self.nothing_wrong()
        self.dmm.disconnect()
        self.clock.advance(0)
        assert self.clock.getDelayedCalls() == []


class NoWrongAnswerTests(SynchronousTestCase):
    """A reply is never given to another query."""

    def test_anything(self) -> None:
        """
        Whatever callers, the device and the time do, and in whatever order, a query gets its own reply or an error.
        """
        run_state_machine_as_test(
            NoWrongAnswer,
            settings=hypothesis_settings(
                max_examples=60,
                stateful_step_count=40,
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
