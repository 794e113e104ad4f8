"""
DCS hardware servers: equipnet beside a bare Twisted protocol that answers synchronously, and pydhsfw where it can be
imported, in one run.

Each server runs in a process of its own; this one is a dcss on plain blocking sockets. CPU is what the server says of
itself. Figures are medians of rounds that take turns.
"""

import os
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

ROUNDS = 5
ASKING = b"stoc_send_client_type".ljust(200, b"\0")


def frame(text: str) -> bytes:
    line = text.encode() + b"\0"
    return b"%12d %12d " % (len(line), 0) + line


# The servers


def run_equipnet(port: int) -> None:
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred

    from equipnet.dcs import DhsConnection, Encoder, HardwareServer, IonChamber, Motor, Run, Shutter, StringDevice
    from equipnet.dcs import operation as op

    reactor: Any = installed
    bases: dict[str, Any] = {"m": Motor, "i": IonChamber, "s": Shutter, "e": Encoder, "t": StringDevice}
    device = tuple(
        type(f"{prefix}{number}", (bases[prefix],), {"name": f"{prefix}{number}"})
        for prefix, count in DEVICES
        for number in range(count)
    )

    class Server(HardwareServer):
        dhs_name = "bench"
        devices = device
        held: "list[Deferred[None]]" = []

        @op("echo")
        async def echo(self, run: Run, *words: str) -> tuple[str, ...]:
            return words

        @op("hold")
        async def hold(self, run: Run) -> None:
            held: Deferred[None] = Deferred()
            self.held.append(held)
            await held

        @op("release")
        async def release(self, run: Run) -> None:
            held, self.held = self.held, []
            for each in held:
                each.callback(None)

        @op("updates")
        async def updates(self, run: Run, count: str) -> None:
            for number in range(int(count)):
                await run.update("image", number)

        @op("last_words")
        async def last_words(self, run: Run, count: str) -> None:
            for number in range(int(count)):
                run.update("image", number)
            os.kill(os.getpid(), signal.SIGTERM)
            await run.stopped

        @op("cpu")
        async def cpu(self, run: Run) -> float:
            return time.process_time()

    dhs = DhsConnection(f"tcp:127.0.0.1:{port}", Server(), reactor=reactor)
    dhs.startService()
    reactor.addSystemEventTrigger("before", "shutdown", dhs.stopService)
    reactor.run()


def run_bare(port: int) -> None:
    from twisted.internet import reactor as installed
    from twisted.internet.protocol import ClientFactory, Protocol

    reactor: Any = installed

    class Bare(Protocol):
        transport: Any

        def connectionMade(self) -> None:
            self.transport.setTcpNoDelay(True)
            self.buffer = b""
            self.named = False
            self.held: list[str] = []

        def dataReceived(self, data: bytes) -> None:
            self.buffer += data
            if not self.named:
                if len(self.buffer) < 200:
                    return
                self.named = True
                self.buffer = self.buffer[200:]
                self.transport.write(b"htos_client_is_hardware bench".ljust(200, b"\0"))
            at, buffer = 0, self.buffer
            while len(buffer) - at >= 26:
                size = int(buffer[at : at + 12])
                if len(buffer) - at < 26 + size:
                    break
                self.line(buffer[at + 26 : at + 25 + size].decode())
                at += 26 + size
            self.buffer = buffer[at:]

        def say(self, text: str) -> None:
            self.transport.write(frame(text))

        def line(self, line: str) -> None:
            command, name, *words = line.split()
            if command != "stoh_start_operation":
                if command.startswith("stoh_register_") and "operation" not in command:
                    self.say(f"htos_send_configuration {name}")
                return
            handle = words[0]
            if name == "hold":
                self.held.append(handle)
                return
            if name == "release":
                for each in self.held:
                    self.say(f"htos_operation_completed hold {each} normal")
                self.held = []
            elif name == "updates":
                for number in range(int(words[1])):
                    self.say(f"htos_operation_update updates {handle} image {number}")
            elif name == "cpu":
                words[1:] = [repr(time.process_time())]
            self.say(f"htos_operation_completed {name} {handle} normal {' '.join(words[1:])}")

    factory = ClientFactory.forProtocol(Bare)
    factory.noisy = False
    reactor.connectTCP("127.0.0.1", port, factory)
    reactor.run()


