from __future__ import annotations

from collections.abc import AsyncIterator
from threading import Thread
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from equipnet.connection.retry import RetryPolicy
from equipnet.connection.state import State
from equipnet.errors import (
    AuthenticationFailed,
    ConnectFailed,
    EquipmentTimeout,
    LocalProtocolError,
    MessageTooLong,
    NotConnected,
    QueueFull,
    RemoteProtocolError,
)
from equipnet.http.client import HttpStatus
from equipnet.http.exchange import Request, Response
from equipnet.imaging.axis import AxisCamera, Frame
from equipnet.imaging.mjpeg import CONTENT_TYPE, write_part
from tests.http.doubles import URL, Network, Socket

# The smallest that a header walk takes for an image: start, a frame header of 3 x 2 pixels (ITU-T T.81, B.2.2), end.
JPEG = b"\xff\xd8\xff\xc0\x00\x0b\x08\x00\x02\x00\x03\x01\x01\x11\x00\xff\xd9"
TYPE = b"Content-Type: image/jpeg"
PROBE = b"GET /axis-cgi/jpg/image.cgi?camera=1 HTTP/1.1\r\n"
DIGEST = b'WWW-Authenticate: Digest realm="AXIS_ACCC8E", nonce="%s", qop="auth", algorithm=MD5'


class CameraTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = Network()

    def camera(self, **options: Any) -> AxisCamera:
        options = {"retry": RetryPolicy.fixed(1.0), **options}
        camera = AxisCamera(URL, name="axis6", reactor=self.network.reactor, **options)
        self.addCleanup(self.assert_clean, camera)
        return camera

    def ready(self, **options: Any) -> AxisCamera:
        """Make a camera that is READY; its socket is ``self.socket``."""
        camera = self.camera(**options)
        connected = camera.connect()
        self.socket = self.network.accept()
        self.assertTrue(self.socket.asked().startswith(PROBE))
        self.socket.answer(JPEG, b"200 OK", TYPE)
        self.successResultOf(connected)
        return camera

    def assert_clean(self, camera: AxisCamera) -> None:
        """Nothing is left open or scheduled after a disconnection."""
        closed = camera.disconnect()
        camera.reactor.advance(0)
        self.successResultOf(closed)
        self.assertEqual(camera.reactor.getDelayedCalls(), [])
        self.assertEqual([socket for socket in self.network.sockets if socket.ended is None], [])


