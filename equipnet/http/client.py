"""
Requests to one HTTP server: over a few sockets that are kept open, within limits of time and size, with our name and
password.

It stands on Twisted's `Agent`. A treq client would follow redirects, keep cookies and take an answer of any size, none
of which equipment may make us do.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from OpenSSL.SSL import Error as SSLError
from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred, succeed
from twisted.internet.error import ConnectionClosed, ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IDelayedCall,
    IHandshakeListener,
    INegotiated,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from equipnet.connection.address import Address
from equipnet.connection.endpoint import client_endpoint
from equipnet.connection.protocol import set_options
from equipnet.connection.tcp import Cause
from equipnet.connection.tls import TLS
from equipnet.errors import (
    AddressError,
    AuthenticationFailed,
    ConnectFailed,
    ConnectionLost,
    EquipmentConnectionError,
    EquipmentError,
    EquipmentTimeout,
    LocalProtocolError,
    MessageTooLong,
    QueueFull,
    RemoteProtocolError,
)
from equipnet.http.digest import Authorization, Login
from equipnet.http.size import parse_size

#: Seconds for a connection to be made; from then on for the head of an answer; between its bytes; for a whole request.
CONNECT_TIMEOUT, ANSWER_TIMEOUT, SILENCE_TIMEOUT, TIMEOUT = 5.0, 10.0, 5.0, 30.0

#: Bytes that an answer may have, and its head.
MAX_SIZE, HEAD_LIMIT = 32 << 20, 1 << 16

#: How many requests may be under way at once, and how many may wait for their turn.
MAX_REQUESTS, QUEUE_LIMIT = 8, 100

#: Bytes that are kept of an answer which is not asked for, such as that of an error; and read, to keep the socket.
EXCERPT, REST_LIMIT = 1024, 1 << 16

#: Seconds for which a socket that nobody uses is kept; many servers close theirs after less.
KEPT_FOR = 60.0


class HttpStatus(EquipmentError):
    """
    A server answered a request with a status that is no success.

    Parameters
    ----------
    what
        The request, in words.
    status
        The number, such as 404.
    reason
        What the server calls it.
    excerpt
        The beginning of the body.
    """

    def __init__(self, what: str, status: int, reason: str, excerpt: bytes) -> None:
        said = " ".join(excerpt.decode("utf-8", "replace").split())[:200]
        super().__init__(f"{what}: {status} {reason}" + (f": {said}" if said else ""))
        self.status = status
        self.excerpt = excerpt


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


class HttpClient:
    """
    One server, and the sockets to it.

    Parameters
    ----------
    url
        ``"http://HOST[:PORT][/PATH]"`` or ``"https://..."``; the path comes before that of every request.
    username, password
        Who we are, where the server asks for that; by Digest, or by Basic.
    basic_over_http
        Send the password as it is over plain HTTP too, where the server asks for that.
    tls
        What ``https`` needs beside the host name.
    connect_timeout
        Seconds for a connection to be made, name resolution included.
    answer_timeout
        Seconds from then on for an answer to begin.
    silence_timeout
        Seconds between two pieces of an answer.
    timeout
        Seconds for a whole request, its turn included.
    max_size
        How many bytes an answer may have; a number, or a text such as ``"20 MiB"``.
    max_requests
        How many requests may be under way at once; so many sockets are kept.
    queue_limit
        How many requests may wait for their turn.
    reactor
        Where it lives.

    Raises
    ------
    AddressError
        When ``url`` is none.
    ValueError
        When another argument makes no sense.
    """

    def __init__(
        self,
        url: str,
        *,
        username: str | None = None,
        password: str | None = None,
        basic_over_http: bool = False,
        tls: TLS | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        answer_timeout: float = ANSWER_TIMEOUT,
        silence_timeout: float = SILENCE_TIMEOUT,
        timeout: float = TIMEOUT,
        max_size: int | str = MAX_SIZE,
        max_requests: int = MAX_REQUESTS,
        queue_limit: int = QUEUE_LIMIT,
        reactor: Any,
    ) -> None:
        self.address, self._path = parse_url(url)
        self.url = url.rstrip("/")
        secure = self.address.scheme == "tls"
        if tls is not None and not secure:
            raise ValueError(f"TLS options are for a URL that begins with https:, not for {url}")
        if (username is None) != (password is None):
            raise ValueError("username and password go together")
        for name, seconds in (
            ("connect_timeout", connect_timeout),
            ("answer_timeout", answer_timeout),
            ("silence_timeout", silence_timeout),
            ("timeout", timeout),
        ):
            if not 0 < seconds < math.inf:
                raise ValueError(f"{name} is {seconds}, not above 0 seconds")
        self.max_size = parse_size(max_size)
        for name, number, least in (
            ("max_size", self.max_size, 1),
            ("max_requests", max_requests, 1),
            ("queue_limit", queue_limit, 0),
        ):
            if number < least:
                raise ValueError(f"{name} is {number}, less than {least}")
        self.connect_timeout = connect_timeout
        self.answer_timeout = answer_timeout
        self.silence_timeout = silence_timeout
        self.timeout = timeout
        self.max_requests = max_requests
        self.queue_limit = queue_limit
        self.reactor = reactor
        self._tls = tls
        self._login: Login | None = None
        if username is not None and password is not None:
            self._login = Login(username, password, basic=secure or basic_over_http)
        self._pool = _Pool(reactor)
        self._pool.maxPersistentPerHost = max_requests
        self._running = 0
        self._waiting: deque[Deferred[None]] = deque()
        self._giving_turns = False
        self._exchanges: set[_Exchange] = set()
        self._sockets: set[_Socket] = set()
        self._closing: list[Deferred[None]] = []

    # What callers use

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool | None = None,
        timeout: float | None = None,
    ) -> Deferred[Response]:
        """
        Make a request.

        Parameters
        ----------
        method
            ``"GET"``.
        path
            The path, and the query if there is one.
        body
            What to send.
        headers
            What else to say in the head.
        repeatable
            Whether it may be sent again when a socket turns out to have been closed by the server before it answered
            anything; what does no harm when it is done twice. Where nothing is given, GET and HEAD may.
        timeout
            Seconds instead of the client's ``timeout``.

        Returns
        -------
        Deferred[Response]
            Fails with `HttpStatus` when the status is not 200 to 299 (redirects are not followed),
            `AuthenticationFailed`, `ConnectFailed`, `ConnectionLost`, `EquipmentTimeout`, `MessageTooLong`,
            `RemoteProtocolError` when what comes is not HTTP, `QueueFull`, `LocalProtocolError` when the request cannot
            be sent, and with what `close` was called with. Cancelled, it is aborted.
        """
        plan = self._plan(method, path, body, headers, repeatable)
        return self._within(timeout or self.timeout, plan, self._in_turn(plan))

    def probe(self, path: str) -> Deferred[int]:
        """
        Ask for ``path`` without waiting for a turn, and throw away what it has.

        Returns
        -------
        Deferred[int]
            The status, if it is less than 400; fails as `request` otherwise.
        """
        plan = self._plan("GET", path, None, None, None)
        plan.is_wanted = False
        plan.rest_limit = self.max_size
        return self._within(self.timeout, plan, self._probe(plan))

    def stream(self, path: str, begin: Callable[[Response], Receive]) -> Deferred[None]:
        """
        Ask for a body that is passed on while it arrives, however long it is and takes; it does not wait for a turn.

        Parameters
        ----------
        path
            As `request`.
        begin
            Called with the answer's head; gives what is called with each piece of the body. What either raises ends
            the request.

        Returns
        -------
        Deferred[None]
            Fires when the server ends the body. Fails as `request`, and with what was raised.
        """
        plan = self._plan("GET", path, None, None, None)
        plan.begin = begin
        return Deferred.fromCoroutine(self._stream(plan))

    def close(self, error: EquipmentConnectionError) -> Deferred[None]:
        """
        Fail everything that is under way with ``error``, and close all sockets.

        Returns
        -------
        Deferred[None]
            Fires when the last socket is closed.
        """
        waiting, self._waiting = self._waiting, deque()
        for turn in waiting:
            turn.errback(error)
        for exchange in tuple(self._exchanges):
            exchange.fail(error)
        self._pool.closeCachedConnections()
        for socket in tuple(self._sockets):
            socket.abortConnection()
        if not self._sockets:
            return succeed(None)
        closed: Deferred[None] = Deferred()
        self._closing.append(closed)
        return closed

    def __repr__(self) -> str:
        return f"<HttpClient {self.url}>"

    # How a request goes

    def _plan(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        repeatable: bool | None,
    ) -> _Plan:
        scheme = "https" if self.address.scheme == "tls" else "http"
        host = f"[{self.address.host}]" if ":" in self.address.host else self.address.host
        uri = f"{scheme}://{host}:{self.address.port}{self._path}{path}"
        if repeatable is None:
            repeatable = method in ("GET", "HEAD")
        return _Plan(method, path, uri, body, headers or {}, repeatable)

    def _within(self, seconds: float, plan: _Plan, steps: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        def late(result: Any, seconds: float) -> Any:
            if isinstance(result, Failure) and result.check(CancelledError):
                raise EquipmentTimeout(seconds, plan.waiting_for, bytes(plan.body_so_far))
            return result

        return Deferred.fromCoroutine(steps).addTimeout(seconds, self.reactor, onTimeoutCancel=late)

    async def _in_turn(self, plan: _Plan) -> Response:
        if self._running < self.max_requests and not self._waiting:
            self._running += 1
        elif len(self._waiting) >= self.queue_limit:
            raise QueueFull(f"{self.url}: {self.queue_limit} requests wait for their turn already")
        else:
            plan.waiting_for = "its turn"
            turn: Deferred[None] = Deferred(self._waiting.remove)
            self._waiting.append(turn)
            await turn
        try:
            return self._good(plan, await self._ask(plan))
        finally:
            self._running -= 1
            self._give_turns()

    def _give_turns(self) -> None:
        # One after the other, however many end as soon as they begin.
        if not self._giving_turns:
            self._giving_turns = True
            while self._waiting and self._running < self.max_requests:
                self._running += 1
                self._waiting.popleft().callback(None)
            self._giving_turns = False

    async def _probe(self, plan: _Plan) -> int:
        answer = await self._ask(plan)
        if 200 <= answer.status < 400:
            return answer.status
        raise self._status(plan, answer)

    async def _stream(self, plan: _Plan) -> None:
        self._good(plan, await self._ask(plan))

    def _good(self, plan: _Plan, answer: Response) -> Response:
        if 200 <= answer.status < 300:
            return answer
        raise self._status(plan, answer)

    def _status(self, plan: _Plan, answer: Response) -> HttpStatus:
        return HttpStatus(f"{plan.method} {self.url}{plan.path}", answer.status, answer.reason, answer.body)

    async def _ask(self, plan: _Plan) -> Response:
        """Send a request, and once more when the server wants to know who we are."""
        try:
            # As the agent sends it: it is signed.
            target = URI.fromBytes(plan.uri.encode("ascii")).originForm.decode("ascii")
        except ValueError as error:
            raise LocalProtocolError(f"{plan.path!r} cannot be asked for: {error}") from error
        login = self._login
        said = None if login is None else login.authorization(plan.method, target)
        answer, challenges = await self._send(plan, said)
        if answer.status != 401:
            return answer
        try:
            if login is None:
                raise AuthenticationFailed("the server wants a name and a password")
            said = login.answer(challenges, plan.method, target, said)
            answer, _ = await self._send(plan, said)
            if answer.status == 401:
                raise login.refused()
        except AuthenticationFailed as error:
            raise AuthenticationFailed(f"{self.url}: {error}") from None
        return answer

    async def _send(self, plan: _Plan, said: Authorization | None) -> tuple[Response, list[bytes]]:
        while True:
            exchange = _Exchange(self, plan, said)
            try:
                return await exchange.start()
            except ConnectionLost:
                # The server had closed a socket of the pool; the others may be closed as well, a new one is not.
                if exchange.is_new or exchange.something_came or not plan.repeatable:
                    raise

    # What the sockets tell

    def _opened(self, socket: _Socket) -> None:
        self._sockets.add(socket)

    def _gone(self, socket: _Socket) -> None:
        self._sockets.discard(socket)
        if not self._sockets:
            closing, self._closing = self._closing, []
            for closed in closing:
                closed.callback(None)


def parse_url(url: str) -> tuple[Address, str]:
    """
    Give where a URL's server is, and the path that comes before all others.

    Raises
    ------
    AddressError
        When it is not of the form ``http[s]://HOST[:PORT][/PATH]``. A name and a password in it are refused without
        being shown.
    """
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise AddressError(f"A URL is not right: {error}") from None
    if "@" in parts.netloc:
        raise AddressError("A URL has a name or a password in it; give them as username and password")
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or not url.isascii():
        raise AddressError(f"{url!r} is not of the form http[s]://HOST[:PORT][/PATH]")
    secure = parts.scheme == "https"
    if port is None:
        port = 443 if secure else 80
    if not port:
        raise AddressError(f"{url!r} has the port 0")
    return Address("tls" if secure else "tcp", host, port), parts.path.rstrip("/")


class _Plan:
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
        # Not a list: pieces may be of a byte each.
        self.body_so_far = bytearray()


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class _Exchange:
    """
    One request and its answer, over a socket of the pool or a new one.

    It is the agent's endpoint itself, so that it knows which socket it got.
    """

    def __init__(self, client: HttpClient, plan: _Plan, said: Authorization | None) -> None:
        self._client = client
        self._plan = plan
        self._said = said
        self._socket: Any = None  # _Socket | None
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
        plan.body_so_far = bytearray()
        client._exchanges.add(self)
        headers = Headers()
        for name, value in plan.headers.items():
            headers.addRawHeader(name, value)
        if self._said is not None:
            headers.addRawHeader(b"Authorization", self._said.value)
        producer = None if plan.body is None else _Body(plan.body)
        agent = Agent.usingEndpointFactory(client.reactor, self, client._pool)
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

    def endpointForURI(self, uri: URI) -> _Exchange:
        return self

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        self.is_new = True
        client = self._client
        self._wait(client.connect_timeout, f"a connection to {client.address}")
        factory = _SocketFactory(protocolFactory, client)
        connected: Deferred[Any] = maybeDeferred(lambda: self._endpoint().connect(factory))
        connected.addCallback(lambda socket: socket.when_up())
        return connected.addCallbacks(lambda socket: socket.wrappedProtocol, self._not_connected)

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
        self.something_came = True
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
            self._plan.body_so_far += data
        else:
            self._plan.body_so_far += data[: EXCERPT - len(self._plan.body_so_far)]

    def body_ended(self, reason: Failure) -> None:
        if self._over:
            return
        # An answer without a length ends with its connection.
        if reason.check(ResponseDone, PotentialDataLoss):
            self._forget()
            self._succeed()
        else:
            self._failed(reason)

    def head_too_long(self) -> None:
        self.fail(MessageTooLong(f"{self._client.url} sent a head of more than {HEAD_LIMIT} bytes"))

    # How it ends

    def _succeed(self) -> None:
        assert self._head is not None
        response = replace(self._head, body=bytes(self._plan.body_so_far))
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
        self._client._exchanges.discard(self)
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

    # How it connects, and what takes too long

    def _endpoint(self) -> IStreamClientEndpoint:
        return client_endpoint(self._client.address, self._client.reactor, tls=self._client._tls)

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
            self.fail(EquipmentTimeout(self._seconds, self._plan.waiting_for, bytes(self._plan.body_so_far)))


class _Pool(HTTPConnectionPool):
    """Twisted's pool, which tells each request the socket that it got."""

    # It would try one socket again, and never with a body.
    retryAutomatically = False
    cachedConnectionTimeout = KEPT_FOR  # type: ignore[assignment]  # seconds need not be whole

    def getConnection(self, key: Any, endpoint: Any) -> Deferred[Any]:
        return super().getConnection(key, endpoint).addCallback(endpoint.got)


