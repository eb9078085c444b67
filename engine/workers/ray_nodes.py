"""Whether Ray works: one question to every node of a cluster, busy ones too, or a try here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from shardcam.engine.workers.ray_address import LOCAL
from shardcam.engine.workers.ray_cluster import RayOptions, session
from shardcam.engine.workers.ray_deaths import death_reason
from shardcam.engine.workers.ray_worker import WorkerActor


@dataclass(frozen=True)
class NodeAnswer:
    """The answer of a node."""

    node: str  # address and what it has
    answer: Any  # None if there is none
    error: str | None  # why not


def _call(question: Callable[[], Any]) -> Any:
    return question()


_free: Any = {"num_cpus": 0, "max_retries": 0}  # busy nodes answer too
_task: Any = ray.remote(**_free)(_call)


def ask_every_node(
    address: str, question: Callable[[], Any], seconds: float
) -> tuple[NodeAnswer, ...]:
    """Call `question` on each node that is alive, all at once, and wait so long.

    `question` travels by name: it must be importable on the nodes.
    """
    with session(RayOptions(None, 1, 0, address)):
        nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        asked = [_task.options(scheduling_strategy=_only(node)).remote(question) for node in nodes]
        ray.wait(asked, num_returns=len(asked), timeout=seconds)
        return tuple(
            NodeAnswer(_name(node), *_answer(one)) for node, one in zip(nodes, asked, strict=True)
        )


def _only(node: dict[str, Any]) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)


def _name(node: dict[str, Any]) -> str:
    has = node["Resources"]
    return f"{node['NodeManagerAddress']}: {has.get('CPU', 0):g} CPUs, {has.get('GPU', 0):g} GPUs"


def _answer(asked: Any) -> tuple[Any, str | None]:
    try:
        return ray.get(asked, timeout=0), None
    except GetTimeoutError:
        return None, "no answer"
    except RayTaskError as error:
        cause = getattr(error, "cause", None)
        return None, death_reason(error) if cause is None else f"{type(cause).__name__}: {cause}"
    except RayError as error:
        return None, death_reason(error)


def try_ray() -> str:
    """Start a Ray of our own, have an actor answer, and return Ray's version."""
    with session(RayOptions(1, 1, 0, LOCAL)):
        actor = WorkerActor.options(num_cpus=1).remote()
        ray.get(actor.__ray_ready__.remote())
    return str(ray.__version__)
