"""The folder of a Ray of our own: its sockets, its logs and, if need be, its memory."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shardcam.engine.errors import WorkerError

SHARED_MEMORY = Path("/dev/shm")
_LONGEST = 107  # bytes of a socket's path
_SOCKET = len("/session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store")
_ROOM = 16 << 20  # bytes of logs
_FATAL = re.compile(  # a line of Ray's logs, without the C++ around what the system said
    r"\[[^]]* [EFC] \d+ \d+\] \(\w+\) \S+:\d+: (?:.*what\(\): )?(.*?)(?: \[system:.*)?$"
)
_ADVICE = "or use --executor local, which needs no Ray"


@contextmanager
def ray_folder() -> Iterator[Path]:
    """A new folder of this user alone, with a name short enough for Ray; removed at the end.

    It is not ``$TMPDIR/ray``, which may belong to somebody else and keeps the logs of every run.

    Raises
    ------
    WorkerError
        There is none.
    """
    private = _private_folder()
    try:
        folder = private / "r"  # Ray lets everybody write into the folder it is given
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _private_folder() -> Path:
    tried: list[str] = []
    for base in _bases():
        try:
            folder = Path(tempfile.mkdtemp(prefix="ray-", dir=base))
        except OSError as error:
            tried.append(f"{base}: {error.strerror}")
            continue
        problem = None
        if len(os.fsencode(folder / "r")) + _SOCKET > _LONGEST:
            problem = "the path is too long"
        elif shutil.disk_usage(folder).free < _ROOM:
            problem = "no room"
        if problem is None:
            return folder
        folder.rmdir()
        tried.append(f"{base}: {problem}")
    raise WorkerError(
        f"Ray finds no folder for its sockets ({'; '.join(tried)}): set TMPDIR to a short path "
        f"of a folder with room, {_ADVICE}"
    )


def _bases() -> Iterable[str]:
    chosen = (os.environ.get(name) for name in ("RAY_TMPDIR", "TMPDIR", "XDG_RUNTIME_DIR"))
    places = (*chosen, "/tmp", "/var/tmp", str(SHARED_MEMORY))
    return dict.fromkeys(str(Path(place).absolute()) for place in places if place)


def start_error(problem: str, folder: Path) -> WorkerError:
    """Return the exception for a Ray that did not start: why, by its logs if they tell."""
    reason = next(_fatal_lines(folder), None) or problem.partition(". ")[0]
    return WorkerError(
        f"Ray does not start on this machine: {reason}; raise the limits of open files and "
        f"processes (ulimit -n, ulimit -u), {_ADVICE}"
    )


def _fatal_lines(folder: Path) -> Iterator[str]:
    for log in sorted(folder.glob("session_2*/logs/*.*")):
        with suppress(OSError), log.open(errors="replace") as lines:
            yield from (found[1] for line in lines if (found := _FATAL.match(line)))
