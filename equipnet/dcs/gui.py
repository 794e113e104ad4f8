"""The port of a simulated dcss to which GUIs connect: the login, who is master, and what GUIs may ask for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from equipnet.connection.address import Address
from equipnet.connection.protocol import WireProtocol
from equipnet.connection.retry import RetryPolicy
from equipnet.connection.service import ListeningConnection
from equipnet.dcs.database import Device, IonChamber, Motor, Operation, as_number, relations
from equipnet.dcs.hub import Hub, after, harmless
from equipnet.dcs.message import Message, encode
from equipnet.dcs.protocol import DcsProtocol
from equipnet.dcs.tcl import split
from equipnet.errors import Disconnected, EquipmentConnectionError, EquipmentTimeout

#: Seconds that a GUI, as a hardware server, may take to say who it is.
LOGIN_TIME = 1.0

#: A GUI for which more bytes wait is disconnected.
GUI_QUEUE = 512 * 1024


class GuiPort(ListeningConnection):
    """
    Where GUIs connect.

    Parameters
    ----------
    hub
        Knows the devices.
    listen, name, max_connections, allowed, retry, reactor
        As `equipnet.connection.service.ListeningConnection` says.
    staff
        Whether GUIs may do what only staff may.
    location
        Where they are said to be: LOCAL, REMOTE or HUTCH.
    """

    kind = "simulated-dcss"

    def __init__(
        self,
        hub: Hub,
        listen: str | Address = "tcp:0",
        *,
        name: str | None = None,
        max_connections: int = 100,
        allowed: Iterable[str] = (),
        staff: bool = True,
        location: str = "LOCAL",
        retry: RetryPolicy | None = None,
        reactor: Any = None,
    ) -> None:
        super().__init__(
            listen, name=name, max_connections=max_connections, allowed=allowed, retry=retry, reactor=reactor
        )
        self.hub = hub
        self.staff = staff
        self.location = location
        # The engine is the first client.
        self._last_id = 1
        hub.listeners.append(self.broadcast)

    @property
    def guis(self) -> list[GuiProtocol]:
        """The GUIs that are logged in, in that order."""
        found = [each for each in self.protocols if isinstance(each, GuiProtocol) and each.client_id]
        return sorted(found, key=lambda gui: gui.client_id)

    def keep_address(self) -> None:
        """Listen where it listens now whenever it is started again."""
        self.address = self.bound or self.address

    def build_protocol(self) -> GuiProtocol:
        return GuiProtocol(self)

    def left(self, protocol: WireProtocol) -> None:
        if isinstance(protocol, GuiProtocol) and protocol.client_id:
            protocol.client_id = 0
            self.tell_clients()

    def next_id(self) -> int:
        """Give the number of one more client."""
        self._last_id += 1
        return self._last_id

    def broadcast(self, text: str) -> None:
        """Send a text to every GUI."""
        for gui in self.guis:
            gui.send(text)

    def client_list(self) -> list[str]:
        """Give the messages that say who is logged in."""
        guis = self.guis
        return [f"stog_update_client_list {len(guis)}", *(gui.described() for gui in guis)]

    def tell_clients(self) -> None:
        """Tell every GUI who is logged in."""
        for text in self.client_list():
            self.broadcast(text)

    def let_master(self, gui: GuiProtocol) -> None:
        """Make a GUI master, with all others of the same user's display, and everybody else slave."""
        for each in self.guis:
            was, each.was_master = each.is_master, each.is_master
            each.is_master = each.place == gui.place
            if each.is_master or was:
                each.send("stog_become_master" if each.is_master else "stog_become_slave")
        self.tell_clients()

    def let_slave(self, gui: GuiProtocol) -> None:
        """Make a GUI slave, with all others of the same user's display."""
        for each in self.guis:
            if each.place == gui.place:
                each.was_master, each.is_master = each.is_master, False
                each.send("stog_become_slave")
        self.tell_clients()


