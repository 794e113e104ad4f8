"""Let a simulated camera post a turn of a loop, and find the loop in each image."""

from typing import Any

from twisted.internet.task import react

from equipnet.imaging import JpegReceiver, SimulatedAxis
from equipnet.prediction import find_loop, read_picture

WIDTH, HEIGHT = 704, 480


async def main(reactor: Any) -> None:
    """Print how high the loop is at each angle, in pixels, and whether it was found there."""
    receiver = JpegReceiver("tcp:0", reactor=reactor)
    await receiver.connect()
    camera = SimulatedAxis(
        seed=2,
        post_to=f"http://{receiver.peer.removeprefix('tcp:')}/camera1",
        post_rate=50.0,
        step=30.0,
        post_count=12,
        reactor=reactor,
    )
    await camera.connect()

    images = receiver.images(limit=12)
    camera.open_trigger()
    async for image in images:
        angle = float(image.headers["x-angle"])
        true = camera.truth(angle).loop
        sighting = find_loop(read_picture(image.data))
        print(f"{angle:5.1f} degrees: {(true.max_y - true.min_y) * HEIGHT:3.0f} pixels high", end=", ")
        if sighting is None:
            print("not found")
        else:
            off = max(abs(one - other) for one, other in zip(sighting.loop, true, strict=True))
            print("found" if off * WIDTH < 3 else "found elsewhere")
        if angle == 330:
            break
    camera.close_trigger()

    await camera.disconnect()
    await receiver.disconnect()


if __name__ == "__main__":
    react(main)
