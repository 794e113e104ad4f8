r"""
An instrument that is a table: commands and replies, over any kind of socket or in memory, with faults on request::

    simulator = InstrumentSimulator(
        {"*IDN?": "EQUIPNET,DMM,1,1.0", "*RST": None, "READ?": ["1.0", "1.1"]},
        patterns={r"SOUR:VOLT (\d+)": r"volt is now \1"},
        default="ERROR",
    )
    dmm = Instrument(simulator.in_memory(reactor))
"""

from __future__ import annotations

import codecs
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from inspect import isawaitable
from itertools import cycle
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IListeningPort,
    IPushProducer,
    IReactorTime,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from equipnet.connection.address import Address
from equipnet.connection.endpoint import server_endpoint
from equipnet.connection.faults import Faults
from equipnet.connection.memory import MemoryEndpoint
from equipnet.connection.protocol import WireProtocol
from equipnet.connection.retry import RetryPolicy
from equipnet.connection.service import ListeningConnection, ListeningFactory
from equipnet.connection.state import State
from equipnet.connection.tcp import sender
from equipnet.connection.tls import TLS
from equipnet.errors import ConnectionLost, Disconnected, EquipmentConnectionError, LocalProtocolError
from equipnet.instrument.fault import Fault, Injected
from equipnet.instrument.message import encode_command, termination_bytes

#: What one command is answered with: text, to which the terminator is added; bytes, which are sent as they are; None
#: for nothing.
Answer = str | bytes | None

#: What a table can hold for a command: an answer, several that are given in turn, or something to call for it.
Reply = Answer | Sequence[Answer] | Callable[[Any], Answer | Awaitable[Answer]]

#: So many bytes of replies leave in one piece before we look whether the client takes them.
BATCH = 1 << 16


