"""What the sections of simulators behind HTTP have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, IPvAnyNetwork, PositiveInt, model_validator
from twisted.internet.task import Clock

from equipnet.connection.address import Address
from equipnet.connection.config import ConnectionSection, FaultSection, ListenText, RetrySection, TLSSection, check_port
from equipnet.http.simulator import IDLE_TIMEOUT, SimulatedServer
from equipnet.interfaces import IConnection, INode


class HttpFaultSection(FaultSection):
    """
    A ``fault`` table: what a simulated server does wrong, as `equipnet.http.simulator.HttpFault` says.

    Parameters
    ----------
    delay, status, close
        As there.
    """

    delay: float = 0.0
    status: int = 0
    close: bool = False


class SimulatedServerSection(ConnectionSection):
    """
    A ``[connections.NAME]`` table of a simulated server.

    Parameters
    ----------
    listen
        Where it is asked.
    max_connections, idle_timeout, allowed, fault, retry, tls
        As `equipnet.http.simulator.SimulatedServer` says.
    """

    listen: ListenText
    max_connections: PositiveInt = 100
    idle_timeout: float = Field(default=IDLE_TIMEOUT, gt=0, allow_inf_nan=False)
    allowed: tuple[IPvAnyNetwork, ...] = ()
    fault: HttpFaultSection | None = None
    retry: RetrySection = RetrySection()
    tls: TLSSection | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> SimulatedServerSection:
        check_port(self.listen, self.tls)
        self._built(reactor=Clock())
        return self

    def simulator(self, **settings: Any) -> SimulatedServer[Any]:
        """Make the simulator; ``settings`` are `equipnet.http.simulator.PortSettings`."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it simulates")

    def listens_on(self) -> tuple[Address, ...]:
        return (self.listen,)

    def build(self, name: str, node: INode, folder: Path, reactor: Any) -> IConnection:
        tls = None if self.tls is None else self.tls.options(folder)
        return self._built(name=name, tls=tls, reactor=reactor)

    def _built(self, **others: Any) -> SimulatedServer[Any]:
        simulator = self.simulator(
            max_connections=self.max_connections,
            idle_timeout=self.idle_timeout,
            allowed=map(str, self.allowed),
            retry=self.retry.policy(),
            **others,
        )
        if self.fault is not None:
            simulator.inject(self.fault.fault(), self.fault.count)
        return simulator
