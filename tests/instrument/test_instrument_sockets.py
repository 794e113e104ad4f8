"""
Tests of `equipnet.instrument` over real sockets of this machine, against devices that behave badly.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from twisted.internet import reactor as installed_reactor
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.trial.unittest import TestCase

from equipnet.connection.address import parse_listen
from equipnet.connection.endpoint import server_endpoint
from equipnet.connection.retry import RetryPolicy
from equipnet.connection.service import Connection
from equipnet.connection.state import Change, State
from equipnet.connection.tls import TLS
from equipnet.errors import (
    ConnectFailed,
    ConnectionLost,
    Disconnected,
    EquipmentTimeout,
    LocalProtocolError,
    MessageTooLong,
    NotConnected,
    RemoteProtocolError,
)
from equipnet.instrument import IdleGap, Instrument, Resync
from tests.connection.certificates import Authority

reactor: Any = installed_reactor


class Device(Protocol):
    """One conversation of a device that does with each command what the test says."""

    transport: Any

    def __init__(self, does: Callable[[Device, str], object]) -> None:
        self.commands: list[str] = []
        self.gone: Deferred[None] = Deferred()
        self._does = does
        self._begun = b""

    def dataReceived(self, data: bytes) -> None:
        *commands, self._begun = (self._begun + data).split(b"\n")
        for command in commands:
            self.commands.append(command.decode("latin-1"))
            self._does(self, self.commands[-1])

    def connectionLost(self, reason: object = None) -> None:
        self.gone.callback(None)

    def say(self, data: bytes) -> None:
        """Send something."""
        self.transport.write(data)


def echo(device: Device, command: str) -> None:
    """Answer each query with itself."""
    if command.endswith("?"):
        device.say(command.encode() + b"\n")


def nothing(device: Device, command: str) -> None:
    """Answer nothing."""


class Laboratory(Factory):
    """A device's port, and its conversations."""

    noisy = False

    def __init__(self, does: Callable[[Device, str], object]) -> None:
        self.does = does
        self.conversations: list[Device] = []
        self.comes: Callable[[Device], object] = lambda device: None
        self.port: Any = None

    def buildProtocol(self, addr: object) -> Device:
        device = Device(lambda device, command: self.does(device, command))
        self.conversations.append(device)
        device.connectionMade = lambda: self.comes(device)  # type: ignore[method-assign]
        return device

    async def close(self) -> None:
        """Close the port and all conversations."""
        await self.port.stopListening()
        for device in self.conversations:
            if not device.gone.called:
                device.transport.abortConnection()
                await device.gone

    @property
    def device(self) -> Device:
        """The device's end of the latest conversation."""
        return self.conversations[-1]


class Never:
    """An endpoint of which nothing is ever heard."""

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred()


class SocketsTestCase(TestCase):
    """Instruments and devices of one test, all of which are put away at its end."""

    timeout = 60

    async def listen(self, does: Callable[[Device, str], object] = echo, at: str = "tcp:0", **more: Any) -> Laboratory:
        """Give a device that listens."""
        laboratory = Laboratory(does)
        laboratory.port = await server_endpoint(parse_listen(at), reactor, **more).listen(laboratory)
        self.addCleanup(lambda: Deferred.fromCoroutine(laboratory.close()))
        return laboratory

    def make(self, address: Any, **settings: Any) -> Instrument:
        """Give an instrument that is not connected."""
        if isinstance(address, Laboratory):
            address = f"tcp:127.0.0.1:{address.port.getHost().port}"
        defaults: dict[str, Any] = {"termination": "\n", "timeout": 30.0, "retry": RetryPolicy.fixed(0.01)}
        instrument = Instrument(address, reactor=reactor, **{**defaults, **settings})
        self.addCleanup(instrument.disconnect)
        return instrument

    async def connected(self, address: Any, **settings: Any) -> Instrument:
        """Give an instrument that is connected."""
        instrument = self.make(address, **settings)
        await instrument.connect()
        return instrument

    async def until(self, connection: Connection, state: State) -> None:
        """Wait for a change to that state."""
        reached: Deferred[None] = Deferred()

        def observer(change: Change) -> None:
            if change.new is state and not reached.called:
                reached.callback(None)

        connection.add_observer(observer)
        await reached

    async def failure(self, answer: Deferred[Any], *kinds: type[Exception]) -> Exception:
        """Wait for a failure of one of these kinds, and give its exception."""
        try:
            result = await answer
        except kinds as error:
            return error
        raise self.failureException(f"{result!r} instead of {kinds}")

    async def assert_answers(self, dmm: Instrument, query: str = "OK?") -> None:
        """The instrument answers a query with itself."""
        self.assertEqual(await dmm.query(query), query + "\n")


