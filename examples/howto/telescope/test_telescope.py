"""A test of code that commands a telescope mount, without a socket and without waiting."""

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from equipnet.communicator import Communicator, OperationManagerSimulator, Part, join_in_memory
from equipnet.communicator.message import ElevationAxisMove, ElevationAxisPower


class TelescopeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.mount = Communicator("mount", "unused", 1, None, 0, connect=False, reactor=self.clock)
        self.simulator = OperationManagerSimulator(reactor=self.clock)
        join_in_memory(self.mount, self.simulator)
        self.mount.startService()
        self.simulator.startService()
        self.clock.pump([0.1] * 5)

    def executed(self, command: Any) -> Any:
        """Execute a command, which may take half a minute."""
        ended = self.mount.execute(command)
        self.clock.pump([0.1] * 300)
        return self.successResultOf(ended)

    def test_elevation(self) -> None:
        """
        The mount moves where it is told to.
        """
        self.executed(ElevationAxisPower(True))
        self.executed(ElevationAxisMove(45.0))
        self.assertEqual(self.simulator.position(Part.ELEVATION), 45.0)
