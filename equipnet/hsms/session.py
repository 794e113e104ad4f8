"""
The rules of HSMS (SEMI E37 and E37.1): the states, and what each side owes the other in each of them.

The tables are the law. `MOVES` is the diagram of E37. `GENERIC`, `STRICT_PASSIVE` and `STRICT_ACTIVE` say for each
state and each sort of message what is to be done: as the generic services of E37 have it, which answer what is out of
place, or as the single-session standard E37.1 has it, which closes the connection. All of them are tested whole, and
the documentation shows them.
"""

from __future__ import annotations

from enum import Enum

from equipnet.errors import EquipmentConnectionError, LocalProtocolError
from equipnet.hsms.message import DeselectStatus, Header, RejectReason, SelectStatus


class HsmsState(Enum):
    """Where one HSMS conversation stands."""

    #: There is no TCP connection.
    NOT_CONNECTED = "not connected"
    #: There is a TCP connection; control messages only.
    NOT_SELECTED = "not selected"
    #: Data messages can be exchanged.
    SELECTED = "selected"


class HsmsEvent(Enum):
    """What happens to it."""

    #: The TCP connection is there.
    CONNECT = "connect"
    #: A Select.req was answered with status 0, by either side.
    SELECT = "select"
    #: A Deselect.req was answered with status 0, by either side.
    DESELECT = "deselect"
    #: The TCP connection is being closed, or is gone; also what follows a Separate.req.
    DISCONNECT = "disconnect"


MOVES: dict[HsmsState, dict[HsmsEvent, HsmsState]] = {
    HsmsState.NOT_CONNECTED: {
        HsmsEvent.CONNECT: HsmsState.NOT_SELECTED,
    },
    HsmsState.NOT_SELECTED: {
        HsmsEvent.SELECT: HsmsState.SELECTED,
        HsmsEvent.DISCONNECT: HsmsState.NOT_CONNECTED,
    },
    HsmsState.SELECTED: {
        HsmsEvent.DESELECT: HsmsState.NOT_SELECTED,
        HsmsEvent.DISCONNECT: HsmsState.NOT_CONNECTED,
    },
}


class Arrival(Enum):
    """The sorts of messages that can come, as far as the rules tell them apart."""

    DATA = "data message"
    SELECT_REQ = "Select.req"
    SELECT_RSP = "Select.rsp to our Select.req"
    DESELECT_REQ = "Deselect.req"
    DESELECT_RSP = "Deselect.rsp to our Deselect.req"
    LINKTEST_REQ = "Linktest.req"
    LINKTEST_RSP = "Linktest.rsp to our Linktest.req"
    REJECT_REQ = "Reject.req"
    SEPARATE_REQ = "Separate.req"
    #: A Select.rsp, Deselect.rsp or Linktest.rsp that answers nothing that is open.
    ORPHAN_RSP = "response to nothing"
    #: SType 8, 10 or higher.
    OTHER_STYPE = "unknown SType"
    #: Anything but SECS-II.
    OTHER_PTYPE = "unknown PType"
    #: A control message that has more than a header.
    LONG_CONTROL = "control message with text"


class Action(Enum):
    """What is to be done with a message."""

    DELIVER = "deliver"
    #: Become selected, unless the service has a reason against it; answer Select.rsp with its status.
    SELECT = "answer Select.rsp, be selected if its status is 0"
    REFUSE_SELECT = "answer Select.rsp 1 (already active)"
    DESELECT = "answer Deselect.rsp 0, be not selected"
    REFUSE_DESELECT = "answer Deselect.rsp 1 (not established)"
    ANSWER_LINKTEST = "answer Linktest.rsp"
    #: It ends the request of ours that it belongs to; a Reject.req that belongs to none is logged.
    COMPLETE = "end our request"
    REJECT_STYPE = "answer Reject.req 1 (SType not supported)"
    REJECT_PTYPE = "answer Reject.req 2 (PType not supported)"
    REJECT_NOT_OPEN = "answer Reject.req 3 (transaction not open)"
    REJECT_NOT_SELECTED = "answer Reject.req 4 (not selected)"
    IGNORE = "ignore"
    #: The other side has separated: close the TCP connection, without an answer.
    END = "end, close TCP"
    #: It is an error: close the TCP connection.
    CLOSE = "close TCP"


#: One of the tables of what is to be done.
Rules = dict[HsmsState, dict[Arrival, Action]]

_ALWAYS = {
    Arrival.SELECT_RSP: Action.COMPLETE,
    Arrival.DESELECT_RSP: Action.COMPLETE,
    Arrival.LINKTEST_REQ: Action.ANSWER_LINKTEST,
    Arrival.LINKTEST_RSP: Action.COMPLETE,
    Arrival.REJECT_REQ: Action.COMPLETE,
    Arrival.ORPHAN_RSP: Action.REJECT_NOT_OPEN,
    Arrival.OTHER_STYPE: Action.REJECT_STYPE,
    Arrival.OTHER_PTYPE: Action.REJECT_PTYPE,
    Arrival.LONG_CONTROL: Action.REJECT_STYPE,
}

