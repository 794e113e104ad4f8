"""
Tests for `equipnet.instrument.simulator`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver, MemoryReactorClock, StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from equipnet.connection.state import State
from equipnet.errors import ConnectionLost, LocalProtocolError
from equipnet.instrument import Instrument
from equipnet.instrument.fault import Fault
from equipnet.instrument.simulator import BATCH, InstrumentSimulator, Reply, SimulatorProtocol
from equipnet.interfaces import IConnection, Traffic

IDN = "EQUIPNET,DMM,1,1.0"


class Wire(StringTransport):
    """
    A transport that remembers each segment, and the producer of which can be paused.

    Attributes
    ----------
    appetite
        With how many bytes in all it pauses the producer; None for any number.
    """

    def __init__(self, appetite: int | None = None) -> None:
        super().__init__()
        self.segments: list[bytes] = []
        self.appetite = appetite
        self.reading = True
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.segments.append(data)
        super().write(data)
        if self.appetite is not None and sum(map(len, self.segments)) > self.appetite:
            self.appetite = None
            assert self.producer is not None
            self.producer.pauseProducing()

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()

    def pauseProducing(self) -> None:
        assert self.reading
        self.reading = False

    def resumeProducing(self) -> None:
        assert not self.reading
        self.reading = True


class SimulatorTestCase(SynchronousTestCase):
    """What the tests of a simulator have in common: it, its clock, its log, and one client's wire."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.watch_log()

    def watch_log(self) -> None:
        """Remember what is logged from now on."""
        self.events = EventLoggingObserver()
        globalLogPublisher.addObserver(self.events)
        self.addCleanup(globalLogPublisher.removeObserver, self.events)

    def simulate(self, replies: Mapping[str, Reply] | None = None, **settings: Any) -> InstrumentSimulator:
        """Make the simulator, and connect one client."""
        table = {"*IDN?": IDN, "*RST": None} if replies is None else replies
        self.use(InstrumentSimulator(table, reactor=self.clock, **settings))
        return self.simulator

    def use(self, simulator: InstrumentSimulator) -> None:
        """Connect one client."""
        self.simulator = simulator
        self.protocol, self.wire = self.connect()

    def connect(self, appetite: int | None = None) -> tuple[SimulatorProtocol, Wire]:
        """Connect another client."""
        protocol = self.simulator.admit(None)
        assert isinstance(protocol, SimulatorProtocol)
        wire = Wire(appetite)
        protocol.makeConnection(wire)
        return protocol, wire

    def send(self, data: bytes) -> None:
        """Let one segment come."""
        self.protocol.dataReceived(data)

    def replies(self) -> bytes:
        """Give what has been written since the last time."""
        written: bytes = self.wire.value()
        self.wire.clear()
        return written

    def ask(self, command: str) -> bytes:
        """Give what comes at once for a command."""
        self.send(command.encode() + b"\n")
        return self.replies()

    def turns(self, number: int = 6) -> None:
        """Let the clock turn, without any time passing."""
        for _ in range(number):
            self.clock.advance(0)

    def logged(self, *texts: str) -> None:
        """Assert that there was exactly one warning or error, with the texts in it, and forget it."""
        lines = [event for event in self.events if event["log_level"].name in ("warn", "error", "critical")]
        self.assertEqual(len(lines), 1, lines)
        line = lines[0]["log_format"].format(**lines[0])
        for text in texts:
            self.assertIn(text, line)


