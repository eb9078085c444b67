"""Nodes that crash, join and are drained while a run goes on: three of them, one GPU each."""

import socket
import threading
import time

import pytest
from ray._raylet import GcsClient
from ray.core.generated.autoscaler_pb2 import DrainNodeReason

from shardcam.engine.workers.ray_cluster import RayOptions
from shardcam.engine.workers.ray_executor import RayExecutor
from tests.workers.cluster import add_node, ray_cluster
from tests.workers.scripted import builder, go, shards

pytestmark = pytest.mark.ray
SHARDS = 30


@pytest.fixture(scope="module")
def cluster():
    with ray_cluster() as cluster:
        yield cluster


@pytest.fixture
def three_nodes(cluster):
    """Nodes that others have left, and new ones; the first of them is spent here."""
    while len(cluster.worker_nodes) < 3:
        add_node(cluster, num_gpus=1)
    nodes = [*cluster.worker_nodes]
    yield nodes
    if nodes[0] in cluster.worker_nodes:
        cluster.remove_node(nodes[0])


class Told:
    """An observer that remembers, and calls `then` when three workers have started.

    The shards take long until `enough` of what it has heard.
    """

    def __init__(self, folder, then, enough):
        self.events = []
        self._folder, self._then, self._enough = folder, then, enough

    def __call__(self, event):
        self.events.append(event)
        if self._then and event.kind == "shard_done" and len(self.of("worker_started")) >= 3:
            then, self._then = self._then, None
            then()
        if self._enough(self):
            go(self._folder)

    def of(self, kind):
        return [event for event in self.events if event.kind == kind]


def run(cluster, folder, told, start=None):
    options = RayOptions(None, 1, 1, cluster.address)
    script = {"start": start} | dict.fromkeys(range(SHARDS), "sleep 2")
    reports = list(RayExecutor(builder(script, folder), options).run(shards(SHARDS), told))
    assert sorted(report.shard for report in reports) == list(range(SHARDS))
    assert not told.of("search")
    for worker in told.of("worker_started"):
        assert worker.device == "0"  # the only one of its node
    return {worker.node: worker.worker for worker in told.of("worker_started")}


def test_a_node_crashes_and_another_joins(cluster, three_nodes, tmp_path):
    def crash_and_join():
        cluster.remove_node(three_nodes[0], allow_graceful=False)
        joined.append(add_node(cluster, num_gpus=1))

    joined = []
    told = Told(tmp_path, crash_and_join, lambda told: len(told.of("worker_started")) == 4)
    workers = run(cluster, tmp_path, told)
    assert workers.keys() == {node.node_id for node in (*three_nodes, *joined)}
    (lost,) = [lost for lost in told.of("worker_lost") if lost.shard is not None]
    assert lost.worker == workers[three_nodes[0].node_id]
    assert (lost.node_lost, lost.reason) == (True, f"node {socket.gethostname()} was lost")


def test_a_node_crashes_while_its_worker_starts(cluster, three_nodes, tmp_path):
    """That is no failed start."""

    def crash():
        while len(list(tmp_path.glob("starting-*"))) < 3:
            time.sleep(0.05)
        cluster.remove_node(three_nodes[0], allow_graceful=False)

    thread = threading.Thread(target=crash, daemon=True)
    thread.start()
    told = Told(tmp_path, None, lambda told: told.of("worker_lost"))
    workers = run(cluster, tmp_path, told, start="wait")
    thread.join()
    assert three_nodes[0].node_id not in workers
    assert told.of("worker_lost")
    assert all(lost.node_lost and lost.shard is None for lost in told.of("worker_lost"))


def test_a_drained_node_gets_no_more_shards(cluster, three_nodes, tmp_path):
    def drain():
        reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        deadline = int((time.time() + 600) * 1000)
        address = GcsClient(address=cluster.address)
        accepted, why = address.drain_node(three_nodes[0].node_id, reason, "spot", deadline)
        assert accepted, why

    def others_go_on(told):
        kinds = [event.kind for event in told.events]
        return "worker_recycled" in kinds and (
            kinds[kinds.index("worker_recycled") :].count("shard_done") > 2
        )

    told = Told(tmp_path, drain, others_go_on)
    workers = run(cluster, tmp_path, told)
    for lost in told.of("worker_lost"):  # Ray may still have sent a new one there
        assert lost.node_lost and lost.shard is None
    drained = workers[three_nodes[0].node_id]
    assert [old.worker for old in told.of("worker_recycled")] == [drained]
    of_it = [event.kind for event in told.events if getattr(event, "worker", None) == drained]
    assert of_it[-1] == "worker_recycled"
    assert others_go_on(told)
