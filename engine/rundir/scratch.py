"""Scratch directories, where the files of a run at a URL are made.

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

from shardcam.engine.errors import RunDirectoryError, storage_error
from shardcam.engine.rundir.staging import abandoned, writer_name

VARIABLE = "SHARDCAM_SCRATCH"


def scratch_directory(url: str) -> Path:
    """Where this process makes the files of a run at a URL, made if need be.

    Raises
    ------
    RunDirectoryError, DiskFull
        It cannot be made.
    """
    return _scratch(url, os.getpid())


@cache
def _scratch(url: str, _process: int) -> Path:
    """A new directory of this process, in one that belongs to this user."""
    chosen = os.environ.get(VARIABLE)
    base = Path(chosen) if chosen else Path(tempfile.gettempdir(), f"shardcam-{os.getuid()}")
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (base.stat() if chosen else base.lstat()).st_uid != os.getuid():
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
            if folder.is_dir() and not folder.is_symlink() and abandoned(folder, float("inf")):
                shutil.rmtree(folder, ignore_errors=True)
