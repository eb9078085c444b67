"""A Ray of our own, on loopback: a process beside this one starts it, and it ends with that."""

from __future__ import annotations

import os
import resource
import secrets
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any

from shardcam.engine.errors import WorkerError, one_line
from shardcam.engine.workers.child_process import ChildProcess
from shardcam.engine.workers.cores import usable_cores
from shardcam.engine.workers.ray_folder import SHARED_MEMORY, ray_folder, start_error

LOOPBACK = "127.0.0.1"
_OBJECT_STORE = 80 * 1024 * 1024  # the least Ray accepts; only reports pass through it
_AHEAD = 4  # workers that start where nobody said how many: there may be fewer shards
_FILES = 65536  # that Ray's processes may have open, if the hard limit allows it
_PATIENCE = 5.0  # seconds that it may take to end


class OwnRay:
    """A Ray that starts at once, while its caller does something else.

    Parameters
    ----------
    workers
        How many it has room for, and starts before it is joined; by default it has room for as
        many as the cores of this machine allow, and starts four of them at most. More than these
        cores allow are not started before.
    cpus_per_worker
        Cores of each.
    first
        What the process of a worker does before it knows its run. It travels by name.

    Attributes
    ----------
    token : str
        What whoever connects must have.

    Raises
    ------
    WorkerError
        There is no folder for it, or no process can be started.
    """

    def __init__(
        self, workers: int | None, cpus_per_worker: int, first: Callable[[], None] | None = None
    ) -> None:
        fitting = max(usable_cores() // cpus_per_worker, 1)
        room = workers or fitting
        ahead = min(room, fitting if workers else _AHEAD)
        self.token = os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32)
        self._address: str | None = None
        with ExitStack() as started:
            self._folder = started.enter_context(ray_folder())
            self._child = ChildProcess(serve)
            started.callback(self._child.end, _PATIENCE)
            params: dict[str, Any] = {
                "node_ip_address": LOOPBACK,
                "num_cpus": room * cpus_per_worker,
                "object_store_memory": _OBJECT_STORE,
                "temp_dir": str(self._folder),
            }
            if not os.access(SHARED_MEMORY, os.W_OK | os.X_OK):
                params["plasma_directory"] = str(self._folder)
            environment = {
                "OMP_NUM_THREADS": str(cpus_per_worker),
                "PYTHONPATH": os.pathsep.join(sys.path),
                "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": self.token,
                "RAY_USAGE_STATS_ENABLED": "0",
            }
            try:
                self._child.pipe.send(environment)
                self._child.pipe.send((ahead, first, params))
            except OSError as error:
                raise self._child.not_started() from error
            self._end = started.pop_all()

    @property
    def address(self) -> str:
        """HOST:PORT, once it has started.

        Raises
        ------
        WorkerError
            It has not.
        """
        if self._address is None:
            try:
                address, problem = self._child.pipe.recv()
            except EOFError as error:
                raise self._child.not_started() from error
            if problem:
                raise self.not_started(problem)
            self._address = address
        assert self._address is not None
        return self._address

    def not_started(self, problem: str) -> WorkerError:
        """What to raise where it cannot be used."""
        return start_error(problem, self._folder)

    def end(self) -> None:
        """End it, started or not, and its workers."""
        self._end.close()


def serve(driver: Connection) -> None:
    """Be the process: start Ray, and end it when the driver closes its end of the pipe."""
    os.environ.pop("RAY_ADDRESS", None)
    os.environ.update(driver.recv())  # which Ray reads as it is imported
    workers, first, params = driver.recv()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _FILES)), hard))
    from shardcam.engine.workers.ray_head import Head, Processes, end

    processes = Processes()

    def end_with_driver() -> None:
        try:
            driver.recv()
        finally:
            end(processes)
            os._exit(0)

    watch = threading.Thread(target=end_with_driver)
    watch.start()
    try:
        head = Head(workers, first, params, processes)
    except Exception as error:  # Ray has no class for it
        driver.send((None, one_line(error)))
    else:
        driver.send((head.gcs_address, None))
    watch.join()
