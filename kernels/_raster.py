"""The kernels behind `kernels.heatmap` and `kernels.overlay`: from a map to an image's pixels.

They share one file, because a kernel may only be compiled with functions of its own file
(`kernels._jit.inlined`). Pixels are indexed with unsigned numbers: a signed one might count
from the end, and the test for that keeps LLVM from vectorising.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from shardcam.kernels._checks import F4, U1
from shardcam.kernels._jit import Kernel, compiles_for, inlined

U8 = NDArray[np.uint64]
Taps = tuple[U8, F4, U8]

_ZERO = np.float32(0)
_ONE = np.float32(1)
_TOP_LEVEL = np.float32(255)
_MAX = np.finfo(np.float32).max
_EPSILON = 1e-7
_NOISE = np.float32(1e-6)  # eight times the last bit of 1
_A_BIT_MORE = np.float32(1 + 2**-22)
_declare: Any = cgutils.get_or_insert_function
_FIRST, _STEP = np.uint64(0), np.uint64(64)


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


def _paint_64(
    _: Any,
    rows: Any,
    top: Any,
    bottom: Any,
    share: Any,
    x: Any,
    palette: Any,
    image: Any,
    y: Any,
    halve: Any,
    out: Any,
    line: Any,
) -> Any:
    """Numba intrinsic: what `_paint_row` says, for the 64 pixels from `x` on.

    A table of 256 bytes fits into four vector registers, and AVX-512 VBMI looks up 64 bytes
    at once in two of them. An overlay of 224x224 takes 11 us so, of which the call takes 4 us,
    and 51 us with one look-up after the other.
    """
    octets, quads = ir.VectorType(ir.IntType(8), 64), ir.VectorType(ir.IntType(32), 16)
    floats = ir.VectorType(ir.FloatType(), 16)
    int32, u8 = ir.IntType(32), types.uint64
    zeros = ir.Constant(octets, [0] * 64)
    places = (u8, u8, types.float32, u8, palette, image, u8, types.boolean, out, u8)
    signature = types.void(rows, *places)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _, top, bottom, share, x, _, _, y, halve, _, line = values

        def number(value: int) -> Any:
            return ir.Constant(x.type, value)

        def place(argument: int, line: Any, column: Any, kind: Any) -> Any:
            array = context.make_array(signature.args[argument])(context, builder, values[argument])
            offset = builder.add(builder.mul(line, builder.extract_value(array.shape, 1)), column)
            return builder.bitcast(builder.gep(array.data, [offset]), ir.PointerType(kind))

        def pick(pair: Any, places: list[int]) -> Any:
            mask = ir.Constant(ir.VectorType(int32, len(places)), places)
            return builder.shuffle_vector(*pair, mask)

        # Levels: four times 16 numbers, of each of which the lowest byte is kept.
        one = builder.insert_element(ir.Constant(floats, ir.Undefined), share, int32(0))
        shares = pick((one, one), [0] * 16)
        rests = builder.fsub(ir.Constant(floats, [1.0] * 16), shares)
        quarters = []
        for i in range(0, 64, 16):
            column = builder.add(x, number(i))
            above = builder.load(place(0, top, column, floats), align=4)
            below = builder.load(place(0, bottom, column, floats), align=4)
            above, below = builder.fmul(rests, above), builder.fmul(shares, below)
            value = builder.fadd(above, below, flags=("contract",))
            quarters.append(builder.bitcast(builder.fptosi(value, quads), octets))
        low = [*range(0, 128, 4)] * 2
        halves = pick(quarters[:2], low), pick(quarters[2:], low)
        levels = pick(halves, [*range(32), *range(64, 96)])

        # Colours: in both halves of the table by the low 7 bits, then one of them by the eighth.
        kind = ir.FunctionType(octets, [octets] * 3)
        name = "llvm.x86.avx512.vpermi2var.qi.512"
        look_up = _declare(builder.module, kind, name)
        upper = builder.icmp_signed("<", levels, zeros)
        colours = []
        for c in range(3):
            a, b, c, d = (
                builder.load(place(5, number(c), number(i), octets), align=1)
                for i in range(0, 256, 64)
            )
            found = builder.call(look_up, [c, levels, d]), builder.call(look_up, [a, levels, b])
            colours.append(builder.select(upper, *found))

        # RGBRGB...: red and green to their places, then blue. Then the floor of the mean of two
        # bytes: what they share, and half of where they differ. Only the bytes of the row.
        array = context.make_array(signature.args[6])(context, builder, values[6])
        start = builder.mul(x, number(3))
        left = builder.sub(builder.extract_value(array.shape, 1), start)
        for part in range(0, 192, 64):
            places = [divmod(part + i, 3) for i in range(64)]
            two = pick(colours[:2], [x + 64 * (c == 1) for x, c in places])
            order = [64 + x if c == 2 else i for i, (x, c) in enumerate(places)]
            heat = pick((two, colours[2]), order)

            count = builder.sub(left, number(part))
            bits = builder.sub(builder.shl(number(1), count), number(1))
            bits = builder.select(builder.icmp_signed("<", count, number(64)), bits, number(-1))
            bits = builder.select(builder.icmp_signed(">", count, number(0)), bits, number(0))
            mask = builder.bitcast(bits, ir.VectorType(ir.IntType(1), 64))
            column = builder.add(start, number(part))
            source, target = place(6, y, column, octets), place(9, line, column, octets)
            kind = ir.FunctionType(octets, [source.type, int32, mask.type, octets])
            load = _declare(builder.module, kind, "llvm.masked.load.v64i8.p0")
            pixels = builder.call(load, [source, int32(1), mask, zeros])
            pixels = builder.select(halve, pixels, heat)
            half = builder.lshr(builder.xor(heat, pixels), ir.Constant(octets, [1] * 64))
            mean = builder.add(builder.and_(heat, pixels), half)
            kind = ir.FunctionType(ir.VoidType(), [octets, target.type, int32, mask.type])
            store = _declare(builder.module, kind, "llvm.masked.store.v64i8.p0")
            builder.call(store, [mean, target, int32(1), mask])
        return context.get_dummy_value()

    return signature, generate


_paint_64_pixels: Any = intrinsic(_paint_64)
_BYTE_LOOKUP = compiles_for("avx512vbmi")


@inlined
def _paint_row(
    rows: F4,
    top: np.uint64,
    bottom: np.uint64,
    share: np.float32,
    palette: U1,
    image: U1,
    y: int,
    halve: bool,
    out: U1,
    line: int | np.uint64,
) -> None:
    """One row's colours into `out[line]`, or the means of them and `image[y]`, rounded down.

    `rows` may be read up to the next multiple of 64, 64 pixels at once where that can be.
    """
    if _BYTE_LOOKUP:
        for x in range(_FIRST, np.uint64(image.shape[1] // 3), _STEP):
            _paint_64_pixels(rows, top, bottom, share, x, palette, image, y, halve, out, line)
    else:
        for x in range(image.shape[1] // 3):
            value = (_ONE - share) * rows[top, x] + share * rows[bottom, x]
            level = np.uint8(np.int32(value))
            for c in range(3):
                one = palette[c, level]
                other = image[y, 3 * x + c] if halve else one
                out[line, 3 * x + c] = (one & other) + ((one ^ other) >> np.uint8(1))


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
    rows = np.zeros((raw.shape[0], (across[0].size + 63) // 64 * 64), np.float32)
    _widen_one(unit, across, rows)
    palette = np.empty((3, 256), np.uint8)
    for i in range(np.uint64(256)):
        for c in range(np.uint64(3)):
            palette[c, i] = table[i, c]
    if alpha == 0.5 and not peak_normalize and _BYTE_LOOKUP:
        for y in range(np.uint64(lower.size)):
            top, bottom = lower[y], min(lower[y] + np.uint64(1), last)
            _paint_row(rows, top, bottom, share[y], palette, image, y, True, out, y)
        return

    mix, rest = np.float32(alpha), _ONE - np.float32(alpha)
    heat = np.empty((1, size), np.uint8)
    factor = _ONE
    if peak_normalize:
        peaks = np.zeros(size, np.float32)  # one for each column: a single one is not vectorised
        sums = np.zeros(size, np.uint16)
        for y in range(np.uint64(lower.size)):
            top, bottom = lower[y], min(lower[y] + np.uint64(1), last)
            _paint_row(rows, top, bottom, share[y], palette, image, y, False, out, y)
            if alpha == 0.5:
                for i in range(size):
                    total = np.uint16(np.uint16(out[y, i]) + np.uint16(image[y, i]))
                    sums[i] = max(sums[i], total)
            else:
                for i in range(size):
                    value = mix * np.float32(out[y, i]) + rest * np.float32(image[y, i])
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
                heat[0, i] = out[y, i]
        else:
            _paint_row(rows, top, bottom, share[y], palette, image, y, False, heat, _FIRST)
        if alpha == 0.5:
            for i in range(size):
                total = np.uint16(np.uint16(heat[0, i]) + np.uint16(image[y, i]))
                out[y, i] = np.uint8(np.int32(factor * mix * np.float32(total)))
        else:
            for i in range(size):
                value = mix * np.float32(heat[0, i]) + rest * np.float32(image[y, i])
                out[y, i] = np.uint8(np.int32(factor * value))
