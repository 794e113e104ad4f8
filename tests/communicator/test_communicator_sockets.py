"""Pairs, communicators and the simulated mount over real sockets of this machine, on whatever reactor is installed."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
from io import StringIO
from pathlib import Path
from threading import Timer
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

import equipnet
from equipnet.communicator import ClientServerPair, Communicator, OperationManagerSimulator, Part
from equipnet.communicator import message as m
from equipnet.connection.state import State
from equipnet.daemon.config import read_config
from equipnet.daemon.tree import Node
from equipnet.errors import Disconnected, MessageTooLong, RemoteProtocolError
from examples.howto.telescope import move

from ..connection.doubles import RecordingPeers

reactor: Any = installed

STAMP = b"2020-04-06T22:33:57.335"


class SocketsTestCase(TestCase):
    """Pairs that are closed at the end; trial then finds whatever they left behind."""

    timeout = 60.0

    async def until(self, true: Any) -> None:
        """Wait until something is so; the test's own limit ends a wait for what never comes."""
        while not true():
            await deferLater(reactor, 0.005)

    def pair(self, cls: Any = ClientServerPair, name: str = "a", **settings: Any) -> Any:
        """Give a pair on this machine, which is not connected."""
        made = cls(name, "127.0.0.1", 0, "127.0.0.1", 0, connect=False, reactor=reactor, **settings)
        self.addCleanup(made.close)
        return made

    async def joined(self, one: Any, other: Any) -> None:
        """Let two pairs find each other."""
        ports = [await one.wait_server_port(), await other.wait_server_port()]
        ready = [one.connect(ports[1]), other.connect(ports[0])]
        for each in ready:
            await each

    async def communicators(self, **settings: Any) -> tuple[Any, Any]:
        csc = self.pair(Communicator, "csc", **settings)
        om = self.pair(Communicator, "om", read_replies=False, **settings)
        await self.joined(csc, om)
        return csc, om


class PairTests(SocketsTestCase):
    async def test_both_ways(self) -> None:
        """
        Two pairs carry frames both ways, and their ports are known.
        """
        one, other = self.pair(), self.pair(name="b")
        await self.joined(one, other)
        self.assertEqual((one.client_port, other.client_port), (other.server_port, one.server_port))
        for here, there in ((one, other), (other, one)):
            read = there.read()
            await here.write(b"hello\r\n")
            self.assertEqual(await read, b"hello")

    async def test_reconnects_ten_times(self) -> None:
        """
        After FIN and after RST on either half the pair is whole again, ten times in a row.
        """
        one, other = self.pair(), self.pair(name="b")
        await self.joined(one, other)
        for turn in range(10):
            half = (one.client, one.server, other.client, other.server)[turn % 4]
            changes: list[Any] = []
            one.add_observer(changes.append)
            (half.protocol.transport.abortConnection if turn % 2 else half.protocol.transport.loseConnection)()
            await self.until(lambda: changes)  # noqa: B023
            await self.until(lambda: one.connected and other.connected)
            one.remove_observer(changes.append)
        read = other.read()
        await one.write(b"still\r\n")
        self.assertEqual(await read, b"still")

    async def test_close_while_connecting(self) -> None:
        """
        Closing ends a connect to a port where nobody is.
        """
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            pair = self.pair()
            ready = pair.connect(nobody.getsockname()[1])
            await self.until(lambda: pair.client.last_error is not None)
            await pair.close()
            await self.assertFailure(ready, Disconnected)
            self.assertIs(pair.state, State.STOPPED)

    async def test_second_client(self) -> None:
        """
        A second client of the server half is closed at once, and the first one stays.
        """
        pair = self.pair()
        port = await pair.wait_server_port()
        peers = RecordingPeers()
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        first: Any = await endpoint.connect(peers)
        await self.until(lambda: pair.server_connected)
        second: Any = await endpoint.connect(peers)
        await second.gone
        self.assertEqual((pair.server_connected, first.lost, pair.server.refused), (True, [], 1))
        first.transport.loseConnection()
        await first.gone

    async def test_data_on_the_client_half(self) -> None:
        """
        What the other side sends on the socket that is only written to is dropped; the socket stays.
        """
        peers = RecordingPeers()
        port: Any = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(peers)
        self.addCleanup(port.stopListening)
        pair = self.pair()
        pair.connect(port.getHost().port).addErrback(lambda _: None)
        await self.until(lambda: pair.client_connected and peers.peers)
        (peer,) = peers.peers
        peer.transport.write(b"x" * 200000)
        arrived = peer.when_arrived()
        await pair.write(b"ping\r\n")
        self.assertEqual(await arrived, b"ping\r\n")
        self.assertTrue(pair.client_connected)
        await pair.close()
        await peer.gone


