"""
How a reply ends: at a terminator, after so many bytes, where a header says, with a prompt, when nothing more comes.

An ending is a value that can be kept and used for any number of replies. The bytes are given to it chunk by chunk as
they come, and it says where in a chunk the message ends; it looks at each byte once and keeps none of the message.
Whoever receives the bytes keeps them::

    end = ending.find_whole(chunk, start)  # the common case, without an object: all of it is here
    if end < 0:
        scanner = ending.begin()
        end = scanner.feed(chunk, start)  # and so on with every next chunk, while end < 0
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from numpy.typing import DTypeLike

from equipnet.errors import LocalProtocolError, RemoteProtocolError
from equipnet.instrument.message import HEADER_LIMIT, byte_order, read_block_header, unknown_format

#: So many seconds of silence, after a terminator, end a block of indefinite length; its bytes come without a longer
#: pause.
BLOCK_GAP = 0.05


class Scanner:
    """
    Looks for the end of one message; see `Ending.begin`.

    Attributes
    ----------
    announced
        How many bytes the message will have, once that is known: a limit can be checked before they come.
    gap
        How many seconds without a byte make `silent` worth asking; None where silence means nothing. It can become
        known with the first bytes.
    optional_terminator
        Set when the message has ended: which bytes may still come that belong to it and not to the next message. Take
        them away with `skip_optional`.
    """

    __slots__ = ()
    announced: int | None = None
    gap: float | None = None
    optional_terminator: bytes = b""

    def feed(self, chunk: bytes, start: int = 0) -> int:
        """
        Look at the next bytes, those of `chunk` from `start` on.

        Returns
        -------
        int
            The index in `chunk` just after the message; -1 when the message goes on in the next chunk.

        Raises
        ------
        RemoteProtocolError
            When no such message begins so. Its ``data`` are the bytes that show it. The scanner is of no more use.
        """
        raise NotImplementedError

    def silent(self) -> bool:
        """Whether what has come is a message, now that nothing came for `gap` seconds or nothing can come any more."""
        return False


class Ending:
    """A way in which replies end; a frozen value."""

    __slots__ = ()

    def begin(self) -> Scanner:
        """A scanner for one message."""
        raise NotImplementedError

    def find_whole(self, chunk: bytes, start: int = 0) -> int:
        """
        The index just after a message which begins at `start` and is whole in `chunk`, for the endings that can tell at
        once.

        Returns
        -------
        int
            -1 when it is not whole, or only a scanner can tell. Then feed the same bytes to one.
        """
        return -1

    def describe(self) -> str:
        r"""What is waited for, in words that follow "waiting for": ``the terminator b'\n'``, ``24 bytes``."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Terminator(Ending):
    r"""
    A reply ends with a terminator, which is a part of it.

    Parameters
    ----------
    terminators
        Each of one byte or more. Of several the one that ends first counts: with ``b"\r"`` and ``b"\r\n"`` a reply ends
        at ``\r``.
    """

    terminators: tuple[bytes, ...]
    _only: bytes = field(compare=False)
    _longest: int = field(compare=False)

    def __init__(self, *terminators: bytes) -> None:
        if not terminators or not all(isinstance(one, bytes) and one for one in terminators):
            raise LocalProtocolError(f"Terminators are bytes, and there is at least one: {terminators!r}")
        object.__setattr__(self, "terminators", terminators)
        object.__setattr__(self, "_only", terminators[0] if len(terminators) == 1 else b"")
        object.__setattr__(self, "_longest", max(map(len, terminators)))

    def __repr__(self) -> str:
        return f"Terminator({', '.join(map(repr, self.terminators))})"

    def begin(self) -> Scanner:
        return _TerminatorScanner(self, self._longest)

    def find_whole(self, chunk: bytes, start: int = 0) -> int:
        if self._only:
            at = chunk.find(self._only, start)
            return at + self._longest if at >= 0 else -1
        return self._first_end(chunk, start)

    def describe(self) -> str:
        if self._only:
            return f"the terminator {self._only!r}"
        return f"one of the terminators {', '.join(map(repr, self.terminators))}"

    def _first_end(self, chunk: bytes, start: int) -> int:
        """
        Where the first of several terminators ends.

        The search goes from window to window, each twice as wide: a terminator that comes once a megabyte must not be
        searched for through the whole chunk at every one that comes once a line.
        """
        width = max(256, 2 * self._longest)
        while True:
            stop = min(start + width, len(chunk))
            end = stop + 1
            for terminator in self.terminators:
                at = chunk.find(terminator, start, end - 1)
                if at >= 0:
                    end = at + len(terminator)
            if end <= stop:
                return end
            if stop == len(chunk):
                return -1
            start = stop - self._longest + 1
            width *= 2


