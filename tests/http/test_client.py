from __future__ import annotations

import errno
import tracemalloc
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost as TwistedConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from equipnet.connection.address import Address
from equipnet.connection.tls import TLS
from equipnet.errors import (
    AddressError,
    AuthenticationFailed,
    ConnectFailed,
    ConnectionLost,
    Disconnected,
    EquipmentTimeout,
    LocalProtocolError,
    MessageTooLong,
    QueueFull,
    RemoteProtocolError,
)
from equipnet.http.client import HttpClient, HttpStatus, parse_url
from equipnet.http.exchange import Response
from equipnet.http.pool import HEAD_LIMIT

from .doubles import URL, Network

DIGEST = b'WWW-Authenticate: Digest realm="axis", nonce="%s", qop="auth", algorithm=SHA-256'


class UrlTests(SynchronousTestCase):
    def test_good(self) -> None:
        """
        A URL gives an address and the path before all others.
        """
        for url, address, path in (
            ("http://axis6", Address("tcp", "axis6", 80), ""),
            ("http://10.0.0.5:8888/", Address("tcp", "10.0.0.5", 8888), ""),
            ("https://voltron/models/", Address("tls", "voltron", 443), "/models"),
            ("HTTP://[::1]:5000", Address("tcp", "::1", 5000), ""),
        ):
            self.assertEqual(parse_url(url), (address, path))

    def test_wrong(self) -> None:
        """
        What is no URL of a server is refused.
        """
        for url in (
            "axis6", "axis://axis6", "http://", "http://a:b", "http://a:0", "http://a:99999", "http://a/?b",
            "http://a/#b", "http://\u00e4", "http://[::1", "",
        ):  # fmt: skip
            with self.subTest(url=url):
                self.assertRaises(AddressError, parse_url, url)

    def test_secret(self) -> None:
        """
        A password does not belong in a URL, and the error does not show it.
        """
        error = self.assertRaises(AddressError, parse_url, "http://root:pass@axis6")
        self.assertIn("give them as username and password", str(error))
        self.assertNotIn("pass@", str(error))

    def test_arguments(self) -> None:
        """
        Arguments that make no sense are refused.
        """
        for arguments in (
            {"tls": TLS()},
            {"username": "root"},
            {"timeout": 0.0},
            {"connect_timeout": float("inf")},
            {"max_requests": 0},
            {"queue_limit": -1},
        ):
            with self.subTest(arguments=arguments):
                self.assertRaises(ValueError, HttpClient, URL, reactor=Network().reactor, **arguments)


class ClientTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = Network()
        self.clients: list[HttpClient] = []
        self.addCleanup(self.assert_clean)

    def client(self, **options: Any) -> HttpClient:
        self.clients.append(HttpClient(options.pop("url", URL), reactor=self.network.reactor, **options))
        return self.clients[-1]

    def assert_clean(self) -> None:
        """Nothing is left open or scheduled when the clients are closed."""
        for client in self.clients:
            client.close(Disconnected("the end"))
        self.network.turn()
        self.assertEqual(self.network.reactor.getDelayedCalls(), [])
        self.assertEqual([socket.ended for socket in self.network.sockets if socket.ended is None], [])


