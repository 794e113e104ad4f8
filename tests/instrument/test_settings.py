r"""
Tests for `equipnet.instrument.settings`, through the class whose settings they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from equipnet.errors import LocalProtocolError, RemoteProtocolError
from equipnet.instrument import Block, Datagram, Ending, IdleGap, Instrument, Prompt, Size, Terminator
from equipnet.instrument.ending import Unending


class SettingsTestCase(SynchronousTestCase):
    """An instrument that is never connected."""

    def make(self, address: str = "TCP::h::5025", **settings: Any) -> Instrument:
        """Give the instrument."""
        return Instrument(address, reactor=Clock(), **settings)

    def ending(self, instrument: Instrument, **arguments: Any) -> Ending:
        """Give how a reply ends that is read with these arguments."""
        defaults: dict[str, Any] = {"size": None, "fmt": None, "dtype": None, "decode": True, "ending": None}
        return instrument.reply(**{**defaults, **arguments})[0]


class DefaultsTests(SettingsTestCase):
    """The names and defaults are MSL-Equipment's."""

    def test_defaults(self) -> None:
        """
        Every property has the default of MSL-Equipment's ConnectionSocket: writes CR LF, reads LF, among others.
        """
        dmm = self.make()
        expected = {
            "buffer_size": 4096,
            "encoding": "utf-8",
            "encoding_errors": "strict",
            "family": "INET",
            "max_read_size": 1 << 20,
            "proto": 0,
            "read_termination": b"\n",
            "rstrip": False,
            "socket_type": "STREAM",
            "timeout": None,
            "write_termination": b"\r\n",
        }
        self.assertEqual({name: getattr(dmm, name) for name in expected}, expected)

    def test_at_construction_and_afterwards(self) -> None:
        """
        Each property can be given at construction and changed afterwards.
        """
        values: dict[str, tuple[Any, Any]] = {
            "buffer_size": (1, 1),
            "encoding": ("latin-1", "latin-1"),
            "encoding_errors": ("REPLACE", "replace"),
            "family": ("af_inet6", "INET6"),
            "max_read_size": (10, 10),
            "proto": (6, 6),
            "read_termination": ("\r", b"\r"),
            "rstrip": (True, True),
            "socket_type": ("sock_dgram", "DGRAM"),
            "timeout": (2, 2.0),
            "write_termination": ("\n", b"\n"),
            "termination": (";", b";"),
        }
        for name, (given, kept) in values.items():
            settings: dict[str, Any] = {name: given}
            self.assertEqual(getattr(self.make(**settings), name), kept)
            dmm = self.make()
            setattr(dmm, name, given)
            self.assertEqual(getattr(dmm, name), kept)


class TerminationTests(SettingsTestCase):
    """What ends commands and replies."""

    def test_both(self) -> None:
        """
        ``termination`` sets both, and wins over the two others at construction.
        """
        dmm = self.make(termination="\r", read_termination=";", write_termination=":")
        self.assertEqual((dmm.read_termination, dmm.write_termination, dmm.termination), (b"\r", b"\r", b"\r"))
        dmm.write_termination = "\n"
        self.assertEqual((dmm.read_termination, dmm.write_termination, dmm.termination), (b"\r", b"\n", b"\n"))
        dmm.termination = None
        self.assertEqual((dmm.read_termination, dmm.write_termination), (None, None))

    def test_forms_of_registers(self) -> None:
        """
        Registers of equipment write escapes out, with and without quotes.
        """
        dmm = self.make()
        for text in ("\\r\\n", "'\\r\\n'", '"\\r\\n"', "b'\\r\\n'", "\r\n", b"\r\n"):
            dmm.read_termination = text
            dmm.write_termination = text
            self.assertEqual((dmm.read_termination, dmm.write_termination), (b"\r\n", b"\r\n"), text)

    def test_none(self) -> None:
        """
        None and nothing mean that nothing is added and nothing ends a reply but its size.
        """
        for nothing in (None, "", b""):
            dmm = self.make(read_termination=nothing, write_termination=nothing)
            self.assertEqual((dmm.read_termination, dmm.write_termination), (None, None))
            self.assertEqual(dmm.encode("A"), b"A")
            self.assertEqual(self.ending(dmm), Unending())
            self.assertIsNone(dmm.line_ending)

    def test_several(self) -> None:
        """
        A reply can have several terminators; empty ones among them do not count.
        """
        dmm = self.make(read_termination=("\r", b"\n", ""))
        self.assertEqual(dmm.read_termination, (b"\r", b"\n"))
        self.assertEqual(self.ending(dmm), Terminator(b"\r", b"\n"))
        self.assertIsNone(self.make(read_termination=("", None)).read_termination)

    def test_added_once(self) -> None:
        """
        A command that ends with the termination keeps it; behind a block it is always added.
        """
        dmm = self.make(termination="\n")
        self.assertEqual(dmm.encode("A\n"), b"A\n")
        self.assertEqual(dmm.encode(b"A", b"\x01\n"), b"A#12\x01\n\n")


