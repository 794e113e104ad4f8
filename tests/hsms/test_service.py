"""Tests of active and passive connections: how they come and go, and how primaries are answered."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError, ConnectionDone, ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from equipnet.connection.state import State
from equipnet.errors import (
    ConnectFailed,
    ConnectionLost,
    Disconnected,
    EquipmentError,
    EquipmentTimeout,
    LocalProtocolError,
    NotConnected,
)
from equipnet.hsms import (
    IN_MEMORY,
    HsmsActiveConnection,
    HsmsPassiveConnection,
    HsmsSettings,
    MessageRefused,
    ReceivedMessage,
    SelectRejected,
    TransactionAborted,
)
from equipnet.interfaces import IConnection
from equipnet.secs import U4, A, B, L, Message

from ..connection.doubles import FakeEndpoint, RecordingTransport
from .doubles import TIMERS, control, data, select_req, select_rsp, separate_req

S1F1 = Message(1, 1, wait=True)
IDENTITY = L(A("ETCHER"), A("1.0"))


class RecordingDelegate:
    """Records what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.answer: Any = None

    def on_connection_established(self, connection: Any) -> None:
        self.told.append("established")

    def on_connection_message_received(self, connection: Any, message: ReceivedMessage) -> Any:
        self.told.append(str(message))
        return self.answer

    def on_connection_before_closed(self, connection: Any) -> None:
        self.told.append("before closed")

    def on_connection_closed(self, connection: Any) -> None:
        self.told.append("closed")


class RaisingDelegate:
    """Raises whatever it is told."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)

        def told(*about: Any) -> None:
            raise KeyError(name)

        return told


class PairTestCase(SynchronousTestCase):
    """A host and an equipment, in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.made: list[Any] = []
        self.addCleanup(self.check_end)

    def check_end(self) -> None:
        """When everything is stopped nothing is scheduled any more."""
        stopped = [each.stopService() for each in self.made]
        self.turn(20)
        self.clock.advance(1.0)
        for each in stopped:
            self.successResultOf(each)
        self.assertEqual([each.state for each in self.made], [State.STOPPED] * len(self.made))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def turn(self, times: int = 6) -> None:
        """Let some turns of the reactor pass."""
        self.clock.pump([0] * times)

    def pair(self, **settings: Any) -> tuple[HsmsActiveConnection, HsmsPassiveConnection]:
        """Start both sides, and let them be selected."""
        tool = self.tool()
        host = self.host(tool, **settings)
        self.turn()
        self.assertEqual([each.state for each in (host, tool)], [State.READY] * 2)
        return host, tool

    def tool(self, **settings: Any) -> HsmsPassiveConnection:
        tool = HsmsPassiveConnection(listen=IN_MEMORY, name="tool", timers=TIMERS, reactor=self.clock, **settings)
        self.made.append(tool)
        tool.startService()
        return tool

    def host(self, tool: HsmsPassiveConnection, **settings: Any) -> HsmsActiveConnection:
        host = HsmsActiveConnection(tool.in_memory(), name="host", timers=TIMERS, reactor=self.clock, **settings)
        self.made.append(host)
        host.enable()
        return host

    def ask(self, host: Any, message: Message = S1F1) -> ReceivedMessage:
        """Ask, and give the reply, which comes at once."""
        answer = host.request(message)
        self.turn()
        reply: ReceivedMessage = self.successResultOf(answer)
        return reply


