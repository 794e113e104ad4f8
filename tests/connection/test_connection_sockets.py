"""Connections over real sockets of this machine, on whatever reactor is installed."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.error import ConnectionDone, ConnectionRefusedError, DNSLookupError
from twisted.internet.error import ConnectionLost as TwistedConnectionLost
from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, TestCase
from zope.interface import implementer

from equipnet.connection.protocol import KEEPALIVE_COUNT, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, WireProtocol
from equipnet.connection.retry import RetryPolicy
from equipnet.connection.service import ClientConnection, ListeningConnection
from equipnet.connection.state import Change, State
from equipnet.connection.tls import TLS
from equipnet.errors import ConnectFailed, ConnectionLost, Disconnected, EquipmentTimeout

from .certificates import Authority

reactor: Any = installed

#: Short, so that a test which waits for the second try does not wait for long.
POLICY = RetryPolicy.fixed(0.01)

#: Seconds for attempts that are meant to run into their limit.
BRIEF = 0.1


class Recorded(WireProtocol):
    """Puts what arrives into the queue of its service."""

    def dataReceived(self, data: bytes) -> None:
        self.owner.arrived.put(data)  # type: ignore[attr-defined]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.owner.ended.put(reason.value)  # type: ignore[attr-defined]


class Client(ClientConnection):
    """A connection that keeps what arrives."""

    def __init__(self, address: Any, **named: Any) -> None:
        super().__init__(address, retry=POLICY, reactor=reactor, **named)
        self.arrived: DeferredQueue[bytes] = DeferredQueue()
        self.ended: DeferredQueue[BaseException] = DeferredQueue()

    def build_protocol(self) -> WireProtocol:
        return Recorded(self)

    def write(self, data: bytes) -> None:
        self.protocol.transport.write(data)

    def handle(self) -> socket.socket:
        """The socket itself, under TLS where there is some."""
        transport = self.protocol.transport
        while hasattr(transport, "wrappedProtocol"):
            transport = transport.transport
        found: socket.socket = transport.getHandle()
        return found


class Listener(ListeningConnection):
    """A port that keeps what arrives and who joined."""

    def __init__(self, listen: Any, **named: Any) -> None:
        super().__init__(listen, retry=POLICY, reactor=reactor, **named)
        self.arrived: DeferredQueue[bytes] = DeferredQueue()
        self.ended: DeferredQueue[BaseException] = DeferredQueue()
        self.came: DeferredQueue[WireProtocol] = DeferredQueue()

    def build_protocol(self) -> WireProtocol:
        return Recorded(self)

    def joined(self, protocol: WireProtocol) -> None:
        self.came.put(protocol)


@implementer(IHostnameResolver)
class Names:
    """Resolves the names it knows to 127.0.0.1, says that others do not exist, and never answers for ``slow``."""

    def __init__(self, *known: str) -> None:
        self._known = known

    def resolveHostName(
        self, resolutionReceiver: Any, hostName: str, portNumber: int = 0, *kinds: Any, **named: Any
    ) -> Any:
        resolutionReceiver.resolutionBegan(None)
        if hostName in self._known:
            resolutionReceiver.addressResolved(IPv4Address("TCP", "127.0.0.1", portNumber))
        if hostName != "slow":
            resolutionReceiver.resolutionComplete()
        return resolutionReceiver


class SocketsTestCase(TestCase):
    """Connections that are stopped at the end; trial then finds whatever they left behind."""

    def connection(self, address: Any, **named: Any) -> Client:
        client = Client(address, **named)
        self.addCleanup(client.stopService)
        return client

    async def listening(self, address: str = "tcp:0", **named: Any) -> Listener:
        listener = Listener(address, **named)
        self.addCleanup(listener.stopService)
        await listener.connect()
        return listener

    def entered(self, connection: Any, state: State) -> Deferred[Change]:
        """Wait for the next change to this state."""
        entered: Deferred[Change] = Deferred()

        def observer(change: Change) -> None:
            if change.new is state:
                connection.remove_observer(observer)
                entered.callback(change)

        connection.add_observer(observer)
        return entered

    async def failure_of(self, ready: Deferred[Any], kind: type[Exception]) -> Any:
        """Wait for this to fail, and give the error."""
        try:
            await ready
        except kind as error:
            return error
        self.fail(f"{kind.__name__} was not raised")

    async def exchange(self, client: Client, listener: Listener) -> None:
        """Assert that bytes go both ways."""
        await client.connect()
        server: Any = await listener.came.get()
        client.write(b"*IDN?\n")
        self.assertEqual(await listener.arrived.get(), b"*IDN?\n")
        server.transport.write(b"ACME\n")
        self.assertEqual(await client.arrived.get(), b"ACME\n")

    def bound_socket(self, kind: int = socket.SOCK_STREAM) -> tuple[socket.socket, int]:
        """Give a socket on a free port of this machine that is closed at the end of the test, and that port."""
        bound = socket.socket(socket.AF_INET, kind)
        self.addCleanup(bound.close)
        bound.bind(("127.0.0.1", 0))
        return bound, bound.getsockname()[1]

    def resolve(self, *known: str) -> None:
        """Let these names, and no others, be known during this test."""
        self.addCleanup(reactor.installNameResolver, reactor.installNameResolver(Names(*known)))

    def folder(self) -> Path:
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        return folder


class TCPTests(SocketsTestCase):
    """TCP, from an attempt to its end."""

    async def test_exchange(self) -> None:
        """Bytes go both ways, and both sides know with whom they speak."""
        listener = await self.listening()
        client = self.connection(str(listener.bound))
        await self.exchange(client, listener)
        [server] = listener.protocols
        own = client.handle().getsockname()
        self.assertEqual(server.peer, f"127.0.0.1:{own[1]}")
        self.assertEqual(f"tcp:{client.protocol.peer}", str(listener.bound))

    async def test_socket_options(self) -> None:
        """NODELAY and keepalive, with times that notice a pulled cable within a minute, are on at both ends."""
        listener = await self.listening()
        client = self.connection(str(listener.bound))
        await client.connect()
        server: Any = await listener.came.get()
        for handle in (client.handle(), server.transport.getHandle()):
            self.assert_options(handle)

    def assert_options(self, handle: socket.socket) -> None:
        self.assertTrue(handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        self.assertTrue(handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        if hasattr(socket, "TCP_KEEPIDLE"):
            options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            times = tuple(handle.getsockopt(socket.IPPROTO_TCP, option) for option in options)
            self.assertEqual(times, (KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT))

    async def test_name(self) -> None:
        """A host may be given by its name."""
        self.resolve("dmm.lab")
        listener = await self.listening()
        assert listener.bound is not None
        await self.exchange(self.connection(f"dmm.lab:{listener.bound.port}"), listener)

    async def test_ipv6(self) -> None:
        """IPv6 works as IPv4 does."""
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError as error:
            raise SkipTest(f"this machine has no IPv6 loopback: {error}") from error
        listener = await self.listening("tcp:[::1]:0")
        client = self.connection(str(listener.bound))
        await self.exchange(client, listener)
        self.assertTrue(client.protocol.peer.startswith("[::1]:"), client.protocol.peer)
        self.assert_options(client.handle())

    async def test_local_host(self) -> None:
        """A connection comes from the local address that was asked for."""
        listener = await self.listening()
        client = self.connection(str(listener.bound), local_host="127.0.0.2")
        try:
            await client.connect()
        except ConnectFailed as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            raise SkipTest("this machine has only one loopback address") from error
        server = await listener.came.get()
        self.assertTrue(server.peer.startswith("127.0.0.2:"), server.peer)

    async def test_closed(self) -> None:
        """A peer that closes is noticed at once, with Twisted's reason, and the connection comes back."""
        listener = await self.listening()
        client = self.connection(str(listener.bound))
        await client.connect()
        server: Any = await listener.came.get()
        lost = self.entered(client, State.WAITING)
        server.transport.loseConnection()
        self.assertIn("closed the connection", (await lost).reason)
        assert isinstance(client.last_error, ConnectionLost)
        self.assertIsInstance(client.last_error.__cause__, ConnectionDone)
        await client.when_ready()
        await listener.came.get()

    async def test_reset(self) -> None:
        """A peer that resets the connection is told apart from one that closes it, and the reason is kept, too."""
        listener = await self.listening()
        client = self.connection(str(listener.bound))
        await client.connect()
        server: Any = await listener.came.get()
        lost = self.entered(client, State.WAITING)
        server.transport.abortConnection()
        await lost
        assert isinstance(client.last_error, ConnectionLost)
        self.assertIn("was lost: ", str(client.last_error))
        self.assertIsInstance(client.last_error.__cause__, (TwistedConnectionLost, ConnectionResetError))

    async def test_refused(self) -> None:
        """Where nobody listens the attempt fails, with the system's number; nothing is tried after that."""
        _, port = self.bound_socket()
        client = self.connection(f"127.0.0.1:{port}")
        error = await self.failure_of(client.connect(), ConnectFailed)
        self.assertEqual(error.errno, errno.ECONNREFUSED)
        self.assertIsInstance(error.__cause__, ConnectionRefusedError)
        self.assertIs(client.state, State.STOPPED)

    async def test_comes_later(self) -> None:
        """A peer that comes only later is connected to when it comes."""
        bound, port = self.bound_socket()
        client = self.connection(f"127.0.0.1:{port}")
        refused = self.entered(client, State.WAITING)
        ready = client.when_ready()
        client.startService()
        await refused
        bound.listen()
        await ready

    async def test_accepted_and_reset(self) -> None:
        """A peer that accepts and resets at once leaves an orderly connection, which goes on trying."""
        bound, port = self.bound_socket()
        bound.listen()
        client = self.connection(f"127.0.0.1:{port}")
        for _ in range(3):
            lost = self.entered(client, State.WAITING)
            client.startService()
            await client.when_ready()
            accepted, _ = bound.accept()
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            accepted.close()
            await lost

    async def test_unknown_name(self) -> None:
        """A name that does not exist is a failed attempt."""
        self.resolve()
        client = self.connection("nosuchhost.invalid:5025")
        error = await self.failure_of(client.connect(), ConnectFailed)
        self.assertIn("nosuchhost.invalid", str(error))
        self.assertIsInstance(error.__cause__, DNSLookupError)

    async def test_slow_name(self) -> None:
        """The time limit holds for the lookup of the name as well; a stop does not wait for its answer."""
        self.resolve()
        client = self.connection("slow:5025", connect_timeout=BRIEF)
        await self.failure_of(client.connect(), EquipmentTimeout)
        client = self.connection("slow:5025")
        ready = client.connect()
        await client.stopService()
        await self.failure_of(ready, Disconnected)

    async def test_black_hole(self) -> None:
        """A host that does not answer at all is given up after the time limit; a stop does not wait for that."""
        port = self.black_hole()
        client = self.connection(f"127.0.0.1:{port}", connect_timeout=BRIEF)
        error = await self.failure_of(client.connect(), EquipmentTimeout)
        self.assertEqual(error.seconds, BRIEF)
        client = self.connection(f"127.0.0.1:{port}")
        ready = client.connect()
        await client.stopService()
        await self.failure_of(ready, Disconnected)

    def black_hole(self) -> int:
        """Give a port whose backlog is full, so that the system drops what asks for a connection."""
        bound, port = self.bound_socket()
        bound.listen(0)
        for _ in range(8):
            filler = socket.socket()
            self.addCleanup(filler.close)
            filler.settimeout(0.05)
            try:
                filler.connect(("127.0.0.1", port))
            except TimeoutError:
                return port
        raise SkipTest("this system accepts more connections than the backlog has room for")

    async def test_peer_that_does_not_read(self) -> None:
        """When what was written cannot leave, because the peer does not read, a disconnect ends all the same."""
        bound, port = self.bound_socket()
        bound.listen()
        client = self.connection(f"127.0.0.1:{port}")
        await client.connect()
        client.write(b"x" * 50_000_000)
        await client.disconnect()
        self.assertIs(client.state, State.STOPPED)

    async def test_last_words(self) -> None:
        """What was written before a disconnect still arrives."""
        listener = await self.listening()
        client = self.connection(str(listener.bound))
        await client.connect()
        client.write(b"bye\n")
        await client.disconnect()
        self.assertEqual(await listener.arrived.get(), b"bye\n")