class RepliesTests(SocketsTestCase):
    """Replies that come late, in pieces, too long or not at all."""

    async def test_half_a_reply_then_silence(self) -> None:
        """
        Half a reply is a timeout that says what had come; the next query is answered on a new connection.
        """

        def does(device: Device, command: str) -> None:
            if command == "HALF?":
                device.say(b"1.")
            else:
                echo(device, command)

        laboratory = await self.listen(does)
        dmm = await self.connected(laboratory, timeout=0.2)
        error = await self.failure(dmm.query("HALF?"), EquipmentTimeout)
        self.assertIn("the terminator", str(error))
        dmm.timeout = 30.0
        await self.assert_answers(dmm)
        self.assertEqual(len(laboratory.conversations), 2)

    async def test_late_by_one(self) -> None:
        """
        A reply that comes with the next one is dropped, and the connection stays.
        """

        def does(device: Device, command: str) -> None:
            if command == "2?":
                device.say(b"1?\n2?\n")

        laboratory = await self.listen(does)
        dmm = await self.connected(laboratory, timeout=0.05, resync=Resync.DROP)
        await self.failure(dmm.query("1?"), EquipmentTimeout)
        dmm.timeout = 30.0
        await self.assert_answers(dmm, "2?")
        self.assertEqual(len(laboratory.conversations), 1)

    async def test_terminator_in_two_segments(self) -> None:
        """
        A terminator in two segments ends one reply, and nothing of it is in the next one.
        """

        def does(device: Device, command: str) -> None:
            device.say(command.encode() + b"\r")
            reactor.callLater(0, device.say, b"\n")

        laboratory = await self.listen(does)
        # Else the system sends the second segment only when the first is acknowledged, 40 ms later.
        laboratory.comes = lambda device: device.transport.setTcpNoDelay(True)
        dmm = await self.connected(laboratory, read_termination="\r\n", termination=None, write_termination="\n")
        for number in range(100):
            self.assertEqual(await dmm.query(f"{number}?"), f"{number}?\r\n")

    async def test_byte_by_byte(self) -> None:
        """
        A reply in a segment for each byte is one reply.
        """

        def does(device: Device, command: str) -> None:
            for number, byte in enumerate(b"#15a\nb\nc"):
                reactor.callLater(number * 0.001, device.say, bytes([byte]))

        dmm = await self.connected(await self.listen(does))
        self.assertEqual(await dmm.query("CURV?", fmt="ieee"), b"a\nb\nc")

    async def test_fifty_megabytes(self) -> None:
        """
        Fifty megabytes where one is allowed fail that query, are not kept, and the next query is answered.
        """
        block = b"x" * (1 << 20)

        def does(device: Device, command: str) -> None:
            if command == "BIG?":
                for _ in range(50):
                    device.say(block)
                device.say(b"\n")
            else:
                echo(device, command)

        laboratory = await self.listen(does)
        dmm = await self.connected(laboratory)
        error = await self.failure(dmm.query("BIG?"), MessageTooLong)
        self.assertLess(len(error.data), 2 << 20)  # type: ignore[attr-defined]
        answer = dmm.query("OK?")
        self.assertEqual(dmm.protocol.partial, b"")
        self.assertEqual(await answer, "OK?\n")
        self.assertEqual(len(laboratory.conversations), 1)

    async def test_big_block(self) -> None:
        """
        A block of ten megabytes comes whole where that is allowed.
        """
        numbers = np.arange(2_500_000, dtype="<f4")

        def does(device: Device, command: str) -> None:
            device.say(b"#810000000" + numbers.tobytes() + b"\n")

        dmm = await self.connected(await self.listen(does), max_read_size=1 << 24)
        for _ in range(2):
            np.testing.assert_array_equal(await dmm.query("CURV?", fmt="ieee", dtype="<f"), numbers)

    async def test_not_in_the_encoding(self) -> None:
        """
        Bytes that are no text fail that query only.
        """

        def does(device: Device, command: str) -> None:
            device.say(b"\xb5V\n" if command == "UNIT?" else command.encode() + b"\n")

        laboratory = await self.listen(does)
        dmm = await self.connected(laboratory)
        error = await self.failure(dmm.query("UNIT?"), RemoteProtocolError)
        self.assertEqual(error.data, b"\xb5V\n")  # type: ignore[attr-defined]
        await self.assert_answers(dmm)
        self.assertEqual(len(laboratory.conversations), 1)

    async def test_unsolicited(self) -> None:
        """
        A handler that raises costs nothing; unsolicited messages are told apart from replies.
        """

        def does(device: Device, command: str) -> None:
            device.say(b"!ALARM\n" + command.encode() + b"\n")

        dmm = await self.connected(await self.listen(does))
        told: list[str] = []

        def handler(message: str) -> None:
            told.append(message)
            raise RuntimeError(message)

        dmm.on_unsolicited(handler, "^!")
        for number in range(10):
            await self.assert_answers(dmm, f"{number}?")
        self.assertEqual(told, ["!ALARM\n"] * 10)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 10)

    async def test_much_that_nobody_reads(self) -> None:
        """
        A device that talks without end is made to wait, and the next query is answered all the same.
        """
        block = b"y" * 65535 + b"\n"
        laboratory = await self.listen(echo)

        def talk(device: Device) -> None:
            if len(laboratory.conversations) == 1:
                for _ in range(1000):
                    device.say(block)

        laboratory.comes = talk
        dmm = await self.connected(laboratory)
        held_back: Deferred[None] = Deferred()
        pause = dmm.protocol.transport.pauseProducing

        def pausing() -> None:
            pause()
            held_back.callback(None)

        dmm.protocol.transport.pauseProducing = pausing
        await held_back
        await self.assert_answers(dmm)
        self.assertEqual(len(laboratory.conversations), 2)


