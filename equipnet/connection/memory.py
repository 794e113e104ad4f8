"""A connection in memory: for tests of code that talks to equipment, without a socket."""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(ITransport)
class MemoryTransport:
    """
    One end of a connection in memory; what is written arrives at the other end in the next turn of the clock.

    Parameters
    ----------
    clock
        Carries the bytes over.
    name
        What this end is called.
    """

    def __init__(self, clock: IReactorTime, name: str) -> None:
        self._clock = clock
        self._address = IPv4Address("TCP", name, 0)
        self._arrived: deque[bytes | Exception] = deque()
        self._paused = False
        self._ended = False
        self.protocol: Any = None
        self.other: MemoryTransport

    @property
    def disconnecting(self) -> bool:
        """Whether this end has been closed, which Twisted's own line protocols ask."""
        return self._ended

    def write(self, data: bytes) -> None:
        if not self._ended and data:
            self.other._send(data)

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self._end(ConnectionDone(), ConnectionDone())

    def abortConnection(self) -> None:
        self._end(ConnectionAborted(), ConnectionLost())

    def getPeer(self) -> IAddress:
        return self.other._address

    def getHost(self) -> IAddress:
        return self._address

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Accept a producer; it is never paused."""

    def unregisterProducer(self) -> None:
        """Forget the producer."""

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self._clock.callLater(0, self._deliver)

    # Calls for the same instant may come in any order from a reactor, so they say when, and the queue says what.

    def _send(self, arriving: bytes | Exception) -> None:
        self._arrived.append(arriving)
        self._clock.callLater(0, self._deliver)

    def _deliver(self) -> None:
        while self._arrived and not self._paused and not self._ended:
            arrived = self._arrived.popleft()
            if isinstance(arrived, bytes):
                self.protocol.dataReceived(arrived)
            else:
                self._ended = True
                self.protocol.connectionLost(Failure(arrived))

    def _end(self, here: Exception, there: Exception) -> None:
        if not self._ended:
            self._ended = True
            self._clock.callLater(0, self.protocol.connectionLost, Failure(here))
            self.other._send(there)


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """
    Connect to a factory of this process, without a socket.

    Parameters
    ----------
    server
        Builds the other end's protocol; where it builds none, the connection is refused.
    clock
        Carries the bytes over: the reactor, or a ``Clock`` that the test advances.
    """

    def __init__(self, server: IProtocolFactory, clock: IReactorTime) -> None:
        self._server = server
        self._clock = clock

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        ours, theirs = MemoryTransport(self._clock, "client"), MemoryTransport(self._clock, "server")
        ours.other, theirs.other = theirs, ours
        server = self._server.buildProtocol(ours.getHost())
        if server is None:
            return fail(ConnectionRefusedError(None, "the server in memory takes no connection"))
        client = protocolFactory.buildProtocol(theirs.getHost())
        assert client is not None  # client factories always build one
        ours.protocol, theirs.protocol = client, server
        server.makeConnection(theirs)
        client.makeConnection(ours)
        return succeed(client)
