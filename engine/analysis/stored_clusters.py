"""Which images of a run the network treats alike, as columns of its samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.errors import ConfigError
from shardcam.engine.rundir.cluster_results import ROWS, ClusterResults, read_cluster_summary
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.types import F4, I4, shard_name

Array = npt.NDArray[Any]
NO_CLUSTER = -1


class StoredClusters:
    """The clusterings of a run, each read when it is asked for, once.

    Parameters
    ----------
    run_dir
        The run directory.
    """

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self._held: dict[str, dict[str, Array]] = {}

    @cached_property
    def summary(self) -> dict[str, Any]:
        """``clusters/summary.json``."""
        return read_cluster_summary(self._run_dir)

    def named(self, name: str | None) -> str:
        """The clustering of a name; the only one, if None.

        Raises
        ------
        ConfigError
            The run has no such clustering, or several to choose from.
        """
        known = ", ".join(self.summary)
        if name is None:
            if len(self.summary) == 1:
                return next(iter(self.summary))
            if not known:
                raise ConfigError("the run has no clusters; see shardcam cluster")
            raise ConfigError(f"the run has several clusterings; name one of {known}")
        if name not in self.summary:
            raise ConfigError(f"no clustering {name!r} of this run; those that it has: {known}")
        return name

    def columns(self, name: str, samples: Array) -> dict[str, Array]:
        """(N,) positions in the listing -> ``cluster``, ``embedding``, ``outlier``, ``distance``.

        -1 and NaN of images that are not in the comparison.
        """
        if name not in self._held:
            self._held[name] = ClusterResults(self._run_dir, name).rows()
        held = self._held[name]
        order = held["sample"]
        places = np.minimum(np.searchsorted(order, samples), max(len(order) - 1, 0))
        there = order[places] == samples if len(order) else np.zeros(len(samples), bool)
        found = {}
        for column in ROWS[1:]:
            values = held[column]
            none = NO_CLUSTER if values.dtype.kind == "i" else np.float32(np.nan)
            found[column] = np.full((len(samples), *values.shape[1:]), none, values.dtype)
            found[column][there] = values[places[there]]
        return found

    def of_class(self, name: str, number: int) -> dict[str, Array]:
        """All that is stored of a class.

        Raises
        ------
        ConfigError
            It was not clustered.
        """
        results = ClusterResults(self._run_dir, name)
        if number not in results.folder.shard_numbers():
            raise ConfigError(f"clustering {name!r}: class {number} is not in it")
        folder = results.folder
        folder.fetch_all([folder.shards / shard_name(number)])
        return results.read(folder.shards / shard_name(number))


@dataclass(frozen=True)
class Clustering:
    """One way to look at N samples: which of them are alike.

    Attributes
    ----------
    summary
        Of ``clusters/summary.json``: how it was made, and the clusters of each class, the one that
        is most unlike the rest of its class first.
    """

    summary: Mapping[str, Any]
    _columns: Callable[[], dict[str, Array]]
    _of_class: Callable[[int], dict[str, Array]]

    @property
    def cluster(self) -> I4:
        """(N,) the cluster within its class, the largest 0; -1 where an image is in none."""
        found: I4 = self._columns()["cluster"]
        return found

    @property
    def embedding(self) -> F4:
        """(N,2) places on a plane, where images that are alike are near; NaN where there is none.

        Each class has a plane of its own.
        """
        found: F4 = self._columns()["embedding"]
        return found

    @property
    def outlier(self) -> F4:
        """(N,) mean distance to the nearest neighbours, over the class's median; NaN if none."""
        found: F4 = self._columns()["outlier"]
        return found

    @property
    def distance(self) -> F4:
        """(N,) distance to the average of the own cluster; NaN where an image is in none."""
        found: F4 = self._columns()["distance"]
        return found

    def columns(self) -> dict[str, Array]:
        """All four columns, in one pass over the samples."""
        return self._columns()

    def of_class(self, number: int) -> dict[str, Array]:
        """Every dataset of a class, such as ``of_cluster/mean`` and ``eigenvalue``.

        Raises
        ------
        ConfigError
            The class was not clustered.
        """
        return self._of_class(number)
