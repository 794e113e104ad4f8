"""
Sending a small message at once.

Twisted's transports send in the next turn of the reactor, after asking the system to say when the socket can be written
to: three system calls more for each message, which is half the cost of a short query. A conversation of requests and
answers gains from sending at once; one that sends many messages in one turn does not, since Twisted joins those.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.tcp import Connection

#: Longer messages are left to Twisted, which sends them in pieces.
AT_ONCE = 16384


def sender(transport: Any) -> Callable[[bytes], None]:
    """
    Give the quickest way to send short messages over a transport.

    Parameters
    ----------
    transport
        Any transport. Where it is not a plain socket of Twisted's own (TLS, datagrams, memory), its ``write`` is the
        quickest way.

    Returns
    -------
    Callable[[bytes], None]
        Sends the bytes after all that was written before, as ``write`` does: what the system does not take, and what
        goes wrong, is left to ``write``.
    """
    write: Callable[[bytes], None] = transport.write
    if not isinstance(transport, Connection) or getattr(transport, "TLS", False):
        return write
    send = transport.socket.send

    def send_at_once(data: bytes) -> None:
        # What waits already goes first. _tempDataBuffer is where FileDescriptor.write puts it, dataBuffer where doWrite
        # does.
        if transport.dataBuffer or transport._tempDataBuffer or transport.disconnecting or len(data) > AT_ONCE:
            write(data)
            return
        try:
            sent = send(data)
        except OSError:
            # The system takes nothing now, or the connection is gone: Twisted finds out which.
            sent = 0
        if sent < len(data):
            write(data[sent:])

    return send_at_once
