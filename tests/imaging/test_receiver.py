"""Tests of the JPEG receiver, without sockets."""

from __future__ import annotations

import base64
import gc
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from equipnet.connection.state import State
from equipnet.http.channel import HEADER_LIMIT, LINGER_TIME
from equipnet.http.digest import Login
from equipnet.imaging import JpegReceiver, ReceivedImage, Retention
from equipnet.imaging.receiver import DEFAULT_LIMIT, LATEST_LIMIT
from equipnet.interfaces import IConnection, Traffic
from tests.http.test_server import Socket, statuses
from tests.imaging.doubles import ThreadlessReactor
from tests.imaging.test_jpeg import SMALL_JPEG, SMALL_PNG
from tests.imaging.test_storage import Pool

CLOSED = "the receiver is closed"
FULL = "too many images wait to be used"


class Reactor(ThreadlessReactor):
    """A reactor whose threads run when the test lets them."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool()

    def getThreadPool(self) -> Any:
        return self.pool


def post(
    path: str = "/camera1", data: bytes = SMALL_JPEG, *fields: str, method: str = "POST", length: int | None = None
) -> bytes:
    """Give the bytes of a request with an image."""
    head = [f"{method} {path} HTTP/1.1", f"Content-Length: {len(data) if length is None else length}", *fields]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + data


class ReceiverCase(SynchronousTestCase):
    options: dict[str, Any] = {}

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.events: list[dict[str, Any]] = []
        observer: Any = self.events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.receiver = self.new_receiver(**self.options)
        self.receiver.startService()
        self.images: list[ReceivedImage] = []
        self.receiver.observe_images(self.images.append)

    def tearDown(self) -> None:
        for protocol in tuple(self.receiver.protocols):
            protocol.transport.go()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def new_receiver(self, **options: Any) -> JpegReceiver:
        return JpegReceiver("tcp:9000", name="images", reactor=self.reactor, **options)

    def camera(self, host: str = "10.0.0.9") -> Socket:
        return Socket(self.receiver, host)

    def accepted(self, data: bytes) -> ReceivedImage:
        """Send a request that is answered 200 with one image for the observer, which is given."""
        before = len(self.images)
        camera = self.camera()
        answer = camera.say(data)
        camera.go()
        self.assertEqual((answer, len(self.images)), (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", before + 1))
        return self.images[-1]

    def refused(self, data: bytes, status: int, text: str, ended: bool = False) -> bytes:
        """Send a request that is refused with a text, which is logged and counted; gives the answer."""
        before, images = self.receiver.refusals.get(status, 0), len(self.images)
        camera = self.camera()
        answer = camera.say(data)
        self.check_refusal(answer, status, text)
        self.assertEqual(camera.ended, ["half"] if ended else [])
        camera.go()
        self.assertEqual((self.receiver.refusals[status], len(self.images)), (before + 1, images))
        return answer

    def check_refusal(self, answer: bytes, status: int, text: str) -> None:
        self.assertEqual((statuses(answer), answer.partition(b"\r\n\r\n")[2]), ([status], f"{text}\n".encode()))
        event = self.events[-1]
        self.assertEqual(
            (event["name"], event["peer"], event["status"], event["text"]),
            ("images", "10.0.0.9", status, text),
        )


class AcceptedTests(ReceiverCase):
    def test_image(self) -> None:
        """
        An image comes with what it is, where it was posted to, by whom, with which header fields, and its number.
        """
        image = self.accepted(
            post("/camera1?angle=30", SMALL_JPEG, "Content-Type: image/jpeg", "X-Angle: 30", "x-angle:31")
        )
        self.assertEqual(
            image[:7],
            (
                SMALL_JPEG, "image/jpeg", 5, 3, "/camera1",
                {"content-length": str(len(SMALL_JPEG)), "content-type": "image/jpeg", "x-angle": "30, 31"},
                "10.0.0.9:50000",
            ),
        )  # fmt: skip
        self.assertEqual((image.headers["X-ANGLE"], image.headers.get("angle")), ("30, 31", None))
        self.assertEqual((image.query, image.sequence), ("angle=30", 1))
        self.assertEqual(repr(image), "<ReceivedImage 1 of /camera1: image/jpeg, 5 x 3, 38 bytes>")
        self.assertEqual(self.accepted(post()).sequence, 2)
        self.assertEqual(self.receiver.received, 2)

    def test_types(self) -> None:
        """
        The type may be in any letter case, have parameters, be missing, or be the wrong one of the two; what the image
        is, it says itself.
        """
        for said in (
            "Content-Type: image/jpeg", "content-type: IMAGE/JPEG", 'CONTENT-TYPE:image/jpeg; name="a.jpg"',
            "Content-Type: image/jpg", "Content-Type: image/png ;x=y", "Content-Type: image/pjpeg", "Content-Type:",
            "X-Other: 1",
        ):  # fmt: skip
            with self.subTest(said=said):
                self.assertEqual(self.accepted(post("/", SMALL_JPEG, said)).content_type, "image/jpeg")
                self.assertEqual(self.accepted(post("/", SMALL_PNG, said)).content_type, "image/png")

    def test_paths_and_methods(self) -> None:
        """
        Images may be posted or put, to any path; a URL is its path.
        """
        for target, path in (("/", "/"), ("/a/b%20c", "/a/b%20c"), ("http://host:9000/x?y", "/x"), ("/\xe4", "/\xe4")):
            for method in ("POST", "PUT"):
                self.assertEqual(self.accepted(post(target, method=method)).path, path)

    def test_chunked(self) -> None:
        """
        An image may come in chunks.
        """
        chunks = b"10\r\n" + SMALL_JPEG[:16] + b"\r\n16;a=b\r\n" + SMALL_JPEG[16:] + b"\r\n0\r\nX-Sum: 5\r\n\r\n"
        image = self.accepted(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        self.assertEqual(image.data, SMALL_JPEG)

    def test_expect(self) -> None:
        """
        A camera that asks is told to go on, and answered when the image is there.
        """
        request = post("/", SMALL_JPEG, "Expect: 100-continue")
        head = request[: -len(SMALL_JPEG)]
        camera = self.camera()
        self.assertEqual(camera.say(head), b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertEqual((statuses(camera.say(SMALL_JPEG)), len(self.images)), ([200], 1))

    def test_pipelined(self) -> None:
        """
        Two images in one go are both taken, in their order, with an answer for each.
        """
        camera = self.camera()
        self.assertEqual(statuses(camera.say(post("/a") + post("/b"))), [200, 200])
        self.assertEqual([(image.path, image.sequence) for image in self.images], [("/a", 1), ("/b", 2)])

    def test_forged_type(self) -> None:
        """
        A header of pydhsfw's that named the message makes nothing an image.
        """
        forged = "DHS-Request-Type-Id: jpeg_receiver_image_post_request"
        self.refused(
            post("/", b"hello", "Content-Type: text/plain", forged), 415, "images are JPEG or PNG, not 'text/plain'"
        )
        self.refused(
            post("/", b"hello", forged), 422,
            "not a whole image: it begins with b'hello', neither as a JPEG nor as a PNG image",
        )  # fmt: skip
        self.assertEqual(self.accepted(post("/", SMALL_JPEG, forged)).data, SMALL_JPEG)


class RefusedTests(ReceiverCase):
    options = {"max_size": "1 MiB"}

    def test_no_length(self) -> None:
        """
        A post without a length is answered 411; what follows is not taken for a request.
        """
        self.refused(
            b"POST / HTTP/1.1\r\nContent-Type: image/jpeg\r\n\r\n" + SMALL_JPEG, 411,
            "an image comes with its Content-Length, or in chunks", ended=True,
        )  # fmt: skip

    def test_wrong_length(self) -> None:
        """
        A length that is none is answered 400.
        """
        for length in ("abc", "-5"):
            self.refused(
                f"POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n".encode() + SMALL_JPEG, 400,
                f"Content-Length is not a number of bytes: '{length}'", ended=True,
            )  # fmt: skip
        self.refused(
            b"POST / HTTP/1.1\r\nContent-Length: 38\r\nTransfer-Encoding: chunked\r\n\r\n" + SMALL_JPEG, 400,
            "Content-Length and Transfer-Encoding cannot both be there", ended=True,
        )  # fmt: skip

    def test_no_image(self) -> None:
        """
        A body that is no whole image is answered 422 with the reason: empty, text, cut, or longer than its length says.
        """
        for data, text in (
            (b"", "the body is empty"),
            (b"<html>", "it begins with b'<html>', neither as a JPEG nor as a PNG image"),
            (SMALL_JPEG[:-1], "the end of the image is missing behind 37 bytes"),
            (SMALL_JPEG[:10], "the JPEG header is cut after 10 bytes"),
        ):
            self.refused(post("/", data, "Content-Type: image/jpeg"), 422, f"not a whole image: {text}")
        camera = self.camera()
        answer = camera.say(post("/", SMALL_JPEG, length=35))
        self.assertEqual((statuses(answer), self.images), ([422], []))

    def test_wrong_type(self) -> None:
        """
        A body that says it is something else is answered 415.
        """
        for said in ("text/html", "image/gif;a=b", "image", "\xff\t'"):
            answer = self.camera().say(post("/", SMALL_JPEG, f"Content-Type: {said}"))
            self.assertEqual((statuses(answer), answer.isascii(), self.images), ([415], True, []))
        self.refused(post("/", b"hello", "Content-Type: text/plain"), 415, "images are JPEG or PNG, not 'text/plain'")

    def test_methods(self) -> None:
        """
        Other methods are answered 405 with those that there are; they are written in capitals.
        """
        for method in ("GET", "DELETE", "OPTIONS", "post", "TRACE"):
            answer = self.refused(f"{method} / HTTP/1.1\r\n\r\n".encode(), 405, "images are posted here: POST or PUT")
            self.assertIn(b"\r\nAllow: POST, PUT\r\n", answer)
        self.assertEqual(self.camera().say(b"HEAD / HTTP/1.1\r\n\r\n").partition(b"\r\n\r\n")[2], b"")

    def test_rubbish(self) -> None:
        """
        What is no request is answered 400, and a header of 70 KB 431.
        """
        self.refused(
            b"rubbish\r\n\r\n", 400, "the first line is not that of an HTTP/1.1 request: 'rubbish'", ended=True
        )
        long = b"POST / HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n"
        self.refused(long, 431, f"the header is longer than {HEADER_LIMIT} bytes", ended=True)

    def test_too_long(self) -> None:
        """
        An image over the limit is answered 413 before it has come, and before any consent to send it.
        """
        text = "the body is longer than 1048576 bytes"
        self.refused(post("/", b"", length=268_435_456), 413, text, ended=True)
        self.refused(post("/", b"", "Expect: 100-continue", length=268_435_456), 413, text, ended=True)

    def test_expect(self) -> None:
        """
        A camera that asks before it sends what is not wanted gets the refusal at once.
        """
        self.refused(
            post("/", b"", "Content-Type: text/plain", "Expect: 100-continue", length=5), 415,
            "images are JPEG or PNG, not 'text/plain'", ended=True,
        )  # fmt: skip
        self.refused(post("/", b"", "Expect: 100-continue"), 422, "not a whole image: the body is empty")

    def test_cut(self) -> None:
        """
        An image whose camera ends its side in the middle is answered 400, and nobody sees it.
        """
        camera = self.camera()
        camera.say(post("/", SMALL_JPEG[:30], length=38))
        self.check_refusal(camera.end(), 400, "the request ended early, after 30 of 38 bytes of the body")
        camera.go()
        camera = self.camera()
        camera.say(post("/", SMALL_JPEG[:30], length=38))
        camera.go()
        self.assertEqual((self.images, self.receiver.latest()), ([], None))

    def test_silent_and_dripping(self) -> None:
        """
        A camera that falls silent, or drips, is answered 408; others are served meanwhile.
        """
        silent, dripping = self.camera(), self.camera()
        silent.say(post("/", SMALL_JPEG[:20], length=38))
        heard = dripping.say(post("/", SMALL_JPEG[:5], length=38))
        for _ in range(30):
            self.reactor.advance(1)
            heard += dripping.say(b"x")
            self.accepted(post())
        self.assertEqual((statuses(silent.heard()), statuses(heard)), ([408], [408]))
        self.reactor.advance(LINGER_TIME)
        self.assertEqual((silent.ended[-1], dripping.ended[-1]), ("abort", "abort"))

    def test_gone_again(self) -> None:
        """
        A refused image of moderate size does not cost the connection; the next one is taken.
        """
        camera = self.camera()
        text = post("/", bytes(60_000), "Content-Type: text/plain")
        self.assertEqual(statuses(camera.say(text + post())), [415, 200])
        self.assertEqual((camera.ended, len(self.images)), ([], 1))


class PathTests(ReceiverCase):
    options = {"paths": ("/camera1", "/camera2")}

    def test_paths(self) -> None:
        """
        Where paths are given, an image for another one is answered 404.
        """
        self.accepted(post("/camera2?a=b"))
        for path in ("/", "/camera3", "/camera1/", "/Camera1"):
            self.refused(post(path), 404, f"no images are received at {path!r}")


#: What is said to who has to say who it is.
BEARER = "say who you are in an Authorization field: Bearer"
LOGIN = "say who you are in an Authorization field: Digest or Basic"


class CredentialTests(ReceiverCase):
    def start(self, **options: Any) -> None:
        self.receiver = self.new_receiver(**options)
        self.receiver.startService()
        self.receiver.observe_images(self.images.append)

    def check_secrets(self, *secrets: str) -> None:
        """No secret is in an image, the receiver's text, or the log."""
        text = f"{self.images} {[dict(image.headers) for image in self.images]} {self.receiver!r} {self.events}"
        for secret in secrets:
            self.assertNotIn(secret, text)
        for image in self.images:
            self.assertNotIn("authorization", image.headers)
            self.assertRaises(KeyError, image.headers.__getitem__, "Authorization")
            self.assertEqual(len(image.headers), len(list(image.headers)))

    def challenges(self, answer: bytes) -> list[bytes]:
        return [line[18:] for line in answer.split(b"\r\n") if line.startswith(b"WWW-Authenticate: ")]

    def test_token(self) -> None:
        """
        With a token, an image without it, or with another one, is answered 401.
        """
        self.start(token="s3cret-Token")
        self.assertEqual(
            self.accepted(post("/", SMALL_JPEG, "Authorization: Bearer s3cret-Token", "Cookie: a=b")).headers,
            {"content-length": "38"},
        )
        self.accepted(post("/", SMALL_JPEG, "Authorization: bearer  s3cret-Token "))
        self.assertEqual(self.challenges(self.refused(post(), 401, BEARER)), [b"Bearer"])
        for said in ("Bearer s3cret-Toke", "Bearer", "Bearer \xff"):
            self.refused(post("/", SMALL_JPEG, f"Authorization: {said}"), 401, "the credentials are not the right ones")
        for said in ("Basic OnMzY3JldC1Ub2tlbg==", "s3cret-Token", ""):
            self.refused(
                post("/", SMALL_JPEG, f"Authorization: {said}"),
                401,
                BEARER,
            )
        self.check_secrets("s3cret", "OnMzY3JldC1Ub2tlbg")

    def test_basic(self) -> None:
        """
        A name and a password are good as Basic credentials.
        """
        self.start(username="axis", password="p\xe4ss:word")
        right = base64.b64encode("axis:p\xe4ss:word".encode()).decode()
        self.accepted(post("/", SMALL_JPEG, f"Authorization: Basic {right}"))
        for user in (b"axis:wrong", b"other:p\xc3\xa4ss:word", b"axis", b""):
            said = base64.b64encode(user).decode()
            self.refused(
                post("/", SMALL_JPEG, f"Authorization: Basic {said}"), 401, "the credentials are not the right ones"
            )
        schemes = [challenge.split()[0] for challenge in self.challenges(self.refused(post(), 401, LOGIN))]
        self.assertEqual(schemes, [b"Digest", b"Digest", b"Basic"])
        self.check_secrets(right, "p\xe4ss")

    def test_digest(self) -> None:
        """
        They are as Digest credentials, once for each answer; a nonce that was used up is called stale.
        """
        self.start(username="axis", password="pass")
        login = Login("axis", "pass")
        path = "/camera1?caf\xe9"
        answer = self.refused(post(path), 401, LOGIN)
        uri = path.encode("latin-1").decode("utf-8", "surrogateescape")
        said = login.answer(self.challenges(answer), "POST", uri, None)
        request = post(path, SMALL_JPEG, f"Authorization: {said.value.decode('latin-1')}")
        self.accepted(request)
        again = self.refused(request, 401, LOGIN)
        self.assertIn(b"stale=true", again)
        self.refused(request.replace(b"POST", b"PUT"), 401, "the credentials are not the right ones")
        self.check_secrets("response=")

    def test_either(self) -> None:
        """
        With both a token and a name, either will do, and both are asked for.
        """
        self.start(token="abc", username="axis", password="pass")
        self.accepted(post("/", SMALL_JPEG, "Authorization: Bearer abc"))
        self.accepted(post("/", SMALL_JPEG, "Authorization: Basic YXhpczpwYXNz"))
        answer = self.refused(
            post("/", SMALL_JPEG, "Authorization: Bearer x"), 401, "the credentials are not the right ones"
        )
        schemes = [challenge.split()[0] for challenge in self.challenges(answer)]
        self.assertEqual(schemes, [b"Bearer", b"Digest", b"Digest", b"Basic"])

    def test_big_one_without(self) -> None:
        """
        A big image without credentials is refused before it has come.
        """
        self.start(token="abc")
        self.refused(post("/", b"", length=1_000_000), 401, BEARER, ended=True)

    def test_malformed_header(self) -> None:
        """
        Credentials in a malformed line are neither repeated nor logged.
        """
        self.start(token="abc")
        self.refused(
            b"POST / HTTP/1.1\r\nAuthorization : Bearer s3cret\r\n\r\n", 400,
            "line 2 of the header does not begin with a name and a colon", ended=True,
        )  # fmt: skip
        self.check_secrets("s3cret")

    def test_wrong_options(self) -> None:
        """
        Credentials that could never be right are refused, without being repeated.
        """
        for options, text in (
            ({"token": ""}, "a token is one word of visible ASCII characters"),
            ({"token": "s3cret\n"}, "a token is one word of visible ASCII characters"),
            ({"username": "axis"}, "username and password go together"),
            ({"password": "s3cret"}, "username and password go together"),
            ({"username": "", "password": "s3cret"}, "username is empty"),
            ({"when_full": "drop"}, "when_full is 'drop', not one of wait, refuse, drop-oldest"),
            ({"max_size": "big"}, "'big' is not a number of bytes; write one such as 500000, '500 kB' or '20 MiB'"),
            ({"paths": ("camera1",)}, "a path begins with /: 'camera1'"),
        ):
            with self.subTest(options=options):
                self.assertEqual(str(self.assertRaises(ValueError, self.new_receiver, **options)), text)