class ImageTests(CameraTestCase):
    def test_image(self) -> None:
        """
        An image is what the camera answers, with what its header says.
        """
        camera = self.ready()
        asked = camera.image()
        self.assertTrue(self.socket.asked().startswith(PROBE))
        self.socket.answer(JPEG, b"200 OK", TYPE)
        image = self.successResultOf(asked)
        self.assertEqual((image.data, image.content_type, image.width, image.height), (JPEG, "image/jpeg", 3, 2))
        self.assertEqual(image.sequence, 1)

    def test_queries(self) -> None:
        """
        Arguments become the query; a whole query is sent as it is.
        """
        camera = self.ready(camera=2, probe_path="/axis-cgi/jpg/image.cgi?camera=1")
        for arguments, query in (
            ({}, b"camera=2"),
            ({"resolution": "640x480", "compression": 30}, b"camera=2&resolution=640x480&compression=30"),
            ({"query": "camera=1"}, b"camera=1"),
            ({"query": "camera=quad&text=0&color=%23ff"}, b"camera=quad&text=0&color=%23ff"),
        ):
            asked = camera.image(**arguments)
            self.assertTrue(self.socket.asked().startswith(b"GET /axis-cgi/jpg/image.cgi?" + query + b" HTTP/1.1\r\n"))
            self.socket.answer(JPEG)
            self.successResultOf(asked)

    def test_wrong_arguments(self) -> None:
        """
        What cannot be asked for is an error of ours, and nothing is sent.
        """
        camera = self.ready()
        for arguments in (
            {"resolution": "big"},
            {"resolution": "0x480"},
            {"compression": 101},
            {"query": "camera=1", "compression": 3},
            {"query": "a b"},
        ):
            with self.subTest(arguments=arguments):
                self.failureResultOf(camera.image(**arguments), LocalProtocolError)
        for stream in ({"fps": 0.0}, {"limit": 0}, {"query": "camera=1", "fps": 1.0}):
            with self.subTest(stream=stream):
                self.assertRaises(LocalProtocolError, camera.stream, **stream)
        self.assertEqual(self.socket.asked(), b"")
        self.assertRaises(ValueError, AxisCamera, URL, camera=0, reactor=self.network.reactor)

    def test_no_image(self) -> None:
        """
        An answer that is no image, or not a whole one, is an error that says what came; the camera stays READY.
        """
        camera = self.ready()
        for body, header, words in (
            (b"<html>log in</html>", b"Content-Type: text/html", "axis6 answered with text/html, which is no image: "),
            (JPEG[:-2], TYPE, "axis6 answered with image/jpeg, which is no image: the end of the image is missing"),
            (b"", TYPE, "which is no image: the body is empty"),
            (b"x", b"A: b", "axis6 answered with something without a type, which is no image: "),
        ):
            with self.subTest(body=body):
                asked = camera.image()
                self.socket.answer(body, b"200 OK", header)
                self.assertIn(words, str(self.failureResultOf(asked, RemoteProtocolError).value))
                self.assertIs(camera.state, State.READY)

    def test_status(self) -> None:
        """
        A camera that answers with 500 is an error with that number, for that image only.
        """
        camera = self.ready()
        bad, good = camera.image(), camera.image()
        self.socket.answer(b"out of memory", b"500 Internal Server Error")
        self.network.accept().answer(JPEG)
        self.assertEqual(self.failureResultOf(bad, HttpStatus).value.status, 500)
        self.assertEqual(self.successResultOf(good).data, JPEG)

    def test_refused_for_ever(self) -> None:
        """
        A camera that refuses our password whatever we say is asked twice for each image.
        """
        camera = self.ready(username="root", password="secret")
        asked = camera.image()
        for number in range(2):
            self.assertEqual(self.socket.asked().count(b"GET"), 1)
            self.socket.answer(b"", b"401 Unauthorized", DIGEST % b"%d" % number)
        error = self.failureResultOf(asked, AuthenticationFailed).value
        self.assertEqual(str(error), f"{URL}: the name 'root' or its password is refused")
        self.assertEqual(self.socket.asked(), b"")

    def test_too_long(self) -> None:
        """
        An image over the limit is not taken.
        """
        camera = self.ready(max_size=100)
        asked = camera.image()
        self.socket.answer(b"x" * 101)
        self.failureResultOf(asked, MessageTooLong)

    def test_many(self) -> None:
        """
        Images are taken at once up to the limit; the others wait for their turn, and what is too much is refused.
        """
        camera = self.ready(max_requests=3, queue_limit=2)
        images = [camera.image() for _ in range(6)]
        self.failureResultOf(images.pop(), QueueFull)
        sockets = [self.socket, self.network.accept(), self.network.accept()]
        self.assertEqual(self.network.attempts, 0)
        for count in range(5):
            sockets[count % 3].answer(JPEG)
        self.assertEqual(sorted(self.successResultOf(image).sequence for image in images), [1, 2, 3, 4, 5])


