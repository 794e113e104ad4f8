from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from equipnet.connection.retry import RetryPolicy
from equipnet.connection.state import State
from equipnet.errors import (
    ConnectFailed,
    ConnectionLost,
    Disconnected,
    EquipmentTimeout,
    LocalProtocolError,
    NotConnected,
    QueueFull,
    RemoteProtocolError,
)
from equipnet.http.client import HttpStatus
from equipnet.prediction.automl import AutoMLModel
from tests.http.doubles import URL, Network, Socket

HEARTBEAT = b"GET /v1/models/default HTTP/1.1\r\n"


def answer_about(key: str) -> bytes:
    """Give an answer in which one loop was found."""
    found = {
        "key": key,
        "detection_scores": [0.75],
        "detection_classes_as_text": ["nylon"],
        "detection_classes": [1.0],
        "detection_boxes": [[0.1, 0.2, 0.3, 0.4]],
    }
    return json.dumps({"predictions": [found]}).encode()


class ModelTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = Network()

    def ready(self, **options: Any) -> AutoMLModel:
        """Make a model that is READY; its socket is ``self.socket``."""
        options = {"retry": RetryPolicy.fixed(1.0), **options}
        self.model = model = AutoMLModel(URL, name="voltron", reactor=self.network.reactor, **options)
        self.addCleanup(self.assert_clean)
        connected = model.connect()
        self.socket = self.network.accept()
        self.assertTrue(self.socket.asked().startswith(HEARTBEAT))
        self.socket.answer(b'{"model_version_status": []}')
        self.successResultOf(connected)
        return model

    def assert_clean(self) -> None:
        """Nothing is left open or scheduled after a disconnection."""
        closed = self.model.disconnect()
        self.network.turn()
        self.successResultOf(closed)
        self.assertEqual(self.network.reactor.getDelayedCalls(), [])
        self.assertEqual([socket for socket in self.network.sockets if socket.ended is None], [])

    def key_asked(self, socket: Socket) -> str:
        """Give the key that a request on a socket is about."""
        key: str = json.loads(socket.asked().partition(b"\r\n\r\n")[2])["instances"][0]["key"]
        return key


class PredictTests(ModelTestCase):
    def test_request(self) -> None:
        """
        A request is the one that pydhsfw makes, and its answer is what was found.
        """
        asked = self.ready().predict("1:2:3", b"\xff\xd8\xff\xd9")
        head, _, body = self.socket.asked().partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"POST /v1/models/default:predict HTTP/1.1\r\n"))
        self.assertIn(b"\r\nContent-Type: application/json", head)
        self.assertEqual(
            json.loads(body),
            {
                "instances": [{"image_bytes": {"b64": "/9j/2Q=="}, "key": "1:2:3"}],
                "params": [{"max_bounding_box_count": "10"}],
            },
        )
        self.socket.answer(answer_about("1:2:3"))
        prediction = self.successResultOf(asked)
        assert prediction.loop is not None
        self.assertEqual((prediction.key, prediction.loop.score), ("1:2:3", 0.75))

    def test_settings(self) -> None:
        """
        The model's name and the number of boxes are what was said.
        """
        self.ready(model="loops.2", max_boxes=3, probe_path="/v1/models/default").predict("a", b"x").addErrback(
            lambda _: None
        )
        asked = self.socket.asked()
        self.assertTrue(asked.startswith(b"POST /v1/models/loops.2:predict "))
        self.assertIn(b'"max_bounding_box_count":"3"', asked)
        for wrong in ({"model": "a/b"}, {"model": ""}, {"max_boxes": 0}):
            self.assertRaises(ValueError, AutoMLModel, URL, reactor=self.network.reactor, **wrong)

    def test_own_answers(self) -> None:
        """
        Twenty images are asked about at once, and each answer belongs to its own request, in whatever order they come.
        """
        model = self.ready(max_requests=20)
        asked = {f"key {number}": model.predict(f"key {number}", b"image") for number in range(20)}
        sockets = [self.socket, *(self.network.accept() for _ in range(19))]
        for socket in reversed(sockets):
            socket.answer(answer_about(self.key_asked(socket)))
        for key, prediction in asked.items():
            self.assertEqual(self.successResultOf(prediction).key, key)

    def test_limit(self) -> None:
        """
        More than the limit wait for their turn, and more than may wait are refused.
        """
        model = self.ready(max_requests=1, queue_limit=1)
        asked = [model.predict(key, b"image") for key in "abc"]
        self.failureResultOf(asked[2], QueueFull)
        for key, prediction in zip("ab", asked, strict=False):
            self.assertEqual(self.key_asked(self.socket), key)
            self.socket.answer(answer_about(key))
            self.assertEqual(self.successResultOf(prediction).key, key)

    def test_empty_image(self) -> None:
        """
        Nothing is asked about an image that is none.
        """
        self.failureResultOf(self.ready().predict("a", b""), LocalProtocolError)
        self.assertEqual(self.socket.asked(), b"")