class AddressTests(ReceiverCase):
    options = {"allowed": ("10.0.0.0/8",), "max_connections": 2}

    def test_address(self) -> None:
        """
        A camera from another network is answered 403; one too many is turned away.
        """
        self.assertEqual(statuses(self.camera("192.168.0.1").say(post())), [403])
        self.assertEqual(statuses(self.camera().say(post())), [200])
        self.assertIsNone(self.camera().server)
        self.assertEqual((self.receiver.refusals, self.receiver.refused), ({403: 1}, 1))


class OpenTests(ReceiverCase):
    def test_closed(self) -> None:
        """
        While it is closed images are answered 503, and none is delivered later.
        """
        self.assertTrue(self.receiver.is_open)
        self.receiver.close()
        self.assertFalse(self.receiver.is_open)
        self.refused(post(), 503, CLOSED)
        self.refused(post("/", b"", length=1_000_000), 503, CLOSED, ended=True)
        self.refused(post("/", b"", "Expect: 100-continue", length=38), 503, CLOSED, ended=True)
        self.receiver.open()
        self.assertEqual((self.images, self.receiver.latest()), ([], None))
        self.accepted(post())
        self.assertIs(self.receiver.state, State.READY)

    def test_any_order(self) -> None:
        """
        It may be opened and closed in any order, quickly, and before it is started.
        """
        receiver = self.new_receiver()
        for action in (receiver.close, receiver.open, receiver.open, receiver.close, receiver.close):
            action()
        receiver.startService()
        self.receiver = receiver
        receiver.observe_images(self.images.append)
        self.refused(post(), 503, CLOSED)
        for action in (receiver.open, receiver.close, receiver.open):
            action()
        self.accepted(post())

    def test_closed_in_the_middle(self) -> None:
        """
        An image that is under way when the receiver is closed is refused when it is there; one that is under way when
        it is opened stays refused.
        """
        camera = self.camera()
        camera.say(post("/", SMALL_JPEG[:20], length=38))
        self.receiver.close()
        self.assertEqual(statuses(camera.say(SMALL_JPEG[20:])), [503])
        camera.say(post("/", SMALL_JPEG[:20], length=38))
        self.receiver.open()
        self.assertEqual(statuses(camera.say(SMALL_JPEG[20:])), [503])
        self.assertEqual((statuses(camera.say(post())), len(self.images)), ([200], 1))


