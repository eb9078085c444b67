"""What the files that start a cluster for one run have in common."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from shardcam.engine.config import RunConfig

OBJECT_STORE = 100_000_000  # bytes: only small reports pass through it


@dataclass(frozen=True)
class Nodes:
    """The machines of a cluster."""

    count: int
    cpus: int
    gpus: int  # of each
    memory: str | None  # of each, in the words of the system that gives them


def job_name(config: RunConfig) -> str:
    """A name of this run alone, of at most 47 letters, digits and `-`: KubeRay takes no more."""
    out = config.absolute().out
    run = re.sub(r"[^a-z0-9]+", "-", Path(out).name.lower())[:28].strip("-")
    return f"shardcam-{run or 'run'}-{hashlib.sha256(out.encode()).hexdigest()[:8]}"
