"""What can go wrong with a run.

A bad image is data: it becomes a :class:`engine.types.Failure` row and the run
goes on.  A bad run is an exception of this tree, and only the command line
turns it into one printed line and an exit code::

    ShardcamError            exit 1
    |-- ConfigError          exit 2   an option, a layer name or a class that cannot be used
    |-- ModelError           exit 1   a model file that is missing, damaged or not understood
    |-- SourceError          exit 1   a source that is missing, empty or ambiguous
    |-- RunDirectoryError    exit 1   a run directory of another fingerprint, damaged or unwritable
    |-- StoreError           exit 1   a URL that cannot be read or written: refused, or no answer
    |-- WorkerError          exit 1   a worker that cannot start, or dies again and again
    |-- AccountingError      exit 1   listed != ok + failed
    |-- JobFailed            exit as the job did   a submitted job failed
    |-- TooManyFailures      exit 3   the run is done, but more samples failed than allowed
    `-- DiskFull             exit 5   no space left; free some and the same command resumes
    Interrupted              exit 4   stopped by Ctrl-C or SIGTERM; the same command resumes
"""

from __future__ import annotations

import errno
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ShardcamError(Exception):
    """Base of every error that ends a run with one clear line."""

    exit_code = 1


class ConfigError(ShardcamError):
    """An option, a layer name or a class that cannot be used."""

    exit_code = 2


class ModelError(ShardcamError):
    """A model file that is missing, damaged or not understood."""


class SourceError(ShardcamError):
    """A source that is missing, empty or ambiguous."""


class RunDirectoryError(ShardcamError):
    """A run directory of another fingerprint, damaged or unwritable."""


class StoreError(ShardcamError):
    """A URL that cannot be read or written: refused, or no answer."""


class WorkerError(ShardcamError):
    """A worker that cannot start, or dies again and again."""


class AccountingError(ShardcamError):
    """Samples listed do not equal samples done plus samples failed."""


class JobFailed(ShardcamError):
    """A submitted job failed; exits as the job did."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class TooManyFailures(ShardcamError):
    """The run is complete, but more samples failed than `max_failed` allows."""

    exit_code = 3


class Interrupted(BaseException):
    """Stopped by a signal; what was published stays, the same command resumes.

    No Exception: a signal can come while any library runs, and many of them catch those.
    """

    exit_code = 4


class DiskFull(ShardcamError):
    """No space left on the device that holds the run directory."""

    exit_code = 5


def storage_error(error: OSError, directory: Path) -> ShardcamError:
    """Return what to tell the user about an error of the disk that holds `directory`."""
    reason = error.strerror or str(error).partition("\n")[0]
    if error.errno in _FULL:
        return DiskFull(f"{directory}: {reason}; make room and the same command resumes")
    return RunDirectoryError(f"{error.filename or directory}: cannot be written: {reason}")


def store_error(error: OSError, url: str, doing: str = "written") -> ShardcamError:
    """Return what to tell the user about a URL that cannot be read or written."""
    reason = error.strerror or str(error).partition("\n")[0]
    if isinstance(error, FileNotFoundError):
        reason = "there is no such file, or no such bucket"
    if isinstance(error, PermissionError) or "credential" in reason.lower():
        reason += "; they are taken from the environment: see README, A run at a URL"
    if error.errno in _FULL:
        return DiskFull(f"{url}: {reason}; make room and the same command resumes")
    if doing == "written":
        reason += "; what is published stays, the same command resumes"
    return StoreError(f"{url}: cannot be {doing}: {reason}")
