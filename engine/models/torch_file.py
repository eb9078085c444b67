"""PyTorch weight files of the form before version 1.6, read without PyTorch and without trust.

Such a file is four pickles (magic, version, system, the tensors), the list of
storage keys, then each storage's element count and raw bytes.  Pickle can call
anything it can name, so the unpickler here knows four names and no others: the
worst a hostile file can do is to be refused.
"""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.errors import ModelError

_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]
    count: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def _rebuild_tensor(
    storage: object, offset: object, shape: object, stride: object, *_: object
) -> _Tensor:
    if not isinstance(storage, _Storage) or not isinstance(offset, int):
        raise pickle.UnpicklingError("a tensor without a storage")
    if not isinstance(shape, tuple) or not isinstance(stride, tuple):
        raise pickle.UnpicklingError("a tensor without a shape")
    return _Tensor(storage, offset, tuple(map(int, shape)), tuple(map(int, stride)))


class _TensorUnpickler(pickle.Unpickler):
    """Builds ordered dictionaries and tensor descriptions; refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        known: dict[tuple[str, str], Callable[..., object]] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
        }
        if (module, name) not in known:
            raise ModelError(f"it asks for {module}.{name}, which weights do not need; refused")
        return known[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _location, count, *view = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or any(v is not None for v in view):
            raise pickle.UnpicklingError("an unknown kind of storage")
        return _Storage(str(key), dtype, int(count))


def read_torch_weights(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Read every tensor of a PyTorch state dictionary, by name.

    Raises
    ------
    ModelError
        The file is missing, damaged, or asks for anything but tensors.
    """
    try:
        stream = BytesIO(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    try:
        return _read(stream)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except Exception as error:  # a damaged pickle raises nearly anything
        raise ModelError(f"{path}: not a usable PyTorch weight file: {error}") from error


def _read(stream: BytesIO) -> dict[str, npt.NDArray[np.generic]]:
    if _TensorUnpickler(stream).load() != _MAGIC:
        raise ModelError("not a PyTorch weight file")
    for _ in ("protocol version", "system information"):
        _TensorUnpickler(stream).load()
    tensors = _TensorUnpickler(stream).load()
    keys = _TensorUnpickler(stream).load()
    if not isinstance(tensors, dict) or not isinstance(keys, list):
        raise ModelError("it holds no dictionary of tensors")
    wanted = {t.storage.key: t.storage for t in tensors.values() if isinstance(t, _Tensor)}
    storages = {str(key): _read_storage(stream, wanted[str(key)]) for key in keys}
    return {
        str(name): _view(storages[t.storage.key], t)
        for name, t in tensors.items()
        if isinstance(t, _Tensor)
    }


def _read_storage(stream: BytesIO, storage: _Storage) -> npt.NDArray[np.generic]:
    (count,) = struct.unpack("<q", stream.read(8))
    data = stream.read(storage.count * storage.dtype.itemsize)
    if count != storage.count or len(data) != storage.count * storage.dtype.itemsize:
        raise ModelError(f"storage {storage.key} is cut short")
    return np.frombuffer(data, storage.dtype)


def _view(storage: npt.NDArray[np.generic], tensor: _Tensor) -> npt.NDArray[np.generic]:
    """Lay a tensor on its storage, within its bounds."""
    if min((tensor.offset, *tensor.shape, *tensor.stride)) < 0:
        raise ModelError("a tensor with a negative size")
    last = tensor.offset + sum(
        (n - 1) * s for n, s in zip(tensor.shape, tensor.stride, strict=True)
    )
    if prod(tensor.shape) and last >= storage.size:
        raise ModelError("a tensor larger than its storage")
    item = storage.dtype.itemsize
    view = np.lib.stride_tricks.as_strided(
        storage[tensor.offset :], tensor.shape, [s * item for s in tensor.stride], writeable=False
    )
    return np.ascontiguousarray(view).reshape(tensor.shape)
