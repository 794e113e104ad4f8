"""Tests of the devices: registration, moves, shutters, ion chambers, encoders, strings."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from equipnet.dcs import (
    Encoder,
    HardwareServer,
    IonChamber,
    Motor,
    MotorConfiguration,
    ObjectDevice,
    OperationFailed,
    PseudoMotor,
    Shutter,
    StringDevice,
)
from equipnet.errors import LocalProtocolError

from .doubles import CONFIGURATION, DhsTestCase


class Phi(Motor):
    """A motor whose hardware is the test."""

    name = "phi"

    def __init__(self) -> None:
        self.targets: list[float] = []
        self.aborts: list[bool] = []
        self.speeds: list[float] = []
        self.report: Any = None
        self.stops: Deferred[Any] = Deferred()
        self.stops_at: float | None = None

    async def move(self, target: float, report: Any) -> Any:
        self.targets.append(target)
        self.report = report
        self.stops = Deferred()
        try:
            return await self.stops
        except CancelledError:
            if self.stops_at is None:
                raise
            return self.stops_at

    def abort(self, hard: bool) -> None:
        self.aborts.append(hard)

    def change_speed(self, speed: float) -> None:
        self.speeds.append(speed)


class Kappa(Motor):
    """A motor that is where it should be at once; it knows itself."""

    name = "kappa"
    position = 5.0
    configuration = MotorConfiguration(upper_limit=90, lower_limit=-90, scale_factor=100, speed=2000, lock_on=False)

    def move(self, target: float, report: Any) -> float:
        return target


class Table(Motor):
    """A motor that blocks."""

    name = "table"
    thread = True
    position = 0.0

    def move(self, target: float, report: Any) -> float:
        report(target / 2)
        return target


class Energy(PseudoMotor):
    name = "energy"
    position = 12000.0
    configuration = MotorConfiguration(13000, 6000)


class SampleShutter(Shutter):
    name = "shutter"

    def __init__(self) -> None:
        self.states: list[str] = []
        self.waits: Deferred[None] | None = None

    async def set_state(self, state: str) -> None:
        self.states.append(state)
        if self.waits is not None:
            await self.waits
        if state == "open" and len(self.states) > 3:
            raise OperationFailed("stuck")


class I0(IonChamber):
    name = "i0"

    async def count(self, seconds: float) -> int:
        return int(1000 * seconds)


class I1(IonChamber):
    name = "i1"

    def __init__(self) -> None:
        self.counts: Deferred[float] = Deferred()

    def count(self, seconds: float) -> Deferred[float]:
        return self.counts


class Wavelength(Encoder):
    name = "wavelength"

    def get(self) -> float:
        return 1.5


class Status(StringDevice):
    name = "status"


class Choice(StringDevice):
    name = "choice"

    async def set(self, contents: str) -> str:
        if contents == "bad":
            raise ValueError("not {that")
        return contents.upper()


class Thing(ObjectDevice):
    name = "thing"


class DeviceServer(HardwareServer):
    dhs_name = "loopDHS"
    devices = (Phi, Kappa, Table, Energy, SampleShutter, I0, I1, Wavelength, Status, Choice, Thing)


class DeviceTestCase(DhsTestCase):
    """A server with a device of each sort."""

    def setUp(self) -> None:
        self.server = DeviceServer()
        self.connect(self.server)

    def register_phi(self) -> Phi:
        """Let phi stand at 10, as dcss says."""
        self.say("stoh_register_real_motor phi phi_hw", CONFIGURATION.format(name="phi"))
        self.heard()
        phi: Phi = self.server.device("phi")
        return phi


class RegistrationTests(DeviceTestCase):
    """What dcss hears of each device when it registers it."""

    def test_motors(self) -> None:
        """A motor that knows itself says so; of another one dcss is asked."""
        self.say(
            "stoh_register_real_motor phi phi_hw",
            "stoh_register_real_motor kappa kappa_hw",
            "stoh_register_real_motor table table",
            "stoh_register_pseudo_motor energy energy",
        )
        self.assertEqual(
            self.heard(),
            [
                "htos_send_configuration phi",
                "htos_configure_device kappa 5.0 90 -90 100 2000 1 0 1 1 0 0 0",
                "htos_configure_device table 0.0",
                "htos_send_configuration table",
                "htos_configure_device energy 12000.0 13000 6000 1 1 0",
            ],
        )
        self.assertEqual(self.server.device("phi").hardware_name, "phi_hw")

    def test_configuration_is_adopted(self) -> None:
        """What dcss knows is the motor's from then on, and is what dcss hears after a reconnection."""
        phi = self.register_phi()
        self.assertEqual(phi.position, 10.0)
        self.assertEqual(phi.configuration, MotorConfiguration(100.0, -100.0, 1.0, 1, 1, 0, True, True))
        self.come_back()
        self.assertFalse(phi.registered)
        self.say("stoh_register_real_motor phi phi_hw")
        self.assertEqual(self.heard(), ["htos_configure_device phi 10.0 100.0 -100.0 1.0 1 1 0 1 1 0 0 0"])

    def test_dependencies_and_children(self) -> None:
        """Motors know what dcss says of others."""
        self.say("stoh_set_motor_dependency phi kappa", "stoh_set_motor_children energy phi kappa")
        self.assertEqual(self.server.device("phi").dependencies, ("kappa",))
        self.assertEqual(self.server.device("energy").children, ("phi", "kappa"))

    def test_the_others(self) -> None:
        """Shutters, strings and encoders are reported as they are, or taken as dcss has them."""
        self.server.device("choice").contents = "mine"
        self.say(
            "stoh_register_shutter shutter open hw\n",
            "stoh_register_string status standardString\n",
            "stoh_register_string choice standardString\n",
            "stoh_register_encoder wavelength hw\n",
            "stoh_register_ion_chamber i0 counter 3 timer standard\n",
            "stoh_register_object thing hw",
        )
        self.assertEqual(
            self.heard(),
            [
                "htos_report_shutter_state shutter open",
                "htos_send_configuration status",
                "htos_set_string_completed choice normal mine",
                "htos_send_configuration wavelength",
            ],
        )
        self.assertEqual(self.server.device("i0").channel, 3)
        self.say(
            "stoh_configure_string status loopDHS what it was", "stoh_configure_encoder wavelength loopDHS 2.0 2.0"
        )
        self.assertEqual(self.server.device("status").contents, "what it was")
        self.assertEqual(self.server.device("wavelength").position, 2.0)

    def test_what_we_do_not_have(self) -> None:
        """A device that nobody wrote harms nobody; a motor of that kind refuses its moves."""
        self.say(
            "stoh_register_shutter nobody open hw",
            "stoh_register_string phi hw",
            "stoh_register_real_motor omega hw",
            CONFIGURATION.format(name="omega"),
            "stoh_start_motor_move omega 20",
        )
        self.assertEqual(
            self.heard(), ["htos_send_configuration omega", "htos_motor_move_completed omega 10.0 no_device"]
        )

    def test_devices_by_name(self) -> None:
        """A name that is not there says which are."""
        error = self.assertRaises(KeyError, self.server.device, "nobody")
        self.assertIn("'shutter'", str(error))


