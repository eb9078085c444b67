"""The layout of a shard file: every name, shape and type, in one place.

N samples, F failures, K targets, C channels, h x w a map, H x W the network's
view, S scales of it, M cells, D numbers of a dense layer, T = min(5, classes).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.errors import ConfigError
from shardcam.engine.types import (
    NO_CLASS,
    NO_LINK,
    SOFTMAX,
    TOP,
    Copies,
    Failure,
    Flag,
    GridMaps,
    LayerInfo,
    ResultBatch,
)

SCHEMA_VERSION = 1
FAILURES = "failure/"  # datasets with a row per failure
CELLS = re.compile("cam/[^/]+/cells")  # those with a row per cell of a map
# All others have a row per good sample.

_STAGE, _ERROR, _MESSAGE = 16, 32, 256  # bytes of the texts of a failure
_NOT_IN_NAMES = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_FLAGS = "bits: " + ", ".join(f"{flag.value} {flag.words}" for flag in Flag)


@dataclass(frozen=True)
class DatasetSpec:
    """One dataset: its first axis counts samples, failures or cells, `row_shape` is the rest."""

    name: str
    row_shape: tuple[int, ...]
    dtype: str  # of NumPy; S is UTF-8
    axes: str
    unit: str
    copies: Copies | None = None  # of `CELLS`: what the maps are of
    each: float = 1.0  # rows for each sample, about

    @property
    def attributes(self) -> dict[str, Any]:
        """What the dataset says of itself."""
        own: dict[str, Any] = {"axes": self.axes, "unit": self.unit}
        if self.copies:
            own |= {"scales": np.array(self.copies.scales, np.float64), "flip": self.copies.flip}
        return own

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, before compression."""
        return int(np.dtype(self.dtype).itemsize * np.prod(self.row_shape, dtype=np.int64))


Form = tuple[tuple[int, ...], "np.dtype[np.generic]"]  # shape of a row, type
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


