"""
Reading a configuration file: everything that is wrong with it is found at once, with its line, and no secret is told.

The file is TOML. ``[node]`` says what concerns the whole, ``[logging]`` what is logged, each ``[connections.NAME]``
describes one connection, and is checked by the model of its kind. Below ``connections`` any text may take its value
from elsewhere, as `equipnet.daemon.substitution` says.
"""

from __future__ import annotations

import os
import pkgutil
import re
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from importlib.machinery import PathFinder
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator
from pydantic.json_schema import models_json_schema
from twisted.plugin import getPlugins

import equipnet.plugins
import twisted
from equipnet.connection.address import Address, parse_listen
from equipnet.connection.config import ConnectionSection, Section
from equipnet.daemon.lines import Lines, Path, dotted, find_lines
from equipnet.daemon.substitution import Filled, fill_in
from equipnet.daemon.wording import WITHHELD, did_you_mean, explain, shown, unknown_key
from equipnet.errors import AddressError, ConfigError, EquipmentError, Problem
from equipnet.interfaces import IConnectionKind

if sys.version_info >= (3, 11):
    import tomllib
else:  # the same parser under its older name
    import tomli as tomllib

Kinds = Mapping[str, IConnectionKind]

Level = Literal["debug", "info", "warn", "error", "critical"]

_Section = TypeVar("_Section", bound=Section)

_Stamp = tuple[int, int, int] | None
"""Time of change, size and number of a file; None for what is no file."""

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_TABLES = ("node", "logging", "connections")
_PACKAGES = {"equipnet": equipnet, "twisted": twisted}
_NO_MODULES = ("log_legacy", "stdout", "stderr")
"""Where Twisted logs what has no namespace, and what is printed."""
_EVERY_INTERFACE = frozenset({"", "0.0.0.0", "::"})


class NodeSection(Section):
    """
    The ``[node]`` table.

    Parameters
    ----------
    name
        What the node is called; the file's name without its ending when it is not given.
    grace
        How many seconds the end of the node may take.
    """

    name: str = Field(default="", max_length=100)
    grace: float = Field(default=2.0, ge=0, le=3600, allow_inf_nan=False)


class LoggingSection(Section):
    """
    The ``[logging]`` table.

    Parameters
    ----------
    level
        The least level that is written, of everything that ``levels`` does not name.
    format
        ``"text"``, or ``"json"`` for one JSON object a line.
    levels
        The least level by name: that of a connection, or a logger's namespace, which stands for all below it.
    """

    level: Level = "info"
    format: Literal["text", "json"] = "text"
    levels: dict[str, Level] = {}

    @field_validator("levels", mode="before")
    @classmethod
    def _is_flat(cls, levels: object) -> object:
        for name, below in levels.items() if isinstance(levels, dict) else ():
            if isinstance(below, dict) and below:
                raise ValueError(f'a name with dots needs quotes: "{name}.{next(iter(below))}"')
        return levels


