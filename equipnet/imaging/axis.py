"""An Axis camera: single images, and streams of them, over its HTTP interface (VAPIX)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import ref

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from equipnet.connection.state import State
from equipnet.errors import (
    AuthenticationFailed,
    ConnectionLost,
    Disconnected,
    EquipmentError,
    LocalProtocolError,
    NotConnected,
    RemoteProtocolError,
)
from equipnet.http.client import HttpStatus
from equipnet.http.exchange import Response
from equipnet.http.service import HttpConnection
from equipnet.imaging.jpeg import Header, NotAnImage, read_header
from equipnet.imaging.mjpeg import CONTENT_TYPE, Part, PartReader
from equipnet.imaging.subscription import Subscription

#: Where an image is, and a stream of them.
IMAGE_PATH = "/axis-cgi/jpg/image.cgi"
STREAM_PATH = "/axis-cgi/mjpg/video.cgi"

#: How many frames of a stream wait for a slow consumer.
FRAMES = 10

_RESOLUTION = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}", re.ASCII)


@dataclass(frozen=True)
class Frame:
    """
    One image of a camera.

    Parameters
    ----------
    data
        The image, as it came.
    content_type
        ``"image/jpeg"``, by what it is.
    width, height
        In pixels.
    received_at
        When it was complete, in seconds since 1970-01-01 UTC.
    sequence
        Its number, from 1 on: of the camera's single images, or in its stream.
    """

    data: bytes = field(repr=False)
    content_type: str
    width: int
    height: int
    received_at: float
    sequence: int


class AxisCamera(HttpConnection):
    """
    An Axis camera, or one view of a video server.

    Parameters
    ----------
    url
        ``"http://axis6"``.
    camera
        Which of its views; the first one where nothing is given.
    probe_path
        What is asked for to see whether the camera is there. Where nothing is given, its image: the one thing that
        every camera has, and needs the right name and password for.
    settings
        The other arguments of `equipnet.http.HttpConnection`: ``name``, ``username``, ``password``, ``max_requests``
        and so on.
    """

    kind = "axis"

    def __init__(self, url: str, *, camera: int = 1, probe_path: str | None = None, **settings: Any) -> None:
        if camera < 1:
            raise ValueError(f"camera is {camera}, less than 1")
        if probe_path is None:
            probe_path = f"{IMAGE_PATH}?camera={camera}"
        super().__init__(url, probe_path=probe_path, **settings)
        self.camera = camera
        self._count = 0
        self._feeds: set[_Feed] = set()

    # What users call

    def image(
        self, resolution: str | None = None, compression: int | None = None, query: str | None = None
    ) -> Deferred[Frame]:
        """
        Take an image.

        Parameters
        ----------
        resolution
            Such as ``"640x480"``; what the camera is set to where nothing is given.
        compression
            0 for the best image to 100 for the smallest.
        query
            The whole query, as it is, instead of the camera and the others: ``"camera=1"``.

        Returns
        -------
        Deferred[Frame]
            Fails with `RemoteProtocolError` when the answer is no whole image, with `LocalProtocolError` when an
            argument cannot be sent, and as `equipnet.http.HttpConnection.request`.
        """
        try:
            path = f"{IMAGE_PATH}?{self._query(query, resolution=resolution, compression=compression)}"
        except LocalProtocolError as error:
            return fail(error)
        return Deferred.fromCoroutine(self._image(path))

    def stream(
        self,
        fps: float | None = None,
        resolution: str | None = None,
        compression: int | None = None,
        query: str | None = None,
        limit: int = FRAMES,
    ) -> Frames:
        """
        Give the images of a stream, from the moment on that the first one is asked for.

        Parameters
        ----------
        fps
            Frames per second; as many as the camera gives where nothing is given.
        resolution, compression, query
            As `image`.
        limit
            How many frames wait for a slow consumer; then the oldest is dropped.

        Raises
        ------
        LocalProtocolError
            When an argument cannot be sent.
        """
        if fps is not None and not 0 < fps < float("inf"):
            raise LocalProtocolError(f"fps is {fps}, not above 0")
        if limit < 1:
            raise LocalProtocolError(f"limit is {limit}, less than 1")
        rate = None if fps is None else f"{fps:g}"
        query = self._query(query, resolution=resolution, compression=compression, fps=rate)
        return Frames(self, f"{STREAM_PATH}?{query}", limit)

    # How it goes

    def _query(self, query: str | None, *, resolution: str | None, compression: int | None, **others: Any) -> str:
        if resolution is not None and not _RESOLUTION.fullmatch(resolution):
            raise LocalProtocolError(f"resolution is {resolution!r}, not such as '640x480'")
        if compression is not None and not 0 <= compression <= 100:
            raise LocalProtocolError(f"compression is {compression}, not 0 to 100")
        given = {"camera": self.camera, "resolution": resolution, "compression": compression, **others}
        if query is None:
            return "&".join(f"{name}={value}" for name, value in given.items() if value is not None)
        if any(value is not None for name, value in given.items() if name != "camera"):
            raise LocalProtocolError("a whole query leaves no place for other arguments")
        return query

    async def _image(self, path: str) -> Frame:
        response = await self.request("GET", path)
        try:
            header = read_header(response.body)
        except NotAnImage as error:
            what = response.headers.get("content-type", "something without a type")
            text = f"{self.name} answered with {what[:60]}, which is no image: {error}"
            raise RemoteProtocolError(text, response.body[:60]) from error
        self._count += 1
        return _frame(response.body, header, self._count)

    def _close(self, error: Disconnected) -> None:
        for feed in tuple(self._feeds):
            feed.end()
        super()._close(error)


class Frames(Subscription[Frame]):
    """
    An asynchronous iterator over the images of a camera's stream.

    The stream is ended by `aclose`, by cancelling the wait for a frame, and by dropping the iterator, as a loop does
    that is left by ``break``.

    A stream that is lost is begun again as the camera's retry policy says, for as long as it takes. The iteration ends
    when the camera is disconnected from our side. It raises what the camera refuses a stream with
    (`AuthenticationFailed`, or `HttpStatus` with 400 to 499), `NotConnected` when it was not connected in the first
    place, and the last error when the camera or the stream is given up.

    Attributes
    ----------
    dropped
        How many frames were dropped for a slow consumer.
    rejected
        How many were no whole images.
    """

    def __init__(self, camera: AxisCamera, path: str, limit: int) -> None:
        # What __del__ looks at comes first: the rest may raise.
        self._feed: _Feed | None = None
        super().__init__(limit)
        self.rejected = 0
        self._error: EquipmentError | None = None
        self._start: Callable[[Frames], _Feed] | None = lambda frames: _Feed(camera, path, frames)

    async def __anext__(self) -> Frame:
        start, self._start = self._start, None
        if start is not None:
            self._feed = start(self)
            self._feed.begin()
        try:
            return await super().__anext__()
        except CancelledError:
            # As in a generator: a loop that is cancelled here is over.
            await self.aclose()
            raise
        except StopAsyncIteration:
            error, self._error = self._error, None
            if error is not None:
                raise error from None
            raise

    async def aclose(self) -> None:
        """End the stream; who waits for its next frame sees its end."""
        self._start = None
        if self._feed is not None:
            self._feed.end()
        await super().aclose()

    def finish(self, error: EquipmentError | None) -> None:
        """Let the iteration end behind the frames that are there, with an error or without."""
        self._error = error
        self.end()

    def __del__(self) -> None:
        if self._feed is not None:
            self._feed.dropped()
        super().__del__()


class _Feed:
    """What fills a stream's iterator, for as long as somebody has that."""

    def __init__(self, camera: AxisCamera, path: str, frames: Frames) -> None:
        self._camera = camera
        self._path = path
        # Only its user holds the iterator, so that dropping it ends the stream.
        self._frames = ref(frames)
        self._running: Deferred[None] | None = None
        self._reader = PartReader(CONTENT_TYPE)
        self._count = 0
        self._was_good = True

    def begin(self) -> None:
        self._camera._feeds.add(self)
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(self._broken)

    def end(self) -> None:
        """End the stream, and let the iteration end."""
        if self in self._camera._feeds:
            self._finish(None)
            if self._running is not None:
                self._running.cancel()

    def dropped(self) -> None:
        """Take note that nobody has the iterator any more; in any thread, since it is the garbage collector's word."""
        if self in self._camera._feeds:
            self._camera.reactor.callFromThread(self.end)

    async def _run(self) -> None:
        camera = self._camera
        failures = 0
        while True:
            count = self._count
            try:
                if camera.state is State.STOPPED:
                    raise NotConnected(f"{camera.name} is not connected")
                await camera.when_ready()
                await camera.receive(self._path, self._head_came)
                raise ConnectionLost(f"{camera.name} ended its stream")
            except EquipmentError as error:
                failures = 1 if self._count > count else failures + 1
                if self._is_final(error, failures):
                    self._finish(error)
                    return
                if failures == 1:
                    camera.log.warn("{name}: its stream is begun again: {why}", name=camera.name, why=str(error))
            await deferLater(camera.reactor, camera.retry_delay(failures))

    def _is_final(self, error: EquipmentError, failures: int) -> bool:
        camera = self._camera
        attempts = camera._policy.attempts
        refused = isinstance(error, HttpStatus) and 400 <= error.status < 500
        return (
            refused
            or isinstance(error, (AuthenticationFailed, LocalProtocolError))
            or camera.state is State.STOPPED
            or (attempts is not None and failures >= attempts)
        )

    def _head_came(self, head: Response) -> Callable[[bytes], None]:
        self._reader = PartReader(head.headers.get("content-type", ""), part_limit=self._camera.client.max_size)
        return self._came

    def _came(self, data: bytes) -> None:
        for part in self._reader.feed(data):
            self._part_came(part)
        if self._reader.ended:
            raise ConnectionLost(f"{self._camera.name} ended its stream")

    def _part_came(self, part: Part) -> None:
        camera, frames = self._camera, self._frames()
        if frames is None:
            return
        try:
            header = read_header(part.body)
        except NotAnImage as error:
            frames.rejected += 1
            if self._was_good:
                camera.log.warn("{name}: a frame is dropped: {why}", name=camera.name, why=str(error))
            self._was_good = False
            return
        self._was_good = True
        self._count += 1
        frame = _frame(part.body, header, self._count)
        if camera.taps:
            camera.tapped("in", part.body, frame)
        frames.put(frame)

    def _finish(self, error: EquipmentError | None) -> None:
        self._camera._feeds.discard(self)
        frames = self._frames()
        if frames is not None:
            frames.finish(error)

    def _broken(self, reason: Failure) -> None:
        if not reason.check(CancelledError):
            self._camera.log.failure("{name}: its stream", reason, name=self._camera.name)
            self._finish(EquipmentError(f"{self._camera.name}: its stream is broken: {reason.getErrorMessage()}"))


def _frame(data: bytes, header: Header, sequence: int) -> Frame:
    return Frame(data, header.content_type, header.width, header.height, time.time(), sequence)
