"""Tests of ``twistd equipnet`` without a process: its options, and what it makes of a file."""

from __future__ import annotations

import json
import os
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, cast

from twisted.application.service import Application
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import ILogObserver, Logger, LogLevel
from twisted.python.usage import UsageError
from twisted.scripts.twistd import ServerOptions  # type: ignore[attr-defined]
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from equipnet.daemon.tap import Daemon, Options, makeService
from tests.daemon.kinds import KINDS

RIGHT = '[connections.dmm]\nkind = "meter"\naddress = "tcp:192.0.2.1:5025"\n'


class OptionsTests(SynchronousTestCase):
    def test_file(self) -> None:
        """
        The file is given in full or short; checking is not the default.
        """
        for arguments in (["--config", "x.toml"], ["-c", "x.toml"], ["--config=x.toml"]):
            options = Options()
            options.parseOptions(arguments)
            self.assertEqual((options["config"], bool(options["check"])), ("x.toml", False))
        options.parseOptions(["-c", "x.toml", "--check"])
        self.assertTrue(options["check"])

    def test_no_file(self) -> None:
        """
        Without a file there is nothing to do.
        """
        error = self.assertRaises(UsageError, Options().parseOptions, ["lab.toml"])
        self.assertEqual(str(error), "what is 'lab.toml'? A configuration file is given as --config FILE")
        error = self.assertRaises(UsageError, Options().parseOptions, ["--check"])
        self.assertEqual(str(error), "which configuration file? give it as --config FILE")


class MakeServiceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.file = Path(self.mktemp())
        self.reactor = MemoryReactorClock()
        self.output = StringIO()
        self.errors = StringIO()

    def make(self, text: str | None, *arguments: str) -> Any:
        if text is not None:
            self.file.write_text(text)
        options = Options()
        options.parseOptions(["--config", str(self.file), *arguments])
        with redirect_stdout(self.output), redirect_stderr(self.errors):
            return makeService(options, self.reactor, KINDS)

    def exit_code(self, text: str | None, *arguments: str) -> object:
        return self.assertRaises(SystemExit, self.make, text, *arguments).code

    def test_node(self) -> None:
        """
        A right file becomes a node; nothing is said, and nothing is opened or scheduled.
        """
        daemon = cast(Daemon, self.make(RIGHT))
        self.assertEqual(list(daemon.node.connections), ["dmm"])
        self.assertFalse(daemon.running or daemon.node.running)
        self.assertEqual((self.output.getvalue(), self.errors.getvalue()), ("", ""))
        self.assertEqual((self.reactor.tcpClients, self.reactor.tcpServers), ([], []))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_checked(self) -> None:
        """
        A right file that is only checked is called so, and the command ends well.
        """
        self.assertEqual(self.exit_code(RIGHT, "--check"), 0)
        self.assertEqual(self.output.getvalue(), f"{self.file}: ok, 1 connection\n")
        self.assertEqual(self.exit_code("", "--check"), 0)
        self.assertIn(f"{self.file}: ok, 0 connections\n", self.output.getvalue())
        self.assertEqual(self.errors.getvalue(), "")

    def test_wrong_file(self) -> None:
        """
        All that is wrong with a file is written to standard error, with or without ``--check``, and the command fails.
        """
        for arguments in ((), ("--check",)):
            self.errors.truncate(self.errors.seek(0))
            self.assertEqual(self.exit_code(RIGHT + "size = 'x'\nadress = 1\n", *arguments), 1)
            self.assertEqual(
                self.errors.getvalue(),
                f"{self.file}:4: connections.dmm.size: must be a whole number, not 'x'\n"
                f"{self.file}:5: connections.dmm.adress: unknown key; did you mean 'address'?\n"
                f"{self.file}: 2 problems\n",
            )
        self.assertEqual(self.output.getvalue(), "")

    def test_what_cannot_be_built(self) -> None:
        """
        The check finds what is missing beside the file, too.
        """
        folder = self.file.absolute().parent
        self.assertEqual(self.exit_code(RIGHT + 'serial = "gone"\n', "--check"), 1)
        self.assertEqual(
            self.errors.getvalue(),
            f"{self.file}:1: connections.dmm: No such file or directory: '{folder / 'meter.pem'}'\n"
            f"{self.file}: 1 problem\n",
        )

    def test_no_file(self) -> None:
        """
        A file that is not there, or is a folder, takes one line.
        """
        self.assertEqual(self.exit_code(None), 1)
        self.assertEqual(self.errors.getvalue(), f"{self.file}: cannot be read: No such file or directory\n")
        self.file.mkdir()
        self.assertEqual(self.exit_code(None), 1)
        self.assertIn(f"{self.file}: cannot be read: Is a directory\n", self.errors.getvalue())


