"""
The commands and replies of Tekniker's Operation Manager, as frozen values.

The table below has every command and reply of MTMount v0.9, one class for each; the annotations are the parameters on
the wire, in their order (see `equipnet.communicator.dialect`). Positions are degrees, velocities degrees per second,
accelerations and jerks accordingly, ``tai`` seconds since 1970-01-01 TAI; -1 for ``drive`` means all drives.

MTMount names five commands that are over with their `Ack`: four of them are the tracking commands below, the fifth is
taken to be that of the azimuth cable wrap, 305, which has no class in v0.9.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from typing_extensions import dataclass_transform

#: The last sequence id; the first one, 1, comes after it.
LAST_SEQUENCE_ID = 2**31 - 1

#: The timeout of an `Ack` that says that there is none (dialect ``"json"``).
NO_LIMIT = -1


class Source(IntEnum):
    """Who sends a command, or whose command a reply is about."""

    NONE = 0
    CSC = 1
    EUI = 2
    HHD = 3
    PXI = 100


class Subsystem(IntEnum):
    """The parts of the mount; codes of errors and warnings are one of these numbers and a small one added to it."""

    AZIMUTH_AXIS = 100
    AZIMUTH_DRIVES = 200
    AZIMUTH_CABLE_WRAP = 300
    ELEVATION_AXIS = 400
    ELEVATION_DRIVES = 500
    MAIN_POWER_SUPPLY = 600
    ENCODER_BOX = 700
    OIL_SUPPLY_SYSTEM = 800
    MIRROR_COVERS = 900
    CAMERA_CABLE_WRAP = 1000
    BALANCE = 1100
    DEPLOYABLE_PLATFORM = 1200
    CABINET = 1300
    LOCKING_PINS = 1400
    MIRROR_COVER_LOCKS = 1500
    AZIMUTH_THERMAL = 1600
    ELEVATION_THERMAL = 1700
    INTERLOCK = 1800
    TOP_END_CHILLER = 2200


class Axis(IntEnum):
    """What an `InPosition` is about."""

    AZIMUTH = 0
    ELEVATION = 1


class ReplyId(IntEnum):
    """The ids of replies in the dialect ``"json"``, as far as they have a name that is known."""

    CMD_ACKNOWLEDGED = 1
    CMD_REJECTED = 2
    CMD_SUCCEEDED = 3
    CMD_FAILED = 4
    CMD_SUPERSEDED = 5
    WARNING = 10
    ERROR = 11
    COMMANDER = 20
    SAFETY_INTERLOCKS = 30
    IN_POSITION = 200


# What all messages are made of

T = TypeVar("T")

#: Which versions of MTMount, 0.N, have a parameter.
_SINCE_V13: Mapping[str, int] = {"since": 13}
_UNTIL_V9: Mapping[str, int] = {"until": 9}


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """
    What every command has.

    Parameters
    ----------
    sequence_id
        1 to 2**31 - 1, by which replies tell which command they are about; None for the next one of the communicator.
    source
        Who sends it; None for the communicator's own source.
    timestamp
        When it was sent, UTC; None for the time of sending.
    """

    code: ClassVar[int]
    ack_only: ClassVar[bool]
    sequence_id: int | None = None
    source: Source | None = None
    timestamp: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """
    What every reply has.

    Parameters
    ----------
    timestamp
        When it was sent, UTC; None for the time of sending.
    """

    reply_code: ClassVar[int]
    timestamp: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandReply(Reply):
    """
    What every reply to one command has.

    Parameters
    ----------
    sequence_id
        That of the command.
    source
        That of the command; the dialect ``"json"`` does not carry it.
    """

    sequence_id: int
    source: Source = Source.NONE


_commands: dict[int, type[Command]] = {}
_replies: dict[int, type[Reply]] = {}


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def command(code: int, *, ack_only: bool = False) -> Callable[[type[T]], type[T]]:
    """
    Make a command of a class that derives from `Command`; its annotations are the parameters in their order.

    Parameters
    ----------
    code
        Its number on the wire.
    ack_only
        Whether it is over with its `Ack`, so that there is no `Done`.
    """

    def make(cls: Any) -> Any:
        made: Any = dataclass(frozen=True, slots=True)(cls)
        made.code, made.ack_only = code, ack_only
        if made.__module__ == __name__:
            _commands[code] = made
        return made

    return make


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def _reply(code: int) -> Callable[[type[T]], type[T]]:
    def make(cls: Any) -> Any:
        made: Any = dataclass(frozen=True, slots=True)(cls)
        made.reply_code = code
        if code >= 0:
            _replies[code] = made
        return made

    return make


# The commands. Those whose Ack is all that comes are the tracking commands.


@command(10)
class Enable(Command):
    """Enable the mount."""


@command(11)
class Disable(Command):
    """Disable the mount."""


@command(30)
class BothAxesMove(Command):
    """Move azimuth and elevation to a position."""

    azimuth: float
    elevation: float
    azimuth_velocity: float = 0.0
    elevation_velocity: float = 0.0
    negate_azimuth: int = 0


@command(31, ack_only=True)
class BothAxesTrack(Command):
    """Give azimuth and elevation the next point of their path."""

    azimuth: float
    elevation: float
    azimuth_velocity: float
    elevation_velocity: float
    negate_azimuth: int = 0
    tai: float = field(kw_only=True)


@command(32)
class BothAxesStop(Command):
    """Stop azimuth and elevation."""


@command(101)
class AzimuthAxisPower(Command):
    """Switch the azimuth axis on or off."""

    on: bool


@command(102)
class AzimuthAxisStop(Command):
    """Stop the azimuth axis."""


@command(103)
class AzimuthAxisMove(Command):
    """Move the azimuth axis to a position; 0 stands for the default velocity, acceleration and jerk."""

    position: float
    velocity: float = 0.0
    acceleration: float = 0.0
    jerk: float = 0.0


@command(105, ack_only=True)
class AzimuthAxisTrack(Command):
    """Give the azimuth axis the next point of its path."""

    position: float
    velocity: float
    tai: float


@command(106)
class AzimuthAxisHome(Command):
    """Home the azimuth axis."""


@command(107)
class AzimuthAxisResetAlarm(Command):
    """Reset the alarms of the azimuth axis."""


@command(108)
class AzimuthAxisEnableTracking(Command):
    """Let the azimuth axis track, or no longer."""

    on: bool = field(default=True, metadata=_UNTIL_V9)


@command(201)
class AzimuthAxisDriveReset(Command):
    """Reset a drive of the azimuth axis."""

    drive: int = -1


@command(202)
class AzimuthAxisDriveEnable(Command):
    """Enable or disable a drive of the azimuth axis."""

    drive: int = -1
    on: bool = field(kw_only=True)


@command(401)
class ElevationAxisPower(Command):
    """Switch the elevation axis on or off."""

    on: bool


@command(402)
class ElevationAxisStop(Command):
    """Stop the elevation axis."""


@command(403)
class ElevationAxisMove(Command):
    """Move the elevation axis to a position; 0 stands for the default velocity, acceleration and jerk."""

    position: float
    velocity: float = 0.0
    acceleration: float = 0.0
    jerk: float = 0.0


@command(405, ack_only=True)
class ElevationAxisTrack(Command):
    """Give the elevation axis the next point of its path."""

    position: float
    velocity: float
    tai: float


@command(406)
class ElevationAxisHome(Command):
    """Home the elevation axis."""


@command(407)
class ElevationAxisResetAlarm(Command):
    """Reset the alarms of the elevation axis."""


@command(408)
class ElevationAxisEnableTracking(Command):
    """Let the elevation axis track, or no longer."""

    on: bool = field(default=True, metadata=_UNTIL_V9)


@command(501)
class ElevationAxisDriveReset(Command):
    """Reset a drive of the elevation axis."""

    drive: int = -1


@command(502)
class ElevationAxisDriveEnable(Command):
    """Enable or disable a drive of the elevation axis."""

    drive: int = -1
    on: bool = field(kw_only=True)


@command(601)
class MainPowerSupplyPower(Command):
    """Switch the main power supply on or off."""

    on: bool


@command(602)
class MainPowerSupplyResetAlarm(Command):
    """Reset the alarms of the main power supply."""


@command(801)
class OilSupplySystemPower(Command):
    """Switch the oil supply system on or off."""

    on: bool


@command(802)
class OilSupplySystemPowerCooling(Command):
    """Switch the cooling of the oil supply system on or off."""

    on: bool


@command(803)
class OilSupplySystemPowerOil(Command):
    """Switch the oil of the oil supply system on or off."""

    on: bool


@command(804)
class OilSupplySystemPowerMainPump(Command):
    """Switch the main pump of the oil supply system on or off."""

    on: bool


@command(805)
class OilSupplySystemResetAlarm(Command):
    """Reset the alarms of the oil supply system."""


@command(901)
class MirrorCoversPower(Command):
    """Switch mirror covers on or off."""

    drive: int = -1
    on: bool = field(kw_only=True)


@command(902)
class MirrorCoversStop(Command):
    """Stop mirror covers."""

    drive: int = -1


@command(905)
class MirrorCoversDeploy(Command):
    """Close mirror covers."""

    drive: int = -1


@command(906)
class MirrorCoversRetract(Command):
    """Open mirror covers."""

    drive: int = -1


@command(907)
class MirrorCoversResetAlarm(Command):
    """Reset the alarms of mirror covers."""

    drive: int = -1


@command(1001)
class CameraCableWrapPower(Command):
    """Switch the camera cable wrap on or off."""

    on: bool


@command(1002)
class CameraCableWrapStop(Command):
    """Stop the camera cable wrap."""


@command(1003)
class CameraCableWrapMove(Command):
    """Move the camera cable wrap to a position; 0 stands for the default velocity, acceleration and jerk."""

    position: float
    velocity: float = 0.0
    acceleration: float = 0.0
    jerk: float = 0.0


@command(1004, ack_only=True)
class CameraCableWrapTrack(Command):
    """Give the camera cable wrap the next point of its path."""

    position: float
    velocity: float
    tai: float


@command(1005)
class CameraCableWrapResetAlarm(Command):
    """Reset the alarms of the camera cable wrap."""


@command(1006)
class CameraCableWrapDriveEnable(Command):
    """Enable or disable a drive of the camera cable wrap."""

    drive: int
    on: bool


@command(1007)
class CameraCableWrapDriveReset(Command):
    """Reset a drive of the camera cable wrap."""

    drive: int


@command(1009)
class CameraCableWrapEnableTracking(Command):
    """Let the camera cable wrap track, or no longer."""

    on: bool


@command(1501)
class MirrorCoverLocksPower(Command):
    """Switch mirror cover locks on or off."""

    drive: int = -1
    on: bool = field(kw_only=True)


@command(1502)
class MirrorCoverLocksStop(Command):
    """Stop mirror cover locks."""

    drive: int = -1


@command(1505)
class MirrorCoverLocksResetAlarm(Command):
    """Reset the alarms of mirror cover locks."""

    drive: int = -1


@command(1506)
class MirrorCoverLocksMoveAll(Command):
    """Close or open the mirror cover locks."""

    drive: int = -1
    deploy: bool = field(kw_only=True)


@command(1801)
class SafetyReset(Command):
    """Reset the safety system; from v0.13 on with the numbers of what is reset."""

    what: tuple[int, ...] = field(default=(), metadata=_SINCE_V13)


@command(2101)
class AskForCommand(Command):
    """Ask to be the one whose commands count."""

    commander: Source = Source.CSC


@command(2201)
class TopEndChillerPower(Command):
    """Switch the top end chiller on or off."""

    on: bool


@command(2202)
class TopEndChillerTrackAmbient(Command):
    """Let the top end chiller follow the ambient temperature, in degrees Celsius."""

    on: bool
    temperature: float


@command(2203)
class TopEndChillerResetAlarm(Command):
    """Reset the alarms of the top end chiller."""


# The replies


@_reply(0)
class Ack(CommandReply):
    """A command has begun; it takes at most so many milliseconds, `NO_LIMIT` where nobody knows."""

    timeout_ms: int = 0


@_reply(1)
class NoAck(CommandReply):
    """A command was rejected before it began."""

    explanation: str


@_reply(2)
class Done(CommandReply):
    """A command is over. Until v0.13 this comes for one that failed as well, and only an `Error` tells."""


@_reply(3)
class Error(Reply):
    """Something is wrong; ``on`` while it is latched, ``active`` while it lasts."""

    on: bool
    active: bool
    code: int
    subsystem: str
    description: str = field(default="", metadata=_SINCE_V13)
    extra: tuple[str, ...] = ()


@_reply(4)
class Warning(Reply):
    """Something is not as it should be, while it is ``active``."""

    active: bool
    code: int
    subsystem: str
    description: str = field(default="", metadata=_SINCE_V13)
    extra: tuple[str, ...] = ()


@_reply(5)
class OnStateInfo(Reply):
    """The Operation Manager's own state: ``"PublishOnlyWaitingForCommand"``."""

    description: str


