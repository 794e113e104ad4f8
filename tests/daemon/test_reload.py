"""Tests of reading the configuration file again, without signals."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from equipnet.daemon.config import NodeConfig, inspect_config
from equipnet.daemon.reload import Reloading
from equipnet.daemon.tree import Node, Reloaded
from tests.daemon.kinds import Diary, FakeConnection, fake_kind


class ReloadingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.diary = Diary()
        self.kinds = {"fake": fake_kind(self.diary)}
        self.file = Path(self.mktemp()).absolute()
        self.accepted: list[NodeConfig] = []
        self.events: list[LogEvent] = []
        self.write(a="")
        self.node = Node.from_config(self.read(), self.clock)
        self.reloading = Reloading(self.node, self.file, self.read, self.accepted.append, self.clock)
        self.node.startService()
        self.diary.take()

        @implementer(ILogObserver)
        def observer(event: LogEvent) -> None:
            self.events.append(event)

        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def write(self, **tables: str) -> None:
        connections = (f'[connections.{name}]\nkind = "fake"\n{table}\n' for name, table in tables.items())
        self.file.write_text("".join(connections))

    def read(self) -> NodeConfig:
        return inspect_config(self.file, self.kinds, {})

    def said(self) -> list[tuple[LogLevel, str]]:
        """Take what was logged."""
        said = [(event["log_level"], formatEvent(event)) for event in self.events]
        self.events.clear()
        return said

    def close(self, name: str) -> None:
        connection = self.node.connection(name)
        assert isinstance(connection, FakeConnection)
        connection.closed.callback(None)

    def test_read_again(self) -> None:
        """
        The node becomes what the file says, and one line sums up what was done.
        """
        self.write(b="", c="")
        self.reloading.request()
        self.assertEqual(list(self.node.connections), ["b", "c"])
        self.assertEqual(self.said(), [(LogLevel.info, f"{self.file} was read again: started b, c; stopped a; kept 0")])
        self.reloading.request()
        self.assertEqual(
            self.said(), [(LogLevel.info, f"{self.file} was read again: no connection has changed; kept 2")]
        )

    def test_page(self) -> None:
        """
        The line that the guide shows is one.
        """
        kept = tuple(str(number) for number in range(27))
        said = str(Reloaded(("laser",), ("camera",), ("etcher", "images"), kept))
        page = Path(__file__).parents[2] / "docs" / "howto" / "configure.md"
        self.assertIn(f"```text\n/etc/equipnet/lab.toml was read again: {said}\n```", page.read_text())

    def test_mistakes(self) -> None:
        """
        A file with mistakes changes nothing, not the log either, and everything that is wrong with it is said.
        """
        self.write(a="valu = 1", b='faults = ["build"]')
        self.reloading.request()
        self.assertEqual(
            self.said(),
            [
                (
                    LogLevel.error,
                    f"nothing has changed, since {self.file} cannot be used:\n"
                    f"{self.file}:3: connections.a.valu: unknown key; did you mean 'value'?\n"
                    f"{self.file}:4: connections.b: RuntimeError: no such thing today\n"
                    f"{self.file}: 2 problems",
                )
            ],
        )
        self.assertEqual(list(self.node.connections), ["a"])
        self.assertEqual(self.accepted, [])
        self.write(a="valu = 1")
        self.reloading.request()
        self.assertEqual([text.count("\n") for _, text in self.said()], [2])
        self.write(a="", b="")
        self.reloading.request()
        self.assertEqual([text for _, text in self.said()], [f"{self.file} was read again: started b; kept 1"])

    def test_no_file(self) -> None:
        """
        Nor does a file that is not there.
        """
        self.file.unlink()
        self.reloading.request()
        self.assertEqual(
            self.said(),
            [
                (
                    LogLevel.error,
                    f"nothing has changed, since {self.file} cannot be used:\n"
                    f"{self.file}: cannot be read: No such file or directory",
                )
            ],
        )
        self.assertEqual(list(self.node.connections), ["a"])

    def test_empty(self) -> None:
        """
        Nor does an empty one, unless the node has no connections anyway.
        """
        self.write()
        self.reloading.request()
        ((level, text),) = self.said()
        self.assertEqual(level, LogLevel.error)
        self.assertIn("connections: there are none any more; to close them all, stop the node\n", text)
        self.assertEqual((list(self.node.connections), self.accepted), (["a"], []))
        self.node.removeService(self.node.connection("a"))
        self.reloading.request()
        self.assertEqual(
            self.said(), [(LogLevel.info, f"{self.file} was read again: no connection has changed; kept 0")]
        )

    def test_worse(self) -> None:
        """
        Code of a user that wants to end the process when it is built does not; nothing has changed, and the next time
        is as any other.
        """
        self.write(a="", b='faults = ["exit"]')
        self.reloading.request()
        self.assertEqual(len(self.flushLoggedErrors(SystemExit)), 1)
        self.assertEqual([text for _, text in self.said()], [f"reading {self.file} again"])
        self.write(a="", c="")
        self.reloading.request()
        self.assertEqual(list(self.node.connections), ["a", "c"])

    def test_accepted(self) -> None:
        """
        Who wants to know is told of the configuration as soon as nothing is wrong with it.
        """
        self.write(a='faults = ["slow"]')
        self.reloading.request()
        self.write(b="")
        self.reloading.request()
        self.assertEqual([list(config.connections) for config in self.accepted], [["a"], ["b"]])
        self.assertEqual(list(self.node.connections), ["a"])

    def test_one_at_a_time(self) -> None:
        """
        What is asked for while connections are still being closed is done afterwards, once, with the file as it is by
        then.
        """
        self.write(a='faults = ["slow"]')
        self.reloading.request()
        self.write(a="value = 1")
        self.reloading.request()
        self.diary.take()
        self.write(b="")
        self.reloading.request()
        self.write(c="")
        self.reloading.request()
        self.assertEqual(self.diary.take(), [])
        self.close("a")
        self.assertEqual(self.diary.take(), ["a starts", "c is built", "a closes", "c starts"])
        self.assertEqual(len(self.said()), 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopped(self) -> None:
        """
        While the node is being stopped, and after that, nothing happens.
        """
        self.write(a='faults = ["slow"]')
        self.reloading.request()
        self.said()
        self.node.stopService()
        self.diary.take()
        self.write(b="")
        self.reloading.request()
        self.close("a")
        self.reloading.request()
        self.assertEqual((self.diary.take(), self.said()), ([], []))
        self.assertEqual(list(self.node.connections), ["a"])

    def test_stopped_meanwhile(self) -> None:
        """
        What was under way when the node is stopped ends without a word about what it would have done, and what waited
        for it is not begun.
        """
        self.write(a='faults = ["slow"]')
        self.reloading.request()
        self.write(b="")
        self.reloading.request()
        self.reloading.request()
        self.said()
        stopped = self.node.stopService()
        self.diary.take()
        self.close("a")
        self.successResultOf(stopped)
        self.assertEqual((self.diary.take(), self.said()), ([], []))
