"""Tests of simulated equipment."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from equipnet.connection.state import State
from equipnet.errors import ConnectionLost, Disconnected, EquipmentTimeout
from equipnet.hsms import (
    IN_MEMORY,
    EquipmentFault,
    EquipmentSimulator,
    HsmsActiveConnection,
    MessageRejected,
    ReceivedMessage,
    TransactionAborted,
    Variable,
)
from equipnet.secs import BOOLEAN, F4, U1, U2, U4, A, B, DecodeError, Item, L, Message

from .doubles import TIMERS

IDENTITY = L(A("ETCHER"), A("1.0"))


class SimulatorTestCase(SynchronousTestCase):
    """A host that is connected to simulated equipment in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.pressure = 1.5
        self.asked: list[Any] = []
        self.simulate()
        self.addCleanup(self.check_end)

    def simulate(self, **settings: Any) -> None:
        """Begin both."""
        self.etcher = EquipmentSimulator(
            IN_MEMORY,
            model="ETCHER",
            variables={
                1001: Variable("Pressure", lambda: F4(self.pressure), "Pa"),
                1002: Variable("Recipe", A("OXIDE")),
            },
            constants={2001: Variable("MaxPower", U2(1200), "W")},
            events=(3001, 3002),
            commands={"START": 0, "ASK": lambda parameters: self.asked.append(parameters) or 4},  # type: ignore
            replies={"S1F5": L(), "S2F25": None},
            timers=TIMERS,
            reactor=self.clock,
            **settings,
        )
        self.etcher.enable()
        self.host = HsmsActiveConnection(self.etcher.in_memory(), timers=TIMERS, reactor=self.clock)
        self.host.enable()
        self.turn()
        self.assertIs(self.host.state, State.READY)

    def check_end(self) -> None:
        stopped = [self.host.disable(), self.etcher.disable()]
        self.turn()
        for each in stopped:
            self.successResultOf(each)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def turn(self, times: int = 10) -> None:
        self.clock.pump([0] * times)

    def begin(self, stream: int, function: int, item: Item | None = None) -> Deferred[ReceivedMessage]:
        """Ask, and let it come as far as it does at once."""
        answer = self.host.request(Message(stream, function, True, item))
        self.turn()
        return answer

    def ask(self, stream: int, function: int, item: Item | None = None) -> Item | None:
        reply = self.successResultOf(self.begin(stream, function, item))
        self.assertEqual((reply.stream, reply.function), (stream, function + 1))
        return reply.item