class InstrumentSimulator(ListeningConnection):
    r"""
    The other side of an `Instrument`: a port that answers the commands of a table.

    It serves any number of clients; they share one state, as they would with a real instrument, but each has its
    replies in the order of its commands. Empty commands are ignored, unless the table has a reply for them.

    An instrument that cannot be said in a table is a subclass with another `reply_to`. To switch the instrument off and
    on, call `disconnect` and `connect`: it comes back on the same port.

    Parameters
    ----------
    replies
        The reply to each command. A text is sent with the terminator behind it, if it does not end with it already;
        bytes are sent as they are, for blocks and prompts; the items of a list are sent in turn, and then again from
        the first; for None and for an empty list nothing is sent. A callable gets the command's text, and gives a text,
        bytes or None, or a Deferred or a coroutine of them; what it raises is logged, and there is no reply.
    listen
        Where to listen (see `equipnet.connection.address.parse_listen`). With UDP each datagram holds one or more
        commands, the last with or without terminator, and each reply is one datagram.
    patterns
        Regular expressions that must match the whole of a command that ``replies`` does not have, and the replies; the
        first that matches counts. In a text ``\1`` and ``\g<name>`` stand for groups; a callable gets the match.
    default
        The reply to all other commands.
    termination
        What ends a command, as bytes, text, or in the textual forms of registers (``"\\n"``). With a line feed alone a
        carriage return before it is not part of the command.
    reply_termination
        What is added to text; that of commands where nothing is given, nothing when it is empty.
    encoding
        Of commands and replies. A command that is not in it is logged, and not answered.
    max_command_size
        How many bytes a command may have. A longer one is logged and dropped up to its terminator.
    fault
        What goes wrong from the beginning, until `clear_faults` is called.
    name, max_connections, allowed, tls, retry, reactor
        As `equipnet.connection.service.ListeningConnection` says.

    Raises
    ------
    ValueError
        When a command can never arrive since its terminator is in it or it is too long, when a pattern is no regular
        expression or its reply has other groups, when a reply is none of the above, and when there is no terminator.
    LookupError
        When the encoding is unknown.
    LocalProtocolError
        When a command or a reply is not in the encoding.
    """

    kind = "simulated-instrument"

    def __init__(
        self,
        replies: Mapping[str, Reply] = {},
        listen: str | Address = "tcp:0",
        *,
        patterns: Mapping[str, Reply] | Iterable[tuple[str | re.Pattern[str], Reply]] = (),
        default: Reply = None,
        termination: str | bytes = b"\n",
        reply_termination: str | bytes | None = None,
        encoding: str = "utf-8",
        max_command_size: int = 1 << 20,
        fault: Fault | None = None,
        name: str | None = None,
        max_connections: int = 100,
        allowed: Iterable[str] = (),
        tls: TLS | None = None,
        retry: RetryPolicy | None = None,
        reactor: Any = None,
    ) -> None:
        super().__init__(
            listen,
            name=name,
            max_connections=max_connections,
            allowed=allowed,
            tls=tls,
            retry=retry,
            reactor=reactor,
        )
        codecs.lookup(encoding)
        ends = termination_bytes(termination, encoding)
        if ends is None:
            raise ValueError("a command needs a terminator")
        if max_command_size < 1:
            raise ValueError(f"max_command_size is {max_command_size}, less than 1")
        self.termination = ends
        self.reply_termination = ends if reply_termination is None else termination_bytes(reply_termination, encoding)
        self.encoding = encoding
        self.max_command_size = max_command_size
        self._faults: Faults[Injected] = Faults()
        # The replies that do not change, as bytes: nearly all that is ever asked. By the bytes of a line, and by those
        # of a segment that is one line. All of them are in the table as well; a subclass that has the word has none.
        self._known: dict[bytes, bytes] = {}
        self._known_segments: dict[bytes, bytes] = {}
        self._is_table = type(self).reply_to is InstrumentSimulator.reply_to
        self._table: dict[str, Callable[[str], Any]] = {}
        pairs = patterns.items() if isinstance(patterns, Mapping) else patterns
        self._patterns = [self._checked_pattern(pattern, reply) for pattern, reply in pairs]
        self._default = None if default is None else self._checked("unknown commands", default)
        self._was_bound: Address | None = None
        for command, reply in replies.items():
            self.set_reply(command, reply)
        if fault is not None:
            self.inject(fault)

    # What users call

    def set_reply(self, command: str, reply: Reply) -> None:
        """Change the reply to a command, or add one; the parameters and the errors are those of the constructor."""
        line = encode_command(command, self.encoding, termination=None)
        if self.termination in line or (self.termination == b"\n" and line.endswith(b"\r")):
            raise ValueError(f"the command {command!r} has the terminator {self.termination!r} in it")
        lines = (line, line + b"\r") if self.termination == b"\n" else (line,)
        if len(lines[-1]) > self.max_command_size:
            raise ValueError(f"the command {command[:40]!r}... is longer than {self.max_command_size} bytes")
        self._table[command] = self._checked(repr(command), reply)
        for each in lines:
            if self._is_table and (reply is None or isinstance(reply, (str, bytes))):
                self._known[each] = self._known_segments[each + self.termination] = self.encode(reply)
            else:
                self._known.pop(each, None)
                self._known_segments.pop(each + self.termination, None)

    def reply_to(self, command: str) -> Answer | Awaitable[Answer]:
        """
        Give the reply to a command; a subclass overrides it, and can leave to this one what it does not know itself.

        Parameters
        ----------
        command
            The command's text, without the terminator.

        Returns
        -------
        str | bytes | None
            As a callable in the table, also in a Deferred or a coroutine.
        """
        reply = self._table.get(command)
        if reply is not None:
            answer: Answer | Awaitable[Answer] = reply(command)
            return answer
        for pattern, answer_to in self._patterns:
            match = pattern.fullmatch(command)
            if match is not None:
                answer = answer_to(match)
                return answer
        if self._default is not None:
            answer = self._default(command)
            return answer
        self.log.info("{name}: there is no reply to {command!r}", name=self.name, command=command)
        return None

    def inject(self, fault: Fault, count: int | None = None, client: SimulatorProtocol | str | None = None) -> None:
        """
        Let something go wrong.

        One fault at a time happens to a command: those with a ``count`` first, in the order of injection; when they are
        used up, the last one without.

        Parameters
        ----------
        fault
            What.
        count
            With how many commands (new connections for ``refuse``), those without a reply included; None for all,
            until `clear_faults` is called.
        client
            Whose commands: one of ``protocols``, or the text of its ``peer``; None for everybody's.

        Raises
        ------
        ValueError
            When ``count`` is less than 1, or somebody who is connected is to be refused.
        """
        if fault.refuse and client is not None:
            raise ValueError("only new clients can be refused")
        self._faults.inject(Injected(fault, client), count)

    def clear_faults(self) -> None:
        """Let all go well from the next command on; replies that were held back to be merged leave at once."""
        self._faults.clear()
        for protocol in tuple(self.protocols):
            if isinstance(protocol, SimulatorProtocol):
                protocol.release()

    def in_memory(self, clock: IReactorTime | None = None) -> MemoryEndpoint:
        """
        Give an endpoint that connects an `Instrument` to this simulator without a socket, started or not.

        Parameters
        ----------
        clock
            Carries the bytes over, and measures the delays of these clients; the simulator's reactor where nothing is
            given.
        """
        clock = self.reactor if clock is None else clock
        return MemoryEndpoint(_MemoryFactory(self, clock), clock)

    def disconnect(self) -> Deferred[None]:
        if self.state is State.STOPPED:
            # Those in memory can be there all the same.
            error = Disconnected(f"{self.name} was closed from our side")
            for protocol in tuple(self.protocols):
                protocol.hang_up(error, abort=False)
        return super().disconnect()

    # What the factory and the protocols ask

    def build_protocol(self) -> SimulatorProtocol:
        return SimulatorProtocol(self, self.reactor)

    def admit(self, address: Any) -> WireProtocol | None:
        if self._faults.take(lambda injected: injected.fault.refuse) is not None:
            self._refuse(getattr(address, "host", None) or "a local client", "it is simulated so")
            return None
        return super().admit(address)

    def left(self, protocol: WireProtocol) -> None:
        self._faults[:] = [each for each in self._faults if each.fault.client is not protocol]

    def encode(self, answer: object) -> bytes:
        """
        Give the bytes of an answer, its terminator included.

        Raises
        ------
        LocalProtocolError
            When it is no answer, or not in the encoding.
        """
        if isinstance(answer, str):
            return encode_command(answer, self.encoding, termination=self.reply_termination)
        if answer is None:
            return b""
        if isinstance(answer, (bytes, bytearray, memoryview)):
            return bytes(answer)
        raise LocalProtocolError(f"A reply is text, bytes or None, not {answer!r}")

    # How the table is read

    def _checked(self, what: str, reply: Reply) -> Callable[[Any], Any]:
        """Give a callable for a reply of any sort."""
        if callable(reply):
            return reply
        if reply is None or isinstance(reply, (str, bytes)):
            self.encode(reply)
            return lambda _: reply
        if not isinstance(reply, (list, tuple)):
            raise ValueError(f"the reply to {what} is {reply!r}, not text, bytes, a list, None or a callable")
        if not reply:
            return lambda _: None
        turns = cycle([self._checked(what, each) for each in reply])
        return lambda command: next(turns)(command)

    def _checked_pattern(
        self, pattern: str | re.Pattern[str], reply: Reply
    ) -> tuple[re.Pattern[str], Callable[[Any], Any]]:
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise ValueError(f"the pattern {pattern!r} is no regular expression: {error}") from error
        return compiled, self._checked(repr(pattern), _expanded(compiled, reply))

    # How it is bound

    def _listen(self) -> Deferred[IListeningPort]:
        # Switched off and on again, it is where its clients look for it.
        address = self._was_bound or self.address
        return server_endpoint(address, self.reactor, tls=self._tls).listen(ListeningFactory(self))

    def _listening(self, port: IListeningPort) -> None:
        super()._listening(port)
        self._was_bound = self.bound or self._was_bound


