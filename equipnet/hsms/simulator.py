"""
A piece of equipment that is a table: variables, constants, events, commands and alarms, with faults on request.

    etcher = EquipmentSimulator("tcp:5000", variables={1001: Variable("Pressure", F4(1.5), "Pa")})
    etcher.startService()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall

from equipnet.connection.address import Address
from equipnet.connection.faults import Faults
from equipnet.connection.retry import RetryPolicy
from equipnet.connection.state import Change, State
from equipnet.connection.tls import TLS
from equipnet.errors import ConnectionLost, EquipmentError, NotConnected, RemoteProtocolError
from equipnet.hsms.message import ReceivedMessage, RejectReason, encode
from equipnet.hsms.protocol import HsmsProtocol
from equipnet.hsms.service import HsmsPassiveConnection
from equipnet.hsms.settings import HsmsSettings, Timers
from equipnet.secs import BOOLEAN, U4, A, B, Item, L, Message, NumericItem, TextItem

#: What a command or a variable can be: a value, or something to call for it.
Value = Item | Callable[[], Item]


@dataclass(frozen=True)
class Variable:
    """
    A status variable or an equipment constant.

    Parameters
    ----------
    name
        What it is called.
    value
        Its value, or a callable that gives it.
    unit
        Of the value.
    """

    name: str
    value: Value
    unit: str = ""

    def read(self) -> Item:
        """The value now."""
        return self.value() if callable(self.value) else self.value


@dataclass(frozen=True)
class EquipmentFault:
    """
    What goes wrong with a primary that comes; several can go together.

    Parameters
    ----------
    delay
        Seconds before the reply.
    silence
        There is no reply.
    drop
        The connection is dropped instead of a reply.
    reject
        The primary is answered with a Reject.req for this reason.
    bad_text
        The text of the reply ends too early.
    wrong_system_bytes
        The reply has other system bytes.
    split
        The reply is sent in pieces of so many bytes.
    stream, function
        Of the primaries that are concerned; None for all.
    """

    delay: float = 0.0
    silence: bool = False
    drop: bool = False
    reject: int | None = None
    bad_text: bool = False
    wrong_system_bytes: bool = False
    split: int | None = None
    stream: int | None = None
    function: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.delay < float("inf"):
            raise ValueError(f"delay is {self.delay}, not 0 seconds or more")
        if self.reject is not None and not 0 <= self.reject <= 255:
            raise ValueError(f"reject is {self.reject}, not 0 to 255")
        if self.split is not None and self.split < 1:
            raise ValueError(f"split is {self.split}, less than 1")

    def concerns(self, message: Message) -> bool:
        """Whether it happens to a primary."""
        return self.stream in (None, message.stream) and self.function in (None, message.function)


class EquipmentSimulator(HsmsPassiveConnection):
    """
    Equipment to develop and test a host against.

    It answers S1F1, S1F3, S1F11, S1F13, S1F17, S2F13, S2F17, S2F31, S2F33, S2F35, S2F37, S2F41, S7F3 and S10F3, and
    what ``replies`` has; anything else can be added with `primary`, as to any passive connection.

    Parameters
    ----------
    listen
        Where to listen (see `equipnet.connection.address.parse_listen`).
    model, revision
        What S1F2 and S1F14 say (MDLN and SOFTREV).
    variables, constants
        The status variables (S1F3, S1F11, reports) and equipment constants (S2F13) by number.
    events
        The collection events that there are; any number where nothing is given.
    commands
        The remote commands (S2F41), with the HCACK that each is answered with, or something to call with the
        parameters, a mapping of names to items, that gives it.
    replies
        The item of the reply to other primaries, by their name: ``{"S1F5": L()}``; None for a header alone.
    event, rate
        The collection event that is sent by itself (S6F11), and how often a second.
    address, session_id, strict, timers, settings, tls, retry, name, reactor
        As `HsmsPassiveConnection` says.

    Attributes
    ----------
    programs
        The process programs that came with S7F3, by name.
    displayed
        The texts that came with S10F3, as pairs of terminal and text.
    enabled
        The collection events that are enabled (S2F37).
    """

    kind = "simulated-equipment"

    def __init__(
        self,
        listen: str | Address = "tcp:0",
        *,
        model: str = "EQUIPNET",
        revision: str = "1.0",
        variables: Mapping[int, Variable] = {},
        constants: Mapping[int, Variable] = {},
        events: Iterable[int] = (),
        commands: Mapping[str, int | Callable[[dict[str, Item]], int]] = {},
        replies: Mapping[str, Item | None] = {},
        event: int | None = None,
        rate: float = 0.0,
        address: str = "",
        session_id: int | None = None,
        strict: bool | None = None,
        timers: Timers | None = None,
        settings: HsmsSettings | None = None,
        tls: TLS | None = None,
        retry: RetryPolicy | None = None,
        name: str | None = None,
        reactor: Any = None,
    ) -> None:
        super().__init__(
            address,
            listen=listen,
            session_id=session_id,
            role="equipment",
            strict=strict,
            timers=timers,
            settings=settings,
            tls=tls,
            retry=retry,
            name=name,
            reactor=reactor,
        )
        if rate and event is None:
            raise ValueError("a rate needs the event that is sent")
        if not 0 <= rate < float("inf"):
            raise ValueError(f"rate is {rate}, not 0 a second or more")
        self.identity = L(A(model), A(revision))
        self.variables = dict(variables)
        self.constants = dict(constants)
        self.events = frozenset(events)
        self.commands = dict(commands)
        self.programs: dict[str, Item] = {}
        self.displayed: list[tuple[int, str]] = []
        self.enabled: set[int] = set()
        self._reports: dict[int, tuple[int, ...]] = {}
        self._links: dict[int, tuple[int, ...]] = {}
        self._clock_offset = timedelta(0)
        self._faults: Faults[EquipmentFault] = Faults()
        # The primaries that are being answered with a fault, by identity, and the replies that are delayed.
        self._at_work: dict[int, tuple[EquipmentFault, ReceivedMessage]] = {}
        self._delayed: set[IDelayedCall] = set()
        self._rate = rate
        self._event = event
        self._repeating: LoopingCall | None = None
        for (stream, function), handler in _HANDLERS.items():
            self.set_primary(stream, function, handler.__get__(self))
        for primary, item in replies.items():
            self.set_primary(*_numbers(primary), partial(_fixed, item))
        self.add_observer(self._begin_events)

    # What users call

    def inject(self, fault: EquipmentFault, count: int | None = None) -> None:
        """
        Let something go wrong with the primaries that come.

        Parameters
        ----------
        fault
            What. Those with a ``count`` come first, in the order of injection.
        count
            With how many of them; None for all, until `clear_faults` is called.
        """
        self._faults.inject(fault, count)

    def clear_faults(self) -> None:
        """Let all go well from the next primary on."""
        self._faults.clear()

    def send_event(self, event: int) -> Deferred[None]:
        """
        Send a collection event with the reports that are linked to it (S6F11, no reply wanted).

        Returns
        -------
        Deferred[None]
            As that of `send`.
        """
        reports = [
            L(U4(report), L(self._read(self.variables, number) for number in self._reports.get(report, ())))
            for report in self._links.get(event, ())
        ]
        return self.send(Message(6, 11, False, L(U4(0), U4(event), L(reports))))

    def send_alarm(self, alarm: int, text: str, is_set: bool = True) -> Deferred[ReceivedMessage]:
        """
        Send an alarm (S5F1), or that it is over.

        Returns
        -------
        Deferred[ReceivedMessage]
            The S5F2; as that of `request`.
        """
        return self.request(Message(5, 1, True, L(B(0x84 if is_set else 4), U4(alarm), A(text))))

    # What it answers

    def _are_you_there(self, message: ReceivedMessage) -> Item:
        return self.identity

    def _status(self, message: ReceivedMessage) -> Item:
        return L(self._read(self.variables, number) for number in _asked(message, self.variables))

    def _names(self, message: ReceivedMessage) -> Item:
        rows = []
        for number in _asked(message, self.variables):
            variable = self.variables.get(number, Variable("", L()))
            rows.append(L(U4(number), A(variable.name), A(variable.unit)))
        return L(rows)

    def _establish(self, message: ReceivedMessage) -> Item:
        return L(B(0), self.identity)

    def _accept(self, message: ReceivedMessage) -> Item:
        return B(0)

    def _constants(self, message: ReceivedMessage) -> Item:
        return L(self._read(self.constants, number) for number in _asked(message, self.constants))

    def _time(self, message: ReceivedMessage) -> Item:
        now = datetime.fromtimestamp(self._now().wall) + self._clock_offset
        return A(f"{now:%Y%m%d%H%M%S}{now.microsecond // 10000:02}")

    def _set_time(self, message: ReceivedMessage) -> Item:
        text = _text(message.item)
        try:
            # YYMMDDhhmmss or YYYYMMDDhhmmsscc
            time = datetime.strptime(text[:14], "%Y%m%d%H%M%S" if len(text) == 16 else "%y%m%d%H%M%S")
        except ValueError:
            return B(1)
        self._clock_offset = time - datetime.fromtimestamp(self._now().wall)
        return B(0)

    def _define_reports(self, message: ReceivedMessage) -> Item:
        definitions = {}
        for report in _list(_list(message.item, 2)[1]):
            number, variables = _list(report, 2)
            definitions[_number(number)] = tuple(_number(each) for each in _list(variables))
        if not definitions:
            self._reports.clear()
            self._links.clear()
            return B(0)
        if any(each not in self.variables for numbers in definitions.values() for each in numbers):
            return B(4)
        if any(each in self._reports for each, numbers in definitions.items() if numbers):
            return B(3)
        for defined, numbers in definitions.items():
            if numbers:
                self._reports[defined] = numbers
            else:
                self._reports.pop(defined, None)
        return B(0)

    def _link_reports(self, message: ReceivedMessage) -> Item:
        links = {}
        for link in _list(_list(message.item, 2)[1]):
            event, reports = _list(link, 2)
            links[_number(event)] = tuple(_number(each) for each in _list(reports))
        if self.events and not self.events.issuperset(links):
            return B(4)
        if any(report not in self._reports for reports in links.values() for report in reports):
            return B(5)
        self._links.update(links)
        return B(0)

    def _enable_events(self, message: ReceivedMessage) -> Item:
        enable, events = _list(message.item, 2)
        numbers = {_number(each) for each in _list(events)} or self.events | self._links.keys()
        if self.events and not self.events.issuperset(numbers):
            return B(1)
        if not isinstance(enable, BOOLEAN):
            raise RemoteProtocolError(f"{enable!r} is no BOOLEAN")
        self.enabled = self.enabled | numbers if enable.value else self.enabled - numbers
        return B(0)

    def _command(self, message: ReceivedMessage) -> Item:
        name, pairs = _list(message.item, 2)
        parameters = {_text(_list(pair, 2)[0]): _list(pair, 2)[1] for pair in _list(pairs)}
        answer = self.commands.get(_text(name), 1)
        return L(B(answer(parameters) if callable(answer) else answer), L())

    def _store_program(self, message: ReceivedMessage) -> Item:
        name, body = _list(message.item, 2)
        self.programs[_text(name)] = body
        return B(0)

    def _display(self, message: ReceivedMessage) -> Item:
        terminal, text = _list(message.item, 2)
        self.displayed.append((_number(terminal), _text(text)))
        return B(0)

    def _read(self, table: dict[int, Variable], number: int) -> Item:
        variable = table.get(number)
        return L() if variable is None else variable.read()

    # What goes wrong

    def primary_received(self, protocol: HsmsProtocol, message: ReceivedMessage) -> None:
        fault = self._faults.take(lambda each: each.concerns(message)) if self._faults else None
        if fault is None:
            super().primary_received(protocol, message)
        elif fault.drop:
            protocol.hang_up(ConnectionLost(f"{self.name} drops the connection: it is simulated so"))
        elif fault.reject is not None:
            protocol.reject(message, RejectReason(fault.reject) if 1 <= fault.reject <= 4 else fault.reject)
        elif not fault.silence:
            in_work = protocol.in_work
            self._at_work[id(message)] = (fault, message)
            super().primary_received(protocol, message)
            if protocol.in_work == in_work:
                self._at_work.pop(id(message), None)

    def send_reply(self, protocol: HsmsProtocol, message: ReceivedMessage, reply: Message) -> None:
        fault, _ = self._at_work.pop(id(message), (None, message))
        if fault is None:
            super().send_reply(protocol, message, reply)
        elif fault.delay:
            call: IDelayedCall

            def send() -> None:
                self._delayed.discard(call)
                self._spoil(fault, protocol, message, reply)

            call = self.reactor.callLater(fault.delay, send)
            self._delayed.add(call)
        else:
            self._spoil(fault, protocol, message, reply)

    def closing(self, protocol: HsmsProtocol) -> None:
        delayed, self._delayed = self._delayed, set()
        for call in delayed:
            call.cancel()
        super().closing(protocol)

    def _spoil(self, fault: EquipmentFault, protocol: HsmsProtocol, message: ReceivedMessage, reply: Message) -> None:
        system = message.system_bytes ^ 0x8000_0000 if fault.wrong_system_bytes else message.system_bytes
        frame = b"".join(encode(reply, message.session_id, system))
        if fault.bad_text:
            # At least one byte of a text, and never a whole item.
            text = frame[14:-1] or b"\x41"
            frame = (10 + len(text)).to_bytes(4, "big") + frame[4:14] + text
        protocol.send_bytes(frame, fault.split)

    # Events that are sent by themselves

    def _begin_events(self, change: Change) -> None:
        if not self._rate:
            return
        if change.new is State.READY:
            self._repeating = LoopingCall.withCount(self._send_events)
            self._repeating.clock = self.reactor
            self._repeating.start(1 / self._rate, now=False)
        elif self._repeating is not None:
            repeating, self._repeating = self._repeating, None
            repeating.stop()

    def _send_events(self, count: int) -> None:
        assert self._event is not None
        for _ in range(count):
            self.send_event(self._event).addErrback(self._not_sent)

    def _not_sent(self, reason: Any) -> None:
        # A host that does not take them misses some.
        reason.trap(EquipmentError, NotConnected)


_HANDLERS: dict[tuple[int, int], Any] = {
    (1, 1): EquipmentSimulator._are_you_there,
    (1, 3): EquipmentSimulator._status,
    (1, 11): EquipmentSimulator._names,
    (1, 13): EquipmentSimulator._establish,
    (1, 17): EquipmentSimulator._accept,
    (2, 13): EquipmentSimulator._constants,
    (2, 17): EquipmentSimulator._time,
    (2, 31): EquipmentSimulator._set_time,
    (2, 33): EquipmentSimulator._define_reports,
    (2, 35): EquipmentSimulator._link_reports,
    (2, 37): EquipmentSimulator._enable_events,
    (2, 41): EquipmentSimulator._command,
    (7, 3): EquipmentSimulator._store_program,
    (10, 3): EquipmentSimulator._display,
}


def _fixed(item: Item | None, message: ReceivedMessage) -> Message:
    return message.reply(item)


def _numbers(primary: str) -> tuple[int, int]:
    """Give stream and function of ``"S1F5"``."""
    stream, _, function = primary.removeprefix("S").partition("F")
    if not (primary.startswith("S") and stream.isdecimal() and function.isdecimal()):
        raise ValueError(f"{primary!r} is not the name of a primary, such as 'S1F5'")
    return int(stream), int(function)


# What a primary may hold; anything else aborts the transaction.


def _list(item: Item | None, length: int | None = None) -> tuple[Item, ...]:
    if not isinstance(item, L) or (length is not None and len(item) != length):
        raise RemoteProtocolError(f"{item!r:.80} is not a list{'' if length is None else f' of {length}'}")
    return item.value


def _number(item: Item) -> int:
    if not isinstance(item, NumericItem) or len(item) != 1:
        raise RemoteProtocolError(f"{item!r:.80} is not one number")
    return int(item.value)


def _text(item: Item | None) -> str:
    if not isinstance(item, TextItem):
        raise RemoteProtocolError(f"{item!r:.80} is not a text")
    return item.decode("latin-1")


def _asked(message: ReceivedMessage, table: Mapping[int, object]) -> list[int]:
    """The numbers that are asked for; all of them where none is named, in a list or in one array."""
    item = message.item
    if isinstance(item, NumericItem):
        return [int(number) for number in item.values] or list(table)
    return [_number(each) for each in _list(item)] or list(table)
