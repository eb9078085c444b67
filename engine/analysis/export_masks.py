"""Where heatmaps are high, as pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from shardcam.engine.analysis.export_files import Made, export_files
from shardcam.engine.analysis.placement import level_of
from shardcam.engine.analysis.samples import Samples
from shardcam.engine.rundir.overlays import layer_names, picture_stem
from shardcam.engine.rundir.schema import layer_path
from shardcam.engine.types import NO_CLASS, NO_LABEL, Flag, Sample


def masks(
    samples: Samples, folder: str | Path, layer: str, threshold: float = 0.5, target: int = 0
) -> int:
    """Write ``INDEX-KEY-LAYER-CLASS.png`` for each sample: 255 where the heatmap is high, else 0.

    Each is of the original picture's size. The names are those of the run's overlays: safe
    on every file system, whatever the keys are. Memory holds one picture at a time.

    Parameters
    ----------
    folder
        Made if need be; files of the same names are replaced, others are left.
    layer, target
        Whose maps, and which of the explained classes of each sample.
    threshold
        Share of the heatmap's range that counts as high, between 0 and 1.

    Returns
    -------
    int
        How many were written.

    Raises
    ------
    ConfigError
        The layer has no maps, or the threshold is not between 0 and 1.
    IndexError
        There are not so many targets.
    DiskFull, RunDirectoryError
        No space, no permission to write, or a damaged shard.
    """
    level = level_of(threshold)
    samples.cam(layer)._require_target(target)
    called = layer_names(samples.layers)[layer_path(layer)]

    def made(shard: Samples) -> Made:
        maps, numbers, classes = shard.cam(layer), shard["sample"][:], shard["target"][:, target]
        flags = shard["flags"][:]
        for i, heatmap in enumerate(maps.each_on_original(target)):
            if classes[i] == NO_CLASS and not flags[i] & Flag.NON_FINITE:  # none is above a score
                continue
            sample = Sample(shard.keys[i], int(numbers[i]), NO_LABEL, "", 0)
            name = f"{picture_stem(sample, called, int(classes[i]))}.png"
            mask = (heatmap >= level).astype(np.uint8) * 255
            yield name, cv2.imencode(".png", mask)[1].tobytes()

    return export_files(samples, Path(folder), made)
