"""Shards one after the other, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from shardcam.engine.errors import bugs_named
from shardcam.engine.pipeline.stage_timer import StageTimer
from shardcam.engine.protocols import Observer, ShardRunner
from shardcam.engine.rundir.events import Progress, ShardDone, ShardStarted
from shardcam.engine.types import Shard, ShardReport

NAME = "local"


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
        for shard in shards:
            timer = StageTimer(partial(_progress, on_event, shard))
            on_event(ShardStarted.of(NAME, shard))
            begun = time.perf_counter()
            with bugs_named(shard.samples):
                report = runner.run(shard, timer)
            on_event(ShardDone.of(NAME, report, time.perf_counter() - begun))
            yield report


def _progress(on_event: Observer, shard: Shard, images: int) -> None:
    on_event(Progress(NAME, shard.index, images))
