"""The tables that ``python -m benchmarks.summary --docs`` writes have their places."""

import pytest

from benchmarks import summary


@pytest.mark.parametrize("part", summary.TABLES)
def test_the_page_has_one_place_for_each_table(part, monkeypatch):
    monkeypatch.chdir(summary.__file__.removesuffix("benchmarks/summary.py"))
    page = summary.TABLES[part][0].read_text()
    assert "| a row |" in summary.put(page, part, ["| a row |"])
