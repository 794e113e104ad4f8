"""The ``instrument`` and ``simulated-instrument`` sections of a configuration file."""

from __future__ import annotations

import codecs
from pathlib import Path
from struct import Struct
from struct import error as StructError
from typing import Any, Literal

from pydantic import Field, IPvAnyNetwork, PositiveFloat, PositiveInt, ValidationInfo, field_validator, model_validator

from equipnet.connection.address import Address
from equipnet.connection.config import (
    AddressText,
    ConnectionSection,
    ListenText,
    RetrySection,
    Section,
    TLSSection,
    check_port,
    find_object,
)
from equipnet.errors import EquipmentError
from equipnet.instrument.ending import Block, Ending, IdleGap, LengthPrefix, Prompt, Regex, Size, Terminator
from equipnet.instrument.fault import Fault, Place
from equipnet.instrument.message import encode_block, termination_bytes
from equipnet.instrument.service import Instrument, Resync
from equipnet.instrument.settings import family_name, socket_type_name
from equipnet.instrument.simulator import InstrumentSimulator, Reply
from equipnet.interfaces import IConnection, INode


class EndingSection(Section):
    """
    An ``ending`` table: how a text reply ends; exactly one of its keys.

    Parameters
    ----------
    terminators
        Several texts of which any ends a reply.
    size
        Bytes.
    prompt
        The prompt that comes at the beginning of a line.
    regex
        A regular expression.
    gap
        Seconds of silence.
    block
        ``"ieee"`` or ``"hp"``.
    length_prefix
        The header that says how many bytes come after it, in the notation of `struct`: ``">H"`` for two bytes. Of
        several numbers in it the last one counts.
    """

    terminators: tuple[str, ...] | None = None
    size: PositiveInt | None = None
    prompt: str | None = Field(None, min_length=1)
    regex: str | None = None
    gap: PositiveFloat | None = None
    block: Literal["ieee", "hp"] | None = None
    length_prefix: str | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> EndingSection:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"exactly one of {', '.join(type(self).model_fields)} says how a reply ends")
        try:
            self.ending()
        except EquipmentError as error:
            raise ValueError(str(error)) from error
        return self

    def ending(self) -> Ending:
        """Give the ending that the table describes."""
        if self.terminators is not None:
            return Terminator(*(termination_bytes(each) or b"" for each in self.terminators))
        if self.size is not None:
            return Size(self.size)
        if self.prompt is not None:
            return Prompt(self.prompt)
        if self.regex is not None:
            return Regex(self.regex)
        if self.gap is not None:
            return IdleGap(self.gap)
        if self.length_prefix is not None:
            try:
                header = Struct(self.length_prefix)
            except StructError as error:
                raise ValueError(f"{self.length_prefix!r} is no notation of struct: {error}") from error
            numbers = header.unpack(bytes(header.size))
            if not numbers or not isinstance(numbers[-1], int):
                raise ValueError(f"{self.length_prefix!r} does not end with a whole number, which would be the length")
            return LengthPrefix(header.size, lambda received: header.unpack(received)[-1])
        return Block(self.block or "ieee")


class InstrumentSection(ConnectionSection):
    """
    A ``[connections.NAME]`` table of kind ``instrument``.

    All keys but ``address``, ``retry``, ``tls`` and ``ending`` are those of `equipnet.instrument.Instrument`, with its
    defaults.
    """

    kind: Literal["instrument"] = "instrument"
    address: AddressText
    buffer_size: PositiveInt = 4096
    encoding: str = "utf-8"
    encoding_errors: str = "strict"
    family: str = "INET"
    max_read_size: PositiveInt = 1 << 20
    proto: Literal[0, 6, 17] = 0
    read_termination: str | tuple[str, ...] | None = "\n"
    rstrip: bool = False
    socket_type: str = "STREAM"
    termination: str | None = None
    timeout: float | None = None
    write_termination: str | None = "\r\n"
    ending: EndingSection | None = None
    resync: Resync = Resync.RESET
    resync_gap: PositiveFloat | None = None
    queue_limit: PositiveInt = 1000
    connect_timeout: PositiveFloat = Field(10.0, allow_inf_nan=False)
    local_host: str | None = None
    retry: RetrySection = RetrySection()
    tls: TLSSection | None = None

    @field_validator("encoding", "encoding_errors")
    @classmethod
    def _is_known(cls, name: str, about: ValidationInfo) -> str:
        look_up = codecs.lookup if about.field_name == "encoding" else codecs.lookup_error
        try:
            look_up(name.lower())
        except LookupError as error:
            raise ValueError(str(error)) from error
        return name

    @field_validator("family")
    @classmethod
    def _is_family(cls, name: str) -> str:
        return family_name(name)

    @field_validator("socket_type")
    @classmethod
    def _is_socket_type(cls, name: str) -> str:
        return socket_type_name(name)

    def build(self, name: str, node: INode, folder: Path, reactor: Any) -> IConnection:
        return Instrument(
            self.address,
            name=name,
            buffer_size=self.buffer_size,
            encoding=self.encoding,
            encoding_errors=self.encoding_errors,
            family=self.family,
            max_read_size=self.max_read_size,
            proto=self.proto,
            read_termination=self.read_termination,
            rstrip=self.rstrip,
            socket_type=self.socket_type,
            termination=self.termination,
            timeout=self.timeout,
            write_termination=self.write_termination,
            ending=None if self.ending is None else self.ending.ending(),
            resync=self.resync,
            resync_gap=self.resync_gap,
            queue_limit=self.queue_limit,
            connect_timeout=self.connect_timeout,
            local_host=self.local_host,
            retry=self.retry.policy(),
            tls=None if self.tls is None else self.tls.options(folder),
            reactor=reactor,
        )


