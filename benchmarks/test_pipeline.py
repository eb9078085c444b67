"""A shard of 64 JPEG photographs (500x375) from disk to HDF5, against its forward passes alone.

All cores, one process. What the forward passes alone take is the limit on a CPU.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from engine.clock import Clock
from engine.config import RunConfig
from engine.pipeline import Parts, run_shard
from engine.types import RunPaths
from engine.workers.threads import limit_threads
from jobs.wiring import prepare, worker_order
from jobs.worker import build_runner
from tests.jobs.images import jpeg

COUNT = 64
MODELS = {
    "efficientnet_lite0": {"model": "efficientnet_lite0"},
    "resnet50_v1": {"model": "resnet50_v1", "params": "random"},
}

limit_threads(os.cpu_count() or 1)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.RandomState(0)
    for i in range(COUNT):
        (folder / f"{i:03d}.jpg").write_bytes(jpeg(rng, 375, 500))
    return folder


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("what", ["forward passes alone", "whole shard"])
def test_shard(
    benchmark: BenchmarkFixture, photographs: Path, tmp_path: Path, model: str, what: str
) -> None:
    benchmark.group = f"{COUNT} photographs, {model}"
    config = RunConfig(
        source=str(photographs), out=str(tmp_path), shard_size=COUNT, **MODELS[model]
    )
    prepared = prepare(config)
    runner = build_runner(worker_order(prepared))
    parts: Parts = runner.keywords["parts"]
    shard = prepared.plan.shard(0)
    published = RunPaths(tmp_path).shard(0)

    def whole() -> None:
        published.unlink(missing_ok=True)
        assert run_shard(shard, Clock(), parts=parts).ok == COUNT

    images = np.zeros((config.batch_size, 3, 224, 224), np.float32)

    def forward_alone() -> None:
        for _ in range(COUNT // config.batch_size):
            assert parts.network.forward(images).logits.shape[0] == config.batch_size

    benchmark.pedantic(whole if what == "whole shard" else forward_alone, rounds=5, warmup_rounds=1)
