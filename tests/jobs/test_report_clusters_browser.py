"""The clusters of a report in a browser. Needs Chromium; run by ``make test-all``."""

import pytest

from shardcam.engine.rundir.run_dir import RunDir
from shardcam.jobs.gallery.gallery_run import opened_run
from tests.jobs.test_report_browser import DRAWN, Report, browser, shown_as
from tests.jobs.test_report_clusters import make_clustered

__all__ = ["browser"]  # the fixture

pytestmark = pytest.mark.browser
PREVIEW = "#of-class .preview .card"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_clustered(tmp_path_factory.mktemp("clustered"))


@pytest.fixture(scope="module", params=["file", "served"])
def address(request, made, tmp_path_factory):
    with (
        opened_run(RunDir(made), True) as opened,
        shown_as(request.param, opened, tmp_path_factory.mktemp("file")) as place,
    ):
        yield place


def opened(browser, address, *how):
    """The clusters of maps, of the first class."""
    report = Report(browser, address).open(*how)
    report.choose("clustering", "1")
    report.wait("return document.querySelectorAll('.cluster').length === 2")
    report.wait("return document.querySelector('.outliers .thumb') !== null")
    return report


@pytest.fixture
def report(browser, address):
    browser.get_log("browser")
    yield opened(browser, address)
    assert [line for line in browser.get_log("browser") if line["level"] != "INFO"] == []
    assert browser.title.endswith("\N{EN DASH} shardcam"), "a name became a script"


def previewed(report):
    return report.run(f"return document.querySelector('{PREVIEW}')?.title")


def test_a_pointer_shows_the_picture_of_the_nearest_point(report):
    report.run("document.querySelector('.plane').scrollIntoView({behavior: 'instant'})")
    titles = []
    for x, y in ((0, 0), (1, 0), (0, 1), (1, 1)):
        report.run(
            """const svg = document.querySelector('.plane svg'), box = svg.getBoundingClientRect();
            svg.dispatchEvent(new PointerEvent('pointermove', {bubbles: true,
              clientX: box.left + arguments[0] * box.width,
              clientY: box.top + arguments[1] * box.height}))""",
            x,
            y,
        )
        report.wait(f"return document.querySelector('{PREVIEW}') !== null")
        report.wait(DRAWN % PREVIEW)
        titles.append(previewed(report))
    assert len(titles) == 4 and all(".png" in title for title in titles)


def test_the_plane_by_keyboard(report):
    report.run("document.querySelector('.plane svg').focus()")
    report.press("ARROW_RIGHT")
    report.wait(f"return document.querySelector('{PREVIEW}') !== null")
    first = previewed(report)
    for key in ("ARROW_RIGHT", "ARROW_LEFT", "ARROW_UP", "ARROW_DOWN"):
        report.press(key)
    report.wait(f"return document.querySelector('{PREVIEW}').title !== arguments[0]", first)
    last = previewed(report)
    report.press("ENTER")
    report.wait("return document.querySelector('#detail').open")
    told = report.run("return document.querySelector('#detail-title').textContent")
    assert told == last
    report.press("ESCAPE")
    report.wait("return !document.querySelector('#detail').open")


def test_a_cluster_alone(report):
    count = "return document.querySelectorAll('.points.away').length"
    report.run("document.querySelector('.keyed button').click()")
    assert report.run(count) > 0
    report.run("document.querySelector('.keyed button').click()")
    assert report.run(count) == 0


def test_pictures_of_a_cluster_are_a_filter(report):
    expected = report.run("return document.querySelector('.cluster dd').textContent").split()[0]
    report.run("document.querySelector('.cluster button.link').click()")
    report.wait(
        "return document.querySelector('#place').textContent.endsWith(arguments[0])",
        f"of {expected}",
    )
    assert report.run("return document.querySelector('#group').value").startswith("1:")
    report.find(".filters button[type=reset]").click()
    report.wait("return document.querySelector('#cluster-of').disabled")
    report.place(1, 24, 70)


def test_strips_by_keyboard(report):
    """One stop of the tabulator, arrows within, and back to the picture that was looked at."""
    stops = (
        """return document.querySelector('.nearest').querySelectorAll('[tabindex="0"]').length"""
    )
    assert report.run(stops) == 1
    report.run("document.querySelector('.nearest .thumb').focus()")
    report.press("ARROW_RIGHT")
    place = (
        "return [...document.querySelector('.nearest').children].indexOf(document.activeElement)"
    )
    assert report.run(place) == 1
    report.press("ENTER")
    report.wait("return document.querySelector('#detail').open")
    report.press("ARROW_RIGHT")
    report.press("ESCAPE")
    report.wait(f"{place} === 2")  # once the dialog has told that it is closed


def test_a_class_from_the_table(report):
    button = 'document.querySelectorAll(\'div[data-clustering="1"] button[data-class="2"]\')[0]'
    report.run(f"{button}.click()")
    report.wait("return document.querySelector('.plane svg').ariaLabel?.startsWith('class 2')")


def test_clusters_of_other_things_have_pictures_alone(report):
    report.choose("clustering", "0")
    report.wait("return document.querySelectorAll('.cluster').length === 3")
    assert report.run("return document.querySelector('.cluster-maps img')") is None


def test_all_pictures_of_the_clusters_are_drawn(report):
    report.wait("return document.querySelectorAll('.nearest .thumb').length > 12")
    assert report.run(
        """return [...document.querySelectorAll('.cluster .others')]
          .every((e) => e.checkVisibility() === (e.querySelector('.thumb') !== null))"""
    )
    report.run(
        "for (const img of document.querySelectorAll('#clusters img')) img.loading = 'eager'"
    )
    report.wait(DRAWN % "#of-class")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_screen(browser, address, width, scheme):
    report = opened(browser, address, width, 800, scheme)
    assert report.run("return document.documentElement.scrollWidth") <= width
    colour = report.run("return getComputedStyle(document.querySelector('.cluster dt')).color")
    assert colour != report.run("return getComputedStyle(document.body).backgroundColor")
    browser.get_log("browser")
