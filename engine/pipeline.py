"""How an image becomes a map: read -> decode -> forward -> map -> write.

Every executor runs :func:`run_shard`, and there is no other path through the engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.clock import Clock
from engine.heatmaps import heatmaps
from engine.imaging import UndecodableImage, luminance, view_of
from engine.protocols import ForwardPass, Method, Network, Reader, Sink
from engine.smoothing import plain_maps, smoothed_maps
from engine.targets import Targets, softmax, top_classes
from engine.types import (
    F4,
    I4,
    TOO_LARGE,
    TOP,
    U1,
    Failure,
    LayerMaps,
    Preprocessing,
    ResultBatch,
    Sample,
    Shard,
    ShardReport,
    View,
)
from kernels import NON_FINITE, planar, scale_maps


@dataclass(frozen=True)
class Parts:
    """Everything a worker needs to turn shards into results."""

    reader: Reader
    network: Network
    method: Method
    targets: Targets
    sink: Sink
    preprocessing: Preprocessing
    batch_size: int
    max_pixels: int
    save: frozenset[str]
    read: tuple[str, ...]  # layers whose activations are saved
    half: bool  # in half precision
    fast_decode: bool = False  # decode JPEG files no larger than needed
    smooth: bool = False  # average the maps over changed copies of the images
    fuse: str = "mean"  # how the maps of several layers become one heatmap


def run_shard(shard: Shard, clock: Clock, parts: Parts) -> ShardReport:
    """Turn one shard into one published result; nothing is published if this raises."""
    failures = list(shard.lost)
    lost = {failure.sample for failure in failures}
    writer = parts.sink.open(shard)
    try:
        for samples in _batches(shard.samples, parts.batch_size):
            wanted = [sample for sample in samples if sample.index not in lost]
            results = _run_batch(wanted, clock, parts, failures)
            if results is not None:
                with clock("write"):
                    writer.write(results)
            clock.batch_done(len(samples))
        with clock("write"):
            published = not shard.trial and writer.commit(failures)
    except BaseException:
        writer.discard()
        raise
    if shard.trial:
        writer.discard()
    listed, failed = len(shard.samples), len(failures)
    return ShardReport(shard.index, listed, listed - failed, failed, published, clock.seconds)


def _run_batch(
    samples: Sequence[Sample], clock: Clock, parts: Parts, failures: list[Failure]
) -> ResultBatch | None:
    """From samples to results; None if there is no picture among them."""
    with clock("read"):
        files = _read(_with_target(samples, parts.targets, failures), parts.reader, failures)
    with clock("decode"):
        pictures = _decode(files, parts, failures)
    if not pictures:
        return None
    with clock("forward"):
        images = network_input([v for _, v in pictures], parts.preprocessing)
        forward = parts.network.forward(images)
        logits = forward.logits
    with clock("map"):
        return _explain(pictures, logits, forward, parts)


def _batches(samples: Sequence[Sample], size: int) -> Iterator[Sequence[Sample]]:
    for start in range(0, len(samples), size):
        yield samples[start : start + size]


def _with_target(
    samples: Sequence[Sample], targets: Targets, failures: list[Failure]
) -> Iterator[Sample]:
    """The samples that have a class to explain."""
    for sample in samples:
        reason = targets.refusal(sample)
        if reason is None:
            yield sample
        else:
            failures.append(Failure(sample.key, sample.index, "target", "no target", reason))


def _read(
    samples: Iterator[Sample], reader: Reader, failures: list[Failure]
) -> list[tuple[Sample, bytes | U1]]:
    files = []
    for sample in samples:
        try:
            files.append((sample, reader.read(sample)))
        except OSError as error:
            message = error.strerror or str(error)
            failures.append(Failure(sample.key, sample.index, "read", "unreadable", message))
    return files


def _decode(
    files: list[tuple[Sample, bytes | U1]], parts: Parts, failures: list[Failure]
) -> list[tuple[Sample, View]]:
    pictures = []
    for sample, data in files:
        try:
            seen = view_of(
                data, sample.box, parts.preprocessing, parts.max_pixels, parts.fast_decode
            )
            pictures.append((sample, seen))
        except UndecodableImage as error:
            failures.append(Failure(sample.key, sample.index, "decode", error.reason, str(error)))
    return pictures


def network_input(views: Sequence[View], preprocessing: Preprocessing) -> F4:
    """Views (H,W,3) u1 -> (N,channels,H,W) f4, normalised; one channel is the luminance."""
    mean = np.array(preprocessing.mean, np.float32)
    std = np.array(preprocessing.std, np.float32)
    images = np.empty((len(views), *preprocessing.input_shape), np.float32)
    for image, seen in zip(images, views, strict=True):
        if len(mean) == 1:
            image[0] = (luminance(seen.pixels) - mean) / std
        else:
            planar(seen.pixels, mean, std, image)
    return images


def _explain(
    pictures: list[tuple[Sample, View]], logits: F4, forward: ForwardPass, parts: Parts
) -> ResultBatch:
    """Everything that is asked for about one batch."""
    samples = tuple(sample for sample, _ in pictures)
    views = tuple(seen for _, seen in pictures)
    target = parts.targets.choose(logits, samples)
    probability = softmax(logits)
    top = top_classes(logits, min(TOP, logits.shape[1]))
    save = parts.save
    read = {name: forward.activation(name) for name in parts.read}
    maps, flags = _scaled(_maps(forward, target, parts))
    flags[~np.isfinite(logits).all(axis=1)] |= NON_FINITE
    if parts.half and "activations" in save:
        flags[_too_large(read)] |= TOO_LARGE
    drawn = "heatmaps" in save or ("overlays" in save and len(maps) > 1)
    size = (parts.preprocessing.height, parts.preprocessing.width)
    return ResultBatch(
        samples=samples,
        views=views,
        target=target,
        score=np.take_along_axis(probability, target, axis=1),
        top_class=top,
        top_score=np.take_along_axis(probability, top, axis=1),
        flags=flags,
        maps=maps,
        activations=read if "activations" in save else {},
        pooled=_pooled(read) if "pooled" in save else {},
        logits=logits if "logits" in save else None,
        heatmap=heatmaps(maps, size, parts.fuse) if drawn else None,
    )


def _maps(forward: ForwardPass, target: I4, parts: Parts) -> dict[str, F4]:
    """Raw maps of every layer. What else is wanted of the pass must be read before."""
    if parts.smooth:
        return smoothed_maps(parts.network, parts.method, forward.images, target)
    return plain_maps(forward, parts.network, parts.method, target)


def _scaled(raw: dict[str, F4]) -> tuple[dict[str, LayerMaps], U1]:
    """Maps of every layer as they are stored, and each image's flags."""
    maps: dict[str, LayerMaps] = {}
    flags = np.zeros(len(next(iter(raw.values()))), np.uint8)
    for name, values in raw.items():
        unit, scale, raised = scale_maps(values)
        maps[name] = LayerMaps(unit, scale)
        flags |= np.bitwise_or.reduce(raised, axis=1)
    return maps, flags


def _pooled(activations: dict[str, F4]) -> dict[str, F4]:
    """Spatial means; a dense layer's values are their own."""
    return {n: v.reshape(*v.shape[:2], -1).mean(axis=2) for n, v in activations.items()}


def _too_large(activations: dict[str, F4]) -> npt.NDArray[np.bool_]:
    """(N,) images with a value that half precision cannot hold."""
    largest = [np.abs(v).reshape(len(v), -1).max(axis=1) for v in activations.values()]
    too_large: npt.NDArray[np.bool_] = np.max(largest, axis=0) > np.finfo(np.float16).max
    return too_large
