"""
Tests for `equipnet.dcs.simulator_config`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from equipnet.daemon.config import read_config, read_section
from equipnet.daemon.tree import Node
from equipnet.dcs.simulator import DcssFault, DcssSimulator
from equipnet.errors import ConfigError

from .test_database import EXAMPLE

PLAIN = f'database = "{EXAMPLE}"\nlisten = "tcp:14242"\ngui = "tcp:14243"\n'


class SectionTests(SynchronousTestCase):
    def build(self, text: str) -> DcssSimulator:
        """Build the simulator that a file of ``equipnet simulate dcss`` describes."""
        file = Path(self.mktemp())
        file.write_text(text)
        node = Node.from_config(read_section(file, "simulated-dcss"), MemoryReactorClock())
        (simulator,) = node.connections.values()
        assert isinstance(simulator, DcssSimulator)
        return simulator

    def wrong(self, text: str) -> str:
        """Give what is wrong with a file."""
        return str(self.assertRaises(ConfigError, self.build, text))

    def test_defaults(self) -> None:
        """
        Three keys are enough; both ports are on the loopback interface.
        """
        dcss = self.build(PLAIN)
        self.assertEqual((str(dcss.address), str(dcss.gui.address)), ("tcp:127.0.0.1:14242", "tcp:127.0.0.1:14243"))
        self.assertEqual((dcss.gui.staff, dcss.gui.location, dcss.check_address), (True, "LOCAL", False))
        self.assertIn("gonio_phi", dcss.database.devices)

    def test_everything(self) -> None:
        """
        Every key reaches the simulator.
        """
        dcss = self.build(
            PLAIN
            + 'staff = false\nlocation = "REMOTE"\ncheck_address = true\nmax_connections = 7\n'
            + 'allowed = ["10.0.0.0/8"]\nretry = { attempts = 3 }\n'
            + 'fault = { on = "stoh_register_shutter", twice = true, count = 1 }\n'
        )
        self.assertEqual((dcss.gui.staff, dcss.gui.location, dcss.check_address), (False, "REMOTE", True))
        self.assertEqual((dcss.max_connections, dcss.gui.max_connections), (7, 7))
        self.assertEqual([str(each) for each in dcss.gui.allowed], ["10.0.0.0/8"])
        fault = DcssFault(on="stoh_register_shutter", twice=True)
        taken = [dcss.fault_for("stoh_register_shutter", "") for _ in range(2)]
        self.assertEqual(taken, [fault, None])

    def test_examples(self) -> None:
        """
        The files of the examples are right.
        """
        self.addCleanup(sys.modules.pop, "loop_dhs", None)
        folder = EXAMPLE.parent
        for config in (
            read_config(folder / "node.toml"),
            read_config(folder / "beamline.toml"),
            read_section(folder / "dcss.toml", "simulated-dcss"),
        ):
            Node.from_config(config, MemoryReactorClock())

    def test_wrong(self) -> None:
        """
        What cannot be is told with its key.
        """
        for text, said in (
            ('listen = "tcp:1"\n', "database"),
            (PLAIN + 'location = "MOON"\n', "location"),
            (PLAIN + "fault = { split = 0 }\n", "split is 0"),
            (PLAIN + "fault = {}\n", "there is no fault in it"),
            (PLAIN.replace("tcp:14243", "tls:14243"), "over plain TCP only"),
            (PLAIN.replace("tcp:14243", "tcp:14242"), "cannot both connect to tcp:127.0.0.1:14242"),
        ):
            self.assertIn(said, self.wrong(text))

    def test_wrong_database(self) -> None:
        """
        So is everything that is wrong with the database, with its lines.
        """
        database = Path(self.mktemp())
        database.write_text("a\n99\n\nb\n98\n")
        said = self.wrong(PLAIN.replace(str(EXAMPLE), str(database.resolve())))
        self.assertIn("there are no devices of type 99", said)
        self.assertIn("there are no devices of type 98", said)
