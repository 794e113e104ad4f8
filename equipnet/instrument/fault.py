"""What a simulated instrument can do wrong on request."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from random import Random
from typing import Literal

#: Where a reply is when its connection is ended: sent whole, or sent to the half of its bytes.
Place = Literal["after", "middle"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """
    What a simulator does wrong with one command, or with one new connection.

    Several can go together, such as a delay and a reset; they happen in the order in which they stand here.

    Parameters
    ----------
    silence
        The command is read and thrown away. Alone.
    refuse
        A new connection is closed as soon as it is there; connections that exist are left alone. Alone.
    delay
        Seconds until the reply leaves. The client's next command is acted on after that, as by an instrument that is
        busy; so the order of the replies stays.
    drop
        The command is acted on, but its reply is not sent.
    garble
        So many bits of the reply, its terminator included, are inverted.
    seed
        Decides which bits: with the same seed, the same ones of the same replies.
    merge
        The reply is held back until there are so many, and these leave in one segment (or datagram). Those that wait
        when the fault is over leave with the next reply, or at once when the faults are cleared.
    split
        The reply leaves in pieces of so many bytes, one turn of the reactor apart.
    close
        The connection is closed (TCP: FIN) ``"after"`` the reply or in its ``"middle"``, after half of its bytes.
    reset
        The connection is torn down (TCP: RST), likewise. A long reply may lose its end: what the system has not sent by
        then is dropped.

    Raises
    ------
    ValueError
        When there is no fault in it, when a number makes no sense, or when two of them exclude each other.
    """

    silence: bool = False
    refuse: bool = False
    delay: float = 0.0
    drop: bool = False
    garble: int | None = None
    seed: int = 0
    merge: int | None = None
    split: int | None = None
    close: Place | None = None
    reset: Place | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.delay) and self.delay >= 0):
            raise ValueError(f"delay is {self.delay!r}, not a number of seconds")
        for name, number, least in (("garble", self.garble, 1), ("merge", self.merge, 2), ("split", self.split, 1)):
            if number is not None and number < least:
                raise ValueError(f"{name} is {number!r}, not a whole number of at least {least}")
        for name, place in (("close", self.close), ("reset", self.reset)):
            if place not in (None, "after", "middle"):
                raise ValueError(f"{name} is {place!r}, not 'after' or 'middle'")
        given = [field.name for field in fields(self) if field.name != "seed" and getattr(self, field.name)]
        if not given:
            raise ValueError("there is no fault in it")
        if len(given) > 1 and (self.silence or self.refuse):
            raise ValueError(f"{given[0]} goes with nothing else, not with {given[1]}")
        for one, other in _EXCLUSIVE:
            if getattr(self, one) and getattr(self, other):
                raise ValueError(f"{one} does not go with {other}")
        if self.drop and "middle" in (self.close, self.reset):
            raise ValueError("a reply that is dropped has no middle")

    def damage(self, reply: bytes, draw: Random) -> bytes:
        """Give what is left of a reply: dropped, garbled or cut off."""
        if self.drop:
            return b""
        if self.garble is not None and reply:
            damaged = bytearray(reply)
            bits = 8 * len(reply)
            for bit in draw.sample(range(bits), min(self.garble, bits)):
                damaged[bit >> 3] ^= 1 << (bit & 7)
            reply = bytes(damaged)
        if "middle" in (self.close, self.reset):
            return reply[: len(reply) // 2]
        return reply


_EXCLUSIVE = (
    ("close", "reset"),
    ("drop", "garble"),
    ("drop", "merge"),
    ("drop", "split"),
    ("merge", "split"),
    ("merge", "close"),
    ("merge", "reset"),
)


class Injected:
    """
    A fault, and whose commands it concerns.

    Parameters
    ----------
    fault
        What happens.
    client
        A protocol or the text of its peer; None for everybody's commands.

    Attributes
    ----------
    draw
        Where the fault takes its chance from.
    """

    __slots__ = ("client", "draw", "fault")

    def __init__(self, fault: Fault, client: object = None) -> None:
        self.fault = fault
        self.client = client
        self.draw = Random(fault.seed)
