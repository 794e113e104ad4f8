"""Tests of the walk through an image's header."""

from __future__ import annotations

from io import BytesIO

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from twisted.trial.unittest import SynchronousTestCase

from equipnet.imaging.jpeg import JPEG, MARKER_LIMIT, PADDING_LIMIT, PNG, Header, NotAnImage, read_header

# ITU-T T.81: SOI, an APP0 segment of 4 bytes, SOF0 of a grey image of 3 lines with 5 samples, SOS, some data, EOI.
START = bytes.fromhex("ffd8 ffe0 0004 4a46")
FRAME = bytes.fromhex("ffc0 000b 08 0003 0005 01 01 11 00")
SCAN = bytes.fromhex("ffda 0008 01 01 00 00 3f 00  12 34 ff00 56 ffd9")
SMALL_JPEG = START + FRAME + SCAN

# The PNG specification, 11.2: signature, IHDR of 7 x 2 pixels, IEND.
SMALL_PNG = bytes.fromhex(
    "89504e470d0a1a0a 0000000d 49484452 00000007 00000002 08 00 00 00 00 00000000 00000000 49454e44 ae426082"
)


def drawn(form: str, size: tuple[int, int] = (64, 48), **options: object) -> bytes:
    """Give an image as Pillow writes it."""
    file = BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(file, form, **options)
    return file.getvalue()


class HeaderTests(SynchronousTestCase):
    def test_literal(self) -> None:
        """
        Width and height are those of the frame header, or of the header chunk.
        """
        self.assertEqual(read_header(SMALL_JPEG), Header(JPEG, 5, 3))
        self.assertEqual(read_header(SMALL_PNG), Header(PNG, 7, 2))

    def test_drawn(self) -> None:
        """
        Images that another library writes are read: baseline and progressive, with a thumbnail in front of the size.
        """
        exif = Image.Exif()
        exif[0x010E] = "gonio\xff\xd9"
        for data, content_type in (
            (drawn("JPEG"), JPEG),
            (drawn("JPEG", progressive=True), JPEG),
            (drawn("JPEG", exif=exif, comment=b"\xff\xc0 is no frame here"), JPEG),
            (drawn("PNG"), PNG),
        ):
            self.assertEqual(read_header(data), Header(content_type, 64, 48))

    def test_frames(self) -> None:
        """
        Each kind of frame gives the size; tables, which have markers between those of frames, do not.
        """
        for marker in (0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF):
            frame = bytes((0xFF, marker)) + FRAME[2:]
            self.assertEqual(read_header(START + frame + SCAN), Header(JPEG, 5, 3))
        for marker in (0xC4, 0xC8, 0xCC):
            table = bytes((0xFF, marker)) + bytes.fromhex("000b 08 0007 0007 01 01 11 00")
            self.assertEqual(read_header(START + table + FRAME + SCAN), Header(JPEG, 5, 3))

    def test_padding(self) -> None:
        """
        Bytes may fill the space between segments, and zeros or a line end that behind the image.
        """
        self.assertEqual(read_header(START + b"\xff" * 100 + FRAME + SCAN), Header(JPEG, 5, 3))
        self.assertEqual(read_header(START + b"\xff\x01\xff\xd3" + FRAME + SCAN), Header(JPEG, 5, 3))
        for image, header in ((SMALL_JPEG, Header(JPEG, 5, 3)), (SMALL_PNG, Header(PNG, 7, 2))):
            for padding in (b"\r\n", b"\0", b"\0" * PADDING_LIMIT):
                self.assertEqual(read_header(image + padding), header)
            for padding in (b"\0" * (PADDING_LIMIT + 1), b"\0x", b"\0" * 100_000):
                error = self.assertRaises(NotAnImage, read_header, image + padding)
                self.assertIn("the end of the image is missing behind", str(error))

    def test_wrong(self) -> None:
        """
        What is no whole image is refused with the reason.
        """
        for data, text in (
            (b"", "the body is empty"),
            (b"hello, world", "it begins with b'hello, w', neither as a JPEG nor as a PNG image"),
            (b"GIF89a", "it begins with b'GIF89a', neither as a JPEG nor as a PNG image"),
            (b"\xff\xd8", r"it begins with b'\xff\xd8', neither as a JPEG nor as a PNG image"),
            (b"\xff\xd8\xff\xd9", "the JPEG image has no frame header, which gives its size"),
            (START + SCAN, "the JPEG image has no frame header, which gives its size"),
            (START + b"\0" + FRAME + SCAN, "byte 8 of the JPEG header is 0x00, not the beginning of a marker"),
            (START + b"\xff\xe1\0\1" + FRAME, "segment 0xe1 at byte 8 of the JPEG header has no length"),
            (START + b"\xff\xe1\xff\xff" + FRAME + SCAN, "the JPEG header is cut after 42 bytes"),
            (START + FRAME[:8], "the JPEG header is cut after 16 bytes"),
            (SMALL_JPEG[:-2], f"the end of the image is missing behind {len(SMALL_JPEG) - 2} bytes"),
            (START + FRAME[:5] + b"\0\0" + FRAME[7:] + SCAN, "the image has 5 x 0 pixels"),
            (START + FRAME[:7] + b"\0\0" + FRAME[9:] + SCAN, "the image has 0 x 3 pixels"),
            (SMALL_PNG[:20], "the PNG header is cut after 20 bytes"),
            (SMALL_PNG[:12] + b"IDAT" + SMALL_PNG[16:], "the PNG image does not begin with its header chunk"),
            (SMALL_PNG[:-1], f"the end of the image is missing behind {len(SMALL_PNG) - 1} bytes"),
            (SMALL_PNG[:16] + bytes(4) + SMALL_PNG[20:], "the image has 0 x 2 pixels"),
        ):
            with self.subTest(data=data):
                self.assertEqual(str(self.assertRaises(NotAnImage, read_header, data)), text)

    def test_header_without_end(self) -> None:
        """
        A header of nothing but markers is not walked to its end, which may be megabytes away.
        """
        for piece in (b"\xff", b"\xff\x01", b"\xff\xe0\0\2"):
            data = b"\xff\xd8" + piece * (MARKER_LIMIT + 1) + FRAME + SCAN
            error = self.assertRaises(NotAnImage, read_header, data)
            self.assertEqual(str(error), f"the JPEG image has no frame header among its first {MARKER_LIMIT} markers")

    @given(st.data())
    def test_cut(self, data: st.DataObject) -> None:
        """
        An image that was cut anywhere is no whole image.
        """
        image = data.draw(st.sampled_from((SMALL_JPEG, SMALL_PNG, drawn("JPEG"), drawn("PNG"))))
        cut = data.draw(st.integers(0, len(image) - 1))
        self.assertRaises(NotAnImage, read_header, image[:cut])

    @given(st.binary(max_size=200), st.sampled_from((b"", b"\xff\xd8\xff", SMALL_PNG[:8])))
    def test_any(self, data: bytes, start: bytes) -> None:
        """
        Whatever the bytes are, they are an image with an area or they are refused.
        """
        try:
            header = read_header(start + data)
        except NotAnImage:
            return
        self.assertTrue(header.width and header.height)
