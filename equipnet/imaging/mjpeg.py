"""
Motion JPEG: a stream of images as the parts of one endless ``multipart/x-mixed-replace`` body, read and written without
any I/O.

The grammar is that of RFC 2046, 5.1.1, with the liberties that cameras take: no blank line before the first boundary,
bare line feeds, a boundary that is announced with the dashes before it, and a length for each part or none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from equipnet.errors import RemoteProtocolError

#: Bytes that a part may have, and its headers or what stands between two parts.
PART_LIMIT, HEADER_LIMIT = 32 << 20, 8192

#: The boundary that Axis cameras use (VAPIX, video streaming).
BOUNDARY = b"myboundary"

#: The type of a whole stream that `write_part` writes the parts of.
CONTENT_TYPE = f"multipart/x-mixed-replace; boundary={BOUNDARY.decode()}"

_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"([^"]*)"|([^\s;"]+))', re.IGNORECASE)

#: Blanks that may stand behind a boundary, at most.
_PADDING = 100


@dataclass(frozen=True)
class Part:
    """
    One part of a stream.

    Parameters
    ----------
    headers
        Their values by their names in small letters.
    body
        The image.
    """

    headers: Mapping[str, str]
    body: bytes = field(repr=False)


def write_part(body: bytes, content_type: str = "image/jpeg", headers: Mapping[str, str] = {}) -> bytes:
    """Give one part of a stream as bytes, the boundary before it included."""
    return b"".join((write_head(len(body), content_type, headers), body, b"\r\n"))


def write_head(length: int | None, content_type: str = "image/jpeg", headers: Mapping[str, str] = {}) -> bytes:
    """Give what stands before the image of a part; its length is not told where it is None."""
    lines = [f"--{BOUNDARY.decode()}", f"Content-Type: {content_type}"]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class PartReader:
    """
    Reads a stream as it arrives, each byte once.

    Parameters
    ----------
    content_type
        The ``Content-Type`` of the whole stream, which names the boundary.
    part_limit, header_limit
        Bytes that a part may have, and its headers or what stands between two parts.

    Attributes
    ----------
    ended
        Whether the closing boundary has come; what stands behind it is passed over.

    Raises
    ------
    RemoteProtocolError
        When it is not the type of such a stream.
    """

    def __init__(self, content_type: str, *, part_limit: int = PART_LIMIT, header_limit: int = HEADER_LIMIT) -> None:
        announced = _announced(content_type)
        # Some announce it with the dashes that stand before it, some without; some of those then send four.
        self._name = announced.lstrip(b"-") or announced
        self._dashes = len(announced) - len(self._name)
        self._mark = b"--" + self._name
        self._part_limit = part_limit
        self._header_limit = header_limit
        self._buffer = bytearray()
        # So much of the buffer has been looked at.
        self._seen = 0
        self._left = header_limit
        self._headers: dict[str, str] = {}
        self._length = 0
        self._parts: list[Part] = []
        self._count = 0
        self._error: RemoteProtocolError | None = None
        self._step: Callable[[], bool] = self._read_boundary
        self.ended = False

    def feed(self, data: bytes) -> list[Part]:
        """
        Give the parts that are complete with these bytes.

        Raises
        ------
        RemoteProtocolError
            When the bytes are no such stream, or go over a limit. Parts that came before are given first; then the next
            call raises. Nothing can be read afterwards.
        """
        if self._error is not None:
            raise self._error
        if self.ended:
            return []
        self._buffer += data
        parts: list[Part] = []
        self._parts = parts
        try:
            while not self.ended and self._step():
                pass
        except RemoteProtocolError as error:
            self._error = error
            if not parts:
                raise
        if self.ended:
            self._buffer.clear()
        return parts

    # The steps; each tells whether the next one can be made with what there is.

    def _read_boundary(self) -> bool:
        line = self._line("the boundary between two parts")
        if line is None:
            # The last one may stand at the very end.
            self.ended = self._closes(bytes(self._buffer[: len(self._mark) + self._dashes + 2]))
            return False
        if self._opens(line):
            self._left = self._header_limit
            self._headers = {}
            self._step = self._read_header
        elif self._closes(line):
            self.ended = True
        elif line.strip() and self._count:
            raise RemoteProtocolError(f"{line[:60]!r} stands where the boundary {self._mark!r} should", line[:60])
        return True

    def _read_header(self) -> bool:
        line = self._line("the end of a part's headers")
        if line is None:
            return False
        if line:
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or not name.strip():
                raise RemoteProtocolError(f"{line[:60]!r} is no header of a part", line[:60])
            self._headers[name.strip().lower()] = value.strip()
            return True
        length = self._headers.get("content-length")
        if length is None:
            self._step = self._read_unknown
            return True
        if not (length.isascii() and length.isdigit()):
            raise RemoteProtocolError(f"a part's Content-Length is {length[:60]!r}")
        self._length = int(length[:20])
        if self._length > self._part_limit:
            raise RemoteProtocolError(f"a part has {length[:20]} bytes, over the limit of {self._part_limit}")
        self._step = self._read_known
        return True

    def _read_known(self) -> bool:
        if len(self._buffer) < self._length:
            return False
        self._take(self._length, self._length)
        return True

    def _read_unknown(self) -> bool:
        buffer, mark = self._buffer, self._mark
        at = buffer.find(mark, self._seen)
        if at < 0:
            self._seen = max(0, len(buffer) - len(mark) + 1)
            self._check_size(self._seen)
            return False
        behind = at + len(mark)
        end = buffer.find(b"\n", behind, behind + _PADDING)
        if end < 0 and len(buffer) < behind + _PADDING and buffer[behind : behind + 2] != b"--":
            # Whether this is a boundary is seen when its line ends.
            self._seen = at
            self._check_size(at)
            return False
        line = bytes(buffer[at : end if end >= 0 else behind + 2])
        if not (self._opens(line) or self._closes(line)):
            self._seen = at + 1
            return True
        # The line end before a boundary belongs to it.
        start = at
        while start and at - start < self._dashes and buffer[start - 1] == 0x2D:
            start -= 1
        size = start
        if size and buffer[size - 1] == 0x0A:
            size -= 1
            if size and buffer[size - 1] == 0x0D:
                size -= 1
        self._check_size(size)
        self._take(size, start)
        return True

    # What the steps share

    def _line(self, waiting_for: str) -> bytes | None:
        """Take a line out of the buffer, without its end; None when it has not come yet."""
        end = self._buffer.find(b"\n", self._seen)
        used = len(self._buffer) if end < 0 else end + 1
        if used > self._left:
            start = bytes(self._buffer[:60])
            raise RemoteProtocolError(f"{self._header_limit} bytes without {waiting_for}: {start!r}", start)
        if end < 0:
            self._seen = used
            return None
        line = bytes(self._buffer[:end]).rstrip(b"\r")
        del self._buffer[:used]
        self._left -= used
        self._seen = 0
        return line

    def _take(self, size: int, used: int) -> None:
        """Take a part of ``size`` bytes out of the buffer, and ``used`` bytes in all."""
        with memoryview(self._buffer) as view:
            body = bytes(view[:size])
        del self._buffer[:used]
        self._parts.append(Part(self._headers, body))
        self._count += 1
        self._seen = 0
        self._left = self._header_limit
        self._step = self._read_boundary

    def _check_size(self, size: int) -> None:
        if size > self._part_limit:
            raise RemoteProtocolError(f"a part has no end within the limit of {self._part_limit} bytes")

    def _opens(self, line: bytes) -> bool:
        line = line.rstrip()
        dashes = line[: -len(self._name)]
        return line.endswith(self._mark) and not dashes.strip(b"-")

    def _closes(self, line: bytes) -> bool:
        line = line.rstrip()
        return line.endswith(b"--") and self._opens(line[:-2])


def _announced(content_type: str) -> bytes:
    kind, _, _ = content_type.partition(";")
    if not kind.strip().lower().startswith("multipart/"):
        raise RemoteProtocolError(f"the answer is {content_type[:60]!r}, no stream of images in parts")
    found = _BOUNDARY.search(content_type)
    name = (found[1] or found[2] or "") if found else ""
    if not name.strip() or len(name) > 100:
        raise RemoteProtocolError(f"{content_type[:60]!r} names no boundary")
    return name.strip().encode("latin-1", "replace")
