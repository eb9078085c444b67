"""Libraries that only some analyses need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from shardcam.engine.errors import EXTRA_OF, ConfigError, needs


def require(name: str, what: str) -> Any:
    """Import a library that analyses alone need.

    Raises
    ------
    ConfigError
        It is not installed; the message says how to.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        missing = (error.name or name).partition(".")[0]
        if missing not in EXTRA_OF:
            raise
    raise ConfigError(f"{what} {needs(missing)}")
