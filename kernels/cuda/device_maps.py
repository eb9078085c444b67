"""From activations and channel weights to raw maps, and on; see `kernels.weighting`.

A block of the sums is ROWS warps over LANES positions of one map: each warp adds up every
ROWS-th channel, and the first adds the others' sums. Reading is what takes the time, and
neighbouring threads read neighbouring positions.

Python's `max` drops NaN on a GPU, where it keeps it on a CPU: hence the comparisons.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import cuda

from shardcam.kernels.cuda.device_arrays import queue, require, require_out
from shardcam.kernels.weighting import _FLOORS, ALL_ZERO, CONSTANT, NON_FINITE

LARGEST_BLOCK = 512  # threads: each may then take 128 of an SM's 65,536 registers
LANES, ROWS = 32, LARGEST_BLOCK // 32
THREADS = 256  # of a block that makes one map

_ZERO = np.float32(0)
_MAX = np.finfo(np.float32).max
_INF = np.float32(np.inf)


def weighted_sum(activation: Any, weight: Any, out: Any, stream: int = 0) -> None:
    """(N,C,h,w) . (N,K,C) -> (N,K,h,w), float32, C order; see `kernels.weighted_sum`."""
    n, c, h, w = require("activation", activation, np.float32, "N", "C", "h", "w")
    _, k, _ = require("weight", weight, np.float32, n, "K", c)
    require_out("out", out, np.float32, n, k, h, w)
    if n:
        _weighted_sum[(_tiles(h, w), k, n), (LANES, ROWS), queue(stream)](activation, weight, out)


def product_sum(activation: Any, factor: Any, relu: str, out: Any, stream: int = 0) -> None:
    """(N,C,h,w) * (N,C,h,w) -> (N,h,w), float32, C order; see `kernels.product_sum`."""
    n, c, h, w = require("activation", activation, np.float32, "N", "C", "h", "w")
    require("factor", factor, np.float32, n, c, h, w)
    if relu not in _FLOORS:
        raise ValueError(f"relu: expected one of {', '.join(_FLOORS)}, got {relu!r}")
    require_out("out", out, np.float32, n, h, w)
    if n:
        grid = _tiles(h, w), 1, n
        _product_sum[grid, (LANES, ROWS), queue(stream)](activation, factor, *_FLOORS[relu], out)


def scale_maps(raw: Any, unit: Any, scale: Any, flags: Any, stream: int = 0) -> None:
    """(N,K,h,w) -> (N,K,h,w), (N,K), (N,K), float32 and uint8, C order.

    `unit`, `scale` and `flags` are written; see `kernels.scale_maps`.
    """
    n, k, h, w = require("raw", raw, np.float32, "N", "K", "h", "w")
    require_out("unit", unit, np.float32, n, k, h, w)
    require_out("scale", scale, np.float32, n, k)
    require_out("flags", flags, np.uint8, n, k)
    if n:
        _scale_maps[(k, n), THREADS, queue(stream)](raw, unit, scale, flags)


def _tiles(height: int, width: int) -> int:
    return -(-height * width // LANES)


@cuda.jit
def _weighted_sum(activation, weight, out):
    channels, height, width = activation.shape[1], activation.shape[2], activation.shape[3]
    k, n = cuda.blockIdx.y, cuda.blockIdx.z
    p = cuda.blockIdx.x * LANES + cuda.threadIdx.x
    y, x = p // width, p % width
    total = _ZERO
    if p < height * width:
        for c in range(cuda.threadIdx.y, channels, ROWS):
            total += weight[n, k, c] * activation[n, c, y, x]
    total = _over_rows(total)
    if cuda.threadIdx.y == 0 and p < height * width:
        out[n, k, y, x] = total


@cuda.jit
def _product_sum(activation, factor, low_factor, low_product, out):
    channels, height, width = activation.shape[1], activation.shape[2], activation.shape[3]
    n = cuda.blockIdx.z
    p = cuda.blockIdx.x * LANES + cuda.threadIdx.x
    y, x = p // width, p % width
    total = _ZERO
    if p < height * width:
        for c in range(cuda.threadIdx.y, channels, ROWS):
            kept = factor[n, c, y, x]
            product = (low_factor if kept < low_factor else kept) * activation[n, c, y, x]
            total += low_product if product < low_product else product
    total = _over_rows(total)
    if cuda.threadIdx.y == 0 and p < height * width:
        out[n, y, x] = total


@cuda.jit(device=True)
def _over_rows(total):
    """The sum over the block's rows, in the threads of the first one."""
    totals = cuda.shared.array((ROWS, LANES), numba.float32)
    x, row = cuda.threadIdx.x, cuda.threadIdx.y
    totals[row, x] = total
    cuda.syncthreads()
    if row == 0:
        for other in range(1, ROWS):
            total += totals[other, x]
    return total


@cuda.jit
def _scale_maps(raw, unit, scale, flags):
    ends = cuda.shared.array((2, LARGEST_BLOCK), numba.float32)
    k, n = cuda.blockIdx.x, cuda.blockIdx.y
    height, width = raw.shape[2], raw.shape[3]
    low, high = _INF, -_INF
    for p in range(cuda.threadIdx.x, height * width, cuda.blockDim.x):
        value = raw[n, k, p // width, p % width]
        if abs(value) <= _MAX:
            low, high = min(low, value), max(high, value)
        else:
            low, high = -_INF, _INF
    low, high = extremes(low, high, ends)
    finite = high <= _MAX and low >= -_MAX
    peak = max(high, -low) if finite else _ZERO
    for p in range(cuda.threadIdx.x, height * width, cuda.blockDim.x):
        y, x = p // width, p % width
        unit[n, k, y, x] = raw[n, k, y, x] / peak if peak > _ZERO else _ZERO
    if cuda.threadIdx.x == 0:
        scale[n, k] = peak
        if finite:
            flags[n, k] = (ALL_ZERO if high <= _ZERO else 0) | (CONSTANT if high == low else 0)
        else:
            flags[n, k] = NON_FINITE


@cuda.jit(device=True)
def extremes(low, high, ends):
    """The lowest and the highest of all threads of the block, a power of two of them.

    `ends` is of the block, (2, LARGEST_BLOCK): a function that has shared memory of its own
    cannot be called in two ways from one kernel.
    """
    thread, half = cuda.threadIdx.x, cuda.blockDim.x // 2
    ends[0, thread], ends[1, thread] = low, high
    cuda.syncthreads()
    while half > 0:
        if thread < half:
            ends[0, thread] = min(ends[0, thread], ends[0, thread + half])
            ends[1, thread] = max(ends[1, thread], ends[1, thread + half])
        cuda.syncthreads()
        half //= 2
    low, high = ends[0, 0], ends[1, 0]
    cuda.syncthreads()  # before they are written again
    return low, high
