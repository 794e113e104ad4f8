"""Tests of the rules: the handshake's table, and the book of what is owed."""

from __future__ import annotations

from itertools import product

from twisted.trial.unittest import SynchronousTestCase

from equipnet.dcs.session import MOVES, Book, DcsEvent, DcsState, move
from equipnet.errors import LocalProtocolError


class HandshakeTests(SynchronousTestCase):
    """Every pair of a state and an event."""

    def test_the_whole_table(self) -> None:
        """What is listed moves, everything else is refused."""
        listed = {
            (DcsState.CONNECTED, DcsEvent.ASKED): DcsState.NAMED,
            (DcsState.NAMED, DcsEvent.MESSAGE): DcsState.ACCEPTED,
            (DcsState.NAMED, DcsEvent.NOT_REFUSED): DcsState.ACCEPTED,
            (DcsState.ACCEPTED, DcsEvent.MESSAGE): DcsState.ACCEPTED,
        }
        self.assertEqual({(old, event): new for old, row in MOVES.items() for event, new in row.items()}, listed)
        for state, event in product(DcsState, DcsEvent):
            if (state, event) in listed:
                self.assertIs(move(state, event), listed[state, event])
            else:
                self.assertRaises(LocalProtocolError, move, state, event)


class BookTests(SynchronousTestCase):
    """What is owed is taken out once."""

    def test_once(self) -> None:
        """An entry is struck once; a second one with its key is not entered, and strikes nothing."""
        book: Book[object] = Book()
        first, second = object(), object()
        self.assertTrue(book.enter("key", first))
        self.assertFalse(book.enter("key", second))
        self.assertFalse(book.strike("key", second))
        self.assertEqual((list(book), len(book)), ([first], 1))
        self.assertTrue(book.strike("key", first))
        self.assertFalse(book.strike("key", first))
        self.assertEqual(len(book), 0)
