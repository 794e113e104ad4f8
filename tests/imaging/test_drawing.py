"""
Tests for `equipnet.imaging.drawing`.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image
from twisted.trial.unittest import SynchronousTestCase

from equipnet.imaging.drawing import MAX_SIZE, Box, LoopDrawing


def pixels_of(box: Box, width: int, height: int) -> tuple[float, float, float, float]:
    return box.min_y * height, box.min_x * width, box.max_y * height, box.max_x * width


class PictureTests(SynchronousTestCase):
    def test_same(self) -> None:
        """
        A picture is the same each time, to its last byte, for the same angle and seed.
        """
        one, other = (LoopDrawing(3).draw(47.5) for _ in range(2))
        self.assertTrue(np.array_equal(one.pixels, other.pixels))
        self.assertEqual(one.encode(), other.encode())
        self.assertEqual(one.truth, other.truth)

    def test_different(self) -> None:
        """
        Another angle, or another seed, makes another picture.
        """
        one = LoopDrawing(3).draw(47.5)
        for other in (LoopDrawing(3).draw(48.5), LoopDrawing(4).draw(47.5)):
            self.assertNotEqual(one.encode(), other.encode())
            self.assertNotEqual(one.truth.loop, other.truth.loop)

    def test_jpeg(self) -> None:
        """
        It is encoded as a JPEG of its size, the smaller the more it is compressed.
        """
        picture = LoopDrawing().draw(0)
        files = [picture.encode(compression) for compression in (0, 30, 100)]
        self.assertEqual([Image.open(BytesIO(each)).size for each in files], [(704, 480)] * 3)
        self.assertEqual(sorted(files, key=len, reverse=True), files)
        self.assertEqual(files[1][:2], b"\xff\xd8")

    def test_wrong(self) -> None:
        """
        A size or a compression that a camera does not have is refused with its limits.
        """
        for size in ((1281, 480), (704, 1025), (159, 480), (704, 0)):
            error = self.assertRaises(ValueError, LoopDrawing, 0, size)
            self.assertIn("not from 160x120 to 1280x1024", str(error))
        for compression in (-1, 101):
            self.assertRaises(ValueError, LoopDrawing().draw(0).encode, compression)


class TruthTests(SynchronousTestCase):
    def test_is_drawn(self) -> None:
        """
        The box is where the loop's dark pixels end, in all sizes: above, below, and at the tip.
        """
        for seed, size, angle in ((0, (704, 480), 0), (1, (704, 480), 85), (2, MAX_SIZE, 200), (3, (352, 288), 130)):
            picture = LoopDrawing(seed, size).draw(angle)
            top, left, bottom, right = pixels_of(picture.truth.loop, *size)
            behind_pin = picture.pixels[:, round(left) :]
            dark = behind_pin < 0.7 * float(np.median(behind_pin))
            rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
            seen = (rows[0], rows[-1] + 1, columns[-1] + 1 + round(left))
            for found, true in zip(seen, (top, bottom, right), strict=True):
                self.assertLess(abs(found - true), 1.5, (seed, size, angle))

    def test_tip(self) -> None:
        """
        The tip is on the box's right edge, and dark.
        """
        picture = LoopDrawing(5).draw(33)
        y, x = picture.truth.tip
        self.assertEqual(x, picture.truth.loop.max_x)
        self.assertLess(picture.pixels[int(y * 480), int(x * 704) - 2], 120)

    def test_rotation(self) -> None:
        """
        A loop is widest twice in a turn and narrowest between, keeps its length, and its middle goes up and down once.
        """
        drawing = LoopDrawing(1)
        loops = [drawing.truth(angle).loop for angle in range(360)]
        heights = np.array([loop.max_y - loop.min_y for loop in loops])
        self.assertGreater(heights.max(), 3 * heights.min())
        peaks = [at for at in range(360) if heights[at] >= max(heights[at - 1], heights[(at + 1) % 360])]
        self.assertEqual(len(peaks), 2)
        lengths = np.array([loop.max_x - loop.min_x for loop in loops])
        self.assertLess(np.ptp(lengths) * 704, 3)
        middles = np.array([loop.max_y + loop.min_y for loop in loops]) * 240
        self.assertGreater(np.ptp(middles), 2)
        self.assertEqual(int((np.diff(np.sign(np.diff(middles, append=middles[:2]))) != 0).sum()), 2)

    def test_full_turn(self) -> None:
        """
        After a full turn all is where it was.
        """
        drawing = LoopDrawing(1)
        for one, other in zip(drawing.truth(20), drawing.truth(380), strict=True):
            self.assertTrue(np.allclose(one, other, atol=1e-9))

    def test_pin(self) -> None:
        """
        The pin's box begins at the left edge, ends before the loop, and stays where it is.
        """
        drawing = LoopDrawing(2)
        loop, pin, _ = drawing.truth(10)
        self.assertEqual(pin.min_x, 0)
        self.assertLess(pin.max_x, loop.min_x)
        self.assertEqual(drawing.truth(200).pin, pin)
