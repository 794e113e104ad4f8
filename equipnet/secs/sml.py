"""
SML, the SECS message language, read in all its dialects.

SML has no standard. GW Associates' (now PEER Group's) notation is the root: ``S1F3 W <L [1] <U4 [1] 13>>.``, with
comments from ``*`` to the end of the line. secs4net adds a name and quotes, ``Name:'S1F3'W``; go-secs adds hexadecimal
bytes beside quoted ones and ``//`` comments; secs4java8 and secsgem may leave lengths out. What equipnet prints is one
form of these, and reads back to the same value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

from equipnet.errors import LocalProtocolError
from equipnet.secs.decoding import FORMATS
from equipnet.secs.item import DEFAULT_DEPTH, Item, L, check_length
from equipnet.secs.message import Message
from equipnet.secs.number import BOOLEAN, F4, F8, B, NumericItem
from equipnet.secs.text import C2, ENCODINGS, JIS_8, A, J, check_encoding, encode_characters


class SmlError(LocalProtocolError, ValueError):
    """
    A text is not SML.

    Parameters
    ----------
    message
        What is wrong.
    line, column
        Where, both counted from 1.
    """

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.line = line
        self.column = column


class NamedMessage(NamedTuple):
    """
    A message as it stands in a file.

    Parameters
    ----------
    name
        What stands before the colon; empty without one.
    message
        The message.
    line
        Where it begins, counted from 1.
    """

    name: str
    message: Message
    line: int


def messages_from_sml(
    text: str,
    *,
    check_lengths: bool = True,
    escapes: bool = False,
    encoding: str = "ascii",
    max_depth: int = DEFAULT_DEPTH,
) -> list[NamedMessage]:
    r"""
    All messages of a text.

    Parameters
    ----------
    text
        Messages one after the other, each with a period at its end, which may be missing where the next one begins.
    check_lengths
        Whether ``[2]``, ``[0..2]`` and ``[0,2]`` must be right. Message files of secs4net are often wrong about texts;
        secs4java8 and go-secs do not look.
    escapes
        Whether a backslash in quotes makes a quote or a backslash after it plain, as go-secs prints them in its strict
        mode.
    encoding
        Of the characters in `A` items, and in which these items are read by their ``value``.
    max_depth
        How many lists may be in one another.

    Raises
    ------
    SmlError
        At the first thing that cannot be read, with its line and column.
    """
    reader = _Reader(text, check_lengths, escapes, encoding, max_depth)
    return list(reader.messages())


def message_from_sml(
    text: str,
    *,
    check_lengths: bool = True,
    escapes: bool = False,
    encoding: str = "ascii",
    max_depth: int = DEFAULT_DEPTH,
) -> Message:
    """The only message of a text; otherwise as `messages_from_sml`."""
    reader = _Reader(text, check_lengths, escapes, encoding, max_depth)
    named = list(reader.messages())
    if len(named) != 1:
        reader.refuse(f"One message was expected, and there are {len(named)}", 0)
    return named[0].message


def item_from_sml(
    text: str,
    *,
    check_lengths: bool = True,
    escapes: bool = False,
    encoding: str = "ascii",
    max_depth: int = DEFAULT_DEPTH,
) -> Item:
    """The only item of a text that has no message around it; otherwise as `messages_from_sml`."""
    reader = _Reader(text, check_lengths, escapes, encoding, max_depth)
    item = reader.item()
    reader.end()
    return item


# White space and comments; /* before *, which begins a comment too.
_SPACE = re.compile(r"(?:\s+|//[^\n]*|/\*.*?\*/|\*[^\n]*)*", re.DOTALL)
_STREAM_FUNCTION = r"(?P<quote>['\"]?)[Ss](?P<stream>\d{1,3})[Ff](?P<function>\d{1,3})(?P=quote)"
_NOT_A_NAME = r"(?:(?<=['\"])|(?!\w|[^\S\n]*:))"
_WAIT = r"(?:[^\S\n]*(?P<wait>W)(?!\w))?"
_DIRECTION = r"(?:[^\S\n]*H\s*<?->?\s*E(?!\w))?"  # in older files
_HEADER = re.compile(_STREAM_FUNCTION + _NOT_A_NAME + _WAIT + _DIRECTION, re.ASCII)
_NAMED_HEADER = re.compile(r"(?P<name>[^:<>'\"\n]*):\s*" + _HEADER.pattern, re.ASCII)
_ITEM = re.compile(r"<\s*(?P<format>[A-Za-z]\w*)\s*(?:\[(?P<length>[^\]\n]*)\])?", re.ASCII)
_LENGTH = re.compile(r"\s*(?P<low>\d{1,9})?\s*(?P<to>(?:\.\.|,)\s*(?P<high>\d{1,9})?)?\s*", re.ASCII)
_HERE = re.compile(r"\S{1,40}")

# The words of an item that has nothing but words in it.
_PLAIN = re.compile(r"([^<>'\"/*]*)>")
_WORD = re.compile(r"[^\s<>'\"/*]+")
_PLAIN_BYTES = re.compile(r"(?:\s*0x[0-9A-Fa-f]{2}(?![^\s]))*\s*")
_DECIMAL = re.compile(r"[+-]?\d{1,20}", re.ASCII)
_HEXADECIMAL = re.compile(r"0[xX][0-9A-Fa-f]{1,16}")
_BINARY = re.compile(r"0[bB][01]{1,64}")
_FLOAT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_NOT_FINITE = re.compile(r"[+-]?inf(?:inity)?|nan", re.IGNORECASE | re.ASCII)
_NAN_BITS = re.compile(r"nan\(0x(?P<bits>(?:[0-9a-f]{8}){1,2})\)", re.IGNORECASE | re.ASCII)
_TRUTHS = {"TRUE": True, "T": True, "FALSE": False, "F": False}

_QUOTED = re.compile(r"(?P<quote>['\"])(?P<text>.*?)(?P=quote)", re.DOTALL)
_QUOTED_WITH_ESCAPES = re.compile(r"(?P<quote>['\"])(?P<text>(?:\\.|[^\\])*?)(?P=quote)", re.DOTALL)
_ESCAPE = re.compile(r"\\([\\'\"])")
_CLOSING = re.compile(r"['\"]\s*>")

_FORMATS: dict[str, type[Item]] = {each.__name__: each for each in FORMATS}
# Other names: secs4net's, secs4java8's, and go-secs' W for a localized text.
_FORMATS |= {"LIST": L, "BINARY": B, "BOOL": BOOLEAN, "ASCII": A, "JIS8": J, "UNICODE": C2, "W": C2}


class _List(NamedTuple):
    """A list that has begun."""

    items: list[Item]
    length: str | None
    at: int


class _Reader:
    """Reads one text from its beginning to its end."""

    def __init__(self, text: str, check_lengths: bool, escapes: bool, encoding: str, max_depth: int) -> None:
        check_encoding(encoding)
        self._text = text
        self._at = 0
        self._check_lengths = check_lengths
        self._escapes = escapes
        self._quoted = _QUOTED_WITH_ESCAPES if escapes else _QUOTED
        self._encoding = encoding
        self._max_depth = max_depth

    def messages(self) -> Iterator[NamedMessage]:
        """Every message, as it is read."""
        self._skip()
        while self._at < len(self._text):
            yield self._message()
            self._skip()

    def end(self) -> None:
        """Refuse what follows."""
        self._skip()
        if self._at < len(self._text):
            self.refuse(f"Nothing more was expected, and there is {self._here()}", self._at)

    def _message(self) -> NamedMessage:
        begin = self._at
        header = _HEADER.match(self._text, begin)
        name = ""
        if header is None:
            header = _NAMED_HEADER.match(self._text, begin)
            if header is None:
                self.refuse(f"A message begins as S1F1 does, not with {self._here()}", begin)
            name = header["name"].strip()
        self._at = header.end()
        self._skip()
        item = self.item() if self._text.startswith("<", self._at) else None
        self._skip()
        if self._text.startswith(".", self._at):
            self._at += 1
        elif self._at < len(self._text) and not self._at_header():
            self.refuse(f"A message ends with a period, not with {self._here()}", self._at)
        try:
            message = Message(int(header["stream"]), int(header["function"]), header["wait"] is not None, item)
        except LocalProtocolError as error:
            self.refuse(str(error), header.start("stream") - 1)
        return NamedMessage(name, message, self._line(begin))

    def _at_header(self) -> bool:
        return bool(_HEADER.match(self._text, self._at) or _NAMED_HEADER.match(self._text, self._at))

    def item(self) -> Item:
        """One item, with all that is in it."""
        open_lists: list[_List] = []
        while True:
            self._skip()
            begin = self._at
            if open_lists and self._text.startswith(">", begin):
                self._at += 1
                finished = open_lists.pop()
                self._check(finished.length, len(finished.items), "items", finished.at)
                item: Item = L(*finished.items)
            else:
                head = _ITEM.match(self._text, begin)
                if head is None:
                    self.refuse(f"An item begins as <U4 does, not with {self._here()}", begin)
                format_class = _FORMATS.get(head["format"].upper())
                if format_class is None:
                    self.refuse(f"No format has the name {head['format']}", head.start("format"))
                self._at = head.end()
                if format_class is L:
                    if len(open_lists) >= self._max_depth:
                        self.refuse(f"This list is inside {self._max_depth} others, which is the limit", begin)
                    open_lists.append(_List([], head["length"], begin))
                    continue
                try:
                    if issubclass(format_class, NumericItem):
                        item = self._numbers(format_class)
                        self._check(head["length"], len(item), "values", begin)
                    else:
                        item = self._text_item(format_class, head)
                except SmlError:
                    raise
                except LocalProtocolError as error:  # too long
                    self.refuse(str(error), begin)
            if not open_lists:
                return item
            open_lists[-1].items.append(item)

    # Numbers

    def _numbers(self, format_class: type[NumericItem[Any]]) -> Item:
        plain = _PLAIN.match(self._text, self._at)
        item = _all_at_once(format_class, plain[1]) if plain else None
        if plain and item is not None:
            self._at = plain.end()
            return item
        contents = []
        for word, at in self._words():
            try:
                contents.append(_one(format_class, word))
            except (LocalProtocolError, ValueError):
                self.refuse(f"{word:.80} is not a value of {format_class.__name__}", at)
        content = b"".join(contents)
        check_length(len(content))
        return format_class._of(content)

    def _words(self) -> Iterator[tuple[str, int]]:
        """The words up to the end of the item, and where they are."""
        while True:
            self._skip()
            if self._text.startswith(">", self._at):
                self._at += 1
                return
            word = _WORD.match(self._text, self._at)
            if word is None:
                self.refuse(f"A value or > was expected, not {self._here()}", self._at)
            self._at = word.end()
            yield word[0], word.start()

    # Texts

    def _text_item(self, format_class: type[Item], head: re.Match[str]) -> Item:
        if format_class is C2:
            return self._localized(head)
        content = self._characters(JIS_8 if format_class is J else self._encoding, head)
        return J(content) if format_class is J else A(content, self._encoding)

    def _localized(self, head: re.Match[str]) -> Item:
        self._skip()
        charset: int | None = 2
        word = _WORD.match(self._text, self._at)
        if word is not None and _DECIMAL.fullmatch(word[0]):
            self._at = word.end()
            charset = int(word[0])
            if not 0 <= charset <= 0xFFFF:
                self.refuse(f"{charset} is not the code of a character set", word.start())
        elif self._text.startswith(">", self._at) and (head["length"] or "").strip() == "0":
            charset = None
        # Under the name W, go-secs prints the bytes of every character set as if they were UTF-8.
        encoding = "utf-8" if head["format"].upper() == "W" else ENCODINGS.get(charset or 2, "ascii")
        return C2(self._characters(encoding, head), charset)

    def _characters(self, encoding: str, head: re.Match[str]) -> bytes:
        """The bytes of a text, up to the end of its item."""
        begin = self._at
        try:
            content, count = self._pieces(encoding)
            if not self._fits(head["length"], count):  # in characters, as some count
                self._check(head["length"], len(content), "bytes", head.start())
        except SmlError:
            whole = self._whole(head["length"], encoding, begin)
            if whole is None:
                raise
            return whole
        return content

    def _pieces(self, encoding: str) -> tuple[bytes, int]:
        """The bytes of pieces in quotes and of single bytes beside them; and how many characters these are."""
        pieces: list[bytes] = []
        count = 0
        while True:
            self._skip()
            begin = self._at
            if self._text.startswith(">", begin):
                self._at += 1
                return b"".join(pieces), count
            quoted = self._quoted.match(self._text, begin)
            if quoted is not None:
                text = _ESCAPE.sub(r"\1", quoted["text"]) if self._escapes else quoted["text"]
                pieces.append(self._encoded(text, encoding, quoted.start("text")))
                count += len(text)
                self._at = quoted.end()
                continue
            word = _WORD.match(self._text, begin)
            if word is None:
                if self._text[begin : begin + 1] in ("'", '"'):
                    self.refuse("This quote has no end", begin)
                self.refuse(f"A text in quotes or > was expected, not {self._here()}", begin)
            try:
                pieces.append(bytes((_based(word[0]),)))
            except ValueError:
                self.refuse(f"{word[0]:.80} is not a byte, such as 0x0A, nor a text in quotes", begin)
            count += 1
            self._at = word.end()

    def _whole(self, length: str | None, encoding: str, begin: int) -> bytes | None:
        """
        The text between the outermost quotes, if it is just as long as the item says.

        secs4net prints texts with quotes in them as they are: ``<A [4] 'it's'>``. It reads them no more.
        """
        self._at = begin
        self._skip()
        quote = self._text[self._at : self._at + 1]
        if not self._check_lengths or quote not in ("'", '"') or not (length or "").strip().isdecimal():
            return None
        end = self._at + 1 + int(length or "")
        closing = _CLOSING.match(self._text, end)
        if closing is None or self._text[end] != quote:
            return None
        content = self._encoded(self._text[self._at + 1 : end], encoding, self._at + 1)
        self._at = closing.end()
        return content

    def _encoded(self, text: str, encoding: str, at: int) -> bytes:
        try:
            return encode_characters(text, encoding)
        except UnicodeEncodeError as error:
            self.refuse(f"{text[error.start]!r} is not a character of {encoding}", at + error.start)

    # Lengths, places and errors

    def _check(self, length: str | None, actual: int, what: str, at: int) -> None:
        if not self._fits(length, actual):
            self.refuse(f"The length [{length}] is wrong: there are {actual} {what}", at)

    def _fits(self, length: str | None, actual: int) -> bool:
        if length is None or not self._check_lengths:
            return True
        match = _LENGTH.fullmatch(length)
        if match is None or not length.strip():
            return False
        if match["to"] is None:
            return actual == int(match["low"])
        return int(match["low"] or 0) <= actual <= int(match["high"] or actual)

    def _skip(self) -> None:
        space = _SPACE.match(self._text, self._at)
        assert space is not None  # it may be empty
        self._at = space.end()

    def _here(self) -> str:
        word = _HERE.match(self._text, self._at)
        return repr(word[0]) if word else "the end of the text"

    def _line(self, at: int) -> int:
        return self._text.count("\n", 0, at) + 1

    def refuse(self, message: str, at: int) -> NoReturn:
        """Raise an error with the line and column of a place."""
        raise SmlError(message, self._line(at), at - self._text.rfind("\n", 0, at))


def _all_at_once(format_class: type[NumericItem[Any]], text: str) -> Item | None:
    """The item of many words of the usual form; None when they must be read one by one."""
    try:
        if format_class is B:
            return B(bytes.fromhex(text.replace("0x", ""))) if _PLAIN_BYTES.fullmatch(text) else None
        words = text.split()
        if issubclass(format_class, (F4, F8)):
            return format_class(list(map(_float, words)))
        if format_class is BOOLEAN or not all(map(_DECIMAL.fullmatch, words)):
            return None
        return format_class(list(map(int, words)))
    except (LocalProtocolError, ValueError):
        return None


def _one(format_class: type[NumericItem[Any]], word: str) -> bytes:
    """The content of an item of one value."""
    if format_class is BOOLEAN:
        return BOOLEAN(_truth(word)).content
    if not issubclass(format_class, (F4, F8)):
        return format_class(_integer(word)).content
    nan = _NAN_BITS.fullmatch(word)
    if nan is None:
        return format_class(_float(word)).content
    raw = bytes.fromhex(nan["bits"])
    if not math.isnan(format_class._of(raw).value):
        raise ValueError(word)
    return raw


def _integer(word: str) -> int:
    return int(word) if _DECIMAL.fullmatch(word) else _based(word)


def _based(word: str) -> int:
    if _HEXADECIMAL.fullmatch(word):
        return int(word, 16)
    if _BINARY.fullmatch(word):
        return int(word, 2)
    raise ValueError(word)


def _truth(word: str) -> bool:
    truth = _TRUTHS.get(word.upper())
    return _integer(word) != 0 if truth is None else truth


def _float(word: str) -> float:
    if _FLOAT.fullmatch(word):
        value = float(word)
        if math.isinf(value):  # more than the largest there is
            raise ValueError(word)
        return value
    if _NOT_FINITE.fullmatch(word):
        return float(word)
    raise ValueError(word)
