"""Runs that are timed, each into a directory of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from shardcam.engine.config import RunConfig
from shardcam.engine.models.cuda import visible_gpus
from shardcam.engine.protocols import Observer
from shardcam.engine.run.build_executor import make_executor
from shardcam.engine.run.build_worker import worker_threads
from shardcam.engine.run.driver import execute
from shardcam.engine.run.prepare import prepare
from shardcam.engine.rundir.event_log import read_events, worker_rate
from shardcam.engine.rundir.events import ignore
from shardcam.engine.types import counted
from shardcam.engine.workers.cores import usable_cores
from shardcam.jobs.measuring.start_together import StartTogether

SHARDS = 4  # of each worker, at least
FEWEST = 8  # images of a shard


@dataclass(frozen=True)
class Whole:
    """A setting, and its runs over the images."""

    workers: int
    cpus_per_worker: int
    batch_size: int
    precision: str
    images: int
    rounds: tuple[float, ...]  # images/s of all workers in each run: without start-up
    images_per_second: float  # their median
    bottleneck: str | None  # of the last run

    @property
    def name(self) -> str:
        """Its size and precision, in words."""
        return (
            f"{self.workers} x {counted(self.cpus_per_worker, 'core')}, "
            f"batches of {self.batch_size}, {self.precision}"
        )

    def faster(self, other: Whole) -> bool:
        """Whether each of its runs was faster than each of the other's."""
        return min(self.rounds) > max(other.rounds)

    def and_again(self, run: Whole) -> Whole:
        """With one more run of the same setting."""
        rounds = self.rounds + run.rounds
        return replace(self, rounds=rounds, images_per_second=median(rounds))


def measure_whole(config: RunConfig, images: int, on_event: Observer = ignore) -> Whole:
    """A real run, in a new directory beside `--out` that is deleted afterwards."""
    folder = tempfile.mkdtemp(prefix="run-", dir=Path(config.out).parent)
    changed = {"out": folder, "shard_size": shard_size(config, images)}
    config = config.model_copy(update=changed)
    try:
        prepared = prepare(config)
        fingerprint = prepared.manifest.fingerprint
        executor = make_executor(prepared, StartTogether)
        report = execute(prepared.plan, executor, prepared.run_dir, fingerprint, on_event)
        workers, rate = worker_rate(read_events(prepared.run_dir))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Whole(
        workers=workers,
        cpus_per_worker=worker_threads(config),
        batch_size=prepared.worker.batch_size,
        precision=config.precision,
        images=report.listed,
        rounds=(rate,),
        images_per_second=rate,
        bottleneck=report.bottleneck,
    )


def with_workers(config: RunConfig) -> RunConfig:
    """As many workers as this machine has room for, where they are of this machine."""
    elsewhere = config.address or os.environ.get("RAY_ADDRESS", "local")
    if config.executor == "local" or elsewhere != "local":
        return config
    return config.model_copy(update={"workers": workers_of(config)})


def workers_of(config: RunConfig) -> int:
    """The number that was asked for, or as many as fit this machine."""
    if config.executor == "local":
        return 1
    room = usable_cores() // config.cpus_per_worker
    if config.gpus_per_worker:
        room = min(room, int(visible_gpus() / config.gpus_per_worker))
    return config.workers or max(room, 1)


def shard_size(config: RunConfig, images: int) -> int:
    """The size that was asked for, or one that gives each worker enough shards of whole batches."""
    least = config.batch_size or FEWEST
    return config.shard_size or max(images // (SHARDS * workers_of(config)), least)