class GuiProtocol(DcsProtocol):
    """
    One GUI.

    Attributes
    ----------
    client_id
        Its number; 0 until it is logged in.
    user, place
        Who it is, and its host and display.
    is_master, was_master
        Whether it is master, and whether it was before the last change.
    """

    def __init__(self, port: GuiPort) -> None:
        super().__init__(port, queue_limit=GUI_QUEUE)
        self.client_id = 0
        self.user = ""
        self.place = ("", "")
        self.is_master = self.was_master = False
        self.reads, self.writes = 1, 2
        self._port = port
        self._hub = port.hub
        self._late: IDelayedCall | None = None

    def send(self, text: str) -> None:
        """Send a text, if the GUI is still there."""
        if self.hanging_up:
            return
        raw = encode(text)
        if self.taps:
            self.tapped("out", raw, text)
        self.send_bytes(raw)

    def described(self) -> str:
        """Give the message that says who this is."""
        flags = f"{int(self.is_master)} {int(self.was_master)}"
        staff = int(self._port.staff)
        where = self._port.location
        return (
            f"stog_update_client {self.client_id} {self.user} {{{self.user}}} {where} {{}} {staff} 1 "
            f"{self.place[0]} {{{where}}} {flags}"
        )

    # What comes

    def begin(self) -> None:
        self._late = self._port.reactor.callLater(LOGIN_TIME, self._too_late)
        self.send("stoc_send_client_type")

    def message_received(self, message: Message, binary: bytes) -> None:
        text = harmless(message.text)
        if self.client_id:
            self._act_on(text)
        else:
            self._log_in(text)

    def fail_pending(self, error: EquipmentConnectionError) -> None:
        late, self._late = self._late, None
        if late is not None and late.active():
            late.cancel()
        super().fail_pending(error)

    # The login

    def _too_late(self) -> None:
        self.hang_up(EquipmentTimeout(LOGIN_TIME, "the 200 bytes of gtos_client_is_gui"))

    def _log_in(self, text: str) -> None:
        words = text.split()
        number = self._port.next_id()
        if len(words) < 5 or "CYPHER" in words[2] or not self._is_from(words[3]):
            self.send(f"stog_authentication_failed {number}")
            self.hang_up(Disconnected(f"{self.peer} did not log in as GUIs do: {text!r:.100}"), abort=False)
            return
        if self._late is not None:
            self._late.cancel()
            self._late = None
        self.reads = 2
        self.client_id, self.user, self.place = number, words[1], (words[3], words[4])
        self.send(f"stog_login_complete {number}")
        self._port.tell_clients()
        self.send(f"stog_set_permission_level {int(self._port.staff)} 1 {self._port.location}")
        for device in self._hub.database:
            told = device.shown_configuration() if isinstance(device, Motor) else device.configuration()
            self.send(harmless(f"stog_{told}"))
            self.send(f"stog_device_permission_bit {device.name} {{{device.staff}}} {{{device.users}}}")
        for device in self._hub.database:
            if isinstance(device, Motor):
                self.send(f"stog_set_motor_base_units {device.name} {device.units}".rstrip())
                for relation in relations(device):
                    self.send(f"stog_{relation}")
        self.send("stog_dcss_end_update_all_device")

    def _is_from(self, host: str) -> bool:
        # A dcss looks up the name of the address; that of the loopback interface needs no name server.
        address = getattr(self.transport.getPeer(), "host", "")
        try:
            return not ip_address(address).is_loopback or host == "localhost"
        except ValueError:
            return True

    # What a GUI wants

    def _act_on(self, text: str) -> None:
        command = text.partition(" ")[0]
        if command in _PLAIN:
            _PLAIN[command](self, text)
        elif command in _FOR_DEVICES:
            self._act_on_device(command, text)
        else:
            self.send(f"stog_log error server Unrecognized command: {command}.")

    def _act_on_device(self, command: str, text: str) -> None:
        kind, staff_only, act = _FOR_DEVICES[command]
        words = text.split()
        device = self._hub.database.get(words[1]) if len(words) > 1 else None
        reason = ""
        if device is None:
            reason = "not_exist"
        elif not isinstance(device, kind):
            reason = "type_not_motor" if kind is Motor else "not_exist"
        elif staff_only and not self._port.staff:
            reason = "no_permission"
        else:
            reason = self._objection(device)
        if reason or device is None:
            self._refuse(command, words, reason)
        else:
            act(self, device, text)

    def _objection(self, device: Device) -> str:
        permit = device.staff if self._port.staff else device.users
        return "" if self.is_master or permit.passive else "must_be_active"

    def _refuse(self, command: str, words: list[str], reason: str) -> None:
        """Tell the GUI, and nobody else, that something is not done."""
        name = words[1] if len(words) > 1 else ""
        self.send(f"stog_log error server {name} permit check failed: {reason}")
        device = self._hub.database.get(name)
        if command == "gtos_start_motor_move":
            position = device.circle.shown(device.position) if isinstance(device, Motor) else 0.0
            self.send(f"stog_motor_move_completed {name} {position:f} {reason}")
        elif command == "gtos_start_operation":
            self.send(f"stog_operation_completed {name} {words[2] if len(words) > 2 else '0.0'} {reason}")
        elif command == "gtos_set_shutter_state":
            self.send(f"stog_report_shutter_state {name} unknown {reason}")
        elif command == "gtos_set_string":
            self.send(f"stog_set_string_completed {name} {reason} {' '.join(words[2:])}")
        elif command in ("gtos_get_encoder", "gtos_set_encoder"):
            self.send(f"{command.replace('gtos', 'stog')}_completed {name} {getattr(device, 'position', 0):f} {reason}")

    def _become_master(self, text: str) -> None:
        self._port.let_master(self)

    def _become_slave(self, text: str) -> None:
        self._port.let_slave(self)

    def _inquire(self, text: str) -> None:
        for line in self._port.client_list():
            self.send(line)

    def _log(self, text: str) -> None:
        self._hub.broadcast(f"stog_log {after(text, 1)}")

    def _abort_all(self, text: str) -> None:
        # Anybody may.
        self._hub.abort_all(after(text, 1))

    def _read_ion_chambers(self, text: str) -> None:
        words = text.split()
        chambers = [self._hub.database.get(name) for name in words[3:]]
        known = [each for each in chambers if isinstance(each, IonChamber)]
        listed = " ".join(words[3:])
        reason = "not_exist" if not known or len(known) < len(chambers) else ""
        reason = reason or next(filter(None, map(self._objection, known)), "")
        if reason:
            self.send(f"stog_log error server {listed} permit check failed: {reason}")
            self.send(f"stog_report_ion_chambers 0  {listed} {reason}")
        else:
            self._hub.read_ion_chambers(words[1], known)

    def _start_move(self, device: Any, text: str) -> None:
        self._hub.start_move(device, (split(text)[2:3] or ("0",))[0])

    def _start_operation(self, device: Any, text: str) -> None:
        rest = after(text, 2)
        handle = rest.partition(" ")[0]
        number = re.match(r"\d+", handle)
        if not handle:
            self.send(f"stog_operation_completed {device.name} 0.0 missing_operation_Id")
        elif number is None or int(number[0]) != self.client_id:
            self.send(f"stog_operation_completed {device.name} {handle} not_honest_client")
        else:
            self._hub.start_operation(device, rest)

    def _stop_operation(self, device: Any, text: str) -> None:
        self._hub.stop_operation(device, after(text, 2))

    def _set_position(self, device: Any, text: str) -> None:
        self._hub.set_position(device, as_number((text.split()[2:3] or ["0"])[0]) or 0.0)

    def _configure(self, device: Any, text: str) -> None:
        self._hub.configure(device, text.split()[2:])
        self._hub.send(device, f"stoh_{device.configuration()}")

    def _pass_on(self, device: Any, text: str) -> None:
        self._hub.pass_on(device, text.removeprefix("gtos_"))


