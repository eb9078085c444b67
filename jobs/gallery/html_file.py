"""The report as one file."""

from __future__ import annotations

from pathlib import Path

from shardcam.engine.analysis.samples import Samples
from shardcam.engine.io.whole_file import whole_file
from shardcam.jobs.gallery.gallery_items import Pictures, make_items
from shardcam.jobs.gallery.gallery_run import OpenedRun
from shardcam.jobs.gallery.heatmap_pictures import NoPhotograph, data_uri, draw_heatmap, encode
from shardcam.jobs.gallery.page import render
from shardcam.jobs.gallery.row_columns import spread


def write_page(opened: OpenedRun, path: Path, sample: int) -> int:
    """Write the report, with the pictures of up to `sample` images; how many they are.

    Raises
    ------
    DiskFull, RunDirectoryError
        No space, no permission to write, or a damaged shard.
    """
    rows = spread(opened.columns, sample)
    items = make_items(
        opened.run, rows, opened.name_of, lambda samples, i, _: _pictures(opened, samples, i)
    )
    means = {layer: opened.means(layer) for layer in opened.run.layers}
    page = render(opened.gallery(opened.columns.take(rows), items, means))
    with whole_file(path) as stream:
        stream.write(page.encode())
    return len(items)


def _pictures(opened: OpenedRun, samples: Samples, i: int) -> Pictures:
    targets = range(samples["target"].shape[1])
    heat = [
        [data_uri(draw_heatmap(samples, i, layer, target, opened.colours)) for target in targets]
        for layer in samples.layers
    ]
    photo, note = None, None
    if opened.photographs is not None:
        try:
            photo = data_uri(encode(opened.photographs.view(samples, i)))
        except NoPhotograph as error:
            note = str(error)
    return Pictures(photo, note, heat)
