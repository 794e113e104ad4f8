"""A bounded queue of images between whoever receives them and one who uses them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

from twisted.internet.defer import Deferred

Item = TypeVar("Item")


class Subscription(Generic[Item]):
    """
    An asynchronous iterator over what is put into it, oldest first; it ends when its source ends.

    It is left by dropping it, or at once by `aclose`; what is left in it is forgotten. Whoever puts should hold it
    weakly, so that it can be dropped; while somebody waits for an item it is kept.

    Parameters
    ----------
    limit
        How many items it holds until they are taken.
    taken
        Called after there is room for one more.
    dropped
        Called when nobody has it any more; in any thread, since it is the garbage collector that finds out.

    Attributes
    ----------
    dropped
        How many were forgotten to make room for newer ones.
    """

    # A coroutine that waits is held by what it waits for, and by nothing else.
    _awaited: ClassVar[set[Subscription[Any]]] = set()

    def __init__(
        self, limit: int, taken: Callable[[], object] = lambda: None, dropped: Callable[[], object] = lambda: None
    ) -> None:
        # What __del__ looks at comes first.
        self._when_dropped = dropped
        self._ended = False
        if limit < 1:
            raise ValueError(f"limit is {limit}, less than 1")
        self.limit = limit
        self.dropped = 0
        self._items: deque[Item] = deque()
        self._takers: deque[Deferred[Item]] = deque()
        self._taken = taken

    @property
    def full(self) -> bool:
        """Whether it has no room for one more."""
        return len(self._items) >= self.limit and not self._ended

    def put(self, item: Item) -> None:
        """Add one; where there is no room, forget the oldest."""
        if self._ended:
            return
        if self._takers:
            self._next_taker().callback(item)
            return
        if self.full:
            self._items.popleft()
            self.dropped += 1
        self._items.append(item)

    def end(self) -> None:
        """Let the iteration end behind what is still there."""
        self._ended = True
        while self._takers:
            self._next_taker().errback(StopAsyncIteration())

    def close(self) -> None:
        """End the iteration at once; what is left is forgotten."""
        self._items.clear()
        self.end()
        self._taken()

    def __aiter__(self) -> Subscription[Item]:
        return self

    async def __anext__(self) -> Item:
        if self._items:
            item = self._items.popleft()
            self._taken()
            return item
        if self._ended:
            raise StopAsyncIteration
        taker: Deferred[Item] = Deferred(self._forget)
        self._takers.append(taker)
        self._awaited.add(self)
        return await taker

    async def aclose(self) -> None:
        """End the iteration at once; what is left is forgotten."""
        self.close()

    def __del__(self) -> None:
        # Whoever waits for room in it waits no longer.
        self._ended = True
        self._when_dropped()

    def _next_taker(self) -> Deferred[Item]:
        taker = self._takers[0]
        self._forget(taker)
        return taker

    def _forget(self, taker: Deferred[Item]) -> None:
        self._takers.remove(taker)
        if not self._takers:
            self._awaited.discard(self)
