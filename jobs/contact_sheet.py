"""One PNG that shows a run: picture, heatmap over it, predicted class and score."""

from __future__ import annotations

from math import ceil
from pathlib import Path

import cv2
import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from engine.results import Run
from engine.types import F4, U1
from jobs.demo import class_name
from kernels import JET, overlay

COLUMNS = 3  # pairs of pictures in a row
MOST = 30  # images on one sheet
INCHES = 2.2


def draw_contact_sheet(run: Run, path: Path) -> None:
    """Draw the first images of a run, each beside its overlay, into a PNG file."""
    count = min(len(run.keys), MOST)
    columns = min(COLUMNS, count)
    rows = ceil(count / columns)
    figure = Figure(figsize=(columns * 2 * INCHES, rows * INCHES * 1.15), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns * 2, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    maps = run.cam(run.layers[-1])[:count, 0]
    for i in range(count):
        picture = _seen(run, i)
        axes[2 * i].imshow(picture)
        axes[2 * i + 1].imshow(_blend(maps[i], picture))
        _caption(axes[2 * i], axes[2 * i + 1], run, i)
    with mpl.rc_context({"text.parse_math": False}):
        figure.savefig(path, dpi=110)


def _seen(run: Run, i: int) -> U1:
    """The part of the original picture that the network saw."""
    source = Path(run.config["source"])
    file = source if source.is_file() else source / run.keys[i]
    pixels = cv2.imread(str(file), cv2.IMREAD_COLOR_RGB)
    top, left, bottom, right = (round(float(v)) for v in run["crop"][i])
    return pixels[max(top, 0) : bottom, max(left, 0) : right]


def _blend(raw: F4, picture: U1) -> U1:
    return overlay(raw, picture.copy(), JET)


def _caption(picture: Axes, heat: Axes, run: Run, i: int) -> None:
    name = Path(run.keys[i]).name
    picture.set_title(name if len(name) <= 24 else name[:23] + "…", fontsize=8)
    target, score = int(run["target"][i, 0]), float(run["score"][i, 0])
    heat.set_title(f"{class_name(target)} {score:.2f}", fontsize=8)
