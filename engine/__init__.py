"""shardcam's engine: ``from engine import open_run`` reads what a run wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.runs import open_run

__all__ = ["open_run"]


def __getattr__(name: str) -> Any:
    """Load HDF5 only for those who open a run."""
    if name == "open_run":
        from engine.runs import open_run

        return open_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
