"""Labels of a source against the classes of a network."""

from __future__ import annotations

from collections.abc import Iterator

from shardcam.engine.errors import ConfigError
from shardcam.engine.readers.labels import Names
from shardcam.engine.rundir.listing import ListingFacts
from shardcam.engine.types import Note, counted


def require_labels(facts: ListingFacts) -> None:
    """Refuse to explain the labels of a source that has none.

    Raises
    ------
    ConfigError
        It says what was found in their place.
    """
    if not facts.labelled:
        met = [text for kind, text in facts.notes if kind == "labels"]
        why = "; ".join(met) or (
            "folders need --label-from-folder, arrays --label-data, manifests a column 'label', "
            "tar files a .cls or .json beside each image"
        )
        raise ConfigError(f"--target label: no sample has a label ({why})")


def label_notes(facts: ListingFacts, classes: int, names: Names) -> Iterator[Note]:
    """What to tell of labels, for a network of so many classes that are called so."""
    if 0 < facts.labelled < facts.samples:
        have = "has" if facts.labelled == 1 else "have"
        yield Note("labels", f"{facts.labelled} of {facts.samples} images {have} a label")
    if _is_by_position(facts.classes, names):
        if len(facts.classes) != classes:
            yield Note(
                "warning",
                f"{counted(len(facts.classes), 'class folder')}, but the network has "
                f"{counted(classes, 'class')}: the "
                "position of a folder is its class only if there is one for each; name the "
                "folders by class numbers, or by names of a --labels file",
            )
        return
    what = "the class folders are numbered" if facts.classes else "the labels are"
    found = facts.classes.values() or facts.label_range
    low, high = min(found, default=0), max(found, default=0)
    if high >= classes:
        span = f"{low} to {high}" if low < high else f"{low}"
        text = f"{what} {span}, but the network has classes 0 to {classes - 1}"
        if high == classes > low > 0:
            text += "; if they are counted from 1, take 1 off each"
        yield Note("warning", text)
    elif _is_by_number(facts.classes) and {*facts.classes.values()} == {*range(1, high + 1)} != {1}:
        yield Note(
            "warning",
            f"{what} 1 to {high}, but classes are counted from 0; if these are counted from 1, "
            "take 1 off each",
        )


def _is_by_number(folders: dict[str, int]) -> bool:
    return bool(folders) and all(name.isdecimal() for name in folders)


def _is_by_position(folders: dict[str, int], names: Names) -> bool:
    """Whether folders have their positions for classes; see `number_folders` of the readers."""
    in_order = [folders[name] for name in sorted(folders)] == [*range(len(folders))]
    if not folders or not in_order or _is_by_number(folders):
        return False
    return any(names.of(name) != number for name, number in folders.items())
