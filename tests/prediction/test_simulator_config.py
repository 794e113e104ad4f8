"""
Tests for `equipnet.prediction.simulator_config`.
"""

from __future__ import annotations

from pathlib import Path

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from equipnet.daemon.config import read_section
from equipnet.daemon.tree import Node
from equipnet.errors import ConfigError
from equipnet.prediction.simulator import AutoMLFault, SimulatedAutoML

PLAIN = 'listen = "tcp:5000"\n'


class SectionTests(SynchronousTestCase):
    def build(self, text: str) -> SimulatedAutoML:
        """Build the model that a file of ``equipnet simulate automl`` describes."""
        file = Path(self.mktemp())
        file.write_text(text)
        node = Node.from_config(read_section(file, "simulated-automl"), MemoryReactorClock())
        (model,) = node.connections.values()
        assert isinstance(model, SimulatedAutoML)
        return model

    def test_defaults(self) -> None:
        """
        One key is enough; the port is on the loopback interface.
        """
        model = self.build(PLAIN)
        self.assertEqual((str(model.address), model.model), ("tcp:127.0.0.1:5000", "default"))

    def test_everything(self) -> None:
        """
        Every key reaches the model.
        """
        model = self.build(
            PLAIN
            + 'model = "loops"\nmax_size = "1 MiB"\nmax_connections = 7\nidle_timeout = 9.0\n'
            + 'allowed = ["10.0.0.0/8"]\nretry = { attempts = 3 }\nfault = { nan = true, count = 1 }\n'
        )
        self.assertEqual((model.model, model.max_size, model.max_connections), ("loops", 2**20, 7))
        self.assertEqual(([str(each) for each in model.allowed], model.idle_timeout), (["10.0.0.0/8"], 9))
        self.assertEqual([model.next_fault() for _ in range(2)], [AutoMLFault(nan=True), None])

    def test_wrong(self) -> None:
        """
        What cannot be is told with its line.
        """
        for text, said in (
            ("", "listen"),
            ('listen = "udp:5000"\n', "HTTP does not go over UDP"),
            ('listen = "tls:5000"\n', "a TLS port needs tls"),
            (PLAIN + 'model = "a:b"\n', "'a:b' is no name for a model"),
            (PLAIN + "fault = { nan = true, partial = true }\n", "nan does not go with partial"),
            (PLAIN + "fault = { status = 500, count = 0 }\n", "fault.count"),
        ):
            error = self.assertRaises(ConfigError, self.build, text)
            self.assertIn(said, str(error))
