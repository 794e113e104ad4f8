"""Tests of counting what a log says again and again."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, LogLevel, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from equipnet.daemon.repeats import CONNECTIONS, TEXTS, Repeats, connection_of


class ConnectionOfTests(SynchronousTestCase):
    def test_name(self) -> None:
        """
        An event is about a connection when its text begins with the connection's name.
        """
        self.assertEqual(connection_of({"log_format": "{name}: it is away", "name": "dmm"}), "dmm")
        for event in (
            {"log_format": "{name} is another word", "name": "dmm"},
            {"log_format": "{name}: {text}", "name": 5},
            {"log_format": "{name}: {text}"},
            {"log_format": None, "name": "dmm"},
            {},
        ):
            self.assertIsNone(connection_of(event))


class RepeatsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[LogEvent] = []
        self.in_reactor = True
        self.repeats = Repeats(self.events.append, self.clock, lambda: self.in_reactor)
        self.log = Logger("equipnet.test", observer=self.repeats)  # type: ignore[arg-type]

    def say(self, text: str, name: str = "dmm") -> None:
        self.log.info("{name}: {text}", name=name, text=text)

    def lines(self) -> list[str]:
        lines = [formatEvent(event) for event in self.events]
        self.events.clear()
        return lines

    def away(self, seconds: int) -> None:
        """A connection to equipment that is not there: two lines a second."""
        for _ in range(seconds):
            self.say("trying")
            self.clock.advance(0.5)
            self.say("refused")
            self.clock.advance(0.5)

    def test_counted(self) -> None:
        """
        Each of the texts that come again and again is written twice, and then once a minute with how often it came.
        """
        self.away(59)
        self.assertEqual(self.lines(), ["dmm: trying", "dmm: refused"] * 2)
        self.away(120)
        self.assertEqual(
            self.lines(),
            [
                "dmm: trying (58 times more in the last 58 s)",
                "dmm: refused (58 times more in the last 58 s)",
                "dmm: trying (60 times more in the last 60 s)",
                "dmm: refused (60 times more in the last 60 s)",
            ],
        )

    def test_something_else(self) -> None:
        """
        Before another text of that connection the repetitions are told; with it, all texts are new.
        """
        self.away(4)
        self.say("connected")
        self.away(3)
        self.assertEqual(
            self.lines(),
            [
                *["dmm: trying", "dmm: refused"] * 2,
                "dmm: trying (2 times more in the last 2 s)",
                "dmm: refused (2 times more in the last 2 s)",
                "dmm: connected",
                *["dmm: trying", "dmm: refused"] * 2,
            ],
        )
        self.say("connected")
        self.assertEqual(
            self.lines(),
            [
                "dmm: trying (once more in the last 1 s)",
                "dmm: refused (once more in the last 1 s)",
                "dmm: connected",
            ],
        )

    def test_short_loss(self) -> None:
        """
        A connection that is lost for a moment is seen to come back, with the words that it came with before.
        """
        for text in ("connected", "ready", "lost", "connected", "ready"):
            self.say(text)
        self.assertEqual(self.lines(), ["dmm: connected", "dmm: ready", "dmm: lost", "dmm: connected", "dmm: ready"])

    def test_seldom(self) -> None:
        """
        What comes less than once a minute is written each time.
        """
        for _ in range(5):
            self.say("refused")
            self.clock.advance(60)
        self.assertEqual(self.lines(), ["dmm: refused"] * 5)

    def test_seldom_among_others(self) -> None:
        """
        So it is when other texts of that connection come more often.
        """
        self.say("self-test passed")
        for second in range(301):
            if second % 60 == 0:
                self.say("self-test passed")
            if second % 20 == 0:
                self.say("refused")
            self.clock.advance(1)
        self.assertEqual(self.lines().count("dmm: self-test passed"), 7)

    def test_others(self) -> None:
        """
        What is not about a connection, what is there for finding mistakes, and what other threads log is not counted.
        """
        for _ in range(3):
            self.log.info("{what}: no connection", what="dmm")
            self.log.debug("{name}: sent", name="dmm")
        self.in_reactor = False
        for _ in range(3):
            self.say("from a thread")
        self.assertEqual(self.lines(), ["dmm: no connection", "dmm: sent"] * 3 + ["dmm: from a thread"] * 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_each_by_itself(self) -> None:
        """
        What one connection says does not make another one's repetitions told.
        """
        for _ in range(3):
            self.say("refused", "a")
            self.say("refused", "b")
        self.say("connected", "b")
        self.assertEqual(
            self.lines(),
            [*["a: refused", "b: refused"] * 2, "b: refused (once more in the last 1 s)", "b: connected"],
        )

    def test_failures(self) -> None:
        """
        A failure is the same only with the same traceback; what tells of its repetitions has none.
        """

        def fail(reason: str) -> None:
            try:
                raise ValueError(reason)
            except ValueError:
                self.log.failure("{name}: a handler raised", Failure(), name="dmm")

        for _ in range(3):
            fail("one")
        fail("another one")
        fail("another one")
        self.assertEqual(
            self.lines(),
            [
                "dmm: a handler raised",
                "dmm: a handler raised",
                "dmm: a handler raised (once more in the last 1 s)",
                "dmm: a handler raised",
                "dmm: a handler raised",
            ],
        )
        self.assertNotIn("log_failure", self.repeats._known["dmm"].popitem()[1].told)

    def test_event(self) -> None:
        """
        What tells of repetitions has the level and the namespace of what is repeated, and the number.
        """
        for _ in range(4):
            self.log.warn("{name}: {text}", name="dmm", text="refused")
        self.repeats.flush()
        event = self.events[-1]
        self.assertEqual(
            (event["log_level"], event["log_namespace"], event["name"], event["times"]),
            (LogLevel.warn, "equipnet.test", "dmm", 2),
        )
        self.assertEqual(connection_of(event), "dmm")

    def test_flush(self) -> None:
        """
        At the end everything that was counted is told, and nothing is left.
        """
        self.away(4)
        self.lines()
        self.repeats.flush()
        self.assertEqual(
            self.lines(),
            ["dmm: trying (2 times more in the last 2 s)", "dmm: refused (2 times more in the last 2 s)"],
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.repeats.flush()
        self.assertEqual(self.lines(), [])

    def test_forgotten(self) -> None:
        """
        When nothing comes any more, nothing is kept.
        """
        self.away(4)
        self.clock.pump([60, 60, 60])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.repeats._known, {})

    def test_writing_fails(self) -> None:
        """
        What cannot be written is not lost when it can be written again.
        """
        self.away(4)
        self.repeats._write = lambda event: 1 / 0
        self.assertRaises(ZeroDivisionError, self.clock.advance, 60)
        self.repeats._write = self.events.append
        self.lines()
        self.clock.advance(60)
        self.assertEqual(
            self.lines(),
            ["dmm: trying (2 times more in the last 122 s)", "dmm: refused (2 times more in the last 122 s)"],
        )

    def test_bounds(self) -> None:
        """
        Many texts, and many connections, are written, and not all of them kept.
        """
        for number in range(10 * TEXTS):
            self.say(f"text {number}")
        self.assertEqual((len(self.lines()), len(self.repeats._known["dmm"])), (10 * TEXTS, TEXTS))
        for number in range(CONNECTIONS + 5):
            self.say("text", f"c{number}")
        self.assertEqual(len(self.lines()), CONNECTIONS + 5)
        self.assertLess(len(self.repeats._known), CONNECTIONS)
