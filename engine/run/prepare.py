"""From a configuration to a run that is known to be possible.

Imports of MXNet, Numba and OpenCV wait until they are needed: threads must be set
before, and ``--help`` should not load a network library.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError, WorkerError
from shardcam.engine.models.system_libraries import ready_libraries
from shardcam.engine.protocols import Observer
from shardcam.engine.run import calibration_cache
from shardcam.engine.run.assumptions import assumptions
from shardcam.engine.run.build_worker import WorkerSpec, only_read, part_cache, worker_threads
from shardcam.engine.run.calibration import (
    Calibration,
    calibrate_on_source,
    calibration_notes,
    read_calibration,
    views_of_source,
    write_calibration,
)
from shardcam.engine.run.class_names import class_names, keep_class_names
from shardcam.engine.run.class_numbers import class_numbers
from shardcam.engine.run.cost import Cost, run_cost, work_of
from shardcam.engine.run.disk_space import require_room
from shardcam.engine.run.executor_choice import chosen_early, on_own_ray, with_executor
from shardcam.engine.run.fingerprint import make_manifest
from shardcam.engine.run.label_checks import label_notes, require_labels
from shardcam.engine.run.method_choice import (
    attention_of,
    comparing_method,
    method_of,
    require_explainable,
)
from shardcam.engine.run.network_choice import load_definition
from shardcam.engine.run.option_conflicts import require_possible
from shardcam.engine.run.own_size import looks_at, open_size, own_size_notes, require_same_limit
from shardcam.engine.run.plan import Plan, make_plan
from shardcam.engine.run.run_target import given_by
from shardcam.engine.run.runtime_choice import TORCH, require_gpu, with_runtime
from shardcam.engine.run.similar_target import concept_of
from shardcam.engine.run.source_listing import listing_of, make_reader
from shardcam.engine.run.start_ahead import all_done
from shardcam.engine.run.target_mask import mask_of
from shardcam.engine.rundir import codec
from shardcam.engine.rundir.events import RunAwaited, ignore
from shardcam.engine.rundir.grow_run import grown
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import (
    Manifest,
    begin_run,
    holds_run,
    read_manifest,
    require_usable,
)
from shardcam.engine.rundir.schema import dataset_specs
from shardcam.engine.types import LABELS, NO_LINK, SIMILAR, SOFTMAX, LayerInfo, Note
from shardcam.engine.workers.cores import usable_cores

if TYPE_CHECKING:
    from shardcam.engine.models.definition import NetworkDefinition

_FROM_CACHE = Note(
    "int8",
    "the calibration is that of an earlier run of the same network and pictures; "
    "--calibration-cache off makes it anew",
)

GPU_BATCH = 128  # of PyTorch: a modern GPU is not full with fewer images


@dataclass(frozen=True)
class Prepared:
    """A run that is known to be possible: checked, planned, named."""

    config: RunConfig
    manifest: Manifest
    plan: Plan
    worker: WorkerSpec
    calibration: Calibration | None  # of an int8 run
    resumed: bool  # the run directory held this run already
    listed: bool  # by this command; False if the run directory held the listing
    notes: tuple[Note, ...]  # what was assumed and left out
    own_notes: tuple[Note, ...]  # of this command, not of the run
    before: int  # images that the run had; fewer than now if this command lets it grow
    cost: Cost | None  # of a method that runs the network many times

    @property
    def run_dir(self) -> RunDir:
        return RunDir.open(self.config.out)


def prepare(config: RunConfig, on_event: Observer = ignore) -> Prepared:
    """Load the model, resolve layers and targets, list the source, open the run directory.

    A run that is refused leaves no trace. The source is listed once for a run: resuming
    reads the listing that the run directory holds.

    Raises
    ------
    ShardcamError
        Anything about the model, the source, the options or the run directory that
        cannot work.
    """
    config = chosen_early(config)
    require_possible(config)
    codec.require(config.codec)
    run_dir = RunDir.open(config.out)
    require_usable(run_dir)
    run_dir.require_writable()
    ready_libraries()
    config, told = with_runtime(config)
    _require_gpu_here(config)
    _require_cluster(config, run_dir)
    from shardcam.engine.models.layer_names import class_count, resolve_layer
    from shardcam.engine.models.segmentation import over_pixels
    from shardcam.engine.models.similar_outputs import similar_to
    from shardcam.engine.pipeline.targets import parse_targets

    method_of(config)
    sizes = open_size(config) if config.copies else None
    own = definition = sizes.own if sizes else load_definition(config)
    given = given_by(config)
    if concept := concept_of(config, own):
        definition = similar_to(own, concept.vectors)
    if mask := mask_of(config, own):
        definition = over_pixels(own, mask.weights)
    if definition.link != SOFTMAX:  # what the file says is known from now on
        config = config.model_copy(update={"link": definition.link})
    if config.runtime == TORCH:
        from shardcam.engine.models.torch.torch_operators import require_operators

        require_operators(definition.graph, definition.name)
    wanted = (definition.input_name,) if method_of(config).explains_input else config.layer
    layers = tuple(dict.fromkeys(resolve_layer(definition, name) for name in wanted))
    read = tuple(
        dict.fromkeys(
            resolve_layer(definition, name, "--activation-layer")
            for name in config.activation_layer
        )
    )
    if config.activation_dtype != "f4" and "activations" not in config.save:
        raise ConfigError("--activation-dtype: add activations to --save")
    if read and not {"activations", "pooled"} & set(config.save):
        raise ConfigError("--activation-layer: add activations or pooled to --save")
    read = (read or layers) if {"activations", "pooled"} & set(config.save) else ()
    classes = class_count(definition)
    class_names(config, classes)  # refuses a bad file now, not after the work
    chosen = given.classes if given else None
    by_labels = config.target.partition(":")[0] == LABELS
    if not by_labels:
        targets = parse_targets(config.target, classes, definition.link, chosen)
    require_explainable(config, layers)
    for info in layers if method_of(config).reads_attention else ():
        attention_of(config, definition, info)  # refuses a network that has none
    part_cache(config)  # refuses a folder that cannot be used
    with run_dir.beginning(lambda holder: on_event(RunAwaited(holder))):
        with listing_of(config, on_event, classes) as listing:
            listed = listing.path != run_dir.listing
            made_of = SIMILAR + concept.digest if concept else None
            if given is not None:
                given = given.of(config, listing)
                chosen, made_of = given.classes, given.target
                targets = parse_targets(config.target, classes, definition.link, chosen)
            if by_labels:
                from shardcam.engine.run.image_labels import image_labels

                several = image_labels(config, listing, classes)
                chosen, made_of = several.classes, several.target
                targets = parse_targets(config.target, classes, definition.link, chosen)
            if targets.kind == "label":
                require_labels(listing.facts)
            stored = read_manifest(run_dir) if run_dir.exists(run_dir.run_json) else None
            if stored is not None and config.copies:
                require_same_limit(config, stored)
            plan = make_plan(listing, config.shard_size or _shard_size(stored))
            specs = dataset_specs(
                layers=layers,
                read=read,
                classes=classes,
                targets=targets.count,
                link=definition.link,
                binary=definition.binary,
                prediction=definition.prediction,
                view=definition.preprocessing.input_shape[1:],
                key_bytes=listing.facts.key_bytes,
                save=config.save,
                activation_dtype=config.activation_dtype,
                copies=config.copies,
                pixels=listing.sizes.pixels / plan.listed if listing.sizes else 0.0,
            )
            cost = run_cost(config, definition, layers)
            work = work_of(definition, cost) * looks_at(config, definition, plan)
            left = _left(run_dir, plan) if stored is not None else plan.listed
            config, choice = with_executor(config, left, work)
            require_room(config, specs, plan)
            if sizes is None:
                _require_memory(config, definition, layers, plan)
            calibration, from_cache = _calibration(config, definition, layers, read, plan)
            manifest = make_manifest(
                *(config, plan, own, layers, read, calibration, classes),
                target=made_of,
                target_mask=mask.digest if mask else None,
            )
            if stored is not None:
                manifest = grown(stored, manifest, listing)
                _require_no_growth(config, stored, manifest)
            resumed = holds_run(run_dir, manifest)
        if calibration is not None and calibration != read_calibration(run_dir):
            write_calibration(run_dir, calibration)
        keep_class_names(run_dir, config, classes)
        before = stored.plan["samples"] if stored is not None else plan.listed
        if not resumed or before < plan.listed:
            begin_run(run_dir, manifest)
    names = tuple(info.name for info in layers)
    worker = WorkerSpec(
        config=config.absolute(),
        fingerprint=manifest.fingerprint,
        model=manifest.numbers["model"],
        layers=names,
        read=read,
        quantization=calibration.quantization if calibration else None,
        similar=concept.vectors if concept else None,
        mask=mask.weights if mask else None,
        given=chosen,
        one_graph=sizes.one_graph if sizes else None,
        specs=specs,
        batch_size=_batch_size(config, definition, names, plan),
    )
    notes = (
        *told,
        *assumptions(config, definition, layers),
        *(calibration_notes(calibration) if calibration else ()),
        *plan.listing.notes,
        *(own_size_notes(config, sizes, names, plan) if sizes else ()),
        *(several.notes if by_labels else ()),
        *_label_notes(config, definition, plan, classes),
    )
    return Prepared(
        config=config,
        manifest=manifest,
        plan=plan,
        worker=worker,
        calibration=calibration,
        resumed=resumed,
        listed=listed,
        notes=notes,
        own_notes=(*((choice,) if choice else ()), *((_FROM_CACHE,) if from_cache else ())),
        before=before,
        cost=cost,
    )


def _label_notes(
    config: RunConfig, definition: NetworkDefinition, plan: Plan, classes: int
) -> Iterator[Note]:
    if definition.link != NO_LINK:  # else no label is right or wrong
        yield from label_notes(plan.listing.facts, classes, class_numbers(config, classes))


def _require_cluster(config: RunConfig, run_dir: RunDir) -> None:
    """Before there is a run, where workers are needed; a Ray of our own is started later."""
    if config.executor != "ray" or on_own_ray(config) or all_done(run_dir):
        return
    from shardcam.engine.workers.ray_cluster import require_cluster

    require_cluster(config.address)


def _require_gpu_here(config: RunConfig) -> None:
    """Before there is a run: where workers are of this machine, it needs a GPU that can be used."""
    if config.gpus_per_worker and (config.executor == "local" or on_own_ray(config)):
        try:
            require_gpu(config.runtime)
        except WorkerError as error:  # of which no worker has been asked
            raise ConfigError(str(error)) from error


def _require_memory(
    config: RunConfig, definition: NetworkDefinition, layers: tuple[LayerInfo, ...], plan: Plan
) -> None:
    """Before there is a run; how much memory workers have that are no part of this process shows
    where they are."""
    from shardcam.engine.models.free_memory import free_memory
    from shardcam.engine.models.memory import CPU_PASS, require_memory

    names, gpu = tuple(info.name for info in layers), config.gpus_per_worker > 0
    batch_size = _batch_size(config, definition, names, plan)
    rows = batch_size if gpu else min(batch_size, CPU_PASS * worker_threads(config))
    here = config.executor == "local" and not gpu
    require_memory(definition, names, batch_size, rows, free_memory() if here else None)


def _require_no_growth(config: RunConfig, stored: Manifest, wanted: Manifest) -> None:
    """What grows replaces the listing, which other parts may be using."""
    there, now = stored.plan["samples"], wanted.plan["samples"]
    if config.part is not None and there < now:
        raise ConfigError(
            f"--part {config.part}: the run has {there} images, and would grow to {now}: give "
            "the same command without --part"
        )


def _batch_size(
    config: RunConfig, definition: NetworkDefinition, layers: tuple[str, ...], plan: Plan
) -> int:
    from shardcam.engine.models.mxnet_network import BATCH, batch_that_fits
    from shardcam.engine.models.sized_networks import MOST_ROWS

    if config.batch_size:
        return config.batch_size
    if config.copies:  # as many as a pass takes
        return MOST_ROWS
    large = config.runtime == TORCH and config.gpus_per_worker > 0
    return batch_that_fits(definition, layers, plan.shard_size, GPU_BATCH if large else BATCH)


def _left(run_dir: RunDir, plan: Plan) -> int:
    """Images of the shards that are not there, whatever those that are hold."""
    there = {number for number in run_dir.shard_numbers() if number < plan.shards}
    return plan.listed - sum(map(plan.samples_in, there))


def _shard_size(stored: Manifest | None) -> int | None:
    """That of the run which is resumed: where it began, the default may have been another."""
    return stored.plan.get("shard_size") if stored is not None else None


def _calibration(
    config: RunConfig,
    definition: NetworkDefinition,
    layers: tuple[LayerInfo, ...],
    read: tuple[LayerInfo, ...],
    plan: Plan,
) -> tuple[Calibration | None, bool]:
    """The run's own if it has one, so that resuming changes nothing; and if it is of the cache."""
    if config.precision != "int8":
        return None, False
    run_dir = RunDir.open(config.out)
    stored = read_calibration(run_dir)
    if stored is not None and run_dir.exists(run_dir.run_json):  # else of one that never began
        return stored, False
    preprocessing = definition.preprocessing
    if config.copies:  # of pictures of one size, as large as the network's own
        preprocessing = replace(preprocessing, resize="crop")
    views = views_of_source(plan, make_reader(config), preprocessing, config.decoding)
    names = tuple(info.name for info in layers)
    read_only = only_read(names, read, definition.prediction)
    if config.calibration_cache == "on":
        how = names, read_only, config.method, config.smooth
        key = calibration_cache.key_of(definition.digest(), preprocessing, views, *how)
        if kept := calibration_cache.find(key):
            return kept, True
    made = calibrate_on_source(
        *(definition, names, comparing_method(config), views),
        read=read_only,
        batch=_batch_size(config, definition, names, plan),
        threads=usable_cores(),
    )
    if config.calibration_cache == "on":
        calibration_cache.keep(key, made)
    return made, False
