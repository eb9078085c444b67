"""Shards one after the other, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from shardcam.engine.errors import bugs_named
from shardcam.engine.pipeline.stage_timer import StageTimer
from shardcam.engine.protocols import Observer, ShardRunner
from shardcam.engine.rundir.events import Progress, ShardDone, ShardStarted
from shardcam.engine.types import Shard, ShardReport

NAME = "local"
PASSES_EVERY = 1.0  # seconds without another report


class LocalExecutor:
    """Runs every shard here.

    Parameters
    ----------
    build
        Makes the runner, once, when the first shard is asked for.
    """

    def __init__(self, build: Callable[[], ShardRunner]) -> None:
        self._build = build

    def run(self, shards: Iterable[Shard], on_event: Observer) -> Iterator[ShardReport]:
        with bugs_named():
            runner = self._build()
        rest = iter(shards)
        shard = next(rest, None)
        while shard is not None:
            next_shard = next(rest, None)
            progress = _ProgressReporter(on_event, shard)
            on_event(ShardStarted.of(NAME, shard))
            timer = StageTimer(progress, progress.on_pass)
            begun = time.perf_counter()
            try:
                with bugs_named(shard.samples):
                    report = runner.run(shard, timer, next_shard)
            except Exception:
                if progress.raised is None:
                    raise
            if progress.raised is not None:  # here, so that it arrives as it is
                raise progress.raised
            on_event(ShardDone.of(NAME, report, time.perf_counter() - begun))
            yield report
            shard = next_shard


class _ProgressReporter:
    """Reports `Progress`, and holds what the observer raises: that is not our bug."""

    def __init__(self, on_event: Observer, shard: Shard) -> None:
        self._on_event, self._shard = on_event, shard
        self._images = self._passes = 0
        self._told = time.monotonic()
        self.raised: Exception | None = None

    def __call__(self, images: int) -> None:
        self._images = images
        self._report()

    def on_pass(self, passes: int) -> None:
        """Report passes within a batch, which may take an hour, from time to time."""
        self._passes = passes
        if time.monotonic() - self._told >= PASSES_EVERY:
            self._report()

    def _report(self) -> None:
        self._told = time.monotonic()
        progress = Progress(NAME, self._shard.index, self._images, passes=self._passes)
        try:
            self._on_event(progress)
        except Exception as error:
            self.raised = error
            raise