class ObserverTests(ReceiverCase):
    def test_function(self) -> None:
        """
        Each observer is called once for each image, until it is forgotten; what it raises costs nothing.
        """

        def fail(image: ReceivedImage) -> None:
            raise RuntimeError("broken")

        self.receiver.observe_images(fail)
        more: list[ReceivedImage] = []
        self.receiver.observe_images(more.append)
        self.receiver.observe_images(fail)
        self.accepted(post())
        self.assertEqual((len(more), len(self.flushLoggedErrors(RuntimeError))), (1, 1))
        self.receiver.forget_observer(fail)
        self.receiver.forget_observer(fail)
        self.accepted(post())
        self.assertEqual((len(more), self.flushLoggedErrors()), (2, []))

    def test_forgotten_meanwhile(self) -> None:
        """
        An observer may forget itself and add others.
        """

        def once(image: ReceivedImage) -> None:
            self.receiver.forget_observer(once)
            self.receiver.observe_images(later.append)

        later: list[ReceivedImage] = []
        self.receiver.observe_images(once)
        self.accepted(post("/a"))
        self.accepted(post("/b"))
        self.assertEqual([image.path for image in later], ["/b"])

    def test_coroutine(self) -> None:
        """
        An asynchronous observer gets one image after the other; what it raises is logged.
        """
        begun: list[str] = []
        waits: list[Deferred[None]] = []

        async def look(image: ReceivedImage) -> None:
            begun.append(image.path)
            waits.append(Deferred())
            await waits[-1]

        self.receiver.observe_images(look)
        for path in ("/a", "/b", "/c", "/d"):
            self.accepted(post(path))
        self.assertEqual(begun, ["/a"])
        waits[0].callback(None)
        waits[1].errback(RuntimeError("broken"))
        self.assertEqual(begun, ["/a", "/b", "/c"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.receiver.forget_observer(look)
        waits[2].callback(None)
        self.assertEqual(begun, ["/a", "/b", "/c"])

    def test_object(self) -> None:
        """
        So does an object that is called asynchronously.
        """
        seen: list[int] = []

        class Look:
            async def __call__(self, image: ReceivedImage) -> None:
                seen.append(image.sequence)

        look = Look()
        self.receiver.observe_images(look)
        self.accepted(post())
        self.receiver.forget_observer(look)
        self.accepted(post())
        self.assertEqual(seen, [1])

    def test_after_a_new_start(self) -> None:
        """
        Observers are called again when the receiver was stopped and is started again.
        """
        seen: list[int] = []

        async def look(image: ReceivedImage) -> None:
            seen.append(image.sequence)

        self.receiver.observe_images(look)
        self.successResultOf(self.receiver.stopService())
        self.receiver.startService()
        self.accepted(post())
        self.assertEqual(seen, [1])

    def test_tap(self) -> None:
        """
        A tap sees each image, until it is removed; what it raises is logged.
        """

        def fail(traffic: Traffic) -> None:
            raise RuntimeError("broken")

        seen: list[Traffic] = []
        self.receiver.add_tap(fail)
        self.receiver.add_tap(seen.append)
        image = self.accepted(post())
        self.receiver.remove_tap(seen.append)
        self.receiver.remove_tap(fail)
        self.accepted(post())
        self.assertEqual(seen, [Traffic("images", image.received_at, "in", SMALL_JPEG, image)])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class LatestTests(ReceiverCase):
    def test_latest(self) -> None:
        """
        The last image is known, of all and for each path.
        """
        self.assertIsNone(self.receiver.latest())
        first, second = self.accepted(post("/a?x=1")), self.accepted(post("/b"))
        self.assertIs(self.receiver.latest(), second)
        self.assertIs(self.receiver.latest("/a"), first)
        self.assertIsNone(self.receiver.latest("/c"))

    def test_many_paths(self) -> None:
        """
        For many paths, those to which nobody has posted for the longest time are forgotten.
        """
        for number in range(LATEST_LIMIT):
            self.accepted(post(f"/{number}"))
        self.accepted(post("/0"))
        self.accepted(post("/new"))
        known = [self.receiver.latest(path) is not None for path in ("/0", "/1", "/2", "/new")]
        self.assertEqual(known, [True, False, True, True])


class SubscriptionTests(ReceiverCase):
    def follow(self, limit: int = DEFAULT_LIMIT, count: int = 1000) -> tuple[list[int], Deferred[None]]:
        """Take so many images from a subscription; gives their numbers, and when that is over."""
        seen: list[int] = []

        async def take() -> None:
            async for image in self.receiver.images(limit=limit):
                seen.append(image.sequence)
                if len(seen) == count:
                    break

        return seen, Deferred.fromCoroutine(take())

    def test_several(self) -> None:
        """
        Each subscription gets all images from when it began; one that is left changes nothing for the others.
        """
        first, first_ended = self.follow()
        self.accepted(post())
        second, _ = self.follow()
        third, third_ended = self.follow(count=1)
        self.accepted(post())
        self.successResultOf(third_ended)
        self.accepted(post())
        self.assertEqual((first, second, third), ([1, 2, 3], [2, 3], [2]))
        self.successResultOf(self.receiver.stopService())
        self.successResultOf(first_ended)

    def test_end(self) -> None:
        """
        A subscription ends when the receiver is stopped, behind the images that it still has.
        """
        images = self.receiver.images()
        self.accepted(post())
        stopped = self.receiver.stopService()
        self.reactor.advance(1)
        self.successResultOf(stopped)
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(images.__anext__())).sequence, 1)
        self.failureResultOf(Deferred.fromCoroutine(images.__anext__()), StopAsyncIteration)

    def test_kept_by_nobody(self) -> None:
        """
        A coroutine that waits for images need not be kept by anybody.
        """
        seen, _ = self.follow()
        del _
        gc.collect()
        self.accepted(post())
        self.assertEqual(seen, [1])

    def test_disconnected(self) -> None:
        """
        A receiver that is only disconnected may come back: its subscriptions go on.
        """
        seen, ended = self.follow()
        self.successResultOf(self.receiver.disconnect())
        self.successResultOf(self.receiver.connect())
        self.accepted(post())
        self.assertNoResult(ended)
        self.assertEqual(seen, [1])


