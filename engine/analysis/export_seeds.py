"""What weak supervision makes of maps: seeds, and the dictionaries of IRN and PSA.

A file for each sample, called as its picture is. Memory holds a few maps, and the scores of one
picture.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from shardcam.engine.analysis.class_scores import IRN, PSA, class_scores, grid_scores, one_map
from shardcam.engine.analysis.dense_crf import DenseCrf
from shardcam.engine.analysis.export_files import Contents, Pictures, export_images
from shardcam.engine.analysis.grid_rows import GridRows
from shardcam.engine.analysis.npy_dictionary import Tensor, npy_dictionary
from shardcam.engine.analysis.samples import Samples
from shardcam.engine.errors import ConfigError
from shardcam.engine.types import F4, I4, U1

IGNORE = 255
EVAL_THRESHOLD = 0.15  # IRN's cam_eval_thres
_READ_AHEAD = 64  # samples whose maps are read at once
Refine = Callable[[U1, int], U1]  # from (H,W) numbers of planes, of so many, to better ones


def seeds(
    samples: Samples,
    folder: str | Path,
    layer: str,
    threshold: float | tuple[float, float] = EVAL_THRESHOLD,
    scores: str = IRN,
    keep: bool = False,
    classes: Sequence[int] = (),
    pictures: Pictures | None = None,
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
    classes
        The only ones that count, if any: the first becomes 1, the next 2, and so on.
    pictures
        From a shard of the samples and a position in it to the picture, (height,width,3) uint8
        RGB. Then what is above a threshold is refined by a dense CRF, as IRN does.

    Returns
    -------
    int
        How many were written.

    Raises
    ------
    ConfigError
        The layer has no maps, a threshold is not from 0 to 1, a class is above 253 or given twice.
    DiskFull, RunDirectoryError
        No space, no permission to write, or a damaged shard.
    """
    low, high = threshold if isinstance(threshold, tuple) else (threshold, threshold)
    if not 0 <= low <= high <= 1:
        raise ConfigError(
            f"threshold: expected a number from 0 to 1, or two by rising value, got {threshold}"
        )
    require_few_classes(samples, classes)
    files = SeedFiles("seeds", layer, low, high, scores, tuple(classes), pictures is not None)
    return export_images(samples, Path(folder), files, keep, pictures)


def require_few_classes(samples: Samples, classes: Sequence[int] = ()) -> None:
    """Raise ConfigError where seeds cannot have the classes that are explained, or are chosen."""
    if len(set(classes)) < len(classes):
        raise ConfigError("classes of seeds: one is given twice")
    most = len(classes) - 1 if classes else int(samples["target"][:].max(initial=0))
    if most >= IGNORE - 1:
        raise ConfigError(
            f"class {most}: seeds are PNG files of 8 bits, for the classes 0 to {IGNORE - 2}; "
            "choose those that count (--classes), or export to psa or irn (--to psa, --to irn)"
        )


def irn(samples: Samples, folder: str | Path, layer: str, keep: bool = False) -> int:
    """Write IRN's ``ID.npy`` for each sample, as its ``make_cam.py`` does.

    A dictionary of ``keys`` (k,) int64 and ``cam`` (k,ceil(H/4),ceil(W/4)) float32, which load as
    tensors, and ``high_res`` (k,H,W) float32. For the parameters see `seeds`.
    """
    return export_images(samples, Path(folder), SeedFiles("irn", layer), keep)


def psa(samples: Samples, folder: str | Path, layer: str, keep: bool = False) -> int:
    """Write PSA's ``ID.npy`` for each sample: a dictionary {class: (H,W) float32}.

    For the parameters see `seeds`.
    """
    return export_images(samples, Path(folder), SeedFiles("psa", layer), keep)


def seed_of(classes: I4, scores: F4, low: float, high: float, refine: Refine | None = None) -> U1:
    """(k,) and (k,H,W) -> (H,W): class + 1 above `high`, 0 up to `low`, else 255.

    What is above either threshold may be refined first, by the picture.
    """
    if not len(classes):
        return np.zeros(scores.shape[1:], np.uint8)
    best, highest = scores.max(axis=0), scores.argmax(axis=0)

    def planes(threshold: float) -> U1:
        """(H,W) 0 for the background, and the classes counted from 1."""
        found: U1 = np.where(best > np.float32(threshold), highest + 1, 0).astype(np.uint8)
        return found if refine is None else refine(found, len(classes) + 1)

    sure = planes(high)
    maybe = sure if low == high else planes(low)
    found: U1 = np.array([IGNORE, *(classes + 1)], np.uint8)[sure]
    found[(sure == 0) & (maybe == 0)] = 0
    return found


