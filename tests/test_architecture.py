"""The import rules that keep the tree readable, and the pins that keep it importable."""

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(p for top in ("kernels", "engine", "jobs") for p in (ROOT / top).rglob("*.py"))
TOPS = {"kernels": {"kernels"}, "jobs": {"jobs", "engine", "kernels"}}

ONLY_IN = {  # library: where it may be imported
    "mxnet": ("engine/models/",),
    "ray": ("engine/workers/ray", "jobs/cluster/ray_jobs.py"),
    "h5py": ("engine/rundir/", "engine/analysis/", "engine/readers/hdf5_"),
    "pandas": ("engine/analysis/",),
    "xarray": ("engine/analysis/",),
    "fsspec": ("engine/io/",),
    "aiohttp": ("engine/io/urls.py",),
    "pyarrow": ("engine/readers/parquet.py",),
    "numba": ("kernels/",),
    "array_api_compat": ("engine/methods/", "engine/pipeline/run_shard.py"),
    "signal": ("jobs/stopping.py", "engine/workers/signals.py", "kernels/_signals.py"),
    "onnx": ("engine/models/onnx/",),
    "scipy": ("engine/clusters/",),
    "sklearn": ("engine/clusters/",),
    "threadpoolctl": ("engine/clusters/",),
    "pynndescent": ("engine/clusters/",),
    "umap": ("engine/clusters/",),
    "torch": ("engine/models/torch/", "engine/methods/arrays.py"),
    "torchcodec": ("engine/models/torch/jpeg_decoder.py",),
    "torchvision": ("engine/models/torch/jpeg_decoder.py",),
}


def imports(path):
    """Modules that a file imports anywhere, ours without the leading ``shardcam.``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("shardcam.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = node.module.removeprefix("shardcam.")
            yield from (f"{name}.{alias.name}" for alias in node.names)


def room_of(parts):
    """A folder or a file of engine/, else the top-level folder."""
    return parts[1].removesuffix(".py") if parts[0] == "engine" and len(parts) > 1 else parts[0]


def allowed_rooms(room):
    """What the last sentence of the folder's docstring names."""
    text = ast.get_docstring(ast.parse((ROOT / "engine" / room / "__init__.py").read_text()))
    return {room, *re.search(r"May import: ([\w, \n]+)\.", text)[1].replace("\n", " ").split(", ")}


def test_imports_go_one_way():
    wrong = []
    for path in FILES:
        place = path.relative_to(ROOT)
        room = room_of(place.parts)
        if (ROOT / "engine" / room).is_dir():
            allowed = allowed_rooms(room)
        else:  # a file at the root of the engine sees its like, and what knows nothing of runs
            allowed = TOPS.get(room, {"io", "kernels"} | {p.stem for p in ROOT.glob("engine/*.py")})
        for name in imports(path):
            parts = name.split(".")
            top = parts[0]
            if top in ("engine", "jobs", "kernels"):
                found = top if room in TOPS else room_of(parts)
                if found not in (TOPS.get(room, allowed)):
                    wrong.append(f"{place} imports {name}")
            elif not place.as_posix().startswith(ONLY_IN.get(top, ("",))):
                wrong.append(f"{place} imports {name}")
    assert wrong == []


def test_no_two_files_have_one_name():
    names = [p.name for p in FILES if p.name != "__init__.py"]
    assert {name for name in names if names.count(name) > 1} == set()


def test_few_files_at_the_roots():
    assert len(list(ROOT.glob("engine/*.py"))) <= 5


def test_there_are_no_circles():
    graph = {module_of(p): {n for n in imports(p) if n.startswith(("engine", "jobs", "kernels"))}
             for p in FILES}  # fmt: skip
    edges = {m: {known(n, graph) for n in names} - {m, None} for m, names in graph.items()}
    done = set()

    def visit(module, above):
        assert module not in above, " -> ".join([*above[above.index(module) :], module])
        if module not in done:
            for other in sorted(edges[module]):
                visit(other, [*above, module])
            done.add(module)

    for module in edges:
        visit(module, [])


def module_of(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def known(name, graph):
    """The module that an imported name is, or is in."""
    return (
        name
        if name in graph
        else name.rpartition(".")[0]
        if name.rpartition(".")[0] in graph
        else None
    )


def test_nothing_is_imported_by_a_name_that_is_not_installed():
    for path in (*FILES, *ROOT.glob("tests/**/*.py"), *ROOT.glob("benchmarks/**/*.py")):
        text = path.read_text()
        assert not re.search(r"^\s*(from|import) (engine|jobs|kernels)\b", text, re.M), path


@pytest.mark.process  # platform asks uname
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
