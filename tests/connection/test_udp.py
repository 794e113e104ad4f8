from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import (
    CannotListenError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    DNSLookupError,
    MessageLengthError,
)
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint, IStreamServerEndpoint, ITransport
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from equipnet.connection.udp import BUFFER, SILENCE, DatagramTransport, UDPClientEndpoint, UDPServerEndpoint
from equipnet.errors import LocalProtocolError

from .doubles import RecordingPeer, RecordingPeers


class Port:
    """A UDP port that records what is sent."""

    def __init__(self, protocol: Any, interface: str) -> None:
        self.protocol = protocol
        self.interface = interface
        self.peer: tuple[str, int] | None = None
        self.sent: list[tuple[Any, ...]] = []
        self.error: Exception | None = None
        self.stopped = False

    def connect(self, host: str, port: int) -> None:
        if self.error is not None:
            raise self.error
        self.peer = (host, port)

    def write(self, *datagram: Any) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append(datagram)

    def getHost(self) -> IPv4Address:
        return IPv4Address("UDP", "127.0.0.1", 40000)

    def stopListening(self) -> None:
        self.stopped = True
        self.protocol.doStop()


class Reactor(Clock):
    """A reactor that opens recording UDP ports, and resolves names when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[Port] = []
        self.error: Exception | None = None
        self.asked: list[tuple[Any, ...]] = []
        self.receiver: Any = None

    def listenUDP(self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 8192) -> Port:
        if self.error is not None:
            raise self.error
        opened = Port(protocol, interface)
        opened.error = self.connect_error
        protocol.makeConnection(opened)
        self.ports.append(opened)
        self.opened_with = (port, maxPacketSize)
        return opened

    connect_error: Exception | None = None

    @property
    def nameResolver(self) -> Reactor:
        return self

    def resolveHostName(self, receiver: Any, *asked: Any) -> None:
        self.asked.append(asked)
        self.receiver = receiver
        receiver.resolutionBegan(None)


class ClientTests(SynchronousTestCase):
    """A UDP port that speaks to one peer, as a stream endpoint."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.clients = RecordingPeers()

    def connect(self, host: str = "10.0.0.5", **named: Any) -> Any:
        return UDPClientEndpoint(self.reactor, host, 5025, **named).connect(self.clients)

    def connected(self, host: str = "10.0.0.5", **named: Any) -> tuple[Port, RecordingPeer]:
        client = self.successResultOf(self.connect(host, **named))
        return self.reactor.ports[-1], client

    def test_interfaces(self) -> None:
        """The endpoint and its transport are what Twisted expects."""
        verifyObject(IStreamClientEndpoint, UDPClientEndpoint(self.reactor, "10.0.0.5", 5025))
        port, client = self.connected()
        verifyObject(ITransport, client.transport)
        self.assertEqual(client.transport.getPeer(), IPv4Address("UDP", "10.0.0.5", 5025))
        self.assertEqual(client.transport.getHost(), port.getHost())

    def test_datagrams(self) -> None:
        """Each write is one datagram, and each datagram of the peer arrives whole."""
        port, client = self.connected()
        client.transport.write(b"*IDN?\n")
        client.transport.writeSequence([b"a", b"b"])
        self.assertEqual(port.sent, [(b"*IDN?\n",), (b"ab",)])
        for datagram in (b"one", b"", b"two\n"):
            port.protocol.datagramReceived(datagram, ("10.0.0.5", 5025))
        self.assertEqual(client.received, [b"one", b"", b"two\n"])
        self.assertEqual((self.reactor.opened_with, port.peer), ((0, BUFFER), ("10.0.0.5", 5025)))

    def test_strangers(self) -> None:
        """A datagram from another host or port, which may come before the port is connected, is dropped."""
        port, client = self.connected()
        port.protocol.datagramReceived(b"no", ("10.0.0.6", 5025))
        port.protocol.datagramReceived(b"no", ("10.0.0.5", 5026))
        port.protocol.datagramReceived(b"yes", ("10.0.0.5", 5025))
        port.protocol.datagramReceived(b"no", ("10.0.0.6", 5025))
        self.assertEqual(client.received, [b"yes"])

    def test_ipv6(self) -> None:
        """An IPv6 peer is reached from an IPv6 port, however its address is written."""
        port, client = self.connected("FD00:0::1")
        self.assertEqual(port.interface, "::")
        port.protocol.datagramReceived(b"yes", ("fd00::1", 5025))
        self.assertEqual(client.received, [b"yes"])

    def test_local_host(self) -> None:
        """The port is opened on the local address that was asked for."""
        port, _ = self.connected(local_host="10.0.0.1")
        self.assertEqual(port.interface, "10.0.0.1")

    def test_closed(self) -> None:
        """After the end, which the protocol is told of once in the next turn, nothing is sent or received any more."""
        for close, reason in (("loseConnection", ConnectionDone), ("abortConnection", ConnectionAborted)):
            with self.subTest(close=close):
                port, client = self.connected()
                getattr(client.transport, close)()
                client.transport.abortConnection()
                client.transport.write(b"too late")
                port.protocol.datagramReceived(b"too late", ("10.0.0.5", 5025))
                self.assertEqual(client.lost, [])
                self.reactor.advance(0)
                self.assertEqual([type(each) for each in client.lost], [reason])
                self.assertEqual((port.sent, client.received, port.stopped), ([], [], True))
                self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_refused(self) -> None:
        """When the peer's system says that nobody listens, the connection is lost."""
        port, client = self.connected()
        port.protocol.connectionRefused()
        self.reactor.advance(0)
        [error] = client.lost
        self.assertIsInstance(error, ConnectionRefusedError)
        self.assertEqual(error.osError, errno.ECONNREFUSED)
        self.assertTrue(port.stopped)

    def test_cannot_send(self) -> None:
        """When the system cannot send, the connection is lost, as with a stream; the write itself does not raise."""
        port, client = self.connected()
        port.error = OSError(errno.ENETUNREACH, "Network is unreachable")
        client.transport.write(b"*IDN?\n")
        self.reactor.advance(0)
        [error] = client.lost
        self.assertIsInstance(error, ConnectionLost)
        self.assertIn("Network is unreachable", str(error))
        self.assertIs(error.__cause__, port.error)

    def test_too_long(self) -> None:
        """What does not fit into a datagram is refused, and the connection stays."""
        port, client = self.connected()
        port.error = MessageLengthError("message too long")
        error = self.assertRaises(LocalProtocolError, client.transport.write, b"x" * 70000)
        self.assertEqual(str(error), "70000 bytes do not fit into a datagram, which holds 65507")
        self.reactor.advance(0)
        self.assertEqual(client.lost, [])

    def test_port_closed_by_the_reactor(self) -> None:
        """A port that the reactor closes by itself, because the peer cannot be reached, is a lost connection."""
        port, client = self.connected()
        port.protocol.doStop()
        self.reactor.advance(0)
        self.assertEqual([type(each) for each in client.lost], [ConnectionLost])

    def test_cannot_open(self) -> None:
        """A port that cannot be opened is a failed attempt."""
        self.reactor.error = CannotListenError("10.9.9.9", 0, OSError(errno.EADDRNOTAVAIL, "not ours"))
        self.failureResultOf(self.connect(local_host="10.9.9.9"), CannotListenError)

    def test_cannot_connect(self) -> None:
        """A port that cannot be connected is closed again."""
        self.reactor.connect_error = OSError(errno.ENETUNREACH, "Network is unreachable")
        self.failureResultOf(self.connect(), OSError)
        self.assertTrue(self.reactor.ports[0].stopped)

    def test_cannot_build(self) -> None:
        """So is one for which no protocol can be built."""

        class Broken(Factory):
            def buildProtocol(self, addr: IAddress | None) -> Any:
                raise ZeroDivisionError

        attempt = UDPClientEndpoint(self.reactor, "10.0.0.5", 5025).connect(Broken())
        self.failureResultOf(attempt, ZeroDivisionError)
        self.assertTrue(self.reactor.ports[0].stopped)

    def test_name(self) -> None:
        """A name is looked up, and the first of its addresses is taken."""
        attempt = self.connect("dmm.lab")
        self.assertEqual(self.reactor.asked, [("dmm.lab", 5025, None, "UDP")])
        self.reactor.receiver.addressResolved(IPv6Address("UDP", "fd00::1", 5025))
        self.reactor.receiver.addressResolved(IPv4Address("UDP", "10.0.0.5", 5025))
        self.assertNoResult(attempt)
        self.reactor.receiver.resolutionComplete()
        self.successResultOf(attempt)
        self.assertEqual(self.reactor.ports[0].peer, ("fd00::1", 5025))

    def test_family(self) -> None:
        """Only addresses of the family that was asked for are looked up."""
        self.connect("dmm.lab", family=socket.AF_INET)
        self.connect("dmm.lab", family=socket.AF_INET6)
        self.assertEqual([asked[2] for asked in self.reactor.asked], [[IPv4Address], [IPv6Address]])

    def test_unknown_name(self) -> None:
        """A name without an address is a failed attempt."""
        attempt = self.connect("nosuchhost.invalid")
        self.reactor.receiver.resolutionComplete()
        error = self.failureResultOf(attempt, DNSLookupError)
        self.assertIn("nosuchhost.invalid", str(error.value))

    def test_cancelled(self) -> None:
        """An attempt that is cancelled during the lookup opens no port when the answer comes."""
        attempt = self.connect("dmm.lab")
        attempt.cancel()
        self.failureResultOf(attempt)
        self.reactor.receiver.addressResolved(IPv4Address("UDP", "10.0.0.5", 5025))
        self.reactor.receiver.resolutionComplete()
        self.assertEqual(self.reactor.ports, [])

    def test_producers(self) -> None:
        """Producers and pauses are accepted: a datagram leaves at once or not at all."""
        _, client = self.connected()
        client.transport.registerProducer(None, True)
        client.transport.unregisterProducer()
        client.transport.pauseProducing()
        client.transport.resumeProducing()
        self.assertIsInstance(client.transport, DatagramTransport)