class FullCase(ReceiverCase):
    def setUp(self) -> None:
        super().setUp()
        self.slow: Any = self.receiver.images(limit=2)
        for _ in range(2):
            self.accepted(post())

    def take(self) -> int:
        """Take an image from the slow subscription."""
        image: ReceivedImage = self.successResultOf(Deferred.fromCoroutine(self.slow.__anext__()))
        return image.sequence


class WaitTests(FullCase):
    def test_wait(self) -> None:
        """
        Where a consumer has no room, cameras wait for their answers in the order in which they came.
        """
        cameras = [self.camera(), self.camera()]
        for camera, path in zip(cameras, ("/a", "/b"), strict=True):
            self.assertEqual(camera.say(post(path)), b"")
        self.assertEqual(len(self.images), 2)
        self.assertEqual((self.take(), statuses(cameras[0].heard()), cameras[1].heard()), (1, [200], b""))
        self.assertEqual((self.take(), statuses(cameras[1].heard())), (2, [200]))
        self.assertEqual([image.path for image in self.images[2:]], ["/a", "/b"])
        self.assertEqual((self.take(), self.take()), (3, 4))

    def test_too_long(self) -> None:
        """
        One that has waited as long as a request may take is answered 503.
        """
        camera = self.camera()
        camera.say(post())
        self.reactor.pump([5.0] * 5 + [4.9])
        self.assertEqual(camera.heard(), b"")
        self.reactor.advance(0.1)
        answer = camera.heard()
        self.check_refusal(answer, 503, FULL)
        self.assertIn(b"\r\nRetry-After: 1\r\n", answer)
        self.assertEqual((self.take(), len(self.images)), (1, 2))
        self.assertEqual(statuses(camera.say(post())), [200])

    def test_gone(self) -> None:
        """
        The image of one that has gone is forgotten.
        """
        camera, other = self.camera(), self.camera()
        camera.say(post("/gone"))
        other.say(post("/other"))
        camera.go()
        self.take()
        self.assertEqual([image.path for image in self.images[2:]], ["/other"])
        self.assertEqual(statuses(other.heard()), [200])

    def test_ended_its_side(self) -> None:
        """
        One that has sent all it had may end its side, and is still answered.
        """
        camera = self.camera()
        camera.say(post("/a"))
        camera.end()
        self.take()
        self.assertEqual((statuses(camera.heard()), camera.ended), ([200], ["close"]))

    def test_dropped(self) -> None:
        """
        Nobody waits for a consumer that is no more, or has had enough.
        """
        camera = self.camera()
        camera.say(post())
        self.slow = None
        gc.collect()
        self.assertEqual(statuses(camera.heard()), [200])
        self.slow = self.receiver.images(limit=1)
        camera.say(post())
        camera.say(post())
        self.successResultOf(Deferred.fromCoroutine(self.slow.aclose()))
        self.assertEqual((statuses(camera.heard()), len(self.images)), ([200], 5))

    def test_closed(self) -> None:
        """
        When the receiver is closed, those that wait are answered 503, and so is what they send behind it.
        """
        camera = self.camera()
        camera.say(post() + post())
        self.receiver.close()
        self.assertEqual(statuses(camera.heard()), [503, 503])
        self.receiver.open()
        self.assertEqual((self.take(), len(self.images)), (1, 2))

    def test_stopped(self) -> None:
        """
        So are they when it is stopped.
        """
        camera = self.camera()
        camera.say(post())
        stopped = self.receiver.stopService()
        self.assertEqual((statuses(camera.heard()), camera.ended), ([503], ["close"]))
        camera.go()
        self.successResultOf(stopped)

    def test_all_get_the_same_order(self) -> None:
        """
        Consumers that take from each other's calls still get images in their order.
        """
        seen: list[int] = []

        def greedy(image: ReceivedImage) -> None:
            # This makes room while an image is on its way to the consumers.
            if self.slow._items:
                self.take()

        self.receiver.observe_images(greedy)
        after = self.receiver.images()
        cameras = [self.camera() for _ in range(5)]
        for camera in cameras:
            camera.say(post())
        self.take()
        while after._items:
            seen.append(self.successResultOf(Deferred.fromCoroutine(after.__anext__())).sequence)
        self.assertEqual(seen, [3, 4, 5, 6, 7])
        self.assertEqual([statuses(camera.heard()) for camera in cameras], [[200]] * 5)


