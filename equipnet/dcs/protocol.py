"""
One TCP connection that speaks DCS: framing in both protocols, for either side, and the handshake of a hardware server.

Messages that are sent while others are being read leave together when those have been read. What the other side does
not take is bounded: we go on reading, since a dcss stops for everybody when one server does not read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import Protocol as Shape

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

from equipnet.connection.protocol import Owner, WireProtocol
from equipnet.connection.tcp import sender
from equipnet.dcs.message import (
    FIXED_SIZE,
    HEADER_SIZE,
    HtosClientIsHardware,
    Message,
    StocSendClientType,
    encode,
    parse_message,
    read_header,
)
from equipnet.dcs.session import DcsEvent, DcsState, move
from equipnet.errors import EquipmentConnectionError, EquipmentTimeout, NotConnected, RemoteProtocolError

#: The most bytes of a message, and the most that may wait for the other side to take them.
DEFAULT_MESSAGE_LIMIT = DEFAULT_QUEUE_LIMIT = 16 * 1024 * 1024

#: So many bytes leave in one piece at most, so that we see whether the other side takes them.
PIECE = 65536

#: Seconds that dcss may take to ask who we are.
ASKING_TIME = 10.0

#: Seconds without a word after which we count as accepted: dcss's slowest refusal takes three.
REFUSAL_TIME = 5.0


@implementer(IPushProducer)
class DcsProtocol(WireProtocol):
    """
    One end of a DCS connection; it begins in protocol 1.

    A subclass overrides `message_received`.

    Parameters
    ----------
    owner
        The service that is told when this connection comes and goes.
    message_limit
        The most bytes of a message that is received.
    queue_limit
        The most bytes that may wait for the other side to take them; then the connection is ended.

    Attributes
    ----------
    reads, writes
        The protocol, 1 or 2, of the messages that come and go from now on.
    """

    def __init__(
        self,
        owner: Owner,
        message_limit: int = DEFAULT_MESSAGE_LIMIT,
        queue_limit: int = DEFAULT_QUEUE_LIMIT,
    ) -> None:
        super().__init__(owner)
        self.reads = self.writes = 1
        self._message_limit = message_limit
        self._queue_limit = queue_limit
        # What has come of a message that is not whole, and how many bytes it will be at least.
        self._begun = bytearray()
        self._need = 0
        self._reading = False
        self._collected: list[bytes] = []
        self._size = 0
        self._send_at_once: Callable[[bytes], None]
        # Bytes written since the transport asked us to pause, and who waits for it to go on.
        self._choked = False
        self._queued = 0
        self._waiting: list[Deferred[None]] = []

    # What a subclass overrides

    def message_received(self, message: Message, binary: bytes) -> None:
        """Take one message; what this raises is logged with the message."""

    # What callers use

    def send_message(self, message: Message, binary: bytes = b"") -> None:
        """
        Send one message, in one write.

        Raises
        ------
        LocalProtocolError
            When it does not fit into protocol 1.
        NotConnected
            When the connection is being ended; nothing was sent.
        """
        self.send_line(message.text, binary)

    def send_line(self, text: str, binary: bytes = b"") -> None:
        """Send a line that has been checked; as `send_message`."""
        raw = encode(text, self.writes, binary)
        if self.ended_by is not None:
            raise NotConnected(f"{self.owner.name}: not connected: {self.ended_by}")
        if self.taps:
            self.tapped("out", raw, parse_message(text))
        if self._reading:
            self._collected.append(raw)
            self._size += len(raw)
            if self._size > PIECE:
                self._flush()
        else:
            self._write(raw)

    def send_bytes(self, raw: bytes) -> None:
        """Send bytes as they are, for simulators."""
        self._flush()
        self._write(raw)

    def when_taken(self) -> Deferred[None]:
        """
        Wait until the other side takes more.

        Returns
        -------
        Deferred[None]
            Fires at once as long as it does, otherwise when it does again, or when the connection is gone.
        """
        if not self._choked:
            return succeed(None)
        taken: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(taken)
        return taken

    # What Twisted calls

    def makeConnection(self, transport: Any) -> None:
        self._send_at_once = sender(transport)
        super().makeConnection(transport)
        transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        begun = self._begun
        if begun:
            begun += data
            if len(begun) < self._need:
                return
            data = bytes(begun)
            begun.clear()
        self._reading = True
        try:
            self._read(data)
        except RemoteProtocolError as error:
            self.log.error("{name}: {peer}: {error}", name=self.owner.name, peer=self.peer, error=error)
            self._flush()
            self.hang_up(error)
        finally:
            self._reading = False
            self._flush()

    def pauseProducing(self) -> None:
        self._choked = True

    def resumeProducing(self) -> None:
        self._choked = False
        self._queued = 0
        waiting, self._waiting = self._waiting, []
        for taken in waiting:
            taken.callback(None)

    def stopProducing(self) -> None:
        """Nothing: the end of the connection is told by ``connectionLost``."""

    def hang_up(self, error: EquipmentConnectionError, abort: bool = True) -> None:
        self._flush()
        if self.ended_by is None:
            # A transport with a producer that it has paused does not close when everything has left.
            self.transport.unregisterProducer()
        super().hang_up(error, abort)

    def fail_pending(self, error: EquipmentConnectionError) -> None:
        self._begun = bytearray()
        self._collected.clear()
        self.resumeProducing()

    # How messages come

    def _read(self, data: bytes) -> None:
        at, end = 0, len(data)
        while self.ended_by is None:
            if self.reads == 2:
                if end - at < HEADER_SIZE:
                    self._need = HEADER_SIZE
                    break
                text_size, binary_size = read_header(data[at : at + HEADER_SIZE], self._message_limit)
                start = at + HEADER_SIZE
            else:
                text_size, binary_size, start = FIXED_SIZE, 0, at
            middle = start + text_size
            after = middle + binary_size
            if after > end:
                self._need = after - at
                break
            message = parse_message(data[start:middle])
            if self.taps:
                self.tapped("in", data[at:after], message)
            at = after
            try:
                self.message_received(message, data[middle:after] if binary_size else b"")
            except RemoteProtocolError:
                raise
            except Exception:
                self.log.failure("{name}: taking {message!r:.200} raised", name=self.owner.name, message=message.text)
        else:
            return
        if at < end:
            self._begun += data[at:] if at else data

    # How messages leave

    def _flush(self) -> None:
        collected = self._collected
        if collected:
            raw = collected[0] if len(collected) == 1 else b"".join(collected)
            collected.clear()
            self._size = 0
            if self.ended_by is None:
                self._write(raw, self._send_at_once)

    def _write(self, raw: bytes, write: Callable[[bytes], None] | None = None) -> None:
        (write or self.transport.write)(raw)
        if self._choked:
            self._queued += len(raw)
            if self._queued > self._queue_limit and self.ended_by is None:
                error = EquipmentConnectionError(f"{self.peer} does not read: {self._queued} bytes wait for it")
                self.log.error("{name}: {error}", name=self.owner.name, error=error)
                self.hang_up(error)


class DhsOwner(Owner, Shape):
    """What the protocol of a hardware server tells the service that it belongs to."""

    def accepted(self, protocol: DhsProtocol) -> None:
        """Take note that dcss has taken us; what it sends follows."""

    def received(self, protocol: DhsProtocol, message: Message) -> None:
        """Take a message of dcss."""

    def gone(self, protocol: DhsProtocol) -> None:
        """Take note that the connection is ended: nothing can be sent any more."""


class DhsProtocol(DcsProtocol):
    """
    The hardware server's end of a connection with dcss.

    Parameters
    ----------
    owner
        The service that is told what happens.
    clock
        Measures the times of the handshake.
    dhs_name
        Who we are.
    protocol
        What dcss speaks with us after the handshake, 1 or 2, as its database says; it never tells.
    message_limit, queue_limit
        As `DcsProtocol` says.

    Attributes
    ----------
    dcs_state
        How far the conversation is.
    """

    owner: DhsOwner

    def __init__(
        self,
        owner: DhsOwner,
        clock: IReactorTime,
        dhs_name: str,
        protocol: int = 2,
        message_limit: int = DEFAULT_MESSAGE_LIMIT,
        queue_limit: int = DEFAULT_QUEUE_LIMIT,
    ) -> None:
        super().__init__(owner, message_limit, queue_limit)
        self.dcs_state = DcsState.CONNECTED
        self._clock = clock
        self._dhs_name = dhs_name
        self._protocol = protocol
        self._timer: IDelayedCall | None = None

    def begin(self) -> None:
        # dcss asks first, and what it has asked before we were told to begin waits in the transport at most.
        if self.dcs_state is DcsState.CONNECTED:
            self._timer = self._clock.callLater(ASKING_TIME, self._not_asked)

    def message_received(self, message: Message, binary: bytes) -> None:
        if self.dcs_state is DcsState.ACCEPTED:
            self.owner.received(self, message)
        elif self.dcs_state is DcsState.CONNECTED:
            self._asked(message)
        else:
            self._accepted(DcsEvent.MESSAGE)
            self.owner.received(self, message)

    def fail_pending(self, error: EquipmentConnectionError) -> None:
        self._cancel()
        super().fail_pending(error)
        self.owner.gone(self)

    # The handshake

    def _asked(self, message: Message) -> None:
        if not isinstance(message, StocSendClientType):
            raise RemoteProtocolError(
                f"{self.peer} is no dcss: it begins with {message.text!r:.80}", message.text.encode(errors="replace")
            )
        self._cancel()
        self.send_message(HtosClientIsHardware(self._dhs_name))
        self.dcs_state = move(self.dcs_state, DcsEvent.ASKED)
        self.reads = self.writes = self._protocol
        self._timer = self._clock.callLater(REFUSAL_TIME, self._accepted, DcsEvent.NOT_REFUSED)

    def _accepted(self, event: DcsEvent) -> None:
        self._cancel()
        self.dcs_state = move(self.dcs_state, event)
        self.owner.accepted(self)

    def _not_asked(self) -> None:
        self._timer = None
        self.hang_up(EquipmentTimeout(ASKING_TIME, "stoc_send_client_type", bytes(self._begun)))

    def _cancel(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
