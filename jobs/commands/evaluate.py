"""``shardcam evaluate``: how good the maps of a run are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from shardcam.engine.errors import ConfigError
from shardcam.engine.evaluation.baselines import BASELINES
from shardcam.engine.evaluation.evaluation import Evaluated, run_evaluation
from shardcam.engine.evaluation.metric import Figure, Reason
from shardcam.engine.evaluation.metrics_known import METRICS
from shardcam.engine.evaluation.question import FREE_BASELINES, Question
from shardcam.engine.evaluation.summary import Result
from shardcam.engine.evaluation.unfinished import unfinished_metrics, unfinished_words
from shardcam.engine.run.stored_options import stored_config
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.engine.types import counted
from shardcam.jobs.completion import complete_list, complete_path
from shardcam.jobs.looking.evaluation_plots import draw_evaluation, require_plot
from shardcam.jobs.options import changed_config, place_options
from shardcam.jobs.outputs import csv_option, plot_option, print_written, require_new, write_csv
from shardcam.jobs.progress import ProgressDisplay
from shardcam.jobs.resumable import resumable
from shardcam.jobs.sections import SectionedCommand, section_option
from shardcam.jobs.terminal import make_console
from shardcam.jobs.wording import note_rows

NONE = "none"
FEW_CLASSES = 25  # of mIoU, up to which they are printed
COSTS = {"A": "stored maps", "B": "1 pass", "C": "tens of passes"}


_option = section_option("Metrics")


@click.command(cls=SectionedCommand)
@click.argument("run", required=False, shell_complete=complete_path)
@_option(
    "--metrics",
    metavar="NAME[,NAME...]",
    shell_complete=complete_list(tuple(METRICS)),
    help="Metrics, each with :CONVENTION where another than the default is meant; --list names "
    "them.",
)
@_option("--list", "listed", is_flag=True, help="List the metrics and their conventions, and end.")
@_option(
    "--truth",
    metavar="FILE|FOLDER",
    shell_complete=complete_path,
    help="Where the objects are: CSV (key,class,x0,y0,x1,y1), COCO JSON, a folder of VOC or "
    "ILSVRC XML, of PNG masks, of CUB's or wsolevaluation's text files.",
)
@_option(
    "--sample",
    type=click.IntRange(min=1),
    metavar="N",
    help="Measure only N images, evenly over the listing: the same ones for every run of it.",
)
@_option("--layer", help="Layer whose maps to measure  [default: the run's first]")
@_option(
    "--baselines",
    default=",".join(FREE_BASELINES),
    show_default=True,
    metavar="NAME[,NAME...]",
    help=f"Maps of no network that are measured beside the run's: {', '.join(BASELINES)}; or none.",
)
@_option("--seed", type=int, default=0, show_default=True, help="Of whatever is drawn.")
@_option(
    "--replace",
    is_flag=True,
    help="Forget values that were measured in another way under the same name, and damaged ones.",
)
@_option(
    "--retry-unreadable",
    "retry",
    is_flag=True,
    help="Measure the shards again in which a picture could not be read.",
)
@csv_option("the table", _option)
@plot_option("the table and the curves", _option)
@_option("--force", is_flag=True, help="Replace what is at --csv and --plot.")
@place_options
def evaluate(
    run: str | None,
    metrics: str | None,
    listed: bool,
    truth: str | None,
    sample: int | None,
    layer: str | None,
    baselines: str,
    seed: int,
    replace: bool,
    retry: bool,
    table_file: Path | None,
    plot: Path | None,
    force: bool,
    **place: Any,
) -> None:
    """Measure how good the maps of RUN are: do they point at the object, does the network need it?

    RUN must be complete. Values go to RUN/metrics/NAME, shard by shard, and become columns of the
    run; figures go to RUN/metrics/summary.json. The same command resumes what was stopped.

    \b
    Examples:
      shardcam evaluate --list
      shardcam evaluate runs/photos --metrics complexity,gini
      shardcam evaluate runs/birds --metrics max_box_acc_v2,pointing --truth boxes.csv
      shardcam evaluate runs/photos --metrics insertion,deletion --sample 2000 --plot curves.png
    """
    console = make_console()
    if listed:
        _print_metrics(console)
        return
    if run is None:
        raise ConfigError("RUN is missing: the run directory whose maps to measure")
    if metrics is None:
        raise ConfigError(f"--metrics is missing: name some of {', '.join(METRICS)}")
    if plot is not None:
        require_plot(plot)
    for option, path in (("--csv", table_file), ("--plot", plot)):
        require_new(option, path, force, [run], truth)
    config = changed_config(stored_config(run, read_manifest(RunDir.open(run)).config), place)
    config = config.model_copy(update={"out": run})
    asked = Question(
        metrics=_words(metrics),
        truth=truth,
        sample=sample,
        layer=layer,
        baselines=() if baselines == NONE else _words(baselines),
        seed=seed,
        replace=replace,
        retry=retry,
    )
    with resumable() as observed:
        with ProgressDisplay(console) as display:
            found = run_evaluation(config, asked, observed(display.show), may_exit=True)
        _print_results(found, run, console)
        if table_file is not None:
            _write_csv(found, table_file)
        if plot is not None:
            draw_evaluation(found.results, plot)
        print_written(console, table_file, plot)


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for part in text.split(",") if (word := part.strip())))


def _print_metrics(console: Console) -> None:
    table = Table(box=None)
    for column in ("metric", "what it is", "needs", "cost", "other conventions"):
        table.add_column(column)
    for known in METRICS.values():
        others = ", ".join(known.conventions)
        table.add_row(known.name, known.description, known.needs, COSTS[known.kind], others)
    console.print(table)


def _print_results(found: Evaluated, run: str, console: Console) -> None:
    console.print(_figures(list(found.results.values())))
    for result in found.results.values():
        if 0 < len(classes := _by_class(result)) <= FEW_CLASSES:
            console.print(_classes(result.name, classes))
    table = Table(show_header=False, box=None)
    for result in found.results.values():
        table.add_row(result.name, result.convention)
        if told := _best_threshold(result):
            table.add_row("", told)
    left_out: dict[tuple[str, int], list[str]] = {}
    for result in found.results.values():
        for counted_reason in result.left_out.items():
            left_out.setdefault(counted_reason, []).append(result.name)
    for (reason, count), names in left_out.items():
        again = "; --retry-unreadable tries again" * (reason == Reason.UNREADABLE.words)
        table.add_row("left out", f"{count} ({reason}{again}): {', '.join(names)}")
    if found.without_maps:
        images = counted(found.without_maps, "image")
        table.add_row("left out", f"{images} that failed in the run: no map")
    for kind, text in note_rows(found.notes):
        table.add_row(kind, text)
    run_dir = RunDir.open(run)
    for words in unfinished_words(unfinished_metrics(run_dir, read_manifest(run_dir))):
        table.add_row("not done", words)
    table.add_row("written", f"{run}/metrics/summary.json, and a column of the run for each")
    console.print(table)


def _figures(results: Sequence[Result]) -> Table:
    """A row for each metric, with what the baselines reach beside it."""
    baselines = list(dict.fromkeys(name for result in results for name in result.baselines))
    table = Table(box=None)
    table.add_column("metric")
    for column in ("value", "95 % interval", "maps", *baselines):
        table.add_column(column, justify="right")
    table.add_column("better")
    for result in results:
        one, better = result.figure, {True: "higher", False: "lower", None: ""}
        interval = "" if math.isnan(one.low) else f"{one.low:.4g} to {one.high:.4g}"
        beside = [_number(result.baselines[n]) if n in result.baselines else "" for n in baselines]
        row = (result.name, _number(one), interval, str(one.n), *beside)
        table.add_row(*row, better[result.higher_is_better])
    return table


def _by_class(result: Result) -> Mapping[str, Any]:
    """What mIoU says of each class; empty for other metrics."""
    found = result.figure.details.get("classes")
    return found if isinstance(found, Mapping) else {}


def _classes(name: str, classes: Mapping[str, Any]) -> Table:
    """A row for each class, at the best threshold."""
    table = Table(box=None, title=f"{name} by class", title_justify="left")
    table.add_column("class")
    for column in ("IoU", "precision", "recall"):
        table.add_column(column, justify="right")
    for cls, one in classes.items():
        values = (one[column] for column in ("iou", "precision", "recall"))
        table.add_row(cls, *("-" if math.isnan(value) else f"{value:.4g}" for value in values))
    return table


def _best_threshold(result: Result) -> str:
    """Empty where there is none, or it is given."""
    found = result.figure.details.get("threshold")
    if isinstance(found, Mapping):
        each = (f"{threshold:g} for an IoU of {iou}" for iou, threshold in found.items())
        return f"best threshold {', '.join(each)}"
    if found is None or "cam2016" in result.name:
        return ""
    many = len(_by_class(result)) > FEW_CLASSES
    return f"best threshold {found:g}" + "; IoU of each class: details in summary.json" * many


def _number(figure: Figure) -> str:
    return "-" if math.isnan(figure.value) else f"{figure.value:.4g}"


def _write_csv(found: Evaluated, path: Path) -> None:
    """A row for each metric, of the run's maps and of each baseline."""
    rows = (
        (result.name, name, one.value, one.low, one.high, one.n, result.convention)
        for result in found.results.values()
        for name, one in {"run": result.figure, **result.baselines}.items()
    )
    write_csv(path, ("metric", "maps", "value", "low", "high", "n", "convention"), rows)
