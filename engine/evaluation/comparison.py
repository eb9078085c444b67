"""How alike the maps of runs are, image by image: ``shardcam compare``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from os import PathLike, fspath
from pathlib import Path

from shardcam.engine.analysis.open_run import open_run
from shardcam.engine.errors import ConfigError
from shardcam.engine.evaluation.comparing import PairTable, RunComparison, common_metrics
from shardcam.engine.evaluation.likeness import Comparison
from shardcam.engine.io.urls import is_url
from shardcam.engine.io.whole_file import whole_file
from shardcam.engine.run.python_words import names_keywords
from shardcam.engine.rundir.metric_results import read_summary
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.workers.cores import usable_cores

MATCHES = ("class", "position")
FILES = COMPARISON, IMAGES = "compare.json", "images.csv"  # of the folder that is asked for


@names_keywords
def compare(
    reference: str | PathLike[str],
    *others: str | PathLike[str],
    layer: str | Sequence[str] | None = None,
    match: str = "class",
    worst: int = 10,
    out: str | PathLike[str] | None = None,
    on_images: Callable[[int], None] = lambda images: None,
) -> list[Comparison]:
    """Compare the maps of runs with those of the first, for the images that they share.

    Images are matched by key, maps by layer and class. Where two layers differ in size, both maps
    are enlarged bilinearly to the larger height and width first. Runs are read shard by shard:
    memory holds 16 bytes for each image of a run, and some maps.

    Parameters
    ----------
    reference, others
        Run directories, or their URLs.
    layer
        One name for all runs, or one for each; by default all layers whose names both runs have,
        else the first layer of each.
    match
        ``"class"``: maps of the same class number; ``"position"``: the first explained class of
        one run with the first of the other, and so on, for networks that number classes
        differently.
    worst
        How many of the least alike maps to list.
    out
        Folder to write ``compare.json`` and ``images.csv``, a row for each pair of maps, into.
    on_images
        Is called with the number of images done so far, of each comparison.

    Returns
    -------
    list of Comparison
        One for each of `others`.

    Raises
    ------
    ConfigError
        The runs share no image or no layer, or an option cannot be used.
    RunDirectoryError
        A run is damaged.
    """
    layers = [layer] if isinstance(layer, str) else list(layer or ())
    if out is not None and is_url(fspath(out)):
        raise ConfigError(f"--out {fspath(out)}: takes a folder of this machine, not a URL")
    folder = Path(fspath(out)) if out is not None else None
    names = [fspath(run) for run in (reference, *others)]
    return run_comparison(names, layers, match, worst, folder, on_images)


def run_comparison(
    names: Sequence[str],
    layers: Sequence[str] = (),
    match: str = MATCHES[0],
    worst: int = 10,
    folder: Path | None = None,
    on_images: Callable[[int], None] = lambda images: None,
) -> list[Comparison]:
    """Do as `compare`, with the names of runs of which the first is the reference."""
    if len(names) < 2:
        raise ConfigError("compare: takes two runs or more; the others are compared with the first")
    if match not in MATCHES:
        raise ConfigError(f"--match {match}: takes {' or '.join(MATCHES)}")
    if layers and len(layers) not in (1, len(names)):
        raise ConfigError(f"--layer: give one for all {len(names)} runs, or one for each in turn")
    layers = [*layers] * len(names) if len(layers) == 1 else layers
    with ExitStack() as stack:
        stream = stack.enter_context(whole_file(folder / IMAGES)) if folder else None
        pool = stack.enter_context(ThreadPoolExecutor(usable_cores()))
        first = stack.enter_context(open_run(names[0]))
        shared = {
            metric
            for name in (names[1:] if folder else ())
            for metric in common_metrics(
                (names[0], name), (first.metrics, read_summary(RunDir.open(name)))
            )[0]
        }
        columns = [name for name in first.metrics if name in shared]
        found: list[Comparison] = []
        for number, name in enumerate(names[1:], 1):
            with open_run(name) as other:
                asked = (layers[0], layers[number]) if layers else None
                comparing = RunComparison(
                    (names[0], name), (first, other), asked, match == "class", worst, pool
                )
                found.append(comparing.run(PairTable(stream, bool(found), columns), on_images))
    if folder is not None:
        text = json.dumps([one.as_json() for one in found], indent=2, allow_nan=False)
        with whole_file(folder / COMPARISON) as file:
            file.write(f"{text}\n".encode())
    return found