class _TerminatorScanner(Scanner):
    """Keeps the last bytes, in which a terminator may have begun."""

    __slots__ = ("_ending", "_overlap", "_tail")

    def __init__(self, ending: Terminator, longest: int) -> None:
        self._ending = ending
        self._overlap = longest - 1
        self._tail = b""

    def feed(self, chunk: bytes, start: int = 0) -> int:
        tail = self._tail
        if tail:
            end = self._ending.find_whole(tail + chunk[start : start + self._overlap])
            if end >= 0:
                return start + end - len(tail)
        end = self._ending.find_whole(chunk, start)
        if end < 0 and self._overlap:
            self._tail = (tail + chunk[max(start, len(chunk) - self._overlap) :])[-self._overlap :]
        return end


@dataclass(frozen=True, slots=True)
class Size(Ending):
    """
    A reply has a fixed size; terminators mean nothing in it.

    Parameters
    ----------
    size
        In bytes, 1 or more.
    """

    size: int

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or self.size < 1:
            raise LocalProtocolError(f"The size of a reply is a whole number of bytes, at least 1, not {self.size!r}")

    def begin(self) -> Scanner:
        return _SizeScanner(self.size)

    def find_whole(self, chunk: bytes, start: int = 0) -> int:
        end = start + self.size
        return end if end <= len(chunk) else -1

    def describe(self) -> str:
        return f"{self.size} bytes"


class _SizeScanner(Scanner):
    __slots__ = ("_missing", "announced")

    def __init__(self, size: int) -> None:
        self.announced = size
        self._missing = size

    def feed(self, chunk: bytes, start: int = 0) -> int:
        end = start + self._missing
        if end <= len(chunk):
            return end
        self._missing = end - len(chunk)
        return -1


@dataclass(frozen=True, slots=True)
class LengthPrefix(Ending):
    """
    A reply begins with a header of a fixed size, which says how long the rest is.

    Parameters
    ----------
    header_size
        In bytes, 1 or more.
    length
        Gives, for the bytes of the header, the number of bytes after it. What it raises makes the header a wrong one,
        as does a result that is negative or not a whole number.
    """

    header_size: int
    length: Callable[[bytes], int]

    def __post_init__(self) -> None:
        if not isinstance(self.header_size, int) or self.header_size < 1:
            raise LocalProtocolError(f"A header has a whole number of bytes, at least 1, not {self.header_size!r}")

    def begin(self) -> Scanner:
        return _LengthPrefixScanner(self)

    def describe(self) -> str:
        return f"a message with its length in the first {self.header_size} bytes"

    def rest_after(self, header: bytes) -> int:
        """The number of bytes after a header; raises `RemoteProtocolError`."""
        try:
            rest = operator.index(self.length(header))
        except Exception as error:
            raise RemoteProtocolError(f"The header {header!r} does not give a length: {error!r}", header) from error
        if rest < 0:
            raise RemoteProtocolError(f"The header {header!r} gives the length {rest}", header)
        return rest


class _LengthPrefixScanner(Scanner):
    __slots__ = ("_ending", "_header", "_missing", "announced")

    def __init__(self, ending: LengthPrefix) -> None:
        self.announced: int | None = None
        self._ending = ending
        self._header = b""
        self._missing = 0

    def feed(self, chunk: bytes, start: int = 0) -> int:
        if self.announced is None:
            size = self._ending.header_size
            had = len(self._header)
            self._header += chunk[start : start + size - had]
            if len(self._header) < size:
                return -1
            self._missing = self._ending.rest_after(self._header)
            self.announced = size + self._missing
            start += size - had
        end = start + self._missing
        if end <= len(chunk):
            return end
        self._missing = end - len(chunk)
        return -1


