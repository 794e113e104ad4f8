"""
The messages of DCS: what dcss and a hardware server (DHS) say to each other, as frozen values and as bytes.

A message is a line of words. The first names it (``stoh_start_motor_move``), and the class of that name
(`StohStartMotorMove`) has the others as typed attributes. ``str(message)`` is the line: as it came, or as it will be
sent. Everything that a class checks, it checks for messages that we make; what comes is read as far as it makes sense.

The sources of all rules here are a dcss of 2014 to 2018, and the Blu-Ice/DCS Administrator's Manual.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from math import isfinite
from typing import Any, ClassVar, TypeVar

from equipnet.dcs.tcl import REPLACED, balanced, join, number, one_word, plain, quote, split
from equipnet.errors import LocalProtocolError, RemoteProtocolError

#: Bytes of a message in protocol 1, and of every message of the handshake.
FIXED_SIZE = 200

#: Bytes of the header of a message in protocol 2.
HEADER_SIZE = 26

#: The longest word that dcss has room for: the name of a message, of a device, a status. It crashes on longer ones.
NAME_LIMIT = 79

#: The longest contents of a string that dcss keeps (its MAX_STRING_SIZE, less the zero).
STRING_LIMIT = 1879

#: The longest line that dcss can give to a GUI at once; a GUI that cannot take it is disconnected.
LINE_LIMIT = 500_000

#: The longest line about a motor that dcss builds, with ``%f`` for the position.
_MOTOR_LINE_LIMIT = 199

_M = TypeVar("_M", bound="Message")

#: What dcss would lose on the way, and what its Tcl programs would take for something else.
_LOST = re.compile(f"[{re.escape(REPLACED)}\\0\\r\\\\]").search

#: The rest of a line as it stands, not as words.
Text = str

#: The rest of a line as words of a Tcl list.
Words = tuple[Any, ...]


class Message:
    """
    One message, whatever it says.

    Attributes
    ----------
    command
        The first word.
    text
        The whole line.
    """

    command: str
    text: str
    #: Every class by the first word of its messages.
    classes: ClassVar[dict[str, type[Message]]] = {}
    _known_fields: ClassVar[tuple[tuple[str, str, object], ...] | None] = None

    def __init_subclass__(cls, command: str = "") -> None:
        super().__init_subclass__()
        if command:
            cls.command = command
            Message.classes[command] = cls

    def __post_init__(self) -> None:
        words = [self.command]
        values = self.__dict__
        for name, kind, default in self._fields():
            value = values[name]
            if kind == "str" and type(value) is str and plain(value) and len(value) <= NAME_LIMIT:
                words.append(value)
            elif word := _write(name, kind, default, value):
                words.append(word)
        text = " ".join(words)
        self._check(text)
        object.__setattr__(self, "text", text)

    def __str__(self) -> str:
        return self.text

    def _check(self, text: str) -> None:
        if "\0" in text:
            raise LocalProtocolError(f"{text!r:.80} has a NUL in it, behind which dcss reads nothing")

    @classmethod
    def _fields(cls) -> tuple[tuple[str, str, object], ...]:
        """Give name, kind and default of each word."""
        known = cls._known_fields
        if known is None:
            # Every subclass is a dataclass, but only once its class statement is over.
            known = cls._known_fields = tuple(
                (each.name, str(each.type), each.default)
                for each in fields(cls)  # type: ignore[arg-type]
            )
        return known

    @classmethod
    def _read(cls: type[_M], text: str, words: tuple[str, ...] | None = None) -> _M:
        values: dict[str, object] = {"text": text}
        if words is None:
            words = split(text)
        at = 1
        for name, kind, default in cls._fields():
            if kind == "Words":
                values[name] = words[at:]
            elif kind == "Text":
                values[name] = _after(text, at)
            elif at < len(words):
                values[name] = words[at] if kind == "str" else _READERS[kind](words[at], name)
                at += 1
            elif default is MISSING:
                raise ValueError(f"{name} is missing")
            else:
                values[name] = default
        message = object.__new__(cls)
        # This is how a frozen dataclass is filled without being checked.
        object.__setattr__(message, "__dict__", values)
        return message


def _write(name: str, kind: str, default: object, value: Any) -> str:
    if kind == "Words":
        return join(value)
    if kind == "Text":
        return str(value)
    if kind == "str":
        # Nothing at the end of a line where nothing is the default.
        return "" if value == "" and default == "" else _word(name, value)
    if kind == "bool":
        return "1" if value else "0"
    if kind == "int":
        return number(int(value))
    return number(value)


def _word(name: str, value: Any) -> str:
    word = quote(value)
    if len(word) > NAME_LIMIT:
        raise LocalProtocolError(f"{name} {word!r:.100} is longer than {NAME_LIMIT} characters, which crash dcss")
    return word


def _after(text: str, count: int) -> str:
    """Give what stands behind ``count`` words and exactly one blank."""
    for _ in range(count):
        _, _, text = text.lstrip(" ").partition(" ")
    return text


def _float(word: str, name: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise ValueError(f"{name} {word!r:.40} is no number")
    return value


def _int(word: str, name: str) -> int:
    return int(_float(word, name))


def _bool(word: str, name: str) -> bool:
    return _float(word, name) != 0


_READERS: dict[str, Callable[[str, str], object]] = {"float": _float, "int": _int, "bool": _bool}


@dataclass(frozen=True)
class GenericMessage(Message):
    """
    A message that has no class of its own, or does not say what its class needs.

    Parameters
    ----------
    command
        The first word; may be empty.
    arguments
        The other words.
    problem
        What is wrong with it, where it should have been of a class; else empty.
    """

    command: str
    arguments: Words = ()
    problem: str = ""

    def __post_init__(self) -> None:
        text = f"{self.command} {join(self.arguments)}" if self.arguments else self.command
        self._check(text)
        object.__setattr__(self, "text", text)


def parse_message(text: str | bytes) -> Message:
    """
    Read one line.

    Parameters
    ----------
    text
        The line. What comes behind a NUL is dropped, and so are blanks and line ends behind it.

    Returns
    -------
    Message
        An instance of the class for its first word; a `GenericMessage` where there is none, or where something is
        missing or no number: then its ``problem`` says what. This never fails.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    if "\0" in text:
        text = text[: text.index("\0")]
    text = text.rstrip()
    words = split(text)
    cls = Message.classes.get(words[0]) if words else None
    problem = ""
    if cls is not None:
        try:
            return cls._read(text, words)
        except ValueError as error:
            problem = str(error)
    message = object.__new__(GenericMessage)
    command = words[0] if words else ""
    values = {"command": command, "arguments": words[1:], "problem": problem, "text": text}
    object.__setattr__(message, "__dict__", values)
    return message


