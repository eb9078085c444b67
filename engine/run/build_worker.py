"""Where concrete classes meet: from what a worker needs to what it runs.

Imports of MXNet, Numba and OpenCV wait until they are needed: threads must be set before.
"""

from __future__ import annotations

import gc
import os
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ModelError
from shardcam.engine.io.download_cache import PartCache
from shardcam.engine.models.system_libraries import ready_libraries
from shardcam.engine.protocols import Network, ShardRunner, Sink, SizedNetwork
from shardcam.engine.run.method_choice import attention_of, bound_method, fuse_of, method_of
from shardcam.engine.run.network_choice import load_definition
from shardcam.engine.run.own_size import limits_of, open_size
from shardcam.engine.run.runtime_choice import TORCH, require_gpu
from shardcam.engine.run.source_listing import make_reader
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.schema import DatasetSpec
from shardcam.engine.types import F4, I4, LayerInfo, Quantization
from shardcam.engine.workers.cores import usable_cores
from shardcam.engine.workers.threads import limit_threads

if TYPE_CHECKING:
    from shardcam.engine.models.definition import NetworkDefinition
    from shardcam.engine.models.open_size import OpenSize
    from shardcam.engine.models.sized_networks import SizedNetworks
    from shardcam.engine.pipeline.device_decoding import DeviceDecoding
    from shardcam.engine.pipeline.prefetch import BatchLoader
    from shardcam.engine.pipeline.run_shard import Parts
    from shardcam.engine.pipeline.sized_batches import SizedLoader
    from shardcam.engine.pipeline.targets import Targets
    from shardcam.engine.types import Preprocessing
    from shardcam.engine.workers.decoder_processes import DecoderProcesses


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker needs of a run: small, and readable on any machine that sees the same files."""

    config: RunConfig  # with absolute paths
    fingerprint: str
    model: str  # digest of the model that the driver planned with
    layers: tuple[str, ...]
    read: tuple[LayerInfo, ...]  # whose activations are saved
    quantization: Quantization | None  # of an int8 run
    similar: F4 | None  # (K,D) embeddings that images are compared with
    mask: F4 | None  # (h,w) what each pixel of the maps of a segmentation network counts
    given: I4 | None  # (listed,K) classes to explain of each image, where a run gives them
    one_graph: bool | None  # whether the network has one for all sizes, where images keep theirs
    specs: tuple[DatasetSpec, ...]  # of a shard file
    batch_size: int  # images


def load_libraries() -> None:
    """Import MXNet and load the kernels: what a worker needs, whatever the run."""
    ready_libraries()
    from shardcam.kernels import warm_up

    warm_up()


def be_ready() -> None:
    """Do what a process of a Ray of our own can before it knows its run.

    What fails fails again, and is told, when the run is known.
    """
    limit_threads(int(os.environ["OMP_NUM_THREADS"]))
    with suppress(Exception):
        load_libraries()


def build_runner(spec: WorkerSpec) -> ShardRunner:
    """Load the model and make what turns one shard into one report.

    The first pass is the slowest, for it compiles and lays out weights: it is made here.
    """
    import numpy as np

    from shardcam.engine.methods.arrays import warm_up
    from shardcam.engine.pipeline.forward_ahead import ForwardAhead
    from shardcam.engine.pipeline.prefetch import Prefetcher
    from shardcam.engine.pipeline.run_shard import ShardPipeline

    loader, parts = build_parts(spec)
    network = parts.network
    channels, height, width = parts.preprocessing.input_shape
    blank = np.zeros((1, height, width, channels), np.uint8)
    for _ in range(network.buffers):
        forward = network.forward(blank)
        _ = forward.logits  # waits for it
    warm_up(forward.layer(network.layers[0].name).activation)
    prefetcher = Prefetcher(loader.batches)
    if copies := spec.config.copies:
        from shardcam.engine.pipeline.sized_pipeline import SizedPipeline

        return SizedPipeline(parts, cast("SizedNetwork", network), prefetcher, copies)
    return ShardPipeline(parts, ForwardAhead(prefetcher, network))


def build_parts(spec: WorkerSpec) -> tuple[BatchLoader, Parts]:
    """Load the model: what makes batches of a shard, and what makes results of batches."""
    ready_libraries()
    from shardcam.engine.models.layer_names import class_count
    from shardcam.engine.models.segmentation import over_pixels
    from shardcam.engine.models.similar_outputs import similar_to
    from shardcam.engine.pipeline.run_shard import Parts
    from shardcam.engine.pipeline.targets import parse_targets
    from shardcam.kernels import warm_up

    config = spec.config
    if config.gpus_per_worker:
        require_gpu(config.runtime)
    sizes = open_size(config, spec.one_graph) if config.copies else None
    definition = sizes.own if sizes else load_definition(config)
    if definition.digest() != spec.model:
        raise ModelError(f"{config.model}: the weights differ from those the run began with")
    if spec.similar is not None:
        definition = similar_to(definition, spec.similar)
    if spec.mask is not None:
        definition = over_pixels(definition, spec.mask)
    warm_up()
    threads, preprocessing = worker_threads(config), definition.preprocessing
    targets = parse_targets(config.target, class_count(definition), definition.link, spec.given)
    load = partial(_loader, config, targets, preprocessing, spec.batch_size)
    on_gpu = config.runtime == TORCH and config.gpus_per_worker > 0
    processes, lock = None, None
    if on_gpu:
        from shardcam.engine.models.torch.torch_device import ahead_of_passes, lock_pages

        lock = lock_pages
    if count := decode_processes(config):  # they start while the network loads
        from shardcam.engine.workers.decoder_processes import DecoderProcesses

        processes = DecoderProcesses(count, load, preprocessing, spec.batch_size, lock)
    network: Network
    if sizes is None:
        network = _network(spec, definition, threads)
    else:
        network = _sized_networks(spec, sizes, threads)
    parts = Parts(
        network=network,
        method=bound_method(config),
        targets=targets,
        sink=_sink(spec),
        preprocessing=preprocessing,
        save=frozenset(config.save),
        activation_layers=tuple(info.name for info in spec.read),
        half_precision=config.activation_dtype == "f2",
        smooth="aug" in config.smooth,
        fuse=fuse_of(config),
        link=definition.link,
        binary=definition.binary,
        prediction=definition.prediction.name if definition.prediction else None,
        ahead=ahead_of_passes() if on_gpu else nullcontext,
    )
    loader = load(threads, processes)
    if config.decoder == "gpu":
        loader = replace(loader, others=_device_decoding(config, loader))
    return (loader if sizes is None else _of_sizes(spec, loader, network, sizes)), parts


def _sized_networks(spec: WorkerSpec, sizes: OpenSize, threads: int) -> SizedNetworks:
    """The network for pictures at their own size, bound for each as it is met."""
    from shardcam.engine.models.sized_networks import HELD, bind_sizes

    config, gpu = spec.config, spec.config.gpus_per_worker > 0
    return bind_sizes(
        sizes,
        spec.layers,
        config.precision,
        spec.quantization,
        gpu,
        only_read(spec.layers, spec.read, None),
        threads,
        _buffers(config),
        _attention(spec, sizes.own),
        max(HELD, len(config.scales)),
        method_of(config).multi_pass,
    )


def _of_sizes(
    spec: WorkerSpec, loader: BatchLoader, network: Network, sizes: OpenSize
) -> SizedLoader:
    """What makes batches of pictures at their own size: their copies go through the network."""
    from shardcam.engine.pipeline.sized_batches import SizedLoader

    copies = spec.config.copies
    assert copies is not None
    sized, each = cast("SizedNetwork", network), 1 + copies.flip

    def rows_for(height: int, width: int) -> int:
        return max(sized.rows_for(height, width) // each, 1)

    fields = {name: getattr(loader, name) for name in loader.__dataclass_fields__}
    limits = limits_of(spec.config, sizes, spec.layers)
    return SizedLoader(**fields, rows_for=rows_for, refuse=limits.refuse)


def _loader(
    config: RunConfig,
    targets: Targets,
    preprocessing: Preprocessing,
    batch_size: int,
    threads: int = 1,
    processes: DecoderProcesses | None = None,
) -> BatchLoader:
    """What reads and decodes, in a worker or in each of its processes."""
    from shardcam.engine.pipeline.decoder_threads import decoders
    from shardcam.engine.pipeline.prefetch import BatchLoader

    reader = make_reader(config, part_cache(config))
    return BatchLoader(
        reader, targets, preprocessing, batch_size, config.decoding, decoders(threads), processes
    )


def _device_decoding(config: RunConfig, loader: BatchLoader) -> DeviceDecoding:
    """What decodes on the worker's GPU, and has the loader do all else."""
    from shardcam.engine.models.torch.jpeg_decoder import JpegDecoder
    from shardcam.engine.pictures.imaging import SMALL_RANGE, border
    from shardcam.engine.pipeline.device_decoding import DeviceDecoding

    sides = loader.preprocessing.height, loader.preprocessing.width
    colour = border(loader.preprocessing)
    return DeviceDecoding(
        loader, JpegDecoder(sides, colour, SMALL_RANGE, config.gpus_per_worker > 0)
    )