class RefuseTests(FullCase):
    options = {"when_full": "refuse"}

    def test_refuse(self) -> None:
        """
        Where a consumer has no room, the camera is answered 503 at once.
        """
        self.refused(post(), 503, FULL)
        self.take()
        self.accepted(post())


class DropOldestTests(FullCase):
    options = {"when_full": "drop-oldest"}

    def test_drop(self) -> None:
        """
        A consumer that has no room loses its oldest image, and only that one does.
        """
        other = self.receiver.images()
        self.accepted(post())
        self.assertEqual((self.slow.dropped, other.dropped, self.take(), self.take()), (1, 0, 2, 3))


class StoreTests(ReceiverCase):
    def setUp(self) -> None:
        self.root = Path(self.mktemp())
        self.options = {"store": self.root, "retention": Retention(max_files=2)}
        super().setUp()

    def test_stored(self) -> None:
        """
        Images are stored in a thread, and counted; stopping waits for that.
        """
        for _ in range(3):
            self.accepted(post())
        self.assertFalse(self.root.exists())
        stopped = self.receiver.stopService()
        self.reactor.advance(1)
        self.assertNoResult(stopped)
        self.reactor.pool.run()
        self.successResultOf(stopped)
        store = self.receiver.store
        assert store is not None
        files = sorted(path.name.rpartition("-")[2] for path in self.root.glob("camera1/*/*.jpg"))
        self.assertEqual((store.stored, files), (3, ["2.jpg", "3.jpg"]))

    def test_failure(self) -> None:
        """
        What goes wrong is the receiver's last error and is logged; images are received all the same.
        """
        self.root.write_text("a file")
        self.accepted(post())
        self.reactor.pool.run()
        self.assertEqual(
            str(self.receiver.last_error),
            f"image 1 of /camera1 cannot be stored in {self.root}: Not a directory",
        )
        self.assertIs(self.events[-1]["error"], self.receiver.last_error)
        self.root.unlink()
        self.accepted(post())
        self.reactor.pool.run()
        self.assertEqual(len(list(self.root.glob("camera1/*/*.jpg"))), 1)
        store = self.receiver.store
        assert store is not None
        self.assertEqual((store.stored, store.not_stored, self.receiver.state), (1, 1, State.READY))

    def test_slow_disk(self) -> None:
        """
        A disk that is slower than the cameras makes them wait.
        """
        for _ in range(DEFAULT_LIMIT + 1):
            self.accepted(post())
        camera = self.camera()
        self.assertEqual(camera.say(post()), b"")
        self.reactor.pool.waiting.pop(0)()
        self.assertEqual(statuses(camera.heard()), [200])
        self.reactor.pool.run()


