"""What ``equipnet secs`` and ``equipnet hsms`` do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from equipnet.hsms.service import HsmsActiveConnection
from equipnet.hsms.settings import Timers
from equipnet.secs import message_from_sml, messages_from_sml


def canonical(text: str) -> str:
    """
    Give the messages of a text in SML in the one form in which equipnet prints them, each with the name it has.

    Raises
    ------
    SmlError
        When it cannot be read; it says where.
    """
    return "\n".join(
        (f"{each.name}: " if each.name else "") + each.message.to_sml() for each in messages_from_sml(text)
    )


async def request(
    reactor: Any, address: str, sml: str, session_id: int, timeout: float, show: Callable[[str], object]
) -> None:
    """
    Select equipment, send it one message, and show its reply in SML.

    Parameters
    ----------
    reactor
        Where this happens.
    address
        Of the equipment.
    sml
        The message; without a W-bit there is no reply.
    session_id
        The device id.
    timeout
        Seconds for the connection, and for the reply.
    show
        Gets the reply.
    """
    message = message_from_sml(sml)
    timers = Timers(t3=timeout, t6=timeout)
    host = HsmsActiveConnection(address, session_id=session_id, timers=timers, connect_timeout=timeout, reactor=reactor)
    reactor.addSystemEventTrigger("before", "shutdown", host.disconnect)
    await host.connect()
    if message.wait:
        show((await host.request(message)).to_sml())
    else:
        await host.send(message)
    await host.disconnect()
