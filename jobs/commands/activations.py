"""``shardcam activations``: what hidden layers compute of a picture, as numbers and as tiles."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from shardcam.engine.analysis.finished_run import Run
from shardcam.engine.analysis.open_run import open_run
from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError
from shardcam.engine.run.class_names import kept_class_names, numbered
from shardcam.engine.rundir.listing import Listing
from shardcam.engine.rundir.overlays import picture_name
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.types import AUTO, NO_LINK
from shardcam.jobs.completion import complete_path
from shardcam.jobs.looking.panels import LayerValues, draw_panels
from shardcam.jobs.looking.tiles import save_picture
from shardcam.jobs.options import chosen_options, make_config
from shardcam.jobs.run_extract import run_extract
from shardcam.jobs.sections import SectionedCommand, section_option
from shardcam.jobs.source_pictures import WHITE, SourcePictures, cut
from shardcam.jobs.terminal import make_console, printable, score_text

RUNS = Path("runs")
_OPTIONS = (
    *("source", "model", "params", "output", "input", "rounding", "link"),
    *("image_size", "resize", "channels", "mean", "std"),
    *("background", "depth_range", "tokens"),
    *("labels", "label_from_folder", "label_data", "root", "limit"),
)


_drawing_option = section_option("What is drawn")


@click.command(cls=SectionedCommand)
@chosen_options(*_OPTIONS)
@_drawing_option(
    "--layer",
    "--activation-layer",
    "layers",
    multiple=True,
    default=(AUTO,),
    show_default=True,
    help="Layer to show, repeatable: any operator of the network, dense layers too; `shardcam "
    "layers --all` lists them. auto is the last spatial layer.",
)
@_drawing_option(
    "--top",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Channels to draw per layer: those with the highest mean. All are stored.",
)
@_drawing_option(
    "--pictures",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Number of images to draw, the first of SOURCE. The values of all are stored.",
)
@_drawing_option(
    "--out",
    shell_complete=complete_path,
    help="Run directory  [default: one in runs/, named after SOURCE and the options]",
)
def activations(
    layers: tuple[str, ...], top: int, pictures: int, out: str | None, **options: Any
) -> None:
    """Draw what hidden layers compute of the images in SOURCE.

    Writes the values to HDF5 (activation/LAYER in a run directory, as extract --save
    activations does), and a PNG for each image: a panel per layer with a tile per channel,
    beside the input. Colours are relative to the layer's largest absolute value in that image.

    \b
    Examples:
      shardcam activations cat.jpg --model efficientnet_lite0 --top 48
      shardcam activations runs/mnist/held-out-images-idx3-ubyte --limit 3 \\
          --model runs/mnist/lenet-symbol.json --layer tanh1 --layer tanh2
    """
    fixed = {"activation_layer": layers, "save": "activations", "executor": "local"}
    unnamed = str(RUNS)  # until the other options are known, which its name is made of
    config = make_config({**options, **fixed, "out": unnamed if out is None else out})
    if out is None:
        config = config.model_copy(update={"out": str(default_out(config))})
    console = make_console()
    try:
        run_extract(config, console)
    except ConfigError as error:  # what extract calls --activation-layer is --layer here
        raise ConfigError(str(error).replace("--activation-layer", "--layer")) from error
    with open_run(config.out) as run:
        draw_activations(run, config, top, pictures, console)
        name = run.activation_layers[-1]
    console.print("in Python:  from shardcam import open_run")
    console.print(f'            open_run("{config.out}").activation("{name}")[0]', soft_wrap=True)


def draw_activations(
    run: Run, config: RunConfig, top: int, pictures: int, console: Console
) -> None:
    """Draw the first images of a run that holds activations, each into a PNG file."""
    run_dir = RunDir(Path(config.out))
    source = SourcePictures(Listing(run_dir.listing), config)
    config = config.model_copy(update={"link": run.config.get("link")})
    name_of, claims = kept_class_names(run_dir, config) or numbered, config.link != NO_LINK
    for i in range(min(pictures, len(run))):
        key, number = run.keys[i], int(run["sample"][i])
        shown = ("top_class", "top_score") if claims else ("target", "score")
        number_of_class, score = (run[name][i, 0] for name in shown)
        what = f"{name_of(int(number_of_class))}, {score_text(float(score))}"
        caption = f"{printable(Path(key).name)}: {what}"
        layers = [LayerValues(name, run.activation(name)[i]) for name in run.activation_layers]
        path = run_dir.activations / f"{picture_name(number, key)}.png"
        seen = cut(source.read(run, i), run["crop"][i], WHITE)
        save_picture(draw_panels(seen, caption, layers, top), path)
        console.print(f"look at {path}", style="bold", soft_wrap=True)


def default_out(config: RunConfig) -> Path:
    """A run directory named after the source and the options: the same for the same ones."""
    asked = config.absolute().model_copy(update={"out": ""}).model_dump_json()
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(config.source.rstrip("/")).stem)[-40:]
    return RUNS / f"activations-{stem}-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"
