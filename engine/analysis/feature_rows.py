"""A row of numbers for each sample, as other programs take them: maps, pooled or activations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from shardcam.engine.analysis.samples import Samples
from shardcam.engine.errors import ConfigError
from shardcam.engine.rundir.schema import layer_path
from shardcam.engine.types import F4

POOLED, ACTIVATIONS, MAPS = FEATURES = "pooled", "activations", "maps"
_DATASETS = {POOLED: "pooled", ACTIVATIONS: "activation", MAPS: "cam"}
_PART_BYTES = 1 << 27  # of the rows that are held at once


@dataclass(frozen=True)
class FeatureRows:
    """Rows of N samples, read when asked for.

    Attributes
    ----------
    of, layer, target
        What they are, of which layer, as datasets name it, and of maps of which explained class.
    shape
        Of a row: (C,) pooled, (C,h,w) or (D,) activations, (h,w) maps.
    """

    samples: Samples
    of: str
    layer: str
    target: int
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return prod(self.shape)

    def read(self, start: int, stop: int) -> F4:
        """(n,*shape) float32."""
        if self.of == MAPS:
            maps = np.asarray(self.samples.cam(self.layer)[start:stop, self.target], np.float32)
            return maps.reshape(-1, *self.shape)
        rows = self.samples[f"{_DATASETS[self.of]}/{self.layer}"][start:stop]
        return rows.astype(np.float32, copy=False)

    def flat(self, start: int, stop: int) -> F4:
        """(n,width) float32."""
        return np.ascontiguousarray(self.read(start, stop).reshape(-1, self.width))

    def directions(self, start: int, stop: int) -> F4:
        """(n,width) float32 rows of length 1; those that are zero or not finite are 0."""
        rows = self.flat(start, stop)
        rows[~np.isfinite(rows).all(axis=1)] = 0
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        rows /= np.where(lengths > 0, lengths, 1)
        return rows

    def parts(self, most: int | None = None) -> Iterator[tuple[int, int]]:
        """Ranges of samples, `most` at a time or as many as memory should hold."""
        step = most or max(1, _PART_BYTES // (4 * self.width))
        for start in range(0, len(self), step):
            yield start, min(start + step, len(self))


def feature_rows(
    samples: Samples, of: str | None = None, layer: str | None = None, target: int = 0
) -> FeatureRows:
    """The rows of a layer.

    Parameters
    ----------
    of
        ``pooled``, ``activations`` or ``maps``; None: the first of these that there is.
    layer
        None: the only layer with them.

    Raises
    ------
    ConfigError
        They were not saved, of that layer or of any, or there are several layers to choose from;
        maps are not of one size.
    IndexError
        There are not so many targets.
    """
    if of not in (None, *FEATURES):
        raise ConfigError(f"--of {of}: takes {', '.join(FEATURES)}")
    kinds = [kind for kind in FEATURES if samples.layers_with(_DATASETS[kind])]
    of = of or next(iter(kinds), POOLED)
    layers = samples.layers_with(_DATASETS[of])
    if not layers:
        has = f"; it has {', '.join(kinds)}" if kinds else ""
        raise ConfigError(f"this run has no {of}; extract with --save {of}{has}")
    if layer is None and len(layers) > 1:
        raise ConfigError(f"--layer: choose one of the layers with {of}: {', '.join(layers)}")
    name = layers[0] if layer is None else layer_path(layer)
    if name not in layers:
        raise ConfigError(f"no {of} of layer {layer!r}; layers with {of}: {', '.join(layers)}")
    if of == MAPS:
        maps = samples.cam(name)
        maps._require_target(target)
        return FeatureRows(samples, of, name, target, maps.one_size("this export"))
    shape = samples[f"{_DATASETS[of]}/{name}"].shape[1:]
    return FeatureRows(samples, of, name, target, shape)
