"""How an image becomes a map: read -> decode -> forward -> map -> write.

Every executor runs `ShardPipeline`, and there is no other path through the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace

from shardcam.engine.errors import bugs_named
from shardcam.engine.methods.arrays import halved, like, scale_maps, to_host
from shardcam.engine.methods.heatmaps import heatmaps
from shardcam.engine.methods.scores import linked, won_pixels
from shardcam.engine.methods.smoothing import plain_maps, smoothed_maps
from shardcam.engine.pipeline.forward_ahead import ForwardAhead
from shardcam.engine.pipeline.prefetch import Batch
from shardcam.engine.pipeline.targets import Targets, top_classes
from shardcam.engine.protocols import ForwardPass, Method, Network, Sink, Timer
from shardcam.engine.types import (
    F4,
    I4,
    NO_CLASS,
    NO_LINK,
    SOFTMAX,
    TOP,
    U1,
    Flag,
    LayerMaps,
    Preprocessing,
    ResultBatch,
    Shard,
    ShardReport,
)

Results = Iterator[tuple[Batch, ResultBatch | None]]  # None: no picture of the batch is good


@dataclass(frozen=True)
class Parts:
    """Everything a worker needs to turn shards into results."""

    network: Network
    method: Method
    targets: Targets
    sink: Sink
    preprocessing: Preprocessing
    save: frozenset[str]
    activation_layers: tuple[str, ...]  # whose activations are saved
    half_precision: bool  # of saved activations
    smooth: bool = False  # average the maps over changed copies of the images
    fuse: str = "mean"  # how the maps of several layers become one heatmap
    link: str = SOFTMAX  # from logits to scores
    binary: bool = False  # of the logits -z and z only z is saved
    prediction: str | None = None  # layer of the logits of pixels, of a segmentation network
    # Within it a GPU makes maps before it goes on with the passes that run beside.
    ahead: Callable[[], AbstractContextManager[object]] = nullcontext


@dataclass(frozen=True)
class ShardPipeline:
    """The runner (`engine.protocols.ShardRunner`) that extracts maps."""

    parts: Parts
    forward_ahead: ForwardAhead

    def run(self, shard: Shard, timer: Timer, next_shard: Shard | None = None) -> ShardReport:
        """Turn one shard into one published result; nothing is published if this raises.

        Reading and decoding run ahead in a thread (`engine.pipeline.prefetch`), and go on
        with `next_shard`, the shard that is asked for next, and so do the forward passes
        (`engine.pipeline.forward_ahead`). The stage `wait` is the time that the network
        waits for reading and decoding; `forward` is the backbone, `head` what is above the
        explained layers, up to the logits.
        """
        return publish(shard, self._results(shard, timer, next_shard), self.parts, timer)

    def _results(self, shard: Shard, timer: Timer, next_shard: Shard | None) -> Results:
        for batch, forward in self.forward_ahead.passes(shard, next_shard, timer):
            results = None
            if forward is not None:
                with bugs_named(batch.samples):
                    with timer.stage("forward"):
                        forward.wait()
                    with timer.stage("head"):
                        logits = forward.logits
                    with timer.stage("map"):
                        results = explain(batch, logits, forward, self.parts)
            yield batch, results


def publish(shard: Shard, results: Results, parts: Parts, timer: Timer) -> ShardReport:
    """Write what comes of a shard's batches; nothing is published if this raises."""
    failures = list(shard.given_up)
    parts.network.on_pass = timer.pass_begun
    writer = parts.sink.open(shard)
    try:
        with parts.ahead():
            for batch, found in results:
                failures += batch.failures
                if found is not None:
                    with bugs_named(batch.samples), timer.stage("write"):
                        writer.write(found)
                timer.batch_done(batch.listed)
        with timer.stage("write"):
            published = not shard.trial and writer.commit(failures)
    except BaseException:
        writer.discard()
        raise
    if shard.trial:
        writer.discard()
    listed, failed = len(shard.samples), len(failures)
    return ShardReport(shard.index, listed, listed - failed, failed, published, timer.seconds)


