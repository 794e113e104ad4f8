"""Tests of the sections of a configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from equipnet.communicator import Communicator, OperationManagerSimulator
from equipnet.communicator.config import CommunicatorSection, SimulatedOperationManagerSection
from equipnet.communicator.message import Source
from equipnet.connection.address import Address
from equipnet.connection.state import State
from equipnet.daemon.tree import Node


def built(section: Any) -> Any:
    """Build the connection of a section, which needs nothing of its node."""
    return section.build("csc", Node("test", 1.0, Clock()), Path(), Clock())


class CommunicatorSectionTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """
        What a file does not say is as in the constructor, and nothing is opened.
        """
        section = CommunicatorSection.model_validate({"address": "tcp:mount:40005", "listen": "tcp:40006"})
        self.assertEqual(section.listens_on(), (Address("tcp", "127.0.0.1", 40006),))
        csc = built(section)
        plain = Communicator("csc", "mount", 40005, "127.0.0.1", 40006, connect=False, reactor=Clock())
        for name in (
            "client_host",
            "client_port",
            "server_host",
            "server_port",
            "dialect",
            "source",
            "ack_timeout",
            "margin",
            "max_frame_size",
            "queue_limit",
            "read_replies",
        ):
            self.assertEqual(getattr(csc, name), getattr(plain, name), name)
        self.assertIs(csc.state, State.STOPPED)

    def test_everything(self) -> None:
        """
        What it says arrives.
        """
        csc = built(
            CommunicatorSection.model_validate(
                {
                    "address": "tcp:mount:40006",
                    "listen": "tcp:40005:interface=0.0.0.0",
                    "reads": "commands",
                    "dialect": "v0.13",
                    "source": "PXI",
                    "ack_timeout": 1.5,
                    "margin": 0,
                    "max_frame_size": 1000,
                    "queue_limit": 7,
                    "connect_timeout": 3,
                    "allowed": ["10.0.0.0/8"],
                    "retry": {"initial_delay": 0.5, "maximum": 2.0},
                }
            )
        )
        self.assertEqual((csc.read_replies, csc.dialect.name, csc.source), (False, "v0.13", Source.PXI))
        self.assertEqual((csc.ack_timeout, csc.margin, csc.max_frame_size, csc.queue_limit), (1.5, 0, 1000, 7))
        self.assertEqual((csc.client.connect_timeout, csc.client.retry_delay(1) > 0.4), (3, True))
        self.assertEqual((csc.server_host, str(csc.server.allowed[0])), ("0.0.0.0", "10.0.0.0/8"))

    def test_one_socket(self) -> None:
        """
        In JSON who reads replies connects, and who reads commands listens.
        """
        csc = built(CommunicatorSection.model_validate({"dialect": "json", "address": "tcp:mount:30005"}))
        self.assertEqual((csc.server, csc.peer), (None, "tcp:mount:30005"))
        mount = built(
            CommunicatorSection.model_validate({"dialect": "json", "listen": "tcp:30005", "reads": "commands"})
        )
        self.assertEqual((mount.client, mount.server_port), (None, 30005))

    def test_refused(self) -> None:
        """
        Sockets that are missing, or that the dialect does not have, are found before anything runs.
        """
        for table, text in (
            ({}, "needs 'address'"),
            ({"address": "tcp:h:1"}, "needs 'listen'"),
            ({"address": "tcp:h:1", "listen": "tcp:2", "dialect": "json"}, "has no 'listen'"),
            ({"address": "tcp:h:1", "dialect": "json", "reads": "commands"}, "has no 'address'"),
            ({"address": "tcp:h:1", "listen": "tcp:2", "dialect": "v0.10"}, "dialect"),
            ({"address": "tcp:h:1", "listen": "tcp:2", "source": "ME"}, "source"),
        ):
            with self.assertRaisesRegex(ValidationError, text):
                CommunicatorSection.model_validate(table)


class SimulatedOperationManagerSectionTests(SynchronousTestCase):
    def test_reply_port(self) -> None:
        """
        Replies go to the port after that of the commands, unless the file says where.
        """
        section = SimulatedOperationManagerSection.model_validate({"listen": "tcp:40005"})
        self.assertEqual(section.listens_on(), (Address("tcp", "127.0.0.1", 40005),))
        mount = built(section)
        self.assertIsInstance(mount, OperationManagerSimulator)
        self.assertEqual((mount.server_port, mount.client_host, mount.client_port), (40005, "127.0.0.1", 40006))
        mount = built(SimulatedOperationManagerSection.model_validate({"listen": "tcp:0", "address": "tcp:csc:9"}))
        self.assertEqual((mount.client_host, mount.client_port), ("csc", 9))

    def test_refused(self) -> None:
        """
        What makes no sense is refused.
        """
        for table, text in (
            ({"listen": "tcp:0"}, "needs an 'address'"),
            ({"listen": "tcp:65535"}, "needs an 'address'"),
            ({"listen": "tcp:1", "address": "tcp:h:2", "dialect": "json"}, "has no 'address'"),
        ):
            with self.assertRaisesRegex(ValidationError, text):
                SimulatedOperationManagerSection.model_validate(table)
