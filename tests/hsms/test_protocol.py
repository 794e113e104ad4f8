"""Tests of one HSMS connection: framing, the rules, the timers and the transactions."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.error import ConnectionLost as TwistedConnectionLost

from equipnet.errors import (
    ConnectionLost,
    Disconnected,
    EquipmentTimeout,
    LocalProtocolError,
    MessageTooLong,
    NotConnected,
    QueueFull,
    RemoteProtocolError,
)
from equipnet.hsms.message import FRAME, Header, ReceivedMessage
from equipnet.hsms.protocol import LAST_WORDS_TIME, PIECE, HsmsProtocol
from equipnet.hsms.session import (
    DeselectRejected,
    HsmsState,
    MessageRefused,
    MessageRejected,
    SelectRejected,
    TransactionAborted,
)
from equipnet.hsms.settings import HsmsSettings
from equipnet.secs import U4, A, B, L, Message

from .doubles import (
    TIMERS,
    ProtocolTestCase,
    control,
    data,
    reject,
    select_req,
    select_rsp,
    separate_req,
)

STRICT = HsmsSettings(timers=TIMERS, strict=True)
EQUIPMENT = HsmsSettings(timers=TIMERS, role="equipment")

S1F1 = Message(1, 1, wait=True)


class PassiveSelectTests(ProtocolTestCase):
    """Being selected."""

    def test_select(self) -> None:
        """
        A Select.req is answered with status 0; its session id and system bytes come back.
        """
        self.receive(select_req(0x01020304, session=7))
        self.assertEqual(self.sent(), bytes.fromhex("0000000a 0007 00 00 00 02 01020304"))
        self.assertIs(self.protocol.state, HsmsState.SELECTED)
        self.assertEqual([each[0] for each in self.owner.told], ["select requested", "usable"])

    def test_data_in_the_same_read(self) -> None:
        """
        A data message right behind the Select.req finds the connection selected.
        """
        self.receive(select_req(1), data(1, 1, 2, wait=True))
        self.assertEqual(self.owner.primaries, [S1F1])

    def test_answer_before_data(self) -> None:
        """
        Who sends as soon as it is usable, sends behind the Select.rsp, in the same write.
        """
        sent: list[Any] = []
        self.owner.usable = lambda protocol, reason: sent.append(self.protocol.send(Message(1, 13)))  # type: ignore
        self.receive(select_req(1))
        self.successResultOf(sent[0])
        self.assertEqual(self.transport.value(), select_rsp(1) + data(1, 13, 1))

    def test_again(self) -> None:
        """
        A second Select.req is answered with status 1, and changes nothing.
        """
        self.select()
        self.receive(select_req(9))
        self.assertEqual(self.sent(), select_rsp(9, status=1))
        self.assertTrue(self.protocol.is_selected)

    def test_busy(self) -> None:
        """
        One too many is answered with status 3; then the connection is closed, at the latest when the time is up.
        """
        self.owner.status = 3
        self.receive(select_req(1))
        self.assertEqual((self.sent(), self.transport.closed), (select_rsp(1, status=3), ["lose"]))
        self.clock.advance(LAST_WORDS_TIME)
        self.assertEqual(self.transport.closed, ["lose", "abort"])

    def test_not_ready(self) -> None:
        """
        With another status the connection stays as it is; with strict rules it is closed.
        """
        self.owner.status = 2
        self.receive(select_req(1))
        self.assertEqual(self.sent(), select_rsp(1, status=2))
        self.assert_open()
        self.assertIs(self.protocol.state, HsmsState.NOT_SELECTED)
        self.lose()
        self.made(STRICT)
        self.receive(select_req(1))
        self.assertEqual(self.transport.closed, ["lose"])

    def test_simultaneous(self) -> None:
        """
        Where both sides select at the same time, each answers the other, and both are selected once.
        """
        selected = self.protocol.select()
        self.assertEqual(self.sent(), select_req(1))
        self.receive(select_req(1))
        self.assertEqual(self.sent(), select_rsp(1))
        self.receive(select_rsp(1))
        self.successResultOf(selected)
        self.assertEqual([each[0] for each in self.owner.told], ["select requested", "usable"])

    def test_select_when_selected(self) -> None:
        """
        Selecting what is selected does nothing.
        """
        self.select()
        self.successResultOf(self.protocol.select())
        self.assertEqual(self.sent(), b"")


class ActiveSelectTests(ProtocolTestCase):
    """Selecting."""

    active = True

    def test_select(self) -> None:
        """
        The side that connects sends a Select.req at once.
        """
        self.assertEqual(self.transport.value(), bytes.fromhex("0000000a ffff 00 00 00 01 00000001"))
        self.assertIs(self.protocol.state, HsmsState.NOT_SELECTED)
        self.receive(select_rsp(1))
        self.assertTrue(self.protocol.is_selected)
        self.assertEqual([each[0] for each in self.owner.told], ["usable"])

    def test_data_in_the_same_read(self) -> None:
        """
        A data message right behind the Select.rsp finds the connection selected.
        """
        self.receive(select_rsp(1), data(1, 13, 7, wait=True))
        self.assertEqual(self.owner.primaries, [Message(1, 13, True)])

    def test_rejected(self) -> None:
        """
        A status other than 0 ends the connection, whatever it is.
        """
        for status in (1, 2, 3, 4, 128):
            self.made()
            self.receive(select_rsp(1, status))
            error = self.ended()
            assert isinstance(error, SelectRejected)
            self.assertEqual(error.status, status)
            self.lose()

    def test_t6(self) -> None:
        """
        A Select.rsp that does not come within T6 ends the connection.
        """
        self.clock.advance(4.9)
        self.assert_open()
        self.clock.advance(0.1)
        error = self.ended()
        assert isinstance(error, EquipmentTimeout)
        self.assertEqual((error.seconds, error.waiting_for), (5.0, "Select.rsp (T6)"))

    def test_wrong_system_bytes(self) -> None:
        """
        A Select.rsp with other system bytes is a response to nothing.
        """
        self.sent()
        self.receive(select_rsp(2))
        self.assertEqual(self.sent(), reject(select_rsp(2), 3, 2))
        self.assertFalse(self.protocol.is_selected)

    def test_wrong_response(self) -> None:
        """
        So is a response of another sort with the right ones.
        """
        self.sent()
        self.receive(control(6, 1))
        self.assertEqual(self.sent(), reject(control(6, 1), 3, 6))

    def test_reject(self) -> None:
        """
        A Reject.req instead of the Select.rsp ends the connection.
        """
        self.receive(reject(select_req(1), 1, 1))
        self.assertIsInstance(self.ended(), MessageRejected)

    def test_other_side_selects(self) -> None:
        """
        The other side may select as well; with strict rules it may not.
        """
        self.sent()
        self.receive(select_req(5))
        self.assertEqual(self.sent(), select_rsp(5))
        self.receive(select_rsp(1))
        self.assertTrue(self.protocol.is_selected)
        self.lose()
        self.made(STRICT)
        self.receive(select_req(5))
        self.assertIsInstance(self.ended(), RemoteProtocolError)


class UnexpectedTests(ProtocolTestCase):
    """What is out of place, by the generic rules and by the strict ones."""

    def check(self, frame: bytes, answer: bytes, selected: bool, strict_closes: bool) -> None:
        """Let a message come; see what is answered, and whether strict rules close."""
        for settings in (self.settings, STRICT):
            with self.subTest(frame=frame.hex(), selected=selected, strict=settings.strict):
                self.made(settings)
                if selected:
                    self.select()
                self.receive(frame)
                if settings.strict and strict_closes:
                    self.assertIsInstance(self.ended(), RemoteProtocolError)
                    self.assertEqual(self.sent(), b"")
                else:
                    self.assertEqual(self.sent(), answer)
                    self.assert_open()
                self.lose()

    def test_data_before_select(self) -> None:
        """
        A data message before the Select.req is rejected for reason 4.
        """
        frame = data(1, 1, 7, wait=True)
        self.check(frame, reject(frame, 4, 0), selected=False, strict_closes=True)
        self.assertEqual(self.owner.primaries, [])

    def test_unknown_stype(self) -> None:
        """
        A sort of message that there is not is rejected for reason 1, with its SType.
        """
        for s_type in (8, 10, 11, 127, 128, 255):
            for selected in (False, True):
                self.check(control(s_type, 7), reject(control(s_type, 7), 1, s_type), selected, strict_closes=True)

    def test_unknown_ptype(self) -> None:
        """
        Another PType is rejected for reason 2, with the PType, whatever the SType is.
        """
        for p_type, s_type in ((1, 0), (5, 1), (128, 99)):
            frame = control(s_type, 7, p_type=p_type)
            for selected in (False, True):
                self.check(frame, reject(frame, 2, p_type), selected, strict_closes=True)

    def test_orphan_responses(self) -> None:
        """
        A response that nobody asked for is rejected for reason 3.
        """
        for s_type in (2, 4, 6):
            frame = control(s_type, 77)
            self.check(frame, reject(frame, 3, s_type), selected=True, strict_closes=False)
            self.check(frame, reject(frame, 3, s_type), selected=False, strict_closes=True)

    def test_orphan_reject(self) -> None:
        """
        A Reject.req is never answered.
        """
        self.check(control(7, 77, 3, 2), b"", selected=True, strict_closes=False)
        self.check(control(7, 77, 3, 2), b"", selected=False, strict_closes=True)

    def test_long_control(self) -> None:
        """
        A control message with a text is rejected.
        """
        frame = FRAME.pack(12, 0xFFFF, 0, 0, 0, 5, 7) + b"\0\0"
        self.check(frame, reject(frame, 1, 5), selected=True, strict_closes=True)

    def test_linktest(self) -> None:
        """
        A Linktest.req is answered in both states; with strict rules there is none before the Select.req.
        """
        self.check(control(5, 7), control(6, 7), selected=True, strict_closes=False)
        self.check(control(5, 7), control(6, 7), selected=False, strict_closes=True)

    def test_deselect(self) -> None:
        """
        A Deselect.req when nothing is selected is answered with status 1.
        """
        self.check(control(3, 7), control(4, 7, 1), selected=False, strict_closes=True)

    def test_separate_before_select(self) -> None:
        """
        A Separate.req when nothing is selected is ignored; with strict rules it closes.
        """
        self.check(separate_req(), b"", selected=False, strict_closes=True)

    def test_too_short(self) -> None:
        """
        A length under ten closes: nobody knows where the next message begins.
        """
        for length in (0, 9):
            for selected in (False, True):
                self.made()
                if selected:
                    self.select()
                self.receive(length.to_bytes(4, "big"))
                self.assertIsInstance(self.ended(), RemoteProtocolError)
                self.assertEqual(self.sent(), b"")
                self.lose()

    def test_too_long(self) -> None:
        """
        A length over the limit closes before anything of the message is kept.
        """
        for start in (b"\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n", b"\x10\x00\x00\x00" + bytes(20)):
            self.made()
            self.receive(start)
            self.assertIsInstance(self.ended(), MessageTooLong)
            self.assertIsNone(self.protocol._begun)
            self.lose()

    def test_limit(self) -> None:
        """
        A message of exactly the limit is taken, one more byte is not.
        """
        self.made(replace(self.settings, message_limit=20))
        self.select()
        self.receive(data(6, 11, 7, bytes(10)))
        self.assertEqual(len(self.owner.primaries), 1)
        self.receive(data(6, 11, 7, bytes(11)))
        self.assertIsInstance(self.ended(), MessageTooLong)

    def test_too_long_for_equipment(self) -> None:
        """
        Equipment says S9F11 first, with the header of what is too long.
        """
        self.made(EQUIPMENT)
        self.select()
        start = FRAME.pack(0x7FFFFFFF, 0, 0x87, 3, 0, 0, 5)
        self.receive(start)
        self.assertEqual(self.sent(), data(9, 11, 1, b"\x21\x0a" + start[4:]))
        self.assertIsInstance(self.ended(), MessageTooLong)

    def test_nothing_after_the_end(self) -> None:
        """
        After a connection was ended nothing that still comes is acted on.
        """
        self.select()
        self.receive(separate_req(), data(1, 1, 2, wait=True))
        self.receive(data(1, 1, 3, wait=True))
        self.assertEqual(self.owner.primaries, [])


class EndTests(ProtocolTestCase):
    """How a conversation ends."""

    def test_separated(self) -> None:
        """
        A Separate.req ends the connection without an answer, and everything that is open at once.
        """
        self.select()
        answer = self.protocol.request(S1F1)
        self.sent()
        self.receive(separate_req())
        self.failureResultOf(answer, ConnectionLost)
        self.assertEqual((self.sent(), self.transport.closed), (b"", ["lose"]))
        self.assertIs(self.protocol.state, HsmsState.NOT_CONNECTED)

    def test_separate(self) -> None:
        """
        When our side ends it, a Separate.req is the last that is sent.
        """
        self.select()
        self.successResultOf(self.protocol.send(Message(6, 11)))
        self.protocol.hang_up(Disconnected("that's all"), abort=False)
        self.assertEqual(self.transport.value(), data(6, 11, 1) + separate_req(2))
        self.assertEqual(self.owner.told, [("closing",), ("unusable", "that's all")])

    def test_abort(self) -> None:
        """
        Nothing more is sent when the connection is aborted.
        """
        self.select()
        self.protocol.hang_up(Disconnected("that's all"))
        self.assertEqual((self.transport.value(), self.transport.closed), (b"", ["abort"]))

    def test_lost(self) -> None:
        """
        When the connection is lost, everything fails that was open.
        """
        self.select()
        answers: list[Deferred[Any]] = [self.protocol.request(S1F1) for _ in range(64)]
        answers.append(self.protocol.linktest())
        self.sent()
        self.lose(TwistedConnectionLost())
        for answer in answers:
            self.failureResultOf(answer, ConnectionLost)
        self.assertEqual([each[0] for each in self.owner.told], ["closing", "unusable", "went down"])
        self.failureResultOf(self.protocol.request(S1F1), NotConnected)
        self.failureResultOf(self.protocol.linktest(), NotConnected)

    def test_failing_begins_again(self) -> None:
        """
        Who is told of the end may ask again from inside, and is told at once.
        """
        self.select()
        again: list[Deferred[Any]] = []
        self.protocol.request(S1F1).addErrback(lambda _: again.append(self.protocol.request(S1F1)))
        self.lose()
        self.failureResultOf(again[0], NotConnected)

    def test_deselected(self) -> None:
        """
        A Deselect.req ends what is open, but not the connection; T7 begins anew.
        """
        self.select()
        answer = self.protocol.request(S1F1)
        self.sent()
        self.clock.advance(10.0)
        self.receive(control(3, 9))
        self.assertEqual(self.sent(), control(4, 9))
        self.failureResultOf(answer, NotConnected)
        self.assertEqual(self.owner.told[-1][0], "unusable")
        self.failureResultOf(self.protocol.request(S1F1), NotConnected)
        self.clock.advance(10.9)
        self.assert_open()
        self.clock.advance(0.1)
        self.assertIsInstance(self.ended(), EquipmentTimeout)

    def test_deselect(self) -> None:
        """
        Our side can deselect, and be selected again.
        """
        self.select()
        done = self.protocol.deselect()
        self.assertEqual(self.sent(), control(3, 1))
        self.receive(control(4, 1))
        self.successResultOf(done)
        self.assertIs(self.protocol.state, HsmsState.NOT_SELECTED)
        self.receive(select_req(5))
        self.assertEqual(self.sent(), select_rsp(5))
        self.assertTrue(self.protocol.is_selected)

    def test_deselect_refused(self) -> None:
        """
        The other side can be busy; there is no Deselect with strict rules.
        """
        self.select()
        done = self.protocol.deselect()
        self.receive(control(4, 1, 2))
        self.assertEqual(self.failureResultOf(done, DeselectRejected).value.status, 2)
        self.assertTrue(self.protocol.is_selected)
        self.lose()
        self.made(STRICT)
        self.select()
        self.failureResultOf(self.protocol.deselect(), LocalProtocolError)
        self.receive(control(3, 8))
        self.assertEqual(self.sent(), reject(control(3, 8), 1, 3))


class TransactionTests(ProtocolTestCase):
    """Primaries of ours, and what ends them."""

    def setUp(self) -> None:
        super().setUp()
        self.select()

    def asked(self, message: Message = S1F1) -> Deferred[ReceivedMessage]:
        """Send a primary, and forget what was written."""
        answer: Deferred[ReceivedMessage] = self.protocol.request(message)
        self.sent()
        return answer

    def test_reply(self) -> None:
        """
        The reply has the next function, and the system bytes of its primary.
        """
        answer = self.protocol.request(S1F1)
        self.assertEqual(self.sent(), data(1, 1, 1, wait=True))
        self.receive(data(1, 2, 1, b"\x01\x00"))
        reply = self.successResultOf(answer)
        self.assertEqual((reply, reply.header), (Message(1, 2, False, L()), Header(0, 1, 2, 0, 0, 1)))
        self.assertEqual(self.protocol.open_transactions, 0)

    def test_any_order(self) -> None:
        """
        Replies come in any order, to whom they belong.
        """
        answers = [self.asked() for _ in range(3)]
        for system in (3, 1, 2):
            self.receive(data(1, 2, system, bytes((0xA5, 1, system))))
        self.assertEqual([self.successResultOf(answer).system_bytes for answer in answers], [1, 2, 3])

    def test_one_write(self) -> None:
        """
        The messages of one turn of the reactor leave in one write.
        """
        writes: list[bytes] = []
        self.protocol._send = writes.append
        for _ in range(3):
            self.protocol.request(S1F1).addErrback(lambda _: None)
        self.successResultOf(self.protocol.send(Message(6, 11)))
        self.assertEqual(writes, [])
        self.clock.advance(0)
        self.assertEqual(writes, [b"".join([*(data(1, 1, n, wait=True) for n in (1, 2, 3)), data(6, 11, 4)])])

    def test_not_the_reply(self) -> None:
        """
        Another function, stream or session is no reply, whatever the system bytes are.
        """
        answer = self.asked()
        for frame in (data(1, 4, 1), data(2, 2, 1), data(1, 2, 1, session=3), data(1, 2, 2)):
            self.receive(frame)
            self.assertNoResult(answer)
        self.assertEqual((self.owner.counts.late, self.owner.primaries), (4, []))
        self.receive(data(1, 2, 1))
        self.successResultOf(answer)

    def test_primary_with_our_system_bytes(self) -> None:
        """
        A primary of the other side that has the system bytes of ours is a primary.
        """
        answer = self.asked()
        self.receive(data(1, 1, 1, wait=True))
        self.assertNoResult(answer)
        self.assertEqual(self.owner.primaries, [S1F1])
        self.protocol.reply(self.owner.primaries[0], Message(1, 2))
        self.assertEqual(self.sent(), data(1, 2, 1))
        self.receive(data(1, 2, 1))
        self.successResultOf(answer)

    def test_abort(self) -> None:
        """
        Function 0 ends the transaction with an error of its own.
        """
        answer = self.asked()
        self.receive(data(1, 0, 1))
        self.failureResultOf(answer, TransactionAborted)

    def test_t3(self) -> None:
        """
        A reply that does not come within T3 fails its transaction only; one that comes later is dropped.
        """
        first = self.asked()
        self.clock.advance(1.0)
        second = self.asked()
        self.clock.advance(43.9)
        self.assertNoResult(first)
        self.clock.advance(0.1)
        error = self.failureResultOf(first, EquipmentTimeout).value
        self.assertEqual((error.seconds, error.waiting_for), (45.0, "S1F2 (T3)"))
        self.assertNoResult(second)
        self.assert_open()
        self.receive(data(1, 2, 1))
        self.assertEqual((self.owner.counts.late, self.owner.counts.timeouts, self.owner.primaries), (1, 1, []))
        self.clock.advance(1.0)
        self.failureResultOf(second, EquipmentTimeout)
        self.assertEqual(self.sent(), b"")

    def test_s9f9(self) -> None:
        """
        After T3 equipment says S9F9, with the header of its own primary.
        """
        self.lose()
        self.made(EQUIPMENT)
        self.select()
        answer = self.asked(Message(6, 11, True, U4(1)))
        self.clock.advance(45.0)
        self.failureResultOf(answer, EquipmentTimeout)
        header = bytes.fromhex("0000 86 0b 00 00 00000001")
        self.assertEqual(self.sent(), data(9, 9, 2, b"\x21\x0a" + header))

    def test_own_timeout(self) -> None:
        """
        A request can have its own time, also a shorter one than those before it.
        """
        long, short = self.protocol.request(S1F1), self.protocol.request(S1F1, 2.0)
        self.clock.advance(2.0)
        self.failureResultOf(short, EquipmentTimeout)
        self.assertNoResult(long)
        self.clock.advance(43.0)
        self.failureResultOf(long, EquipmentTimeout)

    def test_one_timer(self) -> None:
        """
        However many are open, one delayed call waits.
        """
        for _ in range(50):
            self.asked().addErrback(lambda _: None)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_cancel(self) -> None:
        """
        A request that is cancelled is forgotten, and its reply dropped.
        """
        answer = self.asked()
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.assertEqual(self.protocol.open_transactions, 0)
        self.receive(data(1, 2, 1))
        self.assertEqual(self.owner.counts.late, 1)

    def test_duplicate_reply(self) -> None:
        """
        A second reply is one to nothing.
        """
        answer = self.asked()
        self.receive(data(1, 2, 1), data(1, 2, 1))
        self.successResultOf(answer)
        self.assertEqual((self.owner.counts.late, self.owner.primaries), (1, []))

    def test_rejected(self) -> None:
        """
        A Reject.req with its system bytes fails the request at once.
        """
        answer = self.asked()
        self.receive(reject(data(1, 1, 1, wait=True), 4, 0))
        self.assertEqual(self.failureResultOf(answer, MessageRejected).value.reason, 4)

    def test_s9(self) -> None:
        """
        An error message of stream 9 about it fails the request at once.
        """
        for function in (1, 3, 5, 7, 11):
            answer = self.protocol.request(S1F1)
            header = self.sent()[4:]
            self.receive(data(9, function, 77, b"\x21\x0a" + header))
            error = self.failureResultOf(answer, MessageRefused).value
            self.assertEqual((error.function, error.header.to_bytes()), (function, header))
        self.assertEqual(len(self.owner.primaries), 5)

    def test_s9_about_something_else(self) -> None:
        """
        One about another message, with a text that is no header, or about a timer of theirs, fails nothing.
        """
        answer = self.asked()
        header = data(1, 1, 1, wait=True)[4:]
        for frame in (
            data(9, 5, 7, b"\x21\x0a" + data(1, 3, 1, wait=True)[4:]),
            data(9, 5, 7, b"\x21\x0a" + header[:-1] + b"\x07"),
            data(9, 5, 7, b"\x21\x09" + header[:9]),
            data(9, 5, 7, b"\x41\x0a" + header),
            data(9, 5, 7, b"\x21\x0b" + header),
            data(9, 5, 7),
            data(9, 9, 7, b"\x21\x0a" + header),
        ):
            self.receive(frame)
            self.assertNoResult(answer)
        answer.addErrback(lambda _: None)

    def test_system_bytes(self) -> None:
        """
        Numbers of open transactions are not given again, also when they begin anew.
        """
        self.protocol._system = 0xFFFF_FFFE
        first, link = self.protocol.request(S1F1), self.protocol.linktest()
        self.assertEqual(self.sent(), data(1, 1, 0xFFFF_FFFF, wait=True) + control(5, 0))
        self.protocol._system = 0xFFFF_FFFE
        third = self.protocol.request(S1F1)
        self.assertEqual(self.sent(), data(1, 1, 1, wait=True))
        for answer in (first, link, third):
            answer.addErrback(lambda _: None)

    def test_limits(self) -> None:
        """
        No more transactions can be open than allowed.
        """
        self.lose()
        self.made(replace(self.settings, open_limit=2))
        self.select()
        first = self.asked()
        self.asked().addErrback(lambda _: None)
        self.failureResultOf(self.protocol.request(S1F1), QueueFull)
        self.receive(data(1, 2, 1))
        self.successResultOf(first)
        self.asked().addErrback(lambda _: None)

    def test_refused(self) -> None:
        """
        What makes no sense is refused before anything is sent.
        """
        self.failureResultOf(self.protocol.request(Message(1, 1)), LocalProtocolError)
        self.failureResultOf(self.protocol.send(S1F1), LocalProtocolError)
        self.failureResultOf(self.protocol.send(Message(1, 2)), LocalProtocolError)
        self.receive(data(1, 1, 7, wait=True), data(6, 11, 8))
        first, second = self.owner.primaries
        self.assertRaises(LocalProtocolError, self.protocol.reply, first, Message(1, 4))
        self.assertRaises(LocalProtocolError, self.protocol.reply, first, Message(2, 2))
        self.assertRaises(LocalProtocolError, self.protocol.reply, second, Message(6, 12))
        self.assertEqual(self.sent(), b"")

    def test_reply_to_theirs(self) -> None:
        """
        A reply has the session id and the system bytes of its primary; function 0 is one, too.
        """
        self.receive(data(1, 1, 0xAABBCCDD, wait=True, session=9))
        self.protocol.reply(self.owner.primaries[0], Message(1, 2, False, A("x")))
        self.assertEqual(self.sent(), data(1, 2, 0xAABBCCDD, b"\x41\x01x", session=9))
        self.protocol.reply(self.owner.primaries[0], Message(1, 0))
        self.assertEqual(self.sent(), data(1, 0, 0xAABBCCDD, session=9))
        self.lose()
        self.assertRaises(NotConnected, self.protocol.reply, self.owner.primaries[0], Message(1, 2))


class TimerTests(ProtocolTestCase):
    """T7, T8, linktests."""

    def test_t7(self) -> None:
        """
        A connection that nobody selects within T7 is closed, whatever else came.
        """
        self.clock.advance(10.0)
        self.receive(control(5, 7))
        self.clock.advance(0.9)
        self.assert_open()
        self.clock.advance(0.1)
        self.assertEqual(self.ended().waiting_for, "being selected (T7)")

    def test_no_t7(self) -> None:
        """
        Once it is selected, T7 is over.
        """
        self.select()
        self.clock.advance(1000.0)
        self.assert_open()

    def test_t8(self) -> None:
        """
        T8 is the longest pause inside of a message, from the second byte of its length to its last one.
        """
        frame = data(6, 11, 7, b"\xb1\x04\0\0\0\1")
        for size in (1, 3, 4, 10, 19):
            self.made()
            self.select()
            self.receive(frame[:size])
            self.clock.advance(5.9)
            self.assert_open()
            self.clock.advance(0.1)
            error = self.ended()
            assert isinstance(error, EquipmentTimeout)
            self.assertEqual((error.seconds, error.received), (6.0, frame[:size]))
            self.lose()

    def test_slow_but_moving(self) -> None:
        """
        One byte in a time shorter than T8 is slow, and all right.
        """
        self.select()
        for byte in data(6, 11, 7, b"\xb1\x04\0\0\0\1"):
            self.receive(bytes((byte,)))
            self.clock.advance(5.9)
        self.assertEqual(self.owner.primaries, [Message(6, 11, False, U4(1))])
        self.clock.advance(1000.0)
        self.assert_open()

    def test_linktest(self) -> None:
        """
        A linktest tells whether the other side is there.
        """
        self.select()
        done = self.protocol.linktest()
        self.assertEqual(self.sent(), control(5, 1))
        self.receive(control(6, 1))
        self.successResultOf(done)

    def test_linktest_t6(self) -> None:
        """
        One that is not answered within T6 ends the connection.
        """
        self.select()
        done = self.protocol.linktest()
        self.clock.advance(5.0)
        self.failureResultOf(done, EquipmentTimeout)
        self.assertEqual(self.ended().waiting_for, "Linktest.rsp (T6)")

    def linktests(self, **settings: Any) -> None:
        """Make a connection with a linktest every 20 seconds."""
        self.lose()
        self.made(replace(self.settings, timers=replace(TIMERS, linktest=20.0), **settings))
        self.select()

    def test_automatic(self) -> None:
        """
        Where there is a period, a linktest is made in each; the first that is not answered ends the connection.
        """
        self.linktests()
        for system in (1, 2, 3):
            self.clock.advance(19.9)
            self.assertEqual(self.sent(), b"")
            self.clock.advance(0.1)
            self.assertEqual(self.sent(), control(5, system))
            self.receive(control(6, system))
        self.clock.advance(20.0)
        self.clock.advance(5.0)
        self.assertIsInstance(self.ended(), EquipmentTimeout)

    def test_threshold(self) -> None:
        """
        With a threshold only so many in a row end it.
        """
        self.linktests(linktest_failures=2)
        self.clock.advance(20.0)
        self.clock.advance(5.0)
        self.assert_open()
        self.clock.advance(15.0)
        self.receive(control(6, 2))
        self.clock.advance(20.0)
        self.clock.advance(5.0)
        self.assert_open()
        self.clock.advance(15.0)
        self.clock.advance(5.0)
        self.assertIsInstance(self.ended(), EquipmentTimeout)

    def test_when_idle(self) -> None:
        """
        If so set, a linktest is only made when nothing has come for its period.
        """
        self.linktests(linktest_when_idle=True)
        for _ in range(5):
            self.clock.advance(15.0)
            self.receive(data(6, 11, 7))
        self.assertEqual(self.sent(), b"")
        self.clock.advance(19.9)
        self.assertEqual(self.sent(), b"")
        self.clock.advance(0.1)
        self.assertEqual(self.sent(), control(5, 1))

    def test_linktest_before_select(self) -> None:
        """
        A linktest can be made before the connection is selected, too.
        """
        done = self.protocol.linktest()
        self.receive(control(6, 1))
        self.successResultOf(done)


class FramingTests(ProtocolTestCase):
    """How the stream is cut makes no difference."""

    conversation = (
        select_req(1),
        data(1, 1, 2, wait=True),
        control(5, 3),
        data(6, 11, 4, B(bytes(300)).to_bytes()),
        data(1, 13, 5, b"\x01\x00", wait=True),
        control(99, 6),
    )

    @given(st.lists(st.integers(0, len(b"".join(conversation))), max_size=30))
    def test_any_cut(self, cuts: list[int]) -> None:
        """
        The same messages come, and the same is answered, wherever the stream is cut.
        """
        self.setUp()
        stream = b"".join(self.conversation)
        edges = [0, *sorted(cuts), len(stream)]
        for begin, end in pairwise(edges):
            self.protocol.dataReceived(stream[begin:end])
        self.assertEqual([str(each) for each in self.owner.primaries], ["S1F1 W", "S6F11", "S1F13 W"])
        self.assertEqual(self.owner.primaries[1].item, B(bytes(300)))
        self.assertEqual([each.frame for each in self.owner.primaries], [self.conversation[n] for n in (1, 3, 4)])
        self.assertEqual(self.sent(), select_rsp(1) + control(6, 3) + reject(control(99, 6), 1, 99))
        self.lose()

    def test_byte_by_byte(self) -> None:
        """
        Also after each byte.
        """
        for byte in b"".join(self.conversation):
            self.protocol.dataReceived(bytes((byte,)))
        self.assertEqual(len(self.owner.primaries), 3)

    @given(st.binary(max_size=200))
    def test_anything(self, garbage: bytes) -> None:
        """
        Whatever comes, nothing is raised: it is answered, waited for, or ends the connection.
        """
        for selected in (False, True):
            self.setUp()
            if selected:
                self.select()
            self.protocol.dataReceived(garbage)
            self.protocol.dataReceived(garbage)
            self.lose()


class TapTests(ProtocolTestCase):
    """What a tap sees."""

    def test_messages(self) -> None:
        """
        Each message in and out, with its bytes and its value, which has a header and can be put in SML.
        """
        seen: list[Any] = []
        self.owner.taps.append(seen.append)
        self.receive(select_req(1))
        self.protocol.request(Message(6, 11, True, U4(1))).addErrback(lambda _: None)
        self.receive(data(6, 12, 1, b"\x21\x01\0"), control(5, 7))
        self.assertEqual(
            [(each.direction, each.value.to_sml()) for each in seen],
            [
                ("in", "/* Select.req session 65535 system 1 */"),
                ("out", "/* Select.rsp status 0 session 65535 system 1 */"),
                ("out", "S6F11 W\n<U4 [1] 1>\n."),
                ("in", "S6F12\n<B [1] 0x00>\n."),
                ("in", "/* Linktest.req session 65535 system 7 */"),
                ("out", "/* Linktest.rsp session 65535 system 7 */"),
            ],
        )
        self.assertEqual(seen[2].value.header, Header(0, 0x86, 11, 0, 0, 1))
        self.assertEqual(seen[2].raw, data(6, 11, 1, b"\xb1\x04\0\0\0\1", wait=True))


class BackPressureTests(ProtocolTestCase):
    """A slow peer, and too much work."""

    settings = HsmsSettings(timers=TIMERS, queue_limit=PIECE, open_limit=100)

    def setUp(self) -> None:
        super().setUp()
        self.select()

    def test_send(self) -> None:
        """
        Who sends is held back until the transport has taken what comes before, and refused when too much waits.
        """
        big = Message(6, 11, False, B(bytes(PIECE)))
        self.protocol.pauseProducing()
        first = self.protocol.send(big)
        self.failureResultOf(self.protocol.send(Message(6, 11)), QueueFull)
        self.clock.advance(0)
        self.assertNoResult(first)
        self.protocol.resumeProducing()
        self.successResultOf(first)
        self.assertEqual(self.transport.value()[14:], big.to_bytes())
        self.successResultOf(self.protocol.send(Message(6, 11)))

    def test_pieces(self) -> None:
        """
        A long message leaves in pieces; the next one is behind it, whole.
        """
        self.lose()
        self.made(HsmsSettings(timers=TIMERS))
        self.select()
        writes: list[bytes] = []

        def write(written: bytes) -> None:
            writes.append(written)
            self.protocol.pauseProducing()

        self.transport.write = write  # type: ignore[method-assign]
        big = Message(7, 3, True, L(A("P"), B(bytes(range(256)) * 4000)))
        answer = self.protocol.request(big)
        self.protocol.request(S1F1).addErrback(lambda _: None)
        self.clock.advance(0)
        while self.protocol._choked:
            self.assertLess(len(writes), 10)
            self.assertLessEqual(len(writes[-1]), PIECE)
            done = not self.protocol._backlog
            self.protocol.resumeProducing()
            if done:
                break
        stream = b"".join(writes)
        self.assertEqual(stream, data(7, 3, 1, big.to_bytes(), wait=True) + data(1, 1, 2, wait=True))
        answer.addErrback(lambda _: None)

    def test_t3_begins_when_it_has_left(self) -> None:
        """
        T3 of a message that the other side does not take begins only when it has.
        """
        self.protocol.pauseProducing()
        answer = self.protocol.request(S1F1)
        self.clock.advance(44.0)
        self.protocol.resumeProducing()
        self.clock.advance(44.9)
        self.assertNoResult(answer)
        self.clock.advance(0.1)
        self.failureResultOf(answer, EquipmentTimeout)

    def test_stalled(self) -> None:
        """
        A peer that takes nothing for the time of T3 is gone.
        """
        self.protocol.pauseProducing()
        answer, sent = self.protocol.request(S1F1), self.protocol.send(Message(6, 11))
        self.clock.advance(45.0)
        self.assertEqual(self.transport.closed, ["abort"])
        self.failureResultOf(answer, EquipmentTimeout)
        self.failureResultOf(sent, EquipmentTimeout)

    def test_in_pieces(self) -> None:
        """
        For simulators: bytes as they are, in pieces, behind what was sent before; a connection may end in between.
        """
        self.successResultOf(self.protocol.send(Message(6, 11)))
        self.protocol.send_bytes(b"abc", 1)
        self.assertEqual(self.transport.value(), data(6, 11, 1) + b"a")
        waiting = self.protocol.send(Message(6, 11))
        self.assertEqual(self.sent(), data(6, 11, 1) + b"abc" + data(6, 11, 2))
        self.successResultOf(waiting)
        self.protocol.send_bytes(b"abc", 1)
        self.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_lost(self) -> None:
        """
        What waits to be sent fails with the connection; who has given up waiting is not told.
        """
        self.protocol.pauseProducing()
        sent, forgotten = self.protocol.send(Message(6, 11)), self.protocol.send(Message(6, 11))
        forgotten.cancel()
        self.failureResultOf(forgotten, CancelledError)
        self.lose()
        self.failureResultOf(sent, ConnectionLost)

    def test_too_much_work(self) -> None:
        """
        Nothing is read while too many primaries are in work; T8 does not run then.
        """
        for _ in range(100):
            self.protocol.hold()
        self.assertEqual(self.transport.producerState, "paused")
        self.receive(b"\0\0")
        self.clock.advance(100.0)
        self.assert_open()
        self.protocol.release()
        self.assertEqual(self.transport.producerState, "producing")
        self.clock.advance(6.0)
        self.assertIsInstance(self.ended(), EquipmentTimeout)

    def test_too_many_replies(self) -> None:
        """
        Nor while more replies wait than may.
        """
        self.protocol.pauseProducing()
        self.receive(data(7, 5, 7, wait=True))
        self.protocol.reply(self.owner.primaries[0], Message(7, 6, False, B(bytes(PIECE))))
        self.assertEqual(self.transport.producerState, "paused")
        self.protocol.resumeProducing()
        self.clock.advance(0)
        self.assertEqual(self.transport.producerState, "producing")


class SettingsTests(ProtocolTestCase):
    def test_refused(self) -> None:
        """
        What makes no sense is refused with the value in question.
        """
        bad: Any
        for bad, words in (
            ({"session_id": 0x8000}, "32768"),
            ({"session_id": -1}, "-1"),
            ({"role": "tool"}, "'tool'"),
            ({"message_limit": 9}, "9"),
            ({"message_limit": 1 << 32}, "4294967296"),
            ({"open_limit": 0}, "open_limit is 0"),
            ({"max_depth": 0}, "max_depth is 0"),
        ):
            self.assertIn(words, str(self.assertRaises(ValueError, HsmsSettings, **bad)))
        self.assertIn("t3 is 0", str(self.assertRaises(ValueError, replace, TIMERS, t3=0)))

    def test_lost_reason(self) -> None:
        """
        The owner is told why a connection went down.
        """
        self.lose(ConnectionDone())
        self.assertEqual([type(each[1]) for each in self.owner.told if each[0] == "went down"], [ConnectionLost])
        self.assertIsInstance(self.protocol, HsmsProtocol)
