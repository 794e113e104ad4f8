"""
The ``equipnet`` command.

What a command needs is imported when it runs: ``equipnet --help`` needs neither Twisted nor pydantic.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from equipnet import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from equipnet.daemon.config import Kinds, NodeConfig

_Made = TypeVar("_Made")

_SIMULATED = "simulated-"
"""What the names of the kinds begin with that are the other side of a wire format."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="equipnet", message="%(prog)s %(version)s")
def main() -> None:
    """Connections to lab equipment. The daemon itself is 'twistd equipnet --config FILE'."""


@main.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.pass_obj
def check(kinds: Kinds | None, files: tuple[str, ...]) -> None:
    """Say everything that is wrong with configuration files."""
    from twisted.internet import reactor

    from equipnet.daemon.config import complaint, inspect_config
    from equipnet.daemon.tap import approval
    from equipnet.daemon.tree import Node
    from equipnet.errors import ConfigError

    wrong = False
    for file in files:
        try:
            # Building opens nothing, and finds what is missing beside the file.
            node = Node.from_config(inspect_config(file, kinds), reactor)
        except (ConfigError, OSError) as error:
            click.echo(complaint(file, error), err=True)
            wrong = True
        else:
            click.echo(approval(file, node))
    sys.exit(int(wrong))


@main.command("kinds")
@click.pass_obj
def list_kinds(kinds: Kinds | None) -> None:
    """List the kinds of connections that a file can ask for."""
    kinds = _known(kinds)
    width = max(map(len, kinds), default=0)
    for name, kind in kinds.items():
        click.echo(f"{click.style(f'{name:{width}}', bold=True)}  {kind.summary}")


@main.command("schema")
@click.pass_obj
def print_schema(kinds: Kinds | None) -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    import json

    from equipnet.daemon.config import schema

    click.echo(json.dumps(schema(kinds), indent=2))


@main.command()
@click.argument("target")
@click.argument("text")
@click.option("--config", "-c", "file", metavar="FILE", help="TARGET is the name of a connection in this file.")
@click.option("--timeout", metavar="S", type=click.FloatRange(0, min_open=True), help="Seconds to wait. [default: 5]")
@click.option("--termination", metavar="T", help=r"What ends a message, with \r, \n, \t, \xHH. [default: \n]")
@click.pass_obj
def ask(
    kinds: Kinds | None, target: str, text: str, file: str | None, timeout: float | None, termination: str | None
) -> None:
    """
    Send TEXT to an instrument and print its reply.

    TARGET is an address, such as tcp:192.168.1.100:5025, or the name of a connection in a file.
    """
    from equipnet.daemon.config import read_config
    from equipnet.errors import AddressError

    if file is not None and termination is not None:
        raise click.UsageError("the termination stands in the file; --termination is for an address")

    config = None if file is None else _checked(file, lambda: read_config(file, kinds))

    async def converse(reactor: Any) -> None:
        if config is not None:
            connection = _named(config, target, reactor)
            if timeout is not None and hasattr(connection, "timeout"):
                connection.timeout = timeout
        else:
            from equipnet.instrument import Instrument

            seconds = 5.0 if timeout is None else timeout
            ending = "\n" if termination is None else _unescaped(termination)
            try:
                connection = Instrument(
                    target, termination=ending, timeout=seconds, connect_timeout=seconds, reactor=reactor
                )
            except AddressError as error:
                _fail(f"{error}; or, with --config FILE, the name of a connection")
        reactor.addSystemEventTrigger("before", "shutdown", connection.disconnect)
        await connection.connect()
        reply = await connection.query(text)
        # What ended the reply is not a part of it.
        click.echo(reply.rstrip(b"\r\n" if isinstance(reply, bytes) else "\r\n"))

    _run(converse, when_interrupted=130)


@main.command()
@click.argument("kind")
@click.argument("file")
@click.pass_obj
def simulate(kinds: Kinds | None, kind: str, file: str) -> None:
    """
    Play the other side of a wire format until Ctrl-C.

    FILE holds what would stand in the table of a connection of kind simulated-KIND. The address is printed once it
    listens.
    """
    from equipnet.daemon.config import read_section
    from equipnet.daemon.tree import Node
    from equipnet.daemon.wording import did_you_mean

    known = _known(kinds)
    simulated = [name.removeprefix(_SIMULATED) for name in known if name.startswith(_SIMULATED)]
    if kind not in simulated:
        hint = did_you_mean(kind, simulated)
        _fail(f"there is no simulator {kind!r}; one of: {', '.join(simulated) or 'none is installed'}{hint}")
    config = _checked(file, lambda: read_section(file, _SIMULATED + kind, known))

    async def play(reactor: Any) -> None:
        from twisted.internet.defer import Deferred
        from twisted.logger import globalLogBeginner, textFileLogObserver

        node = _checked(file, lambda: Node.from_config(config, reactor))
        reactor.addSystemEventTrigger("before", "shutdown", node.stopService)
        (simulator,) = node.connections.values()
        # One that waits for its peer says by itself when it listens.
        await getattr(simulator, "listen", simulator.connect)()
        globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
        node.startService()
        click.echo(simulator.peer)
        await Deferred()  # until a signal stops the reactor

    _run(play, when_interrupted=0)


