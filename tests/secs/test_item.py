"""
Tests for `equipnet.secs.item`.
"""

from __future__ import annotations

from itertools import repeat

from twisted.trial.unittest import SynchronousTestCase

from equipnet.errors import LocalProtocolError
from equipnet.secs import U1, U2, U4, A, B, Item, L, decode, encode_into


def nested(depth: int) -> Item:
    """A value inside so many lists."""
    item: Item = U1(7)
    for _ in range(depth):
        item = L(item)
    return item


class ListTests(SynchronousTestCase):
    """A list holds items."""

    def test_both_ways(self) -> None:
        """
        A list on the wire is its header, which counts items and not bytes, and its items.
        """
        # E5, a list of a U4 1 and the text "x"
        wire = bytes.fromhex("0102 B104 00000001 4101 78")
        item = L(U4(1), A("x"))
        self.assertEqual(item.to_bytes(), wire)
        self.assertEqual(decode(wire), item)

    def test_forms(self) -> None:
        """
        Items can be given one by one or together.
        """
        items = [U4(1), A("x")]
        for form in (items, tuple(items), iter(items)):
            self.assertEqual(L(form), L(U4(1), A("x")))
        self.assertEqual(L([U4(1)]), L(U4(1)))
        self.assertEqual(L([]), L())
        self.assertEqual(L(L()), L([L()]))

    def test_empty(self) -> None:
        """
        An empty list is two bytes.
        """
        self.assertEqual(L().to_bytes(), b"\x01\x00")
        self.assertEqual(decode(b"\x01\x00"), L())

    def test_sequence(self) -> None:
        """
        A list is counted, iterated, indexed and sliced.
        """
        item = L(U4(1), A("x"), L(U2(3)))
        self.assertEqual(len(item), 3)
        self.assertEqual(list(item), [U4(1), A("x"), L(U2(3))])
        self.assertEqual(item.value, (U4(1), A("x"), L(U2(3))))
        self.assertEqual(item[2][0].value, 3)
        self.assertEqual(item[-2], A("x"))
        self.assertEqual(item[1:], L(A("x"), L(U2(3))))
        self.assertRaises(IndexError, lambda: item[3])

    def test_other_things(self) -> None:
        """
        What is not an item is refused by name: a plain 1 could be of ten formats.
        """
        for wrong in ((1,), ("text",), (U4(1), None), ([U4(1), 2],), (U4,)):
            self.assertRaises(LocalProtocolError, L, *wrong)
        error = self.assertRaises(LocalProtocolError, L, U4(1), 2.5)
        self.assertIn("2.5", str(error))

    def test_too_many(self) -> None:
        """
        16,777,215 items are the most of a list; more are refused before they are collected.
        """
        for many in (range(16_777_216), repeat(U1(), 16_777_216)):
            error = self.assertRaises(LocalProtocolError, L, many)
            self.assertIn("16777215", str(error))

    def test_immutable(self) -> None:
        """
        A list does not change with what it was made of, nor in any other way.
        """
        items = [U4(1)]
        item = L(items)
        items.append(U4(2))
        self.assertEqual(item, L(U4(1)))
        for name in ("value", "other"):
            self.assertRaises(AttributeError, setattr, item, name, ())


class HeaderTests(SynchronousTestCase):
    """A length takes as few bytes as it needs."""

    def test_length_bytes(self) -> None:
        """
        One byte up to 255, two up to 65,535, then three, for content and for lists.
        """
        for length, header in ((255, "FF"), (256, "0100"), (65_535, "FFFF"), (65_536, "010000")):
            length_bytes = len(header) // 2
            content = B(bytes(length)).to_bytes()
            self.assertEqual(content[: 1 + length_bytes], bytes((0x20 | length_bytes,)) + bytes.fromhex(header))
            self.assertEqual(decode(content), B(bytes(length)))
            items = L([U1()] * length).to_bytes()
            self.assertEqual(items[: 1 + length_bytes], bytes((length_bytes,)) + bytes.fromhex(header))
            self.assertEqual(decode(items), L([U1()] * length))

    def test_pieces(self) -> None:
        """
        A long content is given out as it is, so that whoever joins the pieces makes the only copy.
        """
        content = bytes(1000)
        pieces: list[bytes | memoryview] = [b"header"]
        encode_into(L(B(content), U1(1)), pieces)
        self.assertTrue(any(piece is content for piece in pieces))
        self.assertEqual(b"".join(pieces), b"header" + L(B(content), U1(1)).to_bytes())


class DepthTests(SynchronousTestCase):
    """However many lists are in one another, nothing overflows."""

    depth = 100_000

    def test_everything(self) -> None:
        """
        Deep items are encoded, decoded, compared, hashed, shown and printed.
        """
        item = nested(self.depth)
        wire = item.to_bytes()
        self.assertEqual(wire, b"\x01\x01" * self.depth + b"\xa5\x01\x07")
        other = decode(wire, max_depth=self.depth)
        self.assertTrue(other == item)
        self.assertFalse(other != item)
        self.assertTrue(nested(self.depth - 1) != item)
        self.assertEqual(hash(other), hash(item))
        self.assertEqual(repr(item), "L(" * 100 + "..." + ")" * 100)
        self.assertEqual(item.to_sml().count("\n"), 2 * self.depth)


class EqualityTests(SynchronousTestCase):
    """Lists are equal when their items are."""

    def test_different(self) -> None:
        """
        A list differs by a value, a format, an order, a length, and a list in place of an item.
        """
        item = L(U4(1), L(A("x"), U2(3)))
        for other in (
            L(U4(2), L(A("x"), U2(3))),
            L(U4(1), L(A("x"), U1(3))),
            L(L(A("x"), U2(3)), U4(1)),
            L(U4(1), L(A("x"), U2(3), L())),
            L(U4(1), L(A("x"))),
            L(U4(1), A("x")),
            L(L(), L(A("x"), U2(3))),
            U4(1),
            "text",
        ):
            self.assertNotEqual(item, other)
            self.assertNotEqual(other, item)
        self.assertEqual(item, L(U4(1), L(A("x"), U2(3))))
        self.assertEqual(len({item, L(U4(1), L(A("x"), U2(3))), L()}), 2)


class ReprTests(SynchronousTestCase):
    """A list is shown as it is made."""

    def test_nested(self) -> None:
        """
        Lists in lists are shown in their order.
        """
        item = L(U4(1), L(), L(A("x"), L(B(0))), U2(3))
        self.assertEqual(repr(item), "L(U4(1), L(), L(A('x'), L(B(0))), U2(3))")

    def test_long(self) -> None:
        """
        Of very many items only the first are shown.
        """
        self.assertEqual(repr(L(L([U1()] * 1000), U1())), "L(L(" + "U1(), " * 98 + "...))")
