"""Rows of a dataset, read when they are asked for, in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from shardcam.engine.errors import RunDirectoryError
from shardcam.engine.rundir.hdf5_reading import reading, reading_problem
from shardcam.engine.rundir.own_datasets import Unsound, dataset_of
from shardcam.engine.rundir.schema import Form
from shardcam.engine.rundir.schema_checks import values_problem

Array = npt.NDArray[Any]
Positions = npt.NDArray[np.intp]
Part = int | slice  # of the axis after the samples

CLOSED = "the file is closed: use a run inside its with, a shard inside its loop"
_BLOCK_BYTES = 1 << 20  # read at once where rows are scattered; HDF5's chunks are smaller


@dataclass(frozen=True)
class ShardRows:
    """A shard file, and which rows of its run it holds."""

    path: Path
    start: int
    stop: int


class Rows:
    """An array whose first axis counts samples, read when it is indexed, as NumPy's would be.

    Parameters
    ----------
    shape
        Of the whole.
    dtype
        Of what is read.
    read
        From the positions of M samples, in any order and with repetitions, and a part of the
        next axis, to the rows (M, ...).
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        read: Callable[[Positions, Part], Array],
    ) -> None:
        self.shape, self.dtype, self.read = shape, np.dtype(dtype), read

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Array:
        """Read some rows: ``[3]``, ``[10:20]``, ``[[7, 2, 2]]``, ``[mask]``, ``[10:20, 0]``.

        Raises
        ------
        IndexError
            A number is out of range, or something is not an index.
        RunDirectoryError
            The file is damaged there.
        StoreError
            It cannot be read now.
        """
        first, *rest = (index or (slice(None),)) if isinstance(index, tuple) else (index,)
        if len(rest) >= len(self.shape):
            raise IndexError(f"{1 + len(rest)} indices for {len(self.shape)} axes")
        for axis, (part, length) in enumerate(zip(rest, self.shape[1:], strict=False), 1):
            positions(part, length, f"places on axis {axis}")
        wanted = positions(first, len(self), "samples")
        rows = np.atleast_1d(wanted)
        if all(_is_plain(part) for part in rest):  # read no more of the next axis than is asked for
            part = rest[0] if rest else slice(None)
            kept = [slice(None)] if rest and isinstance(part, slice) else []
            index = (slice(None) if wanted.ndim else 0, *kept, *rest[1:])
        else:
            part = slice(None)
            own = np.arange(len(rows)).reshape(wanted.shape)
            index = (slice(None) if isinstance(first, slice) else own, *rest)
        found: Array = self.read(rows, part)[index]
        return found

    def __array__(self, dtype: npt.DTypeLike = None) -> Array:
        return np.asarray(self[:], dtype)


def column(
    file: h5py.File,
    name: str,
    form: Form,
    shards: tuple[ShardRows, ...],
    chosen: Positions | None,
    within: bool,
) -> Rows:
    """Return a dataset, or the chosen rows of it, in ascending order.

    Rows are read from the shards, one open at a time, and never through an index: through a
    virtual dataset HDF5 opens all of them, and invents rows where it may not open so many.

    Parameters
    ----------
    file
        Which must be open: an index, or a shard.
    form
        The shape of a row and the type.
    within
        Whether the file is the only one of the shards.
    """
    every = shards[-1].stop if shards else 0
    length = every if chosen is None else len(chosen)

    def read(rows: Positions, part: Part) -> Array:
        wanted = rows if chosen is None else chosen[rows]
        if not file:
            raise ValueError(CLOSED)
        if not within:
            return _read_shards(name, form, shards, wanted, part)
        try:
            return read_rows(file, name, form, every, wanted, part)
        except Unsound as error:
            raise RunDirectoryError(f"{file.filename}: unreadable ({error})") from error

    return Rows((length, *form[0]), form[1], read)


