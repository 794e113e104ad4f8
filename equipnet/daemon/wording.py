"""What pydantic finds wrong with a table, in words for whoever wrote the file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from equipnet.daemon.fields import is_secret, keys_of, models_at, secret_files
from equipnet.daemon.lines import Path
from equipnet.daemon.substitution import Filled

_LONGEST_VALUE = 60
"""How many characters of a wrong value are shown."""

WITHHELD = "is not accepted (the reason is not shown: it would tell a secret)"

_EXPECTED: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "string_type": lambda limits: "a text",
    "int_type": lambda limits: "a whole number",
    "int_parsing": lambda limits: "a whole number",
    "int_parsing_size": lambda limits: "a smaller number",
    "int_from_float": lambda limits: "a whole number",
    "float_type": lambda limits: "a number",
    "float_parsing": lambda limits: "a number",
    "finite_number": lambda limits: "a finite number",
    "bool_type": lambda limits: "true or false",
    "bool_parsing": lambda limits: "true or false",
    "greater_than": lambda limits: f"greater than {limits['gt']:g}",
    "greater_than_equal": lambda limits: f"at least {limits['ge']:g}",
    "less_than": lambda limits: f"less than {limits['lt']:g}",
    "less_than_equal": lambda limits: f"at most {limits['le']:g}",
    "multiple_of": lambda limits: f"a multiple of {limits['multiple_of']:g}",
    "list_type": lambda limits: "a list",
    "tuple_type": lambda limits: "a list",
    "set_type": lambda limits: "a list",
    "frozen_set_type": lambda limits: "a list",
    "dict_type": lambda limits: "a table",
    "mapping_type": lambda limits: "a table",
    "model_type": lambda limits: "a table",
    "model_attributes_type": lambda limits: "a table",
    "dataclass_type": lambda limits: "a table",
    "path_type": lambda limits: "a text, the name of a file or folder",
    "literal_error": lambda limits: _one_of(limits["expected"]),
    "enum": lambda limits: _one_of(limits["expected"]),
    "union_tag_invalid": lambda limits: _one_of(limits["expected_tags"]),
    "string_too_short": lambda limits: f"a text of at least {_characters(limits['min_length'])}",
    "string_too_long": lambda limits: f"a text of at most {_characters(limits['max_length'])}",
    "bytes_too_short": lambda limits: f"at least {limits['min_length']} bytes long",
    "bytes_too_long": lambda limits: f"at most {limits['max_length']} bytes long",
    "too_short": lambda limits: f"a list of at least {limits['min_length']}",
    "too_long": lambda limits: f"a list of at most {limits['max_length']}",
}
"""What would be right, as it follows "must be", by pydantic's name of the mistake."""


@dataclass(frozen=True)
class _Finding:
    """One of pydantic's errors: its place, and what would be right; or, where that cannot be said, what is wrong."""

    path: Path
    expected: str = ""
    message: str = ""
    hint: str = ""


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Give ``"; did you mean 'x'?"`` for the known word that is most like ``word``, or nothing when none is."""
    by_lower = {name.lower(): name for name in known}
    nearest = difflib.get_close_matches(str(word).lower(), by_lower, 1)
    return f"; did you mean {by_lower[nearest[0]]!r}?" if nearest else ""


def unknown_key(word: str, known: Iterable[str]) -> str:
    """Say that a key is not known, and which one may have been meant or which there are."""
    known = tuple(known)
    return "unknown key" + (did_you_mean(word, known) or f"; known here: {', '.join(known)}")


def shown(value: object) -> str:
    """Write a wrong value shortly, as the file has it; of tables and lists only that they are such."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."


def explain(error: ValidationError, model: type[BaseModel], filled: Filled) -> list[tuple[Path, str]]:
    """
    Say what is wrong with a table.

    Parameters
    ----------
    error
        What pydantic found. Its own copy of the values is never asked for.
    model
        What the table was checked with.
    filled
        The table.

    Returns
    -------
    list[tuple[Path, str]]
        Place, from the table inwards, and message. Nothing is said about values that could not be had from elsewhere:
        that itself is the problem with them.
    """
    wording = _Wording(model, filled)
    findings = [
        found
        for item in error.errors(include_input=False, include_url=False)
        if (found := wording.finding(item)) is not None
    ]
    return wording.joined(findings)


