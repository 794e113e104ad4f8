from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from equipnet.errors import RemoteProtocolError
from equipnet.imaging.mjpeg import BOUNDARY, CONTENT_TYPE, Part, PartReader, write_head, write_part

TYPE = "multipart/x-mixed-replace; boundary=myboundary"

# As an Axis camera sends it (VAPIX, video streaming: multipart/x-mixed-replace with --myboundary).
AXIS = (
    b"--myboundary\r\nContent-Type: image/jpeg\r\nContent-Length: 4\r\n\r\n\xff\xd8\xff\xd9\r\n"
    b"--myboundary\r\nContent-Type: image/jpeg\r\nContent-Length: 6\r\n\r\n\xff\xd8--\xff\xd9\r\n"
)
AXIS_PARTS = [
    Part({"content-type": "image/jpeg", "content-length": "4"}, b"\xff\xd8\xff\xd9"),
    Part({"content-type": "image/jpeg", "content-length": "6"}, b"\xff\xd8--\xff\xd9"),
]


def bodies(parts: Iterable[Part]) -> list[bytes]:
    return [part.body for part in parts]


class ReadTests(SynchronousTestCase):
    def read(self, data: bytes, content_type: str = TYPE, at_once: int | None = None, **limits: int) -> list[Part]:
        """Read a stream, in pieces of so many bytes."""
        self.reader = PartReader(content_type, **limits)
        size = at_once or len(data) or 1
        return [part for at in range(0, len(data), size) for part in self.reader.feed(data[at : at + size])]

    def assert_bodies(self, data: bytes, wanted: list[bytes], content_type: str = TYPE) -> None:
        """Assert what is in a stream, all at once and byte by byte."""
        self.assertEqual(bodies(self.read(data, content_type)), wanted)
        self.assertEqual(bodies(self.read(data, content_type, 1)), wanted)

    def test_axis(self) -> None:
        """
        The parts of an Axis camera are read as they come, each with its headers.
        """
        self.assertEqual(self.read(AXIS), AXIS_PARTS)

    def test_one_byte_at_a_time(self) -> None:
        """
        It does not matter how the bytes arrive; a part with a length is there with its last byte.
        """
        reader = PartReader(TYPE)
        found = [(at, part) for at in range(len(AXIS)) for part in reader.feed(AXIS[at : at + 1])]
        self.assertEqual(found, [(AXIS.index(b"\r\n--my", 1) - 1, AXIS_PARTS[0]), (len(AXIS) - 3, AXIS_PARTS[1])])

    def test_without_length(self) -> None:
        """
        A part without a length ends before the next boundary; the line end before that is not its own, others are.
        """
        self.assert_bodies(
            b"--myboundary\r\nContent-Type: image/jpeg\r\n\r\nab\r\n\r\n"
            b"--myboundary\r\n\r\n--mybound\r\n--myboundary--",
            [b"ab\r\n", b"--mybound"],
        )

    def test_bare_line_feeds(self) -> None:
        """
        Lines may end with a line feed alone, and a body may be followed by its boundary without one.
        """
        self.assert_bodies(b"--myboundary\nA: b\n\none\n--myboundary\n\ntwo--myboundary\n", [b"one", b"two"])

    def test_boundaries(self) -> None:
        """
        The boundary may be announced in quotes, with the dashes that stand before it or without, and sent either way.
        """
        for announced in ("myboundary", "--myboundary", '"myboundary"', '"--myboundary"; x=y'):
            for sent in (b"--myboundary", b"----myboundary"):
                if sent == b"----myboundary" and "--" not in announced:
                    continue
                for length in (b"", b"Content-Length: 2\r\n"):
                    with self.subTest(announced=announced, sent=sent, length=length):
                        part = sent + b"\r\n" + length + b"\r\n-x\r\n"
                        self.assert_bodies(
                            part + part + sent + b"--\r\n",
                            [b"-x", b"-x"],
                            f"Multipart/X-Mixed-Replace;Boundary={announced}",
                        )

    def test_looks_like_a_boundary(self) -> None:
        """
        What only begins as the boundary belongs to the body.
        """
        body = b"\r\n--myboundary2\r\n--myboundary-\r\n x--myboundary x"
        self.assert_bodies(b"--myboundary\r\n\r\n" + body + b"\r\n--myboundary \r\n", [body])

    def test_preamble(self) -> None:
        """
        What stands before the first boundary is passed over, and blank lines between parts are.
        """
        self.assert_bodies(
            b"\r\nThis is a stream.\r\n\r\n--myboundary\r\nContent-Length: 1\r\n\r\na\r\n\r\n\n"
            b"--myboundary\r\n\r\nb\n--myboundary--",
            [b"a", b"b"],
        )

    def test_closing_boundary(self) -> None:
        """
        The closing boundary ends the stream, with a line end or without, and what follows is passed over.
        """
        for end in (b"--myboundary--", b"--myboundary--\r\n", b"--myboundary--\r\nanything"):
            for at_once in (None, 1):
                with self.subTest(end=end, at_once=at_once):
                    self.read(AXIS, at_once=at_once)
                    self.assertFalse(self.reader.ended)
                    self.assertEqual(self.read(AXIS + end, at_once=at_once), AXIS_PARTS)
                    self.assertTrue(self.reader.ended)
                    self.assertEqual(self.reader.feed(AXIS), [])

    def test_empty(self) -> None:
        """
        A part may be empty.
        """
        self.assert_bodies(
            b"--myboundary\r\nContent-Length: 0\r\n\r\n\r\n--myboundary\r\n\r\n\r\n--myboundary--", [b"", b""]
        )

    @given(st.data())
    def test_any_split(self, data: st.DataObject) -> None:
        """
        Whatever the bodies, and however the stream is cut, what was written is read.
        """
        body = st.binary(max_size=50) | st.text("-\r\nmybound\xff", max_size=30).map(str.encode)
        written = data.draw(st.lists(body, max_size=5))
        stream = b"".join(map(write_part, written)) + b"--" + BOUNDARY + b"--"
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
        reader = PartReader(CONTENT_TYPE)
        pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        self.assertEqual(bodies(part for piece in pieces for part in reader.feed(piece)), written)
        self.assertTrue(reader.ended)

    @given(
        st.lists(st.binary(max_size=40).filter(lambda body: b"myboundary" not in body), max_size=5), st.integers(1, 9)
    )
    def test_any_body_without_length(self, written: list[bytes], at_once: int) -> None:
        """
        So is what was written without lengths.
        """
        stream = b"".join(b"--myboundary\r\n\r\n" + body + b"\r\n" for body in written) + b"--myboundary--"
        self.assertEqual(bodies(self.read(stream, at_once=at_once)), written)

    def test_each_byte_once(self) -> None:
        """
        A long part without a length that arrives in small pieces is looked at once, not with each piece again.
        """
        reader = PartReader(TYPE)
        reader.feed(b"--myboundary\r\n\r\n")
        for _ in range(200_000):
            reader.feed(b"-------------------x")
        self.assertEqual(len(reader.feed(b"\r\n--myboundary\r\n")[0].body), 4_000_000)


