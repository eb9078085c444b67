"""Which picture of a run a truth means, by whatever it calls it."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shardcam.engine.analysis.samples import Samples
from shardcam.engine.pictures.decode_image import EXTENSIONS
from shardcam.engine.rundir.listing import Listing
from shardcam.engine.truths.truth import picture_name
from shardcam.engine.types import I4, NO_LABEL

NOWHERE = -1  # in place of a picture's number
SEVERAL = -2
_ENDING = re.compile(rf"(?:{'|'.join(map(re.escape, (*EXTENSIONS, '.xml')))})\Z", re.IGNORECASE)
_FROM_HERE = re.compile(r"(\./+)+")


@dataclass(frozen=True)
class Pictures:
    """N images of a run."""

    keys: Sequence[str]
    label: I4  # (N,), NO_LABEL where there is none
    size: I4  # (N,2) height, width of the picture; 0 where it is not known

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The first image of each picture, by the picture's name."""
        numbers: dict[str, int] = {}
        for number, key in enumerate(self.keys):
            numbers.setdefault(picture_name(key), number)
        return numbers

    @cached_property
    def labels(self) -> I4:
        """(N,) the label of each picture, by its first image; none if its images differ."""
        labels = self.label.copy()
        if len(self.numbers) < len(self.keys):
            for number, key in enumerate(self.keys):
                first = self.numbers[picture_name(key)]
                if self.label[first] != self.label[number]:
                    labels[first] = NO_LABEL
        return labels


def run_pictures(listing: Listing, samples: Samples) -> Pictures:
    """The images that a run lists, with the sizes of those it has results of.

    Raises
    ------
    RunDirectoryError
        The listing or a shard is damaged.
    """
    keys, label = [], np.empty(len(listing), np.int32)
    for number, sample in enumerate(listing):
        keys.append(sample.key)
        label[number] = sample.label
    size = np.zeros((len(listing), 2), np.int32)
    for shard in samples.shards():
        size[shard["sample"][:]] = shard["image_size"][:]
    return Pictures(keys, label, size)


def matched(
    names: Sequence[str], numbers: dict[str, int], taken: set[int]
) -> tuple[list[int], dict[str, int]]:
    """The picture that each name means which is none, and how many were found in which way.

    In this order: the one whose path ends in the name, whole folders, or in whose path the name
    ends; the same without the endings of pictures; the one whose file is called so without its
    ending. Each only where one name and one picture belong together, and not to a picture that
    is `taken`.

    Returns
    -------
    pictures
        NOWHERE, or SEVERAL where a name belongs to several pictures, or to one with other names.
    ways
        In words.
    """
    found = [NOWHERE] * len(names)
    ways: dict[str, int] = {}
    plain = [_FROM_HERE.sub("", name.replace("\\", "/"), count=1) for name in names]
    for how, form in _WAYS:
        left = [i for i, number in enumerate(found) if number < 0]
        if not left:
            break
        paths = _Paths((form(key), number) for key, number in numbers.items())
        for i in left:
            found[i] = paths.of(form(plain[i])) if found[i] == NOWHERE else SEVERAL
        claims = Counter(found[i] for i in left)
        for i in left:
            if found[i] >= 0 and (claims[found[i]] > 1 or found[i] in taken):
                found[i] = SEVERAL
        now = {found[i] for i in left if found[i] >= 0}
        taken |= now
        if now:
            ways[how] = len(now)
    return found, ways


class _Paths:
    """Pictures by the ends of their paths."""

    def __init__(self, paths: Iterable[tuple[str, int]]) -> None:
        self._backwards = sorted((path[::-1], number) for path, number in paths)
        self._whole: dict[str, int] = {}
        for path, number in self._backwards:
            self._whole[path] = SEVERAL if path in self._whole else number

    def of(self, name: str) -> int:
        """The one picture whose path ends in a name, or in whose path the name ends."""
        backwards = name[::-1]
        found = [self._whole[backwards]] if backwards in self._whole else []
        below = bisect_left(self._backwards, (f"{backwards}/", -1))
        for path, number in self._backwards[below : below + 2]:
            if path.startswith(f"{backwards}/"):
                found.append(number)
        at = backwards.find("/")
        while at > 0:
            if backwards[:at] in self._whole:
                found.append(self._whole[backwards[:at]])
            at = backwards.find("/", at + 1)
        return NOWHERE if not found else found[0] if len(found) == 1 else SEVERAL


def _without_ending(path: str) -> str:
    return _ENDING.sub("", path)


def _stem(path: str) -> str:
    return _without_ending(path.rpartition("/")[2])


_WAYS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("the end of the path", str),
    ("the path without its ending", _without_ending),
    ("the name of the file without its ending", _stem),
)
