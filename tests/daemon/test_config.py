"""Tests of reading a configuration file: what is right, and what is said about everything that is not."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from pydantic import SecretStr
from twisted.trial.unittest import SynchronousTestCase

from equipnet.daemon.config import NodeConfig, installed_kinds, read_config, read_section, schema
from equipnet.errors import ConfigError
from tests.daemon.kinds import KINDS, Bearer, MeterSection, ServerSection, VaultSection

METER = '[connections.dmm]\nkind = "meter"\naddress = "tcp:192.0.2.1:5025"\n'
"""A connection that is right; it ends with line 3."""


class ConfigTests(SynchronousTestCase):
    """What the tests of reading a file share."""

    maxDiff = None

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.file = self.folder / "bl831.toml"

    def read(self, text: str | bytes, environ: Mapping[str, str] | None = None) -> NodeConfig:
        self.file.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_config(self.file, KINDS, environ or {})

    def wrong(self, text: str | bytes, environ: Mapping[str, str] | None = None) -> list[str]:
        """The lines that are printed about a file, each without the file's name in front."""
        error = self.assertRaises(ConfigError, self.read, text, environ)
        return [line.removeprefix(f"{self.file}:") for line in str(error).split("\n")]


class RightFileTests(ConfigTests):
    def test_everything_given(self) -> None:
        """
        A right file becomes a node with its connections in the order of the file.
        """
        config = self.read(
            '[node]\nname = "hutch"\ngrace = 0.5\n[connections.z]\nkind = "server"\nlisten = "tcp:0"\n'
            'needs = ["dmm"]\n' + METER
        )
        self.assertEqual((config.name, config.grace, config.file), ("hutch", 0.5, str(self.file)))
        self.assertEqual(config.folder, self.folder.absolute())
        self.assertEqual(list(config.connections), ["z", "dmm"])
        self.assertIsInstance(config.connections["z"], ServerSection)
        self.assertEqual(config.connections["z"].needs, ("dmm",))
        self.assertEqual(cast(MeterSection, config.connections["dmm"]).address, "tcp:192.0.2.1:5025")

    def test_nothing_given(self) -> None:
        """
        An empty file is a node without connections; its name is that of the file.
        """
        config = self.read("")
        self.assertEqual((config.name, config.grace, dict(config.connections)), ("bl831", 2.0, {}))

    def test_other_line_ends(self) -> None:
        """
        A file that was written on Windows, with a byte order mark, is read as any other.
        """
        self.assertEqual(list(self.read(b"\xef\xbb\xbf" + METER.replace("\n", "\r\n").encode()).connections), ["dmm"])

    def test_frozen(self) -> None:
        """
        What has been read does not change.
        """
        config = self.read(METER)
        self.assertFalse(hasattr(config.connections, "__setitem__"))
        self.assertRaises(AttributeError, setattr, config, "name", "x")

    def test_no_file(self) -> None:
        """
        A file that is not there is an OSError, as for any other reader.
        """
        self.assertRaises(FileNotFoundError, read_config, self.file, KINDS)


TEN_MISTAKES = """\
[node]
grace = "long"

[connections.dmm]
kind = "meter"
adress = "tcp:192.0.2.1:5025"
timeout = "soon"
mode = "activ"
timers = { t3 = 0 }
[connections.dmm.retry]
maximum = "a lot"

[connections.etcher]
kind = "metre"

[connections.images]
kind = "server"
listen = "tcp:9000"
needs = ["dnm"]

[connections.other]
kind = "server"
listen = "tls:9000:interface=0.0.0.0"
"""


class ManyMistakesTests(ConfigTests):
    def test_ten_mistakes(self) -> None:
        """
        A file with ten mistakes is told all ten, by line.
        """
        self.assertEqual(
            self.wrong(TEN_MISTAKES),
            [
                "2: node.grace: must be a number, not 'long'",
                "4: connections.dmm: 'address' is required",
                "6: connections.dmm.adress: unknown key; did you mean 'address'?",
                "7: connections.dmm.timeout: must be a number, not 'soon'",
                "8: connections.dmm.mode: must be one of 'active' or 'passive', not 'activ'; did you mean 'active'?",
                "9: connections.dmm.timers.t3: must be greater than 0, not 0",
                "11: connections.dmm.retry.maximum: must be a number, not 'a lot'",
                "14: connections.etcher.kind: unknown kind 'metre'; one of 'broken', 'meter', 'server', 'vault'; "
                "did you mean 'meter'?",
                "19: connections.images.needs[0]: there is no connection 'dnm'; did you mean 'dmm'?",
                "23: connections.other.listen: the same TCP port as connections.images.listen on line 18",
            ],
        )


