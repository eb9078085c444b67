"""Masks as the files of a truth have them: outlines, run lengths and PNG files."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from shardcam.engine.io.plain_file import read_plain
from shardcam.engine.pictures.png import plain_png
from shardcam.engine.truths.truth import UnreadableMask
from shardcam.engine.types import I8, U1

LARGEST_PNG = 1 << 26  # bytes
MOST_PIXELS = 1 << 27  # of a mask
_FINE = 5  # steps in a pixel that an outline goes in
_LONGEST = 1 << 22  # steps of an outline
_MOST_CHARACTERS = 8  # of a run's length: 40 bits


@dataclass(frozen=True, slots=True)
class Outlines:
    """The pixels within polygons, as pycocotools has them."""

    polygons: tuple[bytes, ...]  # x, y of each corner, float64
    size: tuple[int, int]

    def __call__(self) -> U1:
        """(height,width)."""
        mask = np.zeros(self.size, np.uint8)
        for polygon in self.polygons:
            mask |= filled(np.frombuffer(polygon).reshape(-1, 2), self.size)
        return mask


@dataclass(frozen=True, slots=True)
class RunLengths:
    """The pixels of every second run, column by column."""

    lengths: bytes  # int32
    size: tuple[int, int]

    def __call__(self) -> U1:
        """(height,width)."""
        lengths = np.frombuffer(self.lengths, np.int32)
        values = (np.arange(len(lengths)) % 2).astype(np.uint8)
        height, width = self.size
        return np.ascontiguousarray(np.repeat(values, lengths).reshape(width, height).T)


@dataclass(frozen=True, slots=True)
class PngMask:
    """The pixels of a PNG file that have a value, or any but 0."""

    path: str
    size: tuple[int, int]
    value: int | None = None

    def __call__(self) -> U1:
        """(height,width)."""
        try:
            levels = png_levels(read_png(self.path))
            if levels.shape != self.size:
                raise ValueError("of another size than before")
        except (OSError, ValueError) as error:
            raise UnreadableMask(f"{self.path}: {error}") from error
        return (levels > 0 if self.value is None else levels == self.value).view(np.uint8)


StoredMask = Outlines | RunLengths | PngMask  # equal ones are the same


def read_png(path: str) -> bytes:
    """The bytes of a PNG file; OSError or ValueError where there is none."""
    return read_plain(Path(path), LARGEST_PNG)


def png_levels(data: bytes) -> U1:
    """(height,width) gray levels, or the numbers of colours of a palette, of a PNG file.

    Levels of fewer than 8 bits are as stored; of three equal channels one is taken.

    Raises
    ------
    ValueError
        It is damaged, too large, has colours or more than 8 bits.
    """
    try:
        if data[:8] != b"\x89PNG\r\n\x1a\n":
            raise ValueError("not a PNG file")
        plain, _ = plain_png(data)
        require_size((int.from_bytes(plain[20:24], "big"), int.from_bytes(plain[16:20], "big")))
        if (depth := plain[24]) > 8:
            raise ValueError(f"{depth} bits a channel; masks of 8 bits are read")
        Image.MAX_IMAGE_PIXELS = None  # the bound is ours
        with Image.open(io.BytesIO(plain), formats=("PNG",)) as image:
            mode = image.mode
            levels = np.asarray(image.convert("L") if mode == "1" else image)
    except ValueError:
        raise
    except Exception as error:  # decoders raise nearly anything on hostile bytes
        raise ValueError(f"damaged: {str(error)[:100] or type(error).__name__}") from error
    if levels.ndim == 3:
        colours = levels[..., : 1 if mode == "LA" else 3]
        if (colours != colours[..., :1]).any():
            raise ValueError("it has colours; masks are gray or have a palette")
        levels = colours[..., 0]
    elif mode != "P" and depth < 8:
        levels = levels // (255 // (2**depth - 1))
    return np.ascontiguousarray(levels)


def packed_polygons(polygons: object) -> tuple[bytes, ...]:
    """The `polygons` of `Outlines` from COCO's: a list of lists x, y, x, y ...

    Raises
    ------
    ValueError
        They are of another form, have fewer than three corners, or are too long for the picture.
    """
    if not isinstance(polygons, list) or not polygons:
        raise ValueError("no polygon")
    packed, steps = [], 0.0
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError("a polygon is x, y of three corners or more")
        try:
            corners = np.array(polygon, np.float64).reshape(-1, 2)
        except (ValueError, TypeError, OverflowError):
            raise ValueError("a corner is not two numbers") from None
        if not (np.abs(corners) < _LONGEST).all():
            raise ValueError("a corner is far outside of the picture")
        steps += _FINE * float(np.abs(corners - np.roll(corners, 1, axis=0)).max(axis=1).sum())
        if steps > _LONGEST:
            raise ValueError("the outline is too long")
        packed.append(corners.tobytes())
    return tuple(packed)


def run_lengths(counts: object, size: tuple[int, int]) -> RunLengths:
    """Run lengths as COCO has them: a list of numbers, or its compressed text.

    Raises
    ------
    ValueError
        They are of another form, or not those of so many pixels.
    """
    require_size(size)
    if isinstance(counts, str):
        lengths = _unpacked(counts)
    elif isinstance(counts, list) and all(type(n) is int and n < 1 << 62 for n in counts):
        lengths = np.array(counts, np.int64)
    else:
        raise ValueError("run lengths are whole numbers")
    pixels = size[0] * size[1]
    if not ((lengths >= 0) & (lengths <= pixels)).all():
        raise ValueError("a run length below 0 or longer than the picture")
    if lengths.sum() != pixels:
        raise ValueError(f"the run lengths are of {lengths.sum()} pixels, the picture has {pixels}")
    return RunLengths(lengths.astype(np.int32).tobytes(), size)


def require_size(size: tuple[int, int]) -> None:
    """Raise ValueError where a mask cannot have that height and width."""
    if min(size) < 1 or size[0] * size[1] > MOST_PIXELS:
        raise ValueError(f"{size[1]}x{size[0]} pixels; a mask has at most {MOST_PIXELS}")


def filled(corners: npt.NDArray[np.float64], size: tuple[int, int]) -> U1:
    """(n,2) x, y -> (height,width), 1 within the polygon.

    As pycocotools does: the outline is drawn in steps of a fifth of a pixel; where it goes from
    a column of steps to the next one in the middle of a pixel, all that follows, column by column,
    changes sides.
    """
    height, width = size
    start = np.trunc(corners * _FINE + 0.5).astype(np.int64)
    x, y = _drawn(start, np.roll(start, -1, axis=0))
    crossing = np.flatnonzero(np.diff(x)) + 1
    left = np.minimum(x[crossing], x[crossing - 1])
    top = np.minimum(y[crossing], y[crossing - 1])
    column = (left + 0.5) / _FINE - 0.5
    inside = (np.floor(column) == column) & (column >= 0) & (column <= width - 1)
    row = np.ceil(np.clip((top[inside] + 0.5) / _FINE - 0.5, 0, height)).astype(np.int64)
    at = column[inside].astype(np.int64) * height + row
    places, changes = np.unique(at[at < height * width], return_counts=True)
    sides = np.zeros(height * width, np.uint8)
    sides[places] = changes & 1
    np.bitwise_xor.accumulate(sides, out=sides)
    return np.ascontiguousarray(sides.reshape(width, height).T)


def _drawn(start: I8, end: I8) -> tuple[I8, I8]:
    """x and y of all steps of the edges of a polygon, one edge after the other."""
    across, down = np.abs(end - start).T
    flat = across >= down  # a step for each x; else one for each y
    swapped = np.where(flat, start[:, 0] > end[:, 0], start[:, 1] > end[:, 1])
    low, high = (np.where(swapped[:, None], a, b) for a, b in ((end, start), (start, end)))
    rise, run = np.where(flat, (high - low).T[::-1], (high - low).T)
    slope = rise / np.maximum(run, 1)
    steps = np.maximum(across, down) + 1
    edge = np.repeat(np.arange(len(steps)), steps)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(steps) - steps, steps)
    step = np.where(swapped[edge], steps[edge] - 1 - step, step)
    along = step + np.where(flat, low[:, 0], low[:, 1])[edge]
    base = np.where(flat, low[:, 1], low[:, 0])[edge]
    beside = np.trunc(base + slope[edge] * step + 0.5).astype(np.int64)
    return np.where(flat[edge], along, beside), np.where(flat[edge], beside, along)


def _unpacked(text: str) -> I8:
    """Run lengths from COCO's text.

    Each is in characters of 5 bits from the lowest on, and from the fourth on the difference
    to the one two before it.
    """
    try:
        codes = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError:
        raise ValueError("the run lengths are not COCO's text") from None
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("the run lengths are not COCO's text, or are cut off")
    last = np.flatnonzero(codes & 32 == 0)
    first = np.concatenate(([0], last[:-1] + 1))
    characters = last - first + 1
    if characters.max() > _MOST_CHARACTERS:
        raise ValueError("a run length is too long")
    place = np.arange(len(codes)) - np.repeat(first, characters)
    values = np.add.reduceat((codes & 31) << 5 * place, first)
    values -= (codes[last] >> 4 & 1) << 5 * characters
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
