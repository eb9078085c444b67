"""The samples of a page, as its script is given them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.analysis.class_means import class_means
from shardcam.engine.analysis.finished_run import Run
from shardcam.engine.analysis.row_filter import RowFilter
from shardcam.engine.analysis.samples import Samples
from shardcam.engine.evaluation.shown_boxes import ShownBoxes
from shardcam.engine.run.class_names import ClassName
from shardcam.engine.types import F4, F8, NO_CLASS, NO_LABEL, U1, Flag
from shardcam.jobs.gallery.heatmap_pictures import data_uri, draw_mean, view_size
from shardcam.jobs.gallery.row_columns import Columns, Positions
from shardcam.jobs.gallery.run_clusters import RunClusters
from shardcam.jobs.gallery.run_metrics import Measure
from shardcam.jobs.gallery.run_statistics import FREQUENT, flag_words
from shardcam.jobs.terminal import printable

_COLUMNS: tuple[str, ...] = ("key", "sample", "label", "flags", "image_size", "crop")
_COLUMNS += ("target", "score", "top_class", "top_score")


@dataclass(frozen=True)
class Scored:
    """A class and its score."""

    number: int
    name: str
    score: float | None  # None where it is not a number


@dataclass(frozen=True)
class Pictures:
    """Addresses of the pictures of a sample."""

    photo: str | None
    note: str | None  # why there is no photograph
    heat: list[list[str | None]]  # of each map, of each target; None: another run has no such map


@dataclass(frozen=True)
class Boxes:
    """x, y, width and height in pixels of the pictures."""

    found: list[list[float]]  # of the map
    truth: list[list[float]]


@dataclass(frozen=True)
class Item:
    """A sample."""

    row: int
    key: str
    sample: int
    label: int | None
    label_name: str | None
    correct: bool | None
    flags: int
    flag_words: list[str]
    height: int
    width: int
    predictions: list[Scored]
    targets: list[Scored]
    pictures: Pictures
    measured: list[list[float | None]]  # of each measure, of each target
    view: list[int]  # width and height of its pictures
    boxes: list[Boxes]  # of each target; none where no truth is known
    clusters: list[tuple[int, int]]  # class and cluster, of each clustering


@dataclass(frozen=True)
class MeanMap:
    """The average map of a class."""

    number: int
    name: str
    count: int  # of maps
    picture: str


def make_items(
    run: Run,
    rows: Positions,
    name_of: ClassName,
    pictures: Callable[[Samples, int, int], Pictures],
    measures: Sequence[Measure] = (),
    boxes: ShownBoxes | None = None,
    clusters: Sequence[RunClusters] = (),
) -> list[Item]:
    """Describe some rows of a run; each of their shards is opened once.

    Parameters
    ----------
    pictures
        From some samples, which of them, and its row in the run, to its pictures.
    """
    ascending, items = np.unique(rows), list[Item]()
    for shard in run.take(ascending).shards():
        columns = {name: shard[name][:] for name in _COLUMNS}
        for i in range(len(shard)):
            row = int(ascending[len(items)])
            values = {name: column[i] for name, column in columns.items()}
            measured = [_numbers(measure.values[row]) for measure in measures]
            drawn = _boxes(boxes, shard, i) if boxes else []
            found = [(int(one.group[row]), int(one.cluster[row])) for one in clusters]
            items.append(
                _item(row, values, name_of, pictures(shard, i, row), measured, drawn, found)
            )
    return [items[place] for place in np.searchsorted(ascending, rows)]


def _boxes(boxes: ShownBoxes, samples: Samples, i: int) -> list[Boxes]:
    height, width = view_size(samples["crop"][i])

    def drawn(shares: F8) -> list[list[float]]:
        sides = shares * np.array([width, height, width, height])
        sides[:, 2:] -= sides[:, :2]
        found: list[list[float]] = sides.round(1).tolist()
        return found

    return [Boxes(drawn(one.found), drawn(one.truth)) for one in boxes.of(samples, i)]


def _item(
    row: int,
    values: dict[str, Any],
    name_of: ClassName,
    pictures: Pictures,
    measured: list[list[float | None]],
    boxes: list[Boxes],
    clusters: list[tuple[int, int]],
) -> Item:
    label, flags = int(values["label"]), int(values["flags"])
    targets = _scored(values["target"], values["score"], name_of)
    predictions = _scored(values["top_class"], values["top_score"], name_of)
    claims = True  # a class, of each image whose logits are finite
    if predictions[0].number == NO_CLASS:  # so are all
        claims = bool(flags & Flag.NON_FINITE)
        predictions = predictions[:1] if claims else targets
    known = label != NO_LABEL
    return Item(
        row=row,
        key=printable(bytes(values["key"]).decode(errors="backslashreplace")),
        sample=int(values["sample"]),
        label=label if known else None,
        label_name=name_of(label) if known else None,
        correct=label == predictions[0].number if known and claims else None,
        flags=flags,
        flag_words=flag_words(flags),
        height=int(values["image_size"][0]),
        width=int(values["image_size"][1]),
        predictions=predictions,
        targets=targets,
        pictures=pictures,
        measured=measured,
        view=list(view_size(values["crop"])[::-1]),
        boxes=boxes,
        clusters=clusters,
    )


def mean_maps(
    run: Run, layer: str, columns: Columns, name_of: ClassName, colours: U1
) -> list[MeanMap]:
    """The average maps of the most frequent predicted classes, in one pass over the shards.

    Of the first explained class of each sample; samples with a flag are left out.
    """
    numbers, counts = np.unique(columns.predicted[columns.flags == 0], return_counts=True)
    frequent = numbers[np.argsort(-counts, kind="stable")[:FREQUENT]].tolist()
    rows = RowFilter(predicted=frequent, flags=0).matching(columns)
    means = class_means(run.take(rows), layer)
    found = zip(means.classes.tolist(), means.counts.tolist(), means.maps, strict=True)
    return [
        MeanMap(number, name_of(number), count, data_uri(draw_mean(mean, colours)))
        for number, count, mean in sorted(found, key=lambda one: -one[1])
    ]


def _scored(
    classes: npt.NDArray[Any], scores: npt.NDArray[Any], name_of: ClassName
) -> list[Scored]:
    pairs = zip(classes.tolist(), scores.tolist(), strict=True)
    return [Scored(c, name_of(c), s if np.isfinite(s) else None) for c, s in pairs]


def _numbers(values: F4) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in values.tolist()]
