from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from equipnet.connection.retry import RetryPolicy
from equipnet.connection.state import Change, State
from equipnet.errors import (
    AuthenticationFailed,
    ConnectFailed,
    ConnectionLost,
    Disconnected,
    EquipmentTimeout,
    NotConnected,
    QueueFull,
)
from equipnet.http.client import HttpStatus
from equipnet.http.exchange import Request, Response
from equipnet.http.service import REFUSED_DELAY, HttpConnection
from equipnet.interfaces import IConnection

from .doubles import URL, Network, Socket

RETRY = RetryPolicy.fixed(1.0)


class ConnectionTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = Network()

    def connection(self, **options: Any) -> HttpConnection:
        options = {"probe_path": "/alive", "retry": RETRY, **options}
        self.http = HttpConnection(URL, name="camera", reactor=self.network.reactor, **options)
        self.states: list[str] = []
        self.http.add_observer(lambda change: self.states.append(change.new.value))
        self.addCleanup(self.assert_clean)
        return self.http

    def assert_clean(self) -> None:
        """Nothing is left open or scheduled after a disconnection."""
        closed = self.http.disconnect()
        self.network.turn()
        self.successResultOf(closed)
        self.assertIs(self.http.state, State.STOPPED)
        self.assertEqual(self.network.reactor.getDelayedCalls(), [])
        self.assertEqual([socket for socket in self.network.sockets if socket.ended is None], [])

    def ready(self, **options: Any) -> Socket:
        """Make a connection that is READY; give its socket."""
        connected = self.connection(**options).connect()
        socket = self.network.accept()
        self.answer_probe(socket)
        self.assertIs(self.successResultOf(connected), self.http)
        return socket

    def answer_probe(self, socket: Socket, status: bytes = b"200 OK") -> None:
        self.assertTrue(socket.asked().startswith(b"GET /alive "))
        socket.answer(b"alive", status)


class ConnectTests(ConnectionTestCase):
    def test_interface(self) -> None:
        """
        It is a connection as any other.
        """
        self.connection()
        verifyObject(IConnection, self.http)
        self.assertEqual((self.http.name, self.http.peer, self.http.state), ("camera", URL, State.STOPPED))

    def test_ready(self) -> None:
        """
        It is READY when its probe is answered with a status below 400.
        """
        for status in (b"200 OK", b"302 Found", b"204 None"):
            self.network = Network()
            connected = self.connection().connect()
            self.assertIs(self.http.state, State.CONNECTING)
            self.answer_probe(self.network.accept(), status)
            self.successResultOf(connected)
            self.assertEqual(self.states, ["connecting", "connected", "ready"])

    def test_service(self) -> None:
        """
        As a service it begins to connect when it is started, and is closed when it is stopped.
        """
        http = self.connection()
        http.startService()
        self.answer_probe(self.network.accept())
        self.assertIs(http.state, State.READY)
        stopped = http.stopService()
        self.network.turn()
        self.successResultOf(stopped)

    def test_refused(self) -> None:
        """
        A server that is not there is tried again as the policy says.
        """
        http = self.connection()
        http.startService()
        for count in range(1, 4):
            self.network.refuse()
            self.assertIs(http.state, State.WAITING)
            self.assertIsInstance(http.last_error, ConnectFailed)
            self.network.turn(0.9)
            self.assertEqual(self.network.attempts, 0, count)
            self.network.turn(0.1)
        self.answer_probe(self.network.accept())
        self.assertIs(http.state, State.READY)

    def test_wrong_status(self) -> None:
        """
        A probe that is answered with 404 or 500 is tried again as the policy says, and never more often.
        """
        for status in (b"404 Not Found", b"500 Internal Server Error"):
            self.network = Network()
            http = self.connection()
            http.startService()
            socket = self.network.accept()
            for _ in range(5):
                self.answer_probe(socket, status)
                self.assertIs(http.state, State.WAITING)
                self.assertIn(f"GET {URL}/alive: {status.decode()}: alive", str(http.last_error))
                self.network.turn(0.9)
                self.assertEqual(socket.asked(), b"")
                self.network.turn(0.1)
            self.answer_probe(socket)
            self.assertIs(http.state, State.READY)

    def test_wrong_password(self) -> None:
        """
        A probe that is refused for the password is tried again so seldom that no device takes offence.
        """
        http = self.connection(username="root", password="secret")
        http.startService()
        socket = self.network.accept()
        for _ in range(3):
            for nonce in (b"a", b"b"):
                self.assertEqual(socket.asked().count(b"GET /alive"), 1)
                challenge = b'WWW-Authenticate: Digest realm="axis", nonce="%s", qop="auth"' % nonce
                socket.answer(b"", b"401 Unauthorized", challenge)
            self.assertIsInstance(http.last_error, AuthenticationFailed)
            self.network.turn(REFUSED_DELAY - 0.1)
            self.assertEqual(socket.asked(), b"")
            self.network.turn(0.1)

    def test_attempts(self) -> None:
        """
        `connect` fails after as many failed attempts as were asked for, and the connection is given up.
        """
        connected = self.connection().connect(max_attempts=2)
        self.network.refuse()
        self.assertNoResult(connected)
        self.network.turn(1)
        self.network.refuse()
        self.failureResultOf(connected, ConnectFailed)
        self.assertEqual(self.states, ["connecting", "waiting", "connecting", "stopped"])
        self.failureResultOf(self.http.when_ready(), ConnectFailed)

    def test_given_up(self) -> None:
        """
        A connection that is given up keeps no socket, and fails what is under way.
        """
        self.ready(probe_interval=5.0, retry=RetryPolicy.fixed(1.0, attempts=1), answer_timeout=60.0, timeout=60.0)
        slow = self.http.request("GET", "/slow")
        self.network.turn(5)
        probed = self.network.accept()
        for _ in range(2):
            self.answer_probe(probed, b"500 Oops")
        self.assertIs(self.http.state, State.STOPPED)
        self.failureResultOf(slow, ConnectFailed)
        self.network.turn()
        self.assertEqual([socket for socket in self.network.sockets if socket.ended is None], [])
        self.assertEqual(self.network.reactor.getDelayedCalls(), [])

    def test_policy_holds_afterwards(self) -> None:
        """
        A connection that was made is tried again as often as the policy says, whatever `connect` was asked for.
        """
        socket = self.ready()
        self.network.turn(30)
        socket.asked()
        socket.answer(b"", b"404 Not Found")
        self.answer_probe(socket, b"404 Not Found")
        self.assertIs(self.http.state, State.WAITING)


