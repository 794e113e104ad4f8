r"""
Tests for `equipnet.instrument.protocol`: bytes in at one side, messages out at the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from equipnet.connection.protocol import WireProtocol
from equipnet.errors import ConnectionLost as Lost
from equipnet.errors import (
    Disconnected,
    EquipmentConnectionError,
    MessageTooLong,
    RemoteProtocolError,
)
from equipnet.instrument.ending import (
    Available,
    Block,
    Datagram,
    Ending,
    IdleGap,
    LengthPrefix,
    Prompt,
    Regex,
    Size,
    Terminator,
    Unending,
)
from equipnet.instrument.protocol import DRAIN_LIMIT, InstrumentProtocol
from equipnet.interfaces import Traffic

LINE = Terminator(b"\n")


class Owner:
    """A service that writes down what it is told."""

    name = "dmm"

    def __init__(self) -> None:
        self.taps: list[Callable[[Traffic], object]] = []
        self.told: list[str] = []

    def usable(self, protocol: WireProtocol, reason: str) -> None:
        self.told.append("usable")

    def unusable(self, protocol: WireProtocol, reason: str) -> None:
        self.told.append("unusable")

    def went_down(self, protocol: WireProtocol, reason: Failure) -> None:
        self.told.append("down")


class Waiting:
    """Somebody who waits for a message, and what became of it."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.messages: list[bytes] = []
        self.errors: list[EquipmentConnectionError] = []
        self._then = then

    def received(self, message: bytes) -> None:
        self.messages.append(message)
        self._then()

    def failed(self, error: EquipmentConnectionError) -> None:
        self.errors.append(error)
        self._then()


class ProtocolTestCase(SynchronousTestCase):
    """A protocol on a transport that only keeps what is written."""

    def setUp(self) -> None:
        self.fresh()

    def fresh(self, greeting: bytes = b"") -> None:
        """Begin a new connection."""
        self.clock = Clock()
        self.owner = Owner()
        self.transport = StringTransport()
        self.protocol = InstrumentProtocol(self.owner, self.clock, greeting)
        self.protocol.makeConnection(self.transport)
        self.protocol.begin()
        self.protocol.line_ending = LINE

    def read(self, ending: Ending = LINE, limit: int = 1000) -> Waiting:
        """Wait for a message."""
        waiting = Waiting()
        self.protocol.read(ending, limit, waiting)
        return waiting

    def say(self, *chunks: bytes) -> None:
        """Let bytes arrive."""
        for chunk in chunks:
            self.protocol.dataReceived(chunk)

    def end(self, error: Exception | None = None) -> None:
        """Let the connection go."""
        self.protocol.connectionLost(Failure(error or ConnectionDone()))

    def told(self, pattern: bytes | None = None) -> list[bytes]:
        """Give the list in which a handler puts unsolicited messages."""
        messages: list[bytes] = []
        self.protocol.listen(messages.append, None if pattern is None else re.compile(pattern), LINE, 1000)
        return messages

    def assert_got(self, waiting: Waiting, *messages: bytes) -> None:
        """The reader has got these messages, and no error."""
        self.assertEqual((waiting.messages, waiting.errors), (list(messages), []))

    def assert_refused(self, waiting: Waiting, kind: type[Exception]) -> EquipmentConnectionError:
        """The reader has got one error of this kind, and no message; gives the error."""
        self.assertEqual((waiting.messages, [type(error) for error in waiting.errors]), ([], [kind]))
        return waiting.errors[0]


def splits(stream: bytes) -> Iterator[list[bytes]]:
    """A stream in one chunk, in two cut at every byte, and byte by byte."""
    yield [stream]
    for at in range(1, len(stream)):
        yield [stream[:at], stream[at:]]
    yield [stream[at : at + 1] for at in range(len(stream))]


class BeginTests(ProtocolTestCase):
    """How a conversation begins."""

    def test_usable_at_once(self) -> None:
        """
        A connection is usable as soon as it is there.
        """
        self.assertEqual((self.owner.told, self.transport.value()), (["usable"], b""))

    def test_greeting(self) -> None:
        """
        A greeting goes out before anything else.
        """
        self.fresh(b"++mode 1\n")
        self.protocol.write(b"*IDN?\n")
        self.assertEqual(self.transport.value(), b"++mode 1\n*IDN?\n")

    def test_taps(self) -> None:
        """
        Taps see what is written, and each message once; those that come in one piece too.
        """
        seen: list[tuple[str, bytes]] = []

        def tap(traffic: Traffic) -> None:
            seen.append((traffic.direction, traffic.raw))

        self.owner.taps.append(tap)
        self.protocol.write(b"A?\n")
        self.read()
        self.say(b"1\n")
        self.read()
        self.say(b"2", b"\n")
        self.assertEqual(seen, [("out", b"A?\n"), ("in", b"1\n"), ("in", b"2\n")])


