"""Heatmaps blended into the network's view of each picture, as JPEG or PNG files."""

from __future__ import annotations

import itertools
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from shardcam.engine.errors import storage_error
from shardcam.engine.io.plain_file import beside
from shardcam.engine.protocols import ShardWriter
from shardcam.engine.rundir.colormaps import colour_table
from shardcam.engine.rundir.one_map import one_map
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.types import (
    F4,
    NO_CLASS,
    U1,
    Failure,
    LayerMaps,
    ResultBatch,
    Sample,
    Shard,
    View,
)
from shardcam.kernels import overlay

FUSED = "fused"
Fuse = Callable[[Mapping[str, LayerMaps], tuple[int, int]], U1]
_ENCODING = {"jpg": [cv2.IMWRITE_JPEG_QUALITY, 92], "png": [cv2.IMWRITE_PNG_COMPRESSION, 1]}


@dataclass(frozen=True)
class OverlayStyle:
    """How overlays look."""

    format: str = "jpg"  # or png
    colormap: str = "jet"  # see colormaps.colour_table
    alpha: float = 0.5  # the colours' share
    peak_normalize: bool = False  # divide each by its maximum, as pytorch-grad-cam does


class OverlaySink:
    """Writes ``overlays/INDEX-KEY-LAYER-CLASS.jpg`` (or .png), one for each layer and target.

    Of several layers there is one more, LAYER being `fused`: that of their common heatmap.

    Parameters
    ----------
    run_dir
        The run directory.
    style
        How the pictures look.
    fuse
        From the maps of several layers and a size to their common heatmaps (N,K,H,W), where a
        batch comes without: that of pictures at their own size.
    """

    def __init__(self, run_dir: RunDir, style: OverlayStyle, fuse: Fuse | None = None) -> None:
        self._run_dir = run_dir
        self._style = style
        self._fuse = fuse

    def open(self, shard: Shard) -> ShardWriter:
        folder = self._run_dir.overlays
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, folder) from error
        return _OverlayWriter(self._run_dir, self._style, self._fuse)


class _OverlayWriter:
    """Nothing to undo: pictures are written atomically, and a second run writes the same."""

    def __init__(self, run_dir: RunDir, style: OverlayStyle, fuse: Fuse | None) -> None:
        self._run_dir = run_dir
        self._folder = run_dir.overlays
        self._drawn: list[Path] = []
        self._style, self._fuse = style, fuse
        self._colours = colour_table(style.colormap)

    def write(self, batch: ResultBatch) -> None:
        height, width = batch.views[0].pixels.shape[:2]
        grids = {n: one_map(found, (height, width)) for n, found in batch.grids.items()}
        layers = batch.maps | grids
        names = layer_names(layers)
        for layer, maps in layers.items():
            self._draw_layer(batch, names[layer], maps.normalized)
        heatmap = batch.heatmap
        if len(grids) > 1 and self._fuse:
            heatmap = self._fuse(grids, (height, width))
        if len(layers) > 1 and heatmap is not None:
            self._draw_layer(batch, FUSED, heatmap.astype(np.float32))

    def commit(self, failures: Iterable[Failure]) -> bool:
        self._run_dir.hand_over(self._drawn)
        self._drawn.clear()
        return True

    def discard(self) -> None:
        """The next attempt draws them again, under the same names."""
        self._drawn.clear()

    def _draw_layer(self, batch: ResultBatch, layer: str, maps: F4) -> None:
        rows = zip(batch.samples, batch.views, maps, batch.target, strict=True)
        for sample, seen, of_targets, classes in rows:
            for k, (normalized, target) in enumerate(zip(of_targets, classes, strict=True)):
                if k and target == NO_CLASS:  # one picture says so
                    continue
                name = f"{picture_stem(sample, layer, int(target))}.{self._style.format}"
                self._draw(name, seen, normalized)

    def _draw(self, name: str, seen: View, normalized: F4) -> None:
        form, style = self._style.format, self._style
        blended = overlay(normalized, seen.pixels, self._colours, style.alpha, style.peak_normalize)
        picture = cv2.cvtColor(blended, cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(f".{form}", picture, _ENCODING[form])
        path = self._folder / name
        try:
            with beside(path) as temporary:
                with temporary.open("xb") as stream:
                    stream.write(data.tobytes())
                temporary.replace(path)
        except OSError as error:
            raise storage_error(error, self._folder) from error
        self._drawn.append(path)


def picture_stem(sample: Sample, layer: str, target: int) -> str:
    """File name of a picture of one map: safe on every file system, unique by its index.

    `layer` is one of `layer_names`; NO_CLASS is called none.
    """
    named = "none" if target == NO_CLASS else target
    return f"{picture_name(sample.index, sample.key)}-{layer}-{named}"


def layer_names(layers: Iterable[str]) -> dict[str, str]:
    """The names of a run's layers in file names, unique without regard to case.

    Of layers whose names differ in unsafe characters alone, all but one get a number.
    """
    names: dict[str, str] = {}
    taken = {FUSED}
    plain = {layer: re.sub(r"[^A-Za-z0-9_.-]+", ".", layer)[-100:] for layer in layers}
    for layer in sorted(plain, key=lambda layer: (plain[layer] != layer, layer)):
        numbered = (f"{plain[layer]}.{n}" for n in itertools.count(2))
        candidates = itertools.chain([plain[layer]], numbered)
        names[layer] = next(name for name in candidates if name.lower() not in taken)
        taken.add(names[layer].lower())
    return names


def picture_name(index: int, key: str) -> str:
    """How the file names of a sample's overlays begin."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", posixpath.splitext(key)[0])[-60:]
    return f"{index:08d}-{stem}"
