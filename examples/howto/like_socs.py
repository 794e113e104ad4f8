"""The loop of an agent: it takes a reading each so often, and goes on when the thermometer has gone and comes back."""

from typing import Any

from twisted.internet.task import deferLater, react

from equipnet.instrument import Fault, Instrument, InstrumentSimulator


async def acquire(thermometer: Instrument, readings: int, pause: float, reactor: Any) -> None:
    """Take so many readings, with a pause between them."""
    while readings:
        try:
            print(float(await thermometer.query("KRDG? 1")), "K")
            readings -= 1
        except ConnectionError as error:  # a timeout is one, too
            print("no reading:", error)
        await deferLater(reactor, pause)


async def main(reactor: Any) -> None:
    """Let the connection be closed in the middle of the second reply, and the reply after that not come."""
    simulator = InstrumentSimulator({"KRDG? 1": "293.5"})
    thermometer = Instrument(
        simulator.in_memory(reactor), name="thermometer", termination="\n", timeout=0.2, reactor=reactor
    )
    thermometer.observe_degraded(
        lambda which, degraded, reason: print(which.name, "is degraded" if degraded else "works again")
    )
    thermometer.startService()
    await thermometer.when_ready()
    reactor.callLater(0.05, simulator.inject, Fault(close="middle"), 1)
    reactor.callLater(0.05, simulator.inject, Fault(silence=True), 1)
    await acquire(thermometer, 3, 0.3, reactor)
    await thermometer.stopService()


if __name__ == "__main__":
    react(main)