class FramingTests(ProtocolTestCase):
    """Each message ends as its reader says, however the stream is cut."""

    def assert_read(self, stream: bytes, *expected: tuple[Ending, bytes]) -> None:
        """Readers that wait one after the other get these messages, whether they or the bytes are there first."""
        for chunks in splits(stream):
            self.fresh()
            got: list[bytes] = []
            todo = list(expected)

            def ask(todo: list[tuple[Ending, bytes]] = todo, got: list[bytes] = got) -> None:
                if todo:
                    ending, _ = todo.pop(0)
                    waiting = Waiting(lambda: (got.extend(waiting.messages), ask()))  # type: ignore[func-returns-value]
                    self.protocol.read(ending, 1000, waiting)

            ask()
            self.say(*chunks)
            self.assertEqual(got, [message for _, message in expected], chunks)
            self.fresh()
            self.say(*chunks)
            for ending, message in expected:
                self.assert_got(self.read(ending), message)

    def test_lines(self) -> None:
        """
        Lines, one after the other.
        """
        self.assert_read(b"1.5\n\n2\n", (LINE, b"1.5\n"), (LINE, b"\n"), (LINE, b"2\n"))

    def test_long_terminators(self) -> None:
        """
        Terminators of several bytes, one of which is cut.
        """
        ending = Terminator(b"\r\n", b"END")
        self.assert_read(b"1\r2\r\n3ENEND", (ending, b"1\r2\r\n"), (ending, b"3ENEND"))

    def test_sizes(self) -> None:
        """
        Sizes and lines in turn.
        """
        self.assert_read(b"1\n2\n345\n", (Size(4), b"1\n2\n"), (LINE, b"345\n"))

    def test_blocks(self) -> None:
        r"""
        Blocks, one of them empty, and a line after them.
        """
        self.assert_read(b"#13a\nb#10NEXT\n", (Block(), b"#13a\nb"), (Block(), b"#10"), (LINE, b"NEXT\n"))
        # HP-IB, #A and the number of bytes, 2, as a little-endian 16-bit number.
        self.assert_read(b"#A\x02\x00\n\nNEXT\n", (Block("hp"), b"#A\x02\x00\n\n"), (LINE, b"NEXT\n"))

    def test_length_prefix(self) -> None:
        """
        A header that says how long the rest is, none included.
        """
        ending = LengthPrefix(1, lambda header: header[0])
        self.assert_read(b"\x03a\nb\x00\x01\n", (ending, b"\x03a\nb"), (ending, b"\x00"), (ending, b"\x01\n"))

    def test_prompts(self) -> None:
        """
        A prompt at the beginning of a line, not within one.
        """
        self.assert_read(b"12:30\r\n:OK\r\n:", (Prompt(":"), b"12:30\r\n:"), (Prompt(":"), b"OK\r\n:"))

    def test_expressions(self) -> None:
        """
        A regular expression.
        """
        ending = Regex(rb"OK|ERR \d;")
        self.assert_read(b"12 OK ERR 5;OK", (ending, b"12 OK"), (ending, b" ERR 5;"), (ending, b"OK"))

    def test_glued(self) -> None:
        """
        What is glued to a message is there for the next reader, and nobody gets it twice.
        """
        first = self.read()
        self.say(b"1\n2\n3")
        self.assert_got(first, b"1\n")
        self.assert_got(self.read(), b"2\n")
        third = self.read()
        self.assert_got(third)
        self.say(b"\n")
        self.assert_got(third, b"3\n")

    def test_terminator_of_a_block_comes_later(self) -> None:
        r"""
        The terminator of a block that comes after its last byte is no part of the next message; ``\r\n`` neither.
        """
        for end in ((b"\n",), (b"\r\n",), (b"\r", b"\n"), ()):
            self.fresh()
            block = self.read(Block())
            self.say(b"#12ab")
            self.assert_got(block, b"#12ab")
            line = self.read()
            self.say(*end, b"1\n")
            self.assert_got(line, b"1\n")

    def test_indefinite_block(self) -> None:
        r"""
        A block of indefinite length ends with a terminator and silence, not with a terminator (IEEE 488.2 8.7.10).
        """
        block = self.read(Block(gap=0.5))
        self.say(b"#0a\n")
        self.clock.advance(0.4)
        self.say(b"b\n")
        self.clock.advance(0.4)
        self.assert_got(block)
        self.clock.advance(0.1)
        self.assert_got(block, b"#0a\nb\n")

    def test_silence_without_a_terminator(self) -> None:
        """
        Silence alone does not end a block of indefinite length.
        """
        block = self.read(Block(gap=0.5))
        self.say(b"#0ab")
        self.clock.advance(5.0)
        self.assert_got(block)
        self.say(b"\n")
        self.clock.advance(0.5)
        self.assert_got(block, b"#0ab\n")

    def test_idle_gap(self) -> None:
        """
        A message that silence ends, ends after the gap that follows its last byte; one that has not begun does not.
        """
        waiting = self.read(IdleGap(1.0))
        self.clock.advance(5.0)
        self.say(b"1")
        self.clock.advance(0.9)
        self.say(b"2")
        self.clock.advance(0.9)
        self.assert_got(waiting)
        self.clock.advance(0.1)
        self.assert_got(waiting, b"12")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_whatever_has_come(self) -> None:
        """
        Any bytes are a message for who takes them as they come, at most as many as are wanted.
        """
        waiting = self.read(Available(3))
        self.say(b"12345")
        self.assert_got(waiting, b"123")
        self.assert_got(self.read(Available(3)), b"45")

    def test_nothing_ends_it(self) -> None:
        """
        A message that nothing ends does not end.
        """
        waiting = self.read(Unending())
        self.say(b"1\n", b"2\n")
        self.assert_got(waiting)
        self.assertEqual(self.protocol.partial, b"1\n2\n")

    def test_datagrams(self) -> None:
        """
        A chunk is a message, an empty one too.
        """
        for data in (b"1\n2\n", b""):
            waiting = self.read(Datagram())
            self.say(data)
            self.assert_got(waiting, data)
            self.say(data)
            self.assert_got(self.read(Datagram()), data)

    def test_stop_reading(self) -> None:
        """
        Who stops reading leaves what has come to the next one, who may read it in another way.
        """
        first = self.read()
        self.say(b"1", b"2")
        self.protocol.stop_reading()
        self.assertEqual(self.protocol.partial, b"")
        second = self.read(Size(3))
        self.say(b"34")
        self.assert_got(first)
        self.assert_got(second, b"123")
        self.say(b"\n")
        self.assert_got(self.read(), b"4\n")

    def test_long_message(self) -> None:
        """
        A message of many chunks is whole.
        """
        waiting = self.read(limit=1 << 20)
        self.say(*[b"0123456789"] * 10_000, b"\n")
        self.assert_got(waiting, b"0123456789" * 10_000 + b"\n")


