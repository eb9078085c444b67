"""Class activation maps and hidden activations of neural networks, over image sets of any size.

``extract`` runs a network over a source and reports ``events``, ``open_run`` reads what a run
wrote, ``evaluate`` measures how good its maps are, ``compare`` how alike those of several are,
``similarity`` how alike layers are, ``cluster`` finds images that the network treats alike, and
``export`` writes maps and features for other programs. Everything that is not in ``__all__`` is
private.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from shardcam.engine.processor.blas_core import name_core

if TYPE_CHECKING:
    from shardcam import events, export
    from shardcam.engine.analysis.open_run import open_run
    from shardcam.engine.clusters.clustering import cluster
    from shardcam.engine.config import RunConfig
    from shardcam.engine.errors import ConfigError, ShardcamError, TooManyFailures
    from shardcam.engine.evaluation.comparison import compare
    from shardcam.engine.evaluation.evaluation import evaluate
    from shardcam.engine.evaluation.layer_similarity import similarity
    from shardcam.engine.run.extraction import extract
    from shardcam.engine.types import RunReport

__all__ = [
    "ConfigError",
    "RunConfig",
    "RunReport",
    "ShardcamError",
    "TooManyFailures",
    "cluster",
    "compare",
    "evaluate",
    "events",
    "export",
    "extract",
    "open_run",
    "similarity",
]

_MODULES = ("events", "export")
_HOMES = {
    "ConfigError": "errors",
    "RunConfig": "config",
    "RunReport": "types",
    "ShardcamError": "errors",
    "TooManyFailures": "errors",
    "cluster": "clusters.clustering",
    "compare": "evaluation.comparison",
    "evaluate": "evaluation.evaluation",
    "extract": "run.extraction",
    "open_run": "analysis.open_run",
    "similarity": "evaluation.layer_similarity",
}

name_core()  # before anything of ours imports NumPy or MXNet


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    """Load only what is used: reading a run needs neither MXNet nor Ray."""
    if name in _MODULES:
        return import_module(f"shardcam.{name}")
    if name in _HOMES:
        return getattr(import_module(f"shardcam.engine.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