class ProbeTests(ConnectionTestCase):
    def test_interval(self) -> None:
        """
        A connection of which nothing is heard is probed at its interval.
        """
        socket = self.ready(probe_interval=5.0)
        for _ in range(3):
            self.network.turn(4.9)
            self.assertEqual(socket.asked(), b"")
            self.network.turn(0.1)
            self.answer_probe(socket)
        self.assertEqual(self.states, ["connecting", "connected", "ready"])

    def test_requests_count(self) -> None:
        """
        An answer, whatever its status, is as good as a probe.
        """
        socket = self.ready(probe_interval=5.0)
        for status in (b"200 OK", b"404 Not Found"):
            self.network.turn(3)
            self.http.request("GET", "/").addErrback(lambda _: None)
            self.assertNotIn(b"/alive", socket.asked())
            socket.answer(b"", status)
        self.network.turn(4.9)
        self.assertEqual(socket.asked(), b"")
        self.network.turn(0.1)
        self.answer_probe(socket)

    def test_fails_once(self) -> None:
        """
        A probe that fails is made once more at once, and if that is answered nothing has happened.
        """
        socket = self.ready(probe_interval=5.0)
        self.network.turn(5)
        self.answer_probe(socket, b"503 Busy")
        self.answer_probe(socket)
        self.network.turn(5)
        self.answer_probe(socket)
        self.assertEqual(self.states, ["connecting", "connected", "ready"])

    def test_lost_and_found(self) -> None:
        """
        When that fails as well the connection is lost, and it is READY again when the server is back.
        """
        socket = self.ready(probe_interval=5.0)
        self.network.turn(5)
        socket.close()
        self.network.turn()
        self.network.refuse()  # the same probe, over a new socket
        self.network.refuse()
        self.assertIs(self.http.state, State.WAITING)
        self.network.turn(1)
        self.answer_probe(self.network.accept())
        self.assertEqual(
            self.states, ["connecting", "connected", "ready", "waiting", "connecting", "connected", "ready"]
        )

    def test_request_that_failed(self) -> None:
        """
        A request that fails for want of a connection makes one probe at once, which decides.
        """
        for answered in (True, False):
            self.network = Network()
            socket = self.ready()
            failed = [self.http.request("POST", "/") for _ in range(2)]
            other = self.network.accept()
            for each in (socket, other):
                each.close()
            self.network.turn()
            for request in failed:
                self.failureResultOf(request, ConnectionLost)
            self.assertEqual(self.network.attempts, 1)
            if answered:
                self.answer_probe(self.network.accept())
            else:
                self.network.refuse()
            self.assertIs(self.http.state, State.READY if answered else State.WAITING)

    def test_hung_server(self) -> None:
        """
        So does a request that takes too long; others go on meanwhile.
        """
        socket = self.ready(answer_timeout=2.0)
        hung, other = self.http.request("GET", "/hung"), self.http.request("GET", "/other")
        second = self.network.accept()
        self.assertIn(b"/other", second.asked())
        second.answer(b"other")
        self.assertEqual(self.successResultOf(other).body, b"other")
        self.network.turn(2)
        self.failureResultOf(hung, EquipmentTimeout)
        self.answer_probe(second)
        self.assertIs(self.http.state, State.READY)
        self.assertEqual(socket.ended, "aborted by the client")

    def test_under_way(self) -> None:
        """
        A request that is under way when the connection is lost is left to its own limits.
        """
        self.ready(probe_interval=5.0, answer_timeout=60.0, timeout=60.0)
        slow = self.http.request("GET", "/slow")
        self.network.turn(5)
        probed = self.network.accept()
        self.answer_probe(probed, b"500 Oops")
        self.answer_probe(probed, b"500 Oops")
        self.assertIs(self.http.state, State.WAITING)
        self.network.sockets[0].answer(b"at last")
        self.assertEqual(self.successResultOf(slow).body, b"at last")


