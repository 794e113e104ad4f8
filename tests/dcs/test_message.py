"""Tests of the messages of DCS: lines to values and back, and what is refused."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from equipnet.dcs.message import (
    GenericMessage,
    HtosClientIsHardware,
    HtosConfigureDevice,
    HtosGetEncoderCompleted,
    HtosLimitHit,
    HtosLog,
    HtosMotorMoveCompleted,
    HtosMotorMoveStarted,
    HtosNote,
    HtosOperationCompleted,
    HtosOperationUpdate,
    HtosReportIonChambers,
    HtosReportShutterState,
    HtosSendConfiguration,
    HtosSetStringCompleted,
    HtosStartOperation,
    HtosUpdateMotorPosition,
    Message,
    StocSendClientType,
    StohAbortAll,
    StohConfigureEncoder,
    StohConfigurePseudoMotor,
    StohConfigureRealMotor,
    StohConfigureRuns,
    StohConfigureShutter,
    StohConfigureString,
    StohCorrectMotorPosition,
    StohReadIonChambers,
    StohRegisterIonChamber,
    StohRegisterRealMotor,
    StohRegisterShutter,
    StohSetMotorChildren,
    StohSetString,
    StohStartMotorMove,
    StohStartOperation,
    StohStartOscillation,
    StohStartVectorMove,
    StohStopOperation,
    encode,
    parse_message,
    read_header,
)
from equipnet.errors import LocalProtocolError, RemoteProtocolError

#: Lines as a real dcss sends them, and what they say.
RECEIVED: tuple[tuple[str, Message], ...] = (
    ("stoc_send_client_type", StocSendClientType()),
    ("stoc_send_client_type 17", StocSendClientType("17")),
    ("stoh_register_real_motor energy mono_theta_hw", StohRegisterRealMotor("energy", "mono_theta_hw")),
    ("stoh_register_ion_chamber i0 c1 3 timer1 standard", StohRegisterIonChamber("i0", "c1", 3, "timer1", "standard")),
    ("stoh_register_shutter shutter open", StohRegisterShutter("shutter", "open")),
    ("stoh_register_shutter shutter closed hw", StohRegisterShutter("shutter", "closed", "hw")),
    ("stoh_set_motor_children energy a b", StohSetMotorChildren("energy", ("a", "b"))),
    (
        "stoh_configure_real_motor phi loopDHS phi 12.500000 360.000000 -360.000000 100.000000 2000 300 5 1 0 0 1 0 0",
        StohConfigureRealMotor(
            "phi", "loopDHS", "phi", 12.5, 360.0, -360.0, 100.0, 2000, 300, 5, True, False, False, True, False, 0
        ),
    ),
    (
        "stoh_configure_pseudo_motor energy bl energy 12000.0 13000.0 6000.0 1 1 0 0",
        StohConfigurePseudoMotor("energy", "bl", "energy", 12000.0, 13000.0, 6000.0, True, True, False, 0),
    ),
    ("stoh_configure_shutter shutter bl open", StohConfigureShutter("shutter", "bl", "open")),
    ("stoh_configure_encoder e bl 1.500000 1.500000", StohConfigureEncoder("e", "bl", 1.5, 1.5)),
    ("stoh_configure_string s bl", StohConfigureString("s", "bl", "")),
    ('stoh_configure_string s bl {"a":  [1]', StohConfigureString("s", "bl", '{"a":  [1]')),
    ("stoh_configure_runs runs 3 0 0 1", StohConfigureRuns("runs", 3, 0, 0, 1)),
    ("stoh_start_motor_move phi 30.500000", StohStartMotorMove("phi", 30.5)),
    ("stoh_correct_motor_position phi -360", StohCorrectMotorPosition("phi", -360.0)),
    ("stoh_start_oscillation phi NULL 1.0 2.5", StohStartOscillation("phi", "NULL", 1.0, 2.5)),
    ("stoh_start_vector_move x NULL 1 0 0.5", StohStartVectorMove("x", "NULL", 1.0, 0.0, 0.5)),
    ("stoh_read_ion_chambers 1.0 0 i0 i1", StohReadIonChambers(1.0, "0", ("i0", "i1"))),
    ("stoh_set_string s two  words", StohSetString("s", "two  words")),
    ("stoh_start_operation op 1.10", StohStartOperation("op", "1.10")),
    ("stoh_start_operation op 1.10 {a b}  c {}", StohStartOperation("op", "1.10", ("a b", "c", ""))),
    ("stoh_stop_operation op now", StohStopOperation("op", ("now",))),
    ("stoh_abort_all soft", StohAbortAll("soft")),
    ("stoh_abort_all", StohAbortAll("hard")),
)

#: Lines as a real dcss takes them, and what they are made with.
SENT: tuple[tuple[str, Message], ...] = (
    ("htos_client_is_hardware loopDHS", HtosClientIsHardware("loopDHS")),
    ("htos_motor_move_started phi 30", HtosMotorMoveStarted("phi", 30)),
    ("htos_update_motor_position phi 12.25 normal", HtosUpdateMotorPosition("phi", 12.25)),
    ("htos_motor_move_completed phi 0.0000001 aborted", HtosMotorMoveCompleted("phi", 1e-7, "aborted")),
    ("htos_configure_device energy 12345", HtosConfigureDevice("energy", (12345,))),
    ("htos_send_configuration energy", HtosSendConfiguration("energy")),
    ("htos_operation_update op 1.10 image_ready 5", HtosOperationUpdate("op", "1.10", ("image_ready", 5))),
    ("htos_operation_completed op 1.10 normal", HtosOperationCompleted("op", "1.10")),
    (
        "htos_operation_completed op 1.10 normal 0.51 {a b} {1 {b c}} {}",
        HtosOperationCompleted("op", "1.10", "normal", (0.51, "a b", (1, "b c"), None)),
    ),
    ("htos_start_operation op 0.1 a", HtosStartOperation("op", "0.1", ("a",))),
    ("htos_report_ion_chambers 1.0 i0 5 i1 6.5", HtosReportIonChambers.of(1.0, {"i0": 5, "i1": 6.5})),
    ("htos_report_ion_chambers 0 i0 i1 no_beam", HtosReportIonChambers.failed(["i0", "i1"], "no beam")),
    ("htos_report_shutter_state shutter open", HtosReportShutterState("shutter", "open")),
    ("htos_report_shutter_state shutter open stuck", HtosReportShutterState("shutter", "open", "stuck")),
    ("htos_get_encoder_completed e -1.5 normal", HtosGetEncoderCompleted("e", -1.5)),
    ("htos_set_string_completed s normal two  words", HtosSetStringCompleted("s", "normal", "two  words")),
    ("htos_set_string_completed s normal", HtosSetStringCompleted("s")),
    ("htos_limit_hit phi cw", HtosLimitHit("phi", "cw")),
    ("htos_note image_ready /data/a.img", HtosNote("image_ready /data/a.img")),
    ("htos_log warning loopDHS no tip seen", HtosLog("warning", "loopDHS", "no tip seen")),
)


class ReceivedTests(SynchronousTestCase):
    """Lines of dcss become values."""

    def test_each_message_is_read(self) -> None:
        """A line becomes an instance of its class, with typed attributes, and keeps its text."""
        for line, message in RECEIVED:
            self.assertEqual(parse_message(line), message, line)
            self.assertEqual(str(parse_message(line)), line)

    def test_padding_is_dropped(self) -> None:
        """Line ends, blanks and NULs behind the text are no part of it, and nothing behind a NUL is."""
        message = parse_message(b"stoh_register_string s hw\n\0rubbish\0\0")
        self.assertEqual(str(message), "stoh_register_string s hw")

    def test_unknown_messages_are_generic(self) -> None:
        """A message of no known name has its words."""
        message = parse_message("stoh_collect_image a {b c}")
        self.assertEqual(message, GenericMessage("stoh_collect_image", ("a", "b c")))

    def test_what_is_missing_is_said(self) -> None:
        """A message that does not say what it should is generic, with its problem; reading never fails."""
        for line, problem in (
            ("stoh_start_operation op", "handle is missing"),
            ("stoh_start_operation", "name is missing"),
            ("stoh_start_motor_move phi abc", "destination 'abc' is no number"),
            ("stoh_start_motor_move phi nan", "destination 'nan' is no number"),
            ("stoh_start_motor_move phi", "destination is missing"),
            ("stoh_configure_real_motor phi a b 1", "upper_limit is missing"),
        ):
            message = parse_message(line)
            self.assertIsInstance(message, GenericMessage, line)
            self.assertEqual(message.problem, problem)  # type: ignore[attr-defined]
            self.assertEqual(str(message), line)

    def test_an_empty_line_is_generic(self) -> None:
        """No text at all is a message without a name."""
        self.assertEqual(parse_message(b"\0"), GenericMessage(""))

    def test_bytes_that_are_no_text_survive(self) -> None:
        """Bytes outside of ASCII are kept, and can be sent back as they were."""
        message = parse_message(b"stoh_set_string s \xe9\xff\0")
        self.assertEqual(encode(str(message))[26:], b"stoh_set_string s \xe9\xff\0")

    def test_values_are_frozen(self) -> None:
        """What was received does not change any more."""
        message: StohAbortAll = parse_message("stoh_abort_all")  # type: ignore[assignment]
        with self.assertRaises(FrozenInstanceError):
            message.mode = "soft"  # type: ignore[misc]

    @given(st.text())
    def test_any_text_can_be_read(self, text: str) -> None:
        """Nothing that arrives makes reading fail."""
        parse_message(text)
        for command in Message.classes:
            parse_message(f"{command} {text}")


class SentTests(SynchronousTestCase):
    """Values become lines that a real dcss takes."""

    def test_each_message_is_written(self) -> None:
        """A value becomes its line."""
        for line, message in SENT:
            self.assertEqual(str(message), line)

    def test_what_is_written_is_read(self) -> None:
        """Reading undoes writing, numbers within lists aside, which are words then."""
        for line, message in SENT:
            self.assertEqual(str(parse_message(line)), line)
            self.assertIs(type(parse_message(line)), type(message))

    def test_every_message_that_dcss_takes_is_there(self) -> None:
        """The 18 messages of the table and the answer of the handshake have a class each."""
        ours = sorted(command for command in Message.classes if command.startswith("htos_"))
        self.assertEqual(len(ours), 19)

    def test_reports_of_ion_chambers_can_be_asked(self) -> None:
        """A report gives its counts, or the reason why there are none."""
        counted = parse_message("htos_report_ion_chambers 1.0 i0 5 i1 6.5")
        failed = parse_message("htos_report_ion_chambers 0 i0 i1 {no beam}")
        assert isinstance(counted, HtosReportIonChambers) and isinstance(failed, HtosReportIonChambers)
        self.assertEqual((counted.counts, counted.names, counted.reason), ({"i0": 5.0, "i1": 6.5}, ("i0", "i1"), ""))
        self.assertEqual((failed.counts, failed.names, failed.reason), ({}, ("i0", "i1"), "no beam"))

    def test_what_dcss_cannot_carry_is_refused(self) -> None:
        """Names that crash dcss, numbers it cannot read, and what it would change or misread are refused."""
        for make in (
            lambda: HtosMotorMoveStarted("m" * 80, 1.0),
            lambda: HtosMotorMoveCompleted("phi", 1.0, "s" * 80),
            lambda: HtosMotorMoveCompleted("m" * 79, 1e20, "s" * 79),
            lambda: HtosMotorMoveCompleted("phi", float("nan")),
            lambda: HtosMotorMoveCompleted("phi", float("inf")),
            lambda: HtosMotorMoveCompleted("phi", 1e300),
            lambda: HtosOperationUpdate("op", "1.1", ("a[1]",)),
            lambda: HtosOperationUpdate("op", "1.1", ('{"a": 1}',)),
            lambda: HtosOperationUpdate("op", "1.1", ("a\nb",)),
            lambda: HtosOperationUpdate("op", "1.1", ("a;b",)),
            lambda: HtosOperationUpdate("op", "1.1", ("{",)),
            lambda: HtosOperationUpdate("op", "1.1", ("a\\b",)),
            lambda: HtosOperationUpdate("op", "1.1", ("x" * 500_001,)),
            lambda: HtosOperationUpdate("op", "1.1", (object(),)),
            lambda: HtosNote("a\0b"),
            lambda: HtosSetStringCompleted("s", "normal", "x" * 1880),
            lambda: HtosReportIonChambers.of(1.0, {"i" * 80: 1}),
            lambda: HtosReportIonChambers.of(0, {"i0": 1}),
            lambda: StohSetString("s", "a\0b"),
        ):
            self.assertRaises(LocalProtocolError, make)

    def test_the_longest_that_fits_is_not_refused(self) -> None:
        """The limits themselves are allowed."""
        HtosMotorMoveStarted("m" * 79, 1.0)
        HtosSetStringCompleted("s", "normal", "x" * 1879)


class BytesTests(SynchronousTestCase):
    """Lines become bytes, and headers sizes."""

    def test_protocol_2_counts_the_zero(self) -> None:
        """The header has two numbers of 12 and a blank behind each; the text's counts its NUL (seen of a dcss)."""
        self.assertEqual(
            encode("stoh_register_real_motor energy mono_theta_hw"),
            b"          46            0 stoh_register_real_motor energy mono_theta_hw\0",
        )

    def test_a_binary_part_follows_the_text(self) -> None:
        """Its size is the second number."""
        self.assertEqual(encode("a", 2, b"\0\1\2"), b"           2            3 a\0\0\1\2")

    def test_protocol_1_has_200_bytes(self) -> None:
        """Whatever is said, it fills 200 bytes; what does not fit with its NUL is refused."""
        self.assertEqual(encode("htos_client_is_hardware a", 1), b"htos_client_is_hardware a" + b"\0" * 175)
        self.assertEqual(encode("x" * 199, 1), b"x" * 199 + b"\0")
        self.assertRaises(LocalProtocolError, encode, "x" * 200, 1)
        self.assertRaises(LocalProtocolError, encode, "x", 1, b"binary")

    def test_headers_are_read_as_they_come(self) -> None:
        """Any padding will do: that of a C program, of a Tcl program, of pydhsfw."""
        for header in (
            b"          46            0 ",
            b"46 0                      ",
            b"000000000046 000000000000 ",
            b"          46            0\0",
            b"46 0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            b"\t46\t0                     \n",
        ):
            self.assertEqual(read_header(header, 100), (46, 0), header)

    def test_what_is_no_header_is_refused(self) -> None:
        """Negative, blank, huge, filled with NUL, or text: an error that names the bytes."""
        for header in (
            b"         -46            0 ",
            b"          46           -1 ",
            b"          46              ",
            b"                          ",
            b"\0" * 26,
            b"        4294967296      0 ",
            b"          46 999999999999 ",
            b"          +1            0 ",
            b"         1_0            0 ",
            b"        46.0            0 ",
            b"          46       0    0 ",
            b"stoh_register_real_motor e",
        ):
            error = self.assertRaises(RemoteProtocolError, read_header, header, 16 * 1024 * 1024)
            self.assertEqual(error.data, header)
