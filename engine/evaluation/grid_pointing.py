"""The grid pointing game: how much of a map lies in the cell of its class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shardcam.engine.evaluation.metric import (
    Figure,
    ImageRows,
    Measured,
    Merged,
    Reason,
    mean_figure,
)
from shardcam.engine.types import F4, NO_CLASS
from shardcam.kernels import upsample

F8 = npt.NDArray[np.float64]

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
        value = np.full(rows.target.shape, np.nan, np.float32)
        reason = np.full(rows.target.shape, Reason.MEASURED, np.uint8)
        for i, k in np.ndindex(rows.target.shape):
            truth, cls = rows.truth[i], int(rows.target[i, k])
            boxes = truth.boxes(cls) if truth is not None else np.empty((0, 4))
            if cls == NO_CLASS:
                reason[i, k] = Reason.NO_CLASS
            elif truth is None:
                reason[i, k] = Reason.NO_TRUTH
            elif not len(boxes):
                reason[i, k] = Reason.NO_REGION
            elif not np.isfinite(maps[i, k]).all():
                reason[i, k] = Reason.NO_MAP
            else:
                cell = _covered(boxes, rows.crop[i], rows.view_size)
                value[i, k] = _share(np.ascontiguousarray(maps[i, k]), cell)
        return Measured(value, reason)

    def figure(self, merged: Merged) -> Figure:
        """See `engine.evaluation.metric.MapMetric`."""
        return mean_figure(merged, share=True)


def _share(raw: F4, cell: F8) -> float:
    """(h,w), (H,W) shares of pixels -> the part of the positive values that the cell has."""
    height, width = cell.shape
    positive = np.maximum(upsample(raw[None], (height, width))[0], 0).astype(np.float64)
    total = float(positive.sum())
    return float((positive * cell).sum() / total) if total > LEAST else 0.0


def _covered(boxes: F8, crop: F8, view_size: tuple[int, int]) -> F8:
    """(m,4) x0, y0, x1, y1 in the picture -> (H,W), of each pixel of the view what a box covers."""
    y0, x0, y1, x1 = crop
    height, width = view_size
    covered = np.zeros(view_size)
    for box in boxes:
        across = _overlap((box[0] - x0) / (x1 - x0), (box[2] - x0) / (x1 - x0), width)
        down = _overlap((box[1] - y0) / (y1 - y0), (box[3] - y0) / (y1 - y0), height)
        np.maximum(covered, down[:, None] * across, out=covered)
    return covered


def _overlap(start: float, stop: float, count: int) -> F8:
    """(count,) of each pixel of an axis the part that lies from `start` to `stop`, in its units."""
    pixel = np.arange(count)
    shares: F8 = np.minimum(stop * count, pixel + 1) - np.maximum(start * count, pixel)
    return shares.clip(0, 1)
