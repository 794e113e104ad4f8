"""Tests of HSMS headers and frames."""

from __future__ import annotations

import pickle

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from equipnet.errors import LocalProtocolError
from equipnet.hsms.message import HEADER_SIZE, TEXT_START, Header, ReceivedMessage, SType, encode
from equipnet.secs import U4, A, DecodeError, L, Message

#: E37: S1F1 W for device 5, with system bytes 0x01020304.
ARE_YOU_THERE = bytes.fromhex("0000000a 0005 81 01 00 00 01020304")

#: A Select.req with system bytes 1.
SELECT_REQ = bytes.fromhex("0000000a ffff 00 00 00 01 00000001")


class HeaderTests(SynchronousTestCase):
    def test_data(self) -> None:
        """
        The header of a data message says which message it is, and of which transaction.
        """
        header = Header.from_bytes(ARE_YOU_THERE[4:])
        self.assertEqual((header.stream, header.function, header.wait), (1, 1, True))
        self.assertEqual((header.session_id, header.system_bytes, header.is_data), (5, 0x01020304, True))
        self.assertEqual(str(header), "S1F1 W session 5 system 16909060")

    def test_control(self) -> None:
        """
        The header of a control message says of which sort it is.
        """
        header = Header.from_bytes(SELECT_REQ[4:])
        self.assertEqual(header, Header(0xFFFF, 0, 0, 0, SType.SELECT_REQ, 1))
        self.assertFalse(header.is_data)
        self.assertEqual(header.to_frame(), SELECT_REQ)

    def test_in_words(self) -> None:
        """
        Every sort of message has a name, with its status or reason; others have a number.
        """
        for header, words in (
            (Header(0xFFFF, 0, 3, 0, 2, 7), "Select.rsp status 3 session 65535 system 7"),
            (Header(0xFFFF, 0, 1, 0, 4, 7), "Deselect.rsp status 1 session 65535 system 7"),
            (Header(0xFFFF, 8, 1, 0, 7, 7), "Reject.req reason 1 of 8 session 65535 system 7"),
            (Header(0xFFFF, 0, 0, 0, 9, 7), "Separate.req session 65535 system 7"),
            (Header(1, 0, 0, 0, 8, 7), "SType 8 session 1 system 7"),
            (Header(1, 0, 0, 5, 0, 7), "PType 5 session 1 system 7"),
        ):
            self.assertEqual((str(header), header.to_sml()), (words, f"/* {words} */"))

    def test_size(self) -> None:
        """
        Anything but ten bytes is no header.
        """
        for size in (0, 9, 11):
            self.assertRaises(LocalProtocolError, Header.from_bytes, bytes(size))

    @given(st.binary(min_size=HEADER_SIZE, max_size=HEADER_SIZE))
    def test_round_trip(self, data: bytes) -> None:
        """
        Every ten bytes are a header, which gives them back and can be put in words.
        """
        header = Header.from_bytes(data)
        self.assertEqual(header.to_bytes(), data)
        self.assertEqual(header.to_frame(), b"\0\0\0\x0a" + data)
        self.assertIn(f"system {header.system_bytes}", str(header))


class ReceivedMessageTests(SynchronousTestCase):
    def test_header_only(self) -> None:
        """
        A message without text is equal to one that is made here, and keeps its header.
        """
        message = ReceivedMessage(ARE_YOU_THERE)
        self.assertEqual(message, Message(1, 1, True))
        self.assertEqual((message.session_id, message.system_bytes, message.has_text), (5, 0x01020304, False))
        self.assertEqual(message.header.to_bytes(), ARE_YOU_THERE[4:])
        self.assertEqual(message.to_bytes(), b"")
        self.assertEqual(message.reply(L()), Message(1, 2, False, L()))
        self.assertEqual(message.to_sml(), "S1F1 W\n.")

    def test_item(self) -> None:
        """
        The item is decoded once, when it is asked for.
        """
        message = ReceivedMessage(bytes.fromhex("00000010 0000 06 0b 00 00 00000009 b1 04 00000001"))
        self.assertEqual(message.item, U4(1))
        self.assertIs(message.item, message.item)
        self.assertEqual(hash(message), hash(Message(6, 11, False, U4(1))))

    def test_wrong_text(self) -> None:
        """
        A text that is no item is an error only for who asks for the item.
        """
        message = ReceivedMessage(bytes.fromhex("0000000c 0000 06 0b 00 00 00000009 b1 04"))
        self.assertEqual((message.stream, message.function, message.has_text), (6, 11, True))
        for _ in range(2):
            self.assertRaises(DecodeError, lambda: message.item)

    def test_encoding(self) -> None:
        """
        Texts are read in the encoding of the connection, and lists as deep as it allows.
        """
        frame = bytes.fromhex("0000000d 0000 06 0b 00 00 00000009 41 01 e9")
        item = ReceivedMessage(frame, None, (1, "latin-1")).item
        assert isinstance(item, A)
        self.assertEqual(item.value, "é")
        deep = bytes.fromhex("0000000e 0000 06 0b 00 00 00000009 01 01 01 00")
        self.assertEqual(ReceivedMessage(deep).item, L(L()))
        self.assertRaises(DecodeError, lambda: ReceivedMessage(deep, None, (1, "ascii")).item)

    def test_fixed(self) -> None:
        """
        It does not change, and survives being pickled.
        """
        message = ReceivedMessage(ARE_YOU_THERE)
        with self.assertRaises(AttributeError):
            message.stream = 2  # type: ignore[misc]
        again = pickle.loads(pickle.dumps(message))
        self.assertEqual((again, again.header), (message, message.header))


class EncodeTests(SynchronousTestCase):
    def test_header_only(self) -> None:
        """
        A message without text is one piece.
        """
        self.assertEqual(encode(Message(1, 1, True), 5, 0x01020304), [ARE_YOU_THERE])

    def test_text(self) -> None:
        """
        With text the length counts header and text.
        """
        pieces = encode(Message(6, 11, False, L(U4(1), A("x"))), 0, 9)
        self.assertEqual(
            b"".join(pieces), bytes.fromhex("00000015 0000 06 0b 00 00 00000009 01 02 b1 04 00000001 41 01 78")
        )

    def test_received(self) -> None:
        """
        One that was received is sent on as it came, without being decoded.
        """
        frame = bytes.fromhex("0000000c 0000 06 0b 00 00 00000009 b1 04")
        self.assertEqual(b"".join(encode(ReceivedMessage(frame), 0, 9)), frame)

    def test_undecoded(self) -> None:
        """
        What was sent is what is received.
        """
        sent = Message(7, 3, True, L(A("PPID"), U4(range(1000))))
        frame = b"".join(encode(sent, 5, 77))
        self.assertEqual(len(frame), TEXT_START + len(sent.to_bytes()))
        self.assertEqual(ReceivedMessage(frame), sent)
