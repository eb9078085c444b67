"""Seconds from stored maps to the curve of mIoU, beside IRN's way: files read at each threshold.

``python -m benchmarks.seed_curve [--images 16] [--thresholds 60] [--rounds 3]``. Maps of 375x500
pixels at four scales with two classes each, and masks, are made up. Ours are in memory as a run's
shard gives them, and masks are read once, for 1001 thresholds; IRN's are its ``high_res`` in .npy
files, as its ``eval_cam`` reads them, with the masks, at every threshold. Rounds alternate, on one
thread, and it is the processor's time that is measured.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from shardcam.engine.analysis.class_scores import grid_scores
from shardcam.engine.evaluation.mean_iou import MeanIoU
from shardcam.engine.evaluation.metric import ImageRows, Merged
from shardcam.engine.truths.truth import ImageTruth, Region
from shardcam.engine.types import U1
from shardcam.engine.workers.threads import limit_threads

SIZE, CLASSES, SCALES = (375, 500), 20, (1.0, 0.5, 1.5, 2.0)


def made_up(count: int, folder: Path) -> ImageRows:
    rng = np.random.default_rng(0)
    target = np.sort(rng.permuted(np.tile(np.arange(CLASSES), (count, 1)), axis=1)[:, :2])
    grids = [(-(-round(SIZE[0] * s) // 16), -(-round(SIZE[1] * s) // 16)) for s in SCALES]
    maps = tuple(tuple(rng.random((2, *g), np.float32) for g in grids) for _ in range(count))
    for i, classes in enumerate(target):
        mask = rng.choice([0, 0, *(classes + 1), 255], (8, 10)).astype(np.uint8)
        levels = np.kron(mask, np.ones((47, 50), np.uint8))[: SIZE[0]]
        Image.fromarray(levels).save(folder / f"{i}.png")
    size = np.tile(np.array(SIZE, np.int32), (count, 1))
    crop = np.concatenate([0 * size, size], axis=1).astype(np.float64)
    return ImageRows(
        np.arange(count), tuple(map(str, range(count))), target[:, 0].astype(np.int32),
        target.astype(np.int32), np.ones(target.shape, np.float32), target.astype(np.int32), crop,
        size, SIZE, tuple(truth_of(folder / f"{i}.png", target[i]) for i in range(count)), maps,
        SCALES,
    )  # fmt: skip


def truth_of(path: Path, classes: np.ndarray) -> ImageTruth:
    """As the reader of PNG masks has it: the file is read when a mask is asked for."""

    def read(value: int) -> U1:
        return (np.asarray(Image.open(path)) == value).astype(np.uint8)

    regions = tuple(Region(int(c), None, lambda c=c: read(c + 1)) for c in classes)
    return ImageTruth(regions, lambda: read(255))


def ours(rows: ImageRows) -> np.ndarray:
    """(1001,)"""
    metric = MeanIoU("miou")
    found = metric.measure(np.zeros((len(rows), 2, 1, 1), np.float32), rows)
    merged = Merged(found.value.ravel(), rows.target.ravel(), found.state, lambda _: iter(()))
    return np.array(metric.figure(merged).details["curve"])


def irn_files(rows: ImageRows, folder: Path) -> None:
    for i, key in enumerate(rows.keys):
        keys, high = grid_scores(
            rows.grids[i], SCALES, rows.target[i], rows.crop[i], rows.image_size[i]
        )
        np.save(folder / f"{key}.npy", {"keys": keys.astype(np.int64), "high_res": high})


def irn(rows: ImageRows, folder: Path, threshold: float) -> float:
    """By the rules of ``eval_cam`` and chainercv."""
    confusion = np.zeros((CLASSES + 1, CLASSES + 1), np.int64)
    for key in rows.keys:
        cams = np.load(folder / f"{key}.npy", allow_pickle=True).item()
        there = np.asarray(Image.open(folder / f"{key}.png")).astype(np.int32)
        planes = np.pad(cams["high_res"], ((1, 0), (0, 0), (0, 0)), constant_values=threshold)
        seed = np.pad(cams["keys"] + 1, (1, 0))[planes.argmax(axis=0)]
        counted = there < 255
        pairs = (CLASSES + 1) * there[counted] + seed[counted]
        confusion += np.bincount(pairs, minlength=confusion.size).reshape(confusion.shape)
    both = np.diag(confusion)
    with np.errstate(invalid="ignore"):
        return float(np.nanmean(both / (confusion.sum(0) + confusion.sum(1) - both)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("--images", 16), ("--thresholds", 60), ("--rounds", 3)):
        parser.add_argument(name, type=int, default=default)
    asked = parser.parse_args()
    limit_threads(1)
    with tempfile.TemporaryDirectory() as name:
        rows = made_up(asked.images, Path(name))
        irn_files(rows, Path(name))
        ours(rows)  # kernels are compiled, or loaded
        thresholds = np.arange(asked.thresholds) * 1000 // asked.thresholds
        mine, theirs = [], []
        for _ in range(asked.rounds):
            begun = time.process_time()
            curve = ours(rows)
            mine.append(time.process_time() - begun)
            begun = time.process_time()
            expected = [irn(rows, Path(name), t / 1000) for t in thresholds]
            theirs.append(time.process_time() - begun)
        np.testing.assert_allclose(curve[thresholds], expected, rtol=1e-12)
    ratio = statistics.median(b / a for a, b in zip(mine, theirs, strict=True))
    each = 1000 / asked.images
    print(f"shardcam {statistics.median(mine) * each:.2f} ms an image for {len(curve)} thresholds")
    print(f"IRN      {statistics.median(theirs) * each:.2f} ms an image for {asked.thresholds}")
    print(f"ratio    {ratio:.1f}")


if __name__ == "__main__":
    main()
