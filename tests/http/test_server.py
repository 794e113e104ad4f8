"""Tests of the HTTP port, without sockets."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from equipnet.connection.state import State
from equipnet.http.channel import DRAIN_LIMIT, HEADER_LIMIT, LINGER_TIME, TURN, BodyRequest, Incoming
from equipnet.http.message import Answer, Head, Refused
from equipnet.http.server import HttpPort


class Socket(StringTransport):
    """The server's end of a client's connection: what is read is kept with the client while the server pauses."""

    producer: Any

    def __init__(self, port: HttpPort, host: str = "10.0.0.9", factory: Any = None) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", host, 50000))
        #: How the server ends it: "half", "close", "abort".
        self.ended: list[str] = []
        self.is_gone = False
        self._kept = b""
        self.server: Any = (factory or port.reactor.tcpServers[-1][1]).buildProtocol(self.getPeer())
        if self.server is not None:
            self.server.makeConnection(self)

    # What a client does

    def say(self, data: bytes) -> bytes:
        """Send bytes; gives what is answered at once."""
        self._kept += data
        self._deliver()
        return self.heard()

    def heard(self) -> bytes:
        """Take what the server has said since the last call."""
        value: bytes = self.value()
        self.clear()
        return value

    def end(self) -> bytes:
        """End the client's side; gives what is answered at once."""
        IHalfCloseableProtocol(self.server).readConnectionLost()
        return self.heard()

    def go(self, reason: Exception | None = None) -> None:
        """Be gone."""
        if not self.is_gone:
            self.is_gone = True
            self.server.connectionLost(Failure(reason or ConnectionDone()))

    def stop_reading(self) -> None:
        """Let the server's buffer be full."""
        self.producer.pauseProducing()

    def read_on(self) -> bytes:
        """Take what is in the server's buffer; gives what is answered then."""
        self.heard()
        self.producer.resumeProducing()
        return self.heard()

    @property
    def kept(self) -> int:
        """How many bytes the server has left with the client."""
        return len(self._kept)

    # What the server does

    def resumeProducing(self) -> None:
        super().resumeProducing()
        self._deliver()

    def loseWriteConnection(self) -> None:
        self.ended.append("half")

    def loseConnection(self) -> None:
        self.ended.append("close")

    def abortConnection(self) -> None:
        self.ended.append("abort")
        self.go(ConnectionAborted())

    def _deliver(self) -> None:
        while self._kept and self.producerState == "producing" and self.ended[-1:] not in (["close"], ["abort"]):
            data, self._kept = self._kept, b""
            self.server.dataReceived(data)


class Recorded(Incoming):
    """A request that says how much of it came, or waits until the test answers."""

    channel: Any

    def serve(self) -> None:
        self.channel.port.served.append((self.head.method, self.head.target, self.body))
        if self.channel.port.answers:
            self.answer(Answer(200, f"{len(self.body)} bytes"))
        else:
            self.channel.port.pending.append(self)


class RecordingPort(HttpPort):
    """A port that records what it serves."""

    request_class = Recorded

    def __init__(self, reactor: MemoryReactorClock, **options: Any) -> None:
        super().__init__("tcp:8080", Resource(), name="web", reactor=reactor, **options)
        self.served: list[tuple[bytes, bytes, bytes]] = []
        self.answers = True
        self.pending: list[Recorded] = []


