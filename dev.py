#!/usr/bin/env python3
"""
Everything there is to do with a checkout of equipnet, in one command each.

    python3 dev.py demo [ARGUMENT...]   run examples/demo.py
    python3 dev.py test [ARGUMENT...]   run all tests under trial and pytest; with arguments, only pytest with these
    python3 dev.py lint                 check style, formatting and types
    python3 dev.py docs                 build the documentation and run the examples in it
    python3 dev.py bench [NAME...]      run all benchmarks, or those named

The first run makes a virtual environment in .venv, with the packages that requirements.lock pins; it is made again
only when it no longer fits the checkout. This file needs nothing but Python 3.10 and its standard library.
"""

import contextlib
import hashlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

OLDEST_PYTHON = (3, 10)


def complaint_about(version: "tuple[int, ...]") -> str:
    """What is wrong with running on this version of Python; empty when nothing is."""
    if version >= OLDEST_PYTHON:
        return ""
    needed, found = (".".join(map(str, numbers[:3])) for numbers in (OLDEST_PYTHON, version))
    return f"dev.py: equipnet needs Python {needed} or newer, and this is {found}"


# This stands before everything that an older Python can read but not run, such as the annotations below.
if complaint_about(sys.version_info[:3]):
    sys.exit(complaint_about(sys.version_info[:3]))


Command = list[str]

Step = Command | tuple[Command, ...]
"""One command, or several that run at the same time."""

Run = Callable[[Command], int]
"""Runs one command in the checkout and returns its exit code."""

INTERRUPTED = 130
"""The exit code by which a shell knows that Ctrl-C ended a command."""


class Refused(Exception):
    """What was asked for cannot be done; the message, one line, says why."""


# The virtual environment


def venv_python(root: Path) -> Path:
    """The interpreter of the checkout's virtual environment."""
    return root / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def stamp_path(root: Path) -> Path:
    """Where a finished virtual environment says what it was made from."""
    return root / ".venv" / ".equipnet-stamp"


def stamp(root: Path, python_version: str) -> str:
    """
    What a virtual environment made now would be made from, as one hash.

    The place of the checkout is part of it, because the installed package points there.
    """
    digest = hashlib.sha256(f"{root}\0{python_version}\0".encode())
    for name in ("requirements.lock", "setup.cfg", "pyproject.toml", "setup.py"):
        digest.update(hashlib.sha256((root / name).read_bytes()).digest())
    return digest.hexdigest()


def is_set_up(root: Path, python_version: str, run: Run) -> bool:
    """
    Whether the virtual environment fits the checkout and still works.

    The second is worth the few milliseconds: its interpreter goes when the Python that it was made from is removed.
    """
    try:
        found = stamp_path(root).read_text()
    except OSError:
        return False
    return found == stamp(root, python_version) and run([str(venv_python(root)), "-c", ""]) == 0


