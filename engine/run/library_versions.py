"""Versions of installed libraries."""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version


def version_of(name: str) -> str:
    """The version of an installed distribution; MXNet has one for each kind of device."""
    for variant in (name, f"{name}-cu117", f"{name}-cu112"):
        with suppress(PackageNotFoundError):
            return version(variant)
    return "not installed"
