"""A hardware server over real sockets of this machine, with real threads, and as a daemon that gets SIGTERM."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from threading import Event
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

import equipnet
from equipnet.connection.state import State
from equipnet.dcs import DhsConnection, HardwareServer, Run, operation
from equipnet.dcs.message import encode

from .doubles import ASKING

reactor: Any = installed_reactor

#: How many seconds anything may take; only a broken one needs them.
LIMIT = 30.0

TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "--nodaemon", "--pidfile=", "equipnet"]


class Hub(Protocol):
    """A dcss's end of a connection."""

    transport: Any
    factory: Hubs

    def connectionMade(self) -> None:
        self.received = b""
        self.lines: list[str] = []
        self.waiting: list[tuple[str, Deferred[str]]] = []
        self.gone: Deferred[None] = Deferred()
        self.transport.write(ASKING)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if not self.lines and len(self.received) >= 200:
            self.lines.append(self.received[:200].rstrip(b"\0").decode())
            self.received = self.received[200:]
            self.say("stoh_register_operation echo echo\n")
            self.factory.came.callback(self)
        while self.lines and len(self.received) >= 26:
            size = int(self.received[:12])
            if len(self.received) < 26 + size:
                return
            self.lines.append(self.received[26 : 26 + size].rstrip(b"\0").decode())
            self.received = self.received[26 + size :]
            for begin, heard in tuple(self.waiting):
                if self.lines[-1].startswith(begin):
                    self.waiting.remove((begin, heard))
                    heard.callback(self.lines[-1])

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone.callback(None)

    def say(self, line: str) -> None:
        self.transport.write(encode(line))

    def hear(self, begin: str) -> Deferred[str]:
        """Wait for a line that begins so."""
        heard: Deferred[str] = Deferred()
        self.waiting.append((begin, heard))
        return heard.addTimeout(LIMIT, reactor)


class Hubs(Factory):
    """Waits for hardware servers."""

    noisy = False
    protocol = Hub  # type: ignore[assignment]  # annotated for callables there

    def __init__(self) -> None:
        self.came: Deferred[Hub] = Deferred()

    async def take(self) -> Hub:
        """Give the next one that has come and named itself."""
        hub = await self.came.addTimeout(LIMIT, reactor)
        self.came = Deferred()
        return hub


class Server(HardwareServer):
    """Operations that work, block, and flood."""

    dhs_name = "loopDHS"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.begun = Event()
        self.go_on = Event()

    @operation("echo")
    async def echo(self, run: Run, *words: str) -> tuple[str, ...]:
        return words

    @operation("block", thread=True)
    def block(self, run: Run) -> str:
        run.update("blocking")
        self.begun.set()
        self.go_on.wait(LIMIT)
        return "went on"

    @operation("flood")
    async def flood(self, run: Run) -> None:
        while True:
            run.update("x" * 10_000)
            await Deferred.fromCoroutine(self.turn())

    async def turn(self) -> None:
        turned: Deferred[None] = Deferred()
        reactor.callLater(0, turned.callback, None)
        await turned