class ListeningTests(SocketsTestCase):
    """Ports of ours."""

    async def test_in_use(self) -> None:
        """A port that somebody else holds is waited for, and bound when it is free."""
        bound, port = self.bound_socket()
        bound.listen()
        listener = Listener(f"tcp:{port}")
        self.addCleanup(listener.stopService)
        taken = self.entered(listener, State.WAITING)
        listener.startService()
        await taken
        self.assertEqual(getattr(listener.last_error, "errno", None), errno.EADDRINUSE)
        bound.close()
        await listener.when_ready()

    async def test_reconnect(self) -> None:
        """A reconnect closes the clients and binds the same port again."""
        listener = await self.listening()
        client = self.connection(str(listener.bound))
        await client.connect()
        await listener.came.get()
        await listener.reconnect()
        self.assertIsInstance(await client.ended.get(), ConnectionDone)

    async def test_too_many(self) -> None:
        """A client over the limit is closed at once."""
        listener = await self.listening(max_connections=1)
        first = self.connection(str(listener.bound))
        await first.connect()
        await listener.came.get()
        second = self.connection(str(listener.bound))
        await second.connect()
        self.assertIsInstance(await second.ended.get(), ConnectionDone)
        self.assertGreaterEqual(listener.refused, 1)

    async def test_not_allowed(self) -> None:
        """A client from a network that is not allowed is closed at once."""
        listener = await self.listening(allowed=["10.0.0.0/8"])
        client = self.connection(str(listener.bound))
        await client.connect()
        await client.ended.get()
        self.assertGreaterEqual(listener.refused, 1)
        self.assertEqual(listener.protocols, set())

    async def test_stop(self) -> None:
        """A stop closes the port and every client, and nothing listens there any more."""
        listener = await self.listening()
        address = str(listener.bound)
        client = self.connection(address)
        await client.connect()
        await listener.came.get()
        ended = client.ended.get()
        await listener.stopService()
        await ended
        await client.stopService()
        await self.failure_of(self.connection(address).connect(), ConnectFailed)

    async def test_stop_with_a_client_that_does_not_read(self) -> None:
        """A client that does not read what was written to it does not hold up the stop."""
        listener = await self.listening()
        assert listener.bound is not None
        with socket.create_connection(("127.0.0.1", listener.bound.port)):
            server: Any = await listener.came.get()
            server.transport.write(b"x" * 50_000_000)
            await listener.stopService()
        self.assertEqual(listener.protocols, set())


