"""NumPy's ``.npy`` files of pictures, read by ranges and never whole."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from shardcam.engine.errors import SourceError
from shardcam.engine.io import files
from shardcam.engine.io.download_cache import PartCache
from shardcam.engine.io.fetch_many import Part
from shardcam.engine.readers.location import listing, place
from shardcam.engine.readers.part_reader import PartReader
from shardcam.engine.readers.pixels import Stack, picture_of, require_stack
from shardcam.engine.types import NO_LABEL, U1, Sample

_HEADER = 1 << 16  # bytes; NumPy writes less than 200
_FORMAT: Any = np.lib.format
_VERSIONS = {
    (1, 0): _FORMAT.read_array_header_1_0,
    (2, 0): _FORMAT.read_array_header_2_0,
}


class NpyReader(PartReader):
    """The pictures of a ``.npy`` file; the key is the picture's number.

    The layout is that of ``numpy.lib.format``: no pickles, C order, uint8.

    Parameters
    ----------
    path
        The file, a path or a URL.
    cache
        See `engine.readers.part_reader.PartReader`.
    """

    def __init__(self, path: str, cache: PartCache | None = None) -> None:
        super().__init__(cache)
        self._path = path

    def samples(self) -> Iterator[Sample]:
        """List the source; see `engine.protocols.Reader`."""
        start, stack = self._layout
        length = stack.picture_bytes
        for index in range(stack.count):
            location = place(self._path, start + index * length, length)
            yield Sample(stack.key(index), index, NO_LABEL, location, length)

    def _part(self, sample: Sample) -> Part:
        try:
            _ = self._layout
        except SourceError as error:  # it was good when it was listed
            raise OSError(str(error)) from error
        return super()._part(sample)

    def _image(self, data: bytes) -> U1:
        return picture_of(data, self._layout[1])

    @cached_property
    def _layout(self) -> tuple[int, Stack]:
        """Where the pictures begin, and what they are."""
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
