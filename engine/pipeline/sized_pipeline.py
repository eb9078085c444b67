"""How pictures become maps that keep their size: at several scales, and mirrored.

Pictures of a batch have one size. At each scale its rows are the pictures, and behind them the
mirrored ones; they go through the network in as many passes as its memory asks for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from shardcam.engine.errors import OutOfMemory, bugs_named
from shardcam.engine.methods.arrays import scale_maps, to_host
from shardcam.engine.methods.scores import linked
from shardcam.engine.pictures.imaging import stacked
from shardcam.engine.pictures.resampling import rescaled, scaled_size
from shardcam.engine.pipeline.forward_ahead import next_batch
from shardcam.engine.pipeline.prefetch import Batch, Prefetcher
from shardcam.engine.pipeline.run_shard import (
    Parts,
    Results,
    pooled,
    publish,
    raw_maps,
    scores_of,
)
from shardcam.engine.pipeline.targets import top_classes
from shardcam.engine.protocols import ForwardPass, SizedNetwork, Timer
from shardcam.engine.types import (
    F4,
    I4,
    NO_CLASS,
    NO_LINK,
    TOP,
    U1,
    Copies,
    Failure,
    Flag,
    GridMaps,
    ResultBatch,
    Shard,
    ShardReport,
)

_EVERYWHERE = Flag.ALL_ZERO | Flag.CONSTANT  # these are of a map only if they are at every scale


@dataclass(frozen=True)
class SizedPipeline:
    """The runner (`engine.protocols.ShardRunner`) that extracts maps of pictures as large as they.

    `network` is that of `parts`.
    """

    parts: Parts
    network: SizedNetwork
    prefetcher: Prefetcher
    copies: Copies

    def run(self, shard: Shard, timer: Timer, next_shard: Shard | None = None) -> ShardReport:
        """See `engine.pipeline.run_shard.ShardPipeline.run`."""
        batches = list[int]()
        report = publish(shard, self._results(shard, timer, next_shard, batches), self.parts, timer)
        return replace(report, room=sum(batches))

    def _results(
        self, shard: Shard, timer: Timer, next_shard: Shard | None, room: list[int]
    ) -> Results:
        batches = self.prefetcher.batches(shard, next_shard)
        while (batch := next_batch(batches, timer)) is not None:
            done, results = self._of_batch(batch, timer) if batch.samples else (batch, None)
            room.append(done.room)
            yield done, results

    def _of_batch(self, batch: Batch, timer: Timer) -> tuple[Batch, ResultBatch | None]:
        """The results of a batch, or failures of pictures that are too large for the memory."""
        try:
            with bugs_named(batch.samples):
                return batch, explain_copies(batch, self.parts, self.network, self.copies, timer)
        except OutOfMemory:
            height, width = batch.views[0].pixels.shape[:2]
            large = scaled_size(height, width, max(self.copies.scales))
            if self.network.rows_for(*large) > 1:
                raise  # it is not for them
        self.network.let_go()
        why = f"at {large[1]}x{large[0]} pixels memory ran out"
        failed = [Failure(s.key, s.index, "forward", "too large", why) for s in batch.samples]
        failures = *batch.failures, *failed
        return replace(batch, samples=(), views=(), failures=failures, room=0), None


@dataclass(frozen=True)
class _Scores:
    """What is known of the pictures themselves, before any copy of them is explained."""

    logits: F4  # (N,classes)
    target: I4  # (N,K)
    pooled: dict[str, F4]  # (N,C) of each layer


def explain_copies(
    batch: Batch, parts: Parts, network: SizedNetwork, copies: Copies, timer: Timer
) -> ResultBatch:
    """Everything that is asked for about pictures of one size, and their maps at all scales.

    Scores are those of the pictures at the scale 1, or at the first.
    """
    scales = copies.scales
    first = 1.0 if 1.0 in scales else scales[0]
    found: dict[float, dict[str, F4]] = {}
    known: _Scores | None = None
    for scale in sorted(scales, key=lambda scale: scale != first):
        with timer.stage("forward"):
            rows = _rows(batch, parts, scale, copies.flip)
        maps, known = _explained(rows, batch, parts, network, known, timer)
        with timer.stage("map"):
            found[scale] = {n: _joined(raw, copies.flip) for n, raw in maps.items()}
    assert known is not None
    with timer.stage("map"):
        scores = linked(known.logits, parts.link)
        top = top_classes(known.logits, min(TOP, known.logits.shape[1]))
        if parts.link == NO_LINK:
            top[:] = NO_CLASS
        flags = np.array([view.flags for view in batch.views], np.uint8)
        flags[~np.isfinite(known.logits).all(axis=1)] |= Flag.NON_FINITE.value
        grids: dict[str, GridMaps] = {}
        for layer in found[first]:
            grids[layer], raised = _scaled([found[scale][layer] for scale in scales])
            flags |= np.bitwise_or.reduce(raised * (known.target != NO_CLASS), axis=1)
        return ResultBatch(
            samples=batch.samples,
            views=batch.views,
            target=known.target,
            score=scores_of(scores, known.target),
            top_class=top,
            top_score=scores_of(scores, top),
            flags=flags,
            grids=grids,
            pooled=known.pooled,
            logits=known.logits[:, int(parts.binary) :] if "logits" in parts.save else None,
        )


def _rows(batch: Batch, parts: Parts, scale: float, flip: bool) -> U1:
    """(N,h,w,channels) pictures at a scale, and as many mirrored ones behind them."""
    pictures = [rescaled(view.pixels, scale) for view in batch.views]
    height, width = pictures[0].shape[:2]
    plain = stacked(pictures, replace(parts.preprocessing, height=height, width=width))
    return np.concatenate([plain, plain[:, :, ::-1]]) if flip else plain


def _explained(
    rows: U1,
    batch: Batch,
    parts: Parts,
    network: SizedNetwork,
    known: _Scores | None,
    timer: Timer,
) -> tuple[dict[str, F4], _Scores]:
    """Raw maps of each layer, a row for each of `rows`, and the scores if they are not known yet.

    A mirrored picture is explained after the picture, or in the same pass: its classes are those.
    """
    count = len(batch.samples)
    target = list[I4]() if known is None else [known.target]
    logits, means, maps = list[F4](), list[dict[str, F4]](), list[dict[str, F4]]()
    for start, forward, size in _passes(rows, network, timer):
        with timer.stage("forward"):
            forward.wait()
        if known is None and start < count:
            stop = min(start + size, count)
            with timer.stage("head"):
                logits.append(forward.logits[: stop - start])
            scores = linked(logits[-1], parts.link)
            target.append(parts.targets.choose(logits[-1], scores, batch.samples[start:stop]))
            if "pooled" in parts.save:
                read = {n: forward.activation(n)[: stop - start] for n in parts.activation_layers}
                means.append(to_host({"": pooled(read)})[""])
        with timer.stage("map"):
            classes = np.concatenate(target)
            own = classes[np.arange(start, start + size) % count]
            maps.append(to_host({"": raw_maps(forward, own, parts)})[""])
    if known is None:
        known = _Scores(np.concatenate(logits), np.concatenate(target), _stacked(means))
    return _stacked(maps), known


def _passes(
    rows: U1, network: SizedNetwork, timer: Timer
) -> Iterator[tuple[int, ForwardPass, int]]:
    """The first row of each pass, the pass and its number of rows.

    A pass is begun before the results of the last are used, if the network holds both.
    """
    passes = -(-len(rows) // network.rows_for(rows.shape[1], rows.shape[2]))
    most = -(-len(rows) // passes)  # of passes that are about as long
    begun: deque[tuple[int, ForwardPass, int]] = deque()
    for start in range(0, len(rows), most):
        some = rows[start : start + most]
        with timer.stage("forward"):
            begun.append((start, network.forward(some), len(some)))
        if len(begun) == network.buffers:
            yield begun.popleft()
    yield from begun


def _stacked(parts: list[dict[str, F4]]) -> dict[str, F4]:
    """The rows of each layer, of all passes."""
    return {n: np.concatenate([part[n] for part in parts]) for n in parts[0]} if parts else {}


def _joined(raw: F4, flip: bool) -> F4:
    """(N,K,h,w) maps, signed; of (2N,K,h,w) what is positive, the mirrored added to the others."""
    if not flip:
        return raw
    plain, mirrored = np.split(np.maximum(raw, np.float32(0)), 2)
    joined: F4 = plain + mirrored[..., ::-1]
    return joined


def _scaled(maps: list[F4]) -> tuple[GridMaps, npt.NDArray[np.uint8]]:
    """S times (N,K,h,w) maps as they are stored, and their flags (N,K)."""
    units, scales, raised = zip(*(scale_maps(np.ascontiguousarray(m)) for m in maps), strict=True)
    anywhere = np.bitwise_or.reduce(raised) & ~np.uint8(_EVERYWHERE)
    flags = anywhere | (np.bitwise_and.reduce(raised) & np.uint8(_EVERYWHERE))
    return GridMaps(tuple(units), np.stack(scales, axis=2)), flags
