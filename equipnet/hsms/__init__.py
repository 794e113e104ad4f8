"""HSMS (SEMI E37): SECS-II messages over TCP, active and passive."""

from equipnet.hsms.message import Header, ReceivedMessage
from equipnet.hsms.service import IN_MEMORY, Delegate, HsmsActiveConnection, HsmsPassiveConnection
from equipnet.hsms.session import (
    DeselectRejected,
    MessageRefused,
    MessageRejected,
    SelectRejected,
    TransactionAborted,
)
from equipnet.hsms.settings import HsmsSettings, Timers
from equipnet.hsms.simulator import EquipmentFault, EquipmentSimulator, Variable

__all__ = [
    "IN_MEMORY",
    "Delegate",
    "DeselectRejected",
    "EquipmentFault",
    "EquipmentSimulator",
    "Header",
    "HsmsActiveConnection",
    "HsmsPassiveConnection",
    "HsmsSettings",
    "MessageRefused",
    "MessageRejected",
    "ReceivedMessage",
    "SelectRejected",
    "Timers",
    "TransactionAborted",
    "Variable",
]
