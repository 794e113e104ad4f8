"""Models that look at images: an AutoML model behind HTTP, and a simulated one that really looks."""

from equipnet.prediction.automl import AutoMLModel
from equipnet.prediction.prediction import Box, Detection, Prediction
from equipnet.prediction.simulator import AutoMLFault, SimulatedAutoML
from equipnet.prediction.vision import Sighting, find_loop, read_picture

__all__ = [
    "AutoMLFault",
    "AutoMLModel",
    "Box",
    "Detection",
    "Prediction",
    "Sighting",
    "SimulatedAutoML",
    "find_loop",
    "read_picture",
]