def statuses(data: bytes) -> list[int]:
    """Give the statuses of the answers in some bytes."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", data)]


class PortCase(SynchronousTestCase):
    options: dict[str, Any] = {}

    def setUp(self) -> None:
        self.clock: Any = MemoryReactorClock()
        self.port = RecordingPort(self.clock, **self.options)
        self.port.startService()
        self.events: list[dict[str, Any]] = []
        observer: Any = self.events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def tearDown(self) -> None:
        for protocol in tuple(self.port.protocols):
            protocol.transport.go()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def refused(self, data: bytes, status: int, text: str, kept_open: bool = False) -> None:
        """Send what is refused with a status and a text, which are logged and counted; nothing is served."""
        socket = Socket(self.port)
        before = self.port.refusals.get(status, 0)
        answer = socket.say(data)
        self.assertEqual(statuses(answer), [status], answer)
        self.assertEqual(answer.partition(b"\r\n\r\n")[2].decode(), f"{text}\n")
        self.assertEqual(socket.ended, [] if kept_open else ["half"])
        self.assertEqual(b"\r\nConnection: close\r\n" in answer, not kept_open)
        self.assertEqual(self.port.refusals[status], before + 1)
        event = self.events[-1]
        self.assertEqual((event["peer"], event["status"], event["text"]), ("10.0.0.9", status, text))
        self.assertEqual(self.port.served, [])
        socket.go()


class HeadTests(SynchronousTestCase):
    def test_good(self) -> None:
        """
        A head is a request line and fields, whose names have no letter case and whose values no blanks around them.
        """
        head = Head.from_bytes(
            b"PUT /a%20b?c=d HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nX-Two: 1\r\nCONTENT-LENGTH:\t 7 \r\nx-two:a b \t"
        )
        self.assertEqual((head.method, head.target, head.version), (b"PUT", b"/a%20b?c=d", b"HTTP/1.1"))
        self.assertEqual(
            head.fields,
            {b"host": [b"a"], b"x-empty": [b""], b"x-two": [b"1", b"a b"], b"content-length": [b"7"]},
        )
        self.assertEqual((head.length, head.first(b"x-two"), head.first(b"accept")), (7, b"1", b""))

    def test_target(self) -> None:
        """
        A whole URL is a target as well (RFC 9112, 3.2.2), of which the path and the query count.
        """
        for said, target in (
            (b"/", b"/"), (b"//a", b"//a"), (b"http://axis6/image?a=b", b"/image?a=b"), (b"*", b"*"),
            (b"HTTPS://[::1]:80", b"/"), (b"http://axis6?a=b", b"/?a=b"), (b"/\xff", b"/\xff"),
        ):  # fmt: skip
            with self.subTest(said=said):
                self.assertEqual(Head.from_bytes(b"POST " + said + b" HTTP/1.1").target, target)

    def test_keeps_alive(self) -> None:
        """
        A client of HTTP/1.1 may go on unless it says otherwise; one of HTTP/1.0 may not.
        """
        for version, connection, keeps_alive in (
            (b"HTTP/1.1", b"", True), (b"HTTP/1.1", b"\r\nConnection: keep-alive", True),
            (b"HTTP/1.1", b"\r\nConnection: close", False), (b"HTTP/1.1", b"\r\nconnection: TE, Close", False),
            (b"HTTP/1.1", b"\r\nConnection: TE\r\nConnection: close", False),
            (b"HTTP/1.0", b"", False), (b"HTTP/1.0", b"\r\nConnection: keep-alive", False),
        ):  # fmt: skip
            with self.subTest(version=version, connection=connection):
                self.assertIs(Head.from_bytes(b"GET / " + version + connection).keeps_alive(), keeps_alive)

    def test_wrong(self) -> None:
        """
        A malformed head is refused with 400 and where it is wrong; what a line of the header says is not repeated,
        since it may be a secret.
        """
        first = "the first line is not that of an HTTP/1.1 request: "
        folded = "line 3 of the header goes on with the one before, which HTTP/1.1 does not allow"
        named = "line 2 of the header does not begin with a name and a colon"
        control = "line 2 of the header has a control character in it"
        for data, text in (
            (b"", first + "''"),
            (b"GET", first + "'GET'"),
            (b"GET /", first + "'GET /'"),
            (b"GET / HTTP/2.0", first + "'GET / HTTP/2.0'"),
            (b"GET  / HTTP/1.1", first + "'GET  / HTTP/1.1'"),
            (b"GET /a b HTTP/1.1", first + "'GET /a b HTTP/1.1'"),
            (b"\x16\x03\x01\x02\x00\x01", first + r"'\x16\x03\x01\x02\x00\x01'"),
            (b"\xff\xd8" * 100, first + repr("\xff\xd8" * 30).encode("ascii", "backslashreplace").decode()),
            (b"GET / HTTP/1.1\nHost: a", first + r"'GET / HTTP/1.1\nHost: a'"),
            (b"POST axis6 HTTP/1.1", "the target is neither a path nor a URL: 'axis6'"),
            (b"CONNECT a:80 HTTP/1.1", "the target is neither a path nor a URL: 'a:80'"),
            (b"GET / HTTP/1.1\r\nAuthorization: Bearer a\r\n b", folded),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\tb: c", folded),
            (b"GET / HTTP/1.1\r\nSecret", named),
            (b"GET / HTTP/1.1\r\nAuthorization : Bearer secret", named),
            (b"GET / HTTP/1.1\r\n: a", named),
            (b"GET / HTTP/1.1\r\nA: b\0c", control),
            (b"GET / HTTP/1.1\r\nA: b\nC: d", control),
            (b"GET / HTTP/1.1\r\nA: b\rC: d", control),
            (b"GET / HTTP/1.1\r\nA: b\r", control),
        ):
            with self.subTest(data=data):
                answer = self.assertRaises(Refused, Head.from_bytes, data).answer
                self.assertEqual((answer.status, answer.text), (400, text))

    def test_length(self) -> None:
        """
        How long a body is must be clear (RFC 9112, 6.3).
        """
        for fields, length in (
            (b"Host: a", 0), (b"Content-Length: 0", 0), (b"Content-Length: 007", 7),
            (b"Transfer-Encoding: chunked", None), (b"Transfer-Encoding: Chunked", None),
        ):  # fmt: skip
            self.assertEqual(Head.from_bytes(b"POST / HTTP/1.1\r\n" + fields).length, length)
        for fields, status, text in (
            (b"Content-Length: abc", 400, "Content-Length is not a number of bytes: 'abc'"),
            (b"Content-Length: -5", 400, "Content-Length is not a number of bytes: '-5'"),
            (b"Content-Length: +5", 400, "Content-Length is not a number of bytes: '+5'"),
            (b"Content-Length: 5 5", 400, "Content-Length is not a number of bytes: '5 5'"),
            (b"Content-Length: 1_0", 400, "Content-Length is not a number of bytes: '1_0'"),
            (b"Content-Length: 0x5", 400, "Content-Length is not a number of bytes: '0x5'"),
            (b"Content-Length: \xb2", 400, r"Content-Length is not a number of bytes: '\xb2'"),
            (b"Content-Length:", 400, "Content-Length is not a number of bytes: ''"),
            (b"Content-Length: 5\r\nContent-Length: 5", 400, "Content-Length is not a number of bytes: '5, 5'"),
            (b"Content-Length: 5\r\ncontent-length: 6", 400, "Content-Length is not a number of bytes: '5, 6'"),
            (
                b"Content-Length: " + b"9" * 5000, 400,
                f"Content-Length is not a number of bytes: '{'9' * 60}'",
            ),
            (
                b"Content-Length: 5\r\nTransfer-Encoding: chunked", 400,
                "Content-Length and Transfer-Encoding cannot both be there",
            ),
            (b"Transfer-Encoding: gzip, chunked", 501, "the transfer coding is not known: 'gzip, chunked'"),
            (
                b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 501,
                "the transfer coding is not known: 'chunked, chunked'",
            ),
            (b"Transfer-Encoding: identity", 501, "the transfer coding is not known: 'identity'"),
        ):  # fmt: skip
            with self.subTest(fields=fields):
                answer = self.assertRaises(Refused, Head.from_bytes, b"POST / HTTP/1.1\r\n" + fields).answer
                self.assertEqual((answer.status, answer.text), (status, text))


class AnswerTests(SynchronousTestCase):
    def test_bytes(self) -> None:
        """
        An answer with a text says how long that is; one without has no body.
        """
        self.assertEqual(Answer(200).to_bytes(), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(Answer(204).to_bytes(), b"HTTP/1.1 204 No Content\r\n\r\n")
        answer = Answer(405, "images are posted here", (("Allow", "POST, PUT"),))
        head = (
            b"HTTP/1.1 405 Method Not Allowed\r\nAllow: POST, PUT\r\nContent-Type: text/plain; charset=utf-8\r\n"
            b"Content-Length: 23\r\n"
        )
        self.assertEqual(answer.to_bytes(), head + b"\r\nimages are posted here\n")
        self.assertEqual(answer.to_bytes(close=True, head=True), head + b"Connection: close\r\n\r\n")


class RequestTests(PortCase):
    def test_one(self) -> None:
        """
        A request is served once all of its body is there, and the connection stays.
        """
        socket = Socket(self.port)
        self.assertEqual(socket.say(b"POST /a?b HTTP/1.1\r\nContent-Length: 5\r\n\r\nhel"), b"")
        self.assertEqual(
            socket.say(b"lo"),
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 8\r\n\r\n5 bytes\n",
        )
        self.assertEqual(self.port.served, [(b"POST", b"/a?b", b"hello")])
        self.assertEqual(statuses(socket.say(b"GET / HTTP/1.1\r\n\r\n")), [200])
        self.assertEqual(socket.ended, [])

    def test_bytes_one_at_a_time(self) -> None:
        """
        It does not matter how the bytes of requests arrive, nor whether there is an empty line between them.
        """
        socket = Socket(self.port)
        for byte in (
            b"\r\nPOST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc\r\n"
            b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nde\r\n1\r\nf\r\n0\r\nA: b\r\n\r\n"
            b"GET / HTTP/1.1\r\n\r\n"
        ):
            socket.say(bytes([byte]))
        self.assertEqual(self.port.served, [(b"POST", b"/", b"abc"), (b"POST", b"/c", b"def"), (b"GET", b"/", b"")])

    @given(st.data())
    @settings(max_examples=60, deadline=None)
    def test_any_pieces(self, data: st.DataObject) -> None:
        """
        Several requests behind one another, in pieces of any size, are all served, in their order.
        """
        self.port.served.clear()
        for protocol in tuple(self.port.protocols):
            protocol.transport.go()
        bodies = data.draw(st.lists(st.binary(max_size=40), min_size=1, max_size=5))
        stream = b""
        for body in bodies:
            if data.draw(st.booleans()):
                cut = data.draw(st.integers(0, len(body)))
                pieces = [piece for piece in (body[:cut], body[cut:]) if piece]
                chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
                stream += b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
            else:
                stream += b"PUT / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        socket = Socket(self.port)
        heard = b""
        while stream:
            size = data.draw(st.integers(1, len(stream)))
            heard += socket.say(stream[:size])
            stream = stream[size:]
        self.assertEqual([body for _, _, body in self.port.served], bodies)
        self.assertEqual(statuses(heard), [200] * len(bodies))

    def test_pipelined(self) -> None:
        """
        Requests that are sent at once are served one after the other: the next one when the last one is answered.
        """
        self.port.answers = False
        socket = Socket(self.port)
        socket.say(b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n")
        self.assertEqual(self.port.served, [(b"GET", b"/a", b"")])
        self.port.pending[0].answer(Answer(204))
        self.assertEqual(socket.heard(), b"HTTP/1.1 204 No Content\r\n\r\n")
        self.assertEqual(self.port.served[1:], [(b"GET", b"/b", b"")])
        # An answer is given once.
        self.port.pending[0].answer(Answer(200))
        self.assertEqual(socket.heard(), b"")

    def test_closing(self) -> None:
        """
        After a request of HTTP/1.0, or one that says so, the connection ends.
        """
        for request in (b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"):
            socket = Socket(self.port)
            answer = socket.say(request)
            self.assertIn(b"\r\nConnection: close\r\n", answer)
            self.assertEqual(socket.ended, ["close"])
            socket.go()

    def test_more_than_announced(self) -> None:
        """
        What stands behind the last request is no request, and does not cost the client its answer.
        """
        socket = Socket(self.port)
        answer = socket.say(b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nabGET / HTTP/1.1\r\n\r\n")
        self.assertEqual((statuses(answer), self.port.served), ([200], [(b"POST", b"/", b"ab")]))
        self.assertEqual(socket.ended, ["half"])
        self.assertEqual(socket.say(b"more"), b"")
        self.assertEqual(socket.end(), b"")
        self.assertEqual(socket.ended, ["half", "close"])

    def test_head(self) -> None:
        """
        The answer to HEAD has no body, also when it is a refusal.
        """
        socket = Socket(self.port)
        self.assertTrue(socket.say(b"HEAD / HTTP/1.1\r\n\r\n").endswith(b"Content-Length: 8\r\n\r\n"))
        answer = socket.say(b"HEAD / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n")
        self.assertEqual((statuses(answer), answer[-4:]), ([413], b"\r\n\r\n"))

    def test_continue(self) -> None:
        """
        A client that asks whether it may send the body is told to, once and only if the body is not there already.
        """
        ask = b"POST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: %d\r\n\r\n"
        socket = Socket(self.port)
        self.assertEqual(socket.say(ask % 2), b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertEqual(statuses(socket.say(b"ab")), [200])
        self.assertEqual(statuses(socket.say(ask % 2 + b"ab")), [200])
        self.assertEqual(statuses(socket.say(ask % 0)), [200])
        # RFC 9110, 10.1.1: not to a client of HTTP/1.0.
        self.assertEqual(socket.say((ask % 2).replace(b"1.1", b"1.0")), b"")

    def test_serving_raises(self) -> None:
        """
        A request whose service raises is answered 500, and the connection goes on.
        """

        socket = Socket(self.port)
        self.port.served = None  # type: ignore[assignment]
        self.assertEqual(statuses(socket.say(b"GET / HTTP/1.1\r\n\r\n")), [500])
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)
        self.port.served = []
        self.assertEqual(statuses(socket.say(b"GET / HTTP/1.1\r\n\r\n")), [200])


class RefusalTests(PortCase):
    options = {"max_size": 1000}

    def test_malformed(self) -> None:
        """
        Nonsense is answered 400 with where it is wrong, and the connection is ended.
        """
        for data, text in (
            (b"rubbish\r\n\r\n", "the first line is not that of an HTTP/1.1 request: 'rubbish'"),
            (b"\r\n\r\n", "the first line is not that of an HTTP/1.1 request: ''"),
            (b"GET / HTTP/1.1\r\nA\r\n\r\n", "line 2 of the header does not begin with a name and a colon"),
            (b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", "Content-Length is not a number of bytes: 'x'"),
            (b"GET / HTTP/1.1\nHost: a\n\n", r"the lines of the header end with \n, not with \r\n"),
        ):
            self.refused(data, 400, text)

    def test_chunks(self) -> None:
        """
        So are chunks that are none.
        """
        head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        wrong = "a chunk is malformed, after 0 bytes of the body"
        for chunks in (b"xyz\r\n", b"-1\r\n", b"0x5\r\n", b"+5\r\n", b"\r\n", b"5 \r\n", b"1;\x01\r\n", b"1" * 2000):
            self.refused(head + chunks, 400, wrong)
        self.refused(head + b"2\r\nabcd", 400, "a chunk is malformed, after 2 bytes of the body")

    def test_tiny_chunks(self) -> None:
        """
        A body in chunks that are mostly not body is refused, as is one with a flood of extensions or trailers.
        """
        head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        extension = b"1;" + b"x" * 1000 + b"\r\na\r\n"
        self.refused(
            head + extension * 17, 400,
            "the chunks hold too few bytes for what is around them, after 17 bytes of the body",
        )  # fmt: skip
        self.refused(
            head + b"0\r\n" + b"A: b\r\n" * 3000, 400,
            "the chunks hold too few bytes for what is around them, after 0 bytes of the body",
        )  # fmt: skip

    def test_chunks_are_counted_for_each_request(self) -> None:
        """
        What is around the chunks of one request does not count for the next one.
        """
        socket = Socket(self.port)
        request = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"1;" + b"x" * 900 + b"\r\na\r\n") * 10
        for _ in range(5):
            self.assertEqual(statuses(socket.say(request) + socket.say(b"0\r\n\r\n")), [200])

    def test_too_long(self) -> None:
        """
        A body over the limit is answered 413 as soon as that is known: from its length, from the size of a chunk, or
        when the chunks become too many.
        """
        text = "the body is longer than 1000 bytes"
        chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.refused(b"POST / HTTP/1.1\r\nContent-Length: 268435456\r\n\r\n", 413, text)
        self.refused(chunked + b"ffffffffffffffffffff\r\n", 413, text)
        self.refused(chunked + b"3e8\r\n" + bytes(1000) + b"\r\n1\r\na", 413, text)
        socket = Socket(self.port)
        exact = chunked + b"3e8\r\n" + bytes(1000) + b"\r\n0\r\n\r\n"
        self.assertEqual(statuses(socket.say(exact + exact)), [200, 200])

    def test_small_one_is_drained(self) -> None:
        """
        After a small body that is refused the connection can be used again.
        """
        socket = Socket(self.port)
        self.assertEqual(socket.say(b"POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n" + bytes(1000)), b"")
        self.assertEqual(statuses(socket.say(b"xPOST / HTTP/1.1\r\nContent-Length: 1\r\n\r\ny")), [413, 200])
        self.assertEqual((socket.ended, self.port.served), ([], [(b"POST", b"/", b"y")]))

    def test_expecting_one_gets_no_consent(self) -> None:
        """
        A client that asked whether it may send the body gets the refusal, and nothing before it.
        """
        self.refused(
            b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n", 413,
            "the body is longer than 1000 bytes",
        )  # fmt: skip

    def test_header_too_long(self) -> None:
        """
        A header of 70 KB is answered 431: one line, many lines, without any end of a line, and complete.
        """
        text = f"the header is longer than {HEADER_LIMIT} bytes"
        start = b"POST / HTTP/1.1\r\n"
        self.refused(start + b"A: " + b"b" * 70_000, 431, text)
        self.refused(start + b"A: b\r\n" * 12_000, 431, text)
        self.refused(b"b" * 70_000, 431, text)
        self.refused(start + b"A: " + b"b" * 70_000 + b"\r\n\r\n", 431, text)
        socket = Socket(self.port)
        heard = b"".join(socket.say(piece) for piece in [start, *[b"A: " + b"b" * 1000 + b"\r\n"] * 70])
        self.assertEqual(statuses(heard), [431])
        self.assertEqual(statuses(Socket(self.port).say(start + b"A: " + b"b" * 16_000 + b"\r\n\r\n")), [200])

    def test_nothing_is_read_after_it(self) -> None:
        """
        What still comes after the last answer is dropped, until the client goes or takes too long for that.
        """
        socket = Socket(self.port)
        socket.say(b"POST / HTTP/1.1\r\nContent-Length: 268435456\r\n\r\n")
        for _ in range(10):
            self.assertEqual(socket.say(b"GET / HTTP/1.1\r\n\r\n" * 1000), b"")
            self.clock.advance(LINGER_TIME / 20)
        self.assertEqual((self.port.served, socket.ended), ([], ["half"]))
        self.clock.advance(LINGER_TIME / 2)
        self.assertEqual(socket.ended, ["half", "abort"])
        self.assertEqual((self.clock.getDelayedCalls(), self.port.protocols), ([], set()))

    def test_no_more_than_needed_is_kept(self) -> None:
        """
        Of a body that is refused, and of one that is too long, nothing is kept.
        """
        socket = Socket(self.port)
        socket.say(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % DRAIN_LIMIT + bytes(DRAIN_LIMIT - 1))
        request = socket.server.channel.requests[0]
        self.assertEqual((request.received, request._chunks), (DRAIN_LIMIT - 1, []))


class AddressTests(PortCase):
    options = {"allowed": ("10.0.0.0/30", "127.0.0.1")}

    def test_allowed(self) -> None:
        """
        Requests from other networks are answered 403, whatever they are.
        """
        for host, expected in (("10.0.0.1", 200), ("127.0.0.1", 200), ("10.0.0.9", 403), ("192.168.0.1", 403)):
            socket = Socket(self.port, host)
            self.assertEqual(statuses(socket.say(b"GET / HTTP/1.1\r\n\r\n")), [expected], host)
        self.port.served.clear()
        self.refused(b"DELETE / HTTP/1.1\r\n\r\n", 403, "requests from your address are not allowed", kept_open=True)


class LimitTests(PortCase):
    options = {"max_connections": 2}

    def test_connections(self) -> None:
        """
        A client too many is turned away; when another one has gone there is room again.
        """
        first, _ = Socket(self.port), Socket(self.port)
        self.assertIsNone(Socket(self.port).server)
        self.assertEqual(self.port.refused, 1)
        first.go()
        self.assertEqual(statuses(Socket(self.port).say(b"GET / HTTP/1.1\r\n\r\n")), [200])


class PressureTests(PortCase):
    def test_answers_are_not_read(self) -> None:
        """
        A client that sends thousands of requests and reads no answer is not read any more, and loses none of them when
        it reads on.
        """
        socket = Socket(self.port)
        socket.stop_reading()
        socket.say(b"GET / HTTP/1.1\r\n\r\n" * 5000)
        self.assertEqual((self.port.served, socket.kept), ([], 90_000))
        heard = socket.read_on()
        self.clock.advance(0)
        self.assertEqual(statuses(heard + socket.heard()), [200] * 5000)

    def test_turns(self) -> None:
        """
        One that sends thousands of requests at once leaves others their turns; it is not read until it has had its own.
        """
        flooding, other = Socket(self.port), Socket(self.port)
        flooding.say(b"GET / HTTP/1.1\r\n\r\n" * 1000)
        self.assertEqual((len(self.port.served), flooding.producerState), (TURN, "paused"))
        self.assertEqual(statuses(other.say(b"GET / HTTP/1.1\r\n\r\n")), [200])
        self.assertEqual(len(self.port.served), TURN + 1)
        self.clock.advance(0)
        self.assertEqual((len(self.port.served), flooding.producerState), (1001, "producing"))

    def test_gone_before_its_turn(self) -> None:
        """
        One that goes, ends its side or is disconnected before its next turn leaves nothing behind.
        """
        request = b"GET / HTTP/1.1\r\n\r\n"
        gone = Socket(self.port)
        gone.say(request * 100)
        gone.go()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        ended = Socket(self.port)
        heard = ended.say(request * 100) + ended.end()
        self.clock.advance(0)
        self.assertEqual((statuses(heard + ended.heard()), ended.ended), ([200] * 100, ["close"]))
        ended.go()
        hung_up = Socket(self.port)
        hung_up.say(request * 100)
        self.port.stopService()
        self.clock.advance(0)
        self.assertEqual((hung_up.heard(), hung_up.ended), (b"", ["close"]))

    def test_answers_are_not_read_any_more(self) -> None:
        """
        Nor is one that stops in the middle of many requests.
        """
        sent = 0

        class Full(Recorded):
            def serve(self) -> None:
                super().serve()
                nonlocal sent
                sent += 1
                if sent == 10:
                    socket.stop_reading()

        self.port.request_class = Full
        socket = Socket(self.port)
        socket.say(b"GET / HTTP/1.1\r\n\r\n" * 100)
        self.assertEqual((len(self.port.served), socket.producerState), (10, "paused"))
        socket.say(b"GET / HTTP/1.1\r\n\r\n" * 100)
        self.assertEqual(len(self.port.served), 10)
        socket.read_on()
        self.clock.advance(0)
        self.assertEqual((len(self.port.served), socket.producerState), (200, "producing"))

    def test_requests_wait_with_the_client(self) -> None:
        """
        While an answer is awaited only a little of what comes next is taken from the client.
        """
        self.port.answers = False
        socket = Socket(self.port)
        socket.say(b"GET / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 50000\r\n\r\n")
        for _ in range(50):
            socket.say(bytes(1000))
        self.assertGreater(socket.kept, 50_000 - HEADER_LIMIT - 2000)
        self.port.answers = True
        self.port.pending[0].answer(Answer(200))
        self.assertEqual(self.port.served[1:], [(b"POST", b"/", bytes(50_000))])
        self.assertEqual((socket.kept, socket.producerState), (0, "producing"))


class EndTests(PortCase):
    def test_in_the_middle(self) -> None:
        """
        A client that ends its side in the middle of a request is told how far it came; nothing is served.
        """
        for data, progress in (
            (b"POS", "in the middle of the header"),
            (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", "after 0 of 5 bytes of the body"),
            (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabc", "after 3 of 5 bytes of the body"),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", "after 3 bytes of the body"),
        ):
            socket = Socket(self.port)
            self.assertEqual(socket.say(data), b"")
            answer = socket.end()
            self.assertEqual(statuses(answer), [400])
            self.assertTrue(answer.endswith(f"\r\n\r\nthe request ended early, {progress}\n".encode()), answer)
            self.assertEqual((socket.ended, self.port.served), (["close"], []))
            socket.go()

    def test_between_two(self) -> None:
        """
        One that ends it between two requests is let go without a word.
        """
        for data in (b"", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n\r\n"):
            socket = Socket(self.port)
            socket.say(data)
            self.assertEqual((socket.end(), socket.ended), (b"", ["close"]))
            socket.go()

    def test_while_it_waits(self) -> None:
        """
        One that ends it behind several requests still gets all answers.
        """
        self.port.answers = False
        socket = Socket(self.port)
        socket.say(b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\nGET /c")
        self.assertEqual((socket.end(), socket.ended), (b"", []))
        self.port.pending[0].answer(Answer(200))
        self.assertEqual((statuses(socket.heard()), socket.ended), ([200], []))
        self.port.pending[1].answer(Answer(200))
        self.assertEqual((statuses(socket.heard()), socket.ended), ([200, 400], ["close"]))

    def test_gone(self) -> None:
        """
        One that is gone is answered no more, and who waits for it is told.
        """
        self.port.answers = False
        socket = Socket(self.port)
        socket.say(b"GET /a HTTP/1.1\r\n\r\n")
        told: list[str] = []
        self.port.pending[0].when_gone(lambda: told.append("gone"))
        socket.go()
        self.port.pending[0].answer(Answer(200))
        self.assertEqual((told, socket.heard(), self.port.protocols), (["gone"], b"", set()))


class TimeTests(PortCase):
    options = {"idle_timeout": 5.0, "request_timeout": 30.0}

    def test_silent(self) -> None:
        """
        A client that says nothing is let go after the idle time, and aborted if it does not go.
        """
        socket = Socket(self.port)
        self.clock.pump([2.5, 2.4])
        self.assertEqual(socket.ended, [])
        self.clock.advance(0.1)
        self.assertEqual((socket.heard(), socket.ended), (b"", ["close"]))
        self.clock.advance(LINGER_TIME)
        self.assertEqual(socket.ended, ["close", "abort"])
        self.assertEqual((self.clock.getDelayedCalls(), self.port.protocols), ([], set()))

    def test_silent_in_a_request(self) -> None:
        """
        One that becomes silent in the middle of a request is told so.
        """
        for data, progress in (
            (b"P", "in the middle of the header"),
            (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab", "after 2 of 5 bytes of the body"),
        ):
            socket = Socket(self.port)
            self.clock.advance(4)
            socket.say(data)
            self.clock.pump([1.0, 3.5])
            self.assertEqual(socket.heard(), b"")
            self.clock.advance(0.5)
            answer = socket.heard()
            self.assertEqual((statuses(answer), socket.ended), ([408], ["half"]))
            self.assertTrue(answer.endswith(f"\r\n\r\nnothing came for 5 s, {progress}\n".encode()), answer)
            socket.go()

    def test_dripping(self) -> None:
        """
        One that sends a byte each second has until the end of the time for a request.
        """
        for head in (b"", b"POST / HTTP/1.1\r\nContent-Length: 500\r\n\r\n"):
            socket = Socket(self.port)
            socket.say(head + b"a")
            for _ in range(29):
                self.clock.advance(1)
                self.assertEqual(socket.say(b"a"), b"")
            self.clock.advance(1)
            answer = socket.heard()
            self.assertEqual((statuses(answer), socket.ended), ([408], ["half"]))
            self.assertIn(b"\r\n\r\nnot complete after 30 s, ", answer)
            socket.go()

    def test_dripping_empty_lines(self) -> None:
        """
        Empty lines without end are no way to stay.
        """
        socket = Socket(self.port)
        for byte in b"\r\n\r\n":
            self.clock.advance(1)
            heard = socket.say(bytes([byte]))
        self.assertEqual(statuses(heard), [400])

    def test_busy(self) -> None:
        """
        One that makes its requests in time may stay for ever, with one call of the clock.
        """
        socket = Socket(self.port)
        for _ in range(100):
            self.clock.advance(4)
            socket.say(b"GET / HTTP/1.1\r\n\r\n")
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.assertEqual((len(self.port.served), socket.ended), (100, []))

    def test_long_answer(self) -> None:
        """
        While it waits for its answer no time runs, and the idle time begins anew after it.
        """
        self.port.answers = False
        socket = Socket(self.port)
        socket.say(b"GET / HTTP/1.1\r\n\r\n")
        self.clock.pump([5.0] * 19 + [4.9])
        self.port.pending[0].answer(Answer(200))
        self.assertEqual(statuses(socket.heard()), [200])
        self.clock.advance(4.9)
        self.assertEqual(socket.ended, [])
        self.clock.advance(0.1)
        self.assertEqual(socket.ended, ["close"])

    def test_answers_are_never_read(self) -> None:
        """
        One that never reads its answers is aborted; waiting to say good-bye to it would never end.
        """
        socket = Socket(self.port)
        socket.say(b"GET / HTTP/1.1\r\n\r\n")
        socket.stop_reading()
        self.clock.pump([5.0, LINGER_TIME])
        self.assertEqual((socket.ended, self.port.protocols), (["close", "abort"], set()))

    def test_closed_but_does_not_go(self) -> None:
        """
        One that does not go after its last answer is aborted.
        """
        socket = Socket(self.port)
        socket.say(b"GET / HTTP/1.0\r\n\r\n")
        self.clock.advance(LINGER_TIME)
        self.assertEqual(socket.ended, ["close", "abort"])


class ServiceTests(PortCase):
    def test_states(self) -> None:
        """
        The port is ready when it is bound, and stopped when its last client has gone; one that does not go is aborted.
        """
        self.assertIs(self.port.state, State.READY)
        socket = Socket(self.port)
        stopped = self.port.stopService()
        self.assertNoResult(stopped)
        self.assertEqual((self.port.state, socket.ended), (State.DISCONNECTING, ["close"]))
        self.assertEqual(socket.say(b"GET / HTTP/1.1\r\n\r\n"), b"")
        self.clock.advance(1)
        self.successResultOf(stopped)
        self.assertEqual((self.port.state, socket.ended), (State.STOPPED, ["close", "abort"]))

    def test_wrong_options(self) -> None:
        """
        Options that make no sense are refused.
        """
        for options, text in (
            ({"idle_timeout": 0}, "idle_timeout is 0, not above 0 seconds"),
            ({"request_timeout": float("inf")}, "request_timeout is inf, not above 0 seconds"),
            ({"max_size": 0}, "max_size is 0, less than 1 byte"),
            ({"max_connections": 0}, "max_connections is 0, less than 1"),
            ({"allowed": ["10.0.0.1/8"]}, "10.0.0.1/8 has host bits set"),
        ):
            with self.subTest(options=options):
                error = self.assertRaises(ValueError, RecordingPort, self.clock, **options)
                self.assertEqual(str(error), text)
        error = self.assertRaises(ValueError, HttpPort, "udp:8080", Resource(), reactor=self.clock)
        self.assertIn("HTTP does not go over UDP", str(error))


class Page(Resource):
    """A resource that renders as the test wants it."""

    isLeaf = True

    def __init__(self, rendered: Callable[[BodyRequest], Any]) -> None:
        super().__init__()
        self._rendered = rendered

    def render(self, request: BodyRequest) -> Any:
        return self._rendered(request)


class ResourceTests(SynchronousTestCase):
    def serving(self, render: Callable[[BodyRequest], Any], data: bytes) -> Socket:
        self.port = HttpPort("tcp:8080", Page(render), reactor=MemoryReactorClock())
        self.port.startService()
        socket = Socket(self.port)
        socket.server.dataReceived(data)
        self.addCleanup(socket.go)
        return socket

    def test_body(self) -> None:
        """
        A resource of twisted.web finds the body in the request, as bytes and as a file, and what URL and form say.
        """
        found: list[Any] = []

        def render(request: BodyRequest) -> bytes:
            content: Any = request.content
            found.append((request.body, content.read(), request.args, request.path, request.getCookie(b"a")))
            return b"done"

        socket = self.serving(
            render,
            b"POST http://axis6/x?y=1 HTTP/1.1\r\nContent-Length: 3\r\nCookie: a=b\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n\r\nz=2",
        )
        self.assertEqual(found, [(b"z=2", b"z=2", {b"y": [b"1"], b"z": [b"2"]}, b"/x", b"b")])
        self.assertTrue(socket.heard().endswith(b"\r\n\r\ndone"))

    def test_answer(self) -> None:
        """
        It may give an answer in place of a page, now or later, and the connection goes on.
        """
        requests: list[BodyRequest] = []

        def render(request: BodyRequest) -> int:
            requests.append(request)
            return NOT_DONE_YET

        socket = self.serving(render, b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n")
        requests[0].answer(Answer(404, "there is nothing"))
        self.assertEqual(statuses(socket.heard()), [404])
        self.assertEqual([request.path for request in requests], [b"/a", b"/b"])
        socket.go()
        requests[1].answer(Answer(200))

    def test_raises(self) -> None:
        """
        A resource that raises is answered 500 without its traceback, which is logged.
        """

        def render(request: BodyRequest) -> bytes:
            raise RuntimeError("broken")

        socket = self.serving(render, b"GET /a HTTP/1.1\r\n\r\n")
        answer = socket.heard()
        self.assertEqual(statuses(answer), [500])
        self.assertNotIn(b"broken", answer)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_malformed_form(self) -> None:
        """
        A form that cannot be read is answered 400.
        """
        socket = self.serving(
            lambda request: b"",
            b"POST / HTTP/1.1\r\nContent-Type: multipart/form-data\r\nContent-Length: 3\r\n\r\nabc",
        )
        self.assertEqual((statuses(socket.heard()), self.port.refusals), ([400], {400: 1}))

    def test_closes_itself(self) -> None:
        """
        It may close the connection.
        """

        def render(request: BodyRequest) -> int:
            request.loseConnection()
            return NOT_DONE_YET

        self.assertEqual(self.serving(render, b"GET / HTTP/1.1\r\n\r\n").ended, ["close"])
