"""
Tests for `equipnet.dcs.database`.
"""

from __future__ import annotations

from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from equipnet.dcs.database import (
    Circle,
    Database,
    Encoder,
    HardwareHost,
    IonChamber,
    Operation,
    Permit,
    PseudoMotor,
    RealMotor,
    Run,
    Runs,
    Shutter,
    StringDevice,
    as_number,
    load_database,
    read_database,
)
from equipnet.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "examples" / "dcs" / "database.dat"

HOSTS = "self\n3\nlocalhost 2\n\nh\n3\nbl.example.org 1\n\n"
ALL = "1 1 1 1 1\n"


def section(*lines: str) -> str:
    """Give a whole file: two hosts, a section of these lines, and the end."""
    return HOSTS + "\n".join(lines) + "\n\nEND\n"


class TypesTests(SynchronousTestCase):
    """Each type of device is read in each form that a dcss reads."""

    def read(self, *lines: str) -> object:
        """Give the device that is described by these lines."""
        database = read_database(section(*lines))
        self.assertEqual(len(database), 3)
        return database.get(lines[0])

    def test_real_motor(self) -> None:
        """
        A motor with steps: permits, dependencies, and fourteen fields.
        """
        motor = RealMotor(
            name="phi",
            host="h",
            hardware_name="hw",
            staff=Permit(False),
            users=Permit(False, False),
            dependencies=("a", "b"),
            position=1.5,
            upper_limit=720.0,
            lower_limit=-720.0,
            scale=1000.0,
            speed=5,
            acceleration=6,
            backlash=-7,
            lower_limit_on=True,
            upper_limit_on=False,
            lock_on=True,
            backlash_on=False,
            reverse_on=True,
            circle=Circle.SIGNED,
            units="deg",
        )
        fields = "1.5 720 -720 1000 5 6 -7 1 0 1 0 1 2 deg"
        self.assertEqual(self.read("phi", "1", "h hw", "0 1 1 1 1", "0 0 1 1 1", "a b", fields), motor)
        # the older order
        self.assertEqual(self.read("phi", "1", "h hw", fields, "a b", "0 1 1 1 1", "0 0 1 1 1"), motor)

    def test_pseudo_motor(self) -> None:
        """
        A motor that moves others: its children come last, and 0 is a child.
        """
        motor = PseudoMotor(
            name="energy",
            host="h",
            hardware_name="energy",
            position=12000.0,
            upper_limit=15000.0,
            lower_limit=6000.0,
            upper_limit_on=True,
            children=("0",),
        )
        fields = "12000.0 15e3 6000 0 1 0 0"
        permits = "1 1 1 1 1"
        self.assertEqual(self.read("energy", "2", "h", permits, permits, "0", fields, "0"), motor)
        self.assertEqual(self.read("energy", "2", "h", fields, "0", "0", permits, permits), motor)

    def test_host(self) -> None:
        """
        A hardware server has a computer and a protocol.
        """
        self.assertEqual(
            self.read("dhs", "3", "bl.example.org 1"), HardwareHost(name="dhs", computer="bl.example.org", protocol=1)
        )

    def test_ion_chamber(self) -> None:
        """
        An ion chamber has a counter, a channel and a timer; its permits may be missing.
        """
        chamber = IonChamber(name="i0", host="h", hardware_name="ctr", channel=3, timer="rtc", timer_type="standard")
        self.assertEqual(self.read("i0", "4", "h ctr 3 rtc standard"), chamber)
        self.assertEqual(self.read("i0", "4", "h ctr 3 rtc standard", "1 1 1 1 1", "1 1 1 1 1"), chamber)

    def test_shutter(self) -> None:
        """
        A shutter is open with 0 and closed with 1.
        """
        self.assertEqual(self.read("sh", "6", "h 0"), Shutter(name="sh", host="h", hardware_name="sh", state="open"))
        self.assertEqual(
            self.read("sh", "6", "h 1 hw", "1 1 1 1 1", "0 0 0 0 0"),
            Shutter(name="sh", host="h", hardware_name="hw", state="closed", users=Permit(*[False] * 5)),
        )

    def test_runs(self) -> None:
        """
        Runs need no host.
        """
        self.assertEqual(self.read("run0", "8", "complete 1 a b"), Run(name="run0", definition="complete 1 a b"))
        self.assertEqual(
            self.read("run0", "8", "h", "1 1 1 1 1", "1 1 1 1 1", "x"),
            Run(name="run0", host="h", hardware_name="run0", definition="x"),
        )
        runs = Runs(name="runs", count=4, current=1, active=0, dose_mode=1)
        self.assertEqual(self.read("runs", "9", "4 1 0 1"), runs)

    def test_operation(self) -> None:
        """
        An operation has its permits always.
        """
        self.assertEqual(
            self.read("op", "11", "h", "1 1 1 1 1", "1 1 1 1 1"), Operation(name="op", host="h", hardware_name="op")
        )

    def test_encoder(self) -> None:
        """
        An encoder has no position in the file.
        """
        encoder = Encoder(name="enc", host="h", hardware_name="hw")
        self.assertEqual(self.read("enc", "12", "h hw"), encoder)
        self.assertEqual(self.read("enc", "12", "h hw", "1 1 1 1 1", "1 1 1 1 1"), encoder)

    def test_string(self) -> None:
        """
        A string has contents with an even number of lines, and is empty with an odd one.
        """
        permits = ("1 1 1 1 1", "1 1 1 1 1")
        for lines, contents in (
            (("h",), ""),
            (("h", "a {b} [c]"), "a {b} [c]"),
            (("h", *permits), ""),
            (("h", *permits, "1 1 1 1 1"), "1 1 1 1 1"),
        ):
            self.assertEqual(
                self.read("s", "13", *lines), StringDevice(name="s", host="h", hardware_name="s", contents=contents)
            )


