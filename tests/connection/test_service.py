from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError, ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import INegotiated
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver, MemoryReactorClock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides
from zope.interface.verify import verifyObject

from equipnet.connection.memory import MemoryEndpoint
from equipnet.connection.protocol import WireProtocol
from equipnet.connection.retry import RetryPolicy
from equipnet.connection.service import CLOSING_TIME, HANDSHAKE_TIME, ClientConnection, ListeningConnection
from equipnet.connection.state import Change, State
from equipnet.connection.tls import TLS
from equipnet.errors import ConnectFailed, ConnectionLost, Disconnected, EquipmentError, EquipmentTimeout
from equipnet.interfaces import IConnection

from .doubles import Attempt, FakeEndpoint, RecordingPeers, RecordingTransport

POLICY = RetryPolicy(1.0, 2.0, 8.0, jitter=0.0)


class Slow(WireProtocol):
    """A protocol whose conversation is usable only when the test says so."""

    def begin(self) -> None:
        """Nothing yet."""


class Client(ClientConnection):
    """A connection that records what its hook is told."""

    protocol_class: type[WireProtocol] = WireProtocol

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.losses: list[EquipmentError] = []

    def build_protocol(self) -> WireProtocol:
        return self.protocol_class(self)

    def lost(self, error: EquipmentError) -> None:
        self.losses.append(error)


class ClientTestCase(SynchronousTestCase):
    """A connection over a fake endpoint, whose attempts end as the test says."""

    policy = POLICY

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = FakeEndpoint()
        self.changes: list[Change] = []
        self.connection = Client(self.endpoint, name="dmm", retry=self.policy, connect_timeout=10.0, reactor=self.clock)
        self.connection.add_observer(self.changes.append)
        self.addCleanup(self.check_end)

    def check_end(self) -> None:
        """After a stop nothing is scheduled, whatever came before; nothing may be left over of it either."""
        stopped = self.connection.stopService()
        attempt = self.endpoint.attempts[-1] if self.endpoint.attempts else None
        if attempt is not None and attempt.protocol is not None and not stopped.called:
            attempt.lose(ConnectionDone())
        self.successResultOf(stopped)
        self.assertIs(self.connection.state, State.STOPPED)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertFalse(self.connection.running)

    def news(self) -> list[State]:
        """The states entered since the last time."""
        news = [change.new for change in self.changes]
        del self.changes[:]
        return news

    def refuse(self) -> None:
        self.endpoint.last.fail(ConnectionRefusedError(errno.ECONNREFUSED))

    def to(self, state: State) -> Attempt | None:
        """Bring a new connection to this state by starting it."""
        if state is State.STOPPED:
            return None
        self.connection.startService()
        if state is State.WAITING:
            self.refuse()
        elif state in (State.CONNECTED, State.READY, State.DISCONNECTING):
            self.connection.protocol_class = Slow if state is State.CONNECTED else WireProtocol
            self.endpoint.last.succeed()
            # Long enough for a connection that had been up.
            self.clock.advance(5.0)
        if state is State.DISCONNECTING:
            self.connection.disconnect()
        self.assertIs(self.connection.state, state)
        self.news()
        return self.endpoint.last

    def unheeded(self, ready: Deferred[Any]) -> None:
        """Assert that this wait goes on; it ends when the test stops the connection."""
        self.assertNoResult(ready)
        ready.addErrback(lambda reason: reason.trap(Disconnected))

    def close(self) -> None:
        """Let the transport of the last attempt close."""
        self.endpoint.last.lose(ConnectionDone())

    def when(self, state: State, act: Callable[[], object]) -> None:
        """Once, when the state is entered, do this from inside the change."""

        def observer(change: Change) -> None:
            if change.new is state:
                self.connection.remove_observer(observer)
                act()

        # Before the recording one, to see whether that still hears of everything in order.
        self.connection.remove_observer(self.changes.append)
        self.connection.add_observer(observer)
        self.connection.add_observer(self.changes.append)


class PromiseTests(ClientTestCase):
    """What a connection is, before anything is done with it."""

    def test_interface(self) -> None:
        """A connection keeps what `IConnection` promises."""
        verifyObject(IConnection, self.connection)

    def test_new(self) -> None:
        """A new connection is STOPPED, with nothing scheduled and nothing gone wrong."""
        self.assertEqual((self.connection.state, self.connection.since.monotonic), (State.STOPPED, 0.0))
        self.assertIsNone(self.connection.last_error)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(repr(self.connection), "<Client 'dmm' stopped>")

    def test_name(self) -> None:
        """Without a name a connection is called as its address is written."""
        connection = ClientConnection("TCP::dmm::5025", reactor=self.clock)
        self.assertEqual((connection.name, connection.peer), ("tcp:dmm:5025", "tcp:dmm:5025"))

    def test_bad_timeout(self) -> None:
        """A time limit that makes no sense is refused."""
        for seconds in (0.0, -1.0, float("nan"), float("inf")):
            with self.subTest(seconds=seconds), self.assertRaises(ValueError):
                ClientConnection("dmm:5025", connect_timeout=seconds, reactor=self.clock)

    def test_tls_elsewhere(self) -> None:
        """TLS options for what is not spoken to with TLS are refused, not overlooked."""
        for address in ("tcp:dmm:5025", "udp:dmm:5025", "unix:/dmm", MemoryEndpoint(Factory(), self.clock)):
            with self.subTest(address=address), self.assertRaisesRegex(ValueError, "begins with tls:"):
                ClientConnection(address, tls=TLS(), reactor=self.clock)

    def test_taps(self) -> None:
        """Removing a tap that is not there is no error."""
        self.connection.add_tap(print)
        self.connection.remove_tap(print)
        self.connection.remove_tap(print)
        self.assertEqual(self.connection.taps, [])


