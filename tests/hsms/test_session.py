"""Tests of the rules of HSMS: every table as a whole."""

from __future__ import annotations

from itertools import product

from twisted.trial.unittest import SynchronousTestCase

from equipnet.errors import LocalProtocolError
from equipnet.hsms.session import (
    GENERIC,
    MOVES,
    STRICT_ACTIVE,
    STRICT_PASSIVE,
    Action,
    Arrival,
    DeselectRejected,
    HsmsEvent,
    HsmsState,
    MessageRejected,
    SelectRejected,
    Session,
)

#: The diagram of E37 again; what is not here is refused.
EXPECTED = {
    (HsmsState.NOT_CONNECTED, HsmsEvent.CONNECT): HsmsState.NOT_SELECTED,
    (HsmsState.NOT_SELECTED, HsmsEvent.SELECT): HsmsState.SELECTED,
    (HsmsState.NOT_SELECTED, HsmsEvent.DISCONNECT): HsmsState.NOT_CONNECTED,
    (HsmsState.SELECTED, HsmsEvent.DESELECT): HsmsState.NOT_SELECTED,
    (HsmsState.SELECTED, HsmsEvent.DISCONNECT): HsmsState.NOT_CONNECTED,
}

NOT, YES = HsmsState.NOT_SELECTED, HsmsState.SELECTED

#: What each table says, in the order of `Arrival`: d data, s/r answer or refuse a select, e/f a deselect, t a linktest,
#: c completes, 1 to 4 reject, i ignores, x ends, ! closes.
RULES = {
    "generic": (GENERIC, {NOT: "4scfctcci3121", YES: "drcectccx3121"}),
    "passive": (STRICT_PASSIVE, {NOT: "!s!!!!!!!!!!!", YES: "drc1ctccx3!!!"}),
    "active": (STRICT_ACTIVE, {NOT: "!!c!!!!c!!!!!", YES: "d1c1ctccx3!!!"}),
}

LETTERS = {
    "d": Action.DELIVER,
    "s": Action.SELECT,
    "r": Action.REFUSE_SELECT,
    "e": Action.DESELECT,
    "f": Action.REFUSE_DESELECT,
    "t": Action.ANSWER_LINKTEST,
    "c": Action.COMPLETE,
    "1": Action.REJECT_STYPE,
    "2": Action.REJECT_PTYPE,
    "3": Action.REJECT_NOT_OPEN,
    "4": Action.REJECT_NOT_SELECTED,
    "i": Action.IGNORE,
    "x": Action.END,
    "!": Action.CLOSE,
}


def session_in(state: HsmsState) -> Session:
    """Give a session in that state."""
    session = Session(active=True, strict=False)
    for event in (HsmsEvent.CONNECT, HsmsEvent.SELECT):
        if session.state is not state:
            session.move(event)
    return session


class MovesTests(SynchronousTestCase):
    def test_whole_table(self) -> None:
        """
        What the diagram has moves so; everything else is refused, and changes nothing.
        """
        for state, event in product(HsmsState, HsmsEvent):
            with self.subTest(state=state, event=event):
                session = session_in(state) if state is not HsmsState.NOT_CONNECTED else Session(True, False)
                expected = EXPECTED.get((state, event))
                if expected is None:
                    error = self.assertRaises(LocalProtocolError, session.move, event)
                    self.assertEqual(str(error), f"{event.value!r} is not possible while {state.value}")
                    self.assertIs(session.state, state)
                else:
                    session.move(event)
                    self.assertIs(session.state, expected)

    def test_nothing_more(self) -> None:
        """
        The table has these moves and no others.
        """
        listed = {(state, event): new for state, moves in MOVES.items() for event, new in moves.items()}
        self.assertEqual(listed, EXPECTED)


class RulesTests(SynchronousTestCase):
    def test_whole_tables(self) -> None:
        """
        Each table says what is done with every sort of message in both states.
        """
        for name, (rules, expected) in RULES.items():
            for state, letters in expected.items():
                self.assertEqual(len(letters), len(Arrival))
                for arrival, letter in zip(Arrival, letters, strict=True):
                    with self.subTest(rules=name, state=state, arrival=arrival):
                        self.assertIs(rules[state][arrival], LETTERS[letter])

    def test_which_table(self) -> None:
        """
        The side and the strictness choose the table.
        """
        self.assertIs(Session(active=True, strict=False).rules, GENERIC)
        self.assertIs(Session(active=False, strict=False).rules, GENERIC)
        self.assertIs(Session(active=True, strict=True).rules, STRICT_ACTIVE)
        self.assertIs(Session(active=False, strict=True).rules, STRICT_PASSIVE)

    def test_not_connected(self) -> None:
        """
        What comes when the connection has ended is of no interest.
        """
        for arrival in Arrival:
            self.assertIs(Session(True, True).action_for(arrival), Action.IGNORE)

    def test_actions(self) -> None:
        """
        An action is taken from the table of the present state.
        """
        self.assertIs(session_in(NOT).action_for(Arrival.DATA), Action.REJECT_NOT_SELECTED)
        self.assertIs(session_in(YES).action_for(Arrival.DATA), Action.DELIVER)


class ErrorTests(SynchronousTestCase):
    def test_meaning(self) -> None:
        """
        A refusal says its number, and what the standard means by it.
        """
        for error, words in (
            (SelectRejected(3), "Select.req was answered with status 3 (exhausted)"),
            (SelectRejected(200), "Select.req was answered with status 200"),
            (DeselectRejected(2), "Deselect.req was answered with status 2 (busy)"),
            (MessageRejected("S1F1", 4), "S1F1 was rejected for reason 4 (not selected)"),
        ):
            self.assertEqual(str(error), words)
