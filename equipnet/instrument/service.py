"""What users hold: an instrument that is written to, read from and queried, one operation at a time."""

from __future__ import annotations

import math
import re
import socket
from collections import deque
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Any

from numpy.typing import DTypeLike
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.python.failure import Failure

from equipnet.connection.address import Address, parse_address
from equipnet.connection.endpoint import client_endpoint
from equipnet.connection.protocol import WireProtocol
from equipnet.connection.retry import RetryPolicy
from equipnet.connection.service import ClientConnection
from equipnet.connection.state import State
from equipnet.connection.tls import TLS
from equipnet.errors import (
    ConnectionLost,
    Disconnected,
    EquipmentConnectionError,
    EquipmentError,
    EquipmentTimeout,
    LocalProtocolError,
    NotConnected,
    QueueFull,
    RemoteProtocolError,
)
from equipnet.instrument.ending import Available, Datagram, Ending, Unending
from equipnet.instrument.message import Data
from equipnet.instrument.operation import Kind, Operation, Transaction, holds
from equipnet.instrument.protocol import InstrumentProtocol
from equipnet.instrument.settings import Settings

#: After so many replies in a row that did not come in time, an instrument of which late replies are dropped is
#: connected anew: one that never comes would cost every later query its own.
LATE_LIMIT = 3


class Resync(Enum):
    """How an instrument is brought in step again after a reply that did not come in time."""

    #: The connection is closed and made again; right for every instrument, since no silence can tell a slow reply from
    #: none.
    RESET = "reset"
    #: Exactly the late reply is dropped when it comes; for instruments that always answer. Where nothing tells how it
    #: ends, and after `LATE_LIMIT` in a row, as ``RESET``.
    DROP = "drop"
    #: What comes is dropped until nothing has come for as long as the user says; without such a silence within ten
    #: times as long, as ``RESET``.
    GAP = "gap"


