"""
Tests for `equipnet.instrument.ending`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, SupportsIndex, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from equipnet.errors import LocalProtocolError, RemoteProtocolError
from equipnet.instrument.ending import (
    Available,
    Block,
    Datagram,
    Ending,
    IdleGap,
    LengthPrefix,
    Prompt,
    Regex,
    Scanner,
    Size,
    Terminator,
    Unending,
    _RegexScanner,
    ending_for,
    skip_optional,
)
from equipnet.instrument.message import decode_reply

quick = settings(max_examples=60, deadline=None, database=None)


def receive(ending: Ending, chunks: Iterable[bytes]) -> tuple[list[bytes], bytes]:
    """The messages in some chunks and what is left over, taken from them as a receiver does it."""
    messages: list[bytes] = []
    kept = optional = b""
    scanner: Scanner | None = None
    for chunk in chunks:
        start, optional = skip_optional(chunk, 0, optional)
        while start < len(chunk):
            end = -1
            if scanner is None:
                scanner = ending.begin()
                end = ending.find_whole(chunk, start)
            if end < 0:
                end = scanner.feed(chunk, start)
            if end < 0:
                kept += chunk[start:]
                break
            messages.append(kept + chunk[start:end])
            start, optional = skip_optional(chunk, end, scanner.optional_terminator)
            kept, scanner = b"", None
    return messages, kept


def splits(stream: bytes) -> Iterator[list[bytes]]:
    """A stream in one chunk, in two cut at every byte, and byte by byte."""
    for at in range(len(stream) + 1):
        yield [stream[:at], stream[at:]]
    yield [stream[at : at + 1] for at in range(len(stream))]


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    """A stream cut at some places, wherever they are."""
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[begin:end] for begin, end in pairwise(edges)]


cuts = st.lists(st.integers(0, 10_000), max_size=8)


class EndingTestCase(SynchronousTestCase):
    """What is asked of every ending."""

    def assert_messages(self, ending: Ending, messages: list[bytes], rest: bytes = b"") -> None:
        """The messages are found, and the rest is none, however the stream is cut."""
        for chunks in splits(b"".join(messages) + rest):
            self.assertEqual(receive(ending, chunks), (messages, rest), chunks)


class TerminatorTests(EndingTestCase):
    """A reply ends with its terminator."""

    def test_one_byte(self) -> None:
        """
        Every line is a message; what comes after the last terminator is left for later.
        """
        self.assert_messages(Terminator(b"\n"), [b"1.5\r\n", b"\n", b"2.5\n"], b"3.")

    def test_many_bytes(self) -> None:
        """
        A terminator of many bytes is found wherever it is cut, also after a false beginning.
        """
        self.assert_messages(Terminator(b"\r\n"), [b"1.5\r\n", b"\r\r\n", b"a\rb\nc\n\r\r\n", b"\r\n"], b"x\r")
        self.assert_messages(Terminator(b"aab"), [b"aaab", b"aab", b"aaaaaab"], b"aaa")

    def test_several(self) -> None:
        """
        Of several terminators the one that ends first counts.
        """
        self.assert_messages(Terminator(b"\r\n", b"OK>", b";"), [b"1\n\r\r\n", b"2OK>", b"3;", b"OKOK>", b";"], b"OK\r")

    def test_one_inside_another(self) -> None:
        """
        A terminator that ends inside a longer one, or with it, comes first.
        """
        self.assert_messages(Terminator(b"\r\n", b"\n"), [b"1\r\n", b"2\n"])
        self.assert_messages(Terminator(b"\r\n", b"\r"), [b"1\r", b"\n2\r"])
        self.assert_messages(Terminator(b"abcd", b"c"), [b"abc", b"dc"])

    def test_several_far_apart(self) -> None:
        """
        Terminators are found in long messages, across the windows of the search.
        """
        for size in (*range(250, 262), 1000, 10_000):
            stream = b"x" * size + b"\r\n" + b"y" * 100 + b"end"
            self.assertEqual(
                receive(Terminator(b"\r\n", b"end"), [stream]), ([stream[: size + 2], stream[size + 2 :]], b"")
            )

    def test_whole(self) -> None:
        """
        A message that is whole in a chunk is found without a scanner, from any place on.
        """
        for ending in (Terminator(b"\n"), Terminator(b"\n", b"\r\n")):
            self.assertEqual(ending.find_whole(b"1\n23\n4"), 2)
            self.assertEqual(ending.find_whole(b"1\n23\n4", 2), 5)
            self.assertEqual(ending.find_whole(b"1\n23\n4", 5), -1)

    @quick
    @given(st.lists(st.text("ab;\r\n"), max_size=8), cuts)
    def test_any_cuts(self, texts: list[str], places: list[int]) -> None:
        """
        However a stream is cut, the messages are those of the stream in one chunk.
        """
        stream = "".join(texts).encode()
        expected = re.findall(rb"(?s:.*?(?:\r\n|;a;|b))", stream)
        messages, rest = receive(Terminator(b"\r\n", b";a;", b"b"), cut(stream, places))
        self.assertEqual(messages, expected)
        self.assertEqual(b"".join(messages) + rest, stream)

    def test_wrong(self) -> None:
        """
        There is at least one terminator, and none is empty.
        """
        self.assertRaises(LocalProtocolError, Terminator)
        self.assertRaises(LocalProtocolError, Terminator, b"\n", b"")
        self.assertRaises(LocalProtocolError, Terminator, "\n")


class SizeTests(EndingTestCase):
    """A reply has a fixed size."""

    def test_messages(self) -> None:
        """
        Every so many bytes are a message, terminators or not.
        """
        self.assert_messages(Size(3), [b"a\nb", b"\n\n\n", b"cde"], b"fg")
        self.assert_messages(Size(1), [b"a", b"\n"])

    def test_announced(self) -> None:
        """
        The size is known from the beginning.
        """
        self.assertEqual(Size(3).begin().announced, 3)

    def test_wrong(self) -> None:
        """
        The size is a whole number, at least 1.
        """
        for size in (0, -1, 1.5, "1", None):
            self.assertRaises(LocalProtocolError, Size, size)


class LengthPrefixTests(EndingTestCase):
    """A reply begins with its length."""

    def test_messages(self) -> None:
        """
        A message is the header and so many bytes; there may be none.
        """
        ending = LengthPrefix(4, lambda header: struct.unpack(">2xH", header)[0])
        self.assert_messages(ending, [b"ab\x00\x05hello", b"cd\x00\x00", b"ef\x00\x01\n"], b"gh\x00\x02x")

    def test_announced(self) -> None:
        """
        The size of the message is known with its header.
        """
        scanner = LengthPrefix(2, lambda header: int.from_bytes(header, "big")).begin()
        self.assertEqual((scanner.feed(b"\xff"), scanner.announced), (-1, None))
        self.assertEqual((scanner.feed(b"\xff"), scanner.announced), (-1, 65_537))

    def test_no_length(self) -> None:
        """
        A header for which no length is given is an error of the other side, with the header and the reason.
        """
        for length in (int, lambda header: -1, lambda header: 1.0, lambda header: None, lambda header: header[5]):
            scanner = LengthPrefix(2, cast(Any, length)).begin()
            self.assertEqual(scanner.feed(b"x"), -1)
            error = self.assertRaises(RemoteProtocolError, scanner.feed, b"yz")
            self.assertEqual(error.data, b"xy")
        self.assertIsInstance(error.__cause__, IndexError)

    def test_wrong(self) -> None:
        """
        A header has at least one byte.
        """
        self.assertRaises(LocalProtocolError, LengthPrefix, 0, len)


class BlockTests(EndingTestCase):
    """A reply is a block with its length in a header."""

    def assert_blocks(self, ending: Block, stream: bytes, contents: list[bytes]) -> None:
        """The contents of the blocks are found, and nothing else, however the stream is cut."""
        for chunks in splits(stream):
            messages, rest = receive(ending, chunks)
            decoded = [decode_reply(message, ending.fmt, termination=ending.terminator) for message in messages]
            self.assertEqual((decoded, rest), (contents, b""), chunks)

    def test_ieee(self) -> None:
        """
        A definite length block ends where its header says, its terminator included (IEEE 488.2, 8.7.9).
        """
        self.assertEqual(
            receive(Block(), [b"#15hello\n#10\n#205world\n"])[0], [b"#15hello\n", b"#10\n", b"#205world\n"]
        )
        self.assert_blocks(Block(), b"#15hello\n#10\n#205world\n", [b"hello", b"", b"world"])

    def test_hp(self) -> None:
        """
        An HP block ends where its header says, in either byte order.
        """
        self.assert_blocks(Block("hp"), b"#A\x05\x00hello\n#A\x01\x00\n\n", [b"hello", b"\n"])
        ending = Block("hp", None, ">")
        self.assertEqual(receive(ending, [b"#A\x00\x05hello\n#A\x00\x01x"])[0], [b"#A\x00\x05hello\n", b"#A\x00\x01x"])

    def test_terminator_in_data(self) -> None:
        """
        Terminators in the data end nothing.
        """
        self.assert_blocks(Block(), b"#15\n\r\n#1\n#12\n\n\n", [b"\n\r\n#1", b"\n\n"])

    def test_which_terminator_follows(self) -> None:
        r"""
        None may follow, and ``\r\n`` in place of ``\n`` and the other way round.
        """
        for terminator in (None, b"\n", b"\r\n"):
            self.assert_blocks(Block("ieee", terminator), b"#12ab#12cd\n#12ef\r\n#12gh", [b"ab", b"cd", b"ef", b"gh"])
        self.assert_blocks(Block("ieee", b"END"), b"#12abEND#12cd#12efEND", [b"ab", b"cd", b"ef"])

    def test_late_terminator(self) -> None:
        """
        The message does not wait for its terminator; the scanner says what may still come of it.
        """
        scanner = Block().begin()
        self.assertEqual(scanner.feed(b"#15hello"), 8)
        self.assertEqual(scanner.optional_terminator, b"\r\n")
        scanner = Block("ieee", b"\r\n").begin()
        self.assertEqual(scanner.feed(b"#15hello\r"), 9)
        self.assertEqual(scanner.optional_terminator, b"\n")
        scanner = Block().begin()
        self.assertEqual(scanner.feed(b"#15hello\n"), 9)
        self.assertEqual(scanner.optional_terminator, b"")

    def test_announced(self) -> None:
        """
        The size of the message is known with its header, before anything of the block has come.
        """
        scanner = Block().begin()
        self.assertEqual(scanner.feed(b"#99999999"), -1)
        self.assertIsNone(scanner.announced)
        self.assertEqual(scanner.feed(b"99"), -1)
        self.assertEqual(scanner.announced, 11 + 999_999_999)
        self.assertIsNone(scanner.gap)
        self.assertFalse(scanner.silent())

    def test_response_header(self) -> None:
        """
        A response header and white space before the block belong to the message.
        """
        self.assert_blocks(Block(), b"CURVE #15hello\n:CURVE #12ab\n", [b"hello", b"ab"])  # Tektronix, HEADER ON
        self.assert_blocks(Block(), b" " * 63 + b"#9000000005hello", [b"hello"])

    def test_no_block(self) -> None:
        """
        Bytes that no block begins with are an error as soon as they show it, however they are cut.
        """
        for ending, stream, wrong in (
            (Block(), b"-113,Undefined header\n", "line"),
            (Block(), b"#x", "offset 1"),
            (Block(), b"CURVE #A", "offset 7"),
            (Block(), b"#3x", "offset 2"),
            (Block(), b"a" * 64, "64 bytes"),
            (Block("hp"), b"#1", "offset 1"),
        ):
            for chunks in splits(stream):
                scanner = ending.begin()
                with self.assertRaises(RemoteProtocolError) as caught:
                    for chunk in chunks:
                        self.assertEqual(scanner.feed(chunk), -1)
                self.assertIn(wrong, str(caught.exception))
                self.assertEqual(caught.exception.data, stream)

    def test_indefinite(self) -> None:
        """
        A block of indefinite length ends with a terminator that silence follows (IEEE 488.2, 8.7.10).
        """
        scanner = Block(gap=0.2).begin()
        self.assertEqual((scanner.feed(b"x#"), scanner.gap), (-1, None))
        self.assertEqual((scanner.feed(b"0hello", 0), scanner.gap), (-1, 0.2))
        self.assertFalse(scanner.silent())
        self.assertEqual(scanner.feed(b"\n"), -1)
        self.assertTrue(scanner.silent())
        self.assertEqual(scanner.feed(b"world"), -1)
        self.assertFalse(scanner.silent())
        self.assertIsNone(scanner.announced)

    def test_indefinite_terminator_cut(self) -> None:
        """
        The terminator of an indefinite block is seen wherever it is cut, but not in the header.
        """
        for chunks in splits(b"#0hel\r\nlo\r\n"):
            scanner = Block("ieee", b"\r\n").begin()
            self.assertEqual([scanner.feed(chunk) for chunk in chunks], [-1] * len(chunks))
            self.assertTrue(scanner.silent(), chunks)
        scanner = Block("ieee", b"#0").begin()
        self.assertEqual(scanner.feed(b"#0"), -1)
        self.assertFalse(scanner.silent())

    def test_start(self) -> None:
        """
        What is before the beginning of the message in a chunk is not looked at.
        """
        self.assertEqual(Block().begin().feed(b"#x\n#15hello\n", 3), 12)
        scanner = Block().begin()
        self.assertEqual(scanner.feed(b"\n#0", 1), -1)
        self.assertFalse(scanner.silent())

    @quick
    @given(st.lists(st.binary(max_size=40), max_size=5), st.sampled_from((b"", b"\n", b"\r\n")), cuts)
    def test_any_cuts(self, contents: list[bytes], terminator: bytes, places: list[int]) -> None:
        """
        However a stream of blocks is cut, their contents come out.
        """
        stream = b"".join(b"#3%03d%b%b" % (len(content), content, terminator) for content in contents)
        messages, rest = receive(Block(), cut(stream, places))
        self.assertEqual([decode_reply(message, "ieee") for message in messages], contents)
        self.assertEqual(rest, b"")

    def test_wrong(self) -> None:
        """
        A format without a length, a byte order that is none and a gap of no time are refused.
        """
        self.assertRaises(LocalProtocolError, Block, "ascii")
        self.assertRaises(LocalProtocolError, Block, "hp", None, "=")
        self.assertRaises(LocalProtocolError, Block, "ieee", None, "<", 0)


class SkipOptionalTests(SynchronousTestCase):
    """A terminator that may come is stepped over, if it comes."""

    def test_there(self) -> None:
        """
        A whole terminator is stepped over, and nothing more is expected.
        """
        self.assertEqual(skip_optional(b"ab\r\ncd", 2, b"\r\n"), (4, b""))
        self.assertEqual(skip_optional(b"abENDcd", 2, b"END"), (5, b""))

    def test_cut(self) -> None:
        """
        Of one that is cut by the end of the chunk the rest is still expected.
        """
        self.assertEqual(skip_optional(b"ab\r", 2, b"\r\n"), (3, b"\n"))
        self.assertEqual(skip_optional(b"abEN", 2, b"END"), (4, b"D"))
        self.assertEqual(skip_optional(b"ab", 2, b"END"), (2, b"END"))
        self.assertEqual(skip_optional(b"", 0, b"\r\n"), (0, b"\r\n"))

    def test_missing(self) -> None:
        """
        Something else is left where it is, and nothing more is expected; of CR and LF one may be missing.
        """
        self.assertEqual(skip_optional(b"ab", 0, b"\r\n"), (0, b""))
        self.assertEqual(skip_optional(b"ERROR", 0, b"END"), (0, b""))
        self.assertEqual(skip_optional(b"\nab", 0, b"\r\n"), (1, b""))
        self.assertEqual(skip_optional(b"\rab", 0, b"\r\n"), (1, b""))
        self.assertEqual(skip_optional(b"ab", 0, b""), (0, b""))


class RegexTests(EndingTestCase):
    """A reply ends where a regular expression matches."""

    def test_messages(self) -> None:
        """
        A message ends with the first match after its beginning.
        """
        self.assert_messages(Regex(rb"(OK|ERROR \d\d)\r\n"), [b"1.5\r\nOK\r\n", b"ERROR 12\r\n", b"OK\r\n"], b"OK\r")
        self.assert_messages(Regex("(?i)ok;"), [b"1oK;", b"OK;"])

    def test_anchors(self) -> None:
        r"""
        The beginning of the message, not of the chunk or the window, is what ``\A`` and ``^`` mean.
        """
        self.assert_messages(Regex(rb"\A\?|;", window=2), [b"?", b"a?;", b"?", b"ab?cd?;"])
        self.assert_messages(Regex(rb"(?m)^>", window=1), [b"ab>cd\n>", b">", b"a\n>"])
        self.assert_messages(Regex(rb"\b> ", window=2), [b"a > b> ", b"cc> "])

    def test_window(self) -> None:
        """
        A match of as many bytes as the window is found wherever it is cut.
        """
        self.assert_messages(Regex(rb"<[a-z]{4}>", window=6), [b"<a><abcd>", b"xxxxxxxx<abcd>"], b"<abc")

    def test_look_ahead(self) -> None:
        """
        A look-ahead is no part of the message; a message has at least one byte.
        """
        self.assertEqual(receive(Regex(rb"(?=>)"), [b"ab>cd>"]), ([b"ab", b">cd"], b">"))
        scanner = Regex(rb"a(?=bc)").begin()
        self.assertEqual([scanner.feed(b"a"), scanner.feed(b"b"), scanner.feed(b"c")], [-1, -1, 0])

    @quick
    @given(st.text("<ab>\n", max_size=60), cuts)
    def test_any_cuts(self, text: str, places: list[int]) -> None:
        """
        However a stream is cut, the messages are those of the stream in one chunk.
        """
        stream = text.encode()
        ending = Regex(rb"<[ab]{1,2}>|(?m:^)a>", window=4)
        self.assertEqual(receive(ending, cut(stream, places)), receive(ending, [stream]))

    def test_wrong(self) -> None:
        """
        A pattern that is none, or that is there before anything has come, is refused, and a window of nothing.
        """
        self.assertRaises(LocalProtocolError, Regex, b"(")
        self.assertRaises(LocalProtocolError, Regex, b"x*")
        self.assertRaises(LocalProtocolError, Regex, b"x", 0)


class PromptTests(EndingTestCase):
    """A reply ends with a prompt."""

    def test_line_start(self) -> None:
        """
        A prompt is at the beginning of a line or of the reply; the same text elsewhere is none.
        """
        self.assert_messages(Prompt(":"), [b"12:30:01\r\n:", b":", b"a:\r:", b"::"[:1]], b"b:")  # Galil
        self.assert_messages(Prompt(b"> "), [b"a> b\r\n> ", b"> "], b"x> ")  # DLC smart
        self.assert_messages(Prompt(b"aa"), [b"baa\naa", b"aa"], b"\na")

    def test_anywhere(self) -> None:
        """
        On request it is a prompt wherever it stands.
        """
        self.assert_messages(Prompt(b"(.)", line_start=False), [b"ab(.)", b"(.)"], b"(x)")

    def test_wrong(self) -> None:
        """
        An empty prompt is refused.
        """
        self.assertRaises(LocalProtocolError, Prompt, "")


class IdleGapTests(SynchronousTestCase):
    """A reply ends when nothing more comes."""

    def test_silence(self) -> None:
        """
        Silence ends a message that has begun; no byte does.
        """
        scanner = IdleGap(0.1).begin()
        self.assertEqual(scanner.gap, 0.1)
        self.assertFalse(scanner.silent())
        self.assertEqual(scanner.feed(b"\n", 1), -1)
        self.assertFalse(scanner.silent())
        self.assertEqual(scanner.feed(b"1\n"), -1)
        self.assertTrue(scanner.silent())

    def test_wrong(self) -> None:
        """
        A gap takes some time.
        """
        for seconds in (0, -1, float("nan")):
            self.assertRaises(LocalProtocolError, IdleGap, seconds)


class DatagramTests(SynchronousTestCase):
    """A reply is a datagram."""

    def test_whole(self) -> None:
        """
        The end of the chunk ends the message, whatever is in it.
        """
        for chunk in (b"1\n2\n", b""):
            self.assertEqual(Datagram().find_whole(chunk), len(chunk))
            self.assertEqual(Datagram().begin().feed(chunk), len(chunk))


class AvailableTests(SynchronousTestCase):
    """A reply is what there is."""

    def test_chunks(self) -> None:
        """
        A chunk is a message, or several when there is more than the limit.
        """
        self.assertEqual(receive(Available(4), [b"1\n2", b"", b"abcdefghi"]), ([b"1\n2", b"abcd", b"efgh", b"i"], b""))

    def test_nothing(self) -> None:
        """
        A message has at least one byte.
        """
        self.assertEqual(Available(4).find_whole(b"ab", 2), -1)
        self.assertEqual(Available(4).begin().feed(b"ab", 2), -1)
        self.assertEqual(Available(4).begin().feed(b"ab", 1), 2)

    def test_wrong(self) -> None:
        """
        At least one byte can come.
        """
        self.assertRaises(LocalProtocolError, Available, 0)


class UnendingTests(SynchronousTestCase):
    """A reply has no end of its own."""

    def test_never(self) -> None:
        """
        Neither bytes nor silence end it.
        """
        self.assertEqual(receive(Unending(), [b"1\n", b"2\n"]), ([], b"1\n2\n"))
        scanner = Unending().begin()
        scanner.feed(b"1\n")
        self.assertFalse(scanner.silent())
        self.assertIsNone(scanner.gap)


ENDINGS: dict[Ending, tuple[str, str]] = {
    Terminator(b"\n"): (r"Terminator(b'\n')", r"the terminator b'\n'"),
    Terminator(b"\r", b"\n"): (r"Terminator(b'\r', b'\n')", r"one of the terminators b'\r', b'\n'"),
    Size(24): ("Size(size=24)", "24 bytes"),
    LengthPrefix(2, len): (
        "LengthPrefix(header_size=2, length=<built-in function len>)",
        "a message with its length in the first 2 bytes",
    ),
    Block(): (r"Block(fmt='ieee', terminator=b'\n', byte_order='<', gap=0.05)", "a block with an IEEE 488.2 header"),
    Block("hp", None): ("Block(fmt='hp', terminator=None, byte_order='<', gap=0.05)", "a block with an HP header"),
    Regex("OK"): ("Regex(pattern=b'OK', window=1024)", "a match of b'OK'"),
    Prompt("> "): ("Prompt(text=b'> ', line_start=True)", "the prompt b'> '"),
    IdleGap(0.1): ("IdleGap(seconds=0.1)", "an idle gap of 0.1 s"),
    Datagram(): ("Datagram()", "a datagram"),
    Available(4096): ("Available(limit=4096)", "any bytes"),
    Unending(): ("Unending()", "an end that nothing defines (no terminator, no size)"),
}


class ValueTests(SynchronousTestCase):
    """Endings are values."""

    def test_texts(self) -> None:
        """
        An ending is shown as it is written, and described in words for the message of a timeout.
        """
        for ending, texts in ENDINGS.items():
            self.assertEqual((repr(ending), ending.describe()), texts)

    def test_equal(self) -> None:
        """
        Endings made of the same things are equal, in whatever form they were given.
        """
        self.assertEqual({Terminator(b"\n"), Terminator(b"\n")}, {Terminator(b"\n")})
        self.assertEqual({Regex("OK"), Regex(b"OK"), Prompt("OK"), Prompt(b"OK")}, {Regex("OK"), Prompt("OK")})
        self.assertEqual(len(set(ENDINGS)), len(ENDINGS))

    def test_frozen(self) -> None:
        """
        Endings do not change.
        """
        for ending in ENDINGS:
            for name in ("terminators", "size", "anything"):
                with self.assertRaises((AttributeError, TypeError)):
                    setattr(ending, name, 1)

    def test_reusable(self) -> None:
        """
        The scanners of one ending know nothing of each other.
        """
        ending = Terminator(b"\r\n")
        first, second = ending.begin(), ending.begin()
        self.assertEqual(first.feed(b"1\r"), -1)
        self.assertEqual(second.feed(b"\n2"), -1)
        self.assertEqual(first.feed(b"\n"), 1)


class ChoiceTests(SynchronousTestCase):
    """The ending of a read is chosen as in MSL-Equipment."""

    def test_size(self) -> None:
        """
        The size counts before all else.
        """
        self.assertEqual(ending_for("ieee", 24, "<f", b"\n"), Size(24))

    def test_block(self) -> None:
        """
        A block ends where its header says, with or without a type of numbers.
        """
        self.assertEqual(ending_for("ieee", None, ">f", b"\n"), Block("ieee", b"\n"))
        self.assertEqual(ending_for("hp", None, ">f", None), Block("hp", None, ">"))
        self.assertEqual(ending_for("hp", read_termination=(b"\r\n", b"\n")), Block("hp", b"\r\n"))

    def test_terminator(self) -> None:
        """
        Everything else ends with the terminator, or with one of several.
        """
        for fmt in (None, "", "ascii"):
            self.assertEqual(ending_for(fmt), Terminator(b"\n"))
        self.assertEqual(ending_for(read_termination=(b"\r", b"\n")), Terminator(b"\r", b"\n"))

    def test_none(self) -> None:
        """
        Without a terminator nothing ends a text.
        """
        for terminator in (None, b"", ()):
            self.assertIsNone(ending_for(read_termination=terminator))
            self.assertEqual(ending_for("ieee", read_termination=terminator), Block("ieee", None))

    def test_wrong(self) -> None:
        """
        A format that does not exist is refused, also with a size, and a size of nothing.
        """
        self.assertRaises(LocalProtocolError, ending_for, "iee", 5)
        self.assertRaises(LocalProtocolError, ending_for, None, 0)
        self.assertRaises(LocalProtocolError, ending_for, "hp", None, "no-such-type")


class CountedBytes(bytes):
    """Bytes that count how many of them are searched."""

    searched = 0

    def find(self, sub: Any, start: SupportsIndex | None = None, end: SupportsIndex | None = None, /) -> int:
        """Find, and count up to the end of what was found, or of all."""
        begin = 0 if start is None else int(start)
        found = super().find(sub, start, end)
        stop = min(len(self), len(self) if end is None else int(end)) if found < 0 else found + len(sub)
        CountedBytes.searched += stop - begin
        return found


class CountingPattern:
    """A pattern that never matches, and counts how many bytes it is asked to search."""

    searched = 0

    def search(self, string: bytes, pos: int = 0) -> None:
        """Count."""
        self.searched += len(string) - pos


class LinearityTests(SynchronousTestCase):
    """The work is in proportion to the bytes that came."""

    def setUp(self) -> None:
        CountedBytes.searched = 0

    def test_long_line(self) -> None:
        """
        A long line in many chunks is searched once, but for the first chunk and the seams.
        """
        for ending in (Terminator(b"\n"), Terminator(b"END\n")):
            CountedBytes.searched = 0
            receive(ending, [CountedBytes(b"x" * 1000)] * 100)
            self.assertEqual(CountedBytes.searched, 101 * 1000)

    def test_many_lines(self) -> None:
        """
        Many lines in one chunk are searched once, also for a terminator that never comes.
        """
        chunk = CountedBytes(b"12345\r\n" * 10_000)
        messages, _ = receive(Terminator(b"\r\n"), [chunk])
        self.assertEqual((len(messages), CountedBytes.searched), (10_000, len(chunk)))
        receive(Terminator(b"never", b"\n"), [chunk])
        self.assertLess(CountedBytes.searched, 50 * len(chunk))  # a window of 256 bytes for a line of 7

    def test_long_line_with_several_terminators(self) -> None:
        """
        A long line is searched about once for each terminator.
        """
        chunk = CountedBytes(b"x" * 1_000_000 + b"\n")
        self.assertEqual(Terminator(b"never", b"\n").find_whole(chunk), len(chunk))
        self.assertLess(CountedBytes.searched, 2.1 * len(chunk))

    def test_regex(self) -> None:
        """
        With every chunk no more than the window is searched again.
        """
        pattern = CountingPattern()
        scanner = _RegexScanner(cast("re.Pattern[bytes]", pattern), 20)
        for _ in range(100):
            self.assertEqual(scanner.feed(b"x" * 1000), -1)
        self.assertEqual(pattern.searched, 100 * 1000 + 99 * 19)
