"""A run in a terminal: with its progress, its account and its first predictions."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from rich.console import Console
from rich.table import Table

from shardcam.engine.analysis.open_run import first_rows
from shardcam.engine.config import RunConfig
from shardcam.engine.errors import RunDirectoryError, StoreError, TooManyFailures
from shardcam.engine.run.class_names import kept_class_names, numbered
from shardcam.engine.run.extraction import run_extraction
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.engine.types import NO_CLASS, NO_LINK, RunReport, counted
from shardcam.jobs.plan_notes import many_shards
from shardcam.jobs.progress import ProgressDisplay
from shardcam.jobs.resumable import resumable
from shardcam.jobs.terminal import score_text
from shardcam.jobs.wording import note_rows, speed

SHOWN = 10  # predictions that are printed


def run_extract(
    config: RunConfig, console: Console, again: bool = False, apart: bool = False
) -> RunReport:
    """Extract, show progress, print the account; see `engine.run.extraction.run_extraction`.

    Raises
    ------
    ShardcamError
        The run cannot start, was stopped, or too many samples failed.
    """
    failed: TooManyFailures | None = None
    with resumable() as observed:
        with ProgressDisplay(console) as display:
            show = observed(display.show)
            try:
                report = run_extraction(config, show, again, may_exit=True, apart=apart)
            except TooManyFailures as error:  # the run is done all the same
                failed, report = error, error.report
        run_dir = RunDir.open(config.out)
        if config.part is not None:
            print_part(report, config.part, console)
            return report
        print_report(report, run_dir, "overlays" in config.save, console)
        if report.ok:
            with suppress(RunDirectoryError, StoreError):  # the run is good all the same
                print_predictions(run_dir, report.ok, config, console)
    if failed is not None:
        raise failed
    return report


def print_report(report: RunReport, run_dir: RunDir, pictures: bool, console: Console) -> None:
    """The closed account of a run, and where its files are."""
    table = Table(show_header=False, box=None)
    table.add_row("images", f"{report.listed} listed = {report.ok} ok + {report.failed} failed")
    for reason, count in sorted(report.failures.items()):
        table.add_row("", f"{count} {reason} (see {_failures(run_dir)})")
    table.add_row("shards", f"{report.shards}, of which {report.shards_done_now} done now")
    if report.shards_done_now:
        table.add_row("speed", f"{speed(report.images_per_second)} with start-up")
        stages = sorted(report.stage_seconds.items(), key=lambda item: -item[1])
        table.add_row("stages", ", ".join(f"{name} {seconds:.1f} s" for name, seconds in stages))
    if report.bottleneck:
        table.add_row("bottleneck", report.bottleneck)
    index, account = run_dir.place(run_dir.index), run_dir.place(run_dir.report)
    table.add_row("written", f"{index} (all rows), {account}")
    if note := many_shards(report.shards):
        table.add_row("", note)
    if pictures:
        table.add_row("pictures", str(run_dir.place(run_dir.overlays)))
    for kind, text in note_rows(report.notes):
        table.add_row(kind, text)
    console.print(table)


def print_part(report: RunReport, part: str, console: Console) -> None:
    """The account of a part, and what completes the run."""
    done = f"{counted(report.shards, 'shard')}, of which {report.shards_done_now} done now"
    images = f"{counted(report.listed, 'image')} = {report.ok} ok + {report.failed} failed"
    console.print(f"part {part}: {done}; {images}", soft_wrap=True)
    for reason, count in sorted(report.failures.items()):
        console.print(f"  {count} {reason}", soft_wrap=True)
    console.print("when every part is done, the same command without --part completes the run")


def _failures(run_dir: RunDir) -> str:
    return str(run_dir.place(run_dir.failures))


def print_predictions(run_dir: RunDir, ok: int, config: RunConfig, console: Console) -> None:
    """The first images of a run, each with its first class, or the first output explained."""
    link = read_manifest(run_dir).config.get("link")
    name_of = kept_class_names(run_dir, config.model_copy(update={"link": link})) or numbered
    table = Table(box=None)
    claims = link != NO_LINK
    for column in ("image", "predicted" if claims else "explained", "score"):
        table.add_column(column, justify="right" if column == "score" else "left")
    shown = ("top_class", "top_score") if claims else ("target", "score")
    for key, classes, scores in first_rows(run_dir, ("key", *shown), SHOWN):
        scored = np.isfinite(scores[0])  # 0.1.0 stored class 0 where there is none
        number, score = (int(classes[0]), score_text(scores[0])) if scored else (NO_CLASS, "")
        table.add_row(key.decode(errors="backslashreplace"), name_of(number), score)
    if ok > SHOWN:
        table.add_row(f"and {ok - SHOWN} more", "", "")
    console.print(table)
