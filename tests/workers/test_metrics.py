"""The figures of a run, as Prometheus would fetch them from the driver's node."""

import re
import threading
import time
from urllib.request import urlopen

import pytest
import ray

from shardcam.engine.workers.ray_cluster import RayOptions
from shardcam.engine.workers.ray_executor import RayExecutor
from tests.workers.cluster import ray_cluster
from tests.workers.scripted import builder, go, shards

pytestmark = pytest.mark.ray
SHARDS = 6


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setenv("RAY_metrics_report_interval_ms", "500")
    with ray_cluster(head={"num_cpus": 2}) as cluster:
        yield cluster


def figures(port):
    """Names with their labels that are of shardcam, and their values."""
    with urlopen(f"http://{ray.util.get_node_ip_address()}:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    found = {}
    for name, labels, value in re.findall(r"^ray_(shardcam_\w+){(.*)} (\S+)$", text, re.M):
        stage = re.search(r'stage="(\w+)"', labels)
        found[name + (f" {stage[1]}" if stage else "")] = float(value)
    return found


def scrape(into, folder):
    (port,) = {node["MetricsExportPort"] for node in ray.nodes()}
    end = time.monotonic() + 60
    while into.get("shardcam_shards_left") != 1 and time.monotonic() < end:
        into.update(figures(port))
        time.sleep(0.1)
    go(folder)


def test_prometheus_finds_the_run(cluster, tmp_path):
    found, threads = {}, []

    def heard(event):
        if event.kind == "shard_started" and event.shard == SHARDS - 1:  # it takes a while
            threads.append(threading.Thread(target=scrape, args=(found, tmp_path)))
            threads[0].start()

    script = {0: "die 1", 1: "die 100 unless given up", SHARDS - 1: "sleep 60"}
    options = RayOptions(1, 1, 0, cluster.address)
    list(RayExecutor(builder(script, tmp_path), options).run(shards(SHARDS), heard))
    threads[0].join()
    assert found == {
        "shardcam_images_total": SHARDS - 1,
        "shardcam_failed_total": 1,
        "shardcam_stage_seconds_total forward": SHARDS - 2,
        "shardcam_shards_left": 1,
        "shardcam_workers": 1,
        "shardcam_workers_lost_total": 3,
    }