@dataclass(frozen=True, repr=False)
class NodeConfig:
    """
    One configuration file, read; all of it was found right, or what is in `problems` was not.

    Parameters
    ----------
    file
        The file as it was named to us.
    name
        The node's name.
    connections
        The table of each connection by name, in the order of the file.
    grace
        How many seconds the end of the node may take.
    logging
        What is logged.
    folder
        The folder of the file, absolute; relative file names in it start there.
    lines
        The line of each key.
    filled
        What `problem` may not show, by connection.
    files
        By connection, how the files were that its table names with a `pathlib.Path`, just before it was checked.
    problems
        What was found wrong in spite of which the rest was read; nothing in what `read_config` gives.
    """

    file: str
    name: str
    connections: Mapping[str, ConnectionSection]
    grace: float = 2.0
    logging: LoggingSection = field(default_factory=LoggingSection)
    folder: FilePath = field(default_factory=FilePath)
    lines: Lines = field(default_factory=Lines)
    filled: Mapping[str, Filled] = field(default_factory=dict)
    files: Mapping[str, tuple[_Stamp, ...]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def __repr__(self) -> str:
        kinds = ", ".join(f"{name}: {section.kind}" for name, section in self.connections.items())
        return f"<NodeConfig {self.name} from {self.file}: {kinds or 'no connections'}>"

    def agrees(self, other: NodeConfig, name: str) -> bool:
        """
        Tell whether two configurations say the same of a connection.

        Parameters
        ----------
        other
            The other configuration.
        name
            The connection. The values that its table takes from elsewhere count, and so do the files that it names.
        """
        here, there = self.connections.get(name), other.connections.get(name)
        try:
            return here is not None and bool(here == there) and self.files.get(name) == other.files.get(name)
        except Exception:  # a model may have fields that cannot be compared
            return False

    def problem(self, name: str, error: Exception) -> Problem:
        """
        Say that the connection of that name cannot be built.

        Parameters
        ----------
        name
            The connection.
        error
            Why. Its text is not shown if there is a secret in it.
        """
        path = ("connections", name)
        return Problem(self.lines.of(path), dotted(path), _reason(error, self.filled.get(name, Filled())))


def installed_kinds() -> dict[str, IConnectionKind]:
    """Find the kinds of connections that this installation knows, by name, in alphabetical order."""
    found = {kind.name: kind for kind in getPlugins(IConnectionKind, equipnet.plugins)}
    return dict(sorted(found.items()))


def read_config(
    path: FilePath | str, kinds: Kinds | None = None, environ: Mapping[str, str] | None = None
) -> NodeConfig:
    """
    Read the configuration file of a node.

    Parameters
    ----------
    path
        The file.
    kinds
        The known kinds by name; those that are installed when it is not given.
    environ
        Where ``${env:NAME}`` looks; the process's environment when it is not given.

    Raises
    ------
    ConfigError
        When anything is wrong with the content; it holds all that is.
    OSError
        When there is no such file or it cannot be read.
    """
    config = inspect_config(path, kinds, environ)
    if config.problems:
        raise ConfigError(config.file, config.problems)
    return config


def inspect_config(
    path: FilePath | str, kinds: Kinds | None = None, environ: Mapping[str, str] | None = None
) -> NodeConfig:
    """
    Read the configuration file of a node as far as it is right; what is wrong is in ``problems``.

    With `Node.from_config`, which raises these together with those that only show when a connection is built, all that
    is wrong with a file is said at once.

    Parameters
    ----------
    path, kinds, environ
        As for `read_config`.

    Raises
    ------
    OSError
        When there is no such file or it cannot be read.
    """
    reading = _Reading(FilePath(path), kinds, environ)
    if reading.parsed:
        return reading.node()
    return NodeConfig(str(path), FilePath(path).stem, {}, problems=reading.found())


def read_section(
    path: FilePath | str, kind: str, kinds: Kinds | None = None, environ: Mapping[str, str] | None = None
) -> NodeConfig:
    """
    Read a file that holds what would stand in one ``[connections.NAME]`` table, ``kind`` left out if one likes.

    Parameters
    ----------
    path
        The file.
    kind
        The kind of the connection.
    kinds, environ
        As for `read_config`.

    Returns
    -------
    NodeConfig
        A node with that one connection; both are called as the file, without its ending.

    Raises
    ------
    ConfigError, OSError
        As those of `read_config`.
    """
    reading = _Reading(FilePath(path), kinds, environ)
    config = reading.single(kind) if reading.parsed else None
    if config is None or config.problems:
        raise ConfigError(str(path), reading.found())
    return config


def complaint(path: FilePath | str, error: ConfigError | OSError) -> str:
    """
    Say what a command prints when a file cannot be used.

    Parameters
    ----------
    path
        The file.
    error
        What `read_config` or the building of the connections raised.

    Returns
    -------
    str
        One line for each problem and one with their number; a single line for a file that cannot be read.
    """
    if not isinstance(error, ConfigError):
        return f"{path}: cannot be read: {error.strerror or error}"
    count = len(error.problems)
    return f"{error}\n{error.file}: {count} problem{'' if count == 1 else 's'}"


def schema(kinds: Kinds | None = None) -> dict[str, Any]:
    """
    Give the JSON Schema (2020-12) of the configuration file, for editors.

    Parameters
    ----------
    kinds
        The known kinds by name; those that are installed when it is not given. One whose package cannot be imported is
        left out, and named in the schema's comment.
    """
    sections: dict[str, type[ConnectionSection]] = {}
    left_out: list[str] = []
    for name, kind in (installed_kinds() if kinds is None else kinds).items():
        try:
            sections[name] = kind.section()
        except Exception:  # whatever a package does when it is imported
            left_out.append(name)
    models: dict[type[Section], None] = dict.fromkeys((NodeSection, LoggingSection, *sections.values()))
    references, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/$defs/{model}"
    )
    for definition in definitions["$defs"].values():
        _allow_secret_files(definition)
    alternatives = [
        {**references[section, "validation"], "properties": {"kind": {"const": name}}, "required": ["kind"]}
        for name, section in sections.items()
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of an equipnet node",
        **({"$comment": f"Left out, as they cannot be imported: {', '.join(left_out)}"} if left_out else {}),
        "type": "object",
        "properties": {
            "node": references[NodeSection, "validation"],
            "logging": references[LoggingSection, "validation"],
            "connections": {
                "type": "object",
                "propertyNames": {"pattern": f"^{_NAME.pattern}$"},
                "additionalProperties": {
                    "type": "object",
                    "required": ["kind"],
                    "properties": {"kind": {"enum": list(sections)}},
                    "oneOf": alternatives,
                    "discriminator": {"propertyName": "kind"},
                },
            },
        },
        "additionalProperties": False,
        "$defs": definitions["$defs"],
    }


