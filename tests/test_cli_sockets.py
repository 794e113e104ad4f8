"""Tests of the commands that run a reactor, each in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread

from twisted.trial.unittest import SynchronousTestCase

import equipnet

LIMIT = 30.0
"""How many seconds a process may take; only a broken one needs them."""


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
        with client, suppress(ConnectionResetError):
            while line := client.recv(1000):
                self.received.append(line)
                if line != b"silence\n":
                    client.sendall(b"ACME,54," + line)

    def equipnet(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "equipnet.cli", *arguments],
            env={**os.environ, "PYTHONPATH": str(Path(equipnet.__file__).parents[1])},
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
        self.assertRegex(ended.stderr, r"^'nowhere' is not an address; [^\n]*\n$")
