"""Reading the shard files of a run, one by one; `engine.analysis.open_run` reads it whole."""

from __future__ import annotations

import errno
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from shardcam.engine.errors import RunDirectoryError
from shardcam.engine.io.remote_file import Blocks
from shardcam.engine.rundir.hdf5_reading import (
    blocks_at,
    reading,
    require_answered,
    require_file,
    system_problem,
)
from shardcam.engine.rundir.own_datasets import Unsound, dataset_of, datasets, require_stored
from shardcam.engine.rundir.result_rows import cell_counts
from shardcam.engine.rundir.run_dir import ShardFile
from shardcam.engine.rundir.schema import CELLS, FAILURES, Form
from shardcam.engine.rundir.schema_checks import forms_problem, values_problem
from shardcam.engine.rundir.user_block import checksum_problem
from shardcam.engine.types import Failure, flag_counts


@dataclass(frozen=True)
class ShardSummary:
    """The summary in a shard file."""

    shard: int
    listed: int
    ok: int
    failed: int
    fingerprint: str
    schema: int
    bytes: int  # size of the file
    checksum: bool  # whether there is one of the whole file
    flagged: tuple[int, ...]  # rows with each bit of `engine.types.Flag`, the lowest first


def read_shard_summary(path: ShardFile) -> ShardSummary:
    """Read the attributes of a shard file.

    Raises
    ------
    RunDirectoryError
        The file is missing or damaged.
    StoreError
        It cannot be read now.
    """
    with reading(path) as file:
        return summarize(file)


def read_failures(path: ShardFile) -> list[Failure]:
    """Read the failures of a shard file.

    Raises
    ------
    RunDirectoryError
        The file is missing or damaged.
    StoreError
        It cannot be read now.
    """
    with reading(path) as file:
        names = ("key", "stage", "error", "message")
        stored = [dataset_of(file, FAILURES + name) for name in names]
        texts = [text.asstr(errors="backslashreplace")[:] for text in stored]
        samples = dataset_of(file, FAILURES + "sample")[:].tolist()
        if any(len(column) != len(samples) for column in texts):
            raise Unsound("columns of different lengths in failure")
        return [Failure(key, i, *rest) for i, key, *rest in zip(samples, *texts, strict=True)]


def check_shard(path: ShardFile, expected: int, fingerprint: str, deep: bool = False) -> str | None:
    """Say in one line what is wrong with a shard file, or None if it is good.

    Parameters
    ----------
    expected
        The number of the shard.
    fingerprint
        Of the run it should belong to.
    deep
        Read every byte, so that the checksums speak: first that of the whole file, if it has
        one, then HDF5's own.

    Raises
    ------
    StoreError
        The file cannot be read now, which says nothing about it.
    """
    try:
        if deep:
            path = blocks_at(path) if isinstance(path, str) else path
            problem = file_problem(path)
            if problem:
                return f"{path}: {problem}"
        with reading(path) as file:
            summary = summarize(file)
            found = datasets(file)
            problem = shard_problem(found, summary, expected, fingerprint)
            if problem is None and deep:
                problem = _content_problem(found)
    except RunDirectoryError as error:
        return str(error)
    return f"{path}: {problem}" if problem else None


def file_problem(path: Path | Blocks) -> str | None:
    """Read a file whole and say how it differs from its checksum, or None.

    Raises
    ------
    RunDirectoryError
        It is missing.
    StoreError
        It cannot be read now.
    """
    require_file(path)
    try:
        with nullcontext(path) if isinstance(path, Blocks) else path.open("rb", 0) as stream:
            problem = checksum_problem(stream)
    except OSError as error:
        raise system_problem(path, error.errno or errno.EIO) from error
    require_answered(path, path if isinstance(path, Blocks) else None)
    return problem


def summarize(file: h5py.File) -> ShardSummary:
    """Return the summary of a shard file that is open in `reading`."""
    attributes = file.attrs
    complete = attributes["complete"]
    if not isinstance(complete, np.bool_) or not complete:
        raise Unsound("not complete")
    names = ("shard", "samples_listed", "samples_ok", "samples_failed", "schema")
    found = [attributes[name] for name in names]
    if not all(isinstance(value, np.integer) and value >= 0 for value in found):
        raise Unsound(f"an attribute that is not a number among {', '.join(names)}")
    shard, listed, ok, failed, schema = map(int, found)
    fingerprint, size = str(attributes["fingerprint"]), file.id.get_filesize()
    checksum = file.userblock_size > 0
    counts = attributes.get("samples_flagged")
    if counts is None:  # by an earlier version
        flagged = flag_counts(dataset_of(file, "flags")[:])
    elif getattr(counts, "shape", None) == (8,) and counts.dtype.kind in "iu":
        flagged = tuple(counts.tolist())
    else:
        raise Unsound("samples_flagged is not of eight numbers")
    return ShardSummary(shard, listed, ok, failed, fingerprint, schema, size, checksum, flagged)


def shard_problem(
    found: dict[str, h5py.Dataset], summary: ShardSummary, expected: int, fingerprint: str
) -> str | None:
    """Compare the datasets of a shard file with its summary, and that with what it should be."""
    problem = summary_problem(summary, expected, fingerprint)
    if problem:
        return problem
    ragged = [name for name in found if CELLS.fullmatch(name)]
    for name, dataset in found.items():
        rows = summary.failed if name.startswith(FAILURES) else summary.ok
        if name not in ragged and len(dataset) != rows:
            return f"{name} has {len(dataset)} rows, not {rows}"
    if problem := forms_problem(forms_of(found)):
        return problem
    for name in ragged:
        grid = found[f"{name.removesuffix('cells')}grid"][:]
        if problem := values_problem(name.removesuffix("cells") + "grid", grid):
            return f"{name} has {problem}"
        cells = int(cell_counts(found["target"][:], grid).sum())
        if len(found[name]) != cells:
            return f"{name} has {len(found[name])} cells, not {cells}"
    return None


def forms_of(found: dict[str, h5py.Dataset]) -> dict[str, Form]:
    """The shape of a row of each dataset, and its type."""
    return {name: (dataset.shape[1:], dataset.dtype) for name, dataset in found.items()}


def summary_problem(summary: ShardSummary, expected: int, fingerprint: str) -> str | None:
    """Compare the summary of a shard file with what it should be."""
    if summary.shard != expected:
        return f"holds shard {summary.shard}, not {expected}"
    if summary.fingerprint != fingerprint:
        return f"of another run: fingerprint {summary.fingerprint}, not {fingerprint}"
    if summary.listed != summary.ok + summary.failed:
        counts = f"{summary.ok} done and {summary.failed} failed"
        return f"{summary.listed} samples listed, but {counts}"
    return None


def _content_problem(found: dict[str, h5py.Dataset]) -> str | None:
    """Read everything: a damaged chunk raises. A sample may come only once."""
    for name, dataset in found.items():
        require_stored(dataset)
        for chunk in dataset.iter_chunks() if len(dataset) else ():
            # The list of chunks has no checksum: a chunk that is lost there reads as zeros,
            # and a wrong mask turns the checksum off. Reading directly does see them.
            mask, _ = dataset.id.read_direct_chunk(tuple(axis.start for axis in chunk))
            if mask:
                return f"{name} has a chunk without a checksum"
            if problem := values_problem(name, dataset[chunk], deep=True):
                return f"{name} has {problem}"
    samples = np.concatenate([found["sample"][:], found["failure/sample"][:]])
    if len(np.unique(samples)) != len(samples):
        return "a sample appears twice"
    return None


def mapped_rows(dataset: h5py.Dataset) -> dict[str, int]:
    """Rows that each shard file gives to a virtual dataset."""
    if not dataset.is_virtual:  # nothing to map
        return {}
    return {
        source.file_name: int(source.vspace.get_select_npoints())
        for source in dataset.virtual_sources()
    }
