"""
Connecting again: the policy as data, and the factory that carries it out on Twisted's ReconnectingClientFactory.

Why not ``ClientService``: the factory was chosen for the project, and a connection here is told of every attempt, not
only of those that succeed. `EndpointConnector` lets the factory, which knows ``reactor.connectTCP`` only, use any
client endpoint: host names with more than one address, IPv6, TLS, UNIX sockets, a pipe in memory.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import NotConnectingError
from twisted.internet.interfaces import IAddress, IConnector, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import ReconnectingClientFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from equipnet.errors import EquipmentTimeout

if TYPE_CHECKING:
    from equipnet.connection.protocol import WireProtocol


@dataclass(frozen=True)
class RetryPolicy:
    """
    How long to wait before each new try, and when to stop trying.

    The default comes back within a second of a peer's return, however long it was away.

    Parameters
    ----------
    initial_delay
        Seconds before the first try after a refused one. A connection that was up for at least this long and is lost is
        tried again at once.
    factor
        By how much each wait is longer than the one before it; at least 1.
    maximum
        The longest wait in seconds.
    jitter
        Each wait is drawn from within this fraction of itself, to either side, so that a thousand connections do not
        come back in the same instant; 0 to 1.
    attempts
        How many tries in a row may fail before the connection is given up; None for no limit.
    """

    initial_delay: float = 0.1
    factor: float = 2.0
    maximum: float = 0.8
    jitter: float = 0.1
    attempts: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.initial_delay <= self.maximum < float("inf"):
            raise ValueError(f"0 < initial_delay <= maximum does not hold: {self.initial_delay}, {self.maximum}")
        if not 1 <= self.factor < float("inf"):
            raise ValueError(f"factor is {self.factor}, less than 1 or without bound")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter is {self.jitter}, not 0 to 1")
        if self.attempts is not None and self.attempts < 1:
            raise ValueError(f"attempts is {self.attempts}, less than 1")

    @classmethod
    def exponential(
        cls,
        initial_delay: float = 0.1,
        factor: float = 2.0,
        maximum: float = 30.0,
        jitter: float = 0.1,
        attempts: int | None = None,
    ) -> RetryPolicy:
        """Give a policy whose waits grow to half a minute, for peers that are away for long and dislike being asked."""
        return cls(initial_delay, factor, maximum, jitter, attempts)

    @classmethod
    def fixed(cls, delay: float, attempts: int | None = None) -> RetryPolicy:
        """Give a policy that always waits the same ``delay`` seconds."""
        return cls(delay, 1.0, delay, 0.0, attempts)

    def delay(self, failures: int, draw: Callable[[], float] = random.random) -> float:
        """
        Say how long to wait before the next try.

        Parameters
        ----------
        failures
            How many tries have failed in a row; 0 after a connection that had been up.
        draw
            Gives numbers from 0 to 1.

        Returns
        -------
        float
            Seconds.
        """
        if failures == 0:
            return 0.0
        try:
            wait = min(self.initial_delay * self.factor ** (failures - 1), self.maximum)
        except OverflowError:
            wait = self.maximum
        return wait * (1 + self.jitter * (2 * draw() - 1))


class ReconnectingFactory(ReconnectingClientFactory):
    """
    Build one protocol for each connection, and connect again as a `RetryPolicy` says.

    Parameters
    ----------
    build
        Makes the protocol of a new connection.
    policy
        When to try again.
    clock
        Schedules the tries.
    attempting
        Called when an attempt begins.
    made
        Called with the protocol of an attempt that succeeded.
    ended
        Called with the Failure of an attempt or a connection, and whether there will be another try.

    Attributes
    ----------
    failures
        How many tries have failed in a row.
    """

    noisy = False
    # The waits are the policy's own: Twisted's jitter is drawn from a normal distribution, which can be negative.
    jitter = 0

    def __init__(
        self,
        build: Callable[[], WireProtocol],
        policy: RetryPolicy,
        clock: IReactorTime,
        attempting: Callable[[], None],
        made: Callable[[WireProtocol], None],
        ended: Callable[[Failure, bool], None],
    ) -> None:
        self.policy = policy
        # ReconnectingClientFactory.clock has no annotation, and is inferred as None.
        self.clock = clock  # type: ignore[assignment]
        self._clock = clock
        self._build = build
        self._attempting = attempting
        self._made = made
        self._ended = ended
        self._up_since: float | None = None
        self.failures = 0

    def limit(self, attempts: int | None) -> None:
        """Begin to count anew; stop after ``attempts`` tries in a row that failed, None for never."""
        self.resetDelay()
        self.failures = 0
        self._limit_retries(attempts)

    def came_up(self, protocol: WireProtocol) -> None:
        """Take note that a transport is up; from now on the policy's own number of attempts counts."""
        self._up_since = self._clock.seconds()
        self._limit_retries(self.policy.attempts)
        self._made(protocol)

    def _limit_retries(self, attempts: int | None) -> None:
        # ReconnectingClientFactory.maxRetries has no annotation either.
        self.maxRetries = None if attempts is None else attempts - 1  # type: ignore[assignment]

    def hurry(self) -> None:
        """Make the next try now instead of at its time; without one that is scheduled this does nothing."""
        call = self._callID
        if call is not None:
            call.reset(0)

    def excuse(self) -> None:
        """Let the present connection count as one that had been up, however short it was: we end it ourselves."""
        self._up_since = float("-inf")

    def stopTrying(self) -> None:
        # The base class also stops an attempt that is under way, but only one after the first; its owner does that.
        self.connector = None
        super().stopTrying()

    def startedConnecting(self, connector: IConnector) -> None:
        self._attempting()

    def buildProtocol(self, addr: IAddress | None) -> WireProtocol:
        protocol = self._build()
        protocol.factory = self
        return protocol

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self.failures += 1
        self._end(connector, reason)

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        up_since, self._up_since = self._up_since, None
        # A peer that accepts and hangs up at once is as good as one that refuses: without this it would be tried for
        # ever without any pause.
        if up_since is not None and self._clock.seconds() - up_since >= self.policy.initial_delay:
            self.failures = self.retries = 0
        else:
            self.failures += 1
        self._end(connector, reason)

    def _end(self, connector: IConnector, reason: Failure) -> None:
        again = bool(self.continueTrying) and (self.maxRetries is None or self.retries < self.maxRetries)
        self._ended(reason, again)
        # What is told may have stopped us.
        if again and self.continueTrying:
            self.retry(connector)

    def retry(self, connector: IConnector | None = None) -> None:
        self.delay = self.policy.delay(self.failures)
        super().retry(connector)


