"""Private parts of Ray that shardcam uses; look here first when its exact pin is raised.

`engine.workers.ray_head` uses others, in a process that runs nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import ray
from ray._private.authentication.authentication_utils import is_token_auth_enabled
from ray._private.grpc_utils import init_grpc_channel
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]
from ray.experimental.internal_kv import (
    _internal_kv_del,
    _internal_kv_get,
    _internal_kv_list,
    _internal_kv_put,
)

from shardcam.engine.workers.own_ray import LOOPBACK

_CHECK_ALIVE = "/ray.rpc.NodeInfoGcsService/CheckAlive"
_ANSWER = 10.0  # seconds that a cluster may take
_OURS = b"shardcam"  # the namespace of the entries that runs make in a cluster's table

__all__ = (
    "admits",
    "delete_entry",
    "draining_nodes",
    "is_client",
    "is_token_auth_enabled",
    "join_own",
    "living_drivers",
    "read_entries",
    "reread_environment",
    "silent_worker_logs",
    "write_entry",
)


def join_own(address: str, **options: Any) -> None:
    """Join a Ray of our own: on loopback, and without anybody who makes runtime environments."""
    resolve = ray._private.services.resolve_ip_for_localhost  # to one that others reach
    ray._private.services.resolve_ip_for_localhost = lambda host: host
    try:
        ray.init(address=address, _node_ip_address=LOOPBACK, _skip_env_hook=True, **options)
    finally:
        ray._private.services.resolve_ip_for_localhost = resolve


def reread_environment() -> None:
    """Let Ray read its settings and its token again: it reads them once in a process."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def no_handler_of_ray() -> Iterator[None]:
    """Keep Ray from putting a handler in the place of SIGTERM's.

    It stops `ray.init` at any point, and what is half connected crashes as the process ends.
    """
    put = ray._private.utils.set_sigterm_handler
    ray._private.utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        ray._private.utils.set_sigterm_handler = put


@contextmanager
def silent_worker_logs() -> Iterator[None]:
    """Keep Ray from printing a paragraph for each lost worker."""
    before = ray._private.worker._worker_logs_enabled
    ray._private.worker._worker_logs_enabled = False
    try:
        yield
    finally:
        ray._private.worker._worker_logs_enabled = before


def admits(address: str, token: bool) -> bool | None:
    """Whether the cluster at HOST:PORT answers a call, with or without the token Ray would send.

    None: it does not, for another reason than the token.
    """
    channel = init_grpc_channel(address) if token else grpc.insecure_channel(address)
    try:
        channel.unary_unary(_CHECK_ALIVE)(b"", timeout=_ANSWER)
    except grpc.RpcError as error:
        return False if error.code() is grpc.StatusCode.UNAUTHENTICATED else None
    finally:
        channel.close()
    return True


def is_client() -> bool:
    """Whether this process is on Ray by ``ray://``, which has few of its functions."""
    return bool(ray.util.client.ray.is_connected())  # type: ignore[no-untyped-call]


def draining_nodes() -> frozenset[str]:
    """Ids of the nodes that are being drained: they run on for a while, and will be gone."""
    return frozenset(ray._private.state.state.get_draining_nodes())


def write_entry(key: str, value: bytes) -> None:
    """Write an entry of ours into the cluster's table."""
    _internal_kv_put(key, value, namespace=_OURS)


def read_entries() -> dict[str, bytes]:
    """All of our entries in the cluster's table."""
    keys = _internal_kv_list(b"", namespace=_OURS)
    found = {key.decode(): _internal_kv_get(key, namespace=_OURS) for key in keys}
    return {key: value for key, value in found.items() if value is not None}


def delete_entry(key: str) -> None:
    """Delete an entry of ours."""
    _internal_kv_del(key, namespace=_OURS)


def living_drivers() -> frozenset[str]:
    """Ray's ids of the drivers of the cluster that have not ended."""
    jobs = ray._private.state.state.job_table()  # type: ignore[no-untyped-call]
    return frozenset(job["JobID"] for job in jobs if not job["IsDead"])
