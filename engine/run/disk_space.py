"""The bytes that a run will write, compared with the disk before it begins."""

from __future__ import annotations

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import DiskFull
from shardcam.engine.run.plan import Plan
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.schema import FAILURES, DatasetSpec

STRUCTURE = 2560  # bytes that a dataset takes in a shard file besides its rows
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def dataset_sizes(specs: tuple[DatasetSpec, ...], plan: Plan) -> dict[str, int]:
    """Bytes of each dataset of the whole run before compression, if no sample fails."""
    rows = (spec for spec in specs if not spec.name.startswith(FAILURES))
    sizes = {spec.name: int(spec.row_bytes * spec.each * plan.listed) for spec in rows}
    return sizes | {"structure of the files": STRUCTURE * len(specs) * plan.shards}


def require_room(config: RunConfig, specs: tuple[DatasetSpec, ...], plan: Plan) -> None:
    """Refuse a run that its disk cannot hold: without compression, what is left to write.

    With compression it is not known; a full disk then stops the run, which can be resumed.

    Raises
    ------
    DiskFull
        The message names the largest datasets.
    """
    run_dir = RunDir.open(config.out)
    free = run_dir.free_bytes()
    if free is None or config.codec != "none":
        return
    left = plan.shards - len(run_dir.shard_numbers())
    sizes = dataset_sizes(specs, plan)
    needed = sum(sizes.values()) * left // max(plan.shards, 1)
    if needed > free:
        name, size = max(sizes.items(), key=lambda item: item[1])
        raise DiskFull(
            f"{run_dir.root}: {readable(needed)} to write, {readable(free)} free ({name} alone is "
            f"{readable(size)}); save less, compress it (--codec) or make room"
        )


def readable(size: int) -> str:
    """``1234567`` -> ``1.2 MB``."""
    value, steps = float(size), 0
    while value >= 999.5 and steps < len(UNITS) - 1:
        value, steps = value / 1000, steps + 1
    return f"{value:.3g} {UNITS[steps]}"
