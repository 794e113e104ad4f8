"""
SECS-II items of text. A text is held as its bytes; characters are made of them when they are asked for.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from itertools import groupby
from typing import overload

from equipnet.errors import LocalProtocolError
from equipnet.secs.item import ArrayItem, UndecodableText, check_length, listable

# A repr shows no more bytes than these.
_REPR_BYTES = 60

#: The encoding of each character-set code of C2 (E5, localized character strings). Python has none for ISCII (7) and
#: EUC-TW (14).
ENCODINGS = {
    1: "utf-16-be",  # UCS-2
    2: "utf-8",
    3: "ascii",  # ISO 646
    4: "latin-1",  # ISO 8859-1
    5: "iso8859-11",
    6: "tis-620",
    8: "shift_jis",
    9: "euc_jp",
    10: "euc_kr",
    11: "gb18030",  # GB, of which this is the newest and holds the others
    12: "gb2312",  # EUC-CN
    13: "big5",
}

#: The encoding of J, known only to this module.
JIS_8 = "jis-8"

# JIS X 0201, which Python does not have: ASCII but for the yen sign and the overline, and half-width katakana.
_JIS_8 = "".join(
    "\u00a5" if byte == 0x5C
    else "\u203e" if byte == 0x7E
    else chr(byte) if byte < 0x80
    else chr(byte - 0xA1 + 0xFF61) if 0xA1 <= byte <= 0xDF
    else "\ufffe"  # what codecs call undefined
    for byte in range(256)
)  # fmt: skip
_JIS_8_BYTES = {ord(character): byte for byte, character in enumerate(_JIS_8) if character != "\ufffe"}
_JIS_8_BYTES |= {ord("\\"): 0x5C, ord("~"): 0x7E}  # how these bytes are often typed

# Bytes of a text that stand in quotes in SML, and those between them.
_PRINTED = frozenset(range(0x20, 0x7F)) - {ord('"')}
_RUN = re.compile(rb"[ !#-~]+|[^ !#-~]+")


class TextItem(ArrayItem):
    """A text. Its length, its indices and its iteration are those of its bytes, its characters are its `value`."""

    __slots__ = ()

    @property
    def encoding(self) -> str:
        """The encoding in which the text is read unless told otherwise."""
        raise NotImplementedError

    @property
    def value(self) -> str:
        """
        The characters, in the item's own encoding.

        Raises
        ------
        UndecodableText
            When the bytes are not in it: much equipment sends Latin-1, Shift-JIS or GBK as ASCII. See `decode`.
        """
        return self.decode()

    def decode(self, encoding: str | None = None, errors: str = "strict") -> str:
        """
        The characters in an encoding of the caller's choice.

        Parameters
        ----------
        encoding
            Any that Python knows; None for the item's own.
        errors
            What is done with other bytes, as for `bytes.decode`.

        Raises
        ------
        UndecodableText
            When the bytes are not in it, naming the first that is not.
        """
        content = self.content
        try:
            return decode_characters(content, encoding or self.encoding, errors)
        except UnicodeDecodeError as error:
            raise UndecodableText(
                f"Byte {content[error.start]:#04x} at offset {error.start} is not {encoding or self.encoding} text",
                content,
            ) from error
        except LookupError as error:
            raise UndecodableText(str(error), content) from error

    def __len__(self) -> int:
        return len(self._content)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> bytes: ...
    def __getitem__(self, index: int | slice) -> int | bytes:
        return self.content[index]

    def __iter__(self) -> Iterator[int]:
        return iter(self.content)

    def _repr(self) -> str:
        content = self.content
        try:
            shown = content.decode("ascii")
        except UnicodeDecodeError:
            return _abridged(content)
        return _abridged(shown)


def _abridged(text: str | bytes) -> str:
    if len(text) <= _REPR_BYTES:
        return repr(text)
    return f"{text[:_REPR_BYTES]!r}, ... {len(text)} bytes"


@listable
class A(TextItem, code=0o20):
    """
    A text in ASCII, by the standard; in whatever the equipment sends, in practice.

    Parameters
    ----------
    text
        Characters, or bytes as they are.
    encoding
        In which characters become bytes now, and bytes characters later.

    Raises
    ------
    LocalProtocolError
        When characters are not in the encoding, it is unknown, or the text is too long.
    """

    __slots__ = ("_encoding",)

    # Only set when it is not ASCII.
    _encoding: str

    def __init__(self, text: str | bytes = "", encoding: str = "ascii") -> None:
        self._content = _encoded(text, encoding)
        if encoding != "ascii":
            self._encoding = encoding

    @property
    def encoding(self) -> str:
        try:
            return self._encoding
        except AttributeError:
            return "ascii"

    def _sml(self) -> str:
        return f"[{len(self._content)}] {_sml_pieces(self.content)}"


@listable
class J(TextItem, code=0o21):
    """
    A text in JIS-8: Roman characters and half-width katakana of JIS X 0201.

    Byte 0x5C is the yen sign there and 0x7E the overline; a backslash and a tilde are written as these bytes too.

    Parameters
    ----------
    text
        Characters, or bytes as they are.

    Raises
    ------
    LocalProtocolError
        When there are other characters, or too many.
    """

    __slots__ = ()

    def __init__(self, text: str | bytes = "") -> None:
        self._content = _encoded(text, JIS_8)

    @property
    def encoding(self) -> str:
        return JIS_8

    def _sml(self) -> str:
        return f"[{len(self._content)}] {_sml_pieces(self.content, 'jis-8')}"


@listable
class C2(TextItem, code=0o22):
    """
    A localized text, which brings the code of its character set.

    On the wire the code takes two bytes before the characters. An item of no bytes at all has no code.

    Parameters
    ----------
    text
        Characters, or their bytes as they are.
    charset
        The code of E5; see `ENCODINGS`. UTF-8 unless told otherwise. None, for no text only, for the item of no bytes.

    Raises
    ------
    LocalProtocolError
        When characters are not in the character set, its code is none or Python does not know it, or the text is too
        long.
    """

    __slots__ = ()

    def __init__(self, text: str | bytes = "", charset: int | None = 2) -> None:
        if charset is None:
            if text:
                raise LocalProtocolError("A C2 text has the code of its character set")
            self._content = b""
            return
        if not 0 <= charset <= 0xFFFF:
            raise LocalProtocolError(f"The code of a character set is from 0 to 65535, not {charset}")
        if isinstance(text, str) and charset not in ENCODINGS:
            raise LocalProtocolError(f"No encoding is known here for character set {charset}; give the bytes")
        content = charset.to_bytes(2, "big") + _encoded(text, ENCODINGS.get(charset, ""))
        check_length(len(content))
        self._content = content

    @property
    def charset(self) -> int | None:
        """The code of the character set, None in an item of no bytes."""
        return int.from_bytes(self._content[:2], "big") if self._content else None

    @property
    def encoding(self) -> str:
        if not self._content:
            return "utf-8"
        return ENCODINGS.get(int.from_bytes(self._content[:2], "big"), f"character set {self.charset}")

    @property
    def content(self) -> bytes:
        """The bytes of the characters, without the code."""
        return bytes(self._content[2:])

    @property
    def view(self) -> memoryview:
        return memoryview(self._content)[2:]

    def __len__(self) -> int:
        return max(0, len(self._content) - 2)

    def _sml(self) -> str:
        if not self._content:
            return "[0]"
        return f"[{len(self)}] {self.charset} {_sml_pieces(self.content, self.encoding)}"

    def _repr(self) -> str:
        charset = self.charset
        return super()._repr() + ("" if charset == 2 else f", charset={charset}")


def _encoded(text: str | bytes, encoding: str) -> bytes:
    if isinstance(text, str):
        try:
            text = encode_characters(text, encoding)
        except UnicodeEncodeError as error:
            raise LocalProtocolError(
                f"{text[error.start]!r}, character {error.start} of the text, is not {encoding}"
            ) from error
        except LookupError as error:
            raise LocalProtocolError(str(error)) from error
    elif not isinstance(text, bytes):
        if not isinstance(text, (bytearray, memoryview)):
            raise LocalProtocolError(f"A text is characters or bytes, not {text!r:.80}")
        text = bytes(text)
    check_length(len(text))
    return text


def decode_characters(content: bytes, encoding: str, errors: str = "strict") -> str:
    """The characters of bytes; ``jis-8`` is an encoding here."""
    if encoding != JIS_8:
        return content.decode(encoding, errors)
    return codecs.charmap_decode(content, errors, _JIS_8)[0]


def encode_characters(text: str, encoding: str) -> bytes:
    """The bytes of characters; ``jis-8`` is an encoding here."""
    if encoding != JIS_8:
        return text.encode(encoding)
    encoded: bytes = codecs.charmap_encode(text, "strict", _JIS_8_BYTES)[0]
    return encoded


def _sml_pieces(content: bytes, encoding: str = "ascii") -> str:
    """The bytes of a text as SML: printable characters in quotes, the bytes of all others in hexadecimal."""
    if encoding == "ascii":
        pieces = [_quoted(raw.decode("ascii")) if raw[0] in _PRINTED else _hex(raw) for raw in _RUN.findall(content)]
    else:
        pieces = _sml_localized(content, encoding)
    return " ".join(pieces) or '""'


def _sml_localized(content: bytes, encoding: str) -> list[str]:
    try:
        text = decode_characters(content, encoding)
        runs = ["".join(run) for _, run in groupby(text, _is_quotable)]
        encoded = [encode_characters(run, encoding) for run in runs]
    except (UnicodeError, LookupError):
        return [_hex(content)]
    if b"".join(encoded) != content:  # several bytes may stand for one character, of which only one comes back
        return [_hex(content)]
    return [_quoted(run) if _is_quotable(run[0]) else _hex(raw) for run, raw in zip(runs, encoded, strict=True)]


def _is_quotable(character: str) -> bool:
    return character.isprintable() and character != '"'


def _quoted(text: str) -> str:
    return f'"{text}"'


def _hex(raw: bytes) -> str:
    return "0x" + raw.hex(" ").upper().replace(" ", " 0x")


def check_encoding(encoding: str) -> None:
    """Refuse the name of an encoding that nobody knows."""
    try:
        codecs.lookup(encoding)
    except LookupError as error:
        raise LocalProtocolError(str(error)) from error