class InTheMiddleTests(ProtocolTestCase):
    """Whoever is told of a message may do something with the connection."""

    def test_read_again(self) -> None:
        """
        A reader may wait for the next message as soon as it has got one; a thousand that are there do not grow the
        stack.
        """
        got: list[bytes] = []

        def again() -> None:
            got.append(waiting.messages[-1])
            self.protocol.read(LINE, 1000, waiting)

        waiting = Waiting(again)
        self.protocol.read(LINE, 1000, waiting)
        self.say(b"1\n", b"2\n3\n" * 1000)
        self.assertEqual(got, [b"1\n"] + [b"2\n", b"3\n"] * 1000)

    def test_hang_up(self) -> None:
        """
        A reader may end the connection: what came behind its message is not acted on.
        """
        told = self.told()
        waiting = Waiting(lambda: self.protocol.hang_up(Disconnected("enough")))
        self.protocol.read(LINE, 1000, waiting)
        self.say(b"1\n2\n3\n", b"4\n")
        self.assert_got(waiting, b"1\n")
        self.assertEqual(told, [])
        self.assertTrue(self.transport.disconnected or self.transport.disconnecting)
        self.end()
        self.assertEqual(self.owner.told, ["usable", "down"])

    def test_handler_hangs_up(self) -> None:
        """
        A handler of unsolicited messages may, too.
        """
        told: list[bytes] = []

        def handler(message: bytes) -> None:
            told.append(message)
            self.protocol.hang_up(Disconnected("enough"))

        self.protocol.listen(handler, None, LINE, 1000)
        self.say(b"1\n2\n")
        self.assertEqual(told, [b"1\n"])

    def test_handler_reads(self) -> None:
        """
        A handler may wait for the next message.
        """
        waiting = Waiting()
        self.protocol.listen(lambda _: self.protocol.read(LINE, 1000, waiting), None, LINE, 1000)
        self.say(b"1\n2\n")
        self.assert_got(waiting, b"2\n")

    def test_read_after_a_refusal(self) -> None:
        """
        Who is refused a message may wait for the next one at once.
        """
        second = Waiting()
        first = Waiting(lambda: self.protocol.read(LINE, 1000, second))
        self.protocol.read(LINE, 3, first)
        self.say(b"1234")
        self.say(b"5\n6\n")
        self.assert_refused(first, MessageTooLong)
        self.assert_got(second, b"6\n")

    def test_begun_anew_after_a_refusal(self) -> None:
        """
        Who is refused a block and drops what has come before asking again, as every query does, gets the next line.
        """
        for stream in (b"ERROR\n", b"\r\nERROR\r\n", b"\nERR #%\n"):
            self.fresh()
            second = Waiting()

            def ask(second: Waiting = second) -> None:
                self.protocol.discard_input()
                self.protocol.read(LINE, 1000, second)

            first = Waiting(ask)
            self.protocol.read(Block(), 1000, first)
            self.say(stream, b"1\n")
            self.assert_refused(first, RemoteProtocolError)
            self.assert_got(second, b"1\n")