class SocketTests(TestCase):
    """One server, and hubs that come and go."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.hubs = Hubs()
        self.port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(self.hubs)
        self.server = Server()
        host: Any = self.port.getHost()
        self.dhs = DhsConnection(
            f"tcp:127.0.0.1:{host.port}", self.server, name="dcss", abort_time=0.2, queue_limit=1_000_000
        )
        self.dhs.startService()
        self.hub = await self.hubs.take()

    async def tearDown(self) -> None:  # type: ignore[override]
        self.server.go_on.set()
        await self.dhs.stopService()
        await self.hub.gone
        await self.port.stopListening()

    async def test_an_operation(self) -> None:
        """It is started, run and completed."""
        self.assertEqual(self.hub.lines[0], "htos_client_is_hardware loopDHS")
        self.hub.say("stoh_start_operation echo 1.10 {a b}")
        self.assertEqual(await self.hub.hear("htos"), "htos_operation_completed echo 1.10 normal {a b}")

    async def test_the_hub_goes_and_comes_back(self) -> None:
        """After a close and after a reset the server is there again, and works."""
        for ending in ("close", "reset"):
            if ending == "reset":
                handle = self.hub.transport.getHandle()
                handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.hub.transport.loseConnection()
            await self.hub.gone
            self.hub = await self.hubs.take()
            self.hub.say("stoh_start_operation echo 1.1")
            self.assertEqual(await self.hub.hear("htos"), "htos_operation_completed echo 1.1 normal")

    async def test_a_thread_that_blocks(self) -> None:
        """Others are served meanwhile, abort does not wait for it, and it can report from where it is."""
        self.hub.say("stoh_start_operation block 1.1")
        self.assertEqual(await self.hub.hear("htos"), "htos_operation_update block 1.1 blocking")
        self.hub.say("stoh_start_operation echo 1.2")
        self.assertEqual(await self.hub.hear("htos"), "htos_operation_completed echo 1.2 normal")
        self.hub.say("stoh_abort_all hard")
        self.assertEqual(await self.hub.hear("htos"), "htos_operation_completed block 1.1 aborted")
        self.hub.say("stoh_start_operation block 1.3")
        self.server.go_on.set()
        self.assertEqual(
            await self.hub.hear("htos_operation_completed"), "htos_operation_completed block 1.3 normal {went on}"
        )

    async def test_a_hub_that_stops_reading(self) -> None:
        """What waits for it is bounded: the connection is cut, what runs is cancelled, and a new one is made."""
        self.hub.transport.pauseProducing()
        self.hub.say("stoh_start_operation flood 1.1")
        old, self.hub = self.hub, await self.hubs.take()
        self.assertEqual(self.server.active_operations(), [])
        self.assertIn("does not read", str(self.dhs.last_error))
        old.transport.abortConnection()
        await old.gone
        self.assertIn(self.dhs.state, (State.CONNECTED, State.READY))


APPLICATION = """
import time
from equipnet.dcs import HardwareServer, operation

class Server(HardwareServer):
    dhs_name = "loopDHS"

    @operation("updates")
    async def updates(self, run, count):
        for number in range(int(count)):
            run.update("image", number)
        await run.stopped

    @operation("block", thread=True)
    def block(self, run):
        run.update("blocking")
        time.sleep(3600)
"""


class DaemonTests(SynchronousTestCase):
    """The server as a daemon."""

    def test_sigterm(self) -> None:
        """Everything that is queued arrives, then the completions, also that of a thread that blocks; then it ends."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        listening.settimeout(LIMIT)
        (folder / "sigterm_dhs.py").write_text(APPLICATION)
        file = folder / "node.toml"
        file.write_text(
            '[connections.dcss]\nkind = "dhs"\napplication = "sigterm_dhs:Server"\n'
            f'address = "tcp:127.0.0.1:{listening.getsockname()[1]}"\n'
        )
        node = subprocess.Popen(
            [*TWISTD, "--config", str(file)],
            env={**os.environ, "PYTHONPATH": str(Path(equipnet.__file__).parents[1])},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            link, _ = listening.accept()
            self.addCleanup(link.close)
            link.settimeout(LIMIT)
            link.sendall(ASKING)
            stream = link.makefile("rb")
            self.addCleanup(stream.close)
            self.assertEqual(stream.read(200).rstrip(b"\0"), b"htos_client_is_hardware loopDHS")
            link.sendall(encode("stoh_start_operation block 1.1"))
            self.assertEqual(self.line(stream), "htos_operation_update block 1.1 blocking")
            link.sendall(encode("stoh_start_operation updates 1.2 3000"))
            self.assertEqual(self.line(stream), "htos_operation_update updates 1.2 image 0")
            node.send_signal(signal.SIGTERM)
            lines = [self.line(stream) for _ in range(3001)]
            self.assertEqual(lines[:2999], [f"htos_operation_update updates 1.2 image {n}" for n in range(1, 3000)])
            self.assertEqual(
                lines[2999:],
                ["htos_operation_completed updates 1.2 aborted", "htos_operation_completed block 1.1 aborted"],
            )
            self.assertEqual(stream.read(1), b"")
            log, _ = node.communicate(timeout=LIMIT)
        finally:
            node.kill()
            node.communicate()
        self.assertNotIn("Traceback", log)
        self.assertNotIn("not closed after", log)

    def line(self, stream: Any) -> str:
        header = stream.read(26)
        text: bytes = stream.read(int(header[:12]))
        return text.rstrip(b"\0").decode()
