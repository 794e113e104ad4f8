"""
One connection to an instrument: bytes out, and replies in, each ended as its reader says.

In the style of Twisted's LineReceiver, with two differences: how a message ends is chosen for each one, and what is
received is kept in the chunks in which it came and joined once, so that the cost of a long message grows with its
length only.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from io import SEEK_END, BytesIO
from typing import Protocol as Shape

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

from equipnet.connection.protocol import Owner, WireProtocol
from equipnet.connection.tcp import sender
from equipnet.errors import ConnectionLost, EquipmentConnectionError, MessageTooLong, RemoteProtocolError
from equipnet.instrument.ending import Block, Ending, Scanner, Unending, skip_optional
from equipnet.instrument.message import BLOCK_PREAMBLE

#: An instrument that is not silent for so many times the gap that was asked for will not be silent.
DRAIN_LIMIT = 10


class Reader(Shape):
    """Somebody who waits for one message."""

    def received(self, message: bytes) -> None:
        """Take the message."""

    def failed(self, error: EquipmentConnectionError) -> None:
        """Take note that it will not come."""


@dataclass(frozen=True)
class _Draining:
    """
    All that comes is dropped.

    Parameters
    ----------
    seconds
        For how long there must be silence.
    until
        When there is no hope of it any more, on the clock.
    call
        Ends it.
    done
        Is told.
    """

    seconds: float
    until: float
    call: IDelayedCall
    done: Callable[[bool], object]


class _Unwanted:
    """
    A message that comes before any other, and that no reader gets.

    Parameters
    ----------
    scanner
        Looks for its end.
    ending
        Of a reply that is late and has not begun: how it ends. An unsolicited message may come before it.
    kept
        What has come of it, when it may be an unsolicited one; else None.
    unsolicited
        Whether it is known to be one: it had begun before anybody waited.
    instead_of
        Of a line that came where a block should be: the reader of the block, and the error that it gets if the line is
        none that nobody asked for.
    """

    __slots__ = ("ending", "instead_of", "kept", "scanner", "unsolicited")

    def __init__(
        self,
        scanner: Scanner,
        ending: Ending | None = None,
        kept: BytesIO | None = None,
        unsolicited: bool = False,
        instead_of: tuple[Reader, RemoteProtocolError] | None = None,
    ) -> None:
        self.scanner = scanner
        self.ending = ending
        self.kept = kept
        self.unsolicited = unsolicited
        self.instead_of = instead_of


@implementer(IPushProducer)
class InstrumentProtocol(WireProtocol):
    """
    Messages to and from one instrument.

    Parameters
    ----------
    owner
        The service that is told when this connection comes and goes.
    clock
        Measures the silence that ends a message.
    greeting
        What is written first on every connection, such as the choice of a GPIB address.

    Attributes
    ----------
    line_ending
        How a message ends that nobody asked for, and where the stream can be picked up again after one that made no
        sense; None where there is no such place.
    unsolicited
        Called with each message that nobody waits for; None to keep it for the next read.
    unsolicited_pattern
        What an unsolicited message looks like, so that it is recognised also while somebody waits for a reply; None
        where only its time tells.
    expecting
        Says whether somebody is going to read what comes, though nobody does yet; then it is not unsolicited.
    keep_limit
        How many bytes that nobody reads are kept; then the peer is made to wait.
    lost_track
        Whether something came after which nobody knows where the next message begins.
    choked
        Whether the peer does not take what we write.
    unchoked
        Called when it takes it again.
    """

    def __init__(self, owner: Owner, clock: IReactorTime, greeting: bytes = b"") -> None:
        super().__init__(owner)
        self.unsolicited: Callable[[bytes], object] | None = None
        self.unsolicited_pattern: re.Pattern[bytes] | None = None
        self.expecting: Callable[[], bool] = _never
        self.line_ending: Ending | None = None
        self.keep_limit = 1 << 20
        self.lost_track = False
        self.choked = False
        self.unchoked: Callable[[], None] | None = None
        self._clock = clock
        self._greeting = greeting
        self._send: Callable[[bytes], None]
        # What has come and is in no message yet: chunks, and where in the first of them it begins.
        self._input: deque[bytes] = deque()
        self._start = 0
        # The message that is awaited, what has come of it, and what looks for its end.
        self._reader: Reader | None = None
        self._ending: Ending | None = None
        self._limit = 0
        self._scanner: Scanner | None = None
        self._begun: BytesIO | None = None
        self._size = 0
        self._unread = 0
        # Messages that nobody wants any more but that will come first.
        self._late: deque[_Unwanted] = deque()
        # What may still follow a block, and belongs to it.
        self._optional = b""
        # Whether the next chunk can only be for the reader: no message has begun, and none comes before it.
        self._fresh = False
        self._pumping = False
        self._paused = False
        self._gap: IDelayedCall | None = None
        # For how long there must be silence before anything is looked at again, and what waits for it.
        self._draining: _Draining | None = None

    # What the service uses

    def write(self, data: bytes) -> None:
        """Send bytes as they are, in one piece."""
        if self.taps:
            self.tapped("out", data)
        self._send(data)

    def read(self, ending: Ending, limit: int, reader: Reader) -> None:
        """
        Give the next message to ``reader``; it may be there already, and is then given at once.

        Parameters
        ----------
        ending
            How it ends.
        limit
            How many bytes it may have. Of a longer one ``reader`` gets `MessageTooLong` as soon as that is known, and
            the rest is dropped as it comes.
        reader
            Takes it. There is only one at a time.
        """
        if self._scanner is not None:
            self._put_back()
        self._reader = reader
        self._ending = ending
        self._limit = limit
        if self._input or self._late or self._optional or self.unsolicited_pattern:
            self._pump()
        else:
            self._fresh = True

    def stop_reading(self) -> None:
        """Forget the reader; what has come of its message is kept for the next one."""
        self._reader = None
        self._fresh = False
        self._put_back()

    def drop_message(self, ending: Ending) -> None:
        """Drop one message with that ending, which may have begun and will come before any other."""
        self._expect_late(ending)
        self._pump()

    def drain(self, seconds: float, done: Callable[[bool], object]) -> None:
        """
        Drop all that comes until nothing has come for so long.

        Parameters
        ----------
        seconds
            How long.
        done
            Called with True then; with False when there was no such silence within `DRAIN_LIMIT` times ``seconds``.
        """
        self.discard_input()
        if self.hanging_up:  # who was told of an unsolicited message has ended it
            return
        self._late.clear()
        self._draining = _Draining(
            seconds,
            self._clock.seconds() + DRAIN_LIMIT * seconds,
            self._clock.callLater(seconds, self._drained, True),
            done,
        )

    def _drained(self, silent: bool) -> None:
        draining, self._draining = self._draining, None
        assert draining is not None
        draining.done(silent)

    def listen(
        self,
        handler: Callable[[bytes], object] | None,
        pattern: re.Pattern[bytes] | None,
        line_ending: Ending | None,
        keep_limit: int,
    ) -> None:
        """Set what becomes of messages that nobody waits for; the parameters are the attributes."""
        if self._reader is None and self._scanner is not None:
            self._put_back()
        self.unsolicited = handler
        self.unsolicited_pattern = pattern
        self.line_ending = line_ending
        self.keep_limit = keep_limit
        if pattern is not None:
            self._fresh = False
        self._pump()

    def expect(self) -> None:
        """Take note that ``expecting`` has changed."""
        if self.expecting():
            if self._reader is None and self._scanner is not None:
                self._set_aside()
        else:
            self._pump()

    def discard_input(self) -> bytes:
        """
        Throw away what has come and nobody has read, and give it.

        Unsolicited messages in it are told nevertheless as far as they can be recognised, also when they are not whole
        yet: nobody else gets the rest of them.
        """
        if not self._input and self._scanner is None:
            return b""
        while self._input and self._skip(self._input[0], self._start):
            pass
        discarded = self.partial
        if self._scanner is not None:
            self._set_aside()
        rest = b"".join(self._input)[self._start :]
        self._input.clear()
        self._start = self._unread = 0
        if rest and self.unsolicited is not None and self.line_ending is not None and not self.hanging_up:
            self._search(rest, self.line_ending)
        self._hold_back()
        return discarded + rest

    @property
    def held_back(self) -> bool:
        """Whether the peer has to wait, since nobody reads; more is on its way then."""
        return self._paused

    @property
    def partial(self) -> bytes:
        """What has come of the message that is awaited."""
        return b"" if self._begun is None else self._begun.getvalue()

    @property
    def late(self) -> int:
        """How many messages will come that nobody wants any more."""
        return len(self._late)

    # What Twisted calls

    def begin(self) -> None:
        self._send = sender(self.transport)
        self.transport.registerProducer(self, True)
        if self._greeting:
            self.write(self._greeting)
        super().begin()

    def dataReceived(self, data: bytes) -> None:
        if self._fresh:
            # The usual case: the whole reply, and nothing else, in one chunk.
            reader, ending = self._reader, self._ending
            assert reader is not None and ending is not None
            size = len(data)
            if size <= self._limit and ending.find_whole(data) == size:
                self._reader = None
                self._fresh = False
                if self.taps:
                    self.tapped("in", data)
                reader.received(data)
                return
            self._fresh = False
        if self.hanging_up:
            return
        if self._draining is not None:
            self._draining.call.reset(self._draining.seconds)
            if self._clock.seconds() >= self._draining.until:
                self._draining.call.cancel()
                self._drained(False)
            return
        self._input.append(data)
        self._unread += len(data)
        self._pump()

    def hang_up(self, error: EquipmentConnectionError, abort: bool = True) -> None:
        # With a producer that is paused Twisted would wait for it before it closes.
        self.transport.unregisterProducer()
        super().hang_up(error, abort)

    def fail_pending(self, error: EquipmentConnectionError) -> None:
        # The last words of a peer that closes the connection in good order are a message if silence would have made
        # them one.
        scanner, closed = (
            self._scanner,
            isinstance(error, ConnectionLost) and isinstance(error.__cause__, ConnectionDone),
        )
        if closed and scanner is not None and scanner.silent():
            self._deliver(self.partial)
        reader, self._reader = self._reader, None
        self._fresh = False
        self._end_message()
        self._input.clear()
        self._late.clear()
        self._start = self._unread = 0
        if self._gap is not None and self._gap.active():
            self._gap.cancel()
        if self._draining is not None:
            self._draining.call.cancel()
            self._draining = None
        if reader is not None:
            reader.failed(error)

    # The producer: what Twisted tells of the peer's appetite

    def pauseProducing(self) -> None:
        self.choked = True

    def resumeProducing(self) -> None:
        self.choked = False
        if self.unchoked is not None:
            self.unchoked()

    def stopProducing(self) -> None:
        self.choked = False

    # From chunks to messages

    def _pump(self) -> None:
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._input and self._advance():
                pass
        finally:
            self._pumping = False
        self._watch_silence()
        self._hold_back()

    def _advance(self) -> bool:
        """Take one step through the input; False when nobody is there to take it."""
        chunk, start = self._input[0], self._start
        if self._skip(chunk, start):
            return True
        if self._reader is not None:
            self._feed(chunk, start)
        elif self.unsolicited is not None and self.line_ending is not None and not self.expecting():
            self._ending = self.line_ending
            self._limit = self.keep_limit
            self._feed(chunk, start)
        else:
            return False
        return True

    def _skip(self, chunk: bytes, start: int) -> bool:
        """Step over what is no part of any message that somebody gets; False when there is nothing of the kind."""
        if self._optional:
            end, self._optional = skip_optional(chunk, start, self._optional)
            self._consume(chunk, end)
            return True
        if self._late:
            self._drop_late(chunk, start)
            return True
        return False

    def _consume(self, chunk: bytes, end: int) -> None:
        self._unread -= end - self._start
        if end == len(chunk):
            self._input.popleft()
            self._start = 0
        else:
            self._start = end

    def _feed(self, chunk: bytes, start: int) -> None:
        scanner = self._scanner
        if scanner is None:
            assert self._ending is not None
            scanner = self._scanner = self._ending.begin()
        try:
            end = scanner.feed(chunk, start)
        except RemoteProtocolError as error:
            self._lose_track(RemoteProtocolError(str(error), self.partial + chunk[start:]))
            return
        stop = len(chunk) if end < 0 else end
        size = self._size = self._size + stop - start
        if end >= 0 and self._begun is None and size <= self._limit:
            # A message within one chunk.
            self._consume(chunk, stop)
            self._deliver(chunk[start:stop])
            return
        if self._begun is None:
            self._begun = BytesIO()
        self._begun.write(memoryview(chunk)[start:stop])
        self._consume(chunk, stop)
        expected = max(size, scanner.announced or 0)
        if expected > self._limit:
            self._too_long(scanner, expected, ended=end >= 0)
        elif end >= 0:
            self._deliver(self.partial)

    def _deliver(self, message: bytes) -> None:
        scanner, reader = self._scanner, self._reader
        assert scanner is not None
        self._end_message()
        self._optional = scanner.optional_terminator
        if self.taps:
            self.tapped("in", message)
        if reader is None or self._is_unsolicited(message):
            self._tell_unsolicited(message)
        else:
            self._reader = None
            reader.received(message)

    def _is_unsolicited(self, message: bytes) -> bool:
        pattern = self.unsolicited_pattern
        return pattern is not None and pattern.search(message) is not None

    def _too_long(self, scanner: Scanner, size: int, ended: bool) -> None:
        error = MessageTooLong(f"max_read_size is {self._limit} bytes, the message has {size} or more", self.partial)
        self._optional = scanner.optional_terminator
        if not ended:
            if isinstance(self._ending, Unending):
                self.lost_track = True
            else:
                self._late.append(_Unwanted(scanner))
        self._end_message()
        self._refuse(error)

    def _lose_track(self, error: RemoteProtocolError) -> None:
        # A line of text where a block should be (an error message, say) ends where lines end. Otherwise nobody knows
        # where the next message begins.
        line, reader = self.line_ending, self._reader
        if isinstance(self._ending, Block) and line is not None and _is_line(error.data):
            self._put_back()
            # The end of an earlier line may stand before it.
            rest = b"".join(self._input).lstrip()
            self._input = deque((rest,))
            self._unread = len(rest)
            if reader is not None and self.unsolicited_pattern is not None:
                self._late.append(_Unwanted(line.begin(), None, BytesIO(), instead_of=(reader, error)))
                return
            self._late.append(_Unwanted(line.begin()))
        else:
            self.lost_track = True
            self._end_message()
            self._input.clear()
            self._start = self._unread = 0
        self._refuse(error)

    def _put_back(self) -> None:
        """Make the parts of the message that has begun input again."""
        if self._start:
            self._input[0] = self._input[0][self._start :]
            self._start = 0
        if self._begun is not None:
            self._input.appendleft(self._begun.getvalue())
        self._unread += self._size
        self._end_message()

    def _refuse(self, error: RemoteProtocolError) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.failed(error)
            return
        self.log.warn("{name}: an unsolicited message: {error}", name=self.owner.name, error=error)
        if self.lost_track:
            self.hang_up(error)

    def _end_message(self) -> None:
        self._scanner = None
        self._begun = None
        self._size = 0

    # Messages that no reader gets

    def _expect_late(self, ending: Ending) -> None:
        kept = None if self.unsolicited_pattern is None else BytesIO()
        self._late.append(_Unwanted(ending.begin(), ending, kept))

    def _set_aside(self) -> None:
        """Let what has begun of an unsolicited message, and the rest of it, be no reply to anything."""
        scanner, begun = self._scanner, self._begun
        assert scanner is not None
        self._end_message()
        self._late.append(_Unwanted(scanner, None, BytesIO() if begun is None else begun, unsolicited=True))

    def _search(self, discarded: bytes, line_ending: Ending) -> None:
        """Tell the unsolicited messages among bytes that are thrown away; the last may be one that has just begun."""
        start = 0
        while start < len(discarded):
            scanner = line_ending.begin()
            try:
                end = scanner.feed(discarded, start)
            except RemoteProtocolError:
                return
            if end < 0:
                kept = BytesIO()
                kept.write(discarded[start:])
                self._late.append(_Unwanted(scanner, None, kept))
                return
            message = discarded[start:end]
            start, _ = skip_optional(discarded, end, scanner.optional_terminator)
            if self._is_unsolicited(message):
                self._tell_unsolicited(message)

    def _drop_late(self, chunk: bytes, start: int) -> None:
        late = self._late[0]
        try:
            end = late.scanner.feed(chunk, start)
        except RemoteProtocolError as error:
            # Something else came in its place, and nobody knows where that ends.
            self.lost_track = True
            self.hang_up(error)
            return
        stop = len(chunk) if end < 0 else end
        kept = late.kept
        if kept is not None:
            kept.seek(0, SEEK_END)
            kept.write(memoryview(chunk)[start:stop])
            if kept.tell() > self.keep_limit:
                kept = late.kept = None
        self._consume(chunk, stop)
        if end >= 0:
            self._dropped()

    def _dropped(self) -> None:
        """Take note that the first of the messages that no reader gets has ended."""
        late = self._late.popleft()
        self._optional = late.scanner.optional_terminator
        message = None if late.kept is None else late.kept.getvalue()
        if message is not None and (late.unsolicited or self._is_unsolicited(message)):
            if late.ending is not None:
                self._late.appendleft(_Unwanted(late.ending.begin(), late.ending, BytesIO()))
            self._tell_unsolicited(message)
        elif late.instead_of is None:
            self.log.info("{name}: a message that nobody waits for was dropped", name=self.owner.name)
        else:
            reader, error = late.instead_of
            if reader is self._reader:
                self._refuse(error)

    def _tell_unsolicited(self, message: bytes) -> None:
        if self.unsolicited is None:
            return
        try:
            self.unsolicited(message)
        except Exception:
            self.log.failure("{name}: the handler of unsolicited messages raised", name=self.owner.name)

    # Silence, and too much of what nobody reads

    def _watch_silence(self) -> None:
        scanner = self._late[0].scanner if self._late else self._scanner
        gap = None if scanner is None else scanner.gap
        if gap is None or self.hanging_up:
            return
        if self._gap is not None and self._gap.active():
            self._gap.reset(gap)
        else:
            self._gap = self._clock.callLater(gap, self._silent)

    def _silent(self) -> None:
        if self._late:
            if self._late[0].scanner.silent():
                self._dropped()
                self._pump()
        elif self._scanner is not None and self._scanner.silent():
            self._deliver(self.partial)

    def _hold_back(self) -> None:
        too_much = self._reader is None and self._unread > self.keep_limit
        if too_much is self._paused or self.hanging_up:
            return
        self._paused = too_much
        if too_much:
            self.transport.pauseProducing()
        else:
            self.transport.resumeProducing()


def _never() -> bool:
    return False


def _is_line(begun: bytes) -> bool:
    """Whether what has come instead of a block is a line of text, and not a block of another form or bare numbers."""
    at = begun.find(b"#")
    if at >= 0 and begun[at + 1 : at + 2].isalnum() and not begun[:at].strip():
        return False
    line, _, rest = begun.lstrip().partition(b"\n")
    return _is_text(line) and _is_text(rest.partition(b"#")[0][:BLOCK_PREAMBLE])


def _is_text(some: bytes) -> bool:
    return some.isascii() and all(byte >= 0x20 or byte in b"\t\r\n" for byte in some)
