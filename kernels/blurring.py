"""Pictures without their details."""

from __future__ import annotations

import functools

import numpy as np

from shardcam.kernels._checks import F4, require
from shardcam.kernels._jit import Kernel

_ZERO = np.float32(0)


def blur(pictures: F4, size: int, sigma: float) -> F4:
    """(N,C,H,W) -> (N,C,H,W), float32, C order.

    Each channel is convolved with `blur_taps` along both axes; beyond the edge are zeros.

    Parameters
    ----------
    pictures : (N, C, H, W) float32
        In any unit.
    size : int
        Pixels of the window along each axis; odd.
    sigma : float
        Of the Gaussian, in pixels.

    Returns
    -------
    (N, C, H, W) float32
        In the same unit.

    Raises
    ------
    TypeError, ValueError
        If `pictures` has another dtype or number of axes, or is not C-contiguous.
    """
    n, c, h, w = require("pictures", pictures, np.float32, "N", "C", "H", "W")
    out = np.empty((n, c, h, w), np.float32)
    planes = (n * c, h, w)
    _blur(pictures.reshape(planes), blur_taps(size, sigma), out=(out.reshape(planes),))
    return out


@functools.lru_cache(maxsize=8)
def blur_taps(size: int, sigma: float) -> F4:
    """(size,) weights along one axis, as RISE has them.

    What is left of a one in the middle of `size` zeros when a Gaussian, cut off at four sigmas,
    is run over it and the zeros are mirrored at both ends (scipy's `gaussian_filter`): the
    weights add up to one and, with a wide Gaussian, are nearly equal.
    """
    reach = int(4 * sigma + 0.5)
    offsets = np.arange(-reach, reach + 1)
    gaussian = np.exp(-0.5 * (offsets / sigma) ** 2)
    gaussian /= gaussian.sum()
    folded = (size // 2 + offsets) % (2 * size)  # period of a mirrored row
    folded = np.minimum(folded, 2 * size - 1 - folded)
    taps = np.bincount(folded, gaussian, size).astype(np.float32)
    taps.flags.writeable = False
    return taps


@Kernel
def _blur(planes: F4, taps: F4, out: F4) -> None:
    _, height, width = planes.shape
    reach = len(taps) // 2
    padded = np.zeros(width + 2 * reach, np.float32)
    for n in range(len(planes)):
        for y in range(height):
            row = padded[reach : reach + width]
            row[:] = _ZERO
            for k in range(max(0, reach - y), min(len(taps), height + reach - y)):
                for x in range(width):
                    row[x] += taps[k] * planes[n, y + k - reach, x]
            out[n, y] = _ZERO
            for k in range(len(taps)):
                for x in range(width):
                    out[n, y, x] += taps[k] * padded[x + k]
