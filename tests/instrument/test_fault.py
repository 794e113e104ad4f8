"""
Tests for `equipnet.instrument.fault`.
"""

from __future__ import annotations

from itertools import product
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from equipnet.instrument.fault import Fault

ONE_OF_EACH: dict[str, Any] = {
    "silence": True,
    "refuse": True,
    "delay": 0.5,
    "drop": True,
    "garble": 3,
    "merge": 2,
    "split": 1,
    "close": "after",
    "reset": "after",
}

TOGETHER = {
    "delay": {"drop", "garble", "merge", "split", "close", "reset"},
    "drop": {"delay", "close", "reset"},
    "garble": {"delay", "merge", "split", "close", "reset"},
    "merge": {"delay", "garble"},
    "split": {"delay", "garble", "close", "reset"},
    "close": {"delay", "drop", "garble", "split"},
    "reset": {"delay", "drop", "garble", "split"},
}


class ValidationTests(SynchronousTestCase):
    """A fault that makes no sense cannot be made."""

    def test_each_alone(self) -> None:
        """
        Each fault can stand alone.
        """
        for name, value in ONE_OF_EACH.items():
            self.assertEqual(getattr(Fault(**{name: value}), name), value)

    def test_pairs(self) -> None:
        """
        Of all pairs exactly those are refused that exclude each other.
        """
        for one, other in product(ONE_OF_EACH, repeat=2):
            if one == other:
                continue
            both = {one: ONE_OF_EACH[one], other: ONE_OF_EACH[other]}
            if other in TOGETHER.get(one, ()):
                Fault(**both)
            else:
                self.assertRaises(ValueError, Fault, **both)

    def test_nothing(self) -> None:
        """
        A fault has something in it, and a seed alone is nothing.
        """
        self.assertRaises(ValueError, Fault)
        self.assertRaises(ValueError, Fault, seed=3)

    def test_values(self) -> None:
        """
        Numbers and places are checked.
        """
        wrong: list[dict[str, Any]] = [
            {"delay": -1.0},
            {"delay": float("nan")},
            {"delay": float("inf")},
            {"split": 0},
            {"merge": 1},
            {"garble": 0},
            {"close": "before"},
            {"reset": True},
            {"drop": True, "close": "middle"},
            {"drop": True, "reset": "middle"},
        ]
        for each in wrong:
            self.assertRaises(ValueError, Fault, **each)


class DamageTests(SynchronousTestCase):
    """What becomes of a reply."""

    def test_untouched(self) -> None:
        """
        Faults of time and place do not change a reply.
        """
        for fault in (Fault(delay=1), Fault(split=1), Fault(merge=2), Fault(close="after"), Fault(reset="after")):
            self.assertEqual(fault.damage(b"1.0\n", Random(0)), b"1.0\n")

    def test_dropped(self) -> None:
        """
        Nothing is left of a reply that is dropped.
        """
        self.assertEqual(Fault(drop=True).damage(b"1.0\n", Random(0)), b"")

    def test_cut(self) -> None:
        """
        In its middle a reply has half of its bytes, rounded down.
        """
        self.assertEqual(Fault(close="middle").damage(b"12345", Random(0)), b"12")
        self.assertEqual(Fault(reset="middle").damage(b"1", Random(0)), b"")

    def test_garbled(self) -> None:
        """
        So many bits are inverted as were asked for, or all where there are fewer.
        """
        for bits in (1, 2, 7, 100):
            reply = b"1.0\n"
            damaged = Fault(garble=bits).damage(reply, Random(5))
            different = sum((one ^ other).bit_count() for one, other in zip(reply, damaged, strict=True))
            self.assertEqual(different, min(bits, 32))

    def test_garbled_reproducibly(self) -> None:
        """
        The same chance garbles alike, another one does not.
        """
        fault = Fault(garble=4)
        replies = [fault.damage(bytes(100), Random(seed)) for seed in (1, 1, 2)]
        self.assertEqual(replies[0], replies[1])
        self.assertNotEqual(replies[0], replies[2])

    def test_nothing_to_garble(self) -> None:
        """
        No reply stays no reply.
        """
        self.assertEqual(Fault(garble=4).damage(b"", Random(0)), b"")
