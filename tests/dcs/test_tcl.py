"""Tests of Tcl's lists and of numbers for C programs."""

from __future__ import annotations

import numpy
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from equipnet.dcs.tcl import balanced, clean, join, number, one_word, quote, split
from equipnet.errors import LocalProtocolError


class SplitTests(SynchronousTestCase):
    """A line becomes words."""

    def test_words_stand_between_blanks(self) -> None:
        """Any number of blanks separates words."""
        self.assertEqual(split(" a  b\tc "), ("a", "b", "c"))

    def test_groups_are_one_word(self) -> None:
        """Braces and quotes hold words together, and may be nested."""
        self.assertEqual(split('{a b} {} {c {d e}} "f g" h'), ("a b", "", "c {d e}", "f g", "h"))

    def test_backslashes_escape(self) -> None:
        """A blank behind a backslash is part of its word; within braces nothing is changed (Tcl's manual, lists)."""
        self.assertEqual(split(r"a\ b c\n {d\} e}"), ("a b", "c\n", r"d\} e"))

    def test_what_is_no_list_is_read_somehow(self) -> None:
        """A brace that is not closed takes the rest."""
        self.assertEqual(split("a {b c"), ("a", "b c"))
        self.assertEqual(split('a "b c'), ("a", "b c"))
        self.assertEqual(split("a} b\\"), ("a}", "b\\"))

    @given(st.lists(st.text(st.characters(exclude_characters="{}\\", exclude_categories=["Cs"]))))
    def test_joining_is_undone(self, words: list[str]) -> None:
        """What was joined comes back."""
        self.assertEqual(split(join([*words])), tuple(words))


class QuoteTests(SynchronousTestCase):
    """A value becomes one word."""

    def test_values(self) -> None:
        """Texts, numbers, nothing, and groups of them."""
        for value, word in (
            ("a", "a"),
            ("a b", "{a b}"),
            ("", "{}"),
            (None, "{}"),
            (True, "1"),
            (3, "3"),
            (0.5, "0.5"),
            (numpy.float32(0.5), "0.5"),
            (numpy.int64(7), "7"),
            (b"a b", "{a b}"),
            ((1, "b c"), "{1 {b c}}"),
            ((), "{}"),
        ):
            self.assertEqual(quote(value), word)

    def test_what_is_no_word_is_refused(self) -> None:
        """Braces that are not balanced, and objects."""
        for value in ("{", "}{", "a\\", object(), {"a": 1}):
            self.assertRaises(LocalProtocolError, quote, value)

    def test_balance(self) -> None:
        """A brace behind a backslash does not count."""
        for text, is_balanced in (("", True), ("{}", True), ("{", False), ("}{", False), (r"\{", True), ("\\", False)):
            self.assertIs(balanced(text), is_balanced, text)


class NumberTests(SynchronousTestCase):
    """Numbers are plain decimals."""

    def test_no_exponents(self) -> None:
        """Large and small numbers are written out; the shortest text that gives the same number otherwise."""
        for value, text in (
            (30.0, "30.0"),
            (0.1, "0.1"),
            (-360, "-360"),
            (1e-7, "0.0000001"),
            (1e-30, "0.0"),
            (1e22, "10000000000000000000000"),
        ):
            self.assertEqual(number(value), text)

    def test_what_c_cannot_read_is_refused(self) -> None:
        """Neither nan nor infinity nor forty digits."""
        for value in (float("nan"), float("inf"), -float("inf"), 1e300, 10**50):
            self.assertRaises(LocalProtocolError, number, value)

    @given(st.floats(-1e15, 1e15))
    def test_numbers_come_back(self, value: float) -> None:
        """Reading gives the number again, to more places than dcss keeps."""
        self.assertAlmostEqual(float(number(value)), value, places=15)


class CleanTests(SynchronousTestCase):
    """Texts for people lose what dcss would change."""

    def test_clean(self) -> None:
        """One line, without brackets, braces, quotes and backslashes."""
        self.assertEqual(clean('a["b"]\n{c};\\d$e'), "a b c d e")
        self.assertEqual(one_word("no beam\n"), "no_beam")
