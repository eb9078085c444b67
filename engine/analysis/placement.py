"""A map laid onto the pixels of the original picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.errors import ConfigError
from shardcam.engine.types import F4, U1
from shardcam.kernels import normalize

_LEVELS = np.float32(255)
_EPSILON = 1e-7  # as in kernels.heatmap
_BLOCK = 256  # picture rows at once


@dataclass(frozen=True)
class _Axis:
    """Positions of the picture's pixels on the map, along one axis."""

    start: int  # first pixel that the network saw
    stop: int
    lower: npt.NDArray[np.intp]  # of each seen pixel: the map's cell before its centre
    share: F4  # and the next cell's share


def place(
    raw: F4, crop: npt.NDArray[Any], image_size: npt.NDArray[Any]
) -> tuple[U1, tuple[slice, slice]]:
    """(h,w) float32 -> (height,width) uint8, levels 0 to 255, 0 where the network saw nothing.

    A pixel belongs to the view if its centre does. It gets the map's value at its centre,
    bilinear with half-pixel centres and clamped to the edges, as `kernels.heatmap_u8` would
    give the view at the picture's resolution: for a view that ends between pixels, the two
    are the same. The range is stretched over the whole view, also over what lies outside of
    the picture (with ``--resize pad``).

    Parameters
    ----------
    raw
        Raw signed map; its scale does not matter.
    crop
        (4,) y0, x0, y1, x1 of the view in the picture's pixels.
    image_size
        (2,) height, width of the picture.

    Returns
    -------
    levels, seen
        And the rows and columns of the picture that are in the view.
    """
    y0, x0, y1, x1 = crop.tolist()
    height, width = image_size.tolist()
    levels = normalize(np.ascontiguousarray(raw[None], np.float32))[0]
    low, divisor = _range(levels, _knots(y0, y1, levels.shape[0]), _knots(x0, x1, levels.shape[1]))
    down = _seen(y0, y1, levels.shape[0], height)
    across = _seen(x0, x1, levels.shape[1], width)
    rows = (_widen(levels, across) - low) / divisor
    seen = slice(down.start, down.stop), slice(across.start, across.stop)
    levels = np.zeros((height, width), np.uint8)
    inside = levels[seen]
    for first in range(0, len(inside), _BLOCK):
        block = slice(first, first + _BLOCK)
        inside[block] = _LEVELS * _mix(rows, down.lower[block], down.share[block, None])
    return levels, seen


def enlarged_onto(
    raw: F4, crop: npt.NDArray[Any], image_size: npt.NDArray[Any]
) -> tuple[F4, tuple[slice, slice]]:
    """(h,w) float32 -> the values at the pixels that the network saw, and which those are.

    Bilinear as in `place`, of the raw map in its own range.
    """
    y0, x0, y1, x1 = crop.tolist()
    height, width = image_size.tolist()
    down = _seen(y0, y1, raw.shape[0], height)
    across = _seen(x0, x1, raw.shape[1], width)
    values = _mix(_widen(raw, across), down.lower, down.share[:, None])
    return values, (slice(down.start, down.stop), slice(across.start, across.stop))


def level_of(threshold: float) -> int:
    """The lowest level, 0 to 255, of a heatmap that reaches a share of its range.

    Raises
    ------
    ConfigError
        `threshold` is not between 0 and 1.
    """
    if not 0 < threshold < 1:
        raise ConfigError(f"threshold: expected a number between 0 and 1, got {threshold}")
    return int(-(-threshold * 255 // 1))


@lru_cache(maxsize=64)  # pictures of one size come again and again
def _seen(start: float, stop: float, cells: int, size: int) -> _Axis:
    """The pixels of the picture whose centres are in the view."""
    first, last = _first(start), _first(stop)
    first, last = max(first, 0), min(last, size)
    return _Axis(first, max(first, last), *_taps(np.arange(first, last), start, stop, cells))


def _first(edge: float) -> int:
    """The first pixel whose centre is at an edge or beyond."""
    return int(np.ceil(edge - 0.5))


def _taps(
    pixels: npt.NDArray[np.intp], start: float, stop: float, cells: int
) -> tuple[npt.NDArray[np.intp], F4]:
    position = (pixels - start + 0.5) * (cells / (stop - start)) - 0.5
    position = np.clip(position, 0, cells - 1)
    lower = position.astype(np.intp)
    return lower, (position - lower).astype(np.float32)


@lru_cache(maxsize=64)
def _knots(start: float, stop: float, cells: int) -> _Axis:
    """The pixels where the view's extremes can be: the first and last of each cell.

    Between the centres of two cells values change linearly. So few are looked at, however
    far the view reaches beyond a long and narrow picture.
    """
    first, last = _first(start), max(_first(stop), _first(start) + 1)
    centres = start + (np.arange(cells) + 0.5) * ((stop - start) / cells)
    before = np.ceil(centres - 0.5).astype(np.intp)
    near = np.concatenate([[first, last - 1], before - 1, before, before + 1])
    pixels = np.unique(np.clip(near, first, last - 1))
    return _Axis(first, last, *_taps(pixels, start, stop, cells))


def _range(levels: F4, down: _Axis, across: _Axis) -> tuple[np.float32, np.float32]:
    values = _mix(_widen(levels, across), down.lower, down.share[:, None])
    low, high = values.min(), values.max()
    return low, np.float32(np.float64(high - low) + _EPSILON)


def _widen(levels: F4, across: _Axis) -> F4:
    return _mix(levels.T, across.lower, across.share[:, None]).T


def _mix(values: F4, lower: npt.NDArray[np.intp], share: F4) -> F4:
    upper = values[np.minimum(lower + 1, len(values) - 1)]
    mixed: F4 = (np.float32(1) - share) * values[lower] + share * upper
    return mixed
