"""Clusters of a run as one call: what ``shardcam cluster`` and a notebook do alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from hashlib import sha256
from os import PathLike, fspath
from typing import Any

import numpy as np

from shardcam.engine.analysis.finished_run import Run
from shardcam.engine.analysis.grid_rows import GridRows
from shardcam.engine.analysis.open_run import open_run, require_codec
from shardcam.engine.analysis.optional_packages import require
from shardcam.engine.clusters.cluster_classes import NO_GROUP, ClassClusterer, View, groups_of
from shardcam.engine.clusters.cluster_summary import ClassClusters, summarise, write_cluster_summary
from shardcam.engine.clusters.settings import (
    ALL,
    BY,
    BY_DENSITY,
    BY_K_MEANS,
    CLUSTERINGS,
    KINDS,
    MAPS,
    PLANES,
    PREDICTED,
    SPECTRAL,
    T_SNE,
    UMAP,
    Comparison,
    Settings,
)
from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError, WorkerError
from shardcam.engine.protocols import Observer, ShardRunner
from shardcam.engine.run.build_executor import driver_threads, executor_of
from shardcam.engine.run.build_worker import worker_threads
from shardcam.engine.run.executor_choice import chosen_early, chosen_for_metrics
from shardcam.engine.run.library_versions import version_of
from shardcam.engine.run.option_conflicts import require_possible
from shardcam.engine.run.python_words import names_keywords
from shardcam.engine.run.stored_options import stored_config
from shardcam.engine.rundir.check_index import complete_shards
from shardcam.engine.rundir.cluster_results import ClusterManifest, ClusterResults
from shardcam.engine.rundir.events import RunOpened, ignore
from shardcam.engine.rundir.results_folder import stamp
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.engine.rundir.schema import layer_path
from shardcam.engine.types import Sample, Shard, counted
from shardcam.engine.workers.threads import limit_threads

SCHEMA_VERSION = 1
LAST_SEED = 2**32 - 1
LIBRARIES = ("numpy", "scipy", "scikit-learn", "pynndescent", "umap-learn", "shardcam")
MOST_ROWS = {T_SNE: 50_000, BY_DENSITY: 100_000}  # of a class; more take many minutes
_TOGETHER = 128 << 20  # bytes of rows that a worker holds
_SHARES = 64  # units of work of many classes, at least, where several workers share them


@dataclass(frozen=True)
class Clustered:
    """The outcome of `cluster`."""

    name: str
    classes: tuple[ClassClusters, ...]  # ascending
    done_now: int  # of them; the others were there before
    without_class: int  # images with no label, or of which the network claims no class


@partial(names_keywords, also=[one.name for one in fields(Settings)])
def cluster(
    run: str | PathLike[str],
    *,
    by: str = PREDICTED,
    of: str = MAPS,
    layer: str | None = None,
    target: int = 0,
    classes: Sequence[int] = (),
    name: str | None = None,
    replace: bool = False,
    on_event: Observer = ignore,
    **options: Any,
) -> Clustered:
    """Find which images of a complete run its network treats alike, class by class.

    The clusters go to files beside the run and become columns of its table. What is clustered
    already is not clustered again; what was stopped is resumed.

    Parameters
    ----------
    run
        The run directory, or its URL.
    by
        Compare the images of each ``predicted`` class, of each ``label``, or ``all`` together.
    of
        ``maps`` or ``pooled`` activations.
    layer
        Whose; by default the run's first.
    target
        Which of the explained classes of each image, from 0.
    classes
        Only these.
    name
        What the clustering is called; by default after what is compared.
    replace
        Forget clusters that were made in another way under the same name, and damaged ones.
    on_event
        Is called with each event, one of `shardcam.events`.
    options
        How, fields of `engine.clusters.settings.Settings`: ``neighbours``, ``vectors``,
        ``clusters``, ``clustering``, ``plane``, ``blur``, ``exact_to``, ``seed``; and where it is
        computed, as for `extract`: ``executor="local"``, ``workers=4``.

    Raises
    ------
    ConfigError
        An option that cannot be used.
    RunDirectoryError
        The run is not complete, or damaged.
    """
    how = {one.name: options.pop(one.name) for one in fields(Settings) if one.name in options}
    asked = Comparison(by, of, layer, target, tuple(classes), name, replace, Settings(**how))
    config = stored_config(fspath(run), read_manifest(RunDir.open(fspath(run))).config)
    return run_clustering(
        RunConfig.of(**config.model_dump() | {"out": fspath(run)} | options), asked, on_event
    )


def run_clustering(
    config: RunConfig, asked: Comparison, on_event: Observer = ignore, may_exit: bool = False
) -> Clustered:
    """Do as `cluster`, with the options of a run and where it is computed.

    `may_exit`: see `engine.run.build_executor.executor_of`.
    """
    run_dir = RunDir.open(config.out)
    manifest = read_manifest(run_dir)
    require_codec(run_dir, manifest)
    require_possible(chosen_early(config), passes=False)
    _require_settings(asked)
    shards = complete_shards(run_dir, manifest)
    source = sha256("\n".join(map(stamp, shards)).encode()).hexdigest()
    with open_run(run_dir.home) as run:
        view, name = _view_of(run, str(run_dir.home), asked)
        shape = _shape_of(run, view)
        numbers, counts = np.unique(groups_of(run, view.by), return_counts=True)
    sizes = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    without = sizes.pop(NO_GROUP, 0)
    wanted = _wanted(asked, sizes)
    _require_bounded(asked, {number: sizes[number] for number in wanted})
    shared = sum(sizes[number] for number in wanted) if len(wanted) > 1 else 0
    config = chosen_for_metrics(config, shared, passes=False)
    limit_threads(driver_threads(config))
    how = ClusterManifest(
        name=name,
        numbers={
            "schema": SCHEMA_VERSION,
            "run": manifest.fingerprint,
            **asdict(view),
            **asdict(asked.settings),
        },
        versions={library: version_of(library) for library in LIBRARIES},
    )
    results = ClusterResults(run_dir, name)
    results.make()
    with results.folder.lock() as died:
        results.begin(how, asked.replace)
        results.folder.clean_staging()
        results.forget_rows()
        there = results.done(how.fingerprint, source, asked.replace)
        missing = [number for number in wanted if number not in there]
        row_bytes = 8 * int(np.prod(shape))
        units = list(_units({c: sizes[c] for c in missing}, row_bytes, config.executor == "local"))
        before = len(wanted) - len(missing)
        on_event(RunOpened(len(wanted), before, len(wanted), before))
        if units:
            spec = _Spec(
                run=str(run_dir.home),
                name=name,
                shape=shape,
                view=view,
                settings=asked.settings,
                fingerprint=how.fingerprint,
                source=source,
                threads=worker_threads(config),
            )
            executor = executor_of(config, partial(build_clusterer, spec), may_exit, died)
            for _ in executor.run(units, on_event):
                pass
        done = results.done(how.fingerprint, source)
        if lost := [c for c in wanted if c not in done]:
            raise WorkerError(
                f"{run_dir.home}: {counted(len(lost), 'class')} crashed every worker: "
                f"{', '.join(map(str, lost[:5]))}; look at memory, and run the same command again"
            )
        found = summarise(results, sorted(done))
    write_cluster_summary(run_dir, how, found)
    return Clustered(
        name, tuple(one for one in found if one.number in wanted), len(missing), without
    )


@dataclass(frozen=True)
class _Spec:
    """What a worker needs: small, and readable wherever the same files are seen."""

    run: str
    name: str
    shape: tuple[int, ...]
    view: View
    settings: Settings
    fingerprint: str
    source: str
    threads: int


def build_clusterer(spec: _Spec) -> ShardRunner:
    """Make what clusters some classes after others."""
    results = ClusterResults(RunDir.open(spec.run), spec.name)
    return ClassClusterer(
        home=spec.run,
        shape=spec.shape,
        view=spec.view,
        settings=spec.settings,
        results=results,
        fingerprint=spec.fingerprint,
        source=spec.source,
        threads=spec.threads,
    )


def _shape_of(run: Run, view: View) -> tuple[int, ...]:
    """Of what is compared of an image."""
    if view.of != MAPS:
        return run[f"pooled/{view.layer}"].shape[1:]
    maps = run.cam(view.layer)
    if isinstance(maps, GridRows):
        raise ConfigError(
            "cluster: compares maps of one size, and the images of this run keep theirs (--resize "
            "none); give --of pooled, with a run that saved pooled activations (--save maps,pooled)"
        )
    return maps.shape[2:]


def _require_settings(asked: Comparison) -> None:
    one = asked.settings
    for option, word, known in (
        ("by", asked.by, BY),
        ("of", asked.of, KINDS),
        ("plane", one.plane, PLANES),
        ("clustering", one.clustering, CLUSTERINGS),
    ):
        if word not in known:
            raise ConfigError(f"--{option} {word}: takes one of {', '.join(known)}")
    for option, number, least in (
        ("neighbours", one.neighbours, 1),
        ("vectors", one.vectors, 2),
        ("clusters", one.clusters or 1, 1),
        ("exact-to", one.exact_to, 1),
    ):
        if number < least:
            raise ConfigError(f"--{option} {number}: takes a number from {least}")
    if not 0 <= one.blur <= 1:
        raise ConfigError(f"--blur {one.blur}: takes a share of the map's side, from 0 to 1")
    if one.clusters is not None and one.clusters >= one.vectors:
        raise ConfigError(f"--clusters {one.clusters}: needs --vectors {one.clusters + 1} at least")
    if not 0 <= one.seed <= LAST_SEED:
        raise ConfigError(f"--seed {one.seed}: takes a number from 0 to {LAST_SEED}")
    if asked.name is not None and not asked.name.replace("-", "").replace("_", "").isalnum():
        raise ConfigError(f"--name {asked.name}: takes letters, digits, - and _")


def _require_bounded(asked: Comparison, sizes: dict[int, int]) -> None:
    """Refuse now what would take days, or lacks a library, and not when a class is read."""
    one, number = asked.settings, max(sizes, key=sizes.__getitem__)
    size = sizes[number]
    has = f"{'the run' if asked.by == ALL else f'class {number}'} has {size:,}"
    for option, word, instead in (
        ("plane", one.plane, SPECTRAL),
        ("clustering", one.clustering, BY_K_MEANS),
    ):
        if size > MOST_ROWS.get(word, size):
            raise ConfigError(
                f"--{option} {word}: compares up to {MOST_ROWS[word]:,} images, and {has}; "
                f"--{option} {instead} takes any number"
            )
    if one.plane == UMAP:
        require("umap", f"--plane {UMAP}")
    if size > one.exact_to:
        beyond = f"--exact-to {one.exact_to}: {has} images, whose neighbours are approximate: that"
        require("pynndescent", beyond)


def _view_of(run: Run, home: str, asked: Comparison) -> tuple[View, str]:
    """What is compared, and what that is called: ``predicted``, ``label-pooled``, ``all@conv``."""
    layers = list(run.layers if asked.of == MAPS else run.layers_with("pooled"))
    if not layers:
        what = "maps" if asked.of == MAPS else "pooled activations"
        raise ConfigError(f"{home}: has no {what}; extract with --save {asked.of}")
    layer = layers[0] if asked.layer is None else layer_path(asked.layer)
    if layer not in layers:
        raise ConfigError(
            f"--layer {asked.layer}: no {asked.of} of it; there are: {', '.join(layers)}"
        )
    explained, target = run["target"].shape[1], asked.target
    if not 0 <= target < explained:
        known = counted(explained, "class")
        raise ConfigError(f"--target {target}: {known} explained of each image, from 0")
    parts = (asked.by, "" if asked.of == MAPS else asked.of, f"target{target}" if target else "")
    name = "-".join(filter(None, parts)) + ("" if layer == layers[0] else f"@{layer}")
    return View(asked.by, asked.of, layer, target), asked.name or name


def _wanted(asked: Comparison, sizes: dict[int, int]) -> list[int]:
    if asked.classes:
        if asked.by == ALL:
            raise ConfigError("--classes: --by all has no classes")
        if strange := [c for c in asked.classes if c not in sizes]:
            raise ConfigError(f"--classes {strange[0]}: no image has it by {asked.by}")
        return sorted(set(asked.classes))
    if not sizes:
        none = "a label" if asked.by == "label" else "a class"
        raise ConfigError(f"--by {asked.by}: no image of the run has {none}")
    return sorted(sizes)


def _units(sizes: dict[int, int], row_bytes: int, alone: bool) -> Iterator[Shard]:
    """Classes whose rows are read in one pass: as many as memory holds, fewer for many workers."""
    most = len(sizes) if alone else -(-len(sizes) // _SHARES)
    unit: list[Sample] = []
    held, index = 0, 0
    for number, size in sizes.items():
        if unit and (len(unit) >= most or held + size * row_bytes > _TOGETHER):
            yield Shard(index, tuple(unit))
            unit, held, index = [], 0, index + 1
        unit.append(Sample(f"class {number}", number, number, "", size))
        held += size * row_bytes
    if unit:
        yield Shard(index, tuple(unit))
