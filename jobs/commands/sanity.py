"""``shardcam sanity``: whether maps depend on what the network has learnt."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import needs
from shardcam.engine.evaluation.sanity_checks import RESULT, STEPS, SanityStep, run_sanity
from shardcam.engine.run.extraction import run_extraction
from shardcam.engine.run.stored_options import stored_config
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.jobs.completion import complete_path
from shardcam.jobs.options import LocalPath, changed_config, place_options
from shardcam.jobs.outputs import require_folder
from shardcam.jobs.progress import ProgressDisplay
from shardcam.jobs.resumable import resumable
from shardcam.jobs.sections import SectionedCommand, section_option
from shardcam.jobs.terminal import make_console

CURVE = "curve.png"
_SHOWN = {"spearman": "Spearman", "spearman_abs": "of absolute", "ssim": "SSIM"}


_option = section_option("Sanity check")


@click.command(cls=SectionedCommand)
@click.argument("run", shell_complete=complete_path)
@_option(
    "--out",
    required=True,
    type=LocalPath(path_type=Path, file_okay=False),
    help=f"Folder for the runs of the cascade, {RESULT} and {CURVE}.",
)
@_option(
    "--steps",
    type=click.IntRange(min=1),
    default=STEPS,
    show_default=True,
    help="Runs of the cascade: the last layer with weights alone, and so on to all of them, evenly "
    "over the layers with weights.",
)
@_option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="What weights are drawn from.",
)
@place_options
def sanity(run: str, out: Path, steps: int, seed: int, **place: Any) -> None:
    """See whether the maps of RUN change as the network's weights are lost.

    From the logits down, more and more layers get random weights; the maps of the same images and
    classes are compared with those of RUN. Where they stay alike, they show what is in the
    picture, not what the network has learnt. The same command resumes what was stopped.

    \b
    Examples:
      shardcam sanity runs/photos --out runs/photos-sanity
      shardcam sanity runs/photos --out runs/photos-sanity --steps 4 --executor local
    """
    require_folder("--out", out, [run])
    config = changed_config(stored_config(run, read_manifest(RunDir.open(run)).config), place)
    config = config.model_copy(update={"out": run})
    console = make_console()
    with resumable() as observed:

        def extract_one(step: RunConfig) -> None:
            console.print(f"random weights from {step.randomise} to the logits", soft_wrap=True)
            with ProgressDisplay(console) as display:
                run_extraction(step, observed(display.show), may_exit=True)

        found = run_sanity(config, out, steps, seed, extract_one)
        for number in range(len(found[0].comparison.layers)):
            console.print(_table(found, number))
        told = Table(show_header=False, box=None)
        told.add_row("written", str(out / RESULT))
        if find_spec("matplotlib") is None:
            told.add_row("left out", f"{CURVE}: it {needs('matplotlib')}")
        else:
            from shardcam.jobs.looking.sanity_curve import draw_sanity_curve

            draw_sanity_curve(found, out / CURVE)
            told.add_row("", str(out / CURVE))
        console.print(told)


def _table(found: Sequence[SanityStep], number: int) -> Table:
    layer = found[0].comparison.layers[number].layer
    title = f"maps of {layer}: likeness to those of the trained network"
    table = Table(box=None, title=title, title_justify="left")
    table.add_column("random from")
    for column in ("layers", *_SHOWN.values(), "of"):
        table.add_column(column, justify="right")
    for step in found:
        figures = step.comparison.layers[number].figures
        means = (f"{figures[name].value:.4f}" for name in _SHOWN)
        table.add_row(step.layer, str(step.layers), *means, str(figures["spearman"].n))
    return table
