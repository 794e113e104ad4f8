"""
An HTTP port as a listening connection: Twisted's HTTP channel with bodies in memory, limits of size and time, and
refusals that say why.

Twisted's own ``Site`` writes bodies over 100 kB to a temporary file and has one time limit for all; everything else of
it is used as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import IResource
from twisted.web.server import Request, Site
from zope.interface import implementer

from equipnet.connection.address import Address
from equipnet.connection.protocol import WireProtocol
from equipnet.connection.retry import RetryPolicy
from equipnet.connection.service import ListeningConnection
from equipnet.connection.tls import TLS
from equipnet.errors import ConnectionLost, EquipmentTimeout

#: Seconds, and bytes, that a refused client may go on sending before its connection is aborted: a connection that is
#: closed with unread bytes is reset, and the client would never read why it was refused (RFC 9112, section 9.6).
LINGER_TIME = 2.0
LINGER_LIMIT = 64 * 2**20

#: A refused body of at most so many bytes is read to its end, so that the connection can be used again.
DRAIN_LIMIT = 64 * 2**10

#: The most bytes of the request line and all headers of one request.
HEADER_LIMIT = 16 * 2**10

#: How much is read at once while a body arrives that is longer than that.
READ_SIZE = 256 * 2**10


@dataclass(frozen=True)
class Answer:
    """
    A short answer to a request.

    Parameters
    ----------
    status
        The HTTP status.
    text
        One line for whoever reads it; none in an answer without content.
    headers
        More header fields.
    """

    status: int
    text: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    def to_bytes(self, close: bool = False, head: bool = False) -> bytes:
        """
        Give the answer as it is sent.

        Parameters
        ----------
        close
            Whether the connection ends with it.
        head
            Whether it answers a HEAD request, and leaves the text away.
        """
        body = f"{self.text}\n".encode() if self.text else b""
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if body:
            lines.append("Content-Type: text/plain; charset=utf-8")
        if self.status != HTTPStatus.NO_CONTENT:
            lines.append(f"Content-Length: {len(body)}")
        if close:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode() + (b"" if head else body)


class BodyRequest(Request):
    """
    A request whose body is in memory, as ``body`` and as ``content``.

    Attributes
    ----------
    refusal
        What is to be answered instead of rendering a resource; None where nothing is wrong.
    length
        The bytes that the body will have; None while they are not known.
    body
        The whole body.
    """

    channel: HttpChannel
    refusal: Answer | None = None
    length: int | None = None
    received = 0
    body = b""

    def gotLength(self, length: int | None) -> None:
        # What HTTPChannel would tell only behind the body.
        self.method, self.uri = self.channel._command, self.channel._path
        self.path = self.uri.partition(b"?")[0]
        self.length = length
        self._chunks: list[bytes] = []
        self.refusal = self.channel.port.refuse(self)

    def handleContentChunk(self, data: bytes) -> None:
        self.received += len(data)
        if self.refusal is not None:
            if self.received > DRAIN_LIMIT:
                self.channel.refuse(self.refusal)
        elif self.received > self.channel.port.max_size:
            self.refusal = too_long(self.channel.port.max_size)
            self._chunks.clear()
            self.channel.refuse(self.refusal)
        else:
            self._chunks.append(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        self.clientproto = version
        chunks = self._chunks
        self.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        if self.refusal is not None:
            self.answer(self.refusal)
            return
        self.content = BytesIO(self.body)
        self.args = {}
        self.process()

    def answer(self, answer: Answer) -> None:
        """Send a whole answer in one piece and be done with the request."""
        if self._disconnected:
            return
        channel = self.channel
        if answer is self.refusal:
            channel.port.refused_request(self, answer)
        self.startedWriting = self.finished = 1
        self.code = answer.status
        channel.write(answer.to_bytes(close=not channel.persistent, head=self.method == b"HEAD"))
        self._cleanup()

    def expects_continue(self) -> bool:
        """Tell whether the client waits for our consent before it sends the body (RFC 9110, section 10.1.1)."""
        expected = self.requestHeaders.getRawHeaders(b"Expect", ())
        return self.channel._version == b"HTTP/1.1" and any(each.lower() == b"100-continue" for each in expected)


class HttpChannel(HTTPChannel):
    """
    Twisted's HTTP channel, with our refusals in place of its silent ends, and without a timer of its own.

    Attributes
    ----------
    port
        The service.
    began
        When the first byte of the present request came, on the reactor's clock; None between requests and while an
        answer is awaited.
    active
        When the last bytes came.
    """

    port: HttpPort
    timeOut = None
    totalHeadersSize = HEADER_LIMIT
    factory = None
    transport: Any

    def __init__(self, port: HttpPort, protocol: HttpServerProtocol) -> None:
        super().__init__()
        self.port = port
        self.site = port.site
        self.requestFactory = port.request_class
        self.began: float | None = None
        self.active = port.reactor.seconds()
        self._protocol = protocol
        self._reading_much = False

    @property
    def in_request(self) -> bool:
        """Whether a request has begun to arrive and is not complete."""
        return self.began is not None

    @property
    def handling(self) -> bool:
        """Whether a complete request waits for its answer."""
        return bool(self._handlingRequest)

    def refuse(self, answer: Answer) -> None:
        """Send an answer before the request is complete, and end the connection."""
        if not self._protocol.lingering:
            request = self.requests[-1] if self.requests else None
            self.port.refused_request(request, answer, self._protocol.peer)
            self._protocol.linger(answer)

    # What Twisted calls

    def dataReceived(self, data: bytes) -> None:
        self.active = self.port.reactor.seconds()
        if self.began is None and not self._handlingRequest:
            self.began = self.active
        LineReceiver.dataReceived(self, data)

    def lineReceived(self, line: bytes) -> None:
        if not self._protocol.lingering:
            super().lineReceived(line)

    def rawDataReceived(self, data: bytes) -> None:
        if not self._protocol.lingering:
            super().rawDataReceived(data)

    def lineLengthExceeded(self, line: bytes) -> None:
        self._receivedHeaderSize = self.totalHeadersSize + 1
        self._respondToBadRequestAndDisconnect()

    def allHeadersReceived(self) -> None:
        request = self.requests[-1]
        self.persistent = self.checkPersistence(request, self._version)
        request.gotLength(self.length)
        expects_continue = request.expects_continue()
        if request.refusal is not None and (expects_continue or (self.length or 0) > DRAIN_LIMIT):
            self.refuse(request.refusal)
        elif expects_continue:
            self._send100Continue()
        elif (self.length or 0) > READ_SIZE:
            self.transport.bufferSize = READ_SIZE

    def allContentReceived(self) -> None:
        self.began = None
        if not self._protocol.lingering:
            super().allContentReceived()

    def _finishRequestBody(self, data: bytes) -> None:
        # The base class would keep an empty piece for each request.
        if data:
            self._dataBuffer.append(data)
        self.allContentReceived()

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(self._complaint())

    def _complaint(self) -> Answer:
        """Say what the base class found wrong, which it keeps to itself."""
        if self._receivedHeaderSize > self.totalHeadersSize:
            return Answer(431, f"the header is longer than {self.totalHeadersSize} bytes")
        if self._receivedHeaderCount > self.maxHeaders:
            return Answer(431, f"there are more than {self.maxHeaders} header fields")
        if not hasattr(self, "_command"):
            return Answer(400, "the first line is not that of an HTTP request")
        if not self.line_mode:
            return Answer(400, "a chunk of the body is malformed")
        return Answer(400, "a header field is malformed, or says something else about the length of the body")


@implementer(IHalfCloseableProtocol)
class HttpServerProtocol(WireProtocol):
    """
    One client of an `HttpPort`: the channel, and the limits of time.

    Attributes
    ----------
    lingering
        Whether the last answer has been sent, and what still arrives is read and forgotten.
    """

    owner: HttpPort

    def __init__(self, owner: HttpPort) -> None:
        super().__init__(owner)
        self.channel = HttpChannel(owner, self)
        self.lingering = False
        self._lingered = 0
        self._limit: IDelayedCall | None = None

    def begin(self) -> None:
        self.channel.makeConnection(self.transport)
        self._limit = self.owner.reactor.callLater(self.owner.idle_timeout, self._check_time)

    def linger(self, answer: Answer) -> None:
        """Send the last answer, and give the client the time to read it."""
        self.lingering = True
        self.transport.write(answer.to_bytes(close=True))
        if self._limit is not None and self._limit.active():
            self._limit.cancel()
        if hasattr(self.transport, "loseWriteConnection"):
            self.transport.loseWriteConnection()
            late = ConnectionLost(f"{self.peer} was refused: {answer.text}")
            self._limit = self.owner.reactor.callLater(LINGER_TIME, self.hang_up, late)
        else:
            self.transport.loseConnection()

    # What Twisted calls

    def dataReceived(self, data: bytes) -> None:
        if not self.lingering:
            self.channel.dataReceived(data)
            return
        self._lingered += len(data)
        if self._lingered > LINGER_LIMIT:
            self.transport.abortConnection()

    def readConnectionLost(self) -> None:
        """End a request that can no more be completed; an answer that is awaited is still sent."""
        if self.lingering:
            self.transport.loseConnection()
        elif self.channel.handling:
            self.channel.persistent = 0
        elif self.channel.in_request:
            self.channel.refuse(Answer(400, f"the request ended early, {self._progress()}"))
        else:
            self.channel.loseConnection()

    def writeConnectionLost(self) -> None:
        """Nothing: it is we who ended our side."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._limit is not None and self._limit.active():
            self._limit.cancel()
        if self.channel.transport is not None:
            self.channel.connectionLost(reason)
        super().connectionLost(reason)

    # How long a client may take

    def _check_time(self) -> None:
        """
        End what takes too long, and look again when the next limit can have passed.

        One call for each connection serves: a request only leaves a note of its time.
        """
        now = self.owner.reactor.seconds()
        channel = self.channel
        if channel.handling:
            # How long the answer may take is the business of whoever gives it.
            next_look = self.owner.idle_timeout
            channel.active = now
        else:
            silent = channel.active + self.owner.idle_timeout - now
            late = silent if channel.began is None else channel.began + self.owner.request_timeout - now
            next_look = min(silent, late)
        if next_look > 0:
            self._limit = self.owner.reactor.callLater(next_look, self._check_time)
        elif not channel.in_request:
            self.owner.log.debug("{name}: {peer} has been silent", name=self.owner.name, peer=self.peer)
            self.hang_up(EquipmentTimeout(self.owner.idle_timeout, "a request"), abort=False)
        elif silent <= 0:
            channel.refuse(Answer(408, f"nothing came for {self.owner.idle_timeout:g} s, {self._progress()}"))
        else:
            channel.refuse(Answer(408, f"not complete after {self.owner.request_timeout:g} s, {self._progress()}"))

    def _progress(self) -> str:
        request = self.channel.requests[-1] if self.channel.requests else None
        if request is None or not hasattr(request, "_chunks"):
            return "in the middle of the header"
        if request.length is None:
            return f"after {request.received} bytes of the body"
        return f"after {request.received} of {request.length} bytes of the body"