class LifeTests(PairTestCase):
    """Coming and going."""

    def test_promise(self) -> None:
        """
        Both are connections as all others.
        """
        for connection in self.pair():
            verifyObject(IConnection, connection)
            self.assertEqual((connection.kind, connection.session_id), ("hsms", 0))
            self.assertIs(self.successResultOf(connection.when_ready()), connection)

    def test_waiting(self) -> None:
        """
        A passive one waits until it is selected.
        """
        tool = self.tool()
        self.assertIs(tool.state, State.WAITING)
        ready = tool.when_ready()
        self.failureResultOf(tool.request(S1F1), NotConnected)
        self.failureResultOf(tool.linktest(), NotConnected)
        self.host(tool)
        self.turn()
        self.successResultOf(ready)

    def test_disable(self) -> None:
        """
        Disabling ends it for both sides; the passive one waits again, for ever anew.
        """
        host, tool = self.pair()
        for _ in range(3):
            disabled = host.disable()
            self.turn()
            self.successResultOf(disabled)
            self.successResultOf(host.disable())
            self.assertEqual([host.state, tool.state], [State.STOPPED, State.WAITING])
            self.assertIsInstance(tool.last_error, ConnectionLost)
            self.assertIn("separated", str(tool.last_error))
            host.enable()
            self.turn()
            self.assertEqual([host.state, tool.state], [State.READY, State.READY])

    def test_passive_disable(self) -> None:
        """
        Disabling the passive side fails what is open, and closes the port.
        """
        host, tool = self.pair()
        answer = tool.request(S1F1)
        disabled = tool.disable()
        self.failureResultOf(answer, Disconnected)
        self.turn()
        self.successResultOf(disabled)
        self.assertEqual([host.state, tool.state], [State.WAITING, State.STOPPED])
        self.clock.advance(TIMERS.t5)
        self.turn()
        self.assertIs(host.state, State.WAITING)
        tool.enable()
        self.clock.advance(TIMERS.t5)
        self.turn()
        self.assertEqual([host.state, tool.state], [State.READY, State.READY])

    def test_passive_reconnect(self) -> None:
        """
        Reconnecting the passive side lets the other one come again.
        """
        _, tool = self.pair()
        ready = tool.reconnect()
        self.turn()
        self.assertNoResult(ready)
        self.clock.advance(TIMERS.t5)
        self.turn()
        self.successResultOf(ready)

    def test_again_after_a_loss(self) -> None:
        """
        Who waits for the connection when a request has failed waits for the next one, and not for what is gone.
        """
        host, tool = self.pair()
        tool.set_primary(1, 1, lambda message: IDENTITY)
        ready: list[Deferred[Any]] = []
        host.request(S1F1).addErrback(lambda _: ready.append(host.when_ready()))
        assert tool.protocol is not None
        tool.protocol.hang_up(ConnectionLost("pulled"))
        self.turn()
        self.assertNoResult(ready[0])
        self.clock.advance(TIMERS.t5)
        self.turn()
        self.successResultOf(ready[0])
        self.ask(host)

    def test_one_too_many(self) -> None:
        """
        A second host is told that it is one too many, and selected once the first has gone.
        """
        first, tool = self.pair()
        second = self.host(tool)
        self.turn()
        self.assertIs(second.state, State.WAITING)
        error = second.last_error
        assert isinstance(error, SelectRejected)
        self.assertEqual(error.status, 3)
        first.disable()
        self.turn()
        self.clock.advance(TIMERS.t5)
        self.turn()
        self.assertEqual([first.state, second.state, tool.state], [State.STOPPED, State.READY, State.READY])

    def test_deselected(self) -> None:
        """
        A connection that is deselected is CONNECTED, and READY again when either side selects.
        """
        host, tool = self.pair()
        done = host.deselect()
        self.turn()
        self.successResultOf(done)
        self.assertEqual([host.state, tool.state], [State.CONNECTED, State.CONNECTED])
        done = tool.select()
        self.turn()
        self.successResultOf(done)
        self.assertEqual([host.state, tool.state], [State.READY, State.READY])

    def test_linktest(self) -> None:
        """
        Either side can make a linktest.
        """
        for connection in self.pair():
            done = connection.linktest()
            self.turn()
            self.successResultOf(done)

    def test_counts(self) -> None:
        """
        Both count data messages, over all of their sockets.
        """
        host, tool = self.pair()
        tool.set_primary(1, 1, lambda message: IDENTITY)
        for _ in range(2):
            self.ask(host)
            host.reconnect()
            self.clock.advance(TIMERS.t5)
            self.turn()
        self.assertEqual((host.counts.sent, host.counts.received, tool.counts.sent), (2, 2, 2))
        self.assertIn("sent=2", repr(tool.counts))


