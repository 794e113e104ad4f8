"""``twistd equipnet --config FILE``: the daemon of one configuration file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorPluggableNameResolver
from twisted.logger import ILogObserver
from twisted.python import usage
from twisted.python.components import Componentized

from equipnet.daemon.config import Kinds, NodeConfig, complaint, inspect_config
from equipnet.daemon.logs import NodeLog, twistd_observers
from equipnet.daemon.names import HostNames
from equipnet.daemon.reload import Reloading
from equipnet.daemon.tree import Node
from equipnet.daemon.watch import Watch
from equipnet.errors import ConfigError


class Options(usage.Options):
    """The options of ``twistd equipnet``."""

    optParameters = [["config", "c", None, "The configuration file (TOML)."]]
    optFlags = [["check", None, "Say what is wrong with the file, or that it is right, and do nothing else."]]
    longdesc = (
        "Runs the connections that a configuration file describes until SIGTERM or Ctrl-C, and reads the file again on "
        "SIGHUP. While a node runs in the same folder, check a file with 'equipnet check FILE'."
    )

    def parseArgs(self, *words: str) -> None:
        if words:
            raise usage.UsageError(f"what is {words[0]!r}? A configuration file is given as --config FILE")

    def postOptions(self) -> None:
        if not self["config"]:
            raise usage.UsageError("which configuration file? give it as --config FILE")


class Daemon(MultiService):
    """
    What ``twistd`` runs: a node, what watches its handlers, what reads its file again, and its log.

    Parameters
    ----------
    config
        What the node was built from.
    node
        The node.
    kinds
        The known kinds by name; those that are installed when it is not given.
    reactor
        Runs it.
    options
        Those of twistd, which say where the log goes; None for no log of its own.
    """

    def __init__(
        self, config: NodeConfig, node: Node, kinds: Kinds | None, reactor: Any, options: Mapping[str, Any] | None
    ) -> None:
        super().__init__()
        self.node = node
        self._logging = config.logging
        self._options = options
        self._reactor = reactor
        self._log: NodeLog | None = None
        # twistd changes the folder.
        file = Path(config.file).absolute()
        self.reloading = Reloading(node, file, lambda: inspect_config(file, kinds), self._accepted, reactor)
        for service in (Watch(reactor), self.reloading, node):
            service.setServiceParent(self)

    def setServiceParent(self, parent: Any) -> None:
        super().setServiceParent(parent)
        # twistd asks its application for what observes the log, unless it was told by --logger.
        if isinstance(parent, Componentized) and self._options is not None and not self._options["logger"]:
            self._log = NodeLog(*twistd_observers(self._options), self._reactor)
            self._log.configure(self._logging)
            parent.setComponent(ILogObserver, self._log)

    def stopService(self) -> Deferred[Any]:
        stopped: Deferred[Any] = super().stopService()
        return stopped.addCallback(self._stopped)

    def _accepted(self, config: NodeConfig) -> None:
        if self._log is not None:
            self._log.configure(config.logging)

    def _stopped(self, result: object) -> object:
        if self._log is not None:
            self._log.flush()
        return result


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
        config = inspect_config(path, kinds)
        node = Node.from_config(config, reactor)
    except (ConfigError, OSError) as error:
        sys.stderr.write(f"{complaint(path, error)}\n")
        raise SystemExit(1) from None
    if options["check"]:
        sys.stdout.write(f"{approval(path, node)}\n")
        raise SystemExit(0)
    if IReactorPluggableNameResolver.providedBy(reactor):
        reactor.installNameResolver(HostNames(reactor))
    # mypy-zope does not see that MultiService, unannotated, provides what Service declares.
    service: IService = Daemon(config, node, kinds, reactor, options.parent)
    return service


def approval(path: object, node: Node) -> str:
    """Say that a file is right, and how many connections it describes."""
    count = len(node.connections)
    return f"{path}: ok, {count} connection{'' if count == 1 else 's'}"
