"""What the parts of equipnet promise each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.application.service import IService
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from equipnet.connection.config import ConnectionSection
    from equipnet.connection.state import Change, Moment, State


@dataclass(frozen=True)
class Traffic:
    """
    One message as a tap sees it.

    Parameters
    ----------
    name
        The connection's name.
    at
        Seconds since 1970-01-01 UTC.
    direction
        ``"in"`` or ``"out"``, seen from us.
    raw
        The message's bytes, as they were on the wire.
    value
        The same as the wire format's value; None where it has none.
    """

    name: str
    at: float
    direction: str
    raw: bytes
    value: object = None


class IConnection(IService):
    """
    Our named, supervised conversation with one piece of equipment, whatever it speaks; it outlives its sockets.

    As an ``IService``: ``startService`` begins to connect and goes on as the retry policy says; the Deferred of
    ``stopService`` fires when the last socket is closed and nothing is scheduled any more.
    """

    name: str = Attribute("""What the configuration, the log and other connections call it.""")
    kind: str = Attribute("""The sort of connection: ``"instrument"``, ``"hsms"``, ...""")
    state: State = Attribute("""The present `State`.""")
    since: Moment = Attribute("""When ``state`` was entered.""")
    peer: str = Attribute("""Who is, or would be, on the other end, as an address.""")
    last_error: BaseException | None = Attribute("""What went wrong last, None when nothing has.""")

    def when_ready() -> Deferred[Any]:
        """
        Wait until the connection is usable.

        Returns
        -------
        Deferred[IConnection]
            Fires with this connection, at once if it is READY. Fails with `ConnectFailed` or `ConnectionLost` when it
            is given up, with `Disconnected` when our side ends it first.
        """

    def connect(max_attempts: int | None = 1) -> Deferred[Any]:
        """
        Connect; from the first success on, come back after every loss as the retry policy says.

        Parameters
        ----------
        max_attempts
            How many tries before giving up; None or less than 1 leaves that to the retry policy.

        Returns
        -------
        Deferred[IConnection]
            Ends as that of `when_ready`, and fails after ``max_attempts`` failed tries with the error of the last one.
        """

    def disconnect() -> Deferred[None]:
        """
        Close the connection and leave it closed until somebody connects it again.

        Returns
        -------
        Deferred[None]
            Fires when the socket is closed and nothing is scheduled any more; it does not fail.
        """

    def reconnect(max_attempts: int | None = 1) -> Deferred[Any]:
        """
        Close the present socket, if there is one, and connect again at once.

        Everything that waits for the old socket fails with `Disconnected`. The parameter and the result are those of
        `connect`.
        """

    def add_observer(observer: Callable[[Change], object]) -> None:
        """Call ``observer`` once for each change of ``state``; what it raises is logged and changes nothing."""

    def remove_observer(observer: Callable[[Change], object]) -> None:
        """Forget an observer; one that is not there is no error."""

    def add_tap(tap: Callable[[Traffic], object]) -> None:
        """Call ``tap`` with every message in and out; what it raises is logged and changes nothing."""

    def remove_tap(tap: Callable[[Traffic], object]) -> None:
        """Forget a tap; one that is not there is no error."""


class INode(Interface):
    """One running daemon: the connections that one configuration file describes."""

    name: str = Attribute("""What ``[node] name`` says.""")

    def connection(name: str) -> Any:
        """
        Give the connection of that name, an `IConnection`; what it can do beside that, its kind says.

        Raises
        ------
        KeyError
            When there is none; the text lists the names there are.
        """


class IConnectionKind(Interface):
    """
    A sort of connection that a configuration file can ask for with ``kind = "..."``; found as a Twisted plugin.

    A package brings its own kind with a module in ``equipnet/plugins/`` (no ``__init__.py`` beside it) that holds an
    instance of `equipnet.connection.config.Kind`.
    """

    name: str = Attribute("""What ``kind = "..."`` says.""")
    summary: str = Attribute("""One line for ``equipnet kinds``.""")

    def section() -> type[ConnectionSection]:
        """Give the pydantic model of a ``[connections.NAME]`` table of this kind."""