class PrimaryTests(PairTestCase):
    """How primaries of the other side are answered."""

    def test_decorator(self) -> None:
        """
        A handler can be plain, give a Deferred, or be a coroutine function; it gives a message or an item.
        """
        host, tool = self.pair()

        @tool.primary(1, 1)
        def plain(message: ReceivedMessage) -> Message:
            return message.reply(IDENTITY)

        @tool.primary(1, 3)
        def deferred(message: ReceivedMessage) -> Any:
            return succeed(IDENTITY)

        @tool.primary(1, 11)
        async def coroutine(message: ReceivedMessage) -> Any:
            await later
            return message.reply(IDENTITY)

        later: Deferred[None] = Deferred()
        self.assertEqual(self.ask(host), Message(1, 2, False, IDENTITY))
        self.assertEqual(self.ask(host, Message(1, 3, True)), Message(1, 4, False, IDENTITY))
        answer = host.request(Message(1, 11, True))
        self.turn()
        self.assertEqual(tool.protocol.in_work if tool.protocol else None, 1)
        self.assertNoResult(answer)
        later.callback(None)
        self.turn()
        self.assertEqual(self.successResultOf(answer), Message(1, 12, False, IDENTITY))
        self.assertEqual(tool.protocol.in_work if tool.protocol else None, 0)

    def test_both_ways(self) -> None:
        """
        The same numbers can be open in both directions.
        """
        host, tool = self.pair()
        host.set_primary(1, 1, lambda message: A("host"))
        tool.set_primary(1, 1, lambda message: A("tool"))
        asked = [host.request(S1F1), tool.request(S1F1)]
        self.turn()
        self.assertEqual([self.successResultOf(each).item for each in asked], [A("tool"), A("host")])

    def test_no_reply_wanted(self) -> None:
        """
        Without a W-bit there is no reply, whatever the handler gives.
        """
        host, tool = self.pair()
        got: list[Any] = []
        tool.set_primary(6, 11, lambda message: got.append(message) or A("x"))  # type: ignore[func-returns-value]
        self.successResultOf(host.send(Message(6, 11, False, U4(1))))
        self.turn()
        self.assertEqual((got, tool.counts.sent), ([Message(6, 11, False, U4(1))], 0))

    def test_raises(self) -> None:
        """
        A handler that raises, gives nothing or gives something else aborts the transaction, and not the connection.
        """
        host, tool = self.pair()

        async def fails(message: ReceivedMessage) -> None:
            raise KeyError("x")

        handlers: list[Any] = [
            dict[object, object]().__getitem__,
            lambda message: 5,
            lambda message: Message(1, 4),
            fails,
            lambda message: None,
        ]
        for handler in handlers:
            tool.set_primary(1, 1, handler)
            answer = host.request(S1F1)
            self.turn()
            self.failureResultOf(answer, TransactionAborted)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 2)
        self.assertEqual(len(self.flushLoggedErrors(EquipmentError)), 2)
        tool.set_primary(1, 1, lambda message: IDENTITY)
        self.ask(host)

    def test_unknown(self) -> None:
        """
        Equipment answers what it has no handler for with S9F3 or S9F5, a host with function 0.
        """
        host, tool = self.pair()
        tool.set_primary(1, 1, lambda message: IDENTITY)
        for asked, function in ((Message(1, 3, True), 5), (Message(2, 1, True), 3)):
            answer = host.request(asked)
            self.turn()
            self.assertEqual(self.failureResultOf(answer, MessageRefused).value.function, function)
        answer = tool.request(S1F1)
        self.turn()
        self.failureResultOf(answer, TransactionAborted)
        tool.set_primary(1, 1, None)
        answer = host.request(S1F1)
        self.turn()
        self.assertEqual(self.failureResultOf(answer, MessageRefused).value.function, 3)

    def test_no_error_about_an_error(self) -> None:
        """
        Messages of stream 9 are never answered.
        """
        host, tool = self.pair()
        self.successResultOf(host.send(Message(9, 5, False, B(bytes(10)))))
        self.turn()
        self.assertEqual(tool.counts.sent, 0)
        self.assertIs(host.state, State.READY)

    def test_undecodable(self) -> None:
        """
        A text that is no item is answered with S9F7 before any handler sees it; a host's handler may look itself.
        """
        host, tool = self.pair()
        tool.set_primary(2, 41, lambda message: self.fail("it was called"))
        # What was received is sent on as it is.
        answer = host.request(ReceivedMessage(data(2, 41, 1, b"\xb1\x05\0", wait=True)))
        self.turn()
        self.assertEqual(self.failureResultOf(answer, MessageRefused).value.function, 7)

    def test_another_device(self) -> None:
        """
        A primary for another device is answered with S9F1, and reaches nobody.
        """
        tool = self.tool(session_id=3)
        host = self.host(tool, session_id=4)
        self.turn()
        tool.set_primary(1, 1, lambda message: self.fail("it was called"))
        asked = host.request(S1F1)
        self.turn()
        self.assertEqual((tool.counts.stray, tool.counts.sent), (1, 1))
        self.assertEqual(self.failureResultOf(asked, MessageRefused).value.function, 1)

    def test_too_late(self) -> None:
        """
        A reply that comes after the connection has ended is dropped.
        """
        host, tool = self.pair()
        later: Deferred[Any] = Deferred()
        tool.set_primary(1, 1, lambda message: later)
        asked = host.request(S1F1)
        self.turn()
        host.disable()
        self.failureResultOf(asked, Disconnected)
        self.turn()
        later.callback(IDENTITY)
        self.assertEqual(tool.counts.sent, 0)

    def test_refused(self) -> None:
        """
        Only primaries have handlers.
        """
        tool = self.tool()
        for stream, function in ((1, 2), (128, 1), (1, 0), (1, 256), (-1, 1)):
            self.assertRaises(ValueError, tool.primary(stream, function), lambda message: None)


