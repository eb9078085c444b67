"""Removed pixels filled in from those around them (Rong et al. 2022, ROAD)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shardcam.kernels._checks import F4, U1, require, require_out
from shardcam.kernels._jit import Kernel, inlined

_BESIDE, _DIAGONAL = np.float32(1 / 6), np.float32(1 / 12)  # a neighbour's weight
_ZERO = np.float32(0)
_OMEGA = np.float32(0.8)  # of damped Jacobi
# A correction that is constant over 2x2 cells is about half of what it should be.
_FACTOR = np.float32(1.8)
_COARSEST, _SWEEPS = 8, 10
_MOST = 200  # iterations; 6 are usual
_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def impute(picture: F4, removed: U1, tolerance: float, out: F4) -> F4:
    """(C,H,W), (H,W) -> (C,H,W), float32 and uint8, C order.

    Each removed pixel becomes the weighted mean of its neighbours, removed or not, all at once:
    1/6 for each of the four beside it and 1/12 for each of the four at its corners, over the sum
    of the weights of those that are in the picture. What the removed pixels were does not count.

    Parameters
    ----------
    picture : (C, H, W) float32
        In any unit.
    removed : (H, W) uint8
        Not 0 where a pixel is removed; not everywhere.
    tolerance : float
        How far off a value may be, about, in the unit of the picture.
    out : (C, H, W) float32
        Written, and returned.

    Raises
    ------
    TypeError, ValueError
        If an array has another dtype or shape or is not C-contiguous, no pixel is left, or
        `tolerance` is not positive.
    """
    c, h, w = require("picture", picture, np.float32, "C", "H", "W")
    require("removed", removed, np.uint8, h, w)
    if removed.all():
        raise ValueError("removed: expected at least one pixel that is not")
    if not tolerance > 0:
        raise ValueError(f"tolerance: expected a positive number, got {tolerance}")
    require_out("out", out, np.float32, c, h, w)
    _impute(picture, removed, np.float32(tolerance), out=(out,))
    return out


def add_noise(picture: F4, removed: U1, scale: F4, key: tuple[int, ...]) -> F4:
    """(C,H,W), (H,W), (C) -> (C,H,W), float32 and uint8, C order.

    Adds normal noise to the removed pixels. The noise of a pixel and channel depends on the key
    and on its place in the picture, and on nothing else: not on what is drawn before.

    The generator is SplitMix64: the key's numbers are mixed into a word one after the other, and
    the word that is number `i` of the sequence from there gives, by its two halves and the
    formula of Box and Muller, the noise of number `i` of the picture in C order.

    Parameters
    ----------
    picture : (C, H, W) float32
        Changed, and returned.
    removed : (H, W) uint8
        Not 0 where noise is added.
    scale : (C,) float32
        Standard deviation, in the unit of the picture.
    key : tuple of int
        Such as a seed, a sample and a step.

    Raises
    ------
    TypeError, ValueError
        If an array has another dtype or shape, or is not C-contiguous.
    """
    c, h, w = require("picture", picture, np.float32, "C", "H", "W")
    require("removed", removed, np.uint8, h, w)
    require("scale", scale, np.float32, c)
    state = 0
    for number in key:
        state = _mixed(state + number + _GOLDEN)
    word = np.array([state], np.uint64)
    flat = (c, h * w)
    _add_noise(removed.reshape(-1), scale, word, out=(picture.reshape(flat),))
    return picture


def _mixed(word: int) -> int:
    """SplitMix64's last steps."""
    limit = (1 << 64) - 1
    word = ((word & limit) ^ (word & limit) >> 30) * _FIRST & limit
    word = (word ^ word >> 27) * _SECOND & limit
    return word ^ word >> 31


@Kernel
def _add_noise(removed: U1, scale: F4, state: NDArray[np.uint64], picture: F4) -> None:
    channels, pixels = picture.shape
    for c in range(channels):
        for p in range(pixels):
            if removed[p]:
                word = state[0] + np.uint64(c * pixels + p + 1) * np.uint64(_GOLDEN)
                word = (word ^ (word >> np.uint64(30))) * np.uint64(_FIRST)
                word = (word ^ (word >> np.uint64(27))) * np.uint64(_SECOND)
                word = word ^ (word >> np.uint64(31))
                radius = (np.float64(word >> np.uint64(32)) + 1.0) / 4294967296.0
                turn = np.float64(word & np.uint64(0xFFFFFFFF)) / 4294967296.0
                normal = np.sqrt(-2.0 * np.log(radius)) * np.cos(2.0 * np.pi * turn)
                picture[c, p] += scale[c] * np.float32(normal)


