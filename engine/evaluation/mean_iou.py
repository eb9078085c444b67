"""mIoU: of segmentations that maps give against masks, at every threshold at once."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from shardcam.engine.analysis.class_scores import (
    IRN,
    PGC,
    PSA,
    SEAM,
    class_scores,
    grid_scores,
)
from shardcam.engine.evaluation.metric import Figure, ImageRows, Measured, Merged, Reason
from shardcam.engine.truths.truth import ImageTruth, UnreadableMask
from shardcam.engine.types import F4, F8, I4, I8, NO_CLASS, U1
from shardcam.kernels import argmax_histogram

THRESHOLDS = (np.arange(1001) / 1000).astype(np.float32)
FIXED = {IRN: 150, PSA: 200, SEAM: 260, PGC: 500}  # of thresholds, where an image has its value
_IGNORED = 255


@dataclass(frozen=True)
class MeanIoU:
    """Mean IoU of the background and of classes, over all pixels, at the best threshold.

    Each pixel is of the class with the highest score if that is above the threshold, else of the
    background. The value of a class of an image is its IoU there, at a fixed threshold.

    The state ``pixels-G-A``, (1002,) int64, counts pixels of plane G where plane A is the highest
    by how many of `THRESHOLDS` are below it; planes are 0, the background or no class at all,
    and the classes counted from 1.

    Parameters
    ----------
    name
        In the command line.
    normalisation
        See `engine.analysis.class_scores.class_scores`.
    classes
        None: classes that are neither there nor predicted are left out of the mean, as in
        chainercv. Else how many there are with the background, absent ones counting 0, as SEAM
        counts.
    """

    name: str
    normalisation: str = IRN
    classes: int | None = None
    needs_truth: bool = True
    higher_is_better: bool | None = True

    @property
    def convention(self) -> str:
        fixed = THRESHOLDS[FIXED[self.normalisation]]
        absent = "left out" if self.classes is None else f"counting 0, of {self.classes}"
        return (
            f"mIoU ({self.normalisation} scores, best of 1001 thresholds, absent classes {absent}; "
            f"an image at {fixed:g})"
        )

    def measure(self, maps: F4, rows: ImageRows) -> Measured:
        value = np.full(rows.target.shape, np.nan, np.float32)
        reason = np.full(rows.target.shape, Reason.NO_CLASS, np.uint8)
        pixels: defaultdict[tuple[int, int], I8] = defaultdict(
            lambda: np.zeros(len(THRESHOLDS) + 1, np.int64)
        )
        for i, truth in enumerate(rows.truth):
            explained = rows.target[i] != NO_CLASS
            try:
                found = _kinds(truth, rows.image_size[i])
            except UnreadableMask:
                found = Reason.UNREADABLE
            if isinstance(found, Reason):
                reason[i, explained] = found
                continue
            planes, kinds = found
            rest = rows.target[i], rows.crop[i], rows.image_size[i], self.normalisation
            if rows.grids:
                classes, scores = grid_scores(rows.grids[i], rows.scales, *rest)
            else:
                classes, scores = class_scores(maps[i], *rest)
            reason[i, explained] = Reason.NO_MAP
            if not len(classes):
                for g, plane in enumerate(planes):
                    if many := np.count_nonzero(kinds == g):
                        pixels[plane, 0][0] += many
                continue
            counts = argmax_histogram(scores, kinds, THRESHOLDS, len(planes))
            for g, k in np.argwhere(counts.any(axis=2)).tolist():
                pixels[planes[g], int(classes[k]) + 1] += counts[g, k]
            above = counts[:, :, FIXED[self.normalisation] + 1 :].sum(axis=2)
            total = counts.sum(axis=(1, 2))
            for k, cls in enumerate(classes.tolist()):
                there = np.array(planes) == cls + 1
                both = above[there, k].sum()
                either = above[:, k].sum() + total[there].sum() - both
                at = rows.target[i] == cls
                reason[i, at] = Reason.MEASURED if either else Reason.NO_REGION
                value[i, at] = both / either if either else np.nan
        state = {f"pixels-{g}-{a}": counts for (g, a), counts in pixels.items()}
        return Measured(value, reason, state=state)

    def figure(self, merged: Merged) -> Figure:
        """Without an interval: pixels of one image are not independent."""
        nan, n = float("nan"), len(merged.values)
        planes, both, predicted, there = _sums(merged)
        if not there.any():
            return Figure(nan, nan, nan, n)
        either = there[:, None] + predicted - both
        with np.errstate(invalid="ignore"):
            iou, precision, recall = both / either, both / predicted, both / there[:, None]
        curve = self._mean(both, either)
        best = int(curve.argmax())
        names = ["background", *(str(plane - 1) for plane in planes[1:])]
        rows = zip(names, iou[:, best], precision[:, best], recall[:, best], strict=True)
        details = {
            "threshold": best / 1000,
            "precision": _nanmean(precision[:, best]),
            "recall": _nanmean(recall[:, best]),
            "pixels": int(there.sum()),
            "classes": {
                name: {"iou": one, "precision": right, "recall": found}
                for name, one, right, found in rows
            },
            "curve": curve,
        }
        return Figure(float(curve[best]), nan, nan, n, details)

    def _mean(self, both: F8, either: F8) -> F8:
        """(P,T) pixels of planes -> (T,) mean IoU."""
        if self.classes is not None:
            found: F8 = (both / (either + 1e-10)).sum(axis=0) / max(self.classes, len(both))
            return found
        some = either > 0
        iou = np.divide(both, either, out=np.zeros_like(both), where=some)
        mean: F8 = iou.sum(axis=0) / some.sum(axis=0)
        return mean


def _kinds(truth: ImageTruth | None, size: I4) -> tuple[list[int], U1] | Reason:
    """The planes of a picture, and (height,width) which of them each pixel is of."""
    if truth is None:
        return Reason.NO_TRUTH
    if any(region.mask is None for region in truth.regions):
        return Reason.NO_MASK
    if not truth.regions and not truth.empty:  # what it has could not be used
        return Reason.NO_REGION
    height, width = size.tolist()
    labels = sorted(truth.labels)
    kinds = np.where(truth.ignored((height, width)), _IGNORED, 0).astype(np.uint8)
    for number, label in enumerate(labels, 1):
        kinds[truth.mask(label, (height, width))] = number
    return [0, *(label + 1 for label in labels)], kinds


def _sums(merged: Merged) -> tuple[list[int], F8, F8, F8]:
    """P planes, and of each (P,T) pixels that are rightly predicted, predicted, and (P,) there."""
    parts = {}
    for name, counts in merged.state.items():
        g, a = map(int, name.split("-")[1:])
        parts[g, a] = counts
    planes = sorted({0, *(plane for pair in parts for plane in pair)})
    both, predicted = np.zeros((2, len(planes), len(THRESHOLDS)))
    total = np.zeros(len(planes))
    for pair, counts in parts.items():
        g, a = map(planes.index, pair)
        below = counts.cumsum()[:-1]
        above = counts.sum() - below
        total[g] += counts.sum()
        predicted[a] += above
        predicted[0] += below
        both[a] += above * (g == a)
        both[0] += below * (g == 0)
    return planes, both, predicted, total


def _nanmean(values: F8) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
