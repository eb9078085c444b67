"""The grid pointing game: how much of a map lies in the cell of its class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shardcam.engine.evaluation.explained_classes import measure_objects
from shardcam.engine.evaluation.metric import (
    Figure,
    ImageRows,
    Measured,
    Merged,
    Reason,
    mean_figure,
)
from shardcam.engine.evaluation.objects_in_view import boxes_of
from shardcam.engine.evaluation.view_geometry import boxes_in_view
from shardcam.engine.truths.truth import Region
from shardcam.engine.types import F4, F8
from shardcam.kernels import upsample

LEAST = 1e-7  # of the positive values together; below it the share is 0


@dataclass(frozen=True)
class GridPointing:
    """The share of a map's positive values that lies in the boxes of its class.

    As in Boehle et al., "Convolutional dynamic alignment networks for interpretable
    classifications", CVPR 2021, and Rao et al., "Towards better understanding attribution
    methods", CVPR 2022: maps are enlarged before they are cut off at 0. Of a mosaic of n x n
    cells a uniform map has 1/n^2.
    """

    name: str = "grid_pointing"
    convention: str = "GridPG (bilinear, then cut off at 0; share in the cell of the class)"
    higher_is_better: bool | None = True
    needs_truth: bool = True

    def measure(self, maps: F4, rows: ImageRows) -> Measured:
        """See `engine.evaluation.metric.MapMetric`."""

        def measure(i: int, k: int, regions: list[Region]) -> float | Reason:
            boxes = boxes_of(regions)
            if not len(boxes):
                return Reason.NO_REGION
            if not np.isfinite(maps[i, k]).all():
                return Reason.NO_MAP
            seen = boxes_in_view(boxes, rows.crop[i], rows.view_size)
            return _share(np.ascontiguousarray(maps[i, k]), _covered(seen, rows.view_size))

        return Measured(*measure_objects(rows, measure))

    def figure(self, merged: Merged) -> Figure:
        """See `engine.evaluation.metric.MapMetric`."""
        return mean_figure(merged, share=True)


def _share(raw: F4, cell: F8) -> float:
    """(h,w), (H,W) shares of pixels -> the part of the positive values that the cell has."""
    height, width = cell.shape
    positive = np.maximum(upsample(raw[None], (height, width))[0], 0).astype(np.float64)
    total = float(positive.sum())
    return float((positive * cell).sum() / total) if total > LEAST else 0.0


def _covered(boxes: F8, view_size: tuple[int, int]) -> F8:
    """(m,4) x0, y0, x1, y1 in the view -> (H,W), of each of its pixels what a box covers."""
    height, width = view_size
    covered = np.zeros(view_size)
    for x0, y0, x1, y1 in boxes.tolist():
        across, down = _overlap(x0, x1, width), _overlap(y0, y1, height)
        np.maximum(covered, down[:, None] * across, out=covered)
    return covered


def _overlap(start: float, stop: float, count: int) -> F8:
    """(count,) of each pixel of an axis the part that lies from `start` to `stop`."""
    pixel = np.arange(count)
    shares: F8 = np.minimum(stop, pixel + 1) - np.maximum(start, pixel)
    return shares.clip(0, 1)
