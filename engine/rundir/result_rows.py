"""The rows of a shard file: what a batch of results and its failures become."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.rundir.schema import (
    ERROR_BYTES,
    FAILURES,
    MESSAGE_BYTES,
    STAGE_BYTES,
    layer_path,
)
from shardcam.engine.types import NO_CLASS, Failure, GridMaps, ResultBatch


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
        "stage": [cut_utf8(f.stage, STAGE_BYTES) for f in failures],
        "error": [cut_utf8(f.error, ERROR_BYTES) for f in failures],
        "message": [cut_utf8(f.message, MESSAGE_BYTES) for f in failures],
    }
    columns: dict[str, npt.NDArray[np.generic]] = {
        FAILURES + name: np.array(values, np.bytes_) for name, values in texts.items()
    }
    return columns | {FAILURES + "sample": np.array([f.sample for f in failures], np.int64)}


def cut_utf8(text: str, size: int) -> bytes:
    """Encode a text in at most `size` bytes, without cutting a character in two."""
    encoded = text.encode("utf-8", "backslashreplace")
    return encoded[:size].decode("utf-8", "ignore").encode()


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
