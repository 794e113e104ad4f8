"""What tests of simulators behind HTTP share: a reactor that runs at once what is for a thread, and a client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.testing import MemoryReactorClock, StringTransport

from equipnet.http.server import HttpPort


class ThreadlessReactor(MemoryReactorClock):
    """Runs at once what would be done in a thread."""

    def getThreadPool(self) -> ThreadlessReactor:
        return self

    def callInThreadWithCallback(
        self, on_result: Callable[[bool, Any], None], function: Callable[..., Any], *arguments: Any
    ) -> None:
        try:
            result = function(*arguments)
        except Exception as error:
            on_result(False, error)
        else:
            on_result(True, result)

    def callFromThread(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> None:
        function(*arguments, **keywords)


class Client(StringTransport):
    """A client of a port that has been opened on a `ThreadlessReactor`."""

    producer: Any

    def __init__(self, port: HttpPort) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", "127.0.0.1", 50000))
        factory = port.reactor.tcpServers[-1][1]
        self.server = factory.buildProtocol(self.getPeer())
        self.server.makeConnection(self)

    def ask(self, data: bytes) -> bytes:
        """Send a request, or anything; gives what is answered at once."""
        self.server.dataReceived(data)
        return self.said()

    def get(self, target: bytes, *headers: bytes) -> tuple[int, bytes, bytes]:
        """Give the status, the head and the body of the answer to a GET."""
        return parts_of(self.ask(b"\r\n".join([b"GET " + target + b" HTTP/1.1", b"Host: axis", *headers, b"", b""])))

    def said(self) -> bytes:
        """Take what the server has said since the last call."""
        value: bytes = self.value()
        self.clear()
        return value


def parts_of(answer: bytes) -> tuple[int, bytes, bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), head, body
