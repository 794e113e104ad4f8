"""Tests of the JPEG receiver over real sockets of this machine, with cameras that block in threads."""

from __future__ import annotations

import json
import socket
from contextlib import redirect_stdout
from http.client import HTTPConnection
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from equipnet.daemon.config import installed_kinds, read_config
from equipnet.daemon.tree import Node
from equipnet.imaging import JpegReceiver, Retention
from equipnet.imaging.storage import INDEX
from examples.howto.images import receive
from tests.http.test_server import statuses
from tests.http.test_server_sockets import LIMIT, heard, with_client
from tests.imaging.test_jpeg import SMALL_JPEG, drawn

reactor: Any = installed

EXAMPLES = Path(receive.__file__).parent


class CameraTests(TestCase):
    async def started(self, **options: Any) -> JpegReceiver:
        receiver = JpegReceiver("tcp:0", reactor=reactor, **options)
        await receiver.connect()
        self.addCleanup(receiver.stopService)
        return receiver

    def post(self, receiver: JpegReceiver, *images: bytes, path: str = "/camera1") -> Deferred[list[int]]:
        """Post images over one connection, by Python's own client; gives the statuses."""
        address: Any = receiver.bound

        def run() -> list[int]:
            camera = HTTPConnection(address.host, address.port, timeout=LIMIT)
            found = []
            for image in images:
                camera.request("POST", path, image, {"Content-Type": "image/jpeg"})
                answer = camera.getresponse()
                answer.read()
                found.append(answer.status)
            camera.close()
            return found

        posted: Deferred[list[int]] = deferToThread(run)
        return posted

    async def test_many_cameras(self) -> None:
        """
        Images of several cameras at once all arrive, those of each camera in their order.
        """
        receiver = await self.started()
        seen: list[tuple[str, bytes]] = []
        receiver.observe_images(lambda image: seen.append((image.path, image.data)))
        images = [drawn("JPEG", (64 + number, 48)) for number in range(10)]
        posted = await gatherResults([self.post(receiver, *images, path=f"/{camera}") for camera in range(4)])
        self.assertEqual(posted, [[200] * 10] * 4)
        for camera in range(4):
            self.assertEqual([data for path, data in seen if path == f"/{camera}"], images)

    async def test_big_image(self) -> None:
        """
        An image of megabytes arrives whole.
        """
        receiver = await self.started()
        image = SMALL_JPEG[:-2] + bytes(5_000_000) + SMALL_JPEG[-2:]
        self.assertEqual(await self.post(receiver, image), [200])
        latest = receiver.latest("/camera1")
        assert latest is not None
        self.assertEqual(latest.data, image)

    async def test_slow_ones_delay_nobody(self) -> None:
        """
        Silent clients, and one in the middle of an image, delay no other camera.
        """
        receiver = await self.started(max_connections=60)
        address: Any = receiver.bound
        silent = [socket.create_connection((address.host, address.port)) for _ in range(50)]
        silent[0].sendall(b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\nabc")
        try:
            self.assertEqual(await self.post(receiver, *[SMALL_JPEG] * 20), [200] * 20)
        finally:
            for client in silent:
                client.close()

    async def test_consumer(self) -> None:
        """
        A slow consumer holds the cameras back; none of their images is lost.
        """
        receiver = await self.started()
        images = receiver.images(limit=2)
        posted = gatherResults([self.post(receiver, *[SMALL_JPEG] * 10) for _ in range(3)])
        seen = []
        async for image in images:
            await deferLater(reactor, 0.001)
            seen.append(image.sequence)
            if len(seen) == 30:
                break
        self.assertEqual((seen, await posted), ([*range(1, 31)], [[200] * 10] * 3))

    async def test_ends_at_stop(self) -> None:
        """
        When it is stopped a camera that waits is answered, and a subscription ends.
        """
        receiver = await self.started()
        images = receiver.images(limit=1)
        posted = self.post(receiver, SMALL_JPEG, SMALL_JPEG)
        while not receiver._waiting_images:
            await deferLater(reactor, 0.01)
        await receiver.stopService()
        self.assertEqual(await posted, [200, 503])
        self.assertEqual([image.sequence async for image in images], [1])

    async def test_half_close(self) -> None:
        """
        A camera that ends its side behind two images gets both answers.
        """
        receiver = await self.started()

        def talk(camera: socket.socket) -> bytes:
            request = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(SMALL_JPEG) + SMALL_JPEG
            camera.sendall(request * 2)
            camera.shutdown(socket.SHUT_WR)
            return heard(camera)

        self.assertEqual((statuses(await with_client(receiver, talk)), receiver.received), ([200, 200], 2))

    async def test_store(self) -> None:
        """
        Images are stored by threads, and are all there when it has been stopped.
        """
        root = Path(self.mktemp())
        receiver = await self.started(store=root, retention=Retention(max_files=5))
        self.assertEqual(await self.post(receiver, *[SMALL_JPEG] * 20), [200] * 20)
        await receiver.stopService()
        files = sorted(root.glob("camera1/*/*.jpg"))
        self.assertEqual(
            [file.name.rpartition("-")[2] for file in files], [f"{number}.jpg" for number in range(16, 21)]
        )
        self.assertEqual({file.read_bytes() for file in files}, {SMALL_JPEG})
        lines = [
            json.loads(line) for index in root.glob(f"camera1/*/{INDEX}") for line in index.read_text().splitlines()
        ]
        self.assertEqual([line["sequence"] for line in lines][-5:], [16, 17, 18, 19, 20])
        self.assertIsNone(receiver.last_error)


class ExampleTests(TestCase):
    async def test_program(self) -> None:
        """
        The program of "Receive images that cameras post" prints what the page shows.
        """
        printed = StringIO()
        with redirect_stdout(printed):
            await receive.main(reactor)
        self.assertEqual(printed.getvalue(), (EXAMPLES / "receive.txt").read_text())

    def test_configuration(self) -> None:
        """
        Its configuration file is right.
        """
        node = Node.from_config(read_config(EXAMPLES / "node.toml", installed_kinds(), {}), MemoryReactorClock())
        self.assertEqual([str(each.peer) for each in node.connections.values()], ["tcp:0.0.0.0:9000"])
