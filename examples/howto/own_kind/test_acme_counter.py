"""Tests of the kind, without a socket: `python -m twisted.trial test_acme_counter` in this folder."""

# mypy, which looks from the top of the checkout, does not find it.
from acme_counter import Counter  # type: ignore[import-not-found]
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from equipnet.errors import ConnectionLost, RemoteProtocolError
from equipnet.instrument import InstrumentSimulator


class CounterTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.simulator = InstrumentSimulator({"LOGIN hunter2": "WELCOME\nCOUNT 17\nCOUNT 21"}, reactor=self.clock)
        self.counter = Counter(self.simulator.in_memory(self.clock), "hunter2", reactor=self.clock)

    def connect(self) -> None:
        ready = self.counter.connect()
        self.assertNoResult(ready)
        self.clock.pump([0] * 5)
        self.successResultOf(ready)

    def test_counts(self) -> None:
        """
        Counts come in order, also those that nobody waited for.
        """
        self.connect()
        self.assertEqual([self.successResultOf(self.counter.next_count()) for _ in range(2)], [17, 21])
        self.assertNoResult(self.counter.next_count())

    def test_lost(self) -> None:
        """
        Who waits for a count when the counter goes is told; the connection comes back by itself.
        """
        self.connect()
        waiting = [self.counter.next_count() for _ in range(3)]
        self.simulator.disconnect()
        self.clock.pump([0] * 5)
        self.failureResultOf(waiting[2], ConnectionLost)
        self.clock.pump([0.1] * 5)
        self.assertEqual(self.successResultOf(self.counter.next_count()), 17)

    def test_nonsense(self) -> None:
        """
        What a counter does not say ends the connection, and is what went wrong last.
        """
        self.simulator.set_reply("LOGIN hunter2", "HELLO")
        self.counter.connect().addErrback(lambda _: None)
        self.clock.pump([0] * 5)
        self.assertIsInstance(self.counter.last_error, RemoteProtocolError)