def _network(spec: WorkerSpec, definition: NetworkDefinition, threads: int) -> Network:
    """Bound to the worker's device, by the runtime that the driver chose."""
    gc.collect()  # a network refers to itself: that of a run before goes now, with its memory
    config = spec.config
    gpu, buffers = config.gpus_per_worker > 0, _buffers(config)
    read = only_read(spec.layers, spec.read, definition.prediction)
    attention = _attention(spec, definition)
    if config.runtime == TORCH:
        from shardcam.engine.models.layer_names import with_maps
        from shardcam.engine.models.torch.torch_network import TorchNetwork

        laid = with_maps(definition, [*spec.layers, *read, *attention])
        return TorchNetwork(
            laid, spec.layers, spec.batch_size, config.precision, gpu, read, buffers, attention
        )
    from shardcam.engine.models.mxnet_network import MxnetNetwork

    return MxnetNetwork(
        definition,
        spec.layers,
        spec.batch_size,
        config.precision,
        spec.quantization,
        gpu,
        read,
        threads,
        buffers,
        attention,
    )


def _buffers(config: RunConfig) -> int:
    """Passes that a network holds: averaging over copies runs passes in between."""
    return 2 if config.gpus_per_worker and "aug" not in config.smooth else 1


def _attention(spec: WorkerSpec, definition: NetworkDefinition) -> tuple[str, ...]:
    """Layers that the method reads besides the explained ones."""
    from shardcam.engine.models.layer_names import resolve_layer

    if not method_of(spec.config).reads_attention:
        return ()
    return attention_of(spec.config, definition, resolve_layer(definition, spec.layers[0]))


