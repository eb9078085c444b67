"""What is asked of a run, as metrics, and what of it cannot be answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shardcam.engine.config import NATIVE
from shardcam.engine.errors import ConfigError
from shardcam.engine.evaluation.baselines import BASELINES, EDGES
from shardcam.engine.evaluation.measure_shard import Wanted
from shardcam.engine.evaluation.metric import MapMetric, PassMetric
from shardcam.engine.evaluation.metrics_known import KnownMetric, known_metric, metric_named
from shardcam.engine.run.library_versions import version_of
from shardcam.engine.run.plan import Plan
from shardcam.engine.rundir.metric_results import MetricManifest
from shardcam.engine.rundir.run_json import Manifest
from shardcam.engine.truths.run_truth import truth_place
from shardcam.engine.truths.truth import ImageTruth, Truth
from shardcam.engine.types import I8, counted

SCHEMA_VERSION = 1
LAST_SEED = 2**32 - 1
FREE_BASELINES = tuple(name for name in BASELINES if name != EDGES)  # need no pictures
LIBRARIES = ("numpy", "numba", "opencv-python-headless", "h5py", "shardcam")


@dataclass(frozen=True)
class Question:
    """What is asked of a run; see `evaluate`."""

    metrics: tuple[str, ...]
    truth: str | None = None
    sample: int | None = None
    layer: str | None = None
    baselines: tuple[str, ...] = FREE_BASELINES
    seed: int = 0
    replace: bool = False
    retry: bool = False


def wanted_metrics(
    asked: Question, manifest: Manifest, listed: int, layer: str, chosen: bool, truth: Truth | None
) -> tuple[tuple[Wanted, ...], list[MetricManifest]]:
    """Every metric with its folder, and what ``metric.json`` says of it."""
    if not asked.metrics:
        raise ConfigError("--metrics is missing: name at least one")
    if asked.sample is not None and asked.sample < 1:
        raise ConfigError(f"--sample {asked.sample}: takes a number from 1")
    if not 0 <= asked.seed <= LAST_SEED:
        raise ConfigError(f"--seed {asked.seed}: takes a number from 0 to {LAST_SEED}")
    if unknown := set(asked.baselines) - set(BASELINES):
        raise ConfigError(
            f"--baselines: unknown {min(unknown)!r}; known: {', '.join(BASELINES)}, none"
        )
    wanted, manifests, target = [], [], manifest.numbers["target"]
    versions = {library: version_of(library) for library in LIBRARIES}
    for name in asked.metrics:
        metric = metric_named(name)
        if metric.needs_truth and truth is None:
            raise ConfigError(f"{name}: needs --truth: where the objects of each picture are")
        if isinstance(metric, PassMetric) and manifest.config.get("resize") == NATIVE:
            raise ConfigError(
                f"{name}: asks the network about changed images of one size; those of the run keep "
                "their size (--resize none)"
            )
        if known_metric(name.partition(":")[0]).needs_labels and target != "label":
            raise ConfigError(
                f"{name}: needs a run that explains the labels (--target label); this one was made "
                f"with --target {manifest.config.get('target', target)}"
            )
        numbers = {
            "schema": SCHEMA_VERSION,
            "run": manifest.fingerprint,
            "metric": name,
            "convention": metric.convention,
            "layer": layer,
            "baselines": list(baselines_of(metric, asked)),
            "sample": None if asked.sample is None else f"{asked.sample} of {listed}",
            "seed": asked.seed,
            "truth": truth.digest if truth and metric.needs_truth else None,
        }
        where = truth_place(asked.truth) if asked.truth and metric.needs_truth else None
        one = MetricManifest(
            metric=name,
            convention=metric.convention,
            numbers=numbers,
            higher_is_better=metric.higher_is_better,
            versions=versions,
            truth=where,
        )
        folder = name.replace(":", "-") + (f"@{layer}" if chosen else "")
        wanted.append(Wanted(folder, one.fingerprint, metric))
        manifests.append(one)
    return tuple(wanted), manifests


def require_known(
    truth: Truth,
    asked: Question,
    wanted: Sequence[Wanted],
    plan: Plan,
    positions: I8 | None,
) -> None:
    """Refuse a truth that no value could come from, before any is forgotten."""
    for name, one in zip(asked.metrics, wanted, strict=True):
        known = known_metric(name.partition(":")[0])
        if known.needs_masks and not truth.has_masks:
            raise ConfigError(
                f"{name}: --truth {asked.truth}: {truth.format} without a mask; give PNG masks, or "
                "COCO JSON with segmentation"
            )
        if known.needs_boxes and not truth.has_boxes:
            raise ConfigError(
                f"{name}: --truth {asked.truth}: {truth.format} without a box; give boxes (CSV, "
                "COCO JSON, XML), or measure pxap, pointing or energy, which take masks"
            )
        if not one.metric.needs_truth or positions is None:
            continue
        found = (truth.of(plan.sample(position).key) for position in positions.tolist())
        if not any(t and _usable(t, known) for t in found):
            images = f"{counted(len(positions), 'image')} asked for"
            what = " with a mask" * known.needs_masks + " with a box" * known.needs_boxes
            there = f"in the truth{what}"
            raise ConfigError(
                f"{name}: --truth {asked.truth}: none of the {images} is {there}; raise --sample, "
                "or leave it out"
            )


def _usable(truth: ImageTruth, known: KnownMetric) -> bool:
    """Whether a value could come from what is known of a picture."""
    if known.needs_boxes:
        return truth.has_boxes
    return truth.empty or truth.has_masks or (bool(truth.regions) and not known.needs_masks)


def baselines_of(metric: MapMetric | PassMetric, asked: Question) -> tuple[str, ...]:
    """Those of metrics of passes would cost as many passes as the run's maps."""
    return () if isinstance(metric, PassMetric) else asked.baselines
