"""What pytest alone needs to run these tests; trial does not read this."""

from collections.abc import Iterator

import pytest
from twisted.trial.unittest import SynchronousTestCase


@pytest.fixture(autouse=True, scope="session")
def _in_a_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run the tests in a folder of their own, as trial does: `mktemp` makes its files in the current one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("tests"))
        yield


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    Put trial's test cases before everything else, and keep the order otherwise.

    The first pytest-twisted test starts the reactor for the rest of the session. A trial `TestCase` that waits starts
    and stops the reactor itself, and fails when it runs already.
    """
    items.sort(key=lambda item: not is_trials(item))


def is_trials(item: pytest.Item) -> bool:
    """Whether the test is a method of one of trial's test cases."""
    owner = getattr(item, "cls", None)
    return owner is not None and issubclass(owner, SynchronousTestCase)
