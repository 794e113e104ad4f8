r"""
How the messages of Tekniker's Operation Manager look: bytes <-> the values of `equipnet.communicator.message`.

A message is a line of fields with ``\n`` between them and ``\r\n`` at the end; a command is ``sequence_id``, code,
``source``, ``timestamp`` (ISO, UTC) and its parameters, a reply its code and its fields. Nothing is escaped.

Three dialects are spoken. What the later ones have changed is known only in part: from v0.13 on an `Error` and a
`Warning` have a ``description`` (as of v0.12), `SafetyReset` has ``what``, the two EnableTracking commands 108 and 408
have no ``on``, and what is not ASCII in a reply is left out. From v0.15 on (``"json"``) there is one socket, times are
TAI, and replies are JSON objects, of which the parameters of `Ack`, `NoAck`, `Done`, `Failed`, `Superseded` and
`InPosition` are known (that all of the first five have ``sequenceId``, and that `NoAck` has its text in
``explanation``, is concluded from the others); all other replies are given as a `Report`. Its commands are taken to
have the parameters of v0.13. Versions that renumber commands are served by `Dialect.with_commands`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta, timezone
from operator import index
from types import MappingProxyType
from typing import Any, get_type_hints

from equipnet.communicator.message import (
    COMMANDS,
    LAST_SEQUENCE_ID,
    NO_LIMIT,
    REPLIES,
    Ack,
    Command,
    CommandReply,
    Done,
    Error,
    Failed,
    InPosition,
    Message,
    NoAck,
    Reply,
    ReplyId,
    Report,
    Source,
    Superseded,
    Warning,
)
from equipnet.errors import LocalProtocolError, RemoteProtocolError

#: What ends a message, and what stands between its fields.
TERMINATOR, SEPARATOR = b"\r\n", "\n"

#: Seconds by which TAI is ahead of UTC, since 2017-01-01.
TAI_MINUS_UTC = 37.0


@dataclass(frozen=True, eq=False)
class Dialect:
    """
    How messages look, and over how many sockets they go.

    Parameters
    ----------
    name
        ``"v0.9"``, ``"v0.13"`` or ``"json"``.
    version
        The first version of MTMount, 0.N, whose messages look so.
    strict_replies
        Whether a reply that is not ASCII is refused; else what is not ASCII in it is left out.
    json_replies
        Whether replies are JSON, and times TAI.
    one_socket
        Whether commands and replies go over the same socket.
    commands
        The commands by their code.
    """

    name: str
    version: int
    strict_replies: bool = True
    json_replies: bool = False
    one_socket: bool = False
    commands: Mapping[int, type[Command]] = field(default_factory=lambda: COMMANDS, repr=False)

    def with_commands(self, *commands: type[Command]) -> Dialect:
        """Give a dialect that has these commands as well, or instead of those with the same code."""
        return replace(self, commands={**self.commands, **{each.code: each for each in commands}})


DIALECTS: Mapping[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        Dialect("v0.9", 9),
        Dialect("v0.13", 13, strict_replies=False),
        Dialect("json", 15, strict_replies=False, json_replies=True, one_socket=True),
    )
}


def dialect_of(dialect: str | Dialect) -> Dialect:
    """Give the dialect of that name; raises ValueError when there is none."""
    if isinstance(dialect, Dialect):
        return dialect
    if dialect not in DIALECTS:
        raise ValueError(f"{dialect!r} is no dialect; there are {', '.join(map(repr, DIALECTS))}")
    return DIALECTS[dialect]


# From values to bytes


def encode(message: Message, dialect: Dialect) -> bytes:
    """
    Give the bytes of a message, terminator included.

    Parameters
    ----------
    message
        A command or a reply with its sequence id, source and timestamp; where a command has none of them yet it is
        written with sequence id 0, source 0 and the present time, which no telescope takes: see `Communicator.write`.
    dialect
        How it looks.

    Raises
    ------
    LocalProtocolError
        When it cannot be said: a text with a line feed or a carriage return in it or that is not ASCII, a number that
        is none or not finite, a parameter or a reply that the dialect does not have.
    """
    try:
        if isinstance(message, Command):
            text = _command_text(message, dialect)
        elif dialect.json_replies:
            return json.dumps(_reply_object(message), allow_nan=False, separators=(",", ":")).encode() + TERMINATOR
        else:
            text = _reply_text(message, dialect)
        return text.encode("ascii") + TERMINATOR
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise LocalProtocolError(f"{message} cannot be sent in the dialect {dialect.name}: {error}") from error


def _command_text(message: Command, dialect: Dialect) -> str:
    parts = [
        _int_text(message.sequence_id or 0),
        str(message.code),
        str(int(message.source or 0)),
        _tai_text(message.timestamp) if dialect.json_replies else _iso_text(message.timestamp),
    ]
    if not 0 <= (message.sequence_id or 0) <= LAST_SEQUENCE_ID:
        raise ValueError(f"sequence_id is not 0 to {LAST_SEQUENCE_ID}")
    return _with_fields(parts, message, dialect)


def _reply_text(message: Reply, dialect: Dialect) -> str:
    if message.reply_code < 0:
        raise ValueError("it is a reply of the dialect json")
    return _with_fields([str(message.reply_code)], message, dialect)


def _with_fields(parts: list[str], message: Message, dialect: Dialect) -> str:
    layout = _layout(type(message), dialect)
    for each in layout.fields:
        parts.append(each.text(getattr(message, each.name)))
    for name, default in layout.absent:
        if getattr(message, name) != default:
            raise ValueError(f"there is no {name!r}")
    if layout.has_extra:
        parts += map(_str_text, message.extra)  # type: ignore[union-attr]
    return SEPARATOR.join(parts)


def _reply_object(message: Reply) -> dict[str, Any]:
    parameters: Mapping[str, Any]
    if isinstance(message, Report):
        number, parameters = message.id, dict(message.parameters)
    elif type(message) in _JSON_IDS:
        number = _JSON_IDS[type(message)]
        parameters = {key: getattr(message, name) for key, name, _ in _JSON_REPLIES[number][1]}
    else:
        raise ValueError("how it looks there is not known; send a Report")
    if isinstance(message, Ack):
        milliseconds = _index(message.timeout_ms)
        parameters = {**parameters, "timeout": NO_LIMIT if milliseconds < 0 else milliseconds / 1000}
    return {"id": int(number), "timestamp": _tai(message.timestamp), "parameters": parameters}


# From bytes to values


def decode(frame: bytes, dialect: Dialect, replies: bool) -> Message:
    """
    Give the value of a message.

    Parameters
    ----------
    frame
        Its bytes, without the terminator.
    dialect
        How it looks.
    replies
        Whether it is a reply; else it is a command.

    Raises
    ------
    RemoteProtocolError
        When it is none: an unknown code, too few or too many fields, a field that is not what it should be, bytes that
        are not ASCII. ``data`` are its bytes.
    """
    try:
        if not replies:
            return _command(frame.decode("ascii").split(SEPARATOR), dialect)
        if dialect.json_replies:
            return _json_reply(frame)
        text = frame.decode("ascii", "strict" if dialect.strict_replies else "ignore")
        return _reply_value(text.split(SEPARATOR), dialect)
    except _Wrong as error:
        what, cause = str(error), error.__cause__
    except (ValueError, OverflowError, RecursionError, OSError) as error:
        what, cause = str(error), error
    kind = "reply" if replies else "command"
    raise RemoteProtocolError(f"Not a {kind} of the dialect {dialect.name}: {what}: {frame[:200]!r}", frame) from cause


class _Wrong(Exception):
    """A message makes no sense."""


def _command(texts: list[str], dialect: Dialect) -> Command:
    if len(texts) < 4:
        raise _Wrong(f"{len(texts)} fields, less than 4")
    code = _int_value(texts[1])
    cls = dialect.commands.get(code)
    if cls is None:
        raise _Wrong(f"there is no command {code}")
    values = _values(cls, dialect, texts, 4)
    values["sequence_id"] = _int_value(texts[0])
    values["source"] = _source_value(texts[2])
    values["timestamp"] = _tai_value(_float_value(texts[3])) if dialect.json_replies else _iso_value(texts[3])
    return cls(**values)


def _reply_value(texts: list[str], dialect: Dialect) -> Reply:
    code = _int_value(texts[0])
    cls = REPLIES.get(code)
    if cls is None:
        raise _Wrong(f"there is no reply {code}")
    return cls(**_values(cls, dialect, texts, 1))


def _values(cls: type[Message], dialect: Dialect, texts: list[str], start: int) -> dict[str, Any]:
    layout = _layout(cls, dialect)
    expected = start + len(layout.fields)
    if len(texts) != expected and not (layout.has_extra and len(texts) > expected):
        raise _Wrong(f"{len(texts)} fields, {cls.__name__} has {expected}{' or more' * layout.has_extra}")
    values = {}
    for each in layout.fields:
        try:
            values[each.name] = each.value(texts[start])
        except (ValueError, OverflowError) as error:
            raise _Wrong(f"{each.name} of {cls.__name__}: {error}") from error
        start += 1
    if layout.has_extra:
        values["extra"] = tuple(texts[start:])
    return values


def _json_reply(frame: bytes) -> Reply:
    found = json.loads(frame)
    if not isinstance(found, dict):
        raise _Wrong("it is no object")
    number, timestamp, parameters = (found.get(key) for key in ("id", "timestamp", "parameters"))
    if type(number) is not int or not isinstance(parameters, dict):
        raise _Wrong("it needs a whole number 'id' and an object 'parameters'")
    when = _tai_value(_json_float(timestamp))
    if number not in _JSON_REPLIES:
        return Report(number, MappingProxyType(parameters), timestamp=when)
    cls, names = _JSON_REPLIES[number]
    values = {}
    for key, name, value in names:
        try:
            values[name] = value(parameters[key])
        except KeyError as error:
            raise _Wrong(f"{cls.__name__} needs {key!r}") from error
        except ValueError as error:
            raise _Wrong(f"{key} of {cls.__name__}: {error}") from error
    reply: Reply = cls(timestamp=when, **values)
    return reply


# How the fields look


def _index(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError(f"{value!r} is no whole number")
    return index(value)


def _int_text(value: Any) -> str:
    if type(value) is int:
        return str(value)
    return str(_index(value))


def _int_value(text: str) -> int:
    if text.isdecimal() and len(text) < 20:
        return int(text)
    if not (text[1:] if text[:1] in ("-", "+") else text).strip().isdecimal() or len(text) > 20:
        raise ValueError(f"{text[:40]!r} is no whole number")
    return int(text)


def _float_text(value: Any) -> str:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not finite")
    return repr(number)


def _float_value(text: str) -> float:
    number = float(text)
    if not math.isfinite(number) or "_" in text:
        raise ValueError(f"{text[:40]!r} is no finite number")
    return number


def _bool_text(value: Any) -> str:
    if value not in (0, 1):
        raise ValueError(f"{value!r} is not true or false")
    return "1" if value else "0"


def _bool_value(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError(f"{text[:40]!r} is not 0 or 1")
    return text == "1"


def _str_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    if "\n" in value or "\r" in value:
        raise ValueError(f"{value!r} has a line feed or a carriage return in it")
    return value


def _source_text(value: Any) -> str:
    return str(int(value if type(value) is Source else Source(value)))


def _source_value(text: str) -> Source:
    found = _SOURCES.get(text)
    return Source(_int_value(text)) if found is None else found


def _ints_text(value: Any) -> str:
    return ":".join(map(_int_text, value))


def _ints_value(text: str) -> tuple[int, ...]:
    return tuple(map(_int_value, text.split(":"))) if text else ()


def _milliseconds_value(text: str) -> int:
    return _int_value(text) if text else 0


def _iso_text(when: datetime | None) -> str:
    when = when or datetime.now(timezone.utc)
    if when.tzinfo is not timezone.utc and when.tzinfo is not None:
        when = when.astimezone(timezone.utc)
    return when.isoformat("T", "milliseconds")[:23]


_ISO = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:)(\d\d)(?:\.(\d+))?Z?", re.ASCII)


def _iso_value(text: str) -> datetime:
    # Any number of decimals, and second 60, are more than fromisoformat takes in every Python.
    if len(text) == 23 and text[17] != "6" and text[19] == ".":
        return datetime.fromisoformat(text + "+00:00")
    found = _ISO.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is no time in ISO format")
    minute, second, decimals = found.groups()
    if int(second) > 60:
        raise ValueError(f"{text[:40]!r} is no time in ISO format")
    microseconds = int((decimals or "0")[:6].ljust(6, "0"))
    when = datetime.fromisoformat(f"{minute}00").replace(tzinfo=timezone.utc)
    return when + timedelta(seconds=int(second), microseconds=microseconds)


def _tai(when: datetime | None) -> float:
    when = when or datetime.now(timezone.utc)
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return round(when.timestamp() + TAI_MINUS_UTC, 6)


def _tai_text(when: datetime | None) -> str:
    return repr(_tai(when))


def _tai_value(seconds: float) -> datetime:
    return datetime.fromtimestamp(round(seconds - TAI_MINUS_UTC, 6), timezone.utc)


def _json_int(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} is no whole number")
    return value


def _json_float(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no finite number")
    return float(value)


def _json_bool(value: Any) -> bool:
    if value not in (0, 1):
        raise ValueError(f"{value!r} is not true or false")
    return bool(value)


def _json_str(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _json_milliseconds(value: Any) -> int:
    seconds = _json_float(value)
    return NO_LIMIT if seconds < 0 else round(seconds * 1000)


# The key of each parameter, the name of the field, and what makes a value of it.
_JSON_REPLIES: dict[int, tuple[Any, tuple[tuple[str, str, Callable[[Any], Any]], ...]]] = {
    ReplyId.CMD_ACKNOWLEDGED: (
        Ack,
        (("sequenceId", "sequence_id", _json_int), ("timeout", "timeout_ms", _json_milliseconds)),
    ),
    ReplyId.CMD_REJECTED: (
        NoAck,
        (("sequenceId", "sequence_id", _json_int), ("explanation", "explanation", _json_str)),
    ),
    ReplyId.CMD_SUCCEEDED: (Done, (("sequenceId", "sequence_id", _json_int),)),
    ReplyId.CMD_FAILED: (
        Failed,
        (("sequenceId", "sequence_id", _json_int), ("explanation", "explanation", _json_str)),
    ),
    ReplyId.CMD_SUPERSEDED: (
        Superseded,
        (
            ("sequenceId", "sequence_id", _json_int),
            ("supersedingSequenceId", "by_sequence_id", _json_int),
            ("supersedingCommander", "by_commander", _json_int),
            ("supersedingCommandCode", "by_code", _json_int),
        ),
    ),
    ReplyId.IN_POSITION: (InPosition, (("axis", "what", _json_int), ("inPosition", "in_position", _json_bool))),
}
_JSON_IDS: dict[type[Reply], int] = {cls: number for number, (cls, _) in _JSON_REPLIES.items()}

_SOURCES = {str(int(source)): source for source in Source}

_FORMATS: dict[Any, tuple[Callable[[Any], str], Callable[[str], Any]]] = {
    bool: (_bool_text, _bool_value),
    int: (_int_text, _int_value),
    float: (_float_text, _float_value),
    str: (_str_text, str),
    Source: (_source_text, _source_value),
    tuple[int, ...]: (_ints_text, _ints_value),
    datetime | None: (_iso_text, _iso_value),
}


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    text: Callable[[Any], str]
    value: Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class _Layout:
    """The fields of a message after its header, those that the dialect lacks with their defaults, and any others."""

    fields: tuple[_Field, ...]
    absent: tuple[tuple[str, object], ...]
    has_extra: bool


_layouts: dict[tuple[type, int], _Layout] = {}

#: Where the fields that all replies of a sort share stand among the others.
_REPLY_ORDER = {
    CommandReply: ("sequence_id", "source", "timestamp"),
    Error: ("on", "active", "code", "subsystem", "timestamp", "description"),
    Warning: ("active", "code", "subsystem", "timestamp", "description"),
    Reply: ("timestamp",),
}


def _layout(cls: type[Message], dialect: Dialect) -> _Layout:
    layout = _layouts.get((cls, dialect.version))
    if layout is None:
        layout = _layouts[cls, dialect.version] = _make_layout(cls, dialect.version)
    return layout


def _make_layout(cls: type[Message], version: int) -> _Layout:
    known = {each.name: each for each in fields(cls)}
    if issubclass(cls, Command):
        names = [name for name in known if name not in ("sequence_id", "source", "timestamp")]
    else:
        first = next(order for base, order in _REPLY_ORDER.items() if issubclass(cls, base))
        names = [*first, *(name for name in known if name not in (*first, "extra"))]
    hints = get_type_hints(cls)
    present, absent = [], []
    for name in names:
        about = known[name].metadata
        if about.get("since", 0) <= version <= about.get("until", version):
            text, value = _FORMATS[hints[name]]
            present.append(_Field(name, text, _milliseconds_value if name == "timeout_ms" else value))
        else:
            absent.append((name, known[name].default))
    return _Layout(tuple(present), tuple(absent), "extra" in known)
