"""Tests of HTTP clients with sockets, against the servers of twisted.web and bare ones."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from twisted.web.guard import DigestCredentialFactory, HTTPAuthSessionWrapper
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer

from equipnet.connection.retry import RetryPolicy
from equipnet.connection.state import State
from equipnet.connection.tls import TLS
from equipnet.errors import AuthenticationFailed, ConnectFailed, ConnectionLost, Disconnected, EquipmentTimeout
from equipnet.http import HttpClient, HttpConnection
from tests.connection.certificates import Authority

reactor: Any = installed_reactor


class Pages(Resource):
    """Answers each request with its path; those for ``/held`` when the test says so."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Request] = []
        self.clients: list[int] = []
        self.arrived: Deferred[None] = Deferred()
        self.wanted = 0

    def hold(self, count: int) -> Deferred[None]:
        """Wait until so many requests are held."""
        self.wanted, self.arrived = count, Deferred()
        return self.arrived

    def render(self, request: Request) -> Any:
        self.clients.append(request.getClientAddress().port)
        if request.path != b"/held":
            body: Any = request.content
            return request.uri + b" " + body.read()
        request.notifyFinish().addErrback(lambda _: None)
        self.held.append(request)
        if len(self.held) == self.wanted:
            self.arrived.callback(None)
        return NOT_DONE_YET


@implementer(IRealm)
class Realm:
    def __init__(self, root: Resource) -> None:
        self._root = root

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        return IResource, self._root, lambda: None


