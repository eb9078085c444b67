"""The contract of the public kernels, checked before compiled code sees an address."""

from __future__ import annotations

import functools
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

F4: TypeAlias = NDArray[np.float32]
U1: TypeAlias = NDArray[np.uint8]

_BATCH_AXES = ("N", "M")
_NATIVE: dict[object, object] = {kind: np.dtype(kind) for kind in (np.float32, np.uint8)}


def require(name: str, array: NDArray[Any], dtype: DTypeLike, *axes: int | str) -> tuple[int, ...]:
    """Refuse an array that the kernel cannot take as it is, and return its shape.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    array : numpy.ndarray
        What the caller passed.
    dtype : numpy.dtype or scalar type
        The only one accepted.
    *axes : int or str
        One entry for each axis: an exact size, or a letter where any size will do.
        Only a batch axis, `N` or `M`, may be empty.

    Raises
    ------
    TypeError
        If it is not an array of that dtype. Nothing is cast.
    ValueError
        If its shape is wrong, or it is not C-contiguous and aligned. Nothing is copied.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: expected a numpy array, got {type(array).__name__}")
    # The first test is for speed: NumPy has one object for each of its native dtypes.
    if array.dtype is not _NATIVE.get(dtype) and array.dtype != dtype:
        raise TypeError(f"{name}: expected dtype {np.dtype(dtype)}, got {array.dtype}")
    shape = array.shape
    require_shape(name, shape, axes)
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned):
        raise ValueError(f"{name}: expected a C-contiguous, aligned array; copy it first")
    return shape


def require_out(name: str, array: NDArray[Any], dtype: DTypeLike, *axes: int | str) -> None:
    """Like `require`, for an array that the kernel writes.

    Raises
    ------
    TypeError, ValueError
        As `require`; ValueError also if the array is read-only.
    """
    require(name, array, dtype, *axes)
    if not array.flags.writeable:
        raise ValueError(f"{name}: expected a writable array")


def require_shape(name: str, shape: tuple[int, ...], axes: tuple[int | str, ...]) -> None:
    """Raise a ValueError unless the shape is of these axes; see `require`."""
    if not _fit(shape, axes):
        expected = ", ".join(map(str, axes))
        raise ValueError(f"{name}: expected shape ({expected}), got {shape}")


@functools.lru_cache(maxsize=1024)
def _fit(shape: tuple[int, ...], axes: tuple[int | str, ...]) -> bool:
    return len(shape) == len(axes) and all(map(_fits, shape, axes))


def _fits(size: int, axis: int | str) -> bool:
    return size == axis if isinstance(axis, int) else size > 0 or axis in _BATCH_AXES
