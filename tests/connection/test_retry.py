from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone, ConnectionRefusedError, NotConnectingError
from twisted.internet.interfaces import IConnector, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from equipnet.connection.protocol import WireProtocol
from equipnet.connection.retry import EndpointConnector, ReconnectingFactory, RetryPolicy
from equipnet.errors import ConnectionLost, Disconnected, EquipmentTimeout

from .doubles import FakeEndpoint


def middle() -> float:
    """Stands for the random numbers: no jitter."""
    return 0.5


class RetryPolicyTests(SynchronousTestCase):
    """How long to wait before the next try."""

    def waits(self, policy: RetryPolicy, count: int = 7) -> list[float]:
        return [policy.delay(failures, middle) for failures in range(count)]

    def test_default(self) -> None:
        """The default begins at a tenth of a second, doubles, and stays under a second for ever."""
        self.assertEqual(self.waits(RetryPolicy()), [0.0, 0.1, 0.2, 0.4, 0.8, 0.8, 0.8])
        self.assertIsNone(RetryPolicy().attempts)
        self.assertLess(RetryPolicy().delay(100, lambda: 1.0), 1.0)

    def test_exponential(self) -> None:
        """The exponential policy grows to half a minute."""
        self.assertEqual(self.waits(RetryPolicy.exponential(), 11)[-3:], [12.8, 25.6, 30.0])
        self.assertEqual(self.waits(RetryPolicy.exponential(1.0, 3.0, 20.0, attempts=5), 5), [0.0, 1.0, 3.0, 9.0, 20.0])
        self.assertEqual(RetryPolicy.exponential(attempts=5).attempts, 5)

    def test_fixed(self) -> None:
        """The fixed policy always waits the same, whatever is drawn."""
        policy = RetryPolicy.fixed(5.0, attempts=3)
        self.assertEqual([policy.delay(failures, lambda: 1.0) for failures in range(4)], [0.0, 5.0, 5.0, 5.0])
        self.assertEqual(policy.attempts, 3)

    def test_jitter(self) -> None:
        """A wait is drawn from within the jitter's fraction of itself, to either side."""
        policy = RetryPolicy(1.0, 2.0, 8.0, jitter=0.25)
        drawn = iter([0.0, 0.5, 1.0])
        self.assertEqual([policy.delay(2, lambda: next(drawn)) for _ in range(3)], [1.5, 2.0, 2.5])

    def test_real_draw(self) -> None:
        """What is really drawn stays within the bounds, and is not always the same."""
        waits = {RetryPolicy(1.0, 1.0, 1.0, jitter=0.1).delay(1) for _ in range(100)}
        self.assertGreater(len(waits), 1)
        self.assertTrue(all(0.9 <= wait <= 1.1 for wait in waits), waits)

    def test_never_negative(self) -> None:
        """Even with all the jitter there can be, a wait is not less than nothing."""
        self.assertEqual(RetryPolicy(jitter=1.0).delay(1, lambda: 0.0), 0.0)

    def test_many_failures(self) -> None:
        """After a million failures the wait is the longest one still."""
        self.assertEqual(RetryPolicy().delay(10**6, middle), 0.8)
        self.assertEqual(RetryPolicy(1, 2, 30).delay(10**9, middle), 30)

    def test_after_a_connection(self) -> None:
        """After a connection that had been up there is no wait at all."""
        self.assertEqual(RetryPolicy(5.0, 1.0, 5.0).delay(0), 0.0)

    def test_bad_values(self) -> None:
        """Values that make no sense are refused, each with a reason that shows it."""
        nan, infinity = float("nan"), float("inf")
        for bad, shown in (
            ({"initial_delay": 0.0}, "0.0"),
            ({"initial_delay": -1.0}, "-1.0"),
            ({"initial_delay": 2.0, "maximum": 1.0}, "2.0, 1.0"),
            ({"initial_delay": nan}, "nan"),
            ({"maximum": infinity}, "inf"),
            ({"maximum": nan}, "nan"),
            ({"factor": 0.5}, "0.5"),
            ({"factor": infinity}, "inf"),
            ({"factor": nan}, "nan"),
            ({"jitter": -0.1}, "-0.1"),
            ({"jitter": 1.1}, "1.1"),
            ({"jitter": nan}, "nan"),
            ({"attempts": 0}, "0"),
            ({"attempts": -1}, "-1"),
        ):
            with self.subTest(bad=bad):
                values: dict[str, Any] = bad
                self.assertIn(shown, str(self.assertRaises(ValueError, RetryPolicy, **values)))


