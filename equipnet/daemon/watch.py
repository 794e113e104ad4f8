"""
Naming what holds up the reactor: a handler that does not give it back for a long time keeps everything else waiting.

User code is called in many places, and goes on between the awaits of its coroutines, so measuring at each call would
miss some and cost the others. Instead a thread looks at the reactor's stack now and then. Where it finds a handler it
asks the reactor for a sign of life, and goes on looking until that comes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Thread, current_thread, get_ident
from types import CodeType, FrameType
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

#: Seconds that a handler may keep the reactor without being named.
LIMIT = 0.1

#: Seconds between two looks; a handler is taken to begin, and to end, in the middle between two of them.
PERIOD = 0.05

#: Seconds in which what one handler does is told once; how often it did it again is told after them.
QUIET = 60.0

#: What is logged of a handler, and of what it does again.
KEPT = "{handler} kept the reactor for {seconds:.2f} s, at {place}"
KEPT_AGAIN = "{handler} kept the reactor {times} times more in the last minute, {seconds:.2f} s at most, at {place}"

#: How many functions are known to belong to a handler or not.
FUNCTIONS = 10_000

_LIBRARIES = sys.stdlib_module_names | {
    "_cffi_backend",
    "attr",
    "automat",
    "click",
    "constantly",
    "cryptography",
    "hyperlink",
    "numpy",
    "OpenSSL",
    "PIL",
    "pydantic",
    "pydantic_core",
    "rich",
    "service_identity",
    "treq",
    "twisted",
    "zope",
}


@dataclass(frozen=True)
class _Sight:
    """A handler on the reactor's stack: its name, where it is, and its frame, which is another one for each call."""

    handler: str
    place: str
    frame: FrameType


class _Busy:
    """
    The time from a look that found a handler to the reactor's sign of life.

    Parameters
    ----------
    sight
        What the look found.
    since
        When it may have begun.
    now
        When the look was.
    """

    def __init__(self, sight: _Sight, since: float, now: float) -> None:
        self.is_over = False
        self._sight: _Sight | None = sight
        self._since = since
        self._last = now
        self._took_long: list[tuple[_Sight, float]] = []
        # A frame that is let go may take a handler's objects with it, and they belong to the reactor's thread.
        self._frames = [sight.frame]

    def see(self, sight: _Sight | None, since: float, now: float) -> None:
        """Take note of what the next look found."""
        if sight is None or self._sight is None or sight.frame is not self._sight.frame:
            self._ended(self._last + PERIOD / 2)
            self._since = since
            self._frames += [] if sight is None else [sight.frame]
        self._sight, self._last = sight, now

    def end(self, now: float) -> list[tuple[_Sight, float]]:
        """Take the sign of life; give what took too long, and the seconds."""
        self.is_over = True
        # When the last look was long ago, the process was not given a processor.
        self._ended(min(now, self._last + PERIOD))
        took_long, self._took_long = self._took_long, []
        # The thread that looks may have this for longer than the reactor has.
        self._sight = None
        self._frames.clear()
        return took_long

    def _ended(self, when: float) -> None:
        if self._sight is not None and when - self._since > LIMIT:
            self._took_long.append((self._sight, when - self._since))


@dataclass
class _Told:
    """A handler that was named, and how often and for how long at most it has kept the reactor since."""

    place: str
    timer: IDelayedCall
    times: int = 0
    longest: float = 0.0