class SyntaxTests(ConfigTests):
    def test_line(self) -> None:
        """
        What is not TOML is reported with its line, and nothing of what stands there is shown.
        """
        for text, said in {
            "\n\npassword = hunter2": "3: this is not TOML: invalid value",
            'password = "hunter2': "1: this is not TOML: unterminated string",
            'password = "hun\\qter2"': "1: this is not TOML: unescaped '\\' in a string",
            "password = 'hunter2\x07'": "1: this is not TOML: found invalid character",
            "[hunter2": "1: this is not TOML: expected ']' at the end of a table declaration",
            "hunter2 =": "1: this is not TOML: invalid value",
            'a = 1\nb = """hunter2\n': "2: this is not TOML: unterminated string",
            "a.b = 1\n[a]": "2: this is not TOML: this key or table is there already, or cannot be added to",
            "x = " + "[" * 5000: "1: lists or tables in lists or tables, too deep to read",
        }.items():
            self.assertEqual(self.wrong(text), [said])

    def test_two_of_one_name(self) -> None:
        """
        Two connections with one name, and two values for one key, are reported with both lines.
        """
        self.assertEqual(self.wrong(METER + METER), ["4: connections.dmm: is there twice; the first is on line 1"])
        self.assertEqual(
            self.wrong(METER + 'address = "tcp:h:1"\n'),
            ["4: connections.dmm.address: is there twice; the first is on line 3"],
        )

    def test_encoding(self) -> None:
        """
        A file that is not UTF-8 is reported with the line of the first byte that is wrong.
        """
        self.assertEqual(self.wrong(b"a = 1\nb = '\xb5m'\n"), ["2: this is not UTF-8 text"])


class ShapeTests(ConfigTests):
    def test_not_a_table(self) -> None:
        """
        What should be a table and is something else is told how it is written.
        """
        self.assertEqual(
            self.wrong("connections = 1\nnode = 2\n"),
            [
                "1: connections: must be a table for each connection: [connections.NAME]",
                "2: node: must be a table: [node]",
            ],
        )
        self.assertEqual(
            self.wrong("[[connections.a]]\n[connections]\nb = 1\n"),
            [
                "1: connections.a: must be one table; write [connections.NAME], with one pair of brackets",
                "3: connections.b: must be a table: [connections.NAME]",
            ],
        )

    def test_unknown_table(self) -> None:
        """
        There are three tables, and a fourth is a spelling mistake.
        """
        self.assertEqual(
            self.wrong("[nodes]\n[x]\n"),
            [
                "1: nodes: unknown key; did you mean 'node'?",
                "2: x: unknown key; known here: node, logging, connections",
            ],
        )

    def test_names(self) -> None:
        """
        A connection's name has no spaces or dots.
        """
        self.assertEqual(
            self.wrong(METER.replace(".dmm", '."d m"') + METER.replace(".dmm", '."d.m"')),
            [
                "1: connections.'d m': a connection's name consists of letters, digits, '_' and '-'",
                "4: connections.'d.m': a connection's name consists of letters, digits, '_' and '-'",
            ],
        )


