"""Files that commands are asked to write: nothing of the user's is replaced unasked, all told."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console
from rich.table import Table

from shardcam.engine.errors import ConfigError
from shardcam.engine.io.whole_file import require_place


def require_new(option: str, path: Path | None, force: bool = False) -> None:
    """Refuse the name of a file before anything is computed for it.

    Raises
    ------
    ConfigError
        It is a folder, in none, or in one that cannot be written into; or it exists, and `force`
        is false.
    """
    if path is None:
        return
    require_place(option, path, folder=False)
    if path.is_dir():
        raise ConfigError(f"{option} {path}: is a folder; name a file")
    if not path.parent.is_dir():
        raise ConfigError(f"{option} {path}: there is no folder {path.parent}")
    if os.path.lexists(path) and not force:  # a link to nothing, too
        raise ConfigError(f"{option} {path}: exists; --force replaces it")


def print_written(console: Console, *paths: Path | None) -> None:
    """Tell which files were written; None is one that was not asked for."""
    table = Table(show_header=False, box=None)
    for number, path in enumerate(path for path in paths if path is not None):
        table.add_row("" if number else "written", str(path))
    if table.row_count:
        console.print(table)
