"""
Tests for `equipnet.instrument.message`.
"""

from __future__ import annotations

import sys

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from twisted.trial.unittest import SynchronousTestCase

from equipnet.errors import LocalProtocolError, RemoteProtocolError
from equipnet.instrument.message import (
    BlockHeader,
    byte_order,
    decode_reply,
    decode_text,
    encode_block,
    encode_command,
    read_block_header,
    termination_bytes,
)

quick = settings(max_examples=60, deadline=None, database=None)


class TerminationTests(SynchronousTestCase):
    """A terminator can be written in every form that registers of equipment use."""

    def test_bytes(self) -> None:
        """
        Bytes are taken as they are.
        """
        self.assertEqual(termination_bytes(b"\r\n"), b"\r\n")
        self.assertEqual(termination_bytes(rb"\n"), rb"\n")

    def test_control_characters(self) -> None:
        """
        Control characters in a text are themselves.
        """
        for text in ("\n", "\r", "\r\n"):
            self.assertEqual(termination_bytes(text), text.encode())

    def test_written_out(self) -> None:
        """
        Escapes which a spreadsheet or an XML file holds as text mean what they say, in quotes or without.
        """
        for form in ("{}", "'{}'", '"{}"', "b'{}'", 'b"{}"'):
            for escape, meant in ((r"\n", b"\n"), (r"\r", b"\r"), (r"\r\n", b"\r\n")):
                self.assertEqual(termination_bytes(form.format(escape)), meant, form.format(escape))

    def test_repr_of_any_bytes(self) -> None:
        """
        The repr of a terminator, as MSL-Equipment writes it to XML, is read back.
        """
        for terminator in (b";", b"\x03", b"\xff\n", b"'", b'"'):
            self.assertEqual(termination_bytes(repr(terminator)), terminator)

    def test_other_text(self) -> None:
        """
        Any other text is encoded as it is, quotes and backslashes included.
        """
        self.assertEqual(termination_bytes("END"), b"END")
        self.assertEqual(termination_bytes("µ", "latin-1"), b"\xb5")
        self.assertEqual(termination_bytes(r";\n"), rb";\n")
        self.assertEqual(termination_bytes("'"), b"'")
        self.assertEqual(termination_bytes("'a', 'b'"), b"'a', 'b'")
        self.assertEqual(termination_bytes(r"'\x'"), rb"'\x'")

    def test_none(self) -> None:
        """
        None, and what is empty, is no terminator.
        """
        for value in (None, "", b"", "''", "b''"):
            self.assertIsNone(termination_bytes(value))

    def test_not_encodable(self) -> None:
        """
        A text that the encoding has not, and an encoding that does not exist, are our mistakes.
        """
        self.assertRaises(LocalProtocolError, termination_bytes, "µ", "ascii")
        self.assertRaises(LocalProtocolError, termination_bytes, ";", "no-such-code")


class EncodeCommandTests(SynchronousTestCase):
    """A command ends with the terminator."""

    def test_terminator_added(self) -> None:
        """
        The terminator is added to texts and to bytes; CR LF unless told otherwise, as in MSL-Equipment.
        """
        self.assertEqual(encode_command("*IDN?"), b"*IDN?\r\n")
        self.assertEqual(encode_command(b"*IDN?", termination=b"\n"), b"*IDN?\n")

    def test_terminator_there(self) -> None:
        """
        A message that ends with the terminator gets no second one; a part of it does not count.
        """
        self.assertEqual(encode_command("*IDN?\r\n"), b"*IDN?\r\n")
        self.assertEqual(encode_command("*IDN?\n"), b"*IDN?\n\r\n")

    def test_no_terminator(self) -> None:
        """
        Without a terminator the message goes as it is.
        """
        self.assertEqual(encode_command("*IDN?", termination=None), b"*IDN?")
        self.assertEqual(encode_command("", termination=None), b"")

    def test_encoding(self) -> None:
        """
        The encoding and what is done with other characters are the caller's choice.
        """
        self.assertEqual(encode_command("5 µV", "latin-1", termination=None), b"5 \xb5V")
        self.assertEqual(encode_command("5 µV", "ascii", "replace", None), b"5 ?V")
        error = self.assertRaises(LocalProtocolError, encode_command, "5 µV", "ascii")
        self.assertIsInstance(error.__cause__, UnicodeEncodeError)
        self.assertRaises(LocalProtocolError, encode_command, "5 µV", "no-such-code")
        self.assertRaises(LocalProtocolError, encode_command, "5 µV", "ascii", "no-such-rule")

    def test_block(self) -> None:
        """
        A block follows the command, and the terminator follows the block.
        """
        # IEEE 488.2, 7.7.6: a definite block of one float32, 1.0 in little-endian order
        self.assertEqual(encode_command("WAVE ", data=[1.0]), b"WAVE #14\x00\x00\x80?\r\n")

    def test_block_that_ends_like_a_terminator(self) -> None:
        r"""
        The terminator is also added when the data happen to end with the same bytes.
        """
        self.assertEqual(encode_command("WAVE ", data=b"ab\r\n"), b"WAVE #14ab\r\n\r\n")
        self.assertEqual(encode_command("WAVE ", termination=b"\n", data=[10], dtype="u1"), b"WAVE #11\n\n")


