"""Signals that stop a command whatever a library does, and a terminal that is closed."""

import logging
import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest
from rich.table import Table

from shardcam.engine.errors import DiskFull, Interrupted
from shardcam.engine.workers.signals import DeferredSignals
from shardcam.jobs.cli import tell_of_kernels
from shardcam.jobs.terminal import make_console, stop_on_signals
from tests.jobs.command import ROOT, SMALL, shardcam, start

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


def print_it():
    """As Cython does where nothing can be raised, with PyErr_Print."""
    try:
        signal.raise_signal(TERM)
    except BaseException as error:
        sys.last_value = error


@pytest.mark.parametrize("library", [swallow, WhileItIsDeleted, replace, print_it])
def test_a_signal_that_a_library_swallows_stops_the_command_all_the_same(library, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)  # pytest's keeps what it is given
    monkeypatch.setattr(sys, "last_value", None, raising=False)
    before = signal.getsignal(TERM)
    told = "stopped by SIGTERM; do it again"
    with pytest.raises(Interrupted, match=told), stop_on_signals("do it again"):
        library()
        time.sleep(30)
    assert signal.getsignal(TERM) is before


def test_a_signal_that_a_library_keeps_stops_a_run_at_its_next_event():
    kept = []
    with pytest.raises(Interrupted), stop_on_signals("") as require_no_signal:
        require_no_signal()
        try:
            signal.raise_signal(TERM)
        except BaseException as error:
            kept.append(error)
        require_no_signal()


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


@pytest.mark.parametrize("gone", [os.pipe, pty.openpty])
def test_what_nobody_can_read_any_more_is_dropped(monkeypatch, gone):
    reader, writer = gone()
    os.close(reader)
    with open(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        console = make_console()
        for _ in range(2):
            console.print("of no use to anybody")


def test_an_output_file_on_a_full_disk_is_one_line(monkeypatch):
    with open("/dev/full", "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(DiskFull, match=r"^standard output: No space left"):
            make_console().print("progress")
        monkeypatch.undo()
        os.dup2(null := os.open(os.devnull, os.O_WRONLY), stream.fileno())
        os.close(null)


ON_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execv(sys.executable, [sys.executable, '-m', 'shardcam', *sys.argv[1:]])"
)


@pytest.mark.process
def test_a_run_whose_terminal_is_closed_is_resumed(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((20_000, 32, 32, 3), np.uint8))
    run = tmp_path / "run"
    command = ("extract", tmp_path / "images.npy", *SMALL, "--executor", "local", "--out", run)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ON_TERMINAL, *map(str, command)],
        **dict.fromkeys(("stdin", "stdout", "stderr"), theirs),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    os.close(theirs)
    end = time.monotonic() + 120
    while not list((run / "shards").glob("*.h5")):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    os.close(ours)
    assert process.wait(60) == Interrupted.exit_code
    log = (run / "events.jsonl").read_text().splitlines()
    assert "Interrupted: stopped by SIGHUP" in log[-1]
    assert shardcam("status", run)[0] == 0


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, TERM])
@pytest.mark.parametrize("seconds", [0.3, 1])
def test_a_signal_while_a_command_is_imported_is_told_in_one_line(tmp_path, number, seconds):
    np.save(tmp_path / "images.npy", np.zeros((20_000, 32, 32, 3), np.uint8))
    process = start("extract", tmp_path / "images.npy", *SMALL, "--out", tmp_path / "run")
    time.sleep(seconds)
    process.send_signal(number)
    told = process.communicate(timeout=60)[1].splitlines()[-1:]
    if process.returncode != -number:  # before Python is up
        assert process.returncode == Interrupted.exit_code
        signal_name = signal.Signals(number).name
        assert told[0].startswith(f"shardcam: stopped by {signal_name}; run the same command again")


def test_a_table_in_a_pipe_has_no_blanks_at_its_ends_and_no_broken_lines(capsys):
    table = Table(box=None, show_header=False)
    rows = (("short", "1"), ("long", "word " * 99 + "end"), ("", "2"))
    for row in rows:
        table.add_row(*row)
    make_console().print(table)
    expected = [f" {name:<5}  {value}" for name, value in rows]
    assert capsys.readouterr().out.splitlines() == expected


def test_what_the_kernels_log_is_printed_once_to_the_error_output(capsys, monkeypatch):
    log = logging.getLogger("shardcam.kernels")
    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(log, "propagate", True)
    monkeypatch.setattr(logging.root, "handlers", [logging.StreamHandler()])
    tell_of_kernels()
    tell_of_kernels()
    for _process in ("the driver's", "a worker's"):
        log.info("compiling kernels")
    assert capsys.readouterr() == ("", "compiling kernels\n")
