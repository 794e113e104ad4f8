"""Tests of ``twistd equipnet`` as a process, with real sockets and signals."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from configparser import ConfigParser
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

import equipnet

LIMIT = 30.0
"""How many seconds a process may take; only a broken one needs them."""

COMMAND = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]

STUBBORN = """
import time
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from equipnet.connection.config import ConnectionSection

class Stubborn(Service):
    kind = "stubborn"

    def __init__(self, name, reactor):
        self.name, self.reactor = name, reactor

    def startService(self):
        super().startService()
        self.reactor.callLater(0, self.block)

    def block(self):
        time.sleep(0.3)
        if self.running:
            self.reactor.callLater(0.1, self.block)

    def stopService(self):
        super().stopService()
        return Deferred()

class StubbornSection(ConnectionSection):
    value: int = 0

    def build(self, name, node, folder, reactor):
        return Stubborn(name, reactor)
"""
"""The module of a kind of connections that keep the reactor, and never close."""

STUBBORN_PLUGIN = """
from equipnet.connection.config import Kind
stubborn = Kind("stubborn", "never closes", "stubborn.StubbornSection")
"""


class Equipment:
    """A port to which a connection of a node connects, and what it has connected with."""

    def __init__(self, test: SynchronousTestCase) -> None:
        self._test = test
        self._listening = socket.create_server(("127.0.0.1", 0))
        test.addCleanup(self._listening.close)
        self._listening.settimeout(LIMIT)
        self.address = f"tcp:127.0.0.1:{self._listening.getsockname()[1]}"
        self.line = f'address = "{self.address}"'

    def accept(self) -> socket.socket:
        accepted, _ = self._listening.accept()
        self._test.addCleanup(accepted.close)
        accepted.settimeout(LIMIT)
        return accepted


class Twistd:
    """A process with a node; its log can be waited for."""

    def __init__(self, test: SynchronousTestCase, *command: str, **options: Any) -> None:
        self._test = test
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
        self._unseen = self.log = ""
        test.addCleanup(self._kill)

    def _kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def wait_for(self, text: str) -> None:
        """Read on until the log has that text."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + LIMIT
        while text not in self._unseen:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            read = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not read:
                self._test.fail(f"no {text!r} in the log:\n{self.log}")
            self.log += read.decode()
            self._unseen += read.decode()
        self._unseen = self._unseen.partition(text)[2]

    def end(self) -> str:
        """Read on until the process ends; give the whole log."""
        rest, _ = self.process.communicate(timeout=LIMIT)
        self.log += rest.decode()
        return self.log

    def terminate(self) -> str:
        """End it as systemd does; give the whole log."""
        self.process.terminate()
        return self.terminated()

    def terminated(self) -> str:
        """Read on until it has ended well after SIGTERM; give the whole log."""
        self.end()
        # twistd ends as the signal would have ended it.
        self._test.assertEqual(self.process.returncode, -signal.SIGTERM, self.log)
        self._test.assertNotIn("Traceback", self.log)
        return self.log


