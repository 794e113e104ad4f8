"""A hardware server with a motor."""

from collections.abc import Callable

from twisted.internet.task import deferLater

from equipnet.dcs import HardwareServer, Motor

STEPS = 4


class SampleZ(Motor):
    name = "sample_z"

    async def move(self, target: float, report: Callable[[float], None]) -> float:
        start = self.position or 0.0
        for step in range(1, STEPS + 1):
            await deferLater(self.server.connection.reactor, 0.1)
            report(start + (target - start) * step / STEPS)
        return target


class MotorServer(HardwareServer):
    dhs_name = "myDHS"
    devices = (SampleZ,)
