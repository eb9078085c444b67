"""Two small runs of the same pictures, with hostile names and everything measured of them."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import h5py
import numpy as np

from tests.jobs.command import SMALL, shardcam
from tests.jobs.shown import HOSTILE, picture_of

METRICS = "complexity,gini,max_box_acc,pointing,insertion"
IMAGES = 14


@dataclass
class Evaluated:
    """Where they are."""

    run: Path
    other: Path  # by another method, with another crop
    truth: Path


def evaluate(run, truth, *more, metrics=METRICS):
    options = ("--metrics", metrics, "--truth", truth, "--executor", "local", *more)
    code, out, err = shardcam("evaluate", run, *options)
    assert code == 0, err
    return out


def make_evaluated(base):
    pictures = base / "pictures"
    pictures.mkdir()
    for i in range(IMAGES):
        cv2.imwrite(str(pictures / HOSTILE.format(i)), picture_of(i)[..., ::-1])
    found = Evaluated(base / "run", base / "other", base / "truth.csv")
    others = ("--method", "layercam", "--resize", "pad")
    for run, options in ((found.run, ("--target", "top2")), (found.other, others)):
        common = ("--out", run, "--executor", "local", "--shard-size", 5)
        code, _, err = shardcam("extract", pictures, *SMALL, *options, *common)
        assert code == 0, err
    write_truth(found.run, found.truth)
    for run in (found.run, found.other):
        evaluate(run, found.truth)
    return found


def write_truth(run, path):
    """Two boxes of the first explained class of each picture but the last."""
    with h5py.File(run / "index.h5") as index, path.open("w", newline="") as stream:
        keys, classes, sizes = (index[name][:] for name in ("key", "target", "image_size"))
        rows = csv.writer(stream)
        rows.writerow(("key", "class", "x0", "y0", "x1", "y1"))
        for key, (label, *_), (height, width) in zip(keys[:-1], classes, sizes):
            for x0, y0, x1, y1 in ((0.1, 0.2, 0.6, 0.9), (0.5, 0.1, 0.9, 0.5)):
                box = (x0 * width, y0 * height, x1 * width, y1 * height)
                rows.writerow((key.decode(), label, *np.round(box, 2)))


def change_summary(run, change):
    """What `change` makes of ``summary.json``."""
    path = run / "metrics" / "summary.json"
    stored = json.loads(path.read_text())
    change(stored)
    path.write_text(json.dumps(stored))
