r"""
Defects that were found by running two public systems for the same task, each with a test that it is not here.

The peers are MSL-Equipment (``msl.equipment.connection_socket.ConnectionSocket``, releases 0.1 and 0.2, and its
successor ``msl.equipment.interfaces.socket.Socket``) and SOCS (``socs.tcp.TCPInterface``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost as TransportLost
from twisted.internet.interfaces import IReactorTime

from equipnet.connection.protocol import WireProtocol
from equipnet.connection.retry import RetryPolicy
from equipnet.connection.state import State
from equipnet.errors import (
    AddressError,
    ConnectFailed,
    ConnectionLost,
    EquipmentConnectionError,
    EquipmentTimeout,
    MessageTooLong,
    RemoteProtocolError,
)
from equipnet.instrument import Instrument, Prompt
from tests.instrument.test_service import InstrumentTestCase


class MSLTests(InstrumentTestCase):
    """MSL-Equipment's defects."""

    def test_long_datagrams(self) -> None:
        """
        MSL-Equipment cuts a datagram longer than buffer_size and loses the rest; here it is whole.
        """
        dmm = self.connected(socket_type="DGRAM", buffer_size=4)
        read = dmm.read()
        self.say(b"0123456789")
        self.assertEqual(self.successResultOf(read), "0123456789")

    def test_glued_datagrams(self) -> None:
        """
        MSL-Equipment glues datagrams together as if they were a stream; here each is one message.
        """
        dmm = self.connected(socket_type="DGRAM")
        self.say(b"1")
        self.say(b"2")
        self.assertEqual(self.successResultOf(dmm.read()), "1")
        self.assertEqual(self.successResultOf(dmm.read()), "2")

    def test_limit_of_a_message(self) -> None:
        """
        MSL-Equipment checks max_read_size against everything it has buffered; here many short messages are no long one.
        """
        dmm = self.connected(max_read_size=8)
        read = dmm.read()
        self.say(b"1\n2\n3\n4\n5\n6\n7\n")
        self.assertEqual(self.successResultOf(read), "1\n")
        self.assertEqual([self.successResultOf(dmm.read()) for _ in range(6)], [f"{n}\n" for n in range(2, 8)])

    def test_after_too_long_a_message(self) -> None:
        """
        MSL-Equipment keeps what was too long, so that every later read fails, too; here the next message is read.
        """
        dmm = self.connected(max_read_size=8)
        read = dmm.read()
        self.say(b"123456789")
        self.failureResultOf(read, MessageTooLong)
        read = dmm.read()
        self.say(b"\n1\n")
        self.assertEqual(self.successResultOf(read), "1\n")

    def test_no_end_condition(self) -> None:
        """
        Without a read termination MSL-Equipment's reads end only in time or at the limit, and say nothing of the
        reason; here the error says that nothing defines the end, and any other end can be given.
        """
        dmm = self.connected(termination=None, read_termination=None)
        read = dmm.read()
        self.say(b"1\n")
        self.clock.advance(5.0)
        self.assertIn("an end that nothing defines", str(self.failureResultOf(read, EquipmentTimeout).value))
        self.assertEqual(self.successResultOf(dmm.read(size=2)), "1\n")
        read = dmm.read(ending=Prompt(">"))
        self.say(b"2\n>")
        self.assertEqual(self.successResultOf(read), "2\n>")

    def test_block_that_ends_like_a_termination(self) -> None:
        r"""
        MSL-Equipment sends no termination behind a block whose last bytes happen to be those of one; here it is sent.
        """
        dmm = self.connected()
        self.assertEqual(self.successResultOf(dmm.write("DATA ", b"\x01\n")), 11)
        self.assertEqual(self.heard(), b"DATA #12\x01\n\n")

    def test_length_of_a_block(self) -> None:
        """
        MSL-Equipment ends a block at the first byte that looks like the termination; here its header says where.
        """
        dmm = self.connected()
        answer = dmm.query("CURV?", fmt="ieee", dtype="<u2")
        self.say(b"#14\n\n\n\n\n")
        np.testing.assert_array_equal(self.successResultOf(answer), [0x0A0A, 0x0A0A])

    def test_rstrip_of_numbers(self) -> None:
        """
        MSL-Equipment's rstrip removes bytes from binary numbers that look like white space; here they stay.
        """
        dmm = self.connected(rstrip=True)
        read = dmm.read(size=4, dtype="<u2")
        self.say(b"\x01\x20\x0a\x0d")
        np.testing.assert_array_equal(self.successResultOf(read), [0x2001, 0x0D0A])

    def test_timeout_of_zero(self) -> None:
        """
        With timeout 0 MSL-Equipment's reads fail with BlockingIOError; here they give what is there, or time out.
        """
        dmm = self.connected(timeout=0)
        self.say(b"1\n")
        self.assertEqual(self.successResultOf(dmm.read()), "1\n")
        read = dmm.read()
        self.turn()
        self.failureResultOf(read, EquipmentTimeout)

    def test_addresses(self) -> None:
        """
        MSL-Equipment takes any rest behind a port and any number for a port, and a Prologix address without its port is
        a TypeError; here each address is read whole.
        """
        for text in ("TCP::h::5025junk", "TCP::h::5025::some::extra", "TCP::h::70000", "TCP::h::0"):
            self.assertRaises(AddressError, Instrument.parse_address, text)
        self.assertEqual(Instrument.parse_address("Prologix::h::GPIB0::12").port, 1234)

    def test_pause_between_attempts(self) -> None:
        """
        MSL-Equipment's reconnect(max_attempts=None) tries 141 033 times a second; here there is a pause between two.
        """
        dmm = self.connected(retry=RetryPolicy.fixed(1.0))
        attempts: list[float] = []
        dmm.add_observer(
            lambda change: attempts.append(self.clock.seconds()) if change.new is State.CONNECTING else None
        )
        self.laboratory.refuses = True
        dmm.reconnect(max_attempts=None).addErrback(lambda _: None)
        self.turn()
        for _ in range(3):
            self.clock.advance(1.0)
        self.assertEqual(attempts, [0.0, 1.0, 2.0, 3.0])

    def test_old_bytes_after_a_reconnection(self) -> None:
        """
        MSL-Equipment keeps its buffer over a reconnection; here bytes of the old connection are gone.
        """
        dmm = self.connected()
        self.say(b"old\nol")
        dmm.reconnect()
        self.turn()
        read = dmm.read()
        self.say(b"new\n")
        self.assertEqual(self.successResultOf(read), "new\n")

    def test_stale_reply(self) -> None:
        """
        MSL-Equipment gives the late reply to the next query; here nobody gets it, whatever the policy.
        """
        for settings in ({}, {"resync": "drop"}, {"resync": "gap", "resync_gap": 1.0}):
            dmm = self.connected(**settings)
            first = dmm.query("1?")
            asked = self.device
            self.clock.advance(5.0)
            self.failureResultOf(first, EquipmentTimeout)
            second = dmm.query("2?")
            asked.transport.write(b"1\n")
            self.clock.advance(0)
            self.clock.advance(1.0)
            self.say(b"2\n")
            self.assertEqual(self.successResultOf(second), "2\n")

    def test_peer_closes(self) -> None:
        """
        MSL-Equipment spins when the peer has closed the connection while it waits; here the query fails at once.
        """
        dmm = self.connected()
        answer = dmm.query("1?")
        self.device.transport.loseConnection()
        self.turn()
        self.failureResultOf(answer, ConnectionLost)

    def test_cause(self) -> None:
        """
        MSL-Equipment raises its errors "from None": the system's error and its number are gone; here they are kept.
        """
        dmm = self.connected()
        answer = dmm.query("1?")
        reset = TransportLost()
        reset.osError = 104  # type: ignore[attr-defined]
        reset.__cause__ = ConnectionResetError(104, "Connection reset by peer")
        self.device.transport._end(TransportLost(), reset)
        self.turn()
        error = self.failureResultOf(answer, ConnectionLost).value
        self.assertEqual(error.errno, 104)
        self.assertIs(error.__cause__, reset)

    def test_text_that_is_none(self) -> None:
        """
        In MSL-Equipment bytes that are no text look like a lost connection; here the error holds the bytes.
        """
        dmm = self.connected()
        answer = dmm.query("1?")
        self.say(b"\xff\n")
        self.assertEqual(self.failureResultOf(answer, RemoteProtocolError).value.data, b"\xff\n")
        self.assertIs(dmm.state, State.READY)

    def test_steps_of_the_wall_clock(self) -> None:
        """
        MSL-Equipment measures its timeouts on the wall clock, which may step; here they are the reactor's, which is
        monotonic.
        """
        dmm = self.connected()
        seen: list[IReactorTime] = [dmm.reactor, dmm.protocol._clock]
        self.assertEqual(seen, [self.clock, self.clock])

    def test_one_reply_for_each_of_two(self) -> None:
        """
        Two users of one MSL-Equipment connection get each other's replies, since nothing is queued; here each gets its
        own.
        """
        dmm = self.connected()
        answers = [dmm.query(f"{number}?") for number in range(2)]
        self.assertEqual(self.heard(), b"0?\n")
        self.say(b"0\n")
        self.assertEqual(self.heard(), b"1?\n")
        self.say(b"1\n")
        self.assertEqual([self.successResultOf(answer) for answer in answers], ["0\n", "1\n"])

    def test_timeouts_are_connection_errors(self) -> None:
        """
        The timeout of MSL-Equipment's second generation is no connection error any more; here it is both.
        """
        for base in (TimeoutError, ConnectionError, OSError, EquipmentConnectionError):
            self.assertTrue(issubclass(EquipmentTimeout, base))


