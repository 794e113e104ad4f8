"""Tests of the examples, and of what stands in the documentation, without a reactor."""

from __future__ import annotations

import ast
import contextlib
import re
import shlex
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from equipnet.communicator import Communicator, Fault, OperationManagerSimulator, join_in_memory
from equipnet.communicator.message import ElevationAxisPower
from equipnet.connection.config import Kind
from equipnet.daemon.config import complaint, installed_kinds, read_config, read_section
from equipnet.daemon.tap import Options, approval
from equipnet.daemon.tree import Node
from equipnet.dcs import DcssSimulator, DhsConnection
from equipnet.errors import ConfigError
from equipnet.imaging import Frame
from equipnet.instrument import Instrument, InstrumentSimulator
from equipnet.prediction import Box, Detection, Prediction
from examples.howto import test_supply
from examples.howto.simulators import test_etcher

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*/*.md"))]
ENVIRONMENT = {"THERMOMETER": "10.0.0.7", "CREDENTIALS_DIRECTORY": str(EXAMPLES / "howto" / "own_kind")}

#: The examples of the guide "Test your code with the simulators".
SupplyTests, PressureTests = test_supply.SupplyTests, test_etcher.PressureTests


def snippets(page: Path, language: str) -> Iterator[str]:
    """Give the listings of a page that are in a language, and stand in the page itself."""
    for block in re.finditer(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        yield block[1]


class ConfigurationTests(SynchronousTestCase):
    def setUp(self) -> None:
        own_kind = str(EXAMPLES / "howto" / "own_kind")
        sys.path.insert(0, own_kind)
        self.addCleanup(sys.path.remove, own_kind)
        self.addCleanup(sys.modules.pop, "acme_counter", None)
        self.kinds = {
            **installed_kinds(),
            "acme-counter": Kind("acme-counter", "an ACME particle counter", "acme_counter.CounterSection"),
        }

    def approved(self, file: Path) -> str:
        """Check a file as `equipnet check` does; give what that says."""
        try:
            return approval(file, Node.from_config(read_config(file, self.kinds, ENVIRONMENT), MemoryReactorClock()))
        except ConfigError as error:
            return complaint(file, error)

    def test_files(self) -> None:
        """
        The configuration files of the examples are right.
        """
        counts = {
            "lab.toml": 8,
            "fab.toml": 4,
            "beamline.toml": 8,
            "tutorial/lab.toml": 2,
            "howto/beamline.toml": 3,
            "howto/own_kind/lab.toml": 2,
        }
        for name, count in counts.items():
            self.assertEqual(self.approved(EXAMPLES / name), f"{EXAMPLES / name}: ok, {count} connections")

    def test_snippets(self) -> None:
        """
        So are those that stand in the pages themselves.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "tls").symlink_to(EXAMPLES / "tls")
        count = 0
        for page in PAGES:
            for snippet in snippets(page, "toml"):
                count += 1
                file = folder / f"{count}.toml"
                file.write_text(snippet)
                self.assertRegex(self.approved(file), r"toml: ok, \d+ connections?$", f"{page}:\n{snippet}")
        self.assertGreater(count, 0)

    def test_wrong_file(self) -> None:
        """
        What is said about the one that is wrong is what the page shows.
        """
        folder = EXAMPLES / "howto"
        said = self.approved(folder / "wrong.toml").replace(f"{folder}/", "")
        self.assertEqual(said + "\n", (folder / "wrong.txt").read_text())

    def test_unit(self) -> None:
        """
        The unit for systemd calls twistd with options that there are.
        """
        unit = ConfigParser(interpolation=None)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read(EXAMPLES / "howto" / "equipnet.service")
        twistd, own = unit["Service"]["ExecStart"].split(" equipnet ")
        self.assertEqual(shlex.split(twistd)[1:], ["-n", "--pidfile="])
        options = Options()
        options.parseOptions(shlex.split(own))
        self.assertEqual(options["config"], "/etc/equipnet/lab.toml")


class SimulatorFileTests(SynchronousTestCase):
    def test_replies(self) -> None:
        """
        The simulator's file is right, and answers as it says.
        """
        file = EXAMPLES / "howto" / "supply.toml"
        self.addCleanup(sys.modules.pop, "supply_model", None)
        clock = MemoryReactorClock()
        node = Node.from_config(read_section(file, "simulated-instrument"), clock)
        (simulator,) = node.connections.values()
        assert isinstance(simulator, InstrumentSimulator)
        supply = Instrument(simulator.in_memory(clock), termination="\n", rstrip=True, reactor=clock)
        self.successResultOf(supply.connect())
        replies = []
        for command in ("*IDN?", "MEAS:CURR?", "MEAS:CURR?", "TEMP?", "TEMP?", "ERR? 3", "WHAT?"):
            reply = supply.query(command)
            clock.pump([0, 0, 0.05, 0])
            self.assertNoResult(reply)
            clock.pump([0.06, 0, 0])
            replies.append(self.successResultOf(reply))
        self.assertEqual(replies, ["ACME,PSU 30,7,1.2", "0.101", "0.102", "25.0", "25.1", "error 3: none", "ERR"])


class CodeSnippetTests(SynchronousTestCase):
    def test_compile(self) -> None:
        """
        The listings in Python that stand in the pages themselves are Python, and what they import is there.
        """
        for page in PAGES:
            for snippet in snippets(page, "python"):
                tree = compile(snippet, str(page), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                assert isinstance(tree, ast.Module)
                for statement in tree.body:
                    if isinstance(statement, (ast.Import, ast.ImportFrom)):
                        exec(compile(ast.Module([statement], []), str(page), "exec"), {})


def of_the_readme(mark: str, **names: Any) -> dict[str, Any]:
    """Run the listing of the README in which a text stands; gives its names."""
    (snippet,) = (each for each in snippets(ROOT / "README.md", "python") if mark in each)
    exec(snippet, names)
    return names


class Anything:
    """A node whose one connection is a camera, and a model that sees a loop."""

    def connection(self, name: str) -> Anything:
        return self

    def image(self) -> Deferred[Frame]:
        return succeed(Frame(b"an image", "image/jpeg", 704, 480, 0.0, 1))

    def predict(self, key: str, image: bytes) -> Deferred[Prediction]:
        return succeed(Prediction(key, (Detection(0.9, "nylon", 1, Box(0.4, 0.1, 0.6, 0.7)),)))


class ReadmeTests(SynchronousTestCase):
    def test_short(self) -> None:
        """
        The listings of the README have ten lines at most, empty ones not counted.
        """
        for snippet in snippets(ROOT / "README.md", "python"):
            self.assertLessEqual(len([line for line in snippet.splitlines() if line]), 10, snippet)

    def test_hardware_server(self) -> None:
        """
        The hardware server tells where the loop is.
        """
        clock = Clock()
        server = of_the_readme("HardwareServer")["LoopServer"]()
        server.node = Anything()
        dcss = DcssSimulator(EXAMPLES / "loop" / "database.dat", reactor=clock)
        DhsConnection(dcss.in_memory(clock), server, reactor=clock).startService()
        clock.pump([0.1] * 10)
        found = dcss.start_operation("getLoopTip")
        clock.pump([0.1] * 10)
        self.assertEqual(self.successResultOf(found).words, ("0.7", "0.4"))

    def test_mount(self) -> None:
        """
        The mount points; a command that fails is told.
        """
        clock = Clock()
        mount = Communicator("mount", "unused", 1, None, 0, connect=False, reactor=clock)
        simulator = OperationManagerSimulator(reactor=clock)
        join_in_memory(mount, simulator)
        mount.startService()
        simulator.startService()
        clock.pump([0.1] * 5)
        self.successResultOf(self.moved(clock, mount.execute(ElevationAxisPower(True))))
        point = of_the_readme("CommandFailed")["point"]
        done = self.successResultOf(self.moved(clock, Deferred.fromCoroutine(point(mount, 1.0))))
        self.assertEqual(type(done).__name__, "Done")
        simulator.inject(Fault(error=403), count=1)
        printed = StringIO()
        with contextlib.redirect_stdout(printed):
            self.successResultOf(self.moved(clock, Deferred.fromCoroutine(point(mount, 0.5))))
        self.assertIn("403", printed.getvalue())

    def moved(self, clock: Clock, ended: Deferred[Any]) -> Deferred[Any]:
        """Let half a minute pass."""
        clock.pump([0.1] * 300)
        return ended

    def test_simulator(self) -> None:
        """
        The simulator answers, the first command half a second late.
        """
        clock = Clock()
        dmm = of_the_readme("InstrumentSimulator", clock=clock)["dmm"]
        self.successResultOf(dmm.connect())
        dmm.rstrip = True
        late, asked = dmm.query("*IDN?"), [dmm.query("READ?"), dmm.query("VOLT 5")]
        clock.pump([0, 0, 0.4, 0])
        self.assertNoResult(late)
        clock.pump([0.1, *[0] * 10])
        self.assertEqual([self.successResultOf(each) for each in (late, *asked)], ["ACME,DMM,1,1.0", "1.0", "set 5"])
