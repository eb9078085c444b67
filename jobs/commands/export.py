"""``shardcam export``: maps, masks and boxes of a run, for other programs."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import click

from shardcam import open_run
from shardcam.engine.analysis.class_scores import IRN, NORMALISATIONS
from shardcam.engine.analysis.export_coco import NO_REGIONS
from shardcam.engine.analysis.export_seeds import (
    EVAL_THRESHOLD,
    SeedFiles,
    file_stems,
    require_few_classes,
)
from shardcam.engine.analysis.finished_run import Run
from shardcam.engine.errors import ConfigError, storage_error
from shardcam.engine.io.plain_file import parse_json, read_plain
from shardcam.engine.io.whole_file import whole_file
from shardcam.engine.run.class_names import kept_class_names, numbered
from shardcam.engine.run.stored_options import stored_config
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.engine.types import NO_CLASS, counted
from shardcam.export import coco, masks, npy
from shardcam.jobs.completion import complete_path
from shardcam.jobs.export_processes import Writer, write_all
from shardcam.jobs.outputs import require_new
from shardcam.jobs.terminal import make_console, stop_on_signals

THRESHOLD = 0.5
SEEDS = "seeds", "irn", "psa"  # a file of each image, all classes in it
MADE_OF = "export.json"  # in their folder: what its files are made of
_MOST = 1 << 20  # bytes of that file


@click.command()
@click.argument("run", shell_complete=complete_path)
@click.option(
    "--to",
    "form",
    type=click.Choice(["npy", "masks", "coco", *SEEDS]),
    required=True,
    help="npy: the raw maps as one array; masks: a PNG of each image's size, 255 where the heatmap "
    "is high; coco: boxes and regions of high values, as JSON; seeds: a PNG of each image's size "
    "with the class + 1 of each pixel; irn, psa: the .npy dictionaries of these programs.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="File to write; for masks, seeds, irn and psa a folder.",
)
@click.option("--force", is_flag=True, help="Replace an existing --out.")
@click.option("--layer", help="Layer whose maps to write; needed if the run has several.")
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
    help="Processes that write seeds, irn or psa  [default: one for each core, fewer for few "
    "images]",
)
@stop_on_signals("the same command begins anew; seeds, irn and psa go on")
def export(
    run: str,
    form: str,
    out: Path,
    force: bool,
    layer: str | None,
    threshold: str | None,
    target_index: int | None,
    scores: str | None,
    classes: str | None,
    crf: bool,
    workers: int | None,
) -> None:
    """Write the maps of RUN for other programs, a shard at a time.

    Rows and images are in the order of the run's `key`.

    \b
    Examples:
      shardcam export runs/photos --to npy --out maps.npy
      shardcam export runs/photos --to masks --out masks --threshold 0.3
      shardcam export runs/voc --to seeds --out seeds --threshold 0.05,0.30 --crf
    """
    if form in ("npy", "irn", "psa") and threshold is not None:
        raise ConfigError(
            f"--threshold: {form} takes the maps as they are; it is for masks, coco and seeds"
        )
    if scores is not None and form != "seeds":
        raise ConfigError(f"--scores: it is for seeds, not for {form}")
    if classes is not None and form != "seeds":
        raise ConfigError(f"--classes: it is for seeds, not for {form}")
    if crf and form != "seeds":
        raise ConfigError(f"--crf: it is for seeds, not for {form}")
    if workers is not None and form not in SEEDS:
        raise ConfigError(f"--workers: {form} is written by one process")
    levels, numbers = _levels(threshold, form), _numbers(classes)
    if form in SEEDS:
        if target_index is not None:
            raise ConfigError(f"--target-index: {form} takes all explained classes")
        with open_run(run) as opened:
            chosen = layer or _only_layer(opened)
            files = SeedFiles(form, chosen, levels[0], levels[-1], scores or IRN, numbers, crf)
            _export_seeds(opened, RunDir.open(run), files, out, force, workers)
        return
    if form == "masks":
        _require_new_folder(out, force)
    else:
        require_new("--out", out, force)
    target_index, level = target_index or 0, levels[0]
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


def _levels(threshold: str | None, form: str) -> tuple[float, ...]:
    """One threshold, or two of seeds."""
    if threshold is None:
        return (EVAL_THRESHOLD if form == "seeds" else THRESHOLD,)
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


def _export_seeds(
    opened: Run, run_dir: RunDir, files: SeedFiles, out: Path, force: bool, workers: int | None
) -> None:
    """Files of each image; those that the same command wrote before are kept."""
    made_of: dict[str, Any] = {
        "run": read_manifest(run_dir).fingerprint,
        "to": files.form,
        "layer": files.layer,
    }
    if files.form == "seeds":
        made_of |= {"threshold": sorted({files.low, files.high}), "scores": files.scores}
        if files.classes:
            made_of["classes"] = list(files.classes)
        if files.crf:
            made_of["crf"] = True
    opened.cam(files.layer)  # refuses a layer without maps before anything is written
    if files.form == "seeds":
        require_few_classes(opened, files.classes)
    anew = force or _is_bare(out)
    keep = not anew and _begun(out, made_of)
    if not keep:
        _require_new_folder(out, anew)
    if not keep:
        _remove_old(opened, out, files.ending)
        with whole_file(out / MADE_OF) as stream:
            stream.write(json.dumps(made_of, indent=1).encode() + b"\n")
    if files.crf:
        run_dir.fetch(run_dir.listing)
    writer = Writer(out, files, run_dir.listing, stored_config(run_dir.home, opened.config))
    console = make_console()
    written = write_all(opened, writer, workers, console)
    there = f", {len(opened) - written} were there" if written < len(opened) else ""
    failed = f"; {counted(len(opened.failures), 'image')} failed in the run" * bool(opened.failures)
    text = f"{counted(written, 'file')} of {files.layer} written to {out}{there}{failed}"
    console.print(text, soft_wrap=True)


def _remove_old(opened: Run, out: Path, ending: str) -> None:
    """Files of before, which would count as made already if this command is stopped."""
    try:
        for stem in file_stems(opened.keys, opened["sample"][:].tolist()) if out.is_dir() else ():
            (out / f"{stem}{ending}").unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, out) from error


def _is_bare(out: Path) -> bool:
    """Whether a folder says what was to be made, and nothing was."""
    try:
        if [path.name for path in islice(out.iterdir(), 2)] != [MADE_OF]:
            return False
        stored = parse_json(read_plain(out / MADE_OF, _MOST))
    except (OSError, ValueError):  # told where it is opened
        return False
    return isinstance(stored, dict) and {"run", "to", "layer"} <= stored.keys()


def _begun(out: Path, made_of: dict[str, Any]) -> bool:
    """Whether a folder has files of the same export."""
    try:
        stored = parse_json(read_plain(out / MADE_OF, _MOST))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise storage_error(error, out / MADE_OF) from error
    except ValueError:
        stored = None
    if stored != made_of:
        there = stored if isinstance(stored, dict) else {}
        changed = [name for name in made_of if there.get(name) != made_of[name]] or sorted(there)
        raise ConfigError(
            f"--out {out}: holds an export of another {' and '.join(changed)}; --force replaces "
            "what is there"
        )
    return True


def _require_new_folder(out: Path, force: bool) -> None:
    """Nothing of the user's may be lost, and masks of two runs may not be mixed."""
    if out.is_file():
        raise ConfigError(f"--out {out}: is a file; name a folder")
    if out.is_dir() and any(out.iterdir()) and not force:
        raise ConfigError(f"--out {out}: not empty; --force replaces what is there")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}")


def _only_layer(run: Run) -> str:
    if len(run.layers) != 1:
        if not run.layers:
            raise ConfigError("this run has no maps: it was made without maps in --save")
        raise ConfigError(f"--layer: choose one of the layers with maps: {', '.join(run.layers)}")
    return run.layers[0]