class TableTests(SimulatorTestCase):
    """Commands are looked up in a table."""

    def test_text(self) -> None:
        """
        A text is sent with the terminator behind it.
        """
        self.simulate()
        self.assertEqual(self.ask("*IDN?"), b"EQUIPNET,DMM,1,1.0\n")

    def test_text_that_is_terminated(self) -> None:
        """
        A text that ends with the terminator gets no second one.
        """
        self.simulate({"A?": "1\n"})
        self.assertEqual(self.ask("A?"), b"1\n")

    def test_bytes(self) -> None:
        """
        Bytes are sent as they are.
        """
        self.simulate({"CURV?": b"#14\x00\n\x00\x01", "GO": b"> "})
        self.assertEqual(self.ask("CURV?"), b"#14\x00\n\x00\x01")
        self.assertEqual(self.ask("GO"), b"> ")

    def test_nothing(self) -> None:
        """
        A command without a reply is followed by nothing.
        """
        self.simulate()
        self.assertEqual(self.ask("*RST"), b"")
        self.assertEqual(self.wire.segments, [])

    def test_list(self) -> None:
        """
        The items of a list come in turn, and again from the first one.
        """
        self.simulate({"READ?": ["1", None, b"2", "3"], "FETC?": []})
        self.assertEqual([self.ask("READ?") for _ in range(5)], [b"1\n", b"", b"2", b"3\n", b"1\n"])
        self.assertEqual(self.ask("FETC?"), b"")

    def test_list_is_the_instruments(self) -> None:
        """
        All clients take from one list.
        """
        self.simulate({"READ?": ["1", "2"]})
        other, wire = self.connect()
        self.assertEqual(self.ask("READ?"), b"1\n")
        other.dataReceived(b"READ?\n")
        self.assertEqual(wire.value(), b"2\n")

    def test_pattern(self) -> None:
        """
        A regular expression must match the whole command, and its groups stand in the reply.
        """
        self.simulate(
            {"SOUR:VOLT 1": "table"},
            patterns={r"SOUR:VOLT (\d+)": r"volt \1", r"(?i)curr (?P<amps>\d+)": [r"\g<amps> A", b"\\1"]},
        )
        self.assertEqual(self.ask("SOUR:VOLT 23"), b"volt 23\n")
        self.assertEqual(self.ask("SOUR:VOLT 1"), b"table\n")
        self.assertEqual(self.ask("SOUR:VOLT 23 V"), b"")
        self.assertEqual(self.ask("CURR 5"), b"5 A\n")
        self.assertEqual(self.ask("CURR 5"), b"\\1")

    def test_first_pattern(self) -> None:
        """
        Of several patterns that match the first one counts.
        """
        self.simulate(patterns=[(re.compile("A.*"), "first"), (".*", None), ("AB", "never")])
        self.assertEqual(self.ask("AB"), b"first\n")
        self.assertEqual(self.ask("B"), b"")

    def test_default(self) -> None:
        """
        All other commands have the default reply.
        """
        self.simulate(default="ERROR")
        self.assertEqual(self.ask("*IDN"), b"ERROR\n")
        self.simulate(default=lambda command: f"{command}?")
        self.assertEqual(self.ask("what"), b"what?\n")
        self.simulate(default=None)
        self.assertEqual(self.ask("what"), b"")

    def test_set_reply(self) -> None:
        """
        A reply can be changed to one of any sort, and back.
        """
        self.simulate()
        for reply, sent in (("x", b"x\n"), (["1", "2"], b"1\n"), (None, b""), (str.lower, b"*idn?\n"), (b"y", b"y")):
            self.simulator.set_reply("*IDN?", reply)
            for line_end in (b"\n", b"\r\n"):
                self.wire.clear()
                if not isinstance(reply, list) or line_end == b"\n":
                    self.send(b"*IDN?" + line_end)
                    self.assertEqual(self.replies(), sent)

    def test_empty_command(self) -> None:
        """
        Empty commands are no commands, unless the table has them.
        """
        self.simulate(default="ERROR")
        self.send(b"\n\r\n\n")
        self.assertEqual(self.replies(), b"")
        self.simulate({"": b"> "}, default="ERROR")
        self.send(b"\n\r\n")
        self.assertEqual(self.replies(), b"> > ")

    def test_encoding(self) -> None:
        """
        Commands and replies are in the encoding.
        """
        self.simulate({"TEMP °C?": "21 °C"}, encoding="latin-1")
        self.send(b"TEMP \xb0C?\n")
        self.assertEqual(self.replies(), b"21 \xb0C\n")

    def test_is_a_connection(self) -> None:
        """
        A simulator is a connection like the others.
        """
        verifyObject(IConnection, self.simulate())


class ConstructorTests(SynchronousTestCase):
    """What cannot work is refused at once."""

    def test_refused(self) -> None:
        """
        A command that cannot arrive, a reply that cannot be sent, patterns and settings that make no sense.
        """
        wrong: list[dict[str, Any]] = [
            {"replies": {"A\n": "1"}},
            {"replies": {"A\r": "1"}},
            {"replies": {"A": 1}},
            {"replies": {"A": ["1", 2.0]}},
            {"replies": {"ABCD": "1"}, "max_command_size": 4},
            {"patterns": {"(": "1"}},
            {"patterns": {"(.)": r"\2"}},
            {"patterns": {"(.)": r"\g<name>"}},
            {"patterns": {"(.)": [r"\2"]}},
            {"default": 1},
            {"termination": ""},
            {"max_command_size": 0},
            {"max_connections": 0},
        ]
        for each in wrong:
            self.assertRaises(ValueError, InstrumentSimulator, reactor=Clock(), **each)

    def test_not_encodable(self) -> None:
        """
        Commands and replies that are not in the encoding are refused, and an encoding that nobody knows.
        """
        for table in ({"°": "1"}, {"1": "°"}):
            self.assertRaises(LocalProtocolError, InstrumentSimulator, table, encoding="ascii", reactor=Clock())
        self.assertRaises(LookupError, InstrumentSimulator, encoding="utf-9", reactor=Clock())


