"""The ``simulated-automl`` section of a configuration file."""

from __future__ import annotations

from typing import Any, Literal

from equipnet.http.simulator_config import HttpFaultSection, SimulatedServerSection
from equipnet.http.size import Size
from equipnet.prediction.simulator import AutoMLFault, SimulatedAutoML


class AutoMLFaultSection(HttpFaultSection):
    """
    A ``fault`` table: what a simulated model does wrong, as `equipnet.prediction.simulator.AutoMLFault` says.

    Parameters
    ----------
    delay, status, garbage, nothing, wrong_key, nan, partial, close
        As there.
    count
        With how many requests; with all where nothing is given.
    """

    fault_class = AutoMLFault
    garbage: bool = False
    nothing: bool = False
    wrong_key: bool = False
    nan: bool = False
    partial: bool = False


class SimulatedAutoMLSection(SimulatedServerSection):
    """
    A ``[connections.NAME]`` table of kind ``simulated-automl``.

    Its keys are the parameters of `equipnet.prediction.simulator.SimulatedAutoML`, with its defaults.
    """

    kind: Literal["simulated-automl"] = "simulated-automl"
    model: str = "default"
    max_size: Size = 20 * 2**20
    fault: AutoMLFaultSection | None = None

    def simulator(self, **settings: Any) -> SimulatedAutoML:
        return SimulatedAutoML(self.listen, model=self.model, max_size=self.max_size, **settings)
