"""
Tests for `equipnet.dcs.hub`. The texts are those of a real dcss; where they were written down stands at each group.
"""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from equipnet.dcs.database import HardwareHost, IonChamber, Motor, Operation, Shutter, StringDevice, read_database
from equipnet.dcs.hub import _HARDWARE, Completion, Hub, after

PERMITS = "1 1 1 1 1\n1 1 1 1 1\n"

DATABASE = (
    "self\n3\nlocalhost 2\n\n"
    "loop\n3\nlocalhost 2\n\n"
    "other\n3\nlocalhost 2\n\n"
    f"phi\n1\nloop phi\n{PERMITS}0\n12 720 -720 1000 5 6 0 1 1 0 0 0 1 deg\n\n"
    f"zoom\n1\nloop zoom\n{PERMITS}0\n0.5 1 0 1000 5 6 50 1 1 0 1 0 0 mm\n\n"
    f"energy\n2\nloop energy\n{PERMITS}0\n12000 15000 6000 1 1 0 0 eV\nzoom\n\n"
    f"vm\n2\nself standardVirtualMotor\n{PERMITS}0\n0 10 0 1 1 0 0\n0\n\n"
    "sh\n6\nloop 1 sh\n\n"
    "i0\n4\nloop ctr 0 rtc standard\n\n"
    "i1\n4\nother ctr 1 rtc standard\n\n"
    "enc\n12\nloop enc\n\n"
    "st\n13\nloop st\n\n"
    "mine\n13\nself standardString\nold\n\n"
    f"op\n11\nloop op\n{PERMITS}\n"
    "END\n"
)


class Wire:
    """A hardware server that writes down what it is sent."""

    def __init__(self, order: list[str]) -> None:
        self.texts = order

    def send(self, text: str) -> None:
        self.texts.append(text)


class HubTestCase(SynchronousTestCase):
    """A hub with two hardware servers, and everything it sends in one list."""

    def setUp(self) -> None:
        self.hub = Hub(read_database(DATABASE))
        self.told: list[str] = []
        self.ends: list[tuple[str, Completion]] = []
        self.loop, self.other = self.host("loop"), self.host("other")
        self.wire = Wire(self.told)
        self.other_wire = Wire([])
        self.hub.connected(self.loop, self.wire)
        self.hub.connected(self.other, self.other_wire)
        self.told.clear()
        self.hub.listeners.append(self.told.append)
        self.hub.on_completion = lambda kind, completion: self.ends.append((kind, completion))

    def host(self, name: str) -> HardwareHost:
        """Give a hardware host."""
        host = self.hub.host_named(name)
        assert host is not None
        return host

    def motor(self, name: str) -> Motor:
        """Give a motor."""
        motor = self.hub.database.get(name)
        assert isinstance(motor, Motor)
        return motor

    def say(self, *texts: str) -> list[str]:
        """Let the hardware server say something; give all that is told because of it, in order."""
        self.told.clear()
        for text in texts:
            self.hub.hardware_said(self.loop, text)
        return list(self.told)

    def move(self, name: str, destination: str) -> list[str]:
        """Start a move; give all that is told because of it."""
        self.told.clear()
        self.hub.start_move(self.motor(name), destination)
        return list(self.told)

    def complaint(self) -> str:
        """Give the only complaint, and forget it."""
        (text,) = self.hub.complaints
        self.hub.complaints.clear()
        return text


