"""How the parts of a simulated telescope mount move: positions as a function of time, and nothing of messages."""

from __future__ import annotations

from enum import Enum


class Part(Enum):
    """What moves."""

    AZIMUTH = "azimuth axis"
    ELEVATION = "elevation axis"
    CAMERA_CABLE_WRAP = "camera cable wrap"
    MIRROR_COVERS = "mirror covers"
    MIRROR_COVER_LOCKS = "mirror cover locks"


class Motion:
    """
    One thing that moves in a line at constant speed.

    Parameters
    ----------
    low, high
        Its limits: degrees, or percent closed.
    speed
        The fastest that it moves, per second.
    position
        Where it is at first.

    Attributes
    ----------
    on
        Whether it is switched on.
    tracking
        Whether it may follow a path.
    """

    def __init__(self, low: float, high: float, speed: float, position: float = 0.0) -> None:
        self.low = low
        self.high = high
        self.speed = speed
        self.on = False
        self.tracking = False
        self._start, self._begun = position, 0.0
        self._velocity = 0.0
        self._target = position

    def position(self, now: float) -> float:
        """Give where it is at a time, in seconds."""
        where = self._start + self._velocity * (now - self._begun)
        if self._velocity == 0:
            return self._start
        return min(where, self._target) if self._velocity > 0 else max(where, self._target)

    def is_possible(self, position: float) -> bool:
        """Whether it can be at a position."""
        return self.low <= position <= self.high

    def move(self, target: float, now: float, speed: float = 0.0) -> float:
        """Begin to move to a position, as fast as can be where ``speed`` is 0; gives how many seconds that takes."""
        speed = min(abs(speed), self.speed) or self.speed
        self.stop(now)
        self._target = target
        self._velocity = speed if target > self._start else -speed
        return abs(target - self._start) / speed

    def track(self, position: float, velocity: float, now: float) -> None:
        """Be at a position, and go on with a velocity up to the limit."""
        self._start, self._begun, self._velocity = position, now, velocity
        self._target = self.high if velocity > 0 else self.low

    def stop(self, now: float) -> None:
        """Stay where it is."""
        self._start, self._begun, self._velocity = self.position(now), now, 0.0
        self._target = self._start


def mount() -> dict[Part, Motion]:
    """Give a telescope mount, switched off, that looks at the horizon with its covers closed."""
    return {
        Part.AZIMUTH: Motion(-270.0, 270.0, 10.0),
        Part.ELEVATION: Motion(0.0, 90.0, 5.0),
        Part.CAMERA_CABLE_WRAP: Motion(-90.0, 90.0, 6.0),
        Part.MIRROR_COVERS: Motion(0.0, 100.0, 5.0, 100.0),
        Part.MIRROR_COVER_LOCKS: Motion(0.0, 100.0, 20.0, 100.0),
    }
