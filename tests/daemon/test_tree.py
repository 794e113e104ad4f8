"""Tests of a node: how it is built, and in which order its connections start and close."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import permutations
from pathlib import Path
from typing import cast

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver, MemoryReactorClock
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from equipnet.daemon.config import NodeConfig, inspect_config, read_config
from equipnet.daemon.tree import Node, Reloaded
from equipnet.errors import ConfigError
from equipnet.interfaces import IConnection, INode
from tests.daemon.kinds import KINDS, Diary, FakeConnection, fake_kind


class BuildTests(SynchronousTestCase):
    def config(self, text: str) -> NodeConfig:
        self.file = Path(self.mktemp())
        self.file.write_text(text)
        return read_config(self.file, KINDS, {"PASSWORD": "hunter2"})

    def test_children(self) -> None:
        """
        Each connection is a child of the node under its name; nothing runs yet.
        """
        node = Node.from_config(
            self.config(
                '[node]\nname = "hutch"\n[connections.a]\nkind = "server"\nlisten = "tcp:0"\n'
                '[connections.b]\nkind = "meter"\naddress = "h:1"'
            ),
            Clock(),
        )
        verifyObject(INode, node)
        self.assertEqual(node.name, "hutch")
        self.assertEqual(list(node.connections), ["a", "b"])
        self.assertIs(node.getServiceNamed("a"), node.connections["a"])
        self.assertIs(node.connection("a"), node.connections["a"])
        self.assertFalse(node.running)
        self.assertFalse(node.connection("a").running)

    def test_unknown_connection(self) -> None:
        """
        Asking for a connection that there is not says which there are.
        """
        node = Node.from_config(self.config('[connections.b]\nkind = "meter"\naddress = "h:1"'), Clock())
        error = self.assertRaises(KeyError, node.connection, "c")
        self.assertEqual(error.args, ("there is no connection 'c'; there are: 'b'",))
        self.assertEqual(
            self.assertRaises(KeyError, Node("n", 1.0, Clock()).connection, "c").args,
            ("there is no connection 'c'; there are: none",),
        )

    def test_what_cannot_be_built(self) -> None:
        """
        Every connection that cannot be built is reported, on its line and without its secrets.
        """
        config = self.config(
            "".join(
                f'[connections.{serial}]\nkind = "meter"\naddress = "h:1"\npassword = "${{env:PASSWORD}}"\n'
                f'serial = "{serial}"\n'
                for serial in ("fine", "gone", "told", "bug")
            )
        )
        error = self.assertRaises(ConfigError, Node.from_config, config, Clock())
        self.assertEqual(
            str(error).replace(f"{self.file}:", "").split("\n"),
            [
                f"6: connections.gone: No such file or directory: '{config.folder / 'meter.pem'}'",
                "11: connections.told: ValueError: is not accepted (the reason is not shown: it would tell a secret)",
                "16: connections.bug: TypeError: build() takes 3 arguments",
            ],
        )

    def test_at_once(self) -> None:
        """
        What is wrong with the file and what only shows when a connection is built are said together; a connection
        whose table is wrong, or lacks a value from elsewhere, is not built.
        """
        file = Path(self.mktemp())
        file.write_text(
            '[connections.a]\nkind = "meter"\naddress = "h:1"\nserial = "gone"\n'
            '[connections.b]\nkind = "meter"\naddress = "h:1"\nserial = "bug"\nsize = "x"\n'
            '[connections.c]\nkind = "meter"\naddress = "h:1"\nserial = "bug"\npassword = "${env:NONE}"\n'
            '[connections.d]\nkind = "meter"\naddress = "h:1"\nserial = "bug"\n'
        )
        config = inspect_config(file, KINDS, {})
        self.assertEqual(list(config.connections), ["a", "d"])
        error = self.assertRaises(ConfigError, Node.from_config, config, Clock())
        self.assertEqual(
            str(error).replace(f"{file}:", "").split("\n"),
            [
                f"1: connections.a: No such file or directory: '{config.folder / 'meter.pem'}'",
                "9: connections.b.size: must be a whole number, not 'x'",
                "14: connections.c.password: the environment variable NONE is not set",
                "15: connections.d: TypeError: build() takes 3 arguments",
            ],
        )
        file.write_text("[connections")
        self.assertRaises(ConfigError, Node.from_config, inspect_config(file, KINDS, {}), Clock())


class NodeTests(SynchronousTestCase):
    """What the tests of a node of fake connections share."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.diary = Diary()
        self.node = Node("bl831", 2.0, self.clock)
        self.fakes: dict[str, FakeConnection] = {}
        # It asks for twisted.trial.unittest.TestCase, and uses addCleanup only.
        self.log = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)  # type: ignore[arg-type]

    def add(self, name: str, *needs: str, faults: Iterable[str] = ()) -> FakeConnection:
        fake = self.fakes[name] = FakeConnection("", self.diary, faults)
        self.node.add(name, cast(IConnection, fake), needs)
        return fake

    def warnings(self) -> list[str]:
        """What was logged as a warning or worse."""
        levels = (LogLevel.warn, LogLevel.critical)
        return [formatEvent(event) for event in self.log if event["log_level"] in levels]


