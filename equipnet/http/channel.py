"""
Twisted's HTTP channel with a reader of its own: bodies in memory, limits of size and time, and refusals that say why.

Requests, resources and answers are twisted.web's. Reading is done here: twisted.web copies what has arrived once for
each line of the header, writes a body over 100 kB to a temporary file, knows one limit of time, and ends a connection
that sends nonsense without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING, Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IAddress, IDelayedCall, IHalfCloseableProtocol, INegotiated
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, _ChunkedTransferDecoder, _MalformedChunkedDataError
from twisted.web.http_headers import Headers
from twisted.web.server import Request
from zope.interface import implementer

from equipnet.connection.protocol import WireProtocol
from equipnet.connection.tcp import sender
from equipnet.errors import ConnectionLost, EquipmentConnectionError, EquipmentTimeout
from equipnet.http.exchange import Request as TappedRequest
from equipnet.http.message import Answer, Head, Refused, too_long

if TYPE_CHECKING:
    from equipnet.http.server import HttpPort

#: Seconds that a client has for reading its last answer and going. As long as it sends, what it sends is dropped: a
#: connection that is closed with unread bytes is reset, and the client would never read why it was refused (RFC 9112,
#: section 9.6).
LINGER_TIME = 2.0

#: A refused body of at most so many bytes is read to its end, so that the connection can be used again.
DRAIN_LIMIT = 64 * 2**10

#: The most bytes of the request line and all header fields of one request.
HEADER_LIMIT = 16 * 2**10

#: How many heads and bodies of one client are read before others have their turn.
TURN = 64

#: How many bytes are read at once while a longer body arrives.
READ_SIZE = 256 * 2**10


class Incoming:
    """
    A request as it comes in: its head, then its body in memory, then its answer.

    It is all that a service needs which answers by itself; `BodyRequest` is one for the resources of twisted.web, which
    costs more.

    Parameters
    ----------
    channel
        The channel on which it comes.

    Attributes
    ----------
    head
        What stood before the body.
    refusal
        What is to be answered in place of what was asked for; None where nothing is wrong.
    received
        How many bytes of the body have come.
    body
        The whole body.
    """

    head: Head
    refusal: Answer | None = None
    received = 0
    body = b""
    _answered = False
    _gone: Callable[[], object] | None = None

    def __init__(self, channel: HttpChannel) -> None:
        self.channel = channel
        self._chunks: list[bytes] = []

    def begin(self, head: Head) -> None:
        """Take the head, and find out whether the body is wanted."""
        self.head = head
        self.refusal = self.channel.port.refusal(head, self.channel.host)

    def handleContentChunk(self, data: bytes) -> None:
        """Take some of the body."""
        self.received += len(data)
        if self.refusal is not None:
            if self.received > DRAIN_LIMIT:
                raise Refused(self.refusal)
        elif self.received > self.channel.port.max_size:
            raise Refused(too_long(self.channel.port.max_size))
        else:
            self._chunks.append(data)

    def complete(self) -> None:
        """Answer; the whole body has come."""
        chunks, self._chunks = self._chunks, []
        self.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if self.refusal is not None:
            self.channel.port.refused_request(self.refusal, self.channel.peer)
            self.answer(self.refusal)
            return
        try:
            self.serve()
        except Exception:
            port = self.channel.port
            port.log.failure("{name}: a request of {peer} failed", name=port.name, peer=self.channel.peer)
            self.answer(Answer(500, "the server failed: see its log"))

    def serve(self) -> None:
        """Do what is asked for, and answer now or later."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it does")

    def answer(self, answer: Answer) -> None:
        """Send a whole answer in one piece and be done with the request; nothing where the client has gone."""
        if not self._answered:
            self._answered = True
            channel = self.channel
            channel.send(answer.to_bytes(not channel.persistent, self.head.method == b"HEAD"))
            self._cleanup()

    def when_gone(self, gone: Callable[[], object]) -> None:
        """Call ``gone`` if the client goes before it is answered."""
        self._gone = gone

    def connectionLost(self, reason: Failure) -> None:
        """Take note that the client has gone."""
        self._answered = True
        if self._gone is not None:
            self._gone()

    def _cleanup(self) -> None:
        self.channel.requestDone(self)


