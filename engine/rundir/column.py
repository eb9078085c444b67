"""One dataset of a shard file, filled chunk by chunk."""

from __future__ import annotations

import h5py
import numpy as np
import numpy.typing as npt

from shardcam.engine.rundir.codec import Codec
from shardcam.engine.rundir.schema import CELLS, DatasetSpec
from shardcam.kernels import to_half

_CHUNK_BYTES = 1000 * 1024  # HDF5 keeps chunks of up to 1 MiB while they are read
_CELLS = 1 << 16  # in a chunk: the maps of an image are a few thousand


def create_column(file: h5py.File, spec: DatasetSpec, rows: int, most: int, codec: Codec) -> None:
    """Make an empty dataset of `rows` rows, whose chunks are cut for at most `most`.

    How many cells there will be is not known: their chunks have one size.
    """
    if CELLS.fullmatch(spec.name):
        most = _CELLS
    chunk = (max(1, min(most, _CHUNK_BYTES // spec.row_bytes)), *spec.row_shape)
    dataset = parent_group(file, spec.name).create_dataset(
        spec.name.rpartition("/")[2],
        (rows, *spec.row_shape),
        hdf5_dtype(np.dtype(spec.dtype)),
        chunks=chunk,
        maxshape=(None, *spec.row_shape),
        **codec.filters,
    )
    dataset.attrs.update(spec.attributes)


class Column:
    """Collects rows and stores each chunk once, packed, as soon as it is full.

    Parameters
    ----------
    dataset
        From `create_column`, with nothing in it.
    rows
        How many there can be; fewer may come. None: as many as come.
    codec
        How chunks are packed; the one it was made with.
    """

    def __init__(self, dataset: h5py.Dataset, rows: int | None, codec: Codec) -> None:
        self._dataset, self._codec = dataset, codec
        if rows is not None and len(dataset) != rows:
            dataset.resize(rows, axis=0)
        chunk, dtype = dataset.chunks, dataset.dtype
        size = int(np.prod(chunk)) * dtype.itemsize
        self._bytes = np.zeros(size + 4, np.uint8)  # and their checksum
        self._chunk: npt.NDArray[np.generic] = self._bytes[:-4].view(dtype).reshape(chunk)
        self._spare = np.empty_like(self._bytes)
        self._held = 0  # rows in the chunk
        self._stored = 0  # rows in the file

    def append(self, values: npt.NDArray[np.generic], rows: int) -> None:
        """Add rows; ValueError if they are not `rows` rows of this dataset."""
        expected = (rows, *self._chunk.shape[1:])
        if values.shape != expected:
            raise ValueError(f"{self._dataset.name}: {values.shape} rows, not {expected}")
        if values.dtype.kind == "S" and values.itemsize > self._chunk.itemsize:
            raise ValueError(f"{self._dataset.name}: longer than {self._chunk.itemsize} bytes")
        while len(values):
            taken = values[: len(self._chunk) - self._held]
            _convert(taken, self._chunk[self._held : self._held + len(taken)])
            self._held += len(taken)
            values = values[len(taken) :]
            if self._held == len(self._chunk):
                self._store()

    def finish(self) -> None:
        """Store the last rows; the dataset then has as many rows as came."""
        end = self._stored + self._held
        if end < len(self._dataset):
            self._dataset.resize(end, axis=0)
        if self._held:
            self._chunk[self._held :] = np.zeros((), self._chunk.dtype)  # a chunk has one size
            self._store()

    def _store(self) -> None:
        place = (self._stored, *(0 for _ in self._chunk.shape[1:]))
        if (end := self._stored + self._held) > len(self._dataset):
            self._dataset.resize(end, axis=0)
        packed = self._codec.pack(self._bytes, self._spare)
        self._dataset.id.write_direct_chunk(place, packed)
        self._stored, self._held = end, 0


def _convert(values: npt.NDArray[np.generic], out: npt.NDArray[np.generic]) -> None:
    """Copy, in the type of `out`."""
    if values.dtype == np.float32 and out.dtype == np.float16:
        to_half(np.ascontiguousarray(values, np.float32).ravel(), out=out.reshape(-1).view("f2"))
    else:
        out[...] = values


def parent_group(file: h5py.File, name: str) -> h5py.Group:
    """Return the group of a dataset, made if need be; groups keep the order of the specs."""
    group = file
    for part in name.split("/")[:-1]:
        group = group[part] if part in group else group.create_group(part, track_order=True)
    return group


def hdf5_dtype(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """Return the type as stored: bytes are marked as UTF-8."""
    if dtype.kind != "S":
        return dtype
    text: np.dtype[np.generic] = h5py.string_dtype("utf-8", dtype.itemsize)
    return text
