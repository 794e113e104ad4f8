"""The section of a configuration file for an Axis camera."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import PositiveInt

from equipnet.http.config import HttpSection
from equipnet.imaging.axis import AxisCamera
from equipnet.interfaces import IConnection, INode


class AxisSection(HttpSection):
    """
    A ``[connections.NAME]`` table of kind ``axis``; beside those of `equipnet.http.config.HttpSection` it has a key.

    Parameters
    ----------
    camera
        Which of its views.
    """

    kind: Literal["axis"]
    camera: PositiveInt = 1

    def build(self, name: str, node: INode, folder: Path, reactor: Any) -> IConnection:
        return AxisCamera(self.url, name=name, camera=self.camera, reactor=reactor, **self.settings(folder))
