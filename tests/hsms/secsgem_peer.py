"""
secsgem as the other side, in a process of its own: ``python -m tests.hsms.secsgem_peer equipment|host PORT``.

As equipment it listens, answers, and prints ``listening``. As host it connects, asks for everything once, and prints
what it got as JSON. It ends when its standard input does.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from typing import Any

import secsgem.common
import secsgem.hsms
import secsgem.secs

PROGRAM = bytes(range(256)) * 4096
"""The body of a process program: 1 MiB."""


def handler(active: bool, port: int) -> Any:
    """Give a handler that is not enabled yet."""
    settings = secsgem.hsms.HsmsSettings(
        address="127.0.0.1",
        port=port,
        connect_mode=secsgem.hsms.HsmsConnectMode.ACTIVE if active else secsgem.hsms.HsmsConnectMode.PASSIVE,
        device_type=secsgem.common.DeviceType.HOST if active else secsgem.common.DeviceType.EQUIPMENT,
        t5=1,
    )
    return secsgem.secs.SecsHandler(settings)


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def listen(port: int) -> Any:
    """Be equipment."""
    peer = handler(False, port)
    function = peer.stream_function
    identity = ["SECSGEM", "0.3.0"]
    peer.register_stream_function(1, 1, lambda *_: function(1, 2)(identity))
    peer.register_stream_function(1, 13, lambda *_: function(1, 14)({"COMMACK": 0, "MDLN": identity}))
    peer.register_stream_function(7, 3, lambda *_: function(7, 4)(0))
    peer.enable()
    say("listening")
    return peer


def converse(port: int) -> Any:
    """Be a host."""
    peer = handler(True, port)
    selected = threading.Event()
    peer.protocol.events.communicating += lambda _: selected.set()
    peer.enable()
    if not selected.wait(30):
        say(json.dumps({"selected": False}))
        return peer

    def ask(stream: int, number: int, *value: Any) -> Any:
        reply = peer.send_and_waitfor_response(peer.stream_function(stream, number)(*value))
        return None if reply is None else peer.settings.streams_functions.decode(reply).get()

    answers: dict[str, Any] = {
        "S1F1": ask(1, 1),
        "S1F13": ask(1, 13),
        "linktest": bool(peer.protocol.send_linktest_req()),
    }
    parallel: list[Any] = []
    threads = [threading.Thread(target=lambda: parallel.append(ask(1, 1))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers["parallel"] = parallel
    answers["S7F3"] = ask(7, 3, {"PPID": "P", "PPBODY": PROGRAM})
    say(json.dumps(answers))
    return peer


def main() -> None:
    """Play the part that the command line names."""
    logging.disable(logging.CRITICAL)
    role, port = sys.argv[1:]
    peer = listen(int(port)) if role == "equipment" else converse(int(port))
    sys.stdin.read()
    # It may wait for its own threads for ever.
    threading.Thread(target=peer.disable, daemon=True).start()
    time.sleep(0.5)
    os._exit(0)


if __name__ == "__main__":
    main()
