"""Reading the shard files that a run wrote, one by one; :mod:`engine.runs` reads all of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache

import h5py
import numpy as np

from engine.errors import RunDirectoryError, store_error
from engine.store import names, sizes
from engine.streams import Blocks, open_together
from engine.types import Failure, Place, RunPaths, is_shard_name, shard_name

ShardFile = Place | Blocks  # one that is open already
DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError)  # h5py on a damaged file


@dataclass(frozen=True)
class ShardSummary:
    """What a shard file says of itself."""

    shard: int
    listed: int
    ok: int
    failed: int
    fingerprint: str
    schema: int
    bytes: int  # size of the file


def shard_numbers(paths: RunPaths) -> list[int]:
    """Numbers of the shards that are published, in order.

    Raises
    ------
    RunDirectoryError, StoreError
        The run cannot be listed.
    """
    held = filter(is_shard_name, names(paths, paths.shards))
    return sorted(int(name.removeprefix("shard-").removesuffix(".h5")) for name in held)


def open_shards(paths: RunPaths, numbers: Iterable[int]) -> Iterator[tuple[int, ShardFile]]:
    """Shards by their numbers, to be read one after the other in this order.

    Of those at a URL many are opened at once: one after the other, each would wait for the
    server. One that is missing is told of when it is read.
    """
    if paths.url is None:
        yield from ((number, paths.shard(number)) for number in numbers)
        return
    wanted = list(numbers)
    held = sizes(paths, paths.shards) if wanted else {}
    there = [number for number in wanted if shard_name(number) in held]
    opened = open_together({str(paths.shard(n)): held[shard_name(n)] for n in there})
    missing = set(wanted) - set(there)
    for number in wanted:
        yield number, paths.shard(number) if number in missing else next(opened)


def read_shard_summary(path: ShardFile) -> ShardSummary:
    """Read the attributes of a shard file.

    Raises
    ------
    RunDirectoryError
        The file is missing or damaged.
    """
    with reading(path) as file:
        return summarize(file)


def read_failures(path: ShardFile) -> list[Failure]:
    """Read the failures of a shard file, or of a whole run from its index.

    Raises
    ------
    RunDirectoryError
        The file is missing or damaged.
    """
    with reading(path) as file:
        group = file["failure"]
        texts = [group[name].asstr()[:] for name in ("key", "stage", "error", "message")]
        rows = zip(group["sample"][:], *texts, strict=True)
        return [Failure(key, int(i), *rest) for i, key, *rest in rows]


def check_shard(path: ShardFile, expected: int, fingerprint: str, deep: bool = False) -> str | None:
    """Say in one line what is wrong with a shard file, or None if it is good.

    Parameters
    ----------
    expected
        The number of the shard.
    fingerprint
        Of the run it should belong to.
    deep
        Read every byte, so that the checksums speak.
    """
    try:
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

    At a URL only those blocks are fetched that are looked at.
    """
    register_filters()
    blocks = _blocks(path) if isinstance(path, str) else path if isinstance(path, Blocks) else None
    # Raised when nothing holds HDF5's own error any more: it holds the file at the URL, which
    # HDF5 would look for when Python has ended, and crash.
    problem: str | None = None
    try:
        with h5py.File(blocks or path, "r", locking="best-effort") as file:
            yield file
    except FileNotFoundError:
        problem = "missing"
    except DAMAGE as error:
        problem = f"unreadable ({first_line(error)})"
    _require_answered(path, blocks)  # else the file may well be good
    if problem:
        raise RunDirectoryError(f"{path}: {problem}")


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
    """Return the summary of an open shard file; KeyError if it has none."""
    attributes = file.attrs
    if not attributes["complete"]:
        raise ValueError("not complete")
    return ShardSummary(
        shard=int(attributes["shard"]),
        listed=int(attributes["samples_listed"]),
        ok=int(attributes["samples_ok"]),
        failed=int(attributes["samples_failed"]),
        fingerprint=str(attributes["fingerprint"]),
        schema=int(attributes["schema"]),
        bytes=file.id.get_filesize(),
    )


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
        else:
            found |= datasets(item)
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
        return "a sample is in it twice"
    return None


def first_line(error: BaseException) -> str:
    """What an error says, on one line."""
    return str(error.args[-1] if error.args else error).partition("\n")[0]


def mapped_rows(dataset: h5py.Dataset) -> dict[str, int]:
    """Rows that each shard file gives to a virtual dataset."""
    if not dataset.is_virtual:  # nothing to map
        return {}
    return {
        source.file_name: int(source.vspace.get_select_npoints())
        for source in dataset.virtual_sources()
    }