class EncodeBlockTests(SynchronousTestCase):
    """Numbers become blocks."""

    def test_ieee(self) -> None:
        """
        A definite length block has the number of digits, the number of bytes, and the bytes (IEEE 488.2, 8.7.9).
        """
        self.assertEqual(encode_block(b"hello"), b"#15hello")
        self.assertEqual(encode_block([1, 2], dtype="<u2"), b"#14\x01\x00\x02\x00")
        self.assertEqual(encode_block([1, 2], dtype=">u2"), b"#14\x00\x01\x00\x02")
        self.assertEqual(encode_block(bytes(100)), b"#3100" + bytes(100))
        self.assertEqual(encode_block([]), b"#10")

    def test_hp(self) -> None:
        """
        The length of an HP block has the byte order of its numbers, little-endian where they have none.
        """
        self.assertEqual(encode_block([1, 2], "hp", "<u2"), b"#A\x04\x00\x01\x00\x02\x00")
        self.assertEqual(encode_block([1, 2], "hp", ">u2"), b"#A\x00\x04\x00\x01\x00\x02")
        self.assertEqual(encode_block([1, 2], "hp", np.uint8), b"#A\x02\x00\x01\x02")
        self.assertEqual(encode_block(b"hello", "hp", ">f"), b"#A\x00\x05hello")

    def test_ascii(self) -> None:
        """
        Numbers in ASCII are formatted one by one and joined with commas; a byte order means nothing.
        """
        self.assertEqual(encode_block([1, 2.5], "ascii", ".2e"), b"1.00e+00,2.50e+00")
        self.assertEqual(encode_block([1, 2.5], "ascii", "<f"), b"1.000000,2.500000")
        self.assertEqual(encode_block(np.array([1, 2]), "ascii", "d"), b"1,2")
        self.assertEqual(encode_block([], "ascii", "d"), b"")

    def test_bare(self) -> None:
        """
        Without a format there is no header.
        """
        for fmt in (None, ""):
            self.assertEqual(encode_block([1, 2], fmt, "<u2"), b"\x01\x00\x02\x00")
            self.assertEqual(encode_block(b"hello", fmt), b"hello")

    def test_data(self) -> None:
        """
        Lists, ranges, arrays with gaps, and everything that holds bytes can be sent.
        """
        every_second = np.arange(6, dtype="<u2")[::2]
        for numbers in ([0, 2, 4], range(0, 6, 2), every_second, every_second.astype(float)):
            self.assertEqual(encode_block(numbers, None, "<u2"), b"\x00\x00\x02\x00\x04\x00")
        for buffer in (bytearray(b"ace"), memoryview(b"ace"), memoryview(b"abcde")[::2]):
            self.assertEqual(encode_block(buffer), b"#13ace")

    def test_not_one_dimension(self) -> None:
        """
        Data of no dimension or of two are refused in every format.
        """
        for fmt in ("ieee", "hp", "ascii", None):
            error = self.assertRaises(LocalProtocolError, encode_block, np.zeros((2, 2)), fmt, "f")
            self.assertIn("2 dimensions", str(error))
            self.assertRaises(LocalProtocolError, encode_block, [[1, 2], [3, 4]], fmt, "f")
            self.assertRaises(LocalProtocolError, encode_block, [[1, 2], [3]], fmt, "f")
            self.assertRaises(LocalProtocolError, encode_block, 5, fmt, "f")

    def test_not_numbers(self) -> None:
        """
        Data that do not become numbers of the type are refused.
        """
        self.assertRaises(LocalProtocolError, encode_block, ["one"])
        self.assertRaises(LocalProtocolError, encode_block, [1j])
        self.assertRaises(LocalProtocolError, encode_block, [300], "ieee", "u1")
        self.assertRaises(LocalProtocolError, encode_block, ["one"], "ascii")
        self.assertRaises(LocalProtocolError, encode_block, [1.5], "ascii", "d")
        self.assertRaises(LocalProtocolError, encode_block, b"hello", "ascii")

    def test_wrong_type(self) -> None:
        """
        A dtype must be one of numpy's with a size, a format specification for ASCII.
        """
        for dtype in ("no-such-type", object, "S"):
            self.assertRaises(LocalProtocolError, encode_block, [1], "ieee", dtype)
        self.assertRaises(LocalProtocolError, encode_block, [1], "ascii", np.float32)

    def test_unknown_format(self) -> None:
        """
        A format that does not exist is refused by name.
        """
        error = self.assertRaises(LocalProtocolError, encode_block, [1], "iee")
        self.assertIn("'iee'", str(error))

    def test_too_long(self) -> None:
        """
        What the header's length cannot say is refused, before the data are copied.
        """
        self.assertEqual(encode_block(bytes(65_535), "hp")[:4], b"#A\xff\xff")
        error = self.assertRaises(LocalProtocolError, encode_block, bytes(65_536), "hp")
        self.assertIn("65536", str(error))
        gigabyte = np.broadcast_to(np.uint8(0), 1_000_000_000)  # one byte of memory
        error = self.assertRaises(LocalProtocolError, encode_block, gigabyte, "ieee", "u1")
        self.assertIn("999999999", str(error))


