"""
Tests for `equipnet.secs.message`.
"""

from __future__ import annotations

from itertools import product

from twisted.trial.unittest import SynchronousTestCase

from equipnet.errors import LocalProtocolError
from equipnet.secs import U4, A, B, L, Message


class MessageTests(SynchronousTestCase):
    """A message is a value that cannot be wrong."""

    def test_parts(self) -> None:
        """
        A message has a stream, a function, whether it wants a reply, and an item or none.
        """
        message = Message(6, 11, wait=True, item=U4(1))
        self.assertEqual((message.stream, message.function, message.wait, message.item), (6, 11, True, U4(1)))
        message = Message(1, 1)
        self.assertEqual((message.wait, message.item), (False, None))
        self.assertIs(Message(1, 1, wait=0x80).wait, True)  # type: ignore[arg-type]  # the bit of a header

    def test_ranges(self) -> None:
        """
        A stream has seven bits and a function eight; only a primary can want a reply.
        """
        for stream, function, wait in product((-1, 0, 127, 128), (-1, 0, 1, 254, 255, 256), (False, True)):
            if 0 <= stream <= 127 and 0 <= function <= 255 and not (wait and function % 2 == 0):
                message = Message(stream, function, wait)
                self.assertEqual(message.is_primary, function % 2 == 1)
            else:
                self.assertRaises(LocalProtocolError, Message, stream, function, wait)

    def test_item(self) -> None:
        """
        What is not an item is refused.
        """
        error = self.assertRaises(LocalProtocolError, Message, 1, 1, False, "text")
        self.assertIn("'text'", str(error))

    def test_immutable(self) -> None:
        """
        No part can be set or deleted, and none added.
        """
        message = Message(1, 1, True)
        for name in ("stream", "function", "wait", "item", "other"):
            self.assertRaises(AttributeError, setattr, message, name, 0)
            self.assertRaises(AttributeError, delattr, message, name)
        self.assertEqual(message, Message(1, 1, True))

    def test_equality(self) -> None:
        """
        Messages are equal when all four parts are.
        """
        message = Message(1, 3, True, L(U4(1)))
        self.assertEqual(message, Message(1, 3, True, L(U4(1))))
        self.assertEqual(hash(message), hash(Message(1, 3, True, L(U4(1)))))
        for other in (
            Message(2, 3, True, L(U4(1))),
            Message(1, 5, True, L(U4(1))),
            Message(1, 3, False, L(U4(1))),
            Message(1, 3, True, L(U4(2))),
            Message(1, 3, True),
            "S1F3",
        ):
            self.assertNotEqual(message, other)

    def test_shown(self) -> None:
        """
        A message is named in a word and shown as it is made.
        """
        self.assertEqual(str(Message(1, 1, True)), "S1F1 W")
        self.assertEqual(str(Message(1, 2)), "S1F2")
        self.assertEqual(repr(Message(1, 1, True)), "Message(1, 1, wait=True)")
        self.assertEqual(repr(Message(1, 2, item=L())), "Message(1, 2, item=L())")


class ReplyTests(SynchronousTestCase):
    """A reply belongs to its primary."""

    def test_reply(self) -> None:
        """
        A reply has the primary's stream and the next function, and wants no reply.
        """
        reply = Message(1, 1, wait=True).reply(L(A("ETCHER"), A("1.0")))
        self.assertEqual(reply, Message(1, 2, item=L(A("ETCHER"), A("1.0"))))
        self.assertEqual(Message(1, 1, wait=True).reply(), Message(1, 2))

    def test_abort(self) -> None:
        """
        An abort has the primary's stream and function 0.
        """
        self.assertEqual(Message(7, 3, wait=True).abort(), Message(7, 0))

    def test_no_primary(self) -> None:
        """
        There is no reply to a reply, and none to function 255.
        """
        for message in (Message(1, 2), Message(1, 0)):
            self.assertRaises(LocalProtocolError, message.reply)
            self.assertRaises(LocalProtocolError, message.abort)
        self.assertRaises(LocalProtocolError, Message(1, 255).reply)


class TextTests(SynchronousTestCase):
    """What a message carries is its item or nothing."""

    def test_header_only(self) -> None:
        """
        A message without a text is not one with an empty list.
        """
        self.assertEqual(Message(1, 1).to_bytes(), b"")
        self.assertEqual(Message(1, 1, item=L()).to_bytes(), b"\x01\x00")
        self.assertNotEqual(Message(1, 1), Message(1, 1, item=L()))
        pieces: list[bytes | memoryview] = []
        Message(1, 1).encode_into(pieces)
        self.assertEqual(pieces, [])

    def test_pieces(self) -> None:
        """
        The pieces of a message are those of its item.
        """
        pieces: list[bytes | memoryview] = [b"header"]
        Message(7, 3, item=B(b"recipe")).encode_into(pieces)
        self.assertEqual(b"".join(pieces), b"header\x21\x06recipe")