class FramingTests(SimulatorTestCase):
    """Commands end with their terminator, however they come."""

    def test_split_everywhere(self) -> None:
        """
        Commands are found wherever the segments end, with terminators of one or more bytes.
        """
        for termination in (b"\n", b"\r\n", b"<END>"):
            stream = termination.join((b"A?", b"B?", b"set", b"A?", b""))
            for at in range(len(stream) + 1):
                self.simulate({"A?": "1", "B?": "2", "set": None}, termination=termination, reply_termination="\n")
                self.send(stream[:at])
                self.send(stream[at:])
                self.assertEqual(self.replies(), b"1\n2\n1\n", (termination, at))

    def test_byte_by_byte(self) -> None:
        """
        Bytes that come one at a time are commands all the same.
        """
        for termination in (b"\n", b"ABA"):
            self.simulate({"A?": "1", "B?": "2"}, termination=termination, reply_termination=b";")
            for byte in termination.join((b"A?", b"B?", b"A?", b"")):
                self.send(bytes([byte]))
            self.assertEqual(self.replies(), b"1;2;1;")

    def test_in_one_segment(self) -> None:
        """
        The replies to commands of one segment leave in one segment, in their order.
        """
        self.simulate({"A?": "1", "B?": ["2", "3"], "C?": lambda _: succeed("4")})
        self.send(b"A?\nB?\nC?\nB?\nA?\nA")
        self.assertEqual(self.wire.segments, [b"1\n2\n4\n3\n1\n"])
        self.send(b"?\n")
        self.assertEqual(self.wire.segments[1:], [b"1\n"])

    def test_carriage_return(self) -> None:
        """
        With a line feed alone as terminator, a carriage return before it does not count.
        """
        self.simulate({"A?": "1", "B?": ["2"]}, default="ERROR")
        self.send(b"A?\r\nB?\r\nC?\r\nA?\r\r\n")
        self.assertEqual(self.replies(), b"1\n2\nERROR\nERROR\n")

    def test_carriage_return_counts(self) -> None:
        """
        With another terminator it does.
        """
        self.simulate({"A?": "1"}, default="ERROR", termination=";")
        self.send(b"A?\r;A?;")
        self.assertEqual(self.replies(), b"ERROR;1;")

    def test_textual_termination(self) -> None:
        """
        Terminators can be written as registers of equipment have them; an empty one for replies is none.
        """
        self.simulate({"A?": "1"}, termination=r"\r", reply_termination=r"\r\n")
        self.send(b"A?\r")
        self.assertEqual(self.replies(), b"1\r\n")
        self.simulate({"A?": "1"}, reply_termination="")
        self.send(b"A?\n")
        self.assertEqual(self.replies(), b"1")

    def test_known_beginning(self) -> None:
        """
        A command that is the end of a longer one is not taken for itself.
        """
        self.simulate({"A?": "1"}, default="ERROR")
        self.send(b"B")
        self.send(b"A?\n")
        self.assertEqual(self.replies(), b"ERROR\n")


class BadInputTests(SimulatorTestCase):
    """What a client sends costs it at most the reply."""

    def test_too_long(self) -> None:
        """
        A command that is too long is dropped up to its terminator, in whatever pieces it comes, and logged once.
        """
        for termination in (b"\n", b"END"):
            stream = termination.join((b"A?", b"A" * 11, b"A?", b""))
            for size in (1, 2, 3, 5, 8, 13, len(stream)):
                self.watch_log()
                self.simulate({"A?": "1"}, max_command_size=10, termination=termination, reply_termination="\n")
                for at in range(0, len(stream), size):
                    self.send(stream[at : at + size])
                self.assertEqual(self.replies(), b"1\n1\n", size)
                self.logged(self.protocol.peer, "10 bytes")

    def test_longest(self) -> None:
        """
        A command that is as long as is allowed is answered, in whatever pieces it comes.
        """
        for termination in (b"\n", b"END"):
            stream = termination.join((b"A" * 10, b"A" * 10, b""))
            for size in (1, 2, 3, 5, 8, 13, len(stream)):
                self.simulate(default="1", max_command_size=10, termination=termination, reply_termination="\n")
                for at in range(0, len(stream), size):
                    self.send(stream[at : at + size])
                self.assertEqual(self.replies(), b"1\n1\n", size)

    def test_endless(self) -> None:
        """
        Of a command that never ends no more is kept than is allowed.
        """
        self.simulate(max_command_size=1000)
        for _ in range(100):
            self.send(b"A" * 997)
            self.assertLessEqual(len(self.protocol._partial), 1000)
        self.send(b"\n*IDN?\n")
        self.assertEqual(self.replies(), IDN.encode() + b"\n")
        self.logged("1000 bytes")

    def test_not_text(self) -> None:
        """
        A command that is not in the encoding costs one line in the log.
        """
        self.simulate(default="ERROR")
        self.send(b"*IDN?\n\xff\xfe\n*IDN?\n")
        self.assertEqual(self.replies(), b"EQUIPNET,DMM,1,1.0\n" * 2)
        self.logged(self.protocol.peer, "0xff")


