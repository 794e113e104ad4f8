"""HSMS over real sockets of this machine, with well-behaved clients and others."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from equipnet.connection.state import State
from equipnet.connection.tls import TLS
from equipnet.errors import ConnectionLost
from equipnet.hsms import EquipmentSimulator, HsmsActiveConnection, HsmsSettings, SelectRejected, Timers
from equipnet.secs import A, B, L, Message

from ..connection.certificates import Authority
from .doubles import control, data, select_req, select_rsp, separate_req

reactor: Any = installed

ROOT = Path(__file__).parents[2]

S1F1 = Message(1, 1, wait=True)
IDENTITY = L(A("EQUIPNET"), A("1.0"))

#: So short that a test waits for them, where it waits for a timer at all.
TIMERS = Timers(t5=0.1, t7=0.2, t8=0.2)


class Bare(Protocol):
    """Collects what comes, and tells when so many bytes have come, or the end."""

    transport: Any

    def __init__(self) -> None:
        self.came = b""
        self.wanted = 0
        self.enough: Deferred[bytes] | None = None
        self.ended: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.came += data
        if self.enough is not None and len(self.came) >= self.wanted:
            enough, self.enough = self.enough, None
            enough.callback(self.came)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(None)

    def when(self, size: int) -> Deferred[bytes]:
        """Wait for so many bytes from now on."""
        self.came, self.wanted, self.enough = b"", size, Deferred()
        return self.enough


class SocketsTestCase(TestCase):
    """A simulator, hosts, and clients that know nothing of HSMS."""

    timeout = 60.0

    async def simulate(self, listen: str = "tcp:0", **settings: Any) -> EquipmentSimulator:
        simulator = EquipmentSimulator(listen, timers=TIMERS, reactor=reactor, **settings)
        self.addCleanup(simulator.disable)
        await simulator.listen()
        return simulator

    async def host(self, simulator: EquipmentSimulator, **settings: Any) -> HsmsActiveConnection:
        settings.setdefault("timers", TIMERS)
        host = HsmsActiveConnection(str(simulator.bound), reactor=reactor, **settings)
        self.addCleanup(host.disable)
        host.enable()
        await host.when_ready()
        return host

    async def bare(self, simulator: EquipmentSimulator) -> Bare:
        assert simulator.bound is not None
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", simulator.bound.port)
        client: Any = await endpoint.connect(Factory.forProtocol(Bare))
        return client  # type: ignore[no-any-return]


class ConversationTests(SocketsTestCase):
    async def test_tcp(self) -> None:
        """
        A conversation over TCP, from select to separate; the equipment waits for the next host then.
        """
        simulator = await self.simulate()
        for _ in range(3):
            host = await self.host(simulator)
            self.assertEqual((await host.request(S1F1)).item, IDENTITY)
            await host.linktest()
            await host.disable()
        while simulator.state is not State.WAITING:
            await self.turn()

    def turn(self) -> Deferred[None]:
        turned: Deferred[None] = Deferred()
        reactor.callLater(0, turned.callback, None)
        return turned

    async def test_tls(self) -> None:
        """
        A conversation over TLS, both ways.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        certificate, key = Authority(folder, "authority").issue("localhost")
        simulator = await self.simulate("tls:0", tls=TLS(certificate=certificate, key=key))
        host = await self.host(simulator, tls=TLS(authority=folder / "authority.pem", host_name="localhost"))
        self.assertEqual((await host.request(S1F1)).item, IDENTITY)
        body = B(bytes(range(256)) * 4096)
        self.assertEqual((await host.request(Message(7, 3, True, L(A("P"), body)))).item, B(0))
        self.assertEqual(simulator.programs, {"P": body})

    async def test_big(self) -> None:
        """
        15 MiB there, with parallel requests behind them, while as much comes back.
        """
        simulator = await self.simulate()
        host = await self.host(simulator)
        body = B(bytes(range(256)) * (15 << 12))
        big = [Message(7, 3, True, L(A("P"), body)), S1F1]
        host.set_primary(7, 3, lambda message: B(0))
        replies = await gatherResults(
            [*map(host.request, big), *map(simulator.request, big[:1]), *map(host.request, big[1:])]
        )
        self.assertEqual([reply.item for reply in replies], [B(0), IDENTITY, B(0), IDENTITY])
        self.assertEqual(simulator.programs, {"P": body})

    async def test_busy(self) -> None:
        """
        A second host is told that it is one too many.
        """
        simulator = await self.simulate()
        first = await self.host(simulator)
        second = HsmsActiveConnection(str(simulator.bound), timers=TIMERS, reactor=reactor)
        self.addCleanup(second.disable)
        error = await self.assertFailure(second.connect(max_attempts=1), SelectRejected)
        self.assertEqual(error.status, 3)
        self.assertEqual((await first.request(S1F1)).item, IDENTITY)

    async def test_loss(self) -> None:
        """
        Everything that is open fails at once when the connection is lost, and it comes back.
        """
        simulator = await self.simulate()
        host = await self.host(simulator)
        answers = [host.request(Message(1, 3, True, L())) for _ in range(64)]
        simulator.protocol.hang_up(ConnectionLost("pulled"))  # type: ignore[union-attr]
        for answer in answers:
            await self.assertFailure(answer, ConnectionLost)
        await host.when_ready()
        self.assertEqual((await host.request(S1F1)).item, IDENTITY)

    async def test_command(self) -> None:
        """
        The command asks equipment, and prints its reply; what cannot be said is a line.
        """
        simulator = await self.simulate()

        async def run(message: str) -> tuple[str, str, int]:
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            out, err, code = await getProcessOutputAndValue(
                sys.executable, ["-m", "equipnet.cli", "hsms", "request", str(simulator.bound), message], environment
            )
            return out.decode(), err.decode(), code

        self.assertEqual(await run("S1F1 W"), (f"S1F2\n{IDENTITY.to_sml()}\n.\n", "", 0))
        self.assertEqual(await run("S5F1 <L>"), ("", "", 0))
        out, err, code = await run("S1F1 W <")
        self.assertEqual((out, code, err.count("\n")), ("", 1, 1))
        self.assertIn("line 1", err)
        out, err, code = await run("S99F1 W")
        self.assertEqual((out, code), ("", 1))
        self.assertIn("S9F3", err)


