"""The ``communicator`` and ``simulated-operation-manager`` sections of a configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import IPvAnyNetwork, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from equipnet.communicator.dialect import DIALECTS
from equipnet.communicator.message import Source
from equipnet.communicator.service import ACK_TIMEOUT, MARGIN, Communicator
from equipnet.communicator.simulator import OperationManagerSimulator
from equipnet.connection.address import Address
from equipnet.connection.config import AddressText, ConnectionSection, ListenText, RetrySection, TLSSection
from equipnet.interfaces import IConnection, INode


class PairSection(ConnectionSection):
    """What both kinds can say; the keys are the parameters of `equipnet.communicator.pair.ClientServerPair`."""

    dialect: Literal["v0.9", "v0.13", "json"] = "v0.9"
    max_frame_size: PositiveInt = 1 << 16
    queue_limit: PositiveInt = 1000
    connect_timeout: PositiveFloat = 10.0
    allowed: tuple[IPvAnyNetwork, ...] = ()
    retry: RetrySection | None = None
    tls: TLSSection | None = None

    def pair_settings(self, folder: Path) -> dict[str, Any]:
        """Give the arguments that follow from these keys."""
        return {
            "dialect": self.dialect,
            "max_frame_size": self.max_frame_size,
            "queue_limit": self.queue_limit,
            "connect_timeout": self.connect_timeout,
            "allowed": tuple(map(str, self.allowed)),
            "retry": None if self.retry is None else self.retry.policy(),
            "tls": None if self.tls is None else self.tls.options(folder),
        }


class CommunicatorSection(PairSection):
    """
    A ``[connections.NAME]`` table of kind ``communicator``.

    Parameters
    ----------
    address
        Where we connect to, and write.
    listen
        Where the other side connects to, and we read. In the dialect ``"json"`` there is ``address`` or ``listen``.
    reads
        ``"replies"`` for who sends commands, ``"commands"`` for the other side.
    source
        Who we are: ``"CSC"``, ``"EUI"``, ``"HHD"`` or ``"PXI"``.
    ack_timeout, margin
        As `equipnet.communicator.Communicator` says.
    """

    kind: Literal["communicator"] = "communicator"
    address: AddressText | None = None
    listen: ListenText | None = None
    reads: Literal["replies", "commands"] = "replies"
    source: Literal["NONE", "CSC", "EUI", "HHD", "PXI"] = "CSC"
    ack_timeout: PositiveFloat = ACK_TIMEOUT
    margin: NonNegativeFloat = MARGIN

    @model_validator(mode="after")
    def _has_its_sockets(self) -> CommunicatorSection:
        one = DIALECTS[self.dialect].one_socket
        for key, given, wanted in (
            ("address", self.address, not one or self.reads == "replies"),
            ("listen", self.listen, not one or self.reads == "commands"),
        ):
            if wanted is not (given is not None):
                raise ValueError(
                    f"{'needs' if wanted else 'has no'} {key!r} in the dialect {self.dialect!r} where it reads "
                    f"{self.reads}"
                )
        return self

    def listens_on(self) -> tuple[Address, ...]:
        return () if self.listen is None else (self.listen,)

    def build(self, name: str, node: INode, folder: Path, reactor: Any) -> IConnection:
        return Communicator(
            name,
            self.address,
            0,
            self.listen,
            0,
            read_replies=self.reads == "replies",
            connect=False,
            source=Source[self.source],
            ack_timeout=self.ack_timeout,
            margin=self.margin,
            reactor=reactor,
            **self.pair_settings(folder),
        )


class SimulatedOperationManagerSection(PairSection):
    """
    A ``[connections.NAME]`` table of kind ``simulated-operation-manager``.

    Parameters
    ----------
    listen
        Where it takes commands.
    address
        Where it sends replies; the port after that of ``listen`` on this host where nothing is given.
    """

    kind: Literal["simulated-operation-manager"] = "simulated-operation-manager"
    listen: ListenText
    address: AddressText | None = None

    @model_validator(mode="after")
    def _knows_where_replies_go(self) -> SimulatedOperationManagerSection:
        one = DIALECTS[self.dialect].one_socket
        if one and self.address is not None:
            raise ValueError("has no 'address' in the dialect 'json': replies go where commands come from")
        if not one and self.address is None and not 0 < self.listen.port < 65535:
            raise ValueError("needs an 'address', since the port after that of 'listen' is not known")
        return self

    def listens_on(self) -> tuple[Address, ...]:
        return (self.listen,)

    def build(self, name: str, node: INode, folder: Path, reactor: Any) -> IConnection:
        return OperationManagerSimulator(
            self.listen, self.address, name=name, reactor=reactor, **self.pair_settings(folder)
        )