class ConnectorTestCase(SynchronousTestCase):
    """A reconnecting factory and its connector on a fake endpoint."""

    policy = RetryPolicy(1.0, 2.0, 8.0, jitter=0.0)

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint: Any = FakeEndpoint()
        self.told: list[tuple[Any, ...]] = []
        self.factory = ReconnectingFactory(
            lambda: WireProtocol(self),
            self.policy,
            self.clock,
            attempting=self.attempting,
            made=lambda protocol: self.told.append(("made",)),
            ended=self.ended,
        )
        self.connector = EndpointConnector(lambda: self.endpoint, self.factory, self.clock, timeout=lambda: 10.0)

        self.reasons: list[Any] = []
        self.when_attempting: list[Callable[[], object]] = []
        self.when_ended: list[Callable[[], object]] = []

    # What the factory tells; each of the calls in the lists is made once

    def attempting(self) -> None:
        self.told.append(("attempting",))
        while self.when_attempting:
            self.when_attempting.pop()()

    def ended(self, reason: Failure, again: bool) -> None:
        self.told.append(("ended", type(reason.value), again))
        self.reasons.append(reason.value)
        while self.when_ended:
            self.when_ended.pop()()

    # What the protocols see of their service

    name = "dmm"
    taps: list[Any] = []

    def usable(self, protocol: WireProtocol, reason: str) -> None:
        self.factory.worked()

    def unusable(self, protocol: WireProtocol, reason: str) -> None:
        """Nothing."""

    def went_down(self, protocol: WireProtocol, reason: Failure) -> None:
        self.connector.lost(reason)

    def begin(self, attempts: int | None = None) -> None:
        self.factory.limit(attempts)
        self.connector.connect()

    def refuse(self) -> None:
        self.endpoint.last.fail(ConnectionRefusedError())

    def scheduled(self) -> list[float]:
        """How many seconds from now each scheduled call is."""
        return [call.getTime() - self.clock.seconds() for call in self.clock.getDelayedCalls()]


class ReconnectingFactoryTests(ConnectorTestCase):
    """When the next try is made, and when there is none."""

    def test_backs_off(self) -> None:
        """Each refused try is followed by a longer wait, up to the longest."""
        self.begin()
        for wait in (1.0, 2.0, 4.0, 8.0, 8.0):
            self.refuse()
            self.assertEqual(self.scheduled(), [wait])
            self.clock.advance(wait)
        self.assertEqual(len(self.endpoint.attempts), 6)
        self.assertEqual(self.told[:2], [("attempting",), ("ended", ConnectionRefusedError, True)])

    def test_back_at_once(self) -> None:
        """A connection that was usable for a while is tried again at once, and the waits begin anew."""
        self.begin()
        self.refuse()
        self.clock.advance(1.0)
        self.endpoint.last.succeed().begin()
        self.clock.advance(1.0)
        self.endpoint.last.lose(ConnectionDone())
        self.assertEqual(self.scheduled(), [0.0])
        self.clock.advance(0)
        self.refuse()
        self.assertEqual(self.scheduled(), [1.0])

    def test_accepts_and_hangs_up(self) -> None:
        """A peer that accepts and hangs up at once is backed off from as one that refuses."""
        self.begin()
        for wait in (1.0, 2.0, 4.0):
            self.endpoint.last.succeed().begin()
            self.endpoint.last.lose(ConnectionDone())
            self.assertEqual(self.scheduled(), [wait])
            self.clock.advance(wait)

    def test_never_usable(self) -> None:
        """So is one that hangs up later, but before the connection was usable."""
        self.begin()
        for wait in (1.0, 2.0):
            self.endpoint.last.succeed()
            self.clock.advance(60.0)
            self.endpoint.last.lose(ConnectionDone())
            self.assertEqual(self.scheduled(), [wait])
            self.clock.advance(wait)

    def test_excused(self) -> None:
        """A connection that we end ourselves counts as one that had been up, however short it was."""
        self.begin()
        self.endpoint.last.succeed().begin()
        self.factory.excuse()
        self.endpoint.last.lose(ConnectionDone())
        self.assertEqual(self.scheduled(), [0.0])

    def test_own_delay(self) -> None:
        """A wire format with a rule of its own decides the wait, from the number of tries that have failed."""
        self.factory = ReconnectingFactory(
            lambda: WireProtocol(self),
            self.policy,
            self.clock,
            attempting=self.attempting,
            made=lambda protocol: None,
            ended=self.ended,
            delay=lambda failures: 100.0 + failures,
        )
        self.connector = EndpointConnector(lambda: self.endpoint, self.factory, self.clock, timeout=lambda: 10.0)
        self.begin()
        self.refuse()
        self.assertEqual(self.scheduled(), [101.0])

    def test_attempts(self) -> None:
        """After the last of a limited number of tries there is no other, and nothing is scheduled."""
        self.begin(2)
        self.refuse()
        self.clock.advance(1.0)
        self.refuse()
        self.assertEqual([told[2] for told in self.told if told[0] == "ended"], [True, False])
        self.assertEqual(self.scheduled(), [])

    def test_more_attempts(self) -> None:
        """A limit can be raised, and is never lowered by that."""
        self.begin(1)
        self.factory.extend(2)
        self.factory.extend(1)
        self.refuse()
        self.clock.advance(1.0)
        self.refuse()
        self.assertEqual([told[2] for told in self.told if told[0] == "ended"], [True, False])
        self.begin(1)
        self.factory.extend(None)
        self.factory.extend(1)
        self.refuse()
        self.assertEqual(len(self.scheduled()), 1)

    def test_hurry(self) -> None:
        """The next try can be made now; without one that is scheduled nothing happens."""
        self.begin()
        self.factory.hurry()
        self.refuse()
        self.factory.hurry()
        self.clock.advance(0)
        self.assertEqual(len(self.endpoint.attempts), 2)

    def test_stopped(self) -> None:
        """After `stopTrying` no try is made, whether one was scheduled or not."""
        self.begin()
        self.refuse()
        self.factory.stopTrying()
        self.assertEqual(self.scheduled(), [])
        self.begin()
        self.factory.stopTrying()
        self.refuse()
        self.assertEqual(self.told[-1], ("ended", ConnectionRefusedError, False))
        self.assertEqual(self.scheduled(), [])

    def test_stopped_by_who_is_told(self) -> None:
        """Whoever is told of a failure may stop the tries, and may begin anew."""

        self.when_ended = [self.begin, self.factory.stopTrying]
        self.begin()
        self.refuse()
        self.assertEqual(len(self.endpoint.attempts), 2)
        self.assertEqual(self.scheduled(), [10.0])


