"""Tests of the hardware servers without a socket: `python -m twisted.trial test_servers` in this folder."""

from pathlib import Path
from typing import Any

# mypy, which looks from the top of the checkout, does not find them.
from loop_dhs import LoopServer  # type: ignore[import-not-found]
from motor_dhs import MotorServer  # type: ignore[import-not-found]
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from equipnet.dcs import AbnormalCompletion, DcssSimulator, DhsConnection, HardwareServer
from equipnet.imaging import Frame
from equipnet.interfaces import INode
from equipnet.prediction import Box, Detection, Prediction


@implementer(INode)
class Bench:
    """A node whose one connection is camera and model."""

    name = "bench"

    def __init__(self, *found: Detection) -> None:
        self.found = found

    def connection(self, name: str) -> Any:
        return self

    def image(self) -> Deferred[Frame]:
        return succeed(Frame(b"an image", "image/jpeg", 704, 480, 0.0, 1))

    def predict(self, key: str, image: bytes) -> Deferred[Prediction]:
        return succeed(Prediction(key, self.found))


class ServerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.dcss = DcssSimulator(Path(__file__).parent / "database.dat", reactor=self.clock)

    def start(self, server: HardwareServer, bench: Bench | None = None) -> None:
        dhs = DhsConnection(self.dcss.in_memory(self.clock), server, node=bench, reactor=self.clock)
        dhs.startService()
        self.successResultOf(self.pumped(self.dcss.when_configured("myDHS")))

    def pumped(self, ended: Deferred[Any]) -> Deferred[Any]:
        """Let a second pass."""
        self.clock.pump([0.1] * 10)
        return ended

    def test_move(self) -> None:
        """
        The motor goes where it is told, and dcss has nothing to complain of.
        """
        self.start(MotorServer())
        moved = self.pumped(self.dcss.move("sample_z", 2))
        self.assertEqual(self.successResultOf(moved).position, 2.0)
        self.assertEqual(self.dcss.complaints, [])

    def test_found(self) -> None:
        """
        The tip is at the right end of the loop's box, half way up.
        """
        self.start(LoopServer(), Bench(Detection(0.9, "nylon", 1, Box(0.4, 0.1, 0.6, 0.7))))
        found = self.pumped(self.dcss.start_operation("findLoop"))
        self.assertEqual(self.successResultOf(found).words, ("0.7", "0.5"))

    def test_not_found(self) -> None:
        """
        Where the model sees no loop the operation fails, and says why.
        """
        self.start(LoopServer(), Bench())
        found = self.pumped(self.dcss.start_operation("findLoop"))
        error = self.failureResultOf(found, AbnormalCompletion).value
        self.assertEqual(error.completion.status, "TipNotInView")
