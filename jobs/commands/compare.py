"""``shardcam compare``: how alike the maps of runs are, image by image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from shardcam.engine.evaluation.comparison import FILES, MATCHES, run_comparison
from shardcam.engine.evaluation.likeness import MEASURES, Comparison
from shardcam.engine.evaluation.metric import Figure
from shardcam.engine.run.class_names import ClassName, kept_class_names, numbered
from shardcam.engine.run.stored_options import stored_config
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.engine.types import counted
from shardcam.jobs.completion import complete_path
from shardcam.jobs.looking.evaluation_plots import draw_comparisons, require_plot
from shardcam.jobs.options import LocalPath
from shardcam.jobs.outputs import (
    csv_option,
    plot_option,
    print_written,
    require_folder,
    require_new,
    write_csv,
)
from shardcam.jobs.terminal import make_console, printable, stop_on_signals
from shardcam.jobs.wording import LIKENESS_WORDS, note_rows

CLASSES_EQUAL = "first class equal"
DIFFERENCE = "difference of {}"
OF_IMAGES = ", of images"
_ALIKE = "1.0000"


@click.command()
@click.argument("runs", nargs=-1, metavar="RUN RUN [RUN...]", shell_complete=complete_path)
@click.option(
    "--layer",
    "layers",
    multiple=True,
    help="Layer whose maps to compare; once for all runs, or once for each in turn  [default: all "
    "that both runs have, else the first of each]",
)
@click.option(
    "--match",
    type=click.Choice(MATCHES),
    default=MATCHES[0],
    show_default=True,
    help="Maps that belong together: of the same class number, or the first explained class of "
    "each, the second and so on, for networks that number classes differently.",
)
@click.option(
    "--worst",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="How many of the least alike maps to list.",
)
@csv_option("the table")
@click.option(
    "--out",
    type=LocalPath(path_type=Path, file_okay=False),
    help=f"Folder to write {FILES[0]} and {FILES[1]}, a row for each pair of maps, into.",
)
@plot_option("the figures")
@click.option("--force", is_flag=True, help="Replace what is at --csv, --plot and in --out.")
@stop_on_signals("the same command begins anew")
def compare(
    runs: tuple[str, ...],
    layers: tuple[str, ...],
    match: str,
    worst: int,
    table_file: Path | None,
    out: Path | None,
    plot: Path | None,
    force: bool,
) -> None:
    """Compare the maps of RUNs with those of the first, for the images that they share.

    Images are matched by key. Pearson, Spearman, SSIM and the overlap of the highest values say
    how alike their maps are; where both runs have a metric, the other's value minus the
    reference's is given.

    \b
    Examples:
      shardcam compare runs/gradcam runs/layercam
      shardcam compare runs/fp32 runs/int8 --out int8-against-fp32
      shardcam compare runs/resnet runs/vgg --layer layer4 --layer features.30
    """
    if plot is not None:
        require_plot(plot)
    require_new("--csv", table_file, force, runs)
    require_new("--plot", plot, force, runs)
    if out is not None:
        require_folder("--out", out)
        for name in FILES if out.is_dir() else ():
            require_new("--out", out / name, force, runs)
    console = make_console()
    with console.status("comparing") as status:
        found = run_comparison(
            runs,
            layers,
            match,
            worst,
            folder=out,
            on_images=lambda images: status.update(f"{counted(images, 'image')} compared"),
        )
    first = RunDir.open(runs[0])
    name_of = kept_class_names(first, stored_config(runs[0], read_manifest(first).config))
    print_comparisons(found, name_of or numbered, console)
    if table_file is not None:
        write_comparisons(found, table_file)
    if plot is not None:
        draw_comparisons(found, plot)
    print_written(console, *(out / name for name in FILES if out), table_file, plot)


def print_comparisons(found: Sequence[Comparison], name_of: ClassName, console: Console) -> None:
    """A table for each comparison, its least alike maps, and what was left out."""
    for one in found:
        table = Table(box=None, title=f"{one.other} against {one.reference}", title_justify="left")
        for column in ("layer", "measure", "mean", "95 % interval", "of"):
            table.add_column(column, justify="left" if column in ("layer", "measure") else "right")
        for layer, measure, figure in figures_of(one):
            words = LIKENESS_WORDS.get(measure, measure)
            table.add_row(layer, words, *figure_texts(figure))
        console.print(table)
        for likeness in one.layers:
            table = _worst_table(likeness.layer, likeness.worst, name_of)
            if table.row_count:
                console.print(table)
        account = Table(show_header=False, box=None)
        account.add_row("images", f"{one.images} in both")
        for alone, run in ((one.only_reference, one.reference), (one.only_other, one.other)):
            if alone:
                account.add_row("", f"{counted(alone, 'image')} of {run} alone: left out")
        if one.of_images:
            told = f"{', '.join(one.of_images)}: differences of what each image has, not of the "
            account.add_row("of images", told + "figures of the whole sets, which evaluate gives")
        for kind, text in note_rows(one.notes):
            account.add_row(kind, text)
        console.print(account)


def figures_of(one: Comparison) -> Iterator[tuple[str, str, Figure]]:
    """Layer, what was measured, and the figure: all that a comparison found."""
    for layer in one.layers:
        same = layer.layer == layer.other_layer
        name = layer.layer if same else f"{layer.layer} : {layer.other_layer}"
        for measure in MEASURES:
            yield name, measure, layer.figures[measure]
    yield "", CLASSES_EQUAL, one.first_class_equal
    for name, figure in one.metrics.items():
        yield "", DIFFERENCE.format(name) + OF_IMAGES * (name in one.of_images), figure


def figure_texts(figure: Figure) -> tuple[str, str, str]:
    """Mean, interval and number as a table shows them."""
    if math.isnan(figure.value):
        return "-", "", str(figure.n)
    interval = "" if math.isnan(figure.low) else f"{figure.low:.4f} to {figure.high:.4f}"
    return f"{figure.value:.4f}", interval, str(figure.n)


def _worst_table(layer: str, worst: Sequence[dict[str, object]], name_of: ClassName) -> Table:
    """Of maps that are not the same."""
    table = Table(box=None, title=f"least alike at {layer}", title_justify="left")
    for column in ("image", "class", "Spearman", "Pearson", "SSIM"):
        table.add_column(column, justify="left" if column in ("image", "class") else "right")
    for row in worst:
        values = (row[name] for name in ("spearman", "pearson", "ssim"))
        texts = [f"{value:.4f}" if isinstance(value, float) else "-" for value in values]
        if set(texts) != {_ALIKE}:
            table.add_row(printable(str(row["key"])), name_of(int(str(row["class"]))), *texts)
    return table


def write_comparisons(found: Sequence[Comparison], path: Path) -> None:
    """A row for each figure of each comparison."""
    rows = (
        (one.reference, one.other, layer, measure, figure.value, figure.low, figure.high, figure.n)
        for one in found
        for layer, measure, figure in figures_of(one)
    )
    header = ("reference", "other", "layer", "measure", "mean", "low", "high", "n")
    write_csv(path, header, rows)
