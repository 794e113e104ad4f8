"""Tests of finding the line of each key."""

from __future__ import annotations

import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from equipnet.daemon.lines import Path, dotted, find_lines

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DOCUMENT = '''\
# no = "key"
top.level = 1  # a = 2
"quo.ted" = 'x = 1'
[ connections . dmm ]
address = "a # b = c \\" ["
text = """
[not.a.table]
not_a_key = 1 \\"""
"""
raw = \'\'\'
[neither]\'\'\'
points = [ # [1]
  { x = 1, y = { z = 2 } },
  { "x" = 3 },
  [ 4, 5 ],
]
when = 1979-05-27 07:32:00
timers = { t3 = 1, t5 = "}" }
[connections.dmm.retry]
maximum = 3
[[servers]]
port = 1
[servers.tls]
key = 2
[[servers]]
port = 3
[[servers.users]]
name = "a"
[[servers.users]]
name = "b"
[connections]
last = true
'''

LINES: dict[Path, int] = {
    ("top",): 2,
    ("top", "level"): 2,
    ("quo.ted",): 3,
    ("connections",): 31,
    ("connections", "dmm"): 4,
    ("connections", "dmm", "address"): 5,
    ("connections", "dmm", "text"): 6,
    ("connections", "dmm", "raw"): 10,
    ("connections", "dmm", "points"): 12,
    ("connections", "dmm", "points", 0): 13,
    ("connections", "dmm", "points", 0, "x"): 13,
    ("connections", "dmm", "points", 0, "y"): 13,
    ("connections", "dmm", "points", 0, "y", "z"): 13,
    ("connections", "dmm", "points", 1): 14,
    ("connections", "dmm", "points", 1, "x"): 14,
    ("connections", "dmm", "points", 2): 15,
    ("connections", "dmm", "points", 2, 0): 15,
    ("connections", "dmm", "points", 2, 1): 15,
    ("connections", "dmm", "when"): 17,
    ("connections", "dmm", "timers"): 18,
    ("connections", "dmm", "timers", "t3"): 18,
    ("connections", "dmm", "timers", "t5"): 18,
    ("connections", "dmm", "retry"): 19,
    ("connections", "dmm", "retry", "maximum"): 20,
    ("servers",): 21,
    ("servers", 0): 21,
    ("servers", 0, "port"): 22,
    ("servers", 0, "tls"): 23,
    ("servers", 0, "tls", "key"): 24,
    ("servers", 1): 25,
    ("servers", 1, "port"): 26,
    ("servers", 1, "users"): 27,
    ("servers", 1, "users", 0): 27,
    ("servers", 1, "users", 0, "name"): 28,
    ("servers", 1, "users", 1): 29,
    ("servers", 1, "users", 1, "name"): 30,
    ("connections", "last"): 32,
}


def places(value: Any, path: Path = ()) -> set[Path]:
    """Everything in a parsed document that has a place."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {path} - {()} | {place for key, item in inside for place in places(item, (*path, key))}


class FindLinesTests(SynchronousTestCase):
    def test_every_form_of_key(self) -> None:
        """
        Dotted and quoted keys, tables, arrays of tables, inline tables and lists have the line they stand on; what
        only looks like a key, in a text or a comment, is none.
        """
        self.assertEqual(find_lines(DOCUMENT).at, LINES)

    def test_the_parser_sees_the_same_keys(self) -> None:
        """
        There is a line for exactly what the real parser finds in the document.
        """
        self.assertEqual(places(tomllib.loads(DOCUMENT)), set(find_lines(DOCUMENT).at))

    def test_nearest(self) -> None:
        """
        What the file does not have is looked for on the line of what is around it, and at last on the first.
        """
        lines = find_lines("\n[a]\nb = 1\n")
        self.assertEqual(lines.of(("a", "b")), 3)
        self.assertEqual(lines.of(("a", "c", "d")), 2)
        self.assertEqual(lines.of(("x",)), 1)

    def test_twice(self) -> None:
        """
        What is there a second time is noted with both lines, and keeps the first.
        """
        lines = find_lines("[a]\nb = 1\nb = 2\n[c]\n[a]\n")
        self.assertEqual(lines.twice, [(("a", "b"), 2, 3), (("a",), 1, 5)])
        self.assertEqual(lines.at["a", "b"], 2)

    def test_any_beginning_of_a_document(self) -> None:
        """
        Text that breaks off anywhere, or is no TOML, is read as far as it goes; nothing is raised.
        """
        for end in range(len(DOCUMENT)):
            find_lines(DOCUMENT[:end])
        for text in ("= 1", "[", "[[", "a", "a = [", "a = {", "a.", '"', '"\\q" = 1', "a = ]", "a = [" * 3000, "\x00"):
            self.assertNotIn(("a", "b"), find_lines(text).at)


class DottedTests(SynchronousTestCase):
    def test_as_toml_writes_it(self) -> None:
        """
        Keys are joined by dots, positions stand in brackets, and keys with other characters in quotes.
        """
        self.assertEqual(dotted(("connections", "dmm", "points", 2, "x")), "connections.dmm.points[2].x")
        self.assertEqual(dotted(("connections", "d.m\nm", "x")), r"connections.'d.m\nm'.x")
