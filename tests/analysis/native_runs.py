"""Runs of pictures at their own sizes, made by the writers alone: all about them is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from shardcam.engine.rundir.hdf5_sink import Hdf5Sink
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import Manifest, begin_run
from shardcam.engine.rundir.schema import dataset_specs
from shardcam.engine.rundir.shard_index import build_index
from shardcam.engine.types import (
    NO_CLASS,
    Copies,
    Failure,
    GridMaps,
    LayerInfo,
    LayerMaps,
    Sample,
    Shard,
    View,
)
from tests.analysis.runs import CLASSES, make_batch

LAYER = LayerInfo("stage/conv", (4, 5, 7), False)
MAP = "stage.conv"
STRIDE = 16
ONE, FOUR = Copies(), Copies((1.0, 0.5, 1.5, 2.0), flip=True)
SIZES = ((33, 49), (33, 49), (33, 50), (64, 31), (64, 31), (81, 120))  # (33,49), (33,50): one grid


@dataclass(frozen=True)
class NativeRun:
    """A run directory, and what is stored of each good sample."""

    paths: RunDir
    target: np.ndarray  # (N,K)
    maps: list  # of each sample, at each scale (K,h,w) as stored, 0 without class
    scale: np.ndarray  # (N,K,S)

    def raw(self, i):
        """(K,h,w) of each scale, NaN without class."""
        scale = np.where(self.target[i][:, None] == NO_CLASS, np.nan, self.scale[i])
        return [one * scale[:, s, None, None] for s, one in enumerate(self.maps[i])]


def make_native_run(root, sizes=SIZES, copies=ONE, per_shard=4, failures=1, twin=False):
    """Shards of so many good samples, and failures besides.

    Every third lacks its second class, and the fourth has none.

    A `twin` has the same maps, all of one size and at one scale, as a run whose network has one.
    """
    paths = RunDir(root)
    parts = [sizes[i : i + per_shard] for i in range(0, len(sizes), per_shard)]
    listed = len(sizes) + failures * len(parts)
    options = {"method": "gradcam", "source": "photos", "model": "net.onnx", "out": str(root)}
    manifest = Manifest(
        options | {"resize": "squash" if twin else "none"},
        {"schema": 1, "preprocessing": {"height": sizes[0][0], "width": sizes[0][1]}},
        {"samples": listed, "shards": len(parts), "shard_size": per_shard + failures},
        {},
    )
    begin_run(paths, manifest)
    layer = replace(LAYER, shape=(4, *grid_of(sizes[0], 1)))
    specs = dataset_specs(
        (layer,), (layer,), CLASSES, 2, sizes[0], 8, ("maps", "pooled"),
        copies=None if twin else copies,
    )  # fmt: skip
    sink, first, batches = Hdf5Sink(paths, specs, manifest.fingerprint), 0, []
    for index, own in enumerate(parts):
        names = [f"{i:04d}.png" for i in range(first, first + len(own) + failures)]
        samples = tuple(Sample(n, first + i, i % 3 - 1, n, 1) for i, n in enumerate(names))
        writer = sink.open(Shard(index, samples))
        rows = zip(own, samples, strict=False)
        for size, group in groupby(rows, key=lambda row: row[0]):
            batches.append(native_batch(tuple(s for _, s in group), size, copies))
            writer.write(twin_batch(batches[-1]) if twin else batches[-1])
        writer.commit(
            [Failure(s.key, s.index, "decode", "empty", "no") for s in samples[len(own) :]]
        )
        first += len(samples)
    build_index(paths)
    grids = [batch.grids[LAYER.name] for batch in batches]
    maps = [
        [one[i].astype(np.float16).astype(np.float32) for one in found.normalized]
        for found in grids
        for i in range(len(found.scale))
    ]
    target = np.concatenate([batch.target for batch in batches])
    return NativeRun(paths, target, maps, np.concatenate([found.scale for found in grids]))


def grid_of(size, scale):
    """Rows and columns of the maps of a picture at a scale."""
    return tuple(-(-round(side * scale) // STRIDE) for side in size)


def native_batch(samples, size, copies):
    """Random results of pictures of one size."""
    batch, rng = make_batch(samples, "squash"), np.random.default_rng(samples[0].index)
    target = batch.target.copy()
    target[[s.index % 3 == 2 for s in samples], 1] = NO_CLASS
    target[[s.index == 3 for s in samples]] = NO_CLASS
    maps = []
    for scale in copies.scales:
        raw = rng.normal(size=(*target.shape, *grid_of(size, scale))).astype(np.float32)
        maps.append(abs(raw) if copies.flip else raw)
        maps[-1][target == NO_CLASS] = 0
    peaks = np.stack([abs(one).max(axis=(2, 3)) for one in maps], axis=2)
    divisor = np.where(peaks, peaks, 1)
    normalized = tuple(one / divisor[..., s, None, None] for s, one in enumerate(maps))
    views = tuple(
        View(np.zeros((*size, 3), np.uint8), size, (0.0, 0.0, *map(float, size))) for _ in samples
    )
    grids = {LAYER.name: GridMaps(normalized, peaks * 40)}
    return replace(batch, views=views, target=target, maps={}, grids=grids)


def twin_batch(batch):
    """The same results as those of a run of one size, at one scale."""
    (maps,), scale = batch.grids[LAYER.name].normalized, batch.grids[LAYER.name].scale[..., 0]
    return replace(batch, grids={}, maps={LAYER.name: LayerMaps(maps, scale)})
