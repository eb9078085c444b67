"""A whole run as one call: what ``shardcam extract`` and a notebook do alike.

It prints nothing; observers of the run get its events. In the main thread, while a run is on
Ray, SIGINT, SIGTERM and SIGHUP wait until Ray has stopped, and then reach the caller's handlers.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from os import PathLike, fspath
from typing import Any

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError, TooManyFailures
from shardcam.engine.io.whole_file import require_place
from shardcam.engine.protocols import Observer
from shardcam.engine.run.build_executor import make_executor
from shardcam.engine.run.calibration import Calibration
from shardcam.engine.run.cost import Cost
from shardcam.engine.run.disk_space import dataset_sizes
from shardcam.engine.run.driver import execute, execute_part
from shardcam.engine.run.executor_choice import AUTO, RAY, chosen_early
from shardcam.engine.run.option_conflicts import require_possible
from shardcam.engine.run.prepare import Prepared, prepare
from shardcam.engine.run.python_words import names_keywords
from shardcam.engine.run.start_ahead import start_ahead
from shardcam.engine.rundir.events import ignore
from shardcam.engine.rundir.own_names import require_outside_runs
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.types import Event, Note, Part, RunReport, counted
from shardcam.engine.workers.apart_executor import Child
from shardcam.engine.workers.cores import usable_cores
from shardcam.engine.workers.threads import limit_threads


@dataclass(frozen=True)
class RunPlanned(Event):
    """The run is known to be possible, and begins; not logged."""

    config: RunConfig
    images: int
    shards: int
    listed: datetime  # UTC, when the source was listed
    listed_now: bool  # False: the run directory held the listing
    before: int  # images that the run had; fewer than `images` if it grows
    sizes: dict[str, int]  # bytes of each dataset, if no sample fails, before compression
    free: int | None  # bytes on the run directory's disk; None at a URL
    calibration: Calibration | None  # of an int8 run
    notes: tuple[Note, ...] = ()  # what was assumed and left out, and warnings
    cost: Cost | None = None  # of a method that runs the network many times


@names_keywords
def extract(
    source: str | PathLike[str],
    *,
    model: str | PathLike[str],
    out: str | PathLike[str],
    on_event: Observer = ignore,
    **options: Any,
) -> RunReport:
    """Extract class activation maps of the images of a source into a run directory.

    If the directory holds the same run, that run is resumed: what is done already is not done
    again. The results are read with `shardcam.open_run`. What is published stays,
    however a run is stopped. In the main thread SIGINT (Ctrl-C), SIGTERM and SIGHUP are deferred
    while a run is on Ray: Ray is asked to stop, your handlers are restored and get the signal.
    In another thread no handler is touched. If the program has called ``ray.init()``, that Ray is
    used, and keeps going.

    MXNet takes its number of threads once in a process, from the first call: all cores.

    Parameters
    ----------
    source
        Folder of images, image, pattern, manifest, .rec, .tar, .h5, .npy or idx file.
    model
        A network's name or file.
    out
        The run directory, or a URL.
    on_event
        Is called with each event, one of `shardcam.events`, in the thread that called this
        function.
    options
        The other fields of `shardcam.RunConfig`, such as ``method="layercam"``,
        ``save=("maps", "overlays")`` or ``executor="local"``.

    Returns
    -------
    RunReport
        The account of the whole run, or with `part` of that part: listed = ok + failed.

    Raises
    ------
    ConfigError
        An option that cannot be used.
    TooManyFailures
        The run is done, but no image gave a map, or more failed than `max_failed` allows; the
        exception has the report.
    ShardcamError
        Another reason why the run could not begin or go on.

    Examples
    --------
    >>> report = extract("photos", model="efficientnet_lite0", out="runs/photos")
    """
    given = {"source": source, "model": model, "out": out, **options}
    plain = {k: fspath(v) if isinstance(v, PathLike) else v for k, v in given.items()}
    return run_extraction(RunConfig.of(**plain), on_event)


def run_extraction(
    config: RunConfig,
    on_event: Observer = ignore,
    again: bool = False,
    may_exit: bool = False,
    apart: bool = False,
) -> RunReport:
    """Do as `extract` with a configuration.

    `again`: see `engine.run.driver.execute`; the caller holds the run's lock. `may_exit`, `apart`:
    see `engine.run.build_executor.make_executor`; a run whose last driver died works apart in any
    case, and so does one whose executor was not named.
    """
    if not callable(on_event):
        raise ConfigError(f"on_event: expected a function of an event, got {on_event!r}")
    run_dir = RunDir.open(config.out)
    if run_dir.shared:
        require_place("--out", run_dir.root)
        require_outside_runs("--out", run_dir.root, run=True)
    part = Part.parse(config.part) if config.part else None
    if not again:
        run_dir.require_no_driver(part)
    config = chosen_early(config)
    require_possible(config)
    with ExitStack() as stack:
        ahead = start_ahead(config)
        if ahead is not None:
            stack.callback(ahead.end)
        limit_threads(usable_cores())  # until workers have work, the cores are this process's
        prepared = prepare(config, on_event)
        if isinstance(ahead, Child) and prepared.config.executor == RAY:
            ahead.end()
        on_event(_planned(prepared))
        died = False if again else stack.enter_context(run_dir.lock(part))
        apart = apart or died or config.executor == AUTO
        executor = make_executor(prepared, None, may_exit, apart, ahead)
        fingerprint = prepared.manifest.fingerprint
        plan, notes = prepared.plan, prepared.notes
        if part is not None:
            return execute_part(plan, part, executor, run_dir, fingerprint, on_event)
        report = execute(plan, executor, run_dir, fingerprint, on_event, again, notes)
    failures = run_dir.place(run_dir.failures)
    if not report.ok:
        raise TooManyFailures(
            f"none of {counted(report.listed, 'image')} gave a map; see {failures}", report
        )
    if config.max_failed is not None and report.failed > config.max_failed * report.listed:
        raise TooManyFailures(
            f"{report.failed} of {counted(report.listed, 'sample')} failed, more than --max-failed "
            f"{config.max_failed} allows; see {failures}",
            report,
        )
    return report


def _planned(prepared: Prepared) -> RunPlanned:
    plan = prepared.plan
    return RunPlanned(
        config=prepared.config,
        images=plan.listed,
        shards=plan.shards,
        listed=plan.listing.created,
        listed_now=prepared.listed,
        before=prepared.before,
        sizes=dataset_sizes(prepared.worker.specs, plan),
        free=prepared.run_dir.free_bytes(),
        calibration=prepared.calibration,
        notes=(*prepared.own_notes, *prepared.notes),
        cost=prepared.cost,
    )
