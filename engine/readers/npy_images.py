"""NumPy's ``.npy`` files of pictures, read by ranges and never whole."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import repeat
from typing import Any

import numpy as np

from shardcam.engine.errors import SourceError
from shardcam.engine.io import files
from shardcam.engine.io.download_cache import PartCache
from shardcam.engine.io.fetch_many import Part
from shardcam.engine.readers.labels import LabelData, Labels, Names
from shardcam.engine.readers.location import listing, place
from shardcam.engine.readers.part_reader import PartReader
from shardcam.engine.readers.pixels import Stack, picture_of, require_stack
from shardcam.engine.types import NO_LABEL, U1, Sample, SourceNotes

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
    label_data
        Gives the labels; None: there are none.
    names
        See `engine.readers.labels.Labels`.
    """

    def __init__(
        self,
        path: str,
        cache: PartCache | None = None,
        label_data: LabelData | None = None,
        names: Callable[[], Names] = Names,
    ) -> None:
        super().__init__(cache)
        self._path = path
        self._label_data = label_data
        self._labels = Labels(names)

    def samples(self) -> Iterator[Sample]:
        """List the source; see `engine.protocols.Reader`."""
        self._labels.forget()
        start, stack = self._layout
        count, length, data = stack.count, stack.picture_bytes, self._label_data
        values = repeat(NO_LABEL, count) if data is None else data(count)
        for index, value in enumerate(values):
            label = self._labels.of(value, "picture", index)
            location = place(self._path, start + index * length, length)
            yield Sample(stack.key(index), index, label, location, length)

    def notes(self) -> SourceNotes:
        """See `engine.protocols.Reader`."""
        return self._labels.met()

    def _part(self, sample: Sample) -> Part:
        try:
            _ = self._layout
        except SourceError as error:  # it was good when it was listed
            raise OSError(str(error)) from error
        _, start, end = super()._part(sample)
        return self._path, start, end  # any bytes would do for pixels: those of no other file

    def read_start(self, sample: Sample, length: int) -> bytes | U1:
        return self.read(sample)

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