# Bytes


def encode(text: str, protocol: int = 2, binary: bytes = b"") -> bytes:
    """
    Give a line as bytes.

    Parameters
    ----------
    text
        The line.
    protocol
        1: exactly 200 bytes, filled with NUL. 2: sizes, text with its NUL, binary part.
    binary
        What follows the text, in protocol 2 only.

    Raises
    ------
    LocalProtocolError
        When it does not fit into a message of protocol 1.
    """
    line = text.encode("utf-8", "surrogateescape") + b"\0"
    if protocol == 2:
        return b"%12d %12d " % (len(line), len(binary)) + line + binary
    if len(line) > FIXED_SIZE or binary:
        raise LocalProtocolError(f"{text!r:.80} does not fit into the {FIXED_SIZE} bytes of protocol 1")
    return line.ljust(FIXED_SIZE, b"\0")


def read_header(header: bytes, limit: int) -> tuple[int, int]:
    """
    Give the sizes of text and binary part that a header of protocol 2 announces.

    Parameters
    ----------
    header
        Its 26 bytes.
    limit
        The most bytes that a message may have.

    Raises
    ------
    RemoteProtocolError
        When it is no header, or announces more than ``limit``. Where the next message begins is not known then.
    """
    sizes = header.split()
    if len(sizes) != 2 or not (sizes[0].isdigit() and sizes[1].isdigit()):
        sizes = header.replace(b"\0", b" ").split()
        if len(sizes) != 2 or not (sizes[0].isdigit() and sizes[1].isdigit()):
            hint = "; does dcss speak protocol 1 with this host?" if header[:1].isalpha() else ""
            raise RemoteProtocolError(f"{header!r} is no header of a DCS message{hint}", header)
    text_size, binary_size = int(sizes[0]), int(sizes[1])
    if text_size + binary_size > limit:
        raise RemoteProtocolError(
            f"A message of {text_size + binary_size} bytes was announced, more than the limit of {limit}", header
        )
    return text_size, binary_size


