"""What weak supervision makes of maps: seeds, and the dictionaries of IRN and PSA.

A file for each sample, called as its picture is. Memory holds a few maps, and the scores of one
picture.
"""

from __future__ import annotations

import io
import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from shardcam.engine.analysis.class_scores import IRN, PSA, class_scores
from shardcam.engine.analysis.npy_dictionary import Tensor, npy_dictionary
from shardcam.engine.analysis.samples import Samples
from shardcam.engine.errors import ConfigError
from shardcam.engine.io.whole_file import make_folder, whole_file
from shardcam.engine.rundir.overlays import picture_name
from shardcam.engine.types import F4, I4, U1

IGNORE = 255
EVAL_THRESHOLD = 0.15  # IRN's cam_eval_thres
_READ_AHEAD = 64  # samples whose maps are read at once
_SAFE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")
_Make = Callable[[F4, I4, npt.NDArray[Any], npt.NDArray[Any]], bytes]


def seeds(
    samples: Samples,
    folder: str | Path,
    layer: str,
    threshold: float | tuple[float, float] = EVAL_THRESHOLD,
    scores: str = IRN,
    keep: bool = False,
) -> int:
    """Write a PNG with a palette for each sample: 0 background, class + 1, 255 undecided.

    Each is of the original picture's size. A pixel is of the class with the highest score if
    that is above the threshold.

    Parameters
    ----------
    folder
        Made if need be; files of the same names are replaced, others are left.
    layer
        Whose maps.
    threshold
        From 0 to 1; or two, as IRN has them: up to the lower one a pixel is background, above
        the higher one of the class, between them 255.
    scores
        See `engine.analysis.class_scores.class_scores`.
    keep
        Leave files that are there, which are whole.

    Returns
    -------
    int
        How many were written.

    Raises
    ------
    ConfigError
        The layer has no maps, a threshold is not from 0 to 1, or a class is above 253.
    DiskFull, RunDirectoryError
        No space, no permission to write, or a damaged shard.
    """
    low, high = threshold if isinstance(threshold, tuple) else (threshold, threshold)
    if not 0 <= low <= high <= 1:
        raise ConfigError(
            f"threshold: expected a number from 0 to 1, or two by rising value, got {threshold}"
        )
    require_few_classes(samples)

    def make(maps: F4, target: I4, crop: npt.NDArray[Any], size: npt.NDArray[Any]) -> bytes:
        classes, found = class_scores(maps, target, crop, size, scores)
        return _png(seed_of(classes, found, low, high))

    return _written(samples, Path(folder), layer, ".png", make, keep)


def require_few_classes(samples: Samples) -> None:
    """Raise ConfigError where a class is too high for seeds."""
    if (most := int(samples["target"][:].max(initial=0))) >= IGNORE - 1:
        raise ConfigError(
            f"class {most}: seeds are PNG files of 8 bits, for the classes 0 to {IGNORE - 2}; "
            "export so many classes to psa or irn (--to psa, --to irn)"
        )


def irn(samples: Samples, folder: str | Path, layer: str, keep: bool = False) -> int:
    """Write IRN's ``ID.npy`` for each sample, as its ``make_cam.py`` does.

    A dictionary of ``keys`` (k,) int64 and ``cam`` (k,ceil(H/4),ceil(W/4)) float32, which load as
    tensors, and ``high_res`` (k,H,W) float32. For the parameters see `seeds`.
    """
    return _written(samples, Path(folder), layer, ".npy", _irn, keep)


def psa(samples: Samples, folder: str | Path, layer: str, keep: bool = False) -> int:
    """Write PSA's ``ID.npy`` for each sample: a dictionary {class: (H,W) float32}.

    For the parameters see `seeds`.
    """
    return _written(samples, Path(folder), layer, ".npy", _psa, keep)


def seed_of(classes: I4, scores: F4, low: float, high: float) -> U1:
    """(k,) and (k,H,W) -> (H,W): class + 1 above `high`, 0 up to `low`, else 255."""
    if not len(classes):
        return np.zeros(scores.shape[1:], np.uint8)
    best = scores.max(axis=0)
    found: U1 = (classes + 1).astype(np.uint8)[scores.argmax(axis=0)]
    found[best <= np.float32(high)] = IGNORE
    found[best <= np.float32(low)] = 0
    return found


def _irn(maps: F4, target: I4, crop: npt.NDArray[Any], size: npt.NDArray[Any]) -> bytes:
    small = -(-size // 4)
    classes, high = class_scores(maps, target, crop, size, IRN)
    _, cam = class_scores(maps, target, crop * np.tile(small / size, 2), small, IRN)
    keys = Tensor(classes.astype(np.int64))
    return npy_dictionary({"keys": keys, "cam": Tensor(cam), "high_res": high})


def _psa(maps: F4, target: I4, crop: npt.NDArray[Any], size: npt.NDArray[Any]) -> bytes:
    classes, high = class_scores(maps, target, crop, size, PSA)
    return npy_dictionary(dict(zip(classes.tolist(), high, strict=True)))


def _written(
    samples: Samples, folder: Path, layer: str, ending: str, make: _Make, keep: bool
) -> int:
    samples.cam(layer)  # refuses a layer without maps
    names = iter(file_stems(samples.keys, samples["sample"][:].tolist()))
    make_folder(folder)
    written = 0
    for shard in samples.shards():
        maps, targets = shard.cam(layer), shard["target"]
        paths = [folder / f"{next(names)}{ending}" for _ in range(len(shard))]
        wanted = [i for i, path in enumerate(paths) if not (keep and path.exists())]
        for first in range(0, len(wanted), _READ_AHEAD):
            some = np.array(wanted[first : first + _READ_AHEAD])
            rows = maps[some], targets[some], shard["crop"][some], shard["image_size"][some]
            for i, *row in zip(some.tolist(), *rows, strict=True):
                with whole_file(paths[i]) as stream:
                    stream.write(make(*row))
                written += 1
    return written


def file_stems(keys: list[str], indices: list[int]) -> list[str]:
    """How the files of pictures are called, without an ending.

    As the pictures, without their folders; where two would be called the same, or a name is not
    safe on every file system, all begin with their index, as overlays do.
    """
    stems = [posixpath.splitext(posixpath.basename(key))[0] for key in keys]
    distinct = len({stem.lower() for stem in stems}) == len(stems)
    if distinct and all(map(_SAFE.fullmatch, stems)):
        return stems
    return [picture_name(index, key) for index, key in zip(indices, keys, strict=True)]


def _png(levels: U1) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(levels)
    image.putpalette(_palette().tobytes())
    image.save(stream, "PNG")
    return stream.getvalue()


def _palette() -> U1:
    """(256,3) VOC's colours: the bits of a number, spread over red, green and blue."""
    numbers = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit, channel in np.ndindex(3, 3):
        colours[:, channel] |= ((numbers >> 3 * bit + channel & 1) << 7 - bit).astype(np.uint8)
    return colours
