"""Endpoints, transports and protocols that the tests of connections are made with."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from equipnet.connection.protocol import WireProtocol


class RecordingOwner:
    """Stands for the service of a protocol, and records what it is told."""

    name = "dmm"

    def __init__(self) -> None:
        self.taps: list[Any] = []
        self.told: list[tuple[Any, ...]] = []

    def usable(self, protocol: WireProtocol, reason: str) -> None:
        self.told.append(("usable", reason))

    def unusable(self, protocol: WireProtocol, reason: str) -> None:
        self.told.append(("unusable", reason))

    def went_down(self, protocol: WireProtocol, reason: Failure) -> None:
        self.told.append(("went down", reason.value))


class RecordingTransport(StringTransport):
    """A TCP transport that records its options, and how it was closed; the test says when it is gone."""

    def __init__(self, peer: IAddress | None = None) -> None:
        super().__init__(peerAddress=peer or IPv4Address("TCP", "10.0.0.5", 5025))
        self.options: list[tuple[str, bool]] = []
        self.closed: list[str] = []

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.options.append(("nodelay", enabled))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.options.append(("keepalive", enabled))

    def loseConnection(self) -> None:
        self.closed.append("lose")

    def abortConnection(self) -> None:
        self.closed.append("abort")


class Attempt:
    """One call of `FakeEndpoint.connect`; the test says how it ends."""

    def __init__(self, factory: IProtocolFactory) -> None:
        self.factory = factory
        self.cancelled = False
        self.connected: Deferred[IProtocol] = Deferred(self._cancel)
        self.transport = RecordingTransport()
        self.protocol: Any = None

    def _cancel(self, connected: Deferred[IProtocol]) -> None:
        self.cancelled = True

    def succeed(self, transport: RecordingTransport | None = None) -> WireProtocol:
        """Let the transport come up."""
        if transport is not None:
            self.transport = transport
        self.protocol = self.factory.buildProtocol(self.transport.getPeer())
        self.protocol.makeConnection(self.transport)
        self.connected.callback(self.protocol)
        protocol: WireProtocol = self.protocol
        return protocol

    def fail(self, reason: Exception) -> None:
        """Let the attempt fail."""
        self.connected.errback(reason)

    def lose(self, reason: Exception) -> None:
        """Let the transport go away."""
        self.protocol.connectionLost(Failure(reason))


@implementer(IStreamClientEndpoint)
class FakeEndpoint:
    """An endpoint that records the attempts to connect, and leaves them pending."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        self.attempts.append(Attempt(protocolFactory))
        return self.attempts[-1].connected

    @property
    def last(self) -> Attempt:
        return self.attempts[-1]


class RecordingPeer(Protocol):
    """The other end of a connection: records what it is told."""

    transport: Any

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.lost: list[Any] = []
        self.arrived: Deferred[bytes] | None = None
        self.gone: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received.append(data)
        arrived, self.arrived = self.arrived, None
        if arrived is not None:
            arrived.callback(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.append(reason.value)
        self.gone.callback(None)

    def when_arrived(self) -> Deferred[bytes]:
        """Wait for the next bytes that arrive."""
        self.arrived = Deferred()
        return self.arrived


class RecordingPeers(Factory):
    """Builds a `RecordingPeer` for each connection and keeps it."""

    noisy = False

    def __init__(self) -> None:
        self.peers: list[RecordingPeer] = []
        self.came: Deferred[RecordingPeer] | None = None

    def buildProtocol(self, addr: IAddress | None) -> RecordingPeer | None:
        peer = RecordingPeer()
        self.peers.append(peer)
        came, self.came = self.came, None
        if came is not None:
            came.callback(peer)
        return peer

    def when_came(self) -> Deferred[RecordingPeer]:
        """Wait for the next connection."""
        self.came = Deferred()
        return self.came
