"""Which Ray a run is on, told without importing Ray."""

from __future__ import annotations

import os
import sys

LOCAL = "local"  # the address of a Ray of our own, whatever RAY_ADDRESS says


def wanted(address: str | None) -> str:
    """The address of the cluster to use where `address` is asked for."""
    return address or os.environ.get("RAY_ADDRESS") or LOCAL


def on_ray() -> bool:
    """Whether this program is on Ray already."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def starts_own(address: str | None) -> bool:
    """Whether the workers will be those of a Ray of our own, on this machine."""
    return wanted(address) == LOCAL and not on_ray()
