"""A hardware server for the beamline of database.dat: two motors, a shutter, an ion chamber, a string, operations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from twisted.internet.task import deferLater

from equipnet.dcs import HardwareServer, IonChamber, Motor, OperationFailed, Run, Shutter, StringDevice, operation

STEPS = 5


class SteppedMotor(Motor):
    """A motor that reports its position a few times on its way."""

    async def move(self, target: float, report: Callable[[float], None]) -> float:
        start = self.position or 0.0
        for step in range(1, STEPS + 1):
            await deferLater(self.server.connection.reactor, 0.05)
            report(start + (target - start) * step / STEPS)
        return target


class Phi(SteppedMotor):
    name = "gonio_phi"


class Zoom(SteppedMotor):
    name = "camera_zoom"


class SampleShutter(Shutter):
    name = "shutter"

    async def set_state(self, state: str) -> None:
        await deferLater(self.server.connection.reactor, 0.02)


class BeamIntensity(IonChamber):
    name = "i0"

    async def count(self, seconds: float) -> float:
        await deferLater(self.server.connection.reactor, seconds)
        return 12000 * seconds


class LoopStatus(StringDevice):
    name = "loopStatus"


class LoopServer(HardwareServer):
    dhs_name = "loopDHS"
    devices = (Phi, Zoom, SampleShutter, BeamIntensity, LoopStatus)

    @operation("getLoopTip")
    async def get_loop_tip(self, run: Run, ask_pin_flag: str = "0") -> tuple[float, float]:
        self.device("loopStatus").publish("looking for the tip")
        await deferLater(self.connection.reactor, 0.05)
        self.device("loopStatus").publish("idle")
        if self.device("camera_zoom").position < 0.1:
            raise OperationFailed("TipNotInView", "+")
        return 0.51, 0.49

    @operation("collectLoopImages")
    async def collect(self, run: Run, *args: str) -> str:
        await run.update("start_oscillation")
        await run.stopped
        return "stopped"

    @operation("readFile", thread=True)
    def read_file(self, run: Run, name: str) -> int:
        return len(Path(__file__).with_name(name).read_text().splitlines())
