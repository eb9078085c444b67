"""A run opened for its report, finished or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shardcam.engine.analysis.finished_run import Run
from shardcam.engine.analysis.open_run import open_run, open_so_far
from shardcam.engine.analysis.samples import Samples
from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError, RunDirectoryError, ShardcamError
from shardcam.engine.evaluation.paired_images import pair_metrics
from shardcam.engine.evaluation.shown_boxes import ShownBoxes, shown_boxes
from shardcam.engine.evaluation.summary import Result
from shardcam.engine.evaluation.unfinished import unfinished_metrics, unfinished_words
from shardcam.engine.run.calibration import agreement, read_calibration
from shardcam.engine.run.class_names import ClassName, kept_class_names, numbered
from shardcam.engine.run.stored_options import stored_config
from shardcam.engine.rundir.colormaps import colour_table
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import Manifest, read_manifest
from shardcam.engine.types import F4, I4, NO_LABEL, U1, counted
from shardcam.jobs.gallery.beside import Beside
from shardcam.jobs.gallery.cluster_views import (
    ClassView,
    ShownClusters,
    class_view,
    file_classes,
    groups,
)
from shardcam.jobs.gallery.gallery_items import Item, MeanMap, mean_maps
from shardcam.jobs.gallery.heatmap_pictures import Photographs, draw_heatmap
from shardcam.jobs.gallery.page import Choice, Gallery, ShownRun
from shardcam.jobs.gallery.row_columns import Columns, Positions, read_columns
from shardcam.jobs.gallery.run_account import RunAccount, read_account
from shardcam.jobs.gallery.run_clusters import OUTLIER, RunClusters, read_clusters
from shardcam.jobs.gallery.run_metrics import (
    DIFFERENCE,
    Evaluation,
    Measure,
    make_evaluation,
    read_metrics,
)
from shardcam.jobs.gallery.run_statistics import measure

UNREAD = "The photographs were not asked for."
NO_AVERAGES = "There are no average maps: the images kept their own sizes (--resize none)."


@dataclass(frozen=True)
class OpenedRun:
    """All that the pages of a run are made from."""

    run: Run
    manifest: Manifest
    account: RunAccount
    columns: Columns
    name_of: ClassName
    photographs: Photographs | None  # None: not asked for
    config: RunConfig
    results: dict[str, Result]  # what was measured
    measures: tuple[Measure, ...]
    boxes: ShownBoxes | None
    beside: Beside | None
    evaluation: Evaluation | None
    clusters: tuple[RunClusters, ...]
    notes: tuple[str, ...]  # what the reader of the page should know

    @cached_property
    def colours(self) -> U1:
        """Those of the run's heatmaps, (256,3) RGB."""
        return colour_table(self.config.colormap)

    def gallery(
        self,
        shown: Columns,
        items: list[Item] | None,
        means: dict[str, list[MeanMap]] | None,
        clusters: tuple[ShownClusters, ...] = (),
    ) -> Gallery:
        """The contents of a page with some, or all, of the rows."""
        return Gallery(
            name=self.run.name,
            manifest=self.manifest,
            account=self.account,
            statistics=measure(self.columns, self.name_of),
            layers=self.run.layers,
            maps=self.maps,
            averages=self.averages,
            evaluation=self.evaluation,
            measures=tuple(one.name for one in self.measures),
            boxes=self.boxes.layer if self.boxes else None,
            beside=self.beside.name if self.beside else None,
            runs=self._runs(),
            targets=self.run["target"].shape[1],
            choices=self._choices(shown.predicted),
            labels=self._choices(shown.label[shown.label != NO_LABEL]),
            alpha=self.config.alpha,
            notes=self.notes
            if self.averages or not self.run.layers
            else (*self.notes, NO_AVERAGES),
            items=items,
            means=means,
            clusters=clusters,
        )

    def _runs(self) -> tuple[ShownRun, ...]:
        first, other = ShownRun(self.run.name, self.manifest, self.run.layers), self.beside
        if other is None:
            return (first,)
        return first, ShownRun(other.name, other.manifest, other.run.layers)

    @cached_property
    def averages(self) -> bool:
        """Whether there are maps, all of a layer's being of one size, so that they have a mean."""
        try:
            return bool([self.run.cam(layer).one_size("means") for layer in self.run.layers])
        except ConfigError:
            return False

    @property
    def maps(self) -> tuple[str, ...]:
        """What is drawn of each image: the run's layers, then those of the run beside it."""
        if self.beside is None:
            return self.run.layers
        return tuple(
            f"{name}: {layer}"
            for name, run in ((self.run.name, self.run), (self.beside.name, self.beside.run))
            for layer in run.layers
        )

    def heatmap(self, samples: Samples, i: int, row: int, number: int, target: int) -> bytes | None:
        """One of `maps`, of a class explained; None where the other run has none."""
        layers = self.run.layers
        if number < len(layers):
            return draw_heatmap(samples, i, layers[number], target, self.colours)
        if self.beside is None:
            raise IndexError(f"no layer {number}")
        layer = self.beside.run.layers[number - len(layers)]
        return self.beside.heatmap(samples, i, row, layer, target, self.colours)

    def means(self, layer: str) -> list[MeanMap]:
        """The average maps of a layer."""
        return mean_maps(self.run, layer, self.columns, self.name_of, self.colours)

    def class_clusters(self, clustering: int, number: int) -> ClassView:
        """The clusters of a class."""
        return class_view(self.clusters[clustering], number, self.colours)

    def shown_clusters(self, rows: Positions | None = None) -> tuple[ShownClusters, ...]:
        """What a page says of clusters: one with some of the rows, or one that can ask for all."""
        every, layers = enumerate(self.clusters), self.run.layers
        held = [] if rows is None else file_classes(self.clusters)
        return tuple(
            ShownClusters(
                one,
                layers.index(one.layer) if one.layer in layers else None,
                groups(one, rows),
                {number: self.class_clusters(i, number) for number in held[i]} if held else None,
            )
            for i, one in every
        )

    def _choices(self, classes: I4) -> tuple[Choice, ...]:
        numbers, counts = np.unique(classes, return_counts=True)
        found = zip(numbers.tolist(), counts.tolist(), strict=True)
        choices = (Choice(number, self.name_of(number), count) for number, count in found)
        return tuple(sorted(choices, key=lambda choice: (choice.name.lower(), choice.number)))


