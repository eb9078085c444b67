"""Maps with their labels, as xarray holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shardcam.engine.analysis.optional_packages import require
from shardcam.engine.analysis.samples import Samples

if TYPE_CHECKING:
    import xarray as xr


def xarray(samples: Samples, layer: str) -> xr.DataArray:
    """Load the raw maps of a layer as a DataArray (sample, target, y, x), float32.

    Coordinates: ``sample`` is the index in the source, ``key``, ``label``, ``predicted``,
    ``flags`` go along it, ``class`` and ``score`` along sample and target; ``y`` and ``x``
    are the cells' centres in the network's view, from 0 to 1. Select first what memory holds.

    Raises
    ------
    ConfigError
        xarray is not installed, or the layer has no maps, or maps of several sizes.
    """
    package = require("xarray", "export.xarray")
    maps = samples.cam(layer)
    height, width = maps.one_size("xarray")
    array: xr.DataArray = package.DataArray(
        np.asarray(maps[:]).reshape(*maps.shape[:2], height, width),
        dims=("sample", "target", "y", "x"),
        coords={
            "sample": samples["sample"][:],
            "y": (np.arange(height) + 0.5) / height,
            "x": (np.arange(width) + 0.5) / width,
            "key": ("sample", samples.keys),
            "label": ("sample", samples["label"][:]),
            "predicted": ("sample", samples["top_class"][:, 0]),
            "flags": ("sample", samples["flags"][:]),
            "class": (("sample", "target"), samples["target"][:]),
            "score": (("sample", "target"), samples["score"][:]),
        },
        name="cam",
        attrs={"layer": layer},
    )
    return array
