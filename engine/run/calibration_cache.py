"""Calibrations that the user's runs have made, for others of the same pictures and network.

What is found here is what calibrating would give: the key holds all that it depends on. The copy
in a run directory is the one that counts; this one may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from shardcam.engine.io.plain_file import read_plain
from shardcam.engine.run.calibration import MOST_BYTES, Calibration, as_text, parsed
from shardcam.engine.run.library_versions import version_of
from shardcam.engine.types import Preprocessing, View

KEPT, MOST = 64, 1 << 26  # files, and bytes of all of them: the newest stay
_FORMAT = "3"  # of the key, and of how calibrations are made


def user_folder() -> Path:
    """Where calibrations of this user are kept on this machine."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(home) if home.startswith("/") else Path("~/.cache").expanduser()
    return root / "shardcam" / "int8"


def key_of(model: str, preprocessing: Preprocessing, views: list[View], *others: object) -> str:
    """Of all that a calibration depends on: the network's digest, the pictures, the options."""
    versions = version_of("mxnet"), version_of("shardcam")
    state = hashlib.sha256(repr((_FORMAT, versions, model, asdict(preprocessing), others)).encode())
    for view in views:
        state.update(repr(view.pixels.shape).encode())
        state.update(view.pixels.tobytes())
    return state.hexdigest()


def find(key: str) -> Calibration | None:
    """What is kept under a key, if it is there and whole."""
    path = user_folder() / f"{key}.json"
    try:
        found = parsed(read_plain(path, MOST_BYTES))
        os.utime(path)
    except (OSError, ValueError):
        return None
    return found


def keep(key: str, calibration: Calibration) -> None:
    """Keep a calibration if there is a place for it, and no more than `KEPT` and `MOST`."""
    with suppress(OSError, RuntimeError):  # RuntimeError: there is no home
        folder = user_folder()
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f".{key}.{os.getpid()}"
        unfinished.write_text(as_text(calibration))
        unfinished.replace(folder / f"{key}.json")
        _forget(folder)


def _forget(folder: Path) -> None:
    kept = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    room = MOST
    for place, path in enumerate(kept):
        room -= path.stat().st_size
        if place and (place >= KEPT or room < 0):
            path.unlink(missing_ok=True)