def worker_threads(config: RunConfig) -> int:
    """Threads of each worker: all cores if it is this process."""
    return usable_cores() if config.executor == "local" else config.cpus_per_worker


def decode_processes(config: RunConfig) -> int:
    """Processes of each worker that read and decode: by default its cores, if it has a GPU."""
    if config.decode_processes is not None:
        return config.decode_processes
    if config.copies or config.decoder == "gpu":  # what they share has the size of a batch
        return 0
    return worker_threads(config) if config.gpus_per_worker else 0


def part_cache(config: RunConfig) -> PartCache | None:
    """The folder of this machine that ``--cache`` names, made if need be."""
    if config.cache is None:
        return None
    return PartCache(Path(config.cache), int(config.cache_size * 1e9))


def only_read(
    layers: tuple[str, ...], read: tuple[LayerInfo, ...], prediction: LayerInfo | None
) -> tuple[str, ...]:
    """Layers whose activations are wanted and that are not explained."""
    wanted = (*read, prediction) if prediction else read
    return tuple(dict.fromkeys(info.name for info in wanted if info.name not in layers))


def _sink(spec: WorkerSpec) -> Sink:
    """The shard files, behind the pictures, each in a thread: what commits last is what counts."""
    from shardcam.engine.methods.heatmaps import heatmaps
    from shardcam.engine.pipeline.background_sink import BackgroundSink
    from shardcam.engine.pipeline.tee_sink import TeeSink
    from shardcam.engine.rundir.hdf5_sink import Hdf5Sink
    from shardcam.engine.rundir.overlays import OverlaySink, OverlayStyle

    config = spec.config
    run_dir = RunDir.open(config.out)
    shards = BackgroundSink(Hdf5Sink(run_dir, spec.specs, spec.fingerprint, config.codec))
    if "overlays" not in config.save:
        return shards
    style = OverlayStyle(config.overlay_format, config.colormap, config.alpha, config.overlay_norm)
    fuse = partial(heatmaps, fuse=fuse_of(config))
    return TeeSink(BackgroundSink(OverlaySink(run_dir, style, fuse)), shards)