class TooLongTests(ProtocolTestCase):
    """A message over the limit is refused, and the stream goes on after it."""

    def test_line(self) -> None:
        """
        A line is refused as soon as it is known to be too long, wherever it is cut; the next one is read.
        """
        for chunks in splits(b"12345\n67\n"):
            self.fresh()
            waiting = self.read(limit=4)
            self.say(*chunks)
            error = self.assert_refused(waiting, MessageTooLong)
            self.assertIn("max_read_size is 4 bytes", str(error))
            self.assert_got(self.read(limit=4), b"67\n")

    def test_exactly(self) -> None:
        """
        A message of just as many bytes as are allowed, its terminator included, is read.
        """
        for chunks in splits(b"123\n"):
            waiting = self.read(limit=4)
            self.say(*chunks)
            self.assert_got(waiting, b"123\n")

    def test_refused_early(self) -> None:
        """
        The refusal does not wait for the end, and what comes later is not kept.
        """
        waiting = self.read(limit=4)
        self.say(b"12345")
        self.assert_refused(waiting, MessageTooLong)
        self.say(*[b"x" * 1000] * 1000)
        self.assertEqual((self.protocol.partial, self.protocol.held_back), (b"", False))
        second = self.read(limit=4)
        self.say(b"x\n", b"1\n")
        self.assert_got(second, b"1\n")

    def test_announced(self) -> None:
        """
        A block, a size and a length that announce too much are refused with the announcement.
        """
        prefix = LengthPrefix(1, lambda header: header[0])
        for ending, begin in ((Block(), b"#19a"), (Size(9), b"a"), (prefix, b"\x09a")):
            self.fresh()
            waiting = self.read(ending, limit=8)
            self.say(begin)
            self.assert_refused(waiting, MessageTooLong)

    def test_after_an_announced_one(self) -> None:
        """
        After a block that was refused the next message is read, the block's terminator having come or not.
        """
        for end in (b"", b"\n", b"\r\n"):
            for chunks in splits(b"#19\n\n\n\n\n\n\n\n\n" + end + b"1\n"):
                self.fresh()
                waiting = self.read(Block(), limit=8)
                self.say(*chunks)
                self.assert_refused(waiting, MessageTooLong)
                self.assert_got(self.read(limit=8), b"1\n")

    def test_announced_and_never_sent(self) -> None:
        """
        What is only announced costs no memory.
        """
        waiting = self.read(Block(), limit=1000)
        self.say(b"#9999999999")
        self.assert_refused(waiting, MessageTooLong)
        self.assertEqual(self.protocol.partial, b"")

    def test_nothing_would_end_it(self) -> None:
        """
        After a message over the limit that nothing ends nobody knows where the next one begins.
        """
        waiting = self.read(Unending(), limit=4)
        self.say(b"12345")
        self.assert_refused(waiting, MessageTooLong)
        self.assertTrue(self.protocol.lost_track)

    def test_idle_gap(self) -> None:
        """
        Of a message over the limit that silence ends everything is dropped up to the silence.
        """
        waiting = self.read(IdleGap(1.0), limit=4)
        self.say(b"12345")
        self.assert_refused(waiting, MessageTooLong)
        second = self.read(IdleGap(1.0), limit=4)
        self.say(b"6")
        self.clock.advance(1.0)
        self.assert_got(second)
        self.say(b"7")
        self.clock.advance(1.0)
        self.assert_got(second, b"7")

    def test_datagram(self) -> None:
        """
        A datagram over the limit is refused whole.
        """
        waiting = self.read(Datagram(), limit=4)
        self.say(b"12345")
        self.assert_refused(waiting, MessageTooLong)
        second = self.read(Datagram(), limit=4)
        self.say(b"1")
        self.assert_got(second, b"1")

    def test_unsolicited(self) -> None:
        """
        An unsolicited message over the limit is dropped, and the next one is told.
        """
        told = self.told()
        self.protocol.keep_limit = 4
        self.say(b"12345", b"6\n7\n")
        self.assertEqual(told, [b"7\n"])