def set_up(root: Path, python_version: str, run: Run, *, has_ensurepip: bool, pip: str | None) -> None:
    """
    Make the virtual environment anew.

    Parameters
    ----------
    root
        The checkout.
    python_version
        The version of the Python that runs this, as the stamp records it.
    run
        What runs the commands.
    has_ensurepip
        Whether this Python can put pip into a virtual environment. Debian's cannot without `python3-venv`.
    pip
        The folder of this Python's own pip, for when it cannot; None when there is none.

    Raises
    ------
    Refused
        When there is no pip at all, or a step failed. There is no stamp then, so that the next run starts again.
    """
    stamp_path(root).unlink(missing_ok=True)
    create = [sys.executable, "-m", "venv", "--clear"]
    venv = str(root / ".venv")
    python = str(venv_python(root))

    if has_ensurepip and run([*create, venv]) == 0:
        install = [python, "-m", "pip", "install"]
    elif pip is not None:
        if run([*create, "--without-pip", venv]) != 0:
            raise Refused("could not make the virtual environment .venv")
        # A pip that runs from its folder takes the packages beside it for installed.
        install = [python, pip, "install", "--ignore-installed"]
    else:
        raise Refused("this Python has neither ensurepip nor pip; install python3-venv or python3-pip first")

    install += ["-qq", "--no-input", "--disable-pip-version-check", "--no-deps"]
    if run([*install, "--require-hashes", "--requirement", str(root / "requirements.lock")]) != 0:
        raise Refused("could not install the packages of requirements.lock")
    if run([*install, "--no-build-isolation", "--editable", str(root)]) != 0:
        raise Refused("could not install equipnet itself into .venv")
    stamp_path(root).write_text(stamp(root, python_version))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock that this file stands for; wait for whoever holds it. It falls open when its holder dies."""
    with path.open("w") as file:
        if sys.platform == "win32":
            import msvcrt
            import time

            while True:
                try:
                    msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
                    break
                except OSError:
                    time.sleep(0.2)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def ensure_set_up(root: Path, run: Run) -> None:
    """Make the virtual environment unless the one that is there will do; several runs at once take turns."""
    with locked(root / ".venv.lock"):
        if is_set_up(root, sys.version, quietly):
            return
        say("setting up .venv, which takes about half a minute")
        pip = importlib.util.find_spec("pip")
        folders = pip.submodule_search_locations if pip else None
        set_up(
            root,
            sys.version,
            run,
            has_ensurepip=importlib.util.find_spec("ensurepip") is not None,
            pip=folders[0] if folders else None,
        )


# The jobs: each is the list of steps that a job's arguments stand for


def demo(root: Path, arguments: Sequence[str]) -> list[Step]:
    """Run `examples/demo.py` with these arguments."""
    return [[str(venv_python(root)), "examples/demo.py", *arguments]]


def test(root: Path, arguments: Sequence[str]) -> list[Step]:
    """
    Run the tests under both runners, and those with real sockets (`test_*_sockets.py`) on the asyncio reactor too;
    those that run processes of their own (`test_*_processes.py`) would be the same there.

    Those on the asyncio reactor, and a small node whose equipment is killed again and again for a minute, run beside
    trial, since both are mostly waiting. pytest comes last, so that its closing line is the last of the output.
    """
    python = str(venv_python(root))
    if arguments:
        return [[python, "-m", "pytest", *arguments]]
    trial = [python, "-m", "twisted.trial", "--temp-directory"]
    kills = [python, "-m", "benchmarks.node", "--kills", "60", "0.05"]
    together: list[Command] = [[*trial, ".trial", "tests"], kills]
    with_sockets = sorted((root / "tests").rglob("test_*_sockets.py"))
    if with_sockets:
        modules = [".".join(path.relative_to(root).with_suffix("").parts) for path in with_sockets]
        together.append([*trial, ".trial-asyncio", "--reactor", "asyncio", *modules])
    return [tuple(together), [python, "-m", "pytest", "tests"]]


def lint(root: Path, arguments: Sequence[str]) -> list[Step]:
    """Check style, formatting and types."""
    no_arguments("lint", arguments)
    python = str(venv_python(root))
    folders = [name for name in ("equipnet", "tests", "benchmarks", "examples") if any((root / name).rglob("*.py"))]
    return [
        [python, "-m", "ruff", "check", "."],
        [python, "-m", "ruff", "format", "--check", "."],
        [python, "-m", "mypy", *folders, "dev.py"],
    ]


def docs(root: Path, arguments: Sequence[str]) -> list[Step]:
    """Build the documentation, then run the examples in it; a warning is an error."""
    no_arguments("docs", arguments)
    sphinx = [str(venv_python(root)), "-m", "sphinx", "-W", "--keep-going", "-q", "-d", "docs/_build/doctrees"]
    return [[*sphinx, "-b", builder, "docs", f"docs/_build/{builder}"] for builder in ("html", "doctest")]


def bench(root: Path, arguments: Sequence[str]) -> list[Step]:
    """Run the benchmarks one after another: all of them, or those named."""
    known = sorted(path.stem for path in (root / "benchmarks").glob("[!_]*.py"))
    unknown = [name for name in arguments if name not in known]
    if unknown:
        raise Refused(f"there is no benchmark {unknown[0]!r}; there are: {', '.join(known) or 'none'}")
    return [[str(venv_python(root)), f"benchmarks/{name}.py"] for name in arguments or known]


def no_arguments(job: str, arguments: Sequence[str]) -> None:
    """Refuse arguments to a job that takes none, rather than overlook them."""
    if arguments:
        raise Refused(f"{job} takes no arguments, and got {arguments[0]!r}")


JOBS: dict[str, Callable[[Path, Sequence[str]], list[Step]]] = {
    "demo": demo,
    "test": test,
    "lint": lint,
    "docs": docs,
    "bench": bench,
}


def job_named(name: str) -> Callable[[Path, Sequence[str]], list[Step]]:
    """The job of this name; raises `Refused`, with the names there are, when it is none."""
    try:
        return JOBS[name]
    except KeyError:
        raise Refused(f"there is no job {name!r}; there are: {', '.join(JOBS)}") from None


def run_all(steps: Sequence[Step], run: Run, say: Callable[[str], None]) -> int:
    """
    Run every step, also after one that failed, so that one run tells of everything that is wrong; say which failed.

    Returns
    -------
    int
        Zero when all succeeded, else the exit code of the first that failed.
    """
    first_failure = 0
    for step in steps:
        commands = step if isinstance(step, tuple) else (step,)
        with ThreadPoolExecutor(len(commands)) as together:
            codes = list(together.map(run, commands))
        for command, code in zip(commands, codes, strict=True):
            if code:
                say(f"exit code {code} from {' '.join(command)}")
            first_failure = first_failure or code
    return first_failure


# This process


def runner(root: Path) -> Run:
    """What runs a command in the checkout with this process's input and output."""

    def run(command: Command) -> int:
        process = subprocess.Popen(command, cwd=root)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            # The terminal has sent it the same Ctrl-C: let it end in its own way.
            process.wait()
            raise
        return code if code >= 0 else 128 - code

    return run


def say(message: str) -> None:
    """Tell whoever runs this, in one line, apart from the output of the commands."""
    print(f"dev.py: {message}", file=sys.stderr, flush=True)


def quietly(command: Command) -> int:
    """Run a command without input or output; one that cannot be started has failed."""
    try:
        return subprocess.call(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except OSError:
        return 1


def main(arguments: Sequence[str]) -> int:
    """Do the job that the command line names, and return the exit code."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print((__doc__ or "").strip())
        return 0 if arguments else 2
    root = Path(__file__).resolve().parent
    run = runner(root)
    try:
        job = job_named(arguments[0])
        steps = job(root, arguments[1:])
        ensure_set_up(root, run)
        if job is demo and os.name == "posix":
            # In this process's place it gets every signal itself, and its exit code is the one that is seen.
            os.chdir(root)
            (command,) = steps
            assert isinstance(command, list)
            os.execv(command[0], command)
        return run_all(steps, run, say)
    except Refused as refused:
        say(str(refused))
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
