"""
A whole node: how soon it is ready, what a large one costs, and what is left of it after its equipment has been killed
again and again.

    python benchmarks/node.py                          all of it, with ten minutes of kills
    python benchmarks/node.py --kills SECONDS [SHARE]  only the kills, with a share of the equipment (1 is all of it)

The node runs in this process, from a configuration file, as `twistd` would run it; the equipment is simulated in
processes of its own, which are killed and started again. The last part is also a test: it fails when a reply went to
the wrong question, when memory grew, or when a connection did not come back.
"""

import argparse
import gc
import os
import random
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import LoopingCall, deferLater, react
from twisted.python.failure import Failure

from equipnet.connection.state import State
from equipnet.daemon.config import read_config
from equipnet.daemon.tree import Node
from equipnet.errors import EquipmentError
from equipnet.secs import Message

ROOT = Path(__file__).parents[1]
EXAMPLES = ("beamline.toml", "fab.toml", "lab.toml")

#: The equipment: kind, and how many of it; a camera gives so many frames a second.
INSTRUMENTS, EQUIPMENT, CAMERAS, FRAMES = 1000, 50, 4, 5.0
#: Instruments are in so many processes.
GROUPS = 4
#: Seconds between two questions to one instrument, and to one tool.
PERIOD = 1.0
#: Seconds between two kills, and until what was killed is started again.
KILL_EVERY, AWAY = 10.0, 2.0
#: Seconds in which a connection must be usable after its equipment is: the longest wait of the policy, the probe or
#: the selection, and a busy machine.
BACK = 5.0
#: How much larger memory may be at the end than after the first minute.
GROWTH = 1.1


def row(what: str, figure: str, wanted: str = "") -> None:
    """Print one line of a table."""
    print(f"  {what:<58} {figure:>16}  {wanted}", flush=True)