@main.group()
def secs() -> None:
    """Do something with SECS-II messages."""


@secs.command("sml")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
def print_sml(file: str) -> None:
    """Read the SML messages of FILE, in any dialect, and print them in one form."""
    from equipnet.hsms.cli import canonical

    try:
        with click.open_file(file, encoding="utf-8") as text:
            click.echo(canonical(text.read()))
    except (OSError, ValueError) as error:
        _fail(f"{file}: {error}")


@main.group()
def hsms() -> None:
    """Speak HSMS."""


@hsms.command("request")
@click.argument("address")
@click.argument("message")
@click.option("--session-id", metavar="N", type=click.IntRange(0, 0x7FFF), default=0, help="The device id.")
@click.option("--timeout", metavar="S", type=click.FloatRange(0, min_open=True), default=5.0, show_default=True)
def request_message(address: str, message: str, session_id: int, timeout: float) -> None:
    """
    Select equipment, send it MESSAGE in SML, and print its reply.

    ADDRESS is that of the equipment, such as tcp:10.0.0.5:5000; MESSAGE such as "S1F1 W" or "S1F3 W <L <U4 1001>>".
    """
    from equipnet.hsms.cli import request

    _run(lambda reactor: request(reactor, address, message, session_id, timeout, click.echo), when_interrupted=130)


def _known(kinds: Kinds | None) -> Kinds:
    from equipnet.daemon.config import installed_kinds

    return installed_kinds() if kinds is None else kinds


def _named(config: NodeConfig, name: str, reactor: Any) -> Any:
    """Give the connection of that name, one that can be asked something; the others of the file are not built."""
    from dataclasses import replace

    from equipnet.daemon.tree import Node
    from equipnet.daemon.wording import did_you_mean

    section = config.connections.get(name)
    if section is None:
        known = ", ".join(config.connections) or "none"
        _fail(
            f"{config.file}: there is no connection {name!r}; one of: {known}{did_you_mean(name, config.connections)}"
        )
    alone = replace(config, connections={name: section})
    connection = _checked(config.file, lambda: Node.from_config(alone, reactor)).connection(name)
    if not hasattr(connection, "query"):
        _fail(f"{config.file}: {name!r} is of kind {section.kind!r}, which has no query")
    return connection


def _unescaped(text: str) -> str:
    r"""Give the characters for ``\r``, ``\n``, ``\t``, ``\0``, ``\\`` and ``\xHH``, hard to type in a shell."""
    characters = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\"}
    return re.sub(
        r"\\(?:x([0-9A-Fa-f]{2})|([rnt0\\]))",
        lambda found: chr(int(found[1], 16)) if found[1] else characters[found[2]],
        text,
    )


# How commands end.


def _fail(message: str) -> NoReturn:
    click.echo(" ".join(message.split()), err=True)
    sys.exit(1)


def _checked(file: str, make: Callable[[], _Made]) -> _Made:
    """Give what is made from a file; if the file is wrong, say all that is, and end."""
    from equipnet.daemon.config import complaint
    from equipnet.errors import ConfigError

    try:
        return make()
    except (ConfigError, OSError) as error:
        click.echo(complaint(file, error), err=True)
        sys.exit(1)


def _run(main: Callable[[Any], Coroutine[Any, Any, None]], when_interrupted: int) -> NoReturn:
    """Run the reactor until ``main`` has ended; what it raises becomes a line on standard error."""
    from twisted.internet.task import react

    from equipnet.errors import EquipmentError

    code = when_interrupted

    async def run(reactor: Any) -> None:
        nonlocal code
        try:
            await main(reactor)
            code = 0
        except (EquipmentError, OSError, ValueError) as error:
            code = 1
            _fail(str(error) or type(error).__name__)
        except SystemExit:
            code = 1
            raise

    try:
        react(run)
    except SystemExit as ended:
        # react says 0 when a signal stopped the reactor before main had ended.
        sys.exit(ended.code or code)


if __name__ == "__main__":
    main()