@dataclass(frozen=True, slots=True)
class Block(Ending):
    r"""
    A reply is a block of binary numbers, whose header says how long it is.

    What may stand before the header, and what makes it a wrong one, says `read_block_header`. The terminator that
    usually follows a block belongs to the message as far as it came together with the block's last byte; what comes
    later is the scanner's ``optional_terminator``. An instrument may well send none.

    A block of indefinite length (``#0``, IEEE 488.2 8.7.10) ends with a terminator that is the last of what has come,
    when then nothing comes for `gap` seconds: the bytes of the terminator may also be data.

    Parameters
    ----------
    fmt
        ``"ieee"`` or ``"hp"``.
    terminator
        What may follow a block, and ends one of indefinite length; the standard's ``\n`` if it is None.
        ``\r\n`` and ``\n`` may follow in place of each other.
    byte_order
        Of an HP block's length: ``"<"`` or ``">"``.
    gap
        In seconds.
    """

    fmt: str = "ieee"
    terminator: bytes | None = b"\n"
    byte_order: str = "<"
    gap: float = BLOCK_GAP

    def __post_init__(self) -> None:
        if self.fmt not in ("ieee", "hp"):
            raise LocalProtocolError(f"{self.fmt!r} is not the format of a block with a length; it is 'ieee' or 'hp'")
        if self.byte_order not in ("<", ">"):
            raise LocalProtocolError(f"{self.byte_order!r} is not a byte order; it is '<' or '>'")
        _check_seconds(self.gap)

    def begin(self) -> Scanner:
        return _BlockScanner(self)

    def describe(self) -> str:
        return f"a block with {'an IEEE 488.2' if self.fmt == 'ieee' else 'an HP'} header"


class _BlockScanner(Scanner):
    """Reads the header, then counts (definite length) or remembers the last bytes (indefinite)."""

    __slots__ = ("_block", "_head", "_missing", "_tail", "_terminator", "announced", "gap", "optional_terminator")

    def __init__(self, block: Block) -> None:
        self.announced: int | None = None
        self.gap: float | None = None
        self.optional_terminator = b""
        self._block = block
        self._terminator = block.terminator or b"\n"
        self._head = b""
        self._missing = 0
        self._tail = b""

    def feed(self, chunk: bytes, start: int = 0) -> int:
        if self.announced is None and self.gap is None:
            start = self._read_header(chunk, start)
            if start < 0:
                return -1
        if self.gap is not None:
            size = len(self._terminator)
            self._tail = (self._tail + chunk[max(start, len(chunk) - size) :])[-size:]
            return -1
        end = start + self._missing
        if end > len(chunk):
            self._missing = end - len(chunk)
            return -1
        follows = b"\r\n" if self._terminator == b"\n" else self._terminator
        end, self.optional_terminator = skip_optional(chunk, end, follows)
        return end

    def silent(self) -> bool:
        return self._tail.endswith(self._terminator)

    def _read_header(self, chunk: bytes, start: int) -> int:
        """Where in `chunk` the content begins, or -1."""
        had = len(self._head)
        self._head += chunk[start : start + HEADER_LIMIT - had]
        header = read_block_header(self._head, self._block.fmt, self._block.byte_order)
        if header is None:
            return -1
        if header.size is None:
            self.gap = self._block.gap
        else:
            self.announced = header.begin + header.size
            self._missing = header.size
        return start + header.begin - had


def skip_optional(chunk: bytes, start: int, optional: bytes) -> tuple[int, bytes]:
    r"""
    Step over a terminator which may stand, whole or in part, at `start` in `chunk`.

    Parameters
    ----------
    optional
        Of ``\r`` and ``\n`` each may be missing; any other terminator comes as it is, but may be cut by the end of the
        chunk.

    Returns
    -------
    tuple[int, bytes]
        Where what is not the terminator begins, and what may still come of it at the beginning of the next chunk.
    """
    if optional.strip(b"\r\n"):
        here = chunk[start : start + len(optional)]
        return (start + len(here), optional[len(here) :]) if optional.startswith(here) else (start, b"")
    for at, byte in enumerate(optional):
        if start == len(chunk):
            return start, optional[at:]
        if chunk[start] == byte:
            start += 1
    return start, b""


