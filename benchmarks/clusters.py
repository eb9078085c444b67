"""Clustering: seconds and peak memory of classes of many maps, beside CoRelAy.

``python -m benchmarks.clusters [--rows 10000 100000] [--classes 1000] [--peer PYTHON]``, where
PYTHON has corelay 1.0.0 and clusters 10,000 maps. Each measurement is a process of its own, and in
each round all take their turn. Maps are 7x7, hills at places that wander, with a mark in a tenth of
them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import saved_figures
from shardcam.engine.types import F4

SIDE, ALIKE = 7, 10_000  # maps of one class that CoRelAy has as well
PEER = """
import json, resource, sys, time
import numpy as np
from corelay.processor.affinity import SparseKNN
from corelay.processor.distance import SciPyPDist
from corelay.processor.embedding import EigenDecomposition
from corelay.processor.laplacian import SymmetricNormalLaplacian
from sklearn.cluster import KMeans

points = np.load(sys.argv[1])
begun, used = time.perf_counter(), time.process_time()
graph = SparseKNN(n_neighbors=32)(SciPyPDist(metric="euclidean")(points))
values, vectors = EigenDecomposition(n_eigval=32)(SymmetricNormalLaplacian()(graph))
KMeans(2, n_init=4).fit_predict(vectors)
print(json.dumps({"seconds": time.perf_counter() - begun, "cpu": time.process_time() - used,
                  "GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}))
"""


def maps(count: int, seed: int = 0) -> F4:
    """(count,49) rows that sum to 1."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    at = np.float32([4, 3]) + rng.normal(0, 1, (count, 2)).astype(np.float32)
    at[rng.random(count) < 0.1] = 0.5
    away = (y - at[:, :1, None]) ** 2 + (x - at[:, 1:, None]) ** 2
    found = np.exp(-away / 3) + np.float32(0.1) * rng.random((count, SIDE, SIDE), dtype=np.float32)
    rows: F4 = found.reshape(count, -1)
    return rows / rows.sum(axis=1, keepdims=True)


def measure(count: int, classes: int) -> None:
    """Cluster so many classes of so many rows, and print seconds and memory."""
    from shardcam.engine.clusters.cluster_class import ClassRows, cluster_class
    from shardcam.engine.clusters.settings import Settings

    seconds = cpu = 0.0
    for number in range(classes):
        points = maps(count, number)
        ones = np.ones(count, np.float32)
        rows = ClassRows(np.arange(count), points, ones.astype(np.int8), ones)
        begun, used = time.perf_counter(), time.process_time()
        found = cluster_class(rows, Settings(), 1, os.cpu_count() or 1)
        seconds, cpu = seconds + time.perf_counter() - begun, cpu + time.process_time() - used
    told: dict[str, Any] = {
        "seconds": seconds,
        "cpu": cpu,
        "GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "unlike": round(float(found["of_cluster/unlikeness"].max()), 2),
    }
    print(json.dumps(told))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="*", default=[ALIKE, 100_000])
    parser.add_argument("--classes", type=int, default=1000, help="of 1,000 maps")
    parser.add_argument("--peer")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--measure", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(*options.measure)
        return
    sizes = [(rows, 1) for rows in options.rows] + [(1000, options.classes)] * bool(options.classes)
    with tempfile.TemporaryDirectory() as folder:
        own = ("-m", "benchmarks.clusters", "--measure")
        ways = {
            f"{count} of {classes}": (sys.executable, *own, f"{count}", f"{classes}")
            for count, classes in sizes
        }
        if options.peer:
            np.save(Path(folder) / "maps.npy", maps(ALIKE))
            ways["CoRelAy"] = (options.peer, "-c", PEER, f"{folder}/maps.npy")
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, command in ways.items():
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                rounds[name].append(json.loads(done.stdout))
                print(f"{name}: {done.stdout.strip()}", flush=True)
                with saved_figures("clusters") as figures:
                    figures.setdefault("rounds", {})[name] = rounds[name]


if __name__ == "__main__":
    main()