class StreamTestCase(CameraTestCase):
    def begin(self, camera: AxisCamera, **arguments: Any) -> tuple[AsyncIterator[Frame], Deferred[Frame]]:
        """Ask for the first frame of a stream; its socket is ``self.video``."""
        frames = camera.stream(**arguments)
        first = self.next(frames)
        self.video = self.network.accept() if self.network.attempts else self.socket
        self.answer(self.video)
        return frames, first

    def next(self, frames: AsyncIterator[Frame]) -> Deferred[Frame]:
        async def next_frame() -> Frame:
            return await frames.__anext__()

        return Deferred.fromCoroutine(next_frame())

    def answer(self, socket: Socket) -> None:
        self.assertTrue(socket.asked().startswith(b"GET /axis-cgi/mjpg/video.cgi?camera=1"))
        socket.say(b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n\r\n" % CONTENT_TYPE.encode())


class StreamTests(StreamTestCase):
    def test_frames(self) -> None:
        """
        Each image of the stream is a frame, in order, whenever it is asked for.
        """
        frames, first = self.begin(self.ready())
        self.assertNoResult(first)
        for _ in range(2):
            self.video.say(write_part(JPEG))
        second, third = self.next(frames), self.next(frames)
        self.assertNoResult(third)
        self.video.say(write_part(JPEG))
        for number, each in enumerate((first, second, third), 1):
            frame = self.successResultOf(each)
            self.assertEqual((frame.data, frame.width, frame.height, frame.sequence), (JPEG, 3, 2, number))

    def test_arguments(self) -> None:
        """
        Arguments become the query, and nothing is asked before the first frame is.
        """
        camera = self.ready()
        for arguments, query in (
            (
                {"fps": 2.5, "resolution": "320x240", "compression": 3},
                b"camera=1&resolution=320x240&compression=3&fps=2.5",
            ),
            ({"query": "camera=quad"}, b"camera=quad"),
        ):
            frames = camera.stream(**arguments)
            self.assertEqual(self.socket.asked(), b"")
            self.next(frames).addErrback(lambda _: None)
            self.assertTrue(self.socket.asked().startswith(b"GET /axis-cgi/mjpg/video.cgi?" + query + b" HTTP/1.1"))
            self.socket.answer(b"", b"404 Not Found")

    def test_slow_consumer(self) -> None:
        """
        For a consumer who is too slow the oldest frames are dropped and counted.
        """
        frames, first = self.begin(self.ready(), limit=3)
        for _ in range(10):
            self.video.say(write_part(JPEG))
        numbers = [self.successResultOf(each).sequence for each in (first, *(self.next(frames) for _ in range(3)))]
        self.assertEqual(numbers, [1, 8, 9, 10])
        self.assertEqual(frames.dropped, 6)  # type: ignore[attr-defined]  # it is one of Frames

    def test_no_image(self) -> None:
        """
        A frame that is no whole image is dropped, counted and logged; the stream goes on.
        """
        frames, first = self.begin(self.ready())
        for body in (JPEG[:-2], b"<html>", JPEG):
            self.video.say(write_part(body))
        self.assertEqual(self.successResultOf(first).sequence, 1)
        self.assertEqual(frames.rejected, 2)  # type: ignore[attr-defined]  # it is one of Frames

    def test_taps(self) -> None:
        """
        Taps see the request, the head of the answer, and each frame.
        """
        camera = self.ready()
        seen: list[Any] = []
        camera.add_tap(lambda traffic: seen.append((traffic.direction, traffic.raw, traffic.value)))
        _, first = self.begin(camera)
        self.video.say(write_part(JPEG))
        self.assertEqual(
            seen,
            [
                ("out", b"", Request("GET", "/axis-cgi/mjpg/video.cgi?camera=1")),
                ("in", b"", Response(200, "OK", {"content-type": CONTENT_TYPE})),
                ("in", JPEG, self.successResultOf(first)),
            ],
        )

    def test_images_meanwhile(self) -> None:
        """
        A stream takes no image's turn.
        """
        camera = self.ready(max_requests=1)
        self.begin(camera)[1].addErrback(lambda _: None)
        asked = camera.image()
        self.network.accept().answer(JPEG)
        self.assertEqual(self.successResultOf(asked).data, JPEG)


class LostStreamTests(StreamTestCase):
    def test_begun_again(self) -> None:
        """
        A stream that is lost is begun again after a pause, and goes on where it was.
        """
        frames, first = self.begin(self.ready())
        self.video.say(write_part(JPEG))
        self.assertEqual(self.successResultOf(first).sequence, 1)
        for end in (b"--myboundary--\r\n", b"rubbish\r\n", None):
            following = self.next(frames)
            if end is None:
                self.video.close()
            else:
                self.video.say(end)
            self.network.turn()
            probe = self.network.attempts
            if probe:
                self.network.accept().answer(JPEG)
            self.network.turn(0.9)
            self.assertEqual(self.network.attempts, 0)
            self.network.turn(0.2)
            self.video = self.network.accept() if self.network.attempts else self.network.sockets[-1]
            self.assertIn(b"/video.cgi", self.video.asked())
            self.video.say(b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n\r\n" % CONTENT_TYPE.encode())
            self.video.say(write_part(JPEG))
            self.successResultOf(following)

    def test_not_a_stream(self) -> None:
        """
        So is one that is none: a part without an end, a page, an error of the camera's, silence.
        """
        for said, options in (
            (b"Content-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>", {}),
            (b"Content-Type: %s\r\n\r\n--myboundary\r\n\r\n" % CONTENT_TYPE.encode() + b"x" * 200, {"max_size": 100}),
            (b"Content-Type: %s\r\n\r\n--myboundary\r\n\r\n" % CONTENT_TYPE.encode(), {"silence_timeout": 0.5}),
        ):
            with self.subTest(said=said):
                self.network = Network()
                camera = self.ready(**options)
                first = self.next(camera.stream())
                self.socket.say(b"HTTP/1.1 200 OK\r\n" + said)
                self.network.turn(0.5)
                if self.network.attempts:
                    self.network.accept().answer(JPEG)
                self.network.turn(1.0)
                self.assertNoResult(first)
                video = self.network.accept() if self.network.attempts else self.network.sockets[-1]
                self.assertIn(b"/video.cgi", video.asked())
                video.say(b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n\r\n" % CONTENT_TYPE.encode() + write_part(JPEG))
                self.successResultOf(first)

    def test_back_off(self) -> None:
        """
        A stream that fails again and again is tried as the policy says, and no more often.
        """
        first = self.next(self.ready(retry=RetryPolicy(1.0, 2.0, 8.0, 0.0), probe_interval=1000.0).stream())
        for pause in (1.0, 2.0, 4.0, 8.0, 8.0):
            self.assertEqual(self.socket.asked().count(b"/video.cgi"), 1)
            self.socket.answer(b"", b"503 Busy")
            self.network.turn(pause - 0.1)
            self.assertEqual(self.socket.asked(), b"")
            self.network.turn(0.1)
        self.answer(self.socket)
        self.socket.say(write_part(JPEG))
        self.successResultOf(first)

    def test_camera_lost(self) -> None:
        """
        While the camera is away the stream waits for it.
        """
        camera = self.ready()
        _, first = self.begin(camera)
        self.video.close()
        self.network.turn()
        self.network.refuse()
        self.assertIs(camera.state, State.WAITING)
        for _ in range(3):
            self.network.turn(1)
            self.network.refuse()
        self.network.turn(1)
        self.video = self.network.accept()
        self.video.asked()
        self.video.answer(JPEG)
        self.answer(self.video)
        self.video.say(write_part(JPEG))
        self.successResultOf(first)

    def test_refused(self) -> None:
        """
        A camera that refuses the stream ends it with its reason.
        """
        camera = self.ready(username="root", password="secret")
        first = self.next(camera.stream())
        self.socket.answer(b"no such camera", b"400 Bad Request")
        self.assertEqual(self.failureResultOf(first, HttpStatus).value.status, 400)
        frames = camera.stream()
        first = self.next(frames)
        for number in range(2):
            self.socket.answer(b"", b"401 Unauthorized", DIGEST % b"%d" % number)
        self.failureResultOf(first, AuthenticationFailed)
        self.failureResultOf(self.next(frames), StopAsyncIteration)
        self.socket.asked()
        self.network.turn(1000)
        self.assertNotIn(b"/video.cgi", self.socket.asked())

    def test_given_up(self) -> None:
        """
        When the policy gives up, the camera or the stream, the iteration raises the last error.
        """
        first = self.next(self.ready(retry=RetryPolicy.fixed(1.0, attempts=2)).stream())
        for _ in range(2):
            self.socket.answer(b"", b"503 Busy")
            self.network.turn(1)
        self.assertEqual(self.failureResultOf(first, HttpStatus).value.status, 503)
        self.network = Network()
        camera = self.ready(retry=RetryPolicy.fixed(1.0, attempts=2))
        _, first = self.begin(camera)
        self.video.close()
        self.network.turn()
        self.network.refuse()
        self.network.turn(1)
        self.network.refuse()
        self.assertIs(camera.state, State.STOPPED)
        self.failureResultOf(first, ConnectFailed)

    def test_not_connected(self) -> None:
        """
        A camera that nobody connected has no stream.
        """
        self.failureResultOf(self.next(self.camera().stream()), NotConnected)


class EndTests(StreamTestCase):
    def assert_ended(self) -> None:
        """The stream's socket is closed, and no other is opened."""
        self.network.turn()
        self.assertEqual(self.video.ended, "aborted by the client")
        self.network.turn(10)
        self.assertEqual(self.network.attempts, 0)

    def test_close(self) -> None:
        """
        A stream that is closed ends, also for who waits for its next frame.
        """
        frames, first = self.begin(self.ready())
        self.successResultOf(Deferred.fromCoroutine(frames.aclose()))  # type: ignore[attr-defined]  # it is one of Frames
        self.failureResultOf(first, StopAsyncIteration)
        self.failureResultOf(self.next(frames), StopAsyncIteration)
        self.assert_ended()

    def test_close_before_it_begins(self) -> None:
        """
        So does one that was not begun.
        """
        frames = self.ready().stream()
        self.successResultOf(Deferred.fromCoroutine(frames.aclose()))
        self.failureResultOf(self.next(frames), StopAsyncIteration)
        self.assertEqual(self.socket.asked(), b"")

    def test_close_while_it_pauses(self) -> None:
        """
        So does one that is between two tries.
        """
        frames = self.ready().stream()
        first = self.next(frames)
        self.socket.answer(b"", b"503 Busy")
        self.successResultOf(Deferred.fromCoroutine(frames.aclose()))
        self.failureResultOf(first, StopAsyncIteration)
        self.socket.asked()
        self.network.turn(10)
        self.assertEqual(self.socket.asked(), b"")

    def test_break(self) -> None:
        """
        A loop that is left ends its stream.
        """
        camera = self.ready()

        async def two() -> list[int]:
            numbers = []
            async for frame in camera.stream():
                numbers.append(frame.sequence)
                if len(numbers) == 2:
                    break
            return numbers

        done = Deferred.fromCoroutine(two())
        self.video = self.socket
        self.answer(self.video)
        self.video.say(write_part(JPEG) * 5)
        self.assertEqual(self.successResultOf(done), [1, 2])
        self.assert_ended()

    def test_dropped_in_another_thread(self) -> None:
        """
        A stream that nobody has any more ends in the reactor's thread, wherever the garbage collector found that out.
        """
        frames, first = self.begin(self.ready())
        self.video.say(write_part(JPEG))
        self.successResultOf(first)
        droppers = [frames]
        del frames
        thread = Thread(target=droppers.clear)
        thread.start()
        thread.join()
        self.assertIsNone(self.video.ended)
        self.assert_ended()

    def test_cancelled(self) -> None:
        """
        So does a loop that is cancelled.
        """
        camera = self.ready()

        async def count() -> int:
            return len([frame async for frame in camera.stream()])

        counted = Deferred.fromCoroutine(count())
        self.video = self.socket
        self.answer(self.video)
        counted.cancel()
        self.failureResultOf(counted, CancelledError)
        self.assert_ended()

    def test_disconnect(self) -> None:
        """
        A loop over a camera that is disconnected from our side ends, behind the frames that had come.
        """
        camera = self.ready()
        frames, first = self.begin(camera)
        self.video.say(write_part(JPEG) * 2)
        camera.disconnect()
        self.successResultOf(first)
        self.assertEqual(self.successResultOf(self.next(frames)).sequence, 2)
        self.failureResultOf(self.next(frames), StopAsyncIteration)
        self.assert_ended()

    def test_timeout(self) -> None:
        """
        A camera that hangs costs nothing but time: its image is late, and the connection is probed.
        """
        camera = self.ready(answer_timeout=2.0)
        asked = camera.image()
        self.network.turn(2)
        self.failureResultOf(asked, EquipmentTimeout)
        self.network.turn()
        self.network.accept().answer(JPEG)
        self.assertIs(camera.state, State.READY)