class SOCSTests(InstrumentTestCase):
    """SOCS's defects."""

    def recv(self, dmm: Instrument) -> Deferred[Any]:
        """Let the time of a recv pass, and give it."""
        received = dmm.recv()
        self.clock.advance(5.0)
        return received

    def test_stale_bytes(self) -> None:
        """
        SOCS's TCPInterface gives a late reply to the next command (its reset_on_error came of that); here a query drops
        what came before it.
        """
        dmm = self.connected()
        self.successResultOf(dmm.send(b"1?\n"))
        self.failureResultOf(self.recv(dmm), EquipmentTimeout)
        self.say(b"1\n")
        answer = dmm.query("2?")
        self.turn()
        self.say(b"2\n")
        self.assertEqual(self.successResultOf(answer), "2\n")

    def test_end_of_the_connection(self) -> None:
        """
        SOCS's recv gives no bytes and no error when the peer has closed the connection; here it is an error.
        """
        dmm = self.connected()
        received = dmm.recv()
        self.device.transport.loseConnection()
        self.turn()
        self.failureResultOf(received, ConnectionLost)

    def test_noticed_while_idle(self) -> None:
        """
        SOCS notices the end of an idle connection with the next command only; here it is noticed when it happens.
        """
        dmm = self.connected()
        self.device.transport.loseConnection()
        self.turn()
        self.assertIsNot(dmm.state, State.READY)
        self.clock.advance(1.0)
        self.assertIs(dmm.state, State.READY)

    def test_timeout_and_loss(self) -> None:
        """
        In SOCS a timeout and a lost connection are one class; here both are ConnectionErrors, and told apart.
        """
        dmm = self.connected()
        self.failureResultOf(self.recv(dmm), TimeoutError)
        received = dmm.recv()
        self.device.transport.abortConnection()
        self.turn()
        error = self.failureResultOf(received, ConnectionError).value
        self.assertNotIsInstance(error, TimeoutError)

    def test_sent_twice(self) -> None:
        """
        SOCS sends a command again after any error, so that it may be carried out twice; here only what was not begun.
        """
        dmm = self.connected()
        dmm.protocol.pauseProducing()
        sent = dmm.send(b"MOVE 1\n")
        self.device.transport.abortConnection()
        self.turn()
        self.clock.advance(1.0)
        self.failureResultOf(sent, ConnectionLost)
        self.assertEqual([device.heard for device in self.laboratory.conversations[1:]], [b""])

    def test_device_that_is_away(self) -> None:
        """
        SOCS prints that a device is away and leaves an object that fails later for another reason; here nothing is
        printed, and the reason is in every error.
        """
        self.laboratory.refuses = True
        dmm = self.make()
        connected = dmm.connect()
        self.turn()
        self.failureResultOf(connected, ConnectFailed)
        self.assertIsInstance(dmm.last_error, ConnectFailed)
        error = self.failureResultOf(dmm.query("1?"), ConnectionError).value
        self.assertIs(error.__cause__, dmm.last_error)

    def test_no_delay_and_keepalive(self) -> None:
        """
        SOCS and MSL-Equipment leave Nagle's algorithm on, which costs 42 ms for a write followed by a query, and
        keepalive off; here every TCP connection is made with the options set.
        """

        class Peer:
            type, host, port = "TCP", "h", 1

        class Transport:
            def __init__(self) -> None:
                self.options: dict[str, bool] = {}

            def getPeer(self) -> Peer:
                return Peer()

            def setTcpNoDelay(self, on: bool) -> None:
                self.options["no delay"] = on

            def setTcpKeepAlive(self, on: bool) -> None:
                self.options["keepalive"] = on

        transport = Transport()
        protocol = self.make().build_protocol()
        assert isinstance(protocol, WireProtocol)
        protocol.makeConnection(transport)
        self.assertEqual(transport.options, {"no delay": True, "keepalive": True})

    def test_framing(self) -> None:
        """
        SOCS gives what one recv of the system gave, so that its drivers sleep before they read; here a query ends with
        its reply, in however many pieces that comes.
        """
        dmm = self.connected()
        answer = dmm.query("1?")
        for piece in (b"1", b".", b"5", b"\n"):
            self.assertNoResult(answer)
            self.say(piece)
        self.assertEqual(self.successResultOf(answer), "1.5\n")

    def test_two_at_once(self) -> None:
        """
        Two agents with one SOCS interface mix their commands and replies; here a transaction keeps a dialogue together.
        """
        dmm = self.connected()

        async def dialogue(name: str) -> list[str]:
            async with dmm.transaction():
                return [await dmm.query(f"{name}1?"), await dmm.query(f"{name}2?")]

        both = [Deferred.fromCoroutine(dialogue(name)) for name in "ab"]
        order = []
        for _ in range(4):
            command = self.heard()
            order.append(command)
            self.say(command)
        self.assertEqual(order, [b"a1?\n", b"a2?\n", b"b1?\n", b"b2?\n"])
        for name, each in zip("ab", both, strict=True):
            self.assertEqual(self.successResultOf(each), [f"{name}1?\n", f"{name}2?\n"])
