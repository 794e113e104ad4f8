"""
Tests for `equipnet.secs.decoding`.
"""

from __future__ import annotations

import contextlib
import tracemalloc
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from equipnet.errors import RemoteProtocolError
from equipnet.secs import (
    BOOLEAN,
    U1,
    U2,
    U4,
    A,
    B,
    DecodeError,
    Item,
    L,
    NestedTooDeep,
    UndecodableText,
    decode,
    decode_body,
)
from equipnet.secs.decoding import FORMATS
from tests.secs.items import items

quick = settings(max_examples=150, deadline=None, database=None)


class LegalTests(SynchronousTestCase):
    """Everything that E5 allows is read."""

    def test_length_bytes(self) -> None:
        """
        A length may have more bytes than it needs, for every format; it is sent with as few as it needs.
        """
        for wire in ("21 01 07", "22 00 01 07", "23 00 00 01 07"):
            item = decode(bytes.fromhex(wire))
            self.assertEqual(item, B(7))
            self.assertEqual(item.to_bytes(), bytes.fromhex("21 01 07"))
        for wire in ("01 01 A501 07", "02 00 01 A501 07", "03 00 00 01 A501 07"):
            self.assertEqual(decode(bytes.fromhex(wire)), L(U1(7)))
        for format_class in FORMATS:
            for length_bytes in (1, 2, 3):
                item = decode(bytes((format_class.code << 2 | length_bytes,)) + bytes(length_bytes))
                self.assertIs(type(item), format_class)
                self.assertEqual(len(item), 0)

    def test_format_codes(self) -> None:
        """
        The formats have the codes of E5.
        """
        # E5, item format codes
        codes = "L 00 B 10 BOOLEAN 11 A 20 J 21 C2 22 I8 30 I1 31 I2 32 I4 34 F8 40 F4 44 U8 50 U1 51 U2 52 U4 54"
        self.assertEqual(" ".join(f"{each.__name__} {each.code:02o}" for each in FORMATS), codes)

    def test_start(self) -> None:
        """
        The text may begin anywhere in the bytes: 10 bytes into an HSMS message.
        """
        self.assertEqual(decode(bytes(10) + b"\xa5\x01\x07", 10), U1(7))

    def test_kinds_of_bytes(self) -> None:
        """
        Bytes that may change are copied, so that the item does not change with them.
        """
        wire = bytearray(B(bytes(1000)).to_bytes())
        items = [decode(wire), decode(memoryview(wire))]
        wire[-1] = 1
        self.assertEqual(items, [B(bytes(1000))] * 2)

    def test_long_content_is_not_copied(self) -> None:
        """
        Reading a message with a body of 10 MB takes next to no memory.
        """
        wire = L(A("recipe"), B(bytes(10_000_000))).to_bytes()
        tracemalloc.start()
        try:
            item = decode(wire)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertLess(peak, 10_000)
        self.assertEqual(len(item[1]), 10_000_000)

    def test_short_content_lets_the_message_go(self) -> None:
        """
        A short item does not keep the message that it came in.
        """
        item = decode(U4(1, 2).to_bytes())
        assert isinstance(item, U4)
        self.assertEqual(item.view.obj, item.content)

    def test_body(self) -> None:
        """
        A message that is a header alone has no item.
        """
        self.assertIsNone(decode_body(b""))
        self.assertIsNone(decode_body(bytes(10), 10))
        self.assertEqual(decode_body(b"\x01\x00"), L())
        self.assertEqual(decode_body(bytes(10) + b"\x41\x01\xb5", 10, encoding="latin-1").value, "µ")  # type: ignore[union-attr]


