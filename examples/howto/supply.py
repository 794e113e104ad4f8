"""The code that is tested: a power supply, on top of an `Instrument`."""

from equipnet.instrument import Instrument


class Supply:
    """
    One channel of a power supply.

    Parameters
    ----------
    instrument
        The conversation with it.
    """

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument

    async def set_voltage(self, volts: float) -> float:
        """Set the output, and give what the supply says that it is now; raises ValueError when it refuses."""
        async with self.instrument.transaction():
            await self.instrument.write(f"VOLT {volts:g}")
            is_now = float(await self.instrument.query("VOLT?"))
        if is_now != volts:
            raise ValueError(f"the supply refuses {volts:g} V and stays at {is_now:g} V")
        return is_now
