"""
What the header of a JPEG or PNG image says, found without decoding it, and whether the image is whole.

An image that was cut on its way is told by its end marker, which decoders overlook.
"""

from __future__ import annotations

from typing import NamedTuple

JPEG = "image/jpeg"
PNG = "image/png"

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"

# ITU-T T.81, table B.1: start of frame for all kinds of coding; C4, C8 and CC are other things.
_FRAMES = frozenset((*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)))
# Markers that stand alone, without a length: TEM and RST0 to RST7.
_ALONE = frozenset((0x01, *range(0xD0, 0xD8)))
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA

#: So many bytes of padding may stand behind an image; cameras that send in blocks fill up the last one.
PADDING_LIMIT = 4096

#: At most so many markers may stand before the one that gives the size. Real images have some dozens, of which a colour
#: profile can make 255.
MARKER_LIMIT = 4096


class NotAnImage(ValueError):
    """Bytes are not a whole JPEG or PNG image; the text says why."""


class Header(NamedTuple):
    """
    What an image says of itself.

    Parameters
    ----------
    content_type
        ``"image/jpeg"`` or ``"image/png"``.
    width, height
        In pixels.
    """

    content_type: str
    width: int
    height: int


def read_header(data: bytes) -> Header:
    """
    Give what a JPEG or PNG image says of itself.

    Parameters
    ----------
    data
        The whole image; up to `PADDING_LIMIT` zero bytes, or a line end, may stand behind it.

    Raises
    ------
    NotAnImage
        When it does not begin as one, when its header is damaged or gives it no area, or when its end is missing.
    """
    if data.startswith(b"\xff\xd8\xff"):
        header = _read_jpeg(data)
        end = b"\xff\xd9"
    elif data.startswith(_PNG_START):
        header = _read_png(data)
        end = _PNG_END
    elif not data:
        raise NotAnImage("the body is empty")
    else:
        raise NotAnImage(f"it begins with {data[:8]!r}, neither as a JPEG nor as a PNG image")
    if not data.endswith(end) and not data[-PADDING_LIMIT - len(end) :].rstrip(b"\0\r\n").endswith(end):
        raise NotAnImage(f"the end of the image is missing behind {len(data)} bytes")
    if not (header.width and header.height):
        raise NotAnImage(f"the image has {header.width} x {header.height} pixels")
    return header


def _read_jpeg(data: bytes) -> Header:
    at = 2
    try:
        for _ in range(MARKER_LIMIT):
            if data[at] != 0xFF:
                raise NotAnImage(f"byte {at} of the JPEG header is {data[at]:#04x}, not the beginning of a marker")
            marker = data[at + 1]
            if marker == 0xFF:  # padding before a marker
                at += 1
            elif marker in _ALONE:
                at += 2
            elif marker in _FRAMES:
                # Length, bits per sample, lines, samples per line.
                return Header(JPEG, data[at + 7] << 8 | data[at + 8], data[at + 5] << 8 | data[at + 6])
            elif marker in (_START_OF_SCAN, _END_OF_IMAGE):
                raise NotAnImage("the JPEG image has no frame header, which gives its size")
            else:
                length = data[at + 2] << 8 | data[at + 3]
                if length < 2:
                    raise NotAnImage(f"segment {marker:#04x} at byte {at} of the JPEG header has no length")
                at += 2 + length
    except IndexError:
        raise NotAnImage(f"the JPEG header is cut after {len(data)} bytes") from None
    raise NotAnImage(f"the JPEG image has no frame header among its first {MARKER_LIMIT} markers")


def _read_png(data: bytes) -> Header:
    # The PNG specification, clause 5.6: IHDR is the first chunk and has 13 bytes.
    if len(data) < 33:
        raise NotAnImage(f"the PNG header is cut after {len(data)} bytes")
    if data[8:16] != b"\0\0\0\x0dIHDR":
        raise NotAnImage("the PNG image does not begin with its header chunk")
    return Header(PNG, int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"))
