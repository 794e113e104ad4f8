"""One request to an HTTP server and its answer, over one socket; what takes too long or is too long ends it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from OpenSSL.SSL import Error as SSLError
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionClosed, ConnectionDone
from twisted.internet.interfaces import IConsumer, IDelayedCall, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from equipnet.errors import (
    ConnectFailed,
    ConnectionLost,
    EquipmentError,
    EquipmentTimeout,
    LocalProtocolError,
    MessageTooLong,
    RemoteProtocolError,
)
from equipnet.http.digest import Authorization
from equipnet.http.pool import HEAD_LIMIT

if TYPE_CHECKING:
    from equipnet.http.client import HttpClient

#: Bytes that are kept of an answer which is not asked for, such as that of an error; and read, to keep the socket.
EXCERPT, REST_LIMIT = 1024, 1 << 16


@dataclass(frozen=True)
class Request:
    """
    A request, as taps see it.

    Parameters
    ----------
    method
        ``"GET"``.
    path
        The path and the query.
    """

    method: str
    path: str


@dataclass(frozen=True)
class Response:
    """
    A server's answer.

    Parameters
    ----------
    status, reason
        Such as 200 and ``"OK"``.
    headers
        Their values by their names in small letters.
    body
        All of it, or nothing where it is passed on while it arrives.
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes = field(default=b"", repr=False)


#: Takes the pieces of an answer's body as they arrive.
Receive = Callable[[bytes], object]


