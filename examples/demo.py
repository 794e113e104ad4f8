"""
Everything that equipnet is for, seen working: ``python3 dev.py demo``.

The beamline of ``beamline.toml``, the fab of ``fab.toml`` and the laboratory of ``lab.toml`` run in one node, with the
simulators of all their equipment, and are driven as their users would drive them. With ``--once`` it ends then, with 0
when everything was as it should be; without, the node goes on until Ctrl-C.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater, react
from twisted.internet.threads import deferToThreadPool
from twisted.logger import FilteringLogObserver, LogLevel, LogLevelFilterPredicate, globalLogBeginner
from twisted.logger import textFileLogObserver as text_file

from equipnet.communicator.message import ElevationAxisMove, ElevationAxisPower
from equipnet.connection.state import State
from equipnet.daemon.config import read_config
from equipnet.daemon.tree import Node
from equipnet.dcs import AbnormalCompletion
from equipnet.secs import BOOLEAN, U4, A, L, Message

FOLDER = Path(__file__).parent
FILES = ("beamline.toml", "fab.toml", "lab.toml")
#: Images of one turn, how many a second, and how far a box may be from the truth, in pixels.
IMAGES, RATE, TOLERANCE = 36, 24.0, 3.0
#: The picture of them: width and height of one, how many stand side by side, and the colour of the boxes.
SIZE, COLUMNS, COLOUR = (176, 120), 6, (255, 200, 0)
#: Seconds in which each part must have happened.
PATIENCE = 30.0
#: The exit code by which a shell knows that Ctrl-C ended a command.
INTERRUPTED = 130

console = Console(highlight=False)


class Found(NamedTuple):
    """One image as it was posted, what is written on it, and the box in fractions: left, right, top, bottom."""

    data: bytes
    caption: str
    box: tuple[float, float, float, float]


def save_sheet(found: Sequence[Found], file: Path) -> None:
    """Draw the images side by side into a PNG file; it takes some 0.1 s, so call it in a thread."""
    width, height = SIZE
    rows = -(-len(found) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * width, rows * height))
    for number, each in enumerate(found):
        thumbnail = Image.open(BytesIO(each.data)).convert("RGB").resize(SIZE)
        pen = ImageDraw.Draw(thumbnail)
        left, right, top, bottom = each.box
        pen.rectangle((left * width, top * height, right * width, bottom * height), outline=COLOUR, width=2)
        pen.text((4, 2), each.caption, fill=(20, 20, 20))
        sheet.paste(thumbnail, (number % COLUMNS * width, number // COLUMNS * height))
    sheet.save(file)


class Demo:
    """
    The parts of the demonstration, in order.

    Parameters
    ----------
    reactor
        Runs them.
    sheet
        Where the picture is saved.
    """

    def __init__(self, reactor: Any, sheet: Path) -> None:
        self.reactor = reactor
        self.sheet = sheet
        beamline, *others = (read_config(FOLDER / file) for file in FILES)
        sections = {name: section for config in (beamline, *others) for name, section in config.connections.items()}
        self.node = Node.from_config(replace(beamline, name="demo", connections=sections), reactor)
        self.messages: Counter[str] = Counter()
        for connection in self.node.connections.values():
            connection.add_tap(lambda traffic: self.messages.update((traffic.name,)))
        self._part: Deferred[str] | None = None
        #: Whether a signal came before everything was seen.
        self.interrupted = False

    def __getitem__(self, name: str) -> Any:
        return self.node.connection(name)

    def parts(self) -> list[tuple[str, Callable[[], Coroutine[Any, Any, str]]]]:
        """Give the parts: what each shows, and what does it and says what was seen."""
        return [
            (f"one node runs {', '.join(FILES)}", self.connect),
            ("the beamline turns a sample, and finds its loop in each image", self.collect),
            ("it asks for one image now, and moves a motor", self.look),
            ("an operation fails, and everything is aborted while another one runs", self.fail),
            ("the fab says hello to its tools (S1F13), is told of events (S6F11), and starts one (S2F41)", self.fab),
            ("the laboratory asks its instruments over TCP, TLS and UDP", self.lab),
            ("the telescope moves", self.telescope),
            ("an instrument is switched off and on again; its connection comes back", self.comes_back),
            ("all connections, and their messages", self.show_connections),
        ]

    async def run(self) -> bool:
        """Run all parts; False when one was not as it should be."""
        for number, (title, part) in enumerate(self.parts(), 1):
            console.print(f"[bold]{number}[/] {title}", soft_wrap=True)
            try:
                self._part = Deferred.fromCoroutine(part()).addTimeout(PATIENCE, self.reactor)
                seen = await self._part
            except Exception as error:
                if not self.interrupted:
                    console.print(f"  [red]failed:[/] {type(error).__name__}: {error}", soft_wrap=True)
                return False
            console.print(f"  [green]{seen}[/]", soft_wrap=True)
        return True

    def interrupt(self) -> None:
        """End the part that is shown, and begin no other one."""
        self.interrupted = True
        if self._part is not None:
            self._part.cancel()

    # The parts

    async def connect(self) -> str:
        begin = self.reactor.seconds()
        self.node.startService()
        connections = self.node.connections.values()
        while late := [c for c in connections if c.state is not State.READY]:
            said = "; ".join(f"{c.name} is {c.state.value}, {c.last_error}" for c in late)
            # Somebody else may have a port of the examples; nothing else takes so long.
            if self.reactor.seconds() > begin + 5:
                raise AssertionError(f"not everything is ready after 5 s: {said}")
            await deferLater(self.reactor, 0.01)
        seconds = self.reactor.seconds() - begin
        return f"{len(connections)} connections are ready after {seconds:.1f} s"

    async def collect(self) -> str:
        received: list[tuple[bytes, float]] = []
        turned: list[Deferred[None]] = []
        loops: dict[int, tuple[float, float, float, float]] = {}

        def note(image: Any) -> None:
            received.append((image.data, float(image.headers["X-Angle"])))

        with progress() as bar:
            task = bar.add_task("images", total=IMAGES)

            def updated(update: Any) -> None:
                kind, *words = update.words
                if kind == "start_oscillation":
                    turned.append(Deferred.fromCoroutine(self.turn()))
                elif kind == "LOOP_INFO" and words[1] == "normal":
                    left, right, top, bottom = map(float, words[7:11])
                    loops[int(words[0])] = (left, right, top, bottom)
                    bar.advance(task)

            self["images"].observe_images(note)
            try:
                collected = self["dcss"].start_operation("collectLoopImages", on_update=updated)
                expect((await collected).text, "done")
                await gatherResults(turned)
            finally:
                self["images"].forget_observer(note)
                for turn in turned:  # one that is not over ends with what it is for
                    turn.addErrback(lambda _: None)
                    turn.cancel()
        expect((len(received), sorted(loops)), (IMAGES, list(range(IMAGES))))
        found = [Found(image, f"{angle:.0f}", loops[n]) for n, (image, angle) in enumerate(received)]
        await deferToThreadPool(self.reactor, self.reactor.getThreadPool(), save_sheet, found, self.sheet)
        worst = max(self.distance(angle, loops[n]) for n, (_, angle) in enumerate(received))
        if worst > TOLERANCE:
            raise AssertionError(f"a box is {worst:.1f} pixels from where the loop is")
        return f"{len(loops)} images, every box within {worst:.1f} pixels of the truth: {self.sheet}"

    async def turn(self) -> None:
        """Turn the sample once, with the camera's trigger open; the images end with the turn."""
        await self["dcss"].oscillate("gonio_phi", "video_trigger", 360, IMAGES / RATE)
        await self["dcss"].start_operation("stopCollectLoopImages")

    async def look(self) -> str:
        await self["dcss"].move("gonio_phi", 90)
        info = (await self["dcss"].start_operation("getLoopInfo")).words
        left, right, top, bottom = map(float, info[5:9])
        worst = self.distance(90, (left, right, top, bottom))
        if worst > TOLERANCE:
            raise AssertionError(f"the box is {worst:.1f} pixels from where the loop is")
        return f"gonio_phi is at 90 deg, the loop's tip at x = {info[0]}, y = {info[1]}"

    async def fail(self) -> str:
        said = await abnormal(self["dcss"].start_operation("reboxLoopImage", 99))
        started: Deferred[None] = Deferred()
        running = self["dcss"].start_operation("collectLoopImages", on_update=lambda _: started.callback(None))
        await started
        self["dcss"].abort_all()
        ended = await abnormal(running)
        expect(said, "reboxLoopImage: error {there is no image 99 of 36}")
        expect(ended, "collectLoopImages: aborted")
        expect(self["images"].is_open, False)
        return f"{said}; {ended}"

    async def fab(self) -> str:
        hello = Message(1, 13, wait=True, item=L())
        models = [str((await self[tool].request(hello)).item[1][0].value) for tool in ("etcher", "stocker")]
        expect(models, ["ETCHER", "STOCKER"])
        host, told = self["etcher"], Deferred[Any]()
        host.set_primary(6, 11, lambda message: told.callback(message.item))
        # Report 7 has the pressure, event 3001 has the report, and is wanted.
        report = L(U4(1), L(L(U4(7), L(U4(1001)))))
        link = L(U4(1), L(L(U4(3001), L(U4(7)))))
        enable = L(BOOLEAN(True), L(U4(3001)))
        for function, item in ((33, report), (35, link), (37, enable)):
            expect((await host.request(Message(2, function, wait=True, item=item))).item.value, 0)
        await self["etcher-simulator"].send_event(3001)
        event = await told
        pressure = event[2][0][1][0].value
        expect((event[1].value, pressure), (3001, 1.5))
        started = await host.request(Message(2, 41, wait=True, item=L(A("START"), L())))
        expect(started.item[0].value, 0)
        return f"{' and '.join(models)} are there; event {event[1].value}: pressure {pressure} Pa; START is accepted"

    async def lab(self) -> str:
        names = ("dmm", "thermometer", "barometer")
        replies = await gatherResults([self[name].query("*IDN?") for name in names], consumeErrors=True)
        expect(replies, ["ACME,DMM 4000,123456,1.0", "ACME,TC 12,42,2.1", "ACME,BARO 1,7,0.9"])
        wave = await self["dmm"].query("CURV?", fmt="ieee", dtype="<f")
        expect(wave.tolist(), [1.0, 2.0, 3.0, 4.0])
        kelvin = float(await self["thermometer"].query("KRDG? 3"))
        pressure = float(await self["barometer"].query("PRES?"))
        expect((kelvin, pressure), (293.5, 1013.25))
        return f"{'; '.join(replies)}; a {wave.dtype} array {wave}, {kelvin} K, {pressure} hPa"

    async def telescope(self) -> str:
        mount = self["telescope"]
        await mount.execute(ElevationAxisPower(True))
        done = await mount.execute(ElevationAxisMove(5.0), timeout=PATIENCE)
        expect(type(done).__name__, "Done")
        await mount.execute(ElevationAxisPower(False))
        return f"{type(done).__name__} of command {done.sequence_id}: the elevation axis is at 5 deg"

    async def comes_back(self) -> str:
        dmm, reasons = self["dmm"], list[str]()
        dmm.add_observer(lambda change: reasons.append(change.reason))
        await self["dmm-simulator"].disconnect()
        while dmm.state is State.READY:
            await deferLater(self.reactor, 0.01)
        await self["dmm-simulator"].connect()
        begin = self.reactor.seconds()
        await dmm.when_ready()
        seconds = self.reactor.seconds() - begin
        expect(await dmm.query("*IDN?"), "ACME,DMM 4000,123456,1.0")
        return f"{reasons[0]}; ready again {seconds:.1f} s after its return"

    async def show_connections(self) -> str:
        table = Table("  connection", "kind", "state", "messages", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.columns[-1].justify = "right"
        for name, connection in self.node.connections.items():
            state = connection.state
            shown = f"[{'green' if state is State.READY else 'red'}]{state.value}[/]"
            table.add_row(f"  {name}", connection.kind, shown, f"{self.messages[name]:,}")
        console.print(table)
        states = {connection.state for connection in self.node.connections.values()}
        expect(states, {State.READY})
        expect([name for name in self.node.connections if not self.messages[name]], [])
        return f"{self.messages.total():,} messages"

    def distance(self, angle: float, box: tuple[float, float, float, float]) -> float:
        """Say how many pixels a box is from the loop, where that is farthest."""
        camera = self["camera-simulator"]
        width, height = camera.view.size
        truth = camera.truth(angle).loop
        sides = (truth.min_x, truth.max_x, truth.min_y, truth.max_y)
        pixels = (width, width, height, height)
        farthest: float = max(abs(found - true) * size for found, true, size in zip(box, sides, pixels, strict=True))
        return farthest


async def abnormal(completion: Deferred[Any]) -> str:
    """Wait for the failure of something, and give what it says."""
    try:
        await completion
    except AbnormalCompletion as error:
        return str(error)
    raise AssertionError("it did not fail")


def progress() -> Progress:
    """Give a bar for the images; there is none on what is no terminal."""
    # Of the 16 colours that any terminal has: the bar's own ones are, when it is full, the grey of an empty one there.
    bar = BarColumn(complete_style="cyan", finished_style="green")
    columns = (TextColumn("  {task.description}"), bar, MofNCompleteColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


def expect(seen: object, wanted: object) -> None:
    """Raise AssertionError when what was seen is not what should be."""
    if seen != wanted:
        raise AssertionError(f"{seen!r} was seen where {wanted!r} should be")


def main(once: bool) -> int:
    """Run the demonstration; gives the exit code: 1 when something was not as it should be, 130 for a signal in it."""
    code = INTERRUPTED
    # What goes wrong is seen; that a connection was made is told below.
    quiet = FilteringLogObserver(text_file(sys.stderr), [LogLevelFilterPredicate(LogLevel.error)])
    globalLogBeginner.beginLoggingTo([quiet], redirectStandardIO=False)

    async def run(reactor: Any) -> None:
        nonlocal code
        demo = Demo(reactor, Path("demo.png").absolute())
        ended: Deferred[None] = Deferred()

        def interrupt() -> Deferred[None]:
            demo.interrupt()
            return ended

        trigger = reactor.addSystemEventTrigger("before", "shutdown", interrupt)
        try:
            good = await demo.run()
            if not demo.interrupted:
                code = 0 if good else 1
                if good:
                    console.print("[bold green]All of it works.[/]")
                if good and not once:
                    reactor.removeSystemEventTrigger(trigger)
                    trigger = reactor.addSystemEventTrigger("before", "shutdown", stay(demo.node))
                    await Deferred()
        finally:
            if not ended.called:
                await demo.node.stopService()
                ended.callback(None)

    try:
        react(run)
    except SystemExit as end:
        code = code or int(bool(end.code))
    return code


def stay(node: Node) -> Callable[[], object]:
    """Say what there is to look at while the node goes on; gives what ends it."""
    console.print(
        "\nThe node goes on until Ctrl-C. In another terminal:\n"
        "  .venv/bin/equipnet ask tcp:127.0.0.1:15025 'MEAS:VOLT?'\n"
        "  .venv/bin/equipnet ask --config examples/lab.toml thermometer 'KRDG? 3'\n"
        "  .venv/bin/equipnet check examples/*.toml\n"
        "In a browser, the camera (user operator, password loop-finder):\n"
        "  http://127.0.0.1:18080/axis-cgi/mjpg/video.cgi\n",
        markup=False,
    )
    return node.stopService


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments not in ([], ["--once"]):
        sys.exit("usage: demo.py [--once]")
    sys.exit(main(once=bool(arguments)))
