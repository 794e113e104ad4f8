"""
Pictures of a nylon loop on a pin, as a beamline's camera sees them, at any angle of the spindle, with the boxes known.

The pin comes in from the left along the spindle's axis. Everything behind its end is rigid and a little bent: the stem,
the loop, which is an ellipsoid with one axis much shorter than the others, and perhaps a crystal in it. Where they are
in a picture follows from the angle alone, in closed form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from random import Random
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: The largest picture, and the smallest one in which there is something to see, in pixels.
MAX_SIZE = (1280, 1024)
MIN_SIZE = (160, 120)

#: The size that all lengths here are for, in pixels: an Axis video server's for NTSC.
DEFAULT_SIZE = (704, 480)

#: What an Axis camera compresses by where nobody says anything.
DEFAULT_COMPRESSION = 30

#: How much larger the noise is than a picture, so that each picture can have another part of it.
_NOISE_MARGIN = 64

Floats = NDArray[np.float32]


class Box(NamedTuple):
    """A rectangle in fractions of the picture's height and width, from the upper left corner."""

    min_y: float
    min_x: float
    max_y: float
    max_x: float


class Truth(NamedTuple):
    """
    Where things are in a picture.

    Parameters
    ----------
    loop
        The box of the nylon loop, without its stem.
    pin
        The box of the pin, from the picture's left edge.
    tip
        The loop's point that is farthest from the pin: y and x, in fractions.
    """

    loop: Box
    pin: Box
    tip: tuple[float, float]


@dataclass(frozen=True, eq=False)
class LoopPicture:
    """
    A picture, and the truth about it.

    Parameters
    ----------
    angle
        Of the spindle, in degrees.
    pixels
        Grey values, height x width.
    truth
        Where the loop and the pin are.
    """

    angle: float
    pixels: NDArray[np.uint8] = field(repr=False)
    truth: Truth

    def encode(self, compression: int = DEFAULT_COMPRESSION) -> bytes:
        """
        Give the picture as a JPEG.

        Parameters
        ----------
        compression
            As for an Axis camera, from 0 for the best quality to 100 for the smallest file.

        Raises
        ------
        ValueError
            When ``compression`` is something else.
        """
        check_compression(compression)
        file = BytesIO()
        # Pillow advises against qualities over 95 and under 5.
        Image.fromarray(self.pixels).save(file, "JPEG", quality=95 - round(0.9 * compression))
        return file.getvalue()


def check_compression(compression: int) -> None:
    """Raise ValueError when an Axis camera would not compress by so much."""
    if not 0 <= compression <= 100:
        raise ValueError(f"the compression is {compression}, not from 0 to 100")


