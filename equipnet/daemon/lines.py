"""
On which line of a TOML file each key stands.

The parser of the standard library does not tell; this walk over the same text does. It decides nothing about validity:
what it does not understand ends it, since the real parser refuses the file for it.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass, field

if sys.version_info >= (3, 11):
    import tomllib
else:  # the same parser under its older name
    import tomli as tomllib

Path = tuple[str | int, ...]
"""A place in the file: keys, and positions in lists, from the outside in."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"""(?:""?(?!"))?'
    r"|'''.*?'''(?:''?(?!'))?"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_OTHER_VALUE = re.compile(r"[^\s,\]}#][^,\]}#\n]*")


def dotted(path: Path) -> str:
    """Write a place as TOML would: ``connections.dmm.limits[2].high``, with quotes around a key that needs them."""
    text = ""
    for piece in path:
        if isinstance(piece, int):
            text += f"[{piece}]"
        else:
            key = piece if _BARE_KEY.fullmatch(piece) else repr(piece)
            text += f".{key}" if text else key
    return text


@dataclass
class Lines:
    """
    The line of each table and key, counted from 1.

    Parameters
    ----------
    at
        The line by place.
    twice
        What the file says a second time: the place, its first and its second line.
    """

    at: dict[Path, int] = field(default_factory=dict)
    twice: list[tuple[Path, int, int]] = field(default_factory=list)

    def of(self, path: Path) -> int:
        """Give the line of a place, or of the nearest thing around it that the file has."""
        return next((self.at[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.at), 1)


def find_lines(text: str) -> Lines:
    """
    Find the line of every key of a TOML document.

    Parameters
    ----------
    text
        The document, with ``\\n`` as the line end. As much of one with a mistake is read as can be.
    """
    walk = _Walk(text)
    with suppress(_Unexpected, RecursionError):
        walk.document()
    return walk.lines


class _Unexpected(Exception):
    """The text goes on with something that TOML does not allow here."""


class _Walk:
    """
    One pass over a document.

    ``_at`` is the position of the next character; every method starts there and leaves it behind what it has read.
    """

    def __init__(self, text: str) -> None:
        self.lines = Lines()
        self._text = text
        self._at = 0
        self._line_ends = [found.start() for found in re.finditer("\n", text)]
        self._explicit: set[Path] = set()
        self._last_index: dict[Path, int] = {}

    def document(self) -> None:
        table: Path = ()
        while True:
            self._skip(_BLANK)
            if self._at == len(self._text):
                return
            if self._next("[["):
                table = self._array_table()
            elif self._next("["):
                table = self._table()
            else:
                self._pair(table)

    def _table(self) -> Path:
        line = self._line()
        path = self._inside_arrays(self._key())
        self._expect("]")
        self._record(path, line)
        return path

    def _array_table(self) -> Path:
        line = self._line()
        *outer, last = self._key()
        array = (*self._inside_arrays(tuple(outer)), last)
        self._expect("]]")
        index = self._last_index[array] = self._last_index.get(array, -1) + 1
        self.lines.at.setdefault(array, line)
        self._record((*array, index), line)
        return (*array, index)

    def _inside_arrays(self, key: tuple[str, ...]) -> Path:
        """Where a heading leads: below an array of tables it means the newest of them."""
        path: Path = ()
        for piece in key:
            path = (*path, piece)
            if path in self._last_index:
                path = (*path, self._last_index[path])
        return path

    def _pair(self, table: Path) -> None:
        line = self._line()
        path = (*table, *self._key())
        self._record(path, line)
        self._expect("=")
        self._skip(_SPACE)
        self._value(path)

    def _value(self, path: Path) -> None:
        if self._next("["):
            self._array(path)
        elif self._next("{"):
            self._inline_table(path)
        elif not (self._skip(_STRING) or self._skip(_OTHER_VALUE)):
            raise _Unexpected

    def _array(self, path: Path) -> None:
        index = 0
        self._skip(_BLANK)
        while not self._next("]"):
            self.lines.at[(*path, index)] = self._line()
            self._value((*path, index))
            index += 1
            self._skip(_BLANK)
            if not self._next(","):
                self._expect("]")
                return
            self._skip(_BLANK)

    def _inline_table(self, path: Path) -> None:
        self._skip(_BLANK)
        while not self._next("}"):
            self._pair(path)
            self._skip(_BLANK)
            if not self._next(","):
                self._expect("}")
                return
            self._skip(_BLANK)

    def _key(self) -> tuple[str, ...]:
        pieces: list[str] = []
        while not pieces or self._next("."):
            self._skip(_SPACE)
            if piece := self._skip(_BARE_KEY):
                pieces.append(piece)
            elif piece := self._skip(_STRING):
                pieces.append(_unquoted(piece))
            else:
                raise _Unexpected
            self._skip(_SPACE)
        return tuple(pieces)

    def _record(self, path: Path, line: int) -> None:
        if path in self._explicit:
            self.lines.twice.append((path, self.lines.at[path], line))
            return
        self._explicit.add(path)
        # A table's own heading may come after those of the tables in it, and is the better place to point at.
        self.lines.at[path] = line
        for end in range(1, len(path)):
            self.lines.at.setdefault(path[:end], line)

    def _line(self) -> int:
        return bisect_right(self._line_ends, self._at - 1) + 1

    def _skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            return ""
        self._at = found.end()
        return found[0]

    def _next(self, mark: str) -> bool:
        if not self._text.startswith(mark, self._at):
            return False
        self._at += len(mark)
        return True

    def _expect(self, mark: str) -> None:
        if not self._next(mark):
            raise _Unexpected


def _unquoted(key: str) -> str:
    try:
        text = tomllib.loads(f"key = {key}")["key"]
    except tomllib.TOMLDecodeError:
        raise _Unexpected from None
    assert isinstance(text, str)
    return text
