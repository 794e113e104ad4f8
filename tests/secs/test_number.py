"""
Tests for `equipnet.secs.number`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.testing import assert_array_equal
from twisted.trial.unittest import SynchronousTestCase

from equipnet.errors import LocalProtocolError
from equipnet.secs import BOOLEAN, F4, F8, I1, I2, I4, I8, U1, U2, U4, U8, B, NotOneValue, NumericItem, decode

# E5, one item of each numeric format with its smallest and its largest value: header, then the values big-endian in
# two's complement or IEEE 754.
EXTREMES: list[tuple[type[NumericItem[Any]], tuple[float, float], str]] = [
    (B, (0, 255), "21 02 00 FF"),
    (BOOLEAN, (False, True), "25 02 00 01"),
    (I8, (-(2**63), 2**63 - 1), "61 10 8000000000000000 7FFFFFFFFFFFFFFF"),
    (I1, (-128, 127), "65 02 80 7F"),
    (I2, (-32768, 32767), "69 04 8000 7FFF"),
    (I4, (-(2**31), 2**31 - 1), "71 08 80000000 7FFFFFFF"),
    (F8, (-1.7976931348623157e308, 1.7976931348623157e308), "81 10 FFEFFFFFFFFFFFFF 7FEFFFFFFFFFFFFF"),
    (F4, (-3.4028234663852886e38, 3.4028234663852886e38), "91 08 FF7FFFFF 7F7FFFFF"),
    (U8, (0, 2**64 - 1), "A1 10 0000000000000000 FFFFFFFFFFFFFFFF"),
    (U1, (0, 255), "A5 02 00 FF"),
    (U2, (0, 65535), "A9 04 0000 FFFF"),
    (U4, (0, 2**32 - 1), "B1 08 00000000 FFFFFFFF"),
]
INTEGERS = [(format_class, extremes) for format_class, extremes, _ in EXTREMES if format_class not in (BOOLEAN, F4, F8)]


class WireTests(SynchronousTestCase):
    """Numbers have the bytes that E5 gives them."""

    def test_both_ways(self) -> None:
        """
        The extremes of every format become their bytes, and come back.
        """
        for format_class, extremes, wire in EXTREMES:
            raw = bytes.fromhex(wire)
            self.assertEqual(format_class(*extremes).to_bytes(), raw, wire)
            item = decode(raw)
            self.assertIs(type(item), format_class)
            self.assertEqual(tuple(item), extremes)
            self.assertEqual(item, format_class(*extremes))

    def test_out_of_range(self) -> None:
        """
        A number beyond the extremes is refused by name and place, never cut off. secs4java8 takes ``U1 300``.
        """
        for format_class, (low, high) in INTEGERS:
            for wrong in (int(low) - 1, int(high) + 1):
                error = self.assertRaises(LocalProtocolError, format_class, [low, wrong])
                self.assertIn(f"value 1 is {wrong}", str(error))
                self.assertRaises(LocalProtocolError, format_class, wrong)
        self.assertRaises(LocalProtocolError, F4, 3.5e38)
        self.assertRaises(LocalProtocolError, F8, 10**400)

    def test_empty(self) -> None:
        """
        An array of nothing is a value of its own in every format; equipment sends it for "no value".
        """
        for format_class, _, wire in EXTREMES:
            raw = bytes((bytes.fromhex(wire)[0], 0))
            self.assertEqual(format_class().to_bytes(), raw)
            item = decode(raw)
            self.assertEqual(item, format_class([]))
            self.assertEqual((len(item), list(item)), (0, []))

    def test_not_finite(self) -> None:
        """
        NaN and the infinities are legal, which secsgem refuses.
        """
        # IEEE 754
        self.assertEqual(F4(math.nan, math.inf, -math.inf).to_bytes(), bytes.fromhex("910C 7FC00000 7F800000 FF800000"))
        self.assertEqual(F8(math.inf).to_bytes(), bytes.fromhex("8108 7FF0000000000000"))
        self.assertTrue(math.isnan(decode(bytes.fromhex("9104 7FC00000")).value))
        self.assertEqual(decode(bytes.fromhex("9104 FF800000")).value, -math.inf)

    def test_truth(self) -> None:
        """
        Any byte but 0 is true, and is sent as 1.
        """
        item = decode(bytes.fromhex("2504 00 01 02 FF"))
        self.assertEqual(list(item), [False, True, True, True])
        self.assertEqual(item.to_bytes(), bytes.fromhex("2504 00 01 01 01"))
        self.assertEqual(decode(bytes.fromhex("2501 FF")), BOOLEAN(True))

    def test_bytes(self) -> None:
        """
        Binary items take bytes and give them back.
        """
        for content in (b"\x00\xff", bytearray(b"\x00\xff"), memoryview(b"\x00\xff")):
            self.assertEqual(B(content).to_bytes(), b"\x21\x02\x00\xff")
        self.assertEqual(B(b"\x00\xff").content, b"\x00\xff")
        self.assertEqual(B(b""), B())


class ConstructionTests(SynchronousTestCase):
    """Values are taken in every form in which Python has them."""

    def test_forms(self) -> None:
        """
        Values, lists, ranges, generators and arrays give the same item.
        """

        def generate() -> Iterator[int]:
            yield from (1, 2, 3)

        for values in ([1, 2, 3], (1, 2, 3), range(1, 4), generate(), np.array([1, 2, 3]), np.array([1, 2, 3], object)):
            self.assertEqual(U4(values), U4(1, 2, 3))
        self.assertEqual(U4([7]), U4(7))
        self.assertEqual(U4(np.uint16(7)), U4(7))  # type: ignore[call-overload]  # numpy's scalars are numbers
        self.assertEqual(U4(np.array(7)), U4(7))
        self.assertEqual(F4(1), F4(1.0))

    def test_arrays(self) -> None:
        """
        Arrays of any order, type and step are converted when all of their values fit.
        """
        every_second = np.arange(6, dtype="<i2")[::2]
        for format_class, _, _ in EXTREMES:
            if format_class is not BOOLEAN:
                self.assertEqual(format_class(every_second), format_class(0, 2, 4))
                self.assertEqual(format_class(np.array([], "<f8" if format_class in (F4, F8) else int)), format_class())
        self.assertEqual(F4(np.array([0.1, math.inf])), F4(0.1, math.inf))
        self.assertEqual(BOOLEAN(np.array([True, False])), BOOLEAN(True, False))
        self.assertEqual(BOOLEAN(np.array([2, 0])), BOOLEAN(True, False))

    def test_array_is_copied(self) -> None:
        """
        An item does not change with the array that it was made of.
        """
        array = np.array([1, 2], ">u4")
        item = U4(array)
        array[0] = 9
        self.assertEqual(item, U4(1, 2))

    def test_arrays_that_do_not_fit(self) -> None:
        """
        An array with a value out of range, of another kind or of two dimensions is refused.
        """
        for format_class, (low, high) in INTEGERS:
            if format_class not in (I8, U8):
                self.assertRaises(LocalProtocolError, format_class, np.array([0, int(high) + 1]))
                self.assertRaises(LocalProtocolError, format_class, np.array([0, int(low) - 1]))
            self.assertRaises(LocalProtocolError, format_class, np.array([1.0]))
        self.assertRaises(LocalProtocolError, U8, np.array([-1]))
        self.assertRaises(LocalProtocolError, I8, np.array([2**63], np.uint64))
        self.assertRaises(LocalProtocolError, F4, np.array([1e39]))
        self.assertRaises(LocalProtocolError, F8, np.array([1j]))
        self.assertRaises(LocalProtocolError, F8, np.array(["1"]))
        self.assertRaises(LocalProtocolError, BOOLEAN, np.array([1.0]))
        error = self.assertRaises(LocalProtocolError, U4, np.zeros((2, 2), int))
        self.assertIn("one dimension, not 2", str(error))

    def test_other_kinds(self) -> None:
        """
        What is not a number of the format is refused: nothing is rounded, and no text is taken for what it says.
        """
        for format_class, values in (
            (U4, 1.5),
            (U4, [1, None]),
            (U4, "5"),
            (U4, ""),
            (U4, b"\x01"),
            (U4, None),
            (U4, [[1], [2]]),
            (F8, "1.0"),
            (F8, [1j]),
            (BOOLEAN, "False"),
            (BOOLEAN, ["False"]),
            (BOOLEAN, [None]),
            (BOOLEAN, 1.0),
            (B, "x"),
            (B, 256),
        ):
            self.assertRaises(LocalProtocolError, format_class, values)

    def test_too_long(self) -> None:
        """
        16,777,215 bytes are the most of any item; what is longer is refused before it is converted.
        """
        limit = 16_777_215
        item = B(bytes(limit))
        self.assertEqual(item.to_bytes()[:4], b"\x23\xff\xff\xff")
        self.assertEqual(len(decode(item.to_bytes())), limit)
        error = self.assertRaises(LocalProtocolError, B, bytes(limit + 1))
        self.assertIn("16777215", str(error))
        self.assertRaises(LocalProtocolError, U4, range(limit // 4 + 1))
        self.assertRaises(LocalProtocolError, F8, np.broadcast_to(0.0, limit // 8 + 1))
        self.assertRaises(LocalProtocolError, U8, iter([0] * (limit // 8 + 1)))


class ValueTests(SynchronousTestCase):
    """Numbers are read as Python's and numpy's."""

    def test_value(self) -> None:
        """
        The value of an array of one is a plain number.
        """
        self.assertEqual(U4(7).value, 7)
        self.assertIs(BOOLEAN(True).value, True)
        self.assertEqual(F4(0.5).value, 0.5)
        self.assertEqual(B(6).value, 6)

    def test_not_one_value(self) -> None:
        """
        An array of none or of several has no one value, and says so.
        """
        for item, count in ((U4(), 0), (U4(1, 2), 2), (B(b"abc"), 3)):
            error = self.assertRaises(NotOneValue, lambda item=item: item.value)
            self.assertIn(f"{count} values", str(error))
            self.assertIsInstance(error, ValueError)

    def test_sequence(self) -> None:
        """
        Arrays are counted, iterated, indexed from both ends and sliced.
        """
        item = I2(10, -20, 30, 40)
        self.assertEqual(len(item), 4)
        self.assertEqual(list(item), [10, -20, 30, 40])
        self.assertEqual(item.values, (10, -20, 30, 40))
        self.assertEqual((item[0], item[1], item[-1]), (10, -20, 40))
        self.assertEqual(item[1:3], I2(-20, 30))
        self.assertEqual(item[::-2], I2(40, -20))
        self.assertEqual(item[3:1], I2())
        for index in (4, -5):
            self.assertRaises(IndexError, lambda index=index: item[index])

    def test_numpy(self) -> None:
        """
        The array of an item shares its memory, has the byte order of the wire, and cannot be written.
        """
        message = U4(1, 2, 3).to_bytes() + bytes(0)
        item = decode(message)
        assert isinstance(item, U4)
        array = item.to_numpy()
        assert_array_equal(array, np.array([1, 2, 3]))
        self.assertEqual(array.dtype, np.dtype(">u4"))
        self.assertFalse(array.flags.writeable)
        assert_array_equal(np.asarray(item), array)
        self.assertEqual(np.asarray(item, float).dtype, np.dtype(float))
        self.assertEqual(U4().to_numpy().shape, (0,))
        self.assertEqual(list(BOOLEAN(True, False).to_numpy()), [True, False])
        self.assertFalse(F8(np.array([1.0, 2.0])).to_numpy().flags.writeable)

    def test_long_content_stays_where_it_is(self) -> None:
        """
        The content of a long array is a view of the bytes that were received.
        """
        message = U4(range(100_000)).to_bytes()
        item = decode(message)
        assert isinstance(item, U4)
        self.assertIs(item.view.obj, message)
        self.assertTrue(np.shares_memory(item.to_numpy(), np.frombuffer(message, np.uint8)))
        self.assertEqual(item, U4(range(100_000)))
        self.assertEqual(hash(item), hash(U4(np.arange(100_000))))


class EqualityTests(SynchronousTestCase):
    """Numbers are equal when they are the same on the wire."""

    def test_format(self) -> None:
        """
        The same number in another format is another value.
        """
        self.assertNotEqual(U4(1), U2(1))
        self.assertNotEqual(U1(1), B(1))
        self.assertNotEqual(U4(1), 1)
        self.assertEqual(len({U4(1), U4(1), U2(1)}), 2)

    def test_bits(self) -> None:
        """
        A NaN equals itself; the two zeros are not the same.
        """
        self.assertEqual(F8(math.nan), F8(math.nan))
        self.assertNotEqual(F8(0.0), F8(-0.0))

    def test_immutable(self) -> None:
        """
        What can be read cannot be set.
        """
        for name in ("value", "values", "content", "view", "other"):
            self.assertRaises(AttributeError, setattr, U4(1), name, 2)
        self.assertTrue(U4(1).view.readonly)


class ReprTests(SynchronousTestCase):
    """Numbers are shown as they are made, and abridged."""

    def test_short(self) -> None:
        """
        Few values are all shown.
        """
        self.assertEqual(repr(U4()), "U4()")
        self.assertEqual(repr(U4(1, 2)), "U4(1, 2)")
        self.assertEqual(repr(BOOLEAN(True)), "BOOLEAN(True)")
        self.assertEqual(repr(B(6)), "B(6)")
        self.assertEqual(repr(B(b"ab")), "B(b'ab')")

    def test_long(self) -> None:
        """
        Of many values only the first are shown, and how many there are.
        """
        self.assertEqual(repr(U1(range(20))), "U1(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, ... 20 values)")
        self.assertIn("... 1000000 bytes)", repr(B(bytes(10**6))))
