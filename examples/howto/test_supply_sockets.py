"""The same over a socket, on the real reactor: `python -m twisted.trial examples.howto.test_supply_sockets`."""

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from equipnet.instrument import Instrument
from examples.howto.supply import Supply
from examples.howto.test_supply import SimulatedSupply


class SupplySocketTests(TestCase):
    async def test_comes_back(self) -> None:
        """
        A supply that was switched off and on again is found again.
        """
        simulator = SimulatedSupply(listen="tcp:0", reactor=reactor)
        await simulator.connect()
        self.addCleanup(simulator.disconnect)
        instrument = Instrument(str(simulator.bound), termination="\n", timeout=5.0, reactor=reactor)
        await instrument.connect()
        self.addCleanup(instrument.disconnect)
        supply = Supply(instrument)
        self.assertEqual(await supply.set_voltage(1), 1.0)

        await simulator.disconnect()
        with self.assertRaises(ConnectionError):
            await supply.set_voltage(2)
        await simulator.connect()
        await instrument.when_ready()
        self.assertEqual(await supply.set_voltage(2), 2.0)