class StartTests(NodeTests):
    def test_order(self) -> None:
        """
        What a connection needs starts before it; otherwise the order is that of the file.
        """
        self.add("a", "c")
        self.add("b")
        self.add("c", "d")
        self.add("d")
        self.node.startService()
        self.assertEqual(self.diary.take(), ["d starts", "c starts", "a starts", "b starts"])
        self.assertTrue(self.node.running)

    def test_failure(self) -> None:
        """
        A connection that cannot be started is logged, and the others start.
        """
        self.add("a", "b")
        self.add("b", faults=["start"])
        self.node.privilegedStartService()
        self.node.startService()
        self.assertEqual(self.diary.take(), ["b starts", "a starts"])
        (failure,) = self.flushLoggedErrors(RuntimeError)
        self.assertEqual(failure.getErrorMessage(), "no start today")
        self.assertEqual(self.warnings(), ["b: cannot be started"])

    def test_added_later(self) -> None:
        """
        A connection that joins a running node starts at once; one that is removed closes.
        """
        self.node.startService()
        fake = self.add("a")
        self.assertEqual(self.diary.take(), ["a starts"])
        fake.disownServiceParent()
        self.assertEqual(self.diary.take(), ["a closes"])
        self.assertEqual(dict(self.node.connections), {})

    def test_before_the_reactor(self) -> None:
        """
        A node that is started before its reactor runs, as twistd does, starts its connections when that does; one that
        is stopped by then does not.
        """
        for stopped, starts in ((False, ["a starts"]), (True, [])):
            reactor = MemoryReactorClock()
            self.node = Node("bl831", 2.0, reactor)
            self.add("a")
            self.node.startService()
            self.assertEqual(self.diary.take(), [])
            if stopped:
                self.successResultOf(self.node.stopService())
                self.diary.take()
            reactor.run()
            self.assertEqual(self.diary.take(), starts)

    def test_other_services(self) -> None:
        """
        A child that is no connection starts and ends with the node.
        """
        other = Service()
        other.setServiceParent(self.node)
        self.node.startService()
        self.assertTrue(other.running)
        self.successResultOf(self.node.stopService())
        self.assertFalse(other.running)
        other.disownServiceParent()
        self.assertEqual(list(self.node), [])

    def test_any_order(self) -> None:
        """
        In which order the file has the connections makes no difference to what they need.
        """
        for names in permutations("abcd"):
            self.node = Node("bl831", 2.0, self.clock)
            for name in names:
                self.add(name, *{"a": ["b"], "b": ["c", "d"]}.get(name, []))
            self.node.startService()
            started = [entry[0] for entry in self.diary.take()]
            self.assertEqual(len(started), 4)
            for user, needed in ("ab", "bc", "bd"):
                self.assertLess(started.index(needed), started.index(user), names)

    def test_failure_of_one_added_later(self) -> None:
        """
        A connection that joins a running node and cannot be started is logged, and is a part of it all the same.
        """
        self.node.startService()
        self.add("a", faults=["start"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(self.warnings(), ["a: cannot be started"])
        self.assertEqual(list(self.node.connections), ["a"])


class StopTests(NodeTests):
    def test_order(self) -> None:
        """
        A connection closes before those it needs are asked to; those without relation close at the same time.
        """
        self.add("a", "b", faults=["slow"])
        self.add("b", "c", faults=["slow"])
        self.add("c")
        self.add("d", faults=["slow"])
        self.node.startService()
        self.diary.take()
        stopped = self.node.stopService()
        self.assertEqual(self.diary.take(), ["d closes", "a closes"])
        self.fakes["a"].closed.callback(None)
        self.assertEqual(self.diary.take(), ["b closes"])
        self.fakes["b"].closed.callback(None)
        self.assertEqual(self.diary.take(), ["c closes"])
        self.assertNoResult(stopped)
        self.fakes["d"].closed.callback(None)
        self.assertIsNone(self.successResultOf(stopped))
        self.assertFalse(self.node.running)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.warnings(), [])

    def test_two_users(self) -> None:
        """
        A connection that two others need waits for both.
        """
        self.add("a", "c", faults=["slow"])
        self.add("b", "c", faults=["slow"])
        self.add("c")
        self.node.startService()
        stopped = self.node.stopService()
        self.fakes["a"].closed.callback(None)
        self.assertFalse("c closes" in self.diary.take())
        self.fakes["b"].closed.callback(None)
        self.assertEqual(self.diary.take(), ["c closes"])
        self.successResultOf(stopped)

    def test_grace(self) -> None:
        """
        After the grace the node is stopped, whatever still hangs; what hangs is logged.
        """
        self.add("a", faults=["slow"])
        self.add("b")
        self.node.startService()
        stopped = self.node.stopService()
        self.clock.advance(1.9)
        self.assertNoResult(stopped)
        self.clock.advance(0.1)
        self.assertIsNone(self.successResultOf(stopped))
        self.assertEqual(self.warnings(), ["a: not closed after 2.0 s"])
        self.fakes["a"].closed.errback(RuntimeError("too late"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_grace_is_shared(self) -> None:
        """
        Those that close one after the other share the grace, so that each is asked to close; time that one does not use
        is for the others.
        """
        for name, needs in (("a", ["b"]), ("b", ["c"]), ("c", [])):
            self.add(name, *needs, faults=["slow"])
        self.node.startService()
        stopped = self.node.stopService()
        self.diary.take()
        self.clock.advance(0.2)
        self.fakes["a"].closed.callback(None)
        self.assertEqual(self.diary.take(), ["b closes"])
        self.clock.advance(0.9)
        self.assertEqual(self.diary.take(), ["c closes"])
        self.clock.advance(0.8)
        self.assertNoResult(stopped)
        self.clock.advance(0.1)
        self.successResultOf(stopped)
        self.assertEqual(self.warnings(), ["b: not closed after 0.9 s", "c: not closed after 0.9 s"])

    def test_no_grace(self) -> None:
        """
        Without any grace every connection is asked to close, and the node is stopped in the reactor's next turn.
        """
        self.node = Node("hasty", 0.0, self.clock)
        self.add("a", "b", faults=["slow"])
        self.add("b", faults=["slow"])
        stopped = self.node.stopService()
        self.clock.advance(0)
        self.clock.advance(0)
        self.successResultOf(stopped)
        self.assertEqual(self.diary.take(), ["a closes", "b closes"])

    def test_failures(self) -> None:
        """
        A connection whose end fails, at once or later, is logged; those it needs are closed all the same.
        """
        self.add("a", "c", faults=["stop"])
        self.add("b", "c", faults=["slow"])
        self.add("c")
        self.node.startService()
        self.diary.take()
        stopped = self.node.stopService()
        self.fakes["b"].closed.errback(RuntimeError("no end either"))
        self.successResultOf(stopped)
        self.assertEqual(self.diary.take(), ["b closes", "a closes", "c closes"])
        failures = [failure.getErrorMessage() for failure in self.flushLoggedErrors(RuntimeError)]
        self.assertEqual(failures, ["no end today", "no end either"])
        self.assertEqual(self.warnings(), ["a: failed to close", "b: failed to close"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_empty(self) -> None:
        """
        A node without connections stops at once.
        """
        self.assertIsNone(self.successResultOf(self.node.stopService()))


class ReloadTests(NodeTests):
    """A node that becomes what another configuration describes."""

    def setUp(self) -> None:
        super().setUp()
        self.kinds = {"fake": fake_kind(self.diary)}
        self.file = Path(self.mktemp())

    def config(self, node: str = "", **tables: str) -> NodeConfig:
        """Read a file with a connection for each keyword, and the lines of its table."""
        connections = (f'[connections.{name}]\nkind = "fake"\n{table}\n' for name, table in tables.items())
        self.file.write_text(f'[node]\nname = "bl831"\n{node}\n' + "".join(connections))
        return inspect_config(self.file, self.kinds, {})

    def run_node(self, **tables: str) -> None:
        self.node = Node.from_config(self.config(**tables), self.clock)
        self.node.startService()
        self.diary.take()

    def reload(self, node: str = "", **tables: str) -> Deferred[Reloaded]:
        return self.node.reload(self.config(node, **tables))

    def closed(self, connection: IConnection) -> None:
        """Let a connection that closes slowly be closed."""
        cast(FakeConnection, connection).closed.callback(None)

    def test_difference(self) -> None:
        """
        What is new starts, what is gone is closed, what has changed is closed and made anew, and the rest is not
        touched; everything is built before anything is closed, and closed before anything is started.
        """
        self.run_node(same="", gone="", changed="value = 1")
        before = dict(self.node.connections)
        reloaded = self.reload(new="", changed="value = 2", same="")
        self.assertEqual(
            self.diary.take(),
            ["new is built", "changed is built", "changed closes", "gone closes", "new starts", "changed starts"],
        )
        self.assertEqual(self.successResultOf(reloaded), Reloaded(("new",), ("gone",), ("changed",), ("same",)))
        self.assertEqual(list(self.node.connections), ["new", "changed", "same"])
        self.assertIs(self.node.connection("same"), before["same"])
        self.assertIsNot(self.node.connection("changed"), before["changed"])
        self.assertIs(self.node.getServiceNamed("changed"), self.node.connection("changed"))
        self.assertIsNone(before["gone"].parent)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_words(self) -> None:
        """
        What was done is said in one line.
        """
        self.assertEqual(
            str(Reloaded(("a", "b"), ("c",), ("d",), ("e", "f", "g"))), "started a, b; stopped c; restarted d; kept 3"
        )
        self.assertEqual(str(Reloaded((), (), (), ())), "no connection has changed; kept 0")

    def test_same(self) -> None:
        """
        A file that says the same touches nothing, and is known as the present one.
        """
        self.run_node(a="value = 1", b="")
        for _ in range(2):
            self.assertEqual(self.successResultOf(self.reload(b="", a="value = 1")).kept, ("b", "a"))
        self.assertEqual(self.diary.take(), [])
        self.assertEqual(list(self.node.connections), ["b", "a"])

    def test_the_node_itself(self) -> None:
        """
        Its name and its grace apply at once, the grace to what is closed by then, too.
        """
        self.run_node(a='faults = ["slow"]')
        parent = MultiService()
        self.node.setServiceParent(parent)
        reloaded = self.reload("grace = 5", b="")
        self.clock.advance(4.9)
        self.assertNoResult(reloaded)
        self.clock.advance(0.1)
        self.successResultOf(reloaded)
        self.assertEqual(self.warnings(), ["a: not closed after 5.0 s"])
        self.file.write_text('[node]\nname = "hutch"')
        self.successResultOf(self.node.reload(inspect_config(self.file, self.kinds, {})))
        self.assertEqual(self.node.name, "hutch")
        self.assertIs(parent.getServiceNamed("hutch"), self.node)

    def test_problems(self) -> None:
        """
        A file with mistakes, or of which something cannot be built, changes nothing, and everything is said.
        """
        self.run_node(a="value = 1", b="")
        before = dict(self.node.connections)
        for table, said in (
            ("valu = 2", ["6: connections.a.valu: unknown key; did you mean 'value'?"]),
            ('faults = ["build"]', ["4: connections.a: RuntimeError: no such thing today"]),
            ('faults = ["nothing"]', ["4: connections.a: TypeError: ('Could not adapt', 7, "]),
        ):
            error = self.assertRaises(ConfigError, self.reload, "grace = 9", a=table, c='faults = ["build"]')
            problems = str(error).replace(f"{self.file}:", "").split("\n")
            self.assertEqual(problems[1:], ["7: connections.c: RuntimeError: no such thing today"])
            self.assertTrue(problems[0].startswith(said[0]), problems[0])
            self.assertEqual(dict(self.node.connections), before)
        self.assertEqual({entry[1:] for entry in self.diary.take()}, {" is built"})
        self.node.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.successResultOf(self.reload(a="value = 1", b="")).kept, ("a", "b"))

    def test_order(self) -> None:
        """
        Users close before what they need, across connections that stay; what is needed starts first.
        """
        self.run_node(
            user='needs = ["between"]\nvalue = 1\nfaults = ["slow"]',
            between='needs = ["needed"]',
            needed="value = 1",
        )
        old = self.node.connection("user")
        reloaded = self.reload(user='needs = ["between"]\nvalue = 2', between='needs = ["needed"]', needed="value = 2")
        self.assertEqual(self.diary.take(), ["user is built", "needed is built", "user closes"])
        self.assertIs(self.node.connection("user"), old)
        self.closed(old)
        self.assertEqual(self.diary.take(), ["needed closes", "needed starts", "user starts"])
        self.assertEqual(self.successResultOf(reloaded).kept, ("between",))

    def test_grace_is_shared(self) -> None:
        """
        Only those that leave have a part of the grace.
        """
        self.run_node(
            user='needs = ["between"]\nvalue = 1\nfaults = ["slow"]',
            between='needs = ["needed"]',
            needed='value = 1\nfaults = ["slow"]',
        )
        reloaded = self.reload(between='needs = ["needed"]', needed="value = 2")
        self.diary.take()
        self.clock.advance(0.9)
        self.assertEqual(self.diary.take(), [])
        self.clock.advance(0.1)
        self.assertEqual(self.diary.take(), ["needed closes"])
        self.clock.advance(1)
        self.assertEqual(self.successResultOf(reloaded), Reloaded((), ("user",), ("needed",), ("between",)))

    def test_closed_first(self) -> None:
        """
        Nothing new starts before all that leaves is closed, since it may need a port that another one has.
        """
        self.run_node(a='value = 1\nfaults = ["slow"]', b="value = 1")
        a = self.node.connection("a")
        self.reload(a="value = 2", b="value = 2")
        self.assertEqual(self.diary.take(), ["a is built", "b is built", "b closes", "a closes"])
        self.closed(a)
        self.assertEqual(self.diary.take(), ["a starts", "b starts"])

    def test_never_closed(self) -> None:
        """
        After the grace what is new starts, whatever still hangs; the end of the node does not wait for that again.
        """
        self.run_node(a='value = 1\nfaults = ["slow"]')
        reloaded = self.reload(a="value = 2")
        self.diary.take()
        self.clock.advance(2)
        self.assertEqual(self.successResultOf(reloaded).restarted, ("a",))
        self.assertEqual(self.diary.take(), ["a starts"])
        self.assertEqual(self.warnings(), ["a: not closed after 2.0 s"])
        self.successResultOf(self.node.stopService())
        self.assertEqual(self.diary.take(), ["a closes"])

    def test_failures(self) -> None:
        """
        A connection that fails to close, and one that cannot be started, are logged; the others are as they should be.
        """
        self.run_node(a='faults = ["stop"]', b="")
        reloaded = self.reload(b="", c='faults = ["start"]\nneeds = ["d"]', d="")
        self.assertEqual(self.diary.take(), ["c is built", "d is built", "a closes", "d starts", "c starts"])
        self.assertEqual(self.successResultOf(reloaded), Reloaded(("c", "d"), ("a",), (), ("b",)))
        self.assertEqual(
            [failure.getErrorMessage() for failure in self.flushLoggedErrors(RuntimeError)],
            ["no end today", "no start today"],
        )
        self.assertEqual(self.warnings(), ["a: failed to close", "c: cannot be started"])

    def test_stopped_meanwhile(self) -> None:
        """
        A node that is stopped while something closes waits for that within its grace, asks nothing to close twice, and
        starts nothing more.
        """
        self.run_node(a='value = 1\nfaults = ["slow"]', b='faults = ["slow"]')
        a, b = self.node.connections.values()
        reloaded = self.reload(a="value = 2", b='faults = ["slow"]')
        self.diary.take()
        self.clock.advance(1)
        stopped = self.node.stopService()
        self.assertEqual(self.diary.take(), ["b closes"])
        self.closed(b)
        self.assertNoResult(stopped)
        self.closed(a)
        self.successResultOf(stopped)
        self.successResultOf(reloaded)
        self.assertEqual(self.diary.take(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_grace_after_a_reload(self) -> None:
        """
        The end of a node that was read again takes its grace and no more, in the order of the new needs.
        """
        self.run_node(a="", b='needs = ["a"]')
        self.successResultOf(self.reload("grace = 4", a='needs = ["b"]\nfaults = ["slow"]', b='faults = ["slow"]'))
        self.diary.take()
        stopped = self.node.stopService()
        self.assertEqual(self.diary.take(), ["a closes"])
        self.clock.advance(2)
        self.assertEqual(self.diary.take(), ["b closes"])
        self.clock.advance(1.9)
        self.assertNoResult(stopped)
        self.clock.advance(0.1)
        self.successResultOf(stopped)

    def test_added_by_hand(self) -> None:
        """
        A connection that no configuration described stays, unless the new one describes one of that name; one that was
        removed by hand comes back.
        """
        self.run_node(a="", b="")
        self.add("mine")
        self.add("taken")
        self.node.connection("b").disownServiceParent()
        self.diary.take()
        reloaded = self.successResultOf(self.reload(b="", taken=""))
        self.assertEqual(reloaded, Reloaded(("b",), ("a",), ("taken",), ()))
        self.assertEqual(list(self.node.connections), ["mine", "b", "taken"])

    def test_removed_by_hand_meanwhile(self) -> None:
        """
        A connection that is removed by hand while others are being closed stays away, and hinders nothing.
        """
        self.run_node(a='faults = ["slow"]', b="")
        a = self.node.connection("a")
        reloaded = self.reload(b="", c="")
        self.node.connection("b").disownServiceParent()
        self.closed(a)
        self.assertEqual(self.successResultOf(reloaded).started, ("c",))
        self.assertEqual(list(self.node.connections), ["c"])

    def test_not_running(self) -> None:
        """
        A node that does not run yet takes on the new connections without starting them.
        """
        self.node = Node.from_config(self.config(a=""), self.clock)
        self.successResultOf(self.reload(b=""))
        self.node.startService()
        self.assertEqual(self.diary.take()[-1], "b starts")
        self.assertEqual(list(self.node.connections), ["b"])
