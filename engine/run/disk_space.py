"""What a run will write, compared with the disk before it begins."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import DiskFull
from shardcam.engine.run.plan import Plan
from shardcam.engine.rundir.schema import FAILURES, DatasetSpec
from shardcam.engine.rundir.scratch import open_paths
from shardcam.engine.rundir.shard_file import shard_numbers

STRUCTURE = 2560  # bytes that a dataset takes in a shard file besides its rows
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def dataset_sizes(specs: tuple[DatasetSpec, ...], plan: Plan) -> dict[str, int]:
    """Bytes of each dataset of the whole run before compression, if no sample fails."""
    rows = (spec for spec in specs if not spec.name.startswith(FAILURES))
    sizes = {spec.name: spec.row_bytes * plan.listed for spec in rows}
    return sizes | {"structure of the files": STRUCTURE * len(specs) * plan.shards}


def free_bytes(config: RunConfig) -> int | None:
    """What is free where the run is written; None at a URL, which does not say."""
    paths = open_paths(config.out)
    return None if paths.url is not None else _free(paths.root)


def require_room(config: RunConfig, specs: tuple[DatasetSpec, ...], plan: Plan) -> None:
    """Refuse a run that its disk cannot hold: without compression, what is left to write.

    With compression it is not known; a full disk then stops the run, which can be resumed.

    Raises
    ------
    DiskFull
        The message names the largest datasets.
    """
    free = free_bytes(config)
    if free is None or config.codec != "none":
        return
    paths = open_paths(config.out)
    left = plan.shards - len(shard_numbers(paths))
    sizes = dataset_sizes(specs, plan)
    needed = sum(sizes.values()) * left // max(plan.shards, 1)
    if needed > free:
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


def _free(path: Path) -> int:
    return next(shutil.disk_usage(place).free for place in _existing(path))


def _existing(path: Path) -> Iterator[Path]:
    absolute = path.absolute()
    return (place for place in (absolute, *absolute.parents) if place.exists())
