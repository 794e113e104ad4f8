"""Tests of the connection with dcss: how it comes and goes, handlers, and what can be sent when."""

from __future__ import annotations

from threading import Thread
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import LogLevel, globalLogPublisher
from zope.interface.verify import verifyObject

from equipnet.connection.state import State
from equipnet.dcs import DhsConnection, HardwareServer, Motor, Run, on, operation
from equipnet.dcs.message import HtosLog, HtosOperationCompleted
from equipnet.errors import ConnectionLost, LocalProtocolError, NotConnected, RemoteProtocolError
from equipnet.interfaces import IConnection

from .doubles import ASKING, DhsTestCase


class Server(HardwareServer):
    """Records what it is told."""

    dhs_name = "loopDHS"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.told: list[str] = []
        self.go_on: Deferred[None] = Deferred()

    def started(self) -> None:
        self.told.append("started")

    async def stopped(self) -> None:
        self.told.append("stopped")

    @on("stoh_register_string")
    @on("stoh_collect_image")
    def first(self, message: Any) -> None:
        self.told.append(f"first {message}")

    @on("stoh_collect_image")
    async def second(self, message: Any) -> None:
        self.told.append(f"second {message.arguments}")
        raise KeyError("a mistake")

    @operation("flood")
    async def flood(self, run: Run) -> None:
        for _ in range(1000):
            await run.update("x" * 1000)

    @operation("deluge")
    async def deluge(self, run: Run) -> None:
        await self.go_on
        for _ in range(300):
            run.update("x" * 1000)
        try:
            await run.stopped
        except CancelledError:
            self.told.append("cancelled")


class ConnectionTests(DhsTestCase):
    """How it comes and goes."""

    def test_a_connection_like_any_other(self) -> None:
        """It is an IConnection, of its kind."""
        self.connect(Server())
        self.assertTrue(verifyObject(IConnection, self.dhs))
        self.assertEqual(self.dhs.kind, "dhs")

    def test_ready_when_accepted(self) -> None:
        """The connection is usable when dcss has taken the server, not before."""
        self.start(Server())
        ready = self.dhs.when_ready()
        self.attempt.succeed()
        self.attempt.protocol.dataReceived(ASKING)
        self.assertIs(self.dhs.state, State.CONNECTED)
        self.assertNoResult(ready)
        self.assertRaises(NotConnected, self.dhs.send, "htos_note a")
        self.say("stoh_register_string status status")
        self.assertIs(self.successResultOf(ready), self.dhs)

    def test_refused_in_the_handshake(self) -> None:
        """A hub that closes then is tried again, and what it may mean by that is logged."""
        self.start(Server())
        events = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)  # type: ignore[arg-type]
        for count in range(1, 4):
            self.attempt.succeed()
            self.attempt.protocol.dataReceived(ASKING)
            self.lose()
            said = [each for each in events if each.get("dhs") == "loopDHS" and each["log_level"] is LogLevel.warn]
            self.assertEqual(len(said), count)
            self.assertIs(self.dhs.state, State.WAITING)
            self.assertIsInstance(self.dhs.last_error, ConnectionLost)
            self.clock.advance(1)
        self.assertEqual(len(self.endpoint.attempts), 4)
        self.attempt.fail(OSError())

    def test_lost_during_registration(self) -> None:
        """What was registered is forgotten, and registered again."""
        self.connect(Server())
        self.say("stoh_register_operation flood flood")
        self.attempt.protocol.dataReceived(b"          36            0 stoh_register_string")
        self.lose()
        self.assertEqual(self.dhs.registered, {})
        self.clock.advance(1)
        self.accept()
        self.assertEqual(self.dhs.registered, {"nothing": "operation"})

    def test_a_garbage_header(self) -> None:
        """It ends the connection with an error, and a new one is made."""
        self.connect(Server())
        self.attempt.protocol.dataReceived(b"           x            0 ")
        self.assertEqual(self.attempt.transport.closed, ["abort"])
        self.lose()
        self.assertIsInstance(self.dhs.last_error, RemoteProtocolError)
        self.clock.advance(1)
        self.accept()
        self.assertIs(self.dhs.state, State.READY)

    def test_names(self) -> None:
        """Names that would crash dcss, and two devices of one name, are refused at once."""

        class Long(Motor):
            name = "m" * 80

        for dhs_name in ("two words", "x" * 40):
            self.assertRaises(ValueError, DhsConnection, "tcp:h:1", Server(), dhs_name=dhs_name)
        for devices in ((Long,), (Motor,), (type("A", (Motor,), {"name": "a"}),) * 2):
            application = Server()
            application.devices = devices
            self.assertRaises(ValueError, DhsConnection, "tcp:h:1", application)
        self.assertRaises(ValueError, DhsConnection, "tcp:h:1", Server(), protocol=3)

    def test_hooks(self) -> None:
        """The application is told when the connection is started and stopped."""
        server = Server()
        self.connect(server)
        stopped = self.dhs.stopService()
        self.assertEqual(server.told, ["started", "stopped"])
        self.lose()
        self.successResultOf(stopped)


