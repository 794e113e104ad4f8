"""The services that all connections are made of: one that connects, and one that listens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from equipnet.connection.address import Address, parse_address, parse_listen
from equipnet.connection.endpoint import client_endpoint, server_endpoint
from equipnet.connection.protocol import WireProtocol, show_to
from equipnet.connection.retry import EndpointConnector, ReconnectingFactory, RetryPolicy
from equipnet.connection.state import Change, Event, Moment, State, StateMachine
from equipnet.connection.tls import TLS
from equipnet.errors import ConnectFailed, ConnectionLost, Disconnected, EquipmentConnectionError, EquipmentTimeout
from equipnet.interfaces import IConnection, Traffic

#: Seconds that what has been written may take to leave when a connection is closed from our side; then it is aborted.
CLOSING_TIME = 0.5

#: Seconds that a client of a listening port may take for its TLS handshake.
HANDSHAKE_TIME = 10.0


class Connection(Service):
    """
    What a connecting and a listening service share: the state, the observers, the taps, and those who wait.

    Parameters
    ----------
    name
        What the connection is called; the address where nothing is given.
    reactor
        Where it lives; the installed one where nothing is given.
    """

    kind = "connection"
    name: str
    log = Logger()

    def __init__(self, name: str, reactor: Any) -> None:
        self.reactor = _installed_reactor() if reactor is None else reactor
        self.setName(name)
        self._machine = StateMachine(name, self._now)
        self._waiting: list[_Waiting] = []
        self._given_up: EquipmentConnectionError | None = None
        self._closing: list[Deferred[None]] | None = None
        self._later: list[Deferred[None]] = []
        self.last_error: BaseException | None = None
        self.taps: list[Callable[[Traffic], object]] = []

    # What the state is, and who is told

    @property
    def state(self) -> State:
        return self._machine.state

    @property
    def since(self) -> Moment:
        return self._machine.since

    def add_observer(self, observer: Callable[[Change], object]) -> None:
        self._machine.add_observer(observer)

    def remove_observer(self, observer: Callable[[Change], object]) -> None:
        self._machine.remove_observer(observer)

    def add_tap(self, tap: Callable[[Traffic], object]) -> None:
        self.taps.append(tap)

    def remove_tap(self, tap: Callable[[Traffic], object]) -> None:
        if tap in self.taps:
            self.taps.remove(tap)

    def when_ready(self) -> Deferred[Any]:
        return self._wait(None)

    # How it is started and stopped

    def startService(self) -> None:
        if not self.running:
            super().startService()
            if self.state is State.STOPPED:
                self._begin(self._policy.attempts)
            else:
                # What becomes of it is seen in the state.
                self.connect(None).addErrback(lambda _: None)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return self.disconnect()

    def connect(self, max_attempts: int | None = 1) -> Deferred[Any]:
        if self._closing is not None:
            later: Deferred[None] = Deferred()
            self._later.append(later)
            return later.addCallback(lambda _: self.connect(max_attempts))
        attempts = self._policy.attempts if max_attempts is None or max_attempts < 1 else max_attempts
        if self.state is State.STOPPED:
            self._given_up = None
            ready = self._wait(max_attempts)
            self._begin(attempts)
        else:
            ready = self._wait(max_attempts)
            self._go_on(attempts)
        return ready

    def disconnect(self) -> Deferred[None]:
        error = Disconnected(f"{self.name} was disconnected from our side")
        # Whoever asked for a connection while the last one was being closed is overruled.
        later, self._later = self._later, []
        for each in later:
            each.errback(error)
        if self._closing is not None:
            return self._when_closed()
        self._given_up = None
        if self.state is State.STOPPED:
            self._fail(self._waiting, error)
            return succeed(None)
        self._closing = []
        closed = self._when_closed()
        self._machine.move(Event.DISCONNECT, str(error))
        self._close(error)
        return closed

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self.state.value}>"

    # For subclasses

    def tapped(self, direction: str, raw: bytes, value: object = None) -> None:
        """Show one message to each tap, where no protocol does that; what a tap raises is logged."""
        show_to(self.taps, Traffic(self.name, time.time(), direction, raw, value))

    def _now(self) -> Moment:
        return Moment(self.reactor.seconds(), time.time())

    @property
    def _policy(self) -> RetryPolicy:
        raise NotImplementedError

    def _begin(self, attempts: int | None) -> None:
        """Leave STOPPED, and stop after ``attempts`` tries in a row that failed."""
        raise NotImplementedError

    def _go_on(self, attempts: int | None) -> None:
        """Let there be at least ``attempts`` more tries, the next of them at once."""
        raise NotImplementedError

    def _close(self, error: Disconnected) -> None:
        """Fail everyone who waits, close everything, and then call `_closed`."""
        raise NotImplementedError

    def _wait(self, attempts: int | None) -> Deferred[Any]:
        if self.state is State.READY:
            return succeed(self)
        if self._given_up is not None and self.state is State.STOPPED:
            return fail(self._given_up)
        waiting = _Waiting(attempts if attempts is None or attempts > 0 else None)
        waiting.ready = Deferred(lambda _: self._waiting.remove(waiting))
        self._waiting.append(waiting)
        return waiting.ready

    # Each of those who are told may cancel others, begin to wait again, connect or disconnect.

    def _became_ready(self, reason: str) -> None:
        self._machine.move(Event.USABLE, reason)
        for each in tuple(self._waiting):
            if each in self._waiting and self.state is State.READY:
                self._waiting.remove(each)
                each.ready.callback(self)

    def _fail(self, waiting: Iterable[_Waiting], error: EquipmentConnectionError) -> None:
        for each in tuple(waiting):
            if each in self._waiting:
                self._waiting.remove(each)
                each.ready.errback(error)

    def _count_failure(self, waiting: Iterable[_Waiting], error: EquipmentConnectionError) -> None:
        """Take one try from each of those who wait for a limited number of them; fail those who have none left."""
        limited = [each for each in waiting if each.attempts is not None]
        for each in limited:
            each.attempts -= 1
        self._fail((each for each in limited if each.attempts == 0), error)

    def _when_closed(self) -> Deferred[None]:
        closed: Deferred[None] = Deferred()
        assert self._closing is not None
        self._closing.append(closed)
        return closed

    def _closed(self) -> None:
        closing, self._closing = self._closing, None
        self._machine.move(Event.CLOSED, "closed")
        for closed in closing or ():
            closed.callback(None)
        while self._later and self._closing is None:
            self._later.pop(0).callback(None)

    def _start_conversation(self, protocol: WireProtocol) -> None:
        try:
            protocol.begin()
        except Exception:
            self.log.failure("{name}: the conversation with {peer} did not begin", name=self.name, peer=protocol.peer)
            protocol.hang_up(ConnectionLost(f"The conversation with {protocol.peer} did not begin: see the log"))


class _Waiting:
    """Somebody who waits for READY, for a number of tries or, with None, for as long as it takes."""

    __slots__ = ("attempts", "ready")
    attempts: Any  # int | None
    ready: Deferred[Any]

    def __init__(self, attempts: int | None) -> None:
        self.attempts = attempts


@implementer(IConnection)
class ClientConnection(Connection):
    """
    A connection that we make, and make again whenever it is lost.

    A wire format derives from it and overrides `build_protocol`; its protocol calls ``owner.usable`` when the
    conversation is usable.

    Parameters
    ----------
    address
        Where the equipment is: an address (see `parse_address`), or any client endpoint of Twisted.
    name
        What the connection is called; the address where nothing is given.
    retry
        When to try again.
    connect_timeout
        Seconds for one attempt, name resolution and TLS handshake included.
    tls
        What a ``tls:`` address needs beside the host name; other addresses take none.
    local_host
        The local IP address to connect from; any where nothing is given.
    reactor
        Where it lives; the installed one where nothing is given.
    """

    def __init__(
        self,
        address: str | Address | IStreamClientEndpoint,
        *,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        connect_timeout: float = 10.0,
        tls: TLS | None = None,
        local_host: str | None = None,
        reactor: Any = None,
    ) -> None:
        self.address = parse_address(address) if isinstance(address, str) else address
        self.peer = str(self.address) if isinstance(self.address, Address) else "endpoint"
        super().__init__(name or self.peer, reactor)
        _check_tls(self.address, tls)
        if not 0 < connect_timeout < float("inf"):
            raise ValueError(f"connect_timeout is {connect_timeout}, not above 0 seconds")
        self.connect_timeout = connect_timeout
        self.protocol: Any = None
        self._tls = tls
        self._local_host = local_host
        self._factory = ReconnectingFactory(
            self.build_protocol,
            retry or RetryPolicy(),
            self.reactor,
            attempting=self._attempting,
            made=self._made,
            ended=self._ended,
            delay=self.retry_delay,
        )
        self._connector = EndpointConnector(
            self.endpoint, self._factory, self.reactor, timeout=lambda: self.connect_timeout
        )
        self._abort: IDelayedCall | None = None

    # What a wire format overrides

    def build_protocol(self) -> WireProtocol:
        """Make the protocol of a new connection."""
        return WireProtocol(self)

    def endpoint(self) -> IStreamClientEndpoint:
        """Give the endpoint for the next attempt."""
        if isinstance(self.address, Address):
            return client_endpoint(self.address, self.reactor, tls=self._tls, local_host=self._local_host)
        return self.address

    def retry_delay(self, failures: int) -> float:
        """Give the seconds until the next try, after so many in a row that failed."""
        return self._policy.delay(failures)

    def lost(self, error: EquipmentConnectionError) -> None:
        """Take note that an attempt failed or the connection is gone, before those who wait are told."""

    # What users call

    def reconnect(self, max_attempts: int | None = 1) -> Deferred[Any]:
        if self.protocol is not None and self._closing is None:
            self.restart(Disconnected(f"{self.name} is being reconnected"), abort=False)
        return self.connect(max_attempts)

    def restart(self, error: EquipmentConnectionError, abort: bool = True) -> None:
        """
        Close the present connection because of ``error``, and make a new one without any pause.

        Parameters
        ----------
        error
            Why; everything that waits for the present connection fails with it.
        abort
            Drop what has not been sent yet, instead of sending it first.
        """
        protocol = self.protocol
        if protocol is None or self._closing is not None:
            return
        self._factory.excuse()
        self.unusable(protocol, str(error))
        # An observer may have ended it in the meantime.
        if protocol is self.protocol and self._closing is None:
            self._hang_up(error, abort)

    # What the protocol tells

    def usable(self, protocol: WireProtocol, reason: str) -> None:
        if protocol is self.protocol and self.state is State.CONNECTED:
            self._factory.worked()
            self._became_ready(reason)

    def unusable(self, protocol: WireProtocol, reason: str) -> None:
        if protocol is self.protocol and self.state is State.READY:
            self._machine.move(Event.UNUSABLE, reason)

    def went_down(self, protocol: WireProtocol, reason: Failure) -> None:
        if protocol is not self.protocol:
            return  # it was gone before its attempt had ended: the connector is told
        self.protocol = None
        if self._abort is not None:
            if self._abort.active():
                self._abort.cancel()
            self._abort = None
        self._connector.lost(reason)

    # What the factory tells

    def _attempting(self) -> None:
        self._machine.move(Event.CONNECT, f"connecting to {self.peer}")

    def _made(self, protocol: WireProtocol) -> None:
        self.protocol = protocol
        self._machine.move(Event.MADE, f"connected to {protocol.peer}")
        if self.protocol is protocol and not protocol.hanging_up:  # an observer may have ended it
            self._start_conversation(protocol)

    def _ended(self, reason: Failure, again: bool) -> None:
        if self._closing is not None:
            self._closed()
            return
        error = reason.value
        if not isinstance(error, EquipmentConnectionError):
            error = ConnectFailed(f"Cannot connect to {self.peer}: {reason.getErrorMessage()}")
            error.__cause__ = reason.value
        self.last_error = error
        if not again:
            self._given_up = error
        # Who begins to wait from here on waits for what comes next.
        waiting = tuple(self._waiting)
        self._machine.move(Event.LOST if again else Event.GIVEN_UP, str(error))
        self.lost(error)
        if not again:
            self._fail(waiting, error)
        elif self._factory.failures:
            self._count_failure(waiting, error)

    # How it begins and ends

    @property
    def _policy(self) -> RetryPolicy:
        return self._factory.policy

    def _begin(self, attempts: int | None) -> None:
        self._given_up = None
        self._factory.limit(attempts)
        self._connector.connect()

    def _go_on(self, attempts: int | None) -> None:
        self._factory.extend(attempts)
        self._factory.hurry()

    def _close(self, error: Disconnected) -> None:
        self._factory.stopTrying()
        self._fail(self._waiting, error)
        self.lost(error)
        if self.protocol is not None:
            self._hang_up(error, abort=False)
        elif self._connector.attempting:
            self._connector.stopConnecting()
        else:
            self._closed()

    def _hang_up(self, error: EquipmentConnectionError, abort: bool) -> None:
        if not abort and self._abort is None:
            self._abort = self.reactor.callLater(CLOSING_TIME, self.protocol.hang_up, error)
        self.protocol.hang_up(error, abort)


class ListeningFactory(Factory):
    """
    Build a protocol for each client that may come in, and refuse the others.

    Parameters
    ----------
    service
        The listening service; it says who may come in.
    """

    noisy = False

    def __init__(self, service: ListeningConnection) -> None:
        self._service = service

    def buildProtocol(self, addr: IAddress | None) -> WireProtocol | None:
        return self._service.admit(addr)


class RetryingConnection(Connection):
    """
    A connection that makes its attempts itself, one at a time.

    A subclass overrides `_attempt`, whose end it tells by `_worked` or `_failed`.

    Parameters
    ----------
    name, reactor
        As `Connection` says.
    retry
        When to try again.
    """

    def __init__(self, name: str, retry: RetryPolicy | None, reactor: Any) -> None:
        super().__init__(name, reactor)
        self._retry = retry or RetryPolicy()
        self._failures = 0
        self._limit: int | None = None
        self._next_try: IDelayedCall | None = None

    def retry_delay(self, failures: int) -> float:
        """Give the seconds until the next try, after so many in a row that failed."""
        return self._policy.delay(failures)

    def _attempt(self) -> None:
        """Move to CONNECTING, and begin an attempt."""
        raise NotImplementedError

    @property
    def _policy(self) -> RetryPolicy:
        return self._retry

    def _begin(self, attempts: int | None) -> None:
        self._given_up = None
        self._failures = 0
        self._limit = attempts
        self._attempt()

    def _go_on(self, attempts: int | None) -> None:
        if attempts is None:
            self._limit = None
        elif self._limit is not None:
            self._limit = max(self._limit, self._failures + attempts)
        if self._next_try is not None:
            self._next_try.reset(0)

    def _try_again(self) -> None:
        self._next_try = None
        self._attempt()

    def _worked(self) -> None:
        """Count failures from here on as the policy says."""
        self._failures = 0
        self._limit = self._policy.attempts

    def _failed(self, error: EquipmentConnectionError) -> None:
        """Take note that an attempt failed, or what it had made is lost: try again later, or give up."""
        self.last_error = error
        self._failures += 1
        # Who begins to wait from here on waits for what comes next.
        waiting = tuple(self._waiting)
        if self._limit is None or self._failures < self._limit:
            self._next_try = self.reactor.callLater(self.retry_delay(self._failures), self._try_again)
            self._machine.move(Event.LOST, str(error))
            self._count_failure(waiting, error)
        else:
            self._given_up = error
            self._machine.move(Event.GIVEN_UP, str(error))
            self._fail(waiting, error)

    def _stop_trying(self) -> None:
        if self._next_try is not None:
            self._next_try.cancel()
            self._next_try = None


@implementer(IConnection)
class ListeningConnection(RetryingConnection):
    """
    A port of ours to which clients connect; READY as soon as it is bound.

    A wire format derives from it and overrides `build_protocol`.

    Parameters
    ----------
    listen
        Where to listen (see `parse_listen`): 127.0.0.1 where no interface is given.
    name
        What the connection is called; the address where nothing is given.
    max_connections
        How many clients at once; the next one is closed at once.
    allowed
        The networks from which clients may come, such as ``"10.0.0.0/8"``; from anywhere where nothing is given.
        Clients of a UNIX socket are let in by the rights of its file.
    tls
        The certificate of a ``tls:`` port, and whom it trusts; other addresses take none.
    retry
        When to try again to bind a port that somebody else holds.
    reactor
        Where it lives; the installed one where nothing is given.

    Attributes
    ----------
    protocols
        The protocols of the present clients, those in a TLS handshake included.
    refused
        How many clients were turned away.
    """

    def __init__(
        self,
        listen: str | Address,
        *,
        name: str | None = None,
        max_connections: int = 100,
        allowed: Iterable[str] = (),
        tls: TLS | None = None,
        retry: RetryPolicy | None = None,
        reactor: Any = None,
    ) -> None:
        self.address = parse_listen(listen) if isinstance(listen, str) else listen
        _check_tls(self.address, tls)
        super().__init__(name or str(self.address), retry, reactor)
        if max_connections < 1:
            raise ValueError(f"max_connections is {max_connections}, less than 1")
        self.max_connections = max_connections
        self.allowed = tuple(ip_network(network) for network in allowed)
        self.protocols: set[WireProtocol] = set()
        self.refused = 0
        self._tls = tls
        self._port: IListeningPort | None = None
        self._binding: Deferred[Any] | None = None
        self._abort: IDelayedCall | None = None

    # What a wire format overrides

    def build_protocol(self) -> WireProtocol:
        """Make the protocol of a new client."""
        return WireProtocol(self)

    def joined(self, protocol: WireProtocol) -> None:
        """Take note of a new client whose transport is up."""

    def left(self, protocol: WireProtocol) -> None:
        """Take note that a client that had joined is gone."""

    def admits(self, host: str) -> bool:
        """Tell whether a client from that IP address may come in; the others are closed without a word."""
        return self.is_allowed(host)

    # What users call

    def is_allowed(self, host: str) -> bool:
        """Tell whether an IP address is in one of the ``allowed`` networks, where there are any."""
        if not self.allowed:
            return True
        try:
            peer = ip_address(host.partition("%")[0])
        except ValueError:
            return False
        if isinstance(peer, IPv6Address) and peer.ipv4_mapped is not None:
            peer = peer.ipv4_mapped
        return any(peer in network for network in self.allowed)

    @property
    def bound(self) -> Address | None:
        """Where it really listens, with the port that the system chose for 0; None while nothing is bound."""
        if self._port is None or self.address.scheme == "unix":
            return self.address if self._port is not None else None
        host: Any = self._port.getHost()
        return replace(self.address, host=host.host, port=host.port)

    @property
    def peer(self) -> str:
        return str(self.bound or self.address)

    def reconnect(self, max_attempts: int | None = 1) -> Deferred[Any]:
        self.disconnect()
        return self.connect(max_attempts)

    # What the factory and the protocols tell

    def admit(self, address: Any) -> WireProtocol | None:
        """Give the protocol for a client that comes from ``address``, or None to turn it away."""
        if self._closing is not None:
            return None
        host = getattr(address, "host", None)
        if host is not None and not self.admits(host):
            self._refuse(host, "its address is not allowed")
            return None
        if len(self.protocols) >= self.max_connections:
            self._refuse(host or "a local client", f"{self.max_connections} are connected already")
            return None
        protocol = self.build_protocol()
        self.protocols.add(protocol)
        up = protocol.when_up()
        # A timeout that cancelled would be over before the socket is closed.
        late = self.reactor.callLater(
            HANDSHAKE_TIME, protocol.hang_up, EquipmentTimeout(HANDSHAKE_TIME, "the TLS handshake")
        )
        up.addBoth(_stop, late)
        up.addCallbacks(self._joined, lambda reason: self._not_joined(protocol, reason))
        return protocol

    def usable(self, protocol: WireProtocol, reason: str) -> None:
        """Nothing: a listening connection is usable whether somebody is connected or not."""

    def unusable(self, protocol: WireProtocol, reason: str) -> None:
        """Nothing, as `usable`."""

    def went_down(self, protocol: WireProtocol, reason: Failure) -> None:
        try:
            self.left(protocol)
        except Exception:
            self.log.failure("{name}: taking note that {peer} left", name=self.name, peer=protocol.peer)
        self._forget(protocol)

    def _refuse(self, who: str, why: str) -> None:
        self.refused += 1
        self.log.warn("{name}: {who} is turned away: {why}", name=self.name, who=who, why=why)

    def _joined(self, protocol: WireProtocol) -> None:
        try:
            self.joined(protocol)
        except Exception:
            self.log.failure("{name}: taking note that {peer} came", name=self.name, peer=protocol.peer)
        if not protocol.hanging_up:
            self._start_conversation(protocol)

    def _not_joined(self, protocol: WireProtocol, reason: Failure) -> None:
        self.log.warn(
            "{name}: {peer} did not get as far as a connection: {why}",
            name=self.name,
            peer=protocol.peer,
            why=reason.getErrorMessage(),
        )
        self._forget(protocol)

    def _forget(self, protocol: WireProtocol) -> None:
        self.protocols.discard(protocol)
        # _abort is there once the port is closed; before that, closing has not come to the clients.
        if self._abort is not None and not self.protocols:
            self._closed()

    # How it begins and ends

    def _attempt(self) -> None:
        self._bind()

    def _bind(self) -> None:
        begun: Deferred[Any] = Deferred()
        self._binding = begun
        begun.addCallback(lambda _: self._listen())
        begun.addCallbacks(self._listening, self._not_bound)
        # Who is told may stop it; then nothing has been opened yet, and what follows does nothing.
        self._machine.move(Event.CONNECT, f"binding {self.address}")
        begun.callback(None)

    def _listen(self) -> Deferred[IListeningPort]:
        return server_endpoint(self.address, self.reactor, tls=self._tls).listen(ListeningFactory(self))

    def _listening(self, port: IListeningPort) -> None:
        self._binding = None
        self._port = port
        self._machine.move(Event.MADE, f"bound {self.peer}")
        if self._port is port:  # an observer may have ended it
            self._became_ready(f"listening on {self.peer}")

    def _not_bound(self, reason: Failure) -> None:
        self._binding = None
        if self._closing is not None:
            return
        error = ConnectFailed(f"Cannot listen on {self.address}: {reason.getErrorMessage()}")
        error.__cause__ = cause = reason.value
        # Twisted's CannotListenError keeps the system's error, with its number, to itself.
        if isinstance(cause, CannotListenError) and isinstance(cause.socketError, OSError):
            cause.__cause__ = cause.socketError
        self._failed(error)

    def _close(self, error: Disconnected) -> None:
        self._fail(self._waiting, error)
        self._stop_trying()
        if self._binding is not None:
            self._binding.cancel()
        port, self._port = self._port, None
        if port is not None:
            unbound = maybeDeferred(port.stopListening)
            unbound.addErrback(lambda reason: self.log.failure("{name}: closing the port", reason, name=self.name))
            unbound.addCallback(lambda _: self._close_clients(error))
        else:
            self._close_clients(error)

    def _close_clients(self, error: Disconnected) -> None:
        if not self.protocols:
            self._closed()
            return
        self._abort = self.reactor.callLater(CLOSING_TIME, self._abort_clients, error)
        for protocol in tuple(self.protocols):
            protocol.hang_up(error, abort=False)

    def _abort_clients(self, error: Disconnected) -> None:
        for protocol in tuple(self.protocols):
            protocol.hang_up(error)

    def _closed(self) -> None:
        if self._abort is not None:
            if self._abort.active():
                self._abort.cancel()
            self._abort = None
        super()._closed()


def _check_tls(address: object, tls: TLS | None) -> None:
    # Who asks for TLS must not find out that it never was.
    if tls is not None and not (isinstance(address, Address) and address.scheme == "tls"):
        raise ValueError(f"TLS options are for an address that begins with tls:, not for {address}")


def _stop(result: Any, call: IDelayedCall) -> Any:
    if call.active():
        call.cancel()
    return result


def _installed_reactor() -> Any:
    # The one place where a library user's connection finds its reactor when none was given.
    from twisted.internet import reactor

    return reactor
