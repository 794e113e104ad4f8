"""What the protocols of all wire formats have in common: socket options, coming up and going away, and taps."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any
from typing import Protocol as Shape

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener, INegotiated
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from equipnet.connection.tcp import Cause
from equipnet.errors import ConnectionLost, EquipmentConnectionError
from equipnet.interfaces import Traffic

#: Seconds of silence before the system asks a TCP peer whether it is there, seconds between questions, questions
#: without an answer before the connection is lost: a pulled cable is noticed within a minute. Linux alone would begin
#: after two hours.
KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 30, 10, 3


class Owner(Shape):
    """What a protocol tells the service that it belongs to."""

    name: str
    taps: list[Callable[[Traffic], object]]

    def usable(self, protocol: WireProtocol, reason: str) -> None:
        """Take note that the conversation can be used from now on."""

    def unusable(self, protocol: WireProtocol, reason: str) -> None:
        """Take note that the conversation cannot be used for now."""

    def went_down(self, protocol: WireProtocol, reason: Failure) -> None:
        """Take note that a transport which had been up is gone."""


def show_to(taps: Iterable[Callable[[Traffic], object]], traffic: Traffic) -> None:
    """Show one message to each tap; what a tap raises is logged."""
    for tap in tuple(taps):
        try:
            tap(traffic)
        except Exception:
            WireProtocol.log.failure("{name}: a tap raised", name=traffic.name)


@implementer(IHandshakeListener)
class WireProtocol(Protocol):
    """
    The base of the protocols of all wire formats.

    A subclass overrides `begin` (and calls ``owner.usable`` when the conversation is usable), ``dataReceived``, and
    `fail_pending`. It calls `tapped` with each message, guarded by ``if self.taps``.

    Parameters
    ----------
    owner
        The service that is told when this connection comes and goes.

    Attributes
    ----------
    taps
        The owner's taps, empty as long as nobody listens.
    peer
        The other end, as text.
    """

    transport: Any
    log = Logger()

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.taps = owner.taps
        self.peer = "nobody"
        self._up: Deferred[WireProtocol] | None = None
        self._is_up = False
        self._gone: Failure | None = None
        self.ended_by: EquipmentConnectionError | None = None

    # What the service uses

    def when_up(self) -> Deferred[WireProtocol]:
        """
        Wait for the transport, and for the TLS handshake where there is one.

        Returns
        -------
        Deferred[WireProtocol]
            Fires with this protocol; fails with the reason when the transport goes first, also when it has gone
            already. Cancelled, it hangs up.
        """
        if self._gone is not None:
            return fail(self._gone)
        if self._is_up:
            return succeed(self)
        self._up = Deferred(self._cancelled)
        return self._up

    def hang_up(self, error: EquipmentConnectionError, abort: bool = True) -> None:
        """
        End the connection and fail what waits for it with ``error``, at once; nothing that still arrives is acted on.

        Parameters
        ----------
        error
            Why; it becomes the reason that the owner is told.
        abort
            Drop what has not been sent yet, instead of sending it first.
        """
        if self.ended_by is not None:
            if abort:
                self.transport.abortConnection()
            return
        self.ended_by = error
        if abort:
            self.transport.abortConnection()
        else:
            self.transport.loseConnection()
        self._fail_pending(error)

    @property
    def hanging_up(self) -> bool:
        """Whether we have ended this connection, so that what still arrives is of no interest."""
        return self.ended_by is not None

    # What a wire format overrides

    def begin(self) -> None:
        """Begin the conversation; the transport is up."""
        self.owner.usable(self, "connected")

    def fail_pending(self, error: EquipmentConnectionError) -> None:
        """Fail everything that waits for this connection."""

    # What Twisted calls

    def makeConnection(self, transport: Any) -> None:
        set_options(transport)
        self._cause = Cause(transport)
        self.peer = _peer_of(transport)
        super().makeConnection(transport)

    def connectionMade(self) -> None:
        if not INegotiated.providedBy(self.transport):
            self._came_up()

    def handshakeCompleted(self) -> None:
        if not self.hanging_up:
            self._came_up()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        error = self.ended_by
        if error is None:
            self.ended_by = error = _loss(self.peer, reason, self._cause.error)
            self._fail_pending(error)
        else:
            reason = Failure(error)
        self._gone = reason
        up, self._up = self._up, None
        if self._is_up:
            self.owner.went_down(self, Failure(error))
        elif up is not None:
            up.errback(reason)

    # How messages reach the taps

    def tapped(self, direction: str, raw: bytes, value: object = None) -> None:
        """Show one message to each tap; what a tap raises is logged."""
        show_to(self.taps, Traffic(self.owner.name, time.time(), direction, raw, value))

    def _fail_pending(self, error: EquipmentConnectionError) -> None:
        try:
            self.fail_pending(error)
        except Exception:
            # The owner must hear of the end all the same, or it would never connect again.
            self.log.failure("{name}: failing what waited for {peer} raised", name=self.owner.name, peer=self.peer)

    def _cancelled(self, up: Deferred[WireProtocol]) -> None:
        self._up = None
        self.transport.abortConnection()

    def _came_up(self) -> None:
        self._is_up = True
        up, self._up = self._up, None
        if up is not None:
            up.callback(self)


def _loss(peer: str, reason: Failure, cause: OSError | None) -> ConnectionLost:
    if reason.check(ConnectionDone):
        error = ConnectionLost(f"{peer} closed the connection")
    else:
        error = ConnectionLost(f"The connection to {peer} was lost: {cause or reason.getErrorMessage()}")
    error.__cause__ = cause or reason.value
    return error


def set_options(transport: Any) -> None:
    """Turn on TCP_NODELAY and keepalive for a TCP transport; others have nothing to set."""
    # A UNIX socket of Twisted's has these methods as well, and fails in them.
    if getattr(transport.getPeer(), "type", None) != "TCP" or not hasattr(transport, "setTcpNoDelay"):
        return
    # macOS and the BSDs refuse options for a socket that the peer has reset already; its loss is told in a moment.
    with contextlib.suppress(OSError):
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        lower = transport
        while hasattr(lower, "wrappedProtocol"):
            lower = lower.transport
        handle = lower.getHandle() if hasattr(lower, "getHandle") else None
        if isinstance(handle, socket.socket) and hasattr(socket, "TCP_KEEPIDLE"):
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL)
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)


def _peer_of(transport: Any) -> str:
    peer = transport.getPeer()
    if hasattr(peer, "host"):
        return f"[{peer.host}]:{peer.port}" if ":" in peer.host else f"{peer.host}:{peer.port}"
    # A UNIX socket's client has no name.
    name = getattr(peer, "name", None)
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name or peer)
