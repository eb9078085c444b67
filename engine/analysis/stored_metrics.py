"""What was measured of a run's maps, as columns of its samples."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.errors import ConfigError, RunDirectoryError
from shardcam.engine.rundir.metric_results import MetricResults, read_summary
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.types import F4


class StoredMetrics:
    """The metrics of a run, each read when it is asked for, once.

    Parameters
    ----------
    run_dir
        The run directory.
    """

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self._held: dict[str, tuple[npt.NDArray[np.int64], F4]] = {}

    @cached_property
    def summary(self) -> dict[str, Any]:
        """``metrics/summary.json``."""
        return read_summary(self._run_dir)

    def values(self, name: str, samples: npt.NDArray[Any]) -> F4:
        """(N,) positions in the listing -> (N,K) values, NaN where nothing was measured.

        Raises
        ------
        ConfigError
            The run has no such metric.
        """
        name = name.replace(":", "-")  # as it is asked for, and as its folder is called
        if name not in self.summary:
            known = ", ".join(self.summary) or "none; see shardcam evaluate"
            raise ConfigError(f"no metric {name!r} of this run; those that it has: {known}")
        if name not in self._held:
            self._held[name] = self._read(name)
        held, values = self._held[name]
        if not len(held):
            return np.full((len(samples), values.shape[1]), np.nan, np.float32)
        places = np.minimum(np.searchsorted(held, samples), len(held) - 1)
        found = (held[places] == samples)[:, None]
        return np.where(found, values[places], np.float32(np.nan))

    def _read(self, name: str) -> tuple[npt.NDArray[np.int64], F4]:
        results = MetricResults(self._run_dir, name)
        folder = results.folder
        parts = [
            results.read(path, ("sample", "value"))
            for _, path in folder.open_shards(folder.shard_numbers())
        ]
        if not parts:
            place = folder.place(folder.shards)
            raise RunDirectoryError(f"{place}: missing; shardcam evaluate measures again")
        if len({one["value"].shape[1:] for one in parts}) > 1 or any(
            one["value"].ndim != 2 or one["value"].dtype.kind != "f" for one in parts
        ):
            place = folder.place(folder.shards)
            raise RunDirectoryError(f"{place}: damaged: its values are no table of numbers")
        samples, values = (np.concatenate([one[n] for one in parts]) for n in ("sample", "value"))
        order = np.argsort(samples, kind="stable")
        return samples[order], values[order].astype(np.float32)


def keyword(name: str) -> str:
    """A metric's name as a part of a keyword: ``insertion-torchcam`` -> ``insertion_torchcam``."""
    return re.sub(r"\W", "_", name)
