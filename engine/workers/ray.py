"""Shards on Ray actors, each with its own process, model and CPU cores.

A call carries a shard descriptor in and a small report out; pixels and maps never
enter Ray's object store.  Descriptors are taken as workers get free, so few are in
memory.  Ray restarts nothing by itself: this driver knows which worker held which
shard, and decides.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from engine.errors import ShardcamError, WorkerError
from engine.protocols import ShardRunner
from engine.types import Shard, ShardReport
from engine.workers.threads import limit_threads

ATTEMPTS = 3  # workers that may die of one shard, or while starting, before the run stops
_TOKEN_HINT = (
    "A cluster that `ray start` of Ray 2.60 began asks for a token: set RAY_AUTH_MODE=token and "
    "the RAY_AUTH_TOKEN it was started with, or RAY_AUTH_MODE=disabled on both sides"
)
_PATIENCE = 0.5  # seconds until a signal is seen
_OBJECT_STORE = 80 * 1024 * 1024  # the least Ray accepts; only reports pass through it


@dataclass(frozen=True)
class RayOptions:
    """How many workers of which size, and where."""

    workers: int | None  # None: as many as the CPUs allow
    cpus_per_worker: int
    gpus_per_worker: float
    address: str | None  # None: RAY_ADDRESS, or a Ray started here


@dataclass(frozen=True)
class _Lease:
    """What a worker is busy with: starting (no shard), or one shard."""

    worker: Any
    shard: Shard | None


class RayExecutor:
    """Runs shards on Ray actors and replaces those that die.

    Parameters
    ----------
    build
        Makes the runner in each worker. It travels by name, so it must be importable.
    options
        Number and size of the workers.
    """

    def __init__(self, build: Callable[[], ShardRunner], options: RayOptions) -> None:
        self._build = build
        self._options = options
        self._shards: Iterator[Shard] = iter(())
        self._queue: deque[Shard] = deque()  # taken from the iterator, and with no worker yet
        self._leases: dict[Any, _Lease] = {}
        self._deaths: Counter[int | None] = Counter()

    def run(self, shards: Iterable[Shard]) -> Iterator[ShardReport]:
        """See :class:`engine.protocols.Executor`."""
        self._shards = iter(shards)
        with _DeferredSignals() as signals:
            try:
                _connect(self._options)
                signals.install()
                self._queue.extend(islice(self._shards, self._worker_count()))
                for _ in range(len(self._queue)):
                    self._start_worker()
                while self._leases and not signals.pending:
                    ready, _ = ray.wait(list(self._leases), num_returns=1, timeout=_PATIENCE)
                    for ref in ready:
                        yield from self._settle(ref)
            finally:
                for lease in self._leases.values():
                    ray.kill(lease.worker)
                ray.shutdown()

    def _worker_count(self) -> int:
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
        most = int(cpus // self._options.cpus_per_worker)
        if self._options.gpus_per_worker:
            most = min(most, int(gpus / self._options.gpus_per_worker + 1e-9))
        workers = self._options.workers or max(most, 1)
        if workers > most:
            raise WorkerError(
                f"the Ray cluster has {cpus:g} CPUs and {gpus:g} GPUs: not enough for "
                f"{workers} workers with --cpus-per-worker {self._options.cpus_per_worker} "
                f"and --gpus-per-worker {self._options.gpus_per_worker:g}"
            )
        return workers

    def _start_worker(self) -> None:
        actor = ray.remote(_Worker).options(
            num_cpus=self._options.cpus_per_worker,
            num_gpus=self._options.gpus_per_worker,
            max_restarts=0,
            max_task_retries=0,
        )
        worker: Any = actor.remote()
        started = worker.start.remote(self._build, self._options)
        self._leases[started] = _Lease(worker, None)

    def _settle(self, ref: Any) -> Iterator[ShardReport]:
        """Take the outcome of a lease; give its worker the next shard, or replace it."""
        lease = self._leases.pop(ref)
        try:
            report: ShardReport | None = ray.get(ref)
        except RayTaskError as error:
            raise _cause(error) from error
        except RayError as error:  # it crashed, its node is gone, memory ran out
            self._replace(lease, error)
            return
        self._hand_out(lease.worker)
        if report is not None:
            yield report

    def _hand_out(self, worker: Any) -> None:
        shard = self._queue.popleft() if self._queue else next(self._shards, None)
        if shard is not None:
            self._leases[worker.run.remote(shard)] = _Lease(worker, shard)
        else:
            ray.kill(worker)

    def _replace(self, lease: _Lease, error: RayError) -> None:
        """A worker died. Its shard goes to another one, but not for ever."""
        ray.kill(lease.worker)  # it may be out of reach only
        shard = lease.shard
        held = None if shard is None else shard.index
        self._deaths[held] += 1
        if self._deaths[held] >= ATTEMPTS:
            what = "while starting" if shard is None else _describe(shard)
            reason = str(error).strip().splitlines()[-1].strip()
            raise WorkerError(f"{ATTEMPTS} workers died {what}: {reason}")
        if shard is not None:
            self._queue.appendleft(shard)
        self._start_worker()


class _Worker:
    """The actor: a process that holds one model and runs one shard at a time."""

    def start(self, build: Callable[[], ShardRunner], options: RayOptions) -> None:
        """Load the model; everything slow happens here, outside any shard's clock."""
        limit_threads(options.cpus_per_worker)
        if not options.gpus_per_worker:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray leaves every GPU visible to it
        self._runner = build()

    def run(self, shard: Shard) -> ShardReport:
        """Turn one shard into one small report."""
        return self._runner(shard)