class DelegateTests(PairTestCase):
    """Who is told."""

    def test_order(self) -> None:
        """
        The four are called in order, once each, for every connection.
        """
        here, there = RecordingDelegate(), RecordingDelegate()
        host, tool = self.pair(delegate=here)
        tool.delegate = there
        for _ in range(2):
            there.told.clear()
            here.told.clear()
            host.reconnect()
            self.turn()
            self.clock.advance(TIMERS.t5)
            self.turn()
            self.successResultOf(host.send(Message(6, 11)))
            self.turn()
            self.assertEqual(here.told, ["before closed", "closed", "established"])
        self.assertEqual(there.told, ["before closed", "closed", "established", "S6F11"])

    def test_answers(self) -> None:
        """
        What it returns is the reply where there is no handler; otherwise it can reply itself.
        """
        delegate = RecordingDelegate()
        host, tool = self.pair()
        tool.delegate = delegate
        for answer in (IDENTITY, Message(1, 2, False, IDENTITY), succeed(IDENTITY)):
            delegate.answer = answer
            self.assertEqual(self.ask(host), Message(1, 2, False, IDENTITY))
        tool.set_primary(1, 1, lambda message: L())
        delegate.answer = None
        self.assertEqual(self.ask(host).item, L())

    def test_replies_later(self) -> None:
        """
        With None it replies when it likes.
        """
        kept: list[Any] = []

        class Keeping:
            def on_connection_message_received(self, connection: Any, message: Any) -> None:
                kept.append((connection, message))

        host, tool = self.pair()
        tool.delegate = Keeping()
        asked = host.request(S1F1)
        self.turn()
        self.assertNoResult(asked)
        ((connection, message),) = kept
        connection.reply(message, IDENTITY)
        self.turn()
        self.assertEqual(self.successResultOf(asked).item, IDENTITY)
        self.assertRaises(LocalProtocolError, connection.reply, message, Message(3, 2))
        self.assertRaises(EquipmentError, connection.reply, message, 5)
        tool.disable()
        self.turn()
        self.assertRaises(NotConnected, connection.reply, message)

    def test_raises(self) -> None:
        """
        One that raises is logged.
        """
        host, tool = self.pair(delegate=RaisingDelegate())
        self.successResultOf(tool.send(Message(5, 1)))
        self.turn()
        self.assertIs(host.state, State.READY)
        host.disable()
        self.turn()
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 4)

    def test_disables(self) -> None:
        """
        It may disable the connection from within.
        """
        for method in RecordingDelegate.__dict__:
            if not method.startswith("on_"):
                continue

            class Ending:
                pass

            disabled: list[Any] = []
            setattr(Ending, method, lambda self, connection, *_, ended=disabled: ended.append(connection.disable()))
            tool = self.tool()
            host = self.host(tool, delegate=Ending())
            self.turn()
            if tool.state is State.READY:
                self.successResultOf(tool.send(Message(5, 1)))
                self.turn()
                tool.disable()
                self.turn()
            for each in disabled:
                self.successResultOf(each)
            self.assertIs(host.state, State.STOPPED, method)