class DecodeTextTests(SynchronousTestCase):
    """A reply is text unless something else is asked for."""

    def test_text(self) -> None:
        """
        A text keeps its terminator, as in MSL-Equipment, also with the format "ascii".
        """
        for fmt in (None, "", "ascii"):
            self.assertEqual(decode_reply(b"1.5 V\r\n", fmt, termination=b"\n"), "1.5 V\r\n")

    def test_rstrip(self) -> None:
        """
        On request all white space at the end is removed, from texts and bytes.
        """
        self.assertEqual(decode_reply(b" 1.5 V \r\n", rstrip=True), " 1.5 V")
        self.assertEqual(decode_reply(b" 1.5 V \r\n", decode=False, rstrip=True), b" 1.5 V")

    def test_bytes(self) -> None:
        """
        On request a reply is not decoded.
        """
        self.assertEqual(decode_reply(b"\xff\n", decode=False), b"\xff\n")

    def test_encoding(self) -> None:
        """
        The encoding and what is done with other bytes are the caller's choice.
        """
        self.assertEqual(decode_reply(b"5 \xb5V", encoding="latin-1"), "5 µV")
        self.assertEqual(decode_reply(b"5 \xb5V", encoding_errors="ignore"), "5 V")
        self.assertEqual(decode_text(b"5 \xb5V", "latin-1"), "5 µV")

    def test_undecodable(self) -> None:
        """
        The error names the byte and its place, and keeps the whole message and its cause.
        """
        error = self.assertRaises(RemoteProtocolError, decode_reply, b"5 \xb5V\n", rstrip=True)
        self.assertIn("0xb5 at offset 2", str(error))
        self.assertIsInstance(error.__cause__, UnicodeDecodeError)
        error = self.assertRaises(RemoteProtocolError, decode_reply, b"5 \xb5V\n")
        self.assertEqual(error.data, b"5 \xb5V\n")

    def test_rule_that_only_encodes(self) -> None:
        """
        MSL-Equipment also accepts rules that can only encode; with one of these undecodable bytes are an error.
        """
        self.assertEqual(decode_reply(b"5 V", encoding_errors="namereplace"), "5 V")
        error = self.assertRaises(RemoteProtocolError, decode_reply, b"\xb5V", encoding_errors="namereplace")
        self.assertEqual(error.data, b"\xb5V")

    def test_our_mistakes(self) -> None:
        """
        An unknown encoding or format is not the instrument's fault.
        """
        self.assertRaises(LocalProtocolError, decode_reply, b"1", encoding="no-such-code")
        self.assertRaises(LocalProtocolError, decode_reply, b"1", "iee")
        self.assertRaises(LocalProtocolError, decode_reply, b"1", "ieee", "no-such-type")