class _DeferredSignals:
    """Lets SIGINT and SIGTERM wait for a moment at which the driver may stop.

    Ray swallows or garbles what a handler raises inside its calls, and puts a handler of
    its own in the place of SIGTERM's, which ends the process with no word.
    """

    _numbers = (signal.SIGINT, signal.SIGTERM)

    def __enter__(self) -> _DeferredSignals:
        self._received: list[int] = []
        self._handlers = {number: signal.getsignal(number) for number in self._numbers}
        self.install()
        return self

    def install(self) -> None:
        """Record signals from here on; again after Ray has put its handler in place."""
        for number in self._numbers:
            signal.signal(number, lambda number, _frame: self._received.append(number))

    @property
    def pending(self) -> bool:
        """Whether a signal waits."""
        return bool(self._received)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        if kind is SystemExit:  # from Ray's handler
            self._received.append(signal.SIGTERM)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self.pending:
            signal.raise_signal(self._received[0])
        return kind is SystemExit


def _connect(options: RayOptions) -> None:
    """Join the cluster that was asked for, or start a Ray of our own on loopback."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    address = options.address or os.environ.get("RAY_ADDRESS")
    os.environ.pop("RAY_ADDRESS", None)  # Ray would prefer it to an explicit address
    if address:
        _require_answer(address)
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, ValueError, RuntimeError, RayError) as error:
            raise WorkerError(
                f"--address {address}: cannot join: {error}. {_TOKEN_HINT}"
            ) from error
        return
    workers = options.workers or max((os.cpu_count() or 1) // options.cpus_per_worker, 1)
    ray.init(
        address="local",  # else Ray joins any cluster it finds running on this machine
        num_cpus=workers * options.cpus_per_worker,
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE,
        _node_ip_address="127.0.0.1",
        **quiet,
    )


def try_ray() -> str:
    """Start a Ray of our own, have an actor answer, and return Ray's version."""
    _connect(RayOptions(1, 1, 0, None))
    try:
        actor: Any = ray.remote(_Worker).options(num_cpus=1).remote()
        ray.get(actor.__ray_ready__.remote())
    finally:
        ray.shutdown()
    return str(ray.__version__)


def _require_answer(address: str) -> None:
    """Knock at HOST:PORT first: Ray itself tries for many minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise WorkerError(f"--address {address}: no Ray cluster answers: {error}") from error


def _cause(error: RayTaskError) -> BaseException:
    """The worker's own error, if it is one of ours; a bug keeps Ray's traceback."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, ShardcamError) else error


def _describe(shard: Shard) -> str:
    first, last = shard.samples[0].key, shard.samples[-1].key
    return f"on {shard.name} (samples {first!r} to {last!r})"