class PolicyOfOneTests(ConnectorTestCase):
    """A policy that gives up after one failed try."""

    policy = RetryPolicy(1.0, 2.0, 8.0, jitter=0.0, attempts=1)

    def test_lost(self) -> None:
        """A connection that had been up and is lost has not failed yet: it is tried once more."""
        self.begin(5)
        self.endpoint.last.succeed().begin()
        self.clock.advance(1.0)
        self.endpoint.last.lose(ConnectionDone())
        self.assertEqual(self.told[-1], ("ended", ConnectionLost, True))
        self.clock.advance(0)
        self.refuse()
        self.assertEqual(self.told[-1], ("ended", ConnectionRefusedError, False))
        self.assertEqual(self.scheduled(), [])


@implementer(IStreamClientEndpoint)
class _Raising:
    """An endpoint that raises, or fails, at once."""

    def __init__(self, at_once: bool) -> None:
        self._at_once = at_once

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        if self._at_once:
            raise OSError("no such file")
        return fail(OSError("no such file"))


class EndpointConnectorTests(ConnectorTestCase):
    """One attempt over an endpoint, from its beginning to its end."""

    def test_interface(self) -> None:
        """A connector is what Twisted's factory expects."""
        verifyObject(IConnector, self.connector)
        self.assertIs(self.connector.getDestination(), self.endpoint)

    def test_made(self) -> None:
        """An attempt that succeeds tells the factory, and leaves nothing scheduled."""
        self.begin()
        self.assertTrue(self.connector.attempting)
        protocol = self.endpoint.last.succeed()
        self.assertIs(protocol.factory, self.factory)
        self.assertEqual(self.told, [("attempting",), ("made",)])
        self.assertFalse(self.connector.attempting)
        self.assertEqual(self.scheduled(), [])

    def test_too_late(self) -> None:
        """An attempt that takes too long is ended, and says how long it took."""
        self.begin(1)
        self.clock.advance(9.9)
        self.assertFalse(self.endpoint.last.cancelled)
        self.clock.advance(0.1)
        self.assertTrue(self.endpoint.last.cancelled)
        [error] = self.reasons
        self.assertIsInstance(error, EquipmentTimeout)
        self.assertEqual((error.seconds, error.waiting_for), (10.0, "a connection"))
        self.assertEqual(self.scheduled(), [])

    def test_endpoint_raises(self) -> None:
        """An endpoint that cannot even be asked is a failed attempt as any other."""
        for at_once in (True, False):
            with self.subTest(at_once=at_once):
                self.endpoint = _Raising(at_once)
                self.begin(1)
                self.assertEqual(self.told[-1], ("ended", OSError, False))

    def test_stopped(self) -> None:
        """An attempt that is stopped from our side is cancelled and fails; it can be stopped only once."""
        self.begin(1)
        self.connector.disconnect()
        self.assertTrue(self.endpoint.last.cancelled)
        self.assertEqual(self.told[-1], ("ended", Disconnected, False))
        self.assertRaises(NotConnectingError, self.connector.stopConnecting)
        self.assertEqual(self.scheduled(), [])

    def test_stopped_at_its_beginning(self) -> None:
        """An attempt that is stopped by who is told of it does not get as far as the endpoint."""
        self.when_attempting = [self.connector.stopConnecting]
        self.begin(1)
        self.assertEqual(self.endpoint.attempts, [])
        self.assertEqual(self.told, [("attempting",), ("ended", Disconnected, False)])
        self.assertEqual(self.scheduled(), [])
