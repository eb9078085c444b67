"""Compilation: where compiled kernels are kept, and what happens when that goes wrong."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba.core import caching
from numpy.typing import NDArray

from shardcam.kernels._jit import Kernel
from tests.kernels.table import only_compiled

ROOT = Path(__file__).parents[2]
ONE_KERNEL = (
    "import numpy as np; from shardcam import kernels;"
    "kernels.normalize(np.ones((1, 1, 1), np.float32))"
)


def python(code: str, **environment: str) -> str:
    """Run `code` in a new process that compiles, whatever this one does."""
    ours = ("NUMBA_CACHE_DIR", "NUMBA_DISABLE_JIT", "XDG_CACHE_HOME")
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    command = [sys.executable, "-W", "error", "-c", code]
    run = subprocess.run(
        command, cwd=ROOT, env=inherited | environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache directory with a kernel in it."""
    directory = tmp_path_factory.mktemp("warm")
    python(ONE_KERNEL, NUMBA_CACHE_DIR=str(directory))
    return directory


@pytest.mark.process
@pytest.mark.parametrize("kind", ["nbi", "nbc"])
@pytest.mark.parametrize("length", [0, 40])
def test_a_truncated_cache_is_made_anew(warm: Path, tmp_path: Path, kind: str, length: int) -> None:
    cache = shutil.copytree(warm, tmp_path / "cache")
    (damaged,) = cache.rglob(f"_raster._normalize-*.{kind}")
    whole = damaged.stat().st_size
    os.truncate(damaged, length)
    python(ONE_KERNEL, NUMBA_CACHE_DIR=str(cache))
    assert damaged.stat().st_size == pytest.approx(whole, rel=0.05)


@pytest.mark.process
def test_importing_compiles_nothing_and_writes_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from shardcam.kernels._raster import _normalize;"
        "print('compiled' in vars(_normalize), 'cv2' in sys.modules)"
    )
    assert python(code, HOME=str(tmp_path)).split() == ["False", "False"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.process
def test_the_default_cache_is_private_to_the_user_and_the_node(tmp_path: Path) -> None:
    open_to_all = tmp_path / "shardcam" / f"numba-{os.uname().nodename}"
    open_to_all.mkdir(parents=True)
    open_to_all.chmod(0o777)
    python(ONE_KERNEL, HOME="/nowhere", XDG_CACHE_HOME=str(tmp_path))
    assert open_to_all.stat().st_mode & 0o777 == 0o700
    assert list(open_to_all.rglob("_raster._normalize-*.nbi"))


@pytest.mark.process
@pytest.mark.parametrize("variable", ["NUMBA_CACHE_DIR", "XDG_CACHE_HOME"])
@pytest.mark.parametrize("directory", [__file__, "/proc"])
def test_compiles_without_a_cache_where_none_can_be_written(variable: str, directory: str) -> None:
    kernel = "sys.modules['shardcam.kernels._raster']._normalize"
    place = f"import sys; print({kernel}.compiled.stats.cache_path)"
    assert python(f"{ONE_KERNEL}; {place}", **{variable: directory}).strip() == "None"


def _double(values: NDArray[Any], out: NDArray[Any]) -> None:
    for i in range(values.size):
        out[i] = 2 * values[i]


@only_compiled
def test_a_full_disk_does_not_stop_a_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(caching.IndexDataCacheFile, "save", full)
    out = np.zeros(2, np.float32)
    Kernel(_double)(np.array([1, 2], np.float32), out=(out,))
    np.testing.assert_array_equal(out, [2, 4])


@only_compiled
def test_a_kernel_that_cannot_be_compiled_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    with pytest.raises(numba.TypingError):
        Kernel(_double)("no array", out=(np.zeros(2),))
