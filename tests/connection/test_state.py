from itertools import product

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from equipnet.connection.state import MOVES, Change, Event, Moment, State, StateMachine
from equipnet.errors import LocalProtocolError

#: The table again, from the promise in interfaces.py; what is not here is refused.
EXPECTED = {
    (State.STOPPED, Event.CONNECT): State.CONNECTING,
    (State.CONNECTING, Event.MADE): State.CONNECTED,
    (State.CONNECTING, Event.BOUND): State.WAITING,
    (State.CONNECTING, Event.LOST): State.WAITING,
    (State.CONNECTING, Event.GIVEN_UP): State.STOPPED,
    (State.CONNECTING, Event.DISCONNECT): State.DISCONNECTING,
    (State.WAITING, Event.CONNECT): State.CONNECTING,
    (State.WAITING, Event.MADE): State.CONNECTED,
    (State.WAITING, Event.DISCONNECT): State.DISCONNECTING,
    (State.CONNECTED, Event.USABLE): State.READY,
    (State.CONNECTED, Event.LOST): State.WAITING,
    (State.CONNECTED, Event.GIVEN_UP): State.STOPPED,
    (State.CONNECTED, Event.DISCONNECT): State.DISCONNECTING,
    (State.READY, Event.UNUSABLE): State.CONNECTED,
    (State.READY, Event.LOST): State.WAITING,
    (State.READY, Event.GIVEN_UP): State.STOPPED,
    (State.READY, Event.DISCONNECT): State.DISCONNECTING,
    (State.DISCONNECTING, Event.CLOSED): State.STOPPED,
}

#: A way from STOPPED to each state.
WAYS = {
    State.STOPPED: (),
    State.CONNECTING: (Event.CONNECT,),
    State.WAITING: (Event.CONNECT, Event.LOST),
    State.CONNECTED: (Event.CONNECT, Event.MADE),
    State.READY: (Event.CONNECT, Event.MADE, Event.USABLE),
    State.DISCONNECTING: (Event.CONNECT, Event.DISCONNECT),
}


class MachineTestCase(SynchronousTestCase):
    """A machine on a clock that the test moves, and what an observer of it was told."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.machine = StateMachine("dmm", lambda: Moment(self.clock.seconds(), 1000.0 + self.clock.seconds()))
        self.changes: list[Change] = []

    def go_to(self, state: State) -> None:
        for event in WAYS[state]:
            self.machine.move(event, "on the way")
        self.assertIs(self.machine.state, state)


class TableTests(MachineTestCase):
    """Which events move a machine in which state."""

    def test_whole_table(self) -> None:
        """A pair of state and event that the table lists moves as listed; every other is refused."""
        for state, event in product(State, Event):
            with self.subTest(state=state, event=event):
                self.setUp()
                self.go_to(state)
                self.clock.advance(5.0)
                before = self.machine.since
                self.machine.add_observer(self.changes.append)
                expected = EXPECTED.get((state, event))
                if expected is None:
                    error = self.assertRaises(LocalProtocolError, self.machine.move, event, "why")
                    self.assertEqual(str(error), f"dmm: {event.value!r} is not possible while {state.value}")
                    self.assertEqual((self.machine.state, self.machine.since, self.changes), (state, before, []))
                else:
                    self.machine.move(event, "why")
                    change = Change("dmm", state, expected, Moment(5.0, 1005.0), "why")
                    self.assertEqual((self.machine.state, self.machine.since), (expected, change.at))
                    self.assertEqual(self.changes, [change])

    def test_nothing_more(self) -> None:
        """The table holds these moves and no others."""
        listed = {(state, event): new for state, moves in MOVES.items() for event, new in moves.items()}
        self.assertEqual(listed, EXPECTED)

    def test_begins_stopped(self) -> None:
        """A new machine is STOPPED since it was made."""
        self.assertEqual((self.machine.state, self.machine.since), (State.STOPPED, Moment(0.0, 1000.0)))


class ObserverTests(MachineTestCase):
    """Who is told of changes, and in which order."""

    def news(self) -> list[State]:
        return [change.new for change in self.changes]

    def test_one_that_raises(self) -> None:
        """What an observer raises is logged, and the others are called all the same."""

        def broken(change: Change) -> None:
            raise ZeroDivisionError

        self.machine.add_observer(broken)
        self.machine.add_observer(self.changes.append)
        self.machine.move(Event.CONNECT, "why")
        self.assertEqual(self.news(), [State.CONNECTING])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_removed(self) -> None:
        """An observer that was removed is not called any more; removing it again is no error."""
        self.machine.add_observer(self.changes.append)
        self.machine.remove_observer(self.changes.append)
        self.machine.remove_observer(self.changes.append)
        self.machine.move(Event.CONNECT, "why")
        self.assertEqual(self.changes, [])

    def test_removed_by_another(self) -> None:
        """An observer that another one removes is not even told of the present change."""
        self.machine.add_observer(lambda change: self.machine.remove_observer(self.changes.append))
        self.machine.add_observer(self.changes.append)
        self.machine.move(Event.CONNECT, "why")
        self.assertEqual(self.changes, [])

    def test_removes_itself(self) -> None:
        """An observer that removes itself keeps nobody from being told."""

        def once(change: Change) -> None:
            self.machine.remove_observer(once)
            self.changes.append(change)

        self.machine.add_observer(once)
        self.machine.add_observer(self.changes.append)
        self.machine.move(Event.CONNECT, "why")
        self.machine.move(Event.MADE, "why")
        self.assertEqual(self.news(), [State.CONNECTING, State.CONNECTING, State.CONNECTED])

    def test_added_by_another(self) -> None:
        """An observer that is added during a change is told from the next one on."""
        self.machine.add_observer(lambda change: self.machine.add_observer(self.changes.append))
        self.machine.move(Event.CONNECT, "why")
        self.assertEqual(self.changes, [])

    def test_move_within_a_move(self) -> None:
        """When an observer makes a move itself, all observers are told of both, in their order."""

        def stops(change: Change) -> None:
            if change.new is State.CONNECTING:
                self.machine.move(Event.DISCONNECT, "enough")
                self.assertIs(self.machine.state, State.DISCONNECTING)

        self.machine.add_observer(stops)
        self.machine.add_observer(self.changes.append)
        self.machine.move(Event.CONNECT, "why")
        self.assertEqual(self.news(), [State.CONNECTING, State.DISCONNECTING])

    def test_refused_within_a_move(self) -> None:
        """A move that an observer tries and that is refused is that observer's error; later changes are told."""

        def wrong(change: Change) -> None:
            if change.new is State.CONNECTING:
                self.machine.move(Event.CLOSED, "never")

        self.machine.add_observer(wrong)
        self.machine.add_observer(self.changes.append)
        self.machine.move(Event.CONNECT, "why")
        self.machine.move(Event.MADE, "why")
        self.assertEqual(self.news(), [State.CONNECTING, State.CONNECTED])
        self.assertEqual(len(self.flushLoggedErrors(LocalProtocolError)), 1)
