"""
Tests for `equipnet.dcs.gui`. What is sent and answered stands in dcs.md 3.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from equipnet.dcs.database import Motor, read_database
from equipnet.dcs.gui import _FOR_DEVICES, _PLAIN, GUI_QUEUE, GuiProtocol
from equipnet.dcs.message import GenericMessage
from equipnet.dcs.simulator import DcssSimulator, HardwareProtocol
from equipnet.errors import EquipmentConnectionError

from .test_hub import WORDS
from .test_simulator import Wire, framed, texts_of

ACTIVE = "0 1 1 1 1\n0 1 1 1 1\n"

DATABASE = (
    "self\n3\nlocalhost 2\n\n"
    "loop\n3\nlocalhost 2\n\n"
    f"phi\n1\nloop phi\n{ACTIVE}sh\n365 720 -720 1000 5 6 0 1 1 0 0 0 3 deg\n\n"
    f"energy\n2\nloop energy\n{ACTIVE}phi\n12 15 6 1 1 0 0\nphi\n\n"
    f"sh\n6\nloop 1 sh\n{ACTIVE}\n"
    f"i0\n4\nloop ctr 0 rtc standard\n{ACTIVE}\n"
    f"enc\n12\nloop enc\n{ACTIVE}\n"
    f"st\n13\nloop st\n{ACTIVE}a [b]\n\n"
    f"op\n11\nloop op\n{ACTIVE}\n"
    f"free\n11\nloop free\n1 1 1 1 1\n1 1 1 1 1\n\n"
    "END\n"
)


class Gui:
    """One GUI, and what it has been told."""

    def __init__(self, dcss: DcssSimulator) -> None:
        protocol = dcss.gui.admit(None)
        assert isinstance(protocol, GuiProtocol)
        self.protocol = protocol
        self.wire = Wire()
        protocol.makeConnection(self.wire)

    def log_in(self, user: str = "ann", display: str = ":0") -> list[str]:
        """Say who it is; give what it is told."""
        self.told()
        line = f"gtos_client_is_gui {user} session localhost {display}"
        self.protocol.dataReceived(line.encode().ljust(200, b"\0"))
        return self.told()

    def told(self) -> list[str]:
        """Give what it has been told since the last time."""
        texts = texts_of(self.wire.value())
        self.wire.clear()
        return texts

    def say(self, *texts: str) -> list[str]:
        """Say something; give what it is told."""
        self.told()
        self.protocol.dataReceived(b"".join(map(framed, texts)))
        return self.told()


class GuiTestCase(SynchronousTestCase):
    """A simulator with a hardware server and one GUI, which is logged in."""

    def setUp(self) -> None:
        self.simulate()

    def simulate(self, **settings: Any) -> None:
        """Make them."""
        self.clock = Clock()
        self.dcss = DcssSimulator(read_database(DATABASE), reactor=self.clock, **settings)
        server = self.dcss.admit(None)
        assert isinstance(server, HardwareProtocol)
        self.server, self.wire = server, Wire()
        self.server.makeConnection(self.wire)
        self.server.dataReceived(b"htos_client_is_hardware loop".ljust(200, b"\0"))
        self.wire.clear()
        self.gui = Gui(self.dcss)
        self.burst = self.gui.log_in()

    def sent(self) -> list[str]:
        """Give what the hardware server has been sent since the last time."""
        texts = texts_of(self.wire.value())
        self.wire.clear()
        return texts

    def hardware_says(self, *texts: str) -> None:
        """Let the hardware server say something."""
        self.server.dataReceived(b"".join(map(framed, texts)))


class LoginTests(GuiTestCase):
    """How a GUI logs in."""

    def test_question(self) -> None:
        """
        A GUI is asked in protocol 2, where a hardware server is asked in protocol 1.
        """
        gui = Gui(self.dcss)
        self.assertEqual(gui.wire.value(), b"          22            0 stoc_send_client_type\0")

    def test_burst(self) -> None:
        """
        It is told its number, who else is there, and each device with its permits; positions are in the circle.
        """
        self.assertEqual(
            self.burst,
            [
                "stog_login_complete 2",
                "stog_update_client_list 1",
                "stog_update_client 2 ann {ann} LOCAL {} 1 1 localhost {LOCAL} 0 0",
                "stog_set_permission_level 1 1 LOCAL",
                "stog_configure_hardware_host self localhost offline",
                "stog_device_permission_bit self {1 1 1 1 1} {1 1 1 1 1}",
                "stog_configure_hardware_host loop localhost online",
                "stog_device_permission_bit loop {1 1 1 1 1} {1 1 1 1 1}",
                "stog_configure_real_motor phi loop phi 5.000000 720.000000 -720.000000 1000.000000 5 6 0 1 1 0 0 0 0",
                "stog_device_permission_bit phi {0 1 1 1 1} {0 1 1 1 1}",
                "stog_configure_pseudo_motor energy loop energy 12.000000 15.000000 6.000000 1 1 0 0",
                "stog_device_permission_bit energy {0 1 1 1 1} {0 1 1 1 1}",
                "stog_configure_shutter sh loop closed",
                "stog_device_permission_bit sh {0 1 1 1 1} {0 1 1 1 1}",
                "stog_configure_ion_chamber i0 loop ctr 0 rtc standard",
                "stog_device_permission_bit i0 {0 1 1 1 1} {0 1 1 1 1}",
                "stog_configure_encoder enc loop 0.000000 0.000000",
                "stog_device_permission_bit enc {0 1 1 1 1} {0 1 1 1 1}",
                "stog_configure_string st loop a  b ",
                "stog_device_permission_bit st {0 1 1 1 1} {0 1 1 1 1}",
                "stog_configure_operation op loop",
                "stog_device_permission_bit op {0 1 1 1 1} {0 1 1 1 1}",
                "stog_configure_operation free loop",
                "stog_device_permission_bit free {1 1 1 1 1} {1 1 1 1 1}",
                "stog_set_motor_base_units phi deg",
                "stog_set_motor_dependency phi sh",
                "stog_set_motor_base_units energy",
                "stog_set_motor_dependency energy phi",
                "stog_set_motor_children energy phi",
                "stog_dcss_end_update_all_device",
            ],
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_too_late(self) -> None:
        """
        The 200 bytes have one second.
        """
        gui = Gui(self.dcss)
        gui.protocol.dataReceived(b"gtos_client_is_gui ann")
        self.clock.advance(1.1)
        self.assertTrue(gui.wire.aborted)

    def test_refused(self) -> None:
        """
        All four words are needed, and there is nobody to decipher a session.
        """
        for line in (b"gtos_client_is_gui ann session localhost", b"x ann DCS_CYPHER localhost :0"):
            gui = Gui(self.dcss)
            gui.told()
            gui.protocol.dataReceived(line.ljust(200, b"\0"))
            (text,) = gui.told()
            self.assertRegex(text, r"^stog_authentication_failed \d$")
            self.assertTrue(gui.wire.disconnecting)

    def test_others_hear(self) -> None:
        """
        Those who are there hear of those who come and go.
        """
        other = Gui(self.dcss)
        other.log_in("bob", ":1")
        self.assertEqual(
            self.gui.told(),
            [
                "stog_update_client_list 2",
                "stog_update_client 2 ann {ann} LOCAL {} 1 1 localhost {LOCAL} 0 0",
                "stog_update_client 3 bob {bob} LOCAL {} 1 1 localhost {LOCAL} 0 0",
            ],
        )
        other.protocol.connectionLost(Failure(EquipmentConnectionError("gone")))
        self.assertEqual(self.gui.told()[0], "stog_update_client_list 1")


class MasterTests(GuiTestCase):
    """Who may do something."""

    def setUp(self) -> None:
        super().setUp()
        self.other, self.same = Gui(self.dcss), Gui(self.dcss)
        self.other.log_in("bob", ":1")
        self.same.log_in("ann", ":0")
        for gui in (self.gui, self.other, self.same):
            gui.told()

    def masters(self) -> list[int]:
        """Give the numbers of the masters."""
        return [gui.client_id for gui in self.dcss.gui.guis if gui.is_master]

    def test_become_master(self) -> None:
        """
        All GUIs of one display become master together, and nobody is asked before.
        """
        told = self.gui.say("gtos_become_master force")
        self.assertEqual(told[:2], ["stog_become_master", "stog_update_client_list 3"])
        self.assertEqual(told[2], "stog_update_client 2 ann {ann} LOCAL {} 1 1 localhost {LOCAL} 1 0")
        self.assertEqual(self.same.told()[0], "stog_become_master")
        self.assertEqual(self.masters(), [2, 4])
        self.other.say("gtos_become_master noforce")
        self.assertEqual(self.gui.told()[0], "stog_become_slave")
        self.assertEqual(self.masters(), [3])

    def test_become_slave(self) -> None:
        """
        They become slaves together as well.
        """
        self.gui.say("gtos_become_master")
        self.assertEqual(self.same.say("gtos_become_slave")[0], "stog_become_slave")
        self.assertEqual(self.masters(), [])

    def test_slave(self) -> None:
        """
        A slave is told, and nobody else, that it may not; where the permits say so, it may.
        """
        for text, answer in (
            ("gtos_start_motor_move phi 6", "stog_motor_move_completed phi 5.000000 must_be_active"),
            ("gtos_start_operation op 2.1", "stog_operation_completed op 2.1 must_be_active"),
            ("gtos_set_shutter_state sh open", "stog_report_shutter_state sh unknown must_be_active"),
            ("gtos_set_string st x y", "stog_set_string_completed st must_be_active x y"),
            ("gtos_get_encoder enc", "stog_get_encoder_completed enc 0.000000 must_be_active"),
        ):
            name = text.split()[1]
            log = f"stog_log error server {name} permit check failed: must_be_active"
            self.assertEqual(self.gui.say(text), [log, answer])
        self.assertEqual(
            self.gui.say("gtos_read_ion_chambers 1 0 i0"),
            [
                "stog_log error server i0 permit check failed: must_be_active",
                "stog_report_ion_chambers 0  i0 must_be_active",
            ],
        )
        self.assertEqual((self.other.told(), self.sent()), ([], []))
        self.gui.say("gtos_start_operation free 2.1")
        self.assertEqual(self.sent(), ["stoh_start_operation free 2.1"])

    def test_abort_all(self) -> None:
        """
        Everybody may abort all, in any words.
        """
        self.gui.say("gtos_abort_all hard", "gtos_abort_all", "gtos_abort_all now please")
        self.assertEqual(self.sent(), ["stoh_abort_all hard", "stoh_abort_all", "stoh_abort_all now please"])

    def test_no_staff(self) -> None:
        """
        What is for staff is not done for users.
        """
        self.simulate(staff=False, location="REMOTE")
        self.assertIn("stog_set_permission_level 0 1 REMOTE", self.burst)
        self.gui.say("gtos_become_master")
        self.assertEqual(
            self.gui.say("gtos_set_motor_position phi 1"),
            ["stog_log error server phi permit check failed: no_permission"],
        )


class CommandsTests(GuiTestCase):
    """What a master asks for, and what all are told of it."""

    def setUp(self) -> None:
        super().setUp()
        self.looker = Gui(self.dcss)
        self.looker.log_in("bob", ":1")
        self.gui.say("gtos_become_master force")
        self.looker.told()

    def asked(self, text: str) -> list[str]:
        """Ask for something; give what the hardware server is sent."""
        self.gui.say(text)
        return self.sent()

    def test_passed_on(self) -> None:
        """
        Most of what is asked goes to the hardware server with another beginning, and otherwise as it is.
        """
        for text in (
            "set_shutter_state sh open now",
            "set_string st a  b",
            "get_encoder enc",
            "set_encoder enc 1.50",
            "start_oscillation phi NULL 1 0.5",
            "start_vector_move phi energy 1 2 0.5",
            "stop_vector_move phi energy",
            "change_vector_speed phi energy 1",
            "abort_motor_move phi soft",
        ):
            self.assertEqual(self.asked(f"gtos_{text}"), [f"stoh_{text}"])

    def test_move(self) -> None:
        """
        A move is checked by the engine, and everybody sees it.
        """
        self.assertEqual(self.asked("gtos_start_motor_move phi 10"), ["stoh_start_motor_move phi 370.000000"])
        self.hardware_says("htos_motor_move_started phi 370", "htos_motor_move_completed phi 370 normal")
        for gui in (self.gui, self.looker):
            self.assertEqual(
                gui.told()[-2:],
                ["stog_motor_move_started phi 10.000000", "stog_motor_move_completed phi 10.000000 normal"],
            )
        # circle mode 3: for those who look on only
        self.assertEqual(self.sent(), [])
        self.assertEqual(self.asked("gtos_start_motor_move energy 16"), ["stoh_abort_all soft"])

    def test_operation(self) -> None:
        """
        The handle of an operation begins with the number of the GUI.
        """
        self.assertEqual(self.asked("gtos_start_operation op 2.1 {a b}"), ["stoh_start_operation op 2.1 {a b}"])
        self.assertEqual(self.looker.told(), ["stog_start_operation op 2.1 {a b}"])
        self.assertEqual(
            self.gui.say("gtos_start_operation op 3.1 x"), ["stog_operation_completed op 3.1 not_honest_client"]
        )
        self.assertEqual(
            self.gui.say("gtos_start_operation op"), ["stog_operation_completed op 0.0 missing_operation_Id"]
        )
        self.assertEqual(self.asked("gtos_stop_operation op"), ["stoh_stop_operation op"])
        self.assertEqual(self.looker.told(), ["stog_stop_operation op"])

    def test_ion_chambers(self) -> None:
        """
        The engine asks for ion chambers with a repeat of 0.
        """
        self.assertEqual(self.asked("gtos_read_ion_chambers 0.5 2 i0"), ["stoh_read_ion_chambers 0.5 0 i0"])

    def test_staff(self) -> None:
        """
        Staff tells motors where they are, and configures them: all are told at once, and then the hardware server.
        """
        self.assertEqual(self.asked("gtos_set_motor_position phi 370"), ["stoh_set_motor_position phi 10.000000"])
        self.assertEqual(
            self.asked("gtos_configure_device energy 13 14"),
            ["stoh_configure_pseudo_motor energy loop energy 13.000000 14.000000 6.000000 1 1 0 0"],
        )
        self.assertEqual(
            self.looker.told(), ["stog_configure_pseudo_motor energy loop energy 13.000000 14.000000 6.000000 1 1 0 0"]
        )
        motor = self.dcss.device("energy")
        assert isinstance(motor, Motor)
        self.assertEqual(motor.upper_limit, 14.0)

    def test_plain(self) -> None:
        """
        A GUI may ask who is there, and tell all something; what harms Tcl is taken out.
        """
        self.assertEqual(self.gui.say("gtos_inquire_gui_clients")[0], "stog_update_client_list 2")
        self.gui.say("gtos_log note ann [hello]")
        self.assertEqual(self.looker.told(), ["stog_log note ann  hello "])

    def test_wrong(self) -> None:
        """
        What is unknown is told to the GUI alone.
        """
        for text, answer in (
            ("gtos_x 1", "stog_log error server Unrecognized command: gtos_x."),
            ("gtos_start_motor_move psi 1", "stog_log error server psi permit check failed: not_exist"),
            ("gtos_start_motor_move sh 1", "stog_log error server sh permit check failed: type_not_motor"),
            ("gtos_start_operation phi 2.1", "stog_log error server phi permit check failed: not_exist"),
            ("gtos_start_motor_move", "stog_log error server  permit check failed: not_exist"),
        ):
            self.assertEqual(self.gui.say(text)[0], answer)
        self.assertEqual((self.looker.told(), self.sent()), ([], []))

    def test_does_not_read(self) -> None:
        """
        A GUI that does not take what it is told is disconnected, and the others are not.
        """
        self.gui.protocol.pauseProducing()
        for _ in range(2 + GUI_QUEUE // 100_000):
            self.hardware_says("htos_note " + "x" * 100_000)
        self.flushLoggedErrors()
        self.assertTrue(self.gui.wire.aborted)
        self.assertFalse(self.looker.wire.aborted)

    @given(st.lists(st.tuples(st.sampled_from(sorted({**_PLAIN, **_FOR_DEVICES})), st.lists(WORDS, max_size=6))))
    def test_anything(self, said: list[tuple[str, list[str]]]) -> None:
        """
        Whatever a GUI says, nothing breaks.
        """
        for command, words in said:
            self.gui.protocol.message_received(GenericMessage(" ".join([command, *words]).replace("\0", "")), b"")
        self.assertFalse(self.gui.protocol.hanging_up)
