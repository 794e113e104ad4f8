"""
The devices of a beamline, as a dcss knows them: reading ``database.dat`` files, and what is known of each device.

A file holds one section for each device; blank lines stand between them, and a section ``END`` is the last one. The
first line of a section is the device's name, the second one the number of its type; what follows depends on that.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import IntEnum
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from equipnet.errors import ConfigError, Problem

#: What the fixed fields of a dcss hold, in characters (its C arrays less the zero at their end).
NAME_LIMIT, LIST_LIMIT, UNITS_LIMIT, RUN_LIMIT, COMPUTER_LIMIT, CONTENTS_LIMIT = 39, 159, 31, 799, 254, 1879

#: A section has no more lines, a line no more characters, and a file no more devices.
MOST_LINES, LONGEST_LINE, MOST_DEVICES = 10, 1023, 1000

#: The host whose devices belong to the scripting engine inside the dcss.
ENGINE = "self"

_PERMIT = re.compile(r"[01]( [01]){4}")


class Circle(IntEnum):
    """Which numbers the position of a motor may have that turns round and round."""

    #: Any.
    NONE = 0
    #: From 0 up to, but without, 360.
    FULL = 1
    #: From -180 up to, but without, 180.
    SIGNED = 2
    #: As FULL for those who look on; the hardware server counts on.
    FULL_SHOWN = 3
    #: As SIGNED, likewise.
    SIGNED_SHOWN = 4

    def correction(self, position: float) -> int:
        """Give the multiple of 360 that brings a position into the circle; 0 where there is none."""
        if self is Circle.NONE or not math.isfinite(position):
            return 0
        start = 0.0 if self in (Circle.FULL, Circle.FULL_SHOWN) else -180.0
        return -360 * math.floor((position - start) / 360)

    def shown(self, position: float) -> float:
        """Give a position as those who look on see it."""
        return position + self.correction(position)

    @property
    def corrects(self) -> bool:
        """Whether the hardware server is told to take the position into the circle."""
        return self in (Circle.FULL, Circle.SIGNED)


class Permit(NamedTuple):
    """Who may use a device: the five flags of one line of the file."""

    passive: bool = True
    remote: bool = True
    local: bool = True
    in_hutch: bool = True
    closed_hutch: bool = True

    def __str__(self) -> str:
        return " ".join("1" if flag else "0" for flag in self)


#: What a device without permits in the file has.
EVERYBODY = Permit()


@dataclass(kw_only=True)
class Device:
    """
    What a dcss knows of one device.

    Parameters
    ----------
    name
        What it is called on the beamline.
    host
        The hardware server it belongs to; empty where it belongs to none.
    hardware_name
        What the hardware server calls it.
    staff, users
        Who may use it.
    """

    #: The number in the file, and the word in the names of messages.
    NUMBER: ClassVar[int]
    WORD: ClassVar[str]

    name: str
    host: str = ""
    hardware_name: str = ""
    staff: Permit = EVERYBODY
    users: Permit = EVERYBODY

    def registration(self) -> str | None:
        """Give what follows ``stoh_``, or None where devices of this sort are not registered."""
        return f"register_{self.WORD} {self.name} {self.hardware_name}\n"

    def configuration(self) -> str:
        """Give what follows ``stoh_`` or ``stog_``: all that is known of the device."""
        return f"configure_{self.WORD} {self.name} {self.host}"

    def lines(self) -> list[str]:
        """Give the lines of its section, in the newer order."""
        return [self.name, str(self.NUMBER), *self._lines()]

    def _lines(self) -> list[str]:
        return [f"{self.host} {self.hardware_name}", str(self.staff), str(self.users)]


@dataclass(kw_only=True)
class Motor(Device):
    """
    What real and pseudo motors share.

    Parameters
    ----------
    dependencies
        The devices whose positions it depends on.
    position, upper_limit, lower_limit
        In units of the motor.
    lower_limit_on, upper_limit_on, lock_on
        Whether the limits are in force, and whether the motor may not be moved.
    circle
        Whether it turns round and round.
    units
        Of its position; empty where the file has none.
    moving
        Whether a move has been started and has not been completed.
    """

    #: The fields that are told in a configuration, in their order, and what each is in the file.
    FIELDS: ClassVar[tuple[tuple[str, type], ...]]

    dependencies: tuple[str, ...] = ()
    position: float = 0.0
    upper_limit: float = 0.0
    lower_limit: float = 0.0
    lower_limit_on: bool = False
    upper_limit_on: bool = False
    lock_on: bool = False
    circle: Circle = Circle.NONE
    units: str = ""
    moving: bool = False

    def registration(self) -> str:
        return f"register_{self.WORD} {self.name} {self.hardware_name}"

    def configuration(self) -> str:
        fields = " ".join(_written(getattr(self, name), kind) for name, kind in self.FIELDS)
        return f"configure_{self.WORD} {self.name} {self.host} {self.hardware_name} {fields} 0"

    def shown_configuration(self) -> str:
        """Give what follows ``stog_``: as `configuration`, with the position in the circle."""
        known, self.position = self.position, self.circle.shown(self.position)
        try:
            return self.configuration()
        finally:
            self.position = known

    def overshoot(self, destination: float) -> float:
        """Give the farthest position that a move to ``destination`` passes through."""
        return destination

    def within_limits(self, destination: float) -> bool:
        """Whether the limits that are in force allow a move to ``destination``, backlash included."""
        return all(
            not (self.lower_limit_on and each < self.lower_limit)
            and not (self.upper_limit_on and each > self.upper_limit)
            for each in (destination, self.overshoot(destination))
        )

    def _configuration_line(self) -> str:
        words = [_plain(getattr(self, name), kind) for name, kind in self.FIELDS]
        return " ".join([*words, str(self.circle.value), self.units]).strip()


@dataclass(kw_only=True)
class RealMotor(Motor):
    """
    A motor with steps (type 1).

    Parameters
    ----------
    scale
        Steps for each unit.
    speed, acceleration, backlash
        In steps a second, milliseconds, and steps.
    backlash_on, reverse_on
        Whether they count.
    """

    NUMBER = 1
    WORD = "real_motor"
    FIELDS = (
        ("position", float),
        ("upper_limit", float),
        ("lower_limit", float),
        ("scale", float),
        ("speed", int),
        ("acceleration", int),
        ("backlash", int),
        ("lower_limit_on", bool),
        ("upper_limit_on", bool),
        ("lock_on", bool),
        ("backlash_on", bool),
        ("reverse_on", bool),
    )

    scale: float = 1.0
    speed: int = 0
    acceleration: int = 0
    backlash: int = 0
    backlash_on: bool = False
    reverse_on: bool = False

    def overshoot(self, destination: float) -> float:
        # The last piece is always driven in the direction of the backlash, so the other way leads past the destination.
        if not self.backlash_on or not self.scale:
            return destination
        slack = self.backlash / self.scale
        return destination - slack if (destination - self.position) * slack < 0 else destination

    def _lines(self) -> list[str]:
        return [*super()._lines(), " ".join(self.dependencies) or "0", self._configuration_line()]


@dataclass(kw_only=True)
class PseudoMotor(Motor):
    """
    A motor that moves others (type 2).

    Parameters
    ----------
    children
        Those others; what is written in the file, where ``0`` is kept.
    """

    NUMBER = 2
    WORD = "pseudo_motor"
    FIELDS = (
        ("position", float),
        ("upper_limit", float),
        ("lower_limit", float),
        ("lower_limit_on", bool),
        ("upper_limit_on", bool),
        ("lock_on", bool),
    )

    children: tuple[str, ...] = ()

    def _lines(self) -> list[str]:
        dependencies, children = " ".join(self.dependencies) or "0", " ".join(self.children) or "0"
        return [*super()._lines(), dependencies, self._configuration_line(), children]


@dataclass(kw_only=True)
class HardwareHost(Device):
    """
    A hardware server (type 3).

    Parameters
    ----------
    computer
        Where it runs; ``localhost`` is 127.0.0.1.
    protocol
        1 or 2, after the handshake.
    online
        Whether it is connected.
    """

    NUMBER = 3
    WORD = "hardware_host"

    computer: str = "localhost"
    protocol: int = 2
    online: bool = False

    def registration(self) -> None:
        return None

    def configuration(self) -> str:
        return f"configure_{self.WORD} {self.name} {self.computer} {'online' if self.online else 'offline'}"

    def _lines(self) -> list[str]:
        return [f"{self.computer} {self.protocol}"]


@dataclass(kw_only=True)
class IonChamber(Device):
    """
    A detector that counts (type 4).

    Parameters
    ----------
    channel
        Of the counter, which is its hardware name.
    timer, timer_type
        What limits the time.
    counts
        The last ones.
    """

    NUMBER = 4
    WORD = "ion_chamber"

    channel: int = 0
    timer: str = ""
    timer_type: str = ""
    counts: float = 0.0

    def registration(self) -> str:
        return f"register_{self.WORD} {self.name} {self._wiring()}\n"

    def configuration(self) -> str:
        return f"configure_{self.WORD} {self.name} {self.host} {self._wiring()}"

    def _wiring(self) -> str:
        return f"{self.hardware_name} {self.channel} {self.timer} {self.timer_type}"

    def _lines(self) -> list[str]:
        return [f"{self.host} {self._wiring()}", str(self.staff), str(self.users)]


@dataclass(kw_only=True)
class Shutter(Device):
    """
    A shutter or filter (type 6).

    Parameters
    ----------
    state
        ``"open"`` or ``"closed"``.
    """

    NUMBER = 6
    WORD = "shutter"

    state: str = "closed"

    def registration(self) -> str:
        return f"register_{self.WORD} {self.name} {self.state} {self.hardware_name}\n"

    def configuration(self) -> str:
        return f"configure_{self.WORD} {self.name} {self.host} {self.state}"

    def _lines(self) -> list[str]:
        state = 0 if self.state == "open" else 1
        return [f"{self.host} {state} {self.hardware_name}", str(self.staff), str(self.users)]


@dataclass(kw_only=True)
class Run(Device):
    """
    The definition of one data collection (type 8).

    Parameters
    ----------
    definition
        As it stands in the file.
    """

    NUMBER = 8
    WORD = "run"

    definition: str = ""

    def registration(self) -> None:
        return None

    def configuration(self) -> str:
        return f"configure_{self.WORD} {self.name} {self.definition}"

    def _lines(self) -> list[str]:
        return [*super()._lines(), self.definition] if self.host else [self.definition]


@dataclass(kw_only=True)
class Runs(Device):
    """
    Which of the runs there are (type 9).

    Parameters
    ----------
    count, current, active, dose_mode
        As they stand in the file.
    """

    NUMBER = 9
    WORD = "runs"

    count: int = 0
    current: int = 0
    active: int = 0
    dose_mode: int = 0

    def registration(self) -> None:
        return None

    def configuration(self) -> str:
        return f"configure_{self.WORD} {self.name} {self._numbers()}"

    def _numbers(self) -> str:
        return f"{self.count} {self.current} {self.active} {self.dose_mode}"

    def _lines(self) -> list[str]:
        return [*super()._lines(), self._numbers()] if self.host else [self._numbers()]


@dataclass(kw_only=True)
class Operation(Device):
    """Something that a hardware server can do (type 11)."""

    NUMBER = 11
    WORD = "operation"


@dataclass(kw_only=True)
class Encoder(Device):
    """
    Something that measures a position (type 12).

    Parameters
    ----------
    position
        The last one; the file has none.
    """

    NUMBER = 12
    WORD = "encoder"

    position: float = 0.0

    def configuration(self) -> str:
        return f"configure_{self.WORD} {self.name} {self.host} {self.position:f} {self.position:f}"


@dataclass(kw_only=True)
class StringDevice(Device):
    """
    A text (type 13).

    Parameters
    ----------
    contents
        The text.
    """

    NUMBER = 13
    WORD = "string"

    contents: str = ""

    def configuration(self) -> str:
        return f"configure_{self.WORD} {self.name} {self.host} {self.contents}"

    def _lines(self) -> list[str]:
        return [*super()._lines(), *([self.contents] if self.contents else [])]


class Database:
    """
    The devices of a beamline by name, in the order of the file.

    Parameters
    ----------
    devices
        All of them.
    warnings
        What a dcss would take amiss without refusing the file.

    Raises
    ------
    ValueError
        When two have one name.
    """

    def __init__(self, devices: Sequence[Device], warnings: Sequence[str] = ()) -> None:
        self.devices = {device.name: device for device in devices}
        self.warnings = tuple(warnings)
        if len(self.devices) < len(devices):
            ((name, _),) = Counter(device.name for device in devices).most_common(1)
            raise ValueError(f"there are two devices {name!r}")

    def __iter__(self) -> Iterator[Device]:
        return iter(self.devices.values())

    def __len__(self) -> int:
        return len(self.devices)

    def get(self, name: str) -> Device | None:
        """Give the device of that name, or None."""
        return self.devices.get(name)

    def hosts(self) -> Iterator[HardwareHost]:
        """Give the hardware servers."""
        return (device for device in self if isinstance(device, HardwareHost))

    def of_host(self, host: str) -> list[Device]:
        """Give the devices of a hardware server."""
        return [device for device in self if device.host == host and not isinstance(device, HardwareHost)]

    def parents(self, motor: str) -> Iterator[PseudoMotor]:
        """Give the pseudo motors that move this motor."""
        return (device for device in self if isinstance(device, PseudoMotor) and motor in device.children)

    def registrations(self, host: str) -> Iterator[str]:
        """
        Give what a hardware server is sent after the handshake, each text after its ``stoh_``.

        The devices come in the order of the file; then, for each motor that depends on others, on which; the children
        of a pseudo motor are told only there.
        """
        devices = self.of_host(host)
        for device in devices:
            text = device.registration()
            if text is not None:
                yield text
        for device in devices:
            if isinstance(device, Motor):
                yield from relations(device)

    def to_text(self) -> str:
        """Give the file that these devices would be read from."""
        return "\n\n".join("\n".join(device.lines()) for device in self) + "\n\nEND\n"


def relations(motor: Motor) -> Iterator[str]:
    """Give the messages that tell on what a motor depends, each text after its ``stoh_`` or ``stog_``."""
    if motor.dependencies:
        yield f"set_motor_dependency {motor.name} {' '.join(motor.dependencies)}"
        if isinstance(motor, PseudoMotor):
            yield " ".join(("set_motor_children", motor.name, *motor.children))


def load_database(file: str | Path) -> Database:
    """
    Read a ``database.dat`` file.

    Raises
    ------
    ConfigError
        When it cannot be read, or is not right; it holds every problem, each with its line.
    """
    try:
        text = Path(file).read_bytes().decode("latin-1")
    except OSError as error:
        problem = Problem(0, "", f"cannot be read: {error.strerror or error}")
        raise ConfigError(str(file), (problem,)) from error
    return read_database(text, str(file))


def read_database(text: str, file: str = "database.dat") -> Database:
    """
    Read what a ``database.dat`` file holds.

    Parameters
    ----------
    text
        All of it.
    file
        What it is called in errors.

    Raises
    ------
    ConfigError
        When it is not right; it holds every problem, each with its line.
    """
    return _Reader(text, file).read()


class _Wrong(Exception):
    """Something in a section is wrong: in which line, counted from 1, and what."""


@dataclass
class _Reader:
    """Reads one file, and goes on after each section that is wrong."""

    text: str
    file: str
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def read(self) -> Database:
        devices: dict[str, Device] = {}
        at: dict[str, int] = {}
        ended = False
        for section in self._sections():
            number, name = section[0]
            if ended:
                self._complain(number, "there is something after the section END")
                break
            if len(section) == 1 and name == "END":
                ended = True
                continue
            try:
                device = _device(section)
            except _Wrong as wrong:
                self._complain(*wrong.args)
                continue
            if device.name in devices:
                self._complain(number, f"there is a device {device.name!r} already, in line {at[device.name]}")
                continue
            devices[device.name] = device
            at[device.name] = number
        if len(devices) > MOST_DEVICES:
            self._complain(0, f"there are {len(devices)} devices, more than the {MOST_DEVICES} that a dcss holds")
        self._check_hosts(devices, at)
        if not ended:
            self.warnings.append("the section END is missing")
        if not isinstance(devices.get("beamlineID"), StringDevice):
            self.warnings.append("there is no string beamlineID, without which a dcss does not start")
        if self.problems:
            raise ConfigError(self.file, tuple(sorted(self.problems, key=lambda problem: problem.line)))
        return Database(tuple(devices.values()), self.warnings)

    def _sections(self) -> Iterator[list[tuple[int, str]]]:
        section: list[tuple[int, str]] = []
        # Not splitlines: that would split at characters which are no end of a line in C.
        for number, line in enumerate(self.text.split("\n"), 1):
            stripped = line.strip()
            if stripped:
                section.append((number, stripped))
                if len(stripped) > LONGEST_LINE:
                    self._complain(number, f"has {len(stripped)} characters, more than {LONGEST_LINE}")
                elif not (stripped.isascii() and stripped.isprintable()):
                    self._complain(number, "has a character that is not printable ASCII")
            elif section:
                yield section
                section = []
        if section:
            yield section

    def _check_hosts(self, devices: dict[str, Device], at: dict[str, int]) -> None:
        hosts = [device.name for device in devices.values() if isinstance(device, HardwareHost)]
        if ENGINE not in hosts:
            self.warnings.append(f"there is no host {ENGINE!r}, without which a dcss does not start")
        for device in devices.values():
            if device.host and device.host not in hosts and device.host != ENGINE:
                near = get_close_matches(device.host, hosts, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                self._complain(at[device.name] + 2, f"there is no hardware host {device.host!r}{hint}")

    def _complain(self, line: int, message: str) -> None:
        self.problems.append(Problem(line, "", message))


class _Line:
    """One line of a section, from which words are taken."""

    def __init__(self, number: int, text: str) -> None:
        self.number = number
        self.text = text
        self._words = text.split()
        self._at = 0

    def word(self, what: str, limit: int = NAME_LIMIT, default: str | None = None) -> str:
        """Take one word."""
        if self._at == len(self._words):
            if default is not None:
                return default
            raise _Wrong(self.number, f"{what} is missing in {self.text!r}")
        word = self._words[self._at]
        self._at += 1
        if len(word) > limit:
            raise _Wrong(self.number, f"{what} has {len(word)} characters, more than {limit}: {word!r}")
        return word

    def real(self, what: str) -> float:
        """Take a number."""
        word = self.word(what)
        number = as_number(word)
        if number is None or not math.isfinite(number):
            raise _Wrong(self.number, f"{what} is {word!r}, not a number")
        return number

    def whole(self, what: str) -> int:
        """Take a whole number."""
        word = self.word(what)
        if not re.fullmatch(r"[+-]?\d+", word):
            raise _Wrong(self.number, f"{what} is {word!r}, not a whole number")
        return int(word)

    def flag(self, what: str) -> bool:
        """Take 0 or 1."""
        word = self.word(what)
        if word not in ("0", "1"):
            raise _Wrong(self.number, f"{what} is {word!r}, not 0 or 1")
        return word == "1"

    def end(self) -> None:
        """See that nothing is left."""
        if self._at < len(self._words):
            rest = " ".join(self._words[self._at :])
            raise _Wrong(self.number, f"there is {rest!r} too much in {self.text!r}")

    def names(self, what: str) -> tuple[str, ...]:
        """Take all words, which together have a limit."""
        if len(self.text) > LIST_LIMIT:
            raise _Wrong(self.number, f"{what} have {len(self.text)} characters, more than {LIST_LIMIT}")
        return tuple(self._words)

    def dependencies(self) -> tuple[str, ...]:
        """Take the names of devices, or ``0`` for none."""
        return () if self.text == "0" else self.names("the dependencies")

    def permit(self, whose: str) -> Permit:
        """Take the whole line as five flags."""
        if not self.is_permit():
            raise _Wrong(self.number, f"the permit of {whose} is {self.text!r}, not five flags such as '1 1 1 1 1'")
        return Permit(*(flag == "1" for flag in self.text.split(" ")))

    def is_permit(self) -> bool:
        """Whether it could be five flags."""
        return _PERMIT.fullmatch(self.text) is not None


def _device(section: list[tuple[int, str]]) -> Device:
    first, *rest = (_Line(number, text) for number, text in section)
    name = first.word("the name")
    first.end()
    if not rest:
        raise _Wrong(first.number, f"the device {name!r} has no type")
    number = rest[0].whole("the type")
    read = _READERS.get(number)
    if read is None:
        raise _Wrong(rest[0].number, f"there are no devices of type {number}")
    if len(section) > MOST_LINES:
        raise _Wrong(section[MOST_LINES][0], f"the section of {name!r} has more than {MOST_LINES} lines")
    counts, reader = read
    if len(section) not in counts:
        known = " or ".join(map(str, counts))
        raise _Wrong(section[-1][0], f"the section of {name!r} has {len(section)} lines, not {known}")
    return reader(name, rest[1:])


def _permits(lines: Sequence[_Line]) -> dict[str, Any]:
    """Read the lines of the permits, where there are any."""
    return {} if not lines else {"staff": lines[0].permit("staff"), "users": lines[1].permit("users")}


def _owner(line: _Line, name: str) -> dict[str, Any]:
    owner = {"host": line.word("the host"), "hardware_name": line.word("the hardware name", default=name)}
    line.end()
    return owner


def _motor_fields(line: _Line, kind: type[Motor]) -> dict[str, Any]:
    take: dict[type, Callable[[str], object]] = {float: line.real, int: line.whole, bool: line.flag}
    values: dict[str, Any] = {name: take[of](f"the {name.replace('_', ' ')}") for name, of in kind.FIELDS}
    circle = line.whole("the circle mode")
    if circle not in tuple(Circle):
        raise _Wrong(line.number, f"the circle mode is {circle}, not one of 0 to 4")
    values["circle"] = Circle(circle)
    values["units"] = line.word("the units", UNITS_LIMIT, "")
    line.end()
    return values


def _real_motor(name: str, lines: list[_Line]) -> Device:
    host, staff, users, dependencies, fields = lines
    # The older order has its permits last; five flags are no configuration, which is longer.
    if lines[-1].is_permit():
        host, fields, dependencies, staff, users = lines
    return RealMotor(
        name=name,
        **_owner(host, name),
        **_permits((staff, users)),
        dependencies=dependencies.dependencies(),
        **_motor_fields(fields, RealMotor),
    )


def _pseudo_motor(name: str, lines: list[_Line]) -> Device:
    host, staff, users, dependencies, fields, children = lines
    if lines[-1].is_permit():
        host, fields, dependencies, children, staff, users = lines
    return PseudoMotor(
        name=name,
        **_owner(host, name),
        **_permits((staff, users)),
        dependencies=dependencies.dependencies(),
        children=children.names("the children"),
        **_motor_fields(fields, PseudoMotor),
    )


def _hardware_host(name: str, lines: list[_Line]) -> Device:
    (line,) = lines
    host = HardwareHost(name=name, computer=line.word("the computer", COMPUTER_LIMIT), protocol=line.whole("protocol"))
    line.end()
    return host


def _ion_chamber(name: str, lines: list[_Line]) -> Device:
    line, *permits = lines
    chamber = IonChamber(
        name=name,
        host=line.word("the host"),
        hardware_name=line.word("the counter"),
        channel=line.whole("the channel"),
        timer=line.word("the timer"),
        timer_type=line.word("the type of the timer"),
        **_permits(permits),
    )
    line.end()
    return chamber


def _shutter(name: str, lines: list[_Line]) -> Device:
    line, *permits = lines
    shutter = Shutter(
        name=name,
        host=line.word("the host"),
        state="closed" if line.flag("the state") else "open",
        hardware_name=line.word("the hardware name", default=name),
        **_permits(permits),
    )
    line.end()
    return shutter


def _run(name: str, lines: list[_Line]) -> Device:
    *owner, definition = lines
    if len(definition.text) > RUN_LIMIT:
        raise _Wrong(definition.number, f"the run has {len(definition.text)} characters, more than {RUN_LIMIT}")
    return Run(name=name, definition=definition.text, **_maybe_owner(name, owner))


def _runs(name: str, lines: list[_Line]) -> Device:
    *owner, line = lines
    names = ("count", "current", "active", "dose_mode")
    numbers: dict[str, Any] = {each: line.whole(each.replace("_", " ")) for each in names}
    line.end()
    return Runs(name=name, **numbers, **_maybe_owner(name, owner))


def _maybe_owner(name: str, lines: list[_Line]) -> dict[str, Any]:
    return {**_owner(lines[0], name), **_permits(lines[1:])} if lines else {}


def _plain_device(kind: type[Operation] | type[Encoder]) -> Callable[[str, list[_Line]], Device]:
    def read(name: str, lines: list[_Line]) -> Device:
        return kind(name=name, **_owner(lines[0], name), **_permits(lines[1:]))

    return read


def _string(name: str, lines: list[_Line]) -> Device:
    owner, *rest = lines
    # With the name and the type, 3 and 5 lines leave nothing for the contents.
    contents = rest.pop() if len(rest) % 2 else None
    if contents is not None and len(contents.text) > CONTENTS_LIMIT:
        raise _Wrong(contents.number, f"the text has {len(contents.text)} characters, more than {CONTENTS_LIMIT}")
    text = "" if contents is None else contents.text
    return StringDevice(name=name, **_owner(owner, name), **_permits(rest), contents=text)


#: For each type how many lines its section may have, and what reads them.
_READERS: dict[int, tuple[tuple[int, ...], Callable[[str, list[_Line]], Device]]] = {
    RealMotor.NUMBER: ((7,), _real_motor),
    PseudoMotor.NUMBER: ((8,), _pseudo_motor),
    HardwareHost.NUMBER: ((3,), _hardware_host),
    IonChamber.NUMBER: ((3, 5), _ion_chamber),
    Shutter.NUMBER: ((3, 5), _shutter),
    Run.NUMBER: ((3, 6), _run),
    Runs.NUMBER: ((3, 6), _runs),
    Operation.NUMBER: ((5,), _plain_device(Operation)),
    Encoder.NUMBER: ((3, 5), _plain_device(Encoder)),
    StringDevice.NUMBER: ((3, 4, 5, 6), _string),
}


def as_number(word: str) -> float | None:
    """Give the number that a word is, as C's ``%lf`` reads it; None where it is none."""
    try:
        # Python alone takes 1_000.
        return None if "_" in word else float(word)
    except ValueError:
        return None


def _written(value: float, kind: type) -> str:
    """Write a value as a dcss sends it."""
    return f"{value:f}" if kind is float else str(int(value))


def _plain(value: float, kind: type) -> str:
    """Write a value as short as it can be read again."""
    if kind is not float:
        return str(int(value))
    text = repr(float(value))
    return f"{value:f}" if "e" in text else text.removesuffix(".0")
