"""Tests of what is logged, and how."""

from __future__ import annotations

import json
import math
from io import StringIO
from pathlib import Path
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LegacyLogObserverWrapper,
    LogEvent,
    Logger,
    LogLevel,
    formatEvent,
    globalLogPublisher,
)
from twisted.python import log as old_log
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from equipnet.connection.state import Event, Moment, StateMachine
from equipnet.daemon.config import LoggingSection
from equipnet.daemon.logs import LONGEST_FIELD, NodeLog, json_line, twistd_observers
from equipnet.daemon.watch import KEPT

TIME = 1760000000.25
"""2025-10-09 08:53:20.25 UTC, by ``date -u -d @1760000000``."""


class NodeLogTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.texts: list[str] = []
        self.jsons: list[str] = []
        self.log = NodeLog(
            lambda event: self.texts.append(formatEvent(event)),
            lambda event: self.jsons.append(formatEvent(event)),
            Clock(),
            lambda: True,
        )

    def configure(self, **table: Any) -> None:
        self.log.configure(LoggingSection(**table))

    def say(self, namespace: str, level: str, name: str | None = None) -> list[str]:
        """Log something; give what was written."""
        fields = {} if name is None else {"name": name}
        logger = Logger(namespace, observer=self.log)
        logger.emit(LogLevel.levelWithName(level), f"{namespace} {level} {name}", **fields)
        texts, self.texts = self.texts, []
        return texts

    def levels(self, namespace: str, name: str | None = None) -> list[str]:
        """Give the levels that are written."""
        return [level.name for level in LogLevel.iterconstants() if self.say(namespace, level.name, name)]

    def test_nothing_said(self) -> None:
        """
        Without a table, everything is written but what is for finding mistakes.
        """
        self.assertEqual(self.levels("equipnet.hsms"), ["info", "warn", "error", "critical"])

    def test_level(self) -> None:
        """
        Of each event what is at the level of the table, or above, is written.
        """
        self.configure(level="error")
        self.assertEqual(self.levels("equipnet.hsms", "dmm"), ["error", "critical"])
        self.configure(level="debug")
        self.assertEqual(len(self.levels("equipnet.hsms", "dmm")), 5)

    def test_namespaces(self) -> None:
        """
        A namespace stands for all below it, unless something below it is named too; not for what begins like it.
        """
        self.configure(levels={"equipnet": "error", "equipnet.hsms": "debug", "twisted.internet": "critical"})
        for _ in range(2):
            self.assertEqual(self.levels("equipnet.instrument.service.Instrument"), ["error", "critical"])
            self.assertEqual(len(self.levels("equipnet.hsms")), 5)
            self.assertEqual(len(self.levels("equipnet.hsms.service.HsmsActiveConnection")), 5)
            self.assertEqual(len(self.levels("equipnet_hsms")), 4)
            self.assertEqual(len(self.levels("twisted")), 4)
            self.assertEqual(self.levels("twisted.internet.tcp"), ["critical"])

    def test_connections(self) -> None:
        """
        The name of a connection counts before the namespace.
        """
        self.configure(level="warn", levels={"dmm": "debug", "equipnet": "error"})
        self.assertEqual(len(self.levels("equipnet.instrument", "dmm")), 5)
        self.assertEqual(self.levels("equipnet.instrument", "laser"), ["error", "critical"])
        self.assertEqual(self.levels("loop_dhs", "laser"), ["warn", "error", "critical"])

    def test_format(self) -> None:
        """
        The table decides which of the two writers gets an event, from when on it is there.
        """
        self.say("equipnet", "info")
        self.configure(format="json")
        self.assertEqual(self.say("equipnet", "warn"), [])
        self.configure(format="text")
        self.assertEqual(self.say("equipnet", "error"), ["equipnet error None"])
        self.assertEqual(self.jsons, ["equipnet warn None"])

    def test_changed(self) -> None:
        """
        A new table replaces the old one, also for namespaces that have been seen.
        """
        self.configure(levels={"equipnet": "error"})
        self.assertEqual(self.levels("equipnet.hsms"), ["error", "critical"])
        self.configure(level="critical")
        self.assertEqual(self.levels("equipnet.hsms"), ["critical"])

    def test_odd_events(self) -> None:
        """
        An event without level or namespace, or with others than they should be, is information.
        """
        for event in ({}, {"log_level": "high", "log_namespace": 7, "name": []}):
            self.log({"log_format": "odd", **event})
        self.configure(level="warn")
        self.log({"log_format": "odd"})
        self.assertEqual(self.texts, ["odd", "odd"])

    def test_repetitions(self) -> None:
        """
        Repetitions are counted in either format, and told at the end.
        """
        for _ in range(3):
            Logger("equipnet", observer=self.log).info("{name}: refused", name="dmm")
        self.configure(format="json")
        self.log.flush()
        self.assertEqual(self.texts, ["dmm: refused"] * 2)
        self.assertEqual(self.jsons, ["dmm: refused (once more in the last 1 s)"])