class BytesReply(Section):
    """
    A reply that is not text: exactly one of its keys.

    Parameters
    ----------
    hex
        The bytes, in hexadecimal digits.
    ieee
        Numbers that become an IEEE 488.2 block of 32-bit floating point numbers, the lowest byte first.
    call
        ``"package.module:function"``: called with the command's text, or with the match of its pattern, for each reply.
    """

    hex: str | None = None
    ieee: tuple[float, ...] | None = None
    call: str | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> BytesReply:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"exactly one of {', '.join(type(self).model_fields)} says what the reply is")
        if self.hex is not None:
            bytes.fromhex(self.hex)
        return self

    def reply(self, folder: Path) -> Reply:
        """Give the reply that the table describes; functions are found from ``folder``."""
        if self.hex is not None:
            return bytes.fromhex(self.hex)
        if self.ieee is not None:
            return encode_block(self.ieee) + b"\n"
        found: Reply = find_object(self.call or "", folder)
        return found


#: What a file can say of a reply: a text (none is sent when it is empty), several in turn, or a table.
ReplySection = str | tuple[str, ...] | BytesReply


class FaultSection(Section):
    """
    A ``fault`` table: what a simulated instrument does wrong, as `equipnet.instrument.Fault` says.

    Parameters
    ----------
    silence, refuse, delay, drop, garble, seed, merge, split, close, reset
        As there.
    """

    silence: bool = False
    refuse: bool = False
    delay: float = 0.0
    drop: bool = False
    garble: int | None = None
    seed: int = 0
    merge: int | None = None
    split: int | None = None
    close: Place | None = None
    reset: Place | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> FaultSection:
        self.fault()
        return self

    def fault(self) -> Fault:
        """Give the fault that the table describes."""
        return Fault(**self.model_dump())


class SimulatedInstrumentSection(ConnectionSection):
    """
    A ``[connections.NAME]`` table of kind ``simulated-instrument``.

    Its keys are the parameters of `equipnet.instrument.InstrumentSimulator`, with its defaults. In ``replies`` and
    ``patterns`` an empty text stands for a command without a reply.
    """

    kind: Literal["simulated-instrument"] = "simulated-instrument"
    listen: ListenText
    replies: dict[str, ReplySection] = {}
    patterns: dict[str, ReplySection] = {}
    default: ReplySection = ""
    termination: str = "\n"
    reply_termination: str | None = None
    encoding: str = "utf-8"
    max_command_size: PositiveInt = 1 << 20
    max_connections: PositiveInt = 100
    allowed: tuple[IPvAnyNetwork, ...] = ()
    fault: FaultSection | None = None
    retry: RetrySection = RetrySection()
    tls: TLSSection | None = None

    @model_validator(mode="after")
    def _can_listen(self) -> SimulatedInstrumentSection:
        check_port(self.listen, self.tls)
        return self

    def listens_on(self) -> tuple[Address, ...]:
        return (self.listen,)

    def build(self, name: str, node: INode, folder: Path, reactor: Any) -> IConnection:
        def reply(section: ReplySection) -> Reply:
            return section.reply(folder) if isinstance(section, BytesReply) else section or None

        return InstrumentSimulator(
            {command: reply(section) for command, section in self.replies.items()},
            self.listen,
            patterns={pattern: reply(section) for pattern, section in self.patterns.items()},
            default=reply(self.default),
            termination=self.termination,
            reply_termination=self.reply_termination,
            encoding=self.encoding,
            max_command_size=self.max_command_size,
            fault=None if self.fault is None else self.fault.fault(),
            name=name,
            max_connections=self.max_connections,
            allowed=map(str, self.allowed),
            tls=None if self.tls is None else self.tls.options(folder),
            retry=self.retry.policy(),
            reactor=reactor,
        )
