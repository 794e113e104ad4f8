"""
The rules of a dcss: what it makes of the messages of hardware servers and of those who want something from them.

No sockets and no bytes: a hardware server is something that takes texts, and who looks on is called with them. The part
that the scripting engine has in a real dcss (checking moves, aborting all after a failure, the devices of the host
``self``) is in here as well.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol as Shape

from twisted.logger import Logger

from equipnet.dcs.database import (
    CONTENTS_LIMIT,
    ENGINE,
    Database,
    Device,
    Encoder,
    HardwareHost,
    IonChamber,
    Motor,
    Operation,
    PseudoMotor,
    Shutter,
    StringDevice,
    as_number,
)
from equipnet.dcs.message import NAME_LIMIT
from equipnet.dcs.tcl import REPLACED, balanced, split

#: So many complaints are kept.
COMPLAINTS = 1000

_BLANKS = str.maketrans(dict.fromkeys(REPLACED, " "))
_PRIVATE = re.compile(r"(?<=PRIVATE)\S+")


class Link(Shape):
    """A hardware server that is connected."""

    def send(self, text: str) -> None:
        """Send it one message."""


@dataclass(frozen=True)
class Completion:
    """
    How something ended that a hardware server was asked for.

    Parameters
    ----------
    device
        Which device was asked; for ion chambers, the names of all that were asked at once.
    status
        ``"normal"``, or the reason why it failed.
    text
        What else was told, as those who look on see it: a position, the state of a shutter, the contents of a string,
        the result of an operation, names and counts of ion chambers.
    handle
        Of an operation.
    """

    device: str
    status: str
    text: str = ""
    handle: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """The text as the words of a list."""
        return split(self.text)

    @property
    def position(self) -> float:
        """The position of a motor or an encoder; nan where none was told."""
        number = as_number(self.words[0]) if self.words else None
        return math.nan if number is None else number

    @property
    def counts(self) -> dict[str, float]:
        """The counts of ion chambers by their names."""
        return {name: as_number(counts) or 0.0 for name, counts in zip(self.words[::2], self.words[1::2], strict=False)}


class Hub:
    """
    What a dcss knows and does.

    Parameters
    ----------
    database
        The devices; their states change with what hardware servers report.
    name
        What it is called in the log.

    Attributes
    ----------
    listeners
        Each is called with every text that goes to all GUIs.
    on_completion, on_update
        Called when a hardware server reports an end (the sort, what is known of it), and what an operation or a motor
        reports in between.
    on_configured
        Called with the name of a hardware server when each of its motors has been configured, or asked for.
    complaints
        What hardware servers sent that a real dcss only writes into its log, or does not survive.
    operations
        Those that have been started and not completed: the name and the handle, and whether we started it ourselves.
    """

    log = Logger()

    def __init__(self, database: Database, name: str = "dcss") -> None:
        self.database = database
        self.name = name
        self.listeners: list[Callable[[str], object]] = []
        self.on_completion: Callable[[str, Completion], object] = lambda kind, completion: None
        self.on_update: Callable[[str, Completion], object] = lambda kind, completion: None
        self.on_configured: Callable[[str], object] = lambda host: None
        self.complaints: deque[str] = deque(maxlen=COMPLAINTS)
        self.operations: dict[tuple[str, str], bool] = {}
        self.links: dict[str, Link] = {}
        # Motors that have been told to move, whether they have said so themselves or not.
        self._asked: set[str] = set()
        # Motors that were registered, but neither configured nor asked for.
        self._bare: dict[str, set[str]] = {}

    # Hardware servers come and go

    def host_named(self, name: str) -> HardwareHost | None:
        """Give the hardware server of that name, or None."""
        host = self.database.get(name)
        return host if isinstance(host, HardwareHost) else None

    def connected(self, host: HardwareHost, link: Link) -> None:
        """Take a hardware server that has passed the handshake, and register its devices with it."""
        self.links[host.name] = link
        host.online = True
        self.broadcast(f"stog_configure_hardware_host {host.name} {host.computer} online")
        for text in self.database.registrations(host.name):
            link.send(f"stoh_{text}")
        self._bare[host.name] = {each.name for each in self.database.of_host(host.name) if isinstance(each, Motor)}
        self._dressed(host.name, "")

    def is_configured(self, host: str) -> bool:
        """Whether a hardware server has configured, or asked for, each of its motors."""
        return host in self._bare and not self._bare[host]

    def _dressed(self, host: str, motor: str) -> None:
        bare = self._bare.get(host)
        if bare is not None:
            was = motor in bare or not motor
            bare.discard(motor)
            if was and not bare:
                self.on_configured(host)

    def disconnected(self, host: HardwareHost, link: Link) -> None:
        """Forget a hardware server; whatever belongs to it is reported as failed."""
        if self.links.get(host.name) is not link:
            return
        del self.links[host.name]
        self._bare.pop(host.name, None)
        host.online = False
        self.broadcast(f"stog_configure_hardware_host {host.name} {host.computer} offline")
        was_active = False
        for device in self.database.of_host(host.name):
            if isinstance(device, Motor):
                was_active |= device.moving or device.name in self._asked
            self._report_offline(device, f"no_hw_host_{host.name}")
        for (name, handle), ours in tuple(self.operations.items()):
            device_of = self.database.get(name)
            # A GUI's own operations are left hanging.
            if ours and device_of is not None and device_of.host == host.name:
                was_active = True
                self._operation_over(name, handle, f"no_hw_host_{host.name}", "")
        if was_active:
            self.abort_all("soft")

    def send(self, device: Device, text: str) -> bool:
        """Send a text to the host of a device; give whether it is there."""
        link = self.links.get(device.host)
        if link is None:
            return False
        link.send(text)
        return True

    def broadcast(self, text: str) -> str:
        """Tell a text to all who look on, without the characters that would harm them; give it as they see it."""
        seen = _PRIVATE.sub("XXXX", harmless(text))
        for listener in tuple(self.listeners):
            listener(seen)
        return seen

    def complain(self, text: str) -> None:
        """Write down what a hardware server did wrong."""
        self.complaints.append(text)
        self.log.warn("{name}: {text}", name=self.name, text=text)

    # What hardware servers say

    def hardware_said(self, host: HardwareHost, text: str) -> None:
        """Act on one message of a hardware server; none of them is ever answered with an error."""
        # C ends a text there.
        text = text.partition("\0")[0].rstrip("\n\r ")
        command, _, rest = text.partition(" ")
        words = rest.split()
        reader = _HARDWARE.get(command)
        if reader is None:
            self.complain(f"{host.name} sent an unknown command: {text[:100]!r}")
            return
        kind, read = reader
        if kind is not None:
            if not words:
                self.complain(f"{host.name} named no device: {text[:100]!r}")
                return
            if any(len(word) > NAME_LIMIT for word in words[:3] if not _takes_text(command)) or (
                len(words[0]) > NAME_LIMIT
            ):
                self.complain(f"{host.name} sent a word that is too long, which crashes a dcss: {text[:120]!r}")
                return
            device = self.database.get(words[0])
            if not isinstance(device, kind):
                what = "is not in the database" if device is None else f"is a {device.WORD}"
                self.complain(f"{host.name} sent {command} for {words[0]!r}, which {what}")
                return
        if not balanced(text):
            self.complain(f"{host.name} sent braces that are not balanced: {text[:100]!r}")
        read(self, host, text, words)

    def _move_started(self, host: HardwareHost, text: str, words: list[str]) -> None:
        motor = self._motor(words[0])
        destination = self._number(host, text, words, 1, motor.position)
        motor.moving = True
        self._asked.discard(motor.name)
        self.broadcast(f"stog_motor_move_started {motor.name} {motor.circle.shown(destination):f}")

    def _position_updated(self, host: HardwareHost, text: str, words: list[str]) -> None:
        motor = self._motor(words[0])
        self._set_position(motor, self._number(host, text, words, 1, motor.position))
        status = " ".join(words[2:]) or "normal"
        shown = f"{motor.circle.shown(motor.position):f}"
        self.broadcast(f"stog_update_motor_position {motor.name} {shown} {status}")
        self.on_update("move", Completion(motor.name, status, shown))

    def _move_completed(self, host: HardwareHost, text: str, words: list[str]) -> None:
        motor = self._motor(words[0])
        if not motor.moving and motor.name not in self._asked:
            self.complain(f"{host.name} completed a move of {motor.name} that nobody had asked for")
        position = self._number(host, text, words, 1, 0.0)
        self._correct(motor, position)
        self._set_position(motor, position)
        if len(words) < 3:
            self.complain(f"{host.name} completed a move of {motor.name} without a status")
        # Only the first word survives.
        self._move_over(motor, words[2] if len(words) > 2 else "unknown")

    def _move_over(self, motor: Motor, status: str, told: str = "") -> None:
        motor.moving = False
        self._asked.discard(motor.name)
        shown = f"{motor.circle.shown(motor.position):f}"
        self.broadcast(f"stog_motor_move_completed {motor.name} {shown} {told or status}")
        self.on_completion("move", Completion(motor.name, status, shown))
        self._abort_after(status)

    def _device_configured(self, host: HardwareHost, text: str, words: list[str]) -> None:
        motor = self.database.get(words[0])
        if not isinstance(motor, Motor):
            self.broadcast(f"stog_log error server {words[0]} is not a motor and cannot be configured.")
            self.complain(f"{host.name} configured {words[0]!r}, which is no motor")
            return
        self.configure(motor, words[1:])
        self._dressed(motor.host, motor.name)

    def configure(self, motor: Motor, words: Iterable[str]) -> None:
        """Take over as many fields as there are, and tell all who look on."""
        for (name, kind), word in zip(motor.FIELDS, words, strict=False):
            number = as_number(word)
            if number is None or not math.isfinite(number):
                self.complain(f"{motor.name} was configured with {word!r} for its {name.replace('_', ' ')}")
                break
            if name == "position":
                self._correct(motor, number)
                self._set_position(motor, number)
            else:
                setattr(motor, name, kind(number))
        self.broadcast(f"stog_{motor.shown_configuration()}")

    def _configuration_asked(self, host: HardwareHost, text: str, words: list[str]) -> None:
        device = self.database.devices[words[0]]
        # It goes to the host of the device, whoever asked.
        self.send(device, f"stoh_{device.configuration()}")
        self._dressed(device.host, device.name)

    def _operation_updated(self, host: HardwareHost, text: str, words: list[str]) -> None:
        seen = self.broadcast(_to_guis(text))
        if len(words) > 1:
            self.on_update("operation", Completion(words[0], "normal", after(seen, 3), words[1]))

    def _operation_completed(self, host: HardwareHost, text: str, words: list[str]) -> None:
        if len(words) < 3:
            self.complain(f"{host.name} completed {words[0]} without a {'status' if len(words) > 1 else 'handle'}")
            self.broadcast(_to_guis(text))
            return
        if (words[0], words[1]) not in self.operations:
            self.complain(f"{host.name} completed {words[0]} {words[1]}, which is not running")
        self._operation_over(words[0], words[1], words[2], after(text, 4))

    def _operation_over(self, name: str, handle: str, status: str, text: str) -> None:
        self.operations.pop((name, handle), None)
        told = f"stog_operation_completed {name} {handle} {status} {text}".rstrip()
        seen = self.broadcast(told)
        self.on_completion("operation", Completion(name, status, after(seen, 4), handle))
        self._abort_after(status)

    def _operation_announced(self, host: HardwareHost, text: str, words: list[str]) -> None:
        if len(words) > 1:
            self.operations[words[0], words[1]] = False
        self.broadcast(_to_guis(text))

    def _counted(self, host: HardwareHost, text: str, words: list[str]) -> None:
        seconds = self._number(host, text, words, 0, 0.0)
        names = words[1::2] if seconds > 0 else [word for word in words[1:] if self._is_chamber(word)]
        for name, counts in zip(words[1::2], words[2::2], strict=False) if seconds > 0 else ():
            chamber = self.database.get(name)
            if not isinstance(chamber, IonChamber):
                self.complain(f"{host.name} reported an unknown ion chamber, which hangs a dcss: {text[:100]!r}")
                return
            chamber.counts = as_number(counts) or 0.0
        seen = self.broadcast(_to_guis(text))
        if seconds > 0:
            told = Completion(" ".join(names), "normal", after(seen, 2))
        else:
            told = Completion(" ".join(names), (split(seen) or ("unknown",))[-1])
        self.on_completion("ion_chambers", told)

    def _is_chamber(self, name: str) -> bool:
        return isinstance(self.database.get(name), IonChamber)

    def _shutter_reported(self, host: HardwareHost, text: str, words: list[str]) -> None:
        shutter = self.database.devices[words[0]]
        assert isinstance(shutter, Shutter)
        if len(words) < 2:
            self.complain(f"{host.name} reported no state of {shutter.name}")
            return
        status = words[2] if len(words) > 2 else "normal"
        if status == "normal":
            shutter.state = "closed" if words[1] == "closed" else "open"
        self.broadcast(_to_guis(text))
        self.on_completion("shutter", Completion(shutter.name, status, words[1]))

    def _encoder_read(self, host: HardwareHost, text: str, words: list[str]) -> None:
        encoder = self.database.devices[words[0]]
        assert isinstance(encoder, Encoder)
        encoder.position = self._number(host, text, words, 1, encoder.position)
        status = words[2] if len(words) > 2 else "unknown"
        seen = self.broadcast(_to_guis(text))
        kind = "get_encoder" if text.startswith("htos_get") else "set_encoder"
        self.on_completion(kind, Completion(encoder.name, status, after(seen, 2)))

    def _string_set(self, host: HardwareHost, text: str, words: list[str]) -> None:
        device = self.database.devices[words[0]]
        assert isinstance(device, StringDevice)
        if len(words) < 2:
            self.complain(f"{host.name} set {device.name} without a status")
            return
        # Exactly one blank belongs to the status.
        contents = after(text, 3)
        if words[1] == "normal":
            device.contents = contents[:CONTENTS_LIMIT]
            if len(contents) > CONTENTS_LIMIT:
                size = f"len={len(contents)} EXCEEDED MAX_STRING_SIZE={CONTENTS_LIMIT + 1}"
                self.broadcast(f"stog_log severe server {device.name} {size}")
                self.complain(f"{host.name} set {device.name}: {size}")
        seen = self.broadcast(_to_guis(text))
        self.on_completion("string", Completion(device.name, words[1], after(seen, 3)))

    def _passed_on(self, host: HardwareHost, text: str, words: list[str]) -> None:
        self.broadcast(_to_guis(text))

    def _correction_announced(self, host: HardwareHost, text: str, words: list[str]) -> None:
        self.complain(f"{host.name} sent htos_motor_correct_started, for which the engine has no use")
        self.broadcast(_to_guis(text))

    def _motor(self, name: str) -> Motor:
        motor = self.database.devices[name]
        assert isinstance(motor, Motor)
        return motor

    def _number(self, host: HardwareHost, text: str, words: list[str], at: int, default: float) -> float:
        number = as_number(words[at]) if at < len(words) else None
        if number is None or not math.isfinite(number):
            self.complain(f"{host.name} sent no number where one belongs: {text[:100]!r}")
            return default
        return number

    def _correct(self, motor: Motor, position: float) -> None:
        """Tell the hardware server, before anyone else, that its motor has left the circle."""
        correction = motor.circle.correction(position)
        if correction and motor.circle.corrects:
            self.send(motor, f"stoh_correct_motor_position {motor.name} {correction}")

    def _set_position(self, motor: Motor, position: float) -> None:
        motor.position = motor.circle.shown(position) if motor.circle.corrects else position

    def _abort_after(self, status: str) -> None:
        if status not in ("normal", "aborted"):
            self.abort_all("soft")

    # What GUIs and programs want; who may want it is checked before

    def abort_all(self, rest: str = "soft") -> None:
        """Abort everything on the beamline."""
        for link in tuple(self.links.values()):
            link.send(f"stoh_abort_all {rest}".rstrip())

    def start_move(self, motor: Motor, destination: str, asks_engine: bool = True) -> str:
        """
        Start a move.

        Parameters
        ----------
        motor
            Which.
        destination
            In its units; what is no number, or 0, is passed on as it stands.
        asks_engine
            Whether it is checked first.

        Returns
        -------
        str
            Nothing, or why it was refused, which has been told to all.
        """
        number = as_number(destination) or 0.0
        if number and math.isfinite(number):
            if motor.circle:
                number += 360 * round((motor.position - number) / 360)
            destination = f"{number:f}"
        refusal = self._objection(motor, number) if asks_engine else ""
        if refusal:
            # Whatever moves goes on moving: this is the end of the request, not of the move.
            shown = f"{motor.circle.shown(motor.position):f}"
            self.broadcast(f"stog_motor_move_completed {motor.name} {shown} {refusal}")
            self._abort_after(refusal)
            return refusal
        if motor.host == ENGINE and ENGINE not in self.links:
            self.broadcast(f"stog_motor_move_started {motor.name} {motor.circle.shown(number):f}")
            self._set_position(motor, number)
            self._move_over(motor, "normal")
        elif self.send(motor, f"stoh_start_motor_move {motor.name} {destination}"):
            self._asked.add(motor.name)
        else:
            self.broadcast(f"stog_log error server {motor.name} no_hw_host {motor.host}")
            self._move_over(motor, f"no_hw_host_{motor.host}", f"{{no_hw_host {motor.host}}}")
        return ""

    def _objection(self, motor: Motor, destination: float) -> str:
        if motor.lock_on:
            return "locked"
        family = [motor, *self.database.parents(motor.name)]
        if isinstance(motor, PseudoMotor):
            family += [each for each in map(self.database.get, motor.children) if isinstance(each, Motor)]
        if any(each.moving for each in family):
            return "moving"
        return "" if motor.within_limits(destination) else "sw_limit"

    def start_operation(self, operation: Operation, rest: str, ours: bool = False) -> None:
        """
        Start an operation.

        Parameters
        ----------
        operation
            Which.
        rest
            The handle and the arguments.
        ours
            Whether it is completed for us when its hardware server goes away.
        """
        handle = (rest.split() or [""])[0]
        text = f"{operation.name} {rest}".rstrip()
        self.operations[operation.name, handle] = ours
        if operation.host not in self.links:
            reason = f"no_hw_host {operation.host}" if operation.host != ENGINE else "not_simulated"
            status, _, more = reason.partition(" ")
            self._operation_over(operation.name, handle, status, more)
            return
        # Those who look on hear of it first.
        self.broadcast(f"stog_start_operation {text}")
        self.send(operation, f"stoh_start_operation {text}")

    def stop_operation(self, operation: Operation, rest: str = "") -> None:
        """Ask the running instances of an operation to end."""
        text = f"{operation.name} {rest}".rstrip()
        self.broadcast(f"stog_stop_operation {text}")
        if not self.send(operation, f"stoh_stop_operation {text}"):
            self.broadcast(f"stog_no_hardware_host {operation.name}")

    def read_ion_chambers(self, seconds: str, chambers: Iterable[IonChamber]) -> None:
        """Let ion chambers count; each hardware server is asked once."""
        by_host: dict[str, list[str]] = {}
        for chamber in chambers:
            by_host.setdefault(chamber.host, []).append(chamber.name)
        for host, names in by_host.items():
            listed = " ".join(names)
            if host in self.links:
                self.links[host].send(f"stoh_read_ion_chambers {seconds} 0 {listed}")
            else:
                self._chambers_offline(listed)

    def pass_on(self, device: Device, text: str) -> None:
        """
        Send the host of a device what a GUI asks of it.

        Parameters
        ----------
        device
            Which.
        text
            What follows ``gtos_``, which goes on unchanged behind ``stoh_``.
        """
        if device.host == ENGINE and ENGINE not in self.links:
            self._engine_does(device, text)
        elif not self.send(device, f"stoh_{text}"):
            command, _, rest = text.partition(" ")
            self._report_offline(device, f"no_hw_host_{device.host}", command, after(rest, 1))

    def set_position(self, motor: Motor, position: float) -> None:
        """Tell a motor where it is."""
        self.pass_on(motor, f"set_motor_position {motor.name} {motor.circle.shown(position):f}")

    def _engine_does(self, device: Device, text: str) -> None:
        """Do what the engine's standard scripts do at once."""
        command = text.partition(" ")[0]
        if isinstance(device, StringDevice) and command == "set_string":
            self._string_set(
                HardwareHost(name=ENGINE),
                f"htos_set_string_completed {device.name} normal " + after(text, 2),
                [device.name, "normal"],
            )
        elif isinstance(device, Shutter) and command == "set_shutter_state":
            words = [*split(text)[1:3], "normal"]
            self._shutter_reported(HardwareHost(name=ENGINE), " ".join(["htos_report_shutter_state", *words]), words)
        elif isinstance(device, Motor) and command == "set_motor_position":
            self.configure(device, split(text)[2:3])
        else:
            self.broadcast(f"stog_no_hardware_host {device.name}")

    def _report_offline(self, device: Device, reason: str, command: str = "", rest: str = "") -> None:
        """Report a device as failed since its host is not there."""
        name = device.name
        if command.startswith(("start_oscillation", "start_vector", "stop_vector", "change_vector", "abort_motor")) or (
            command == "set_motor_position"
        ):
            self.broadcast(f"stog_no_hardware_host {name}")
            if isinstance(device, Motor):
                self.on_completion("move", Completion(name, reason, f"{device.position:f}"))
        elif isinstance(device, Motor):
            device.moving = False
            self._asked.discard(name)
            shown = f"{device.circle.shown(device.position):f}"
            self.broadcast(f"stog_motor_move_completed {name} {shown} {reason}")
            self.on_completion("move", Completion(name, reason, shown))
        elif isinstance(device, Shutter):
            self.broadcast(f"stog_report_shutter_state {name} unknown {reason}")
            self.on_completion("shutter", Completion(name, reason, "unknown"))
        elif isinstance(device, Encoder):
            kinds = [command] if command else ["get_encoder", "set_encoder"]
            for kind in kinds:
                self.broadcast(f"stog_{kind}_completed {name} {device.position:f} {reason}")
                self.on_completion(kind, Completion(name, reason, f"{device.position:f}"))
        elif isinstance(device, StringDevice):
            contents = rest if command else device.contents
            self.broadcast(f"stog_set_string_completed {name} {reason} {contents}")
            self.on_completion("string", Completion(name, reason, contents))
        elif isinstance(device, IonChamber):
            self._chambers_offline(name)

    def _chambers_offline(self, names: str) -> None:
        # Two blanks, as a dcss writes it.
        self.broadcast(f"stog_report_ion_chambers 0  {names} hardware_offline")
        self.on_completion("ion_chambers", Completion(names, "hardware_offline"))


