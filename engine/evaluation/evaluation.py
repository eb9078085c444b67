"""Metrics of a run as one call: what ``shardcam evaluate`` and a notebook do alike."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike, fspath
from typing import Any

import numpy as np

from shardcam.engine.analysis.open_run import open_run, require_codec
from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError
from shardcam.engine.evaluation.baselines import EDGES
from shardcam.engine.evaluation.build_evaluator import EvaluatorSpec, build_evaluator
from shardcam.engine.evaluation.measure_shard import (
    Wanted,
    of_shard,
    sampled,
)
from shardcam.engine.evaluation.metric import PassMetric, Reason
from shardcam.engine.evaluation.precision_agreement import (
    agreement_details,
    agreement_note,
    measured_agreement,
)
from shardcam.engine.evaluation.question import (
    FREE_BASELINES,
    Question,
    baselines_of,
    require_known,
    wanted_metrics,
)
from shardcam.engine.evaluation.summary import Result, forget, summarise, write_summary
from shardcam.engine.protocols import Observer
from shardcam.engine.run.build_executor import driver_threads, executor_of
from shardcam.engine.run.driver import logged
from shardcam.engine.run.executor_choice import AUTO, chosen_early, chosen_for_metrics
from shardcam.engine.run.option_conflicts import require_possible
from shardcam.engine.run.plan import Plan, make_plan
from shardcam.engine.run.prepare import prepare
from shardcam.engine.run.python_words import names_keywords
from shardcam.engine.run.stored_options import stored_config
from shardcam.engine.rundir.check_index import complete_shards
from shardcam.engine.rundir.events import (
    RunOpened,
    ignore,
)
from shardcam.engine.rundir.hdf5_reading import reading
from shardcam.engine.rundir.metric_results import MetricResults
from shardcam.engine.rundir.own_datasets import datasets
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import Manifest, read_manifest
from shardcam.engine.rundir.schema import layer_path
from shardcam.engine.rundir.shard_file import ShardSummary
from shardcam.engine.truths.run_truth import stored_listing, truth_of_run
from shardcam.engine.truths.truth import Truth
from shardcam.engine.types import I8, Note, Shard
from shardcam.engine.workers.threads import limit_threads


@dataclass(frozen=True)
class Evaluated:
    """The outcome of `evaluate`."""

    results: dict[str, Result]  # by the name of the metric's folder
    images: int  # that were asked for
    without_maps: int  # of them, those that failed in the run
    shards_done_now: int
    notes: tuple[Note, ...]


@names_keywords
def evaluate(
    run: str | PathLike[str],
    metrics: str | Sequence[str],
    *,
    truth: str | PathLike[str] | None = None,
    sample: int | None = None,
    layer: str | None = None,
    baselines: str | Sequence[str] = FREE_BASELINES,
    seed: int = 0,
    replace: bool = False,
    retry: bool = False,
    on_event: Observer = ignore,
    **place: Any,
) -> Evaluated:
    """Measure how good the maps of a complete run are.

    Each value goes to a file beside the run, shard by shard, and becomes a column of its table.
    What is measured already is not measured again; what was stopped is resumed.

    Parameters
    ----------
    run
        The run directory, or its URL.
    metrics
        A name or several, with a convention where another than the default is meant:
        ``"insertion"``, ``"insertion:torchcam"``.
    truth
        Where the objects are; see `engine.truths.read_truth`.
    sample
        Measure only so many images, evenly over the listing: the same for every run of it.
    layer
        Whose maps; by default those of the run's first layer.
    baselines
        Maps of no network that are measured beside the run's: centre, uniform, random.
    seed
        Of whatever is drawn.
    replace
        Forget values that were measured in another way under the same name, and damaged ones.
    retry
        Measure the shards again in which a picture could not be read.
    on_event
        Is called with each event, one of `shardcam.events`.
    place
        Where it is computed, as for `extract`: ``executor="local"``, ``workers=4``.

    Raises
    ------
    ConfigError
        An option that cannot be used.
    RunDirectoryError
        The run is not complete, or damaged.
    """
    names, beside = ((one,) if isinstance(one, str) else tuple(one) for one in (metrics, baselines))
    place_of_truth = fspath(truth) if truth is not None else None
    asked = Question(names, place_of_truth, sample, layer, beside, seed, replace, retry)
    manifest = read_manifest(RunDir.open(fspath(run)))
    config = stored_config(fspath(run), manifest.config)
    return run_evaluation(
        RunConfig.of(**config.model_dump() | {"out": fspath(run)} | place), asked, on_event
    )


def run_evaluation(
    config: RunConfig, asked: Question, on_event: Observer = ignore, may_exit: bool = False
) -> Evaluated:
    """Do as `evaluate`, with the options of a run and where it is computed.

    `may_exit`: see `engine.run.build_executor.executor_of`.
    """
    run_dir = RunDir.open(config.out)
    manifest = read_manifest(run_dir)
    require_codec(run_dir, manifest)
    require_possible(chosen_early(config), passes=False)
    sources = {one.shard: one for one in complete_shards(run_dir, manifest)}
    layer, chosen = _layer_of(run_dir, sources, asked.layer)
    plan = make_plan(stored_listing(run_dir), manifest.plan.get("shard_size"))
    asked = replace(asked, metrics=tuple(dict.fromkeys(asked.metrics)))
    if asked.sample is not None and asked.sample >= plan.listed:
        asked = replace(asked, sample=None)
    truth = _truth(run_dir, config, asked.truth) if asked.truth is not None else None
    wanted, manifests = wanted_metrics(asked, manifest, plan.listed, layer, chosen, truth)
    positions = sampled(plan.listed, asked.sample) if asked.sample is not None else None
    if truth is not None:
        require_known(truth, asked, wanted, plan, positions)
    every = [MetricResults(run_dir, one.folder) for one in wanted]
    passes = _needs_pictures(asked, wanted)
    named = config.executor != AUTO
    config = chosen_for_metrics(config, asked.sample or plan.listed, passes)
    limit_threads(driver_threads(config))
    worker = prepare(config, on_event).worker if passes else None
    with ExitStack() as stack:
        died = False
        for results in every:
            results.make()
            died |= stack.enter_context(results.folder.lock())
        for results, one in zip(every, manifests, strict=True):
            results.begin(one, asked.replace)
            results.folder.clean_staging()
        spec = EvaluatorSpec(
            run=str(run_dir.home),
            layer=layer,
            view_size=_view_size(manifest),
            wanted=tuple((one.folder, one.fingerprint) for one in wanted),
            metrics=asked.metrics,
            asked=asked,
            truth=truth,
            worker=worker,
        )
        todo = _todo(plan, every, wanted, sources, positions, asked)
        images = plan.listed if positions is None else len(positions)
        left = sum(len(shard.samples) for shard in todo)
        shards = plan.shards if positions is None else len(_shards_of(plan, positions))
        on_event(RunOpened(shards, shards - len(todo), images, images - left))
        apart = died or (passes and not named)
        if todo:
            forget(run_dir, [one.folder for one in wanted])
            executor = executor_of(config, partial(build_evaluator, spec), may_exit, apart)
            home = RunDir.open(f"{run_dir.home}/metrics")
            with logged(home, plan, len(todo), on_event) as observe:
                for _ in executor.run(todo, observe):
                    pass
        found = {
            one.folder: summarise(run_dir, results, one.metric, baselines_of(one.metric, asked))
            for one, results in zip(wanted, every, strict=True)
        }
        agreement = measured_agreement(
            config, spec, every, plan, positions, on_event, may_exit, apart
        )
    for folder, measured in agreement.items():
        details = agreement_details(config.precision, measured)
        found[folder] = found[folder].with_details(agreement=details)
    write_summary(run_dir, found)
    without = images - max(one.images for one in found.values())
    notes = [*truth.notes()] if truth else []
    if agreement:
        notes.append(agreement_note(config.precision, agreement.values()))
    return Evaluated(found, images, without, len(todo), tuple(notes))


def _layer_of(
    run_dir: RunDir, sources: dict[int, ShardSummary], asked: str | None
) -> tuple[str, bool]:
    """A layer as datasets name it, and whether it is another than the first."""
    with reading(run_dir.shard(min(sources))) as file:
        parts = [name.split("/") for name in datasets(file)]
    layers = list(dict.fromkeys(part[1] for part in parts if part[0] == "cam"))
    if not layers:
        raise ConfigError(f"{run_dir.home}: has no maps; extract with --save maps")
    layer = layers[0] if asked is None else layer_path(asked)
    if layer not in layers:
        raise ConfigError(f"--layer {asked}: no maps of it; layers with maps: {', '.join(layers)}")
    return layer, layer != layers[0]


def _truth(run_dir: RunDir, config: RunConfig, source: str) -> Truth:
    with open_run(run_dir.home) as run:
        return truth_of_run(run_dir, run, config, source)


def _needs_pictures(asked: Question, wanted: Sequence[Wanted]) -> bool:
    return EDGES in asked.baselines or any(isinstance(w.metric, PassMetric) for w in wanted)


def _view_size(manifest: Manifest) -> tuple[int, int]:
    preprocessing = manifest.numbers["preprocessing"]
    return int(preprocessing["height"]), int(preprocessing["width"])


def _shards_of(plan: Plan, positions: I8) -> list[int]:
    """Shards that hold some of the samples."""
    return [int(number) for number in np.unique(positions // plan.shard_size)]


def _todo(
    plan: Plan,
    every: Sequence[MetricResults],
    wanted: Sequence[Wanted],
    sources: dict[int, ShardSummary],
    positions: I8 | None,
    asked: Question,
) -> list[Shard]:
    """Shards of which some metric is not measured yet, with the samples that are asked for."""
    again = Reason.UNREADABLE if asked.retry else None
    done = [
        results.done(one.fingerprint, sources, asked.replace, again)
        for results, one in zip(every, wanted, strict=True)
    ]
    numbers = range(plan.shards) if positions is None else _shards_of(plan, positions)
    missing = [number for number in numbers if any(number not in some for some in done)]
    if positions is None:
        return [plan.shard(number) for number in missing]
    size = plan.shard_size
    return [
        Shard(n, tuple(plan.sample(p) for p in of_shard(positions, n * size, (n + 1) * size)))
        for n in missing
    ]
