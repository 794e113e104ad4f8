from __future__ import annotations

import errno
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.error import ConnectionLost as TwistedConnectionLost
from twisted.internet.interfaces import IHandshakeListener, INegotiated
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides
from zope.interface.verify import verifyObject

from equipnet.connection.protocol import WireProtocol
from equipnet.errors import ConnectFailed, ConnectionLost, Disconnected, EquipmentConnectionError, RemoteProtocolError
from equipnet.interfaces import Traffic

from .doubles import RecordingOwner, RecordingTransport


class Waiting(WireProtocol):
    """A protocol that records how what waited for it was failed."""

    def __init__(self, owner: Any) -> None:
        super().__init__(owner)
        self.failed: list[EquipmentConnectionError] = []

    def fail_pending(self, error: EquipmentConnectionError) -> None:
        self.failed.append(error)


class ProtocolTestCase(SynchronousTestCase):
    """A protocol with a recording owner and transport."""

    def setUp(self) -> None:
        self.owner = RecordingOwner()
        self.protocol = Waiting(self.owner)
        self.transport = RecordingTransport()

    def handshake(self) -> None:
        """Connect over a transport that comes up only after a TLS handshake."""
        directlyProvides(self.transport, INegotiated)
        self.protocol.makeConnection(self.transport)

    def lose(self, reason: Exception) -> None:
        self.protocol.connectionLost(Failure(reason))


class SocketOptionTests(ProtocolTestCase):
    """What is set on a new connection's socket."""

    def test_tcp(self) -> None:
        """Every TCP connection is without Nagle's delay, and asks a silent peer whether it is there."""
        self.protocol.makeConnection(self.transport)
        self.assertEqual(self.transport.options, [("nodelay", True), ("keepalive", True)])

    def test_others(self) -> None:
        """UNIX and UDP have no such options, even where the transport has the methods."""
        for peer in (UNIXAddress("/run/x.sock"), IPv4Address("UDP", "10.0.0.5", 1)):
            with self.subTest(peer=peer):
                transport = RecordingTransport(peer)
                Waiting(self.owner).makeConnection(transport)
                self.assertEqual(transport.options, [])

    def test_socket_is_gone(self) -> None:
        """A socket that takes no options any more is no error: its loss will be told."""

        class Gone(RecordingTransport):
            def setTcpNoDelay(self, enabled: bool) -> None:
                raise OSError(errno.EINVAL, "Invalid argument")

        self.protocol.makeConnection(Gone())
        self.successResultOf(self.protocol.when_up())


class PeerTests(ProtocolTestCase):
    """What the other end is called."""

    def test_names(self) -> None:
        """The peer is its IP address and port, an IPv6 address in brackets, or the file of a UNIX socket."""
        for peer, name in (
            (IPv4Address("TCP", "10.0.0.5", 5025), "10.0.0.5:5025"),
            (IPv6Address("TCP", "fd00::1", 5025), "[fd00::1]:5025"),
            (UNIXAddress("/run/x.sock"), "/run/x.sock"),
        ):
            with self.subTest(name=name):
                protocol = Waiting(self.owner)
                protocol.makeConnection(RecordingTransport(peer))
                self.assertEqual(protocol.peer, name)

    def test_client_without_a_name(self) -> None:
        """The client of a UNIX socket has no file, and is called something all the same."""
        self.protocol.makeConnection(RecordingTransport(UNIXAddress(None)))
        self.assertTrue(self.protocol.peer)

    def test_not_connected(self) -> None:
        """Before it is connected, nobody is there."""
        self.assertEqual(self.protocol.peer, "nobody")


class WhenUpTests(ProtocolTestCase):
    """Waiting for the transport, and for the TLS handshake."""

    def test_plain(self) -> None:
        """A plain connection is up as soon as it is made, whoever asks first."""
        early = self.protocol.when_up()
        self.assertNoResult(early)
        self.protocol.makeConnection(self.transport)
        self.assertIs(self.successResultOf(early), self.protocol)
        self.assertIs(self.successResultOf(self.protocol.when_up()), self.protocol)

    def test_tls(self) -> None:
        """A TLS connection is up after its handshake."""
        verifyObject(IHandshakeListener, self.protocol)
        self.handshake()
        up = self.protocol.when_up()
        self.assertNoResult(up)
        self.protocol.handshakeCompleted()
        self.assertIs(self.successResultOf(up), self.protocol)

    def test_lost_first(self) -> None:
        """A transport that goes before it is up fails the wait with Twisted's reason; the owner is not told."""
        self.handshake()
        up = self.protocol.when_up()
        reason = ConnectError(errno.ECONNRESET)
        self.lose(reason)
        self.assertIs(self.failureResultOf(up).value, reason)
        self.assertEqual(self.owner.told, [])

    def test_lost_before_anybody_waits(self) -> None:
        """So is the wait of somebody who comes after that."""
        self.protocol.makeConnection(self.transport)
        self.lose(ConnectionDone())
        self.failureResultOf(self.protocol.when_up(), ConnectionDone)

    def test_cancelled(self) -> None:
        """Who no longer waits hangs up; the end of the transport is then no news."""
        self.handshake()
        up = self.protocol.when_up()
        up.cancel()
        self.assertEqual(self.transport.closed, ["abort"])
        self.failureResultOf(up, CancelledError)
        self.lose(ConnectionDone())
        self.assertEqual(self.owner.told, [])

    def test_hung_up_in_the_handshake(self) -> None:
        """A handshake that we end fails with our reason once the socket is closed, and cannot be completed any more."""
        self.handshake()
        up = self.protocol.when_up()
        error = Disconnected("enough")
        self.protocol.hang_up(error)
        self.protocol.handshakeCompleted()
        self.assertNoResult(up)
        self.lose(ConnectionDone())
        self.assertIs(self.failureResultOf(up).value, error)
        self.assertEqual(self.owner.told, [])


