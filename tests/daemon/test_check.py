"""Tests of ``equipnet check`` on a file of this release's own kinds in which everything is wrong."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from equipnet.cli import main
from equipnet.daemon.config import installed_kinds

WRONG = """\
[nodes]
[node]
grace = "2 s"

[logging]
level = "warning"
format = { json = true }
levels = { dnm = "debug", "equipnet.hsm" = "debug" }

[connections.dmm]
kind = "instrument"
addres = "TCP::192.168.1.100::5025"
termination = "\\n"

[connections."the laser"]
kind = "instrumnet"

[connections.etcher]
kind = "hsms"
mode = "active"
address = "tcp:10.0.0.5:5000"
session_id = 1.5
timers = { t3 = "long" }
needs = ["dmn"]

[connections.images]
kind = "simulated-instrument"
listen = "tcp:9000"
needs = ["mirror"]

[connections.mirror]
kind = "simulated-instrument"
listen = "tls:9000:interface=0.0.0.0"
tls = { certificate = "missing.pem", key = "missing.pem" }
needs = ["images"]

[connections.loop]
kind = "dhs"
address = "tcp:dcss:14242"
application = "no_such_module:Server"

[connections.thermometer]
kind = "instrument"
address = "tcp:${env:NO_SUCH_VARIABLE}:1"
"""


class CheckTests(SynchronousTestCase):
    maxDiff = None

    def test_everything_wrong(self) -> None:
        """
        All mistakes of a file are told at once, whatever their kind, each with its line; then their number.
        """
        file = Path(self.mktemp()).absolute()
        file.write_text(WRONG)
        names = ("dhs", "hsms", "instrument", "simulated-instrument")
        kinds = {name: kind for name, kind in installed_kinds().items() if name in names}
        result = CliRunner().invoke(main, ["check", str(file)], obj=kinds)
        self.assertEqual(
            result.stderr.replace(f"{file}:", "").splitlines(),
            [
                "1: nodes: unknown key; did you mean 'node'?",
                "3: node.grace: must be a number, not '2 s'",
                "6: logging.level: must be one of 'debug', 'info', 'warn', 'error' or 'critical', not 'warning'; "
                "did you mean 'warn'?",
                "7: logging.format: must be one of 'text' or 'json', not a table",
                "8: logging.levels.'equipnet.hsm': there is no connection and no module 'equipnet.hsm'; "
                "did you mean 'equipnet.hsms'?",
                "8: logging.levels.dnm: there is no connection and no module 'dnm'; did you mean 'dmm'?",
                "10: connections.dmm: 'address' is required",
                "12: connections.dmm.addres: unknown key; did you mean 'address'?",
                "15: connections.'the laser': a connection's name consists of letters, digits, '_' and '-'",
                "16: connections.'the laser'.kind: unknown kind 'instrumnet'; one of 'dhs', 'hsms', 'instrument', "
                "'simulated-instrument'; did you mean 'instrument'?",
                "22: connections.etcher.session_id: must be a whole number, not 1.5",
                "23: connections.etcher.timers.t3: must be a number, not 'long'",
                "24: connections.etcher.needs[0]: there is no connection 'dmn'; did you mean 'dmm'?",
                "29: connections.images.needs: goes in a circle: images -> mirror -> images",
                f"31: connections.mirror: No such file or directory: '{file.parent / 'missing.pem'}'",
                "33: connections.mirror.listen: the same TCP port as connections.images.listen on line 28",
                "37: connections.loop: there is no 'no_such_module:Server': ModuleNotFoundError: "
                "No module named 'no_such_module'",
                "44: connections.thermometer.address: the environment variable NO_SUCH_VARIABLE is not set",
                " 18 problems",
            ],
        )
        self.assertEqual((result.stdout, result.exit_code), ("", 1))
