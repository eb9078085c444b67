"""Class activation maps and hidden activations of neural networks, over image sets of any size.

``extract`` runs a network over a source, ``open_run`` reads what a run wrote, and ``export``
writes it for other programs. Everything that is not in ``__all__`` is private.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shardcam import export
    from shardcam.engine.analysis.open_run import open_run
    from shardcam.engine.config import RunConfig
    from shardcam.engine.errors import ShardcamError, TooManyFailures
    from shardcam.engine.run.extraction import RunPlanned, extract
    from shardcam.engine.rundir.events import (
        Progress,
        RunEnded,
        RunOpened,
        RunStarted,
        SampleGivenUp,
        SearchStarted,
        ShardDone,
        ShardStarted,
        SourceListing,
        WorkerLost,
        WorkerRecycled,
        WorkerStarted,
        WorkerWaiting,
    )
    from shardcam.engine.types import Event, RunReport

__all__ = [
    "Event",
    "Progress",
    "RunConfig",
    "RunEnded",
    "RunOpened",
    "RunPlanned",
    "RunReport",
    "RunStarted",
    "SampleGivenUp",
    "SearchStarted",
    "ShardDone",
    "ShardStarted",
    "ShardcamError",
    "SourceListing",
    "TooManyFailures",
    "WorkerLost",
    "WorkerRecycled",
    "WorkerStarted",
    "WorkerWaiting",
    "export",
    "extract",
    "open_run",
]

_HOMES = {
    "Event": "types",
    "RunConfig": "config",
    "RunPlanned": "run.extraction",
    "RunReport": "types",
    "ShardcamError": "errors",
    "TooManyFailures": "errors",
    "extract": "run.extraction",
    "open_run": "analysis.open_run",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    """Load only what is used: reading a run needs neither MXNet nor Ray."""
    if name == "export":
        return import_module("shardcam.export")
    if name in __all__:
        home = _HOMES.get(name, "rundir.events")
        return getattr(import_module(f"shardcam.engine.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
