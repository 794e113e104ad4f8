"""Tests of what replies do to the commands that are followed."""

from __future__ import annotations

from itertools import product
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from equipnet.communicator import message as m
from equipnet.communicator.session import (
    ERRORS_KEPT,
    MOVES,
    CommandFailed,
    CommandRejected,
    Commands,
    CommandSuperseded,
    Followed,
    Stage,
    concerns,
    sequence_id_after,
)
from equipnet.errors import LocalProtocolError

REPLIES: list[m.CommandReply] = [
    m.Ack(timeout_ms=100, sequence_id=7),
    m.NoAck("no", sequence_id=7),
    m.Done(sequence_id=7),
    m.Failed("a fuse", sequence_id=7),
    m.Superseded(8, 1, 402, sequence_id=7),
]


def error(code: int, active: bool = True) -> m.Error:
    return m.Error(True, active, code, f"{code // 100 * 100}. Part", extra=("why",))


class SessionTests(SynchronousTestCase):
    def follow(self, command: m.Command | None = None) -> tuple[Commands[Followed], Followed]:
        commands: Commands[Followed] = Commands()
        followed = Followed(command or m.ElevationAxisMove(45, sequence_id=7))
        commands.follow(followed)
        return commands, followed

    def test_table(self) -> None:
        """
        Each reply in each stage does what the table lists, or nothing.
        """
        for stage, reply in product(Stage, REPLIES):
            _, followed = self.follow()
            followed.stage = stage
            followed.take(reply)
            self.assertIs(followed.stage, MOVES[stage].get(type(reply), stage))
            self.assertEqual(followed.answer is not None, stage is not Stage.OVER and not isinstance(reply, m.Ack))

    def test_answers(self) -> None:
        """
        What ends a command is its answer, or the error that says why it failed.
        """
        for reply, answer, text in (
            (REPLIES[1], CommandRejected, "ElevationAxisMove was rejected: no"),
            (REPLIES[3], CommandFailed, "ElevationAxisMove failed: a fuse"),
            (REPLIES[4], CommandSuperseded, "superseded by command 402 of 1, sequence id 8"),
        ):
            commands, followed = self.follow()
            self.assertIs(commands.take(reply), followed)
            ended: Any = followed.answer
            self.assertIsInstance(ended, answer)
            self.assertIn(text, str(ended))
            self.assertIs(ended.reply, reply)
            self.assertEqual(len(commands), 0)
        commands, followed = self.follow()
        commands.take(REPLIES[2])
        self.assertIs(followed.answer, REPLIES[2])

    def test_ack(self) -> None:
        """
        An Ack says how long it may take; a tracking command is over with it.
        """
        commands, followed = self.follow()
        self.assertIs(commands.take(REPLIES[0]), followed)
        self.assertEqual((followed.stage, followed.acknowledged, len(commands)), (Stage.BEGUN, 100, 1))
        commands, followed = self.follow(m.ElevationAxisTrack(1, 2, 3, sequence_id=7))
        commands.take(REPLIES[0])
        self.assertEqual((followed.answer, len(commands)), (REPLIES[0], 0))

    def test_nobodys_reply(self) -> None:
        """
        A reply about a command that is not followed any more, or never was, changes nothing.
        """
        commands, followed = self.follow()
        self.assertIsNone(commands.take(m.Done(sequence_id=8)))
        commands.forget(followed)
        commands.forget(followed)
        for reply in REPLIES:
            self.assertIsNone(commands.take(reply))
        self.assertIs(followed.stage, Stage.SENT)

    def test_same_sequence_id(self) -> None:
        """
        Two commands with one sequence id cannot be told apart, so the second is refused.
        """
        commands, _ = self.follow()
        self.assertRaises(LocalProtocolError, commands.follow, Followed(m.Enable(sequence_id=7)))

    def test_last_error(self) -> None:
        """
        A Done after an error of the command's part means that it failed; the last one that is still active counts.
        """
        for errors, last in (
            ([error(401)], 401),
            ([error(401), error(402)], 402),
            ([error(402), error(401), error(402)], 402),
            ([error(401), error(402), error(402, active=False)], 401),
            ([error(401), error(401, active=False)], None),
            ([error(901)], None),
        ):
            commands, followed = self.follow()
            commands.take(REPLIES[0])
            for each in errors:
                self.assertIsNone(commands.take(each))
            commands.take(REPLIES[2])
            answer: Any = followed.answer
            self.assertEqual(getattr(getattr(answer, "reply", None), "code", None), last)
        self.assertEqual(
            str(CommandFailed(m.ElevationAxisMove(45), error(401))),
            "ElevationAxisMove failed: error 401, 400. Part, why",
        )

    def test_errors_are_bounded(self) -> None:
        """
        Whoever sends errors without end fills no memory.
        """
        commands, followed = self.follow(m.Enable(sequence_id=7))
        for code in range(1000):
            commands.take(error(code))
        self.assertEqual(len(followed.errors), ERRORS_KEPT)

    def test_concerns(self) -> None:
        """
        An error is about a command of the same part; commands of both axes have several, Enable has all.
        """
        for command, codes in (
            (m.AzimuthAxisMove(1), [100]),
            (m.AzimuthAxisDriveReset(), [200]),
            (m.BothAxesMove(1, 2), [100, 200, 300, 400, 500]),
            (m.Enable(), list(range(100, 2300, 100))),
            (m.CameraCableWrapStop(), [1000]),
        ):
            self.assertEqual([code for code in range(100, 2300, 100) if concerns(error(code + 1), command)], codes)

    def test_sequence_ids(self) -> None:
        """
        The id after the last one is 1.
        """
        self.assertEqual([sequence_id_after(each) for each in (0, 1, 2**31 - 2, 2**31 - 1)], [1, 2, 2**31 - 1, 1])