class TableTests(SimulatorTestCase):
    def test_are_you_there(self) -> None:
        """
        S1F1, S1F13 and S1F17 say who it is, and that it is there.
        """
        self.assertEqual(self.ask(1, 1), IDENTITY)
        self.assertEqual(self.ask(1, 13, L()), L(B(0), IDENTITY))
        self.assertEqual(self.ask(1, 17), B(0))

    def test_variables(self) -> None:
        """
        S1F3 gives values and S1F11 names, of those that are asked for, or of all; of unknown ones nothing.
        """
        self.assertEqual(self.ask(1, 3, L(U4(1002), U4(7))), L(A("OXIDE"), L()))
        self.assertEqual(self.ask(1, 3, L()), L(F4(1.5), A("OXIDE")))
        self.assertEqual(self.ask(1, 3, U4(1001, 1002)), L(F4(1.5), A("OXIDE")))
        self.assertEqual(self.ask(1, 11, L(U4(1001))), L(L(U4(1001), A("Pressure"), A("Pa"))))
        self.assertEqual(self.ask(1, 11, L(U4(7))), L(L(U4(7), A(""), A(""))))

    def test_constants(self) -> None:
        """
        S2F13 gives constants.
        """
        self.assertEqual(self.ask(2, 13, L(U4(2001))), L(U2(1200)))

    def test_time(self) -> None:
        """
        S2F17 gives the time that S2F31 has set, in sixteen digits.
        """
        self.assertRegex(self.ask(2, 17).value, r"^\d{16}$")  # type: ignore[union-attr]
        for text, begins in (("1999123123595900", "19991231"), ("991231235959", "19991231")):
            self.assertEqual(self.ask(2, 31, A(text)), B(0))
            self.assertRegex(self.ask(2, 17).value, f"^({begins}|20000101)")  # type: ignore[union-attr]
        self.assertEqual(self.ask(2, 31, A("yesterday")), B(1))

    def test_events(self) -> None:
        """
        Reports are defined, linked to events and sent with them.
        """
        got: list[Message] = []
        self.host.set_primary(6, 11, lambda message: got.append(message))
        self.assertEqual(self.ask(2, 33, L(U4(0), L(L(U4(1), L(U4(1001), U4(1002)))))), B(0))
        self.assertEqual(self.ask(2, 33, L(U4(0), L(L(U4(1), L(U4(1001)))))), B(3))
        self.assertEqual(self.ask(2, 33, L(U4(0), L(L(U4(2), L(U4(7)))))), B(4))
        self.assertEqual(self.ask(2, 35, L(U4(0), L(L(U4(3001), L(U4(1)))))), B(0))
        self.assertEqual(self.ask(2, 35, L(U4(0), L(L(U4(3001), L(U4(9)))))), B(5))
        self.assertEqual(self.ask(2, 35, L(U4(0), L(L(U4(7), L(U4(1)))))), B(4))
        self.assertEqual(self.ask(2, 37, L(BOOLEAN(True), L(U4(3001)))), B(0))
        self.assertEqual(self.ask(2, 37, L(BOOLEAN(True), L(U4(7)))), B(1))
        self.assertEqual(self.etcher.enabled, {3001})
        self.successResultOf(self.etcher.send_event(3001))
        self.turn()
        self.assertEqual(got, [Message(6, 11, False, L(U4(0), U4(3001), L(L(U4(1), L(F4(1.5), A("OXIDE"))))))])
        self.assertEqual(self.ask(2, 37, L(BOOLEAN(False), L())), B(0))
        self.assertEqual(self.etcher.enabled, set())
        self.assertEqual(self.ask(2, 33, L(U4(0), L(L(U4(1), L())))), B(0))
        self.assertEqual(self.ask(2, 33, L(U4(0), L())), B(0))

    def test_commands(self) -> None:
        """
        S2F41 is answered as the table says, or what it says is called with the parameters.
        """
        self.assertEqual(self.ask(2, 41, L(A("START"), L())), L(B(0), L()))
        self.assertEqual(self.ask(2, 41, L(A("DANCE"), L())), L(B(1), L()))
        self.assertEqual(self.ask(2, 41, L(A("ASK"), L(L(A("PPID"), A("X"))))), L(B(4), L()))
        self.assertEqual(self.asked, [{"PPID": A("X")}])

    def test_programs_and_terminals(self) -> None:
        """
        S7F3 stores a program, S10F3 shows a text.
        """
        self.assertEqual(self.ask(7, 3, L(A("P"), B(b"body"))), B(0))
        self.assertEqual(self.ask(10, 3, L(B(1), A("hello"))), B(0))
        self.assertEqual(self.etcher.programs, {"P": B(b"body")})
        self.assertEqual(self.etcher.displayed, [(1, "hello")])

    def test_replies(self) -> None:
        """
        Other primaries are answered from the table.
        """
        self.assertEqual(self.ask(1, 5), L())
        self.assertIsNone(self.ask(2, 25))

    def test_nonsense(self) -> None:
        """
        A primary with another text than it should have is aborted.
        """
        for function, item in ((33, A("x")), (35, L()), (37, L(U1(1), L())), (41, L(U4(1), L())), (31, U4(1))):
            self.failureResultOf(self.begin(2, function, item), TransactionAborted)
        self.failureResultOf(self.begin(10, 3, L(A("x"), A("y"))), TransactionAborted)
        self.assertEqual(len(self.flushLoggedErrors()), 6)

    def test_alarm(self) -> None:
        """
        An alarm is sent on request.
        """
        got: list[Message] = []
        self.host.set_primary(5, 1, lambda message: got.append(message) or B(0))  # type: ignore[func-returns-value]
        answers = [self.etcher.send_alarm(7, "hot"), self.etcher.send_alarm(7, "hot", False)]
        self.turn()
        self.assertEqual([self.successResultOf(each).item for each in answers], [B(0), B(0)])
        self.assertEqual([each.item for each in got], [L(B(0x84), U4(7), A("hot")), L(B(4), U4(7), A("hot"))])


