"""
Tekniker's side: a simulated Operation Manager that takes every command, moves a simulated mount, and replies.

What it does where the protocol's description is silent is made up: that an axis has to be switched on before it moves
and allowed to track before it tracks, its speeds and limits, that a stopped command fails, and the texts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint

from equipnet.communicator import message as m
from equipnet.communicator.dialect import TERMINATOR, encode
from equipnet.communicator.mount import Motion, Part, mount
from equipnet.communicator.service import Communicator, with_values
from equipnet.connection.address import Address, parse_address, parse_listen
from equipnet.connection.faults import Faults, Injected
from equipnet.errors import Disconnected

#: Milliseconds that an Ack gives a command on top of what it will take.
GRACE_MS = 500


@dataclass(frozen=True, kw_only=True)
class Fault:
    """
    What the simulator does wrong with one command.

    Parameters
    ----------
    silence
        It does nothing, and does not reply.
    delay
        Seconds before it does anything.
    reject
        The explanation of the `NoAck` that it replies with.
    error
        The code of the `Error` that the command fails with after its `Ack` (`Failed` in the dialect ``"json"``).
    no_done
        Whether nothing comes after the `Ack`.
    garble
        Whether a frame that is no reply comes before the `Ack`.
    oversize
        How many bytes the frame has that comes before the `Ack`.
    split
        How many bytes of the replies to it arrive at a time.
    close, reset
        Whether the socket of the replies is closed, or reset, after the `Ack`.
    """

    silence: bool = False
    delay: float = 0.0
    reject: str = ""
    error: int = 0
    no_done: bool = False
    garble: bool = False
    oversize: int = 0
    split: int = 0
    close: bool = False
    reset: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.delay < float("inf") or self.oversize < 0 or self.split < 0:
            raise ValueError("delay, oversize and split are not less than 0")
        if not any(getattr(self, each.name) for each in fields(self)):
            raise ValueError("there is no fault in it")
        if self.close and self.reset:
            raise ValueError("close does not go with reset")


class _Faults(Faults[tuple[Fault, type[m.Command] | None]]):
    """What goes wrong and with which commands, in the order of injection, whether with a count or without."""

    def choose(self, concerned: Sequence[Injected[Any]]) -> Injected[Any]:
        return concerned[0]


class _Action:
    """A command that has begun and is not over: what moves for it, and what ends it."""

    __slots__ = ("call", "command", "fault", "parts")

    def __init__(self, command: m.Command, fault: Fault | None, parts: tuple[Part, ...]) -> None:
        self.command = command
        self.fault = fault
        self.parts = parts
        self.call: IDelayedCall | None = None


#: What each command that moves something moves.
_PARTS: dict[type[m.Command], tuple[Part, ...]] = {
    m.BothAxesMove: (Part.AZIMUTH, Part.ELEVATION),
    m.BothAxesTrack: (Part.AZIMUTH, Part.ELEVATION),
    m.BothAxesStop: (Part.AZIMUTH, Part.ELEVATION),
    m.AzimuthAxisPower: (Part.AZIMUTH,),
    m.AzimuthAxisStop: (Part.AZIMUTH,),
    m.AzimuthAxisMove: (Part.AZIMUTH,),
    m.AzimuthAxisTrack: (Part.AZIMUTH,),
    m.AzimuthAxisHome: (Part.AZIMUTH,),
    m.AzimuthAxisEnableTracking: (Part.AZIMUTH,),
    m.ElevationAxisPower: (Part.ELEVATION,),
    m.ElevationAxisStop: (Part.ELEVATION,),
    m.ElevationAxisMove: (Part.ELEVATION,),
    m.ElevationAxisTrack: (Part.ELEVATION,),
    m.ElevationAxisHome: (Part.ELEVATION,),
    m.ElevationAxisEnableTracking: (Part.ELEVATION,),
    m.MirrorCoversPower: (Part.MIRROR_COVERS,),
    m.MirrorCoversStop: (Part.MIRROR_COVERS,),
    m.MirrorCoversDeploy: (Part.MIRROR_COVERS,),
    m.MirrorCoversRetract: (Part.MIRROR_COVERS,),
    m.CameraCableWrapPower: (Part.CAMERA_CABLE_WRAP,),
    m.CameraCableWrapStop: (Part.CAMERA_CABLE_WRAP,),
    m.CameraCableWrapMove: (Part.CAMERA_CABLE_WRAP,),
    m.CameraCableWrapTrack: (Part.CAMERA_CABLE_WRAP,),
    m.CameraCableWrapEnableTracking: (Part.CAMERA_CABLE_WRAP,),
    m.MirrorCoverLocksPower: (Part.MIRROR_COVER_LOCKS,),
    m.MirrorCoverLocksStop: (Part.MIRROR_COVER_LOCKS,),
    m.MirrorCoverLocksMoveAll: (Part.MIRROR_COVER_LOCKS,),
}

_SUBSYSTEMS = {
    Part.AZIMUTH: m.Subsystem.AZIMUTH_AXIS,
    Part.ELEVATION: m.Subsystem.ELEVATION_AXIS,
    Part.CAMERA_CABLE_WRAP: m.Subsystem.CAMERA_CABLE_WRAP,
    Part.MIRROR_COVERS: m.Subsystem.MIRROR_COVERS,
    Part.MIRROR_COVER_LOCKS: m.Subsystem.MIRROR_COVER_LOCKS,
}

_AXES = {Part.AZIMUTH: m.Axis.AZIMUTH, Part.ELEVATION: m.Axis.ELEVATION}


def _targets(command: Any) -> tuple[tuple[float, float], ...]:
    """Give the positions that a command wants its parts at, each with its speed; nothing for one that wants none."""
    if isinstance(command, (m.BothAxesMove, m.BothAxesTrack)):
        return (
            (command.azimuth, command.azimuth_velocity),
            (command.elevation, command.elevation_velocity),
        )
    if hasattr(command, "position"):
        return ((command.position, command.velocity),)
    if isinstance(command, (m.AzimuthAxisHome, m.ElevationAxisHome)):
        return ((0.0, 0.0),)
    if isinstance(command, (m.MirrorCoversDeploy, m.MirrorCoversRetract)):
        return ((100.0 if isinstance(command, m.MirrorCoversDeploy) else 0.0, 0.0),)
    if isinstance(command, m.MirrorCoverLocksMoveAll):
        return ((100.0 if command.deploy else 0.0, 0.0),)
    return ()


class OperationManagerSimulator(Communicator):
    """
    The other side of a `Communicator`: takes every command, and replies as the Operation Manager does.

    Parameters
    ----------
    listen
        Where it takes commands (see `equipnet.connection.address.parse_listen`).
    replies_to
        Where it sends replies: an address, or any client endpoint of Twisted. The port after that of ``listen`` on this
        host where nothing is given; in the dialect ``"json"`` replies go where the commands come from.
    dialect
        As `Communicator` says.
    name, settings
        As `ClientServerPair` says.

    Attributes
    ----------
    parts
        What moves, by `Part`: positions, whether it is switched on, and whether it may track.
    switches
        What the commands that switch something have set last, by their class and, where there are several, drive.
    commander
        Who has asked for command last.
    errors
        The errors that are active, by code.
    commands
        How many commands have come.
    """

    kind = "simulated-operation-manager"

    def __init__(
        self,
        listen: str | Address = "tcp:0",
        replies_to: str | Address | IStreamClientEndpoint | None = None,
        *,
        name: str = "operation manager",
        dialect: Any = "v0.9",
        **settings: Any,
    ) -> None:
        address = parse_listen(listen) if isinstance(listen, str) else listen
        if isinstance(replies_to, str):
            replies_to = parse_address(replies_to)
        if replies_to is None:
            replies_to = Address("tcp", "127.0.0.1", address.port and address.port + 1)
        self.parts: dict[Part, Motion] = mount()
        self.switches: dict[tuple[type[m.Command], int], Any] = {}
        self.commander = m.Source.NONE
        self.errors: dict[int, m.Error] = {}
        self.commands = 0
        self._faults = _Faults()
        self._actions: set[_Action] = set()
        self._calls: set[IDelayedCall] = set()
        # Replies that arrive in pieces, and those behind them.
        self._pieces: deque[bytes] = deque()
        super().__init__(
            name, replies_to, 0, address, 0, None, False, False, dialect=dialect, source=m.Source.PXI, **settings
        )
        self.add_message_observer(self._take)

    # What users call

    def position(self, part: Part) -> float:
        """Give where a part is now: degrees, or percent closed."""
        return self.parts[part].position(self.reactor.seconds())

    def inject(self, fault: Fault, count: int | None = None, command: type[m.Command] | None = None) -> None:
        """
        Let something go wrong.

        Of several for a command the one that was injected first happens, until its ``count`` is used up.

        Parameters
        ----------
        fault
            What.
        count
            With how many commands; None for all, until `clear_faults` is called.
        command
            With which; with any where nothing is given.
        """
        self._faults.inject((fault, command), count)

    def clear_faults(self) -> None:
        """Let all go well from the next command on."""
        self._faults.clear()

    def report_error(self, code: int, active: bool = True, description: str = "", *extra: str) -> Deferred[Any]:
        """Send an `Error` about the part that the code belongs to, or that it is over; it stays latched until reset."""
        subsystem = code // 100 * 100
        text = f"{subsystem}. {_name(subsystem)}"
        error = m.Error(True, active, code, text, self._description(description), extra)
        self.errors[code] = error
        return self.write(error)

    def report_warning(self, code: int, active: bool = True, description: str = "", *extra: str) -> Deferred[Any]:
        """Send a `Warning` about the part that the code belongs to, or that it is over."""
        subsystem = code // 100 * 100
        text = f"{subsystem}. {_name(subsystem)}"
        return self.write(m.Warning(active, code, text, self._description(description), extra))

    def _description(self, text: str) -> str:
        return text if self.dialect.version >= 12 else ""

    # What comes

    def _take(self, command: Any) -> None:
        self.commands += 1
        fault, _ = self._faults.take(lambda each: each[1] in (None, type(command))) or (None, None)
        if fault is None:
            self._start(command, None)
        elif fault.delay:
            self._schedule(fault.delay, self._start, command, fault)
        elif not fault.silence:
            self._start(command, fault)

    def _start(self, command: Any, fault: Fault | None) -> None:
        if fault is not None and fault.silence:
            return
        why_not = self._objection(command) if fault is None or not fault.reject else fault.reject
        if why_not:
            self._reply(m.NoAck(why_not, **_about(command)), fault)
            return
        if fault is not None and fault.garble:
            self._emit(b"\xb5 is no reply" + TERMINATOR, fault)
        if fault is not None and fault.oversize:
            self._emit(b"x" * fault.oversize + TERMINATOR, fault)
        parts = _PARTS.get(type(command), ())
        moves = bool(_targets(command))
        ended = self._interrupted(parts) if moves or hasattr(type(command), "on") or _stops(command) else []
        seconds = self._do(command, parts)
        self._reply(m.Ack(timeout_ms=round(seconds * 1000) + GRACE_MS, **_about(command)), fault)
        if fault is not None and (fault.close or fault.reset):
            # What was written leaves first.
            self._schedule(0, self._hang_up, fault.reset)
            return
        if not command.ack_only and not (fault is not None and fault.no_done):
            action = _Action(command, fault, parts if moves else ())
            if seconds:
                self._actions.add(action)
                action.call = self._schedule(seconds, self._finish, action)
            else:
                self._finish(action)
        for interrupted in ended:
            self._supersede(interrupted, command)

    def _objection(self, command: Any) -> str:
        parts = _PARTS.get(type(command), ())
        targets = _targets(command)
        for part, (position, _) in zip(parts, targets, strict=False):
            motion = self.parts[part]
            if not motion.on:
                return f"The {part.value} is off"
            if not motion.is_possible(position):
                return f"The {part.value} cannot be at {position}"
            if command.ack_only and not motion.tracking:
                return f"The {part.value} may not track"
        return ""

    def _do(self, command: Any, parts: tuple[Part, ...]) -> float:
        """Do what a command says; gives how many seconds it will take."""
        now = self.reactor.seconds()
        seconds = 0.0
        targets = _targets(command)
        for part, (position, velocity) in zip(parts, targets, strict=False):
            motion = self.parts[part]
            if command.ack_only:
                motion.track(position, velocity, now)
                continue
            seconds = max(seconds, motion.move(position, now, velocity))
            if part in _AXES:
                self._reply(m.InPosition(_AXES[part], False), None)
        if _stops(command):
            for part in parts:
                self.parts[part].stop(now)
        elif hasattr(command, "on"):
            self.switches[type(command), getattr(command, "drive", -1)] = command.on
            for part in parts:
                if type(command).__name__.endswith("EnableTracking"):
                    self.parts[part].tracking = command.on
                else:
                    self.parts[part].on = command.on
                self.parts[part].stop(now)
        elif isinstance(command, m.AskForCommand):
            self.commander = command.commander
        elif isinstance(command, (m.Enable, m.Disable)):
            self.switches[m.Enable, -1] = isinstance(command, m.Enable)
        elif type(command).__name__.endswith("ResetAlarm") or isinstance(command, m.SafetyReset):
            self._reset_alarms(command)
        return seconds

    def _reset_alarms(self, command: m.Command) -> None:
        for code, error in tuple(self.errors.items()):
            if isinstance(command, m.SafetyReset) or code // 100 == command.code // 100:
                del self.errors[code]
                self._reply(with_values(error, {"on": False, "active": False, "timestamp": None}), None)

    # What becomes of it

    def _finish(self, action: _Action) -> None:
        self._actions.discard(action)
        fault = action.fault
        for part in action.parts:
            self.parts[part].stop(self.reactor.seconds())
            if part in _AXES:
                self._reply(m.InPosition(_AXES[part], True), fault)
        if fault is None or not fault.error:
            self._reply(m.Done(**_about(action.command)), fault)
        elif self.dialect.json_replies:
            self._reply(m.Failed(f"Error {fault.error}", **_about(action.command)), fault)
        else:
            self._fails(action, fault.error, "It is simulated so")

    def _interrupted(self, parts: tuple[Part, ...]) -> list[_Action]:
        """Take away the actions that move one of these parts."""
        found = [action for action in self._actions if set(action.parts) & set(parts)]
        for action in found:
            self._actions.discard(action)
            if action.call is not None:
                self._forget(action.call)
            for part in action.parts:
                self.parts[part].stop(self.reactor.seconds())
        return found

    def _supersede(self, action: _Action, by: m.Command) -> None:
        if self.dialect.json_replies:
            source = by.source or m.Source.NONE
            self._reply(m.Superseded(by.sequence_id or 0, source, by.code, **_about(action.command)), action.fault)
            return
        code = _SUBSYSTEMS[action.parts[0]] + 99
        self._fails(action, code, f"Superseded by {type(by).__name__}")
        error = self.errors.pop(code)
        self._reply(with_values(error, {"on": False, "active": False, "timestamp": None}), None)

    def _fails(self, action: _Action, code: int, why: str) -> None:
        subsystem = code // 100 * 100
        extra = () if self.dialect.version >= 12 else (why,)
        text = f"{subsystem}. {_name(subsystem)}"
        self.errors[code] = error = m.Error(True, True, code, text, self._description(why), extra)
        self._reply(error, action.fault)
        self._reply(m.Done(**_about(action.command)), action.fault)

    # How replies leave

    def _reply(self, reply: m.Reply, fault: Fault | None) -> None:
        if fault is None and not self._pieces:
            self.write(reply).addErrback(self._not_told, reply)
        else:
            self._emit(encode(self._filled(reply), self.dialect), fault)

    def _not_told(self, reason: Any, reply: object) -> None:
        self.log.warn("{name}: {reply} is dropped: {error}", name=self.name, reply=reply, error=reason.value)

    def _emit(self, data: bytes, fault: Fault | None) -> None:
        split = fault.split if fault is not None else 0
        if not split and not self._pieces:
            self._send(data, data).addErrback(self._not_told, data)
            return
        idle = not self._pieces
        size = split or len(data)
        self._pieces += [data[at : at + size] for at in range(0, len(data), size)]
        if idle:
            self._schedule(0, self._emit_piece)

    def _emit_piece(self) -> None:
        piece = self._pieces.popleft()
        self._send(piece, piece).addErrback(self._not_told, piece)
        if self._pieces:
            self._schedule(0, self._emit_piece)

    def _hang_up(self, reset: bool) -> None:
        error = Disconnected(f"{self.name} closes the connection: it is simulated so")
        half = self._halves[0]
        if half.protocol is not None:
            half.protocol.hang_up(error, abort=reset)

    # What is scheduled

    def _schedule(self, seconds: float, what: Callable[..., object], *args: Any) -> IDelayedCall:
        def run() -> None:
            self._calls.discard(call)
            what(*args)

        call: IDelayedCall = self.reactor.callLater(seconds, run)
        self._calls.add(call)
        return call

    def _forget(self, call: IDelayedCall) -> None:
        self._calls.discard(call)
        if call.active():
            call.cancel()

    def _close(self, error: Disconnected) -> None:
        for call in tuple(self._calls):
            self._forget(call)
        self._actions.clear()
        self._pieces.clear()
        super()._close(error)


def _stops(command: m.Command) -> bool:
    return type(command).__name__.endswith("Stop")


def _about(command: m.Command) -> dict[str, Any]:
    return {"sequence_id": command.sequence_id or 0, "source": command.source or m.Source.NONE}


def _name(subsystem: int) -> str:
    try:
        return m.Subsystem(subsystem).name.replace("_", " ").title()
    except ValueError:
        return "Unknown"
