"""Reading what a run wrote: shard files one by one, or the whole run through its index.

HDF5 answers with fill values, and no error, where a shard of the index is missing
or cannot be opened, as when too many are open.  So :func:`open_run` looks at every shard
before it trusts the index, and takes from that only which rows lie in which shard.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from engine.errors import RunDirectoryError, store_error
from engine.files import Blocks
from engine.manifest import read_manifest
from engine.store import fetch, names
from engine.types import Failure, Place, RunPaths, is_shard_name, shard_name
from engine.writers.codec import CODECS, require

if TYPE_CHECKING:
    from engine.analysis.run import Run

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


def read_shard_summary(path: Place) -> ShardSummary:
    """Read the attributes of a shard file.

    Raises
    ------
    RunDirectoryError
        The file is missing or damaged.
    """
    with reading(path) as file:
        return summarize(file)


def read_failures(path: Place) -> list[Failure]:
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


def check_shard(path: Place, expected: int, fingerprint: str, deep: bool = False) -> str | None:
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
def reading(path: Place) -> Iterator[h5py.File]:
    """Open a file that was written complete; what is wrong with it becomes one line.

    At a URL only those blocks are fetched that are looked at.
    """
    register_filters()
    blocks = _blocks(path) if isinstance(path, str) else None
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


def _require_answered(path: Place, blocks: Blocks | None) -> None:
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


def open_run(root: str | Path) -> Run:
    """Open the results of a run, verified; one at a URL is first copied to a scratch directory.

    Warns if the index was made before the run was complete.

    Raises
    ------
    ConfigError
        Its files need hdf5plugin, which is not installed.
    RunDirectoryError
        There is no index, a shard of it is missing, damaged or of another run, or run.json
        was edited.
    StoreError, DiskFull
        It cannot be copied.
    """
    # Here, because writers import this module.
    from engine.analysis.run import Run
    from engine.scratch import open_paths

    paths = open_paths(root)
    manifest = read_manifest(paths)
    codec = manifest.config.get("codec", "gzip")
    if codec not in CODECS:
        place = paths.place(paths.run_json)
        raise RunDirectoryError(f"{place}: its codec {codec!r} is none of {', '.join(CODECS)}")
    require(codec)
    shards = check_index(paths, manifest.fingerprint)
    planned = manifest.plan["shards"]
    with reading(paths.index) as file:
        rows = mapped_rows(file["sample"])
    if len(shards) != planned:
        place = paths.place(paths.index)
        warnings.warn(f"{place}: {len(shards)} of the run's {planned} shards", stacklevel=2)
    for name in shards if paths.url else ():
        fetch(paths, paths.root / name)
    return Run(RunPaths(paths.root), manifest.config, rows)


def first_rows(paths: RunPaths, columns: Iterable[str], count: int) -> list[tuple[Any, ...]]:
    """The first rows of some columns of a run, from its first shards.

    Raises
    ------
    RunDirectoryError, StoreError
        A shard is missing, damaged or cannot be read.
    """
    rows: list[tuple[Any, ...]] = []
    for number in shard_numbers(paths):
        with reading(paths.shard(number)) as file:
            rows += zip(*(file[name][: count - len(rows)] for name in columns), strict=True)
        if len(rows) >= count:
            break
    return rows


def check_index(paths: RunPaths, fingerprint: str) -> list[str]:
    """Hold the index against the shards it was made of, and return their names.

    Raises
    ------
    RunDirectoryError
        There is no index, a shard of it is missing, damaged or of another run.
    """
    if not fetch(paths, paths.index):
        raise RunDirectoryError(
            f"{paths.home}: no {paths.index.name} in it; the same extract command completes it"
        )
    with reading(paths.index) as file:
        return _verify(file, paths, fingerprint)


def _verify(index: h5py.File, paths: RunPaths, fingerprint: str) -> list[str]:
    place = paths.place(paths.index)
    if index.attrs["fingerprint"] != fingerprint:
        raise RunDirectoryError(f"{place}: of another run than {paths.run_json.name}")
    ok, failed = mapped_rows(index["sample"]), mapped_rows(index["failure/sample"])
    shards = sorted(ok.keys() | failed.keys())
    if (len(shards), sum(ok.values()), sum(failed.values())) != tuple(
        index.attrs[name] for name in ("shards", "samples_ok", "samples_failed")
    ):
        raise RunDirectoryError(f"{place}: its parts do not add up")
    held = {shard_name(number) for number in shard_numbers(paths)}
    for name in shards:
        path = paths.place(paths.root / name)
        if Path(name).name not in held:
            raise RunDirectoryError(f"{path}: missing; its rows of {paths.index.name} are empty")
        summary = read_shard_summary(path)
        if (summary.fingerprint, summary.ok, summary.failed) != (
            fingerprint,
            ok.get(name, 0),
            failed.get(name, 0),
        ):
            raise RunDirectoryError(f"{path}: not the file that {paths.index.name} was made of")
    return shards


def mapped_rows(dataset: h5py.Dataset) -> dict[str, int]:
    """Rows that each shard file gives to a virtual dataset."""
    if not dataset.is_virtual:  # nothing to map
        return {}
    return {
        source.file_name: int(source.vspace.get_select_npoints())
        for source in dataset.virtual_sources()
    }
