"""An HTTP port as a listening connection."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.web.resource import IResource
from twisted.web.server import Site

from equipnet.connection.address import Address
from equipnet.connection.retry import RetryPolicy
from equipnet.connection.service import ListeningConnection
from equipnet.connection.tls import TLS
from equipnet.http.channel import BodyRequest, HttpServerProtocol, Incoming
from equipnet.http.message import Answer, Head, too_long


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

    request_class: type[Incoming] = BodyRequest

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

    def refusal(self, head: Head, host: str | None) -> Answer | None:
        """
        Say why a request is not wanted, None where it is; asked before the body comes.

        Parameters
        ----------
        head
            What has come.
        host
            The client's IP address, None where it has none.
        """
        if self.allowed and host is not None and not self.is_allowed(host):
            return Answer(403, "requests from your address are not allowed")
        if head.length is not None and head.length > self.max_size:
            return too_long(self.max_size)
        return None

    # What requests tell

    def refused_request(self, answer: Answer, peer: str) -> None:
        """Count a refusal, and log it with the peer; without its port, so that repetitions are seen to be some."""
        self.refusals[answer.status] = self.refusals.get(answer.status, 0) + 1
        self.log.warn(
            "{name}: a request of {peer} is refused: {status} {text}",
            name=self.name,
            peer=peer.rpartition(":")[0] or peer,
            status=answer.status,
            text=answer.text,
        )
