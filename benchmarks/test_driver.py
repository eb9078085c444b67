"""What a shard costs the driver: shards that hold nothing, through two workers.

CPU seconds are of the driver's process with all of Ray's threads in it, so they are worth
something on a busy machine too; shards per second are of this machine, which also runs the
workers and Ray. The memory is the driver's resident set, after each tenth of the shards.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from shardcam.engine.protocols import Timer
from shardcam.engine.run.driver import Tally
from shardcam.engine.run.plan import make_plan
from shardcam.engine.rundir.event_log import EventLog
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.write_listing import run_listing
from shardcam.engine.types import Sample, Shard, ShardReport
from shardcam.engine.workers.ray_cluster import RayOptions
from shardcam.engine.workers.ray_executor import RayExecutor

SHARDS = 20_000
SIZE = 50  # samples of a shard; they stay in the listing, so their number does not matter
MOST_GROWTH_MB = 10  # from the second tenth to the last


class Nothing:
    """A worker that does nothing."""

    def run(self, shard: Shard, timer: Timer, next_shard: Shard | None = None) -> ShardReport:
        stages = dict.fromkeys(("read", "decode", "forward", "map", "write"), 0.001)
        return ShardReport(shard.index, len(shard.samples), len(shard.samples), 0, True, stages)


def made_up() -> Iterator[Sample]:
    for i in range(SHARDS * SIZE):
        key = f"train/class-{i % 1000:05d}/image-{i:012d}.JPEG"
        yield Sample(key, i, 0, f"/data/{key}", 1)


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_empty_shards(tmp_path: Path) -> None:
    executor = RayExecutor(Nothing, RayOptions(2, 1, 0, None))
    tally, memory, paths = Tally(), [], RunDir(tmp_path / "run")
    with run_listing(paths, {}, made_up) as listing:
        plan = make_plan(listing, SIZE)
    log = EventLog(paths)
    for report in executor.run(map(plan.shard, range(SHARDS)), log.append):
        tally.add(report)
        if tally.shards == 1:  # the workers are there
            start, cpu = time.perf_counter(), time.process_time()
        if tally.shards % (SHARDS // 10) == 0:
            memory.append(resident_mb())
        if tally.shards == SHARDS - 1:  # the rest is good-byes
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    log.close()
    assert tally.shards == SHARDS
    print(
        f"\n{SHARDS} empty shards of {SIZE} samples: {SHARDS / seconds:.0f} shards/s, "
        f"{cpu / SHARDS * 1e6:.0f} us of the driver's CPU each, "
        f"{paths.events.stat().st_size / SHARDS:.0f} bytes of log each"
    )
    print("resident set, MB:", *(f"{value:.0f}" for value in memory))
    assert memory[-1] - memory[1] < MOST_GROWTH_MB