class MotorsTests(HubTestCase):
    """What motors report (dcs.md 2b), and the circle (5.10)."""

    def test_move(self) -> None:
        """
        A move is started, updated and completed; positions are told with six decimals.
        """
        self.assertEqual(self.move("zoom", "0.75"), ["stoh_start_motor_move zoom 0.750000"])
        self.assertEqual(
            self.say(
                "htos_motor_move_started zoom 0.75",
                "htos_update_motor_position zoom 0.6 normal",
                "htos_motor_move_completed zoom 0.75 normal and more",
            ),
            [
                "stog_motor_move_started zoom 0.750000",
                "stog_update_motor_position zoom 0.600000 normal",
                "stog_motor_move_completed zoom 0.750000 normal",
            ],
        )
        self.assertEqual(self.motor("zoom").position, 0.75)
        self.assertEqual(self.ends, [("move", Completion("zoom", "normal", "0.750000"))])
        self.assertEqual(self.ends[0][1].position, 0.75)
        self.assertEqual(list(self.hub.complaints), [])

    def test_circle(self) -> None:
        """
        At 12, to 300 is to -60; stopped at -5.7, the motor is corrected by 360 before anyone sees 354.3 (seen).
        """
        self.assertEqual(self.move("phi", "300"), ["stoh_start_motor_move phi -60.000000"])
        self.assertEqual(
            self.say("htos_motor_move_started phi -60", "htos_motor_move_completed phi -5.7 aborted"),
            [
                "stog_motor_move_started phi 300.000000",
                "stoh_correct_motor_position phi 360",
                "stog_motor_move_completed phi 354.300000 aborted",
            ],
        )
        self.assertAlmostEqual(self.motor("phi").position, 354.3)

    def test_update_is_not_corrected(self) -> None:
        """
        An update is taken into the circle, and never corrected.
        """
        self.assertEqual(
            self.say("htos_update_motor_position phi 365 normal"), ["stog_update_motor_position phi 5.000000 normal"]
        )

    def test_destination_as_typed(self) -> None:
        """
        What is 0 as a number is passed on as it was typed, and the circle does not touch it (seen).
        """
        self.motor("phi").position = 350.0
        for typed in ("0", "0.0", "abc"):
            self.assertEqual(self.move("phi", typed), [f"stoh_start_motor_move phi {typed}"])

    def test_configured(self) -> None:
        """
        A configuration is taken as far as it goes, corrected, and told to all.
        """
        self.assertEqual(
            self.say("htos_configure_device energy 12345"),
            ["stog_configure_pseudo_motor energy loop energy 12345.000000 15000.000000 6000.000000 1 1 0 0"],
        )
        self.assertEqual(
            self.say("htos_configure_device phi 370 300 -300 2000.5 7 8 9 0 1 1 1 0"),
            [
                "stoh_correct_motor_position phi -360",
                "stog_configure_real_motor phi loop phi 10.000000 300.000000 -300.000000 2000.500000 7 8 9 0 1 1 1 0 0",
            ],
        )
        self.assertEqual(
            self.say("htos_configure_device sh 1"),
            ["stog_log error server sh is not a motor and cannot be configured."],
        )

    def test_asks_for_configuration(self) -> None:
        """
        A configuration goes to the host of the device, whoever asked for it.
        """
        self.assertEqual(self.say("htos_send_configuration i1"), [])
        self.assertEqual(self.other_wire.texts[-1], "stoh_configure_ion_chamber i1 other ctr 1 rtc standard")
        self.assertEqual(
            self.say("htos_send_configuration sh", "htos_send_configuration st"),
            ["stoh_configure_shutter sh loop closed", "stoh_configure_string st loop "],
        )

    def test_bad_numbers(self) -> None:
        """
        What is no number becomes 0 at the end of a move; nan is not taken over. Both are complained of.
        """
        self.move("zoom", "0.7")
        self.assertEqual(
            self.say("htos_motor_move_completed zoom here normal"), ["stog_motor_move_completed zoom 0.000000 normal"]
        )
        self.assertIn("no number", self.complaint())
        self.say("htos_update_motor_position zoom nan normal")
        self.assertEqual(self.motor("zoom").position, 0.0)

    def test_nobody_asked(self) -> None:
        """
        A completion too many is complained of.
        """
        self.move("zoom", "0.7")
        self.say("htos_motor_move_completed zoom 0.7 normal", "htos_motor_move_completed zoom 0.7 normal")
        self.assertIn("nobody had asked for", self.complaint())


