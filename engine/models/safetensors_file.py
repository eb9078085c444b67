"""The safetensors format: 8 bytes of length, a header in JSON, the arrays' bytes.

Format: https://huggingface.co/docs/safetensors. Every array is checked against the bytes that
exist before it is read; nothing is copied but bfloat16, which becomes float32.
"""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.errors import ModelError
from shardcam.engine.models.model_files import MAX_WEIGHTS, read_model_file

_BFLOAT = "BF16"
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", _BFLOAT: "<u2", "I64": "<i8", "I32": "<i4",
    "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
_MAX_HEADER = 2**24
_MAX_RANK = 32


def read_safetensors(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Read every array of a ``.safetensors`` file, by name.

    Raises
    ------
    ModelError
        The file is missing, damaged, or of a number type that networks here do not have.
    """
    data = read_model_file(path)
    length = int.from_bytes(data[:8], "little")
    try:
        if not 2 <= length <= min(len(data) - 8, _MAX_HEADER):
            raise ValueError(f"a header of {length} bytes")
        header = json.loads(data[8 : 8 + length], object_pairs_hook=_unique)
        if not isinstance(header, dict) or len(header) > MAX_WEIGHTS:
            raise ValueError("a header that lists no arrays, or too many")
        header.pop("__metadata__", None)
        rest = memoryview(data)[8 + length :]
        places = [entry["data_offsets"] for entry in header.values()]
        if sum(end - begin for begin, end in places) > len(rest):
            raise ValueError("its arrays overlap")
        return {name: _array(name, entry, rest) for name, entry in header.items()}
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise ModelError(f"{path}: not a usable .safetensors file: {reason}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(made := dict(pairs)) < len(pairs):
        raise ValueError("a name is given twice")
    return made


def _array(name: str, entry: dict[str, Any], data: memoryview) -> npt.NDArray[np.generic]:
    kind, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if kind not in _DTYPES:
        raise ValueError(f"{name!r} holds {str(kind)[:20]!r}; save it as F32, F16 or BF16")
    dtype = np.dtype(_DTYPES[kind])
    sizes = [*shape, begin, end]
    if not all(type(n) is int and 0 <= n < 2**48 for n in sizes) or len(shape) > _MAX_RANK:
        raise ValueError(f"{name!r} has an impossible shape or place")
    if not begin <= end <= len(data) or end - begin != prod(shape) * dtype.itemsize:
        raise ValueError(f"the shape of {name!r} does not fit its {end - begin} bytes")
    flat = np.frombuffer(data[begin:end], dtype)
    if kind == _BFLOAT:
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.reshape(shape)
