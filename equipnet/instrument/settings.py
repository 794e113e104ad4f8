"""The settings of an instrument: MSL-Equipment's properties, and what follows from them for commands and replies."""

from __future__ import annotations

import codecs
import math
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from numpy.typing import DTypeLike

from equipnet.errors import LocalProtocolError, RemoteProtocolError
from equipnet.instrument.ending import Datagram, Ending, Size, Unending, ending_for
from equipnet.instrument.message import Data, Reply, decode_reply, decode_text, encode_command, termination_bytes


class Settings:
    """What `Instrument` lets its users set, under MSL-Equipment's names; it says what each means and its default."""

    def __init__(
        self,
        *,
        buffer_size: int,
        encoding: str,
        encoding_errors: str,
        family: str,
        max_read_size: int,
        proto: int,
        read_termination: str | bytes | tuple[str | bytes, ...] | None,
        rstrip: bool,
        socket_type: str,
        termination: str | bytes | None,
        timeout: float | None,
        write_termination: str | bytes | None,
        ending: Ending | None,
    ) -> None:
        self._read_termination: bytes | tuple[bytes, ...] | None = None
        self._write_termination: bytes | None = None
        self._ending = ending
        self._encoding, self._encoding_errors = "utf-8", "strict"
        self._rstrip = rstrip
        self._socket_type = socket_type_name(socket_type)
        self.buffer_size = buffer_size
        self.encoding = encoding
        self.encoding_errors = encoding_errors
        self.family = family
        self.max_read_size = max_read_size
        self.proto = proto
        self.timeout = timeout
        self.read_termination = read_termination
        self.write_termination = write_termination
        if termination is not None:
            self.termination = termination

    # MSL-Equipment's properties

    @property
    def buffer_size(self) -> int:
        """How many bytes `recv` gives at most, where nothing else is said; at least 1."""
        return self._buffer_size

    @buffer_size.setter
    def buffer_size(self, size: int) -> None:
        self._buffer_size = _at_least_one("buffer_size", size)

    @property
    def encoding(self) -> str:
        """Of text, both ways. An unknown one is refused with a LookupError. The terminations are encoded anew."""
        return self._encoding

    @encoding.setter
    def encoding(self, name: str) -> None:
        codecs.lookup(name)
        old = self._encoding

        def recode(termination: bytes) -> bytes:
            return termination.decode(old).encode(name)

        # When a termination cannot be encoded anew, nothing is changed.
        read, write = self._read_termination, self._write_termination
        if isinstance(read, tuple):
            read = tuple(recode(each) for each in read)
        elif read is not None:
            read = recode(read)
        if write is not None:
            write = recode(write)
        self._encoding, self._read_termination, self._write_termination = name, read, write
        self._renew()

    @property
    def encoding_errors(self) -> str:
        """How errors of text are treated: a name that `codecs` knows, kept in lower case. Others are a LookupError."""
        return self._encoding_errors

    @encoding_errors.setter
    def encoding_errors(self, name: str) -> None:
        name = str(name).lower()
        codecs.lookup_error(name)
        self._encoding_errors = name
        self._renew()

    @property
    def rstrip(self) -> bool:
        """Whether white space at the end of a text reply, its terminator included, is removed."""
        return self._rstrip

    @rstrip.setter
    def rstrip(self, rstrip: bool) -> None:
        self._rstrip = bool(rstrip)
        self._renew()

    @property
    def family(self) -> str:
        """
        ``INET``, ``INET6`` or ``UNSPEC``, in any case, with or without ``AF_``; counts from the next connection on.
        """
        return self._family

    @family.setter
    def family(self, name: str) -> None:
        self._family = family_name(name)

    @property
    def socket_type(self) -> str:
        """``STREAM`` or ``DGRAM``, in any case, with or without ``SOCK_``; counts from the next connection on."""
        return self._socket_type

    @socket_type.setter
    def socket_type(self, name: str) -> None:
        self._socket_type = socket_type_name(name)
        self._renew()

    @property
    def proto(self) -> int:
        """0 or the number of the socket type's own protocol."""
        return self._proto

    @proto.setter
    def proto(self, number: int) -> None:
        if number not in (0, socket.IPPROTO_TCP, socket.IPPROTO_UDP):
            raise ValueError(f"proto is {number!r}, not 0, {socket.IPPROTO_TCP} (TCP) or {socket.IPPROTO_UDP} (UDP)")
        self._proto = number

    @property
    def max_read_size(self) -> int:
        """How many bytes one message may have; at least 1."""
        return self._max_read_size

    @max_read_size.setter
    def max_read_size(self, size: int) -> None:
        self._max_read_size = _at_least_one("max_read_size", size)
        self._renew()

    @property
    def timeout(self) -> float | None:
        """
        Seconds for one operation, None for no limit. Less than 0 and infinity become None; with 0 only what is there is
        read.
        """
        return self._timeout

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        seconds = None if seconds is None else float(seconds)
        if seconds is not None and math.isnan(seconds):
            raise ValueError("timeout is not a number")
        self._timeout = None if seconds is None or seconds < 0 or math.isinf(seconds) else seconds

    @property
    def read_termination(self) -> bytes | tuple[bytes, ...] | None:
        """What ends a reply; it can be set as text, too, or in the textual forms of registers."""
        return self._read_termination

    @read_termination.setter
    def read_termination(self, value: str | bytes | tuple[str | bytes, ...] | None) -> None:
        if isinstance(value, tuple):
            several = (termination_bytes(each, self._encoding) for each in value)
            self._read_termination = tuple(each for each in several if each) or None
        else:
            self._read_termination = termination_bytes(value, self._encoding)
        self._renew()

    @property
    def write_termination(self) -> bytes | None:
        """What is added to a command; it can be set as `read_termination`."""
        return self._write_termination

    @write_termination.setter
    def write_termination(self, value: str | bytes | None) -> None:
        self._write_termination = termination_bytes(value, self._encoding)

    @property
    def termination(self) -> bytes | None:
        """Both terminations at once; reads as that of commands."""
        return self._write_termination

    @termination.setter
    def termination(self, value: str | bytes | None) -> None:
        self.read_termination = value
        self.write_termination = value

    # What follows from them

    @property
    def ending(self) -> Ending | None:
        """How a text reply ends where the terminator does not tell; None where it does."""
        return self._ending

    @ending.setter
    def ending(self, ending: Ending | None) -> None:
        self._ending = ending
        self._renew()

    @property
    def line_ending(self) -> Ending | None:
        """How a message ends that nobody asked for; None where nothing tells."""
        return self._ending or ending_for(read_termination=self._read_termination)

    def encode(
        self, message: str | bytes, data: Data | None = None, fmt: str | None = "ieee", dtype: DTypeLike = "<f"
    ) -> bytes:
        """Give the bytes of a command."""
        return encode_command(
            message,
            self._encoding,
            self._encoding_errors,
            self._write_termination,
            data=data,
            fmt=fmt,
            dtype=dtype,
        )

    def reply(
        self, size: int | None, fmt: str | None, dtype: DTypeLike | None, decode: bool, ending: Ending | None
    ) -> tuple[Ending, Callable[[bytes], Any]]:
        """Give how a reply ends and what makes a value of it; the arguments are those of `Instrument.read`."""
        if size is None and fmt is None and dtype is None and decode:
            return ending or self._text_ending, self._text
        if size is not None and size > self._max_read_size:
            raise LocalProtocolError(f"max_read_size is {self._max_read_size} bytes, requesting {size} bytes")
        chosen = ending is not None
        if ending is None:
            if self._ending is not None and size is None and fmt not in ("ieee", "hp"):
                ending = self._ending
            else:
                ending = ending_for(fmt, size, dtype, self._read_termination) or Unending()
        value = partial(
            decode_reply,
            fmt=fmt,
            dtype=dtype,
            decode=decode,
            encoding=self._encoding,
            encoding_errors=self._encoding_errors,
            rstrip=self._rstrip,
            termination=None if isinstance(ending, Size) else self._read_termination,
        )
        if chosen or not self.is_datagram:
            return ending, value
        return Datagram(), value if size is None else partial(_of_size, size, value)

    @property
    def is_datagram(self) -> bool:
        """Whether messages are datagrams."""
        return self._socket_type == "DGRAM"

    def _renew(self) -> None:
        """Work out anew what the most frequent replies, those of plain text, need."""
        self._text_ending = Datagram() if self.is_datagram else self.line_ending or Unending()
        self._text: Callable[[bytes], Any]
        if self._rstrip:
            self._text = partial(
                decode_reply, encoding=self._encoding, encoding_errors=self._encoding_errors, rstrip=True
            )
        else:
            self._text = partial(decode_text, encoding=self._encoding, encoding_errors=self._encoding_errors)


def family_name(value: str) -> str:
    """Give the canonical name of an address family; raises ValueError for an unknown one."""
    return _choice("family", value, "AF_", ("INET", "INET6", "UNSPEC"))


def socket_type_name(value: str) -> str:
    """Give the canonical name of a socket type; raises ValueError for an unknown one."""
    return _choice("socket_type", value, "SOCK_", ("STREAM", "DGRAM"))


def _of_size(size: int, value: Callable[[bytes], Reply], datagram: bytes) -> Reply:
    if len(datagram) != size:
        raise RemoteProtocolError(f"A datagram of {len(datagram)} bytes came where {size} were asked for", datagram)
    return value(datagram)


def _at_least_one(name: str, number: int) -> int:
    if not isinstance(number, int) or number < 1:
        raise ValueError(f"{name} is {number!r}, not a whole number of at least 1")
    return number


def _choice(name: str, value: str, prefix: str, choices: tuple[str, ...]) -> str:
    choice = str(value).upper().removeprefix(prefix)
    if choice not in choices:
        raise ValueError(f"{name} is {value!r}, not one of {', '.join(choices)}")
    return choice
