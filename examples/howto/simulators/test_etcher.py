"""A test of code that asks equipment over HSMS, in memory."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from equipnet.errors import EquipmentTimeout
from equipnet.hsms import IN_MEMORY, EquipmentFault, EquipmentSimulator, HsmsActiveConnection, Variable
from equipnet.secs import F4, U4, L, Message


async def pressure(host: HsmsActiveConnection) -> float:
    """What is tested: give the pressure that an etcher reports."""
    reply = await host.request(Message(1, 3, wait=True, item=L(U4(1001))), timeout=10.0)
    item: Any = reply.item
    return float(item[0].value)


class PressureTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        variables = {1001: Variable("Pressure", F4(1.5), "Pa")}
        self.etcher = EquipmentSimulator(IN_MEMORY, variables=variables, reactor=self.clock)
        self.etcher.enable()
        self.host = HsmsActiveConnection(self.etcher.in_memory(), reactor=self.clock)
        self.host.enable()
        self.clock.pump([0] * 10)

    def test_pressure(self) -> None:
        """
        The pressure is what the etcher has.
        """
        asked = Deferred.fromCoroutine(pressure(self.host))
        self.clock.pump([0] * 10)
        self.assertEqual(self.successResultOf(asked), 1.5)

    def test_no_reply(self) -> None:
        """
        An etcher that does not reply within ten seconds is an error.
        """
        self.etcher.inject(EquipmentFault(silence=True), count=1)
        asked = Deferred.fromCoroutine(pressure(self.host))
        self.clock.pump([0] * 10)
        self.assertNoResult(asked)
        self.clock.advance(10)
        self.failureResultOf(asked, EquipmentTimeout)
