"""
Instruments: equipnet beside its peers and floors, in one run, as ratios.

Floors are a raw blocking socket, a plain Twisted LineReceiver with one Deferred for each query, and a plain Twisted
protocol that only counts bytes; the peer is asyncio's streams. All talk to the same plain Twisted server in another
process. Each figure is a median of rounds that take turns, since these machines are shared; a ratio above 1 says that
equipnet is faster.
"""

import asyncio
import gc
import os
import resource
import socket
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.protocols.basic import LineReceiver

from benchmarks._equipment import IDENTITY, MEGABYTE, message, server
from equipnet.connection.state import Change, State
from equipnet.instrument import Instrument

CORE = sorted(os.sched_getaffinity(0))[0]
ROUNDS = 7
QUERIES = 4000


class Lines(LineReceiver):
    """The floor of queries: a line receiver with one Deferred for each."""

    transport: Any
    delimiter = b"\n"
    MAX_LENGTH = 1 << 30

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.waiting: deque[Deferred[str]] = deque()

    def lineReceived(self, line: bytes) -> None:
        self.waiting.popleft().callback(line.decode())

    def query(self, message: str) -> "Deferred[str]":
        answer: Deferred[str] = Deferred()
        self.waiting.append(answer)
        self.transport.write(message.encode() + b"\n")
        return answer


class Counter(Protocol):
    """The floor of blocks: counts bytes and does nothing with them."""

    transport: Any
    missing = 0
    done: "Deferred[None]"

    def count(self, size: int) -> "Deferred[None]":
        self.missing = size
        self.done = Deferred()
        return self.done

    def dataReceived(self, data: bytes) -> None:
        self.missing -= len(data)
        if self.missing == 0:
            self.done.callback(None)


def table(title: str, rows: list[tuple[str, str, str, str]]) -> None:
    """Print one table: what, figure, ratio or value, and what is wanted."""
    print(f"\n{title}")
    for what, figure, ratio, wanted in rows:
        print(f"  {what:<46} {figure:>22} {ratio:>14}  {wanted}")
    sys.stdout.flush()


def blocking(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


async def in_turns(rounds: int, **contestants: Callable[[], Any]) -> dict[str, list[float]]:
    """Time each contestant once in every round; seconds by name, round by round."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            gc.collect()
            await deferLater(reactor, 0.02)  # the server, too, clears up after itself
            begin = time.perf_counter()
            result = contestant()
            if isinstance(result, Deferred):
                result = await result
            times[name].append(time.perf_counter() - begin)
            del result  # clearing up is nobody's time
    return times


def ratio(times: dict[str, list[float]], ours: str, theirs: str) -> float:
    """How many times as fast as ``theirs`` ``ours`` is: the median of the rounds' own ratios."""
    return statistics.median(t / o for o, t in zip(times[ours], times[theirs], strict=True))


async def sequential(port: int) -> None:
    dmm = Instrument(f"TCP::127.0.0.1::{port}", termination="\n", timeout=5.0)
    await dmm.connect()
    plain = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), Lines())
    sock = blocking(port)

    async def equipnet() -> None:
        for _ in range(QUERIES):
            await dmm.query("*IDN?")

    async def line_receiver() -> None:
        for _ in range(QUERIES):
            await plain.query("*IDN?")

    def raw() -> None:
        for _ in range(QUERIES):
            sock.sendall(b"*IDN?\n")
            data = sock.recv(4096)
            while not data.endswith(b"\n"):
                data += sock.recv(4096)

    def streams(limit: bool) -> None:
        async def ask() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(QUERIES):
                writer.write(b"*IDN?\n")
                reply = reader.readuntil(b"\n")
                (await (asyncio.wait_for(reply, 5.0) if limit else reply)).decode()
            writer.close()

        asyncio.run(ask())

    assert await dmm.query("*IDN?") == IDENTITY.decode() + "\n"
    contestants = {
        "equipnet": lambda: Deferred.fromCoroutine(equipnet()),
        "LineReceiver": lambda: Deferred.fromCoroutine(line_receiver()),
        "limited": lambda: streams(True),
        "asyncio": lambda: streams(False),
        "raw": raw,
    }
    times = await in_turns(ROUNDS, **contestants)
    rate = {name: QUERIES / statistics.median(seconds) for name, seconds in times.items()}
    table(
        "Sequential *IDN? queries, client and server on one core",
        [
            ("equipnet", f"{rate['equipnet']:,.0f}/s", "", ""),
            (
                "plain LineReceiver, one Deferred a query",
                f"{rate['LineReceiver']:,.0f}/s",
                f"{ratio(times, 'equipnet', 'LineReceiver'):.2f}",
                "at least 0.65",
            ),
            (
                "asyncio streams, a limit of time as equipnet's",
                f"{rate['limited']:,.0f}/s",
                f"{ratio(times, 'equipnet', 'limited'):.2f}",
                "above 1",
            ),
            (
                "asyncio streams, no limit of time",
                f"{rate['asyncio']:,.0f}/s",
                f"{ratio(times, 'equipnet', 'asyncio'):.2f}",
                "",
            ),
            ("raw blocking socket", f"{rate['raw']:,.0f}/s", f"{ratio(times, 'equipnet', 'raw'):.2f}", ""),
        ],
    )
    await dmm.disconnect()
    plain.transport.loseConnection()
    sock.close()


