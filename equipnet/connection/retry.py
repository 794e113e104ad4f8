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
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.error import NotConnectingError
from twisted.internet.interfaces import IAddress, IConnector, IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import ReconnectingClientFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from equipnet.errors import Disconnected, EquipmentConnectionError, EquipmentTimeout

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
        Seconds before the first try after a refused one. A connection that was usable for at least this long and is
        lost is tried again at once.
    factor
        By how much each wait is longer than the one before it; at least 1.
    maximum
        The longest wait in seconds, before the jitter.
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
            wait = min(self.initial_delay * float(self.factor) ** (failures - 1), self.maximum)
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
    delay
        Gives the seconds until the next try, where a wire format has a rule of its own; it gets the number of tries
        that have failed in a row. The policy's own waits where nothing is given.

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
        delay: Callable[[int], float] | None = None,
    ) -> None:
        self.policy = policy
        # ReconnectingClientFactory.clock has no annotation, and is inferred as None.
        self.clock = clock  # type: ignore[assignment]
        self._clock = clock
        self._build = build
        self._attempting = attempting
        self._made = made
        self._ended = ended
        self._delay = delay
        self._up_since: float | None = None
        self.failures = 0

    def limit(self, attempts: int | None) -> None:
        """Begin to count anew; stop after ``attempts`` tries in a row that failed, None for never."""
        self.resetDelay()
        self.failures = 0
        self._limit_retries(attempts)

    def extend(self, attempts: int | None) -> None:
        """Let there be at least ``attempts`` more tries, None for no limit."""
        if attempts is None:
            self._limit_retries(None)
        elif self.maxRetries is not None:
            self._limit_retries(max(self.maxRetries + 1, self.failures + attempts))

    def came_up(self, protocol: WireProtocol) -> None:
        """Take note that a transport is up."""
        self._made(protocol)

    def worked(self) -> None:
        """Take note that the connection is usable; from now on the policy's own number of attempts counts."""
        if self._up_since is None:
            self._up_since = self._clock.seconds()
        self._limit_retries(self.policy.attempts)

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
        # A peer that accepts and hangs up at once, or before it can be used, is as good as one that refuses: without
        # this it would be tried for ever without any pause.
        if up_since is not None and self._clock.seconds() - up_since >= self.policy.initial_delay:
            self.failures = 0
        else:
            self.failures += 1
        self._end(connector, reason)

    def _end(self, connector: IConnector, reason: Failure) -> None:
        again = bool(self.continueTrying) and (self.maxRetries is None or self.failures <= self.maxRetries)
        # Who is told may hurry the next try or stop us, so it is scheduled by then.
        if again:
            self.retry(connector)
        self._ended(reason, again)

    def retry(self, connector: IConnector | None = None) -> None:
        self.delay = (self._delay or self.policy.delay)(self.failures)
        # The base class counts the try after a connection that had been up as a retry; here only failures count.
        self.retries = self.failures - 1
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
        self._late: IDelayedCall | None = None
        self._protocol: WireProtocol | None = None
        self._ended_by: EquipmentConnectionError | None = None

    def connect(self) -> None:
        begun: Deferred[Any] = Deferred()
        # An endpoint may raise at once: a name that it does not take, a file of certificates that has gone since.
        begun.addCallback(lambda _: self._endpoint().connect(self._factory))
        self._attempt = begun.addCallback(self._connected)
        seconds = self._timeout()
        self._late = self._clock.callLater(seconds, self._end, EquipmentTimeout(seconds, "a connection"))
        self._attempt.addCallbacks(self._made, self._failed)
        # Who is told of the attempt may stop it; then nothing has been opened yet, and what follows does nothing.
        self._factory.startedConnecting(self)
        begun.callback(None)

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
        self._end(Disconnected("the attempt was stopped from our side"))

    def disconnect(self) -> None:
        self.stopConnecting()

    def getDestination(self) -> Any:
        return self._endpoint()

    def _connected(self, protocol: WireProtocol) -> Deferred[WireProtocol]:
        self._protocol = protocol
        return protocol.when_up()

    def _end(self, error: EquipmentConnectionError) -> None:
        """End the attempt; it has failed as soon as its socket is closed."""
        if self._ended_by is not None:
            return
        self._ended_by = error
        if self._protocol is not None:
            self._protocol.hang_up(error)
        elif self._attempt is not None:
            self._attempt.cancel()

    def _made(self, protocol: WireProtocol) -> None:
        self._over()
        self._factory.came_up(protocol)

    def _failed(self, reason: Failure) -> None:
        error = self._over()
        self._factory.clientConnectionFailed(self, reason if error is None else Failure(error))

    def _over(self) -> EquipmentConnectionError | None:
        late, self._late = self._late, None
        if late is not None and late.active():
            late.cancel()
        error, self._ended_by = self._ended_by, None
        self._attempt = self._protocol = None
        return error