class ActiveTests(SynchronousTestCase):
    """The side that connects, on an endpoint whose attempts end as the test says."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = FakeEndpoint()
        self.host = HsmsActiveConnection(self.endpoint, name="host", timers=TIMERS, reactor=self.clock)
        self.host.enable()
        self.addCleanup(self.check_end)

    def check_end(self) -> None:
        stopped = self.host.disable()
        if not stopped.called:
            self.endpoint.last.lose(ConnectionDone())
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def selected(self) -> Any:
        """Let the attempt succeed, and be selected."""
        protocol = self.endpoint.last.succeed()
        protocol.dataReceived(select_rsp(1))
        self.assertIs(self.host.state, State.READY)
        return protocol

    def check_wait(self, seconds: float) -> None:
        """The next attempt is made after so many seconds."""
        self.assertIs(self.host.state, State.WAITING)
        attempts = len(self.endpoint.attempts)
        if seconds:
            self.clock.advance(seconds - 0.01)
            self.assertEqual(len(self.endpoint.attempts), attempts)
        self.clock.advance(0.01)
        self.assertEqual(len(self.endpoint.attempts), attempts + 1)

    def test_refused(self) -> None:
        """
        After an attempt that failed T5 passes.
        """
        for _ in range(3):
            self.endpoint.last.fail(ConnectionRefusedError())
            self.check_wait(TIMERS.t5)

    def test_lost_early(self) -> None:
        """
        After a connection that was short, what is left of T5 passes.
        """
        self.selected()
        self.clock.advance(4.0)
        self.endpoint.last.lose(ConnectionDone())
        self.check_wait(6.0)

    def test_lost_late(self) -> None:
        """
        Where T5 has passed since the last attempt, the next one is made at once.
        """
        self.selected()
        self.clock.advance(100.0)
        self.endpoint.last.lose(ConnectionDone())
        self.check_wait(0.0)

    def test_not_selected(self) -> None:
        """
        One that is not selected is closed, and T5 passes.
        """
        for status in (1, 2, 3):
            protocol = self.endpoint.last.succeed()
            protocol.dataReceived(select_rsp(1, status))
            self.endpoint.last.lose(ConnectionDone())
            self.assertIsInstance(self.host.last_error, SelectRejected)
            self.check_wait(TIMERS.t5)

    def test_t6(self) -> None:
        """
        Nor one whose Select.rsp does not come: T5 counts from when the TCP connection was made.
        """
        self.endpoint.last.succeed()
        self.clock.advance(TIMERS.t6)
        self.endpoint.last.lose(ConnectionDone())
        self.assertIsInstance(self.host.last_error, EquipmentTimeout)
        self.check_wait(TIMERS.t5 - TIMERS.t6)

    def test_connect_does_not_hurry(self) -> None:
        """
        Who asks for a connection waits for T5 with it.
        """
        self.endpoint.last.fail(ConnectionRefusedError())
        ready = self.host.connect()
        self.check_wait(TIMERS.t5)
        self.selected()
        self.successResultOf(ready)

    def test_attempts(self) -> None:
        """
        It can be given up after a number of attempts.
        """
        self.successResultOf(self.host.disable())
        self.host = HsmsActiveConnection(self.endpoint, timers=TIMERS, attempts=2, reactor=self.clock)
        ready = self.host.when_ready()
        self.host.enable()
        for _ in range(2):
            self.assertNoResult(ready)
            self.endpoint.last.fail(ConnectionRefusedError())
            self.clock.advance(TIMERS.t5)
        self.failureResultOf(ready, ConnectFailed)
        self.assertIs(self.host.state, State.STOPPED)

    def test_separated(self) -> None:
        """
        A Separate.req of the other side ends the connection; the next is made.
        """
        protocol = self.selected()
        protocol.dataReceived(separate_req())
        self.assertEqual(self.endpoint.last.transport.closed, ["lose"])
        self.endpoint.last.lose(ConnectionDone())
        self.check_wait(TIMERS.t5)

    def test_not_connected(self) -> None:
        """
        Nothing can be sent before it is selected.
        """
        self.failureResultOf(self.host.request(S1F1), NotConnected)
        self.failureResultOf(self.host.send(Message(6, 11)), NotConnected)
        self.endpoint.last.succeed()
        self.failureResultOf(self.host.request(S1F1), NotConnected)

    def test_addresses(self) -> None:
        """
        The address is a host with a port, or any address.
        """
        for arguments, text in (
            (("10.0.0.5", 5000), "tcp:10.0.0.5:5000"),
            (("tls:etcher.fab", 5000), "tls:etcher.fab:5000"),
            (("::1", 5000), "tcp:[::1]:5000"),
            (("tls:etcher.fab:5000",), "tls:etcher.fab:5000"),
        ):
            given: Any = arguments
            self.assertEqual(HsmsActiveConnection(*given, reactor=self.clock).peer, text)

    def test_settings(self) -> None:
        """
        What is said by itself wins over what is in the settings.
        """
        settings = HsmsSettings(session_id=7, role="host", encoding="latin-1", timers=TIMERS)
        host = HsmsActiveConnection("h", 1, settings=settings, role="equipment", strict=True, reactor=self.clock)
        self.assertEqual(host.settings, replace(settings, role="equipment", strict=True))


class PortTestCase(SynchronousTestCase):
    """Passive connections on a reactor in memory, with clients of the test."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.tools: list[HsmsPassiveConnection] = []
        self.clients: list[Any] = []

    def tool(self, address: str = "", port: int = 5000, **settings: Any) -> HsmsPassiveConnection:
        tool = HsmsPassiveConnection(address, port, timers=TIMERS, reactor=self.reactor, **settings)
        self.tools.append(tool)
        tool.startService()
        return tool

    def client(self, host: str = "10.0.0.5") -> Any:
        """Let a client connect; gives our protocol for it, None when it was turned away."""
        _, factory, *_ = self.reactor.tcpServers[-1]
        address = IPv4Address("TCP", host, 40000)
        protocol: Any = factory.buildProtocol(address)
        if protocol is not None:
            protocol.makeConnection(RecordingTransport(address))
            self.clients.append(protocol)
        return protocol

    def sent(self, client: Any) -> bytes:
        self.reactor.advance(0)
        value: bytes = client.transport.value()
        client.transport.clear()
        return value

    def lose(self, client: Any) -> None:
        client.connectionLost(Failure(ConnectionDone()))