class LoopDrawing:
    """
    A loop that can be drawn at any angle: the same pixels for the same angle, seed and size.

    It keeps no state, so that several threads can draw.

    Parameters
    ----------
    seed
        Decides what the loop is like, and the noise.
    size
        Width and height, in pixels; the loop keeps its share of the picture.

    Raises
    ------
    ValueError
        When the size is smaller than `MIN_SIZE` or larger than `MAX_SIZE`.
    """

    def __init__(self, seed: int = 0, size: tuple[int, int] = DEFAULT_SIZE) -> None:
        if not all(least <= side <= most for least, side, most in zip(MIN_SIZE, size, MAX_SIZE, strict=True)):
            raise ValueError(
                f"the size is {size[0]}x{size[1]}, "
                f"not from {MIN_SIZE[0]}x{MIN_SIZE[1]} to {MAX_SIZE[0]}x{MAX_SIZE[1]} pixels"
            )
        self.seed = seed
        self.width, self.height = size
        self._scale = min(self.width / DEFAULT_SIZE[0], self.height / DEFAULT_SIZE[1])
        draw = Random(seed)

        def length(least: float, most: float) -> float:
            return self._scale * draw.uniform(least, most)

        self._axis = self.height / 2 + length(-12, 12)
        self._pin_radius = length(30, 38)
        self._pin_end = self.width / 2 - length(155, 175)
        self._fibre = length(4.5, 6)
        self._stem_length = length(70, 95)
        # Half of what the loop measures along the stem, across, and through.
        self._radii = (length(62, 82), length(44, 60), length(11, 14))
        self._bend = math.radians(draw.uniform(1, 3.5))
        self._bend_phase = draw.uniform(0, 2 * math.pi)
        self._face_phase = draw.uniform(-0.4, 0.4)
        # The crystal's size in shares of the loop's; one loop in four is empty.
        self._crystal = 0.0 if draw.random() < 0.25 else draw.uniform(0.25, 0.45)

    def truth(self, angle: float) -> Truth:
        """Give where things are in the picture at ``angle`` degrees."""
        loop = self._loop(angle)
        half = self._fibre / 2
        extent_x, extent_y = math.sqrt(loop.xx) + half, math.sqrt(loop.yy) + half
        tip_y = loop.y + loop.xy / math.sqrt(loop.xx)
        return Truth(
            self._box(loop.x - extent_x, loop.y - extent_y, loop.x + extent_x, loop.y + extent_y),
            self._box(0, self._axis - self._pin_radius, self._pin_end, self._axis + self._pin_radius),
            (tip_y / self.height, (loop.x + extent_x) / self.width),
        )

    def draw(self, angle: float) -> LoopPicture:
        """Give the picture at ``angle`` degrees."""
        canvas = _background(self.width, self.height, self.seed).copy()
        loop = self._loop(angle)
        self._draw_pin(canvas)
        self._draw_stem(canvas, loop)
        self._draw_loop(canvas, loop)
        canvas += self._noise(angle)
        np.clip(canvas, 0, 255, out=canvas)
        return LoopPicture(angle, canvas.astype(np.uint8), self.truth(angle))

    # Where things are

    def _loop(self, angle: float) -> _Ellipse:
        """Give the loop's outline: the projection of the ellipsoid, whose rows are its semi-axes as vectors."""
        turned = math.radians(angle)
        sideways = turned + self._bend_phase
        # The stem's direction; what is across to it is turned about it.
        along = np.array(
            (math.cos(self._bend), math.sin(self._bend) * math.cos(sideways), math.sin(self._bend) * math.sin(sideways))
        )
        face = turned + self._face_phase
        across = np.array((0.0, math.cos(face), math.sin(face)))
        across -= along * (across @ along)
        across /= math.sqrt(across @ across)
        through = np.cross(along, across)
        axes = np.array([radius * axis for radius, axis in zip(self._radii, (along, across, through), strict=True)])
        (xx, xy), (_, yy) = (axes.T @ axes)[:2, :2].tolist()
        distance = self._stem_length + self._radii[0]
        return _Ellipse(self._pin_end + distance * float(along[0]), self._axis + distance * float(along[1]), xx, xy, yy)

    def _box(self, min_x: float, min_y: float, max_x: float, max_y: float) -> Box:
        return Box(min_y / self.height, min_x / self.width, max_y / self.height, max_x / self.width)

    # How they look

    def _draw_pin(self, canvas: Floats) -> None:
        margin = self._pin_radius + 2
        patch, y, x = _patch(canvas, -1, self._axis - margin, self._pin_end + 2, self._axis + margin)
        # A pixel's middle is half a pixel from its corner.
        inside = np.minimum(self._pin_radius - np.abs(y - self._axis), self._pin_end - x) + 0.5
        across = (y - self._axis) / self._pin_radius
        # A cylinder of metal, with a gleam above its middle.
        shade = 38 + 55 * np.sqrt(np.maximum(0, 1 - across**2)) + 45 * np.exp(-(((across + 0.35) / 0.16) ** 2))
        _blend(patch, np.clip(inside, 0, 1), shade)

    def _draw_stem(self, canvas: Floats, loop: _Ellipse) -> None:
        """Draw two twisted fibres, which end inside the loop's own."""
        half = 0.85 * self._fibre
        from_loop = math.sqrt(loop.xx)
        end_x, end_y = loop.x - from_loop, loop.y - loop.xy / from_loop
        slope = (end_y - self._axis) / (end_x - self._pin_end)
        top, bottom = sorted((self._axis, end_y))
        patch, y, x = _patch(canvas, self._pin_end - 1, top - half - 2, end_x + 1, bottom + half + 2)
        off = (y - self._axis - slope * (x - self._pin_end)) / math.hypot(1, slope)
        inside = np.minimum(half - np.abs(off), np.minimum(x - self._pin_end, end_x - x) + 1) + 0.5
        twist = np.sin((x + 1.2 * off) * (2.2 / self._fibre))
        _blend(patch, np.clip(inside, 0, 1), 62 + 16 * twist)

    def _draw_loop(self, canvas: Floats, loop: _Ellipse) -> None:
        reach_x, reach_y = (math.sqrt(extent) + self._fibre + 2 for extent in (loop.xx, loop.yy))
        patch, y, x = _patch(canvas, loop.x - reach_x, loop.y - reach_y, loop.x + reach_x, loop.y + reach_y)
        distance = loop.distance(x - loop.x, y - loop.y)
        # What is in the loop is wet, which takes a little of the light.
        patch *= 1 - 0.07 * np.clip(0.5 - distance, 0, 1)
        if self._crystal:
            self._draw_crystal(patch, x - loop.x, y - loop.y, loop)
        off = np.abs(distance)
        inside = self._fibre / 2 - off + 0.5
        # The light goes through the middle of a fibre.
        shade = 52 + 34 * np.maximum(0, 1 - (2.6 * off / self._fibre) ** 2)
        _blend(patch, np.clip(inside, 0, 1), shade)

    def _draw_crystal(self, patch: Floats, x: Floats, y: Floats, loop: _Ellipse) -> None:
        """Draw a crystal with four edges, in the loop's own coordinates: it is foreshortened as the loop is."""
        u, v = loop.own(x, y)
        edge = 1 - (np.abs(u - 0.12) + 0.9 * np.abs(v + 0.08 * u)) / self._crystal
        size = self._crystal * math.sqrt(loop.yy)
        inside = np.clip(edge * size + 0.5, 0, 1)
        border = np.clip(2.5 - np.abs(edge * size), 0, 1) * inside
        _blend(patch, inside * 0.45, 150 + 30 * u)
        _blend(patch, border * 0.5, np.float32(90))

    def _noise(self, angle: float) -> NDArray[np.int8]:
        """Give another part of the same noise for each angle."""
        noise = _noise(self.width, self.height, self.seed)
        draw = Random(f"{self.seed} {angle:.6f}")
        top, left = draw.randrange(_NOISE_MARGIN), draw.randrange(_NOISE_MARGIN)
        return noise[top : top + self.height, left : left + self.width]


