"""
Drive the hardware server of beamline.toml as a GUI does: python examples/dcs/drive.py [PORT]

PORT is that of the dcss for GUIs, 14243 where nothing is given.
"""

from __future__ import annotations

import socket
import sys
import time


class Gui:
    """A GUI: it sends lines to the dcss, and reads what the dcss tells all GUIs."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection((host, port), timeout=30)
        self.stream = self.socket.makefile("rb")
        self.read()  # stoc_send_client_type
        self.socket.sendall(b"gtos_client_is_gui driver session localhost :0".ljust(200, b"\0"))
        self.number = self.wait_for("stog_login_complete")[-1].split()[1]
        self.devices = self.wait_for("stog_dcss_end_update_all_device")

    def send(self, line: str) -> None:
        """Send one line, as a message of DCS's protocol 2."""
        text = line.encode() + b"\0"
        self.socket.sendall(b"%12d %12d " % (len(text), 0) + text)

    def read(self) -> str:
        """Read one message."""
        sizes = self.stream.read(26).split()
        if len(sizes) < 2:
            raise ConnectionError("the dcss closed the connection")
        return self.stream.read(int(sizes[0]) + int(sizes[1])).rstrip(b"\0\n ").decode()

    def wait_for(self, *beginnings: str) -> list[str]:
        """Read until a message begins with one of these; give all that came."""
        lines = [self.read()]
        while not lines[-1].startswith(beginnings):
            lines.append(self.read())
        return lines

    def ask(self, line: str, *ends: str) -> None:
        """Send a line, and print what it ends with."""
        self.send(line)
        print(line)
        print(f"    {self.wait_for(*ends)[-1]}")


def main(port: int) -> None:
    gui = Gui(port)
    while not any(line.endswith("loopDHS localhost online") for line in gui.devices):
        # The hardware server may still be on its way.
        time.sleep(0.1)
        gui = Gui(port)
    gui.send("gtos_become_master force")
    gui.wait_for("stog_become_master")
    gui.ask("gtos_start_motor_move gonio_phi 30", "stog_motor_move_completed gonio_phi")
    gui.ask("gtos_start_motor_move camera_zoom 0.75", "stog_motor_move_completed camera_zoom")
    gui.ask("gtos_set_shutter_state shutter open", "stog_report_shutter_state shutter")
    gui.ask("gtos_read_ion_chambers 0.1 0 i0", "stog_report_ion_chambers")
    gui.ask("gtos_set_string loopStatus mounted", "stog_set_string_completed loopStatus")
    gui.ask(f"gtos_start_operation getLoopTip {gui.number}.1 0", "stog_operation_completed getLoopTip")
    gui.ask(f"gtos_start_operation readFile {gui.number}.2 dcss.toml", "stog_operation_completed readFile")
    gui.ask(f"gtos_start_operation collectLoopImages {gui.number}.3", "stog_operation_update collectLoopImages")
    gui.ask("gtos_stop_operation collectLoopImages", "stog_operation_completed collectLoopImages")
    # Outside its limits: refused, and everything on the beamline is aborted.
    gui.ask("gtos_start_motor_move camera_zoom 2", "stog_motor_move_completed camera_zoom")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 14243)