class CallableTests(SimulatorTestCase):
    """A reply can be something to call."""

    def test_state(self) -> None:
        """
        Callables get the command or the match, and can remember what they got.
        """
        volts = ["0"]

        def set_volts(match: re.Match[str]) -> None:
            volts[0] = match[1]

        self.simulate({"VOLT?": lambda _: volts[0]}, patterns={r"VOLT (\S+)": set_volts})
        self.assertEqual(self.ask("VOLT?"), b"0\n")
        self.assertEqual(self.ask("VOLT 3"), b"")
        self.assertEqual(self.ask("VOLT?"), b"3\n")

    def test_coroutine(self) -> None:
        """
        A coroutine function answers when it is done, and later commands wait for that.
        """
        measured: Deferred[str] = Deferred()

        async def measure(command: str) -> str:
            return command[0] + await measured

        self.simulate({"M?": measure, "A?": "1"})
        self.send(b"A?\nM?\nA?\n")
        self.send(b"A?\n")
        self.assertEqual(self.replies(), b"1\n")
        measured.callback("2")
        self.assertEqual(self.replies(), b"M2\n1\n1\n")

    def test_other_clients_go_on(self) -> None:
        """
        A reply that takes its time holds up nobody else.
        """
        self.simulate({"M?": lambda _: Deferred(), "A?": "1"})
        other, wire = self.connect()
        self.send(b"M?\n")
        other.dataReceived(b"A?\n")
        self.assertEqual(wire.value(), b"1\n")

    def test_many_deferreds_that_have_fired(self) -> None:
        """
        Thousands of Deferreds that have a result already are no deep recursion.
        """
        self.simulate({"A?": lambda _: succeed("1")})
        self.send(b"A?\n" * 5000)
        self.assertEqual(self.replies(), b"1\n" * 5000)

    def test_raises(self) -> None:
        """
        What a callable raises is logged, and there is no reply.
        """

        async def broken(command: str) -> str:
            raise ZeroDivisionError

        replies: list[Callable[[Any], Any]] = [lambda _: 1 // 0, lambda _: fail(ZeroDivisionError()), broken]
        for reply in replies:
            self.simulate({"BAD?": reply, "A?": "1"})
            self.send(b"A?\nBAD?\nA?\n")
            self.assertEqual(self.replies(), b"1\n1\n")
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_no_answer(self) -> None:
        """
        What is neither text nor bytes nor None, or not in the encoding, is logged and not sent.
        """
        answers: list[Any] = [1.0, "°", succeed(1.0), succeed("°")]
        for answer in answers:
            self.simulate({"BAD?": [], "A?": "1"}, encoding="ascii")
            self.simulator.set_reply("BAD?", partial(lambda answer, _: answer, answer))
            self.send(b"A?\nBAD?\nA?\n")
            self.assertEqual(self.replies(), b"1\n1\n")
            self.assertEqual(len(self.flushLoggedErrors(LocalProtocolError)), 1)

    def test_cancelled(self) -> None:
        """
        When its client goes, what it waits for is cancelled, without a word in the log.
        """
        cancelled: list[object] = []
        self.simulate({"M?": lambda _: Deferred(cancelled.append)})
        self.send(b"M?\nM?\n")
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(self.replies(), b"")
        self.assertEqual(self.simulator.protocols, set())

    def test_ends_the_connection(self) -> None:
        """
        A command can switch the instrument off; then it is the last one, and nothing is left of its reply.
        """
        answers: list[Any] = ["bye", Deferred()]

        def switch_off(command: str) -> Any:
            self.simulator.disconnect()
            return answers.pop()

        for _ in range(2):
            self.simulate({"OFF": switch_off, "A?": "1"}, fault=Fault(delay=1))
            self.send(b"OFF\nA?\n")
            self.assertTrue(self.wire.disconnecting)
            self.assertEqual(self.replies(), b"")
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_answer_after_the_end(self) -> None:
        """
        A reply that comes after its client has gone is dropped.
        """

        async def stubborn(command: str) -> str:
            try:
                await Deferred()
            except BaseException:
                return "late"
            return "never"

        self.simulate({"M?": stubborn})
        self.send(b"M?\n")
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.replies(), b"")


class Supply(InstrumentSimulator):
    """A power supply that remembers its voltage."""

    volts = "0"

    def reply_to(self, command: str) -> Any:
        if command.startswith("VOLT "):
            self.volts = command[5:]
            return None
        if command == "VOLT?":
            return self.volts
        return super().reply_to(command)


