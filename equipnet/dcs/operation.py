"""Operations as the author of a hardware server writes them: the decorators, a run of one, and its failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure

from equipnet.dcs.message import NAME_LIMIT, HtosOperationCompleted, HtosOperationUpdate, Message, check_text
from equipnet.dcs.tcl import clean, join, one_word, quote
from equipnet.errors import EquipmentError

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from equipnet.dcs.protocol import DhsProtocol
    from equipnet.dcs.service import DhsConnection

_F = TypeVar("_F", bound=Callable[..., Any])

#: The status of what ended because somebody asked for it; with any other but ``normal`` dcss stops the whole beamline.
ABORTED = "aborted"

#: The status of what failed where nothing better can be said.
FAILED = "failed"

#: The longest text of an exception that dcss is told.
_TEXT_LIMIT = 500


class OperationFailed(EquipmentError):
    """
    An operation, a move or another request could not be done: raise it to say why.

    Parameters
    ----------
    reason
        The status of the completion: one word, blanks become underscores.
    values
        More words, where the completion has room for them: that of an operation has.
    """

    def __init__(self, reason: str, *values: object) -> None:
        super().__init__(reason, *values)
        self.reason = reason
        self.values = values


class Aborted(EquipmentError):
    """Raised in a thread that reports something after it should have ended."""


def operation(name: str, *, thread: bool = False) -> Callable[[_F], _F]:
    """
    Make a method of a `HardwareServer` the operation of that name.

    It is called with a `Run` and the operation's arguments, as texts. What it returns (a tuple for several words, a
    number, a text as one word, None for nothing) is sent with the completion; an exception becomes the reason for a
    failure.

    Parameters
    ----------
    name
        As in dcss's database.
    thread
        Whether it blocks, and is to be run in a thread; else it is an ``async def``, or returns soon.
    """

    if not isinstance(name, str):
        raise TypeError('an operation has the name that dcss knows it by: @operation("getLoopTip")')

    def mark(function: _F) -> _F:
        function.__dict__["dcs_operation"] = (name, thread)
        return function

    return mark


def on(command: str) -> Callable[[_F], _F]:
    """
    Call a method of a `HardwareServer` with each message of that name, after the framework has done its part.

    Parameters
    ----------
    command
        The first word: ``"stoh_register_string"``. A method can have more than one, and a message more than one method.
    """

    def mark(function: _F) -> _F:
        commands: tuple[str, ...] = function.__dict__.get("dcs_handles", ())
        function.__dict__["dcs_handles"] = (*commands, command)
        return function

    return mark


class Task:
    """
    A piece of an author's code that runs, and for which dcss is owed one completion.

    Attributes
    ----------
    key
        Under which it is in the book of what is owed.
    protocol
        The connection on which it was asked for; on no other it is completed.
    abort_mode
        ``"soft"`` or ``"hard"`` once it should end, before that empty.
    """

    __slots__ = (
        "abort_mode",
        "connection",
        "coroutine",
        "deferred",
        "in_thread",
        "key",
        "owed",
        "patience",
        "protocol",
    )

    #: Whether ``stoh_abort_all`` ends it.
    abortable = True

    def __init__(self, connection: DhsConnection, protocol: DhsProtocol, key: object) -> None:
        self.connection = connection
        self.protocol = protocol
        self.key = key
        self.abort_mode = ""
        self.owed = True
        self.in_thread = False
        self.deferred: Deferred[Any] | None = None
        self.coroutine: Any = None
        self.patience: IDelayedCall | None = None

    def completion(self, result: Any) -> Message:
        """Give the message that says how it ended: what the author's code returned, or a Failure."""
        raise NotImplementedError

    def refused(self) -> Message:
        """Give the message for an end that `completion` cannot say."""
        raise NotImplementedError

    def abort(self, hard: bool) -> Any:
        """Let the author's code prepare for its end."""

    def ended(self, result: Any) -> None:
        """Take note that the author's code has really ended, which may be after its completion."""

    def over(self) -> None:
        """Take note that the author's code has ended and the completion is sent."""


class Run(Task):
    """
    One run of an operation.

    Attributes
    ----------
    name
        The operation's.
    handle
        Which run it is, for dcss: a token, not a number.
    arguments
        What it was started with.
    """

    __slots__ = ("_stopped", "arguments", "handle", "name")

    def __init__(
        self, connection: DhsConnection, protocol: DhsProtocol, name: str, handle: str, arguments: tuple[str, ...]
    ) -> None:
        super().__init__(connection, protocol, (name, handle))
        self.name = name
        self.handle = handle
        self.arguments = arguments
        self._stopped: Deferred[None] | None = None

    # What authors use

    @property
    def stopped(self) -> Deferred[None]:
        """Fires when dcss asks the operation to end (``stoh_stop_operation``)."""
        if self._stopped is None:
            self._stopped = Deferred()
        return self._stopped

    @property
    def is_stopped(self) -> bool:
        """Whether dcss has asked the operation to end; for code in threads."""
        return self._stopped is not None and bool(self._stopped.called)

    @property
    def is_aborted(self) -> bool:
        """Whether this run should end at once, or its completion has been sent already; for code in threads."""
        return bool(self.abort_mode) or not self.owed

    def update(self, *values: object) -> Deferred[None]:
        """
        Send news of this run; can be called from any thread.

        Parameters
        ----------
        values
            Words: texts, numbers, tuples of them.

        Returns
        -------
        Deferred[None]
            Fires when dcss takes more: await it in loops that send much. After the completion nothing is sent.

        Raises
        ------
        LocalProtocolError
            When dcss could not carry it.
        Aborted
            In a thread, when the run should end.
        """
        # As HtosOperationUpdate writes it; this is what servers send most of.
        text = f"{HtosOperationUpdate.command} {quote(self.name)} {quote(self.handle)} {join(values)}".rstrip()
        check_text(text)
        connection = self.connection
        if connection.is_elsewhere():
            if self.is_aborted:
                raise Aborted(f"{self.name} {self.handle} was aborted")
            connection.reactor.callFromThread(self._send, text)
            return succeed(None)
        return self._send(text)

    def __repr__(self) -> str:
        return f"<Run {self.name} {self.handle}>"

    # What the connection uses

    def stop(self) -> None:
        """Fire `stopped`."""
        if not self.stopped.called:
            self.stopped.callback(None)

    def completion(self, result: Any) -> Message:
        name, handle = self.name, self.handle
        if self.abort_mode:
            return HtosOperationCompleted(name, handle, ABORTED)
        if isinstance(result, Failure):
            return HtosOperationCompleted(name, handle, *reason_of(result))
        if result is None:
            result = ()
        elif not isinstance(result, (tuple, list)):
            result = (result,)
        return HtosOperationCompleted(name, handle, "normal", tuple(result))

    def refused(self) -> Message:
        return HtosOperationCompleted(self.name, self.handle, FAILED)

    def _send(self, text: str) -> Deferred[None]:
        protocol = self.protocol
        if not self.owed or protocol.ended_by is not None:
            return succeed(None)
        protocol.send_line(text)
        return protocol.when_taken()


def reason_of(failure: Failure) -> tuple[str, tuple[object, ...]]:
    """Give the status and the further words for an exception of an author's code."""
    error = failure.value
    if isinstance(error, OperationFailed):
        status = one_word(str(error.reason))[:NAME_LIMIT]
        return (status if status not in ("", "normal") else FAILED), error.values
    if isinstance(error, (Aborted, CancelledError)):
        return ABORTED, ()
    text = clean(str(error))[:_TEXT_LIMIT]
    return type(error).__name__[:NAME_LIMIT], ((text,) if text else ())