def run_pydhsfw(port: int) -> None:
    dcss: Any = import_module("pydhsfw.dcss")
    dhs: Any = import_module("pydhsfw.dhs")
    register_message_handler = import_module("pydhsfw.processors").register_message_handler

    held: list[str] = []

    def connected(message: Any, context: Any) -> None:
        context.create_connection("dcss", "dcss", f"dcss://127.0.0.1:{port}", {})
        context.get_connection("dcss").connect()

    def asked(message: Any, context: Any) -> None:
        context.get_connection("dcss").send(dcss.DcssHtoSClientIsHardware("bench"))

    def started(message: Any, context: Any) -> None:
        link = context.get_connection("dcss")
        name, handle, words = message.operation_name, message.operation_handle, list(message.operation_args)
        if name == "hold":
            held.append(handle)
            return
        if name == "release":
            for each in held:
                link.send(dcss.DcssHtoSOperationCompleted("hold", each, "normal", ""))
            held.clear()
        elif name == "updates":
            for number in range(int(words[0])):
                link.send(dcss.DcssHtoSOperationUpdate(name, handle, f"image {number}"))
        elif name == "cpu":
            words = [repr(time.process_time())]
        link.send(dcss.DcssHtoSOperationCompleted(name, handle, "normal", " ".join(words)))

    for function, command, kind in (
        (connected, "dhs_start", "DhsStart"),
        (asked, "stoc_send_client_type", "DcssStoCSendClientType"),
        (started, "stoh_start_operation", "DcssStoHStartOperation"),
    ):
        function.__annotations__ = {
            "message": getattr(dcss, kind, None) or getattr(dhs, kind),
            "context": dcss.DcssContext,
        }
        register_message_handler(command)(function)
    sys.argv = sys.argv[:1]
    server = dhs.Dhs()
    server.start()
    server.wait({signal.SIGTERM})


SERVERS: dict[str, Callable[[int], None]] = {"bare": run_bare, "equipnet": run_equipnet, "pydhsfw": run_pydhsfw}

#: A burst as a real beamline has it: 112 devices, 13 of them operations.
DEVICES = (("m", 69), ("i", 14), ("s", 9), ("e", 5), ("t", 2))
BURST = [
    *(f"stoh_register_real_motor m{number} hw" for number in range(69)),
    *(f"stoh_register_ion_chamber i{number} hw 1 timer standard\n" for number in range(14)),
    *(f"stoh_register_operation o{number} hw\n" for number in range(13)),
    *(f"stoh_register_shutter s{number} open hw\n" for number in range(9)),
    *(f"stoh_register_encoder e{number} hw\n" for number in range(5)),
    *(f"stoh_register_string t{number} hw\n" for number in range(2)),
]
ANSWERS = 69 + 9 + 5 + 2


# The dcss


class Dcss:
    """One server in a process of its own, and what a dcss says to it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.port = socket.create_server(("127.0.0.1", 0))
        self.number = self.port.getsockname()[1]
        self.process = subprocess.Popen([sys.executable, __file__, kind, str(self.number)])
        self.handle = 0
        self.take()

    def take(self) -> None:
        """Take the server's connection, and let it name itself."""
        self.port.settimeout(30)
        self.link, _ = self.port.accept()
        self.link.settimeout(30)
        self.link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.accepted = time.perf_counter()
        self.link.sendall(ASKING)
        name = b""
        while len(name) < 200:
            name += self.link.recv(200 - len(name))
        self.rest = b""

    def hear(self, count: int) -> list[str]:
        """Read so many messages."""
        lines: list[str] = []
        while len(lines) < count:
            data = self.link.recv(1 << 18)
            if not data:
                raise EOFError(f"{len(lines)} of {count}")
            data = self.rest + data
            at = 0
            while len(data) - at >= 26:
                size = int(data[at : at + 12])
                if len(data) - at < 26 + size:
                    break
                lines.append(data[at + 26 : at + 26 + size].rstrip(b"\0 ").decode())
                at += 26 + size
            self.rest = data[at:]
        return lines

    def start(self, name: str, count: int = 1, words: str = "") -> list[str]:
        """Start an operation so many times, in one write; give the handles."""
        handles = [f"1.{self.handle + number}" for number in range(count)]
        self.handle += count
        self.link.sendall(b"".join([frame(f"stoh_start_operation {name} {handle} {words}") for handle in handles]))
        return handles

    def cpu(self) -> float:
        self.start("cpu")
        return float(self.hear(1)[0].split()[-1])

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        self.link.close()
        self.port.close()


def cpu_of_echo(dcss: Dcss) -> float:
    """Microseconds of the server's CPU for one operation, of 10,000 in bursts of 100."""
    before = dcss.cpu()
    for _ in range(100):
        dcss.start("echo", 100, "a b")
        dcss.hear(100)
    return (dcss.cpu() - before) / 10_000 * 1e6


def at_once(dcss: Dcss, count: int) -> float:
    """Operations per second, of so many started at once."""
    begun = time.perf_counter()
    handles = dcss.start("echo", count, "a")
    lines = dcss.hear(count)
    seconds = time.perf_counter() - begun
    assert [line.split()[2] for line in lines] == handles, "not in order"
    return count / seconds


