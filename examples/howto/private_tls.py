"""Connect with TLS: an authority of the laboratory's own for the equipment, and one for those who may speak to it."""

import runpy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.task import react

from equipnet.connection.tls import TLS
from equipnet.instrument import Instrument, InstrumentSimulator

make = runpy.run_path(str(Path(__file__).parents[1] / "tls" / "make.py"))["make"]


async def main(reactor: Any) -> None:
    """Make the certificates, and connect with them, without them, and to somebody else."""
    with TemporaryDirectory() as name:
        equipment, clients = Path(name, "equipment"), Path(name, "clients")
        for folder, hosts in ((equipment, ["localhost"]), (clients, ["controls"])):
            folder.mkdir()
            make(folder, hosts)

        simulator = InstrumentSimulator(
            {"*IDN?": "ACME,TC 12,42,2.1"},
            "tls:0",
            tls=TLS(
                certificate=equipment / "equipment.pem",
                key=equipment / "equipment.key",
                authority=clients / "authority.pem",
            ),
            reactor=reactor,
        )
        await simulator.connect()
        assert simulator.bound is not None
        address = f"tls:localhost:{simulator.bound.port}"

        authority = equipment / "authority.pem"
        us, key = clients / "equipment.pem", clients / "equipment.key"
        for what, tls in (
            ("as it should be", TLS(authority, us, key)),
            ("without our certificate", TLS(authority)),
            ("an authority that did not sign", TLS(clients / "authority.pem", us, key)),
            ("another host name", TLS(authority, us, key, host_name="tc.lab")),
        ):
            instrument = Instrument(address, termination="\n", rstrip=True, timeout=5.0, tls=tls, reactor=reactor)
            try:
                await instrument.connect()
                print(f"{what}: {await instrument.query('*IDN?')}")
            except ConnectionError as error:
                print(f"{what}: {type(error).__name__}")
            await instrument.disconnect()
        await simulator.disconnect()


if __name__ == "__main__":
    react(main)
