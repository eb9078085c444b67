"""Runs made by the writers alone, with everything about them known."""

from __future__ import annotations

from dataclasses import dataclass

import h5py
import numpy as np

from shardcam.engine.pictures.imaging import view
from shardcam.engine.rundir.hdf5_sink import Hdf5Sink
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import Manifest, begin_run
from shardcam.engine.rundir.schema import dataset_specs
from shardcam.engine.rundir.shard_index import build_index
from shardcam.engine.types import (
    Failure,
    LayerInfo,
    LayerMaps,
    Preprocessing,
    ResultBatch,
    Sample,
    Shard,
)

LAYERS = (LayerInfo("stage/conv", (4, 5, 7), False), LayerInfo("last", (4, 3, 3), True))
MAP, LAST = "stage.conv", "last"
CLASSES, TARGETS = 6, 2
VIEW = (24, 30)  # height and width of the network's input
SIZES = ((60, 80), (80, 60), (24, 30), (9, 7), (5, 40), (1, 1), (33, 500), (700, 20), (61, 47))


@dataclass(frozen=True)
class MadeRun:
    """A run directory, and all that plain h5py reads from its index."""

    paths: RunDir
    rows: dict


def make_run(root, shards=(4, 3, 0, 5), failures=1, resize="crop", keys="größe/{:04d}.png"):
    """One shard for each number of good samples; each has failures besides."""
    paths = RunDir(root)
    listed = sum(shards) + failures * len(shards)
    manifest = Manifest(
        {"method": "gradcam", "source": "photos", "model": "net.onnx", "out": str(root)},
        {"schema": 1},
        {"samples": listed, "shards": len(shards), "shard_size": max(shards) + failures},
        {},
    )
    begin_run(paths, manifest)
    names = [keys.format(i) for i in range(listed)]
    key_bytes = max(len(name.encode()) for name in names)
    specs = dataset_specs(LAYERS, LAYERS, CLASSES, TARGETS, VIEW, key_bytes, ("maps", "pooled"))
    sink, first = Hdf5Sink(paths, specs, manifest.fingerprint), 0
    for index, count in enumerate(shards):
        indices = range(first, first + count + failures)
        samples = tuple(Sample(names[i], i, i % 4 - 1, names[i], 1) for i in indices)
        writer = sink.open(Shard(index, samples))
        if count:
            writer.write(make_batch(samples[:count], resize))
        writer.commit([Failure(s.key, s.index, "decode", "empty", "no") for s in samples[count:]])
        first += len(indices)
    build_index(paths)
    return MadeRun(paths, read_all(paths))


def read_all(paths):
    """Every dataset of the index, by plain h5py."""
    found = {}
    with h5py.File(paths.index) as file:
        file.visititems(
            lambda name, item: found.update({name: item[()]}) if hasattr(item, "dtype") else None
        )
    return found


def make_batch(samples, resize):
    """Random results; every fifth map is of zeros, and every flag in 0 to 2 comes."""
    count, rng = len(samples), np.random.default_rng(samples[0].index)
    preprocessing = Preprocessing(*VIEW, (0.0,) * 3, (1.0,) * 3, resize)
    pictures = (np.zeros((*SIZES[s.index % len(SIZES)], 3), np.uint8) for s in samples)
    top = np.argsort(rng.random((count, CLASSES)), axis=1)[:, :5].astype(np.int32)
    top_score = np.sort(rng.random((count, 5)).astype(np.float32))[:, ::-1].copy()
    return ResultBatch(
        samples=samples,
        views=tuple(view(picture, preprocessing) for picture in pictures),
        target=top[:, :TARGETS].copy(),
        score=top_score[:, :TARGETS].copy(),
        top_class=top,
        top_score=top_score,
        flags=np.array([s.index % 3 for s in samples], np.uint8),
        maps={layer.name: make_maps(rng, samples, layer.shape[1:]) for layer in LAYERS},
        pooled={layer.name: rng.random((count, 4)).astype(np.float32) for layer in LAYERS},
    )


def make_maps(rng, samples, size):
    raw = rng.normal(size=(len(samples), TARGETS, *size)).astype(np.float32)
    raw[[s.index % 5 == 4 for s in samples], 0] = 0
    scale = abs(raw).max(axis=(2, 3))
    return LayerMaps(raw / np.where(scale, scale, 1)[..., None, None], scale * 40)
