"""Reading the shard files of a run, one by one; :mod:`engine.analysis.open_run` reads it whole."""

from __future__ import annotations

import errno
import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import h5py
import numpy as np

from shardcam.engine.errors import RunDirectoryError, ShardcamError, StoreError, store_error
from shardcam.engine.io.remote_file import Blocks
from shardcam.engine.rundir.run_dir import ShardFile
from shardcam.engine.rundir.user_block import checksum_problem
from shardcam.engine.types import Failure

_FILTERS = {"zstd": 32015, "lz4": 32004}  # that HDF5 has from hdf5plugin
_SYSTEM_ERROR = re.compile(r"errno = (\d+), error message")  # as HDF5 reports it


class _Unsound(Exception):
    """A file that HDF5 can read, but whose contents are wrong."""


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
            raise _Unsound("columns of different lengths in failure")
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
            path = _blocks(path) if isinstance(path, str) else path
            problem = _checksum_problem(path)
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


@cache
def register_filters() -> None:
    """Make HDF5 know zstd and lz4, if they are installed; other codecs need nothing."""
    with suppress(ImportError):
        import hdf5plugin  # noqa: F401


@contextmanager
def reading(path: ShardFile) -> Iterator[h5py.File]:
    """Open a file that was written complete; what is wrong with it becomes one line.

    At a URL only the blocks that are read are fetched.

    Raises
    ------
    RunDirectoryError
        The file is missing or damaged.
    StoreError
        It cannot be read now: the operating system or the server refuses, or a codec of it is
        not installed.
    """
    register_filters()
    blocks = _blocks(path) if isinstance(path, str) else path if isinstance(path, Blocks) else None
    # Raised when nothing holds HDF5's own error any more: it holds the file at the URL, which
    # HDF5 would look for when Python has ended, and crash.
    problem: Exception | None = None
    try:
        with h5py.File(blocks or path, "r", locking="best-effort") as file:
            try:
                yield file
            except Exception as error:
                problem = reading_problem(path, error, file) or error
    except Exception as error:
        problem = problem or reading_problem(path, error) or error
    _require_answered(path, blocks)  # else the file may well be good
    if problem:
        raise problem


def reading_problem(
    place: object, error: Exception, file: h5py.File | None = None
) -> ShardcamError | None:
    """The message for an exception of HDF5 while it read a file; None for others, which are bugs.

    Damage is what HDF5 calls damage. Where the operating system did not let it read, or it
    lacks a codec, the file may well be good.

    Parameters
    ----------
    place
        What to call the file.
    file
        The file, if it could be opened.
    """
    if isinstance(error, _Unsound):
        return RunDirectoryError(f"{place}: unreadable ({error})")
    if isinstance(error, ShardcamError) or not _is_of_h5py(error):
        return None
    number = _system_error(error)
    if number:
        return _system_problem(place, number)
    lacking = _missing_filter(file) if file else None
    if lacking:
        return StoreError(f"{place}: cannot be read here: {_remedy(lacking)}")
    return RunDirectoryError(f"{place}: unreadable ({first_line(error)})")


def _system_problem(place: object, number: int) -> ShardcamError:
    """The message for an error of the operating system."""
    if number == errno.ENOENT:
        return RunDirectoryError(f"{place}: missing")
    return StoreError(f"{place}: cannot be read now: {os.strerror(number)}")


def _is_of_h5py(error: Exception) -> bool:
    """Whether h5py raised it, not we nor a signal handler that came while h5py was at work."""
    *_, (innermost, _) = traceback.walk_tb(error.__traceback__)
    return str(innermost.f_globals.get("__name__")).startswith("h5py")


def _system_error(error: Exception) -> int | None:
    """The operating system's number; h5py has it as an attribute only when it opens a file."""
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    found = _SYSTEM_ERROR.search(str(error))
    return int(found[1]) if found else getattr(error, "errno", None)


def require_filter(place: object, codec: str) -> None:
    """Make sure that HDF5 can read chunks of a codec.

    Raises
    ------
    StoreError
        It cannot: `place` names the file or the run.
    """
    register_filters()
    number = _FILTERS.get(codec)
    if number and not h5py.h5z.filter_avail(number):
        raise StoreError(f"{place}: cannot be read here: {_remedy(number)}")


def _missing_filter(file: h5py.File) -> int | None:
    """A filter that a file was written with and HDF5 does not have here."""
    with suppress(Exception):  # the file is damaged all the more
        for dataset in datasets(file).values():
            created = dataset.id.get_create_plist()
            for place in range(created.get_nfilters()):
                number = int(created.get_filter(place)[0])
                if not h5py.h5z.filter_avail(number):
                    return number
    return None


def _remedy(number: int) -> str:
    """What to install for a filter."""
    for codec, known in _FILTERS.items():
        if number == known:
            return f"it is packed with {codec}, which needs hdf5plugin: pip install hdf5plugin"
    return f"it is packed with HDF5's filter {number}, which is not installed"


def _checksum_problem(path: Path | Blocks) -> str | None:
    """Read a file whole and compare it with its checksum."""
    try:
        with nullcontext(path) if isinstance(path, Blocks) else path.open("rb", 0) as stream:
            problem = checksum_problem(stream)
    except OSError as error:
        raise _system_problem(path, error.errno or errno.EIO) from error
    _require_answered(path, path if isinstance(path, Blocks) else None)
    return problem


def _blocks(url: str) -> Blocks:
    try:
        return Blocks(url)
    except FileNotFoundError as error:
        raise RunDirectoryError(f"{url}: missing") from error
    except OSError as error:
        raise store_error(error, url, "read") from error


def _require_answered(path: ShardFile, blocks: Blocks | None) -> None:
    """Raise what the server or a signal had to say while HDF5 was reading."""
    error = blocks.error if blocks else None
    if isinstance(error, OSError):
        raise store_error(error, str(path), "read") from error
    if error is not None:
        raise error


def summarize(file: h5py.File) -> ShardSummary:
    """Return the summary of a shard file that is open in :func:`reading`."""
    attributes = file.attrs
    if not attributes["complete"]:
        raise _Unsound("not complete")
    names = ("shard", "samples_listed", "samples_ok", "samples_failed", "schema")
    found = [attributes[name] for name in names]
    if not all(isinstance(value, np.integer) for value in found):
        raise _Unsound(f"an attribute that is not a number among {', '.join(names)}")
    shard, listed, ok, failed, schema = map(int, found)
    fingerprint, size = str(attributes["fingerprint"]), file.id.get_filesize()
    checksum = file.userblock_size > 0
    return ShardSummary(shard, listed, ok, failed, fingerprint, schema, size, checksum)


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


def datasets(group: h5py.Group) -> dict[str, h5py.Dataset]:
    """Return every dataset of a file by its full name, in the order they were made."""
    found: dict[str, h5py.Dataset] = {}
    for name in group:
        item = group[name]  # values() would give None for a damaged one
        if isinstance(item, h5py.Dataset):
            found[item.name[1:]] = item
        elif isinstance(item, h5py.Group):
            found |= datasets(item)
        else:
            raise _Unsound(f"{name} is neither a dataset nor a group")
    return found


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


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return str(error.args[-1] if error.args else error).partition("\n")[0]


def mapped_rows(dataset: h5py.Dataset) -> dict[str, int]:
    """Rows that each shard file gives to a virtual dataset."""
    if not dataset.is_virtual:  # nothing to map
        return {}
    return {
        source.file_name: int(source.vspace.get_select_npoints())
        for source in dataset.virtual_sources()
    }
