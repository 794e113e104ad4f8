"""Talk to a simulated instrument: a text reply, a block of numbers, and a reply that does not come."""

from typing import Any

from twisted.internet.task import react

from equipnet.instrument import Instrument, InstrumentSimulator


async def main(reactor: Any) -> None:
    """Start the simulator, ask it a few things, and close both."""
    simulator = InstrumentSimulator(
        {
            "*IDN?": "ACME,DMM 4000,123456,1.0",
            "MEAS:VOLT?": ["1.2501", "1.2498"],  # in turn
            "CURV?": b"#216" + bytes.fromhex("0000803f 00000040 00004040 00008040") + b"\n",
        },
        reactor=reactor,
    )
    await simulator.connect()

    dmm = Instrument(str(simulator.bound), termination="\n", timeout=0.5, rstrip=True, reactor=reactor)
    await dmm.connect()
    print(await dmm.query("*IDN?"))
    print(float(await dmm.query("MEAS:VOLT?")), float(await dmm.query("MEAS:VOLT?")))
    print(await dmm.query("CURV?", fmt="ieee", dtype="<f"))
    try:
        await dmm.query("NO:SUCH:COMMAND?")
    except TimeoutError as error:
        print(error)
    print(await dmm.query("*IDN?"))

    await dmm.disconnect()
    await simulator.disconnect()


if __name__ == "__main__":
    react(main)
