"""Runs that are timed: each stage by itself, the whole, and other ways to use the machine."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError, ModelError
from shardcam.engine.models.cuda import visible_gpus
from shardcam.engine.run.build_worker import worker_threads
from shardcam.engine.run.driver import execute
from shardcam.engine.run.prepare import driver_threads, make_executor, prepare
from shardcam.engine.rundir.event_log import read_events, worker_rate
from shardcam.engine.types import counted
from shardcam.engine.workers.cores import usable_cores
from shardcam.engine.workers.threads import limit_threads
from shardcam.jobs.measuring.stage_ceilings import measure_stages, seconds_per_image
from shardcam.jobs.plan_notes import speed
from shardcam.jobs.progress import ProgressDisplay

BATCHES = (8, 32, 128)  # tried by a sweep
SHARDS = 4  # of each worker, at least
FEWEST = 8  # images of a shard
FEW = 64  # images below which figures are rough


@dataclass(frozen=True)
class Whole:
    """One run over the images."""

    workers: int
    cpus_per_worker: int
    batch_size: int
    precision: str
    images: int
    images_per_second: float  # of all workers: without start-up
    bottleneck: str | None

    @property
    def name(self) -> str:
        """Its size and precision, in words."""
        return (
            f"{self.workers} x {counted(self.cpus_per_worker, 'core')}, "
            f"batches of {self.batch_size}, {self.precision}"
        )


@dataclass(frozen=True)
class Measured:
    """All that was measured, as it is saved."""

    machine: dict[str, Any]
    options: dict[str, Any]
    alone: dict[str, float]  # images/s of a worker, while all do nothing else than that stage
    whole: Whole
    limit: float  # images/s of all workers if their stages took as long as they do alone
    reached: float  # share of the limit
    sweep: list[Whole]


def measure(config: RunConfig, sweep: bool, console: Console) -> Measured:
    """Measure each stage alone, the whole run and, for a sweep, other configurations."""
    limit_threads(driver_threads(config))
    same = {"shard_size": _shard_size(config, config.limit or FEW)}  # for a batch may be no larger
    prepared = prepare(config.model_copy(update={"out": f"{config.out}-alone"} | same))
    if prepared.plan.listed < FEW:
        console.print(f"{counted(prepared.plan.listed, 'image')} only: the figures are rough")
    console.print("measuring each stage by itself")
    alone = measure_stages(prepared, _workers(config))
    whole = measure_whole(config, prepared.plan.listed, console)
    per_image = seconds_per_image(alone, config.gpus_per_worker > 0)
    return Measured(
        machine={
            "processor": processor_name(),
            "cores": usable_cores(),
            "versions": {"python": platform.python_version(), **prepared.manifest.versions},
        },
        options=config.model_dump(mode="json", exclude={"out"}),
        alone=alone,
        whole=whole,
        limit=whole.workers / per_image,
        reached=whole.images_per_second * per_image / whole.workers,
        sweep=[whole, *_sweep(config, whole, console)] if sweep else [],
    )


def _workers(config: RunConfig) -> int:
    """The number that was asked for, or as many as fit this machine."""
    if config.executor == "local":
        return 1
    room = usable_cores() // config.cpus_per_worker
    if config.gpus_per_worker:
        room = min(room, int(visible_gpus() / config.gpus_per_worker))
    return config.workers or max(room, 1)


def _shard_size(config: RunConfig, images: int) -> int:
    """The size that was asked for, or one that gives each worker enough shards of whole batches."""
    least = config.batch_size or FEWEST
    return config.shard_size or max(images // (SHARDS * _workers(config)), least)


def measure_whole(config: RunConfig, images: int, console: Console) -> Whole:
    """A real run, into a directory of its own."""
    workers = _workers(config)
    changed = {
        "out": f"{config.out}-{workers}-{config.batch_size or 'default'}-{config.precision}",
        "shard_size": _shard_size(config, images),
    }
    config = config.model_copy(update=changed)
    with ProgressDisplay(console) as display:
        prepared = prepare(config)
        fingerprint = prepared.manifest.fingerprint
        executor = make_executor(prepared)
        report = execute(prepared.plan, executor, prepared.run_dir, fingerprint, display.show)
    taking, rate = worker_rate(read_events(prepared.run_dir))
    whole = Whole(
        workers=taking,
        cpus_per_worker=worker_threads(config),
        batch_size=prepared.worker.batch_size,
        precision=config.precision,
        images=report.listed,
        images_per_second=rate,
        bottleneck=report.bottleneck,
    )
    console.print(f"{whole.name}: {speed(whole.images_per_second)}", highlight=False)
    return whole


def _sweep(config: RunConfig, first: Whole, console: Console) -> Iterator[Whole]:
    """One thing after another: how the cores are shared, the batch size, the precision."""
    best, tried = first, {first.name}
    cores = usable_cores()
    ways: list[dict[str, Any]] = []
    if config.executor == "ray" and not config.gpus_per_worker:
        splits = [n for n in range(1, cores + 1) if cores % n == 0]
        ways += [{"workers": cores // threads, "cpus_per_worker": threads} for threads in splits]
    ways += [{"batch_size": size} for size in BATCHES]
    other = "fp16" if config.gpus_per_worker else "int8"
    ways += [{"precision": other if config.precision == "fp32" else "fp32"}]
    for way in ways:
        own = {
            "workers": best.workers if config.executor == "ray" else None,
            "cpus_per_worker": best.cpus_per_worker if config.executor == "ray" else 1,
            "batch_size": best.batch_size,
            "precision": best.precision,
        }
        trial = config.model_copy(update=own | way)
        try:
            whole = measure_whole(trial, first.images, console)
        except (ConfigError, ModelError) as error:  # a network that has no int8, say
            console.print(f"{way}: {error}", highlight=False)
            continue
        if whole.name not in tried:
            tried.add(whole.name)
            yield whole
        if whole.images_per_second > best.images_per_second:
            best = whole


def processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
