"""The HDF5 sink beside plain writing of the same bytes: 512 rows of ResNet-50 activations.

100 KB of activations a row, synchronised to the disk at the end in both cases. The values are
ReLU activations: half of them zeros. `disk` is the limit.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from engine.types import LayerInfo, ResultBatch, RunPaths, Sample, Shard, View
from engine.writers.codec import CODECS
from engine.writers.hdf5 import Hdf5Sink
from engine.writers.schema import dataset_specs

LAYER = LayerInfo("layer", (512, 7, 7), closed_form=True)
ROWS, BATCH = 512, 32
SHARD = Shard(0, tuple(Sample(f"{i:08d}.jpg", i, -1, "", 0) for i in range(ROWS)))


def batches() -> list[ResultBatch]:
    random = np.random.RandomState(0)
    values = np.maximum(random.standard_normal((BATCH, *LAYER.shape)), 0).astype(np.float32)
    nothing = np.zeros((BATCH, 1), np.int32)
    few = np.zeros((BATCH, 1), np.float32)
    return [
        ResultBatch(
            samples=SHARD.samples[start : start + BATCH],
            views=(View(np.zeros((1, 1, 3), np.uint8), (1, 1), (0, 0, 1, 1)),) * BATCH,
            target=nothing,
            score=few,
            top_class=np.zeros((BATCH, 5), np.int32),
            top_score=np.zeros((BATCH, 5), np.float32),
            flags=np.zeros(BATCH, np.uint8),
            activations={LAYER.name: values},
        )
        for start in range(0, ROWS, BATCH)
    ]


@pytest.mark.parametrize("what", ["disk", *CODECS])
def test_write(benchmark: BenchmarkFixture, tmp_path: Path, what: str) -> None:
    benchmark.group = "512 rows of (512,7,7) float32 activations"
    given = batches()
    paths = RunPaths(tmp_path)
    specs = dataset_specs((LAYER,), (LAYER,), 1000, 1, (224, 224), 12, ("activations",))

    def disk() -> None:
        with (tmp_path / "plain").open("wb") as file:
            for batch in given:
                file.write(batch.activations[LAYER.name])
            file.flush()
            os.fsync(file.fileno())

    def sink() -> None:
        paths.shard(0).unlink(missing_ok=True)
        writer = Hdf5Sink(paths, specs, "f00d", what).open(SHARD)
        for batch in given:
            writer.write(batch)
        assert writer.commit([])

    benchmark.pedantic(disk if what == "disk" else sink, rounds=7, warmup_rounds=1)
    size = ROWS * np.prod(LAYER.shape) * 4
    written = (tmp_path / "plain" if what == "disk" else paths.shard(0)).stat().st_size
    benchmark.extra_info["MB_per_second"] = round(size / 1e6 / benchmark.stats.stats.median)
    benchmark.extra_info["ratio"] = round(size / written, 2)
    print(f"\n{what}: {benchmark.extra_info}")
