"""
The other end of the benchmarks: a plain Twisted line server, so that no client is measured against a server of its own
kind.

Run as ``python _equipment.py PORT [simulator]`` it prints the port that it listens on, and ends when its standard input
does.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineReceiver

IDENTITY = b"ACME,DMM 4000,123456,1.0"
MEGABYTE = 1_000_000


@cache
def message(kind: bytes, size: int) -> bytes:
    """One line, or one IEEE block full of terminators, of so many megabytes; made when it is first asked for."""
    if kind == b"LINE":
        return b"x" * (size * MEGABYTE - 1) + b"\n"
    return block_header(size) + b"\n" * (size * MEGABYTE) + b"\n"


def block_header(size: int) -> bytes:
    """What stands before the bytes of a block of so many megabytes."""
    digits = b"%d" % (size * MEGABYTE)
    return b"#%d%b" % (len(digits), digits)


class Answers(LineReceiver):
    """Answers ``*IDN?``, ``ECHO <text>``, ``LINE <MB>`` and ``BLOCK <MB>``; takes anything else as a command."""

    delimiter = b"\n"
    transport: Any

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)

    def lineReceived(self, line: bytes) -> None:
        if line == b"*IDN?":
            self.sendLine(IDENTITY)
        elif line.startswith(b"ECHO "):
            self.sendLine(line[5:])
        elif line.startswith((b"LINE ", b"BLOCK ")):
            kind, size = line.split()
            self.transport.write(message(kind, int(size)))


class EndsWithParent(Protocol):
    """Stops the server when whoever started it is gone."""

    def connectionLost(self, reason: object = None) -> None:
        if reactor.running:
            reactor.stop()


@contextmanager
def server(
    port: int = 0, pinned_to: int | None = None, simulator: bool = False
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run the server, or an `InstrumentSimulator`, in a process of its own; gives that process and the port."""
    command = [sys.executable, __file__, str(port)] + ["simulator"] * simulator
    if pinned_to is not None:
        command = ["taskset", "-c", str(pinned_to), *command]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parent) as process:
        assert process.stdout is not None and process.stdin is not None
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(10)


def simulate() -> int:
    """Start equipnet's simulator; gives its port."""
    from equipnet.instrument import InstrumentSimulator

    simulator = InstrumentSimulator({"*IDN?": IDENTITY.decode()})
    simulator.startService()
    assert simulator.bound is not None
    return simulator.bound.port


def listen(port: int) -> int:
    """Start the plain server; gives its port."""
    factory: Any = Factory.forProtocol(Answers)
    listening: Any = reactor.listenTCP(port, factory, 2048, "127.0.0.1")
    found: int = listening.getHost().port
    return found


def main() -> None:
    """Serve until standard input ends."""
    print(simulate() if sys.argv[2:] else listen(int(sys.argv[1])), flush=True)
    StandardIO(EndsWithParent())
    reactor.run()


if __name__ == "__main__":
    main()
