"""
One thing that is done with an instrument, from the call to its answer, and the transaction that keeps several together.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from equipnet.errors import EquipmentConnectionError
from equipnet.instrument.ending import Ending

if TYPE_CHECKING:
    from equipnet.instrument.service import Instrument


class Kind(Enum):
    """What is done."""

    #: A command is written, its reply is read.
    QUERY = "query"
    #: A message is read.
    READ = "read"
    #: A command is written.
    WRITE = "write"
    #: Bytes are written that ask for something, whose reply is read with `READ`.
    SEND = "send"
    #: The instrument is held until the transaction ends.
    HOLD = "hold"


#: The holds inside of which the running coroutine or callback is.
holds: ContextVar[tuple[Operation, ...]] = ContextVar("holds", default=())


class Operation:
    """
    One thing that is done with an instrument.

    Parameters
    ----------
    instrument
        With which.
    kind
        What.
    timeout
        Seconds from its beginning, None for no limit.
    payload
        What is written.
    ending
        How the message that is read ends.
    limit
        How many bytes that may have.
    finish
        Makes the answer of the message.
    delay
        Seconds between writing and reading.

    Attributes
    ----------
    answer
        What the caller gets.
    begun
        Whether it has had its turn: before that nothing of it was written.
    broken_by
        Of a hold: why the connection went while nothing in the transaction waited for it, so that nobody there knows;
        else None.
    pause
        Runs while ``delay`` does.
    within
        The holds inside of which it was called.
    """

    __slots__ = (
        "answer",
        "begun",
        "broken_by",
        "delay",
        "ending",
        "finish",
        "instrument",
        "kind",
        "limit",
        "pause",
        "payload",
        "timeout",
        "within",
    )

    def __init__(
        self,
        instrument: Instrument,
        kind: Kind,
        timeout: float | None = None,
        payload: bytes = b"",
        ending: Ending | None = None,
        limit: int = 0,
        finish: Callable[[bytes], Any] = bytes,
        delay: float = 0.0,
    ) -> None:
        self.instrument = instrument
        self.kind = kind
        self.timeout = timeout
        self.payload = payload
        self.ending = ending
        self.limit = limit
        self.finish = finish
        self.delay = delay
        self.begun = False
        self.broken_by: EquipmentConnectionError | None = None
        self.pause: IDelayedCall | None = None
        self.within = holds.get()
        self.answer: Deferred[Any] = Deferred(self.cancelled)

    # What the protocol tells

    def received(self, message: bytes) -> None:
        try:
            value = self.finish(message)
        except Exception as error:
            self.instrument.went_wrong(self, error)
            self.fail(error)
        else:
            self.instrument.went_well(self)
            self.succeed(value)
        self.instrument.start_next()

    def failed(self, error: EquipmentConnectionError) -> None:
        if self.instrument.is_ending_because_of(error):
            return  # it fails when the connection is gone in name, too: then it can be connected again
        self.instrument.went_wrong(self, error)
        self.fail(error)
        self.instrument.start_next()

    # How it ends. Who is told of something else in the meantime, an observer or another caller, may have cancelled it.

    def succeed(self, value: object) -> None:
        """Give the caller the answer, if it still wants one."""
        if not self.answer.called:
            if self.within:
                self._tell_inside(self.answer.callback, value)
            else:
                self.answer.callback(value)

    def fail(self, error: Exception) -> None:
        """Tell the caller that there is no answer, if it still wants one."""
        if self.pause is not None and self.pause.active():
            self.pause.cancel()
        if not self.answer.called:
            self._tell_inside(self.answer.errback, error)

    def _tell_inside(self, tell: Callable[[Any], object], what: object) -> None:
        # What the answer's callbacks ask is part of the transaction, too: its block may be waiting for it.
        outside = holds.set(self.within)
        try:
            tell(what)
        finally:
            holds.reset(outside)

    # What the caller tells

    def cancelled(self, answer: Deferred[Any]) -> None:
        self.instrument.cancelled(self)


class Transaction:
    """
    Hold an instrument for the time of an ``async with`` block; see `Instrument.transaction`.

    A transaction inside of another one of the same instrument is a part of it.
    """

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        # One for each block that this object has been entered for, the innermost last; None for a part of another one.
        self._entered: list[Operation | None] = []

    async def __aenter__(self) -> Instrument:
        hold: Operation | None = None
        if not self._instrument.is_held_here():
            hold = Operation(self._instrument, Kind.HOLD)
            await self._instrument.submit(hold)
            holds.set((*holds.get(), hold))
        self._entered.append(hold)
        return self._instrument

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        hold = self._entered.pop()
        if hold is not None:
            holds.set(tuple(each for each in holds.get() if each is not hold))
            self._instrument.release(hold)