class UNIXTests(SocketsTestCase):
    """UNIX sockets."""

    def path(self) -> Path:
        # The path of a socket may have no more than about a hundred bytes, and trial's own folders are deep.
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name) / "s"
        if len(os.fsencode(path)) > 90:
            raise SkipTest(f"the path of the test folder is too long for a socket: {path}")
        return path

    async def test_exchange(self) -> None:
        """Bytes go both ways, and nobody but the owner and the group may connect."""
        path = self.path()
        listener = await self.listening(f"unix:{path}")
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o660)
        client = self.connection(f"unix:{path}")
        await self.exchange(client, listener)
        self.assertEqual((client.protocol.peer, str(listener.bound)), (str(path), f"unix:{path}"))
        await client.stopService()
        await listener.stopService()
        self.assertFalse(path.exists())

    async def test_stale(self) -> None:
        """The socket of a daemon that was killed is in nobody's way."""
        path = self.path()
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        # The lock names the process that held it, and no process has a number as high as this.
        os.symlink("4194305", f"{path}.lock")
        await self.exchange(self.connection(f"unix:{path}"), await self.listening(f"unix:{path}"))

    async def test_in_use(self) -> None:
        """The socket of a daemon that lives is not taken from it."""
        path = self.path()
        first = await self.listening(f"unix:{path}")
        second = Listener(f"unix:{path}")
        await self.failure_of(second.connect(), ConnectFailed)
        await self.exchange(self.connection(f"unix:{path}"), first)

    async def test_nobody(self) -> None:
        """Without a socket there, or with nobody behind it, the attempt fails with the system's number."""
        path = self.path()
        error = await self.failure_of(self.connection(f"unix:{path}").connect(), ConnectFailed)
        self.assertEqual(error.errno, errno.ENOENT)
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        error = await self.failure_of(self.connection(f"unix:{path}").connect(), ConnectFailed)
        self.assertEqual(error.errno, errno.ECONNREFUSED)

    async def test_path_too_long(self) -> None:
        """A path that is too long for a socket is a failed attempt."""
        for connection in (self.connection("unix:/" + "x" * 200), Listener("unix:/" + "x" * 200)):
            error = await self.failure_of(connection.connect(), ConnectFailed)
            self.assertEqual(error.errno, errno.ENAMETOOLONG)


