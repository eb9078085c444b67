"""What a run will write, told and compared with the disk before it begins."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import DiskFull
from shardcam.engine.run.plan import Plan
from shardcam.engine.rundir.schema import FAILURES, DatasetSpec
from shardcam.engine.rundir.scratch import open_paths
from shardcam.engine.rundir.shard_file import shard_numbers

SHOWN = 3  # datasets that are named
STRUCTURE = 2560  # bytes that a dataset takes in a shard file besides its rows
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def print_budget(
    config: RunConfig, specs: tuple[DatasetSpec, ...], plan: Plan, console: Console
) -> None:
    """Say how many bytes the run's files will hold, and which datasets they are of."""
    sizes = _sizes(specs, plan)
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:SHOWN]
    named = ", ".join(f"{name} {readable(size)}" for name, size in largest)
    packed = "" if config.codec == "none" else f" before {config.codec}"
    pictures = "; pictures apart" if "overlays" in config.save else ""
    home = open_paths(config.out)
    free = "" if home.url else _told_room(config, sum(sizes.values()), _free(home.root))
    console.print(
        f"about {readable(sum(sizes.values()))}{packed}: {named}{pictures}{free}",
        soft_wrap=True,
        highlight=False,
    )


def _told_room(config: RunConfig, size: int, free: int) -> str:
    """How much is free, and what compression must do where that is too little."""
    told = f"; {readable(free)} free"
    if config.codec == "none" or size <= free:
        return told
    return f"{told}: enough only if {config.codec} makes it {size / max(free, 1):.2g} times smaller"


def require_room(config: RunConfig, specs: tuple[DatasetSpec, ...], plan: Plan) -> None:
    """Refuse a run that its disk cannot hold: without compression, what is left to write.

    With compression it is not known; a full disk then stops the run, which can be resumed.

    Raises
    ------
    DiskFull
        The message names the largest datasets.
    """
    paths = open_paths(config.out)
    if paths.url is not None:  # it does not say how much room there is
        return
    left = plan.shards - len(shard_numbers(paths))
    sizes = _sizes(specs, plan)
    needed, free = sum(sizes.values()) * left // max(plan.shards, 1), _free(paths.root)
    if config.codec == "none" and needed > free:
        name, size = max(sizes.items(), key=lambda item: item[1])
        raise DiskFull(
            f"{paths.root}: {readable(needed)} to write, {readable(free)} free ({name} alone is "
            f"{readable(size)}); save less, compress it (--codec) or make room"
        )


def readable(size: int) -> str:
    """``1234567`` -> ``1.2 MB``."""
    value, steps = float(size), 0
    while value >= 999.5 and steps < len(UNITS) - 1:
        value, steps = value / 1000, steps + 1
    return f"{value:.3g} {UNITS[steps]}"


def _sizes(specs: tuple[DatasetSpec, ...], plan: Plan) -> dict[str, int]:
    """Bytes of each dataset of the whole run, if no sample fails."""
    rows = (spec for spec in specs if not spec.name.startswith(FAILURES))
    sizes = {spec.name: spec.row_bytes * plan.listed for spec in rows}
    return sizes | {"structure of the files": STRUCTURE * len(specs) * plan.shards}


def _free(path: Path) -> int:
    return next(shutil.disk_usage(place).free for place in _existing(path))


def _existing(path: Path) -> Iterator[Path]:
    absolute = path.absolute()
    return (place for place in (absolute, *absolute.parents) if place.exists())
