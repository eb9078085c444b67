"""What is wrong with parts of a truth: counted, and told with the first of each kind."""

from __future__ import annotations

from collections import Counter
from enum import Enum

from shardcam.engine.types import counted

_LONGEST = 80  # characters of an example


class Problem(Enum):
    """What is wrong with a part of a truth: what it is, and what became of it."""

    FORM = ("row", "left out, not of the form of the others")
    NUMBERS = ("region", "left out, a side of the box is no finite number")
    SHARES = ("region", "left out, in shares of the picture where others are in pixels")
    INVERTED = ("region", "left out, x1 < x0 or y1 < y0")
    EMPTY = ("region", "left out, the box is empty")
    OUTSIDE = ("region", "left out, the box lies outside of the picture")
    CUT = ("region", "cut where the picture ends")
    CLASS = ("region", "left out, of classes that the run does not know, or has several of")
    UNLABELLED = ("region", "left out, of the class of a picture without a label")
    TWICE = ("region", "left out, given twice")
    MASK = ("mask", "left out, not readable")
    MASK_SIZE = ("mask", "left out, of another shape than the picture")
    EMPTY_MASK = ("mask", "left out, no pixel is set")
    OTHER_SIZE = ("picture", "left out, of another shape than the truth says")
    SCALED = ("picture", "of another size than the truth says: what is known was scaled")
    NOT_FOUND = ("name", "not that of a picture of the run")
    SEVERAL = ("name", "left out, they belong to several pictures, or several to one")
    NO_TRUTH = ("picture", "of the run without a truth")
    SAME = ("image", "of a name that another one has: taken together")
    FILE = ("file", "left out")
    FOLDER = ("linked folder", "not entered")
    SIZE = ("size", "left out, not that of a picture")


class Problems:
    """Counts what is wrong."""

    def __init__(self) -> None:
        self._counts: Counter[Problem] = Counter()
        self._first: dict[Problem, str] = {}

    def met(self, problem: Problem, example: str, count: int = 1) -> None:
        """Count so many more of a kind."""
        if count:
            self._counts[problem] += count
            self._first.setdefault(problem, example)

    def show(self, problem: Problem, example: str) -> None:
        """Tell something else than the first of a kind, if there is any."""
        if problem in self._first and example:
            self._first[problem] = example

    def __contains__(self, problem: Problem) -> bool:
        return problem in self._counts

    def lines(self) -> list[str]:
        """A line for each kind."""
        found = ((problem, self._first[problem]) for problem in Problem if self._counts[problem])
        return [_line(problem, self._counts[problem], example) for problem, example in found]


def _line(problem: Problem, count: int, example: str) -> str:
    noun, what = problem.value
    shown = example if len(example) <= _LONGEST else f"{example[:_LONGEST]}..."
    return f"{counted(count, noun)} {what}, the first: {shown}"
