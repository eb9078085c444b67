"""What a lower precision of the network does to metrics of changed pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from shardcam.engine.evaluation.metric import ImageRows, Reason
from shardcam.engine.evaluation.pass_metrics import PassMetric, measure_passes
from shardcam.engine.evaluation.passes import Masked, Passes
from shardcam.engine.types import F4, NO_CLASS


@dataclass(frozen=True)
class Agreement:
    """A metric of the same classes of images by two networks."""

    n: int  # classes of images that both gave a value
    difference: float  # mean of the values less those of the exact network
    largest: float  # of these, whatever its sign
    correlation: float  # Pearson's, over the classes; NaN where values are all the same


def agreement(
    metrics: Sequence[PassMetric],
    pictures: F4,
    maps: F4,
    rows: ImageRows,
    passes: Passes,
    exact: Passes,
    seed: int = 0,
) -> dict[str, Agreement]:
    """Measure some images by a run's own network and by the same in float32.

    Arguments are those of `engine.evaluation.pass_metrics.measure_passes`; `exact` are passes of
    the other network, by which the scores of the pictures as they are are computed too.
    """
    count, explained = rows.target.shape
    pairs = np.argwhere(rows.target != NO_CLASS)
    ones = np.ones((1, *pictures.shape[2:]), np.float32)
    jobs = np.stack([pairs[:, 0], np.zeros(len(pairs), np.int64)], axis=1)
    score = np.full((count, explained), np.nan, np.float32)
    score[tuple(pairs.T)] = exact.scores(Masked(pictures, ones, jobs), rows.target[tuple(pairs.T)])
    ours = measure_passes(metrics, pictures, maps, rows, passes, seed)
    theirs = measure_passes(metrics, pictures, maps, replace(rows, score=score), exact, seed)
    found = {}
    for name, one in ours.items():
        both = (one.reason == Reason.MEASURED) & (theirs[name].reason == Reason.MEASURED)
        pair = np.stack([one.value[both], theirs[name].value[both]]).astype(np.float64)
        n = pair.shape[1]
        gap = pair[0] - pair[1]
        varied = n > 1 and bool((np.ptp(pair, axis=1) > 0).all())
        found[name] = Agreement(
            n,
            float(gap.mean()) if n else float("nan"),
            float(abs(gap).max()) if n else float("nan"),
            float(np.corrcoef(pair)[0, 1]) if varied else float("nan"),
        )
    return found