class NoBlockTests(ProtocolTestCase):
    """Something else comes where a block should be."""

    def test_line(self) -> None:
        """
        A line of text is refused, and the next message is read, wherever the stream is cut.
        """
        for line in (b"ERROR\n", b"ERROR\r\n", b"\r\nERROR\r\n", b"E" * 100 + b"\n", b"\n" + b"E" * 100 + b"\n"):
            for chunks in splits(line + b"1\n"):
                self.fresh()
                waiting = self.read(Block())
                self.say(*chunks)
                self.assert_refused(waiting, RemoteProtocolError)
                self.assertFalse(self.protocol.lost_track)
                self.assert_got(self.read(), b"1\n")

    def test_a_line_and_a_block(self) -> None:
        """
        A block that comes behind the line, its bytes being no text, is read by the next reader.
        """
        waiting = self.read(Block())
        self.say(b"ERROR\n#13\xff\n\x00\n")
        self.assert_refused(waiting, RemoteProtocolError)
        self.assert_got(self.read(Block()), b"#13\xff\n\x00\n")

    def test_block_of_another_form(self) -> None:
        """
        A block of another form, and numbers without a header, may hold any byte: nobody knows where they end.
        """
        hp, ieee = Block("hp"), Block()
        for ending, stream in (
            (ieee, b"#A\x02\x00\n\n\n"),
            (ieee, b"#A  ab"),
            (hp, b"#14abcd\n"),
            (ieee, b"#3ab1\n"),
            (ieee, b"\x00\x01\n\x02\x03"),
            (ieee, b"A\n\x02\x03"),
            (ieee, b"\xff" * 100),
        ):
            self.fresh()
            waiting = self.read(ending)
            self.say(stream)
            self.assert_refused(waiting, RemoteProtocolError)
            self.assertTrue(self.protocol.lost_track, stream)

    def test_data(self) -> None:
        """
        The error holds what had come.
        """
        waiting = self.read(Block())
        self.say(b"ERR", b"OR\n1\n")
        error = self.assert_refused(waiting, RemoteProtocolError)
        assert isinstance(error, RemoteProtocolError)
        self.assertEqual(error.data, b"ERROR\n1\n")

    def test_no_lines(self) -> None:
        """
        Where nothing ends a line, nobody knows where the next message begins.
        """
        self.protocol.line_ending = None
        waiting = self.read(Block())
        self.say(b"ERROR\n")
        self.assert_refused(waiting, RemoteProtocolError)
        self.assertTrue(self.protocol.lost_track)

    def test_wrong_length(self) -> None:
        """
        After a header that gives no length nobody knows either, and nothing of it is kept.
        """
        waiting = self.read(LengthPrefix(2, lambda header: int(header)))
        self.say(b"xx1\n")
        self.assert_refused(waiting, RemoteProtocolError)
        self.assertTrue(self.protocol.lost_track)
        self.assertEqual(self.protocol.discard_input(), b"")

    def test_wrong_length_of_an_unsolicited_message(self) -> None:
        """
        When it was nobody's message, the connection is ended: nobody else would notice.
        """
        self.protocol.listen(lambda _: None, None, LengthPrefix(2, lambda header: int(header)), 1000)
        self.say(b"xx1\n")
        self.assertIsInstance(self.protocol.ended_by, RemoteProtocolError)


class LateTests(ProtocolTestCase):
    """Messages that nobody wants any more are dropped, exactly they."""

    def test_dropped(self) -> None:
        """
        The late message is dropped and the next one read, wherever the stream is cut, and whoever is there first.
        """
        for chunks in splits(b"late\n1\n"):
            self.fresh()
            self.protocol.drop_message(LINE)
            waiting = self.read()
            self.say(*chunks)
            self.assert_got(waiting, b"1\n")
            self.fresh()
            self.say(*chunks)
            self.protocol.drop_message(LINE)
            self.assert_got(self.read(), b"1\n")

    def test_begun(self) -> None:
        """
        Of a message that had begun the rest is dropped.
        """
        first = self.read()
        self.say(b"la")
        self.protocol.stop_reading()
        self.protocol.drop_message(LINE)
        second = self.read()
        self.say(b"te\n1\n")
        self.assert_got(first)
        self.assert_got(second, b"1\n")

    def test_several(self) -> None:
        """
        Several late messages are dropped in their order, each with its own ending.
        """
        for chunks in splits(b"a\nb\n#12c\n\nd;1\n"):
            self.fresh()
            for ending in (Size(4), Block(), Terminator(b";")):
                self.protocol.drop_message(ending)
            self.assertEqual(self.protocol.late, 3)
            waiting = self.read()
            self.say(*chunks)
            self.assert_got(waiting, b"1\n")
            self.assertEqual(self.protocol.late, 0)

    def test_ended_by_silence(self) -> None:
        """
        A late message that silence ends is over with the silence.
        """
        self.protocol.drop_message(IdleGap(1.0))
        waiting = self.read(IdleGap(1.0))
        self.clock.advance(5.0)
        self.say(b"late")
        self.clock.advance(1.0)
        self.say(b"1")
        self.clock.advance(1.0)
        self.assert_got(waiting, b"1")

    def test_something_else_in_its_place(self) -> None:
        """
        When no such message comes, nobody knows what it is, and the connection is ended.
        """
        self.protocol.drop_message(Block())
        waiting = self.read()
        self.say(b"ERROR\n1\n")
        self.assert_refused(waiting, RemoteProtocolError)
        self.assertIsInstance(self.protocol.ended_by, RemoteProtocolError)

    def test_discarded(self) -> None:
        """
        Throwing away what has come does not take a late message for one that is still to come.
        """
        self.protocol.listen(None, None, LINE, 1000)
        self.protocol.drop_message(LINE)
        waiting = Waiting()

        def ask() -> None:
            self.protocol.drop_message(LINE)
            self.protocol.discard_input()
            self.protocol.read(LINE, 1000, waiting)

        self.protocol.read(LINE, 1000, Waiting(ask))
        self.say(b"late\n1\nlate again\nstale\n")
        self.assert_got(waiting)
        self.say(b"2\n")
        self.assert_got(waiting, b"2\n")


