"""An HDF5 file that somebody else wrote: its datasets, and nothing that lies in other files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from math import prod
from typing import Any

import h5py
import numpy as np

from shardcam.engine.errors import SourceError
from shardcam.engine.io import files
from shardcam.engine.io.remote_file import open_stream
from shardcam.engine.io.urls import is_url
from shardcam.engine.readers.location import key_text, listing

RAISED = (OSError, RuntimeError, ValueError, KeyError, IndexError, TypeError, OverflowError)
_LARGEST_CHUNK = 1 << 28  # bytes
_CACHE = 1 << 26  # bytes of chunks kept, so that neighbours in a chunk unpack it once
_STEP = 1 << 16  # rows read at once
_SHOWN = 5  # datasets in a message


class Hdf5File:
    """A file, opened when it is asked for a dataset.

    Parameters
    ----------
    path
        A path or a URL.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    @contextmanager
    def plainly(self, problem: str) -> Iterator[None]:
        """Turn what HDF5 raises into one line."""
        try:
            yield
        except RAISED as error:
            reason = str(error).partition("\n")[0]
            raise SourceError(f"{self.path}: {problem}: {reason}") from error

    @cached_property
    def _file(self) -> h5py.File:
        with listing(self.path):
            files.size(self.path)  # no such file, in plain words
            source = open_stream(self.path) if is_url(self.path) else self.path
        with self.plainly("not an HDF5 file"):
            locking = {} if is_url(self.path) else {"locking": "best-effort"}
            return h5py.File(source, "r", rdcc_nbytes=_CACHE, **locking)

    def only(self, fits: Callable[[h5py.Dataset], bool], wanted: str) -> h5py.Dataset:
        """The one dataset that fits.

        Raises
        ------
        SourceError
            There is none, or there are several.
        """
        found: dict[str, h5py.Dataset] = {}

        def note(name: str | bytes, item: h5py.Dataset | h5py.Group) -> None:
            with suppress(TypeError):  # a type that NumPy does not have
                if isinstance(item, h5py.Dataset) and fits(item):
                    found[_text(name)] = item

        self._file.visititems(note)  # follows no link into another file
        if not found:
            raise SourceError(f"{self.path}: no dataset of {wanted} in it; {self._there()}")
        if len(found) > 1:
            which = ", ".join([*found][:_SHOWN])
            raise SourceError(
                f"{self.path}: several datasets ({which}) of {wanted} in it; name one: "
                f"{self.path}::DATASET"
            )
        return self._own(next(iter(found.values())))

    def named(self, name: str) -> h5py.Dataset:
        """The dataset of that path.

        Raises
        ------
        SourceError
            There is none in this file.
        """
        item = self._file
        for step in filter(None, name.split("/")):
            link = item.get(step, getlink=True) if isinstance(item, h5py.Group) else None
            if not isinstance(link, h5py.HardLink):
                kind = "a link to another file" if link else "not there"
                raise SourceError(
                    f"{self.path}: dataset {name!r}: {step!r} is {kind}; {self._there()}"
                )
            item = item[step]
        if not isinstance(item, h5py.Dataset):
            raise SourceError(f"{self.path}: {name!r} is a group, not a dataset; {self._there()}")
        return self._own(item)

    def beside(self, dataset: h5py.Dataset, names: tuple[str, ...]) -> list[h5py.Dataset]:
        """The datasets of those names in the same group."""
        group = dataset.parent
        there = [n for n in names if isinstance(group.get(n, getlink=True), h5py.HardLink)]
        return [group[n] for n in there if isinstance(group[n], h5py.Dataset)]

    def values(self, dataset: h5py.Dataset) -> Iterator[Any]:
        """Each element of a dataset that was written whole."""
        self.require_stored(self._own(dataset))
        for start in range(0, dataset.shape[0], _STEP):
            with self.plainly("damaged"):
                values = np.asarray(dataset[start : start + _STEP])
            yield from values.reshape(-1).tolist()

    def _there(self) -> str:
        """The first datasets and their shapes, for messages."""
        found: list[str] = []

        def note(name: str | bytes, item: h5py.Dataset | h5py.Group) -> bool | None:
            with suppress(TypeError):  # a type that NumPy does not have
                if isinstance(item, h5py.Dataset):
                    found.append(f"{_text(name)} {item.dtype} {item.shape}")
            return len(found) > _SHOWN or None  # None goes on

        self._file.visititems(note)
        return f"it has {', '.join([*found[:_SHOWN], *['...'] * (len(found) > _SHOWN)]) or 'none'}"

    def _own(self, dataset: h5py.Dataset) -> h5py.Dataset:
        """Refuse data in other files, and chunks too large to unpack in memory."""
        if dataset.external or dataset.is_virtual:
            raise SourceError(
                f"{self.where(dataset)}: its data is in other files; copy it into one file"
            )
        if dataset.chunks and prod(dataset.chunks) * dataset.dtype.itemsize > _LARGEST_CHUNK:
            raise SourceError(
                f"{self.where(dataset)}: chunks of {dataset.chunks} are too large; at most "
                f"{_LARGEST_CHUNK} bytes"
            )
        return dataset

    def require_stored(self, dataset: h5py.Dataset) -> None:
        """Refuse a dataset of which parts were never written: its shape alone proves nothing."""
        where = self.where(dataset)
        if dataset.chunks:
            sides = zip(dataset.shape, dataset.chunks, strict=True)
            wanted, held = prod(-(-n // c) for n, c in sides), dataset.id.get_num_chunks()
        else:
            wanted, held = dataset.nbytes, dataset.id.get_storage_size()
        if held < wanted:
            raise SourceError(f"{where}: declares {dataset.shape}, but only {held} of {wanted} "
                f"{'chunks' if dataset.chunks else 'bytes'} were written")  # fmt: skip

    def where(self, dataset: h5py.Dataset) -> str:
        return f"{self.path}::{_text(dataset.name)}"


def _text(name: str | bytes | None) -> str:
    """A name in the file, which need not be UTF-8."""
    return key_text(os.fsdecode(name or "")).strip("/")
