"""Take images and a stream of an Axis camera; a simulated one stands in for it."""

from textwrap import shorten
from typing import Any

from twisted.internet.task import react

from equipnet.errors import EquipmentError
from equipnet.imaging import AxisCamera, AxisFault, SimulatedAxis


async def main(reactor: Any) -> None:
    """Look at a camera that wants a password, and see what happens when something goes wrong."""
    simulator = SimulatedAxis(username="root", password="pass", reactor=reactor)
    await simulator.connect()
    url = f"http://{simulator.peer.removeprefix('tcp:')}"

    camera = AxisCamera(url, name="axis6", username="root", password="pass", reactor=reactor)
    await camera.connect()
    image = await camera.image(resolution="320x240", compression=30)
    print(f"an image: {image.content_type}, {image.width} x {image.height}")
    image = await camera.image(query="camera=1")
    print(f"with the query of pydhsfw: {image.width} x {image.height}")

    async for frame in camera.stream(fps=20, resolution="320x240"):
        print(f"frame {frame.sequence}: {frame.width} x {frame.height}")
        if frame.sequence == 3:
            break

    for fault in (AxisFault(truncate=True), AxisFault(html=True), AxisFault(status=500)):
        simulator.inject(fault, count=1)
        try:
            await camera.image()
        except EquipmentError as error:
            print(f"{type(error).__name__}: {shorten(str(error).replace(url, 'http://axis6'), 90, placeholder=' ...')}")
    await camera.disconnect()

    stranger = AxisCamera(url, username="root", password="word", reactor=reactor)
    try:
        await stranger.connect()
    except EquipmentError as error:
        print(f"{type(error).__name__}: {str(error).replace(url, 'http://axis6')}")
    await stranger.disconnect()
    await simulator.disconnect()


if __name__ == "__main__":
    react(main)
