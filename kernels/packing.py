"""How many bytes compressed data stands for: what formats without a checksum can be checked by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shardcam.kernels._checks import U1, require
from shardcam.kernels._jit import Kernel

_LONGEST, _CODES = np.uint64(12), np.uint64(4096)  # bits of a code, and how many there are


def lzw_length(data: U1, bits: int = 8, *, gif: bool = False) -> int:
    """(B) -> how many values of that many bits LZW codes stand for, uint8, C order.

    Parameters
    ----------
    data : (B,) uint8
        Codes up to the one that ends them, or to the end; what follows is not looked at.
    bits : int
        Of a value, 1 to 8.
    gif : bool
        Codes begin at the lowest bit of a byte, as in GIF, not at the highest, as in TIFF, whose
        codes also become longer one code earlier.

    Returns
    -------
    int
        -1 if a code appears that has no meaning yet.

    Raises
    ------
    TypeError, ValueError
        If the data have another dtype or shape, or are not C-contiguous.
    """
    require("data", data, np.uint8, "B")
    if not 1 <= bits <= 8:
        raise ValueError(f"bits: expected 1 to 8, got {bits}")
    length = np.empty(1, np.int64)
    data = np.append(data, np.zeros(2, np.uint8))
    _lzw_length(data, bits, gif, out=(length,))
    return int(length[0])


def packbits_length(data: U1) -> int:
    """(B) -> how many bytes PackBits data stand for, uint8, C order; -1 if they are cut off.

    Raises
    ------
    TypeError, ValueError
        If the data have another dtype or shape, or are not C-contiguous.
    """
    require("data", data, np.uint8, "B")
    length = np.empty(1, np.int64)
    _packbits_length(data, out=(length,))
    return int(length[0])


@Kernel
def _lzw_length(data: U1, bits: int, gif: bool, length: NDArray[np.int64]) -> None:
    # Indices are unsigned, for Numba asks of each signed one whether it counts from the end.
    clear = np.uint64(1 << bits)
    lengths = np.ones(4097, np.int32)
    length[0] = -1
    total = np.int64(0)
    at = np.uint64(0)  # in bits
    size = np.uint64(8 * (len(data) - 2))  # a code lies in three bytes
    one, two, seven, eight = np.uint64(1), np.uint64(2), np.uint64(7), np.uint64(8)
    early = np.uint64(not gif)
    width = np.uint64(bits + 1)
    limit = (one << width) - early
    known = clear + one  # the next code that gets a meaning; the first one behind clear gets none
    previous = np.int32(0)
    while at + width <= size:
        first = at >> np.uint64(3)
        a, b, c = np.uint64(data[first]), np.uint64(data[first + one]), np.uint64(data[first + two])
        if gif:
            held = (a | b << eight | c << np.uint64(16)) >> (at & seven)
        else:
            held = (a << np.uint64(16) | b << eight | c) >> (np.uint64(24) - (at & seven) - width)
        code = held & ((one << width) - one)
        at += width
        if code == clear:
            width = np.uint64(bits + 1)
            limit = (one << width) - early
            known = clear + one
            previous = np.int32(0)
            continue
        if code == clear + one:
            break
        if code > known:
            return
        lengths[known] = previous + 1
        known += one
        if known == limit:
            if width < _LONGEST:
                width += one
                limit = (one << width) - early if width < _LONGEST else _CODES + one
            else:
                known = _CODES  # no more get one
        previous = lengths[code]
        total += previous
    length[0] = total


@Kernel
def _packbits_length(data: U1, length: NDArray[np.int64]) -> None:
    total = 0
    at = 0
    while at < len(data):
        head = int(data[at])
        if head < 128:
            at += head + 2
            total += head + 1
        else:
            at += 1 + (head > 128)
            total += 257 - head if head > 128 else 0
    length[0] = total if at == len(data) else -1