@_reply(6)
class InPosition(Reply):
    """Whether an axis (see `Axis`) is where it should be."""

    what: int
    in_position: bool


@_reply(-1)
class Failed(CommandReply):
    """A command that had begun has failed (dialect ``"json"`` only)."""

    explanation: str


@_reply(-1)
class Superseded(CommandReply):
    """Another command has taken a command's place (dialect ``"json"`` only)."""

    by_sequence_id: int
    by_commander: int
    by_code: int


@_reply(-1)
class Report(Reply):
    """Any other reply of the dialect ``"json"``, as it is: see `ReplyId` for ids whose name is known."""

    id: int
    parameters: Mapping[str, Any]


#: Anything that goes over the wire.
Message = Command | Reply

#: The commands and the replies of v0.9 by their codes.
COMMANDS: Mapping[int, type[Command]] = MappingProxyType(_commands)
REPLIES: Mapping[int, type[Reply]] = MappingProxyType(_replies)


def subsystem_of(report: Error | Warning) -> int:
    """Give the number before the dot in ``subsystem`` ("900. MyTopVI/MyNextVI"), or else the hundreds of the code."""
    number = report.subsystem.partition(".")[0].strip()
    return int(number) if number.isdecimal() and len(number) < 6 else report.code // 100 * 100