class DecodeIeeeTests(SynchronousTestCase):
    """A block of IEEE 488.2 is read as its header says."""

    def test_content(self) -> None:
        """
        Without a dtype the content is returned as bytes, whatever follows of the terminator.
        """
        for end in (b"", b"\n", b"\r\n", b"\r"):
            self.assertEqual(decode_reply(b"#15hello" + end, "ieee"), b"hello")
        self.assertEqual(decode_reply(b"#10\n", "ieee"), b"")
        self.assertEqual(decode_reply(b"#9000000005hello\n", "ieee"), b"hello")
        self.assertEqual(decode_reply(b"#15helloEN", "ieee", termination=b"END"), b"hello")

    def test_array(self) -> None:
        """
        With a dtype the content becomes an array that shares the message's memory.
        """
        message = b"#14\x00\x01\x00\x02\n"
        array = decode_reply(message, "ieee", ">u2", termination=b"\n")
        assert isinstance(array, np.ndarray)
        assert_array_equal(array, np.array([1, 2]))
        self.assertFalse(array.flags.owndata)
        self.assertTrue(np.shares_memory(array, np.frombuffer(message, "u1")))

    def test_white_space_in_data(self) -> None:
        """
        Bytes that look like white space or a terminator are data; ``rstrip`` does not touch them.
        """
        self.assertEqual(decode_reply(b"#14\n \r\n", "ieee", rstrip=True, termination=b"\n"), b"\n \r\n")
        assert_array_equal(decode_reply(b"#14\n \r\n\n", "ieee", "u1", rstrip=True), np.frombuffer(b"\n \r\n", "u1"))

    def test_indefinite(self) -> None:
        """
        An indefinite length block is all that comes before the last terminator (IEEE 488.2, 8.7.10).
        """
        self.assertEqual(decode_reply(b"#0hel\nlo\n\n", "ieee"), b"hel\nlo\n")
        self.assertEqual(decode_reply(b"#0hello\r\n", "ieee", termination=b"\r\n"), b"hello")
        self.assertEqual(decode_reply(b"#0hello\r\n", "ieee", termination=(b"\n", b"\r\n")), b"hello")
        self.assertEqual(decode_reply(b"#0\n", "ieee"), b"")
        assert_array_equal(decode_reply(b"#0\x00\x01\n", "ieee", ">u2"), np.array([1]))

    def test_response_header(self) -> None:
        """
        A response header before the block is passed over.
        """
        self.assertEqual(decode_reply(b"CURVE #15hello\n", "ieee"), b"hello")  # Tektronix, HEADER ON
        self.assertEqual(decode_reply(b"\r\n#15hello\n", "ieee"), b"hello")
        self.assertEqual(decode_reply(b" " * 63 + b"#15hello\n", "ieee"), b"hello")

    def test_malformed(self) -> None:
        """
        What is no block is an error with the whole message and what was wrong with it.
        """
        for message, wrong in (
            (b"", "ends in the header"),
            (b"#", "ends in the header"),
            (b"#21", "ends in the header"),
            (b"#x5hello", "offset 1"),
            (b"CURVE #A5hello", "offset 7"),
            (b"#3 12hello", "offset 2"),
            (b"#2-1hello", "offset 2"),
            (b"#19hello\n", "announces 9 bytes, 6 came"),
            (b"#14hello\n", "offset 7"),
            (b"-113,Undefined header\n#15hello\n", "line"),
            (b" " * 64 + b"#15hello\n", "64 bytes"),
            (b"a" * 100, "64 bytes"),
        ):
            error = self.assertRaises(RemoteProtocolError, decode_reply, message, "ieee")
            self.assertIn(wrong, str(error))
        self.assertEqual(error.data, b"a" * 100)

    def test_misaligned(self) -> None:
        """
        A block that does not hold whole numbers is an error.
        """
        error = self.assertRaises(RemoteProtocolError, decode_reply, b"#15hello\n", "ieee", "<f")
        self.assertIn("5 bytes from offset 3", str(error))
        self.assertEqual(error.data, b"#15hello\n")


