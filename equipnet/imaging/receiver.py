"""The JPEG receiver: an HTTP port to which cameras post their images, for whoever wants them."""

from __future__ import annotations

import hmac
import re
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Iterable
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, Literal, get_args

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from equipnet.connection.address import Address
from equipnet.connection.protocol import show_to
from equipnet.connection.retry import RetryPolicy
from equipnet.connection.tls import TLS
from equipnet.errors import Disconnected
from equipnet.http.channel import Incoming
from equipnet.http.digest import Guard, Verdict
from equipnet.http.message import Answer, Head
from equipnet.http.server import HttpPort
from equipnet.http.size import parse_size
from equipnet.imaging.image import HeaderFields, ReceivedImage
from equipnet.imaging.jpeg import Header, NotAnImage, read_header
from equipnet.imaging.resource import ImageResource
from equipnet.imaging.storage import ImageStore, Retention, StorageFailed
from equipnet.imaging.subscription import Subscription
from equipnet.interfaces import Traffic

#: How many images a subscription, an asynchronous observer or the disk may be behind, where nothing else is said.
DEFAULT_LIMIT = 100

#: For so many paths the latest image is known.
LATEST_LIMIT = 100

#: What to do with an image for which a consumer has no room: let the camera wait for its answer, answer 503, or forget
#: the oldest image that the consumer has not taken yet.
WhenFull = Literal["wait", "refuse", "drop-oldest"]

#: What a camera may call an image; what it is, is seen in the image.
CONTENT_TYPES = frozenset((b"image/jpeg", b"image/jpg", b"image/pjpeg", b"image/png", b"image/x-png"))

_ACCEPTED = Answer(200)
_METHODS = frozenset((b"POST", b"PUT"))
_TOKEN = re.compile(r"[!-~]+")
_REALM = "equipnet"


ImageObserver = Callable[[ReceivedImage], object] | Callable[[ReceivedImage], Coroutine[Any, Any, object]]


class _Upload(Incoming):
    """A request whose body is offered to the receiver, without a search for a resource."""

    def serve(self) -> None:
        receiver: Any = self.channel.port
        receiver.offer(self.head, self.body, self.channel.peer, self)


class _Waiting:
    """An image for which there was no room, and the request that waits for its answer."""

    __slots__ = ("late", "offered", "request")
    late: IDelayedCall

    def __init__(self, offered: tuple[Any, ...], request: Any) -> None:
        self.offered = offered
        self.request = request


