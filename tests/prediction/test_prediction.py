from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from equipnet.errors import RemoteProtocolError
from equipnet.prediction.prediction import Box, Detection, decode_answer, encode_request

# In the form of a model that was trained with AutoML Vision and exported to TensorFlow Serving.
ANSWER = (
    b'{"predictions": [{"key": "1:2:3", "detection_scores": [0.25, 0.97, 0.9],'
    b' "detection_classes_as_text": ["pin", "nylon", "pin"], "detection_classes": [3.0, 1.0, 3.0],'
    b' "detection_boxes": [[0.0, 0.0, 0.0, 0.0], [0.25, 0.375, 0.5, 0.625], [0.5, 0.0, 0.625, 1]],'
    b' "image_info": [1, 2], "num_detections": 3.0}]}'
)


class RequestTests(SynchronousTestCase):
    def test_as_pydhsfw(self) -> None:
        """
        A request is the object that pydhsfw sends.
        """
        self.assertEqual(
            encode_request("1:2:3", b"\xff\xd8\xff\xd9", 10),
            b'{"instances":[{"image_bytes":{"b64":"/9j/2Q=="},"key":"1:2:3"}],"params":[{"max_bounding_box_count":"10"}]}',
        )

    @given(st.text(), st.binary())
    def test_anything(self, key: str, image: bytes) -> None:
        """
        Whatever the key and the image, it is JSON that says so.
        """
        said = json.loads(encode_request(key, image, 3))
        (instance,) = said["instances"]
        self.assertEqual((instance["key"], base64.b64decode(instance["image_bytes"]["b64"])), (key, image))