# dcss -> DHS. The attributes of a class are the words behind the first, in their order.


@dataclass(frozen=True)
class StocSendClientType(Message, command="stoc_send_client_type"):
    """The first message of all: who are you? A dcss with a certificate gives a GUI its number with it."""

    client_id: str = ""


@dataclass(frozen=True)
class StohRegisterRealMotor(Message, command="stoh_register_real_motor"):
    """A motor is yours."""

    name: str
    hardware_name: str = ""


@dataclass(frozen=True)
class StohRegisterPseudoMotor(Message, command="stoh_register_pseudo_motor"):
    """A pseudo motor is yours."""

    name: str
    hardware_name: str = ""


@dataclass(frozen=True)
class StohRegisterIonChamber(Message, command="stoh_register_ion_chamber"):
    """An ion chamber is yours."""

    name: str
    hardware_name: str = ""
    channel: int = 0
    timer: str = ""
    timer_type: str = ""


@dataclass(frozen=True)
class StohRegisterShutter(Message, command="stoh_register_shutter"):
    """A shutter is yours; ``state`` is what dcss believes, ``"open"`` or ``"closed"``."""

    name: str
    state: str = "closed"
    hardware_name: str = ""


@dataclass(frozen=True)
class StohRegisterOperation(Message, command="stoh_register_operation"):
    """An operation is yours."""

    name: str
    hardware_name: str = ""


@dataclass(frozen=True)
class StohRegisterEncoder(Message, command="stoh_register_encoder"):
    """An encoder is yours."""

    name: str
    hardware_name: str = ""


@dataclass(frozen=True)
class StohRegisterString(Message, command="stoh_register_string"):
    """A string is yours; its contents are to be asked for."""

    name: str
    hardware_name: str = ""


@dataclass(frozen=True)
class StohRegisterObject(Message, command="stoh_register_object"):
    """An object is yours; no known database holds one."""

    name: str
    hardware_name: str = ""


@dataclass(frozen=True)
class StohSetMotorDependency(Message, command="stoh_set_motor_dependency"):
    """The motors on which a motor depends."""

    name: str
    dependencies: Words = ()


@dataclass(frozen=True)
class StohSetMotorChildren(Message, command="stoh_set_motor_children"):
    """The motors that a pseudo motor moves."""

    name: str
    children: Words = ()


@dataclass(frozen=True)
class StohConfigureRealMotor(Message, command="stoh_configure_real_motor"):
    """
    What dcss knows of a motor.

    The upper limit comes before the lower one, but its switch after that of the lower one.

    Parameters
    ----------
    position, upper_limit, lower_limit
        In the motor's units.
    scale_factor
        Steps per unit.
    speed
        Steps per second.
    acceleration
        Milliseconds, in Blu-Ice.
    backlash
        Steps.
    status
        0 for inactive; always 0 in practice.
    """

    name: str
    host: str
    hardware_name: str
    position: float
    upper_limit: float
    lower_limit: float
    scale_factor: float
    speed: int
    acceleration: int
    backlash: int
    lower_limit_on: bool
    upper_limit_on: bool
    lock_on: bool
    backlash_on: bool
    reverse_on: bool
    status: int = 0


@dataclass(frozen=True)
class StohConfigurePseudoMotor(Message, command="stoh_configure_pseudo_motor"):
    """What dcss knows of a pseudo motor."""

    name: str
    host: str
    hardware_name: str
    position: float
    upper_limit: float
    lower_limit: float
    lower_limit_on: bool
    upper_limit_on: bool
    lock_on: bool
    status: int = 0


@dataclass(frozen=True)
class StohConfigureShutter(Message, command="stoh_configure_shutter"):
    """What dcss knows of a shutter."""

    name: str
    host: str
    state: str


@dataclass(frozen=True)
class StohConfigureIonChamber(Message, command="stoh_configure_ion_chamber"):
    """What dcss knows of an ion chamber."""

    name: str
    host: str
    hardware_name: str = ""
    channel: int = 0
    timer: str = ""
    timer_type: str = ""


