"""
The pair of sockets of MTMount: a client that is written to, a server for one client that is read from, both supervised.

Where LSST's classes hand out asyncio streams (``client_reader``, ``server_writer``, ...) there are `read` and `write`
here; there is no other way to a socket.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from twisted.application.service import Service
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.internet.interfaces import IAddress, IListeningPort, IStreamClientEndpoint
from twisted.logger import Logger, STDLibLogObserver
from zope.interface import implementer

from equipnet.communicator.protocol import FrameProtocol
from equipnet.connection.address import Address
from equipnet.connection.memory import MemoryEndpoint
from equipnet.connection.protocol import WireProtocol
from equipnet.connection.retry import RetryPolicy
from equipnet.connection.service import ClientConnection, Connection, ListeningConnection, ListeningFactory
from equipnet.connection.state import Change, Event, State
from equipnet.connection.tls import TLS
from equipnet.errors import (
    ConnectionLost,
    Disconnected,
    EquipmentConnectionError,
    LocalProtocolError,
    MessageTooLong,
    NotConnected,
    QueueFull,
    RemoteProtocolError,
)
from equipnet.interfaces import IConnection


class HalfNotConnected(NotConnected, RuntimeError):
    """The half of a pair that is needed is not connected now; nothing was sent."""


class ConnectionReset(ConnectionLost, ConnectionResetError):
    """The half of a pair that something waited for was connected, and went away."""


class ClientHalf(ClientConnection):
    """
    The half of a pair that connects to the other side.

    Parameters
    ----------
    pair
        Whose half it is.
    address, name, tls, connect_timeout, reactor
        As `equipnet.connection.service.ClientConnection` says.
    retry
        When to try again; after the pair's ``connect_retry_interval``, for ever, where nothing is given.
    reads
        Whether what comes is read, too.
    """

    def __init__(
        self,
        pair: ClientServerPair,
        address: Address | IStreamClientEndpoint,
        *,
        name: str,
        retry: RetryPolicy | None,
        reads: bool,
        connect_timeout: float,
        tls: TLS | None,
        reactor: Any,
    ) -> None:
        self._pair = pair
        self._reads = reads
        self._has_policy = retry is not None
        super().__init__(address, name=name, retry=retry, connect_timeout=connect_timeout, tls=tls, reactor=reactor)

    def build_protocol(self) -> FrameProtocol:
        pair = self._pair
        return FrameProtocol(self, pair.max_frame_size, pair.frame_received if self._reads else None)

    def retry_delay(self, failures: int) -> float:
        if self._has_policy or failures == 0:
            return super().retry_delay(failures)
        return self._pair.connect_retry_interval

    @property
    def connected(self) -> bool:
        """Whether the other side has taken our connection, and nobody has ended it since."""
        return self.state is State.READY and not self.protocol.hanging_up

    def point_at(self, port: int) -> None:
        """Connect to another port from the next attempt on; one that is under way to the old port is given up."""
        if isinstance(self.address, Address) and port != self.address.port:
            self.address = replace(self.address, port=port)
            self.peer = str(self.address)
            if self._connector.attempting:
                self._connector.stopConnecting()


class ServerHalf(ListeningConnection):
    """
    The half of a pair to which the other side connects: a port for one client at a time.

    A client that vanished without a word keeps its place until the system notices, which takes a minute at most.

    Parameters
    ----------
    pair
        Whose half it is.
    address, name, allowed, tls, reactor
        As `equipnet.connection.service.ListeningConnection` says.

    Attributes
    ----------
    protocol
        The client; None while there is none.
    in_memory
        Whether clients come from this process only, so that no port is bound.
    """

    def __init__(
        self,
        pair: ClientServerPair,
        address: Address,
        *,
        name: str,
        allowed: Iterable[str],
        tls: TLS | None,
        reactor: Any,
    ) -> None:
        self._pair = pair
        self.protocol: FrameProtocol | None = None
        self.in_memory = False
        super().__init__(address, name=name, max_connections=1, allowed=allowed, tls=tls, reactor=reactor)

    def build_protocol(self) -> FrameProtocol:
        return FrameProtocol(self, self._pair.max_frame_size, self._pair.frame_received)

    @property
    def connected(self) -> bool:
        """Whether a client is there, and nobody has ended its connection."""
        return self.protocol is not None and not self.protocol.hanging_up

    def usable(self, protocol: WireProtocol, reason: str) -> None:
        assert isinstance(protocol, FrameProtocol)
        self.protocol = protocol
        self._pair.half_changed(self, f"{protocol.peer} connected")

    def left(self, protocol: WireProtocol) -> None:
        if protocol is self.protocol:
            self.protocol = None
            self._pair.half_changed(self, str(protocol.ended_by), protocol.ended_by)

    def _listen(self) -> Deferred[IListeningPort]:
        return succeed(_NoPort()) if self.in_memory else super()._listen()


@implementer(IListeningPort)
class _NoPort:
    """Stands for the port of a server half in memory."""

    def startListening(self) -> None:
        """Nothing: nobody comes from outside."""

    def stopListening(self) -> None:
        """Nothing either."""

    def getHost(self) -> IAddress:
        return IPv4Address("TCP", "memory", 0)


#: From one state of a pair to another, along the moves that there are.
_WAYS: dict[tuple[State, State], tuple[Event, ...]] = {
    (State.CONNECTING, State.WAITING): (Event.LOST,),
    (State.CONNECTING, State.CONNECTED): (Event.MADE,),
    (State.CONNECTING, State.READY): (Event.MADE, Event.USABLE),
    (State.WAITING, State.CONNECTING): (Event.CONNECT,),
    (State.WAITING, State.CONNECTED): (Event.MADE,),
    (State.WAITING, State.READY): (Event.MADE, Event.USABLE),
    (State.CONNECTED, State.READY): (Event.USABLE,),
    (State.CONNECTED, State.WAITING): (Event.LOST,),
    (State.CONNECTED, State.CONNECTING): (Event.LOST, Event.CONNECT),
    (State.READY, State.CONNECTED): (Event.UNUSABLE,),
    (State.READY, State.WAITING): (Event.UNUSABLE, Event.LOST),
    (State.READY, State.CONNECTING): (Event.UNUSABLE, Event.LOST, Event.CONNECT),
}


@implementer(IConnection)
class ClientServerPair(Connection):
    r"""
    Two sockets that belong together: a client that is written to, and a server for one client that is read from.

    Both halves are supervised: each comes back by itself, any number of times, until `close` is called. The pair is
    CONNECTED while one half is, READY while both are. What goes over them are frames of bytes that end with ``\r\n``.

    Parameters
    ----------
    name
        What the pair is called.
    client_host
        Where the client half connects to: a host, None for this one; an address or any client endpoint of Twisted
        decides the port as well.
    client_port
        The port there; 0 where it is not known yet: then `connect` gives it.
    server_host
        The IP address that the server half listens on, None for all interfaces; an address decides the port as well.
    server_port
        The port that it listens on, 0 for any free one (see `wait_server_port`).
    log
        Where is logged, a logger of Twisted or of the standard library; equipnet's own where nothing is given.
    connect
        Whether to begin at once; else `connect`, or the service's start, begins.
    connect_callback
        Called with the pair, at once, when a half is connected and when it is not any more: one call for each change of
        each half. What it raises is logged.
    max_frame_size
        How many bytes a frame may have. A longer one costs one read its answer, and nothing else.
    queue_limit
        How many frames are kept that nobody has read, before the other side has to wait; how many writes and how many
        reads may wait.
    retry
        When to try to connect again; for ever, after ``connect_retry_interval`` seconds, where nothing is given.
    allowed
        The networks from which clients of the server half may come; from anywhere where nothing is given.
    connect_timeout, tls, reactor
        As `equipnet.connection.service.ClientConnection` says; ``tls`` is for both halves.

    Attributes
    ----------
    client, server
        The halves; a communicator that needs one socket only has one of them, and None for the other.
    connect_retry_interval
        Seconds between two tries to connect.
    """

    kind = "client-server-pair"
    connect_retry_interval = 0.1

    def __init__(
        self,
        name: str,
        client_host: str | Address | IStreamClientEndpoint | None,
        client_port: int,
        server_host: str | Address | None,
        server_port: int,
        log: Logger | logging.Logger | None = None,
        connect: bool = True,
        connect_callback: Callable[[Any], object] | None = None,
        *,
        max_frame_size: int = 1 << 16,
        queue_limit: int = 1000,
        retry: RetryPolicy | None = None,
        connect_timeout: float = 10.0,
        allowed: Iterable[str] = (),
        tls: TLS | None = None,
        reactor: Any = None,
    ) -> None:
        super().__init__(name, reactor)
        for what, number in (("max_frame_size", max_frame_size), ("queue_limit", queue_limit)):
            if number < 1:
                raise ValueError(f"{what} is {number}, less than 1")
        if isinstance(log, logging.Logger):
            log = Logger(log.name, observer=STDLibLogObserver(log.name))
        if log is not None:
            self.log = log
        self.max_frame_size = max_frame_size
        self.queue_limit = queue_limit
        self.connect_callback = connect_callback
        self.client: ClientHalf | None = None
        self.server: ServerHalf | None = None
        has_client, has_server = self._halves_needed()
        if has_client:
            self.client = ClientHalf(
                self,
                Address("tcp", client_host or "localhost", client_port)
                if client_host is None or isinstance(client_host, str)
                else client_host,
                name=f"{name} client" if has_server else name,
                retry=retry,
                reads=not has_server,
                connect_timeout=connect_timeout,
                tls=tls,
                reactor=self.reactor,
            )
            self.client.add_observer(self._client_moved)
        if has_server:
            self.server = ServerHalf(
                self,
                server_host
                if isinstance(server_host, Address)
                else Address("tcp", "0.0.0.0" if server_host is None else server_host, server_port),
                name=f"{name} server" if has_client else name,
                allowed=allowed,
                tls=tls,
                reactor=self.reactor,
            )
            self.server.add_observer(self._server_moved)
        self._halves: list[Any] = [half for half in (self.client, self.server) if half is not None]
        for half in self._halves:
            half.log = self.log
        self._up = dict.fromkeys(self._halves, False)
        self._beginning = False
        self._retry_forever = RetryPolicy.fixed(self.connect_retry_interval)
        # What came and nobody has read, and who waits for what comes.
        self._came: deque[Any] = deque()
        self._readers: deque[Deferred[Any]] = deque()
        self.connect_task: Deferred[Any] | None = None
        if connect:
            if self.client is not None and not self._knows_port:
                raise ValueError(f"client_port={client_port} must be nonzero")
            self.connect_task = self.connect().addErrback(lambda _: None)

    # What users ask

    @property
    def client_connected(self) -> bool:
        """Whether the client half is connected; that of the only socket where there is one only."""
        return (self.client or self._halves[0]).connected

    @property
    def server_connected(self) -> bool:
        """Whether a client is connected to the server half; that of the only socket where there is one only."""
        return (self.server or self._halves[0]).connected

    @property
    def connected(self) -> bool:
        """Whether both halves are connected."""
        return all(half.connected for half in self._halves)

    @property
    def client_host(self) -> str | None:
        """Where the client half connects to; None where that is no host."""
        return getattr(getattr(self.client, "address", None), "host", None)

    @property
    def client_port(self) -> int:
        """The port there; 0 where it is not known."""
        port: int = getattr(getattr(self.client, "address", None), "port", 0)
        return port

    @property
    def server_host(self) -> str | None:
        """The IP address that the server half listens on."""
        return None if self.server is None else self.server.address.host

    @property
    def server_port(self) -> int:
        """The port that it listens on; 0 while the system has not chosen one."""
        return 0 if self.server is None else (self.server.bound or self.server.address).port

    @property
    def peer(self) -> str:
        return ", ".join(half.peer for half in self._halves)

    @property
    def client_connected_task(self) -> Deferred[Any]:
        """Waits until the client half is connected; fails with `Disconnected` when it is closed."""
        return self._halves[0].when_ready()  # type: ignore[no-any-return]

    def wait_server_port(self) -> Deferred[int]:
        """
        Begin to listen, if need be, and wait for it.

        Returns
        -------
        Deferred[int]
            The port. Fails with `Disconnected` when the pair is closed, and with `LocalProtocolError` where there is no
            server half.
        """
        if self.server is None:
            return fail(LocalProtocolError(f"{self.name} does not listen"))
        if self._closing is not None:
            later: Deferred[None] = Deferred()
            self._later.append(later)
            return later.addCallback(lambda _: self.wait_server_port())
        if self.state is State.STOPPED:
            self._begin_with(client=False, attempts=None)
        return self.server.when_ready().addCallback(lambda _: self.server_port)

    # How it is connected and closed

    # MTMount's users give the port first; whoever knows an IConnection only gives nothing.
    def connect(  # type: ignore[override]
        self, port: int | None = None, max_attempts: int | None = None
    ) -> Deferred[Any]:
        """
        Connect the client half, anew if it is connected, and wait for both.

        Parameters
        ----------
        port
            Where to; None for ``client_port``.
        max_attempts
            How many tries before the pair is given up; None for no limit.

        Returns
        -------
        Deferred[ClientServerPair]
            Fires with this pair when both halves are connected. Fails with ValueError when no port is known, with
            `ConnectFailed` when the pair is given up, and with `Disconnected` when it is closed first.
        """
        client = self.client
        if client is not None:
            if port == 0 or (port is None and not self._knows_port):
                return fail(ValueError(f"client_port={self.client_port if port is None else port} must be nonzero"))
            if port is not None:
                client.point_at(port)
        if client is not None and self._closing is None:
            client.restart(Disconnected(f"{client.name} is being connected anew"), abort=False)
        return self._connect_when_closed(max_attempts)

    def reconnect(self, max_attempts: int | None = 1) -> Deferred[Any]:
        self.disconnect()
        return self._connect_when_closed(max_attempts)

    def _connect_when_closed(self, max_attempts: int | None) -> Deferred[Any]:
        # The base class would call connect again, whose first argument is a port here.
        if self._closing is None:
            return super().connect(max_attempts)
        later: Deferred[None] = Deferred()
        self._later.append(later)
        return later.addCallback(lambda _: self._connect_when_closed(max_attempts))

    def disconnect(self) -> Deferred[None]:
        closed = super().disconnect()
        if self._closing is None:
            self._end_waits()
        return closed

    def close_client(self) -> Deferred[None]:
        """Close the client half, and leave it closed until `connect` is called; the Deferred fires when it is."""
        return succeed(None) if self.client is None else self.client.disconnect()

    def close(self) -> Deferred[None]:
        """Close both halves, which also ends every wait for them; the Deferred fires when nothing is open any more."""
        return self.disconnect()

    def startService(self) -> None:
        if not self.running:
            Service.startService(self)
            if self._closing is not None:
                self._connect_when_closed(None).addErrback(lambda _: None)
            elif self.state is State.STOPPED:
                self._begin(self._policy.attempts)
            else:
                self._go_on(None)

    # What is read and written

    def read(self) -> Deferred[Any]:
        """
        Wait for the next frame.

        What came before the other side went away can still be read until it is back.

        Returns
        -------
        Deferred[bytes]
            The frame without its end. Fails with `HalfNotConnected` (a RuntimeError) when nothing is connected,
            with `ConnectionReset` (a ConnectionResetError) when the other side goes away first, with `Disconnected`
            when we close, with `MessageTooLong` in the place of a frame that was too long, and with `QueueFull` when
            too many wait already. Cancelled, it takes nothing.
        """
        if self._came:
            came = self._came.popleft()
            if len(self._came) == self.queue_limit // 2:
                self._hold_back(False)
            return fail(came) if isinstance(came, Exception) else succeed(came)
        if not self.server_connected:
            return fail(HalfNotConnected("Server not connected"))
        if len(self._readers) >= self.queue_limit:
            return fail(QueueFull(f"{self.name}: {self.queue_limit} reads wait already"))
        answer: Deferred[Any] = Deferred(self._stop_reading)
        self._readers.append(answer)
        return answer

    def write(self, data: bytes) -> Deferred[Any]:
        r"""
        Send bytes, which should end with ``\r\n``.

        Returns
        -------
        Deferred[None]
            Fires when they are on their way. Fails with `HalfNotConnected` (a RuntimeError) when nothing is connected,
            with `ConnectionReset` (a ConnectionResetError) when the other side goes away while it takes nothing, with
            `Disconnected` when we close, and with `QueueFull` when too many wait already.
        """
        return self._send(data, data)

    def _stop_reading(self, answer: Deferred[Any]) -> None:
        if answer in self._readers:
            self._readers.remove(answer)

    # For subclasses

    def _halves_needed(self) -> tuple[bool, bool]:
        """Say whether there is a client half, and a server half."""
        return True, True

    def _parse(self, frame: bytes) -> Any:
        """Give the value of a frame; raises RemoteProtocolError."""
        return frame

    def _arrived(self, value: Any) -> None:
        """Take what has come, or the error in its place: give it to whoever waits, or keep it."""
        if self._readers:
            answer = self._readers.popleft()
            if isinstance(value, Exception):
                answer.errback(value)
            else:
                answer.callback(value)
            return
        self._came.append(value)
        if len(self._came) >= self.queue_limit:
            self._hold_back(True)

    def _half_lost(self, half: Any, error: EquipmentConnectionError) -> None:
        """Fail what waits for a half that went away."""
        if half is self.server or self.server is None:
            readers, self._readers = self._readers, deque()
            for answer in readers:
                if not answer.called:  # another one may have cancelled it
                    answer.errback(error)

    def _half_made(self, half: Any) -> None:
        """Begin anew with a half that has come."""
        if half is self.server or self.server is None:
            if self._came:
                self.log.warn(
                    "{name}: {count} frames of the last connection are dropped, since nobody has read them",
                    name=self.name,
                    count=len(self._came),
                )
            self._came.clear()

    def _send(self, data: bytes, value: Any) -> Deferred[Any]:
        protocol: FrameProtocol | None = self._halves[0].protocol
        if protocol is None or not self._halves[0].connected:
            return fail(HalfNotConnected("Client not connected"))
        if protocol.choked and len(protocol.unsent) >= self.queue_limit:
            return fail(QueueFull(f"{self.name}: {self.queue_limit} writes wait already"))
        if self.taps:
            self.tapped("out", data, value)
        result = None if value is data else value
        if not protocol.choked:
            protocol.write(data)
            return succeed(result)
        sent: Deferred[Any] = Deferred(lambda _: protocol.give_up(entry))

        def told(error: EquipmentConnectionError | None) -> None:
            if error is None:
                sent.callback(result)
            else:
                sent.errback(_reset(error))

        entry = protocol.write_later(data, told)
        return sent

    def _hold_back(self, wanted: bool) -> None:
        protocol: FrameProtocol | None = self._halves[-1].protocol
        if protocol is not None:
            protocol.hold_back(wanted)

    # What the halves tell

    def frame_received(self, frame: bytes | MessageTooLong) -> None:
        """Take a frame, without its end, or the error in its place."""
        value: Any
        if isinstance(frame, bytes):
            try:
                value = self._parse(frame)
            except RemoteProtocolError as error:
                value = error
            if self.taps:
                self.tapped("in", frame + b"\r\n", None if isinstance(value, Exception) else value)
        else:
            value = frame
        if isinstance(value, Exception):
            self.log.error("{name}: {error}", name=self.name, error=value)
        self._arrived(value)

    def half_changed(self, half: Any, reason: str, error: EquipmentConnectionError | None = None) -> None:
        """Take note of a change of a half: fail what waited for it, tell the callback, and move."""
        up = half.connected
        if up is not self._up[half]:
            self._up[half] = up
            if up:
                self._half_made(half)
            else:
                if error is not None and not isinstance(error, Disconnected):
                    self.last_error = error
                self._half_lost(half, _reset(error or Disconnected(reason)))
            self._settle(reason)
            self.call_connect_callback()
        else:
            self._settle(reason)

    def call_connect_callback(self, *args: object, **kwargs: object) -> None:
        """Call ``connect_callback`` with the pair, whatever the arguments; what it raises is logged."""
        if self.connect_callback is not None:
            try:
                self.connect_callback(self)
            except Exception:
                self.log.failure("{name}: the connect_callback raised", name=self.name)

    def _client_moved(self, change: Change) -> None:
        client = self.client
        assert client is not None
        error = client.last_error if isinstance(client.last_error, EquipmentConnectionError) else None
        if change.new is State.CONNECTED and change.old is State.CONNECTING:
            return  # READY follows at once
        lost = change.new in (State.WAITING, State.STOPPED) and error is not None
        self.half_changed(client, change.reason, error if lost else None)
        self._tell_failure(client, change)

    def _server_moved(self, change: Change) -> None:
        server = self.server
        assert server is not None
        self.half_changed(server, change.reason)
        self._tell_failure(server, change)

    def _tell_failure(self, half: Any, change: Change) -> None:
        error = half.last_error
        if self._closing is not None or error is None or change.old is not State.CONNECTING:
            return
        if change.new is State.WAITING:
            self.last_error = error
            self._count_failure(tuple(self._waiting), error)
        elif change.new is State.STOPPED and self.state is not State.STOPPED:
            self._give_up(half, error)

    def _give_up(self, given_up: Any, error: EquipmentConnectionError) -> None:
        self.last_error = self._given_up = error
        waiting = tuple(self._waiting)
        if self.state is State.WAITING:
            self._machine.move(Event.CONNECT, str(error))
        self._machine.move(Event.GIVEN_UP, str(error))
        for half in self._halves:
            if half is not given_up:
                half.disconnect()
        self._fail(waiting, error)

    def _settle(self, reason: str) -> None:
        """Move to the state that follows from those of the halves."""
        if self._beginning or self._closing is not None or self.state is State.STOPPED:
            return
        up = sum(half.connected for half in self._halves)
        if up == len(self._halves):
            target = State.READY
        elif up:
            target = State.CONNECTED
        elif self.client is not None and self.client.state in (State.CONNECTING, State.CONNECTED):
            target = State.CONNECTING
        else:
            target = State.WAITING
        for event in _WAYS.get((self.state, target), ()):
            if event is Event.USABLE:
                self._became_ready(reason)
            else:
                before = self.state
                self._machine.move(event, reason)
                if self._closing is not None or self.state in (before, State.STOPPED):
                    return  # an observer has ended it

    # How it begins and ends

    @property
    def _policy(self) -> RetryPolicy:
        return self._retry_forever if self.client is None else self.client._policy

    def _begin(self, attempts: int | None) -> None:
        self._begin_with(self._knows_port, attempts)

    @property
    def _knows_port(self) -> bool:
        # An endpoint and a UNIX socket have none.
        return self.client is not None and (self.client_port != 0 or not self.client_host)

    def _begin_with(self, client: bool, attempts: int | None) -> None:
        self._given_up = None
        self._beginning = True
        try:
            self._machine.move(Event.CONNECT, f"connecting {self.peer}")
            if self._closing is None:
                if self.server is not None:
                    self.server.connect(None).addErrback(lambda _: None)
                if client and self.client is not None:
                    self.client.connect(attempts).addErrback(lambda _: None)
        finally:
            self._beginning = False
        self._settle(f"connecting {self.peer}")

    def _go_on(self, attempts: int | None) -> None:
        for half in self._halves:
            if half is self.server or self._knows_port:
                half.connect(None if half is self.server else attempts).addErrback(lambda _: None)

    def _close(self, error: Disconnected) -> None:
        self._fail(self._waiting, error)
        DeferredList([half.disconnect() for half in self._halves]).addCallback(lambda _: self._closed())

    def _closed(self) -> None:
        self._end_waits()
        super()._closed()

    def _end_waits(self) -> None:
        """Fail those who wait for a half that is closed: when it is closed again it does no more than that."""
        for half in self._halves:
            if half.state is State.STOPPED:
                half.disconnect()


def _reset(error: EquipmentConnectionError) -> EquipmentConnectionError:
    """Give the error that users of the sockets expect; our own closing is none."""
    if isinstance(error, Disconnected):
        return error
    reset = ConnectionReset(str(error))
    reset.__cause__ = error.__cause__
    return reset


def join_in_memory(one: ClientServerPair, other: ClientServerPair) -> None:
    """
    Let two pairs of this process talk to each other without a socket, from their next connection on.

    Parameters
    ----------
    one, other
        The pairs. Bytes are carried by the reactor of the one whose client half connects.
    """
    for here, there in ((one, other), (other, one)):
        if here.client is not None and there.server is not None:
            here.client.address = MemoryEndpoint(ListeningFactory(there.server), here.reactor)
            here.client.peer = f"{there.name} in memory"
            there.server.in_memory = True
