"""Tests of naming what keeps the reactor, with frames and a clock of their own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from threading import Event, Thread, current_thread
from types import FrameType
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from equipnet.daemon import watch
from equipnet.daemon.watch import PERIOD, QUIET, Watch


class FakeReactor(Clock):
    """A reactor that does what other threads ask for when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def callFromThread(self, function: Callable[..., object], *arguments: Any) -> None:
        self.asked.append((function, arguments))

    def turn(self) -> None:
        asked, self.asked = self.asked, []
        for function, arguments in asked:
            function(*arguments)


def function_of(name: str) -> Callable[[Callable[[], None]], None]:
    """Make a function, as ``module:function``, that calls what it is given."""
    module, _, function = name.partition(":")
    names: dict[str, Any] = {"__name__": module}
    exec(compile(f"def {function}(below):\n    below()", f"/{module}.py", "exec"), names)
    made: Callable[[Callable[[], None]], None] = names[function]
    return made


class WatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.frame = sys._getframe()
        self.watch = Watch(self.reactor, self.reactor.seconds, lambda: self.frame)
        self.events: list[LogEvent] = []
        self.watch.running = 1
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def warnings(self) -> list[str]:
        """Take what was logged: the handler, where, for how long, and how often if it was more than once."""
        warnings = [
            f"{event['handler']} {event['place']} {event['seconds']:.3f} {event.get('times', '')}".strip()
            for event in self.events
        ]
        self.events.clear()
        return warnings

    def calls_the_reactor(self) -> None:
        """Take what calls this for what called the reactor."""
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            self.watch._know(frame.f_code, "")
            frame = frame.f_back

    def run_on(self, *functions: str, then: Callable[[], object]) -> None:
        """Call ``then`` with functions on the stack, the outermost first, as ``module:function``."""

        def innermost() -> None:
            self.frame = sys._getframe(1)
            then()

        self.calls_the_reactor()
        call: Callable[[], None] = innermost
        for name in reversed(functions):
            call = partial(function_of(name), call)
        call()

    def look(self, looks: int, held: float = 0.0) -> None:
        for _ in range(looks):
            self.watch.look(held)
            self.reactor.advance(PERIOD)

    def keep(self, looks: int, *functions: str) -> None:
        """Have functions on the stack for so many looks; then the reactor goes on."""
        self.run_on(*functions, then=lambda: self.look(looks))
        self.reactor.turn()

    def test_handler(self) -> None:
        """
        Of what keeps the reactor for longer than 0.1 s the handler is named, with its place and for how long.
        """
        self.keep(6, "twisted.internet.tcp:doRead", "loop_dhs:center", "numpy:loadtxt", "time:sleep")
        self.assertEqual(formatEvent(self.events[0]), "loop_dhs.center kept the reactor for 0.33 s, at /loop_dhs.py:2")
        self.assertEqual(self.warnings(), ["loop_dhs.center /loop_dhs.py:2 0.325"])

    def test_quick(self) -> None:
        """
        What takes less is not named.
        """
        self.keep(1, "twisted.internet.tcp:doRead", "loop_dhs:center")
        self.assertEqual(self.warnings(), [])

    def test_outermost(self) -> None:
        """
        The handler is the outermost function that is not of the libraries below it, whatever it calls.
        """
        self.keep(
            4,
            "twisted.internet.defer:_inlineCallbacks",
            "equipnet.dcs.service:_run",
            "app.handlers:move",
            "equipnet.instrument.service:query",
            "app.tools:wait",
        )
        self.assertEqual(self.warnings(), ["app.handlers.move /app.handlers.py:2 0.225"])

    def test_no_handler(self) -> None:
        """
        Where there is no handler, the innermost function of equipnet is named.
        """
        self.keep(
            4,
            "twisted.internet.tcp:doRead",
            "equipnet.hsms.protocol:dataReceived",
            "equipnet.secs.item:decode",
            "struct:unpack",
        )
        self.assertEqual(self.warnings(), ["equipnet.secs.item.decode /equipnet.secs.item.py:2 0.225"])

    def test_idle(self) -> None:
        """
        A reactor that waits, or that Twisted itself keeps, is not asked for anything.
        """
        self.run_on("twisted.internet.epollreactor:doPoll", then=lambda: self.look(10))
        self.assertEqual(self.reactor.asked, [])
        self.assertEqual(self.warnings(), [])

    def test_asked_once(self) -> None:
        """
        While it does not give a sign of life, it is not asked for another one.
        """
        self.run_on("app:handler", then=lambda: self.look(100))
        self.assertEqual(len(self.reactor.asked), 1)

    def test_many_quick_ones(self) -> None:
        """
        Many calls of one handler, one after the other, are not taken for one that takes long.
        """
        for _ in range(10):
            self.run_on("twisted.internet.tcp:doRead", "app:handler", then=lambda: self.look(1))
        self.reactor.turn()
        self.assertEqual(self.warnings(), [])

    def test_others_after_it(self) -> None:
        """
        What took long is named also when the reactor goes on with others before it gives a sign of life.
        """
        self.run_on("app:long", then=lambda: self.look(4))
        self.run_on("twisted.internet.tcp:doRead", then=lambda: self.look(1))
        for _ in range(3):
            self.run_on("app:quick", then=lambda: self.look(1))
        self.reactor.turn()
        self.assertEqual(self.warnings(), ["app.long /app.py:2 0.200"])

    def test_after_others(self) -> None:
        """
        It is blamed for its own time only, when others kept the reactor before it.
        """
        for _ in range(3):
            self.run_on("app:quick", then=lambda: self.look(1))
        self.run_on("app:long", then=lambda: self.look(4))
        self.reactor.turn()
        self.assertEqual(self.warnings(), ["app.long /app.py:2 0.225"])

    def test_interpreter_held(self) -> None:
        """
        A handler that keeps the interpreter to itself so that nobody can look is named when that is over.
        """

        def hold() -> None:
            self.reactor.advance(0.5)
            self.watch.look(held=0.45)

        self.run_on("app:parse", "json:loads", then=hold)
        self.reactor.turn()
        self.assertEqual(self.warnings(), ["app.parse /app.py:2 0.475"])

    def test_no_processor(self) -> None:
        """
        A process that is not given a processor is not taken for a handler that takes long.
        """
        self.run_on("app:handler", then=self.watch.look)
        self.reactor.advance(5)
        self.reactor.turn()
        self.assertEqual(self.warnings(), [])

    def test_objects(self) -> None:
        """
        The objects of handlers that were seen are let go when the reactor gives its sign of life, not in the thread
        that looks.
        """
        gone: list[str] = []

        class Object:
            def __del__(self) -> None:
                gone.append("object")

        def handler() -> None:
            _object = Object()
            self.frame = sys._getframe()
            self.look(1)

        self.calls_the_reactor()
        for _ in range(2):
            handler()
        self.frame = sys._getframe()
        self.assertEqual(gone, [])
        self.reactor.turn()
        self.assertEqual(gone, ["object", "object"])

    def test_sign_of_life_at_once(self) -> None:
        """
        So it is when the reactor gives its sign of life while the thread that looks is still asking for it.
        """
        gone: list[Thread] = []
        asked, answered = Event(), Event()

        class Object:
            def __del__(self) -> None:
                gone.append(current_thread())

        def ask(function: Callable[..., object], *arguments: Any) -> None:
            self.reactor.asked.append((function, arguments))
            asked.set()
            answered.wait(10)

        def handler() -> None:
            _object = Object()
            self.frame = sys._getframe()
            looking.start()
            asked.wait(10)

        looking = Thread(target=self.watch.look)
        self.patch(self.reactor, "callFromThread", ask)
        self.calls_the_reactor()
        handler()
        self.frame = sys._getframe()
        self.reactor.turn()
        answered.set()
        looking.join()
        self.assertEqual(gone, [current_thread()])

    def test_repeated(self) -> None:
        """
        Within a minute a handler is named once, and after it with how often it did that again, and how long at most.
        """
        for looks in (4, 8, 5):
            self.keep(looks, "app:handler")
        self.keep(4, "app:other")
        self.assertEqual(
            self.warnings(),
            [
                "app.handler /app.py:2 0.225",
                "app.other /app.py:2 0.225",
            ],
        )
        self.reactor.advance(QUIET)
        self.assertEqual(
            self.warnings(),
            ["app.handler /app.py:2 0.425 2"],
        )
        self.keep(4, "app:handler")
        self.assertEqual(self.warnings(), [])
        self.keep(4, "app:other")
        self.assertEqual(self.warnings(), ["app.other /app.py:2 0.225"])
        self.reactor.advance(QUIET)
        self.assertEqual(len(self.warnings()), 1)
        self.reactor.advance(QUIET)
        self.assertEqual(self.warnings(), [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stopped(self) -> None:
        """
        At the end what was not told yet is told, and nothing is scheduled any more.
        """
        self.keep(4, "app:handler")
        self.keep(4, "app:handler")
        self.warnings()
        self.watch.stopService()
        self.assertEqual(len(self.warnings()), 1)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_many_functions(self) -> None:
        """
        Functions without number do not take memory without number, and are told apart all the same.
        """
        self.keep(1, "app:handler")
        known = len(self.watch._packages)
        self.patch(watch, "FUNCTIONS", known + 1)
        for number in range(20):
            self.run_on("twisted.internet.tcp:doRead", f"app:handler{number}", then=partial(self.look, 4))
            self.reactor.turn()
        self.assertEqual(len(self.warnings()), 20)
        self.assertEqual(len(self.watch._packages), known + 1)