class EngineTests(HubTestCase):
    """What the scripting engine refuses, and what it aborts (dcs.md 3 and 5.5)."""

    def refused(self, name: str, destination: str) -> str:
        """Start a move that is refused; give the status. All is aborted after it, on every hardware server."""
        self.other_wire.texts.clear()
        completed, aborted = self.move(name, destination)
        self.assertEqual((aborted, self.other_wire.texts), ("stoh_abort_all soft", ["stoh_abort_all soft"]))
        words = completed.split()
        self.assertEqual(words[:2], ["stog_motor_move_completed", name])
        return words[3]

    def test_limits(self) -> None:
        """
        A destination outside the limits is refused, and one that the backlash leads outside.
        """
        self.assertEqual(self.refused("zoom", "1.01"), "sw_limit")
        self.assertEqual(self.refused("zoom", "0.01"), "sw_limit")
        self.assertEqual(self.move("zoom", "0.06"), ["stoh_start_motor_move zoom 0.060000"])

    def test_lock(self) -> None:
        """
        A locked motor is not moved.
        """
        self.motor("zoom").lock_on = True
        self.assertEqual(self.refused("zoom", "0.7"), "locked")

    def test_moving(self) -> None:
        """
        A motor moves once it has said so; two quick requests both reach it (seen). Nor are parents and children moved.
        """
        self.assertEqual(len(self.move("zoom", "0.7")), 1)
        self.assertEqual(self.move("zoom", "0.8"), ["stoh_start_motor_move zoom 0.800000"])
        self.say("htos_motor_move_started zoom 0.7")
        self.assertEqual(self.refused("zoom", "0.8"), "moving")
        self.assertEqual(self.refused("energy", "12001"), "moving")
        self.say("htos_motor_move_completed zoom 0.7 normal", "htos_motor_move_started energy 12001")
        self.assertEqual(self.refused("zoom", "0.8"), "moving")

    def test_abnormal(self) -> None:
        """
        Every status but normal and aborted aborts all.
        """
        for status, number in (("normal", 0), ("aborted", 0), ("abort", 1), ("cw_hw_limit", 1)):
            self.other_wire.texts.clear()
            self.hub.start_operation(self.operation(), f"1.{status}")
            self.say(f"htos_operation_completed op 1.{status} {status}")
            self.move("zoom", "0.7")
            self.say(f"htos_motor_move_completed zoom 0.7 {status}")
            self.assertEqual(self.other_wire.texts, ["stoh_abort_all soft"] * number * 2)

    def operation(self) -> Operation:
        """Give the operation."""
        operation = self.hub.database.get("op")
        assert isinstance(operation, Operation)
        return operation

    def test_own_devices(self) -> None:
        """
        The devices of the host self do at once what they are told.
        """
        self.assertEqual(
            self.move("vm", "5"),
            ["stog_motor_move_started vm 5.000000", "stog_motor_move_completed vm 5.000000 normal"],
        )
        mine = self.hub.database.get("mine")
        assert isinstance(mine, StringDevice)
        self.told.clear()
        self.hub.pass_on(mine, "set_string mine a  b")
        self.assertEqual(self.told, ["stog_set_string_completed mine normal a  b"])
        self.assertEqual(mine.contents, "a  b")


class OperationsTests(HubTestCase):
    """What operations report."""

    def start(self, rest: str) -> list[str]:
        """Start the operation; give what is told."""
        self.told.clear()
        operation = self.hub.database.get("op")
        assert isinstance(operation, Operation)
        self.hub.start_operation(operation, rest)
        return list(self.told)

    def test_life(self) -> None:
        """
        Those who look on hear of the start first; the handle is passed on as it is, and the rest of the text as well.
        """
        self.assertEqual(
            self.start("1.10 {a  b}"), ["stog_start_operation op 1.10 {a  b}", "stoh_start_operation op 1.10 {a  b}"]
        )
        self.assertEqual(
            self.say("htos_operation_update op 1.10 half  way", "htos_operation_completed op 1.10 normal 0.51 0.49"),
            ["stog_operation_update op 1.10 half  way", "stog_operation_completed op 1.10 normal 0.51 0.49"],
        )
        self.assertEqual(self.ends, [("operation", Completion("op", "normal", "0.51 0.49", "1.10"))])
        self.assertEqual(self.ends[0][1].words, ("0.51", "0.49"))
        self.assertEqual(self.hub.operations, {})

    def test_twice(self) -> None:
        """
        A second completion is complained of.
        """
        self.start("1.1")
        self.say("htos_operation_completed op 1.1 normal", "htos_operation_completed op 1.1 normal")
        self.assertIn("op 1.1, which is not running", self.complaint())

    def test_no_status(self) -> None:
        """
        So is one without a status.
        """
        self.start("1.1")
        self.say("htos_operation_completed op 1.1")
        self.assertIn("without a status", self.complaint())

    def test_characters(self) -> None:
        """
        What would harm Tcl becomes blanks for those who look on, and what is private is hidden (1.5).
        """
        self.start("1.1")
        self.assertEqual(
            self.say('htos_operation_update op 1.1 {"a": [1, 2]}', "htos_note sid PRIVATEabc123 x"),
            ["stog_operation_update op 1.1 { a :  1, 2 }", "stog_note sid PRIVATEXXXX x"],
        )

    def test_announced(self) -> None:
        """
        An operation that a hardware server starts itself is told to all, and starts nothing.
        """
        self.assertEqual(self.say("htos_start_operation op 7.1 x"), ["stog_start_operation op 7.1 x"])
        self.say("htos_operation_completed op 7.1 normal")
        self.assertEqual(list(self.hub.complaints), [])


