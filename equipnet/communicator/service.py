"""What users hold: the communicator, which sends and receives messages over a pair of sockets."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime, timezone
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.logger import Logger

from equipnet.communicator.dialect import Dialect, decode, dialect_of, encode
from equipnet.communicator.message import Command, CommandReply, Message, Reply, Source
from equipnet.communicator.pair import ClientServerPair, HalfNotConnected
from equipnet.communicator.session import Commands, Followed, Stage, sequence_id_after
from equipnet.connection.address import Address
from equipnet.connection.state import State
from equipnet.errors import (
    EquipmentConnectionError,
    EquipmentError,
    EquipmentTimeout,
    LocalProtocolError,
    QueueFull,
)

#: Seconds that are added to the time that an Ack gives a command (the protocol's description asks for 2).
MARGIN = 2.0

#: Seconds within which a command has its Ack.
ACK_TIMEOUT = 5.0


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