async def simulator() -> None:
    with server(pinned_to=CORE) as (_, plain_port), server(pinned_to=CORE, simulator=True) as (_, our_port):
        plain, ours = blocking(plain_port), blocking(our_port)

        def ask(sock: socket.socket, commands: bytes, times: int) -> None:
            replies = (len(IDENTITY) + 1) * commands.count(b"\n")
            for _ in range(times):
                sock.sendall(commands)
                missing = replies
                while missing:
                    missing -= len(sock.recv(1 << 16))

        one, many = b"*IDN?\n", b"*IDN?\n" * 100
        times = await in_turns(
            ROUNDS,
            plain=lambda: ask(plain, one, QUERIES),
            ours=lambda: ask(ours, one, QUERIES),
            plain_many=lambda: ask(plain, many, QUERIES // 10),
            ours_many=lambda: ask(ours, many, QUERIES // 10),
        )
        rate = {name: QUERIES / statistics.median(seconds) for name, seconds in times.items()}
        table(
            "The simulator beside a plain LineReceiver server, asked by a raw blocking socket on the same core",
            [
                ("InstrumentSimulator, one command at a time", f"{rate['ours']:,.0f}/s", "", ""),
                ("LineReceiver", f"{rate['plain']:,.0f}/s", f"{ratio(times, 'ours', 'plain'):.2f}", "at least 1"),
                ("InstrumentSimulator, 100 in a segment", f"{rate['ours_many'] * 10:,.0f}/s", "", ""),
                (
                    "LineReceiver",
                    f"{rate['plain_many'] * 10:,.0f}/s",
                    f"{ratio(times, 'ours_many', 'plain_many'):.2f}",
                    "",
                ),
            ],
        )
        plain.close()
        ours.close()


async def long_messages(port: int) -> None:
    dmm = Instrument(f"TCP::127.0.0.1::{port}", termination="\n", timeout=60.0, max_read_size=100 * MEGABYTE)
    await dmm.connect()
    counter: Counter = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), Counter())
    sock = blocking(port)
    size = 10

    def raw_line() -> None:
        sock.sendall(b"LINE %d\n" % size)
        parts = []
        while True:
            parts.append(sock.recv(1 << 16))
            if b"\n" in parts[-1]:
                break
        b"".join(parts).decode()

    def raw_block(size: int = size) -> bytes:
        sock.sendall(b"BLOCK %d\n" % size)
        missing = len(message(b"BLOCK", size))
        parts = []
        while missing:
            parts.append(sock.recv(1 << 16))
            missing -= len(parts[-1])
        return b"".join(parts)

    def count() -> Deferred[None]:
        counter.transport.write(b"BLOCK %d\n" % size)
        return counter.count(len(message(b"BLOCK", size)))

    times = await in_turns(
        15,
        line=lambda: dmm.query("LINE 10"),
        block=lambda: dmm.query("BLOCK 10", fmt="ieee", dtype="<f"),
        raw_line=raw_line,
        raw_block=raw_block,
        counter=count,
    )
    rate = {name: size / statistics.median(seconds) for name, seconds in times.items()}
    table(
        "One message of 10 MB",
        [
            ("equipnet, a line, as text", f"{rate['line']:,.0f} MB/s", "", ""),
            (
                "raw blocking socket, a line, as text",
                f"{rate['raw_line']:,.0f} MB/s",
                f"{ratio(times, 'line', 'raw_line'):.2f}",
                "at least 0.5",
            ),
            ("equipnet, an IEEE block, as an array", f"{rate['block']:,.0f} MB/s", "", ""),
            (
                "plain Twisted protocol that counts bytes",
                f"{rate['counter']:,.0f} MB/s",
                f"{ratio(times, 'block', 'counter'):.2f}",
                "at least 0.5",
            ),
            (
                "raw blocking socket, a block, as bytes",
                f"{rate['raw_block']:,.0f} MB/s",
                f"{ratio(times, 'block', 'raw_block'):.2f}",
                "",
            ),
        ],
    )
    rows = []
    contestants: dict[str, Callable[[int], Any]] = {
        "line": lambda n: dmm.query(f"LINE {n}"),
        "block": lambda n: dmm.query(f"BLOCK {n}", fmt="ieee", dtype="<f"),
        "block, raw blocking socket": raw_block,
    }
    for name, ask in contestants.items():
        times = await in_turns(9, **{str(n): (lambda n=n, ask=ask: ask(n)) for n in (1, 10, 50)})
        cost = {n: statistics.median(times[str(n)]) / n * 1e3 for n in (1, 10, 50)}
        figure = " / ".join(f"{cost[n]:.2f}" for n in (1, 10, 50))
        rows.append((f"{name}, 1 / 10 / 50 MB", f"{figure} ms a MB", f"{cost[50] / cost[1]:.2f}", "near 1"))
    table("Cost per byte, whatever the size (the ratio is that of 50 MB to 1 MB)", rows)
    await dmm.disconnect()
    counter.transport.loseConnection()
    sock.close()


