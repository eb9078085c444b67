"""What the pipeline does with samples that end their workers, and with trials."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from engine.clock import Clock
from engine.config import RunConfig
from engine.types import Failure
from jobs.wiring import prepare, worker_order
from jobs.worker import build_runner
from tests.jobs.images import make_folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    base = tmp_path_factory.mktemp("pipeline")
    make_folder(base / "images", 24)
    return prepare(
        RunConfig(
            source=str(base / "images"),
            model="efficientnet_lite0",
            image_size=64,
            out=str(base / "run"),
            shard_size=24,
            executor="local",
        )
    )


@pytest.mark.parametrize(
    ("method", "smooth", "least"),
    [
        ("scorecam", (), 1280 // 24),  # one image, as many channels, a batch of masks at a time
        ("gradcam", ("aug",), 6),
        ("gradcam", (), 1),
    ],
)
def test_the_clock_sees_each_pass_within_a_batch(prepared, method, smooth, least):
    """A worker is not held to hang because one of its batches takes an hour."""
    order = worker_order(prepared)
    config = order.config.model_copy(update={"method": method, "smooth": smooth})
    clock, shard = Clock(), prepared.plan.shard(0)
    runner = build_runner(replace(order, config=config))
    runner(replace(shard, samples=shard.samples[:1], trial=True), clock)
    assert clock.passes >= least


@pytest.fixture(scope="module")
def runner(prepared):
    return build_runner(worker_order(prepared))


def test_a_trial_publishes_nothing_and_a_lost_sample_is_not_looked_at(prepared, runner):
    shard = prepared.plan.shard(0)
    told = []
    report = runner(replace(shard, samples=shard.samples[3:9], trial=True), Clock(told.append))
    assert (report.listed, report.published) == (6, False)
    assert told == [6]
    assert list(prepared.paths.shards.rglob("*.h5")) == []

    broken = replace(shard.samples[5], location="/nowhere")  # whoever reads it fails
    lost = Failure(broken.key, broken.index, "worker", "ends its worker", "killed")
    samples = (*shard.samples[:5], broken, *shard.samples[6:])
    clock = Clock()
    report = runner(replace(shard, samples=samples, lost=(lost,)), clock)
    assert (report.ok, report.failed, report.published, clock.images) == (23, 1, True, 24)
    with h5py.File(prepared.paths.shard(0)) as file:
        assert file["failure/stage"][:].tolist() == [b"worker"]
        assert file["failure/message"][:].tolist() == [b"killed"]
        assert 5 not in file["sample"][:]
        without = file["cam/head_relu6/map"][:], file["sample"][:]

    prepared.paths.shard(0).unlink()
    assert runner(shard, Clock()).ok == 24
    with h5py.File(prepared.paths.shard(0)) as file:
        whole = file["cam/head_relu6/map"][:]
    apart = whole[without[1]].astype(np.float32) - without[0].astype(np.float32)
    assert abs(apart).max() < 2e-3  # float16; one batch had an image less
