"""What users hold: HSMS connections that select, or are selected, and exchange SECS-II messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from inspect import isawaitable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from equipnet.connection.address import Address, parse_listen
from equipnet.connection.memory import MemoryEndpoint
from equipnet.connection.protocol import WireProtocol
from equipnet.connection.retry import RetryPolicy
from equipnet.connection.service import (
    CLOSING_TIME,
    ClientConnection,
    Connection,
    ListeningConnection,
    ListeningFactory,
)
from equipnet.connection.state import Change, Event, State
from equipnet.connection.tls import TLS
from equipnet.errors import ConnectFailed, Disconnected, EquipmentConnectionError, EquipmentError, NotConnected
from equipnet.hsms.message import Header, ReceivedMessage, SelectStatus
from equipnet.hsms.protocol import Counts, HsmsProtocol
from equipnet.hsms.settings import HsmsSettings, Timers
from equipnet.interfaces import IConnection
from equipnet.secs import DecodeError, Item, Message

#: What a primary is answered with: a message, an item for the reply, or nothing where no reply is wanted.
Answer = Message | Item | None

#: What answers a primary.
Handler = Callable[[ReceivedMessage], Answer | Awaitable[Answer]]

_H = TypeVar("_H", bound=Callable[..., Any])

#: The port of a connection that is only reached in memory.
_MEMORY = Address("tcp", "memory")


class Delegate(Protocol):
    """
    What can be told of an HSMS connection: any object that has some of these methods.

    For each connection that gets as far as being selected they are called in this order, the second once for each
    primary that comes. What they raise is logged.
    """

    def on_connection_established(self, connection: Any) -> object:
        """It is selected for the first time."""

    def on_connection_message_received(self, connection: Any, message: ReceivedMessage) -> object:
        """
        A primary came.

        Where no handler is registered for it, a `Message` or an item that is returned, also in a Deferred or a
        coroutine, is the reply; with None the delegate calls ``connection.reply`` itself, now or later.
        """

    def on_connection_before_closed(self, connection: Any) -> object:
        """It is about to be closed by our side, or was just lost."""

    def on_connection_closed(self, connection: Any) -> object:
        """It is closed."""


class HsmsConnection(Connection):
    """
    What an active and a passive connection share: messages, handlers and the delegate.

    Attributes
    ----------
    settings
        What holds for the conversation.
    counts
        What has happened so far.
    """

    kind = "hsms"
    protocol: Any  # HsmsProtocol | None

    def _begin_conversation(self, settings: HsmsSettings, delegate: object) -> None:
        self.settings = settings
        self.counts = Counts()
        self._handlers: dict[int, Handler] = {}
        self._streams: set[int] = set()
        self.delegate = delegate
        self._established: HsmsProtocol | None = None

    @property
    def delegate(self) -> object:
        """Who is told of what happens; can be replaced at any time."""
        return self._delegate

    @delegate.setter
    def delegate(self, delegate: object) -> None:
        self._delegate = delegate
        self._message_received: Callable[..., Any] | None = getattr(delegate, "on_connection_message_received", None)

    @property
    def session_id(self) -> int:
        """The session id of data messages: the device id."""
        return self.settings.session_id

    # What users call

    def request(self, message: Message, timeout: float | None = None) -> Deferred[ReceivedMessage]:
        """
        Send a primary and wait for its reply.

        Parameters
        ----------
        message
            The primary, with its W-bit.
        timeout
            Seconds instead of T3.

        Returns
        -------
        Deferred[ReceivedMessage]
            The reply, whose item is decoded when it is first asked for. Fails with `EquipmentTimeout` after T3;
            `TransactionAborted` when function 0 comes; `MessageRefused` for an error message of stream 9 about it;
            `MessageRejected` for a Reject.req; `ConnectionLost` or `Disconnected` as soon as the connection ends;
            `NotConnected` when it is not selected, or no longer; `QueueFull` when too many transactions are open or
            too much waits to be sent; `LocalProtocolError` when the message has no W-bit. Cancelled, it is forgotten:
            a reply that still comes is dropped.
        """
        protocol = self.protocol
        if protocol is None:
            return fail(self._not_connected())
        answer: Deferred[ReceivedMessage] = protocol.request(message, timeout)
        return answer

    def send(self, message: Message) -> Deferred[None]:
        """
        Send a primary that wants no reply.

        Returns
        -------
        Deferred[None]
            Fires when the transport has taken it: a sender that waits for it is held back by a slow peer. Fails with
            `NotConnected`, `ConnectionLost`, `Disconnected`, `QueueFull` and `LocalProtocolError`, as `request`.
        """
        protocol = self.protocol
        if protocol is None:
            return fail(self._not_connected())
        taken: Deferred[None] = protocol.send(message)
        return taken

    def reply(self, primary: ReceivedMessage, reply: Message | Item | None = None) -> None:
        """
        Answer a primary; for delegates, and for whoever answers later than its handler could.

        Parameters
        ----------
        primary
            What came.
        reply
            A message, or the item of one.

        Raises
        ------
        LocalProtocolError
            When it is no reply to that primary, or none is wanted.
        NotConnected
            When the connection is not selected any more.
        """
        if self.protocol is None:
            raise self._not_connected()
        self.protocol.reply(primary, _message(primary, reply))

    def linktest(self) -> Deferred[None]:
        """
        Ask the other side whether it is there.

        Returns
        -------
        Deferred[None]
            Fires when it is. Fails with `EquipmentTimeout` after T6, which ends the connection where
            ``linktest_failures`` says so, and with `NotConnected`, `ConnectionLost` or `Disconnected`.
        """
        return self._control("linktest")

    def select(self) -> Deferred[None]:
        """
        Select; an active connection does so itself, and after a `deselect` either side can.

        Returns
        -------
        Deferred[None]
            Fires when selected. Fails with `SelectRejected`, `MessageRejected`, and as `linktest`.
        """
        return self._control("select")

    def deselect(self) -> Deferred[None]:
        """
        End the communication but not the TCP connection; there is no such thing with ``strict``.

        Returns
        -------
        Deferred[None]
            Fires when the other side has agreed. Fails with `DeselectRejected`, `MessageRejected`,
            `LocalProtocolError` with ``strict``, and as `linktest`.
        """
        return self._control("deselect")

    def primary(self, stream: int, function: int) -> Callable[[_H], _H]:
        """
        Give a decorator for the function that answers a primary; the last one for it counts.

        Parameters
        ----------
        stream, function
            Of the primary.
        """

        def register(handler: _H) -> _H:
            self.set_primary(stream, function, handler)
            return handler

        return register

    def set_primary(self, stream: int, function: int, handler: Handler | None) -> None:
        """
        Set what answers a primary.

        Parameters
        ----------
        stream, function
            Of the primary.
        handler
            Gets the message and gives its reply: a message, an item, None where none is wanted; also in a Deferred or
            a coroutine. What it raises is logged, and the transaction is aborted by function 0. None for no handler
            any more.
        """
        if not (0 <= stream <= 127 and 0 < function <= 255 and function & 1):
            raise ValueError(f"S{stream}F{function} is not a primary")
        key = stream << 8 | function
        if handler is None:
            self._handlers.pop(key, None)
        else:
            self._handlers[key] = handler
        self._streams = {key >> 8 for key in self._handlers}

    def enable(self) -> None:
        """Begin, as ``startService``; the name that secsgem has for it."""
        self.startService()

    def disable(self) -> Deferred[None]:
        """
        End, as ``stopService``; it can be called again, and from a delegate.

        Returns
        -------
        Deferred[None]
            Fires when the socket is closed; it does not fail.
        """
        return self.stopService()

    # What the protocol tells

    def select_requested(self, protocol: HsmsProtocol, header: Header) -> int:
        """Say with which status a Select.req is answered."""
        return SelectStatus.ESTABLISHED

    def primary_received(self, protocol: HsmsProtocol, message: ReceivedMessage) -> None:
        """Answer a primary of the other side."""
        head = message._head
        settings = self.settings
        if head[1] != settings.session_id:
            self._stray(protocol, message)
            return
        handler = self._handlers.get((head[2] & 0x7F) << 8 | head[3])
        if handler is None and self._message_received is None:
            self._unknown(protocol, message)
            return
        if head[0] > 10 and settings.is_equipment:
            try:
                _ = message.item
            except DecodeError as error:
                self._undecodable(protocol, message, error)
                return
        try:
            told = None
            if self._message_received is not None:
                told = self._tell("on_connection_message_received", message)
            result: Any
            if handler is not None:
                if told is not None and isawaitable(told):
                    self._deferred(told).addErrback(self._delegate_failed)
                result = handler(message)
            else:
                result = told
                if result is None:
                    return
            if result is not None and not isinstance(result, (Message, Item)) and isawaitable(result):
                protocol.hold()
                later = self._deferred(result)
                later.addCallback(lambda answer: self._answer(protocol, message, answer))
                later.addErrback(lambda reason: self._handler_failed(protocol, message, reason))
                later.addBoth(lambda _: protocol.release())
                return
            self._answer(protocol, message, result)
        except Exception:
            self._handler_failed(protocol, message, Failure())

    def send_reply(self, protocol: HsmsProtocol, message: ReceivedMessage, reply: Message) -> None:
        """Send the reply that a handler or the delegate gave."""
        protocol.reply(message, reply)

    def closing(self, protocol: HsmsProtocol) -> None:
        """Tell the delegate."""
        if self._established is protocol:
            self._tell("on_connection_before_closed")

    def _usable(self, protocol: HsmsProtocol) -> None:
        if self._established is not protocol and protocol.is_selected:
            self._established = protocol
            self._tell("on_connection_established")

    def _gone(self, protocol: HsmsProtocol) -> None:
        if self._established is protocol:
            self._established = None
            self._tell("on_connection_closed")

    # How primaries are answered

    def _answer(self, protocol: HsmsProtocol, message: ReceivedMessage, answer: Any) -> None:
        if not message.wait:
            if answer is not None:
                self.log.warn("{name}: {message} wants no reply; it gets none", name=self.name, message=str(message))
            return
        if answer is None:
            self.log.warn("{name}: the handler of {message} gave no reply", name=self.name, message=str(message))
            answer = message.abort()
        try:
            self.send_reply(protocol, message, answer if isinstance(answer, Message) else _message(message, answer))
        except NotConnected:
            self.log.info(
                "{name}: the reply to {message} comes too late: its connection has ended",
                name=self.name,
                message=str(message),
            )

    def _deferred(self, result: Any) -> Deferred[Any]:
        return result if isinstance(result, Deferred) else Deferred.fromCoroutine(_awaited(result))

    def _handler_failed(self, protocol: HsmsProtocol, message: ReceivedMessage, reason: Failure) -> None:
        self.log.failure("{name}: answering {message}", reason, name=self.name, message=str(message))
        self._abort_transaction(protocol, message)

    def _abort_transaction(self, protocol: HsmsProtocol, message: ReceivedMessage) -> None:
        if message.wait and protocol.is_selected:
            self.send_reply(protocol, message, message.abort())

    def _refuse(self, protocol: HsmsProtocol, message: ReceivedMessage, function: int) -> None:
        """Say that a primary cannot be handled: as equipment by stream 9, as host by function 0."""
        if message.stream == 9:
            return  # no error about an error
        if self.settings.is_equipment:
            protocol.report(function, message.frame[4:14])
        else:
            self._abort_transaction(protocol, message)

    def _stray(self, protocol: HsmsProtocol, message: ReceivedMessage) -> None:
        self.counts.stray += 1
        self.log.warn(
            "{name}: {header} from {peer} is for another device",
            name=self.name,
            header=message.header,
            peer=protocol.peer,
        )
        self._refuse(protocol, message, 1)

    def _unknown(self, protocol: HsmsProtocol, message: ReceivedMessage) -> None:
        self.log.info("{name}: nobody handles {header}", name=self.name, header=message.header)
        self._refuse(protocol, message, 5 if message.stream in self._streams else 3)

    def _undecodable(self, protocol: HsmsProtocol, message: ReceivedMessage, error: DecodeError) -> None:
        self.log.warn(
            "{name}: the text of {header} from {peer}: {error}",
            name=self.name,
            header=message.header,
            peer=protocol.peer,
            error=error,
        )
        self._refuse(protocol, message, 7)

    def _tell(self, method: str, *arguments: Any) -> Any:
        """Call a method of the delegate, if it has it; give what it returns."""
        call = getattr(self._delegate, method, None)
        if call is None:
            return None
        try:
            result = call(self, *arguments)
        except Exception:
            self.log.failure("{name}: {method} of the delegate raised", name=self.name, method=method)
            return None
        if method != "on_connection_message_received" and isawaitable(result):
            self._deferred(result).addErrback(self._delegate_failed)
            return None
        return result

    def _delegate_failed(self, reason: Failure) -> None:
        self.log.failure("{name}: the delegate", reason, name=self.name)

    def _control(self, procedure: str) -> Deferred[None]:
        if self.protocol is None:
            return fail(self._not_connected())
        done: Deferred[None] = getattr(self.protocol, procedure)()
        return done

    def _not_connected(self) -> NotConnected:
        error = NotConnected(f"{self.name} is {self.state.value}; {self.last_error or 'connect it first'}")
        error.__cause__ = self.last_error
        return error


@implementer(IConnection)
class HsmsActiveConnection(HsmsConnection, ClientConnection):
    """
    The side that connects and selects, usually the host.

    READY means selected. A connection that is lost, or an attempt that failed, is followed by the next attempt T5
    seconds after the last one, at once where they have passed.

    Parameters
    ----------
    address
        The other side: a host name or an IP address with ``port``; without it any address of
        `equipnet.connection.address.parse_address` (``"tls:etcher.fab:5000"``) or client endpoint of Twisted.
    port
        Its TCP port.
    session_id
        The session id of data messages: the device id.
    delegate
        Who is told of what happens (`Delegate`).
    role
        ``"host"`` or ``"equipment"``.
    strict
        Whether what is out of place closes the connection (E37.1), or is answered (E37).
    timers
        The timers of E37.
    settings
        What else can be set; session_id, role, strict and timers win over those in it.
    attempts
        After how many attempts in a row that failed to give up; None for never.
    name, connect_timeout, tls, local_host, reactor
        As `equipnet.connection.service.ClientConnection` says.
    """

    def __init__(
        self,
        address: str | Address | IStreamClientEndpoint,
        port: int | None = None,
        *,
        session_id: int | None = None,
        delegate: object = None,
        role: str | None = None,
        strict: bool | None = None,
        timers: Timers | None = None,
        settings: HsmsSettings | None = None,
        attempts: int | None = None,
        name: str | None = None,
        connect_timeout: float = 10.0,
        tls: TLS | None = None,
        local_host: str | None = None,
        reactor: Any = None,
    ) -> None:
        settings = _settings(settings or HsmsSettings(), session_id, role, strict, timers)
        self._made_at: float | None = None
        if port is not None:
            host = str(address)
            address = Address("tcp", host, port) if ":" in host and host.count(":") > 1 else f"{host}:{port}"
        ClientConnection.__init__(
            self,
            address,
            name=name,
            retry=RetryPolicy.fixed(settings.timers.t5, attempts),
            connect_timeout=connect_timeout,
            tls=tls,
            local_host=local_host,
            reactor=reactor,
        )
        self._begin_conversation(settings, delegate)

    def build_protocol(self) -> WireProtocol:
        return HsmsProtocol(self, self.reactor, self.settings, active=True)

    def retry_delay(self, failures: int) -> float:
        t5 = self.settings.timers.t5
        return t5 if self._made_at is None else max(self._made_at + t5 - self.reactor.seconds(), 0.0)

    def usable(self, protocol: WireProtocol, reason: str) -> None:
        assert isinstance(protocol, HsmsProtocol)
        super().usable(protocol, reason)
        if protocol is self.protocol:
            self._usable(protocol)

    def went_down(self, protocol: WireProtocol, reason: Failure) -> None:
        assert isinstance(protocol, HsmsProtocol)
        self._gone(protocol)
        super().went_down(protocol, reason)

    def _attempting(self) -> None:
        self._made_at = None
        super()._attempting()

    def _made(self, protocol: WireProtocol) -> None:
        self._made_at = self.reactor.seconds()
        super()._made(protocol)

    def _go_on(self, attempts: int | None) -> None:
        # The next attempt is at its time: T5 is for the other side's sake.
        self._factory.extend(attempts)


@implementer(IConnection)
class HsmsPassiveConnection(HsmsConnection):
    """
    The side that listens and is selected, usually the equipment.

    READY means selected. It is WAITING as long as nobody has selected it; the port stays bound all the time, and
    whoever connects without selecting takes nobody's place. Several of them can listen on one port: who connects is
    told apart by its address where they say ``address``, and else by the session id in its Select.req, or in its first
    data message where that has none. One too many is answered Select.rsp 3, and its connection is closed.

    Parameters
    ----------
    address
        Who may connect: an IP address or a network such as ``"10.0.0.0/8"``; empty for anybody.
    port
        The TCP port, on all interfaces.
    listen
        Instead of ``port``: where to listen, as `equipnet.connection.address.parse_listen` has it
        (``"tls:5000:interface=10.0.0.1"``).
    retry
        When to try again to bind a port that somebody else holds.
    tls
        The certificate of a ``tls:`` port, and whom it trusts.
    session_id, delegate, role, strict, timers, settings
        As `HsmsActiveConnection` says; the role is ``"equipment"`` where nothing is said.
    name, reactor
        As `equipnet.connection.service.Connection` says.
    """

    def __init__(
        self,
        address: str = "",
        port: int | None = None,
        *,
        listen: str | Address | None = None,
        session_id: int | None = None,
        delegate: object = None,
        role: str | None = None,
        strict: bool | None = None,
        timers: Timers | None = None,
        settings: HsmsSettings | None = None,
        retry: RetryPolicy | None = None,
        tls: TLS | None = None,
        name: str | None = None,
        reactor: Any = None,
    ) -> None:
        if (port is None) is (listen is None):
            raise ValueError("either port or listen says where to listen")
        self.allowed: IPv4Network | IPv6Network | None = ip_network(address) if address else None
        if isinstance(listen, str):
            listen = parse_listen(listen)
        self.address = Address("tcp", "0.0.0.0", port or 0) if listen is None else listen
        if self.address.scheme == "udp":
            raise ValueError("HSMS is not spoken over UDP")
        super().__init__(name or str(self.address), reactor)
        self.tls = tls
        self.retry = retry or RetryPolicy()
        self.protocol: HsmsProtocol | None = None
        self._port: HsmsPort | None = None
        self._came_to: HsmsPort | None = None
        self._limit: int | None = None
        self._failures = 0
        self._abort: IDelayedCall | None = None
        self._begin_conversation(
            _settings(settings or HsmsSettings(role="equipment"), session_id, role, strict, timers), delegate
        )

    # What users call

    @property
    def bound(self) -> Address | None:
        """Where it really listens, with the port that the system chose for 0; None while nothing is bound."""
        return None if self._port is None else self._port.bound

    @property
    def peer(self) -> str:
        return self.protocol.peer if self.protocol is not None else str(self.bound or self.address)

    def reconnect(self, max_attempts: int | None = 1) -> Deferred[Any]:
        self.disconnect()
        return self.connect(max_attempts)

    def listen(self) -> Deferred[None]:
        """
        Begin, without waiting for somebody who selects.

        Returns
        -------
        Deferred[None]
            Fires when the port is bound. Fails with `ConnectFailed` when it cannot be, and with `Disconnected`.
        """
        bound: Deferred[None] = Deferred()

        def tell(change: Change) -> None:
            if change.new is State.WAITING and self._port is not None and self._port.state is State.READY:
                self.remove_observer(tell)
                bound.callback(None)
            elif change.new in (State.STOPPED, State.DISCONNECTING):
                self.remove_observer(tell)
                bound.errback(self._given_up or Disconnected(f"{self.name} was disconnected from our side"))

        if self.state in (State.STOPPED, State.CONNECTING):
            self.add_observer(tell)
            self.connect().addErrback(lambda _: None)
        else:
            bound.callback(None)
        return bound

    def in_memory(self, clock: IReactorTime | None = None) -> MemoryEndpoint:
        """
        Give an endpoint that connects an `HsmsActiveConnection` to this one without a socket.

        It is for connections that are made with ``listen=IN_MEMORY`` and have been started.
        """
        return MemoryEndpoint(_MemoryFactory(self), self.reactor if clock is None else clock)

    # What the protocol tells

    def may_come(self, host: str | None) -> bool:
        """Whether somebody from that host may connect."""
        if self.allowed is None:
            return True
        try:
            peer = ip_address((host or "").partition("%")[0])
        except ValueError:
            return False
        if isinstance(peer, IPv6Address) and peer.ipv4_mapped is not None:
            peer = peer.ipv4_mapped
        return peer in self.allowed

    @property
    def is_free(self) -> bool:
        """Whether it can be selected by somebody new."""
        return self.protocol is None and self.state is State.WAITING

    def take(self, protocol: HsmsProtocol, port: HsmsPort) -> None:
        """Converse over this connection from now on, which came to that port."""
        self.protocol = protocol
        self._came_to = port
        protocol.adopt(self, self.settings)
        self._machine.move(Event.MADE, f"connected to {protocol.peer}")

    def usable(self, protocol: WireProtocol, reason: str) -> None:
        if protocol is self.protocol and self.state is State.CONNECTED:
            self._became_ready(reason)
        if self.protocol is not None and protocol is self.protocol:
            self._usable(self.protocol)

    def unusable(self, protocol: WireProtocol, reason: str) -> None:
        if protocol is self.protocol and self.state is State.READY:
            self._machine.move(Event.UNUSABLE, reason)

    def went_down(self, protocol: WireProtocol, reason: Failure) -> None:
        assert isinstance(protocol, HsmsProtocol)
        port, self._came_to = self._came_to, None
        self.protocol = None
        self._gone(protocol)
        if self._closing is None:
            error = reason.value
            self.last_error = error
            self._machine.move(Event.LOST, str(error))
        if port is not None:
            port.went_down(protocol, reason)
        self._check_closed()

    # What the port tells

    def port_binding(self) -> None:
        """Take note that the port is being bound."""
        if self._closing is None and self.state in (State.STOPPED, State.WAITING):
            self._machine.move(Event.CONNECT, f"binding {self.address}")

    def port_bound(self) -> None:
        """Take note that the port is bound."""
        self._failures = 0
        if self._closing is None and self.state is State.CONNECTING:
            self._machine.move(Event.BOUND, f"listening on {self.bound or self.address}")

    def port_failed(self, error: EquipmentConnectionError) -> None:
        """Take note that the port could not be bound."""
        if self._closing is not None or self.state is not State.CONNECTING:
            return
        self.last_error = error
        self._failures += 1
        waiting = tuple(self._waiting)
        if self._limit is None or self._failures < self._limit:
            self._machine.move(Event.LOST, str(error))
            self._count_failure(waiting, error)
        else:
            self._given_up = error
            port, self._port = self._port, None
            if port is not None:
                port.remove(self)
            self._machine.move(Event.GIVEN_UP, str(error))
            self._fail(waiting, error)

    # How it begins and ends

    @property
    def _policy(self) -> RetryPolicy:
        return self.retry

    def _begin(self, attempts: int | None) -> None:
        self._given_up = None
        self._failures = 0
        self._limit = attempts
        self._port = _port_for(self)
        self._port.add(self)

    def _go_on(self, attempts: int | None) -> None:
        if attempts is None:
            self._limit = None
        elif self._limit is not None:
            self._limit = max(self._limit, self._failures + attempts)
        if self._port is not None:
            self._port._go_on(None)

    def _close(self, error: Disconnected) -> None:
        self._fail(self._waiting, error)
        self._failures = 0
        if self.protocol is not None:
            self._abort = self.reactor.callLater(CLOSING_TIME, self.protocol.hang_up, error)
            self.protocol.hang_up(error, abort=False)
        port = self._port
        if port is None:
            self._check_closed()
            return
        port.remove(self).addCallback(lambda _: self._port_left())

    def _port_left(self) -> None:
        self._port = None
        self._check_closed()

    def _check_closed(self) -> None:
        if self._closing is not None and self.protocol is None and self._port is None:
            if self._abort is not None:
                if self._abort.active():
                    self._abort.cancel()
                self._abort = None
            self._closed()


#: For ``listen``: nothing is bound, and only `HsmsPassiveConnection.in_memory` leads there.
IN_MEMORY = _MEMORY


class HsmsPort(ListeningConnection):
    """
    A port that one or more passive connections share; the owner of whoever has not been given to one of them.

    Parameters
    ----------
    first
        The connection whose certificate and retry policy count.
    """

    def __init__(self, first: HsmsPassiveConnection) -> None:
        super().__init__(
            first.address,
            name=f"{first.name} port",
            max_connections=1000,
            tls=first.tls,
            retry=first.retry,
            reactor=first.reactor,
        )
        self.counts = Counts()
        self.connections: list[HsmsPassiveConnection] = []

    # What the connections use

    def add(self, connection: HsmsPassiveConnection) -> None:
        """Let a connection be selected here; the first one binds the port."""
        self.connections.append(connection)
        if self.state is State.STOPPED:
            self._begin(None)
            return
        connection.port_binding()
        if self.state is State.READY:
            connection.port_bound()

    def remove(self, connection: HsmsPassiveConnection) -> Deferred[None]:
        """Forget a connection; the last one closes the port. Fires when its client is gone and the port closed."""
        if connection in self.connections:
            self.connections.remove(connection)
        if self.connections:
            return succeed(None)
        _forget_port(self)
        return self.disconnect()

    # What the factory and the protocols tell

    def build_protocol(self) -> WireProtocol:
        return HsmsProtocol(self, self.reactor, self.connections[0].settings, active=False)

    def admit(self, address: Any) -> WireProtocol | None:
        host = getattr(address, "host", None)
        if not any(connection.may_come(host) for connection in self.connections):
            self._refuse(host or "a local client", "its address is not allowed")
            return None
        return super().admit(address)

    def select_requested(self, protocol: HsmsProtocol, header: Header) -> int:
        """Give a new client to the connection that it wants to select, if it can be known yet."""
        possible = self._possible(protocol)
        if header.session_id in (connection.session_id for connection in possible):
            possible = [connection for connection in possible if connection.session_id == header.session_id]
        free = [connection for connection in possible if connection.is_free]
        if not free:
            self.log.warn("{name}: {peer} is one too many", name=self.name, peer=protocol.peer)
            return SelectStatus.EXHAUSTED
        if len(possible) == 1:
            free[0].take(protocol, self)
        return SelectStatus.ESTABLISHED

    def primary_received(self, protocol: HsmsProtocol, message: ReceivedMessage) -> None:
        """Give a client to the connection with the session id of its first message."""
        possible = self._possible(protocol)
        wanted = [connection for connection in possible if connection.session_id == message.session_id]
        if wanted and wanted[0].is_free:
            wanted[0].take(protocol, self)
            wanted[0].usable(protocol, f"selected by {protocol.peer}")
            if protocol.ended_by is None:
                protocol.owner.primary_received(protocol, message)
        elif wanted:
            protocol.close(EquipmentConnectionError(f"{protocol.peer} is one too many for {wanted[0].name}"))
        else:
            self.counts.stray += 1
            if protocol.settings.is_equipment:
                protocol.report(1, message.frame[4:14])
            elif message.wait:
                protocol.reply(message, message.abort())

    def closing(self, protocol: HsmsProtocol) -> None:
        """Nothing: nobody knows it yet."""

    def _possible(self, protocol: HsmsProtocol) -> list[HsmsPassiveConnection]:
        """The connections that a client may select; those that name its address come before those that take anybody."""
        host = getattr(protocol.transport.getPeer(), "host", None)
        possible = [connection for connection in self.connections if connection.may_come(host)]
        return [connection for connection in possible if connection.allowed is not None] or possible

    # How it is bound

    def _bind(self) -> None:
        for connection in tuple(self.connections):
            connection.port_binding()
        if self.address is _MEMORY:
            self._machine.move(Event.CONNECT, "in memory")
            self._machine.move(Event.MADE, "in memory")
            self._became_ready("in memory")
            self._tell_bound()
            return
        super()._bind()

    def _listening(self, port: Any) -> None:
        super()._listening(port)
        if self.state is State.READY:
            self._tell_bound()

    def _tell_bound(self) -> None:
        for connection in tuple(self.connections):
            connection.port_bound()

    def _not_bound(self, reason: Failure) -> None:
        super()._not_bound(reason)
        if self._closing is None:
            error = self.last_error
            assert isinstance(error, ConnectFailed)
            for connection in tuple(self.connections):
                connection.port_failed(error)


_ports: WeakKeyDictionary[Any, dict[Address, HsmsPort]] = WeakKeyDictionary()


def _port_for(connection: HsmsPassiveConnection) -> HsmsPort:
    """Give the port where a connection listens; a port of its own where the system chooses the number."""
    address = connection.address
    shared = _ports.setdefault(connection.reactor, {})
    if not address.port and not address.path:
        return HsmsPort(connection)
    port = shared.get(address)
    if port is None:
        port = shared[address] = HsmsPort(connection)
    return port


def _forget_port(port: HsmsPort) -> None:
    shared = _ports.get(port.reactor, {})
    if shared.get(port.address) is port:
        del shared[port.address]


class _MemoryFactory(ListeningFactory):
    """Builds the protocols of clients in memory."""

    def __init__(self, connection: HsmsPassiveConnection) -> None:
        self._connection = connection

    def buildProtocol(self, addr: object) -> WireProtocol | None:
        port = self._connection._port
        return None if port is None else port.admit(None)


def _settings(
    settings: HsmsSettings, session_id: int | None, role: str | None, strict: bool | None, timers: Timers | None
) -> HsmsSettings:
    given: dict[str, Any] = {"session_id": session_id, "role": role, "strict": strict, "timers": timers}
    return replace(settings, **{name: value for name, value in given.items() if value is not None})


def _message(primary: ReceivedMessage, reply: Any) -> Message:
    if isinstance(reply, Message):
        return reply
    if reply is None or isinstance(reply, Item):
        return primary.reply(reply)
    raise EquipmentError(f"A reply is a message or an item, not {reply!r:.80}")


async def _awaited(result: Awaitable[Any]) -> Any:
    return await result