class LossTests(SocketsTestCase):
    """The device hangs up, in good order (FIN) or not (RST)."""

    def ends(self) -> dict[str, Callable[[Device], object]]:
        """Give the ways in which a device can hang up."""
        return {
            "FIN": lambda device: device.transport.loseConnection(),
            "RST": lambda device: device.transport.abortConnection(),
        }

    async def test_idle(self) -> None:
        """
        It is noticed at once, and the connection is made again without being asked for.
        """
        for end in self.ends().values():
            laboratory = await self.listen()
            dmm = await self.connected(laboratory)
            await self.assert_answers(dmm)
            left, back = self.until(dmm, State.WAITING), self.until(dmm, State.READY)
            both = gatherResults([Deferred.fromCoroutine(left), Deferred.fromCoroutine(back)])
            end(laboratory.device)
            await both
            self.assertIsInstance(dmm.last_error, ConnectionLost)
            await self.assert_answers(dmm)

    async def test_waiting(self) -> None:
        """
        A query fails at once, as do those behind it.
        """
        for name, end in self.ends().items():

            def does(device: Device, command: str, end: Callable[[Device], object] = end) -> None:
                if command == "BYE?":
                    end(device)
                else:
                    echo(device, command)

            dmm = await self.connected(await self.listen(does))
            answers = [dmm.query("BYE?"), dmm.query("2?"), dmm.read(), dmm.write("3")]
            for answer in answers:
                error = await self.failure(answer, ConnectionLost)
                self.assertIsInstance(error, ConnectionError)
                if name == "RST":
                    self.assertEqual(error.errno, errno.ECONNRESET)  # type: ignore[attr-defined]
            await dmm.connect(None)
            await self.assert_answers(dmm)

    async def test_in_the_middle_of_a_block(self) -> None:
        """
        Half a block is no block.
        """
        for end in self.ends().values():

            def does(device: Device, command: str, end: Callable[[Device], object] = end) -> None:
                if command == "CURV?":
                    device.say(b"#41000" + b"x" * 500)
                    reactor.callLater(0.01, end, device)
                else:
                    echo(device, command)

            dmm = await self.connected(await self.listen(does))
            await self.failure(dmm.query("CURV?", fmt="ieee"), ConnectionLost)
            await dmm.connect(None)
            await self.assert_answers(dmm)

    async def test_last_words(self) -> None:
        """
        A reply that only silence ends is whole when the device closes the connection behind it.
        """

        def does(device: Device, command: str) -> None:
            device.say(b"bye")
            device.transport.loseConnection()

        dmm = await self.connected(await self.listen(does), ending=IdleGap(1000.0))
        self.assertEqual(await dmm.query("BYE?"), "bye")

    async def test_observer_that_raises(self) -> None:
        """
        Observers that raise do not keep the connection from coming back.
        """
        laboratory = await self.listen()
        dmm = await self.connected(laboratory)
        dmm.add_observer(lambda change: 1 / 0)
        dmm.observe_degraded(lambda *_: 1 / 0)
        back = Deferred.fromCoroutine(self.until(dmm, State.READY))
        laboratory.device.transport.abortConnection()
        await back
        await self.assert_answers(dmm)
        await dmm.disconnect()
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))


