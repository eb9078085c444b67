"""Names in a run directory that are the run's own: nothing else may be written there."""

from __future__ import annotations

import os
from pathlib import Path

from shardcam.engine.errors import ConfigError
from shardcam.engine.rundir.run_files import LISTING_STAGED, PART_EVENTS, PART_LOCK, RunFiles

_RUN_JSON = RunFiles(Path()).run_json.name
_OWN = {path.name for path in vars(RunFiles(Path())).values()} - {""}
_SHOWN = {"report.html", "contact-sheet.png"}  # what `report` and `demo` put there
_BEGINNINGS = (PART_LOCK, PART_EVENTS, LISTING_STAGED)


def require_outside_runs(option: str, path: Path, run: bool = False) -> None:
    """Refuse a run directory, and what is a part of a run on this machine.

    Names that no run has may be given to files and folders in its directory.

    Parameters
    ----------
    run
        A run is meant, and may be there.

    Raises
    ------
    ConfigError
        The message names the run.
    """
    named = Path(os.path.realpath(path.parent), path.name)
    for place in dict.fromkeys((Path(os.path.realpath(path)), named)):
        if not run and (place / _RUN_JSON).is_file():
            raise ConfigError(f"{option} {path}: is a run directory; name another folder")
        for part, folder in zip((place, *place.parents), place.parents, strict=False):
            name = part.name
            own = name in _OWN or name in _SHOWN or name.startswith(_BEGINNINGS)
            if own and (folder / _RUN_JSON).is_file():
                of = f"is a part of the run {folder}"
                raise ConfigError(f"{option} {path}: {of}; choose another name")
