"""Say how a reply ends: every way that there is, with an instrument in memory that answers in all of them."""

from typing import Any

from twisted.internet.task import react

from equipnet.errors import EquipmentTimeout, MessageTooLong, RemoteProtocolError
from equipnet.instrument import (
    Block,
    IdleGap,
    Instrument,
    InstrumentSimulator,
    LengthPrefix,
    Prompt,
    Regex,
    Size,
    Terminator,
)

SIMULATOR = InstrumentSimulator(
    {
        "TEMP?": "293.5\r\n",
        "PRES?": b"1013.25;",
        "STATUS?": b"\x01\x0a\x00\xff",
        "FRAME?": b"\x00\x05hello",
        "CURVE?": b"#18" + bytes.fromhex("0000803f 00000040") + b"\n",
        "COUNTS?": b"#A\x00\x04" + bytes.fromhex("0001 0002"),
        "HELP": b"START\r\nSTOP 12:30\r\n> ",
        "MOVE": b"moving...\r\nOK\r\n",
        "LOG?": b"one\ntwo\nthree\n",
        "BROKEN?": "-113,UNDEFINED HEADER",
        "LONG?": "x" * 200,
    }
)


async def terminators(reactor: Any) -> None:
    """Commands end with CR LF, replies with LF or with a semicolon."""
    instrument = Instrument(
        SIMULATOR.in_memory(reactor), write_termination="\r\n", read_termination=("\n", ";"), reactor=reactor
    )
    await instrument.connect()
    print(repr(await instrument.query("TEMP?")))
    print(repr(await instrument.query("PRES?")))
    print(repr(await instrument.query("TEMP?", ending=Terminator(b"\r\n"))))
    await instrument.disconnect()


async def sizes(reactor: Any) -> None:
    """A reply of four bytes, whatever they are."""
    instrument = Instrument(SIMULATOR.in_memory(reactor), termination="\n", reactor=reactor)
    await instrument.connect()
    print(await instrument.query("STATUS?", size=4, decode=False))
    print(await instrument.query("STATUS?", size=4, dtype="u1"))
    await instrument.disconnect()

    # One whose every reply has four bytes.
    instrument = Instrument(SIMULATOR.in_memory(reactor), termination="\n", ending=Size(4), reactor=reactor)
    await instrument.connect()
    print(await instrument.query("STATUS?", decode=False))
    await instrument.disconnect()


async def headers(reactor: Any) -> None:
    """A reply that begins with its length: two bytes, the highest first."""
    frame = LengthPrefix(2, lambda header: int.from_bytes(header, "big"))
    instrument = Instrument(SIMULATOR.in_memory(reactor), termination="\n", ending=frame, reactor=reactor)
    await instrument.connect()
    print(await instrument.query("FRAME?", decode=False))
    await instrument.disconnect()


async def blocks(reactor: Any) -> None:
    """Numbers in a block, whose header says how many bytes there are."""
    instrument = Instrument(SIMULATOR.in_memory(reactor), termination="\n", reactor=reactor)
    await instrument.connect()
    print(await instrument.query("CURVE?", fmt="ieee", dtype="<f"))
    print(await instrument.query("COUNTS?", fmt="hp", dtype=">u2"))
    print(await instrument.query("CURVE?", fmt="ieee"))
    print(await instrument.query("CURVE?", ending=Block("ieee"), decode=False))
    await instrument.disconnect()


async def prompts(reactor: Any) -> None:
    """A reply of several lines, which ends with the prompt for the next command, or with a word."""
    instrument = Instrument(SIMULATOR.in_memory(reactor), termination="\n", ending=Prompt("> "), reactor=reactor)
    await instrument.connect()
    print(repr(await instrument.query("HELP")))
    print(repr(await instrument.query("MOVE", ending=Regex(r"(OK|ERROR \d+)\r\n"))))
    await instrument.disconnect()


async def gaps(reactor: Any) -> None:
    """A reply of any number of lines, after which nothing comes for 50 ms."""
    instrument = Instrument(SIMULATOR.in_memory(reactor), termination="\n", reactor=reactor)
    await instrument.connect()
    print(repr(await instrument.query("LOG?", ending=IdleGap(0.05))))
    await instrument.disconnect()


async def errors(reactor: Any) -> None:
    """What an error holds."""
    instrument = Instrument(
        SIMULATOR.in_memory(reactor), termination="\n", timeout=0.2, max_read_size=100, reactor=reactor
    )
    await instrument.connect()
    try:
        await instrument.query("PRES?")
    except EquipmentTimeout as error:
        print(error)
        print(error.seconds, error.waiting_for, error.received)
    instrument.timeout = 5.0
    try:
        await instrument.query("LONG?")
    except MessageTooLong as error:
        print(error)
        print(len(error.data))
    print(repr(await instrument.query("TEMP?")))
    try:
        await instrument.query("BROKEN?", fmt="ieee", dtype="<f")
    except RemoteProtocolError as error:
        print(error)
        print(error.data)
    await instrument.disconnect()


async def main(reactor: Any) -> None:
    """Run all of them."""
    for part in (terminators, sizes, headers, blocks, prompts, gaps, errors):
        print(f"{part.__name__}:")
        await part(reactor)


if __name__ == "__main__":
    react(main)
