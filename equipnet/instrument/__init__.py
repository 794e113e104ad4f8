"""Instruments on plain sockets: commands and replies of text or binary blocks."""

from equipnet.instrument.ending import Block, Datagram, Ending, IdleGap, LengthPrefix, Prompt, Regex, Size, Terminator
from equipnet.instrument.fault import Fault
from equipnet.instrument.service import Instrument, Resync
from equipnet.instrument.simulator import InstrumentSimulator

__all__ = [
    "Block",
    "Datagram",
    "Ending",
    "Fault",
    "IdleGap",
    "Instrument",
    "InstrumentSimulator",
    "LengthPrefix",
    "Prompt",
    "Regex",
    "Resync",
    "Size",
    "Terminator",
]
