"""SIGINT, SIGTERM and SIGHUP wait for a moment at which the driver may stop."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import ExitStack

from shardcam.engine.errors import Interrupted

PATIENCE = 20.0  # seconds; a stop in good order takes 2 to 5
_NO_MORE = bytes(1)  # no signal has this number


class DeferredSignals:
    """Lets SIGINT, SIGTERM and SIGHUP wait for a moment at which the driver may stop.

    Ray swallows or garbles what a handler raises inside its calls, and puts a handler of
    its own in the place of SIGTERM's, which ends the process silently, or is itself
    swallowed where a process forks. So signals are not only counted by a handler, but read from
    a pipe that Python writes their numbers to, whatever handles them.

    The pipe is read in a thread: a call of Ray may block forever when a cluster is gone. A
    command asks to end then all the same, as if it had been killed; a library must not end the
    program that called it.

    Signals come to the main thread: in another one this does nothing. A signal that is ignored
    stays so.

    Parameters
    ----------
    patience
        Seconds from the first signal to that end; None: never end the process.
    """

    def __init__(self, patience: float | None = None) -> None:
        here = threading.current_thread() is threading.main_thread()
        self._handlers = {
            number: handler
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            if here and (handler := signal.getsignal(number)) not in (None, signal.SIG_IGN)
        }
        self._received: list[int] = []
        self._end = None if patience is None else threading.Timer(patience, _leave)
        if self._end:
            self._end.daemon = True
        self._thread = threading.Thread(target=self._read, name="signals", daemon=True)

    def __enter__(self) -> DeferredSignals:
        if not self._handlers:
            return self
        self._pipe = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._pipe[1], False)
        self._thread.start()
        self._other = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        self.install()
        return self

    def install(self) -> None:
        """Let signals wait from here on; again after Ray has put its handler in place."""
        for number in self._handlers:
            signal.signal(number, lambda number, _frame: self._received.append(number))

    @property
    def pending(self) -> bool:
        return bool(self._received)

    def _read(self) -> None:
        while (number := os.read(self._pipe[0], 1)) != _NO_MORE:
            if number[0] in self._handlers:
                signal.alarm(0)  # Ray's handler asks to abort the process after three seconds
                if self._end and self._end.ident is None:
                    self._end.start()
                self._received.append(number[0])

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        if not self._handlers:
            return False
        signal.set_wakeup_fd(self._other)
        os.write(self._pipe[1], _NO_MORE)
        self._thread.join()
        for end in self._pipe:
            os.close(end)
        if self._end:
            self._end.cancel()
        with ExitStack() as restored:  # each of them, whatever a handler raises
            for number, handler in self._handlers.items():
                restored.callback(signal.signal, number, handler)
        if self.pending:
            signal.raise_signal(self._received[0])
        return self.pending and kind is SystemExit  # from Ray's handler


def death_of(code: int) -> str:
    """How a process ended, by its exit code."""
    names = {int(number): number.name for number in signal.Signals}
    return f"died of {names.get(-code, -code)}" if code < 0 else f"ended with exit code {code}"


def _leave() -> None:
    """End this process from any thread; no shard is lost that is not lost with a killed driver."""
    os.write(2, b"shardcam: stopped; Ray does not answer. Run the same command again\n")
    os._exit(Interrupted.exit_code)