def positions(index: Any, length: int, what: str) -> Positions:
    """Positions that an index of one axis stands for: (M,), or () for a single number.

    Raises
    ------
    IndexError
        A number is out of range, or it is not an index; `what` says of what.
    """
    if isinstance(index, slice):
        return np.arange(*index.indices(length))
    array = np.asarray(index)
    if array.dtype == bool:
        if array.shape != (length,):
            raise IndexError(f"a mask of shape {array.shape} for {length} {what}")
        return np.flatnonzero(array)
    if array.ndim > 1 or (array.dtype.kind not in "iu" and array.size):
        raise IndexError(f"{what}: not a number, a slice, a mask or a list of numbers: {index!r}")
    beyond = array[(array < -length) | (array >= length)]
    if beyond.size:
        raise IndexError(f"{beyond.flat[0]} is out of range: there are {length} {what}")
    array = array.astype(np.intp)
    return np.where(array < 0, array + length, array)


def _is_plain(part: Any) -> bool:
    """Whether HDF5 can read it directly."""
    if isinstance(part, slice):
        return part.step is None or part.step > 0
    return isinstance(part, int | np.integer) and not isinstance(part, bool)


def _read_shards(
    name: str, form: Form, shards: tuple[ShardRows, ...], rows: Positions, part: Part
) -> Array:
    """Read rows from the files that hold them."""
    found = _empty(form, len(rows), part)
    for shard, places in by_shard(shards, rows):
        there, wanted = shard.stop - shard.start, rows[places] - shard.start
        with reading(shard.path) as file:
            found[places] = read_rows(file, name, form, there, wanted, part)
    return found


def by_shard(
    shards: tuple[ShardRows, ...], rows: Positions
) -> Iterator[tuple[ShardRows, Positions]]:
    """The shards that hold some rows of a run, and which of these each holds, ascending."""
    order = np.argsort(rows, kind="stable")
    numbers = np.searchsorted([shard.stop for shard in shards], rows[order], side="right")
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    for number, places in zip(numbers[starts], np.split(order, starts[1:]), strict=False):
        yield shards[number], places


def _empty(form: Form, rows: int, part: Part) -> Array:
    shape, dtype = form
    every = (slice(None), *((part,) if shape else ()))
    none: Array = np.empty((0, *shape), dtype)[every]
    return np.empty((rows, *none.shape[1:]), none.dtype)


def read_rows(
    file: h5py.File, name: str, form: Form, there: int, rows: Positions, part: Part = slice(None)
) -> Array:
    """Read rows of a shard that has so many; Unsound where they are not what they should be."""
    dataset = dataset_of(file, name)
    text = dataset.dtype.kind == form[1].kind == "S"  # a run that grew may have longer keys
    if len(dataset) != there or dataset.shape[1:] != form[0]:
        raise Unsound(f"{name} is {dataset.shape}, not {(there, *form[0])}")
    if dataset.dtype != form[1] and not text:
        raise Unsound(f"{name} is {dataset.dtype}, not {form[1]}")
    found = _read_blocks(dataset, form, rows, part)
    if problem := values_problem(name, found):
        raise Unsound(f"{name} has {problem}")
    return found


def _read_blocks(dataset: h5py.Dataset, form: Form, rows: Positions, part: Part) -> Array:
    """Read rows block by block: memory holds the result and one block."""
    rest = (part,) if dataset.ndim > 1 else ()
    found = _empty(form, len(rows), part)
    if not len(rows):
        return found
    if (np.diff(rows) == 1).all():
        return read_span(dataset, (slice(rows[0], rows[-1] + 1), *rest))
    row_bytes = dataset.dtype.itemsize * int(np.prod(dataset.shape[1:]))
    block = max(1, _BLOCK_BYTES // row_bytes)
    order = np.argsort(rows, kind="stable")
    starts = np.flatnonzero(np.diff(rows[order] // block)) + 1
    for places in np.split(order, starts):
        wanted = rows[places]
        values = read_span(dataset, (slice(wanted[0], wanted[-1] + 1), *rest))
        found[places] = values[wanted - wanted[0]]
    return found


def read_span(dataset: h5py.Dataset, index: tuple[Part, ...]) -> Array:
    """Read a part of a dataset; what goes wrong is told as of the file."""
    try:
        values: Array = dataset[index]
    except Exception as error:
        place = f"{dataset.file.filename}: {dataset.name[1:]}"
        problem = reading_problem(place, error, dataset.file)
        if problem is None:
            raise
        raise problem from error
    return values
