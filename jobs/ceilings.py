"""Images per second of each stage of one worker, while nothing else goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from engine.errors import SourceError
from engine.store import remove
from engine.types import Shard
from jobs.wiring import Prepared, worker_order
from jobs.worker import build_parts

SECONDS = 2.0  # that each stage is measured for


def measure_stages(prepared: Prepared) -> dict[str, float]:
    """Feed each stage what the one before it made, again and again.

    Forward passes have a source that costs nothing and no sink; writing has a network that
    costs nothing.

    Raises
    ------
    SourceError
        None of the first images can be used.
    """
    from engine.imaging import network_input, view_of
    from engine.pipeline import explain

    feed, parts = build_parts(worker_order(prepared))
    batch = next((b for b in feed.batches(prepared.plan.shard(0)) if b.samples), None)
    if batch is None:
        raise SourceError(f"{prepared.config.source}: none of its first images can be used")
    samples, count = batch.samples, len(batch.samples)
    pictures = [view.pixels for view in batch.views]
    files = [(feed.reader.read(sample), sample.box) for sample in samples]
    how = feed.preprocessing, feed.max_pixels, feed.fast_decode

    def compute() -> None:
        forward = parts.network.forward(batch.images)
        assert forward.logits.size  # waits for it

    def compute_and_map() -> float:
        forward = parts.network.forward(batch.images)
        logits = forward.logits
        begun = time.perf_counter()
        explain(batch, logits, forward, parts)
        return time.perf_counter() - begun

    forward = parts.network.forward(batch.images)
    results = explain(batch, forward.logits, forward, parts)
    copies = max(512 // count, 1)  # in one shard, as a large run has them
    many = [
        tuple(replace(sample, index=copy * count + i) for i, sample in enumerate(samples))
        for copy in range(copies)
    ]

    def write() -> None:
        writer = parts.sink.open(Shard(0, tuple(sample for some in many for sample in some)))
        for some in many:
            writer.write(replace(results, samples=some))
        writer.commit(())
        remove(prepared.paths.shard(0))

    def read() -> None:
        with feed.together(samples):  # as a run does: at a URL one request brings many
            for sample in samples:
                feed.reader.read(sample)

    return {
        "read": _rate(read, count),
        "decode": _rate(lambda: [view_of(data, box, *how) for data, box in files], count),
        "normalise": _rate(lambda: network_input(pictures, feed.preprocessing), count),
        "forward": _rate(compute, count),
        "map": _rate(compute_and_map, count),
        "write": _rate(write, count * copies),
    }


def _rate(work: Callable[[], object], images: int) -> float:
    """Images per second: the median of as many calls as fit in the time.

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
    return images / sorted(taken)[len(taken) // 2]
