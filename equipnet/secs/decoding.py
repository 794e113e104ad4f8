"""
From bytes to SECS-II items (SEMI E5).

What a peer sends is taken only as far as its bytes reach: nothing is allocated for what a header announces. The content
of long arrays is not copied; it stays in the bytes that were received until somebody asks for it.
"""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn

from equipnet.secs.item import DEFAULT_DEPTH, DecodeError, Item, L, NestedTooDeep
from equipnet.secs.number import BOOLEAN, F4, F8, I1, I2, I4, I8, U1, U2, U4, U8, B, NumericItem
from equipnet.secs.text import C2, A, J, check_encoding

# Content up to this size is copied out of the message: cheaper than a view, and it does not keep the message alive.
_COPIED = 512


#: The class of every format of E5.
FORMATS: tuple[type[Item], ...] = (L, B, BOOLEAN, A, J, C2, I8, I1, I2, I4, F8, F4, U8, U1, U2, U4)


class _Format(NamedTuple):
    """What a format byte says."""

    format_class: type[Item]
    length_bytes: int
    mask: int  # the bits that a length may not have; all of them where content needs a closer look


_NO_FORMAT = _Format(L, 0, 0)
_LOOK = -1


def _formats(*looked_at: type[Item]) -> tuple[_Format, ...]:
    """The meaning of all 256 format bytes."""
    formats = [_NO_FORMAT] * 256
    for format_class in FORMATS:
        mask = 0
        if format_class in looked_at:
            mask = _LOOK
        elif issubclass(format_class, NumericItem):
            mask = format_class.dtype.itemsize - 1
        for length_bytes in (1, 2, 3):
            formats[format_class.code << 2 | length_bytes] = _Format(format_class, length_bytes, mask)
    return tuple(formats)


_FORMATS = _formats(BOOLEAN, C2)
_FORMATS_OTHER_TEXT = _formats(BOOLEAN, C2, A)


def decode(
    data: bytes | bytearray | memoryview, start: int = 0, *, max_depth: int = DEFAULT_DEPTH, encoding: str = "ascii"
) -> Item:
    """
    The item that bytes are.

    Parameters
    ----------
    data
        The text of one message. Items with long content are views of it when it is of type `bytes`; of anything else a
        copy is made first.
    start
        Where the text begins: 10 in an HSMS message with its header.
    max_depth
        How many lists may be in one another.
    encoding
        In which `A` items are read by their ``value``.

    Raises
    ------
    DecodeError
        When the text is empty, ends too early or too late, or something in it is not as E5 has it. The subclass
        NestedTooDeep tells that only the limit was passed. Nothing else is raised, whatever the bytes are.
    LocalProtocolError
        When the encoding is unknown.
    """
    if type(data) is not bytes:
        data = bytes(data)
    formats = _FORMATS
    if encoding != "ascii":
        check_encoding(encoding)
        formats = _FORMATS_OTHER_TEXT
    view = memoryview(data)
    size = len(data)
    new = object.__new__
    open_lists: list[tuple[list[Item], int]] = []  # the items so far, and how many are missing
    items: list[Item] = []
    missing = 1
    at = start
    try:
        while True:
            format_class, length_bytes, mask = formats[data[at]]
            if length_bytes == 1:
                length = data[at + 1]
                begin = at + 2
            elif length_bytes == 2:
                length = data[at + 1] << 8 | data[at + 2]
                begin = at + 3
            elif length_bytes == 3:
                length = data[at + 1] << 16 | data[at + 2] << 8 | data[at + 3]
                begin = at + 4
            else:
                _refuse_format(data, start, at)
            if format_class is L:
                if len(open_lists) >= max_depth:
                    _refuse_depth(data, start, at, max_depth)
                if length:
                    if 2 * length > size - begin:  # an item has two bytes at least
                        _refuse_list(data, start, at, length)
                    open_lists.append((items, missing))
                    items = []
                    missing = length
                    at = begin
                    continue
                items.append(_EMPTY_LIST)
                at = begin
            else:
                end = begin + length
                if end > size:
                    _refuse_end(data, start, at, length, size - begin)
                item: Any = new(format_class)
                if length & mask:
                    _look_closer(item, data, start, at, begin, end, encoding)
                elif length <= _COPIED:
                    item._content = data[begin:end]
                else:
                    item._content = view[begin:end]
                items.append(item)
                at = end
            missing -= 1
            while not missing:
                if not open_lists:
                    if at != size:
                        _refuse_rest(data, start, at)
                    return items[0]
                whole: Any = new(L)
                whole._items = tuple(items)
                items, missing = open_lists.pop()
                items.append(whole)
                missing -= 1
    except IndexError:  # the header of an item goes on after the end
        pass
    _refuse_header(data, start, at)


