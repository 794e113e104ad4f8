from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import IAddress, IDelayedCall, IStreamClientEndpoint, ITransport
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.protocols.basic import LineReceiver
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from equipnet.connection.memory import MemoryEndpoint

from .doubles import RecordingPeer, RecordingPeers


class _Backwards(Clock):
    """A clock that makes calls for the same instant in the reverse order, as the heap of a reactor may."""

    def callLater(self, delay: float, callable: Callable[..., object], *args: object, **kw: object) -> IDelayedCall:
        call = super().callLater(delay, callable, *args, **kw)
        self.calls.insert(0, self.calls.pop())
        return call


class MemoryTests(SynchronousTestCase):
    """A connection between two protocols of this process."""

    def setUp(self) -> None:
        self.connect_on(Clock())

    def connect_on(self, clock: Clock) -> None:
        self.clock = clock
        self.servers, self.clients = RecordingPeers(), RecordingPeers()
        self.endpoint = MemoryEndpoint(self.servers, self.clock)
        self.client: Any = self.successResultOf(self.endpoint.connect(self.clients))
        [self.server] = self.servers.peers

    def test_interfaces(self) -> None:
        """The endpoint and both transports are what Twisted expects."""
        verifyObject(IStreamClientEndpoint, self.endpoint)
        verifyObject(ITransport, self.client.transport)
        self.assertIs(self.client, self.clients.peers[0])
        self.assertEqual(self.client.transport.getPeer(), self.server.transport.getHost())
        self.assertEqual(self.server.transport.getPeer(), self.client.transport.getHost())

    def test_next_turn(self) -> None:
        """What is written arrives in the next turn, in order, in both directions."""
        self.client.transport.write(b"a")
        self.client.transport.writeSequence([b"b", b"c"])
        self.client.transport.write(b"")
        self.server.transport.write(b"d")
        self.assertEqual(self.server.received, [])
        self.clock.advance(0)
        self.assertEqual((self.server.received, self.client.received), ([b"a", b"bc"], [b"d"]))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_order(self) -> None:
        """Bytes and the end after them keep their order whatever order the clock makes its calls in."""
        self.connect_on(_Backwards())
        for each in (b"a", b"b", b"c"):
            self.client.transport.write(each)
        self.client.transport.loseConnection()
        self.clock.advance(0)
        self.assertEqual(self.server.received, [b"a", b"b", b"c"])
        self.assertEqual(len(self.server.lost), 1)

    def test_closed(self) -> None:
        """When one end closes, both are told once, the other one after the bytes that came before."""
        self.client.transport.write(b"last words")
        self.client.transport.loseConnection()
        self.client.transport.loseConnection()
        self.client.transport.abortConnection()
        self.client.transport.write(b"too late")
        self.assertEqual((self.client.lost, self.server.lost), ([], []))
        self.clock.advance(0)
        self.assertEqual(self.server.received, [b"last words"])
        self.assertEqual([type(reason) for reason in self.client.lost + self.server.lost], [ConnectionDone] * 2)
        self.server.transport.write(b"nobody there")
        self.clock.advance(0)
        self.assertEqual(self.client.received, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aborted(self) -> None:
        """When one end aborts, the other's connection is lost."""
        self.client.transport.abortConnection()
        self.clock.advance(0)
        self.assertEqual([type(reason) for reason in self.client.lost], [ConnectionAborted])
        self.assertEqual([type(reason) for reason in self.server.lost], [ConnectionLost])

    def test_both_close(self) -> None:
        """When both ends close in the same turn, each is told once."""
        self.client.transport.loseConnection()
        self.server.transport.loseConnection()
        self.clock.advance(0)
        self.assertEqual((len(self.client.lost), len(self.server.lost)), (1, 1))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_paused(self) -> None:
        """A paused end gets nothing, not even the end of the connection; when it goes on it gets all, in order."""
        self.server.transport.pauseProducing()
        self.client.transport.write(b"a")
        self.clock.advance(0)
        self.client.transport.write(b"b")
        self.client.transport.loseConnection()
        self.clock.advance(0)
        self.assertEqual((self.server.received, self.server.lost), ([], []))
        self.server.transport.resumeProducing()
        self.clock.advance(0)
        self.assertEqual((self.server.received, len(self.server.lost)), ([b"a", b"b"], 1))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_refused(self) -> None:
        """A server that builds no protocol refuses the connection."""

        class Refusing(Factory):
            def buildProtocol(self, addr: IAddress | None) -> RecordingPeer | None:
                return None

        self.failureResultOf(MemoryEndpoint(Refusing(), self.clock).connect(self.clients), ConnectionRefusedError)
        self.assertEqual(len(self.clients.peers), 1)

    def test_producers(self) -> None:
        """Producers are accepted: nothing is ever held back."""
        told: list[str] = []

        class Telling:
            def __getattr__(self, name: str) -> Any:
                return lambda: told.append(name)

        self.client.transport.registerProducer(Telling(), True)
        self.client.transport.write(b"x" * 1_000_000)
        self.clock.advance(0)
        self.client.transport.unregisterProducer()
        self.assertEqual(told, [])
        self.assertEqual(self.server.received, [b"x" * 1_000_000])

    def test_line_receiver(self) -> None:
        """Twisted's line protocols, which ask whether the connection is being closed, work over it."""
        lines: list[bytes] = []

        class Lines(LineReceiver):
            delimiter = b"\n"

            def lineReceived(self, line: bytes) -> None:
                lines.append(line)
                assert self.transport is not None
                self.transport.loseConnection()

        self.successResultOf(MemoryEndpoint(Factory.forProtocol(Lines), self.clock).connect(self.clients))
        self.clients.peers[-1].transport.write(b"first\nsecond\n")
        self.clock.advance(0)
        self.assertEqual(lines, [b"first"])
