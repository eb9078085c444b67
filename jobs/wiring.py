"""Where concrete classes meet: from a configuration to the parts of a run.

Imports of MXNet, Numba and OpenCV wait until they are needed: threads must be set
before, and ``--help`` should not load a network library.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.config import RunConfig
from engine.errors import ConfigError, ModelError
from engine.manifest import Manifest, open_run_directory, require_usable
from engine.planning import Plan, make_plan
from engine.protocols import Executor, Reader, ShardRunner, Sink
from engine.types import LayerInfo, Quantization, RunPaths, Sample
from engine.writers.listing import run_listing
from engine.writers.schema import SCHEMA_VERSION, DatasetSpec, dataset_specs
from jobs.calibration import (
    Calibration,
    calibrate_on_source,
    read_calibration,
    views_of_source,
)
from jobs.class_names import class_names
from jobs.explaining import bound_method, method_of, require_explainable
from jobs.system import ready_libraries

if TYPE_CHECKING:
    from engine.models.definition import NetworkDefinition

LIBRARIES = (
    "mxnet",
    "numpy",
    "numba",
    "opencv-python-headless",
    "pillow",
    "h5py",
    "onnx",
    "ray",
    "shardcam",
)
Watch = Callable[[Iterable[Sample]], Iterable[Sample]]
LISTING_OPTIONS = {"source", "label_from_folder", "limit"}


@dataclass(frozen=True)
class Prepared:
    """A run that is known to be possible: checked, planned, named."""

    config: RunConfig
    manifest: Manifest
    plan: Plan
    layers: tuple[LayerInfo, ...]
    calibration: Calibration | None  # of an int8 run
    resumed: bool  # the run directory held this run already
    listed: bool  # by this command; False if the run directory held the listing

    @property
    def paths(self) -> RunPaths:
        """Where the run lies."""
        return RunPaths(Path(self.config.out))


@dataclass(frozen=True)
class WorkerOrder:
    """What a worker is told: small, and readable on any machine that sees the same files."""

    config: RunConfig
    fingerprint: str
    model: str  # digest of the model that the driver planned with
    layers: tuple[str, ...]
    quantization: Quantization | None  # of an int8 run
    key_bytes: int


def prepare(
    config: RunConfig, watch: Callable[[Iterable[Sample]], Iterable[Sample]] = iter
) -> Prepared:
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
    _require_possible(config)
    paths = RunPaths(Path(config.out))
    require_usable(paths)
    ready_libraries()
    from engine.models.layers import class_count, resolve_layer
    from engine.targets import parse_targets

    method_of(config)
    class_names(config)  # a bad file should be told now, not after the work
    definition = _definition(config)
    wanted = (definition.input_name,) if method_of(config).whole else config.layer
    layers = tuple(dict.fromkeys(resolve_layer(definition, name) for name in wanted))
    targets = parse_targets(config.target, class_count(definition))
    require_explainable(config, layers)
    with run_listing(paths, _origin(config), lambda: watch(_samples(config))) as listing:
        listed = listing.path != paths.listing
        if targets.kind == "label" and not listing.facts.labelled:
            raise ConfigError("--target label: no sample has a label; see --label-from-folder")
        plan = make_plan(listing, config.shard_size)
        calibration = _calibration(config, definition, layers, plan)
        manifest = Manifest(
            config=config.absolute().model_dump(mode="json"),
            numbers=_numbers(config, plan, definition, layers)
            | ({"calibration": calibration.digest} if calibration else {}),
            plan={"samples": plan.listed, "shards": plan.shards, "shard_size": plan.shard_size},
            versions={name: _version(name) for name in LIBRARIES},
        )
        resumed = open_run_directory(paths, manifest)
    return Prepared(config, manifest, plan, layers, calibration, resumed, listed)


def worker_order(prepared: Prepared) -> WorkerOrder:
    """What the workers of a run are told."""
    return WorkerOrder(
        config=prepared.config.absolute(),
        fingerprint=prepared.manifest.fingerprint,
        model=prepared.manifest.numbers["model"],
        layers=tuple(info.name for info in prepared.layers),
        quantization=prepared.calibration.quantization if prepared.calibration else None,
        key_bytes=prepared.plan.listing.facts.key_bytes,
    )


def make_executor(prepared: Prepared) -> Executor:
    """The executor that was asked for, ready to run."""
    config = prepared.config
    build = partial(build_runner, worker_order(prepared))
    if config.executor == "local":
        from engine.workers.local import LocalExecutor

        return LocalExecutor(build)
    from engine.workers.ray import RayExecutor, RayOptions

    options = RayOptions(
        config.workers, config.cpus_per_worker, config.gpus_per_worker, config.address
    )
    return RayExecutor(build, options)


def driver_threads(config: RunConfig) -> int:
    """Threads of this process: all cores if it does the work itself."""
    return (os.cpu_count() or 1) if config.executor == "local" else 1


def build_runner(order: WorkerOrder) -> ShardRunner:
    """Load the model and make the function that turns one shard into one report."""
    ready_libraries()
    from engine.models.cuda import require_gpu
    from engine.models.layers import class_count
    from engine.models.mxnet_network import MxnetNetwork
    from engine.pipeline import Parts, run_shard
    from engine.targets import parse_targets
    from kernels import warm_up

    config = order.config
    gpu = config.gpus_per_worker > 0
    if gpu:
        require_gpu()
    definition = _definition(config)
    if definition.digest() != order.model:
        raise ModelError(f"{config.model}: the weights differ from those the run began with")
    warm_up()
    network = MxnetNetwork(
        definition, order.layers, config.batch_size, config.precision, order.quantization, gpu
    )
    classes = class_count(definition)
    targets = parse_targets(config.target, classes)
    parts = Parts(
        reader=make_reader(config),
        network=network,
        method=bound_method(config),
        targets=targets,
        sink=_sink(
            order,
            dataset_specs(
                layers=network.layers,
                classes=classes,
                targets=targets.count,
                view=definition.preprocessing.input_shape[1:],
                key_bytes=order.key_bytes,
                save=config.save,
            ),
        ),
        preprocessing=definition.preprocessing,
        batch_size=config.batch_size,
        max_pixels=config.max_pixels,
        save=frozenset(config.save),
        smooth="aug" in config.smooth,
        fuse=config.fuse or method_of(config).fuse,
    )
    return partial(run_shard, parts=parts)


def _definition(config: RunConfig) -> NetworkDefinition:
    """The network, with the preprocessing the user asked for."""
    from engine.models.load import load_network

    definition = load_network(config.model, config.params, config.image_size)
    own = definition.preprocessing
    for name, values in (("--mean", config.mean), ("--std", config.std)):
        if values is not None and len(values) != len(own.mean):
            raise ConfigError(f"{name}: {definition.name} takes {len(own.mean)} numbers")
    changed = replace(
        own, mean=config.mean or own.mean, std=config.std or own.std, resize=config.resize
    )
    return replace(definition, preprocessing=changed)


def make_reader(config: RunConfig) -> Reader:
    """The reader of the source."""
    from engine.imaging import EXTENSIONS
    from engine.readers.folder import FolderReader

    return FolderReader(Path(config.source), EXTENSIONS, config.label_from_folder)


def _samples(config: RunConfig) -> Iterator[Sample]:
    return islice(make_reader(config).samples(), config.limit)


def _origin(config: RunConfig) -> dict[str, Any]:
    """The options that decide what is listed."""
    return config.absolute().model_dump(mode="json", include=LISTING_OPTIONS)


def _sink(order: WorkerOrder, specs: tuple[DatasetSpec, ...]) -> Sink:
    """The shard files, behind the pictures: what commits last is what counts."""
    from engine.writers.hdf5 import Hdf5Sink
    from engine.writers.overlays import OverlaySink
    from engine.writers.tee import TeeSink

    paths = RunPaths(Path(order.config.out))
    shards = Hdf5Sink(paths, specs, order.fingerprint)
    if "overlays" not in order.config.save:
        return shards
    return TeeSink(OverlaySink(paths, order.config.overlay_norm), shards)


def _version(name: str) -> str:
    """Of an installed distribution; MXNet has one for each kind of device."""
    for variant in (name, f"{name}-cu117", f"{name}-cu112"):
        with suppress(PackageNotFoundError):
            return version(variant)
    return "unknown"


def _require_possible(config: RunConfig) -> None:
    if config.executor == "local" and (config.workers or config.address):
        raise ConfigError("--workers and --address are for --executor ray")
    gpu = config.gpus_per_worker > 0
    if config.precision == "fp16" and not gpu:
        raise ConfigError(
            "--precision fp16 needs a GPU (--gpus-per-worker); CPUs take bf16 or int8"
        )
    if config.precision in ("bf16", "int8") and gpu:
        raise ConfigError(f"--precision {config.precision} is for CPUs; GPUs take fp16 or fp32")


def _calibration(
    config: RunConfig, definition: NetworkDefinition, layers: tuple[LayerInfo, ...], plan: Plan
) -> Calibration | None:
    """The run's own if it has one, so that resuming changes nothing."""
    if config.precision != "int8":
        return None
    stored = read_calibration(RunPaths(Path(config.out)))
    if stored is not None:
        return stored
    views = views_of_source(plan, make_reader(config), definition.preprocessing, config.max_pixels)
    names = tuple(info.name for info in layers)
    return calibrate_on_source(definition, names, bound_method(config), views)


def _numbers(
    config: RunConfig, plan: Plan, definition: NetworkDefinition, layers: tuple[LayerInfo, ...]
) -> dict[str, Any]:
    """All that changes the numbers in the output files; its hash is the fingerprint."""
    return {
        "schema": SCHEMA_VERSION,
        "model": definition.digest(),
        "preprocessing": asdict(definition.preprocessing),
        "layer": [info.name for info in layers],
        "method": config.method,
        "smooth": list(config.smooth),
        "fuse": config.fuse,
        "target": config.target,
        "precision": config.precision,
        "max_pixels": config.max_pixels,
        "save": list(config.save),
        "overlay_norm": config.overlay_norm,
        "source": plan.listing.facts.digest,
        "shard_size": plan.shard_size,
    }
