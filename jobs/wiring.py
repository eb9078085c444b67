"""Where concrete classes meet: from a configuration to the parts of a run.

Imports of MXNet, Numba and OpenCV wait until they are needed: threads must be set
before, and ``--help`` should not load a network library.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from engine.config import RunConfig
from engine.errors import ConfigError, ModelError
from engine.manifest import Manifest, open_run_directory, require_usable
from engine.planning import Plan, make_plan
from engine.protocols import Executor, ShardRunner, Sink
from engine.scratch import open_paths
from engine.store import require_room_to_write
from engine.types import LayerInfo, Quantization, RunPaths
from engine.workers.cores import usable_cores
from engine.writers import codec
from engine.writers.schema import DatasetSpec, dataset_specs
from jobs.budget import require_room
from jobs.calibration import (
    Calibration,
    calibrate_on_source,
    read_calibration,
    views_of_source,
)
from jobs.class_names import class_names
from jobs.explaining import (
    bound_method,
    comparing_method,
    fuse_of,
    method_of,
    require_explainable,
)
from jobs.listing import Watch, listing_of, make_reader
from jobs.manifest import make_manifest
from jobs.network import load_definition
from jobs.system import ready_libraries

if TYPE_CHECKING:
    from engine.feeding import Feed
    from engine.models.definition import NetworkDefinition
    from engine.pipeline import Parts


@dataclass(frozen=True)
class Prepared:
    """A run that is known to be possible: checked, planned, named."""

    config: RunConfig
    manifest: Manifest
    plan: Plan
    layers: tuple[LayerInfo, ...]
    read: tuple[LayerInfo, ...]  # whose activations are saved
    specs: tuple[DatasetSpec, ...]  # of a shard file
    calibration: Calibration | None  # of an int8 run
    resumed: bool  # the run directory held this run already
    listed: bool  # by this command; False if the run directory held the listing

    @property
    def paths(self) -> RunPaths:
        """Where the run lies."""
        return open_paths(self.config.out)


@dataclass(frozen=True)
class WorkerOrder:
    """What a worker is told: small, and readable on any machine that sees the same files."""

    config: RunConfig
    fingerprint: str
    model: str  # digest of the model that the driver planned with
    layers: tuple[str, ...]
    read: tuple[LayerInfo, ...]  # whose activations are saved
    quantization: Quantization | None  # of an int8 run
    specs: tuple[DatasetSpec, ...]  # of a shard file


def prepare(config: RunConfig, watch: Watch = iter) -> Prepared:
    """Load the model, resolve layers and targets, list the source, open the run directory.

    A run that is refused leaves no trace. The source is listed once for a run: resuming
    reads the listing that the run directory holds.

    Parameters
    ----------
    watch
        Is handed the samples as they are listed, and hands them on.

    Raises
    ------
    ShardcamError
        Anything about the model, the source, the options or the run directory that
        cannot work.
    """
    require_possible(config)
    codec.require(config.codec)
    paths = open_paths(config.out)
    require_usable(paths)
    require_room_to_write(paths)
    ready_libraries()
    from engine.models.layers import class_count, resolve_layer
    from engine.targets import parse_targets

    method_of(config)
    definition = load_definition(config)
    wanted = (definition.input_name,) if method_of(config).whole else config.layer
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
    class_names(config, classes)  # a bad file should be told now, not after the work
    targets = parse_targets(config.target, classes)
    require_explainable(config, layers)
    with listing_of(config, watch) as listing:
        listed = listing.path != paths.listing
        if targets.kind == "label" and not listing.facts.labelled:
            raise ConfigError("--target label: no sample has a label; see --label-from-folder")
        plan = make_plan(listing, config.shard_size)
        specs = dataset_specs(
            layers=layers,
            read=read,
            classes=classes,
            targets=targets.count,
            view=definition.preprocessing.input_shape[1:],
            key_bytes=listing.facts.key_bytes,
            save=config.save,
            activation_dtype=config.activation_dtype,
        )
        require_room(config, specs, plan)
        calibration = _calibration(config, definition, layers, read, plan)
        manifest = make_manifest(config, plan, definition, layers, read, calibration)
        resumed = open_run_directory(paths, manifest)
    return Prepared(config, manifest, plan, layers, read, specs, calibration, resumed, listed)


def worker_order(prepared: Prepared) -> WorkerOrder:
    """What the workers of a run are told."""
    return WorkerOrder(
        config=prepared.config.absolute(),
        fingerprint=prepared.manifest.fingerprint,
        model=prepared.manifest.numbers["model"],
        layers=tuple(info.name for info in prepared.layers),
        read=prepared.read,
        quantization=prepared.calibration.quantization if prepared.calibration else None,
        specs=prepared.specs,
    )


def make_executor(prepared: Prepared) -> Executor:
    """The executor that was asked for, ready to run."""
    config = prepared.config
    build = partial(build_runner, worker_order(prepared))
    if config.executor == "local":
        from engine.workers.local import LocalExecutor

        return LocalExecutor(build)
    from engine.workers.ray import RayExecutor
    from engine.workers.ray_cluster import RayOptions

    options = RayOptions(
        config.workers,
        config.cpus_per_worker,
        config.gpus_per_worker,
        config.address,
        config.hang_timeout,
        config.recycle,
    )
    return RayExecutor(build, options)


def driver_threads(config: RunConfig) -> int:
    """Threads of this process: all cores if it does the work itself."""
    return usable_cores() if config.executor == "local" else 1


def build_runner(order: WorkerOrder) -> ShardRunner:
    """Load the model and make the function that turns one shard into one report.

    The first pass is the slowest, for it compiles and lays out weights: it is made here.
    """
    import numpy as np

    from engine.feeding import ReadAhead
    from engine.pipeline import run_shard

    feed, parts = build_parts(order)
    blank = np.zeros((order.config.batch_size, *parts.preprocessing.input_shape), np.float32)
    assert parts.network.forward(blank).logits.size  # waits for it
    return partial(run_shard, parts=replace(parts, batches=ReadAhead(feed.batches)))


def build_parts(order: WorkerOrder) -> tuple[Feed, Parts]:
    """Load the model: what makes batches of a shard, and what makes results of batches."""
    ready_libraries()
    from engine.feeding import Feed
    from engine.models.cuda import require_gpu
    from engine.models.layers import class_count
    from engine.models.mxnet_network import MxnetNetwork
    from engine.pipeline import Parts
    from engine.targets import parse_targets
    from kernels import warm_up

    config = order.config
    gpu = config.gpus_per_worker > 0
    if gpu:
        require_gpu()
    definition = load_definition(config)
    if definition.digest() != order.model:
        raise ModelError(f"{config.model}: the weights differ from those the run began with")
    warm_up()
    network = MxnetNetwork(
        definition,
        order.layers,
        config.batch_size,
        config.precision,
        order.quantization,
        gpu,
        _only_read(order.layers, order.read),
    )
    targets = parse_targets(config.target, class_count(definition))
    feed = Feed(
        make_reader(config),
        targets,
        definition.preprocessing,
        config.batch_size,
        config.max_pixels,
        config.fast_decode,
    )
    parts = Parts(
        batches=lambda shard, _: feed.batches(shard),
        network=network,
        method=bound_method(config),
        targets=targets,
        sink=_sink(order),
        preprocessing=definition.preprocessing,
        save=frozenset(config.save),
        read=tuple(info.name for info in order.read),
        half=config.activation_dtype == "f2",
        smooth="aug" in config.smooth,
        fuse=fuse_of(config),
    )
    return feed, parts


def _only_read(layers: tuple[str, ...], read: tuple[LayerInfo, ...]) -> tuple[str, ...]:
    """Layers whose activations are wanted and that are not explained."""
    return tuple(info.name for info in read if info.name not in layers)


def _sink(order: WorkerOrder) -> Sink:
    """The shard files, behind the pictures, each in a thread: what commits last is what counts."""
    from engine.writers.background import BackgroundSink
    from engine.writers.hdf5 import Hdf5Sink
    from engine.writers.overlays import OverlaySink, OverlayStyle
    from engine.writers.tee import TeeSink

    config = order.config
    paths = open_paths(config.out)
    shards = BackgroundSink(Hdf5Sink(paths, order.specs, order.fingerprint, config.codec))
    if "overlays" not in config.save:
        return shards
    style = OverlayStyle(config.overlay_format, config.colormap, config.alpha, config.overlay_norm)
    return TeeSink(BackgroundSink(OverlaySink(paths, style)), shards)


def require_possible(config: RunConfig) -> None:
    """Refuse options that exclude one another.

    Raises
    ------
    ConfigError
        The message names them.
    """
    if config.executor == "local" and (config.workers or config.address):
        raise ConfigError("--workers and --address are for --executor ray")
    if config.address and config.address.startswith("http"):
        raise ConfigError(
            f"--address {config.address} is a dashboard, for shardcam submit; extract takes the "
            "HOST:PORT that ray start printed"
        )
    gpu = config.gpus_per_worker > 0
    if config.precision == "fp16" and not gpu:
        raise ConfigError(
            "--precision fp16 needs a GPU (--gpus-per-worker); CPUs take bf16 or int8"
        )
    if config.precision in ("bf16", "int8") and gpu:
        raise ConfigError(f"--precision {config.precision} is for CPUs; GPUs take fp16 or fp32")


def _calibration(
    config: RunConfig,
    definition: NetworkDefinition,
    layers: tuple[LayerInfo, ...],
    read: tuple[LayerInfo, ...],
    plan: Plan,
) -> Calibration | None:
    """The run's own if it has one, so that resuming changes nothing."""
    if config.precision != "int8":
        return None
    stored = read_calibration(open_paths(config.out))
    if stored is not None:
        return stored
    views = views_of_source(plan, make_reader(config), definition.preprocessing, config.max_pixels)
    names = tuple(info.name for info in layers)
    return calibrate_on_source(
        definition, names, comparing_method(config), views, read=_only_read(names, read)
    )