class DecodeHpTests(SynchronousTestCase):
    """An HP block is read as its header says."""

    def test_array(self) -> None:
        """
        The length is in the byte order of the numbers.
        """
        assert_array_equal(decode_reply(b"#A\x04\x00\x01\x00\x02\x00\n", "hp", "<u2"), np.array([1, 2]))
        assert_array_equal(decode_reply(b"#A\x00\x04\x00\x01\x00\x02", "hp", ">u2"), np.array([1, 2]))

    def test_content(self) -> None:
        """
        Without a dtype the length is little-endian, and the content is returned as bytes.
        """
        self.assertEqual(decode_reply(b"#A\x05\x00hello\r\n", "hp"), b"hello")
        self.assertEqual(decode_reply(b"TRACE #A\x05\x00hello\r\n", "hp"), b"hello")

    def test_malformed(self) -> None:
        """
        A header that is not HP's, and a length that is not there, are errors.
        """
        for message in (b"#15hello\n", b"#A\x05", b"#A\x00\x05hello\n", b"#A\x04\x00hello\n", b"hello\n"):
            error = self.assertRaises(RemoteProtocolError, decode_reply, message, "hp")
            self.assertEqual(error.data, message)

    def test_byte_order(self) -> None:
        """
        The byte order is taken from the type; what is written before a type of single bytes counts.
        """
        native = "<" if sys.byteorder == "little" else ">"
        for dtype, order in (
            ("<f", "<"),
            (">f", ">"),
            ("f", native),
            (np.float64, native),
            (np.dtype(">u2"), ">"),
            ("u1", "<"),
            (">u1", ">"),
            (None, "<"),
        ):
            self.assertEqual(byte_order(dtype), order, dtype)
        self.assertRaises(LocalProtocolError, byte_order, ">no-such-type")


