"""The marks by which `make quick` leaves tests out are held to."""

import subprocess
import sys

import pytest


def test_a_process_needs_a_mark():
    with pytest.raises(pytest.fail.Exception, match="mark it process or ray"):
        subprocess.run([sys.executable, "-c", ""], check=True)


@pytest.mark.process
def test_with_its_mark_a_process_starts():
    subprocess.run([sys.executable, "-c", ""], check=True)