@dataclass(frozen=True)
class _Ellipse:
    """
    The outline of a projected ellipsoid: where it is, and the matrix of which the support function is the root.

    The ellipse is all points p with p . (matrix^-1 p) = 1; ``sqrt(xx)`` and ``sqrt(yy)`` are half of its width and
    height.
    """

    x: float
    y: float
    xx: float
    xy: float
    yy: float

    def own(self, x: Floats, y: Floats) -> tuple[Any, Any]:
        """Give coordinates in which the ellipse is the unit circle, the first nearly along x."""
        # The inverse of the Cholesky factor of the matrix.
        first = math.sqrt(self.xx)
        skew = self.xy / first
        second = math.sqrt(self.yy - skew**2)
        u = x / first
        return u, (y - skew * u) / second

    def distance(self, x: Floats, y: Floats) -> Floats:
        """Give how many pixels points are outside of the outline: right to the first order, and exact on the axes."""
        first = math.sqrt(self.xx)
        skew = self.xy / first
        second = math.sqrt(self.yy - skew**2)
        u, v = self.own(x, y)
        radius = np.hypot(u, v)
        slope_y = v / second
        slope = np.hypot((u - skew * slope_y) / first, slope_y)
        distance: Floats = (radius - 1) * (radius + 1e-6) / (slope + 1e-6 / first)
        return distance


def _patch(canvas: Floats, left: float, top: float, right: float, bottom: float) -> tuple[Floats, Floats, Floats]:
    """Give a part of the canvas that has these edges in it, and its pixels' middles: a column of y, and a row of x."""
    first_y, first_x = max(0, math.floor(top)), max(0, math.floor(left))
    patch = canvas[first_y : math.ceil(bottom), first_x : math.ceil(right)]
    y = np.arange(first_y, first_y + patch.shape[0], dtype=np.float32)[:, None] + np.float32(0.5)
    x = np.arange(first_x, first_x + patch.shape[1], dtype=np.float32)[None, :] + np.float32(0.5)
    return patch, y, x


def _blend(patch: Floats, cover: Floats, shade: Any) -> None:
    patch += cover * (shade - patch)


# The same for all angles; a few of them, since cameras are asked for few sizes.


@lru_cache(maxsize=8)
def _background(width: int, height: int, seed: int) -> Floats:
    """Give the soft light behind the loop, brightest not quite in the middle."""
    draw = Random(f"light {seed}")
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] - draw.uniform(-0.3, 0.3)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :] - draw.uniform(-0.3, 0.3)
    brightest, slope_x, slope_y = draw.uniform(205, 225), draw.uniform(-6, 6), draw.uniform(-6, 6)
    light: Floats = np.float32(brightest) - 14 * x**2 - 12 * y**2 + slope_x * x + slope_y * y
    return light


@lru_cache(maxsize=8)
def _noise(width: int, height: int, seed: int) -> NDArray[np.int8]:
    """Give the noise of a sensor, for more than one picture."""
    noise = np.random.default_rng(seed).standard_normal((height + _NOISE_MARGIN, width + _NOISE_MARGIN), np.float32)
    rounded: NDArray[np.int8] = np.rint(2.2 * noise).astype(np.int8)
    return rounded