@dataclass(frozen=True)
class SeedFiles:
    """What is made of each sample.

    Parameters
    ----------
    form
        ``seeds``, ``irn`` or ``psa``.
    layer
        Whose maps.
    low, high, scores, classes
        Of seeds, see `seeds`.
    crf
        Whether seeds are refined by a dense CRF, which needs the pictures.
    """

    form: str
    layer: str
    low: float = EVAL_THRESHOLD
    high: float = EVAL_THRESHOLD
    scores: str = IRN
    classes: tuple[int, ...] = ()
    crf: bool = False

    @property
    def ending(self) -> str:
        return ".png" if self.form == "seeds" else ".npy"

    @property
    def needs_pictures(self) -> bool:
        return self.crf

    def made(self, shard: Samples, rows: Sequence[int], pictures: Pictures | None) -> Contents:
        """Row of a shard, and contents of its file, for each of some rows."""
        for i, shown in _each_shown(shard, self.layer, rows):
            if self.form == "seeds":
                picture = partial(pictures, shard, i) if self.crf and pictures else None
                yield i, _png(self._seed(shown, picture))
            else:
                yield i, self._dictionary(shown)

    def _dictionary(self, shown: _Shown) -> bytes:
        if self.form == "irn":
            classes, high = shown.scores(IRN)
            keys = Tensor(classes.astype(np.int64))
            return npy_dictionary({"keys": keys, "cam": Tensor(shown.irn_cam()), "high_res": high})
        classes, high = shown.scores(PSA)
        return npy_dictionary(dict(zip(classes.tolist(), high, strict=True)))

    def _seed(self, shown: _Shown, picture: Callable[[], U1] | None) -> U1:
        classes, scores = shown.scores(self.scores)
        if self.classes:
            counts = np.isin(classes, self.classes)
            chosen = [self.classes.index(number) for number in classes[counts].tolist()]
            classes, scores = np.array(chosen, np.int32), scores[counts]
        refine = DenseCrf(picture()).refine if picture is not None and len(classes) else None
        return seed_of(classes, scores, self.low, self.high, refine)


@dataclass(frozen=True)
class _Shown:
    """What a run has of one sample."""

    maps: Any  # (K,h,w), or those of each scale
    scales: tuple[float, ...]  # empty where maps are of one size
    classes: I4
    crop: npt.NDArray[Any]
    image_size: npt.NDArray[Any]

    def scores(self, how: str) -> tuple[I4, F4]:
        rest = self.classes, self.crop, self.image_size, how
        if self.scales:
            return grid_scores(self.maps, self.scales, *rest)
        return class_scores(self.maps, *rest)

    def irn_cam(self) -> F4:
        """(k,ceil(H/4),ceil(W/4)) IRN's ``cam``."""
        maps = self.maps
        if self.scales:
            height, width = np.rint(self.crop[2:] - self.crop[:2]).astype(int).tolist()
            maps = one_map(maps, (height, width))
        small = -(-self.image_size // 4)
        crop = self.crop * np.tile(small / self.image_size, 2)
        return class_scores(maps, self.classes, crop, small, IRN)[1]


def _each_shown(shard: Samples, layer: str, wanted: Sequence[int]) -> Iterator[tuple[int, _Shown]]:
    maps = shard.cam(layer)
    columns = [shard[name] for name in ("target", "crop", "image_size")]
    scales = maps.scales if isinstance(maps, GridRows) else ()
    for first in range(0, len(wanted), _READ_AHEAD):
        some = np.array(wanted[first : first + _READ_AHEAD])
        read = maps.grids(some) if isinstance(maps, GridRows) else maps[some]
        rows = zip(some.tolist(), read, *(column[some] for column in columns), strict=True)
        for i, one, *rest in rows:
            yield i, _Shown(one, scales, *rest)


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
