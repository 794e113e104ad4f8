"""Tests of pairs and communicators in memory: no reactor, no socket, no sleep."""

from __future__ import annotations

import gc
import logging
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from equipnet.communicator import (
    ClientServerPair,
    CommandFailed,
    CommandRejected,
    Communicator,
    ConnectionReset,
    HalfNotConnected,
    OperationManagerSimulator,
    Part,
    join_in_memory,
)
from equipnet.communicator import message as m
from equipnet.communicator.message import LAST_SEQUENCE_ID
from equipnet.connection.retry import RetryPolicy
from equipnet.connection.state import State
from equipnet.errors import (
    ConnectFailed,
    Disconnected,
    EquipmentTimeout,
    LocalProtocolError,
    MessageTooLong,
    QueueFull,
    RemoteProtocolError,
)
from equipnet.interfaces import IConnection, Traffic

from ..connection.doubles import FakeEndpoint

#: What may happen to a pair.
STEPS = (
    "pump",
    "pump",
    "fin",
    "rst",
    "connect",
    "reconnect",
    "close",
    "close_client",
    "startService",
    "read",
    "wait_server_port",
)

STAMP = b"2020-04-06T22:33:57.335"


class PairTestCase(SynchronousTestCase):
    """Two sides in one process, on one clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.calls: list[tuple[str, bool, bool]] = []

    def called(self, pair: ClientServerPair) -> None:
        self.calls.append((pair.name, pair.client_connected, pair.server_connected))

    def pump(self) -> None:
        """Let everything arrive that is on its way."""
        self.clock.pump([0] * 8)

    def pairs(self, **settings: Any) -> tuple[ClientServerPair, ClientServerPair]:
        """Give two pairs, not connected."""
        one, other = (
            ClientServerPair(
                name, "h", 1, "h", 0, connect=False, connect_callback=self.called, reactor=self.clock, **settings
            )
            for name in "ab"
        )
        join_in_memory(one, other)
        return one, other

    def communicators(self, dialect: str = "v0.9", **settings: Any) -> tuple[Communicator, Communicator]:
        """Give two communicators, connected: one that sends commands, and the other side."""
        settings.setdefault("connect_callback", self.called)
        one, other = (
            Communicator(name, "h", 1, "h", 0, None, replies, False, dialect=dialect, reactor=self.clock, **settings)
            for name, replies in (("csc", True), ("om", False))
        )
        join_in_memory(one, other)
        ready = [one.connect(), other.connect()]
        self.pump()
        for each in ready:
            self.successResultOf(each)
        self.calls.clear()
        return one, other

    def arrive(self, at: Communicator, *frames: bytes) -> None:
        """Let frames arrive at the half that is read from."""
        at._halves[-1].protocol.dataReceived(b"".join(frame + b"\r\n" for frame in frames))

    def close(self, *pairs: ClientServerPair) -> None:
        """Close; nothing is left."""
        closed = [pair.close() for pair in pairs]
        self.pump()
        for each in closed:
            self.successResultOf(each)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def logged(self, error: type[Exception]) -> None:
        self.assertNotEqual(self.flushLoggedErrors(error), [])


class PairTests(PairTestCase):
    def test_both_halves(self) -> None:
        """
        Two pairs that start find each other; the callback is called once for each half of each.
        """
        one, other = self.pairs()
        verifyObject(IConnection, one)
        states: list[State] = []
        one.add_observer(lambda change: states.append(change.new))
        ready = one.connect()
        self.pump()
        self.assertNoResult(ready)
        other.startService()
        self.clock.pump([0.1, 0, 0, 0])
        self.assertIs(self.successResultOf(ready), one)
        self.assertTrue(one.connected and other.connected)
        self.assertEqual(len(self.calls), 4)
        self.assertEqual({self.calls[-1][1:], self.calls[-2][1:]} & {(True, True)}, {(True, True)})
        self.assertIs(states[-1], State.READY)
        self.close(one, other)
        self.assertEqual((one.state, other.state), (State.STOPPED, State.STOPPED))

    def test_calls_of_one_half_alone(self) -> None:
        """
        Each change of each half is one call: the client half's, and the server half's when its client goes, too.
        """
        one, other = self.pairs()
        one.connect(), other.connect()
        self.pump()
        self.calls.clear()
        other.close_client()
        self.pump()
        self.assertEqual(self.calls, [("b", False, True), ("a", True, False)])
        self.assertEqual((one.state, other.state), (State.CONNECTED, State.CONNECTED))
        self.calls.clear()
        other.connect()
        self.pump()
        self.assertEqual(sorted(self.calls), [("a", True, True), ("b", True, True)])
        self.calls.clear()
        one.close()
        self.pump()
        self.assertEqual([each for each in self.calls if each[0] == "a"], [("a", False, True), ("a", False, False)])
        self.close(one, other)

    def test_callback_raises(self) -> None:
        """
        What the callback raises is logged, and costs nothing.
        """

        def bad(pair: object) -> None:
            raise KeyError("callback")

        one, other = self.pairs()
        one.connect_callback = bad
        one.connect(), other.connect()
        self.pump()
        self.assertTrue(one.connected)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 2)
        self.close(one, other)
        self.logged(KeyError)

    def test_reconnects_ten_times(self) -> None:
        """
        A half that is lost comes back, any number of times, for either reason and on either side.
        """
        one, other = self.pairs()
        one.connect(), other.connect()
        self.pump()
        for turn in range(10):
            half = (one.client, one.server, other.client, other.server)[turn % 4]
            assert half is not None and half.protocol is not None
            transport = half.protocol.transport
            self.calls.clear()
            transport.abortConnection() if turn % 2 else transport.loseConnection()
            self.pump()
            self.clock.pump([0.1, 0, 0, 0])
            self.assertTrue(one.connected and other.connected, turn)
            self.assertEqual(len(self.calls), 4, turn)
        self.close(one, other)

    def test_retries_without_end(self) -> None:
        """
        Errors of every sort are tried again, after connect_retry_interval; another value counts from then on.
        """
        endpoint = FakeEndpoint()
        pair = ClientServerPair("a", endpoint, 0, "h", 0, connect=False, reactor=self.clock)
        join_in_memory(pair, pair)
        assert pair.client is not None
        pair.client.address = endpoint
        ready = pair.connect()
        for tries, error in enumerate((OSError(113, "no route"), ValueError("gaierror"), ConnectionDone()) * 5, 1):
            self.assertEqual(len(endpoint.attempts), tries)
            endpoint.last.fail(error)
            self.clock.advance(0.1)
        pair.connect_retry_interval = 5.0
        endpoint.last.fail(OSError(111, "refused"))
        self.clock.advance(4.9)
        self.assertEqual(len(endpoint.attempts), 16)
        self.clock.advance(0.1)
        self.assertEqual(len(endpoint.attempts), 17)
        self.assertNoResult(ready)
        self.close_while_connecting(pair, ready)

    def close_while_connecting(self, pair: ClientServerPair, ready: Deferred[Any]) -> None:
        """
        Closing ends a connect that goes on trying, and nothing is left.
        """
        closed = pair.close()
        self.failureResultOf(ready, Disconnected)
        self.pump()
        self.successResultOf(closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_connect_again(self) -> None:
        """
        Connect can be called any number of times: it closes the client half and connects it anew.
        """
        one, other = self.pairs()
        one.connect(), other.connect()
        self.pump()
        for _ in range(3):
            self.calls.clear()
            ready = one.connect()
            self.assertFalse(one.client_connected)
            self.pump()
            self.assertIs(self.successResultOf(ready), one)
            self.assertEqual([each[1] for each in self.calls if each[0] == "a"], [False, True])
        self.close(one, other)

    def test_reconnect(self) -> None:
        """
        Both halves are closed and connected again, also by who counts tries, and while they are being closed.
        """
        one, other = self.pairs()
        one.connect(), other.connect()
        self.pump()
        for again in (lambda: one.reconnect(), lambda: one.reconnect(max_attempts=3)):
            ready = again()
            self.assertIs(one.state, State.DISCONNECTING)
            self.clock.pump([0.1] * 8)
            self.assertIs(self.successResultOf(ready), one)
        one.close()
        self.assertEqual(one.client_port, 0)
        one.startService()
        self.clock.pump([0.1] * 8)
        self.assertTrue(one.connected and other.connected)
        self.close(one, other)

    def test_loss_in_every_state(self) -> None:
        """
        A half that is the only one may go, for either reason, and comes back alone.
        """
        for reason in (ConnectionDone(), ConnectionLost()):
            one, other = self.pairs()
            other.wait_server_port(), one.wait_server_port()
            one.connect().addErrback(lambda _: None)
            self.pump()
            assert one.client is not None and one.server is not None
            self.assertEqual((one.state, one.client_connected), (State.CONNECTED, True))
            self.calls.clear()
            one.client.protocol.connectionLost(Failure(reason))
            self.assertEqual([each for each in self.calls if each[0] == "a"], [("a", False, False)])
            self.assertIn(one.state, (State.CONNECTING, State.WAITING))
            one.close(), other.close()
            self.pump()
            one.wait_server_port()
            other.connect().addErrback(lambda _: None)
            self.clock.pump([0.1] * 8)
            self.assertEqual((one.state, one.server_connected), (State.CONNECTED, True))
            self.calls.clear()
            assert one.server.protocol is not None
            one.server.protocol.connectionLost(Failure(reason))
            self.assertEqual([each for each in self.calls if each[0] == "a"], [("a", False, False)])
            self.assertIs(one.state, State.WAITING)
            one.close(), other.close()
            self.pump()

    def test_connect_to_port(self) -> None:
        """
        Without a port nothing can be connected; the one that connect gives is kept.
        """
        pair = ClientServerPair("a", "127.0.0.1", 0, "127.0.0.1", 0, connect=False, reactor=self.clock)
        for port in (None, 0):
            self.assertIn("client_port=0 must be nonzero", str(self.failureResultOf(pair.connect(port), ValueError)))
        self.assertRaises(ValueError, ClientServerPair, "a", None, 0, None, 0, reactor=self.clock)
        assert pair.client is not None
        pair.client.point_at(40005)
        self.assertEqual(
            (pair.client_host, pair.client_port, pair.client.peer), ("127.0.0.1", 40005, "tcp:127.0.0.1:40005")
        )
        self.assertEqual((pair.server_host, pair.server_port), ("127.0.0.1", 0))

    def test_given_up(self) -> None:
        """
        A pair with a limited number of tries is given up as a whole.
        """
        endpoint = FakeEndpoint()
        pair = ClientServerPair(
            "a", endpoint, 0, "h", 0, connect=False, retry=RetryPolicy.fixed(1, attempts=2), reactor=self.clock
        )
        join_in_memory(pair, pair)
        assert pair.client is not None
        pair.client.address = endpoint
        ready = pair.connect()
        endpoint.last.fail(OSError(111, "refused"))
        self.clock.advance(1)
        endpoint.last.fail(OSError(111, "refused"))
        self.failureResultOf(ready, ConnectFailed)
        self.assertIs(pair.state, State.STOPPED)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_second_client(self) -> None:
        """
        A second client of the server half is turned away, and the first one stays.
        """
        one, other = self.pairs()
        one.connect(), other.connect()
        self.pump()
        third = ClientServerPair("c", "h", 1, "h", 0, connect=False, reactor=self.clock)
        join_in_memory(third, one)
        third.startService()
        self.pump()
        assert one.server is not None
        self.assertEqual((one.server.refused, one.connected, third.client_connected), (1, True, False))
        self.close(one, other, third)

    def test_frames(self) -> None:
        """
        A pair carries frames of bytes.
        """
        one, other = self.pairs()
        one.connect(), other.connect()
        self.pump()
        read = other.read()
        self.successResultOf(one.write(b"hello\r\n"))
        self.pump()
        self.assertEqual(self.successResultOf(read), b"hello")
        self.close(one, other)

    def test_log(self) -> None:
        """
        A logger of the standard library can be given.
        """
        pair = ClientServerPair("a", None, 1, None, 0, logging.getLogger("lsst"), False, reactor=self.clock)
        self.assertEqual(pair.log.namespace, "lsst")
        self.assertEqual((pair.client_host, pair.server_host), ("localhost", "0.0.0.0"))

    def test_tasks(self) -> None:
        """
        With ``connect`` the pair begins at once; closing it ends the waits for it.
        """
        pair = ClientServerPair("a", FakeEndpoint(), 0, "h", 0, reactor=self.clock, connect=False)
        join_in_memory(pair, pair)
        assert pair.client is not None
        pair.client.address = FakeEndpoint()
        port = pair.wait_server_port()
        self.assertEqual(self.successResultOf(port), 0)
        self.assertIs(pair.state, State.WAITING)
        up = pair.client_connected_task
        ready = pair.connect()
        closed = pair.close()
        self.failureResultOf(up, Disconnected)
        self.failureResultOf(ready, Disconnected)
        self.successResultOf(closed)

    def test_begins_at_once(self) -> None:
        """
        With ``connect`` the pair begins when it is made.
        """
        endpoint = FakeEndpoint()
        csc = Communicator("csc", endpoint, 0, None, 0, dialect="json", reactor=self.clock)
        self.assertEqual((len(endpoint.attempts), csc.state), (1, State.CONNECTING))
        task: Any = csc.connect_task
        self.assertNoResult(task)
        closed = csc.close()
        self.successResultOf(task)
        self.successResultOf(closed)

    @given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from(STEPS)), max_size=25), st.booleans())
    def test_anything_in_any_order(self, steps: list[tuple[int, str]], whimsical: bool) -> None:
        """
        Whatever happens in whatever order: the state says what is, every wait ends, and closing leaves nothing.
        """
        self.clock = Clock()
        pairs = self.pairs()
        waits: list[Deferred[Any]] = []

        def whim(pair: ClientServerPair) -> None:
            if whimsical and len(waits) < 60:
                waits.append(pair.connect() if len(waits) % 3 else pair.close_client())

        for pair in pairs:
            pair.connect_callback = whim
        for which, step in steps:
            pair = pairs[which]
            assert pair.client is not None and pair.server is not None
            if step == "pump":
                self.clock.pump([0.1] * 4)
            elif step in ("fin", "rst"):
                protocol = (pair.client if len(waits) % 2 else pair.server).protocol
                if protocol is not None and not protocol.hanging_up:
                    transport = protocol.transport
                    transport.loseConnection() if step == "fin" else transport.abortConnection()
            elif step == "startService":
                pair.startService()
            else:
                waits.append(getattr(pair, step)())
            if pair.state is State.READY:
                self.assertTrue(pair.client_connected or pair.client.protocol.hanging_up)
        for pair in pairs:
            pair.connect_callback = None
        closed = [pair.close() for pair in pairs]
        self.clock.pump([0.1] * 20)
        for each in closed:
            self.successResultOf(each)
        for wait in waits:
            self.assertTrue(wait.called)
            wait.addErrback(lambda reason: reason.trap(ConnectFailed, Disconnected, HalfNotConnected, ConnectionReset))
        self.assertEqual([pair.state for pair in pairs], [State.STOPPED] * 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ReadWriteTests(PairTestCase):
    def test_before_connection(self) -> None:
        """
        Before the first connection there is nothing to read from or to write to: a RuntimeError.
        """
        communicator = Communicator("a", "h", 1, "h", 0, connect=False, reactor=self.clock)
        for call, text in (
            (communicator.read(), "Server not connected"),
            (communicator.write(m.Enable()), "Client not connected"),
            (communicator.execute(m.Enable()), "Client not connected"),
        ):
            error = self.failureResultOf(call, RuntimeError).value
            self.assertIsInstance(error, HalfNotConnected)
            self.assertEqual(str(error), text)

    def test_messages(self) -> None:
        """
        Commands go one way, replies the other, in every dialect.
        """
        for dialect in ("v0.9", "v0.13", "json"):
            one, other = self.communicators(dialect)
            sent = self.successResultOf(one.write(m.AzimuthAxisMove(45.5)))
            self.pump()
            command = self.successResultOf(other.read())
            self.assertEqual((command.position, command.sequence_id, command.source), (45.5, 1, m.Source.CSC))
            self.assertEqual(command.sequence_id, sent.sequence_id)
            other.write(m.Done(sequence_id=command.sequence_id))
            self.pump()
            self.assertEqual(self.successResultOf(one.read()).sequence_id, 1)
            self.close(one, other)

    def test_wrong_way(self) -> None:
        """
        Who reads commands sends replies, and the other way round; nothing else is sent.
        """
        one, other = self.communicators()
        self.failureResultOf(one.write(m.Done(sequence_id=1)), LocalProtocolError)
        self.failureResultOf(other.write(m.Enable()), LocalProtocolError)
        self.failureResultOf(other.execute(m.Enable()), LocalProtocolError)
        self.failureResultOf(one.write(m.AzimuthAxisMove(float("nan"))), LocalProtocolError)
        self.failureResultOf(one.execute(m.AzimuthAxisMove(float("nan"))), LocalProtocolError)
        self.close(one, other)

    def test_bad_frames(self) -> None:
        """
        A frame that makes no sense costs one read, is logged with its bytes, and the next one comes.
        """
        one, other = self.communicators(max_frame_size=100)
        read = one.read()
        self.arrive(one, b"9\n" + STAMP, b"\xb5", b"x" * 101, b"6\n" + STAMP + b"\n0\n1")
        self.assertEqual(self.failureResultOf(read, RemoteProtocolError).value.data, b"9\n" + STAMP)
        self.failureResultOf(one.read(), RemoteProtocolError)
        self.failureResultOf(one.read(), MessageTooLong)
        self.assertEqual(self.successResultOf(one.read()).what, 0)
        self.close(one, other)

    def test_loss(self) -> None:
        """
        A read that waits when the other side goes away fails with ConnectionResetError, after FIN and after RST.
        """
        for reason, name in ((ConnectionDone(), "closed the connection"), (ConnectionLost(), "was lost")):
            one, other = self.communicators()
            first, second = one.read(), one.read()
            assert one.server is not None and one.server.protocol is not None
            one.server.protocol.connectionLost(Failure(reason))
            for read in (first, second):
                error = self.failureResultOf(read, ConnectionResetError).value
                self.assertIsInstance(error, ConnectionReset)
                self.assertIn(name, str(error))
                self.assertIs(error.__cause__, reason)
            self.failureResultOf(one.read(), RuntimeError)
            self.close(one, other)

    def test_read_after_loss(self) -> None:
        """
        What came before the loss can be read after it, until the other side is back.
        """
        one, other = self.communicators()
        self.arrive(one, b"6\n" + STAMP + b"\n0\n1", b"6\n" + STAMP + b"\n1\n1")
        other.close_client()
        self.pump()
        self.assertEqual(self.successResultOf(one.read()).what, 0)
        other.connect()
        self.pump()
        read = one.read()
        self.assertNoResult(read)
        self.close(one, other)
        self.failureResultOf(read, Disconnected)

    def test_back_pressure(self) -> None:
        """
        When nobody reads, the other side has to wait; it goes on when half of it was read.
        """
        one, other = self.communicators(queue_limit=4)
        assert one.server is not None and one.server.protocol is not None
        held: list[bool] = []
        one.server.protocol.hold_back = held.append  # type: ignore[method-assign,assignment]
        self.arrive(one, *[b"6\n" + STAMP + b"\n%d\n1" % number for number in range(4)])
        self.assertEqual(held, [True])
        self.assertEqual([self.successResultOf(one.read()).what for _ in range(4)], [0, 1, 2, 3])
        self.assertEqual(held, [True, False])
        reads = [one.read() for _ in range(4)]
        self.failureResultOf(one.read(), QueueFull)
        reads[1].cancel()
        self.failureResultOf(reads[1], CancelledError)
        self.arrive(one, b"6\n" + STAMP + b"\n0\n1", b"6\n" + STAMP + b"\n1\n1")
        self.assertEqual([self.successResultOf(reads[at]).what for at in (0, 2)], [0, 1])
        self.close(one, other)
        self.failureResultOf(reads[3], Disconnected)

    def test_choked(self) -> None:
        """
        Writes wait while the other side takes nothing, a limited number of them; a loss ends them.
        """
        one, other = self.communicators(queue_limit=2)
        assert one.client is not None
        one.client.protocol.pauseProducing()
        writes = [one.write(m.Enable()) for _ in range(3)]
        self.failureResultOf(writes[2], QueueFull)
        self.assertNoResult(writes[0])
        one.client.protocol.resumeProducing()
        self.successResultOf(writes[0]), self.successResultOf(writes[1])
        one.client.protocol.pauseProducing()
        waiting, running = one.write(m.Enable()), one.execute(m.Enable())
        one.client.protocol.connectionLost(Failure(ConnectionLost()))
        self.failureResultOf(waiting, ConnectionResetError)
        self.failureResultOf(running, ConnectionResetError)
        self.close(one, other)

    def test_taps(self) -> None:
        """
        A tap sees every message, with its bytes and its value.
        """
        one, other = self.communicators()
        seen: list[Traffic] = []
        one.add_tap(seen.append)
        one.add_tap(lambda traffic: 1 / 0)
        one.execute(m.Enable()).addErrback(lambda _: None)
        self.arrive(one, b"2\n1\n1\n" + STAMP, b"what")
        self.assertEqual([(each.name, each.direction) for each in seen], [("csc", "out"), ("csc", "in"), ("csc", "in")])
        self.assertTrue(seen[0].raw.startswith(b"1\n10\n1\n") and seen[0].raw.endswith(b"\r\n"))
        self.assertIsInstance(seen[0].value, m.Enable)
        self.assertEqual((seen[1].raw, type(seen[1].value)), (b"2\n1\n1\n" + STAMP + b"\r\n", m.Done))
        self.assertIsNone(seen[2].value)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)
        self.close(one, other)

    def test_sequence_ids(self) -> None:
        """
        They count for each communicator alone, begin again after the last, and pass over one that is under way.
        """
        one, other = self.communicators()
        third = Communicator("c", "h", 1, "h", 0, connect=False, reactor=self.clock)
        self.assertEqual([each.next_sequence_id() for each in (one, one, third)], [1, 2, 1])
        one._sequence_id = LAST_SEQUENCE_ID - 1
        first = one.execute(m.Enable())
        self.assertEqual(one.next_sequence_id(), 1)
        one._sequence_id = LAST_SEQUENCE_ID - 1
        self.assertEqual(one.next_sequence_id(), 1)
        self.failureResultOf(one.execute(m.Enable(sequence_id=LAST_SEQUENCE_ID)), LocalProtocolError)
        self.close(one, other)
        self.failureResultOf(first, Disconnected)


class ExecuteTests(PairTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.csc, self.om = self.communicators()
        self.seen: list[Any] = []
        self.csc.add_message_observer(self.seen.append)
        self.addCleanup(self.close, self.csc, self.om)

    def test_done(self) -> None:
        """
        Ack and Done end it; neither is shown to observers, what is about nobody is.
        """
        ended = self.csc.execute(m.AzimuthAxisMove(45))
        self.arrive(self.csc, b"0\n1\n1\n" + STAMP + b"\n100", b"5\n" + STAMP + b"\nmoving")
        self.assertNoResult(ended)
        self.arrive(self.csc, b"2\n1\n1\n" + STAMP, b"2\n1\n1\n" + STAMP)
        self.assertIsInstance(self.successResultOf(ended), m.Done)
        self.assertEqual([type(each) for each in self.seen], [m.OnStateInfo, m.Done])

    def test_ack_only(self) -> None:
        """
        A tracking command ends with its Ack, and nothing is kept of it.
        """
        ended = self.csc.execute(m.AzimuthAxisTrack(1, 2, 3))
        self.arrive(self.csc, b"0\n1\n1\n" + STAMP + b"\n")
        self.assertIsInstance(self.successResultOf(ended), m.Ack)
        self.assertEqual(len(self.csc._running), 0)

    def test_rejected(self) -> None:
        """
        A NoAck fails it with the explanation.
        """
        ended = self.csc.execute(m.AzimuthAxisMove(45))
        self.arrive(self.csc, b"1\n1\n1\n" + STAMP + b"\nnot powered")
        self.assertIn("not powered", str(self.failureResultOf(ended, CommandRejected).value))

    def test_failed(self) -> None:
        """
        A Done after an Error of its part fails it; observers see the Error as well.
        """
        ended = self.csc.execute(m.AzimuthAxisMove(45))
        self.arrive(
            self.csc,
            b"0\n1\n1\n" + STAMP + b"\n100",
            b"3\n1\n1\n103\n100. Azimuth\n" + STAMP + b"\nbrake",
            b"2\n1\n1\n" + STAMP,
        )
        self.assertEqual(self.failureResultOf(ended, CommandFailed).value.reply.code, 103)
        self.assertEqual([type(each) for each in self.seen], [m.Error])

    def test_no_ack_in_time(self) -> None:
        """
        Without an Ack it ends after ack_timeout; one that comes later is nobody's and costs nothing.
        """
        ended = self.csc.execute(m.AzimuthAxisMove(45))
        self.clock.advance(4.9)
        self.assertNoResult(ended)
        self.clock.advance(0.1)
        error = self.failureResultOf(ended, EquipmentTimeout).value
        self.assertEqual((error.seconds, error.waiting_for), (5.0, "the Ack of AzimuthAxisMove 1"))
        self.arrive(self.csc, b"0\n1\n1\n" + STAMP + b"\n100", b"2\n1\n1\n" + STAMP)
        self.assertEqual([type(each) for each in self.seen], [m.Ack, m.Done])
        self.assertTrue(self.csc.connected)
        again = self.csc.execute(m.Enable())
        self.arrive(self.csc, b"2\n2\n1\n" + STAMP)
        self.successResultOf(again)

    def test_no_done_in_time(self) -> None:
        """
        The Ack's timeout is milliseconds, and the margin is added to it.
        """
        ended = self.csc.execute(m.AzimuthAxisMove(45))
        self.clock.advance(4)
        self.arrive(self.csc, b"0\n1\n1\n" + STAMP + b"\n30000")
        self.clock.advance(31.9)
        self.assertNoResult(ended)
        self.clock.advance(0.1)
        self.assertEqual(
            self.failureResultOf(ended, EquipmentTimeout).value.waiting_for, "the Done of AzimuthAxisMove 1"
        )

    def test_own_timeout(self) -> None:
        """
        The caller's timeout is for the whole of it.
        """
        first, second = self.csc.execute(m.Enable(), 1.0), self.csc.execute(m.Disable(), 10.0)
        self.pump()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.arrive(self.csc, b"0\n2\n1\n" + STAMP + b"\n60000")
        self.clock.advance(1)
        self.failureResultOf(first, EquipmentTimeout)
        self.clock.advance(9)
        self.assertEqual(self.failureResultOf(second, EquipmentTimeout).value.seconds, 10.0)

    def test_no_limit(self) -> None:
        """
        In JSON an Ack can say that there is no limit: then only the caller's own counts.
        """
        one, other = self.communicators("json")
        ended, limited = one.execute(m.Enable()), one.execute(m.Enable(), 90.0)
        for number in (1, 2):
            other.write(m.Ack(timeout_ms=m.NO_LIMIT, sequence_id=number))
        self.pump()
        self.clock.advance(89)
        self.assertNoResult(limited)
        self.clock.advance(1)
        self.failureResultOf(limited, EquipmentTimeout)
        self.clock.advance(1000)
        self.assertNoResult(ended)
        other.write(m.Superseded(5, 1, 11, sequence_id=1))
        self.pump()
        self.assertIn("superseded", str(self.failureResultOf(ended).value))
        self.close(one, other)

    def test_cancelled(self) -> None:
        """
        Cancelled, it is followed no longer.
        """
        ended = self.csc.execute(m.Enable())
        ended.cancel()
        self.failureResultOf(ended, CancelledError)
        self.assertEqual(len(self.csc._running), 0)

    def test_loss_of_either_half(self) -> None:
        """
        All that is under way fails at once when either half goes, before and after the Ack.
        """
        for close in (lambda: self.om.server.protocol.transport.loseConnection(), lambda: self.om.close_client()):  # type: ignore[union-attr]
            first, second = self.csc.execute(m.Enable()), self.csc.execute(m.Disable())
            number = second_id = self.csc._sequence_id
            self.arrive(self.csc, b"0\n%d\n1\n" % second_id + STAMP + b"\n100")
            close()
            self.pump()
            for ended in (first, second):
                self.failureResultOf(ended, ConnectionResetError)
            self.assertEqual(len(self.csc._running), 0, number)
            self.om.connect()
            self.clock.pump([0.1, 0, 0, 0])
            self.assertTrue(self.csc.connected)

    def test_read_while_acting(self) -> None:
        """
        A read that waits gets what is about nobody; what nobody waits for is not kept.
        """
        read = self.csc.read()
        ended = self.csc.execute(m.Enable())
        self.arrive(self.csc, b"2\n1\n1\n" + STAMP, b"6\n" + STAMP + b"\n0\n1", b"6\n" + STAMP + b"\n1\n1", b"what")
        self.successResultOf(ended)
        self.assertEqual(self.successResultOf(read).what, 0)
        self.assertEqual(len(self.csc._came), 0)

    def test_observers(self) -> None:
        """
        One that raises is logged, and one that was removed is not called.
        """
        self.csc.remove_message_observer(self.seen.append)
        self.csc.remove_message_observer(self.seen.append)
        self.csc.add_message_observer(lambda message: 1 / 0)
        self.arrive(self.csc, b"6\n" + STAMP + b"\n0\n1")
        self.assertEqual((len(self.flushLoggedErrors(ZeroDivisionError)), self.seen), (1, []))

    def test_queue_limit(self) -> None:
        """
        A limited number of commands is under way.
        """
        self.csc.queue_limit = 2
        ended = [self.csc.execute(m.Enable()) for _ in range(3)]
        self.failureResultOf(ended[2], QueueFull)
        for each in ended[:2]:
            each.addErrback(lambda _: None)


class TrackingTests(PairTestCase):
    def test_nothing_leaks(self) -> None:
        """
        Tracking at 20 Hz for 60 seconds leaves nothing behind: no object, no timer, no command.
        """
        csc = Communicator("csc", "h", 1, "h", 0, connect=False, reactor=self.clock)
        simulator = OperationManagerSimulator(reactor=self.clock)
        join_in_memory(csc, simulator)
        csc.connect(), simulator.connect()
        self.pump()
        simulator.parts[Part.ELEVATION].on = simulator.parts[Part.ELEVATION].tracking = True

        def track(seconds: int) -> int:
            for _ in range(20 * seconds):
                ended = csc.execute(m.ElevationAxisTrack(45, 0.01, 1.6e9))
                self.clock.pump([0, 0, 0, 0.05])
                self.successResultOf(ended)
            gc.collect()
            return len(gc.get_objects())

        before = track(10)
        self.assertLess(track(60) - before, 100)
        self.assertEqual((len(csc._running), simulator.commands), (0, 1400))
        self.assertLess(len(self.clock.getDelayedCalls()), 3)
        self.close(csc, simulator)
