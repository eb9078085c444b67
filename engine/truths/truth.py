"""What is known of pictures: where the objects of which classes are."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from shardcam.engine.types import I4, U1, Note

Mask = Callable[[], U1]  # reads (height,width), above 0 where the object is
Sides = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels of the picture

DIFFICULT, IGNORED, EMPTY = 1, 2, 4  # flags of a region; EMPTY: that the picture has no object
_BOX_OF_KEY = re.compile(r"(.+)#[^/#,]+(?:,[^/#,]+){3}", re.DOTALL)


class UnreadableMask(Exception):
    """The file of a mask is no longer what it was when the truth was read."""


@dataclass(frozen=True)
class Region:
    """An object of a picture."""

    label: int
    box: Sides | None  # each format says whether x1 and y1 are the last pixel or one behind it
    mask: Mask | None = None  # raises UnreadableMask
    difficult: bool = False


@dataclass(frozen=True)
class ImageTruth:
    """The objects of a picture."""

    regions: tuple[Region, ...] = field(default=())
    ignore: Mask | None = None  # pixels that do not count, of whatever class
    size: tuple[int, int] | None = None  # height, width of the picture, if known
    empty: bool = False  # no object is in it; else, without regions, none could be used

    @property
    def has_masks(self) -> bool:
        """Whether an object is known by its pixels, and not by a box alone."""
        return any(region.mask is not None for region in self.regions)

    @property
    def has_boxes(self) -> bool:
        """Whether an object is known by a box, with or without its pixels."""
        return any(region.box is not None for region in self.regions)

    @property
    def labels(self) -> frozenset[int]:
        """The classes that the picture has objects of."""
        return frozenset(region.label for region in self.regions)

    def boxes(self, label: int) -> npt.NDArray[np.float64]:
        """(m,4) x0, y0, x1, y1 of a class's objects."""
        found = [r.box for r in self.regions if r.label == label and r.box is not None]
        return np.array(found, np.float64).reshape(-1, 4)

    def mask(self, label: int, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """(H,W) where a class's objects are, all of them together.

        The whole picture is brought to that size, each mask as OpenCV's INTER_NEAREST does. An
        object that only has a box has the pixels of the picture whose centres are inside.

        Raises
        ------
        UnreadableMask
            A file is no longer what it was when the truth was read.
        """
        found = tuple(region for region in self.regions if region.label == label)
        return union(found, size, self.size)

    def ignored(self, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """(H,W) what does not count, whether or not an object is there; see `mask`."""
        if self.ignore is None:
            return np.zeros(size, np.bool_)
        return _resized(self.ignore(), size) > 0


@dataclass(frozen=True)
class Union:
    """The pixels of several regions of a picture."""

    regions: tuple[Region, ...]
    size: tuple[int, int] | None

    def __call__(self) -> U1:
        """(height,width) of the picture; where its size is not known, of the first mask."""
        sizes = (region.mask().shape for region in self.regions if region.mask is not None)
        height, width = self.size or next(sizes, (1, 1))
        return union(self.regions, (height, width), self.size).view(np.uint8)


@dataclass(frozen=True)
class TruthArrays:
    """N regions of P pictures, those of a picture in a row."""

    first: npt.NDArray[np.int64]  # (P+1,) where the regions of each picture begin
    size: I4  # (P,2) height, width of each picture, 0 where it is not known
    label: I4  # (N,)
    box: npt.NDArray[np.float64]  # (N,4), NaN where there is none
    mask: I4  # (N,) position in the masks, -1 where there is none
    flags: U1  # (N,) of DIFFICULT, IGNORED and EMPTY


@dataclass(frozen=True)
class Truth:
    """The objects of the pictures of a run."""

    format: str  # in words
    digest: str  # SHA-256 of what was read, and of which class is which
    told: tuple[Note, ...]
    pictures: Mapping[str, int]  # number of each that something is known of, by its name
    arrays: TruthArrays
    masks: tuple[Mask, ...]

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def has_masks(self) -> bool:
        """Whether a picture is known by a mask, be it one that shows no object."""
        return bool((self.arrays.mask[self.arrays.flags & IGNORED == 0] >= 0).any())

    @property
    def has_boxes(self) -> bool:
        """Whether an object that counts is known by a box."""
        boxes = self.arrays.box[self.arrays.flags & (IGNORED | EMPTY) == 0]
        return bool((~np.isnan(boxes[:, 0])).any())

    def notes(self) -> tuple[Note, ...]:
        """What was read, what was assumed, left out and not found."""
        return self.told

    def of(self, key: str) -> ImageTruth | None:
        """What is known of the picture of a key; None: nothing."""
        number = self.pictures.get(picture_name(key))
        if number is None:
            return None
        first, end = self.arrays.first[number : number + 2].tolist()
        height, width = self.arrays.size[number].tolist()
        size = (height, width) if height else None
        flags = self.arrays.flags[first:end]
        ignored, regions = (
            tuple(self._region(first + i) for i in np.flatnonzero(some).tolist())
            for some in (flags & IGNORED > 0, flags & (IGNORED | EMPTY) == 0)
        )
        empty = not regions and bool((flags & EMPTY).any())
        return ImageTruth(regions, Union(ignored, size) if ignored else None, size, empty)

    def _region(self, i: int) -> Region:
        arrays, at = self.arrays, int(self.arrays.mask[i])
        x0, y0, x1, y1 = arrays.box[i].tolist()
        box = None if np.isnan(x0) else (x0, y0, x1, y1)
        mask = None if at < 0 else self.masks[at]
        return Region(int(arrays.label[i]), box, mask, bool(arrays.flags[i] & DIFFICULT))


def picture_name(key: str) -> str:
    """The key of a picture without the box that a manifest's row looks at."""
    found = _BOX_OF_KEY.fullmatch(key) if "#" in key else None
    return found[1] if found else key


def union(
    regions: tuple[Region, ...], size: tuple[int, int], picture: tuple[int, int] | None
) -> npt.NDArray[np.bool_]:
    """(H,W) where any of the regions is; see `ImageTruth.mask`."""
    together = np.zeros(size, np.bool_)
    for region in regions:
        pixels = region.mask() if region.mask else _filled(region.box, picture or size)
        together |= _resized(pixels, size) > 0
    return together


def _resized(pixels: U1, size: tuple[int, int]) -> U1:
    if pixels.shape == size:
        return pixels
    resized: U1 = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_NEAREST).astype(
        np.uint8, copy=False
    )
    return resized


def _filled(box: Sides | None, size: tuple[int, int]) -> U1:
    pixels = np.zeros(size, np.uint8)
    if box is not None:
        x0, y0, x1, y1 = (max(int(np.ceil(side - 0.5)), 0) for side in box)
        pixels[y0:y1, x0:x1] = 1
    return pixels
