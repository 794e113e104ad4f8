"""The section of a configuration file for a model that finds things in images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from equipnet.http.config import HttpSection
from equipnet.interfaces import IConnection, INode
from equipnet.prediction.automl import AutoMLModel


class AutoMLSection(HttpSection):
    """
    A ``[connections.NAME]`` table of kind ``automl``; beside those of `equipnet.http.config.HttpSection` it has keys.

    Parameters
    ----------
    model, max_boxes
        As `AutoMLModel` says.
    """

    kind: Literal["automl"]
    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] = "default"
    max_boxes: PositiveInt = 10

    def build(self, name: str, node: INode, folder: Path, reactor: Any) -> IConnection:
        return AutoMLModel(
            self.url,
            name=name,
            model=self.model,
            max_boxes=self.max_boxes,
            reactor=reactor,
            **self.settings(folder),
        )
