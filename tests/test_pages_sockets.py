"""Tests of what the pages let the reader run, with sockets and processes: it prints what they show."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from equipnet.imaging import SimulatedAxis
from equipnet.prediction import SimulatedAutoML
from examples.howto.simulators import test_loop
from tests.test_examples import EXAMPLES, ROOT, snippets

TUTORIAL = EXAMPLES / "tutorial"

LIMIT = 60.0
"""How many seconds a process may take; only a broken one needs them."""

#: The example of the guide "Test your code with the simulators".
LoopHeightTests = test_loop.LoopHeightTests

TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
EQUIPNET = [sys.executable, "-m", "equipnet.cli"]


def copy(folder: Path, to: Path) -> dict[str, str]:
    """Copy a folder of examples, with free ports in place of those in its files; gives the old ports by the new."""
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("__pycache__"))
    texts = {file: file.read_text() for file in to.glob("*.toml")}
    ports = sorted(set(re.findall(r"(?<=:)1[45]\d{3}\b", " ".join(texts.values()))))
    with contextlib.ExitStack() as taken:
        sockets = [taken.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in ports]
        olds = {str(each.getsockname()[1]): port for each, port in zip(sockets, ports, strict=True)}
    news = {old: new for new, old in olds.items()}
    for file, text in texts.items():
        file.write_text(re.sub(r"(?<=:)1[45]\d{3}\b", lambda found: news[found[0]], text))
    return olds


class NodePageTests(SynchronousTestCase):
    """The page "From a reply to a node"."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.ports = copy(TUTORIAL, self.folder / "tutorial")
        self.page = (ROOT / "docs" / "tutorial" / "node.md").read_text()
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}

    def as_shown(self, text: str) -> str:
        """Give a text with the ports and names of files that the pages have."""
        for new, old in self.ports.items():
            text = re.sub(rf"(?<=:){new}\b", old, text)
        return text.replace(f"{self.folder}/", "").replace("tutorial/", "examples/tutorial/")

    def run_as_shown(self, *arguments: str) -> None:
        """Run the command ``equipnet``; the page shows the call, and right behind it what it prints."""
        ended = subprocess.run(
            [*EQUIPNET, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        self.assertEqual(ended.returncode, 0, ended.stderr)
        quoted = [f"'{each}'" if "?" in each else each for each in arguments]
        self.assertIn(f"$ equipnet {' '.join(quoted)}\n{ended.stdout}", self.page)

    def wait(self, what: Callable[[], bool], log: Path) -> None:
        """Wait until something is so; what the node has logged tells why it never will be."""
        end = time.monotonic() + LIMIT
        while not what():
            if time.monotonic() > end:
                self.fail(log.read_text())
            time.sleep(0.02)

    def test_wrong(self) -> None:
        """
        What is said about the wrong file is what the page shows.
        """
        ended = subprocess.run(
            [*EQUIPNET, "check", "tutorial/wrong.toml"],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        self.assertEqual(ended.returncode, 1)
        self.assertEqual(self.as_shown(ended.stderr), (TUTORIAL / "wrong.txt").read_text())

    def test_node(self) -> None:
        """
        A node runs the file, is asked, takes on what is appended, refuses a wrong file, and logs what the page shows.
        """
        file, log = self.folder / "lab.toml", self.folder / "log"
        shutil.copy(self.folder / "tutorial" / "lab.toml", file)
        self.run_as_shown("check", "lab.toml")
        with log.open("w") as output:
            node = subprocess.Popen(
                [*TWISTD, "-n", "equipnet", "--config", "lab.toml"],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.addCleanup(node.wait)
        self.addCleanup(node.kill)

        def logs(text: str) -> None:
            self.wait(lambda: text in log.read_text(), log)

        logs("dmm: connected -> ready")
        self.run_as_shown("ask", "--config", "lab.toml", "dmm", "*IDN?")
        self.run_as_shown("ask", "--config", "lab.toml", "dmm", "MEAS:VOLT?")

        file.write_text(file.read_text() + (self.folder / "tutorial" / "supply.toml").read_text())
        self.run_as_shown("check", "lab.toml")
        self.assertEqual((self.folder / "twistd.pid").read_text(), str(node.pid))
        node.send_signal(signal.SIGHUP)
        logs("was read again")
        logs("supply: connected -> ready")

        shutil.copy(self.folder / "tutorial" / "wrong.toml", file)
        node.send_signal(signal.SIGHUP)
        logs("3 problems")
        node.terminate()
        # When all is closed, twistd ends by the signal that it got.
        self.assertEqual(node.wait(LIMIT), -signal.SIGTERM)
        self.assertIn("Server Shut Down.", log.read_text())

        shown = (TUTORIAL / "node.txt").read_text().splitlines()
        logged = [line.partition("] ")[2] or line for line in self.as_shown(log.read_text()).splitlines()]
        self.assertEqual([line for line in logged if line in shown], shown)
        begun = [line for line in logged if " -> " in line]
        self.assertEqual(begun[:6], shown[:6])


class ServerPageTests(TestCase):
    """The page "From a node to a hardware server of your own"."""

    timeout = LIMIT

    async def shown(self, name: str) -> None:
        """Run the node of one of the files, and drive it; what is printed is what the page shows."""
        folder = Path(self.mktemp())
        copy(TUTORIAL / "dhs", folder)
        for module in ("hello_dhs", "motor_dhs", "loop_dhs"):
            self.addCleanup(sys.modules.pop, module, None)
        printed = StringIO()
        drive: Any = import_module("examples.tutorial.dhs.drive")
        with contextlib.redirect_stdout(printed):
            await drive.main(reactor, folder / f"{name}.toml")
        self.assertEqual(printed.getvalue(), (TUTORIAL / "dhs" / f"{name}.txt").read_text())

    async def test_hello(self) -> None:
        """
        An operation.
        """
        await self.shown("hello")

    async def test_motor(self) -> None:
        """
        A motor.
        """
        await self.shown("motor")

    async def test_loop(self) -> None:
        """
        An image, and a model that finds the loop in it.
        """
        await self.shown("loop")

    def test_own_tests(self) -> None:
        """
        The tests on the page pass.
        """
        folder = Path(self.mktemp()).absolute()
        copy(TUTORIAL / "dhs", folder)
        ended = subprocess.run(
            [sys.executable, "-m", "twisted.trial", "test_servers"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])},
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        self.assertEqual(ended.returncode, 0, ended.stdout + ended.stderr)
        self.assertIn("successes=3", ended.stdout)


class ReadmeTests(TestCase):
    """The README's listings that are about sockets."""

    timeout = LIMIT

    def run_listing(self, mark: str, **places: str) -> dict[str, Any]:
        """Run the listing in which a text stands, with other places in it; gives its names."""
        (snippet,) = (each for each in snippets(ROOT / "README.md", "python") if mark in each)
        for old, new in places.items():
            self.assertEqual(snippet.count(old), 1, old)
            snippet = snippet.replace(old, new)
        names: dict[str, Any] = {}
        exec(snippet, names)
        return names

    async def test_hsms(self) -> None:
        """
        The host asks the tool who it is.
        """
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        names = self.run_listing(
            "HsmsPassiveConnection",
            **{'"10.0.0.5", 5000': f'"127.0.0.1", {port}', '"", 5000': f'"", listen="tcp:{port}"'},
        )
        host, tool = names["host"], names["tool"]
        self.addCleanup(tool.disable)
        self.addCleanup(host.disable)
        await tool.listen()
        host.enable()
        await host.when_ready()
        self.assertTrue((await names["ask"]()).startswith("S1F2\n<L [2]"))

    async def test_images(self) -> None:
        """
        Images that a camera posts are looked at by the model.
        """
        server = SimulatedAutoML(reactor=reactor)
        await server.connect()
        self.addCleanup(server.disconnect)
        names = self.run_listing(
            "JpegReceiver",
            **{"tcp:9000": "tcp:0", "http://voltron:5000": f"http://{server.peer.removeprefix('tcp:')}"},
        )
        receiver, model = names["receiver"], names["model"]
        for connection in (receiver, model):
            await connection.connect()
            self.addCleanup(connection.disconnect)
        url = f"http://{receiver.peer.removeprefix('tcp:')}/camera1"
        camera = SimulatedAxis(seed=7, post_to=url, post_count=2, post_rate=50.0, reactor=reactor)
        await camera.connect()
        self.addCleanup(camera.disconnect)
        printed = StringIO()
        with contextlib.redirect_stdout(printed):
            watching = Deferred.fromCoroutine(names["watch"]())
            camera.open_trigger()
            while printed.getvalue().count("\n") < 2:
                await deferLater(reactor, 0.02)
        watching.addErrback(lambda _: None)
        watching.cancel()
        self.assertRegex(printed.getvalue(), r"\A1 Detection\(.*\n2 Detection\(.*\n\Z")
