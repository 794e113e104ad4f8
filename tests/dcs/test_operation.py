"""Tests of operations: every start has exactly one completion, whatever the author's code does."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from equipnet.dcs import HardwareServer, OperationFailed, Run, on, operation
from equipnet.errors import LocalProtocolError

from .doubles import DhsTestCase


class LoopServer(HardwareServer):
    """Operations that end in every way."""

    dhs_name = "loopDHS"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.runs: list[Run] = []
        self.events: list[Any] = []
        self.waits: Deferred[Any] = Deferred()

    @operation("echo")
    async def echo(self, run: Run, *words: str) -> tuple[str, ...]:
        return words

    @operation("getLoopTip")
    async def get_loop_tip(self, run: Run, flag: str = "0") -> tuple[float, float]:
        if flag == "1":
            raise OperationFailed("TipNotInView", "+")
        return 0.51, 0.49

    @operation("plain")
    def plain(self, run: Run) -> str:
        return "two words"

    @operation("exit")
    def exit(self, run: Run) -> None:
        raise SystemExit(3)

    @operation("later")
    def later(self, run: Run) -> Deferred[Any]:
        self.runs.append(run)
        return self.waits

    @operation("broken")
    async def broken(self, run: Run) -> None:
        raise KeyError("no such [camera]")

    @operation("unsayable")
    async def unsayable(self, run: Run) -> str:
        return '{"a": [1]}'

    @operation("wait")
    async def wait(self, run: Run) -> str:
        self.runs.append(run)
        try:
            await Deferred()
        finally:
            self.events.append(("over", run.handle, run.abort_mode))
        return "never"

    @operation("stubborn")
    async def stubborn(self, run: Run) -> None:
        self.runs.append(run)
        while True:
            try:
                await Deferred()
            except CancelledError:
                self.events.append("cancelled")

    @operation("collect")
    async def collect(self, run: Run) -> str:
        await run.update("start_oscillation")
        await run.stopped
        await run.update("images", 2, "a b")
        return "done"

    @operation("readFile", thread=True)
    def read_file(self, run: Run, path: str) -> str:
        run.update("reading", path)
        return path.upper()

    @on("stoh_start_operation")
    def started_one(self, message: Any) -> None:
        self.events.append(str(message))


class OperationTests(DhsTestCase):
    """What dcss starts, and what it hears of it."""

    def setUp(self) -> None:
        self.server = LoopServer()
        self.connect(self.server)

    def test_results(self) -> None:
        """A tuple is several words, anything else one, None none; handles come back as they were."""
        self.say(
            "stoh_start_operation echo 1.10 a {b c}  {}",
            "stoh_start_operation echo 1.1",
            "stoh_start_operation getLoopTip 1.12",
            "stoh_start_operation plain 1.13",
        )
        self.assertEqual(
            self.heard(),
            [
                "htos_operation_completed echo 1.10 normal a {b c} {}",
                "htos_operation_completed echo 1.1 normal",
                "htos_operation_completed getLoopTip 1.12 normal 0.51 0.49",
                "htos_operation_completed plain 1.13 normal {two words}",
            ],
        )

    def test_failures(self) -> None:
        """OperationFailed says the status; another exception is named, logged, and loses what dcss cannot carry."""
        self.say("stoh_start_operation getLoopTip 1.1 1", "stoh_start_operation broken 1.2")
        self.assertEqual(
            self.heard(),
            [
                "htos_operation_completed getLoopTip 1.1 TipNotInView +",
                "htos_operation_completed broken 1.2 KeyError {'no such camera '}",
            ],
        )
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_wrong_arguments(self) -> None:
        """Arguments that the function does not take are a failure."""
        self.say("stoh_start_operation getLoopTip 1.1 a b c")
        (line,) = self.heard()
        self.assertTrue(line.startswith("htos_operation_completed getLoopTip 1.1 TypeError {"), line)
        self.flushLoggedErrors(TypeError)

    def test_results_that_cannot_be_sent(self) -> None:
        """What dcss would change on the way is a failure, not a wrong result."""
        self.say("stoh_start_operation unsayable 1.1")
        (line,) = self.heard()
        self.assertTrue(line.startswith("htos_operation_completed unsayable 1.1 LocalProtocolError {"), line)
        self.flushLoggedErrors(LocalProtocolError)

    def test_unknown_operations_are_completed(self) -> None:
        """Nobody waits for an operation that is not there."""
        self.say("stoh_start_operation nobody 1.1 a")
        self.assertEqual(self.heard(), ["htos_operation_completed nobody 1.1 unknown_operation"])

    def test_without_a_handle(self) -> None:
        """There is nothing to complete, and everything else goes on."""
        self.say("stoh_start_operation echo", "stoh_start_operation", "stoh_start_operation echo 1.1")
        self.assertEqual(self.heard(), ["htos_operation_completed echo 1.1 normal"])

    def test_several_runs_at_once(self) -> None:
        """Each run has its handle, and all of them can be asked for."""
        self.say("stoh_start_operation wait 1.1", "stoh_start_operation wait 1.2", "stoh_start_operation collect 1.1")
        active = self.server.active_operations
        self.assertEqual([run.handle for run in active("wait")], ["1.1", "1.2"])
        self.assertEqual([run.name for run in active(handle="1.1")], ["wait", "collect"])
        self.assertEqual(len(active()), 3)
        self.assertEqual(active("wait", "1.3"), [])

    def test_the_same_handle_twice(self) -> None:
        """A start with the name and the handle of a run that is active is ignored: one completion ends both."""
        self.say("stoh_start_operation wait 1.1", "stoh_start_operation wait 1.1")
        self.assertEqual(len(self.server.runs), 1)

    def test_a_deferred(self) -> None:
        """A function may give a Deferred."""
        self.say("stoh_start_operation later 1.1")
        self.assertEqual(self.heard(), [])
        self.server.waits.callback(7)
        self.assertEqual(self.heard(), ["htos_operation_completed later 1.1 normal 7"])

    def test_updates_and_stop(self) -> None:
        """Updates go out at once; a stop reaches the runs of that operation, which end as they like."""
        self.say("stoh_start_operation collect 1.1")
        self.assertEqual(self.heard(), ["htos_operation_update collect 1.1 start_oscillation"])
        self.say("stoh_stop_operation collect now", "stoh_stop_operation collect")
        self.assertEqual(
            self.heard(),
            ["htos_operation_update collect 1.1 images 2 {a b}", "htos_operation_completed collect 1.1 normal done"],
        )

    def test_abort(self) -> None:
        """Abort cancels what runs; each is completed once as aborted, and a second abort changes nothing."""
        self.say("stoh_start_operation wait 1.1", "stoh_start_operation wait 1.2", "stoh_abort_all", "stoh_abort_all")
        self.assertEqual(
            self.heard(),
            ["htos_operation_completed wait 1.1 aborted", "htos_operation_completed wait 1.2 aborted"],
        )
        self.assertEqual(self.server.events[-2:], [("over", "1.1", "hard"), ("over", "1.2", "hard")])
        self.say("stoh_start_operation wait 1.3", "stoh_abort_all soft")
        self.assertEqual(self.server.events[-1], ("over", "1.3", "soft"))

    def test_abort_of_what_does_not_end(self) -> None:
        """Code that goes on regardless has its time; then dcss is told without it, once."""
        self.say("stoh_start_operation stubborn 1.1", "stoh_abort_all soft")
        self.clock.advance(4.9)
        self.assertEqual(self.heard(), [])
        self.clock.advance(0.1)
        self.assertEqual(self.heard(), ["htos_operation_completed stubborn 1.1 aborted"])
        self.successResultOf(self.server.runs[0].update("too late"))
        self.assertEqual(self.heard(), [])

    def test_threads(self) -> None:
        """A function that blocks runs elsewhere; dcss hears of it when it is done."""
        self.say("stoh_start_operation readFile 1.1 a.txt", "stoh_start_operation echo 1.2")
        self.assertEqual(self.heard(), ["htos_operation_completed echo 1.2 normal"])
        self.threads.finish()
        self.assertEqual(
            self.heard(),
            ["htos_operation_update readFile 1.1 reading a.txt", "htos_operation_completed readFile 1.1 normal A.TXT"],
        )

    def test_abort_of_a_thread(self) -> None:
        """A thread that blocks is completed after its time, and what it says later is dropped."""
        self.say("stoh_start_operation readFile 1.1 a.txt", "stoh_abort_all hard")
        self.assertTrue(self.server.active_operations()[0].is_aborted)
        self.clock.advance(5)
        self.assertEqual(self.heard(), ["htos_operation_completed readFile 1.1 aborted"])
        self.threads.finish()
        self.assertEqual(self.heard(), [])

    def test_disconnection(self) -> None:
        """What runs is cancelled when dcss goes, and nothing old is said to it when it is back."""
        self.say("stoh_start_operation wait 1.1", "stoh_start_operation later 1.2")
        self.lose()
        self.assertEqual(self.server.active_operations(), [])
        self.assertEqual(self.server.events[-1], ("over", "1.1", "hard"))
        self.clock.advance(1)
        self.accept()
        self.successResultOf(self.server.runs[0].update("too late"))
        self.assertEqual(self.heard(), [])

    def test_shutdown(self) -> None:
        """What runs is completed as aborted before the connection is closed."""
        self.say("stoh_start_operation wait 1.1", "stoh_start_operation stubborn 1.2")
        stopped = self.dhs.stopService()
        self.assertEqual(self.heard(), ["htos_operation_completed wait 1.1 aborted"])
        self.say("stoh_start_operation echo 1.3")
        self.assertEqual(self.heard(), ["htos_operation_completed echo 1.3 aborted"])
        self.assertEqual(self.attempt.transport.closed, [])
        self.clock.advance(0.75)
        self.assertEqual(self.heard(), ["htos_operation_completed stubborn 1.2 aborted"])
        self.assertEqual(self.attempt.transport.closed, ["lose"])
        self.lose()
        self.successResultOf(stopped)

    def test_shutdown_of_a_dcss_that_does_not_read(self) -> None:
        """After the grace time the connection is cut."""
        self.say("stoh_start_operation wait 1.1")
        self.dhs.stopService()
        self.clock.advance(1.5)
        self.assertEqual(self.attempt.transport.closed, ["lose", "abort"])


class FixedOperationTests(DhsTestCase):
    """Completions in protocol 1, where little fits."""

    version = 1

    def test_a_result_that_does_not_fit(self) -> None:
        """Nobody waits for ever: the operation has failed."""
        self.connect(LoopServer())
        self.attempt.transport.clear()
        handle = "1." + "1" * 60
        self.say(
            f"stoh_start_operation echo 1.1 {'x' * 165}",
            f"stoh_start_operation echo {handle} {'x' * 105}",
            "stoh_start_operation exit 1.2",
        )
        received = self.attempt.transport.value()
        first, *others = [received[at : at + 200].rstrip(b"\0").decode() for at in range(0, len(received), 200)]
        self.assertTrue(first.startswith("htos_operation_completed echo 1.1 LocalProtocolError {"), first)
        self.assertEqual(
            others,
            [f"htos_operation_completed echo {handle} failed", "htos_operation_completed exit 1.2 SystemExit 3"],
        )
        self.flushLoggedErrors(LocalProtocolError, SystemExit)


class MarkTests(SynchronousTestCase):
    """The decorators mark methods; classes inherit and replace them."""

    def test_inheritance(self) -> None:
        """A subclass has the operations of its base, and can replace them."""

        class Other(LoopServer):
            @operation("echo")
            async def echo_backwards(self, run: Run, *words: str) -> tuple[str, ...]:
                return words[::-1]

        self.assertEqual(Other._operations["echo"], ("echo_backwards", False))
        self.assertEqual(Other._operations["readFile"], ("read_file", True))
        self.assertEqual(LoopServer._operations["echo"], ("echo", False))
        self.assertEqual(Other._handlers, {"stoh_start_operation": ("started_one",)})


class MistakeTests(SynchronousTestCase):
    def test_no_name(self) -> None:
        """The decorator without a name is refused where it stands; the method would never be called."""

        def get_loop_tip(run: Run) -> None:
            """Nothing."""

        decorator: Any = operation
        error = self.assertRaises(TypeError, decorator, get_loop_tip)
        self.assertIn('@operation("getLoopTip")', str(error))
