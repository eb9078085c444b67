"""What grows with the number of images, of files and of shards; run by hand: make bench-scale.

A tiny network, so that everything around it shows.  Rates are medians over shards, and CPU
time of the processes beside them: another program on the machine changes that least.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median

import cv2
import h5py
import numpy as np
import pytest

from benchmarks.watching import Look, Watched, watch
from shardcam.engine.readers.folder import FolderReader
from shardcam.engine.run.driver import published_shards
from shardcam.engine.run.plan import Plan
from shardcam.engine.rundir.account import good_shards
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.engine.rundir.shard_index import build_index
from tests.models.small_checkpoint import write_checkpoint

SIZE = 32
SHARD = 512
LINES = 10_000_000
IMAGES = 100_000
SHARDS = 20_000
FILES = 300_000
TENTHS = 10


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options for a tiny network."""
    path = write_checkpoint(tmp_path_factory.mktemp("model"), SIZE)
    sizes = ["--image-size", str(SIZE), "--batch-size", "32", "--shard-size", str(SHARD)]
    return ["--model", path, *sizes]


EXECUTORS = {"local": ["--executor", "local"], "ray": ["--workers", "2"]}


@pytest.mark.parametrize("executor", EXECUTORS)
def test_images(tmp_path: Path, model: list[str], executor: str) -> None:
    """100,000 images of 32x32 in one run: the rate and the memory of each tenth of it."""
    stack = np.lib.format.open_memmap(
        tmp_path / "stack.npy", "w+", np.uint8, (IMAGES, SIZE, SIZE, 3)
    )
    stack[:] = np.random.RandomState(0).randint(0, 256, stack.shape, np.uint8)
    stack.flush()
    run = tmp_path / "run"
    arguments = ["extract", str(tmp_path / "stack.npy"), *model, *EXECUTORS[executor]]
    done = watch(run, arguments)
    assert done.code == 0, done.output
    assert f"{IMAGES} listed = {IMAGES} ok + 0 failed" in done.output
    rates = _rates(run, 1 if executor == "local" else 2)
    tenths = list(_tenths(done))
    print(f"\n{executor}: tenth of the run, images/s, CPU ms an image, MB and files per process")
    costs = []
    for number, (rate, (before, after)) in enumerate(zip(rates, tenths, strict=True), 1):
        images = (after.shards - before.shards) * SHARD
        spent = sum(
            process.cpu - before.processes[name].cpu
            for name, process in after.processes.items()
            if name in before.processes
        )
        held = "  ".join(
            f"{name.split()[0]} {process.megabytes:.0f} MB {process.files} files"
            for name, process in sorted(after.processes.items())
        )
        costs.append(1000 * spent / images)
        print(f"{number:2}  {rate:8.0f}  {costs[-1]:.3f}  {held}")
    size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    soon, late = median(costs[1:4]), median(costs[-3:])
    print(
        f"last tenth / first tenth: {rates[-1] / rates[0]:.3f} of the images/s; CPU time of an "
        f"image in the last three / in the second to fourth: {late / soon:.3f}; "
        f"{size / 1e6:.1f} MB in the run"
    )
    assert late < 1.1 * soon, "images take longer at the end"
    first, last = tenths[1][1], tenths[-1][1]  # the first tenth fills caches
    for name, process in last.processes.items():
        assert process.megabytes < 1.03 * first.processes[name].megabytes + 4, name
        assert process.files <= first.processes[name].files + 4, name


def _rates(run: Path, workers: int) -> list[float]:
    """Images/s in each tenth of the shards: the median over what `workers` shards took."""
    times = sorted(path.stat().st_mtime_ns / 1e9 for path in (run / "shards").glob("shard-*.h5"))
    took = [late - soon for soon, late in zip(times, times[workers:], strict=False)]
    tenths = np.array_split(took, TENTHS)
    return [workers * SHARD / median(tenth.tolist()) for tenth in tenths]


def _tenths(done: Watched) -> Iterator[tuple[Look, Look]]:
    """The looks at the beginning and at the end of each tenth of the shards."""
    working = [look for look in done.looks if look.shards and len(look.processes) > 0]
    most = max(len(look.processes) for look in working)
    working = [look for look in working if len(look.processes) == most]
    first, last = working[0].shards, working[-1].shards
    marks = [first + (last - first) * i / TENTHS for i in range(TENTHS + 1)]
    looks = [next(look for look in working if look.shards >= mark) for mark in marks]
    return pairwise(looks)


