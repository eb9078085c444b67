"""MXNet's ``.params`` format, read without MXNet: bounded, and nothing in the file is run.

Format: ``src/ndarray/ndarray.cc`` of Apache MXNet 1.9.1 (``NDArray::Load``).  A list
header, the arrays, then their names, all little-endian.  Three generations of array
headers are in use; all three are read.
"""

from __future__ import annotations

import struct
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shardcam.engine.errors import ModelError
from shardcam.engine.models.model_files import MAX_WEIGHTS, read_model_file

_LIST_MAGIC = 0x112
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_DENSE = (0, -1)  # storage types: default, undefined (as some writers leave it)
_MAX_RANK = 32
_DTYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "u1", 4: "<i4", 5: "i1", 6: "<i8"}


class _Cursor:
    """Takes values off a buffer; running past its end is a damaged file."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._at = 0

    def take(self, size: int) -> memoryview:
        if size < 0 or self._at + size > len(self._data):
            raise ModelError(f"ends after {len(self._data)} bytes, in the middle of a value")
        piece = self._data[self._at : self._at + size]
        self._at += size
        return piece

    def unpack(self, form: str) -> tuple[int, ...]:
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))

    def one(self, form: str) -> int:
        return self.unpack(form)[0]


def read_params(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Read every array of a ``.params`` file, by name.

    Raises
    ------
    ModelError
        The file is missing, damaged, or holds sparse arrays.
    """
    cursor = _Cursor(read_model_file(path))
    try:
        return _read(cursor)
    except (ModelError, ValueError) as error:
        raise ModelError(f"{path}: not a usable .params file: {error}") from error


def _read(cursor: _Cursor) -> dict[str, npt.NDArray[np.generic]]:
    magic, _reserved = cursor.unpack("QQ")
    if magic != _LIST_MAGIC:
        raise ModelError("its header is not that of such a file")
    count = cursor.one("Q")
    if count > MAX_WEIGHTS:
        raise ModelError(f"{count} arrays, more than {MAX_WEIGHTS}")
    arrays = [_array(cursor) for _ in range(count)]
    named = cursor.one("Q")
    if named != count:
        raise ModelError(f"{count} arrays but {named} names")
    names = [bytes(cursor.take(cursor.one("Q"))).decode() for _ in range(count)]
    if len({*names}) < count:
        raise ModelError("two of its arrays have one name")
    return dict(zip(names, arrays, strict=True))


def _array(cursor: _Cursor) -> npt.NDArray[np.generic]:
    magic = cursor.one("I")
    if magic in (_V2, _V3):
        if cursor.one("i") not in _DENSE:
            raise ModelError("it holds a sparse array")
        shape = _shape(cursor, "q", cursor.one("i"))
    elif magic == _V1:
        shape = _shape(cursor, "q", cursor.one("I"))
    else:  # the oldest form has no magic: the number is the rank
        shape = _shape(cursor, "I", magic)
    if not shape:
        return np.zeros(0, np.float32)
    cursor.unpack("ii")  # the device it was saved from
    code = cursor.one("i")
    if code not in _DTYPES:
        raise ModelError(f"unknown number type {code}")
    dtype = np.dtype(_DTYPES[code])
    return np.frombuffer(cursor.take(prod(shape) * dtype.itemsize), dtype).reshape(shape)


def _shape(cursor: _Cursor, form: str, rank: int) -> tuple[int, ...]:
    if not 0 <= rank <= _MAX_RANK:
        raise ModelError(f"an array of rank {rank}")
    shape = cursor.unpack(f"{rank}{form}")
    if any(n < 0 for n in shape):
        raise ModelError(f"an array of shape {shape}")
    return shape
