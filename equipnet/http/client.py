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
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.web.client import URI

from equipnet.connection.address import Address
from equipnet.connection.tls import TLS
from equipnet.errors import (
    AddressError,
    AuthenticationFailed,
    ConnectionLost,
    EquipmentConnectionError,
    EquipmentError,
    EquipmentTimeout,
    LocalProtocolError,
    QueueFull,
)
from equipnet.http.digest import Authorization, Login
from equipnet.http.exchange import Exchange, Plan, Receive, Response
from equipnet.http.pool import Pool
from equipnet.http.size import parse_size

#: Seconds for a connection to be made; from then on for the head of an answer; between its bytes; for a whole request.
CONNECT_TIMEOUT, ANSWER_TIMEOUT, SILENCE_TIMEOUT, TIMEOUT = 5.0, 10.0, 5.0, 30.0

#: Bytes that an answer may have.
MAX_SIZE = 32 << 20

#: How many requests may be under way at once, and how many may wait for their turn.
MAX_REQUESTS, QUEUE_LIMIT = 8, 100


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
        self._login: Login | None = None
        if username is not None and password is not None:
            self._login = Login(username, password, basic=secure or basic_over_http)
        self.pool = Pool(self.address, tls, max_requests, reactor)
        self._running = 0
        self._waiting: deque[Deferred[None]] = deque()
        self._giving_turns = False
        self._exchanges: set[Exchange] = set()

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
        # Who hears of it may cancel others.
        while waiting:
            waiting.popleft().errback(error)
        for exchange in tuple(self._exchanges):
            exchange.fail(error)
        return self.pool.close()

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
    ) -> Plan:
        scheme = "https" if self.address.scheme == "tls" else "http"
        host = f"[{self.address.host}]" if ":" in self.address.host else self.address.host
        uri = f"{scheme}://{host}:{self.address.port}{self._path}{path}"
        if repeatable is None:
            repeatable = method in ("GET", "HEAD")
        return Plan(method, path, uri, body, headers or {}, repeatable)

    def _within(self, seconds: float, plan: Plan, steps: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        def late(result: Any, seconds: float) -> Any:
            if isinstance(result, Failure) and result.check(CancelledError):
                raise EquipmentTimeout(seconds, plan.waiting_for, bytes(plan.received))
            return result

        return Deferred.fromCoroutine(steps).addTimeout(seconds, self.reactor, onTimeoutCancel=late)

    async def _in_turn(self, plan: Plan) -> Response:
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

    async def _probe(self, plan: Plan) -> int:
        answer = await self._ask(plan)
        if 200 <= answer.status < 400:
            return answer.status
        raise self._status(plan, answer)

    async def _stream(self, plan: Plan) -> None:
        self._good(plan, await self._ask(plan))

    def _good(self, plan: Plan, answer: Response) -> Response:
        if 200 <= answer.status < 300:
            return answer
        raise self._status(plan, answer)

    def _status(self, plan: Plan, answer: Response) -> HttpStatus:
        return HttpStatus(f"{plan.method} {self.url}{plan.path}", answer.status, answer.reason, answer.body)

    async def _ask(self, plan: Plan) -> Response:
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

    async def _send(self, plan: Plan, said: Authorization | None) -> tuple[Response, list[bytes]]:
        while True:
            exchange = Exchange(self, plan, said)
            self._exchanges.add(exchange)
            try:
                return await exchange.start()
            except ConnectionLost:
                # The server had closed a socket of the pool; the others may be closed as well, a new one is not.
                if exchange.is_new or exchange.something_came or not plan.repeatable:
                    raise
            finally:
                self._exchanges.discard(exchange)


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
