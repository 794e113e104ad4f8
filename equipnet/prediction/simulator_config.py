"""The ``simulated-automl`` section of a configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, IPvAnyNetwork, PositiveInt, model_validator
from twisted.internet.task import Clock

from equipnet.connection.address import Address
from equipnet.connection.config import ConnectionSection, ListenText, RetrySection, Section, TLSSection, check_port
from equipnet.http.size import Size
from equipnet.interfaces import IConnection, INode
from equipnet.prediction.simulator import AutoMLFault, SimulatedAutoML


class AutoMLFaultSection(Section):
    """
    A ``fault`` table: what a simulated model does wrong, as `equipnet.prediction.simulator.AutoMLFault` says.

    Parameters
    ----------
    delay, status, garbage, nothing, wrong_key, nan, partial, close
        As there.
    count
        With how many requests; with all where nothing is given.
    """

    delay: float = 0.0
    status: int = 0
    garbage: bool = False
    nothing: bool = False
    wrong_key: bool = False
    nan: bool = False
    partial: bool = False
    close: bool = False
    count: PositiveInt | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> AutoMLFaultSection:
        self.fault()
        return self

    def fault(self) -> AutoMLFault:
        """Give the fault that the table describes."""
        return AutoMLFault(**self.model_dump(exclude={"count"}))


class SimulatedAutoMLSection(ConnectionSection):
    """
    A ``[connections.NAME]`` table of kind ``simulated-automl``.

    Its keys are the parameters of `equipnet.prediction.simulator.SimulatedAutoML`, with its defaults.

    Parameters
    ----------
    listen
        Where it is asked.
    """

    kind: Literal["simulated-automl"] = "simulated-automl"
    listen: ListenText
    model: str = "default"
    max_size: Size = 20 * 2**20
    max_connections: PositiveInt = 100
    idle_timeout: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    allowed: tuple[IPvAnyNetwork, ...] = ()
    fault: AutoMLFaultSection | None = None
    retry: RetrySection = RetrySection()
    tls: TLSSection | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> SimulatedAutoMLSection:
        check_port(self.listen, self.tls)
        self._simulator(reactor=Clock())
        return self

    def listens_on(self) -> tuple[Address, ...]:
        return (self.listen,)

    def build(self, name: str, node: INode, folder: Path, reactor: Any) -> IConnection:
        tls = None if self.tls is None else self.tls.options(folder)
        return self._simulator(name=name, tls=tls, reactor=reactor)

    def _simulator(self, **others: Any) -> SimulatedAutoML:
        simulator = SimulatedAutoML(
            self.listen,
            model=self.model,
            max_size=self.max_size,
            max_connections=self.max_connections,
            idle_timeout=self.idle_timeout,
            allowed=map(str, self.allowed),
            retry=self.retry.policy(),
            **others,
        )
        if self.fault is not None:
            simulator.inject(self.fault.fault(), self.fault.count)
        return simulator