class HttpPort(ListeningConnection):
    """
    A port that serves HTTP; READY as soon as it is bound.

    Parameters
    ----------
    listen, name, max_connections, tls, retry, reactor
        As for `ListeningConnection`.
    resource
        What is served: a resource of twisted.web. A resource finds the whole body in ``request.body``.
    allowed
        The networks from which requests may come, such as ``"10.0.0.0/8"``; 403 is answered to others. From anywhere
        where nothing is given.
    max_size
        The most bytes of a body; 413 is answered to a longer one as soon as that is known.
    idle_timeout
        Seconds that a client may be silent, in a request or between two.
    request_timeout
        Seconds from the first byte of a request to its last.

    Attributes
    ----------
    refusals
        How many requests were refused, by status.
    """

    request_class: type[BodyRequest] = BodyRequest

    def __init__(
        self,
        listen: str | Address,
        resource: IResource,
        *,
        name: str | None = None,
        max_size: int = 20 * 2**20,
        max_connections: int = 100,
        idle_timeout: float = 5.0,
        request_timeout: float = 30.0,
        allowed: Iterable[str] = (),
        tls: TLS | None = None,
        retry: RetryPolicy | None = None,
        reactor: Any = None,
    ) -> None:
        super().__init__(
            listen,
            name=name,
            max_connections=max_connections,
            allowed=allowed,
            tls=tls,
            retry=retry,
            reactor=reactor,
        )
        for key, seconds in (("idle_timeout", idle_timeout), ("request_timeout", request_timeout)):
            if not 0 < seconds < float("inf"):
                raise ValueError(f"{key} is {seconds}, not above 0 seconds")
        if max_size < 1:
            raise ValueError(f"max_size is {max_size}, less than 1 byte")
        if self.address.scheme == "udp":
            raise ValueError(f"HTTP does not go over UDP: {self.address}")
        self.site = Site(resource, reactor=self.reactor)
        self.max_size = max_size
        self.idle_timeout = idle_timeout
        self.request_timeout = request_timeout
        self.refusals: dict[int, int] = {}

    def build_protocol(self) -> HttpServerProtocol:
        return HttpServerProtocol(self)

    def admits(self, host: str) -> bool:
        # Who may not ask is told so.
        return True

    # What a subclass overrides

    def refuse(self, request: BodyRequest) -> Answer | None:
        """Say what is wrong with a request whose header is complete, None where nothing is."""
        host = getattr(request.client, "host", None)
        if host is not None and not self.is_allowed(host):
            return Answer(403, "requests from your address are not allowed")
        if request.length is not None and request.length > self.max_size:
            return too_long(self.max_size)
        return None

    # What requests tell

    def refused_request(self, request: BodyRequest | None, answer: Answer, peer: str = "") -> None:
        """Count a refusal, and log it with the peer."""
        self.refusals[answer.status] = self.refusals.get(answer.status, 0) + 1
        if request is not None:
            peer = request.channel._protocol.peer
        self.log.warn(
            "{name}: a request of {peer} was refused: {status} {text}",
            name=self.name,
            peer=peer,
            status=answer.status,
            text=answer.text,
        )


def too_long(limit: int) -> Answer:
    """Give the answer to a body of more than ``limit`` bytes."""
    return Answer(413, f"the body is longer than {limit} bytes")
