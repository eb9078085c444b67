"""The labels of an array of pictures in a file of their own: ``--label-data``."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from shardcam.engine.errors import SourceError
from shardcam.engine.io import files
from shardcam.engine.readers.idx import idx_labels
from shardcam.engine.readers.labels import one_each
from shardcam.engine.readers.location import listing
from shardcam.engine.types import counted

_HDF5 = (".h5", ".hdf5")
_IDX = ("idx1-ubyte", "idx1-ubyte.gz")


def stored_labels(source: str, count: int) -> Iterator[Any]:
    """One value for each of `count` pictures, as `engine.readers.labels.Labels` takes them.

    Parameters
    ----------
    source
        ``FILE`` or ``FILE::DATASET``, a path or a URL: HDF5, ``.npy``, MNIST's idx, or text
        with a label on each line.

    Raises
    ------
    SourceError
        It is missing, of another kind, or of another number of labels.
    """
    path, _, dataset = source.partition("::")
    name = path.partition("?")[0].lower()
    if name.endswith(_HDF5):
        return _of_hdf5(path, dataset, count)
    if name.endswith(".npy"):
        return _of_npy(path, count)
    if name.endswith(_IDX):
        return idx_labels(path, count)
    if name.endswith(".txt"):
        return _of_text(path, count)
    raise SourceError(
        f"--label-data {path}: not a known kind of file; known are .h5 .hdf5 (FILE::DATASET), "
        ".npy, idx (labels-idx1-ubyte, .gz) and .txt with a label on each line"
    )


def _of_hdf5(path: str, name: str, count: int) -> Iterator[Any]:
    from shardcam.engine.readers.hdf5_file import Hdf5File

    file = Hdf5File(path)
    if name:
        dataset = file.named(name)
    else:
        wanted = f"{counted(count, 'label')}, one for each picture,"
        dataset = file.only(lambda item: one_each(item.shape or (), item.dtype, count), wanted)
    _require_one_each(file.where(dataset), dataset.shape or (), dataset.dtype, count)
    return file.values(dataset)


def _of_npy(path: str, count: int) -> Iterator[Any]:
    with listing(path):
        data = files.read(path)
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError) as error:
        reason = str(error).partition("\n")[0]
        raise SourceError(f"--label-data {path}: not an .npy file: {reason}") from error
    _require_one_each(path, array.shape, array.dtype, count)
    return iter(array.reshape(-1).tolist())


def _of_text(path: str, count: int) -> Iterator[Any]:
    with listing(path):
        text = files.read(path).decode("utf-8-sig", "replace")
    lines = text.rstrip().splitlines()
    if len(lines) != count:
        raise SourceError(
            f"--label-data {path}: {counted(len(lines), 'line')} for "
            f"{counted(count, 'picture')}; there must be one for each"
        )
    return iter(lines)


def _require_one_each(where: str, shape: tuple[int, ...], dtype: np.dtype[Any], count: int) -> None:
    if not one_each(shape, dtype, count):
        raise SourceError(
            f"--label-data {where}: {dtype} {shape} for {counted(count, 'picture')}; there must "
            "be one label for each"
        )
