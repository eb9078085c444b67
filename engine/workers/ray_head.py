"""The processes of a Ray of our own: those that a run needs.

Ray has others, for dashboards, autoscaling, runtime environments and logs; they take seconds of
a small machine, and `ray.init` waits for some of them. Private parts of Ray are used here, too.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ray._private import services
from ray._private.node import Node
from ray._private.parameter import RayParams
from ray._private.ray_constants import PROCESS_TYPE_RAYLET, WORKER_PROCESS_SETUP_HOOK_ENV_VAR
from ray._raylet import (  # type: ignore[attr-defined]
    DASHBOARD_AGENT_LISTEN_PORT_NAME,
    METRICS_AGENT_PORT_NAME,
    METRICS_EXPORT_PORT_NAME,
    RUNTIME_ENV_AGENT_PORT_NAME,
    persist_port,
)

_PORTS = (  # that the raylet waits for
    DASHBOARD_AGENT_LISTEN_PORT_NAME,
    METRICS_AGENT_PORT_NAME,
    METRICS_EXPORT_PORT_NAME,
    RUNTIME_ENV_AGENT_PORT_NAME,
)
_NOBODY = -1
_IDLE = "cat"  # in place of an agent: it ends with its input, which is the raylet's
_KILLED = 2.0  # seconds that a process may take to be gone


@dataclass(frozen=True)
class Processes:
    """What a head has started; nothing more once `lock` is taken for good."""

    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Head(Node):
    """The head of a Ray of one node, which is started.

    Parameters
    ----------
    workers
        Python processes that wait for work from the start.
    first
        A function that these call. It travels by name.
    params
        Of ``RayParams``.
    processes
        Where those that are started are put, as they are.
    """

    def __init__(
        self,
        workers: int,
        first: Callable[[], None] | None,
        params: dict[str, Any],
        processes: Processes,
    ) -> None:
        self._workers, self._processes = workers, processes
        self._start_process = services.start_ray_process
        ours: Any = services
        ours.start_ray_process = self._start
        ours._site_flags = list  # this process is isolated; workers are as their driver
        if first is not None:
            name = f"{first.__module__}.{first.__qualname__}"
            os.environ[WORKER_PROCESS_SETUP_HOOK_ENV_VAR] = name
        every: Any = dict(params, include_log_monitor=False, no_monitor=True)
        every["_system_config"] = {"enable_worker_prestart": True}  # before a driver joins
        super().__init__(RayParams(**every), head=True, shutdown_at_exit=False)

    def start_api_server(self, **_: Any) -> None:
        """Start none."""

    def _start(self, command: list[str], kind: str, *args: Any, **options: Any) -> Any:
        if kind == PROCESS_TYPE_RAYLET:
            for name in _PORTS:
                persist_port(self._session_dir, self._node_id, name, _NOBODY)
            changed = {
                "--dashboard_agent_command": _IDLE,
                "--runtime_env_agent_command": _IDLE,
                "--num_prestart_python_workers": self._workers,
            }
            kept = (word for word in command if word.partition("=")[0] not in changed)
            command = [*kept, *(f"{name}={value}" for name, value in changed.items())]
        with self._processes.lock:
            info = self._start_process(command, kind, *args, **options)
            self._processes.started.append(info.process)
        return info


def end(processes: Processes) -> None:
    """End what a head has started, the raylet first, which is last, and all that these have.

    Of a head that is still starting, whose thread then waits for ever, the process must end.
    """
    import psutil  # type: ignore[import-untyped]  # which there is once Ray is imported

    processes.lock.acquire()
    theirs = psutil.Process().children(recursive=True)
    for process in reversed(processes.started):
        process.kill()
        process.wait()
    for one in theirs:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(theirs, _KILLED)
