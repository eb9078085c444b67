"""What a label means: one rule for every kind of source."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from math import isnan, prod
from typing import Any

import numpy as np

from shardcam.engine.readers.location import key_text
from shardcam.engine.types import NO_LABEL, Note, SourceNotes, counted

LabelData = Callable[[int], Iterator[Any]]
"""From the number of pictures to what is said of each; SourceError if that is of more or fewer."""

LIMIT = 2**31  # labels are stored as int32
_WORDS = {"true": 1, "false": 0}  # as pandas writes a column of truth values
_NOTHING = {"na", "<na>", "n/a", "#n/a", "nan", "<nan>", "nat", "null", "none", "nil"}  # as text
_NOT_NAMES = re.compile(r"[-+0-9\s.,:;/%]*|[\[{].*", re.DOTALL)  # of classes
_LIKE_LABELS = re.compile(
    r"(.*[^a-z])?(labels?|targets?|class(es|name|id)?|cls|categor(y|ies))([^a-z].*)?"
    r"|y([^a-z](train|test|val|true))?"
)
_LONGEST = 100  # characters of a value in a message


@dataclass(frozen=True)
class Names:
    """Classes by what they are called."""

    classes: Mapping[str, Sequence[int]] = field(default_factory=dict)  # several can share one
    file: str = ""  # that names them, for messages; empty: there is none
    printed: Mapping[str, Sequence[int]] = field(default_factory=dict)  # what a run calls them

    def of(self, name: str) -> int | None:
        """The class of that name; None: there is none, or several."""
        found = self._called(name)
        return found[0] if len(found) == 1 else None

    def problem(self, name: str) -> str:
        """Why `of` knows no class of that name."""
        found = self._called(name)
        if len(found) > 1:
            return f"the classes {' and '.join(map(str, found))} are both called so; give numbers"
        if self.file:
            return f"not a name in --labels {self.file}"
        return "--labels FILE gives classes their names"

    def _called(self, name: str) -> Sequence[int]:
        return self.classes.get(name) or self.printed.get(name, ())


class Labels:
    """From what a source says of a picture to its class; what is not understood is counted.

    Whole numbers of 0 or more count, however they are written (``3``, ``3.0``, ``"03"``,
    true), and so do names. None, an empty text, NaN, -1 and, unless a class is
    called so, the words for them (``NA``, ``NULL``) are no label.

    Parameters
    ----------
    names
        Gives the names; is called at the first label that is not a number.
    """

    def __init__(self, names: Callable[[], Names] = Names) -> None:
        self._load = names
        self.forget()

    def forget(self) -> None:
        """Count from none again: the source is listed anew."""
        self._names: Names | None = None
        self._unknown = 0
        self._first = ""
        self.none = True  # of those met was understood, and none refused

    @property
    def names(self) -> Names:
        if self._names is None:
            self._names = self._load()
        return self._names

    def of(self, value: Any, *place: object) -> int:
        """The class that `value` gives, or NO_LABEL; `place` are words that say where it is."""
        plain = type(value) is int and NO_LABEL <= value < LIMIT
        label = value if plain else self.understood(value)
        if label != NO_LABEL:
            self.none = False
        if label is not None:
            return label
        if not self._unknown:
            self._first = self._told(_plain(value), " ".join(map(str, place)))
        self._unknown += 1
        return NO_LABEL

    def understood(self, value: Any) -> int | None:
        """The same, uncounted; None: it is not understood."""
        value = _plain(value)
        label = _class(_number(value))
        if label is None and isinstance(value, str):
            label = self.names.of(value)
            if label is None:
                label = NO_LABEL if value.lower() in _NOTHING else _WORDS.get(value.lower())
        return label

    def met(self) -> SourceNotes:
        """How many labels were not understood, and what to do about it."""
        notes: tuple[Note, ...] = ()
        if self._unknown:
            were = "was" if self._unknown == 1 else "were"
            told = f"{counted(self._unknown, 'label')} {were} not understood"
            notes = (Note("labels", f"{told}, the first {self._first}"),)
        return SourceNotes(notes, named=self._names is not None)

    def _told(self, value: Any, place: str) -> str:
        if not isinstance(_number(value), str):
            remedy = "a label is a whole number of 0 or more"
        else:
            remedy = self.names.problem(value)
            if _NOT_NAMES.fullmatch(value):
                remedy = "a label is a whole number of 0 or more, or the name of a class"
        return f"{shown(value)} ({place}): {remedy}"


def like_label(name: str) -> bool:
    """Whether a column or a dataset that is called so probably holds labels."""
    return _LIKE_LABELS.fullmatch(name.strip().lower()) is not None


def one_each(shape: tuple[int, ...], dtype: np.dtype[Any], count: int) -> bool:
    """Whether an array has a label for each of `count` pictures: (N,), (N,1), (N,1,1,1) ..."""
    return len(shape) > 0 and shape[0] == prod(shape) == count and dtype.kind in "biufSUO"


def shown(value: object) -> str:
    """A value for a message, on one line."""
    text = key_text(repr(value))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _plain(value: Any) -> Any:
    """A value without what it is wrapped in; texts without the blanks around them."""
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    return value.strip() or None if isinstance(value, str) else value


def _number(value: Any) -> Any:
    """The number that a text is, in ASCII; other values as they are."""
    if not isinstance(value, str) or not value.isascii() or "_" in value:
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _class(value: Any) -> int | None:
    """The class that a number is, or NO_LABEL; None: it is not understood."""
    if value is None or (isinstance(value, (float, Decimal)) and isnan(value)):
        return NO_LABEL
    if isinstance(value, (int, float, Decimal)) and NO_LABEL <= value < LIMIT:
        return int(value) if value == int(value) else None
    return None