class AnswerTests(SynchronousTestCase):
    def test_detections(self) -> None:
        """
        What was found is there, the surest first.
        """
        prediction = decode_answer(ANSWER)
        nylon = Detection(0.97, "nylon", 1, Box(0.25, 0.375, 0.5, 0.625))
        pin = Detection(0.9, "pin", 3, Box(0.5, 0.0, 0.625, 1.0))
        nothing = Detection(0.25, "pin", 3, Box(0.0, 0.0, 0.0, 0.0))
        self.assertEqual(prediction.key, "1:2:3")
        self.assertEqual(prediction.detections, (nylon, pin, nothing))
        self.assertEqual((prediction.top, prediction.loop, prediction.pin), (nylon, nylon, pin))
        self.assertEqual([prediction.get_score(n) for n in range(3)], [0.97, 0.9, 0.25])
        self.assertRaises(IndexError, prediction.get_score, 3)
        self.assertIsNone(prediction.best("mitegen"))

    def test_nothing(self) -> None:
        """
        A model that found nothing says so, and that is no error.
        """
        names = ("detection_scores", "detection_classes_as_text", "detection_classes", "detection_boxes")
        answer = {"predictions": [{"key": "a", **{name: [] for name in names}}]}
        prediction = decode_answer(json.dumps(answer).encode())
        self.assertEqual((prediction.top, prediction.loop, prediction.pin), (None, None, None))

    def changed(self, *path: Any, value: Any = None) -> bytes:
        """Give the answer with another value at a place, or without that place."""
        answer = json.loads(ANSWER)
        inner = answer
        for step in path[:-1]:
            inner = inner[step]
        if value is None:
            del inner[path[-1]]
        else:
            inner[path[-1]] = value
        return json.dumps(answer).encode()

    def refused(self, answer: bytes, words: str) -> None:
        self.assertIn(words, str(self.assertRaises(RemoteProtocolError, decode_answer, answer)))

    def test_not_json(self) -> None:
        """
        What is no JSON is refused, and so is JSON that is something else.
        """
        for answer, words in (
            (b"", "the answer is no JSON: "),
            (b"<html>", "the answer is no JSON: "),
            (b"\xff", "the answer is no JSON: "),
            (ANSWER[:-5], "the answer is no JSON: "),
            (b"[" * 100_000, "the answer is no JSON: "),
            (b"[]", "the answer is [], not an object"),
            (b'"text"', "the answer is 'text', not an object"),
            (b"NaN", "the answer is nan, not an object"),
            (b'{"error": "no model"}', "predictions is missing; there is error"),
            (b"{}", "predictions is missing; there is nothing"),
            (b'{"predictions": {}}', "predictions is an object, not a list"),
            (b'{"predictions": []}', "predictions has 0 entries, not 1"),
            (b'{"predictions": [1, 2]}', "predictions has 2 entries, not 1"),
            (b'{"predictions": [1]}', "predictions[0] is 1, not an object"),
        ):
            with self.subTest(answer=answer):
                self.refused(answer, words)

    def test_missing(self) -> None:
        """
        What is missing is named, with its place.
        """
        for name in ("key", "detection_scores", "detection_classes_as_text", "detection_classes", "detection_boxes"):
            with self.subTest(name=name):
                self.refused(self.changed("predictions", 0, name), f"predictions[0].{name} is missing; there is ")

    def test_wrong(self) -> None:
        """
        So is what is wrong.
        """
        for name, value, words in (
            ("key", 3, "key is 3, not a text"),
            ("detection_scores", "none", "detection_scores is 'none', not a list"),
            ("detection_scores", [0.5], "detection_classes_as_text has 3 entries, but detection_scores has 1"),
            ("detection_boxes", [], "detection_boxes has 0 entries, but detection_scores has 3"),
            ("detection_scores", [0.5, float("nan"), 0.5], "detection_scores[1] is nan, not a number from 0 to 1"),
            ("detection_scores", [0.5, "0.5", 0.5], "detection_scores[1] is '0.5', not a number from 0 to 1"),
            ("detection_scores", [1.5, 0.5, 0.5], "detection_scores[0] is 1.5, not a number from 0 to 1"),
            ("detection_scores", [True, 0.5, 0.5], "detection_scores[0] is True, not a number from 0 to 1"),
            ("detection_scores", [10**400, 0, 0], "detection_scores[0] is 1000"),
            ("detection_classes_as_text", ["a", "b", 3], "detection_classes_as_text[2] is 3, not a text"),
            ("detection_classes", [1, 2, 2.5], "detection_classes[2] is 2.5, not the number of a class"),
            ("detection_classes", [1, 2, "3"], "detection_classes[2] is '3', not the number of a class"),
            ("detection_classes", [1, 2, float("inf")], "detection_classes[2] is inf, not the number of a class"),
            ("detection_classes", [-1, 2, 3], "detection_classes[0] is -1, not the number of a class"),
        ):
            with self.subTest(name=name, value=value):
                self.refused(self.changed("predictions", 0, name, value=value), f"predictions[0].{words}")

    def test_boxes(self) -> None:
        """
        A box has four sides within the image, and is not inside out.
        """
        for box, words in (
            ([0, 0, 1], "detection_boxes[1] has 3 entries, not 4"),
            ("box", "detection_boxes[1] is 'box', not a list"),
            ([0, 0, 1, 1.01], "detection_boxes[1][3] is 1.01, not a number from 0 to 1"),
            ([-0.01, 0, 1, 1], "detection_boxes[1][0] is -0.01, not a number from 0 to 1"),
            ([0, float("nan"), 1, 1], "detection_boxes[1][1] is nan, not a number from 0 to 1"),
            ([0.5, 0, 0.4, 1], "detection_boxes[1] is [0.5, 0.0, 0.4, 1.0], not [min_y, min_x, max_y, max_x]"),
            ([0, 0.5, 1, 0.4], "detection_boxes[1] is [0.0, 0.5, 1.0, 0.4], not [min_y, min_x, max_y, max_x]"),
        ):
            with self.subTest(box=box):
                answer = self.changed("predictions", 0, "detection_boxes", 1, value=box)
                self.refused(answer, f"predictions[0].{words}")

    @given(st.data())
    def test_anything(self, data: st.DataObject) -> None:
        """
        Whatever stands in the place of anything, an answer is understood or refused.
        """
        anything = st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=3
        )
        name = data.draw(st.sampled_from(list(json.loads(ANSWER)["predictions"][0])))
        answer = json.loads(ANSWER)
        answer["predictions"][0][name] = data.draw(anything)
        with contextlib.suppress(RemoteProtocolError):
            decode_answer(json.dumps(answer).encode())
