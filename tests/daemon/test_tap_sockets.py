"""Tests of ``twistd equipnet`` as a process, with real sockets and signals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import equipnet

TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "--nodaemon", "--pidfile=", "equipnet"]
LIMIT = 30.0
"""How many seconds a process may take; only a broken one needs them."""


class TwistdTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.file = Path(self.mktemp()).absolute()
        self.environ = {**os.environ, "PYTHONPATH": str(Path(equipnet.__file__).parents[1])}

    def run_twistd(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*TWISTD, *arguments], env=self.environ, capture_output=True, text=True, timeout=LIMIT, check=False
        )

    def test_check(self) -> None:
        """
        A right file is called so; the answer is all that is written.
        """
        self.file.write_text('[connections.dmm]\nkind = "instrument"\naddress = "tcp:127.0.0.1:9"\n')
        ended = self.run_twistd("--config", str(self.file), "--check")
        self.assertEqual((ended.stdout, ended.stderr), (f"{self.file}: ok, 1 connection\n", ""))
        self.assertEqual(ended.returncode, 0)

    def test_wrong_file(self) -> None:
        """
        A node does not start from a wrong file; what is wrong is all that is written.
        """
        self.file.write_text('[connections.dmm]\nkind = "instrument"\nadress = "tcp:127.0.0.1:9"\n')
        ended = self.run_twistd("--config", str(self.file))
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
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        listening.settimeout(LIMIT)
        self.file.write_text(
            "[node]\ngrace = 20\n"
            f'[connections.dmm]\nkind = "instrument"\naddress = "tcp:127.0.0.1:{listening.getsockname()[1]}"\n'
        )
        node = subprocess.Popen(
            [*TWISTD, "--config", str(self.file)],
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            instrument, _ = listening.accept()
            self.addCleanup(instrument.close)
            instrument.settimeout(LIMIT)
            node.send_signal(signal.SIGTERM)
            self.assertEqual(instrument.recv(1), b"")
            log, _ = node.communicate(timeout=10)
        finally:
            node.kill()
            node.communicate()
        self.assertIn("Received SIGTERM, shutting down.", log)
        self.assertIn("dmm: disconnecting -> stopped", log)
        self.assertNotIn("Traceback", log)
        # twistd ends as the signal would have ended it.
        self.assertEqual(node.returncode, -signal.SIGTERM)
