"""
UDP dressed as a stream: endpoints whose protocols get one ``dataReceived`` call per whole datagram, from one peer only.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from errno import ECONNREFUSED
from ipaddress import ip_address
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    DNSLookupError,
    MessageLengthError,
    getConnectError,
)
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHostResolution,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IResolutionReceiver,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
    ITransport,
)
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from equipnet.errors import LocalProtocolError

#: The most that one UDP datagram can hold over IPv4 (RFC 768: 65535 less the two headers), and the size of the buffer
#: that takes any of them whole.
DATAGRAM_LIMIT, BUFFER = 65507, 65536

#: Seconds after which a server forgets a peer that is silent: UDP has no end of a conversation.
SILENCE = 60.0


@implementer(ITransport)
class DatagramTransport:
    """
    One peer's share of a UDP port, as a transport: each ``write`` is one datagram, each datagram one ``dataReceived``.

    Parameters
    ----------
    reactor
        Schedules the end.
    send
        Sends one datagram to the peer.
    host, peer
        The two ends.
    close
        Called once when the conversation ends.
    """

    def __init__(
        self,
        reactor: Any,
        send: Callable[[bytes], object],
        host: IAddress,
        peer: IAddress,
        close: Callable[[], object],
    ) -> None:
        self._reactor = reactor
        self._send = send
        self._host = host
        self._peer = peer
        self._close = close
        self._protocol: Any = None
        self._ended = False

    def attach(self, protocol: IProtocol) -> None:
        """Make the connection of ``protocol``."""
        self._protocol = protocol
        protocol.makeConnection(self)

    def received(self, datagram: bytes) -> None:
        """Deliver one datagram."""
        if not self._ended:
            self._protocol.dataReceived(datagram)

    def end(self, reason: Exception) -> None:
        """End the conversation; the protocol is told in the next turn of the reactor."""
        if not self._ended:
            self._ended = True
            self._reactor.callLater(0, self._finish, reason)

    def _finish(self, reason: Exception) -> None:
        closed = maybeDeferred(self._close)
        closed.addBoth(lambda _: self._protocol.connectionLost(Failure(reason)))

    @property
    def disconnecting(self) -> bool:
        """Whether the conversation has been ended, which Twisted's own line protocols ask."""
        return self._ended

    def write(self, data: bytes) -> None:
        if self._ended:
            return
        try:
            self._send(data)
        except MessageLengthError:
            raise LocalProtocolError(
                f"{len(data)} bytes do not fit into a datagram, which holds {DATAGRAM_LIMIT}"
            ) from None
        except OSError as error:
            # No route, no interface: a stream's write does not raise either, its connection is lost.
            lost = ConnectionLost(error.strerror)
            lost.__cause__ = error
            self.end(lost)

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self.end(ConnectionDone())

    def abortConnection(self) -> None:
        self.end(ConnectionAborted())

    def getPeer(self) -> IAddress:
        return self._peer

    def getHost(self) -> IAddress:
        return self._host

    # A datagram leaves at once or not at all, so there is never anything to hold back.

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Accept a producer; it is never paused."""

    def unregisterProducer(self) -> None:
        """Forget the producer."""

    def pauseProducing(self) -> None:
        """Go on: the system drops what nobody reads."""

    def resumeProducing(self) -> None:
        """Go on."""


class _ToOnePeer(DatagramProtocol):
    """The UDP port of a client: datagrams from anybody but the peer are dropped."""

    noisy = False

    def __init__(self, peer: IPv4Address | IPv6Address) -> None:
        self._peer = peer
        self._known: Any = None
        self.port: Any = None
        self.conversation: DatagramTransport | None = None

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        # The system drops them as well, but not those that came between binding the port and connecting it.
        if addr != self._known:
            if not self._is_peer(addr):
                return
            self._known = addr
        if self.conversation is not None:
            self.conversation.received(datagram)

    def _is_peer(self, addr: Any) -> bool:
        ours, theirs = (ip_address(host.partition("%")[0]) for host in (self._peer.host, addr[0]))
        return ours == theirs and addr[1] == self._peer.port

    def connectionRefused(self) -> None:
        if self.conversation is not None:
            self.conversation.end(ConnectionRefusedError(ECONNREFUSED, "nobody listens on that UDP port"))

    def stopProtocol(self) -> None:
        # A reactor on epoll closes the port by itself when the system has an error for it, instead of reading that.
        if self.conversation is not None:
            handle = getattr(self.port, "socket", None)
            number = 0 if handle is None else handle.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            error = getConnectError((number, os.strerror(number))) if number else ConnectionLost("the port was closed")
            self.conversation.end(error)


@implementer(IStreamClientEndpoint)
class UDPClientEndpoint:
    """
    Connect to a UDP port: whole datagrams, to and from that peer only.

    Parameters
    ----------
    reactor
        Opens the port and looks up names.
    host, port
        The peer.
    local_host
        The local IP address to send from; any where it is empty.
    family
        Which of a name's addresses to take; the first of any with ``AF_UNSPEC``.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        local_host: str = "",
        family: socket.AddressFamily = socket.AF_UNSPEC,
    ) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._local_host = local_host
        self._family = family

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return _addresses(self._reactor, self._host, self._port, self._family).addCallback(
            lambda found: self._open(protocolFactory, found[0])
        )

    def _open(self, factory: IProtocolFactory, peer: IPv4Address | IPv6Address) -> IProtocol:
        datagrams = _ToOnePeer(peer)
        local = self._local_host or ("::" if isinstance(peer, IPv6Address) else "")
        port = datagrams.port = self._reactor.listenUDP(0, datagrams, local, BUFFER)
        try:
            port.connect(peer.host, peer.port)
            protocol = factory.buildProtocol(peer)
        except Exception:
            port.stopListening()
            raise
        transport = DatagramTransport(self._reactor, port.write, port.getHost(), peer, port.stopListening)
        assert protocol is not None  # client factories always build one
        datagrams.conversation = transport
        transport.attach(protocol)
        return protocol


