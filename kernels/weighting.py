"""From activations and channel weights to raw maps, and from raw maps to maps worth storing."""

from __future__ import annotations

import numpy as np

from shardcam.kernels._checks import F4, U1, require
from shardcam.kernels._jit import Kernel

NON_FINITE = 1
"""Flag: the raw map holds a NaN or an infinity."""
ALL_ZERO = 2
"""Flag: nothing in the raw map is positive, so that ReLU leaves zeros only."""
CONSTANT = 4
"""Flag: the raw map has one value everywhere."""

_ZERO = np.float32(0)
_MAX = np.finfo(np.float32).max
_INF = np.float32(np.inf)
# Channels added in one pass over a map: eight at a time, it is read and written C/8 times.
_BLOCK = 8
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
        If an array has another dtype or shape or is not C-contiguous, or `relu` is not
        one of the three.
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


@Kernel
def _weighted_sum(activation: F4, weight: F4, out: F4) -> None:
    samples, channels, positions = activation.shape
    blocked = channels - channels % _BLOCK
    for n in range(np.uint64(samples)):
        for k in range(np.uint64(weight.shape[1])):
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
