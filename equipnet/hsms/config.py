"""The ``hsms`` and ``simulated-equipment`` sections of a configuration file."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, IPvAnyNetwork, PositiveFloat, PositiveInt, field_validator, model_validator

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
from equipnet.hsms.service import HsmsActiveConnection, HsmsConnection, HsmsPassiveConnection
from equipnet.hsms.settings import DEFAULT_MESSAGE_LIMIT, HsmsSettings, Timers
from equipnet.hsms.simulator import EquipmentFault, EquipmentSimulator, Variable
from equipnet.interfaces import IConnection, INode
from equipnet.secs import Item, item_from_sml


def _item(value: object) -> Item:
    if isinstance(value, Item):
        return value
    if not isinstance(value, str):
        raise ValueError("an item is a text in SML, such as '<U4 7>'")
    return item_from_sml(value)


#: An item, as SML in the file.
ItemText = Annotated[Item, BeforeValidator(_item, json_schema_input_type=str)]


class TimersSection(Section):
    """
    A ``timers`` table: seconds, as `equipnet.hsms.Timers` says.

    Parameters
    ----------
    t3, t5, t6, t7, t8, linktest
        As there.
    """

    t3: PositiveFloat = Timers.t3
    t5: PositiveFloat = Timers.t5
    t6: PositiveFloat = Timers.t6
    t7: PositiveFloat = Timers.t7
    t8: PositiveFloat = Timers.t8
    linktest: PositiveFloat | None = None

    def timers(self) -> Timers:
        """Give the timers that the table describes."""
        return Timers(**self.model_dump())


class _ConversationSection(ConnectionSection):
    """What both kinds have in common; the keys are those of `equipnet.hsms.HsmsSettings`, with its defaults."""

    session_id: int = Field(0, ge=0, le=0x7FFF)
    strict: bool = False
    timers: TimersSection = TimersSection()
    linktest_failures: PositiveInt = 1
    linktest_when_idle: bool = False
    message_limit: int = Field(DEFAULT_MESSAGE_LIMIT, ge=10, le=0xFFFF_FFFF)
    open_limit: PositiveInt = 1000
    queue_limit: PositiveInt = 64 * 1024 * 1024
    encoding: str = "ascii"
    max_depth: PositiveInt = 64
    retry: RetrySection = RetrySection()
    tls: TLSSection | None = None

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            codecs.lookup(name)
        except LookupError as error:
            raise ValueError(str(error)) from error
        return name

    def settings(self, role: str) -> HsmsSettings:
        """Give the settings that the table describes."""
        return HsmsSettings(
            session_id=self.session_id,
            role=role,
            strict=self.strict,
            timers=self.timers.timers(),
            linktest_failures=self.linktest_failures,
            linktest_when_idle=self.linktest_when_idle,
            message_limit=self.message_limit,
            open_limit=self.open_limit,
            queue_limit=self.queue_limit,
            encoding=self.encoding,
            max_depth=self.max_depth,
        )


class HsmsSection(_ConversationSection):
    """
    A ``[connections.NAME]`` table of kind ``hsms``.

    Parameters
    ----------
    mode
        ``"active"`` connects to ``address``; ``"passive"`` listens on ``listen``.
    address
        With ``active`` the other side; with ``passive`` the IP address or network from which it may come.
    role
        ``"host"`` or ``"equipment"``; that of the host for ``active``, of the equipment for ``passive``, where nothing
        is said.
    delegate
        ``"package.module:Name"``: a class that is told of what happens, see `equipnet.hsms.Delegate`. It is called with
        ``options``, and gets the node as its attribute ``node``.
    options
        What the delegate is made with.
    """

    kind: Literal["hsms"] = "hsms"
    mode: Literal["active", "passive"]
    address: str = ""
    listen: ListenText | None = None
    role: Literal["host", "equipment"] | None = None
    delegate: str | None = None
    options: dict[str, Any] = {}
    connect_timeout: PositiveFloat = 10.0
    local_host: str | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> HsmsSection:
        if self.mode == "active":
            if not self.address:
                raise ValueError("an active connection needs the address of the other side")
            if self.listen is not None:
                raise ValueError("an active connection does not listen")
            if self.retry.model_fields_set - {"attempts"}:
                raise ValueError(
                    "timers.t5 says when an active connection is tried again; retry only has attempts here"
                )
            _Where(address=self.address)  # type: ignore[arg-type]  # a validator reads the text
        else:
            if self.listen is None:
                raise ValueError("a passive connection needs to know where to listen")
            if self.listen.scheme == "udp":
                raise ValueError("HSMS is not spoken over UDP")
            check_port(self.listen, self.tls)
            _Whence(address=self.address)  # type: ignore[arg-type]
        if self.options and self.delegate is None:
            raise ValueError("options are for a delegate")
        return self

    def listens_on(self) -> tuple[Address, ...]:
        # Passive connections share a port, so two of them on one are no mistake.
        return ()

    def build(self, name: str, node: INode, folder: Path, reactor: Any) -> IConnection:
        delegate = None
        if self.delegate is not None:
            delegate = find_object(self.delegate, folder)(**self.options)
            delegate.node = node
        tls = None if self.tls is None else self.tls.options(folder)
        connection: HsmsConnection
        if self.mode == "active":
            connection = HsmsActiveConnection(
                self.address,
                settings=self.settings(self.role or "host"),
                delegate=delegate,
                attempts=self.retry.attempts,
                name=name,
                connect_timeout=self.connect_timeout,
                tls=tls,
                local_host=self.local_host,
                reactor=reactor,
            )
        else:
            connection = HsmsPassiveConnection(
                self.address,
                listen=self.listen,
                settings=self.settings(self.role or "equipment"),
                delegate=delegate,
                retry=self.retry.policy(),
                tls=tls,
                name=name,
                reactor=reactor,
            )
        return connection


class _Where(Section):
    address: AddressText


class _Whence(Section):
    address: IPvAnyNetwork | Literal[""]


class VariableSection(Section):
    """
    One of the ``variables`` or ``constants``.

    Parameters
    ----------
    name
        What it is called.
    value
        Its value, in SML.
    unit
        Of the value.
    """

    name: str
    value: ItemText
    unit: str = ""


class SimulatedEquipmentSection(_ConversationSection):
    """
    A ``[connections.NAME]`` table of kind ``simulated-equipment``.

    Its keys are the parameters of `equipnet.hsms.EquipmentSimulator`, with its defaults; items are texts in SML.
    """

    kind: Literal["simulated-equipment"] = "simulated-equipment"
    listen: ListenText
    address: str = ""
    model: str = "EQUIPNET"
    revision: str = "1.0"
    variables: dict[int, VariableSection] = {}
    constants: dict[int, VariableSection] = {}
    events: tuple[int, ...] = ()
    commands: dict[str, int] = {}
    replies: dict[str, ItemText] = {}
    event: int | None = None
    rate: float = Field(0.0, ge=0)
    fault: EquipmentFault | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> SimulatedEquipmentSection:
        _Whence(address=self.address)  # type: ignore[arg-type]
        if self.rate and self.event is None:
            raise ValueError("a rate needs the event that is sent")
        check_port(self.listen, self.tls)
        return self

    def listens_on(self) -> tuple[Address, ...]:
        return (self.listen,)

    def build(self, name: str, node: INode, folder: Path, reactor: Any) -> IConnection:
        def table(sections: dict[int, VariableSection]) -> dict[int, Variable]:
            return {number: Variable(each.name, each.value, each.unit) for number, each in sections.items()}

        simulator = EquipmentSimulator(
            self.listen,
            address=self.address,
            model=self.model,
            revision=self.revision,
            variables=table(self.variables),
            constants=table(self.constants),
            events=self.events,
            commands=self.commands,
            replies=self.replies,
            event=self.event,
            rate=self.rate,
            settings=self.settings("equipment"),
            tls=None if self.tls is None else self.tls.options(folder),
            retry=self.retry.policy(),
            name=name,
            reactor=reactor,
        )
        if self.fault is not None:
            simulator.inject(self.fault)
        return simulator
