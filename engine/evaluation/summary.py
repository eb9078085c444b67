"""From the files of a metric to one figure, and ``metrics/summary.json`` of all of them."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.errors import RunDirectoryError
from shardcam.engine.evaluation.metric import Figure, MapMetric, Merged, PassMetric, Reason
from shardcam.engine.rundir.hdf5_reading import reading
from shardcam.engine.rundir.metric_results import MetricResults, read_summary
from shardcam.engine.rundir.own_datasets import dataset_of
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.types import I8, NO_CLASS

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Result:
    """A metric of a run, of its maps and of each baseline."""

    name: str  # of its folder
    convention: str
    higher_is_better: bool | None
    figure: Figure
    left_out: dict[str, int]  # classes of images, and images without any, by the reason
    baselines: dict[str, Figure]
    images: int = 0  # that have a row, with a value or a reason why there is none

    def with_details(self, **more: Any) -> Result:
        """The same, and more that is told of the run's maps."""
        figure = replace(self.figure, details={**self.figure.details, **more})
        return replace(self, figure=figure)

    def as_json(self) -> dict[str, Any]:
        """As ``summary.json`` has it; what is not a number is null there."""
        return {
            **_figure_json(self.figure),
            "left_out": self.left_out,
            "convention": self.convention,
            "higher_is_better": self.higher_is_better,
            "baselines": {name: _figure_json(one) for name, one in self.baselines.items()},
        }


def stored_result(name: str, stored: Mapping[str, Any]) -> Result:
    """A metric as ``summary.json`` has it.

    Raises
    ------
    RunDirectoryError
        It has not the form that `Result.as_json` gives it.
    """
    try:
        left_out, better = stored.get("left_out", {}), stored.get("higher_is_better")
        if not isinstance(better, bool | None):
            raise ValueError("higher_is_better is neither true nor false")
        return Result(
            name=name,
            convention=str(stored.get("convention", "")),
            higher_is_better=better,
            figure=_stored_figure(stored),
            left_out={str(reason): int(count) for reason, count in left_out.items()},
            baselines={k: _stored_figure(one) for k, one in stored.get("baselines", {}).items()},
        )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        words = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise RunDirectoryError(
            f"metrics/summary.json: {name}: damaged: {words[:200]}; evaluate writes it again"
        ) from error


def summarise(
    run_dir: RunDir,
    results: MetricResults,
    metric: MapMetric | PassMetric,
    baselines: tuple[str, ...],
) -> Result:
    """Read what was measured, and make a figure of it."""
    figures = {}
    merged, reasons, images = _merged(run_dir, results, "")
    figures[""] = metric.figure(merged)
    for name in baselines:
        figures[name] = metric.figure(_merged(run_dir, results, f"{name}/")[0])
    return Result(
        name=results.name,
        convention=metric.convention,
        higher_is_better=metric.higher_is_better,
        figure=figures.pop(""),
        left_out={Reason(r).words: n for r, n in sorted(reasons.items()) if r},
        baselines=figures,
        images=images,
    )


