"""The report as one file."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from shardcam.engine.analysis.samples import Samples
from shardcam.engine.errors import RunDirectoryError
from shardcam.engine.io.whole_file import whole_file
from shardcam.jobs.gallery.cluster_views import file_rows
from shardcam.jobs.gallery.gallery_items import Pictures, make_items
from shardcam.jobs.gallery.gallery_run import OpenedRun
from shardcam.jobs.gallery.heatmap_pictures import NoPhotograph, data_uri, encode
from shardcam.jobs.gallery.page import render
from shardcam.jobs.gallery.row_columns import spread
from shardcam.jobs.gallery.run_metrics import EXTREMES


def write_page(opened: OpenedRun, path: Path, sample: int) -> int:
    """Write the report, with the pictures of up to `sample` images; how many they are.

    Raises
    ------
    DiskFull, RunDirectoryError
        No space, no permission to write, or a damaged shard.
    """
    rows = np.union1d(spread(opened.columns, sample), file_rows(opened.clusters))
    for measure in opened.measures:
        rows = np.union1d(rows, measure.extremes(EXTREMES))
    try:
        clusters = opened.shown_clusters(rows)
    except RunDirectoryError as error:  # of a class
        notes = (*opened.notes, f"The clusters are not shown: {error}")
        return write_page(replace(opened, clusters=(), notes=notes), path, sample)
    items = make_items(
        opened.run,
        rows,
        opened.name_of,
        partial(_pictures, opened),
        opened.measures,
        opened.boxes,
        opened.clusters,
    )
    means = {layer: opened.means(layer) for layer in opened.run.layers if opened.averages}
    page = render(opened.gallery(opened.columns.take(rows), items, means, clusters))
    with whole_file(path) as stream:
        stream.write(page.encode())
    return len(items)


def _pictures(opened: OpenedRun, samples: Samples, i: int, row: int) -> Pictures:
    heat = [
        [
            data_uri(drawn) if (drawn := opened.heatmap(samples, i, row, number, target)) else None
            for target in range(samples["target"].shape[1])
        ]
        for number in range(len(opened.maps))
    ]
    photo, note = None, None
    if opened.photographs is not None:
        try:
            photo = data_uri(encode(opened.photographs.view(samples, i)))
        except NoPhotograph as error:
            note = str(error)
    return Pictures(photo, note, heat)
