"""Ask a model where the loop is in an image; a simulated camera and a simulated model stand in for both."""

from typing import Any

from twisted.internet.defer import gatherResults
from twisted.internet.task import react

from equipnet.errors import EquipmentError
from equipnet.imaging import AxisCamera, SimulatedAxis
from equipnet.prediction import AutoMLFault, AutoMLModel, SimulatedAutoML


async def main(reactor: Any) -> None:
    """Print what the model finds at four angles, and what happens when something goes wrong."""
    spindle, server = SimulatedAxis(seed=2, reactor=reactor), SimulatedAutoML(reactor=reactor)
    await gatherResults([spindle.connect(), server.connect()])
    camera = AxisCamera(f"http://{spindle.peer.removeprefix('tcp:')}", reactor=reactor)
    model = AutoMLModel(f"http://{server.peer.removeprefix('tcp:')}", name="voltron", max_boxes=10, reactor=reactor)
    await gatherResults([camera.connect(), model.connect()])

    asked = []
    for angle in (0, 30, 60, 90):
        spindle.angle = angle
        image = await camera.image()
        asked.append(model.predict(f"{angle} degrees", image.data))
    for prediction in await gatherResults(asked):
        for what, found in (("loop", prediction.loop), ("pin", prediction.pin)):
            if found is not None:
                size = (found.box.max_y - found.box.min_y) * image.height
                print(f"{prediction.key}: a {what}, {found.label!r}, {size:.0f} pixels high")

    for fault in (AutoMLFault(nan=True), AutoMLFault(partial=True), AutoMLFault(wrong_key=True)):
        server.inject(fault, count=1)
        try:
            await model.predict("again", image.data)
        except EquipmentError as error:
            print(f"{type(error).__name__}: {error}")

    await gatherResults([each.disconnect() for each in (camera, model, spindle, server)])


if __name__ == "__main__":
    react(main)
