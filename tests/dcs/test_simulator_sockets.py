"""A simulated dcss over real sockets of this machine, with hardware servers in this process and in another one."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from equipnet.connection.retry import RetryPolicy
from equipnet.dcs.database import read_database
from equipnet.dcs.service import DhsConnection
from equipnet.dcs.simulator import AbnormalCompletion, DcssFault, DcssSimulator
from examples.dcs.loop_dhs import LoopServer

from .test_database import EXAMPLE
from .test_simulator import LOOP, WHO, texts_of

reactor: Any = installed

ROOT = Path(__file__).parents[2]

EXAMPLES = ROOT / "examples" / "dcs"


class Bare(Protocol):
    """Answers the question of the handshake, and collects what comes until so many bytes are there, or the end."""

    transport: Any

    def __init__(self, answer: bytes = LOOP) -> None:
        self.answer = answer
        self.came = bytearray()
        self.ended: Deferred[bytes] = Deferred()
        self.reason: Failure | None = None
        self._enough: tuple[int, Deferred[bytes]] | None = None

    def has(self, size: int) -> Deferred[bytes]:
        """Wait for so many bytes."""
        enough: Deferred[bytes] = Deferred()
        self._enough = size, enough
        self._look()
        return enough

    def dataReceived(self, data: bytes) -> None:
        had = len(self.came)
        self.came += data
        if had < 200 <= len(self.came):
            self.transport.write(self.answer)
        self._look()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason
        self.ended.callback(bytes(self.came))

    def _look(self) -> None:
        if self._enough is not None and len(self.came) >= self._enough[0]:
            enough, self._enough = self._enough[1], None
            enough.callback(bytes(self.came))


class Program(ProcessProtocol):
    """Another process; ``ended`` fires with what it printed."""

    def __init__(self, *arguments: str) -> None:
        self.printed = bytearray()
        self.said = bytearray()
        self.ended: Deferred[str] = Deferred()
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = reactor.spawnProcess(self, sys.executable, [sys.executable, *arguments], environment, str(ROOT))

    def outReceived(self, data: bytes) -> None:
        self.printed += data

    def errReceived(self, data: bytes) -> None:
        self.said += data

    def processEnded(self, reason: Failure) -> None:
        # twistd ends with the signal that it was sent.
        if self.process.status not in (0, signal.SIGTERM):
            self.ended.errback(AssertionError(f"{self.printed.decode()}\n{self.said.decode()}"))
        else:
            self.ended.callback(self.printed.decode())


class SimulatorSocketsTestCase(TestCase):
    """Services that are stopped at the end; trial then finds whatever they left behind."""

    timeout = 60.0

    async def simulate(self, **settings: Any) -> DcssSimulator:
        """Start a simulator."""
        dcss = DcssSimulator(settings.pop("database", EXAMPLE), reactor=reactor, **settings)
        self.addCleanup(dcss.stopService)
        dcss.startService()
        await dcss.when_ready()
        return dcss

    async def bare(self, dcss: DcssSimulator, answer: bytes = LOOP) -> Bare:
        """Connect a hardware server that only answers who it is."""
        assert dcss.bound is not None
        endpoint = TCP4ClientEndpoint(reactor, dcss.bound.host, dcss.bound.port)
        client: Any = await endpoint.connect(Factory.forProtocol(lambda: Bare(answer)))
        self.addCleanup(client.transport.abortConnection)
        return client  # type: ignore[no-any-return]

    async def serve(self, dcss: DcssSimulator) -> DhsConnection:
        """Connect the example's hardware server."""
        dhs = DhsConnection(str(dcss.bound), LoopServer(), retry=RetryPolicy.fixed(0.05), reactor=reactor)
        self.addCleanup(dhs.stopService)
        dhs.startService()
        await dcss.when_configured("loopDHS")
        return dhs