class FileTests(SynchronousTestCase):
    """What is around the sections."""

    def problems(self, text: str) -> list[str]:
        """Give everything that is wrong with a file, as it is printed."""
        error = self.assertRaises(ConfigError, read_database, text, "x.dat")
        return str(error).splitlines()

    def test_example(self) -> None:
        """
        The example's file is right, and nothing in it is amiss.
        """
        database = load_database(EXAMPLE)
        self.assertEqual(database.warnings, ())
        self.assertEqual(
            [device.WORD for device in database.of_host("loopDHS")],
            ["real_motor", "real_motor", "shutter", "string", "ion_chamber", "operation", "operation", "operation"],
        )

    def test_blanks(self) -> None:
        """
        Lines are trimmed, any number of blank ones separates, and the ends of lines may be those of Windows.
        """
        text = HOSTS.replace("\n", "\r\n") + "\n \t\n  op \n\t11\n h\n 1 1 1 1 1 \n1 1 1 1 1\n\n\nEND"
        self.assertEqual([device.name for device in read_database(text)], ["self", "h", "op"])

    def test_warnings(self) -> None:
        """
        What a dcss needs, or warns of, is told and refused by nobody.
        """
        self.assertEqual(
            read_database("h\n3\nlocalhost 2\n").warnings,
            (
                "there is no host 'self', without which a dcss does not start",
                "the section END is missing",
                "there is no string beamlineID, without which a dcss does not start",
            ),
        )

    def test_every_problem(self) -> None:
        """
        Everything that is wrong is told at once, each with its line.
        """
        text = (
            "self\n3\nlocalhost 2\n\n"  # 1-3
            "self\n3\nlocalhost 2\n\n"  # 5
            "loop\n3\nlocalhost two\n\n"  # 9-11
            "thing\n14\nself\n\n"  # 13-15
            "op\n11\nsefl\n1 1 1 1 1\n1 1 1 1 1\n\n"  # 17-21
            "op2\n11\nself\n1 1 1 1\n1 1 1 1 1\n\n"  # 23-27
            "m\n1\nself\n1 1 1 1 1\n1 1 1 1 1\n0\n1 2 x 4 5 6 7 1 1 1 1 1 0\n\n"  # 29-35
            "c\n4\nself ctr\n\n"  # 37
            "lonely\n\n"  # 41
            "END\n\nmore\n"  # 43-45
        )
        self.assertEqual(
            self.problems(text),
            [
                "x.dat:5: there is a device 'self' already, in line 1",
                "x.dat:11: protocol is 'two', not a whole number",
                "x.dat:14: there are no devices of type 14",
                "x.dat:19: there is no hardware host 'sefl'; did you mean 'self'?",
                "x.dat:26: the permit of staff is '1 1 1 1', not five flags such as '1 1 1 1 1'",
                "x.dat:35: the lower limit is 'x', not a number",
                "x.dat:39: the channel is missing in 'self ctr'",
                "x.dat:41: the device 'lonely' has no type",
                "x.dat:45: there is something after the section END",
            ],
        )

    def test_numbers(self) -> None:
        """
        Numbers, flags and circle modes are what they should be, and no more of them.
        """
        good = "1 2 3 4 5 6 7 1 1 1 1 1 0"
        for bad, said in (
            ("nan 2 3 4 5 6 7 1 1 1 1 1 0", "the position is 'nan', not a number"),
            ("1_0 2 3 4 5 6 7 1 1 1 1 1 0", "the position is '1_0', not a number"),
            ("1 2 3 4 5.5 6 7 1 1 1 1 1 0", "the speed is '5.5', not a whole number"),
            ("1 2 3 4 5 6 7 2 1 1 1 1 0", "the lower limit on is '2', not 0 or 1"),
            ("1 2 3 4 5 6 7 1 1 1 1 1 5", "the circle mode is 5, not one of 0 to 4"),
            (good + " mm too", "there is 'too' too much in"),
        ):
            (line,) = self.problems(section("m", "1", "h", ALL.strip(), ALL.strip(), "0", bad))
            self.assertIn(said, line)
            self.assertTrue(line.startswith("x.dat:15: "), line)

    def test_limits(self) -> None:
        """
        What does not fit into the fields of a dcss is refused, rather than cut.
        """
        permits = ("1 1 1 1 1", "1 1 1 1 1")
        self.assertEqual(len(read_database(section("n" * 39, "11", "h", *permits))), 3)
        for lines, number, said in (
            (("n" * 40, "11", "h", *permits), 9, "the name has 40 characters, more than 39"),
            (("s", "13", "h", *permits, "x" * 1024), 14, "has 1024 characters, more than 1023"),
            (("s", "13", "h", *permits, "caf\xe9"), 14, "has a character that is not printable ASCII"),
            (("s", "13", "h", *permits, "1", "2"), 15, "the section of 's' has 7 lines, not 3 or 4 or 5 or 6"),
            (("m", "1", *["x"] * 9), 19, "the section of 'm' has more than 10 lines"),
            (("h2", "3", "x" * 255 + " 2"), 11, "the computer has 255 characters, more than 254"),
            (("r", "8", "x" * 800), 11, "the run has 800 characters, more than 799"),
        ):
            (line,) = self.problems(section(*lines))
            self.assertTrue(line.startswith(f"x.dat:{number}: "), line)
            self.assertIn(said, line)

    def test_too_many(self) -> None:
        """
        A dcss holds a thousand devices.
        """
        text = "".join(f"h{n}\n3\nlocalhost 2\n\n" for n in range(1001))
        self.assertEqual(self.problems(text), ["x.dat:0: there are 1001 devices, more than the 1000 that a dcss holds"])

    def test_no_file(self) -> None:
        """
        A file that is not there is an error with its name.
        """
        error = self.assertRaises(ConfigError, load_database, "/nowhere/database.dat")
        self.assertEqual(str(error), "/nowhere/database.dat:0: cannot be read: No such file or directory")

    def test_written(self) -> None:
        """
        What is written is read again as the same devices.
        """
        database = load_database(EXAMPLE)
        again = read_database(database.to_text())
        self.assertEqual(list(again), list(database))
        self.assertEqual(again.to_text(), database.to_text())

    @given(st.text(st.sampled_from("ab013 \n{}.-E"), max_size=300))
    def test_anything(self, text: str) -> None:
        """
        Whatever a file holds, it is read or refused with lines that are there.
        """
        try:
            read_database(text)
        except ConfigError as error:
            for problem in error.problems:
                self.assertTrue(0 <= problem.line <= text.count("\n") + 3)


