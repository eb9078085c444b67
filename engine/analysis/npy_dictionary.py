"""A dictionary as ``np.save`` writes it, with arrays that load as PyTorch's tensors.

The pickle is put together by hand, for it names ``torch.from_numpy`` where there need be no
PyTorch. It loads with any NumPy: what is written is ``numpy.core``, as before version 2.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.format import write_array_header_1_0

_PROTOCOL = 3  # its pickles are not framed, so that parts of them can be joined
_NEW, _OLD = b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"


class Tensor:
    """An array that loads as a tensor."""

    def __init__(self, values: npt.NDArray[Any]) -> None:
        self.values = values


def npy_dictionary(entries: Mapping[str | int, Tensor | npt.NDArray[Any]]) -> bytes:
    """The bytes of a file; ``np.load(path, allow_pickle=True).item()`` gives the dictionary."""
    stream = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": ()}
    write_array_header_1_0(stream, header)  # type: ignore[no-untyped-call]
    pairs = b"".join(_part(name) + _value(value) for name, value in entries.items())
    holder = _part(np.array(None, object))  # ... NONE APPEND TUPLE BUILD
    start, none, end = holder.rpartition(b"N")
    if not none or not end.startswith(b"a"):
        raise AssertionError("NumPy pickles arrays of objects in another way")
    body = start + b"}(" + pairs + b"u" + end
    stream.write(pickle.PROTO + struct.pack("B", _PROTOCOL) + body + pickle.STOP)
    return stream.getvalue()


def _value(value: Tensor | npt.NDArray[Any]) -> bytes:
    if isinstance(value, Tensor):
        return b"ctorch\nfrom_numpy\n" + _part(value.values) + pickle.TUPLE1 + pickle.REDUCE
    return _part(value)


def _part(value: object) -> bytes:
    """The pickle of a value without its first and its last opcode; it needs no other part."""
    part = pickle.dumps(value, _PROTOCOL)[2:-1]
    return part.replace(_NEW, _OLD, 1) if part.startswith(_NEW) else part
