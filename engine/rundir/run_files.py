"""What the files of a run are called."""

from __future__ import annotations

from pathlib import Path

from shardcam.engine.errors import RunDirectoryError, storage_error
from shardcam.engine.io.plain_file import require_plain
from shardcam.engine.rundir.staging import remove_abandoned, writer_name
from shardcam.engine.types import Part

PART_LOCK = ".lock-part-"  # how the name of a part's lock begins
PART_EVENTS = "events.part-"  # how the name of a part's log begins
LISTING_STAGED = ".listing-"  # how the name of a listing that is being written begins


class RunFiles:
    """Paths below a folder; the files need not be there.

    Parameters
    ----------
    root
        The folder.

    Attributes
    ----------
    run_json, listing, calibration, class_names : Path
        What the run is; every sample of its source, in order; ranges of an int8 run; what its
        classes are called.
    shards, staging, set_aside, damaged : Path
        Folders of published shards, of those being written, of those being computed again, of
        those that were found damaged.
    index, report, failures, events : Path
        All rows; the closed account; every sample that failed; what happened, line by line.
    lock_file, begin_file : Path
        The locks of the driver, and of who begins the run.
    overlays, activations : Path
        Folders of pictures, if asked for.
    metrics, clusters : Path
        Folders of what was measured of the maps, and of which are alike.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run_json = root / "run.json"
        self.listing = root / "listing.zip"
        self.calibration = root / "calibration.json"
        self.class_names = root / "class_names.json"
        self.shards = root / "shards"
        self.staging = self.shards / ".tmp"
        self.set_aside = self.shards / ".again"
        self.damaged = root / "damaged"
        self.index = root / "index.h5"
        self.report = root / "report.json"
        self.failures = root / "failures.csv"
        self.events = root / "events.jsonl"
        self.lock_file = root / ".lock"
        self.begin_file = root / ".begin.lock"
        self.overlays = root / "overlays"
        self.activations = root / "activations"
        self.metrics = root / "metrics"
        self.clusters = root / "clusters"

    def require_plain(self) -> None:
        """Refuse links, pipes and devices in the place of the run's files and folders.

        What a run holds can come from anywhere, its links too: nothing outside may be written,
        deleted or shown through it.

        Raises
        ------
        RunDirectoryError
            The message names the first one.
        """
        fixed = [value for value in vars(self).values() if isinstance(value, Path)]
        for path in [*fixed, *self._of_parts()]:
            try:
                if path != self.root:
                    require_plain(path)
            except OSError as error:
                raise RunDirectoryError(
                    f"{path}: {error.strerror}; put a copy in its place, or keep all of the run "
                    "in another folder and link to that"
                ) from None

    def _of_parts(self) -> list[Path]:
        try:
            found = [*self.root.iterdir()]
        except OSError:  # who reads the folder will see why
            return []
        return [path for path in found if path.name.startswith((PART_LOCK, PART_EVENTS))]

    def part_events(self, part: Part) -> Path:
        """The log of a part: not every network file system lets two hosts append to one file."""
        return self.root / f"{PART_EVENTS}{part}.jsonl"

    def part_lock(self, part: Part) -> Path:
        """The lock of a part."""
        return self.root / f"{PART_LOCK}{part}"

    def staging_path(self, stem: str) -> Path:
        """A name in the staging directory that no other writer has."""
        return self.staging / f"{stem}-{writer_name()}.h5"

    def listing_staging_path(self) -> Path:
        """A name for a listing that is being written, before there are any shards."""
        return self.root / f"{LISTING_STAGED}{writer_name()}.zip"

    def clean_staging(self, older_than: float = 86400.0) -> int:
        """Remove what dead writers of shards, of the index and of the listing left.

        A file of this host goes when its process is gone.  A file of another host goes
        when it was not written to for `older_than` seconds.

        Returns
        -------
        int
            How many files were removed.
        """
        try:
            left = [*self.staging.glob("*.h5"), *self.root.glob(f"{LISTING_STAGED}*.zip")]
            return sum(remove_abandoned(path, older_than) for path in left)
        except OSError as error:
            raise storage_error(error, self.shards) from error
