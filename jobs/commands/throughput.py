"""``shardcam throughput``: what each stage allows on this machine, and what the whole reaches."""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError, ModelError
from shardcam.engine.models.cuda import visible_gpus
from shardcam.engine.run.build_worker import worker_threads
from shardcam.engine.run.driver import execute
from shardcam.engine.run.prepare import driver_threads, make_executor, prepare
from shardcam.engine.rundir.event_log import read_events, worker_rate
from shardcam.engine.workers.cores import usable_cores
from shardcam.engine.workers.threads import limit_threads
from shardcam.jobs.measuring.stage_ceilings import measure_stages, seconds_per_image
from shardcam.jobs.options import make_config, run_options_but
from shardcam.jobs.progress import ProgressDisplay
from shardcam.jobs.sections import SectionedCommand, SectionedOption
from shardcam.jobs.terminal import make_console

BATCHES = (8, 32, 128)  # tried by a sweep
SHARDS = 4  # of each worker, at least
FEWEST = 8  # images of a shard
FEW = 64  # images below which figures are rough


_measuring_option = partial(click.option, cls=SectionedOption, section="Measurement")


@dataclass(frozen=True)
class Whole:
    """One run over the images."""

    workers: int
    cpus_per_worker: int
    batch_size: int
    precision: str
    images: int
    images_per_second: float  # of all workers: without start-up
    verdict: str | None

    @property
    def name(self) -> str:
        """What is special about it."""
        return (
            f"{self.workers} x {self.cpus_per_worker} cores, batches of {self.batch_size}, "
            f"{self.precision}"
        )


@dataclass(frozen=True)
class Measured:
    """All that was measured, as it is saved."""

    machine: dict[str, Any]
    options: dict[str, Any]
    alone: dict[str, float]  # images/s of a worker, while all do nothing else than that stage
    whole: Whole
    limit: float  # images/s of all workers if their stages took as long as they do alone
    reached: float  # share of the limit
    sweep: list[Whole]


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
    "--json", "file", type=click.Path(path_type=Path), help="JSON file to save the results in."
)
@_measuring_option(
    "--plot", type=click.Path(path_type=Path), help="PNG, SVG or PDF file to plot the sweep in."
)
def throughput(
    images: int, sweep: bool, file: Path | None, plot: Path | None, **options: Any
) -> None:
    """Measure images per second on this machine, with this network and the images of SOURCE.

    Measures each stage by itself, in all workers at once, then a whole run, and names the
    bottleneck. The maps are discarded.

    \b
    Examples:
      shardcam throughput photos --model efficientnet_lite0
      shardcam throughput photos --model vgg16 --params random --sweep --plot sweep.png
    """
    if plot is not None and not sweep:
        raise ConfigError("--plot: add --sweep, which it draws")
    console = make_console()
    with tempfile.TemporaryDirectory(prefix="shardcam-", dir=options.pop("out")) as folder:
        limit = options.pop("limit") or images
        config = make_config({**options, "limit": limit, "out": f"{folder}/run"})
        measured = measure(config, sweep, console)
    print_measured(measured, console)
    if file is not None:
        _save(measured, file)
    if plot is not None:
        _draw(measured, plot)


def measure(config: RunConfig, sweep: bool, console: Console) -> Measured:
    """Each stage by itself, the whole, and other ways to use the machine if asked for."""
    limit_threads(driver_threads(config))
    same = {"shard_size": _shard_size(config, config.limit or FEW)}  # for a batch may be no larger
    prepared = prepare(config.model_copy(update={"out": f"{config.out}-alone"} | same))
    if prepared.plan.listed < FEW:
        console.print(f"{prepared.plan.listed} images only: the figures are rough")
    console.print("measuring each stage by itself")
    alone = measure_stages(prepared, _workers(config))
    whole = measure_whole(config, prepared.plan.listed, console)
    per_image = seconds_per_image(alone, config.gpus_per_worker > 0)
    return Measured(
        machine={
            "processor": processor_name(),
            "cores": usable_cores(),
            "versions": {"python": platform.python_version(), **prepared.manifest.versions},
        },
        options=config.model_dump(mode="json", exclude={"out"}),
        alone=alone,
        whole=whole,
        limit=whole.workers / per_image,
        reached=whole.images_per_second * per_image / whole.workers,
        sweep=[whole, *_sweep(config, whole, console)] if sweep else [],
    )


def _workers(config: RunConfig) -> int:
    """As many as were asked for, or as this machine has room for."""
    if config.executor == "local":
        return 1
    room = usable_cores() // config.cpus_per_worker
    if config.gpus_per_worker:
        room = min(room, int(visible_gpus() / config.gpus_per_worker))
    return config.workers or max(room, 1)


