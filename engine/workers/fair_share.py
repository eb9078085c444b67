"""How runs that use one cluster share its CPUs or GPUs. Rules only, no Ray."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Claim:
    """What a run asks for."""

    run: str  # begins with when it began
    job: str  # Ray's id of its driver
    resource: Literal["CPU", "GPU"]  # by which its workers are counted
    each: _Positive  # of it, for a worker
    wanted: _Count  # workers that it has work for
    ready: _Count  # of them, those that have started
    priority: _Positive


def allotted(claims: Sequence[Claim], total: float) -> dict[str, int]:
    """Workers for each of the runs, which ask for the same resource.

    Each run gets one, as far as there is room; then, again and again, that which has least for its
    priority gets one more. Of equal runs the one that began first comes first, so that all of
    them find the same.

    Parameters
    ----------
    total
        What the cluster has of the resource.
    """
    found = {claim.run: 0 for claim in claims}
    asking = [(0.0, _rank(claim), claim) for claim in claims if claim.wanted]
    heapq.heapify(asking)
    while asking:
        _, rank, claim = heapq.heappop(asking)
        if claim.each > total + 1e-9:  # it gets no more
            continue
        total -= claim.each
        found[claim.run] += 1
        if found[claim.run] < claim.wanted:
            load = found[claim.run] * claim.each / claim.priority
            heapq.heappush(asking, (load, rank, claim))
    return found


def _rank(claim: Claim) -> tuple[float, float, str]:
    """Of those that have as much: large workers first, for which there is no room later."""
    return -claim.priority, -claim.each, claim.run
