"""A run opened for its report, finished or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shardcam.engine.analysis.finished_run import Run
from shardcam.engine.analysis.open_run import open_run, open_so_far
from shardcam.engine.config import RunConfig
from shardcam.engine.errors import RunDirectoryError
from shardcam.engine.run.calibration import agreement, read_calibration
from shardcam.engine.run.class_names import ClassName, kept_class_names, numbered
from shardcam.engine.run.stored_options import stored_config
from shardcam.engine.rundir.colormaps import colour_table
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import Manifest, read_manifest
from shardcam.engine.types import I4, NO_LABEL, U1
from shardcam.jobs.gallery.gallery_items import Item, MeanMap, mean_maps
from shardcam.jobs.gallery.heatmap_pictures import Photographs
from shardcam.jobs.gallery.page import Choice, Gallery
from shardcam.jobs.gallery.row_columns import Columns, read_columns
from shardcam.jobs.gallery.run_account import RunAccount, read_account
from shardcam.jobs.gallery.run_statistics import measure

UNREAD = "The photographs were not asked for."


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
    notes: tuple[str, ...]  # what the reader of the page should know

    @cached_property
    def colours(self) -> U1:
        """Those of the run's heatmaps, (256,3) RGB."""
        return colour_table(self.config.colormap)

    def gallery(
        self, shown: Columns, items: list[Item] | None, means: dict[str, list[MeanMap]] | None
    ) -> Gallery:
        """The contents of a page with some, or all, of the rows."""
        return Gallery(
            name=self.run.name,
            manifest=self.manifest,
            account=self.account,
            statistics=measure(self.columns, self.name_of),
            layers=self.run.layers,
            targets=self.run["target"].shape[1],
            choices=self._choices(shown.predicted),
            labels=self._choices(shown.label[shown.label != NO_LABEL]),
            alpha=self.config.alpha,
            notes=self.notes,
            items=items,
            means=means,
        )

    def means(self, layer: str) -> list[MeanMap]:
        """The average maps of a layer."""
        return mean_maps(self.run, layer, self.columns, self.name_of, self.colours)

    def _choices(self, classes: I4) -> tuple[Choice, ...]:
        numbers, counts = np.unique(classes, return_counts=True)
        found = zip(numbers.tolist(), counts.tolist(), strict=True)
        choices = (Choice(number, self.name_of(number), count) for number, count in found)
        return tuple(sorted(choices, key=lambda choice: (choice.name.lower(), choice.number)))


@contextmanager
def opened_run(run_dir: RunDir, photographs: bool) -> Iterator[OpenedRun]:
    """Open a run; one that is not finished is opened as far as it is.

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
    with run:
        columns = read_columns(run)
        everything = tuple(words for words in (_precision(run_dir, config), *notes, note) if words)
        yield OpenedRun(run, manifest, account, columns, name_of, pictures, config, everything)


def _opened(run_dir: RunDir, manifest: Manifest, account: RunAccount) -> tuple[Run, RunAccount]:
    """The run and the account of the same shards, though more may be published meanwhile."""
    if account.complete:
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
