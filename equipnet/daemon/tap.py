"""``twistd equipnet --config FILE``: the daemon of one configuration file."""

from __future__ import annotations

import sys
from typing import Any

from twisted.application.service import IService
from twisted.internet.interfaces import IReactorPluggableNameResolver
from twisted.python import usage

from equipnet.daemon.config import Kinds, complaint, inspect_config
from equipnet.daemon.names import HostNames
from equipnet.daemon.tree import Node
from equipnet.errors import ConfigError


class Options(usage.Options):
    """The options of ``twistd equipnet``."""

    optParameters = [["config", "c", None, "The configuration file (TOML)."]]
    optFlags = [["check", None, "Say what is wrong with the file, or that it is right, and do nothing else."]]
    longdesc = (
        "Runs the connections that a configuration file describes until SIGTERM or Ctrl-C. "
        "While a node runs in the same folder, check a file with 'equipnet check FILE'."
    )

    def postOptions(self) -> None:
        if not self["config"]:
            raise usage.UsageError("which configuration file? give it as --config FILE")


def makeService(options: Options, reactor: Any = None, kinds: Kinds | None = None) -> IService:
    """
    Make the service tree of a configuration file.

    Parameters
    ----------
    options
        What the command line says.
    reactor
        The reactor that the connections will live on; the installed one when it is not given.
    kinds
        The known kinds by name; those that are installed when it is not given.

    Raises
    ------
    SystemExit
        With 1 when the file cannot be used, after all that is wrong with it was written to standard error; with 0 when
        it was only to be checked and is right.
    """
    if reactor is None:
        from twisted.internet import reactor
    path = options["config"]
    try:
        node = Node.from_config(inspect_config(path, kinds), reactor)
    except (ConfigError, OSError) as error:
        sys.stderr.write(f"{complaint(path, error)}\n")
        raise SystemExit(1) from None
    if options["check"]:
        sys.stdout.write(f"{approval(path, node)}\n")
        raise SystemExit(0)
    if IReactorPluggableNameResolver.providedBy(reactor):
        reactor.installNameResolver(HostNames(reactor))
    # mypy-zope does not see that MultiService, unannotated, provides what Service declares.
    service: IService = node
    return service


def approval(path: object, node: Node) -> str:
    """Say that a file is right, and how many connections it describes."""
    count = len(node.connections)
    return f"{path}: ok, {count} connection{'' if count == 1 else 's'}"
