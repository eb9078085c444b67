"""From the files of the classes to what is told of them, and ``clusters/summary.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from shardcam.engine.clusters.settings import rank_key
from shardcam.engine.clusters.unlikeness import STANDS_OUT
from shardcam.engine.errors import RunDirectoryError
from shardcam.engine.rundir.cluster_results import (
    ROWS,
    ClusterManifest,
    ClusterResults,
    read_cluster_summary,
)
from shardcam.engine.rundir.results_folder import Array
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.types import shard_name

_TOLD = ("count", "unlikeness", "apart", "joined", "spread", "right", "score")
_DECIMALS = 6


@dataclass(frozen=True)
class OneCluster:
    """A cluster of a class."""

    cluster: int  # its number within the class
    count: int  # images
    unlikeness: float  # to the rest of the class; see `engine.clusters.unlikeness`
    apart: float
    joined: float
    spread: float  # root mean square distance of its rows to their average
    right: float | None  # share of right predictions, of images with a label
    score: float | None  # mean, of the explained class
    nearest: tuple[int, ...]  # samples next to the average
    farthest: tuple[int, ...]

    @property
    def stands_out(self) -> bool:
        return self.unlikeness >= STANDS_OUT


@dataclass(frozen=True)
class ClassClusters:
    """The clusters of a class, the one that is most unlike the rest first."""

    number: int
    count: int  # images that were compared
    left_out: dict[str, int]  # others, by the reason
    suggested: int  # clusters, by the eigengap
    in_none: int  # images that were compared, and are in no cluster
    clusters: tuple[OneCluster, ...]

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "number"}


def summarise(results: ClusterResults, numbers: Sequence[int]) -> list[ClassClusters]:
    """Read what was found out about each class, and put the rows of all into one file."""
    folder = results.folder
    folder.fetch_all([folder.shards / shard_name(number) for number in numbers])
    found, rows = zip(*(_of_class(results, number) for number in numbers), strict=True)
    results.write_rows(rows)
    return list(found)


def _of_class(results: ClusterResults, number: int) -> tuple[ClassClusters, dict[str, Array]]:
    path = results.folder.shards / shard_name(number)
    names = [f"of_cluster/{name}" for name in (*_TOLD, "nearest", "farthest")]
    found = results.read(path, (*ROWS, "suggested", *names))
    if missing := {"suggested", *names} - found.keys():
        raise RunDirectoryError(f"{path}: unreadable (no {min(missing)}); {results.anew}")
    with results.reading(path) as file:
        left_out = json.loads(str(file.attrs.get("left_out", "{}")))
    rows = [_told({n.partition("/")[2]: v[i] for n, v in found.items() if n in names}, i)
            for i in range(len(found["of_cluster/count"]))]  # fmt: skip
    ordered = sorted(rows, key=lambda one: rank_key(one.unlikeness, one.count, one.cluster))
    summary = ClassClusters(
        number=number,
        count=len(found["cluster"]),
        left_out=left_out,
        suggested=int(found["suggested"][0]),
        in_none=int((found["cluster"] < 0).sum()),
        clusters=tuple(ordered),
    )
    return summary, {name: found[name] for name in ROWS}


def _told(row: dict[str, Any], number: int) -> OneCluster:
    figures: dict[str, Any] = {name: _number(row[name]) for name in _TOLD[1:]}
    for name in ("nearest", "farthest"):
        figures[name] = tuple(sample for sample in row[name].tolist() if sample >= 0)
    return OneCluster(number, int(row["count"]), **figures)


def _number(value: float) -> Any:
    return round(float(value), _DECIMALS) if math.isfinite(value) else None


def ranked(classes: Sequence[ClassClusters]) -> Iterator[tuple[ClassClusters, OneCluster]]:
    """Clusters of all classes, those that are most unlike the rest of their class first."""
    pairs = [(one, found) for one in classes for found in one.clusters]
    yield from sorted(pairs, key=lambda p: rank_key(p[1].unlikeness, p[1].count, p[0].number))


def write_cluster_summary(
    run_dir: RunDir, how: ClusterManifest, found: Sequence[ClassClusters]
) -> None:
    """Put a clustering into ``clusters/summary.json``, beside those that are there."""
    told = {
        **{name: value for name, value in how.numbers.items() if name != "schema"},
        "stands_out": STANDS_OUT,
        "classes": {str(one.number): one.as_json() for one in found},
    }
    with RunDir.open(f"{run_dir.home}/clusters").lock():
        merged = read_cluster_summary(run_dir) | {how.name: told}
        text = json.dumps(dict(sorted(merged.items())), indent=1, allow_nan=False)
        run_dir.write_atomically(run_dir.clusters / "summary.json", text + "\n")
