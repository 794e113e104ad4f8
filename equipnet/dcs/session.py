"""
The rules of a DCS conversation as a hardware server has it: the handshake, and which completions are owed.

No bytes, sockets or time.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Generic, TypeVar

from equipnet.errors import LocalProtocolError


class DcsState(Enum):
    """How far the conversation with dcss is."""

    #: dcss has not asked who we are.
    CONNECTED = "connected"
    #: We have said who we are; dcss closes the connection if it does not like that, within three seconds.
    NAMED = "named"
    #: dcss has taken us.
    ACCEPTED = "accepted"


class DcsEvent(Enum):
    """What happens in it."""

    #: dcss asks who we are.
    ASKED = "asked"
    #: dcss sends anything else.
    MESSAGE = "message"
    #: dcss has neither closed the connection nor said anything for longer than any refusal takes.
    NOT_REFUSED = "not refused"


#: dcss never says that it has taken us; its first message after the handshake is the sign. What the table does not
#: list is an error of the other side.
MOVES: dict[DcsState, dict[DcsEvent, DcsState]] = {
    DcsState.CONNECTED: {DcsEvent.ASKED: DcsState.NAMED},
    DcsState.NAMED: {DcsEvent.MESSAGE: DcsState.ACCEPTED, DcsEvent.NOT_REFUSED: DcsState.ACCEPTED},
    DcsState.ACCEPTED: {DcsEvent.MESSAGE: DcsState.ACCEPTED},
}


def move(state: DcsState, event: DcsEvent) -> DcsState:
    """
    Give the state that the table lists.

    Raises
    ------
    LocalProtocolError
        When it lists none.
    """
    try:
        return MOVES[state][event]
    except KeyError:
        raise LocalProtocolError(f"{event.value!r} is not possible while {state.value}") from None


_T = TypeVar("_T")


class Book(Generic[_T]):
    """
    What has been accepted and not completed: each entry is taken out exactly once, by whoever completes it.

    Attributes
    ----------
    entries
        By key.
    """

    __slots__ = ("entries",)

    def __init__(self) -> None:
        self.entries: dict[object, _T] = {}

    def enter(self, key: object, entry: _T) -> bool:
        """Enter what has been accepted; False if there is an entry with that key, which stays."""
        return self.entries.setdefault(key, entry) is entry

    def strike(self, key: object, entry: _T) -> bool:
        """Take out what is about to be completed; False if it has been already, and must not be completed again."""
        if self.entries.get(key) is not entry:
            return False
        del self.entries[key]
        return True

    def __iter__(self) -> Iterator[_T]:
        return iter(tuple(self.entries.values()))

    def __len__(self) -> int:
        return len(self.entries)