class MemoryConnectionTests(SynchronousTestCase):
    """A connection over a pipe in memory, from its first state to its last."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.peers = RecordingPeers()
        self.connection = ClientConnection(
            MemoryEndpoint(self.peers, self.clock), name="dmm", retry=POLICY, reactor=self.clock
        )
        self.changes: list[Change] = []
        self.connection.add_observer(self.changes.append)

    def test_life(self) -> None:
        """A connection comes up, comes back at once when the peer closes it, and is closed from our side at the end."""
        ready = self.connection.when_ready()
        self.connection.startService()
        self.assertIs(self.successResultOf(ready), self.connection)
        self.connection.protocol.transport.write(b"*IDN?\n")
        self.clock.advance(2.0)
        self.assertEqual(self.peers.peers[0].received, [b"*IDN?\n"])
        self.peers.peers[0].transport.loseConnection()
        self.clock.advance(0)
        self.clock.advance(0)
        self.assertEqual(len(self.peers.peers), 2)
        stopped = self.connection.stopService()
        self.assertNoResult(stopped)
        self.clock.advance(0)
        self.successResultOf(stopped)
        self.assertEqual(len(self.peers.peers[1].lost), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        up = [State.CONNECTING, State.CONNECTED, State.READY]
        self.assertEqual(
            [change.new for change in self.changes], [*up, State.WAITING, *up, State.DISCONNECTING, State.STOPPED]
        )
        for before, after in zip(self.changes, self.changes[1:], strict=False):
            self.assertIs(before.new, after.old)


class ReadyTests(ClientTestCase):
    """`when_ready`: waiting for a usable connection."""

    def test_every_state(self) -> None:
        """In every state it fires when the connection is READY, and no earlier."""
        for state in State:
            with self.subTest(state=state):
                self.setUp()
                self.to(state)
                ready = self.connection.when_ready()
                if state is not State.READY:
                    self.assertNoResult(ready)
                if state is State.DISCONNECTING:
                    self.close()
                if state in (State.STOPPED, State.DISCONNECTING, State.WAITING):
                    self.connection.connect()
                    self.clock.advance(0)
                if state is State.CONNECTED:
                    self.connection.usable(self.connection.protocol, "synchronised")
                elif state is not State.READY:
                    self.assertNoResult(ready)
                    self.endpoint.last.succeed()
                self.assertIs(self.successResultOf(ready), self.connection)
                self.check_end()

    def test_cancelled(self) -> None:
        """Who no longer waits is forgotten; the others still hear of it."""
        ready, other = self.connection.when_ready(), self.connection.when_ready()
        ready.cancel()
        self.failureResultOf(ready, CancelledError)
        self.to(State.READY)
        self.successResultOf(other)

    def test_cancelled_by_another(self) -> None:
        """One who is told may cancel another who waits."""
        first, second = self.connection.when_ready(), self.connection.when_ready()
        first.addCallback(lambda _: second.cancel())
        self.to(State.READY)
        self.successResultOf(first)
        self.failureResultOf(second, CancelledError)

    def test_disconnected_by_another(self) -> None:
        """When one who is told disconnects, those who are not told yet fail: they would get no usable connection."""
        closed: list[Deferred[None]] = []
        first, second = self.connection.when_ready(), self.connection.when_ready()
        first.addCallback(lambda _: closed.append(self.connection.disconnect()))
        self.connection.startService()
        self.endpoint.last.succeed()
        self.successResultOf(first)
        self.failureResultOf(second, Disconnected)

    def test_given_up(self) -> None:
        """After giving up it fails at once with the reason, until the connection is begun again."""
        self.failureResultOf(self.give_up(), ConnectFailed)
        self.failureResultOf(self.connection.when_ready(), ConnectFailed)
        self.unheeded(self.connection.connect())
        self.unheeded(self.connection.when_ready())

    def test_disconnected(self) -> None:
        """It fails when our side ends the connection; asked after that, it waits for the next beginning."""
        self.to(State.WAITING)
        ready = self.connection.when_ready()
        self.connection.disconnect()
        self.failureResultOf(ready, Disconnected)
        self.unheeded(self.connection.when_ready())

    def test_never_started(self) -> None:
        """A disconnect also fails those who wait for a connection that nobody began."""
        ready = self.connection.when_ready()
        self.successResultOf(self.connection.disconnect())
        self.failureResultOf(ready, Disconnected)
        self.assertEqual(self.news(), [])

    def test_waits_again(self) -> None:
        """Who fails may wait again from inside the failure, without being failed by the same event."""
        again: list[Deferred[Any]] = []
        self.connection.when_ready().addErrback(lambda _: again.append(self.connection.when_ready()))
        self.connection.disconnect()
        self.unheeded(again[0])

    def give_up(self) -> Deferred[Any]:
        ready = self.connection.connect()
        self.refuse()
        self.assertIs(self.connection.state, State.STOPPED)
        return ready

    def test_begins_again_when_given_up(self) -> None:
        """Who fails because it was given up may connect again from inside the failure."""
        again: list[Deferred[Any]] = []
        self.connection.connect().addErrback(lambda _: again.append(self.connection.connect()))
        self.refuse()
        self.assertIs(self.connection.state, State.CONNECTING)
        self.assertNoResult(again[0])
        self.endpoint.last.succeed()
        self.successResultOf(again[0])


class ConnectTests(ClientTestCase):
    """`connect`: making a connection, with a number of tries."""

    def test_once(self) -> None:
        """One try that fails is the end; the error says where it went and keeps the operating system's number."""
        ready = self.connection.connect()
        self.refuse()
        error: Any = self.failureResultOf(ready, ConnectFailed).value
        self.assertIn("Cannot connect to endpoint: ", str(error))
        self.assertEqual(error.errno, errno.ECONNREFUSED)
        self.assertIsInstance(error.__cause__, ConnectionRefusedError)
        self.assertIs(self.connection.last_error, error)
        self.assertEqual(self.connection.losses, [error])
        self.assertEqual(self.news(), [State.CONNECTING, State.STOPPED])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_several(self) -> None:
        """As many tries as were asked for are made, with the policy's waits between them."""
        ready = self.connection.connect(3)
        for wait in (1.0, 2.0):
            self.refuse()
            self.assertNoResult(ready)
            self.clock.advance(wait)
        self.refuse()
        self.failureResultOf(ready, ConnectFailed)
        self.assertEqual(len(self.endpoint.attempts), 3)
        self.assertIs(self.connection.state, State.STOPPED)

    def test_as_the_policy_says(self) -> None:
        """None, and numbers less than 1, leave the number to the policy."""
        for attempts in (None, 0, -1):
            with self.subTest(attempts=attempts):
                self.setUp()
                ready = self.connection.connect(attempts)
                for _ in range(20):
                    self.refuse()
                    self.clock.advance(8.0)
                self.assertNoResult(ready)
                self.connection.disconnect()
                self.failureResultOf(ready, Disconnected)
                self.check_end()

    def test_comes_back(self) -> None:
        """From the first success on it comes back as the policy says, however few tries were asked for."""
        self.successResultOf(self.up(self.connection.connect(1)))
        self.clock.advance(5.0)
        self.close()
        self.clock.advance(0)
        self.refuse()
        self.assertIs(self.connection.state, State.WAITING)

    def up(self, ready: Deferred[Any]) -> Deferred[Any]:
        self.endpoint.last.succeed()
        return ready

    def test_waiting(self) -> None:
        """While the next try is waited for, it is made at once; when it fails, only who asked for one try is told."""
        self.to(State.WAITING)
        patient, hasty = self.connection.when_ready(), self.connection.connect()
        self.clock.advance(0)
        self.assertEqual(len(self.endpoint.attempts), 2)
        self.refuse()
        self.failureResultOf(hasty, ConnectFailed)
        self.assertNoResult(patient)
        self.assertIs(self.connection.state, State.WAITING)
        self.connection.disconnect()
        self.failureResultOf(patient, Disconnected)

    def test_more_tries(self) -> None:
        """Who asks for more tries than those before gets them."""
        first, second = self.connection.connect(1), self.connection.connect(2)
        self.refuse()
        self.failureResultOf(first, ConnectFailed)
        self.assertNoResult(second)
        self.clock.advance(1.0)
        self.refuse()
        self.failureResultOf(second, ConnectFailed)
        self.assertIs(self.connection.state, State.STOPPED)

    def test_connecting(self) -> None:
        """While an attempt is under way there is no second one."""
        self.to(State.CONNECTING)
        ready = self.connection.connect()
        self.assertEqual(len(self.endpoint.attempts), 1)
        self.successResultOf(self.up(ready))

    def test_ready(self) -> None:
        """A usable connection is given at once."""
        self.to(State.READY)
        self.assertIs(self.successResultOf(self.connection.connect()), self.connection)
        self.assertEqual(len(self.endpoint.attempts), 1)

    def test_disconnecting(self) -> None:
        """During a disconnect it waits for the end of that, and then connects."""
        self.to(State.DISCONNECTING)
        ready = self.connection.connect()
        self.assertEqual(len(self.endpoint.attempts), 1)
        self.close()
        self.assertEqual(self.news(), [State.STOPPED, State.CONNECTING])
        self.successResultOf(self.up(ready))

    def test_overruled(self) -> None:
        """A disconnect overrules a connect that came during the disconnect before it."""
        self.to(State.DISCONNECTING)
        ready = self.connection.connect()
        closed = self.connection.disconnect()
        self.failureResultOf(ready, Disconnected)
        self.close()
        self.successResultOf(closed)
        self.assertEqual(self.news(), [State.STOPPED])
        self.assertEqual(len(self.endpoint.attempts), 1)

    def test_overruled_by_who_waited(self) -> None:
        """So does a disconnect by somebody who was waiting for the end of the first."""
        self.to(State.DISCONNECTING)
        self.connection.disconnect().addCallback(lambda _: self.connection.disconnect())
        ready = self.connection.connect()
        self.close()
        self.failureResultOf(ready, Disconnected)
        self.assertIs(self.connection.state, State.STOPPED)

    def test_no_longer_wanted(self) -> None:
        """A connect that is cancelled while the disconnect lasts is not made."""
        self.to(State.DISCONNECTING)
        ready = self.connection.connect()
        ready.cancel()
        self.failureResultOf(ready, CancelledError)
        self.close()
        self.assertEqual(len(self.endpoint.attempts), 1)

    def test_timeout(self) -> None:
        """An attempt ends when its time is up, and counts as any other that failed."""
        ready = self.connection.connect()
        self.clock.advance(10.0)
        self.assertTrue(self.endpoint.last.cancelled)
        error: Any = self.failureResultOf(ready, EquipmentTimeout).value
        self.assertIsInstance(error, TimeoutError)
        self.assertEqual(error.seconds, 10.0)

    def test_endpoint_raises(self) -> None:
        """An endpoint that cannot be had is a failed try."""

        class Broken(ClientConnection):
            def endpoint(self) -> Any:
                raise ValueError("the certificate has gone")

        connection = Broken("tls:dmm:5025", retry=POLICY, reactor=self.clock)
        error: Any = self.failureResultOf(connection.connect(), ConnectFailed).value
        self.assertIn("the certificate has gone", str(error))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_protocol_that_does_not_begin(self) -> None:
        """A protocol that raises when it begins is logged and hung up on, and counts as a failed try."""

        class Broken(WireProtocol):
            def begin(self) -> None:
                raise ZeroDivisionError

        self.connection.protocol_class = Broken
        ready = self.connection.connect()
        self.endpoint.last.succeed()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.endpoint.last.transport.closed, ["abort"])
        self.close()
        self.failureResultOf(ready, ConnectionLost)
        self.assertEqual(self.news(), [State.CONNECTING, State.CONNECTED, State.STOPPED])


