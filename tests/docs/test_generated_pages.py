"""The pages that are made from the code are as it would write them now."""

import runpy
from pathlib import Path

import pytest

from shardcam.engine.methods import METHODS

ROOT = Path(__file__).parent.parent.parent
GENERATE = runpy.run_path(str(ROOT / "docs" / "generate.py"))
PAGES = GENERATE["pages"]()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_page_is_up_to_date(path):
    assert path.read_text(encoding="utf-8") == PAGES[path], "run make docs-pages"


def test_a_block_is_replaced():
    page = GENERATE["filled"]("before\n<!-- list of methods -->\nstale\n<!-- end -->\nafter\n")
    assert page.startswith("before\n") and page.endswith("\nafter\n") and "stale" not in page
    assert all(f"`{name}`" in page for name in METHODS)
    assert GENERATE["filled"](page) == page