class Unwilling:
    """A value that has no text."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


class JsonTests(SynchronousTestCase):
    def written(self, **fields: Any) -> dict[str, Any]:
        """Write an event; it is one line. Give what stands there."""
        event: LogEvent = {
            "log_format": "{name}: {text}",
            "log_level": LogLevel.warn,
            "log_namespace": "equipnet.hsms",
            "log_time": TIME,
            "log_source": self,
            "text": "refused",
            **fields,
        }
        line = json_line(event)
        assert line is not None
        self.assertEqual(line.index("\n"), len(line) - 1)

        def no_constant(name: str) -> None:
            self.fail(f"{name} is no JSON")

        written: dict[str, Any] = json.loads(line, parse_constant=no_constant)
        for value in written.values():
            self.assertNotIsInstance(value, (dict, list))
        return written

    def test_line(self) -> None:
        """
        An event becomes one flat object with its time in UTC, level, namespace, connection, text and fields.
        """
        self.assertEqual(
            list(self.written(name="dmm", tries=3).items()),
            [
                ("time", "2025-10-09T08:53:20.250000Z"),
                ("level", "warn"),
                ("namespace", "equipnet.hsms"),
                ("connection", "dmm"),
                ("message", "dmm: refused"),
                ("text", "refused"),
                ("tries", 3),
            ],
        )

    def test_no_connection(self) -> None:
        """
        Of an event that is not about a connection, no connection is told.
        """
        written = self.written(log_format="{name} is {text}", name="x")
        self.assertNotIn("connection", written)
        self.assertEqual((written["message"], written["name"]), ("x is refused", "x"))

    def test_lines(self) -> None:
        """
        Line ends, quotes and other characters in a text do not end the line, and are kept.
        """
        text = 'one\ntwo\r"three"\u2028\ud800é\0'
        written = self.written(name="dmm", text=text)
        self.assertEqual((written["message"], written["text"]), (f"dmm: {text}", text))

    def test_values(self) -> None:
        """
        What JSON does not have is written as text; long values are cut.
        """
        written = self.written(
            name="dmm",
            data=b"\0\n",
            error=ValueError("wrong"),
            many=[1, "a"],
            ratio=math.inf,
            share=0.5,
            huge=10**5000,
            large=1 << 64,
            flag=True,
            none=None,
            unwilling=Unwilling(),
            long="x" * 2 * LONGEST_FIELD,
            level="mine",
        )
        self.assertEqual((written["data"], written["error"], written["many"]), (r"b'\x00\n'", "wrong", "[1, 'a']"))
        self.assertEqual((written["ratio"], written["share"], written["large"]), ("inf", 0.5, "18446744073709551616"))
        self.assertEqual((written["flag"], written["none"], written["level"]), (True, None, "warn"))
        self.assertEqual((len(written["long"]), written["long"][-4:]), (LONGEST_FIELD, "x..."))
        self.assertIn("Unwilling", written["unwilling"])
        self.assertIsInstance(written["huge"], str)

    def test_failure(self) -> None:
        """
        The traceback of a failure is a text.
        """
        try:
            raise ValueError("wrong")
        except ValueError:
            failure = Failure()
        written = self.written(name="dmm", log_failure=failure)
        self.assertEqual(written["message"], "dmm: refused")
        self.assertIn("builtins.ValueError: wrong", written["failure"])

    def test_old_events(self) -> None:
        """
        An event of Twisted's old kind is written without what is only there for observers of that kind.
        """
        events: list[LogEvent] = []
        publisher = old_log.LogPublisher(publishPublisher=events.append)
        publisher.msg("said", system="web", port=80)
        line = json_line(events[0])
        assert line is not None
        written = json.loads(line)
        self.assertEqual(
            {key: value for key, value in written.items() if key != "time"},
            {"level": "info", "namespace": "log_legacy", "message": "said", "port": 80},
        )

    def test_both_kinds(self) -> None:
        """
        What a wrapper for old observers has added to an event is not written.
        """
        event: LogEvent = {"log_format": "said", "log_level": LogLevel.info, "log_namespace": "a", "log_time": TIME}
        LegacyLogObserverWrapper(lambda event: None)(event)  # type: ignore[arg-type]
        line = json_line(event)
        assert line is not None
        self.assertEqual(set(json.loads(line)), {"time", "level", "namespace", "message"})

    def test_empty(self) -> None:
        """
        An event without any text is not written, as text or as JSON.
        """
        self.assertIsNone(json_line({"log_format": None, "log_time": TIME}))

    def test_never_raises(self) -> None:
        """
        Whatever stands in an event, there is a line for it.
        """
        odd: list[dict[Any, Any]] = [
            {"log_time": "noon"},
            {"log_time": 1e300},
            {"log_time": math.nan},
            {"log_level": 5},
            {"log_format": "{missing} {name}"},
            {"log_format": 7},
            {"log_failure": "no failure"},
            {"log_failure": Unwilling()},
            {"log_namespace": Unwilling()},
            {"text": Unwilling()},
            {Unwilling(): 1},
        ]
        for fields in odd:
            line = json_line({"log_format": "{name}: {text}", "name": "a", "text": "b", **fields})
            assert line is not None
            self.assertTrue(json.loads(line)["message"], fields)


class TwistdObserversTests(SynchronousTestCase):
    """Where twistd would log."""

    def test_file(self) -> None:
        """
        With ``--logfile`` both formats go to that file.
        """
        file = self.mktemp()
        text, as_json = twistd_observers({"nodaemon": True, "logfile": file})
        self.addCleanup(cast(Any, text)._outFile.close)
        event = {"log_format": "said", "log_level": LogLevel.info, "log_namespace": "a", "log_time": TIME}
        text(event)
        as_json(event)
        with open(file) as written:
            first, second = written.read().splitlines()
        self.assertRegex(first, r"^2025-10-09T\S+ \[a#info\] said$")
        self.assertEqual(json.loads(second)["message"], "said")

    def test_stdout(self) -> None:
        """
        With ``-n`` they go to standard output.
        """
        output = StringIO()
        self.patch(__import__("sys"), "stdout", output)
        text, as_json = twistd_observers({"nodaemon": True})
        self.assertIsInstance(text, FileLogObserver)
        as_json({"log_format": "said"})
        self.assertEqual(json.loads(output.getvalue())["message"], "said")

    def test_syslog(self) -> None:
        """
        With ``--syslog`` both go there, JSON with the level as the priority.
        """
        import syslog

        said: list[tuple[int, str]] = []
        self.patch(syslog, "syslog", lambda priority, text: said.append((priority, text)))
        self.patch(syslog, "openlog", lambda *arguments: None)
        self.patch(
            __import__("twisted.python.syslog").python.syslog.SyslogObserver, "syslog", staticmethod(syslog.syslog)
        )
        text, as_json = twistd_observers({"syslog": True, "prefix": "equipnet"})
        event = {"log_format": "said", "log_level": LogLevel.warn, "log_namespace": "a", "log_time": TIME}
        text(dict(event))
        as_json(dict(event))
        as_json({"log_format": None})
        self.assertEqual(said[0], (syslog.LOG_INFO, "[-] said"))
        self.assertEqual(said[1][0], syslog.LOG_WARNING)
        self.assertEqual(json.loads(said[1][1])["message"], "said")
        self.assertEqual(len(said), 2)


class PageTests(SynchronousTestCase):
    """What the guide shows."""

    def setUp(self) -> None:
        self.page = (Path(__file__).parents[2] / "docs" / "howto" / "logs.md").read_text()

    def test_json(self) -> None:
        """
        The line of JSON is that of a connection that became ready.
        """
        events: list[LogEvent] = []
        observer = cast(ILogObserver, events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        machine = StateMachine("dmm", lambda: Moment(0.0, 0.0))
        machine.move(Event.CONNECT, "connecting to tcp:192.168.1.100:5025")
        machine.move(Event.MADE, "connected to 192.168.1.100:5025")
        machine.move(Event.USABLE, "connected")
        self.assertIn(f"```json\n{json_line({**events[-1], 'log_time': TIME})}```", self.page)

    def test_repetitions(self) -> None:
        """
        The log of equipment that is away for a minute is that of a connection whose tries are 0.8 s apart.
        """
        (block,) = (block for block in self.page.split("```")[1::2] if "times more" in block)
        trying, failed, *_, connected = block.splitlines()[1:]
        texts: list[str] = []
        clock = Clock()
        log = NodeLog(lambda event: texts.append(formatEvent(event)), lambda event: None, clock, lambda: True)
        logger = Logger("equipnet", observer=log)

        def say(line: str) -> None:
            logger.info("{name}: {text}", name="dmm", text=line.removeprefix("dmm: "))

        for _ in range(75):
            say(trying)
            say(failed)
            clock.advance(0.8)
        say(connected)
        self.assertEqual(block, "text\n" + "\n".join(texts) + "\n")

    def test_handler(self) -> None:
        """
        The line about a handler is of the form that it has.
        """
        self.assertIn(
            formatEvent(
                {
                    "log_format": KEPT,
                    "handler": "loop_dhs.LoopServer.center",
                    "seconds": 0.35,
                    "place": "/etc/equipnet/loop_dhs.py:42",
                }
            ),
            self.page,
        )
