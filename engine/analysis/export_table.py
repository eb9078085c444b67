"""A run as a table: one row for each sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shardcam.engine.analysis.optional_packages import require

if TYPE_CHECKING:
    import pandas as pd

    from shardcam.engine.analysis.samples import Samples

_SINGLE = ("sample", "label", "flags")
_NUMBERED = ("target", "score", "top_class", "top_score")  # a column for each of the K or T
_NAMED = {"image_size": ("height", "width"), "crop": ("y0", "x0", "y1", "x1")}


def make_table(samples: Samples) -> pd.DataFrame:
    """Return a DataFrame with the columns of the run that are no maps.

    ``key``, ``sample``, ``label`` (-1 where none), ``flags``; ``target_0``, ``score_0`` and
    so on for each of the K explained classes; ``top_class_0``, ``top_score_0`` and so on for
    the prediction; ``height``, ``width``; ``y0``, ``x0``, ``y1``, ``x1`` of the crop. Types
    are those of the files; row i is that of sample i.

    Raises
    ------
    ConfigError
        pandas is not installed.
    """
    pandas = require("pandas", "a table")
    columns: dict[str, Any] = {"key": pandas.Series(samples.keys, dtype=object)}
    for name in _SINGLE:
        columns[name] = samples[name][:]
    for name in _NUMBERED:
        columns |= {f"{name}_{k}": values for k, values in enumerate(samples[name][:].T)}
    for name, parts in _NAMED.items():
        columns |= dict(zip(parts, samples[name][:].T, strict=True))
    table: pd.DataFrame = pandas.DataFrame(columns)
    return table
