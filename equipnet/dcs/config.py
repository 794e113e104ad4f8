"""The ``dhs`` section of a configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from equipnet.connection.address import Address
from equipnet.connection.config import AddressText, ConnectionSection, RetrySection, find_object
from equipnet.dcs.protocol import DEFAULT_MESSAGE_LIMIT, DEFAULT_QUEUE_LIMIT
from equipnet.dcs.service import DEFAULT_ABORT_TIME, DEFAULT_GRACE, DhsConnection, HardwareServer
from equipnet.interfaces import IConnection, INode


class DhsSection(ConnectionSection):
    """
    A ``[connections.NAME]`` table of kind ``dhs``.

    Parameters
    ----------
    address
        Where dcss listens for hardware servers: ``"tcp:dcss.example.org:14242"``.
    application
        ``"package.module:Class"``: the `equipnet.dcs.HardwareServer` of the author.
    options
        What it is made with.
    dhs_name
        Who we are, as in dcss's database; what the application says where nothing is said.
    protocol
        What dcss speaks with this host, as its database says.
    on_shutdown
        What becomes of what runs when the daemon ends: it is completed as aborted.
    grace
        Seconds that the end may take; a node itself gives two by default.
    abort_time, message_limit, queue_limit, connect_timeout, local_host
        As `equipnet.dcs.DhsConnection` says.
    """

    kind: Literal["dhs"] = "dhs"
    address: AddressText
    application: str
    options: dict[str, Any] = {}
    dhs_name: str | None = Field(None, pattern=r"^\S{1,39}$")
    protocol: Literal[1, 2] = 2
    on_shutdown: Literal["complete-aborted"] = "complete-aborted"
    grace: PositiveFloat = DEFAULT_GRACE
    abort_time: PositiveFloat = DEFAULT_ABORT_TIME
    message_limit: int = Field(DEFAULT_MESSAGE_LIMIT, ge=200)
    queue_limit: PositiveInt = DEFAULT_QUEUE_LIMIT
    connect_timeout: PositiveFloat = 10.0
    local_host: str | None = None
    retry: RetrySection = RetrySection()

    @field_validator("address")
    @classmethod
    def _is_a_stream(cls, address: Address) -> Address:
        if address.scheme == "udp":
            raise ValueError("DCS is not spoken over UDP")
        return address

    def build(self, name: str, node: INode, folder: Path, reactor: Any) -> IConnection:
        application = find_object(self.application, folder)
        if not (isinstance(application, type) and issubclass(application, HardwareServer)):
            raise ValueError(f"{self.application!r} is no subclass of equipnet.dcs.HardwareServer")
        return DhsConnection(
            self.address,
            application(**self.options),
            dhs_name=self.dhs_name,
            protocol=self.protocol,
            node=node,
            abort_time=self.abort_time,
            grace=self.grace,
            message_limit=self.message_limit,
            queue_limit=self.queue_limit,
            name=name,
            retry=self.retry.policy(),
            connect_timeout=self.connect_timeout,
            local_host=self.local_host,
            reactor=reactor,
        )
