"""From an `Address` to the endpoint of Twisted that connects to it or listens on it."""

from __future__ import annotations

import os
import socket
import sys
from errno import ENAMETOOLONG
from typing import Any

from twisted.internet.abstract import isIPAddress
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    TCP6ClientEndpoint,
    TCP6ServerEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
    wrapClientTLS,
    wrapServerTLS,
)
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint

from equipnet.connection.address import Address
from equipnet.connection.tls import TLS
from equipnet.connection.udp import UDPClientEndpoint, UDPServerEndpoint

#: The most bytes that the path of a UNIX socket may have (``sockaddr_un``, less the zero at its end).
PATH_LIMIT = 107 if sys.platform == "linux" else 103


def client_endpoint(
    address: Address,
    reactor: Any,
    *,
    tls: TLS | None = None,
    local_host: str | None = None,
    family: socket.AddressFamily = socket.AF_UNSPEC,
) -> IStreamClientEndpoint:
    """
    Give the endpoint that connects to ``address``; it has no time limit of its own.

    Parameters
    ----------
    address
        Where to.
    reactor
        Connects.
    tls
        For a ``tls`` address; the system's authorities and no certificate of our own where nothing is given.
    local_host
        The local IP address to connect from.
    family
        With ``AF_UNSPEC`` all addresses of a host name are tried, a little apart (RFC 8305); else only those of this
        family.

    Raises
    ------
    OSError, ValueError
        When a file that ``tls`` names cannot be used, or the path of a UNIX socket is too long for the system.
    """
    local = None if local_host is None else (local_host, 0)
    # Twisted takes None for no limit; its annotations do not say so.
    no_limit: Any = None
    if address.scheme == "unix":
        return UNIXClientEndpoint(reactor, _socket_path(address.path), timeout=no_limit)
    if address.scheme == "udp":
        return UDPClientEndpoint(reactor, address.host, address.port, local_host or "", family)
    if ":" in address.host or family == socket.AF_INET6:
        endpoint: IStreamClientEndpoint = TCP6ClientEndpoint(reactor, address.host, address.port, no_limit, local)
    elif family == socket.AF_INET or isIPAddress(address.host):
        # An IP address must not queue for a thread behind names that cannot be resolved.
        endpoint = TCP4ClientEndpoint(reactor, address.host, address.port, no_limit, local)
    else:
        endpoint = HostnameEndpoint(reactor, address.host, address.port, no_limit, local)
    if address.scheme == "tls":
        endpoint = wrapClientTLS((tls or TLS()).for_client(address.host), endpoint)
    return endpoint


def server_endpoint(address: Address, reactor: Any, *, tls: TLS | None = None) -> IStreamServerEndpoint:
    """
    Give the endpoint that listens on ``address``.

    Raises
    ------
    OSError, ValueError
        When a file that ``tls`` names cannot be used, a ``tls`` address comes without a certificate, or the path of a
        UNIX socket is too long for the system.
    """
    if address.scheme == "unix":
        # The lock file tells a socket that a killed daemon left from one that is in use.
        return UNIXServerEndpoint(reactor, _socket_path(address.path), mode=0o660, wantPID=True)
    if address.scheme == "udp":
        return UDPServerEndpoint(reactor, address.host, address.port)
    kind = TCP6ServerEndpoint if ":" in address.host else TCP4ServerEndpoint
    endpoint: IStreamServerEndpoint = kind(reactor, address.port, 1024, address.host)
    if address.scheme == "tls":
        endpoint = wrapServerTLS((tls or TLS()).for_server(), endpoint)
    return endpoint


def _socket_path(path: str) -> str:
    # Python's own error has no number, and Twisted's client waits for ever when it gets one without.
    if len(os.fsencode(path)) > PATH_LIMIT:
        raise OSError(ENAMETOOLONG, os.strerror(ENAMETOOLONG), path)
    return path
