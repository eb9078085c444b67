"""From maps to an image's pixels.

See `kernels.heatmap` and `kernels.overlay`. All take a batch at a time, for a launch from Python
costs some 50 us, more than the work of a picture. A thread computes a pixel's neighbours and
their shares where it needs them: nothing is kept.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import cuda

from shardcam.kernels.cuda.device_arrays import queue, require, require_out
from shardcam.kernels.cuda.device_maps import LARGEST_BLOCK, extremes

PIXELS = 256  # threads of a block that makes pixels
WHOLE = LARGEST_BLOCK  # threads of a block that makes a whole picture

_ZERO = np.float32(0)
_ONE = np.float32(1)
_TOP_LEVEL = np.float32(255)
_MAX = np.finfo(np.float32).max
_INF = np.float32(np.inf)
_EPSILON = 1e-7
_NOISE = np.float32(1e-6)  # as in kernels._raster
_A_BIT_MORE = np.float32(1 + 2**-22)


def normalize(maps: Any, out: Any, stream: int = 0) -> None:
    """(M,h,w) -> (M,h,w), float32, C order; see `kernels.normalize`."""
    m, h, w = require("maps", maps, np.float32, "M", "h", "w")
    require_out("out", out, np.float32, m, h, w)
    if m:
        _normalize[m, PIXELS, queue(stream)](maps, out)


def upsample(maps: Any, out: Any, stream: int = 0) -> None:
    """(M,h,w) -> (M,H,W), float32, C order; see `kernels.upsample`."""
    m, _, _ = require("maps", maps, np.float32, "M", "h", "w")
    require_out("out", out, np.float32, m, "H", "W")
    if m:
        _upsample[(m, _blocks(out.shape)), PIXELS, queue(stream)](maps, out)


def heatmap_u8(maps: Any, out: Any, stream: int = 0) -> None:
    """(M,h,w) -> (M,H,W), float32 to uint8, C order; see `kernels.heatmap_u8`."""
    m, _, _ = require("maps", maps, np.float32, "M", "h", "w")
    require_out("out", out, np.uint8, m, "H", "W")
    if m:
        _heatmap_u8[m, WHOLE, queue(stream)](maps, out)


def overlay(
    raw: Any,
    images: Any,
    table: Any,
    out: Any,
    alpha: float = 0.5,
    peak_normalize: bool = False,
    stream: int = 0,
) -> None:
    """(M,h,w), (M,H,W,3), (256,3) -> (M,H,W,3), float32 and uint8, C order.

    Each map blended into its image; see `kernels.overlay`.
    """
    m, _, _ = require("raw", raw, np.float32, "M", "h", "w")
    shape = require("images", images, np.uint8, m, "H", "W", 3)
    require("table", table, np.uint8, 256, 3)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: expected a number from 0 to 1, got {alpha}")
    require_out("out", out, np.uint8, *shape)
    if m:
        options = np.float32(alpha), bool(peak_normalize)
        _overlay[m, WHOLE, queue(stream)](raw, images, table, *options, out)


def _blocks(shape: tuple[int, ...]) -> int:
    """Of a picture (.., H, W), one thread a pixel."""
    return -(-shape[1] * shape[2] // PIXELS)


@cuda.jit
def _normalize(maps, out):
    ends = cuda.shared.array((2, LARGEST_BLOCK), numba.float32)
    raw, unit = maps[cuda.blockIdx.x], out[cuda.blockIdx.x]
    width = raw.shape[1]
    low, divisor = _positive_range(raw, ends)
    for p in range(cuda.threadIdx.x, raw.shape[0] * width, cuda.blockDim.x):
        y, x = p // width, p % width
        unit[y, x] = _stretched(raw[y, x], low, divisor)


@cuda.jit
def _upsample(maps, out):
    raw, enlarged = maps[cuda.blockIdx.x], out[cuda.blockIdx.x]
    height, width = enlarged.shape
    p = cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    if p < height * width:
        y, x = p // width, p % width
        top, bottom, down = _neighbours(y, raw.shape[0], height)
        left, right, across = _neighbours(x, raw.shape[1], width)
        above = _mix(raw[top, left], raw[top, right], across)
        below = _mix(raw[bottom, left], raw[bottom, right], across)
        enlarged[y, x] = _mix(above, below, down)


@cuda.jit
def _heatmap_u8(maps, out):
    ends = cuda.shared.array((2, LARGEST_BLOCK), numba.float32)
    raw, levels = maps[cuda.blockIdx.x], out[cuda.blockIdx.x]
    height, width = levels.shape
    ranges = _ranges(raw, height, width, ends)
    for p in range(cuda.threadIdx.x, height * width, cuda.blockDim.x):
        y, x = p // width, p % width
        levels[y, x] = _level(raw, y, x, height, width, ranges)


@cuda.jit
def _overlay(maps, images, table, alpha, peak_normalize, out):
    ends = cuda.shared.array((2, LARGEST_BLOCK), numba.float32)
    raw, image, blended = maps[cuda.blockIdx.x], images[cuda.blockIdx.x], out[cuda.blockIdx.x]
    height, width = image.shape[0], image.shape[1]
    ranges = _ranges(raw, height, width, ends)
    rest = _ONE - alpha
    factor = _ONE
    if peak_normalize:
        peak = _ZERO
        for p in range(cuda.threadIdx.x, height * width, cuda.blockDim.x):
            y, x = p // width, p % width
            level = _level(raw, y, x, height, width, ranges)
            for c in range(3):
                value = alpha * np.float32(table[level, c]) + rest * np.float32(image[y, x, c])
                peak = max(peak, value)
        _, peak = extremes(_ZERO, peak, ends)
        if peak > _ZERO:
            factor = _TOP_LEVEL / peak * _A_BIT_MORE
    for p in range(cuda.threadIdx.x, height * width, cuda.blockDim.x):
        y, x = p // width, p % width
        level = _level(raw, y, x, height, width, ranges)
        for c in range(3):
            value = alpha * np.float32(table[level, c]) + rest * np.float32(image[y, x, c])
            blended[y, x, c] = np.uint8(np.int32(factor * value))


@cuda.jit(device=True)
def _positive_range(raw, ends):
    """What brings a map to [0, 1] after ReLU, or to 0 if not finite: lowest value and divisor."""
    width = raw.shape[1]
    low, high = _MAX, _ZERO
    for p in range(cuda.threadIdx.x, raw.shape[0] * width, cuda.blockDim.x):
        value = raw[p // width, p % width]
        if abs(value) <= _MAX:
            low, high = min(low, max(value, _ZERO)), max(high, value)
        else:
            high = _INF
    low, high = extremes(low, high, ends)
    divisor = np.float32(np.float64(high - low) + _EPSILON)
    if high > _MAX:
        low, divisor = _ZERO, _INF
    return low, divisor


@cuda.jit(device=True)
def _stretched(value, low, divisor):
    # Not finite is 0 or the largest number: divided by infinity it is 0.
    return ((min(value, _MAX) if value > _ZERO else _ZERO) - low) / divisor


@cuda.jit(device=True)
def _ranges(raw, height, width, ends):
    """What makes levels of a map: twice a lowest value and a divisor."""
    first_low, first_divisor = _positive_range(raw, ends)
    low, high = _INF, -_INF
    plain = first_low, first_divisor, _ZERO, _ONE
    for p in range(cuda.threadIdx.x, height * width, cuda.blockDim.x):
        value = _enlarged(raw, p // width, p % width, height, width, plain, _ONE)
        low, high = min(low, value), max(high, value)
    low, high = extremes(low, high, ends)
    divisor = np.float32(np.float64(high - low) + _EPSILON)
    if high - low <= _NOISE:  # a constant, but for rounding, which must not fill the range
        low, divisor = _ZERO, _INF
    return first_low, first_divisor, low, divisor


@cuda.jit(device=True)
def _level(raw, y, x, height, width, ranges):
    return np.uint8(np.int32(_enlarged(raw, y, x, height, width, ranges, _TOP_LEVEL)))


@cuda.jit(device=True)
def _enlarged(raw, y, x, height, width, ranges, top_level):
    """A pixel of the enlarged map; each value is brought to its range before they are mixed."""
    top, bottom, down = _neighbours(y, raw.shape[0], height)
    left, right, across = _neighbours(x, raw.shape[1], width)
    above = _mix(
        _ranged(raw[top, left], ranges, top_level),
        _ranged(raw[top, right], ranges, top_level),
        across,
    )
    below = _mix(
        _ranged(raw[bottom, left], ranges, top_level),
        _ranged(raw[bottom, right], ranges, top_level),
        across,
    )
    return _mix(above, below, down)


@cuda.jit(device=True)
def _ranged(value, ranges, top_level):
    return top_level * ((_stretched(value, ranges[0], ranges[1]) - ranges[2]) / ranges[3])


@cuda.jit(device=True)
def _neighbours(i, source, target):
    """The two samples that an output pixel mixes along one axis, and the upper one's share.

    Half-pixel centres, as `kernels.heatmap.taps`; one division of whole numbers, so that a
    pixel that lies on a sample is that sample.
    """
    position = ((2 * i + 1) * source - target) / (2 * target)
    position = min(max(position, 0.0), source - 1.0)
    lower = int(position)
    return lower, min(lower + 1, source - 1), np.float32(position - lower)


@cuda.jit(device=True)
def _mix(lower, upper, share):
    return (_ONE - share) * lower + share * upper