class LossTests(ClientTestCase):
    """What follows when a connection is refused or lost."""

    def test_refused(self) -> None:
        """A connection that is refused backs off."""
        self.connection.startService()
        for wait in (1.0, 2.0, 4.0, 8.0, 8.0):
            self.refuse()
            [call] = self.clock.getDelayedCalls()
            self.assertEqual(call.getTime() - self.clock.seconds(), wait)
            self.clock.advance(wait)
        self.assertEqual(self.news(), [State.CONNECTING, State.WAITING] * 5 + [State.CONNECTING])

    def test_lost(self) -> None:
        """A connection that had been up comes back at once, and the reason is kept."""
        self.to(State.READY)
        self.close()
        self.assertIs(self.connection.state, State.WAITING)
        self.assertIsNone(self.connection.protocol)
        self.assertIsInstance(self.connection.last_error, ConnectionLost)
        self.assertEqual(self.connection.losses, [self.connection.last_error])
        self.assertIn("closed the connection", self.changes[-1].reason)
        self.clock.advance(0)
        self.assertEqual(len(self.endpoint.attempts), 2)

    def test_accepted_and_closed(self) -> None:
        """A peer that accepts and hangs up at once is no hot loop: it backs off as from one that refuses."""
        self.connection.startService()
        for wait in (1.0, 2.0, 4.0):
            self.endpoint.last.succeed()
            self.close()
            [call] = self.clock.getDelayedCalls()
            self.assertEqual(call.getTime() - self.clock.seconds(), wait)
            self.clock.advance(wait)

    def test_never_usable(self) -> None:
        """A connection that is lost before it was usable is a failed try for who asked for one."""
        self.connection.protocol_class = Slow
        ready = self.connection.connect()
        self.endpoint.last.succeed()
        self.clock.advance(60.0)
        self.close()
        self.failureResultOf(ready, ConnectionLost)
        self.assertIs(self.connection.state, State.STOPPED)

    def test_unusable(self) -> None:
        """A conversation that is not usable for a while is CONNECTED, and then READY again for those who waited."""
        self.to(State.READY)
        protocol = self.connection.protocol
        self.connection.unusable(protocol, "silence")
        self.connection.unusable(protocol, "still")
        ready = self.connection.when_ready()
        self.assertNoResult(ready)
        self.connection.usable(protocol, "synchronised")
        self.connection.usable(protocol, "still")
        self.successResultOf(ready)
        self.assertEqual(self.news(), [State.CONNECTED, State.READY])

    def test_news_of_an_old_protocol(self) -> None:
        """What the protocol of an earlier connection still tells changes nothing."""
        self.to(State.READY)
        old = self.connection.protocol
        self.close()
        self.clock.advance(0)
        self.connection.protocol_class = Slow
        self.endpoint.last.succeed()
        self.news()
        self.connection.usable(old, "late")
        self.connection.went_down(old, self.failureResultOf(self.failed()))
        self.assertEqual(self.news(), [])
        self.assertIs(self.connection.state, State.CONNECTED)

    def failed(self) -> Deferred[None]:
        failed: Deferred[None] = Deferred()
        failed.errback(ConnectionLost("late"))
        return failed

    def test_gone_before_the_endpoint_says_so(self) -> None:
        """A transport that goes while the endpoint still works on the attempt is a failed attempt."""
        self.connection.startService()
        attempt = self.endpoint.last
        attempt.protocol = self.connection.build_protocol()
        attempt.protocol.makeConnection(attempt.transport)
        attempt.lose(ConnectionDone())
        self.assertIs(self.connection.state, State.CONNECTING)
        attempt.connected.callback(attempt.protocol)
        self.assertIs(self.connection.state, State.WAITING)


