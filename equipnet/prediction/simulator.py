"""
A simulated AutoML model behind HTTP: it finds the nylon loop and the pin in the pictures that it is sent by really
looking, and answers as Google's container for AutoML Vision Edge does, with faults on request::

    model = SimulatedAutoML("tcp:5000")
    await model.connect()

A real container fills its lists up with guesses of low scores; this one tells only what it has found.
"""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from typing import Any

from twisted.internet.threads import deferToThreadPool
from typing_extensions import Unpack

from equipnet.connection.address import Address
from equipnet.http.channel import BodyRequest
from equipnet.http.simulator import HttpFault, Pages, PortSettings, SimulatedServer, send
from equipnet.prediction.vision import find_loop, read_picture

#: What the model tells apart; a class's number is its place, counted from 1, since 0 is the background's.
CLASSES = ("nylon", "mitegen", "pin")

#: How many boxes there are for each picture where the request does not say.
DEFAULT_COUNT = 40

_PATH = "/v1/models/"


@dataclass(frozen=True, kw_only=True)
class AutoMLFault(HttpFault):
    """
    What a simulated model does wrong with one request for predictions.

    Parameters
    ----------
    delay, status, close
        As `equipnet.http.simulator.HttpFault` says, with its errors.
    garbage
        The answer is text in place of JSON.
    nothing
        Nothing is found in any picture.
    wrong_key
        Each prediction has the key of another picture.
    nan
        The scores are NaN.
    partial
        The boxes are missing.
    """

    garbage: bool = False
    nothing: bool = False
    wrong_key: bool = False
    nan: bool = False
    partial: bool = False

    def spoil(self, prediction: dict[str, Any]) -> None:
        """Change a prediction."""
        if self.wrong_key:
            prediction["key"] = f"not {prediction['key']}"
        if self.nan:
            prediction["detection_scores"] = [math.nan] * len(prediction["detection_scores"])
        if self.partial:
            del prediction["detection_boxes"]


class SimulatedAutoML(SimulatedServer[AutoMLFault]):
    """
    A model server, as TensorFlow Serving has them.

    ``POST /v1/models/NAME:predict`` takes ``{"instances": [{"image_bytes": {"b64": "..."}, "key": "..."}, ...],
    "params": [{"max_bounding_box_count": "10"}]}``, and ``GET /v1/models/NAME`` tells that the model is there. What is
    wrong with a request is told as ``{"error": "..."}``.

    It looks at pictures in the reactor's threads.

    Parameters
    ----------
    listen
        Where to listen (see `equipnet.connection.address.parse_listen`).
    model
        The model's name.
    max_size, fault, settings
        As `equipnet.http.simulator.SimulatedServer` says.

    Attributes
    ----------
    predicted
        How many pictures it has looked at.
    """

    kind = "simulated-automl"

    def __init__(
        self,
        listen: str | Address = "tcp:0",
        *,
        model: str = "default",
        max_size: int = 20 * 2**20,
        fault: AutoMLFault | None = None,
        **settings: Unpack[PortSettings],
    ) -> None:
        super().__init__(listen, _Pages(self), max_size=max_size, fault=fault, **settings)
        if not model or set(model) & set("/:?# %"):
            raise ValueError(f"{model!r} is no name for a model")
        self.model = model
        self.predicted = 0

    def next_fault(self) -> AutoMLFault | None:
        """Give the fault that happens now, and count it."""
        return self._faults.take()

    async def predict(self, body: bytes, fault: AutoMLFault | None = None) -> dict[str, Any]:
        """
        Give what is answered to the body of a request.

        Raises
        ------
        ValueError
            When there is something wrong with it.
        """
        in_thread = self.reactor.getThreadPool()
        predictions: list[dict[str, Any]] = await deferToThreadPool(
            self.reactor, in_thread, _predictions, body, fault is not None and fault.nothing
        )
        self.predicted += len(predictions)
        if fault is not None:
            for prediction in predictions:
                fault.spoil(prediction)
        return {"predictions": predictions}


