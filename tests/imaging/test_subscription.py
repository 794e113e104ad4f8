"""Tests of the bounded queues between whoever receives and one who uses."""

from __future__ import annotations

import gc
from typing import Any
from weakref import ref

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from equipnet.imaging.subscription import Subscription


class SubscriptionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.told: list[str] = []
        self.numbers: Subscription[int] = Subscription(
            3, lambda: self.told.append("taken"), lambda: self.told.append("dropped")
        )
        self.taken: list[Any] = []

    def take_all(self) -> Deferred[None]:
        """Take all numbers; the Deferred ends with the iteration."""

        async def take() -> None:
            async for number in self.numbers:
                self.taken.append(number)

        return Deferred.fromCoroutine(take())

    def test_order(self) -> None:
        """
        What is put comes out in its order, whether it was there before it was asked for or not.
        """
        self.numbers.put(1)
        self.numbers.put(2)
        ended = self.take_all()
        self.numbers.put(3)
        self.assertEqual((self.taken, self.told), ([1, 2, 3], ["taken", "taken"]))
        self.numbers.end()
        self.successResultOf(ended)

    def test_full(self) -> None:
        """
        Where there is no room the oldest is forgotten, and counted.
        """
        for number in range(1, 6):
            self.assertIs(self.numbers.full, number > 3)
            self.numbers.put(number)
        self.assertEqual(self.numbers.dropped, 2)
        self.numbers.end()
        self.assertFalse(self.numbers.full)
        self.successResultOf(self.take_all())
        self.assertEqual(self.taken, [3, 4, 5])

    def test_end(self) -> None:
        """
        The end comes behind what is there; nothing can be put behind it.
        """
        self.numbers.put(1)
        self.numbers.end()
        self.numbers.put(2)
        self.successResultOf(self.take_all())
        self.assertEqual(self.taken, [1])

    def test_several_takers(self) -> None:
        """
        Several that wait get one each, the first the first; all see the end.
        """
        takers = [Deferred.fromCoroutine(self.numbers.__anext__()) for _ in range(3)]
        self.numbers.put(1)
        takers[1].cancel()
        self.failureResultOf(takers[1], CancelledError)
        self.numbers.put(2)
        self.assertEqual([self.successResultOf(takers[index]) for index in (0, 2)], [1, 2])
        late = Deferred.fromCoroutine(self.numbers.__anext__())
        self.numbers.end()
        self.failureResultOf(late, StopAsyncIteration)

    def test_aclose(self) -> None:
        """
        Closing forgets what is left, ends the iteration, and tells that there is room.
        """
        self.numbers.put(1)
        self.successResultOf(Deferred.fromCoroutine(self.numbers.aclose()))
        self.assertEqual(self.told, ["taken"])
        self.numbers.put(2)
        self.successResultOf(self.take_all())
        self.assertEqual(self.taken, [])

    def test_closed_while_somebody_waits(self) -> None:
        """
        Who waits then sees the end.
        """
        ended = self.take_all()
        self.numbers.close()
        self.successResultOf(ended)

    def test_dropped(self) -> None:
        """
        One that nobody has any more is told of.
        """
        self.numbers.put(1)
        del self.numbers
        gc.collect()
        self.assertEqual(self.told, ["dropped"])

    def test_left_loop(self) -> None:
        """
        So is one whose loop was left.
        """

        async def take_one() -> int | None:
            async for number in Subscription[int](3, dropped=lambda: self.told.append("dropped")):
                return number
            return None

        before = set(Subscription._awaited)
        numbers = Deferred.fromCoroutine(take_one())
        self.assertNoResult(numbers)
        self.assertEqual(self.told, [])
        (waiting,) = Subscription._awaited - before
        waiting.put(7)
        del waiting, before
        gc.collect()
        self.assertEqual((self.successResultOf(numbers), self.told), (7, ["dropped"]))

    def test_kept_while_somebody_waits(self) -> None:
        """
        A coroutine that waits, and that nobody else has, is not lost to the garbage collector.
        """
        self.take_all()
        numbers = ref(self.numbers)
        del self.numbers
        gc.collect()
        found = numbers()
        assert found is not None
        found.put(1)
        found.end()
        self.assertEqual(self.taken, [1])
        del found
        gc.collect()
        self.assertIsNone(numbers())

    def test_limit(self) -> None:
        """
        It has room for one at least.
        """
        self.assertEqual(str(self.assertRaises(ValueError, Subscription, 0)), "limit is 0, less than 1")
