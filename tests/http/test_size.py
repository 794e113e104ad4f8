"""Tests of numbers of bytes as people write them."""

from __future__ import annotations

from pydantic import BaseModel, ValidationError
from twisted.trial.unittest import SynchronousTestCase

from equipnet.http.size import Size, parse_size


class Section(BaseModel):
    size: Size


class SizeTests(SynchronousTestCase):
    def test_good(self) -> None:
        """
        A number is a number of bytes; a text has a unit, in any letter case.
        """
        for text, size in (
            (500_000, 500_000), ("500000", 500_000), ("12 B", 12), ("500 kB", 500_000), ("500KB", 500_000),
            ("20 MiB", 20 * 2**20), ("20mib", 20 * 2**20), ("1.5 KiB", 1536), ("2 GB", 2_000_000_000),
            ("1 GiB", 2**30), (" 7 B ", 7), ("0.1 MB", 100_000), ("9007199254740993", 9007199254740993),
        ):  # fmt: skip
            with self.subTest(text=text):
                self.assertEqual(parse_size(text), size)

    def test_wrong(self) -> None:
        """
        Anything else is refused, with what was written and how it could be.
        """
        for text in ("", "MiB", "20 miles", "-5", "5-", "1e6", "1,5 MB", "٣ MB", "1 2", True, 1.5, None):
            with self.subTest(text=text):
                error = self.assertRaises(ValueError, parse_size, text)
                self.assertEqual(
                    str(error), f"{text!r} is not a number of bytes; write one such as 500000, '500 kB' or '20 MiB'"
                )

    def test_long(self) -> None:
        """
        A number may have any number of digits.
        """
        self.assertEqual(parse_size("9" * 400), 10**400 - 1)

    def test_section(self) -> None:
        """
        In a section of the configuration it must be at least a byte.
        """
        self.assertEqual(Section.model_validate({"size": "2 kB"}).size, 2000)
        for text, complaint in (("0", "greater than or equal to 1"), ("0.1 B", "greater than"), ("big", "'20 MiB'")):
            error = self.assertRaises(ValidationError, Section.model_validate, {"size": text})
            self.assertIn(complaint, str(error))
