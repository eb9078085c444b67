"""Notes on a run: its listing, size and cost before it begins, what it assumed and met."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from shardcam.engine.run.build_worker import worker_threads
from shardcam.engine.run.cost import RATES, Cost
from shardcam.engine.run.disk_space import readable
from shardcam.engine.run.extraction import RunPlanned
from shardcam.engine.rundir.open_files import ulimit_for
from shardcam.engine.types import counted
from shardcam.jobs.terminal import printable
from shardcam.jobs.wording import duration

AT_ONCE = (
    "executor",
    "int8",
    "runtime",
    "warning",
)  # kinds of notes that are told before the work too
LONG = 10  # seconds of a run whose length is guessed
LARGE = 100_000_000  # bytes of a dataset that is named


def print_plan(run: RunPlanned, console: Console) -> None:
    """Print what a run is about to do."""
    if not run.listed_now:
        console.print(listing_note(run))
    if run.before < run.images:
        shards = counted(run.shards, "shard")
        grows = f"from {run.before} to {counted(run.images, 'image')}, in {shards}"
        console.print(f"the run grows {grows}", highlight=False)
    console.print(size_note(run), soft_wrap=True, highlight=False)
    if run.cost is not None:
        console.print(cost_note(run, run.cost), soft_wrap=True)
    for note in run.notes:
        if note.kind in AT_ONCE:
            loud = note.kind == "warning"
            text = printable(f"{note.kind.upper() if loud else note.kind}: {note.text}")
            console.print(text, style="bold red" if loud else None, soft_wrap=True)


def listing_note(run: RunPlanned) -> str:
    """Say of when the listing is, and whether the source looks changed since."""
    source = run.config.source
    try:
        changed = Path(source).stat().st_mtime > run.listed.timestamp()
    except OSError:  # the failures will show it
        changed = False
    note = ""
    if changed:
        note = f"; {source} has changed since, and this run does not see it; give another --out "
        note += "to list it again"
    return f"{counted(run.images, 'image')} as listed on {run.listed:%Y-%m-%d %H:%M} UTC{note}"


def size_note(run: RunPlanned) -> str:
    """Say how many bytes the run's files will hold, and which dataset is most of them."""
    codec, size = run.config.codec, sum(run.sizes.values())
    packed = "" if codec == "none" else f" before {codec}"
    counts = f"{counted(run.images, 'image')} in {counted(run.shards, 'shard')}"
    note = f"{counts}: files of about {readable(size)}{packed}"
    name, largest = max(run.sizes.items(), key=lambda item: item[1])
    if largest > LARGE:
        note += f", {readable(largest)} of them {name}"
    if "overlays" in run.config.save:
        note += ", and pictures"
    if run.free is None:
        return note
    note += f"; {readable(run.free)} free"
    if codec == "none" or size <= run.free:
        return note
    return f"{note}: enough only if {codec} makes it {size / max(run.free, 1):.2g} times smaller"


def cost_note(run: RunPlanned, cost: Cost) -> str:
    """Say how often a method runs the network, and about how long that takes on CPUs."""
    config = run.config
    note = f"{config.method}: {cost.passes:,} passes for each image"
    cores = worker_threads(config) * (config.workers or 1)
    least, most = (seconds * run.images / cores for seconds in cost.seconds)
    if config.gpus_per_worker or most < LONG:
        return note
    where = "a core" if cores == 1 else f"{cores} cores"
    slow, fast = (f"{rate / 1e9:g}" for rate in reversed(RATES))
    return (
        f"{note}; roughly {duration(least)} to {duration(most)} for "
        f"{counted(run.images, 'image')} on {where}, at {slow} to {fast} billion multiply-adds a "
        "second and core (a guess until the first batch is done)"
    )


def many_shards(shards: int) -> str | None:
    """What plain h5py needs for an index of more files than it may open here."""
    files = ulimit_for(shards)
    if files is None:
        return None
    return (
        f"plain h5py needs ulimit -n {files} to read the index, or it returns invented rows; "
        "open_run does not need it, nor does the file that shardcam index --merge writes"
    )
