"""The classes of images that a metric of maps measures, and why it leaves the others out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from shardcam.engine.evaluation.metric import ImageRows, Reason
from shardcam.engine.evaluation.objects_in_view import regions_of
from shardcam.engine.truths.truth import Region, UnreadableMask
from shardcam.engine.types import F4, NO_CLASS, U1


def measure_classes(
    rows: ImageRows, measure: Callable[[int, int], float | Reason]
) -> tuple[F4, U1]:
    """(n,K) values and reasons: `measure` is given every class explained, image and place."""
    value = np.full(rows.target.shape, np.nan, np.float32)
    reason = np.full(rows.target.shape, Reason.NO_CLASS, np.uint8)
    for i, k in np.argwhere(rows.target != NO_CLASS).tolist():
        found = measure(i, k)
        if isinstance(found, Reason):
            reason[i, k] = found
        else:
            value[i, k], reason[i, k] = found, Reason.MEASURED
    return value, reason


def measure_objects(
    rows: ImageRows, measure: Callable[[int, int, list[Region]], float | Reason]
) -> tuple[F4, U1]:
    """The same of classes that the truth knows objects of, which `measure` is given too."""

    def measure_one(i: int, k: int) -> float | Reason:
        truth = rows.truth[i]
        if truth is None:
            return Reason.NO_TRUTH
        regions = regions_of(truth, int(rows.target[i, k]))
        try:
            return measure(i, k, regions) if regions else Reason.NO_REGION
        except UnreadableMask:
            return Reason.UNREADABLE

    return measure_classes(rows, measure_one)