class ForeignSiteTests(ReceiverCase):
    def setUp(self) -> None:
        super().setUp()
        root = Resource()
        root.putChild(b"in", self.receiver.resource())
        self.site = Site(root, reactor=self.reactor)

    def say(self, data: bytes, go: bool = True) -> Socket:
        """Post to the other site."""
        camera = Socket(self.receiver, factory=self.site)
        camera.server.dataReceived(data)
        if go:
            camera.go()
        return camera

    def test_accepted(self) -> None:
        """
        Another site may take images for the receiver, at any path below that of the resource, also when the receiver
        was never started.
        """
        answer = self.say(post("/in/camera1?a=b", SMALL_JPEG, "Authorization: Basic abc")).value()
        self.assertEqual(statuses(answer), [200])
        (image,) = self.images
        self.assertEqual((image.path, image.query, image.peer), ("/in/camera1", "a=b", "10.0.0.9:50000"))
        self.assertEqual(dict(image.headers), {"content-length": "38"})
        receiver = self.new_receiver()
        self.site.resource.putChild(b"other", receiver.resource())
        self.assertEqual((statuses(self.say(post("/other")).value()), receiver.received), ([200], 1))

    def test_refused(self) -> None:
        """
        Refusals are the same there.
        """
        answer = self.say(b"GET /in HTTP/1.1\r\n\r\n").value()
        self.assertIn(b"\r\nAllow: POST, PUT\r\n", answer)
        self.check_refusal(answer, 405, "images are posted here: POST or PUT")
        answer = self.say(post("/in", b"hello")).value()
        self.check_refusal(
            answer, 422, "not a whole image: it begins with b'hello', neither as a JPEG nor as a PNG image"
        )
        self.assertEqual(statuses(self.say(b"POST /in HTTP/1.1\r\n\r\n").value()), [411])
        self.receiver.close()
        self.check_refusal(self.say(post("/in")).value(), 503, CLOSED)

    def test_wait(self) -> None:
        """
        A camera waits for room there as well, and is forgotten when it goes.
        """
        slow = self.receiver.images(limit=1)
        self.assertEqual(statuses(self.say(post("/in/a")).value()), [200])
        first, second = self.say(post("/in/b"), go=False), self.say(post("/in/c"), go=False)
        first.go()
        self.successResultOf(Deferred.fromCoroutine(slow.__anext__()))
        self.assertEqual((statuses(second.value()), self.images[-1].path), ([200], "/in/c"))
        second.go()


