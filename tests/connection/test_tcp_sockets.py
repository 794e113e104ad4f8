import errno
import socket
import struct
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint, UNIXServerEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from equipnet.connection.service import ClientConnection
from equipnet.connection.tcp import AT_ONCE, Cause, sender
from equipnet.errors import ConnectionLost


class Peer:
    """A listening socket without Twisted, so that a test says when it reads, and how it ends."""

    def __init__(self, test: TestCase) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.settimeout(10)
        test.addCleanup(self.listening.close)
        self._test = test

    @property
    def port(self) -> int:
        port: int = self.listening.getsockname()[1]
        return port

    def accept(self) -> socket.socket:
        """Take the connection that is there."""
        connection, _ = self.listening.accept()
        connection.settimeout(10)
        self._test.addCleanup(connection.close)
        return connection


def read_all(connection: socket.socket, size: int) -> bytes:
    """Read so many bytes, in a thread."""
    data = bytearray()
    while len(data) < size:
        part = connection.recv(1 << 20)
        if not part:
            break
        data += part
    return bytes(data)


class SenderTests(TestCase):
    """
    A short message leaves before the reactor has its next turn, and never before what was written earlier.
    """

    async def connected(self) -> tuple[Any, socket.socket]:
        """Give a transport of Twisted's and the socket at its other end."""
        peer = Peer(self)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", peer.port)
        protocol: Any = await connectProtocol(endpoint, Protocol())
        self.addCleanup(protocol.transport.abortConnection)
        return protocol.transport, peer.accept()

    async def test_at_once(self) -> None:
        """
        The peer has it although the reactor has not run.
        """
        transport, peer = await self.connected()
        sender(transport)(b"*IDN?\n")
        self.assertEqual(peer.recv(100), b"*IDN?\n")

    async def test_order(self) -> None:
        """
        Long messages, short ones, and what the transport was given directly arrive in the order of the calls.
        """
        transport, peer = await self.connected()
        send = sender(transport)
        parts = [b"a" * 10, b"b" * (AT_ONCE + 1), b"c" * 10, b"d" * 20_000_000, b"e" * 10]
        for part in parts[:2]:
            send(part)
        transport.write(parts[2])
        for part in parts[3:]:
            send(part)
        whole = b"".join(parts)
        self.assertEqual(await deferToThread(read_all, peer, len(whole)), whole)

    async def test_full(self) -> None:
        """
        What the system does not take for now is sent later.
        """
        transport, peer = await self.connected()
        send = sender(transport)
        part = bytes(range(256)) * 64
        sent = 0
        while not (transport.dataBuffer or transport._tempDataBuffer):
            send(part)
            sent += len(part)
        send(b"the end")
        received = await deferToThread(read_all, peer, sent + 7)
        self.assertEqual(received, part * (sent // len(part)) + b"the end")

    async def test_gone(self) -> None:
        """
        To send to a peer that is gone raises nothing; the transport finds out.
        """
        transport, peer = await self.connected()
        lost: Deferred[None] = Deferred()
        transport.protocol._wrappedProtocol.connectionLost = lambda reason: lost.callback(None)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        send = sender(transport)
        for _ in range(3):
            send(b"*IDN?\n")
        await lost
        self.assertFalse(transport.connected)

    def test_other_transports(self) -> None:
        """
        Of any other transport it is the ``write``.
        """
        transport = StringTransport()
        sender(transport)(b"x")
        self.assertEqual(transport.value(), b"x")


class CauseTests(TestCase):
    """
    A loss keeps what the system said.
    """

    async def lost_by(self, end: Any) -> ConnectionLost:
        """Connect, let the peer end the connection, and give the error."""
        peer = Peer(self)
        connection = ClientConnection(f"tcp:127.0.0.1:{peer.port}", reactor=reactor)
        self.addCleanup(connection.disconnect)
        await connection.connect()
        lost: Deferred[Any] = Deferred()
        connection.lost = lambda error: None if lost.called else lost.callback(error)  # type: ignore[method-assign]
        end(peer.accept())
        error = await lost
        assert isinstance(error, ConnectionLost)
        return error

    async def test_reset(self) -> None:
        """
        A reset connection has the number of that error, and says so.
        """

        def reset(connection: socket.socket) -> None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

        error = await self.lost_by(reset)
        self.assertEqual(error.errno, errno.ECONNRESET)
        self.assertIsInstance(error.__cause__, ConnectionResetError)
        self.assertIn("reset by peer", str(error))

    async def test_closed(self) -> None:
        """
        A connection that the peer closed has none.
        """
        error = await self.lost_by(socket.socket.close)
        self.assertIsNone(error.errno)
        self.assertIsInstance(error.__cause__, ConnectionDone)

    async def test_unix(self) -> None:
        """
        UNIX sockets, which Twisted reads in another way, are left alone.
        """
        folder = TemporaryDirectory()  # trial's own are too deep for the 108 bytes of a UNIX address
        self.addCleanup(folder.cleanup)
        path = f"{folder.name}/socket"
        port = await UNIXServerEndpoint(reactor, path).listen(Factory.forProtocol(Protocol))
        self.addCleanup(port.stopListening)
        protocol: Any = await connectProtocol(UNIXClientEndpoint(reactor, path), Protocol())
        cause = Cause(protocol.transport)
        self.assertNotIn("doRead", vars(protocol.transport))
        self.assertIsNone(cause.error)
        protocol.transport.loseConnection()
        await deferLater(reactor, 0)

    def test_other_transports(self) -> None:
        """
        Of a transport that is no socket nothing is known.
        """
        self.assertIsNone(Cause(StringTransport()).error)
