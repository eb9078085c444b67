"""Truth in the files of Caltech-UCSD Birds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from shardcam.engine.truths.truth import Sides
from shardcam.engine.truths.truth_files import TruthFiles, lines
from shardcam.engine.truths.truth_problems import Problem
from shardcam.engine.truths.truth_rows import LABEL, NO_BOX, TruthRows

IMAGES, BOXES, LABELS = "images.txt", "bounding_boxes.txt", "image_class_labels.txt"


def read_cub(folder: Path, rows: TruthRows, read: TruthFiles) -> str:
    """Boxes x, y, width, height, so that x1 and y1 are behind the last pixel; classes from 1.

    Without ``image_class_labels.txt`` they are of the classes of the pictures' labels in the run.
    """
    paths = {key: name for _, key, name in _pairs(folder / IMAGES, rows, read)}
    labels: dict[str, int] = {}
    if (folder / LABELS).exists():
        for number, key, text in _pairs(folder / LABELS, rows, read):
            if text.isascii() and text.isdigit() and len(text) < 10:
                rows.learn(text, rows.classes.number(int(text) - 1))
                labels[key] = rows.cls(text)
            else:
                rows.met(Problem.FORM, f"{LABELS}, line {number}: {key} {text}")
    for number, key, text in _pairs(folder / BOXES, rows, read):
        if key in paths:
            rows.add(rows.picture(paths[key]), labels.get(key, LABEL), _sides(text), number)
        else:
            rows.met(Problem.FORM, f"{BOXES}, line {number}: {IMAGES} has no id {key}")
    return "CUB"


def _pairs(path: Path, rows: TruthRows, read: TruthFiles) -> Iterator[tuple[int, str, str]]:
    """Number of a line, the id at its beginning, and what is behind it."""
    for number, text in lines(path, read):
        key, _, value = text.partition(" ")
        if value:
            yield number, key, value.strip()
        else:
            rows.met(Problem.FORM, f"{path.name}, line {number}: {text}")


def _sides(text: str) -> Sides:
    try:
        x, y, width, height = map(float, text.split())
    except ValueError:
        return NO_BOX
    return x, y, x + width, y + height