class CommunicatorTests(SocketsTestCase):
    async def test_fin_and_rst(self) -> None:
        """
        Reads and commands that wait fail with ConnectionResetError after FIN and after RST on either half.
        """
        csc, om = await self.communicators()
        for half, reset in ((om.client, False), (om.client, True), (om.server, False), (om.server, True)):
            ended = csc.execute(m.Enable())
            reads = [csc.read()] if half is om.client else []
            transport = half.protocol.transport
            (transport.abortConnection if reset else transport.loseConnection)()
            for each in [ended, *reads]:
                await self.assertFailure(each, ConnectionResetError)
            await self.until(lambda: csc.connected and om.connected)

    async def test_bad_frames(self) -> None:
        """
        70,000 bytes without an end, bytes that are not ASCII, and single bytes cost what they are, no more.
        """
        csc = self.pair(Communicator)
        port = await csc.wait_server_port()

        def send() -> None:
            with socket.create_connection(("127.0.0.1", port)) as peer:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peer.sendall(b"x" * 70000)
                peer.sendall(b"\r\n\xb5\r\n")
                for byte in b"6\n" + STAMP + b"\n0\n1\r\n":
                    peer.sendall(bytes((byte,)))
                peer.recv(1)

        sent = deferToThread(send)
        await self.until(lambda: csc.server_connected)
        await self.assertFailure(csc.read(), MessageTooLong)
        await self.assertFailure(csc.read(), RemoteProtocolError)
        self.assertEqual((await csc.read()).what, m.Axis.AZIMUTH)
        await csc.close()
        await sent

    async def test_reset_with_a_frame_before(self) -> None:
        """
        A peer that resets while somebody reads is a ConnectionResetError, with the system's number where it has one.
        """
        csc = self.pair(Communicator)
        port = await csc.wait_server_port()
        with socket.create_connection(("127.0.0.1", port)) as peer:
            await self.until(lambda: csc.server_connected)
            read = csc.read()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.assertFailure(read, ConnectionResetError)

    async def test_back_pressure(self) -> None:
        """
        Whoever sends to somebody who does not read has to wait; nothing is lost when it is read at last.
        """
        csc, om = await self.communicators(queue_limit=50)
        count = 30000
        told: list[int] = []

        async def send() -> None:
            for number in range(count):
                await om.write(m.OnStateInfo("x" * 500, timestamp=None))
                told.append(number)

        sending = Deferred.fromCoroutine(send())
        await self.until(lambda: om.client.protocol.choked)
        self.assertLess(len(csc._came), 5000)
        for _ in range(count):
            await csc.read()
        await sending
        self.assertEqual(len(told), count)


