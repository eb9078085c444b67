"""Which class of a network a truth means, by number or by name."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from shardcam.engine.config import RunConfig
from shardcam.engine.run.class_names import kept_class_names, unnamed
from shardcam.engine.run.class_numbers import class_numbers
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.types import NO_CLASS

VOC = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
_MOST_NAMED = 1 << 20  # classes: `count` may be a bound, where the run does not say how many
_NUMBER = re.compile(r"(?:class )?(\d{1,9})(?:\.0*)?")  # as exports name classes without a name
_WITH_WNID = re.compile(r"(n\d{8})\s+(.+)")
_PLAIN = re.compile(r"[\s_-]+")


@dataclass
class TruthClasses:
    """The classes of a network, by what a truth calls them.

    Parameters
    ----------
    count
        How many there are.
    names
        What each is called, as far as it has a name.
    others
        Further names: wnids, class folders.
    """

    count: int
    names: dict[int, str] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        exact, plain = defaultdict[str, set[int]](set), defaultdict[str, set[int]](set)
        for number, name in self.names.items():
            found = _WITH_WNID.fullmatch(name)
            for one in (name, *(found.groups() if found else ())):
                exact[one].add(number)
                plain[_plain(one)].add(number)
        self._exact = self.others | {name: min(n) for name, n in exact.items() if len(n) == 1}
        self._plain = {name: min(n) for name, n in plain.items() if len(n) == 1}
        self.assumed_voc = False

    def of(self, value: object) -> int:
        """The class that a number or a name means; NO_CLASS: none, or one of several.

        Names are taken letter for letter; else capitals, spaces, ``_`` and ``-`` do not matter. A
        network of 20 classes without any name has those of PASCAL VOC in sorted order.
        """
        text = str(value).strip()
        found = self._exact.get(text)
        if found is None and (number := _NUMBER.fullmatch(text)):
            found = int(number[1]) if int(number[1]) < self.count else NO_CLASS
        if found is None:
            found = self._plain.get(_plain(text))
        if found is None and not self.named and self.count == len(VOC) and text in VOC:
            self.assumed_voc = True
            found = VOC.index(text)
        return NO_CLASS if found is None else found

    def number(self, value: int) -> int:
        """A class by its number; NO_CLASS if the network does not have so many."""
        return value if 0 <= value < self.count else NO_CLASS

    @property
    def named(self) -> bool:
        """Whether any class has a name."""
        return bool(self.names or self.others)

    @property
    def has_background(self) -> bool:
        """Whether class 0 is what lies around objects."""
        return _plain(self.names.get(0, "")) == "background"


def run_classes(
    run_dir: RunDir, config: RunConfig, count: int, folders: Mapping[str, int]
) -> TruthClasses:
    """The classes of a run's network, by what the run calls them.

    That are the names that it keeps, wnids if there are 1000 classes, and the names of its class
    `folders`.

    Raises
    ------
    RunDirectoryError, StoreError
        The names are damaged, or cannot be read now.
    """
    name_of: Callable[[int], str] = kept_class_names(run_dir, config) or unnamed
    return named_classes(config, count, name_of, folders)


def named_classes(
    config: RunConfig, count: int, name_of: Callable[[int], str], folders: Mapping[str, int]
) -> TruthClasses:
    """The same of a network whose classes are called as `name_of` says."""
    asked = range(min(count, _MOST_NAMED))
    names = {n: name for n in asked if (name := name_of(n)) != unnamed(n)}
    known = class_numbers(config.model_copy(update={"labels": None}), count)
    wnids = {name: numbers[0] for name, numbers in known.classes.items()}
    return TruthClasses(count, names, {**folders} | wnids)


def _plain(name: str) -> str:
    return _PLAIN.sub("", name).casefold()
