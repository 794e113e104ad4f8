"""What simulators do wrong on request, and how many times more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

F = TypeVar("F")


class Injected(Generic[F]):
    """
    A fault in force.

    Parameters
    ----------
    fault
        What happens.
    left
        How many times more; None for as long as nobody clears it.
    """

    __slots__ = ("fault", "left")

    def __init__(self, fault: F, left: int | None) -> None:
        self.fault = fault
        self.left = left


class Faults(list[Injected[F]]):
    """
    The faults in force at a simulator, in the order of injection; ``clear`` ends them all.

    A list by itself, since a simulator asks for each message whether there is any.
    """

    __slots__ = ()

    def inject(self, fault: F, count: int | None = None) -> None:
        """
        Let a fault happen from now on.

        Parameters
        ----------
        fault
            What.
        count
            How many times; None for always.

        Raises
        ------
        ValueError
            When ``count`` is less than 1.
        """
        if count is not None and count < 1:
            raise ValueError(f"count is {count}, less than 1")
        self.append(Injected(fault, count))

    def take(self, concerns: Callable[[F], bool] = lambda _: True) -> F | None:
        """
        Give the fault that happens now, and count it; None when all goes well.

        Parameters
        ----------
        concerns
            Tells whether a fault can happen to what is at hand; those that cannot are not counted.
        """
        concerned = [injected for injected in self if concerns(injected.fault)]
        if not concerned:
            return None
        taken = self.choose(concerned)
        if taken.left is not None:
            taken.left -= 1
            if not taken.left:
                self.remove(taken)
        return taken.fault

    def choose(self, concerned: Sequence[Injected[F]]) -> Injected[F]:
        """Give the first with a count, or else the last; where a simulator has another order, it overrides this."""
        return next((injected for injected in concerned if injected.left is not None), concerned[-1])