class GivingUpTests(ClientTestCase):
    """A policy with a limited number of tries."""

    policy = RetryPolicy(1.0, 2.0, 8.0, jitter=0.0, attempts=2)

    def test_given_up(self) -> None:
        """After the policy's number of tries the connection is STOPPED, and stays so."""
        self.connection.startService()
        ready = self.connection.when_ready()
        self.refuse()
        self.clock.advance(1.0)
        self.refuse()
        self.failureResultOf(ready, ConnectFailed)
        self.assertEqual(self.news(), [State.CONNECTING, State.WAITING, State.CONNECTING, State.STOPPED])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertTrue(self.connection.running)

    def test_anew_after_a_success(self) -> None:
        """A connection that was lost has all of the policy's tries again."""
        self.to(State.READY)
        self.close()
        for wait in (0.0, 1.0):
            self.assertIs(self.connection.state, State.WAITING)
            self.clock.advance(wait)
            self.refuse()
        self.assertIs(self.connection.state, State.STOPPED)

    def test_started_while_connecting(self) -> None:
        """A service that is started while somebody's single try is under way has the policy's tries."""
        self.failureResultOf(self.start_and_refuse(self.connection.connect(1)), ConnectFailed)
        self.assertIs(self.connection.state, State.WAITING)

    def start_and_refuse(self, ready: Deferred[Any]) -> Deferred[Any]:
        self.connection.startService()
        self.refuse()
        return ready


class DisconnectTests(ClientTestCase):
    """`disconnect`: the end from our side, which is never undone."""

    def test_stopped(self) -> None:
        """There is nothing to do for a connection that is STOPPED."""
        self.successResultOf(self.connection.disconnect())
        self.assertEqual(self.news(), [])

    def test_connecting(self) -> None:
        """An attempt under way is cancelled."""
        self.to(State.CONNECTING)
        ready = self.connection.when_ready()
        self.successResultOf(self.connection.disconnect())
        self.assertTrue(self.endpoint.last.cancelled)
        self.failureResultOf(ready, Disconnected)
        self.assert_stopped()

    def test_handshake(self) -> None:
        """A handshake under way is aborted; it is over when the socket is closed."""
        self.connection.startService()
        transport = RecordingTransport()
        directlyProvides(transport, INegotiated)
        attempt = self.endpoint.last
        attempt.succeed(transport)
        closed = self.connection.disconnect()
        self.assertEqual(transport.closed, ["abort"])
        self.assertNoResult(closed)
        self.close()
        self.successResultOf(closed)
        self.news()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_handshake_that_hangs(self) -> None:
        """A peer that accepts and never completes its handshake is aborted when the time is up."""
        ready = self.connection.connect()
        transport = RecordingTransport()
        directlyProvides(transport, INegotiated)
        self.endpoint.last.succeed(transport)
        self.clock.advance(10.0)
        self.assertEqual(transport.closed, ["abort"])
        self.assertNoResult(ready)
        self.close()
        self.failureResultOf(ready, EquipmentTimeout)

    def test_waiting(self) -> None:
        """The next try is cancelled."""
        self.to(State.WAITING)
        self.successResultOf(self.connection.disconnect())
        self.assert_stopped()
        self.clock.advance(100.0)
        self.assertEqual(len(self.endpoint.attempts), 1)

    def test_up(self) -> None:
        """A transport that is up is closed once what has been written has been sent; then it is over."""
        for state in (State.CONNECTED, State.READY):
            with self.subTest(state=state):
                self.setUp()
                self.to(state)
                closed = self.connection.disconnect()
                self.assertEqual(self.endpoint.last.transport.closed, ["lose"])
                self.assertNoResult(closed)
                self.close()
                self.successResultOf(closed)
                self.assert_stopped()

    def test_hangs(self) -> None:
        """A close that takes too long is aborted."""
        self.to(State.READY)
        closed = self.connection.disconnect()
        self.clock.advance(CLOSING_TIME)
        self.assertEqual(self.endpoint.last.transport.closed, ["lose", "abort"])
        self.assertNoResult(closed)
        self.close()
        self.successResultOf(closed)
        self.assert_stopped()

    def test_twice(self) -> None:
        """A second disconnect ends when the first does."""
        self.to(State.READY)
        first, second = self.connection.disconnect(), self.connection.disconnect()
        self.assertNoResult(second)
        self.close()
        self.successResultOf(first)
        self.successResultOf(second)
        self.assert_stopped()

    def test_no_longer_waited_for(self) -> None:
        """Who no longer waits for the end changes nothing about it."""
        self.to(State.READY)
        closed = self.connection.disconnect()
        closed.cancel()
        self.failureResultOf(closed, CancelledError)
        self.close()
        self.assert_stopped()

    def test_lost(self) -> None:
        """The hook is told of an end from our side too, once."""
        self.to(State.READY)
        self.connection.disconnect()
        self.close()
        self.assertEqual([type(error) for error in self.connection.losses], [Disconnected])
        self.assertIsNone(self.connection.last_error)

    def test_while_what_waits_is_failed(self) -> None:
        """Whoever is failed by a loss may disconnect before the connection itself has taken note of the loss."""

        class Disconnecting(WireProtocol):
            def fail_pending(protocol, error: Any) -> None:
                self.connection.disconnect()

        self.connection.protocol_class = Disconnecting
        self.connection.startService()
        self.endpoint.last.succeed()
        self.news()
        self.close()
        self.assert_stopped()

    def assert_stopped(self) -> None:
        self.assertEqual(self.news(), [State.DISCONNECTING, State.STOPPED])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertIsNone(self.connection.protocol)


