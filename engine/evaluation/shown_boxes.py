"""Boxes to draw on a picture: those of its map at the best threshold, and those of the truth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from shardcam.engine.analysis.grid_rows import GridRows
from shardcam.engine.analysis.samples import Samples
from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError, RunDirectoryError, ShardcamError, SourceError
from shardcam.engine.evaluation.box_metrics import Localisation, MaxBoxAcc
from shardcam.engine.evaluation.metrics_known import metric_named
from shardcam.engine.evaluation.objects_in_view import regions_of
from shardcam.engine.evaluation.summary import Result
from shardcam.engine.evaluation.view_geometry import boxes_in_view, mask_in_view
from shardcam.engine.rundir.metric_results import MetricManifest, MetricResults
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.engine.truths.run_truth import truth_of_run
from shardcam.engine.truths.truth import Region, Truth, UnreadableMask
from shardcam.engine.types import F4, F8, I4

MOST = 16  # boxes of a kind that are drawn, the largest


class _BestBoxes(Protocol):
    def __call__(self, raw: F4, size: tuple[int, int], /) -> I4: ...


@dataclass(frozen=True)
class ClassBoxes:
    """Of one explained class: x0, y0, x1, y1 as shares of the view, which they may leave."""

    found: F8  # (m,4) of the map
    truth: F8  # (m,4)


@dataclass(frozen=True)
class ShownBoxes:
    """The boxes of a run's images, those of maps for one of its layers."""

    layer: str
    convention: str  # how the boxes of maps are found; empty: there are none
    _truth: Truth
    _size: tuple[int, int]  # H, W of the network's input, unless pictures keep their own
    _best: _BestBoxes | None

    def of(self, samples: Samples, i: int) -> list[ClassBoxes]:
        """Of each class that is explained of a sample."""
        key = bytes(samples["key"][i]).decode(errors="backslashreplace")
        known = self._truth.of(key)
        crop, picture = samples["crop"][i].astype(np.float64), samples["image_size"][i].tolist()
        cam = samples.cam(self.layer)
        size = tuple(cam.view_sizes(i).tolist()) if isinstance(cam, GridRows) else self._size
        maps = cam[i] if self._best else None
        boxes = []
        for k, label in enumerate(samples["target"][i].tolist()):
            regions = regions_of(known, label) if known else []
            truth = [box for one in regions for box in _box(one, crop, tuple(picture), size)]
            found: Any = self._best(maps[k], size) if self._best and maps is not None else []
            boxes.append(ClassBoxes(_shares(found, size), _shares(truth, size)))
        return boxes


def _box(region: Region, crop: F8, picture: tuple[int, int], size: tuple[int, int]) -> list[F8]:
    """In pixels of the view; of a mask, that around its pixels."""
    if region.box is not None:
        return [boxes_in_view(np.array([region.box]), crop, size)[0]]
    if region.mask is None:
        return []
    try:
        y, x = np.nonzero(mask_in_view(region.mask() > 0, picture, crop, size))
    except UnreadableMask:
        return []
    return [np.array([x.min(), y.min(), x.max() + 1, y.max() + 1], float)] if len(x) else []


def _shares(boxes: Any, size: tuple[int, int]) -> F8:
    sides = np.asarray(boxes, np.float64).reshape(-1, 4)
    width, height = sides[:, 2] - sides[:, 0], sides[:, 3] - sides[:, 1]
    largest = np.argsort(-width * height, kind="stable")[:MOST]
    shares: F8 = sides[largest] / np.array([*size[::-1], *size[::-1]])
    return shares


def shown_boxes(
    run_dir: RunDir, run: Samples, config: RunConfig, results: dict[str, Result]
) -> ShownBoxes | None:
    """The boxes of a run that a metric with a truth was measured of; None: there are none.

    The truth is read where the first such metric of boxes, else the first one, found it.

    Raises
    ------
    ShardcamError
        The truth is gone or another than it was, or what was measured is damaged.
    """
    known = {name: MetricResults(run_dir, name).manifest() for name in results}
    known = {name: one for name, one in known.items() if one.truth is not None}
    if not known:
        return None
    best = {name: _best_of(one, results[name]) for name, one in known.items()}
    name = next((name for name in known if best[name] is not None), next(iter(known)))
    manifest, layer = known[name], known[name].numbers.get("layer")
    if layer not in run.layers:
        raise RunDirectoryError(f"metrics/{name}/metric.json: damaged: no maps of its layer")
    other = f"{manifest.truth}: gone, or not what it was when {name} was measured"
    try:
        truth = truth_of_run(run_dir, run, config, str(manifest.truth))
    except SourceError as error:  # which may quote a file that the run has no business with
        raise ConfigError(other) from error
    if truth.digest != manifest.numbers.get("truth"):
        raise ConfigError(other)
    preprocessing = read_manifest(run_dir).numbers["preprocessing"]
    size = int(preprocessing["height"]), int(preprocessing["width"])
    convention = manifest.convention if best[name] else ""
    return ShownBoxes(str(layer), convention, truth, size, best[name])


def _best_of(manifest: MetricManifest, result: Result) -> _BestBoxes | None:
    """What finds the boxes of a map; None: it is no metric of boxes, or nothing was measured."""
    try:
        metric = metric_named(manifest.metric)
    except ShardcamError:  # of a later version
        return None
    if not isinstance(metric, MaxBoxAcc | Localisation) or "threshold" not in result.figure.details:
        return None
    found = partial(metric.best_boxes, threshold=result.figure.details["threshold"])
    try:
        found(np.zeros((2, 2), np.float32), (2, 2))
    except (AttributeError, IndexError, StopIteration, TypeError, ValueError) as error:
        raise RunDirectoryError(f"metrics/summary.json: {result.name}: no threshold") from error
    return found