class PortTests(PortTestCase):
    """One port, and who connects to it."""

    def test_where(self) -> None:
        """
        A port is bound on all interfaces, an address where it says.
        """
        self.tool()
        self.tool(port=None, listen="tcp:5001:interface=10.0.0.1")  # type: ignore[arg-type]
        self.assertEqual(
            [(port, interface) for port, _, _, interface in self.reactor.tcpServers],
            [(5000, "0.0.0.0"), (5001, "10.0.0.1")],
        )

    def test_refused(self) -> None:
        """
        Exactly one of them says where, and it is not UDP; who may come is an IP address.
        """
        for arguments in ({}, {"port": 1, "listen": "tcp:1"}, {"listen": "udp:1"}, {"address": "etcher", "port": 1}):
            given: Any = arguments
            self.assertRaises(ValueError, HsmsPassiveConnection, reactor=self.reactor, **given)

    def test_half_open(self) -> None:
        """
        Whoever connects without selecting takes nobody's place, and is closed by T7.
        """
        tool = self.tool()
        silent, garbage = self.client(), self.client()
        garbage.dataReceived(b"GET / HTTP/1.1\r\n\r\n")
        self.assertEqual(garbage.transport.closed, ["lose"])
        self.assertIs(tool.state, State.WAITING)
        client = self.client()
        client.dataReceived(select_req(1))
        self.assertEqual(self.sent(client), select_rsp(1))
        self.assertIs(tool.state, State.READY)
        self.reactor.advance(TIMERS.t7)
        self.assertEqual((silent.transport.closed, client.transport.closed), (["lose"], []))
        self.lose(silent)
        self.lose(garbage)
        self.assertIs(tool.state, State.READY)

    def test_address(self) -> None:
        """
        Who may not come is turned away.
        """
        tool = self.tool("10.0.0.0/24")
        self.assertIsNone(self.client("10.0.1.5"))
        client = self.client("10.0.0.7")
        client.dataReceived(select_req(1))
        self.assertEqual(tool.peer, "10.0.0.7:40000")

    def test_several_addresses(self) -> None:
        """
        Several connections on one port are told apart by the address of who comes.
        """
        first, second, other = self.tool("10.0.0.1"), self.tool("10.0.0.2"), self.tool("")
        self.assertEqual(len(self.reactor.tcpServers), 1)
        for host, tool in (("10.0.0.2", second), ("10.0.0.9", other), ("10.0.0.1", first)):
            client = self.client(host)
            client.dataReceived(select_req(1))
            self.assertIs(tool.state, State.READY)
            self.assertEqual(self.sent(client), select_rsp(1))
        client = self.client("10.0.0.1")
        client.dataReceived(select_req(1))
        self.assertEqual((self.sent(client), client.transport.closed), (select_rsp(1, 3), ["lose"]))

    def test_several_session_ids(self) -> None:
        """
        Or by the session id in the Select.req, and else by that of the first data message.
        """
        tools = [self.tool(session_id=number) for number in (1, 2)]
        told = self.client()
        told.dataReceived(select_req(1, session=2))
        self.assertEqual([tool.state for tool in tools], [State.WAITING, State.READY])
        untold = self.client()
        untold.dataReceived(select_req(1))
        self.assertEqual(self.sent(untold), select_rsp(1))
        self.assertEqual([tool.state for tool in tools], [State.WAITING, State.READY])
        got: list[Any] = []
        tools[0].set_primary(1, 13, lambda message: got.append(message) or L())  # type: ignore[func-returns-value]
        untold.dataReceived(data(1, 13, 7, wait=True, session=1))
        self.assertEqual([tool.state for tool in tools], [State.READY, State.READY])
        self.assertEqual((len(got), self.sent(untold)), (1, data(1, 14, 7, b"\x01\x00", session=1)))

    def test_nobodys_session_id(self) -> None:
        """
        A first data message for nobody is answered with S9F1; one for somebody who is taken ends the connection.
        """
        for number in (1, 2):
            self.tool(session_id=number)
        self.client().dataReceived(select_req(1, session=2))
        client = self.client()
        client.dataReceived(select_req(1) + data(1, 13, 7, wait=True, session=9))
        header = data(1, 13, 7, wait=True, session=9)[4:]
        self.assertEqual(self.sent(client), select_rsp(1) + data(9, 1, 1, b"\x21\x0a" + header, session=1))
        client.dataReceived(data(1, 13, 7, wait=True, session=2))
        self.assertEqual(client.transport.closed, ["lose"])

    def test_always_listening(self) -> None:
        """
        Whatever a client does, the next one is served.
        """
        tool = self.tool()
        for nonsense in (
            b"",
            b"\0",
            b"\xff\xff\xff\xff",
            b"\0\0\0\0",
            b"\0\0\0\x09",
            data(1, 1, 1, wait=True),
            control(99, 1),
            separate_req(),
            select_req(1) + b"\xff" * 100,
            select_req(1) + separate_req() + select_req(2),
            select_req(1) + select_req(2) + b"\0\0\0\x20\0",
        ):
            client = self.client()
            client.dataReceived(nonsense)
            self.lose(client)
            self.assertIs(tool.state, State.WAITING)
            good = self.client()
            good.dataReceived(select_req(1) + control(5, 2))
            self.assertEqual(self.sent(good), select_rsp(1) + control(6, 2))
            self.assertIs(tool.state, State.READY)
            self.lose(good)

    def test_stop(self) -> None:
        """
        The port is closed with the last of its connections; a client of a stopped one is separated.
        """
        first, second = self.tool(session_id=1), self.tool(session_id=2)
        client = self.client()
        client.dataReceived(select_req(1, session=1))
        self.sent(client)
        stopped = first.stopService()
        self.assertNoResult(stopped)
        self.assertEqual((client.transport.value(), client.transport.closed), (separate_req(1), ["lose"]))
        self.reactor.advance(0.5)
        self.assertEqual(client.transport.closed, ["lose", "abort"])
        self.lose(client)
        self.successResultOf(stopped)
        self.assertIs(second.state, State.WAITING)
        self.successResultOf(second.stopService())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_other_port(self) -> None:
        """
        Connections on different ports have nothing to do with each other, nor those whose port the system chooses.
        """
        for port in (5000, 5001, 0, 0):
            self.tool(port=port)
        self.assertEqual(len(self.reactor.tcpServers), 4)