class SubclassTests(SimulatorTestCase):
    """An instrument with a state of its own is a subclass."""

    def test_reply_to(self) -> None:
        """
        Its own replies come first, and then those of the table.
        """
        self.use(Supply({"*IDN?": IDN, "VOLT?": "table"}, patterns={"(.)": r"\1"}, default="E", reactor=self.clock))
        self.assertEqual(self.ask("VOLT?"), b"0\n")
        self.assertEqual(self.ask("VOLT 3"), b"")
        self.assertEqual(self.ask("VOLT?"), b"3\n")
        self.assertEqual(self.ask("*IDN?"), b"EQUIPNET,DMM,1,1.0\n")
        self.assertEqual(self.ask("x"), b"x\n")
        self.assertEqual(self.ask("xy"), b"E\n")


class FaultTests(SimulatorTestCase):
    """What can go wrong on request."""

    def test_delay(self) -> None:
        """
        Replies are delayed one after the other, and keep their order.
        """
        self.simulate({"A?": ["1", "2", "3", "4"]})
        self.simulator.inject(Fault(delay=2.0), count=2)
        self.send(b"A?\nA?\nA?\n")
        self.send(b"A?\n")
        self.clock.advance(1.9)
        self.assertEqual(self.replies(), b"")
        self.clock.advance(0.1)
        self.assertEqual(self.replies(), b"1\n")
        self.clock.advance(2.0)
        self.assertEqual(self.replies(), b"2\n3\n4\n")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_delay_of_what_takes_its_time(self) -> None:
        """
        The delay begins when the reply is there.
        """
        answer: Deferred[str] = Deferred()
        self.simulate({"A?": lambda _: answer}, fault=Fault(delay=2.0))
        self.send(b"A?\n")
        self.clock.advance(5)
        answer.callback("1")
        self.assertEqual(self.replies(), b"")
        self.clock.advance(2)
        self.assertEqual(self.replies(), b"1\n")

    def test_delay_and_the_end(self) -> None:
        """
        Nothing is left on the clock when a client goes whose reply is delayed.
        """
        self.simulate(fault=Fault(delay=2.0))
        self.send(b"*IDN?\n")
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_split(self) -> None:
        """
        A reply leaves in pieces, each in a turn of its own, and the next reply after it.
        """
        self.simulate({"A?": "12345", "B?": "6"})
        self.simulator.inject(Fault(split=2), count=1)
        self.send(b"A?\nB?\n")
        self.assertEqual(self.replies(), b"")
        self.turns()
        self.assertEqual(self.wire.segments, [b"12", b"34", b"5\n", b"6\n"])

    def test_split_of_a_short_one(self) -> None:
        """
        A reply that is shorter than a piece leaves at once.
        """
        self.simulate(fault=Fault(split=100))
        self.assertEqual(self.ask("*IDN?"), b"EQUIPNET,DMM,1,1.0\n")

    def test_merge(self) -> None:
        """
        Replies are held back until there are enough of them, and leave in one segment.
        """
        self.simulate({"A?": ["1", "2", "3", "4"], "set": None}, fault=Fault(merge=3))
        for command in ("A?", "set", "A?"):
            self.assertEqual(self.ask(command), b"")
        self.assertEqual(self.ask("A?"), b"1\n2\n3\n")
        self.assertEqual(len(self.wire.segments), 1)
        self.assertEqual(self.ask("A?"), b"")
        self.simulator.clear_faults()
        self.assertEqual(self.replies(), b"4\n")

    def test_merge_runs_out(self) -> None:
        """
        What is held back when the fault is over leaves before the next reply, whatever else is asked.
        """
        for command, reply in (("A?", b"1\n"), ("B?", b"2\n"), ("what", b"E\n")):
            self.simulate({"A?": "1", "B?": ["2"]}, default="E")
            self.simulator.inject(Fault(merge=3), count=2)
            self.assertEqual(self.ask("A?"), b"")
            self.assertEqual(self.ask("A?"), b"")
            self.assertEqual(self.ask(command), b"1\n1\n" + reply)

    def test_drop(self) -> None:
        """
        A command whose reply is dropped is acted on.
        """
        self.simulate({"A?": ["1", "2"]})
        self.simulator.inject(Fault(drop=True), count=1)
        self.assertEqual(self.ask("A?"), b"")
        self.assertEqual(self.ask("A?"), b"2\n")

    def test_silence(self) -> None:
        """
        In silence commands are read and not acted on.
        """
        self.simulate({"A?": ["1", "2"]}, fault=Fault(silence=True))
        self.assertEqual(self.ask("A?"), b"")
        self.assertTrue(self.wire.reading)
        self.simulator.clear_faults()
        self.assertEqual(self.ask("A?"), b"1\n")

    def test_garble(self) -> None:
        """
        Replies are garbled, each differently, and with one seed always in the same way.
        """
        runs = []
        for seed in (7, 7, 8):
            self.simulate({"A?": "0" * 40}, fault=Fault(garble=3, seed=seed))
            runs.append([self.ask("A?") for _ in range(5)])
        self.assertEqual(runs[0], runs[1])
        self.assertNotEqual(runs[0], runs[2])
        self.assertEqual(len(set(runs[0])), 5)
        for reply in runs[0]:
            different = sum((a ^ b).bit_count() for a, b in zip(reply, b"0" * 40 + b"\n", strict=True))
            self.assertEqual(different, 3)

    def test_close(self) -> None:
        """
        The connection is closed after the reply, or after half of it, and nothing more is acted on.
        """
        fault: Fault
        for fault, sent in (
            (Fault(close="after"), b"0\n12345\n"),
            (Fault(close="middle"), b"0\n123"),
            (Fault(drop=True, close="after"), b"0\n"),
        ):
            self.simulate({"A?": "12345", "Z?": "0"})
            self.simulator.inject(Fault(delay=1), count=1)
            self.simulator.inject(fault, count=1)
            self.send(b"Z?\nA?\nA?\n")
            self.clock.advance(1)
            self.send(b"A?\n")
            self.assertEqual(self.replies(), sent)
            self.assertTrue(self.wire.disconnecting)
            self.assertFalse(self.wire.aborted)
            self.assertIsNone(self.wire.producer)

    def test_reset(self) -> None:
        """
        The connection is reset once the reply, or half of it, has left.
        """
        for fault, sent in ((Fault(reset="after"), b"12345\n"), (Fault(reset="middle"), b"123")):
            self.simulate({"A?": "12345"}, fault=fault)
            self.send(b"A?\nA?\n")
            self.assertEqual(self.replies(), sent)
            self.assertFalse(self.wire.aborted)
            self.turns()
            self.assertTrue(self.wire.aborted)
            self.assertEqual(self.replies(), b"")

    def test_together(self) -> None:
        """
        Several faults happen in their order: the delay, the pieces, the end.
        """
        self.simulate({"A?": "12345"}, fault=Fault(delay=1, split=2, close="middle"))
        self.send(b"A?\n")
        self.turns()
        self.assertEqual(self.replies(), b"")
        self.clock.advance(1)
        self.turns(2)
        self.assertEqual(self.wire.segments, [b"12", b"3"])
        self.assertTrue(self.wire.disconnecting)

    def test_refuse(self) -> None:
        """
        New clients are turned away, those that are there stay.
        """
        self.simulate()
        self.simulator.inject(Fault(refuse=True), count=2)
        self.assertIsNone(self.simulator.admit(None))
        self.assertEqual(self.ask("*IDN?"), b"EQUIPNET,DMM,1,1.0\n")
        self.assertIsNone(self.simulator.admit(None))
        self.assertEqual(self.simulator.refused, 2)
        self.assertIsNotNone(self.simulator.admit(None))

    def test_one_client(self) -> None:
        """
        A fault can concern one client only, and is forgotten with it.
        """
        self.simulate()
        other, wire = self.connect()
        self.simulator.inject(Fault(drop=True), client=other)
        for protocol in (self.protocol, other):
            protocol.dataReceived(b"*IDN?\n")
        self.assertEqual(self.replies(), b"EQUIPNET,DMM,1,1.0\n")
        self.assertEqual(wire.value(), b"")
        other.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.simulator._faults, [])

    def test_one_peer(self) -> None:
        """
        A client can be named by its address.
        """
        self.simulate()
        self.simulator.inject(Fault(drop=True), count=1, client="10.0.0.1:99")
        self.assertEqual(self.ask("*IDN?"), b"EQUIPNET,DMM,1,1.0\n")
        self.simulator.inject(Fault(drop=True), count=1, client=self.protocol.peer)
        self.assertEqual(self.ask("*IDN?"), b"")
        self.assertEqual(self.ask("*IDN?"), b"EQUIPNET,DMM,1,1.0\n")

    def test_each_in_turn(self) -> None:
        """
        Faults with a count happen one after the other, and then the one without.
        """
        self.simulate({"A?": "12"}, fault=Fault(drop=True))
        self.simulator.inject(Fault(delay=1), count=1)
        self.simulator.inject(Fault(garble=16), count=1)
        self.send(b"A?\nA?\nA?\n")
        self.clock.advance(1)
        first, rest = self.replies().split(b"\n", 1)
        self.assertEqual((first, len(rest)), (b"12", 3))
        self.assertEqual(self.ask("A?"), b"")
        self.simulator.clear_faults()
        self.assertEqual(self.ask("A?"), b"12\n")

    def test_wrong_use(self) -> None:
        """
        A count is at least one, and nobody who is connected is refused.
        """
        self.simulate()
        self.assertRaises(ValueError, self.simulator.inject, Fault(drop=True), 0)
        self.assertRaises(ValueError, self.simulator.inject, Fault(refuse=True), None, self.protocol)