class UDPTests(SocketsTestCase):
    """UDP."""

    async def test_big_datagrams(self) -> None:
        """A datagram of 65,000 bytes arrives whole, in both directions."""
        listener = await self.listening("udp:0")
        client = self.connection(str(listener.bound))
        await client.connect()
        question, reply = b"q" * 65000, b"r" * 65000
        client.write(question)
        self.assertEqual(await listener.arrived.get(), question)
        server: Any = await listener.came.get()
        server.transport.write(reply)
        self.assertEqual(await client.arrived.get(), reply)

    async def test_strangers(self) -> None:
        """What somebody else sends to the port of a connection does not arrive."""
        listener = await self.listening("udp:0")
        client = self.connection(str(listener.bound))
        await client.connect()
        own = client.protocol.transport.getHost()
        stranger, _ = self.bound_socket(socket.SOCK_DGRAM)
        stranger.sendto(b"not the reply", ("127.0.0.1", own.port))
        client.write(b"question")
        await listener.arrived.get()
        server: Any = await listener.came.get()
        server.transport.write(b"reply")
        self.assertEqual(await client.arrived.get(), b"reply")
        self.assertEqual(client.arrived.pending, [])

    async def test_refused(self) -> None:
        """When the peer's system says that nobody listens, the connection is lost, with the system's number."""
        bound, port = self.bound_socket(socket.SOCK_DGRAM)
        bound.close()
        client = self.connection(f"udp:127.0.0.1:{port}")
        await client.connect()
        lost = self.entered(client, State.WAITING)
        client.write(b"anybody there?")
        await lost
        self.assertEqual(getattr(client.last_error, "errno", None), errno.ECONNREFUSED)

    async def test_name(self) -> None:
        """A host may be given by its name; one that does not exist is a failed attempt."""
        self.resolve("dmm.lab")
        listener = await self.listening("udp:0")
        assert listener.bound is not None
        await self.exchange_first(self.connection(f"udp:dmm.lab:{listener.bound.port}"), listener)
        await self.failure_of(self.connection("udp:nosuchhost.invalid:5025").connect(), ConnectFailed)

    async def exchange_first(self, client: Client, listener: Listener) -> None:
        await client.connect()
        client.write(b"*IDN?\n")
        self.assertEqual(await listener.arrived.get(), b"*IDN?\n")

    async def test_stop(self) -> None:
        """A stop of either side closes its port."""
        listener = await self.listening("udp:0")
        client = self.connection(str(listener.bound))
        await self.exchange_first(client, listener)
        await listener.stopService()
        self.assertEqual(listener.protocols, set())
        await client.stopService()

    async def test_in_use(self) -> None:
        """A port that somebody else holds cannot be bound."""
        _, port = self.bound_socket(socket.SOCK_DGRAM)
        await self.failure_of(Listener(f"udp:{port}").connect(), ConnectFailed)