class LoggingTests(ConfigTests):
    """The table that says what is logged."""

    def test_given(self) -> None:
        """
        It has a level for everything, one for connections and namespaces by name, and a format.
        """
        logging = self.read(
            METER + '[logging]\nlevel = "warn"\nformat = "json"\n'
            'levels = { dmm = "debug", "equipnet.hsms" = "error", twisted = "critical" }\n'
        ).logging
        self.assertEqual((logging.level, logging.format), ("warn", "json"))
        self.assertEqual(logging.levels, {"dmm": "debug", "equipnet.hsms": "error", "twisted": "critical"})

    def test_not_given(self) -> None:
        """
        Where nothing is said, everything but what is for finding mistakes is written, as text.
        """
        logging = self.read(METER).logging
        self.assertEqual((logging.level, logging.format, logging.levels), ("info", "text", {}))

    def test_wrong(self) -> None:
        """
        Its mistakes are told as those of the other tables, with what may have been meant.
        """
        self.assertEqual(
            self.wrong('[logging]\nlevel = "warning"\nformat = "jsn"\nlevles = {}\nlevels = { twisted = 3 }'),
            [
                "2: logging.level: must be one of 'debug', 'info', 'warn', 'error' or 'critical', not 'warning'; "
                "did you mean 'warn'?",
                "3: logging.format: must be one of 'text' or 'json', not 'jsn'; did you mean 'json'?",
                "4: logging.levles: unknown key; did you mean 'levels'?",
                "5: logging.levels.twisted: must be one of 'debug', 'info', 'warn', 'error' or 'critical', not 3",
            ],
        )
        self.assertEqual(self.wrong("logging = 1"), ["1: logging: must be a table: [logging]"])
        self.assertEqual(self.wrong("[logging]\nlevels = 1"), ["2: logging.levels: must be a table, not 1"])

    def test_names(self) -> None:
        """
        A name is that of a connection, right or wrong, or begins with that of a module that can be found, beside the
        file too; within equipnet and Twisted one step further is looked.
        """
        (self.folder / "loop_dhs.py").touch()
        right = ("dmm", "etcher", "loop_dhs.LoopServer", "json.tool", "equipnet", "equipnet.hsms.service", "twisted")
        wrong = ("dnm", "equipnt", "equipnet.hsmss.service", "twisted.internt", "")
        levels = "".join(f'"{name}" = "debug"\n' for name in (*right, *wrong, "stdout", "__main__"))
        self.assertEqual(
            self.wrong(METER + f"[logging.levels]\n{levels}[connections.etcher]\nkind = 'metre'\n")[:-1],
            [
                "12: logging.levels.dnm: there is no connection and no module 'dnm'; did you mean 'dmm'?",
                "13: logging.levels.equipnt: there is no connection and no module 'equipnt'; did you mean 'equipnet'?",
                "14: logging.levels.'equipnet.hsmss.service': there is no connection and no module "
                "'equipnet.hsmss.service'; did you mean 'equipnet.hsms'?",
                "15: logging.levels.'twisted.internt': there is no connection and no module 'twisted.internt'; "
                "did you mean 'twisted.internet'?",
                "16: logging.levels.'': there is no connection and no module ''",
            ],
        )

    def test_dots(self) -> None:
        """
        A name with dots but without quotes, which TOML takes for tables in tables, is told how it is written.
        """
        self.assertEqual(
            self.wrong('[logging]\nlevels.equipnet.hsms = "debug"'),
            ['2: logging.levels: a name with dots needs quotes: "equipnet.hsms"'],
        )


class AgreementTests(ConfigTests):
    """What makes a connection another one when the file is read again."""

    def agree(self, before: str, after: str, environ: Mapping[str, str] | None = None) -> bool:
        first = self.read(before, {"P": "hunter2"})
        return first.agrees(self.read(after, environ or {"P": "hunter2"}), "dmm")

    def test_same(self) -> None:
        """
        Other words for the same, other places in the file, and what other tables say make no difference.
        """
        self.assertTrue(self.agree(METER, METER))
        self.assertTrue(self.agree(METER + "timeout = 5", "[node]\ngrace = 1\n" + METER + "# as ever\ntimeout = 5.0"))

    def test_changed(self) -> None:
        """
        Another value does, wherever it stands in the table, and so does another kind, or being there at all.
        """
        self.assertFalse(self.agree(METER, METER + "timeout = 6"))
        self.assertFalse(self.agree(METER, METER + "timers = { t5 = 11 }"))
        self.assertFalse(self.agree(METER, '[connections.dmm]\nkind = "vault"\npassword = "x"'))
        self.assertFalse(self.agree(METER, ""))
        self.assertFalse(self.agree("", METER))

    def test_from_elsewhere(self) -> None:
        """
        A value from elsewhere counts as if it stood in the table.
        """
        table = METER + 'password = "${env:P}"'
        self.assertTrue(self.agree(table, table))
        self.assertFalse(self.agree(table, table, {"P": "hunter3"}))

    def test_files(self) -> None:
        """
        A file that the table names as such and that has changed makes it another one; one that is not there does not,
        nor does what is written into a folder.
        """
        pem, folder = self.folder / "meter.pem", self.folder / "readings"
        folder.mkdir()
        table = METER + 'files = ["meter.pem", "readings"]'
        first = self.read(table)
        self.assertTrue(first.agrees(self.read(table), "dmm"))
        (folder / "one").touch()
        self.assertTrue(first.agrees(self.read(table), "dmm"))
        pem.write_text("certificate")
        second = self.read(table)
        self.assertFalse(first.agrees(second, "dmm"))
        pem.write_text("another one")
        os.utime(pem, ns=(0, pem.stat().st_mtime_ns + 1))
        self.assertFalse(second.agrees(self.read(table), "dmm"))

    def test_odd_values(self) -> None:
        """
        What cannot be compared is not the same.
        """
        table = METER + 'odd = "x"'
        self.assertFalse(self.agree(table, table))


