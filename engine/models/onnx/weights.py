"""Arrays of an ONNX file: each one is checked against the bytes that exist before it is read.

Format: ``TensorProto`` of onnx.proto.  A large model keeps its arrays in files next to
it; a name that leads out of the model's own directory is refused.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx.onnx_graph import Array

_BOOL, _HALF, _BFLOAT = 9, 10, 16
_DTYPES = {
    1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8",
    _BOOL: "u1", _HALF: "<f2", 11: "<f8", 12: "<u4", 13: "<u8", _BFLOAT: "<u2",
}  # fmt: skip
_FOUR_BITS = {21: 0, 22: 8}  # unsigned and signed, two numbers in a byte; and the sign's bit
_FIELDS = {1: "float_data", 7: "int64_data", 11: "double_data", 12: "uint64_data"}
_FIELDS |= {13: "uint64_data"}
_EXTERNAL = 1
_MAX_RANK = 32


class TensorReader:
    """Reads the arrays of one model."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._left: dict[Path, int] = {}

    def read(self, proto: Any) -> Array:
        """The array of a ``TensorProto``.

        Raises
        ------
        ModelError
            It is damaged, of an unknown type, or outside of the model's directory.
        """
        try:
            return self._read(proto)
        except (ModelError, OSError, ValueError) as error:
            raise ModelError(f"weight {proto.name!r}: {error}") from error

    def _read(self, proto: Any) -> Array:
        shape = tuple(int(n) for n in proto.dims)
        if len(shape) > _MAX_RANK or any(n < 0 for n in shape):
            raise ModelError(f"its shape {shape} is impossible")
        if proto.data_type in _FOUR_BITS:
            return self._four_bits(proto, shape)
        if proto.data_type not in _DTYPES:
            raise ModelError(f"its data type {proto.data_type} is not supported")
        dtype = np.dtype(_DTYPES[proto.data_type])
        data = self._bytes(proto, prod(shape) * dtype.itemsize)
        if data is None:
            flat = _typed(proto, dtype, prod(shape))
        else:
            if len(data) != prod(shape) * dtype.itemsize:
                raise ModelError(f"its shape {shape} does not fit its {len(data)} bytes")
            flat = np.frombuffer(data, dtype)
        return _decoded(flat, proto.data_type).reshape(shape)

    def _four_bits(self, proto: Any, shape: tuple[int, ...]) -> Array:
        count = -(-prod(shape) // 2)
        data = self._bytes(proto, count)
        pairs = _typed(proto, np.dtype("u1"), count) if data is None else np.frombuffer(data, "u1")
        if len(pairs) != count:
            raise ModelError(f"its shape {shape} does not fit its {len(pairs)} bytes")
        flat = np.stack((pairs & 15, pairs >> 4), -1).reshape(-1)[: prod(shape)]
        sign = _FOUR_BITS[proto.data_type]
        numbers: Array = (flat ^ sign).astype(np.int8) - np.int8(sign) if sign else flat
        return numbers.reshape(shape)

    def _bytes(self, proto: Any, size: int) -> bytes | None:
        """The raw bytes, from this file or another; None where the numbers are listed."""
        if proto.data_location == _EXTERNAL:
            return self._external({e.key: e.value for e in proto.external_data}, size)
        return proto.raw_data if proto.HasField("raw_data") else None

    def _external(self, where: dict[str, str], size: int) -> bytes:
        path = self._inside(where.get("location", ""))
        total = path.stat().st_size
        offset = int(where.get("offset") or 0)
        length = int(where.get("length") or max(total - offset, 0))
        if length != size or offset < 0 or offset + length > total:
            raise ModelError(f"it needs {size} bytes; {path.name} has no such piece")
        # Many weights on the same bytes would make a small file fill the memory.
        self._left.setdefault(path, 2 * total)
        self._left[path] -= length
        if self._left[path] < 0:
            raise ModelError(f"more weights than {path.name} has room for")
        with path.open("rb") as stream:
            stream.seek(offset)
            return stream.read(length)

    def _inside(self, location: str) -> Path:
        root = self._directory.resolve()
        path = Path(location)
        if not location or path.is_absolute() or ".." in path.parts or "\0" in location:
            raise ModelError(f"external data {location!r} points outside of the model's directory")
        full = (root / path).resolve()
        if not full.is_relative_to(root):
            raise ModelError(f"external data {location!r} points outside of the model's directory")
        if not full.is_file():
            wrong = "is no regular file" if full.exists() else "does not exist"
            raise ModelError(f"external data {location!r} {wrong}")
        return full


def _typed(proto: Any, dtype: np.dtype[Any], count: int) -> Array:
    """Numbers that are listed one by one. Half precision is listed as its bits."""
    numbers = getattr(proto, _FIELDS.get(proto.data_type, "int32_data"))
    if len(numbers) != count:
        raise ModelError(f"{count} numbers are declared, {len(numbers)} are there")
    if proto.data_type in (_HALF, _BFLOAT):
        return np.array(numbers, np.int64).astype(np.uint16).view(dtype)
    return np.array(numbers, dtype)


def _decoded(flat: Array, data_type: int) -> Array:
    if data_type == _BOOL:
        return flat.astype(np.bool_)
    if data_type == _BFLOAT:
        return (flat.astype(np.uint32) << 16).view(np.float32)
    return flat
