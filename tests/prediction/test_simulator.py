"""
Tests for `equipnet.prediction.simulator`. The request is that of pydhsfw's ``AutoMLPredictRequest``, the answers have
the form of Google's container for AutoML Vision Edge, and of TensorFlow Serving.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from equipnet.imaging.drawing import LoopDrawing
from equipnet.prediction.simulator import AutoMLFault, SimulatedAutoML

from ..imaging.doubles import Client, ThreadlessReactor, parts_of

PREDICT = b"/v1/models/default:predict"
PICTURE = LoopDrawing(1).draw(30)
JPEG = PICTURE.encode()


def request(*keys: str, image: bytes = JPEG, count: object = "10") -> bytes:
    """Give the body of a request as pydhsfw sends it, but for the number of instances."""
    instances = [{"image_bytes": {"b64": base64.b64encode(image).decode()}, "key": key} for key in keys]
    return json.dumps({"instances": instances, "params": [{"max_bounding_box_count": count}]}).encode()


class ModelTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = ThreadlessReactor()

    def model(self, **settings: Any) -> SimulatedAutoML:
        """Give a model that is on."""
        model = SimulatedAutoML(reactor=self.clock, **settings)
        self.successResultOf(model.connect())
        return model

    def post(self, client: Client, body: bytes, target: bytes = PREDICT) -> tuple[int, bytes, bytes]:
        """Give the status, the head and the body of the answer to a request."""
        head = b"POST %s HTTP/1.1\r\nHost: voltron\r\nContent-Type: application/json\r\n" % target
        return parts_of(client.ask(head + b"Content-Length: %d\r\n\r\n" % len(body) + body))

    def predicted(self, client: Client, body: bytes) -> list[dict[str, Any]]:
        """Give the predictions in a good answer."""
        status, head, answer = self.post(client, body)
        self.assertEqual(status, 200, answer)
        self.assertIn(b"\r\ncontent-type: application/json\r\n", head.lower())
        predictions: list[dict[str, Any]] = json.loads(answer)["predictions"]
        return predictions


class PredictTests(ModelTestCase):
    def test_form(self) -> None:
        """
        A prediction has the key of its picture, and for each thing a score, a class, its name, and a box.
        """
        model = self.model()
        (prediction,) = self.predicted(Client(model), request("getLoopTip:1.1:0"))
        loop, pin = prediction.pop("detection_boxes")
        for box, truth in ((loop, PICTURE.truth.loop), (pin, PICTURE.truth.pin)):
            for found, true, size in zip(box, truth, (480, 704, 480, 704), strict=True):
                self.assertLess(abs(found - true) * size, 3)
        score = prediction["detection_scores"][0]
        self.assertTrue(0.9 < score < 1)
        rest = round(1 - score, 6)
        self.assertEqual(prediction, {
            "key": "getLoopTip:1.1:0",
            "num_detections": 2.0,
            "detection_scores": [score, score],
            "detection_classes": [1.0, 3.0],
            "detection_classes_as_text": ["nylon", "pin"],
            "detection_multiclass_scores": [[rest, score, 0.0, 0.0], [rest, 0.0, 0.0, score]],
            "image_info": [480, 704, 1, 0, 480, 704],
        })  # fmt: skip
        self.assertEqual(model.predicted, 1)

    def test_several(self) -> None:
        """
        Several pictures in one request have a prediction each, in their order.
        """
        model = self.model()
        predictions = self.predicted(Client(model), request("a", "b", "c"))
        self.assertEqual([each["key"] for each in predictions], ["a", "b", "c"])
        self.assertEqual(model.predicted, 3)

    def test_count(self) -> None:
        """
        There are no more boxes than asked for, whether that is a text or a number, in a list or not at all.
        """
        client = Client(self.model())
        for count, boxes in (("1", 1), (1, 1), ("2", 2), (100, 2)):
            (prediction,) = self.predicted(client, request("a", count=count))
            self.assertEqual(len(prediction["detection_boxes"]), boxes)
            self.assertEqual(len(prediction["detection_classes_as_text"]), boxes)
        body = json.loads(request("a"))
        body["params"] = {"max_bounding_box_count": "1"}
        self.assertEqual(len(self.predicted(client, json.dumps(body).encode())[0]["detection_boxes"]), 1)
        del body["params"]
        self.assertEqual(len(self.predicted(client, json.dumps(body).encode())[0]["detection_boxes"]), 2)

    def test_nothing(self) -> None:
        """
        Where there is no loop, the lists are empty.
        """
        empty = (LoopDrawing(1).draw(0).pixels[:, 500:]).copy()
        picture = type(PICTURE)(0, empty, PICTURE.truth)
        (prediction,) = self.predicted(Client(self.model()), request("a", image=picture.encode()))
        self.assertEqual((prediction["detection_boxes"], prediction["num_detections"]), ([], 0))

    def test_malformed(self) -> None:
        """
        What is wrong with a request is told, and the connection is kept.
        """
        client = Client(self.model())

        def instance(**values: object) -> bytes:
            return json.dumps({"instances": [{"key": "a", "image_bytes": {"b64": ""}} | values]}).encode()

        for body, said in (
            (b"", "JSON Parse error"),
            (b"[" * 100000, "JSON Parse error"),
            (b"\xff\xfe\x00", "JSON Parse error"),
            (b"[]", "instances is missing"),
            (b"{}", "instances is missing"),
            (b'{"instances": []}', "instances is missing"),
            (b'{"instances": ["a"]}', "instances[0] is no table"),
            (instance(key=7), "instances[0].key is missing, or no text"),
            (instance(image_bytes="abc"), "instances[0].image_bytes.b64 is missing"),
            (instance(image_bytes={"b64": "a*b="}), "instances[0].image_bytes.b64 is no base64"),
            (instance(), "the picture 'a' cannot be used: it is neither a JPEG nor a PNG"),
            (request("a", image=JPEG[:4000]), "the picture 'a' cannot be used: the picture is damaged"),
            (request("a", count="many"), "max_bounding_box_count is 'many'"),
            (request("a", count=0), "max_bounding_box_count is 0"),
            (request("a")[:-1] + b', "params": 7}', "params is neither"),
        ):
            status, _, answer = self.post(client, body)
            self.assertEqual(status, 400, said)
            self.assertIn(said, json.loads(answer)["error"])

    def test_too_long(self) -> None:
        """
        A body over the limit is refused.
        """
        client = Client(self.model(max_size=1000))
        self.assertEqual(self.post(client, request("a"))[0], 413)


class StatusTests(ModelTestCase):
    def test_there(self) -> None:
        """
        A model tells that it is there, as the heartbeat asks for.
        """
        status, _, answer = Client(self.model()).get(b"/v1/models/default")
        self.assertEqual(status, 200)
        self.assertEqual(json.loads(answer), {
            "model_version_status": [
                {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
            ]
        })  # fmt: skip

    def test_not_there(self) -> None:
        """
        Other models, other addresses and other methods are not there.
        """
        client = Client(self.model(model="loops"))
        for target, status in (
            (b"/v1/models/loops", 200), (b"/v1/models/default", 404), (b"/v1/models/loops:classify", 404),
            (b"/", 404), (b"/v1/models/loops:predict", 405),
        ):  # fmt: skip
            self.assertEqual(client.get(target)[0], status)
        self.assertEqual(self.post(client, request("a"))[0], 404)
        self.assertEqual(self.post(client, request("a"), b"/v1/models/loops")[0], 405)

    def test_wrong_name(self) -> None:
        """
        A name that could not be asked for is refused.
        """
        for model in ("", "a/b", "a:b"):
            self.assertRaises(ValueError, SimulatedAutoML, model=model, reactor=self.clock)


class FaultTests(ModelTestCase):
    def test_answers(self) -> None:
        """
        An answer can be an error, no JSON, empty, for another key, without numbers or boxes; then all is well.
        """
        model = self.model()
        client = Client(model)
        for fault in ("garbage", "nothing", "wrong_key", "nan", "partial"):
            model.inject(AutoMLFault(**{fault: True}), 1)
        model.inject(AutoMLFault(status=500), 1)
        self.assertEqual(self.post(client, request("a"))[::2], (200, b"this is no JSON\n"))
        (empty,), (other,), (nan,), (partial,) = (self.predicted(client, request("a")) for _ in range(4))
        self.assertEqual((empty["key"], empty["detection_boxes"]), ("a", []))
        self.assertEqual(other["key"], "not a")
        self.assertEqual([str(score) for score in nan["detection_scores"]], ["nan", "nan"])
        self.assertNotIn("detection_boxes", partial)
        self.assertEqual(self.post(client, request("a"))[::2], (500, b'{"error": "it is simulated so"}'))
        self.assertEqual(len(self.predicted(client, request("a"))[0]["detection_boxes"]), 2)

    def test_nan(self) -> None:
        """
        NaN stands in the answer as it does in those of careless programs.
        """
        answer = self.post(Client(self.model(fault=AutoMLFault(nan=True))), request("a"))[2]
        self.assertIn(b'"detection_scores": [NaN, NaN]', answer)

    def test_delay(self) -> None:
        """
        An answer can be late; nothing happens to a client that does not wait for it.
        """
        model = self.model(fault=AutoMLFault(delay=2))
        client, other = Client(model), Client(model)
        body = request("a")
        for each in (client, other):
            head = b"POST %s HTTP/1.1\r\nHost: voltron\r\nContent-Length: %d\r\n\r\n" % (PREDICT, len(body))
            self.assertEqual(each.ask(head + body), b"")
        other.server.connectionLost()
        self.clock.advance(2)
        self.assertEqual(parts_of(client.said())[0], 200)
        self.assertEqual(other.said(), b"")

    def test_close(self) -> None:
        """
        The connection can be closed in the middle of the answer.
        """
        client = Client(self.model(fault=AutoMLFault(close=True)))
        _, _, answer = self.post(client, request("a"))
        self.assertTrue(client.disconnecting)
        self.assertRaises(ValueError, json.loads, answer)

    def test_clear(self) -> None:
        """
        A fault without a number stays until the faults are cleared.
        """
        model = self.model(fault=AutoMLFault(status=503))
        client = Client(model)
        self.assertEqual([self.post(client, request("a"))[0] for _ in range(3)], [503] * 3)
        model.clear_faults()
        self.assertEqual(self.post(client, request("a"))[0], 200)

    def test_wrong(self) -> None:
        """
        A fault that is none, or cannot be, is refused.
        """
        for settings in ({}, {"delay": -1}, {"status": 200}, {"nan": True, "partial": True}):
            self.assertRaises(ValueError, AutoMLFault, **settings)
        self.assertRaises(ValueError, self.model().inject, AutoMLFault(nan=True), 0)