class BadClientTests(SocketsTestCase):
    """Clients that do what they should not; after each the next one is served."""

    async def served(self, simulator: EquipmentSimulator) -> None:
        """A good host is selected at once, and answered."""
        client = await self.bare(simulator)
        came = client.when(14)
        client.transport.write(select_req(1))
        self.assertEqual(await came, select_rsp(1))
        came = client.when(14)
        client.transport.write(control(5, 2))
        self.assertEqual(await came, control(6, 2))
        client.transport.write(separate_req(3))
        await client.ended

    async def test_closed(self) -> None:
        """
        What cannot be HSMS is closed by the equipment at once, by T7 or by T8.
        """
        for settings in (HsmsSettings(role="equipment"), HsmsSettings(role="equipment", strict=True)):
            simulator = await self.simulate(settings=settings)
            for nonsense in (
                b"GET / HTTP/1.1\r\nHost: etcher\r\n\r\n",
                os.urandom(1000).replace(b"\0", b"\1"),
                b"\xff\xff\xff\xff",
                b"\x10\x00\x00\x00" + bytes(100),
                b"\0\0\0\0",
                b"\0\0\0\x09",
                b"",
                b"\0\0\0",
                select_req(1)[:9],
                select_req(1) + data(1, 1, 2, bytes(100), wait=True)[:50],
                select_req(1) + b"\0\0\0\x05",
                select_req(1) + separate_req(2),
            ):
                client = await self.bare(simulator)
                client.transport.write(nonsense)
                await client.ended
                await self.served(simulator)

    async def test_gone(self) -> None:
        """
        Clients that go in the middle of anything leave nothing behind.
        """
        simulator = await self.simulate()
        for beginning in (b"", b"\0", select_req(1)[:9], select_req(1), select_req(1) + data(1, 1, 2, wait=True)):
            client = await self.bare(simulator)
            client.transport.write(beginning)
            client.transport.abortConnection()
            await client.ended
            await self.gone(simulator)
            await self.served(simulator)

    async def gone(self, simulator: EquipmentSimulator) -> None:
        """Wait until the equipment has noticed that nobody is there."""
        assert simulator._port is not None
        while simulator._port.protocols:
            turned: Deferred[None] = Deferred()
            reactor.callLater(0, turned.callback, None)
            await turned

    async def test_two_at_once(self) -> None:
        """
        Of two that select at the same time one is selected, and the other told.
        """
        simulator = await self.simulate()
        clients = [await self.bare(simulator) for _ in range(2)]
        came = [client.when(14) for client in clients]
        for client in clients:
            client.transport.write(select_req(1))
        answers = [await each for each in came]
        self.assertEqual(sorted(answers), [select_rsp(1), select_rsp(1, 3)])
        loser = clients[answers.index(select_rsp(1, 3))]
        await loser.ended
        clients[answers.index(select_rsp(1))].transport.abortConnection()
        await clients[answers.index(select_rsp(1))].ended

    async def test_forty(self) -> None:
        """
        Forty fresh connections that select at once, and ask the moment they are selected, are all answered.
        """
        simulator = await self.simulate()
        reply = data(1, 2, 2, IDENTITY.to_bytes())
        for number in range(40):
            client = await self.bare(simulator)
            if number % 2:
                came = client.when(14 + len(reply))
                client.transport.write(select_req(1) + data(1, 1, 2, wait=True))
                self.assertEqual(await came, select_rsp(1) + reply)
            else:
                came = client.when(14)
                client.transport.write(select_req(1))
                self.assertEqual(await came, select_rsp(1))
                came = client.when(len(reply))
                client.transport.write(data(1, 1, 2, wait=True))
                self.assertEqual(await came, reply)
            client.transport.write(separate_req(3))
            await client.ended