class MessagesTests(SynchronousTestCase):
    """What is told of a device."""

    def setUp(self) -> None:
        self.database = read_database(
            section(
                "m", "1", "h hw", "1 1 1 1 1", "1 1 1 1 1", "a b", "370.5 720 -720 1000 5 6 -7 1 0 1 0 1 1 deg"
            ).replace("END\n", "")
            + "p\n2\nh\n1 1 1 1 1\n1 1 1 1 1\nm\n12 15 6 1 0 0 0 eV\nm n\n\n"
            "q\n2\nh\n1 1 1 1 1\n1 1 1 1 1\n0\n12 15 6 1 0 0 0 eV\nm\n\n"
            "i\n4\nh ctr 3 rtc standard\n\n"
            "sh\n6\nh 1 filter\n\n"
            "op\n11\nh opHW\n1 1 1 1 1\n1 1 1 1 1\n\n"
            "enc\n12\nh\n\n"
            "st\n13\nh\na {b} [c]\n\n"
            "mine\n13\nself standardString\n\n"
            "run\n8\nh\n1 1 1 1 1\n1 1 1 1 1\ndefinition\n\n"
            "runs\n9\n4 1 0 1\n\nEND\n"
        )

    def test_registrations(self) -> None:
        """
        The burst is in the order of the file, and the relations of the motors come at its end; children are told only
        of pseudo motors with dependencies.
        """
        # dcs.md 2a; which of them end with a line feed: 1.3
        self.assertEqual(
            list(self.database.registrations("h")),
            [
                "register_real_motor m hw",
                "register_pseudo_motor p p",
                "register_pseudo_motor q q",
                "register_ion_chamber i ctr 3 rtc standard\n",
                "register_shutter sh closed filter\n",
                "register_operation op opHW\n",
                "register_encoder enc enc\n",
                "register_string st st\n",
                "set_motor_dependency m a b",
                "set_motor_dependency p m",
                "set_motor_children p m n",
            ],
        )

    def test_configurations(self) -> None:
        """
        Each device is configured with its own arguments.
        """
        self.assertEqual(
            [device.configuration() for device in self.database][1:],
            [
                "configure_hardware_host h bl.example.org offline",
                "configure_real_motor m h hw 370.500000 720.000000 -720.000000 1000.000000 5 6 -7 1 0 1 0 1 0",
                "configure_pseudo_motor p h p 12.000000 15.000000 6.000000 1 0 0 0",
                "configure_pseudo_motor q h q 12.000000 15.000000 6.000000 1 0 0 0",
                "configure_ion_chamber i h ctr 3 rtc standard",
                "configure_shutter sh h closed",
                "configure_operation op h",
                "configure_encoder enc h 0.000000 0.000000",
                "configure_string st h a {b} [c]",
                "configure_string mine self ",
                "configure_run run definition",
                "configure_runs runs 4 1 0 1",
            ],
        )

    def test_shown(self) -> None:
        """
        Those who look on see the position in the circle, and the position stays what it is.
        """
        motor = self.database.get("m")
        assert isinstance(motor, RealMotor)
        self.assertIn(" h hw 10.500000 720.0", motor.shown_configuration())
        self.assertEqual(motor.position, 370.5)

    def test_parents(self) -> None:
        """
        The parents of a motor are the pseudo motors that have it as a child.
        """
        self.assertEqual([motor.name for motor in self.database.parents("m")], ["p", "q"])

    def test_two_of_one_name(self) -> None:
        """
        No two devices have one name.
        """
        device = Operation(name="op")
        self.assertRaises(ValueError, Database, [device, device])