class ReconnectTests(ClientTestCase):
    """`reconnect`: a new socket instead of the present one."""

    def test_ready(self) -> None:
        """A usable connection is closed, and made again at once when it is closed."""
        self.to(State.READY)
        ready = self.connection.reconnect()
        self.assertEqual(self.news(), [State.CONNECTED])
        self.assertEqual(self.endpoint.last.transport.closed, ["lose"])
        self.close()
        self.clock.advance(0)
        self.assertEqual(len(self.endpoint.attempts), 2)
        self.endpoint.last.succeed()
        self.successResultOf(ready)
        self.assertEqual(self.news(), [State.WAITING, State.CONNECTING, State.CONNECTED, State.READY])

    def test_young(self) -> None:
        """Even a connection that was up for no time at all is made again without any wait."""
        self.connection.startService()
        self.endpoint.last.succeed()
        ready = self.connection.reconnect()
        self.close()
        self.clock.advance(0)
        self.assertEqual(len(self.endpoint.attempts), 2)
        self.unheeded(ready)

    def test_fails(self) -> None:
        """It fails after as many tries as were asked for; the loss of the old socket is none of them."""
        self.to(State.READY)
        ready = self.connection.reconnect(2)
        self.close()
        for wait in (0.0, 1.0):
            self.assertNoResult(ready)
            self.clock.advance(wait)
            self.refuse()
        self.failureResultOf(ready, ConnectFailed)
        self.assertIs(self.connection.state, State.WAITING)

    def test_hangs(self) -> None:
        """A close that takes too long is aborted, however often it is asked for."""
        self.to(State.READY)
        self.unheeded(self.connection.reconnect())
        self.unheeded(self.connection.reconnect())
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(CLOSING_TIME)
        self.assertEqual(self.endpoint.last.transport.closed, ["lose", "abort"])

    def test_disconnected_meanwhile(self) -> None:
        """A disconnect while the old socket is being closed ends it for good."""
        self.to(State.READY)
        ready = self.connection.reconnect()
        closed = self.connection.disconnect()
        self.failureResultOf(ready, Disconnected)
        self.close()
        self.successResultOf(closed)
        self.assertEqual(len(self.endpoint.attempts), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_without_a_socket(self) -> None:
        """Without a socket it is a connect: the next attempt is the present one, or is made now."""
        for state, attempts in (
            (State.STOPPED, 1),
            (State.CONNECTING, 1),
            (State.WAITING, 2),
            (State.DISCONNECTING, 2),
        ):
            with self.subTest(state=state):
                self.setUp()
                self.to(state)
                ready = self.connection.reconnect()
                if state is State.DISCONNECTING:
                    self.close()
                self.clock.advance(0)
                self.assertEqual(len(self.endpoint.attempts), attempts)
                self.endpoint.last.succeed()
                self.successResultOf(ready)
                self.check_end()

    def test_restart_without_a_socket(self) -> None:
        """There is nothing to restart without a socket, or when it is being closed for good."""
        for state in (State.STOPPED, State.CONNECTING, State.WAITING, State.DISCONNECTING):
            with self.subTest(state=state):
                self.setUp()
                self.to(state)
                before = self.clock.getDelayedCalls()
                self.connection.restart(ConnectionLost("silence"))
                self.assertEqual((self.news(), self.clock.getDelayedCalls()), ([], before))
                self.check_end()

    def test_restart(self) -> None:
        """A restart aborts the connection with its reason, and a new one is made at once."""
        self.to(State.READY)
        error = ConnectionLost("silence")
        self.connection.restart(error)
        self.assertEqual(self.endpoint.last.transport.closed, ["abort"])
        self.close()
        self.assertIs(self.connection.last_error, error)
        self.clock.advance(0)
        self.assertEqual(len(self.endpoint.attempts), 2)

    def test_disconnected_by_an_observer(self) -> None:
        """An observer that disconnects when it hears of a restart ends it for good, with nothing left scheduled."""
        self.to(State.READY)
        self.when(State.CONNECTED, self.connection.disconnect)
        self.connection.reconnect().addErrback(lambda reason: reason.trap(Disconnected))
        self.endpoint.last.transport.closed.clear()
        self.connection.disconnect()
        self.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ServiceTests(ClientTestCase):
    """`startService` and `stopService`."""

    def test_stopped_in_every_state(self) -> None:
        """The end of a service fires when the last socket is closed and nothing is scheduled, in every state."""
        for state in State:
            with self.subTest(state=state):
                self.setUp()
                self.to(state)
                stopped = self.connection.stopService()
                if state in (State.CONNECTED, State.READY, State.DISCONNECTING):
                    self.assertNoResult(stopped)
                    self.close()
                self.successResultOf(stopped)
                self.assertEqual(self.clock.getDelayedCalls(), [])
                self.assertIs(self.connection.state, State.STOPPED)

    def test_started_twice(self) -> None:
        """A second start changes nothing."""
        self.connection.startService()
        self.connection.startService()
        self.assertEqual(len(self.endpoint.attempts), 1)

    def test_started_while_stopping(self) -> None:
        """A service that is started again while it still stops comes back when it has stopped."""
        self.to(State.READY)
        stopped = self.connection.stopService()
        self.connection.startService()
        self.close()
        self.successResultOf(stopped)
        self.assertEqual(self.news(), [State.DISCONNECTING, State.STOPPED, State.CONNECTING])
        self.refuse()
        self.assertIs(self.connection.state, State.WAITING)

    def test_started_and_stopped_while_stopping(self) -> None:
        """And when it is stopped once more before that, it stays stopped."""
        self.to(State.READY)
        self.connection.stopService()
        self.connection.startService()
        stopped = self.connection.stopService()
        self.close()
        self.successResultOf(stopped)
        self.assertEqual(len(self.endpoint.attempts), 1)

    def test_started_after_a_connect(self) -> None:
        """A start leaves a connection alone that somebody has made before."""
        self.connection.connect()
        self.endpoint.last.succeed()
        self.connection.startService()
        self.assertIs(self.connection.state, State.READY)
        self.assertEqual(len(self.endpoint.attempts), 1)


class ObserverTests(ClientTestCase):
    """Observers that do something to the connection from inside a change."""

    def test_raises(self) -> None:
        """An observer that raises is logged and changes nothing."""

        def broken(change: Change) -> None:
            raise ZeroDivisionError

        self.connection.add_observer(broken)
        self.connection.startService()
        self.endpoint.last.succeed()
        self.assertEqual(self.news(), [State.CONNECTING, State.CONNECTED, State.READY])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)
        self.connection.remove_observer(broken)

    def test_disconnects(self) -> None:
        """A disconnect from inside any change ends the connection, and every observer hears of all of it in order."""
        for state in (State.CONNECTING, State.CONNECTED, State.READY, State.WAITING):
            with self.subTest(state=state):
                self.setUp()
                closed: list[Deferred[None]] = []
                self.when(state, lambda closed=closed: closed.append(self.connection.disconnect()))  # type: ignore[misc]
                self.connection.startService()
                if state is State.WAITING:
                    self.refuse()
                elif state is State.CONNECTING:
                    self.assertEqual(self.endpoint.attempts, [])
                else:
                    self.endpoint.last.succeed()
                    self.close()
                self.successResultOf(closed[0])
                news = self.news()
                self.assertEqual(news[news.index(state) :], [state, State.DISCONNECTING, State.STOPPED])
                self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_starts_over(self) -> None:
        """A disconnect and a connect from inside any change begin one new attempt, not two."""

        def start_over() -> None:
            self.connection.disconnect()
            self.connection.connect().addErrback(lambda reason: reason.trap(Disconnected))

        for state in (State.CONNECTING, State.CONNECTED, State.READY, State.WAITING):
            with self.subTest(state=state):
                self.setUp()
                self.when(state, start_over)
                self.connection.startService()
                if state is State.WAITING:
                    self.refuse()
                elif state is not State.CONNECTING:
                    self.endpoint.last.succeed()
                    self.close()
                self.assertIs(self.connection.state, State.CONNECTING)
                self.assertEqual(len(self.endpoint.attempts), 1 if state is State.CONNECTING else 2)
                self.assertEqual(len(self.clock.getDelayedCalls()), 1)  # the time limit of the attempt
                self.check_end()

    def test_connects_while_waiting(self) -> None:
        """A connect from inside the change to WAITING makes the next try at once, and is not failed by the last one."""
        ready: list[Deferred[Any]] = []
        self.when(State.WAITING, lambda: ready.append(self.connection.connect()))
        self.connection.startService()
        self.refuse()
        self.assertNoResult(ready[0])
        self.clock.advance(0)
        self.assertEqual(len(self.endpoint.attempts), 2)
        self.endpoint.last.succeed()
        self.successResultOf(ready[0])

    def test_connects_when_given_up(self) -> None:
        """A connect from inside the change to STOPPED begins anew, and is not failed by what came before."""
        ready: list[Deferred[Any]] = []
        self.when(State.STOPPED, lambda: ready.append(self.connection.connect()))
        given_up = self.connection.connect()
        self.refuse()
        self.failureResultOf(given_up, ConnectFailed)
        self.assertNoResult(ready[0])
        self.endpoint.last.succeed()
        self.successResultOf(ready[0])

    def test_connects_while_disconnecting(self) -> None:
        """A connect from inside the change to DISCONNECTING is made once it is closed."""
        self.to(State.READY)
        self.when(State.DISCONNECTING, lambda: self.connection.connect().addErrback(lambda _: None))
        closed = self.connection.disconnect()
        self.close()
        self.successResultOf(closed)
        self.assertEqual(self.news(), [State.DISCONNECTING, State.STOPPED, State.CONNECTING])

    def test_reconnects(self) -> None:
        """A reconnect from inside the change to READY makes one new connection."""
        ready: list[Deferred[Any]] = []
        self.when(State.READY, lambda: ready.append(self.connection.reconnect()))
        self.connection.startService()
        self.endpoint.last.succeed()
        self.close()
        self.clock.advance(0)
        self.endpoint.last.succeed()
        self.successResultOf(ready[0])
        self.assertEqual(len(self.endpoint.attempts), 2)


