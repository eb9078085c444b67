"""How alike layers of runs are: ``shardcam similarity``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from os import PathLike, fspath
from typing import Any

import numpy as np

from shardcam.engine.analysis.finished_run import Run
from shardcam.engine.analysis.open_run import open_run
from shardcam.engine.errors import ConfigError
from shardcam.engine.evaluation.likeness import finite
from shardcam.engine.evaluation.measure_shard import sampled
from shardcam.engine.evaluation.paired_images import KeyRows
from shardcam.engine.evaluation.streamed_similarity import (
    CKA,
    MEASURES,
    UNBIASED,
    Block,
    similarities,
)
from shardcam.engine.run.python_words import names_keywords
from shardcam.engine.rundir.schema import layer_path
from shardcam.engine.types import F8, I8

POOLED, ACTIVATIONS = KINDS = "pooled", "activations"
_DATASETS = {POOLED: "pooled", ACTIVATIONS: "activation"}
_WORDS = {POOLED: "pooled features", ACTIVATIONS: "activations"}
_BLOCK, _BLOCK_BYTES = (16, 512), 1 << 27  # images that are read at once


@dataclass(frozen=True)
class Representation:
    """What one layer of a run made of the images."""

    run: str
    layer: str
    features: int  # of each image


@dataclass(frozen=True)
class Similarity:
    """How alike M representations of the same images are."""

    of: str  # pooled or activations
    representations: tuple[Representation, ...]
    images: int  # that all runs have, or as many as were asked for
    left_out: dict[str, int]  # of each run: images that not all have
    values: dict[str, F8]  # (M,M) by measure; NaN where a layer is constant
    compared: dict[str, int]  # of the images, those without a feature that stands in the way

    @property
    def names(self) -> list[str]:
        """(M,) what representations are called."""
        several = len({one.run for one in self.representations}) > 1
        return [f"{one.run}:{one.layer}" if several else one.layer for one in self.representations]

    def as_json(self) -> dict[str, Any]:
        """As ``--json`` writes it; what is not a number is null there."""
        return {
            "of": self.of,
            "representations": [vars(one) for one in self.representations],
            "images": self.images,
            "left_out": self.left_out,
            "measures": {
                name: {
                    "images": self.compared[name],
                    "matrix": [[finite(value) for value in row] for row in values.tolist()],
                }
                for name, values in self.values.items()
            },
        }


@names_keywords
def similarity(
    *runs: str | PathLike[str],
    layer: str | Sequence[str] | None = None,
    of: str | None = None,
    measure: str | Sequence[str] = (CKA, UNBIASED),
    sample: int | None = None,
    on_images: Callable[[int], None] = lambda images: None,
) -> Similarity:
    """Compare layers of one run, or of several, by what they made of the same images.

    Images are matched by key; those that not all runs have are left out, and counted. Runs are
    read block by block: of pooled features memory grows with the square of how many there are,
    and hardly with the images. Of more than 8,000 features (activations), and for RSA, all pairs
    of images are gone through: time grows with the square of the images.

    Parameters
    ----------
    runs
        Run directories, or their URLs.
    layer
        The only layers to compare; by default all that the runs saved.
    of
        ``"pooled"`` or ``"activations"``, which are taken as one row of features for an image; by
        default pooled if every run has them.
    measure
        One or more. ``"cka"``: linear CKA (Kornblith et al. 2019); it tends to 1 where there
        are fewer images than features. ``"cka-unbiased"``: the same of HSIC1, about 0 for what
        has nothing in common. ``"rsa"``: Pearson's correlation of the dissimilarities
        1 - Pearson's correlation of two images' features, over all pairs of images.
        ``"rsa-spearman"``: Spearman's of the same.
    sample
        So many of the images, evenly over those that all runs have.
    on_images
        Is called with the number of images that were read, of all passes.

    Returns
    -------
    Similarity

    Raises
    ------
    ConfigError
        There is one layer only, the runs share no image, or an option cannot be used.
    RunDirectoryError
        A run is damaged.
    """
    layers = [layer] if isinstance(layer, str) else list(layer or ())
    measures = [measure] if isinstance(measure, str) else list(measure)
    return run_similarity([fspath(run) for run in runs], layers, of, measures, sample, on_images)


def run_similarity(
    names: Sequence[str],
    layers: Sequence[str],
    of: str | None,
    measures: Sequence[str],
    sample: int | None,
    on_images: Callable[[int], None],
) -> Similarity:
    """Do as `similarity`."""
    if not names:
        raise ConfigError("similarity: takes one run or more")
    if unknown := [one for one in measures if one not in MEASURES] or ([] if measures else ["''"]):
        raise ConfigError(f"--measure {unknown[0]}: takes {', '.join(MEASURES)}")
    if sample is not None and sample < 1:
        raise ConfigError(f"--sample {sample}: takes a number of images")
    with ExitStack() as stack:
        opened = [stack.enter_context(open_run(name)) for name in names]
        of = of or next((one for one in KINDS if all(_saved(run, one) for run in opened)), POOLED)
        if of not in KINDS:
            raise ConfigError(f"--of {of}: takes {' or '.join(KINDS)}")
        chosen = _chosen(names, opened, of, layers)
        rows = _shared(names, opened)
        common, totals = len(rows[0]), [len(run) for run in opened]
        if sample is not None and sample < common:
            rows = [one[sampled(common, sample)] for one in rows]

        def blocks() -> Iterator[Block]:
            datasets = [(at, opened[at][f"{_DATASETS[of]}/{one.layer}"]) for at, one in chosen]
            step = min(max(_BLOCK_BYTES // (8 * width), _BLOCK[0]), _BLOCK[1])
            for start in range(0, len(rows[0]), step):
                some = [one[start : start + step] for one in rows]
                yield [
                    values[some[at]].reshape(len(some[at]), -1).astype(np.float64)
                    for at, values in datasets
                ]
                on_images(len(some[0]))

        width = sum(one.features for _, one in chosen)
        found = similarities(blocks, measures)
    return Similarity(
        of=of,
        representations=tuple(one for _, one in chosen),
        images=len(rows[0]),
        left_out={name: total - common for name, total in zip(names, totals, strict=True)},
        values={name: one.values for name, one in found.items()},
        compared={name: one.images for name, one in found.items()},
    )


def _saved(run: Run, of: str) -> dict[str, int]:
    """Layers with such features, and how many of an image."""
    kind = _DATASETS[of]
    return {layer: prod(run[f"{kind}/{layer}"].shape[1:]) for layer in run.layers_with(kind)}


def _chosen(
    names: Sequence[str], runs: Sequence[Run], of: str, layers: Sequence[str]
) -> list[tuple[int, Representation]]:
    """The layers to compare, and the number of the run of each."""
    wanted = [layer_path(layer) for layer in layers]
    saved = [_saved(run, of) for run in runs]
    for name, found in zip(names, saved, strict=True):
        if not found:
            raise ConfigError(f"{name}: has no {_WORDS[of]}; extract with --save {of}")
        if wanted and not found.keys() & set(wanted):
            known = ", ".join(found)
            raise ConfigError(
                f"--layer: {name} has no {_WORDS[of]} of {', '.join(layers)}; it has {known}"
            )
    for layer, path in zip(layers, wanted, strict=True):
        if not any(path in found for found in saved):
            known = ", ".join(dict.fromkeys(one for found in saved for one in found))
            raise ConfigError(f"--layer {layer}: no run has {_WORDS[of]} of it; they have {known}")
    chosen = [
        (at, Representation(name, layer, features))
        for at, (name, found) in enumerate(zip(names, saved, strict=True))
        for layer, features in found.items()
        if layer in wanted or not wanted
    ]
    if len(chosen) < 2:
        raise ConfigError(
            f"similarity: {names[0]} has {_WORDS[of]} of one layer, {chosen[0][1].layer}; give "
            "another run, or extract with several (--activation-layer)"
        )
    return chosen


def _shared(names: Sequence[str], runs: Sequence[Run]) -> list[I8]:
    """Of each run the rows of the images that all have, in the order of the first."""
    others = [KeyRows(run) for run in runs[1:]]
    found: list[list[I8]] = [[] for _ in runs]
    start = 0
    for part in runs[0].shards():
        keys = part["key"][:]
        rows = np.array([np.arange(start, start + len(part)), *(one.find(keys) for one in others)])
        both = rows[:, (rows >= 0).all(axis=0)]
        for mine, one in zip(found, both, strict=True):
            mine.append(one)
        start += len(part)
    joined = [np.concatenate([*one, np.empty(0, np.int64)]).astype(np.int64) for one in found]
    if not len(joined[0]):
        examples = " and ".join(
            f"{run.take(0).keys[0]!r} in {name}" if len(run) else f"none in {name}"
            for name, run in zip(names, runs, strict=True)
        )
        raise ConfigError(f"the runs share no image: keys such as {examples}")
    return joined