class BindingTests(SynchronousTestCase):
    """A port that cannot be bound."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.taken = True
        listen = self.reactor.listenTCP

        def listen_tcp(port: int, *arguments: Any, **named: Any) -> Any:
            if self.taken:
                raise CannotListenError("", port, OSError(98, "taken"))
            return listen(port, *arguments, **named)

        self.reactor.listenTCP = listen_tcp  # type: ignore[method-assign]
        self.tool = HsmsPassiveConnection("", 5000, reactor=self.reactor)

    def test_again(self) -> None:
        """
        It is tried again until it is free.
        """
        self.tool.startService()
        self.assertIs(self.tool.state, State.WAITING)
        self.assertIsInstance(self.tool.last_error, ConnectFailed)
        self.taken = False
        self.reactor.advance(1.0)
        self.assertEqual(self.tool.peer, "tcp:0.0.0.0:5000")
        self.assertEqual(len(self.reactor.tcpServers), 1)
        self.successResultOf(self.tool.stopService())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_given_up(self) -> None:
        """
        Who connects for one try is told.
        """
        ready = self.tool.connect(max_attempts=1)
        self.failureResultOf(ready, ConnectFailed)
        self.assertIs(self.tool.state, State.STOPPED)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.taken = False
        self.tool.startService()
        self.assertEqual(len(self.reactor.tcpServers), 1)
        self.successResultOf(self.tool.stopService())
