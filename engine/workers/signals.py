"""SIGINT and SIGTERM wait for a moment at which the driver may stop."""

from __future__ import annotations

import os
import signal
from contextlib import suppress


class DeferredSignals:
    """Lets SIGINT and SIGTERM wait for a moment at which the driver may stop.

    Ray swallows or garbles what a handler raises inside its calls, and puts a handler of
    its own in the place of SIGTERM's, which ends the process with no word, or is itself
    swallowed where a process forks. So signals are not counted by a handler, but read from
    a pipe that Python writes their numbers to, whoever handles them.
    """

    _numbers = (signal.SIGINT, signal.SIGTERM)

    def __enter__(self) -> DeferredSignals:
        self._received: list[int] = []
        self._handlers = {number: signal.getsignal(number) for number in self._numbers}
        self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._other = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        self.install()
        return self

    def install(self) -> None:
        """Let signals wait from here on; again after Ray has put its handler in place."""
        for number in self._numbers:
            signal.signal(number, lambda _number, _frame: None)

    @property
    def pending(self) -> bool:
        """Whether a signal waits."""
        with suppress(BlockingIOError):
            numbers = os.read(self._pipe[0], 1000)
            self._received += (number for number in numbers if number in self._numbers)
        return bool(self._received)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        pending = self.pending
        signal.set_wakeup_fd(self._other)
        for end in self._pipe:
            os.close(end)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if pending:
            signal.raise_signal(self._received[0])
        return pending and kind is SystemExit  # from Ray's handler
