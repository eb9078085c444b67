"""A FiftyOne dataset on disk: where the pictures are, their classes and heatmaps."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from shardcam.engine.analysis.export_coco import write_list
from shardcam.engine.analysis.export_files import export_images, file_stems
from shardcam.engine.analysis.export_heatmaps import PNG, LevelFiles, shows_nothing
from shardcam.engine.analysis.export_npy import write_array
from shardcam.engine.analysis.feature_rows import POOLED, feature_rows
from shardcam.engine.analysis.samples import Samples
from shardcam.engine.io.whole_file import whole_file
from shardcam.engine.types import NO_CLASS, NO_LABEL

_HEATMAPS = "fields/heatmap"  # FiftyOne resolves paths of fields that have a folder there
_Entry = dict[str, Any]


def fiftyone(
    samples: Samples,
    folder: str | Path,
    layer: str,
    target: int = 0,
    keep: bool = False,
    names: Callable[[int], str] = str,
    paths: Callable[[int], str] | None = None,
) -> int:
    """Write ``samples.json``, ``metadata.json`` and a heatmap for each sample.

    ``fiftyone.Dataset.from_dir(FOLDER, dataset_type=fiftyone.types.FiftyOneDataset)`` reads it.
    Samples have ``filepath``, ``key``, ``prediction``, ``ground_truth`` where there is a label,
    ``explained`` (the class of the map, and its score), ``heatmap``, ``metadata`` and ``flags``.
    Heatmaps are grey PNG files of the picture's size in ``fields/heatmap``; samples whose map is
    not finite, all zero or constant, or of no class, have none. If the run has pooled features
    of the layer, ``embeddings.npy`` is (N,C) float32 in the order of the samples.

    Parameters
    ----------
    folder
        Made if need be; files of the same names are replaced, others are left.
    layer, target
        Whose maps, and which of the explained classes of each sample.
    keep
        Leave heatmaps that are there, which are whole.
    names
        From the number of a class to its name.
    paths
        From the index of a sample in the source to its picture's path, absolute or below
        `folder`; None: its key.

    Returns
    -------
    int
        How many samples there are.

    Raises
    ------
    ConfigError
        The layer has no maps.
    IndexError
        There are not so many targets.
    DiskFull, RunDirectoryError
        No space, no permission to write, or a damaged shard.
    """
    samples.cam(layer)._require_target(target)
    place = Path(folder)
    export_images(samples, place / _HEATMAPS, LevelFiles(layer, target), keep)
    if layer in samples.layers_with("pooled"):
        rows = feature_rows(samples, POOLED, layer)
        with whole_file(place / "embeddings.npy") as stream:
            parts = (rows.read(*part) for part in rows.parts())
            write_array(stream, (len(rows), *rows.shape), parts)
    with whole_file(place / "samples.json") as stream:
        stream.write(b'{"samples": ')
        count = write_list(stream, _entries(samples, target, names, paths))
        stream.write(b"}\n")
    with whole_file(place / "metadata.json") as stream:
        about = {"media_type": "image", "info": {"layer": layer}}
        stream.write(json.dumps(about).encode())
    return count


def _entries(
    samples: Samples,
    target: int,
    names: Callable[[int], str],
    paths: Callable[[int], str] | None,
) -> Iterator[_Entry]:
    stems = iter(file_stems(samples.keys, samples["sample"][:].tolist()))
    for shard in samples.shards():
        numbers, sizes = shard["sample"][:].tolist(), shard["image_size"][:].tolist()
        top = shard["top_class"][:, 0].tolist(), shard["top_score"][:, 0].tolist()
        explained = shard["target"][:, target].tolist(), shard["score"][:, target].tolist()
        labels, flags = shard["label"][:].tolist(), shard["flags"][:].tolist()
        nothing = shows_nothing(shard, target)
        for i, (key, number) in enumerate(zip(shard.keys, numbers, strict=True)):
            entry: _Entry = {
                "filepath": paths(number) if paths else key,
                "tags": [],
                "metadata": {"_cls": "ImageMetadata", "height": sizes[i][0], "width": sizes[i][1]},
                "key": key,
                "sample": number,
                "flags": flags[i],
            }
            for name, (classes, scores) in (("prediction", top), ("explained", explained)):
                if classes[i] != NO_CLASS:
                    entry[name] = _classification(names(classes[i]), scores[i])
            if labels[i] != NO_LABEL:
                entry["ground_truth"] = _classification(names(labels[i]))
            stem = next(stems)
            if not nothing[i]:
                path = f"{_HEATMAPS}/{stem}{PNG}"
                entry["heatmap"] = {"_cls": "Heatmap", "map_path": path, "range": [0, 255]}
            yield entry


def _classification(label: str, confidence: float = math.nan) -> _Entry:
    entry: _Entry = {"_cls": "Classification", "tags": [], "label": label}
    return entry | ({"confidence": confidence} if math.isfinite(confidence) else {})
