"""``cls_labels.npy``: a pickled dictionary from pictures to the classes they show.

IRN, PSA and those after them keep the labels of PASCAL VOC and COCO so: ``np.save`` of
``{2007000032: array([1., 0., ...])}``. The pickle is read without `pickle`; see
`engine.models.torch_pickle`. What it may name are NumPy's arrays of numbers.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.errors import ModelError, SourceError
from shardcam.engine.models.torch_pickle import Machine, Maker, built

LARGEST = 1 << 29  # bytes of a file
MOST_OPCODES = 20_000_000  # some 30 for each picture
_HEADER = re.compile(rb"\x93NUMPY\x01\0..\{'descr': '\|O', [^}]*'shape': \(\), ?\}\s*\n", re.S)
_NUMBERS = re.compile(r"[<|=]?(?:[fiu][1248]|b1|\?)")  # little-endian ones, and truth values
_ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray")


class _Dtype:
    def __init__(self, kind: object, *_: object) -> None:
        self.is_object = kind == "O8" or kind == "O"
        if not self.is_object and not (isinstance(kind, str) and _NUMBERS.fullmatch(kind)):
            raise ValueError(f"an array of {kind!s:.20}; classes are numbers")
        self.kind = str(kind)

    def set_state(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", "|", "="):
            raise ValueError("numbers in another order of bytes")


class _Array:
    """An array as it is built: `value` is known from its state."""

    def __init__(self) -> None:
        self.value: Any = None

    def set_state(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("the state of an array is damaged")
        _, shape, dtype, _fortran, data = state
        if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple):
            raise ValueError("the state of an array is damaged")
        if dtype.is_object:
            if shape != () or not isinstance(data, list) or len(data) != 1:
                raise ValueError("an array of objects that holds more than one")
            self.value = data[0]
            return
        data = data.encode("latin-1") if isinstance(data, str) else data
        numbers = np.frombuffer(data, np.dtype(dtype.kind))
        if not all(type(n) is int and n >= 0 for n in shape) or prod(shape) != len(numbers):
            raise ValueError("an array has another shape than its numbers")
        self.value = numbers


class _LabelMachine(Machine):
    wanted = "lists of classes"

    def named(self, module: str, name: str) -> object:
        if module in _ARRAYS and name == "_reconstruct":
            return Maker(lambda *_: _Array())
        if module in _ARRAYS and name == "scalar":
            return Maker(_scalar)
        if (module, name) == ("numpy", "ndarray"):
            return _Array
        if (module, name) == ("numpy", "dtype"):
            return Maker(_Dtype)
        if (module, name) == ("_codecs", "encode"):  # bytes, in older pickles
            return Maker(_encoded)
        return None

    def build(self, state: object) -> None:
        if not isinstance(self.stack[-1], _Array | _Dtype):
            raise ValueError("a state of what is no array")
        self.stack[-1].set_state(state)


def _scalar(dtype: object, data: object) -> int:
    data = data.encode("latin-1") if isinstance(data, str) else data
    if not isinstance(dtype, _Dtype) or dtype.is_object or not isinstance(data, bytes):
        raise ValueError("a number without a type")
    (number,) = np.frombuffer(data, np.dtype(dtype.kind)).tolist()
    return int(number)


def _encoded(text: object, encoding: object) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes in another encoding")
    return text.encode("latin-1")


def label_dictionary(path: Path, data: bytes) -> tuple[dict[str, npt.NDArray[np.intp]], int]:
    """Classes of each picture by its name, and how many classes there are.

    Names that are numbers are those of PASCAL VOC where they have ten digits (``2007000032`` is
    ``2007_000032``), else COCO's (``9`` is ``000000000009``).

    Raises
    ------
    SourceError
        It is no such file, or asks for anything but arrays of numbers.
    """
    header = _HEADER.match(data)
    if header is None:
        raise SourceError(f"{path}: not a dictionary as np.save writes it")
    try:
        root = built(_LabelMachine(), io.BytesIO(data[header.end() :]), MOST_OPCODES)
    except (ModelError, UnicodeEncodeError, AttributeError) as error:
        raise SourceError(f"{path}: {error}") from None
    found = root.value if isinstance(root, _Array) else root
    if not isinstance(found, Mapping) or not found:
        raise SourceError(f"{path}: holds no dictionary of pictures")
    rows = dict(_rows(path, found))
    lengths = {len(row) for row in rows.values()}
    if len(lengths) > 1:
        few, many = min(lengths), max(lengths)
        raise SourceError(f"{path}: some pictures have {few} classes and some {many}")
    return {name: np.flatnonzero(row) for name, row in rows.items()}, lengths.pop()


def _rows(path: Path, found: Mapping[Any, Any]) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    for name, value in found.items():
        if not isinstance(value, _Array) or not isinstance(value.value, np.ndarray):
            raise SourceError(f"{path}: {name!s:.40}: not an array with a number for each class")
        if (other := value.value[~(value.value >= 0)]).size:  # of what is unknown, often
            raise SourceError(f"{path}: {name!s:.40}: has {other[0]} where 0 or 1 is expected")
        yield _picture(name), value.value


def _picture(name: object) -> str:
    text = str(name)
    if isinstance(name, int) and len(text) == 10:
        return f"{text[:4]}_{text[4:]}"
    return f"{name:012d}" if isinstance(name, int) else text
