"""
HSMS: equipnet beside secsgem and a floor, in one run, as ratios.

The floor is a Twisted pair that reads headers and fires a Deferred for each transaction: no states, no checks, no
timers, no items. Each pair has its passive side in a process of its own. Each figure is a median of rounds that take
turns, since these machines are shared; a ratio above 1 says that equipnet is faster.
"""

import gc
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport

from benchmarks._hsms import HEADER, floor_protocol
from equipnet.connection.state import Change, State
from equipnet.hsms import HsmsActiveConnection, HsmsPassiveConnection, HsmsSettings, Timers
from equipnet.hsms.protocol import Counts, HsmsProtocol
from equipnet.secs import A, B, L, Message

ROUNDS = 5
MEGABYTE = 1 << 20
S1F1 = Message(1, 1, wait=True)


def table(title: str, rows: list[tuple[str, str, str, str]]) -> None:
    """Print one table: what, figure, ratio or value, and what is wanted."""
    print(f"\n{title}")
    for what, figure, ratio, wanted in rows:
        print(f"  {what:<52} {figure:>18} {ratio:>12}  {wanted}")
    sys.stdout.flush()


@contextmanager
def passive(who: str) -> Iterator[int]:
    """Run a passive side in a process of its own; gives its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks._hsms", who, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdin is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait()


async def outstanding(count: int, depth: int, ask: Callable[[], "Deferred[Any]"]) -> float:
    """Seconds for ``count`` requests of which always ``depth`` are open."""
    done: Deferred[None] = Deferred()
    left, missing = count, count

    def answered(_: object) -> None:
        nonlocal left, missing
        missing -= 1
        if left:
            left -= 1
            ask().addCallback(answered)
        elif not missing:
            done.callback(None)

    gc.collect()
    begin = time.perf_counter()
    left -= depth
    for _ in range(depth):
        ask().addCallback(answered)
    await done
    return time.perf_counter() - begin


async def sequence(count: int, ask: Callable[[], "Deferred[Any]"]) -> float:
    """Seconds for ``count`` requests, each awaited before the next."""
    gc.collect()
    begin = time.perf_counter()
    for _ in range(count):
        await ask()
    return time.perf_counter() - begin


class SecsgemHost:
    """secsgem as the active side, in this process and its own threads."""

    def __init__(self, port: int) -> None:
        import logging
        import threading

        import secsgem.common
        import secsgem.hsms
        import secsgem.secs

        logging.disable(logging.CRITICAL)
        settings = secsgem.hsms.HsmsSettings(
            address="127.0.0.1",
            port=port,
            connect_mode=secsgem.hsms.HsmsConnectMode.ACTIVE,
            device_type=secsgem.common.DeviceType.HOST,
            t5=1,
        )
        self.peer: Any = secsgem.secs.SecsHandler(settings)
        selected = threading.Event()
        self.peer.protocol.events.communicating += lambda _: selected.set()
        self.peer.enable()
        selected.wait(10)
        time.sleep(0.2)

    def ask(self) -> None:
        self.peer.send_and_waitfor_response(self.peer.stream_function(1, 1)())

    def sequence(self, count: int) -> float:
        begin = time.perf_counter()
        for _ in range(count):
            self.ask()
        return time.perf_counter() - begin

    def parallel(self, count: int, depth: int) -> float:
        import threading

        def work() -> None:
            for _ in range(count // depth):
                self.ask()

        threads = [threading.Thread(target=work) for _ in range(depth)]
        begin = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - begin

    def program(self, body: bytes) -> float:
        begin = time.perf_counter()
        self.peer.send_and_waitfor_response(self.peer.stream_function(7, 3)({"PPID": "P", "PPBODY": body}))
        return time.perf_counter() - begin


async def connected(port: int) -> HsmsActiveConnection:
    host = HsmsActiveConnection("127.0.0.1", port)
    await host.connect()
    return host


async def conversations() -> None:
    with passive("equipnet") as ours, passive("floor") as theirs:
        host = await connected(ours)
        plain: Any = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", theirs), floor_protocol()())

        def floor_ask() -> Any:
            return plain.request(0x81, 1)

        def our_ask() -> Any:
            return host.request(S1F1)

        peer_rates = {1: 0.0, 64: 0.0}
        peer_bytes = 0.0
        if find_spec("secsgem"):
            with passive("secsgem") as port:
                peer = SecsgemHost(port)
                peer_rates = {1: 1500 / peer.sequence(1500), 64: 3200 / peer.parallel(3200, 64)}
                peer_bytes = 4 * MEGABYTE / peer.program(bytes(4 * MEGABYTE))
        rows = []
        for depth, count, wanted, times in ((1, 6000, 0.7, 5), (64, 30000, 0.3, 15)):
            figures: dict[str, list[float]] = {"ours": [], "floor": []}
            for _ in range(ROUNDS):
                for name, ask in (("ours", our_ask), ("floor", floor_ask)):
                    seconds = await (sequence(count, ask) if depth == 1 else outstanding(count, depth, ask))
                    figures[name].append(count / seconds)
            rate = statistics.median(figures["ours"])
            ratio = statistics.median(a / b for a, b in zip(figures["ours"], figures["floor"], strict=True))
            title = f"S1F1 W -> S1F2, {depth} outstanding"
            rows += [
                (title, f"{rate:,.0f}/s", "", ""),
                ("  the floor", f"{statistics.median(figures['floor']):,.0f}/s", f"{ratio:.2f}", f"at least {wanted}"),
            ]
            if peer_rates[depth]:
                there = peer_rates[depth]
                rows.append(("  secsgem", f"{there:,.0f}/s", f"{rate / there:.1f}", f"at least {times}"))
        table("Round trips", rows)

        size = 15 * MEGABYTE
        body = bytes(range(256)) * (size // 256)
        message = Message(7, 3, True, L(A("P"), B(body)))
        text = message.to_bytes()
        big: dict[str, list[float]] = {"ours": [], "floor": []}
        for _ in range(2 * ROUNDS):
            big["ours"].append(size / await sequence(1, lambda: host.request(message)))
            big["floor"].append(size / await sequence(1, lambda: plain.request(0x87, 3, text)))
        rate = statistics.median(big["ours"])
        ratio = statistics.median(a / b for a, b in zip(big["ours"], big["floor"], strict=True))
        rows = [
            ("S7F3 of 15 MiB, with its S7F4", f"{rate / 1e6:,.0f} MB/s", "", ""),
            ("  the floor", f"{statistics.median(big['floor']) / 1e6:,.0f} MB/s", f"{ratio:.2f}", "at least 0.3"),
        ]
        if peer_bytes:
            rows.append(
                ("  secsgem (4 MiB)", f"{peer_bytes / 1e6:,.1f} MB/s", f"{rate / peer_bytes:,.0f}", "at least 100")
            )
        table("Long messages", rows)
        await host.disable()
        plain.transport.loseConnection()


class NoOwner:
    """Stands for the service of a protocol that is fed directly."""

    name = "fed"

    def __init__(self) -> None:
        self.taps: list[Any] = []
        self.counts = Counts()

    def select_requested(self, protocol: Any, header: Any) -> int:
        return 0

    def primary_received(self, protocol: Any, message: Any) -> None:
        pass

    def closing(self, protocol: Any) -> None:
        pass

    def usable(self, protocol: Any, reason: str) -> None:
        pass

    def unusable(self, protocol: Any, reason: str) -> None:
        pass

    def went_down(self, protocol: Any, reason: Any) -> None:
        pass


def fed(size: int, chunk: int) -> tuple[float, float]:
    """Seconds for a message of this size in such chunks: our receiver, and a bare bytearray framer."""
    frame = HEADER.pack(10 + size, 0, 7, 3, 0, 0, 2) + bytes(size)
    chunks = [frame[at : at + chunk] for at in range(0, len(frame), chunk)]

    owner: Any = NoOwner()
    protocol = HsmsProtocol(owner, Clock(), HsmsSettings(message_limit=1 << 30), active=False)
    protocol.makeConnection(StringTransport())
    protocol.begin()
    protocol.dataReceived(HEADER.pack(10, 0xFFFF, 0, 0, 0, 1, 1))
    gc.collect()
    begin = time.perf_counter()
    for each in chunks:
        protocol.dataReceived(each)
    ours = time.perf_counter() - begin
    assert owner.counts.received == 1

    gc.collect()
    begin = time.perf_counter()
    buffer = bytearray()
    for each in chunks:
        buffer += each
        if len(buffer) >= 4 and len(buffer) >= 4 + int.from_bytes(buffer[:4], "big"):
            whole = bytes(buffer)
            del buffer[:]
    bare = time.perf_counter() - begin
    assert len(whole) == len(frame)
    return ours, bare


async def receiver() -> None:
    small = [fed(15 * MEGABYTE, 1448) for _ in range(ROUNDS)]
    large = {size: statistics.median(fed(size * MEGABYTE, 65536)[0] for _ in range(ROUNDS)) for size in (15, 60)}
    ratio = statistics.median(ours / bare for ours, bare in small)
    table(
        "The receiver, fed directly",
        [
            ("15 MiB in chunks of 1,448 bytes", f"{statistics.median(o for o, _ in small) * 1e3:.1f} ms", "", ""),
            (
                "  a bare bytearray",
                f"{statistics.median(b for _, b in small) * 1e3:.1f} ms",
                f"{ratio:.2f} x",
                "at most 3 x",
            ),
            ("15 MiB in chunks of 64 KiB", f"{large[15] * 1e3:.1f} ms", "", ""),
            ("60 MiB", f"{large[60] * 1e3:.1f} ms", f"{large[60] / large[15]:.1f} x", "at most 6 x"),
        ],
    )


async def idle() -> None:
    """200 passive connections with a linktest every 10 seconds, each with its host in another process."""
    count, seconds = 200, 15.0
    code = """
