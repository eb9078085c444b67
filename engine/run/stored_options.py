"""The options that a run was begun with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shardcam.engine.config import PLACE_OPTIONS, RunConfig
from shardcam.engine.errors import RunDirectoryError


def stored_config(run: str | Path, stored: dict[str, Any]) -> RunConfig:
    """The options that a run was begun with, but for `PLACE_OPTIONS`, which are not of the run.

    Raises
    ------
    RunDirectoryError
        Another version of shardcam wrote them.
    """
    try:
        return RunConfig.model_validate(
            {name: value for name, value in stored.items() if name not in PLACE_OPTIONS}
        )
    except ValidationError as error:
        option = ".".join(map(str, error.errors()[0]["loc"]))
        raise RunDirectoryError(
            f"{run}/run.json: its option {option!r} is not one of this version of shardcam"
        ) from None
