"""Threads for an author's code that blocks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

#: How many functions block at the same time.
LIMIT = 50


class Threads:
    """
    Threads for functions that block, which nobody has to wait for at the end.

    The reactor's own threads are waited for when it ends, and a function that never returns would keep it for ever.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._pool: ThreadPool | None = None
        self._busy = 0

    def run(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """Run ``function`` in a thread, and give its result."""
        if self._pool is None:
            self._pool = ThreadPool(0, LIMIT, "dhs")
            self._pool.threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]  # a class there
            self._pool.start()
        self._busy += 1
        return deferToThreadPool(self._reactor, self._pool, function, *arguments).addBoth(self._done)

    def stop(self) -> None:
        """Let the threads end; those that are in an author's code end with the process."""
        pool, self._pool = self._pool, None
        if pool is not None and not self._busy:
            pool.stop()

    def _done(self, result: Any) -> Any:
        self._busy -= 1
        return result
