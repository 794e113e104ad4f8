"""
Words as Tcl reads them: lists with groups in braces, and numbers as a C program reads them.

The receivers of DCS messages are Tcl programs: one takes a message for a list, another evaluates it as a command. So a
value of several words stands in braces, and braces are balanced.
"""

from __future__ import annotations

import re
from decimal import Decimal
from numbers import Integral, Real

from equipnet.errors import LocalProtocolError

#: What a dcss turns into blanks in everything that it passes on.
REPLACED = '[]$;\n"'

#: What makes a list more than words between blanks.
_SPECIAL = frozenset('{}"\\')

#: Whether a word needs neither braces nor a look at those that it has.
plain = re.compile(r'[^\s\[\]$;"\\{}]+').fullmatch

#: The digits that a number may have before its point; the C buffers behind it take no more.
_DIGITS = 40

_CLEANED = str.maketrans(dict.fromkeys(REPLACED + "{}\\\0\r\t", " "))

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def split(text: str) -> tuple[str, ...]:
    """
    Give the words of a list: groups in braces or quotes are one word each, without them.

    What is no list (a brace that is not closed) is read as far as it makes sense: the rest is the last word.
    """
    if _SPECIAL.isdisjoint(text):
        return tuple(text.split())
    words: list[str] = []
    at, end = 0, len(text)
    while True:
        while at < end and text[at].isspace():
            at += 1
        if at == end:
            return tuple(words)
        if text[at] == "{":
            word, at = _braced(text, at)
        elif text[at] == '"':
            word, at = _bare(text, at + 1, '"')
        else:
            word, at = _bare(text, at, "")
        words.append(word)


def _braced(text: str, start: int) -> tuple[str, int]:
    depth = 0
    at = start
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == "{":
            depth += 1
        elif text[at] == "}":
            depth -= 1
            if depth == 0:
                return text[start + 1 : at], at + 1
        at += 1
    return text[start + 1 :], len(text)


def _bare(text: str, at: int, closing: str) -> tuple[str, int]:
    word: list[str] = []
    while at < len(text):
        letter = text[at]
        if letter == "\\" and at + 1 < len(text):
            at += 1
            letter = _ESCAPES.get(text[at], text[at])
        elif letter == closing:
            return "".join(word), at + 1
        elif not closing and letter.isspace():
            break
        word.append(letter)
        at += 1
    return "".join(word), at


def quote(value: object) -> str:
    """
    Give a value as one word of a list.

    Parameters
    ----------
    value
        A text, a number (a bool is 1 or 0), bytes in ASCII, None for an empty word, or a list or tuple of such values,
        which becomes a group in braces.

    Raises
    ------
    LocalProtocolError
        When it cannot be said: nan, infinity, braces that are not balanced, another type.
    """
    if isinstance(value, str):
        if plain(value):
            return value
        word = value
    elif type(value) in (int, float) or isinstance(value, Real):
        return number(value)
    elif value is None:
        return "{}"
    elif isinstance(value, (list, tuple)):
        return "{" + join(value) + "}"
    elif isinstance(value, bytes):
        word = value.decode("ascii", "replace")
    else:
        try:
            return number(value)
        except TypeError:
            raise LocalProtocolError(f"{value!r:.80} is no word: give a text, a number or a tuple of them") from None
    if not balanced(word):
        raise LocalProtocolError(f"{word!r:.80} has braces that are not balanced, or a backslash at its end")
    if not word or word[0] in '{"' or any(letter.isspace() or letter in '[]$;"\\' for letter in word):
        return "{" + word + "}"
    return word


def join(values: list[object] | tuple[object, ...]) -> str:
    """Give values as a list; see `quote`."""
    return " ".join([value if type(value) is str and plain(value) else quote(value) for value in values])


def number(value: object) -> str:
    """
    Give a number as plain decimals: without an exponent, and never nan or infinity.

    Raises
    ------
    LocalProtocolError
        When it is not finite, or longer than a C program has room for.
    TypeError
        When it is no number.
    """
    if type(value) is int or isinstance(value, Integral):
        text = str(int(value))
    else:
        # numpy's own numbers are written otherwise by repr().
        text = float.__repr__(float(value))  # type: ignore[arg-type]  # TypeError is said in the docstring
        if "n" in text:
            raise LocalProtocolError(f"{text} is no position, count or setting: dcss cannot read it")
        if "e-" in text:
            text = f"{float(text):.18f}".rstrip("0")
            text = text + "0" if text.endswith(".") else text
        elif "e" in text:
            text = format(Decimal(text), "f")
    if len(text) > _DIGITS:
        raise LocalProtocolError(f"{text:.60} has too many digits for dcss")
    return text


def balanced(text: str) -> bool:
    """Whether Tcl can read a text within braces."""
    if _SPECIAL.isdisjoint(text):
        return True
    depth = 0
    escaped = False
    for letter in text:
        if escaped:
            escaped = False
        elif letter == "\\":
            escaped = True
        elif letter == "{":
            depth += 1
        elif letter == "}":
            depth -= 1
            if depth < 0:
                return False
    return depth == 0 and not escaped


def clean(text: str) -> str:
    """Give a text for people without all that dcss or Tcl would take for something else, on one line."""
    return " ".join(text.translate(_CLEANED).split())


def one_word(text: str) -> str:
    """Give a text for people as a single word, for places where dcss keeps the first word only."""
    return clean(text).replace(" ", "_")
