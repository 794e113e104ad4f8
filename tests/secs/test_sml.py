"""
Tests for `equipnet.secs.sml`, and for what items and messages print.
"""

from __future__ import annotations

import math
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from equipnet.errors import LocalProtocolError
from equipnet.secs import (
    BOOLEAN,
    C2,
    F4,
    F8,
    I1,
    I4,
    U1,
    U2,
    U4,
    U8,
    A,
    B,
    Item,
    J,
    L,
    Message,
    SmlError,
    decode,
    item_from_sml,
    message_from_sml,
    messages_from_sml,
)
from tests.secs.items import items

# What SML is made of, and what it is not.
SNIPPETS = [*"<>AL'\".:*x \n", "U4 ", "F4 ", "C2 ", "[1]", "[0..2]", "0x41", "-1", "S1F1", "//", "/*", "*/", "é"]

quick = settings(max_examples=150, deadline=None, database=None)


class PrintTests(SynchronousTestCase):
    """There is one printed form."""

    def test_message(self) -> None:
        """
        A message is a header, an item to a line, and a period.
        """
        message = Message(6, 11, True, L(U4(1), L(), L(A("x"), BOOLEAN(True, False)), F4(0.1), B(b"\x00\xff")))
        printed = """\
S6F11 W
<L [5]
  <U4 [1] 1>
  <L [0]
  >
  <L [2]
    <A [1] "x">
    <BOOLEAN [2] TRUE FALSE>
  >
  <F4 [1] 0.1>
  <B [2] 0x00 0xFF>
>
."""
        self.assertEqual(message.to_sml(), printed)
        self.assertEqual(message_from_sml(printed), message)

    def test_header_only(self) -> None:
        """
        A message without a text prints none; an empty list is another message.
        """
        self.assertEqual(Message(1, 1, True).to_sml(), "S1F1 W\n.")
        self.assertEqual(Message(1, 1, True, L()).to_sml(), "S1F1 W\n<L [0]\n>\n.")
        self.assertEqual(message_from_sml("S1F1 W\n."), Message(1, 1, True))

    def test_texts(self) -> None:
        """
        What cannot stand in double quotes stands beside them in hexadecimal. Peers print it inside, and read something
        else.
        """
        for item, printed in (
            (A(""), '<A [0] "">'),
            (A("it's"), '<A [4] "it\'s">'),
            (A('"MD"L'), '<A [5] 0x22 "MD" 0x22 "L">'),
            (A(" C:\\temp "), '<A [9] " C:\\temp ">'),
            (A("a\r\n\tb"), '<A [5] "a" 0x0D 0x0A 0x09 "b">'),
            (A(b"\x00\x7f\xff"), "<A [3] 0x00 0x7F 0xFF>"),
            (A("日本", "shift_jis"), '<A [4] 0x93 0xFA 0x96 "{">'),
            (A("<L [1]> // * /*."), '<A [16] "<L [1]> // * /*.">'),
            (J("ｱ¥\n"), '<J [3] "ｱ¥" 0x0A>'),
            (J(b"A\x80"), "<J [2] 0x41 0x80>"),
            (C2("日\n本"), '<C2 [7] 2 "日" 0x0A "本">'),
            (C2("日", 1), '<C2 [2] 1 "日">'),
            (C2(b"\xff\xff", 2), "<C2 [2] 2 0xFF 0xFF>"),
            (C2(b"ab", 7), "<C2 [2] 7 0x61 0x62>"),
            (C2(), '<C2 [0] 2 "">'),
            (C2(charset=None), "<C2 [0]>"),
        ):
            self.assertEqual(item.to_sml(), printed)
            self.assertEqual(item_from_sml(printed), item)

    def test_floats(self) -> None:
        """
        Floats have as few digits as tell them apart; every NaN has its bits.
        """
        # IEEE 754: 7FC00000 is the quiet NaN without a payload
        for item, printed in (
            (F4(0.1, 1e38, -0.0, 16777216), "<F4 [4] 0.1 1e+38 -0.0 16777216.0>"),
            (F8(0.1, 1e300, 5e-324), "<F8 [3] 0.1 1e+300 5e-324>"),
            (F4(math.nan, math.inf, -math.inf), "<F4 [3] NaN Inf -Inf>"),
            (decode(bytes.fromhex("9104 7F800001")), "<F4 [1] NaN(0x7F800001)>"),
            (decode(bytes.fromhex("8108 FFF8000000000000")), "<F8 [1] NaN(0xFFF8000000000000)>"),
        ):
            self.assertEqual(item.to_sml(), printed)
            self.assertEqual(item_from_sml(printed), item)

    def test_empty(self) -> None:
        """
        Arrays of nothing print their length.
        """
        for item, printed in ((U4(), "<U4 [0]>"), (B(), "<B [0]>"), (BOOLEAN(), "<BOOLEAN [0]>"), (F8(), "<F8 [0]>")):
            self.assertEqual(item.to_sml(), printed)
            self.assertEqual(item_from_sml(printed), item)

    @quick
    @given(items())
    def test_round_trip(self, item: Item) -> None:
        """
        Any item is read back from what it prints, alone and in a message.
        """
        self.assertEqual(item_from_sml(item.to_sml()), item)
        message = Message(1, 3, True, item)
        self.assertEqual(message_from_sml(message.to_sml()), message)
        self.assertEqual(message_from_sml(message.to_sml().replace("\n", "\r\n")), message)
        self.assertEqual(message_from_sml(message.to_sml(), check_lengths=False), message)

    @quick
    @given(st.binary(max_size=60))
    @example(b"\x91\x04\x7f\x80\x00\x01")
    @example(b"\x25\x01\xff")
    def test_any_bytes(self, data: bytes) -> None:
        """
        Whatever bytes are in an item, they come back.
        """
        for item in (A(data), J(data), B(data), C2(data, 1), C2(data, 8), F4._of(data[: len(data) & ~3])):
            self.assertEqual(item_from_sml(item.to_sml()), item)
            self.assertEqual(item_from_sml(item.to_sml()).to_bytes(), item.to_bytes())


