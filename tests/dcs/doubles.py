"""What the tests of the hardware server share: a dcss by hand, on a transport and a clock of the test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from equipnet.dcs import DhsConnection, HardwareServer
from equipnet.dcs.message import encode

from ..connection.doubles import Attempt, FakeEndpoint

#: dcss's first message: 200 bytes, filled with NUL (seen of a dcss).
ASKING = b"stoc_send_client_type" + b"\0" * 179

#: What dcss knows of a motor that stands at 10, with limits of 100 to either side.
CONFIGURATION = "stoh_configure_real_motor {name} loopDHS {name} 10.0 100.0 -100.0 1.0 1 1 0 1 1 0 0 0 0"


class Threads:
    """Stands for the threads: keeps each call until the test runs it."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def run(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.calls.append((lambda: function(*arguments), done))
        return done

    def finish(self) -> None:
        """Run the oldest call, and give its result."""
        call, done = self.calls.pop(0)
        try:
            result = call()
        except Exception as error:
            done.errback(error)
        else:
            done.callback(result)


class DhsTestCase(SynchronousTestCase):
    """A hardware server, and the test as its dcss."""

    version = 2

    def connect(self, application: HardwareServer, **options: Any) -> None:
        """Make the connection of ``application``, and let dcss take it."""
        self.start(application, **options)
        self.accept()

    def start(self, application: HardwareServer, **options: Any) -> None:
        """Start the connection of ``application``."""
        self.clock = Clock()
        self.endpoint = FakeEndpoint()
        self.threads = Threads()
        self.dhs = DhsConnection(
            self.endpoint,
            application,
            name="dcss",
            reactor=self.clock,
            protocol=self.version,
            run_in_thread=self.threads.run,
            **options,
        )
        self.dhs.startService()
        self.addCleanup(self.finish)

    def accept(self) -> None:
        """Let the attempt succeed, and dcss take the server."""
        self.attempt.succeed()
        self.attempt.protocol.dataReceived(ASKING)
        self.attempt.transport.clear()
        self.say("stoh_register_operation nothing nothing")

    @property
    def attempt(self) -> Attempt:
        return self.endpoint.last

    def say(self, *lines: str) -> None:
        """Let dcss say something."""
        self.attempt.protocol.dataReceived(b"".join(encode(line, self.version) for line in lines))

    def heard(self) -> list[str]:
        """Give the lines that dcss has got since it was asked last."""
        data = self.attempt.transport.value()
        self.attempt.transport.clear()
        lines = []
        while data:
            size = int(data[:12])
            lines.append(data[26 : 26 + size].rstrip(b"\0").decode("utf-8", "surrogateescape"))
            data = data[26 + size :]
        return lines

    def lose(self) -> None:
        """Let dcss close the connection."""
        self.attempt.lose(ConnectionDone())

    def come_back(self) -> None:
        """Let the connection be lost and made again."""
        self.lose()
        self.clock.advance(1)
        self.accept()

    def finish(self) -> None:
        """Stop the connection; nothing is left behind."""
        stopped = self.dhs.stopService()
        if not stopped.called:
            self.clock.advance(self.dhs._grace)
            if (
                self.attempt.protocol is not None
                and self.attempt.protocol._gone is None
                and self.attempt.transport.closed
            ):
                self.lose()
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])
