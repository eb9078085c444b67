"""Truth in folders of PNG masks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shardcam.engine.errors import SourceError
from shardcam.engine.readers.location import key_text
from shardcam.engine.truths.mask_shapes import PngMask, png_levels, read_png
from shardcam.engine.truths.truth import EMPTY, IGNORED
from shardcam.engine.truths.truth_files import TruthFiles
from shardcam.engine.truths.truth_problems import Problem
from shardcam.engine.truths.truth_rows import LABEL, NO_BOX, TruthRows
from shardcam.engine.types import NO_CLASS, U1

IGNORE = 255
OBJECT, FROM_0, FROM_1 = VALUES = "object", "from-0", "from-1"
_THREADS, _ROWS = 4, 256
_TWO = (frozenset({0, 255}), frozenset({0, 1}))  # values of masks of one object


@dataclass(frozen=True)
class SeenMask:
    """What there is in the PNG file of a mask."""

    path: str
    size: tuple[int, int]
    values: frozenset[int]
    palette: bool
    digest: bytes


def look_at(
    names: Sequence[str], images: TruthFiles, rows: TruthRows, read: TruthFiles
) -> dict[str, SeenMask]:
    """Read each mask once: those that can be read; the others are counted."""
    seen = {}
    with ThreadPoolExecutor(_THREADS) as threads:
        for name, found in zip(names, threads.map(_looking_in(images), names), strict=True):
            if isinstance(found, SeenMask):
                seen[name] = found
                read.hash(name, found.digest)
            else:
                rows.met(Problem.MASK, f"{name}: {found}")
                read.hash(name, b"")
    return seen


def read_masks(
    root: Path, names: Sequence[str], rows: TruthRows, read: TruthFiles, values: str = ""
) -> str:
    """A folder of masks that are called as their pictures are, but for their ending.

    Their values are those of one object (`object`: any but 0, of the class that is the picture's
    label), or classes, with 255 for pixels that do not count: from 0 (`from-0`), or from 1
    and 0 for the background (`from-1`). If it is not said: objects if no file has a palette and all
    have two values at most, 0 and 255 or 0 and 1; else classes, from 0 if class 0 of the run is
    called background.

    Raises
    ------
    SourceError
        None of them is a mask.
    """
    seen = look_at(names, read, rows, read)
    if not seen:
        raise SourceError(f"{root}: no PNG file in it is a mask; {rows.problem_words()}")
    known = values or _values_of(list(seen.values()), rows)
    rows.numbered = "value"
    if not values:
        how = {
            OBJECT: "any value but 0 is an object of the class of the picture's label",
            FROM_0: "value 0 is class 0",
            FROM_1: "value 1 is class 0, value 0 the background",
        }
        others = " and ".join(f"::{name}" for name in VALUES if name != known)
        rows.assumed.append(f"masks read as ::{known}: {how[known]}; the others are {others}")
    for name, mask in seen.items():
        picture = rows.picture(key_text(name[:-4]))
        if known == OBJECT:
            if mask.values == {0}:
                rows.met(Problem.EMPTY_MASK, name)
                rows.add(picture, NO_CLASS, mask=PngMask(mask.path, mask.size), flags=EMPTY)
            else:
                rows.add(picture, LABEL, NO_BOX, mask=PngMask(mask.path, mask.size))
            continue
        first = 1 if known == FROM_1 else 0
        objects = sorted(value for value in mask.values - {IGNORE} if value >= first)
        for value in objects:
            rows.learn(value, rows.classes.number(value - first))
            shape = PngMask(mask.path, mask.size, value)
            rows.add(picture, rows.cls(value), NO_BOX, value, shape)
        if not objects:
            rows.add(picture, NO_CLASS, mask=PngMask(mask.path, mask.size), flags=EMPTY)
        if IGNORE in mask.values:
            shape = PngMask(mask.path, mask.size, IGNORE)
            rows.add(picture, NO_CLASS, NO_BOX, IGNORE, shape, IGNORED)
    return f"PNG masks ({known})"


def _values_of(seen: Sequence[SeenMask], rows: TruthRows) -> str:
    together = frozenset().union(*(mask.values for mask in seen))
    if not any(mask.palette for mask in seen) and any(together <= two for two in _TWO):
        return OBJECT
    return FROM_0 if rows.classes.has_background else FROM_1


def _looking_in(images: TruthFiles) -> Callable[[str], SeenMask | str]:
    def look(name: str) -> SeenMask | str:
        try:
            path = images.inside(name)
            data = read_png(path)
            levels = png_levels(data)
        except (OSError, ValueError) as error:
            return getattr(error, "strerror", None) or str(error)
        height, width = levels.shape
        digest = hashlib.sha256(data).digest()
        return SeenMask(path, (height, width), _values_in(levels), data[25] == 3, digest)

    return look


def _values_in(levels: U1) -> frozenset[int]:
    """The values of some pixels; of few rows at once, for `bincount` counts in 8 bytes."""
    counts = np.zeros(256, np.int64)
    for first in range(0, len(levels), _ROWS):
        counts += np.bincount(levels[first : first + _ROWS].reshape(-1), minlength=256)
    return frozenset(np.flatnonzero(counts).tolist())