class BackPressureTests(SimulatorTestCase):
    """A client that does not read is not read."""

    def test_choked(self) -> None:
        """
        Commands of a client that does not take its replies are acted on when it does; until then it is not read.
        """
        served = []
        self.simulate({"A?": lambda _: served.append(1) or b"x" * 100})  # type: ignore[func-returns-value]
        self.protocol, self.wire = self.connect(appetite=BATCH)
        self.send(b"A?\n" * 10_000)
        self.assertLess(len(served), 2 * BATCH / 100)
        self.assertFalse(self.wire.reading)
        self.protocol.resumeProducing()
        self.assertTrue(self.wire.reading)
        self.assertEqual(len(self.replies()), 1_000_000)

    def test_known_replies(self) -> None:
        """
        That is so as well for replies which do not change.
        """
        self.simulate({"A?": b"x" * BATCH})
        self.protocol, self.wire = self.connect(appetite=1)
        self.send(b"A?\n" * 100)
        self.assertEqual(len(self.replies()), BATCH)
        self.send(b"A?\n")
        self.assertEqual(self.replies(), b"")
        self.protocol.resumeProducing()
        self.assertEqual(len(self.replies()), 100 * BATCH)

    def test_not_read_only_when_it_must(self) -> None:
        """
        As long as a client does not send more than can be acted on, reading goes on.
        """
        self.simulate({"M?": lambda _: Deferred()})
        self.send(b"M?\n")
        self.assertTrue(self.wire.reading)
        self.send(b"M?\n")
        self.assertFalse(self.wire.reading)

    def test_hang_up_while_choked(self) -> None:
        """
        A client that does not read can be hung up on.
        """
        self.simulate({"A?": b"x" * BATCH})
        self.protocol, self.wire = self.connect(appetite=1)
        self.send(b"A?\nA?\n")
        self.protocol.hang_up(ConnectionLost("test"), abort=False)
        self.protocol.hang_up(ConnectionLost("test"))
        self.assertIsNone(self.wire.producer)
        self.protocol.resumeProducing()
        self.assertEqual(len(self.replies()), BATCH)


