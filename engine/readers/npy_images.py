"""NumPy's ``.npy`` files of pictures, read by ranges and never whole."""

from __future__ import annotations

import io
from functools import cached_property
from typing import Any

import numpy as np

from shardcam.engine.errors import SourceError
from shardcam.engine.io import files
from shardcam.engine.readers.location import listing
from shardcam.engine.readers.pixels import Stack, require_stack
from shardcam.engine.readers.stack_reader import StackReader

_HEADER = 1 << 16  # bytes; NumPy writes less than 200
_FORMAT: Any = np.lib.format
_VERSIONS = {
    (1, 0): _FORMAT.read_array_header_1_0,
    (2, 0): _FORMAT.read_array_header_2_0,
}


class NpyReader(StackReader):
    """The pictures of a ``.npy`` file.

    The layout is that of ``numpy.lib.format``: no pickles, C order, uint8.
    """

    @cached_property
    def _layout(self) -> tuple[int, Stack]:
        with listing(self._path):
            size = files.size(self._path)
            header = io.BytesIO(files.read_range(self._path, 0, min(size, _HEADER)))
        try:
            version = _FORMAT.read_magic(header)
            if version not in _VERSIONS:
                raise ValueError(f"version {version}")
            shape, fortran, dtype = _VERSIONS[version](header)
        except Exception as error:  # a header is a Python literal: its parser raises many things
            reason = str(error).partition("\n")[0]
            raise SourceError(f"{self._path}: not an .npy file: {reason}") from None
        stack = require_stack(self._path, shape, dtype)
        if fortran:
            raise SourceError(f"{self._path}: in Fortran order; save numpy.ascontiguousarray of it")
        start = header.tell()
        if start + stack.count * stack.picture_bytes != size:
            raise SourceError(
                f"{self._path}: {shape} pictures need {stack.count * stack.picture_bytes} bytes; "
                f"the file has {size - start}: is the copy complete?"
            )
        return start, stack
