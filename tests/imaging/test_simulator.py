"""
Tests for `equipnet.imaging.simulator`. The requests are those of the VAPIX documents of Axis, as pydhsfw sends them.
"""

from __future__ import annotations

import re
from hashlib import md5, sha256
from io import BytesIO
from itertools import product
from typing import Any

from PIL import Image
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from equipnet.errors import NotConnected
from equipnet.http.exchange import Request, Response
from equipnet.imaging.drawing import LoopDrawing
from equipnet.imaging.mjpeg import write_part
from equipnet.imaging.simulator import POST_LIMIT, AxisFault, SimulatedAxis

from ..http.doubles import Network, Socket
from .doubles import Client, ThreadlessReactor, parts_of

IMAGE = b"/axis-cgi/jpg/image.cgi"
VIDEO = b"/axis-cgi/mjpg/video.cgi"
PORT = b"/axis-cgi/io/port.cgi"


class CameraTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = Network()
        self.clock = self.network.reactor = ThreadlessReactor()

    def camera(self, **settings: Any) -> SimulatedAxis:
        """Give a camera that is on."""
        camera = SimulatedAxis(reactor=self.clock, **settings)
        self.successResultOf(camera.connect())
        return camera

    def client(self, **settings: Any) -> Client:
        """Give a client of a new camera."""
        return Client(self.camera(**settings))