def test_manifest(tmp_path: Path, model: list[str]) -> None:
    """Ten million lines: until the first images are done, stopped, and resumed."""
    _write_manifest(tmp_path)
    run, arguments = tmp_path / "run", ["extract", str(tmp_path / "list.csv"), *model]
    arguments += ["--workers", "1"]
    listed = watch(run, arguments, lambda shards: shards >= 20)
    assert listed.code == 4, listed.output
    done = len(list((run / "shards").glob("shard-*.h5")))
    size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    listing = RunDir(run).listing.stat()
    resumed = watch(run, arguments, lambda shards: shards >= done + 20)
    assert resumed.code == 4, resumed.output
    assert RunDir(run).listing.stat().st_mtime_ns == listing.st_mtime_ns, "listed again"
    print(
        f"\n{LINES} lines: first shard after {listed.until(1):.0f} s; peak of the driver "
        f"{listed.peak():.0f} MB, of the worker {listed.peak('worker'):.0f} MB; "
        f"{size / 1e6:.1f} MB in the run with {done} shards, of which {listing.st_size / 1e6:.1f} "
        f"are the listing; resumed: first shard after {resumed.until(done + 1):.0f} s, peak of "
        f"the driver {resumed.peak():.0f} MB"
    )


def _write_manifest(folder: Path) -> None:
    rng = np.random.RandomState(0)
    for i in range(1000):
        cv2.imwrite(str(folder / f"{i}.png"), rng.randint(0, 256, (SIZE, SIZE, 3), np.uint8))
    with (folder / "list.csv").open("w") as stream:
        stream.write("path,key,label\n")
        for i in range(LINES):
            scattered = i * 0x9E3779B97F4A7C15 % 2**64
            key = f"train/class-{i // 1300:05d}/{scattered:016x}.JPEG"
            stream.write(f"{i % 1000}.png,{key},{i // 1300}\n")


def test_shards(tmp_path: Path, model: list[str]) -> None:
    """A run of 20,000 shards: what the driver does with them besides waiting for workers."""
    np.save(tmp_path / "stack.npy", np.zeros((SHARD, SIZE, SIZE, 3), np.uint8))
    run = tmp_path / "run"
    done = watch(run, ["extract", str(tmp_path / "stack.npy"), *model, "--executor", "local"])
    assert done.code == 0, done.output
    paths = RunDir(run)
    for number in range(1, SHARDS):
        shutil.copyfile(paths.shard(0), paths.shard(number))
        with h5py.File(paths.shard(number), "r+") as file:
            file.attrs["shard"] = number
    text = paths.run_json.read_text()
    paths.run_json.write_text(re.sub(r'"shards": \d+', f'"shards": {SHARDS}', text))
    for what in ("nothing", "resume", "index", "status"):
        seconds, cpu, megabytes = _measured(what, str(run))
        told = f"{what} {seconds:.1f} s, CPU {cpu:.1f} s, peak {megabytes:.0f} MB"
        print(f"\n{SHARDS} shards: {told}", end="")
    print()


class _ManyShards(Plan):
    """A plan of which nothing is asked but how many shards there are."""

    shards = SHARDS


@pytest.mark.parametrize("label", [False, True])
def test_folder(tmp_path: Path, label: bool) -> None:
    """A tree of 300,000 empty files."""
    for group in range(FILES // 1000):
        folder = tmp_path / f"class-{group:04d}"
        folder.mkdir()
        for i in range(1000):
            (folder / f"{i * 7919 % 1000:08d}.jpg").touch()
    before = _measured("nothing", "")[-1]
    seconds, cpu, megabytes = _measured("labelled" if label else "folder", str(tmp_path))
    told = f"{FILES} files{', labelled' if label else ''}: {seconds:.1f} s, CPU {cpu:.1f} s"
    print(f"\n{told}, peak {megabytes:.0f} MB ({before:.0f} before)")
    assert megabytes < before + 16


def _measured(what: str, place: str) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak memory in MB of one job in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.test_scale", what, place]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, cpu, peak = map(float, done.stdout.split()[-3:])
    return seconds, cpu, peak


def _job(what: str, place: str) -> None:
    paths = RunDir(Path(place))
    if what == "resume":
        plan = object.__new__(_ManyShards)
        found = published_shards(plan, paths, read_manifest(paths).fingerprint)
        assert len(found) == SHARDS
    elif what == "index":
        build_index(paths)
    elif what == "status":
        fingerprint = read_manifest(paths).fingerprint
        assert len([*good_shards(paths, SHARDS, fingerprint)]) == SHARDS
    elif what in ("folder", "labelled"):
        reader = FolderReader(place, (".jpg",), what == "labelled")
        assert sum(1 for _ in reader.samples()) == FILES


if __name__ == "__main__":
    start, worked = time.perf_counter(), time.process_time()
    _job(sys.argv[1], sys.argv[2])
    seconds, cpu = time.perf_counter() - start, time.process_time() - worked
    status = Path("/proc/self/status").read_text()
    print(seconds, cpu, int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024)  # type: ignore[index]