def _expanded(pattern: re.Pattern[str], reply: Reply) -> Reply:
    """Make of each text in the reply to a pattern a callable that puts the groups of the match into it."""
    if isinstance(reply, str):
        template = reply
        try:
            pattern.sub(template, "")  # reads the template in any case
        except (re.error, IndexError) as error:
            raise ValueError(f"the reply {template!r} does not fit the pattern {pattern.pattern!r}: {error}") from error
        return lambda match: match.expand(template)
    if isinstance(reply, (list, tuple)):
        expanded: Any = [_expanded(pattern, each) for each in reply]
        return expanded  # type: ignore[no-any-return]
    return reply


class _MemoryFactory(ListeningFactory):
    """Build the protocols of clients in memory; they live on the clock that carries their bytes."""

    def __init__(self, simulator: InstrumentSimulator, clock: IReactorTime) -> None:
        super().__init__(simulator)
        self._simulator = simulator
        self._clock = clock

    def buildProtocol(self, addr: object) -> WireProtocol | None:
        # Without an address: it is no network from which it comes.
        protocol = self._simulator.admit(None)
        if isinstance(protocol, SimulatorProtocol):
            protocol.clock = self._clock
        return protocol


@implementer(IPushProducer, IHalfCloseableProtocol)
class SimulatorProtocol(WireProtocol):
    """
    One client of a simulator: commands in, replies out, one command at a time.

    While a reply is awaited, is delayed, or is not taken by the client, nothing more is read from it.

    Parameters
    ----------
    simulator
        Knows the replies.
    clock
        Measures the delays.

    Attributes
    ----------
    choked
        Whether the client does not take what we write.
    """

    def __init__(self, simulator: InstrumentSimulator, clock: IReactorTime) -> None:
        super().__init__(simulator)
        self.clock = clock
        self.choked = False
        self._send: Callable[[bytes], None]
        self._simulator = simulator
        self._known = simulator._known
        self._faults = simulator._faults
        self._end = simulator.termination
        self._is_datagram = simulator.address.scheme == "udp"
        self._known_segments = {} if self._is_datagram else simulator._known_segments
        # The beginning of a command, or what may be the beginning of the terminator of one that is being dropped.
        self._partial = bytearray()
        self._dropping = False
        # Commands that have come, the replies that leave next, and those that are held back to leave together.
        self._lines: deque[bytes] = deque()
        self._replies: list[bytes] = []
        self._size = 0
        self._held: list[bytes] = []
        # What the reply to the present command waits for, None while there is no such command.
        self._answering: Deferred[Any] | IDelayedCall | None = None
        self._working = False
        self._paused = False

    # What the simulator calls

    def release(self) -> None:
        """Send the replies that are held back to be merged."""
        if self._held and not self.hanging_up:
            self._put_held()
            self._work()

    # What Twisted calls

    def begin(self) -> None:
        self._send = sender(self.transport)
        self.transport.registerProducer(self, True)
        super().begin()

    def dataReceived(self, data: bytes) -> None:
        # The usual case: one whole command, and nothing else is going on.
        reply = self._known_segments.get(data)
        if reply is not None and not (
            self._partial
            or self._dropping
            or self._answering
            or self.choked
            or self._held
            or self._faults
            or self.taps
            or self.ended_by
        ):
            if reply:
                self._send(reply)
        elif self.ended_by is None:
            self._lines += self._split(data)
            self._work()

    def readConnectionLost(self) -> None:
        # What has been answered still leaves: printf '*IDN?\n' | nc HOST PORT
        self.hang_up(ConnectionLost(f"{self.peer} closed the connection"), abort=False)

    def writeConnectionLost(self) -> None:
        """Nothing: we never close one half only."""

    def hang_up(self, error: EquipmentConnectionError, abort: bool = True) -> None:
        if self.ended_by is None:
            # With a producer that is paused Twisted would wait for it before it closes.
            self.transport.unregisterProducer()
        super().hang_up(error, abort)

    def fail_pending(self, error: EquipmentConnectionError) -> None:
        self._lines.clear()
        self._partial.clear()
        self._held.clear()
        answering, self._answering = self._answering, None
        if answering is not None:
            answering.cancel()

    # The producer: what Twisted tells of the client's appetite

    def pauseProducing(self) -> None:
        self.choked = True

    def resumeProducing(self) -> None:
        self.choked = False
        self._work()

    def stopProducing(self) -> None:
        self.choked = False

    # From bytes to commands

    def _split(self, data: bytes) -> list[bytes]:
        """Give the commands that are complete, each without its terminator."""
        end, partial = self._end, self._partial
        if self._is_datagram:
            if self.taps:
                self.tapped("in", data)
            lines = data.split(end)
            if len(lines) > 1 and not lines[-1]:
                lines.pop()
            return lines
        if partial or self._dropping:
            new = max(len(partial) - len(end) + 1, 0)
            partial += data
            at = partial.find(end, new)
            if at < 0:
                self._check_partial()
                return []
            if self._dropping:
                self._dropping = False
                del partial[: at + len(end)]
            data = bytes(partial)
            partial.clear()
        lines = data.split(end)
        rest = lines.pop()
        if rest:
            partial += rest
            self._check_partial()
        return lines

    def _check_partial(self) -> None:
        # The last bytes may belong to the terminator.
        size = len(self._partial) - len(self._end) + 1
        if not self._dropping and size > self._simulator.max_command_size:
            self._dropping = True
            self._tell_too_long()
        if self._dropping and size > 0:
            del self._partial[:size]

    def _tell_too_long(self) -> None:
        self.log.warn(
            "{name}: {peer} sent a command of more than {limit} bytes; it is dropped",
            name=self._simulator.name,
            peer=self.peer,
            limit=self._simulator.max_command_size,
        )

    # From commands to replies

    def _work(self) -> None:
        """Answer what has come, as far as the client takes it."""
        if self._working:
            return
        self._working = True
        lines, known = self._lines, self._known
        try:
            while lines and self._answering is None and not self.choked:
                line = lines.popleft()
                reply = None if self._faults or self._held or self.taps else known.get(line)
                if reply is None:
                    self._act_on(line)
                elif reply:
                    self._replies.append(reply)
                    self._size += len(reply)
                if self._size >= BATCH:
                    self._flush()
            self._flush()
        finally:
            self._working = False
        if bool(lines) is not self._paused and self.ended_by is None:
            # Nothing is read as long as something that was read could not be acted on.
            self._paused = not self._paused
            if self._paused:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    def _act_on(self, line: bytes) -> None:
        simulator = self._simulator
        if self.taps and not self._is_datagram:
            self.tapped("in", line + self._end)
        if len(line) > simulator.max_command_size:
            self._tell_too_long()
            return
        reply: bytes | Deferred[Any] | None = self._known.get(line)
        if self._end == b"\n" and line.endswith(b"\r"):
            line = line[:-1]
        if not line and "" not in simulator._table:
            return
        injected = self._faults.take(self._is_concerned) if self._faults else None
        if injected is not None and injected.fault.silence:
            return
        if reply is None:
            reply = self._ask(line)
        if self.hanging_up:
            # What was called for the reply has ended the connection.
            if isinstance(reply, Deferred):
                reply.cancel()
        elif isinstance(reply, bytes):
            self._answered(reply, injected)
        else:
            self._answering = reply
            reply.addCallback(self._answered_later, injected)

    def _is_concerned(self, injected: Injected) -> bool:
        return not injected.fault.refuse and (injected.client in (None, self.peer) or injected.client is self)

    def _ask(self, line: bytes) -> bytes | Deferred[Any]:
        """Give the reply to a command, or a Deferred of it that does not fail."""
        simulator = self._simulator
        try:
            command = line.decode(simulator.encoding)
        except UnicodeError as error:
            self.log.warn(
                "{name}: {peer} sent a command that is dropped: {error}",
                name=simulator.name,
                peer=self.peer,
                error=error,
            )
            return b""
        try:
            answer = simulator.reply_to(command)
            if answer is None or isinstance(answer, (str, bytes)) or not isawaitable(answer):
                return simulator.encode(answer)
            later: Deferred[Any] = Deferred.fromCoroutine(_awaited(answer))
        except Exception:
            return self._no_answer(Failure(), command)
        return later.addCallback(simulator.encode).addErrback(self._no_answer, command)

    def _no_answer(self, reason: Failure, command: str) -> bytes:
        if not (self.hanging_up and reason.check(CancelledError)):
            self.log.failure(
                "{name}: the reply to {command!r}, sent by {peer}",
                reason,
                name=self._simulator.name,
                command=command,
                peer=self.peer,
            )
        return b""

    def _answered_later(self, reply: bytes, injected: Injected | None) -> None:
        self._answering = None
        if not self.hanging_up:
            self._answered(reply, injected)
            self._work()

    # What goes wrong between the reply and the wire

    def _answered(self, reply: bytes, injected: Injected | None) -> None:
        if injected is None:
            self._put_held()
            self._put(reply)
        elif injected.fault.delay:
            self._wait(injected.fault.delay, self._spoil, reply, injected)
        else:
            self._spoil(reply, injected)

    def _spoil(self, reply: bytes, injected: Injected) -> None:
        fault = injected.fault
        reply = fault.damage(reply, injected.draw)
        if fault.merge is not None:
            if reply:
                self._held.append(reply)
            if len(self._held) >= fault.merge:
                self._put_held()
            return
        self._put_held()
        if fault.split is not None and len(reply) > fault.split:
            if self.taps:
                self.tapped("out", reply)
            pieces = deque(reply[at : at + fault.split] for at in range(0, len(reply), fault.split))
            # The first one waits as well: what is written now and in the next turn leaves in one segment.
            self._wait(0, self._put_piece, pieces, fault)
        else:
            self._put(reply)
            self._finish(fault)

    def _put_piece(self, pieces: deque[bytes], fault: Fault) -> None:
        self._replies.append(pieces.popleft())
        self._flush()
        if pieces:
            self._wait(0, self._put_piece, pieces, fault)
        else:
            self._finish(fault)

    def _finish(self, fault: Fault) -> None:
        if fault.close is not None:
            self._flush()
            self.hang_up(Disconnected(f"{self._simulator.name} closes the connection: it is simulated so"), abort=False)
        elif fault.reset is not None:
            # The transport hands the reply to the system in the next turn, and an abort would drop it before.
            self._wait(0, self._wait, 0, self._reset)

    def _reset(self) -> None:
        self.hang_up(Disconnected(f"{self._simulator.name} resets the connection: it is simulated so"))

    def _wait(self, seconds: float, then: Callable[..., None], *args: Any) -> None:
        """Act on no other command until so many seconds are over, and call ``then``."""
        self._answering = self.clock.callLater(seconds, self._waited, then, args)

    def _waited(self, then: Callable[..., None], args: tuple[Any, ...]) -> None:
        self._answering = None
        then(*args)
        self._work()

    # How replies leave

    def _put(self, reply: bytes) -> None:
        if reply:
            if self.taps:
                self.tapped("out", reply)
            self._replies.append(reply)
            self._size += len(reply)

    def _put_held(self) -> None:
        if self._held:
            held = b"".join(self._held)
            self._held.clear()
            self._put(held)

    def _flush(self) -> None:
        replies = self._replies
        if not replies:
            return
        self._replies = []
        self._size = 0
        if not self._is_datagram:
            self.transport.write(replies[0] if len(replies) == 1 else b"".join(replies))
            return
        for reply in replies:
            try:
                self.transport.write(reply)
            except LocalProtocolError as error:
                self.log.warn(
                    "{name}: a reply to {peer} is dropped: {error}",
                    name=self._simulator.name,
                    peer=self.peer,
                    error=error,
                )


async def _awaited(answer: Awaitable[Answer]) -> Answer:
    return await answer