@contextmanager
def opened_run(
    run_dir: RunDir, photographs: bool, beside: RunDir | None = None
) -> Iterator[OpenedRun]:
    """Open a run; one that is not finished is opened as far as it is.

    `beside` is another run of the same images, of which the same is shown. With the photographs
    the truth is read, if metrics were measured by one.

    Raises
    ------
    RunDirectoryError
        It is not a run, it is damaged, or no shard of it is done yet.
    """
    manifest = read_manifest(run_dir)
    account = read_account(run_dir, manifest)
    if not account.shards:
        raise RunDirectoryError(f"{run_dir.home}: no shard is done yet; shardcam status shows more")
    config = stored_config(run_dir.home, manifest.config)
    name_of, notes = _names(run_dir, config)
    pictures = Photographs(run_dir, config) if photographs else None
    note = UNREAD if pictures is None else pictures.missing
    run, account = _opened(run_dir, manifest, account)
    with ExitStack() as stack:
        stack.enter_context(run)
        columns = read_columns(run)
        results, values, unread = read_metrics(run)
        for words in unfinished_words(unfinished_metrics(run_dir, manifest)):
            unread += (f"Not shown, for it is not done. {words}",)
        boxes, unknown = _boxes(run_dir, run, config, results) if photographs else (None, None)
        other, others, lost = None, None, None
        if beside is not None:
            theirs = read_manifest(beside)
            there, _ = _opened(beside, theirs, read_account(beside, theirs))
            stack.enter_context(there)
            others = read_metrics(there)
            unread += tuple(f"{beside.name}: {words}" for words in others[2])
            paired = pair_metrics(run, there, [name for name in values if name in others[1]])
            name = beside.name if beside.name != run.name else str(beside.home)
            other = Beside(there, name, paired, theirs)
            lost = _alone(other)
        clusters, unclear = read_clusters(run, columns, name_of)
        measures = [Measure(n, v) for n, v in values.items()]
        explained = (len(run), run["target"].shape[1])
        measures += [
            Measure(OUTLIER.format(one.name), _of_first(one.outlier, explained)) for one in clusters
        ]
        if other is not None:
            measures += [
                Measure(DIFFERENCE.format(n), _of_first(v, values[n].shape))
                for n, v in other.paired.first.items()
            ]
        evaluation = make_evaluation(
            (run.name, other.name if other else ""),
            (results, others[0]) if others else (results,),
            (values, others[1]) if others else (values,),
            other.paired if other else None,
            boxes.convention if boxes else "",
        )
        told = (_precision(run_dir, config), *notes, note, lost, *unread, *unclear, unknown)
        yield OpenedRun(
            run, manifest, account, columns, name_of, pictures, config, results, tuple(measures),
            boxes, other, evaluation, clusters, tuple(words for words in told if words),
        )  # fmt: skip


def _of_first(first: F4, shape: tuple[int, ...]) -> F4:
    """(N,) -> (N,K), of the first class alone."""
    table = np.full(shape, np.nan, np.float32)
    table[:, 0] = first
    return table


def _alone(beside: Beside) -> str | None:
    """What a reader must know of images that only one of two runs has."""
    both = int((beside.paired.rows >= 0).sum())
    if not both:
        raise ConfigError(f"{beside.run.name}: it has no image of this run, by their keys")
    missing = len(beside.paired.rows) - both
    return f"{beside.name} lacks {counted(missing, 'image')} of this run." if missing else None


def _boxes(
    run_dir: RunDir, run: Run, config: RunConfig, results: dict[str, Result]
) -> tuple[ShownBoxes | None, str | None]:
    """The boxes to draw, or why there are none though a truth was used."""
    try:
        return shown_boxes(run_dir, run, config, results), None
    except ShardcamError as error:
        return None, f"The boxes of the truth are not shown: {error}"


def _opened(run_dir: RunDir, manifest: Manifest, account: RunAccount) -> tuple[Run, RunAccount]:
    """The run and the account of the same shards, though more may be published meanwhile."""
    if account.complete and run_dir.exists(run_dir.index):
        return open_run(run_dir.home), account
    while True:
        run = open_so_far(run_dir)
        now = read_account(run_dir, manifest)
        if now.shards == account.shards:
            return run, now
        run.close()
        account = now


def _precision(run_dir: RunDir, config: RunConfig) -> str | None:
    """What a reader must know of maps that int8 has made."""
    calibration = read_calibration(run_dir) if config.precision == "int8" else None
    return None if calibration is None else f"Computed in int8; {agreement(calibration)}."


def _names(run_dir: RunDir, config: RunConfig) -> tuple[ClassName, tuple[str, ...]]:
    """Names of the classes, where the run holds them."""
    try:
        name_of = kept_class_names(run_dir, config)
    except RunDirectoryError as error:
        return numbered, (f"The classes have no names: {error}",)
    if name_of is None and config.labels is not None:
        why = "the run does not hold those of --labels; the same extract command adds them"
        return numbered, (f"The classes have no names: {why}.",)
    return name_of or numbered, ()