#: What concerns no device.
_PLAIN: dict[str, Callable[[GuiProtocol, str], None]] = {
    "gtos_become_master": GuiProtocol._become_master,
    "gtos_become_slave": GuiProtocol._become_slave,
    "gtos_inquire_gui_clients": GuiProtocol._inquire,
    "gtos_log": GuiProtocol._log,
    "gtos_abort_all": GuiProtocol._abort_all,
    "gtos_read_ion_chambers": GuiProtocol._read_ion_chambers,
}

#: What concerns the device that the first word names: of what sort it must be, whether only staff may, and who acts.
_FOR_DEVICES: dict[str, tuple[type[Device], bool, Callable[[GuiProtocol, Any, str], None]]] = {
    "gtos_start_motor_move": (Motor, False, GuiProtocol._start_move),
    "gtos_abort_motor_move": (Motor, False, GuiProtocol._pass_on),
    "gtos_start_oscillation": (Motor, False, GuiProtocol._pass_on),
    "gtos_start_vector_move": (Motor, False, GuiProtocol._pass_on),
    "gtos_stop_vector_move": (Motor, False, GuiProtocol._pass_on),
    "gtos_change_vector_speed": (Motor, False, GuiProtocol._pass_on),
    "gtos_set_motor_position": (Motor, True, GuiProtocol._set_position),
    "gtos_configure_device": (Motor, True, GuiProtocol._configure),
    "gtos_start_operation": (Operation, False, GuiProtocol._start_operation),
    "gtos_stop_operation": (Operation, False, GuiProtocol._stop_operation),
    "gtos_set_shutter_state": (Device, False, GuiProtocol._pass_on),
    "gtos_get_encoder": (Device, False, GuiProtocol._pass_on),
    "gtos_set_encoder": (Device, False, GuiProtocol._pass_on),
    "gtos_set_string": (Device, False, GuiProtocol._pass_on),
}