def memory() -> float:
    """Give the resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


# How soon


def one_file(folder: Path) -> Path:
    """Write the three examples into one file, beside links to what they name."""
    for name in ("tls", "loop"):
        (folder / name).symlink_to(ROOT / "examples" / name)
    texts = [(ROOT / "examples" / name).read_text() for name in EXAMPLES]
    file = folder / "all.toml"
    file.write_text("\n".join(re.sub(r"^\[node\]\nname = .*$", "", text, flags=re.MULTILINE) for text in texts))
    return file


def start_to_ready() -> float:
    """Give the seconds from the start of ``twistd`` until each connection of the three examples is ready."""
    with tempfile.TemporaryDirectory() as folder:
        file = one_file(Path(folder))
        waiting = set(re.findall(r"^\[connections\.([\w-]+)\]$", file.read_text(), re.MULTILINE))
        command = [str(Path(sys.executable).parent / "twistd"), "-n", "--pidfile=", "equipnet", "--config", str(file)]
        begin = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
            assert process.stdout is not None
            for line in process.stdout:
                found = re.search(r"\] ([\w-]+): \w+ -> ready", line)
                if found:
                    waiting.discard(found[1])
                if not waiting:
                    break
            seconds = time.monotonic() - begin
            process.terminate()
            process.stdout.read()
        if waiting:
            raise AssertionError(f"not ready: {', '.join(sorted(waiting))}")
        return seconds


# The equipment


class Equipment:
    """
    A process of simulated equipment that can be killed and started again on the same ports.

    Parameters
    ----------
    kind, port, count
        As `benchmarks._node` says.
    """

    def __init__(self, kind: str, port: int, count: int) -> None:
        self.kind = kind
        self.port = port
        self.count = count
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it, and wait until all of it listens."""
        command = [sys.executable, "-m", "benchmarks._node", self.kind, str(self.port), str(self.count)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        while not self.process.stdout.read():
            await deferLater(reactor, 0.02)

    def kill(self) -> None:
        """Kill it, as a power failure would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                assert pipe is not None
                pipe.close()


def free_ports(count: int) -> int:
    """Give the first of so many ports in a row that nobody has, below those that the system gives to connections."""
    for first in range(20000, 32000, count):
        sockets = [socket.socket() for _ in range(count)]
        try:
            for number, each in enumerate(sockets):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                each.bind(("127.0.0.1", first + number))
            return first
        except OSError:
            continue
        finally:
            for each in sockets:
                each.close()
    raise AssertionError("there are no free ports")


# The node


class Load:
    """
    A node with its equipment, and whoever asks all of it, all the time.

    Parameters
    ----------
    share
        How much of the equipment there is.
    """

    def __init__(self, share: float) -> None:
        instruments, tools, cameras = (max(1, round(n * share)) for n in (INSTRUMENTS, EQUIPMENT, CAMERAS))
        groups = min(GROUPS, instruments)
        first = free_ports(groups + tools + cameras)
        self.equipment = [Equipment("instruments", first + n, 1) for n in range(groups)]
        self.equipment += [
            Equipment("equipment", first + groups, tools),
            Equipment("cameras", first + groups + tools, cameras),
        ]
        lines = ["[node]", 'name = "load"']
        for n in range(instruments):
            address = f"tcp:127.0.0.1:{first + n % groups}"
            lines += [f"[connections.i{n}]", 'kind = "instrument"', f'address = "{address}"']
            lines += [r'termination = "\n"', "rstrip = true", "timeout = 5.0"]
        for n in range(tools):
            address = f"tcp:127.0.0.1:{first + groups + n}"
            lines += [f"[connections.h{n}]", 'kind = "hsms"', 'mode = "active"', f'address = "{address}"']
            lines += ["timers = { t5 = 0.5, linktest = 10.0 }"]
        for n in range(cameras):
            url = f"http://127.0.0.1:{first + groups + tools + n}"
            lines += [f"[connections.c{n}]", 'kind = "axis"', f'url = "{url}"']
        self.text = "\n".join(lines)
        self.names = [f"i{n}" for n in range(instruments)], [f"h{n}" for n in range(tools)]
        self.cameras = [f"c{n}" for n in range(cameras)]
        self.node_names = [*self.names[0], *self.names[1], *self.cameras]
        self.node: Any = None
        # As many as come in less than the first minute: what is kept is no growth of memory.
        self.lags: deque[float] = deque(maxlen=40_000)
        self.wrong: list[str] = []
        self.answers = self.failures = self.frames = 0
        self.longest = 0.0
        self.late: list[str] = []
        self._running: list[Deferred[None]] = []
        self._tick = time.monotonic()

    async def start(self) -> None:
        """Start the equipment and the node; begin to ask."""
        await gatherResults([Deferred.fromCoroutine(each.start()) for each in self.equipment])
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "load.toml")
            file.write_text(self.text)
            self.node = Node.from_config(read_config(file), reactor)
        self.node.startService()
        await self.all_ready()
        instruments, tools = self.names
        asking = [self.ask(name, self.ask_instrument) for name in instruments]
        asking += [self.ask(name, self.ask_tool) for name in tools]
        asking += [self.watch(name) for name in self.cameras]
        self._running = [Deferred.fromCoroutine(each).addErrback(self.stopped_asking) for each in asking]
        ticking: Any = LoopingCall(self.tick)
        self._tick = time.monotonic()
        self._running.append(ticking.start(0.005))
        self._stop_ticking = ticking.stop

    async def all_ready(self) -> None:
        """Wait until every connection is ready."""
        await gatherResults([each.when_ready() for each in self.node.connections.values()])

    async def stop(self) -> None:
        """End all of it."""
        self._stop_ticking()
        for each in self._running:
            each.cancel()
        await self.node.stopService()
        for equipment in self.equipment:
            equipment.kill()

    async def ask(self, name: str, question: Any) -> None:
        """Ask one piece of equipment again and again, beginning at any time."""
        connection = self.node.connection(name)
        await deferLater(reactor, random.random() * PERIOD)
        count = 0
        while True:
            count += 1
            begin = time.monotonic()
            try:
                wanted, got = await question(connection, f"{name}x{count}")
            except EquipmentError:
                self.failures += 1
            else:
                self.lags.append(time.monotonic() - begin)
                self.answers += 1
                if got != wanted:
                    self.wrong.append(f"{name}: {got!r} for {wanted!r}")
            await deferLater(reactor, max(0.0, begin + PERIOD - time.monotonic()))

    async def ask_instrument(self, connection: Any, word: str) -> tuple[str, str]:
        return word, await connection.query(f"ECHO {word}")

    async def ask_tool(self, connection: Any, word: str) -> tuple[str, str]:
        reply = await connection.request(Message(1, 1, wait=True))
        return f"TOOL{connection.name[1:]}", str(reply.item[0].value)

    def stopped_asking(self, reason: Failure) -> None:
        """Take note of an error that nobody who asks should see."""
        if not reason.check(CancelledError):
            self.wrong.append(f"{type(reason.value).__name__}: {reason.getErrorMessage()}")

    async def watch(self, name: str) -> None:
        """Take the frames of a camera."""
        async for _ in self.node.connection(name).stream(fps=FRAMES):
            self.frames += 1

    def tick(self) -> None:
        """Note how long the reactor did something else."""
        now = time.monotonic()
        self.longest = max(self.longest, now - self._tick - 0.005)
        self._tick = now

    async def kill_for(self, seconds: float) -> float:
        """Kill equipment and start it again for so long; give by how much memory grew after the first minute."""
        end = time.monotonic() + seconds
        settled = time.monotonic() + min(60.0, seconds / 2)
        before = 0.0
        while time.monotonic() < end:
            await self.kill_one(random.choice(self.equipment))
            await deferLater(reactor, random.uniform(0.5, 1.5) * (KILL_EVERY - AWAY) / 2)
            if not before and time.monotonic() > settled:
                gc.collect()
                before = memory()
        gc.collect()
        return memory() / before

    async def kill_one(self, equipment: Equipment) -> None:
        """Kill one process of equipment, start it again, and see that its connections come back."""
        equipment.kill()
        await deferLater(reactor, random.uniform(0.1, AWAY))
        await equipment.start()
        back = time.monotonic()
        ready = Deferred.fromCoroutine(self.all_ready()).addTimeout(BACK, reactor)
        try:
            await ready
        except Exception:
            states = {n: c.state.value for n, c in self.node.connections.items() if c.state is not State.READY}
            self.late.append(f"{equipment.kind}: {states} after {time.monotonic() - back:.1f} s")


async def large() -> None:
    """Print what a large node costs."""
    load = Load(1.0)
    await load.start()
    await deferLater(reactor, 3.0)
    load.lags.clear()
    load.frames = load.answers = 0
    load.longest = 0.0
    used, begin = cpu(), time.monotonic()
    await deferLater(reactor, 20.0)
    seconds = time.monotonic() - begin
    lags = sorted(load.lags)
    row("questions a second", f"{load.answers / seconds:,.0f}")
    row("frames a second", f"{load.frames / seconds:.1f}")
    row("of one core", f"{(cpu() - used) / seconds:.1%}")
    row("memory", f"{memory():.0f} MB")
    row("median of a query", f"{statistics.median(lags) * 1e3:.2f} ms")
    row("99th percentile of a query", f"{lags[len(lags) * 99 // 100] * 1e3:.2f} ms", "under 100 ms")
    row("longest turn of the reactor", f"{load.longest * 1e3:.1f} ms")
    row("wrong replies, failures", f"{len(load.wrong)}, {load.failures}", "0, 0")
    await load.stop()


async def kills(seconds: float, share: float) -> bool:
    """Print what is left after so many seconds of kills; tell whether that is all."""
    load = Load(share)
    seed = random.randrange(1_000_000)
    random.seed(seed)
    print(f"\n{len(load.node_names)} connections for {seconds:g} s, while their equipment is killed and started again")
    row("seed of the kills", f"{seed}")
    await load.start()
    grown = await load.kill_for(seconds)
    row("answers", f"{load.answers:,}")
    row("questions that failed while equipment was away", f"{load.failures:,}")
    row("frames", f"{load.frames:,}")
    row("replies to the wrong question, errors of other sorts", f"{len(load.wrong)}", "0")
    row("connections that were not back in time", f"{len(load.late)}", "0")
    row("memory at the end, to that after the first minute", f"{grown:.3f}", f"at most {GROWTH}")
    await load.stop()
    for complaint in load.wrong[:10] + load.late[:10]:
        print(f"    {complaint}")
    return not load.wrong and not load.late and grown <= GROWTH and load.answers > 0 and load.frames > 0


def cpu() -> float:
    """Give the seconds of CPU time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def run(coroutine: Any) -> Any:
    """Run a coroutine in the reactor; gives its result."""
    results: list[Any] = []
    try:
        react(lambda _: Deferred.fromCoroutine(coroutine).addCallback(results.append))
    except SystemExit as ended:
        if ended.code:
            raise
    return results[0]


async def everything() -> bool:
    """Print all tables."""
    print(f"\n{INSTRUMENTS:,} instruments, {EQUIPMENT} HSMS connections, {CAMERAS} cameras at {FRAMES:g} frames/s")
    await large()
    return await kills(600.0, 1.0)


def main() -> int:
    """Do what the command line says; gives the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=float, nargs="+", metavar=("SECONDS", "SHARE"))
    given = parser.parse_args().kills
    if given:
        return 0 if run(kills(given[0], given[1] if len(given) > 1 else 1.0)) else 1
    print("\nFrom twistd to every connection ready, the three examples together (five starts)")
    row("median", f"{statistics.median(start_to_ready() for _ in range(5)):.2f} s", "under 2 s")
    return 0 if run(everything()) else 1


if __name__ == "__main__":
    sys.exit(main())