class RequestTests(ConnectionTestCase):
    def test_while_connecting(self) -> None:
        """
        A request waits for the attempt that is under way, and shares its fate.
        """
        http = self.connection()
        http.startService()
        asked = http.request("GET", "/a")
        socket = self.network.accept()
        self.answer_probe(socket)
        self.assertIn(b"/a", socket.asked())
        socket.answer(b"a")
        self.assertEqual(self.successResultOf(asked).body, b"a")
        self.network = Network()
        http = self.connection()
        http.startService()
        asked = http.request("GET", "/a")
        self.network.refuse()
        self.failureResultOf(asked, ConnectFailed)

    def test_not_connected(self) -> None:
        """
        While there is none it fails at once, with the reason.
        """
        http = self.connection()
        error = self.failureResultOf(http.request("GET", "/"), NotConnected).value
        self.assertEqual(str(error), "camera is not connected: stopped")
        http.startService()
        self.network.refuse()
        error = self.failureResultOf(http.request("GET", "/"), NotConnected).value
        self.assertIn("camera is not connected: Cannot connect to http://10.0.0.5", str(error))

    def test_too_many_wait(self) -> None:
        """
        No more wait for an attempt than may wait for their turn.
        """
        http = self.connection(queue_limit=1)
        http.startService()
        http.request("GET", "/").addErrback(lambda _: None)
        self.failureResultOf(http.request("GET", "/"), QueueFull)

    def test_own_answer(self) -> None:
        """
        A request that fails is told so, and the answer to another is that one's.
        """
        socket = self.ready()
        bad, good = self.http.request("GET", "/bad"), self.http.request("GET", "/good")
        other = self.network.accept()
        self.assertIn(b"/bad", socket.asked())
        socket.answer(b"", b"500 Oops")
        self.failureResultOf(bad, HttpStatus)
        self.assertNoResult(good)
        other.answer(b"good")
        self.assertEqual(self.successResultOf(good).body, b"good")

    def test_taps(self) -> None:
        """
        Taps see each request and each answer.
        """
        socket = self.ready()
        seen: list[Any] = []
        self.http.add_tap(lambda traffic: 1 // 0)
        self.http.add_tap(lambda traffic: seen.append((traffic.name, traffic.direction, traffic.raw, traffic.value)))
        self.http.request("POST", "/a", body=b"question")
        socket.answer(b"answer")
        self.assertEqual(
            seen,
            [
                ("camera", "out", b"question", Request("POST", "/a")),
                ("camera", "in", b"answer", Response(200, "OK", {}, b"answer")),
            ],
        )
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_stream(self) -> None:
        """
        Each piece of a stream is as good as a probe; a stream that is lost makes one.
        """
        socket = self.ready(probe_interval=3.0)
        pieces: list[bytes] = []
        done = self.http.receive("/video", lambda head: pieces.append)
        socket.say(b"HTTP/1.1 200 OK\r\n\r\n")
        for number in range(5):
            self.network.turn(2)
            socket.say(b"%d" % number)
        self.assertEqual((b"".join(pieces), self.network.attempts), (b"01234", 0))
        socket.say(b"HTTP")
        self.network.turn(3)
        self.assertEqual(self.network.attempts, 1)
        self.answer_probe(self.network.accept())
        self.network.turn(2)
        self.failureResultOf(done, EquipmentTimeout)


class DisconnectTests(ConnectionTestCase):
    def test_everything_ends(self) -> None:
        """
        Whatever waits fails with `Disconnected`, and nothing is scheduled afterwards.
        """
        self.ready(max_requests=1)
        asked, waiting = self.http.request("GET", "/"), self.http.request("GET", "/")
        stream = self.http.receive("/video", lambda head: len)
        closed = self.http.disconnect()
        for each in (asked, waiting):
            self.failureResultOf(each, Disconnected)
        self.failureResultOf(stream, Disconnected)
        self.assertNoResult(closed)
        self.network.turn()
        self.successResultOf(closed)
        self.assertEqual(self.states[-2:], ["disconnecting", "stopped"])
        self.assertEqual(self.network.reactor.getDelayedCalls(), [])

    def test_any_time(self) -> None:
        """
        A connection may be closed while it connects, while it waits and while it probes.
        """
        for steps in (
            [],
            ["refuse"],
            ["accept"],
            ["accept", "ready"],
            ["accept", "ready", "interval"],
            ["accept", "ready", "interval", "bad"],
        ):
            with self.subTest(steps=steps):
                self.network = Network()
                self.connection().startService()
                for step in steps:
                    if step == "refuse":
                        self.network.refuse()
                    elif step == "accept":
                        socket = self.network.accept()
                    elif step == "interval":
                        self.network.turn(30)
                    else:
                        self.answer_probe(socket, b"200 OK" if step == "ready" else b"500 Oops")
                self.assert_clean()
                self.network.turn(1000)
                self.assertEqual(self.states[-1], "stopped")

    def test_reconnect(self) -> None:
        """
        `reconnect` closes what is open, and connects at once; disconnecting and connecting again does the same.
        """
        socket = self.ready()

        def disconnect_and_connect() -> Deferred[Any]:
            self.http.disconnect()
            return self.http.connect()

        for again in (self.http.reconnect, disconnect_and_connect):
            connected = again()
            self.network.turn()
            self.assertEqual(socket.ended, "closed by the client")
            socket = self.network.accept()
            self.answer_probe(socket)
            self.assertIs(self.successResultOf(connected), self.http)

    def test_observers(self) -> None:
        """
        An observer may end it at any change.
        """
        for state in ("connecting", "connected", "ready", "waiting"):
            with self.subTest(state=state):
                self.network = Network()
                http = self.connection()
                http.add_observer(lambda change, at=state: change.new.value == at and self.http.disconnect())  # type: ignore[misc]
                http.startService()
                if state != "connecting":
                    socket = self.network.accept()
                    self.answer_probe(socket, b"500 Oops" if state == "waiting" else b"200 OK")
                self.network.turn()
                self.assertIs(http.state, State.STOPPED)
                self.assert_clean()

    def test_taps(self) -> None:
        """
        A tap may end the connection when it is shown a request, which is not made then, or the head of an answer.
        """
        for direction, error in (("out", NotConnected), ("in", Disconnected)):
            self.network = Network()
            socket = self.ready()
            self.http.add_tap(lambda traffic, at=direction: traffic.direction == at and self.http.disconnect())  # type: ignore[misc]
            received = self.http.receive("/video", lambda head: len)
            socket.say(b"HTTP/1.1 200 OK\r\n\r\n")
            self.failureResultOf(received, error)
            self.network.turn()
            self.assertEqual(self.network.attempts, 0)
            self.assert_clean()

    def test_observer_that_connects_again(self) -> None:
        """
        An observer may end an attempt and begin another one; there is one probe then, not two.
        """
        http = self.connection()

        def once(change: Change) -> None:
            http.remove_observer(once)
            http.disconnect()
            http.connect()

        http.add_observer(once)
        self.failureResultOf(http.connect(), Disconnected)
        self.answer_probe(self.network.accept())
        self.assertEqual((http.state, self.network.attempts), (State.READY, 0))


class SettingsTests(ConnectionTestCase):
    def test_wrong(self) -> None:
        """
        An interval that makes no sense is refused.
        """
        self.assertRaises(ValueError, HttpConnection, URL, probe_interval=0.0, reactor=self.network.reactor)