def decode_body(
    data: bytes | bytearray | memoryview, start: int = 0, *, max_depth: int = DEFAULT_DEPTH, encoding: str = "ascii"
) -> Item | None:
    """The item of a message, None where the message is a header alone; otherwise as `decode`."""
    return decode(data, start, max_depth=max_depth, encoding=encoding) if len(data) > start else None


# Shared by all messages, so that a list of empty lists, two bytes each, does not become something huge.
_EMPTY_LIST = L()


def _look_closer(item: Item, data: bytes, start: int, at: int, begin: int, end: int, encoding: str) -> None:
    """Give an item its content where that is not simply the bytes, or refuse its length."""
    content: bytes | memoryview = memoryview(data)[begin:end] if end - begin > _COPIED else data[begin:end]
    if isinstance(item, BOOLEAN):
        content = BOOLEAN.truths(content)
    elif isinstance(item, A):
        item._encoding = encoding
    elif isinstance(item, C2):
        if len(content) < 2:
            _refuse(data, start, at, "The C2 item at offset {} is too short for the code of its character set")
    elif isinstance(item, NumericItem):
        what = f"The {type(item).__name__} item at offset {{}} has {end - begin} bytes"
        _refuse(data, start, at, f"{what}, which is not a multiple of {item.dtype.itemsize}")
    item._content = content  # type: ignore[attr-defined]  # lists do not come here


def _refuse_format(data: bytes, start: int, at: int) -> NoReturn:
    if _FORMATS[data[at] | 1].length_bytes:
        _refuse(data, start, at, f"The item at offset {{}} has no length bytes (format byte {data[at]:#04x})")
    _refuse(data, start, at, f"The item at offset {{}} has no format of E5 (format byte {data[at]:#04x})")


def _refuse_end(data: bytes, start: int, at: int, length: int, there: int) -> NoReturn:
    name = _FORMATS[data[at]].format_class.__name__
    _refuse(data, start, at, f"The {name} item at offset {{}} has {length} bytes, of which the text holds {there}")


def _refuse_list(data: bytes, start: int, at: int, length: int) -> NoReturn:
    _refuse(data, start, at, f"The list at offset {{}} has {length} items, more than fit into the rest of the text")


def _refuse_depth(data: bytes, start: int, at: int, max_depth: int) -> NoReturn:
    what = f"The list at offset {at - start} is inside {max_depth} others, which is the limit"
    raise NestedTooDeep(what, at - start, data[start:])


def _refuse_rest(data: bytes, start: int, at: int) -> NoReturn:
    _refuse(data, start, at, f"The item ends at offset {{}}, and {len(data) - at} more bytes follow")


def _refuse_header(data: bytes, start: int, at: int) -> NoReturn:
    size = max(len(data), start)
    if at < size:
        what = f"The text ends at offset {{}} in the header of the item at offset {at - start}"
    elif at > start:
        what = "The text ends at offset {} where another item should begin"
    else:
        what = "The text is empty; an item should begin at offset {}"
    _refuse(data, start, size, what)


def _refuse(data: bytes, start: int, at: int, what: str) -> NoReturn:
    raise DecodeError(what.format(at - start), at - start, data[start:])
