"""Class activation maps and hidden activations of neural networks, over image sets of any size.

``open_run`` reads what a run wrote. Everything that is not in ``__all__`` is private.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shardcam.engine.analysis.open_run import open_run

__all__ = ["open_run"]

_HOMES = {"open_run": "shardcam.engine.analysis.open_run"}


def __getattr__(name: str) -> Any:
    """Load only what is used: reading a run needs neither MXNet nor Ray."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
