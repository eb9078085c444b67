"""What ``shardcam throughput`` measures: each stage by itself, the whole, other settings."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError
from shardcam.engine.protocols import Observer
from shardcam.engine.run.build_executor import driver_threads
from shardcam.engine.run.prepare import prepare
from shardcam.engine.rundir.events import Progress
from shardcam.engine.types import Event, counted
from shardcam.engine.workers.cores import usable_cores
from shardcam.engine.workers.threads import limit_threads
from shardcam.jobs.measuring.stage_ceilings import measure_stages, seconds_per_image, stage_names
from shardcam.jobs.measuring.sweep import sweep
from shardcam.jobs.measuring.timed_runs import (
    Whole,
    measure_whole,
    shard_size,
    with_workers,
    workers_of,
)
from shardcam.jobs.progress import ProgressDisplay
from shardcam.jobs.wording import speed

FEW = 64  # images below which figures are rough


@dataclass(frozen=True)
class Measured:
    """All that was measured, as it is saved."""

    machine: dict[str, Any]
    options: dict[str, Any]
    alone: dict[str, float]  # images/s of a worker, while all do nothing else than that stage
    whole: Whole
    limit: float  # images/s of all workers if their stages took as long as they do alone
    reached: float  # share of the limit
    sweep: list[Whole]  # the first is `whole`


def measure(config: RunConfig, rounds: int, sweeping: bool, console: Console) -> Measured:
    """Measure each stage alone, then the whole and, for a sweep, other settings.

    Each setting runs `rounds` times.
    """
    if config.copies:
        raise ConfigError("--resize none: images of one size are measured; give --image-size")
    limit_threads(driver_threads(config))
    config = with_workers(config)
    same = {"shard_size": shard_size(config, config.limit or FEW)}  # for a batch may be no larger
    prepared = prepare(config.model_copy(update={"out": f"{config.out}-alone"} | same))
    images = prepared.plan.listed
    if images < FEW:
        console.print(f"{counted(images, 'image')} only: the figures are rough")
    gpu = config.gpus_per_worker > 0
    with _stages_shown(stage_names(gpu), console) as show:
        alone = measure_stages(prepared, workers_of(config), show)
    with ProgressDisplay(console) as display:
        whole = measure_whole(config, images, display.show)
    tried: list[Whole] = []
    if sweeping:
        console.print(f"{whole.name}: {speed(whole.images_per_second)}")
        tried = sweep(config, whole, rounds, console)
        whole = tried[0]
    else:
        for _ in range(rounds - 1):
            whole = whole.and_again(measure_whole(config, images))
    per_image = seconds_per_image(alone, gpu)
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
        sweep=tried,
    )


@contextmanager
def _stages_shown(names: list[str], console: Console) -> Iterator[Observer]:
    """An observer that shows which stage is measured: on a terminal in place, else by lines."""
    told = -1
    with console.status("measuring each stage by itself: starting") as status:

        def show(event: Event) -> None:
            nonlocal told
            if not isinstance(event, Progress) or event.images <= told:
                return
            told = event.images
            if told < len(names):
                note = f"measuring each stage by itself: {names[told]} ({told + 1} of {len(names)})"
                status.update(note)
                if not console.is_terminal:
                    console.print(note)

        if not console.is_terminal:
            console.print("measuring each stage by itself")
        yield show


def processor_name() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