def memory() -> int:
    """Bytes of this process that are in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def cpu() -> float:
    """Seconds of processor time that this process has used."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def poll(queries: Sequence[Callable[[str], Any]], seconds: float) -> tuple[float, float]:
    """Query each in a closed loop; gives queries per second and the 99th percentile of their times."""
    end = time.perf_counter() + seconds
    taken: list[float] = []

    async def loop(query: Callable[[str], Any]) -> None:
        while (begin := time.perf_counter()) < end:
            await query("*IDN?")
            taken.append(time.perf_counter() - begin)

    begin = time.perf_counter()
    await gatherResults([Deferred.fromCoroutine(loop(query)) for query in queries])
    return len(taken) / (time.perf_counter() - begin), statistics.quantiles(taken, n=100)[98]


async def thousand(port: int) -> None:
    count = 1000
    gc.collect()
    before = memory()
    instruments = [Instrument(f"TCP::127.0.0.1::{port}", termination="\n", timeout=5.0) for _ in range(count)]
    await gatherResults([instrument.connect() for instrument in instruments])
    gc.collect()
    each = (memory() - before) / count
    plain = await gatherResults(
        [connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), Lines()) for _ in range(count)]
    )
    ours, theirs = [], []
    for _ in range(5):
        ours.append(await poll([instrument.query for instrument in instruments], 2.0))
        theirs.append(await poll([protocol.query for protocol in plain], 2.0))
    rate = statistics.median_low(o[0] / t[0] for o, t in zip(ours, theirs, strict=True))
    late = statistics.median_low(o[1] / t[1] for o, t in zip(ours, theirs, strict=True))
    # The figures of the round that has the ratio, so that they fit it.
    fast = next((o[0], t[0]) for o, t in zip(ours, theirs, strict=True) if o[0] / t[0] == rate)
    slow = next((o[1], t[1]) for o, t in zip(ours, theirs, strict=True) if o[1] / t[1] == late)

    for protocol in plain:
        protocol.transport.loseConnection()
    await deferLater(reactor, 6.0)  # the limit of time of the last query passes
    busy, wall = cpu(), time.perf_counter()
    await deferLater(reactor, 10.0)
    idle = (cpu() - busy) / (time.perf_counter() - wall)
    table(
        "1000 instruments in one process",
        [
            ("equipnet, closed loop", f"{fast[0]:,.0f}/s", "", ""),
            ("plain LineReceivers", f"{fast[1]:,.0f}/s", f"{rate:.2f}", "at least 0.75"),
            ("equipnet, 99th percentile", f"{slow[0] * 1e3:.0f} ms", "", ""),
            ("plain LineReceivers", f"{slow[1] * 1e3:.0f} ms", f"{late:.2f}", "under 2"),
            ("memory of an instrument, its socket's included", f"{each / 1e3:.1f} kB", "", "at most 30 kB"),
            ("1000 idle instruments", f"{idle * 100:.2f} % of a core", "", "under 0.5 %"),
        ],
    )
    await gatherResults([instrument.disconnect() for instrument in instruments])


