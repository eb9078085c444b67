"""A small source and model, a cluster of several nodes, and a person who repeats the command."""

import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import mxnet as mx
import numpy as np
from ray.cluster_utils import Cluster

ROOT = Path(__file__).parent.parent.parent
SIZE = 8  # of an image, height and width
STORE = 80 * 1024 * 1024


def make_source(folder, images):
    pixels = np.random.RandomState(0).randint(0, 256, (images, SIZE, SIZE, 3)).astype(np.uint8)
    np.save(folder / "images.npy", pixels)
    return folder / "images.npy"


def make_model(folder):
    """Two convolutions and a dense layer over all of the map: the gradient takes a backward."""
    x = mx.sym.var("data")
    for name in ("a", "b"):
        x = mx.sym.Convolution(x, name=name, num_filter=4, kernel=(3, 3), pad=(1, 1))
        x = mx.sym.Activation(x, name=f"{name}_relu", act_type="relu")
    x = mx.sym.FullyConnected(mx.sym.Flatten(x), name="dense", num_hidden=5)
    shapes, _, _ = x.infer_shape(data=(1, 3, SIZE, SIZE))
    random = np.random.RandomState(1)
    values = {
        f"arg:{name}": mx.nd.array(random.normal(0, 0.3, shape))
        for name, shape in zip(x.list_arguments(), shapes)
        if name != "data"
    }
    x.save(str(folder / "tiny-symbol.json"))
    mx.nd.save(str(folder / "tiny-0000.params"), values)
    return folder / "tiny-symbol.json"


def start(faults, *arguments):
    """Start ``shardcam ...`` with faulty workers, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.command", *map(str, (faults, *arguments))],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def shards_of(run):
    return len(list((run / "shards").glob("*.h5")))


def wait_until(condition, seconds=300.0):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.1)


@contextmanager
def ray_cluster(nodes):
    """A head with no CPUs, which holds the driver, and nodes of one CPU each."""
    before = os.environ.get("RAY_AUTH_MODE")
    os.environ["RAY_AUTH_MODE"] = "disabled"
    with tempfile.TemporaryDirectory(prefix="shardcam-", ignore_cleanup_errors=True) as folder:
        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE}
        cluster = Cluster(initialize_head=True, head_node_args={**head, "temp_dir": folder})
        try:
            for _ in range(nodes):
                add_node(cluster)
            yield cluster
        finally:
            cluster.shutdown()
            if before is None:
                del os.environ["RAY_AUTH_MODE"]


def add_node(cluster, **resources):
    return cluster.add_node(**{"num_cpus": 1, "object_store_memory": STORE, **resources})


@contextmanager
def read_only(folder):
    """Mount a folder over itself, so that nothing can be written below it."""
    subprocess.run(["mount", "--bind", "-o", "ro", folder, folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def may_mount():
    """Whether this user may mount file systems here."""
    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True
        )
        if mounted.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        return mounted.returncode == 0
