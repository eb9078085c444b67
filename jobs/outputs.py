"""Files that commands are asked to write: nothing of the user's is replaced unasked, all told."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from shardcam.engine.errors import ConfigError
from shardcam.engine.io.whole_file import require_place, whole_file
from shardcam.engine.rundir.own_names import require_outside_runs
from shardcam.jobs.options import LocalPath
from shardcam.jobs.source_files import require_no_source, require_not_read

F = TypeVar("F", bound=Callable[..., Any])
NEW_FILE = LocalPath(path_type=Path, dir_okay=False)
NEW_PLACE = LocalPath(path_type=Path)


def csv_option(what: str, option: Callable[..., Any] = click.option) -> Callable[[F], F]:
    """``--csv FILE``, made by `option` and given as `table_file`."""
    text = f"Write {what} to this file, too."
    decorate: Callable[[F], F] = option("--csv", "table_file", type=NEW_FILE, help=text)
    return decorate


def plot_option(what: str, option: Callable[..., Any] = click.option) -> Callable[[F], F]:
    """``--plot FILE``, made by `option`."""
    text = f"Draw {what} into this file, too. Needs the extra plots."
    settings = {"type": NEW_FILE, "metavar": "FILE.png", "help": text}
    decorate: Callable[[F], F] = option("--plot", **settings)
    return decorate


def require_new(
    option: str,
    path: Path | None,
    force: bool = False,
    runs: Iterable[str | Path] = (),
    read: str | None = None,
) -> None:
    """Refuse the name of a file before anything is computed for it.

    Parameters
    ----------
    runs
        Those that the command reads.
    read
        Another file or folder that it reads.

    Raises
    ------
    ConfigError
        It is a folder, in none, or in one that cannot be written into; it is a part of a run, or
        what `runs` were made of; or it exists, and `force` is false.
    """
    if path is None:
        return
    require_place(option, path, folder=False)
    if path.is_dir():
        raise ConfigError(f"{option} {path}: is a folder; name a file")
    if not path.parent.is_dir():
        raise ConfigError(f"{option} {path}: there is no folder {path.parent}")
    require_outside_runs(option, path)
    require_not_read(option, path, read)
    require_no_source(option, [path], runs)
    if os.path.lexists(path) and not force:  # a link to nothing, too
        raise ConfigError(f"{option} {path}: exists; --force replaces it")


def require_folder(option: str, path: Path, runs: Iterable[str | Path] = ()) -> None:
    """Refuse a folder to write into before anything is computed for it.

    Raises
    ------
    ConfigError
        It cannot be made or written into; it is a run directory, or a part of a run; or it holds
        what `runs` were made of.
    """
    require_place(option, path)
    require_outside_runs(option, path)
    require_no_source(option, [path], runs)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table, whole or not at all."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(header)
    table.writerows(rows)
    with whole_file(path) as stream:
        stream.write(text.getvalue().encode())


def print_written(console: Console, *paths: Path | None) -> None:
    """Tell which files were written; None is one that was not asked for."""
    table = Table(show_header=False, box=None)
    for number, path in enumerate(path for path in paths if path is not None):
        table.add_row("" if number else "written", str(path))
    if table.row_count:
        console.print(table)
