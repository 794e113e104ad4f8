"""
Everything that there is so far, seen working: ``python3 dev.py demo``.

A node of three simulated instruments and the connections to them runs in a process of its own, from ``lab.toml``, as it
would in a laboratory; this program asks the instruments, over TCP, TLS and UDP, kills the node, and sees the
connections come back by themselves. With ``--once`` it ends then, with 0 when everything was as it should be; without,
it goes on until Ctrl-C.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater, react

from equipnet.connection.tls import TLS
from equipnet.instrument import Instrument

FOLDER = Path(__file__).parent
CONFIG = FOLDER / "lab.toml"
COMMANDS = Path(sys.executable).parent
#: Seconds in which anything of this must have happened.
PATIENCE = 20.0
#: The exit code by which a shell knows that Ctrl-C ended a command.
INTERRUPTED = 130

console = Console(highlight=False)


class Node(ProcessProtocol):
    """The node, as ``twistd`` runs it; what it logs is kept for the case that something goes wrong."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.log = b""
        self.ended: Deferred[None] = Deferred()
        self.alive = True
        command = [str(COMMANDS / "twistd"), "-n", "--pidfile=", "equipnet", "--config", str(CONFIG)]
        self._process = reactor.spawnProcess(self, command[0], command, env=os.environ)

    def outReceived(self, data: bytes) -> None:
        self.log = (self.log + data)[-20000:]

    errReceived = outReceived

    def processEnded(self, reason: Any) -> None:
        self.alive = False
        self.ended.callback(None)

    async def end(self, signal_name: str) -> None:
        """Send a signal, and wait for the end."""
        if self.alive:
            self._process.signalProcess(signal_name)
        await self.ended


class Demo:
    """
    The parts of the demonstration, in order.

    Parameters
    ----------
    reactor
        Runs them.
    """

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.node = Node(reactor)
        tls = TLS(authority=FOLDER / "tls" / "authority.pem")
        common: dict[str, Any] = {"timeout": 2.0, "rstrip": True, "reactor": reactor}
        self.dmm = Instrument("TCP::127.0.0.1::15025", name="dmm (TCP)", termination="\n", **common)
        self.thermometer = Instrument(
            "tls:localhost:15026", name="thermometer (TLS)", termination="\r\n", tls=tls, **common
        )
        self.barometer = Instrument("UDP::127.0.0.1::15027", name="barometer (UDP)", termination="\n", **common)
        self._part: Deferred[str] | None = None
        #: Whether a signal came before everything was seen.
        self.interrupted = False
        self.instruments = (self.dmm, self.thermometer, self.barometer)
        self.messages = dict.fromkeys((instrument.name for instrument in self.instruments), 0)
        for instrument in self.instruments:
            instrument.add_tap(self._count)

    def parts(self) -> list[tuple[str, Callable[[], Coroutine[Any, Any, str]]]]:
        """Give the parts: what each shows, and what does it and says what was seen."""
        return [
            ("twistd runs examples/lab.toml; three connections come up", self.connect),
            ("each instrument says who it is", self.identify),
            ("a write, a reading, and readings in a row", self.measure),
            ("a binary block becomes an array", self.block),
            ("a command that nobody answers is an error in time, and the next query is answered rightly", self.silence),
            ("the equipnet command asks an instrument of the node", self.command),
            ("the node is killed and started again; the connections come back", self.kill),
            ("SIGTERM ends the node, with every connection closed", self.end),
        ]

    async def run(self) -> bool:
        """Run all parts; False when one was not as it should be."""
        try:
            for number, (title, part) in enumerate(self.parts(), 1):
                console.print(f"[bold]{number}[/] {title}", soft_wrap=True)
                try:
                    self._part = Deferred.fromCoroutine(part()).addTimeout(PATIENCE, self.reactor)
                    seen = await self._part
                except Exception as error:
                    if self.interrupted:
                        return False
                    console.print(f"  [red]failed:[/] {type(error).__name__}: {error}", soft_wrap=True)
                    console.print("[bold]The end of the node's log:[/]")
                    console.print(self.node.log.decode(errors="replace"), markup=False, soft_wrap=True)
                    return False
                console.print(f"  [green]{seen}[/]", soft_wrap=True)
            return True
        finally:
            await gatherResults([instrument.disconnect() for instrument in self.instruments])
            await self.node.end("KILL")

    def interrupt(self) -> None:
        """End the part that is shown, and begin no other one."""
        self.interrupted = True
        if self._part is not None:
            self._part.cancel()

    async def connect(self) -> str:
        for instrument in self.instruments:
            instrument.startService()
        await gatherResults([instrument.when_ready() for instrument in self.instruments], consumeErrors=True)
        # A UDP port is "connected" to whether anybody is there or not.
        while True:
            try:
                await self.barometer.query("*IDN?")
                break
            except ConnectionError:
                await deferLater(self.reactor, 0.1)
        return ", ".join(f"{instrument.name} is {instrument.state.value}" for instrument in self.instruments)

    async def identify(self) -> str:
        replies = await gatherResults(
            [instrument.query("*IDN?") for instrument in self.instruments], consumeErrors=True
        )
        expect(replies, ["ACME,DMM 4000,123456,1.0", "ACME,TC 12,42,2.1", "ACME,BARO 1,7,0.9"])
        return "; ".join(replies)

    async def measure(self) -> str:
        async with self.dmm.transaction():
            expect(await self.dmm.write("CONF:VOLT"), 10)
            readings = [float(await self.dmm.query("MEAS:VOLT?")) for _ in range(3)]
        expect(sorted(readings), [1.2498, 1.2501, 1.2503])
        kelvin = float(await self.thermometer.query("KRDG? 3"))
        expect(kelvin, 293.5)
        pressure = float(await self.barometer.query("PRES?"))
        expect(pressure, 1013.25)
        return f"{readings} V, {kelvin} K, {pressure} hPa"

    async def block(self) -> str:
        wave = await self.dmm.query("CURV?", fmt="ieee", dtype="<f")
        expect(wave.tolist(), [1.0, 2.0, 3.0, 4.0])
        expect(wave.dtype, np.dtype("<f4"))
        return f"{wave.dtype} {wave}"

    async def silence(self) -> str:
        self.thermometer.timeout = 0.3
        try:
            await self.thermometer.query("DOES:NOT:EXIST?")
        except TimeoutError as error:
            said = str(error)
        else:
            raise AssertionError("a command without a reply was answered")
        self.thermometer.timeout = 2.0
        expect(await self.thermometer.query("*IDN?"), "ACME,TC 12,42,2.1")
        return said

    async def command(self) -> str:
        command = [str(COMMANDS / "equipnet"), "ask", "--config", str(CONFIG), "dmm", "*IDN?"]
        ended: Deferred[tuple[int, bytes]] = Deferred()

        class Output(ProcessProtocol):
            output = b""

            def outReceived(self, data: bytes) -> None:
                self.output += data

            errReceived = outReceived

            def processEnded(self, reason: Any) -> None:
                ended.callback((reason.value.exitCode, self.output))

        self.reactor.spawnProcess(Output(), command[0], command, env=os.environ)
        code, output = await ended
        expect((code, output.decode().strip()), (0, "ACME,DMM 4000,123456,1.0"))
        return f"$ equipnet ask --config examples/lab.toml dmm '*IDN?'  ->  {output.decode().strip()}"

    async def kill(self) -> str:
        lost = []
        self.dmm.add_observer(lambda change: lost.append(change.reason))
        await self.node.end("KILL")
        while not lost:
            await deferLater(self.reactor, 0.01)
        self.node = Node(self.reactor)
        await self.connect()
        await self.identify()
        return f"{self.dmm.name}: {lost[0]}; ready again"

    async def end(self) -> str:
        begin = self.reactor.seconds()
        await self.node.end("TERM")
        seconds = self.reactor.seconds() - begin
        expect(self.node.log.count(b"disconnecting -> stopped"), 6)
        expect(b"Server Shut Down" in self.node.log, True)
        counts = ", ".join(f"{name} {count}" for name, count in self.messages.items())
        return f"six connections closed in {seconds:.1f} s; messages here: {counts}"

    def _count(self, traffic: Any) -> None:
        self.messages[traffic.name] += 1


