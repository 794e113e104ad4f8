"""Tests of `Supply` in memory, with a clock that they turn: `python -m twisted.trial examples.howto.test_supply`."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from equipnet.instrument import Fault, Instrument, InstrumentSimulator
from examples.howto.supply import Supply


class SimulatedSupply(InstrumentSimulator):
    """A power supply that takes no more than 30 V."""

    volts = 0.0

    def reply_to(self, command: str) -> str | None:
        if command == "VOLT?":
            return f"{self.volts:.3f}"
        if command.startswith("VOLT ") and float(command[5:]) <= 30:
            self.volts = float(command[5:])
        return None


class SupplyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.simulator = SimulatedSupply(reactor=self.clock)
        instrument = Instrument(self.simulator.in_memory(self.clock), termination="\n", timeout=2.0, reactor=self.clock)
        self.supply = Supply(instrument)
        self.successResultOf(instrument.connect())

    def pump(self) -> None:
        """Let all messages that are under way arrive, and their answers."""
        self.clock.pump([0] * 10)

    def test_set(self) -> None:
        """
        The voltage is set.
        """
        answer = Deferred.fromCoroutine(self.supply.set_voltage(12.5))
        self.pump()
        self.assertEqual(self.successResultOf(answer), 12.5)
        self.assertEqual(self.simulator.volts, 12.5)

    def test_refused(self) -> None:
        """
        A voltage that the supply does not take is an error.
        """
        answer = Deferred.fromCoroutine(self.supply.set_voltage(31))
        self.pump()
        self.failureResultOf(answer, ValueError)

    def test_silence(self) -> None:
        """
        A reply that does not come is a TimeoutError after two seconds, and the next voltage is set all the same.
        """
        self.simulator.inject(Fault(drop=True), count=2)  # of VOLT and of VOLT?
        answer = Deferred.fromCoroutine(self.supply.set_voltage(5))
        self.pump()
        self.clock.advance(1.9)
        self.assertNoResult(answer)
        self.clock.advance(0.1)
        self.failureResultOf(answer, TimeoutError)

        self.pump()
        answer = Deferred.fromCoroutine(self.supply.set_voltage(6))
        self.pump()
        self.assertEqual(self.successResultOf(answer), 6.0)

    def test_connection_lost_in_the_middle(self) -> None:
        """
        Half a reply is none: the error is that the connection was lost.
        """
        self.simulator.inject(Fault(reset="middle"))
        answer = Deferred.fromCoroutine(self.supply.set_voltage(5))
        self.pump()
        self.failureResultOf(answer, ConnectionError)
