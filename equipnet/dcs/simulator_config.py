"""The ``simulated-dcss`` section of a configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import IPvAnyNetwork, PositiveInt, field_validator, model_validator

from equipnet.connection.address import Address
from equipnet.connection.config import ConnectionSection, FaultSection, ListenText, RetrySection
from equipnet.dcs.simulator import DcssFault, DcssSimulator, Place
from equipnet.interfaces import IConnection, INode


class DcssFaultSection(FaultSection):
    """
    A ``fault`` table: what a simulated dcss does wrong, as `equipnet.dcs.simulator.DcssFault` says.

    Parameters
    ----------
    on, host, silence, twice, garbage, split, stall, close, reset
        As there.
    count
        With how many messages; with all where nothing is given.
    """

    fault_class = DcssFault
    on: str = ""
    host: str = ""
    silence: bool = False
    twice: bool = False
    garbage: bool = False
    split: int | None = None
    stall: bool = False
    close: Place | None = None
    reset: Place | None = None


class SimulatedDcssSection(ConnectionSection):
    """
    A ``[connections.NAME]`` table of kind ``simulated-dcss``.

    Its keys are the parameters of `equipnet.dcs.simulator.DcssSimulator`, with its defaults.

    Parameters
    ----------
    database
        The ``database.dat`` file; a relative name starts where the configuration file stands.
    listen
        Where hardware servers connect.
    gui
        Where GUIs connect.
    """

    kind: Literal["simulated-dcss"] = "simulated-dcss"
    database: Path
    listen: ListenText
    gui: ListenText
    staff: bool = True
    location: Literal["LOCAL", "REMOTE", "HUTCH"] = "LOCAL"
    check_address: bool = False
    max_connections: PositiveInt = 100
    allowed: tuple[IPvAnyNetwork, ...] = ()
    fault: DcssFaultSection | None = None
    retry: RetrySection = RetrySection()

    @field_validator("listen", "gui")
    @classmethod
    def _is_plain(cls, address: Address) -> Address:
        if address.scheme not in ("tcp", "unix"):
            raise ValueError(f"DCS is simulated over plain TCP only, not over {address.scheme}")
        return address

    @model_validator(mode="after")
    def _has_two_ports(self) -> SimulatedDcssSection:
        if self.listen == self.gui and self.listen.port != 0:
            raise ValueError(f"hardware servers and GUIs cannot both connect to {self.gui}")
        return self

    def listens_on(self) -> tuple[Address, ...]:
        return (self.listen, self.gui)

    def build(self, name: str, node: INode, folder: Path, reactor: Any) -> IConnection:
        simulator = DcssSimulator(
            folder / self.database,
            self.listen,
            gui=self.gui,
            staff=self.staff,
            location=self.location,
            check_address=self.check_address,
            name=name,
            max_connections=self.max_connections,
            allowed=map(str, self.allowed),
            retry=self.retry.policy(),
            reactor=reactor,
        )
        if self.fault is not None:
            simulator.inject(self.fault.fault(), self.fault.count)
        return simulator
