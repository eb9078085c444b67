"""PyTorch weight files, read without PyTorch and without trust.

Since version 1.6 such a file is an uncompressed zip archive: ``data.pkl`` describes the
tensors, ``data/KEY`` holds a storage's raw bytes.  Before, it was four pickles (magic,
version, system, the tensors), the list of storage keys, then each storage's element
count and raw bytes.  Pickles are read by `engine.models.torch_pickle`: the worst a hostile
file can do is to be refused.
"""

from __future__ import annotations

import struct
import zipfile
from io import SEEK_CUR, BytesIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.errors import ModelError
from shardcam.engine.models.model_files import MAX_WEIGHTS, read_model_file
from shardcam.engine.models.torch_pickle import Storage, Tensor, unpickle

_MAGIC = 0x1950A86A20F9469CFC6C
_INNER = ("state_dict", "model_state_dict", "model")  # where training scripts put the weights
_ZIP_ENTRY = b"PK\1\2"
_MAX_COPIES = 4  # names of one tensor; IRN's networks have three


def read_torch_weights(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Read every tensor of a PyTorch state dictionary, by name.

    Raises
    ------
    ModelError
        The file is missing, damaged, or asks for anything but tensors.
    """
    data = read_model_file(path)
    try:
        is_zip = zipfile.is_zipfile(BytesIO(data))
        return _read_zip(data) if is_zip else _read_stream(data)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except Exception as error:  # a damaged archive raises nearly anything
        reason = str(error).partition("\n")[0][:200]
        raise ModelError(
            f"{path}: not a PyTorch weight file, or a damaged one ({reason})"
        ) from error


def _read_zip(data: bytes) -> dict[str, npt.NDArray[np.generic]]:
    if data.count(_ZIP_ENTRY) > MAX_WEIGHTS:
        raise ModelError(f"an archive of more than {MAX_WEIGHTS} files")
    with zipfile.ZipFile(BytesIO(data)) as archive:
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
            raise ModelError("a compressed archive, which PyTorch never writes")
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1:
            raise ModelError("not a PyTorch weight file")
        if sum(info.file_size for info in archive.infolist()) > len(data):
            raise ModelError("an archive whose files overlap")
        tensors = _tensors(unpickle(BytesIO(archive.read(names[0]))), len(data))
        folder = names[0].removesuffix(".pkl")
        storages = {
            storage.key: _numbers(archive.read(f"{folder}/{storage.key}"), storage)
            for storage in {t.storage.key: t.storage for t in tensors.values()}.values()
        }
    return {name: _view(storages[t.storage.key], t) for name, t in tensors.items()}


def _read_stream(data: bytes) -> dict[str, npt.NDArray[np.generic]]:
    stream = BytesIO(data)
    if unpickle(stream) != _MAGIC:
        raise ModelError("not a PyTorch weight file")
    for _ in ("protocol version", "system information"):
        unpickle(stream)
    tensors = _tensors(unpickle(stream), len(data))
    keys = unpickle(stream)
    wanted = {t.storage.key: t.storage for t in tensors.values()}
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(wanted):
        raise ModelError("its storages are not those of its tensors")
    storages = {str(key): _read_storage(stream, wanted[str(key)]) for key in keys}
    return {name: _view(storages[t.storage.key], t) for name, t in tensors.items()}


def _tensors(loaded: object, size: int) -> dict[str, Tensor]:
    """The tensors of a state dictionary; other entries do not matter here.

    Tensors may share storages, but not so that a small file fills the memory.
    """
    if not isinstance(loaded, dict):
        raise ModelError("it does not contain a dictionary of tensors")
    tensors = _named_tensors(loaded)
    if not tensors:
        raise ModelError("it does not contain a dictionary of tensors")
    if len(tensors) > MAX_WEIGHTS:
        raise ModelError(f"more than {MAX_WEIGHTS} tensors")
    if any(min((t.offset, *t.shape, *t.stride)) < 0 for t in tensors.values()):
        raise ModelError("a tensor with a negative size")
    if any(prod(t.shape) > t.storage.count for t in tensors.values()):
        raise ModelError("a tensor larger than its storage")
    taken = sum(prod(t.shape) * t.storage.dtype.itemsize for t in tensors.values())
    if taken > _MAX_COPIES * size:
        raise ModelError(f"its tensors would take {taken} bytes, the file has {size}")
    return tensors


def _named_tensors(loaded: dict[Any, Any]) -> dict[str, Tensor]:
    """Those of a state dictionary, or of the one in a checkpoint of training scripts."""
    inner = {name: entry for name, entry in loaded.items() if isinstance(entry, dict)}
    known = [inner[name] for name in _INNER if name in inner]
    found = [
        tensors
        for entries in (*known, loaded, *inner.values())
        if (tensors := {str(n): t for n, t in entries.items() if isinstance(t, Tensor)})
    ]
    return found[0] if found else {}


def _read_storage(stream: BytesIO, storage: Storage) -> npt.NDArray[np.generic]:
    (count,) = struct.unpack("<q", stream.read(8))
    if count != storage.count:
        raise ModelError(f"storage {storage.key!r} is cut short")
    left = memoryview(stream.getvalue())[stream.tell() :]
    stream.seek(count * storage.dtype.itemsize, SEEK_CUR)
    return _numbers(left, storage)


def _numbers(data: bytes | memoryview, storage: Storage) -> npt.NDArray[np.generic]:
    if len(data) < storage.count * storage.dtype.itemsize:
        raise ModelError(f"storage {storage.key!r} is cut short")
    return np.frombuffer(data, storage.dtype, storage.count)


def _view(storage: npt.NDArray[np.generic], tensor: Tensor) -> npt.NDArray[np.generic]:
    """Lay a tensor on its storage, within its bounds."""
    last = tensor.offset + sum(
        (n - 1) * s for n, s in zip(tensor.shape, tensor.stride, strict=True)
    )
    if 0 not in tensor.shape and last >= storage.size:
        raise ModelError("a tensor larger than its storage")
    item = storage.dtype.itemsize
    view = np.lib.stride_tricks.as_strided(
        storage[tensor.offset :], tensor.shape, [s * item for s in tensor.stride], writeable=False
    )
    return np.ascontiguousarray(view).reshape(tensor.shape)
