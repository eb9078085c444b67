"""A Ray cluster of several nodes on this machine, with GPUs that are not there."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

from ray._common.utils import get_default_ray_temp_dir
from ray.cluster_utils import Cluster

STORE = 80 * 1024 * 1024  # bytes, the least Ray accepts


@contextmanager
def ray_cluster(nodes=0, head=None, **resources):
    """A head, which the driver joins, and nodes of one CPU and `resources` each."""
    Path(get_default_ray_temp_dir()).mkdir(exist_ok=True)  # for the address; no Ray was here yet
    before = os.environ.get("RAY_AUTH_MODE")
    os.environ["RAY_AUTH_MODE"] = "disabled"
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        size = {"num_cpus": 0, "object_store_memory": STORE, **(head or {})}
        options = {"include_dashboard": False, "temp_dir": folder, **size}
        cluster = Cluster(initialize_head=True, head_node_args=options)
        try:
            for _ in range(nodes):
                add_node(cluster, **resources)
            yield cluster
        finally:
            cluster.shutdown()
            if before is None:
                del os.environ["RAY_AUTH_MODE"]
            else:
                os.environ["RAY_AUTH_MODE"] = before


def add_node(cluster, **resources):
    return cluster.add_node(**{"num_cpus": 1, "object_store_memory": STORE, **resources})