class DrainTests(ProtocolTestCase):
    """All that comes is dropped until there is silence."""

    def test_silence(self) -> None:
        """
        Every byte begins the silence anew; then reading goes on.
        """
        done: list[bool] = []
        self.say(b"old\nol")
        self.protocol.drop_message(LINE)
        self.protocol.drain(1.0, done.append)
        self.clock.advance(0.9)
        self.say(b"d\n")
        self.clock.advance(0.9)
        self.assertEqual(done, [])
        self.clock.advance(0.1)
        self.assertEqual((done, self.protocol.late), ([True], 0))
        waiting = self.read()
        self.say(b"1\n")
        self.assert_got(waiting, b"1\n")

    def test_no_silence(self) -> None:
        """
        A peer that is never silent ends it, too.
        """
        done: list[bool] = []
        self.protocol.drain(1.0, done.append)
        for _ in range(2 * DRAIN_LIMIT - 1):
            self.clock.advance(0.5)
            self.say(b"x")
        self.assertEqual(done, [])
        self.clock.advance(0.5)
        self.say(b"x")
        self.assertEqual(done, [False])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_lost(self) -> None:
        """
        The end of the connection ends it silently.
        """
        done: list[bool] = []
        self.protocol.drain(1.0, done.append)
        self.end()
        self.assertEqual((done, self.clock.getDelayedCalls()), ([], []))

    def test_ended_by_the_handler(self) -> None:
        """
        A handler that ends the connection when draining begins leaves nothing scheduled.
        """
        self.protocol.expecting = lambda: True
        self.protocol.listen(lambda _: self.protocol.hang_up(Disconnected("enough")), re.compile(b"^!"), LINE, 1000)
        self.say(b"!A\n")
        self.protocol.drain(1.0, lambda _: None)
        self.assertTrue(self.protocol.hanging_up)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class UnsolicitedTests(ProtocolTestCase):
    """Messages that nobody asked for."""

    def test_told(self) -> None:
        """
        Each message is told once it is whole, wherever the stream is cut.
        """
        for chunks in splits(b"!A\n\n!B\n"):
            self.fresh()
            told = self.told()
            self.say(*chunks)
            self.assertEqual(told, [b"!A\n", b"\n", b"!B\n"])

    def test_kept(self) -> None:
        """
        Without a handler, and where nothing ends a line, they are kept.
        """
        self.say(b"!A\n")
        self.assert_got(self.read(), b"!A\n")
        self.protocol.listen(lambda _: None, None, None, 1000)
        self.say(b"!A\n")
        self.assert_got(self.read(), b"!A\n")

    def test_kept_for_somebody(self) -> None:
        """
        What comes while somebody is going to read is kept for them, and told when nobody is any more.
        """
        told = self.told()
        expecting = [True]
        self.protocol.expecting = lambda: expecting[0]
        self.protocol.expect()
        self.say(b"1\n2\n")
        self.assert_got(self.read(), b"1\n")
        self.assertEqual(told, [])
        expecting[0] = False
        self.protocol.expect()
        self.assertEqual(told, [b"2\n"])

    def test_begun_before_somebody(self) -> None:
        """
        What had begun before anybody was going to read is told.
        """
        told = self.told()
        self.say(b"!")
        self.protocol.expecting = lambda: True
        self.protocol.expect()
        self.say(b"A\n1\n")
        self.assert_got(self.read(), b"1\n")
        self.assertEqual(told, [b"!A\n"])

    def test_reader_takes_what_has_begun(self) -> None:
        """
        A reader gets the next message, of which the beginning may be there already.
        """
        told = self.told()
        self.say(b"1")
        waiting = self.read()
        self.say(b"2\n")
        self.assert_got(waiting, b"12\n")
        self.assertEqual(told, [])

    def test_begun_before_a_discard(self) -> None:
        """
        What had begun when the rest was thrown away is told when it is whole, wherever the stream is cut.
        """
        stream = b"!ALARM\n1\n"
        for at in range(1, 7):
            for pattern in (None, b"^!"):
                self.fresh()
                told = self.told(pattern)
                self.say(stream[:at])
                self.protocol.discard_input()
                waiting = self.read()
                self.say(stream[at:])
                self.assert_got(waiting, b"1\n")
                self.assertEqual(told, [b"!ALARM\n"])

    def test_pattern(self) -> None:
        """
        With a pattern they are told apart from replies, wherever the stream is cut.
        """
        for chunks in splits(b"!A\n1\n!B\n"):
            self.fresh()
            told = self.told(b"^!")
            waiting = self.read()
            self.say(*chunks)
            self.assert_got(waiting, b"1\n")
            self.assertEqual(told, [b"!A\n", b"!B\n"])

    def test_pattern_and_late_messages(self) -> None:
        """
        An unsolicited message is not the late one, which is dropped all the same.
        """
        for chunks in splits(b"!A\nlate\n!B\n1\n"):
            self.fresh()
            told = self.told(b"^!")
            self.protocol.drop_message(LINE)
            waiting = self.read()
            self.say(*chunks)
            self.assert_got(waiting, b"1\n")
            self.assertEqual(told, [b"!A\n", b"!B\n"])

    def test_pattern_and_a_block(self) -> None:
        """
        An unsolicited line in front of a block is told, and the block is read; another line is refused.
        """
        for chunks in splits(b"!A\r\n!B\n#13\xff\n\xff"):
            self.fresh()
            told = self.told(b"^!")
            waiting = self.read(Block())
            self.say(*chunks)
            self.assert_got(waiting, b"#13\xff\n\xff")
            self.assertEqual(told, [b"!A\r\n", b"!B\n"])
        for chunks in splits(b"ERROR\r\n1\n"):
            self.fresh()
            told = self.told(b"^!")
            second = Waiting()
            first = Waiting(lambda second=second: self.protocol.read(LINE, 1000, second))  # type: ignore[misc]
            self.protocol.read(Block(), 1000, first)
            self.say(*chunks)
            self.assert_refused(first, RemoteProtocolError)
            self.assert_got(second, b"1\n")
            self.assertEqual(told, [])

    def test_block_given_up(self) -> None:
        """
        A line in front of a block is refused to who waited for the block, not to who waits by then.
        """
        self.told(b"^!")
        first = self.read(Block())
        self.say(b"ERROR\r")
        self.protocol.stop_reading()
        second = self.read()
        self.say(b"\n1\n")
        self.assert_got(first)
        self.assert_got(second, b"1\n")

    def test_long_late_message(self) -> None:
        """
        Of a late message over the limit nothing is kept, even where it might be an unsolicited one.
        """
        told = self.told(b"^!")
        self.protocol.keep_limit = 10
        self.protocol.drop_message(LINE)
        self.say(b"!" * 100, b"\n")
        self.assertEqual((told, self.protocol.late), ([], 0))

    def test_found_in_what_is_thrown_away(self) -> None:
        """
        With a pattern they are told even when what nobody has read is thrown away.
        """
        told = self.told(b"^!")
        self.protocol.expecting = lambda: True
        self.say(b"!A\n1\n!B\n!C")
        self.protocol.discard_input()
        waiting = self.read()
        self.say(b"\n2\n")
        self.assert_got(waiting, b"2\n")
        self.assertEqual(told, [b"!A\n", b"!B\n", b"!C\n"])

    def test_handler_that_raises(self) -> None:
        """
        What a handler raises is logged, and the next message is told.
        """
        told: list[bytes] = []

        def handler(message: bytes) -> None:
            told.append(message)
            raise RuntimeError(message)

        self.protocol.listen(handler, None, LINE, 1000)
        self.say(b"1\n2\n")
        self.assertEqual((told, len(self.flushLoggedErrors(RuntimeError))), ([b"1\n", b"2\n"], 2))

    def test_handler_given_later(self) -> None:
        """
        A handler gets what has been kept; one that is taken away gets nothing more.
        """
        self.say(b"1\n2")
        told = self.told()
        self.assertEqual(told, [b"1\n"])
        self.protocol.listen(None, None, LINE, 1000)
        self.say(b"\n")
        self.assertEqual(told, [b"1\n"])
        self.assert_got(self.read(), b"2\n")