class Listener(ListeningConnection):
    """A listening connection that records who joined and left."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.visits: list[tuple[str, WireProtocol]] = []

    def joined(self, protocol: WireProtocol) -> None:
        self.visits.append(("joined", protocol))

    def left(self, protocol: WireProtocol) -> None:
        self.visits.append(("left", protocol))


class _Port:
    """A bound port that the test closes."""

    def __init__(self, host: IPv4Address) -> None:
        self._host = host
        self.closed: Deferred[None] = Deferred()
        self.closing = False

    def getHost(self) -> IPv4Address:
        return self._host

    def stopListening(self) -> Deferred[None]:
        self.closing = True
        return self.closed


class PortReactor(MemoryReactorClock):
    """A reactor whose ports are bound or not as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = False
        self.ports: list[_Port] = []
        self.factory: Any = None

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        if self.taken:
            cause = OSError(errno.EADDRINUSE, "Address already in use")
            raise CannotListenError(interface, port, cause)
        self.factory = factory
        self.ports.append(_Port(IPv4Address("TCP", interface, port or 40000)))
        return self.ports[-1]


class ListeningTestCase(SynchronousTestCase):
    """A listening connection on a reactor whose ports the test binds and closes."""

    def setUp(self) -> None:
        self.reactor = PortReactor()
        self.changes: list[Change] = []
        self.service = self.listen()

    def listen(self, address: str = "tcp:0", **named: Any) -> Listener:
        service = Listener(address, name="dcss", retry=POLICY, reactor=self.reactor, **named)
        service.add_observer(self.changes.append)
        return service

    def news(self) -> list[State]:
        news = [change.new for change in self.changes]
        del self.changes[:]
        return news

    def client(self, peer: Any = None, transport: RecordingTransport | None = None) -> Any:
        """Let a client come in; None where it is turned away."""
        transport = transport or RecordingTransport(peer)
        protocol = self.reactor.factory.buildProtocol(transport.getPeer())
        if protocol is not None:
            protocol.makeConnection(transport)
        return protocol

    def close_port(self) -> None:
        self.reactor.ports[-1].closed.callback(None)

    def lose(self, protocol: Protocol) -> None:
        protocol.connectionLost()

    def when(self, state: State, act: Callable[[], object]) -> None:
        """Once, when the state is entered, do this from inside the change."""

        def observer(change: Change) -> None:
            if change.new is state:
                self.service.remove_observer(observer)
                act()

        self.service.add_observer(observer)


