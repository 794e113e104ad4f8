"""What a log says again and again, counted instead of written: equipment that is away, for one, is tried for ever."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import LogEvent, LogLevel, eventAsText, formatEvent
from twisted.python.threadable import isInIOThread

#: How often a text of a connection is written before it is counted. With two, a connection that is lost for a moment
#: is seen to come back, although all of that has been logged once when it was made.
WRITTEN = 2

#: Seconds after which repetitions are told, and after which a text that has not come again is new.
PERIOD = 60.0

#: How many texts are known of one connection, and how many connections.
TEXTS, CONNECTIONS = 20, 10_000


def connection_of(event: LogEvent) -> str | None:
    """Give the name of the connection that an event is about, the one its text begins with; None for other events."""
    name, text = event.get("name"), event.get("log_format")
    return name if isinstance(name, str) and isinstance(text, str) and text.startswith("{name}: ") else None


@dataclass
class _Text:
    """A text that was written: how often, when it last came, and how often it has come since without being written."""

    told: LogEvent
    last: float
    written: int = 0
    times: int = 0
    since: float = 0.0


class Repeats:
    """
    Let each text of a connection through twice, and count it when it comes again.

    How often it came is told once in `PERIOD` seconds, and before anything else of that connection is let through; with
    that, all its texts count as new. Let through at once is what is not about a connection, what is there for finding
    mistakes (``debug``), and what other threads log.

    Parameters
    ----------
    write
        Takes what is let through, and the events that tell of repetitions.
    clock
        Tells the time.
    in_reactor
        Tells whether it is called in the reactor's thread.
    """

    def __init__(
        self,
        write: Callable[[LogEvent], object],
        clock: IReactorTime,
        in_reactor: Callable[[], bool] = isInIOThread,
    ) -> None:
        self._write = write
        self._clock = clock
        self._in_reactor = in_reactor
        self._known: dict[str, dict[str, _Text]] = {}
        self._timer: IDelayedCall | None = None

    def __call__(self, event: LogEvent) -> None:
        """Take an event."""
        name = connection_of(event)
        if name is None or event.get("log_level") is LogLevel.debug or not self._in_reactor():
            self._write(event)
            return
        message = text = formatEvent(event)
        if "log_failure" in event:  # it is the same only if its traceback is
            text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        texts = self._of(name)
        known = texts.get(text)
        now = self._clock.seconds()
        if known is not None and known.written == WRITTEN and now - known.last < PERIOD:
            if not known.times:
                known.since = now
            known.times += 1
            known.last = now
            return
        if any(each.times for each in texts.values()):
            self._tell(texts)
            texts.clear()
        if text not in texts or now - texts[text].last >= PERIOD:
            texts[text] = _Text(_telling(event, name, message), now)
        texts[text].written += 1
        texts[text].last = now
        if len(texts) > TEXTS:
            del texts[next(iter(texts))]
        self._write(event)

    def flush(self) -> None:
        """Tell of all repetitions, and forget everything."""
        known, self._known = self._known, {}
        for texts in known.values():
            self._tell(texts)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _of(self, name: str) -> dict[str, _Text]:
        if name not in self._known:
            if len(self._known) == CONNECTIONS:
                self.flush()
            self._known[name] = {}
            if self._timer is None:
                self._timer = self._clock.callLater(PERIOD, self._look)
        return self._known[name]

    def _look(self) -> None:
        """Tell of the repetitions since the last time, and forget what has not come again."""
        # First of all, since writing may fail.
        self._timer = self._clock.callLater(PERIOD, self._look) if self._known else None
        now = self._clock.seconds()
        for name, texts in tuple(self._known.items()):
            self._tell(texts)
            if all(now - each.last >= PERIOD for each in texts.values()):
                del self._known[name]

    def _tell(self, texts: dict[str, _Text]) -> None:
        for each in tuple(texts.values()):
            if each.times:
                again = "once" if each.times == 1 else f"{each.times} times"
                seconds = max(1, math.ceil(self._clock.seconds() - each.since))
                self._write(
                    {**each.told, "times": each.times, "log_again": again, "seconds": seconds, "log_time": time.time()}
                )
                each.times = 0


def _telling(event: LogEvent, name: str, message: str) -> LogEvent:
    """Make what tells of the repetitions of an event, but for their number."""
    return {
        "log_level": event.get("log_level"),
        "log_namespace": event.get("log_namespace"),
        "log_format": "{name}: {log_text} ({log_again} more in the last {seconds} s)",
        "log_text": message.removeprefix(f"{name}: "),
        "name": name,
    }
