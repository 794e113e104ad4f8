"""An image as a camera posted it, with all that is known about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

#: What proves who a client is, and is nobody else's business.
_SECRETS = frozenset((b"authorization", b"proxy-authorization", b"cookie"))


class HeaderFields(Mapping[str, str]):
    """
    The header fields of a request, by name in any letter case; without those that prove who the client is.

    Parameters
    ----------
    fields
        The values by the name in small letters.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[bytes, Sequence[bytes]]) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        key = name.lower().encode("latin-1", "replace")
        if key in _SECRETS or key not in self._fields:
            raise KeyError(name)
        return b", ".join(self._fields[key]).decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._fields if name not in _SECRETS)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))


class ReceivedImage(NamedTuple):
    """
    An image as a camera posted it.

    Parameters
    ----------
    data
        The whole image, encoded.
    content_type
        What it is: ``"image/jpeg"`` or ``"image/png"``.
    width, height
        In pixels.
    path
        To which it was posted, without the query: ``"/camera1"``.
    headers
        The header fields of the request.
    peer
        Who posted it.
    received_at
        When its last byte came, in seconds since 1970-01-01 UTC.
    sequence
        Counts the images that this receiver accepted, from 1.
    query
        What stood behind the path and a ``?``, else empty.
    """

    data: bytes
    content_type: str
    width: int
    height: int
    path: str
    headers: Mapping[str, str]
    peer: str
    received_at: float
    sequence: int
    query: str = ""

    def __repr__(self) -> str:
        return (
            f"<ReceivedImage {self.sequence} of {self.path}: {self.content_type}, {self.width} x {self.height}, "
            f"{len(self.data)} bytes>"
        )
