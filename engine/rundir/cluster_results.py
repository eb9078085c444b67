"""Which images of a run the network treats alike: files beside it, a folder for each way to look.

``clusters/NAME/clustering.json`` says how; ``clusters/NAME/shards/`` has a file for each class,
with the number of the class. A file holds the rows of the images that are in the comparison
(``sample``, ``cluster``, ``embedding``, ...), and a row for each cluster (``of_cluster/...``).
``clusters/NAME/rows.h5`` has those rows of all classes by the sample, so that whoever looks at the
run opens one file. It is there while no class is being clustered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from shardcam.engine.errors import RunDirectoryError
from shardcam.engine.rundir.own_datasets import Unsound
from shardcam.engine.rundir.results_folder import (
    Array,
    HowComputed,
    ResultsFolder,
    damaged_results,
    read_json_objects,
)
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.types import shard_name

ROWS = ("sample", "cluster", "embedding", "outlier", "distance")
_ROWS_FILE = "rows.h5"
_NUMBERS = {"sample": "i", "cluster": "i", "outlier": "f", "distance": "f"}  # and their kinds


@dataclass(frozen=True, kw_only=True)
class ClusterManifest(HowComputed):
    """How the images of a run were clustered."""

    name: str


class ClusterResults(ResultsFolder[ClusterManifest]):
    """The folder of one clustering of a run; see `ResultsFolder`. A part is a class."""

    kind, group, json_name = "clustering", "clusters", "clustering.json"
    done_before, anew = "clustered", "cluster --replace does it anew"
    manifest_type = ClusterManifest

    def write(
        self, number: int, fingerprint: str, source: str, left_out: str, tables: Mapping[str, Array]
    ) -> bool:
        """Publish a class; False if somebody else did before.

        Parameters
        ----------
        source
            What changes when the run does.
        left_out
            How many images are not in the comparison, by the reason, as JSON.

        Raises
        ------
        DiskFull, RunDirectoryError
            No space, or no permission to write.
        """
        return self.publish(
            number, tables, **{"class": number}, fingerprint=fingerprint, source=source,
            left_out=left_out, rows=len(tables["sample"]),
        )  # fmt: skip

    def write_rows(self, classes: Sequence[Mapping[str, Array]]) -> None:
        """Put the rows of all classes into one file; raises as `write`."""
        self.put(_ROWS_FILE, self._joined(classes))

    def forget_rows(self) -> None:
        """Remove that file, for it will not be of all classes."""
        self.folder.remove(self.folder.root / _ROWS_FILE)

    def rows(self) -> dict[str, Array]:
        """`ROWS` of all classes, by the sample.

        Raises
        ------
        RunDirectoryError
            There are none, or a file is damaged.
        """
        path = self.folder.root / _ROWS_FILE
        if self.folder.fetch(path):
            return self.read(path, ROWS, require=self._require_ordered_rows)
        shards = self.folder.open_shards(self.folder.shard_numbers())
        classes = [self.read(shard, ROWS) for _, shard in shards]
        if not classes:
            place = self.folder.place(self.folder.shards)
            raise RunDirectoryError(f"{place}: missing; shardcam cluster does it again")
        return self._joined(classes)

    @staticmethod
    def _joined(classes: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        """The rows of several classes, by the sample."""
        whole = {name: np.concatenate([one[name] for one in classes]) for name in ROWS}
        order = np.argsort(whole["sample"], kind="stable")
        return {name: values[order] for name, values in whole.items()}

    def read_all(self) -> None:
        super().read_all()
        if self.folder.fetch(self.folder.root / _ROWS_FILE):
            self.rows()

    def clear(self) -> None:
        super().clear()
        self.forget_rows()

    def done(self, fingerprint: str, source: str, replace: bool = False) -> set[int]:
        """Classes that are clustered; what is of an older state of the run is removed.

        Raises
        ------
        RunDirectoryError
            A file is damaged, and `replace` is false: else it is removed, too.
        """
        found = set()
        for number, path in self.folder.open_shards(self.folder.shard_numbers()):
            try:
                if self.is_of(path, fingerprint, source):
                    if replace:
                        self.read(path)
                    found.add(number)
                    continue
            except RunDirectoryError:
                if not replace:
                    raise
            self.folder.remove(self.folder.shards / shard_name(number))
        return found

    def require_table(self, found: Mapping[str, h5py.Dataset]) -> None:
        """Numbers: a row for each image, or for each cluster; no cluster without its row."""
        self._require_rows(found)
        count = found.get("of_cluster/count")
        counts: tuple[int, ...] = () if count is None else count.shape
        for name, dataset in found.items():
            if dataset.dtype.kind not in "fi":
                raise Unsound(f"{name} does not hold numbers")
            if name.startswith("of_cluster/") and dataset.shape[:1] != counts:
                raise Unsound(f"{name} is not a row for each cluster")
        clusters = found["cluster"][()]
        if len(counts) != 1 or not ((clusters >= -1) & (clusters < counts[0])).all():
            raise Unsound("cluster has numbers of no cluster")

    @classmethod
    def _require_ordered_rows(cls, found: Mapping[str, h5py.Dataset]) -> None:
        """The same, each image once and in order: they are looked up by the sample."""
        cls._require_rows(found)
        if not (np.diff(found["sample"][()]) > 0).all():
            raise Unsound("sample is not in order")

    @staticmethod
    def _require_rows(found: Mapping[str, h5py.Dataset]) -> None:
        """Numbers for each image."""
        rows: tuple[int, ...] = found["sample"].shape if "sample" in found else ()
        for name, kind in _NUMBERS.items():
            if name not in found or found[name].dtype.kind != kind or found[name].shape != rows:
                raise Unsound(f"{name} is not a number for each image")
        if len(rows) != 1 or "embedding" not in found or found["embedding"].shape != (*rows, 2):
            raise Unsound("embedding is not two numbers for each image")
        if not np.isfinite(found["embedding"][()]).all():
            raise Unsound("embedding is not finite")


def damaged_clusters(run_dir: RunDir) -> Iterator[str]:
    """Read every file of the clusters, and say in one line what is wrong with one."""
    return damaged_results(run_dir, ClusterResults)


def read_cluster_summary(run_dir: RunDir) -> dict[str, Any]:
    """``clusters/summary.json``; empty where there is none.

    Raises
    ------
    RunDirectoryError
        It is damaged.
    """
    return read_json_objects(run_dir, run_dir.clusters / "summary.json", "cluster")
