"""What the tests of HSMS share: frames by hand, an owner that records, a protocol on a transport of the test."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from equipnet.hsms.message import FRAME, Header, ReceivedMessage
from equipnet.hsms.protocol import Counts, HsmsProtocol
from equipnet.hsms.settings import HsmsSettings, Timers

from ..connection.doubles import RecordingOwner, RecordingTransport

#: Different from one another, so that a test sees which one ended something.
TIMERS = Timers(t3=45.0, t5=10.0, t6=5.0, t7=11.0, t8=6.0)


def control(s_type: int, system: int, byte3: int = 0, byte2: int = 0, session: int = 0xFFFF, p_type: int = 0) -> bytes:
    """Give a control message (E37)."""
    return FRAME.pack(10, session, byte2, byte3, p_type, s_type, system)


def data(stream: int, function: int, system: int, text: bytes = b"", wait: bool = False, session: int = 0) -> bytes:
    """Give a data message (E37)."""
    return FRAME.pack(10 + len(text), session, stream | 0x80 * wait, function, 0, 0, system) + text


def select_req(system: int = 1, session: int = 0xFFFF) -> bytes:
    """Give a Select.req."""
    return control(1, system, session=session)


def select_rsp(system: int = 1, status: int = 0, session: int = 0xFFFF) -> bytes:
    """Give a Select.rsp."""
    return control(2, system, status, session=session)


def separate_req(system: int = 1) -> bytes:
    """Give a Separate.req."""
    return control(9, system)


def reject(offender: bytes, reason: int, byte2: int) -> bytes:
    """Give the Reject.req that answers a message."""
    _, session, _, _, _, _, system = FRAME.unpack_from(offender)
    return control(7, system, reason, byte2, session)


class RecordingHsmsOwner(RecordingOwner):
    """Stands for the service of an HSMS protocol, and records what it is told."""

    name = "etcher"

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counts()
        self.status = 0
        self.primaries: list[ReceivedMessage] = []
        self.state_when_asked: Any = None

    def select_requested(self, protocol: HsmsProtocol, header: Header) -> int:
        self.told.append(("select requested", header.session_id))
        return self.status

    def primary_received(self, protocol: HsmsProtocol, message: ReceivedMessage) -> None:
        self.primaries.append(message)

    def closing(self, protocol: HsmsProtocol) -> None:
        self.told.append(("closing",))


class ProtocolTestCase(SynchronousTestCase):
    """One side of a connection, on a transport and a clock of the test."""

    active = False
    settings = HsmsSettings(timers=TIMERS)

    def setUp(self) -> None:
        self.clock = Clock()
        self.owner = RecordingHsmsOwner()
        self.protocol: Any = None
        self.made()
        self.addCleanup(self.check_end)

    def made(self, settings: HsmsSettings | None = None, active: bool | None = None) -> None:
        """Make a connection, instead of the last one."""
        self.lose()
        self.transport = RecordingTransport()
        self.protocol = HsmsProtocol(
            self.owner, self.clock, settings or self.settings, self.active if active is None else active
        )
        self.protocol.makeConnection(self.transport)
        self.protocol.begin()

    def check_end(self) -> None:
        """Nothing is scheduled once a connection is gone."""
        self.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def lose(self, reason: Exception | None = None) -> None:
        if self.protocol is not None and self.protocol._gone is None:
            self.protocol.connectionLost(Failure(reason or ConnectionDone()))

    def receive(self, *frames: bytes) -> None:
        """Let bytes arrive in one read."""
        self.protocol.dataReceived(b"".join(frames))

    def sent(self) -> bytes:
        """Give what was written since the last time."""
        self.clock.advance(0)
        written: bytes = self.transport.value()
        self.transport.clear()
        return written

    def select(self) -> None:
        """Bring the connection to SELECTED."""
        if self.active:
            self.receive(select_rsp(1))
        else:
            self.receive(select_req(1))
        self.sent()
        self.owner.told.clear()
        assert self.protocol.is_selected

    def ended(self) -> Any:
        """Give the error by which the connection was ended from our side; it was."""
        self.assertNotEqual(self.transport.closed, [])
        return self.protocol.ended_by

    def assert_open(self) -> None:
        self.assertEqual(self.transport.closed, [])
