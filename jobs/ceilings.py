"""Images per second of each stage in every worker, one stage at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import mean, median
from typing import TYPE_CHECKING, Any

from engine.clock import Clock
from engine.errors import SourceError
from engine.protocols import ForwardPass, ShardRunner
from engine.scratch import open_paths
from engine.store import remove
from engine.types import RunPaths, Shard, ShardReport
from jobs.wiring import Prepared, make_executor
from jobs.worker import WorkerOrder, build_parts

if TYPE_CHECKING:
    from engine.feeding import Feed
    from engine.pipeline import Parts

SECONDS = 3.0  # that each stage is measured for


def measure_stages(prepared: Prepared, workers: int) -> dict[str, float]:
    """Images per second of a worker by stage, while all workers do the same.

    So what they share, the memory and the heat of the processor, counts as it does in a run.

    Raises
    ------
    SourceError
        None of the first images can be used.
    """
    first = prepared.plan.shard(0)
    shards = [replace(first, index=number) for number in range(workers)]
    executor = make_executor(prepared, build_meter)
    found = [report.seconds for report in executor.run(shards, _nobody)]
    return {stage: 1 / mean(seconds[stage] for seconds in found) for stage in found[0]}


def build_meter(order: WorkerOrder) -> ShardRunner:
    """Load the model and make the function that measures with the first batch of a shard.

    Its report has the seconds that an image takes in each stage.
    """
    feed, parts = build_parts(order)
    paths = open_paths(order.config.out)
    return partial(_measure, feed=feed, parts=parts, paths=paths)


def _measure(
    shard: Shard,
    clock: Clock,
    hint: Shard | None = None,
    *,
    feed: Feed,
    parts: Parts,
    paths: RunPaths,
) -> ShardReport:
    """Feed each stage what the one before it made, again and again.

    Forward passes have a source that costs nothing and no sink; writing has a network that
    costs nothing. `forward` ends at the layers to explain, `head` leads on to the logits, and
    `map` has the gradient and the kernels.
    """
    from engine.imaging import network_input, view_of
    from engine.pipeline import explain

    batch = next((b for b in feed.batches(shard) if b.samples), None)
    if batch is None:
        raise SourceError("none of the first images of the source can be used")
    samples, count = batch.samples, len(batch.samples)
    pictures = [view.pixels for view in batch.views]
    files = [(feed.reader.read(sample), sample.box) for sample in samples]
    how = feed.preprocessing, feed.max_pixels, feed.fast_decode

    def run_backbone() -> ForwardPass:
        forward = parts.network.forward(batch.images)
        for layer in parts.network.layers:
            forward.activation(layer.name)  # waits for it
        return forward

    def run_head() -> float:
        forward = run_backbone()
        begun = time.perf_counter()
        assert forward.logits.size  # waits for them
        return time.perf_counter() - begun

    def run_map() -> float:
        forward = run_backbone()
        logits = forward.logits
        begun = time.perf_counter()
        explain(batch, logits, forward, parts)
        return time.perf_counter() - begun

    forward = run_backbone()
    results = explain(batch, forward.logits, forward, parts)
    copies = max(512 // count, 1)  # in one shard, as a large run has them
    many = [
        tuple(replace(sample, index=copy * count + i) for i, sample in enumerate(samples))
        for copy in range(copies)
    ]
    large = Shard(shard.index, tuple(sample for some in many for sample in some))

    def write() -> None:
        writer = parts.sink.open(large)
        for some in many:
            writer.write(replace(results, samples=some))
        writer.commit(())
        remove(paths.shard(shard.index))

    def read() -> None:
        with feed.together(samples):  # as a run does: at a URL one request brings many
            for sample in samples:
                feed.reader.read(sample)

    stages: dict[str, tuple[Callable[[], object], int]] = {
        "read": (read, count),
        "decode": (lambda: [view_of(data, box, *how) for data, box in files], count),
        "normalise": (lambda: network_input(pictures, feed.preprocessing), count),
        "forward": (run_backbone, count),
        "head": (run_head, count),
        "map": (run_map, count),
        "write": (write, count * copies),
    }
    for name, (work, images) in stages.items():
        clock.stage = name
        clock.add(name, _seconds(work) / images)
    return ShardReport(shard.index, count, count, 0, False, clock.seconds)


def _seconds(work: Callable[[], object]) -> float:
    """The median of as many calls as fit in the time.

    `work` may return the seconds that count; else all of it counts.
    """
    work()
    taken: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(taken) < 3 or time.perf_counter() < end:
        begun = time.perf_counter()
        seconds = work()
        whole = time.perf_counter() - begun
        taken.append(seconds if isinstance(seconds, float) else whole)
    return median(taken)


def _nobody(kind: str, /, **facts: Any) -> None:
    """A listener that does nothing: there is no run."""
