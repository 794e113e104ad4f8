"""
Tests for `equipnet.instrument.operation`: how one operation ends, apart from its instrument.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from equipnet.errors import ConnectionLost, EquipmentConnectionError, RemoteProtocolError
from equipnet.instrument.operation import Kind, Operation, Transaction, holds


class Recorder:
    """An instrument that only writes down what operations and transactions tell it."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.ending: Exception | None = None
        self.held = False

    def went_well(self, operation: Operation) -> None:
        self.told.append("went well")

    def went_wrong(self, operation: Operation, error: Exception) -> None:
        self.told.append(f"went wrong: {error}")

    def start_next(self) -> None:
        self.told.append("start next")

    def cancelled(self, operation: Operation) -> None:
        self.told.append("cancelled")

    def is_ending_because_of(self, error: EquipmentConnectionError) -> bool:
        return error is self.ending

    def is_held_here(self) -> bool:
        return self.held

    def submit(self, operation: Operation) -> Deferred[Any]:
        self.told.append(f"submit {operation.kind.value}")
        self.held = True
        operation.succeed(None)
        return operation.answer

    def release(self, hold: Operation) -> None:
        self.told.append("release")
        self.held = False


class OperationTestCase(SynchronousTestCase):
    """An operation and the instrument that writes down what it hears."""

    def setUp(self) -> None:
        self.instrument = Recorder()

    def make(self, **arguments: Any) -> Operation:
        """Give an operation."""
        return Operation(cast(Any, self.instrument), Kind.QUERY, **arguments)


class EndTests(OperationTestCase):
    """Every way in which an operation ends."""

    def test_received(self) -> None:
        """
        The caller gets the value of the message after the instrument has heard of it, and before the next one begins.
        """
        operation = self.make(finish=lambda message: message.decode())
        operation.answer.addCallback(lambda value: self.instrument.told.append(f"answer {value}"))
        operation.received(b"1")
        self.assertEqual(self.instrument.told, ["went well", "answer 1", "start next"])

    def test_makes_no_sense(self) -> None:
        """
        What making a value of the message raises is what the caller gets.
        """

        def refuse(message: bytes) -> object:
            raise RemoteProtocolError("no sense", message)

        operation = self.make(finish=refuse)
        operation.received(b"1")
        self.assertEqual(self.failureResultOf(operation.answer, RemoteProtocolError).value.data, b"1")
        self.assertEqual(self.instrument.told, ["went wrong: no sense", "start next"])

    def test_failed(self) -> None:
        """
        The caller gets the error for which the message does not come.
        """
        operation = self.make()
        operation.failed(RemoteProtocolError("too long"))
        self.failureResultOf(operation.answer, RemoteProtocolError)
        self.assertEqual(self.instrument.told, ["went wrong: too long", "start next"])

    def test_connection_lost(self) -> None:
        """
        The end of the connection is left to the instrument, which fails everything when it can be connected again.
        """
        operation = self.make()
        self.instrument.ending = error = ConnectionLost("gone")
        operation.failed(error)
        self.assertNoResult(operation.answer)
        operation.fail(error)
        self.failureResultOf(operation.answer, ConnectionLost)

    def test_cancelled(self) -> None:
        """
        Cancelling tells the instrument, and what comes later is for nobody.
        """
        operation = self.make()
        operation.answer.cancel()
        self.failureResultOf(operation.answer, CancelledError)
        operation.received(b"1")
        operation.fail(ConnectionLost("gone"))
        self.assertEqual(self.instrument.told, ["cancelled", "went well", "start next"])

    def test_fails_in_its_delay(self) -> None:
        """
        An operation that fails while its delay runs leaves no call behind.
        """
        clock = Clock()
        operation = self.make(delay=1.0)
        operation.pause = clock.callLater(1.0, lambda: None)
        operation.fail(ConnectionLost("gone"))
        self.assertEqual(clock.getDelayedCalls(), [])
        self.failureResultOf(operation.answer, ConnectionLost)


class TransactionTests(OperationTestCase):
    """The block of a transaction, apart from its instrument."""

    def test_block(self) -> None:
        """
        Entering waits for the hold, leaving releases it; inside the coroutine is marked as holding.
        """
        inside: list[int] = []

        async def block() -> None:
            async with Transaction(cast(Any, self.instrument)):
                inside.append(len(holds.get()))
            inside.append(len(holds.get()))

        self.successResultOf(Deferred.fromCoroutine(block()))
        self.assertEqual(inside, [1, 0])
        self.assertEqual(self.instrument.told, ["submit hold", "release"])

    def test_nested(self) -> None:
        """
        A block in a block holds once, and only the outer one releases.
        """
        transaction = Transaction(cast(Any, self.instrument))

        async def block() -> None:
            async with transaction:
                async with transaction:
                    self.instrument.told.append("inside")
                self.instrument.told.append("still inside")

        self.successResultOf(Deferred.fromCoroutine(block()))
        self.assertEqual(self.instrument.told, ["submit hold", "inside", "still inside", "release"])

    def test_raises(self) -> None:
        """
        An exception in the block passes, and releases.
        """

        async def block() -> None:
            async with Transaction(cast(Any, self.instrument)):
                raise RuntimeError

        self.failureResultOf(Deferred.fromCoroutine(block()), RuntimeError)
        self.assertEqual(self.instrument.told, ["submit hold", "release"])
