"""
What becomes of a command after it was sent: which reply moves it where.

A command is followed by its sequence id. `Ack` says that it has begun and how long it may take, `NoAck` that it was
rejected, `Done` that it is over. Until v0.13 a `Done` comes for a command that failed as well; that it failed is told
by an `Error` of the part that the command is about, active and not taken back before the `Done`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Generic, TypeVar

from equipnet.communicator.message import (
    LAST_SEQUENCE_ID,
    Ack,
    Command,
    CommandReply,
    Done,
    Error,
    Failed,
    NoAck,
    Reply,
    Subsystem,
    Superseded,
    subsystem_of,
)
from equipnet.errors import EquipmentError, LocalProtocolError

#: How many active errors are kept for one command, since nobody says how many codes there are.
ERRORS_KEPT = 100


class CommandRejected(EquipmentError):
    """The other side rejected a command before it began; the text is its explanation, ``reply`` its `NoAck`."""

    def __init__(self, command: Command, reply: NoAck) -> None:
        super().__init__(f"{type(command).__name__} was rejected: {reply.explanation}")
        self.command = command
        self.reply = reply


class CommandFailed(EquipmentError):
    """A command that had begun has failed; ``reply`` is the last `Error` about it, or the `Failed` that says so."""

    def __init__(self, command: Command, reply: Error | Failed) -> None:
        if isinstance(reply, Failed):
            why = reply.explanation
        else:
            words = (f"error {reply.code}", reply.subsystem, reply.description, *reply.extra)
            why = ", ".join(word for word in words if word)
        super().__init__(f"{type(command).__name__} failed: {why}")
        self.command = command
        self.reply = reply


class CommandSuperseded(EquipmentError):
    """Another command took the place of one that had begun; ``reply`` says which."""

    def __init__(self, command: Command, reply: Superseded) -> None:
        super().__init__(
            f"{type(command).__name__} was superseded by command {reply.by_code} of {reply.by_commander}, "
            f"sequence id {reply.by_sequence_id}"
        )
        self.command = command
        self.reply = reply


class Stage(Enum):
    """How far a command has come."""

    #: It was sent, and nothing has come back.
    SENT = "sent"
    #: It has begun.
    BEGUN = "begun"
    #: It is over, well or not.
    OVER = "over"


#: What each reply to a command does; what is not listed changes nothing. An Ack may be missing, and a command that has
#: begun may still be rejected.
MOVES: Mapping[Stage, Mapping[type[CommandReply], Stage]] = {
    Stage.SENT: {
        Ack: Stage.BEGUN,
        NoAck: Stage.OVER,
        Done: Stage.OVER,
        Failed: Stage.OVER,
        Superseded: Stage.OVER,
    },
    Stage.BEGUN: {
        Ack: Stage.BEGUN,
        NoAck: Stage.OVER,
        Done: Stage.OVER,
        Failed: Stage.OVER,
        Superseded: Stage.OVER,
    },
    Stage.OVER: {},
}


class Followed:
    """
    One command on its way.

    Parameters
    ----------
    command
        The command, with its sequence id.

    Attributes
    ----------
    stage
        How far it has come.
    answer
        The reply that ended it, or the error that says how it failed; None as long as it is not over.
    acknowledged
        The timeout of its last Ack, in milliseconds; None as long as none has come.
    errors
        The active errors, by their code, that have come about its part since it was sent; the last one last.
    """

    __slots__ = ("acknowledged", "answer", "command", "errors", "stage")

    def __init__(self, command: Command) -> None:
        self.command = command
        self.stage = Stage.SENT
        self.answer: CommandReply | EquipmentError | None = None
        self.acknowledged: int | None = None
        self.errors: dict[int, Error] = {}

    def take(self, reply: CommandReply) -> None:
        """Move as the table says."""
        stage = MOVES[self.stage].get(type(reply))
        if stage is None:
            return
        if isinstance(reply, Ack):
            self.acknowledged = reply.timeout_ms
        if stage is Stage.BEGUN and self.command.ack_only:
            stage = Stage.OVER
        self.stage = stage
        if stage is Stage.OVER:
            self.answer = self._answer(reply)

    def note(self, error: Error) -> None:
        """Take note of an error, or that it is over, if it can be about this command."""
        if concerns(error, self.command):
            self.errors.pop(error.code, None)
            if error.active:
                self.errors[error.code] = error
                if len(self.errors) > ERRORS_KEPT:
                    del self.errors[next(iter(self.errors))]

    def _answer(self, reply: CommandReply) -> CommandReply | EquipmentError:
        if isinstance(reply, NoAck):
            return CommandRejected(self.command, reply)
        if isinstance(reply, Failed):
            return CommandFailed(self.command, reply)
        if isinstance(reply, Superseded):
            return CommandSuperseded(self.command, reply)
        if self.errors:
            return CommandFailed(self.command, next(reversed(self.errors.values())))
        return reply


F = TypeVar("F", bound=Followed)


class Commands(Generic[F]):
    """The commands that are followed, by their sequence ids."""

    def __init__(self) -> None:
        self._followed: dict[int | None, F] = {}

    def __len__(self) -> int:
        return len(self._followed)

    def __iter__(self) -> Iterator[F]:
        return iter(tuple(self._followed.values()))

    def __contains__(self, sequence_id: object) -> bool:
        return sequence_id in self._followed

    def follow(self, followed: F) -> None:
        """
        Follow a command that is being sent.

        Raises
        ------
        LocalProtocolError
            When one with the same sequence id is being followed.
        """
        number = followed.command.sequence_id
        if number in self._followed:
            raise LocalProtocolError(f"Sequence id {number} is that of a command that is not over yet")
        self._followed[number] = followed

    def forget(self, followed: F) -> None:
        """Follow it no longer; replies to it that still come are nobody's."""
        if self._followed.get(followed.command.sequence_id) is followed:
            del self._followed[followed.command.sequence_id]

    def take(self, reply: Reply) -> F | None:
        """Give the command that a reply is about, moved by it; None when it is about none of them."""
        if isinstance(reply, CommandReply):
            followed = self._followed.get(reply.sequence_id)
            if followed is not None:
                followed.take(reply)
                if followed.stage is Stage.OVER:
                    del self._followed[reply.sequence_id]
            return followed
        if isinstance(reply, Error):
            for followed in self._followed.values():
                followed.note(reply)
        return None


def concerns(error: Error, command: Command) -> bool:
    """
    Say whether an error can be about a command: both are of the same part of the mount.

    The part of a command is the hundreds of its code. Those of both axes (30 to 32) are about azimuth, elevation and
    their drives; those below 30 concern all parts.
    """
    part = subsystem_of(error)
    if command.code < 30:
        return True
    if command.code < 100:
        return part in _BOTH_AXES
    return part == command.code // 100 * 100


_BOTH_AXES = frozenset(
    (
        Subsystem.AZIMUTH_AXIS,
        Subsystem.AZIMUTH_DRIVES,
        Subsystem.AZIMUTH_CABLE_WRAP,
        Subsystem.ELEVATION_AXIS,
        Subsystem.ELEVATION_DRIVES,
    )
)


def sequence_id_after(sequence_id: int) -> int:
    """Give the sequence id that comes after one; 1 after the last."""
    return sequence_id + 1 if sequence_id < LAST_SEQUENCE_ID else 1
