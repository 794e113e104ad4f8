"""
One HSMS connection: frames in and out, the timers, and the transactions that are open.

In the style of Twisted's Int32StringReceiver, with one difference: what has come of a long message is kept in one
buffer that grows, so that its cost grows with its length only. All timers of a connection share one delayed call, for
the earliest of their ends; messages of one turn of the reactor leave in one write.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from io import BytesIO
from typing import Any
from typing import Protocol as Shape

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from equipnet.connection.protocol import Owner, WireProtocol
from equipnet.connection.tcp import sender
from equipnet.errors import (
    ConnectionLost,
    Disconnected,
    EquipmentConnectionError,
    EquipmentTimeout,
    LocalProtocolError,
    MessageTooLong,
    NotConnected,
    QueueFull,
    RemoteProtocolError,
)
from equipnet.hsms.message import (
    FRAME,
    HEADER_SIZE,
    NO_SESSION,
    TEXT_START,
    DeselectStatus,
    Header,
    ReceivedMessage,
    RejectReason,
    SelectStatus,
    SType,
    encode,
)
from equipnet.hsms.session import (
    Action,
    Arrival,
    DeselectRejected,
    HsmsEvent,
    HsmsState,
    MessageRefused,
    MessageRejected,
    SelectRejected,
    Session,
    TransactionAborted,
)
from equipnet.hsms.settings import HsmsSettings
from equipnet.secs import B, DecodeError, Message

#: So many bytes are given to the transport in one piece before we look whether the other side takes them.
PIECE = 1 << 18

#: Seconds that the last words of a conversation may take to leave.
LAST_WORDS_TIME = 0.5

# A clock may wake us so much before a time that was computed from its own.
_EPSILON = 1e-6

_NEVER = float("inf")

_RESPONSES = {
    SType.SELECT_RSP: Arrival.SELECT_RSP,
    SType.DESELECT_RSP: Arrival.DESELECT_RSP,
    SType.LINKTEST_RSP: Arrival.LINKTEST_RSP,
}

_REQUESTS = {
    SType.SELECT_REQ: Arrival.SELECT_REQ,
    SType.DESELECT_REQ: Arrival.DESELECT_REQ,
    SType.LINKTEST_REQ: Arrival.LINKTEST_REQ,
    SType.REJECT_REQ: Arrival.REJECT_REQ,
    SType.SEPARATE_REQ: Arrival.SEPARATE_REQ,
}


class Counts:
    """
    What has happened on a connection since it was made, whatever sockets it used.

    Attributes
    ----------
    sent, received
        Data messages.
    late
        Replies to nothing that is open: they came after T3, after their request was cancelled, or twice.
    timeouts
        Transactions that ended by T3.
    rejected
        Messages that we answered with Reject.req.
    stray
        Primaries with another session id than ours.
    """

    __slots__ = ("late", "received", "rejected", "sent", "stray", "timeouts")

    def __init__(self) -> None:
        self.sent = self.received = self.late = self.timeouts = self.rejected = self.stray = 0

    def __repr__(self) -> str:
        return f"<Counts {' '.join(f'{name}={getattr(self, name)}' for name in self.__slots__)}>"


class HsmsOwner(Owner, Shape):
    """What an HSMS protocol tells the service that it belongs to, beside what every protocol tells."""

    counts: Counts

    def select_requested(self, protocol: HsmsProtocol, header: Header) -> int:
        """Say with which status a Select.req is answered."""
        ...

    def primary_received(self, protocol: HsmsProtocol, message: ReceivedMessage) -> None:
        """Take a primary of the other side."""

    def closing(self, protocol: HsmsProtocol) -> None:
        """Take note that the connection is about to end, or has just ended."""


class _Transaction:
    """A primary of ours that waits for its reply; ``deadline`` is infinite until it has left."""

    __slots__ = ("answer", "deadline", "function", "header", "stream", "t3")

    def __init__(self, answer: Deferred[ReceivedMessage], header: bytes, stream: int, function: int, t3: float) -> None:
        self.answer = answer
        self.header = header  # the frame as far as its header
        self.stream = stream
        self.function = function
        self.t3 = t3
        self.deadline = _NEVER


class _Control:
    """A control message of ours that waits for its response."""

    __slots__ = ("answer", "deadline", "request")

    def __init__(self, answer: Deferred[int], request: SType, deadline: float) -> None:
        self.answer = answer
        self.request = request
        self.deadline = deadline


@implementer(IPushProducer)
class HsmsProtocol(WireProtocol):
    """
    One TCP connection that speaks HSMS.

    Parameters
    ----------
    owner
        The service that is told what happens.
    clock
        Measures all times.
    settings
        What holds for this conversation; can be replaced until it is selected.
    active
        Whether ours is the side that connects, and selects.

    Attributes
    ----------
    session
        The state and the rules.
    in_work
        How many primaries of the other side have not been answered yet.
    """

    owner: HsmsOwner

    def __init__(self, owner: HsmsOwner, clock: IReactorTime, settings: HsmsSettings, active: bool) -> None:
        super().__init__(owner)
        self.settings = settings
        self.session = Session(active, settings.strict)
        self.active = active
        self.in_work = 0
        self._clock = clock
        self._limit = settings.message_limit
        self._decoding = (settings.max_depth, settings.encoding)
        # What has come of a message that is not whole, how much that is, and how much is missing for the next step.
        self._begun: BytesIO | None = None
        self._have = 0
        self._need = 0
        # What is to be sent, in order: what was put in this turn, and what waits for the transport to take more. Where
        # there are marks, callables stand between the pieces, called when what is before them has left.
        self._send: Callable[[bytes], None]
        self._put: list[Any] = []
        self._backlog: deque[Any] = deque()
        self._queued = 0
        self._has_marks = False
        self._leaving: list[Callable[[], None]] = []
        self._flushing: IDelayedCall | None = None
        self._splitting: IDelayedCall | None = None
        self._reading = False
        self._choked = False
        self._held_back = False
        self._closing_late: IDelayedCall | None = None
        # What is open, by system bytes.
        self._open: dict[int, _Transaction] = {}
        self._controls: dict[int, _Control] = {}
        self._system = 0
        # The ends of the timers, and the one call that waits for the earliest of them or for a time before it.
        self._t7_end = _NEVER
        self._t8_end = _NEVER
        self._stall_end = _NEVER
        self._linktest_at = _NEVER
        self._linktests_missed = 0
        self._heard_at = 0.0
        self._timer: IDelayedCall | None = None
        self._timer_at = _NEVER

    @property
    def state(self) -> HsmsState:
        """Where the conversation stands."""
        return self.session.state

    @property
    def is_selected(self) -> bool:
        """Whether data messages can be exchanged."""
        return self.session.state is HsmsState.SELECTED

    @property
    def open_transactions(self) -> int:
        """How many primaries of ours wait for their reply."""
        return len(self._open)

    # What the service uses

    def adopt(self, owner: HsmsOwner, settings: HsmsSettings) -> None:
        """Belong to another service from now on."""
        self.owner = owner
        self.taps = owner.taps
        self.settings = settings
        self._limit = settings.message_limit
        self._decoding = (settings.max_depth, settings.encoding)

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
            The reply. Ends otherwise as `equipnet.hsms.service.HsmsConnection.request` says.
        """
        if not message.wait:
            return fail(LocalProtocolError(f"{message} wants no reply; send it, or set its W-bit"))
        error = self._obstacle()
        if error is not None:
            return fail(error)
        settings = self.settings
        if len(self._open) >= settings.open_limit:
            return fail(QueueFull(f"{self.owner.name}: {settings.open_limit} transactions are open already"))
        system = self._next_system()
        try:
            pieces = encode(message, settings.session_id, system)
            head, fits = self._room_for(pieces)
        except LocalProtocolError as refused:
            return fail(refused)
        except QueueFull as full:
            return fail(full)

        def forget(_: object) -> None:
            self._open.pop(system, None)

        answer: Deferred[ReceivedMessage] = Deferred(forget)
        transaction = _Transaction(
            answer, head, message.stream, message.function, settings.timers.t3 if timeout is None else timeout
        )
        self._open[system] = transaction
        self._write(pieces, message)
        if fits:
            self._start(transaction)
        else:
            self._mark(lambda: self._start(transaction))
        return answer

    def send(self, message: Message) -> Deferred[None]:
        """
        Send a primary that wants no reply.

        Returns
        -------
        Deferred[None]
            Fires when the transport has taken it.
        """
        if message.wait:
            return fail(LocalProtocolError(f"{message} wants a reply; use request"))
        if not message.function & 1:
            return fail(LocalProtocolError(f"{message} is a reply; use reply"))
        error = self._obstacle()
        if error is not None:
            return fail(error)
        try:
            pieces = encode(message, self.settings.session_id, self._next_system())
            _, fits = self._room_for(pieces)
        except (LocalProtocolError, QueueFull) as refused:
            return fail(refused)
        self._write(pieces, message)
        if fits:
            return succeed(None)
        taken: Deferred[None] = Deferred(_ignore)
        self._mark(_Taken(taken))
        return taken

    def reply(self, primary: ReceivedMessage, reply: Message) -> None:
        """
        Answer a primary of the other side.

        Raises
        ------
        LocalProtocolError
            When it is no reply to it, or none is wanted.
        NotConnected
            When it can no longer be sent.
        """
        head = primary._head
        if not primary.wait:
            raise LocalProtocolError(f"{primary} wants no reply")
        if reply.stream != head[2] & 0x7F or (reply.function != head[3] + 1 and reply.function != 0):
            raise LocalProtocolError(f"{reply} is no reply to {primary}")
        error = self._obstacle()
        if error is not None:
            raise error
        self._write(encode(reply, head[1], head[6]), reply)
        if self._queued > self.settings.queue_limit:
            self._hold_back()

    def report(self, function: int, header: bytes) -> None:
        """Send an error message of stream 9 about the message with that header."""
        if self._obstacle() is None:
            message = Message(9, function, False, B(header))
            self._write(encode(message, self.settings.session_id, self._next_system()), message)

    def reject(self, message: ReceivedMessage, reason: int) -> None:
        """Answer a data message with a Reject.req."""
        self._reject(message._head, SType.DATA, reason)

    def send_bytes(self, frame: bytes, size: int | None = None) -> None:
        """
        Send bytes as they are, for simulators.

        Parameters
        ----------
        frame
            The bytes.
        size
            How many of them leave in one turn; all where nothing is given.
        """
        if size is None:
            self._queued += len(frame)
            self._put.append(frame)
            if not self._reading:
                self._flush_soon()
            return
        # Nothing else leaves in the meantime.
        self._flush()
        self.pauseProducing()
        self._send_piece(frame, size)

    def _send_piece(self, frame: bytes, size: int) -> None:
        self._splitting = None
        self.transport.write(frame[:size])
        if len(frame) > size:
            self._splitting = self._clock.callLater(0, self._send_piece, frame[size:], size)
        else:
            self.resumeProducing()

    def select(self) -> Deferred[None]:
        """
        Ask the other side to be selected (E37, Select procedure).

        Returns
        -------
        Deferred[None]
            Fires when it is; at once when it is already. Fails with `SelectRejected`, with `MessageRejected`, with
            `EquipmentTimeout` after T6, which ends the connection, and with what the connection ended by.
        """
        if self.is_selected:
            return succeed(None)
        return self._control(SType.SELECT_REQ).addCallback(self._select_answered)

    def deselect(self) -> Deferred[None]:
        """
        End the communication, and keep the TCP connection (E37, Deselect procedure; not in HSMS-SS).

        Returns
        -------
        Deferred[None]
            Fires when the other side has agreed. Fails with `DeselectRejected`, and otherwise as `select`.
        """
        if self.settings.strict:
            return fail(LocalProtocolError("There is no Deselect in HSMS-SS (E37.1)"))
        return self._control(SType.DESELECT_REQ).addCallback(self._deselect_answered)

    def linktest(self) -> Deferred[None]:
        """
        Ask the other side whether it is there (E37, Linktest procedure).

        Returns
        -------
        Deferred[None]
            Fires when it is. Fails with `EquipmentTimeout` after T6, and otherwise as `select`.
        """
        return self._control(SType.LINKTEST_REQ).addCallback(lambda _: None)

    def release(self) -> None:
        """Take note that a primary which was in work is not any more."""
        self.in_work -= 1
        if self._held_back:
            self._hold_back()

    def hold(self) -> None:
        """Take note that a primary is in work for longer."""
        self.in_work += 1
        if self.in_work >= self.settings.open_limit:
            self._hold_back()

    def close(self, error: EquipmentConnectionError) -> None:
        """End the connection because of ``error``; what has been said still leaves, if it does so soon."""
        if self.ended_by is None:
            self.hang_up(error, abort=False)
            if self._gone is None:
                self._closing_late = self._clock.callLater(LAST_WORDS_TIME, self._close_now)

    def hang_up(self, error: EquipmentConnectionError, abort: bool = True) -> None:
        if self.ended_by is not None:
            super().hang_up(error, abort)
            return
        self._tell_closing(str(error))
        if self.ended_by is not None:
            return  # who was told has ended it
        if not abort:
            if self.is_selected and isinstance(error, Disconnected):
                self._put_control(SType.SEPARATE_REQ, NO_SESSION, self._next_system())
            self._write_all()
        # With a producer that is paused Twisted would wait for it before it closes.
        self.transport.unregisterProducer()
        super().hang_up(error, abort)

    # What Twisted calls

    def begin(self) -> None:
        self._send = sender(self.transport)
        self.transport.registerProducer(self, True)
        self.session.move(HsmsEvent.CONNECT)
        now = self._heard_at = self._clock.seconds()
        self._t7_end = now + self.settings.timers.t7
        self._wake_at(self._t7_end)
        period = self.settings.timers.linktest
        if period is not None:
            self._linktest_at = now + period
            self._wake_at(self._linktest_at)
        if self.active:
            self.select().addErrback(self._not_selected)
            self._flush()

    def dataReceived(self, data: bytes) -> None:
        if self.ended_by is not None:
            return
        self._reading = True
        try:
            if self._begun is None:
                self._parse(data)
            else:
                self._continue(data)
        finally:
            self._reading = False
        if self.settings.linktest_when_idle:
            self._heard_at = self._clock.seconds()
        if self._put:
            self._flush()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.ended_by is None:
            self._tell_closing(f"{self.peer} is gone")
        if self._closing_late is not None and self._closing_late.active():
            self._closing_late.cancel()
        super().connectionLost(reason)

    def fail_pending(self, error: EquipmentConnectionError) -> None:
        for call in (self._timer, self._flushing, self._splitting):
            if call is not None and call.active():
                call.cancel()
        self._timer = self._flushing = self._splitting = None
        self._begun = None
        if self.session.state is not HsmsState.NOT_CONNECTED:
            self.session.move(HsmsEvent.DISCONNECT)
        waiting, self._put = [*self._leaving, *self._backlog, *self._put], []
        self._backlog.clear()
        self._leaving = []
        self._queued = 0
        self._fail_transactions(error)
        controls, self._controls = self._controls, {}
        for control in controls.values():
            control.answer.errback(error)
        for each in waiting:
            if isinstance(each, _Taken):
                each.fail(error)

    # The producer: what Twisted tells of the other side's appetite

    def pauseProducing(self) -> None:
        self._choked = True
        self._stall_end = self._clock.seconds() + self.settings.timers.t3
        self._wake_at(self._stall_end)

    def resumeProducing(self) -> None:
        self._choked = False
        self._stall_end = _NEVER
        left, self._leaving = self._leaving, []
        for each in left:
            each()
        if self.ended_by is None:
            self._drain()

    def stopProducing(self) -> None:
        self._choked = False

    # From chunks to messages

    def _parse(self, data: bytes, at: int = 0) -> None:
        """Act on the whole messages in a chunk, and keep what has begun of the next one."""
        size = len(data)
        unpack = FRAME.unpack_from
        while size - at >= TEXT_START:
            head = unpack(data, at)
            length = head[0]
            if not HEADER_SIZE <= length <= self._limit:
                self._refuse_length(length, data[at + 4 : at + TEXT_START])
                return
            end = at + 4 + length
            if end > size:
                break
            frame = data if length + 4 == size else data[at:end]
            if head[4] or head[5]:
                self._control_received(frame, head)
            else:
                self._data_received(frame, head)
            if self.ended_by is not None:
                return
            at = end
        if at < size:
            self._begin_message(data, at)

    def _begin_message(self, data: bytes, at: int) -> None:
        have = len(data) - at
        need = 4
        if have >= 4:
            length = int.from_bytes(data[at : at + 4], "big")
            if not HEADER_SIZE <= length <= self._limit:
                self._refuse_length(length, b"")
                return
            need = 4 + length
        begun = self._begun = BytesIO()
        begun.write(memoryview(data)[at:])
        self._have = have
        self._need = need
        self._expect_more()

    def _continue(self, data: bytes) -> None:
        """Add a chunk to the message that has begun."""
        begun = self._begun
        assert begun is not None
        size = len(data)
        missing = self._need - self._have
        if size < missing:
            begun.write(data)
            self._have += size
            self._expect_more()
            return
        self._begun = None
        self._t8_end = _NEVER
        if self._need == 4:
            self._parse(begun.getvalue() + data)
            return
        # Exactly the message, so that its text need not be copied again.
        begun.write(memoryview(data)[:missing])
        self._parse(begun.getvalue())
        if missing < size and self.ended_by is None:
            self._parse(data, missing)

    def _expect_more(self) -> None:
        # While we do not read, the other side cannot be late.
        if not self._held_back:
            end = self._t8_end = self._clock.seconds() + self.settings.timers.t8
            if end < self._timer_at:
                self._wake_at(end)

    def _refuse_length(self, length: int, header: bytes) -> None:
        if length < HEADER_SIZE:
            self.close(RemoteProtocolError(f"{self.peer} sent a message of {length} bytes, less than a header", header))
            return
        if len(header) == HEADER_SIZE and self.is_selected and self.settings.is_equipment and header[4:6] == b"\0\0":
            self.report(11, header)
        self.lengthLimitExceeded(length)

    def lengthLimitExceeded(self, length: int) -> None:
        """Take note that a message was announced which is longer than the limit; nothing of it has been kept."""
        self.close(MessageTooLong(f"{self.peer} announced a message of {length} bytes; message_limit is {self._limit}"))

    # What the other side can send: data

    def _data_received(self, frame: bytes, head: Any) -> None:
        message = ReceivedMessage(frame, head, self._decoding)
        if self.taps:
            self.tapped("in", frame, message)
        if self.session.state is not HsmsState.SELECTED:
            self._act(self.session.action_for(Arrival.DATA), head, frame)
            return
        owner = self.owner
        owner.counts.received += 1
        function = head[3]
        if function & 1:
            if head[2] == 9:
                self._error_received(message)
            owner.primary_received(self, message)
            return
        transaction = self._open.get(head[6])
        if (
            transaction is None
            or transaction.stream != head[2]
            or (function != transaction.function + 1 and function != 0)
            or head[1] != self.settings.session_id
        ):
            self._late_reply(message)
            return
        del self._open[head[6]]
        if function:
            transaction.answer.callback(message)
        else:
            transaction.answer.errback(
                TransactionAborted(f"S{transaction.stream}F{transaction.function} was answered with {message}")
            )

    def _late_reply(self, message: ReceivedMessage) -> None:
        self.owner.counts.late += 1
        self.log.info(
            "{name}: {header} from {peer} is a reply to nothing that is open; it is dropped",
            name=self.owner.name,
            header=message.header,
            peer=self.peer,
        )

    def _error_received(self, message: ReceivedMessage) -> None:
        """End the transaction that an error message of the equipment is about."""
        if message.function in (9, 13):
            return  # about a transaction of theirs
        try:
            item = message.item
        except DecodeError:
            return
        if isinstance(item, B) and len(item) == HEADER_SIZE:
            header = Header.from_bytes(item.content)
            transaction = self._open.get(header.system_bytes)
            if transaction is not None and transaction.header[4:] == item.content:
                del self._open[header.system_bytes]
                transaction.answer.errback(MessageRefused(header, message.function))

    # What the other side can send: control messages

    def _control_received(self, frame: bytes, head: Any) -> None:
        if self.taps:
            self.tapped("in", frame, Header(*head[1:]))
        s_type = head[5]
        control: _Control | None = None
        if head[4]:
            arrival = Arrival.OTHER_PTYPE
        elif s_type == SType.REJECT_REQ:
            arrival = Arrival.REJECT_REQ
        elif s_type in _REQUESTS:
            arrival = _REQUESTS[s_type] if head[0] == HEADER_SIZE else Arrival.LONG_CONTROL
        elif s_type in _RESPONSES:
            arrival = _RESPONSES[s_type] if head[0] == HEADER_SIZE else Arrival.LONG_CONTROL
            if arrival is not Arrival.LONG_CONTROL:
                control = self._controls.get(head[6])
                if control is None or control.request + 1 != s_type:
                    arrival = Arrival.ORPHAN_RSP
        else:
            arrival = Arrival.OTHER_STYPE
        self._act(self.session.action_for(arrival), head, frame)

    def _act(self, action: Action, head: Any, frame: bytes) -> None:
        if action is Action.CLOSE:
            header = Header(*head[1:])
            self.close(
                RemoteProtocolError(f"{self.peer} sent {header} while {self.state.value}, against E37.1", frame[:14])
            )
            return
        _ACTIONS[action](self, head)

    def _answer_select(self, head: Any) -> None:
        status = self.owner.select_requested(self, Header(*head[1:]))
        if self.ended_by is not None:
            return
        if status:
            self._put_control(SType.SELECT_RSP, head[1], head[6], status)
            if status == SelectStatus.EXHAUSTED or self.settings.strict:
                self.close(ConnectionLost(f"{self.peer} was not selected: status {status}"))
            return
        # The state comes first: the other side's first data message may be in what has been read already.
        self._selected()
        self._put_control(SType.SELECT_RSP, head[1], head[6], status)
        self.owner.usable(self, f"selected by {self.peer}")

    def _refuse_select(self, head: Any) -> None:
        self._put_control(SType.SELECT_RSP, head[1], head[6], SelectStatus.ALREADY_ACTIVE)

    def _answer_deselect(self, head: Any) -> None:
        self._put_control(SType.DESELECT_RSP, head[1], head[6], DeselectStatus.ENDED)
        self._deselected(f"deselected by {self.peer}")

    def _refuse_deselect(self, head: Any) -> None:
        self._put_control(SType.DESELECT_RSP, head[1], head[6], DeselectStatus.NOT_ESTABLISHED)

    def _answer_linktest(self, head: Any) -> None:
        self._put_control(SType.LINKTEST_RSP, head[1], head[6])

    def _complete(self, head: Any) -> None:
        if head[5] != SType.REJECT_REQ:
            self._controls.pop(head[6]).answer.callback(head[3])
            return
        control, transaction = self._controls.get(head[6]), self._open.get(head[6])
        if control is not None and (transaction is None or head[2] == control.request):
            del self._controls[head[6]]
            control.answer.errback(MessageRejected(str(SType(control.request).name), head[3]))
        elif transaction is not None:
            del self._open[head[6]]
            what = f"S{transaction.stream}F{transaction.function}"
            transaction.answer.errback(MessageRejected(what, head[3]))
        else:
            self.log.warn(
                "{name}: {peer} sent {header}, about nothing that is open",
                name=self.owner.name,
                peer=self.peer,
                header=Header(*head[1:]),
            )

    def _reject_stype(self, head: Any) -> None:
        self._reject(head, head[5], RejectReason.STYPE_NOT_SUPPORTED)

    def _reject_ptype(self, head: Any) -> None:
        self._reject(head, head[4], RejectReason.PTYPE_NOT_SUPPORTED)

    def _reject_not_open(self, head: Any) -> None:
        self._reject(head, head[5], RejectReason.TRANSACTION_NOT_OPEN)

    def _reject_not_selected(self, head: Any) -> None:
        self._reject(head, head[5], RejectReason.NOT_SELECTED)

    def _reject(self, head: Any, byte2: int, reason: int) -> None:
        self.owner.counts.rejected += 1
        self.log.info(
            "{name}: {header} from {peer} is rejected for reason {reason}",
            name=self.owner.name,
            header=Header(*head[1:]),
            peer=self.peer,
            reason=int(reason),
        )
        self._put_control(SType.REJECT_REQ, head[1], head[6], reason, byte2)

    def _ignore(self, head: Any) -> None:
        """Nothing."""

    def _separated(self, head: Any) -> None:
        self.close(ConnectionLost(f"{self.peer} separated"))

    # Being selected and not

    def _selected(self) -> None:
        self.session.move(HsmsEvent.SELECT)
        self._t7_end = _NEVER

    def _deselected(self, reason: str) -> None:
        self.session.move(HsmsEvent.DESELECT)
        self._t7_end = self._clock.seconds() + self.settings.timers.t7
        self._wake_at(self._t7_end)
        self._fail_transactions(NotConnected(f"{self.owner.name}: {reason}"))
        if self.ended_by is None:
            self.owner.unusable(self, reason)

    def _select_answered(self, status: int) -> None:
        if self.is_selected:
            return  # both sides selected at the same time
        if status:
            raise SelectRejected(status)
        self._selected()
        self.owner.usable(self, f"selected {self.peer}")

    def _not_selected(self, reason: Failure) -> None:
        error = reason.value
        if self.ended_by is None and not self.is_selected:
            if not isinstance(error, EquipmentConnectionError):
                self.log.failure("{name}: selecting {peer}", reason, name=self.owner.name, peer=self.peer)
                error = ConnectionLost(f"{self.peer} could not be selected: {error}")
            self.close(error)

    def _deselect_answered(self, status: int) -> None:
        if status:
            raise DeselectRejected(status)
        if self.is_selected:
            self._deselected("deselected from our side")

    def _fail_transactions(self, error: EquipmentConnectionError) -> None:
        transactions, self._open = self._open, {}
        for transaction in transactions.values():
            transaction.answer.errback(error)

    # How messages leave

    def _obstacle(self) -> EquipmentConnectionError | None:
        """Why no data message can be sent now."""
        if self.ended_by is not None:
            error = NotConnected(f"{self.owner.name}: the connection has ended: {self.ended_by}")
            error.__cause__ = self.ended_by
            return error
        if self.session.state is not HsmsState.SELECTED:
            return NotConnected(f"{self.owner.name} is {self.state.value}")
        return None

    def _next_system(self) -> int:
        system = self._system
        while True:
            system = system + 1 & 0xFFFF_FFFF
            if system not in self._open and system not in self._controls:
                self._system = system
                return system

    def _room_for(self, pieces: list[bytes | memoryview]) -> tuple[bytes, bool]:
        """Give what comes first of these pieces, and whether the transport will take all of them at once."""
        head = pieces[0]
        assert isinstance(head, bytes)
        size = len(head) if len(pieces) == 1 else int.from_bytes(head[:4], "big") + 4
        queued = self._queued
        if queued and queued + size > self.settings.queue_limit:
            raise QueueFull(f"{self.owner.name}: {queued} bytes wait to be sent already")
        return head, queued + size <= PIECE and not self._choked and not self._backlog

    def _write(self, pieces: list[bytes | memoryview], message: Message) -> None:
        owner = self.owner
        owner.counts.sent += 1
        if self.taps:
            raw = b"".join(pieces)
            self.tapped("out", raw, ReceivedMessage(raw))
            pieces = [raw]
        if len(pieces) == 1:
            self._queued += len(pieces[0])
            self._put.append(pieces[0])
        else:
            self._queued += int.from_bytes(pieces[0][:4], "big") + 4
            self._put += pieces
        if not self._reading:
            self._flush_soon()

    def _put_control(self, s_type: int, session_id: int, system: int, byte3: int = 0, byte2: int = 0) -> None:
        header = Header(session_id, byte2, byte3, 0, s_type, system)
        frame = header.to_frame()
        if self.taps:
            self.tapped("out", frame, header)
        self._queued += len(frame)
        self._put.append(frame)
        if not self._reading:
            self._flush_soon()

    def _control(self, request: SType) -> Deferred[int]:
        """Send a control message; gives the status in its response."""
        if self.ended_by is not None or self.state is HsmsState.NOT_CONNECTED:
            return fail(self._obstacle() or NotConnected(f"{self.owner.name} is not connected"))
        if len(self._controls) >= self.settings.open_limit:
            return fail(QueueFull(f"{self.owner.name}: {len(self._controls)} control messages are open already"))
        system = self._next_system()

        def forget(_: object) -> None:
            self._controls.pop(system, None)

        answer: Deferred[int] = Deferred(forget)
        deadline = self._clock.seconds() + self.settings.timers.t6
        self._controls[system] = _Control(answer, request, deadline)
        self._put_control(request, NO_SESSION, system)
        self._wake_at(deadline)
        return answer

    def _mark(self, when_left: Callable[[], None]) -> None:
        self._has_marks = True
        self._put.append(when_left)

    def _flush_soon(self) -> None:
        if self._flushing is None:
            self._flushing = self._clock.callLater(0, self._flush)

    def _flush(self) -> None:
        """Give what was put in this turn to the transport, as far as it takes it."""
        flushing, self._flushing = self._flushing, None
        if flushing is not None and flushing.active():
            flushing.cancel()
        put = self._put
        if not put:
            return
        self._put = []
        if self._has_marks or self._choked or self._backlog or self._queued > PIECE:
            self._has_marks = False
            self._backlog += put
            self._drain()
            return
        self._queued = 0
        self._send(put[0] if len(put) == 1 else b"".join(put))

    def _drain(self) -> None:
        """Give what waits to the transport, piece by piece, as long as the other side takes it."""
        backlog = self._backlog
        while backlog and not self._choked and self.ended_by is None:
            piece: list[Any] = []
            left: list[Callable[[], None]] = []
            size = 0
            while backlog and size < PIECE:
                first = backlog.popleft()
                if callable(first):
                    left.append(first)
                    continue
                if size + len(first) > PIECE:
                    view = memoryview(first)
                    backlog.appendleft(view[PIECE - size :])
                    first = view[: PIECE - size]
                piece.append(first)
                size += len(first)
            while backlog and callable(backlog[0]):
                left.append(backlog.popleft())
            if piece:
                self._queued -= size
                self.transport.write(b"".join(piece))
            if self._choked:
                self._leaving += left
            else:
                for each in left:
                    each()
        if self._held_back and self.ended_by is None:
            self._hold_back()

    def _write_all(self) -> None:
        """Give everything to the transport, whether the other side takes it or not."""
        pieces = [piece for piece in (*self._backlog, *self._put) if not callable(piece)]
        if pieces:
            self.transport.write(b"".join(pieces))
        self._backlog = deque(piece for piece in (*self._backlog, *self._put) if callable(piece))
        self._put = []
        self._queued = 0

    def _hold_back(self) -> None:
        """Read nothing more while too much is in work, or too much waits to be sent; go on when it is not."""
        settings = self.settings
        too_much = self.in_work >= settings.open_limit or self._queued > settings.queue_limit
        if too_much is self._held_back or self.ended_by is not None:
            return
        self._held_back = too_much
        if too_much:
            self._t8_end = _NEVER
            self.transport.pauseProducing()
        else:
            self.transport.resumeProducing()
            if self._begun is not None:
                self._expect_more()

    def _tell_closing(self, reason: str) -> None:
        try:
            self.owner.closing(self)
            # Who is about to be told of the end of a request must not find the connection usable.
            if self.is_selected:
                self.owner.unusable(self, reason)
        except Exception:
            self.log.failure("{name}: closing", name=self.owner.name)

    def _close_now(self) -> None:
        self.transport.abortConnection()

    # The timers

    def _start(self, transaction: _Transaction) -> None:
        """Let T3 begin: the message has left."""
        deadline = transaction.deadline = self._clock.seconds() + transaction.t3
        if deadline < self._timer_at:
            self._wake_at(deadline)

    def _wake_at(self, when: float) -> None:
        if when >= self._timer_at or self.ended_by is not None:
            return
        self._timer_at = when
        seconds = max(when - self._clock.seconds(), 0.0)
        if self._timer is None:
            self._timer = self._clock.callLater(seconds, self._woke)
        else:
            self._timer.reset(seconds)

    def _woke(self) -> None:
        self._timer = None
        self._timer_at = _NEVER
        now = self._clock.seconds() + _EPSILON
        timers = self.settings.timers
        if now >= self._t7_end:
            self.close(EquipmentTimeout(timers.t7, "being selected (T7)"))
        elif now >= self._t8_end:
            received = b"" if self._begun is None else self._begun.getvalue()[:64]
            self.close(EquipmentTimeout(timers.t8, f"the rest of a message of {self._need} bytes (T8)", received))
        elif now >= self._stall_end:
            self.hang_up(EquipmentTimeout(timers.t3, "the other side to take what is sent"))
        else:
            self._check_controls(now)
            if self.ended_by is None:
                self._check_transactions(now)
            if self.ended_by is None and now >= self._linktest_at:
                self._make_linktest(now)
        if self.ended_by is None:
            self._wake_at(self._earliest())

    def _earliest(self) -> float:
        ends = [self._t7_end, self._t8_end, self._stall_end, self._linktest_at]
        ends += [control.deadline for control in self._controls.values()]
        ends += [transaction.deadline for transaction in self._open.values()]
        return min(ends)

    def _check_controls(self, now: float) -> None:
        late = [(system, control) for system, control in self._controls.items() if now >= control.deadline]
        for system, control in late:
            if self._controls.pop(system, None) is None:
                continue
            name = SType(control.request + 1).name.capitalize().replace("_", ".")
            error = EquipmentTimeout(self.settings.timers.t6, f"{name} (T6)")
            if control.request is SType.LINKTEST_REQ:
                self._linktests_missed += 1
                if self._linktests_missed < self.settings.linktest_failures:
                    control.answer.errback(error)
                    continue
            self.close(error)
            control.answer.errback(error)
            return

    def _check_transactions(self, now: float) -> None:
        late = [(system, transaction) for system, transaction in self._open.items() if now >= transaction.deadline]
        for system, transaction in late:
            if self._open.pop(system, None) is None:
                continue
            self.owner.counts.timeouts += 1
            if self.settings.is_equipment:
                self.report(9, transaction.header[4:])
            what = f"S{transaction.stream}F{transaction.function + 1} (T3)"
            transaction.answer.errback(EquipmentTimeout(transaction.t3, what))

    def _make_linktest(self, now: float) -> None:
        period = self.settings.timers.linktest or _NEVER
        if self.settings.linktest_when_idle and self._heard_at + period > now:
            self._linktest_at = self._heard_at + period
            return
        self._linktest_at = self._clock.seconds() + period
        # One that is not answered is what `_check_controls` deals with.
        self.linktest().addCallbacks(self._linktest_answered, _ignore)

    def _linktest_answered(self, _: None) -> None:
        self._linktests_missed = 0