@dataclass(frozen=True)
class StohConfigureEncoder(Message, command="stoh_configure_encoder"):
    """What dcss knows of an encoder; both positions are the same number."""

    name: str
    host: str
    position: float
    controller_position: float = 0.0


@dataclass(frozen=True)
class StohConfigureString(Message, command="stoh_configure_string"):
    """What dcss knows of a string: its contents, which may hold anything."""

    name: str
    host: str
    contents: Text = ""


@dataclass(frozen=True)
class StohConfigureOperation(Message, command="stoh_configure_operation"):
    """What dcss knows of an operation."""

    name: str
    host: str


@dataclass(frozen=True)
class StohConfigureObject(Message, command="stoh_configure_object"):
    """What dcss knows of an object."""

    name: str
    host: str


@dataclass(frozen=True)
class StohConfigureRun(Message, command="stoh_configure_run"):
    """What dcss knows of a data collection run."""

    name: str
    definition: Text = ""


@dataclass(frozen=True)
class StohConfigureRuns(Message, command="stoh_configure_runs"):
    """What dcss knows of the runs together."""

    name: str
    count: int
    current: int
    active: int
    dose_mode: int = 0


@dataclass(frozen=True)
class StohConfigureHardwareHost(Message, command="stoh_configure_hardware_host"):
    """What dcss knows of a hardware server; ``state`` is ``"online"`` or ``"offline"``."""

    name: str
    host: str
    state: str = ""


@dataclass(frozen=True)
class StohStartMotorMove(Message, command="stoh_start_motor_move"):
    """Move a motor; dcss may pass on a destination that is no number, which is a `GenericMessage` with a problem."""

    name: str
    destination: float


@dataclass(frozen=True)
class StohAbortMotorMove(Message, command="stoh_abort_motor_move"):
    """Stop a motor."""

    name: str
    mode: str = "hard"


@dataclass(frozen=True)
class StohAbortAll(Message, command="stoh_abort_all"):
    """Stop everything; ``mode`` is what somebody typed: ``"soft"``, and everything else is hard."""

    mode: str = "hard"


@dataclass(frozen=True)
class StohCorrectMotorPosition(Message, command="stoh_correct_motor_position"):
    """Add a multiple of 360 to the position of a motor, without moving it."""

    name: str
    correction: float


@dataclass(frozen=True)
class StohSetMotorPosition(Message, command="stoh_set_motor_position"):
    """Call the present position of a motor so."""

    name: str
    position: float


@dataclass(frozen=True)
class StohStartOscillation(Message, command="stoh_start_oscillation"):
    """Open a shutter (``"NULL"`` for none), move a motor by ``delta`` in so many seconds, close the shutter."""

    name: str
    shutter: str
    delta: float
    seconds: float


@dataclass(frozen=True)
class StohStartVectorMove(Message, command="stoh_start_vector_move"):
    """Move two motors (``"NULL"`` for no second one) together."""

    first: str
    second: str
    first_destination: float
    second_destination: float
    speed: float = 0.0


@dataclass(frozen=True)
class StohStopVectorMove(Message, command="stoh_stop_vector_move"):
    """Stop two motors that move together."""

    first: str
    second: str = "NULL"


@dataclass(frozen=True)
class StohChangeVectorSpeed(Message, command="stoh_change_vector_speed"):
    """Change the speed of two motors that move together."""

    first: str
    second: str
    speed: float


@dataclass(frozen=True)
class StohSetShutterState(Message, command="stoh_set_shutter_state"):
    """Open or close a shutter."""

    name: str
    state: str
    extra: Words = ()


@dataclass(frozen=True)
class StohReadIonChambers(Message, command="stoh_read_ion_chambers"):
    """Count for so many seconds; ``repeat`` is always 0 in practice."""

    seconds: float
    repeat: str
    names: Words = ()


@dataclass(frozen=True)
class StohGetEncoder(Message, command="stoh_get_encoder"):
    """Read an encoder."""

    name: str


@dataclass(frozen=True)
class StohSetEncoder(Message, command="stoh_set_encoder"):
    """Call the present position of an encoder so."""

    name: str
    position: float


@dataclass(frozen=True)
class StohSetString(Message, command="stoh_set_string"):
    """Change the contents of a string."""

    name: str
    contents: Text = ""