# Conjugate gradients; each residual goes through one W-cycle of multigrid, which makes of it the
# error that is left, about. Six iterations do for any mask, where without it there are hundreds.
# All arrays have a border of one pixel, in which there are zeros.
#
# The system of a grid has, for each unknown of (h,w), six numbers: its diagonal, the couplings to
# the neighbours right, below, below right and below left, as positive numbers, and the inverse of
# the diagonal. Coarser grids have cells of 2x2, in which corrections are constant (aggregation).
@Kernel
def _impute(picture: F4, removed: U1, tolerance: np.float32, out: F4) -> None:
    channels, height, width = picture.shape
    systems = [_finest(removed)]
    while max(systems[-1].shape[1:]) - 2 > _COARSEST:
        systems.append(_coarser(systems[-1]))
    right, x, left = [
        [np.zeros((channels, s.shape[1], s.shape[2]), np.float32) for s in systems]
        for _ in range(3)
    ]

    start = np.zeros(right[0].shape, np.float32)
    for c in range(channels):
        total, count = 0.0, 0
        for i in range(height):
            for j in range(width):
                if not removed[i, j]:
                    total += picture[c, i, j]
                    count += 1
        mean = np.float32(total / count)
        for i in range(height):
            for j in range(width):
                start[c, i + 1, j + 1] = mean if removed[i, j] else picture[c, i, j]
    residual = right[0]
    for c in range(channels):
        for i in range(1, height + 1):
            for j in range(1, width + 1):
                if removed[i - 1, j - 1]:
                    around = _BESIDE * (
                        start[c, i, j - 1]
                        + start[c, i, j + 1]
                        + start[c, i - 1, j]
                        + start[c, i + 1, j]
                    ) + _DIAGONAL * (
                        start[c, i - 1, j - 1]
                        + start[c, i - 1, j + 1]
                        + start[c, i + 1, j - 1]
                        + start[c, i + 1, j + 1]
                    )
                    residual[c, i, j] = around - systems[0][0, i, j] * start[c, i, j]

    error = _cycle(systems, right, x, left)
    direction, none = error.copy(), np.zeros_like(error)
    product = left[0]
    slope = _dot(residual, error)
    for _ in range(_MOST):
        if np.abs(error).max() <= tolerance:
            break
        _remainder(systems[0], none, direction, product)  # minus the product
        curve = _dot(direction, product)
        for c in range(channels):
            step = np.float32(-slope[c] / curve[c]) if curve[c] < 0 else _ZERO
            for i in range(1, height + 1):
                for j in range(1, width + 1):
                    start[c, i, j] += step * direction[c, i, j]
                    residual[c, i, j] += step * product[c, i, j]
        error = _cycle(systems, right, x, left)
        last, slope = slope, _dot(residual, error)
        for c in range(channels):
            share = np.float32(slope[c] / last[c]) if last[c] > 0 else _ZERO
            for i in range(1, height + 1):
                for j in range(1, width + 1):
                    direction[c, i, j] = error[c, i, j] + share * direction[c, i, j]
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                out[c, i, j] = start[c, i + 1, j + 1] if removed[i, j] else picture[c, i, j]


@inlined
def _finest(removed: U1) -> F4:
    """The system of the pixels."""
    height, width = removed.shape
    system = np.zeros((6, height + 2, width + 2), np.float32)
    for i in range(height):
        for j in range(width):
            if removed[i, j]:
                for down in range(-1, 2):
                    for across in range(-1, 2):
                        y, x = i + down, j + across
                        if (down or across) and 0 <= y < height and 0 <= x < width:
                            weight = _DIAGONAL if down and across else _BESIDE
                            system[0, i + 1, j + 1] += weight
                            if removed[y, x] and (down > 0 or (down == 0 and across > 0)):
                                way = 1 if down == 0 else 3 + (across < 0) if across else 2
                                system[way, i + 1, j + 1] = weight
                system[5, i + 1, j + 1] = np.float32(1) / system[0, i + 1, j + 1]
    return system