class BodyRequest(Incoming, Request):
    """
    A request of twisted.web whose body is in memory, as ``body`` and as ``content``.

    Taps see each that is served, and all that is written for it, each with the status; a part of a stream by itself.
    """

    channel: HttpChannel

    def __init__(self, channel: HttpChannel) -> None:
        Request.__init__(self, channel)
        Incoming.__init__(self, channel)

    def serve(self) -> None:
        """Let the resource of the path answer."""
        port, head = self.channel.port, self.head
        if port.taps:
            # Not the whole head, which may have a password in it.
            port.tapped("in", self.body, TappedRequest(head.method.decode("latin-1"), head.target.decode("latin-1")))
        self.requestHeaders = Headers(self.head.fields)
        self.parseCookies()
        # This reads the query, and the fields of a form from what has been written to the content.
        self.content = BytesIO(self.body)
        self.content.seek(0, 2)
        self.requestReceived(self.head.method, self.head.target, self.head.version)

    def answer(self, answer: Answer) -> None:
        self.method = self.head.method
        self.startedWriting = self.finished = 1
        self.code = answer.status
        if self.refusal is None and not self._answered:
            self._tapped(answer.body)
        super().answer(answer)

    def write(self, data: bytes) -> None:
        self._tapped(data)
        super().write(data)

    def _tapped(self, data: bytes) -> None:
        port = self.channel.port
        if port.taps and not self._disconnected:
            port.tapped("out", b"" if self.method == b"HEAD" else data, self.code)

    def connectionLost(self, reason: Failure) -> None:
        Incoming.connectionLost(self, reason)
        Request.connectionLost(self, reason)

    def _cleanup(self) -> None:
        Request._cleanup(self)


