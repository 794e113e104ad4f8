"""The JPEG receiver as a part of somebody else's web site."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from equipnet.http.message import Answer, Head

if TYPE_CHECKING:
    from equipnet.imaging.receiver import JpegReceiver


class ImageResource(Resource):
    """
    The receiver as a resource of twisted.web, for a site that has others as well.

    The limits of time and of connections are those of that site.

    Parameters
    ----------
    receiver
        Who gets the images.
    """

    isLeaf = True

    def __init__(self, receiver: JpegReceiver) -> None:
        super().__init__()
        self._receiver = receiver

    def render(self, request: Request) -> int:
        """Offer the body to the receiver, which may answer later."""
        content: Any = request.content
        fields = {name.lower(): values for name, values in request.requestHeaders.getAllRawHeaders()}
        head = Head(request.method, request.uri, request.clientproto, fields, content.seek(0, 2))
        host = getattr(request.client, "host", None)
        peer = f"{host}:{request.client.port}" if host else "a local client"
        refusal = self._receiver.refusal(head, host)
        if refusal is None:
            content.seek(0)
            self._receiver.offer(head, content.read(), peer, _Door(request))
        else:
            self._receiver.refuse(refusal, peer, _Door(request))
        return NOT_DONE_YET


class _Door:
    """A request of a foreign site as something that can be answered."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._gone: Callable[[], object] | None = None
        self._is_gone = False
        request.notifyFinish().addErrback(self._went)

    def answer(self, answer: Answer) -> None:
        if self._is_gone:
            return
        self._request.setResponseCode(answer.status)
        for name, value in answer.headers:
            self._request.responseHeaders.addRawHeader(name, value)
        body = f"{answer.text}\n".encode() if answer.text else b""
        self._request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        self._request.setHeader(b"content-length", b"%d" % len(body))
        self._request.write(body)
        self._request.finish()

    def when_gone(self, gone: Callable[[], object]) -> None:
        self._gone = gone

    def _went(self, _: object) -> None:
        self._is_gone = True
        if self._gone is not None:
            self._gone()
