"""Tests of framing in both protocols, of the handshake, and of a dcss that does not read."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from equipnet.dcs.message import GenericMessage, HtosNote, Message, StohAbortAll, StohRegisterString
from equipnet.dcs.protocol import ASKING_TIME, REFUSAL_TIME, DhsProtocol
from equipnet.dcs.session import DcsState
from equipnet.errors import EquipmentTimeout, LocalProtocolError, NotConnected, RemoteProtocolError

from ..connection.doubles import RecordingOwner, RecordingTransport
from .doubles import ASKING

#: An abort and the registration of a string, as a dcss sends them: the second with a line end (seen).
ABORT = b"          20            0 stoh_abort_all soft\0"
REGISTER = b"          36            0 stoh_register_string status status\n\0"


class RecordingDhsOwner(RecordingOwner):
    """Stands for the service, and records what it is told."""

    name = "dcss"

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[Message] = []
        self.raising = False

    def accepted(self, protocol: DhsProtocol) -> None:
        self.told.append(("accepted",))

    def received(self, protocol: DhsProtocol, message: Message) -> None:
        self.messages.append(message)
        if self.raising:
            raise KeyError("a mistake")
        if isinstance(message, GenericMessage) and message.command == "echo":
            protocol.send_message(HtosNote(message.text))

    def gone(self, protocol: DhsProtocol) -> None:
        self.told.append(("gone",))


class ProtocolTestCase(SynchronousTestCase):
    """One connection of a hardware server, on a transport and a clock of the test."""

    version = 2

    def setUp(self) -> None:
        self.clock = Clock()
        self.owner = RecordingDhsOwner()
        self.transport = RecordingTransport()
        self.protocol = DhsProtocol(self.owner, self.clock, "loopDHS", self.version, 1000, 1000)
        self.protocol.makeConnection(self.transport)
        self.protocol.begin()

    def tearDown(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def ask(self) -> None:
        """Let dcss ask who we are."""
        self.protocol.dataReceived(ASKING)
        self.transport.clear()


class HandshakeTests(ProtocolTestCase):
    """Who we are, and whether dcss takes us."""

    def test_the_answer(self) -> None:
        """It is asked and answered with 200 bytes, whatever the protocol is afterwards."""
        self.protocol.dataReceived(ASKING)
        self.assertEqual(self.transport.value(), b"htos_client_is_hardware loopDHS" + b"\0" * 169)
        self.assertIs(self.protocol.dcs_state, DcsState.NAMED)

    def test_accepted(self) -> None:
        """The first message is the sign that we were accepted, and is not lost."""
        self.ask()
        self.assertEqual(self.owner.told, [])
        self.protocol.dataReceived(ABORT)
        self.assertEqual(self.owner.told, [("accepted",)])
        self.assertEqual(self.owner.messages, [StohAbortAll("soft")])

    def test_nothing_to_register(self) -> None:
        """A dcss that says nothing for longer than its slowest refusal has taken us."""
        self.ask()
        self.clock.advance(REFUSAL_TIME)
        self.assertEqual(self.owner.told, [("accepted",)])

    def test_refused(self) -> None:
        """A connection that is closed before was not accepted."""
        self.ask()
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.clock.advance(REFUSAL_TIME)
        self.assertEqual([each[0] for each in self.owner.told], ["gone", "went down"])

    def test_silence(self) -> None:
        """A peer that does not ask is no dcss."""
        self.protocol.dataReceived(ASKING[:100])
        self.clock.advance(ASKING_TIME)
        self.assertIsInstance(self.protocol.ended_by, EquipmentTimeout)
        self.assertEqual(self.transport.closed, ["abort"])

    def test_no_dcss(self) -> None:
        """A peer that begins with something else is no dcss."""
        self.protocol.dataReceived(b"SSH-2.0-OpenSSH_9.6\r\n".ljust(200, b"\0"))
        self.assertIsInstance(self.protocol.ended_by, RemoteProtocolError)


class FramingTests(ProtocolTestCase):
    """Messages of protocol 2 in any pieces, and what is no message."""

    def test_glued_and_split_at_every_byte(self) -> None:
        """However the bytes arrive, the messages are the same."""
        stream = ASKING + ABORT + REGISTER + b"           2            3 a\0BIN" + ABORT
        expected = [
            StohAbortAll("soft"),
            StohRegisterString("status", "status"),
            GenericMessage("a"),
            StohAbortAll("soft"),
        ]
        for at in range(len(stream)):
            self.setUp()
            self.protocol.dataReceived(stream[:at])
            self.protocol.dataReceived(stream[at:])
            self.assertEqual(self.owner.messages, expected, at)
            self.tearDown()
        self.setUp()
        for at in range(len(stream)):
            self.protocol.dataReceived(stream[at : at + 1])
        self.assertEqual(self.owner.messages, expected)

    def test_an_empty_text(self) -> None:
        """It is a message without a name, and the next one is read."""
        self.ask()
        self.protocol.dataReceived(b"           0            0 " + ABORT)
        self.assertEqual(self.owner.messages, [GenericMessage(""), StohAbortAll("soft")])

    def test_what_is_no_header(self) -> None:
        """The connection is ended with an error, and nothing behind it is read."""
        for header in (
            b"          -1            0 ",
            b" " * 26,
            b"\0" * 26,
            b"  4294967295            0 ",
            b"        1001            0 ",
            b"stoh_register_string a b c",
        ):
            self.setUp()
            self.ask()
            self.protocol.dataReceived(header + ABORT)
            self.assertIsInstance(self.protocol.ended_by, RemoteProtocolError, header)
            self.assertEqual((self.transport.closed, self.owner.messages), (["abort"], []), header)
            self.protocol.dataReceived(ABORT)
            self.assertEqual(self.owner.messages, [])
            self.tearDown()

    def test_the_longest_message(self) -> None:
        """The limit counts text and binary part together."""
        self.ask()
        self.protocol.dataReceived(b"         600          400 " + b"a" * 600 + b"b" * 400)
        self.assertEqual(self.owner.messages, [GenericMessage("a" * 600)])

    def test_one_write(self) -> None:
        """Header and text leave together; what answers what came in one piece leaves in one piece."""
        writes: list[bytes] = []
        self.ask()
        self.transport.write = writes.append  # type: ignore[method-assign]
        self.protocol._send_at_once = writes.append
        self.protocol.send_message(HtosNote("a"))
        self.protocol.dataReceived(b"           7            0 echo 1\0           7            0 echo 2\0")
        self.assertEqual(
            writes,
            [
                b"          12            0 htos_note a\0",
                b"          17            0 htos_note echo 1\0          17            0 htos_note echo 2\0",
            ],
        )

    def test_a_mistake_of_ours(self) -> None:
        """What the service raises is logged with the message, and the next one is read."""
        self.ask()
        self.owner.raising = True
        self.protocol.dataReceived(ABORT + ABORT)
        self.assertEqual(len(self.owner.messages), 2)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 2)

    def test_taps(self) -> None:
        """Taps see each message in and out, with its bytes."""
        seen: list[Any] = []
        self.owner.taps.append(lambda traffic: seen.append((traffic.direction, traffic.raw, str(traffic.value))))
        self.protocol.dataReceived(ASKING + ABORT)
        self.assertEqual(
            [(direction, raw[:24]) for direction, raw, _ in seen],
            [("in", ASKING[:24]), ("out", b"htos_client_is_hardware "), ("in", ABORT[:24])],
        )

    def test_after_the_end(self) -> None:
        """What cannot be sent any more is refused."""
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertRaises(NotConnected, self.protocol.send_message, HtosNote("a"))


class FixedFramingTests(ProtocolTestCase):
    """Protocol 1: 200 bytes each."""

    version = 1

    def test_both_ways(self) -> None:
        """Texts of 199 and 200 bytes are whole, one of 300 is cut by dcss into what it is not."""
        self.ask()
        for size in (199, 200):
            self.protocol.dataReceived((b"x" * size).ljust(200, b"\0"))
        self.assertEqual([len(str(message)) for message in self.owner.messages], [199, 200])
        self.protocol.send_message(HtosNote("a"))
        self.assertEqual(self.transport.value(), b"htos_note a".ljust(200, b"\0"))
        self.protocol.send_message(HtosNote("x" * 189))
        for size in (190, 290):
            self.assertRaises(LocalProtocolError, self.protocol.send_message, HtosNote("x" * size))

    def test_300_bytes(self) -> None:
        """They are one message and the begin of another."""
        self.ask()
        self.protocol.dataReceived(b"x" * 300)
        self.assertEqual([len(str(message)) for message in self.owner.messages], [200])


class PressureTests(ProtocolTestCase):
    """A dcss that does not read."""

    def test_who_sends_can_wait(self) -> None:
        """As long as the transport takes nothing, senders can wait for it; reading goes on."""
        self.ask()
        self.successResultOf(self.protocol.when_taken())
        self.protocol.pauseProducing()
        first, second = self.protocol.when_taken(), self.protocol.when_taken()
        second.cancel()
        self.failureResultOf(second)
        self.assertNoResult(first)
        self.protocol.dataReceived(ABORT)
        self.assertEqual(len(self.owner.messages), 1)
        self.protocol.resumeProducing()
        self.successResultOf(first)

    def test_what_waits_is_bounded(self) -> None:
        """Over the limit the connection is cut."""
        self.ask()
        self.protocol.pauseProducing()
        waiting = self.protocol.when_taken()
        for _ in range(8):
            self.protocol.send_message(HtosNote("x" * 100))
        self.assertEqual(self.transport.closed, ["abort"])
        self.successResultOf(waiting)
        self.assertIsNone(self.transport.producer)