class ServiceTests(ReceiverCase):
    def test_interface(self) -> None:
        """
        It is a connection like others.
        """
        self.assertTrue(IConnection.providedBy(self.receiver))
        self.assertEqual((self.receiver.kind, self.receiver.name), ("jpeg-receiver", "images"))
        self.assertEqual(repr(self.receiver), "<JpegReceiver 'images' ready>")

    def test_nothing_while_it_stops(self) -> None:
        """
        An image that comes while it stops is answered 503: nobody would see it.
        """
        camera = self.camera()
        closing: Deferred[None] = Deferred()
        self.patch(type(self.receiver._port), "stopListening", lambda port: closing)
        stopped = self.receiver.stopService()
        self.assertEqual((statuses(camera.say(post())), self.images), ([503], []))
        closing.callback(None)
        camera.go()
        self.successResultOf(stopped)

    def test_connected_in_any_order(self) -> None:
        """
        It may be disconnected and connected in any order, quickly, and before it is started; it receives afterwards.
        """
        self.receiver = receiver = self.new_receiver()
        receiver.observe_images(self.images.append)
        self.successResultOf(receiver.disconnect())
        self.successResultOf(receiver.connect())
        self.accepted(post())
        camera = self.camera()
        closed, ready = receiver.disconnect(), receiver.connect()
        self.assertNoResult(ready)
        camera.go()
        self.successResultOf(closed)
        self.successResultOf(ready)
        self.accepted(post())
        self.successResultOf(receiver.disconnect())
        self.assertIs(receiver.state, State.STOPPED)
