"""
Host names, looked up in threads that nobody waits for.

Twisted looks names up in the reactor's thread pool, and a reactor that stops waits for its threads: a name server that
does not answer would keep a daemon from ending for as long as the system goes on asking, half a minute or more.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from functools import partial
from threading import Thread
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IResolutionReceiver,
)
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

#: How many names can be looked up at the same time; the others wait.
THREADS = 10

_FAMILIES = {IPv4Address: socket.AF_INET, IPv6Address: socket.AF_INET6}
_SOCKET_TYPES = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}


@implementer(IHostResolution)
class _Resolution:
    """One name that is being looked up; it cannot be called back, as Twisted's own cannot."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Go on."""


@implementer(IHostnameResolver)
class HostNames:
    """
    Look up host names as the system does, without keeping the daemon from ending.

    Parameters
    ----------
    reactor
        Takes the results.
    look_up
        Does it: `socket.getaddrinfo`.
    """

    def __init__(self, reactor: Any, look_up: Callable[..., Any] = socket.getaddrinfo) -> None:
        self._reactor = reactor
        self._look_up = look_up
        self._pool = ThreadPool(0, THREADS, "host names")
        # ThreadPool.threadFactory is what it makes its threads with; daemon threads end with the process.
        self._pool.threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]
        self._pool.start()

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        wanted = _FAMILIES.keys() if addressTypes is None else addressTypes
        families = [family for kind, family in _FAMILIES.items() if kind in wanted]
        family = families[0] if len(families) == 1 else socket.AF_UNSPEC
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)

        def found(success: bool, result: Any) -> None:
            self._reactor.callFromThread(self._tell, resolutionReceiver, success, result, transportSemantics)

        self._pool.callInThreadWithCallback(
            found, self._look_up, hostName, portNumber, family, _SOCKET_TYPES[transportSemantics]
        )
        return resolution

    def _tell(self, receiver: IResolutionReceiver, success: bool, result: Any, transport: Any) -> None:
        # What getaddrinfo raises is how it says that there are none.
        for family, _, _, _, place in () if not success or isinstance(result, Failure) else result:
            if family == socket.AF_INET:
                receiver.addressResolved(IPv4Address(transport, *place))
            elif family == socket.AF_INET6:
                receiver.addressResolved(IPv6Address(transport, *place))
        receiver.resolutionComplete()
