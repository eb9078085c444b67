"""An index that holds the rows themselves: one file to hand on, with no shards beside it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from shardcam.engine.errors import RunDirectoryError
from shardcam.engine.rundir.codec import codec as codec_of
from shardcam.engine.rundir.column import Column, create_column
from shardcam.engine.rundir.hdf5_reading import reading
from shardcam.engine.rundir.hdf5_sink import StagedFile
from shardcam.engine.rundir.own_datasets import dataset_of
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.schema import FAILURES, DatasetSpec
from shardcam.engine.rundir.shard_file import summarize
from shardcam.engine.rundir.shard_index import Part, describe, read_parts, shards_digest
from shardcam.engine.rundir.staging import fsync_directory

MERGED = "merged_from"  # attribute of such an index: the digest of its shards


def merge_index(
    run_dir: RunDir, codec: str, out: Path | None = None, done: Callable[[], None] = lambda: None
) -> Path:
    """Copy the rows of all published shards, in their order, and return the file's path.

    It has the datasets and attributes of the index and the compression and checksums of the
    shards; chunks are cut as theirs, for all rows. Memory holds a chunk of each dataset and the
    counts of each shard.

    Parameters
    ----------
    codec
        Of the run's shards.
    out
        The file to write, of which the run sees nothing; None: in the place of the run's index.
    done
        Called after each shard.

    Raises
    ------
    RunDirectoryError
        There is no shard, one that is damaged or unlike the others, or no permission to write.
    DiskFull
        No space left.
    """
    specs, parts = read_parts(run_dir)
    if out is None:
        target, staged = run_dir.index, StagedFile(run_dir.staging_path("index"), run_dir.shards)
    else:
        beside = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
        target, staged = out, StagedFile(beside, out.parent)
    with staged.guarded():
        columns = {spec.name: _column(staged, spec, parts, codec) for spec in specs}
        numbers = [part.summary.shard for part in parts]
        for part, (_, shard) in zip(parts, run_dir.open_shards(numbers), strict=True):
            with staged.guarded(), reading(shard) as file:  # a full disk is seen after each
                if summarize(file) != part.summary:
                    raise RunDirectoryError(f"{shard}: was replaced meanwhile; merge again")
                for name, column in columns.items():
                    dataset = dataset_of(file, name)
                    for chunk in dataset.iter_chunks() if len(dataset) else ():
                        rows = dataset[chunk]
                        column.append(rows, len(rows))
            done()
        for column in columns.values():
            column.finish()
        describe(staged.file, parts)
        staged.file.attrs[MERGED] = shards_digest(part.summary for part in parts)
        staged.seal()
        staged.path.replace(target)
        fsync_directory(target.parent)
    if out is None:
        run_dir.put(run_dir.index)
    return target


def _column(staged: StagedFile, spec: DatasetSpec, parts: list[Part], codec: str) -> Column:
    rows = sum(part.rows(spec) for part in parts)
    packed = codec_of("gzip" if spec.name.startswith(FAILURES) else codec)
    create_column(staged.file, spec, rows, rows, packed)
    return Column(staged.file[spec.name], rows, packed)