class DeafTests(SocketsTestCase):
    """A device that never reads."""

    async def deaf(self) -> Laboratory:
        """Give the device."""
        laboratory = await self.listen(nothing)
        laboratory.comes = lambda device: device.transport.pauseProducing()
        return laboratory

    async def fill(self, dmm: Instrument) -> Deferred[int]:
        """Write until the device does not take it any more, and give the write that waits."""
        for _ in range(1000):
            write = dmm.write(b"x" * (1 << 20))
            if not write.called:
                return write
            await write
        raise self.failureException("a gigabyte was taken by nobody")

    async def test_write_times_out(self) -> None:
        """
        When the window is closed a write waits, times out, and the connection is made anew.
        """
        laboratory = await self.deaf()
        dmm = await self.connected(laboratory, timeout=0.3)
        write = await self.fill(dmm)
        for _ in range(20):
            try:
                await write
            except EquipmentTimeout as error:
                self.assertIn("to take what is written", str(error))
                break
            write = await self.fill(dmm)
        else:
            raise self.failureException("no write timed out")
        laboratory.comes = lambda device: None
        await dmm.connect(None)
        self.assertEqual(await dmm.write("now"), 4)

    async def test_disconnect(self) -> None:
        """
        A disconnection does not wait for a device that does not read.
        """
        laboratory = await self.deaf()
        dmm = await self.connected(laboratory, timeout=None)
        write = await self.fill(dmm)
        failed = Deferred.fromCoroutine(self.failure(write, Disconnected))
        await dmm.disconnect()
        await failed
        self.assertIs(dmm.state, State.STOPPED)

    async def test_queue_is_bounded(self) -> None:
        """
        Writes that wait are counted, and what they hold is not given to the transport.
        """
        laboratory = await self.deaf()
        dmm = await self.connected(laboratory, timeout=None, queue_limit=10)
        first = await self.fill(dmm)
        writes = [dmm.write(b"x" * (1 << 20)) for _ in range(20)]
        results = DeferredList([first, *writes], consumeErrors=True)
        self.assertEqual(sum(write.called for write in writes), 10)
        await dmm.disconnect()
        self.assertEqual({success for success, _ in await results}, {False})


class ManyTests(SocketsTestCase):
    """Many queries at once."""

    async def test_two_coroutines(self) -> None:
        """
        Of 4000 queries of two coroutines every one gets its own reply.
        """
        dmm = await self.connected(await self.listen())
        wrong: list[str] = []

        async def ask(name: str) -> int:
            for number in range(2000):
                answer = await dmm.query(f"{name}{number}?")
                if answer != f"{name}{number}?\n":
                    wrong.append(answer)
            return number

        both = await gatherResults([Deferred.fromCoroutine(ask(name)) for name in "ab"])
        self.assertEqual((both, wrong), ([1999, 1999], []))

    async def test_transactions(self) -> None:
        """
        What two coroutines keep together stays together.
        """
        laboratory = await self.listen()
        dmm = await self.connected(laboratory)

        async def ask(name: str) -> None:
            for _ in range(100):
                async with dmm.transaction():
                    await dmm.write(f"{name}1")
                    await self.assert_answers(dmm, f"{name}2?")

        await gatherResults([Deferred.fromCoroutine(ask(name)) for name in "ab"])
        commands = laboratory.device.commands
        pairs = {tuple(commands[at : at + 2]) for at in range(0, len(commands), 2)}
        self.assertEqual((len(commands), pairs), (400, {("a1", "a2?"), ("b1", "b2?")}))

    async def test_restarted(self) -> None:
        """
        While three coroutines ask, the device is killed and comes back on the same port, twice: no wrong reply.
        """
        laboratory = await self.listen()
        port = laboratory.port.getHost().port
        heard = 0
        restarts: list[Deferred[None]] = []

        async def restart() -> None:
            await laboratory.close()
            laboratory.port = await server_endpoint(parse_listen(f"tcp:{port}"), reactor).listen(laboratory)

        def does(device: Device, command: str) -> None:
            nonlocal heard
            heard += 1
            if heard in (100, 200):
                restarts.append(Deferred.fromCoroutine(restart()))
            else:
                echo(device, command)

        laboratory.does = does
        dmm = await self.connected(laboratory)
        wrong: list[str] = []
        failures = 0

        async def ask(name: str) -> None:
            nonlocal failures
            for number in range(100):
                answer = ""
                while not answer:
                    try:
                        answer = await dmm.query(f"{name}{number}?")
                    except ConnectionError:
                        failures += 1
                        await dmm.connect(None)
                if answer != f"{name}{number}?\n":
                    wrong.append(answer)

        await gatherResults([Deferred.fromCoroutine(ask(name)) for name in "abc"])
        await gatherResults(restarts)
        self.assertEqual((wrong, len(restarts), dmm.state), ([], 2, State.READY))
        self.assertGreaterEqual(failures, 2)
        self.assertFalse(dmm.degraded)


