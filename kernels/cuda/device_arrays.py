"""Arrays in a GPU's memory, whoever allocated them, and the streams that kernels run on."""

from __future__ import annotations

import functools
import math
import warnings
from contextlib import suppress
from importlib import import_module
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import DTypeLike

from shardcam.kernels._checks import require_shape

if not hasattr(np, "row_stack"):  # gone in NumPy 2.5; numba-cuda 0.30 asks for it once
    np.row_stack = np.vstack
    with suppress(ImportError):  # the numba.cuda of Numba itself needs no help
        import_module("numba.cuda.np.arrayobj")
    del np.row_stack
# A batch has few maps, and the device other work beside them.
warnings.filterwarnings("ignore", ".*Grid size .* low occupancy")


def require(name: str, array: Any, dtype: DTypeLike, *axes: int | str) -> tuple[int, ...]:
    """As `kernels._checks.require`, for an array in a GPU's memory."""
    try:
        interface = array.__cuda_array_interface__
    except AttributeError:
        kind = type(array).__name__
        raise TypeError(f"{name}: expected an array on the GPU, got {kind}") from None
    found = np.dtype(interface["typestr"])
    if found != dtype:
        raise TypeError(f"{name}: expected dtype {np.dtype(dtype)}, got {found}")
    shape = tuple(interface["shape"])
    require_shape(name, shape, axes)
    strides = interface.get("strides")
    contiguous = strides is None or tuple(strides) == _strides(shape, found.itemsize)
    if not contiguous or interface["data"][0] % found.itemsize:
        raise ValueError(f"{name}: expected a C-contiguous, aligned array; copy it first")
    return shape


def require_out(name: str, array: Any, dtype: DTypeLike, *axes: int | str) -> tuple[int, ...]:
    """As `kernels._checks.require_out`, for an array in a GPU's memory; its shape."""
    shape = require(name, array, dtype, *axes)
    if array.__cuda_array_interface__["data"][1]:
        raise ValueError(f"{name}: expected a writable array")
    return shape


def _strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    return tuple(itemsize * math.prod(shape[i + 1 :]) for i in range(len(shape)))


@functools.lru_cache(maxsize=64)
def queue(stream: int) -> Any:
    """What a kernel is launched on, by a stream's number; 0 is the default one."""
    return cuda.external_stream(stream) if stream else 0
