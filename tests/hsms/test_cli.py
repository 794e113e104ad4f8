"""Tests of ``equipnet secs`` and ``equipnet hsms``, without a reactor."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from equipnet.cli import main
from equipnet.hsms.cli import canonical

#: The dialects of secs4net and secs4java8 in one file.
MIXED = """AreYouThere:'S1F1'W
.
S1F2
<L [2]
  <A [6] 'ETCHER'>
  <A "1.0">
>.
"""

CANONICAL = """AreYouThere: S1F1 W
.
S1F2
<L [2]
  <A [6] "ETCHER">
  <A [3] "1.0">
>
."""


class SmlTests(SynchronousTestCase):
    def run_on(self, text: str) -> Result:
        self.file = Path(self.mktemp())
        self.file.write_text(text)
        return CliRunner().invoke(main, ["secs", "sml", str(self.file)])

    def test_canonical(self) -> None:
        """
        Messages of any dialect are printed in one form, which reads back to the same.
        """
        result = self.run_on(MIXED)
        self.assertEqual((result.stdout, result.exit_code), (CANONICAL + "\n", 0))
        self.assertEqual(canonical(CANONICAL), CANONICAL)

    def test_wrong(self) -> None:
        """
        What cannot be read is said with its file, line and column.
        """
        result = self.run_on("S1F3 W\n<L <U4 x>>.")
        self.assertEqual(
            (result.stderr, result.exit_code), (f"{self.file}: line 2, column 8: x is not a value of U4\n", 1)
        )

    def test_no_file(self) -> None:
        """
        So is a file that is not there.
        """
        result = CliRunner().invoke(main, ["secs", "sml", "nowhere.sml"])
        self.assertEqual(result.exit_code, 1)
        self.assertIn("nowhere.sml", result.stderr)