def harmless(text: str) -> str:
    """Give a text with blanks for the characters that Tcl takes for more than text."""
    return text.translate(_BLANKS)


def after(text: str, count: int) -> str:
    """Give what stands behind so many words and one blank."""
    for _ in range(count):
        text = text.lstrip(" ").partition(" ")[2]
    return text


def _to_guis(text: str) -> str:
    return "stog" + text[4:]


def _takes_text(command: str) -> bool:
    # There the words behind the device are no statuses.
    return command in ("htos_operation_update", "htos_set_string_completed", "htos_start_operation")


_Reader = Callable[[Hub, HardwareHost, str, "list[str]"], None]

#: What hardware servers may say: the sort of device that the first word names (None where it names none), and who acts.
_HARDWARE: dict[str, tuple[type[Device] | None, _Reader]] = {
    "htos_motor_move_started": (Motor, Hub._move_started),
    "htos_update_motor_position": (Motor, Hub._position_updated),
    "htos_motor_move_completed": (Motor, Hub._move_completed),
    "htos_motor_correct_started": (Motor, Hub._correction_announced),
    "htos_configure_device": (Device, Hub._device_configured),
    "htos_send_configuration": (Device, Hub._configuration_asked),
    "htos_operation_update": (Operation, Hub._operation_updated),
    "htos_operation_completed": (Operation, Hub._operation_completed),
    "htos_start_operation": (Operation, Hub._operation_announced),
    "htos_report_ion_chambers": (None, Hub._counted),
    "htos_report_shutter_state": (Shutter, Hub._shutter_reported),
    "htos_get_encoder_completed": (Encoder, Hub._encoder_read),
    "htos_set_encoder_completed": (Encoder, Hub._encoder_read),
    "htos_set_string_completed": (StringDevice, Hub._string_set),
    "htos_limit_hit": (Motor, Hub._passed_on),
    "htos_simulating_device": (Device, Hub._passed_on),
    "htos_note": (None, Hub._passed_on),
    "htos_log": (None, Hub._passed_on),
}
