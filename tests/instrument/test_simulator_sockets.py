"""Simulated instruments over real sockets of this machine, on whatever reactor is installed."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from equipnet.connection.retry import RetryPolicy
from equipnet.connection.tls import TLS
from equipnet.errors import ConnectionLost
from equipnet.instrument import Instrument
from equipnet.instrument.fault import Fault
from equipnet.instrument.simulator import InstrumentSimulator

from ..connection.certificates import Authority

reactor: Any = installed

IDN = "EQUIPNET,DMM,1,1.0"

#: Long, so that an instrument which was cut off stays so until the test is over.
SELDOM = RetryPolicy.fixed(1000)


class Bare(Protocol):
    """Collects what comes until the connection ends."""

    transport: Any
    reason: Failure

    def __init__(self) -> None:
        self.came = bytearray()
        self.ended: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.came += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason
        self.ended.callback(bytes(self.came))


class SimulatorSocketsTestCase(TestCase):
    """Services that are stopped at the end; trial then finds whatever they left behind."""

    timeout = 60.0

    async def simulate(self, listen: str = "tcp:0", **settings: Any) -> InstrumentSimulator:
        """Start a simulator."""
        settings.setdefault("replies", {"*IDN?": IDN, "*RST": None})
        simulator = InstrumentSimulator(listen=listen, reactor=reactor, **settings)
        self.addCleanup(simulator.stopService)
        simulator.startService()
        await simulator.when_ready()
        return simulator

    async def instrument(self, simulator: InstrumentSimulator, **settings: Any) -> Instrument:
        """Connect an instrument to it."""
        instrument = Instrument(str(simulator.bound), rstrip=True, retry=SELDOM, reactor=reactor, **settings)
        self.addCleanup(instrument.stopService)
        await instrument.connect()
        return instrument

    async def bare(self, simulator: InstrumentSimulator) -> Bare:
        """Connect a protocol that knows nothing of instruments."""
        assert simulator.bound is not None
        endpoint = TCP4ClientEndpoint(reactor, simulator.bound.host, simulator.bound.port)
        client: Any = await endpoint.connect(Factory.forProtocol(Bare))
        return client  # type: ignore[no-any-return]


class KindsOfSocketsTests(SimulatorSocketsTestCase):
    """A simulator answers over every kind of socket."""

    async def query(self, simulator: InstrumentSimulator, **settings: Any) -> None:
        """Ask it twice, with a command that has no reply before."""
        instrument = await self.instrument(simulator, **settings)
        await instrument.write("*RST")
        for _ in range(2):
            self.assertEqual(await instrument.query("*IDN?"), IDN)

    async def test_tcp(self) -> None:
        """
        Over TCP, on the loopback interface where no other is given.
        """
        simulator = await self.simulate()
        assert simulator.bound is not None
        self.assertEqual(simulator.bound.host, "127.0.0.1")
        await self.query(simulator)

    async def test_udp(self) -> None:
        """
        Over UDP.
        """
        await self.query(await self.simulate("udp:0"))

    async def test_unix(self) -> None:
        """
        Over a UNIX socket.
        """
        # The folder of the tests may have a longer name than fits into the address of such a socket.
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        await self.query(await self.simulate(f"unix:{folder}/socket"))

    async def test_tls(self) -> None:
        """
        Over TLS.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        authority = Authority(folder, "ca")
        certificate, key = authority.issue("127.0.0.1")
        simulator = await self.simulate("tls:0", tls=TLS(certificate=certificate, key=key))
        await self.query(simulator, tls=TLS(authority.file))

    async def test_long_datagram(self) -> None:
        """
        A reply that no datagram can hold is dropped, and the next one comes.
        """
        simulator = await self.simulate("udp:0", replies={"LONG?": "x" * 70_000, "*IDN?": IDN})
        instrument = await self.instrument(simulator)
        await instrument.write("LONG?")
        self.assertEqual(await instrument.query("*IDN?"), IDN)


