"""Tests of the commands and replies, with their bytes as the protocol's documents have them."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from equipnet.communicator import message as m
from equipnet.communicator.dialect import DIALECTS, decode, dialect_of, encode
from equipnet.errors import LocalProtocolError, RemoteProtocolError

V9, V13, JSON = DIALECTS["v0.9"], DIALECTS["v0.13"], DIALECTS["json"]

#: The example of a timestamp in the protocol's description.
WHEN = datetime(2020, 4, 6, 22, 33, 57, 335000, tzinfo=timezone.utc)
STAMP = b"2020-04-06T22:33:57.335"

#: The same in TAI, 37 s ahead of UTC: 1586212437.335 + 37.
TAI = b"1586212474.335"

#: Each command with the parameters that follow its four header fields.
COMMANDS: list[tuple[int, m.Command, bytes]] = [
    (10, m.Enable(), b""),
    (11, m.Disable(), b""),
    (30, m.BothAxesMove(10.5, 45), b"\n10.5\n45.0\n0.0\n0.0\n0"),
    (31, m.BothAxesTrack(10.5, 45.25, 0.1, -0.2, tai=1.6e9), b"\n10.5\n45.25\n0.1\n-0.2\n0\n1600000000.0"),
    (32, m.BothAxesStop(), b""),
    (101, m.AzimuthAxisPower(True), b"\n1"),
    (102, m.AzimuthAxisStop(), b""),
    (103, m.AzimuthAxisMove(-180.25), b"\n-180.25\n0.0\n0.0\n0.0"),
    (105, m.AzimuthAxisTrack(1.5, 0.001, 1600000000.125), b"\n1.5\n0.001\n1600000000.125"),
    (106, m.AzimuthAxisHome(), b""),
    (107, m.AzimuthAxisResetAlarm(), b""),
    (108, m.AzimuthAxisEnableTracking(True), b"\n1"),
    (201, m.AzimuthAxisDriveReset(), b"\n-1"),
    (202, m.AzimuthAxisDriveEnable(3, on=False), b"\n3\n0"),
    (401, m.ElevationAxisPower(False), b"\n0"),
    (402, m.ElevationAxisStop(), b""),
    (403, m.ElevationAxisMove(45, 1.5, 0.25, 2), b"\n45.0\n1.5\n0.25\n2.0"),
    (405, m.ElevationAxisTrack(45.5, 1e-05, 1.6e9), b"\n45.5\n1e-05\n1600000000.0"),
    (406, m.ElevationAxisHome(), b""),
    (407, m.ElevationAxisResetAlarm(), b""),
    (408, m.ElevationAxisEnableTracking(False), b"\n0"),
    (501, m.ElevationAxisDriveReset(2), b"\n2"),
    (502, m.ElevationAxisDriveEnable(on=True), b"\n-1\n1"),
    (601, m.MainPowerSupplyPower(True), b"\n1"),
    (602, m.MainPowerSupplyResetAlarm(), b""),
    (801, m.OilSupplySystemPower(True), b"\n1"),
    (802, m.OilSupplySystemPowerCooling(True), b"\n1"),
    (803, m.OilSupplySystemPowerOil(True), b"\n1"),
    (804, m.OilSupplySystemPowerMainPump(False), b"\n0"),
    (805, m.OilSupplySystemResetAlarm(), b""),
    (901, m.MirrorCoversPower(on=True), b"\n-1\n1"),
    (902, m.MirrorCoversStop(), b"\n-1"),
    (905, m.MirrorCoversDeploy(), b"\n-1"),
    (906, m.MirrorCoversRetract(1), b"\n1"),
    (907, m.MirrorCoversResetAlarm(), b"\n-1"),
    (1001, m.CameraCableWrapPower(True), b"\n1"),
    (1002, m.CameraCableWrapStop(), b""),
    (1003, m.CameraCableWrapMove(12.5, 0, 0, 0), b"\n12.5\n0.0\n0.0\n0.0"),
    (1004, m.CameraCableWrapTrack(12.5, 0.5, 1.6e9), b"\n12.5\n0.5\n1600000000.0"),
    (1005, m.CameraCableWrapResetAlarm(), b""),
    (1006, m.CameraCableWrapDriveEnable(1, True), b"\n1\n1"),
    (1007, m.CameraCableWrapDriveReset(0), b"\n0"),
    (1009, m.CameraCableWrapEnableTracking(True), b"\n1"),
    (1501, m.MirrorCoverLocksPower(on=False), b"\n-1\n0"),
    (1502, m.MirrorCoverLocksStop(4), b"\n4"),
    (1505, m.MirrorCoverLocksResetAlarm(), b"\n-1"),
    (1506, m.MirrorCoverLocksMoveAll(deploy=True), b"\n-1\n1"),
    (1801, m.SafetyReset(), b""),
    (2101, m.AskForCommand(), b"\n1"),
    (2201, m.TopEndChillerPower(True), b"\n1"),
    (2202, m.TopEndChillerTrackAmbient(True, -1.5), b"\n1\n-1.5"),
    (2203, m.TopEndChillerResetAlarm(), b""),
]

#: Those of which the later dialects have other parameters.
CHANGED: list[tuple[int, m.Command, bytes]] = [
    (108, m.AzimuthAxisEnableTracking(), b""),
    (408, m.ElevationAxisEnableTracking(), b""),
    (1801, m.SafetyReset((1, 22, 3)), b"\n1:22:3"),
]

#: Each reply of v0.9, whole.
REPLIES: list[tuple[m.Reply, bytes]] = [
    (
        m.Ack(timeout_ms=3000, sequence_id=7, source=m.Source.CSC, timestamp=WHEN),
        b"0\n7\n1\n2020-04-06T22:33:57.335\n3000\r\n",
    ),
    (
        m.NoAck("not powered", sequence_id=7, source=m.Source.EUI, timestamp=WHEN),
        b"1\n7\n2\n2020-04-06T22:33:57.335\nnot powered\r\n",
    ),
    (m.Done(sequence_id=2147483647, source=m.Source.HHD, timestamp=WHEN), b"2\n2147483647\n3\n" + STAMP + b"\r\n"),
    (
        m.Error(True, False, 901, "900. MyTopVI/MyNextVI", extra=("a", "b"), timestamp=WHEN),
        b"3\n1\n0\n901\n900. MyTopVI/MyNextVI\n2020-04-06T22:33:57.335\na\nb\r\n",
    ),
    (m.Error(False, True, 102, "100. Az", timestamp=WHEN), b"3\n0\n1\n102\n100. Az\n2020-04-06T22:33:57.335\r\n"),
    (
        m.Warning(True, 402, "400. El", extra=("",), timestamp=WHEN),
        b"4\n1\n402\n400. El\n2020-04-06T22:33:57.335\n\r\n",
    ),
    (m.Warning(False, 402, "400. El", timestamp=WHEN), b"4\n0\n402\n400. El\n2020-04-06T22:33:57.335\r\n"),
    (
        m.OnStateInfo("PublishOnlyWaitingForCommand", timestamp=WHEN),
        b"5\n2020-04-06T22:33:57.335\nPublishOnlyWaitingForCommand\r\n",
    ),
    (m.InPosition(m.Axis.ELEVATION, True, timestamp=WHEN), b"6\n2020-04-06T22:33:57.335\n1\n1\r\n"),
    (m.InPosition(m.Axis.AZIMUTH, False, timestamp=WHEN), b"6\n2020-04-06T22:33:57.335\n0\n0\r\n"),
]

#: Those of which v0.13 has another form.
DESCRIBED: list[tuple[m.Reply, bytes]] = [
    (
        m.Error(True, True, 901, "900. Covers", "stuck", ("drive", "2"), timestamp=WHEN),
        b"3\n1\n1\n901\n900. Covers\n2020-04-06T22:33:57.335\nstuck\ndrive\n2\r\n",
    ),
    (
        m.Warning(True, 901, "900. Covers", "slow", timestamp=WHEN),
        b"4\n1\n901\n900. Covers\n2020-04-06T22:33:57.335\nslow\r\n",
    ),
]

#: The replies of v0.15.
JSON_REPLIES: list[tuple[m.Reply, bytes]] = [
    (
        m.Ack(timeout_ms=1500, sequence_id=7, timestamp=WHEN),
        b'{"id":1,"timestamp":1586212474.335,"parameters":{"sequenceId":7,"timeout":1.5}}\r\n',
    ),
    (
        m.Ack(timeout_ms=m.NO_LIMIT, sequence_id=7, timestamp=WHEN),
        b'{"id":1,"timestamp":1586212474.335,"parameters":{"sequenceId":7,"timeout":-1}}\r\n',
    ),
    (
        m.NoAck("not now", sequence_id=7, timestamp=WHEN),
        b'{"id":2,"timestamp":1586212474.335,"parameters":{"sequenceId":7,"explanation":"not now"}}\r\n',
    ),
    (
        m.Done(sequence_id=7, timestamp=WHEN),
        b'{"id":3,"timestamp":1586212474.335,"parameters":{"sequenceId":7}}\r\n',
    ),
    (
        m.Failed("a fuse", sequence_id=7, timestamp=WHEN),
        b'{"id":4,"timestamp":1586212474.335,"parameters":{"sequenceId":7,"explanation":"a fuse"}}\r\n',
    ),
    (
        m.Superseded(8, 1, 402, sequence_id=7, timestamp=WHEN),
        b'{"id":5,"timestamp":1586212474.335,"parameters":{"sequenceId":7,"supersedingSequenceId":8,'
        b'"supersedingCommander":1,"supersedingCommandCode":402}}\r\n',
    ),
    (
        m.InPosition(0, True, timestamp=WHEN),
        b'{"id":200,"timestamp":1586212474.335,"parameters":{"axis":0,"inPosition":true}}\r\n',
    ),
    (
        m.Report(m.ReplyId.COMMANDER, {"actualCommander": 1}, timestamp=WHEN),
        b'{"id":20,"timestamp":1586212474.335,"parameters":{"actualCommander":1}}\r\n',
    ),
]


def sent(command: m.Command) -> Any:
    """Give a command as it is on the wire in these tests: the seventh of the CSC."""
    values = {each.name: getattr(command, each.name) for each in fields(command)}
    return type(command)(**{**values, "sequence_id": 7, "source": m.Source.CSC, "timestamp": WHEN})


class CommandTests(SynchronousTestCase):
    def test_every_command(self) -> None:
        """
        Each of the 52 commands of v0.9 has its bytes, and they are it.
        """
        self.assertEqual([code for code, _, _ in COMMANDS], list(m.COMMANDS))
        self.assertEqual(len(COMMANDS), 52)
        for code, command, parameters in COMMANDS:
            wire = b"7\n%d\n1\n%b%b\r\n" % (code, STAMP, parameters)
            self.assertEqual(encode(sent(command), V9), wire)
            self.assertEqual(decode(wire[:-2], V9, replies=False), sent(command))

    def test_later_dialects(self) -> None:
        """
        In v0.13 three commands have other parameters; in v0.15 the timestamp is TAI as well.
        """
        changed = {code for code, _, _ in CHANGED}
        for code, command, parameters in [each for each in COMMANDS if each[0] not in changed] + CHANGED:
            for dialect, stamp in ((V13, STAMP), (JSON, TAI)):
                wire = b"7\n%d\n1\n%b%b\r\n" % (code, stamp, parameters)
                self.assertEqual(encode(sent(command), dialect), wire)
                self.assertEqual(decode(wire[:-2], dialect, replies=False), sent(command))

    def test_absent_parameter(self) -> None:
        """
        A parameter that a dialect does not have is refused, unless it says what the dialect means without it.
        """
        self.assertRaises(LocalProtocolError, encode, m.AzimuthAxisEnableTracking(False), V13)
        self.assertRaises(LocalProtocolError, encode, m.SafetyReset((1,)), V9)
        self.assertEqual(encode(sent(m.SafetyReset()), V13), b"7\n1801\n1\n" + STAMP + b"\n\r\n")

    def test_ack_only(self) -> None:
        """
        The tracking commands are over with their Ack.
        """
        self.assertEqual([code for code, each in m.COMMANDS.items() if each.ack_only], [31, 105, 405, 1004])

    def test_refused(self) -> None:
        """
        A value that cannot be said is refused, and the error names the command.
        """
        for command in (
            m.AzimuthAxisMove(float("nan")),
            m.AzimuthAxisMove(float("inf")),
            m.AzimuthAxisMove("north"),  # type: ignore[arg-type]
            m.AzimuthAxisPower(2),  # type: ignore[arg-type]
            m.AzimuthAxisPower("on"),  # type: ignore[arg-type]
            m.MirrorCoversStop(1.5),  # type: ignore[arg-type]
            m.MirrorCoversStop(True),
            m.AskForCommand(55),  # type: ignore[arg-type]
            m.Enable(sequence_id=2**31),
            m.Enable(sequence_id=-1),
        ):
            error = self.assertRaises(LocalProtocolError, encode, command, V9)
            self.assertIn(type(command).__name__, str(error))

    def test_frozen(self) -> None:
        """
        What was made is not changed.
        """
        command: Any = m.AzimuthAxisPower(True)
        with self.assertRaises(FrozenInstanceError):
            command.on = False

    def test_decode_refused(self) -> None:
        """
        Too few and too many fields, unknown codes, and fields that make no sense are errors that hold the bytes.
        """
        for wire in (
            b"",
            b"7",
            b"7\n10\n1",
            b"7\n10\n1\n" + STAMP + b"\n1",  # too many
            b"7\n101\n1\n" + STAMP,  # too few
            b"7\n104\n1\n" + STAMP,  # a code that MTMount knows without a class
            b"7\n-1\n1\n" + STAMP,
            b"7\n99999\n1\n" + STAMP,
            b"7\nten\n1\n" + STAMP,
            b"7.0\n10\n1\n" + STAMP,
            b"7\n10\n55\n" + STAMP,  # nobody's source
            b"7\n10\n1\nyesterday",
            b"7\n10\n1\n2020-04-06T22:33:61",
            b"7\n10\n1\n2020-13-06T22:33:01",
            b"7\n101\n1\n" + STAMP + b"\nTrue",
            b"7\n102\n1\n\xb5" + STAMP,  # not ASCII
            b"7\n103\n1\n" + STAMP + b"\nnan\n0\n0\n0",
            b"7\n103\n1\n" + STAMP + b"\n1_0\n0\n0\n0",
            b"9" * 5000 + b"\n10\n1\n" + STAMP,
        ):
            error = self.assertRaises(RemoteProtocolError, decode, wire, V9, False)
            self.assertEqual(error.data, wire)
            self.assertLess(len(str(error)), 1500)

    def test_timestamps(self) -> None:
        """
        A timestamp may have any number of decimals, and the second that leap seconds have.
        """
        for text, when in (
            (b"2020-04-06T22:33:57", WHEN.replace(microsecond=0)),
            (b"2020-04-06T22:33:57.3", WHEN.replace(microsecond=300000)),
            (b"2020-04-06T22:33:57.335123987", WHEN.replace(microsecond=335123)),
            (b"2020-04-06 22:33:57.335Z", WHEN),
            (b"2016-12-31T23:59:60.500", datetime(2017, 1, 1, 0, 0, 0, 500000, tzinfo=timezone.utc)),
        ):
            self.assertEqual(decode(b"1\n10\n1\n" + text, V9, False).timestamp, when)

    def test_local_time(self) -> None:
        """
        A time of another zone is written as UTC; one without a zone is taken to be UTC.
        """
        there = WHEN.astimezone(timezone(timedelta(hours=-7)))
        for when in (there, WHEN.replace(tzinfo=None)):
            command = m.Enable(sequence_id=7, source=m.Source.CSC, timestamp=when)
            self.assertEqual(encode(command, V9), b"7\n10\n1\n" + STAMP + b"\r\n")
            self.assertEqual(encode(command, JSON), b"7\n10\n1\n" + TAI + b"\r\n")

    @given(
        position=st.floats(allow_nan=False, allow_infinity=False),
        velocity=st.floats(allow_nan=False, allow_infinity=False),
        sequence_id=st.integers(1, m.LAST_SEQUENCE_ID),
        source=st.sampled_from(list(m.Source)),
        dialect=st.sampled_from(list(DIALECTS.values())),
    )
    def test_round_trip(
        self, position: float, velocity: float, sequence_id: int, source: m.Source, dialect: Any
    ) -> None:
        """
        Reading undoes writing, to the last bit of a number.
        """
        command = m.ElevationAxisTrack(
            position, velocity, 1.6e9, sequence_id=sequence_id, source=source, timestamp=WHEN
        )
        self.assertEqual(decode(encode(command, dialect)[:-2], dialect, False), command)

    @given(st.binary(max_size=200), st.sampled_from(list(DIALECTS.values())), st.booleans())
    def test_any_bytes(self, wire: bytes, dialect: Any, replies: bool) -> None:
        """
        Bytes are a message, or a RemoteProtocolError; nothing else comes of them.
        """
        try:
            decode(wire, dialect, replies)
        except RemoteProtocolError as error:
            self.assertEqual(error.data, wire)

    def test_own_command(self) -> None:
        """
        A command of another version is added to a dialect, and only to that.
        """

        @m.command(3000)
        class Heartbeat(m.Command):
            """Say that we are there."""

        dialect = JSON.with_commands(Heartbeat)
        wire = encode(sent(Heartbeat()), dialect)
        self.assertEqual(wire, b"7\n3000\n1\n" + TAI + b"\r\n")
        self.assertEqual(decode(wire[:-2], dialect, False), sent(Heartbeat()))
        self.assertRaises(RemoteProtocolError, decode, wire[:-2], JSON, False)


class ReplyTests(SynchronousTestCase):
    def test_every_reply(self) -> None:
        """
        Each of the seven replies has its bytes, and they are it.
        """
        self.assertEqual({type(reply) for reply, _ in REPLIES}, set(m.REPLIES.values()))
        self.assertEqual(len(m.REPLIES), 7)
        for reply, wire in REPLIES:
            self.assertEqual(encode(reply, V9), wire)
            self.assertEqual(decode(wire[:-2], V9, replies=True), reply)

    def test_description(self) -> None:
        """
        From v0.12 on errors and warnings are described; the other replies are as before.
        """
        for reply, wire in DESCRIBED + [each for each in REPLIES if not isinstance(each[0], (m.Error, m.Warning))]:
            self.assertEqual(encode(reply, V13), wire)
            self.assertEqual(decode(wire[:-2], V13, replies=True), reply)
        self.assertRaises(LocalProtocolError, encode, DESCRIBED[0][0], V9)

    def test_json(self) -> None:
        """
        From v0.15 on replies are JSON; those whose parameters are not known are given as they are.
        """
        for reply, wire in JSON_REPLIES:
            self.assertEqual(encode(reply, JSON), wire)
            self.assertEqual(decode(wire[:-2], JSON, replies=True), reply)

    def test_json_only(self) -> None:
        """
        A reply that a dialect does not have is refused.
        """
        for reply, _ in JSON_REPLIES[4:6]:
            self.assertRaises(LocalProtocolError, encode, reply, V9)
        self.assertRaises(LocalProtocolError, encode, REPLIES[3][0], JSON)
        self.assertRaises(LocalProtocolError, encode, m.Report(20, {"x": object()}), JSON)

    def test_json_refused(self) -> None:
        """
        JSON that is no reply is an error.
        """
        for wire in (
            b"",
            b"[]",
            b"{",
            b"[" * 60000,
            b'{"id":1}',
            b'{"id":true,"timestamp":1.5e9,"parameters":{}}',
            b'{"id":3,"timestamp":"now","parameters":{"sequenceId":7}}',
            b'{"id":3,"timestamp":NaN,"parameters":{"sequenceId":7}}',
            b'{"id":3,"timestamp":1e300,"parameters":{"sequenceId":7}}',
            b'{"id":3,"timestamp":1.5e9,"parameters":{}}',
            b'{"id":3,"timestamp":1.5e9,"parameters":{"sequenceId":"7"}}',
            b'{"id":2,"timestamp":1.5e9,"parameters":{"sequenceId":7,"explanation":3}}',
            b'{"id":200,"timestamp":1.5e9,"parameters":{"axis":0,"inPosition":3}}',
            b'\xff{"id":3}',
        ):
            error = self.assertRaises(RemoteProtocolError, decode, wire, JSON, True)
            self.assertEqual(error.data, wire)

    def test_empty_timeout(self) -> None:
        """
        The timeout of an Ack may be missing from its field, and is 0 then.
        """
        self.assertEqual(
            decode(b"0\n7\n1\n" + STAMP + b"\n", V9, True), m.Ack(sequence_id=7, source=m.Source.CSC, timestamp=WHEN)
        )

    def test_refused(self) -> None:
        """
        Too few and too many fields, unknown codes and fields that make no sense are errors.
        """
        for wire in (
            b"",
            b"7\n" + STAMP,
            b"-1\n7\n1\n" + STAMP,
            b"0\n7\n1\n" + STAMP,
            b"0\n7\n1\n" + STAMP + b"\n3000\n4",
            b"0\n7\n1\n" + STAMP + b"\nsoon",
            b"2\n7\n1\n" + STAMP + b"\n1",
            b"3\n1\n1\n901\n900. Covers",
            b"6\n" + STAMP + b"\n0\n2",
            b"5\n" + STAMP + b"\n\xb5",
        ):
            self.assertRaises(RemoteProtocolError, decode, wire, V9, True)

    def test_not_ascii(self) -> None:
        """
        From v0.13 on what is not ASCII in a reply is left out.
        """
        self.assertEqual(decode(b"5\n" + STAMP + b"\n\xb5too hot", V13, True), m.OnStateInfo("too hot", timestamp=WHEN))

    def test_text_that_would_break_a_frame(self) -> None:
        """
        A text with a line feed or a carriage return in it, or that is not ASCII, is refused.
        """
        for text in ("a\nb", "a\r", "\r\n", "µ", 5):
            for reply in (
                m.NoAck(text, sequence_id=1),  # type: ignore[arg-type]
                m.OnStateInfo(text),  # type: ignore[arg-type]
                m.Error(True, True, 1, "100.", extra=(text,)),  # type: ignore[arg-type]
            ):
                self.assertRaises(LocalProtocolError, encode, reply, V9)

    def test_subsystem(self) -> None:
        """
        Which part an error is about stands before the dot, and follows from the code where it does not.
        """
        self.assertEqual(m.subsystem_of(m.Error(True, True, 1234, "900. MyTopVI/MyNextVI")), 900)
        self.assertEqual(m.subsystem_of(m.Warning(True, 1234, "Balance")), m.Subsystem.DEPLOYABLE_PLATFORM)

    def test_dialects(self) -> None:
        """
        A dialect is found by its name.
        """
        self.assertIs(dialect_of("v0.9"), V9)
        self.assertIs(dialect_of(V13), V13)
        self.assertRaisesRegex(ValueError, "'v0.13'", dialect_of, "v0.10")
