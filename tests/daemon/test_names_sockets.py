import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from equipnet.daemon.names import HostNames

BOTH = [
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 5025)),
    (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 5025, 0, 0)),
]

# A name server that does not answer, and twistd.
SLOW = """
import socket, time
socket.getaddrinfo = lambda *arguments, **keywords: time.sleep(600)
from twisted.scripts.twistd import run
run()
"""


@implementer(IResolutionReceiver)
class Receiver:
    """Keeps what a name resolves to."""

    def __init__(self) -> None:
        self.addresses: list[Any] = []
        self.complete: Deferred[list[Any]] = Deferred()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        self.name = resolutionInProgress.name

    def addressResolved(self, address: Any) -> None:
        self.addresses.append(address)

    def resolutionComplete(self) -> None:
        self.complete.callback(self.addresses)


class HostNamesTests(TestCase):
    """
    Names are looked up in threads.
    """

    async def look_up(self, result: Any, **keywords: Any) -> tuple[list[Any], tuple[Any, ...]]:
        """Look up one name; gives the addresses, and how the system was asked."""
        asked: list[tuple[Any, ...]] = []

        def look_up(*arguments: Any) -> Any:
            asked.append((*arguments, threading.current_thread().daemon))
            if isinstance(result, Exception):
                raise result
            return result

        receiver = Receiver()
        names = HostNames(reactor, look_up)
        verifyObject(IHostnameResolver, names)
        names.resolveHostName(receiver, "dmm.lab", 5025, **keywords)
        self.assertEqual(receiver.name, "dmm.lab")
        return await receiver.complete, asked[0]

    async def test_any(self) -> None:
        """
        Without a wish for a family there are addresses of both.
        """
        found, asked = await self.look_up(BOTH)
        self.assertEqual(found, [IPv4Address("TCP", "192.0.2.1", 5025), IPv6Address("TCP", "2001:db8::1", 5025)])
        self.assertEqual(asked, ("dmm.lab", 5025, socket.AF_UNSPEC, socket.SOCK_STREAM, True))

    async def test_one_family(self) -> None:
        """
        The system is asked for the family that is wanted, and for the transport.
        """
        _, asked = await self.look_up(BOTH[1:], addressTypes=[IPv6Address], transportSemantics="UDP")
        self.assertEqual(asked, ("dmm.lab", 5025, socket.AF_INET6, socket.SOCK_DGRAM, True))

    async def test_none(self) -> None:
        """
        A name that nobody knows has no addresses.
        """
        found, _ = await self.look_up(socket.gaierror(-2, "Name or service not known"))
        self.assertEqual(found, [])


class EndTests(TestCase):
    """
    A name server that does not answer keeps no daemon from ending.
    """

    def test_sigterm(self) -> None:
        """
        SIGTERM ends a node while a name is being looked up.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        # The second one is refused as soon as the reactor runs.
        (folder / "node.toml").write_text(
            '[connections.dmm]\nkind = "instrument"\naddress = "tcp:dmm.lab:5025"\n'
            '[connections.refused]\nkind = "instrument"\naddress = "tcp:127.0.0.1:1"\n'
        )
        command = [sys.executable, "-c", SLOW, "-n", "--pidfile=", "equipnet", "--config", "node.toml"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE) as node:
            assert node.stdout is not None
            for line in node.stdout:
                if b"refused: connecting -> waiting" in line:
                    break
            node.terminate()
            try:
                output, _ = node.communicate(timeout=10)
            finally:
                node.kill()
            self.assertIn(b"Server Shut Down", output)
