"""What the runs on a Ray cluster tell each other, so that each gets its share of the workers.

Every driver writes what it asks for into the cluster's own table, and reads what the others ask
for. A run that ends deletes its entry; that of a driver that died is deleted by the others.
"""

from __future__ import annotations

import json
import secrets
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

import ray
from pydantic import TypeAdapter
from ray.exceptions import RayError

from shardcam.engine.workers.fair_share import Claim, allotted
from shardcam.engine.workers.ray_cluster import RayOptions
from shardcam.engine.workers.ray_internals import (
    delete_entry,
    living_drivers,
    read_entries,
    write_entry,
)

_CLAIM = TypeAdapter(Claim)


@dataclass(frozen=True)
class Share:
    """What a run may have at the moment."""

    runs: int  # others on the cluster
    workers: int  # of this run; one at least
    needed: bool  # another run has fewer than its share


class Sharing:
    """The entry of one run in the cluster's table, and those of the others.

    Parameters
    ----------
    options
        The size of the run's workers, and its priority.
    """

    def __init__(self, options: RayOptions) -> None:
        gpus = options.gpus_per_worker
        self._own = Claim(
            run=f"{time.time():.3f}-{secrets.token_hex(8)}",
            job="",
            resource="GPU" if gpus else "CPU",
            each=gpus or options.cpus_per_worker,
            wanted=0,
            ready=0,
            priority=options.priority,
        )

    def update(self, wanted: int, ready: int) -> Share:
        """Say how many workers the run has work for and how many it has; find its share."""
        job = ray.get_runtime_context().get_job_id()
        self._own = own = replace(self._own, job=job, wanted=wanted, ready=ready)
        try:
            write_entry(own.run, json.dumps(asdict(own)).encode())
            others = [one for one in self._others() if one.resource == own.resource]
            resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        except RayError:  # the cluster does not answer now
            return Share(0, wanted, needed=False)
        found = allotted((own, *others), resources.get(own.resource, 0.0))
        needed = any(other.ready < found[other.run] for other in others)
        return Share(len(others), max(found[own.run], 1), needed)

    def _others(self) -> list[Claim]:
        """What the other runs ask for whose drivers live."""
        entries = read_entries()
        entries.pop(self._own.run, None)
        claims: list[Claim] = []
        for run, text in entries.items():
            with suppress(ValueError):  # of another version of shardcam
                claims.append(replace(_CLAIM.validate_json(text, strict=True), run=run))
        living = living_drivers() if claims else frozenset()
        for claim in claims:
            if claim.job not in living:
                delete_entry(claim.run)
        return [claim for claim in claims if claim.job in living]

    def end(self) -> None:
        """Delete the entry."""
        with suppress(RayError):
            delete_entry(self._own.run)