def explain(batch: Batch, logits: F4, forward: ForwardPass, parts: Parts) -> ResultBatch:
    """Everything that is asked for about one batch: its maps, and what else is saved."""
    samples, views = batch.samples, batch.views
    save, prediction, order = parts.save, None, logits
    if parts.prediction is None:
        scores = linked(logits, parts.link)
    else:
        won, shares = won_pixels(forward.activation(parts.prediction), parts.link)
        prediction, scores = to_host({"": {"won": won, "shares": shares}})[""].values()
        order = scores
    target = parts.targets.choose(order, scores, samples)
    top = top_classes(order, min(TOP, logits.shape[1]))
    if parts.link == NO_LINK:
        top[:] = NO_CLASS
    elif prediction is not None:
        top = _winning(scores, top)
        if parts.targets.kind == "top":
            target = _winning(scores, target)
    activations = {name: forward.activation(name) for name in parts.activation_layers}
    maps, raised = _scaled(raw_maps(forward, target, parts))
    drawn = "heatmaps" in save or ("overlays" in save and len(maps) > 1)
    size = (parts.preprocessing.height, parts.preprocessing.width)
    half = parts.half_precision and "activations" in save
    # What is on a GPU stays there until here.
    found = to_host(
        {
            "normalized": {name: layer.normalized for name, layer in maps.items()},
            "scale": {name: layer.scale for name, layer in maps.items()},
            "raised": raised,
            "activations": _stored(activations, half) if "activations" in save else {},
            "pooled": pooled(activations) if "pooled" in save else {},
            "largest": _largest(activations) if half else {},
            "heatmap": {"": heatmaps(maps, size, parts.fuse)} if drawn else {},
        }
    )
    flags = np.array([view.flags for view in views], np.uint8)
    for bits in found["raised"].values():
        flags |= np.bitwise_or.reduce(bits * (target != NO_CLASS), axis=1)
    flags[~np.isfinite(logits).all(axis=1)] |= Flag.NON_FINITE.value
    for values in found["largest"].values():
        flags[values > np.finfo(np.float16).max] |= Flag.TOO_LARGE.value
    return ResultBatch(
        samples=samples,
        views=views,
        target=target,
        score=scores_of(scores, target),
        top_class=top,
        top_score=scores_of(scores, top),
        flags=flags,
        maps={n: LayerMaps(found["normalized"][n], found["scale"][n]) for n in maps},
        activations=found["activations"],
        pooled=found["pooled"],
        prediction=prediction,
        logits=logits[:, int(parts.binary) :] if "logits" in save else None,
        heatmap=found["heatmap"].get(""),
    )


def scores_of(scores: F4, classes: I4) -> F4:
    """(N,classes), (N,K) -> (N,K), NaN where there is no class, or no finite score of it."""
    found = np.take_along_axis(scores, classes, axis=1)
    return np.where((classes != NO_CLASS) & np.isfinite(found), found, np.float32(np.nan))


def _winning(share: F4, classes: I4) -> I4:
    """(N,classes), (N,K) -> (N,K) the classes but those that win no pixel."""
    nowhere = np.take_along_axis(share, classes, axis=1) == 0
    return np.where(nowhere, np.int32(NO_CLASS), classes)


def raw_maps(forward: ForwardPass, target: I4, parts: Parts) -> dict[str, F4]:
    """Raw maps of every layer, NaN where there is no class to explain.

    What else is wanted of the pass must be read before. Columns without any class, which are
    the last, cost nothing.
    """
    without = target == NO_CLASS
    used = max(1, np.count_nonzero(~without.all(axis=0)))
    some = np.ascontiguousarray(np.maximum(target[:, :used], 0))
    if parts.smooth:
        maps = smoothed_maps(parts.network, parts.method, forward.images, some)
    else:
        maps = plain_maps(forward, parts.network, parts.method, some)
    if not without.any():
        return maps
    return {name: _filled(raw, without) for name, raw in maps.items()}


def _filled(raw: F4, without: npt.NDArray[np.bool_]) -> F4:
    """(N,k,h,w) maps of the first columns -> (N,K,h,w), NaN `without` a class."""
    names = array_namespace(raw)
    missing = without.shape[1] - raw.shape[1]
    whole = names.concat([raw, *[names.zeros_like(raw[:, :1])] * missing], axis=1)
    filled: F4 = names.where(like(without[..., None, None], raw), np.float32(np.nan), whole)
    return filled


def _scaled(raw: dict[str, F4]) -> tuple[dict[str, LayerMaps], dict[str, U1]]:
    """Maps of every layer as they are stored, and the flags (N,K) of each."""
    scaled = {name: scale_maps(values) for name, values in raw.items()}
    maps = {name: LayerMaps(unit, scale) for name, (unit, scale, _) in scaled.items()}
    return maps, {name: flags for name, (_, _, flags) in scaled.items()}


def _stored(activations: dict[str, F4], half: bool) -> dict[str, F4]:
    """As they are saved; what is not on a GPU is halved by whoever writes."""
    return {n: halved(v) if half else v for n, v in activations.items()}


def pooled(activations: dict[str, F4]) -> dict[str, F4]:
    """Spatial means; a dense layer's values are their own."""
    return {
        n: array_namespace(v).mean(v.reshape(*v.shape[:2], -1), axis=2)
        for n, v in activations.items()
    }


def _largest(activations: dict[str, F4]) -> dict[str, F4]:
    """(N,) the largest magnitude of each image's values."""
    return {
        n: array_namespace(v).max(abs(v).reshape(len(v), -1), axis=1)
        for n, v in activations.items()
    }