@dataclass(frozen=True)
class StohStartOperation(Message, command="stoh_start_operation"):
    """Start an operation; ``handle`` is a token to be given back as it is, not a number."""

    name: str
    handle: str
    arguments: Words = ()


@dataclass(frozen=True)
class StohStopOperation(Message, command="stoh_stop_operation"):
    """Ask the running instances of an operation to end."""

    name: str
    arguments: Words = ()


# DHS -> dcss. A real dcss takes these and no others.


class HtosMessage(Message):
    """A message of a DHS: it is checked for what dcss, or the Tcl programs behind it, cannot carry."""

    def _check(self, text: str) -> None:
        # Its words have been looked at one by one.
        check_text(text)


def check_line(text: str) -> None:
    """
    Refuse a line that a DHS must not send.

    Raises
    ------
    LocalProtocolError
        When dcss, the scripting engine or the GUIs could not carry it, with the reason.
    """
    check_text(text)
    command, _, rest = text.partition(" ")
    if not command:
        raise LocalProtocolError("A line that begins with a blank, or is empty, is not understood by dcss")
    name = "" if command == HtosNote.command else rest.partition(" ")[0]
    if len(command) > NAME_LIMIT or len(name) > NAME_LIMIT:
        raise LocalProtocolError(f"A name in {text!r:.120} is longer than {NAME_LIMIT} characters: dcss crashes")


def check_text(text: str) -> None:
    """Refuse, as `check_line` does, a line whose first words are known to be right."""
    if lost := _LOST(text):
        raise LocalProtocolError(f"dcss cannot pass on {lost[0]!r} in {text!r:.80}")
    if not balanced(text):
        raise LocalProtocolError(f"The Tcl programs behind dcss cannot read {text!r:.80}: balance its braces")
    if len(text) > LINE_LIMIT:
        raise LocalProtocolError(f"{text!r:.80} has {len(text)} characters: dcss would lose its GUIs over it")


class _MotorMessage(HtosMessage):
    """A message from which dcss builds one of its own in a small buffer, with ``%f`` for the position."""

    def _check(self, text: str) -> None:
        super()._check(text)
        position = next(value for value in self.__dict__.values() if not isinstance(value, str))
        if len(text) - len(number(position)) + len(f"{float(position):f}") > _MOTOR_LINE_LIMIT:
            raise LocalProtocolError(f"{text!r:.120} is longer than {_MOTOR_LINE_LIMIT} characters: dcss crashes")


@dataclass(frozen=True)
class HtosClientIsHardware(HtosMessage, command="htos_client_is_hardware"):
    """The answer to ``stoc_send_client_type``."""

    name: str


@dataclass(frozen=True)
class HtosMotorMoveStarted(_MotorMessage, command="htos_motor_move_started"):
    """A motor moves."""

    name: str
    destination: float


@dataclass(frozen=True)
class HtosUpdateMotorPosition(_MotorMessage, command="htos_update_motor_position"):
    """Where a motor is."""

    name: str
    position: float
    status: str = "normal"


@dataclass(frozen=True)
class HtosMotorMoveCompleted(_MotorMessage, command="htos_motor_move_completed"):
    """A motor has come to rest; dcss keeps the first word of ``status`` only."""

    name: str
    position: float
    status: str = "normal"


@dataclass(frozen=True)
class HtosMotorCorrectStarted(HtosMessage, command="htos_motor_correct_started"):
    """Corrects its backlash; a scripting engine complains of it, so better do not send it."""

    name: str


@dataclass(frozen=True)
class HtosConfigureDevice(HtosMessage, command="htos_configure_device"):
    """
    Settings of a motor, in the order of `StohConfigureRealMotor` or `StohConfigurePseudoMotor` from ``position`` on.

    Neither host nor hardware name are among them; what is missing at the end stays as it is.
    """

    name: str
    settings: Words = ()


@dataclass(frozen=True)
class HtosSendConfiguration(HtosMessage, command="htos_send_configuration"):
    """Ask what dcss knows of a device."""

    name: str


@dataclass(frozen=True)
class HtosOperationUpdate(HtosMessage, command="htos_operation_update"):
    """News of a running operation."""

    name: str
    handle: str
    arguments: Words = ()


@dataclass(frozen=True)
class HtosOperationCompleted(HtosMessage, command="htos_operation_completed"):
    """The end of an operation; every ``status`` but ``"normal"`` is a reason for its failure."""

    name: str
    handle: str
    status: str = "normal"
    arguments: Words = ()


