"""``shardcam throughput``: what each stage allows on this machine, and what the whole reaches."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from shardcam.engine.errors import ConfigError
from shardcam.engine.io.whole_file import require_place
from shardcam.engine.run.executor_choice import AUTO, RAY, chosen_early
from shardcam.engine.types import counted
from shardcam.jobs.measuring.measure import Measured, measure
from shardcam.jobs.measuring.timed_runs import Whole
from shardcam.jobs.options import make_config, run_options_but
from shardcam.jobs.outputs import NEW_FILE, require_new
from shardcam.jobs.sections import SectionedCommand, section_option
from shardcam.jobs.source_files import require_no_input
from shardcam.jobs.terminal import make_console
from shardcam.jobs.wording import speed

_measuring_option = section_option("Measurement")


@click.command(cls=SectionedCommand)
@run_options_but(
    {
        "out": _measuring_option(
            "--out",
            type=click.Path(file_okay=False, exists=True),
            help="Folder to write temporary files to, for its disk  [default: the system's]",
        )
    }
)
@_measuring_option(
    "--images",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="Number of images to measure with.",
)
@_measuring_option(
    "--sweep", is_flag=True, help="Also try other numbers of workers, batch sizes and precisions."
)
@_measuring_option(
    "--rounds",
    type=click.IntRange(1),
    help="Number of runs of each setting, all of them in turn  [default: 1; 3 with --sweep]",
)
@_measuring_option("--json", "file", type=NEW_FILE, help="JSON file to save the results in.")
@_measuring_option("--plot", type=NEW_FILE, help="PNG, SVG or PDF file to plot the sweep in.")
@_measuring_option("--force", is_flag=True, help="Replace what is at --json and --plot.")
def throughput(
    images: int,
    sweep: bool,
    rounds: int | None,
    file: Path | None,
    plot: Path | None,
    force: bool,
    **options: Any,
) -> None:
    """Measure images per second on this machine, with this network and the images of SOURCE.

    Measures each stage by itself, in all workers at once, then a whole run, and names the
    bottleneck. The maps are discarded. --sweep compares settings by the median of their runs, and
    says where the runs of two settings overlap, so that neither is known to be faster.

    \b
    Examples:
      shardcam throughput photos --model efficientnet_lite0
      shardcam throughput photos --model vgg16 --params random --sweep --plot sweep.png
    """
    if plot is not None and not sweep:
        raise ConfigError("--plot: add --sweep, which it draws")
    if plot is not None:
        from shardcam.jobs.looking.evaluation_plots import require_plot

        require_plot(plot, (".png", ".svg", ".pdf"))
    require_new("--json", file, force)
    require_new("--plot", plot, force)
    disk = options.pop("out")
    if disk is not None:
        require_place("--out", Path(disk))
    console = make_console()
    with tempfile.TemporaryDirectory(prefix="shardcam-", dir=disk) as folder:
        limit = options.pop("limit") or images
        config = make_config({**options, "limit": limit, "out": f"{folder}/run"})
        config = chosen_early(config)
        if config.executor == AUTO:  # what large sets are computed on is measured
            config = config.model_copy(update={"executor": RAY})
        if config.part is not None:
            raise ConfigError("--part: leave it out: whole runs are measured")
        require_no_input("--json", file, config)
        require_no_input("--plot", plot, config)
        measured = measure(config, rounds or (3 if sweep else 1), sweep, console)
    print_measured(measured, console)
    if file is not None:
        _save(measured, file)
    if plot is not None:
        _draw(measured, plot)


def print_measured(measured: Measured, console: Console) -> None:
    """Each stage's ceiling, the whole beside the limit, and the bottleneck."""
    workers, whole = measured.whole.workers, measured.whole
    table = Table(box=None)
    for column in ("stage", "one image takes", "each worker", counted(workers, "worker")):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage, rate in measured.alone.items():
        rates = (f"{many:,.{1 if many < 1000 else 0}f} images/s" for many in (rate, workers * rate))
        table.add_row(stage, f"{1000 / rate:.2f} ms", *rates)
    console.print(table)
    console.print(
        f"the whole run, after start-up: {speed(whole.images_per_second)} with {whole.name}, "
        f"{measured.reached:.0%} of the {measured.limit:.1f} that the stages alone allow"
    )
    if whole.bottleneck:
        console.print(whole.bottleneck)
    if measured.sweep:
        print_sweep(measured.sweep, console)


def print_sweep(tried: list[Whole], console: Console) -> None:
    """Each setting, its speed-up over the first, and the best of what is known to be faster."""
    first = tried[0]
    table = Table(box=None)
    for column in ("setting", "images/s", "slowest to fastest run", "speed-up"):
        table.add_column(column, justify="left" if column == "setting" else "right")
    for one in tried:
        gain = f"{one.images_per_second / first.images_per_second:.2f}x"
        told = one is first or one.faster(first) or first.faster(one)
        table.add_row(
            one.name,
            f"{one.images_per_second:.1f}",
            f"{min(one.rounds):.1f} to {max(one.rounds):.1f}",
            gain if told else "no difference",
        )
    console.print(table)
    better = [one for one in tried if one.faster(first)]
    if better:
        best = max(better, key=lambda one: one.images_per_second)
        console.print(f"best: {speed(best.images_per_second)} with {best.name}")
    else:
        console.print("best: the first; no other setting was faster in every run")
    if len(first.rounds) == 1:
        console.print("of one run each, differences may be chance: see --rounds")


def _save(measured: Measured, file: Path) -> None:
    try:
        file.write_text(json.dumps(asdict(measured), indent=2) + "\n")
    except OSError as error:
        raise ConfigError(f"--json {file}: {error.strerror or error}") from error


def _draw(measured: Measured, file: Path) -> None:
    """Bars: images per second of everything that was tried, from its slowest to its fastest run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [one.name for one in measured.sweep]
    rates = [one.images_per_second for one in measured.sweep]
    figure = Figure(figsize=(8, 1 + 0.4 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    spread = [
        [one.images_per_second - min(one.rounds) for one in measured.sweep[::-1]],
        [max(one.rounds) - one.images_per_second for one in measured.sweep[::-1]],
    ]
    bars = axes.barh(names[::-1], rates[::-1], xerr=spread, color="#3b6ea5", ecolor="#222222")
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_xlabel("images per second")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"{measured.options['model']} on {measured.machine['processor']}", fontsize=10)
    try:
        figure.savefig(file, dpi=130)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--plot {file}: {error}") from error
