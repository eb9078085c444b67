"""``shardcam mosaic``: pictures that show whether maps find a class, without annotation."""

from __future__ import annotations

import json
import shlex
from contextlib import ExitStack
from math import isqrt
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

from shardcam import open_run
from shardcam.engine.analysis.finished_run import Run
from shardcam.engine.config import LARGEST, RunConfig, size_text
from shardcam.engine.errors import ConfigError
from shardcam.engine.evaluation.mosaics import SureImages, drawn_cells, sure_images
from shardcam.engine.io.whole_file import whole_file
from shardcam.engine.run.stored_options import stored_config
from shardcam.engine.rundir.listing import Listing
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.engine.types import NO_LINK, U1, Preprocessing, counted
from shardcam.jobs.completion import complete_path
from shardcam.jobs.options import LocalPath, as_options
from shardcam.jobs.outputs import require_folder, write_csv
from shardcam.jobs.source_files import require_no_source
from shardcam.jobs.source_pictures import SourcePictures
from shardcam.jobs.terminal import make_console, stop_on_signals

MANIFEST, TRUTH, ORIGIN = "manifest.csv", "truth.csv", "mosaics.json"
MIN_SCORE, COUNT = 0.99, 500
_KEPT = (  # options of a run that mosaics are explained with
    *("model", "params", "labels", "output", "input", "rounding", "link", "runtime", "precision"),
    *("channels", "mean", "std", "method", "layer", "tokens", "smooth"),
)


@click.command()
@click.argument("runs", nargs=-1, metavar="RUN [RUN...]", shell_complete=complete_path)
@click.option(
    "--grid",
    type=click.IntRange(min=2, max=8),
    default=3,
    show_default=True,
    help="Cells of a mosaic in a row and in a column.",
)
@click.option(
    "--out",
    required=True,
    type=LocalPath(path_type=Path, file_okay=False),
    help=f"Folder for the mosaics, {MANIFEST}, {TRUTH} and {ORIGIN}.",
)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=COUNT,
    show_default=True,
    help="Mosaics to make; fewer where images do not suffice, for none is used twice.",
)
@click.option(
    "--min-score",
    type=click.FloatRange(0, 1),
    default=MIN_SCORE,
    show_default=True,
    help="Score that an image's first class must have in every RUN.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of what is drawn."
)
@stop_on_signals("the same command begins anew")
def mosaic(
    runs: tuple[str, ...], grid: int, out: Path, count: int, min_score: float, seed: int
) -> None:
    """Make mosaics of images that the network of RUN is sure of, each cell of another class.

    A map of a cell's class should lie in that cell. Cells are what the network saw of an image;
    where images have labels, only those classified right are taken, and with several RUNs those
    that all networks classify so. The manifest names the classes of each mosaic's cells, which
    --target labels explains in one pass; evaluate --metrics grid_pointing then gives the share of
    each map that lies in its cell. The network must take an input of several times its size.

    \b
    Examples:
      shardcam mosaic runs/photos --grid 3 --out mosaics
      shardcam mosaic runs/resnet runs/vgg --grid 2 --count 200 --out mosaics
    """
    if not runs:
        raise ConfigError("mosaic takes a run: its scores say which images its network is sure of")
    require_folder("--out", out)
    if out.is_dir() and any(not path.match("mosaic-*.png") for path in out.iterdir()):
        raise ConfigError(f"--out {out}: not empty; give another folder")
    require_no_source("--out", [out], runs)
    run_dir = RunDir.open(runs[0])
    manifest = read_manifest(run_dir)
    config = stored_config(runs[0], manifest.config)
    if config.link == NO_LINK:
        raise ConfigError(f"{runs[0]}: its network claims no class, so it is sure of none")
    if config.copies:
        raise ConfigError(f"{runs[0]}: its images keep their size (--resize none); cells have one")
    preprocessing = Preprocessing.stored(manifest.numbers["preprocessing"])
    height, width = preprocessing.height * grid, preprocessing.width * grid
    if max(height, width) > LARGEST:
        raise ConfigError(
            f"--grid {grid}: mosaics of {width}x{height} pixels; a network's input has at most "
            f"{LARGEST}"
        )
    console = make_console()
    with ExitStack() as stack:
        opened = [stack.enter_context(open_run(run)) for run in runs]
        images = sure_images(opened, min_score)
        run_dir.fetch(run_dir.listing)
        pictures = SourcePictures(Listing(run_dir.listing), config)
        chosen = [*drawn_cells(images, grid * grid, count, seed)]
        with console.status("drawing") as status:
            for number, cells in enumerate(chosen):
                views = [
                    pictures.view(opened[0], int(row), preprocessing) for row in images.rows[cells]
                ]
                _write_png(tiled(np.stack(views)), out / f"{_name(number)}.png")
                status.update(f"{counted(number + 1, 'mosaic')} of {len(chosen)}")
        _write_origin(out, images, chosen, _keys(opened[0], images, chosen), runs, grid, seed)
        _write_tables(out, images, chosen, grid, preprocessing)
    fewer = "" if len(chosen) == count else f" of the {count} asked for: images did not suffice"
    console.print(f"{counted(len(chosen), 'mosaic')} in {out}{fewer}", soft_wrap=True)
    console.print("next:", soft_wrap=True)
    for line in _next(out, config, size_text(height, width)):
        console.print(f"  {line}", soft_wrap=True)