class DaemonTests(SynchronousTestCase):
    """What twistd runs, as it makes it, with a reactor of its own."""

    def setUp(self) -> None:
        self.file = Path(self.mktemp())
        self.log = Path(self.mktemp())
        self.reactor = MemoryReactorClock()

    def make(self, logging: str = "", *arguments: str) -> Any:
        """Make the service and its application; give what is to observe the log."""
        self.file.write_text(RIGHT + "[logging]\n" + logging)
        options = ServerOptions()
        options.parseOptions(["-n", "--logfile", str(self.log), *arguments, "equipnet", "-c", str(self.file)])
        self.daemon = cast(Daemon, makeService(options.subOptions, self.reactor, KINDS))
        application = Application("equipnet")
        self.daemon.setServiceParent(application)
        observer: Any = application.getComponent(ILogObserver, None)
        if observer is not None:
            self.addCleanup(observer._formats["text"]._outFile.close)
        return observer

    def say(self, observer: Any, level: str) -> None:
        Logger("equipnet", observer=observer).emit(LogLevel.levelWithName(level), "{name}: refused", name="dmm")

    def test_log(self) -> None:
        """
        twistd takes its log from the table, and writes it where it would write its own.
        """
        observer = self.make('format = "json"\nlevels = { dmm = "error" }')
        verifyObject(ILogObserver, observer)
        self.say(observer, "warn")
        self.say(observer, "error")
        (line,) = self.log.read_text().splitlines()
        self.assertEqual(json.loads(line)["level"], "error")

    def test_logger(self) -> None:
        """
        What the command line says with ``--logger`` wins.
        """
        self.assertIsNone(self.make("", "--logger", "twisted.logger.LogPublisher"))
        self.assertFalse(self.log.exists())

    def test_read_again(self) -> None:
        """
        The table of a file that was read again counts from then on.
        """
        observer = self.make()
        self.daemon.node.running = 1
        self.file.write_text(RIGHT + '[logging]\nlevel = "error"\n')
        self.daemon.reloading.request()
        self.say(observer, "warn")
        self.assertNotIn("refused", self.log.read_text())
        self.say(observer, "error")
        self.assertIn("[equipnet#error] dmm: refused", self.log.read_text())

    def test_other_folder(self) -> None:
        """
        A relative name is that of the same file when the process has gone to another folder.
        """
        self.make()
        self.daemon.node.running = 1
        self.addCleanup(os.chdir, os.getcwd())
        file = self.file.absolute()
        os.chdir("/")
        file.write_text(RIGHT.replace("dmm", "laser"))
        self.daemon.reloading.request()
        self.assertEqual(list(self.daemon.node.connections), ["laser"])

    def test_without_twistd(self) -> None:
        """
        Without options of twistd nothing is done about the log.
        """
        self.file.write_text(RIGHT)
        options = Options()
        options.parseOptions(["-c", str(self.file)])
        application = Application("equipnet")
        makeService(options, self.reactor, KINDS).setServiceParent(application)
        self.assertIsNone(application.getComponent(ILogObserver, None))
