"""A finished run, open."""

from __future__ import annotations

from functools import cached_property
from itertools import accumulate
from typing import Any

import h5py

from engine.analysis.rows import Held
from engine.analysis.samples import Samples
from engine.results import mapped_rows, read_failures
from engine.types import Failure, RunPaths


class Run(Samples):
    """All samples of a run. Use it in a ``with`` statement; :func:`engine.open_run` makes it.

    Parameters
    ----------
    index
        Open; the run closes it.
    paths
        The run directory.
    config
        The options of the run.
    shards
        Rows of the index that come from each shard file, in their order.
    """

    def __init__(
        self, index: h5py.File, paths: RunPaths, config: dict[str, Any], shards: dict[str, int]
    ) -> None:
        ends = accumulate(shards.values())
        parts = tuple(
            Held(paths.root / name, end - rows, end)
            for (name, rows), end in zip(shards.items(), ends, strict=True)
        )
        super().__init__(index, parts)
        self.config, self._paths = config, paths

    @property
    def name(self) -> str:
        """Of the run directory."""
        return self._paths.root.resolve().name

    @cached_property
    def failures(self) -> list[Failure]:
        """Every sample that failed, and why."""
        shards = mapped_rows(self._open["failure/sample"])
        return [failure for name in shards for failure in read_failures(self._paths.root / name)]

    def close(self) -> None:
        """Close the files."""
        self._file.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