class Watch(Service):
    """
    Log a warning, with its name, for what a handler does in the reactor for longer than 0.1 s.

    The handler is the outermost function on the stack that is neither Twisted's nor equipnet's nor of another library
    below them; where there is none, it is the innermost function of equipnet. It is named once a minute, and then with
    how often it did that again.

    The time is right to 0.03 s, where the looks come in time. What is not seen is code in C that keeps the interpreter
    to itself for as long as it runs, when its caller returns at once after it. A process that is not given a processor
    is not taken for a handler.

    Parameters
    ----------
    reactor
        What is watched.
    clock
        Tells the time in seconds.
    stack
        Gives the innermost frame of the reactor's thread.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, clock: Callable[[], float] = time.monotonic, stack: Callable[[], FrameType] | None = None
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._stack = stack or _stack_of(get_ident())
        self._packages: dict[int, tuple[CodeType, str]] = {}
        self._busy: _Busy | None = None
        self._told: dict[str, _Told] = {}
        self._thread: Thread | None = None

    def startService(self) -> None:
        super().startService()
        self._reactor.callWhenRunning(self._begin)

    def stopService(self) -> None:
        super().stopService()
        self._thread = None
        for handler in tuple(self._told):
            self._tell_again(handler)

    def look(self, held: float = 0.0) -> None:
        """
        See what the reactor does; this is called in another thread than the reactor's.

        Parameters
        ----------
        held
            For how many seconds somebody has kept the interpreter to himself until now.
        """
        now = self._clock()
        since = now - held - PERIOD / 2
        sight = self._sight()
        busy = self._busy
        if busy is not None and not busy.is_over:
            busy.see(sight, since, now)
        elif sight is not None:
            self._busy = _Busy(sight, since, now)
            # The sign of life may come before the next call returns.
            del sight
            self._reactor.callFromThread(self._alive, self._busy)

    # In the reactor's thread.

    def _begin(self) -> None:
        if self.running and self._thread is None:
            # What called the reactor is on its stack for as long as it runs.
            for frame in _from(sys._getframe()):
                self._know(frame.f_code, "")
            self._thread = Thread(target=self._run, name="watch", daemon=True)
            self._thread.start()

    def _alive(self, busy: _Busy) -> None:
        took_long = busy.end(self._clock())
        self._busy = None
        for sight, seconds in took_long:
            self._tell(sight.handler, sight.place, seconds)

    def _tell(self, handler: str, place: str, seconds: float) -> None:
        told = self._told.get(handler)
        if told is not None:
            told.times += 1
            told.longest = max(told.longest, seconds)
            return
        self._log.warn(KEPT, handler=handler, place=place, seconds=seconds)
        self._told[handler] = _Told(place, self._reactor.callLater(QUIET, self._tell_again, handler))

    def _tell_again(self, handler: str) -> None:
        told = self._told.pop(handler)
        if told.timer.active():
            told.timer.cancel()
        if told.times:
            self._log.warn(KEPT_AGAIN, handler=handler, place=told.place, times=told.times, seconds=told.longest)
            if self.running:
                self._told[handler] = _Told(told.place, self._reactor.callLater(QUIET, self._tell_again, handler))

    # In the thread that looks.

    def _run(self) -> None:
        before, used_before = time.monotonic(), time.process_time()
        while self._thread is current_thread():
            time.sleep(PERIOD)
            now, used = time.monotonic(), time.process_time()
            late = now - before - PERIOD
            # Whoever keeps the interpreter to himself uses the processor meanwhile.
            self.look(late if used - used_before > late / 2 else 0.0)
            before, used_before = now, used

    def _sight(self) -> _Sight | None:
        handler: FrameType | None = None
        own: list[FrameType] = []
        frame: FrameType | None = self._stack()
        while frame is not None:
            package = self._package(frame)
            if package == "equipnet":
                own.append(frame)
            elif package:
                handler = frame
            frame = frame.f_back
        if handler is None and not own:
            return None
        return _Sight(*_named(handler or own[0]), handler or own[-1])

    def _package(self, frame: FrameType) -> str:
        """Give the package of a frame if it may be a handler's, else nothing."""
        known = self._packages.get(id(frame.f_code))
        if known is None:
            package = str(frame.f_globals.get("__name__")).partition(".")[0]
            known = self._know(frame.f_code, "" if package in _LIBRARIES else package)
        return known[1]

    def _know(self, code: CodeType, package: str) -> tuple[CodeType, str]:
        # With the code itself, so that no other one gets its identity. Hashing code is slow.
        known = code, package
        if len(self._packages) < FUNCTIONS:
            self._packages[id(code)] = known
        return known


def _stack_of(thread: int) -> Callable[[], FrameType]:
    return lambda: sys._current_frames()[thread]


def _from(frame: FrameType | None) -> Iterator[FrameType]:
    """Give a frame, and those that called it."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def _named(frame: FrameType) -> tuple[str, str]:
    """Give the name of a frame's function, and where it is."""
    code = frame.f_code
    # Python 3.10 does not know the class.
    function = getattr(code, "co_qualname", code.co_name)
    return f"{frame.f_globals.get('__name__')}.{function}", f"{code.co_filename}:{frame.f_lineno}"