from twisted.internet import reactor
from equipnet.hsms import HsmsActiveConnection, Timers
import sys, threading
ports = [int(each) for each in sys.argv[1:]]
hosts = [HsmsActiveConnection("127.0.0.1", port, timers=Timers(linktest=10.0)) for port in ports]
for host in hosts: host.enable()
threading.Thread(target=lambda: (sys.stdin.read(), reactor.callFromThread(reactor.stop)), daemon=True).start()
reactor.run()
"""

    def tool(number: int) -> HsmsPassiveConnection:
        return HsmsPassiveConnection(listen="tcp:0", timers=Timers(linktest=10.0), name=f"tool{number}")

    tools = [tool(0)]
    await tools[0].listen()  # what the first one needs, the others share
    gc.collect()
    before = _resident()
    tools += map(tool, range(1, count))
    for each in tools[1:]:
        await each.listen()
    ports = [str(each.bound.port) for each in tools if each.bound is not None]
    hosts = subprocess.Popen([sys.executable, "-c", code, *ports], stdin=subprocess.PIPE)
    for each in tools:
        await each.when_ready()
    await deferLater(reactor, 1.0)
    gc.collect()
    size = (_resident() - before) / (count - 1)
    used = time.process_time()
    await deferLater(reactor, seconds)
    used = (time.process_time() - used) / seconds
    import threading

    table(
        "200 passive connections, linktest 10 s in both directions",
        [
            ("memory of one more", f"{size / 1000:.1f} kB", "", "at most 60 kB"),
            ("of one core", f"{used * 100:.2f} %", "", "at most 1 %"),
            ("threads", f"{threading.active_count()}", "", "1"),
        ],
    )
    assert hosts.stdin is not None
    hosts.stdin.close()
    hosts.wait()
    for each in tools:
        await each.disable()


def _resident() -> float:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


async def again() -> None:
    """How long it takes to be selected again after a drop."""
    tool = HsmsPassiveConnection(listen="tcp:0")
    await tool.listen()
    assert tool.bound is not None
    bound = tool.bound
    waits = []
    for _ in range(20):
        host = await connected(bound.port)
        lost: Deferred[None] = Deferred()

        def observe(change: Change, lost: "Deferred[None]" = lost) -> None:
            if change.new is State.WAITING:
                tool.remove_observer(observe)
                lost.callback(None)

        tool.add_observer(observe)
        host.protocol.transport.abortConnection()
        begin = time.perf_counter()
        await lost
        other = await connected(bound.port)
        waits.append(time.perf_counter() - begin)
        await host.disable()
        await other.disable()
        while tool.state is not State.WAITING:
            await deferLater(reactor, 0)
    rows = [("passive, by the next host", f"{statistics.median(waits) * 1e3:.1f} ms", "", "at most 20 ms")]
    for up, wanted in ((0.0, "1 s (T5)"), (1.1, "at once")):
        host = HsmsActiveConnection("127.0.0.1", bound.port, timers=Timers(t5=1.0))
        await host.connect()
        await deferLater(reactor, up)
        assert tool.protocol is not None
        tool.protocol.transport.abortConnection()
        begin = time.perf_counter()
        while host.state is State.READY:
            await deferLater(reactor, 0)
        await host.when_ready()
        rows.append(
            (f"active, T5 = 1 s, dropped after {up:.1f} s", f"{(time.perf_counter() - begin) * 1e3:.0f} ms", "", wanted)
        )
        await host.disable()
    table("Selected again after a drop", rows)
    await tool.disable()


def main() -> None:
    # Memory is measured before anything else has used much of it.
    parts: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
        "idle": idle,
        "again": again,
        "receiver": receiver,
        "conversations": conversations,
    }
    wanted = sys.argv[1:] or [*parts]

    async def run() -> None:
        for name, part in parts.items():
            if name in wanted:
                await part()

    def ended(result: Any) -> None:
        if result is not None:
            result.printTraceback()
        reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(run()).addBoth(ended))
    reactor.run()
    sys.stdout.flush()
    os._exit(0)  # secsgem's threads may wait for ever


if __name__ == "__main__":
    main()