class MessageDialectTests(SynchronousTestCase):
    """Headers are read in every dialect."""

    def test_headers(self) -> None:
        """
        The stream and function may be in quotes, have a name, and say who sends them.
        """
        for header, name, message in (
            ("S1F1 W", "", Message(1, 1, True)),
            ("S1F1W", None, None),
            ("s1f1 W", "", Message(1, 1, True)),
            ("'S1F1'W", "", Message(1, 1, True)),
            ("'S1F1' W", "", Message(1, 1, True)),
            ('"S1F1" W', "", Message(1, 1, True)),
            ("AreYouThere:'S1F1'W", "AreYouThere", Message(1, 1, True)),
            ("Are You There : 'S1F1' W", "Are You There", Message(1, 1, True)),
            ("AreYouThere: S1F1 W", "AreYouThere", Message(1, 1, True)),
            ("S1F1: S1F1 W", "S1F1", Message(1, 1, True)),
            ("S1F1Request:'S1F1'", "S1F1Request", Message(1, 1)),
            ("S1F1 W H->E", "", Message(1, 1, True)),
            ("S1F1 H<->E", "", Message(1, 1)),
            ("S1F2 H<-E", "", Message(1, 2)),
            ("S127F255 W", "", Message(127, 255, True)),
        ):
            for end in (".", " .", "\n.", ""):
                if message is None:
                    self.assertRaises(SmlError, messages_from_sml, header + end)
                    continue
                ((read_name, read_message, line),) = messages_from_sml(header + end)
                self.assertEqual((read_name, read_message, line), (name, message, 1), header + end)

    def test_several(self) -> None:
        """
        A file holds any number of messages in any dialect, with names, comments and lines.
        """
        text = """
* GW Associates
S1F1 W. * H<->E
S1F2 * H<-E: S9F9
<L
<A "MDLN"> * MDLN Model Number
<A "1.0">>.

/* secs4net
   S9F9 */
AreYouThere:'S1F1'W
.
OLD:'S1F2'
  <L [2]
    <A [4] 'MDLN'>
    <A [3] '1.0'>
  >
.
// go-secs
'S1F2' <L[2] <A[4] "MDLN"> // model
  <A[3]'1.0'>>.
S1F1 W
S1F2 <L>
"""
        on_line = L(A("MDLN"), A("1.0"))
        self.assertEqual(
            messages_from_sml(text),
            [
                ("", Message(1, 1, True), 3),
                ("", Message(1, 2, item=on_line), 4),
                ("AreYouThere", Message(1, 1, True), 11),
                ("OLD", Message(1, 2, item=on_line), 13),
                ("", Message(1, 2, item=on_line), 20),
                ("", Message(1, 1, True), 22),
                ("", Message(1, 2, item=L()), 23),
            ],
        )
        for nothing in ("", " \n", "// nothing"):
            self.assertEqual(messages_from_sml(nothing), [])

    def test_one(self) -> None:
        """
        Whoever wants one message is told of none and of two.
        """
        self.assertEqual(message_from_sml("S1F1 W"), Message(1, 1, True))
        for text, count in (("", 0), ("S1F1. S1F2.", 2)):
            error = self.assertRaises(SmlError, message_from_sml, text)
            self.assertIn(f"there are {count}", str(error))