class ImageTests(CameraTestCase):
    def test_image(self) -> None:
        """
        An image is a JPEG of the usual size, at the angle that its header tells.
        """
        camera = self.camera(seed=3)
        camera.angle = 30
        status, head, body = Client(camera).get(IMAGE + b"?camera=1")
        self.assertEqual((status, body), (200, LoopDrawing(3).draw(30).encode()))
        self.assertIn(b"\r\ncontent-type: image/jpeg\r\n", head.lower())
        self.assertIn(b"\r\ncontent-length: %d\r\n" % len(body), head.lower())
        self.assertIn(b"\r\nx-angle: 30.000", head.lower())

    def test_parameters(self) -> None:
        """
        Resolution and compression are as asked for, and what the camera does not know is ignored.
        """
        client = self.client()
        body = client.get(IMAGE + b"?resolution=640x512&compression=90&dummy=17")[2]
        self.assertEqual(body, LoopDrawing(0, (640, 512)).draw(0).encode(90))
        self.assertEqual(Image.open(BytesIO(body)).size, (640, 512))

    def test_wrong_parameters(self) -> None:
        """
        A wrong value is refused with a line that says which it is, and the connection is kept.
        """
        client = self.client()
        for target, said in (
            (IMAGE + b"?camera=2", "there is no camera '2', only 1"),
            (IMAGE + b"?camera=%0a", r"there is no camera '\n', only 1"),
            (IMAGE + b"?resolution=big", "resolution is 'big', not of the form 704x480"),
            (IMAGE + b"?resolution=2000x480", "the size is 2000x480, not from 160x120 to 1280x1024 pixels"),
            (IMAGE + b"?compression=101", "the compression is 101, not from 0 to 100"),
            (IMAGE + b"?compression=-1", "compression is '-1', not a number"),
            (VIDEO + b"?fps=fast", "fps is 'fast', not a number"),
            (PORT + b"?action=2:/", "action=1:/ opens the trigger"),
            (PORT, "action=1:/ opens the trigger"),
        ):
            status, _, body = client.get(target)
            self.assertEqual((status, body.count(b"\n")), (400, 1))
            self.assertIn(said, body.decode())

    def test_elsewhere(self) -> None:
        """
        There is nothing else, and nothing to be posted.
        """
        client = self.client()
        self.assertEqual(client.get(b"/")[0], 404)
        post = client.ask(b"POST " + IMAGE + b" HTTP/1.1\r\nHost: axis\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(parts_of(post)[0], 405)
        self.assertIn(b"Allow: GET", post)

    def test_head(self) -> None:
        """
        HEAD is answered with the head alone.
        """
        answer = self.client().ask(b"HEAD " + IMAGE + b" HTTP/1.1\r\nHost: axis\r\n\r\n")
        self.assertEqual((parts_of(answer)[0], parts_of(answer)[2]), (200, b""))

    def test_wrong_settings(self) -> None:
        """
        A camera that makes no sense is not made.
        """
        for settings in (
            {"resolution": (10, 10)}, {"compression": 101}, {"speed": 1.0, "step": 1.0}, {"post_rate": 0},
            {"step": 1.0, "angle_of": lambda: 0.0}, {"post_count": 0}, {"post_limit": 0},
            {"username": "root"}, {"speed": float("nan")},
            {"post_to": "9000"}, {"username": "root", "password": "pass", "algorithms": ("MD4",)},
        ):  # fmt: skip
            self.assertRaises(ValueError, SimulatedAxis, reactor=self.clock, **settings)


class LoginTests(CameraTestCase):
    def digest(self, head: bytes, algorithm: str, password: str = "pass") -> bytes:
        """Answer a challenge as RFC 7616, 3.4.1 has it."""
        make = {"MD5": md5, "SHA-256": sha256}[algorithm]
        challenge = re.search(rf'Digest realm="([^"]+)", algorithm={algorithm}, nonce="([^"]+)"'.encode(), head)
        assert challenge is not None
        realm, nonce = challenge[1].decode(), challenge[2].decode()

        def hashed(*parts: str) -> str:
            return make(":".join(parts).encode()).hexdigest()

        uri = IMAGE.decode()
        response = hashed(
            hashed("root", realm, password), nonce, "00000001", "0a4f113b", "auth", hashed("GET", uri)
        )  # fmt: skip
        return (
            f'Authorization: Digest username="root", realm="{realm}", uri="{uri}", algorithm={algorithm}, '
            f'nonce="{nonce}", nc=00000001, cnonce="0a4f113b", qop=auth, response="{response}"'
        ).encode()

    def test_digest(self) -> None:
        """
        Who does not say who he is is asked; MD5 and SHA-256 are good, a wrong password is not.
        """
        client = self.client(username="root", password="pass")
        for algorithm, password, outcome in (("MD5", "pass", 200), ("SHA-256", "pass", 200), ("MD5", "wrong", 401)):
            status, head, body = client.get(IMAGE)
            self.assertEqual((status, body), (401, b"a name and a password are needed\n"))
            self.assertEqual(head.count(b"\r\nWWW-Authenticate: Digest "), 2)
            self.assertEqual(client.get(IMAGE, self.digest(head, algorithm, password))[0], outcome)

    def test_everywhere(self) -> None:
        """
        The stream and the trigger are guarded as well.
        """
        client = self.client(username="root", password="pass")
        for target in (VIDEO, PORT + b"?action=1:/"):
            self.assertEqual(client.get(target)[0], 401)

    def test_basic(self) -> None:
        """
        So it goes with Basic, where the camera is set so.
        """
        client = self.client(username="root", password="pass", algorithms=("Basic",))
        status, head, _ = client.get(IMAGE)
        self.assertEqual(status, 401)
        self.assertIn(b'\r\nWWW-Authenticate: Basic realm="AXIS_000000000000"', head)
        # root:pass
        self.assertEqual(client.get(IMAGE, b"Authorization: Basic cm9vdDpwYXNz")[0], 200)


class StreamTests(CameraTestCase):
    def start(self, camera: SimulatedAxis, query: bytes = b"?fps=10") -> Client:
        """Ask for a stream over HTTP/1.0, whose bytes stand as they are."""
        client = Client(camera)
        client.server.dataReceived(b"GET " + VIDEO + query + b" HTTP/1.0\r\n\r\n")
        return client

    def test_parts(self) -> None:
        """
        The images come as often as asked, each a part with its length.
        """
        camera = self.camera(angle_of=lambda: self.clock.seconds() * 100)
        client = self.start(camera)
        self.clock.pump([0.1] * 2)
        head, _, body = client.said().partition(b"\r\n\r\n")
        self.assertIn(b"content-type: multipart/x-mixed-replace; boundary=myboundary", head.lower())
        expected = b""
        for angle in (0, 10, 20):
            jpeg = LoopDrawing().draw(angle).encode()
            expected += (
                b"--myboundary\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\nX-Angle: %d.000\r\n\r\n%s\r\n"
                % (len(jpeg), angle, jpeg)
            )
        self.assertEqual(body, expected)

    def test_taps(self) -> None:
        """
        Taps see what a stream is asked with, and each of its parts.
        """
        camera = self.camera()
        seen: list[tuple[str, bytes, object]] = []
        camera.add_tap(lambda traffic: seen.append((traffic.direction, traffic.raw, traffic.value)))
        self.start(camera)
        self.clock.advance(0.1)
        part = write_part(LoopDrawing().draw(0).encode(), headers={"X-Angle": "0.000"})
        asked = Request("GET", "/axis-cgi/mjpg/video.cgi?fps=10")
        self.assertEqual(seen, [("in", b"", asked), ("out", part, 200), ("out", part, 200)])

    def test_slow_client(self) -> None:
        """
        A client that does not take what is there gets no more until it does; what it missed is counted.
        """
        camera = self.camera()
        client = self.start(camera)
        client.said()
        client.producer.pauseProducing()
        self.clock.pump([0.1] * 5)
        self.assertEqual((client.said(), camera.skipped), (b"", 5))
        client.producer.resumeProducing()
        self.clock.advance(0.1)
        self.assertEqual(client.said().count(b"--myboundary"), 1)

    def test_gone(self) -> None:
        """
        A stream ends with its client, and with the camera; nothing is left over.
        """
        camera = self.camera()
        client, other = self.start(camera), self.start(camera)
        client.server.connectionLost()
        self.clock.advance(0.1)
        self.assertEqual(client.said().count(b"--myboundary"), 1)
        closed = camera.disconnect()
        other.server.connectionLost()
        self.successResultOf(closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class TriggerTests(CameraTestCase):
    def posts(self, socket: Socket, count: int) -> list[tuple[bytes, bytes, bytes]]:
        """Answer so many posts; gives the request line, the angle, and the body of each."""
        found = []
        for _ in range(count):
            head, _, body = socket.asked().partition(b"\r\n\r\n")
            angle = re.search(rb"\r\nX-Angle: ([0-9.]+)", head, re.IGNORECASE)
            assert angle is not None, head
            found.append((head.partition(b"\r\n")[0], angle[1], body))
            socket.answer()
        return found

    def test_posts(self) -> None:
        """
        While the trigger is open, images are posted over one connection, as many and in such steps as was set.
        """
        camera = self.camera(post_to="http://10.0.0.5/camera1", post_rate=10, post_count=3, step=120, start_angle=5)
        camera.open_trigger()
        socket = self.network.accept()
        posts = self.posts(socket, 1)
        for _ in range(2):
            self.clock.advance(0.1)
            posts += self.posts(socket, 1)
        self.clock.pump([0.1] * 3)
        self.assertEqual([post[:2] for post in posts], [
            (b"POST /camera1 HTTP/1.1", b"5.000"),
            (b"POST /camera1 HTTP/1.1", b"125.000"),
            (b"POST /camera1 HTTP/1.1", b"245.000"),
        ])  # fmt: skip
        self.assertEqual(posts[2][2], LoopDrawing().draw(245).encode())
        self.assertEqual((socket.asked(), self.network.attempts), (b"", 0))
        self.assertEqual((camera.posted, camera.failed, camera.dropped), (3, 0, 0))
        self.assertTrue(camera.is_triggered)

    def test_taps(self) -> None:
        """
        Taps see each post, and its answer.
        """
        camera = self.camera(post_to="http://10.0.0.5/camera1", post_count=1)
        seen: list[tuple[str, bytes, object]] = []
        camera.add_tap(lambda traffic: seen.append((traffic.direction, traffic.raw, traffic.value)))
        camera.open_trigger()
        self.network.accept().answer(b"got it\n")
        (post, (direction, body, answer)) = seen
        self.assertEqual(post, ("out", LoopDrawing().draw(0).encode(), Request("POST", "/camera1")))
        assert isinstance(answer, Response)
        self.assertEqual((direction, body, answer.status), ("in", b"got it\n", 200))

    def test_closed(self) -> None:
        """
        When it closes there are no more images, and when it opens again they begin at the first angle.
        """
        camera = self.camera(post_to="http://10.0.0.5", post_rate=10, speed=90)
        camera.open_trigger()
        camera.open_trigger()
        socket = self.network.accept()
        self.posts(socket, 1)
        self.clock.advance(0.1)
        self.assertEqual(self.posts(socket, 1)[0][1], b"9.000")
        self.clock.advance(0.05)
        camera.close_trigger()
        camera.close_trigger()
        self.assertAlmostEqual(camera.angle, 13.5)
        self.clock.pump([0.1] * 10)
        self.assertEqual((socket.asked(), camera.posted), (b"", 2))
        camera.open_trigger()
        self.assertEqual(self.posts(socket, 1)[0][1], b"0.000")

    def test_angle(self) -> None:
        """
        The angle that is set is where the next turn begins; one that comes from elsewhere cannot be set.
        """
        camera = self.camera(speed=10)
        camera.angle = 30
        camera.open_trigger()
        self.clock.advance(2)
        self.assertAlmostEqual(camera.angle, 50)
        camera.angle = 100
        self.clock.advance(1)
        self.assertAlmostEqual(camera.angle, 110)
        self.assertRaises(ValueError, setattr, camera, "angle", float("inf"))
        driven = self.camera(angle_of=lambda: 77)
        self.assertEqual(driven.angle, 77)
        self.assertRaises(ValueError, setattr, driven, "angle", 1)

    def test_truth(self) -> None:
        """
        The truth is that of the pictures, whatever their size.
        """
        camera = self.camera(seed=4)
        self.assertEqual(camera.truth(30), LoopDrawing(4).draw(30).truth)
        self.assertEqual(camera.truth(30, (640, 512)), LoopDrawing(4, (640, 512)).draw(30).truth)
        self.assertEqual(self.successResultOf(camera.image(30, compression=5)), LoopDrawing(4).draw(30).encode(5))

    def test_over_http(self) -> None:
        """
        Another program can open and close the trigger, and ask for it.
        """
        camera = self.camera()
        client = Client(camera)
        for query, answer, is_triggered in (
            (b"?checkactive=1", b"port1=inactive\n", False),
            (b"?action=1:/", b"OK\n", True),
            (b"?checkactive=1", b"port1=active\n", True),
            (b"?action=1%3A%5C", b"OK\n", False),
            (b"?action=1:%2f", b"OK\n", True),
            (b"?action=1:\\", b"OK\n", False),
        ):
            self.assertEqual(client.get(PORT + query)[::2], (200, answer))
            self.assertEqual(camera.is_triggered, is_triggered)

    def test_off(self) -> None:
        """
        A camera that is off takes no images, and one that is switched off closes its trigger.
        """
        camera = SimulatedAxis(reactor=self.clock, post_to="http://10.0.0.5")
        self.assertRaises(NotConnected, camera.open_trigger)
        self.successResultOf(camera.connect())
        camera.open_trigger()
        socket = self.network.accept()
        closed = camera.disconnect()
        self.clock.advance(0)
        self.successResultOf(closed)
        self.assertEqual(socket.ended, "aborted by the client")
        self.assertFalse(camera.is_triggered)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ReceiverTests(CameraTestCase):
    def test_slow(self) -> None:
        """
        What a slow receiver does not take is dropped and counted, and not kept.
        """
        camera = self.camera(post_to="http://10.0.0.5", post_rate=100, post_timeout=60)
        camera.open_trigger()
        socket = self.network.accept()
        self.clock.pump([0.01] * 50)
        self.assertEqual((camera.posted, camera.dropped), (0, 50 - POST_LIMIT))
        camera.close_trigger()
        for _ in range(1 + POST_LIMIT):
            socket.answer()
        self.assertEqual((camera.posted, camera.failed), (1 + POST_LIMIT, 0))

    def test_late_reactor(self) -> None:
        """
        No image of a turn is left out when the camera comes to it late, not even the last one before it closes.
        """
        camera = self.camera(post_to="http://10.0.0.5/camera1", post_rate=10, post_count=5, step=10)
        camera.open_trigger()
        self.clock.rightNow += 0.3  # busy with something else
        camera.close_trigger()
        self.assertEqual([frame for frame, _ in camera._pending], [1, 2, 3])  # 0 is being posted
        self.assertFalse(camera.is_triggered)

    def test_slow_turn(self) -> None:
        """
        Of a turn with a number of images none is dropped, unless that was asked for.
        """
        for settings, dropped in (({}, 0), ({"post_limit": 3}, 16)):
            camera = self.camera(post_to="http://10.0.0.5", post_rate=100, post_count=20, post_timeout=60, **settings)
            camera.open_trigger()
            socket = self.network.accept()
            self.clock.pump([0.01] * 50)
            for _ in range(20 - dropped):
                socket.answer()
            self.assertEqual((camera.posted, camera.dropped), (20 - dropped, dropped))

    def test_away(self) -> None:
        """
        A receiver that is away costs a line in the log, and no more when it comes back.
        """
        events = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)  # type: ignore[arg-type]
        camera = self.camera(post_to="http://10.0.0.5", post_rate=10)
        camera.open_trigger()
        self.network.refuse()
        for _ in range(2):
            self.clock.advance(0.1)
            self.network.refuse()
        self.assertEqual((camera.posted, camera.failed), (0, 3))
        self.clock.advance(0.1)
        self.network.accept().answer()
        self.assertEqual((camera.posted, camera.failed), (1, 3))
        about = [event["log_format"] for event in events if "taken" in event.get("log_format", "")]
        self.assertEqual(about, ["{name}: an image is not taken: {error}", "{name}: images are taken again"])

    def test_refuses(self) -> None:
        """
        An image that is refused has failed.
        """
        camera = self.camera(post_to="http://10.0.0.5", post_rate=10)
        camera.open_trigger()
        self.network.accept().answer(b"full\n", b"503 Service Unavailable")
        self.assertEqual((camera.posted, camera.failed), (0, 1))

    def test_angle_raises(self) -> None:
        """
        An angle that cannot be had ends the posts with a line in the log, and nothing else.
        """
        camera = self.camera(post_to="http://10.0.0.5", angle_of=lambda: 1 / 0)
        camera.open_trigger()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(Client(camera).get(IMAGE)[0], 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        camera.close_trigger()


class FaultTests(CameraTestCase):
    def test_image(self) -> None:
        """
        An image can be refused, be no image, or come short, as often as was said; then all is well.
        """
        camera = self.camera()
        client = Client(camera)
        jpeg = LoopDrawing().draw(0).encode()
        camera.inject(AxisFault(status=500), 1)
        camera.inject(AxisFault(html=True), 1)
        camera.inject(AxisFault(truncate=True, on="image"), 1)
        camera.inject(AxisFault(status=503, on="stream"))
        self.assertEqual(client.get(IMAGE)[::2], (500, b"it is simulated so\n"))
        _, head, body = client.get(IMAGE)
        self.assertIn(b"content-type: text/html\r\n", head.lower())
        self.assertTrue(body.startswith(b"<html>"))
        self.assertEqual(client.get(IMAGE)[2], jpeg[: len(jpeg) // 2])
        self.assertEqual(client.get(IMAGE)[2], jpeg)

    def test_delay(self) -> None:
        """
        An image can be late.
        """
        camera = self.camera(fault=AxisFault(delay=2))
        client = Client(camera)
        self.assertEqual(client.ask(b"GET " + IMAGE + b" HTTP/1.1\r\nHost: axis\r\n\r\n"), b"")
        self.clock.advance(2)
        self.assertEqual(parts_of(client.said())[0], 200)

    def test_delay_gone(self) -> None:
        """
        Nothing happens to a client that does not wait for it.
        """
        client = Client(self.camera(fault=AxisFault(delay=2)))
        client.ask(b"GET " + IMAGE + b" HTTP/1.1\r\nHost: axis\r\n\r\n")
        client.server.connectionLost()
        self.clock.advance(2)
        self.assertEqual(client.said(), b"")

    def test_never_right(self) -> None:
        """
        With 401 no name and password is good enough, whether the camera has one or not.
        """
        for settings in ({}, {"username": "root", "password": "pass", "algorithms": ("Basic",)}):
            client = self.client(fault=AxisFault(status=401), **settings)
            for _ in range(3):
                status, head, _ = client.get(IMAGE, b"Authorization: Basic cm9vdDpwYXNz")
                self.assertEqual(status, 401)
                self.assertIn(b"\r\nWWW-Authenticate: Basic ", head)

    def test_close(self) -> None:
        """
        The connection can be closed in the middle of an image.
        """
        client = self.client(fault=AxisFault(close=True))
        _, head, body = client.get(IMAGE)
        size = int(re.search(rb"content-length: ([0-9]+)", head.lower())[1])  # type: ignore[index]
        self.assertEqual((len(body), client.disconnecting), (size // 2, True))

    def test_stream(self) -> None:
        """
        A stream can be refused, and its parts be no images, come short, or end the connection.
        """
        for fault, said in (
            (AxisFault(status=500), b"HTTP/1.1 500 "),
            (AxisFault(html=True), b"--myboundary\r\nContent-Type: text/html\r\n"),
            (AxisFault(truncate=True), b"Content-Length: %d\r\n" % (len(LoopDrawing().draw(0).encode()) // 2)),
        ):
            client = self.client(fault=fault)
            self.assertIn(said, client.ask(b"GET " + VIDEO + b" HTTP/1.0\r\n\r\n"))
        client = self.client(fault=AxisFault(close=True))
        body = client.ask(b"GET " + VIDEO + b" HTTP/1.0\r\n\r\n")
        self.assertTrue(client.disconnecting)
        self.assertLess(len(body), len(LoopDrawing().draw(0).encode()))

    def test_endless(self) -> None:
        """
        A part without a length goes on and on, as long as the client reads.
        """
        client = self.client(fault=AxisFault(on="stream", endless=True))
        first = client.ask(b"GET " + VIDEO + b"?fps=10 HTTP/1.0\r\n\r\n")
        self.assertNotIn(b"Content-Length: ", first)
        self.clock.pump([0.1] * 10)
        more = client.said()
        self.assertGreater(len(more), 2**20)
        self.assertNotIn(b"myboundary", more)
        client.producer.pauseProducing()
        self.clock.pump([0.1] * 10)
        self.assertEqual(client.said(), b"")

    def test_post(self) -> None:
        """
        A post can be late, no image, or short; what cannot happen to one does not.
        """
        camera = self.camera(post_to="http://10.0.0.5", post_rate=10)
        camera.inject(AxisFault(status=500))
        camera.inject(AxisFault(on="post", html=True), 1)
        camera.inject(AxisFault(on="post", delay=0.05), 1)
        camera.open_trigger()
        socket = self.network.accept()
        self.assertIn(b"content-type: text/html\r\n", socket.asked().lower())
        socket.answer()
        self.clock.advance(0.1)
        self.assertEqual(socket.asked(), b"")
        self.clock.advance(0.05)
        self.assertTrue(socket.asked().endswith(b"\xff\xd9"))

    def test_clear(self) -> None:
        """
        A fault without a number stays until the faults are cleared.
        """
        camera = self.camera(fault=AxisFault(status=500))
        client = Client(camera)
        self.assertEqual([client.get(IMAGE)[0] for _ in range(3)], [500] * 3)
        camera.clear_faults()
        self.assertEqual(client.get(IMAGE)[0], 200)

    def test_wrong(self) -> None:
        """
        A fault that is none, or cannot be, is refused.
        """
        for settings in (
            {}, {"on": "image"}, {"delay": -1}, {"delay": float("nan")}, {"status": 200}, {"status": 499},
            {"html": True, "truncate": True}, {"endless": True}, {"on": "post", "status": 500},
            {"on": "post", "close": True}, {"on": "elsewhere", "html": True},
        ):  # fmt: skip
            self.assertRaises(ValueError, AxisFault, **settings)
        self.assertRaises(ValueError, self.camera().inject, AxisFault(html=True), 0)

    def test_concerns(self) -> None:
        """
        A fault is for all images where it does not say which, but for posts only where it can be.
        """
        for on, what in product(("", "image", "stream", "post"), ("image", "stream", "post")):
            self.assertEqual(AxisFault(on=on, html=True).concerns(what), on in ("", what))  # type: ignore[arg-type]
        self.assertFalse(AxisFault(close=True).concerns("post"))
