"""How much of a map lies on the object: energy, mass and rank."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shardcam.engine.evaluation.explained_classes import measure_objects
from shardcam.engine.evaluation.metric import (
    Figure,
    ImageRows,
    Measured,
    Merged,
    Reason,
    mean_figure,
)
from shardcam.engine.evaluation.objects_in_view import objects_in_view
from shardcam.engine.truths.truth import Region
from shardcam.engine.types import F4
from shardcam.kernels import upsample

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ShareOnObject:
    """The mean share of a map that lies on the pixels of the class's objects.

    The map is enlarged bilinearly to the network's input, where boxes and masks are too. The
    value of an image is from 0 to 1, but for `mass` of maps with negative values.
    """

    name: str
    convention: str
    share: Callable[[F4, Bools], float]  # of (H,W) on (H,W); NaN where there is none
    rectified: bool = False
    needs_truth: bool = True
    higher_is_better: bool | None = True

    def measure(self, maps: F4, rows: ImageRows) -> Measured:
        def measure(i: int, k: int, regions: list[Region]) -> float | Reason:
            raw = np.maximum(maps[i, k], 0) if self.rectified else maps[i, k]
            if not np.isfinite(raw).all():
                return Reason.NO_MAP
            seen = upsample(np.ascontiguousarray(raw[None], np.float32), rows.view_size)[0]
            share = self.share(seen, objects_in_view(regions, rows, i))
            return Reason.NO_MAP if np.isnan(share) else share

        return Measured(*measure_objects(rows, measure))

    def figure(self, merged: Merged) -> Figure:
        return mean_figure(merged, share=self.rectified or self.share is rank)


def mass(seen: F4, objects: Bools) -> float:
    """(H,W), (H,W) -> the sum on objects over the sum; NaN where that is not positive."""
    total = seen.sum(dtype=np.float64)
    return float(seen[objects].sum(dtype=np.float64) / total) if total > 0 else np.nan


def rank(seen: F4, objects: Bools) -> float:
    """(H,W), (H,W) -> of as many strongest pixels as the objects have, the share on objects.

    Of pixels with equal values at the limit all count in part, so that their order does not
    matter. 0 where no pixel is on an object.
    """
    size = int(objects.sum())
    if not size:
        return 0.0
    limit = np.partition(seen.ravel(), -size)[-size]
    above, equal = seen > limit, seen == limit
    open_places = size - int(above.sum())
    hits = (above & objects).sum() + open_places * (equal & objects).sum() / equal.sum()
    return float(hits / size)