def tiled(views: U1) -> U1:
    """(n*n,H,W,3) -> (n*H,n*W,3), row by row."""
    cells, height, width, _ = views.shape
    grid = isqrt(cells)
    rows = views.reshape(grid, grid, height, width, 3).swapaxes(1, 2)
    return rows.reshape(grid * height, grid * width, 3)


def _name(number: int) -> str:
    return f"mosaic-{number:05d}"


def _write_png(picture: U1, path: Path) -> None:
    _, data = cv2.imencode(".png", picture[..., ::-1])
    with whole_file(path) as stream:
        stream.write(data.tobytes())


def _write_tables(
    out: Path,
    images: SureImages,
    chosen: list[Any],
    grid: int,
    preprocessing: Preprocessing,
) -> None:
    """The source of the mosaics, a row for each, and the boxes of their classes."""
    mosaics = [(_name(i), images.classes[cells].tolist()) for i, cells in enumerate(chosen)]
    height, width = preprocessing.height, preprocessing.width
    boxes = (
        (key, cls, x * width, y * height, (x + 1) * width, (y + 1) * height)
        for key, classes in mosaics
        for cls, (y, x) in zip(classes, np.ndindex(grid, grid), strict=True)
    )
    write_csv(out / TRUTH, ("key", "class", "x0", "y0", "x1", "y1"), boxes)
    sources = ((f"{key}.png", key, ";".join(map(str, classes))) for key, classes in mosaics)
    write_csv(out / MANIFEST, ("path", "key", "labels"), sources)


def _keys(run: Run, images: SureImages, chosen: list[Any]) -> list[list[str]]:
    """The keys of the cells of each mosaic."""
    found = []
    for cells in chosen:
        rows = images.rows[cells]
        keys = run["key"][rows].tolist()
        found.append([key.decode(errors="backslashreplace") for key in keys])
    return found


def _write_origin(
    out: Path,
    images: SureImages,
    chosen: list[Any],
    keys: list[list[str]],
    runs: tuple[str, ...],
    grid: int,
    seed: int,
) -> None:
    """What each mosaic is made of, as JSON."""
    mosaics = {
        f"{_name(number)}.png": [
            {"key": key, "class": int(images.classes[cell]), "score": float(images.scores[cell])}
            for key, cell in zip(keys[number], cells.tolist(), strict=True)
        ]
        for number, cells in enumerate(chosen)
    }
    text = json.dumps(
        {"runs": list(runs), "grid": grid, "seed": seed, "mosaics": mosaics}, indent=2
    )
    with whole_file(out / ORIGIN) as stream:
        stream.write(f"{text}\n".encode())


def _next(out: Path, config: RunConfig, size: str) -> list[str]:
    """The commands that explain the mosaics, and measure how well."""
    run = f"{out}-run"
    extract = ["shardcam", "extract", str(out / MANIFEST), *as_options(config, _KEPT)]
    extract += ["--target", "labels", "--image-size", size, "--out", run]
    evaluate = ["shardcam", "evaluate", run, "--metrics", "grid_pointing"]
    return [shlex.join(extract), shlex.join([*evaluate, "--truth", str(out / TRUTH)])]