def cell_counts(target: npt.NDArray[Any], grid: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """(N,) cells of each image's maps: of all classes that are explained, at all scales.

    Parameters
    ----------
    target
        (N,K) classes.
    grid
        (N,S,2) rows and columns at each scale.
    """
    explained = np.count_nonzero(target != NO_CLASS, axis=1)
    counts: npt.NDArray[np.int64] = explained * grid.astype(np.int64).prod(axis=2).sum(axis=1)
    return counts


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


def layer_path(layer: str) -> str:
    """Return the layer's name as part of a dataset's name; one that is that already stays.

    Slashes become dots. What HDF5 cannot have in a name, or takes for the group itself, is
    escaped as in URLs: control characters, a single dot, and nothing at all, which is %.
    """
    name = _NOT_IN_NAMES.sub(lambda found: f"%{ord(found[0]):02X}", layer.replace("/", "."))
    return {"": "%", ".": "%2E"}.get(name, name)


def dataset_specs(
    layers: Sequence[LayerInfo],
    read: Sequence[LayerInfo],
    classes: int,
    targets: int,
    view: tuple[int, int],
    key_bytes: int,
    save: Collection[str],
    activation_dtype: str = "f4",
    link: str = SOFTMAX,
    binary: bool = False,
    prediction: LayerInfo | None = None,
    copies: Copies | None = None,
    pixels: float = 0.0,
) -> tuple[DatasetSpec, ...]:
    """Return every dataset of a shard file, failures last.

    Parameters
    ----------
    layers
        The layers to save maps of.
    read
        The layers to save activations of.
    classes, targets
        Classes of the network, and how many of them are explained per image.
    view
        Height and width of the network's input.
    key_bytes
        Length of the longest key of the source, in UTF-8.
    save
        Any of maps, activations, pooled, logits, heatmaps; others are not for this file.
    activation_dtype
        f4 or f2.
    link
        From the network's logits to scores.
    binary
        The network has one output, and two classes.
    prediction
        The layer of the logits of pixels, of a segmentation network.
    copies
        Of pictures at their own size, whose maps differ in size.
    pixels
        Of such a picture, on average: how many cells there are is reckoned from them.

    Raises
    ------
    ConfigError
        Two layers would share a name.
    """
    _require_distinct([*layers, *read])
    score = "share of pixels" if prediction else "probability"
    score = "output" if link == NO_LINK else score
    specs = _sample_specs(max(1, key_bytes), targets, min(TOP, classes), score)
    if "maps" in save:
        share = pixels / (view[0] * view[1])
        specs += [spec for layer in layers for spec in _map_specs(layer, targets, copies, share)]
    for layer in read:
        specs += _activation_specs(layer, activation_dtype, save)
    if prediction:
        specs.append(DatasetSpec("prediction", prediction.shape[1:], "i2", "N,y,x", "class"))
    if "logits" in save:
        outputs, axes = (1, "N,1") if binary else (classes, "N,classes")
        unit = "output" if link == NO_LINK else "logit"
        specs.append(DatasetSpec("logits", (outputs,), "f4", axes, unit))
    if "heatmaps" in save:
        specs.append(DatasetSpec("heatmap", (targets, *view), "u1", "N,K,H,W", "1/255"))
    specs += _failure_specs(max(1, key_bytes))
    return tuple(specs)


def _require_distinct(layers: Sequence[LayerInfo]) -> None:
    stored: dict[str, str] = {}
    for info in layers:
        other = stored.setdefault(layer_path(info.name), info.name)
        if other != info.name:
            raise ConfigError(
                f"layers {other!r} and {info.name!r} would both be stored as "
                f"{layer_path(info.name)}; give them to separate runs"
            )


def _sample_specs(key_bytes: int, targets: int, top: int, score: str) -> list[DatasetSpec]:
    return [
        DatasetSpec("key", (), f"S{key_bytes}", "N", "text"),
        DatasetSpec("sample", (), "i8", "N", "index in the source"),
        DatasetSpec("label", (), "i4", "N", "class"),
        DatasetSpec("image_size", (2,), "i4", "N,(height,width)", "pixel"),
        DatasetSpec("crop", (4,), "f4", "N,(y0,x0,y1,x1)", "pixel"),
        DatasetSpec("target", (targets,), "i4", "N,K", "class"),
        DatasetSpec("score", (targets,), "f4", "N,K", score),
        DatasetSpec("top_class", (top,), "i4", "N,T", "class"),
        DatasetSpec("top_score", (top,), "f4", "N,T", score),
        DatasetSpec("flags", (), "u1", "N", _FLAGS),
    ]


def _map_specs(
    layer: LayerInfo, targets: int, copies: Copies | None, share: float
) -> list[DatasetSpec]:
    """Those of a layer; `share` is the pixels of a picture by those of the view."""
    name, size = layer_path(layer.name), (targets, *layer.shape[1:])
    if copies:
        scales = len(copies.scales)
        cells = math.prod(size) * share * sum(scale**2 for scale in copies.scales)
        return [
            DatasetSpec(f"cam/{name}/cells", (), "f2", "M", "scale", copies, cells),
            DatasetSpec(f"cam/{name}/grid", (scales, 2), "i4", "N,S,(rows,columns)", "cell"),
            DatasetSpec(f"cam/{name}/scale", (targets, scales), "f4", "N,K,S", "raw map"),
        ]
    return [
        DatasetSpec(f"cam/{name}/map", size, "f2", "N,K,h,w", "scale"),
        DatasetSpec(f"cam/{name}/scale", (targets,), "f4", "N,K", "raw map"),
    ]


def _activation_specs(layer: LayerInfo, dtype: str, save: Collection[str]) -> list[DatasetSpec]:
    name, spatial = layer_path(layer.name), layer.spatial
    specs = []
    if "activations" in save:
        axes = "N,C,h,w" if spatial else ",".join("NDEFGH"[: len(layer.shape) + 1])
        specs.append(DatasetSpec(f"activation/{name}", layer.shape, dtype, axes, "activation"))
    if "pooled" in save:
        axes = "N,C" if spatial else "N,D"
        specs.append(DatasetSpec(f"pooled/{name}", layer.shape[:1], "f4", axes, "activation"))
    return specs


def _failure_specs(key_bytes: int) -> list[DatasetSpec]:
    return [
        DatasetSpec(FAILURES + "key", (), f"S{key_bytes}", "F", "text"),
        DatasetSpec(FAILURES + "sample", (), "i8", "F", "index in the source"),
        DatasetSpec(FAILURES + "stage", (), f"S{_STAGE}", "F", "text"),
        DatasetSpec(FAILURES + "error", (), f"S{_ERROR}", "F", "text"),
        DatasetSpec(FAILURES + "message", (), f"S{_MESSAGE}", "F", "text"),
    ]


def sample_columns(batch: ResultBatch) -> dict[str, npt.NDArray[np.generic]]:
    """Return the rows of a batch, by dataset; there may be more than are saved."""
    samples, views = batch.samples, batch.views
    columns: dict[str, npt.NDArray[np.generic]] = {
        "key": np.array([s.key.encode() for s in samples], np.bytes_),
        "sample": np.array([s.index for s in samples], np.int64),
        "label": np.array([s.label for s in samples], np.int32),
        "image_size": np.array([v.image_size for v in views], np.int32),
        "crop": np.array([v.crop for v in views], np.float32),
        "target": batch.target,
        "score": batch.score,
        "top_class": batch.top_class,
        "top_score": batch.top_score,
        "flags": batch.flags,
    }
    for layer, maps in batch.maps.items():
        columns[f"cam/{layer_path(layer)}/map"] = maps.normalized
        columns[f"cam/{layer_path(layer)}/scale"] = maps.scale
    for layer, grids in batch.grids.items():
        columns[f"cam/{layer_path(layer)}/cells"] = _cells(grids, batch.target)
        grid = np.array([one.shape[2:] for one in grids.normalized], np.int32)
        columns[f"cam/{layer_path(layer)}/grid"] = np.tile(grid, (len(samples), 1, 1))
        columns[f"cam/{layer_path(layer)}/scale"] = grids.scale
    for kind, values in (("activation", batch.activations), ("pooled", batch.pooled)):
        columns |= {f"{kind}/{layer_path(layer)}": array for layer, array in values.items()}
    optional = {"prediction": batch.prediction, "logits": batch.logits, "heatmap": batch.heatmap}
    return columns | {name: array for name, array in optional.items() if array is not None}


def _cells(grids: GridMaps, target: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """(M,) cells: image by image, of each class by class, then scale by scale, row by row."""
    flat = [one.reshape(*target.shape, -1) for one in grids.normalized]
    cells: npt.NDArray[np.float32] = np.concatenate(flat, axis=2)[target != NO_CLASS].ravel()
    return cells


def failure_columns(failures: Sequence[Failure]) -> dict[str, npt.NDArray[np.generic]]:
    """Return the rows of the failures, by dataset; long texts are cut."""
    texts = {
        "key": [f.key.encode() for f in failures],
        "stage": [cut_utf8(f.stage, _STAGE) for f in failures],
        "error": [cut_utf8(f.error, _ERROR) for f in failures],
        "message": [cut_utf8(f.message, _MESSAGE) for f in failures],
    }
    columns: dict[str, npt.NDArray[np.generic]] = {
        FAILURES + name: np.array(values, np.bytes_) for name, values in texts.items()
    }
    return columns | {FAILURES + "sample": np.array([f.sample for f in failures], np.int64)}


def cut_utf8(text: str, size: int) -> bytes:
    """Encode a text in at most `size` bytes, without cutting a character in two."""
    encoded = text.encode("utf-8", "backslashreplace")
    return encoded[:size].decode("utf-8", "ignore").encode()