def active(dcss: Dcss, count: int) -> float:
    """Microseconds of the server's CPU for one operation, of so many that are active at once, then released."""
    before = dcss.cpu()
    repeats = 2000 // count
    for _ in range(repeats):
        dcss.start("hold", count)
        dcss.start("release")
        dcss.hear(count + 1)
    return (dcss.cpu() - before) / count / repeats * 1e6


def updates(dcss: Dcss) -> float:
    """Updates of one operation in a second."""
    begun = time.perf_counter()
    dcss.start("updates", 1, "20000")
    dcss.hear(20_001)
    return 20_000 / (time.perf_counter() - begun)


def registration(dcss: Dcss) -> float:
    """Milliseconds from accept to the last answer of 112 devices."""
    dcss.link.close()
    dcss.take()
    dcss.link.sendall(b"".join(map(frame, BURST)))
    dcss.hear(ANSWERS)
    return (time.perf_counter() - dcss.accepted) * 1e3


def back_after(dcss: Dcss, reset: bool, away: float) -> float:
    """Seconds from the end of a connection, or the return of the hub, until an operation is completed again."""
    if reset:
        dcss.link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    begun = time.perf_counter()
    if away:
        dcss.port.close()
    dcss.link.close()
    if away:
        time.sleep(away)
        begun = time.perf_counter()
        dcss.port = socket.create_server(("127.0.0.1", dcss.number))
    dcss.take()
    dcss.start("echo", 1, "again")
    dcss.hear(1)
    return time.perf_counter() - begun


def last_words() -> tuple[int, str, float]:
    """How many of 3,000 queued updates arrive when SIGTERM comes, the last line, and seconds to the process's end."""
    dcss = Dcss("equipnet")
    begun = time.perf_counter()
    dcss.start("last_words", 1, "3000")
    lines = dcss.hear(3001)
    dcss.process.wait()
    seconds = time.perf_counter() - begun
    dcss.link.close()
    dcss.port.close()
    return sum("update" in line for line in lines), lines[-1], seconds


def main() -> None:
    kinds = ["bare", "equipnet"] + (["pydhsfw"] if find_spec("pydhsfw") else [])
    if "pydhsfw" not in kinds:
        print("pydhsfw is not installed: its columns are missing")
    servers = {kind: Dcss(kind) for kind in kinds}
    measures: list[tuple[str, Callable[[Dcss], float], str, str]] = [
        ("CPU for one operation, us", cpu_of_echo, "{:.1f}", "at most 12 where bare takes 2"),
        ("1,000 at once, /s", lambda dcss: at_once(dcss, 1000), "{:,.0f}", "60,000"),
        ("10,000 at once, /s", lambda dcss: at_once(dcss, 10_000), "{:,.0f}", "60,000"),
        ("100 active at once, us of CPU each", lambda dcss: active(dcss, 100), "{:.1f}", ""),
        ("1,000 active at once, us of CPU each", lambda dcss: active(dcss, 1000), "{:.1f}", "as at 100"),
        ("updates of one operation, /s", updates, "{:,.0f}", "0.3 of bare, more than 118,000"),
    ]
    print(f"{'':40}" + "".join(f"{kind:>12}" for kind in kinds) + f"{'ratio':>8}  wanted")
    for what, measure, form, wanted in measures:
        results: dict[str, list[float]] = {kind: [] for kind in kinds}
        for kind in kinds:
            measure(servers[kind])
        for _ in range(ROUNDS):
            for kind in kinds:
                results[kind].append(measure(servers[kind]))
        medians = {kind: statistics.median(values) for kind, values in results.items()}
        ratio = medians["equipnet"] / medians["bare"]
        print(f"{what:40}" + "".join(f"{form.format(medians[kind]):>12}" for kind in kinds) + f"{ratio:8.2f}  {wanted}")
    ours = servers["equipnet"]
    single: list[tuple[str, float, str]] = [
        ("registration of 112 devices, ms", statistics.median(registration(ours) for _ in range(ROUNDS)), "50"),
        ("usable after FIN, s", back_after(ours, False, 0), "1"),
        ("usable after RST, s", back_after(ours, True, 0), "1"),
        ("usable after 8 s away, s", back_after(ours, False, 8), "1"),
    ]
    for what, figure, wanted in single:
        print(f"{what:40}{'':>12}{figure:12.3f}{'':8}  at most {wanted}")
    arrived, last, seconds = last_words()
    what = "SIGTERM with 3,000 updates queued"
    print(f"{what:40}{'':>12}{arrived:>12,}{'':8}  all; then {last!r}; ended in {seconds:.2f} s")
    for server in servers.values():
        server.close()


if __name__ == "__main__":
    if len(sys.argv) == 3:
        SERVERS[sys.argv[1]](int(sys.argv[2]))
    else:
        main()
