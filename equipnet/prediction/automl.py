"""A model that finds things in images, behind TensorFlow Serving's HTTP interface."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import Deferred, fail

from equipnet.errors import LocalProtocolError, RemoteProtocolError
from equipnet.http.service import HttpConnection
from equipnet.prediction.prediction import Prediction, decode_answer, encode_request

_NAME = re.compile(r"[A-Za-z0-9_.-]+")


class AutoMLModel(HttpConnection):
    """
    A model that is asked what it sees in images.

    Several images may be under way at once: each answer belongs to its own request, and a server that fails, fails only
    those that were made to it.

    Parameters
    ----------
    url
        ``"http://voltron:5000"``.
    model
        What the server calls the model.
    max_boxes
        How many things it may find in one image.
    probe_path
        What is asked for to see whether the model is there; its status where nothing is given.
    settings
        The other arguments of `equipnet.http.HttpConnection`: ``name``, ``timeout``, ``max_requests`` and so on.
    """

    kind = "automl"

    def __init__(
        self, url: str, *, model: str = "default", max_boxes: int = 10, probe_path: str | None = None, **settings: Any
    ) -> None:
        if not _NAME.fullmatch(model):
            raise ValueError(f"{model!r} is not the name of a model")
        if max_boxes < 1:
            raise ValueError(f"max_boxes is {max_boxes}, less than 1")
        path = f"/v1/models/{model}"
        super().__init__(url, probe_path=path if probe_path is None else probe_path, **settings)
        self.model = model
        self.max_boxes = max_boxes
        self._path = f"{path}:predict"

    def predict(self, key: str, image: bytes) -> Deferred[Prediction]:
        """
        Ask what is in an image.

        Parameters
        ----------
        key
            The image's name, which comes back with the answer.
        image
            A JPEG or PNG image.

        Returns
        -------
        Deferred[Prediction]
            Fails with `RemoteProtocolError` when the answer is about another key or not of the form of
            `equipnet.prediction.prediction.decode_answer`, `LocalProtocolError` when the image is empty, and as
            `equipnet.http.HttpConnection.request`.
        """
        if not image:
            return fail(LocalProtocolError(f"{self.name}: the image {key!r} is empty"))
        return Deferred.fromCoroutine(self._predict(key, image))

    async def _predict(self, key: str, image: bytes) -> Prediction:
        response = await self.request(
            "POST",
            self._path,
            body=encode_request(key, image, self.max_boxes),
            headers={"Content-Type": "application/json"},
            repeatable=True,  # asking changes nothing
        )
        try:
            prediction = decode_answer(response.body)
        except RemoteProtocolError as error:
            raise RemoteProtocolError(f"{self.name}, about {key!r}: {error}", error.data) from error
        if prediction.key != key:
            raise RemoteProtocolError(f"{self.name} was asked about {key!r} and answers about {prediction.key[:60]!r}")
        return prediction
