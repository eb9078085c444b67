"""The samples that activated a unit of a hidden layer most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.analysis.samples import Samples
from shardcam.engine.analysis.stored_rows import Array, Positions
from shardcam.engine.errors import ConfigError
from shardcam.engine.rundir.schema import layer_path
from shardcam.engine.types import F4

_BLOCK_BYTES = 64 << 20  # of activations, read at once


@dataclass(frozen=True)
class TopActivating:
    """M samples for each of K units, the highest activation first."""

    rows: Positions  # (K,M) which samples
    values: F4  # (K,M) their activations
    places: npt.NDArray[np.intp] | None  # (K,M,2) y and x on the layer, if it has positions


def top_activating(samples: Samples, layer: str, units: list[int], count: int) -> TopActivating:
    """Find the samples in one pass over the shards; memory holds one block and the result.

    An activation is the largest over the layer's positions where the run has activations,
    and the mean over them where it has pooled values only. M is `count`, or the number of
    samples if there are fewer.

    Raises
    ------
    ConfigError
        The run holds neither of the layer, or it has no such unit.
    """
    name = _dataset(samples, layer)
    shape = samples[name].shape[1:]
    beyond = [unit for unit in units if not 0 <= unit < shape[0]]
    if beyond:
        raise ConfigError(f"layer {layer} has units 0 to {shape[0] - 1}; there is no {beyond[0]}")
    rows = np.zeros((len(units), 0), np.intp)
    values, cells = np.zeros(rows.shape, np.float32), np.zeros(rows.shape, np.intp)
    seen = 0
    for shard in samples.shards():
        column = shard[name]
        block = max(1, _BLOCK_BYTES // (column.dtype.itemsize * int(np.prod(shape))))
        for first in range(0, len(column), block):
            peaks, at = _peaks(column[first : first + block][:, units])
            here = np.broadcast_to(np.arange(seen, seen + peaks.shape[1]), peaks.shape)
            seen += peaks.shape[1]
            values = np.concatenate([values, peaks], axis=1)
            best = np.argsort(-values, axis=1, kind="stable")[:, :count]
            values = np.take_along_axis(values, best, axis=1)
            rows = np.take_along_axis(np.concatenate([rows, here], axis=1), best, axis=1)
            cells = np.take_along_axis(np.concatenate([cells, at], axis=1), best, axis=1)
    places = np.stack(np.unravel_index(cells, shape[1:]), axis=-1) if len(shape) == 3 else None
    return TopActivating(rows, values, places)


def _dataset(samples: Samples, layer: str) -> str:
    known = samples.hidden_layers
    if layer_path(layer) not in known:
        offer = f"it has {', '.join(known)}" if known else "it has none"
        raise ConfigError(
            f"the run has no activations of layer {layer!r}; {offer}. Extract them with "
            f"--save activations --activation-layer {layer}"
        )
    return known[layer_path(layer)]


def _peaks(block: npt.NDArray[Any]) -> tuple[F4, Array]:
    """(B,K,...) -> (K,B) largest values, and where on the flattened layer they are."""
    flat = block.reshape(*block.shape[:2], -1).astype(np.float32)
    flat[np.isnan(flat)] = -np.inf
    cells = flat.argmax(axis=2)
    return np.take_along_axis(flat, cells[..., None], axis=2)[..., 0].T, cells.T