class HangUpTests(ProtocolTestCase):
    """Ending a connection from our side."""

    def setUp(self) -> None:
        super().setUp()
        self.protocol.makeConnection(self.transport)

    def test_at_once_and_once(self) -> None:
        """What waits fails at once with the reason given, and is not failed again when the transport has gone."""
        error = RemoteProtocolError("nonsense", b"\xff")
        self.assertFalse(self.protocol.hanging_up)
        self.protocol.hang_up(error)
        self.assertTrue(self.protocol.hanging_up)
        self.assertEqual((self.protocol.failed, self.transport.closed), ([error], ["abort"]))
        self.lose(ConnectionDone())
        self.assertEqual(self.protocol.failed, [error])
        self.assertEqual(self.owner.told, [("went down", error)])

    def test_gently(self) -> None:
        """Without `abort` what has been written is sent first."""
        self.protocol.hang_up(Disconnected("enough"), abort=False)
        self.assertEqual(self.transport.closed, ["lose"])

    def test_again(self) -> None:
        """Hanging up again keeps the first reason; it makes a gentle end a quick one, and never the reverse."""
        first = Disconnected("enough")
        self.protocol.hang_up(first, abort=False)
        self.protocol.hang_up(Disconnected("more"), abort=False)
        self.protocol.hang_up(Disconnected("at once"))
        self.assertEqual(self.transport.closed, ["lose", "abort"])
        self.lose(ConnectionDone())
        self.assertEqual(self.owner.told, [("went down", first)])
        self.assertEqual(self.protocol.failed, [first])

    def test_failing_what_waits_raises(self) -> None:
        """When failing what waits raises, that is logged, and the owner still hears of the end."""

        class Broken(WireProtocol):
            def fail_pending(self, error: EquipmentConnectionError) -> None:
                raise ZeroDivisionError

        protocol = Broken(self.owner)
        protocol.makeConnection(self.transport)
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(len(self.owner.told), 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class LossTests(ProtocolTestCase):
    """Why a connection is gone."""

    def lost_by(self, reason: Exception) -> ConnectionLost:
        self.protocol.makeConnection(self.transport)
        self.lose(reason)
        [error] = self.protocol.failed
        self.assertEqual(self.owner.told, [("went down", error)])
        assert isinstance(error, ConnectionLost)
        self.assertIsInstance(error, ConnectionError)
        self.assertIs(error.__cause__, reason)
        return error

    def test_closed(self) -> None:
        """A peer that closes the connection is said to have done so."""
        error = self.lost_by(ConnectionDone())
        self.assertEqual(str(error), "10.0.0.5:5025 closed the connection")
        self.assertIsNone(error.errno)

    def test_reset(self) -> None:
        """Every other end is a lost connection, with Twisted's words."""
        error = self.lost_by(TwistedConnectionLost("no route"))
        self.assertIn("The connection to 10.0.0.5:5025 was lost: ", str(error))
        self.assertIn("no route", str(error))

    def test_number(self) -> None:
        """The operating system's number is kept where there is one."""
        self.assertEqual(self.lost_by(ConnectError(errno.ETIMEDOUT, "timed out")).errno, errno.ETIMEDOUT)

    def test_begin(self) -> None:
        """A protocol without a conversation of its own is usable as soon as it begins."""
        self.protocol.begin()
        self.assertEqual(self.owner.told, [("usable", "connected")])


class TapTests(ProtocolTestCase):
    """Showing messages to taps."""

    def test_traffic(self) -> None:
        """A tap sees the name, the direction, the bytes and the value of a message, and when it was."""
        seen: list[Traffic] = []
        self.owner.taps.append(seen.append)
        self.protocol.tapped("in", b"1.5\n", 1.5)
        [traffic] = seen
        self.assertEqual((traffic.name, traffic.direction, traffic.raw, traffic.value), ("dmm", "in", b"1.5\n", 1.5))
        self.assertGreater(traffic.at, 1.7e9)

    def test_later(self) -> None:
        """A tap that the owner gets after the protocol was made is seen by it, and so is its going."""
        self.assertFalse(self.protocol.taps)
        self.owner.taps.append(print)
        self.assertTrue(self.protocol.taps)
        self.owner.taps.remove(print)
        self.assertFalse(self.protocol.taps)

    def test_raises(self) -> None:
        """A tap that raises is logged, and the other taps are called all the same."""

        def broken(traffic: Traffic) -> None:
            raise ConnectFailed("the file of the recorder is gone")

        seen: list[Traffic] = []
        self.owner.taps += [broken, seen.append]
        self.protocol.tapped("out", b"*IDN?\n")
        self.assertEqual(len(seen), 1)
        self.assertEqual(len(self.flushLoggedErrors(ConnectFailed)), 1)
