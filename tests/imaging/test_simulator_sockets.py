"""A simulated camera and a simulated model over real sockets of this machine, and with real threads."""

from __future__ import annotations

import base64
import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from equipnet.connection.address import Address
from equipnet.connection.endpoint import client_endpoint
from equipnet.daemon.config import read_config, read_section
from equipnet.daemon.tree import Node
from equipnet.errors import Disconnected
from equipnet.http.client import HttpClient
from equipnet.imaging import JpegReceiver, ReceivedImage
from equipnet.imaging.mjpeg import PartReader
from equipnet.imaging.simulator import SimulatedAxis
from equipnet.prediction.simulator import SimulatedAutoML
from examples.howto.camera import turn

reactor: Any = installed

EXAMPLES = Path(turn.__file__).parent


class Reader(Protocol):
    """Asks for a stream, and reads it or not; ``ended`` fires when the connection is gone."""

    transport: Any

    def __init__(self, reads: bool) -> None:
        self._reads = reads
        self.ended: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        if not self._reads:
            self.transport.pauseProducing()
        self.transport.write(b"GET /axis-cgi/mjpg/video.cgi?fps=60&resolution=1280x1024&compression=0 HTTP/1.0\r\n\r\n")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(None)


class RotationTests(TestCase):
    async def client(self, port: Any, **settings: Any) -> HttpClient:
        """Give a client of a port, which is closed before it."""
        await port.connect()
        self.addCleanup(port.disconnect)
        client = HttpClient(f"http://127.0.0.1:{port.bound.port}", reactor=reactor, **settings)
        self.addCleanup(client.close, Disconnected("the test is over"))
        return client

    async def test_turn(self) -> None:
        """
        The images of one turn come in order at the angles that were set, and the model finds each loop within 3 pixels
        of the truth.
        """
        images: list[ReceivedImage] = []
        complete: Deferred[None] = Deferred()

        def received(image: ReceivedImage) -> None:
            images.append(image)
            if len(images) == 36:
                complete.callback(None)

        receiver: Any = JpegReceiver("tcp:0", reactor=reactor)
        receiver.observe_images(received)
        await self.client(receiver)
        camera = SimulatedAxis(
            seed=2, step=10, post_count=36, post_rate=200, post_to=f"http://127.0.0.1:{receiver.bound.port}/camera1",
            username="root", password="pass", reactor=reactor,
        )  # fmt: skip
        axis = await self.client(camera, username="root", password="pass")
        model = await self.client(SimulatedAutoML(reactor=reactor))
        await axis.request("GET", "/axis-cgi/io/port.cgi?action=1:/")
        await complete
        for number, image in enumerate(images):
            angle = float(image.headers["x-angle"])
            self.assertEqual((angle, image.path, image.headers["x-frame"]), (number * 10, "/camera1", str(number)))
            instance = {"image_bytes": {"b64": base64.b64encode(image.data).decode()}, "key": str(number)}
            body = json.dumps({"instances": [instance], "params": [{"max_bounding_box_count": "10"}]})
            answer = await model.request("POST", "/v1/models/default:predict", body=body.encode())
            (prediction,) = json.loads(answer.body)["predictions"]
            self.assertEqual(prediction["key"], str(number))
            for found, true, size in zip(
                prediction["detection_boxes"][0], camera.truth(angle).loop, (480, 704, 480, 704), strict=True
            ):
                self.assertLess(abs(found - true) * size, 3, angle)
        self.assertEqual((camera.failed, camera.dropped, len(images)), (0, 0, 36))

    async def test_stream(self) -> None:
        """
        A stream can be read as it comes, and ends with the camera.
        """
        camera = SimulatedAxis(username="root", password="pass", speed=360, reactor=reactor)
        axis = await self.client(camera, username="root", password="pass")
        parts: list[Any] = []
        enough: Deferred[None] = Deferred()

        def begin(response: Any) -> Any:
            reader = PartReader(response.headers["content-type"])

            def receive(data: bytes) -> None:
                had = len(parts)
                parts.extend(reader.feed(data))
                if had < 5 <= len(parts):
                    enough.callback(None)

            return receive

        streamed = axis.stream("/axis-cgi/mjpg/video.cgi?fps=30", begin)
        streamed.addErrback(lambda reason: reason.trap(ConnectionError))
        await enough
        self.assertTrue(all(part.body[:2] + part.body[-2:] == b"\xff\xd8\xff\xd9" for part in parts))
        await camera.disconnect()
        await streamed
        self.assertEqual(camera.protocols, set())

    async def test_client_that_does_not_read(self) -> None:
        """
        Frames for a client that does not read are left out, and do not hold up another one.
        """
        camera: Any = SimulatedAxis(reactor=reactor)
        axis = await self.client(camera)
        endpoint = client_endpoint(Address("tcp", "127.0.0.1", camera.bound.port), reactor)
        deaf = Reader(reads=False)
        await connectProtocol(endpoint, deaf)
        while not camera.skipped:
            await deferLater(reactor, 0.02)
        answer = await axis.request("GET", "/axis-cgi/jpg/image.cgi")
        self.assertEqual(answer.body[:2], b"\xff\xd8")
        await camera.disconnect()
        deaf.transport.resumeProducing()
        await deaf.ended


class ExampleTests(TestCase):
    async def test_turn(self) -> None:
        """
        The program of "Try a camera and a model without either" prints what the page shows.
        """
        printed = StringIO()
        with redirect_stdout(printed):
            await turn.main(reactor)
        self.assertEqual(printed.getvalue(), (EXAMPLES / "turn.txt").read_text())

    def test_files(self) -> None:
        """
        The configuration files of the page are right.
        """
        for config in (
            read_section(EXAMPLES / "camera.toml", "simulated-axis"),
            read_section(EXAMPLES / "model.toml", "simulated-automl"),
            read_config(EXAMPLES / "node.toml", environ={"CAMERA_PASSWORD": "pass"}),
        ):
            Node.from_config(config, reactor)