class BindingTests(ListeningTestCase):
    """How a port is bound, and when that is tried again."""

    def test_interface(self) -> None:
        """A listening connection keeps what `IConnection` promises."""
        verifyObject(IConnection, self.service)

    def test_bound(self) -> None:
        """It is READY as soon as the port is bound, and says which port the system chose."""
        self.assertIsNone(self.service.bound)
        self.assertEqual(self.service.peer, "tcp:127.0.0.1:0")
        self.service.startService()
        self.assertEqual(self.news(), [State.CONNECTING, State.CONNECTED, State.READY])
        self.assertEqual(str(self.service.bound), "tcp:127.0.0.1:40000")
        self.assertEqual(self.service.peer, "tcp:127.0.0.1:40000")
        self.assertIs(self.successResultOf(self.service.when_ready()), self.service)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_in_use(self) -> None:
        """A port that somebody else holds is tried again, with the policy's waits, until it is free."""
        self.reactor.taken = True
        ready = self.service.when_ready()
        self.service.startService()
        for wait in (1.0, 2.0, 4.0):
            [call] = self.reactor.getDelayedCalls()
            self.assertEqual(call.getTime() - self.reactor.seconds(), wait)
            self.reactor.advance(wait)
        self.assertEqual(self.news(), [State.CONNECTING, State.WAITING] * 4)
        error: Any = self.service.last_error
        self.assertIn("Cannot listen on tcp:127.0.0.1:0: ", str(error))
        self.assertIsInstance(error, ConnectFailed)
        self.assertEqual(error.errno, errno.EADDRINUSE)
        self.assertNoResult(ready)
        self.reactor.taken = False
        self.reactor.advance(8.0)
        self.successResultOf(ready)

    def test_given_up(self) -> None:
        """With a limited number of tries it is given up after the last of them."""
        self.reactor.taken = True
        ready = self.service.connect(2)
        self.assertNoResult(ready)
        self.reactor.advance(1.0)
        self.failureResultOf(ready, ConnectFailed)
        self.failureResultOf(self.service.when_ready(), ConnectFailed)
        self.assertIs(self.service.state, State.STOPPED)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_hurried(self) -> None:
        """A connect while the next try is waited for makes it at once, and may ask for more of them."""
        self.reactor.taken = True
        first = self.service.connect(2)
        second = self.service.connect(3)
        self.reactor.advance(0)
        self.failureResultOf(first, ConnectFailed)
        self.assertNoResult(second)
        self.reactor.taken = False
        self.reactor.advance(2.0)
        self.successResultOf(second)
        self.assertIs(self.successResultOf(self.service.connect()), self.service)

    def test_stopped_while_waiting(self) -> None:
        """A stop while the next try is waited for leaves nothing scheduled."""
        self.reactor.taken = True
        self.service.startService()
        self.successResultOf(self.service.stopService())
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.news(), [State.CONNECTING, State.WAITING, State.DISCONNECTING, State.STOPPED])

    def test_started_twice(self) -> None:
        """A second start changes nothing."""
        self.service.startService()
        self.service.startService()
        self.assertEqual(len(self.reactor.ports), 1)

    def test_reconnect(self) -> None:
        """A reconnect closes the port and binds it again."""
        self.service.startService()
        ready = self.service.reconnect()
        self.assertNoResult(ready)
        self.close_port()
        self.successResultOf(ready)
        self.assertEqual(len(self.reactor.ports), 2)

    def test_disconnected_during_a_reconnect(self) -> None:
        """A disconnect while the port is being closed overrules the reconnect."""
        self.service.startService()
        ready = self.service.reconnect()
        stopped = self.service.stopService()
        self.failureResultOf(ready, Disconnected)
        self.close_port()
        self.successResultOf(stopped)
        self.assertEqual(len(self.reactor.ports), 1)

    def test_started_while_stopping(self) -> None:
        """A service that is started again while it still stops is bound again when it has stopped."""
        self.service.startService()
        self.service.stopService()
        self.service.startService()
        self.close_port()
        self.assertIs(self.service.state, State.READY)

    def test_disconnected_by_an_observer(self) -> None:
        """A disconnect from inside any change leaves no port bound and nothing scheduled."""
        for state in (State.CONNECTING, State.CONNECTED, State.READY, State.WAITING):
            with self.subTest(state=state):
                self.setUp()
                self.reactor.taken = state is State.WAITING
                self.when(state, self.service.disconnect)
                self.service.startService()
                for port in self.reactor.ports:
                    self.assertTrue(port.closing)
                    self.close_port()
                self.assertEqual(self.news()[-2:], [State.DISCONNECTING, State.STOPPED])
                self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_connected_by_an_observer(self) -> None:
        """A connect from inside the changes that follow a failure is not failed by it."""
        for state, attempts in ((State.WAITING, None), (State.STOPPED, 1)):
            with self.subTest(state=state):
                self.setUp()
                self.reactor.taken = True
                ready: list[Deferred[Any]] = []

                def connect(ready: list[Deferred[Any]] = ready) -> None:
                    self.reactor.taken = False
                    ready.append(self.service.connect())

                self.when(state, connect)
                self.service.connect(attempts).addErrback(lambda reason: reason.trap(ConnectFailed))
                self.reactor.advance(0)
                self.successResultOf(ready[0])

    def test_bad_values(self) -> None:
        """A limit and networks that make no sense are refused."""
        self.assertRaises(ValueError, self.listen, max_connections=0)
        self.assertRaises(ValueError, self.listen, allowed=["10.0.0.1/8"])
        self.assertRaises(ValueError, self.listen, allowed=["everybody"])
        self.assertRaises(ValueError, self.listen, "tcp:0", tls=TLS())

    def test_tls_without_a_certificate(self) -> None:
        """A port that cannot be had for a reason of its own is a failed try as any other."""
        service = self.listen("tls:0")
        error: Any = self.failureResultOf(service.connect(), ConnectFailed).value
        self.assertIn("needs a certificate", str(error))


