"""``shardcam export``: maps, masks, boxes and features of a run, for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from shardcam import open_run
from shardcam.engine.analysis.class_scores import IRN, NORMALISATIONS
from shardcam.engine.analysis.export_seeds import EVAL_THRESHOLD
from shardcam.engine.analysis.feature_rows import FEATURES
from shardcam.engine.errors import ConfigError
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.jobs.completion import complete_path
from shardcam.jobs.export_folder import (
    MADE_OF,
    begin_or_go_on,
    forget_unbegun,
    require_new_folder,
)
from shardcam.jobs.export_forms import FILE, FOLDER, FORMS, THRESHOLD, Asked, default_threshold
from shardcam.jobs.outputs import NEW_PLACE, require_folder, require_new
from shardcam.jobs.source_files import require_no_source
from shardcam.jobs.terminal import make_console, stop_on_signals


def _those_that_take(option: str) -> str:
    return ", ".join(name for name, form in FORMS.items() if option in form.takes)


@click.command()
@click.argument("run", shell_complete=complete_path)
@click.option(
    "--to",
    "form",
    type=click.Choice([*FORMS]),
    required=True,
    help="npy: the raw maps as one array; masks: a PNG of each image's size, 255 where the heatmap "
    "is high; coco: boxes and regions of high values, as JSON; heatmaps: a transparent PNG of each "
    "image's size; crops: what lies under the largest high region; seeds: a PNG of each image's "
    "size with the class + 1 of each pixel; irn, psa: the .npy dictionaries of these programs; the "
    "others: features or maps in the layout of that program.",
)
@click.option(
    "--out",
    type=NEW_PLACE,
    required=True,
    help="Folder to write into; for npy and coco a file.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Replace an existing file; in a folder those of the same names, and leave others.",
)
@click.option("--layer", help="Layer to write; needed if the run has several.")
@click.option(
    "--of",
    type=click.Choice(FEATURES),
    help=f"What to write to {_those_that_take('of')}  [default: the first that the run has]",
)
@click.option(
    "--threshold",
    metavar="SHARE[,SHARE]",
    help="Where the heatmap counts as high: above this share of its range, between 0 and 1. Of "
    "seeds the score above which a pixel is of a class; or two, 255 between them, undecided  "
    f"[default: {THRESHOLD}; of seeds {EVAL_THRESHOLD}]",
)
@click.option(
    "--target-index",
    type=click.IntRange(min=0),
    help="Which of the explained classes of each image, counted from 0  [default: 0]",
)
@click.option(
    "--scores",
    type=click.Choice(NORMALISATIONS),
    help=f"From maps to the scores that seeds are made of  [default: {IRN}]",
)
@click.option(
    "--classes",
    metavar="NUMBER[,NUMBER...]",
    help="The only classes that count in seeds, the first of which becomes 1  [default: all, "
    "class + 1]",
)
@click.option(
    "--crf",
    is_flag=True,
    help="Refine seeds by a dense CRF and the pictures, as IRN does: what is above each threshold.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help=f"Processes that write {_those_that_take('workers')}  [default: one for each core, fewer "
    "for few images]",
)
def export(
    run: str,
    form: str,
    out: Path,
    force: bool,
    layer: str | None,
    of: str | None,
    threshold: str | None,
    target_index: int | None,
    scores: str | None,
    classes: str | None,
    crf: bool,
    workers: int | None,
) -> None:
    """Write the maps or features of RUN for other programs, some rows at a time.

    Rows and images are in the order of the run's `key`.

    \b
    Examples:
      shardcam export runs/photos --to npy --out maps.npy
      shardcam export runs/photos --to heatmaps --out heatmaps
      shardcam export runs/photos --to faiss --of pooled --out index
      shardcam export runs/voc --to seeds --out seeds --threshold 0.05,0.30 --crf
    """
    given = {
        "of": of,
        "threshold": threshold,
        "target_index": target_index,
        "scores": scores,
        "classes": classes,
        "crf": crf or None,
        "workers": workers,
    }
    for option, value in given.items():
        if value is not None and option not in FORMS[form].takes:
            name = option.replace("_", "-")
            raise ConfigError(f"--{name}: it is for {_those_that_take(option)}, not for {form}")
    levels, numbers = _levels(threshold, form), _numbers(classes)
    if FORMS[form].place == FILE:
        require_new("--out", out, force, [run])
    else:
        require_folder("--out", out)
    console = make_console()
    with open_run(run) as opened:
        home = RunDir.open(run)
        asked = Asked(
            opened, home, form, out, layer, target_index or 0, levels, scores or IRN, numbers, crf,
            of, workers, console,
        )  # fmt: skip
        job, keep = FORMS[form].prepare(asked), False
        if FORMS[form].place == FOLDER and (force or not (out / (job.note or MADE_OF)).exists()):
            require_no_source("--out", [out], [run])  # what another export has made is kept
        what_next = "begins anew"
        if job.made_of is not None:
            what_next = "without --force goes on" if force else "goes on"
        with stop_on_signals(f"the same command {what_next}"):
            if job.made_of is not None:
                made_of = {"run": read_manifest(home).fingerprint, "to": form, **job.made_of}
                keep = begin_or_go_on(out, made_of, job.old, force, job.note or MADE_OF)
            elif FORMS[form].place == FOLDER:
                require_new_folder(out, force)
            try:
                told = job.write(keep)
            except ConfigError:
                forget_unbegun(out, job.note or MADE_OF)
                raise
            console.print(told, soft_wrap=True)


def _levels(threshold: str | None, form: str) -> tuple[float, ...]:
    """One threshold, or two of seeds."""
    if threshold is None:
        return (default_threshold(form),)
    try:
        levels = tuple(map(float, threshold.split(",")))
    except ValueError:
        levels = ()
    if not 1 <= len(levels) <= (2 if form == "seeds" else 1):
        takes = "a number, or two for seeds, such as 0.05,0.30"
        raise ConfigError(f"--threshold {threshold}: takes {takes}")
    if form == "seeds" and not 0 <= levels[0] <= levels[-1] <= 1:
        takes = "a number from 0 to 1, or two by rising value"
        raise ConfigError(f"--threshold {threshold}: expected {takes}, such as 0.05,0.30")
    if form != "seeds" and not 0 < levels[0] < 1:
        raise ConfigError(f"--threshold {threshold}: expected a number between 0 and 1")
    return levels


def _numbers(classes: str | None) -> tuple[int, ...]:
    words = [] if classes is None else classes.split(",")
    if not all(word.strip().isdecimal() for word in words):
        raise ConfigError(f"--classes {classes}: takes numbers of classes, such as 281,285")
    return tuple(map(int, words))