class EncodingTests(SettingsTestCase):
    """How text becomes bytes."""

    def test_recodes_the_terminations(self) -> None:
        """
        A new encoding encodes the terminations anew.
        """
        dmm = self.make(termination="\n", encoding="utf-8")
        dmm.encoding = "utf-16-le"
        self.assertEqual((dmm.read_termination, dmm.write_termination), (b"\n\x00", b"\n\x00"))
        self.assertEqual(dmm.encode("A"), b"A\x00\n\x00")
        dmm.read_termination = ("\r", "\n")
        dmm.encoding = "ascii"
        self.assertEqual(dmm.read_termination, (b"\r", b"\n"))

    def test_unknown(self) -> None:
        """
        An unknown encoding is a LookupError, at construction, too, and changes nothing.
        """
        self.assertRaises(LookupError, self.make, encoding="klingon", termination=None)
        dmm = self.make()
        with self.assertRaises(LookupError):
            dmm.encoding = "klingon"
        self.assertEqual(dmm.encoding, "utf-8")

    def test_impossible(self) -> None:
        """
        An encoding in which a termination cannot be written changes nothing, neither that nor the other.
        """
        dmm = self.make(read_termination="\n", write_termination="µ")
        with self.assertRaises(UnicodeError):
            dmm.encoding = "ascii"
        self.assertEqual((dmm.encoding, dmm.read_termination), ("utf-8", b"\n"))
        self.assertEqual((dmm.write_termination, dmm.encode("µ")), ("µ".encode(), "µ".encode()))

    def test_errors(self) -> None:
        """
        Errors of text are treated as Python's handlers do, whose names count in any case.
        """
        dmm = self.make(encoding="ascii", encoding_errors="Replace", termination=None, write_termination=None)
        self.assertEqual(dmm.encode("µ"), b"?")
        _, value = dmm.reply(None, None, None, True, None)
        self.assertEqual(value(b"\xff\n"), "\ufffd\n")
        dmm.encoding_errors = "strict"
        self.assertRaises(LocalProtocolError, dmm.encode, "µ")
        _, value = dmm.reply(None, None, None, True, None)
        self.assertRaises(RemoteProtocolError, value, b"\xff\n")
        for name in ("xmlcharrefreplace", "backslashreplace", "namereplace", "ignore"):
            dmm.encoding_errors = name
            dmm.encode("µ")

    def test_unknown_errors(self) -> None:
        """
        An unknown name is a LookupError and changes nothing.
        """
        dmm = self.make()
        for name in (None, "", 888, "hope"):
            with self.assertRaises(LookupError):
                dmm.encoding_errors = name  # type: ignore[assignment]
        self.assertEqual(dmm.encoding_errors, "strict")

    def test_rstrip(self) -> None:
        """
        White space at the end of a text goes if that is wanted; binary numbers keep theirs.
        """
        dmm = self.make(rstrip=True)
        self.assertEqual(dmm.reply(None, None, None, True, None)[1](b" 1 \r\n"), " 1")
        self.assertEqual(dmm.reply(None, None, None, False, None)[1](b" 1 \r\n"), b" 1")
        np.testing.assert_array_equal(dmm.reply(4, None, "<u2", True, None)[1](b"\x01\n\r\n"), [0x0A01, 0x0A0D])
        dmm.rstrip = False
        self.assertEqual(dmm.reply(None, None, None, True, None)[1](b" 1 \r\n"), " 1 \r\n")