def _merged(
    run_dir: RunDir, results: MetricResults, prefix: str
) -> tuple[Merged, Counter[int], int]:
    """What was measured, how often each reason is given, and how many images have a row."""
    images = 0
    values, classes, state = [], [], dict[str, Array]()
    reasons: Counter[int] = Counter()
    numbers = results.folder.shard_numbers()
    for number, path in results.folder.open_shards(numbers):
        found = results.read(path, without=f"{prefix}column/")
        images += len(found["sample"])
        if f"{prefix}value" not in found:  # a shard without rows has no baselines
            continue
        value, reason = found[f"{prefix}value"], found[f"{prefix}reason"]
        measured = reason == Reason.MEASURED
        values.append(value[measured].astype(np.float64))
        explained = _classes(run_dir, number, found["sample"])
        if explained.shape != value.shape or reason.max(initial=0) > max(Reason):
            raise _damaged(results, number)
        classes.append(explained[measured])
        reasons.update(reason[counted_places(explained)].tolist())
        for name, array in found.items():
            if name.startswith(f"{prefix}state/"):
                key = name.removeprefix(f"{prefix}state/")
                if key in state and state[key].shape != array.shape:
                    raise _damaged(results, number)
                state[key] = state[key] + array if key in state else array

    def column(name: str) -> Iterator[Array]:
        shape: tuple[int, ...] | None = None
        for number, path in results.folder.open_shards(numbers):
            wanted = f"{prefix}reason", f"{prefix}column/{name}"
            found = results.read(path, names=wanted)
            if wanted[1] in found:
                block, reason = found[wanted[1]], found[wanted[0]]
                shape = shape or block.shape[1:]
                if block.shape != (len(reason), *shape) or shape[:1] != reason.shape[1:]:
                    raise _damaged(results, number)
                yield block[reason == Reason.MEASURED]

    merged = Merged(
        np.concatenate(values or [np.empty(0)]),
        np.concatenate(classes or [np.empty(0, np.int32)]),
        state,
        column,
    )
    return merged, reasons, images


def counted_places(explained: Array) -> npt.NDArray[np.bool_]:
    """(n,K) classes -> (n,K) which places count: those with a class, of images without any one."""
    counts: npt.NDArray[np.bool_] = explained != NO_CLASS
    counts[:, :1] |= ~counts.any(axis=1, keepdims=True)
    return counts


def _damaged(results: MetricResults, number: int) -> RunDirectoryError:
    return RunDirectoryError(
        f"{results.folder.shard(number)}: not what was measured of this run; "
        "delete it, and evaluate measures it again"
    )


def _classes(run_dir: RunDir, number: int, samples: I8) -> Array:
    """(n,K) classes explained of some samples of a shard of the run."""
    with reading(run_dir.shard(number)) as file:
        order = dataset_of(file, "sample")[:]
        classes: Array = dataset_of(file, "target")[:]
        found: Array = classes[np.isin(order, samples)]
        return found


def forget(run_dir: RunDir, names: Collection[str]) -> None:
    """Take results out of ``metrics/summary.json`` that are about to be measured anew."""
    with RunDir.open(f"{run_dir.home}/metrics").lock():
        held = read_summary(run_dir)
        if left_out := held.keys() & set(names):
            _write(run_dir, {name: one for name, one in held.items() if name not in left_out})


def write_summary(run_dir: RunDir, results: Mapping[str, Result]) -> None:
    """Put results into ``metrics/summary.json``, beside those that are there."""
    with RunDir.open(f"{run_dir.home}/metrics").lock():
        merged = read_summary(run_dir) | {name: one.as_json() for name, one in results.items()}
        _write(run_dir, merged)


def _write(run_dir: RunDir, summary: Mapping[str, Any]) -> None:
    text = json.dumps(dict(sorted(summary.items())), indent=2, allow_nan=False)
    run_dir.write_atomically(run_dir.metrics / "summary.json", text + "\n")


def _stored_figure(stored: Mapping[str, Any]) -> Figure:
    low, high = (_stored_number(side) for side in stored["ci95"])
    details = stored.get("details", {})
    if not isinstance(details, dict):
        raise ValueError("its details are no object")
    return Figure(_stored_number(stored["mean"]), low, high, int(stored["n"]), details)


def _stored_number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _figure_json(figure: Figure) -> dict[str, Any]:
    interval = [_number(figure.low), _number(figure.high)]
    details = {"details": _plain(figure.details)} if figure.details else {}
    return {"mean": _number(figure.value), "ci95": interval, "n": figure.n, **details}


def _plain(value: Any) -> Any:
    """As JSON has it: NumPy's numbers and arrays, and what is not finite as null."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(inner) for inner in value]
    if isinstance(value, float | np.floating):
        return _number(float(value))
    return value.item() if isinstance(value, np.generic) else value


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