class Instrument(Settings, ClientConnection):
    r"""
    An instrument on a plain socket: text commands and replies, binary blocks, one owner, one operation at a time.

    Operations wait their turn in order. A reply is never given to another query: when one does not come in time, the
    connection is made synchronous again as ``resync`` says before anything else is asked. An operation that is called
    while nothing is connected and no attempt is under way fails at once with `NotConnected`; one that is called in the
    middle of an attempt waits for it.

    The settings from ``buffer_size`` to ``write_termination`` have the names, the defaults and the meaning of
    MSL-Equipment's. They can be changed at any time and count for the operations that are called from then on.

    Parameters
    ----------
    address
        Where it is: an address (see `equipnet.connection.address.parse_address`) or any client endpoint of Twisted.
    buffer_size
        How many bytes `recv` gives at most, where nothing else is said.
    encoding
        Of text, both ways.
    encoding_errors
        What happens to characters that cannot be encoded or bytes that cannot be decoded, one of the names of `codecs`.
    family
        ``"INET"`` takes the IPv4 addresses of a host name, ``"INET6"`` its IPv6 addresses, ``"UNSPEC"`` whichever
        answers first. An IPv6 literal is taken as such. Counts from the next connection on.
    max_read_size
        How many bytes one message may have.
    proto
        0, or the number of TCP or UDP.
    read_termination
        What ends a reply, as bytes, text or in the textual forms of registers (``"\\n"``); a tuple for several; None
        for nothing, then a reply needs another end.
    rstrip
        Whether white space at the end of a text reply, its terminator included, is removed.
    socket_type
        ``"STREAM"`` or ``"DGRAM"``; an address that begins with ``udp`` decides it.
    termination
        Sets both terminations, and wins over them.
    timeout
        Seconds for one read or write, or for the two of a query; None or less than 0 for no limit.
    write_termination
        What is added to a command that does not end with it already.
    ending
        How a text reply ends where the terminator does not tell: a `Prompt`, an `IdleGap`, ... Every read and query can
        have another.
    resync
        `Resync`, or its name: what is done after a reply that did not come in time.
    resync_gap
        Seconds of silence for ``Resync.GAP``.
    queue_limit
        How many operations may wait; one more fails with `QueueFull`.
    name, retry, connect_timeout, tls, local_host, reactor
        As `ClientConnection` says.

    Attributes
    ----------
    degraded
        Whether the last operation or the connection has failed, and nothing has succeeded since.
    """

    kind = "instrument"

    def __init__(
        self,
        address: str | Address | IStreamClientEndpoint,
        *,
        buffer_size: int = 4096,
        encoding: str = "utf-8",
        encoding_errors: str = "strict",
        family: str = "INET",
        max_read_size: int = 1 << 20,
        proto: int = 0,
        read_termination: str | bytes | tuple[str | bytes, ...] | None = "\n",
        rstrip: bool = False,
        socket_type: str = "STREAM",
        termination: str | bytes | None = None,
        timeout: float | None = None,
        write_termination: str | bytes | None = "\r\n",
        ending: Ending | None = None,
        resync: Resync | str = Resync.RESET,
        resync_gap: float | None = None,
        queue_limit: int = 1000,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        connect_timeout: float = 10.0,
        tls: TLS | None = None,
        local_host: str | None = None,
        reactor: Any = None,
    ) -> None:
        ClientConnection.__init__(
            self,
            address,
            name=name,
            retry=retry,
            connect_timeout=connect_timeout,
            tls=tls,
            local_host=local_host,
            reactor=reactor,
        )
        if isinstance(self.address, Address) and self.address.scheme == "udp":
            socket_type = "DGRAM"
        Settings.__init__(
            self,
            buffer_size=buffer_size,
            encoding=encoding,
            encoding_errors=encoding_errors,
            family=family,
            max_read_size=max_read_size,
            proto=proto,
            read_termination=read_termination,
            rstrip=rstrip,
            socket_type=socket_type,
            termination=termination,
            timeout=timeout,
            write_termination=write_termination,
            ending=ending,
        )
        self.resync = Resync(resync)
        self.resync_gap = resync_gap
        if self.resync is Resync.GAP and not (resync_gap and 0 < resync_gap < math.inf):
            raise ValueError("resync by a gap needs a resync_gap of more than 0 seconds")
        if queue_limit < 1:
            raise ValueError(f"queue_limit is {queue_limit}, less than 1")
        self.queue_limit = queue_limit
        self.degraded = False
        self._degraded_observers: list[Callable[[Instrument, bool, str], object]] = []
        self._unsolicited: Callable[[str], object] | None = None
        self._unsolicited_pattern: re.Pattern[bytes] | None = None
        # What is being done, what waits, who holds the instrument, and what waits inside of that transaction.
        self._active: Operation | None = None
        self._queue: deque[Operation] = deque()
        self._holder: Operation | None = None
        self._inner: deque[Operation] = deque()
        self._starting = False
        # Why the connection is being reset on purpose, so that what waits is kept.
        self._resetting: EquipmentConnectionError | None = None
        # How the message ends that a read did not get in time, and that may still come; `Unending` where there may be
        # several.
        self._overdue: Ending | None = None
        # How many replies in a row did not come in time.
        self._missed = 0
        # When the active operation has taken too long. The timer may be earlier: it is not moved for each operation.
        self._deadline: float | None = None
        self._timer: IDelayedCall | None = None
        self._timer_at = 0.0

    # What MSL-Equipment's users ask

    @property
    def host(self) -> str:
        """The host of the address."""
        return self.address.host if isinstance(self.address, Address) else ""

    @property
    def port(self) -> int:
        """The port of the address; 0 where it has none."""
        return self.address.port if isinstance(self.address, Address) else 0

    @staticmethod
    def parse_address(text: str) -> Address:
        """Read an address; as `equipnet.connection.address.parse_address`, which says which forms there are."""
        return parse_address(text)

    # What users call

    def write(
        self, message: str | bytes, data: Data | None = None, fmt: str | None = "ieee", dtype: DTypeLike = "<f"
    ) -> Deferred[int]:
        """
        Send a command, with numbers behind it if there are any.

        Parameters
        ----------
        message
            The command; text is encoded, the termination is added unless it is there.
        data
            Numbers, or bytes, to send behind the command.
        fmt
            How: ``"ieee"``, ``"hp"``, ``"ascii"``, or None for bare numbers.
        dtype
            Of the numbers; for ``"ascii"`` a format, such as ``".6e"``.

        Returns
        -------
        Deferred[int]
            The number of bytes on the wire, terminator included, once the operating system has taken nearly all of
            them. Fails with `LocalProtocolError` when it cannot be encoded (nothing was sent), `EquipmentTimeout` when
            the instrument does not take it in time, `ConnectionLost`, `Disconnected`, `NotConnected`, and `QueueFull`.
        """
        try:
            payload = self.encode(message, data, fmt, dtype)
        except EquipmentError as error:
            return fail(error)
        return self.submit(Operation(self, Kind.WRITE, self._timeout, payload))

    def read(
        self,
        size: int | None = None,
        fmt: str | None = None,
        dtype: DTypeLike | None = None,
        decode: bool = True,
        *,
        ending: Ending | None = None,
    ) -> Deferred[Any]:
        """
        Wait for the next message.

        What has come before a timeout is kept for the next read.

        Parameters
        ----------
        size
            How many bytes it has; terminators mean nothing then.
        fmt
            ``"ieee"`` or ``"hp"`` for a block, which ends where its header says; ``"ascii"`` for a list of numbers.
        dtype
            Of the numbers, anything that numpy accepts.
        decode
            Whether text is decoded.
        ending
            How the message ends, if not as ``size`` and ``fmt``, or the instrument's own ending, say.

        Returns
        -------
        Deferred[str | bytes | numpy.ndarray]
            Text with its terminator, or bytes with ``decode=False``, or an array where there is a ``dtype``, or the
            bytes in a block where there is none. Fails with `EquipmentTimeout` (which holds what had come),
            `MessageTooLong` (the stream goes on after that message), `RemoteProtocolError` when it is not what it
            should be (its ``data`` are the bytes), `LocalProtocolError` for arguments that make no sense,
            `ConnectionLost`, `Disconnected`, `NotConnected` and `QueueFull`.
        """
        try:
            ending, finish = self.reply(size, fmt, dtype, decode, ending)
        except EquipmentError as error:
            return fail(error)
        return self.submit(Operation(self, Kind.READ, self._timeout, b"", ending, self._max_read_size, finish))

    def query(
        self,
        message: str | bytes,
        delay: float = 0.0,
        size: int | None = None,
        fmt: str | None = None,
        dtype: DTypeLike | None = None,
        decode: bool = True,
        *,
        ending: Ending | None = None,
    ) -> Deferred[Any]:
        """
        Send a command and wait for its reply.

        What came before the command was sent is no reply to it, and is dropped.

        Parameters
        ----------
        message
            The command, as in `write`.
        delay
            Seconds to wait between the command and the reading; `timeout` begins to count after them.
        size, fmt, dtype, decode, ending
            As in `read`.

        Returns
        -------
        Deferred[str | bytes | numpy.ndarray]
            As `read`; when it fails with `EquipmentTimeout`, the connection is made synchronous again as ``resync``
            says.
        """
        try:
            if not 0 <= delay < math.inf:
                raise LocalProtocolError(f"A delay is 0 seconds or more, not {delay!r}")
            payload = self.encode(message)
            ending, finish = self.reply(size, fmt, dtype, decode, ending)
        except EquipmentError as error:
            return fail(error)
        return self.submit(
            Operation(self, Kind.QUERY, self._timeout, payload, ending, self._max_read_size, finish, delay)
        )

    def send(self, message: bytes) -> Deferred[int]:
        """
        Send bytes as they are, after connecting again if there is no connection (SOCS's TCPInterface).

        As before a `query`, the connection is made synchronous first when an earlier `recv` or `read` did not get its
        message: that message is no reply to these bytes.

        Returns
        -------
        Deferred[int]
            As `write`, and fails with `ConnectFailed` when the one attempt to connect does not succeed. When the
            connection is lost before the first byte was written, there is one more attempt, except in a transaction;
            when it is lost in the middle the bytes are not sent again: the instrument may have acted on them.
        """
        operation = Operation(self, Kind.SEND, self._timeout, bytes(message))

        def send_after_all(reason: Failure) -> Any:
            if operation.begun or reason.check(ConnectionLost, RemoteProtocolError) is None:
                return reason
            again = Operation(self, Kind.SEND, operation.timeout, operation.payload)
            return self.connect(max_attempts=1).addCallback(lambda _: self.submit(again))

        if self._accepts:
            sent = self.submit(operation)
            # In a transaction another connection may not know what was set in it.
            return sent if self.is_held_here() else sent.addErrback(send_after_all)
        connected: Deferred[Any] = self.connect(max_attempts=1)
        return connected.addCallback(lambda _: self.submit(operation))

    def recv(self, bufsize: int | None = None) -> Deferred[bytes]:
        """
        Wait for any bytes (SOCS's TCPInterface).

        Parameters
        ----------
        bufsize
            How many at most; `buffer_size` where nothing is given.

        Returns
        -------
        Deferred[bytes]
            At least one byte; of UDP the whole datagram, which may be empty. Fails as `read`; a closed connection is an
            error, never an empty result.
        """
        try:
            ending: Ending = Available(min(self._buffer_size if bufsize is None else bufsize, self._max_read_size))
        except EquipmentError as error:
            return fail(error)
        if self.is_datagram:
            ending = Datagram()
        return self.submit(Operation(self, Kind.READ, self._timeout, b"", ending, self._max_read_size))

    def transaction(self) -> Transaction:
        """
        Keep several operations together: ``async with instrument.transaction():``.

        Until the block ends nobody else's operations are begun; those of the coroutine that runs the block, of
        coroutines that it starts, and of callbacks of the Deferreds that these operations gave, are. What the callback
        of another Deferred asks (a ``deferLater``, say) waits for the end of the block, so never let the block wait for
        that: await such a Deferred, and ask then.

        Entering fails as `write`. When the connection goes between two operations of the block, the second one fails
        with `ConnectionLost`, also when there is a new connection by then: what the first one set in the instrument may
        be gone.
        """
        return Transaction(self)

    def on_unsolicited(self, handler: Callable[[str], object] | None, pattern: str | bytes | None = None) -> None:
        """
        Give messages that nobody asked for to ``handler``, decoded as text.

        Without a handler they are kept for the next `read`, and dropped by the next `query`.

        Parameters
        ----------
        handler
            Called with each message; what it raises is logged. None to have no handler any more.
        pattern
            A regular expression that such messages match: then they are recognised while a reply is awaited, too.
            Without it only what comes while nobody waits, outside of transactions, is unsolicited. It is not searched
            for in the middle of a reply that ends with something else than a terminator or is no block: where an
            instrument sends such messages at any time, its replies need one of these.
        """
        if isinstance(pattern, str):
            pattern = pattern.encode(self._encoding)
        self._unsolicited_pattern = None if pattern is None or handler is None else re.compile(pattern)
        self._unsolicited = handler
        if self.protocol is not None:
            self._tell_of_unsolicited(self.protocol)

    def observe_degraded(self, observer: Callable[[Instrument, bool, str], object]) -> None:
        """
        Call ``observer(instrument, degraded, reason)`` once for each change of `degraded`; what it raises is logged.
        """
        self._degraded_observers.append(observer)

    # What the connection asks

    def build_protocol(self) -> WireProtocol:
        greeting = b""
        if isinstance(self.address, Address) and self.address.gpib:
            # Prologix manual: be the controller, read after each write, talk to this GPIB address.
            numbers = " ".join(map(str, self.address.gpib))
            greeting = f"++mode 1\n++auto 1\n++addr {numbers}\n".encode("ascii")
        protocol = InstrumentProtocol(self, self.reactor, greeting)
        protocol.unchoked = self._unchoked
        protocol.expecting = self._is_expecting
        self._tell_of_unsolicited(protocol)
        return protocol

    def endpoint(self) -> IStreamClientEndpoint:
        address = self.address
        if not isinstance(address, Address):
            return address
        if self.is_datagram and address.scheme != "udp":
            if address.scheme != "tcp":
                raise LocalProtocolError(f"There are no datagrams over {address.scheme}")
            address = Address("udp", address.host, address.port)
        family = socket.AddressFamily[f"AF_{self._family}"]
        return client_endpoint(address, self.reactor, tls=self._tls, local_host=self._local_host, family=family)

    def usable(self, protocol: WireProtocol, reason: str) -> None:
        resetting, self._resetting = self._resetting, None
        self._overdue = None
        self._missed = 0
        super().usable(protocol, reason)
        if self.degraded and resetting is None:
            self._set_degraded(False, reason)
        self.start_next()

    def lost(self, error: EquipmentConnectionError) -> None:
        self._stop_timer()
        if error is self._resetting and self.state is not State.STOPPED:
            return
        self._resetting = None
        self._note_loss(error)
        waiting = self._take_all()
        if not isinstance(error, Disconnected):
            self._set_degraded(True, str(error))
        for operation in waiting:
            operation.fail(error)

    def restart(self, error: EquipmentConnectionError, abort: bool = True) -> None:
        if self.protocol is None or self._closing is not None:
            return
        # What waits fails with the connection that it waits for; what is called from now on waits for the new one.
        self._note_loss(error)
        waiting = self._take_all()
        self._resetting = error
        super().restart(error, abort)
        for operation in waiting:
            operation.fail(error)

    @property
    def is_datagram(self) -> bool:
        return self._socket_type == "DGRAM" or (isinstance(self.address, Address) and self.address.scheme == "udp")

    # What operations and transactions tell

    def submit(self, operation: Operation) -> Deferred[Any]:
        """Begin an operation, or let it wait for its turn; gives its answer."""
        if (
            self._active is None
            and not self._queue
            and self._holder is None
            and self._machine.state is State.READY
            and self.protocol.ended_by is None
        ):
            self._begin_operation(operation)
            return operation.answer
        holder = self._holder if self._holder in operation.within else None
        if holder is not None and holder.broken_by is not None:
            reason, holder.broken_by = holder.broken_by, None
            lost = ConnectionLost(f"{self.name}: the connection went in the middle of this transaction: {reason}")
            lost.__cause__ = reason
            return fail(lost)
        if not self._accepts:
            error = NotConnected(f"{self.name} is {self.state.value}; {self.last_error or 'connect it first'}")
            error.__cause__ = self.last_error
            return fail(error)
        queue = self._queue if holder is None else self._inner
        if len(queue) >= self.queue_limit:
            return fail(QueueFull(f"{self.name}: {self.queue_limit} operations wait already"))
        queue.append(operation)
        self.start_next()
        return operation.answer

    def went_well(self, operation: Operation) -> None:
        """Take note that the message of the active operation came and made sense."""
        self._active = None
        self._deadline = None
        self._overdue = None
        self._missed = 0
        if self.degraded:
            self._set_degraded(False, "a reply came")

    def went_wrong(self, operation: Operation, error: Exception) -> None:
        """Take note that the message of the active operation did not come, or made no sense."""
        self._active = None
        self._deadline = None
        protocol = self.protocol
        if protocol is not None and protocol.lost_track and protocol.ended_by is None:
            reset = EquipmentConnectionError(f"{self.name}: nobody knows where the next message begins")
            reset.__cause__ = error
            self._reset(reset)
        if not isinstance(error, Disconnected):
            self._set_degraded(True, str(error))

    def is_ending_because_of(self, error: EquipmentConnectionError) -> bool:
        """Whether ``error`` is the end of the present connection; `lost` is called with it in a moment."""
        return self.protocol is not None and self.protocol.ended_by is error

    def cancelled(self, operation: Operation) -> None:
        """Forget an operation whose caller does not want its answer any more."""
        if operation is self._active:
            self._abandon(operation, Disconnected(f"{self.name}: the reply to a cancelled query is not waited for"))
            self.start_next()
        else:
            for queue in (self._queue, self._inner):
                if operation in queue:
                    queue.remove(operation)

    def is_held_here(self) -> bool:
        """Whether the running coroutine is inside of the transaction that holds the instrument."""
        return self._holder is not None and self._holder in holds.get()

    def release(self, hold: Operation) -> None:
        """End the transaction of ``hold``; what still waits inside of it comes next."""
        if self._holder is hold:
            self._holder = None
            self._queue.extendleft(reversed(self._inner))
            self._inner.clear()
            if self.state is State.READY:
                self.protocol.expect()
            self.start_next()

    def _note_loss(self, error: EquipmentConnectionError) -> None:
        if self._holder is not None and self._active is None and not self._inner:
            self._holder.broken_by = error

    # The life of an operation

    @property
    def _accepts(self) -> bool:
        return self._resetting is not None or self.state in (State.READY, State.CONNECTED, State.CONNECTING)

    def _begin_operation(self, operation: Operation) -> None:
        protocol = self.protocol
        kind = operation.kind
        if kind is Kind.QUERY or kind is Kind.SEND:
            overdue = self._overdue
            if overdue is None and protocol.held_back:
                overdue = Unending()  # nobody knows how much there is that nobody has read
            if overdue is not None:
                self._catch_up(overdue, operation)
                return
        self._active = operation
        if kind is Kind.QUERY:
            protocol.discard_input()
            if self._active is not operation:
                return  # who was told of an unsolicited message has ended it
        operation.begun = True
        if operation.timeout is not None and not operation.delay:
            self._limit_time(operation.timeout)
        if operation.payload:
            try:
                protocol.write(operation.payload)
            except Exception as error:
                self._not_sent(operation, error)
                return
            if self._active is not operation:
                return  # a tap has ended it
        if kind is Kind.READ or (kind is Kind.QUERY and not operation.delay):
            protocol.read(operation.ending, operation.limit, operation)
        elif kind is Kind.QUERY:
            operation.pause = self.reactor.callLater(operation.delay, self._read_reply, operation)
        elif kind is Kind.HOLD:
            self._holder = operation
            protocol.expect()
            self._done(operation, None)
        elif not protocol.choked:
            self._done(operation, len(operation.payload))

    def _read_reply(self, operation: Operation) -> None:
        if operation.timeout is not None:
            self._limit_time(operation.timeout)
        self.protocol.read(operation.ending, operation.limit, operation)

    def _done(self, operation: Operation, value: object) -> None:
        self._active = None
        self._deadline = None
        operation.succeed(value)
        self.start_next()

    def _not_sent(self, operation: Operation, reason: Exception) -> None:
        """Fail an operation whose bytes the transport does not take, as UDP says at once; nothing was sent."""
        self._active = None
        self._deadline = None
        if not isinstance(reason, LocalProtocolError):
            error = EquipmentConnectionError(f"{self.name}: nothing can be sent: {reason}")
            error.__cause__ = reason
            self._set_degraded(True, str(error))
            reason = error
        operation.fail(reason)
        self.start_next()

    def start_next(self) -> None:
        """Begin the operations that wait, as far as they can be begun now."""
        if self._starting or not (self._queue or self._inner):
            return
        self._starting = True
        try:
            while self._active is None and self.state is State.READY and self.protocol.ended_by is None:
                queue = self._queue if self._holder is None else self._inner
                if not queue:
                    break
                self._begin_operation(queue.popleft())
        finally:
            self._starting = False

    def _take_all(self) -> list[Operation]:
        """Take the operation that is active and those that wait, all of which are about to fail."""
        waiting = [*self._inner, *self._queue]
        self._inner.clear()
        self._queue.clear()
        if self._active is not None:
            waiting.insert(0, self._active)
            self._active = None
            self._deadline = None
            if self.protocol is not None:
                self.protocol.stop_reading()
        return waiting

    def _unchoked(self) -> None:
        operation = self._active
        if operation is not None and operation.kind in (Kind.WRITE, Kind.SEND):
            self._done(operation, len(operation.payload))

    # When a reply does not come in time

    def _limit_time(self, seconds: float) -> None:
        deadline = self._deadline = self.reactor.seconds() + seconds
        if self._timer is None:
            self._timer = self.reactor.callLater(seconds, self._check_deadline)
            self._timer_at = deadline
        elif deadline < self._timer_at:
            self._timer.reset(seconds)
            self._timer_at = deadline

    def _check_deadline(self) -> None:
        self._timer = None
        operation, deadline = self._active, self._deadline
        if operation is None or deadline is None:
            return
        remaining = deadline - self.reactor.seconds()
        if remaining > 0:
            self._limit_time(remaining)
        else:
            self._timed_out(operation)

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _timed_out(self, operation: Operation) -> None:
        assert operation.timeout is not None
        if operation.ending is None:
            error = EquipmentTimeout(operation.timeout, "the instrument to take what is written")
        else:
            error = EquipmentTimeout(operation.timeout, operation.ending.describe(), self.protocol.partial)
        self._abandon(operation, error)
        self._set_degraded(True, str(error))
        operation.fail(error)
        self.start_next()

    def _abandon(self, operation: Operation, error: EquipmentConnectionError) -> None:
        """Stop waiting for what the active operation waits for."""
        self._active = None
        self._deadline = None
        if operation.pause is not None and operation.pause.active():
            operation.pause.cancel()
        self.protocol.stop_reading()
        if operation.kind in (Kind.WRITE, Kind.SEND):
            self._reset(error)
        elif operation.kind is Kind.READ:
            # Whether this read was to get the same message as the one before it, nobody knows.
            self._overdue = operation.ending if self._overdue is None else Unending()
        else:
            assert operation.ending is not None
            self._resynchronise(operation.ending, error)

    def _catch_up(self, overdue: Ending, operation: Operation) -> None:
        """Make up for a read that did not get its message, before a query is asked that could get it instead."""
        self._overdue = None
        (self._queue if self._holder is None else self._inner).appendleft(operation)
        self._resynchronise(overdue, EquipmentConnectionError(f"{self.name}: what was not read may be on its way"))
        self.start_next()

    def _resynchronise(self, ending: Ending, error: EquipmentConnectionError) -> None:
        """Make sure that the message which did not come in time is no answer to anything else."""
        protocol = self.protocol
        if self.resync is Resync.GAP and self.resync_gap is not None:
            self.unusable(protocol, str(error))
            if protocol.ended_by is None:  # an observer may have ended it
                protocol.drain(self.resync_gap, partial(self._drained, protocol, error))
        elif (
            self.resync is Resync.DROP
            and self._missed < LATE_LIMIT
            and not isinstance(ending, (Available, Unending))  # where the late message ends, nothing tells
        ):
            self._missed += 1
            protocol.drop_message(ending)
        else:
            self._reset(error)

    def _drained(self, protocol: InstrumentProtocol, error: EquipmentConnectionError, silent: bool) -> None:
        if silent:
            self.usable(protocol, f"silent for {self.resync_gap:g} s")
        else:
            self._reset(error)

    def _reset(self, error: EquipmentConnectionError) -> None:
        self._resetting = error
        super().restart(error)

    # Who is told

    def _set_degraded(self, degraded: bool, reason: str) -> None:
        if degraded is self.degraded:
            return
        self.degraded = degraded
        for observer in tuple(self._degraded_observers):
            try:
                observer(self, degraded, reason)
            except Exception:
                self.log.failure("{name}: an observer of degraded raised", name=self.name)

    def _tell_of_unsolicited(self, protocol: InstrumentProtocol) -> None:
        protocol.listen(
            None if self._unsolicited is None else self._take_unsolicited,
            self._unsolicited_pattern,
            Datagram() if self.is_datagram else self.line_ending,
            self._max_read_size,
        )

    def _is_expecting(self) -> bool:
        """Whether somebody is going to read what comes, though nobody does yet."""
        active = self._active
        return (
            self._holder is not None or self._overdue is not None or (active is not None and active.kind is Kind.QUERY)
        )

    def _renew(self) -> None:
        super()._renew()
        if self.protocol is not None:
            self._tell_of_unsolicited(self.protocol)

    def _take_unsolicited(self, message: bytes) -> None:
        assert self._unsolicited is not None
        self._unsolicited(message.decode(self._encoding, "replace"))
