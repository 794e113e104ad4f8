"""
Find a nylon loop and its pin in a picture, by looking at the pixels: what is darker than the light behind it, and how
the height of that goes from the pin to the tip.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from equipnet.prediction.prediction import Box

#: The most pixels of a picture that is looked at.
MAX_PIXELS = 4_000_000

#: The light behind is estimated from blocks of so many pixels.
_BLOCK = 16

#: How many times the noise, and which share of the light, something must be darker.
_NOISE_FACTOR, _LEAST_CONTRAST = 10.0, 0.15

#: Which share of the picture's height a pin has at least, and of its width what is on it.
_LEAST_PIN, _LEAST_LENGTH = 0.04, 0.05

#: How many columns an edge is soft over.
_SOFT = 2


@dataclass(frozen=True)
class Sighting:
    """
    What was found.

    Parameters
    ----------
    loop
        The box of the nylon loop, without its stem.
    pin
        The box of the pin, from the edge of the picture where it comes in.
    certainty
        From 0 to 1: how clearly what is dark stands out from the noise.
    """

    loop: Box
    pin: Box
    certainty: float


def read_picture(data: bytes) -> NDArray[np.uint8]:
    """
    Give the grey values of a picture in a file, height x width.

    Raises
    ------
    ValueError
        When it is no picture, is damaged, or has more than `MAX_PIXELS`.
    """
    try:
        with Image.open(BytesIO(data), formats=("JPEG", "PNG")) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError(f"the picture has {picture.width} x {picture.height} pixels, more than {MAX_PIXELS}")
            # A JPEG has the grey values by themselves.
            picture.draft("L", picture.size)
            return np.asarray(picture.convert("L"))
    except UnidentifiedImageError:
        raise ValueError("it is neither a JPEG nor a PNG") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"the picture is damaged: {error}") from error


def find_loop(pixels: NDArray[np.uint8]) -> Sighting | None:
    """
    Give the loop and its pin.

    Parameters
    ----------
    pixels
        Grey values, height x width. The pin comes in from the left or from the right.

    Returns
    -------
    Sighting or None
        None where there is no loop on a pin.
    """
    height, width = pixels.shape
    if height < 4 * _BLOCK or width < 4 * _BLOCK:
        return None
    light, noise = _light(pixels)
    shadow = light - pixels
    threshold = _threshold(shadow, max(_NOISE_FACTOR * noise, _LEAST_CONTRAST * float(light.mean())))
    dark = shadow > threshold
    from_right = dark[:, -1].sum() > dark[:, 0].sum()
    if from_right:
        dark = dark[:, ::-1]
    top, bottom = _silhouette(dark)
    edges = _edges(top, bottom, height, width)
    if edges is None:
        return None
    pin_end, loop_start, loop_end = edges

    def box(first: float, last: float) -> Box:
        columns = slice(round(first), round(last))
        min_x, max_x = (width - last, width - first) if from_right else (first, last)
        return Box(int(top[columns].min()) / height, min_x / width, int(bottom[columns].max()) / height, max_x / width)

    # The threshold is half of how dark it is.
    return Sighting(box(loop_start, loop_end), box(0, pin_end), 1 - noise / (2 * threshold))


def _light(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
    """
    Give the light behind everything, and the noise in it.

    A surface of the second degree is laid through the means of blocks, again and again without those that are darker
    than it.
    """
    height, width = pixels.shape
    rows, columns = height // _BLOCK, width // _BLOCK
    blocks = pixels[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK)
    means = blocks.mean(axis=(1, 3), dtype=np.float32).ravel()
    y = (np.arange(rows, dtype=np.float32) + 0.5) * _BLOCK / height - 0.5
    x = (np.arange(columns, dtype=np.float32) + 0.5) * _BLOCK / width - 0.5
    terms = _terms(*np.meshgrid(y, x, indexing="ij")).reshape(6, -1).T
    # The upper half is nearly all light.
    kept = means >= np.median(means)
    for _ in range(4):
        surface = np.linalg.lstsq(terms[kept], means[kept], rcond=None)[0]
        off = means - terms @ surface
        spread = 1.5 * float(np.median(np.abs(off[kept]))) + 0.5
        kept = np.abs(off) < 4 * spread
        if kept.sum() < 20:
            break
    y = ((np.arange(height, dtype=np.float32) + 0.5) / height - 0.5)[:, None]
    x = ((np.arange(width, dtype=np.float32) + 0.5) / width - 0.5)[None, :]
    one, of_y, of_x, of_yy, of_xy, of_xx = surface.tolist()
    light = (one + of_y * y + of_yy * y * y) + (of_x + of_xy * y) * x + of_xx * (x * x)
    # Neighbours share the light, and not the noise.
    steps = np.abs(np.diff(pixels[::4, ::4].astype(np.int16), axis=1))
    return light.astype(np.float32), float(np.median(steps)) + 0.5


def _terms(y: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.stack([np.ones_like(y), y, x, y * y, x * y, x * x])


def _threshold(shadow: NDArray[np.float32], least: float) -> float:
    """Give half of how dark what is darker than ``least`` typically is: there its edges are, however soft they are."""
    sample = shadow[::2, ::2]
    darker = sample[sample > least]
    return max(least, float(np.median(darker)) / 2) if darker.size else least


def _silhouette(dark: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """
    Give where what comes in from the left begins and ends in each column, for as many columns as it goes.

    Each column's stretches of dark pixels belong to it that touch one of the column before: specks elsewhere do not.
    """
    height, width = dark.shape
    padded = np.zeros((width, height + 2), np.int8)
    padded[:, 1:-1] = dark.T
    columns, rows = np.nonzero(np.diff(padded, axis=1))
    starts, ends = rows[::2].tolist(), rows[1::2].tolist()
    first = np.searchsorted(columns[::2], np.arange(width + 1)).tolist()
    top: list[int] = []
    bottom: list[int] = []
    before = [(0, height)]
    for column in range(width):
        touching = []
        at = 0
        stretches = slice(first[column], first[column + 1])
        for start, end in zip(starts[stretches], ends[stretches], strict=True):
            while at < len(before) and before[at][1] < start:
                at += 1
            if at < len(before) and before[at][0] <= end:
                touching.append((start, end))
        if not touching:
            break
        top.append(touching[0][0])
        bottom.append(touching[-1][1])
        before = touching
    return np.array(top, np.intp), np.array(bottom, np.intp)


def _edges(
    top: NDArray[np.intp], bottom: NDArray[np.intp], height: int, width: int
) -> tuple[float, float, float] | None:
    """Give where the pin ends, and where the loop begins and ends; None where the silhouette is no loop on a pin."""
    tall = (bottom - top).astype(np.float64)
    end = len(tall)
    if not _LEAST_LENGTH * width < end < width:
        return None
    pin = float(np.median(tall[: max(3, round(0.02 * width))]))
    after_pin = np.flatnonzero(tall < pin / 2)
    if pin < _LEAST_PIN * height or not after_pin.size:
        return None
    pin_end = int(after_pin[0])
    if pin_end < 3 or end - pin_end < _LEAST_LENGTH * width:
        return None
    # The pin's own end is soft: a column or two of it are less than half of its height.
    widest = pin_end + _SOFT + int(tall[pin_end + _SOFT :].argmax())
    if widest - pin_end < 3:
        return None
    stem = float(np.quantile(tall[pin_end:widest], 0.2))
    # Where it is thicker than the stem from there on, it is the loop.
    thin = np.flatnonzero(tall[pin_end:widest] <= 1.5 * stem + 1)
    grown = pin_end + (int(thin[-1]) + 1 if thin.size else 0)
    if tall[widest] < 1.5 * stem + 2 or end - grown < 3:
        return None
    # A round thing's height squared is (x - start) * (end - x), but for a factor: where it grows out of the stem.
    middle = slice(grown, max(grown + 3, round(end - 0.2 * (end - grown))))
    x = np.arange(end)[middle] + 0.5
    factor, constant = np.polyfit(x, tall[middle] ** 2 / (end - x), 1)
    start = -constant / factor if factor > 0 else grown
    return float(pin_end), float(min(max(start, pin_end), grown)), float(end)
