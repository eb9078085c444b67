"""Libraries that only some analyses need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from shardcam.engine.errors import ConfigError


def require(name: str, what: str, install: str = "pandas xarray") -> Any:
    """Import a library that analyses alone need.

    Raises
    ------
    ConfigError
        It is not installed; the message says how to.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name
    raise ConfigError(f"{what} needs {missing}: pip install {install}")
