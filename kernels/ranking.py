"""Which pixel of a map is the strongest, the second strongest, and so on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shardcam.kernels._checks import F4, require
from shardcam.kernels._jit import Kernel

U4 = NDArray[np.uint32]

_TIES = ("rising", "falling")
_DIGIT, _BINS = np.uint32(11), 1 << 11  # bits of a digit: three of them make a number
_SIGN, _ALL = np.uint32(1 << 31), np.uint32(0xFFFFFFFF)


def ranks(maps: F4, ties: str) -> U4:
    """(M,H,W) -> (M,H,W), float32 to uint32, C order.

    The rank of each pixel, 0 for the strongest.

    Parameters
    ----------
    maps : (M, H, W) float32
        Maps as large as the picture. 0 and -0 are equal; a NaN counts as larger than infinity.
    ties : {"rising", "falling"}
        Which of equal pixels comes first: in the order of rows and columns the first, as a
        stable sort has it (torchcam), or the last, as a stable sort turned round has it (RISE).

    Returns
    -------
    (M, H, W) uint32
        A permutation of 0 to H*W - 1 in each map.

    Raises
    ------
    TypeError, ValueError
        If `maps` has another dtype or number of axes or is not C-contiguous, or `ties` is
        neither of the two.
    """
    count, height, width = require("maps", maps, np.float32, "M", "H", "W")
    if ties not in _TIES:
        raise ValueError(f"ties: expected one of {', '.join(_TIES)}, got {ties!r}")
    out = np.empty((count, height, width), np.uint32)
    flat = (count, height * width)
    bits = maps.reshape(flat).view(np.uint32)
    _ranks(bits, int(ties == "falling"), out=(out.reshape(flat),))
    return out


# A radix sort: 0.5 ms for 224x224 pixels where `numpy.argsort` takes 3.
@Kernel
def _ranks(bits: U4, falling: int, out: U4) -> None:
    maps, pixels = bits.shape
    keys, sorted_keys = np.empty(pixels, np.uint32), np.empty(pixels, np.uint32)
    places, sorted_places = np.empty(pixels, np.uint32), np.empty(pixels, np.uint32)
    starts = np.empty(_BINS, np.int64)
    for m in range(maps):
        for i in range(pixels):
            place = pixels - 1 - i if falling else i
            word = bits[m, place]
            if word == _SIGN:  # -0
                word = np.uint32(0)
            # As numbers these words rise where the values fall.
            keys[i] = word if word & _SIGN else _ALL ^ (word | _SIGN)
            places[i] = place
        for digit in range(3):
            shift = np.uint32(digit) * _DIGIT
            starts[:] = 0
            for i in range(pixels):
                starts[(keys[i] >> shift) & np.uint32(_BINS - 1)] += 1
            total = 0
            for b in range(_BINS):
                here = starts[b]
                starts[b] = total
                total += here
            for i in range(pixels):
                b = (keys[i] >> shift) & np.uint32(_BINS - 1)
                sorted_keys[starts[b]] = keys[i]
                sorted_places[starts[b]] = places[i]
                starts[b] += 1
            keys, sorted_keys = sorted_keys, keys
            places, sorted_places = sorted_places, places
        for i in range(pixels):
            out[m, places[i]] = i
