"""
Tests for `equipnet.connection.faults`.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from equipnet.connection.faults import Faults, Injected


class TakeTests(SynchronousTestCase):
    """Which fault happens."""

    def setUp(self) -> None:
        self.faults: Faults[str] = Faults()

    def test_counted_first(self) -> None:
        """
        Those with a count come first, in their order, and then the last one without.
        """
        for fault, count in (("first", None), ("one", 2), ("two", 1), ("last", None)):
            self.faults.inject(fault, count)
        self.assertEqual([self.faults.take() for _ in range(5)], ["one", "one", "two", "last", "last"])

    def test_concerned(self) -> None:
        """
        A fault that does not concern what is at hand does not happen, and is not counted.
        """
        self.faults.inject("other", 1)
        self.assertIsNone(self.faults.take("this".__eq__))
        self.assertEqual(self.faults.take("other".__eq__), "other")
        self.assertIsNone(self.faults.take())

    def test_twice(self) -> None:
        """
        Two that are equal are counted one after the other.
        """
        self.faults.inject("same", 1)
        self.faults.inject("same", 2)
        self.assertEqual([self.faults.take() for _ in range(4)], ["same", "same", "same", None])

    def test_another_order(self) -> None:
        """
        A simulator may have another order; what it chooses is counted.
        """

        class Latest(Faults[str]):
            def choose(self, concerned: Sequence[Injected[str]]) -> Injected[str]:
                return concerned[-1]

        faults = Latest()
        faults.inject("old")
        faults.inject("new", 1)
        self.assertEqual([faults.take() for _ in range(2)], ["new", "old"])


class FaultsTests(SynchronousTestCase):
    """Which faults there are."""

    def test_truth(self) -> None:
        """
        They are true as long as there is one: until it has happened, or all are cleared.
        """
        faults: Faults[str] = Faults()
        self.assertFalse(faults)
        faults.inject("once", 1)
        self.assertTrue(faults)
        faults.take()
        self.assertFalse(faults)
        faults.inject("always")
        faults.take()
        self.assertTrue(faults)
        faults.clear()
        self.assertFalse(faults)

    def test_count(self) -> None:
        """
        A fault that happens no times is refused.
        """
        for count in (0, -1):
            self.assertRaises(ValueError, Faults[str]().inject, "never", count)
