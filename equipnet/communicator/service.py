"""
What users hold: the socket pair of MTMount, and the communicator that sends and receives messages on it.

Where LSST's classes hand out asyncio streams (``client_reader``, ``server_writer``, ...) there are `read` and `write`
here; there is no other way to a socket.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from datetime import datetime, timezone
from typing import Any

from twisted.application.service import Service
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort, IStreamClientEndpoint
from twisted.logger import Logger, STDLibLogObserver
from zope.interface import implementer

from equipnet.communicator.dialect import Dialect, decode, dialect_of, encode
from equipnet.communicator.message import Command, CommandReply, Message, Reply, Source
from equipnet.communicator.protocol import FrameProtocol
from equipnet.communicator.session import Commands, Followed, Stage, sequence_id_after
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
    EquipmentError,
    EquipmentTimeout,
    LocalProtocolError,
    MessageTooLong,
    NotConnected,
    QueueFull,
    RemoteProtocolError,
)
from equipnet.interfaces import IConnection, Traffic

#: Seconds that are added to the time that an Ack gives a command (the protocol's description asks for 2).
MARGIN = 2.0

#: Seconds within which a command has its Ack.
ACK_TIMEOUT = 5.0


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
            self._tapped("out", data, value)
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
                self._tapped("in", frame + b"\r\n", None if isinstance(value, Exception) else value)
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

    def _tapped(self, direction: str, raw: bytes, value: object) -> None:
        traffic = Traffic(self.name, time.time(), direction, raw, value)
        for tap in tuple(self.taps):
            try:
                tap(traffic)
            except Exception:
                self.log.failure("{name}: a tap raised", name=self.name)


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


class _Running(Followed):
    """A command that somebody waits for: until when, for what, and for how long by then."""

    __slots__ = ("deadline", "ended", "limit", "seconds", "timeout", "waiting_for")

    def __init__(self, command: Command, ended: Deferred[CommandReply], now: float, timeout: float) -> None:
        super().__init__(command)
        self.ended = ended
        self.timeout = timeout
        self.limit = self.deadline = now + timeout
        self.seconds = timeout
        self.waiting_for = ""


class Communicator(ClientServerPair):
    """
    A pair of sockets over which commands go one way and replies the other.

    There are two ways to use it, and the first call decides. Whoever only calls `read` gets every message that comes,
    in order, and the other side has to wait while nobody reads. From the first `execute` or `add_message_observer` on,
    messages are acted upon as they come: those about a command that was executed go there, all others to the observers,
    and to a `read` only while it waits.

    In the dialect ``"json"`` there is one socket: who reads replies connects, who reads commands listens.

    Parameters
    ----------
    name, client_host, client_port, server_host, server_port, log, connect, connect_callback
        As `ClientServerPair` says. By MTMount's default the Operation Manager sends replies to the port after the one
        that it takes commands on.
    read_replies
        Whether we send commands and read replies; else it is the other way round.
    dialect
        ``"v0.9"``, ``"v0.13"`` or ``"json"``, or one with commands of its own (see `Dialect.with_commands`).
    source
        Who we are, where a command does not say it.
    ack_timeout
        Seconds within which a command must have its `Ack`.
    margin
        Seconds by which a command may take longer than its `Ack` says.
    settings
        The other arguments of `ClientServerPair`.
    """

    kind = "communicator"

    def __init__(
        self,
        name: str,
        client_host: str | Address | IStreamClientEndpoint | None,
        client_port: int,
        server_host: str | Address | None,
        server_port: int,
        log: Logger | logging.Logger | None = None,
        read_replies: bool = True,
        connect: bool = True,
        connect_callback: Callable[[Any], object] | None = None,
        *,
        dialect: str | Dialect = "v0.9",
        source: Source = Source.CSC,
        ack_timeout: float = ACK_TIMEOUT,
        margin: float = MARGIN,
        **settings: Any,
    ) -> None:
        self.dialect = dialect_of(dialect)
        self.read_replies = read_replies
        self.source = source
        self.ack_timeout = ack_timeout
        self.margin = margin
        self._sequence_id = 0
        self._acting = False
        self._message_observers: list[Callable[[Any], object]] = []
        self._running: Commands[_Running] = Commands()
        # One timer for all commands. It may be earlier than need be: it is not moved for each of them.
        self._timer: IDelayedCall | None = None
        self._timer_at = 0.0
        super().__init__(
            name, client_host, client_port, server_host, server_port, log, connect, connect_callback, **settings
        )

    # What users call

    def next_sequence_id(self) -> int:
        """Give the sequence id of the next command: from 1 to 2**31 - 1, and 1 again."""
        while True:
            self._sequence_id = sequence_id_after(self._sequence_id)
            if self._sequence_id not in self._running:
                return self._sequence_id

    def read(self) -> Deferred[Any]:
        """
        Wait for the next message.

        What came before the other side went away can still be read until it is back.

        Returns
        -------
        Deferred[Message]
            A reply, or a command. Fails with `RemoteProtocolError` in the place of a message that makes no sense, which
            is logged, and as `ClientServerPair.read`. The next read goes on behind it.
        """
        return super().read()

    def write(self, message: Message) -> Deferred[Any]:  # type: ignore[override]  # messages instead of bytes
        """
        Send a message.

        Parameters
        ----------
        message
            A command or a reply. A command gets the next sequence id, our source and the present time where it has
            none, a reply the present time.

        Returns
        -------
        Deferred[Message]
            The message as it was sent. Fails with `LocalProtocolError` when it cannot be said in this dialect, and as
            `ClientServerPair.write`.
        """
        try:
            message = self._filled(message)
            data = encode(message, self.dialect)
        except EquipmentError as error:
            return fail(error)
        return self._send(data, message)

    def execute(self, command: Command, timeout: float | None = None) -> Deferred[Any]:
        """
        Send a command, and wait until it is over.

        Parameters
        ----------
        command
            The command.
        timeout
            Seconds for the whole of it; None for no limit but those of its `Ack`.

        Returns
        -------
        Deferred[CommandReply]
            Its `Done`, or the `Ack` of a tracking command. Fails with `CommandRejected`, which has the explanation;
            with `CommandFailed`, which has the last `Error` about its part of the mount that came and was not taken
            back before the `Done`; with `CommandSuperseded`; with `EquipmentTimeout` when the `Ack` does not come
            within ``ack_timeout``, or the rest not within what the `Ack` says and ``margin``; with `HalfNotConnected`
            when a half is not connected, `ConnectionReset` when one is lost, `Disconnected` when we close,
            `LocalProtocolError` when the command cannot be said, and `QueueFull`. Cancelled, it is followed no longer;
            the other side is not told.
        """
        if not self.read_replies:
            return fail(LocalProtocolError(f"{self.name} reads commands; it cannot execute one"))
        self._act()
        if self.state is not State.READY:
            what = "Server" if self.client_connected else "Client"
            return fail(HalfNotConnected(f"{what} not connected"))
        if len(self._running) >= self.queue_limit:
            return fail(QueueFull(f"{self.name}: {self.queue_limit} commands are under way already"))
        ended: Deferred[Any] = Deferred(lambda _: self._running.forget(running))
        now = self.reactor.seconds()
        try:
            command = self._filled(command)
            data = encode(command, self.dialect)
            running = _Running(command, ended, now, math.inf if timeout is None else timeout)
            self._running.follow(running)
        except EquipmentError as error:
            return fail(error)
        self._give(running, now, self.ack_timeout, "Ack")
        if self.taps or self._halves[0].protocol.choked:
            self._send(data, command).addErrback(self._not_sent, running)
        else:
            self._halves[0].protocol.write(data)
        return ended

    def add_message_observer(self, observer: Callable[[Any], object]) -> None:
        """
        Call ``observer`` with every message that is not about a command which is being executed, and with no error.

        What came before and nobody has read is told first. What it raises is logged.
        """
        self._message_observers.append(observer)
        self._act()

    def remove_message_observer(self, observer: Callable[[Any], object]) -> None:
        """Forget an observer; one that is not there is no error."""
        if observer in self._message_observers:
            self._message_observers.remove(observer)

    # What comes

    def _halves_needed(self) -> tuple[bool, bool]:
        one = self.dialect.one_socket
        return not one or self.read_replies, not one or not self.read_replies

    def _parse(self, frame: bytes) -> Message:
        return decode(frame, self.dialect, self.read_replies)

    def _arrived(self, value: Any) -> None:
        if not self._acting:
            super()._arrived(value)
            return
        if isinstance(value, Reply):
            running = self._running.take(value)
            if running is not None:
                self._moved(running)
                return
        if not isinstance(value, Exception):
            for observer in tuple(self._message_observers):
                try:
                    observer(value)
                except Exception:
                    self.log.failure("{name}: an observer of messages raised", name=self.name)
        if self._readers:
            super()._arrived(value)

    def _act(self) -> None:
        """From now on act on messages as they come."""
        if not self._acting:
            self._acting = True
            came, self._came = self._came, deque()
            for value in came:
                self._arrived(value)
            self._hold_back(False)

    def _moved(self, running: _Running) -> None:
        if running.stage is Stage.OVER:
            answer: Any = running.answer
            if isinstance(answer, EquipmentError):
                running.ended.errback(answer)
            else:
                running.ended.callback(answer)
            return
        ack: Any = running.acknowledged
        self._give(running, self.reactor.seconds(), math.inf if ack < 0 else ack / 1000 + self.margin, "Done")

    def _half_lost(self, half: Any, error: EquipmentConnectionError) -> None:
        for running in self._running:
            self._running.forget(running)
            if not running.ended.called:
                running.ended.errback(error)
        self._stop_timer()
        super()._half_lost(half, error)

    def _not_sent(self, reason: Any, running: _Running) -> None:
        if not running.ended.called:
            self._running.forget(running)
            running.ended.errback(reason)

    # What takes too long

    def _give(self, running: _Running, now: float, seconds: float, waiting_for: str) -> None:
        """Give a command so many seconds for its next step."""
        running.waiting_for = waiting_for
        if now + seconds < running.limit:
            running.deadline, running.seconds = now + seconds, seconds
        else:
            running.deadline, running.seconds = running.limit, running.timeout
        self._watch(running.deadline)

    def _watch(self, deadline: float) -> None:
        if deadline == math.inf:
            return
        if self._timer is not None:
            if self._timer_at <= deadline:
                return
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self.reactor.callLater(max(deadline - self.reactor.seconds(), 0.0), self._look)

    def _look(self) -> None:
        self._timer = None
        now = self.reactor.seconds()
        late = [running for running in self._running if running.deadline <= now]
        for running in late:
            self._running.forget(running)
        self._watch(min((running.deadline for running in self._running), default=math.inf))
        for running in late:
            if running.ended.called:
                continue
            what = f"the {running.waiting_for} of {type(running.command).__name__} {running.command.sequence_id}"
            running.ended.errback(EquipmentTimeout(running.seconds, what))

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _closed(self) -> None:
        self._stop_timer()
        super()._closed()

    # What is sent

    def _filled(self, message: Any) -> Any:
        """Give a message with everything that it left to us."""
        missing: dict[str, Any] = {}
        if message.timestamp is None:
            # So many decimals are on the wire.
            missing["timestamp"] = datetime.fromtimestamp(time.time_ns() // 1_000_000 / 1000, timezone.utc)
        if isinstance(message, Command) is not self.read_replies:
            raise LocalProtocolError(f"{self.name} sends {'commands' if self.read_replies else 'replies'}: {message}")
        if isinstance(message, Command):
            if message.sequence_id is None:
                missing["sequence_id"] = self.next_sequence_id()
            if message.source is None:
                missing["source"] = self.source
        return with_values(message, missing) if missing else message


def with_values(message: Any, values: Mapping[str, Any]) -> Any:
    """Give a message with other values in some fields: as `dataclasses.replace`, in a third of the time."""
    cls = type(message)
    names = _names.get(cls)
    if names is None:
        names = _names[cls] = tuple(each.name for each in fields(cls))
    copy = object.__new__(cls)
    for name in names:
        object.__setattr__(copy, name, values[name] if name in values else getattr(message, name))
    return copy


_names: dict[type, tuple[str, ...]] = {}
