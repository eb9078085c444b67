"""From decoded pictures of any size to views of one size.

See `kernels.resize`. All pictures of a batch lie in one array, planar (3,H,W) and one behind the
other, for a launch from Python costs more than the work of a picture. A thread computes the
samples of its pixel and their shares where it needs them, and adds up in the CPU's order.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import cuda

from shardcam.kernels.cuda.device_arrays import queue, require, require_out
from shardcam.kernels.cuda.device_maps import LARGEST_BLOCK, extremes

PIXELS = 256  # threads of a block that makes pixels
WHOLE = LARGEST_BLOCK  # threads of a block that looks at a whole picture
SOME_ROWS = 16  # every so many: nearly every picture is cleared by these

_ZERO = np.float32(0)
_HALF = np.float32(0.5)
_TOP_LEVEL = np.float32(255)
_LINEAR, _AREA, _AREA_LINEAR = 0, 1, 2


def fit_pictures(pixels: Any, fits: Any, out: Any, stream: int = 0) -> None:
    """(P,), (N,12) -> (M,H,W,3), uint8, int64 and uint8, C order.

    Each picture's part, resized as `kernels.resize` does, in a row of `out`. What lies outside
    of the resized part is not written.

    Parameters
    ----------
    pixels : (P,) uint8
        The pictures.
    fits : (N, 12) int64
        Of each: where it begins in `pixels`, its height and width; top, left, bottom and right of
        the part; rows and columns that the part gets; of these the row and the column where the
        view begins, which may be negative; the row of `out`. None of it is checked.
    """
    require("pixels", pixels, np.uint8, "P")
    n, _ = require("fits", fits, np.int64, "N", 12)
    _, h, w, _ = require_out("out", out, np.uint8, "M", "H", "W", 3)
    if n:
        _fit_pictures[(n, -(-h * w // PIXELS)), PIXELS, queue(stream)](pixels, fits, out)


def small_ranges(pixels: Any, parts: Any, limit: int, out: Any, stream: int = 0) -> None:
    """(P,), (N,7) -> (N,), uint8, int64 and uint8, C order.

    Whether the largest value of a picture's part is less than `limit` above the smallest: 1 or 0.
    `parts` are the first seven columns that `fit_pictures` takes.
    """
    require("pixels", pixels, np.uint8, "P")
    n, _ = require("parts", parts, np.int64, "N", 7)
    require_out("out", out, np.uint8, n)
    if n:
        _small_ranges[n, WHOLE, queue(stream)](pixels, parts, limit, out)


@cuda.jit
def _fit_pictures(pixels, fits, out):
    fit = fits[cuda.blockIdx.x]
    width = out.shape[2]
    p = cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    if p >= out.shape[1] * width:
        return
    view_y, view_x = p // width, p % width
    y, x = view_y + fit[9], view_x + fit[10]
    rows, columns = fit[7], fit[8]
    if y < 0 or y >= rows or x < 0 or x >= columns:
        return
    part_rows, part_columns = fit[5] - fit[3], fit[6] - fit[4]
    method = _LINEAR
    if rows < part_rows or columns < part_columns:
        method = _AREA if rows <= part_rows and columns <= part_columns else _AREA_LINEAR
    down, down_taps, down_low, down_high = _reach(y, part_rows, rows, method)
    across, across_taps, across_low, across_high = _reach(x, part_columns, columns, method)
    plane = fit[1] * fit[2]
    corner = fit[0] + (fit[3] + down) * fit[2] + fit[4] + across
    red = green = blue = _HALF
    for i in range(across_taps):
        share = _share(i, across, across_low, across_high, part_columns / columns, method)
        if share > _ZERO:
            r = g = b = _ZERO
            for k in range(down_taps):
                part = _share(k, down, down_low, down_high, part_rows / rows, method)
                if part > _ZERO:
                    at = corner + k * fit[2] + i
                    r += part * np.float32(pixels[at])
                    g += part * np.float32(pixels[at + plane])
                    b += part * np.float32(pixels[at + 2 * plane])
            red += share * r
            green += share * g
            blue += share * b
    row = fit[11]
    out[row, view_y, view_x, 0] = np.uint8(np.int32(red))
    out[row, view_y, view_x, 1] = np.uint8(np.int32(green))
    out[row, view_y, view_x, 2] = np.uint8(np.int32(blue))


@cuda.jit(device=True)
def _reach(i, source, target, method):
    """What an output pixel mixes along one axis: the first sample, how many, and for `_share`
    where the pixel begins and ends, or the lower of two samples and the upper one's share."""
    scale = source / target
    if method == _AREA:
        taps = min(-(-source // target) + 1, source)
        low = i * scale
        return min(int(low), source - taps), taps, low, (i + 1) * scale
    taps = min(2, source)
    if method == _LINEAR:
        position = min(max((i + 0.5) * scale - 0.5, 0.0), source - 1.0)
        lower = int(position)
        upper_share = position - lower
    else:
        lower = int(i * scale)
        upper_share = max(i + 1 - (lower + 1) / scale, 0.0)
        upper_share = upper_share - int(upper_share) if lower < source - 1 else 0.0
    first = min(lower, source - taps)
    return first, taps, float(lower - first), upper_share


@cuda.jit(device=True)
def _share(k, first, low, high, scale, method):
    """The share of the k-th sample; see `kernels.resizing._taps`."""
    if method == _AREA:
        covered = min(first + k + 1.0, high) - max(first + k * 1.0, low)
        return np.float32(max(covered, 0.0) / scale)
    if k == int(low):
        return np.float32(1.0 - high)
    return np.float32(high if k == int(low) + 1 else 0.0)


@cuda.jit
def _small_ranges(pixels, parts, limit, out):
    ends = cuda.shared.array((2, LARGEST_BLOCK), numba.float32)
    part = parts[cuda.blockIdx.x]
    low, high = _range(pixels, part, SOME_ROWS, ends)
    if high - low < limit:
        low, high = _range(pixels, part, 1, ends)
    if cuda.threadIdx.x == 0:
        out[cuda.blockIdx.x] = 1 if high - low < limit else 0


@cuda.jit(device=True)
def _range(pixels, part, step, ends):
    """The smallest and the largest value of every so many rows of a part."""
    start, height, width, top, left = part[0], part[1], part[2], part[3], part[4]
    lines, columns = (part[5] - top + step - 1) // step, part[6] - left
    low, high = _TOP_LEVEL, _ZERO
    for p in range(cuda.threadIdx.x, 3 * lines * columns, cuda.blockDim.x):
        line, x = p // columns, p % columns
        y = line // lines * height + top + line % lines * step
        value = np.float32(pixels[start + y * width + left + x])
        low, high = min(low, value), max(high, value)
    return extremes(low, high, ends)
