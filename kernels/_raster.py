"""The kernels behind `kernels.heatmap` and `kernels.overlay`: from a map to an image's pixels.

They share one file, because a kernel may only be compiled with functions of its own file
(`kernels._jit.inlined`). Pixels are indexed with unsigned numbers: a signed one might count
from the end, and the test for that keeps LLVM from vectorising.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shardcam.kernels._checks import F4, U1
from shardcam.kernels._jit import Kernel, inlined

U4 = NDArray[np.uint32]
U8 = NDArray[np.uint64]
Taps = tuple[U8, F4, U8]

_ZERO = np.float32(0)
_ONE = np.float32(1)
_TOP_LEVEL = np.float32(255)
_MAX = np.finfo(np.float32).max
_EPSILON = 1e-7
_NOISE = np.float32(1e-6)  # eight times the last bit of 1
_A_BIT_MORE = np.float32(1 + 2**-22)
# Shifts: a colour is one word, red in its lowest byte, and x86 stores the lowest byte first.
_8, _16, _24 = np.uint32(8), np.uint32(16), np.uint32(24)


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
    # Run by run, so that only the shares are read from memory. One loop over all of a row
    # would gather its samples: 1.1 us where this takes 0.2 us, from 7x7 to 7x224.
    lower, share, _ = across
    height, width, last = source.shape[0], lower.size, np.uint64(source.shape[1] - 1)
    start = np.uint64(0)
    while start < width:
        left, stop = lower[start], start + np.uint64(1)
        while stop < width and lower[stop] == left:
            stop += np.uint64(1)
        right = min(left + np.uint64(1), last)
        for y in range(height):
            one, other = source[y, left], source[y, right]
            for x in range(start, stop):
                rows[y, x] = (_ONE - share[x]) * one + share[x] * other
        start = stop


@inlined
def _stretch(unit: F4, down: Taps, across: Taps) -> None:
    """Map the range of the interpolated values to 0-255, before they are interpolated.

    Between four source pixels the values change linearly along each axis, so that their
    extremes lie at the corners: 4hw numbers are looked at, not all HW.
    """
    lower, share, ends = down
    left, weight, sides = across
    height, width = np.uint64(unit.shape[0] - 1), np.uint64(unit.shape[1] - 1)
    low, high = _MAX, -_MAX
    for y in ends:
        top, bottom = lower[y], min(lower[y] + np.uint64(1), height)
        for x in sides:
            one, other = left[x], min(left[x] + np.uint64(1), width)
            above = (_ONE - weight[x]) * unit[top, one] + weight[x] * unit[top, other]
            below = (_ONE - weight[x]) * unit[bottom, one] + weight[x] * unit[bottom, other]
            value = (_ONE - share[y]) * above + share[y] * below
            low, high = min(low, value), max(high, value)
    divisor = np.float32(np.float64(high - low) + _EPSILON)
    if high - low <= _NOISE:  # a constant, but for rounding, which must not fill the range
        low, divisor = _ZERO, np.float32(np.inf)
    for y in range(unit.shape[0]):
        for x in range(unit.shape[1]):
            unit[y, x] = _TOP_LEVEL * ((unit[y, x] - low) / divisor)


@Kernel
def _normalize(maps: F4, out: F4) -> None:
    for m in range(maps.shape[0]):
        _normalize_one(maps[m], out[m])


# Across first, into a few short rows, then down: the loop over the output reads two rows side
# by side. Limited by writing: 32 maps of 224x224 take 100 us, as long as `numpy.ndarray.fill`.
@Kernel
def _upsample(maps: F4, down: Taps, across: Taps, out: F4) -> None:
    lower, share, _ = down
    last, width = np.uint64(maps.shape[1] - 1), np.uint64(out.shape[2])
    rows = np.empty((maps.shape[1], out.shape[2]), np.float32)
    for m in range(maps.shape[0]):
        _widen_one(maps[m], across, rows)
        for y in range(np.uint64(lower.size)):
            top, bottom = lower[y], min(lower[y] + np.uint64(1), last)
            for x in range(width):
                out[m, y, x] = (_ONE - share[y]) * rows[top, x] + share[y] * rows[bottom, x]


@Kernel
def _heatmap_u8(maps: F4, down: Taps, across: Taps, out: U1) -> None:
    lower, share, _ = down
    last, width = np.uint64(maps.shape[1] - 1), np.uint64(out.shape[2])
    unit = np.empty(maps.shape[1:], np.float32)
    rows = np.empty((maps.shape[1], out.shape[2]), np.float32)
    for m in range(maps.shape[0]):
        _normalize_one(maps[m], unit)
        _stretch(unit, down, across)
        _widen_one(unit, across, rows)
        for y in range(np.uint64(lower.size)):
            top, bottom = lower[y], min(lower[y] + np.uint64(1), last)
            for x in range(width):
                value = (_ONE - share[y]) * rows[top, x] + share[y] * rows[bottom, x]
                out[m, y, x] = np.uint8(np.int32(value))


@inlined
def _paint_row(
    rows: F4,
    top: np.uint64,
    bottom: np.uint64,
    share: np.float32,
    colours: U4,
    levels: U1,
    words: U4,
) -> None:
    """The colours of a row, R, G and B of each pixel in turn, into the bytes of `words`.

    (4q,) levels, (3q,) words. Words, not bytes, and indexed flat: an overlay of 224x224
    takes 31 us so, of which the call takes 4 us, and 55 us byte by byte.
    """
    for x in range(np.uint64(levels.size)):
        value = (_ONE - share) * rows[top, x] + share * rows[bottom, x]
        levels[x] = np.uint8(np.int32(value))
    for i in range(np.uint64(levels.size) // np.uint64(4)):
        x, w = np.uint64(4) * i, np.uint64(3) * i
        a, b = colours[levels[x]], colours[levels[x + np.uint64(1)]]
        c, d = colours[levels[x + np.uint64(2)]], colours[levels[x + np.uint64(3)]]
        words[w] = a | b << _24
        words[w + np.uint64(1)] = b >> _8 | c << _16
        words[w + np.uint64(2)] = c >> _16 | d << _8


@Kernel
def _overlay(
    raw: F4,
    down: Taps,
    across: Taps,
    image: U1,
    table: U1,
    alpha: float,
    peak_normalize: bool,
    out: U1,
) -> None:
    lower, share, _ = down
    last, size = np.uint64(raw.shape[0] - 1), np.uint64(image.shape[1])
    unit = np.empty(raw.shape, np.float32)
    _normalize_one(raw, unit)
    _stretch(unit, down, across)
    quads = (across[0].size + 3) // 4
    rows = np.zeros((raw.shape[0], 4 * quads), np.float32)
    _widen_one(unit, across, rows)
    colours = np.empty(256, np.uint32)
    for i in range(np.uint64(256)):
        red, green, blue = np.uint32(table[i, 0]), np.uint32(table[i, 1]), np.uint32(table[i, 2])
        colours[i] = red | green << _8 | blue << _16
    levels, words = np.empty(4 * quads, np.uint8), np.empty(3 * quads, np.uint32)
    heat = words.view(np.uint8)

    mix, rest = np.float32(alpha), _ONE - np.float32(alpha)
    factor = _ONE
    if peak_normalize:
        peaks = np.zeros(size, np.float32)  # one for each column: a single one is not vectorised
        sums = np.zeros(size, np.uint16)
        for y in range(np.uint64(lower.size)):
            top, bottom = lower[y], min(lower[y] + np.uint64(1), last)
            _paint_row(rows, top, bottom, share[y], colours, levels, words)
            for i in range(size):
                out[y, i] = heat[i]
            if alpha == 0.5:
                for i in range(size):
                    total = np.uint16(np.uint16(heat[i]) + np.uint16(image[y, i]))
                    sums[i] = max(sums[i], total)
            else:
                for i in range(size):
                    value = mix * np.float32(heat[i]) + rest * np.float32(image[y, i])
                    peaks[i] = max(peaks[i], value)
        peak = _ZERO
        for i in range(size):
            peak = max(peak, peaks[i], mix * np.float32(sums[i]))
        # The bit more than the quotient makes up for its rounding: the peak itself is 255.
        factor = _TOP_LEVEL / peak * _A_BIT_MORE if peak > 0 else _ONE
    for y in range(np.uint64(lower.size)):
        top, bottom = lower[y], min(lower[y] + np.uint64(1), last)
        if peak_normalize:
            for i in range(size):
                heat[i] = out[y, i]
        else:
            _paint_row(rows, top, bottom, share[y], colours, levels, words)
        if alpha == 0.5 and not peak_normalize:
            for i in range(size):  # the mean, rounded down: what two bytes share, and half the rest
                one, other = heat[i], image[y, i]
                out[y, i] = (one & other) + ((one ^ other) >> np.uint8(1))
        elif alpha == 0.5:
            for i in range(size):
                total = np.uint16(np.uint16(heat[i]) + np.uint16(image[y, i]))
                out[y, i] = np.uint8(np.int32(factor * mix * np.float32(total)))
        else:
            for i in range(size):
                value = mix * np.float32(heat[i]) + rest * np.float32(image[y, i])
                out[y, i] = np.uint8(np.int32(factor * value))