class _Reading:
    """
    One file on its way to a `NodeConfig`; problems are gathered, and what can be checked in spite of them is.

    Raises
    ------
    OSError
        When the file cannot be read.
    """

    def __init__(self, path: FilePath, kinds: Kinds | None, environ: Mapping[str, str] | None) -> None:
        self.problems: list[Problem] = []
        self._path = path
        self._folder = path.absolute().parent
        self._kinds = installed_kinds() if kinds is None else kinds
        self._environ = os.environ if environ is None else environ
        self._filled: dict[str, Filled] = {}
        self._sections: dict[str, ConnectionSection] = {}
        self._files: dict[str, tuple[_Stamp, ...]] = {}
        self._lines = Lines()
        self._document: dict[str, Any] = {}
        self.parsed = self._parse(path.read_bytes())

    def found(self) -> tuple[Problem, ...]:
        """Give the problems, each once, in the order of the file."""
        return tuple(sorted(dict.fromkeys(self.problems), key=astuple))

    def node(self) -> NodeConfig:
        for key in self._document:
            if key not in _TABLES:
                self._report((key,), unknown_key(key, _TABLES))
        node = self._table("node", NodeSection)
        logging = self._table("logging", LoggingSection)
        tables = self._document.get("connections", {})
        if isinstance(tables, dict):
            for name, table in tables.items():
                self._connection(name, table)
            self._check_needs(tables)
            self._check_ports()
            self._check_levels(tables)
        else:
            self._report(("connections",), "must be a table for each connection: [connections.NAME]")
        return self._config(node.name or self._path.stem, node.grace, logging)

    def single(self, kind: str) -> NodeConfig:
        name = self._path.stem
        self._section(name, (), {**self._document, "kind": kind})
        given = self._document.get("kind", kind)
        if given != kind:
            self._report(("kind",), f"must be {kind!r} here, or left out")
        return self._config(name, NodeSection().grace, LoggingSection())

    def _config(self, name: str, grace: float, logging: LoggingSection) -> NodeConfig:
        # Of a table with a value that could not be had nothing more can be said.
        complete = {name: section for name, section in self._sections.items() if not self._filled[name].problems}
        return NodeConfig(
            str(self._path),
            name,
            MappingProxyType(complete),
            grace,
            logging,
            self._folder,
            self._lines,
            self._filled,
            self._files,
            self.found(),
        )

    def _report(self, path: Path, message: str) -> None:
        self.problems.append(Problem(self._lines.of(path), dotted(path), message))

    # From bytes to tables.

    def _parse(self, content: bytes) -> bool:
        try:
            text = content.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            self.problems.append(Problem(line, "", "this is not UTF-8 text"))
            return False
        self._lines = find_lines(text)
        try:
            self._document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            self.problems.append(self._syntax_problem(str(error), text))
        except RecursionError:
            self.problems.append(Problem(1, "", "lists or tables in lists or tables, too deep to read"))
        return not self.problems

    def _syntax_problem(self, message: str, text: str) -> Problem:
        place = re.search(r"\(at (?:line (\d+), column \d+|end of document)\)$", message)
        line = int(place[1]) if place and place[1] else text.count("\n", 0, len(text.rstrip())) + 1
        message = message[: place.start()].strip() if place else message
        if message.startswith(("Cannot", "Duplicate")):
            for path, first, second in self._lines.twice:
                if second <= line:
                    return Problem(second, dotted(path), f"is there twice; the first is on line {first}")
            message = "This key or table is there already, or cannot be added to"
        # Nothing that is shown comes from the line itself: a secret may stand on it.
        message = re.sub(r"character ['\"].*", "character", message)
        return Problem(line, "", f"this is not TOML: {message[:1].lower()}{message[1:]}")

    # From tables to sections.

    def _table(self, key: str, model: type[_Section]) -> _Section:
        """Check a table that takes nothing from elsewhere; one that is wrong counts as empty."""
        table = self._document.get(key, {})
        if not isinstance(table, dict):
            self._report((key,), f"must be a table: [{key}]")
            return model()
        try:
            return model.model_validate(table)
        except ValidationError as error:
            for path, message in explain(error, model, Filled(table)):
                self._report((key, *path), message)
            return model()

    def _connection(self, name: str, table: Any) -> None:
        path = ("connections", name)
        if not _NAME.fullmatch(name):
            self._report(path, "a connection's name consists of letters, digits, '_' and '-'")
        if isinstance(table, dict):
            self._section(name, path, table)
        elif isinstance(table, list):
            self._report(path, "must be one table; write [connections.NAME], with one pair of brackets")
        else:
            self._report(path, "must be a table: [connections.NAME]")

    def _section(self, name: str, path: Path, table: dict[str, Any]) -> None:
        """Check one connection's table; a kind that is wrong does not keep the rest from being filled in."""
        kind = fill_in({"kind": table.get("kind")}, self._environ, self._folder)
        model = None if kind.problems else self._model(path, kind)
        filled = self._filled[name] = fill_in(table, self._environ, self._folder, model=model)
        for place, message in filled.problems:
            self._report((*path, *place), message)
        if model is None:
            return
        try:
            section = self._sections[name] = model.model_validate(filled.table)
            self._files[name] = tuple(_stamp(self._folder / file) for file in _files(section))
        except ValidationError as error:
            for place, message in explain(error, model, filled):
                self._report((*path, *place), message)
        except Exception as error:  # a mistake in the model; the other connections are checked all the same
            self._report(path, _reason(error, filled))

    def _model(self, path: Path, filled: Filled) -> type[ConnectionSection] | None:
        kind = filled.table["kind"]
        place = (*path, "kind")
        is_hidden = ("kind",) in filled.hidden
        if kind is None:
            self._report(path, f"'kind' is required; one of {self._known()}")
        elif not isinstance(kind, str):
            self._report(place, f"must be a text, not {shown(kind)}")
        elif kind not in self._kinds:
            what = "unknown kind" if is_hidden else f"unknown kind {kind!r}"
            hint = "" if is_hidden else did_you_mean(kind, self._kinds)
            self._report(place, f"{what}; one of {self._known()}{hint}")
        else:
            try:
                return self._kinds[kind].section()
            except Exception as error:  # whatever a package does when it is imported
                what = "this kind" if is_hidden else f"kind {kind!r}"
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                self._report(place, f"{what} cannot be used: {reason}")
        return None

    def _known(self) -> str:
        return ", ".join(map(repr, self._kinds)) or "none that is installed"

    # Between sections.

    def _check_needs(self, tables: Mapping[str, Any]) -> None:
        needs: dict[str, list[str]] = {}
        for name, filled in self._filled.items():
            needs[name] = []
            reported = {place for place, _ in filled.problems}
            given = filled.table.get("needs")
            for index, needed in enumerate(given if isinstance(given, list) else ()):
                place = ("needs", index)
                # What is not a text, or could not be had, has been reported as such.
                if not isinstance(needed, str) or place in reported:
                    continue
                if needed in tables:
                    needs[name].append(needed)
                elif place in filled.hidden:
                    self._report(("connections", name, *place), "there is no connection of that name")
                else:
                    hint = did_you_mean(needed, (other for other in tables if other != name))
                    self._report(("connections", name, *place), f"there is no connection {needed!r}{hint}")
        try:
            for circle in _circles(needs):
                self._report(("connections", circle[0], "needs"), f"goes in a circle: {' -> '.join(circle)}")
        except RecursionError:
            self._report(("connections",), "connections need one another in a chain that is too long to follow")

    def _check_ports(self) -> None:
        bound: dict[tuple[str, int, str], list[tuple[Address, Path]]] = {}
        for name, section in self._sections.items():
            try:
                addresses = section.listens_on()
            except Exception as error:
                self._report(("connections", name), _reason(error, self._filled[name]))
                continue
            for address in addresses:
                if address.scheme != "unix" and address.port == 0:
                    continue  # any port that is free
                others = bound.setdefault(_port_space(address), [])
                path = self._where_bound(name, address, [path for _, path in others])
                for other, other_path in others:
                    if _collide(address, other):
                        # The number itself may have come from elsewhere; otherwise it stands on that line.
                        first = f"{dotted(other_path)} on line {self._lines.of(other_path)}"
                        self._report(path, f"the same {_port_words(address)} as {first}")
                        break
                others.append((address, path))

    def _check_levels(self, tables: Mapping[str, Any]) -> None:
        """Refuse the names that are neither of a connection nor where a logger could be."""
        logging = self._document.get("logging")
        levels = logging.get("levels") if isinstance(logging, dict) else None
        for name, level in levels.items() if isinstance(levels, dict) else ():
            first, _, below = name.partition(".")
            # A table there has been reported as such.
            if name in tables or name in _NO_MODULES or isinstance(level, dict):
                continue
            known: Iterable[str] = (*tables, *_PACKAGES)
            if first in _PACKAGES and below:
                known = [f"{first}.{module.name}" for module in pkgutil.iter_modules(_PACKAGES[first].__path__)]
                if f"{first}.{below.partition('.')[0]}" in known:
                    continue
            elif self._is_module(first):
                continue
            self._report(
                ("logging", "levels", name), f"there is no connection and no module {name!r}{did_you_mean(name, known)}"
            )

    def _is_module(self, name: str) -> bool:
        try:
            return bool(name) and (PathFinder.find_spec(name, [str(self._folder)]) or find_spec(name)) is not None
        except ValueError:  # it is one, but does not know where it came from
            return True

    def _where_bound(self, name: str, address: Address, others: list[Path]) -> Path:
        """Where a connection's table says that it listens there; the table itself if that cannot be told."""
        table: Path = ("connections", name)
        for key, value in _texts(self._filled[name].table):
            with suppress(AddressError):
                if parse_listen(value) == address and (*table, *key) not in others:
                    return (*table, *key)
        return table


