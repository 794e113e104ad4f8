"""
Tests for `equipnet.secs.text`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from equipnet.errors import LocalProtocolError, RemoteProtocolError
from equipnet.secs import C2, A, J, UndecodableText, decode
from equipnet.secs.text import ENCODINGS


class AsciiTests(SynchronousTestCase):
    """An A item is a text, in ASCII unless told otherwise."""

    def test_both_ways(self) -> None:
        """
        Characters become bytes, and come back.
        """
        # E5, the text "MDLN"
        self.assertEqual(A("MDLN").to_bytes(), b"\x41\x04MDLN")
        self.assertEqual(decode(b"\x41\x04MDLN"), A("MDLN"))
        self.assertEqual(decode(b"\x41\x04MDLN").value, "MDLN")
        self.assertEqual(A("").to_bytes(), b"\x41\x00")
        self.assertEqual(decode(b"\x41\x00"), A())

    def test_bytes(self) -> None:
        """
        Bytes are taken as they are, all 256 of them.
        """
        every = bytes(range(256))
        for form in (every, bytearray(every), memoryview(every)):
            self.assertEqual(A(form).content, every)  # type: ignore[arg-type]
        self.assertEqual(decode(A(every).to_bytes()), A(every))

    def test_other_encodings(self) -> None:
        """
        Equipment sends Latin-1, Shift-JIS or GBK as ASCII; the caller chooses, the bytes stay.
        """
        for text, encoding, wire in (
            ("5 µm", "latin-1", b"5 \xb5m"),
            ("日本", "shift_jis", b"\x93\xfa\x96\x7b"),
            ("中文", "gb18030", b"\xd6\xd0\xce\xc4"),
        ):
            item = A(text, encoding)
            self.assertEqual(item.content, wire)
            self.assertEqual(item.value, text)
            received = decode(item.to_bytes())
            assert isinstance(received, A)
            self.assertEqual(received, item)
            self.assertEqual(hash(received), hash(item))
            self.assertEqual(received.decode(encoding), text)
            self.assertRaises(UndecodableText, lambda received=received: received.value)
            self.assertEqual(decode(item.to_bytes(), encoding=encoding).value, text)

    def test_undecodable(self) -> None:
        """
        The error names the byte and its place and keeps the bytes; a rule for other bytes avoids it.
        """
        item = A(b"5 \xb5m")
        error = self.assertRaises(UndecodableText, item.decode)
        self.assertIn("0xb5 at offset 2", str(error))
        self.assertEqual(error.data, b"5 \xb5m")
        self.assertIsInstance(error, RemoteProtocolError)
        self.assertIsInstance(error, ValueError)
        self.assertEqual(item.decode(errors="replace"), "5 \ufffdm")
        self.assertRaises(UndecodableText, item.decode, "no-such-code")

    def test_unencodable(self) -> None:
        """
        Characters that the encoding has not, and an encoding that does not exist, are our mistakes.
        """
        error = self.assertRaises(LocalProtocolError, A, "5 µm")
        self.assertIn("'µ', character 2", str(error))
        self.assertRaises(LocalProtocolError, A, "x", "no-such-code")
        self.assertRaises(LocalProtocolError, decode, b"\x41\x00", encoding="no-such-code")
        self.assertRaises(LocalProtocolError, A, 5)

    def test_length_counts_bytes(self) -> None:
        """
        The length on the wire counts bytes; secsgem writes the number of characters.
        """
        self.assertEqual(A("日本", "shift_jis").to_bytes()[:2], b"\x41\x04")
        self.assertEqual(len(A("日本", "shift_jis")), 4)

    def test_sequence(self) -> None:
        """
        A text is indexed and iterated by its bytes.
        """
        item = A("abc")
        self.assertEqual((len(item), item[0], item[-1], item[1:], list(item)), (3, 97, 99, b"bc", [97, 98, 99]))

    def test_too_long(self) -> None:
        """
        16,777,215 bytes are the most.
        """
        self.assertEqual(len(A(bytes(16_777_215))), 16_777_215)
        self.assertRaises(LocalProtocolError, A, bytes(16_777_216))
        self.assertEqual(len(C2(bytes(16_777_213))), 16_777_213)
        self.assertRaises(LocalProtocolError, C2, bytes(16_777_214))

    def test_repr(self) -> None:
        """
        A text is shown as characters, as bytes where they are not ASCII, and abridged.
        """
        self.assertEqual(repr(A("it's")), 'A("it\'s")')
        self.assertEqual(repr(A(b"\xff")), "A(b'\\xff')")
        self.assertEqual(repr(A("x" * 61)), f"A({'x' * 60!r}, ... 61 bytes)")


class JisTests(SynchronousTestCase):
    """A J item is a text in JIS-8."""

    def test_both_ways(self) -> None:
        """
        Yen sign, overline and half-width katakana have one byte each.
        """
        # E5 format 21 with JIS X 0201: "\xa5" at 0x5C, "\u203e" at 0x7E, katakana from 0xA1 to 0xDF
        wire = bytes.fromhex("4505 41 5C 7E A1 DF")
        text = "A\u00a5\u203e\uff61\uff9f"
        self.assertEqual(J(text).to_bytes(), wire)
        item = decode(wire)
        self.assertEqual(item, J(text))
        self.assertEqual(item.value, text)

    def test_typed(self) -> None:
        """
        A backslash and a tilde are taken for the characters that have their bytes.
        """
        self.assertEqual(J("\\~"), J("¥‾"))

    def test_other_bytes(self) -> None:
        """
        Bytes that JIS-8 does not have are kept, and told of when characters are asked for.
        """
        item = decode(bytes.fromhex("4502 41 80"))
        assert isinstance(item, J)
        self.assertEqual(item.content, b"\x41\x80")
        error = self.assertRaises(UndecodableText, lambda: item.value)
        self.assertIn("0x80 at offset 1", str(error))
        self.assertEqual(J(b"\x93\xfa").decode("shift_jis"), "日")
        self.assertRaises(LocalProtocolError, J, "日")

    def test_empty(self) -> None:
        """
        A text of no bytes is legal.
        """
        self.assertEqual(J().to_bytes(), b"\x45\x00")
        self.assertEqual(decode(b"\x45\x00").value, "")


class LocalizedTests(SynchronousTestCase):
    """A C2 item brings the code of its character set."""

    def test_character_sets(self) -> None:
        """
        Each code has its encoding; the code has two bytes, which the length counts.
        """
        for charset, text, wire in (
            (1, "é日", "49 06 0001 00E9 65E5"),
            (2, "é日", "49 07 0002 C3A9 E697A5"),
            (3, "e", "49 03 0003 65"),
            (4, "é", "49 03 0004 E9"),
            (5, "ก", "49 03 0005 A1"),
            (6, "ก", "49 03 0006 A1"),
            (8, "日", "49 04 0008 93FA"),
            (9, "日", "49 04 0009 C6FC"),
            (10, "한", "49 04 000A C7D1"),
            (11, "中", "49 04 000B D6D0"),
            (12, "中", "49 04 000C D6D0"),
            (13, "中", "49 04 000D A4A4"),
        ):
            raw = bytes.fromhex(wire)
            item = C2(text, charset)
            self.assertEqual(item.to_bytes(), raw, wire)
            received = decode(raw)
            assert isinstance(received, C2)
            self.assertEqual(received, item)
            self.assertEqual((received.charset, received.value), (charset, text))
            self.assertEqual((received.content, bytes(received.view)), (raw[4:], raw[4:]))
            self.assertEqual((len(received), list(received)), (len(raw) - 4, list(raw[4:])))
        self.assertEqual(len(ENCODINGS), 12)

    def test_unknown_character_set(self) -> None:
        """
        A text in a character set that is not known keeps its code and its bytes.
        """
        for charset in (0, 7, 14, 65_535):
            item = C2(b"\xa1", charset)
            self.assertEqual(decode(item.to_bytes()), item)
            self.assertRaises(UndecodableText, lambda item=item: item.value)
            self.assertRaises(LocalProtocolError, C2, "x", charset)
        self.assertRaises(LocalProtocolError, C2, b"x", 65_536)
        self.assertRaises(LocalProtocolError, C2, b"x", -1)

    def test_empty(self) -> None:
        """
        An item without characters has its code; an item without bytes has none.
        """
        self.assertEqual(C2().to_bytes(), bytes.fromhex("4902 0002"))
        nothing = decode(b"\x49\x00")
        assert isinstance(nothing, C2)
        self.assertEqual(nothing, C2(charset=None))
        self.assertEqual((nothing.charset, nothing.value, len(nothing), nothing.content), (None, "", 0, b""))
        self.assertNotEqual(nothing, C2())
        self.assertRaises(LocalProtocolError, C2, "x", None)

    def test_repr(self) -> None:
        """
        A localized text is shown with its code where it is not UTF-8.
        """
        self.assertEqual(repr(C2("x")), "C2('x')")
        self.assertEqual(repr(C2("é", 4)), "C2(b'\\xe9', charset=4)")
