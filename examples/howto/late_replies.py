"""Choose what happens after a reply that does not come in time."""

from typing import Any

from twisted.internet.task import deferLater, react

from equipnet.instrument import Fault, Instrument, InstrumentSimulator


def slow_simulator() -> InstrumentSimulator:
    """Give an instrument whose first reply comes after 0.3 s."""
    simulator = InstrumentSimulator({"VOLT?": "1.25", "CURR?": "0.5"})
    simulator.inject(Fault(delay=0.3), count=1)
    return simulator


async def ask_too_early(reactor: Any, **settings: Any) -> None:
    """Ask for a voltage that does not come in time, then for a current."""
    simulator = slow_simulator()
    instrument = Instrument(
        simulator.in_memory(reactor), termination="\n", rstrip=True, timeout=0.2, reactor=reactor, **settings
    )
    changes: list[str] = []
    instrument.add_observer(lambda change: changes.append(change.new.value))
    await instrument.connect()
    try:
        await instrument.query("VOLT?")
    except TimeoutError:
        instrument.timeout = 1.0
        print("CURR?", await instrument.query("CURR?"))
    print(", ".join(changes))
    await instrument.disconnect()


async def read_later(reactor: Any) -> None:
    """A read that does not get its message in time changes nothing: the next read gets it."""
    simulator = slow_simulator()
    instrument = Instrument(simulator.in_memory(reactor), termination="\n", rstrip=True, timeout=0.2, reactor=reactor)
    await instrument.connect()
    await instrument.write("VOLT?")
    try:
        await instrument.read()
    except TimeoutError:
        print("VOLT?", await instrument.read())
    await instrument.disconnect()


async def degraded(reactor: Any) -> None:
    """Be told when an instrument begins to fail, and when it works again."""
    simulator = slow_simulator()
    instrument = Instrument(
        simulator.in_memory(reactor), name="supply", termination="\n", rstrip=True, timeout=0.2, reactor=reactor
    )
    instrument.observe_degraded(lambda which, is_degraded, reason: print(which.name, is_degraded, reason))
    await instrument.connect()
    for _ in range(3):
        try:
            print(await instrument.query("VOLT?"))
        except ConnectionError:
            await deferLater(reactor, 0.2)
    await instrument.disconnect()


async def main(reactor: Any) -> None:
    """Run all of them."""
    print("reset:")
    await ask_too_early(reactor)
    print("drop:")
    await ask_too_early(reactor, resync="drop")
    print("gap:")
    await ask_too_early(reactor, resync="gap", resync_gap=0.2)
    print("read:")
    await read_later(reactor)
    print("degraded:")
    await degraded(reactor)


if __name__ == "__main__":
    react(main)