class SocketTestCase(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.pages = Pages()

    def listen(self, factory: Any, port: int = 0) -> int:
        """Listen on loopback until the end of the test; give the port's number."""
        self.port: Any = reactor.listenTCP(port, factory, interface="127.0.0.1")
        self.addCleanup(lambda: self.port.stopListening())
        number: int = self.port.getHost().port
        return number

    def client(self, port: int, **options: Any) -> HttpClient:
        client = HttpClient(f"http://127.0.0.1:{port}", reactor=reactor, **options)
        self.addCleanup(client.close, Disconnected("the end"))
        return client

    def connection(self, port: int, **options: Any) -> HttpConnection:
        options = {"retry": RetryPolicy.fixed(0.01), **options}
        connection = HttpConnection(f"http://127.0.0.1:{port}", reactor=reactor, **options)
        self.addCleanup(connection.disconnect)
        return connection


class ClientTests(SocketTestCase):
    async def test_requests(self) -> None:
        """
        Requests one after the other go over one socket, with bodies of any size.
        """
        client = self.client(self.listen(Site(self.pages)))
        for size in (0, 1, 100_000, 3_000_000):
            response = await client.request("POST", f"/{size}?a=b", body=b"x" * size)
            self.assertEqual(response.body, b"/%d?a=b " % size + b"x" * size)
        self.assertEqual(len(set(self.pages.clients)), 1)

    async def test_at_once(self) -> None:
        """
        Twenty requests at once are at the server at once, and one that hangs holds up nobody.
        """
        client = self.client(self.listen(Site(self.pages)), max_requests=20)
        arrived = self.pages.hold(20)
        answers = [client.request("GET", "/held") for _ in range(20)]
        await arrived
        for number, request in enumerate(self.pages.held[1:]):
            request.write(b"%d" % number)
            request.finish()
        bodies = [(await answer).body for answer in answers[1:]]
        self.assertEqual(sorted(map(int, bodies)), list(range(19)))
        self.assertEqual((await client.request("GET", "/next")).body, b"/next ")
        answers[0].cancel()
        await answers[0].addErrback(lambda _: None)

    async def test_digest(self) -> None:
        """
        Twisted's server lets us in by Digest, with one answer of 401 for many requests, and keeps out others.
        """
        checker = InMemoryUsernamePasswordDatabaseDontUse(root=b"secret")
        guarded = HTTPAuthSessionWrapper(
            Portal(Realm(self.pages), [checker]), [DigestCredentialFactory(b"md5", b"AXIS")]
        )
        port = self.listen(Site(guarded))
        client = self.client(port, username="root", password="secret", max_requests=5)
        for _ in range(3):
            bodies = await gatherResults([client.request("GET", f"/{n}") for n in range(5)])
            self.assertEqual([response.body for response in bodies], [b"/%d " % n for n in range(5)])
        other = self.client(port, username="root", password="wrong")
        await self.assertFailure(other.request("GET", "/"), AuthenticationFailed)

    async def test_tls(self) -> None:
        """
        ``https`` takes the certificate of whom we trust, under the right name, and no other.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        authority, other = Authority(folder, "ca"), Authority(folder, "other")
        certificate, key = authority.issue("127.0.0.1")
        server = TLS(certificate=certificate, key=key).for_server()
        assert isinstance(server, CertificateOptions)
        self.port = reactor.listenSSL(0, Site(self.pages), server, interface="127.0.0.1")
        self.addCleanup(lambda: self.port.stopListening())
        url = f"https://127.0.0.1:{self.port.getHost().port}"
        for tls, good in (
            (TLS(authority.file), True),
            (TLS(other.file), False),
            (TLS(authority.file, host_name="axis6"), False),
        ):
            client = HttpClient(url, tls=tls, reactor=reactor)
            self.addCleanup(client.close, Disconnected("the end"))
            if good:
                self.assertEqual((await client.request("GET", "/a")).body, b"/a ")
            else:
                await self.assertFailure(client.request("GET", "/a"), ConnectFailed)

    async def test_tls_without_an_answer(self) -> None:
        """
        The time for a connection includes its TLS handshake; closed meanwhile, it leaves nothing behind.
        """
        url = f"https://127.0.0.1:{self.listen(Factory.forProtocol(Protocol))}"
        late = HttpClient(url, connect_timeout=0.05, reactor=reactor)
        self.addCleanup(late.close, Disconnected("the end"))
        error = await self.assertFailure(late.request("GET", "/"), EquipmentTimeout)
        self.assertIn("waiting for a connection to tls:127.0.0.1:", str(error))
        closed = HttpClient(url, reactor=reactor)
        answer = closed.request("GET", "/")
        await deferLater(reactor, 0.02)
        await closed.close(Disconnected("the end"))
        await self.assertFailure(answer, Disconnected)

    async def test_not_there(self) -> None:
        """
        A port where nobody listens, and a name that is none, are errors at once.
        """
        port = self.listen(Site(self.pages))
        await self.port.stopListening()
        await self.assertFailure(self.client(port).request("GET", "/"), ConnectFailed)
        client = HttpClient("http://nobody.invalid", reactor=reactor)
        await self.assertFailure(client.request("GET", "/"), ConnectFailed)

    async def test_reset(self) -> None:
        """
        A connection that is reset is an error with the system's reason.
        """

        class Reset(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")  # type: ignore[union-attr]
                handle: Any = self.transport.getHandle()  # type: ignore[union-attr]
                handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                reactor.callLater(0.05, self.transport.abortConnection)  # type: ignore[union-attr]

        client = self.client(self.listen(Factory.forProtocol(Reset)))
        error = await self.assertFailure(client.request("GET", "/"), ConnectionLost)
        self.assertIn("was lost: ", str(error))

    async def test_silent(self) -> None:
        """
        A server that says nothing is given up after its time.
        """
        client = self.client(self.listen(Factory.forProtocol(Protocol)), answer_timeout=0.05)
        await self.assertFailure(client.request("GET", "/"), EquipmentTimeout)

    async def test_idle(self) -> None:
        """
        A server that closes sockets which nobody uses gets the next request all the same.
        """
        client = self.client(self.listen(Site(self.pages, timeout=0.02)))
        for _ in range(5):
            responses = await gatherResults([client.request("GET", "/") for _ in range(3)])
            self.assertEqual([response.body for response in responses], [b"/ "] * 3)
            await deferLater(reactor, 0.02)


class ConnectionTests(SocketTestCase):
    async def test_life(self) -> None:
        """
        A connection is READY when the server answers, lost when it goes away, and READY again when it is back.
        """
        port = self.listen(Site(self.pages))
        connection = self.connection(port, probe_interval=0.02)
        states: list[State] = []
        waiting: Deferred[None] = Deferred()

        def observe(change: Any) -> None:
            states.append(change.new)
            if change.new is State.WAITING and not waiting.called:
                waiting.callback(None)

        connection.add_observer(observe)
        await connection.connect()
        self.assertEqual((await connection.request("GET", "/a")).body, b"/a ")
        await self.port.stopListening()
        for each in tuple(connection.client.pool.sockets):
            each.abortConnection()
        await waiting
        self.listen(Site(self.pages), port)
        await connection.when_ready()
        self.assertEqual((await connection.request("GET", "/b")).body, b"/b ")
        self.assertEqual(states[:4], [State.CONNECTING, State.CONNECTED, State.READY, State.WAITING])

    async def test_disconnect(self) -> None:
        """
        Disconnecting while requests are under way closes every socket, and fails the requests.
        """
        connection = self.connection(self.listen(Site(self.pages)))
        await connection.connect()
        arrived = self.pages.hold(3)
        answers = [connection.request("GET", "/held") for _ in range(3)]
        await arrived
        await connection.disconnect()
        for answer in answers:
            await self.assertFailure(answer, Disconnected)
        self.assertEqual(connection.client.pool.sockets, set())
        await connection.reconnect()
        self.assertEqual((await connection.request("GET", "/a")).body, b"/a ")
