"""The `equipnet` command of `twistd`. Nothing of `equipnet` is imported until that command is used."""

from twisted.application.service import ServiceMaker

equipnet = ServiceMaker(
    "equipnet",
    "equipnet.daemon.tap",
    "one configuration file becomes one tree of equipment connections",
    "equipnet",
)
