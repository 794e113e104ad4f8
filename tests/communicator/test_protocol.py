"""Tests of the frames of one socket, without one."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from equipnet.communicator.protocol import FrameProtocol
from equipnet.errors import Disconnected, MessageTooLong

from ..connection.doubles import RecordingOwner, RecordingTransport


class FrameTestCase(SynchronousTestCase):
    def protocol(self, limit: int = 100, reads: bool = True) -> FrameProtocol:
        """Give a protocol on a transport, whose frames are in ``self.frames``."""
        self.frames: list[Any] = []
        self.owner = RecordingOwner()
        self.transport = RecordingTransport()
        protocol = FrameProtocol(self.owner, limit, self.frames.append if reads else None)
        protocol.makeConnection(self.transport)
        protocol.begin()
        return protocol

    def seen(self) -> list[object]:
        return [each if isinstance(each, bytes) else type(each) for each in self.frames]


class ReceivingTests(FrameTestCase):
    stream = b"one\ntwo\r\n\r\na\rb\r\n\n\r\nlast\r\n"
    frames_of_stream = (b"one\ntwo", b"", b"a\rb", b"\n", b"last")

    def test_in_two_pieces(self) -> None:
        """
        Frames are the same wherever the stream is cut.
        """
        for at in range(len(self.stream) + 1):
            protocol = self.protocol()
            protocol.dataReceived(self.stream[:at])
            protocol.dataReceived(self.stream[at:])
            self.assertEqual(self.frames, list(self.frames_of_stream), at)

    def test_pieces_of_each_size(self) -> None:
        """
        They are the same in pieces of any size, single bytes included.
        """
        for size in range(1, len(self.stream)):
            protocol = self.protocol()
            for at in range(0, len(self.stream), size):
                protocol.dataReceived(self.stream[at : at + size])
            self.assertEqual(self.frames, list(self.frames_of_stream), size)

    def test_too_long(self) -> None:
        """
        A frame over the limit costs one error, wherever it is cut; those before and behind it come.
        """
        stream = b"ok\r\n" + b"x" * 11 + b"\r\n" + b"y" * 10 + b"\r\n" + b"\r" * 25 + b"\r\nend\r\n"
        for size in range(1, len(stream) + 1):
            protocol = self.protocol(limit=10)
            for at in range(0, len(stream), size):
                protocol.dataReceived(stream[at : at + size])
            self.assertEqual(self.seen(), [b"ok", MessageTooLong, b"y" * 10, MessageTooLong, b"end"], size)

    def test_70000_bytes_without_end(self) -> None:
        """
        Bytes without an end are an error as soon as they are too many, are not kept, and do not wedge the stream.
        """
        protocol = self.protocol(limit=1 << 16)
        for _ in range(70):
            protocol.dataReceived(b"x" * 1000)
        self.assertEqual(self.seen(), [MessageTooLong])
        self.assertLess(len(protocol._partial), 2)
        protocol.dataReceived(b"x\r\nnext\r\n")
        self.assertEqual(self.seen(), [MessageTooLong, b"next"])
        self.assertIn("10.0.0.5:5025", str(self.frames[0]))

    def test_nothing_after_hanging_up(self) -> None:
        """
        What arrives after we have hung up is nobody's, also what came in the same chunk.
        """
        protocol = self.protocol()

        def received(frame: object) -> None:
            self.frames.append(frame)
            protocol.hang_up(Disconnected("enough"))

        protocol._received = received
        protocol.dataReceived(b"one\r\ntwo\r\n")
        protocol.dataReceived(b"three\r\n")
        self.assertEqual(self.frames, [b"one"])

    def test_write_only(self) -> None:
        """
        What comes on a socket that is only written to is dropped, and told once.
        """
        events = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)  # type: ignore[arg-type]
        protocol = self.protocol(reads=False)
        for _ in range(3):
            protocol.dataReceived(b"x" * 100000)
        self.assertEqual([event["data"] for event in events if "data" in event], [b"x" * 40])
        self.assertEqual((len(protocol._partial), self.transport.closed), (0, []))


class SendingTests(FrameTestCase):
    def test_choked(self) -> None:
        """
        What is written while the peer takes nothing waits, and leaves in order; what is given up does not leave.
        """
        protocol = self.protocol()
        told: list[Any] = []
        protocol.write(b"1")
        protocol.pauseProducing()
        protocol.write_later(b"2", told.append)
        protocol.give_up(protocol.write_later(b"3", told.append))
        protocol.write_later(b"4", told.append)
        self.assertEqual((self.transport.value(), told), (b"1", []))
        protocol.resumeProducing()
        self.assertEqual((self.transport.value(), told), (b"124", [None, None]))

    def test_lost_while_choked(self) -> None:
        """
        What waits when the connection goes is told so.
        """
        protocol = self.protocol()
        told: list[Any] = []
        protocol.pauseProducing()
        protocol.write_later(b"2", told.append)
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual([str(error) for error in told], ["10.0.0.5:5025 closed the connection"])
        self.assertEqual(len(protocol.unsent), 0)

    def test_closing_sends_the_rest(self) -> None:
        """
        Closed in good order, what waits leaves first.
        """
        protocol = self.protocol()
        protocol.pauseProducing()
        protocol.write_later(b"2", lambda _: None)
        protocol.hang_up(Disconnected("enough"), abort=False)
        self.assertEqual((self.transport.value(), self.transport.closed), (b"2", ["lose"]))

    def test_hold_back(self) -> None:
        """
        The peer is made to wait, and let go on, once each.
        """
        protocol = self.protocol()
        for wanted in (False, True, True, False, False):
            protocol.hold_back(wanted)
            self.assertEqual(self.transport.producerState, "paused" if wanted else "producing")