class DatagramTests(SimulatorTestCase):
    """Over UDP each datagram holds commands, and each reply is a datagram."""

    def setUp(self) -> None:
        super().setUp()
        self.simulate({"A?": "1", "B?": ["2"], "set": None, "": "empty"}, listen="udp:0", default="ERROR")

    def test_commands(self) -> None:
        """
        A datagram holds one or more commands, the last one with or without its terminator.
        """
        for datagram, replies in (
            (b"A?\n", [b"1\n"]),
            (b"A?", [b"1\n"]),
            (b"A?\r\nB?\nset\nA?", [b"1\n", b"2\n", b"1\n"]),
            (b"A?\nset\n", [b"1\n"]),
            (b"", [b"empty\n"]),
            (b"A", [b"ERROR\n"]),
            (b"?\n", [b"ERROR\n"]),
        ):
            self.wire.segments.clear()
            self.send(datagram)
            self.assertEqual(self.wire.segments, replies, datagram)

    def test_faults(self) -> None:
        """
        Merged replies are one datagram, pieces one each.
        """
        self.simulator.inject(Fault(merge=2), count=2)
        self.send(b"A?\nB?")
        self.assertEqual(self.wire.segments, [b"1\n2\n"])
        self.simulator.inject(Fault(split=1), count=1)
        self.send(b"A?")
        self.turns()
        self.assertEqual(self.wire.segments[1:], [b"1", b"\n"])

    def test_tap(self) -> None:
        """
        Taps see the datagrams.
        """
        seen: list[Traffic] = []
        self.simulator.add_tap(seen.append)
        self.send(b"A?\nB?")
        self.assertEqual(
            [(each.direction, each.raw) for each in seen], [("in", b"A?\nB?"), ("out", b"1\n"), ("out", b"2\n")]
        )

    def test_too_long(self) -> None:
        """
        A reply that no datagram can hold is logged and dropped.
        """

        def refuse(data: bytes) -> None:
            raise LocalProtocolError("it does not fit")

        self.patch(self.wire, "write", refuse)
        self.send(b"A?\n")
        self.logged("it does not fit", self.protocol.peer)
        self.watch_log()
        self.send(b"A?")
        self.logged("it does not fit", self.protocol.peer)


