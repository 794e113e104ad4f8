"""
Images: the JPEG receiver beside a threaded one and a bare counter of bytes, and the camera's client beside plain treq.

The threaded receiver is on ``http.server``, written as pydhsfw's is, and gets a new connection for each image, as
pydhsfw's users have it; the others keep theirs. Servers and posters are processes of their own. Each figure is a median
of rounds that take turns; a ratio above 1 says that equipnet is faster.
"""

import json
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react

ROUNDS = 5
SECONDS = 1.5
MEGABYTE = 1_000_000


@cache
def jpeg(size: int) -> bytes:
    """Give a JPEG of so many bytes."""
    file = BytesIO()
    Image.effect_noise((320, 240), 40).save(file, "JPEG", quality=80)
    image = file.getvalue()
    return image[:-2] + bytes(size - len(image)) + image[-2:]


class Server:
    """A server in a process of its own."""

    def __init__(self, who: str, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        self.who = who
        self.process = process
        self.port = int(process.stdout.readline())

    def figures(self) -> dict[str, float]:
        """Give what it has counted since the last time."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        found: dict[str, float] = json.loads(self.process.stdout.readline())
        return found


@contextmanager
def server(who: str) -> Iterator[Server]:
    """Run one of the servers of `benchmarks._images`."""
    command = [sys.executable, "-m", "benchmarks._images", who]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdin is not None
        try:
            yield Server(who, process)
        finally:
            process.stdin.close()


def post(to: Server, image: bytes, posters: int, seconds: float = SECONDS) -> float:
    """Post an image again and again with so many connections at once; gives images a second."""
    keep = to.who != "threaded"
    until = time.monotonic() + seconds
    counts: list[int] = []
    failed: list[str] = []

    def run() -> None:
        count = 0
        connection: socket.socket | None = None
        while time.monotonic() < until:
            if connection is None:
                connection = connect(to.port)
            connection.sendall(head(len(image), to.who == "timed"))
            connection.sendall(image)
            answer = connection.recv(4096)
            if b" 200 " not in answer:
                failed.append(f"{to.who} answered {answer!r}")
                return
            count += 1
            if not keep:
                connection.close()
                connection = None
        counts.append(count)

    threads = [threading.Thread(target=run) for _ in range(posters)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise AssertionError(failed[0])
    return sum(counts) / (time.monotonic() - begin)


def head(length: int, with_time: bool) -> bytes:
    """Give what stands before an image, with the time at which it is sent if that is wanted."""
    lines = [
        "POST /camera1 HTTP/1.1",
        "Host: localhost",
        "User-Agent: benchmark",
        "Content-Type: image/jpeg",
        f"Content-Length: {length}",
    ]
    if with_time:
        lines.append(f"X-Sent: {time.monotonic()!r}")
    return "\r\n".join((*lines, "", "")).encode()


def connect(port: int) -> socket.socket:
    """Open a connection without delay."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def row(what: str, figure: str, ratio: str = "", wanted: str = "") -> None:
    """Print one line of a table."""
    print(f"  {what:<52} {figure:>16} {ratio:>10}  {wanted}", flush=True)


def rates(servers: list[Server], size: int, posters: int, wanted: dict[str, str]) -> None:
    """Print the images a second of each server, and how the first one compares with each of the others."""
    found: dict[str, list[float]] = {each.who: [] for each in servers}
    used: dict[str, list[float]] = {each.who: [] for each in servers}
    image = jpeg(size)
    for each in servers:
        post(each, image, posters, 0.3)
        each.figures()
    for _ in range(ROUNDS):
        for each in servers:
            before = each.figures()["cpu"]
            rate = post(each, image, posters)
            found[each.who].append(rate)
            used[each.who].append((each.figures()["cpu"] - before) / (rate * SECONDS) * 1e6)
    ours = servers[0].who
    title = f"{size // 1000} kB, {posters} poster{'' if posters == 1 else 's'}"
    for each in servers:
        figure = f"{statistics.median(found[each.who]):,.0f}/s"
        ratio = statistics.median(o / t for o, t in zip(found[ours], found[each.who], strict=True))
        shown = f"{statistics.median(used[each.who]):.0f} us of CPU"
        row(
            f"{title}: {each.who} ({shown})",
            figure,
            "" if each.who == ours else f"{ratio:.2f}",
            wanted.get(each.who, ""),
        )


def lag(to: Server) -> None:
    """Print how long an image takes from its last byte to the observer, with eight posters."""
    to.figures()
    found = []
    for _ in range(ROUNDS):
        post(to, jpeg(50_000), 8)
        found.append(to.figures()["p99"])
    row(
        "50 kB, 8 posters: to the observer, 99th percentile",
        f"{statistics.median(found) * 1e3:.2f} ms",
        "",
        "under 3 ms",
    )
    row("  (from before the image is sent, not from its last byte)", "")


def memory() -> None:
    """Print what four images of 20 MB at once cost."""
    with server("receiver") as fresh:
        post(fresh, jpeg(50_000), 4, 0.3)
        before = fresh.figures()["peak"]
        post(fresh, jpeg(20 * MEGABYTE), 4, 2.0)
        used = (fresh.figures()["peak"] - before) * 1024
    flying = 4 * 20 * MEGABYTE
    row(
        "20 MB, 4 posters: peak of memory",
        f"{used / MEGABYTE:.0f} MB",
        f"{used / flying:.2f}",
        "at most 3 times the bytes",
    )


def silence(to: Server) -> None:
    """Print what 500 clients that connect and say nothing cost a poster."""
    ratios = []
    for _ in range(ROUNDS):
        alone = post(to, jpeg(50_000), 1)
        silent = [socket.create_connection(("127.0.0.1", to.port)) for _ in range(500)]
        time.sleep(0.2)
        ratios.append(post(to, jpeg(50_000), 1) / alone)
        for each in silent:
            each.close()
        time.sleep(0.2)
    row("50 kB, 1 poster beside 500 silent clients", "", f"{statistics.median(ratios):.2f}", "no difference")


async def camera(cameras: list[Server]) -> None:
    """Print how fast images are asked for, with digest and without."""
    import treq
    from twisted.web.client import Agent, HTTPConnectionPool

    from equipnet.imaging import AxisCamera

    plain, guarded = cameras
    pool = HTTPConnectionPool(reactor)
    client = treq.client.HTTPClient(Agent(reactor, pool=pool))

    async def by_treq() -> None:
        response = await client.get(f"http://127.0.0.1:{plain.port}/axis-cgi/jpg/image.cgi?camera=1")
        await response.content()

    axes = [
        AxisCamera(f"http://127.0.0.1:{plain.port}", reactor=reactor),
        AxisCamera(f"http://127.0.0.1:{guarded.port}", username="root", password="secret", reactor=reactor),
    ]
    for axis in axes:
        await axis.connect()
    contestants: list[tuple[str, Any]] = [
        ("treq, no digest", by_treq),
        ("AxisCamera, no digest", axes[0].image),
        ("AxisCamera, digest", axes[1].image),
    ]
    found: dict[str, list[float]] = {name: [] for name, _ in contestants}
    for _ in range(ROUNDS):
        for name, ask in contestants:
            begin, count = time.monotonic(), 0
            while time.monotonic() - begin < SECONDS / 2:
                await ask()
                count += 1
            found[name].append(count / (time.monotonic() - begin))
    for name, _ in contestants:
        ratio = statistics.median(o / t for o, t in zip(found[name], found["treq, no digest"], strict=True))
        wanted = "at least 0.5" if name.endswith(", digest") else ""
        row(f"GET of 50 kB, one at a time: {name}", f"{statistics.median(found[name]):,.0f}/s", f"{ratio:.2f}", wanted)
    for axis in axes:
        await axis.disconnect()
    await pool.closeCachedConnections()


def main() -> None:
    """Print all figures."""
    print("\nImages posted to a receiver (the ratio is receiver to that line)")
    with ExitStack() as stack:
        servers = [stack.enter_context(server(who)) for who in ("receiver", "threaded", "bare")]
        rates(servers, 50_000, 1, {"threaded": "at least 1.5", "bare": "at least 0.7"})
        rates(servers, 50_000, 8, {"threaded": "at least 2.5", "bare": "at least 0.7"})
        rates(servers[:2], MEGABYTE, 1, {"threaded": "at least 1.2"})
        rates(servers[:2], MEGABYTE, 8, {"threaded": "at least 1.2"})
        lag(stack.enter_context(server("timed")))
        silence(servers[0])
    memory()
    print("\nImages asked of a camera (the ratio is to treq without digest)")
    with server("plain") as plain, server("digest") as guarded:
        react(lambda _: Deferred.fromCoroutine(camera([plain, guarded])))


if __name__ == "__main__":
    main()