class KindTests(ConfigTests):
    def test_missing(self) -> None:
        """
        A connection without a kind is told which kinds there are.
        """
        self.assertEqual(
            self.wrong('[connections.a]\naddress = "tcp:h:1"'),
            ["1: connections.a: 'kind' is required; one of 'broken', 'meter', 'server', 'vault'"],
        )
        self.assertEqual(self.wrong("[connections.a]\nkind = 3"), ["2: connections.a.kind: must be a text, not 3"])

    def test_unknown(self) -> None:
        """
        A kind that is like no other gets the list alone.
        """
        self.assertEqual(
            self.wrong('[connections.a]\nkind = "xyz"'),
            ["2: connections.a.kind: unknown kind 'xyz'; one of 'broken', 'meter', 'server', 'vault'"],
        )

    def test_broken(self) -> None:
        """
        A kind whose package cannot be imported is a problem of the connections of that kind only.
        """
        self.assertEqual(
            self.wrong(METER + '[connections.a]\nkind = "broken"'),
            ["5: connections.a.kind: kind 'broken' cannot be used: ImportError: No module named 'vendor_driver'"],
        )

    def test_installed(self) -> None:
        """
        Without a list of kinds those count that are installed as plugins, in alphabetical order.
        """
        self.assertEqual(list(installed_kinds()), sorted(installed_kinds()))
        self.file.write_text('[connections.a]\nkind = "no-such-kind"')
        error = self.assertRaises(ConfigError, read_config, self.file)
        self.assertIn("2: connections.a.kind: unknown kind 'no-such-kind'; ", str(error))


class ValueTests(ConfigTests):
    def meter(self, more: str) -> list[str]:
        """What is said about a meter with more lines, the first of which is line 4; without the connection's name."""
        return [line.replace("connections.dmm.", "") for line in self.wrong(METER + more)]

    def test_wrong_types(self) -> None:
        """
        What type a value must have is said in the words of the file, with the value.
        """
        self.assertEqual(self.meter("serial = 5"), ["4: serial: must be a text, not 5"])
        self.assertEqual(self.meter("size = 1.5"), ["4: size: must be a whole number, not 1.5"])
        self.assertEqual(self.meter("timeout = []"), ["4: timeout: must be a number, not a list"])
        self.assertEqual(self.meter("log = 'maybe'"), ["4: log: must be true or false, not 'maybe'"])
        self.assertEqual(self.meter("points = 4"), ["4: points: must be a list, not 4"])
        self.assertEqual(self.meter("timers = 3"), ["4: timers: must be a table, not 3"])
        self.assertEqual(self.meter("limits = []"), ["4: limits: must be a table, not a list"])
        self.assertEqual(self.meter("serial = true"), ["4: serial: must be a text, not true"])
        self.assertEqual(self.meter("needs = 'dmm'"), ["4: needs: must be a list, not 'dmm'"])

    def test_out_of_range(self) -> None:
        """
        What is too small or too large is told the limit.
        """
        self.assertEqual(self.meter("timeout = 0"), ["4: timeout: must be greater than 0, not 0"])
        self.assertEqual(self.meter("timeout = 1e9"), ["4: timeout: must be at most 60, not 1000000000.0"])

    def test_unions(self) -> None:
        """
        Where several types are allowed, all are named; inside a table only what is wrong with the table.
        """
        self.assertEqual(self.meter("limit = 'x'"), ["4: limit: must be a whole number or true or false, not 'x'"])
        self.assertEqual(self.meter("retry = 'never'"), ["4: retry: must be a table or false, not 'never'"])
        self.assertEqual(self.meter("retry = { maximum = 'x' }"), ["4: retry.maximum: must be a number, not 'x'"])

    def test_tagged_unions(self) -> None:
        """
        Where a key of a table decides about the others, it is that key that is wrong or missing, or a key of its kind.
        """
        self.assertEqual(
            self.meter("login = { scheme = 'digest' }"),
            ["4: login.scheme: must be one of 'basic', 'bearer', not 'digest'"],
        )
        self.assertEqual(self.meter("login = { user = 'x' }"), ["4: login: 'scheme' is required"])
        self.assertEqual(
            self.meter("[connections.dmm.login]\nscheme = 'basic'\nuser = 'x'\npasword_file = 'f'"),
            [
                "4: login: 'password' is required (or 'password_file')",
                "7: login.pasword_file: unknown key; did you mean 'password_file'?",
            ],
        )

    def test_in_lists(self) -> None:
        """
        What is wrong in a list of tables has the line of the table or the key in it.
        """
        self.assertEqual(
            self.meter("points = [\n  { x = 1 },\n  { y = 'b', z = 2 },\n]"),
            [
                "6: points[1]: 'x' is required",
                "6: points[1].y: must be a number, not 'b'",
                "6: points[1].z: unknown key; known here: x, y",
            ],
        )

    def test_unknown_key(self) -> None:
        """
        A key that is like no other gets the list of those that there are.
        """
        self.assertEqual(self.meter("timers.q = 1"), ["4: timers.q: unknown key; known here: t3, t5"])

    def test_what_the_model_says(self) -> None:
        """
        What a check of a kind's own says is passed on.
        """
        (said,) = self.wrong('[connections.a]\nkind = "meter"\naddress = "nowhere"')
        self.assertTrue(said.startswith("3: connections.a.address: 'nowhere' is not an address; write tcp:HOST:PORT, "))

    def test_model_that_breaks(self) -> None:
        """
        A model that fails in its own check, rather than refusing the table, is a problem of that connection.
        """
        self.assertEqual(
            self.meter("size = 12\n[connections.a]\nkind = 'xyz'")[:1],
            ["1: connections.dmm: KeyError: 'no rule for 12'"],
        )

    def test_long_values(self) -> None:
        """
        Of a long value the beginning is shown, and a text never takes more than its line.
        """
        (said,) = self.meter('size = """' + "long\\n" * 100 + '"""')
        self.assertEqual(said, "4: size: must be a whole number, not '" + r"long\n" * 9 + "lo...")


