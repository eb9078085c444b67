"""From activations and channel weights to raw maps, and from raw maps to maps worth storing."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from shardcam.kernels._checks import F4, U1, require
from shardcam.kernels._jit import Kernel, compiles_for

NON_FINITE = 1
"""Flag: the raw map holds a NaN or an infinity."""
ALL_ZERO = 2
"""Flag: nothing in the raw map is positive, so that ReLU leaves zeros only."""
CONSTANT = 4
"""Flag: the raw map has one value everywhere."""

_ZERO = np.float32(0)
_MAX = np.finfo(np.float32).max
_INF = np.float32(np.inf)
_cgutils: Any = cgutils  # untyped
# Channels added in one pass over a map: eight at a time, it is read and written C/8 times.
_BLOCK = 8
# Positions from which on whole rows are read from memory faster than pieces of 64.
_MANY = 1024
# The least that a factor, and a product, counts as.
_FLOORS = {"none": (-_INF, -_INF), "factor": (_ZERO, -_INF), "product": (-_INF, _ZERO)}


def weighted_sum(activation: F4, weight: F4) -> F4:
    """(N,C,h,w) . (N,K,C) -> (N,K,h,w), float32, C order.

    The raw class activation map, signed, before ReLU: `out[n,k] = sum_c weight[n,k,c] *
    activation[n,c]` (Zhou et al. 2016, equation 2; Selvaraju et al. 2017, equation 2).
    A map does not depend on the other maps of the call, to the last bit.

    Parameters
    ----------
    activation : (N, C, h, w) float32
        The target layer's output.
    weight : (N, K, C) float32
        One weight for each channel, for each of K targets.

    Returns
    -------
    (N, K, h, w) float32
        In the unit of activation times weight.

    Raises
    ------
    TypeError, ValueError
        If an array has another dtype or shape, or is not C-contiguous.
    """
    n, c, h, w = require("activation", activation, np.float32, "N", "C", "h", "w")
    _, k, _ = require("weight", weight, np.float32, n, "K", c)
    out = np.empty((n, k, h, w), np.float32)
    _weighted_sum(activation.reshape(n, c, h * w), weight, out=(out.reshape(n, k, h * w),))
    return out


def product_sum(activation: F4, factor: F4, relu: str) -> F4:
    """(N,C,h,w) * (N,C,h,w) -> (N,h,w), float32, C order.

    A map whose weights differ from place to place, `sum_c factor[n,c] * activation[n,c]`, in
    one pass over both. A map does not depend on the other maps of the call, to the last bit.

    Parameters
    ----------
    activation : (N, C, h, w) float32
        The target layer's output.
    factor : (N, C, h, w) float32
        What each number of it is multiplied by: the class score's gradient.
    relu : {"none", "factor", "product"}
        What loses its negative part before the sum: nothing (HiResCAM; Draelos & Carin 2020),
        each factor (LayerCAM; Jiang et al. 2021) or each product (element-wise Grad-CAM, as
        in pytorch-grad-cam). A NaN stays one; minus infinity becomes 0 like any negative.

    Returns
    -------
    (N, h, w) float32
        In the unit of activation times factor.

    Raises
    ------
    TypeError, ValueError
        If an array has another dtype or shape or is not C-contiguous, or `relu` is none of
        the three.
    """
    n, c, h, w = require("activation", activation, np.float32, "N", "C", "h", "w")
    require("factor", factor, np.float32, n, c, h, w)
    if relu not in _FLOORS:
        raise ValueError(f"relu: expected one of {', '.join(_FLOORS)}, got {relu!r}")
    out = np.empty((n, h, w), np.float32)
    flat = (n, c, h * w)
    inputs = activation.reshape(flat), factor.reshape(flat), _FLOORS[relu]
    _product_sum(*inputs, out=(out.reshape(n, h * w),))
    return out


def scale_maps(raw: F4) -> tuple[F4, F4, U1]:
    """(N,K,h,w) -> (N,K,h,w), (N,K), (N,K), float32 and uint8, C order.

    Splits each raw map into a map in [-1, 1], which a half-precision number holds well
    whatever the network's own scale is, and that scale: `raw = unit * scale`.

    Parameters
    ----------
    raw : (N, K, h, w) float32
        Signed maps before ReLU.

    Returns
    -------
    unit : (N, K, h, w) float32
        `raw / scale`; zeros where the scale is 0.
    scale : (N, K) float32
        `max |raw|` of the map, in the unit of `raw`; 0 if the map is not finite.
    flags : (N, K) uint8
        The bits `ALL_ZERO` and `CONSTANT`, or `NON_FINITE` alone.

    Raises
    ------
    TypeError, ValueError
        If `raw` has another dtype or number of axes, or is not C-contiguous.
    """
    n, k, h, w = require("raw", raw, np.float32, "N", "K", "h", "w")
    unit = np.empty_like(raw, subok=False)
    scale = np.empty((n, k), np.float32)
    flags = np.empty((n, k), np.uint8)
    flat = (n * k, h * w)
    _scale_maps(raw.reshape(flat), out=(unit.reshape(flat), scale.reshape(-1), flags.reshape(-1)))
    return unit, scale, flags


def _add_64(_: Any, activation: Any, n: Any, weight: Any, k: Any, start: Any, out: Any) -> Any:
    """Numba intrinsic: `_weighted_sum`'s inner loops, for the 64 positions from `start` on.

    The sums stay in four vector registers: 32 x 1280 channels of 7x7 take 92 us, where reading
    them takes 77 us and BLAS 124 us. LLVM's own vectors, which go to memory and back every 8
    channels and leave the 49th position over, take 132 us.
    """
    u8 = types.uint64
    signature = types.void(activation, u8, weight, u8, u8, out)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        floats = ir.VectorType(ir.FloatType(), 16)
        bits, int32 = ir.VectorType(ir.IntType(1), 16), ir.IntType(32)
        zeros = ir.Constant(floats, [0.0] * 16)
        _, n, _, k, start, _ = values
        number = start.type
        arrays = [
            context.make_array(signature.args[i])(context, builder, values[i]) for i in (0, 2, 5)
        ]
        _, channels, positions = _cgutils.unpack_tuple(builder, arrays[0].shape)
        targets = builder.extract_value(arrays[1].shape, 1)
        map_index = builder.add(builder.mul(n, targets), k)
        source = builder.gep(arrays[0].data, [builder.mul(builder.mul(n, channels), positions)])
        factors = builder.gep(arrays[1].data, [builder.mul(map_index, channels)])
        target = builder.gep(arrays[2].data, [builder.mul(map_index, positions)])

        # Which of the 4 x 16 positions there are.
        places, masks = [], []
        for i in range(0, 64, 16):
            place = builder.add(start, number(i))
            left = builder.sub(positions, place)
            left = builder.select(builder.icmp_signed("<", left, number(16)), left, number(16))
            left = builder.select(builder.icmp_signed(">", left, number(0)), left, number(0))
            some = builder.sub(builder.shl(ir.IntType(32)(1), builder.trunc(left, int32)), int32(1))
            masks.append(builder.bitcast(builder.trunc(some, ir.IntType(16)), bits))
            places.append(place)

        vector = ir.PointerType(floats)
        load = _cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(floats, [vector, int32, bits, floats]),
            "llvm.masked.load.v16f32.p0",
        )
        store = _cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [floats, vector, int32, bits]),
            "llvm.masked.store.v16f32.p0",
        )
        sums = [_cgutils.alloca_once_value(builder, zeros) for _ in range(4)]
        with _cgutils.for_range(builder, channels) as loop:
            factor = builder.load(builder.gep(factors, [loop.index]))
            factor = builder.insert_element(ir.Constant(floats, ir.Undefined), factor, int32(0))
            same = ir.Constant(ir.VectorType(int32, 16), [0] * 16)
            factor = builder.shuffle_vector(factor, factor, same)
            row = builder.mul(loop.index, positions)
            for place, mask, total in zip(places, masks, sums, strict=True):
                pointer = builder.bitcast(builder.gep(source, [builder.add(row, place)]), vector)
                found = builder.call(load, [pointer, int32(4), mask, zeros])
                product = builder.fmul(factor, found, flags=("contract",))
                added = builder.fadd(builder.load(total), product, flags=("contract",))
                builder.store(added, total)
        for place, mask, total in zip(places, masks, sums, strict=True):
            pointer = builder.bitcast(builder.gep(target, [place]), vector)
            builder.call(store, [builder.load(total), pointer, int32(4), mask])
        return context.get_dummy_value()

    return signature, generate


_add_64_positions: Any = intrinsic(_add_64)
_MASKS = compiles_for("avx512f")


@Kernel
def _weighted_sum(activation: F4, weight: F4, out: F4) -> None:
    samples, channels, positions = activation.shape
    blocked = channels - channels % _BLOCK
    for n in range(np.uint64(samples)):
        for k in range(np.uint64(weight.shape[1])):
            if _MASKS and positions <= _MANY:
                for p in range(np.uint64(0), np.uint64(positions), np.uint64(64)):
                    _add_64_positions(activation, n, weight, k, p, out)
                continue
            for p in range(positions):
                out[n, k, p] = _ZERO
            for c in range(0, blocked, _BLOCK):
                block, factors = activation[n, c : c + _BLOCK], weight[n, k, c : c + _BLOCK]
                for p in range(positions):
                    total = _ZERO
                    for i in range(_BLOCK):
                        total += factors[i] * block[i, p]
                    out[n, k, p] += total
            for c in range(blocked, channels):
                for p in range(positions):
                    out[n, k, p] += weight[n, k, c] * activation[n, c, p]


# Limited by memory: 32 x 1280 channels of 7x7 take 240 us, and reading the two arrays 270 us
# (`numpy.max`). Two more comparisons for each number cost nothing beside that.
@Kernel
def _product_sum(activation: F4, factor: F4, floors: tuple[F4, F4], out: F4) -> None:
    samples, channels, positions = activation.shape
    low_factor, low_product = floors
    blocked = channels - channels % _BLOCK
    for n in range(samples):
        out[n] = _ZERO
        for c in range(0, blocked, _BLOCK):
            block, factors = activation[n, c : c + _BLOCK], factor[n, c : c + _BLOCK]
            for p in range(positions):
                total = _ZERO
                for i in range(_BLOCK):
                    total += max(max(factors[i, p], low_factor) * block[i, p], low_product)
                out[n, p] += total
        for c in range(blocked, channels):
            for p in range(positions):
                product = max(factor[n, c, p], low_factor) * activation[n, c, p]
                out[n, p] += max(product, low_product)


@Kernel
def _scale_maps(raw: F4, unit: F4, scale: F4, flags: U1) -> None:
    maps, positions = raw.shape
    for m in range(maps):
        finite, low, high = True, _INF, -_INF
        for p in range(positions):
            value = raw[m, p]
            finite = finite and abs(value) <= _MAX
            low = min(low, value)
            high = max(high, value)
        peak = max(high, -low) if finite else _ZERO
        for p in range(positions):
            unit[m, p] = raw[m, p] / peak if peak > 0 else _ZERO
        scale[m] = peak
        if finite:
            flags[m] = (ALL_ZERO if high <= 0 else 0) | (CONSTANT if high == low else 0)
        else:
            flags[m] = NON_FINITE
