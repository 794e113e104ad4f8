"""The ``simulated-axis`` section of a configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, IPvAnyNetwork, PositiveInt, SecretStr, model_validator
from twisted.internet.task import Clock

from equipnet.connection.address import Address
from equipnet.connection.config import ConnectionSection, ListenText, RetrySection, Section, TLSSection, check_port
from equipnet.imaging.drawing import DEFAULT_COMPRESSION, DEFAULT_SIZE
from equipnet.imaging.simulator import AxisFault, On, SimulatedAxis
from equipnet.interfaces import IConnection, INode


class AxisFaultSection(Section):
    """
    A ``fault`` table: what a simulated camera does wrong, as `equipnet.imaging.simulator.AxisFault` says.

    Parameters
    ----------
    on, delay, status, html, truncate, endless, close
        As there.
    count
        With how many images; with all where nothing is given.
    """

    on: On = ""
    delay: float = 0.0
    status: int = 0
    html: bool = False
    truncate: bool = False
    endless: bool = False
    close: bool = False
    count: PositiveInt | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> AxisFaultSection:
        self.fault()
        return self

    def fault(self) -> AxisFault:
        """Give the fault that the table describes."""
        return AxisFault(**self.model_dump(exclude={"count"}))


class SimulatedAxisSection(ConnectionSection):
    """
    A ``[connections.NAME]`` table of kind ``simulated-axis``.

    Its keys are the parameters of `equipnet.imaging.simulator.SimulatedAxis`, with its defaults.

    Parameters
    ----------
    listen
        Where images are asked for.
    resolution
        Width and height of the images.
    """

    kind: Literal["simulated-axis"] = "simulated-axis"
    listen: ListenText
    seed: int = 0
    resolution: tuple[int, int] = DEFAULT_SIZE
    compression: int = DEFAULT_COMPRESSION
    username: str | None = None
    password: SecretStr | None = None
    algorithms: tuple[str, ...] = ("SHA-256", "MD5")
    start_angle: float = 0.0
    speed: float = 0.0
    step: float = 0.0
    post_to: str | None = None
    post_rate: float = 10.0
    post_count: int | None = None
    post_limit: int | None = None
    post_timeout: float = 5.0
    max_connections: PositiveInt = 100
    idle_timeout: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    allowed: tuple[IPvAnyNetwork, ...] = ()
    fault: AxisFaultSection | None = None
    retry: RetrySection = RetrySection()
    tls: TLSSection | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> SimulatedAxisSection:
        check_port(self.listen, self.tls)
        self._simulator(reactor=Clock())
        return self

    def listens_on(self) -> tuple[Address, ...]:
        return (self.listen,)

    def build(self, name: str, node: INode, folder: Path, reactor: Any) -> IConnection:
        tls = None if self.tls is None else self.tls.options(folder)
        return self._simulator(name=name, tls=tls, reactor=reactor)

    def _simulator(self, **others: Any) -> SimulatedAxis:
        simulator = SimulatedAxis(
            self.listen,
            seed=self.seed,
            resolution=self.resolution,
            compression=self.compression,
            username=self.username,
            password=None if self.password is None else self.password.get_secret_value(),
            algorithms=self.algorithms,
            start_angle=self.start_angle,
            speed=self.speed,
            step=self.step,
            post_to=self.post_to,
            post_rate=self.post_rate,
            post_count=self.post_count,
            post_limit=self.post_limit,
            post_timeout=self.post_timeout,
            max_connections=self.max_connections,
            idle_timeout=self.idle_timeout,
            allowed=map(str, self.allowed),
            retry=self.retry.policy(),
            **others,
        )
        if self.fault is not None:
            simulator.inject(self.fault.fault(), self.fault.count)
        return simulator