@dataclass(frozen=True)
class HtosStartOperation(HtosMessage, command="htos_start_operation"):
    """Announce an operation that we start ourselves; it starts nothing anywhere else."""

    name: str
    handle: str
    arguments: Words = ()


@dataclass(frozen=True)
class HtosReportIonChambers(HtosMessage, command="htos_report_ion_chambers"):
    """
    What ion chambers have counted, or why they have not: make it with `of` or `failed`.

    Parameters
    ----------
    seconds
        How long they counted; 0 for a failure.
    words
        Names and counts by turns; for a failure names, and the reason as the last word.
    """

    seconds: float
    words: Words

    @classmethod
    def of(cls, seconds: float, counts: Mapping[str, float]) -> HtosReportIonChambers:
        """
        Report counts.

        Raises
        ------
        LocalProtocolError
            When the time is not above 0, which would be a failure, or there is no count.
        """
        if not seconds > 0 or not counts:
            raise LocalProtocolError("Counts need a time above 0 and at least one ion chamber")
        return cls(seconds, tuple(each for pair in counts.items() for each in pair))

    @classmethod
    def failed(cls, names: Iterable[str], reason: str) -> HtosReportIonChambers:
        """Report that the ion chambers have not counted."""
        return cls(0, (*names, one_word(reason) or "error"))

    @property
    def counts(self) -> dict[str, float]:
        """The counts by name; empty for a failure."""
        if not self.seconds > 0:
            return {}
        return {str(name): float(counts) for name, counts in zip(self.words[::2], self.words[1::2], strict=False)}

    @property
    def names(self) -> tuple[str, ...]:
        """The ion chambers."""
        return tuple(self.words[::2]) if self.seconds > 0 else tuple(self.words[:-1])

    @property
    def reason(self) -> str:
        """Why they have not counted; empty where they have."""
        return "" if self.seconds > 0 or not self.words else str(self.words[-1])

    def _check(self, text: str) -> None:
        super()._check(text)
        for name in self.words[:: 2 if self.seconds > 0 else 1]:
            _word("an ion chamber's name", name)


@dataclass(frozen=True)
class HtosReportShutterState(HtosMessage, command="htos_report_shutter_state"):
    """Whether a shutter is ``"open"`` or ``"closed"``; a ``result`` is the reason why it could not be changed."""

    name: str
    state: str
    result: str = ""


@dataclass(frozen=True)
class HtosGetEncoderCompleted(HtosMessage, command="htos_get_encoder_completed"):
    """What an encoder reads; dcss takes the position whatever the status."""

    name: str
    position: float
    status: str = "normal"


@dataclass(frozen=True)
class HtosSetEncoderCompleted(HtosMessage, command="htos_set_encoder_completed"):
    """What an encoder reads after it was set."""

    name: str
    position: float
    status: str = "normal"


@dataclass(frozen=True)
class HtosSetStringCompleted(HtosMessage, command="htos_set_string_completed"):
    """The contents of a string, at any time; with another status than ``"normal"`` dcss does not keep them."""

    name: str
    status: str = "normal"
    contents: Text = ""

    def _check(self, text: str) -> None:
        super()._check(text)
        if len(self.contents.encode("utf-8", "surrogateescape")) > STRING_LIMIT:
            raise LocalProtocolError(f"The contents of {self.name} are longer than the {STRING_LIMIT} that dcss keeps")


@dataclass(frozen=True)
class HtosLimitHit(HtosMessage, command="htos_limit_hit"):
    """A motor ran into a switch, ``"cw"`` or ``"ccw"``; real servers use the status of the move instead."""

    name: str
    direction: str


@dataclass(frozen=True)
class HtosSimulatingDevice(HtosMessage, command="htos_simulating_device"):
    """A device is simulated."""

    name: str


@dataclass(frozen=True)
class HtosNote(HtosMessage, command="htos_note"):
    """A note to everybody; some first words mean something, such as ``image_ready``."""

    note: Text


@dataclass(frozen=True)
class HtosLog(HtosMessage, command="htos_log"):
    """A line for Blu-Ice's log; it shows the levels note, warning, error and severe."""

    level: str
    sender: str
    line: Text
