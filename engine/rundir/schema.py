"""The layout of a shard file: every name, shape and type, in one place.

N samples, F failures, K targets, C channels, h x w a map, H x W the network's
view, S scales of it, M cells, D numbers of a dense layer, T = min(5, classes).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shardcam.engine.errors import ConfigError
from shardcam.engine.types import (
    NO_LINK,
    SOFTMAX,
    TOP,
    Copies,
    Flag,
    LayerInfo,
)

SCHEMA_VERSION = 1
FAILURES = "failure/"  # datasets with a row per failure
CELLS = re.compile("cam/[^/]+/cells")  # those with a row per cell of a map
# All others have a row per good sample.

STAGE_BYTES, ERROR_BYTES, MESSAGE_BYTES = 16, 32, 256  # of the texts of a failure
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
        DatasetSpec(FAILURES + "stage", (), f"S{STAGE_BYTES}", "F", "text"),
        DatasetSpec(FAILURES + "error", (), f"S{ERROR_BYTES}", "F", "text"),
        DatasetSpec(FAILURES + "message", (), f"S{MESSAGE_BYTES}", "F", "text"),
    ]