class NoConnectionTests(SocketsTestCase):
    """There is no device, or nothing is heard of it."""

    def closed_port(self) -> int:
        """Give a port on which nobody listens."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
            return port

    async def test_refused(self) -> None:
        """
        A refused connection fails with the system's number, and operations fail at once.
        """
        dmm = self.make(f"tcp:127.0.0.1:{self.closed_port()}")
        answer = dmm.connect()
        waiting = dmm.query("1?")
        for each in (answer, waiting):
            error = await self.failure(each, ConnectFailed)
            self.assertEqual(error.errno, errno.ECONNREFUSED)  # type: ignore[attr-defined]
        await self.failure(dmm.query("2?"), NotConnected)
        self.assertTrue(dmm.degraded)

    async def test_unresolvable(self) -> None:
        """
        A name that means nothing fails as a connection that cannot be made.
        """

        class Unresolvable:
            def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
                failed: Deferred[IProtocol] = Deferred()
                reactor.callLater(0, failed.errback, DNSLookupError("no results for hostname lookup: dmm"))
                return failed

        error = await self.failure(self.make(Unresolvable()).connect(), ConnectFailed)
        self.assertIsInstance(error.__cause__, DNSLookupError)

    async def test_black_hole(self) -> None:
        """
        A connection of which nothing is heard fails after connect_timeout.
        """
        dmm = self.make(Never(), connect_timeout=0.05)
        answers = [dmm.connect(), dmm.query("1?"), dmm.send(b"2")]
        for answer in answers:
            await self.failure(answer, TimeoutError)

    async def situations(self) -> list[tuple[Instrument, list[Deferred[Any]]]]:
        """Give instruments that connect, wait to try again, wait for replies, are idle, and shake hands for TLS."""
        connecting = self.make(Never())
        retrying = self.make(f"tcp:127.0.0.1:{self.closed_port()}", retry=RetryPolicy.fixed(1000.0))
        waiting = Deferred.fromCoroutine(self.until(retrying, State.WAITING))
        ready = retrying.connect(None)
        await waiting
        silent = await self.listen(nothing)
        in_flight = await self.connected(silent)
        idle = await self.connected(silent)
        hands = self.make(f"tls:127.0.0.1:{silent.port.getHost().port}")
        shaking = hands.connect()
        while len(silent.conversations) < 3:
            await self.turn()
        return [
            (connecting, [connecting.connect(), connecting.query("1?")]),
            (retrying, [ready]),
            (in_flight, [in_flight.query("1?"), in_flight.query("2?"), in_flight.read()]),
            (idle, []),
            (hands, [shaking, hands.query("1?")]),
        ]

    def turn(self) -> Deferred[None]:
        """Wait for the next turn of the reactor."""
        turned: Deferred[None] = Deferred()
        reactor.callLater(0, turned.callback, None)
        return turned

    async def test_disconnect(self) -> None:
        """
        A disconnection ends each situation, and fails what waits.
        """
        for dmm, answers in await self.situations():
            failures = [Deferred.fromCoroutine(self.failure(answer, Disconnected)) for answer in answers]
            await dmm.disconnect()
            await gatherResults(failures)
            self.assertIs(dmm.state, State.STOPPED)

    async def test_stop_service(self) -> None:
        """
        So does stopping the service.
        """
        for dmm, answers in await self.situations():
            failures = [Deferred.fromCoroutine(self.failure(answer, Disconnected)) for answer in answers]
            await dmm.stopService()
            await gatherResults(failures)
            self.assertIs(dmm.state, State.STOPPED)

    async def test_send(self) -> None:
        """
        SOCS's send makes the connection that it needs, and recv gives what has come.
        """
        laboratory = await self.listen()
        dmm = self.make(laboratory)
        self.assertEqual(await dmm.send(b"1?\n"), 3)
        received = b""
        while not received.endswith(b"\n"):
            received += await dmm.recv()
        self.assertEqual(received, b"1?\n")


class KindsOfSocketsTests(SocketsTestCase):
    """The same over other kinds of sockets."""

    async def test_tls(self) -> None:
        """
        Over TLS.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        authority = Authority(folder, "laboratory")
        certificate, key = authority.issue("127.0.0.1")
        laboratory = await self.listen(at="tls:0", tls=TLS(certificate=certificate, key=key))
        address = f"tls:127.0.0.1:{laboratory.port.getHost().port}"
        dmm = await self.connected(address, tls=TLS(authority=authority.file))
        for number in range(100):
            await self.assert_answers(dmm, f"{number}?")
        left = dmm.query("LAST?")
        failed = Deferred.fromCoroutine(self.failure(left, Disconnected))
        await dmm.disconnect()
        await failed

    async def test_unix(self) -> None:
        """
        Over a UNIX socket.
        """
        path = f"{self.mktemp()[-30:].replace('/', '-')}.socket"
        laboratory = await self.listen(at=f"unix:{Path(path).absolute()}")
        self.assertIsInstance(laboratory.port.getHost(), UNIXAddress)
        dmm = await self.connected(f"unix:{Path(path).absolute()}")
        for number in range(100):
            await self.assert_answers(dmm, f"{number}?")

    async def test_ipv6(self) -> None:
        """
        Over IPv6.
        """
        try:
            laboratory = await self.listen(at="tcp:[::1]:0")
        except OSError:
            self.skipTest("there is no IPv6 here")
        dmm = await self.connected(f"TCP::[::1]::{laboratory.port.getHost().port}")
        await self.assert_answers(dmm)