@implementer(IConnector)
class EndpointConnector:
    """
    What ReconnectingClientFactory needs to connect again and again, over any client endpoint.

    Parameters
    ----------
    endpoint
        Gives the endpoint for the next attempt.
    factory
        Builds the protocols and is told of failures.
    clock
        Measures the time limit.
    timeout
        Gives the seconds for the next attempt, name resolution and TLS handshake included.
    """

    def __init__(
        self,
        endpoint: Callable[[], IStreamClientEndpoint],
        factory: ReconnectingFactory,
        clock: IReactorTime,
        timeout: Callable[[], float],
    ) -> None:
        self._endpoint = endpoint
        self._factory = factory
        self._clock = clock
        self._timeout = timeout
        self._attempt: Deferred[WireProtocol] | None = None

    def connect(self) -> None:
        self._factory.startedConnecting(self)
        seconds = self._timeout()

        def too_late(result: object, _seconds: float) -> NoReturn:
            raise EquipmentTimeout(seconds, "a connection")

        # An endpoint may raise at once: a name that it does not take, a file of certificates that has gone since.
        made: Deferred[Any] = maybeDeferred(lambda: self._endpoint().connect(self._factory))
        attempt: Deferred[WireProtocol] = made.addCallback(lambda protocol: protocol.when_up())
        attempt.addTimeout(seconds, self._clock, too_late)
        self._attempt = attempt
        attempt.addCallbacks(self._made, self._failed)

    @property
    def attempting(self) -> bool:
        """Whether an attempt is under way."""
        return self._attempt is not None

    def lost(self, reason: Failure) -> None:
        """Take note that the connection which this connector made is gone."""
        self._factory.clientConnectionLost(self, reason)

    def stopConnecting(self) -> None:
        if self._attempt is None:
            raise NotConnectingError("no attempt is under way")
        self._attempt.cancel()

    def disconnect(self) -> None:
        self.stopConnecting()

    def getDestination(self) -> Any:
        return self._endpoint()

    def _made(self, protocol: WireProtocol) -> None:
        self._attempt = None
        self._factory.came_up(protocol)

    def _failed(self, reason: Failure) -> None:
        self._attempt = None
        self._factory.clientConnectionFailed(self, reason)
