"""Scripts that are written for bash, held against what reads them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent
EXCEPT = "SC2046,SC2016,SC1091"  # several words of `jobs -p`, text for another shell, `--setup`


def check_script(path):
    """bash's own parser, and shellcheck where it is installed."""
    subprocess.run(["bash", "-n", path], check=True)
    shellcheck = shutil.which("shellcheck", path=f"{BIN}:{os.environ['PATH']}")
    if shellcheck:
        subprocess.run([shellcheck, f"--exclude={EXCEPT}", path], check=True)
