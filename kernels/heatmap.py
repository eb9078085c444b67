"""From a raw map to a heatmap of the image's size."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from kernels._checks import F4, U1, require
from kernels._jit import Kernel, inlined

_ZERO = np.float32(0)
_ONE = np.float32(1)
_TOP_LEVEL = np.float32(255)
_MAX = np.finfo(np.float32).max
_EPSILON = 1e-7

Taps = tuple[NDArray[np.intp], F4]


def normalize(maps: F4) -> F4:
    """(M,h,w) -> (M,h,w), float32, C order.

    ReLU, then each map to [0, 1]: `x = relu(raw); x -= min(x); x /= max(x) + 1e-7`, in
    pytorch-grad-cam's order (`scale_cam_image`). A constant map gives zeros, and so does a
    map with a NaN or an infinity in it.

    Parameters
    ----------
    maps : (M, h, w) float32
        Raw signed maps.

    Returns
    -------
    (M, h, w) float32
        Without unit.

    Raises
    ------
    TypeError, ValueError
        If `maps` has another dtype or number of axes, or is not C-contiguous.
    """
    require("maps", maps, np.float32, "M", "h", "w")
    out = np.empty_like(maps, subok=False)
    _normalize(maps, out=(out,))
    return out


def upsample(maps: F4, size: tuple[int, int]) -> F4:
    """(M,h,w) -> (M,H,W), float32, C order.

    Bilinear with half-pixel centres: output pixel `i` of `n` samples the input at
    `(i + 0.5) * h / n - 0.5`, clamped to the edges. This is OpenCV's INTER_LINEAR. Shrinking
    samples at the same points and, as in OpenCV, does not smooth first.

    Parameters
    ----------
    maps : (M, h, w) float32
        A NaN or an infinity spreads to the pixels around it.
    size : (H, W)
        In pixels.

    Returns
    -------
    (M, H, W) float32
        In the unit of `maps`.

    Raises
    ------
    TypeError, ValueError
        If `maps` has another dtype or number of axes or is not C-contiguous, or `size` is
        not positive.
    """
    count, h, w = require("maps", maps, np.float32, "M", "h", "w")
    down, across = taps(h, size[0]), taps(w, size[1])
    out = np.empty((count, *size), np.float32)
    _upsample(maps, down, across, out=(out,))
    return out


def heatmap_u8(maps: F4, size: tuple[int, int]) -> U1:
    """(M,h,w) -> (M,H,W), float32 to uint8, C order.

    `uint8(255 * normalize(upsample(normalize(maps), size)))`, truncated, in one pass over
    the output: pytorch-grad-cam's heatmap (`scale_cam_image` once before it enlarges a map,
    and once after).

    Parameters
    ----------
    maps : (M, h, w) float32
        Raw signed maps.
    size : (H, W)
        In pixels.

    Returns
    -------
    (M, H, W) uint8
        Levels 0 to 255.

    Raises
    ------
    TypeError, ValueError
        As `upsample`.
    """
    count, h, w = require("maps", maps, np.float32, "M", "h", "w")
    down, across = taps(h, size[0]), taps(w, size[1])
    out = np.empty((count, *size), np.uint8)
    _heatmap_u8(maps, down, across, out=(out,))
    return out


@functools.lru_cache(maxsize=64)
def taps(source: int, target: int) -> Taps:
    """(target,) intp and (target,) float32: what each output pixel mixes along one axis.

    The first is the lower of two neighbouring samples, the second the upper one's share.
    """
    if target < 1:
        raise ValueError(f"size: expected positive numbers, got {target}")
    position = (np.arange(target) + 0.5) * (source / target) - 0.5
    position = np.clip(position, 0, source - 1)
    lower = position.astype(np.intp)
    share = (position - lower).astype(np.float32)
    lower.flags.writeable = share.flags.writeable = False
    return lower, share


def heatmap_rows(raw: F4, size: tuple[int, int]) -> F4:
    """(h,w) -> (h,W), float32, C order: a heatmap of that size, not yet interpolated downwards."""
    h, w = raw.shape
    rows = np.empty((h, size[1]), np.float32)
    _heatmap_rows(raw, taps(h, size[0]), taps(w, size[1]), out=(rows,))
    return rows


@inlined
def _normalize_one(raw: F4, out: F4) -> None:
    height, width = raw.shape
    finite, low, high = True, _MAX, _ZERO
    for y in range(height):
        for x in range(width):
            value = raw[y, x]
            finite = finite and abs(value) <= _MAX
            low = min(low, max(value, _ZERO))
            high = max(high, value)
    divisor = np.float32(np.float64(high - low) + _EPSILON)
    for y in range(height):
        for x in range(width):
            out[y, x] = (max(raw[y, x], _ZERO) - low) / divisor if finite else _ZERO


@inlined
def _widen_one(source: F4, across: Taps, rows: F4) -> None:
    lower, share = across
    height, width = source.shape
    for y in range(height):
        for x in range(lower.size):
            left, right = source[y, lower[x]], source[y, min(lower[x] + 1, width - 1)]
            rows[y, x] = (_ONE - share[x]) * left + share[x] * right


@inlined
def _stretch(rows: F4, lower: NDArray[np.intp], share: F4) -> None:
    """Map the range of the interpolated values to [0, 1], before they are interpolated.

    Between two source rows the values change linearly, so that their extremes lie at the
    first or the last output row there: 2h rows are looked at, not all H.
    """
    width, last = rows.shape[1], lower.size - 1
    lows, highs = np.full(width, _MAX), np.full(width, -_MAX)  # one pair would not vectorise
    for y in range(lower.size):
        if y in (0, last) or lower[y] != lower[y - 1] or lower[y] != lower[y + 1]:
            top, bottom = rows[lower[y]], rows[min(lower[y] + 1, rows.shape[0] - 1)]
            for x in range(width):
                value = (_ONE - share[y]) * top[x] + share[y] * bottom[x]
                lows[x] = min(lows[x], value)
                highs[x] = max(highs[x], value)
    low, high = lows.min(), highs.max()
    divisor = np.float32(np.float64(high - low) + _EPSILON)
    for y in range(rows.shape[0]):
        for x in range(rows.shape[1]):
            rows[y, x] = (rows[y, x] - low) / divisor


@Kernel
def _normalize(maps: F4, out: F4) -> None:
    for m in range(maps.shape[0]):
        _normalize_one(maps[m], out[m])


@Kernel
def _heatmap_rows(raw: F4, down: Taps, across: Taps, rows: F4) -> None:
    unit = np.empty(raw.shape, np.float32)
    _normalize_one(raw, unit)
    _widen_one(unit, across, rows)
    _stretch(rows, *down)


# Across first, into a few short rows, then down: only the short rows gather, and the loop
# over the output reads two rows side by side, which LLVM vectorises.
@Kernel
def _upsample(maps: F4, down: Taps, across: Taps, out: F4) -> None:
    lower, share = down
    rows = np.empty((maps.shape[1], out.shape[2]), np.float32)
    for m in range(maps.shape[0]):
        _widen_one(maps[m], across, rows)
        for y in range(lower.size):
            top, bottom = rows[lower[y]], rows[min(lower[y] + 1, rows.shape[0] - 1)]
            for x in range(top.size):
                out[m, y, x] = (_ONE - share[y]) * top[x] + share[y] * bottom[x]


@Kernel
def _heatmap_u8(maps: F4, down: Taps, across: Taps, out: U1) -> None:
    lower, share = down
    unit = np.empty(maps.shape[1:], np.float32)
    rows = np.empty((maps.shape[1], out.shape[2]), np.float32)
    for m in range(maps.shape[0]):
        _normalize_one(maps[m], unit)
        _widen_one(unit, across, rows)
        _stretch(rows, lower, share)
        for y in range(lower.size):
            top, bottom = rows[lower[y]], rows[min(lower[y] + 1, rows.shape[0] - 1)]
            for x in range(top.size):
                value = (_ONE - share[y]) * top[x] + share[y] * bottom[x]
                out[m, y, x] = np.uint8(_TOP_LEVEL * value)
