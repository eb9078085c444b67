"""Metrics of a run that were begun and are not done, from the files alone."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from shardcam.engine.errors import ConfigError, RunDirectoryError
from shardcam.engine.run.plan import default_shard_size
from shardcam.engine.rundir.metric_results import MetricManifest, MetricResults, read_summary
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import Manifest


@dataclass(frozen=True)
class Unfinished:
    """A metric with values and without a figure."""

    name: str  # of its folder
    images: int  # of shards that are measured
    asked: int  # images that were to be measured
    command: str  # that goes on
    holder: str | None  # who measures it now

    @property
    def words(self) -> str:
        done = f"{self.name}: {self.images:,} of {self.asked:,} images measured"
        return f"{done} by {self.holder}" if self.holder else f"{done}; resume with {self.command}"


def unfinished_metrics(run_dir: RunDir, manifest: Manifest) -> tuple[Unfinished, ...]:
    """Look for metrics whose `evaluate` was stopped; `verify` tells of damaged ones.

    Raises
    ------
    StoreError
        The run cannot be read now.
    """
    try:
        names = sorted(run_dir.names(run_dir.metrics) - read_summary(run_dir).keys())
    except RunDirectoryError:
        return ()
    return tuple(one for name in names for one in _unfinished(run_dir, manifest, name))


def _unfinished(run_dir: RunDir, run: Manifest, name: str) -> Iterator[Unfinished]:
    with suppress(RunDirectoryError, ConfigError, KeyError, TypeError, ValueError):  # edited
        results = MetricResults(run_dir, name)
        if results.exists:
            metric, listed = results.manifest(), int(run.plan["samples"])
            size = run.plan.get("shard_size") or default_shard_size(listed)
            count, _, of = str(metric.numbers.get("sample") or listed).partition(" of ")
            asked, of_all = int(count), int(of or listed)
            # Sample i of those asked for is at position i * of_all // asked.
            ends = [(n * size, min((n + 1) * size, of_all)) for n in results.folder.shard_numbers()]
            images = sum(_before(e, asked, of_all) - _before(s, asked, of_all) for s, e in ends)
            holder = results.folder.lock_holder()
            yield Unfinished(name, images, asked, _command(run_dir, name, metric), holder)


def _before(position: int, asked: int, of_all: int) -> int:
    """How many of the positions i * of_all // asked are lower."""
    return -(-position * asked // of_all)


def _command(run_dir: RunDir, name: str, metric: MetricManifest) -> str:
    """As `evaluate` was called for it alone."""
    from shardcam.engine.evaluation.metrics_known import known_metric
    from shardcam.engine.evaluation.question import FREE_BASELINES

    numbers = metric.numbers
    words = ["shardcam", "evaluate", str(run_dir.home), "--metrics", metric.metric]
    words += ["--truth", metric.truth] if metric.truth else []
    words += ["--sample", numbers["sample"].split()[0]] if numbers.get("sample") else []
    words += ["--layer", numbers["layer"]] if "@" in name else []
    words += ["--seed", str(numbers["seed"])] if numbers.get("seed") else []
    of_maps = known_metric(metric.metric.partition(":")[0]).kind == "A"
    if of_maps and tuple(beside := numbers.get("baselines", ())) != FREE_BASELINES:
        words += ["--baselines", ",".join(beside) or "none"]
    return shlex.join(words)
