"""What a comparison of runs says: values, and their JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from shardcam.engine.evaluation.metric import Figure
from shardcam.engine.types import Note

MEASURES = {
    "pearson": "Pearson's correlation of the values",
    "spearman": "Spearman's rank correlation, ties sharing the mean of their ranks",
    "spearman_abs": "Spearman's rank correlation of the absolute values",
    "ssim": "structural similarity as in scikit-image with gaussian_weights=True and "
    "data_range=1, of maps enlarged to the network's input and moved to [0, 1]",
    "iou_top20": "intersection over union of the highest 20 % of the pixels",
}
LEAST = {"iou_top20": 0}  # -1 of the others; 1 is the most of all


@dataclass(frozen=True)
class Likeness:
    """How alike the maps of one layer of two runs are."""

    layer: str
    other_layer: str
    figures: dict[str, Figure]  # by the names of `MEASURES`: means over pairs of maps
    left_out: int  # pairs of which a map is constant or not finite
    worst: tuple[dict[str, Any], ...]  # pairs with the lowest Spearman, the lowest first


@dataclass(frozen=True)
class Comparison:
    """What two runs have in common."""

    reference: str
    other: str
    images: int  # with a key that both runs have
    only_reference: int
    only_other: int
    without_pair: int  # of the images, those without a class that both explain
    first_class_equal: Figure  # share of the images whose predicted class both agree on
    layers: tuple[Likeness, ...]
    metrics: dict[str, Figure]  # the other's value minus the reference's, of the same maps
    of_images: tuple[str, ...] = ()  # of `metrics`, those whose own figure is no mean of images
    notes: tuple[Note, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As ``compare.json`` has it; what is not a number is null there."""
        return {
            "reference": self.reference,
            "other": self.other,
            "images": self.images,
            "only_reference": self.only_reference,
            "only_other": self.only_other,
            "without_pair": self.without_pair,
            "first_class_equal": figure_json(self.first_class_equal),
            "layers": [
                {
                    "layer": one.layer,
                    "other_layer": one.other_layer,
                    "left_out": one.left_out,
                    **{name: figure_json(figure) for name, figure in one.figures.items()},
                    "worst": list(one.worst),
                }
                for one in self.layers
            ],
            "metrics": {name: figure_json(one) for name, one in self.metrics.items()},
            "of_images": list(self.of_images),
            "notes": [note.text for note in self.notes],
        }


def figure_json(figure: Figure) -> dict[str, Any]:
    interval = [finite(figure.low), finite(figure.high)]
    return {"mean": finite(figure.value), "ci95": interval, "n": figure.n}


def finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
