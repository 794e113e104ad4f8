"""What can be set for an HSMS conversation: the timers of SEMI E37, the role, the limits."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from equipnet.hsms.message import HEADER_SIZE, LENGTH_LIMIT

#: The longest message that is taken unless told otherwise.
DEFAULT_MESSAGE_LIMIT = 16 * 1024 * 1024

ROLES = ("equipment", "host")


@dataclass(frozen=True)
class Timers:
    """
    The timers of E37, in seconds; in brackets the range that the standard allows.

    Parameters
    ----------
    t3
        How long a reply may take (1 to 120). Only the transaction ends when it does not come.
    t5
        How long after the end of one attempt to connect there is no other (1 to 240).
    t6
        How long the answer to a control message may take (1 to 240). Then the connection is closed.
    t7
        How long a connection may be without being selected (1 to 240). Then it is closed.
    t8
        How long a message may pause between two of its bytes (1 to 120). Then the connection is closed.
    linktest
        How often the other side is asked whether it is there; None for never, as E37 has it.
    """

    t3: float = 45.0
    t5: float = 10.0
    t6: float = 5.0
    t7: float = 10.0
    t8: float = 5.0
    linktest: float | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            seconds = getattr(self, each.name)
            if seconds is None and each.name == "linktest":
                continue
            if not 0 < seconds < float("inf"):
                raise ValueError(f"{each.name} is {seconds}, not above 0 seconds")


@dataclass(frozen=True)
class HsmsSettings:
    """
    What holds for one conversation.

    Parameters
    ----------
    session_id
        The session id of data messages, which is the device id in HSMS-SS; 0 to 32767.
    role
        ``"host"`` or ``"equipment"``. Equipment answers what it cannot handle with messages of stream 9; a host answers
        with function 0 or not at all.
    strict
        Whether what is out of place closes the connection, as E37.1 has it, or is answered, as E37 has it.
    timers
        The timers.
    linktest_failures
        After how many linktests in a row without an answer the connection is closed. E37.1 says the first.
    linktest_when_idle
        Whether a linktest is only made when nothing has come for its period.
    message_limit
        How many bytes a message may have that comes, header included.
    open_limit
        How many transactions of ours may be open, and how many primaries of the other side may be in work before
        nothing more is read.
    queue_limit
        How many bytes may wait until the other side takes them. A message is never refused when nothing waits.
    encoding
        In which `equipnet.secs.A` items that come are read.
    max_depth
        How many lists may be in one another in a message that comes.
    """

    session_id: int = 0
    role: str = "host"
    strict: bool = False
    timers: Timers = field(default_factory=Timers)
    linktest_failures: int = 1
    linktest_when_idle: bool = False
    message_limit: int = DEFAULT_MESSAGE_LIMIT
    open_limit: int = 1000
    queue_limit: int = 64 * 1024 * 1024
    encoding: str = "ascii"
    max_depth: int = 64

    def __post_init__(self) -> None:
        if not 0 <= self.session_id <= 0x7FFF:
            raise ValueError(f"session_id is {self.session_id}, not 0 to 32767")
        if self.role not in ROLES:
            raise ValueError(f"role is {self.role!r}, not one of {', '.join(ROLES)}")
        if not HEADER_SIZE <= self.message_limit <= LENGTH_LIMIT:
            raise ValueError(f"message_limit is {self.message_limit}, not {HEADER_SIZE} to {LENGTH_LIMIT}")
        for name in ("linktest_failures", "open_limit", "queue_limit", "max_depth"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, less than 1")

    @property
    def is_equipment(self) -> bool:
        """Whether the role is that of the equipment."""
        return self.role == "equipment"
