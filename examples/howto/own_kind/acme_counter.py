"""
A kind of connection: the ACME particle counter, which wants a password and then sends counts when it likes.

    > LOGIN hunter2
    < WELCOME
    < COUNT 17
    < COUNT 21
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any, Literal

from pydantic import PositiveInt, SecretStr
from twisted.internet.defer import Deferred, fail

from equipnet.connection.config import AddressText, ConnectionSection, RetrySection
from equipnet.connection.protocol import WireProtocol
from equipnet.connection.service import ClientConnection
from equipnet.connection.state import State
from equipnet.errors import EquipmentConnectionError, NotConnected, RemoteProtocolError
from equipnet.interfaces import IConnection, INode

#: How many bytes a line may have.
LONGEST_LINE = 100


class CounterProtocol(WireProtocol):
    """Lines to and from one counter."""

    owner: Counter

    def __init__(self, owner: Counter) -> None:
        super().__init__(owner)
        self._begun = b""

    def begin(self) -> None:
        # The transport is up. The conversation can be used when the counter has accepted us.
        self.transport.write(b"LOGIN %s\n" % self.owner.password.encode())

    def dataReceived(self, data: bytes) -> None:
        *lines, self._begun = (self._begun + data).split(b"\n")
        for line in lines:
            if not self.hanging_up:
                self._take(line)
        if len(self._begun) > LONGEST_LINE:
            self.hang_up(RemoteProtocolError(f"{self.peer} sent a line without an end", self._begun))

    def _take(self, line: bytes) -> None:
        word, _, number = line.partition(b" ")
        if word == b"WELCOME":
            self.owner.usable(self, "the counter accepted us")
        elif word == b"COUNT" and number.isdigit():
            if self.taps:
                self.tapped("in", line + b"\n", int(number))
            self.owner.counted(int(number))
        else:
            self.hang_up(RemoteProtocolError(f"{self.peer} sent {line!r}", line))

    def fail_pending(self, error: EquipmentConnectionError) -> None:
        self.owner.fail_all(error)


class Counter(ClientConnection):
    """
    One counter.

    Parameters
    ----------
    address, settings
        As `ClientConnection` says.
    password
        What the counter wants to hear.
    keep
        How many counts are kept that nobody has asked for; then the oldest are dropped.
    """

    kind = "acme-counter"

    def __init__(self, address: Any, password: str, keep: int = 100, **settings: Any) -> None:
        super().__init__(address, **settings)
        self.password = password
        self._counts: deque[int] = deque(maxlen=keep)
        self._waiting_for_count: list[Deferred[int]] = []

    def next_count(self) -> Deferred[int]:
        """
        Wait for the next count.

        Returns
        -------
        Deferred[int]
            Fails with `ConnectionLost` or `Disconnected` when the connection goes first, with `NotConnected` when there
            is none.
        """
        if self.state is not State.READY:
            return fail(NotConnected(f"{self.name} is {self.state.value}"))
        count: Deferred[int] = Deferred(self._waiting_for_count.remove)
        if self._counts:
            count.callback(self._counts.popleft())
        else:
            self._waiting_for_count.append(count)
        return count

    def build_protocol(self) -> WireProtocol:
        return CounterProtocol(self)

    # What the protocol tells

    def counted(self, count: int) -> None:
        if self._waiting_for_count:
            self._waiting_for_count.pop(0).callback(count)
        else:
            self._counts.append(count)

    def fail_all(self, error: EquipmentConnectionError) -> None:
        self._counts.clear()
        # Who is told may wait again.
        waiting, self._waiting_for_count = self._waiting_for_count, []
        for each in waiting:
            each.errback(error)


class CounterSection(ConnectionSection):
    """A ``[connections.NAME]`` table of kind ``acme-counter``."""

    kind: Literal["acme-counter"] = "acme-counter"
    address: AddressText
    password: SecretStr
    keep: PositiveInt = 100
    retry: RetrySection = RetrySection()

    def build(self, name: str, node: INode, folder: Path, reactor: Any) -> IConnection:
        return Counter(
            self.address,
            self.password.get_secret_value(),
            self.keep,
            name=name,
            retry=self.retry.policy(),
            reactor=reactor,
        )
