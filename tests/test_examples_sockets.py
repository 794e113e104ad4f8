"""Tests of the examples, and of what stands in the documentation, that need a reactor and sockets."""

from __future__ import annotations

import contextlib
from importlib import import_module
from io import StringIO

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from equipnet.instrument import InstrumentSimulator
from examples.howto import test_supply_sockets
from tests.test_examples import EXAMPLES, ROOT, snippets

#: The example of the guide "Test your code against a simulated instrument".
SupplySocketTests = test_supply_sockets.SupplySocketTests

#: Examples without a text of what they print, each with the reason.
OTHERS = {
    "supply": "is tested by its own tests",
    "test_supply": "is a test",
    "test_supply_sockets": "is a test",
    "test_supply_pytest": "is a test",
    "supply_model": "belongs to supply.toml",
}


class HowToTests(TestCase):
    async def shown(self, name: str) -> None:
        """Run one of the programs; it prints what the pages show."""
        printed = StringIO()
        with contextlib.redirect_stdout(printed):
            await import_module(f"examples.howto.{name}").main(reactor)
        self.assertEqual(printed.getvalue(), (EXAMPLES / "howto" / f"{name}.txt").read_text())

    async def test_replies(self) -> None:
        """
        The program of "Say how a reply ends".
        """
        await self.shown("replies")

    async def test_late_replies(self) -> None:
        """
        The program of "Choose what happens after a reply that does not come".
        """
        await self.shown("late_replies")

    async def test_share(self) -> None:
        """
        The program of "Let several parts of a program use one instrument".
        """
        await self.shown("share")

    async def test_private_tls(self) -> None:
        """
        The program of "Connect with TLS".
        """
        await self.shown("private_tls")

    async def test_like_msl(self) -> None:
        """
        The program of "Come from MSL-Equipment".
        """
        await self.shown("like_msl")

    async def test_like_socs(self) -> None:
        """
        The program of "Come from SOCS".
        """
        await self.shown("like_socs")

    def test_all(self) -> None:
        """
        There is a test for each program, and each has a text of what it prints.
        """
        programs = {path.stem for path in (EXAMPLES / "howto").glob("*.py")} - {*OTHERS}
        self.assertEqual(programs, {name.removeprefix("test_") for name in dir(self) if name[:5] == "test_"} - {"all"})


class ReadmeTests(TestCase):
    async def test_instrument(self) -> None:
        """
        The README's first program runs against an instrument that knows its commands.
        """
        (snippet,) = (each for each in snippets(ROOT / "README.md", "python") if "react(main)" in each)
        simulator = InstrumentSimulator(
            {"*IDN?": "ACME,DMM,1,1.0", "CURV?": b"#18" + bytes(8) + b"\n", "CONF:VOLT": None, "READ?": "1.25"},
            reactor=reactor,
        )
        await simulator.connect()
        self.addCleanup(simulator.disconnect)
        self.assertEqual(snippet.count("TCP::192.168.1.100::5025"), 1)
        snippet = snippet.replace("TCP::192.168.1.100::5025", str(simulator.bound)).replace("react(main)", "")
        names: dict[str, object] = {}
        printed = StringIO()
        with contextlib.redirect_stdout(printed):
            exec(snippet, names)
            await names["main"](reactor)  # type: ignore[operator]
        self.assertEqual(printed.getvalue(), "ACME,DMM,1,1.0\n\n")
