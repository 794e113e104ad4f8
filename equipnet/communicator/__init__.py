"""The client/server socket pair of LSST MTMount, and the protocol of Tekniker's Operation Manager on it."""

from equipnet.communicator.dialect import DIALECTS, Dialect
from equipnet.communicator.mount import Part
from equipnet.communicator.pair import ClientServerPair, ConnectionReset, HalfNotConnected, join_in_memory
from equipnet.communicator.service import Communicator
from equipnet.communicator.session import CommandFailed, CommandRejected, CommandSuperseded
from equipnet.communicator.simulator import Fault, OperationManagerSimulator

__all__ = [
    "DIALECTS",
    "ClientServerPair",
    "CommandFailed",
    "CommandRejected",
    "CommandSuperseded",
    "Communicator",
    "ConnectionReset",
    "Dialect",
    "Fault",
    "HalfNotConnected",
    "OperationManagerSimulator",
    "Part",
    "join_in_memory",
]
