"""What an HTTP client says before a body, and what is answered in short: bytes and frozen values, no sockets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus

# RFC 9112, sections 3 and 5, without the obsolete folding of lines. A target may hold any byte that is no blank and no
# control character. Blanks around a value are not left to the expression, which would try each way to divide them.
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([^\x00-\x20\x7f]+) (HTTP/1\.[01])(?=\r\n|\Z)")
_FIELD = re.compile(rb"\r\n([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\x00\r\n]*)(?=\r\n|\Z)")
_URL = re.compile(rb"https?://[^/?]+", re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    """
    A short answer to a request.

    Parameters
    ----------
    status
        The HTTP status.
    text
        One line for whoever reads it; none in an answer without content.
    headers
        More header fields.
    """

    status: int
    text: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def body(self) -> bytes:
        """The text as it is sent."""
        return f"{self.text}\n".encode() if self.text else b""

    @lru_cache(maxsize=256)  # noqa: B019  # answers are few and small
    def to_bytes(self, close: bool = False, head: bool = False) -> bytes:
        """
        Give the answer as it is sent.

        Parameters
        ----------
        close
            Whether the connection ends with it.
        head
            Whether it answers a HEAD request, and leaves the text away.
        """
        body = self.body
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if body:
            lines.append("Content-Type: text/plain; charset=utf-8")
        if self.status != HTTPStatus.NO_CONTENT:
            lines.append(f"Content-Length: {len(body)}")
        if close:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode() + (b"" if head else body)


class Refused(Exception):
    """A request cannot be taken; the argument is the `Answer` that says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self.answer = answer


@dataclass
class Head:
    """
    The head of a request: what stands before its body.

    Parameters
    ----------
    method, target, version
        The words of the request line; of a URL as the target only the path and the query.
    fields
        The values of each header field, by its name in small letters.
    length
        The bytes that the body will have; 0 where nothing announces one, None for a body in chunks.
    """

    method: bytes
    target: bytes
    version: bytes
    fields: Mapping[bytes, Sequence[bytes]]
    length: int | None = 0

    @classmethod
    def from_bytes(cls, data: bytes) -> Head:
        """
        Read a head, without the empty line behind it.

        Raises
        ------
        Refused
            When it is malformed.
        """
        found = _REQUEST_LINE.match(data)
        if found is None:
            first = data.partition(b"\r\n")[0]
            raise Refused(Answer(400, f"the first line is not that of an HTTP/1.1 request: {_shown(first)}"))
        said = _FIELD.findall(data, found.end())
        if len(said) != data.count(b"\r\n"):
            raise Refused(Answer(400, _what_is_wrong(data)))
        fields: dict[bytes, list[bytes]] = {}
        for name, value in said:
            fields.setdefault(name.lower(), []).append(value.strip(b" \t"))
        length = _length(fields.get(b"content-length"), fields.get(b"transfer-encoding"))
        target = found[2]
        if not target.startswith(b"/"):
            target = _path_of_url(target)
        return cls(found[1], target, found[3], fields, length)

    def first(self, name: bytes) -> bytes:
        """Give the first value of a header field, empty where there is none."""
        return self.fields.get(name, (b"",))[0]

    def expects_continue(self) -> bool:
        """Tell whether the client waits for our consent before it sends the body (RFC 9110, section 10.1.1)."""
        return self.version == b"HTTP/1.1" and self.first(b"expect").lower() == b"100-continue"

    def keeps_alive(self) -> bool:
        """Tell whether the client may send another request on the connection (RFC 9112, section 9.3)."""
        said = self.fields.get(b"connection")
        if said is not None and b"close" in b",".join(said).lower().replace(b" ", b"").split(b","):
            return False
        return self.version == b"HTTP/1.1"


def too_long(limit: int) -> Answer:
    """Give the answer to a body of more than ``limit`` bytes."""
    return Answer(413, f"the body is longer than {limit} bytes")


def _length(lengths: Sequence[bytes] | None, codings: Sequence[bytes] | None) -> int | None:
    # RFC 9112, section 6.3: what could be read in two ways is refused, since that hides one request in another.
    if codings is not None:
        if lengths is not None:
            raise Refused(Answer(400, "Content-Length and Transfer-Encoding cannot both be there"))
        if [each.lower() for each in codings] != [b"chunked"]:
            raise Refused(Answer(501, f"the transfer coding is not known: {_shown(b', '.join(codings))}"))
        return None
    if lengths is None:
        return 0
    # Fewer digits than Python refuses to convert, and more than any body has.
    if len(lengths) > 1 or not lengths[0].isdigit() or len(lengths[0]) > 18:
        raise Refused(Answer(400, f"Content-Length is not a number of bytes: {_shown(b', '.join(lengths))}"))
    return int(lengths[0])


def _what_is_wrong(head: bytes) -> str:
    """Say what the first malformed line of a header lacks; not what stands there, which may be a secret."""
    number, line = next(
        (number, line)
        for number, line in enumerate(head.split(b"\r\n"), 1)
        if number > 1 and not _FIELD.fullmatch(b"\r\n" + line)
    )
    if line[:1] in (b" ", b"\t"):
        why = "goes on with the one before, which HTTP/1.1 does not allow"
    elif re.search(rb"[\x00\r\n]", line):
        why = "has a control character in it"
    else:
        why = "does not begin with a name and a colon"
    return f"line {number} of the header {why}"


def _path_of_url(target: bytes) -> bytes:
    # RFC 9112, section 3.2: a server must take a whole URL as well; "*" is for OPTIONS.
    found = _URL.match(target)
    if found is None and target != b"*":
        raise Refused(Answer(400, f"the target is neither a path nor a URL: {_shown(target)}"))
    if found is None:
        return target
    rest = target[found.end() :]
    return rest if rest.startswith(b"/") else b"/" + rest


def _shown(data: bytes) -> str:
    """Write some bytes of a client for its eyes and the log's, shortly and in ASCII."""
    return ascii(data[:60].decode("latin-1"))
