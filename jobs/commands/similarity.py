"""``shardcam similarity``: how alike layers, networks and precisions are."""

from __future__ import annotations

import json
import math
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from shardcam.engine.evaluation.layer_similarity import KINDS, Similarity, run_similarity
from shardcam.engine.evaluation.streamed_similarity import CKA, MEASURES, UNBIASED
from shardcam.engine.io.whole_file import whole_file
from shardcam.engine.types import counted
from shardcam.jobs.completion import complete_path
from shardcam.jobs.looking.evaluation_plots import draw_similarity, require_plot
from shardcam.jobs.outputs import (
    NEW_FILE,
    csv_option,
    plot_option,
    print_written,
    require_new,
    write_csv,
)
from shardcam.jobs.terminal import make_console, stop_on_signals


@click.command()
@click.argument(
    "runs", nargs=-1, required=True, metavar="RUN [RUN...]", shell_complete=complete_path
)
@click.option(
    "--layer",
    "layers",
    multiple=True,
    help="The only layers to compare; may be given several times  [default: all that were saved]",
)
@click.option(
    "--of",
    "kind",
    type=click.Choice(KINDS),
    help="What to compare  [default: pooled, if every run has them]",
)
@click.option(
    "--measure",
    "measures",
    multiple=True,
    type=click.Choice(MEASURES),
    default=(CKA, UNBIASED),
    show_default=True,
    help="Linear CKA of any number of images; RSA of all pairs of images. May be given several "
    "times.",
)
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    help="Compare so many images, evenly over those that all runs have.",
)
@csv_option("a row for each pair of layers")
@click.option("--json", "json_file", type=NEW_FILE, help="Write the matrices to this file, too.")
@plot_option("the matrices")
@click.option("--force", is_flag=True, help="Replace what is at --csv, --json and --plot.")
@stop_on_signals("the same command begins anew")
def similarity(
    runs: tuple[str, ...],
    layers: tuple[str, ...],
    kind: str | None,
    measures: tuple[str, ...],
    sample: int | None,
    table_file: Path | None,
    json_file: Path | None,
    plot: Path | None,
    force: bool,
) -> None:
    """See how alike the layers of RUNs are, by what they made of the same images.

    Takes the pooled features or activations that runs saved, and matches images by key.

    \b
    Examples:
      shardcam similarity runs/resnet
      shardcam similarity runs/fp32 runs/int8 --plot precisions.png
      shardcam similarity runs/resnet runs/vgg --measure rsa --sample 2000
    """
    if plot is not None:
        require_plot(plot)
    for option, path in (("--csv", table_file), ("--json", json_file), ("--plot", plot)):
        require_new(option, path, force, runs)
    console, done = make_console(), 0

    with console.status("comparing") as status:

        def on_images(images: int) -> None:
            nonlocal done
            done += images
            status.update(f"{counted(done, 'image')} read")

        found = run_similarity(runs, layers, kind, measures, sample, on_images)
    print_similarity(found, console)
    if table_file is not None:
        write_similarity(found, table_file)
    if json_file is not None:
        text = json.dumps(found.as_json(), indent=1, allow_nan=False)
        with whole_file(json_file) as stream:
            stream.write(f"{text}\n".encode())
    if plot is not None:
        draw_similarity(found, plot)
    print_written(console, table_file, json_file, plot)


def print_similarity(found: Similarity, console: Console) -> None:
    """A matrix for each measure, whose columns are numbered as its rows, and what was left out."""
    for measure, values in found.values.items():
        images = counted(found.compared[measure], "image")
        table = Table(box=None, title=f"{measure} of {found.of}, {images}", title_justify="left")
        table.add_column("")
        table.add_column("layer")
        for number in range(1, len(values) + 1):
            table.add_column(str(number), justify="right")
        for number, (name, row) in enumerate(zip(found.names, values.tolist(), strict=True), 1):
            texts = ("-" if math.isnan(value) else f"{value:.4f}" for value in row)
            table.add_row(str(number), name, *texts)
        console.print(table)
    account = Table(show_header=False, box=None)
    runs = found.left_out
    account.add_row("images", f"{found.images}{' that all runs have' * (len(runs) > 1)}")
    for run, alone in runs.items():
        if alone:
            account.add_row("", f"{counted(alone, 'image')} of {run} that not all have: left out")
    fewest = min(found.compared.values())
    if lost := found.images - fewest:
        account.add_row(
            "left out",
            f"{counted(lost, 'image')} with features that are not finite, or (RSA) all the same",
        )
    if any(math.isnan(value) for values in found.values.values() for value in values.flat):
        account.add_row("-", "a layer that is the same for all images is like nothing")
    widest = max(one.features for one in found.representations)
    if CKA in found.values and fewest < widest:
        account.add_row(
            "warning",
            f"{CKA} of fewer images than features ({widest}) tends to 1; see {UNBIASED}",
        )
    console.print(account)


def write_similarity(found: Similarity, path: Path) -> None:
    """A row for each measure and pair of layers."""
    rows = (
        (measure, one.run, one.layer, other.run, other.layer, value, found.compared[measure])
        for measure, values in found.values.items()
        for one, row in zip(found.representations, values.tolist(), strict=True)
        for other, value in zip(found.representations, row, strict=True)
    )
    header = ("measure", "run", "layer", "other_run", "other_layer", "value", "images")
    write_csv(path, header, rows)
