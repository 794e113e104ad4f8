"""Let several parts of a program use one instrument."""

from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react
from twisted.internet.threads import blockingCallFromThread, deferToThread

from equipnet.errors import QueueFull
from equipnet.instrument import Instrument, InstrumentSimulator


def simulator() -> InstrumentSimulator:
    """Give a multimeter that measures what was chosen last, and tells of overloads by itself."""
    chosen = "VOLT"

    def choose(match: Any) -> None:
        nonlocal chosen
        chosen = match[1]

    readings = {"VOLT": "1.25", "CURR": "0.5"}
    return InstrumentSimulator(
        {"READ?": lambda _: readings[chosen], "*IDN?": "ACME,DMM,1,1.0", "SELF:TEST": "!OVERLOAD\npassed"},
        patterns={r"CONF:(\w+)": choose},
    )


async def queue(dmm: Instrument) -> None:
    """Ask without waiting: each reply comes to its own query."""
    replies = await gatherResults([dmm.query("*IDN?"), dmm.query("READ?"), dmm.query("*IDN?")])
    print(replies)


async def measure(dmm: Instrument, what: str) -> float:
    """Choose what to measure, and measure it, with nobody else's commands in between."""
    async with dmm.transaction():
        await dmm.write(f"CONF:{what}")
        return float(await dmm.query("READ?"))


async def transactions(dmm: Instrument) -> None:
    """Measure two things at the same time, as far as the two callers know."""
    measured = [Deferred.fromCoroutine(measure(dmm, what)) for what in ("VOLT", "CURR")]
    print(await gatherResults(measured))


async def unsolicited(dmm: Instrument) -> None:
    """Take what nobody asked for, also when it comes before a reply."""
    dmm.on_unsolicited(lambda message: print("by itself:", message.rstrip()), pattern=r"^!")
    print("the reply:", await dmm.query("SELF:TEST"))
    dmm.on_unsolicited(None)


async def limit(dmm: Instrument) -> None:
    """Ask faster than the instrument answers, for too long."""
    dmm.queue_limit = 3
    asked = [dmm.query("READ?") for _ in range(5)]
    for each in asked:
        try:
            print(await each)
        except QueueFull as error:
            print(error)


async def threads(dmm: Instrument, reactor: Any) -> None:
    """Use it from code that blocks, in a thread."""

    def begin_to_measure() -> Any:
        return Deferred.fromCoroutine(measure(dmm, "CURR"))

    def work() -> str:
        identity: Any = blockingCallFromThread(reactor, dmm.query, "*IDN?")
        current: Any = blockingCallFromThread(reactor, begin_to_measure)
        return f"{identity}: {current} A"

    print(await deferToThread(work))


async def main(reactor: Any) -> None:
    """Run all of them."""
    dmm = Instrument(
        simulator().in_memory(reactor), name="dmm", termination="\n", rstrip=True, timeout=5.0, reactor=reactor
    )
    await dmm.connect()
    await queue(dmm)
    await transactions(dmm)
    await unsolicited(dmm)
    await limit(dmm)
    await threads(dmm, reactor)
    await dmm.disconnect()


if __name__ == "__main__":
    react(main)
