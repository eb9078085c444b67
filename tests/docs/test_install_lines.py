"""What users are told to install: shardcam itself is not on any package index."""

import re
from pathlib import Path

from shardcam.engine.errors import EXTRA_OF

ROOT = Path(__file__).parents[2]
PROSE = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
CODE = [p for top in ("engine", "jobs", "kernels") for p in (ROOT / top).rglob("*.py")]

INDEXED = re.compile(r"pip install [^`\n,;]*['\" ]shardcam\b.*|shardcam\[.*")


def text_of(path):
    """A file, with messages that go over several lines in one."""
    return re.sub(r'"\s*\n\s*f?"', "", path.read_text())


def test_nobody_is_sent_to_a_package_index_for_shardcam():
    wrong = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in (*PROSE, *CODE)
        for line in re.findall(INDEXED, text_of(path))
    ]
    assert wrong == []


def test_messages_name_extras_that_have_what_is_missing():
    project = (ROOT / "pyproject.toml").read_text()
    extras = dict(re.findall(r"^([\w-]+) = (\[.*?\])$", project, re.MULTILINE | re.DOTALL))
    called = {"sklearn": "scikit-learn", "skimage": "scikit-image", "umap": "umap-learn"}
    for package in EXTRA_OF.keys() - {"threadpoolctl"}:  # of scikit-learn
        for extra in re.split(", | or ", EXTRA_OF[package]):
            listed = extras[extra].replace('"shardcam[extraction]"', extras["extraction"])
            assert f'"{called.get(package, package.replace("_", "-"))}' in listed, package


def test_messages_name_the_versions_that_the_project_pins():
    pinned = set(re.findall(r'"([\w.-]+==[\w.]+)["\s]', (ROOT / "pyproject.toml").read_text()))
    for path in CODE:
        for line in re.findall(r'pip install ([^"]*)', text_of(path)):
            assert set(re.findall(r"[\w.-]+==[\w.]*\w", line)) <= pinned, f"{path}: {line}"
