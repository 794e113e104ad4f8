"""Tests of the ``equipnet`` command, but for what needs a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

import equipnet
from equipnet import __version__
from equipnet.cli import main
from equipnet.daemon.config import Kinds
from tests.daemon.kinds import KINDS, FakeKind, ServerSection

RIGHT = '[connections.dmm]\nkind = "meter"\naddress = "tcp:192.0.2.1:5025"\n'


class CommandTests(SynchronousTestCase):
    """What the tests of the commands share."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def file(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text)
        return str(self.folder / name)

    def run_command(self, *arguments: str, kinds: Kinds = KINDS) -> Result:
        result = CliRunner().invoke(main, arguments, obj=kinds)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result


class VersionTests(CommandTests):
    def test_version(self) -> None:
        """
        The version is that of the package.
        """
        self.assertEqual(self.run_command("--version").output, f"equipnet {__version__}\n")

    def test_quick(self) -> None:
        """
        What only tells about the command itself does not import what connections need.
        """
        loaded = subprocess.run(
            [
                sys.executable,
                "-c",
                "import equipnet.cli, sys; print({'twisted', 'pydantic'} & {*sys.modules})",
            ],
            env={**os.environ, "PYTHONPATH": str(Path(equipnet.__file__).parents[1])},
            capture_output=True,
            text=True,
            check=True,
        )
        self.assertEqual(loaded.stdout, "set()\n")


class CheckTests(CommandTests):
    def test_right(self) -> None:
        """
        Right files are called so, one line each.
        """
        one, two = self.file("one.toml", RIGHT), self.file("two.toml", "")
        result = self.run_command("check", one, two)
        self.assertEqual(result.stdout, f"{one}: ok, 1 connection\n{two}: ok, 0 connections\n")
        self.assertEqual((result.stderr, result.exit_code), ("", 0))

    def test_wrong(self) -> None:
        """
        One wrong file among others makes the command fail; each file has its own lines.
        """
        wrong, right = self.file("wrong.toml", RIGHT + "size = 'x'"), self.file("right.toml", RIGHT)
        missing = str(self.folder / "missing.toml")
        result = self.run_command("check", wrong, missing, right)
        self.assertEqual(
            result.stderr,
            f"{wrong}:4: connections.dmm.size: must be a whole number, not 'x'\n"
            f"{wrong}: 1 problem\n"
            f"{missing}: cannot be read: No such file or directory\n",
        )
        self.assertEqual((result.stdout, result.exit_code), (f"{right}: ok, 1 connection\n", 1))

    def test_built(self) -> None:
        """
        What is missing beside the file is found.
        """
        result = self.run_command("check", self.file("a.toml", RIGHT + 'serial = "gone"'))
        self.assertIn(":1: connections.dmm: No such file or directory: ", result.stderr)
        self.assertEqual(result.exit_code, 1)


class KindsTests(CommandTests):
    def test_aligned(self) -> None:
        """
        The kinds are listed with their summaries in a column.
        """
        self.assertEqual(
            self.run_command("kinds").output,
            "broken  cannot be imported\nmeter   goes out\nserver  listens\nvault   has a secret\n",
        )


class SchemaTests(CommandTests):
    def test_json(self) -> None:
        """
        The schema is printed as JSON.
        """
        printed = json.loads(self.run_command("schema").output)
        self.assertEqual(printed["title"], "Configuration of an equipnet node")


class SimulateTests(CommandTests):
    kinds = {**KINDS, "simulated-meter": FakeKind("simulated-meter", "answers", ServerSection)}

    def test_unknown(self) -> None:
        """
        What cannot be simulated is told what can.
        """
        result = self.run_command("simulate", "metre", "x.toml", kinds=self.kinds)
        self.assertEqual(result.stderr, "there is no simulator 'metre'; one of: meter; did you mean 'meter'?\n")
        self.assertEqual(result.exit_code, 1)
        result = self.run_command("simulate", "meter", "x.toml")
        self.assertEqual(result.stderr, "there is no simulator 'meter'; one of: none is installed\n")

    def test_wrong_file(self) -> None:
        """
        The file's mistakes are reported as those of a configuration file.
        """
        file = self.file("meter.toml", "\nlissten = 'tcp:0'")
        result = self.run_command("simulate", "meter", file, kinds=self.kinds)
        self.assertEqual(
            result.stderr,
            f"{file}:1: 'listen' is required\n{file}:2: lissten: unknown key; did you mean 'listen'?\n"
            f"{file}: 2 problems\n",
        )
        self.assertEqual(result.exit_code, 1)


class AskTests(CommandTests):
    def test_wrong_file(self) -> None:
        """
        The file's mistakes are reported before anything is connected.
        """
        file = self.file("a.toml", RIGHT + "size = 'x'")
        result = self.run_command("ask", "--config", file, "dmm", "*IDN?")
        self.assertEqual(
            result.stderr,
            f"{file}:4: connections.dmm.size: must be a whole number, not 'x'\n{file}: 1 problem\n",
        )
        self.assertEqual(result.exit_code, 1)

    def test_two_terminations(self) -> None:
        """
        A connection of a file has its own termination.
        """
        result = self.run_command("ask", "--config", "a.toml", "--termination", ";", "dmm", "*IDN?")
        self.assertIn("the termination stands in the file", result.stderr)
        self.assertEqual(result.exit_code, 2)
