"""Benchmarks: MXNet has all cores wherever it runs in a benchmark's own process."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))


def imported(path):
    """The names that a file imports when it is imported, in their order."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield from (node.module, f"{node.module}.{alias.name}")


def loads_mxnet(path):
    seen, left = set(), [path]
    while left:
        names = set(imported(left.pop()))
        if any(name.partition(".")[0] == "mxnet" for name in names):
            return True
        files = {file_of(name) for name in names} - seen - {None}
        seen |= files
        left += files
    return False


def file_of(name):
    place = ROOT / name.removeprefix("shardcam.").replace(".", "/")
    return next((p for p in (place.with_suffix(".py"), place / "__init__.py") if p.exists()), None)


def test_whatever_runs_mxnet_gives_it_all_cores_first():
    assert "benchmarks.all_cores" in imported(ROOT / "benchmarks" / "conftest.py")
    scripts = [p for p in BENCHMARKS if not p.name.startswith("test_") and loads_mxnet(p)]
    assert scripts
    for path in scripts:
        own = [n for n in imported(path) if n.startswith(("benchmarks.", "shardcam"))]
        assert own[0] == "benchmarks.all_cores", path
