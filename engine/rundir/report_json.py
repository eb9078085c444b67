"""What ``report.json`` and the shards tell of a run besides its rows."""

from __future__ import annotations

from contextlib import suppress

from shardcam.engine.io.plain_file import parse_json, read_plain
from shardcam.engine.rundir.account import FLAGGED, Account
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.types import Note

_MOST = 1 << 24  # bytes


def account_to_come(run_dir: RunDir) -> str:
    """The files that a command did not come so far as to write when it closed the account."""
    files = (run_dir.report, run_dir.failures)
    return " and ".join(file.name for file in files if not run_dir.exists(file))


def run_notes(run_dir: RunDir, account: Account) -> tuple[Note, ...]:
    """What the run assumed and left out, as far as it is known, and what its rows are flagged for.

    The former is in ``report.json``, which unfinished runs and those of version 0.1.0 lack; one
    that cannot be read tells nothing.
    """
    notes: list[Note] = []
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        if run_dir.fetch(run_dir.report):
            stored = parse_json(read_plain(run_dir.report, _MOST)).get("notes", ())
            notes = [Note(str(one["kind"]), str(one["text"])) for one in stored]
    return (*(note for note in notes if note.kind != FLAGGED), *account.notes)