class ItemDialectTests(SynchronousTestCase):
    """Items are read in every dialect."""

    def read(self, *pairs: tuple[str, Item], **options: Any) -> None:
        for text, item in pairs:
            self.assertEqual(item_from_sml(text, **options), item, text)

    def test_layout(self) -> None:
        """
        Blanks and lines mean nothing, nor does the case of a format.
        """
        for text in (
            "<L [2] <U4 [1] 1> <A [1] 'x'>>",
            "< L < U4 1 > < A 'x' > >",
            "<L[2]<U4[1]1><A[1]'x'>>",
            "\n<l\r\n\t<u4 1\n>\n<a\n'x'>\n>\n",
            "<LIST <U4 1><ASCII 'x'>>",
        ):
            self.read((text, L(U4(1), A("x"))))

    def test_names(self) -> None:
        """
        Other names of formats are known.
        """
        self.read(
            ("<Boolean [1] True>", BOOLEAN(True)),
            ("<Bool [1] False>", BOOLEAN(False)),
            ("<Binary [1] 0x0A>", B(10)),
            ("<JIS8 [1] 'a'>", J("a")),
            ("<UNICODE 2 'a'>", C2("a")),
        )

    def test_lengths(self) -> None:
        """
        A length may be a range in several forms, and is checked.
        """
        for length in ("[2]", "[ 2 ]", "[2,2]", "[0..2]", "[0 .. 5]", "[2..]", "[..2]", "[1,3]"):
            self.read(
                (f"<U1 {length} 1 2>", U1(1, 2)),
                (f"<A {length} 'ab'>", A("ab")),
                (f"<L {length} <U1><U1>>", L(U1(), U1())),
            )
        for length in ("[1]", "[3]", "[]", "[ ]", "[x]", "[-2]", "[3..]", "[..1]", "[0,1]", "[3..4]", "[2..3..4]"):
            for item, what in ((" 1 2>", "values"), (" 'ab'>", "bytes"), (" <U1><U1>>", "items")):
                text = {"values": "<U1 ", "bytes": "<A ", "items": "<L "}[what] + length + item
                error = self.assertRaises(SmlError, item_from_sml, text)
                self.assertIn(f"2 {what}", str(error))
                item_from_sml(text, check_lengths=False)

    def test_lengths_in_characters(self) -> None:
        """
        The length of a text may count characters.
        """
        self.read(
            ("<A [2] '日本'>", A("日本", "shift_jis")), ("<A [4] '日本'>", A("日本", "shift_jis")), encoding="shift_jis"
        )

    def test_integers(self) -> None:
        """
        Integers are decimal, hexadecimal or binary. secs4java8 takes none but the first, and reads -5 as 5.
        """
        self.read(
            ("<I1 -128 +127 0 007>", I1(-128, 127, 0, 7)),
            ("<I1 0x10>", I1(16)),
            ("<U1 0b101 0XfF 5>", U1(5, 255, 5)),
            ("<U8 18446744073709551615 0xFFFFFFFFFFFFFFFF>", U8(2**64 - 1, 2**64 - 1)),
        )

    def test_bytes(self) -> None:
        """
        Bytes are hexadecimal, decimal or binary.
        """
        self.read(("<B [6] 18 18 0x12 0X12 0b10010 0x1>", B(18, 18, 18, 18, 18, 1)), ("<B 0x0a 0xFF>", B(10, 255)))

    def test_truths(self) -> None:
        """
        Truth values are words, letters or numbers.
        """
        self.read(
            ("<BOOLEAN TRUE true T t 1 0x2>", BOOLEAN([True] * 6)), ("<BOOLEAN FALSE f 0 0x00>", BOOLEAN([False] * 4))
        )

    def test_floats(self) -> None:
        """
        Floats have all the forms that languages print.
        """
        self.read(
            ("<F8 1 -1. .5 1e3 1E-3 +2.5e+1>", F8(1, -1, 0.5, 1e3, 1e-3, 25)),
            ("<F8 NaN nan Infinity -Infinity inf>", F8(math.nan, math.nan, math.inf, -math.inf, math.inf)),
        )

    def test_texts(self) -> None:
        """
        Texts are in quotes of either kind, with bytes beside them, and go on over lines.
        """
        self.read(
            ("<A>", A()),
            ("<A ''>", A()),
            ('<A "it\'s">', A("it's")),
            ("<A 'a\"b'>", A('a"b')),
            ("<A [16] 'first line' 0x0A 'secon'>", A("first line\nsecon")),
            ("<A 0x41 \"b\" 0b1100011 'd'>", A("Abcd")),
            ("<A 'a>b' // comment >\n 'c'>", A("a>bc")),
            ("<A ' a '>", A(" a ")),
            ("<A 'a\nb\tc'>", A("a\nb\tc")),
            (r"<A 'C:\temp\'>", A("C:\\temp\\")),
            ("<J 'ｱ\\~'>", J("ｱ¥‾")),
        )

    def test_quotes_in_texts(self) -> None:
        """
        secs4net prints a text with quotes in it as it is; with its length it is read nevertheless.
        """
        self.read(
            ("<A [4] 'it's'>", A("it's")),
            ("<A [5] 'a' 'b'>", A("a' 'b")),
            ("<A [5] '\"MD\"L'>", A('"MD"L')),
            ('<A [5] ""MD"L">', A('"MD"L')),
            ("<A [1] '''>", A("'")),
            ("<L [2] <A [2] ''a'><A [1] 'b'>>", L(A("'a"), A("b"))),
        )
        # without a length this could be anything
        self.assertRaises(SmlError, item_from_sml, '<A "MD"L">')
        self.assertRaises(SmlError, item_from_sml, "<A [4] 'it's'>", check_lengths=False)

    def test_escapes(self) -> None:
        """
        On request a backslash makes quotes and backslashes plain, and no other character.
        """
        self.read(
            (r"<A 'it\'s' 0x0A '\\n\n'>", A("it's\n\\n\\n")),
            (r'<A "\"\\">', A('"\\')),
            escapes=True,
        )

    def test_localized(self) -> None:
        """
        A localized text begins with its code, UTF-8 without one; go-secs calls it W.
        """
        self.read(
            ("<W 'héllo'>", C2("héllo")),
            ("<W 8 0x82 0xA0>", C2("あ", 8)),
            ("<W 3 'test'>", C2("test", 3)),
            ("<W 1 0x00 'A'>", C2("A", 1)),
            ("<W>", C2()),
            ("<W[0]>", C2(charset=None)),
            ("<C2 1 'A' 0x00 0x42>", C2("AB", 1)),
            ("<C2 [3] 2 '日'>", C2("日")),
            ("<C2 [1] 2 '日'>", C2("日")),
        )

    def test_comments(self) -> None:
        """
        Comments stand wherever blanks may, but not in quotes.
        """
        self.read(
            ("/* a */ <L // b\n <U1 /* c */ 5 // d\n 6> * e\n> // f", L(U1(5, 6))),
            ("<A '/* x */' /* y */ '// z'>", A("/* x */// z")),
            ("<F8 1 /* > */ 2>", F8(1, 2)),
        )

    def test_encoding(self) -> None:
        """
        Characters in texts become bytes in the encoding of the caller's choice.
        """
        item = item_from_sml("<A 'é'>", encoding="latin-1")
        self.assertEqual(item, A(b"\xe9"))
        self.assertEqual(item.value, "é")
        self.assertRaises(LocalProtocolError, item_from_sml, "<A>", encoding="no-such-code")


