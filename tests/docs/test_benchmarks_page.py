"""The tables that ``python -m benchmarks.summary --docs`` writes have their places."""

from benchmarks import summary


def test_the_page_has_one_place_for_each_table(monkeypatch):
    monkeypatch.chdir(summary.__file__.removesuffix("benchmarks/summary.py"))
    page = summary.PAGE.read_text()
    for mark in ("peers", "workers", "saving", "growth"):
        assert "| a row |" in summary.put(page, mark, ["| a row |"])
