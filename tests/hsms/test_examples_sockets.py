"""The examples of HSMS run, and print what the pages show."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from equipnet.hsms import HsmsActiveConnection
from equipnet.secs import A, L, Message
from examples import hsms_host

ROOT = Path(__file__).parents[2]

EXAMPLES = ROOT / "examples"


class HostTests(TestCase):
    async def test_printed(self) -> None:
        """
        The program of "Talk to SECS/HSMS equipment".
        """
        printed = StringIO()
        with contextlib.redirect_stdout(printed):
            await hsms_host.main(reactor)
        self.assertEqual(printed.getvalue(), (EXAMPLES / "hsms_host.txt").read_text())


class Node(ProcessProtocol):
    """A process that prints; tells when a text has been printed so often."""

    def __init__(self) -> None:
        self.printed = ""
        self.errors = ""
        self.awaited: tuple[str, int, Deferred[str]] | None = None
        self.ended: Deferred[str] = Deferred()

    def outReceived(self, data: bytes) -> None:
        self.printed += data.decode()
        self._look()

    def errReceived(self, data: bytes) -> None:
        self.errors += data.decode()

    def processEnded(self, reason: Failure) -> None:
        if self.awaited is not None:
            self.awaited[2].errback(AssertionError(f"it ended: {self.printed}{self.errors}"))
        self.ended.callback(self.printed)

    def when(self, text: str, count: int = 1) -> Deferred[str]:
        """Wait until a text has been printed so often; gives all that was."""
        printed: Deferred[str] = Deferred()
        self.awaited = (text, count, printed)
        self._look()
        return printed

    def _look(self) -> None:
        if self.awaited is not None and self.printed.count(self.awaited[0]) >= self.awaited[1]:
            printed, self.awaited = self.awaited[2], None
            printed.callback(self.printed)


class NodeTests(TestCase):
    """What runs by itself."""

    timeout = 60.0

    def start(self, *arguments: str) -> Node:
        node = Node()
        process: Any = reactor
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        process.spawnProcess(
            node,
            sys.executable,
            [sys.executable, *arguments],
            env={**os.environ, "PYTHONPATH": paths},
            path=str(ROOT),
        )
        self.addCleanup(self.stop, node, "KILL")
        return node

    async def stop(self, node: Node, signal: str) -> str:
        """End it, if it has not ended; gives what it has printed."""
        transport: Any = node.transport
        if not node.ended.called:
            transport.signalProcess(signal)
            await node.ended
        return node.printed

    async def test_simulate(self) -> None:
        """
        The command plays equipment that a file describes; it prints its address once it listens.
        """
        file = Path(self.mktemp()).absolute()
        file.write_text('listen = "tcp:0"\nmodel = "ETCHER"\n')
        node = self.start("-m", "equipnet.cli", "simulate", "equipment", str(file))
        address = re.match(r"tcp:127\.0\.0\.1:\d+$", await node.when("\n"), re.MULTILINE)
        assert address is not None, node.printed
        host = HsmsActiveConnection(address[0])
        self.addCleanup(host.disable)
        await host.connect()
        reply = await host.request(Message(1, 1, wait=True))
        self.assertEqual(reply.item, L(A("ETCHER"), A("1.0")))
        await host.disable()
        await self.stop(node, "INT")
