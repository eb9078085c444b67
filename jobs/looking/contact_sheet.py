"""One PNG that shows a run: picture, heatmap over it, predicted class and score."""

from __future__ import annotations

from math import ceil
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from shardcam.engine.analysis.finished_run import Run
from shardcam.engine.io.whole_file import whole_file
from shardcam.engine.run.class_names import ClassName, class_names
from shardcam.engine.run.stored_options import stored_config
from shardcam.engine.rundir.colormaps import colour_table
from shardcam.engine.rundir.listing import Listing
from shardcam.engine.types import U1
from shardcam.jobs.source_pictures import WHITE, SourcePictures, cut
from shardcam.jobs.terminal import score_text
from shardcam.kernels import overlay

COLUMNS = 3  # pairs of pictures in a row
MOST = 30  # images on one sheet
INCHES = 2.2
LEAST = 224  # pixels, of the shorter side of what is drawn


def draw_contact_sheet(run: Run, listing: Listing, path: Path) -> None:
    """Draw the first images of a run, each beside its overlay, into a PNG file."""
    config = stored_config(run.name, run.config)
    pictures, name_of = SourcePictures(listing, config), class_names(config)
    count = min(len(run), MOST)
    columns = min(COLUMNS, count)
    rows = ceil(count / columns)
    figure = Figure(figsize=(columns * 2 * INCHES, rows * INCHES * 1.15), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns * 2, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    maps = run.cam(run.layers[-1])[:count, 0]
    colours = colour_table(config.colormap)
    for i in range(count):
        picture = _large(cut(pictures.read(run, i), run["crop"][i], WHITE))
        axes[2 * i].imshow(picture)
        drawn = overlay(maps[i], picture, colours, config.alpha, config.overlay_norm)
        axes[2 * i + 1].imshow(drawn)
        _caption(axes[2 * i], axes[2 * i + 1], run, i, name_of)
    with mpl.rc_context({"text.parse_math": False}), whole_file(path) as stream:
        figure.savefig(stream, format="png", dpi=110)


def _large(picture: U1) -> U1:
    """A thumbnail enlarged: a heatmap over a few pixels would be as coarse as they are."""
    height, width = picture.shape[:2]
    by = LEAST / min(height, width)
    if by <= 1:
        return picture
    size = round(width * by), round(height * by)
    return cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST).astype(np.uint8, copy=False)


def _caption(picture: Axes, heat: Axes, run: Run, i: int, name_of: ClassName) -> None:
    name = Path(bytes(run["key"][i]).decode()).name
    picture.set_title(name if len(name) <= 24 else name[:23] + "…", fontsize=8)
    target, score = int(run["target"][i, 0]), float(run["score"][i, 0])
    heat.set_title(f"{name_of(target)} {score_text(score)}", fontsize=8)
