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
from collections.abc import Iterable
from dataclasses import dataclass, fields
from http import HTTPStatus
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from equipnet.connection.address import Address
from equipnet.connection.faults import Faults
from equipnet.connection.retry import RetryPolicy
from equipnet.connection.tls import TLS
from equipnet.http.server import BodyRequest, HttpPort
from equipnet.prediction.vision import find_loop, read_picture

#: What the model tells apart; a class's number is its place, counted from 1, since 0 is the background's.
CLASSES = ("nylon", "mitegen", "pin")

#: How many boxes there are for each picture where the request does not say.
DEFAULT_COUNT = 40

_PATH = "/v1/models/"


@dataclass(frozen=True, kw_only=True)
class AutoMLFault:
    """
    What a simulated model does wrong with one request for predictions.

    Parameters
    ----------
    delay
        Seconds until the answer.
    status
        What is answered instead, such as 500.
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
    close
        The connection is closed after half of the answer.

    Raises
    ------
    ValueError
        When there is no fault in it, a number makes no sense, or two of them exclude each other.
    """

    delay: float = 0.0
    status: int = 0
    garbage: bool = False
    nothing: bool = False
    wrong_key: bool = False
    nan: bool = False
    partial: bool = False
    close: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.delay) and self.delay >= 0):
            raise ValueError(f"delay is {self.delay!r}, not a number of seconds")
        if self.status and not (self.status >= 400 and any(self.status == each for each in HTTPStatus)):
            raise ValueError(f"status is {self.status!r}, not one of HTTP's from 400 to 599")
        given = [field.name for field in fields(self) if getattr(self, field.name)]
        if not given:
            raise ValueError("there is no fault in it")
        instead = [name for name in given if name != "delay"]
        if len(instead) > 1:
            raise ValueError(f"{instead[0]} does not go with {instead[1]}")

    def spoil(self, prediction: dict[str, Any]) -> None:
        """Change a prediction."""
        if self.wrong_key:
            prediction["key"] = f"not {prediction['key']}"
        if self.nan:
            prediction["detection_scores"] = [math.nan] * len(prediction["detection_scores"])
        if self.partial:
            del prediction["detection_boxes"]


class SimulatedAutoML(HttpPort):
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
    fault
        What goes wrong from the beginning, until `clear_faults` is called.
    name, max_size, max_connections, idle_timeout, allowed, tls, retry, reactor
        As for `equipnet.http.server.HttpPort`.

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
        fault: AutoMLFault | None = None,
        name: str | None = None,
        max_size: int = 20 * 2**20,
        max_connections: int = 100,
        idle_timeout: float = 60.0,
        allowed: Iterable[str] = (),
        tls: TLS | None = None,
        retry: RetryPolicy | None = None,
        reactor: Any = None,
    ) -> None:
        super().__init__(
            listen,
            _Pages(self),
            name=name,
            max_size=max_size,
            max_connections=max_connections,
            idle_timeout=idle_timeout,
            allowed=allowed,
            tls=tls,
            retry=retry,
            reactor=reactor,
        )
        if not model or set(model) & set("/:?# %"):
            raise ValueError(f"{model!r} is no name for a model")
        self.model = model
        self.predicted = 0
        self._faults: Faults[AutoMLFault] = Faults()
        if fault is not None:
            self.inject(fault)

    def inject(self, fault: AutoMLFault, count: int | None = None) -> None:
        """
        Let something go wrong.

        Those with a ``count`` come first, in the order of injection; when they are used up, the last one without.

        Parameters
        ----------
        fault
            What.
        count
            With how many requests; None for all, until `clear_faults` is called.
        """
        self._faults.inject(fault, count)

    def clear_faults(self) -> None:
        """Let all go well from the next request on."""
        self._faults.clear()

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


class _Pages(Resource):
    """What is at the addresses of the server."""

    isLeaf = True

    def __init__(self, server: SimulatedAutoML) -> None:
        super().__init__()
        self._server = server

    def render(self, request: BodyRequest) -> int:
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
            Deferred.fromCoroutine(self._predict(request)).addErrback(self._not_predicted, request)
        return NOT_DONE_YET

    async def _predict(self, request: BodyRequest) -> None:
        server = self._server
        fault = server.next_fault()
        if fault is not None and fault.delay:
            await deferLater(server.reactor, fault.delay)
        if fault is not None and fault.status:
            _send(request, {"error": "it is simulated so"}, fault.status)
            return
        if fault is not None and fault.garbage:
            _send_bytes(request, b"this is no JSON\n", b"text/plain")
            return
        try:
            answer = await server.predict(request.body, fault)
        except ValueError as error:
            _send(request, {"error": str(error)}, 400)
        else:
            _send(request, answer, close=fault is not None and fault.close)

    def _not_predicted(self, reason: Failure, request: BodyRequest) -> None:
        self._server.log.failure("{name}: a picture was not looked at", reason, name=self._server.name)
        _send(request, {"error": "it could not be looked at: see the log"}, 500)


def _send(request: BodyRequest, answer: dict[str, Any], status: int = 200, close: bool = False) -> None:
    _send_bytes(request, json.dumps(answer).encode(), b"application/json", status, close)


def _send_bytes(request: BodyRequest, data: bytes, content_type: bytes, status: int = 200, close: bool = False) -> None:
    if request._disconnected:
        return
    request.setResponseCode(status)
    request.setHeader(b"Content-Type", content_type)
    request.setHeader(b"Content-Length", b"%d" % len(data))
    if close:
        request.write(data[: len(data) // 2])
        request.loseConnection()
    else:
        request.write(data)
        request.finish()


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