class _Taken:
    """Somebody who waits for the transport to take what was put before."""

    __slots__ = ("taken",)

    def __init__(self, taken: Deferred[None]) -> None:
        self.taken = taken

    def __call__(self) -> None:
        if not self.taken.called:
            self.taken.callback(None)

    def fail(self, error: EquipmentConnectionError) -> None:
        if not self.taken.called:
            self.taken.errback(error)


def _ignore(result: object) -> None:
    """Nothing."""


_ACTIONS: dict[Action, Callable[[HsmsProtocol, Any], None]] = {
    Action.SELECT: HsmsProtocol._answer_select,
    Action.REFUSE_SELECT: HsmsProtocol._refuse_select,
    Action.DESELECT: HsmsProtocol._answer_deselect,
    Action.REFUSE_DESELECT: HsmsProtocol._refuse_deselect,
    Action.ANSWER_LINKTEST: HsmsProtocol._answer_linktest,
    Action.COMPLETE: HsmsProtocol._complete,
    Action.REJECT_STYPE: HsmsProtocol._reject_stype,
    Action.REJECT_PTYPE: HsmsProtocol._reject_ptype,
    Action.REJECT_NOT_OPEN: HsmsProtocol._reject_not_open,
    Action.REJECT_NOT_SELECTED: HsmsProtocol._reject_not_selected,
    Action.IGNORE: HsmsProtocol._ignore,
    Action.END: HsmsProtocol._separated,
}