class DecodeNumbersTests(SynchronousTestCase):
    """Numbers without a header are read from bytes and from text."""

    def test_bare(self) -> None:
        """
        Bare numbers are all bytes of the message, in memory shared with it.
        """
        array = decode_reply(b"\x01\x00\x0a\x0a", None, "<u2", rstrip=True)
        assert isinstance(array, np.ndarray)
        assert_array_equal(array, np.array([1, 0x0A0A]))
        self.assertFalse(array.flags.owndata)
        assert_array_equal(decode_reply(b"", None, "<u2"), np.array([]))

    def test_bare_with_terminator(self) -> None:
        """
        The terminator which ended the message is no number; bytes before it that look like it are.
        """
        assert_array_equal(decode_reply(b"\x01\n\n", None, "<u2", termination=b"\n"), np.array([0x0A01]))
        assert_array_equal(decode_reply(b"\x01\x00\r\n", None, "<u2", termination=(b"\n", b"\r\n")), np.array([1]))
        assert_array_equal(decode_reply(b"\x01\x00", None, "<u2", termination=b"\n"), np.array([1]))

    def test_bare_misaligned(self) -> None:
        """
        Bytes that are not whole numbers are an error.
        """
        error = self.assertRaises(RemoteProtocolError, decode_reply, b"\x01\x00\n", None, "<u2")
        self.assertEqual(error.data, b"\x01\x00\n")

    def test_ascii(self) -> None:
        """
        Numbers in ASCII are separated by commas; white space around them means nothing.
        """
        floats = decode_reply(b" +1.5E0, -2,3\t, NaN\r\n", "ascii", "<f", termination=b"\n")
        assert isinstance(floats, np.ndarray)
        assert_array_equal(floats, np.array([1.5, -2, 3, np.nan]))
        self.assertEqual(floats.dtype, np.dtype("<f"))
        assert_array_equal(decode_reply(b"1,-2\n", "ascii", int), np.array([1, -2]))
        assert_array_equal(decode_reply(b"1,0\n", "ascii", bool), np.array([True, False]))
        assert_array_equal(decode_reply(b"1+2j\n", "ascii", complex), np.array([1 + 2j]))
        assert_array_equal(decode_reply(b"1,2;", "ascii", float, termination=b";"), np.array([1, 2]))
        self.assertEqual(np.shape(decode_reply(b" \n", "ascii", float)), (0,))

    def test_not_a_number(self) -> None:
        """
        The error names the first thing that is not a number, and its place.
        """
        for message, dtype, wrong in (
            (b"1,2,x,y\n", float, "'x' at offset 4"),
            (b"1,,2\n", float, "'' at offset 2"),
            (b"1,2,\n", float, "'\\n' at offset 4"),
            (b"1,2_0\n", float, "'2_0\\n' at offset 2"),
            (b"1 2\n", float, "offset 0"),
            (b"1,2.5\n", int, "'2.5\\n' at offset 2"),
            (b"1,300\n", "u1", "'300\\n' at offset 2"),
            (b"1,\xb5\n", float, "offset 2"),
        ):
            error = self.assertRaises(RemoteProtocolError, decode_reply, message, "ascii", dtype)
            self.assertIn(wrong, str(error))
            self.assertEqual(error.data, message)

    def test_not_from_text(self) -> None:
        """
        Types that are not numbers are not read from text.
        """
        self.assertRaises(LocalProtocolError, decode_reply, b"1", "ascii", "S4")


class HeaderTests(SynchronousTestCase):
    """A block's header can be read before the block has come."""

    def test_incomplete(self) -> None:
        """
        Until the header is complete there is no answer.
        """
        for message, fmt, header in (
            (b"CURVE #15h", "ieee", BlockHeader(9, 5)),
            (b"#9000000005h", "ieee", BlockHeader(11, 5)),
            (b"#0h", "ieee", BlockHeader(2, None)),
            (b"CURVE #A\x05\x00h", "hp", BlockHeader(10, 5)),
        ):
            for size in range(header.begin):
                self.assertIsNone(read_block_header(message[:size], fmt))
            self.assertEqual(read_block_header(message[: header.begin], fmt), header)
            self.assertEqual(read_block_header(message, fmt), header)


class RoundTripTests(SynchronousTestCase):
    """Reading undoes writing."""

    @quick
    @given(
        st.lists(st.integers(0, 65_535), max_size=50),
        st.sampled_from(("ieee", "hp", None)),
        st.sampled_from(("<u2", ">u2", "<f", ">f8", "<c16")),
    )
    def test_binary(self, numbers: list[int], fmt: str | None, dtype: str) -> None:
        """
        Numbers of every type and order come back from every binary format.
        """
        block = encode_command("", termination=b"\n", data=numbers, fmt=fmt, dtype=dtype)
        assert_array_equal(decode_reply(block, fmt, dtype, termination=b"\n"), np.array(numbers))

    @quick
    @given(st.lists(st.floats(), max_size=50))
    def test_ascii(self, numbers: list[float]) -> None:
        """
        Numbers written with 17 digits come back as they were.
        """
        block = encode_command("", data=numbers, fmt="ascii", dtype=".17g")
        assert_array_equal(decode_reply(block, "ascii", float), np.array(numbers))

    @quick
    @given(st.text())
    def test_text(self, text: str) -> None:
        """
        A text comes back, with the terminator.
        """
        self.assertEqual(decode_reply(encode_command(text + "\n", "utf-8", "strict", b"\n")), text + "\n")