class AppetiteTests(ProtocolTestCase):
    """The peer is made to wait when nobody reads; and we wait when it does not."""

    def test_held_back(self) -> None:
        """
        With more than the limit unread the transport is paused, and resumed when somebody reads.
        """
        self.protocol.keep_limit = 4
        self.say(b"12", b"34")
        self.assertEqual((self.transport.producerState, self.protocol.held_back), ("producing", False))
        self.say(b"5")
        self.assertEqual((self.transport.producerState, self.protocol.held_back), ("paused", True))
        waiting = self.read(limit=100)
        self.assertEqual((self.transport.producerState, self.protocol.held_back), ("producing", False))
        self.say(b"6\n")
        self.assert_got(waiting, b"123456\n")

    def test_message_by_message(self) -> None:
        """
        It stays paused as long as more than the limit is left.
        """
        self.protocol.keep_limit = 4
        self.say(b"1\n2\n3\n4\n")
        for expected, state in ((b"1\n", "paused"), (b"2\n", "producing"), (b"3\n", "producing")):
            self.assert_got(self.read(), expected)
            self.assertEqual(self.transport.producerState, state)

    def test_discarded(self) -> None:
        """
        Throwing it away resumes the transport.
        """
        self.protocol.keep_limit = 4
        self.say(b"12345")
        self.assertEqual(self.protocol.discard_input(), b"12345")
        self.assertEqual(self.transport.producerState, "producing")

    def test_handler(self) -> None:
        """
        So does a handler.
        """
        self.protocol.keep_limit = 4
        self.say(b"1\n2\n3\n")
        self.assertEqual(self.transport.producerState, "paused")
        self.assertEqual(self.told(), [b"1\n", b"2\n", b"3\n"])
        self.assertEqual(self.transport.producerState, "producing")

    def test_put_back(self) -> None:
        """
        What a reader leaves counts, as soon as more comes.
        """
        self.protocol.keep_limit = 4
        self.read(limit=100)
        self.say(b"12345")
        self.protocol.stop_reading()
        self.say(b"6")
        self.assertEqual(self.transport.producerState, "paused")

    def test_choked(self) -> None:
        """
        The protocol says when the peer does not take what we write, and when it does again.
        """
        calls: list[bool] = []
        self.protocol.unchoked = lambda: calls.append(self.protocol.choked)
        self.assertIs(self.transport.producer, self.protocol)
        self.protocol.pauseProducing()
        self.assertTrue(self.protocol.choked)
        self.protocol.resumeProducing()
        self.assertEqual(calls, [False])
        self.protocol.pauseProducing()
        self.protocol.stopProducing()
        self.assertFalse(self.protocol.choked)

    def test_hang_up_while_choked(self) -> None:
        """
        Hanging up does not wait for a producer.
        """
        self.protocol.pauseProducing()
        self.protocol.hang_up(Disconnected("enough"), abort=False)
        self.assertIsNone(self.transport.producer)


