"""DCS: a hardware server (DHS) for a beamline's dcss, and a simulated dcss."""

from equipnet.dcs.device import (
    Device,
    Encoder,
    IonChamber,
    Motor,
    MotorConfiguration,
    ObjectDevice,
    PseudoMotor,
    Shutter,
    StringDevice,
)
from equipnet.dcs.message import GenericMessage, Message, parse_message
from equipnet.dcs.operation import Aborted, OperationFailed, Run, on, operation
from equipnet.dcs.service import DhsConnection, HardwareServer
from equipnet.dcs.simulator import AbnormalCompletion, DcssFault, DcssSimulator

__all__ = [
    "AbnormalCompletion",
    "Aborted",
    "DcssFault",
    "DcssSimulator",
    "Device",
    "DhsConnection",
    "Encoder",
    "GenericMessage",
    "HardwareServer",
    "IonChamber",
    "Message",
    "Motor",
    "MotorConfiguration",
    "ObjectDevice",
    "OperationFailed",
    "PseudoMotor",
    "Run",
    "Shutter",
    "StringDevice",
    "on",
    "operation",
    "parse_message",
]