async def write_then_query(port: int) -> None:
    dmm = Instrument(f"TCP::127.0.0.1::{port}", termination="\n", timeout=5.0)
    await dmm.connect()
    taken = []
    for _ in range(500):
        begin = time.perf_counter()
        await dmm.write("CONF:VOLT")
        await dmm.query("*IDN?")
        taken.append((time.perf_counter() - begin) * 1e3)
    table(
        "A write followed by a query, 500 times",
        [
            ("median", f"{statistics.median(taken):.2f} ms", "", ""),
            ("longest", f"{max(taken):.2f} ms", "", "no step of 40 ms"),
        ],
    )
    await dmm.disconnect()


class Round:
    """One killing of the server while three coroutines query it."""

    def __init__(self) -> None:
        self.wrong = self.failed = 0
        self.sign_ms = self.return_seconds = float("nan")
        self._lost_at = float("nan")
        self._stop = False

    async def run(self) -> None:
        with server() as (process, port):
            dmm = Instrument(f"TCP::127.0.0.1::{port}", termination="\n", timeout=5.0)
            dmm.add_observer(self._changed)
            await dmm.connect()
            asking = [Deferred.fromCoroutine(self._ask(dmm, who)) for who in range(3)]
            await deferLater(reactor, 0.3)
            killed = reactor.seconds()
            process.kill()
            await deferLater(reactor, 2.0)
            self.sign_ms = (self._lost_at - killed) * 1e3
            with server(port):
                back = reactor.seconds()
                await dmm.when_ready()
                self.return_seconds = reactor.seconds() - back
                await deferLater(reactor, 0.2)
                self._stop = True
                await gatherResults(asking)
                await dmm.disconnect()

    def _changed(self, change: Change) -> None:
        if change.old is State.READY and self._lost_at != self._lost_at:
            self._lost_at = change.at.monotonic

    async def _ask(self, dmm: Instrument, who: int) -> None:
        number = 0
        while not self._stop:
            number += 1
            try:
                reply = await dmm.query(f"ECHO {who}.{number}")
                self.wrong += reply != f"{who}.{number}\n"
            except ConnectionError:
                self.failed += 1
                await deferLater(reactor, 0.05)


async def killed_and_restarted() -> None:
    rounds = [Round() for _ in range(5)]
    for each in rounds:
        await each.run()
    table(
        "Server killed, and started again two seconds later, five times, while three coroutines query",
        [
            ("first sign of loss (longest)", f"{max(each.sign_ms for each in rounds):.1f} ms", "", "within 10 ms"),
            (
                "usable again after its return (longest)",
                f"{max(each.return_seconds for each in rounds):.2f} s",
                "",
                "within 1 s",
            ),
            ("queries that failed meanwhile", str(sum(each.failed for each in rounds)), "", ""),
            ("replies delivered to the wrong query", str(sum(each.wrong for each in rounds)), "", "0"),
        ],
    )


async def main() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {CORE})
    with server(pinned_to=CORE) as (_, port):
        await sequential(port)
    await simulator()
    os.sched_setaffinity(0, cores)
    with server() as (_, port):
        await long_messages(port)
        await thousand(port)
        await write_then_query(port)
    await killed_and_restarted()


if __name__ == "__main__":
    from twisted.internet.task import react

    react(lambda _: Deferred.fromCoroutine(main()))
