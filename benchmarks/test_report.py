"""The report of a run of 100,000 rows: seconds, peak memory and bytes, as a file and served.

Each figure is of a fresh process. The run is made by the writers: maps of 7x7, 1000 classes,
photographs of 500x375 that share twenty JPEG files.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from shardcam.engine.rundir.hdf5_sink import Hdf5Sink
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import Manifest, begin_run
from shardcam.engine.rundir.schema import dataset_specs
from shardcam.engine.rundir.shard_index import build_index
from shardcam.engine.rundir.write_listing import run_listing
from shardcam.engine.types import LayerInfo, LayerMaps, ResultBatch, Sample, Shard, View

ROWS, SHARD, CLASSES, FILES = 100_000, 500, 1000, 20
LAYER = LayerInfo("head", (1280, 7, 7), True)
HEIGHT, WIDTH = 375, 500
CROP = (0.0, 62.0, 375.0, 437.0)
LARGEST_MB, LONGEST_SECONDS = 512, 120


def sample(folder: Path, i: int) -> Sample:
    key = f"train/class-{i // 100:04d}/{i * 0x9E3779B97F4A7C15 % 2**64:016x}.JPEG"
    return Sample(key, i, i // 100, str(folder / f"{i % FILES}.jpg"), 20_000)


def make_run(base: Path) -> RunDir:
    run_dir, photos = RunDir(base / "run"), base / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for i in range(FILES):
        coarse = rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)
        cv2.imwrite(str(photos / f"{i}.jpg"), cv2.resize(coarse, (WIDTH, HEIGHT)))
    options = {"method": "gradcam", "source": str(photos), "model": "m.onnx", "out": str(base)}
    plan = {"samples": ROWS, "shards": ROWS // SHARD, "shard_size": SHARD}
    manifest = Manifest(options, {"schema": 1}, plan, {})
    begin_run(run_dir, manifest)
    with run_listing(run_dir, {}, lambda: (sample(photos, i) for i in range(ROWS))):
        pass
    specs = dataset_specs((LAYER,), (), CLASSES, 1, (224, 224), 40, ("maps",))
    sink = Hdf5Sink(run_dir, specs, manifest.fingerprint)
    for number in range(plan["shards"]):
        samples = tuple(sample(photos, number * SHARD + i) for i in range(SHARD))
        writer = sink.open(Shard(number, samples))
        writer.write(make_batch(samples, rng))
        writer.commit([])
    build_index(run_dir)
    return run_dir


def make_batch(samples: tuple[Sample, ...], rng: np.random.Generator) -> ResultBatch:
    """Three of four predictions are the label."""
    top = rng.integers(0, CLASSES, (SHARD, 5)).astype(np.int32)
    right = rng.random(SHARD) < 0.75
    top[right, 0] = np.array([s.label for s in samples])[right]
    score = np.sort(rng.random((SHARD, 5)).astype(np.float32))[:, ::-1].copy()
    maps = rng.normal(size=(SHARD, 1, 7, 7)).astype(np.float32)
    scale = abs(maps).max(axis=(2, 3))
    return ResultBatch(
        samples=samples,
        views=(View(np.zeros((1, 1, 3), np.uint8), (HEIGHT, WIDTH), CROP),) * SHARD,
        target=top[:, :1].copy(),
        score=score[:, :1].copy(),
        top_class=top,
        top_score=score,
        flags=np.zeros(SHARD, np.uint8),
        maps={LAYER.name: LayerMaps(maps / scale[..., None, None], scale)},
    )


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return make_run(tmp_path_factory.mktemp("report"))


def test_report(run_dir: RunDir) -> None:
    shards = sum(path.stat().st_size for path in run_dir.shards.glob("*.h5"))
    print(f"\n{ROWS} rows in {shards / 1e6:.0f} MB of shards")
    for what in ("imports", "file", "served"):
        told, peak = _measured(run_dir.root, what)
        print(f"{what}: {told}, peak {peak:.0f} MB")
        assert peak < LARGEST_MB


def _measured(run: Path, what: str) -> tuple[str, float]:
    """What one job says in a fresh process, and its peak memory in MB."""
    command = [sys.executable, "-m", "benchmarks.test_report", str(run), what]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told, peak = done.stdout.strip().rsplit("|", 1)
    return told, float(peak)


def _job(root: Path, what: str) -> str:
    from shardcam.jobs.gallery.gallery_run import opened_run
    from shardcam.jobs.gallery.html_file import write_page
    from shardcam.jobs.gallery.server import Pages
    from shardcam.kernels import warm_up

    warm_up()
    if what == "imports":
        return "nothing but the libraries"
    start = time.perf_counter()
    with opened_run(RunDir(root), photographs=True) as opened:
        if what == "file":
            path = root / "report.html"
            shown = write_page(opened, path, 200)
            seconds = time.perf_counter() - start
            assert seconds < LONGEST_SECONDS
            return f"{seconds:.1f} s, {path.stat().st_size / 1e6:.2f} MB, {shown} images shown"
        pages = Pages(opened)
        told = f"ready in {time.perf_counter() - start:.1f} s"
        asked = ("/", "/items?page=2000", "/items?correct=0&low=0.9&order=unsure")
        for path_asked in (*asked, "/photo/77777.webp", "/heat/0/0/77777.webp", "/means?layer=0"):
            start = time.perf_counter()
            answer = pages.answer(path_asked)
            assert answer.status == 200
            seconds, size = time.perf_counter() - start, len(answer.body) / 1e3
            told += f"; {path_asked} {seconds * 1e3:.0f} ms, {size:.0f} kB"
        return told


if __name__ == "__main__":
    said = _job(Path(sys.argv[1]), sys.argv[2])
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    print(f"{said}|{int(found[1]) / 1024}")