class HardwareTests(SimulatorSocketsTestCase):
    async def test_burst(self) -> None:
        """
        Several hundred devices arrive, whole and in order.
        """
        sections = ["loopDHS\n3\nlocalhost 2\n"]
        sections += [f"enc{number}\n12\nloopDHS hw{number}\n" for number in range(600)]
        dcss = await self.simulate(database=read_database("\n".join(sections) + "\nEND\n"), check_address=True)
        expected = [f"stoh_register_encoder enc{number} hw{number}" for number in range(600)]
        size = 200 + sum(26 + len(text) + 2 for text in expected)
        client = await self.bare(dcss)
        came = await client.has(size)
        self.assertEqual(came[:200], WHO)
        self.assertEqual(texts_of(came[200:]), expected)
        self.assertEqual(dcss.complaints, [])

    async def test_refused(self) -> None:
        """
        Who is unknown, or has only a part of an answer, is closed without a word.
        """
        dcss = await self.simulate()
        for answer in (b"x nobody".ljust(200, b"\0"), b"htos_client_is_hardware loopDHS"):
            client = await self.bare(dcss, answer)
            self.assertEqual(await client.ended, WHO)
        self.assertEqual(dcss.protocols, set())

    async def test_reset(self) -> None:
        """
        A connection that is reset in the middle of the burst is not closed well.
        """
        dcss = await self.simulate(fault=DcssFault(on="stoh_register_shutter", reset="middle"))
        client = await self.bare(dcss)
        await client.ended
        assert client.reason is not None
        self.assertNotIn("cleanly", client.reason.getErrorMessage())

    async def test_off_and_on_again(self) -> None:
        """
        A simulator that was switched off comes back on the same ports.
        """
        dcss = await self.simulate()
        bound = dcss.bound, dcss.gui.bound
        await dcss.disconnect()
        self.assertEqual((dcss.bound, dcss.gui.bound), (None, None))
        await dcss.connect()
        self.assertEqual((dcss.bound, dcss.gui.bound), bound)


class ServerTests(SimulatorSocketsTestCase):
    """The example's hardware server, driven by the simulator."""

    async def test_everything(self) -> None:
        """
        What is asked of it is done, and nothing is complained of.
        """
        dcss = await self.simulate()
        await self.serve(dcss)
        updates: list[float] = []
        moved = dcss.move("gonio_phi", 30, lambda update: updates.append(update.position))
        zoomed = dcss.move("camera_zoom", 0.75)
        found = dcss.start_operation("getLoopTip", 0)
        read = dcss.start_operation("readFile", "dcss.toml")
        both = await gatherResults([moved, zoomed])
        self.assertEqual([each.position for each in both], [30.0, 0.75])
        self.assertIn(30.0, updates)
        self.assertEqual((await found).words, ("0.51", "0.49"))
        self.assertEqual((await read).words, ("5",))
        self.assertEqual((await dcss.set_shutter("shutter", "open")).text, "open")
        self.assertEqual((await dcss.set_string("loopStatus", "a b")).text, "a b")
        self.assertEqual((await dcss.read_ion_chambers(0.01, "i0")).counts, {"i0": 120.0})
        self.assertEqual(dcss.complaints, [])

    async def test_abort(self) -> None:
        """
        What runs is aborted, and completed as such.
        """
        dcss = await self.simulate()
        await self.serve(dcss)
        started: Deferred[object] = Deferred()
        running = dcss.start_operation("collectLoopImages", on_update=started.callback)
        await started
        dcss.abort_all()
        error: Any = await self.assertFailure(running, AbnormalCompletion)
        self.assertEqual(error.completion.status, "aborted")

    async def test_again(self) -> None:
        """
        A hardware server whose connection is dropped in the middle of a move comes back, and is registered anew.
        """
        dcss = await self.simulate()
        await self.serve(dcss)
        for reset in (False, True):
            moving = dcss.move("camera_zoom", 0.25)
            dcss.drop("loopDHS", reset)
            await self.assertFailure(moving, AbnormalCompletion)
            await dcss.when_configured("loopDHS")
        self.assertEqual((await dcss.move("camera_zoom", 0.25)).position, 0.25)

    async def test_example(self) -> None:
        """
        The example: the hardware server in one process, driven over the port for GUIs by a script in another.
        """
        dcss = await self.simulate()
        assert dcss.gui.bound is not None
        text = (EXAMPLES / "beamline.toml").read_text()
        self.assertEqual(text.count("tcp:127.0.0.1:14242"), 1)
        folder = Path(self.mktemp())
        folder.mkdir()
        file = folder.resolve() / "beamline.toml"
        file.write_text(text.replace("tcp:127.0.0.1:14242", str(dcss.bound)))
        (file.parent / "loop_dhs.py").symlink_to(EXAMPLES / "loop_dhs.py")
        (file.parent / "dcss.toml").symlink_to(EXAMPLES / "dcss.toml")
        twistd = "from twisted.scripts.twistd import run; run()"
        node = Program("-c", twistd, "-n", "--pidfile=", "equipnet", "--config", str(file))
        try:
            await dcss.when_configured("loopDHS")
            driven = await Program("examples/dcs/drive.py", str(dcss.gui.bound.port)).ended
        finally:
            node.process.signalProcess("TERM")
            await node.ended
        # The number of the login is 2, unless somebody logged in before.
        printed = re.sub(r"(?<= )[3-9](?=\.[123]\b)", "2", driven)
        self.assertEqual(printed, (EXAMPLES / "drive.txt").read_text())
