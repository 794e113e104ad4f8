"""What is logged: levels by name, text or JSON, and repetitions counted; written where ``twistd`` would write it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from copy import copy
from datetime import datetime, timezone
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LegacyLogObserverWrapper,
    LogEvent,
    LogLevel,
    formatEvent,
)
from twisted.python.failure import Failure
from twisted.python.reflect import safe_repr, safe_str
from twisted.python.threadable import isInIOThread
from zope.interface import implementer

from equipnet.daemon.config import LoggingSection
from equipnet.daemon.repeats import Repeats, connection_of

_WEIGHTS = {level: weight for weight, level in enumerate(LogLevel.iterconstants())}
_INFO = _WEIGHTS[LogLevel.info]

#: How many namespaces are remembered with their level.
NAMESPACES = 10_000

#: How many characters of a field of an event are written as JSON; its text is written whole.
LONGEST_FIELD = 1000

#: What Twisted adds to an event for observers of the old kind; all of it is in the other fields.
_OLD_FIELDS = frozenset({"message", "time", "system", "isError", "format", "failure", "why"})


@implementer(ILogObserver)
class NodeLog:
    """
    What observes the log of a daemon.

    Parameters
    ----------
    text, json
        Write an event in the one and in the other format.
    clock, in_reactor
        As for `Repeats`.
    """

    def __init__(
        self,
        text: Callable[[LogEvent], object],
        json: Callable[[LogEvent], object],
        clock: IReactorTime,
        in_reactor: Callable[[], bool] = isInIOThread,
    ) -> None:
        self._formats = {"text": text, "json": json}
        self._repeats = Repeats(lambda event: self._write(event), clock, in_reactor)
        self.configure(LoggingSection())

    def configure(self, logging: LoggingSection) -> None:
        """Do from now on what a ``[logging]`` table says."""
        self._write = self._formats[logging.format]
        self._least = _WEIGHTS[LogLevel.levelWithName(logging.level)]
        self._named = {name: _WEIGHTS[LogLevel.levelWithName(level)] for name, level in logging.levels.items()}
        self._namespaces: dict[str, int] = {}

    def __call__(self, event: LogEvent) -> None:
        """Take an event; one that is not wanted costs a few look-ups."""
        name = event.get("name")
        least = self._named.get(name) if isinstance(name, str) else None
        if least is None:
            namespace = event.get("log_namespace")
            namespace = namespace if isinstance(namespace, str) else ""
            least = self._namespaces.get(namespace)
            if least is None:
                least = self._least_of(namespace)
        if _WEIGHTS.get(event.get("log_level"), _INFO) >= least:
            self._repeats(event)

    def flush(self) -> None:
        """Write what has been counted."""
        self._repeats.flush()

    def _least_of(self, namespace: str) -> int:
        least, above = None, namespace
        while above and least is None:
            least = self._named.get(above)
            above = above.rpartition(".")[0]
        if len(self._namespaces) >= NAMESPACES:
            self._namespaces.clear()
        found = self._namespaces[namespace] = self._least if least is None else least
        return found


def twistd_observers(options: Mapping[str, Any]) -> tuple[Callable[[LogEvent], object], Callable[[LogEvent], object]]:
    """
    Give what writes text, and what writes JSON, to where twistd itself would log.

    Parameters
    ----------
    options
        Those of twistd: ``nodaemon``, ``logfile``, ``syslog``, ``prefix``.
    """
    # Only its own logger knows where twistd logs, and rotates the file on SIGUSR1.
    from twisted.scripts.twistd import _SomeApplicationRunner  # type: ignore[attr-defined]

    text = _SomeApplicationRunner.loggerFactory(options)._getLogObserver()
    if isinstance(text, FileLogObserver):
        as_json = copy(text)
        as_json.formatEvent = json_line
        return text, as_json
    return LegacyLogObserverWrapper(text), _json_to_syslog


def json_line(event: LogEvent) -> str | None:
    """
    Write an event as one JSON object on one line; this does not raise.

    The object is flat. It begins with ``time`` (ISO 8601, UTC), ``level``, ``namespace``, ``connection`` where the
    event is about one, ``message``, and ``failure``, the traceback, where there is one; the fields of the event follow,
    as text where JSON has no such value.

    Returns
    -------
    str | None
        The line, with its end; None for an event without text.
    """
    try:
        message = formatEvent(event)
        failure = event.get("log_failure")
        if not message and failure is None:
            return None
        line = {
            "time": _time(event.get("log_time")),
            "level": getattr(event.get("log_level"), "name", LogLevel.info.name),
            "namespace": safe_str(event.get("log_namespace", "-")),
        }
        connection = connection_of(event)
        if connection is not None:
            line["connection"] = connection
        line["message"] = message
        if failure is not None:
            line["failure"] = _traceback(failure)
        for key, value in event.items():
            is_said = key in line or key in _OLD_FIELDS or (key == "name" and connection is not None)
            if not is_said and not str(key).startswith("log_"):
                line[str(key)] = _plain(value)
        return json.dumps(line) + "\n"
    except Exception as error:  # of what stands in the event
        return (
            json.dumps({"level": "error", "message": f"{safe_repr(event)} cannot be written: {safe_str(error)}"}) + "\n"
        )


def _time(seconds: Any) -> str | None:
    try:
        moment = datetime.fromtimestamp(seconds, timezone.utc)
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _traceback(failure: Any) -> str:
    return failure.getTraceback() if isinstance(failure, Failure) else safe_str(failure)


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 1 << 63:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    text = safe_repr(value) if isinstance(value, bytes) else safe_str(value)
    return text if len(text) <= LONGEST_FIELD else text[: LONGEST_FIELD - 3] + "..."


def _json_to_syslog(event: LogEvent) -> None:
    import syslog

    priorities = {
        LogLevel.debug: syslog.LOG_DEBUG,
        LogLevel.warn: syslog.LOG_WARNING,
        LogLevel.error: syslog.LOG_ERR,
        LogLevel.critical: syslog.LOG_CRIT,
    }
    line = json_line(event)
    if line is not None:
        syslog.syslog(priorities.get(event.get("log_level"), syslog.LOG_INFO), line.rstrip("\n"))