class NeedsTests(ConfigTests):
    def node(self, **needs: list[str]) -> str:
        return "".join(
            f'[connections.{name}]\nkind = "server"\nlisten = "tcp:0"\nneeds = {json.dumps(needed)}\n'
            for name, needed in needs.items()
        )

    def test_circles(self) -> None:
        """
        Connections that need each other in a circle could not be started in any order; each circle is reported once.
        """
        self.assertEqual(
            self.wrong(self.node(a=["b"], b=["c"], c=["a", "d"], d=["d"], e=["a"])),
            [
                "4: connections.a.needs: goes in a circle: a -> b -> c -> a",
                "16: connections.d.needs: goes in a circle: d -> d",
            ],
        )

    def test_endless(self) -> None:
        """
        A chain that nobody can follow is a problem as any other.
        """
        chain = {f"c{number}": [f"c{number + 1}"] for number in range(2000)}
        (problem,) = self.wrong(self.node(**chain, c2000=[]))
        self.assertTrue(problem.startswith("1: connections: "), problem)
        self.assertIn("too long to follow", problem)

    def test_no_texts(self) -> None:
        """
        What is not a name, or cannot be had, is reported once, where it stands in the list.
        """
        self.assertEqual(
            self.wrong(self.node(a=[]).replace("[]", '[\n5,\n"${env:B}",\n"c"]')),
            [
                "5: connections.a.needs[0]: must be a text, not 5",
                "6: connections.a.needs[1]: the environment variable B is not set",
                "7: connections.a.needs[2]: there is no connection 'c'",
            ],
        )

    def test_no_circle(self) -> None:
        """
        Two ways to one connection are none.
        """
        self.assertEqual(len(self.read(self.node(a=["b", "c"], b=["d"], c=["d"], d=[])).connections), 4)

    def test_wrong_neighbour(self) -> None:
        """
        A connection that is wrong itself is there nevertheless: who needs it has no problem.
        """
        self.assertEqual(
            self.wrong(self.node(a=["b"]) + '[connections.b]\nkind = "server"\nneeds = ["c"]\n'),
            [
                "5: connections.b: 'listen' is required",
                "7: connections.b.needs[0]: there is no connection 'c'",
            ],
        )