class TwistdTests(SynchronousTestCase):
    def setUp(self) -> None:
        # The path of a UNIX socket must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="equipnet-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.file = self.folder / "lab.toml"
        paths = (str(self.folder), str(Path(equipnet.__file__).parents[1]))
        self.environ = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}

    def command(self, *options: str) -> list[str]:
        return [*COMMAND, "--nodaemon", "--pidfile=", *options, "equipnet", "--config", str(self.file)]

    def run_twistd(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command(), *arguments], env=self.environ, capture_output=True, text=True, timeout=LIMIT, check=False
        )

    def start(self, *options: str) -> Twistd:
        return Twistd(self, *self.command(*options), env=self.environ)

    def write(self, text: str = "", **instruments: str) -> None:
        """Write the file: a text, and an instrument for each keyword, with the lines of its table."""
        tables = (f'[connections.{name}]\nkind = "instrument"\n{lines}\n' for name, lines in instruments.items())
        self.file.write_text(text + "\n" + "".join(tables))

    def test_check(self) -> None:
        """
        A right file is called so; the answer is all that is written.
        """
        self.file.write_text('[connections.dmm]\nkind = "instrument"\naddress = "tcp:127.0.0.1:9"\n')
        ended = self.run_twistd("--check")
        self.assertEqual((ended.stdout, ended.stderr), (f"{self.file}: ok, 1 connection\n", ""))
        self.assertEqual(ended.returncode, 0)

    def test_wrong_file(self) -> None:
        """
        A node does not start from a wrong file; what is wrong is all that is written.
        """
        self.file.write_text('[connections.dmm]\nkind = "instrument"\nadress = "tcp:127.0.0.1:9"\n')
        ended = self.run_twistd()
        self.assertEqual(
            (ended.stdout, ended.stderr),
            (
                "",
                f"{self.file}:1: connections.dmm: 'address' is required\n"
                f"{self.file}:3: connections.dmm.adress: unknown key; did you mean 'address'?\n"
                f"{self.file}: 2 problems\n",
            ),
        )
        self.assertEqual(ended.returncode, 1)

    def test_sigterm(self) -> None:
        """
        SIGTERM closes the connections, and ends the process well before the grace is over.
        """
        dmm = Equipment(self)
        self.write("[node]\ngrace = 100", dmm=dmm.line)
        node = self.start()
        instrument = dmm.accept()
        node.process.terminate()
        self.assertEqual(instrument.recv(1), b"")
        log = node.terminated()
        self.assertIn("Received SIGTERM, shutting down.", log)
        self.assertIn("dmm: disconnecting -> stopped", log)

    def read_again(self, *options: str) -> None:
        """Start a node, change its file, then spoil it, and see what becomes of the connections."""
        kept, changed, gone, new = (Equipment(self) for _ in range(4))
        path = self.folder / "socket"

        def simulator(reply: str) -> str:
            return (
                f'[connections.simulator]\nkind = "simulated-instrument"\nlisten = "unix:{path}"\n'
                f'replies = {{ "R?" = "{reply}" }}'
            )

        def ask() -> bytes:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(LIMIT)
                client.connect(str(path))
                client.sendall(b"R?\n")
                return client.recv(100)

        self.write(simulator("one"), kept=kept.line, changed=changed.line, gone=gone.line)
        node = self.start(*options)
        sockets = [each.accept() for each in (kept, changed, gone)]
        node.wait_for("simulator: connected -> ready")
        self.assertEqual(ask(), b"one\n")

        self.write(simulator("two"), new=new.line, kept=kept.line, changed=changed.line + "\ntimeout = 2")
        # As systemd does it.
        unit = ConfigParser(interpolation=None)
        unit.read(Path(equipnet.__file__).parents[1] / "examples" / "howto" / "equipnet.service")
        subprocess.run(["sh", "-c", unit["Service"]["ExecReload"]], env={"MAINPID": str(node.process.pid)}, check=True)
        self.assertEqual([each.recv(1) for each in sockets[1:]], [b"", b""])
        changed.accept()
        new.accept()
        node.wait_for("lab.toml was read again: started new; stopped gone; restarted simulator, changed; kept 1")
        node.wait_for("new: connected -> ready")
        self.assertEqual(ask(), b"two\n")

        self.write("nothing", kept=kept.line)
        node.process.send_signal(signal.SIGHUP)
        node.wait_for("lab.toml:1: this is not TOML: ")
        sockets[0].setblocking(False)
        self.assertRaises(BlockingIOError, sockets[0].recv, 1)
        self.assertEqual(node.terminate().count("kept: connecting -> connected"), 1)

    def test_read_again(self) -> None:
        """
        SIGHUP starts what is new, stops what is gone, restarts what has changed, at the port that it had, and touches
        nothing else; a file with mistakes touches nothing at all.
        """
        self.read_again()

    def test_read_again_with_asyncio(self) -> None:
        """
        It does so in asyncio's loop, too.
        """
        self.read_again("--reactor=asyncio")

    def test_daemon(self) -> None:
        """
        A process that has gone into the background and to another folder finds its file again, and SIGUSR1 makes it
        begin another file for its log.
        """
        dmm, laser = Equipment(self), Equipment(self)
        self.write(dmm=dmm.line)
        pid_file, log = self.folder / "pid", self.folder / "log"
        subprocess.run(
            [*COMMAND, "--pidfile=pid", "--logfile=log", "--rundir=/", "equipnet", "--config", "lab.toml"],
            cwd=self.folder,
            env=self.environ,
            timeout=LIMIT,
            check=True,
        )
        pid = int(pid_file.read_text())

        def kill() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

        self.addCleanup(kill)
        instrument = dmm.accept()
        self.write(laser=laser.line)
        os.kill(pid, signal.SIGHUP)
        self.assertEqual(instrument.recv(1), b"")
        instrument = laser.accept()
        os.kill(pid, signal.SIGUSR1)
        self.wait_until(Path(f"{log}.1").exists)
        os.kill(pid, signal.SIGTERM)
        self.assertEqual(instrument.recv(1), b"")
        self.wait_until(lambda: not pid_file.exists())
        self.assertIn("started laser; stopped dmm; kept 0", Path(f"{log}.1").read_text())
        self.assertIn("Received SIGTERM, shutting down.", log.read_text())

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT
        while not is_so():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def test_stubborn(self) -> None:
        """
        A connection that never closes delays its own restart, and the end of the node, by the grace and no more; what
        keeps the reactor is named.
        """
        (self.folder / "stubborn.py").write_text(STUBBORN)
        plugins = self.folder / "equipnet" / "plugins"
        plugins.mkdir(parents=True)
        (plugins / "stubborn_plugin.py").write_text(STUBBORN_PLUGIN)
        table = '[node]\ngrace = 0.2\n[connections.stuck]\nkind = "stubborn"\n'
        self.file.write_text(table)
        node = self.start()
        # Python 3.10 does not tell the class.
        node.wait_for("block kept the reactor for 0.")
        self.file.write_text(table + "value = 1\n")
        node.process.send_signal(signal.SIGHUP)
        node.wait_for("stuck: not closed after")
        node.wait_for("restarted stuck; kept 0")
        self.assertEqual(node.terminate().count("stuck: not closed after"), 2)

    def test_json(self) -> None:
        """
        The log is one JSON object a line where the file says so, and what repeats is counted in it.
        """
        dmm = Equipment(self)
        self.write(
            '[logging]\nformat = "json"\nlevels = { twisted = "error", "twisted.internet" = "info" }',
            dmm=dmm.line + "\nretry = { initial_delay = 0.01, maximum = 0.01 }",
        )
        node = self.start()
        for _ in range(8):
            dmm.accept().close()
        lines = list(map(json.loads, node.terminate().splitlines()))
        self.assertEqual({line.get("connection") for line in lines}, {"dmm", None})
        self.assertEqual(lines[0]["message"], "dmm: stopped -> connecting: connecting to " + dmm.address)
        self.assertIn("Received SIGTERM, shutting down.", [line["message"] for line in lines])
        repeated = [line for line in lines if "times" in line]
        self.assertGreaterEqual(repeated[0]["times"], 4)
        self.assertRegex(repeated[0]["message"], r"^dmm: \w+ -> \w+: .* \(\d+ times more in the last \d+ s\)$")

    def test_terminal(self) -> None:
        """
        A node ends when the terminal that it was started from is closed, as it would without reading files again.
        """
        dmm = Equipment(self)
        self.write(dmm=dmm.line)
        ours, theirs = pty.openpty()
        node = Twistd(
            self,
            *self.command(),
            env=self.environ,
            stdin=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        instrument = dmm.accept()
        os.close(ours)
        self.assertEqual(instrument.recv(1), b"")
        self.assertIn("the terminal that this node was started from is gone", node.end())
        self.assertEqual(node.process.returncode, 0)