class ClientsTests(ListeningTestCase):
    """Who may come in, and what becomes of them."""

    def test_joins_and_leaves(self) -> None:
        """A client joins when its transport is up, and leaves when it is gone."""
        self.service.startService()
        protocol = self.client()
        self.assertEqual(self.service.protocols, {protocol})
        self.lose(protocol)
        self.assertEqual(self.service.visits, [("joined", protocol), ("left", protocol)])
        self.assertEqual(self.service.protocols, set())
        self.assertIs(self.service.state, State.READY)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_too_many(self) -> None:
        """Clients over the limit are turned away, counted, and logged with their address; then there is room again."""
        logged = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)  # type: ignore[arg-type]
        self.service = self.listen(max_connections=1)
        self.service.startService()
        first = self.client()
        self.assertIsNone(self.client(IPv4Address("TCP", "10.0.0.9", 1)))
        self.assertEqual(self.service.refused, 1)
        [event] = [event for event in logged if "who" in event]
        self.assertEqual((event["name"], event["who"]), ("dcss", "10.0.0.9"))
        self.lose(first)
        self.assertIsNotNone(self.client())

    def test_allowed(self) -> None:
        """Only clients from the allowed networks come in, an IPv4 address in IPv6 clothes being what it is."""
        self.service = self.listen(allowed=["10.0.0.0/8", "fd00::/16"])
        self.service.startService()
        for host, may in (
            ("10.1.2.3", True),
            ("11.1.2.3", False),
            ("fd00::1", True),
            ("fd01::1", False),
            ("fd00::1%eth0", True),
            ("::ffff:10.1.2.3", True),
            ("::ffff:11.1.2.3", False),
            ("not an address", False),
        ):
            with self.subTest(host=host):
                kind = IPv6Address if ":" in host else IPv4Address
                self.assertEqual(self.client(kind("TCP", host, 1)) is not None, may)
        self.assertEqual(self.service.refused, 4)

    def test_unix(self) -> None:
        """Clients of a UNIX socket are let in by the rights of its file, whatever networks are allowed."""
        self.service = self.listen(allowed=["10.0.0.0/8"])
        self.service.startService()
        self.assertIsNotNone(self.client(UNIXAddress(None)))

    def test_handshake_that_hangs(self) -> None:
        """A client that does not complete its handshake is aborted; it never joined."""
        self.service.startService()
        transport = RecordingTransport()
        directlyProvides(transport, INegotiated)
        protocol = self.client(transport=transport)
        self.assertEqual(self.service.protocols, {protocol})
        self.reactor.advance(HANDSHAKE_TIME)
        self.assertEqual(transport.closed, ["abort"])
        self.assertEqual(self.service.protocols, {protocol})
        self.lose(protocol)
        self.assertEqual((self.service.protocols, self.service.visits), (set(), []))

    def test_hooks_raise(self) -> None:
        """What the hooks raise is logged; the client stays, and is forgotten when it leaves."""

        class Broken(ListeningConnection):
            def joined(self, protocol: WireProtocol) -> None:
                raise ZeroDivisionError

            left = joined

        service = Broken("tcp:0", reactor=self.reactor)
        service.startService()
        protocol = self.client()
        self.assertEqual(service.protocols, {protocol})
        self.lose(protocol)
        self.assertEqual(service.protocols, set())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_hung_up_when_it_joins(self) -> None:
        """A client that the hook hangs up on does not begin a conversation."""

        class Strict(Listener):
            begun = False

            def build_protocol(service) -> WireProtocol:
                class Recording(WireProtocol):
                    def begin(self) -> None:
                        service.begun = True

                return Recording(service)

            def joined(self, protocol: WireProtocol) -> None:
                protocol.hang_up(Disconnected("not you"))

        service = Strict("tcp:0", reactor=self.reactor)
        service.startService()
        self.client()
        self.assertFalse(service.begun)


class StopListeningTests(ListeningTestCase):
    """How a listening connection is stopped."""

    def stop(self) -> Deferred[None]:
        stopped = self.service.stopService()
        self.assertNoResult(stopped)
        return stopped

    def test_port_first(self) -> None:
        """The port is closed, then the clients; it is over when the last of them is gone."""
        self.service.startService()
        protocols = [self.client(), self.client()]
        stopped = self.stop()
        self.assertIsNone(self.service.bound)
        self.assertIsNone(self.client())
        self.assertEqual([protocol.transport.closed for protocol in protocols], [[], []])
        self.close_port()
        self.assertEqual([protocol.transport.closed for protocol in protocols], [["lose"], ["lose"]])
        self.lose(protocols[0])
        self.assertNoResult(stopped)
        self.lose(protocols[1])
        self.successResultOf(stopped)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.service.refused, 0)

    def test_clients_that_hang(self) -> None:
        """Clients that do not close in time are aborted."""
        self.service.startService()
        protocol = self.client()
        stopped = self.stop()
        self.close_port()
        self.reactor.advance(CLOSING_TIME)
        self.assertEqual(protocol.transport.closed, ["lose", "abort"])
        self.lose(protocol)
        self.successResultOf(stopped)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_client_that_goes_first(self) -> None:
        """A client that leaves before the port is closed does not end the stop early."""
        self.service.startService()
        protocol = self.client()
        stopped = self.stop()
        self.lose(protocol)
        self.assertNoResult(stopped)
        self.assertIs(self.service.state, State.DISCONNECTING)
        self.close_port()
        self.successResultOf(stopped)
        self.assertIs(self.service.state, State.STOPPED)

    def test_client_in_its_handshake(self) -> None:
        """A client in its handshake is closed as the others are."""
        self.service.startService()
        transport = RecordingTransport()
        directlyProvides(transport, INegotiated)
        protocol = self.client(transport=transport)
        stopped = self.stop()
        self.close_port()
        self.assertEqual(transport.closed, ["lose"])
        self.lose(protocol)
        self.successResultOf(stopped)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_port_that_does_not_close(self) -> None:
        """A port that fails to close is logged, and is no reason not to stop."""
        self.service.startService()
        stopped = self.stop()
        self.reactor.ports[-1].closed.errback(ZeroDivisionError())
        self.successResultOf(stopped)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_twice(self) -> None:
        """A second stop ends when the first does; one of a stopped service at once."""
        self.service.startService()
        first, second = self.stop(), self.stop()
        self.close_port()
        self.successResultOf(first)
        self.successResultOf(second)
        self.successResultOf(self.service.stopService())
