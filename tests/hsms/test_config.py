"""Tests of the ``hsms`` and ``simulated-equipment`` sections."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from equipnet.connection.address import Address
from equipnet.daemon.config import installed_kinds, read_config
from equipnet.daemon.tree import Node
from equipnet.hsms import (
    EquipmentFault,
    EquipmentSimulator,
    HsmsActiveConnection,
    HsmsPassiveConnection,
    HsmsSettings,
    Timers,
    Variable,
)
from equipnet.hsms.config import HsmsSection, SimulatedEquipmentSection
from equipnet.interfaces import INode
from equipnet.secs import F4, L

DELEGATE = """
class Recorder:
    def __init__(self, size=0):
        self.size = size
"""


def built(section: Any, folder: Path = Path()) -> Any:
    """Build the connection of a section."""
    node: INode = Node("test", 1.0, Clock())
    return section.build("etcher", node, folder, Clock())


class HsmsSectionTests(SynchronousTestCase):
    def test_active(self) -> None:
        """
        An active connection needs an address; everything else is as in the constructor.
        """
        host = built(HsmsSection.model_validate({"mode": "active", "address": "10.0.0.5:5000"}))
        self.assertIsInstance(host, HsmsActiveConnection)
        self.assertEqual((host.name, host.address), ("etcher", Address("tcp", "10.0.0.5", 5000)))
        self.assertEqual(host.settings, HsmsSettings())

    def test_passive(self) -> None:
        """
        A passive one needs to know where to listen, and is equipment where nothing is said.
        """
        tool = built(HsmsSection.model_validate({"mode": "passive", "listen": "tcp:5000", "address": "10.0.0.0/8"}))
        self.assertIsInstance(tool, HsmsPassiveConnection)
        self.assertEqual((tool.address, str(tool.allowed)), (Address("tcp", "127.0.0.1", 5000), "10.0.0.0/8"))
        self.assertEqual(tool.settings, HsmsSettings(role="equipment"))

    def test_everything(self) -> None:
        """
        What a file says arrives.
        """
        host = built(
            HsmsSection.model_validate(
                {
                    "mode": "active",
                    "address": "h:1",
                    "role": "equipment",
                    "session_id": 7,
                    "strict": True,
                    "timers": {"t3": 1.0, "t5": 2.0, "t6": 3.0, "t7": 4.0, "t8": 5.0, "linktest": 6.0},
                    "linktest_failures": 2,
                    "linktest_when_idle": True,
                    "message_limit": 100,
                    "open_limit": 3,
                    "queue_limit": 4,
                    "encoding": "shift-jis",
                    "max_depth": 5,
                }
            )
        )
        timers = Timers(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
        expected = HsmsSettings(7, "equipment", True, timers, 2, True, 100, 3, 4, "shift-jis", 5)
        self.assertEqual(host.settings, expected)
        self.assertNotEqual(host.settings, replace(expected, max_depth=6))

    def test_delegate(self) -> None:
        """
        A delegate is found beside the file, made with its options, and knows its node.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "hsms_delegate_of_test.py").write_text(DELEGATE)
        host = built(
            HsmsSection.model_validate(
                {
                    "mode": "active",
                    "address": "h:1",
                    "delegate": "hsms_delegate_of_test:Recorder",
                    "options": {"size": 3},
                }
            ),
            folder,
        )
        self.assertEqual((host.delegate.size, host.delegate.node.name), (3, "test"))

    def test_refused(self) -> None:
        """
        What makes no sense is refused, and why.
        """
        for section, words in (
            ({"mode": "active"}, "needs the address"),
            ({"mode": "active", "address": "h:1", "listen": "tcp:1"}, "does not listen"),
            ({"mode": "active", "address": "h"}, "is not an address"),
            ({"mode": "active", "address": "h:1", "retry": {"maximum": 9.0}}, "timers.t5"),
            ({"mode": "passive"}, "where to listen"),
            ({"mode": "passive", "listen": "udp:1"}, "UDP"),
            ({"mode": "passive", "listen": "tls:1"}, "needs tls"),
            ({"mode": "passive", "listen": "tcp:1", "address": "etcher"}, "address"),
            ({"mode": "active", "address": "h:1", "options": {"a": 1}}, "for a delegate"),
            ({"mode": "active", "address": "h:1", "encoding": "klingon"}, "klingon"),
            ({"mode": "active", "address": "h:1", "session_id": 40000}, "32767"),
            ({"mode": "active", "address": "h:1", "timers": {"t3": 0}}, "greater than 0"),
        ):
            with self.subTest(section=section):
                error = self.assertRaises(ValidationError, HsmsSection.model_validate, section)
                self.assertIn(words, str(error))

    def test_kinds(self) -> None:
        """
        Both kinds are installed.
        """
        kinds = installed_kinds()
        self.assertIs(kinds["hsms"].section(), HsmsSection)
        self.assertIs(kinds["simulated-equipment"].section(), SimulatedEquipmentSection)


class SimulatedEquipmentSectionTests(SynchronousTestCase):
    def test_everything(self) -> None:
        """
        A simulator can be described whole.
        """
        etcher = built(
            SimulatedEquipmentSection.model_validate(
                {
                    "listen": "tcp:5000",
                    "session_id": 3,
                    "model": "M",
                    "variables": {"1001": {"name": "Pressure", "value": "<F4 1.5>", "unit": "Pa"}},
                    "commands": {"START": 0},
                    "events": [3001],
                    "replies": {"S1F5": "<L>"},
                    "event": 3001,
                    "rate": 10.0,
                    "fault": {"delay": 0.5, "stream": 1},
                }
            )
        )
        assert isinstance(etcher, EquipmentSimulator)
        self.assertEqual(etcher.variables, {1001: Variable("Pressure", F4(1.5), "Pa")})
        self.assertEqual((etcher.commands, etcher.events), ({"START": 0}, {3001}))
        self.assertEqual((etcher.session_id, etcher.settings.role), (3, "equipment"))
        self.assertEqual([etcher._faults.take() for _ in range(2)], [EquipmentFault(delay=0.5, stream=1)] * 2)
        self.assertIn(1 << 8 | 5, etcher._handlers)
        self.assertEqual(L(), L())

    def test_refused(self) -> None:
        """
        What makes no sense is refused.
        """
        for section, words in (
            ({"listen": "tcp:1", "rate": 1.0}, "needs the event"),
            ({"listen": "tls:1"}, "needs tls"),
            ({"listen": "tcp:1", "replies": {"S1F5": "<L"}}, "line 1"),
            ({"listen": "tcp:1", "variables": {"1": {"name": "x", "value": 5}}}, "SML"),
            ({"listen": "tcp:1", "fault": {"split": 0}}, "split is 0"),
        ):
            with self.subTest(section=section):
                error = self.assertRaises(ValidationError, SimulatedEquipmentSection.model_validate, section)
                self.assertIn(words, str(error))

    def test_example(self) -> None:
        """
        The file of the examples is right.
        """
        file = Path(__file__).parents[2] / "examples" / "fab.toml"
        node = Node.from_config(read_config(file, installed_kinds()), Clock())
        self.assertEqual(
            {name: each.kind for name, each in node.connections.items()},
            {
                "etcher": "hsms",
                "etcher-simulator": "simulated-equipment",
                "stocker": "hsms",
                "stocker-simulator": "simulated-equipment",
            },
        )
