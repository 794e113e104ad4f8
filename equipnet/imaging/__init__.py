"""Images of cameras: a receiver for those that cameras post, an Axis camera, and a simulated one."""

from equipnet.imaging.axis import AxisCamera, Frame, Frames
from equipnet.imaging.drawing import LoopDrawing
from equipnet.imaging.image import ReceivedImage
from equipnet.imaging.jpeg import Header, NotAnImage, read_header
from equipnet.imaging.receiver import JpegReceiver
from equipnet.imaging.simulator import AxisFault, SimulatedAxis
from equipnet.imaging.storage import Retention
from equipnet.imaging.subscription import Subscription

__all__ = [
    "AxisCamera",
    "AxisFault",
    "Frame",
    "Frames",
    "Header",
    "JpegReceiver",
    "LoopDrawing",
    "NotAnImage",
    "ReceivedImage",
    "Retention",
    "SimulatedAxis",
    "Subscription",
    "read_header",
]