class FaultTests(ModelTestCase):
    def test_another_key(self) -> None:
        """
        An answer about another image fails the request that it came to, and no other.
        """
        model = self.ready()
        bad, good = model.predict("a", b"image"), model.predict("b", b"image")
        self.socket.answer(answer_about("c"))
        self.network.accept().answer(answer_about("b"))
        error = self.failureResultOf(bad, RemoteProtocolError).value
        self.assertEqual(str(error), "voltron was asked about 'a' and answers about 'c'")
        self.successResultOf(good)

    def test_not_understood(self) -> None:
        """
        So does an answer that is text, has NaN in it, or an empty list; the error says where.
        """
        model = self.ready()
        for answer, words in (
            (b"out of memory", "voltron, about 'a': the answer is no JSON: "),
            (
                answer_about("a").replace(b"0.75", b"NaN"),
                "predictions[0].detection_scores[0] is nan, not a number from 0",
            ),
            (b'{"predictions": []}', "voltron, about 'a': predictions has 0 entries, not 1"),
            (answer_about("a")[:-10], "voltron, about 'a': the answer is no JSON: "),
            (
                answer_about("a").replace(b"boxes", b"bixes"),
                "predictions[0].detection_boxes is missing; there is key, ",
            ),
        ):
            with self.subTest(answer=answer):
                asked = model.predict("a", b"image")
                self.socket.answer(answer)
                self.assertIn(words, str(self.failureResultOf(asked, RemoteProtocolError).value))
        self.assertIs(model.state, State.READY)

    def test_status(self) -> None:
        """
        An error of the server's has its number, and what the server says.
        """
        asked = self.ready().predict("a", b"image")
        self.socket.answer(b'{"error": "no such model"}', b"404 Not Found")
        error = self.failureResultOf(asked, HttpStatus).value
        self.assertEqual(error.status, 404)
        self.assertIn('404 Not Found: {"error": "no such model"}', str(error))

    def test_dead_server(self) -> None:
        """
        A server that dies fails the requests that were made to it; when it is back everything works as before.
        """
        model = self.ready()
        asked = [model.predict(key, b"image") for key in "ab"]
        sockets = [self.socket, self.network.accept()]
        for socket in sockets:
            socket.close()
        self.network.turn()
        # What was asked over the socket of the probe is asked again: that may have been closed for long.
        while self.network.attempts:
            self.network.refuse()
        self.failureResultOf(asked[0], ConnectFailed)
        self.failureResultOf(asked[1], ConnectionLost)
        self.failureResultOf(model.predict("c", b"image"), NotConnected)
        self.network.turn(1)
        self.socket = self.network.accept()
        self.socket.answer(b"{}")
        self.assertIs(model.state, State.READY)
        again = model.predict("d", b"image")
        self.socket.answer(answer_about("d"))
        self.assertEqual(self.successResultOf(again).key, "d")

    def test_hung_server(self) -> None:
        """
        A server that does not answer one request is late with that one only.
        """
        model = self.ready(answer_timeout=2.0)
        hung, good = model.predict("hung", b"image"), model.predict("good", b"image")
        second = self.network.accept()
        second.asked()
        second.answer(answer_about("good"))
        self.successResultOf(good)
        self.network.turn(2)
        self.assertIn(
            "waiting for the answer to POST /v1/models/default:predict",
            str(self.failureResultOf(hung, EquipmentTimeout).value),
        )
        self.assertTrue(second.asked().startswith(HEARTBEAT))
        second.answer(b"{}")
        self.assertIs(model.state, State.READY)

    def test_disconnect(self) -> None:
        """
        A request that is under way fails when our side disconnects.
        """
        model = self.ready()
        asked = model.predict("a", b"image")
        model.disconnect()
        self.failureResultOf(asked, Disconnected)
