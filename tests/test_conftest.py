from types import SimpleNamespace
from typing import cast

import pytest
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.conftest import pytest_collection_modifyitems


class Waiting(TestCase):
    """Stands for a test case that waits for Deferreds."""


class Immediate(SynchronousTestCase):
    """Stands for a test case that never waits."""


class Plain:
    """Stands for a class of pytest's own kind."""


def sorted_names(*collected: tuple[str, type | None]) -> list[str]:
    """The names of these collected tests, given with the class each is in, in the order in which they would run."""
    items = [SimpleNamespace(name=name, cls=owner) for name, owner in collected]
    # The hook asks an item for nothing but its class.
    pytest_collection_modifyitems(cast(list[pytest.Item], items))
    return [item.name for item in items]


class OrderTests(SynchronousTestCase):
    def test_trial_comes_first(self) -> None:
        """A function, which may be pytest-twisted's and start the reactor, runs after trial's test cases."""
        self.assertEqual(sorted_names(("function", None), ("waits", Waiting)), ["waits", "function"])

    def test_classes_of_pytest_come_later_too(self) -> None:
        """A class that is not trial's counts as pytest's, whatever its methods do."""
        self.assertEqual(sorted_names(("method", Plain), ("at once", Immediate)), ["at once", "method"])

    def test_order_is_kept_otherwise(self) -> None:
        """Among trial's tests, and among the others, the order of collection stays."""
        collected = [("f1", None), ("t1", Waiting), ("f2", None), ("t2", Immediate), ("m", Plain), ("t3", Waiting)]
        self.assertEqual(sorted_names(*collected), ["t1", "t2", "t3", "f1", "f2", "m"])
