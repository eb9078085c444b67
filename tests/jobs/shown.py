"""A run with its source, made without a network: what reports are tested on."""

import json

import cv2
import numpy as np

from shardcam.engine.rundir.write_listing import run_listing
from shardcam.engine.types import Sample
from tests.analysis.runs import SIZES, make_run

HOSTILE = "{:04d} <img src=x onerror=\"document.title='pwned'\"> &amp; '`.png"


def picture_of(index):
    """(height,width,3) RGB: a smooth picture of the size that the run says."""
    rng = np.random.default_rng(index)
    height, width = SIZES[index % len(SIZES)]
    coarse = rng.integers(0, 256, (3, 4, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def make_shown_run(base, shards=(30, 30, 0, 10), resize="crop", keys=HOSTILE):
    """``base/run`` over the PNG files in ``base/photos``; one more of each shard failed."""
    made = make_run(base / "run", shards, 1, resize, keys)
    photos = base / "photos"
    photos.mkdir()
    samples = []
    for i in range(sum(shards) + len(shards)):
        path = photos / keys.format(i)
        cv2.imwrite(str(path), picture_of(i)[..., ::-1])
        samples.append(Sample(keys.format(i), i, i % 4 - 1, str(path), path.stat().st_size))
    change_options(made.paths, source=str(photos), resize=resize)
    with run_listing(made.paths, {}, lambda: samples):
        pass
    return made


def change_options(paths, **options):
    """Other options for a run, which are no part of its fingerprint."""
    stored = json.loads(paths.run_json.read_text())
    stored["config"] |= options
    paths.run_json.write_text(json.dumps(stored))
