"""
A simulated dcss: the other side of a hardware server, with a port for GUIs, an API for tests, and faults on request::

    dcss = DcssSimulator("database.dat", reactor=clock)
    await dcss.when_configured("loopDHS")
    found = await dcss.start_operation("getLoopTip", 0)
    await dcss.move("gonio_phi", 30)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeVar

from twisted.internet.abstract import isIPAddress
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IReactorTime
from twisted.python.failure import Failure

from equipnet.connection.address import Address
from equipnet.connection.endpoint import server_endpoint
from equipnet.connection.faults import Faults, Injected
from equipnet.connection.memory import MemoryEndpoint
from equipnet.connection.protocol import WireProtocol
from equipnet.connection.retry import RetryPolicy
from equipnet.connection.service import ListeningConnection, ListeningFactory
from equipnet.connection.state import State
from equipnet.dcs.database import (
    NAME_LIMIT,
    Database,
    Device,
    Encoder,
    HardwareHost,
    IonChamber,
    Motor,
    Operation,
    Shutter,
    StringDevice,
    load_database,
)
from equipnet.dcs.gui import GuiPort
from equipnet.dcs.hub import Completion, Hub
from equipnet.dcs.message import FIXED_SIZE, Message, encode
from equipnet.dcs.protocol import DEFAULT_QUEUE_LIMIT, DcsProtocol
from equipnet.dcs.tcl import join, number
from equipnet.errors import (
    Disconnected,
    EquipmentConnectionError,
    EquipmentError,
    EquipmentTimeout,
    LocalProtocolError,
    RemoteProtocolError,
)

#: Seconds for the answer of a hardware server in the handshake, and until one is closed whose name is taken.
HANDSHAKE_TIME, DUPLICATE_TIME = 1.0, 3.0

#: What a message begins with whose header is spoilt: as many bytes as a header has.
GARBAGE = b"### this is no header ####"

#: Where a message is when its connection is ended.
Place = Literal["before", "middle", "after"]

OnUpdate = Callable[[Completion], object]
_D = TypeVar("_D", bound=Device)


class AbnormalCompletion(EquipmentError):
    """
    A hardware server, or the dcss itself, ended something with another status than ``normal``.

    ``completion`` holds all that was told.
    """

    def __init__(self, completion: Completion) -> None:
        text = f" {completion.text}" if completion.text else ""
        super().__init__(f"{completion.device}: {completion.status}{text}")
        self.completion = completion


@dataclass(frozen=True, kw_only=True)
class DcssFault:
    """
    What a simulated dcss does wrong with a message to a hardware server.

    Parameters
    ----------
    on
        With which messages, by their first word (``"stoc_send_client_type"`` is the handshake); with all where nothing
        is given.
    host
        With which hardware server; with all where nothing is given. In the handshake it is not known yet.
    silence
        The message is not sent. Alone.
    twice
        It is sent twice, as when a device is registered twice.
    garbage
        In place of its first 26 bytes, which are the header in protocol 2, comes garbage.
    split
        It leaves in pieces of so many bytes, one turn of the reactor apart.
    stall
        After half of it nothing more is sent, and nothing is read, until `DcssSimulator.clear_faults` is called.
    close
        The connection is closed (TCP: FIN) ``"before"`` the message, in its ``"middle"`` or ``"after"`` it.
    reset
        The connection is torn down (TCP: RST), likewise.

    Raises
    ------
    ValueError
        When there is no fault in it, a number makes no sense, or two of them exclude each other.
    """

    on: str = ""
    host: str = ""
    silence: bool = False
    twice: bool = False
    garbage: bool = False
    split: int | None = None
    stall: bool = False
    close: Place | None = None
    reset: Place | None = None

    def __post_init__(self) -> None:
        if self.split is not None and self.split < 1:
            raise ValueError(f"split is {self.split!r}, not a whole number of at least 1")
        for name, place in (("close", self.close), ("reset", self.reset)):
            if place not in (None, "before", "middle", "after"):
                raise ValueError(f"{name} is {place!r}, not 'before', 'middle' or 'after'")
        given = [field.name for field in fields(self)[2:] if getattr(self, field.name)]
        if not given:
            raise ValueError("there is no fault in it")
        if self.silence and len(given) > 1:
            raise ValueError(f"silence goes with nothing else, not with {given[1]}")
        ends = [name for name in ("stall", "close", "reset") if name in given]
        if len(ends) > 1:
            raise ValueError(f"{ends[0]} does not go with {ends[1]}")

    def pieces(self, raw: bytes) -> Iterable[bytes | _End]:
        """Give what is sent of a message, and what happens in between, one turn of the reactor apart."""
        if self.twice:
            raw += raw
        if self.garbage:
            raw = GARBAGE + raw[len(GARBAGE) :]
        place = "middle" if self.stall else self.close or self.reset
        at = {"before": 0, "middle": len(raw) // 2}.get(place or "", len(raw))
        yield from self._split(raw[:at])
        if self.stall:
            yield _End.STALL
            yield from self._split(raw[at:])
        elif self.close:
            yield _End.CLOSE
        elif self.reset:
            # The transport hands what was written to the system in the next turn, and a reset would drop it before.
            yield b""
            yield _End.RESET

    def _split(self, raw: bytes) -> Iterable[bytes]:
        size = self.split or max(len(raw), 1)
        return (raw[at : at + size] for at in range(0, len(raw), size))


class _Faults(Faults[DcssFault]):
    """What goes wrong: those with a count first, in the order of injection, then the first of the others."""

    def choose(self, concerned: Sequence[Injected[DcssFault]]) -> Injected[DcssFault]:
        return next((injected for injected in concerned if injected.left is not None), concerned[0])


class _End(Enum):
    STALL = "stall"
    CLOSE = "close"
    RESET = "reset"


class DcssSimulator(ListeningConnection):
    """
    A dcss with all its devices: hardware servers connect to one port, GUIs to another one.

    It keeps the rules of a real one: the checks of the handshake, the registration, positions in the circle, limits
    before a move, and aborting all when something ended abnormally. Where a real one crashes or hangs, it complains,
    and goes on. To switch it off and on, call `disconnect` and `connect`: it comes back on the same ports.

    Parameters
    ----------
    database
        The devices, or the file that holds them.
    listen
        Where hardware servers connect (see `equipnet.connection.address.parse_listen`); never TLS.
    gui
        Where GUIs connect; 127.0.0.1 where no interface is given.
    staff, location
        What GUIs are: staff or users; LOCAL, REMOTE or HUTCH.
    check_address
        Whether hardware servers must come from the computer that the database names, as with a real dcss.
    fault
        What goes wrong from the beginning, until `clear_faults` is called.
    name, max_connections, allowed, retry, reactor
        As `equipnet.connection.service.ListeningConnection` says, for both ports.

    Attributes
    ----------
    database
        The devices, with their present states.
    hub
        The rules.
    gui
        The port of the GUIs.

    Raises
    ------
    ConfigError
        When the file is not right; it holds every problem, each with its line.
    """

    kind = "simulated-dcss"

    def __init__(
        self,
        database: Database | str | Path,
        listen: str | Address = "tcp:0",
        *,
        gui: str | Address = "tcp:0",
        staff: bool = True,
        location: str = "LOCAL",
        check_address: bool = False,
        fault: DcssFault | None = None,
        name: str | None = None,
        max_connections: int = 100,
        allowed: Iterable[str] = (),
        retry: RetryPolicy | None = None,
        reactor: Any = None,
    ) -> None:
        allowed = tuple(allowed)
        super().__init__(
            listen, name=name, max_connections=max_connections, allowed=allowed, retry=retry, reactor=reactor
        )
        self.database = database if isinstance(database, Database) else load_database(database)
        self.hub = Hub(self.database, self.name)
        self.hub.on_completion = self._completed
        self.hub.on_update = self._updated
        self.hub.on_configured = self._configured
        self.gui = GuiPort(
            self.hub,
            gui,
            name=f"{self.name} (GUIs)",
            max_connections=max_connections,
            allowed=allowed,
            staff=staff,
            location=location,
            retry=retry,
            reactor=self.reactor,
        )
        self.check_address = check_address
        self._faults = _Faults()
        # By what is waited for, so that thousands of operations at once cost as much each as one.
        self._waits: dict[tuple[str, str, str], list[_Wait]] = {}
        self._online: list[tuple[str, Deferred[None]]] = []
        self._ready: list[tuple[str, Deferred[None]]] = []
        self._last_handle = 0
        for warning in self.database.warnings:
            self.log.warn("{name}: {text}", name=self.name, text=warning)
        if fault is not None:
            self.inject(fault)

    # What users call: the state

    @property
    def complaints(self) -> list[str]:
        """What hardware servers did that a real dcss only writes into its log, or does not survive."""
        return list(self.hub.complaints)

    def device(self, name: str) -> Device:
        """
        Give a device, with its present state.

        Raises
        ------
        LocalProtocolError
            When there is none of that name.
        """
        return self._device(name, Device)

    def when_online(self, host: str) -> Deferred[None]:
        """
        Wait for a hardware server.

        Returns
        -------
        Deferred[None]
            Fires when it has passed the handshake and its devices have been sent; at once when that is so already.
            Fails with `Disconnected` when the simulator is stopped, and with `LocalProtocolError` when there is no
            hardware server of that name.
        """
        found = self.hub.host_named(host)
        return self._when(host, found is not None and found.online, self._online)

    def when_configured(self, host: str) -> Deferred[None]:
        """
        Wait until the motors of a hardware server can be moved.

        Returns
        -------
        Deferred[None]
            Fires when it is connected, and has configured each of its motors, or has asked for what we know of it; at
            once when that is so already. Fails as `when_online` says.
        """
        return self._when(host, self.hub.is_configured(host), self._ready)

    def _when(self, host: str, is_so: bool, queue: list[tuple[str, Deferred[None]]]) -> Deferred[None]:
        if self.hub.host_named(host) is None:
            return fail(LocalProtocolError(f"there is no hardware host {host!r} in the database"))
        if is_so:
            return succeed(None)
        waiting: Deferred[None] = Deferred(lambda _: queue.remove((host, waiting)))
        queue.append((host, waiting))
        return waiting

    # What users call: the beamline. Each Deferred[Completion] ends in one of the ways that `move` lists.

    def move(self, motor: str, destination: float, on_update: OnUpdate | None = None) -> Deferred[Completion]:
        """
        Move a motor.

        Parameters
        ----------
        motor
            Which.
        destination
            In its units.
        on_update
            Is called with each position that is reported on the way.

        Returns
        -------
        Deferred[Completion]
            Fires with the position. Fails with `AbnormalCompletion` when the move was refused (limits, lock, already
            moving), aborted, or failed, or its hardware server is not there or goes; with `LocalProtocolError` when
            there is no such motor; with `Disconnected` when the simulator is stopped. A move carries no name: what is
            completed while two wait for one motor ends both. Cancelled, it is forgotten, and the motor goes on.
        """

        def start(device: Motor, wait: _Wait) -> None:
            refusal = self.hub.start_move(device, number(destination))
            if refusal:
                shown = f"{device.circle.shown(device.position):f}"
                self._end(wait, Completion(motor, refusal, shown))

        return self._ask("move", motor, Motor, start, on_update)

    def start_operation(
        self, operation: str, *arguments: object, on_update: OnUpdate | None = None
    ) -> Deferred[Completion]:
        """
        Start an operation.

        Parameters
        ----------
        operation
            Which.
        arguments
            Texts, numbers and tuples of them; each becomes one word.
        on_update
            Is called with each update.

        Returns
        -------
        Deferred[Completion]
            Fires with what it gave. Fails as `move` says.
        """
        self._last_handle += 1
        handle = f"1.{self._last_handle}"

        def start(device: Operation, wait: _Wait) -> None:
            self.hub.start_operation(device, f"{handle} {join(arguments)}".rstrip(), ours=True)

        return self._ask("operation", operation, Operation, start, on_update, handle)

    def stop_operation(self, operation: str) -> None:
        """Ask the running instances of an operation to end; it raises `LocalProtocolError` when there is none."""
        self.hub.stop_operation(self._device(operation, Operation))

    def abort_all(self, how: str = "soft") -> None:
        """Abort everything on the beamline, ``"soft"`` or ``"hard"``."""
        self.hub.abort_all(how)

    def abort_move(self, motor: str, how: str = "soft") -> None:
        """Abort the move of one motor; it raises `LocalProtocolError` when there is none."""
        self.hub.pass_on(self._device(motor, Motor), f"abort_motor_move {motor} {how}")

    def oscillate(self, motor: str, shutter: str, delta: float, seconds: float) -> Deferred[Completion]:
        """Move a motor by ``delta`` in so many seconds, with a shutter open (``"NULL"``: none); ends as `move` does."""
        text = f"start_oscillation {motor} {shutter} {number(delta)} {number(seconds)}"
        return self._ask("move", motor, Motor, lambda device, _: self.hub.pass_on(device, text))

    def move_vector(
        self, first: str, second: str, to_first: float, to_second: float, speed: float
    ) -> Deferred[Completion]:
        """Move two motors together (``"NULL"``: only one); the result is that of the first, as `move` says."""
        text = f"start_vector_move {first} {second} {number(to_first)} {number(to_second)} {number(speed)}"
        return self._ask("move", first, Motor, lambda device, _: self.hub.pass_on(device, text))

    def set_position(self, motor: str, position: float) -> None:
        """Tell a motor where it is; it raises `LocalProtocolError` when there is none."""
        self.hub.set_position(self._device(motor, Motor), position)

    def set_shutter(self, shutter: str, state: str) -> Deferred[Completion]:
        """Open or close a shutter (``"open"``, ``"closed"``); fires with the state, and fails as `move` says."""
        text = f"set_shutter_state {shutter} {state}"
        return self._ask("shutter", shutter, Shutter, lambda device, _: self.hub.pass_on(device, text))

    def set_string(self, string: str, contents: str) -> Deferred[Completion]:
        """Set a string; fires with its contents, and fails as `move` says."""
        text = f"set_string {string} {contents}"
        return self._ask("string", string, StringDevice, lambda device, _: self.hub.pass_on(device, text))

    def get_encoder(self, encoder: str) -> Deferred[Completion]:
        """Read an encoder; fires with its position, and fails as `move` says."""
        text = f"get_encoder {encoder}"
        return self._ask("get_encoder", encoder, Encoder, lambda device, _: self.hub.pass_on(device, text))

    def set_encoder(self, encoder: str, position: float) -> Deferred[Completion]:
        """Set an encoder; fires with its position, and fails as `move` says."""
        text = f"set_encoder {encoder} {number(position)}"
        return self._ask("set_encoder", encoder, Encoder, lambda device, _: self.hub.pass_on(device, text))

    def read_ion_chambers(self, seconds: float, *chambers: str) -> Deferred[Completion]:
        """
        Let ion chambers count.

        Returns
        -------
        Deferred[Completion]
            Fires with the counts of all of them, whichever hardware servers they belong to. Fails as `move` says, with
            the first failure.
        """
        try:
            devices = [self._device(name, IonChamber) for name in chambers]
            if not devices:
                raise LocalProtocolError("no ion chamber was named")
            wait = self._expect("ion_chambers", " ".join(chambers))
            wait.missing = set(chambers)
            self.hub.read_ion_chambers(number(seconds), devices)
        except LocalProtocolError as error:
            return fail(error)
        return wait.ended

    # What users call: faults

    def inject(self, fault: DcssFault, count: int | None = None) -> None:
        """
        Let something go wrong.

        Parameters
        ----------
        fault
            What.
        count
            With how many messages; None for all, until `clear_faults` is called. Those with a count come first, in
            the order of injection; when they are used up, the first one without.

        Raises
        ------
        ValueError
            When ``count`` is less than 1.
        """
        self._faults.inject(fault, count)

    def clear_faults(self) -> None:
        """Let all go well from the next message on; connections that are stalled go on."""
        self._faults.clear()
        for protocol in self._lines():
            protocol.release()

    def drop(self, host: str, reset: bool = False) -> None:
        """Close the connection with a hardware server now, or tear it down; it is no error when there is none."""
        for protocol in self._lines():
            if protocol.host is not None and protocol.host.name == host:
                protocol.end(reset)

    def fault_for(self, command: str, host: str) -> DcssFault | None:
        """Give what goes wrong with a message, and count it."""
        return self._faults.take(lambda fault: fault.on in ("", command) and fault.host in ("", host))

    # Connections

    def in_memory(self, clock: IReactorTime | None = None) -> MemoryEndpoint:
        """
        Give an endpoint that connects a hardware server without a socket, whether the simulator is started or not.

        Parameters
        ----------
        clock
            Carries the bytes over; the simulator's reactor where nothing is given.
        """
        return MemoryEndpoint(_MemoryFactory(self), clock or self.reactor)

    def gui_in_memory(self, clock: IReactorTime | None = None) -> MemoryEndpoint:
        """Give an endpoint that connects a GUI without a socket; the parameter is that of `in_memory`."""
        return MemoryEndpoint(_MemoryFactory(self.gui), clock or self.reactor)

    def build_protocol(self) -> HardwareProtocol:
        return HardwareProtocol(self)

    def disconnect(self) -> Deferred[None]:
        error = Disconnected(f"{self.name} was closed from our side")
        self._fail_waits(error)
        if self.state is State.STOPPED:
            # Those in memory can be there all the same.
            for protocol in (*self.protocols, *self.gui.protocols):
                protocol.hang_up(error, abort=False)
        return super().disconnect()

    def _listen(self) -> Deferred[IListeningPort]:
        listening: Deferred[Any] = self.gui.connect()
        listening.addCallback(lambda _: server_endpoint(self.address, self.reactor).listen(ListeningFactory(self)))
        return listening

    def _listening(self, port: IListeningPort) -> None:
        super()._listening(port)
        # Switched off and on again, it is where its clients look for it.
        self.address = self.bound or self.address
        self.gui.keep_address()

    def _close(self, error: Disconnected) -> None:
        closed = self.gui.disconnect()
        closed.addCallback(lambda _: super(DcssSimulator, self)._close(error))

    def _lines(self) -> list[HardwareProtocol]:
        return [each for each in self.protocols if isinstance(each, HardwareProtocol)]

    # Who waits for what

    def _device(self, name: str, kind: type[_D]) -> _D:
        device = self.database.get(name)
        if not isinstance(device, kind):
            what = "is not in the database" if device is None else f"is a {device.WORD}"
            raise LocalProtocolError(f"{name!r} {what}")
        return device

    def _ask(
        self,
        sort: str,
        name: str,
        kind: type[_D],
        start: Callable[[_D, _Wait], object],
        on_update: OnUpdate | None = None,
        handle: str = "",
    ) -> Deferred[Completion]:
        try:
            device = self._device(name, kind)
        except LocalProtocolError as error:
            return fail(error)
        # What belongs to the scripting engine ends before this returns.
        wait = self._expect(sort, name, on_update, handle)
        try:
            start(device, wait)
        except LocalProtocolError as error:
            self._forget_wait(wait)
            return fail(error)
        return wait.ended

    def _expect(self, sort: str, name: str, on_update: OnUpdate | None = None, handle: str = "") -> _Wait:
        wait = _Wait(sort, name, on_update, handle)

        def forget(ended: Deferred[Completion]) -> None:
            self._forget_wait(wait)

        wait.ended = Deferred(forget)
        self._waits.setdefault(wait.key, []).append(wait)
        return wait

    def _forget_wait(self, wait: _Wait) -> bool:
        """Forget somebody who waits; give whether that was so."""
        waits = self._waits.get(wait.key, [])
        if wait not in waits:
            return False
        waits.remove(wait)
        if not waits:
            del self._waits[wait.key]
        return True

    def _completed(self, sort: str, completion: Completion) -> None:
        for wait in self._waiting_for(sort, completion):
            if wait.is_for(completion):
                told = wait.take(completion)
                if told is not None:
                    self._end(wait, told)

    def _updated(self, sort: str, completion: Completion) -> None:
        for wait in self._waiting_for(sort, completion):
            if wait.on_update is not None:
                try:
                    wait.on_update(completion)
                except Exception:
                    self.log.failure("{name}: taking an update of {device}", name=self.name, device=completion.device)

    def _waiting_for(self, sort: str, completion: Completion) -> tuple[_Wait, ...]:
        return tuple(self._waits.get(_key(sort, completion.device, completion.handle), ()))

    def _end(self, wait: _Wait, completion: Completion) -> None:
        # Somebody who was told before may have cancelled it.
        if self._forget_wait(wait):
            if completion.status == "normal":
                wait.ended.callback(completion)
            else:
                wait.ended.errback(AbnormalCompletion(completion))

    def _fail_waits(self, error: EquipmentError) -> None:
        waits = [wait for each in self._waits.values() for wait in each]
        self._waits.clear()
        online = [*self._online, *self._ready]
        self._online.clear()
        self._ready.clear()
        for wait in waits:
            wait.ended.errback(error)
        for _, waiting in online:
            waiting.errback(error)

    def went_online(self, host: str) -> None:
        """Tell those who wait for a hardware server."""
        self._tell(self._online, host)

    def _configured(self, host: str) -> None:
        self._tell(self._ready, host)

    def _tell(self, queue: list[tuple[str, Deferred[None]]], host: str) -> None:
        for waiting in tuple(queue):
            if waiting[0] == host and waiting in queue:
                queue.remove(waiting)
                waiting[1].callback(None)


def _key(sort: str, name: str, handle: str) -> tuple[str, str, str]:
    # Ion chambers are asked for, and report, in groups.
    return sort, "" if sort == "ion_chambers" else name, handle


class _Wait:
    """Somebody who waits for the end of something."""

    def __init__(self, sort: str, name: str, on_update: OnUpdate | None, handle: str) -> None:
        self.key = _key(sort, name, handle)
        self.name = name
        self.on_update = on_update
        self.ended: Deferred[Completion]
        self.missing: set[str] = set()
        self.texts: list[str] = []

    def is_for(self, completion: Completion) -> bool:
        """Whether a completion with the same key is what is waited for, or a part of it."""
        return not self.missing or not self.missing.isdisjoint(completion.device.split())

    def take(self, completion: Completion) -> Completion | None:
        """Give how it ended, once all has come."""
        if not self.missing or completion.status != "normal":
            return completion
        self.missing -= set(completion.device.split())
        self.texts.append(completion.text)
        return None if self.missing else Completion(self.name, "normal", " ".join(self.texts))


class _MemoryFactory(ListeningFactory):
    """Build the protocols of clients in memory."""

    def __init__(self, service: ListeningConnection) -> None:
        super().__init__(service)
        self._port = service

    def buildProtocol(self, addr: object) -> WireProtocol | None:
        # Without an address: it is no network from which it comes.
        return self._port.admit(None)


class _Handshake(Enum):
    ASKED = "asked who it is"
    LOOKED_UP = "has said who it is, and its computer's address is being looked up"
    REFUSED = "refused, and about to be closed"
    ACCEPTED = "accepted"


class HardwareProtocol(DcsProtocol):
    """
    One hardware server, seen from the dcss.

    Parameters
    ----------
    simulator
        Knows the devices, and what goes wrong.

    Attributes
    ----------
    host
        Who it is; None until the handshake is over.
    """

    def __init__(self, simulator: DcssSimulator) -> None:
        super().__init__(simulator)
        self.host: HardwareHost | None = None
        self._simulator = simulator
        self._hub = simulator.hub
        self._handshake = _Handshake.ASKED
        self._timer: IDelayedCall | None = None
        # What leaves later, and what happens in between, one piece in each turn.
        self._pieces: deque[bytes | _End] = deque()
        self._size = 0
        self._turn: IDelayedCall | None = None
        self._stalled = False

    # What the hub and the simulator call

    def send(self, text: str) -> None:
        """Send one message, if the hardware server is still there; the faults happen here."""
        if self.hanging_up:
            return
        if self.writes == 2:
            raw = encode(text)
        else:
            # As a dcss does it: a longer text is cut, and has no NUL then.
            raw = text.encode("utf-8", "surrogateescape")[:FIXED_SIZE].ljust(FIXED_SIZE, b"\0")
        if self.taps:
            self.tapped("out", raw, text)
        name = "" if self.host is None else self.host.name
        fault = self._simulator.fault_for(text.split(None, 1)[0], name)
        if fault is not None and fault.silence:
            return
        if fault is None and not self._pieces and not self._stalled:
            self.send_bytes(raw)
            return
        for piece in [raw] if fault is None else fault.pieces(raw):
            self._pieces.append(piece)
            self._size += len(piece) if isinstance(piece, bytes) else 0
        if self._size > DEFAULT_QUEUE_LIMIT:
            self.end(reset=True)
        self._go_on()

    def release(self) -> None:
        """Go on after a stall."""
        if self._stalled:
            self._stalled = False
            self.transport.resumeProducing()
            self._go_on()

    def end(self, reset: bool) -> None:
        """Close the connection, or tear it down."""
        how = "resets" if reset else "closes"
        self.hang_up(Disconnected(f"{self._simulator.name} {how} the connection: it is simulated so"), abort=reset)

    # What Twisted and the service call

    def begin(self) -> None:
        self._timer = self._simulator.reactor.callLater(
            HANDSHAKE_TIME, self._close, EquipmentTimeout(HANDSHAKE_TIME, "the 200 bytes of htos_client_is_hardware")
        )
        self.send("stoc_send_client_type")

    def message_received(self, message: Message, binary: bytes) -> None:
        if self._handshake is _Handshake.ACCEPTED:
            assert self.host is not None
            # What comes with a message in binary is read and thrown away, as by a dcss.
            self._hub.hardware_said(self.host, message.text)
        elif self._handshake is _Handshake.ASKED:
            self._identified(message.text)

    def hang_up(self, error: EquipmentConnectionError, abort: bool = True) -> None:
        if isinstance(error, RemoteProtocolError):
            self._hub.complain(f"{self._who()} sent what a dcss would be thrown out of step by: {error}")
        super().hang_up(error, abort)

    def fail_pending(self, error: EquipmentConnectionError) -> None:
        for call in (self._timer, self._turn):
            if call is not None and call.active():
                call.cancel()
        self._timer = self._turn = None
        self._pieces.clear()
        super().fail_pending(error)
        if self.host is not None:
            self._hub.disconnected(self.host, self)

    # The handshake

    def _identified(self, text: str) -> None:
        words = text.split()
        # The first word is not looked at.
        name = words[1] if len(words) > 1 else ""
        host = self._hub.host_named(name)
        if len(name) > NAME_LIMIT:
            self._refuse(f"its name has {len(name)} characters, which crashes a dcss", 0)
        elif host is None:
            self._refuse(f"{name!r} is no hardware host in the database", 0)
        elif self._simulator.check_address:
            self._cancel()
            self._handshake = _Handshake.LOOKED_UP
            self._look_up(host.computer).addBoth(self._looked_up, host)
        else:
            self._admit(host)

    def _look_up(self, computer: str) -> Deferred[str]:
        if computer == "localhost" or isIPAddress(computer):
            return succeed("127.0.0.1" if computer == "localhost" else computer)
        return maybeDeferred(self._simulator.reactor.resolve, computer)

    def _looked_up(self, address: str | Failure, host: HardwareHost) -> None:
        if self.hanging_up:
            return
        if address == getattr(self.transport.getPeer(), "host", ""):
            self._admit(host)
        else:
            self._refuse(f"{host.name} does not come from {host.computer}", HANDSHAKE_TIME)

    def _admit(self, host: HardwareHost) -> None:
        if host.online:
            self._refuse(f"{host.name} is connected already", DUPLICATE_TIME)
        else:
            self._cancel()
            self._handshake = _Handshake.ACCEPTED
            self.host = host
            self.reads = self.writes = 2 if host.protocol == 2 else 1
            self._hub.connected(host, self)
            if not self.hanging_up:
                self._simulator.went_online(host.name)

    def _refuse(self, why: str, seconds: float) -> None:
        self._cancel()
        self._handshake = _Handshake.REFUSED
        self._hub.complain(f"{self.peer} is refused: {why}")
        error = Disconnected(f"{self.peer} is refused: {why}")
        if seconds:
            self._timer = self._simulator.reactor.callLater(seconds, self._close, error)
        else:
            self._close(error)

    def _close(self, error: EquipmentConnectionError) -> None:
        self._timer = None
        self.hang_up(error, abort=False)

    def _cancel(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _who(self) -> str:
        return self.peer if self.host is None else self.host.name

    # Pieces

    def _go_on(self) -> None:
        if self._turn is None and self._pieces and not self._stalled and not self.hanging_up:
            self._turn = self._simulator.reactor.callLater(0, self._next_piece)

    def _next_piece(self) -> None:
        self._turn = None
        piece = self._pieces.popleft()
        if isinstance(piece, bytes):
            self._size -= len(piece)
            if piece:
                self.send_bytes(piece)
        elif piece is _End.STALL:
            self._stalled = True
            self.transport.pauseProducing()
        else:
            self.end(piece is _End.RESET)
        self._go_on()
