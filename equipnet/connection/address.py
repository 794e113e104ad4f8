"""
Addresses of equipment and of listening ports: from the texts that people write to values, and back.

Beside equipnet's own forms those of MSL-Equipment and VISA are read, in any letter case: a laboratory's register of
equipment can be used as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address

from equipnet.errors import AddressError

#: The port of a Prologix GPIB-ETHERNET controller, used where an address names none (Prologix manual).
PROLOGIX_PORT = 1234

#: The primary addresses that a GPIB device can have, and the secondary ones: 0 to 30 as it is set on the device, 96 to
#: 126 as it is sent (IEEE 488.1, and the ``++addr`` command of the Prologix manual).
_PRIMARY, _SECONDARY = frozenset(range(31)), frozenset((*range(31), *range(96, 127)))

_FORMS = (
    "tcp:HOST:PORT, tls:HOST:PORT, udp:HOST:PORT, unix:/PATH, HOST:PORT, [IPV6]:PORT, TCP::HOST::PORT, "
    "UDP::HOST::PORT, SOCKET::HOST::PORT, TCPIP::HOST::PORT::SOCKET or Prologix::HOST[::1234]::PAD[::SAD]"
)
_LISTEN_FORMS = (
    "tcp:PORT[:interface=IP], tls:PORT[:interface=IP], udp:PORT[:interface=IP], unix:/PATH, tcp:IP:PORT "
    "or tcp:[IPV6]:PORT"
)

_HOST = r"(?P<host>\[[0-9a-f:.%\w-]+\]|[^\s:\[\]/]+)"
_PORT = r"(?P<port>\d+)"
_OWN = re.compile(rf"(?:(?P<scheme>tcp|tls|udp):|(?!(?:tcp|tls|udp|unix):)){_HOST}:{_PORT}", re.IGNORECASE | re.ASCII)
_UNIX = re.compile(r"unix:(?P<path>/.+)", re.IGNORECASE)
_MSL = re.compile(rf"(?P<scheme>TCP|UDP|SOCKET)::{_HOST}::{_PORT}(?:::SOCKET)?", re.IGNORECASE | re.ASCII)
_VISA = re.compile(rf"TCPIP\d*::{_HOST}::{_PORT}::SOCKET", re.IGNORECASE | re.ASCII)
_PROLOGIX = re.compile(
    rf"Prologix::{_HOST}(?:::(?P<port>1234))?(?:::GPIB\d*)?::(?P<pad>\d+)(?:::(?P<sad>\d+))?", re.IGNORECASE | re.ASCII
)
_LISTEN = re.compile(rf"(?P<scheme>tcp|tls|udp):{_PORT}(?::interface=(?P<interface>\S+))?", re.IGNORECASE | re.ASCII)
_INTERFACE = re.compile(_HOST, re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Address:
    """
    Where a piece of equipment is, or where we listen.

    Parameters
    ----------
    scheme
        ``"tcp"``, ``"tls"``, ``"udp"`` or ``"unix"``.
    host
        A name or an IP address, IPv6 without brackets; empty for ``unix``.
    port
        1 to 65535; 0 for ``unix``, and for a listening address that takes any free port.
    path
        The socket's file, for ``unix`` only.
    gpib
        Primary and, if there is one, secondary GPIB address behind a Prologix controller; else empty.
    """

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""
    gpib: tuple[int, ...] = ()

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix:{self.path}"
        if self.gpib:
            host = f"[{self.host}]" if ":" in self.host else self.host
            return "::".join(["Prologix", host, str(self.port), *map(str, self.gpib)])
        return (
            f"{self.scheme}:[{self.host}]:{self.port}" if ":" in self.host else f"{self.scheme}:{self.host}:{self.port}"
        )


def parse_address(text: str) -> Address:
    """
    Read the address of a piece of equipment.

    Parameters
    ----------
    text
        One of the forms ``tcp:HOST:PORT``, ``tls:HOST:PORT``, ``udp:HOST:PORT``, ``unix:/PATH``, ``HOST:PORT``,
        ``[IPV6]:PORT``, MSL's ``TCP::HOST::PORT``, ``UDP::HOST::PORT``, ``SOCKET::HOST::PORT`` and
        ``Prologix::HOST[::1234][::GPIBn]::PAD[::SAD]``, VISA's ``TCPIP[n]::HOST::PORT::SOCKET``; in any letter case,
        IPv6 literals in brackets.

    Raises
    ------
    AddressError
        When it is none of them, or its port is not 1 to 65535, or a part of it cannot be; the text says which, and
        names the forms.
    """
    return _parse(text.strip(), "an address", _FORMS, _read_address)


def parse_listen(text: str) -> Address:
    """
    Read the address of a port that we bind; without an interface it is 127.0.0.1.

    Parameters
    ----------
    text
        ``tcp:PORT``, ``tls:PORT`` or ``udp:PORT``, each with ``:interface=IP`` behind it if need be (Twisted's endpoint
        strings), ``unix:/PATH``, or the interface first, as in ``tcp:127.0.0.1:PORT``. Port 0 takes any free port.

    Raises
    ------
    AddressError
        When it is none of them; the text names the forms.
    """
    return _parse(text.strip(), "an address to listen on", _LISTEN_FORMS, _read_listen)


def _parse(text: str, what: str, forms: str, read: Callable[[str], Address | None]) -> Address:
    try:
        address = read(text)
    except _Unfit as error:
        raise AddressError(f"{text!r} is not {what}: {error}; write {forms}") from error.__cause__
    if address is None:
        raise AddressError(f"{text!r} is not {what}; write {forms}")
    return address


class _Unfit(Exception):
    """A text has one of the forms, with a part in it that cannot be."""


def _read_address(text: str) -> Address | None:
    if found := _UNIX.fullmatch(text):
        return Address("unix", path=_path(found["path"]))
    if found := _PROLOGIX.fullmatch(text):
        gpib = [_gpib("primary", found["pad"], _PRIMARY)]
        if found["sad"] is not None:
            gpib.append(_gpib("secondary", found["sad"], _SECONDARY))
        return Address("tcp", _host(found["host"]), PROLOGIX_PORT, gpib=tuple(gpib))
    if found := _MSL.fullmatch(text) or _OWN.fullmatch(text):
        scheme = (found["scheme"] or "tcp").lower()
        return Address("tcp" if scheme == "socket" else scheme, _host(found["host"]), _port(found["port"]))
    if found := _VISA.fullmatch(text):
        return Address("tcp", _host(found["host"]), _port(found["port"]))
    return None


def _read_listen(text: str) -> Address | None:
    if found := _UNIX.fullmatch(text):
        return Address("unix", path=_path(found["path"]))
    if found := _LISTEN.fullmatch(text):
        # In Twisted's endpoint strings the colons of an IPv6 address are escaped.
        interface = (found["interface"] or "127.0.0.1").replace("\\:", ":")
        if ":" in interface and not interface.startswith("["):
            interface = f"[{interface}]"
        if not _INTERFACE.fullmatch(interface):
            raise _Unfit(f"{interface!r} is not an IP address")
        return Address(found["scheme"].lower(), _host(interface), _port(found["port"], least=0))
    if found := _OWN.fullmatch(text):
        return Address((found["scheme"] or "tcp").lower(), _host(found["host"]), _port(found["port"], least=0))
    return None


def _host(host: str) -> str:
    if not host.startswith("["):
        if not host.isprintable():
            raise _Unfit(f"{host!r} is not the name of a host")
        return host
    literal = host[1:-1]
    try:
        IPv6Address(literal)
    except ValueError as error:
        raise _Unfit(f"{literal!r} is not an IPv6 address") from error
    return literal


def _port(digits: str, least: int = 1) -> int:
    # Python refuses to convert thousands of digits, and five are enough for any port.
    port = int(digits) if len(digits) <= 5 else 65536
    if not least <= port <= 65535:
        raise _Unfit(f"port {digits[:12]} is not {least} to 65535")
    return port


def _gpib(which: str, digits: str, possible: frozenset[int]) -> int:
    number = int(digits) if len(digits) <= 3 else -1
    if number not in possible:
        raise _Unfit(f"{digits[:12]} is not a {which} GPIB address")
    return number


def _path(path: str) -> str:
    if "\0" in path:
        raise _Unfit("a path cannot hold a zero byte")
    return path