def expect(seen: object, wanted: object) -> None:
    """Raise AssertionError when what was seen is not what should be."""
    if seen != wanted:
        raise AssertionError(f"{seen!r} was seen where {wanted!r} should be")


def show() -> int:
    """Run the parts; gives 0 when all were as they should be, and what a shell expects when a signal came first."""
    good = interrupted = False

    async def run(reactor: Any) -> None:
        nonlocal good, interrupted
        demo = Demo(reactor)
        ended: Deferred[None] = Deferred()

        def interrupt() -> Deferred[None]:
            if not ended.called:
                demo.interrupt()
            return ended

        reactor.addSystemEventTrigger("before", "shutdown", interrupt)
        try:
            good = await demo.run()
        finally:
            interrupted = demo.interrupted
            ended.callback(None)

    try:
        react(run)
    except SystemExit as end:
        if interrupted:
            return INTERRUPTED
        if end.code or not good:
            return 1
    console.print("[bold green]All of it works.[/]")
    return 0


def stay() -> int:
    """Run the node until Ctrl-C, and say what there is to look at."""
    node = subprocess.Popen([COMMANDS / "twistd", "-n", "--pidfile=", "equipnet", "--config", CONFIG])
    console.print(
        "\nThe node runs again, and its log comes here, until Ctrl-C. In another terminal:\n"
        "  .venv/bin/equipnet ask tcp:127.0.0.1:15025 'MEAS:VOLT?'\n"
        "  .venv/bin/equipnet ask --config examples/lab.toml thermometer 'KRDG? 3'\n"
        "  .venv/bin/equipnet check examples/lab.toml\n"
    )
    try:
        code = node.wait()
    except KeyboardInterrupt:
        # The terminal's Ctrl-C has reached the node as well; elsewhere it is told here.
        node.send_signal(signal.SIGTERM)
        code = node.wait()
    # Ctrl-C is the good end of it.
    return 0 if code in (-signal.SIGINT, -signal.SIGTERM) else code


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments not in ([], ["--once"]):
        sys.exit("usage: demo.py [--once]")
    sys.exit(show() or (0 if arguments else stay()))
