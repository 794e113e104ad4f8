"""
A hardware server that finds the loop in the pictures of a turning sample, for automated crystal centering.

Its operations are those of loopDHS at the Advanced Light Source: what they are asked and answer is the same.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, gatherResults
from twisted.internet.task import deferLater

from equipnet.dcs import HardwareServer, OperationFailed, Run, operation
from equipnet.errors import EquipmentError
from equipnet.imaging import ReceivedImage, Subscription
from equipnet.prediction import Detection, Prediction

#: Below this score nothing has been found.
LOWEST_SCORE = 0.1

#: Seconds that the last images may be on their way once the shutter is closed; how many are with the model at once.
LAST_IMAGES, AT_ONCE = 0.5, 16

#: What is told of a fiber that nobody measures.
FIBER_WIDTH = 0.222

Words = tuple[object, ...]


class LoopServer(HardwareServer):
    """Finds loops; ``camera``, ``images`` and ``model`` are the node's connections to whom it asks."""

    dhs_name = "loopDHS"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._images: Subscription[ReceivedImage] | None = None
        self._loops: list[Words] = []
        self._at_once = DeferredSemaphore(AT_ONCE)

    def started(self) -> None:
        # What the camera posts when nobody collects is of no interest.
        self.node.connection("images").close()

    @operation("collectLoopImages")
    async def collect_loop_images(self, run: Run, pin_base_size_hint: str = "") -> str:
        """
        Find the loop in each image that comes until ``stopCollectLoopImages``; tell of each by an update.

        The update ``start_oscillation`` asks for the turn, in which the camera posts its images.
        """
        if self._images is not None:
            raise OperationFailed("error", "images are being collected already")
        receiver: Any = self.node.connection("images")
        self._images = receiver.images(limit=1000)
        receiver.open()
        answers: list[Deferred[Words]] = []
        try:
            await run.update("start_oscillation")
            async for image in self._images:
                await self._at_once.acquire()
                answers.append(Deferred.fromCoroutine(self._look(run, len(answers), image.data)))
            self._loops = await gatherResults(answers, consumeErrors=True)
        finally:
            receiver.close()
            self._images = None
            for answer in answers:
                answer.addErrback(lambda reason: reason.trap(CancelledError))
                answer.cancel()
        return "done"

    @operation("stopCollectLoopImages")
    async def stop_collect_loop_images(self, run: Run) -> tuple[str, str]:
        """Let ``collectLoopImages`` end when the images that are on their way have been looked at."""
        images = self._images
        if images is not None:
            await deferLater(self.connection.reactor, LAST_IMAGES)
            images.end()
        return "flag", "set"

    @operation("getLoopTip")
    async def get_loop_tip(self, run: Run, ask_pin_flag: str = "0") -> Words:
        """Give the tip of the loop that the camera sees now, and with the flag 1 the base of its pin."""
        loop, prediction = await self._look_now(run)
        return (*tip(loop), pin_base(prediction)) if ask_pin_flag == "1" else tip(loop)

    @operation("getLoopInfo")
    async def get_loop_info(self, run: Run, pin_base_size_hint: str = "") -> Words:
        """Give all there is to say of the loop that the camera sees now."""
        return measures(*await self._look_now(run))

    @operation("reboxLoopImage")
    async def rebox_loop_image(self, run: Run, index: str, start: str = "", end: str = "") -> Words:
        """Give the height of the loop in one of the images that were collected last: index, top, bottom, width."""
        if not index.isdecimal() or int(index) >= len(self._loops):
            raise OperationFailed("error", f"there is no image {index} of {len(self._loops)}")
        _, status, *loop = self._loops[int(index)]
        if status != "normal":
            raise OperationFailed("error", f"there is no loop in image {index}")
        return index, loop[7], loop[8], loop[4]

    async def _look(self, run: Run, index: int, image: bytes) -> Words:
        """Tell dcss of the loop in one image; what cannot be said of it is no reason to stop."""
        found: Words
        try:
            prediction = await self.node.connection("model").predict(f"{run.name}:{run.handle}:{index}", image)
            loop = seen(prediction)
            found = (index, "normal", *measures(loop, prediction), loop.label, round(loop.score, 5))
        except OperationFailed as error:
            found = (index, "failed", *error.values)
        except EquipmentError as error:
            found = (index, "failed", type(error).__name__)
        finally:
            self._at_once.release()
        await run.update("LOOP_INFO", *found)
        return found

    async def _look_now(self, run: Run) -> tuple[Detection, Prediction]:
        image = await self.node.connection("camera").image()
        prediction = await self.node.connection("model").predict(f"{run.name}:{run.handle}", image.data)
        return seen(prediction), prediction


def seen(prediction: Prediction) -> Detection:
    """Give the loop; raises OperationFailed when there is none."""
    if prediction.loop is None or prediction.loop.score < LOWEST_SCORE:
        raise OperationFailed("error", "TipNotInView", "+")
    return prediction.loop


def tip(loop: Detection) -> tuple[float, float]:
    """Give the loop's point that is farthest from the pin: x and y, as fractions of the image."""
    return round(loop.box.max_x, 5), round((loop.box.min_y + loop.box.max_y) / 2, 5)


def pin_base(prediction: Prediction) -> float:
    """Give where the pin ends, as a fraction of the image's width; 0 when it is not seen."""
    return 0.0 if prediction.pin is None else round(prediction.pin.box.max_x, 5)


def measures(loop: Detection, prediction: Prediction) -> Words:
    """Give the measures of a loop in dcss's order; the last says whether it is a micromount."""
    box = loop.box
    sides = (box.min_x, box.max_x, box.min_y, box.max_y)
    width, height = box.max_x - box.min_x, box.max_y - box.min_y
    numbers = (*tip(loop), pin_base(prediction), FIBER_WIDTH, height, *sides, width)
    return (*(round(number, 5) for number in numbers), int(loop.label == "mitegen"))
