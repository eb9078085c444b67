"""What the pipeline does with samples that crashed their workers, and with trials."""

from dataclasses import replace
from itertools import cycle

import h5py
import numpy as np
import pytest

from shardcam.engine.config import RunConfig
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.engine.pipeline.decoder_threads import Decoders
from shardcam.engine.pipeline.forward_ahead import ForwardAhead
from shardcam.engine.pipeline.prefetch import Prefetcher
from shardcam.engine.pipeline.run_shard import ShardPipeline, explain
from shardcam.engine.pipeline.stage_timer import StageTimer
from shardcam.engine.run.build_worker import build_parts, build_runner
from shardcam.engine.run.network_choice import load_definition
from shardcam.engine.run.prepare import prepare
from shardcam.engine.types import Failure, Flag, Shard
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
def test_the_timer_sees_each_pass_within_a_batch(prepared, method, smooth, least):
    """A worker is not held to hang because one of its batches takes an hour."""
    spec = prepared.worker
    config = spec.config.model_copy(update={"method": method, "smooth": smooth})
    timer, shard = StageTimer(), prepared.plan.shard(0)
    runner = build_runner(replace(spec, config=config))
    runner.run(replace(shard, samples=shard.samples[:1], trial=True), timer)
    assert timer.passes >= least


def rows_of(prepared, parts, ahead, shards):
    """What the shards hold, run one after the other, the next one told; they are deleted again."""
    found = {"map": [], "score": [], "error": []}
    for shard, next_shard in zip(shards, [*shards[1:], None], strict=True):
        assert ShardPipeline(parts, ahead).run(shard, StageTimer(), next_shard).published
        with h5py.File(prepared.run_dir.shard(shard.index)) as file:
            found["map"].append(file["cam/head_relu6/map"][:].astype(np.float32))
            found["score"].append(file["score"][:])
            found["error"] += file["failure/error"][:].tolist()
        prepared.run_dir.shard(shard.index).unlink()
    return {name: np.concatenate(some) if name != "error" else some for name, some in found.items()}


def test_the_way_of_a_gpu_gives_the_same_maps(prepared, tmp_path):
    """Decoding in threads, and two passes at a time: here on the CPU."""
    spec = replace(prepared.worker, batch_size=4)
    loader, parts = build_parts(spec)
    (tmp_path / "cut.jpg").write_bytes(b"no picture")
    samples = list(prepared.plan.shard(0).samples)
    samples[7] = replace(samples[7], location=str(tmp_path / "cut.jpg"))
    shards = [Shard(i, tuple(samples[8 * i : 8 * i + 8])) for i in range(3)]
    plain = ForwardAhead(Prefetcher(loader.batches), parts.network)
    expected = rows_of(prepared, parts, plain, shards)
    assert expected["error"] == [b"not an image"]
    definition = load_definition(spec.config)
    loader = replace(loader, decoders=Decoders(3))
    for buffers in (1, 2):
        network = MxnetNetwork(definition, spec.layers, 4, buffers=buffers)
        ahead = ForwardAhead(Prefetcher(loader.batches), network)
        found = rows_of(prepared, replace(parts, network=network), ahead, shards)
        assert found["error"] == expected["error"]
        np.testing.assert_allclose(found["map"], expected["map"], atol=2e-3)  # float16
        np.testing.assert_allclose(found["score"], expected["score"], rtol=1e-3)


@pytest.fixture(scope="module")
def runner(prepared):
    return build_runner(prepared.worker)


def test_a_trial_publishes_nothing_and_a_sample_given_up_is_not_read(prepared, runner):
    shard = prepared.plan.shard(0)
    told = []
    report = runner.run(
        replace(shard, samples=shard.samples[3:9], trial=True), StageTimer(told.append)
    )
    assert (report.listed, report.published) == (6, False)
    assert told == [6]
    assert list(prepared.run_dir.shards.rglob("*.h5")) == []

    broken = replace(shard.samples[5], location="/nowhere")  # whoever reads it fails
    given_up = Failure(broken.key, broken.index, "worker", "worker crashed", "killed")
    samples = (*shard.samples[:5], broken, *shard.samples[6:])
    timer = StageTimer()
    report = runner.run(replace(shard, samples=samples, given_up=(given_up,)), timer)
    assert (report.ok, report.failed, report.published, timer.images) == (23, 1, True, 24)
    with h5py.File(prepared.run_dir.shard(0)) as file:
        assert file["failure/stage"][:].tolist() == [b"worker"]
        assert file["failure/message"][:].tolist() == [b"killed"]
        assert 5 not in file["sample"][:]
        without = file["cam/head_relu6/map"][:], file["sample"][:]

    prepared.run_dir.shard(0).unlink()
    assert runner.run(shard, StageTimer()).ok == 24
    with h5py.File(prepared.run_dir.shard(0)) as file:
        whole = file["cam/head_relu6/map"][:]
    apart = whole[without[1]].astype(np.float32) - without[0].astype(np.float32)
    assert abs(apart).max() < 2e-3  # float16; one batch had an image less


def test_flags_of_pictures_are_those_of_their_rows(prepared):
    loader, parts = build_parts(prepared.worker)
    batch = next(loader.batches(prepared.plan.shard(0)))
    flags = [Flag(0), Flag.DAMAGED, Flag.SMALL_RANGE, Flag.DAMAGED | Flag.SMALL_RANGE]
    views = tuple(
        replace(view, flags=flag) for view, flag in zip(batch.views, cycle(flags), strict=False)
    )
    forward = parts.network.forward(batch.images)
    results = explain(replace(batch, views=views), forward.logits, forward, parts)
    assert results.flags.tolist() == [0, 16, 32, 48] * (len(views) // 4)