class ErrorTests(SynchronousTestCase):
    def refused(self, data: bytes, words: str, **limits: int) -> None:
        """Assert that a stream is refused, all at once and byte by byte, with these words."""
        for size in (len(data), 1):
            reader = PartReader(TYPE, **limits)

            def feed(reader: PartReader = reader, size: int = size) -> None:
                for at in range(0, len(data), size):
                    reader.feed(data[at : at + size])
                reader.feed(b"")

            self.assertIn(words, str(self.assertRaises(RemoteProtocolError, feed)))
            self.assertRaises(RemoteProtocolError, reader.feed, b"--myboundary\r\n")

    def test_type(self) -> None:
        """
        What is no stream in parts, or names no boundary, is refused with what it is.
        """
        for content_type, words in (
            ("text/html", "the answer is 'text/html', no stream of images"),
            ("", "the answer is ''"),
            ("multipart/x-mixed-replace", "names no boundary"),
            ("multipart/x-mixed-replace; boundary=", "names no boundary"),
            ('multipart/x-mixed-replace; boundary=""', "names no boundary"),
        ):
            with self.subTest(content_type=content_type):
                self.assertIn(words, str(self.assertRaises(RemoteProtocolError, PartReader, content_type)))

    def test_no_header(self) -> None:
        """
        A line among the headers that is none is refused.
        """
        self.refused(b"--myboundary\r\nContent-Type\r\n", "b'Content-Type' is no header of a part")
        self.refused(b"--myboundary\r\n: x\r\n", "b': x' is no header of a part")

    def test_length(self) -> None:
        """
        A length that is none is refused, and one over the limit as soon as it is announced.
        """
        for length in ("-5", "abc", "", "1_0", "\u00b2"):
            with self.subTest(length=length):
                self.refused(f"--myboundary\r\nContent-Length: {length}\r\n\r\n".encode("latin-1"), "Content-Length is")
        self.refused(
            b"--myboundary\r\nContent-Length: 11\r\n\r\n", "a part has 11 bytes, over the limit of 10", part_limit=10
        )
        self.refused(b"--myboundary\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", "over the limit of")

    def test_no_end(self) -> None:
        """
        A part that does not end within the limit is refused.
        """
        self.refused(b"--myboundary\r\n\r\n" + b"x" * 100, "a part has no end within the limit of 10", part_limit=10)
        self.refused(b"--myboundary\r\n\r\n" + b"x" * 11 + b"\r\n--myboundary\r\n", "a part has no end", part_limit=10)
        self.assertEqual(
            bodies(PartReader(TYPE, part_limit=10).feed(b"--myboundary\r\n\r\n" + b"x" * 10 + b"\r\n--myboundary\r\n")),
            [b"x" * 10],
        )

    def test_headers_without_end(self) -> None:
        """
        So are headers, in one line or in many, and a text before the first boundary.
        """
        for data, words in (
            (b"--myboundary\r\n" + b"A: b\r\n" * 30, "100 bytes without the end of a part's headers"),
            (b"--myboundary\r\nA: " + b"b" * 100, "100 bytes without the end of a part's headers: b'A: bbb"),
            (b"x\r\n" * 50, "100 bytes without the boundary between two parts"),
            (b"x" * 101, "100 bytes without the boundary between two parts"),
        ):
            with self.subTest(data=data):
                self.refused(data, words, header_limit=100)

    def test_wrong_length(self) -> None:
        """
        A part that is longer than it says is refused: nothing but the boundary may follow.
        """
        self.refused(
            b"--myboundary\r\nContent-Length: 2\r\n\r\nabcd\r\n--myboundary\r\n",
            "b'cd' stands where the boundary b'--myb",
        )

    def test_parts_before(self) -> None:
        """
        The parts before what is wrong are not lost with it.
        """
        reader = PartReader(TYPE)
        self.assertEqual(reader.feed(AXIS + b"rubbish\r\n"), AXIS_PARTS)
        self.assertRaises(RemoteProtocolError, reader.feed, b"")

    @given(st.text("-my \r\n:boundaryContent-Length: 1\xff", max_size=200).map(lambda text: text.encode("latin-1")))
    def test_anything(self, data: bytes) -> None:
        """
        No bytes raise anything else.
        """
        reader = PartReader(TYPE, part_limit=20, header_limit=40)
        try:
            reader.feed(b"--myboundary\r\n" + data)
            reader.feed(data)
        except RemoteProtocolError:
            pass


class WriteTests(SynchronousTestCase):
    def test_literal(self) -> None:
        """
        A part is written as an Axis camera does.
        """
        self.assertEqual(write_part(b"\xff\xd8\xff\xd9") + write_part(b"\xff\xd8--\xff\xd9"), AXIS)
        self.assertEqual(CONTENT_TYPE, TYPE)

    def test_headers(self) -> None:
        """
        A part may have another type, more headers, and no length.
        """
        head = b"--myboundary\r\nContent-Type: text/html\r\n"
        self.assertEqual(write_part(b"ab", "text/html"), head + b"Content-Length: 2\r\n\r\nab\r\n")
        self.assertEqual(write_head(None, "text/html", {"X-Angle": "1.5"}), head + b"X-Angle: 1.5\r\n\r\n")
