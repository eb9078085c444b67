"""Gaussian filters in a few dimensions, as of colours and places, on the permutohedral lattice.

After Adams, Baek and Davis (2010): values are spread to the corners of the simplices that points
lie in, blurred along each direction of the lattice, and taken back. Time grows with the number
of points, not with how wide the filter is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shardcam.kernels._checks import F4, require
from shardcam.kernels._jit import Kernel, inlined

I2 = NDArray[np.int16]
I4 = NDArray[np.int32]
I8 = NDArray[np.int64]


class Permutohedral:
    """(N,d) points, float32, C order; `filter` is a Gaussian of standard deviation 1 about each.

    Parameters
    ----------
    points : (N, d) float32
        Finite, in standard deviations; within some 1000 of 0.

    Raises
    ------
    TypeError, ValueError
        If an argument has another dtype or number of axes, or is not C-contiguous.
    """

    def __init__(self, points: F4) -> None:
        count, axes = require("points", points, np.float32, "N", "d")
        corners = count * (axes + 1)
        self._corners = np.empty((count, axes + 1), np.int32)
        self._shares = np.empty((count, axes + 1), np.float32)
        keys = np.empty((corners + 1, axes), np.int16)  # of which only what is used takes memory
        table = np.zeros(1 << int(corners).bit_length(), np.int32)
        used = np.zeros(1, np.int64)
        _place(_raised(points), out=(self._corners, self._shares, keys, table, used))
        self._neighbours = np.empty((axes + 1, used[0] + 1, 2), np.int32)
        _join(keys[: used[0] + 1].copy(), table, out=(self._neighbours,))

    def filter(self, values: F4) -> F4:
        """(N,C) -> (N,C), float32, C order: weighted sums of the values of all points."""
        count = len(self._corners)
        _, channels = require("values", values, np.float32, count, "C")
        lattice = np.zeros((2, self._neighbours.shape[1], channels), np.float32)
        found = np.empty_like(values)
        _filter(values, self._corners, self._shares, self._neighbours, out=(lattice, found))
        return found


def _raised(points: F4) -> F4:
    """(N,d) -> (N,d+1) onto the plane of the lattice, where coordinates add up to 0.

    Stretched so that the blur along all directions has the standard deviation 1. Which corners a
    point at the border of two simplices has depends on the last bit of these numbers: NumPy rounds
    after every operation, as the C++ of others does, where a kernel may not.
    """
    count, axes = points.shape
    raised, above = np.empty((count, axes + 1), np.float32), np.zeros(count, np.float32)
    width = np.float32(np.sqrt(2 / 3) * (axes + 1))
    for k in range(axes, 0, -1):
        value = points[:, k - 1] * np.float32(width / np.sqrt(k * (k + 1)))
        raised[:, k] = above - np.float32(k) * value
        above += value
    raised[:, 0] = above
    return raised


@inlined
def _slot(key: I2, keys: I2, table: I4) -> np.int64:
    """Where the table has a key, or would have it: it holds numbers of keys from 1, or 0."""
    code = np.uint64(0)
    for k in range(key.size):
        code = (code + np.uint64(np.uint16(key[k]))) * np.uint64(0x9E3779B97F4A7C15)
        code ^= code >> np.uint64(29)
    mask = table.size - 1
    at = np.int64(code >> np.uint64(8)) & mask
    while table[at] > 0:
        same = True
        for k in range(key.size):
            same = same and keys[table[at], k] == key[k]
        if same:
            break
        at = (at + 1) & mask
    return at


@Kernel
def _place(
    points: F4, corners: I4, shares: F4, keys: I2, table: I4, used: NDArray[np.int64]
) -> None:
    sides = points.shape[1]
    axes, inverse = sides - 1, np.float32(1 / sides)
    nearest, rank = np.empty(sides, np.int64), np.empty(sides, np.int64)
    share, key = np.empty(sides + 1, np.float32), np.empty(axes, np.int16)
    for n in range(points.shape[0]):
        raised = points[n]
        excess = 0
        for k in range(sides):
            whole = int(np.rint(raised[k] * inverse))
            nearest[k] = whole * sides
            excess += whole
            rank[k] = 0
        for k in range(sides):
            for other in range(k + 1, sides):
                beside = raised[other] - np.float32(nearest[other])
                if raised[k] - np.float32(nearest[k]) < beside:
                    rank[k] += 1
                else:
                    rank[other] += 1
        share[:] = 0
        for k in range(sides):
            rank[k] += excess
            if rank[k] < 0:
                rank[k] += sides
                nearest[k] += sides
            elif rank[k] > axes:
                rank[k] -= sides
                nearest[k] -= sides
            part = (raised[k] - np.float32(nearest[k])) * inverse
            share[axes - rank[k]] += part
            share[sides - rank[k]] -= part
        share[0] += np.float32(1) + share[sides]
        for corner in range(sides):
            for k in range(axes):
                key[k] = nearest[k] + corner - (sides if rank[k] > axes - corner else 0)
            at = _slot(key, keys, table)
            if table[at] == 0:
                used[0] += 1
                table[at] = used[0]
                keys[used[0]] = key
            corners[n, corner] = table[at]
            shares[n, corner] = share[corner]


@Kernel
def _join(keys: I2, table: I4, neighbours: I4) -> None:
    """The two neighbours of each point of the lattice in each direction, 0 where there is none."""
    axes = keys.shape[1]
    key = np.empty(axes, np.int16)
    for side in range(axes + 1):
        neighbours[side, 0] = 0
        for n in range(1, keys.shape[0]):
            for way in range(2):
                step = 1 - 2 * way
                for k in range(axes):
                    key[k] = keys[n, k] - step
                if side < axes:
                    key[side] = keys[n, side] + step * axes
                neighbours[side, n, way] = table[_slot(key, keys, table)]


@Kernel
def _filter(values: F4, corners: I4, shares: F4, neighbours: I4, lattice: F4, found: F4) -> None:
    sides, channels = corners.shape[1], values.shape[1]
    for n in range(values.shape[0]):
        for side in range(sides):
            for c in range(channels):
                lattice[0, corners[n, side], c] += shares[n, side] * values[n, c]
    now = 0
    for side in range(sides):
        for n in range(1, neighbours.shape[1]):
            one, other = neighbours[side, n, 0], neighbours[side, n, 1]
            for c in range(channels):
                beside = lattice[now, one, c] + lattice[now, other, c]
                lattice[1 - now, n, c] = lattice[now, n, c] + np.float32(0.5) * beside
        now = 1 - now
    scale = np.float32(1 / (1 + 2.0 ** (1 - sides)))
    for n in range(values.shape[0]):
        for c in range(channels):
            found[n, c] = 0
        for side in range(sides):
            share = shares[n, side] * scale
            for c in range(channels):
                found[n, c] += share * lattice[now, corners[n, side], c]
