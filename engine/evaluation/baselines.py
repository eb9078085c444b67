"""Maps that know nothing of the network, for the same metrics: what a figure has to beat."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from shardcam.engine.evaluation.metric import ImageRows, MapMetric, Measured
from shardcam.engine.evaluation.pointing_game import Pointing
from shardcam.engine.types import F4, I8, U1

CENTRE, UNIFORM, RANDOM, EDGES = BASELINES = "centre", "uniform", "random", "edges"

U8 = npt.NDArray[np.uint64]


def measure_baseline(
    metric: MapMetric,
    baseline: str,
    grid: tuple[int, ...],
    rows: ImageRows,
    *,
    seed: int = 0,
    pixels: U1 | None = None,
) -> Measured:
    """What a metric says of the maps of a baseline, (h,w) each as those of the layer are.

    The centre of the pointing game is the middle of the picture, to the half pixel.

    Parameters
    ----------
    metric, baseline
        `baseline` is one of BASELINES.
    grid
        h, w of the layer's maps.
    rows
        The images.
    seed
        Of the random maps.
    pixels : (n, H, W, 3) uint8
        What the network sees of each image: for EDGES only.
    """
    if baseline == CENTRE and isinstance(metric, Pointing):
        return metric.measure_centre(rows)
    return metric.measure(baseline_maps(baseline, grid, rows, seed, pixels), rows)


def baseline_maps(
    baseline: str, grid: tuple[int, ...], rows: ImageRows, seed: int, pixels: U1 | None = None
) -> F4:
    """(n,K,h,w): one map for every class of every image; see `measure_baseline`."""
    n, targets = rows.target.shape
    if baseline == RANDOM:
        return random_maps(seed, rows.sample, (targets, *grid))
    if baseline == EDGES:
        if pixels is None:
            raise ValueError("pixels: the edges of pictures need pictures")
        maps = np.stack([edges(picture, grid) for picture in pixels])[:, None]
    elif baseline == CENTRE:
        maps = centre(grid, rows.view_size)[None, None]
    else:
        maps = np.ones((1, 1, *grid), np.float32)
    return np.ascontiguousarray(np.broadcast_to(maps, (n, targets, *grid)))


def centre(grid: tuple[int, ...], view_size: tuple[int, int]) -> F4:
    """(h,w) a Gaussian in the middle of the view, its deviation half of the view's shorter side.

    wsolevaluation's baseline. Metrics that take the best threshold do not depend on the
    deviation.
    """
    half = min(view_size) / 2
    y, x = (
        ((np.arange(n) + 0.5) / n - 0.5) * side / half
        for n, side in zip(grid, view_size, strict=True)
    )
    found: F4 = np.exp(-(y[:, None] ** 2 + x**2) / 2).astype(np.float32)
    return found


def random_maps(seed: int, sample: I8, shape: tuple[int, ...]) -> F4:
    """(n,...) uniform from 0 to 1, each number a function of seed, sample and place alone.

    SplitMix64 of a counter (Steele, Lea and Flood 2014): in any version of any library a
    resumed run writes the same.
    """
    start = _mixed(np.array([seed], np.uint64))
    of_sample = _mixed(start + sample.astype(np.uint64))
    place = np.arange(np.prod(shape), dtype=np.uint64)
    bits = _mixed(of_sample[:, None] + place) >> np.uint64(40)  # as many as a float32 has
    return (bits.astype(np.float32) * np.float32(2**-24)).reshape(len(sample), *shape)


def edges(picture: U1, grid: tuple[int, ...]) -> F4:
    """(H,W,3) RGB -> (h,w) mean strength of the edges (Sobel's, of the luminance) in each cell."""
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    across, down = (cv2.Sobel(gray, cv2.CV_32F, dx, 1 - dx) for dx in (1, 0))
    strength = cv2.magnitude(across, down)
    return np.asarray(cv2.resize(strength, grid[::-1], interpolation=cv2.INTER_AREA), np.float32)


def _mixed(counter: U8) -> U8:
    word = (counter + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        word = (word ^ (word >> np.uint64(shift))) * np.uint64(factor)
    return word ^ (word >> np.uint64(31))
