"""How well scores of changed pictures agree with float32 where a run's network is in less."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np

from shardcam.engine.config import RunConfig
from shardcam.engine.evaluation.build_evaluator import EvaluatorSpec, build_evaluator, pictures_of
from shardcam.engine.evaluation.measure_shard import ShardEvaluator, sampled
from shardcam.engine.evaluation.metric import PassMetric
from shardcam.engine.evaluation.metrics_known import metric_named
from shardcam.engine.evaluation.passes import NetworkPasses
from shardcam.engine.protocols import Inputs, Observer, Timer
from shardcam.engine.run.build_executor import executor_of
from shardcam.engine.run.plan import Plan
from shardcam.engine.rundir.events import AgreementMeasured, Progress, ShardDone, WorkersUnneeded
from shardcam.engine.rundir.metric_results import Agreement, MetricResults
from shardcam.engine.types import F4, I4, I8, Event, Note, Shard, ShardReport, counted

COMPARED = 8  # images whose changed pictures are compared


@dataclass
class ComparedPasses:
    """`Passes` of a network, each of which another one makes, too.

    Scores and maps are those of `lowered`; how its scores differ from those of `exact` adds up
    in `found`.
    """

    lowered: NetworkPasses
    exact: NetworkPasses
    found: Agreement = field(default_factory=Agreement)

    @property
    def rows(self) -> int:
        """See `Passes`."""
        return self.lowered.rows

    @property
    def pixel_range(self) -> F4:
        """See `Passes`."""
        return self.lowered.pixel_range

    def tell(self, on_pass: Callable[[], None]) -> None:
        """See `Passes`."""
        self.lowered.tell(on_pass)
        self.exact.tell(on_pass)

    def scores(self, inputs: Inputs, classes: I4) -> F4:
        """See `Passes`."""
        low, exact = (passes.every_score(inputs) for passes in (self.lowered, self.exact))
        explained = np.arange(len(classes)), classes
        known = np.isfinite(low).all(axis=1) & np.isfinite(exact).all(axis=1)
        difference = np.abs(low[explained] - exact[explained])[known]
        kept = (low.argmax(axis=1) == exact.argmax(axis=1))[known]
        self.found += Agreement(
            pictures=len(difference),
            first_class=int(kept.sum()),
            difference=float(difference.sum(dtype=np.float64)),
            largest=float(difference.max(initial=0)),
        )
        found: F4 = low[explained]
        return found

    def explained(self, inputs: Inputs, classes: I4) -> tuple[F4, F4]:
        """See `Passes`."""
        self.scores(inputs, classes)
        return self.lowered.explained(inputs, classes)

    def blank(self, classes: I4) -> F4:
        """See `Passes`."""
        return self.lowered.blank(classes)


@dataclass(frozen=True)
class AgreementMeter:
    """The runner (`engine.protocols.ShardRunner`) that compares changed pictures of a few images.

    Parameters
    ----------
    evaluator
        With the metrics to compare; their values are measured again, and published nowhere.
    lowered, exact
        Of the run's network, and of the same in float32.
    shard_size
        Images of a shard of the run.
    """

    evaluator: ShardEvaluator
    lowered: NetworkPasses
    exact: NetworkPasses
    shard_size: int

    def run(self, shard: Shard, timer: Timer, next_shard: Shard | None = None) -> ShardReport:
        """Compare the pictures of all samples, and write what was found of each metric."""
        parts = [
            replace(shard, index=number, samples=tuple(samples), trial=True)
            for number, samples in groupby(shard.samples, lambda s: s.index // self.shard_size)
        ]
        pictures = self.evaluator.pictures
        assert pictures is not None
        for one in self.evaluator.wanted:
            passes = ComparedPasses(self.lowered, self.exact)
            compared = replace(pictures, passes=passes)
            evaluator = replace(self.evaluator, wanted=(one,), baselines=(), pictures=compared)
            images = sum(evaluator.run(part, timer).ok for part in parts)
            results = MetricResults(self.evaluator.run_dir, one.folder)
            results.write_agreement(one.fingerprint, replace(passes.found, images=images))
        count = len(shard.samples)
        return ShardReport(shard.index, count, count, 0, True, timer.seconds)


def measured_agreement(
    config: RunConfig,
    spec: EvaluatorSpec,
    every: Sequence[MetricResults],
    plan: Plan,
    positions: I8 | None,
    on_event: Observer,
    may_exit: bool,
    apart: bool,
) -> dict[str, Agreement]:
    """How well scores agree with float32, by the folder of each metric that asks a network in less.

    What is not known yet is measured, on a few images evenly over those that are asked for.
    """
    if config.precision == "fp32":
        return {}
    asking = [
        (results, one, name)
        for results, one, name in zip(every, spec.wanted, spec.metrics, strict=True)
        if isinstance(metric_named(name), PassMetric)
    ]

    def known() -> dict[str, Agreement]:
        found = {folder: results.agreement(digest) for results, (folder, digest), _ in asking}
        return {folder: one for folder, one in found.items() if one is not None}

    there = known()
    missing = [(one, name) for _, one, name in asking if one[0] not in there]
    if missing:
        wanted, metrics = zip(*missing, strict=True)
        few = replace(spec, wanted=wanted, metrics=metrics)
        asked = np.arange(plan.listed) if positions is None else positions
        drawn = asked[sampled(len(asked), min(COMPARED, len(asked)))]
        shard = Shard(int(drawn[0]) // plan.shard_size, tuple(map(plan.sample, drawn.tolist())))
        on_event(AgreementMeasured(config.precision, len(drawn)))

        def observe(event: Event) -> None:  # its progress is not that of the run
            own = Progress | ShardDone | WorkersUnneeded
            on_event(Event() if isinstance(event, own) else event)

        build = partial(build_agreement_meter, few, plan.shard_size)
        for _ in executor_of(config, build, may_exit, apart).run([shard], observe):
            pass
    return known()


def build_agreement_meter(spec: EvaluatorSpec, shard_size: int) -> AgreementMeter:
    """Make what compares the scores of a few images with those of the network in float32."""
    assert spec.worker is not None
    config = spec.worker.config.model_copy(update={"precision": "fp32", "decode_processes": 0})
    pictures, lowered = pictures_of(spec.worker, spec.layer)
    _, exact = pictures_of(replace(spec.worker, config=config, quantization=None), spec.layer)
    evaluator = build_evaluator(replace(spec, worker=None))
    return AgreementMeter(replace(evaluator, pictures=pictures), lowered, exact, shard_size)


def agreement_details(precision: str, found: Agreement) -> dict[str, Any]:
    """As ``summary.json`` has it."""
    count = found.pictures or math.nan
    return {
        "precision": precision,
        "images": found.images,
        "pictures": found.pictures,
        "first_class": found.first_class / count,
        "mean_difference": found.difference / count,
        "largest_difference": found.largest if found.pictures else math.nan,
    }


def agreement_note(precision: str, found: Iterable[Agreement]) -> Note:
    """Of all metrics together, in a line."""
    every = agreement_details(precision, sum(found, Agreement()))
    if not every["pictures"]:
        return Note(precision, "no changed picture to compare with fp32: agreement is not known")
    return Note(
        precision,
        f"scores are those of the network in {precision}; on {every['pictures']} changed pictures "
        f"of {counted(every['images'], 'image')} the first class is fp32's in "
        f"{every['first_class']:.1%}, and the score of the explained class differs by "
        f"{every['mean_difference']:.2g} on average, {every['largest_difference']:.2g} at most",
    )
