from pathlib import Path
from typing import Any

from pydantic import ValidationError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from equipnet.connection.address import Address
from equipnet.connection.memory import MemoryEndpoint
from equipnet.daemon.config import read_config
from equipnet.daemon.tree import Node
from equipnet.errors import ConfigError
from equipnet.instrument import Block, IdleGap, Instrument, InstrumentSimulator, Prompt, Regex, Resync, Size, Terminator
from equipnet.instrument.config import EndingSection, InstrumentSection, SimulatedInstrumentSection
from equipnet.interfaces import INode


def built(section: Any, name: str = "dmm", folder: Path = Path()) -> Any:
    """Build the connection of a section, which needs nothing of its node."""
    node: INode = Node("test", 1.0, Clock())
    return section.build(name, node, folder, Clock())


class InstrumentSectionTests(SynchronousTestCase):
    """
    Every setting of an instrument can be written in a file.
    """

    def test_defaults(self) -> None:
        """
        What a file does not say is as in the constructor.
        """
        of_file = built(InstrumentSection.model_validate({"address": "tcp:127.0.0.1:5025"}))
        of_program = Instrument("tcp:127.0.0.1:5025", reactor=Clock())
        for name in ("buffer_size", "encoding", "encoding_errors", "family", "max_read_size", "proto", "rstrip"):
            self.assertEqual(getattr(of_file, name), getattr(of_program, name), name)
        for name in ("read_termination", "write_termination", "timeout", "socket_type", "ending", "resync"):
            self.assertEqual(getattr(of_file, name), getattr(of_program, name), name)
        self.assertEqual(of_file.queue_limit, of_program.queue_limit)
        self.assertEqual(of_file.connect_timeout, of_program.connect_timeout)

    def test_everything(self) -> None:
        """
        What it says arrives, in the textual forms of registers, too.
        """
        dmm = built(
            InstrumentSection.model_validate(
                {
                    "address": "UDP::dmm.lab::5025",
                    "buffer_size": 100,
                    "encoding": "latin-1",
                    "encoding_errors": "REPLACE",
                    "family": "af_inet6",
                    "max_read_size": 2000,
                    "proto": 17,
                    "read_termination": "\\r\\n",
                    "rstrip": True,
                    "socket_type": "dgram",
                    "timeout": 2.5,
                    "write_termination": "'\\n'",
                    "ending": {"prompt": "> "},
                    "resync": "gap",
                    "resync_gap": 0.25,
                    "queue_limit": 7,
                    "connect_timeout": 3.0,
                }
            )
        )
        self.assertEqual(dmm.address, Address("udp", "dmm.lab", 5025))
        self.assertEqual((dmm.buffer_size, dmm.encoding, dmm.encoding_errors), (100, "latin-1", "replace"))
        self.assertEqual((dmm.family, dmm.max_read_size, dmm.proto), ("INET6", 2000, 17))
        self.assertEqual((dmm.read_termination, dmm.write_termination), (b"\r\n", b"\n"))
        self.assertEqual((dmm.rstrip, dmm.socket_type, dmm.timeout), (True, "DGRAM", 2.5))
        self.assertEqual((dmm.ending, dmm.resync, dmm.resync_gap), (Prompt("> "), Resync.GAP, 0.25))
        self.assertEqual((dmm.queue_limit, dmm.connect_timeout, dmm.name), (7, 3.0, "dmm"))

    def test_refused(self) -> None:
        """
        What makes no sense is refused, each at its own key.
        """
        wrong = {
            "address": "dmm",
            "encoding": "utf-9",
            "encoding_errors": "shrug",
            "family": "IPX",
            "socket_type": "RAW",
            "timeout": "soon",
            "proto": 99,
            "connect_timeout": float("inf"),
            "max_read_size": 0,
            "ending": {"size": 0},
            "resync": "never",
            "colour": "red",
        }
        with self.assertRaises(ValidationError) as caught:
            InstrumentSection.model_validate(wrong)
        self.assertEqual({error["loc"][0] for error in caught.exception.errors()}, set(wrong))

    def test_gap_without_length(self) -> None:
        """
        A resynchronisation by a gap of no length is found before anything runs.
        """
        with self.assertRaisesRegex(ValueError, "resync_gap"):
            built(InstrumentSection.model_validate({"address": "tcp:h:1", "resync": "gap"}))


class EndingSectionTests(SynchronousTestCase):
    """
    Each way in which a reply can end has a key.
    """

    def test_each(self) -> None:
        """
        The key says which.
        """
        for table, ending in (
            ({"terminators": ["\n", "\\r"]}, Terminator(b"\n", b"\r")),
            ({"size": 8}, Size(8)),
            ({"prompt": ":"}, Prompt(":")),
            ({"regex": "OK|ERR"}, Regex("OK|ERR")),
            ({"gap": 0.5}, IdleGap(0.5)),
            ({"block": "hp"}, Block("hp")),
        ):
            self.assertEqual(EndingSection.model_validate(table).ending(), ending)

    def test_length_prefix(self) -> None:
        """
        A header of two bytes that says how many follow.
        """
        scanner = EndingSection.model_validate({"length_prefix": ">H"}).ending().begin()
        self.assertEqual(scanner.feed(b"\x00\x03abcd"), 5)

    def test_refused(self) -> None:
        """
        None, two, and one that cannot be are refused.
        """
        for table in ({}, {"size": 3, "gap": 1.0}, {"regex": "("}, {"length_prefix": "?!"}, {"terminators": [""]}):
            with self.assertRaises(ValueError, msg=str(table)):
                EndingSection.model_validate(table)

    def test_prefix_without_length(self) -> None:
        """
        A header in which no whole number stands last gives no length: that is found before a reply comes.
        """
        for notation in (">f", ">H2s", "4x"):
            with self.assertRaisesRegex(ValueError, "whole number", msg=notation):
                EndingSection.model_validate({"length_prefix": notation})