@dataclass(frozen=True, slots=True)
class Regex(Ending):
    r"""
    A reply ends where a regular expression first matches.

    It is searched for in the message, whose beginning is ``\A``, as if all of it were at hand. But a reply ends with
    the first match there is: a pattern that could match more when more came, such as ``\d+``, ends where the chunk
    does. A look-ahead can delay the end to the byte before it, not call back bytes of an earlier chunk.

    Parameters
    ----------
    pattern
        In the syntax of `re`, with flags as in ``(?i)ok``. It must not match nothing.
    window
        How many bytes a match may have if it came in more than one chunk; so many are kept, and searched again.
    """

    pattern: bytes | str
    window: int = 1024
    _compiled: re.Pattern[bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        pattern = self.pattern.encode() if isinstance(self.pattern, str) else self.pattern
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise LocalProtocolError(f"{pattern!r} is not a regular expression: {error}") from error
        if compiled.search(b""):
            raise LocalProtocolError(f"The regular expression {pattern!r} matches before anything has come")
        if not isinstance(self.window, int) or self.window < 1:
            raise LocalProtocolError(f"A window has a whole number of bytes, at least 1, not {self.window!r}")
        object.__setattr__(self, "pattern", pattern)
        object.__setattr__(self, "_compiled", compiled)

    def begin(self) -> Scanner:
        return _RegexScanner(self._compiled, self.window)

    def describe(self) -> str:
        return f"a match of {self.pattern!r}"


@dataclass(frozen=True, slots=True)
class Prompt(Ending):
    r"""
    A reply ends with the prompt for the next command.

    Parameters
    ----------
    text
        The prompt, without the end of the line before it: ``"> "``, ``":"``.
    line_start
        Whether it is a prompt only at the beginning of a line or of the reply: ``:`` in ``12:30:01\r\n:``. If it is
        false the text counts wherever it stands.
    """

    text: bytes | str
    line_start: bool = True
    _compiled: re.Pattern[bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        text = self.text.encode() if isinstance(self.text, str) else self.text
        if not text:
            raise LocalProtocolError("A prompt has at least one byte")
        pattern = re.escape(text)
        if self.line_start:  # asked for after the text: a search that begins with a literal is fast
            pattern += rb"(?:(?<=[\r\n]%b)|(?<=\A%b))" % (pattern, pattern)
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "_compiled", re.compile(pattern))

    def begin(self) -> Scanner:
        return _RegexScanner(self._compiled, len(self.text))

    def describe(self) -> str:
        return f"the prompt {self.text!r}"


class _RegexScanner(Scanner):
    """Keeps the last bytes, in which a match may have begun."""

    __slots__ = ("_pattern", "_tail", "_window")

    def __init__(self, pattern: re.Pattern[bytes], window: int) -> None:
        self._pattern = pattern
        self._window = window
        self._tail = b""

    def feed(self, chunk: bytes, start: int = 0) -> int:
        tail = self._tail
        if tail:
            searched: bytes | memoryview = tail + memoryview(chunk)[start:]
            # The first byte of a full tail is there for what looks back (\A, \b, a look-behind); no match begins with
            # it.
            match = self._pattern.search(searched, int(len(tail) == self._window))
        else:
            searched = memoryview(chunk)[start:] if start else chunk
            match = self._pattern.search(searched)
            if match is not None and match.end() == 0:  # of a look-ahead; a message has at least one byte
                match = self._pattern.search(searched, 1)
        if match is not None:
            return max(start, start + match.end() - len(tail))
        self._tail = bytes(searched[-self._window :])
        return -1


@dataclass(frozen=True, slots=True)
class IdleGap(Ending):
    """
    A reply ends when no more of it comes for a while.

    Parameters
    ----------
    seconds
        Without a byte, after at least one; more than 0.
    """

    seconds: float

    def __post_init__(self) -> None:
        _check_seconds(self.seconds)

    def begin(self) -> Scanner:
        return _IdleGapScanner(self.seconds)

    def describe(self) -> str:
        return f"an idle gap of {self.seconds:g} s"


class _IdleGapScanner(Scanner):
    __slots__ = ("_begun", "gap")

    def __init__(self, seconds: float) -> None:
        self.gap = seconds
        self._begun = False

    def feed(self, chunk: bytes, start: int = 0) -> int:
        if start < len(chunk):
            self._begun = True
        return -1

    def silent(self) -> bool:
        return self._begun


@dataclass(frozen=True, slots=True)
class Datagram(Ending):
    """A reply is a whole chunk, as UDP delivers it; an empty one too."""

    def begin(self) -> Scanner:
        return _DatagramScanner()

    def find_whole(self, chunk: bytes, start: int = 0) -> int:
        return len(chunk)

    def describe(self) -> str:
        return "a datagram"


class _DatagramScanner(Scanner):
    __slots__ = ()

    def feed(self, chunk: bytes, start: int = 0) -> int:
        return len(chunk)


@dataclass(frozen=True, slots=True)
class Available(Ending):
    """
    A reply is whatever has come, as of a socket's ``recv``.

    Parameters
    ----------
    limit
        How many bytes at most, 1 or more; the rest of a chunk is the next message.
    """

    limit: int

    def __post_init__(self) -> None:
        if not isinstance(self.limit, int) or self.limit < 1:
            raise LocalProtocolError(f"The limit is a whole number of bytes, at least 1, not {self.limit!r}")

    def begin(self) -> Scanner:
        return _AvailableScanner(self)

    def find_whole(self, chunk: bytes, start: int = 0) -> int:
        end = min(len(chunk), start + self.limit)
        return end if end > start else -1

    def describe(self) -> str:
        return "any bytes"


class _AvailableScanner(Scanner):
    __slots__ = ("_ending",)

    def __init__(self, ending: Available) -> None:
        self._ending = ending

    def feed(self, chunk: bytes, start: int = 0) -> int:
        return self._ending.find_whole(chunk, start)


@dataclass(frozen=True, slots=True)
class Unending(Ending):
    """Nothing in a reply ends it; only time does, or the limit of its size. What `ending_for` calls None."""

    def begin(self) -> Scanner:
        return _UnendingScanner()

    def describe(self) -> str:
        return "an end that nothing defines (no terminator, no size)"


class _UnendingScanner(Scanner):
    __slots__ = ()

    def feed(self, chunk: bytes, start: int = 0) -> int:
        return -1


def ending_for(
    fmt: str | None = None,
    size: int | None = None,
    dtype: DTypeLike | None = None,
    read_termination: bytes | tuple[bytes, ...] | None = b"\n",
) -> Ending | None:
    """
    The ending of a reply that is asked for as in MSL-Equipment's ``read(size, fmt, dtype)``.

    Parameters
    ----------
    fmt
        ``"ieee"`` and ``"hp"`` are blocks, which end where their header says; ``"ascii"`` and None say nothing of the
        end.
    size
        In bytes. It counts before anything else; what MSL-Equipment calls a sized read.
    dtype
        Gives the byte order of an HP block's length.
    read_termination
        One terminator or several, of which a block takes the first; None or empty for none.

    Returns
    -------
    Ending | None
        None when nothing of this ends a reply: then only time does, or the limit of its size.

    Raises
    ------
    LocalProtocolError
        When an argument is not one of these.
    """
    if fmt and fmt not in ("ieee", "hp", "ascii"):
        raise unknown_format(fmt)
    if size is not None:
        return Size(size)
    terminators = read_termination if isinstance(read_termination, tuple) else (read_termination,)
    present = [one for one in terminators if one]
    if fmt == "ieee" or fmt == "hp":
        return Block(fmt, present[0] if present else None, byte_order(dtype) if fmt == "hp" else "<")
    return Terminator(*present) if present else None


def _check_seconds(seconds: float) -> None:
    if not seconds > 0:
        raise LocalProtocolError(f"A gap is more than 0 seconds, not {seconds!r}")
