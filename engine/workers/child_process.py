"""A Python process that serves this one, and never outlives it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from shardcam.engine.errors import WorkerError
from shardcam.engine.workers.signals import death_of

_CHILD = (  # it must not run the caller's script again, as multiprocessing would
    "import sys; from multiprocessing.connection import Connection;"
    "parent = Connection(int(sys.argv[1])); sys.path[:] = parent.recv();"
    "from shardcam.engine.workers.child_process import be_child; be_child(parent)"
)


class ChildProcess:
    """A new Python that runs `serve`, with its end of a pipe.

    Parameters
    ----------
    serve
        Runs in the child. It travels by name, so it must be importable.
    shared
        Descriptors of open files that the child has, too, by the same numbers.

    Attributes
    ----------
    pipe : multiprocessing.connection.Connection
        This end of it.
    number : int
        The operating system's of the process.
    """

    def __init__(self, serve: Callable[[Connection], None], shared: tuple[int, ...] = ()) -> None:
        with ExitStack() as theirs, ExitStack() as ours:
            try:
                self.pipe, end = Pipe()
                theirs.callback(end.close)
                ours.callback(self.pipe.close)
                watched, self._open = os.pipe()
                theirs.callback(os.close, watched)
                ours.callback(os.close, self._open)
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-c", _CHILD, str(end.fileno())],
                    pass_fds=(end.fileno(), watched, *shared),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the parent, which ends it
                )
            except OSError as error:
                raise WorkerError(f"no child process can be started: {error.strerror}") from error
            ours.pop_all()
        self.number = self._process.pid
        try:
            self.pipe.send(sys.path)
            self.pipe.send(watched)
            self.pipe.send(serve)
        except OSError as error:
            raise self.not_started() from error

    def not_started(self) -> WorkerError:
        """What to raise where it dies before it has answered."""
        return WorkerError(f"a child process {self.end()} while it started")

    def end(self, patience: float = 0.0) -> str:
        """End the process if it runs, so many seconds after its pipe; of what it died."""
        if not self.pipe.closed:
            self.pipe.close()
            with suppress(subprocess.TimeoutExpired):
                if patience:
                    self._process.wait(patience)
            os.close(self._open)
            self._process.kill()
        return death_of(self._process.wait())


def be_child(parent: Connection) -> None:
    """Do what the parent says, until one of both ends.

    A decoder that hangs hears of no end: the kernel ends it when the parent's end of another pipe
    is closed, by SIGIO.
    """
    watched = parent.recv()
    fcntl.fcntl(watched, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(watched, fcntl.F_SETFL, os.O_ASYNC)
    parent.recv()(parent)