#: The generic services of E37: what is out of place is answered, and the connection stays.
GENERIC: Rules = {
    HsmsState.NOT_SELECTED: {
        Arrival.DATA: Action.REJECT_NOT_SELECTED,
        Arrival.SELECT_REQ: Action.SELECT,
        Arrival.DESELECT_REQ: Action.REFUSE_DESELECT,
        Arrival.SEPARATE_REQ: Action.IGNORE,
        **_ALWAYS,
    },
    HsmsState.SELECTED: {
        Arrival.DATA: Action.DELIVER,
        Arrival.SELECT_REQ: Action.REFUSE_SELECT,
        Arrival.DESELECT_REQ: Action.DESELECT,
        Arrival.SEPARATE_REQ: Action.END,
        **_ALWAYS,
    },
}

_STRICT_SELECTED = {
    **GENERIC[HsmsState.SELECTED],
    Arrival.DESELECT_REQ: Action.REJECT_STYPE,
    Arrival.OTHER_STYPE: Action.CLOSE,
    Arrival.OTHER_PTYPE: Action.CLOSE,
    Arrival.LONG_CONTROL: Action.CLOSE,
}

#: E37.1 at the side that listens: until it is selected there may be nothing but a Select.req.
STRICT_PASSIVE: Rules = {
    HsmsState.NOT_SELECTED: {
        **dict.fromkeys(Arrival, Action.CLOSE),
        Arrival.SELECT_REQ: Action.SELECT,
    },
    HsmsState.SELECTED: _STRICT_SELECTED,
}

#: E37.1 at the side that connects: only this side selects.
STRICT_ACTIVE: Rules = {
    HsmsState.NOT_SELECTED: {
        **dict.fromkeys(Arrival, Action.CLOSE),
        Arrival.SELECT_RSP: Action.COMPLETE,
        Arrival.REJECT_REQ: Action.COMPLETE,
    },
    HsmsState.SELECTED: {**_STRICT_SELECTED, Arrival.SELECT_REQ: Action.REJECT_STYPE},
}


class Session:
    """
    The state of one conversation, moved by the table, and the rules that hold for it.

    Parameters
    ----------
    active
        Whether ours is the side that connects.
    strict
        Whether the rules are those of E37.1.
    """

    __slots__ = ("rules", "state")

    def __init__(self, active: bool, strict: bool) -> None:
        self.state = HsmsState.NOT_CONNECTED
        self.rules = (STRICT_ACTIVE if active else STRICT_PASSIVE) if strict else GENERIC

    def move(self, event: HsmsEvent) -> None:
        """
        Make the move that the table lists.

        Raises
        ------
        LocalProtocolError
            When it lists none; the state is what it was.
        """
        new = MOVES[self.state].get(event)
        if new is None:
            raise LocalProtocolError(f"{event.value!r} is not possible while {self.state.value}")
        self.state = new

    def action_for(self, arrival: Arrival) -> Action:
        """Say what is to be done with a message that came in the present state; nothing once it is not connected."""
        rules = self.rules.get(self.state)
        return Action.IGNORE if rules is None else rules[arrival]


class SelectRejected(EquipmentConnectionError):
    """The other side does not want to be selected; ``status`` says why (`SelectStatus`)."""

    def __init__(self, status: int) -> None:
        super().__init__(f"Select.req was answered with status {status}{_meaning(SelectStatus, status)}")
        self.status = status


class DeselectRejected(EquipmentConnectionError):
    """The other side does not want to be deselected; ``status`` says why (`DeselectStatus`)."""

    def __init__(self, status: int) -> None:
        super().__init__(f"Deselect.req was answered with status {status}{_meaning(DeselectStatus, status)}")
        self.status = status


class MessageRejected(EquipmentConnectionError):
    """The other side answered one of our messages with a Reject.req; ``reason`` says why (`RejectReason`)."""

    def __init__(self, what: str, reason: int) -> None:
        super().__init__(f"{what} was rejected for reason {reason}{_meaning(RejectReason, reason)}")
        self.reason = reason


class TransactionAborted(EquipmentConnectionError):
    """The other side ended the transaction without a reply, by function 0."""


class MessageRefused(EquipmentConnectionError):
    """
    The equipment answered one of our primaries with an error message of stream 9.

    ``function`` says which: 1 unknown device id, 3 unknown stream, 5 unknown function, 7 illegal data, 11 data too
    long.
    """

    MEANINGS = {
        1: "unrecognized device id",
        3: "unrecognized stream",
        5: "unrecognized function",
        7: "illegal data",
        9: "transaction timer",
        11: "data too long",
    }

    def __init__(self, header: Header, function: int) -> None:
        meaning = self.MEANINGS.get(function, "an error")
        super().__init__(f"S{header.stream}F{header.function} was answered with S9F{function}: {meaning}")
        self.header = header
        self.function = function


def _meaning(meanings: type[SelectStatus] | type[DeselectStatus] | type[RejectReason], number: int) -> str:
    try:
        return f" ({meanings(number).name.lower().replace('_', ' ')})"
    except ValueError:
        return ""
