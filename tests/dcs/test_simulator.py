"""
Tests for `equipnet.dcs.simulator`.
"""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from equipnet.connection.state import State
from equipnet.dcs.database import Database, Shutter, load_database, read_database
from equipnet.dcs.hub import Completion
from equipnet.dcs.simulator import GARBAGE, AbnormalCompletion, DcssFault, DcssSimulator, HardwareProtocol
from equipnet.errors import ConfigError, Disconnected, EquipmentConnectionError, LocalProtocolError
from equipnet.interfaces import IConnection, Traffic
from examples.dcs.loop_dhs import LoopServer

from .test_database import EXAMPLE

#: What a dcss sends first: 200 bytes, whatever the protocol (dcs.md 1.2).
WHO = b"stoc_send_client_type".ljust(200, b"\0")

#: The shortest answer to it.
LOOP = b"htos_client_is_hardware loopDHS".ljust(200, b"\0")


def framed(text: str) -> bytes:
    """Write a message of protocol 2 as C's ``"%12ld %12ld "`` does, its NUL counted (dcs.md 1.3)."""
    return (str(len(text) + 1).rjust(12) + " " + "0".rjust(12) + " " + text + "\0").encode()


def texts_of(data: bytes) -> list[str]:
    """Take messages of protocol 2 apart."""
    texts = []
    while data:
        size = int(data[:12])
        texts.append(data[26 : 26 + size].rstrip(b"\0\n").decode())
        data = data[26 + size :]
    return texts


class Wire(StringTransport):
    """A transport that remembers each segment, and whether it was torn down and is read."""

    def __init__(self) -> None:
        super().__init__()
        self.segments: list[bytes] = []
        self.aborted = False
        self.reading = True

    def write(self, data: bytes) -> None:
        self.segments.append(data)
        super().write(data)

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True


