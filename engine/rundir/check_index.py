"""Whether the index of a run is of the shards that are there."""

from __future__ import annotations

import h5py
import numpy as np

from shardcam.engine.errors import RunDirectoryError
from shardcam.engine.rundir.hdf5_reading import reading
from shardcam.engine.rundir.merged_index import MERGED
from shardcam.engine.rundir.own_datasets import Unsound, dataset_of, datasets, foreign_file
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import Manifest, read_manifest
from shardcam.engine.rundir.shard_file import (
    ShardSummary,
    file_problem,
    mapped_rows,
    read_shard_summary,
)
from shardcam.engine.rundir.shard_index import shards_digest
from shardcam.engine.types import counted, shard_name

_Rows = dict[str, int]  # by the shard file that they are in


def check_index(run_dir: RunDir, fingerprint: str, deep: bool = False) -> list[ShardSummary]:
    """Hold the index against the shards it was made of; what they say, in the order of its rows.

    One that was merged must be of the very shards that are there.

    Parameters
    ----------
    fingerprint
        Of the run.
    deep
        Compare the index with its file checksum too, if it has one.

    Raises
    ------
    RunDirectoryError
        There is no index, a shard of it is missing, damaged or of another run.
    """
    if not run_dir.fetch(run_dir.index):
        planned = read_manifest(run_dir).plan["shards"]
        require_shards(run_dir, sum(one < planned for one in run_dir.shard_numbers()), planned)
        raise RunDirectoryError(
            f"{run_dir.home}: every shard is done, but not their index: "
            f"shardcam index {run_dir.home} writes it"
        )
    try:
        if deep and (problem := file_problem(run_dir.index)):
            raise RunDirectoryError(f"{run_dir.place(run_dir.index)}: {problem}")
        with reading(run_dir.index) as file:
            index = _read(file, run_dir, fingerprint)
    except RunDirectoryError as error:
        raise RunDirectoryError(f"{error}; shardcam index {run_dir.home} rebuilds it") from error
    return (
        _merged(index, run_dir) if isinstance(index, str) else _mapped(*index, run_dir, fingerprint)
    )


def complete_shards(run_dir: RunDir, manifest: Manifest) -> list[ShardSummary]:
    """What `check_index` returns, of a run that has all its shards.

    Raises
    ------
    RunDirectoryError
        It does not, or as `check_index`.
    """
    shards = check_index(run_dir, manifest.fingerprint)
    require_shards(run_dir, len(shards), manifest.plan["shards"])
    return shards


def require_shards(run_dir: RunDir, done: int, planned: int) -> None:
    """Refuse a run with fewer shards than planned.

    Raises
    ------
    RunDirectoryError
        The message says how many are done, and what completes the run.
    """
    if done < planned:
        raise RunDirectoryError(
            f"{run_dir.home}: {done} of {counted(planned, 'shard')} are done; "
            "the same extract command completes it"
        )


def _read(index: h5py.File, run_dir: RunDir, fingerprint: str) -> str | tuple[_Rows, _Rows]:
    """The digest of the shards of a merged index; of another one, which rows are in which."""
    place = run_dir.place(run_dir.index)
    if str(index.attrs["fingerprint"]) != fingerprint:
        raise RunDirectoryError(f"{place}: belongs to another run than {run_dir.run_json.name}")
    if MERGED in index.attrs:
        return str(index.attrs[MERGED])
    names = ("sample", "failure/sample")
    ok, failed = (mapped_rows(dataset_of(index, name, virtual=True)) for name in names)
    counts = len(ok.keys() | failed.keys()), sum(ok.values()), sum(failed.values())
    stored = [index.attrs[name] for name in ("shards", "samples_ok", "samples_failed")]
    numbers = tuple(int(one) if isinstance(one, np.integer) else None for one in stored)
    if counts != numbers:
        raise RunDirectoryError(f"{place}: its parts do not add up")
    return ok, failed


def require_own_rows(run_dir: RunDir) -> None:
    """Refuse an index that takes rows from other files than the run's shards.

    `open_run` reads the shards themselves, but plain h5py shows what the index names.

    Raises
    ------
    RunDirectoryError
        The message names the first of them.
    """
    try:
        with reading(run_dir.index) as file:
            for name, dataset in datasets(file, virtual=True).items():
                if elsewhere := foreign_file(dataset):
                    raise Unsound(f"{name} takes rows from {elsewhere}, which is no shard of it")
    except RunDirectoryError as error:
        raise RunDirectoryError(f"{error}; shardcam index {run_dir.home} rebuilds it") from error


def _merged(digest: str, run_dir: RunDir) -> list[ShardSummary]:
    every = run_dir.open_shards(run_dir.shard_numbers())
    summaries = [read_shard_summary(shard) for _, shard in every]
    if shards_digest(summaries) != digest:
        raise RunDirectoryError(
            f"{run_dir.place(run_dir.index)}: merged from other shards than the run's; "
            f"shardcam index {run_dir.home} rebuilds it"
        )
    return summaries


def _mapped(ok: _Rows, failed: _Rows, run_dir: RunDir, fingerprint: str) -> list[ShardSummary]:
    shards = sorted(ok.keys() | failed.keys(), key=lambda name: (len(name), name))
    held = {
        f"{run_dir.shards.name}/{shard_name(number)}": number for number in run_dir.shard_numbers()
    }
    for name in shards:
        if name not in held:
            path = run_dir.place(run_dir.root / name)
            raise RunDirectoryError(
                f"{path}: missing; its rows of {run_dir.index.name} are empty; the same "
                "extract command computes it again, shardcam index leaves its rows out"
            )
    numbers, summaries = [held[name] for name in shards], []
    for name, (number, shard) in zip(shards, run_dir.open_shards(numbers), strict=True):
        summary = read_shard_summary(shard)
        if (summary.fingerprint, summary.ok, summary.failed) != (
            fingerprint,
            ok.get(name, 0),
            failed.get(name, 0),
        ):
            raise RunDirectoryError(
                f"{run_dir.shard(number)}: not the file that {run_dir.index.name} was made of"
            )
        summaries.append(summary)
    return summaries