class PortTests(ConfigTests):
    def servers(self, *listen: str) -> str:
        return "".join(
            f'[connections.s{number}]\nkind = "server"\nlisten = {json.dumps(address)}\n'
            for number, address in enumerate(listen)
        )

    def test_collisions(self) -> None:
        """
        Two connections cannot bind one port, TLS or not; an address for every interface is in the way of each of them.
        """
        for first, second in [
            ("tcp:9000", "tcp:127.0.0.1:9000"),
            ("tcp:9000", "tls:9000"),
            ("tcp:9000", "tcp:9000:interface=0.0.0.0"),
            ("tcp:[::]:9000", "tcp:9000:interface=10.0.0.1"),
            ("tcp:[::1]:9000", "tcp:[0:0:0:0:0:0:0:1]:9000"),
            ("tcp:localhost:9000", "tcp:127.0.0.1:9000"),
        ]:
            self.assertEqual(
                self.wrong(self.servers(first, second)),
                ["6: connections.s1.listen: the same TCP port as connections.s0.listen on line 3"],
            )
        self.assertEqual(
            self.wrong(self.servers("udp:9000", "udp:9000")),
            ["6: connections.s1.listen: the same UDP port as connections.s0.listen on line 3"],
        )
        self.assertEqual(
            self.wrong(self.servers("unix:/run/a", "unix:/run//a")),
            ["6: connections.s1.listen: the same socket file as connections.s0.listen on line 3"],
        )

    def test_no_collisions(self) -> None:
        """
        Other ports, other interfaces, UDP beside TCP, other files, and any free port do not collide.
        """
        for first, second in [
            ("tcp:9000", "tcp:9001"),
            ("tcp:9000", "tcp:9000:interface=10.0.0.1"),
            ("tcp:9000", "udp:9000"),
            ("tcp:0", "tcp:0"),
            ("unix:/run/a", "unix:/run/b"),
        ]:
            self.assertEqual(len(self.read(self.servers(first, second)).connections), 2)

    def test_three_on_one_port(self) -> None:
        """
        Each connection but the first is told once, also where one connection binds a port twice.
        """
        self.assertEqual(
            self.wrong(self.servers("tcp:1", "tcp:1") + 'also = ["tcp:2",\n"tcp:1"]'),
            [
                "6: connections.s1.listen: the same TCP port as connections.s0.listen on line 3",
                "8: connections.s1.also[1]: the same TCP port as connections.s0.listen on line 3",
            ],
        )

    def test_no_address(self) -> None:
        """
        An address that a kind finds wrong only when asked for its ports is a problem of that connection.
        """
        (said,) = self.wrong(self.servers("nowhere"))
        self.assertTrue(said.startswith("1: connections.s0: 'nowhere' is not an address to listen on; write tcp:PORT"))


class SubstitutionTests(ConfigTests):
    def meter(self, more: str, environ: Mapping[str, str]) -> MeterSection:
        return cast(MeterSection, self.read(METER + more, environ).connections["dmm"])

    def test_environment(self) -> None:
        """
        ``${env:NAME}`` is replaced in any text, as a whole or as a part, in lists and tables; a number is read from it.
        """
        meter = self.meter(
            'serial = "a${env:ONE}b${env:TWO}"\nneeds = ["${env:ME}"]\ntimers = { t5 = "${env:TEN}" }\n'
            '[connections.other]\nkind = "meter"\naddress = "${env:WHERE}"',
            {"ONE": "1", "TWO": "${env:ONE}", "ME": "other", "TEN": "10", "WHERE": "tcp:h:1"},
        )
        self.assertEqual((meter.serial, meter.needs, meter.timers.t5), ("a1b${env:ONE}", ("other",), 10))

    def test_escape(self) -> None:
        """
        A doubled dollar sign before a brace stands for itself; dollar signs elsewhere do anyway.
        """
        self.assertEqual(self.meter('serial = "$${env:A} $5 $$"', {}).serial, "${env:A} $5 $$")

    def test_credentials(self) -> None:
        """
        ``${cred:NAME}`` is the content of a file in the folder where systemd puts credentials, without its line end.
        """
        (self.folder / "dmm.password").write_text("hunter2\n")
        environ = {"CREDENTIALS_DIRECTORY": str(self.folder)}
        meter = self.meter('password = "${cred:dmm.password}"', environ)
        self.assertEqual(cast(SecretStr, meter.password).get_secret_value(), "hunter2")

    def test_secret_files(self) -> None:
        """
        For a secret ``password`` the file may say ``password_file``, a file beside it; in tables in the table too.
        """
        (self.folder / "secret").write_text("  hunter2\n")
        meter = self.meter(
            'password_file = "secret"\nlogin = { scheme = "bearer", token_file = "${env:WHERE}" }',
            {"WHERE": str(self.folder.absolute() / "secret")},
        )
        self.assertEqual(cast(SecretStr, meter.password).get_secret_value(), "hunter2")
        self.assertEqual(cast(Bearer, meter.login).token.get_secret_value(), "hunter2")

    def test_missing(self) -> None:
        """
        What is not there is named, once, on the line that asks for it; nothing else is said about that value.
        """
        self.assertEqual(
            self.wrong(
                METER
                + """\
size = "${env:SIZE}"
password = "${cred:dmm}"
serial = "${env:}"
timers = { t3 = "${evn:T3}" }
[connections.safe]
kind = "vault"
password_file = "nothing"
"""
            ),
            [
                "4: connections.dmm.size: the environment variable SIZE is not set",
                "5: connections.dmm.password: there is no credential dmm: CREDENTIALS_DIRECTORY is not set",
                "6: connections.dmm.serial: '${' begins ${env:NAME} or ${cred:NAME}; "
                "for the characters themselves write '$${'",
                "7: connections.dmm.timers.t3: '${' begins ${env:NAME} or ${cred:NAME}; "
                "for the characters themselves write '$${'",
                "10: connections.safe.password_file: the file 'nothing' cannot be read: No such file or directory",
            ],
        )

    def test_credential_that_cannot_be_read(self) -> None:
        """
        A credential that is not there, or no text, is named; it cannot be a file in another folder.
        """
        (self.folder / "binary").write_bytes(b"\xff")
        environ = {"CREDENTIALS_DIRECTORY": str(self.folder)}
        self.assertEqual(
            self.wrong(METER + 'serial = "${cred:none}"\npassword = "${cred:binary}"', environ),
            [
                "4: connections.dmm.serial: the credential none cannot be read: No such file or directory",
                "5: connections.dmm.password: the credential binary cannot be read: it is not UTF-8 text",
            ],
        )
        (said,) = self.wrong(METER + 'serial = "${cred:../x}"', environ)
        self.assertIn("'${' begins", said)

    def test_both(self) -> None:
        """
        A secret and its file cannot both be given, and the file is a name.
        """
        vault = '[connections.safe]\nkind = "vault"\n'
        self.assertEqual(
            self.wrong(vault + 'password = "a"\npassword_file = "b"'),
            ["4: connections.safe.password_file: 'password' is there too; give one of them"],
        )
        self.assertEqual(
            self.wrong(vault + "password_file = 5"),
            ["3: connections.safe.password_file: must be a text, the name of a file"],
        )

    def test_only_below_connections(self) -> None:
        """
        The node's own table is taken as it stands.
        """
        self.assertEqual(self.read('[node]\nname = "${env:HOME}"', {"HOME": "x"}).name, "${env:HOME}")


