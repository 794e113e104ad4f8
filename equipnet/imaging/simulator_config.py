"""The ``simulated-axis`` section of a configuration file."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import SecretStr

from equipnet.http.simulator_config import HttpFaultSection, SimulatedServerSection
from equipnet.imaging.drawing import DEFAULT_COMPRESSION, DEFAULT_SIZE
from equipnet.imaging.simulator import AxisFault, On, SimulatedAxis


class AxisFaultSection(HttpFaultSection):
    """
    A ``fault`` table: what a simulated camera does wrong, as `equipnet.imaging.simulator.AxisFault` says.

    Parameters
    ----------
    on, delay, status, html, truncate, endless, close
        As there.
    count
        With how many images; with all where nothing is given.
    """

    fault_class = AxisFault
    on: On = ""
    html: bool = False
    truncate: bool = False
    endless: bool = False


class SimulatedAxisSection(SimulatedServerSection):
    """
    A ``[connections.NAME]`` table of kind ``simulated-axis``.

    Its keys are the parameters of `equipnet.imaging.simulator.SimulatedAxis`, with its defaults.

    Parameters
    ----------
    resolution
        Width and height of the images.
    """

    kind: Literal["simulated-axis"] = "simulated-axis"
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
    fault: AxisFaultSection | None = None

    def simulator(self, **settings: Any) -> SimulatedAxis:
        return SimulatedAxis(
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
            **settings,
        )
