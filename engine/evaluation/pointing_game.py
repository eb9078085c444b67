"""The pointing game: is the maximum of a map on the object?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from shardcam.engine.evaluation.box_metrics import per_class
from shardcam.engine.evaluation.explained_classes import measure_objects
from shardcam.engine.evaluation.metric import Figure, ImageRows, Measured, Merged, Reason
from shardcam.engine.run.intervals import of_mean_of_proportions
from shardcam.engine.truths.truth import Region
from shardcam.engine.types import F4, F8, I4, I8

Point = tuple[float, float]  # x, y in pixels of the picture


@dataclass(frozen=True)
class Pointing:
    """The mean over classes of the share of images whose maximum is near the object.

    As in TorchRay: the map is enlarged bilinearly to the picture, the point is its first
    maximum, row by row, and it hits if a pixel of the object is nearer than 15 pixels. The
    value of an image is 1 or 0; the column ``point``, (n,K,2) float32, has x and y in pixels
    of the picture. A class without samples is left out of the mean, where TorchRay counts 0.
    """

    name: str
    tolerance: float = 15
    needs_truth: bool = True
    higher_is_better: bool | None = True

    @property
    def convention(self) -> str:
        return f"pointing game (TorchRay: nearer than {self.tolerance:g} px, mean over classes)"

    def measure(self, maps: F4, rows: ImageRows) -> Measured:
        def maximum(i: int, k: int) -> Point | None:
            raw = maps[i, k].astype(np.float64)
            if not np.isfinite(raw).all() or raw.min() == raw.max():
                return None
            return maximum_in_picture(raw, rows.crop[i], rows.image_size[i])

        return self._measured(rows, maximum)

    def measure_centre(self, rows: ImageRows) -> Measured:
        """Of a point in the middle of each picture, as TorchRay's baseline has it."""

        def middle(i: int, k: int) -> Point:
            height, width = rows.image_size[i]
            return width / 2, height / 2

        return self._measured(rows, middle)

    def _measured(self, rows: ImageRows, point_of: Callable[[int, int], Point | None]) -> Measured:
        points = np.full((*rows.target.shape, 2), np.nan, np.float32)

        def measure(i: int, k: int, regions: list[Region]) -> float | Reason:
            point = point_of(i, k)
            if point is None:
                return Reason.NO_MAP
            points[i, k] = point
            size = rows.image_size[i]
            return float(any(is_near(point, region, size, self.tolerance) for region in regions))

        return Measured(*measure_objects(rows, measure), {"point": points})

    def figure(self, merged: Merged) -> Figure:
        if not len(merged.values):
            nan = float("nan")
            return Figure(nan, nan, nan, 0)
        classes = per_class(merged.classes, merged.values)
        n = np.array([each["n"] for each in classes.values()])
        shares = np.array([each["value"] for each in classes.values()])
        low, high = of_mean_of_proportions(shares * n, n)
        details = {
            "classes": len(n),
            "mean_of_images": float(merged.values.mean()),
            "per_class": classes,
        }
        return Figure(float(shares.mean()), low, high, len(merged.values), details)


def maximum_in_picture(raw: F8, crop: F8, image_size: I4) -> Point | None:
    """Where a map (h,w) is largest in the picture that it is enlarged to; None: nowhere in it.

    Between the samples of a map values are linear along each axis, so that only the pixels at
    both ends of each such stretch are looked at: some 4hw, whatever the picture's size.
    """
    rows, top, down = _ends(crop[0], crop[2], raw.shape[0], int(image_size[0]))
    columns, left, across = _ends(crop[1], crop[3], raw.shape[1], int(image_size[1]))
    if not (len(rows) and len(columns)):
        return None
    bottom, right = np.minimum(top + 1, raw.shape[0] - 1), np.minimum(left + 1, raw.shape[1] - 1)
    # Written as differences, equal neighbours give what they are, without any rounding.
    lines = raw[top] + down[:, None] * (raw[bottom] - raw[top])
    values = lines[:, left] + across * (lines[:, right] - lines[:, left])
    y, x = np.unravel_index(values.argmax(), values.shape)
    return float(columns[x]), float(rows[y])


def is_near(point: Point, region: Region, image_size: I4, tolerance: float) -> bool:
    """Whether a pixel of an object is nearer than so many pixels to a point."""
    x, y = point
    if region.mask is not None:
        mask = region.mask()
        down, across = image_size[0] / mask.shape[0], image_size[1] / mask.shape[1]
        first, last = (
            np.array([(y + d) / down, (x + d) / across]) for d in (-tolerance, tolerance)
        )
        top, left = first.astype(np.int64).clip(min=0)
        bottom, right = last.astype(np.int64) + 1
        rows, columns = np.nonzero(mask[top:bottom, left:right])
        away = ((rows + top) * down - y) ** 2 + ((columns + left) * across - x) ** 2
        return bool((away < tolerance**2).any())
    if region.box is None:
        return False
    x0, y0, x1, y1 = region.box
    return _outside(x, x0, x1) ** 2 + _outside(y, y0, y1) ** 2 < tolerance**2


def _ends(start: float, stop: float, samples: int, pixels: int) -> tuple[I8, I8, F8]:
    """Of one axis: pixels of the picture in the view at the ends of stretches between the same
    samples, the lower of these, and the share of the upper one."""
    first, last = max(int(np.ceil(start - 0.5)), 0), min(int(np.ceil(stop - 0.5)), pixels)
    seen = np.arange(first, max(last, first))
    position = (seen + 0.5 - start) * (samples / (stop - start)) - 0.5
    position = position.clip(0, samples - 1)
    lower = position.astype(np.int64)
    begins = np.diff(lower, prepend=-1) != 0
    ends = np.append(begins[1:], True)[: len(seen)] | begins
    return seen[ends], lower[ends], (position - lower)[ends]


def _outside(at: float, low: float, high: float) -> float:
    """How far a pixel is from those that a box touches, from `low` up to before `high`."""
    first = np.floor(low)
    return float(max(first - at, at - max(np.ceil(high) - 1, first), 0))
