"""``--target labels[:FILE]``: of each image all classes that it is known to show."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError
from shardcam.engine.io.plain_text import printable
from shardcam.engine.readers.labels import Labels
from shardcam.engine.readers.manifest_rows import SEVERAL, Row, rows
from shardcam.engine.readers.parquet import parquet_rows, require_pyarrow
from shardcam.engine.run.class_names import class_names
from shardcam.engine.run.class_numbers import class_numbers
from shardcam.engine.run.label_dictionary import LARGEST, label_dictionary
from shardcam.engine.run.source_listing import make_reader
from shardcam.engine.rundir.listing import Listing
from shardcam.engine.truths.read_truth import read_truth
from shardcam.engine.truths.truth import picture_name
from shardcam.engine.truths.truth_classes import named_classes
from shardcam.engine.truths.truth_files import read_whole
from shardcam.engine.truths.truth_pictures import Pictures, matched
from shardcam.engine.types import I4, LABELS, NO_CLASS, NO_LABEL, Note, counted

GONE = -1  # place of a row that was not listed
MOST = 128  # classes of one image: every image has room for as many as the one with most
_TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
_Classes = Mapping[int, Iterable[int]]  # of each image of the listing that has some


@dataclass(frozen=True)
class ImageLabels:
    """What each image of a listing shows."""

    classes: I4  # (listed,K) ascending, NO_CLASS where there are no more
    notes: tuple[Note, ...]

    @property
    def target(self) -> str:
        """As the fingerprint has it: the same wherever the labels are from."""
        digest = hashlib.sha256(f"{self.classes.shape}".encode())
        digest.update(self.classes.astype("<i4").tobytes())
        return f"{LABELS}:{digest.hexdigest()}"


def image_labels(config: RunConfig, listing: Listing, count: int) -> ImageLabels:
    """The classes that ``--target labels[:FILE]`` gives each image, of a network of `count`.

    Raises
    ------
    ConfigError
        No image has any, or one has too many.
    SourceError
        The file cannot be read, or is of no form that is known.
    """
    file = config.target.partition(":")[2]
    if file and not file.lower().endswith(_TABLES):
        found, notes = _of_file(Path(file), config, listing, count)
    else:
        found, notes = _of_table(file, config, listing, count)
    return _laid_out(config, found, notes, len(listing), count)


def _laid_out(
    config: RunConfig, found: _Classes, notes: list[Note], listed: int, count: int
) -> ImageLabels:
    inside = {i: sorted({c for c in some if 0 <= c < count}) for i, some in found.items()}
    beyond = sum(len(set(some)) for some in found.values()) - sum(map(len, inside.values()))
    if beyond:
        first = next(c for some in found.values() for c in some if not 0 <= c < count)
        notes.append(_left_out(beyond, str(first), count))
    labelled = sum(map(bool, inside.values()))
    if not labelled:
        why = "; ".join(note.text for note in notes) or "it names none of the run's images"
        raise ConfigError(f"--target {config.target}: no image has a label ({why})")
    image, most = max(((i, len(some)) for i, some in inside.items()), key=lambda pair: pair[1])
    if most > MOST:
        raise ConfigError(
            f"--target {config.target}: image {image} has {most} labels, and every image gets room "
            f"for as many; at most {MOST}"
        )
    classes = np.full((listed, most), NO_CLASS, np.int32)
    for i, some in inside.items():
        classes[i, : len(some)] = some
    mean = sum(map(len, inside.values())) / labelled
    text = f"{labelled} of {listed} images have labels, {mean:.1f} on average and {most} at most"
    return ImageLabels(classes, (Note("labels", text), *notes))


def _left_out(labels: int, first: str, count: int) -> Note:
    text = f"{counted(labels, 'label')} left out, the first {first}"
    return Note("labels", f"{text}: the network has classes 0 to {count - 1}")


def _of_table(
    file: str, config: RunConfig, listing: Listing, count: int
) -> tuple[dict[int, list[int]], list[Note]]:
    """From the column of the source itself, row by row, or of another table, by key or path."""
    path, said = file or config.source, Labels(partial(class_numbers, config, count))
    columns: list[str] = []
    found: dict[int, list[int]] = {}
    names: list[str] = []
    first, beyond = "", 0  # of the labels that are no class of the network
    places = itertools.count() if file else _places(config, listing, count)
    for index, (number, (below, key, cell)) in enumerate(_rows(path, config, columns)):
        if "labels" not in {column.strip().lower() for column in columns}:
            told = ", ".join(columns)[:200]
            raise ConfigError(
                f"--target {config.target}: {path} has no column 'labels', but {told}"
            )
        if not file and index == len(listing):  # of --limit
            break
        inside = found[next(places, GONE)] = []
        for value in _values(cell):
            label = said.of(value, "line", number)
            if 0 <= label < count:
                inside.append(label)
            elif label != NO_LABEL or str(value).strip() == str(NO_LABEL):
                first = first or f"{label} (line {number})"
                beyond += 1
        names.append(str(key or below))
    notes = list(said.met().notes)
    if beyond:
        notes.append(_left_out(beyond, first, count))
    if not file:
        if len(names) < len(listing):
            raise ConfigError(
                f"--target {config.target}: {path} has {len(names)} rows now, and had "
                f"{len(listing)} or more when it was listed"
            )
        if GONE in found:
            raise ConfigError(
                f"--target {config.target}: {path} has other rows now than when it was listed"
            )
        return found, notes
    meant, told_ways = _meant(names, listing)
    notes += told_ways
    together: dict[int, list[int]] = {}
    for index, images in enumerate(meant):
        for image in images:
            together.setdefault(image, []).extend(found[index])
    return together, notes


def _places(config: RunConfig, listing: Listing, classes: int) -> Iterator[int]:
    """Where each row of the source is in the listing, which may be in the order of sizes."""
    if listing.sizes is None:
        return itertools.count()
    places = {sample.key: sample.index for sample in listing}
    samples = make_reader(config, classes=classes).samples()
    return (places.get(sample.key, GONE) for sample in samples)


def _rows(path: str, config: RunConfig, columns: list[str]) -> Iterable[Row]:
    ending = "." + path.partition("?")[0].lower().rpartition(".")[2]
    if ending not in _TABLES:
        raise ConfigError(
            f"--target {config.target}: the source has no column 'labels'; labels:FILE reads them "
            f"from a table ({' '.join(_TABLES)}), cls_labels.npy, a folder of VOC XML or COCO JSON"
        )
    if ending == ".parquet":
        require_pyarrow(path)
        return parquet_rows(path, columns.extend, SEVERAL)
    return rows(path, on_columns=columns.extend, columns=SEVERAL)


def _values(cell: Any) -> Sequence[Any]:
    """``7;14``, ``[7, 14]``, a list, or one label."""
    if isinstance(cell, str):
        if cell.lstrip().startswith("["):
            try:
                cell = json.loads(cell)
            except (ValueError, RecursionError):
                return [cell]
        else:
            return [part for part in cell.split(";") if part.strip()]
    if isinstance(cell, list):
        return cell
    return [] if cell is None else [cell]


def _of_file(
    file: Path, config: RunConfig, listing: Listing, count: int
) -> tuple[dict[int, list[int]], list[Note]]:
    if file.suffix.lower() == ".npy":
        rows, classes = label_dictionary(file, read_whole(file, LARGEST))
        if classes != count:
            raise ConfigError(
                f"--target {config.target}: it has {counted(classes, 'class')}, the network {count}"
            )
        meant, notes = _meant(list(rows), listing)
        found: dict[int, list[int]] = {}
        for images, some in zip(meant, rows.values(), strict=True):
            found |= dict.fromkeys(images, some.tolist())
        return found, notes
    keys, label = [], np.empty(len(listing), np.int32)
    for number, sample in enumerate(listing):
        keys.append(sample.key)
        label[number] = sample.label
    pictures = Pictures(keys, label, np.zeros((len(keys), 2), np.int32))
    known = named_classes(config, count, class_names(config, count), listing.facts.classes)
    truth = read_truth(str(file), pictures, known)
    shown = {i: one.labels for i, key in enumerate(keys) if (one := truth.of(key))}
    return {i: list(some) for i, some in shown.items()}, list(truth.notes())


def _meant(names: list[str], listing: Listing) -> tuple[list[list[int]], list[Note]]:
    """The images that each name means, and what to tell of that."""
    images: dict[str, list[int]] = {}
    for sample in listing:
        images.setdefault(picture_name(sample.key), []).append(sample.index)
    exact = {name: number for number, name in enumerate(images)}
    numbers = [exact.get(name, -1) for name in names]
    others = [i for i, number in enumerate(numbers) if number < 0]
    taken = set(numbers) - {-1}
    found, ways = matched([names[i] for i in others], exact, taken) if others else ([], {})
    for i, number in zip(others, found, strict=True):
        numbers[i] = number
    notes = [Note("labels", f"{counted(n, 'picture')} found by {how}") for how, n in ways.items()]
    if lost := [names[i] for i, number in enumerate(numbers) if number < 0]:
        text = f"{counted(len(lost), 'name')} not of an image of the source, the first: {lost[0]}"
        notes.append(Note("labels", printable(text)))
    groups = list(images.values())
    return [groups[number] if number >= 0 else [] for number in numbers], notes
