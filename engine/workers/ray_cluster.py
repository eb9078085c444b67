"""Joining a Ray cluster, or starting a Ray of our own.

A program that is on Ray already keeps its Ray: it is used, and nothing of it is changed.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from shardcam.engine.errors import WorkerError, one_line
from shardcam.engine.workers.own_ray import OwnRay
from shardcam.engine.workers.ray_address import LOCAL, wanted
from shardcam.engine.workers.ray_internals import (
    admits,
    is_client,
    is_token_auth_enabled,
    join_own,
    no_handler_of_ray,
    reread_environment,
    silent_worker_logs,
)

_TOKEN_HINT = (
    "A cluster that `ray start` of Ray 2.60 began asks for a token: set RAY_AUTH_MODE=token and "
    "the RAY_AUTH_TOKEN it was started with, or RAY_AUTH_MODE=disabled on both sides"
)
_CHANGED = ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE")  # in a session; the last by Ray
_QUIET: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}


@dataclass(frozen=True)
class RayOptions:
    """Number and size of the workers, and the cluster they run on."""

    workers: int | None  # None: as many as the CPUs allow, and more when nodes join
    cpus_per_worker: int
    gpus_per_worker: float
    address: str | None  # None: RAY_ADDRESS, or a Ray started here; LOCAL: that in any case
    hang_timeout: float = 1800.0  # seconds without progress after which a worker is replaced
    recycle: int = 2000  # shards after which a worker is replaced
    priority: float = 1.0  # beside other runs on the cluster


@contextmanager
def session(options: RayOptions, own: OwnRay | None = None) -> Iterator[bool]:
    """Use the program's Ray, join the cluster that was asked for, or a Ray of our own.

    Gives whether it is the program's: then nobody but the caller ends the workers. A Ray of our
    own, which `own` is if it was started ahead, ends as the session does.
    """
    if ray.is_initialized():
        _require_same(options.address)
        yield True
        return
    address = wanted(options.address)
    with _environment_kept(), silent_worker_logs(), no_handler_of_ray(), ExitStack() as ended:
        if address == LOCAL:
            own = own or OwnRay(options.workers, options.cpus_per_worker)
            ended.callback(own.end)
        ended.callback(ray.shutdown)  # ends the workers too
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.pop("RAY_ADDRESS", None)  # Ray would prefer it to an explicit address
        if own is None:
            reread_environment()
            _join(address)
        else:
            os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": own.token}
            reread_environment()
            _join_own(own)
        yield False


def require_cluster(address: str | None) -> None:
    """Refuse a cluster that could not be joined later.

    Raises
    ------
    WorkerError
        Nobody answers, the token is refused, or this process is on another Ray.
    """
    if ray.is_initialized():
        _require_same(address)
        return
    address = wanted(address)
    if address != LOCAL:
        with _environment_kept():
            reread_environment()
            _require_admission(address)


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Leave the process as it was, so that the next session may be with another cluster.

    Ray itself turns tokens on, for good, where one is started; a cluster without tokens would get
    no answer from such a driver, and cancel its actors.
    """
    before = {name: os.environ.get(name) for name in _CHANGED}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        reread_environment()


def _require_same(address: str | None) -> None:
    """A process is on one Ray at a time."""
    if is_client():
        raise WorkerError(
            "this process is on Ray by a client (ray://), which cannot run workers: call "
            "ray.shutdown() first"
        )
    here = ray.get_runtime_context().gcs_address
    if address not in (None, "auto") and _numeric(address) != _numeric(here):
        raise WorkerError(
            f"--address {address}: this process is on the Ray at {here} already: leave --address "
            "out to use that, or call ray.shutdown() first"
        )


def _numeric(address: str) -> str:
    """HOST:PORT by the IP address that Ray has for this machine, or another one's own."""
    host, _, port = address.rpartition(":")
    with suppress(OSError):
        host = socket.gethostbyname(host)
    own: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return f"{own if host.startswith('127.') else host}:{port}"


def _join_own(own: OwnRay) -> None:
    address = own.address
    try:
        join_own(address, **_QUIET)
    except Exception as error:  # Ray has no class for it
        raise own.not_started(one_line(error)) from error


def _join(address: str) -> None:
    _require_admission(address)
    with _explained(address):
        ray.init(address=address, **_QUIET)


@contextmanager
def _explained(address: str) -> Iterator[None]:
    try:
        yield
    except (ConnectionError, ValueError, RuntimeError, RayError) as error:
        raise WorkerError(f"--address {address}: cannot join: {error}. {_TOKEN_HINT}") from error


def _require_answer(address: str) -> None:
    """Knock at HOST:PORT first: Ray itself tries for many minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise WorkerError(f"--address {address}: no Ray cluster answers: {error}") from error


def _require_admission(address: str) -> None:
    """Make one call to the cluster: Ray itself offers a bad token twenty times, a second apart.

    A cluster without tokens lets a driver in that uses one, and then cancels its actors.
    """
    if not _is_host_and_port(address):
        return
    _require_answer(address)
    with _explained(address):
        refused, sends = admits(address, token=True) is False, is_token_auth_enabled()
    if refused:
        raise WorkerError(
            f"--address {address}: no token was sent, or another cluster's. {_TOKEN_HINT}"
        )
    if sends and admits(address, token=False):
        raise WorkerError(
            f"--address {address}: this cluster uses no tokens: set RAY_AUTH_MODE=disabled"
        )


def _is_host_and_port(address: str) -> bool:
    host, _, port = address.rpartition(":")
    return bool(host) and port.isdigit() and "/" not in host


def worker_capacity(options: RayOptions) -> int:
    """How many workers the cluster has room for, each on one of its nodes."""
    return sum(_room(resources, options) for resources in _nodes())


def _nodes() -> list[dict[str, float]]:
    """What each node has."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return [node["Resources"] for node in nodes if node["Alive"]]


def _room(resources: dict[str, float], options: RayOptions) -> int:
    """Workers that a node has room for; one of a part of a GPU is on a single one."""
    most = int(resources.get("CPU", 0.0) // options.cpus_per_worker)
    gpus, each = resources.get("GPU", 0.0), options.gpus_per_worker
    if 0 < each < 1:
        most = min(most, int(gpus) * int(1 / each + 1e-9))
    elif each:
        most = min(most, int(gpus // each))
    return most


def require_capacity(options: RayOptions) -> None:
    """Raise if the cluster has no room for a single worker; the others may wait for theirs."""
    if worker_capacity(options) < 1:
        nodes = _nodes()
        cpus, gpus = (sum(node.get(name, 0.0) for node in nodes) for name in ("CPU", "GPU"))
        where = "" if len(nodes) == 1 else f" on one of its {len(nodes)} nodes"
        raise WorkerError(
            f"the Ray cluster has {cpus:g} CPUs and {gpus:g} GPUs: not enough for a worker "
            f"with --cpus-per-worker {options.cpus_per_worker} and --gpus-per-worker "
            f"{options.gpus_per_worker:g}{where}"
        )
