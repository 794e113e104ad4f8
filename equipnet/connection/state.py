"""
The states of a connection, the table of allowed moves, and telling observers of each change.

The table is the law: an event that it does not list for a state is refused and changes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from twisted.logger import Logger

from equipnet.errors import LocalProtocolError


class State(Enum):
    """Where a connection stands in its life."""

    #: Nothing is connected and nothing is scheduled.
    STOPPED = "stopped"
    #: An attempt to connect, or to bind a port, is under way.
    CONNECTING = "connecting"
    #: The last attempt failed or the connection was lost, and the next try is scheduled; or it is the other side that
    #: connects, and it has not come yet.
    WAITING = "waiting"
    #: The transport is up, the conversation is not usable yet, or not at the moment.
    CONNECTED = "connected"
    #: The conversation is usable.
    READY = "ready"
    #: We are closing it.
    DISCONNECTING = "disconnecting"


class Event(Enum):
    """What happens to a connection."""

    #: Somebody, or the retry timer, wants it connected now.
    CONNECT = "connect"
    #: The transport came up.
    MADE = "made"
    #: The port is bound at which the other side will connect.
    BOUND = "bound"
    #: The conversation became usable (selected, accepted, synchronised).
    USABLE = "usable"
    #: The conversation is not usable for now; the transport stays.
    UNUSABLE = "unusable"
    #: The attempt failed or the transport went away; there will be another try.
    LOST = "lost"
    #: The attempt failed or the transport went away; there will be no other try.
    GIVEN_UP = "given up"
    #: Our side wants it closed.
    DISCONNECT = "disconnect"
    #: The last socket is closed and nothing is scheduled any more.
    CLOSED = "closed"


MOVES: dict[State, dict[Event, State]] = {
    State.STOPPED: {
        Event.CONNECT: State.CONNECTING,
    },
    State.CONNECTING: {
        Event.MADE: State.CONNECTED,
        Event.BOUND: State.WAITING,
        Event.LOST: State.WAITING,
        Event.GIVEN_UP: State.STOPPED,
        Event.DISCONNECT: State.DISCONNECTING,
    },
    State.WAITING: {
        Event.CONNECT: State.CONNECTING,
        Event.MADE: State.CONNECTED,
        Event.DISCONNECT: State.DISCONNECTING,
    },
    State.CONNECTED: {
        Event.USABLE: State.READY,
        Event.LOST: State.WAITING,
        Event.GIVEN_UP: State.STOPPED,
        Event.DISCONNECT: State.DISCONNECTING,
    },
    State.READY: {
        Event.UNUSABLE: State.CONNECTED,
        Event.LOST: State.WAITING,
        Event.GIVEN_UP: State.STOPPED,
        Event.DISCONNECT: State.DISCONNECTING,
    },
    State.DISCONNECTING: {
        Event.CLOSED: State.STOPPED,
    },
}


@dataclass(frozen=True)
class Moment:
    """
    One instant on two clocks.

    Parameters
    ----------
    monotonic
        Seconds on the reactor's clock; for measuring.
    wall
        Seconds since 1970-01-01 UTC; for people.
    """

    monotonic: float
    wall: float


@dataclass(frozen=True)
class Change:
    """
    One change of a connection's state, as its observers get it.

    Parameters
    ----------
    name
        The connection's name.
    old, new
        The states before and after.
    at
        When.
    reason
        Why, in words; the text of the error where there was one.
    """

    name: str
    old: State
    new: State
    at: Moment
    reason: str


class StateMachine:
    """
    The state of one connection, moved by the table, and its observers.

    Parameters
    ----------
    name
        The connection's name, for the log and for `Change`.
    now
        Gives the present `Moment`.
    """

    _log = Logger()

    def __init__(self, name: str, now: Callable[[], Moment]) -> None:
        self.name = name
        self.state = State.STOPPED
        self.since = now()
        self._now = now
        self._observers: list[Callable[[Change], object]] = []
        self._untold: deque[Change] = deque()

    def add_observer(self, observer: Callable[[Change], object]) -> None:
        """Call ``observer`` once with each `Change` from now on; what it raises is logged and changes nothing."""
        self._observers.append(observer)

    def remove_observer(self, observer: Callable[[Change], object]) -> None:
        """Forget an observer; one that is not there is no error."""
        if observer in self._observers:
            self._observers.remove(observer)

    def move(self, event: Event, reason: str) -> None:
        """
        Make the move that the table lists, and tell each observer.

        A move that an observer makes while it is told of another one is made at once, and told of when every observer
        has been told of the one before: all of them see all changes in their order.

        Raises
        ------
        LocalProtocolError
            When the table lists none; the state is what it was.
        """
        new = MOVES[self.state].get(event)
        if new is None:
            raise LocalProtocolError(f"{self.name}: {event.value!r} is not possible while {self.state.value}")
        change = Change(self.name, self.state, new, self._now(), reason)
        self.state, self.since = new, change.at
        self._log.info(
            "{name}: {old} -> {new}: {reason}", name=self.name, old=change.old.value, new=new.value, reason=reason
        )
        self._untold.append(change)
        if len(self._untold) > 1:
            return
        try:
            while self._untold:
                self._tell(self._untold[0])
                self._untold.popleft()
        finally:
            self._untold.clear()

    def _tell(self, change: Change) -> None:
        for observer in tuple(self._observers):
            if observer not in self._observers:
                continue  # another one removed it
            try:
                observer(change)
            except Exception:
                self._log.failure("{name}: an observer of the state raised", name=self.name)