class TapTests(SimulatorTestCase):
    """Taps see commands and replies."""

    def test_messages(self) -> None:
        """
        Each command is seen as it came, each reply as it left.
        """
        self.simulate({"A?": "1", "set": None})
        seen: list[Traffic] = []
        self.simulator.add_tap(seen.append)
        self.send(b"A?\r\nset\nA")
        self.send(b"?\n")
        self.assertEqual(
            [(each.direction, each.raw) for each in seen],
            [("in", b"A?\r\n"), ("out", b"1\n"), ("in", b"set\n"), ("in", b"A?\n"), ("out", b"1\n")],
        )
        self.assertEqual(self.replies(), b"1\n1\n")

    def test_faults(self) -> None:
        """
        What was dropped is not seen, what left in pieces is seen whole.
        """
        self.simulate({"A?": "123"})
        self.simulator.inject(Fault(drop=True), count=1)
        self.simulator.inject(Fault(split=1), count=1)
        seen: list[Traffic] = []
        self.simulator.add_tap(seen.append)
        self.send(b"A?\nA?\n")
        self.turns()
        self.assertEqual([each.raw for each in seen], [b"A?\n", b"A?\n", b"123\n"])


class InMemoryTests(SimulatorTestCase):
    """An `Instrument` of the same process needs no socket."""

    def instrument(self, simulator: InstrumentSimulator, **settings: Any) -> Instrument:
        """Connect an instrument to the simulator."""
        instrument = Instrument(simulator.in_memory(self.clock), reactor=self.clock, **settings)
        connected = instrument.connect()
        self.turns()
        self.successResultOf(connected)
        return instrument

    def test_query(self) -> None:
        """
        Its queries are answered, while the simulator is not started.
        """
        simulator = InstrumentSimulator({"*IDN?": IDN}, reactor=self.clock, allowed=["10.0.0.0/8"])
        instrument = self.instrument(simulator, rstrip=True)
        answer = instrument.query("*IDN?")
        self.turns()
        self.assertEqual(self.successResultOf(answer), IDN)
        self.assertIs(simulator.state, State.STOPPED)

    def test_clock(self) -> None:
        """
        Delays pass on the clock that carries the bytes; without one it is the simulator's.
        """
        simulator = InstrumentSimulator({"A?": "1"}, reactor=MemoryReactorClock(), fault=Fault(delay=3))
        answer = self.instrument(simulator).query("A?")
        self.clock.advance(0)
        self.clock.advance(2)
        self.assertNoResult(answer)
        self.clock.advance(1)
        self.turns()
        self.assertEqual(self.successResultOf(answer), "1\n")
        other = InstrumentSimulator({"A?": "1"}, reactor=self.clock)
        instrument = Instrument(other.in_memory(), reactor=self.clock)
        connected = instrument.connect()
        self.turns()
        self.successResultOf(connected)

    def test_faults(self) -> None:
        """
        Pieces are put together again, and a connection that is closed or reset is an error at once.
        """
        simulator = InstrumentSimulator({"A?": "12345"}, reactor=self.clock)
        instrument = self.instrument(simulator)
        simulator.inject(Fault(split=1), count=1)
        answer = instrument.query("A?")
        self.turns(10)
        self.assertEqual(self.successResultOf(answer), "12345\n")
        for fault in (Fault(close="middle"), Fault(reset="middle")):
            simulator.inject(fault, count=1)
            answer = self.instrument(simulator).query("A?")
            self.turns()
            self.failureResultOf(answer, ConnectionLost)

    def test_refuse(self) -> None:
        """
        A client that is refused learns it.
        """
        simulator = InstrumentSimulator(reactor=self.clock)
        simulator.inject(Fault(refuse=True), count=1)
        connected = Instrument(simulator.in_memory(self.clock), reactor=self.clock).connect()
        self.turns()
        self.failureResultOf(connected, ConnectionError)

    def test_switched_off(self) -> None:
        """
        Disconnecting a simulator that is not started ends the connections in memory, too.
        """
        simulator = InstrumentSimulator(reactor=self.clock)
        instrument = self.instrument(simulator)
        self.successResultOf(simulator.disconnect())
        self.turns()
        self.assertIsNot(instrument.state, State.READY)
        self.successResultOf(instrument.disconnect())
        self.assertEqual(simulator.protocols, set())

    def test_nothing_is_left(self) -> None:
        """
        When the client has gone nothing is left on the clock.
        """
        simulator = InstrumentSimulator({"A?": "1"}, reactor=self.clock, fault=Fault(delay=3))
        instrument = self.instrument(simulator)
        answer = instrument.query("A?")
        self.turns()
        disconnected = instrument.disconnect()
        self.turns()
        self.successResultOf(disconnected)
        self.failureResultOf(answer, ConnectionError)
        self.turns()
        self.assertEqual(self.clock.getDelayedCalls(), [])
