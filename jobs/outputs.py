"""Files that commands are asked to write: nothing of the user's is replaced unasked."""

from __future__ import annotations

from pathlib import Path

from shardcam.engine.errors import ConfigError


def require_new(option: str, path: Path | None, force: bool = False) -> None:
    """Refuse the name of a file before anything is computed for it.

    Raises
    ------
    ConfigError
        It is a folder, or in none; or it exists, and `force` is false.
    """
    if path is None:
        return
    if path.is_dir():
        raise ConfigError(f"{option} {path}: is a folder; name a file")
    if not path.parent.is_dir():
        raise ConfigError(f"{option} {path}: there is no folder {path.parent}")
    if path.exists() and not force:
        raise ConfigError(f"{option} {path}: exists; --force replaces it")
