r"""
One socket of a pair: frames that end with ``\r\n``, in and out.

In the style of Twisted's LineReceiver; what is received is searched once, an oversized frame costs one error and no
memory, and what is sent waits while the peer takes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from equipnet.communicator.dialect import TERMINATOR
from equipnet.connection.protocol import Owner, WireProtocol
from equipnet.connection.tcp import sender
from equipnet.errors import EquipmentConnectionError, MessageTooLong


@implementer(IPushProducer)
class FrameProtocol(WireProtocol):
    """
    Frames to and from one peer.

    Parameters
    ----------
    owner
        The service that is told when this connection comes and goes.
    limit
        How many bytes a frame may have, without its terminator. Of a longer one ``received`` gets one error as soon as
        that is known, and the rest is dropped as it comes.
    received
        Called with each frame, without its terminator, and with a `MessageTooLong` in the place of one that is too
        long; None where nothing is to be read: all that comes is dropped then, and told in the log once.

    Attributes
    ----------
    choked
        Whether the peer does not take what we write; then what is written waits in ``unsent``.
    """

    def __init__(
        self, owner: Owner, limit: int, received: Callable[[bytes | MessageTooLong], object] | None = None
    ) -> None:
        super().__init__(owner)
        self._limit = limit
        self._received = received
        self._send: Callable[[bytes], None]
        # The beginning of a frame; where one is being dropped, what may be the first half of its terminator.
        self._partial = bytearray()
        self._dropping = False
        self._warned = False
        self._held_back = False
        self.choked = False
        # What waits, and what is called when it was sent, or with an error when it never will be.
        self.unsent: deque[tuple[bytes, Callable[[EquipmentConnectionError | None], object]]] = deque()

    # What the service uses

    def write(self, data: bytes) -> None:
        """Send bytes in one piece; only while the peer takes them."""
        self._send(data)

    def write_later(self, data: bytes, told: Callable[[EquipmentConnectionError | None], object]) -> Any:
        """Send bytes when the peer takes some again; gives what `give_up` wants."""
        entry = (data, told)
        self.unsent.append(entry)
        return entry

    def give_up(self, entry: Any) -> None:
        """Do not send what waits."""
        if entry in self.unsent:
            self.unsent.remove(entry)

    def hold_back(self, wanted: bool) -> None:
        """Let the peer wait, or go on."""
        if wanted is not self._held_back and not self.hanging_up:
            self._held_back = wanted
            if wanted:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    # What Twisted calls

    def begin(self) -> None:
        self._send = sender(self.transport)
        self.transport.registerProducer(self, True)
        super().begin()

    def dataReceived(self, data: bytes) -> None:
        if self.hanging_up:
            return
        received = self._received
        if received is None:
            self._tell_unwanted(data)
            return
        partial = self._partial
        if not partial and not self._dropping and 0 <= data.find(TERMINATOR) == len(data) - 2 <= self._limit:
            # The usual case: one whole frame, and nothing else.
            received(data[:-2])
            return
        if partial or self._dropping:
            new = max(len(partial) - 1, 0)
            partial += data
            at = partial.find(TERMINATOR, new)
            if at < 0:
                self._check_partial()
                return
            if self._dropping:
                self._dropping = False
                del partial[: at + 2]
            data = bytes(partial)
            partial.clear()
        frames = data.split(TERMINATOR)
        partial += frames.pop()
        for frame in frames:
            if self.hanging_up:
                return
            received(frame if len(frame) <= self._limit else self._too_long(frame))
        self._check_partial()

    def _check_partial(self) -> None:
        # The last byte may belong to the terminator.
        partial = self._partial
        if not self._dropping and len(partial) - partial.endswith(b"\r") > self._limit:
            self._dropping = True
            beginning = bytes(partial[:200])
            del partial[:-1]
            if self._received is not None and not self.hanging_up:
                self._received(self._too_long(beginning))
        if self._dropping:
            del partial[:-1]

    def _too_long(self, frame: bytes) -> MessageTooLong:
        return MessageTooLong(f"{self.peer} sent a frame of more than {self._limit} bytes: {frame[:40]!r}...", frame)

    def _tell_unwanted(self, data: bytes) -> None:
        if not self._warned:
            self._warned = True
            self.log.warn(
                "{name}: {peer} sends on a socket that is only written to; all of it is dropped: {data}",
                name=self.owner.name,
                peer=self.peer,
                data=data[:40],
            )

    def hang_up(self, error: EquipmentConnectionError, abort: bool = True) -> None:
        if self.ended_by is None:
            if not abort:
                self._flush()
            # With a producer that is paused Twisted would wait for it before it closes.
            self.transport.unregisterProducer()
        super().hang_up(error, abort)

    def fail_pending(self, error: EquipmentConnectionError) -> None:
        self._partial.clear()
        unsent, self.unsent = self.unsent, deque()
        for _, told in unsent:
            told(error)

    # The producer: what Twisted tells of the peer's appetite

    def pauseProducing(self) -> None:
        self.choked = True

    def resumeProducing(self) -> None:
        self.choked = False
        while self.unsent and not self.choked and not self.hanging_up:
            data, told = self.unsent.popleft()
            self._send(data)
            told(None)

    def stopProducing(self) -> None:
        self.choked = False

    def _flush(self) -> None:
        while self.unsent:
            data, told = self.unsent.popleft()
            self._send(data)
            told(None)
