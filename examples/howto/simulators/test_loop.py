"""A test of code that asks a camera and a model, over sockets of this machine."""

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from equipnet.http import HttpStatus
from equipnet.imaging import AxisCamera, AxisFault, SimulatedAxis
from equipnet.prediction import AutoMLFault, AutoMLModel, SimulatedAutoML


async def loop_height(camera: AxisCamera, model: AutoMLModel) -> float | None:
    """What is tested: give the height of the loop that the camera sees, as a fraction of the image."""
    image = await camera.image()
    prediction = await model.predict("now", image.data)
    return None if prediction.loop is None else prediction.loop.box.max_y - prediction.loop.box.min_y


class LoopHeightTests(TestCase):
    async def start(self) -> None:
        """Connect a camera and a model to simulated ones."""
        self.spindle, self.server = SimulatedAxis(seed=7, reactor=reactor), SimulatedAutoML(reactor=reactor)
        await gatherResults([self.spindle.connect(), self.server.connect()])
        self.camera = AxisCamera(f"http://{self.spindle.peer.removeprefix('tcp:')}", reactor=reactor)
        self.model = AutoMLModel(f"http://{self.server.peer.removeprefix('tcp:')}", reactor=reactor)
        await gatherResults([self.camera.connect(), self.model.connect()])
        for connection in (self.spindle, self.server, self.camera, self.model):
            self.addCleanup(connection.disconnect)

    async def test_found(self) -> None:
        """
        The height is that of the loop which the camera drew, within three pixels.
        """
        await self.start()
        truth = self.spindle.truth(self.spindle.angle).loop
        height = await loop_height(self.camera, self.model)
        assert height is not None
        self.assertLess(abs(height - (truth.max_y - truth.min_y)), 3 / 480)

    async def test_nothing_found(self) -> None:
        """
        Where the model finds nothing there is no height.
        """
        await self.start()
        self.server.inject(AutoMLFault(nothing=True), count=1)
        self.assertIsNone(await loop_height(self.camera, self.model))

    async def test_camera_refuses(self) -> None:
        """
        A camera that answers 500 is an error.
        """
        await self.start()
        self.spindle.inject(AxisFault(status=500), count=1)
        with self.assertRaises(HttpStatus):
            await loop_height(self.camera, self.model)
