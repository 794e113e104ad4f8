"""SIGHUP: the configuration file is read again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from equipnet.daemon.config import NodeConfig, complaint
from equipnet.daemon.tree import Node
from equipnet.errors import ConfigError, Problem


class Reloading(Service):
    """
    Read the configuration file of a running node again when SIGHUP comes; a file with mistakes changes nothing.

    Nor does one without connections, as a file is that an editor has just emptied to write it anew.

    A signal that comes while that is under way lets it begin once more when it is done, with the file as it is then.
    While the node is being stopped nothing happens.

    Parameters
    ----------
    node
        The node.
    file
        What the log calls the file.
    read
        Reads it.
    accepted
        Is told of a configuration that the node takes on.
    reactor
        Runs the node.
    """

    _log = Logger()

    def __init__(
        self,
        node: Node,
        file: Path,
        read: Callable[[], NodeConfig],
        accepted: Callable[[NodeConfig], object],
        reactor: Any,
    ) -> None:
        self._node = node
        self._file = file
        self._read = read
        self._accepted = accepted
        self._reactor = reactor
        self._one_at_a_time = DeferredLock()
        self._terminal: int | None = None

    def startService(self) -> None:
        super().startService()
        if hasattr(signal, "SIGHUP"):  # Windows has none
            self._terminal = next(filter(os.isatty, range(3)), None)
            signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._hung_up))

    def request(self) -> None:
        """Read the file again, now or as soon as what is under way is done."""
        if not self._one_at_a_time.waiting:
            done = self._one_at_a_time.run(lambda: Deferred.fromCoroutine(self._reload()))
            done.addErrback(lambda reason: self._log.failure("reading {file} again", reason, file=self._file))

    def _hung_up(self) -> None:
        # The same signal tells that the terminal was closed. Nobody would know of a node that went on then.
        if self._terminal is None or os.isatty(self._terminal):
            self.request()
        elif self._node.running:
            self._log.info("the terminal that this node was started from is gone")
            self._reactor.stop()

    async def _reload(self) -> None:
        if not self._node.running:
            return
        try:
            config = self._read()
            if self._node.connections and not (config.connections or config.problems):
                problem = Problem(1, "connections", "there are none any more; to close them all, stop the node")
                raise ConfigError(config.file, (problem,))
            reloading = self._node.reload(config)
        except (ConfigError, OSError) as error:
            said = complaint(self._file, error)
            self._log.error("nothing has changed, since {file} cannot be used:\n{said}", file=self._file, said=said)
            return
        self._accepted(config)
        done = await reloading
        if self._node.running:
            self._log.info("{file} was read again: {done}", file=self._file, done=done)
