"""How well scores of changed pictures agree with float32 where a run's network is in less."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np

from shardcam.engine.evaluation.measure_shard import ShardEvaluator
from shardcam.engine.evaluation.passes import NetworkPasses
from shardcam.engine.protocols import Inputs, Timer
from shardcam.engine.rundir.metric_results import Agreement, MetricResults
from shardcam.engine.types import F4, I4, Note, Shard, ShardReport, counted

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
