"""Tests of the ``dhs`` section."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from equipnet.connection.address import Address
from equipnet.daemon.config import installed_kinds, read_config
from equipnet.daemon.tree import Node
from equipnet.dcs import DhsConnection
from equipnet.dcs.config import DhsSection
from equipnet.interfaces import INode

APPLICATION = """
from equipnet.dcs import HardwareServer, Motor

class Phi(Motor):
    name = "phi"

class Server(HardwareServer):
    dhs_name = "loopDHS"
    devices = (Phi,)

def something(): ...
"""


class DhsSectionTests(SynchronousTestCase):
    """From a table to a connection."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        # Modules are imported once in a process, so each test has one of its own.
        self.module = f"dhs_application_{self.folder.parent.name}_{id(self)}".replace("-", "_")
        (self.folder / f"{self.module}.py").write_text(APPLICATION)
        self.node: INode = Node("bl831", 2.0, Clock())

    def built(self, **table: Any) -> DhsConnection:
        table = {"address": "tcp:dcss.example.org:14242", "application": f"{self.module}:Server", **table}
        connection = DhsSection.model_validate(table).build("dcss", self.node, self.folder, Clock())
        assert isinstance(connection, DhsConnection)
        return connection

    def test_defaults(self) -> None:
        """An address and an application are enough."""
        dhs = self.built()
        self.assertEqual((dhs.name, dhs.kind, dhs.dhs_name), ("dcss", "dhs", "loopDHS"))
        self.assertEqual(dhs.address, Address("tcp", "dcss.example.org", 14242))
        self.assertIs(dhs.application.node, self.node)
        self.assertIs(dhs.application.connection, dhs)
        self.assertEqual(dhs.application.device("phi").server, dhs.application)

    def test_everything(self) -> None:
        """Every key reaches the connection."""
        dhs = self.built(
            dhs_name="other",
            protocol=1,
            options={"camera": "cam1"},
            on_shutdown="complete-aborted",
            grace=3.0,
            abort_time=1.0,
            message_limit=1000,
            queue_limit=2000,
            connect_timeout=2.0,
            retry={"maximum": 5.0},
        )
        self.assertEqual(dhs.dhs_name, "other")
        self.assertEqual(dhs.application.options, {"camera": "cam1"})
        self.assertEqual((dhs._protocol_version, dhs._grace, dhs._abort_time), (1, 3.0, 1.0))
        self.assertEqual((dhs._limits, dhs.connect_timeout, dhs._policy.maximum), ((1000, 2000), 2.0, 5.0))

    def test_mistakes(self) -> None:
        """What cannot be is refused when the file is read."""
        for table in (
            {"protocol": 3},
            {"dhs_name": "two words"},
            {"dhs_name": "x" * 40},
            {"on_shutdown": "drop"},
            {"address": "udp:dcss:14242"},
            {"grace": 0},
        ):
            self.assertRaises(ValidationError, self.built, **table)
        for application in (
            "nowhere:Server",
            f"{self.module}:Nobody",
            f"{self.module}:something",
            f"{self.module}:Phi",
        ):
            self.assertRaises(ValueError, self.built, application=application)

    def test_broken_modules(self) -> None:
        """A module that cannot be imported is told from one that is not there, with the place in it."""
        for name, text, said in (
            ("divides", "x = 1\ny = x / 0\n", "divides.py:2: ZeroDivisionError: division by zero"),
            ("unclosed", "x = (\n", "unclosed.py:1: '(' was never closed"),
            ("imports", "import no_such_thing_as_this\n", "imports.py:1: ModuleNotFoundError: No module named "),
        ):
            (self.folder / f"{name}.py").write_text(text)
            self.addCleanup(sys.modules.pop, name, None)
            error = self.assertRaises(ValueError, self.built, application=f"{name}:Server")
            self.assertIn(f"{name!r} cannot be imported: {self.folder.resolve() / said}", str(error))

    def test_in_a_file(self) -> None:
        """The kind is found, and the module beside the file."""
        file = self.folder / "node.toml"
        file.write_text(
            f'[connections.dcss]\nkind = "dhs"\naddress = "tcp:127.0.0.1:14242"\napplication = "{self.module}:Server"\n'
        )
        self.assertIn("dhs", installed_kinds())
        node = Node.from_config(read_config(str(file)), Clock())
        self.assertIsInstance(node.connection("dcss"), DhsConnection)
