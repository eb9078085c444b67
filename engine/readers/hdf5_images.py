"""HDF5 files with an array of pictures, and their labels beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from itertools import repeat
from typing import Any

import h5py
import numpy as np

from shardcam.engine.errors import SourceError
from shardcam.engine.protocols import Reader
from shardcam.engine.readers.hdf5_file import RAISED, Hdf5File
from shardcam.engine.readers.labels import LabelData, Labels, Names, like_label, one_each
from shardcam.engine.readers.pixels import is_stack, require_stack, rgb
from shardcam.engine.types import NO_LABEL, U1, Note, Sample, SourceNotes

_LABELS = ("label", "labels")


class Hdf5Reader(Reader):
    """The pictures of a uint8 dataset; the key is the picture's number.

    Labels are those of the dataset ``label`` or ``labels`` of the same group, if there is
    one. Data in other files (external links, external or virtual storage) is refused.

    Parameters
    ----------
    path
        The file, a path or a URL.
    dataset
        Path of the dataset; None: the only one that can be pictures.
    label_data
        Gives the labels; None: those of the dataset beside the pictures.
    names
        See `engine.readers.labels.Labels`.
    """

    def __init__(
        self,
        path: str,
        dataset: str | None = None,
        label_data: LabelData | None = None,
        names: Callable[[], Names] = Names,
    ) -> None:
        self._file = Hdf5File(path)
        self._name = dataset
        self._label_data = label_data
        self._labels = Labels(names)
        self._unused = ""  # what lies beside the pictures and gives no labels

    def samples(self) -> Iterator[Sample]:
        """List the source; see `engine.protocols.Reader`."""
        self._labels.forget()
        with self._file.plainly("damaged"):
            dataset = self._dataset
            stack = require_stack(self._file.where(dataset), dataset.shape, dataset.dtype)
            self._file.require_stored(dataset)
            for index, value in enumerate(self._values(dataset)):
                label = self._labels.of(value, "picture", index)
                location = f"{self._file.path}#{index}"
                yield Sample(stack.key(index), index, label, location, stack.picture_bytes)

    def notes(self) -> SourceNotes:
        """See `engine.protocols.Reader`."""
        met = self._labels.met()
        unused = (Note("labels", self._unused),) if self._unused and self._labels.none else ()
        return replace(met, notes=(*unused, *met.notes))

    def read(self, sample: Sample) -> U1:
        """Return a picture; see `engine.protocols.Reader`."""
        index = int(sample.location.rpartition("#")[2])
        try:
            picture: U1 = np.asarray(self._dataset[index])
        except (SourceError, *RAISED) as error:
            raise OSError(str(error).partition("\n")[0]) from error
        if not is_stack((1, *picture.shape), picture.dtype):
            raise OSError("the dataset has changed since it was listed")
        return rgb(picture)

    @cached_property
    def _dataset(self) -> h5py.Dataset:
        if self._name is not None:
            return self._file.named(self._name)
        return self._file.only(_is_pictures, "uint8 (N,H,W) or (N,H,W,1|3)")

    def _values(self, dataset: h5py.Dataset) -> Iterator[Any]:
        """What is said of each picture."""
        count = dataset.shape[0]
        if self._label_data is not None:
            return self._label_data(count)
        beside = self._file.beside(dataset, _LABELS)
        fitting = [item for item in beside if one_each(item.shape or (), item.dtype, count)]
        self._unused = ""
        like = self._file.beside(dataset, tuple(filter(like_label, dataset.parent)))
        for item in like:
            if not beside and one_each(item.shape or (), item.dtype, count):
                where, shape = self._file.where(item), tuple(item.shape)
                name = where.rpartition("::")[2]
                self._unused = (
                    f"no image has a label; {name} {shape} lies beside the pictures: "
                    f"--label-data {where}"
                )
                break
        if beside and not fitting:
            self._unused = (
                f"{self._file.where(beside[0])} is {beside[0].dtype} {beside[0].shape}, not a "
                "label for each picture: not used; --label-data names another dataset"
            )
        return self._file.values(fitting[0]) if fitting else repeat(NO_LABEL, count)


def _is_pictures(item: h5py.Dataset) -> bool:
    """Whether a dataset holds pictures; labels can have the shape of pictures of one pixel."""
    shape: tuple[int, ...] = item.shape or ()
    return is_stack(shape, item.dtype) and not one_each(shape, item.dtype, shape[0])
