"""
The simulated equipment of the node's benchmark: ``python -m benchmarks._node KIND PORT COUNT``.

``instruments`` is one simulator with so many clients as come, the others are so many simulators on consecutive ports.
The process prints a line when all of them listen, and ends when its standard input does.
"""

import os
import sys
import threading
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from equipnet.hsms import EquipmentSimulator
from equipnet.imaging.simulator import SimulatedAxis
from equipnet.instrument import InstrumentSimulator


def simulators(kind: str, port: int, count: int) -> list[Any]:
    """Make them."""
    if kind == "instruments":
        patterns: dict[str, Any] = {r"ECHO (\w+)": r"\1"}
        return [InstrumentSimulator({}, f"tcp:{port}", patterns=patterns, max_connections=2000, reactor=reactor)]
    if kind == "equipment":
        return [EquipmentSimulator(f"tcp:{port + n}", model=f"TOOL{n}", reactor=reactor) for n in range(count)]
    return [SimulatedAxis(f"tcp:{port + n}", seed=n, speed=10.0, reactor=reactor) for n in range(count)]


async def play(kind: str, port: int, count: int) -> None:
    """Start them, and say so."""
    made = simulators(kind, port, count)
    for simulator in made:
        simulator.startService()
    await gatherResults([getattr(simulator, "listen", simulator.when_ready)() for simulator in made])
    for simulator in made:
        if isinstance(simulator, SimulatedAxis):
            simulator.open_trigger()
    print("ready", flush=True)


def end_with_parent() -> None:
    """End when standard input does."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    playing = play(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(playing).addErrback(lambda reason: reason.printTraceback()))
    reactor.run()
