"""Tests of the HTTP port over real sockets of this machine, with clients that block in threads."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource

from equipnet.connection.tls import TLS
from equipnet.http import channel
from equipnet.http.channel import Incoming
from equipnet.http.message import Answer
from equipnet.http.server import HttpPort
from tests.connection.certificates import Authority
from tests.http.test_server import statuses

reactor: Any = installed

#: Seconds that a client waits; only a broken server needs them.
LIMIT = 20.0


class Counted(Incoming):
    """A request that is answered with the number of its bytes."""

    def serve(self) -> None:
        self.answer(Answer(200, f"{len(self.body)} bytes"))


class CountingPort(HttpPort):
    request_class = Counted


def heard(client: socket.socket) -> bytes:
    """Give everything that is said until the end; a reset raises."""
    data = b""
    while piece := client.recv(65536):
        data += piece
    return data


def with_client(port: HttpPort, talk: Callable[[socket.socket], Any]) -> Any:
    """Let a client talk, in a thread."""
    address: Any = port.bound

    def run() -> Any:
        with socket.create_connection((address.host, address.port), timeout=LIMIT) as client:
            return talk(client)

    return deferToThread(run)


class SocketCase(TestCase):
    async def started(self, listen: str = "tcp:0", **options: Any) -> CountingPort:
        port = CountingPort(listen, Resource(), reactor=reactor, **options)
        await port.connect()
        self.addCleanup(port.disconnect)
        return port

    async def all_gone(self, port: HttpPort) -> None:
        """Wait until no client is left."""
        while port.protocols:
            await deferLater(reactor, 0.01)


class RefusalTests(SocketCase):
    async def test_big_body(self) -> None:
        """
        A client that sends 256 MiB before it reads anything reads why they were refused, and sees no reset before.
        """
        port = await self.started()

        def talk(client: socket.socket) -> bytes:
            client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 268435456\r\n\r\n")
            piece = bytes(2**20)
            for _ in range(256):
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
            return heard(client)

        answer = await with_client(port, talk)
        self.assertEqual(statuses(answer), [413])
        await self.all_gone(port)

    async def test_header(self) -> None:
        """
        So does one that sends a header of 70 KB and more behind it.
        """
        port = await self.started()

        def talk(client: socket.socket) -> bytes:
            client.sendall(b"POST / HTTP/1.1\r\nX: " + bytes(b"a" * 70_000) + b"\r\n\r\n" + bytes(1_000_000))
            client.shutdown(socket.SHUT_WR)
            return heard(client)

        self.assertEqual(statuses(await with_client(port, talk)), [431])
        await self.all_gone(port)

    async def test_cut(self) -> None:
        """
        One that ends its side in the middle reads how far it came.
        """
        port = await self.started()

        def talk(client: socket.socket) -> bytes:
            client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc")
            client.shutdown(socket.SHUT_WR)
            return heard(client)

        answer = await with_client(port, talk)
        self.assertEqual(statuses(answer), [400])
        self.assertTrue(answer.endswith(b"\r\n\r\nthe request ended early, after 3 of 100 bytes of the body\n"), answer)
        await self.all_gone(port)

    async def test_silent(self) -> None:
        """
        One that falls silent reads that too, and is rid of at the latest when it does not go either.
        """
        port = await self.started(idle_timeout=0.05)

        def talk(client: socket.socket) -> bytes:
            client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc")
            return heard(client)

        self.assertEqual(statuses(await with_client(port, talk)), [408])
        await self.all_gone(port)


class PressureTests(SocketCase):
    async def test_answers_are_not_read(self) -> None:
        """
        A client that sends requests and never reads is not read for ever, and is let go; others are served meanwhile.
        """
        self.patch(channel, "LINGER_TIME", 0.2)
        port = await self.started(idle_timeout=0.3)

        def flood(client: socket.socket) -> int:
            sent = 0
            try:
                while True:
                    sent += client.send(b"GET / HTTP/1.1\r\n\r\n" * 10_000)
            except ConnectionError:
                return sent

        def ask(client: socket.socket) -> bytes:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return heard(client)

        flooding = with_client(port, flood)
        self.assertEqual(statuses(await with_client(port, ask)), [200])
        self.assertGreater(await flooding, 0)
        await self.all_gone(port)

    async def test_pipelined(self) -> None:
        """
        One that sends thousands of requests before it reads gets an answer for each.
        """
        port = await self.started()

        def talk(client: socket.socket) -> bytes:
            client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\na" * 2000)
            client.shutdown(socket.SHUT_WR)
            return heard(client)

        self.assertEqual(statuses(await with_client(port, talk)), [200] * 2000)
        await self.all_gone(port)


class EndTests(SocketCase):
    async def test_reset(self) -> None:
        """
        One that resets the connection in the middle of a request is gone, without an error.
        """
        port = await self.started()

        def talk(client: socket.socket) -> None:
            client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        await with_client(port, talk)
        await self.all_gone(port)

    async def test_more_than_announced(self) -> None:
        """
        One whose body is longer than it says still reads its answer.
        """
        port = await self.started()

        def talk(client: socket.socket) -> bytes:
            client.sendall(b"POST / HTTP/1.1\r\nConnection: close\r\nContent-Length: 3\r\n\r\n" + bytes(1_000_000))
            client.shutdown(socket.SHUT_WR)
            return heard(client)

        self.assertEqual(statuses(await with_client(port, talk)), [200])
        await self.all_gone(port)


class OtherTransportTests(SocketCase):
    async def test_tls(self) -> None:
        """
        Over TLS it is the same: requests, pipelined ones, refusals that are read, and clients that do not go.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        authority = Authority(folder, "ca")
        certificate, key = authority.issue("localhost")
        port = await self.started("tls:0", tls=TLS(certificate=certificate, key=key), idle_timeout=0.5)
        context = ssl.create_default_context(cafile=str(authority.file))

        def secured(talk: Callable[[socket.socket], Any]) -> Any:
            def run(client: socket.socket) -> Any:
                with context.wrap_socket(client, server_hostname="localhost", suppress_ragged_eofs=False) as secure:
                    return talk(secure)

            return with_client(port, run)

        def close(client: socket.socket) -> bytes:
            client.sendall(b"GET / HTTP/1.1\r\n\r\nPOST / HTTP/1.0\r\nContent-Length: 500000\r\n\r\n" + bytes(500_000))
            return heard(client)

        def big(client: socket.socket) -> bytes:
            client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 50000000\r\n\r\n" + bytes(1_000_000))
            return heard(client)

        def stay(client: socket.socket) -> bytes:
            return heard(client)

        self.assertEqual(statuses(await secured(close)), [200, 200])
        self.assertEqual(statuses(await secured(big)), [413])
        self.assertEqual(await secured(stay), b"")
        await self.all_gone(port)

    async def test_unix(self) -> None:
        """
        So it is over a UNIX socket.
        """
        # The name of a socket has no more than a hundred bytes or so.
        folder = mkdtemp()
        self.addCleanup(rmtree, folder)
        path = Path(folder, "web")
        port = await self.started(f"unix:{path}", allowed=("10.0.0.0/8",))

        def talk() -> bytes:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(LIMIT)
                client.connect(str(path))
                client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcrubbish\r\n\r\n")
                return heard(client)

        self.assertEqual(statuses(await deferToThread(talk)), [200, 400])
        await self.all_gone(port)
