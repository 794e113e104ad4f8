"""The devices of a hardware server as its author writes them: classes with the methods that touch the hardware."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet.defer import DeferredLock

from equipnet.dcs.message import (
    HtosConfigureDevice,
    HtosReportShutterState,
    HtosSetStringCompleted,
    Message,
    StohConfigurePseudoMotor,
    StohConfigureRealMotor,
)
from equipnet.dcs.operation import OperationFailed

if TYPE_CHECKING:
    from equipnet.dcs.service import HardwareServer
    from equipnet.interfaces import INode

#: Reports where a motor is.
Report = Callable[[float], None]


class Device:
    """
    Something in dcss's database that belongs to this hardware server.

    A subclass says its ``name``, and overrides what its hardware can do. Its methods are ``async def``; they may also
    be plain functions that return soon, or, with ``thread = True``, that block.

    Attributes
    ----------
    name
        As in dcss's database.
    thread
        Whether the methods block, and are to be run in threads.
    hardware_name
        What dcss's database calls it behind its name, once it is registered.
    registered
        Whether dcss has said in this connection that the device is ours.
    server
        The hardware server it belongs to.
    """

    name: str = ""
    thread: ClassVar[bool] = False
    server: HardwareServer

    hardware_name: str = ""
    registered: bool = False

    @property
    def node(self) -> INode:
        """The node, for finding its other connections."""
        return self.server.node

    @property
    def lock(self) -> DeferredLock:
        """Lets one request after the other reach the hardware."""
        lock: DeferredLock = self.__dict__.setdefault("_lock", DeferredLock())
        return lock

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


@dataclass(frozen=True)
class MotorConfiguration:
    """
    What dcss and a hardware server know of a motor beside its position.

    Parameters
    ----------
    upper_limit, lower_limit
        In the motor's units.
    scale_factor, speed, acceleration, backlash
        As `equipnet.dcs.message.StohConfigureRealMotor` says; of no meaning for a pseudo motor.
    lower_limit_on, upper_limit_on, lock_on, backlash_on, reverse_on
        Whether the limit holds, the motor is locked, backlash is corrected, the direction is reversed.
    """

    upper_limit: float
    lower_limit: float
    scale_factor: float = 1.0
    speed: int = 1
    acceleration: int = 1
    backlash: int = 0
    lower_limit_on: bool = True
    upper_limit_on: bool = True
    lock_on: bool = False
    backlash_on: bool = False
    reverse_on: bool = False

    @classmethod
    def of(cls, message: StohConfigureRealMotor | StohConfigurePseudoMotor) -> MotorConfiguration:
        """Take it from a message of dcss."""
        return cls(**{name: getattr(message, name) for name in cls.__dataclass_fields__ if hasattr(message, name)})

    def obstacle(self, destination: float) -> str:
        """Give the status with which a move is refused, empty where it is not."""
        if self.lock_on:
            return "locked"
        too_high = self.upper_limit_on and destination > self.upper_limit
        too_low = self.lower_limit_on and destination < self.lower_limit
        return "sw_limit" if too_high or too_low else ""


class Motor(Device):
    """
    A real motor.

    Positions are those of the hardware. Where dcss counts a circle otherwise, or calls a position otherwise, the
    difference is ``offset``, which is added to what is sent and taken from what comes.

    Attributes
    ----------
    position
        Where it is believed to be; None as long as nobody knows. Set it in the class or when the hardware is found, and
        dcss is told; otherwise dcss's is adopted.
    configuration
        Limits and settings: those of the class, or what dcss knows.
    offset
        dcss's position less ours.
    dependencies
        The motors on which it depends, as dcss says.
    """

    position: float | None = None
    configuration: MotorConfiguration | None = None
    offset: float = 0.0
    dependencies: tuple[str, ...] = ()

    # What an author overrides

    def move(self, target: float, report: Report) -> Any:
        """
        Move to ``target``, and return when the motor has stopped.

        Parameters
        ----------
        target
            Where to.
        report
            Call it with the position a few times a second.

        Returns
        -------
        float | None
            Where it has stopped; ``target`` where None.

        Raises
        ------
        OperationFailed
            With a status such as ``"cw_hw_limit"``, ``"ccw_hw_limit"`` or ``"both_hw_limits"``. When the move is
            aborted, what this awaits fails with ``CancelledError``: stop the hardware then, and return the position or
            let the error through.
        NotImplementedError
            Where it is not overridden: no motor pretends to have moved.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it moves")

    def oscillate(self, target: float, seconds: float, report: Report) -> Any:
        """Move to ``target`` within so many seconds, with the shutter open; as `move` otherwise."""
        return self.move(target, report)

    def move_at(self, target: float, speed: float, report: Report) -> Any:
        """Move as one axis of a vector, at the vector's speed; as `move` otherwise."""
        return self.move(target, report)

    def change_speed(self, speed: float) -> Any:
        """Change the speed of the vector move that is under way."""

    def abort(self, hard: bool) -> Any:
        """Stop as fast as possible (``hard``) or gently; called before the move is cancelled."""

    def set_position(self, position: float) -> Any:
        """Call the present position so; without an override only ``offset`` changes. The argument is dcss's."""
        self.call(position)

    # What the connection uses

    def call(self, position: float) -> None:
        """Let dcss's number for the present position be ``position``."""
        if self.position is None:
            self.position = position
        self.offset = position - self.position

    @property
    def dcss_position(self) -> float:
        """The position as dcss counts it; 0 as long as nobody knows."""
        return self.to_dcss(self.position or 0.0)

    def to_dcss(self, position: float) -> float:
        """Give dcss's number for a position of ours."""
        # Without rounding a sum of decimals has seventeen places.
        return round(position + self.offset, 9) if self.offset else position

    def from_dcss(self, position: float) -> float:
        """Give our number for a position of dcss's."""
        return round(position - self.offset, 9) if self.offset else position

    def settings(self) -> tuple[object, ...] | None:
        """Give what ``htos_configure_device`` says; None as long as that is not known."""
        own = self.configuration
        if own is None or self.position is None:
            return None
        return (
            *(self.dcss_position, own.upper_limit, own.lower_limit),
            *(own.scale_factor, own.speed, own.acceleration, own.backlash),
            *(own.lower_limit_on, own.upper_limit_on, own.lock_on, own.backlash_on, own.reverse_on),
        )

    def configured(self, message: StohConfigureRealMotor | StohConfigurePseudoMotor, moving: bool) -> None:
        """Adopt what dcss says."""
        self.configuration = MotorConfiguration.of(message)
        if not moving:
            self.call(message.position)


