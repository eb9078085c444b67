"""``shardcam doctor --address``: the checks of doctor on every node of a Ray cluster."""

from __future__ import annotations

import os
import sys
import tempfile
from functools import partial
from pathlib import Path

from shardcam.engine.errors import ConfigError
from shardcam.engine.io.whole_file import nearest_folder
from shardcam.engine.run.library_versions import version_of
from shardcam.engine.workers.threads import limit_threads
from shardcam.jobs.measuring.machine_checks import CHECKS, Finding, examine

SECONDS = 300.0  # a node that compiles the kernels for the first time takes its time
AUTO = "auto"
COMPARED = ("shardcam", "mxnet", "torch", "numpy", "numba", "h5py", "opencv-python-headless", "ray")
ELSEWHERE = {"ray", "disk"}  # Ray runs already; the disk is checked where it was named

Findings = list[tuple[str, Finding]]


def check_cluster(address: str, out: Path | None) -> dict[str, Findings]:
    """The findings of each node, by its name.

    `out` must be one folder to all nodes and to this process.
    """
    from shardcam.engine.workers.ray_nodes import ask_every_node

    if address == AUTO:
        address = os.environ.get("RAY_ADDRESS", "")
    if not address or "://" in address:
        raise ConfigError("--address takes HOST:PORT, as ray start printed it, or auto in a job")
    folder = None if out is None else nearest_folder(out)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".shardcam-doctor-") as mark:
        shared = None if folder is None else mark.name
        question = partial(examine_node, versions(), shared)
        answers = ask_every_node(address, question, SECONDS)
    return {
        f"{number}, {one.node}": one.answer or [("node", Finding("fail", one.error or ""))]
        for number, one in enumerate(answers, 1)
    }


def examine_node(expected: dict[str, str], shared: str | None) -> Findings:
    """Run on a node: doctor's checks, the versions, and whether it sees the file `shared`."""
    limit_threads(1)
    checks = {name: check for name, check in CHECKS.items() if name not in ELSEWHERE}
    found = examine(checks, Path())
    found.append(("versions", _compare(expected, versions())))
    if shared is not None:
        if Path(shared).exists():
            found.append(("shared", Finding("ok", f"{Path(shared).parent} is the driver's too")))
            found += examine({"disk": CHECKS["disk"]}, Path(shared).parent)
        else:
            text = f"{Path(shared).parent} is not the folder that the driver sees"
            found.append(("shared", Finding("fail", text)))
    return found


def versions() -> dict[str, str]:
    return {"python": f"{sys.version_info[0]}.{sys.version_info[1]}"} | {
        name: version_of(name) for name in COMPARED
    }


def _compare(expected: dict[str, str], here: dict[str, str]) -> Finding:
    other = [f"{name} {here[name]}, not {v}" for name, v in expected.items() if here[name] != v]
    if other:
        return Finding("fail", f"other than the driver's: {'; '.join(other)}")
    return Finding("ok", "the driver's")