class _FromManyPeers(DatagramProtocol):
    """The UDP port of a server: one protocol for each peer, as long as it speaks at all."""

    noisy = False

    def __init__(self, reactor: Any, factory: IProtocolFactory) -> None:
        self._reactor = reactor
        self._factory = factory
        self._conversations: dict[Any, tuple[DatagramTransport, IDelayedCall]] = {}

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if addr not in self._conversations and not self._begin(addr):
            return
        conversation, forgetting = self._conversations[addr]
        if forgetting.active():
            forgetting.reset(SILENCE)
        conversation.received(datagram)

    def stopProtocol(self) -> None:
        for conversation, _ in tuple(self._conversations.values()):
            conversation.loseConnection()

    def _begin(self, addr: Any) -> bool:
        kind = IPv6Address if ":" in addr[0] else IPv4Address
        peer = kind("UDP", *addr[:2])
        protocol = self._factory.buildProtocol(peer)
        if protocol is None:
            return False
        port: Any = self.transport

        def close() -> None:
            _, forgetting = self._conversations.pop(addr)
            if forgetting.active():
                forgetting.cancel()

        transport = DatagramTransport(self._reactor, lambda data: port.write(data, addr), port.getHost(), peer, close)
        self._conversations[addr] = transport, self._reactor.callLater(SILENCE, transport.loseConnection)
        transport.attach(protocol)
        return True


@implementer(IStreamServerEndpoint)
class UDPServerEndpoint:
    """
    Listen on a UDP port: each peer that sends something is a connection of its own, each datagram one ``dataReceived``.
    """

    def __init__(self, reactor: Any, interface: str, port: int) -> None:
        self._reactor = reactor
        self._interface = interface
        self._port = port

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        datagrams = _FromManyPeers(self._reactor, protocolFactory)
        return maybeDeferred(self._reactor.listenUDP, self._port, datagrams, self._interface, BUFFER)


def _addresses(
    reactor: Any, host: str, port: int, family: socket.AddressFamily
) -> Deferred[list[IPv4Address | IPv6Address]]:
    for kind, number in ((IPv4Address, socket.AF_INET), (IPv6Address, socket.AF_INET6)):
        try:
            socket.inet_pton(number, host.partition("%")[0])
        except OSError:
            continue
        return succeed([kind("UDP", host, port)])
    kinds = {socket.AF_INET: [IPv4Address], socket.AF_INET6: [IPv6Address]}.get(family)
    receiver = _Addresses(host)
    reactor.nameResolver.resolveHostName(receiver, host, port, kinds, "UDP")
    return receiver.found


@implementer(IResolutionReceiver)
class _Addresses:
    """Collect what a name resolves to."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._addresses: list[IPv4Address | IPv6Address] = []
        self.found: Deferred[list[IPv4Address | IPv6Address]] = Deferred()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Wait."""

    def addressResolved(self, address: Any) -> None:
        self._addresses.append(address)

    def resolutionComplete(self) -> None:
        if self.found.called:
            return  # cancelled in the meantime
        if self._addresses:
            self.found.callback(self._addresses)
        else:
            self.found.errback(DNSLookupError(f"no results for hostname lookup: {self._host}"))