def _reason(error: Exception, filled: Filled) -> str:
    """Say shortly what an exception says, unless it would tell a secret."""
    text = str(error)
    if isinstance(error, OSError) and not isinstance(error, EquipmentError) and error.strerror:
        text = error.strerror + (f": {os.fspath(error.filename)!r}" if error.filename else "")
        if filled.reveals(text):
            return error.strerror
    elif not isinstance(error, (EquipmentError, ValueError)):
        text = f"{type(error).__name__}: {text}"
    text = " ".join(text.split())
    return f"{type(error).__name__}: {WITHHELD}" if filled.reveals(text) else text


def _files(value: object) -> Iterator[FilePath]:
    """Give the files that a section names as such, in tables and lists too."""
    if isinstance(value, FilePath):
        yield value
    elif isinstance(value, BaseModel):
        yield from _files(vars(value))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _files(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _files(item)


def _stamp(file: FilePath) -> _Stamp:
    try:
        found = file.stat()
    except (OSError, ValueError):  # what is wrong with it is told by who wants to read it
        return None
    # What is written into a folder does not make it another one.
    return (found.st_mtime_ns, found.st_size, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def _texts(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index))


def _circles(needs: Mapping[str, Iterable[str]]) -> Iterator[list[str]]:
    """Give each circle once, from the first of its names in the file, with that name again at its end."""
    finished: set[str] = set()

    def follow(trail: list[str]) -> Iterator[list[str]]:
        for needed in needs.get(trail[-1], ()):
            if needed in trail:
                yield [*trail[trail.index(needed) :], needed]
            elif needed not in finished:
                yield from follow([*trail, needed])
        finished.add(trail[-1])

    for name in needs:
        if name not in finished:
            yield from follow([name])


def _port_space(address: Address) -> tuple[str, int, str]:
    """Say which addresses may be in the way of each other: TLS is TCP, and UDP has its own ports."""
    if address.scheme == "unix":
        return "unix", 0, os.path.normpath(address.path)
    return "udp" if address.scheme == "udp" else "tcp", address.port, ""


def _collide(first: Address, second: Address) -> bool:
    """Tell whether two addresses of one space cannot both be bound."""
    if first.scheme == "unix":
        return True
    interfaces = {_interface(first.host), _interface(second.host)}
    return len(interfaces) == 1 or bool(interfaces & _EVERY_INTERFACE)


def _interface(host: str) -> str:
    try:
        return str(ip_address("127.0.0.1" if host == "localhost" else host))
    except ValueError:
        return host.lower()


def _port_words(address: Address) -> str:
    if address.scheme == "unix":
        return "socket file"
    return "UDP port" if address.scheme == "udp" else "TCP port"


def _allow_secret_files(definition: dict[str, Any]) -> None:
    """Let a table's schema take ``password_file`` where it takes a secret ``password``."""
    properties = definition.get("properties", {})
    required = definition.get("required", [])
    for key in [key for key, schema in properties.items() if _is_secret_schema(schema)]:
        file_key = f"{key}_file"
        if file_key in properties:
            continue
        properties[file_key] = {"type": "string", "description": f"The file that holds {key}."}
        either = [{"required": [key]}, {"required": [file_key]}]
        if key in required:
            required.remove(key)
            definition.setdefault("allOf", []).append({"oneOf": either})
        else:
            definition.setdefault("allOf", []).append({"not": {"required": [key, file_key]}})


def _is_secret_schema(schema: Mapping[str, Any]) -> bool:
    return schema.get("format") == "password" or any(map(_is_secret_schema, schema.get("anyOf", ())))
