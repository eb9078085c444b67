"""Each worker sees exactly its device: two GPUs that are not there."""

import pytest

from shardcam.engine.errors import WorkerError
from shardcam.engine.workers.ray_cluster import RayOptions
from shardcam.engine.workers.ray_executor import RayExecutor
from tests.ray_head import ray_head
from tests.workers.conftest import NO_TOKENS
from tests.workers.scripted import builder, nobody, shards


def devices_seen(tmp_path, options, workers):
    script = {"note": "devices"} | dict.fromkeys(range(8), f"gather {workers}")
    list(RayExecutor(builder(script, tmp_path), options).run(shards(8), nobody))
    return {p.read_text() for p in tmp_path.glob("devices-*")}


def test_each_gpu_worker_sees_one_gpu_and_no_two_the_same(address, tmp_path):
    assert devices_seen(tmp_path, RayOptions(None, 1, 1, address), 2) == {"0", "1"}
    assert len(list(tmp_path.glob("devices-*"))) == 2


def test_two_workers_share_a_gpu_by_fractions(address, tmp_path):
    devices_seen(tmp_path, RayOptions(None, 1, 0.5, address), 4)
    seen = sorted(p.read_text() for p in tmp_path.glob("devices-*"))
    assert seen == ["0", "0", "1", "1"]


def test_a_worker_with_two_gpus(address, tmp_path):
    assert devices_seen(tmp_path, RayOptions(None, 1, 2, address), 1) == {"0,1"}


@pytest.mark.ray
def test_workers_share_what_the_node_was_given(monkeypatch, tmp_path):
    """By Slurm, which numbers them in its own way, or as parts of a GPU (MIG)."""
    given = "3,MIG-41b35cd1-9d92-5d39-8a0b-c5c6a1f7a3c2"
    for name, value in NO_TOKENS.items():
        monkeypatch.setenv(name, value)
    with ray_head(cpus=4, gpus=2, CUDA_VISIBLE_DEVICES=given, **NO_TOKENS) as head:
        seen = devices_seen(tmp_path, RayOptions(None, 1, 1, head.address), 2)
    assert seen == {*given.split(",")}


def test_cpu_workers_see_no_gpu(address, tmp_path):
    assert devices_seen(tmp_path, RayOptions(2, 1, 0, address), 2) == {""}


def test_more_gpus_than_there_are(address, tmp_path):
    with pytest.raises(WorkerError, match="4 CPUs and 2 GPUs: not enough for a worker"):
        devices_seen(tmp_path, RayOptions(1, 1, 3, address), 1)


def test_more_workers_than_there_is_room_for(address, tmp_path):
    """The others wait, and the run goes on: a node may have been lost, or be on its way."""
    assert devices_seen(tmp_path, RayOptions(3, 1, 1, address), 2) == {"0", "1"}
