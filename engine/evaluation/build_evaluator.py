"""What a worker that measures is built from."""

from __future__ import annotations

from dataclasses import dataclass

from shardcam.engine.evaluation.measure_shard import Pictures, ShardEvaluator, Wanted
from shardcam.engine.evaluation.metrics_known import metric_named
from shardcam.engine.evaluation.passes import NetworkPasses
from shardcam.engine.evaluation.question import Question
from shardcam.engine.run.build_worker import WorkerSpec, build_parts
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.schema import layer_path
from shardcam.engine.truths.truth import Truth


@dataclass(frozen=True)
class EvaluatorSpec:
    """What a worker needs to measure: small, and readable wherever the same files are seen."""

    run: str
    layer: str
    view_size: tuple[int, int]
    wanted: tuple[tuple[str, str], ...]  # folder and fingerprint of each metric
    metrics: tuple[str, ...]
    asked: Question
    truth: Truth | None
    worker: WorkerSpec | None  # of the run, where its network or its pictures are needed


def build_evaluator(spec: EvaluatorSpec) -> ShardEvaluator:
    """Make what measures one shard after the other."""
    return ShardEvaluator(
        run_dir=RunDir.open(spec.run),
        layer=spec.layer,
        view_size=spec.view_size,
        wanted=tuple(
            Wanted(folder, fingerprint, metric_named(name))
            for (folder, fingerprint), name in zip(spec.wanted, spec.metrics, strict=True)
        ),
        truth=spec.truth,
        baselines=spec.asked.baselines,
        seed=spec.asked.seed,
        pictures=pictures_of(spec.worker, spec.layer)[0] if spec.worker else None,
    )


def pictures_of(worker: WorkerSpec, layer: str) -> tuple[Pictures, NetworkPasses]:
    """Load the run's network, as its own workers do."""
    from shardcam.engine.models.normalise import normalised

    loader, parts = build_parts(worker)
    name = next(name for name in worker.layers if layer_path(name) == layer)
    passes = NetworkPasses.of(parts, name, worker.batch_size)
    return Pictures(loader, passes, normalised), passes
