"""Compilation: every Numba flag of the package, and its private cache on disk.

Importing this module compiles nothing, touches no file and imports no Numba, which takes 0.3 s.
A kernel is compiled, or loaded from the cache, when it is first called. The cache is the
directory that NUMBA_CACHE_DIR names, else one of this user and this node under XDG_CACHE_HOME or
~/.cache.

Without Numba the kernels are interpreted, which is a thousand times as slow: enough to look at
the runs of others, and not for runs of one's own.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from shardcam.kernels._signals import held_signals

_Function = TypeVar("_Function", bound=Callable[..., Any])

# `fastmath=True` would also promise that there is no NaN and turn every finiteness test into
# a constant. `parallel=True` is left out on purpose: its thread pools abort or hang when two
# Python threads use them at once, or after a fork.
_FLAGS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "nsz"},
}
_inlined: set[Callable[..., Any]] = set()
_lock = threading.Lock()
_log = logging.getLogger("shardcam.kernels")


@functools.cache
def _numba() -> Any:
    """Numba; None where it is not installed."""
    try:
        import numba
    except ModuleNotFoundError:
        return None
    return numba


class Kernel:
    """A function of `(*inputs, *out)`, compiled by Numba on its first call.

    Each kernel has one signature, in which the inputs are read-only: arrays that are so
    already (Ray's, memory-mapped ones) need no second one. The first call passes read-only
    views to make it; later calls pass the arrays as they are, and Numba converts their types
    in 0.5 us where making a view takes 0.9 us for each array.

    A damaged cache file makes Numba raise whatever unpickling it raises, and a full disk an
    OSError, at the first call and before any output is written. The cached kernels are then
    deleted and the call is made once more.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._ready: Callable[..., None] | None = None

    @functools.cached_property
    def compiled(self) -> Callable[..., None]:
        return _compile(self._function)

    def __call__(self, *inputs: object, out: tuple[NDArray[Any], ...]) -> None:
        if self._ready is None:
            self._first_call(*map(_read_only, inputs), *out)
        else:
            self._ready(*inputs, *out)

    def _first_call(self, *arguments: object) -> None:
        with _compiling():
            try:
                self.compiled(*arguments)
            except Exception:
                if not _discard_cache(self.compiled):
                    raise
                self.compiled(*arguments)
        if hasattr(self.compiled, "disable_compile"):
            self.compiled.disable_compile()
        self._ready = self.compiled


@functools.cache
def _tell() -> None:
    _log.info(
        "compiling kernels, which are used here for the first time; it may take half a minute"
    )


@contextmanager
def _compiling() -> Iterator[None]:
    """Log it, once in a process, if there is nothing to load; signals wait for safe moments."""
    if _numba() is None:
        yield
        return
    from numba.core import event

    class Listener(event.Listener):
        def on_start(self, _: object) -> None:
            let_signals_in()  # LLVM has nothing in hand
            _tell()

        def on_end(self, _: object) -> None:
            pass

    with held_signals() as let_signals_in, event.install_listener("numba:compile", Listener()):
        yield


def inlined(function: _Function) -> _Function:
    """Mark a function that kernels of the same file call; it is compiled into each of them.

    Numba renews a cached kernel when the kernel's own file changes, so such a function must
    not be called from a kernel in another file.
    """
    _inlined.add(function)
    return function


def _discard_cache(compiled: Callable[..., None]) -> bool:
    """Delete this package's cached kernels; False if this one was compiled without a cache."""
    stats = getattr(compiled, "stats", None)
    if stats is None or stats.cache_path is None:
        return False
    for file in Path(stats.cache_path).glob("*.nb[ic]"):
        file.unlink(missing_ok=True)
    return True


def _read_only(value: object) -> object:
    if isinstance(value, tuple):
        return tuple(map(_read_only, value))
    if not isinstance(value, np.ndarray):
        return value
    view = value.view(np.ndarray)
    view.flags.writeable = False
    return view


def _compile(function: Callable[..., None]) -> Callable[..., None]:
    numba = _numba()
    if numba is None or numba.config.DISABLE_JIT:
        return function
    # Numba picks the cache's place while it decorates, from this one process-wide setting.
    with _lock:
        names = function.__globals__
        for name, value in list(names.items()):  # compiled code finds no function of Python
            if isinstance(value, FunctionType) and value in _inlined:
                names[name] = numba.njit(**_FLAGS)(value)
        directory = cache_directory()
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(directory or "")
        try:
            compiled = numba.njit(cache=directory is not None, **_FLAGS)(function)
        finally:
            numba.config.CACHE_DIR = before
    return compiled  # type: ignore[no-any-return]


def cache_directory() -> Path | None:
    """Where compiled kernels are kept; None if there is no safe, writable place."""
    try:
        if chosen := _numba() and _numba().config.CACHE_DIR:
            directory = Path(chosen)
            directory.mkdir(parents=True, exist_ok=True)
        else:
            directory = _private_directory()
        # Numba would go on to the package's own folder if it could not write here.
        tempfile.TemporaryFile(dir=directory).close()
    except (OSError, RuntimeError):  # RuntimeError: a user with no home directory
        return None
    return directory


def _private_directory() -> Path:
    """Make the directory; no one else may write to it, for loading a cached kernel unpickles it."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    root = base if base.is_absolute() else Path.home() / ".cache"
    directory = root / "shardcam" / f"numba-{socket.gethostname()}"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.stat().st_uid != os.getuid():
        raise PermissionError(f"{directory} belongs to another user")
    directory.chmod(0o700)
    return directory
