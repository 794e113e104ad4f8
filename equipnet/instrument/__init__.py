"""Instruments on plain sockets: commands and replies of text or binary blocks."""

from equipnet.instrument.ending import Block, Datagram, Ending, IdleGap, LengthPrefix, Prompt, Regex, Size, Terminator
from equipnet.instrument.service import Instrument, Resync

__all__ = [
    "Block",
    "Datagram",
    "Ending",
    "IdleGap",
    "Instrument",
    "LengthPrefix",
    "Prompt",
    "Regex",
    "Resync",
    "Size",
    "Terminator",
]
