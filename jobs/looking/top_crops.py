"""Crops of a run's pictures: what the units of a hidden layer responded to most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np

from shardcam.engine.analysis.finished_run import Run
from shardcam.engine.analysis.top_activating import top_activating
from shardcam.engine.config import RunConfig
from shardcam.engine.rundir.listing import Listing
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.types import U1, Box
from shardcam.jobs.source_pictures import GREY, SourcePictures, cut

SIDE = 112  # pixels of a crop
Field = Callable[[tuple[int, int]], Box]  # position -> what it sees, in shares of the view
_WHOLE = (0.0, 0.0, 1.0, 1.0)
_CACHED = 16  # decoded pictures


@dataclass(frozen=True)
class Example:
    """What a unit saw where its activation was highest."""

    crop: U1  # (SIDE,SIDE,3)
    value: float  # the activation


def examples_of(
    run: Run, config: RunConfig, layer: str, units: list[int], count: int, field: Field
) -> list[list[Example]]:
    """The top-activating crops of each unit, at most one per picture, the highest first.

    Pictures that did not activate a unit are left out. If the run has pooled values only, an
    example is all that the network saw.

    Raises
    ------
    SourceError
        A picture cannot be read any more.
    ConfigError
        The run does not have the layer, or the layer the unit.
    """
    found = top_activating(run, layer, units, count)
    pictures = SourcePictures(Listing(RunDir(Path(config.out)).listing), config)
    picture = lru_cache(_CACHED)(partial(pictures.read, run))

    def example(unit: int, rank: int) -> Example:
        row = int(found.rows[unit, rank])
        part = _WHOLE
        if found.places is not None:
            y, x = found.places[unit, rank].tolist()
            part = field((y, x))
        view = tuple(float(edge) for edge in run["crop"][row])
        crop = _square(cut(picture(row), _within(view, part), GREY))
        return Example(crop, float(found.values[unit, rank]))

    active = (found.values > 0).sum(axis=1).tolist()
    return [[example(unit, rank) for rank in range(ranks)] for unit, ranks in enumerate(active)]


def view_share(seen: Box | None, height: int, width: int) -> Box:
    """What a position sees of the network's input, in shares of it, moved inside."""
    if seen is None:
        return _WHOLE
    y0, y1 = _inside(seen[0] / height, seen[2] / height)
    x0, x1 = _inside(seen[1] / width, seen[3] / width)
    return y0, x0, y1, x1


def _inside(start: float, stop: float) -> tuple[float, float]:
    length = min(stop - start, 1.0)
    start = min(max(start, 0.0), 1.0 - length)
    return start, start + length


def _within(view: tuple[float, ...], part: Box) -> Box:
    """A share of the view in the picture's pixels."""
    top, left, bottom, right = view
    height, width = bottom - top, right - left
    y0, x0, y1, x1 = part
    return top + y0 * height, left + x0 * width, top + y1 * height, left + x1 * width


def _square(crop: U1) -> U1:
    """(height,width,3) -> (SIDE,SIDE,3)."""
    how = cv2.INTER_AREA if len(crop) > SIDE else cv2.INTER_NEAREST
    square: U1 = cv2.resize(crop, (SIDE, SIDE), interpolation=how).astype(np.uint8, copy=False)
    return square
