"""Metrics of a run that were begun and are not done, from the files alone."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

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
    command: str  # that goes on, with all metrics that one command can
    holder: str | None  # who measures it now


@dataclass
class _Command:
    """One that goes on with several metrics."""

    holder: str | None
    options: dict[str, str | None]  # None: no metric so far goes by it
    metrics: list[str]

    def takes(self, holder: str | None, options: Mapping[str, str | None]) -> bool:
        """Whether it can measure another metric, too."""
        return holder == self.holder and all(
            value is None or self.options[option] in (None, value)
            for option, value in options.items()
        )

    def add(self, metric: str, options: Mapping[str, str | None]) -> None:
        self.metrics.append(metric)
        self.options |= {option: value for option, value in options.items() if value is not None}

    def words(self, run_dir: RunDir) -> str:
        words = ["shardcam", "evaluate", str(run_dir.home), "--metrics", ",".join(self.metrics)]
        given = ((option, value) for option, value in self.options.items() if value)
        return shlex.join([*words, *(word for pair in given for word in pair)])


def unfinished_words(found: Iterable[Unfinished]) -> list[str]:
    """A line for each command that goes on: how far its metrics are."""
    lines, together = [], dict[tuple[str, str | None], list[Unfinished]]()
    for one in found:
        together.setdefault((one.command, one.holder), []).append(one)
    for (command, holder), some in together.items():
        far = ", ".join(f"{one.name}: {one.images:,} of {one.asked:,}" for one in some)
        rest = f" by {holder}" if holder else f"; resume with {command}"
        lines.append(f"{far} images measured{rest}")
    return lines


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
    found = [one for name in names for one in _unfinished(run_dir, manifest, name)]
    commands, of_each = list[_Command](), list[_Command]()
    for one, metric, options in found:
        command = next((c for c in commands if c.takes(one.holder, options)), None)
        if command is None:
            command = _Command(one.holder, dict(options), [])
            commands.append(command)
        command.add(metric, options)
        of_each.append(command)
    return tuple(
        replace(one, command=command.words(run_dir))
        for (one, _, _), command in zip(found, of_each, strict=True)
    )


def _unfinished(
    run_dir: RunDir, run: Manifest, name: str
) -> Iterator[tuple[Unfinished, str, dict[str, str | None]]]:
    """A metric without its command, what it was asked for as, and the options of that."""
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
            options = _options(name, metric)
            yield Unfinished(name, images, asked, "", holder), metric.metric, options


def _before(position: int, asked: int, of_all: int) -> int:
    """How many of the positions i * of_all // asked are lower."""
    return -(-position * asked // of_all)


def _options(name: str, metric: MetricManifest) -> dict[str, str | None]:
    """With which `evaluate` was called, empty by default; None: the metric goes by no such one."""
    from shardcam.engine.evaluation.metrics_known import known_metric
    from shardcam.engine.evaluation.question import FREE_BASELINES

    numbers = metric.numbers
    of_maps = known_metric(metric.metric.partition(":")[0]).kind == "A"
    baselines = tuple(numbers.get("baselines", ()))
    beside = "" if baselines == FREE_BASELINES else ",".join(baselines) or "none"
    return {
        "--truth": metric.truth,
        "--sample": numbers["sample"].split()[0] if numbers.get("sample") else "",
        "--layer": numbers["layer"] if "@" in name else "",
        "--seed": str(numbers["seed"]) if numbers.get("seed") else "",
        "--baselines": beside if of_maps else None,
    }
