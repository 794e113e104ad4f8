"""A simulated goniometer: a spindle that turns in front of a simulated camera, and the camera's trigger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import deferLater

from equipnet.dcs import HardwareServer, Motor, Shutter

#: Degrees a second that the spindle turns when nobody says how fast.
SPEED = 360.0
#: Seconds between two reports of a position.
REPORTS = 0.1


class Spindle(Motor):
    """Turns the sample; the camera sees it at the spindle's angle."""

    name = "gonio_phi"

    async def move(self, target: float, report: Callable[[float], None]) -> float:
        return await self.oscillate(target, abs(target - (self.position or 0.0)) / SPEED, report)

    async def oscillate(self, target: float, seconds: float, report: Callable[[float], None]) -> float:
        start, reactor = self.position or 0.0, self.server.connection.reactor
        begin = reactor.seconds()
        while (now := reactor.seconds() - begin) < seconds:
            report(start + (target - start) * now / seconds)
            await deferLater(reactor, min(REPORTS, seconds - now))
        camera: Any = self.server.node.connection("camera-simulator")
        if not camera.is_triggered:
            camera.angle = target
        return target


class Trigger(Shutter):
    """Lets the camera post images while it is open."""

    name = "video_trigger"

    def set_state(self, state: str) -> None:
        camera: Any = self.server.node.connection("camera-simulator")
        if state == "open":
            camera.angle = self.server.device("gonio_phi").position or 0.0
            camera.open_trigger()
        else:
            camera.close_trigger()


class Goniometer(HardwareServer):
    """The spindle and the trigger."""

    dhs_name = "gonioDHS"
    devices = (Spindle, Trigger)
