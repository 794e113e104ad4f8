"""
SECS-II items (SEMI E5): what every format has in common, lists, and how items become bytes.

An item is a value that cannot change. It is either a list of items, or an array of numbers, truth values, bytes or
characters whose content is held as it stands on the wire. Nothing here calls itself, so that no depth of lists
overflows the stack.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import length_hint
from typing import TYPE_CHECKING, Any, ClassVar, overload

from equipnet.errors import EquipmentError, LocalProtocolError, RemoteProtocolError

if TYPE_CHECKING:
    from typing_extensions import Self

#: The most bytes in an array and the most items in a list: a length has at most three bytes (E5, item header).
LENGTH_LIMIT = 16_777_215

#: So many lists in one another are read unless told otherwise. E5 has no limit; real messages stay below ten.
DEFAULT_DEPTH = 64

# A repr shows no more items than these.
_REPR_ITEMS = 100

# Deeper lists are not indented further when printed, so that the text does not grow with the square of the depth.
_INDENT_LIMIT = 64


class DecodeError(RemoteProtocolError):
    """
    Bytes are not one SECS-II item (equipment answers them with S9F7).

    Parameters
    ----------
    message
        What is wrong, with the offset.
    offset
        Of the item or byte that is wrong, from the beginning of the message text.
    data
        The message text.
    """

    def __init__(self, message: str, offset: int, data: bytes) -> None:
        super().__init__(message, data)
        self.offset = offset


class NestedTooDeep(DecodeError):
    """More lists are in one another than the limit allows; the item may be right otherwise."""


class NotOneValue(EquipmentError, ValueError):
    """An array was asked for its one value, and has none or several."""


class UndecodableText(RemoteProtocolError, ValueError):
    """The bytes of a text are not in the encoding that was asked for, or that encoding is unknown here."""


class Item:
    """
    One SECS-II item; each format of E5 is a subclass.

    Two items are equal when they are of the same format and the same bytes on the wire. A NaN is therefore equal to
    itself, and ``F4(0.0)`` is not ``F4(-0.0)``. In which encoding a text is read makes no difference.
    """

    __slots__ = ()

    #: The format code of E5, which writes it in octal.
    code: ClassVar[int]

    # The item header for each length that fits into one byte.
    _headers: ClassVar[tuple[bytes, ...]]

    def __init_subclass__(cls, code: int | None = None) -> None:
        super().__init_subclass__()
        if code is not None:
            cls.code = code
            cls._headers = tuple(bytes((code << 2 | 1, length)) for length in range(256))

    @abstractmethod
    def __len__(self) -> int:
        """How many items, values or bytes of text there are."""

    @abstractmethod
    def __getitem__(self, index: Any) -> Any: ...

    @abstractmethod
    def __iter__(self) -> Iterator[Any]: ...

    @property
    @abstractmethod
    def value(self) -> Any:
        """The items of a list, the one value of an array, the characters of a text."""

    def to_bytes(self) -> bytes:
        """What goes over the wire. Lengths have as few bytes as they need."""
        pieces: list[bytes | memoryview] = []
        encode_into(self, pieces)
        return b"".join(pieces)

    def to_sml(self) -> str:
        """
        This item in SML, without an end of line after it; `item_from_sml` reads it back to an equal item.

        Every item has a line and begins with its length. Bytes of a text that cannot be printed stand beside the quoted
        ones as ``0x0A``.
        """
        lines: list[str] = []
        open_lists: list[Iterator[Item]] = [iter((self,))]
        while open_lists:
            indent = "  " * min(len(open_lists) - 1, _INDENT_LIMIT)
            for item in open_lists[-1]:
                if isinstance(item, L):
                    lines.append(f"{indent}<L [{len(item)}]")
                    open_lists.append(iter(item.value))
                    break
                assert isinstance(item, ArrayItem)
                lines.append(f"{indent}<{type(item).__name__} {item._sml()}>")
            else:
                open_lists.pop()
                if open_lists:
                    lines.append(indent[2:] + ">" if len(open_lists) <= _INDENT_LIMIT else indent + ">")
        return "\n".join(lines)

    def __repr__(self) -> str:
        pieces: list[str] = []
        open_lists: list[Iterator[tuple[int, Item]]] = [iter(((0, self),))]
        shown = 0
        while open_lists:
            for position, item in open_lists[-1]:
                if position:
                    pieces.append(", ")
                if shown == _REPR_ITEMS:
                    return "".join(pieces) + "..." + ")" * (len(open_lists) - 1)
                shown += 1
                if isinstance(item, L):
                    pieces.append("L(")
                    open_lists.append(iter(enumerate(item.value)))
                    break
                assert isinstance(item, ArrayItem)
                pieces.append(f"{type(item).__name__}({item._repr()})")
            else:
                open_lists.pop()
                if open_lists:
                    pieces.append(")")
        return "".join(pieces)


class L(Item, code=0o00):
    """
    A list of items.

    Parameters
    ----------
    items
        The items themselves, or one iterable of them: ``L(U4(1), A("x"))``, ``L([U4(1), A("x")])``.

    Raises
    ------
    LocalProtocolError
        When something is not an item, or there are more than `LENGTH_LIMIT`.
    """

    __slots__ = ("_items",)

    _items: tuple[Item, ...]

    @overload
    def __init__(self, *items: Item) -> None: ...
    @overload
    def __init__(self, items: Iterable[Item], /) -> None: ...
    def __init__(self, *items: Any) -> None:
        if len(items) == 1 and not isinstance(items[0], Item):
            check_length(length_hint(items[0]), "items")
            if isinstance(items[0], Iterable):
                items = tuple(islice(items[0], LENGTH_LIMIT + 1))
        if not _LISTED.issuperset(map(type, items)):
            wrong = next(item for item in items if type(item) not in _LISTED)
            raise LocalProtocolError(f"A list holds SECS-II items, not {wrong!r}")
        check_length(len(items), "items")
        self._items = items

    @property
    def value(self) -> tuple[Item, ...]:
        """The items."""
        return self._items

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> L: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return L(*self._items[index])
        return self._items[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Item):
            return NotImplemented
        if not isinstance(other, L):
            return False
        pairs = [(self._items, other._items)]
        while pairs:
            mine, theirs = pairs.pop()
            if len(mine) != len(theirs):
                return False
            for one, two in zip(mine, theirs, strict=True):
                if one is two:
                    continue
                if isinstance(one, L) and isinstance(two, L):
                    pairs.append((one._items, two._items))
                elif isinstance(one, L) or one != two:
                    return False
        return True

    def __hash__(self) -> int:
        return hash(self.to_bytes())


class ArrayItem(Item):
    """Any item but a list: an array of any length, also of none, held as its bytes on the wire."""

    __slots__ = ("_content",)

    # Read-only, also as a memoryview, of format "B". After decoding it may be a view of the whole message.
    _content: bytes | memoryview

    @classmethod
    def _of(cls, content: bytes | memoryview) -> Self:
        """An item of content that is known to be right."""
        item = cls.__new__(cls)
        item._content = content
        return item

    @property
    def content(self) -> bytes:
        """The bytes of the values or characters, big-endian; what the wire has after the item header."""
        return bytes(self._content)

    @property
    def view(self) -> memoryview:
        """The same bytes as a read-only view, which is never a copy."""
        return memoryview(self._content)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Item):
            return NotImplemented
        return isinstance(other, type(self)) and self._content == other._content

    def __hash__(self) -> int:
        return hash((self.code, bytes(self._content)))

    @abstractmethod
    def _sml(self) -> str:
        """What SML has between the format and the end of the item."""

    @abstractmethod
    def _repr(self) -> str:
        """The arguments that make an equal item, abridged where they are many."""


# The classes an item of a list can have: the formats' own, which the modules that define them add.
_LISTED: set[type] = {L}


def listable(format_class: type[ArrayItem]) -> type[ArrayItem]:
    """Declare the class of a format."""
    _LISTED.add(format_class)
    return format_class


def check_length(length: int, what: str = "bytes") -> None:
    """Refuse what is too long for any item."""
    if length > LENGTH_LIMIT:
        raise LocalProtocolError(f"An item has at most {LENGTH_LIMIT} {what}, not {length}")


def encode_into(item: Item, pieces: list[bytes | memoryview]) -> None:
    """
    Append to a list the pieces that, joined, are the item on the wire.

    For whoever adds more before or after them, so that a large body is copied only once, by their join.
    """
    append = pieces.append
    open_lists: list[Iterator[Item]] = [iter((item,))]
    while open_lists:
        for item in open_lists[-1]:
            if item.__class__ is L:
                items = item._items
                length = len(items)
                append(item._headers[length] if length < 256 else _long_header(item, length))
                open_lists.append(iter(items))
                break
            content = item._content  # type: ignore[attr-defined]  # there are only lists and arrays
            length = len(content)
            append(item._headers[length] if length < 256 else _long_header(item, length))
            append(content)
        else:
            open_lists.pop()


def _long_header(item: Item, length: int) -> bytes:
    """An item header with two or three length bytes."""
    if length < 65_536:
        return bytes((item.code << 2 | 2, length >> 8, length & 0xFF))
    return bytes((item.code << 2 | 3, length >> 16, length >> 8 & 0xFF, length & 0xFF))
