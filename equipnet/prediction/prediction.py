"""
What an AutoML model is asked and what it answers, as JSON: the object detection of TensorFlow Serving.

The request is the one that pydhsfw sends; the answer is that of a model trained with AutoML Vision and exported.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from equipnet.errors import RemoteProtocolError

#: What a model of loops calls them, and what it calls the pin below.
LOOPS, PIN = ("nylon", "mitegen", "loop"), "pin"


class Box(NamedTuple):
    """
    Where something is in an image, as fractions of its height and width from the upper left corner on.

    Parameters
    ----------
    min_y, min_x, max_y, max_x
        0 to 1.
    """

    min_y: float
    min_x: float
    max_y: float
    max_x: float


@dataclass(frozen=True)
class Detection:
    """
    One thing that a model found.

    Parameters
    ----------
    score
        How sure it is, 0 to 1.
    label
        What it is.
    class_number
        The label's number in the model.
    box
        Where it is.
    """

    score: float
    label: str
    class_number: int
    box: Box


@dataclass(frozen=True)
class Prediction:
    """
    What a model found in one image.

    Parameters
    ----------
    key
        The image's key.
    detections
        What was found, the surest first; nothing where nothing was.
    """

    key: str
    detections: tuple[Detection, ...]

    @property
    def top(self) -> Detection | None:
        """What the model is surest of; None where it found nothing."""
        return self.detections[0] if self.detections else None

    @property
    def loop(self) -> Detection | None:
        """The surest loop, of whatever sort."""
        return self.best(*LOOPS)

    @property
    def pin(self) -> Detection | None:
        """The surest pin."""
        return self.best(PIN)

    def best(self, *labels: str) -> Detection | None:
        """Give the surest detection with one of these labels; None where there is none."""
        return next((each for each in self.detections if each.label in labels), None)

    def get_score(self, n: int) -> float:
        """
        Give the score of a detection.

        Parameters
        ----------
        n
            Its place, from 0 on.

        Raises
        ------
        IndexError
            When so many were not found.
        """
        return self.detections[n].score


def encode_request(key: str, image: bytes, max_boxes: int) -> bytes:
    """Give the body of a request about one image; no more than ``max_boxes`` things are asked for."""
    # Put together here: an encoder would look at each of the million characters of the image.
    return b"".join(
        (
            b'{"instances":[{"image_bytes":{"b64":"',
            base64.b64encode(image),
            b'"},"key":',
            json.dumps(key).encode(),
            b'}],"params":[{"max_bounding_box_count":"',
            str(max_boxes).encode(),
            b'"}]}',
        )
    )


def decode_answer(data: bytes) -> Prediction:
    """
    Give what an answer about one image says.

    Raises
    ------
    RemoteProtocolError
        When it is not of that form; the text says what is missing or wrong, and where.
    """
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"the answer is no JSON: {error}", data[:60]) from error
    (prediction,) = _list(_get(answer, "", "predictions"), "predictions", 1)
    where = "predictions[0]"
    key = _get(prediction, where, "key")
    if not isinstance(key, str):
        raise _wrong(f"{where}.key", key, "a text")
    names = ("detection_scores", "detection_classes_as_text", "detection_classes", "detection_boxes")
    columns = [_list(_get(prediction, where, name), f"{where}.{name}") for name in names]
    for name, column in zip(names, columns, strict=True):
        if len(column) != len(columns[0]):
            raise RemoteProtocolError(f"{where}.{name} has {len(column)} entries, but {names[0]} has {len(columns[0])}")
    detections = [_detection(where, names, number, row) for number, row in enumerate(zip(*columns, strict=True))]
    detections.sort(key=lambda each: each.score, reverse=True)
    return Prediction(key, tuple(detections))


def _detection(where: str, names: tuple[str, ...], number: int, row: tuple[Any, ...]) -> Detection:
    at_score, at_label, at_class, at_box = (f"{where}.{name}[{number}]" for name in names)
    score, label, class_number, sides = row
    _fraction(score, at_score)
    if not isinstance(label, str):
        raise _wrong(at_label, label, "a text")
    # TensorFlow Serving writes it as a float.
    if not _is_number(class_number) or not 0 <= class_number < 1 << 31 or class_number != int(class_number):
        raise _wrong(at_class, class_number, "the number of a class")
    sides = [_fraction(side, f"{at_box}[{n}]") for n, side in enumerate(_list(sides, at_box, 4))]
    if sides[0] > sides[2] or sides[1] > sides[3]:
        raise _wrong(at_box, sides, "[min_y, min_x, max_y, max_x]")
    return Detection(float(score), label, int(class_number), Box(*sides))


def _get(value: Any, where: str, name: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(where or "the answer", value, "an object")
    if name not in value:
        raise RemoteProtocolError(f"{where + '.' if where else ''}{name} is missing; there is {_names(value)}")
    return value[name]


def _names(value: dict[str, Any]) -> str:
    return ", ".join(value)[:200] or "nothing"


def _list(value: Any, where: str, length: int | None = None) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(where, value, "a list")
    if length is not None and len(value) != length:
        raise RemoteProtocolError(f"{where} has {len(value)} entries, not {length}")
    return value


def _fraction(value: Any, where: str) -> float:
    # NaN is not between any numbers.
    if not _is_number(value) or not 0 <= value <= 1:
        raise _wrong(where, value, "a number from 0 to 1")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _wrong(where: str, value: Any, wanted: str) -> RemoteProtocolError:
    shown = "an object" if isinstance(value, dict) else repr(value)[:60]
    return RemoteProtocolError(f"{where} is {shown}, not {wanted}")
