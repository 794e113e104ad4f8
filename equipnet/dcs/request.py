"""What dcss asks of devices: each request is a piece of an author's code that runs, and the completion it is owed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.python.failure import Failure

from equipnet.dcs.message import (
    HtosGetEncoderCompleted,
    HtosMotorMoveCompleted,
    HtosReportIonChambers,
    HtosSetEncoderCompleted,
    HtosSetStringCompleted,
    HtosUpdateMotorPosition,
    Message,
    StohReadIonChambers,
)
from equipnet.dcs.operation import ABORTED, FAILED, Aborted, OperationFailed, Task, reason_of
from equipnet.dcs.tcl import clean, number

if TYPE_CHECKING:
    from equipnet.dcs.device import Device, Motor
    from equipnet.dcs.protocol import DhsProtocol
    from equipnet.dcs.service import DhsConnection


class Move(Task):
    """A move of a motor, to ``target`` in the motor's own numbers."""

    __slots__ = ("motor", "target")

    def __init__(self, connection: DhsConnection, protocol: DhsProtocol, motor: Motor, target: float) -> None:
        super().__init__(connection, protocol, ("motor", motor.name))
        self.motor = motor
        self.target = target

    def report(self, position: float) -> None:
        """Tell dcss where the motor is; from any thread. In a thread this raises `Aborted` when the move should end."""
        motor = self.motor
        message = HtosUpdateMotorPosition(motor.name, motor.to_dcss(position))
        if self.connection.is_elsewhere():
            if self.abort_mode or not self.owed:
                raise Aborted(f"the move of {motor.name} was aborted")
            self.connection.reactor.callFromThread(self._report, position, message)
        else:
            self._report(position, message)

    def _report(self, position: float, message: Message) -> None:
        if self.deferred is None and self.connection.moving.get(self.motor.name) is not self:
            return
        self.motor.position = position
        if self.owed and self.protocol.ended_by is None:
            self.protocol.send_message(message)

    def completion(self, result: Any) -> Message:
        motor = self.motor
        status = "normal"
        if isinstance(result, Failure):
            status = reason_of(result)[0]
        else:
            position = self.target if result is None else result
            if result is None and self.abort_mode:
                position = motor.position
            number(position)
            motor.position = float(position)
        return HtosMotorMoveCompleted(motor.name, motor.dcss_position, ABORTED if self.abort_mode else status)

    def refused(self) -> Message:
        return HtosMotorMoveCompleted(self.motor.name, self.motor.dcss_position, FAILED)

    def abort(self, hard: bool) -> Any:
        return self.connection.call(self.motor, self.motor.abort, hard)

    def ended(self, result: Any) -> None:
        moving = self.connection.moving
        if moving.get(self.motor.name) is self:
            del moving[self.motor.name]
        if not self.owed and isinstance(result, (int, float)):
            self.motor.position = float(result)

    def __repr__(self) -> str:
        return f"<move of {self.motor.name} to {self.target}>"


class Request(Task):
    """A request to a device that takes one after the other; it is not ended by ``stoh_abort_all``."""

    __slots__ = ("call", "device")

    abortable = False

    def __init__(
        self, connection: DhsConnection, protocol: DhsProtocol, device: Device, function: Any, *arguments: Any
    ) -> None:
        super().__init__(connection, protocol, self)
        self.device: Any = device
        self.call = (function, *arguments)

    def over(self) -> None:
        # Not before the completion: the next request may be over at once.
        self.device.lock.release()

    def __repr__(self) -> str:
        return f"<{self.call[0].__name__} of {self.device.name}>"


class ShutterRequest(Request):
    """A shutter is to be opened or closed."""

    __slots__ = ()

    def ended(self, result: Any) -> None:
        if not isinstance(result, Failure):
            self.device.state = self.call[1]

    def completion(self, result: Any) -> Message:
        message: Message = self.device.report(reason_of(result)[0] if isinstance(result, Failure) else "")
        return message

    def refused(self) -> Message:
        message: Message = self.device.report(FAILED)
        return message


class EncoderRequest(Request):
    """An encoder is to be read or set."""

    __slots__ = ("message",)

    def __init__(
        self,
        connection: DhsConnection,
        protocol: DhsProtocol,
        device: Device,
        message: type[HtosGetEncoderCompleted] | type[HtosSetEncoderCompleted],
        *call: Any,
    ) -> None:
        super().__init__(connection, protocol, device, *call)
        self.message = message

    def completion(self, result: Any) -> Message:
        encoder = self.device
        status = "normal"
        if isinstance(result, Failure):
            status = reason_of(result)[0]
        else:
            position = self.call[-1] if result is None and len(self.call) > 1 else result
            if position is None:
                raise OperationFailed("unknown_position")
            number(position)
            encoder.position = float(position)
        return self.message(encoder.name, encoder.position or 0.0, status)

    def refused(self) -> Message:
        return self.message(self.device.name, self.device.position or 0.0, FAILED)


class StringRequest(Request):
    """A string is to be changed."""

    __slots__ = ()

    def completion(self, result: Any) -> Message:
        string = self.device
        if isinstance(result, Failure):
            return HtosSetStringCompleted(string.name, reason_of(result)[0], clean(string.contents or ""))
        message = HtosSetStringCompleted(string.name, "normal", self.call[1] if result is None else str(result))
        string.contents = message.contents
        return message

    def refused(self) -> Message:
        return HtosSetStringCompleted(self.device.name, FAILED)


class Count(Task):
    """Ion chambers are to count, all at the same time."""

    __slots__ = ("request",)

    def __init__(
        self, connection: DhsConnection, protocol: DhsProtocol, key: object, request: StohReadIonChambers
    ) -> None:
        super().__init__(connection, protocol, key)
        self.request = request

    def completion(self, result: Any) -> Message:
        names = self.request.names
        if self.abort_mode:
            return HtosReportIonChambers.failed(names, ABORTED)
        if isinstance(result, Failure):
            return HtosReportIonChambers.failed(names, reason_of(result)[0])
        return HtosReportIonChambers.of(self.request.seconds, dict(zip(names, result, strict=True)))

    def refused(self) -> Message:
        return HtosReportIonChambers.failed(self.request.names, FAILED)

    def __repr__(self) -> str:
        return f"<{self.request.text}>"
