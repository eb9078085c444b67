"""Python code in a process of its own, which may change its limits, crash or be killed."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_python(code, *arguments):
    """Run indented code with `sys.argv[1:]`; return how it ended, with its output."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def printed_by(code, *arguments):
    """What such a process printed, which must have ended well."""
    done = run_python(code, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout
