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
    Unsound,
    blocks_at,
    datasets,
    reading,
    require_answered,
    system_problem,
)
from shardcam.engine.rundir.run_dir import ShardFile
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
    """Read the failures of a shard file, or of a whole run from its index.

    Raises
    ------
    RunDirectoryError
        The file is missing or damaged.
    StoreError
        It cannot be read now.
    """
    with reading(path) as file:
        group = file["failure"]
        texts = [group[name].asstr()[:] for name in ("key", "stage", "error", "message")]
        samples = group["sample"][:].tolist()
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
            problem = shard_problem(datasets(file), summary, expected, fingerprint)
            if problem is None and deep:
                problem = _content_problem(file)
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
    if not attributes["complete"]:
        raise Unsound("not complete")
    names = ("shard", "samples_listed", "samples_ok", "samples_failed", "schema")
    found = [attributes[name] for name in names]
    if not all(isinstance(value, np.integer) for value in found):
        raise Unsound(f"an attribute that is not a number among {', '.join(names)}")
    shard, listed, ok, failed, schema = map(int, found)
    fingerprint, size = str(attributes["fingerprint"]), file.id.get_filesize()
    checksum = file.userblock_size > 0
    flagged = tuple(map(int, attributes.get("samples_flagged", ())))
    if not flagged:  # by an earlier version
        flagged = flag_counts(file["flags"][:])
    return ShardSummary(shard, listed, ok, failed, fingerprint, schema, size, checksum, flagged)


def shard_problem(
    found: dict[str, h5py.Dataset], summary: ShardSummary, expected: int, fingerprint: str
) -> str | None:
    """Compare the datasets of a shard file with its summary, and that with what it should be."""
    problem = summary_problem(summary, expected, fingerprint)
    if problem:
        return problem
    for name, dataset in found.items():
        rows = summary.failed if name.startswith("failure/") else summary.ok
        if len(dataset) != rows:
            return f"{name} has {len(dataset)} rows, not {rows}"
    return None


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


def _content_problem(file: h5py.File) -> str | None:
    """Read everything: a damaged chunk raises. A sample may come only once."""
    for name, dataset in datasets(file).items():
        for chunk in dataset.iter_chunks() if len(dataset) else ():
            # The list of chunks has no checksum: a chunk that is lost there reads as zeros,
            # and a wrong mask turns the checksum off. Reading directly does see them.
            mask, _ = dataset.id.read_direct_chunk(tuple(axis.start for axis in chunk))
            if mask:
                return f"{name} has a chunk without a checksum"
            dataset[chunk]
    samples = np.concatenate([file["sample"][:], file["failure/sample"][:]])
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
