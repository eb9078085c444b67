"""Notes on a run: its listing, its size, how well int8 agrees, how many files it has."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from shardcam.engine.analysis.open_run import ulimit_for
from shardcam.engine.run.calibration import FEW, LOW_CORRELATION, LOW_TOP1, Calibration, agreement
from shardcam.engine.run.disk_space import readable
from shardcam.engine.run.extraction import RunPlanned

SHOWN = 3  # datasets that are named


def print_plan(run: RunPlanned, console: Console) -> None:
    """Print what a run is about to do."""
    if not run.listed_now:
        console.print(listing_note(run))
    if run.before < run.images:
        grows = f"from {run.before} to {run.images} images, in {run.shards} shards"
        console.print(f"the run grows {grows}", highlight=False)
    console.print(size_note(run), soft_wrap=True, highlight=False)
    if run.calibration is not None:
        _print_agreement(run.calibration, console)


def listing_note(run: RunPlanned) -> str:
    """Say of when the listing is, and whether the source looks changed since."""
    source = run.config.source
    try:
        changed = Path(source).stat().st_mtime > run.listed.timestamp()
    except OSError:  # the failures will show it
        changed = False
    note = f"; {source} has changed since, and this run does not see it" if changed else ""
    return f"{run.images} images as listed on {run.listed:%Y-%m-%d %H:%M} UTC{note}"


def size_note(run: RunPlanned) -> str:
    """Say how many bytes the run's files will hold, and which datasets they are of."""
    codec, size = run.config.codec, sum(run.sizes.values())
    largest = sorted(run.sizes.items(), key=lambda item: -item[1])[:SHOWN]
    named = ", ".join(f"{name} {readable(bytes_)}" for name, bytes_ in largest)
    packed = "" if codec == "none" else f" before {codec}"
    pictures = "; pictures apart" if "overlays" in run.config.save else ""
    note = f"about {readable(size)}{packed}: {named}{pictures}"
    if run.free is None:
        return note
    note += f"; {readable(run.free)} free"
    if codec == "none" or size <= run.free:
        return note
    return f"{note}: enough only if {codec} makes it {size / max(run.free, 1):.2g} times smaller"


def many_shards(shards: int) -> str | None:
    """What plain h5py needs for an index of more files than it may open here."""
    files = ulimit_for(shards)
    if files is None:
        return None
    return (
        f"plain h5py needs ulimit -n {files} to read the index, or it returns invented rows; "
        "open_run does not need it, nor does the file that shardcam index --merge writes"
    )


def _print_agreement(calibration: Calibration, console: Console) -> None:
    """Say how well int8 agrees with float32, loudly where it does not."""
    kept = "; the first convolution stays float32" if calibration.keep_first else ""
    console.print(f"int8: calibrated on {calibration.images} images of the source{kept}")
    console.print(f"int8: {agreement(calibration)}")
    if calibration.top1_agreement is None:
        return
    if calibration.held_out < FEW:
        console.print(f"int8: {calibration.held_out} images are too few to tell how well it agrees")
    if not calibration.agrees:
        console.print(
            f"WARNING: int8 disagrees with float32 here (first class below {LOW_TOP1:.0%} or "
            f"correlation below {LOW_CORRELATION}); use --precision fp32 where maps matter one "
            "by one",
            style="bold red",
        )
