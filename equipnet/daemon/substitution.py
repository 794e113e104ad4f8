"""
Values that a configuration file takes from elsewhere: ``${env:NAME}``, ``${cred:NAME}`` and ``password_file``.

All of them are treated as secrets, whatever the field: nothing that is said about the file shows one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from pydantic import BaseModel

from equipnet.daemon.fields import is_secret, models_at, secret_files
from equipnet.daemon.lines import Path

_REFERENCE = re.compile(r"\$\$\{|\$\{(?:env:(?P<env>[A-Za-z_]\w*)|cred:(?P<cred>\w[\w.@:-]*))\}|\$\{", re.ASCII)


@dataclass(repr=False)
class Filled:
    """
    A table with everything in it that comes from elsewhere.

    Parameters
    ----------
    table
        The table, complete.
    hidden
        Places whose value came from elsewhere.
    came_from
        The place of ``password_file`` by that of the ``password`` it gave.
    secrets
        The texts that may not be shown: those from elsewhere, and those that stand in the file where a secret goes.
    problems
        What could not be had: place and message.
    """

    table: dict[str, Any] = field(default_factory=dict)
    hidden: set[Path] = field(default_factory=set)
    came_from: dict[Path, Path] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)
    problems: list[tuple[Path, str]] = field(default_factory=list)

    def reveals(self, text: str) -> bool:
        """Tell whether a text contains one of the secrets, as it is, in other letter case, or as `repr` writes it."""
        text = text.casefold()
        forms = (form for secret in self.secrets for form in (secret.strip(), repr(secret)[1:-1].strip()))
        return any(form and form.casefold() in text for form in forms)


class _Missing(Exception):
    """A value is not where the file says; the argument says so in words."""


class _Source:
    """Where values come from: the environment, its credentials folder, and files beside the configuration file."""

    def __init__(self, environ: Mapping[str, str], folder: FilePath) -> None:
        self._environ = environ
        self._folder = folder

    def text(self, text: str) -> tuple[str, list[str]]:
        """Give a text with its references replaced, and what replaced them."""
        found: list[str] = []

        def replacement(reference: re.Match[str]) -> str:
            if reference[0] == "$${":
                return "${"
            if reference["env"]:
                value = self._variable(reference["env"])
            elif reference["cred"]:
                value = self._credential(reference["cred"])
            else:
                raise _Missing("'${' begins ${env:NAME} or ${cred:NAME}; for the characters themselves write '$${'")
            found.append(value)
            return value

        return _REFERENCE.sub(replacement, text), found

    def file(self, name: str, what: str) -> str:
        """Give the content of a file named in the configuration; an error calls it ``what``."""
        return _content(self._folder / name, what)

    def _variable(self, name: str) -> str:
        if name not in self._environ:
            raise _Missing(f"the environment variable {name} is not set")
        return self._environ[name]

    def _credential(self, name: str) -> str:
        folder = self._environ.get("CREDENTIALS_DIRECTORY")
        if not folder:
            raise _Missing(f"there is no credential {name}: CREDENTIALS_DIRECTORY is not set")
        return _content(FilePath(folder) / name, f"the credential {name}")


def _content(path: FilePath, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise _Missing(f"{what} cannot be read: {error.strerror}") from None
    except ValueError:
        raise _Missing(f"{what} cannot be read: it is not UTF-8 text") from None


def fill_in(
    table: Mapping[str, Any], environ: Mapping[str, str], folder: FilePath, *, model: type[BaseModel] | None = None
) -> Filled:
    """
    Replace each ``${env:NAME}`` and ``${cred:NAME}`` in the texts of a table, and ``X_file`` by ``X`` for a secret X.

    Parameters
    ----------
    table
        A table as the file has it.
    environ
        The environment. ``${cred:NAME}`` is the file NAME in the folder that its ``CREDENTIALS_DIRECTORY`` names, as
        systemd has it.
    folder
        Where relative file names start.
    model
        The model of the table, which tells what is secret in it; with None only the names of the keys do.
    """
    filled = Filled()
    filled.table = _Filling(filled, _Source(environ, folder), model).table((), table)
    return filled


class _Filling:
    """One walk through a table."""

    def __init__(self, filled: Filled, source: _Source, model: type[BaseModel] | None) -> None:
        self._filled = filled
        self._source = source
        self._model = model

    def table(self, path: Path, table: Mapping[str, Any]) -> dict[str, Any]:
        complete = {key: self._value((*path, key), value) for key, value in table.items()}
        models = () if self._model is None else models_at(self._model, path)
        for file_key, key in {pair for model in models for pair in secret_files(model).items()}:
            if file_key in complete:
                self._secret_from_file(path, complete, file_key, key)
        return complete

    def _value(self, path: Path, value: Any) -> Any:
        if isinstance(value, dict):
            return self.table(path, value)
        if isinstance(value, list):
            return [self._value((*path, index), item) for index, item in enumerate(value)]
        return self._text(path, value) if isinstance(value, str) else value

    def _text(self, path: Path, text: str) -> str:
        try:
            complete, found = self._source.text(text)
        except _Missing as missing:
            self._filled.problems.append((path, str(missing)))
            return text
        if found:
            self._filled.hidden.add(path)
            self._hide((complete, *found))
        elif is_secret(self._model, path):
            self._hide((complete,))
        return complete

    def _secret_from_file(self, path: Path, table: dict[str, Any], file_key: str, key: str) -> None:
        name = table.pop(file_key)
        place = (*path, file_key)
        problem = ""
        if key in table:
            problem = f"{key!r} is there too; give one of them"
        elif not isinstance(name, str):
            problem = "must be a text, the name of a file"
        elif place not in {failed for failed, _ in self._filled.problems}:
            try:
                # The name may itself have come from elsewhere.
                what = "the file" if place in self._filled.hidden else f"the file {name!r}"
                table[key] = self._source.file(name, what)
                self._hide((table[key],))
            except _Missing as missing:
                problem = str(missing)
        if problem:
            self._filled.problems.append((place, problem))
        table.setdefault(key, "")
        self._filled.hidden.add((*path, key))
        self._filled.came_from[(*path, key)] = place

    def _hide(self, texts: Iterable[str]) -> None:
        self._filled.secrets.update(text for text in texts if text.strip())