class SimulatedInstrumentSectionTests(SynchronousTestCase):
    """
    A file can describe an instrument that is not there.
    """

    def replies(self, section: dict[str, Any], *commands: str, folder: Path = Path()) -> list[Any]:
        """Ask the simulator that a section describes."""
        clock = Clock()
        table = {"listen": "tcp:0", **section}
        simulator = built(SimulatedInstrumentSection.model_validate(table), folder=folder)
        assert isinstance(simulator, InstrumentSimulator)
        endpoint: MemoryEndpoint = simulator.in_memory(clock)
        dmm = Instrument(endpoint, termination="\n", timeout=1.0, reactor=clock)
        dmm.connect()
        answers = [dmm.query(command, decode=False) for command in commands]
        clock.pump([0.0] * 20)
        return [self.successResultOf(answer) for answer in answers]

    def test_replies(self) -> None:
        """
        Text, text in turn, bytes, numbers, and what a pattern makes of the command.
        """
        self.assertEqual(
            self.replies(
                {
                    "replies": {
                        "*IDN?": "ACME",
                        "READ?": ["1", "2"],
                        "RAW?": {"hex": "41 42 0a"},
                        "CURV?": {"ieee": [1.0]},
                    },
                    "patterns": {r"VOLT (\d)": r"set \1"},
                    "default": "ERR",
                },
                "*IDN?",
                "READ?",
                "READ?",
                "READ?",
                "RAW?",
                "CURV?",
                "VOLT 3",
                "WHAT",
            ),
            [b"ACME\n", b"1\n", b"2\n", b"1\n", b"AB\n", b"#14\x00\x00\x80?\n", b"set 3\n", b"ERR\n"],
        )

    def test_fault(self) -> None:
        """
        What goes wrong from the beginning can be written down; what makes no sense is refused at its key.
        """
        commands = ("*IDN?",)
        self.assertEqual(self.replies({"replies": {"*IDN?": "A"}, "fault": {"split": 1}}, *commands), [b"A\n"])
        for fault, place in (({"dleay": 1.0}, ("fault", "dleay")), ({"split": 0}, ("fault",)), ({}, ("fault",))):
            with self.assertRaises(ValidationError) as caught:
                SimulatedInstrumentSection.model_validate({"listen": "tcp:0", "fault": fault})
            self.assertEqual([error["loc"] for error in caught.exception.errors()], [place])

    def test_function(self) -> None:
        """
        A function beside the file is called for its reply.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "voltmeter_of_this_test.py").write_text("def measure(command):\n    return command[::-1]\n")
        section = {"replies": {"ABC": {"call": "voltmeter_of_this_test:measure"}}}
        self.assertEqual(self.replies(section, "ABC", folder=folder), [b"CBA\n"])

    def test_function_that_is_not_there(self) -> None:
        """
        A function that cannot be found is said before anything runs.
        """
        for name in ("nothing", "no_such_module:f", "os:no_such_name"):
            section = SimulatedInstrumentSection.model_validate({"listen": "tcp:0", "default": {"call": name}})
            with self.assertRaisesRegex(ValueError, name):
                built(section)

    def test_tls_without_a_certificate(self) -> None:
        """
        A TLS port that could never be opened is found before anything runs.
        """
        tables: tuple[dict[str, Any], ...] = ({}, {"tls": {}}, {"tls": {"authority": "a.pem"}})
        for tls in tables:
            with self.assertRaisesRegex(ValidationError, "needs tls = { certificate"):
                SimulatedInstrumentSection.model_validate({"listen": "tls:0", **tls})

    def test_ports(self) -> None:
        """
        The port is known before it is bound, so that two on one port are found.
        """
        section = SimulatedInstrumentSection.model_validate({"listen": "udp:5025"})
        self.assertEqual(section.listens_on(), (Address("udp", "127.0.0.1", 5025),))


class FileTests(SynchronousTestCase):
    """
    The kinds are known to the daemon.
    """

    def test_problems(self) -> None:
        """
        Each mistake is one line.
        """
        file = Path(self.mktemp())
        file.write_text(
            "[connections.dmm]\n"
            'kind = "simulated-instrument"\n'
            'listen = "tcp:0"\n'
            "fault = { dleay = 3 }\n"
            "[connections.dmm.replies]\n"
            'a = { hexx = "00" }\n'
            'b = { hex = "0g" }\n'
        )
        with self.assertRaises(ConfigError) as caught:
            read_config(file)
        self.assertEqual(
            [(problem.line, problem.path, problem.message) for problem in caught.exception.problems],
            [
                (4, "connections.dmm.fault.dleay", "unknown key; did you mean 'delay'?"),
                (6, "connections.dmm.replies.a.hexx", "unknown key; did you mean 'hex'?"),
                (7, "connections.dmm.replies.b", "non-hexadecimal number found in fromhex() arg at position 1"),
            ],
        )

    def test_tls_files(self) -> None:
        """
        A certificate that is not there is found by ``--check``, at the connection that names it.
        """
        file = Path(self.mktemp())
        file.write_text(
            "[connections.dmm]\n"
            'kind = "instrument"\n'
            'address = "tls:localhost:5025"\n'
            'tls = { authority = "no-such-authority.pem" }\n'
        )
        with self.assertRaises(ConfigError) as caught:
            Node.from_config(read_config(file), Clock())
        self.assertIn("no-such-authority.pem", str(caught.exception))