class SimulatorTestCase(SynchronousTestCase):
    """A simulator of the example's beamline, and a scripted hardware server."""

    def setUp(self) -> None:
        self.simulate()

    def simulate(self, database: Database | None = None, **settings: Any) -> None:
        """Make the simulator, and connect one hardware server."""
        self.clock = Clock()
        self.dcss = DcssSimulator(database or load_database(EXAMPLE), reactor=self.clock, **settings)
        self.protocol, self.wire = self.connect()

    def connect(self) -> tuple[HardwareProtocol, Wire]:
        """Connect one hardware server."""
        protocol = self.dcss.admit(None)
        assert isinstance(protocol, HardwareProtocol)
        wire = Wire()
        protocol.makeConnection(wire)
        return protocol, wire

    def written(self) -> bytes:
        """Give what has been written since the last time."""
        data: bytes = self.wire.value()
        self.wire.clear()
        return data

    def log_in(self, answer: bytes = LOOP) -> list[str]:
        """Pass the handshake; give the burst."""
        self.assertEqual(self.written(), WHO)
        self.protocol.dataReceived(answer)
        return self.burst()

    def burst(self) -> list[str]:
        """Give the texts that have been written."""
        return texts_of(self.written())

    def say(self, *texts: str) -> None:
        """Let messages come from the hardware server."""
        self.protocol.dataReceived(b"".join(map(framed, texts)))

    def turns(self, number: int = 20) -> None:
        """Let the clock turn, without any time passing."""
        for _ in range(number):
            self.clock.advance(0)

    def failure(self, ended: Deferred[Completion]) -> Completion:
        """Give the completion with which something failed."""
        error = self.failureResultOf(ended, AbnormalCompletion).value
        assert isinstance(error, AbnormalCompletion)
        return error.completion

    def closed(self) -> None:
        """Assert that the connection is closed, and let it end."""
        self.assertTrue(self.wire.disconnecting or self.wire.aborted)
        self.protocol.connectionLost(Failure(EquipmentConnectionError("closed")))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class HandshakeTests(SimulatorTestCase):
    """Who is taken as a hardware server (dcs.md 1.2)."""

    def test_burst(self) -> None:
        """
        The devices of a hardware server are registered in the order of the file; a line feed comes before the NUL of
        all but motors.
        """
        self.assertEqual(self.written(), WHO)
        self.protocol.dataReceived(LOOP)
        # as seen: the size counts the NUL, and the line feed
        self.assertTrue(
            self.wire.value().startswith(
                b"          39            0 stoh_register_real_motor gonio_phi phi\0"
                b"          42            0 stoh_register_real_motor camera_zoom zoom\0"
                b"          51            0 stoh_register_shutter shutter closed fast_shutter\n\0"
            ),
            self.wire.value(),
        )
        self.assertEqual(
            self.burst()[3:],
            [
                "stoh_register_string loopStatus loopStatus",
                "stoh_register_ion_chamber i0 counter 0 timer standard",
                "stoh_register_operation getLoopTip getLoopTip",
                "stoh_register_operation collectLoopImages collectLoopImages",
                "stoh_register_operation readFile readFile",
            ],
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_forms(self) -> None:
        """
        The first word is not looked at, and blanks pad as well as NULs; it may come in pieces.
        """
        for answer in (
            b"whatever loopDHS".ljust(200, b"\0"),
            b"htos_client_type_is_hardware loopDHS dcsProtocol_2.0".ljust(200),
            b"htos_client_is_hardware loopDHS\0garbage".ljust(200, b"x"),
        ):
            self.simulate()
            self.assertEqual(self.written(), WHO)
            for at in range(200):
                self.assertEqual(self.wire.value(), b"")
                self.protocol.dataReceived(answer[at : at + 1])
            self.assertEqual(len(self.burst()), 8)

    def test_too_late(self) -> None:
        """
        All 200 bytes have one second together.
        """
        self.protocol.dataReceived(LOOP[:199])
        self.clock.advance(0.99)
        self.assertFalse(self.wire.disconnecting)
        self.clock.advance(0.02)
        self.closed()

    def test_unknown(self) -> None:
        """
        Who is no hardware host is closed at once, and told nothing.
        """
        for name in (b"nobody", b"gonio_phi", b"", b"x" * 40):
            self.simulate()
            self.assertEqual(self.written(), WHO)
            self.protocol.dataReceived((b"htos_client_is_hardware " + name).ljust(200, b"\0"))
            self.assertEqual(self.written(), b"")
            self.closed()
            self.assertEqual(len(self.dcss.complaints), 1)

    def test_duplicate(self) -> None:
        """
        Who is connected already is closed after three seconds; the first stays, and its name is free when it goes.
        """
        self.log_in()
        first, self.protocol, self.wire = self.protocol, *self.connect()
        self.assertEqual(self.written(), WHO)
        self.protocol.dataReceived(LOOP)
        self.clock.advance(2.9)
        self.assertFalse(self.wire.disconnecting)
        self.clock.advance(0.2)
        self.closed()
        self.assertFalse(first.hanging_up)
        first.connectionLost(connectionDone)
        self.protocol, self.wire = self.connect()
        self.assertEqual(len(self.log_in()), 8)

    def test_address(self) -> None:
        """
        With the check, a hardware server must come from its computer; one that does not is closed after a second.
        """
        # StringTransport comes from 192.168.1.1
        for computer, taken in (("192.168.1.1", True), ("localhost", False)):
            self.simulate(read_database(f"dhs\n3\n{computer} 2\n\nEND\n"), check_address=True)
            self.protocol.dataReceived(b"htos_client_is_hardware dhs".ljust(200, b"\0"))
            self.clock.advance(1.1)
            self.assertEqual(self.wire.disconnecting, not taken)

    def test_name_of_the_computer(self) -> None:
        """
        The name of a computer is looked up; one that cannot be found is refused.
        """
        answers: list[Deferred[str]] = []

        def resolve(name: str) -> Deferred[str]:
            self.assertEqual(name, "bl.example.org")
            answers.append(Deferred())
            return answers[-1]

        for answer, taken in (("192.168.1.1", True), ("192.168.1.2", False), (Failure(OSError()), False)):
            self.simulate(read_database("dhs\n3\nbl.example.org 2\n\nEND\n"), check_address=True)
            self.clock.resolve = resolve  # type: ignore[attr-defined]  # as a reactor has it
            self.protocol.dataReceived(b"htos_client_is_hardware dhs".ljust(200, b"\0"))
            self.clock.advance(1.1)
            self.assertFalse(self.wire.disconnecting)
            answers.pop().callback(answer)
            self.assertEqual(self.protocol.host is not None, taken)
            self.clock.advance(1.1)
            self.assertEqual(self.wire.disconnecting, not taken)

    def test_protocol_1(self) -> None:
        """
        With protocol 1 every message has 200 bytes; a longer one is cut.
        """
        text = f"dhs\n3\nlocalhost 1\n\nst\n13\ndhs hw\n{'x' * 300}\n\nEND\n"
        self.simulate(read_database(text))
        self.assertEqual(self.written(), WHO)
        self.protocol.dataReceived(b"htos_client_is_hardware dhs".ljust(200, b"\0"))
        self.assertEqual(self.written(), b"stoh_register_string st hw\n".ljust(200, b"\0"))
        self.protocol.dataReceived(b"htos_send_configuration st".ljust(200, b"\0"))
        self.assertEqual(self.written(), b"stoh_configure_string st dhs ".ljust(200, b"x"))

    def test_several_hundred(self) -> None:
        """
        As many devices as a real beamline has are registered, in order (dcs.md 4: 575, of which 112 belong to one).
        """
        permits = "1 1 1 1 1\n1 1 1 1 1\n"
        sections = ["loopDHS\n3\nlocalhost 2\n", "self\n3\nlocalhost 2\n"]
        for number in range(600):
            host = "self" if number % 5 else "loopDHS"
            fields = "0 10 0 1000 5 6 0 1 1 0 0 0 0 mm"
            sections.append(f"m{number}\n1\n{host} hw{number}\n{permits}self\n{fields}\n")
        self.simulate(read_database("\n".join(sections) + "\nEND\n"))
        burst = self.log_in()
        ours = range(0, 600, 5)
        self.assertEqual(burst[:120], [f"stoh_register_real_motor m{number} hw{number}" for number in ours])
        self.assertEqual(burst[120:], [f"stoh_set_motor_dependency m{number} self" for number in ours])
        self.say(*(f"htos_send_configuration m{number}" for number in ours))
        self.assertEqual(len(self.burst()), 120)


class ReadingTests(SimulatorTestCase):
    """What comes from hardware servers, as bytes."""

    def setUp(self) -> None:
        super().setUp()
        self.log_in()
        self.told: list[str] = []
        self.dcss.hub.listeners.append(self.told.append)

    def test_split_at_every_byte(self) -> None:
        """
        Messages may be split anywhere.
        """
        data = framed("htos_note one") + framed("htos_note two")
        for at in range(len(data)):
            self.protocol.dataReceived(data[:at])
            self.protocol.dataReceived(data[at:])
        self.assertEqual(self.told, ["stog_note one", "stog_note two"] * len(data))

    def test_other_writers(self) -> None:
        """
        A text may come without a NUL, with a blank before it, and with a binary part, which is thrown away.
        """
        self.protocol.dataReceived(b"          13            0 htos_note one")
        self.protocol.dataReceived(b"          15            0 htos_note two \0")
        self.protocol.dataReceived(b"          15            3 htos_note three\x01\x02\x03")
        self.assertEqual(self.told, ["stog_note one", "stog_note two", "stog_note three"])

    def test_no_header(self) -> None:
        """
        What is no header ends the connection, and is complained of.
        """
        self.protocol.dataReceived(b"htos_note this is no header at all")
        self.flushLoggedErrors()
        self.closed()
        self.assertIn("out of step", self.dcss.complaints[0])

    def test_taps(self) -> None:
        """
        A tap sees what comes and what leaves.
        """
        seen: list[Traffic] = []
        self.dcss.add_tap(seen.append)
        self.say("htos_send_configuration shutter")
        answer = framed("stoh_configure_shutter shutter loopDHS closed")
        self.assertEqual([(each.direction, each.raw) for each in seen][1], ("out", answer))
        self.assertEqual(len(seen), 2)


class ApiTests(SimulatorTestCase):
    """What programs ask for, and every way in which it ends."""

    def setUp(self) -> None:
        super().setUp()
        self.log_in()

    def test_move(self) -> None:
        """
        A move ends with the position at which it was completed, and tells of those on the way.
        """
        updates: list[Completion] = []
        ended = self.dcss.move("camera_zoom", 0.75, updates.append)
        self.assertEqual(self.burst(), ["stoh_start_motor_move camera_zoom 0.750000"])
        self.say("htos_motor_move_started camera_zoom 0.75", "htos_update_motor_position camera_zoom 0.6 normal")
        self.assertNoResult(ended)
        self.say("htos_motor_move_completed camera_zoom 0.75 normal")
        self.assertEqual(self.successResultOf(ended).position, 0.75)
        self.assertEqual([each.position for each in updates], [0.6])

    def test_move_refused(self) -> None:
        """
        A move that is refused fails at once, and one that goes on is not touched by it.
        """
        self.assertEqual(self.failure(self.dcss.move("camera_zoom", 5)).status, "sw_limit")
        first = self.dcss.move("camera_zoom", 0.7)
        self.say("htos_motor_move_started camera_zoom 0.7")
        self.assertEqual(self.failure(self.dcss.move("camera_zoom", 0.8)).status, "moving")
        self.assertNoResult(first)
        self.say("htos_motor_move_completed camera_zoom 0.55 aborted")
        self.assertEqual(self.failure(first), Completion("camera_zoom", "aborted", "0.550000"))

    def test_two_moves(self) -> None:
        """
        Two quick moves reach the hardware server both, and one completion ends both, for they carry no names.
        """
        moves = [self.dcss.move("camera_zoom", 0.7), self.dcss.move("camera_zoom", 0.8)]
        self.assertEqual(len(self.burst()), 2)
        self.say("htos_motor_move_completed camera_zoom 0.5 moving")
        self.assertEqual([self.failure(each).status for each in moves], ["moving", "moving"])

    def test_operations(self) -> None:
        """
        Operations have handles of their own; each ends with its own result, whatever the order.
        """
        updates: list[Completion] = []
        first = self.dcss.start_operation("getLoopTip", 0, "a b", on_update=updates.append)
        second = self.dcss.start_operation("getLoopTip")
        self.assertEqual(
            self.burst(), ["stoh_start_operation getLoopTip 1.1 0 {a b}", "stoh_start_operation getLoopTip 1.2"]
        )
        self.say("htos_operation_completed getLoopTip 1.2 TipNotInView +")
        self.assertEqual(self.failure(second), Completion("getLoopTip", "TipNotInView", "+", "1.2"))
        self.assertEqual(self.burst(), ["stoh_abort_all soft"])
        self.say("htos_operation_update getLoopTip 1.1 half way", "htos_operation_completed getLoopTip 1.1 normal 1 2")
        self.assertEqual(self.successResultOf(first).words, ("1", "2"))
        self.assertEqual([each.text for each in updates], ["half way"])

    def test_update_raises(self) -> None:
        """
        What is called with an update may raise; it is logged.
        """
        ended = self.dcss.start_operation("getLoopTip", on_update=lambda completion: 1 / 0)
        self.say("htos_operation_update getLoopTip 1.1 x", "htos_operation_completed getLoopTip 1.1 normal")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.successResultOf(ended)

    def test_others(self) -> None:
        """
        Shutters, strings, ion chambers, oscillations and vectors are asked for in the words of a GUI.
        """
        for ask, sent, answer, text in (
            (
                lambda: self.dcss.set_shutter("shutter", "open"),
                "stoh_set_shutter_state shutter open",
                "htos_report_shutter_state shutter open",
                "open",
            ),
            (
                lambda: self.dcss.set_string("loopStatus", "a  b"),
                "stoh_set_string loopStatus a  b",
                "htos_set_string_completed loopStatus normal a  b",
                "a  b",
            ),
            (
                lambda: self.dcss.read_ion_chambers(0.5, "i0"),
                "stoh_read_ion_chambers 0.5 0 i0",
                "htos_report_ion_chambers 0.5 i0 1234",
                "i0 1234",
            ),
            (
                lambda: self.dcss.oscillate("gonio_phi", "NULL", 1, 0.5),
                "stoh_start_oscillation gonio_phi NULL 1 0.5",
                "htos_motor_move_completed gonio_phi 1 normal",
                "1.000000",
            ),
            (
                lambda: self.dcss.move_vector("gonio_phi", "NULL", 5, 0, 0.5),
                "stoh_start_vector_move gonio_phi NULL 5 0 0.5",
                "htos_motor_move_completed gonio_phi 5 normal",
                "5.000000",
            ),
        ):
            ended = ask()
            self.assertEqual(self.burst(), [sent])
            self.say(answer)
            self.assertEqual(self.successResultOf(ended).text, text)
        self.dcss.stop_operation("readFile")
        self.dcss.abort_all("hard")
        self.dcss.abort_move("gonio_phi")
        self.dcss.set_position("gonio_phi", 365)
        self.assertEqual(
            self.burst(),
            [
                "stoh_stop_operation readFile",
                "stoh_abort_all hard",
                "stoh_abort_motor_move gonio_phi soft",
                "stoh_set_motor_position gonio_phi 5.000000",
            ],
        )
        shutter = self.dcss.device("shutter")
        assert isinstance(shutter, Shutter)
        self.assertEqual(shutter.state, "open")

    def test_ion_chambers(self) -> None:
        """
        Counts of several hardware servers are one result; a failure ends it.
        """
        text = "a\n3\nx 2\n\nb\n3\nx 2\n\ni0\n4\na c 0 t s\n\ni1\n4\nb c 0 t s\n\nEND\n"
        self.simulate(read_database(text))
        self.protocol.dataReceived(b"x a".ljust(200, b"\0"))
        one, (self.protocol, _) = self.protocol, self.connect()
        self.protocol.dataReceived(b"x b".ljust(200, b"\0"))
        ended = self.dcss.read_ion_chambers(1, "i0", "i1")
        one.dataReceived(framed("htos_report_ion_chambers 1 i0 10"))
        self.assertNoResult(ended)
        self.say("htos_report_ion_chambers 1 i1 11")
        self.assertEqual(self.successResultOf(ended).counts, {"i0": 10.0, "i1": 11.0})
        ended = self.dcss.read_ion_chambers(1, "i0", "i1")
        self.say("htos_report_ion_chambers 0 i1 {no beam}")
        self.assertEqual(self.failure(ended).status, "no beam")

    def test_own_string(self) -> None:
        """
        A string of the host self is set at once.
        """
        self.assertEqual(self.successResultOf(self.dcss.set_string("system_idle", "busy")).text, "busy")

    def test_unknown(self) -> None:
        """
        What is not there, or is something else, cannot be asked; nor can what cannot be said.
        """
        for ended in (
            self.dcss.move("psi", 1),
            self.dcss.move("shutter", 1),
            self.dcss.move("gonio_phi", float("nan")),
            self.dcss.start_operation("getLoopTip", "a { b"),
            self.dcss.read_ion_chambers(1),
            self.dcss.read_ion_chambers(1, "i9"),
            self.dcss.when_online("nobody"),
        ):
            self.failureResultOf(ended, LocalProtocolError)
        self.assertRaises(LocalProtocolError, self.dcss.device, "psi")
        self.assertRaises(LocalProtocolError, self.dcss.abort_move, "psi")
        self.assertEqual(self.burst(), [])

    def test_lost(self) -> None:
        """
        When the hardware server goes, everything that waits for it fails; what is asked then, too.
        """
        waiting = [self.dcss.move("gonio_phi", 5), self.dcss.start_operation("readFile", "x")]
        waiting.append(self.dcss.read_ion_chambers(1, "i0"))
        self.protocol.connectionLost(connectionDone)
        self.assertEqual(
            [self.failure(each).status for each in waiting],
            ["no_hw_host_loopDHS", "no_hw_host_loopDHS", "hardware_offline"],
        )
        self.assertEqual(self.failure(self.dcss.move("gonio_phi", 5)).status, "no_hw_host_loopDHS")
        self.assertEqual(self.failure(self.dcss.set_shutter("shutter", "open")).status, "no_hw_host_loopDHS")

    def test_stopped(self) -> None:
        """
        When the simulator is stopped, everything that waits fails, and its clients are closed.
        """
        waiting = self.dcss.move("gonio_phi", 5)
        online = DcssSimulator(load_database(EXAMPLE), reactor=self.clock)
        later = online.when_online("loopDHS")
        self.successResultOf(self.dcss.stopService())
        self.successResultOf(online.stopService())
        self.failureResultOf(waiting, Disconnected)
        self.failureResultOf(later, Disconnected)
        self.closed()

    def test_many(self) -> None:
        """
        Thousands of operations at once end each with its own result.
        """
        count = 3000
        running = [self.dcss.start_operation("readFile", number) for number in range(count)]
        self.say(*(f"htos_operation_completed readFile 1.{count - n} normal {count - n}" for n in range(count)))
        self.assertEqual(
            [self.successResultOf(each).text for each in running], [str(number + 1) for number in range(count)]
        )

    def test_cancelled(self) -> None:
        """
        Who does not want to wait any more is forgotten.
        """
        ended = self.dcss.move("gonio_phi", 5)
        ended.cancel()
        self.failureResultOf(ended, CancelledError)
        self.say("htos_motor_move_completed gonio_phi 5 normal")
        again = self.dcss.move("gonio_phi", 6)
        self.assertNoResult(again)
        self.say("htos_motor_move_completed gonio_phi 6 normal")
        self.successResultOf(again)

    def test_online(self) -> None:
        """
        Those who wait for a hardware server are told once it has been sent its devices.
        """
        self.successResultOf(self.dcss.when_online("loopDHS"))
        self.protocol.connectionLost(connectionDone)
        online = self.dcss.when_online("loopDHS")
        self.protocol, self.wire = self.connect()
        self.assertNoResult(online)
        self.log_in()
        self.successResultOf(online)

    def test_configured(self) -> None:
        """
        Its motors can be moved once each has been configured, or asked for.
        """
        configured = self.dcss.when_configured("loopDHS")
        self.say("htos_send_configuration gonio_phi", "htos_send_configuration shutter")
        self.assertNoResult(configured)
        self.say("htos_configure_device camera_zoom 0.5")
        self.successResultOf(configured)
        self.successResultOf(self.dcss.when_configured("loopDHS"))
        self.protocol.connectionLost(connectionDone)
        self.failureResultOf(self.dcss.when_configured("nobody"), LocalProtocolError)
        later = self.dcss.when_configured("loopDHS")
        self.dcss.disconnect()
        self.failureResultOf(later, Disconnected)

    def test_no_motors(self) -> None:
        """
        Without motors nothing is waited for.
        """
        self.simulate(read_database("loopDHS\n3\nx 2\n\nEND\n"))
        configured = self.dcss.when_configured("loopDHS")
        self.log_in()
        self.successResultOf(configured)


class FaultTests(SimulatorTestCase):
    """What goes wrong on request."""

    def test_silence_in_the_handshake(self) -> None:
        """
        A dcss that never asks closes after its second.
        """
        self.dcss.inject(DcssFault(on="stoc_send_client_type", silence=True), count=1)
        self.protocol, self.wire = self.connect()
        self.assertEqual(self.written(), b"")
        self.clock.advance(1.1)
        self.closed()
        self.protocol, self.wire = self.connect()
        self.assertEqual(self.written(), WHO)

    def test_twice(self) -> None:
        """
        A device can be registered twice.
        """
        self.dcss.inject(DcssFault(on="stoh_register_shutter", twice=True))
        self.written()
        self.protocol.dataReceived(LOOP)
        self.turns()
        names = [text.split()[1] for text in self.burst()]
        self.assertEqual(names[:5], ["gonio_phi", "camera_zoom", "shutter", "shutter", "loopStatus"])
        self.assertEqual(len(names), 9)

    def test_garbage(self) -> None:
        """
        The header of a message can be garbage.
        """
        self.log_in()
        self.dcss.inject(DcssFault(garbage=True), count=1)
        self.dcss.abort_all()
        self.dcss.abort_all()
        self.turns()
        self.assertEqual(self.written(), GARBAGE + b"stoh_abort_all soft\0" + framed("stoh_abort_all soft"))

    def test_split(self) -> None:
        """
        A message can leave in pieces; the next ones wait.
        """
        self.log_in()
        self.wire.segments.clear()
        self.dcss.inject(DcssFault(split=20), count=1)
        self.dcss.abort_all()
        self.dcss.abort_all("hard")
        self.turns()
        self.assertEqual([len(each) for each in self.wire.segments], [20, 20, 6, 46])
        self.assertEqual(self.burst(), ["stoh_abort_all soft", "stoh_abort_all hard"])

    def test_stall(self) -> None:
        """
        A dcss that stalls sends and reads nothing, until the faults are cleared.
        """
        self.log_in()
        self.dcss.inject(DcssFault(on="stoh_abort_all", stall=True), count=1)
        self.dcss.abort_all()
        self.dcss.abort_all("hard")
        self.turns()
        self.assertEqual((self.written(), self.wire.reading), (framed("stoh_abort_all soft")[:23], False))
        self.dcss.clear_faults()
        self.turns()
        self.assertTrue(self.wire.reading)
        self.assertEqual(self.written(), framed("stoh_abort_all soft")[23:] + framed("stoh_abort_all hard"))

    def test_close(self) -> None:
        """
        The connection can be closed before, in the middle of, and after a message.
        """
        whole = framed("stoh_start_motor_move gonio_phi 5.000000")
        for place, sent in (("before", b""), ("middle", whole[: len(whole) // 2]), ("after", whole)):
            for how in ("close", "reset"):
                self.simulate()
                self.log_in()
                self.dcss.inject(DcssFault(on="stoh_start_motor_move", **{how: place}))  # type: ignore[arg-type]
                ended = self.dcss.move("gonio_phi", 5)
                self.turns()
                self.assertEqual(self.failure(ended).status, "no_hw_host_loopDHS")
                self.assertEqual((self.written(), self.wire.aborted), (sent, how == "reset"))
                self.closed()

    def test_close_at_registration(self) -> None:
        """
        So in the handshake, and at registration.
        """
        self.simulate(fault=DcssFault(on="stoc_send_client_type", close="after"))
        self.turns()
        self.assertEqual(self.written(), WHO)
        self.closed()
        self.simulate(fault=DcssFault(on="stoh_register_shutter", close="before", host="loopDHS"))
        self.written()
        self.protocol.dataReceived(LOOP)
        self.turns()
        self.assertEqual(len(self.burst()), 2)
        self.closed()

    def test_drop(self) -> None:
        """
        A hardware server can be dropped at any time.
        """
        for reset in (False, True):
            self.simulate()
            self.log_in()
            self.dcss.drop("nobody")
            self.assertFalse(self.wire.disconnecting)
            self.dcss.drop("loopDHS", reset)
            self.assertEqual(self.wire.aborted, reset)
            self.closed()

    def test_which(self) -> None:
        """
        A fault may be for one hardware server and for a number of messages; those with a number come first.
        """
        lasting, once, other = DcssFault(silence=True), DcssFault(twice=True), DcssFault(host="x", stall=True)
        self.dcss.inject(lasting)
        self.dcss.inject(once, count=2)
        self.dcss.inject(other, count=1)
        taken = [self.dcss.fault_for("c", host) for host in ("a", "x", "x", "a")]
        self.assertEqual(taken, [once, once, other, lasting])
        self.dcss.inject(DcssFault(stall=True))
        self.assertEqual(self.dcss.fault_for("c", "a"), lasting)
        self.dcss.clear_faults()
        self.assertIsNone(self.dcss.fault_for("c", "a"))

    def test_wrong(self) -> None:
        """
        Faults that make no sense are refused.
        """
        for wrong in (
            {},
            {"on": "x"},
            {"split": 0},
            {"close": "later"},
            {"silence": True, "twice": True},
            {"close": "after", "reset": "after"},
            {"stall": True, "close": "after"},
        ):
            self.assertRaises(ValueError, DcssFault, **wrong)
        self.assertRaises(ValueError, self.dcss.inject, DcssFault(stall=True), 0)


class ServiceTests(SynchronousTestCase):
    """How it is started and stopped."""

    def test_interface(self) -> None:
        """
        It is a connection.
        """
        verifyObject(IConnection, DcssSimulator(EXAMPLE, reactor=Clock()))

    def test_ports(self) -> None:
        """
        It listens on two ports, on the loopback interface where no other is given, and is ready when both are bound.
        """
        reactor = MemoryReactorClock()
        dcss = DcssSimulator(EXAMPLE, "tcp:14242", gui="tcp:14243:interface=0.0.0.0", reactor=reactor)
        dcss.startService()
        self.assertEqual(
            [(port, interface) for port, _, _, interface in reactor.tcpServers],
            [(14243, "0.0.0.0"), (14242, "127.0.0.1")],
        )
        self.assertEqual((dcss.state, dcss.gui.state), (State.READY, State.READY))
        self.successResultOf(dcss.stopService())
        self.assertEqual((dcss.state, dcss.gui.state), (State.STOPPED, State.STOPPED))
        self.assertEqual(reactor.getDelayedCalls(), [])

    def test_bad_file(self) -> None:
        """
        A database that is not right is refused with every problem.
        """
        self.assertRaises(ConfigError, DcssSimulator, "/nowhere/database.dat")

    def test_in_memory(self) -> None:
        """
        A hardware server can be connected without a socket.
        """
        clock = Clock()
        dcss = DcssSimulator(EXAMPLE, reactor=clock)
        came = bytearray()

        class Client(Protocol):
            def dataReceived(self, data: bytes) -> None:
                came.extend(data)
                if came == WHO:
                    assert self.transport is not None
                    self.transport.write(LOOP)

        self.successResultOf(dcss.in_memory(clock).connect(Factory.forProtocol(Client)))
        clock.pump([0] * 6)
        self.assertEqual(len(texts_of(bytes(came[200:]))), 8)
        dcss.disconnect()
        clock.pump([0] * 6)
        self.assertEqual(dcss.protocols, set())


class GuideTests(SynchronousTestCase):
    def test_snippet(self) -> None:
        """
        The test that stands in the guide passes, with the example's hardware server.
        """
        page = EXAMPLE.parents[2] / "docs" / "howto" / "simulated-dcss.md"
        (snippet,) = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
        self.assertEqual(snippet.count("examples/dcs/database.dat"), 1)
        names: dict[str, Any] = {}
        exec(snippet.replace("examples/dcs/database.dat", str(EXAMPLE)), names)
        clock = Clock()
        checked = Deferred.fromCoroutine(names["check_tip"](LoopServer(), clock))
        clock.pump([0.05] * 60)
        self.successResultOf(checked)
