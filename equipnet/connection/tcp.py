"""
What we do ourselves with Twisted's TCP sockets: sending a short message at once, and keeping the system's reason for a
loss.

Twisted's transports send in the next turn of the reactor, after asking the system to say when the socket can be written
to: three system calls more for each message, which is half the cost of a short query. A conversation of requests and
answers gains from sending at once; one that sends many messages in one turn does not, since Twisted joins those.

When reading fails, Twisted forgets the number of the error; people who look for a bad cable or a crashed controller
want it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.main import CONNECTION_LOST
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


class Cause:
    """
    Why the system could not read from a socket any more.

    Parameters
    ----------
    transport
        Any transport; the reason is known only for a plain or a TLS socket of Twisted's own.

    Attributes
    ----------
    error
        What the system said, None as long as it has said nothing.
    """

    __slots__ = ("error",)

    def __init__(self, transport: Any) -> None:
        self.error: OSError | None = None
        while hasattr(transport, "wrappedProtocol"):
            transport = transport.transport
        if isinstance(transport, Connection) and type(transport).doRead is Connection.doRead:
            # The reactor calls the attribute of the instance; this is Connection.doRead, but for the one line.
            transport.doRead = self._reading(transport)  # type: ignore[method-assign]

    def _reading(self, transport: Any) -> Any:
        def do_read() -> object:
            try:
                data = transport.socket.recv(transport.bufferSize)
            except BlockingIOError:
                return None
            except OSError as error:
                self.error = error
                return CONNECTION_LOST
            return transport._dataReceived(data)

        return do_read