class _Pages(Pages):
    _server: SimulatedAutoML

    async def serve(self, request: BodyRequest) -> None:
        path = request.uri.partition(b"?")[0].decode("latin-1")
        method = request.method
        name, colon, verb = path.removeprefix(_PATH).partition(":")
        if not path.startswith(_PATH) or (colon and verb != "predict"):
            _send(request, {"error": f"there is nothing at {path}"}, 404)
        elif name != self._server.model:
            _send(request, {"error": f"Servable not found for request: Latest({name})"}, 404)
        elif method not in ((b"POST",) if colon else (b"GET", b"HEAD")):
            _send(request, {"error": f"{path} is not for {method.decode('latin-1')}"}, 405)
        elif not colon:
            status = {"error_code": "OK", "error_message": ""}
            _send(request, {"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": status}]})
        else:
            await self._predict(request)

    async def _predict(self, request: BodyRequest) -> None:
        fault = self._server.next_fault()
        await self._server.delayed(fault)
        if fault is not None and fault.status:
            _send(request, {"error": "it is simulated so"}, fault.status)
            return
        if fault is not None and fault.garbage:
            send(request, b"this is no JSON\n", "text/plain")
            return
        try:
            answer = await self._server.predict(request.body, fault)
        except ValueError as error:
            _send(request, {"error": str(error)}, 400)
        else:
            _send(request, answer, cut=fault is not None and fault.close)


def _send(request: BodyRequest, answer: dict[str, Any], status: int = 200, cut: bool = False) -> None:
    send(request, json.dumps(answer).encode(), "application/json", status, cut=cut)


# What is done in a thread.


def _predictions(body: bytes, blind: bool) -> list[dict[str, Any]]:
    """
    Give the predictions for the body of a request; with nothing in them where it is ``blind``.

    Raises
    ------
    ValueError
        When there is something wrong with it.
    """
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"JSON Parse error: {error}") from error
    if not isinstance(asked, dict) or not isinstance(asked.get("instances"), list) or not asked["instances"]:
        raise ValueError("instances is missing, or no list of at least one")
    count = _count(asked.get("params", []))
    pictures = [_instance(number, instance) for number, instance in enumerate(asked["instances"])]
    return [_prediction(key, data, count, blind) for key, data in pictures]


def _count(params: Any) -> int:
    """Read the most boxes for each picture: of a table, or of a list of them, as a number or a text."""
    tables = params if isinstance(params, list) else [params]
    if not all(isinstance(table, dict) for table in tables):
        raise ValueError("params is neither a table nor a list of tables")
    counts = [table["max_bounding_box_count"] for table in tables if "max_bounding_box_count" in table]
    if not counts:
        return DEFAULT_COUNT
    text = str(counts[-1])
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text)):
        raise ValueError(f"max_bounding_box_count is {counts[-1]!r}, not a number of at least 1")
    return int(text)


def _instance(number: int, instance: Any) -> tuple[str, bytes]:
    """Read the key and the picture of one instance."""
    where = f"instances[{number}]"
    if not isinstance(instance, dict):
        raise ValueError(f"{where} is no table")
    key, picture = instance.get("key"), instance.get("image_bytes")
    if not isinstance(key, str):
        raise ValueError(f"{where}.key is missing, or no text")
    if not isinstance(picture, dict) or not isinstance(picture.get("b64"), str):
        raise ValueError(f"{where}.image_bytes.b64 is missing, or no text")
    try:
        return key, base64.b64decode(picture["b64"], validate=True)
    except ValueError as error:
        raise ValueError(f"{where}.image_bytes.b64 is no base64: {error}") from error


def _prediction(key: str, data: bytes, count: int, blind: bool) -> dict[str, Any]:
    try:
        pixels = read_picture(data)
    except ValueError as error:
        raise ValueError(f"the picture {key!r} cannot be used: {error}") from error
    sighting = None if blind else find_loop(pixels)
    found = [] if sighting is None else [(sighting.loop, "nylon"), (sighting.pin, "pin")][:count]
    score = 0.0 if sighting is None else round(sighting.certainty, 6)
    height, width = pixels.shape
    numbers = [CLASSES.index(label) + 1 for _, label in found]
    return {
        "key": key,
        "num_detections": float(len(found)),
        "detection_boxes": [list(box) for box, _ in found],
        "detection_scores": [score] * len(found),
        "detection_classes": [float(number) for number in numbers],
        "detection_classes_as_text": [label for _, label in found],
        "detection_multiclass_scores": [
            [score if place == number else 0.0 if place else round(1 - score, 6) for place in range(len(CLASSES) + 1)]
            for number in numbers
        ],
        "image_info": [height, width, 1, 0, height, width],
    }
