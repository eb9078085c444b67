"""The import rules that keep the tree readable, and the pins that keep it importable."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(p for top in ("kernels", "engine", "jobs") for p in (ROOT / top).rglob("*.py"))

ONLY_IN = {  # library: where it may be imported
    "mxnet": ("engine/models/",),
    "ray": ("engine/workers/ray", "jobs/commands/submit.py"),
    "h5py": (
        "engine/rundir/column.py",
        "engine/rundir/hdf5_sink.py",
        "engine/rundir/shard_index.py",
        "engine/rundir/shard_file.py",
        "engine/analysis/open_run.py",
        "engine/analysis/",
        "engine/readers/hdf5_images.py",
    ),
    "pandas": ("engine/analysis/export_table.py", "engine/analysis/samples.py"),
    "xarray": ("engine/analysis/export_xarray.py", "engine/analysis/samples.py"),
    "fsspec": ("engine/io/urls.py", "engine/io/fetch_many.py"),
    "aiohttp": ("engine/io/urls.py",),
    "pyarrow": ("engine/readers/parquet.py",),
    "numba": ("kernels/",),
    "onnx": ("engine/models/onnx/",),
}
MAY_IMPORT = {  # part: the parts of ours it may import
    "kernels": {"kernels"},
    "engine": {"engine", "kernels"},
    "jobs": {"jobs", "engine", "kernels"},
}
APART = ("models", "methods", "readers", "writers", "workers")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("shardcam.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.removeprefix("shardcam.")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path):
    place = path.relative_to(ROOT).as_posix()
    for name in imports(path):
        top = name.partition(".")[0]
        allowed = ONLY_IN.get(top)
        assert allowed is None or place.startswith(allowed), f"{place} imports {name}"
        if top in MAY_IMPORT:
            assert top in MAY_IMPORT[place.partition("/")[0]], f"{place} imports {name}"


@pytest.mark.parametrize("part", APART)
def test_exchangeable_parts_do_not_know_each_other(part):
    others = tuple(f"engine.{other}" for other in APART if other != part)
    for path in (ROOT / "engine" / part).glob("*.py"):
        for name in imports(path):
            assert not name.startswith(others), f"{path.name} imports {name}"


def test_pipeline_knows_protocols_only():
    allowed = {"clock", "config", "decoding", "errors", "feeding", "heatmaps", "imaging", "passes",
        "protocols", "smoothing", "targets", "types", "watching"}  # fmt: skip
    for file in ("pipeline", "passes", "feeding"):
        ours = {n for n in imports(ROOT / f"engine/{file}.py") if n.startswith("engine.")}
        assert ours <= {f"engine.{name}" for name in allowed}


@pytest.mark.parametrize(
    "name",
    [
        "mxnet",
        "numpy",
        "numba",
        "ray",
        "cv2",
        "h5py",
        "PIL",
        "onnx",
        "safetensors",
        "pydantic",
        "click",
        "rich",
        "matplotlib",
        "mlxtend",
        "skimage",
        "pandas",
        "xarray",
    ],
)
def test_pinned_versions_import_together(name):
    importlib.import_module(name)
