"""The truth of a run: read for its pictures and classes, which the run holds."""

from __future__ import annotations

from pathlib import Path

from shardcam.engine.analysis.samples import Samples
from shardcam.engine.config import RunConfig
from shardcam.engine.rundir.listing import Listing
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.engine.truths.read_truth import read_truth
from shardcam.engine.truths.truth import Truth
from shardcam.engine.truths.truth_classes import run_classes
from shardcam.engine.truths.truth_pictures import run_pictures

_ANY_NUMBER = 1 << 30  # of classes: runs of before do not say how many the network has


def truth_of_run(run_dir: RunDir, run: Samples, config: RunConfig, source: str) -> Truth:
    """What is known of the run's pictures, whose names and sizes the run holds.

    Raises
    ------
    SourceError, RunDirectoryError
        The truth cannot be read, or the run is damaged.
    """
    manifest = read_manifest(run_dir)
    count = manifest.plan.get("classes", _ANY_NUMBER)
    classes = run_classes(run_dir, config, count, manifest.classes)
    return read_truth(source, run_pictures(stored_listing(run_dir), run), classes)


def stored_listing(run_dir: RunDir) -> Listing:
    """The listing of a run."""
    run_dir.fetch(run_dir.listing)
    return Listing(run_dir.listing, shared=run_dir.shared)


def truth_place(source: str) -> str:
    """A truth's name as it can be read from any folder of this machine.

    What is behind ``::`` stays as it is: the digest of the truth depends on it.
    """
    whole = Path(source).exists()
    name, colons, detail = (source, "", "") if whole else source.partition("::")
    return f"{Path(name).absolute()}{colons}{detail}"