class RefusalTests(SynchronousTestCase):
    """What cannot be read is refused with its line and column."""

    def test_items(self) -> None:
        """
        The place is that of the first thing that is wrong.
        """
        for text, line, column, words in (
            ("", 1, 1, "not with the end of the text"),
            ("x", 1, 1, "not with 'x'"),
            ("<U4 1> x", 1, 8, "there is 'x'"),
            ("<U9 1>", 1, 2, "No format has the name U9"),
            ("<L\n  <U4 1>\n", 3, 1, "not with the end of the text"),
            ("<L\n  <U4 1\n  <U4 2>>", 3, 3, "A value or > was expected, not '<U4'"),
            ("<L\n  <U1 -5>>", 2, 7, "-5 is not a value of U1"),
            ("<U1 1 2\n 300>", 2, 2, "300 is not a value of U1"),
            ("<U4 1.5>", 1, 5, "1.5"),
            ("<U4 1_0>", 1, 5, "1_0"),
            ("<U4 \u0663>", 1, 5, "\u0663"),
            ("<U4 '1'>", 1, 5, "A value or > was expected"),
            ("<U4 ...>", 1, 5, "... is not a value"),
            ("<I1 0xFF>", 1, 5, "0xFF"),
            (f"<U8 {'9' * 5000}>", 1, 5, "is not a value of U8"),
            ("<B 256>", 1, 4, "256"),
            ("<BOOLEAN yes>", 1, 10, "yes"),
            ("<F4 1e39>", 1, 5, "1e39"),
            ("<F8 1 1e400>", 1, 7, "1e400"),
            ("<F4 0x10>", 1, 5, "0x10"),
            ("<F4 NaN(0x3F800000)>", 1, 5, "NaN(0x3F800000)"),
            ("<F4 NaN(0x7FF8000000000000)>", 1, 5, "NaN(0x7FF8000000000000)"),
            ("<A 'x", 1, 4, "This quote has no end"),
            ("<A x>", 1, 4, "x is not a byte"),
            ("<A 0x100>", 1, 4, "0x100 is not a byte"),
            ("<A 65>", 1, 4, "65 is not a byte"),
            ("<A\n 'aé'>", 2, 4, "'é' is not a character of ascii"),
            ("<J '日'>", 1, 5, "'日' is not a character of jis-8"),
            ("<C2 65536 'x'>", 1, 5, "65536 is not the code of a character set"),
            ("<C2 7 'é'>", 1, 8, "'é' is not a character of ascii"),
            ("<L [2]\n <L [2] <U4 1>>>", 2, 2, "The length [2] is wrong: there are 1 items"),
            ("<L /* no end", 1, 4, "not with '/*'"),
            ("<L [1", 1, 4, "not with '[1'"),
        ):
            error = self.assertRaises(SmlError, item_from_sml, text)
            self.assertEqual((error.line, error.column), (line, column), text)
            self.assertIn(words, str(error))
            self.assertIn(f"line {line}, column {column}: ", str(error))
            self.assertIsInstance(error, LocalProtocolError)
            self.assertIsInstance(error, ValueError)

    def test_messages(self) -> None:
        """
        The place is counted from the beginning of the file.
        """
        for text, line, column, words in (
            ("S1F1 W.\n<U4 1>.", 2, 1, "not with '<U4'"),
            ("S1F1 W.\nS1F2 <U4 1> <U4 2>.", 2, 13, "A message ends with a period"),
            ("S1F1.\n S1F2 W.", 2, 2, "wants none"),
            ("S1F1.\nX: S128F1.", 2, 4, "from 0 to 127"),
            ("S1F256", 1, 1, "from 0 to 255"),
            ("S1F1 [W].", 1, 6, "not with '[W].'"),
            ("S1F1 <L\n<U4 1>.", 2, 7, "not with '.'"),
            (".", 1, 1, "not with '.'"),
        ):
            error = self.assertRaises(SmlError, messages_from_sml, text)
            self.assertEqual((error.line, error.column), (line, column), text)
            self.assertIn(words, str(error))

    def test_depth(self) -> None:
        """
        64 lists in one another are read, and no more, unless the caller says so.
        """
        self.assertEqual(item_from_sml("<L" * 64 + ">" * 64).to_bytes(), b"\x01\x01" * 63 + b"\x01\x00")
        error = self.assertRaises(SmlError, item_from_sml, "<L" * 65 + ">" * 65)
        self.assertEqual(error.column, 129)
        deep = item_from_sml("<L" * 100_000 + ">" * 100_000, max_depth=100_000)
        self.assertEqual(item_from_sml(deep.to_sml(), max_depth=100_000), deep)

    @quick
    @given(
        st.text(max_size=40)
        | st.lists(
            st.sampled_from(SNIPPETS),
            max_size=20,
        ).map("".join)
    )
    def test_anything(self, text: str) -> None:
        """
        Any text is messages, or the error.
        """
        for read in (messages_from_sml, item_from_sml):
            try:
                read(text)
            except SmlError as error:
                self.assertTrue(1 <= error.line <= text.count("\n") + 1)
                self.assertTrue(1 <= error.column <= len(text) + 1)

    def test_linear(self) -> None:
        """
        A long line is read once, not once for each of its characters.
        """
        self.assertRaises(SmlError, messages_from_sml, "S1F1" + " " * 200_000 + "x")
        self.assertRaises(SmlError, messages_from_sml, "x " * 100_000)
        self.assertRaises(SmlError, item_from_sml, "<A " + "'" * 100_001)
        self.assertEqual(item_from_sml("<U2 " + "7 " * 100_000 + ">"), U2([7] * 100_000))
        self.assertEqual(item_from_sml("<I4 [3] 1 /**/ 2 3>"), I4(1, 2, 3))
