"""HDF5 files with an array of pictures, and their labels beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from math import prod

import h5py
import numpy as np

from shardcam.engine.errors import SourceError
from shardcam.engine.io import files
from shardcam.engine.io.remote_file import open_stream
from shardcam.engine.io.urls import is_url
from shardcam.engine.protocols import Reader
from shardcam.engine.readers.location import key_text, listing
from shardcam.engine.readers.pixels import is_stack, require_stack, rgb
from shardcam.engine.types import NO_LABEL, U1, Sample

_RAISED = (OSError, RuntimeError, ValueError, KeyError, IndexError, TypeError, OverflowError)
_LABELS = ("label", "labels")
_LARGEST_CHUNK = 1 << 28  # bytes
_CACHE = 1 << 26  # bytes of chunks kept, so that neighbours in a chunk unpack it once
_STEP = 1 << 16  # labels read at once


class Hdf5Reader(Reader):
    """The pictures of a uint8 dataset; the key is the picture's number.

    Labels are those of the integer dataset ``label`` or ``labels`` of the same group, if
    there is one. Data in other files (external links, external or virtual storage)
    is refused.

    Parameters
    ----------
    path
        The file, a path or a URL.
    dataset
        Path of the dataset; None: the only one that can be pictures.
    """

    def __init__(self, path: str, dataset: str | None = None) -> None:
        self._path = path
        self._name = dataset

    def samples(self) -> Iterator[Sample]:
        """List the source; see `engine.protocols.Reader`."""
        with self._plainly("damaged"):
            dataset = self._dataset
            stack = require_stack(self._where(dataset), dataset.shape, dataset.dtype)
            self._require_stored(dataset)
            for index, label in enumerate(self._labels(dataset)):
                location = f"{self._path}#{index}"
                yield Sample(stack.key(index), index, label, location, stack.picture_bytes)

    def read(self, sample: Sample) -> U1:
        """Return a picture; see `engine.protocols.Reader`."""
        index = int(sample.location.rpartition("#")[2])
        try:
            picture: U1 = np.asarray(self._dataset[index])
        except (SourceError, *_RAISED) as error:
            raise OSError(str(error).partition("\n")[0]) from error
        if not is_stack((1, *picture.shape), picture.dtype):
            raise OSError("the dataset has changed since it was listed")
        return rgb(picture)

    @contextmanager
    def _plainly(self, problem: str) -> Iterator[None]:
        """Turn what HDF5 raises into one line."""
        try:
            yield
        except _RAISED as error:
            reason = str(error).partition("\n")[0]
            raise SourceError(f"{self._path}: {problem}: {reason}") from error

    @cached_property
    def _file(self) -> h5py.File:
        with listing(self._path):
            files.size(self._path)  # no such file, in plain words
            source = open_stream(self._path) if is_url(self._path) else self._path
        with self._plainly("not an HDF5 file"):
            locking = {} if is_url(self._path) else {"locking": "best-effort"}
            return h5py.File(source, "r", rdcc_nbytes=_CACHE, **locking)

    @cached_property
    def _dataset(self) -> h5py.Dataset:
        found = self._only() if self._name is None else self._named(self._name)
        self._require_own(found)
        return found

    def _only(self) -> h5py.Dataset:
        found: dict[str, h5py.Dataset] = {}

        def note(name: str | bytes, item: h5py.Dataset | h5py.Group) -> None:
            with suppress(TypeError):  # a type that NumPy does not have
                if isinstance(item, h5py.Dataset) and is_stack(item.shape or (), item.dtype):
                    found[_text(name)] = item

        self._file.visititems(note)  # follows no link into another file
        if len(found) != 1:
            which = f"several datasets ({', '.join([*found][:5])})" if found else "no dataset"
            raise SourceError(
                f"{self._path}: {which} of uint8 (N,H,W) or (N,H,W,1|3) in it; name one: "
                f"{self._path}::DATASET"
            )
        return next(iter(found.values()))

    def _named(self, name: str) -> h5py.Dataset:
        item = self._file
        for step in filter(None, name.split("/")):
            link = item.get(step, getlink=True) if isinstance(item, h5py.Group) else None
            if not isinstance(link, h5py.HardLink):
                kind = "a link to another file" if link else "not there"
                raise SourceError(f"{self._path}: dataset {name!r}: {step!r} is {kind}")
            item = item[step]
        if not isinstance(item, h5py.Dataset):
            raise SourceError(f"{self._path}: {name!r} is a group, not a dataset")
        return item

    def _require_own(self, dataset: h5py.Dataset) -> None:
        """Refuse data in other files, and chunks too large to unpack in memory."""
        if dataset.external or dataset.is_virtual:
            raise SourceError(
                f"{self._where(dataset)}: its data is in other files; copy it into one file"
            )
        if dataset.chunks and prod(dataset.chunks) * dataset.dtype.itemsize > _LARGEST_CHUNK:
            raise SourceError(
                f"{self._where(dataset)}: chunks of {dataset.chunks} are too large; at most "
                f"{_LARGEST_CHUNK} bytes"
            )

    def _require_stored(self, dataset: h5py.Dataset) -> None:
        """Refuse a dataset of which parts were never written: its shape alone proves nothing."""
        where = self._where(dataset)
        if dataset.chunks:
            sides = zip(dataset.shape, dataset.chunks, strict=True)
            wanted, held = prod(-(-n // c) for n, c in sides), dataset.id.get_num_chunks()
        else:
            wanted, held = dataset.nbytes, dataset.id.get_storage_size()
        if held < wanted:
            raise SourceError(f"{where}: declares {dataset.shape}, but only {held} of {wanted} "
                f"{'chunks' if dataset.chunks else 'bytes'} were written")  # fmt: skip

    def _labels(self, dataset: h5py.Dataset) -> Iterator[int]:
        count, group = dataset.shape[0], dataset.parent
        names = [n for n in _LABELS if isinstance(group.get(n, getlink=True), h5py.HardLink)]
        if not names:
            yield from (NO_LABEL for _ in range(count))
            return
        labels = group[names[0]]
        where = f"{self._path}::{_text(group.name)}/{names[0]}".replace("::/", "::")
        kind = labels.dtype.kind if isinstance(labels, h5py.Dataset) else "O"
        if kind not in "iu" or labels.shape not in ((count,), (count, 1)):
            raise SourceError(f"{where}: not {count} whole numbers, one for each picture")
        self._require_own(labels)
        self._require_stored(labels)
        for start in range(0, count, _STEP):
            values = np.asarray(labels[start : start + _STEP]).reshape(-1)
            if values.min() < NO_LABEL or values.max() >= 2**31:
                raise SourceError(f"{where}: a label is not a class number (0 or more)")
            yield from values.tolist()

    def _where(self, dataset: h5py.Dataset) -> str:
        return f"{self._path}::{_text(dataset.name)}"


def _text(name: str | bytes | None) -> str:
    """A name in the file, which need not be UTF-8."""
    return key_text(os.fsdecode(name or "")).strip("/")