class ClientsTests(SimulatorSocketsTestCase):
    """Clients come, go and misbehave as they like."""

    async def test_many_at_once(self) -> None:
        """
        Many clients are served at once, each with its own replies.
        """
        simulator = await self.simulate(replies={}, patterns={r"(\d+)\?": r"\1"})
        instruments = await gatherResults([Deferred.fromCoroutine(self.instrument(simulator)) for _ in range(50)])
        questions = [[instrument.query(f"{n}{k}?") for k in range(10)] for n, instrument in enumerate(instruments)]
        for n, each in enumerate(questions):
            self.assertEqual(await gatherResults(each), [f"{n}{k}" for k in range(10)])
        self.assertEqual(len(simulator.protocols), 50)

    async def test_does_not_read(self) -> None:
        """
        A client that does not read its replies has all of them once it does.
        """
        served = 0

        def curve(command: str) -> bytes:
            nonlocal served
            served += 1
            return bytes(1 << 20)

        simulator = await self.simulate(replies={"CURV?": curve, "*IDN?": IDN})
        client = await self.bare(simulator)
        client.transport.pauseProducing()
        client.transport.write(b"CURV?\n" * 40)
        # By the time that another client has its reply, that one's commands have come.
        instrument = await self.instrument(simulator)
        for _ in range(20):
            await instrument.query("*IDN?")
        self.assertLess(served, 40)
        client.transport.resumeProducing()
        client.transport.loseWriteConnection()
        await client.ended
        self.assertEqual(len(client.came), 40 << 20)

    async def test_takes_its_time(self) -> None:
        """
        A client that reads late, but stays, has everything.
        """
        simulator = await self.simulate(replies={"CURV?": bytes(1 << 20)})
        instrument = await self.instrument(simulator, max_read_size=1 << 22)
        answers = [instrument.query("CURV?", size=1 << 20, decode=False) for _ in range(20)]
        for answer in answers:
            self.assertEqual(len(await answer), 1 << 20)

    async def test_half_closed(self) -> None:
        """
        A client that has said all it has to say still gets the replies.
        """
        simulator = await self.simulate()
        client = await self.bare(simulator)
        client.transport.write(b"*IDN?\n*IDN?\n")
        client.transport.loseWriteConnection()
        self.assertEqual(await client.ended, b"EQUIPNET,DMM,1,1.0\n" * 2)

    async def test_off_and_on_again(self) -> None:
        """
        A simulator that was switched off refuses, and comes back on the same port.
        """
        simulator = await self.simulate()
        instrument = await self.instrument(simulator)
        bound = simulator.bound
        await simulator.disconnect()
        await self.assertFailure(instrument.reconnect(), ConnectionError)
        await simulator.connect()
        self.assertEqual(simulator.bound, bound)
        await instrument.connect()
        self.assertEqual(await instrument.query("*IDN?"), IDN)


class FaultsTests(SimulatorSocketsTestCase):
    """What goes wrong is seen by the client as from real equipment."""

    async def test_pieces(self) -> None:
        """
        Pieces and merged replies are no trouble for an instrument.
        """
        simulator = await self.simulate()
        instrument = await self.instrument(simulator)
        simulator.inject(Fault(split=3), count=2)
        for _ in range(2):
            self.assertEqual(await instrument.query("*IDN?"), IDN)
        simulator.inject(Fault(merge=2), count=2)
        for _ in range(2):
            await instrument.write("*IDN?")
        for _ in range(2):
            self.assertEqual(await instrument.read(), IDN)

    async def test_reset(self) -> None:
        """
        A reset in the middle of a reply fails the query.
        """
        simulator = await self.simulate(fault=Fault(reset="middle"))
        instrument = await self.instrument(simulator)
        await self.assertFailure(instrument.query("*IDN?"), ConnectionLost)

    async def test_reset_after(self) -> None:
        """
        A reset after a reply does not take it away, and is no clean end.
        """
        simulator = await self.simulate(fault=Fault(reset="after"))
        client = await self.bare(simulator)
        client.transport.write(b"*IDN?\n")
        self.assertEqual(await client.ended, b"EQUIPNET,DMM,1,1.0\n")
        self.assertFalse(client.reason.check(ConnectionDone))

    async def test_close(self) -> None:
        """
        A connection that is closed in the middle of a reply, or instead of one, fails the query.
        """
        simulator = await self.simulate()
        for fault in (Fault(close="middle"), Fault(drop=True, close="after")):
            instrument = await self.instrument(simulator)
            simulator.inject(fault, count=1)
            await self.assertFailure(instrument.query("*IDN?"), ConnectionLost)

    async def test_refuse(self) -> None:
        """
        A client that is refused is closed at once, the next one is not.
        """
        simulator = await self.simulate()
        simulator.inject(Fault(refuse=True), count=1)
        client = await self.bare(simulator)
        self.assertEqual(await client.ended, b"")
        instrument = await self.instrument(simulator)
        self.assertEqual(await instrument.query("*IDN?"), IDN)
