"""How alike two maps of one size are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shardcam.kernels._checks import F4, require
from shardcam.kernels._jit import Kernel, inlined

F8 = NDArray[np.float64]

TOP = 0.2  # share of the pixels that count as the highest
WINDOW = 11  # pixels of a side of SSIM's window: a smaller map has none
_RADIUS, _SIGMA = 5, 1.5
_C1, _C2 = 0.01**2, 0.03**2  # of a range of 1
_SAMPLE = WINDOW**2 / (WINDOW**2 - 1)  # from the variance of a window to that of a sample


def similarity(first: F4, second: F4) -> F8:
    """(M,h,w), (M,h,w) -> (M,4), float32 to float64, C order.

    Pearson's correlation; Spearman's, ties sharing the mean of their ranks; Spearman's of the
    absolute values; intersection over union of the highest 20 % of the pixels, rounded up, with
    all that equal the lowest of them.

    Parameters
    ----------
    first, second : (M, h, w) float32
        Pairs of maps.

    Returns
    -------
    (M, 4) float64
        NaN for a pair of which a map is constant or not finite, and the third number where
        absolute values are all the same.

    Raises
    ------
    TypeError, ValueError
        If an argument has another dtype or shape, or is not C-contiguous.
    """
    count, h, w = require("first", first, np.float32, "M", "h", "w")
    require("second", second, np.float32, count, h, w)
    out = np.empty((count, 4))
    _similarity(first.reshape(count, h * w), second.reshape(count, h * w), out=(out,))
    return out


def ssim(first: F4, second: F4) -> F8:
    """(M,h,w), (M,h,w) -> (M,), float32 to float64, C order.

    Structural similarity of the maps, each moved to [0, 1]: scikit-image's
    `structural_similarity(..., gaussian_weights=True, data_range=1)`, windows of 11 pixels with
    sigma 1.5 and the sample covariance, over windows that lie inside the map.

    Parameters
    ----------
    first, second : (M, h, w) float32
        Pairs of maps.

    Returns
    -------
    (M,) float64
        NaN for a pair of which a map is constant or not finite, or if a side is below 11.

    Raises
    ------
    TypeError, ValueError
        As `similarity`.
    """
    count, h, w = require("first", first, np.float32, "M", "h", "w")
    require("second", second, np.float32, count, h, w)
    out = np.full(count, np.nan)
    if min(h, w) >= WINDOW:
        _ssim(first, second, _WEIGHTS, out=(out,))
    return out


def _weights() -> F8:
    offsets = np.arange(-_RADIUS, _RADIUS + 1)
    weights = np.exp(-0.5 * (offsets / _SIGMA) ** 2)
    shares: F8 = weights / weights.sum()
    return shares


_WEIGHTS = _weights()


@inlined
def _ranks(values: F8, order: NDArray[np.int64], ranks: F8) -> None:
    """From 1; equal values share the mean of theirs."""
    start = 0
    while start < len(values):
        stop = start + 1
        while stop < len(values) and values[order[stop]] == values[order[start]]:
            stop += 1
        for i in range(start, stop):
            ranks[order[i]] = 0.5 * (start + 1 + stop)
        start = stop


@inlined
def _correlation(x: F8, y: F8) -> float:
    """Pearson's; NaN if one of them is constant."""
    mean_x = mean_y = 0.0
    for i in range(len(x)):
        mean_x += x[i]
        mean_y += y[i]
    mean_x /= len(x)
    mean_y /= len(y)
    xx = yy = xy = 0.0
    for i in range(len(x)):
        xx += (x[i] - mean_x) * (x[i] - mean_x)
        yy += (y[i] - mean_y) * (y[i] - mean_y)
        xy += (x[i] - mean_x) * (y[i] - mean_y)
    if xx == 0.0 or yy == 0.0:
        return np.nan
    correlation: float = xy / (np.sqrt(xx) * np.sqrt(yy))
    return min(max(correlation, -1.0), 1.0)