class LimitsTests(SynchronousTestCase):
    """Which moves the limits allow."""

    def test_in_force(self) -> None:
        """
        A limit counts when it is on; on the limit is inside.
        """
        motor = RealMotor(name="m", upper_limit=10, lower_limit=-10, upper_limit_on=True)
        self.assertTrue(motor.within_limits(10))
        self.assertFalse(motor.within_limits(10.001))
        self.assertTrue(motor.within_limits(-100))
        motor.lower_limit_on = True
        self.assertFalse(motor.within_limits(-100))

    def test_backlash(self) -> None:
        """
        A move against the backlash leads past its destination by the backlash.
        """
        motor = RealMotor(
            name="m", lower_limit=-10, upper_limit=10, lower_limit_on=True, upper_limit_on=True, scale=100, backlash=50
        )
        self.assertTrue(motor.within_limits(-9.9))
        motor.backlash_on = True
        self.assertEqual(motor.overshoot(-9.9), -10.4)
        self.assertFalse(motor.within_limits(-9.9))
        self.assertTrue(motor.within_limits(9.9))
        motor.backlash = -50
        self.assertTrue(motor.within_limits(-9.9))
        self.assertFalse(motor.within_limits(9.9))


class CircleTests(SynchronousTestCase):
    """Positions of motors that turn round and round."""

    def test_literal(self) -> None:
        """
        Each mode has its range, and the correction is a multiple of 360.
        """
        for circle, position, correction, shown in (
            (Circle.NONE, 1000.0, 0, 1000.0),
            (Circle.FULL, 0.0, 0, 0.0),
            (Circle.FULL, 360.0, -360, 0.0),
            (Circle.FULL, -6.0, 360, 354.0),
            (Circle.FULL_SHOWN, 725.0, -720, 5.0),
            (Circle.SIGNED, 180.0, -360, -180.0),
            (Circle.SIGNED, -180.0, 0, -180.0),
            (Circle.SIGNED_SHOWN, 190.0, -360, -170.0),
            (Circle.FULL, float("inf"), 0, float("inf")),
        ):
            self.assertEqual((circle.correction(position), circle.shown(position)), (correction, shown))

    @given(st.sampled_from([Circle.FULL, Circle.SIGNED]), st.floats(-1e6, 1e6))
    @example(Circle.FULL, -5e-324)  # so near below 0 that a 360th of it is 0
    def test_in_range(self, circle: Circle, position: float) -> None:
        """
        Whatever the position, the correction brings it into the range, up to rounding.
        """
        start = 0 if circle is Circle.FULL else -180
        self.assertEqual(circle.correction(position) % 360, 0)
        self.assertTrue(start - 1e-9 <= circle.shown(position) <= start + 360)


class NumbersTests(SynchronousTestCase):
    def test_as_number(self) -> None:
        """
        Numbers are those of C.
        """
        self.assertEqual(as_number("-1.5e3"), -1500.0)
        for word in ("", "abc", "1_0", "1,5"):
            self.assertIsNone(as_number(word))