class SecretTests(ConfigTests):
    """Nothing that is said or shown holds a secret."""

    def assert_secret(self, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
        said = self.wrong(text, environ)
        self.assertNotIn("hunter", "\n".join(said))
        return said

    def test_neighbours(self) -> None:
        """
        Mistakes beside a secret, around it and in its own key do not show it.
        """
        secrets = 'password = "hunter2"\npasswort = "hunter3"\n'
        self.assertEqual(
            self.assert_secret(METER + secrets + 'size = "x"\nlogin = { scheme = "basic", password = "hunter4" }\n'),
            [
                "5: connections.dmm.passwort: unknown key; did you mean 'password'?",
                "6: connections.dmm.size: must be a whole number, not 'x'",
                "7: connections.dmm.login: 'user' is required",
            ],
        )

    def test_own_key(self) -> None:
        """
        A secret of the wrong type is told the right one.
        """
        self.assertEqual(
            self.assert_secret(METER + 'password = ["hunter2"]'), ["4: connections.dmm.password: must be a text"]
        )

    def test_called_like_a_secret(self) -> None:
        """
        The value of a key that is called like a secret is not shown, although its type is not one.
        """
        self.assertEqual(
            self.assert_secret('[connections.a]\nkind = "vault"\npassword = "x"\nkey = "hunter2"'),
            ["4: connections.a.key: must be a whole number"],
        )

    def test_from_elsewhere(self) -> None:
        """
        A value that came from elsewhere is not shown, whatever the key, nor is the nearest right value.
        """
        environ = {"A": "hunter2", "MODE": "hunteractiv", "KIND": "hunter"}
        self.assertEqual(
            self.assert_secret(
                '[connections.a]\nkind = "meter"\naddress = "${env:A}"\nmode = "${env:MODE}"\nneeds = ["${env:A}"]\n'
                'size = "${env:A}"\n[connections.b]\nkind = "${env:KIND}"\n',
                environ,
            ),
            [
                "3: connections.a.address: is not accepted (the reason is not shown: it would tell a secret)",
                "4: connections.a.mode: must be one of 'active' or 'passive'",
                "5: connections.a.needs[0]: there is no connection of that name",
                "6: connections.a.size: must be a whole number",
                "8: connections.b.kind: unknown kind; one of 'broken', 'meter', 'server', 'vault'",
            ],
        )

    def test_careless_model(self) -> None:
        """
        A model whose own check writes a secret into its error does not get that said.
        """
        (self.folder / "secret").write_text("hunter2")
        for given in ('"hunter2"', '"${env:P}"'):
            self.assertEqual(
                self.assert_secret(METER + f"size = 13\npassword = {given}", {"P": "hunter2"}),
                ["1: connections.dmm: is not accepted (the reason is not shown: it would tell a secret)"],
            )
        self.assertEqual(self.wrong(METER + "size = 13"), ["1: connections.dmm: size 13 does not go with the password"])

    def test_error_object(self) -> None:
        """
        Neither the error nor what it was made from holds a value of the file.
        """
        error = self.assertRaises(ConfigError, self.read, METER + 'password = "hunter2"\nsize = "x"')
        self.assertNotIn("hunter2", repr(error) + repr(error.problems))
        self.assertIsNone(error.__cause__)
        self.assertIsNone(error.__context__)

    def test_repr(self) -> None:
        """
        What has been read shows names and kinds only.
        """
        config = self.read(METER + 'password = "hunter2"\nserial = "${env:A}"', {"A": "hunter3"})
        self.assertEqual(repr(config), f"<NodeConfig bl831 from {self.file}: dmm: meter>")
        self.assertNotIn("hunter", repr(config.filled) + repr(config.connections["dmm"].model_dump()["password"]))
        self.assertEqual(repr(self.read("")), f"<NodeConfig bl831 from {self.file}: no connections>")


class SectionFileTests(ConfigTests):
    """A file that holds one connection's table."""

    def section(self, text: str) -> NodeConfig:
        self.file.write_text(text)
        return read_section(self.file, "server", KINDS, {})

    def test_right(self) -> None:
        """
        Such a file becomes a node with one connection that is called like the file; it may name its kind.
        """
        for text in ('listen = "tcp:0"', 'kind = "server"\nlisten = "tcp:0"'):
            config = self.section(text)
            self.assertEqual(config.name, "bl831")
            self.assertEqual(cast(ServerSection, config.connections["bl831"]).listen, "tcp:0")

    def test_wrong(self) -> None:
        """
        Its mistakes are reported as those of any table, with its lines.
        """
        error = self.assertRaises(ConfigError, self.section, 'kind = "meter"\n\nlissten = "tcp:0"\n')
        self.assertEqual(
            str(error).replace(f"{self.file}:", "").split("\n"),
            [
                "1: 'listen' is required",
                "1: kind: must be 'server' here, or left out",
                "3: lissten: unknown key; did you mean 'listen'?",
            ],
        )

    def test_syntax(self) -> None:
        """
        What is not TOML is reported in the same way.
        """
        error = self.assertRaises(ConfigError, self.section, "listen = ")
        self.assertEqual(str(error), f"{self.file}:1: this is not TOML: invalid value")


class SchemaTests(SynchronousTestCase):
    def test_whole(self) -> None:
        """
        The schema has the node, its log, every kind that can be imported by its name, and says which cannot.
        """
        whole = schema(KINDS)
        json.dumps(whole)
        self.assertEqual(whole["$schema"], "https://json-schema.org/draft/2020-12/schema")
        self.assertEqual(whole["$comment"], "Left out, as they cannot be imported: broken")
        self.assertEqual(whole["properties"]["node"], {"$ref": "#/$defs/NodeSection"})
        self.assertEqual(whole["properties"]["logging"], {"$ref": "#/$defs/LoggingSection"})
        self.assertEqual(whole["$defs"]["LoggingSection"]["properties"]["format"]["enum"], ["text", "json"])
        connections = whole["properties"]["connections"]["additionalProperties"]
        self.assertEqual(
            connections["oneOf"],
            [
                {"$ref": f"#/$defs/{model}", "properties": {"kind": {"const": kind}}, "required": ["kind"]}
                for kind, model in (("meter", "MeterSection"), ("server", "ServerSection"), ("vault", "VaultSection"))
            ],
        )

    def test_secret_files(self) -> None:
        """
        Where a secret can stand the file's name can stand, and exactly one of them where it must.
        """
        vault = schema(KINDS)["$defs"][VaultSection.__name__]
        self.assertEqual(vault["properties"]["password_file"]["type"], "string")
        self.assertNotIn("password", vault["required"])
        self.assertEqual(vault["allOf"], [{"oneOf": [{"required": ["password"]}, {"required": ["password_file"]}]}])
        meter = schema(KINDS)["$defs"][MeterSection.__name__]
        self.assertEqual(meter["allOf"], [{"not": {"required": ["password", "password_file"]}}])