class Stranger(DatagramProtocol):
    """A UDP socket that only sends."""


class DatagramDevice(DatagramProtocol):
    """A UDP device whose replies are preceded by a stranger's."""

    def __init__(self, stranger: Stranger | None = None) -> None:
        self.stranger = stranger

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if self.stranger is not None:
            self.stranger.transport.write(b"wrong", addr)  # type: ignore[union-attr]
        self.transport.write(datagram, addr)  # type: ignore[union-attr]


class DatagramTests(SocketsTestCase):
    """UDP."""

    def bind(self, protocol: DatagramProtocol) -> int:
        """Bind any free port, and give it."""
        port = reactor.listenUDP(0, protocol, "127.0.0.1", 65536)
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number

    async def test_stranger(self) -> None:
        """
        What comes from somebody else is no reply.
        """
        stranger = Stranger()
        self.bind(stranger)
        dmm = await self.connected(f"UDP::127.0.0.1::{self.bind(DatagramDevice(stranger))}")
        for number in range(100):
            await self.assert_answers_datagram(dmm, f"{number}?\n")

    async def assert_answers_datagram(self, dmm: Instrument, query: str) -> None:
        """The instrument answers a query with itself."""
        self.assertEqual(await dmm.query(query), query)

    async def test_whole(self) -> None:
        """
        A datagram comes whole, however small the buffer, and two of them are two replies.
        """
        dmm = await self.connected(f"udp:127.0.0.1:{self.bind(DatagramDevice())}", buffer_size=16, termination="\n")
        long = "x" * 20_000 + "\n"
        self.assertEqual(await dmm.query(long), long)
        await dmm.write("1\n")
        await dmm.write("2\n")
        self.assertEqual([await dmm.read(), await dmm.read()], ["1\n", "2\n"])

    async def test_too_long(self) -> None:
        """
        What is too long for a datagram is refused, and the next query is answered.
        """
        dmm = await self.connected(f"udp:127.0.0.1:{self.bind(DatagramDevice())}")
        await self.failure(dmm.write("x" * 70_000), LocalProtocolError)
        await self.failure(dmm.query("x" * 70_000), LocalProtocolError)
        await self.assert_answers_datagram(dmm, "1?\n")

    async def test_nobody_listens(self) -> None:
        """
        Where nobody listens a query fails, with the refusal or in time, and disconnecting ends.
        """
        with socket.socket(type=socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        dmm = await self.connected(f"udp:127.0.0.1:{port}", timeout=1.0)
        await self.failure(dmm.query("1?"), ConnectionError)
