"""
Every exception that equipnet raises, in one tree.

The root is `EquipmentError`. What goes wrong between us and a piece of equipment is also a `ConnectionError`, and a
wait that took too long is a `TimeoutError` as well, so that code written for plain sockets catches it without a change.
Twisted's and the operating system's own exception, where there was one, is the ``__cause__``, and its number is
``errno``.
"""

from __future__ import annotations

from dataclasses import dataclass


class EquipmentError(Exception):
    """The root of all errors of equipnet."""


class AddressError(EquipmentError, ValueError):
    """A text is not the address of a piece of equipment."""


class LocalProtocolError(EquipmentError):
    """What our side asked for cannot be said in this wire format, or not now; nothing was sent."""


class QueueFull(EquipmentError):
    """More operations wait for a piece of equipment than its limit allows; this one was not accepted."""


class EquipmentConnectionError(EquipmentError, ConnectionError):
    """
    The conversation with a piece of equipment failed.

    The first argument says how; raise it ``from`` the error of Twisted or the operating system that was the reason, and
    ``errno`` is that error's number (None where the system gave none).
    """

    @property
    def errno(self) -> int | None:  # type: ignore[override]  # OSError has it as a writable attribute
        """The operating system's number for what happened, or None."""
        cause = self.__cause__
        while cause is not None:
            number = getattr(cause, "errno", None) or getattr(cause, "osError", None)
            if isinstance(number, int):
                return number
            cause = cause.__cause__
        return None


class ConnectFailed(EquipmentConnectionError):
    """A connection could not be made."""


class ConnectionLost(EquipmentConnectionError):
    """A connection that had been made went away while something waited for it."""


class NotConnected(EquipmentConnectionError):
    """There is no connection now; nothing was sent."""


class Disconnected(NotConnected):
    """The connection was ended from our side."""


class AuthenticationFailed(EquipmentConnectionError):
    """The other side does not take us for who we say we are, or wants to be told in a way that we do not know."""


class EquipmentTimeout(EquipmentConnectionError, TimeoutError):
    """
    Something did not happen in time.

    Parameters
    ----------
    seconds
        How long was waited.
    waiting_for
        What would have ended the wait, in words: ``"the terminator b'\\n'"``.
    received
        What had been received of it by then.
    """

    def __init__(self, seconds: float, waiting_for: str, received: bytes = b"") -> None:
        got = f"{len(received)} bytes, ending with {received[-40:]!r}" if received else "nothing"
        super().__init__(f"Timeout occurred after {seconds:g} second(s), waiting for {waiting_for}; received {got}")
        self.seconds = seconds
        self.waiting_for = waiting_for
        self.received = received


class RemoteProtocolError(EquipmentConnectionError):
    """The other side sent what its wire format does not allow. ``data`` holds the bytes in question."""

    def __init__(self, message: str, data: bytes = b"") -> None:
        super().__init__(message)
        self.data = data


class MessageTooLong(RemoteProtocolError):
    """The other side sent, or announced, a message over the limit; the message was dropped, the stream goes on."""


@dataclass(frozen=True)
class Problem:
    """
    One thing that is wrong with a configuration file.

    Parameters
    ----------
    line
        Where, counted from 1.
    path
        The key, dotted: ``"connections.dmm.timeout"``; empty where it concerns the file as a whole.
    message
        What is wrong, and what would be right.
    """

    line: int
    path: str
    message: str


class ConfigError(EquipmentError):
    """
    A configuration file cannot be used; ``problems`` holds everything that is wrong with it.

    Printed, it is one line per problem: ``file:line: path: message``.
    """

    def __init__(self, file: str, problems: tuple[Problem, ...]) -> None:
        super().__init__(file, problems)
        self.file = file
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(
            f"{self.file}:{problem.line}: " + (f"{problem.path}: " if problem.path else "") + problem.message
            for problem in self.problems
        )
