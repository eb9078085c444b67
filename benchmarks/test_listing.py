"""Listing a source of any size: seconds, peak memory and bytes, listed and resumed.

Each figure is of a fresh process. The reader makes samples up: keys of 39 characters that
compress badly, labels and sizes. Making them is a part of the time, and printed beside it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardcam.engine.run.plan import make_plan
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.write_listing import run_listing
from shardcam.engine.types import Sample

COUNTS = (100_000, 1_000_000, 10_000_000)
LARGEST_MB = 512


def made_up(count: int) -> Iterator[Sample]:
    for i in range(count):
        scattered = i * 0x9E3779B97F4A7C15 % 2**64
        key = f"train/class-{i // 1300:05d}/{scattered:016x}.JPEG"
        yield Sample(key, i, i // 1300, f"/data/images/{key}", 100_000 + scattered % 65536)


@pytest.mark.parametrize("count", COUNTS)
def test_listing(tmp_path: Path, count: int) -> None:
    paths = RunDir(tmp_path / "run")
    empty = _measured(tmp_path, "nothing", count)
    listed = _measured(tmp_path, "plan", count)
    saved = paths.listing.stat().st_size
    resumed = _measured(tmp_path, "plan", count)
    alone = _measured(tmp_path, "samples alone", count)
    read = _measured(tmp_path, "every shard", count)
    print(
        f"\n{count} samples: listed in {listed[0]:.1f} s, of which {alone[0]:.1f} s make the "
        f"samples; peak {listed[1]:.0f} MB ({empty[1]:.0f} MB before); {saved / 1e6:.1f} MB saved; "
        f"resumed in {resumed[0]:.3f} s, peak {resumed[1]:.0f} MB; "
        f"every shard read in {read[0]:.1f} s, peak {read[1]:.0f} MB"
    )
    assert listed[1] < LARGEST_MB


def _measured(folder: Path, what: str, count: int) -> tuple[float, float]:
    """Seconds and peak memory in MB of one job in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.test_listing", str(folder), what, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, peak = map(float, done.stdout.split())
    return seconds, peak


def _job(folder: str, what: str, count: int) -> None:
    if what == "samples alone":
        deque(made_up(count), maxlen=0)
    elif what != "nothing":
        paths = RunDir(Path(folder) / "run")
        with run_listing(paths, {"count": count}, lambda: made_up(count)) as listing:
            plan = make_plan(listing, None)
        if what == "every shard":
            assert sum(len(plan.shard(i).samples) for i in range(plan.shards)) == count


if __name__ == "__main__":
    start = time.perf_counter()
    _job(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text()
    print(seconds, int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024)  # type: ignore[index]
