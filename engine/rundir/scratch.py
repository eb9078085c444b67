"""Where the files of a run are made: the run directory, or a scratch directory for a URL.

Each process that writes to a URL has a scratch directory of its own on its node, removed
when the process ends.  That of a process that was killed is removed by the next one.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from shardcam.engine.errors import RunDirectoryError, storage_error
from shardcam.engine.io.store import require_writable_url
from shardcam.engine.io.urls import is_url
from shardcam.engine.rundir.staging import abandoned, writer_name
from shardcam.engine.types import RunPaths

VARIABLE = "SHARDCAM_SCRATCH"


def open_paths(run: str | Path) -> RunPaths:
    """The paths of a run directory, given as a path or as a URL.

    Raises
    ------
    ConfigError
        A URL that cannot be written to.
    RunDirectoryError, DiskFull
        There is no scratch directory to be had.
    """
    name = str(run)
    if not is_url(name):
        return RunPaths(Path(name))
    if name.startswith("file://"):
        return RunPaths(Path(unquote(urlsplit(name).path)))
    require_writable_url(name)
    url = name.rstrip("/")
    return RunPaths(_scratch(url, os.getpid()), url)


@cache
def _scratch(url: str, _process: int) -> Path:
    """A new directory of this process, in one that belongs to this user."""
    chosen = os.environ.get(VARIABLE)
    base = Path(chosen) if chosen else Path(tempfile.gettempdir(), f"shardcam-{os.getuid()}")
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        if base.stat().st_uid != os.getuid():
            raise RunDirectoryError(f"{base}: belongs to another user; set {VARIABLE}")
        clean_scratch(base)
        folder = base / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{writer_name()}"
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise storage_error(error, base) from error
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def clean_scratch(base: Path) -> None:
    """Remove the scratch directories of dead processes of this host."""
    for folder in base.iterdir():
        with suppress(OSError):  # somebody else is removing it, or uses it
            if folder.is_dir() and abandoned(folder, float("inf")):
                shutil.rmtree(folder, ignore_errors=True)
