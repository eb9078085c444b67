"""Each worker sees exactly its device: two GPUs that are not there."""

from functools import partial

import pytest
import ray

from shardcam.engine.errors import WorkerError
from shardcam.engine.workers.ray_cluster import RayOptions, worker_capacity
from shardcam.engine.workers.ray_executor import RayExecutor
from tests.ray_head import ray_head
from tests.workers.cluster import add_node, ray_cluster
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


def devices_by_node(run, workers):
    """Which devices workers of one core found on each node of a cluster, by its number of GPUs."""
    events = []
    list(run(events.append))
    started = [event for event in events if event.kind == "worker_started"]
    assert len(started) == workers
    return sorted((event.node, event.device) for event in started)


@pytest.mark.ray
def test_nodes_of_several_kinds(tmp_path):
    """One has two GPUs, one has one, and one has none, where GPU workers are not."""
    with ray_cluster(nodes=1, num_cpus=4) as cluster:
        one, two = (add_node(cluster, num_cpus=4, num_gpus=n).node_id for n in (1, 2))
        for each, expected in (
            (1, [(one, "0"), (two, "0"), (two, "1")]),
            (0.5, [(one, "0")] * 2 + [(two, "0")] * 2 + [(two, "1")] * 2),
            (2, [(two, "0,1")]),
        ):
            script = {"note": "devices"} | dict.fromkeys(range(12), f"gather {len(expected)}")
            folder = tmp_path / str(each)
            folder.mkdir()
            run = RayExecutor(builder(script, folder), RayOptions(None, 1, each, cluster.address))
            found = devices_by_node(partial(run.run, shards(12)), len(expected))
            assert found == sorted(expected)
        options = RayOptions(None, 1, 3, cluster.address)
        with pytest.raises(WorkerError, match=r"3 GPUs: not enough .* on one of its 4 nodes"):
            list(RayExecutor(builder({}, tmp_path), options).run(shards(1), nobody))


@pytest.mark.parametrize(
    ("cpus", "gpus", "room"),
    [
        (1, 0, 12),
        (3, 0, 3),
        (5, 0, 0),
        (1, 1, 3),
        (1, 0.5, 6),
        (1, 0.6, 3),  # one of them leaves 0.4 of a GPU, and two GPUs have no 0.8 for a third
        (1, 0.3, 7),  # three of a GPU, and four cores of a node
        (1, 2, 1),
        (1, 3, 0),
    ],
)
def test_room_for_workers_is_that_of_single_nodes(monkeypatch, cpus, gpus, room):
    sizes = [{"CPU": 4.0}, {"CPU": 4.0, "GPU": 1.0}, {"CPU": 4.0, "GPU": 2.0}]
    nodes = [{"Alive": True, "Resources": size} for size in sizes]
    nodes.append({"Alive": False, "Resources": {"CPU": 8.0, "GPU": 8.0}})
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    assert worker_capacity(RayOptions(None, cpus, gpus, None)) == room


def test_cpu_workers_see_no_gpu(address, tmp_path):
    assert devices_seen(tmp_path, RayOptions(2, 1, 0, address), 2) == {""}


def test_more_gpus_than_there_are(address, tmp_path):
    with pytest.raises(WorkerError, match="4 CPUs and 2 GPUs: not enough for a worker"):
        devices_seen(tmp_path, RayOptions(1, 1, 3, address), 1)


def test_more_workers_than_there_is_room_for(address, tmp_path):
    """The others wait, and the run goes on: a node may have been lost, or be on its way."""
    assert devices_seen(tmp_path, RayOptions(3, 1, 1, address), 2) == {"0", "1"}