class _Wording:
    """The words for the errors of one table."""

    def __init__(self, model: type[BaseModel], filled: Filled) -> None:
        self._model = model
        self._filled = filled
        self._failed = [path for path, _ in filled.problems]

    def finding(self, item: Mapping[str, Any]) -> _Finding | None:
        kind: str = item["type"]
        context: Mapping[str, Any] = item.get("ctx", {})
        path = self._place(item["loc"])
        if kind == "extra_forbidden":
            allowed = self._allowed(path[:-1], item["loc"])
            return _Finding(path, message=unknown_key(str(path[-1]), allowed))
        if kind == "missing":
            return self._missing(path, str(item["loc"][-1]))
        if kind == "union_tag_not_found":
            return self._missing(path, context["discriminator"].strip("'"))
        if kind == "union_tag_invalid":
            path = (*path, context["discriminator"].strip("'"))
        if self._is_incomplete(path):
            return None
        if expected := _EXPECTED.get(kind):
            text = expected(context)
            hint = "" if self._is_hidden(path) else did_you_mean(self._value(path), re.findall(r"'([^']*)'", text))
            return _Finding(path, expected=text, hint=hint)
        return _Finding(path, message=self._in_its_own_words(path, str(context.get("error", "")) or item["msg"]))

    def joined(self, findings: Iterable[_Finding]) -> list[tuple[Path, str]]:
        """One message for each place: a union's members each have their own complaint about the same value."""
        by_place: dict[Path, list[_Finding]] = {}
        for found in findings:
            by_place.setdefault(found.path, []).append(found)
        said: list[tuple[Path, str]] = []
        for path, there in by_place.items():
            # A member that wanted no table at all has nothing to add to what is wrong inside the table.
            inside = any(other[: len(path)] == path and other != path for other in by_place)
            if inside and not any(found.message for found in there) and isinstance(self._value(path), (dict, list)):
                continue
            said.extend((self._shown_place(path), message) for message in self._messages(path, there))
        return said

    def _messages(self, path: Path, there: list[_Finding]) -> list[str]:
        messages = list(dict.fromkeys(found.message for found in there if found.message))
        expected = list(dict.fromkeys(found.expected for found in there if found.expected))
        # What a member of a union says of a table's content is more than that another one wanted no table.
        if expected and not (messages and isinstance(self._value(path), dict)):
            value = "" if self._is_hidden(path) else f", not {shown(self._value(path))}"
            hint = next((found.hint for found in there if found.hint), "")
            messages.append(f"must be {' or '.join(expected)}{value}{hint}")
        return messages

    def _is_incomplete(self, path: Path) -> bool:
        """Tell whether something in a value could not be had, so that nothing can be said about the value."""
        return any(failed[: len(path)] == path or failed == self._shown_place(path) for failed in self._failed)

    def _place(self, loc: tuple[str | int, ...]) -> Path:
        """The part of pydantic's place that the table has; the rest names members of unions."""
        path: Path = ()
        here: Any = self._filled.table
        for piece in loc:
            in_list = isinstance(here, list) and isinstance(piece, int) and piece < len(here)
            if in_list or (isinstance(here, dict) and piece in here):
                here = here[piece]
                path = (*path, piece)
        return path

    def _shown_place(self, path: Path) -> Path:
        return self._filled.came_from.get(path, path)

    def _missing(self, table: Path, key: str) -> _Finding:
        models = models_at(self._model, table)
        files = [file for model in models for file, of in secret_files(model).items() if of == key]
        return _Finding(table, message=f"{key!r} is required" + "".join(f" (or {file!r})" for file in files[:1]))

    def _allowed(self, table: Path, loc: tuple[str | int, ...]) -> tuple[str, ...]:
        models = models_at(self._model, table)
        # Of a union's members pydantic names the one that it tried.
        models = tuple(model for model in models if model.__name__ in loc) or models
        return tuple(dict.fromkeys(key for model in models for key in (*keys_of(model), *secret_files(model))))

    def _is_hidden(self, path: Path) -> bool:
        elsewhere = any(path[:end] in self._filled.hidden for end in range(1, len(path) + 1))
        return elsewhere or is_secret(self._model, path)

    def _in_its_own_words(self, path: Path, text: str) -> str:
        text = " ".join(text.split())
        if self._is_hidden(path) or self._filled.reveals(text):
            return WITHHELD
        return re.sub("^Input should ", "must ", text)

    def _value(self, path: Path) -> Any:
        value: Any = self._filled.table
        for piece in path:
            value = value[piece]
        return value


def _one_of(expected: str) -> str:
    expected = re.sub(r"\b(?:True|False)\b", lambda word: word[0].lower(), expected)
    return f"one of {expected}" if " or " in expected or "," in expected else expected


def _characters(count: int) -> str:
    return "one character" if count == 1 else f"{count} characters"