@inlined
def _usable(values: F8) -> bool:
    """Finite, and not all the same."""
    varied = False
    for i in range(len(values)):
        if not np.isfinite(values[i]):
            return False
        varied |= values[i] != values[0]
    return varied


@Kernel
def _similarity(first: F4, second: F4, out: F8) -> None:
    size = first.shape[1]
    kept = max(1, int(np.ceil(TOP * size - 1e-9)))
    x, y = np.empty(size), np.empty(size)
    rank_x, rank_y = np.empty(size), np.empty(size)
    for pair in range(len(first)):
        for i in range(size):
            x[i], y[i] = first[pair, i], second[pair, i]
        if not (_usable(x) and _usable(y)):
            out[pair] = np.nan
            continue
        order_x, order_y = np.argsort(x), np.argsort(y)
        _ranks(x, order_x, rank_x)
        _ranks(y, order_y, rank_y)
        least_x, least_y = x[order_x[size - kept]], y[order_y[size - kept]]
        both = either = 0
        for i in range(size):
            high_x, high_y = x[i] >= least_x, y[i] >= least_y
            both += high_x and high_y
            either += high_x or high_y
        out[pair, 0] = _correlation(x, y)
        out[pair, 1] = _correlation(rank_x, rank_y)
        out[pair, 3] = both / either
        for i in range(size):
            x[i], y[i] = abs(x[i]), abs(y[i])
        _ranks(x, np.argsort(x), rank_x)
        _ranks(y, np.argsort(y), rank_y)
        out[pair, 2] = _correlation(rank_x, rank_y)


@inlined
def _moved(values: F4, out: F8) -> bool:
    """To [0, 1]; False if that cannot be."""
    low, high = values[0, 0], values[0, 0]
    for y in range(values.shape[0]):
        for x in range(values.shape[1]):
            value = values[y, x]
            if not np.isfinite(value):
                return False
            low, high = min(low, value), max(high, value)
    if low == high:
        return False
    scale = 1.0 / (np.float64(high) - np.float64(low))
    for y in range(values.shape[0]):
        for x in range(values.shape[1]):
            out[y, x] = (np.float64(values[y, x]) - np.float64(low)) * scale
    return True


@Kernel
def _ssim(first: F4, second: F4, weights: F8, out: F8) -> None:
    count, h, w = first.shape
    inner = w - WINDOW + 1
    a, b = np.empty((h, w)), np.empty((h, w))
    across = np.empty((5, h, inner))  # sums over the rows of windows: a, b, aa, bb, ab
    sums = np.empty((5, inner))
    for pair in range(count):
        if not (_moved(first[pair], a) and _moved(second[pair], b)):
            out[pair] = np.nan
            continue
        across[:] = 0.0
        for y in range(h):
            for k in range(WINDOW):
                share = weights[k]
                for x in range(inner):
                    p, q = a[y, x + k], b[y, x + k]
                    across[0, y, x] += share * p
                    across[1, y, x] += share * q
                    across[2, y, x] += share * p * p
                    across[3, y, x] += share * q * q
                    across[4, y, x] += share * p * q
        total = 0.0
        for y in range(h - WINDOW + 1):
            sums[:] = 0.0
            for k in range(WINDOW):
                share = weights[k]
                for kind in range(5):
                    for x in range(inner):
                        sums[kind, x] += share * across[kind, y + k, x]
            for x in range(inner):
                p, q = sums[0, x], sums[1, x]
                pp = _SAMPLE * (sums[2, x] - p * p)
                qq = _SAMPLE * (sums[3, x] - q * q)
                pq = _SAMPLE * (sums[4, x] - p * q)
                above = (2 * p * q + _C1) * (2 * pq + _C2)
                total += above / ((p * p + q * q + _C1) * (pp + qq + _C2))
        out[pair] = total / ((h - WINDOW + 1) * inner)
