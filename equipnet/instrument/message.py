"""
Commands and replies of instruments: from values to bytes and back.

A command is text and perhaps a block of numbers after it; a reply is text, bytes or numbers. The forms of blocks are
those of IEEE 488.2 (8.7.9 definite, 8.7.10 indefinite length), of the HP-IB data transfer (``#A``), comma-separated
numbers, and bare bytes. Properties and habits are those of MSL-Equipment: a write ends with the terminator, a read
returns its terminator too.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from equipnet.errors import LocalProtocolError, RemoteProtocolError

#: What can be sent as a block: numbers, or bytes that are in their final form.
Data = Sequence[complex] | NDArray[Any] | bytes | bytearray | memoryview

#: What a read can return.
Reply = str | bytes | NDArray[Any]

#: The bytes that one definite length block can hold: its length has at most nine digits (IEEE 488.2, 8.7.9).
IEEE_LIMIT = 999_999_999

#: The bytes that one HP block can hold: its length is an unsigned 16-bit number.
HP_LIMIT = 65_535

#: A block's ``#`` is among so many first bytes. Before it may stand the response header, such as Tektronix's ``CURVE``
#: and a blank (HEADER ON); the standard's own headers are far shorter.
BLOCK_PREAMBLE = 64

_ENDIAN: dict[str, Literal["little", "big"]] = {"<": "little", ">": "big"}

_ESCAPED = re.compile(r"(?:\\[rn])+")
_QUOTED = re.compile(r"""b?(?P<quote>['"]).*(?P=quote)""", re.DOTALL)


def termination_bytes(value: str | bytes | None, encoding: str = "utf-8") -> bytes | None:
    r"""
    The bytes of a terminator in any of the forms in which people and registers of equipment write it.

    Parameters
    ----------
    value
        Bytes are taken as they are. A text is taken as it is too, except that registers (spreadsheets, XML) hold
        written-out escapes: a text of nothing but ``\r`` and ``\n`` with real backslashes, and a Python literal in
        quotes (``'\n'``, ``"\r\n"``, ``b'\r\n'``) stand for what they say. None and an empty text mean that there is no
        terminator.
    encoding
        In which a text becomes bytes.

    Raises
    ------
    LocalProtocolError
        When the text cannot be encoded, or the encoding is unknown.
    """
    if isinstance(value, str):
        if _ESCAPED.fullmatch(value):
            value = value.replace("\\r", "\r").replace("\\n", "\n")
        elif _QUOTED.fullmatch(value):
            value = _unquoted(value)
    if isinstance(value, str):
        value = _encode(value, encoding, "strict")
    return value or None


def encode_command(
    message: str | bytes,
    encoding: str = "utf-8",
    encoding_errors: str = "strict",
    termination: bytes | None = b"\r\n",
    *,
    data: Data | None = None,
    fmt: str | None = "ieee",
    dtype: DTypeLike = "<f",
) -> bytes:
    """
    What goes over the wire for one command.

    Parameters
    ----------
    message
        The command.
    encoding, encoding_errors
        How a text becomes bytes.
    termination
        Added unless the command already ends with it. After a block it is always added: there its bytes would be data.
    data, fmt, dtype
        The block that follows the command, see `encode_block`. It is copied once, into the result.

    Raises
    ------
    LocalProtocolError
        When the text cannot be encoded, or the block is impossible.
    """
    if isinstance(message, str):
        message = _encode(message, encoding, encoding_errors)
    if data is not None:
        return b"".join((message, *_block(data, fmt, dtype), termination or b""))
    if termination and not message.endswith(termination):
        return message + termination
    return message


def encode_block(data: Data, fmt: str | None = "ieee", dtype: DTypeLike = "<f") -> bytes:
    """
    A block of numbers in one of the forms that instruments read.

    Parameters
    ----------
    data
        Numbers in one dimension, which become `dtype` as numpy converts them; or, except for ``"ascii"``, bytes that
        are sent as they are.
    fmt
        ``"ieee"``: ``#<d><n><bytes>``, where n is the number of bytes and d the number of its digits (IEEE 488.2,
        8.7.9). ``"hp"``: ``#A<n><bytes>``, where n is an unsigned 16-bit number in the byte order of `dtype`.
        ``"ascii"``: numbers with commas between them. None or empty: bare bytes.
    dtype
        Of the numbers on the wire, anything that numpy accepts. For ``"ascii"`` a format specification such as
        ``".3e"``; byte order characters at its beginning are ignored, so that ``"<f"`` is ``"f"``.

    Raises
    ------
    LocalProtocolError
        When `data` has not one dimension or does not become `dtype`, when it is too long for `fmt`, and when `fmt` or
        `dtype` are unknown.
    """
    return b"".join(_block(data, fmt, dtype))


def decode_reply(
    message: bytes,
    fmt: str | None = None,
    dtype: DTypeLike | None = None,
    decode: bool = True,
    *,
    encoding: str = "utf-8",
    encoding_errors: str = "strict",
    rstrip: bool = False,
    termination: bytes | tuple[bytes, ...] | None = None,
) -> Reply:
    r"""
    What a read returns for the bytes of one message.

    Without `dtype` that is the text, its terminator included; the bytes when `decode` is false; and the content of the
    block, as bytes, when `fmt` is ``"ieee"`` or ``"hp"``. With `dtype` it is an array of one dimension. Arrays are
    views of `message` and therefore read-only, except for ``"ascii"``.

    Parameters
    ----------
    message
        One message as it was received.
    fmt
        As for `encode_block`. ``"ascii"`` without `dtype` is text. Before the ``#`` of a block may stand a short
        header, after it white space or the terminator; an indefinite block (``#0``, IEEE 488.2 8.7.10) ends before the
        terminator.
    dtype
        Of the numbers, anything that numpy accepts; the byte order of an HP block's length is also taken from it,
        ``<`` without one.
    decode
        Whether bytes become text.
    encoding, encoding_errors
        How bytes become text.
    rstrip
        Whether all white space at the end of a text, or of the bytes that are returned for it, is removed. Never done
        to binary numbers.
    termination
        What ended the message, None when it was ended by something else (its size, say). Bare binary numbers and
        numbers in ASCII are read without it, an indefinite block ends before it, ``\n`` if it is None.

    Raises
    ------
    RemoteProtocolError
        When the bytes are not what they should be; its ``data`` is the whole message.
    LocalProtocolError
        When `fmt`, `dtype` or `encoding` are unknown.
    """
    if fmt == "ieee" or fmt == "hp":
        return _read_block(message, fmt, dtype, termination)
    if fmt and fmt != "ascii":
        raise unknown_format(fmt)
    if dtype is None:
        if rstrip:
            message = message.rstrip()
        return decode_text(message, encoding, encoding_errors) if decode else message
    end = len(message) - _terminator_size(message, termination)
    if fmt:
        return _read_ascii(message, end, _checked_dtype(dtype))
    return _read_array(message, 0, end, _checked_dtype(dtype))


def decode_text(message: bytes, encoding: str = "utf-8", encoding_errors: str = "strict") -> str:
    """
    The text of a message; what `decode_reply` does with a plain one.

    Raises
    ------
    RemoteProtocolError
        From the UnicodeDecodeError, with the whole message as ``data``.
    LocalProtocolError
        When the encoding is unknown.
    """
    try:
        return message.decode(encoding, encoding_errors)
    except UnicodeDecodeError as error:
        raise RemoteProtocolError(
            f"Byte {message[error.start]:#04x} at offset {error.start} is not {encoding} text: {error.reason}", message
        ) from error
    except TypeError as error:  # of an error handler that can only encode: "xmlcharrefreplace", "namereplace"
        raise RemoteProtocolError(f"The message is not {encoding} text, and {error}", message) from error
    except LookupError as error:
        raise LocalProtocolError(str(error)) from error


def byte_order(dtype: DTypeLike | None) -> str:
    """
    The byte order, ``"<"`` or ``">"``, of an HP block's length.

    It is that of the numbers. Where these have none (single bytes) what is written before them counts, and else ``<``,
    as in MSL-Equipment; likewise without a dtype.
    """
    if dtype is None:
        return "<"
    if isinstance(dtype, str) and dtype.startswith(("<", ">")):
        _checked_dtype(dtype)
        return dtype[0]
    order = _checked_dtype(dtype).byteorder
    if order == "=":
        return "<" if sys.byteorder == "little" else ">"
    return ">" if order == ">" else "<"


class BlockHeader(NamedTuple):
    """
    What the first bytes of a block say.

    Parameters
    ----------
    begin
        Where the content begins.
    size
        How many bytes it has; None for an indefinite length.
    """

    begin: int
    size: int | None


#: More bytes than these are never needed to read a block's header: what may precede, ``#``, a digit and nine more.
HEADER_LIMIT = BLOCK_PREAMBLE + 10


def read_block_header(message: bytes, fmt: str, order: str = "<") -> BlockHeader | None:
    """
    Read the header of an ``"ieee"`` or ``"hp"`` block at the beginning of a message.

    Parameters
    ----------
    message
        At least the first bytes of the message.
    fmt
        ``"ieee"`` or ``"hp"``.
    order
        The byte order, ``"<"`` or ``">"``, of an HP block's length.

    Returns
    -------
    BlockHeader | None
        None when the header goes on after `message`.

    Raises
    ------
    RemoteProtocolError
        When no block begins so: no ``#`` in the first `BLOCK_PREAMBLE` bytes, a line which ends before it (an error
        message in place of the block), or something wrong after it.
    """
    at = message.find(b"#", 0, BLOCK_PREAMBLE)
    before = message[: at if at >= 0 else BLOCK_PREAMBLE].lstrip()
    if b"\n" in before or b"\r" in before:
        raise RemoteProtocolError(f"A line came instead of a block: {before!r}", message)
    if at < 0:
        if len(message) >= BLOCK_PREAMBLE:
            raise RemoteProtocolError(f"No '#' in the first {BLOCK_PREAMBLE} bytes of a block", message)
        return None
    kind = message[at + 1 : at + 2]
    if not kind:
        return None
    if fmt == "hp":
        if kind != b"A":
            raise RemoteProtocolError(f"An 'A' follows the '#' of an HP block, not {kind!r} (offset {at + 1})", message)
        length = message[at + 2 : at + 4]
        if len(length) < 2:
            return None
        return BlockHeader(at + 4, int.from_bytes(length, _ENDIAN[order]))
    if not kind.isdigit():
        raise RemoteProtocolError(
            f"A digit follows the '#' of an IEEE 488.2 block, not {kind!r} (offset {at + 1})", message
        )
    digits = int(kind)
    if digits == 0:
        return BlockHeader(at + 2, None)
    length = message[at + 2 : at + 2 + digits]
    if length and not length.isdigit():
        raise RemoteProtocolError(f"{length!r} is not the length of a block (offset {at + 2})", message)
    return BlockHeader(at + 2 + digits, int(length)) if len(length) == digits else None


def unknown_format(fmt: object) -> LocalProtocolError:
    """The error for a `fmt` that is none of `encode_block`'s."""
    return LocalProtocolError(f"{fmt!r} is not the format of a block; it is 'ieee', 'hp', 'ascii' or None")


def _unquoted(text: str) -> str | bytes:
    """What a literal in quotes says; the text itself when it is something else that has quotes around it."""
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
    return value if isinstance(value, (str, bytes)) else text


def _encode(text: str, encoding: str, encoding_errors: str) -> bytes:
    try:
        return text.encode(encoding, encoding_errors)
    except (UnicodeError, LookupError, TypeError) as error:
        raise LocalProtocolError(f"{text!r} cannot be sent: {error}") from error


def _checked_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    try:
        checked = np.dtype(dtype)
    except (TypeError, ValueError) as error:
        raise LocalProtocolError(f"{dtype!r} is not a type of numbers: {error}") from error
    if checked.hasobject or not checked.itemsize:
        raise LocalProtocolError(f"{dtype!r} is not a type of numbers with a size in bytes")
    return checked


# Writing


def _block(data: Data, fmt: str | None, dtype: DTypeLike) -> tuple[bytes | memoryview, ...]:
    """The parts of a block, of which the last is `data` itself wherever it need not be converted."""
    if fmt == "ascii":
        return (_ascii(data, dtype),)
    if not fmt:
        return (_content(data, dtype),)
    if fmt == "ieee":
        content = _content(data, dtype, IEEE_LIMIT, "an IEEE 488.2 block")
        digits = b"%d" % content.nbytes
        return (b"#%d" % len(digits) + digits, content)
    if fmt == "hp":
        content = _content(data, dtype, HP_LIMIT, "an HP block")
        return (b"#A" + content.nbytes.to_bytes(2, _ENDIAN[byte_order(dtype)]), content)
    raise unknown_format(fmt)


def _content(data: Data, dtype: DTypeLike, limit: int = sys.maxsize, what: str = "") -> memoryview:
    """The bytes of `data`, at most `limit` of them; a copy only where they must be converted or gathered."""
    numbers = memoryview(data) if isinstance(data, (bytes, bytearray, memoryview)) else _numbers(data, dtype)
    if numbers.nbytes > limit:
        raise LocalProtocolError(f"The data have {numbers.nbytes} bytes; {what} holds at most {limit}")
    if isinstance(numbers, memoryview):
        return numbers if numbers.c_contiguous else memoryview(numbers.tobytes())
    return np.ascontiguousarray(numbers).view(np.uint8).data


def _numbers(data: Data, dtype: DTypeLike) -> NDArray[Any]:
    checked = _checked_dtype(dtype)
    try:
        array = np.asarray(data, checked)
    except (TypeError, ValueError, OverflowError) as error:
        raise LocalProtocolError(f"The data do not become numbers of type {checked.str!r}: {error}") from error
    _check_dimension(array)
    return array


def _check_dimension(array: NDArray[Any]) -> None:
    if array.ndim != 1:
        raise LocalProtocolError(f"The data have {array.ndim} dimensions; a block has one")


def _ascii(data: Data, dtype: DTypeLike) -> bytes:
    if isinstance(data, (str, bytes, bytearray, memoryview)):
        raise LocalProtocolError(f"An 'ascii' block is made of numbers, not of {type(data).__name__}")
    if not isinstance(dtype, str):
        raise LocalProtocolError(f"The dtype of an 'ascii' block is a format such as '.3e', not {dtype!r}")
    if isinstance(data, np.ndarray):
        _check_dimension(data)
    specification = dtype.lstrip("@=<>!")
    try:
        return ",".join([format(number, specification) for number in data]).encode("ascii")
    except (TypeError, ValueError) as error:
        raise LocalProtocolError(f"The data cannot be written with format {specification!r}: {error}") from error


# Reading


def _terminator_size(message: bytes, termination: bytes | tuple[bytes, ...] | None) -> int:
    """How many of the last bytes are the terminator; of several the longest."""
    if not termination:
        return 0
    if isinstance(termination, bytes):
        return len(termination) if message.endswith(termination) else 0
    return max((len(one) for one in termination if message.endswith(one)), default=0)


def _read_block(
    message: bytes, fmt: str, dtype: DTypeLike | None, termination: bytes | tuple[bytes, ...] | None
) -> bytes | NDArray[Any]:
    checked = None if dtype is None else _checked_dtype(dtype)
    header = read_block_header(message, fmt, byte_order(dtype) if fmt == "hp" else "<")
    if header is None:
        raise RemoteProtocolError("The message ends in the header of a block", message)
    if header.size is None:
        end = len(message) - _terminator_size(message, termination or b"\n")
        end = max(end, header.begin)
    else:
        end = header.begin + header.size
        if end > len(message):
            raise RemoteProtocolError(
                f"The header of a block announces {header.size} bytes, {len(message) - header.begin} came", message
            )
        rest = message[end:]
        # A part of the terminator is all that had come of it when the message was taken.
        if rest.strip() and not any(one.startswith(rest) for one in _several(termination)):
            raise RemoteProtocolError(f"{len(rest)} bytes more follow a block which ends at offset {end}", message)
    if checked is None:
        return message[header.begin : end]
    return _read_array(message, header.begin, end, checked)


def _several(termination: bytes | tuple[bytes, ...] | None) -> tuple[bytes, ...]:
    return termination if isinstance(termination, tuple) else (termination or b"",)


def _read_array(message: bytes, begin: int, end: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    count, odd = divmod(end - begin, dtype.itemsize)
    if odd:
        raise RemoteProtocolError(
            f"{end - begin} bytes from offset {begin} on are not whole numbers of type {dtype.str!r}",
            message,
        )
    return np.frombuffer(message, dtype, count, begin)


_FROM_TEXT: dict[str, Callable[[str], complex]] = {"i": int, "u": int, "b": int, "f": float, "c": complex}


def _read_ascii(message: bytes, end: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    number = _FROM_TEXT.get(dtype.kind)
    if number is None:
        raise LocalProtocolError(f"Numbers of type {dtype.str!r} are not read from text")
    text = decode_text(message, "ascii")[:end]
    if not text.strip():
        return np.empty(0, dtype)
    fields = text.split(",")
    try:
        if "_" in text:  # Python takes 1_000 for a number
            raise ValueError
        return np.array([number(field) for field in fields], dtype)
    except (ValueError, OverflowError) as error:
        raise _not_a_number(message, fields, number, dtype) from error


def _not_a_number(
    message: bytes, fields: list[str], number: Callable[[str], complex], dtype: np.dtype[Any]
) -> RemoteProtocolError:
    """Find the first of the fields that is not a number, and say so."""
    offset = 0
    for field in fields:
        try:
            if "_" in field:
                raise ValueError
            np.array(number(field), dtype)
        except (ValueError, OverflowError):
            break
        offset += len(field) + 1
    return RemoteProtocolError(f"{field!r} at offset {offset} is not a number of type {dtype.str!r}", message)
