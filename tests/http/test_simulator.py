"""
Tests for `equipnet.http.simulator`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from equipnet.http.channel import BodyRequest
from equipnet.http.exchange import Request
from equipnet.http.message import Answer
from equipnet.http.simulator import IDLE_TIMEOUT, HttpFault, Pages, SimulatedServer, send

from ..imaging.doubles import Client, ThreadlessReactor, parts_of


class Greeter(SimulatedServer[HttpFault]):
    """Greets, unless it is asked to fail."""

    def __init__(self, clock: ThreadlessReactor, fault: HttpFault | None = None) -> None:
        super().__init__("tcp:0", _Greeting(self), max_size=100, fault=fault, reactor=clock)


class _Greeting(Pages):
    _server: Greeter

    async def serve(self, request: BodyRequest) -> None:
        fault = self._server._faults.take()
        await self._server.delayed(fault)
        if request.uri == b"/fails":
            raise ZeroDivisionError
        if request.uri == b"/late":
            request.answer(Answer(503, "too late"))
            return
        cut = fault is not None and fault.close
        send(request, b"good day", "text/plain", 202, {"X-Greeting": "1"}, cut)


class FaultTests(SynchronousTestCase):
    def test_wrong(self) -> None:
        """
        A fault that is none, or cannot be, is refused with what is wrong.
        """
        for settings, said in (
            ({}, "there is no fault in it"),
            ({"delay": -1}, "delay is -1, not a number of seconds"),
            ({"delay": float("nan")}, "delay is nan, not a number of seconds"),
            ({"status": 200}, "status is 200, not one of HTTP's from 400 to 599"),
            ({"status": 499}, "status is 499, not one of HTTP's from 400 to 599"),
            ({"status": 500, "close": True}, "status does not go with close"),
        ):
            error = self.assertRaises(ValueError, HttpFault, **settings)
            self.assertEqual(str(error), said)

    def test_effects(self) -> None:
        """
        A delay goes with anything else.
        """
        self.assertEqual(HttpFault(delay=1, close=True).effects(), ["delay", "close"])


class ServerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = ThreadlessReactor()

    def client(self, fault: HttpFault | None = None) -> Client:
        """Give a client of a server that is on."""
        self.server = Greeter(self.clock, fault)
        self.successResultOf(self.server.connect())
        return Client(self.server)

    def test_answer(self) -> None:
        """
        An answer has its status, type, length and other fields, and is whole; the connection is kept.
        """
        client = self.client()
        for _ in range(2):
            status, head, body = client.get(b"/")
            self.assertEqual((status, body), (202, b"good day"))
            for field in (b"content-type: text/plain", b"content-length: 8", b"x-greeting: 1"):
                self.assertIn(field, head.lower().split(b"\r\n"))

    def test_cut(self) -> None:
        """
        An answer that is cut ends, with its connection, after half of the length that was announced.
        """
        client = self.client(HttpFault(close=True))
        _, head, body = client.get(b"/")
        self.assertIn(b"content-length: 8", head.lower())
        self.assertEqual((body, client.disconnecting), (b"good", True))

    def test_late(self) -> None:
        """
        An answer can be late; who has gone by then gets none.
        """
        client = self.client(HttpFault(delay=2))
        other = Client(self.server)
        for each in (client, other):
            self.assertEqual(each.ask(b"GET / HTTP/1.1\r\nHost: greeter\r\n\r\n"), b"")
        other.server.connectionLost()
        self.clock.advance(2)
        self.assertEqual(parts_of(client.said())[2], b"good day")
        self.assertEqual(other.said(), b"")

    def test_fails(self) -> None:
        """
        What is raised while a request is answered is logged and answered, and costs nothing else.
        """
        client = self.client()
        self.assertEqual(client.get(b"/fails")[0], 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(client.get(b"/")[0], 202)

    def test_patience(self) -> None:
        """
        A client may be silent for longer than with other ports.
        """
        self.client()
        self.assertEqual(self.server.idle_timeout, IDLE_TIMEOUT)

    def test_taps(self) -> None:
        """
        Taps see each request, without what says who asks, and each answer with its status, as far as it is sent.
        """
        client = self.client()
        seen: list[tuple[str, bytes, object]] = []
        self.server.add_tap(lambda traffic: seen.append((traffic.direction, traffic.raw, traffic.value)))
        client.ask(b"POST /a?b=1 HTTP/1.1\r\nHost: greeter\r\nContent-Length: 2\r\n\r\nhi")
        client.get(b"/late", b"Authorization: Basic cm9vdDpwYXNz")
        client.ask(b"HEAD / HTTP/1.1\r\nHost: greeter\r\n\r\n")
        self.server.inject(HttpFault(close=True))
        client.get(b"/")
        self.assertEqual(seen, [
            ("in", b"hi", Request("POST", "/a?b=1")), ("out", b"good day", 202),
            ("in", b"", Request("GET", "/late")), ("out", b"too late\n", 503),
            ("in", b"", Request("HEAD", "/")), ("out", b"", 202),
            ("in", b"", Request("GET", "/")), ("out", b"good", 202),
        ])  # fmt: skip

    def test_taps_refused(self) -> None:
        """
        What is refused before it is served is no message, nor is an answer to who has gone.
        """
        client = self.client(HttpFault(delay=1))
        seen: list[tuple[str, object]] = []
        self.server.add_tap(lambda traffic: seen.append((traffic.direction, traffic.value)))
        head = b"POST / HTTP/1.1\r\nHost: greeter\r\nContent-Length: 101\r\n\r\n"
        self.assertEqual(parts_of(client.ask(head + b"a" * 101))[0], 413)
        for target in (b"/", b"/late"):
            other = Client(self.server)
            other.ask(b"GET %s HTTP/1.1\r\nHost: greeter\r\n\r\n" % target)
            other.server.connectionLost()
        self.clock.advance(1)
        self.assertEqual(seen, [("in", Request("GET", "/")), ("in", Request("GET", "/late"))])
