"""Tests of the nodes that the examples describe, as ``twistd`` runs them."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from equipnet.daemon.config import read_config
from tests.test_examples import EXAMPLES, ROOT

LIMIT = 60.0
"""How many seconds a process may take; only a broken one needs them."""


class NodeTests(SynchronousTestCase):
    def run_node(self, name: str) -> None:
        """Run a node until each of its connections is ready, and end it; each is closed, and it ends well."""
        twistd = Path(sys.executable).parent / "twistd"
        if not twistd.exists():
            raise SkipTest("twistd is not installed")
        file = EXAMPLES / name
        waiting = {*read_config(file).connections}
        self.assertGreater(len(waiting), 3)
        command = [str(twistd), "-n", "--pidfile=", "equipnet", "--config", str(file)]
        node = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(node.kill)
        too_long = threading.Timer(LIMIT, node.kill)
        too_long.start()
        self.addCleanup(too_long.cancel)
        assert node.stdout is not None
        log: list[str] = []
        while waiting:
            line = node.stdout.readline()
            self.assertTrue(line, "".join(log))
            log.append(line)
            ready = re.search(r"\] ([\w-]+): \w+ -> ready", line)
            waiting -= {ready[1]} if ready else set()
        node.send_signal(signal.SIGTERM)
        rest, _ = node.communicate(timeout=LIMIT)
        # twistd ends by the signal that it got, as a shell expects.
        self.assertEqual(node.returncode, -signal.SIGTERM, rest)
        stopped = set(re.findall(r"\] ([\w-]+): disconnecting -> stopped", rest))
        self.assertEqual(stopped, {*read_config(file).connections}, rest)
        self.assertNotIn("Traceback", "".join(log) + rest)

    def test_beamline(self) -> None:
        """
        The beamline: a hardware server, receiver, camera and model, and the simulators of all around them.
        """
        self.run_node("beamline.toml")

    def test_fab(self) -> None:
        """
        The fab: a host, and two tools of which one is reached over TLS.
        """
        self.run_node("fab.toml")

    def test_lab(self) -> None:
        """
        The laboratory: instruments over TCP, TLS and UDP, and a telescope's mount.
        """
        self.run_node("lab.toml")
