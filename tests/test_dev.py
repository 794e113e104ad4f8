import threading
from collections.abc import Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import dev


class RecordedRun:
    """
    Runs nothing, and records what it was asked to run.

    A command that has one of the words in `failing` among its arguments ends with exit code 3. One that makes a
    virtual environment makes its folder, so that there is a place for the stamp.
    """

    def __init__(self, root: Path, *failing: str) -> None:
        self.root = root
        self.failing = failing
        self.commands: list[dev.Command] = []

    def __call__(self, command: dev.Command) -> int:
        self.commands.append(command)
        if any(word in command for word in self.failing):
            return 3
        if "venv" in command:
            (self.root / ".venv").mkdir(exist_ok=True)
        return 0


def checkout(folder: Path) -> Path:
    """Make a folder that looks like a checkout, as far as dev.py looks."""
    folder.mkdir(parents=True)
    for name in ("requirements.lock", "setup.cfg", "pyproject.toml", "setup.py"):
        (folder / name).write_text(f"the first {name}")
    return folder


def words(steps: Sequence[dev.Step], first: int = 1) -> list[list[str]]:
    """The commands without what stands before argument `first`: the interpreter's path says nothing here."""
    commands = [command for step in steps for command in (step if isinstance(step, tuple) else (step,))]
    return [list(command[first:]) for command in commands]


class PythonVersionTests(SynchronousTestCase):
    def test_old(self) -> None:
        """A Python that is too old is told which one is needed, and which one it is."""
        self.assertEqual(
            dev.complaint_about((3, 9, 18)), "dev.py: equipnet needs Python 3.10 or newer, and this is 3.9.18"
        )

    def test_oldest(self) -> None:
        """The oldest supported Python is not complained about, nor is a newer one."""
        self.assertEqual([dev.complaint_about(version) for version in ((3, 10, 0), (3, 13, 1))], ["", ""])


class StampTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = checkout(Path(self.mktemp()))
        self.stamp = dev.stamp(self.root, "3.11.7")

    def test_same(self) -> None:
        """Nothing changed, the stamp is the same."""
        self.assertEqual(dev.stamp(self.root, "3.11.7"), self.stamp)

    def test_files(self) -> None:
        """A change of any file that decides what is installed changes the stamp."""
        for name in ("requirements.lock", "setup.cfg", "pyproject.toml", "setup.py"):
            with self.subTest(name):
                before = (self.root / name).read_text()
                (self.root / name).write_text(before + ", changed")
                self.assertNotEqual(dev.stamp(self.root, "3.11.7"), self.stamp)
                (self.root / name).write_text(before)

    def test_python(self) -> None:
        """Another version of Python changes the stamp."""
        self.assertNotEqual(dev.stamp(self.root, "3.12.1"), self.stamp)

    def test_place(self) -> None:
        """The same files in another place have another stamp, since what is installed points to the place."""
        self.assertNotEqual(dev.stamp(checkout(Path(self.mktemp())), "3.11.7"), self.stamp)


class SetUpTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = checkout(Path(self.mktemp()))

    def set_up(self, *failing: str, has_ensurepip: bool = True, pip: str | None = "its/pip") -> RecordedRun:
        """Set the checkout up, with commands that fail when one of these words is in them."""
        run = RecordedRun(self.root, *failing)
        dev.set_up(self.root, "3.11.7", run, has_ensurepip=has_ensurepip, pip=pip)
        return run

    def is_set_up(self, *failing: str, python_version: str = "3.11.7") -> bool:
        """Whether dev.py takes the checkout for set up, when the commands with these words fail."""
        return dev.is_set_up(self.root, python_version, RecordedRun(self.root, *failing))

    def test_new_checkout(self) -> None:
        """A new checkout is not set up."""
        self.assertFalse(self.is_set_up())

    def test_done_once(self) -> None:
        """What was set up stays so, until the lock or the Python changes."""
        self.set_up()
        self.assertTrue(self.is_set_up())
        self.assertFalse(self.is_set_up(python_version="3.12.1"))
        (self.root / "requirements.lock").write_text("the second requirements.lock")
        self.assertFalse(self.is_set_up())

    def test_vanished_python(self) -> None:
        """A virtual environment whose interpreter does not run any more is none."""
        self.set_up()
        self.assertFalse(self.is_set_up(str(dev.venv_python(self.root))))

    def test_locked_and_hashed(self) -> None:
        """Packages come from the lock, by hash, and the checkout is installed over them without dependencies."""
        packages, checkout = self.set_up().commands[1:]
        self.assertEqual([word in packages for word in ("--require-hashes", "--no-deps", "--editable")], [1, 1, 0])
        self.assertEqual([word in checkout for word in ("--no-build-isolation", "--no-deps")], [1, 1])
        self.assertEqual(checkout[-2:], ["--editable", str(self.root)])

    def test_own_pip(self) -> None:
        """The virtual environment's own pip is used where Python can put one there."""
        self.assertEqual(self.set_up().commands[1][:3], [str(dev.venv_python(self.root)), "-m", "pip"])

    def test_no_ensurepip(self) -> None:
        """
        Where it cannot, the system's pip runs under the virtual environment's interpreter.

        It ignores what is installed, since it would take the system's packages for installed.
        """
        venv, packages, _ = self.set_up(has_ensurepip=False).commands
        self.assertIn("--without-pip", venv)
        self.assertEqual(packages[:2], [str(dev.venv_python(self.root)), "its/pip"])
        self.assertIn("--ignore-installed", packages)

    def test_broken_ensurepip(self) -> None:
        """An ensurepip that fails is as good as none."""
        run = RecordedRun(self.root)

        def without_ensurepip(command: dev.Command) -> int:
            code = run(command)
            return 1 if "venv" in command and "--without-pip" not in command else code

        dev.set_up(self.root, "3.11.7", without_ensurepip, has_ensurepip=True, pip="its/pip")
        self.assertEqual(run.commands[2][1], "its/pip")

    def test_no_pip(self) -> None:
        """With neither, the message says what to install."""
        refused = self.assertRaises(dev.Refused, self.set_up, has_ensurepip=False, pip=None)
        self.assertIn("python3-venv or python3-pip", str(refused))

    def test_failure_leaves_no_stamp(self) -> None:
        """When a step fails the checkout is not set up, even if it was before."""
        for step in ("venv", "--require-hashes", "--editable"):
            with self.subTest(step):
                self.set_up()
                self.assertRaises(dev.Refused, self.set_up, step)
                self.assertFalse(self.is_set_up())


class JobTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = checkout(Path(self.mktemp()))

    def add(self, *names: str) -> None:
        """Add empty files to the checkout."""
        for name in names:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).touch()

    def test_names(self) -> None:
        """Each job is found by its name."""
        for name in ("demo", "test", "lint", "docs", "bench"):
            self.assertEqual(dev.job_named(name).__name__, name)

    def test_unknown(self) -> None:
        """A job that does not exist is refused with those that do."""
        refused = self.assertRaises(dev.Refused, dev.job_named, "tests")
        self.assertEqual(str(refused), "there is no job 'tests'; there are: demo, test, lint, docs, bench")

    def test_demo(self) -> None:
        """The demo gets the arguments as they are."""
        self.assertEqual(words(dev.demo(self.root, ["--port", "0"])), [["examples/demo.py", "--port", "0"]])

    def test_pytest_comes_last(self) -> None:
        """All tests run under trial first and under pytest last, so that its closing line ends the output."""
        steps = dev.test(self.root, [])
        trial, *_, pytest = words(steps, first=2)
        self.assertEqual((trial[0], trial[-1]), ("twisted.trial", "tests"))
        self.assertEqual((pytest, len(words(steps[-1:]))), (["pytest", "tests"], 1))

    def test_kills_beside_trial(self) -> None:
        """The node whose equipment is killed for a minute runs at the same time as trial does."""
        together = dev.test(self.root, [])[0]
        assert isinstance(together, tuple)
        self.assertEqual(words(together, first=2)[1], ["benchmarks.node", "--kills", "60", "0.05"])

    def test_asyncio_reactor(self) -> None:
        """The modules with real sockets, and no others, run on the asyncio reactor too."""
        self.add("tests/hsms/test_hsms_sockets.py", "tests/hsms/test_protocol.py", "tests/dcs/test_dhs_sockets.py")
        self.assertEqual(
            words(dev.test(self.root, []), first=5)[2],
            ["--reactor", "asyncio", "tests.dcs.test_dhs_sockets", "tests.hsms.test_hsms_sockets"],
        )

    def test_arguments_go_to_pytest(self) -> None:
        """With arguments only pytest runs, and gets them."""
        self.assertEqual(words(dev.test(self.root, ["-k", "hsms"])), [["-m", "pytest", "-k", "hsms"]])

    def test_lint_checks_what_is_there(self) -> None:
        """Types are checked in the folders that hold Python files; mypy refuses one that does not."""
        self.add("equipnet/__init__.py", "tests/__init__.py", "examples/demo.toml")
        self.assertEqual(words(dev.lint(self.root, []), first=2)[-1], ["mypy", "equipnet", "tests", "dev.py"])

    def test_docs(self) -> None:
        """The pages are built and their examples are run, both with warnings as errors."""
        commands = words(dev.docs(self.root, []))
        self.assertEqual([command[-1] for command in commands], ["docs/_build/html", "docs/_build/doctest"])
        self.assertTrue(all("-W" in command for command in commands))

    def test_benchmarks(self) -> None:
        """All benchmarks run when none is named; what begins with an underscore is none."""
        self.add("benchmarks/hsms.py", "benchmarks/dcs.py", "benchmarks/_floor.py", "benchmarks/__init__.py")
        self.assertEqual(words(dev.bench(self.root, [])), [["benchmarks/dcs.py"], ["benchmarks/hsms.py"]])
        self.assertEqual(words(dev.bench(self.root, ["hsms"])), [["benchmarks/hsms.py"]])

    def test_unknown_benchmark(self) -> None:
        """A benchmark that does not exist is refused with those that do."""
        self.add("benchmarks/hsms.py")
        refused = self.assertRaises(dev.Refused, dev.bench, self.root, ["hsm"])
        self.assertEqual(str(refused), "there is no benchmark 'hsm'; there are: hsms")

    def test_no_arguments(self) -> None:
        """A job that takes no arguments refuses them."""
        refused = self.assertRaises(dev.Refused, dev.lint, self.root, ["equipnet"])
        self.assertEqual(str(refused), "lint takes no arguments, and got 'equipnet'")


class RunAllTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.said: list[str] = []

    def test_all_succeed(self) -> None:
        """The exit code is zero when every command's is, and there is nothing to say."""
        self.assertEqual(dev.run_all([["one"], ["two"]], RecordedRun(Path()), self.said.append), 0)
        self.assertEqual(self.said, [])

    def test_goes_on_after_a_failure(self) -> None:
        """What comes after a failed command runs all the same, and the failure is told and decides the exit code."""
        run = RecordedRun(Path(), "one")
        self.assertEqual(dev.run_all([["one", "more"], ["two"]], run, self.said.append), 3)
        self.assertEqual(run.commands, [["one", "more"], ["two"]])
        self.assertEqual(self.said, ["exit code 3 from one more"])

    def test_together(self) -> None:
        """Commands of one step run at the same time, and the step is over when all of them are."""
        both = threading.Barrier(2, timeout=30)

        def run(command: dev.Command) -> int:
            if command != ["after"]:
                both.wait()
            return {"one": 0, "two": 2, "after": 0}[command[0]]

        self.assertEqual(dev.run_all([(["one"], ["two"]), ["after"]], run, self.said.append), 2)
        self.assertEqual(self.said, ["exit code 2 from two"])


class LockTests(SynchronousTestCase):
    def test_held_in_turn(self) -> None:
        """The lock can be taken again once it was given back, also when what it guarded failed."""
        path = Path(self.mktemp())

        def fail() -> None:
            with dev.locked(path):
                raise ValueError

        self.assertRaises(ValueError, fail)
        with dev.locked(path):
            self.assertTrue(path.exists())