class RateTests(SimulatorTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.check_end()
        self.simulate(event=3001, rate=4.0)

    def test_rate(self) -> None:
        """
        An event is sent so many times a second while it is selected.
        """
        got: list[Message] = []
        self.host.set_primary(6, 11, lambda message: got.append(message))
        self.clock.pump([0.25] * 8 + [0, 0])
        self.assertEqual(len(got), 8)
        self.clock.advance(1.0)
        self.turn()
        self.assertEqual(len(got), 12)
        self.host.disable()
        self.turn()
        self.clock.advance(5.0)
        self.assertEqual(len(got), 12)

    def test_refused(self) -> None:
        """
        A rate needs an event, and names of replies are those of primaries.
        """
        bad: Any
        for bad in ({"rate": 1.0}, {"event": 1, "rate": -1.0}, {"replies": {"S1": L()}}, {"replies": {"S1F2": L()}}):
            self.assertRaises(ValueError, EquipmentSimulator, IN_MEMORY, reactor=self.clock, **bad)


class FaultTests(SimulatorTestCase):
    def test_delay(self) -> None:
        """
        A reply can be late; others are not, and nothing is left when the connection ends.
        """
        self.etcher.inject(EquipmentFault(delay=2.0, function=1), 2)
        first = self.begin(1, 1)
        self.ask(1, 17)
        self.clock.advance(1.9)
        self.turn()
        self.assertNoResult(first)
        self.clock.advance(0.1)
        self.turn()
        self.assertEqual(self.successResultOf(first).item, IDENTITY)
        second = self.begin(1, 1)
        self.ask(1, 1)
        self.host.disable()
        self.failureResultOf(second, Disconnected)

    def test_silence(self) -> None:
        """
        There may be none.
        """
        self.etcher.inject(EquipmentFault(silence=True), 1)
        answer = self.begin(1, 1)
        self.ask(1, 1)
        self.clock.advance(TIMERS.t3)
        self.failureResultOf(answer, EquipmentTimeout)

    def test_drop(self) -> None:
        """
        The connection may be dropped instead.
        """
        self.etcher.inject(EquipmentFault(drop=True), 1)
        self.failureResultOf(self.begin(1, 1), ConnectionLost)
        self.clock.advance(TIMERS.t5)
        self.turn()
        self.ask(1, 1)

    def test_reject(self) -> None:
        """
        The primary may be rejected.
        """
        for reason in (4, 128):
            self.etcher.inject(EquipmentFault(reject=reason), 1)
            self.assertEqual(self.failureResultOf(self.begin(1, 1), MessageRejected).value.reason, reason)

    def test_bad_text(self) -> None:
        """
        The text of the reply may be no item, also where there should be none.
        """
        self.etcher.inject(EquipmentFault(bad_text=True))
        for function in (1, 5):
            reply = self.successResultOf(self.begin(1, function))
            self.assertRaises(DecodeError, lambda reply=reply: reply.item)
        reply = self.successResultOf(self.begin(2, 25))
        self.assertRaises(DecodeError, lambda: reply.item)
        self.etcher.clear_faults()
        self.ask(1, 1)

    def test_wrong_system_bytes(self) -> None:
        """
        The reply may belong to nothing.
        """
        self.etcher.inject(EquipmentFault(wrong_system_bytes=True), 1)
        answer = self.begin(1, 1)
        self.assertNoResult(answer)
        self.assertEqual(self.host.counts.late, 1)
        answer.addErrback(lambda _: None)

    def test_split(self) -> None:
        """
        It may come in pieces, with nothing of another in between.
        """
        for size in (1, 3, 1000):
            self.etcher.inject(EquipmentFault(split=size), 1)
            answers = [self.host.request(Message(1, 1, True)) for _ in range(3)]
            self.turn(60)
            for answer in answers:
                self.assertEqual(self.successResultOf(answer).item, IDENTITY)

    def test_refused(self) -> None:
        """
        What makes no sense is refused.
        """
        bad: Any
        for bad in ({"delay": -1.0}, {"split": 0}, {"reject": 256}):
            self.assertRaises(ValueError, EquipmentFault, **bad)
        self.assertRaises(ValueError, self.etcher.inject, EquipmentFault(), 0)
