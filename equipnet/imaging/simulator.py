"""
A simulated Axis camera that looks at a loop on a spindle: single images, a stream, posts while a trigger is open, and
faults on request::

    camera = SimulatedAxis("tcp:8888", post_to="http://127.0.0.1:9000/camera1", step=10.0, post_count=36)
    await camera.connect()
    camera.open_trigger()
    camera.truth(30.0).loop

It takes the requests of VAPIX 3 that this library makes; how a real one posts is set in its event rules, and here by
``post_to`` and what follows it.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Literal
from urllib.parse import parse_qsl

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from typing_extensions import Unpack
from zope.interface import implementer

from equipnet.connection.address import Address
from equipnet.connection.state import State
from equipnet.errors import Disconnected, EquipmentError, NotConnected
from equipnet.http.channel import BodyRequest
from equipnet.http.client import HttpClient, parse_url
from equipnet.http.digest import Guard, Verdict
from equipnet.http.exchange import Request
from equipnet.http.message import Answer
from equipnet.http.simulator import HttpFault, Pages, PortSettings, SimulatedServer, send
from equipnet.imaging.drawing import DEFAULT_COMPRESSION, DEFAULT_SIZE, LoopDrawing, Truth, check_compression
from equipnet.imaging.mjpeg import CONTENT_TYPE, write_head, write_part

#: Images a second in a stream that asks for no number, and the most that one gets.
DEFAULT_FPS, MAX_FPS = 10.0, 60.0

#: How many images wait for the receiver of the posts where nobody says how many there are.
POST_LIMIT = 10

#: What a part without an end gets at each time of a frame.
_FILLING = b"\0" * 2**17

_PAGE = b"<html><head><title>Axis</title></head><body>This is no image.</body></html>\n"

_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
_ACTION = re.compile(r"1:([/\\])")

#: What a fault can happen to.
On = Literal["", "image", "stream", "post"]


@dataclass(frozen=True, kw_only=True)
class AxisFault(HttpFault):
    """
    What a simulated camera does wrong with one image.

    Parameters
    ----------
    on
        With which: an ``"image"`` that is asked for, the parts of a ``"stream"``, or a ``"post"``; with all where
        nothing is given.
    delay, status, close
        As `equipnet.http.simulator.HttpFault` says; with 401 no name and password is good enough.
    html
        A page comes in its place.
    truncate
        The second half of the JPEG is missing.
    endless
        In a stream, the part has no length and does not end, for as long as the client reads.

    Raises
    ------
    ValueError
        When there is no fault in it, a number makes no sense, or it cannot happen there.
    """

    on: On = ""
    html: bool = False
    truncate: bool = False
    endless: bool = False

    def __post_init__(self) -> None:
        if self.on not in ("", "image", "stream", "post"):
            raise ValueError(f"on is {self.on!r}, not 'image', 'stream' or 'post'")
        super().__post_init__()
        if self.endless and self.on != "stream":
            raise ValueError("endless is for on = 'stream'")
        if self.on == "post" and (self.status or self.close):
            raise ValueError(f"{'status' if self.status else 'close'} is not for posts")

    def effects(self) -> list[str]:
        return [name for name in super().effects() if name != "on"]

    def concerns(self, what: On) -> bool:
        """Tell whether it can happen to an image, a part of a stream, or a post."""
        return self.on in ("", what) and not (what == "post" and (self.status or self.close))

    def spoil(self, jpeg: bytes) -> tuple[bytes, str]:
        """Give what is sent in place of an image, and its content type."""
        if self.html:
            return _PAGE, "text/html"
        return jpeg[: len(jpeg) // 2] if self.truncate else jpeg, "image/jpeg"


@dataclass(frozen=True)
class _View:
    """How an image is wanted."""

    size: tuple[int, int]
    compression: int
    fps: float


class SimulatedAxis(SimulatedServer[AxisFault]):
    r"""
    A camera, as another program sees it on its port and a receiver by its posts.

    ====================================== =============================================================================
    ``/axis-cgi/jpg/image.cgi``            an image
    ``/axis-cgi/mjpg/video.cgi``           images without end, as multipart/x-mixed-replace
    ``/axis-cgi/io/port.cgi?action=1:/``   opens the trigger, ``action=1:\`` closes it; ``checkactive=1`` asks
    ====================================== =============================================================================

    Images take ``camera=1``, ``resolution=704x480``, ``compression=0`` to ``100``, the stream ``fps`` besides; other
    parameters are ignored, as by a real one. Each image tells its angle in the header ``X-Angle``, each post also its
    number since the trigger was opened in ``X-Frame``, from 0.

    A post that waits has not been drawn yet; drawing is done in the reactor's threads.

    Parameters
    ----------
    listen
        Where to listen (see `equipnet.connection.address.parse_listen`).
    seed
        Decides what the loop is like.
    resolution, compression
        Of images where nobody asks for others: width and height, and 0 to 100.
    username, password
        Who may ask; anybody where nothing is given.
    algorithms
        How he must say who he is, the best first, as `equipnet.http.Guard` has them: ``"SHA-256"``, ``"MD5"``,
        ``"Basic"``.
    start_angle
        Where the spindle is, and begins to turn when the trigger opens, in degrees.
    speed
        Degrees a second that it turns while the trigger is open.
    step
        Degrees that it turns from one post to the next instead: post number k is at ``start_angle + k * step``, however
        late it is.
    angle_of
        Gives the angle instead, for each image.
    post_to
        The URL of a receiver.
    post_rate
        Posts a second while the trigger is open, the first at once.
    post_count
        How many posts there are for one opening; as many as it is open where nothing is given.
    post_limit
        How many images wait at most for a slow receiver; more are dropped, as by a real camera. Where nothing is given,
        ``post_count``, so that a turn is complete, or `POST_LIMIT`.
    post_timeout
        Seconds that a post may take.
    fault, settings
        As `equipnet.http.simulator.SimulatedServer` says.

    Attributes
    ----------
    posted
        How many posts the receiver took.
    failed
        How many it did not take.
    dropped
        How many were not made since the receiver was too slow.
    skipped
        How many parts of streams were not sent since the client was too slow.

    Raises
    ------
    ValueError
        When a parameter makes no sense, or does not go with another one.
    """

    kind = "simulated-axis"

    def __init__(
        self,
        listen: str | Address = "tcp:0",
        *,
        seed: int = 0,
        resolution: tuple[int, int] = DEFAULT_SIZE,
        compression: int = DEFAULT_COMPRESSION,
        username: str | None = None,
        password: str | None = None,
        algorithms: Iterable[str] = ("SHA-256", "MD5"),
        start_angle: float = 0.0,
        speed: float = 0.0,
        step: float = 0.0,
        angle_of: Callable[[], float] | None = None,
        post_to: str | None = None,
        post_rate: float = 10.0,
        post_count: int | None = None,
        post_limit: int | None = None,
        post_timeout: float = 5.0,
        fault: AxisFault | None = None,
        **settings: Unpack[PortSettings],
    ) -> None:
        super().__init__(listen, _Pages(self), max_size=4096, fault=fault, **settings)
        LoopDrawing(seed, resolution)
        check_compression(compression)
        if not all(map(math.isfinite, (start_angle, speed, step))):
            raise ValueError("start_angle, speed and step are numbers of degrees")
        if bool(speed) + bool(step) + (angle_of is not None) > 1:
            raise ValueError("only one of speed, step and angle_of says how the spindle turns")
        if not 0 < post_rate <= 1000:
            raise ValueError(f"post_rate is {post_rate}, not above 0 and up to 1000 images a second")
        for key, number in (("post_count", post_count), ("post_limit", post_limit)):
            if number is not None and number < 1:
                raise ValueError(f"{key} is {number}, less than 1")
        if (username is None) != (password is None):
            raise ValueError("username and password go together")
        self.seed = seed
        self.view = _View(resolution, compression, DEFAULT_FPS)
        self.start_angle = start_angle
        self.speed = speed
        self.step = step
        self.post_rate = post_rate
        self.post_count = post_count
        self.post_limit = post_limit or post_count or POST_LIMIT
        self.posted = self.failed = self.dropped = self.skipped = 0
        self.guard: Guard | None = None
        if username is not None and password is not None:
            self.guard = Guard(
                username, password, "AXIS_000000000000", self.reactor.seconds, algorithms=tuple(algorithms)
            )
        self._angle_of = angle_of
        self._turned = 0.0
        self._opened: float | None = None
        self._streams: set[_Stream] = set()
        self._receiver: HttpClient | None = None
        if post_to is not None:
            self._receiver = HttpClient(post_to, timeout=post_timeout, max_requests=1, reactor=self.reactor)
        self._frames = 0
        self._shutter: LoopingCall | None = None
        self._pending: deque[tuple[int, float]] = deque()
        self._posting: Deferred[None] | None = None
        self._is_taken: bool | None = None

    # What users call

    @property
    def angle(self) -> float:
        """Where the spindle is, in degrees; set, it is turned there, and begins there when the trigger opens."""
        if self._angle_of is not None:
            return float(self._angle_of())
        return self.start_angle + self._turned + self._turning()

    @angle.setter
    def angle(self, angle: float) -> None:
        if self._angle_of is not None:
            raise ValueError("angle_of says where the spindle is")
        if not math.isfinite(angle):
            raise ValueError(f"the angle is {angle}, not a number of degrees")
        self.start_angle = angle
        self._turned = 0.0
        if self._opened is not None:
            self._opened = self.reactor.seconds()

    @property
    def is_triggered(self) -> bool:
        """Whether the trigger is open."""
        return self._opened is not None

    def open_trigger(self) -> None:
        """
        Let the spindle turn and images be posted; nothing where it is open.

        Raises
        ------
        NotConnected
            When the camera is off.
        """
        if self.state is not State.READY:
            raise NotConnected(f"{self.name} is off")
        if self._opened is not None:
            return
        self._opened = self.reactor.seconds()
        self._turned = 0.0
        self._frames = 0
        if self._receiver is not None:
            self._shutter = LoopingCall(self._take_due)
            self._shutter.clock = self.reactor
            self._shutter.start(1 / self.post_rate).addErrback(self._not_taken)

    def close_trigger(self) -> None:
        """Let the spindle stop, and no more images be taken; those that wait are posted. Nothing where it is closed."""
        if self._opened is None:
            return
        shutter, self._shutter = self._shutter, None
        if shutter is not None and shutter.running:
            shutter.stop()
            maybeDeferred(self._take_due).addErrback(self._not_taken)
        self._turned += self._turning()
        self._opened = None

    def truth(self, angle: float, resolution: tuple[int, int] | None = None) -> Truth:
        """Give where the loop and the pin are in an image at ``angle`` degrees, of the usual or another resolution."""
        return LoopDrawing(self.seed, resolution or self.view.size).truth(angle)

    def image(
        self, angle: float, resolution: tuple[int, int] | None = None, compression: int | None = None
    ) -> Deferred[bytes]:
        """Give a JPEG as the camera would send it."""
        size = resolution or self.view.size
        view = replace(self.view, size=size, compression=self.view.compression if compression is None else compression)
        return self._drawn(angle, view)

    # What the pages ask

    def fault_for(self, what: On, begins: bool = False) -> AxisFault | None:
        """Give the fault that happens now, and count it; the ``status`` of a stream only where that ``begins``."""
        return self._faults.take(
            lambda fault: fault.concerns(what) and (what != "stream" or bool(fault.status) is begins)
        )

    async def next_image(self, view: _View, what: On, angle: float | None = None) -> _Image:
        """Give what is to be sent next, when it is; the angle is that of now where none is given."""
        fault = self.fault_for(what)
        await self.delayed(fault)
        angle = round((self.angle if angle is None else angle) % 360, 3)
        jpeg = await self._drawn(angle, view)
        data, content_type = (jpeg, "image/jpeg") if fault is None else fault.spoil(jpeg)
        return _Image(data, content_type, f"{angle:.3f}", fault)

    def _drawn(self, angle: float, view: _View) -> Deferred[bytes]:
        def draw() -> bytes:
            return LoopDrawing(self.seed, view.size).draw(angle).encode(view.compression)

        return deferToThreadPool(self.reactor, self.reactor.getThreadPool(), draw)

    def _turning(self) -> float:
        """Give how far a spindle with a speed has turned since the trigger was opened."""
        if self._opened is None:
            return 0.0
        return self.speed * float(self.reactor.seconds() - self._opened)

    # How images are posted

    def _take_due(self) -> None:
        """Take the images whose time has come: however late this is called, none of a turn is left out."""
        assert self._opened is not None
        due = math.floor((self.reactor.seconds() - self._opened) * self.post_rate) + 1
        if self.post_count is not None:
            due = min(due, self.post_count)
        while self._frames < due:
            self._take()
        if self._frames == self.post_count and self._shutter is not None and self._shutter.running:
            self._shutter.stop()

    def _take(self) -> None:
        if self.step:
            self._turned = self._frames * self.step
        if len(self._pending) < self.post_limit:
            self._pending.append((self._frames, self.angle))
            if self._posting is None:
                self._posting = Deferred.fromCoroutine(self._post_pending())
                self._posting.addErrback(self._not_posted).addBoth(self._all_posted)
        else:
            self.dropped += 1
        self._frames += 1

    def _not_taken(self, reason: Failure) -> None:
        self.log.failure("{name}: no more images are taken", reason, name=self.name)

    async def _post_pending(self) -> None:
        while self._pending:
            frame, angle = self._pending.popleft()
            image = await self.next_image(self.view, "post", angle)
            assert self._receiver is not None
            headers = {"Content-Type": image.content_type, "X-Angle": image.angle, "X-Frame": str(frame)}
            if self.taps:
                self.tapped("out", image.data, Request("POST", parse_url(self._receiver.url)[1] or "/"))
            try:
                response = await self._receiver.request("POST", "", body=image.data, headers=headers)
            except EquipmentError as error:
                self.failed += 1
                # Once, and not for each image.
                if self._is_taken is not False:
                    self.log.warn("{name}: an image is not taken: {error}", name=self.name, error=error)
                self._is_taken = False
            else:
                self.posted += 1
                if self.taps:
                    self.tapped("in", response.body, response)
                if self._is_taken is False:
                    self.log.info("{name}: images are taken again", name=self.name)
                self._is_taken = True

    def _not_posted(self, reason: Failure) -> None:
        if not reason.check(CancelledError):
            self.log.failure("{name}: an image was not made", reason, name=self.name)

    def _all_posted(self, _: None) -> None:
        self._posting = None

    # How it ends

    def _close(self, error: Disconnected) -> None:
        self.close_trigger()
        self._pending.clear()
        for stream in tuple(self._streams):
            stream.end()
        if self._posting is not None:
            self._posting.cancel()
        closed = succeed(None) if self._receiver is None else self._receiver.close(error)
        closed.addCallback(lambda _: super(SimulatedAxis, self)._close(error))


@dataclass(frozen=True)
class _Image:
    """What is sent for an image."""

    data: bytes
    content_type: str
    angle: str
    fault: AxisFault | None

    @property
    def half(self) -> bytes:
        return self.data[: len(self.data) // 2]


class _Pages(Pages):
    _server: SimulatedAxis

    async def serve(self, request: BodyRequest) -> None:
        path, _, query = request.uri.decode("latin-1").partition("?")
        try:
            view = self._serve(request, path, dict(parse_qsl(query, keep_blank_values=True)))
        except ValueError as error:
            request.answer(Answer(400, str(error)))
        else:
            if view is not None:
                await self._send_image(request, view)

    def _serve(self, request: BodyRequest, path: str, parameters: dict[str, str]) -> _View | None:
        """Answer at once, or begin a stream; gives the view of an image that is to be sent."""
        camera = self._server
        if path not in ("/axis-cgi/jpg/image.cgi", "/axis-cgi/mjpg/video.cgi", "/axis-cgi/io/port.cgi"):
            request.answer(Answer(404, f"there is nothing at {path}"))
        elif request.method not in (b"GET", b"HEAD"):
            request.answer(Answer(405, "an image is asked for with GET", (("Allow", "GET, HEAD"),)))
        elif not self._admitted(request):
            pass
        elif path.endswith("port.cgi"):
            request.answer(self._switched(parameters))
        else:
            view = _wanted(parameters, camera.view)
            if path.endswith("image.cgi"):
                return view
            if request.method == b"HEAD":
                request.answer(Answer(405, "a stream is asked for with GET", (("Allow", "GET"),)))
            elif not self._faulty(request, camera.fault_for("stream", begins=True)):
                _Stream(camera, request, view).begin()
        return None

    def _admitted(self, request: BodyRequest) -> bool:
        """Ask who it is, where that matters; tells whether he may pass."""
        guard = self._server.guard
        if guard is None:
            return True
        said = request.requestHeaders.getRawHeaders(b"Authorization", [None])[0]
        verdict = guard.verify(request.method.decode("latin-1"), request.uri.decode("latin-1"), said)
        if verdict is not Verdict.GOOD:
            self._ask_who(request, guard, verdict is Verdict.STALE)
        return verdict is Verdict.GOOD

    def _ask_who(self, request: BodyRequest, guard: Guard | None, stale: bool = False) -> None:
        challenges = [b'Basic realm="AXIS"'] if guard is None else guard.challenges(stale)
        headers = tuple(("WWW-Authenticate", each.decode()) for each in challenges)
        request.answer(Answer(401, "a name and a password are needed", headers))

    def _switched(self, parameters: dict[str, str]) -> Answer:
        camera = self._server
        if parameters.get("checkactive") == "1":
            return Answer(200, f"port1={'active' if camera.is_triggered else 'inactive'}")
        action = _ACTION.fullmatch(parameters.get("action", ""))
        if action is None:
            raise ValueError("action=1:/ opens the trigger, action=1:\\ closes it, checkactive=1 asks for its state")
        if action[1] == "/":
            camera.open_trigger()
        else:
            camera.close_trigger()
        return Answer(200, "OK")

    def _faulty(self, request: BodyRequest, fault: AxisFault | None) -> bool:
        """Answer with the status of a fault; tells whether there is one."""
        if fault is None or not fault.status:
            return False
        if fault.status == HTTPStatus.UNAUTHORIZED:
            self._ask_who(request, self._server.guard)
        else:
            request.answer(Answer(fault.status, "it is simulated so"))
        return True

    async def _send_image(self, request: BodyRequest, view: _View) -> None:
        image = await self._server.next_image(view, "image")
        if not self._faulty(request, image.fault):
            cut = image.fault is not None and image.fault.close
            send(request, image.data, image.content_type, headers={"X-Angle": image.angle}, cut=cut)


def _wanted(parameters: dict[str, str], usual: _View) -> _View:
    """
    Read how images are asked for.

    Raises
    ------
    ValueError
        When a value is none.
    """
    if parameters.get("camera", "1") != "1":
        raise ValueError(f"there is no camera {parameters['camera']!r}, only 1")
    view = usual
    if "resolution" in parameters:
        found = _SIZE.fullmatch(parameters["resolution"])
        if found is None:
            raise ValueError(f"resolution is {parameters['resolution']!r}, not of the form 704x480")
        view = replace(view, size=(int(found[1]), int(found[2])))
        LoopDrawing(size=view.size)
    if "compression" in parameters:
        view = replace(view, compression=int(_number("compression", parameters["compression"], "[0-9]{1,3}")))
        check_compression(view.compression)
    if "fps" in parameters:
        fps = float(_number("fps", parameters["fps"], r"[0-9]{1,3}(\.[0-9]{1,3})?"))
        # 0 is as many as there are.
        view = replace(view, fps=min(fps, MAX_FPS) or MAX_FPS)
    return view


def _number(name: str, text: str, form: str) -> str:
    if not re.fullmatch(form, text):
        raise ValueError(f"{name} is {text!r}, not a number")
    return text


@implementer(IPushProducer)
class _Stream:
    """Sends images to one client as often as it wants them, and as it takes them."""

    def __init__(self, camera: SimulatedAxis, request: BodyRequest, view: _View) -> None:
        self._camera = camera
        self._request = request
        self._view = view
        self._paused = False
        self._endless = False
        self._frames = LoopingCall(self._send_next)
        self._frames.clock = camera.reactor

    def begin(self) -> None:
        self._camera._streams.add(self)
        self._request.notifyFinish().addBoth(lambda _: self._ended())
        self._request.setHeader(b"Content-Type", CONTENT_TYPE.encode())
        self._request.registerProducer(self, True)
        self._frames.start(1 / self._view.fps).addErrback(self._failed)

    def end(self) -> None:
        """End the stream from our side."""
        if self not in self._camera._streams:
            return
        self._ended()
        self._request.unregisterProducer()
        self._request.loseConnection()

    # What the transport tells

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False

    def stopProducing(self) -> None:
        self._ended()

    # How images leave

    def _send_next(self) -> Deferred[None] | None:
        if self._paused:
            self._camera.skipped += 1
            return None
        if self._endless:
            self._request.write(_FILLING)
            return None
        # What is not sent by the time of the next one makes that one wait, or be left out.
        return Deferred.fromCoroutine(self._send())

    async def _send(self) -> None:
        image = await self._camera.next_image(self._view, "stream")
        if self not in self._camera._streams:
            return
        fault = image.fault
        headers = {"X-Angle": image.angle}
        if fault is not None and (fault.close or fault.endless):
            length = None if fault.endless else len(image.data)
            self._request.write(write_head(length, image.content_type, headers) + image.half)
        else:
            self._request.write(write_part(image.data, image.content_type, headers))
        if fault is not None and fault.close:
            self.end()
        self._endless = fault is not None and fault.endless

    def _ended(self) -> None:
        self._camera._streams.discard(self)
        if self._frames.running:
            self._frames.stop()

    def _failed(self, reason: Failure) -> None:
        self._camera.log.failure("{name}: a stream ended", reason, name=self._camera.name)
        self.end()
