"""What no shard file of a run has: datasets of other forms, and values that mean nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.rundir.schema import Form
from shardcam.engine.types import NO_CLASS, TOP, Flag

# Kind of the type and shape of a row, by the first and the last part of a name; 0: any size.
_FORMS: dict[str, tuple[str, tuple[int, ...]]] = {
    "key": ("S", ()),
    "sample": ("i", ()),
    "label": ("i", ()),
    "image_size": ("i", (2,)),
    "crop": ("f", (4,)),
    "target": ("i", (0,)),
    "score": ("f", (0,)),
    "top_class": ("i", (0,)),
    "top_score": ("f", (0,)),
    "flags": ("u1", ()),
    "failure/key": ("S", ()),
    "failure/sample": ("i", ()),
    "failure/stage": ("S", ()),
    "failure/error": ("S", ()),
    "failure/message": ("S", ()),
}
_OPTIONAL: dict[str, tuple[str, tuple[int, ...]]] = {
    "cam/map": ("f", (0, 0, 0)),
    "cam/scale": ("f", (0,)),
    "cam/cells": ("f", ()),
    "cam/grid": ("i", (0, 2)),
    "prediction": ("i", (0, 0)),
    "logits": ("f", (0,)),
    "heatmap": ("u1", (0, 0, 0)),
}
_SAME = (  # have the same number of classes
    ("target", "score", "cam/map", "cam/scale", "heatmap"),
    ("top_class", "top_score"),
)
_EDGE, _SIDE = 2.0**31, 2.0**-10  # of a view, in pixels: the largest edge, the shortest side
_PIXELS = 1 << 31  # of a picture
_LONGEST = 1 << 20  # side of a map


def form_problem(name: str, form: Form) -> str | None:
    """What is wrong with a dataset of that name, or None; of an unknown name it can be any."""
    shape, dtype = form
    parts = name.split("/")
    if parts[0] == "cam" and parts[2:] == ["scale"] and len(shape) == 2:  # at native sizes
        known: tuple[str, tuple[int, ...]] | None = ("f", (0, 0))
    elif parts[0] in ("activation", "pooled"):
        spatial = parts[0] == "activation" and len(shape) == 3
        known = ("f", (0, 0, 0) if spatial else (0,))
    else:
        known = (_FORMS | _OPTIONAL).get(_without_layer(parts))
    if known is None:
        return None
    kind, sizes = known
    typed = dtype.str[1:].startswith(kind) and (kind == "S" or dtype.itemsize <= 8)
    if typed and len(shape) == len(sizes) and all(map(_fits, shape, sizes)):
        return None
    return f"{name} is {dtype} {shape}, which none of a run is"


def _fits(has: int, size: int) -> bool:
    return has > 0 and size in (0, has)


def forms_problem(forms: Mapping[str, Form]) -> str | None:
    """What is wrong with the datasets of a shard file, taken together, or None."""
    if missing := _FORMS.keys() - forms.keys():
        return f"there is no {min(missing)} in it"
    for name, form in forms.items():
        if problem := form_problem(name, form):
            return problem
    if forms["top_class"][0][0] > TOP:
        return f"top_class has {forms['top_class'][0][0]} for each image, more than {TOP}"
    for same in _SAME:
        first = forms[same[0]][0][0]
        for name, (shape, _) in forms.items():
            if _without_layer(name.split("/")) in same and shape[0] != first:
                return f"{name} has {shape[0]} for each image, {same[0]} {first}"
    return _cells_problem(forms)


def _cells_problem(forms: Mapping[str, Form]) -> str | None:
    """What is wrong with the maps of a run at native sizes: no part without the others."""
    for layer in {name.split("/")[1] for name in forms if name.startswith("cam/")}:
        cells, grid, scale, plain = (
            forms.get(f"cam/{layer}/{part}") for part in ("cells", "grid", "scale", "map")
        )
        ragged = scale is not None and len(scale[0]) == 2
        if not ragged == (cells is not None) == (grid is not None) == (plain is None):
            return f"cam/{layer} has maps of two kinds, or parts of them"
        if ragged and grid and scale and grid[0][0] != scale[0][1]:
            return f"cam/{layer}/grid has {grid[0][0]} scales, cam/{layer}/scale {scale[0][1]}"
    return None


def _without_layer(parts: list[str]) -> str:
    return "/".join((parts[0], *parts[2:])) if parts[0] == "cam" else "/".join(parts)


def values_problem(name: str, values: npt.NDArray[Any], deep: bool = False) -> str | None:
    """What rows of a dataset hold that no row of a run does, or None.

    Parameters
    ----------
    values
        (N, ...), or of some of the numbers of each row.
    deep
        Look also at what does no harm when it is shown.
    """
    if not values.size:
        return None
    if name in ("sample", "label", "target", "top_class", "failure/sample"):
        least = 0 if name.endswith("sample") else NO_CLASS
        return None if values.min() >= least else "numbers below that of any class or sample"
    if name == "image_size":
        fits = values.min() > 0 and (values.shape[1:] != (2,) or _largest(values) <= _PIXELS)
        return None if fits else "sizes that no picture has"
    if name.startswith("cam/") and name.endswith("/grid"):
        fits = values.min() > 0 and values.max() <= _LONGEST
        return None if fits else "sizes that no map has"
    if name == "crop":
        fits = bool((abs(values) <= _EDGE).all())  # and no NaN
        if fits and values.shape[1:] == (4,):
            fits = bool((values[:, 2:] - values[:, :2] >= _SIDE).all())
        return None if fits else "views that are no part of a picture"
    if name in ("score", "top_score"):
        return "an infinite probability" if np.isinf(values).any() else None
    return _deep_problem(name, values) if deep else None


def _deep_problem(name: str, values: npt.NDArray[Any]) -> str | None:
    if name == "flags":
        return "flags that there are not" if np.bitwise_or.reduce(values) > sum(Flag) else None
    if name.startswith("cam/"):
        single = values.astype(np.float32)
        if name.endswith("/scale"):
            return "negative scales" if (single < 0).any() else None
        beyond = np.isfinite(single) & (abs(single) > 1)
        return "maps beyond their scale" if beyond.any() else None
    if values.dtype.kind == "S":
        try:
            b"".join(values.tolist()).decode()
        except UnicodeDecodeError:
            return "texts that are not UTF-8"
    return None


def _largest(sizes: npt.NDArray[Any]) -> int:
    return int(sizes.astype(np.int64).prod(axis=1).max())