class _SocketFactory(WrappingFactory[Any]):
    noisy = False

    def __init__(self, wrapped: Any, client: HttpClient) -> None:
        super().__init__(wrapped)
        self.client = client

    def buildProtocol(self, addr: IAddress | None) -> _Socket:
        return _Socket(self, self.wrappedFactory.buildProtocol(addr))


@implementer(IHandshakeListener)
class _Socket(ProtocolWrapper):
    """One socket: known to the client as long as it is open, and with a limit for the head of an answer."""

    factory: Any
    transport: Any
    cause: Cause
    _exchange: _Exchange | None = None
    _head = 0
    _up: Deferred[_Socket] | None = None

    def when_up(self) -> Deferred[_Socket]:
        """Wait for the TLS handshake where there is one; cancelled, it closes the socket."""
        if not INegotiated.providedBy(self.transport):
            return succeed(self)
        self._up = Deferred(self._cancelled)
        return self._up

    def _cancelled(self, up: Deferred[_Socket]) -> None:
        self._up = None
        self.abortConnection()

    def serve(self, exchange: _Exchange | None) -> None:
        """Take note of whose answer begins next; nobody's when its head is complete."""
        self._exchange = exchange
        self._head = 0

    def makeConnection(self, transport: Any) -> None:
        set_options(transport)
        self.cause = Cause(transport)
        self.factory.client._opened(self)
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is not None:
            exchange.something_came = True
            # What came with the end of the head does not count.
            if self._head > HEAD_LIMIT:
                exchange.head_too_long()
                return
            self._head += len(data)
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
        self.factory.client._gone(self)


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

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange

    def dataReceived(self, data: bytes) -> None:
        self._exchange.body_came(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._exchange.body_ended(reason)


def _text(error: Any) -> str:
    return Failure(error).getErrorMessage() or type(error).__name__
