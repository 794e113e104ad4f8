"""Tests of the commands that run a reactor, each in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from threading import Thread

from twisted.trial.unittest import SynchronousTestCase

import equipnet

LIMIT = 30.0
"""How many seconds a process may take; only a broken one needs them."""


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(equipnet.__file__).parents[1])}
COMMAND = [sys.executable, "-m", "equipnet.cli"]


class AskTests(SynchronousTestCase):
    def setUp(self) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = listening.getsockname()[1]
        self.address = f"tcp:127.0.0.1:{self.port}"
        self.received: list[bytes] = []
        instrument = Thread(target=self.answer, args=(listening,), daemon=True)
        instrument.start()
        self.addCleanup(instrument.join, LIMIT)
        # close() alone does not wake the thread that waits in accept().
        self.addCleanup(listening.close)
        self.addCleanup(lambda: socket.create_connection(("127.0.0.1", self.port)).close())

    def answer(self, listening: socket.socket) -> None:
        """Be an instrument for one client: every line is answered, but one that asks for silence."""
        client, _ = listening.accept()
        # A client whose query timed out resets the connection.
        with client, contextlib.suppress(ConnectionResetError):
            while line := client.recv(1000):
                self.received.append(line)
                if line != b"silence\n":
                    client.sendall(b"ACME,54," + line)

    def equipnet(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )

    def test_address(self) -> None:
        """
        The reply is printed without its terminator, and nothing else is.
        """
        ended = self.equipnet("ask", self.address, "*IDN?", "--termination", r"\r\n")
        self.assertEqual((ended.stdout, ended.stderr, ended.returncode), ("ACME,54,*IDN?\n", "", 0))
        self.assertEqual(self.received, [b"*IDN?\r\n"])

    def test_connection_of_a_file(self) -> None:
        """
        A name in a file is asked as the file says.
        """
        file = Path(self.mktemp())
        file.write_text(
            '[connections.dmm]\nkind = "instrument"\nwrite_termination = "!\\n"\n'
            f'address = "{self.address}"\n[connections.other]\nkind = "instrument"\naddress = "tcp:127.0.0.1:9"\n'
        )
        ended = self.equipnet("ask", "--config", str(file), "dmm", "*IDN?")
        self.assertEqual((ended.stdout, ended.stderr, ended.returncode), ("ACME,54,*IDN?!\n", "", 0))
        ended = self.equipnet("ask", "--config", str(file), "dnm", "*IDN?")
        self.assertEqual(
            (ended.stdout, ended.stderr, ended.returncode),
            ("", f"{file}: there is no connection 'dnm'; one of: dmm, other; did you mean 'dmm'?\n", 1),
        )

    def test_silence(self) -> None:
        """
        An instrument that does not answer in time is one line on standard error.
        """
        ended = self.equipnet("ask", self.address, "silence", "--timeout", "0.2")
        self.assertEqual((ended.stdout, ended.returncode), ("", 1))
        self.assertRegex(ended.stderr, r"^Timeout occurred after 0\.2 second\(s\), [^\n]*\n$")

    def test_nobody(self) -> None:
        """
        So are an instrument that is not there, and an address that is none.
        """
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        ended = self.equipnet("ask", f"127.0.0.1:{port}", "*IDN?")
        self.assertEqual((ended.stdout, ended.returncode), ("", 1))
        self.assertRegex(ended.stderr, rf"^Cannot connect to tcp:127\.0\.0\.1:{port}: [^\n]*refused[^\n]*\n$")
        ended = self.equipnet("ask", "nowhere", "*IDN?")
        self.assertEqual((ended.stdout, ended.returncode), ("", 1))
        self.assertRegex(
            ended.stderr, r"^'nowhere' is not an address; [^\n]*; or, with --config FILE, the name of a connection\n$"
        )


class SimulateTests(SynchronousTestCase):
    def start(self, table: str) -> subprocess.Popen[str]:
        file = Path(self.mktemp())
        file.write_text(table)
        simulator = subprocess.Popen(
            [*COMMAND, "simulate", "instrument", str(file)],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(simulator.communicate)
        self.addCleanup(simulator.kill)
        return simulator

    def test_until_interrupted(self) -> None:
        """
        The address where it listens is printed; from then on it answers, until Ctrl-C ends it well.
        """
        simulator = self.start('listen = "tcp:0"\nreplies = { "*IDN?" = "ACME,54" }\n')
        assert simulator.stdout is not None
        scheme, host, port = simulator.stdout.readline().rstrip("\n").split(":")
        self.assertEqual((scheme, host), ("tcp", "127.0.0.1"))
        with socket.create_connection((host, int(port)), timeout=LIMIT) as client:
            client.sendall(b"*IDN?\n")
            self.assertEqual(client.makefile("rb").readline(), b"ACME,54\n")
        simulator.send_signal(signal.SIGINT)
        output, errors = simulator.communicate(timeout=LIMIT)
        self.assertEqual((output, simulator.returncode), ("", 0))
        self.assertNotIn("Traceback", errors)

    def test_port_in_use(self) -> None:
        """
        A port that somebody else holds ends the command with one line.
        """
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            simulator = self.start(f'listen = "tcp:{port}"\n')
            output, errors = simulator.communicate(timeout=LIMIT)
        self.assertEqual((output, simulator.returncode), ("", 1))
        self.assertRegex(errors, rf"^Cannot listen on tcp:127\.0\.0\.1:{port}: [^\n]*in use[^\n]*\n$")
