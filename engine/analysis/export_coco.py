"""Where heatmaps are high, as boxes and regions in COCO's JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np

from shardcam.engine.analysis.placement import level_of
from shardcam.engine.analysis.samples import Samples
from shardcam.engine.io.whole_file import whole_file
from shardcam.engine.types import NO_CLASS, Flag
from shardcam.kernels import run_lengths

NO_REGIONS = Flag.NON_FINITE | Flag.ALL_ZERO | Flag.CONSTANT  # of maps that show no place
_Entry = dict[str, Any]


def coco(
    samples: Samples,
    path: str | Path,
    layer: str,
    threshold: float = 0.5,
    target: int = 0,
    names: Callable[[int], str] = str,
) -> int:
    """Write ``{"images": [...], "annotations": [...], "categories": [...]}``.

    An annotation is a connected region (8 neighbours) of the original picture where the
    heatmap is high: ``bbox`` is x, y, width, height in pixels, ``area`` its pixels,
    ``segmentation`` its run lengths, column by column, ``score`` that of
    its class (null if not finite). Ids of images are the samples' indices in the source, those
    of categories the numbers of the classes; ``file_name`` is the key. Samples whose flags say that
    a map is not finite, all zero or constant have no annotation. Written as it is
    computed: memory holds one picture at a time.

    Parameters
    ----------
    path
        A file of that name is replaced when all is written.
    layer, target
        Whose maps, and which of the explained classes of each sample.
    threshold
        Share of the heatmap's range that counts as high, between 0 and 1.
    names
        From the number of a class to its name.

    Returns
    -------
    int
        How many annotations there are.

    Raises
    ------
    ConfigError
        The layer has no maps, or the threshold is not between 0 and 1.
    IndexError
        There are not so many targets.
    DiskFull, RunDirectoryError
        No space, no permission to write, or a damaged shard.
    """
    level, classes = level_of(threshold), set[int]()
    samples.cam(layer)._require_target(target)

    def annotations() -> Iterator[_Entry]:
        for entry in _annotations(samples, layer, level, target):
            classes.add(entry["category_id"])
            yield entry

    with whole_file(Path(path)) as stream:
        stream.write(b'{"images": ')
        write_list(stream, _images(samples))
        stream.write(b',\n"annotations": ')
        count = write_list(stream, annotations())
        stream.write(b',\n"categories": ')
        write_list(stream, ({"id": number, "name": names(number)} for number in sorted(classes)))
        stream.write(b"}\n")
    return count


def write_list(stream: BinaryIO, entries: Iterator[_Entry]) -> int:
    """One entry on each line."""
    count = 0
    for count, entry in enumerate(entries, 1):
        stream.write((b"[\n" if count == 1 else b",\n") + json.dumps(entry).encode())
    stream.write(b"\n]" if count else b"[]")
    return count


def _images(samples: Samples) -> Iterator[_Entry]:
    for shard in samples.shards():
        numbers, sizes = shard["sample"][:].tolist(), shard["image_size"][:].tolist()
        for number, key, (height, width) in zip(numbers, shard.keys, sizes, strict=True):
            yield {"id": number, "file_name": key, "height": height, "width": width}


def _annotations(samples: Samples, layer: str, level: int, target: int) -> Iterator[_Entry]:
    number = 0  # COCO's own tools take an annotation with the id 0 for a missing one
    for shard in samples.shards():
        maps, images = shard.cam(layer), shard["sample"][:].tolist()
        classes, scores = shard["target"][:, target].tolist(), shard["score"][:, target].tolist()
        unusable = (shard["flags"][:] & NO_REGIONS > 0) | (np.array(classes) == NO_CLASS)
        for i, heatmap in enumerate(maps.each_on_original(target)):
            if unusable[i]:
                continue
            for region in regions(heatmap >= level):
                number += 1
                yield {
                    "id": number,
                    "image_id": images[i],
                    "category_id": classes[i],
                    **region,
                    "iscrowd": 0,
                    "score": scores[i] if math.isfinite(scores[i]) else None,
                }


def regions(mask: Any) -> Iterator[_Entry]:
    """From a mask (height,width) to ``bbox``, ``area`` and ``segmentation`` of each region."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8))
    for k in range(1, count):
        x, y, width, height, area = stats[k].tolist()
        runs = run_lengths(labels, k, (y, x, y + height, x + width)).tolist()
        yield {
            "bbox": [x, y, width, height],
            "area": area,
            "segmentation": {"size": list(mask.shape), "counts": runs},
        }
