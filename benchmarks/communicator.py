"""
The telescope mount's protocol: equipnet beside a floor, in one run, as ratios.

The floor of executing commands is a pair of plain Twisted LineReceivers that sends as many messages on as many sockets,
of the same size, and makes nothing of them. Each figure is a median of rounds that take turns; a ratio above 1 says
that equipnet is faster. Both sides of both live in this process.
"""

import gc
import os
import statistics
import time
from collections import deque
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock, react
from twisted.protocols.basic import LineReceiver

from benchmarks.instrument import CORE, ROUNDS, in_turns, ratio, table
from equipnet.communicator import DIALECTS, Communicator, OperationManagerSimulator, Part, join_in_memory
from equipnet.communicator import message as m
from equipnet.communicator.dialect import decode, encode

COMMANDS = 2000
STAMP = b"2020-04-06T22:33:57.335"
COMMAND = b"1234\n403\n1\n" + STAMP + b"\n45.0\n0.0\n0.0\n0.0"
ACK = b"0\n1234\n1\n" + STAMP + b"\n500"
DONE = b"2\n1234\n1\n" + STAMP


class Floor(LineReceiver):
    """Answers lines on another connection, or takes the answers."""

    transport: Any
    delimiter = b"\r\n"

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.waiting: deque[Deferred[None]] = deque()
        self.answers: Any = None
        self.missing = 0

    def lineReceived(self, line: bytes) -> None:
        if self.answers is not None:
            self.answers.sendLine(ACK)
            self.answers.sendLine(DONE)
            return
        self.missing -= 1
        if not self.missing:
            self.waiting.popleft().callback(None)


class FloorFactory(Factory):
    """Keeps the last connection that came."""

    noisy = False

    def __init__(self) -> None:
        self.came: Deferred[Any] = Deferred()

    def buildProtocol(self, addr: object) -> Floor:
        floor = Floor()
        came, self.came = self.came, Deferred()
        reactor.callLater(0, came.callback, floor)
        return floor


async def floor_sockets() -> tuple[Any, Any, Any]:
    """Make two connections; gives the writing end of the first, the reading end of the second, and the port."""
    factory: Any = FloorFactory()
    port: Any = reactor.listenTCP(0, factory, 50, "127.0.0.1")
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
    came = factory.came
    writer: Any = await connectProtocol(endpoint, Floor())
    far_reader = await came
    came = factory.came
    far_writer: Any = await connectProtocol(endpoint, Floor())
    reader = await came
    far_reader.answers = far_writer
    return writer, reader, port


async def sockets(dialect: str = "v0.9") -> tuple[Communicator, OperationManagerSimulator]:
    """Give a communicator and a simulated mount, connected, with the elevation axis switched on."""
    csc = Communicator("csc", "127.0.0.1", 0, "127.0.0.1", 0, connect=False, dialect=dialect, reactor=reactor)
    mount = OperationManagerSimulator(
        replies_to=f"tcp:127.0.0.1:{await csc.wait_server_port()}", dialect=dialect, reactor=reactor
    )
    mount.startService()
    await csc.connect(await mount.wait_server_port())
    return csc, mount


def coding() -> None:
    """Encode and decode one command."""
    count = 20000
    rows = []
    for dialect in DIALECTS.values():
        command = m.ElevationAxisTrack(
            45.125,
            0.001,
            1.6e9,
            sequence_id=1234,
            source=m.Source.CSC,
            timestamp=decode(COMMAND, DIALECTS["v0.9"], False).timestamp,
        )
        times = []
        for _ in range(ROUNDS):
            gc.collect()
            begin = time.perf_counter()
            for _ in range(count):
                decode(encode(command, dialect)[:-2], dialect, False)
            times.append((time.perf_counter() - begin) / count * 1e6)
        rows.append((f"ElevationAxisTrack, {dialect.name}", f"{statistics.median(times):.1f} us", "", "at most 15 us"))
    table("Encode and decode", rows)


async def executing() -> None:
    """Execute commands one after the other: a command, its Ack, its Done."""
    csc, mount = await sockets()
    om = Communicator("om", "127.0.0.1", 0, "127.0.0.1", 0, None, False, False, reactor=reactor)
    bare = Communicator("bare", "127.0.0.1", 0, "127.0.0.1", 0, connect=False, reactor=reactor)
    ports = [await om.wait_server_port(), await bare.wait_server_port()]
    ready = [om.connect(ports[1]), bare.connect(ports[0])]
    await gatherResults(ready)

    def answer(command: Any) -> None:
        om.write(m.Ack(timeout_ms=500, sequence_id=command.sequence_id, source=command.source))
        om.write(m.Done(sequence_id=command.sequence_id, source=command.source))

    om.add_message_observer(answer)
    writer, reader, port = await floor_sockets()

    async def two_communicators() -> None:
        for _ in range(COMMANDS):
            await bare.execute(m.ElevationAxisDriveReset())

    async def with_simulator() -> None:
        for _ in range(COMMANDS):
            await csc.execute(m.ElevationAxisDriveReset())

    async def floor() -> None:
        for _ in range(COMMANDS):
            ended: Deferred[None] = Deferred()
            reader.waiting.append(ended)
            reader.missing = 2
            writer.sendLine(COMMAND)
            await ended

    times = await in_turns(
        ROUNDS,
        two=lambda: Deferred.fromCoroutine(two_communicators()),
        simulator=lambda: Deferred.fromCoroutine(with_simulator()),
        floor=lambda: Deferred.fromCoroutine(floor()),
    )
    rate = {name: COMMANDS / statistics.median(seconds) for name, seconds in times.items()}
    table(
        "execute, one after the other: command, Ack, Done; both sides in this process",
        [
            ("plain LineReceivers, as many messages", f"{rate['floor']:,.0f}/s", "", ""),
            ("two communicators", f"{rate['two']:,.0f}/s", f"{ratio(times, 'two', 'floor'):.2f}", "at least 0.5"),
            (
                "a communicator and the simulated mount",
                f"{rate['simulator']:,.0f}/s",
                f"{ratio(times, 'simulator', 'floor'):.2f}",
                "",
            ),
        ],
    )
    for each in (csc, mount, om, bare):
        await each.close()
    writer.transport.loseConnection()
    reader.transport.loseConnection()
    await port.stopListening()


def tracking() -> None:
    """Track at 20 Hz for 60 seconds of a simulated clock, and count what is left."""
    clock = Clock()
    csc = Communicator("csc", "h", 1, "h", 0, connect=False, reactor=clock)
    mount = OperationManagerSimulator(reactor=clock)
    join_in_memory(csc, mount)
    csc.startService()
    mount.startService()
    clock.pump([0.1] * 8)
    mount.parts[Part.ELEVATION].on = mount.parts[Part.ELEVATION].tracking = True

    def track(seconds: int) -> int:
        for turn in range(20 * seconds):
            csc.execute(m.ElevationAxisTrack(45 + turn / 1000, 0.02, 1.6e9 + turn / 20))
            clock.pump([0, 0, 0, 0.05])
        gc.collect()
        return len(gc.get_objects())

    before = track(5)
    left = track(60) - before
    table(
        "Tracking at 20 Hz for 60 simulated seconds",
        [
            ("commands that the mount got", f"{mount.commands}", "", ""),
            ("objects that are left of them", f"{left}", "", "none, but for a few of the counting"),
            ("timers", f"{len(clock.getDelayedCalls())}", "", "1"),
        ],
    )


async def main(_: Any) -> None:
    """Run all of it."""
    os.sched_setaffinity(0, {CORE})
    coding()
    await executing()
    tracking()


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
