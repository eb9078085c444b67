"""Where a run is computed if nothing says so: in a process beside this one, or on Ray.

Ray takes seconds to start and brings many workers, other machines and their watching; a small run
on one machine is done before Ray is there.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

from shardcam.engine.config import RunConfig
from shardcam.engine.types import Note, counted
from shardcam.engine.workers import ray_address
from shardcam.engine.workers.cores import usable_cores

AUTO, LOCAL, RAY = "auto", "local", "ray"
MANY = {False: 100_000, True: 500}  # images that metrics of maps, and of passes, take Ray for
LONG = 120.0  # seconds of work on this machine from which Ray is worth its start
SPEED = 10e9  # multiply-adds a second of one core, about
OF_RAY = ("workers", "address", "priority", "hang_timeout", "recycle")  # options for its workers


def chosen_early(config: RunConfig) -> RunConfig:
    """With the executor that options and this machine leave no choice of; else it stays `auto`."""
    if config.executor != AUTO:
        return config
    if config.part is not None or find_spec("ray") is None:
        return config.model_copy(update={"executor": LOCAL})
    asked = [
        name
        for name in (*OF_RAY, "cpus_per_worker", "gpus_per_worker")
        if getattr(config, name) != RunConfig.model_fields[name].default
    ]
    if asked or os.environ.get("RAY_ADDRESS") or ray_address.on_ray():
        return config.model_copy(update={"executor": RAY})
    return config


def with_executor(
    config: RunConfig, images: int, multiply_adds: float
) -> tuple[RunConfig, Note | None]:
    """With an executor for so many images of so many multiply-adds each, and what to tell of it."""
    if config.executor != AUTO:
        return config, None
    cores = usable_cores()
    seconds = images * multiply_adds / (SPEED * cores)
    executor = RAY if seconds > LONG and cores > 1 else LOCAL
    config = config.model_copy(update={"executor": executor})
    if not images:
        return config, None
    work = f"{counted(images, 'image')}, very roughly {max(seconds, 1):.0f} s of work"
    other = LOCAL if executor == RAY else RAY
    note = Note("executor", f"{executor}, for {work} here; --executor {other} overrides it")
    return config, note


def chosen_for_metrics(config: RunConfig, images: int, passes: bool) -> RunConfig:
    """With an executor for measuring maps of so many images, by passes of the network or not."""
    config = chosen_early(config)
    if config.executor != AUTO:
        return config
    executor = RAY if images > MANY[passes] and usable_cores() > 1 else LOCAL
    return config.model_copy(update={"executor": executor})


def on_own_ray(config: RunConfig) -> bool:
    """Whether the run is on a Ray that it starts itself."""
    return config.executor == RAY and ray_address.starts_own(config.address)