class ServerTests(SynchronousTestCase):
    """A UDP port of ours, with one connection for each peer."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.servers = RecordingPeers()
        endpoint = UDPServerEndpoint(self.reactor, "127.0.0.1", 9000)
        verifyObject(IStreamServerEndpoint, endpoint)
        self.port: Any = self.successResultOf(endpoint.listen(self.servers))

    def arrive(self, datagram: bytes, *peer: Any) -> None:
        self.port.protocol.datagramReceived(datagram, peer or ("10.0.0.5", 1))

    def test_peers(self) -> None:
        """Each peer that sends something is a connection of its own, and is answered where it is."""
        self.arrive(b"a", "10.0.0.5", 1)
        self.arrive(b"b", "fd00::1", 1)
        self.arrive(b"c", "10.0.0.5", 1)
        self.assertEqual([peer.received for peer in self.servers.peers], [[b"a", b"c"], [b"b"]])
        self.servers.peers[1].transport.write(b"reply")
        self.assertEqual(self.port.sent, [(b"reply", ("fd00::1", 1))])
        self.assertEqual(self.servers.peers[1].transport.getPeer(), IPv6Address("UDP", "fd00::1", 1))
        self.assertEqual((self.port.interface, self.reactor.opened_with), ("127.0.0.1", (9000, BUFFER)))

    def test_silence(self) -> None:
        """A peer that is silent for long is forgotten; its next datagram begins a new connection."""
        self.arrive(b"a")
        self.reactor.advance(SILENCE - 1)
        self.arrive(b"b")
        self.reactor.advance(SILENCE - 1)
        self.assertEqual(self.servers.peers[0].lost, [])
        self.reactor.advance(1)
        self.reactor.advance(0)
        self.assertEqual([type(each) for each in self.servers.peers[0].lost], [ConnectionDone])
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.arrive(b"c")
        self.assertEqual(len(self.servers.peers), 2)

    def test_closed(self) -> None:
        """A connection that we close is forgotten, with nothing left scheduled; the next datagram begins a new one."""
        self.arrive(b"a")
        self.servers.peers[0].transport.loseConnection()
        self.arrive(b"lost")
        self.reactor.advance(0)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.arrive(b"b")
        self.assertEqual([peer.received for peer in self.servers.peers], [[b"a"], [b"b"]])
        self.assertFalse(self.port.stopped)

    def test_stopped(self) -> None:
        """When the port is closed, so are all connections, and nothing is scheduled any more."""
        self.arrive(b"a", "10.0.0.5", 1)
        self.arrive(b"b", "10.0.0.5", 2)
        self.port.stopListening()
        self.reactor.advance(0)
        self.assertEqual([len(peer.lost) for peer in self.servers.peers], [1, 1])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_turned_away(self) -> None:
        """A peer for which no protocol is built is not listened to."""

        class Refusing(Factory):
            def buildProtocol(self, addr: IAddress | None) -> Any:
                return None

        port: Any = self.successResultOf(UDPServerEndpoint(self.reactor, "", 0).listen(Refusing()))
        port.protocol.datagramReceived(b"a", ("10.0.0.5", 1))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_in_use(self) -> None:
        """A port that cannot be bound is a failure, not an exception."""
        self.reactor.error = CannotListenError("", 9000, OSError(errno.EADDRINUSE, "in use"))
        self.failureResultOf(UDPServerEndpoint(self.reactor, "", 9000).listen(self.servers), CannotListenError)
