"""
Tests of the loop-finding hardware server in ``examples/loop``, with the simulated dcss in memory.

What it asks and answers is loopDHS's (dsclassen/loop-dhs, src/loop_dhs/loopDHS.py).
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from equipnet.dcs import AbnormalCompletion, DcssSimulator, DhsConnection
from equipnet.errors import EquipmentTimeout
from equipnet.imaging import Subscription
from equipnet.prediction import Box, Detection, Prediction
from examples.loop.loop_dhs import AT_ONCE, LAST_IMAGES, LoopServer
from tests.test_examples import EXAMPLES

LOOP = Detection(0.91, "nylon", 1, Box(0.25, 0.375, 0.75, 0.5))
PIN = Detection(0.8, "pin", 3, Box(0.4, 0.0, 0.6, 0.25))

#: tipX tipY pinBaseX fiberWidth loopWidth boxMinX boxMaxX boxMinY boxMaxY loopWidthX isMicroMount
MEASURES = "0.5 0.5 0.25 0.222 0.5 0.375 0.5 0.25 0.75 0.125 0"


class Image:
    """An image, of which nothing but the bytes is looked at."""

    def __init__(self, data: bytes) -> None:
        self.data = data


class Receiver:
    """Stands for the receiver of images."""

    is_open = True

    def __init__(self) -> None:
        self.subscriptions: list[Subscription[Image]] = []

    def images(self, limit: int) -> Subscription[Image]:
        self.subscriptions.append(Subscription(limit))
        return self.subscriptions[-1]

    def open(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_open = False

    def post(self, data: bytes) -> None:
        """Let an image come."""
        self.subscriptions[-1].put(Image(data))


class Camera:
    """Stands for the camera."""

    def image(self) -> Deferred[Image]:
        return succeed(Image(b"now"))


class Model:
    """Stands for the model: the test answers."""

    def __init__(self) -> None:
        self.asked: dict[str, Deferred[Prediction]] = {}

    def predict(self, key: str, image: bytes) -> Deferred[Prediction]:
        self.asked[key] = Deferred()
        return self.asked[key]

    def answer(self, key: str, *detections: Detection) -> None:
        """Let the model say what is in an image."""
        self.asked.pop(key).callback(Prediction(key, detections))


class LoopTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.receiver, self.model = Receiver(), Model()
        connections = {"images": self.receiver, "model": self.model, "camera": Camera()}

        class Node:
            name = "test"
            connection = staticmethod(connections.__getitem__)

        self.dcss = DcssSimulator(EXAMPLES / "loop" / "database.dat", reactor=self.clock)
        self.server = LoopServer()
        node: Any = Node()
        self.dhs = DhsConnection(self.dcss.in_memory(self.clock), self.server, node=node, reactor=self.clock)
        self.dhs.startService()
        self.turn()
        self.updates: list[str] = []

    def tearDown(self) -> None:
        stopped = self.dhs.stopService()
        self.turn()
        self.successResultOf(stopped)

    def turn(self) -> None:
        """Let everything that is on its way arrive."""
        self.clock.pump([0] * 20)

    def start(self, operation: str, *arguments: object) -> Deferred[Any]:
        """Let dcss start an operation."""
        completion = self.dcss.start_operation(
            operation, *arguments, on_update=lambda update: self.updates.append(update.text)
        )
        self.turn()
        return completion

    def failure_of(self, completion: Deferred[Any]) -> str:
        """Give what dcss is told of an operation that failed."""
        return str(self.failureResultOf(completion, AbnormalCompletion).value)

    def collect(self, count: int) -> Deferred[Any]:
        """Begin to collect, and let so many images come."""
        collected = self.start("collectLoopImages")
        for number in range(count):
            self.receiver.post(b"image %d" % number)
        self.turn()
        return collected


class CollectTests(LoopTestCase):
    def test_turn(self) -> None:
        """
        The receiver is open for as long as images are collected, and each image is told of with its number, also when
        the model answers in another order; the end comes with the last answer.
        """
        self.assertFalse(self.receiver.is_open)
        collected = self.collect(2)
        self.assertTrue(self.receiver.is_open)
        stopped = self.start("stopCollectLoopImages")
        self.assertNoResult(stopped)
        self.receiver.post(b"image 2")  # it was on its way
        self.clock.advance(LAST_IMAGES)
        self.turn()
        self.assertEqual(self.successResultOf(stopped).text, "flag set")
        keys = [f"collectLoopImages:1.1:{number}" for number in range(3)]
        self.assertEqual(list(self.model.asked), keys)
        for key in reversed(keys):
            self.assertNoResult(collected)
            self.model.answer(key, LOOP, PIN)
            self.turn()
        self.assertEqual(self.successResultOf(collected).text, "done")
        wanted = [f"LOOP_INFO {number} normal {MEASURES} nylon 0.91" for number in (2, 1, 0)]
        self.assertEqual(self.updates, ["start_oscillation", *wanted])
        self.assertFalse(self.receiver.is_open)

    def test_many_images(self) -> None:
        """
        Of a turn with more images than the model takes at once, the others wait for it; none is left out.
        """
        collected = self.collect(100)
        stopped = self.start("stopCollectLoopImages")
        self.clock.advance(LAST_IMAGES)
        self.turn()
        self.successResultOf(stopped)
        for number in range(100):
            self.assertEqual(len(self.model.asked), min(AT_ONCE, 100 - number))
            self.model.answer(f"collectLoopImages:1.1:{number}", LOOP)
            self.turn()
        self.assertEqual(self.successResultOf(collected).text, "done")
        self.assertEqual(len(self.updates), 101)

    def test_images_without_a_loop(self) -> None:
        """
        An image without a loop, and one that the model does not answer for, are told of as failed; the others go on.
        """
        collected = self.collect(3)
        stopped = self.start("stopCollectLoopImages")
        self.clock.advance(LAST_IMAGES)
        self.turn()
        self.model.answer("collectLoopImages:1.1:0", PIN)
        self.model.asked.pop("collectLoopImages:1.1:1").errback(EquipmentTimeout(5.0, "an answer"))
        self.model.answer("collectLoopImages:1.1:2", LOOP)
        self.turn()
        self.successResultOf(stopped)
        self.assertEqual(self.successResultOf(collected).text, "done")
        self.assertEqual(
            self.updates[1:],
            [
                "LOOP_INFO 0 failed TipNotInView +",
                "LOOP_INFO 1 failed EquipmentTimeout",
                f"LOOP_INFO 2 normal {MEASURES.replace('0.25 0.222', '0.0 0.222')} nylon 0.91",
            ],
        )

    def test_abort(self) -> None:
        """
        An abort ends it at once, closes the receiver, and asks the model nothing more.
        """
        collected = self.collect(1)
        asked = self.model.asked["collectLoopImages:1.1:0"]
        self.dcss.abort_all()
        self.turn()
        self.assertEqual(self.failure_of(collected), "collectLoopImages: aborted")
        self.assertFalse(self.receiver.is_open)
        self.assertTrue(asked.called)  # it was cancelled

    def test_abort_of_many(self) -> None:
        """
        So it does when images wait for their turn; the next time the model is asked about as many as before.
        """
        for count in (AT_ONCE + 5, AT_ONCE + 5):
            self.model.asked.clear()
            collected = self.collect(count)
            self.assertEqual(len(self.model.asked), AT_ONCE)
            self.dcss.abort_all()
            self.turn()
            self.failure_of(collected)

    def test_twice(self) -> None:
        """
        A second one while the first one runs is refused, and does not disturb it.
        """
        collected = self.collect(0)
        self.assertEqual(
            self.failure_of(self.start("collectLoopImages")),
            "collectLoopImages: error {images are being collected already}",
        )
        self.failureResultOf(collected, AbnormalCompletion)  # dcss has aborted all for that

    def test_stop_without_collecting(self) -> None:
        """
        Stopping when nothing is collected is no error.
        """
        self.assertEqual(self.successResultOf(self.start("stopCollectLoopImages")).text, "flag set")


class LookTests(LoopTestCase):
    def test_tip(self) -> None:
        """
        The tip is the middle of the side far from the pin; with the flag the end of the pin is told as well.
        """
        for flag, wanted in (("0", "0.5 0.5"), ("1", "0.5 0.5 0.25")):
            tip = self.start("getLoopTip", flag)
            (key,) = self.model.asked
            self.model.answer(key, LOOP, PIN)
            self.turn()
            self.assertEqual(self.successResultOf(tip).text, wanted)

    def test_no_tip(self) -> None:
        """
        Nothing found, and found with a score that is too low, are the error that dcss's scripts know.
        """
        for detections in ((), (Detection(0.09, "nylon", 1, LOOP.box),)):
            tip = self.start("getLoopTip")
            (key,) = self.model.asked
            self.model.answer(key, *detections)
            self.turn()
            self.assertEqual(self.failure_of(tip), "getLoopTip: error TipNotInView +")

    def test_info(self) -> None:
        """
        All measures are told in dcss's order, and whether it is a micromount.
        """
        for label, mount in (("nylon", "0"), ("mitegen", "1")):
            info = self.start("getLoopInfo", 40)
            (key,) = self.model.asked
            self.model.answer(key, Detection(0.9, label, 1, LOOP.box), PIN)
            self.turn()
            self.assertEqual(self.successResultOf(info).text, f"{MEASURES[:-2]} {mount}")


class ReboxTests(LoopTestCase):
    def test_collected(self) -> None:
        """
        Top, bottom and width of the loop in an image that was collected; an image without one is an error.
        """
        collected = self.collect(2)
        self.start("stopCollectLoopImages")
        self.clock.advance(LAST_IMAGES)
        self.model.answer("collectLoopImages:1.1:0", LOOP)
        self.model.answer("collectLoopImages:1.1:1")
        self.turn()
        self.successResultOf(collected)
        self.assertEqual(self.successResultOf(self.start("reboxLoopImage", 0, 0.51, 0.56)).text, "0 0.25 0.75 0.5")
        for index, wanted in (("1", "there is no loop in image 1"), ("-1", "there is no image -1 of 2")):
            self.assertEqual(
                self.failure_of(self.start("reboxLoopImage", index)), f"reboxLoopImage: error {{{wanted}}}"
            )

    def test_nothing_collected(self) -> None:
        """
        A number that no image has is an error that says how many there are.
        """
        for index in ("0", "-1", "first"):
            self.assertEqual(
                self.failure_of(self.start("reboxLoopImage", index)),
                f"reboxLoopImage: error {{there is no image {index} of 0}}",
            )
