"""One file that shows all shards of a run as if they were one, without a copy.

The index is made from the shard files alone, at any time.  It names them relative
to itself, so a run directory can be moved.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

import h5py
import numpy as np

from shardcam.engine.errors import RunDirectoryError
from shardcam.engine.rundir.account import Account
from shardcam.engine.rundir.column import hdf5_dtype, parent_group
from shardcam.engine.rundir.hdf5_reading import reading
from shardcam.engine.rundir.hdf5_sink import StagedFile
from shardcam.engine.rundir.own_datasets import Unsound, datasets
from shardcam.engine.rundir.run_dir import RunDir, ShardFile
from shardcam.engine.rundir.schema import CELLS, FAILURES, DatasetSpec, Form
from shardcam.engine.rundir.shard_file import (
    ShardSummary,
    forms_of,
    read_shard_summary,
    shard_problem,
    summarize,
)
from shardcam.engine.rundir.staging import fsync_directory
from shardcam.engine.types import Copies, shard_name

_Forms = dict[str, Form]

# What a row of a missing shard shows; no good row has it. Texts are empty.
_SENTINELS = {"i": -9, "u": 255, "f": np.nan}


@dataclass(frozen=True)
class Part:
    """A shard file and what it adds to the index."""

    source: str  # its name relative to the index
    summary: ShardSummary
    cells: dict[str, int]  # rows of the datasets that have one for each cell of a map

    def rows(self, spec: DatasetSpec) -> int:
        if spec.name in self.cells:
            return self.cells[spec.name]
        return self.summary.failed if spec.name.startswith(FAILURES) else self.summary.ok


def build_index(run_dir: RunDir) -> Path:
    """Write the index over all published shards, in their order, and return its path.

    Raises
    ------
    RunDirectoryError
        There is no shard, or one that is damaged or unlike the others.
    DiskFull
        No space left.
    """
    specs, parts = read_parts(run_dir)
    staged = StagedFile(run_dir.staging_path("index"), run_dir.shards)
    with staged.guarded():
        _fill(staged.file, specs, parts)
        staged.seal()
        staged.path.replace(run_dir.index)
        fsync_directory(run_dir.root)
    run_dir.put(run_dir.index)
    return run_dir.index


def index_in_memory(run_dir: RunDir) -> tuple[h5py.File, list[ShardSummary], _Forms]:
    """The same index, open and in memory only: for readers of a run.

    With what the shards say of themselves, in its order, and the forms of its datasets.

    Raises
    ------
    RunDirectoryError
        There is no shard, or one that is damaged or unlike the others.
    """
    specs, parts = read_parts(run_dir)
    file = h5py.File(run_dir.shards, "w", driver="core", backing_store=False, track_order=True)
    _fill(file, specs, parts)
    forms = {spec.name: (spec.row_shape, np.dtype(spec.dtype)) for spec in specs}
    return file, [part.summary for part in parts], forms


def read_parts(run_dir: RunDir) -> tuple[tuple[DatasetSpec, ...], list[Part]]:
    """Look at every published shard: the datasets they have, and what each adds to them.

    Raises
    ------
    RunDirectoryError
        There is no shard, or one that is damaged or unlike the others.
    """
    numbers = run_dir.shard_numbers()
    if not numbers:
        raise RunDirectoryError(f"{run_dir.place(run_dir.shards)}: no shard in it yet")
    first = run_dir.shard(numbers[0])
    fingerprint = read_shard_summary(first).fingerprint
    specs = _read_specs(first)
    forms = {spec.name: (spec.row_shape, np.dtype(spec.dtype)) for spec in specs}
    widest = {name: dtype for name, (_, dtype) in forms.items()}
    parts: list[Part] = []
    for number, shard in run_dir.open_shards(numbers):
        part, found = _read_part(number, shard, fingerprint)
        if found != forms:
            if _any_width(found) != _any_width(forms):
                raise RunDirectoryError(
                    f"{shard}: its datasets differ from those of {shard_name(numbers[0])}"
                )
            for name, (_, dtype) in found.items():
                widest[name] = max(widest[name], dtype, key=attrgetter("itemsize"))
        parts.append(part)
    return tuple(replace(spec, dtype=widest[spec.name].str) for spec in specs), parts


def _any_width(forms: _Forms) -> _Forms:
    """Without the lengths of texts: a run that grew may have longer keys."""
    text = np.dtype("S")
    return {
        name: (shape, text if dtype.kind == "S" else dtype)
        for name, (shape, dtype) in forms.items()
    }


def _fill(file: h5py.File, specs: tuple[DatasetSpec, ...], parts: list[Part]) -> None:
    for spec in specs:
        _map(file, spec, parts)
    describe(file, parts)


def _read_specs(path: ShardFile) -> tuple[DatasetSpec, ...]:
    with reading(path) as file:
        return tuple(
            DatasetSpec(
                name,
                data.shape[1:],
                data.dtype.str,
                data.attrs["axes"],
                data.attrs["unit"],
                copies_of(data) if CELLS.fullmatch(name) else None,
            )
            for name, data in datasets(file).items()
        )


def copies_of(cells: h5py.Dataset) -> Copies:
    """What the maps of a run at native sizes are of, as the dataset of their cells says."""
    scales, flip = np.asarray(cells.attrs["scales"]), cells.attrs["flip"]
    if scales.ndim != 1 or not scales.size or scales.dtype.kind != "f":
        raise Unsound(f"{cells.name[1:]} does not say of which scales it is")
    return Copies(tuple(scales.tolist()), bool(flip))


def _read_part(number: int, shard: ShardFile, fingerprint: str) -> tuple[Part, _Forms]:
    """Check one shard, in one pass over its datasets: there may be tens of thousands of shards."""
    with reading(shard) as file:
        summary, found = summarize(file), datasets(file)
        problem = shard_problem(found, summary, number, fingerprint)
        forms = forms_of(found)
        cells = {name: len(data) for name, data in found.items() if CELLS.fullmatch(name)}
    if problem:
        raise RunDirectoryError(f"{shard}: {problem}")
    return Part(f"shards/{shard_name(number)}", summary, cells), forms


def _map(file: h5py.File, spec: DatasetSpec, parts: list[Part]) -> None:
    """Create one dataset of the index out of the rows that each shard has."""
    dtype = hdf5_dtype(np.dtype(spec.dtype))
    total = sum(part.rows(spec) for part in parts)
    layout = h5py.VirtualLayout((total, *spec.row_shape), dtype)
    source = spec.name.replace("%", "%%")  # HDF5 takes a single one for a format
    start = 0
    for part in parts:
        rows = part.rows(spec)
        if rows:
            shape = (rows, *spec.row_shape)
            layout[start : start + rows] = h5py.VirtualSource(
                part.source, source, shape=shape, dtype=dtype
            )
            start += rows
    dataset = parent_group(file, spec.name).create_virtual_dataset(
        spec.name.rpartition("/")[2], layout, _SENTINELS.get(dtype.kind)
    )
    dataset.attrs.update(spec.attributes)


def shards_digest(summaries: Iterable[ShardSummary]) -> str:
    """SHA-256 of which shards they are, of their run, rows and sizes."""
    facts = [(one.shard, one.fingerprint, one.ok, one.failed, one.bytes) for one in summaries]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def describe(file: h5py.File, parts: list[Part]) -> None:
    summaries = [part.summary for part in parts]
    file.attrs["schema"] = summaries[0].schema
    file.attrs["fingerprint"] = summaries[0].fingerprint
    account = Account.of(summaries)
    file.attrs["shards"] = account.shards
    file.attrs["samples_listed"] = account.listed
    file.attrs["samples_ok"] = account.ok
    file.attrs["samples_failed"] = account.failed
    # A shard missing at the end cannot be seen from the shards alone.
    numbers = [summary.shard for summary in summaries]
    file.attrs["complete"] = numbers == list(range(len(numbers)))
