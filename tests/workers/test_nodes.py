"""Nodes that crash, join and are drained while a run goes on: three of them, one GPU each."""

import threading
import time
from functools import partial

import pytest
from ray._raylet import GcsClient
from ray.core.generated.autoscaler_pb2 import DrainNodeReason

from engine.workers.ray import RayExecutor
from engine.workers.ray_cluster import RayOptions
from tests.workers.cluster import add_node, ray_cluster
from tests.workers.scripted import builder, shards

SHARDS = 30


@pytest.fixture(scope="module")
def cluster():
    with ray_cluster() as cluster:
        yield cluster


@pytest.fixture
def three_nodes(cluster):
    nodes = [add_node(cluster, num_gpus=1) for _ in range(3)]
    yield nodes
    for node in [*cluster.worker_nodes]:
        cluster.remove_node(node)


class Told:
    """A listener that remembers, and does something when workers have started."""

    def __init__(self, workers, then):
        self.events = []
        self._workers, self._then = workers, then

    def __call__(self, kind, /, **facts):
        self.events.append((kind, facts))
        if self._then and kind == "shard_done" and len(self.of("worker_started")) >= self._workers:
            then, self._then = self._then, None
            then()

    def of(self, kind):
        return [facts for happened, facts in self.events if happened == kind]


def run(cluster, folder, told, start=None):
    options = RayOptions(None, 1, 1, cluster.address)
    script = {"start": start} | dict.fromkeys(range(SHARDS), "sleep 2")
    reports = list(RayExecutor(builder(script, folder), options).run(shards(SHARDS), told))
    assert sorted(report.shard for report in reports) == list(range(SHARDS))
    assert not told.of("search")
    for worker in told.of("worker_started"):
        assert worker["device"] == "0"  # the only one of its node
    return {worker["node"]: worker["worker"] for worker in told.of("worker_started")}


@pytest.mark.slow
def test_a_node_crashes_and_another_joins(cluster, three_nodes, tmp_path):
    def crash_and_join():
        cluster.remove_node(three_nodes[0], allow_graceful=False)
        joined.append(add_node(cluster, num_gpus=1))

    joined = []
    told = Told(3, crash_and_join)
    workers = run(cluster, tmp_path, told)
    assert workers.keys() == {node.node_id for node in (*three_nodes, *joined)}
    (lost,) = [facts for facts in told.of("worker_lost") if facts["shard"] is not None]
    assert lost["worker"] == workers[three_nodes[0].node_id]
    assert lost["node_lost"]


@pytest.mark.slow
def test_a_node_crashes_while_its_worker_starts(cluster, three_nodes, tmp_path):
    """That is no failed start."""
    crash = partial(cluster.remove_node, three_nodes[0], allow_graceful=False)
    timer = threading.Timer(8, crash)
    timer.start()
    told = Told(3, None)
    workers = run(cluster, tmp_path, told, start="slow")
    timer.join()
    assert three_nodes[0].node_id not in workers
    assert told.of("worker_lost")
    assert all(lost["node_lost"] and lost["shard"] is None for lost in told.of("worker_lost"))


@pytest.mark.slow
def test_a_drained_node_gets_no_more_shards(cluster, three_nodes, tmp_path):
    def drain():
        reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        deadline = int((time.time() + 600) * 1000)
        address = GcsClient(address=cluster.address)
        accepted, why = address.drain_node(three_nodes[0].node_id, reason, "spot", deadline)
        assert accepted, why

    told = Told(3, drain)
    workers = run(cluster, tmp_path, told)
    assert not told.of("worker_lost")
    drained = workers[three_nodes[0].node_id]
    assert [facts["worker"] for facts in told.of("worker_recycled")] == [drained]
    last = max(i for i, (_, facts) in enumerate(told.events) if facts.get("worker") == drained)
    assert told.events[last][0] == "worker_recycled"
    assert sum(kind == "shard_done" for kind, _ in told.events[last:]) > 2  # the others go on
