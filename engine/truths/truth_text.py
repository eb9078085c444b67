"""Truth in text: a table of boxes, or wsolevaluation's metadata."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from shardcam.engine.errors import SourceError
from shardcam.engine.truths.mask_shapes import PngMask
from shardcam.engine.truths.truth import EMPTY, IGNORED, Sides
from shardcam.engine.truths.truth_files import TruthFiles, lines
from shardcam.engine.truths.truth_masks import look_at
from shardcam.engine.truths.truth_problems import Problem
from shardcam.engine.truths.truth_rows import LABEL, NO_BOX, TruthRows
from shardcam.engine.types import NO_CLASS

_SIDES = ("x0", "y0", "x1", "y1")
_HEADS = {
    "key": ("key", "path", "image", "image_id", "imageid", "filename", "file_name", "file", "name"),
    "class": ("class", "label", "category", "class_name", "class_id", "category_id"),
    "x0": ("x0", "xmin", "x_min"),
    "y0": ("y0", "ymin", "y_min"),
    "x1": ("x1", "xmax", "x_max"),
    "y1": ("y1", "ymax", "y_max"),
}
_TABLE, _BOXES = ("key", "class", *_SIDES), ("key", *_SIDES)  # without a head
EXAMPLE = "key,class,x0,y0,x1,y1, as in cats/1.jpg,tabby,10,20,110,95"


def read_table(path: Path, rows: TruthRows, read: TruthFiles) -> str:
    """Boxes, one in each line: of what format they are.

    A table has the columns ``key,class,x0,y0,x1,y1`` in this order, or others with a head that
    names these; x1 and y1 are behind the last pixel. Without a class, ``key,x0,y0,x1,y1``, it is
    wsolevaluation's, see `read_wsol`.

    Raises
    ------
    SourceError
        It is no such table.
    """
    texts = lines(path, read)
    number, first = next(texts, (0, ""))
    separator, columns, headed = _columns(path, first)
    if not headed:
        texts = _again(number, first, texts)
        if columns == _BOXES or columns == ():
            return _read_wsol(path, texts, separator, rows, read)
    at = {column: i for i, column in enumerate(columns)}
    sides, key, cls = [at[side] for side in _SIDES], at["key"], at.get("class")
    for number, text in texts:
        parts = _split(text, separator)
        if len(parts) != len(columns):
            rows.met(Problem.FORM, f"line {number}: {text}")
            continue
        label = LABEL if cls is None else rows.cls(parts[cls].strip())
        box = _sides([parts[side] for side in sides])
        rows.add(rows.picture(parts[key].strip()), label, box, number)
    return "table of boxes"


def read_wsol(folder: Path, rows: TruthRows, read: TruthFiles, masks: Path | None = None) -> str:
    """The folder of ``localization.txt`` of wsolevaluation.

    Lines are ``path,x0,y0,x1,y1``, where x1 and y1 may be the last pixel or the one behind it:
    they are kept as they are; or ``path,mask.png,ignore.png``, files below `masks` or, by
    default, that folder. Beside it ``class_labels.txt`` has the class of each picture, else it is
    the picture's label in the run, and ``image_sizes.txt`` its width and height.
    """
    path = folder / "localization.txt"
    texts = lines(path, read)
    return _read_wsol(path, texts, ",", rows, read, masks)


def _read_wsol(
    path: Path,
    texts: Iterator[tuple[int, str]],
    separator: str,
    rows: TruthRows,
    read: TruthFiles,
    masks: Path | None = None,
) -> str:
    rows.last_pixel = True
    labels = _labels(path.with_name("class_labels.txt"), rows, read)
    _read_sizes(path.with_name("image_sizes.txt"), rows, read)
    found: list[tuple[int, str, list[str]]] = []
    for number, text in texts:
        name, *parts = (part.strip() for part in _split(text, separator))
        if len(parts) == 4:
            rows.add(rows.picture(name), labels.get(name, LABEL), _sides(parts), number)
        elif len(parts) in (1, 2) and parts[0].lower().endswith(".png"):
            found.append((number, name, parts))
        else:
            rows.met(Problem.FORM, f"line {number}: {text}")
    if found:
        _read_masks(found, rows, labels, TruthFiles(masks or path.parent), read)
    return "wsolevaluation's metadata"


def _read_masks(
    found: list[tuple[int, str, list[str]]],
    rows: TruthRows,
    labels: dict[str, int],
    images: TruthFiles,
    read: TruthFiles,
) -> None:
    names = list(dict.fromkeys(part for _, _, parts in found for part in parts if part))
    seen = look_at(names, images, rows, read)
    if not seen:
        raise SourceError(
            f"{rows.where}: none of its masks can be read in {images.root} "
            f"({rows.problem_words()}); name their folder behind ::"
        )
    for number, name, (mask, *ignored) in found:
        picture, label = rows.picture(name), labels.get(name, LABEL)
        if one := seen.get(mask):
            if one.values == {0}:
                rows.met(Problem.EMPTY_MASK, mask)
            flags = EMPTY if one.values == {0} else 0
            rows.add(picture, label, NO_BOX, number, PngMask(one.path, one.size), flags)
        for other in filter(None, ignored):
            if (one := seen.get(other)) and one.values != {0}:
                shape = PngMask(one.path, one.size)
                rows.add(picture, NO_CLASS, NO_BOX, number, shape, IGNORED)


def _labels(path: Path, rows: TruthRows, read: TruthFiles) -> dict[str, int]:
    labels = {}
    for number, text in lines(path, read) if path.exists() else ():
        name, _, label = text.rpartition(",")
        if name:
            labels[name.strip()] = rows.cls(label.strip())
        else:
            rows.met(Problem.FORM, f"{path.name}, line {number}: {text}")
    return labels


def _read_sizes(path: Path, rows: TruthRows, read: TruthFiles) -> None:
    for number, text in lines(path, read) if path.exists() else ():
        name, *sides = text.rsplit(",", 2)
        try:
            width, height = (int(side) for side in sides)
            rows.picture(name.strip(), (height, width))
        except ValueError:
            rows.met(Problem.FORM, f"{path.name}, line {number}: {text}")


def _columns(path: Path, first: str) -> tuple[str, tuple[str, ...], bool]:
    """What separates columns, what they are, () for masks, and whether a head says so."""
    for separator in ",;\t":
        parts = [part.strip() for part in _split(first, separator)]
        if heads := _heads([part.lower() for part in parts]):
            return separator, heads, True
        for columns in (_TABLE, _BOXES):
            if len(parts) == len(columns) and any(map(_is_number, parts[-4:])):
                return separator, columns, False
        if len(parts) in (2, 3) and parts[1].lower().endswith(".png"):
            return separator, (), False
    raise SourceError(
        f"{path}, line 1: neither a table of boxes nor another form of truth that is known; "
        f"a line of a table is {EXAMPLE}"
    )


def _heads(names: list[str]) -> tuple[str, ...]:
    """The columns of a head; () if it does not name those of boxes."""
    columns = ["", *names][1:]
    for column, others in _HEADS.items():
        if found := next((name for name in others if name in names), None):
            columns[names.index(found)] = column
    whole = all(columns.count(column) == 1 for column in ("key", *_SIDES))
    return tuple(columns) if whole and columns.count("class") <= 1 else ()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _again(number: int, text: str, texts: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    yield number, text
    yield from texts


def _split(text: str, separator: str) -> list[str]:
    """Each line by itself: a quote that is not closed does not reach into others."""
    if '"' not in text:
        return text.split(separator)
    try:
        return next(csv.reader([text], delimiter=separator, strict=True))
    except csv.Error:
        return [text]


def _sides(texts: list[str]) -> Sides:
    try:
        x0, y0, x1, y1 = map(float, texts)
    except ValueError:
        return NO_BOX
    return x0, y0, x1, y1