class MountTests(SocketsTestCase):
    async def mount(self, dialect: str) -> tuple[Any, Any]:
        """Give a communicator and the simulated mount, connected."""
        if dialect == "json":
            mount = OperationManagerSimulator(dialect=dialect, reactor=reactor)
            self.addCleanup(mount.close)
            mount.startService()
            port = await mount.wait_server_port()
            csc = self.pair(Communicator, "csc", dialect=dialect)
            await csc.connect(port)
            await self.until(lambda: mount.connected)
            return csc, mount
        csc = self.pair(Communicator, "csc", dialect=dialect)
        mount = OperationManagerSimulator(
            replies_to=f"tcp:127.0.0.1:{await csc.wait_server_port()}", dialect=dialect, reactor=reactor
        )
        self.addCleanup(mount.close)
        mount.startService()
        await csc.connect(await mount.wait_server_port())
        return csc, mount

    async def test_tracking(self) -> None:
        """
        In every dialect commands are executed, one after the other and many at once.
        """
        for dialect in ("v0.9", "v0.13", "json"):
            csc, mount = await self.mount(dialect)
            await csc.execute(m.ElevationAxisPower(True))
            await csc.execute(m.ElevationAxisEnableTracking())
            for position in range(20):
                await csc.execute(m.ElevationAxisTrack(position, 0.0, 1.6e9))
            self.assertEqual(mount.position(Part.ELEVATION), 19)
            many = [csc.execute(m.ElevationAxisTrack(position, 0.0, 1.6e9)) for position in range(50)]
            for each in many:
                self.assertIsInstance(await each, m.Ack)
            await csc.close()
            await mount.close()


class ExampleTests(SocketsTestCase):
    async def test_move(self) -> None:
        """
        The program of "Command a telescope mount" prints what the page shows.
        """
        printed = StringIO()
        with contextlib.redirect_stdout(printed):
            await move.main(reactor)
        self.assertEqual(printed.getvalue(), Path(move.__file__).with_name("move.txt").read_text())

    def test_configuration(self) -> None:
        """
        The configuration file of the page is right.
        """
        node = Node.from_config(read_config(Path(move.__file__).with_name("telescope.toml")), MemoryReactorClock())
        self.assertEqual(
            [each.kind for each in node.connections.values()], ["communicator", "simulated-operation-manager"]
        )


TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "--nodaemon", "--pidfile=", "equipnet"]
LIMIT = 30.0
"""How many seconds a process may take; only a broken one needs them."""


class TwistdTests(SynchronousTestCase):
    def run_node(self, text: str, *wanted: str) -> str:
        """Run a node until its log has all that is wanted; it ends as it should."""
        file = Path(self.mktemp()).absolute()
        file.write_text(text)
        environ = {**os.environ, "PYTHONPATH": str(Path(equipnet.__file__).parents[1])}
        node = subprocess.Popen(
            [*TWISTD, "--config", str(file)], env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        lines: list[str] = []
        missing = set(wanted)
        assert node.stdout is not None
        too_late = Timer(LIMIT, node.kill)
        too_late.start()
        try:
            for line in node.stdout:
                lines.append(line)
                missing -= {each for each in missing if each in line}
                if not missing:
                    break
            node.terminate()
            rest, _ = node.communicate(timeout=30)
        finally:
            too_late.cancel()
            node.kill()
            node.communicate()
        log = "".join(lines) + rest
        self.assertEqual(missing, set(), log)
        self.assertNotIn("Traceback", log)
        return log

    def free_ports(self, count: int) -> list[int]:
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
        try:
            return [each.getsockname()[1] for each in sockets]
        finally:
            for each in sockets:
                each.close()

    def test_two_communicators_and_a_mount(self) -> None:
        """
        Two communicators, and one with the simulated mount, run in one node and become ready.
        """
        ports = self.free_ports(6)
        csc, om, commands, replies, one_socket, _ = ports
        self.run_node(
            f"""
[connections.csc]
kind = "communicator"
address = "tcp:127.0.0.1:{om}"
listen = "tcp:{csc}"

[connections.om]
kind = "communicator"
reads = "commands"
address = "tcp:127.0.0.1:{csc}"
listen = "tcp:{om}"

[connections.mount]
kind = "simulated-operation-manager"
listen = "tcp:{commands}"
address = "tcp:127.0.0.1:{replies}"

[connections.telescope]
kind = "communicator"
address = "tcp:127.0.0.1:{commands}"
listen = "tcp:{replies}"

[connections.new-mount]
kind = "simulated-operation-manager"
dialect = "json"
listen = "tcp:{one_socket}"

[connections.new-telescope]
kind = "communicator"
dialect = "json"
address = "tcp:127.0.0.1:{one_socket}"
""",
            *(
                f" {name}: connected -> ready"
                for name in ("csc", "om", "mount", "telescope", "new-mount", "new-telescope")
            ),
        )
