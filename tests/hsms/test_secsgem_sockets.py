"""Conversations with secsgem, in both roles, over real sockets."""

from __future__ import annotations

import json
import os
import socket
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, TestCase

from equipnet.connection.state import State
from equipnet.errors import EquipmentConnectionError
from equipnet.hsms import EquipmentSimulator, HsmsActiveConnection, Timers
from equipnet.secs import A, B, L, Message

reactor: Any = installed

ROOT = Path(__file__).parents[2]

PROGRAM = bytes(range(256)) * 4096

TRIES = 50
"""How often secsgem is asked again when it does not know yet that it is selected."""


class Peer(ProcessProtocol):
    """The process of secsgem: its lines, and its end."""

    def __init__(self) -> None:
        self.printed = b""
        self.said: Deferred[str] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self.errors = b""

    def outReceived(self, data: bytes) -> None:
        self.printed += data
        if b"\n" in self.printed and not self.said.called:
            self.said.callback(self.printed.split(b"\n")[0].decode())

    def errReceived(self, data: bytes) -> None:
        self.errors += data

    def processEnded(self, reason: Failure) -> None:
        if not self.said.called:
            self.said.errback(AssertionError(f"secsgem ended: {self.errors.decode(errors='replace')}"))
        if reason.check(ProcessDone):
            self.ended.callback(None)
        else:
            self.ended.errback(reason)

    async def end(self) -> None:
        """Let it end."""
        transport: Any = self.transport
        transport.closeStdin()
        await self.ended


class SecsgemTests(TestCase):
    """equipnet and secsgem 0.3.0."""

    timeout = 120.0

    def setUp(self) -> None:
        if find_spec("secsgem") is None:
            raise SkipTest("secsgem is not installed")

    def start(self, role: str, port: int) -> Peer:
        """Start secsgem."""
        peer = Peer()
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        reactor.spawnProcess(
            peer,
            sys.executable,
            [sys.executable, "-m", "tests.hsms.secsgem_peer", role, str(port)],
            env={**os.environ, "PYTHONPATH": paths},
            path=str(ROOT),
        )
        self.addCleanup(peer.end)
        return peer

    async def accepted(self, host: HsmsActiveConnection) -> None:
        """
        Wait until secsgem takes data messages.

        It answers the Select.req before it counts itself as selected, and sometimes never does.
        """
        for attempt in range(TRIES):
            try:
                await host.request(Message(1, 1, True))
                return
            except EquipmentConnectionError:
                await deferLater(reactor, 0.02)
                if attempt % 5 == 4:
                    await host.reconnect()
        self.fail("secsgem never took a message")

    async def test_host(self) -> None:
        """
        equipnet as the host, active; secsgem as the equipment.
        """
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        peer = self.start("equipment", port)
        self.assertEqual(await peer.said, "listening")
        host = HsmsActiveConnection("127.0.0.1", port, timers=Timers(t5=0.2), reactor=reactor)
        self.addCleanup(host.disable)
        host.enable()
        await host.when_ready()
        await self.accepted(host)
        identity = L(A("SECSGEM"), A("0.3.0"))
        self.assertEqual((await host.request(Message(1, 1, True))).item, identity)
        self.assertEqual((await host.request(Message(1, 13, True, L()))).item, L(B(0), identity))
        await host.linktest()
        replies = await gatherResults([host.request(Message(1, 1, True)) for _ in range(64)])
        self.assertEqual([reply.item for reply in replies], [identity] * 64)
        reply = await host.request(Message(7, 3, True, L(A("P"), B(PROGRAM))))
        self.assertEqual(reply.item, B(0))
        await host.disable()
        self.assertIs(host.state, State.STOPPED)

    async def test_equipment(self) -> None:
        """
        equipnet as the equipment, passive; secsgem as the host.
        """
        etcher = EquipmentSimulator("tcp:0", model="ETCHER", reactor=reactor)
        self.addCleanup(etcher.disable)
        await etcher.listen()
        assert etcher.bound is not None
        peer = self.start("host", etcher.bound.port)
        answers = json.loads(await peer.said)
        identity = ["ETCHER", "1.0"]
        self.assertEqual(answers["S1F1"], identity)
        self.assertEqual(answers["S1F13"], {"COMMACK": 0, "MDLN": identity})
        self.assertEqual((answers["linktest"], answers["parallel"]), (True, [identity] * 16))
        self.assertEqual(answers["S7F3"], 0)
        body: Any = etcher.programs["P"]
        self.assertEqual(body.content, PROGRAM)
        # It separates when it ends; then the next can come.
        await peer.end()
        for _ in range(TRIES):
            if etcher.state is State.WAITING:
                break
            await deferLater(reactor, 0.02)
        self.assertIs(etcher.state, State.WAITING)
        peer.ended = Deferred()
        peer.ended.callback(None)
