"""Half precision: bit for bit what NumPy makes, of numbers of every size."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from shardcam.kernels import to_half


def test_equals_numpy() -> None:
    bits = np.arange(0, 2**32, 4093, np.uint64).astype(np.uint32)  # 2^20 of all 2^32
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
    ties = halves.view(np.uint32)[:, None] + np.array([0, 0xFFF, 0x1000, 0x1001], np.uint32)
    values = np.concatenate((bits, ties.ravel())).view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = values.astype(np.float16)
    found = to_half(values, out=np.empty(len(values), np.float16))
    empty = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(found), empty)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))
    np.testing.assert_array_equal(found[~empty].view(np.uint16), expected[~empty].view(np.uint16))


def test_takes_read_only_and_empty_arrays() -> None:
    values = np.ones(3, np.float32)
    values.flags.writeable = False
    assert to_half(values, out=np.empty(3, np.float16)).tolist() == [1, 1, 1]
    assert to_half(values[:0], out=np.empty(0, np.float16)).size == 0


@pytest.mark.parametrize(
    ("values", "out", "error", "name"),
    [
        (np.ones(3), np.empty(3, np.float16), TypeError, "values"),
        (np.ones((1, 3), np.float32), np.empty(3, np.float16), ValueError, "values"),
        (np.ones(6, np.float32)[::2], np.empty(3, np.float16), ValueError, "values"),
        (np.ones(3, np.float32), np.empty(3, np.float32), TypeError, "out"),
        (np.ones(3, np.float32), np.empty(4, np.float16), ValueError, "out"),
    ],
)
def test_refuses_and_names_the_argument(
    values: NDArray[np.float32], out: NDArray[np.float16], error: type[Exception], name: str
) -> None:
    with pytest.raises(error, match=f"^{name}: "):
        to_half(values, out=out)