class NumbersTests(SettingsTestCase):
    """Sizes, times and the choices of a socket."""

    def test_sizes(self) -> None:
        """
        Sizes are whole numbers of at least 1.
        """
        for name in ("buffer_size", "max_read_size"):
            for size in (0, -1, 1.5, "4096", None):
                self.assertRaises(ValueError, self.make, **{name: size})

    def test_timeout(self) -> None:
        """
        Less than 0 and an infinite time are no limit, 0 is 0, and what is no number is refused.
        """
        for given, kept in ((None, None), (-1, None), (float("inf"), None), (0, 0.0), (2, 2.0)):
            self.assertEqual(self.make(timeout=given).timeout, kept)
        self.assertRaises(ValueError, self.make, timeout=float("nan"))

    def test_choices(self) -> None:
        """
        Families and types of sockets are named as in MSL-Equipment; what does not exist here is refused.
        """
        for family in ("inet", "AF_INET", "INET"):
            self.assertEqual(self.make(family=family).family, "INET")
        self.assertEqual(self.make(family="unspec").family, "UNSPEC")
        for name, value in (("family", "IPX"), ("socket_type", "RAW"), ("proto", 1), ("family", None)):
            self.assertRaises(ValueError, self.make, **{name: value})

    def test_datagrams(self) -> None:
        """
        An address that begins with UDP decides the type of socket, as does the property.
        """
        self.assertEqual(self.make("UDP::h::5025").socket_type, "DGRAM")
        self.assertTrue(self.make("udp:h:5025", socket_type="STREAM").is_datagram)
        self.assertTrue(self.make(socket_type="DGRAM").is_datagram)
        self.assertFalse(self.make().is_datagram)


class ReplyTests(SettingsTestCase):
    """How a reply ends that is asked for in some way."""

    def test_arguments(self) -> None:
        """
        Size counts before anything else, then the header of a block, then the terminator.
        """
        dmm = self.make(termination="\r")
        self.assertEqual(self.ending(dmm), Terminator(b"\r"))
        self.assertEqual(self.ending(dmm, decode=False), Terminator(b"\r"))
        self.assertEqual(self.ending(dmm, fmt="ascii", dtype=float), Terminator(b"\r"))
        self.assertEqual(self.ending(dmm, fmt="ieee"), Block("ieee", b"\r"))
        self.assertEqual(self.ending(dmm, fmt="hp", dtype=">i2"), Block("hp", b"\r", ">"))
        self.assertEqual(self.ending(dmm, fmt="ieee", size=4), Size(4))
        self.assertEqual(self.ending(dmm, ending=Prompt(">")), Prompt(">"))
        self.assertEqual(self.ending(dmm, ending=Prompt(">"), decode=False), Prompt(">"))

    def test_ending_of_the_instrument(self) -> None:
        """
        The instrument's own ending is that of its text, not of blocks and sized replies; each query can have another.
        """
        dmm = self.make(ending=IdleGap(1.0))
        self.assertEqual(self.ending(dmm), IdleGap(1.0))
        self.assertEqual(self.ending(dmm, decode=False), IdleGap(1.0))
        self.assertEqual(self.ending(dmm, fmt="ieee"), Block("ieee", b"\n"))
        self.assertEqual(self.ending(dmm, size=4), Size(4))
        self.assertEqual(self.ending(dmm, ending=Prompt(">")), Prompt(">"))
        self.assertEqual(dmm.line_ending, IdleGap(1.0))
        dmm.ending = None
        self.assertEqual(self.ending(dmm), Terminator(b"\n"))

    def test_datagrams(self) -> None:
        """
        A datagram is one reply, however it is asked for, unless the caller says how it ends.
        """
        dmm = self.make("UDP::h::5025", ending=IdleGap(1.0))
        for arguments in ({}, {"decode": False}, {"fmt": "ieee"}, {"size": 4}):
            self.assertEqual(self.ending(dmm, **arguments), Datagram())
        for decode in (True, False):
            self.assertEqual(self.ending(dmm, ending=Terminator(b";"), decode=decode), Terminator(b";"))
        dmm = self.make()
        dmm.socket_type = "DGRAM"
        self.assertEqual(self.ending(dmm), Datagram())

    def test_size_of_a_datagram(self) -> None:
        """
        A datagram of another size than was asked for makes no sense.
        """
        _, value = self.make("UDP::h::5025").reply(4, None, None, False, None)
        self.assertEqual(value(b"1234"), b"1234")
        self.assertRaises(RemoteProtocolError, value, b"123")

    def test_changes_count_at_once(self) -> None:
        """
        A setting that is changed counts for the next reply, not for one that is awaited already.
        """
        dmm = self.make()
        before = dmm.reply(None, None, None, True, None)
        dmm.read_termination = ";"
        dmm.rstrip = True
        self.assertEqual((before[0], before[1](b"1\n")), (Terminator(b"\n"), "1\n"))
        after = dmm.reply(None, None, None, True, None)
        self.assertEqual((after[0], after[1](b"1\n")), (Terminator(b";"), "1"))
