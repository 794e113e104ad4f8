"""The life of a connection to an HTTP server: whether it is there is found out by asking it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure
from zope.interface import implementer

from equipnet.connection.retry import RetryPolicy
from equipnet.connection.service import RetryingConnection
from equipnet.connection.state import Event, State
from equipnet.errors import (
    AuthenticationFailed,
    ConnectFailed,
    ConnectionLost,
    Disconnected,
    EquipmentConnectionError,
    EquipmentTimeout,
    NotConnected,
    QueueFull,
)
from equipnet.http.client import HttpClient, HttpStatus
from equipnet.http.exchange import Receive, Request, Response
from equipnet.interfaces import IConnection

#: Seconds of silence after which a server is asked whether it is there.
PROBE_INTERVAL = 30.0

#: Seconds between two tries at least, after one that was refused for the name or the password: devices lock those out
#: who go on trying.
REFUSED_DELAY = 10.0


@implementer(IConnection)
class HttpConnection(RetryingConnection):
    """
    A connection to an HTTP server: READY as long as the server answers.

    It connects by a probe: a GET with a status below 400. While it is READY the probe is repeated whenever nothing was
    heard of the server for a while, and at once when a request failed for want of a connection or of time; when that
    fails too the connection is lost, and probes go on as the retry policy says. Requests that are under way are left to
    their own limits, unless the policy gives up: a server that answers some of them is answering.

    Parameters
    ----------
    url
        Where the server is (see `equipnet.http.client.HttpClient`).
    name
        What the connection is called; the URL where nothing is given.
    probe_path
        What is asked for.
    probe_interval
        Seconds without an answer until the next probe.
    retry
        When to try again.
    reactor
        Where it lives; the installed one where nothing is given.
    settings
        The other arguments of `equipnet.http.client.HttpClient`.
    """

    kind = "http"

    def __init__(
        self,
        url: str,
        *,
        name: str | None = None,
        probe_path: str = "/",
        probe_interval: float = PROBE_INTERVAL,
        retry: RetryPolicy | None = None,
        reactor: Any = None,
        **settings: Any,
    ) -> None:
        super().__init__(name or url, retry, reactor)
        if not 0 < probe_interval < float("inf"):
            raise ValueError(f"probe_interval is {probe_interval}, not above 0 seconds")
        self.client = HttpClient(url, reactor=self.reactor, **settings)
        self.peer = self.client.url
        self.probe_path = probe_path
        self.probe_interval = probe_interval
        self._probing: Deferred[Any] | None = None
        # How many more probes may fail until a READY connection is lost.
        self._chances = 0
        self._heard_at = 0.0
        self._next_probe: IDelayedCall | None = None

    # What users call

    def request(self, method: str, path: str, **options: Any) -> Deferred[Response]:
        """
        Make a request.

        While an attempt to connect is under way it waits for that.

        Parameters
        ----------
        method, path, options
            As `equipnet.http.HttpClient.request`.

        Returns
        -------
        Deferred[Response]
            Fails as there, with `NotConnected` at once while nothing is connected, with the error of the attempt that
            it waited for, and with `Disconnected` when our side ends the connection.
        """
        return Deferred.fromCoroutine(self._request(method, path, options))

    def receive(self, path: str, begin: Callable[[Response], Receive]) -> Deferred[None]:
        """
        Ask for a body that is passed on while it arrives.

        The parameters and the result are those of `equipnet.http.HttpClient.stream`; beside, it waits and fails
        as `request`.
        """
        return Deferred.fromCoroutine(self._receive(path, begin))

    def reconnect(self, max_attempts: int | None = 1) -> Deferred[Any]:
        self.disconnect()
        return self.connect(max_attempts)

    def retry_delay(self, failures: int) -> float:
        delay = super().retry_delay(failures)
        return max(delay, REFUSED_DELAY) if isinstance(self.last_error, AuthenticationFailed) else delay

    # How a request goes

    async def _request(self, method: str, path: str, options: Any) -> Response:
        await self._usable(Request(method, path), options.get("body") or b"")
        response: Response = await self._heeded(self.client.request(method, path, **options))
        if self.taps:
            self.tapped("in", response.body, response)
        return response

    async def _receive(self, path: str, begin: Callable[[Response], Receive]) -> None:
        def begin_and_heed(head: Response) -> Receive:
            receive = begin(head)
            if self.taps:
                self.tapped("in", b"", head)

            def heed(data: bytes) -> None:
                self._heard()
                receive(data)

            return heed

        await self._usable(Request("GET", path), b"")
        await self._heeded(self.client.stream(path, begin_and_heed))
        # A server that goes away ends such a body as one that has said everything.
        self._doubt()

    async def _usable(self, request: Request, body: bytes) -> None:
        """Wait until a request can be made, and show it to the taps."""
        if self.state in (State.CONNECTING, State.CONNECTED):
            if len(self._waiting) >= self.client.queue_limit:
                raise QueueFull(f"{self.name}: {len(self._waiting)} wait for the connection already")
            await self._wait(1)
        if self.taps and self.state is State.READY:
            self.tapped("out", body, request)  # which may end it
        if self.state is not State.READY:
            raise NotConnected(f"{self.name} is not connected: {self.last_error or self.state.value}")

    async def _heeded(self, answer: Deferred[Any]) -> Any:
        """Wait for an answer, and take note of what it says about the server."""
        try:
            value = await answer
        except (ConnectFailed, ConnectionLost, EquipmentTimeout):
            self._doubt()
            raise
        except HttpStatus:
            self._heard()
            raise
        self._heard()
        return value

    # How it is found out whether the server is there

    def _attempt(self) -> None:
        self._machine.move(Event.CONNECT, f"asking {self.peer}{self.probe_path}")
        if self.state is State.CONNECTING and self._probing is None:  # an observer may have ended it, or begun anew
            self._probe()

    def _probe(self) -> None:
        self._probing = self.client.probe(self.probe_path)
        self._probing.addCallbacks(self._answered, self._unanswered)

    def _answered(self, status: int) -> None:
        self._probing = None
        self._heard()
        self._worked()
        if self.state is State.CONNECTING:
            self._machine.move(Event.MADE, f"{self.peer} answered")
            if self._machine.state is not State.CONNECTED:  # an observer may have ended it
                return
            self._became_ready(f"{self.peer}{self.probe_path} answered with {status}")
        if self.state is State.READY and self._next_probe is None:
            self._next_probe = self.reactor.callLater(self.probe_interval, self._look)

    def _unanswered(self, reason: Failure) -> None:
        self._probing = None
        if self._closing is not None:
            return
        if self.state is State.READY and self._chances:
            self._chances -= 1
            self._probe()
            return
        self._stop_probing()
        error: Any = reason.value
        if not isinstance(error, EquipmentConnectionError):
            error = ConnectFailed(f"{self.peer} is not usable: {reason.getErrorMessage()}")
            error.__cause__ = reason.value
        self._failed(error)
        if self.state is State.STOPPED:
            self.client.close(error)

    def _heard(self) -> None:
        self._heard_at = self.reactor.seconds()

    def _doubt(self) -> None:
        """Ask at once whether the server is there, unless that is being asked."""
        if self.state is State.READY and self._probing is None:
            self._stop_probing()
            self._probe()

    def _look(self) -> None:
        self._next_probe = None
        left = self._heard_at + self.probe_interval - self.reactor.seconds()
        if left > 0:
            self._next_probe = self.reactor.callLater(left, self._look)
        elif self._probing is None:
            self._chances = 1
            self._probe()

    # How it ends

    def _close(self, error: Disconnected) -> None:
        self._fail(self._waiting, error)
        self._stop_trying()
        self._stop_probing()
        if self._probing is not None:
            self._probing.cancel()
        self.client.close(error).addCallback(lambda _: self._closed())

    def _stop_probing(self) -> None:
        self._chances = 0
        if self._next_probe is not None:
            self._next_probe.cancel()
            self._next_probe = None