class HttpChannel(HTTPChannel):
    """
    Twisted's HTTP channel with a reader of its own, and without a timer.

    Attributes
    ----------
    port
        The service.
    peer, host
        The client, as text, and its IP address where it has one.
    began
        When the first byte of the present request came, on the reactor's clock; None between requests and while an
        answer is awaited.
    active
        When the last bytes came, or the last answer was given.
    at_end
        Whether the client has ended its side, so that nothing more comes.
    """

    port: HttpPort
    timeOut = None
    factory = None
    transport: Any
    _networkProducer: Any

    def __init__(self, port: HttpPort, protocol: HttpServerProtocol) -> None:
        super().__init__()
        self.port = port
        self.site = port.site
        self.began: float | None = None
        self.active = port.reactor.seconds()
        self.at_end = False
        self._protocol = protocol
        self._seconds = port.reactor.seconds
        self._unread = b""
        self._searched = 0
        self._reading = False
        self._is_held = False
        self._request: Incoming | None = None
        self._left = 0
        self._chunks: _ChunkedTransferDecoder | None = None
        self._in_chunks = 0
        self._next_turn: IDelayedCall | None = None

    @property
    def handling(self) -> bool:
        """Whether a complete request waits for its answer."""
        return bool(self._handlingRequest)

    @property
    def progress(self) -> str:
        """How much of the present request has come, in words."""
        request = self._request
        if request is None:
            return "in the middle of the header"
        if request.head.length is None:
            return f"after {request.received} bytes of the body"
        return f"after {request.received} of {request.head.length} bytes of the body"

    @property
    def has_unread(self) -> bool:
        """Whether bytes have come that are no part of a request so far."""
        return bool(self._unread)

    def refuse(self, answer: Answer) -> None:
        """Send an answer before the request is complete, and end the connection."""
        self.port.refused_request(answer, self.peer)
        self._unread = b""
        is_head = self._request is not None and self._request.head.method == b"HEAD"
        self._protocol.linger(answer.to_bytes(close=True, head=is_head))

    def end_input(self) -> None:
        """Take note that nothing more comes; what has come is still answered."""
        self.at_end = True
        self._read()

    def let_go(self) -> None:
        """Let the transport be closed: it waits for a producer that it has paused."""
        if self.transport is not None:
            self._networkProducer.unregisterProducer()

    # What Twisted calls

    def makeConnection(self, transport: Any) -> None:
        self.peer = self._protocol.peer
        # They are asked for with each request, and do not change.
        self._client: IAddress = transport.getPeer()
        self._host: IAddress = transport.getHost()
        self.host: str | None = getattr(self._client, "host", None)
        self.send = sender(transport)
        super().makeConnection(transport)

    def getPeer(self) -> IAddress:
        return self._client

    def getHost(self) -> IAddress:
        return self._host

    def dataReceived(self, data: bytes) -> None:
        self.active = self._seconds()
        self._unread = self._unread + data if self._unread else data
        self._read()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None
        super().connectionLost(reason)

    def pauseProducing(self) -> None:
        self._waitingForTransport = True
        if self._requestProducer is not None:
            self._requestProducer.pauseProducing()
        self._hold()

    def resumeProducing(self) -> None:
        self._waitingForTransport = False
        if self._requestProducer is not None:
            self._requestProducer.resumeProducing()
        self._read()

    # What requests call

    def requestDone(self, request: Incoming) -> None:
        del self.requests[0]
        self.active = self._seconds()
        if self.persistent:
            self._handlingRequest = False
            self._read()
        else:
            self._protocol.finish()

    def loseConnection(self) -> None:
        self._protocol.finish()

    def _respondToBadRequestAndDisconnect(self) -> None:
        # This is all that Twisted's Request has to say about a body that it cannot read.
        self.refuse(Answer(400, "the form in the body is malformed"))

    # How requests are read

    def _read(self) -> None:
        if self._reading or self._next_turn is not None or self._protocol.hanging_up:
            return  # as for the first: an answer was given at once, and the loop below goes on
        self._reading = True
        left = TURN
        try:
            # A client that does not read its answers gets no more of them.
            while (
                self._unread
                and not (self._handlingRequest or self._waitingForTransport or self._protocol.lingering)
                and self._read_some()
            ):
                left -= 1
                if left == 0:
                    self._next_turn = self.port.reactor.callLater(0, self._go_on)
                    break
        except Refused as refused:
            self.refuse(refused.answer)
        finally:
            self._reading = False
        if self._handlingRequest or self._waitingForTransport or self._is_held or left == 0:
            self._hold()
        if self.at_end and not (self._handlingRequest or self._waitingForTransport or self._next_turn is not None):
            self._end()

    def _go_on(self) -> None:
        self._next_turn = None
        self._read()

    def _hold(self) -> None:
        """Leave the next requests with the client, but for a little by which we learn that it goes."""
        hold = len(self._unread) > HEADER_LIMIT if self._handlingRequest else self._waitingForTransport
        hold = hold or self._next_turn is not None
        if hold is not self._is_held and not self._protocol.lingering:
            self._is_held = hold
            if hold:
                self._networkProducer.pauseProducing()
            else:
                self._networkProducer.resumeProducing()

    def _end(self) -> None:
        if self._protocol.lingering:
            return
        if self.began is None:
            self._protocol.finish()
        else:
            self.refuse(Answer(400, f"the request ended early, {self.progress}"))

    def _read_some(self) -> bool:
        """Read a head or some of a body; tell whether there may be more."""
        if self._request is None:
            return self._read_head()
        data, self._unread = self._unread, b""
        if self._chunks is not None:
            self._read_chunks(self._chunks, data)
        elif len(data) < self._left:
            self._left -= len(data)
            self._request.handleContentChunk(data)
        else:
            self._unread = data[self._left :]
            self._request.handleContentChunk(data[: self._left] if self._unread else data)
            self._complete()
        return True

    def _read_chunks(self, chunks: _ChunkedTransferDecoder, data: bytes) -> None:
        request = self._request
        assert request is not None
        self._in_chunks += len(data)
        try:
            chunks.dataReceived(data)
        except _MalformedChunkedDataError:
            raise Refused(Answer(400, f"a chunk is malformed, {self.progress}")) from None
        if self._chunks is None:
            return  # that was the last one
        # Each chunk costs time and memory beside its bytes.
        if self._in_chunks - request.received > HEADER_LIMIT + request.received // 4:
            raise Refused(Answer(400, f"the chunks hold too few bytes for what is around them, {self.progress}"))
        announced = chunks.length if chunks.state == "BODY" else 0
        if request.refusal is None and request.received + announced > self.port.max_size:
            raise Refused(too_long(self.port.max_size))

    def _read_head(self) -> bool:
        if self.began is None:
            if b"\r\n".startswith(self._unread):
                return False
            self.began = self.active
        end = self._unread.find(b"\r\n\r\n", max(0, self._searched - 3))
        if end > HEADER_LIMIT or (end < 0 and len(self._unread) > HEADER_LIMIT):
            raise Refused(Answer(431, f"the header is longer than {HEADER_LIMIT} bytes"))
        if end < 0:
            if self._unread.find(b"\n\n", max(0, self._searched - 1)) >= 0:
                raise Refused(Answer(400, r"the lines of the header end with \n, not with \r\n"))
            self._searched = len(self._unread)
            return False
        # One empty line before a request is overlooked (RFC 9112, section 2.2).
        head = Head.from_bytes(self._unread[:end].removeprefix(b"\r\n"))
        self._unread = self._unread[end + 4 :]
        self._searched = 0
        request = self._request = self.port.request_class(self)
        self.requests.append(request)
        self.persistent = head.keeps_alive()
        request.begin(head)
        expects_continue = b"expect" in head.fields and head.expects_continue()
        if request.refusal is not None and (
            expects_continue
            or head.length is None
            or head.length > DRAIN_LIMIT
            # What comes next would be a body of which nobody knows the end.
            or request.refusal.status == HTTPStatus.LENGTH_REQUIRED
        ):
            raise Refused(request.refusal)
        if expects_continue and head.length != 0 and not self._unread:
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if head.length is None:
            self._in_chunks = 0
            self._chunks = _ChunkedTransferDecoder(request.handleContentChunk, self._chunks_ended)
        elif head.length == 0:
            self._complete()
        else:
            self._left = head.length
            if head.length > READ_SIZE:
                self.transport.bufferSize = READ_SIZE
        return True

    def _chunks_ended(self, unread: bytes) -> None:
        self._chunks = None
        self._unread = unread
        self._complete()

    def _complete(self) -> None:
        request, self._request = self._request, None
        assert request is not None
        self.began = None
        self._handlingRequest = True
        request.complete()


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
        self._limit: IDelayedCall | None = None
        self._unsent = float("inf")

    def begin(self) -> None:
        self.channel.makeConnection(self.transport)
        self._look_again(self.owner.idle_timeout)

    def linger(self, data: bytes) -> None:
        """Send the last answer before the request is complete, and give the client the time to read it."""
        self.transport.write(data)
        self._end(to_be_read=True)

    def finish(self) -> None:
        """End the connection; the last answer has been sent."""
        self._end(to_be_read=self.channel.has_unread)

    def hang_up(self, error: EquipmentConnectionError, abort: bool = True) -> None:
        if not (abort or self.lingering or self.hanging_up):
            self.channel.let_go()
        super().hang_up(error, abort)

    # What Twisted calls

    def dataReceived(self, data: bytes) -> None:
        if not (self.lingering or self.hanging_up):
            self.channel.dataReceived(data)

    def readConnectionLost(self) -> None:
        """Answer what has come, and end the connection."""
        if self.lingering:
            self.transport.loseConnection()
        else:
            self.channel.end_input()

    def writeConnectionLost(self) -> None:
        """Nothing: it is we who ended our side."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._limit is not None and self._limit.active():
            self._limit.cancel()
        if self.channel.transport is not None:
            self.channel.connectionLost(reason)
        super().connectionLost(reason)

    # How it ends

    def _end(self, to_be_read: bool) -> None:
        if self.lingering:
            return
        self.lingering = True
        self._look_again(LINGER_TIME)
        self.channel.let_go()
        # TLS has no half of a connection, but reads until the other side has ended its own.
        has_halves = hasattr(self.transport, "loseWriteConnection") and not INegotiated.providedBy(self.transport)
        if to_be_read and has_halves and not self.channel.at_end:
            self.transport.resumeProducing()
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()

    # How long a client may take

    def _check_time(self) -> None:
        """
        End what takes too long, and look again when the next limit can have passed.

        One call for each connection serves: a request only leaves a note of its time.
        """
        port, channel = self.owner, self.channel
        now = port.reactor.seconds()
        reads = self._is_being_read()
        if self.lingering or self.hanging_up:
            if reads:
                self._look_again(LINGER_TIME)
            else:
                self.hang_up(ConnectionLost(f"{self.peer} does not end a connection that is over"))
            return
        if reads or channel.handling:
            # How long the answer may take is the business of whoever gives it.
            channel.active = now
        silent = channel.active + port.idle_timeout - now
        late = silent if channel.began is None else channel.began + port.request_timeout - now
        if min(silent, late) > 0:
            self._look_again(min(silent, late))
        elif channel.began is None:
            self._look_again(LINGER_TIME)
            self.hang_up(EquipmentTimeout(port.idle_timeout, "a request"), abort=False)
        elif silent <= 0:
            channel.refuse(Answer(408, f"nothing came for {port.idle_timeout:g} s, {channel.progress}"))
        else:
            channel.refuse(Answer(408, f"not complete after {port.request_timeout:g} s, {channel.progress}"))

    def _look_again(self, seconds: float) -> None:
        if self._limit is not None and self._limit.active():
            self._limit.reset(seconds)
        else:
            self._limit = self.owner.reactor.callLater(seconds, self._check_time)

    def _is_being_read(self) -> bool:
        """Tell whether the client has taken some of what waits to be sent, since the last time."""
        transport = self.transport
        while hasattr(transport, "wrappedProtocol"):
            transport = transport.transport
        if not isinstance(transport, FileDescriptor):
            return False
        before, self._unsent = self._unsent, len(transport.dataBuffer) - transport.offset + transport._tempDataLen
        return 0 < self._unsent < before
