"""A program as MSL-Equipment's users write it, with `await` before whatever waits."""

from typing import Any

from twisted.internet.task import react

from equipnet.instrument import Instrument, InstrumentSimulator

SIMULATOR = InstrumentSimulator(
    {
        "*IDN?": "ACME,DMM 4000,123456,1.0",
        "FETCH?": "1.25,1.26,1.24",
        "CURV?": b"#18" + bytes.fromhex("0000803f 00000040") + b"\n",
        "STATUS?": b"\x01\x00\x0a\x00",
    },
    patterns={r"LIST (.*)": None},
)


async def main(reactor: Any) -> None:
    """Ask in all ways that MSL-Equipment has."""
    dmm = Instrument(SIMULATOR.in_memory(reactor), read_termination="\n", timeout=0.2, rstrip=True, reactor=reactor)
    await dmm.connect()

    print(await dmm.query("*IDN?"))
    print(await dmm.query("FETCH?", fmt="ascii", dtype=float))
    print(await dmm.query("CURV?", fmt="ieee", dtype="<f"))
    print(await dmm.query("STATUS?", size=4, dtype="<u2"))

    print(await dmm.write("LIST ", data=[1, 2, 3], fmt="ascii", dtype=".2f"), "bytes")
    print(await dmm.write("*IDN?"), "bytes")
    print(await dmm.read())

    try:
        await dmm.read()
    except TimeoutError as error:
        print(error)
    print(dmm.read_termination, dmm.write_termination, dmm.encoding, dmm.max_read_size)
    await dmm.reconnect()
    await dmm.disconnect()


if __name__ == "__main__":
    react(main)