class MoveTests(DeviceTestCase):
    """Every move that was accepted has one start and one completion."""

    def test_a_move(self) -> None:
        """Started, where it is, and completed with where it has stopped."""
        phi = self.register_phi()
        self.say("stoh_start_motor_move phi 30.500000")
        phi.report(20)
        phi.stops.callback(30.4)
        self.assertEqual(
            self.heard(),
            [
                "htos_motor_move_started phi 30.5",
                "htos_update_motor_position phi 20 normal",
                "htos_motor_move_completed phi 30.4 normal",
            ],
        )
        self.assertEqual(phi.position, 30.4)
        phi.report(99)
        self.assertEqual((self.heard(), phi.position), ([], 30.4))

    def test_failures(self) -> None:
        """The status is the reason, one word of it; the motor is where it was seen last."""
        phi = self.register_phi()
        self.say("stoh_start_motor_move phi 30")
        phi.report(20)
        phi.stops.errback(OperationFailed("cw_hw_limit", "ignored"))
        self.say("stoh_start_motor_move phi 30")
        phi.stops.errback(KeyError("two words"))
        self.say("stoh_start_motor_move phi 30")
        phi.stops.callback(float("nan"))
        lines = [line for line in self.heard() if "completed" in line]
        self.assertEqual(
            lines,
            [
                "htos_motor_move_completed phi 20 cw_hw_limit",
                "htos_motor_move_completed phi 20 KeyError",
                "htos_motor_move_completed phi 20 LocalProtocolError",
            ],
        )
        self.flushLoggedErrors(KeyError, LocalProtocolError)

    def test_refusals(self) -> None:
        """What cannot be moved is completed without a start."""
        self.say("stoh_start_motor_move phi 1")
        self.say("stoh_register_real_motor phi phi_hw")
        self.say("stoh_start_motor_move phi 1", "stoh_start_motor_move shutter 1", "stoh_start_motor_move nobody 1")
        self.say(CONFIGURATION.format(name="phi"))
        self.say("stoh_start_motor_move phi 101", "stoh_start_motor_move phi -101", "stoh_start_motor_move phi abc")
        self.say(CONFIGURATION.format(name="phi").replace("1 1 0 0 0 0", "1 1 1 0 0 0"), "stoh_start_motor_move phi 1")
        self.assertEqual(
            [line for line in self.heard() if "motor_move" in line],
            [
                "htos_motor_move_completed phi 0.0 no_config",
                "htos_motor_move_completed phi 0.0 no_config",
                "htos_motor_move_completed shutter 0.0 unknown",
                "htos_motor_move_completed nobody 0.0 unknown",
                "htos_motor_move_completed phi 10.0 sw_limit",
                "htos_motor_move_completed phi 10.0 sw_limit",
                "htos_motor_move_completed phi 10.0 invalid_destination",
                "htos_motor_move_completed phi 10.0 locked",
            ],
        )

    def test_a_second_move(self) -> None:
        """A motor that moves refuses another move, and completes its own."""
        phi = self.register_phi()
        self.say("stoh_start_motor_move phi 30", "stoh_start_motor_move phi 40")
        phi.stops.callback(None)
        self.assertEqual(
            self.heard(),
            [
                "htos_motor_move_started phi 30.0",
                "htos_motor_move_completed phi 10.0 moving",
                "htos_motor_move_completed phi 30.0 normal",
            ],
        )

    def test_abort(self) -> None:
        """Aborted moves are completed once, with where the motor was seen last, or says that it has stopped."""
        phi = self.register_phi()
        self.say("stoh_start_motor_move phi 30")
        phi.report(20)
        self.say("stoh_abort_all soft", "stoh_abort_all")
        self.assertEqual(self.heard()[-1], "htos_motor_move_completed phi 20 aborted")
        phi.stops_at = 21.5
        self.say("stoh_start_motor_move phi 30", "stoh_abort_motor_move phi hard", "stoh_abort_motor_move phi")
        self.assertEqual(
            self.heard(), ["htos_motor_move_started phi 30.0", "htos_motor_move_completed phi 21.5 aborted"]
        )
        self.assertEqual(phi.aborts, [False, True])

    def test_abort_of_nothing(self) -> None:
        """Motors that do not move say nothing."""
        self.register_phi()
        self.say("stoh_abort_all", "stoh_abort_all soft", "stoh_abort_all whatever", "stoh_abort_motor_move phi soft")
        self.assertEqual(self.heard(), [])

    def test_threads(self) -> None:
        """A motor that blocks moves elsewhere, and abort_all does not wait for it."""
        self.say("stoh_register_real_motor table table", "stoh_start_motor_move table 8")
        self.threads.finish()
        self.assertEqual(
            self.heard()[-3:],
            [
                "htos_motor_move_started table 8.0",
                "htos_update_motor_position table 4.0 normal",
                "htos_motor_move_completed table 8.0 normal",
            ],
        )
        self.say("stoh_start_motor_move table 9", "stoh_abort_all")
        self.clock.advance(5)
        self.say("stoh_start_motor_move table 9")
        self.assertEqual(
            self.heard(),
            [
                "htos_motor_move_started table 9.0",
                "htos_motor_move_completed table 8.0 aborted",
                "htos_motor_move_completed table 8.0 moving",
            ],
        )
        self.threads.finish()  # the move that did not end
        self.threads.finish()  # abort, which waited for a thread
        self.assertEqual(self.server.device("table").position, 9.0)

    def test_circle(self) -> None:
        """A correction changes what dcss sees and what it asks for, and not the hardware (12 asked for 300: -60)."""
        phi = self.register_phi()
        self.say("stoh_start_motor_move phi -60")
        phi.stops.callback(-5.7)
        self.heard()
        self.say("stoh_correct_motor_position phi 360", "stoh_start_motor_move phi 50")
        self.assertEqual(phi.targets, [-60, -310.0])
        phi.report(-5.7)
        phi.stops.callback(None)
        self.assertEqual(
            self.heard(),
            [
                "htos_motor_move_started phi 50.0",
                "htos_update_motor_position phi 354.3 normal",
                "htos_motor_move_completed phi 50.0 normal",
            ],
        )

    def test_positions_are_called_otherwise(self) -> None:
        """The hardware stays, dcss is told, and later moves are counted so."""
        phi = self.register_phi()
        self.say("stoh_set_motor_position phi 12.5", "stoh_start_motor_move phi 13.5")
        self.assertEqual(
            self.heard(), ["htos_update_motor_position phi 12.5 normal", "htos_motor_move_started phi 13.5"]
        )
        self.assertEqual(phi.targets, [11.0])

    def test_at_once(self) -> None:
        """A move that returns at once is started and completed."""
        self.say("stoh_start_motor_move kappa 7")
        self.assertEqual(
            self.heard(), ["htos_motor_move_started kappa 7.0", "htos_motor_move_completed kappa 7.0 normal"]
        )

    def test_no_move(self) -> None:
        """A motor whose author does not say how it moves pretends nothing."""
        self.say("stoh_register_pseudo_motor energy energy")
        self.heard()
        self.say("stoh_start_motor_move energy 12500")
        self.assertEqual(
            self.heard(),
            [
                "htos_motor_move_started energy 12500.0",
                "htos_motor_move_completed energy 12000.0 NotImplementedError",
            ],
        )
        self.assertEqual(len(self.flushLoggedErrors(NotImplementedError)), 1)

    def test_oscillation(self) -> None:
        """The shutter is open while the motor moves by its delta."""
        phi = self.register_phi()
        self.say("stoh_start_oscillation phi shutter 1.5 2.0")
        self.assertEqual(phi.targets, [11.5])
        phi.stops.callback(None)
        self.assertEqual(
            self.heard(),
            [
                "htos_motor_move_started phi 11.5",
                "htos_report_shutter_state shutter open",
                "htos_report_shutter_state shutter closed",
                "htos_motor_move_completed phi 11.5 normal",
            ],
        )

    def test_oscillation_is_aborted(self) -> None:
        """The shutter is closed whatever happens; without one the word is NULL."""
        self.register_phi()
        self.say("stoh_start_oscillation phi shutter 1 2", "stoh_abort_all", "stoh_start_oscillation kappa NULL 1 2")
        self.say("stoh_start_oscillation kappa nobody 1 2", "stoh_start_oscillation kappa shutter 1")
        self.assertEqual(
            self.heard()[2:],
            [
                "htos_report_shutter_state shutter closed",
                "htos_motor_move_completed phi 10.0 aborted",
                "htos_motor_move_started kappa 6.0",
                "htos_motor_move_completed kappa 6.0 normal",
                "htos_motor_move_completed kappa 6.0 unknown_shutter",
                "htos_motor_move_completed kappa 6.0 invalid_destination",
            ],
        )

    def test_vector(self) -> None:
        """Both motors start and complete; speed and stop reach them."""
        phi = self.register_phi()
        self.say("stoh_start_vector_move phi kappa 11 12 0.5", "stoh_change_vector_speed phi NULL 0.7")
        self.say("stoh_stop_vector_move phi kappa")
        self.assertEqual(
            self.heard(),
            [
                "htos_motor_move_started phi 11.0",
                "htos_motor_move_started kappa 12.0",
                "htos_motor_move_completed kappa 12.0 normal",
                "htos_motor_move_completed phi 10.0 aborted",
            ],
        )
        self.assertEqual((phi.speeds, phi.aborts), ([0.7], [False]))
        self.say("stoh_start_vector_move kappa NULL 1 0 0.5")
        self.assertEqual(len(self.heard()), 2)

    def test_disconnection(self) -> None:
        """A move is cancelled when dcss goes; it is not completed on the next connection, where the motor is told."""
        phi = self.register_phi()
        self.say("stoh_start_motor_move phi 30")
        phi.report(20)
        self.come_back()
        self.assertEqual(phi.aborts, [True])
        self.say("stoh_register_real_motor phi phi")
        self.assertEqual(self.heard()[0][:31], "htos_configure_device phi 20 10")