class IllegalTests(SynchronousTestCase):
    """
    What E5 does not allow is refused, and the error says where; secsgem takes all of this in silence.
    """

    def refused(self, wire: str, offset: int, words: str) -> None:
        """Check what is said of the bytes, wherever they begin."""
        text = bytes.fromhex(wire)
        for header in (b"", bytes(10)):
            error = self.assertRaises(DecodeError, decode, header + text, len(header))
            self.assertEqual(error.offset, offset, wire)
            self.assertIn(f"offset {offset}", str(error))
            self.assertIn(words, str(error))
            self.assertEqual(error.data, text)
            self.assertIsInstance(error, RemoteProtocolError)

    def test_empty(self) -> None:
        """
        No bytes are no item.
        """
        self.refused("", 0, "empty")

    def test_truncated_header(self) -> None:
        """
        A header that goes on after the end is refused where the text ends.
        """
        self.refused("21", 1, "header of the item at offset 0")
        self.refused("22 00", 2, "header of the item at offset 0")
        self.refused("23 00 00", 3, "header of the item at offset 0")
        self.refused("01", 1, "header of the item at offset 0")
        self.refused("01 02 A501 07 B1", 6, "header of the item at offset 5")

    def test_truncated_content(self) -> None:
        """
        Content that goes on after the end is refused by its item, and with how much is there.
        """
        self.refused("41 05 616263", 0, "A item at offset 0 has 5 bytes, of which the text holds 3")
        self.refused("01 02 A501 07 B104 0000", 5, "has 4 bytes, of which the text holds 2")
        self.refused("23 FFFFFF 00", 0, "has 16777215 bytes, of which the text holds 1")

    def test_truncated_list(self) -> None:
        """
        A list of fewer items than it says is refused, before any are read where they cannot fit.
        """
        self.refused("01 02 A502 0707", 6, "another item should begin")
        self.refused("01 03 A501 07", 0, "3 items, more than fit")
        self.refused("03 FFFFFF A501 07", 0, "16777215 items, more than fit")

    def test_trailing(self) -> None:
        """
        Bytes after the item are refused.
        """
        self.refused("A501 07 00", 3, "1 more bytes follow")
        self.refused("01 00 01 00", 2, "2 more bytes follow")
        self.refused("01 01 A501 07 A501 07", 5, "3 more bytes follow")

    def test_misaligned(self) -> None:
        """
        A length that is not a multiple of the size of its values is refused, for each of the formats with several
        bytes.
        """
        for format_byte, size in (
            (0x69, 2),
            (0xA9, 2),
            (0x71, 4),
            (0x91, 4),
            (0xB1, 4),
            (0x61, 8),
            (0x81, 8),
            (0xA1, 8),
        ):
            for length in range(1, 2 * size):
                if length != size:
                    wire = bytes((1, 1, format_byte, length)) + bytes(length)
                    self.refused(wire.hex(), 2, f"has {length} bytes, which is not a multiple of {size}")
        self.refused("B2 0201" + "00" * 513, 0, "has 513 bytes")

    def test_character_set(self) -> None:
        """
        A localized text of one byte has no room for its code.
        """
        self.refused("49 01 00", 0, "too short")

    def test_no_length_bytes(self) -> None:
        """
        A header without length bytes is refused, for every format.
        """
        for format_class in FORMATS:
            self.refused(f"{format_class.code << 2:02x} 00", 0, "no length bytes")
        self.refused("01 01 A4 01 07", 2, "no length bytes")

    def test_unknown_format(self) -> None:
        """
        All other format bytes are refused.
        """
        known = {each.code << 2 | length_bytes for each in FORMATS for length_bytes in range(4)}
        self.assertEqual(len(known), 64)
        for byte in set(range(256)) - known:
            self.refused(f"01 01 {byte:02x} 01 00", 2, f"no format of E5 (format byte {byte:#04x})")


