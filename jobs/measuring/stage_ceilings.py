"""Images per second of each stage by itself, in every worker at about the same time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle, islice
from statistics import mean, median
from typing import TYPE_CHECKING

from shardcam.engine.errors import SourceError
from shardcam.engine.pipeline.bottleneck import BESIDE
from shardcam.engine.protocols import ForwardPass, Observer, Timer
from shardcam.engine.run.build_executor import make_executor
from shardcam.engine.run.build_worker import WorkerSpec, build_parts
from shardcam.engine.run.prepare import Prepared
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.types import F4, U1, Box, ResultBatch, Shard, ShardReport, View, shard_name

if TYPE_CHECKING:
    from shardcam.engine.pipeline.prefetch import Batch, BatchLoader
    from shardcam.engine.pipeline.run_shard import Parts

SECONDS = 3.0  # that each stage is measured for
ROWS = 512  # of a shard that is written, about
NETWORK = ("normalise", "forward", "head", "map", "write")


def stage_names(gpu: bool) -> list[str]:
    """The stages that are measured, in this order; a GPU normalises as a part of the pass."""
    return [name for name in (*BESIDE, *NETWORK) if not (gpu and name == "normalise")]


def measure_stages(prepared: Prepared, workers: int, on_event: Observer) -> dict[str, float]:
    """Images per second of a worker by stage, while the others do the same.

    So what they share, the memory and the heat of the processor, counts as it does in a run.
    The images of a `Progress` are the stages that its worker has measured.

    Raises
    ------
    SourceError
        None of the first images can be used.
    """
    first = prepared.plan.shard(0)
    shards = [replace(first, index=number) for number in range(workers)]
    executor = make_executor(prepared, StageMeter)
    found = [report.seconds for report in executor.run(shards, on_event)]
    return {stage: 1 / mean(seconds[stage] for seconds in found) for stage in found[0]}


def seconds_per_image(alone: dict[str, float], gpu: bool) -> float:
    """Seconds per image of a worker whose stages take as long as they do alone.

    On a CPU all of them share its cores. A GPU works beside them.
    """
    beside, network = (
        sum(1 / alone[stage] for stage in part if stage in alone) for part in (BESIDE, NETWORK)
    )
    return max(beside, network) if gpu else beside + network


class StageMeter:
    """Measures the stages of a worker with the first batch of a shard."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._source = spec.config.source
        self._run_dir = RunDir.open(spec.config.out)
        self._gpu = spec.config.gpus_per_worker > 0
        self._loader, self._parts = build_parts(spec)

    def run(self, shard: Shard, timer: Timer, next_shard: Shard | None = None) -> ShardReport:
        """Report the seconds that an image takes in each stage."""
        batch = next((b for b in self._loader.batches(shard) if b.samples), None)
        if batch is None:
            raise SourceError(f"{self._source}: none of its first images can be used")
        count = len(batch.samples)
        stages = _Stages(self._loader, self._parts, self._run_dir, batch, shard.index, self._gpu)
        seconds: dict[str, float] = {}
        for name in stage_names(self._gpu):
            images = len(stages.large.samples) if name == "write" else count
            with timer.stage(name):
                seconds[name] = _seconds(getattr(stages, name)) / images
            timer.batch_done(1)
        return ShardReport(shard.index, count, count, 0, False, seconds)


class _Stages:
    """Each is fed what the one before it made; some return the seconds that count.

    Forward passes have a source that costs nothing and no sink; writing has a network that
    costs nothing.
    """

    def __init__(
        self,
        loader: BatchLoader,
        parts: Parts,
        run_dir: RunDir,
        batch: Batch,
        shard: int,
        gpu: bool,
    ) -> None:
        self._loader, self._parts, self._run_dir, self._batch = loader, parts, run_dir, batch
        self._files = [(loader.reader.read(sample), sample.box) for sample in batch.samples]
        self._images = batch.images if gpu else self.normalise()
        forward = self.forward()
        self._results = self._explain(forward, forward.logits)
        count = len(batch.samples) * max(ROWS // len(batch.samples), 1)
        rows = (replace(sample, index=i) for i, sample in enumerate(cycle(batch.samples)))
        self.large = Shard(shard, tuple(islice(rows, count)))

    def read(self) -> None:
        deque(self._loader.reader.read_many(self._batch.samples), maxlen=0)

    def decode(self) -> float:
        """Others read, too: of each a batch, so that all have as much to do."""
        begun, batches = time.perf_counter(), 1
        if (others := self._loader.others) is not None:
            batches = others.count
            deque(others.load([self._batch.samples] * batches), maxlen=0)
        else:
            deque(self._loader.decoders.map(self._view, self._files), maxlen=0)
        return (time.perf_counter() - begun) / batches

    def normalise(self) -> F4:
        from shardcam.engine.models.normalise import normalised

        return normalised(self._batch.images, self._loader.preprocessing)

    def forward(self) -> ForwardPass:
        forward = self._parts.network.forward(self._images)
        for layer in self._parts.network.layers:
            forward.activation(layer.name)  # waits for it
        return forward

    def head(self) -> float:
        """From there to the logits."""
        forward = self.forward()
        begun = time.perf_counter()
        assert forward.logits.size  # waits for them
        return time.perf_counter() - begun

    def map(self) -> float:
        """The gradient, and the kernels."""
        forward = self.forward()
        logits = forward.logits
        begun = time.perf_counter()
        self._explain(forward, logits)
        return time.perf_counter() - begun

    def write(self) -> None:
        writer, rows = self._parts.sink.open(self.large), iter(self.large.samples)
        while some := tuple(islice(rows, len(self._batch.samples))):
            writer.write(replace(self._results, samples=some))
        writer.commit(())
        self._run_dir.remove(self._run_dir.shards / shard_name(self.large.index))

    def _view(self, file: tuple[bytes | U1, Box | None]) -> View:
        from shardcam.engine.pictures.imaging import view_of

        loader = self._loader
        return view_of(*file, loader.preprocessing, loader.decoding)

    def _explain(self, forward: ForwardPass, logits: F4) -> ResultBatch:
        from shardcam.engine.pipeline.run_shard import explain

        return explain(self._batch, logits, forward, self._parts)


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