class OtherDeviceTests(DeviceTestCase):
    """Shutters, ion chambers, encoders and strings."""

    def register(self) -> None:
        self.say(
            "stoh_register_shutter shutter closed hw",
            "stoh_register_ion_chamber i0 counter 3 timer standard",
            "stoh_register_ion_chamber i1 counter 4 timer standard",
            "stoh_register_string status hw",
            "stoh_register_string choice hw",
        )
        self.heard()

    def test_shutter(self) -> None:
        """Each request is answered with how it stands; one after the other reaches the hardware."""
        self.register()
        shutter = self.server.device("shutter")
        shutter.waits = Deferred()
        self.say("stoh_set_shutter_state shutter open now", "stoh_set_shutter_state shutter closed")
        self.assertEqual((self.heard(), shutter.states), ([], ["open"]))
        shutter.waits.callback(None)
        self.say("stoh_set_shutter_state shutter closed", "stoh_set_shutter_state shutter open")
        self.say("stoh_set_shutter_state shutter ajar", "stoh_set_shutter_state nobody open")
        self.say("stoh_set_shutter_state shutter")
        self.assertEqual(
            self.heard(),
            [
                "htos_report_shutter_state shutter open",
                "htos_report_shutter_state shutter closed",
                "htos_report_shutter_state shutter closed",
                "htos_report_shutter_state shutter closed stuck",
                "htos_report_shutter_state shutter closed unknown_state",
                "htos_report_shutter_state nobody closed unknown_shutter",
                "htos_report_shutter_state shutter closed invalid_request",
            ],
        )

    def test_too_many_requests(self) -> None:
        """What waits for a device is bounded."""
        self.register()
        shutter = self.server.device("shutter")
        shutter.waits = Deferred()
        self.say(*["stoh_set_shutter_state shutter closed"] * 102)
        self.assertEqual(self.heard(), ["htos_report_shutter_state shutter closed busy"])

    def test_requests_of_a_lost_connection(self) -> None:
        """What had not begun when dcss went does not reach the hardware any more."""
        self.register()
        shutter = self.server.device("shutter")
        shutter.waits = Deferred()
        self.say("stoh_set_shutter_state shutter open", "stoh_set_shutter_state shutter closed")
        self.come_back()
        shutter.waits.callback(None)
        self.assertEqual((shutter.states, shutter.state, self.heard()), (["open"], "open", []))
        self.say("stoh_register_shutter shutter closed hw", "stoh_set_shutter_state shutter closed")
        self.assertEqual(
            self.heard(), ["htos_report_shutter_state shutter open", "htos_report_shutter_state shutter closed"]
        )

    def test_ion_chambers(self) -> None:
        """All that were asked for count together, and are reported together."""
        self.register()
        self.say("stoh_read_ion_chambers 0.5 0 i0 i1")
        self.assertEqual(self.heard(), [])
        self.server.device("i1").counts.callback(6.5)
        self.assertEqual(self.heard(), ["htos_report_ion_chambers 0.5 i0 500 i1 6.5"])

    def test_ion_chambers_fail(self) -> None:
        """One failure, an abort, or a chamber that dcss would hang on: a report with time 0 and a reason."""
        self.register()
        self.say("stoh_read_ion_chambers 1 0 i0 i1")
        self.server.device("i1").counts.errback(OperationFailed("no beam"))
        self.server.device("i1").counts = Deferred()
        self.say("stoh_read_ion_chambers 1 0 i0 i1", "stoh_abort_all", "stoh_read_ion_chambers 1 0 i0 i9")
        self.say("stoh_read_ion_chambers 0 0 i0")
        self.assertEqual(
            self.heard(),
            [
                "htos_report_ion_chambers 0 i0 i1 no_beam",
                "htos_report_ion_chambers 0 i0 i1 aborted",
                "htos_report_ion_chambers 0 i0 i9 LocalProtocolError",
                "htos_report_ion_chambers 0 i0 nothing_to_count",
            ],
        )
        self.flushLoggedErrors(LocalProtocolError)

    def test_unknown_ion_chambers_are_not_sent(self) -> None:
        """dcss would loop for ever on the name of one that it has not registered."""
        self.register()
        self.server.send("htos_report_ion_chambers 1.0 i0 5")
        self.server.send("htos_report_ion_chambers 0 i9 broken")
        self.assertRaises(LocalProtocolError, self.server.send, "htos_report_ion_chambers 1.0 i9 5")
        self.assertEqual(len(self.heard()), 2)

    def test_encoder(self) -> None:
        """Read and set, with the position that it has then."""
        self.say("stoh_get_encoder wavelength", "stoh_set_encoder wavelength 2.5", "stoh_get_encoder nobody")
        self.say("stoh_set_encoder nobody 1", "stoh_set_encoder wavelength abc")
        self.assertEqual(
            self.heard(),
            [
                "htos_get_encoder_completed wavelength 1.5 normal",
                "htos_set_encoder_completed wavelength 2.5 normal",
                "htos_get_encoder_completed nobody 0.0 unknown_encoder",
                "htos_set_encoder_completed nobody 0.0 unknown_encoder",
                "htos_set_encoder_completed wavelength 2.5 invalid_position",
            ],
        )

    def test_string(self) -> None:
        """Set by dcss: contents are what the author makes of them."""
        self.register()
        self.say("stoh_set_string status two  words", "stoh_set_string choice red", "stoh_set_string choice bad")
        self.say("stoh_set_string nobody x", "stoh_set_string status")
        self.assertEqual(
            self.heard(),
            [
                "htos_set_string_completed status normal two  words",
                "htos_set_string_completed choice normal RED",
                "htos_set_string_completed choice ValueError RED",
                "htos_set_string_completed nobody unknown_string x",
                "htos_set_string_completed status normal",
            ],
        )
        self.flushLoggedErrors(ValueError)

    def test_publish(self) -> None:
        """At any time; what was published while dcss was away is what it hears when it registers the string."""
        status = self.server.device("status")
        status.publish("before")
        self.assertEqual(self.heard(), [])
        self.register()
        status.publish("now")
        self.assertEqual(self.heard(), ["htos_set_string_completed status normal now"])
        self.assertRaises(LocalProtocolError, status.publish, "[1, 2]")
        self.assertEqual(status.contents, "now")
        self.lose()
        status.publish("meanwhile")
        self.clock.advance(1)
        self.accept()
        self.say("stoh_register_string status hw")
        self.assertEqual(self.heard(), ["htos_set_string_completed status normal meanwhile"])