@inlined
def _coarser(fine: F4) -> F4:
    """The system of the cells of 2x2: what two cells have in common adds up."""
    height, width = fine.shape[1] - 2, fine.shape[2] - 2
    system = np.zeros((6, (height + 1) // 2 + 2, (width + 1) // 2 + 2), np.float32)
    for i in range(1, height + 1):
        for j in range(1, width + 1):
            y, x = (i + 1) // 2, (j + 1) // 2
            system[0, y, x] += fine[0, i, j]
            for way in range(1, 5):
                coupling = fine[way, i, j]
                if coupling > 0:
                    across = 0 if way == 2 else -1 if way == 4 else 1
                    down = (i + (way > 1) + 1) // 2 - y
                    across = (j + across + 1) // 2 - x
                    if down == 0 and across == 0:
                        system[0, y, x] -= 2 * coupling
                    elif down == 0:
                        system[1, y, min(x, x + across)] += coupling
                    elif across == 0:
                        system[2, y, x] += coupling
                    else:
                        system[3 + (across < 0), y, x] += coupling
    for y in range(system.shape[1]):
        for x in range(system.shape[2]):
            if system[0, y, x] > 0:
                system[5, y, x] = np.float32(1) / system[0, y, x]
    return system


@inlined
def _cycle(systems: list[F4], right: list[F4], x: list[F4], left: list[F4]) -> F4:
    """One W-cycle: about the solution of the finest system for its right side."""
    last = len(systems) - 1
    visits = np.zeros(last + 1, np.int64)
    level = 0
    x[0][:] = _ZERO
    while True:
        while level < last:
            if visits[level]:
                _remainder(systems[level], right[level], x[level], left[level])
                _smooth(systems[level], left[level], x[level])
            else:
                _smooth(systems[level], right[level], x[level])
            _remainder(systems[level], right[level], x[level], left[level])
            _restrict(left[level], right[level + 1])
            level += 1
            x[level][:] = _ZERO
        for _ in range(_SWEEPS):
            _remainder(systems[level], right[level], x[level], left[level])
            _smooth(systems[level], left[level], x[level])
        while level > 0:
            visits[level] += 1
            if visits[level] == 1 and level < last:
                break
            visits[level] = 0
            _prolong(x[level], systems[level - 1], x[level - 1])
            level -= 1
            _remainder(systems[level], right[level], x[level], left[level])
            _smooth(systems[level], left[level], x[level])
        if level == 0:
            return x[0]


@inlined
def _remainder(system: F4, right: F4, x: F4, out: F4) -> None:
    """What is left of the right side."""
    channels, height, width = x.shape
    centre, beside, below = system[0], system[1], system[2]
    falling, rising = system[3], system[4]
    for c in range(channels):
        for i in range(1, height - 1):
            for j in range(1, width - 1):
                out[c, i, j] = (
                    right[c, i, j]
                    - centre[i, j] * x[c, i, j]
                    + beside[i, j] * x[c, i, j + 1]
                    + beside[i, j - 1] * x[c, i, j - 1]
                    + below[i, j] * x[c, i + 1, j]
                    + below[i - 1, j] * x[c, i - 1, j]
                    + falling[i, j] * x[c, i + 1, j + 1]
                    + falling[i - 1, j - 1] * x[c, i - 1, j - 1]
                    + rising[i, j] * x[c, i + 1, j - 1]
                    + rising[i - 1, j + 1] * x[c, i - 1, j + 1]
                )


@inlined
def _smooth(system: F4, left: F4, x: F4) -> None:
    channels, height, width = x.shape
    for c in range(channels):
        for i in range(1, height - 1):
            for j in range(1, width - 1):
                x[c, i, j] += _OMEGA * system[5, i, j] * left[c, i, j]


@inlined
def _restrict(fine: F4, coarse: F4) -> None:
    channels, height, width = fine.shape
    coarse[:] = _ZERO
    for c in range(channels):
        for i in range(1, height - 1):
            for j in range(1, width - 1):
                coarse[c, (i + 1) >> 1, (j + 1) >> 1] += fine[c, i, j]


@inlined
def _prolong(coarse: F4, system: F4, fine: F4) -> None:
    channels, height, width = fine.shape
    for c in range(channels):
        for i in range(1, height - 1):
            for j in range(1, width - 1):
                correction = _FACTOR * coarse[c, (i + 1) >> 1, (j + 1) >> 1]
                fine[c, i, j] += correction if system[0, i, j] > 0 else _ZERO


@inlined
def _dot(one: F4, other: F4) -> NDArray[np.float64]:
    """Of each channel; rows add up in double precision."""
    channels, height, width = one.shape
    products = np.zeros(channels, np.float64)
    for c in range(channels):
        for i in range(1, height - 1):
            row = _ZERO
            for j in range(1, width - 1):
                row += one[c, i, j] * other[c, i, j]
            products[c] += row
    return products