def _shard_size(config: RunConfig, images: int) -> int:
    """What was asked for, or enough shards for each worker; whole batches at least."""
    least = config.batch_size or FEWEST
    return config.shard_size or max(images // (SHARDS * _workers(config)), least)


def measure_whole(config: RunConfig, images: int, console: Console) -> Whole:
    """A real run, into a directory of its own."""
    workers = _workers(config)
    changed = {
        "out": f"{config.out}-{workers}-{config.batch_size or 'default'}-{config.precision}",
        "shard_size": _shard_size(config, images),
    }
    config = config.model_copy(update=changed)
    watch = ProgressDisplay(console)
    with watch:
        prepared = prepare(config)
        fingerprint = prepared.manifest.fingerprint
        executor = make_executor(prepared)
        report = execute(prepared.plan, executor, prepared.run_dir, fingerprint, watch)
    taking, rate = worker_rate(read_events(prepared.run_dir))
    whole = Whole(
        workers=taking,
        cpus_per_worker=worker_threads(config),
        batch_size=prepared.worker.batch_size,
        precision=config.precision,
        images=report.listed,
        images_per_second=rate,
        verdict=report.verdict,
    )
    console.print(f"{whole.name}: {whole.images_per_second:.1f} images/s", highlight=False)
    return whole


def _sweep(config: RunConfig, first: Whole, console: Console) -> Iterator[Whole]:
    """One thing after another: how the cores are shared, the batch size, the precision."""
    best, tried = first, {first.name}
    cores = usable_cores()
    ways: list[dict[str, Any]] = []
    if config.executor == "ray" and not config.gpus_per_worker:
        splits = [n for n in range(1, cores + 1) if cores % n == 0]
        ways += [{"workers": cores // threads, "cpus_per_worker": threads} for threads in splits]
    ways += [{"batch_size": size} for size in BATCHES]
    other = "fp16" if config.gpus_per_worker else "int8"
    ways += [{"precision": other if config.precision == "fp32" else "fp32"}]
    for way in ways:
        own = {
            "workers": best.workers if config.executor == "ray" else None,
            "cpus_per_worker": best.cpus_per_worker if config.executor == "ray" else 1,
            "batch_size": best.batch_size,
            "precision": best.precision,
        }
        trial = config.model_copy(update=own | way)
        try:
            whole = measure_whole(trial, first.images, console)
        except (ConfigError, ModelError) as error:  # a network that has no int8, say
            console.print(f"{way}: {error}", highlight=False)
            continue
        if whole.name not in tried:
            tried.add(whole.name)
            yield whole
        if whole.images_per_second > best.images_per_second:
            best = whole


def print_measured(measured: Measured, console: Console) -> None:
    """Each stage's ceiling, the whole beside the limit, and the verdict."""
    workers, whole = measured.whole.workers, measured.whole
    table = Table(box=None)
    for column in ("stage", "one image takes", "each worker", f"{workers} workers"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage, rate in measured.alone.items():
        rates = (f"{many:,.{1 if many < 1000 else 0}f} images/s" for many in (rate, workers * rate))
        table.add_row(stage, f"{1000 / rate:.2f} ms", *rates)
    console.print(table)
    console.print(
        f"the whole, once started: {whole.images_per_second:.1f} images/s with {whole.name}, "
        f"{measured.reached:.0%} of the {measured.limit:.1f} that the stages by themselves allow",
        highlight=False,
    )
    if whole.verdict:
        console.print(whole.verdict, highlight=False)
    if measured.sweep:
        best = max(measured.sweep, key=lambda one: one.images_per_second)
        gain = best.images_per_second / whole.images_per_second
        console.print(
            f"best: {best.images_per_second:.1f} images/s with {best.name}: {gain:.2f}x",
            highlight=False,
        )


def processor_name() -> str:
    """Of the CPU, as the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _save(measured: Measured, file: Path) -> None:
    try:
        file.write_text(json.dumps(asdict(measured), indent=2) + "\n")
    except OSError as error:
        raise ConfigError(f"--json {file}: {error.strerror or error}") from error


def _draw(measured: Measured, file: Path) -> None:
    """Bars: images per second of everything that was tried."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [one.name for one in measured.sweep]
    rates = [one.images_per_second for one in measured.sweep]
    figure = Figure(figsize=(8, 1 + 0.4 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    bars = axes.barh(names[::-1], rates[::-1], color="#3b6ea5")
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_xlabel("images per second")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"{measured.options['model']} on {measured.machine['processor']}", fontsize=10)
    try:
        figure.savefig(file, dpi=130)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--plot {file}: {error}") from error