class TLSTests(SocketsTestCase):
    """TLS, with a certificate authority of the test's own."""

    def setUp(self) -> None:
        self.resolve("dmm.lab", "other.lab")
        self.files = self.folder()
        self.authority = Authority(self.files, "ca")

    async def serving(self, name: str = "dmm.lab", authority: Path | None = None) -> tuple[Listener, int]:
        """Give a port with a certificate for this name, which asks for a client's when there is an authority."""
        listener = await self.listening("tls:0", tls=TLS(authority, *self.authority.issue(name)))
        assert listener.bound is not None
        return listener, listener.bound.port

    def trusting(self, address: str, own: tuple[Path, Path] | None = None) -> Client:
        """Give a connection that trusts the test's authority, and has a certificate of its own where one is given."""
        certificate, key = own or (None, None)
        return self.connection(address, tls=TLS(self.authority.file, certificate, key))

    async def refused(self, client: Client) -> str:
        """Assert that the connection is not made, and give the reason."""
        error = await self.failure_of(client.connect(), ConnectFailed)
        self.assertIs(client.state, State.STOPPED)
        return str(error)

    async def test_right_name(self) -> None:
        """Bytes go both ways when the certificate is for the name in the address; the socket has its options."""
        listener, port = await self.serving()
        client = self.trusting(f"tls:dmm.lab:{port}")
        await self.exchange(client, listener)
        self.assertTrue(client.handle().getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        self.assertTrue(client.handle().getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    async def test_ip_address(self) -> None:
        """A certificate may be for an IP address."""
        listener, port = await self.serving("127.0.0.1")
        await self.exchange(self.trusting(f"tls:127.0.0.1:{port}"), listener)

    async def test_wrong_name(self) -> None:
        """A certificate for another name is refused, be the address a name or an IP address."""
        _, port = await self.serving()
        for host in ("other.lab", "127.0.0.1"):
            with self.subTest(host=host):
                self.assertIn("VerificationError", await self.refused(self.trusting(f"tls:{host}:{port}")))

    async def test_other_host_name(self) -> None:
        """The name to check may be another than the one in the address."""
        listener, port = await self.serving()
        client = self.connection(f"tls:127.0.0.1:{port}", tls=TLS(self.authority.file, host_name="dmm.lab"))
        await self.exchange(client, listener)

    async def test_unknown_authority(self) -> None:
        """A certificate of an authority that is not trusted is refused: another one, and the system's by default."""
        _, port = await self.serving()
        other = Authority(self.files, "other")
        for tls in (TLS(other.file), TLS(), None):
            with self.subTest(tls=tls):
                reason = await self.refused(self.connection(f"tls:dmm.lab:{port}", tls=tls))
                self.assertIn("certificate verify failed", reason)

    async def test_chain(self) -> None:
        """Both sides send the whole chain of their certificate, so that it is enough to trust the root."""
        middle = Authority(self.files, "middle", self.authority)
        server = TLS(self.authority.file, *middle.issue("dmm.lab", middle))
        listener = await self.listening("tls:0", tls=server)
        assert listener.bound is not None
        client = self.trusting(f"tls:dmm.lab:{listener.bound.port}", middle.issue("client", middle))
        await self.exchange(client, listener)

    async def test_client_certificate(self) -> None:
        """A port that asks for a client's certificate lets in who shows one."""
        listener, port = await self.serving(authority=self.authority.file)
        await self.exchange(self.trusting(f"tls:dmm.lab:{port}", self.authority.issue("client")), listener)

    async def test_no_client_certificate(self) -> None:
        """Who shows none, or one of another authority, is hung up on and never joins."""
        listener, port = await self.serving(authority=self.authority.file)
        other = Authority(self.files, "other")
        for own in (None, other.issue("client")):
            with self.subTest(own=own):
                client = self.trusting(f"tls:dmm.lab:{port}", own)
                # With TLS 1.3 the client's handshake is complete before the server has looked at its certificate.
                client.connect().addErrback(lambda reason: reason.trap(ConnectFailed, Disconnected))
                await client.ended.get()
                await client.stopService()
                self.assertEqual(listener.came.pending, [])

    async def test_no_handshake(self) -> None:
        """A peer that accepts and never begins its handshake runs into the time limit; a stop does not wait for it."""
        bound, port = self.bound_socket()
        bound.listen()
        client = self.connection(f"tls:127.0.0.1:{port}", connect_timeout=BRIEF)
        await self.failure_of(client.connect(), EquipmentTimeout)
        client = self.connection(f"tls:127.0.0.1:{port}")
        ready = client.connect()
        accepted, _ = bound.accept()
        self.addCleanup(accepted.close)
        await client.stopService()
        await self.failure_of(ready, Disconnected)
        self.assertIs(client.state, State.STOPPED)

    async def test_no_tls(self) -> None:
        """A peer that speaks something else is a failed attempt."""
        listener = await self.listening()
        assert listener.bound is not None
        client = self.trusting(f"tls:dmm.lab:{listener.bound.port}")
        ready = client.connect()
        server: Any = await listener.came.get()
        server.transport.write(b"220 welcome\r\n")
        self.assertIn("Cannot connect to tls:dmm.lab:", str(await self.failure_of(ready, ConnectFailed)))

    async def test_client_without_a_handshake(self) -> None:
        """A client that never begins its handshake does not hold up a stop."""
        listener, port = await self.serving()
        with socket.create_connection(("127.0.0.1", port)):
            # The port accepts in order, so when the second one has joined, the first is there.
            await self.trusting(f"tls:dmm.lab:{port}").connect()
            await listener.came.get()
            self.assertEqual(len(listener.protocols), 2)
            await listener.stopService()
        self.assertEqual(listener.protocols, set())

    async def test_disconnect(self) -> None:
        """What was written before a disconnect still arrives, and both sides are closed."""
        listener, port = await self.serving()
        client = self.trusting(f"tls:dmm.lab:{port}")
        await self.exchange(client, listener)
        client.write(b"bye\n")
        await client.disconnect()
        self.assertEqual(await listener.arrived.get(), b"bye\n")
        await listener.ended.get()

    async def test_missing_file(self) -> None:
        """A file that has gone is a failed attempt, as it may come back; the error names it."""
        client = self.connection("tls:dmm.lab:5025", tls=TLS(self.files / "gone.pem"))
        self.assertIn("gone.pem", await self.refused(client))
