"""What the simulators behind HTTP share: a port whose answers come late, are refused or end early on request."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from http import HTTPStatus
from typing import Any, Generic, TypedDict, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from typing_extensions import Unpack

from equipnet.connection.address import Address
from equipnet.connection.faults import Faults
from equipnet.connection.retry import RetryPolicy
from equipnet.connection.tls import TLS
from equipnet.http.channel import BodyRequest
from equipnet.http.message import Answer
from equipnet.http.server import HttpPort

#: Seconds that a client of a simulator may be silent where nobody says.
IDLE_TIMEOUT = 60.0


@dataclass(frozen=True, kw_only=True)
class HttpFault:
    """
    What a simulated server does wrong with one answer; a subclass adds its own.

    Parameters
    ----------
    delay
        Seconds until the answer.
    status
        What is answered instead, such as 500.
    close
        The connection is closed after half of the answer.

    Raises
    ------
    ValueError
        When there is no fault in it, a number makes no sense, or two of them exclude each other.
    """

    delay: float = 0.0
    status: int = 0
    close: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.delay) and self.delay >= 0):
            raise ValueError(f"delay is {self.delay!r}, not a number of seconds")
        if self.status and not (self.status >= 400 and any(self.status == each for each in HTTPStatus)):
            raise ValueError(f"status is {self.status!r}, not one of HTTP's from 400 to 599")
        given = self.effects()
        if not given:
            raise ValueError("there is no fault in it")
        instead = [name for name in given if name != "delay"]
        if len(instead) > 1:
            raise ValueError(f"{instead[0]} does not go with {instead[1]}")

    def effects(self) -> list[str]:
        """Give the names of all that goes wrong."""
        return [field.name for field in fields(self) if getattr(self, field.name)]


class PortSettings(TypedDict, total=False):
    """The arguments of `equipnet.http.server.HttpPort` that are the same for every simulator."""

    name: str | None
    max_connections: int
    idle_timeout: float
    allowed: Iterable[str]
    tls: TLS | None
    retry: RetryPolicy | None
    reactor: Any


F = TypeVar("F", bound=HttpFault)


class SimulatedServer(HttpPort, Generic[F]):
    """
    The base of simulated servers: a port with faults.

    Parameters
    ----------
    listen
        Where to listen (see `equipnet.connection.address.parse_listen`).
    pages
        What is served.
    max_size
        The most bytes of a body.
    fault
        What goes wrong from the beginning, until `clear_faults` is called.
    settings
        The arguments ``name``, ``max_connections``, ``idle_timeout`` (`IDLE_TIMEOUT` where nothing is given),
        ``allowed``, ``tls``, ``retry`` and ``reactor`` of `equipnet.http.server.HttpPort`.
    """

    def __init__(
        self,
        listen: str | Address,
        pages: Pages,
        *,
        max_size: int,
        fault: F | None = None,
        **settings: Unpack[PortSettings],
    ) -> None:
        settings.setdefault("idle_timeout", IDLE_TIMEOUT)
        super().__init__(listen, pages, max_size=max_size, **settings)
        self._faults: Faults[F] = Faults()
        if fault is not None:
            self.inject(fault)

    # What users call

    def inject(self, fault: F, count: int | None = None) -> None:
        """
        Let something go wrong.

        Those with a ``count`` come first, in the order of injection; when they are used up, the last one without.

        Parameters
        ----------
        fault
            What.
        count
            How many times; None for all, until `clear_faults` is called.

        Raises
        ------
        ValueError
            When ``count`` is less than 1.
        """
        self._faults.inject(fault, count)

    def clear_faults(self) -> None:
        """Let all go well from the next answer on."""
        self._faults.clear()

    # What answers ask

    async def delayed(self, fault: F | None) -> None:
        """Wait as long as a fault says."""
        if fault is not None and fault.delay:
            await deferLater(self.reactor, fault.delay)


class Pages(Resource):
    """
    What is at the addresses of a simulated server; a subclass says it.

    Parameters
    ----------
    server
        Whose they are.
    """

    isLeaf = True

    def __init__(self, server: SimulatedServer[Any]) -> None:
        super().__init__()
        self._server = server

    async def serve(self, request: BodyRequest) -> None:
        """Answer a request; what is raised is logged, and answered with 500."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it answers")

    def render(self, request: BodyRequest) -> int:
        Deferred.fromCoroutine(self.serve(request)).addErrback(self._not_served, request)
        return NOT_DONE_YET

    def _not_served(self, reason: Failure, request: BodyRequest) -> None:
        self._server.log.failure("{name}: a request was not answered", reason, name=self._server.name)
        request.answer(Answer(500, "the answer was not made: see the log"))


def send(
    request: BodyRequest,
    data: bytes,
    content_type: str,
    status: int = 200,
    headers: Mapping[str, str] = {},
    cut: bool = False,
) -> None:
    """
    Send a whole answer; nothing where the client has gone.

    Parameters
    ----------
    request
        What is answered.
    data, content_type, status, headers
        The answer's body and its type, its status, and more of its header.
    cut
        Close the connection after the first half of the body.
    """
    if request._disconnected:
        return
    request.setResponseCode(status)
    for name, value in {"Content-Type": content_type, "Content-Length": str(len(data)), **headers}.items():
        request.setHeader(name, value)
    if cut:
        request.write(data[: len(data) // 2])
        request.loseConnection()
    else:
        request.write(data)
        request.finish()
