"""
The servers of the imaging benchmark, each in a process of its own: ``python -m benchmarks._images WHO``.

``receiver`` is equipnet's, ``timed`` is that one with an observer that notes when each image comes, ``threaded`` is a
receiver on ``http.server`` as pydhsfw has it (one thread that serves, the image is queued for another one), ``bare`` a
Twisted protocol that only counts the bytes of a POST, ``plain`` and ``digest`` are cameras on twisted.web. They print
their port, and end when their standard input does; a line on it is answered with a line of figures.
"""

import gc
import http.server
import json
import queue
import resource
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

#: Where a poster writes when it sent the last byte of an image: the clock of all processes.
SENT = "X-Sent"

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Lags:
    """How long images took from their last byte to whoever wants them."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def figures(self) -> dict[str, float]:
        """Give the count, the 99th percentile in seconds, and the peak of memory in kB; begin anew."""
        lags, self.seconds = sorted(self.seconds), []
        gc.collect()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"count": len(lags), "p99": lags[len(lags) * 99 // 100] if lags else 0.0, "peak": peak, "cpu": cpu()}


def cpu() -> float:
    """Give the seconds of CPU time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def receiver() -> None:
    _receive(lambda image, lags: None)


def timed() -> None:
    _receive(lambda image, lags: lags.seconds.append(time.monotonic() - float(image.headers[SENT])))


def _receive(note: Callable[[Any, Lags], object]) -> None:
    from twisted.internet import reactor

    from equipnet.imaging import JpegReceiver

    lags = Lags()
    server = JpegReceiver("tcp:0", max_size="64 MiB", max_connections=1000, reactor=reactor)
    server.observe_images(lambda image: note(image, lags))

    def listening(_: object) -> None:
        assert server.bound is not None
        serve(server.bound.port, lags.figures)

    server.connect().addCallback(listening)
    reactor.run()


def bare() -> None:
    from twisted.internet import reactor
    from twisted.internet.protocol import Factory, Protocol

    class Counter(Protocol):
        transport: Any
        missing = -1
        head = b""

        def connectionMade(self) -> None:
            self.transport.setTcpNoDelay(True)

        def dataReceived(self, data: bytes) -> None:
            while data:
                if self.missing < 0:
                    self.head += data
                    end = self.head.find(b"\r\n\r\n")
                    if end < 0:
                        return
                    at = self.head.index(b"Content-Length: ") + 16
                    self.missing = int(self.head[at : self.head.index(b"\r", at)])
                    data, self.head = self.head[end + 4 :], b""
                if len(data) < self.missing:
                    self.missing -= len(data)
                    return
                data, self.missing = data[self.missing :], -1
                self.transport.write(OK)

    factory: Any = Factory.forProtocol(Counter)
    port: Any = reactor.listenTCP(0, factory, 1024, "127.0.0.1")
    serve(port.getHost().port, Lags().figures)
    reactor.run()


def threaded() -> None:
    waiting: queue.Queue[bytes] = queue.Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 5

        def do_POST(self) -> None:
            image = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            waiting.put(image)

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    def handle() -> None:
        while True:
            waiting.get()

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=handle, daemon=True).start()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    serve(server.server_port, Lags().figures).join()


def plain() -> None:
    _camera(None)


def digest() -> None:
    from twisted.internet import reactor

    from equipnet.http.digest import Guard

    _camera(Guard("root", "secret", "camera", reactor.seconds))


def _camera(guard: Any) -> None:
    from twisted.internet import reactor
    from twisted.web.resource import Resource
    from twisted.web.server import Site

    from benchmarks.imaging import jpeg
    from equipnet.http.digest import Verdict

    image = jpeg(50_000)

    class Camera(Resource):
        isLeaf = True

        def render_GET(self, request: Any) -> bytes:
            if guard is not None:
                said = request.requestHeaders.getRawHeaders(b"authorization", [None])[0]
                verdict = guard.verify("GET", request.uri.decode(), said)
                if verdict is not Verdict.GOOD:
                    request.setResponseCode(401)
                    challenges = guard.challenges(verdict is Verdict.STALE)
                    request.responseHeaders.setRawHeaders(b"www-authenticate", challenges)
                    return b""
            request.setHeader(b"content-type", b"image/jpeg")
            return image

    site: Any = Site(Camera())
    port: Any = reactor.listenTCP(0, site, interface="127.0.0.1")
    serve(port.getHost().port, Lags().figures)
    reactor.run()


def serve(port: int, figures: Callable[[], dict[str, float]]) -> threading.Thread:
    """Print the port; answer each line on standard input with figures, and end with it."""

    def listen() -> None:
        for _ in sys.stdin:
            print(json.dumps(figures()), flush=True)
        import os

        os._exit(0)

    print(port, flush=True)
    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    return thread


if __name__ == "__main__":
    globals()[sys.argv[1]]()
