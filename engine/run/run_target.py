"""``--target from:RUN``: of each image the classes that another run of the source explained."""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError
from shardcam.engine.rundir.check_index import check_index
from shardcam.engine.rundir.hdf5_reading import reading
from shardcam.engine.rundir.listing import Listing, identity
from shardcam.engine.rundir.own_datasets import Unsound, dataset_of
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.engine.types import FROM_RUN, I4, NO_CLASS, SIMILAR, counted


@dataclass(frozen=True)
class Given:
    """What a run explained."""

    classes: I4  # (listed,K), NO_CLASS where there is none
    source: str  # digest of its listing
    run: RunDir

    @property
    def target(self) -> str:
        """As the fingerprint has it: the same wherever the run is."""
        return FROM_RUN + hashlib.sha256(self.classes.tobytes()).hexdigest()

    def of(self, config: RunConfig, listing: Listing) -> Given:
        """The same in the order of a listing: that of sizes may be the order of one of them only.

        Raises
        ------
        ConfigError
            The run is of other images.
        """
        if listing.facts.digest == self.source:
            return self
        places = self._places() if len(listing) == len(self.classes) else {}
        rows = [places.get(identity(sample), NO_CLASS) for sample in listing]
        if NO_CLASS in rows:
            raise ConfigError(
                f"--target {config.target}: a run of other images ({len(self.classes)} of them; "
                f"{len(listing)} here): it takes a run of the same SOURCE and --limit"
            )
        return replace(self, classes=self.classes[rows], source=listing.facts.digest)

    def _places(self) -> dict[str, int]:
        """Where each image is in the listing of the run, if that is there."""
        if not self.run.fetch(self.run.listing):
            return {}
        with closing(Listing(self.run.listing)) as listing:
            return {identity(sample): sample.index for sample in listing}


def given_by(config: RunConfig) -> Given | None:
    """What the run explained that ``--target`` names, if it names one.

    Raises
    ------
    ConfigError
        The run has no classes.
    RunDirectoryError
        It is not complete, or damaged.
    """
    if not config.target.startswith(FROM_RUN):
        return None
    run_dir = RunDir.open(config.target.removeprefix(FROM_RUN))
    manifest = read_manifest(run_dir)
    if str(manifest.config.get("target")).startswith(SIMILAR):
        raise ConfigError(f"--target {config.target}: that run explained likeness, not classes")
    shards = [one.shard for one in check_index(run_dir, manifest.fingerprint)]
    listed, planned = manifest.plan["samples"], manifest.plan["shards"]
    if len(shards) < planned:
        raise ConfigError(
            f"--target {config.target}: {len(shards)} of its {counted(planned, 'shard')} are done; "
            "complete that run first"
        )
    classes = np.empty((listed, 0), np.int32)
    for _, path in run_dir.open_shards(shards):
        with reading(path) as file:
            samples, found = dataset_of(file, "sample")[()], dataset_of(file, "target")[()]
            if not classes.shape[1]:
                classes = np.full((listed, found.shape[1]), NO_CLASS, np.int32)
            if samples.max(initial=0) >= listed or found.shape[1:] != classes.shape[1:]:
                raise Unsound("its samples are not those of the run")
            classes[samples] = found
    return Given(classes, manifest.numbers["source"], run_dir)
