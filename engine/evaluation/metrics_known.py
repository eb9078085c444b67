"""The metrics by name: ``NAME`` or ``NAME:CONVENTION``, as the command line has them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from shardcam.engine.analysis.class_scores import NORMALISATIONS
from shardcam.engine.errors import ConfigError
from shardcam.engine.evaluation.box_metrics import LOCALISATIONS, Localisation, MaxBoxAcc
from shardcam.engine.evaluation.grid_pointing import GridPointing
from shardcam.engine.evaluation.mean_iou import MeanIoU
from shardcam.engine.evaluation.metric import MapMetric, PassMetric
from shardcam.engine.evaluation.pass_metrics import PASS_METRICS
from shardcam.engine.evaluation.pixel_precision import PixelAveragePrecision
from shardcam.engine.evaluation.pointing_game import Pointing
from shardcam.engine.evaluation.score_maps import ENLARGING
from shardcam.engine.evaluation.share_metrics import ShareOnObject, mass, rank
from shardcam.engine.evaluation.sparseness import Sparseness, complexity, entropy, gini

Make = Callable[[tuple[str, ...]], MapMetric | PassMetric]

_STEP = re.compile(r"0\.[0-9]*[1-9]")  # one way to write each, for results are called by it
_COUNT = re.compile(r"[1-9][0-9]{0,5}")
_STEPS = "0.001, 0.01 or another step of the threshold"
_AS_WSOL = (_STEPS, *ENLARGING)


@dataclass(frozen=True)
class KnownMetric:
    """A metric, as a list shows it."""

    name: str
    description: str  # one line
    make: Make  # of conventions; ConfigError: it has not got one of them
    conventions: tuple[str, ...] = ()  # what may follow the name
    kind: str = "A"  # of the maps alone; B: one more pass, C: tens of passes
    higher_is_better: bool | None = True
    needs_truth: bool = True
    needs_labels: bool = False  # only of runs with `--target label`
    needs_masks: bool = False  # boxes will not do
    needs_boxes: bool = False  # masks will not do

    @property
    def needs(self) -> str:
        """What it cannot be measured without, in words."""
        needed = ("--truth", self.needs_truth), ("--target label", self.needs_labels)
        return ", ".join(what for what, asked in needed if asked)


def metric_named(text: str) -> MapMetric | PassMetric:
    """The metric that a name such as ``max_box_acc:0.01`` means.

    Raises
    ------
    ConfigError
        There is none, or it has no such convention.
    """
    name, *conventions = text.split(":")
    return known_metric(name).make(tuple(conventions))


def known_metric(name: str) -> KnownMetric:
    """What is known of a metric.

    Raises
    ------
    ConfigError
        There is no such metric.
    """
    if name not in METRICS:
        near = difflib.get_close_matches(name.lower(), METRICS, n=3, cutoff=0.5)
        known = f"nearest: {', '.join(near)}; " if near else ""
        raise ConfigError(f"--metrics: unknown metric {name!r}; {known}known: {', '.join(METRICS)}")
    return METRICS[name]


def _unknown(name: str, convention: str) -> ConfigError:
    conventions = METRICS[name].conventions
    known = f"known: {', '.join(conventions)}" if conventions else "it has none"
    return ConfigError(f"--metrics: {name} has no convention {convention!r}; {known}")


def _settings(name: str, conventions: tuple[str, ...]) -> tuple[float, str]:
    """The step of the threshold, and how maps are enlarged: one of each at most."""
    steps, ways = [], []
    for convention in conventions:
        if convention in ENLARGING:
            ways.append(convention)
        elif _STEP.fullmatch(convention) and 1e-4 <= float(convention) <= 0.5:
            steps.append(float(convention))
        else:
            raise _unknown(name, convention)
    if len(steps) > 1 or len(ways) > 1:
        raise ConfigError(
            f"--metrics: {name}:{':'.join(conventions)}: takes one step of the threshold, and one "
            f"of {', '.join(ENLARGING)}"
        )
    return (*steps, 0.001)[0], (*ways, "cubic")[0]


def _box_accuracy(
    name: str, deltas: tuple[float, ...], all_contours: bool, conventions: tuple[str, ...]
) -> MapMetric:
    return MaxBoxAcc(name, deltas, all_contours, *_settings(name, conventions))


def _localisation(name: str, conventions: tuple[str, ...]) -> MapMetric:
    others = tuple(c for c in conventions if c != "cam2016")
    cam_2016 = len(others) < len(conventions)
    return Localisation(name, LOCALISATIONS[name], cam_2016, *_settings(name, others))


def _mean_iou(conventions: tuple[str, ...]) -> MapMetric:
    """How scores are made, and of how many classes the mean is: one of each at most."""
    ways = [convention for convention in conventions if convention in NORMALISATIONS]
    counts = [convention for convention in conventions if _COUNT.fullmatch(convention)]
    for convention in conventions:
        if convention not in (*ways, *counts):
            raise _unknown("miou", convention)
    if len(ways) > 1 or len(counts) > 1:
        raise ConfigError(
            f"--metrics: miou:{':'.join(conventions)}: takes one of {', '.join(NORMALISATIONS)}, "
            "and one number of classes"
        )
    return MeanIoU("miou", (*ways, NORMALISATIONS[0])[0], int(counts[0]) if counts else None)


def _pixels(conventions: tuple[str, ...]) -> MapMetric:
    return PixelAveragePrecision("pxap", *_settings("pxap", conventions))


def _asking(name: str, conventions: tuple[str, ...]) -> PassMetric:
    full = ":".join((name, *conventions))
    if full not in PASS_METRICS:
        raise _unknown(name, ":".join(conventions))
    return PASS_METRICS[full]


def _only(metric: MapMetric, conventions: tuple[str, ...]) -> MapMetric:
    if conventions:
        raise _unknown(metric.name, conventions[0])
    return metric


_ENERGY = "energy inside (rectified, bilinear to the input, sum on objects over sum)"
_MASS = "relevance mass (signed, bilinear to the input, sum on objects over sum)"
_RANK = "relevance rank (signed, bilinear to the input; equal values count in part)"
_COMPLEXITY = "complexity (ADCC: mean of pytorch-grad-cam's map at the input's size)"
_ENTROPY = "entropy (of |map| / sum, in nats, at the layer's resolution)"
_GINI = "Gini index (of |map|, at the layer's resolution)"
_LOCALISING = ("cam2016", *_AS_WSOL)

_KNOWN = (
    KnownMetric(
        "max_box_acc",
        "images whose largest contour's box meets the truth, at the best threshold",
        partial(_box_accuracy, "max_box_acc", (0.5,), False),
        _AS_WSOL,
        needs_boxes=True,
    ),
    KnownMetric(
        "max_box_acc_v2",
        "the same of all contours, mean of IoU 0.3, 0.5 and 0.7",
        partial(_box_accuracy, "max_box_acc_v2", (0.3, 0.5, 0.7), True),
        _AS_WSOL,
        needs_boxes=True,
    ),
    KnownMetric("pxap", "average precision of all pixels' scores", _pixels, _AS_WSOL),
    KnownMetric(
        "miou",
        "mean IoU of classes and background, as seeds of weak supervision have it",
        _mean_iou,
        (*NORMALISATIONS, "21 or another number of classes, absent ones counting 0"),
        needs_masks=True,
    ),
    KnownMetric(
        "gt_known",
        "label's box meets the truth, whatever was predicted",
        partial(_localisation, "gt_known"),
        _LOCALISING,
        needs_labels=True,
        needs_boxes=True,
    ),
    KnownMetric(
        "top1",
        "label is predicted and its box meets the truth",
        partial(_localisation, "top1"),
        _LOCALISING,
        needs_labels=True,
        needs_boxes=True,
    ),
    KnownMetric(
        "top5",
        "label is among five predictions and its box meets the truth",
        partial(_localisation, "top5"),
        _LOCALISING,
        needs_labels=True,
        needs_boxes=True,
    ),
    KnownMetric(
        "pointing",
        "the maximum is nearer than 15 pixels to an object, mean over classes",
        partial(_only, Pointing("pointing")),
    ),
    KnownMetric(
        "energy",
        "share of the rectified map on objects",
        partial(_only, ShareOnObject("energy", _ENERGY, mass, rectified=True)),
    ),
    KnownMetric(
        "mass",
        "share of the signed map on objects",
        partial(_only, ShareOnObject("mass", _MASS, mass)),
    ),
    KnownMetric(
        "rank",
        "share on objects of as many strongest pixels as they have",
        partial(_only, ShareOnObject("rank", _RANK, rank)),
    ),
    KnownMetric(
        "complexity",
        "mean of the map from 0 to 1",
        partial(_only, Sparseness("complexity", _COMPLEXITY, complexity, False)),
        higher_is_better=False,
        needs_truth=False,
    ),
    KnownMetric(
        "entropy",
        "how evenly the map is spread",
        partial(_only, Sparseness("entropy", _ENTROPY, entropy)),
        higher_is_better=None,
        needs_truth=False,
    ),
    KnownMetric(
        "gini",
        "how unevenly the map is spread",
        partial(_only, Sparseness("gini", _GINI, gini)),
        higher_is_better=None,
        needs_truth=False,
    ),
)
_ONE_PASS = {
    "average_drop": "share of the score that is lost when only what the map shows is left",
    "average_increase": "images whose score rises when only what the map shows is left",
    "average_gain": "share of what the score lacks that is gained by it",
    "coherency": "likeness of the map and that of the picture that only shows the map",
    "adcc": "harmonic mean of coherency, 1 - complexity and 1 - average drop",
}
_MORE_PASSES = {
    "arcc": "harmonic mean of coherency, 1 - complexity and ROAD",
    "insertion": "area under the score as the strongest pixels come first",
    "deletion": "area under the score as the strongest pixels go first",
    "morf": "score without the most relevant pixels, filled in from the others",
    "lerf": "score without the least relevant pixels, filled in from the others",
    "road": "half of LeRF less MoRF",
}


def _of_passes(name: str, description: str, kind: str) -> KnownMetric:
    parts = (full.partition(":") for full in PASS_METRICS)
    conventions = tuple(convention for base, _, convention in parts if base == name and convention)
    higher, make = PASS_METRICS[name].higher_is_better, partial(_asking, name)
    return KnownMetric(name, description, make, conventions, kind, higher, needs_truth=False)


METRICS = {
    known.name: known
    for known in (
        *_KNOWN,
        KnownMetric(
            "grid_pointing",
            "share of the positive map in the cell of its class, of mosaics",
            partial(_only, GridPointing()),
        ),
        *(_of_passes(name, text, "B") for name, text in _ONE_PASS.items()),
        *(_of_passes(name, text, "C") for name, text in _MORE_PASSES.items()),
    )
}