class RequestTests(ClientTestCase):
    def test_get(self) -> None:
        """
        A request is asked as it is, and its answer is what came.
        """
        answer = self.client().request("GET", "/axis-cgi/jpg/image.cgi?camera=1", headers={"Accept": "image/jpeg"})
        socket = self.network.accept()
        self.assertEqual(
            socket.asked(),
            b"GET /axis-cgi/jpg/image.cgi?camera=1 HTTP/1.1\r\nAccept: image/jpeg\r\nHost: 10.0.0.5\r\n\r\n",
        )
        socket.answer(b"\xff\xd8", b"200 OK", b"Content-Type: image/jpeg")
        self.assertEqual(self.successResultOf(answer), Response(200, "OK", {"content-type": "image/jpeg"}, b"\xff\xd8"))

    def test_post(self) -> None:
        """
        A body is sent with its length, and the path of the URL comes before that of the request.
        """
        self.client(url="http://10.0.0.5:5000/a/").request("POST", "/b", body=b"{}").addErrback(lambda _: None)
        self.assertEqual(
            self.network.accept().asked(), b"POST /a/b HTTP/1.1\r\nContent-Length: 2\r\nHost: 10.0.0.5:5000\r\n\r\n{}"
        )

    def test_options(self) -> None:
        """
        Sockets send at once, and notice a pulled cable.
        """
        self.client().request("GET", "/").addErrback(lambda _: None)
        self.assertTrue({"nodelay True", "keepalive True"} <= set(self.network.accept().options))

    def test_bodies(self) -> None:
        """
        A body may come in pieces, in chunks, or end with its connection; there may be none.
        """
        client = self.client()
        for said, body in (
            ([b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab", b"cd"], b"abcd"),
            ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", b"2\r\ncd\r\n0\r\n\r\n"], b"abcd"),
            ([b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 None\r\n\r\n"], b""),
            ([b"HTTP/1.0 200 OK\r\n\r\nabcd"], b"abcd"),
        ):
            answer = client.request("GET", "/")
            socket = self.network.accept() if self.network.attempts else self.network.sockets[-1]
            for piece in said:
                self.assertNoResult(answer)
                socket.say(piece)
            if said[0].startswith(b"HTTP/1.0"):
                socket.close()
                self.network.turn()
            self.assertEqual(self.successResultOf(answer).body, body)

    def test_bytes_one_at_a_time(self) -> None:
        """
        It does not matter how the bytes arrive.
        """
        answer = self.client().request("GET", "/")
        socket = self.network.accept()
        for byte in b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 2\r\n\r\nok":
            self.assertNoResult(answer)
            socket.say(bytes([byte]))
        self.assertEqual(self.successResultOf(answer).body, b"ok")

    def test_status(self) -> None:
        """
        A status that is no success is an error, with the beginning of what the server says; redirects are not
        followed.
        """
        client = self.client()
        for status, body, text in (
            (b"500 Internal Server Error", b"<h1>\n  no film</h1>", "500 Internal Server Error: <h1> no film</h1>"),
            (b"404 Not Found", b"", "404 Not Found"),
            (b"302 Found", b"\xff", "302 Found: \ufffd"),
        ):
            answer = client.request("GET", "/a")
            socket = self.network.accept() if self.network.attempts else self.network.sockets[-1]
            socket.answer(body, status, b"Location: /b")
            error = self.failureResultOf(answer, HttpStatus).value
            self.assertEqual((str(error), error.status), (f"GET http://10.0.0.5/a: {text}", int(status[:3])))
        self.assertEqual(len(self.network.sockets), 1)

    def test_long_error(self) -> None:
        """
        Of what nobody asked for only the beginning is kept, and it is not read to its end however long that takes.
        """
        answer = self.client().request("GET", "/")
        socket = self.network.accept()
        socket.say(b"HTTP/1.1 503 Busy\r\n\r\n")
        for _ in range(70):
            socket.say(b"x" * 1000)
        error = self.failureResultOf(answer, HttpStatus).value
        self.assertEqual(error.excerpt, b"x" * 1024)
        self.assertEqual(socket.ended, "aborted by the client")

    def test_bad_path(self) -> None:
        """
        What cannot be a path or a header is an error of ours, and nothing is sent.
        """
        client = self.client()
        for path in ("/a b", "/\u00e4", "/a\r\nHost: b"):
            error = self.failureResultOf(client.request("GET", path), LocalProtocolError).value
            self.assertIn(repr(path), str(error))
        self.failureResultOf(client.request("GE T", "/"), LocalProtocolError)
        self.assertEqual(self.network.attempts, 0)

    def test_cancelled(self) -> None:
        """
        A request that is cancelled is aborted, wherever it is.
        """
        client = self.client(max_requests=3, queue_limit=1)
        connecting, asked, answered, waiting = (client.request("GET", f"/{number}") for number in range(4))
        sockets = [self.network.accept() for _ in range(3)]
        sockets[2].say(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        for each, reason in ((waiting, None), (answered, sockets[2]), (asked, sockets[1]), (connecting, sockets[0])):
            each.cancel()
            self.failureResultOf(each, CancelledError)
            self.network.turn()
            if reason is not None:
                self.assertEqual(reason.ended, "aborted by the client")
        connecting = client.request("GET", "/")
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)


class PoolTests(ClientTestCase):
    def test_kept(self) -> None:
        """
        One request after the other goes over one socket.
        """
        client = self.client()
        for number in range(3):
            answer = client.request("GET", f"/{number}")
            socket = self.network.accept() if not number else self.network.sockets[0]
            self.assertIn(b"/%d " % number, socket.asked())
            socket.answer(b"%d" % number)
            self.assertEqual(self.successResultOf(answer).body, b"%d" % number)
        self.assertEqual(len(self.network.sockets), 1)

    def test_at_once(self) -> None:
        """
        Requests are made at once, each over its own socket, and each has its own answer in whatever order they come.
        """
        client = self.client(max_requests=20)
        answers = [client.request("GET", f"/{number}") for number in range(20)]
        sockets = [self.network.accept() for _ in answers]
        for number in reversed(range(20)):
            sockets[number].answer(b"%d" % number)
        self.assertEqual([int(self.successResultOf(answer).body) for answer in answers], list(range(20)))

    def test_turns(self) -> None:
        """
        More than the limit wait for their turn, in order, and more than may wait are refused.
        """
        client = self.client(max_requests=1, queue_limit=2)
        answers = [client.request("GET", f"/{number}") for number in range(4)]
        self.assertIn("2 requests wait for their turn already", str(self.failureResultOf(answers[3], QueueFull).value))
        socket = self.network.accept()
        for number in range(3):
            self.assertIn(b"/%d " % number, socket.asked())
            socket.answer(b"", b"200 OK" if number else b"500 Oops")
        self.failureResultOf(answers[0], HttpStatus)
        self.assertEqual([self.successResultOf(answer).status for answer in answers[1:3]], [200, 200])
        self.successResultOf(self.again(client))

    def test_turns_that_end_at_once(self) -> None:
        """
        However many fail as soon as they get their turn, each fails with its own error, and others get theirs.
        """
        client = self.client(max_requests=1, queue_limit=1001)
        answers = [client.request("GET", "/"), *(client.request("GET", "/\u00e4") for _ in range(1000))]
        last = client.request("GET", "/last")
        socket = self.network.accept()
        socket.answer()
        self.successResultOf(answers[0])
        for answer in answers[1:]:
            self.failureResultOf(answer, LocalProtocolError)
        self.assertIn(b"/last", socket.asked())
        socket.answer()
        self.successResultOf(last)

    def again(self, client: HttpClient) -> Deferred[Response]:
        answer = client.request("GET", "/again")
        self.network.sockets[-1].answer()
        return answer

    def test_closed_by_the_server(self) -> None:
        """
        A request that meets sockets which the server had closed is sent again over a new one, if nothing had come and
        it may be.
        """
        client = self.client()
        first = [client.request("GET", "/") for _ in range(2)]
        old = [self.network.accept() for _ in first]
        for socket in old:
            socket.answer()
        answer = client.request("GET", "/again")
        for socket in old:
            self.assertIn(b"/again", socket.asked()[-40:])
            socket.close(TwistedConnectionLost())
            self.network.turn()
        new = self.network.accept()
        new.answer(b"here")
        self.assertEqual(self.successResultOf(answer).body, b"here")
        for repeatable in (False, True):
            new.asked()
            answer = client.request("POST", "/post", body=b"{}", repeatable=repeatable)
            self.assertIn(b"/post", new.asked())
            new.close()
            self.network.turn()
            if repeatable:
                new = self.network.accept()
                self.assertIn(b"/post", new.asked())
                new.answer()
                self.successResultOf(answer)
            else:
                self.failureResultOf(answer, ConnectionLost)
                self.again_new(client)
                new = self.network.sockets[-1]

    def again_new(self, client: HttpClient) -> None:
        answer = client.request("GET", "/")
        self.network.accept().answer()
        self.successResultOf(answer)

    def test_not_again(self) -> None:
        """
        A request is not sent again over a new socket, nor when a part of its answer had come.
        """
        client = self.client()
        answer = client.request("GET", "/")
        self.network.accept().close()
        self.network.turn()
        self.failureResultOf(answer, ConnectionLost)
        self.again_new(client)
        answer = client.request("GET", "/")
        self.network.sockets[-1].say(b"HTTP/1.1 2")
        self.network.sockets[-1].close()
        self.network.turn()
        self.failureResultOf(answer, ConnectionLost)
        self.assertEqual(self.network.attempts, 0)

    def test_close(self) -> None:
        """
        Closing fails everything with the reason that is given, and is over when the last socket is closed.
        """
        client = self.client(max_requests=3)
        idle = client.request("GET", "/")
        self.network.accept().answer()
        self.successResultOf(idle)
        answers = [client.request("GET", "/") for _ in range(4)]
        self.network.accept().say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        closed = client.close(Disconnected("the end"))
        for answer in answers:
            self.failureResultOf(answer, Disconnected)
        self.assertNoResult(closed)
        self.network.turn()
        self.successResultOf(closed)

    def test_cancelled_by_the_close(self) -> None:
        """
        Who sees one request fail by it may cancel the others.
        """
        client = self.client(max_requests=1)
        answers = [client.request("GET", "/") for _ in range(4)]
        self.network.accept()
        ended: list[Failure] = []

        def cancel_all(reason: Failure) -> None:
            ended.append(reason)
            for each in answers:
                each.cancel()

        for answer in answers:
            answer.addErrback(cancel_all)
        closed = client.close(Disconnected("the end"))
        self.network.turn()
        self.successResultOf(closed)
        self.assertEqual(len(ended), 4)


class FaultTests(ClientTestCase):
    def failed(self, said: bytes, error: type[Exception], words: str, **options: Any) -> None:
        """Assert that an answer which ends there is that error."""
        client = self.client(**options)
        answer = client.request("GET", "/")
        socket = self.network.accept()
        socket.say(said)
        socket.close()
        self.network.turn()
        reason = self.failureResultOf(answer, error).value
        self.assertIn(words, str(reason))
        self.assertEqual(socket.ended is not None, True)

    def test_refused(self) -> None:
        """
        A server that is not there is an error with its URL and the system's number, and only for that request.
        """
        client = self.client()
        answers = [client.request("GET", "/") for _ in range(2)]
        self.network.refuse()
        error = self.failureResultOf(answers[0], ConnectFailed).value
        self.assertIn("Cannot connect to http://10.0.0.5: Connection was refused", str(error))
        self.assertEqual(error.errno, errno.ECONNREFUSED)
        self.network.accept().answer()
        self.successResultOf(answers[1])

    def test_not_http(self) -> None:
        """
        What is not HTTP is an error that says so.
        """
        for said in (
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"HTTP/1.1 abc OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ):
            with self.subTest(said=said):
                self.failed(said, RemoteProtocolError, "http://10.0.0.5 sent what is not HTTP: ")

    def test_cut(self) -> None:
        """
        A connection that is closed before the end of an answer is an error that says so.
        """
        for said in (
            b"",
            b"HTTP/1.1 200 OK\r\nContent-Le",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcd",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        ):
            with self.subTest(said=said):
                self.failed(said, ConnectionLost, "http://10.0.0.5 closed the connection before the end of its answer")

    def test_too_long(self) -> None:
        """
        An answer over the limit is refused when it says so, and else when it is over; it is not kept.
        """
        for said, words in (
            (b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n", "has 11 bytes, over the limit of 10"),
            (b"HTTP/1.1 200 OK\r\n\r\n12345678901", "has more, over the limit of 10"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n" + b"x" * 11, "has more, over the limit"),
        ):
            with self.subTest(said=said):
                self.failed(said, MessageTooLong, words, max_size=10)

    def test_long_head(self) -> None:
        """
        A head without end is refused, be it one line or many.
        """
        answer = self.client().request("GET", "/")
        socket = self.network.accept()
        socket.say(b"HTTP/1.1 200 OK\r\n")
        for _ in range(HEAD_LIMIT // 1000 + 2):
            socket.say(b"A: " + b"b" * 997 + b"\r\n")
        self.assertIn("a head of more than", str(self.failureResultOf(answer, MessageTooLong).value))
        self.assertEqual(socket.ended, "aborted by the client")
        self.failed(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 20000, RemoteProtocolError, "a line that is too long")

    def test_tiny_chunks(self) -> None:
        """
        An answer that comes in chunks of two bytes takes no more memory than one in a piece.
        """
        answer = self.client().request("GET", "/")
        socket = self.network.accept()
        socket.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for _ in range(20):
            socket.say(b"2\r\nab\r\n" * 1000)
        self.assertLess(tracemalloc.get_traced_memory()[0], 5 * 40_000)
        socket.say(b"0\r\n\r\n")
        self.assertEqual(self.successResultOf(answer).body, b"ab" * 20_000)

    def test_long_body(self) -> None:
        """
        The limit of the head is none of the body.
        """
        answer = self.client().request("GET", "/")
        socket = self.network.accept()
        socket.answer(b"x" * 3 * HEAD_LIMIT)
        self.assertEqual(len(self.successResultOf(answer).body), 3 * HEAD_LIMIT)


class TimeoutTests(ClientTestCase):
    def late(self, answer: Deferred[Response], seconds: float, words: str) -> None:
        """Assert that an answer is late after so many seconds, and what the error says."""
        self.network.turn(seconds - 0.01)
        self.assertNoResult(answer)
        self.network.turn(0.01)
        self.assertIn(words, str(self.failureResultOf(answer, EquipmentTimeout).value))

    def test_connection(self) -> None:
        """
        A connection that is not made in time is given up.
        """
        self.late(
            self.client(connect_timeout=2.0).request("GET", "/"),
            2.0,
            "after 2 second(s), waiting for a connection to tcp:10.0.0.5:80; received nothing",
        )

    def test_head(self) -> None:
        """
        So is an answer that does not begin, and a head that does not end; the error has what had come.
        """
        for said, received in (
            (b"", "received nothing"),
            (b"HTTP/1.1 200 OK\r\n", r"received 17 bytes, ending with b'HTTP/1.1 200 OK\r\n'"),
        ):
            answer = self.client(answer_timeout=3.0).request("GET", "/a")
            self.network.turn(1)
            socket = self.network.accept()
            socket.say(said)
            self.late(answer, 3.0, f"after 3 second(s), waiting for the answer to GET /a; {received}")
            self.assertEqual(socket.ended, "aborted by the client")

    def test_silence(self) -> None:
        """
        So is a body that stops arriving; the error has what had come.
        """
        answer = self.client(silence_timeout=1.0).request("GET", "/a")
        socket = self.network.accept()
        socket.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        for byte in (b"a", b"b", b"c"):
            self.network.turn(0.9)
            socket.say(byte)
        self.late(answer, 1.0, "waiting for the rest of the answer to GET /a; received 3 bytes, ending with b'abc'")

    def test_whole(self) -> None:
        """
        So is a body that drips, after the time for the whole request.
        """
        answer = self.client(silence_timeout=1.0, timeout=4.0).request("GET", "/")
        socket = self.network.accept()
        socket.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        for _ in range(7):
            self.network.turn(0.5)
            socket.say(b"a")
        self.late(answer, 0.5, "after 4 second(s), waiting for the rest of the answer to GET /; received 7 bytes")
        self.assertEqual(socket.ended, "aborted by the client")

    def test_turn(self) -> None:
        """
        So is a turn that does not come; a server that hangs costs those that were asked, and nobody else.
        """
        client = self.client(max_requests=2)
        hung, good = client.request("GET", "/hung").addErrback(lambda _: None), client.request("GET", "/good")
        self.network.accept()
        socket = self.network.accept()
        following, late = client.request("GET", "/next"), client.request("GET", "/late", timeout=1.0)
        socket.asked()
        socket.answer()
        self.successResultOf(good)
        self.assertIn(b"/next", socket.asked())
        self.late(late, 1.0, "after 1 second(s), waiting for its turn; received nothing")
        socket.answer()
        self.successResultOf(following)
        self.assertNoResult(hung)


class AuthenticationTests(ClientTestCase):
    def test_digest(self) -> None:
        """
        A server that asks who we are is told, over the same socket; later requests say it at once, each with its own
        count.
        """
        client = self.client(username="root", password="secret", max_requests=2)
        answer = client.request("GET", "/a?b=c")
        socket = self.network.accept()
        self.assertNotIn(b"Authorization", socket.asked())
        socket.answer(b"Unauthorized", b"401 Unauthorized", DIGEST % b"one")
        asked = socket.asked()
        self.assertIn(b'Authorization: Digest username="root", realm="axis", uri="/a?b=c"', asked)
        self.assertIn(b"nc=00000001", asked)
        self.assertNotIn(b"secret", asked)
        socket.answer(b"image")
        self.assertEqual(self.successResultOf(answer).body, b"image")
        more = [client.request("GET", "/") for _ in range(2)]
        self.assertIn(b"nc=00000002", socket.asked())
        other = self.network.accept()
        self.assertIn(b"nc=00000003", other.asked())
        for each in (socket, other):
            each.answer()
        for each_answer in more:
            self.successResultOf(each_answer)

    def test_refused_for_ever(self) -> None:
        """
        A server that refuses whatever it is told is asked twice, and that is that.
        """
        client = self.client(username="root", password="secret")
        for end in (b"", b", stale=true"):
            answer = client.request("GET", "/")
            socket = self.network.accept() if self.network.attempts else self.network.sockets[-1]
            for count in range(2):
                self.assertEqual(socket.asked().count(b"GET"), 1)
                socket.answer(b"", b"401 Unauthorized", DIGEST % b"%d" % count + end)
            error = self.failureResultOf(answer, AuthenticationFailed).value
            self.assertEqual(str(error), "http://10.0.0.5: the name 'root' or its password is refused")
            self.assertEqual(socket.asked(), b"")

    def test_nobody(self) -> None:
        """
        Without a name and a password the error says that they are wanted.
        """
        answer = self.client().request("GET", "/")
        self.network.accept().answer(b"", b"401 Unauthorized", DIGEST % b"one")
        error = self.failureResultOf(answer, AuthenticationFailed).value
        self.assertEqual(str(error), "http://10.0.0.5: the server wants a name and a password")

    def test_basic(self) -> None:
        """
        Over plain HTTP Basic is spoken only where that is allowed.
        """
        answer = self.client(username="root", password="secret").request("GET", "/")
        self.network.accept().answer(b"", b"401 Unauthorized", b'WWW-Authenticate: Basic realm="axis"')
        self.assertIn("over plain HTTP, which is not", str(self.failureResultOf(answer, AuthenticationFailed).value))
        answer = self.client(username="root", password="secret", basic_over_http=True).request("GET", "/")
        socket = self.network.accept()
        socket.answer(b"", b"401 Unauthorized", b'WWW-Authenticate: Basic realm="axis"')
        self.assertIn(b"Authorization: Basic cm9vdDpzZWNyZXQ=\r\n", socket.asked())
        socket.answer(b"image")
        self.assertEqual(self.successResultOf(answer).body, b"image")

    def test_post(self) -> None:
        """
        The body of a request is sent again with the answer.
        """
        answer = self.client(username="root", password="secret").request("POST", "/", body=b"{}")
        socket = self.network.accept()
        self.assertTrue(socket.asked().endswith(b"\r\n\r\n{}"))
        socket.answer(b"", b"401 Unauthorized", DIGEST % b"one")
        self.assertTrue(socket.asked().endswith(b"\r\n\r\n{}"))
        socket.answer(b"done")
        self.assertEqual(self.successResultOf(answer).body, b"done")

    def test_repr(self) -> None:
        """
        The password is not shown.
        """
        self.assertNotIn("secret", repr(vars(self.client(username="root", password="secret"))))


class ProbeTests(ClientTestCase):
    def test_good(self) -> None:
        """
        A probe is content with every status below 400, throws away the body, and waits for no turn.
        """
        client = self.client(max_requests=1, max_size=100_000)
        client.request("GET", "/").addErrback(lambda _: None)
        self.network.accept()
        for status in (b"200 OK", b"302 Found"):
            probe = client.probe("/alive")
            socket = self.network.accept() if self.network.attempts else self.network.sockets[-1]
            socket.answer(b"x" * 90_000, status)
            self.assertEqual(self.successResultOf(probe), int(status[:3]))
        self.assertEqual(len(self.network.sockets), 2)

    def test_bad(self) -> None:
        """
        It fails with a status from 400 on, and with one that is none.
        """
        for status in (404, 0, -5):
            probe = self.client().probe("/alive")
            self.network.accept().answer(b"", b"%d Not Found" % status)
            self.assertEqual(self.failureResultOf(probe, HttpStatus).value.status, status)

    def test_without_end(self) -> None:
        """
        A body without end does not keep it.
        """
        probe = self.client(max_size=10).probe("/alive")
        socket = self.network.accept()
        socket.say(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 11)
        self.assertEqual(self.successResultOf(probe), 200)
        self.assertEqual(socket.ended, "aborted by the client")


class StreamTests(ClientTestCase):
    def test_pieces(self) -> None:
        """
        The body is passed on as it arrives, without a limit of size or time but that of silence.
        """
        heads: list[Response] = []
        pieces: list[bytes] = []

        def begin(head: Response) -> Any:
            heads.append(head)
            return pieces.append

        client = self.client(max_size=10, timeout=2.0, silence_timeout=1.5)
        done = client.stream("/video", begin)
        socket = self.network.accept()
        socket.say(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace\r\n\r\n")
        for number in range(5):
            self.network.turn(1)
            socket.say(b"piece %d" % number)
        self.assertEqual(heads, [Response(200, "OK", {"content-type": "multipart/x-mixed-replace"})])
        self.assertEqual(pieces, [b"piece %d" % number for number in range(5)])
        self.assertNoResult(done)
        socket.close()
        self.network.turn()
        self.assertIsNone(self.successResultOf(done))

    def test_silence(self) -> None:
        """
        A stream that stops arriving is an error.
        """
        done = self.client(silence_timeout=1.0).stream("/video", lambda head: len)
        self.network.accept().say(b"HTTP/1.1 200 OK\r\n\r\n")
        self.network.turn(1)
        self.failureResultOf(done, EquipmentTimeout)

    def test_raised(self) -> None:
        """
        What the reader raises, at the head or at a piece, ends the stream.
        """
        nothing: dict[Any, Any] = {}
        begins: list[tuple[bytes, Any]] = [(b"", nothing.pop), (b"x", lambda head: nothing.pop)]
        for said, begin in begins:
            done = self.client().stream("/video", begin)
            socket = self.network.accept()
            socket.say(b"HTTP/1.1 200 OK\r\n\r\n" + said)
            self.failureResultOf(done, TypeError, KeyError)
            self.assertEqual(socket.ended, "aborted by the client")

    def test_cancelled_by_the_reader(self) -> None:
        """
        A reader may cancel the request, at the head or at a piece, whether it raises after that or not.
        """
        streams: list[Deferred[None]] = []
        nothing: dict[Any, Any] = {}

        def cancel(_: object) -> Any:
            streams[-1].cancel()
            return len

        def cancel_and_raise(_: object) -> Any:
            streams[-1].cancel()
            nothing.pop("x")

        for begin in (cancel, cancel_and_raise, lambda head: cancel, lambda head: cancel_and_raise):
            streams.append(self.client().stream("/video", begin))
            socket = self.network.accept()
            socket.say(b"HTTP/1.1 200 OK\r\n\r\nx")
            self.failureResultOf(streams[-1], CancelledError)
            self.assertEqual(socket.ended, "aborted by the client")
            self.network.turn()
            self.assertEqual(self.network.reactor.getDelayedCalls(), [])

    def test_status(self) -> None:
        """
        An error is none of the reader's.
        """
        done = self.client().stream("/video", lambda head: self.fail("called"))
        self.network.accept().answer(b"no", b"500 Oops")
        self.failureResultOf(done, HttpStatus)