class OthersTests(HubTestCase):
    """Shutters, strings, encoders, ion chambers, and texts."""

    def test_shutter(self) -> None:
        """
        A shutter has the state that is reported, unless it is reported as failed.
        """
        shutter = self.hub.database.get("sh")
        assert isinstance(shutter, Shutter)
        self.assertEqual(self.say("htos_report_shutter_state sh open"), ["stog_report_shutter_state sh open"])
        self.assertEqual(shutter.state, "open")
        self.say("htos_report_shutter_state sh closed no_air")
        self.assertEqual(shutter.state, "open")
        self.assertEqual(self.ends[-1], ("shutter", Completion("sh", "no_air", "closed")))

    def test_string(self) -> None:
        """
        A string is everything behind one blank; the database keeps what those who look on cannot see.
        """
        device = self.hub.database.get("st")
        assert isinstance(device, StringDevice)
        self.assertEqual(
            self.say("htos_set_string_completed st normal  a [b]"), ["stog_set_string_completed st normal  a  b "]
        )
        self.assertEqual(device.contents, " a [b]")
        self.say("htos_set_string_completed st failed other")
        self.assertEqual(device.contents, " a [b]")

    def test_long_string(self) -> None:
        """
        A string that is too long is told in full, and cut in the database.
        """
        device = self.hub.database.get("st")
        assert isinstance(device, StringDevice)
        log, told = self.say("htos_set_string_completed st normal " + "x" * 2000)
        self.assertEqual(log, "stog_log severe server st len=2000 EXCEEDED MAX_STRING_SIZE=1880")
        self.assertTrue(told.endswith("x" * 2000))
        self.assertEqual(len(device.contents), 1879)

    def test_encoder(self) -> None:
        """
        An encoder has the position that is reported, whatever the status.
        """
        self.assertEqual(
            self.say("htos_get_encoder_completed enc 1.5 normal", "htos_set_encoder_completed enc 2 failed"),
            ["stog_get_encoder_completed enc 1.5 normal", "stog_set_encoder_completed enc 2 failed"],
        )
        self.assertEqual([kind for kind, _ in self.ends], ["get_encoder", "set_encoder"])
        self.assertEqual([completion.status for _, completion in self.ends], ["normal", "failed"])

    def test_ion_chambers(self) -> None:
        """
        Each hardware server is asked once, with a repeat of 0 (seen); counts and failures are told to all.
        """
        chambers = [each for each in self.hub.database if isinstance(each, IonChamber)]
        self.told.clear()
        self.hub.read_ion_chambers("0.5", chambers)
        self.assertEqual(self.told, ["stoh_read_ion_chambers 0.5 0 i0"])
        self.assertEqual(self.other_wire.texts[-1], "stoh_read_ion_chambers 0.5 0 i1")
        self.say("htos_report_ion_chambers 0.5 i0 1234", "htos_report_ion_chambers 0 i0 no_beam")
        self.assertEqual(self.ends[0][1].counts, {"i0": 1234.0})
        self.assertEqual(self.ends[1], ("ion_chambers", Completion("i0", "no_beam")))

    def test_unknown_ion_chamber(self) -> None:
        """
        An unknown ion chamber, on which a dcss hangs, is complained of.
        """
        self.assertEqual(self.say("htos_report_ion_chambers 0.5 i9 1234"), [])
        self.assertIn("hangs a dcss", self.complaint())

    def test_passed_on(self) -> None:
        """
        Texts for people are passed on.
        """
        self.assertEqual(
            self.say("htos_log warning loop it is warm", "htos_note no_beam", "htos_limit_hit zoom cw"),
            ["stog_log warning loop it is warm", "stog_note no_beam", "stog_limit_hit zoom cw"],
        )

    def test_refused(self) -> None:
        """
        What a dcss only logs, or does not survive, is complained of, and nothing else happens.
        """
        for text, said in (
            ("htos_set_motor_message phi x", "unknown command"),
            ("", "unknown command"),
            (" htos_note x", "unknown command"),
            ("htos_motor_move_started", "named no device"),
            ("htos_motor_move_started psi 1", "is not in the database"),
            ("htos_motor_move_completed st 1 normal", "is a string"),
            ("htos_report_shutter_state " + "s" * 80 + " open", "crashes a dcss"),
            ("htos_motor_move_completed zoom 1 " + "s" * 80, "crashes a dcss"),
        ):
            self.assertEqual(self.say(text), [])
            self.assertIn(said, self.complaint())

    def test_nul(self) -> None:
        """
        Nothing behind a NUL counts.
        """
        self.assertEqual(self.say("htos_note a \n\0 b"), ["stog_note a"])

    def test_after(self) -> None:
        """
        The rest of a text begins behind one blank.
        """
        self.assertEqual(after("a b  c", 2), " c")
        self.assertEqual(after("a", 2), "")