class Plan:
    """One request, and how far it has come."""

    def __init__(
        self,
        method: str,
        path: str,
        uri: str,
        body: bytes | None,
        headers: Mapping[str, str],
        repeatable: bool,
    ) -> None:
        self.method = method
        self.path = path
        self.uri = uri
        self.body = body
        self.headers = headers
        self.repeatable = repeatable
        self.begin: Callable[[Response], Receive] | None = None
        self.is_wanted = True
        # How much may come of an answer that nobody asked for.
        self.rest_limit = REST_LIMIT
        self.waiting_for = "a connection"
        # Of the head of the answer, and then of its body. Not a list: pieces may be of a byte each.
        self.received = bytearray()


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class Exchange:
    """
    One request and its answer, over a socket of the pool or a new one.

    It is the agent's endpoint itself, so that it knows which socket it got.
    """

    def __init__(self, client: HttpClient, plan: Plan, said: Authorization | None) -> None:
        self._client = client
        self._plan = plan
        self._said = said
        self._socket: Any = None  # Socket | None
        self._asked: Deferred[IResponse] | None = None
        self._answered: Deferred[tuple[Response, list[bytes]]] = Deferred(lambda _: self._abort())
        self._over = False
        self._timer: IDelayedCall | None = None
        self._deadline = 0.0
        self._seconds = 0.0
        self._size = 0
        self._head: Response | None = None
        self._challenges: list[bytes] = []
        self._receive: Receive | None = None
        self._limit = 0
        self._is_wanted = False
        #: Whether the socket was made for this request.
        self.is_new = False
        #: Whether any of an answer has arrived.
        self.something_came = False

    def start(self) -> Deferred[tuple[Response, list[bytes]]]:
        plan, client = self._plan, self._client
        plan.received = bytearray()
        headers = Headers()
        for name, value in plan.headers.items():
            headers.addRawHeader(name, value)
        if self._said is not None:
            headers.addRawHeader(b"Authorization", self._said.value)
        producer = None if plan.body is None else _Body(plan.body)
        agent = Agent.usingEndpointFactory(client.reactor, self, client.pool)
        try:
            self._asked = agent.request(plan.method.encode(), plan.uri.encode("ascii"), headers, producer)
        except ValueError as error:
            self._forget()
            return fail(LocalProtocolError(f"{plan.path!r} cannot be asked for: {error}"))
        self._asked.addCallbacks(self._head_came, self._failed)
        return self._answered

    def fail(self, error: EquipmentError) -> None:
        """End it with ``error``, unless it has ended."""
        if not self._over:
            self._abort()
            self._answered.errback(error)

    # What the agent and the pool call

    def endpointForURI(self, uri: URI) -> Exchange:
        return self

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        self.is_new = True
        self._wait(self._client.connect_timeout, f"a connection to {self._client.address}")
        return self._client.pool.connect(protocolFactory).addErrback(self._not_connected)

    def got(self, connection: Any) -> Any:
        """Take note of the socket; the request is sent next."""
        self._socket = connection.transport
        self._socket.serve(self)
        self._wait(self._client.answer_timeout, f"the answer to {self._plan.method} {self._plan.path}")
        return connection

    # What comes

    def _head_came(self, response: Any) -> None:
        if self._over:
            return
        plan, client = self._plan, self._client
        self._socket.serve(None)
        plan.received = bytearray()
        names = response.headers.getAllRawHeaders()
        headers = {name.decode("latin-1").lower(): b", ".join(values).decode("latin-1") for name, values in names}
        self._head = Response(response.code, response.phrase.decode("latin-1"), headers)
        self._challenges = response.headers.getRawHeaders(b"www-authenticate", [])
        self._is_wanted = plan.is_wanted and 200 <= response.code < 300
        self._limit = client.max_size if self._is_wanted else plan.rest_limit
        if self._is_wanted and plan.begin is not None:
            try:
                self._receive = plan.begin(self._head)
            except Exception as error:
                self._raised(error)
            if self._over:
                return
        elif self._is_wanted and response.length is not UNKNOWN_LENGTH and response.length > self._limit:
            self.fail(self._too_long(f"{response.length} bytes"))
            return
        self._wait(client.silence_timeout, f"the rest of the answer to {plan.method} {plan.path}")
        response.deliverBody(_BodyReader(self))

    def body_came(self, data: bytes) -> None:
        if self._over:
            return
        self._deadline = self._client.reactor.seconds() + self._seconds
        if self._receive is not None:
            try:
                self._receive(data)
            except Exception as error:
                self._raised(error)
            return
        self._size += len(data)
        if self._size > self._limit:
            if self._is_wanted:
                self.fail(self._too_long("more"))
            else:
                # What nobody asked for is not worth waiting for its end.
                self._abort()
                self._succeed()
        elif self._is_wanted:
            self._plan.received += data
        else:
            self._plan.received += data[: EXCERPT - len(self._plan.received)]

    def body_ended(self, reason: Failure) -> None:
        if self._over:
            return
        # An answer without a length ends with its connection.
        if reason.check(ResponseDone, PotentialDataLoss):
            self._forget()
            self._succeed()
        else:
            self._failed(reason)

    def head_came(self, data: bytes) -> None:
        self.something_came = True
        self._plan.received += data

    def head_too_long(self) -> None:
        self.fail(MessageTooLong(f"{self._client.url} sent a head of more than {HEAD_LIMIT} bytes"))

    # How it ends

    def _succeed(self) -> None:
        assert self._head is not None
        response = replace(self._head, body=bytes(self._plan.received))
        self._answered.callback((response, self._challenges))

    def _failed(self, reason: Failure) -> None:
        if self._over:
            return
        self._forget()
        self._answered.errback(self._error(reason))

    def _raised(self, error: Exception) -> None:
        # What raised may have cancelled the request before.
        if not self._over:
            self._abort()
            self._answered.errback(error)

    def _abort(self) -> None:
        self._forget()
        if self._head is not None:
            self._socket.abortConnection()
        elif self._asked is not None:
            self._asked.cancel()

    def _forget(self) -> None:
        self._over = True
        if self._socket is not None and self._head is None:
            self._socket.serve(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _error(self, reason: Failure) -> BaseException:
        """Give our error for one of Twisted's."""
        error: Any = reason.value
        if isinstance(error, EquipmentError):
            return error
        # Twisted's own say "something failed for one of these reasons".
        while getattr(error, "reasons", None):
            error = error.reasons[0].value
        where = self._client.url
        socket = self._socket
        if isinstance(error, ConnectionDone) and socket is not None and socket.disconnecting and self._head is None:
            # Nobody but LineReceiver closes it there.
            return RemoteProtocolError(f"{where} sent a line that is too long in the head of its answer")
        if isinstance(error, (ConnectionClosed, SSLError, OSError)):
            cause = (socket and socket.cause.error) or error
            if isinstance(error, ConnectionDone):
                lost = ConnectionLost(f"{where} closed the connection before the end of its answer")
            else:
                lost = ConnectionLost(f"The connection to {where} was lost: {_text(cause)}")
            lost.__cause__ = cause
            return lost
        broken = RemoteProtocolError(f"{where} sent what is not HTTP: {_text(error)}")
        broken.__cause__ = error
        return broken

    def _too_long(self, size: str) -> MessageTooLong:
        what = f"{self._plan.method} {self._client.url}{self._plan.path}"
        return MessageTooLong(f"The answer to {what} has {size}, over the limit of {self._limit} bytes")

    # What takes too long

    def _not_connected(self, reason: Failure) -> None:
        error = ConnectFailed(f"Cannot connect to {self._client.url}: {_text(reason.value)}")
        raise error from reason.value

    def _wait(self, seconds: float, waiting_for: str) -> None:
        self._plan.waiting_for = waiting_for
        self._seconds = seconds
        reactor = self._client.reactor
        self._deadline = reactor.seconds() + seconds
        # It is not moved for each piece that arrives, but looks at the deadline when it goes off.
        if self._timer is None:
            self._timer = reactor.callLater(seconds, self._look)
        elif self._timer.getTime() > self._deadline:
            self._timer.reset(seconds)

    def _look(self) -> None:
        self._timer = None
        left = self._deadline - self._client.reactor.seconds()
        if left > 0:
            self._timer = self._client.reactor.callLater(left, self._look)
        else:
            self.fail(EquipmentTimeout(self._seconds, self._plan.waiting_for, bytes(self._plan.received)))


@implementer(IBodyProducer)
class _Body:
    """The body of a request, which is in memory anyway, in one piece."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Nothing: there is one piece."""

    def resumeProducing(self) -> None:
        """Nothing, as `pauseProducing`."""

    def stopProducing(self) -> None:
        """Nothing, as `pauseProducing`."""


class _BodyReader(Protocol):
    """Gives the body of an answer to its exchange."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def dataReceived(self, data: bytes) -> None:
        self._exchange.body_came(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._exchange.body_ended(reason)


def _text(error: Any) -> str:
    return Failure(error).getErrorMessage() or type(error).__name__
