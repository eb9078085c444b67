"""Truth in COCO's JSON: boxes, polygons and run lengths."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shardcam.engine.errors import SourceError
from shardcam.engine.truths.mask_shapes import (
    Outlines,
    RunLengths,
    packed_polygons,
    require_size,
    run_lengths,
)
from shardcam.engine.truths.truth import EMPTY, IGNORED, Sides
from shardcam.engine.truths.truth_files import TruthFiles, read_whole
from shardcam.engine.truths.truth_problems import Problem
from shardcam.engine.truths.truth_rows import NO_BOX, TruthRows
from shardcam.engine.types import NO_CLASS

LARGEST = 1 << 31  # bytes
_PARTS = ("images", "annotations", "categories")
_WANTED = 'COCO\'s {"images": [...], "annotations": [...], "categories": [...]}'
_Id = int | float | str
_Shape = tuple[bytes, ...] | RunLengths | str | None


@dataclass
class _Entries:
    """What the file has, each made small as soon as it is parsed."""

    annotations: list[tuple[Any, ...]] = field(default_factory=list)

    def smaller(self, entry: dict[str, Any]) -> Any:
        if "image_id" not in entry or "category_id" not in entry:
            return entry
        number, sides = len(self.annotations), entry.get("bbox")
        if isinstance(sides, list):
            sides = tuple(sides[:5])
        crowd = bool(entry.get("iscrowd") or entry.get("ignore"))
        self.annotations.append(
            (
                entry["image_id"],
                entry["category_id"],
                sides,
                _shape(entry.get("segmentation")),
                crowd,
                entry.get("id"),
            )
        )
        return number


def read_coco(path: Path, rows: TruthRows, read: TruthFiles) -> str:
    """Objects with ``bbox`` x, y, width, height, so that x1 and y1 are behind the last pixel.

    Their masks are within polygons or of run lengths, compressed or not. Those of ``iscrowd`` do
    not count. Pictures are meant by ``file_name``, else by the end of ``coco_url``. Categories are
    classes by name; by number only where the run has no names.

    Raises
    ------
    SourceError
        It is no such file.
    """
    entries = _Entries()
    stored = _stored(path, read, entries)
    if not isinstance(stored, dict) or not all(
        isinstance(stored.get(part), list) for part in _PARTS
    ):
        there = ", ".join(map(str, stored))[:200] if isinstance(stored, dict) else "a list"
        raise SourceError(f"{path}: not {_WANTED}, but {there or 'nothing'}")
    sizes, pictures = _images(stored["images"], rows)
    classes = _categories(stored["categories"], rows)
    seen = [n for n in stored["annotations"] if type(n) is int and n < len(entries.annotations)]
    lost = len(stored["annotations"]) - len(seen)
    rows.met(Problem.FORM, "an annotation without image_id or category_id", lost)
    empty = dict.fromkeys(pictures.values())  # but for those that have objects
    for number in seen:
        image, category, sides, shape, crowd, name = entries.annotations[number]
        row = name if type(name) is int and abs(name) < 1 << 63 else number
        picture = pictures.get(image) if isinstance(image, _Id) else None
        if picture is None:
            rows.met(Problem.FORM, f"annotation {name}: no image has the id {image}")
            continue
        mask = _mask(shape, sizes.get(image), f"annotation {name}", rows)
        label = classes.get(category, NO_CLASS) if isinstance(category, _Id) else NO_CLASS
        box = NO_BOX if sides is None and mask is not None else _sides(sides)
        rows.add(picture, label, box, row, mask, IGNORED if crowd else 0)
        if not crowd:
            empty.pop(picture, None)
    for picture in empty:
        rows.add(picture, NO_CLASS, flags=EMPTY)
    return "COCO"


def _stored(path: Path, read: TruthFiles, entries: _Entries) -> Any:
    data = read_whole(path, LARGEST)
    read.hash(path.name, data)
    try:
        text = data.decode("utf-8-sig")
        del data
        return json.loads(text, object_hook=entries.smaller)
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: not UTF-8: {error.reason}; save it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise SourceError(f"{path}: damaged JSON: {reason[:200]}; {_WANTED} is read") from None


def _images(images: list[Any], rows: TruthRows) -> tuple[dict[_Id, Any], dict[_Id, int]]:
    """Sizes and numbers of pictures by their ids."""
    sizes: dict[_Id, Any] = {}
    pictures: dict[_Id, int] = {}
    seen: set[int] = set()
    for image in images:
        name, key = _name(image), image.get("id") if isinstance(image, dict) else None
        if name is None or not isinstance(key, _Id):
            rows.met(Problem.FORM, f"image {image!s}: no id or no file_name")
        elif key in pictures:
            rows.met(Problem.FORM, f"image {name}: another one has the id {key}")
        else:
            size = image.get("height"), image.get("width")
            if all(type(side) is int and 0 < side < 1 << 31 for side in size):
                sizes[key] = size
            elif size != (None, None):
                rows.met(Problem.SIZE, f"{name}: {size[1]}x{size[0]}")
            pictures[key] = rows.picture(name, sizes.get(key))
            if pictures[key] in seen:
                rows.met(Problem.SAME, name)
            seen.add(pictures[key])
    return sizes, pictures


def _name(image: Any) -> str | None:
    if not isinstance(image, dict):
        return None
    url = image.get("coco_url")
    name = image.get("file_name") or (url.rpartition("/")[2] if isinstance(url, str) else None)
    return name if isinstance(name, str) else None


def _categories(categories: list[Any], rows: TruthRows) -> dict[_Id, int]:
    """The classes of the ids of categories."""
    names: dict[_Id, str] = {}
    for one in categories:
        key = one.get("id") if isinstance(one, dict) else None
        if not isinstance(key, _Id) or not isinstance(one.get("name", ""), str):
            rows.met(Problem.FORM, f"category {one!s}: no id, or a name that is no text")
        elif key in names:
            rows.met(Problem.FORM, f"category {one.get('name')}: another one has the id {key}")
        else:
            names[key] = one.get("name", "")
    classes = {key: rows.cls(name) if name else NO_CLASS for key, name in names.items()}
    if all(number == NO_CLASS for number in classes.values()) and not rows.classes.named:
        return _by_number(names, rows)
    return classes


def _by_number(names: dict[_Id, str], rows: TruthRows) -> dict[_Id, int]:
    """Of a network whose classes have no names: in the order of the ids, or by the ids."""
    numbers = sorted(key for key in names if type(key) is int)
    if len(numbers) == rows.classes.count:
        rows.assumed.append("the run has no names of classes: categories in the order of their ids")
        found = dict[_Id, int](zip(numbers, range(len(numbers)), strict=True))
    else:
        rows.assumed.append("the run has no names of classes: ids of categories are their numbers")
        found = {number: rows.classes.number(number) for number in numbers}
    for key, number in found.items():
        rows.learn(names[key] or key, number)
    return found


def _sides(sides: Any) -> Sides:
    try:
        x, y, width, height = map(float, sides if isinstance(sides, tuple) else ())
    except (TypeError, ValueError, OverflowError):
        return NO_BOX
    return x, y, x + width, y + height


def _mask(shape: _Shape, size: Any, where: str, rows: TruthRows) -> Outlines | RunLengths | None:
    """The mask of an object; None where there is none, or none that can be read."""
    try:
        if isinstance(shape, str):
            raise ValueError(shape)
        if not isinstance(shape, tuple):
            return shape
        if size is None:
            raise ValueError("its image has no width and height")
        require_size(size)
        return Outlines(shape, size)
    except ValueError as error:
        rows.met(Problem.MASK, f"{where}: {error}")
        return None


def _shape(segments: Any) -> _Shape:
    """A mask as it is parsed: packed polygons, run lengths, None, or why there is none."""
    if not segments:
        return None
    try:
        if isinstance(segments, dict):
            return run_lengths(segments.get("counts"), _said(segments.get("size")))
        return packed_polygons(segments)
    except ValueError as error:
        return str(error)


def _said(size: Any) -> tuple[int, int]:
    if not isinstance(size, list) or len(size) != 2 or any(type(n) is not int for n in size):
        raise ValueError("run lengths without size: [height, width]")
    return size[0], size[1]