class LimitTests(SynchronousTestCase):
    """What a peer sends is bounded."""

    def test_depth(self) -> None:
        """
        64 lists in one another are read, and no more, unless the caller says so.
        """
        for depth in (64, 1, 3, 1000):
            limit: Any = {} if depth == 64 else {"max_depth": depth}
            decode(b"\x01\x01" * depth + b"\xa5\x01\x07", **limit)
            for inside in (b"\x01\x00", b"\x01\x01\xa5\x01\x07"):
                decode(b"\x01\x01" * (depth - 1) + inside, **limit)
                error = self.assertRaises(NestedTooDeep, decode, b"\x01\x01" * depth + inside, **limit)
                self.assertEqual(error.offset, 2 * depth)
                self.assertIsInstance(error, DecodeError)

    def test_millions_of_lists(self) -> None:
        """
        Millions of lists in one another are refused at the limit, without a stack overflow.
        """
        self.assertRaises(NestedTooDeep, decode, b"\x01\x01" * 4_000_000)

    def test_announced(self) -> None:
        """
        Nothing is allocated for what is only announced.
        """
        wire = b"\x03\xff\xff\xff" + b"\x23\xff\xff\xff" * 10
        tracemalloc.start()
        try:
            self.assertRaises(DecodeError, decode, wire)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertLess(peak, 100_000)

    def test_empty_lists_are_shared(self) -> None:
        """
        A message full of empty lists becomes no more than a reference for each.
        """
        item = decode(L([L()] * 10_000).to_bytes())
        self.assertEqual(len({id(each) for each in item}), 1)


class AnythingTests(SynchronousTestCase):
    """Whatever comes, the answer is defined."""

    @quick
    @given(
        st.binary(max_size=60)
        | st.lists(
            st.sampled_from([b"\x01\x01", b"\x01\x02", b"\x25\x01", b"\x41\x03", b"\x49\x02", b"\xb1\x04", b"\x00"])
        ).map(b"".join)
    )
    @example(b"\x49\x01\x00")
    def test_arbitrary_bytes(self, data: bytes) -> None:
        """
        Arbitrary bytes are an item, or the error; an item that was read can be used.
        """
        try:
            item = decode(data)
        except DecodeError as error:
            self.assertTrue(0 <= error.offset <= len(data))
            return
        repr(item)
        self.assertEqual(decode(item.to_bytes()), item)
        pending = [item]
        while pending:
            each = pending.pop()
            if isinstance(each, L):
                pending.extend(each)
            elif len(each) == 1 or each.code in (0o20, 0o21, 0o22):
                with contextlib.suppress(UndecodableText):
                    repr(each.value)

    @quick
    @given(items(), st.data())
    def test_damaged(self, item: Item, data: st.DataObject) -> None:
        """
        A message of which a byte was changed, or the end lost, is another item or the error.
        """
        wire = bytearray(item.to_bytes())
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
        for damaged in (wire, wire[: data.draw(st.integers(0, len(wire)))]):
            with contextlib.suppress(DecodeError):
                decode(damaged)

    @quick
    @given(items())
    def test_round_trip(self, item: Item) -> None:
        """
        Any item comes back as it was, and equal items have equal hashes.
        """
        wire = item.to_bytes()
        received = decode(wire)
        self.assertEqual(received, item)
        self.assertEqual(hash(received), hash(item))
        self.assertEqual(received.to_bytes(), wire)

    @quick
    @given(items())
    def test_truncated(self, item: Item) -> None:
        """
        No beginning of an item is an item.
        """
        wire = item.to_bytes()
        for size in range(len(wire)):
            self.assertRaises(DecodeError, decode, wire[:size])

    def test_long_truths(self) -> None:
        """
        Many truth values with bytes of their own are read as the same.
        """
        for count in (2, 511, 513, 70_000):
            wire = b"\x27" + count.to_bytes(3, "big") + b"\x02" * count
            item = decode(wire)
            self.assertEqual(item, BOOLEAN([True] * count))
            self.assertEqual(hash(item), hash(BOOLEAN([True] * count)))
            self.assertEqual(item[count - 1 :], BOOLEAN(True))
        self.assertEqual(decode(L(U2(1), BOOLEAN(False)).to_bytes()), L(U2(1), BOOLEAN(False)))
