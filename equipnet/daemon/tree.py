"""A configuration becomes a tree of services, whose connections start and end in the order of their needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IReactorCore, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from equipnet.daemon.config import NodeConfig
from equipnet.errors import ConfigError, Problem
from equipnet.interfaces import IConnection, INode


@implementer(INode)
class Node(MultiService):
    """
    One running daemon: a service that has a named child for each connection.

    A connection starts after those it needs and is closed before them; those without relation close at the same time.

    Parameters
    ----------
    name
        What the node is called.
    grace
        How many seconds the end of the node may take.
    clock
        What tells when they are over.
    """

    name: str
    _log = Logger()

    def __init__(self, name: str, grace: float, clock: IReactorTime) -> None:
        super().__init__()
        self.setName(name)
        self._grace = grace
        self._clock = clock
        self._connections: dict[str, IConnection] = {}
        self._needs: dict[str, tuple[str, ...]] = {}

    @classmethod
    def from_config(cls, config: NodeConfig, reactor: Any) -> Node:
        """
        Build the tree that a configuration describes; nothing is opened and nothing is started.

        Parameters
        ----------
        config
            The configuration.
        reactor
            The reactor that the connections will live on.

        Raises
        ------
        ConfigError
            When connections cannot be built, or the configuration has problems; it holds all of them.
        """
        node = cls(config.name, config.grace, reactor)
        problems: list[Problem] = list(config.problems)
        reasons: list[Exception] = []
        for name, section in config.connections.items():
            try:
                node.add(name, section.build(name, node, config.folder, reactor), section.needs)
            except Exception as error:  # what is built may be a user's own code
                problems.append(config.problem(name, error))
                reasons.append(error)
        if problems:
            # The first reason's traceback is for whoever wrote that connection; nobody else prints it.
            ordered = tuple(sorted(problems, key=lambda found: found.line))
            raise ConfigError(config.file, ordered) from next(iter(reasons), None)
        return node

    def add(self, name: str, connection: IConnection, needs: Iterable[str] = ()) -> None:
        """
        Make a connection a part of the node; if the node is running already, the connection starts at once.

        Parameters
        ----------
        name
            What the connection is called here.
        connection
            The connection.
        needs
            The names of those that it uses.
        """
        if connection.name != name:
            connection.setName(name)
        connection.setServiceParent(self)
        self._connections[name] = connection
        self._needs[name] = tuple(needs)

    @property
    def connections(self) -> Mapping[str, IConnection]:
        """The connections by name, in the order of the configuration."""
        return MappingProxyType(self._connections)

    def connection(self, name: str) -> IConnection:
        try:
            return self._connections[name]
        except KeyError:
            known = ", ".join(map(repr, self._connections)) or "none"
            raise KeyError(f"there is no connection {name!r}; there are: {known}") from None

    def removeService(self, service: IService) -> Deferred[None] | None:
        if self._connections.get(service.name) is service:
            del self._connections[service.name], self._needs[service.name]
        stopped: Deferred[None] | None = super().removeService(service)
        return stopped

    # What Twisted calls.

    def privilegedStartService(self) -> None:
        for service in self._needed_first():
            self._start(service, service.privilegedStartService)

    def startService(self) -> None:
        self.running = 1
        # twistd starts services before the reactor runs and takes signals. A Ctrl-C at that time would be an exception
        # in whichever Deferred is being run, and be lost there.
        if IReactorCore.providedBy(self._clock):
            self._clock.callWhenRunning(self._start_all)
        else:
            self._start_all()

    def _start_all(self) -> None:
        for service in self._needed_first() if self.running else ():
            self._start(service, service.startService)

    def stopService(self) -> Deferred[None]:
        """
        Close everything.

        Returns
        -------
        Deferred[None]
            Fires when all are closed or the grace is over; what is not closed by then is logged. It does not fail.
        """
        self.running = 0
        deadline = self._clock.seconds() + self._grace
        services = self._needed_first()
        # How many have to close one after the other, beginning with this one: they share the time that is left.
        steps: dict[IService, int] = {}
        for service in services:
            steps[service] = 1 + max((steps.get(needed, 0) for needed in self._needed_by(service)), default=0)
        users: dict[IService, list[Deferred[None]]] = {service: [] for service in services}
        ends: list[Deferred[None]] = []
        for service in reversed(services):
            end = DeferredList(users[service]).addCallback(self._stop, service, deadline, steps[service])
            for needed in self._needed_by(service):
                users[needed].append(end)
            ends.append(end)
        return DeferredList(ends).addCallback(lambda _: None)

    def _needed_first(self) -> list[IService]:
        ordered: dict[IService, None] = {}
        begun: set[IService] = set()

        def place(service: IService) -> None:
            if service not in begun:
                begun.add(service)
                for needed in self._needed_by(service):
                    place(needed)
                ordered[service] = None

        for service in self.services:
            place(service)
        return list(ordered)

    def _needed_by(self, service: IService) -> list[IService]:
        names = self._needs.get(service.name, ()) if service.name else ()
        return [self._connections[name] for name in names if name in self._connections]

    def _start(self, service: IService, start: Callable[[], object]) -> None:
        try:
            start()
        except Exception:
            self._log.failure("{name}: cannot be started", name=service.name)

    def _stop(self, _: object, service: IService, deadline: float, steps: int) -> Deferred[None]:
        ended: Deferred[None] = Deferred()
        seconds = max(0.0, deadline - self._clock.seconds()) / steps

        def give_up() -> None:
            self._log.warn("{name}: not closed after {seconds:.1f} s", name=service.name, seconds=seconds)
            ended.callback(None)

        def closed(result: object) -> None:
            if isinstance(result, Failure):
                self._log.failure("{name}: failed to close", failure=result, name=service.name)
            if patience.active():
                patience.cancel()
                ended.callback(None)

        patience = self._clock.callLater(seconds, give_up)
        maybeDeferred(service.stopService).addBoth(closed)
        return ended
