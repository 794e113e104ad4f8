"""Images of cameras: a receiver for those that cameras post, an Axis camera, and a simulated one."""

from equipnet.imaging.jpeg import Header, NotAnImage, read_header
from equipnet.imaging.receiver import JpegReceiver, ReceivedImage
from equipnet.imaging.storage import Retention
from equipnet.imaging.subscription import Subscription

__all__ = [
    "Header",
    "JpegReceiver",
    "NotAnImage",
    "ReceivedImage",
    "Retention",
    "Subscription",
    "read_header",
]
