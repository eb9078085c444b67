"""A finished run, open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any

import h5py

from shardcam.engine.analysis.samples import Samples
from shardcam.engine.analysis.stored_clusters import StoredClusters
from shardcam.engine.analysis.stored_metrics import StoredMetrics
from shardcam.engine.analysis.stored_rows import ShardRows
from shardcam.engine.rundir.overlays import OverlayStyle
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.schema import Form
from shardcam.engine.rundir.shard_file import ShardSummary, read_failures
from shardcam.engine.types import Failure, shard_name


class Run(Samples):
    """All samples of a run. Use it in a ``with`` statement; `shardcam.open_run` makes it.

    Parameters
    ----------
    index
        Open; the run closes it.
    run_dir
        The run directory.
    config
        The options of the run.
    shards
        What each of its shards says of itself, in the order of the index's rows.
    forms
        The shapes and types of its datasets.
    """

    def __init__(
        self,
        index: h5py.File,
        run_dir: RunDir,
        config: dict[str, Any],
        shards: Sequence[ShardSummary],
        forms: Mapping[str, Form],
    ) -> None:
        ends = accumulate(shard.ok for shard in shards)
        parts = tuple(
            ShardRows(run_dir.shards / shard_name(shard.shard), end - shard.ok, end)
            for shard, end in zip(shards, ends, strict=True)
        )
        style = OverlayStyle(colormap=config.get("colormap", "jet"), alpha=config.get("alpha", 0.5))
        super().__init__(
            index,
            parts,
            None,
            style,
            forms,
            metrics=StoredMetrics(run_dir),
            clusters=StoredClusters(run_dir),
        )
        self.config, self._run_dir, self._shards = config, run_dir, shards

    @property
    def name(self) -> str:
        """The last part of the run directory's path."""
        return self._run_dir.name

    @cached_property
    def failures(self) -> list[Failure]:
        """Every sample that failed, and why."""
        failing = [shard.shard for shard in self._shards if shard.failed]
        return [one for number in failing for one in read_failures(self._run_dir.shard(number))]

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
