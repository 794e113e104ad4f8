"""Receive images that cameras post, in each of the ways that there are."""

import json
import tempfile
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from equipnet.imaging import JpegReceiver, ReceivedImage, Retention


def post(receiver: JpegReceiver, path: str, *bodies: bytes, **fields: str) -> Deferred[None]:
    """Post bodies as a camera does, and print what is answered."""
    address: Any = receiver.bound

    def work() -> list[str]:
        camera = HTTPConnection(address.host, address.port)
        lines = []
        for body in bodies:
            camera.request("POST", path, body, {"Content-Type": "image/jpeg", **fields})
            answer = camera.getresponse()
            lines.append(f"  {path}: {answer.status} {answer.read().decode().strip()}".rstrip())
        camera.close()
        return lines

    return deferToThread(work).addCallback(lambda lines: print(*lines, sep="\n"))


def picture(width: int = 640) -> bytes:
    """Give an image as a camera makes it."""
    file = BytesIO()
    Image.new("L", (width, 480), 128).save(file, "JPEG")
    return file.getvalue()


async def observers(receiver: JpegReceiver) -> None:
    """Be called with each image: a function at once, an ``async def`` with one after the other."""

    def look(image: ReceivedImage) -> None:
        print(f"{image.sequence}: {image.width} x {image.height} from {image.path}, {image.headers['x-angle']} degrees")

    receiver.observe_images(look)
    await post(receiver, "/camera1", picture(), picture(800), **{"X-Angle": "30"})
    receiver.forget_observer(look)
    latest = receiver.latest("/camera1")
    assert latest is not None
    print("latest:", latest.sequence, latest.content_type)


async def subscription(receiver: JpegReceiver) -> None:
    """Take images one by one, at one's own pace."""
    images = receiver.images(limit=10)
    posted = post(receiver, "/camera2", picture(), picture(), picture())
    async for image in images:
        print("image", image.sequence)
        if image.sequence == 5:
            break
    await images.aclose()
    await posted


async def pause(receiver: JpegReceiver) -> None:
    """Take no images for a while; none is delivered later."""
    receiver.close()
    await post(receiver, "/camera1", picture())
    receiver.open()
    await post(receiver, "/camera1", picture())


async def refusals(receiver: JpegReceiver) -> None:
    """See what is refused, and how often."""
    await post(receiver, "/camera1", picture()[:100], b"hello", bytes(100_001))
    print(receiver.received, "accepted, refused:", receiver.refusals)


async def storage(reactor: Any, folder: Path) -> None:
    """Keep the last two images on disk."""
    receiver = JpegReceiver("tcp:0", store=folder, retention=Retention(max_files=2), reactor=reactor)
    await receiver.connect()
    await post(receiver, "/hutch/top", picture(), picture(), picture())
    await receiver.stopService()
    (day,) = folder.glob("hutch-top/*")
    print(len(list(day.glob("*.jpg"))), "images")
    for line in (day / "index.jsonl").read_text().splitlines():
        entry = json.loads(line)
        print(entry["sequence"], entry["path"], entry["width"], entry["height"])


async def main(reactor: Any) -> None:
    """Run all of them."""
    receiver = JpegReceiver("tcp:0", max_size="100 kB", reactor=reactor)
    await receiver.connect()
    await observers(receiver)
    await subscription(receiver)
    await pause(receiver)
    await refusals(receiver)
    await receiver.stopService()
    with tempfile.TemporaryDirectory() as folder:
        await storage(reactor, Path(folder))


if __name__ == "__main__":
    react(main)
