"""Tests of the examples that are programs, each in a process of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from PIL import Image
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.test_examples import EXAMPLES, ROOT

LIMIT = 60.0
"""How many seconds a process may take; only a broken one needs them."""


class ProcessTests(SynchronousTestCase):
    def run_python(self, *arguments: str | Path, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
        """Run Python in a folder, which is on its path; it succeeds."""
        paths = [str(folder), str(ROOT)]
        ended = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        self.assertEqual(ended.returncode, 0, f"{ended.stdout}\n{ended.stderr}")
        return ended

    def test_first_reply(self) -> None:
        """
        The tutorial's program prints what the tutorial shows.
        """
        ended = self.run_python(EXAMPLES / "first_reply.py")
        self.assertEqual((ended.stdout, ended.stderr), ((EXAMPLES / "first_reply.txt").read_text(), ""))

    def mktemp_folder(self) -> Path:
        """Make a folder for what a program leaves behind."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        return folder

    def check_demo(self) -> None:
        """Skip a test of the demonstration where it cannot run."""
        ports = (14242, 14243, 15000, 15001, 15025, 15026, 15027, 18080, 18501, 19000, 30005, 30006)
        for port in ports:
            kind = socket.SOCK_DGRAM if port == 15027 else socket.SOCK_STREAM
            with socket.socket(socket.AF_INET, kind) as free:
                free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind == socket.SOCK_STREAM))
                try:
                    free.bind(("127.0.0.1", port))
                except OSError as error:
                    raise SkipTest(f"somebody else has its port {port}") from error

    def test_demo(self) -> None:
        """
        All parts of the demonstration succeed.
        """
        self.check_demo()
        folder = self.mktemp_folder()
        ended = self.run_python(EXAMPLES / "demo.py", "--once", folder=folder)
        self.assertEqual((ended.stdout.splitlines()[-1], ended.stderr), ("All of it works.", ""))
        with Image.open(folder / "demo.png") as sheet:
            # Six by six images of 176 x 120 pixels.
            self.assertEqual((sheet.format, sheet.size), ("PNG", (1056, 720)))

    def test_demo_stays(self) -> None:
        """
        Without ``--once`` the node stays, with something to look at, until a signal ends it well.
        """
        self.check_demo()
        demo = subprocess.Popen(
            [sys.executable, EXAMPLES / "demo.py"],
            cwd=self.mktemp_folder(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # Who runs the tests in the background may have it ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

        def kill_all() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(demo.pid, signal.SIGKILL)

        self.addCleanup(kill_all)
        assert demo.stdout is not None
        while b"until Ctrl-C" not in demo.stdout.readline():
            self.assertIsNone(demo.poll())
        # As a terminal does, to all processes at once.
        os.killpg(demo.pid, signal.SIGINT)
        rest, _ = demo.communicate(timeout=LIMIT)
        self.assertEqual(demo.returncode, 0, rest)

    def test_demo_interrupted(self) -> None:
        """
        A demonstration that a signal ends in the middle has not seen everything, says so by its exit code and with
        no traceback, does not begin to stay, and leaves no port bound.
        """
        self.check_demo()
        demo = subprocess.Popen(
            [sys.executable, EXAMPLES / "demo.py"],
            cwd=self.mktemp_folder(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.addCleanup(demo.kill)
        assert demo.stdout is not None
        while not demo.stdout.readline().startswith(b"  "):  # what was seen in the first part: the node runs
            self.assertIsNone(demo.poll())
        demo.terminate()
        rest, _ = demo.communicate(timeout=LIMIT)
        self.assertEqual((demo.returncode, b"All of it works" in rest), (130, False))
        self.assertNotIn(b"Traceback", rest)
        self.check_demo()

    def test_with_pytest(self) -> None:
        """
        The tests for pytest-twisted pass.
        """
        file = EXAMPLES / "howto" / "test_supply_pytest.py"
        ended = self.run_python("-m", "pytest", "-q", "-p", "no:cacheprovider", file)
        self.assertIn("2 passed", ended.stdout)

    def test_own_kind(self) -> None:
        """
        The kind of another package is found where Twisted looks for it, and its own tests pass.
        """
        folder = Path(self.mktemp()).absolute()
        shutil.copytree(
            EXAMPLES / "howto" / "own_kind", folder, ignore=shutil.ignore_patterns("__pycache__", "*.cache")
        )
        ended = self.run_python("-m", "equipnet.cli", "check", "lab.toml", folder=folder)
        self.assertEqual(ended.stdout, "lab.toml: ok, 2 connections\n")
        self.run_python("-m", "twisted.trial", "test_acme_counter", folder=folder)
