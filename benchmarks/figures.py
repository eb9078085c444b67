"""What benchmarks have measured, in build/bench.json: one part for each, and on which machine."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

FIGURES = Path("build/bench.json")
PACKAGES = ("mxnet", "numpy", "numba", "opencv-python-headless", "h5py", "ray")
CORES = len(os.sched_getaffinity(0))


@contextmanager
def saved_figures(part: str, versions: Mapping[str, str] = {}) -> Iterator[dict[str, Any]]:
    """A part to be changed, which is written when the block ends; `versions` are the peers'."""
    from shardcam.jobs.measuring.measure import processor_name

    results = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    figures: dict[str, Any] = results.setdefault(part, {})
    figures["machine"] = {
        "processor": processor_name(),
        "cores": CORES,
        "versions": {name: version(name) for name in PACKAGES} | dict(versions),
    }
    yield figures
    FIGURES.parent.mkdir(exist_ok=True)
    FIGURES.write_text(json.dumps(results, indent=2) + "\n")