class OfflineTests(HubTestCase):
    """A hardware server that is not there (dcs.md 3), or goes (5.8)."""

    def setUp(self) -> None:
        super().setUp()
        self.move("zoom", "0.7")
        self.told.clear()
        self.other_wire.texts.clear()
        operation = self.hub.database.get("op")
        assert isinstance(operation, Operation)
        self.hub.start_operation(operation, "1.1", ours=True)
        self.hub.start_operation(operation, "2.1")
        self.told.clear()
        self.hub.disconnected(self.loop, self.wire)

    def test_goes(self) -> None:
        """
        All its devices are reported as failed; of the operations, those that somebody waits for.
        """
        self.assertEqual(
            self.told,
            [
                "stog_configure_hardware_host loop localhost offline",
                "stog_motor_move_completed phi 12.000000 no_hw_host_loop",
                "stog_motor_move_completed zoom 0.500000 no_hw_host_loop",
                "stog_motor_move_completed energy 12000.000000 no_hw_host_loop",
                "stog_report_shutter_state sh unknown no_hw_host_loop",
                "stog_report_ion_chambers 0  i0 hardware_offline",
                "stog_get_encoder_completed enc 0.000000 no_hw_host_loop",
                "stog_set_encoder_completed enc 0.000000 no_hw_host_loop",
                "stog_set_string_completed st no_hw_host_loop ",
                "stog_operation_completed op 1.1 no_hw_host_loop",
            ],
        )
        self.assertIn("stoh_abort_all soft", self.other_wire.texts)
        self.assertEqual(self.hub.operations, {("op", "2.1"): False})

    def test_again(self) -> None:
        """
        Whoever comes back is registered anew, and what an old connection says of its end is nothing.
        """
        again = Wire([])
        self.hub.connected(self.loop, again)
        self.assertEqual(again.texts[0], "stoh_register_real_motor phi phi")
        self.hub.disconnected(self.loop, self.wire)
        self.assertTrue(self.loop.online)

    def test_asked(self) -> None:
        """
        What is asked of its devices fails at once.
        """
        self.assertEqual(
            self.move("zoom", "0.7"),
            [
                "stog_log error server zoom no_hw_host loop",
                "stog_motor_move_completed zoom 0.500000 {no_hw_host loop}",
            ],
        )
        for device, text, told in (
            ("sh", "set_shutter_state sh open", "stog_report_shutter_state sh unknown no_hw_host_loop"),
            ("st", "set_string st a b", "stog_set_string_completed st no_hw_host_loop a b"),
            ("enc", "get_encoder enc", "stog_get_encoder_completed enc 0.000000 no_hw_host_loop"),
            ("phi", "start_oscillation phi sh 1 1", "stog_no_hardware_host phi"),
        ):
            self.told.clear()
            found = self.hub.database.get(device)
            assert found is not None
            self.hub.pass_on(found, text)
            self.assertEqual(self.told, [told])
        operation = self.hub.database.get("op")
        assert isinstance(operation, Operation)
        self.told.clear()
        self.hub.start_operation(operation, "1.2 x")
        self.assertEqual(self.told, ["stog_operation_completed op 1.2 no_hw_host loop"])
        self.assertEqual(self.hub.operations, {("op", "2.1"): False})


NAMES = ["phi", "zoom", "energy", "vm", "sh", "i0", "i1", "enc", "st", "mine", "op", "self", "loop", "nobody"]
ODD = ["-1e400", "nan", "{", "}", '"', "[x]", "", "a b", "\0", "x" * 100]
WORDS = st.sampled_from([*NAMES, *ODD, "1", "0", "normal", "aborted", "open", "soft", "1.1"])


class AnythingTests(HubTestCase):
    @given(st.lists(st.tuples(st.sampled_from(sorted(_HARDWARE)), st.lists(WORDS, max_size=6)), max_size=8))
    def test_hardware(self, said: list[tuple[str, list[str]]]) -> None:
        """
        Whatever a hardware server says, it is acted on or complained of.
        """
        for command, words in said:
            self.say(" ".join([command, *words]))
        for motor in ("phi", "zoom", "energy"):
            self.assertTrue(math.isfinite(self.motor(motor).position))
