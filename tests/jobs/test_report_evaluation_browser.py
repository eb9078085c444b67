"""The evaluation of a report in a browser. Needs Chromium; run by ``make test-all``."""

import numpy as np
import pytest

import shardcam as product
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.jobs.gallery.gallery_run import opened_run
from tests.jobs.evaluated import IMAGES, make_evaluated
from tests.jobs.test_report_browser import DRAWN, Report, browser, shown_as

__all__ = ["browser"]  # the fixture

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_evaluated(tmp_path_factory.mktemp("evaluated"))


@pytest.fixture(scope="module", params=["file", "served"])
def address(request, made, tmp_path_factory):
    with (
        opened_run(RunDir(made.run), True, RunDir(made.other)) as opened,
        shown_as(request.param, opened, tmp_path_factory.mktemp("file")) as place,
    ):
        yield place


@pytest.fixture
def report(browser, address):
    browser.get_log("browser")
    yield Report(browser, address).open()
    lines = [line for line in browser.get_log("browser") if line["level"] != "INFO"]
    gone = [line for line in lines if "/heat/1/" in line["message"] and "404" in line["message"]]
    assert lines == gone, "the browser complains"
    assert browser.title.endswith("\N{EN DASH} shardcam"), "a name became a script"


def shown_values(report, name):
    """The values under the pictures, in their order."""
    texts = "[...document.querySelectorAll('.measured')].map(e => e.textContent)"
    report.wait(f"return {texts}.every(t => t.startsWith(arguments[0]))", name)
    texts = report.run(f"return {texts}")
    return [float(text.removeprefix(f"{name} ")) for text in texts]


def values_of(made, name):
    with product.open_run(made.run) as run:
        values = run.metric(name)[:, 0]
    return np.sort(values[np.isfinite(values)])


@pytest.mark.parametrize(("which", "turned"), [(0, False), (1, True)])
def test_worst_and_best(report, made, which, turned):
    """The buttons of insertion, of which higher is better, reached by keyboard."""
    number = report.run("return data.measures.indexOf('insertion')")
    report.run(f"document.querySelectorAll('[data-measure=\"{number}\"]')[{which}].focus()")
    report.press("ENTER")
    values = values_of(made, "insertion")
    report.place(1, len(values), len(values))
    expected = values[::-1] if turned else values
    np.testing.assert_allclose(shown_values(report, "insertion"), expected, rtol=1e-3)


def test_a_metric_of_the_menu_filters_and_orders(report, made):
    values = values_of(made, "max_box_acc")
    lowest = report.find("#order [value=lowest]")
    assert not lowest.is_enabled(), "there is nothing to order by"
    report.choose("measure", str(report.run("return data.measures.indexOf('max_box_acc')")))
    report.place(1, len(values), len(values))
    report.choose("order", "lowest")
    middle = float(np.median(values))
    report.find("[name=least]").send_keys(str(middle))
    kept = values[values >= middle]
    report.place(1, len(kept), len(kept))
    np.testing.assert_allclose(shown_values(report, "max_box_acc"), kept, rtol=1e-3)
    report.find(".filters button[type=reset]").click()
    report.place(1, IMAGES, IMAGES)
    report.wait("return document.querySelector('#order').value === 'source'")
    report.wait("return document.querySelector('#order [value=lowest]').disabled")


def test_boxes_lie_on_the_picture(report):
    """In the view's own proportions, and away when they are not wanted."""
    report.wait(DRAWN % "#grid")
    count = "return document.querySelectorAll('#grid .truth-box').length"
    assert report.run(count) == 2 * (IMAGES - 2)  # none of the last, nor of that of one pixel
    assert report.run("return document.querySelectorAll('#grid .found-box').length") > 3
    same = report.run(
        """return [...document.querySelectorAll('#grid .view')].every(v => {
          const box = v.querySelector('.boxes').viewBox.baseVal, photo = v.querySelector('.photo');
          return photo.naturalWidth === box.width && photo.naturalHeight === box.height;
        })"""
    )
    assert same
    above = report.run(
        """
        const [svg, heat] = ['boxes', 'heat'].map(c => document.querySelector(`#grid .${c}`));
        const [a, b] = [svg, heat].map(e => e.getBoundingClientRect());
        const over = getComputedStyle(svg).position === 'relative';
        return over && a.top === b.top && a.width === b.width;
        """
    )
    assert above
    report.run("document.querySelector('#boxes').click()")
    assert report.run(count) == 0


def test_two_runs_in_the_detail(report):
    report.run("document.querySelector('.card').click()")
    layers = report.run(
        "return [...document.querySelectorAll('#detail .layer')].map(e => e.textContent)"
    )
    assert [name.split(":")[0] for name in layers] == ["run", "run", "other", "other"]
    told = report.run("return document.querySelector('.measures').textContent")
    assert "gini: difference" in told
    report.wait(DRAWN % "#detail")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_screen(browser, address, width, scheme):
    report = Report(browser, address).open(width, 800, scheme)
    assert report.run("return document.documentElement.scrollWidth") <= width
    contrast = report.run("return getComputedStyle(document.querySelector('.figures th')).color")
    assert contrast != report.run("return getComputedStyle(document.body).backgroundColor")
    browser.get_log("browser")
