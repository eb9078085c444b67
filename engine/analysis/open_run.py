"""A whole run, through its index.

HDF5 answers with fill values, and no error, where a shard of the index is missing
or cannot be opened, as when too many are open.  So `open_run` looks at every shard
before it trusts the index, and takes from that only which rows are in which shard: rows are
read from the shards, one open at a time.  For plain h5py in the same process it raises the
limit of open files as far as it may.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py

from shardcam.engine.analysis.finished_run import Run
from shardcam.engine.errors import RunDirectoryError
from shardcam.engine.rundir.check_index import check_index
from shardcam.engine.rundir.codec import CODECS
from shardcam.engine.rundir.hdf5_reading import reading, require_filter
from shardcam.engine.rundir.listing import LONGEST_KEY
from shardcam.engine.rundir.open_files import allow_open_files
from shardcam.engine.rundir.own_datasets import Unsound, dataset_of, datasets
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import Manifest, read_manifest
from shardcam.engine.rundir.schema import Form
from shardcam.engine.rundir.schema_checks import forms_problem
from shardcam.engine.rundir.shard_file import ShardSummary, forms_of
from shardcam.engine.rundir.shard_index import index_in_memory
from shardcam.engine.types import counted, shard_name


def open_run(root: str | Path) -> Run:
    """Open the results of a run, verified; one at a URL is first copied to a scratch directory.

    Warns if the index was made before the run was complete.

    Raises
    ------
    RunDirectoryError
        There is no index, a shard of it is missing, damaged or of another run, or run.json
        was edited.
    StoreError, DiskFull
        It cannot be copied or read now, or its files need hdf5plugin, which is not installed.
    """
    run_dir = RunDir.open(root)
    manifest = read_manifest(run_dir)
    require_codec(run_dir, manifest)
    shards = check_index(run_dir, manifest.fingerprint)
    planned = manifest.plan["shards"]
    if len(shards) != planned:
        place = run_dir.place(run_dir.index)
        warnings.warn(
            f"{place}: {len(shards)} of the run's {counted(planned, 'shard')}", stacklevel=2
        )
    run_dir.fetch_all([run_dir.shards / shard_name(summary.shard) for summary in shards])
    allow_open_files(len(shards))
    here = run_dir.here()
    forms = _read_forms(here, shards)
    index = h5py.File(here.index, "r", locking="best-effort")
    return Run(index, here, manifest.config, shards, forms)


def open_so_far(run_dir: RunDir) -> Run:
    """Open a run as far as it is, from its shards alone; the run directory is only read.

    The shards of one at a URL are first copied to a scratch directory.

    Raises
    ------
    RunDirectoryError
        No shard is done, one is damaged or unlike the others, or run.json was edited.
    StoreError
        A shard cannot be read now, or its codec is not installed.
    """
    manifest = read_manifest(run_dir)
    require_codec(run_dir, manifest)
    index, shards, forms = index_in_memory(run_dir)
    run_dir.fetch_all([run_dir.shards / shard_name(summary.shard) for summary in shards])
    return Run(index, run_dir.here(), manifest.config, shards, forms)


def _read_forms(run_dir: RunDir, shards: Sequence[ShardSummary]) -> dict[str, Form]:
    """The shapes and types of a run's datasets, as its first shard has them.

    The length of keys is that of the index: if the run grew, others may be longer.
    """
    with reading(run_dir.index) as index:
        key = dataset_of(index, "key", virtual=True).dtype
        if key.itemsize > LONGEST_KEY:
            raise Unsound(f"keys of {key.itemsize} bytes")
    with reading(run_dir.shard(shards[0].shard)) as file:
        forms = forms_of(datasets(file))
        if problem := forms_problem(forms):
            raise Unsound(problem)
        return forms | {"key": ((), key)}


def require_codec(run_dir: RunDir, manifest: Manifest) -> str:
    """The codec of a run, whose rows HDF5 can read here.

    Raises
    ------
    RunDirectoryError
        run.json was edited.
    StoreError
        Its codec is not installed.
    """
    codec: str = manifest.config.get("codec", "gzip")
    if codec not in CODECS:
        place = run_dir.place(run_dir.run_json)
        raise RunDirectoryError(f"{place}: its codec {codec!r} is not one of {', '.join(CODECS)}")
    require_filter(run_dir.home, codec)
    return codec


def first_rows(run_dir: RunDir, columns: Iterable[str], count: int) -> list[tuple[Any, ...]]:
    """The first rows of some columns of a run, from its first shards.

    Raises
    ------
    RunDirectoryError, StoreError
        A shard is missing, damaged or cannot be read.
    """
    rows: list[tuple[Any, ...]] = []
    for number in run_dir.shard_numbers():
        with reading(run_dir.shard(number)) as file:
            found = (dataset_of(file, name)[: count - len(rows)] for name in columns)
            rows += zip(*found, strict=True)
        if len(rows) >= count:
            break
    return rows
