"""A configuration becomes a tree of services, whose connections start and end in the order of their needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IReactorCore, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from equipnet.daemon.config import NodeConfig
from equipnet.errors import ConfigError, Problem
from equipnet.interfaces import IConnection, INode

_T = TypeVar("_T")


@dataclass(frozen=True)
class Reloaded:
    """
    What became of the connections of a node when its configuration was read again: their names.

    Parameters
    ----------
    started
        Those that are new.
    stopped
        Those that are gone.
    restarted
        Those whose table, or a file that it names, has changed.
    kept
        Those that were not touched.
    """

    started: tuple[str, ...]
    stopped: tuple[str, ...]
    restarted: tuple[str, ...]
    kept: tuple[str, ...]

    def __str__(self) -> str:
        changes = (("started", self.started), ("stopped", self.stopped), ("restarted", self.restarted))
        done = [f"{what} {', '.join(names)}" for what, names in changes if names]
        return "; ".join([*(done or ["no connection has changed"]), f"kept {len(self.kept)}"])


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
        self._config = NodeConfig("", name, {}, grace)
        self._closing: dict[IService, list[Deferred[None]]] = {}

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
        for name, connection in node._built(config, config.connections).items():
            node.add(name, connection, config.connections[name].needs)
        node._config = config
        return node

    def reload(self, config: NodeConfig) -> Deferred[Reloaded]:
        """
        Become what another configuration describes; connections of which it says the same are not touched.

        Everything that is new is built before anything is closed. Then what is gone or has changed is closed, as at the
        end of the node, and after that, or when the grace is over, what is new is started. Connections that no
        configuration described stay. Only one of this can be under way.

        Parameters
        ----------
        config
            The configuration.

        Returns
        -------
        Deferred[Reloaded]
            Fires when that is done; a node that is stopped meanwhile starts nothing more. It does not fail.

        Raises
        ------
        ConfigError
            When connections cannot be built, or the configuration has problems; it holds all of them, and nothing has
            changed.
        """
        old, there = self._config, dict(self._connections)
        kept = dict.fromkeys(name for name in config.connections if name in there and old.agrees(config, name))
        arriving = self._built(config, [name for name in config.connections if name not in kept])
        leaving = [name for name in there if name in arriving or (name in old.connections and name not in kept)]
        self._config, self._grace = config, config.grace
        self._rename(config.name)

        async def exchange() -> Reloaded:
            await self._close([there[name] for name in leaving])
            for name in leaving:
                self._forget(there[name])
            for name in _needed_first(config.connections, lambda name: config.connections[name].needs):
                if name in arriving:
                    self.add(name, arriving[name], config.connections[name].needs)
            for name in config.connections:
                if name in self._connections:  # it may have been removed by hand meanwhile
                    self._connections[name] = self._connections.pop(name)
            return Reloaded(
                started=tuple(name for name in arriving if name not in there),
                stopped=tuple(name for name in leaving if name not in arriving),
                restarted=tuple(name for name in arriving if name in there),
                kept=tuple(kept),
            )

        return Deferred.fromCoroutine(exchange())

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

    def addService(self, service: IService) -> None:
        running, self.running = self.running, 0
        try:
            super().addService(service)
        finally:
            self.running = running
        if running:
            self._start(service, service.privilegedStartService)
            self._start(service, service.startService)

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
        return self._close(self.services)

    def _built(self, config: NodeConfig, names: Iterable[str]) -> dict[str, IConnection]:
        """Build connections; raise a ConfigError with everything that is wrong."""
        built: dict[str, IConnection] = {}
        problems: list[Problem] = list(config.problems)
        reasons: list[Exception] = []
        for name in names:
            try:
                connection = config.connections[name].build(name, self, config.folder, self._clock)
                IService(connection)  # refuses what a kind gives by mistake
                if connection.name != name:
                    connection.setName(name)
                built[name] = connection
            except Exception as error:  # what is built may be a user's own code
                problems.append(config.problem(name, error))
                reasons.append(error)
        if problems:
            # The first reason's traceback is for whoever wrote that connection; nobody else prints it.
            ordered = tuple(sorted(problems, key=lambda found: found.line))
            raise ConfigError(config.file, ordered) from next(iter(reasons), None)
        return built

    def _rename(self, name: str) -> None:
        # A service with a parent cannot be renamed otherwise; the parent knows it by its name.
        if self.parent is not None:
            del self.parent.namedServices[self.name]
            self.parent.namedServices[name] = self
        self.name = name

    def _forget(self, connection: IConnection) -> None:
        """Remove a connection that has been stopped; disownServiceParent would stop it once more."""
        if self._connections.get(connection.name) is connection:
            del self._connections[connection.name], self._needs[connection.name]
            del self.namedServices[connection.name]
            self.services.remove(connection)
            connection.parent = None

    def _needed_first(self) -> list[IService]:
        return _needed_first(self.services, self._needed_by)

    def _needed_by(self, service: IService) -> list[IService]:
        names = self._needs.get(service.name, ()) if service.name else ()
        return [self._connections[name] for name in names if name in self._connections]

    def _start(self, service: IService, start: Callable[[], object]) -> None:
        try:
            start()
        except Exception:
            self._log.failure("{name}: cannot be started", name=service.name)

    def _close(self, closing: Iterable[IService]) -> Deferred[None]:
        """Close services, users before what they need; fires when they are closed or the grace is over."""
        closing = set(closing)
        deadline = self._clock.seconds() + self._grace
        services = self._needed_first()
        # How many have to close one after the other, beginning with this one: they share the time that is left.
        steps: dict[IService, int] = {}
        for service in services:
            after = max((steps.get(needed, 0) for needed in self._needed_by(service)), default=0)
            steps[service] = after + (service in closing)
        users: dict[IService, list[Deferred[Any]]] = {service: [] for service in services}
        ends: list[Deferred[Any]] = []
        for service in reversed(services):
            end: Deferred[Any] = DeferredList(users[service])
            if service in closing:
                end.addCallback(self._stop, service, deadline, steps[service])
            for needed in self._needed_by(service):
                users[needed].append(end)
            ends.append(end)
        return DeferredList(ends).addCallback(lambda _: None)

    def _stop(self, _: object, service: IService, deadline: float, steps: int) -> Deferred[None]:
        """Close one service; fires when it is closed or has used up its part of the time."""
        ended: Deferred[None] = Deferred()
        seconds = max(0.0, deadline - self._clock.seconds()) / steps

        def give_up() -> None:
            self._log.warn("{name}: not closed after {seconds:.1f} s", name=service.name, seconds=seconds)
            ended.callback(None)

        def closed(_: None) -> None:
            if patience.active():
                patience.cancel()
                ended.callback(None)

        patience = self._clock.callLater(seconds, give_up)
        self._closed(service).addCallback(closed)
        return ended

    def _closed(self, service: IService) -> Deferred[None]:
        """Ask a service to close, unless it has been asked already; fires when it is closed."""
        closed: Deferred[None] = Deferred()
        if service in self._closing:
            self._closing[service].append(closed)
            return closed
        self._closing[service] = [closed]

        def tell(result: object) -> None:
            if isinstance(result, Failure):
                self._log.failure("{name}: failed to close", failure=result, name=service.name)
            for each in self._closing.pop(service):
                each.callback(None)

        maybeDeferred(service.stopService).addBoth(tell)
        return closed


def _needed_first(things: Iterable[_T], needed_by: Callable[[_T], Iterable[_T]]) -> list[_T]:
    """Order things so that each comes after those it needs, and otherwise as they are."""
    ordered: dict[_T, None] = {}
    begun: set[_T] = set()

    def place(thing: _T) -> None:
        if thing not in begun:
            begun.add(thing)
            for needed in needed_by(thing):
                place(needed)
            ordered[thing] = None

    for thing in things:
        place(thing)
    return list(ordered)
