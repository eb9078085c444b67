"""Shards one after the other, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from shardcam.engine.errors import bugs_named
from shardcam.engine.pipeline.stage_timer import StageTimer
from shardcam.engine.protocols import Listener, ShardRunner
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

    def run(self, shards: Iterable[Shard], heard: Listener) -> Iterator[ShardReport]:
        """See :class:`engine.protocols.Executor`."""
        with bugs_named():
            runner = self._build()
        for shard in shards:
            timer = StageTimer(partial(_progress, heard, shard))
            heard("shard_started", **start_facts(NAME, shard))
            begun = time.perf_counter()
            with bugs_named(shard.samples):
                report = runner(shard, timer)
            heard("shard_done", **done_facts(NAME, report, time.perf_counter() - begun))
            yield report


def _progress(heard: Listener, shard: Shard, images: int) -> None:
    heard("progress", worker=NAME, shard=shard.index, images=images)


def start_facts(worker: str, shard: Shard) -> dict[str, object]:
    """Of the event `shard_started`."""
    return {
        "shard": shard.index,
        "worker": worker,
        "images": len(shard.samples),
        "trial": shard.trial,
    }


def done_facts(worker: str, report: ShardReport, took: float) -> dict[str, object]:
    """Of the event `shard_done`."""
    return {
        "shard": report.shard,
        "worker": worker,
        "images": report.listed,
        "failed": report.failed,
        "published": report.published,
        "took": round(took, 4),
        "seconds": {stage: round(value, 4) for stage, value in report.seconds.items()},
    }
