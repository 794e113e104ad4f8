"""
SECS-II messages (SEMI E5) as values: stream, function, whether a reply is wanted, and an item.

What carries a message adds a header of its own (session id, system bytes), which is no business of the message.
"""

from __future__ import annotations

from typing import Any, NoReturn

from equipnet.errors import LocalProtocolError
from equipnet.secs.item import Item, encode_into


class Message:
    """
    One message. It does not change; equal parts make equal messages.

    Parameters
    ----------
    stream
        0 to 127.
    function
        0 to 255. Primaries have odd ones; a reply has the next even one, or 0 when the transaction is aborted.
    wait
        Whether a reply is wanted (the W-bit).
    item
        The text. None for a message that is a header alone, which is not the same as one with an empty list: ask for
        ``message.item is None``, since an empty list is as false as Python's own.

    Raises
    ------
    LocalProtocolError
        When a number is out of range, when a reply to a reply is wanted, and when the item is none.
    """

    __slots__ = ("function", "item", "stream", "wait")

    stream: int
    function: int
    wait: bool
    item: Item | None

    def __init__(self, stream: int, function: int, wait: bool = False, item: Item | None = None) -> None:
        if not 0 <= stream <= 127:
            raise LocalProtocolError(f"A stream is from 0 to 127, not {stream!r}")
        if not 0 <= function <= 255:
            raise LocalProtocolError(f"A function is from 0 to 255, not {function!r}")
        if wait and not function & 1:
            raise LocalProtocolError(f"S{stream}F{function} is a reply, and wants none")
        if item is not None and not isinstance(item, Item):
            raise LocalProtocolError(f"A message holds a SECS-II item, not {item!r:.80}")
        _set_stream(self, stream)
        _set_function(self, function)
        _set_wait(self, bool(wait))
        _set_item(self, item)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"A message does not change; make another one to have a different {name}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"A message keeps its {name}")

    @property
    def is_primary(self) -> bool:
        """Whether this begins a transaction; otherwise it is a reply or an abort."""
        return bool(self.function & 1)

    def reply(self, item: Item | None = None) -> Message:
        """
        The reply to this primary.

        Raises
        ------
        LocalProtocolError
            When this is no primary, or S?F255, which has no reply.
        """
        if not self.function & 1:
            raise LocalProtocolError(f"{self} is a reply, and has none")
        return Message(self.stream, self.function + 1, False, item)

    def abort(self) -> Message:
        """What is answered to this primary when there will be no reply: function 0 of its stream."""
        if not self.function & 1:
            raise LocalProtocolError(f"{self} is a reply; there is nothing to abort")
        return Message(self.stream, 0)

    def to_bytes(self) -> bytes:
        """The text of the message: its item on the wire, or nothing."""
        return b"" if self.item is None else self.item.to_bytes()

    def encode_into(self, pieces: list[bytes | memoryview]) -> None:
        """Append the pieces of the text to a list, whose join then copies a large body for the only time."""
        if self.item is not None:
            encode_into(self.item, pieces)

    def to_sml(self) -> str:
        """
        The message in SML, without an end of line after its last one; `message_from_sml` reads it back.

        Several messages, with an end of line between them, are what `messages_from_sml` reads.
        """
        return f"{self}\n." if self.item is None else f"{self}\n{self.item.to_sml()}\n."

    def __str__(self) -> str:
        return f"S{self.stream}F{self.function} W" if self.wait else f"S{self.stream}F{self.function}"

    def __repr__(self) -> str:
        wait = ", wait=True" if self.wait else ""
        item = "" if self.item is None else f", item={self.item!r}"
        return f"{type(self).__name__}({self.stream}, {self.function}{wait}{item})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return (
            self.stream == other.stream
            and self.function == other.function
            and self.wait == other.wait
            and self.item == other.item
        )

    def __hash__(self) -> int:
        return hash((self.stream, self.function, self.wait, self.item))


# How `__init__` sets what nobody else can.
_set_stream: Any = Message.__dict__["stream"].__set__
_set_function: Any = Message.__dict__["function"].__set__
_set_wait: Any = Message.__dict__["wait"].__set__
_set_item: Any = Message.__dict__["item"].__set__
