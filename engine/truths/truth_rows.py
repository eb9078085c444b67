"""From what the files of a truth say to what is known of the pictures of a run."""

from __future__ import annotations

import hashlib
import json
from array import array
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.errors import SourceError
from shardcam.engine.io.plain_text import printable
from shardcam.engine.truths.mask_shapes import StoredMask
from shardcam.engine.truths.truth import EMPTY, IGNORED, Sides, Truth, TruthArrays
from shardcam.engine.truths.truth_classes import TruthClasses
from shardcam.engine.truths.truth_pictures import NOWHERE, SEVERAL, Pictures, matched
from shardcam.engine.truths.truth_problems import Problem, Problems
from shardcam.engine.types import I4, NO_CLASS, Note, counted

Array = npt.NDArray[Any]
LABEL = -2  # in place of a class: that of the picture in the run
NO_BOX: Sides = (np.nan,) * 4
_FACTOR, _SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(29)  # of a hash
_ALIKE = 0.02  # by how much the shapes of two sizes of one picture can differ
_SHOWN = 5
_NEARLY = 0.1  # by how much a box in shares can leave its picture
_NOTHING = 0.5  # pixels that a box can reach beyond its picture, untold


class TruthRows:
    """Collects regions, compactly, and what is wrong with them.

    Parameters
    ----------
    where
        The file or folder, as messages call it.
    pictures, classes
        Those of the run.
    last_pixel
        Whether x1 and y1 are the last pixel of a box, so that it has one where they are x0 and y0.
    """

    def __init__(
        self, where: str, pictures: Pictures, classes: TruthClasses, last_pixel: bool = False
    ) -> None:
        self.where, self.pictures, self.classes = where, pictures, classes
        self.last_pixel = last_pixel
        self.numbered = "row"  # what the number of a region is, for messages
        self.assumed: list[str] = []
        self._numbers = pictures.numbers
        self._others: dict[str, int] = {}  # names that are no picture's
        self._named = np.zeros(len(pictures.keys), np.bool_)
        self._sizes: dict[int, tuple[int, int]] = {}
        self._classes: dict[Any, int] = {}
        self._picture, self._label, self._mask = array("i"), array("i"), array("i")
        self._box, self._flags, self._row = array("d"), array("B"), array("q")
        self._masks: dict[StoredMask, int] = {}
        self._problems = Problems()

    def __len__(self) -> int:
        return len(self._label)

    def picture(self, name: str, size: tuple[int, int] | None = None) -> int:
        """The number of a picture that the truth names; its height and width as the truth says."""
        number = self._numbers.get(name)
        if number is None:
            number = -1 - self._others.setdefault(name, len(self._others))
        else:
            self._named[number] = True
        if size is not None:
            self._sizes[number] = size
        return number

    def named(self, number: int) -> str:
        """The picture of a number, for messages."""
        if number >= 0:
            return self.pictures.keys[number]
        return next(name for name, other in self._others.items() if other == -1 - number)

    def cls(self, value: Any) -> int:
        """The class that a number or a name means, NO_CLASS if the run does not know it."""
        found = self._classes.get(value)
        if found is None:
            found = self._classes[value] = self.classes.of(value)
        return found

    def learn(self, value: Any, number: int) -> None:
        """Say which class a value of `cls` is."""
        self._classes[value] = number

    def add(
        self,
        picture: int,
        label: int,
        box: Sides = NO_BOX,
        row: int = 0,
        mask: StoredMask | None = None,
        flags: int = 0,
    ) -> None:
        """A region: of a class, of NO_CLASS, or of that of its picture (LABEL).

        `row` is its line or number in the file, for messages; 0 where it has none.
        """
        self._picture.append(picture)
        self._label.append(label)
        self._box.extend(box)
        self._row.append(row)
        self._flags.append(flags)
        number = -1 if mask is None else self._masks.setdefault(mask, len(self._masks))
        self._mask.append(number)

    def met(self, problem: Problem, example: str, count: int = 1) -> None:
        """Count what is wrong with a part of the truth."""
        self._problems.met(problem, example, count)

    def truth(self, form: str, digest: str) -> Truth:
        """What is known of the pictures of the run.

        Raises
        ------
        SourceError
            Nothing is, or the boxes are not in pixels.
        """
        if self.classes.assumed_voc:
            self.assumed.append("the run has no names of classes: VOC's 20 in sorted order")
        picture, ways = self._pictures_meant()
        size, scale = self._true_sizes()
        label, box = _np(self._label, np.int32), _np(self._box, np.float64).reshape(-1, 4)
        mask, flags = _np(self._mask, np.int32), _np(self._flags, np.uint8)
        left = _Left(self, picture)
        left.out(Problem.SHARES, self._shares(box))
        alone = (mask >= 0) | (flags & EMPTY > 0)  # needs no box
        alone &= np.isnan(box).all(axis=1)
        self._leave_out_misshapen(left, box, alone)
        counts = flags & (IGNORED | EMPTY) == 0
        left.out(Problem.CLASS, (label == NO_CLASS) & counts)
        left.rows &= picture >= 0
        label = np.where(label == LABEL, self.pictures.labels[picture], label)
        left.out(Problem.UNLABELLED, (label == NO_CLASS) & counts)
        left.rows &= ~np.isnan(scale[picture, 0])
        box *= scale[picture][:, [1, 0, 1, 0]]
        self._cut(left, box, size[picture])
        left.out(Problem.MASK_SIZE, self._misfit(left.rows, mask, size[picture]))
        known = np.flatnonzero(left.rows)
        known = known[np.argsort(picture[known], kind="stable")]
        known = self._once(left, known, picture, label, box, mask, flags)
        names = {name: number for name, number in self._numbers.items() if self._named[number]}
        regions = int(np.count_nonzero(flags[known] & EMPTY == 0))
        if not regions:
            raise SourceError(self._nothing(len(names)))
        missing = [name for name, number in self._numbers.items() if not self._named[number]]
        self.met(Problem.NO_TRUTH, missing[0] if missing else "", len(missing))
        used, numbers = np.unique(mask[known], return_inverse=True)
        masks = list(self._masks)
        kept = tuple(masks[number] for number in used.tolist() if number >= 0)
        arrays = TruthArrays(
            first=np.searchsorted(picture[known], np.arange(len(size) + 1)),
            size=size,
            label=label[known].astype(np.int32),
            box=box[known],
            mask=(numbers.reshape(-1) - int(used[0] < 0)).astype(np.int32),
            flags=flags[known],
        )
        told = f"{form}: {counted(regions, 'region')} in {counted(len(names), 'picture')}"
        lines = [f"{told} of {len(self._numbers)}", *self.assumed]
        lines += [f"{counted(n, 'picture')} found by {how}" for how, n in ways.items()]
        notes = tuple(Note("truth", printable(line)) for line in (*lines, *self._problem_lines()))
        return Truth(form, self._digest(form, digest), notes, names, arrays, kept)

    def _pictures_meant(self) -> tuple[I4, dict[str, int]]:
        """(N,) the picture of each region; and how names were found that are none."""
        others = list(self._others)
        taken = set(np.flatnonzero(self._named).tolist())
        found, ways = matched(others, self._numbers, taken) if others else ([], {})
        for problem, what in ((Problem.NOT_FOUND, NOWHERE), (Problem.SEVERAL, SEVERAL)):
            lost = [name for name, number in zip(others, found, strict=True) if number == what]
            self.met(problem, lost[0] if lost else "", len(lost))
        meant = np.array(found, np.int32)
        self._named[meant[meant >= 0]] = True
        for other, number in enumerate(found):
            if (size := self._sizes.pop(-1 - other, None)) and number >= 0:
                self._sizes[number] = size
        picture = _np(self._picture, np.int32).copy()  # messages need what there was
        named = picture < 0
        picture[named] = meant[-1 - picture[named]]
        return picture, ways

    def _true_sizes(self) -> tuple[I4, npt.NDArray[np.float64]]:
        """(P,2) of each picture, and by how much what is said of it is scaled: NaN, left out."""
        size, scale = self.pictures.size.copy(), np.ones((len(self._named), 2))
        for number, said in self._sizes.items():
            seen = tuple(size[number].tolist())
            if not seen[0]:
                size[number] = said
            elif seen != said:
                alike = _alike(seen, said)
                scale[number] = np.divide(seen, said) if alike else np.nan
                words = f"{self.named(number)}, {_size(said)} there and {_size(seen)} here"
                self.met(Problem.SCALED if alike else Problem.OTHER_SIZE, words)
        return size, scale

    def _shares(self, box: Array) -> Array:
        """Which boxes are in shares of the picture: all sides within 0 and 1, and not all whole."""
        finite = np.isfinite(box).all(axis=1)
        with np.errstate(invalid="ignore"):
            inside = finite & (box >= -_NEARLY).all(axis=1) & (box <= 1 + _NEARLY).all(axis=1)
            some = bool((box[inside] % 1 > 0).any())
        if some and inside.sum() == finite.sum():
            raise SourceError(
                f"{self.where}: no side of a box is larger than 1: shares of the picture; give "
                "pixels"
            )
        shares: Array = inside & some
        return shares

    def _leave_out_misshapen(self, left: _Left, box: Array, alone: Array) -> None:
        with np.errstate(invalid="ignore"):
            across, down = box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]
        left.out(Problem.NUMBERS, ~np.isfinite(box).all(axis=1) & ~alone)
        left.out(Problem.INVERTED, (across < 0) | (down < 0))
        if not self.last_pixel:
            left.out(Problem.EMPTY, (across == 0) | (down == 0))

    def _cut(self, left: _Left, box: Array, size: I4) -> None:
        """Cut boxes where their picture ends, if its size is known."""
        ends = np.where(size > 0, size, np.inf)[:, [1, 0]]
        start, end = box[:, :2], box[:, 2:]
        before = end < 0 if self.last_pixel else end <= 0
        left.out(Problem.OUTSIDE, (before | (start >= ends)).any(axis=1))
        with np.errstate(invalid="ignore"):
            beyond = np.maximum(-start, end - ends).max(axis=1)
        left.tell(Problem.CUT, beyond > _NOTHING)
        np.maximum(start, 0, out=start)
        np.minimum(end, ends, out=end)

    def _misfit(self, rows: Array, mask: I4, size: I4) -> Array:
        """Which regions have a mask of another shape than their picture."""
        masks, misfit = list(self._masks), np.zeros(len(mask), np.bool_)
        for row in np.flatnonzero(rows & (mask >= 0) & (size[:, 0] > 0)).tolist():
            height, width = size[row].tolist()
            misfit[row] = not _alike(masks[mask[row]].size, (height, width))
        return misfit

    def _once(self, left: _Left, known: Array, *columns: Array) -> Array:
        """Those regions that no earlier one is equal to."""
        flat = [part for column in columns for part in np.atleast_2d(column.T)]
        hashes = np.zeros(len(known), np.uint64)
        for part in flat:
            hashes = (hashes ^ hashes >> _SHIFT) * _FACTOR + _bits(part[known])
        _, first, which = np.unique(hashes, return_index=True, return_inverse=True)
        before = known[first[which.reshape(-1)]]
        same = before != known
        for part in flat:
            same &= _bits(part[before]) == _bits(part[known])
        twice = np.zeros(len(left.rows), np.bool_)
        twice[known[same]] = True
        left.out(Problem.TWICE, twice)
        kept: Array = known[~same]
        return kept

    def row_words(self, i: int) -> str:
        """Which region it is, for messages."""
        name, row = self.named(self._picture[i]), self._row[i]
        return f"{name}, {self.numbered} {row}" if row else name

    def problem_words(self) -> str:
        """What was wrong so far."""
        return "; ".join(self._problem_lines())

    def _problem_lines(self) -> list[str]:
        unknown = (str(value) for value, number in self._classes.items() if number == NO_CLASS)
        self._problems.show(Problem.CLASS, ", ".join(islice(unknown, _SHOWN)))
        return self._problems.lines()

    def _nothing(self, names: int) -> str:
        """Why nothing is known."""
        problems = self._problem_lines()
        if not names and self.pictures.keys and len(self):
            problems.insert(0, f"the first picture of the run is {self.pictures.keys[0]}")
        if Problem.UNLABELLED in self._problems:
            problems.append(
                "extract with labels (a manifest with a column label, --label-from-folder), or "
                "give a truth that names classes, such as masks with ::from-1"
            )
        why = "; ".join(problems) or "it is empty"
        return f"{self.where}: no object of a class of the run in any of its pictures: {why}"

    def _digest(self, form: str, digest: str) -> str:
        classes = sorted((str(value), number) for value, number in self._classes.items())
        return hashlib.sha256(json.dumps([form, digest, classes]).encode()).hexdigest()


class _Left:
    """Which regions are left, of those that were read."""

    def __init__(self, table: TruthRows, picture: I4) -> None:
        self.rows = np.ones(len(picture), np.bool_)
        self._table = table

    def out(self, problem: Problem, bad: Array) -> None:
        """Leave some out."""
        self.tell(problem, bad)
        self.rows &= ~bad

    def tell(self, problem: Problem, which: Array) -> None:
        """Tell of some of those that are left."""
        found = np.flatnonzero(which & self.rows)
        if len(found):
            self._table.met(problem, self._table.row_words(int(found[0])), len(found))


def _alike(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two sizes can be of one picture, made smaller or larger."""
    return abs(one[0] * other[1] / (one[1] * other[0]) - 1) <= _ALIKE


def _size(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"


def _np(values: array[Any], dtype: type) -> Array:
    """The same memory."""
    return np.frombuffer(values, dtype) if len(values) else np.empty(0, dtype)


def _bits(values: Array) -> npt.NDArray[np.uint64]:
    """The same for equal numbers, NaN included."""
    return (values.astype(np.float64) + 0.0).view(np.uint64)
