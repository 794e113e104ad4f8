"""Tests of the simulated Operation Manager, in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from equipnet.communicator import (
    CommandFailed,
    CommandRejected,
    CommandSuperseded,
    Communicator,
    Fault,
    OperationManagerSimulator,
    Part,
    join_in_memory,
)
from equipnet.communicator import message as m
from equipnet.communicator.mount import Motion
from equipnet.errors import EquipmentTimeout
from examples.howto.telescope import test_telescope

from .test_message import COMMANDS

#: The example of the guide "Command a telescope mount".
TelescopeTests = test_telescope.TelescopeTests


class MotionTests(SynchronousTestCase):
    def test_move(self) -> None:
        """
        It moves in a line at its speed, or slower if told so, and stays where it was going.
        """
        motion = Motion(0, 90, 5)
        self.assertEqual(motion.move(45, 100), 9)
        self.assertEqual([motion.position(at) for at in (100, 101, 109, 200)], [0, 5, 45, 45])
        self.assertEqual(motion.move(40, 200, speed=-1), 5)
        self.assertEqual([motion.position(at) for at in (201, 205, 300)], [44, 40, 40])
        self.assertEqual(motion.move(0, 300, speed=50), 8)
        motion.stop(301)
        self.assertEqual(motion.position(400), 35)

    def test_track(self) -> None:
        """
        It follows a path, up to its limits.
        """
        motion = Motion(0, 90, 5)
        motion.track(89, 0.5, 10)
        self.assertEqual([motion.position(at) for at in (10, 11, 20)], [89, 89.5, 90])
        motion.track(1, -0.5, 20)
        self.assertEqual([motion.position(at) for at in (20, 21, 30)], [1, 0.5, 0])
        motion.track(50, 0, 30)
        self.assertEqual((motion.position(99), motion.is_possible(90), motion.is_possible(-0.1)), (50, True, False))


class SimulatorTestCase(SynchronousTestCase):
    dialect = "v0.9"

    def setUp(self) -> None:
        self.clock = Clock()
        self.csc = Communicator(
            "csc", "h", 1, "h", 0, connect=False, dialect=self.dialect, max_frame_size=1000, reactor=self.clock
        )
        self.mount = OperationManagerSimulator(dialect=self.dialect, reactor=self.clock)
        join_in_memory(self.csc, self.mount)
        self.seen: list[Any] = []
        self.csc.add_message_observer(self.seen.append)
        self.mount.startService()
        self.csc.startService()
        self.pump()
        self.assertTrue(self.csc.connected)
        self.addCleanup(self.close)

    def pump(self) -> None:
        self.clock.pump([0] * 8)

    def close(self) -> None:
        self.csc.stopService()
        self.mount.stopService()
        self.pump()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def begin(self, command: m.Command) -> Any:
        """Let the simulator get a command, and we what it replies at once."""
        ended = self.csc.execute(command)
        self.pump()
        return ended

    def run_command(self, command: m.Command) -> m.CommandReply:
        """Execute a command that takes no time."""
        reply: m.CommandReply = self.successResultOf(self.begin(command))
        return reply

    def switch_on(self) -> None:
        for command in (
            m.AzimuthAxisPower(True),
            m.ElevationAxisPower(True),
            m.CameraCableWrapPower(True),
            m.MirrorCoversPower(on=True),
            m.MirrorCoverLocksPower(on=True),
            m.AzimuthAxisEnableTracking(True),
            m.ElevationAxisEnableTracking(True),
            m.CameraCableWrapEnableTracking(True),
        ):
            self.run_command(command)


class MountTests(SimulatorTestCase):
    def test_every_command(self) -> None:
        """
        Each of the 52 commands is taken once everything is on, and ends.
        """
        self.switch_on()
        for _, listed, _ in COMMANDS:
            command: Any = listed
            ended = self.begin(replace(command, on=True) if hasattr(command, "on") else command)
            self.clock.pump([1] * 40)
            self.assertIsInstance(self.successResultOf(ended), (m.Ack, m.Done), command)
        self.assertEqual(self.mount.commander, m.Source.CSC)

    def test_move(self) -> None:
        """
        An axis takes its time, tells when it is there, and its Ack says how long it may take.
        """
        self.switch_on()
        ended = self.begin(m.ElevationAxisMove(45))
        self.clock.advance(8.9)
        self.pump()
        self.assertNoResult(ended)
        self.assertAlmostEqual(self.mount.position(Part.ELEVATION), 44.5)
        self.clock.advance(0.1)
        self.pump()
        self.assertIsInstance(self.successResultOf(ended), m.Done)
        self.assertEqual([(each.what, each.in_position) for each in self.seen], [(1, False), (1, True)])

    def test_both_axes(self) -> None:
        """
        Both axes move together until the slower one is there.
        """
        self.switch_on()
        ended = self.begin(m.BothAxesMove(10, 50))
        self.clock.advance(1)
        self.assertEqual([self.mount.position(each) for each in (Part.AZIMUTH, Part.ELEVATION)], [10, 5])
        self.clock.advance(9)
        self.pump()
        self.successResultOf(ended)

    def test_covers(self) -> None:
        """
        Mirror covers open and close, and can be stopped in between.
        """
        self.switch_on()
        opened = self.begin(m.MirrorCoversRetract())
        self.clock.advance(5)
        self.run_command(m.MirrorCoversStop())
        self.assertIn("Superseded by MirrorCoversStop", str(self.failureResultOf(opened, CommandFailed).value))
        self.assertEqual(self.mount.position(Part.MIRROR_COVERS), 75)
        self.assertEqual([(each.code, each.active) for each in self.seen], [(999, True), (999, False)])

    def test_rejected(self) -> None:
        """
        What is off does not move, nothing leaves its limits, and nothing tracks that may not.
        """
        for command, why in (
            (m.AzimuthAxisMove(1), "is off"),
            (m.MirrorCoversDeploy(), "is off"),
            (m.CameraCableWrapTrack(1, 0, 1.6e9), "is off"),
        ):
            self.assertIn(why, str(self.failureResultOf(self.begin(command), CommandRejected).value))
        self.switch_on()
        self.run_command(m.CameraCableWrapEnableTracking(False))
        possible: list[tuple[m.Command, str]] = [
            (m.ElevationAxisMove(91), "cannot be at 91.0"),
            (m.BothAxesMove(0, -1), "cannot be at -1.0"),
            (m.CameraCableWrapTrack(1, 0, 1.6e9), "may not track"),
        ]
        for wrong, why in possible:
            self.assertIn(why, str(self.failureResultOf(self.begin(wrong), CommandRejected).value))

    def test_reports(self) -> None:
        """
        Warnings and errors are sent on request; a reset takes back those of its part.
        """
        self.mount.report_warning(405, True, "", "warm")
        self.mount.report_error(901)
        self.mount.report_error(402)
        self.pump()
        self.run_command(m.MirrorCoversResetAlarm())
        self.assertEqual(
            [(type(each).__name__, each.code, each.active) for each in self.seen],
            [("Warning", 405, True), ("Error", 901, True), ("Error", 402, True), ("Error", 901, False)],
        )
        self.assertEqual((self.seen[0].subsystem, self.seen[0].extra), ("400. Elevation Axis", ("warm",)))
        self.run_command(m.SafetyReset())
        self.assertEqual(self.mount.errors, {})


class LaterMountTests(MountTests):
    """The same in v0.13."""

    dialect = "v0.13"

    def test_reports(self) -> None:
        """
        Errors are described.
        """
        self.mount.report_error(901, True, "stuck", "drive 2")
        self.pump()
        self.assertEqual((self.seen[0].description, self.seen[0].extra), ("stuck", ("drive 2",)))


class JsonMountTests(SimulatorTestCase):
    dialect = "json"

    def test_superseded(self) -> None:
        """
        In JSON a command that another one takes the place of is told so.
        """
        self.switch_on()
        first = self.begin(m.AzimuthAxisMove(100))
        second = self.begin(m.AzimuthAxisMove(0))
        self.assertEqual(self.failureResultOf(first, CommandSuperseded).value.reply.by_code, 103)
        self.clock.advance(100)
        self.pump()
        self.successResultOf(second)

    def test_failed(self) -> None:
        """
        One that fails is told so.
        """
        self.mount.inject(Fault(error=150))
        self.assertIn("Error 150", str(self.failureResultOf(self.begin(m.Enable()), CommandFailed).value))


class FaultTests(SimulatorTestCase):
    def test_silence(self) -> None:
        """
        A command that is not taken ends in a timeout, and the next one is not affected.
        """
        self.mount.inject(Fault(silence=True), count=1)
        ended = self.begin(m.Enable())
        self.clock.advance(5)
        self.failureResultOf(ended, EquipmentTimeout)
        self.run_command(m.Enable())

    def test_late_ack(self) -> None:
        """
        Replies that come after the timeout are told to observers, and cost nothing.
        """
        self.mount.inject(Fault(delay=6), count=1)
        ended = self.begin(m.Enable())
        self.clock.advance(5)
        self.failureResultOf(ended, EquipmentTimeout)
        self.clock.advance(1)
        self.pump()
        self.assertEqual([type(each) for each in self.seen], [m.Ack, m.Done])
        self.run_command(m.Enable())

    def test_no_done(self) -> None:
        """
        A Done that does not come is not waited for longer than the Ack said.
        """
        self.mount.inject(Fault(no_done=True), command=m.Disable)
        self.run_command(m.Enable())
        ended = self.begin(m.Disable())
        self.clock.advance(2.5)
        self.failureResultOf(ended, EquipmentTimeout)
        self.mount.clear_faults()
        self.run_command(m.Disable())

    def test_rejected_and_failed(self) -> None:
        """
        A command is rejected, or fails after its Ack.
        """
        self.mount.inject(Fault(reject="not today"), count=1)
        self.mount.inject(Fault(error=1099), count=1)
        self.assertIn("not today", str(self.failureResultOf(self.begin(m.Enable()), CommandRejected).value))
        self.assertEqual(self.failureResultOf(self.begin(m.Enable()), CommandFailed).value.reply.code, 1099)

    def test_which(self) -> None:
        """
        Of several for one command the first one happens, until its count is used up.
        """
        for reason, count in (("one", 1), ("two", None), ("three", 1)):
            self.mount.inject(Fault(reject=reason), count)
        for reason in ("one", "two", "two"):
            self.assertIn(reason, str(self.failureResultOf(self.begin(m.Enable()), CommandRejected).value))

    def test_bad_frames(self) -> None:
        """
        Frames that are garbled or too long come and go; the replies behind them count.
        """
        self.mount.inject(Fault(garble=True, oversize=5000, split=7))
        ended = self.begin(m.Enable())
        self.clock.pump([0] * 2000)
        self.assertIsInstance(self.successResultOf(ended), m.Done)
        self.assertTrue(self.csc.connected)

    def test_hung_up(self) -> None:
        """
        When the socket of the replies goes, what is under way fails, and the socket comes back.
        """
        for fault in (Fault(close=True), Fault(reset=True)):
            self.mount.inject(fault, count=1)
            self.failureResultOf(self.begin(m.Enable()), ConnectionResetError)
            self.clock.pump([0.1, 0, 0, 0])
            self.assertTrue(self.csc.connected)
            self.run_command(m.Enable())

    def test_refused(self) -> None:
        """
        Faults that make no sense are refused.
        """
        for fault in ({}, {"delay": -1.0}, {"close": True, "reset": True}, {"split": -1}):
            self.assertRaises(ValueError, Fault, **fault)
        self.assertRaises(ValueError, self.mount.inject, Fault(garble=True), 0)