class HandlerTests(DhsTestCase):
    """Messages reach the author's methods."""

    def test_handlers(self) -> None:
        """Each in the order in which they are written; what one raises is logged, and changes nothing."""
        server = Server()
        self.connect(server)
        self.say("stoh_collect_image a", "stoh_nobody_knows b", "stoh_register_string status hw")
        self.assertEqual(
            server.told[1:],
            ["first stoh_collect_image a", "second ('a',)", "first stoh_register_string status hw"],
        )
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)


class SendingTests(DhsTestCase):
    """What the author sends."""

    def setUp(self) -> None:
        self.server = Server()
        self.connect(self.server, queue_limit=200_000)

    def test_messages_and_lines(self) -> None:
        """A line is checked as a message is."""
        self.server.send("htos_note image_ready a")
        self.server.send(HtosLog("note", "loopDHS", "text"))
        self.assertEqual(self.heard(), ["htos_note image_ready a", "htos_log note loopDHS text"])
        for line in ("", " htos_note a", "htos_note [a]", "htos_note {", f"htos_send_configuration {'x' * 80}"):
            self.assertRaises(LocalProtocolError, self.server.send, line)

    def test_log_and_note(self) -> None:
        """Texts for people are cleaned instead of refused, and dropped when nobody is there."""
        self.server.log("warning", 'no "tip" [yet]\n')
        self.server.note("image_ready /data/a.img")
        self.assertEqual(self.heard(), ["htos_log warning loopDHS no tip yet", "htos_note image_ready /data/a.img"])
        self.lose()
        self.server.log("warning", "nobody hears this")

    def test_from_another_thread(self) -> None:
        """It is sent by the reactor's thread; what dcss cannot carry is refused in the thread."""
        calls: list[Any] = []
        self.clock.callFromThread = lambda *call: calls.append(call)  # type: ignore[attr-defined]
        errors: list[Exception] = []

        def send() -> None:
            self.server.send(HtosOperationCompleted("a", "1.1"))
            try:
                self.server.send("htos_note [")
            except LocalProtocolError as error:
                errors.append(error)

        thread = Thread(target=send)
        thread.start()
        thread.join()
        self.assertEqual((self.heard(), len(errors)), ([], 1))
        for function, *arguments in calls:
            function(*arguments)
        self.assertEqual(self.heard(), ["htos_operation_completed a 1.1 normal"])

    def test_updates_wait_for_dcss(self) -> None:
        """Code that awaits its updates goes at dcss's pace."""
        protocol = self.attempt.protocol
        sent: list[bytes] = []

        def write(data: bytes) -> None:
            sent.append(data)
            protocol.pauseProducing()

        protocol._send_at_once = self.attempt.transport.write = write  # type: ignore[method-assign]
        self.say("stoh_start_operation flood 1.1")
        self.assertEqual(len(sent), 1)
        protocol.resumeProducing()
        self.assertEqual(len(self.server.active_operations()), 1)
        self.say("stoh_abort_all")
        self.assertEqual(self.server.active_operations(), [])

    def test_updates_without_waiting(self) -> None:
        """Code that does not await them loses the connection, not the memory; it is cancelled where it waits next."""
        self.say("stoh_start_operation deluge 1.1")
        self.attempt.protocol.pauseProducing()
        self.server.go_on.callback(None)
        self.assertEqual(self.attempt.transport.closed, ["abort"])
        self.assertLess(len(self.attempt.transport.value()), 210_000)
        self.assertEqual(self.server.told[1:], [])
        self.clock.advance(0)
        self.assertEqual(self.server.told[1:], ["cancelled"])
