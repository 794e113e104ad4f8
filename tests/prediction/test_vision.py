"""
Tests for `equipnet.prediction.vision`, on pictures whose truth is known.
"""

from __future__ import annotations

from io import BytesIO
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from twisted.trial.unittest import SynchronousTestCase

from equipnet.imaging.drawing import LoopDrawing, LoopPicture
from equipnet.prediction.vision import MAX_PIXELS, find_loop, read_picture


def light(width: int = 704, height: int = 480) -> NDArray[np.uint8]:
    """Give a picture of nothing: uneven light, and noise."""
    noise = np.random.default_rng(1).normal(0, 2.5, (height, width))
    return (np.linspace(180, 220, width) + noise).astype(np.uint8)


class LoopTests(SynchronousTestCase):
    def off_by(self, picture: LoopPicture, pixels: NDArray[np.uint8]) -> float:
        """Give by how many pixels at most what is found in ``pixels`` differs from the truth."""
        sighting = find_loop(pixels)
        assert sighting is not None
        height, width = pixels.shape
        scale = np.array([height, width, height, width])
        loop = np.subtract(sighting.loop, picture.truth.loop) * scale
        pin = np.subtract(sighting.pin, picture.truth.pin) * scale
        return float(max(np.abs(loop).max(), np.abs(pin).max()))

    def test_turn(self) -> None:
        """
        All boxes are within 3 pixels of the truth, in a JPEG of the usual quality, all around.
        """
        for seed in range(4):
            drawing = LoopDrawing(seed)
            for angle in range(7 * seed, 360, 24):
                picture = drawing.draw(angle)
                self.assertLess(self.off_by(picture, read_picture(picture.encode())), 3, (seed, angle))

    def test_other_pictures(self) -> None:
        """
        So they are in other sizes and qualities.
        """
        for size, compression in (((352, 288), 30), ((1280, 1024), 30), ((704, 480), 0), ((704, 480), 100)):
            picture = LoopDrawing(5, size).draw(62)
            self.assertLess(self.off_by(picture, read_picture(picture.encode(compression))), 3, (size, compression))

    def test_soft_end_of_the_pin(self) -> None:
        """
        A column of the pin that is just less than half as high is not taken for the loop.
        """
        picture = LoopDrawing(831).draw(100)
        self.assertLess(self.off_by(picture, read_picture(picture.encode())), 3)

    def test_specks(self) -> None:
        """
        Dust is not taken for a part of the loop.
        """
        picture = LoopDrawing(2).draw(15)
        pixels = picture.pixels.copy()
        for y, x in ((20, 300), (440, 380), (240, 650), (100, 100)):
            pixels[y : y + 9, x : x + 7] = 40
        self.assertLess(self.off_by(picture, pixels), 3)

    def test_from_the_right(self) -> None:
        """
        The pin may come in from the right.
        """
        picture = LoopDrawing(2).draw(15)
        straight, mirrored = find_loop(picture.pixels), find_loop(picture.pixels[:, ::-1])
        assert straight is not None and mirrored is not None
        for one, other in ((straight.loop, mirrored.loop), (straight.pin, mirrored.pin)):
            self.assertTrue(np.allclose(one, (other.min_y, 1 - other.max_x, other.max_y, 1 - other.min_x)))

    def test_certainty(self) -> None:
        """
        The more noise there is, the less certain is what is found.
        """
        pixels = LoopDrawing(2).draw(15).pixels
        noise = np.random.default_rng(1).normal(0, 4, pixels.shape)
        clear, noisy = find_loop(pixels), find_loop(np.clip(pixels + noise, 0, 255).astype(np.uint8))
        assert clear is not None and noisy is not None
        self.assertTrue(0.9 < noisy.certainty < clear.certainty < 1)


class NothingTests(SynchronousTestCase):
    def test_no_loop(self) -> None:
        """
        Nothing is found where there is no loop on a pin.
        """
        picture = LoopDrawing(2).draw(15)
        pin_only = picture.pixels.copy()
        pin_only[:, int(picture.truth.pin.max_x * 704) + 2 :] = 200
        no_pin = picture.pixels.copy()
        no_pin[:, : int(picture.truth.pin.max_x * 704) + 20] = 200
        noise = np.random.default_rng(1).integers(0, 256, (480, 704)).astype(np.uint8)
        faint = (170 + picture.pixels / 6).astype(np.uint8)
        stripes = np.tile(np.repeat(np.array([0, 255], np.uint8), 4)[:, None], (60, 704))
        for name, pixels in (
            ("light", light()),
            ("black", np.zeros((480, 704), np.uint8)),
            ("white", np.full((480, 704), 255, np.uint8)),
            ("tiny", np.zeros((3, 3), np.uint8)),
            ("noise", noise),
            ("stripes", stripes),
            ("hardly darker", faint),
            ("a pin alone", pin_only),
            ("a loop alone", no_pin),
        ):
            self.assertIsNone(find_loop(pixels), name)

    def test_anything(self) -> None:
        """
        Whatever is in a picture, what is found is a box inside of it, or nothing.
        """
        draw = np.random.default_rng(7)
        found = 0
        for _ in range(150):
            pixels = light(200, 150)
            for _ in range(int(draw.integers(1, 6))):
                y, x = draw.integers(0, 150), max(0, int(draw.integers(-100, 200)))
                right = x + draw.integers(1, 200)
                pixels[y : y + draw.integers(1, 90), x:right] = draw.integers(0, 256)
            sighting = find_loop(pixels)
            if sighting is not None:
                found += 1
                for box in (sighting.loop, sighting.pin):
                    self.assertTrue(0 <= box.min_y < box.max_y <= 1 and 0 <= box.min_x < box.max_x <= 1, box)
        self.assertGreater(found, 0)


class ReadTests(SynchronousTestCase):
    def file(self, picture: Image.Image, form: str) -> bytes:
        file = BytesIO()
        picture.save(file, form)
        return file.getvalue()

    def test_kinds(self) -> None:
        """
        JPEG and PNG are read, grey and in colour, to the same grey values.
        """
        pixels = LoopDrawing(2).draw(15).pixels
        grey = Image.fromarray(pixels)
        for form, picture in product(("PNG", "JPEG"), (grey, grey.convert("RGB"))):
            read = read_picture(self.file(picture, form))
            self.assertEqual((read.shape, read.dtype), ((480, 704), np.uint8))
            self.assertLess(np.abs(read.astype(int) - pixels).mean(), 3)

    def test_wrong(self) -> None:
        """
        What is no picture, is cut, or is too large is refused with what it is.
        """
        jpeg = LoopDrawing(2).draw(15).encode()
        bmp = self.file(Image.new("L", (8, 8)), "BMP")
        large = self.file(Image.new("1", (MAX_PIXELS // 1000 + 1, 1000)), "PNG")
        for data, said in (
            (b"", "neither a JPEG nor a PNG"),
            (b"<html>no image</html>", "neither a JPEG nor a PNG"),
            (bmp, "neither a JPEG nor a PNG"),
            (jpeg[:5000], "damaged"),
            (jpeg[:20], "JPEG"),
            (large, "4001 x 1000 pixels, more than 4000000"),
        ):
            error = self.assertRaises(ValueError, read_picture, data)
            self.assertIn(said, str(error))
