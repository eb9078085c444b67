"""PxAP: the average precision of all pixels of a data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shardcam.engine.evaluation.explained_classes import measure_objects
from shardcam.engine.evaluation.metric import Figure, ImageRows, Measured, Merged
from shardcam.engine.evaluation.objects_in_view import objects_in_view, picture_in_view, seen_of
from shardcam.engine.evaluation.score_maps import Repeated, score_map
from shardcam.engine.truths.truth import Region
from shardcam.engine.types import F4, I8
from shardcam.kernels import score_histogram

_BACKGROUND, _OBJECT, _IGNORED = range(3)


@dataclass(frozen=True)
class PixelAveragePrecision:
    """Area under precision over recall of the scores of all pixels, as in wsolevaluation.

    The value of an image is that of its own pixels; 0 where nothing of the object is in the
    view. The state ``pixels``, (2,E) int64, counts those around and on objects by score. Pixels
    that the truth ignores are left out, and so is what the view is padded with.
    """

    name: str
    interval: float = 0.001
    enlarging: str = "cubic"
    needs_truth: bool = True
    higher_is_better: bool | None = True

    @property
    def convention(self) -> str:
        return f"PxAP ({self.enlarging}, {self.interval:g}, boxes filled where there are no masks)"

    def measure(self, maps: F4, rows: ImageRows) -> Measured:
        scores_of = Repeated(lambda raw: score_map(raw, rows.view_size, self.enlarging))
        edges = np.append(np.arange(0, 1, self.interval), [1, 2])
        pixels = np.zeros((2, len(edges)), np.int64)

        def measure(i: int, k: int, regions: list[Region]) -> float:
            kinds = np.where(picture_in_view(rows, i), _BACKGROUND, _IGNORED).astype(np.uint8)
            truth = rows.truth[i]
            if truth is not None and truth.ignore is not None:
                kinds[seen_of(truth.ignore(), rows, i)] = _IGNORED
            kinds[objects_in_view(regions, rows, i)] = _OBJECT
            counts = score_histogram(scores_of(maps[i, k]), kinds, edges)
            pixels[:] += counts
            return average_precision(counts) if counts[_OBJECT].any() else 0.0

        value, reason = measure_objects(rows, measure)
        return Measured(value, reason, state={"pixels": pixels})

    def figure(self, merged: Merged) -> Figure:
        """Without an interval: pixels of one image are not independent."""
        nan, n = float("nan"), len(merged.values)
        if not n or not merged.state["pixels"][_OBJECT].any():
            return Figure(nan, nan, nan, n)
        pixels = merged.state["pixels"]
        details = {"mean_of_images": float(merged.values.mean()), "pixels": int(pixels.sum())}
        return Figure(average_precision(pixels), nan, nan, n, details)


def average_precision(pixels: I8) -> float:
    """(2,E) pixels around and on objects by rising score, some on objects -> 0 to 1.

    Each bin adds its precision, of all pixels from its threshold up, times the recall that it
    adds: rectangles, not trapezoids.
    """
    below, above = pixels[:, ::-1].cumsum(axis=1).astype(np.float64)
    some = below + above > 0
    precision = above[some] / (below + above)[some]
    recall = above[some] / above[-1]
    return float((precision * np.diff(recall, prepend=0)).sum())
