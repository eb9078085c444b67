"""PyTorch weight files, read without PyTorch and without trust.

Since version 1.6 such a file is an uncompressed zip archive: ``data.pkl`` describes the
tensors, ``data/KEY`` holds a storage's raw bytes.  Before, it was four pickles (magic,
version, system, the tensors), the list of storage keys, then each storage's element
count and raw bytes.  Pickle can call anything it can name, so the unpickler here knows
dictionaries and tensors and no other name: the worst a hostile file can do is to be
refused.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.errors import ModelError

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


def _rebuild_parameter(tensor: object, *_: object) -> _Tensor:
    if not isinstance(tensor, _Tensor):
        raise pickle.UnpicklingError("a parameter without a tensor")
    return tensor


class _TensorUnpickler(pickle.Unpickler):
    """Builds ordered dictionaries and tensor descriptions; refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        known: dict[tuple[str, str], Callable[..., object]] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
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
        return _read_zip(stream) if zipfile.is_zipfile(stream) else _read_stream(stream)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except Exception as error:  # a damaged pickle raises nearly anything
        raise ModelError(
            f"{path}: not a PyTorch weight file, or a damaged one ({error})"
        ) from error


def _read_zip(stream: BytesIO) -> dict[str, npt.NDArray[np.generic]]:
    with zipfile.ZipFile(stream) as archive:
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
            raise ModelError("a compressed archive, which PyTorch never writes")
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1:
            raise ModelError("not a PyTorch weight file")
        tensors = _tensors(_TensorUnpickler(BytesIO(archive.read(names[0]))).load())
        folder = names[0].removesuffix(".pkl")
        storages = {}
        for storage in {t.storage.key: t.storage for t in tensors.values()}.values():
            data = archive.read(f"{folder}/{storage.key}")
            if len(data) < storage.count * storage.dtype.itemsize:
                raise ModelError(f"storage {storage.key} is cut short")
            storages[storage.key] = np.frombuffer(data, storage.dtype, storage.count)
    return {name: _view(storages[t.storage.key], t) for name, t in tensors.items()}


def _read_stream(stream: BytesIO) -> dict[str, npt.NDArray[np.generic]]:
    stream.seek(0)
    if _TensorUnpickler(stream).load() != _MAGIC:
        raise ModelError("not a PyTorch weight file")
    for _ in ("protocol version", "system information"):
        _TensorUnpickler(stream).load()
    tensors = _tensors(_TensorUnpickler(stream).load())
    keys = _TensorUnpickler(stream).load()
    wanted = {t.storage.key: t.storage for t in tensors.values()}
    if not isinstance(keys, list) or not wanted.keys() <= set(map(str, keys)):
        raise ModelError("its storages are not those of its tensors")
    storages = {str(key): _read_storage(stream, wanted[str(key)]) for key in keys}
    return {name: _view(storages[t.storage.key], t) for name, t in tensors.items()}


def _tensors(loaded: object) -> dict[str, _Tensor]:
    """The tensors of a state dictionary; other entries do not matter here."""
    if not isinstance(loaded, dict):
        raise ModelError("it does not contain a dictionary of tensors")
    inner = loaded.get("state_dict")  # as training scripts save it
    entries = inner if isinstance(inner, dict) else loaded
    tensors = {str(name): t for name, t in entries.items() if isinstance(t, _Tensor)}
    if not tensors:
        raise ModelError("it does not contain a dictionary of tensors")
    return tensors


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
    count = int(np.prod(tensor.shape, dtype=np.float64))
    if count > storage.size or (count and last >= storage.size):
        raise ModelError("a tensor larger than its storage")
    item = storage.dtype.itemsize
    view = np.lib.stride_tricks.as_strided(
        storage[tensor.offset :], tensor.shape, [s * item for s in tensor.stride], writeable=False
    )
    return np.ascontiguousarray(view).reshape(tensor.shape)
