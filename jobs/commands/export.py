"""``shardcam export``: maps, masks and boxes of a run, for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from shardcam import open_run
from shardcam.engine.analysis.export_coco import NO_REGIONS
from shardcam.engine.analysis.finished_run import Run
from shardcam.engine.errors import ConfigError
from shardcam.engine.run.class_names import kept_class_names, numbered
from shardcam.engine.run.stored_options import stored_config
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.types import NO_CLASS, counted
from shardcam.export import coco, masks, npy
from shardcam.jobs.completion import complete_path
from shardcam.jobs.terminal import make_console, stop_on_signals

THRESHOLD = 0.5


@click.command()
@click.argument("run", shell_complete=complete_path)
@click.option(
    "--to",
    "form",
    type=click.Choice(["npy", "masks", "coco"]),
    required=True,
    help="npy: the raw maps as one array; masks: a PNG of each image's size, 255 where the heatmap "
    "is high; coco: boxes and regions of high values, as JSON.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="File to write; for masks a folder.",
)
@click.option("--force", is_flag=True, help="Replace an existing --out.")
@click.option("--layer", help="Layer whose maps to write; needed if the run has several.")
@click.option(
    "--threshold",
    type=float,
    help="Where the heatmap counts as high: above this share of its range, between 0 and 1  "
    f"[default: {THRESHOLD}]",
)
@click.option(
    "--target-index",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Which of the explained classes of each image, counted from 0.",
)
@stop_on_signals("the same command begins anew")
def export(
    run: str,
    form: str,
    out: Path,
    force: bool,
    layer: str | None,
    threshold: float | None,
    target_index: int,
) -> None:
    """Write the maps of RUN for other programs, a shard at a time.

    Rows and images are in the order of the run's `key`.

    \b
    Examples:
      shardcam export runs/photos --to npy --out maps.npy
      shardcam export runs/photos --to masks --out masks --threshold 0.3
    """
    if form == "npy" and threshold is not None:
        raise ConfigError("--threshold: npy takes the maps as they are; it is for masks and coco")
    if not force:
        _require_new(out)
    level = THRESHOLD if threshold is None else threshold
    with open_run(run) as opened:
        chosen = layer or _only_layer(opened)
        if target_index >= opened.cam(chosen).shape[1]:
            explained = opened.cam(chosen).shape[1]
            raise ConfigError(f"--target-index {target_index}: {explained} explained, from 0")
        if form == "npy":
            done = counted(npy(opened, out, chosen, target_index), "map")
        elif form == "masks":
            written = masks(opened, out, chosen, level, target_index)
            done = counted(written, "mask")
        else:
            config = stored_config(run, opened.config)
            names = kept_class_names(RunDir.open(run), config) or numbered
            count = coco(opened, out, chosen, level, target_index, names)
            done = f"{counted(count, 'region')} of {counted(len(opened), 'picture')}"
            unusable = opened["flags"][:] & NO_REGIONS > 0
            if without := int((unusable | (opened["target"][:, target_index] == NO_CLASS)).sum()):
                done += (
                    f" ({without} left out: their maps are not finite, all zero or constant, or of "
                    "no class)"
                )
        make_console().print(f"{done} of {chosen} written to {out}", soft_wrap=True)


def _require_new(out: Path) -> None:
    """Nothing of the user's may be lost, and masks of two runs may not be mixed."""
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        what = "not empty" if out.is_dir() else "exists"
        raise ConfigError(f"--out {out}: {what}; --force replaces what is there")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}")


def _only_layer(run: Run) -> str:
    if len(run.layers) != 1:
        if not run.layers:
            raise ConfigError("this run has no maps: it was made without maps in --save")
        raise ConfigError(f"--layer: choose one of the layers with maps: {', '.join(run.layers)}")
    return run.layers[0]