class EndTests(ProtocolTestCase):
    """The end of the connection is the end of everything."""

    def test_waiting(self) -> None:
        """
        Who waits is told of the end and of its reason; what had come of the message is no message.
        """
        for reason in (ConnectionDone(), ConnectionLost()):
            self.fresh()
            waiting = self.read()
            self.say(b"1")
            self.end(reason)
            error = self.assert_refused(waiting, Lost)
            self.assertIs(error.__cause__, reason)
            self.assertEqual(self.owner.told, ["usable", "down"])

    def test_every_ending(self) -> None:
        """
        No ending takes half a message for a whole one.
        """
        for ending, begun in (
            (Size(4), b"123"),
            (Block(), b"#14123"),
            (Block(), b"#"),
            (Block(), b"#0123"),
            (LengthPrefix(1, lambda header: header[0]), b"\x04123"),
            (Prompt(">"), b"123"),
            (Regex(b"OK"), b"O"),
            (Unending(), b"123"),
            (IdleGap(1.0), b""),
        ):
            self.fresh()
            waiting = self.read(ending)
            if begun:
                self.say(begun)
            self.end()
            self.assert_refused(waiting, Lost)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_instead_of_silence(self) -> None:
        """
        A peer that closes in good order has said its last words; nothing more is read then.
        """
        for ending, message in ((IdleGap(1.0), b"1"), (Block(gap=1.0), b"#01\n")):
            self.fresh()
            second = Waiting()
            first = Waiting(lambda second=second: self.protocol.read(LINE, 1000, second))  # type: ignore[misc]
            self.protocol.read(ending, 1000, first)
            self.say(message)
            self.end()
            self.assert_got(first, message)
            self.assert_refused(second, Lost)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_silence(self) -> None:
        """
        A connection that breaks, or that we end, is no end of a message.
        """
        waiting = self.read(IdleGap(1.0))
        self.say(b"1")
        self.end(ConnectionLost())
        self.assert_refused(waiting, Lost)
        self.fresh()
        waiting = self.read(IdleGap(1.0))
        self.say(b"1")
        self.protocol.hang_up(Disconnected("enough"))
        self.end()
        self.assert_refused(waiting, Disconnected)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_hang_up(self) -> None:
        """
        Hanging up fails who waits at once; what still arrives is not acted on.
        """
        told = self.told()
        waiting = self.read()
        error = Disconnected("enough")
        self.protocol.hang_up(error)
        self.assertEqual(waiting.errors, [error])
        self.say(b"1\n")
        self.assertEqual((waiting.messages, told), ([], []))
        self.end()
        self.assertEqual(waiting.errors, [error])

    def test_nothing_waits(self) -> None:
        """
        The end of an idle connection is told to the owner only.
        """
        self.say(b"1")
        self.end()
        self.assertEqual(self.owner.told, ["usable", "down"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
