"""A server without sockets, for tests of HTTP clients: the test reads what was asked and says what is answered."""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

HOST, PORT = "10.0.0.5", 80
URL = f"http://{HOST}"


class Socket(StringTransport):
    """One socket, seen from the server."""

    def __init__(self, reactor: Any, factory: Any) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", HOST, PORT))
        self.reactor = reactor
        self.options: list[str] = []
        #: How it ended, None while it is open.
        self.ended: str | None = None
        self.client = factory.buildProtocol(self.getPeer())
        self.client.makeConnection(self)

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.options.append(f"nodelay {enabled}")

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.options.append(f"keepalive {enabled}")

    def loseConnection(self) -> None:
        self._end("closed by the client", ConnectionDone())

    def abortConnection(self) -> None:
        self._end("aborted by the client", ConnectionAborted())

    def asked(self) -> bytes:
        """Take what has been asked since the last call."""
        value: bytes = self.value()
        self.clear()
        return value

    def say(self, data: bytes) -> None:
        """Let bytes arrive at the client."""
        if self.ended is None:
            self.client.dataReceived(data)

    def answer(self, body: bytes = b"", status: bytes = b"200 OK", *headers: bytes) -> None:
        """Let an answer arrive."""
        head = [b"HTTP/1.1 " + status, *headers, b"Content-Length: %d" % len(body)]
        self.say(b"\r\n".join([*head, b"", body]))

    def close(self, reason: Exception | None = None) -> None:
        """Close it from the server's side; ``reason`` is what the client is told."""
        self._end("closed by the server", reason or ConnectionDone())

    def _end(self, how: str, reason: Exception) -> None:
        if self.ended is None:
            self.ended = how
            self.reactor.callLater(0, self.client.connectionLost, Failure(reason))


class Network:
    """The reactor of a client, and the server that it connects to."""

    def __init__(self) -> None:
        reactor: Any = MemoryReactorClock()
        reactor.callFromThread = partial(reactor.callLater, 0)
        self.reactor = reactor
        self.sockets: list[Socket] = []
        self._taken = 0

    @property
    def attempts(self) -> int:
        """How many attempts to connect there are that were neither taken nor refused."""
        return len(self.reactor.tcpClients) - self._taken

    def accept(self) -> Socket:
        """Let the next attempt to connect succeed."""
        socket = Socket(self.reactor, self._take()[2])
        self.sockets.append(socket)
        return socket

    def refuse(self) -> None:
        """Let the next attempt to connect fail."""
        index = self._taken
        factory = self._take()[2]
        factory.clientConnectionFailed(self.reactor.connectors[index], Failure(ConnectionRefusedError(111, "refused")))

    def turn(self, seconds: float = 0.0) -> None:
        """Let time pass."""
        self.reactor.advance(seconds)

    def _take(self) -> Any:
        attempt = self.reactor.tcpClients[self._taken]
        self._taken += 1
        return attempt