class PseudoMotor(Motor):
    """A motor that moves others; ``children`` are their names, as dcss says."""

    children: tuple[str, ...] = ()

    def settings(self) -> tuple[object, ...] | None:
        own = self.configuration
        if own is None or self.position is None:
            return None
        return (
            *(self.dcss_position, own.upper_limit, own.lower_limit),
            *(own.lower_limit_on, own.upper_limit_on, own.lock_on),
        )


class AbsentMotor(Motor):
    """Stands for a motor that dcss registers and the author has not written: it refuses every move."""

    def move(self, target: float, report: Report) -> Any:
        raise OperationFailed("no_device")


class Shutter(Device):
    """
    A shutter or a filter.

    Attributes
    ----------
    state
        ``"open"`` or ``"closed"``: where it is believed to be; empty as long as nobody knows, then dcss's is adopted.
    """

    state: str = ""

    def set_state(self, state: str) -> Any:
        """Open or close it; raise `OperationFailed` when it cannot be. Where it is not overridden it fails."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it opens and closes")

    def report(self, result: str = "") -> Message:
        """Give the message that says how it stands."""
        return HtosReportShutterState(self.name, self.state or "closed", result)


class IonChamber(Device):
    """
    An ion chamber, or any other counter.

    Attributes
    ----------
    channel, timer, timer_type
        As dcss's database says.
    """

    channel: int = 0
    timer: str = ""
    timer_type: str = ""

    def count(self, seconds: float) -> Any:
        """Count for so many seconds, and return the counts. The chambers of one request count at the same time."""
        raise OperationFailed("not_implemented")


class Encoder(Device):
    """
    An encoder.

    Attributes
    ----------
    position
        What it read last.
    """

    position: float | None = None

    def get(self) -> Any:
        """Read it; without an override this is ``position``."""
        return self.position

    def set(self, position: float) -> Any:
        """Call the present position so, and return what it reads then; None is ``position`` itself."""
        return position


class StringDevice(Device):
    """
    A string: any state that others want to see.

    Attributes
    ----------
    contents
        What it holds; None as long as nobody knows, then dcss's is adopted.
    """

    contents: str | None = None

    def set(self, contents: str) -> Any:
        """Take new contents, and return what it holds then; None is ``contents`` itself."""
        return contents

    def publish(self, contents: object) -> None:
        """
        Change the contents, and tell dcss: now, or when it is there. Can be called from any thread.

        Raises
        ------
        LocalProtocolError
            When dcss could not carry it; the contents are what they were.
        """
        message = HtosSetStringCompleted(self.name, "normal", str(contents))
        self.contents = message.contents
        if self.registered:
            self.server.connection.send_if_connected(message)


class ObjectDevice(Device):
    """An object; dcss does nothing with it but to register it."""


def configure(motor: Motor) -> HtosConfigureDevice | None:
    """Give the message that tells dcss about a motor; None where we do not even know its position."""
    settings = motor.settings()
    if settings is None:
        return None if motor.position is None else HtosConfigureDevice(motor.name, (motor.dcss_position,))
    return HtosConfigureDevice(motor.name, settings)