class JpegReceiver(HttpPort):
    """
    A port to which cameras post JPEG and PNG images; READY as soon as it is bound.

    An image is accepted when every consumer (each subscription, each asynchronous observer, the disk) has room for it,
    and only then the camera is answered 200. A refusal says why in one line: 400 and 411 for a request that is
    malformed or has no length, 401 without the right credentials, 403 from an address that is not allowed, 404 for
    another path, 405 for another method, 408 for one that takes too long, 413 for a body over the limit, 415 for
    another type, 422 for what is not a whole image, 503 while the receiver is closed or full.

    Parameters
    ----------
    listen, name, max_connections, allowed, idle_timeout, request_timeout, tls, retry, reactor
        As for `HttpPort`; a camera that waits for room is answered 503 after ``request_timeout`` seconds.
    max_size
        The most bytes of an image, as a number or as ``"20 MiB"``.
    paths
        The paths to which images may be posted; any where nothing is given.
    token
        What a camera must send as ``Authorization: Bearer TOKEN``.
    username, password
        What a camera must send as Digest or Basic credentials; with a token, either will do.
    when_full
        What to do with an image for which a consumer has no room.
    store
        The folder in which images are stored; none where nothing is given.
    retention
        How much is kept there.

    Attributes
    ----------
    received
        How many images were accepted.
    store
        What stores them; None without a folder. An image that cannot be stored is its ``last_error`` and is logged.
    """

    kind = "jpeg-receiver"
    request_class = _Upload

    def __init__(
        self,
        listen: str | Address,
        *,
        name: str | None = None,
        max_size: int | str = "20 MiB",
        max_connections: int = 100,
        idle_timeout: float = 5.0,
        request_timeout: float = 30.0,
        allowed: Iterable[str] = (),
        paths: Iterable[str] = (),
        token: str | None = None,
        username: str | None = None,
        password: str | None = None,
        when_full: WhenFull = "wait",
        store: Path | str | None = None,
        retention: Retention | None = None,
        tls: TLS | None = None,
        retry: RetryPolicy | None = None,
        reactor: Any = None,
    ) -> None:
        super().__init__(
            listen,
            ImageResource(self),
            name=name,
            max_size=parse_size(max_size),
            max_connections=max_connections,
            idle_timeout=idle_timeout,
            request_timeout=request_timeout,
            allowed=allowed,
            tls=tls,
            retry=retry,
            reactor=reactor,
        )
        if (username is None) != (password is None):
            raise ValueError("username and password go together")
        check_credentials(token, username)
        if when_full not in get_args(WhenFull):
            raise ValueError(f"when_full is {when_full!r}, not one of {', '.join(get_args(WhenFull))}")
        self.when_full = when_full
        self.received = 0
        self._paths = frozenset(map(check_path, paths))
        self._token = token
        self._guard: Guard | None = None
        if username is not None and password is not None:
            self._guard = Guard(
                username, password, _REALM, self.reactor.seconds, algorithms=("SHA-256", "MD5", "Basic")
            )
        self._is_open = True
        self._observers: list[Callable[[ReceivedImage], object]] = []
        self._followers: dict[ImageObserver, Subscription[ReceivedImage]] = {}
        self._subscriptions: list[weakref.ref[Subscription[ReceivedImage]]] = []
        self._waiting_images: deque[_Waiting] = deque()
        self._making_room = False
        self._latest: OrderedDict[str, ReceivedImage] = OrderedDict()
        self._newest: ReceivedImage | None = None
        self.store: ImageStore | None = None
        if store is not None:
            self.store = ImageStore(
                Path(store),
                retention,
                limit=DEFAULT_LIMIT,
                reactor=self.reactor,
                failed=self._storing_failed,
                taken=self._made_room,
            )

    # What users call

    @property
    def is_open(self) -> bool:
        """Whether images are accepted, as far as the receiver is concerned."""
        return self._is_open

    def open(self) -> None:
        """Accept images; a new receiver does."""
        self._is_open = True

    def close(self) -> None:
        """Answer 503 to each image until the receiver is opened again; the port stays bound, and nothing is kept."""
        self._is_open = False
        self._turn_away(_closed())

    def observe_images(self, observer: ImageObserver) -> None:
        """
        Call ``observer`` with each image that is accepted from now on; what it raises is logged and changes nothing.

        Parameters
        ----------
        observer
            A function, or an ``async def``: that is called with one image after the other, and may be `DEFAULT_LIMIT`
            images behind. One that is there already is not added again.
        """
        if observer in self._observers or observer in self._followers:
            return
        if iscoroutinefunction(observer) or iscoroutinefunction(type(observer).__call__):
            subscription = self._followers[observer] = self._subscribe(DEFAULT_LIMIT)
            Deferred.fromCoroutine(self._follow(observer, subscription))
        else:
            self._observers.append(observer)

    def forget_observer(self, observer: ImageObserver) -> None:
        """Call ``observer`` no more; one that is not there is no error."""
        if observer in self._observers:
            self._observers.remove(observer)
        subscription = self._followers.pop(observer, None)
        if subscription is not None:
            subscription.close()

    def images(self, limit: int = DEFAULT_LIMIT) -> Subscription[ReceivedImage]:
        """
        Give an asynchronous iterator over the images that are accepted from now on.

        Parameters
        ----------
        limit
            How many it holds for its user; ``when_full`` says what happens then.

        Returns
        -------
        Subscription[ReceivedImage]
            Ends when the receiver is stopped as a service. Dropping it, or its ``aclose``, ends it from this side.
        """
        return self._subscribe(limit)

    def latest(self, path: str | None = None) -> ReceivedImage | None:
        """Give the image that was accepted last, or that for ``path`` (its query left out); None before the first."""
        return self._newest if path is None else self._latest.get(path)

    def resource(self) -> ImageResource:
        """Give a resource of twisted.web by which another site receives images for this receiver."""
        return ImageResource(self)

    def stopService(self) -> Deferred[None]:
        stopped = super().stopService()
        for subscription in self._present():
            # Observers go on when it is started again.
            if subscription not in self._followers.values():
                subscription.end()
        store = self.store
        return stopped if store is None else stopped.addCallback(lambda _: store.when_idle())

    # What the protocol and the resource call

    def refusal(self, head: Head, host: str | None) -> Answer | None:
        refusal = super().refusal(head, host)
        if refusal is not None:
            return refusal
        if head.method not in _METHODS:
            return Answer(405, "images are posted here: POST or PUT", (("Allow", "POST, PUT"),))
        if self._token is not None or self._guard is not None:
            refusal = self._identify(head)
            if refusal is not None:
                return refusal
        if self._paths and _path_and_query(head)[0] not in self._paths:
            return Answer(404, f"no images are received at {_path_and_query(head)[0][:60]!a}")
        if head.length == 0 and b"content-length" not in head.fields:
            return Answer(411, "an image comes with its Content-Length, or in chunks")
        content_type = head.first(b"content-type")
        if content_type and content_type.partition(b";")[0].strip().lower() not in CONTENT_TYPES:
            return Answer(415, f"images are JPEG or PNG, not {content_type[:60].decode('latin-1')!a}")
        return None if self._accepts else _closed()

    def offer(self, head: Head, data: bytes, peer: str, request: Any) -> None:
        """
        Take an image whose head was not refused, and answer the request, at once or once there is room.

        Parameters
        ----------
        head, data
            What was posted.
        peer
            By whom.
        request
            What has ``answer`` and ``when_gone``, as `Incoming` does.
        """
        try:
            header = read_header(data)
        except NotAnImage as error:
            self.refuse(Answer(422, f"not a whole image: {error}"), peer, request)
            return
        offered = (header, data, head, peer, time.time())
        if not self._accepts:
            self.refuse(_closed(), peer, request)
        elif self.when_full == "drop-oldest" or (not self._waiting_images and self._has_room()):
            self._accept(*offered)
            request.answer(_ACCEPTED)
        elif self.when_full == "refuse":
            self.refuse(_full(), peer, request)
        else:
            self._wait_for_room(_Waiting(offered, request))

    def refuse(self, answer: Answer, peer: str, request: Any) -> None:
        """Answer a request with a refusal, count it, and log it."""
        self.refused_request(answer, peer)
        request.answer(answer)

    # How images reach their consumers

    @property
    def _accepts(self) -> bool:
        return self._is_open and self._closing is None

    def _accept(self, header: Header, data: bytes, head: Head, peer: str, received_at: float) -> None:
        self.received += 1
        path, query = _path_and_query(head)
        image = ReceivedImage(
            data,
            header.content_type,
            header.width,
            header.height,
            path,
            HeaderFields(head.fields),
            peer,
            received_at,
            self.received,
            query,
        )
        self._newest = image
        self._latest[path] = image
        self._latest.move_to_end(path)
        if len(self._latest) > LATEST_LIMIT:
            self._latest.popitem(last=False)
        if self.taps:
            show_to(self.taps, Traffic(self.name, received_at, "in", data, image))
        for observer in self._observers.copy():
            try:
                observer(image)
            except Exception:
                self.log.failure("{name}: an observer of images raised", name=self.name)
        if self._subscriptions:
            for subscription in self._present():
                subscription.put(image)
        if self.store is not None:
            self.store.put(image)

    async def _follow(self, observer: ImageObserver, subscription: Subscription[ReceivedImage]) -> None:
        async for image in subscription:
            try:
                result: Any = observer(image)
                await result
            except Exception:
                self.log.failure("{name}: an observer of images raised", name=self.name)

    def _subscribe(self, limit: int) -> Subscription[ReceivedImage]:
        subscription: Subscription[ReceivedImage] = Subscription(limit, self._made_room, self._dropped_one)
        self._subscriptions.append(weakref.ref(subscription, self._subscriptions.remove))
        return subscription

    def _present(self) -> list[Subscription[ReceivedImage]]:
        # The list may change meanwhile: the garbage collector runs when it likes.
        return [found for each in tuple(self._subscriptions) if (found := each()) is not None]

    def _dropped_one(self) -> None:
        if self._waiting_images:
            # This may be any thread.
            self.reactor.callFromThread(self._made_room)

    # What happens when there is no room

    def _has_room(self) -> bool:
        if self.store is not None and self.store.full:
            return False
        return not self._subscriptions or not any(subscription.full for subscription in self._present())

    def _made_room(self) -> None:
        if self._making_room:
            return  # a consumer took the next one while it was given to the others: the loop below goes on
        self._making_room = True
        try:
            while self._waiting_images and self._has_room():
                waiting = self._waiting_images.popleft()
                waiting.late.cancel()
                self._accept(*waiting.offered)
                waiting.request.answer(_ACCEPTED)
        finally:
            self._making_room = False

    def _wait_for_room(self, waiting: _Waiting) -> None:
        def too_late() -> None:
            self._waiting_images.remove(waiting)
            self.refuse(_full(), waiting.offered[3], waiting.request)

        def gone() -> None:
            if waiting in self._waiting_images:
                self._waiting_images.remove(waiting)
                waiting.late.cancel()

        waiting.late = self.reactor.callLater(self.request_timeout, too_late)
        waiting.request.when_gone(gone)
        self._waiting_images.append(waiting)

    def _turn_away(self, answer: Answer) -> None:
        waiting_images, self._waiting_images = self._waiting_images, deque()
        for waiting in waiting_images:
            waiting.late.cancel()
            self.refuse(answer, waiting.offered[3], waiting.request)

    def _close(self, error: Disconnected) -> None:
        self._turn_away(_closed())
        super()._close(error)

    # Who may post

    def _identify(self, head: Head) -> Answer | None:
        said = head.fields.get(b"authorization", [None])[0]
        scheme, _, credentials = (said or b"").partition(b" ")
        is_bearer = self._token is not None and scheme.lower() == b"bearer"
        if is_bearer and self._token and hmac.compare_digest(credentials.strip(), self._token.encode()):
            return None
        verdict = Verdict.WRONG if is_bearer else Verdict.NOBODY
        if self._guard is not None and not is_bearer:
            verdict = self._guard.verify(head.method.decode(), head.target.decode("utf-8", "surrogateescape"), said)
            if verdict is Verdict.GOOD:
                return None
        challenges = [] if self._token is None else [b"Bearer"]
        if self._guard is not None:
            challenges += self._guard.challenges(verdict is Verdict.STALE)
        schemes = [] if self._token is None else ["Bearer"]
        schemes += [] if self._guard is None else ["Digest", "Basic"]
        text = f"say who you are in an Authorization field: {' or '.join(schemes)}"
        if verdict is Verdict.WRONG:
            text = "the credentials are not the right ones"
        return Answer(401, text, tuple(("WWW-Authenticate", each.decode("latin-1")) for each in challenges))

    # What the disk says

    def _storing_failed(self, error: StorageFailed) -> None:
        self.last_error = error
        self.log.error("{name}: {error}", name=self.name, error=error)


def check_path(path: str) -> str:
    """Give a path to which images may be posted; raises ValueError for what is none."""
    if not path.startswith("/"):
        raise ValueError(f"a path begins with /: {path!r}")
    return path


def check_credentials(token: str | None, username: str | None) -> None:
    """Refuse what no camera could send; raises ValueError."""
    if token is not None and not _TOKEN.fullmatch(token):
        raise ValueError("a token is one word of visible ASCII characters")
    if username == "":
        raise ValueError("username is empty")


def _path_and_query(head: Head) -> tuple[str, str]:
    path, _, query = head.target.decode("latin-1").partition("?")
    return path, query


def _closed() -> Answer:
    return Answer(503, "the receiver is closed")


def _full() -> Answer:
    return Answer(503, "too many images wait to be used", (("Retry-After", "1"),))
