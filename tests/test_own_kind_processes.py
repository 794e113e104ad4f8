"""Tests of "Bring your own kind": a package is built and installed beside equipnet, and its kind runs in a node."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path
from zipfile import ZipFile

from twisted.trial.unittest import SynchronousTestCase

from tests.test_examples import EXAMPLES, ROOT

LIMIT = 60.0
"""How many seconds a process may take; only a broken one needs them."""


class InstalledKindTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        # What is not said here the environment below says.
        self.environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.python = self.make_environment()
        self.install(EXAMPLES / "howto" / "own_kind")

    def make_environment(self) -> Path:
        """Make a virtual environment with the packages of the one that runs this; gives its interpreter."""
        builder = venv.EnvBuilder()  # without pip, which not every Python can put into it
        builder.create(self.folder / "venv")
        python = self.folder / "venv" / "bin" / "python"
        self.site = Path(self.run_python(python, "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
        paths = dict.fromkeys((str(ROOT), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
        (self.site / "beside.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in paths))
        return python

    def install(self, package: Path) -> None:
        """Build a wheel of a package as pip does, and unpack it where pip would."""
        source = self.folder / "source"
        shutil.copytree(package, source, ignore=shutil.ignore_patterns("__pycache__", "*.cache"))
        build = "from setuptools.build_meta import build_wheel; print(build_wheel('.'))"
        wheel = self.run_python(Path(sys.executable), build, source).splitlines()[-1]
        with ZipFile(source / wheel) as archive:
            archive.extractall(self.site)

    def run_python(self, python: Path, program: str, folder: Path | None = None) -> str:
        """Run a program in a folder; it succeeds, and what it prints is given."""
        ended = subprocess.run(
            [python, "-c", program],
            cwd=folder or self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        self.assertEqual(ended.returncode, 0, f"{ended.stdout}\n{ended.stderr}")
        return ended.stdout

    def test_installed(self) -> None:
        """
        The kind is listed, its files are where the package put them, and a node with it becomes ready and ends well.
        """
        where = self.run_python(self.python, "import acme_counter; print(acme_counter.__file__)").strip()
        self.assertEqual(where, str(self.site / "acme_counter.py"))
        kinds = self.run_python(self.python, "from equipnet.cli import main; main(['kinds'])")
        self.assertRegex(kinds, r"(?m)^acme-counter +an ACME particle counter$")
        self.assertRegex(kinds, r"(?m)^instrument +")

        site = self.folder / "laboratory"
        site.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        own = EXAMPLES / "howto" / "own_kind"
        shutil.copy(own / "counter.password", site)
        (site / "lab.toml").write_text(re.sub(r"(?<=:)15031\b", str(port), (own / "lab.toml").read_text()))
        program = "from twisted.scripts.twistd import run; run()"
        with (site / "log").open("w") as log:
            node = subprocess.Popen(
                [self.python, "-c", program, "-n", "--pidfile=", "equipnet", "--config", "lab.toml"],
                cwd=site,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.addCleanup(node.wait)
        self.addCleanup(node.kill)
        end = time.monotonic() + LIMIT
        while "counter: connected -> ready: the counter accepted us" not in (site / "log").read_text():
            self.assertIsNone(node.poll(), (site / "log").read_text())
            self.assertLess(time.monotonic(), end, (site / "log").read_text())
            time.sleep(0.02)
        node.terminate()
        self.assertEqual(node.wait(LIMIT), -signal.SIGTERM)
        self.assertIn("counter: disconnecting -> stopped", (site / "log").read_text())
        self.assertNotIn("hunter2", (site / "log").read_text())
