"""Signals that stop a command whatever a library does."""

import signal
import sys
import time
from contextlib import suppress

import pytest

from shardcam.engine.errors import Interrupted
from shardcam.engine.workers.signals import DeferredSignals
from shardcam.jobs.terminal import stop_on_signals

TERM, HANG_UP = signal.SIGTERM, signal.SIGHUP


def swallow():
    """As a library that tries something while it is imported."""
    with suppress(BaseException):
        signal.raise_signal(TERM)


class WhileItIsDeleted:
    def __del__(self):
        signal.raise_signal(TERM)


def replace():
    try:
        signal.raise_signal(TERM)
    except BaseException as error:
        raise ImportError("half of it is missing") from error


@pytest.mark.parametrize("library", [swallow, WhileItIsDeleted, replace])
def test_a_signal_that_a_library_swallows_stops_the_command_all_the_same(library, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)  # pytest's keeps what it is given
    before = signal.getsignal(TERM)
    told = "stopped by SIGTERM; do it again"
    with pytest.raises(Interrupted, match=told), stop_on_signals("do it again"):
        library()
        time.sleep(30)
    assert signal.getsignal(TERM) is before


def test_one_that_was_swallowed_counts_while_signals_wait():
    with pytest.raises(Interrupted), stop_on_signals(""):
        swallow()
        with DeferredSignals() as signals:
            end = time.monotonic() + 30
            while not signals.pending:
                assert time.monotonic() < end, "it is lost"
                time.sleep(0.01)


def test_a_closed_terminal_is_told_by_sighup_unless_it_is_ignored():
    with pytest.raises(Interrupted, match="stopped by SIGHUP"), stop_on_signals(""):
        signal.raise_signal(HANG_UP)
    before = signal.signal(HANG_UP, signal.SIG_IGN)
    try:
        with stop_on_signals(""), DeferredSignals() as signals:
            signal.raise_signal(HANG_UP)
            assert not signals.pending
        assert signal.getsignal(HANG_UP) is signal.SIG_IGN
    finally:
        signal.signal(HANG_UP, before)
