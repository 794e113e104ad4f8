"""
The hardware server: what an author derives from, and the connection with dcss that keeps the rules for it.

The rules are those of the Blu-Ice/DCS Administrator's Manual as a real dcss lives by them: above all that everything
which dcss starts is completed exactly once, on the connection on which it was started, whatever the author's code does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import iscoroutine
from threading import get_ident
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.python.failure import Failure

from equipnet.connection.address import Address
from equipnet.connection.retry import RetryPolicy
from equipnet.connection.service import ClientConnection
from equipnet.connection.state import State
from equipnet.connection.tls import TLS
from equipnet.dcs.device import (
    AbsentMotor,
    Device,
    Encoder,
    IonChamber,
    Motor,
    Shutter,
    StringDevice,
    configure,
)
from equipnet.dcs.message import (
    NAME_LIMIT,
    GenericMessage,
    HtosGetEncoderCompleted,
    HtosLog,
    HtosMotorMoveCompleted,
    HtosMotorMoveStarted,
    HtosNote,
    HtosOperationCompleted,
    HtosReportIonChambers,
    HtosReportShutterState,
    HtosSendConfiguration,
    HtosSetEncoderCompleted,
    HtosSetStringCompleted,
    HtosUpdateMotorPosition,
    Message,
    StohAbortAll,
    StohAbortMotorMove,
    StohChangeVectorSpeed,
    StohConfigureEncoder,
    StohConfigurePseudoMotor,
    StohConfigureRealMotor,
    StohConfigureShutter,
    StohConfigureString,
    StohCorrectMotorPosition,
    StohGetEncoder,
    StohReadIonChambers,
    StohRegisterEncoder,
    StohRegisterIonChamber,
    StohRegisterObject,
    StohRegisterOperation,
    StohRegisterPseudoMotor,
    StohRegisterRealMotor,
    StohRegisterShutter,
    StohRegisterString,
    StohSetEncoder,
    StohSetMotorChildren,
    StohSetMotorDependency,
    StohSetMotorPosition,
    StohSetShutterState,
    StohSetString,
    StohStartMotorMove,
    StohStartOperation,
    StohStartOscillation,
    StohStartVectorMove,
    StohStopOperation,
    StohStopVectorMove,
    check_line,
    parse_message,
)
from equipnet.dcs.operation import ABORTED, Aborted, OperationFailed, Run, Task
from equipnet.dcs.protocol import DEFAULT_MESSAGE_LIMIT, DEFAULT_QUEUE_LIMIT, DhsProtocol
from equipnet.dcs.request import Count, EncoderRequest, Move, Request, ShutterRequest, StringRequest
from equipnet.dcs.session import Book, DcsState
from equipnet.dcs.tcl import clean
from equipnet.dcs.threads import Threads
from equipnet.errors import ConnectionLost, Disconnected, EquipmentConnectionError, LocalProtocolError, NotConnected
from equipnet.interfaces import INode

#: Seconds that an author's code may take to end when it is aborted; then dcss is told without it.
DEFAULT_ABORT_TIME = 5.0

#: Seconds within which everything is completed, sent and closed when the daemon ends; a node itself takes two.
DEFAULT_GRACE = 1.5

#: How many requests may wait for one shutter, string or encoder.
_WAITING_LIMIT = 100


class HardwareServer:
    """
    A hardware server (DHS): derive from it, say the name and the devices, and write the operations.

    Parameters
    ----------
    options
        The ``options`` of the configuration.

    Attributes
    ----------
    dhs_name
        Who we are, as in dcss's database; the configuration can say another one.
    devices
        The classes of the devices, or instances.
    options
        As given.
    node
        The node, for finding its other connections.
    connection
        The connection with dcss.
    """

    dhs_name: str = ""
    devices: tuple[Any, ...] = ()
    options: dict[str, Any]
    node: INode
    connection: DhsConnection

    _operations: dict[str, tuple[str, bool]] = {}
    _handlers: dict[str, tuple[str, ...]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._operations = dict(cls._operations)
        cls._handlers = dict(cls._handlers)
        for attribute, value in vars(cls).items():
            marks = getattr(value, "__dict__", {})
            if "dcs_operation" in marks:
                name, thread = marks["dcs_operation"]
                cls._operations[name] = attribute, thread
            for command in marks.get("dcs_handles", ()):
                known = cls._handlers.get(command, ())
                if attribute not in known:
                    cls._handlers[command] = (*known, attribute)

    def __init__(self, **options: Any) -> None:
        self.options = options

    # What an author overrides

    def started(self) -> Any:
        """Begin: called when the connection is started, before dcss can ask for anything."""

    def stopped(self) -> Any:
        """End: called when the connection is being stopped."""

    # What an author uses

    def device(self, name: str) -> Any:
        """
        Give the device of that name.

        Raises
        ------
        KeyError
            When there is none; the text lists the names there are.
        """
        try:
            return self.connection.devices[name]
        except KeyError:
            known = ", ".join(map(repr, self.connection.devices)) or "none"
            raise KeyError(f"there is no device {name!r}; there are: {known}") from None

    def send(self, message: Message | str) -> None:
        """As `DhsConnection.send`."""
        self.connection.send(message)

    def log(self, level: str, text: str) -> None:
        """
        Write into the log that dcss's users see; from any thread, and dropped when dcss is not there.

        Parameters
        ----------
        level
            ``"note"``, ``"warning"``, ``"error"`` or ``"severe"``.
        text
            What happened; what dcss could not carry becomes blanks.
        """
        self.connection.send_if_connected(HtosLog(level, self.connection.dhs_name, clean(text)))

    def note(self, text: str) -> None:
        """Tell everybody; some first words mean something, such as ``image_ready``. Otherwise as `log`."""
        self.connection.send_if_connected(HtosNote(clean(text)))

    def active_operations(self, name: str | None = None, handle: str | None = None) -> list[Run]:
        """Give the runs that are not completed: all of them, or those of that name, with that handle."""
        return [
            task
            for task in self.connection.owed
            if isinstance(task, Run) and name in (None, task.name) and handle in (None, task.handle)
        ]


class DhsConnection(ClientConnection):
    """
    The connection of a hardware server with dcss: READY when dcss has taken it.

    Parameters
    ----------
    address
        Where dcss listens for hardware servers.
    application
        The author's hardware server.
    dhs_name
        Who we are; what the application says where nothing is given.
    protocol
        What dcss speaks with this host, 1 or 2, as its database says.
    node
        The node whose connections the application finds.
    abort_time
        Seconds that an author's code may take to end when it is aborted; then dcss is told without it.
    grace
        Seconds within which everything is completed, sent and closed when the connection is stopped.
    message_limit, queue_limit
        The most bytes of a message, and the most that may wait for dcss to take them.
    run_in_thread
        Runs a function that blocks, and gives a Deferred; in a thread of this connection's own where nothing is given.
    name, retry, connect_timeout, tls, local_host, reactor
        As `ClientConnection` says.

    Attributes
    ----------
    devices
        The devices by name.
    registered
        What dcss has said to be ours in this connection: the kinds by name.
    owed
        What has been accepted and not completed.
    moving
        The motors that move, or whose code has not ended, by name.
    """

    kind = "dhs"

    def __init__(
        self,
        address: str | Address | IStreamClientEndpoint,
        application: HardwareServer,
        *,
        dhs_name: str | None = None,
        protocol: int = 2,
        node: INode | None = None,
        abort_time: float = DEFAULT_ABORT_TIME,
        grace: float = DEFAULT_GRACE,
        message_limit: int = DEFAULT_MESSAGE_LIMIT,
        queue_limit: int = DEFAULT_QUEUE_LIMIT,
        run_in_thread: Callable[..., Deferred[Any]] | None = None,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        connect_timeout: float = 10.0,
        tls: TLS | None = None,
        local_host: str | None = None,
        reactor: Any = None,
    ) -> None:
        super().__init__(
            address,
            name=name,
            retry=retry,
            connect_timeout=connect_timeout,
            tls=tls,
            local_host=local_host,
            reactor=reactor,
        )
        self.application = application
        self.dhs_name = dhs_name or application.dhs_name
        if len(self.dhs_name) > 39 or self.dhs_name.split() != [self.dhs_name]:
            raise ValueError(f"{self.dhs_name!r} cannot be the name of a DHS: one word of up to 39 characters")
        if protocol not in (1, 2):
            raise ValueError(f"protocol is {protocol}, neither 1 nor 2")
        self.devices: dict[str, Device] = {}
        self.registered: dict[str, str] = {}
        self.owed: Book[Task] = Book()
        self._protocol_version = protocol
        self._abort_time = abort_time
        self._grace = grace
        self._limits = message_limit, queue_limit
        self._threads = Threads(self.reactor)
        self._run_in_thread = run_in_thread or self._threads.run
        self._thread = get_ident()
        self.moving: dict[str, Task] = {}
        self._counting = 0
        self._ending: IDelayedCall | None = None
        self._ending_with: Disconnected | None = None
        self._grace_over = 0.0
        application.connection = self
        if node is not None:
            application.node = node
        for each in application.devices:
            self._add_device(each() if isinstance(each, type) else each)
        self._operations = {
            each: (getattr(application, attribute), thread)
            for each, (attribute, thread) in application._operations.items()
        }
        self._receivers: dict[type[Message], Callable[[Any], None]] = {
            kind: getattr(self, f"_{method}") for kind, method in _RECEIVERS.items()
        }

    def _add_device(self, device: Device) -> None:
        if not device.name or len(device.name) > NAME_LIMIT or device.name.split() != [device.name]:
            raise ValueError(f"{device!r}: the name of a device is one word of up to {NAME_LIMIT} characters")
        if device.name in self.devices:
            raise ValueError(f"there are two devices {device.name!r}")
        device.server = self.application
        self.devices[device.name] = device

    # What users call

    def send(self, message: Message | str) -> None:
        """
        Send a message to dcss; can be called from any thread.

        Parameters
        ----------
        message
            The message, or its line.

        Raises
        ------
        LocalProtocolError
            When dcss could not carry it, it would hang on it (an ion chamber that it has not registered with us), or it
            does not fit into protocol 1.
        NotConnected
            When dcss is not there, or has not taken us yet; nothing was sent. From another thread this is logged.
        """
        if isinstance(message, str):
            check_line(message)
            message = parse_message(message)
        if self.is_elsewhere():
            self.reactor.callFromThread(self.send_if_connected, message)
            return
        if isinstance(message, HtosReportIonChambers) and message.seconds > 0:
            self._check_chambers(message.names)
        if self.state is not State.READY and self._ending_with is None:
            raise NotConnected(f"{self.name}: dcss is not there")
        protocol = self.protocol
        if protocol is None:
            raise NotConnected(f"{self.name}: dcss is not there")
        protocol.send_message(message)

    def send_if_connected(self, message: Message) -> None:
        """Send a message to dcss if it is there; what goes wrong is logged. Can be called from any thread."""
        if self.is_elsewhere():
            self.reactor.callFromThread(self.send_if_connected, message)
            return
        try:
            self.send(message)
        except NotConnected:
            self.log.debug("{name}: not sent: {message}", name=self.name, message=message.text)
        except LocalProtocolError as error:
            self.log.error("{name}: not sent: {error}", name=self.name, error=error)

    def is_elsewhere(self) -> bool:
        """Whether this is called in another thread than the reactor's."""
        return get_ident() != self._thread

    # What the base of all connections asks

    def build_protocol(self) -> DhsProtocol:
        return DhsProtocol(self, self.reactor, self.dhs_name, self._protocol_version, *self._limits)

    def startService(self) -> None:
        if not self.running:
            self._thread = get_ident()
            self._ask(self.application.started)
        super().startService()

    def stopService(self) -> Deferred[None]:
        closed = super().stopService()
        self._ask(self.application.stopped)
        return closed

    def _close(self, error: Disconnected) -> None:
        # From here on there is no other try, however this connection ends.
        self._factory.stopTrying()
        self._grace_over = self.reactor.seconds() + self._grace
        self._ending_with = error
        if len(self.owed) and self.protocol is not None:
            for task in self.owed:
                if task.abortable:
                    self._stop_task(task, "hard")
        if len(self.owed) and self.protocol is not None:
            self._ending = self.reactor.callLater(min(self._abort_time, self._grace / 2), self._end)
        else:
            self._end()

    def _end(self) -> None:
        """Go on closing: what was owed has been completed, or has had its time."""
        error, self._ending_with = self._ending_with, None
        ending, self._ending = self._ending, None
        if ending is not None and ending.active():
            ending.cancel()
        if error is not None:
            for task in self.owed:
                self._complete(task, Failure(Aborted("shut down")))
            super()._close(error)

    def _closed(self) -> None:
        self._threads.stop()
        self._ending_with = None
        if self._ending is not None:
            ending, self._ending = self._ending, None
            if ending.active():
                ending.cancel()
        super()._closed()

    def _hang_up(self, error: EquipmentConnectionError, abort: bool) -> None:
        if not abort and self._abort is None and self._closing is not None:
            left = max(0.0, self._grace_over - self.reactor.seconds())
            self._abort = self.reactor.callLater(left, self.protocol.hang_up, error)
        super()._hang_up(error, abort)

    # What the protocol tells

    def accepted(self, protocol: DhsProtocol) -> None:
        """Begin anew: dcss registers everything in each connection."""
        self._forget_registrations()
        self.usable(protocol, f"{protocol.peer} has taken {self.dhs_name}")

    def gone(self, protocol: DhsProtocol) -> None:
        """Nothing is owed any more, and nobody waits for what runs."""
        if protocol.dcs_state is DcsState.NAMED and isinstance(protocol.ended_by, ConnectionLost):
            # It is all that a dcss says to a name that it does not like.
            self.log.warn(
                "{name}: dcss closed the connection before it took {dhs!r}: is that name in its database, for this "
                "computer, and is nobody else connected with it?",
                name=self.name,
                dhs=self.dhs_name,
            )
        self._forget_registrations()
        for task in self.owed:
            if task.protocol is protocol:
                self.owed.strike(task.key, task)
                task.owed = False
                _stop_waiting(task)
                if task.abortable:
                    self._stop_task(task, "hard")

    def received(self, protocol: DhsProtocol, message: Message) -> None:
        """Do with a message of dcss what is to be done, and then what the author wants."""
        receiver = self._receivers.get(type(message))
        if receiver is not None:
            receiver(message)
        if self.application._handlers:
            for attribute in self.application._handlers.get(message.command, ()):
                self._tell(getattr(self.application, attribute), message)

    def _tell(self, handler: Callable[[Message], Any], message: Message) -> None:
        def failed(reason: Failure) -> None:
            self.log.failure(
                "{name}: a handler raised for {message!r:.200}", reason, name=self.name, message=message.text
            )

        _deferred(handler, message).addErrback(failed)

    def _ask(self, hook: Callable[[], Any]) -> None:
        _deferred(hook).addErrback(
            lambda reason: self.log.failure("{name}: the application raised", reason, name=self.name)
        )

    def _forget_registrations(self) -> None:
        self.registered.clear()
        for device in self.devices.values():
            device.registered = False

    # How an author's code runs, and is completed once

    def _start(self, task: Task, thread: bool, function: Callable[..., Any], *arguments: Any) -> None:
        """Run ``function``, and complete ``task`` with its result; the task is in the book."""
        task.in_thread = thread
        result: Any
        try:
            result = self._run_in_thread(function, *arguments) if thread else function(*arguments)
            if iscoroutine(result):
                task.coroutine = result
                result = Deferred.fromCoroutine(result)
        except (Exception, SystemExit):
            result = Failure()
        if isinstance(result, Deferred):
            task.deferred = result
            result.addBoth(self._has_ended, task)
        else:
            self._has_ended(result, task)

    def _has_ended(self, result: Any, task: Task) -> None:
        task.deferred = None
        task.ended(result)
        self._complete(task, result)
        task.over()

    def _complete(self, task: Task, result: Any) -> None:
        """Send the completion of a task, if it is still owed."""
        _stop_waiting(task)
        if isinstance(result, Failure) and not result.check(*_EXPECTED_ERRORS[not task.abort_mode :]):
            self.log.failure("{name}: {task!r} raised", result, name=self.name, task=task)
        if not self.owed.strike(task.key, task):
            return
        if task.protocol.ended_by is None:
            self._send_completion(task, result)
        task.owed = False
        if self._ending is not None and not len(self.owed):
            self._end()

    def _send_completion(self, task: Task, result: Any) -> None:
        # A result may be what dcss cannot carry, and so may the text of the error that says this; one word is not.
        for last in (False, False, True):
            try:
                task.protocol.send_message(task.refused() if last else task.completion(result))
                return
            except Exception:
                result = Failure()
                self.log.failure("{name}: {task!r} cannot be completed so", result, name=self.name, task=task)

    def _stop_task(self, task: Task, mode: str) -> None:
        """Let a task end, and complete it as aborted, with or without its code."""
        again = bool(task.abort_mode)
        if again and (task.abort_mode == mode or mode == "soft"):
            return
        task.abort_mode = mode
        if task.owed and not again and task.deferred is not None:
            task.patience = self.reactor.callLater(self._abort_time, self._abandon, task)
        _deferred(task.abort, mode == "hard").addErrback(
            lambda reason: self.log.failure("{name}: aborting {task!r} raised", reason, name=self.name, task=task)
        )
        if task.in_thread or task.deferred is None:
            return
        if task.coroutine is not None and task.coroutine.cr_running:
            # It is this very code that has ended the connection; it can be cancelled where it waits.
            self.reactor.callLater(0, _cancel, task)
        else:
            task.deferred.cancel()

    def _abandon(self, task: Task) -> None:
        task.patience = None
        self.log.warn("{name}: {task!r} does not end", name=self.name, task=task)
        self._complete(task, Failure(Aborted("it does not end")))

    def call(self, device: Device, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """Call a method of a device as the device wants it called."""
        if device.thread:
            return self._run_in_thread(function, *arguments)
        return _deferred(function, *arguments)

    def _request(self, task: Request) -> None:
        """Run a request to a device that takes one after the other."""
        device = task.device
        if len(device.lock.waiting) >= _WAITING_LIMIT:
            self._enter(task)
            self._complete(task, Failure(OperationFailed("busy")))
            return
        self._enter(task)
        device.lock.acquire().addCallback(lambda _: self._begin_request(task))

    def _begin_request(self, task: Request) -> None:
        if task.owed:
            self._start(task, False, self.call, task.device, *task.call)
        else:
            # Who asked for it is gone, and does not expect the hardware to move any more.
            task.over()

    def _enter(self, task: Task) -> bool:
        return self.owed.enter(task.key, task)

    # Registration

    def _register(self, message: Any) -> Any:
        name = message.name
        self.registered[name] = message.command.removeprefix("stoh_register_")
        device = self.devices.get(name)
        if device is None or not isinstance(device, _DEVICES[type(message)]):
            self.log.warn(
                "{name}: dcss registers {device}, which {what}",
                name=self.name,
                device=message.text,
                what="we do not have" if device is None else f"is a {type(device).__name__} here",
            )
            return None
        device.registered = True
        device.hardware_name = message.hardware_name
        return device

    def _register_motor(self, message: Any) -> None:
        if message.name not in self.devices:
            self.log.warn("{name}: dcss registers {it}, which we do not have", name=self.name, it=message.text)
            absent = AbsentMotor()
            absent.name = message.name
            self._add_device(absent)
        motor = self._register(message)
        if motor is None:
            return
        own = configure(motor)
        if own is not None:
            self._send(own)
        if motor.configuration is None:
            self._send(HtosSendConfiguration(motor.name))

    def _register_operation(self, message: StohRegisterOperation) -> None:
        self.registered[message.name] = "operation"
        if message.name not in self._operations:
            self.log.warn("{name}: dcss registers {it}, which we do not have", name=self.name, it=message.text)

    def _register_shutter(self, message: StohRegisterShutter) -> None:
        shutter = self._register(message)
        if shutter is not None:
            shutter.state = shutter.state or message.state
            self._send(shutter.report())

    def _register_ion_chamber(self, message: StohRegisterIonChamber) -> None:
        chamber = self._register(message)
        if chamber is not None:
            chamber.channel, chamber.timer, chamber.timer_type = message.channel, message.timer, message.timer_type

    def _register_string(self, message: StohRegisterString) -> None:
        string = self._register(message)
        if string is None:
            return
        if string.contents is None:
            self._send(HtosSendConfiguration(string.name))
        else:
            self._send(HtosSetStringCompleted(string.name, "normal", string.contents))

    def _register_encoder(self, message: StohRegisterEncoder) -> None:
        encoder = self._register(message)
        if encoder is None:
            return
        if encoder.position is None:
            self._send(HtosSendConfiguration(encoder.name))
        else:
            self._send(HtosGetEncoderCompleted(encoder.name, encoder.position))

    # What dcss knows of a device

    def _device(self, kind: type[Any], message: Any) -> Any:
        device = self.devices.get(message.name)
        if not isinstance(device, kind):
            self.log.warn("{name}: not for us: {message!r:.200}", name=self.name, message=message.text)
            return None
        return device

    def _configure_motor(self, message: Any) -> None:
        motor = self._device(Motor, message)
        if motor is not None:
            motor.configured(message, motor.name in self.moving)

    def _configure_shutter(self, message: StohConfigureShutter) -> None:
        shutter = self._device(Shutter, message)
        if shutter is not None and not shutter.state:
            shutter.state = message.state

    def _configure_string(self, message: StohConfigureString) -> None:
        string = self._device(StringDevice, message)
        if string is not None:
            string.contents = message.contents

    def _configure_encoder(self, message: StohConfigureEncoder) -> None:
        encoder = self._device(Encoder, message)
        if encoder is not None and encoder.position is None:
            encoder.position = message.position

    def _set_dependency(self, message: StohSetMotorDependency) -> None:
        motor = self._device(Motor, message)
        if motor is not None:
            motor.dependencies = message.dependencies

    def _set_children(self, message: StohSetMotorChildren) -> None:
        motor = self._device(Motor, message)
        if motor is not None:
            motor.children = message.children

    def _correct(self, message: StohCorrectMotorPosition) -> None:
        motor = self._device(Motor, message)
        if motor is not None:
            motor.offset += message.correction

    def _set_position(self, message: StohSetMotorPosition) -> None:
        motor = self._device(Motor, message)
        if motor is None:
            return

        def done(_: object) -> None:
            if type(motor).set_position is not Motor.set_position:
                motor.call(message.position)
            self._send(HtosUpdateMotorPosition(motor.name, motor.dcss_position))

        self.call(motor, motor.set_position, message.position).addCallback(done).addErrback(
            lambda reason: self.log.failure("{name}: {message}", reason, name=self.name, message=message.text)
        )

    # Moves

    def _start_move(self, message: StohStartMotorMove) -> None:
        self._move(message.name, message.destination)

    def _start_oscillation(self, message: StohStartOscillation) -> None:
        motor = self.devices.get(message.name)
        start = motor.dcss_position if isinstance(motor, Motor) else 0.0
        shutter = None if message.shutter == "NULL" else self.devices.get(message.shutter)
        if not (message.shutter == "NULL" or isinstance(shutter, Shutter)):
            self._refuse_move(message.name, "unknown_shutter")
            return

        async def oscillate(motor: Motor, target: float, report: Callable[[float], None]) -> Any:
            if isinstance(shutter, Shutter):
                await self._put_shutter(shutter, "open")
            try:
                return await self.call(motor, motor.oscillate, target, message.seconds, report)
            finally:
                if isinstance(shutter, Shutter):
                    await self._put_shutter(shutter, "closed")

        self._move(message.name, start + message.delta, oscillate)

    def _start_vector(self, message: StohStartVectorMove) -> None:
        def move(motor: Motor, target: float, report: Callable[[float], None]) -> Any:
            return self.call(motor, motor.move_at, target, message.speed, report)

        self._move(message.first, message.first_destination, move)
        if message.second != "NULL":
            self._move(message.second, message.second_destination, move)

    def _stop_vector(self, message: StohStopVectorMove) -> None:
        for name in (message.first, message.second):
            if name in self.moving:
                self._stop_task(self.moving[name], "soft")

    def _change_vector_speed(self, message: StohChangeVectorSpeed) -> None:
        for name in (message.first, message.second):
            motor = self.devices.get(name)
            if isinstance(motor, Motor):
                self.call(motor, motor.change_speed, message.speed).addErrback(
                    lambda reason: self.log.failure("{name}: {message}", reason, name=self.name, message=message.text)
                )

    def _move(
        self,
        name: str,
        destination: float,
        function: Callable[[Motor, float, Callable[[float], None]], Any] | None = None,
    ) -> None:
        motor = self.devices.get(name)
        reason = self._why_not(motor, destination)
        if reason:
            self._refuse_move(name, reason)
            return
        assert isinstance(motor, Motor)
        task = Move(self, self.protocol, motor, motor.from_dcss(destination))
        try:
            self._send(HtosMotorMoveStarted(name, destination))
        except LocalProtocolError:
            self._refuse_move(name, "invalid_destination")
            return
        self.moving[name] = task
        self._enter(task)
        if function is None:
            self._start(task, motor.thread, motor.move, task.target, task.report)
        else:
            self._start(task, False, function, motor, task.target, task.report)

    def _why_not(self, motor: Device | None, destination: float) -> str:
        if not isinstance(motor, Motor):
            return "unknown"
        if self._closing is not None:
            return ABORTED
        if motor.name in self.moving:
            return "moving"
        if isinstance(motor, AbsentMotor):
            return "no_device"
        if motor.position is None:
            return "no_config"
        return "" if motor.configuration is None else motor.configuration.obstacle(destination)

    def _refuse_move(self, name: str, reason: str) -> None:
        motor = self.devices.get(name)
        position = motor.dcss_position if isinstance(motor, Motor) else 0.0
        self.log.warn("{name}: {motor} is not moved: {reason}", name=self.name, motor=name, reason=reason)
        try:
            self._send(HtosMotorMoveCompleted(name, position, reason))
        except LocalProtocolError as error:
            self.log.error("{name}: not sent: {error}", name=self.name, error=error)

    def _abort_move(self, message: StohAbortMotorMove) -> None:
        task = self.moving.get(message.name)
        if task is not None:
            self._stop_task(task, _mode(message.mode))

    def _abort_all(self, message: StohAbortAll) -> None:
        for task in self.owed:
            if task.abortable:
                self._stop_task(task, _mode(message.mode))

    # Operations

    def _start_operation(self, message: StohStartOperation) -> None:
        name, handle = message.name, message.handle
        found = self._operations.get(name)
        if found is None:
            self.log.warn("{name}: there is no operation {operation}", name=self.name, operation=name)
            self._send(HtosOperationCompleted(name, handle, "unknown_operation"))
            return
        if self._closing is not None:
            self._send(HtosOperationCompleted(name, handle, ABORTED))
            return
        run = Run(self, self.protocol, name, handle, message.arguments)
        if not self._enter(run):
            # Its completion would be taken for that of the one which runs.
            self.log.error("{name}: {run!r} runs already", name=self.name, run=run)
            return
        function, thread = found
        self._start(run, thread, function, run, *message.arguments)

    def _stop_operation(self, message: StohStopOperation) -> None:
        for run in self.application.active_operations(message.name):
            run.stop()

    # Shutters, ion chambers, encoders, strings

    def _set_shutter(self, message: StohSetShutterState) -> None:
        shutter = self.devices.get(message.name)
        if not isinstance(shutter, Shutter):
            self._send(HtosReportShutterState(message.name, "closed", "unknown_shutter"))
        elif message.state not in ("open", "closed"):
            self._send(shutter.report("unknown_state"))
        else:
            self._request(ShutterRequest(self, self.protocol, shutter, shutter.set_state, message.state))

    def _put_shutter(self, shutter: Shutter, state: str) -> Deferred[None]:
        """Open or close a shutter because a motor oscillates."""

        def done(_: object) -> None:
            shutter.state = state
            self.send_if_connected(shutter.report())

        done_later: Deferred[None] = shutter.lock.run(self.call, shutter, shutter.set_state, state).addCallback(done)
        return done_later

    def _read_ion_chambers(self, message: StohReadIonChambers) -> None:
        self._counting += 1
        task = Count(self, self.protocol, ("ion chambers", self._counting), message)
        chambers = [self.devices.get(name) for name in message.names]
        self._enter(task)
        self._start(task, False, self._count, message, chambers)

    def _count(self, message: StohReadIonChambers, chambers: list[Device | None]) -> Deferred[list[Any]]:
        self._check_chambers(message.names)
        if not all(isinstance(chamber, IonChamber) for chamber in chambers):
            raise OperationFailed("unknown_ion_chamber")
        if not chambers or not message.seconds > 0:
            raise OperationFailed("nothing_to_count")
        counts = [
            self.call(chamber, chamber.count, message.seconds)
            for chamber in chambers
            if isinstance(chamber, IonChamber)
        ]

        def first(failure: Failure) -> Failure:
            for each in counts:
                each.cancel()
            error = failure.value
            return error.subFailure if isinstance(error, FirstError) else failure

        return gatherResults(counts, consumeErrors=True).addErrback(first)

    def _check_chambers(self, names: Iterable[str]) -> None:
        for name in names:
            if self.registered.get(name) != "ion_chamber":
                raise LocalProtocolError(f"dcss has not registered an ion chamber {name!r} with us, and would hang")

    def _get_encoder(self, message: StohGetEncoder) -> None:
        encoder = self.devices.get(message.name)
        if isinstance(encoder, Encoder):
            self._request(EncoderRequest(self, self.protocol, encoder, HtosGetEncoderCompleted, encoder.get))
        else:
            self._send(HtosGetEncoderCompleted(message.name, 0.0, "unknown_encoder"))

    def _set_encoder(self, message: StohSetEncoder) -> None:
        encoder = self.devices.get(message.name)
        if isinstance(encoder, Encoder):
            self._request(
                EncoderRequest(self, self.protocol, encoder, HtosSetEncoderCompleted, encoder.set, message.position)
            )
        else:
            self._send(HtosSetEncoderCompleted(message.name, 0.0, "unknown_encoder"))

    def _set_string(self, message: StohSetString) -> None:
        string = self.devices.get(message.name)
        if isinstance(string, StringDevice):
            self._request(StringRequest(self, self.protocol, string, string.set, message.contents))
        else:
            self._send(HtosSetStringCompleted(message.name, "unknown_string", clean(message.contents)))

    # What cannot be read

    def _misread(self, message: GenericMessage) -> None:
        if not message.problem:
            if message.command not in self.application._handlers:
                self.log.info("{name}: {message!r:.200} is not known here", name=self.name, message=message.text)
            return
        self.log.error(
            "{name}: {message!r:.200}: {problem}", name=self.name, message=message.text, problem=message.problem
        )
        if not message.arguments:
            return
        name = message.arguments[0]
        device = self.devices.get(name)
        # Who waits for an answer must get one.
        if message.command in _MOVES:
            self._refuse_move(name, "invalid_destination")
        elif isinstance(device, Shutter):
            self._send(device.report("invalid_request"))
        elif isinstance(device, Encoder):
            self._send(HtosSetEncoderCompleted(name, device.position or 0.0, "invalid_position"))

    def _send(self, message: Message) -> None:
        self.protocol.send_message(message)


def _deferred(function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
    """Call ``function``, which may be a coroutine function."""
    return maybeDeferred(function, *arguments)


def _stop_waiting(task: Task) -> None:
    patience, task.patience = task.patience, None
    if patience is not None and patience.active():
        patience.cancel()


def _cancel(task: Task) -> None:
    if task.deferred is not None:
        task.deferred.cancel()


def _mode(mode: str) -> str:
    # As the C++ servers do: whatever somebody typed that is not soft is hard.
    return "soft" if mode == "soft" else "hard"


#: What an author's code raises to say something, which needs no traceback in the log;
#: the first only of what was cancelled.
_EXPECTED_ERRORS = (CancelledError, OperationFailed, Aborted)

#: Messages that want a move; where they cannot be read, the move is refused.
_MOVES = (StohStartMotorMove.command, StohStartOscillation.command, StohStartVectorMove.command)

_DEVICES: dict[type[Message], type[Device]] = {
    StohRegisterRealMotor: Motor,
    StohRegisterPseudoMotor: Motor,
    StohRegisterIonChamber: IonChamber,
    StohRegisterShutter: Shutter,
    StohRegisterEncoder: Encoder,
    StohRegisterString: StringDevice,
    StohRegisterObject: Device,
}

#: What is done with each message of dcss.
_RECEIVERS: dict[type[Message], str] = {
    StohRegisterRealMotor: "register_motor",
    StohRegisterPseudoMotor: "register_motor",
    StohRegisterIonChamber: "register_ion_chamber",
    StohRegisterShutter: "register_shutter",
    StohRegisterOperation: "register_operation",
    StohRegisterEncoder: "register_encoder",
    StohRegisterString: "register_string",
    StohRegisterObject: "register",
    StohSetMotorDependency: "set_dependency",
    StohSetMotorChildren: "set_children",
    StohConfigureRealMotor: "configure_motor",
    StohConfigurePseudoMotor: "configure_motor",
    StohConfigureShutter: "configure_shutter",
    StohConfigureString: "configure_string",
    StohConfigureEncoder: "configure_encoder",
    StohStartMotorMove: "start_move",
    StohAbortMotorMove: "abort_move",
    StohAbortAll: "abort_all",
    StohCorrectMotorPosition: "correct",
    StohSetMotorPosition: "set_position",
    StohStartOscillation: "start_oscillation",
    StohStartVectorMove: "start_vector",
    StohStopVectorMove: "stop_vector",
    StohChangeVectorSpeed: "change_vector_speed",
    StohSetShutterState: "set_shutter",
    StohReadIonChambers: "read_ion_chambers",
    StohGetEncoder: "get_encoder",
    StohSetEncoder: "set_encoder",
    StohSetString: "set_string",
    StohStartOperation: "start_operation",
    StohStopOperation: "stop_operation",
    GenericMessage: "misread",
}
