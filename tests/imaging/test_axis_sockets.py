"""Tests of the Axis camera with sockets, against a server of twisted.web."""

from __future__ import annotations

import contextlib
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase
from twisted.web.guard import DigestCredentialFactory, HTTPAuthSessionWrapper
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer

from equipnet.errors import Disconnected
from equipnet.imaging import AxisCamera
from equipnet.imaging.mjpeg import CONTENT_TYPE, write_part
from examples.howto.camera import look

from .test_axis import JPEG

reactor: Any = installed_reactor


@implementer(IRealm)
class Camera(Resource):
    """Gives an image, and streams as fast as they are read."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.streams = 0
        self.left: Deferred[None] = Deferred()

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        return IResource, self, lambda: None

    def render_GET(self, request: Request) -> Any:
        if request.path == b"/axis-cgi/jpg/image.cgi":
            request.setHeader(b"content-type", b"image/jpeg")
            return JPEG + bytes(2000)
        self.streams += 1
        request.setHeader(b"content-type", CONTENT_TYPE.encode())
        request.notifyFinish().addErrback(self._left)
        request.registerProducer(Producer(request), False)
        return NOT_DONE_YET

    def _left(self, reason: Any) -> None:
        self.streams -= 1
        left, self.left = self.left, Deferred()
        left.callback(None)


class Producer:
    """Writes one part whenever the client has read the last one; every third is cut."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._count = 0

    def resumeProducing(self) -> None:
        self._count += 1
        self._request.write(write_part(JPEG if self._count % 3 else JPEG[:-1]))

    def stopProducing(self) -> None:
        """Nothing: it is not asked again."""


class CameraTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.server = Camera()
        checker = InMemoryUsernamePasswordDatabaseDontUse(root=b"secret")
        guarded = HTTPAuthSessionWrapper(Portal(self.server, [checker]), [DigestCredentialFactory(b"md5", b"AXIS")])
        self.port = reactor.listenTCP(0, Site(guarded), interface="127.0.0.1")
        self.camera = AxisCamera(
            f"http://127.0.0.1:{self.port.getHost().port}", username="root", password="secret", reactor=reactor
        )
        self.addCleanup(self.port.stopListening)
        self.addCleanup(self.camera.disconnect)

    async def test_images(self) -> None:
        """
        Images are taken at once, by Digest.
        """
        await self.camera.connect()
        images = await gatherResults([self.camera.image() for _ in range(20)])
        self.assertEqual({(image.width, image.height) for image in images}, {(3, 2)})

    async def test_stream(self) -> None:
        """
        A loop over a stream gets every whole image in order; when it is left the camera sees that.
        """
        await self.camera.connect()
        left = self.server.left
        numbers = []
        frames = self.camera.stream(limit=10_000)
        async for frame in frames:
            numbers.append(frame.sequence)
            if len(numbers) == 200:
                break
        self.assertEqual(numbers, list(range(1, 201)))
        self.assertGreaterEqual(frames.rejected, 99)
        del frames
        await left
        self.assertEqual(self.server.streams, 0)

    async def test_disconnect(self) -> None:
        """
        Disconnecting ends the loops over all streams, and closes their sockets.
        """
        await self.camera.connect()
        begun: list[Deferred[None]] = [Deferred(), Deferred()]

        async def loop(number: int) -> int:
            count = 0
            async for _ in self.camera.stream():
                count += 1
                if count == 1:
                    begun[number].callback(None)
            return count

        loops = [Deferred.fromCoroutine(loop(number)) for number in range(2)]
        await gatherResults(begun)
        image = self.camera.image()
        await self.camera.disconnect()
        for each in loops:
            self.assertGreaterEqual(await each, 1)
        await self.assertFailure(image, Disconnected)
        self.assertEqual(self.camera.client.pool.sockets, set())


class ExampleTests(TestCase):
    timeout = 30

    async def test_look(self) -> None:
        """
        The program of "Take images of an Axis camera" prints what the page shows.
        """
        printed = StringIO()
        with contextlib.redirect_stdout(printed):
            await look.main(reactor)
        self.assertEqual(printed.getvalue(), Path(look.__file__).with_suffix(".txt").read_text())
