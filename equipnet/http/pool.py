"""The sockets to one HTTP server: some that are kept for the next request, and a limit for the head of each answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IAddress, IHandshakeListener, INegotiated, IProtocolFactory
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import HTTPConnectionPool
from zope.interface import implementer

from equipnet.connection.address import Address
from equipnet.connection.endpoint import client_endpoint
from equipnet.connection.protocol import set_options
from equipnet.connection.tcp import Cause
from equipnet.connection.tls import TLS

if TYPE_CHECKING:
    from equipnet.http.exchange import Exchange

#: Bytes that the head of an answer may have.
HEAD_LIMIT = 1 << 16

#: Seconds for which a socket that nobody uses is kept; many servers close theirs after less.
KEPT_FOR = 60.0


class Pool(HTTPConnectionPool):
    """
    Twisted's pool, which tells each exchange the socket that it got, and knows all that are open.

    Parameters
    ----------
    address
        Where the server is.
    tls
        What ``tls:`` needs beside the host name.
    size
        How many sockets are kept.
    reactor
        Where they live.
    """

    # It would try one socket again, and never with a body.
    retryAutomatically = False
    cachedConnectionTimeout = KEPT_FOR  # type: ignore[assignment]  # seconds need not be whole

    def __init__(self, address: Address, tls: TLS | None, size: int, reactor: Any) -> None:
        super().__init__(reactor)
        self.maxPersistentPerHost = size
        self._address = address
        self.tls = tls
        #: Those that are open.
        self.sockets: set[Socket] = set()
        self._closing: list[Deferred[None]] = []

    def getConnection(self, key: Any, endpoint: Any) -> Deferred[Any]:
        return super().getConnection(key, endpoint).addCallback(endpoint.got)

    def connect(self, protocol_factory: IProtocolFactory) -> Deferred[Any]:
        """Open a socket, TLS handshake included; gives the protocol on it."""
        factory = _SocketFactory(protocol_factory, self)
        connected: Deferred[Any] = maybeDeferred(
            lambda: client_endpoint(self._address, self._reactor, tls=self.tls).connect(factory)
        )
        connected.addCallback(lambda socket: socket.when_up())
        return connected.addCallback(lambda socket: socket.wrappedProtocol)

    def close(self) -> Deferred[None]:
        """Close all sockets; fires when the last one is closed."""
        self.closeCachedConnections()
        for socket in tuple(self.sockets):
            socket.abortConnection()
        if not self.sockets:
            return succeed(None)
        closed: Deferred[None] = Deferred()
        self._closing.append(closed)
        return closed

    # What the sockets tell

    def opened(self, socket: Socket) -> None:
        self.sockets.add(socket)

    def gone(self, socket: Socket) -> None:
        self.sockets.discard(socket)
        if not self.sockets:
            closing, self._closing = self._closing, []
            for closed in closing:
                closed.callback(None)


class _SocketFactory(WrappingFactory[Any]):
    noisy = False

    def __init__(self, wrapped: Any, pool: Pool) -> None:
        super().__init__(wrapped)
        # Twisted's would tell of each try that it starts and stops.
        wrapped.noisy = False
        self.pool = pool

    def buildProtocol(self, addr: IAddress | None) -> Socket:
        return Socket(self, self.wrappedFactory.buildProtocol(addr))


@implementer(IHandshakeListener)
class Socket(ProtocolWrapper):
    """One socket: known to the pool as long as it is open, and with a limit for the head of an answer."""

    factory: Any
    transport: Any
    cause: Cause
    _exchange: Exchange | None = None
    _head = 0
    _up: Deferred[Socket] | None = None

    def when_up(self) -> Deferred[Socket]:
        """Wait for the TLS handshake where there is one; cancelled, it closes the socket."""
        if not INegotiated.providedBy(self.transport):
            return succeed(self)
        self._up = Deferred(self._cancelled)
        return self._up

    def _cancelled(self, up: Deferred[Socket]) -> None:
        self._up = None
        self.abortConnection()

    def serve(self, exchange: Exchange | None) -> None:
        """Take note of whose answer begins next; nobody's when its head is complete."""
        self._exchange = exchange
        self._head = 0

    def makeConnection(self, transport: Any) -> None:
        set_options(transport)
        self.cause = Cause(transport)
        self.factory.pool.opened(self)
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is not None:
            # What came with the end of the head does not count.
            if self._head > HEAD_LIMIT:
                exchange.head_too_long()
                return
            self._head += len(data)
            exchange.head_came(data)
        super().dataReceived(data)

    def handshakeCompleted(self) -> None:
        up, self._up = self._up, None
        if up is not None:
            up.callback(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        up, self._up = self._up, None
        if up is not None:
            up.errback(reason)
        self.factory.pool.gone(self)
