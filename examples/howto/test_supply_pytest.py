"""The same with pytest-twisted: `python -m pytest examples/howto/test_supply_pytest.py`."""

from collections.abc import Iterator

import pytest
import pytest_twisted
from twisted.internet import reactor

from equipnet.instrument import Fault, Instrument
from examples.howto.supply import Supply
from examples.howto.test_supply import SimulatedSupply


@pytest.fixture
def simulator() -> SimulatedSupply:
    return SimulatedSupply(reactor=reactor)


@pytest.fixture
def supply(simulator: SimulatedSupply) -> Iterator[Supply]:
    instrument = Instrument(simulator.in_memory(), termination="\n", timeout=0.2, reactor=reactor)
    pytest_twisted.blockon(instrument.connect())
    yield Supply(instrument)
    pytest_twisted.blockon(instrument.disconnect())


async def test_set(supply: Supply) -> None:
    assert await supply.set_voltage(12.5) == 12.5


async def test_silence(supply: Supply, simulator: SimulatedSupply) -> None:
    simulator.inject(Fault(silence=True), count=2)
    with pytest.raises(TimeoutError):
        await supply.set_voltage(5)
    assert await supply.set_voltage(6) == 6.0
