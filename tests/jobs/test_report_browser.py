"""The report in a browser: one file, and served. Needs Chromium; run by ``make test-all``."""

import json
import shutil
import threading
from contextlib import contextmanager

import pytest

from shardcam.engine.rundir.run_dir import RunDir
from shardcam.jobs.gallery.gallery_run import opened_run
from shardcam.jobs.gallery.html_file import write_page
from shardcam.jobs.gallery.page import PER_PAGE
from shardcam.jobs.gallery.server import ReportServer
from tests.jobs.shown import make_shown_run
from tests.jobs.test_own_size import COPIES, SIZES, extract, make_pictures

pytestmark = pytest.mark.browser
NEEDED = ("chromium", "chromedriver")
DRAWN = "return [...document.querySelectorAll('%s img')].every(i => i.complete && i.naturalWidth)"


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window; no browser is a failure, not a reason to skip."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        pytest.fail(f"no {' and no '.join(missing)}: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    return make_shown_run(tmp_path_factory.mktemp("browsed"))


@contextmanager
def served(opened):
    with ReportServer(opened, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.address
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def shown_as(kind, opened, folder):
    """Where the report of all rows is, as a file or served."""
    if kind == "served":
        with served(opened) as place:
            yield place
    else:
        write_page(opened, folder / "report.html", 1000)
        yield (folder / "report.html").as_uri()


@pytest.fixture(scope="module", params=["file", "served"])
def address(request, shown, tmp_path_factory):
    with (
        opened_run(shown.paths, photographs=True) as opened,
        shown_as(request.param, opened, tmp_path_factory.mktemp("file")) as place,
    ):
        yield place


class Report:
    """The page, as a person uses it."""

    def __init__(self, driver, address):
        self.driver, self.address = driver, address

    def open(self, width=1280, height=900, scheme="light"):
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get(self.address)
        self.wait("return document.querySelector('.card') !== null")
        return self

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait(self, script, *arguments):
        """Until a script answers with something true, which is returned."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, 20, 0.05).until(lambda _: self.run(script, *arguments))

    def press(self, *keys):
        from selenium.webdriver import ActionChains
        from selenium.webdriver.common.keys import Keys

        for key in keys:
            code = getattr(Keys, key, key)
            ActionChains(self.driver, 20).send_keys(code).perform()

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def place(self, first, last, total):
        """Wait until the page of pictures is the expected one."""
        expected = f"{first}\N{EN DASH}{last} of {total}" if total else "none"
        told = "return document.querySelector('#place').textContent"
        self.wait(f"{told} === arguments[0]", expected)

    def files(self):
        return self.run(
            "return [...document.querySelectorAll('#grid .file')].map(e => e.textContent)"
        )

    def focused(self):
        """Number of the card that has the focus."""
        return self.run(
            "return [...document.querySelector('#grid').children].indexOf(document.activeElement)"
        )

    def choose(self, name, value):
        from selenium.webdriver.support.ui import Select

        Select(self.find(f"[name={name}]")).select_by_value(value)


@pytest.fixture
def report(browser, address):
    browser.get_log("browser"), browser.get_log("performance")
    yield Report(browser, address).open()
    unexpected = [line for line in browser.get_log("browser") if line["level"] != "INFO"]
    assert unexpected == [], "the browser complains"
    assert browser.title.endswith("\N{EN DASH} shardcam"), "a name became a script"


def keys_of(shown, rows):
    return [shown.rows["key"][row].decode() for row in rows]


def test_pictures_are_there(report):
    """Every photograph and heatmap of the page is decoded, and of the same shape."""
    report.wait(DRAWN % "#grid")
    shapes = report.run(
        "return [...document.querySelectorAll('#grid .view')].map(v =>"
        " [...v.children].map(i => `${i.naturalWidth}x${i.naturalHeight}`))"
    )
    assert len(shapes) == PER_PAGE
    assert all(len(pair) == 2 and pair[0] == pair[1] for pair in shapes)


def test_paging(report, shown):
    report.place(1, 24, 70)
    assert report.files() == keys_of(shown, range(24))
    assert not report.find("#previous").is_enabled()
    report.find("#next").click()
    report.place(25, 48, 70)
    report.find("#next").click()
    report.place(49, 70, 70)
    assert report.files() == keys_of(shown, range(48, 70))
    assert not report.find("#next").is_enabled()
    report.find("#previous").click()
    report.place(25, 48, 70)


def test_filters(report, shown):
    first, score = shown.rows["top_class"][:, 0], shown.rows["top_score"][:, 0]
    label, flags = shown.rows["label"], shown.rows["flags"]
    wanted = [i for i in range(70) if label[i] == 1 and first[i] != 1]
    report.choose("label", "1")
    report.choose("correct", "0")
    report.place(1, len(wanted), len(wanted))
    assert report.files() == keys_of(shown, wanted)
    told = report.run("return [...document.querySelectorAll('.truth')].map(e => e.textContent)")
    assert len({*told}) == 1 and told[0].startswith("label: ")
    report.find("[name=low]").send_keys("0.8")
    report.choose("flag", "2")
    wanted = [i for i in wanted if score[i] >= 0.8 and flags[i] & 2]
    assert wanted
    report.place(1, len(wanted), len(wanted))
    assert report.files() == keys_of(shown, wanted)
    report.find("[name=high]").send_keys("0.1")
    report.place(0, 0, 0)
    assert report.find("#empty").is_displayed()
    report.find(".filters button[type=reset]").click()
    report.place(1, 24, 70)
    report.choose("order", "surest")
    best = sorted(range(70), key=lambda i: -score[i])[:24]
    report.wait(
        "return document.querySelector('#grid .file').textContent === arguments[0]",
        keys_of(shown, best)[0],
    )
    assert report.files() == keys_of(shown, best)


def test_a_class_of_the_chart_filters(report, shown):
    button = report.find("[data-predicted]")
    number = int(button.get_attribute("data-predicted"))
    wanted = [i for i in range(70) if shown.rows["top_class"][i, 0] == number]
    report.run("arguments[0].click()", button)
    report.place(1, len(wanted), len(wanted))
    assert report.files() == keys_of(shown, wanted)


def test_the_slider_goes_from_photograph_to_heatmap(report):
    opacity = "return +getComputedStyle(document.querySelector('#grid .heat')).opacity"
    assert report.run(opacity) == 0.5
    report.run("document.querySelector('#mix').focus()")
    report.press("END")
    assert report.run(opacity) == 1
    report.press("HOME")
    assert report.run(opacity) == 0
    report.press("ARROW_RIGHT", "ARROW_RIGHT")
    assert report.run(opacity) == 0.02
    assert report.run("return document.querySelector('#detail input').value") == "2"


def test_the_slider_blends_as_the_overlay_kernel_does(report):
    """Half and half: 0.5 * heat + 0.5 * photograph, as the browser draws it."""
    report.wait(DRAWN % "#grid")
    found = report.run(
        """
        const [photo, heat] = document.querySelectorAll('#grid .card:nth-child(3) img');
        const draw = (steps) => {
          const c = Object.assign(document.createElement('canvas'), {width: 30, height: 24});
          const context = c.getContext('2d');
          for (const [image, alpha] of steps) {
            context.globalAlpha = alpha; context.drawImage(image, 0, 0, 30, 24);
          }
          return [...context.getImageData(0, 0, 30, 24).data];
        };
        const mix = +getComputedStyle(heat).opacity;
        return [draw([[photo, 1]]), draw([[heat, 1]]), draw([[photo, 1], [heat, mix]])];
        """
    )
    photo, heat, both = found
    expected = [(a + b) / 2 for a, b in zip(photo, heat)]
    assert max(abs(a - b) for a, b in zip(both, expected)) <= 1.5
    assert max(abs(a - b) for a, b in zip(photo, heat)) > 50


def test_layers_and_targets_of_the_grid(report):
    source = "return document.querySelector('#grid .heat').src"
    seen = {report.run(source)}
    from selenium.webdriver.support.ui import Select

    named = (
        "return ['name', 'predicted'].map(c => document.querySelector(`#grid .${c}`).textContent)"
    )
    first, second = report.run("return shown.items[0].targets.map(t => t.name)")
    assert report.run(named) == [first, ""]
    Select(report.find("#target")).select_by_value("1")
    score = report.run("return percent(shown.items[0].predictions[0].score)")
    assert report.run(named) == [second, f"predicted: {first} {score}"]
    seen.add(report.run(source))
    Select(report.find("#layer")).select_by_value("0")
    seen.add(report.run(source))
    assert len(seen) == 3


def test_keyboard(report, shown):
    """Tab to the pictures, move, turn pages, open, go on, close: no mouse."""
    report.run("document.querySelector('#next').focus()")
    report.press("TAB")
    assert report.focused() == 0
    columns = report.run(
        "const c = [...document.querySelectorAll('.card')];"
        "return c.filter(e => e.offsetTop === c[0].offsetTop).length"
    )
    assert columns == 6
    report.press("ARROW_RIGHT", "ARROW_DOWN")
    assert report.focused() == 1 + columns
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert report.run(outline) == "solid"
    report.press("END", "ARROW_RIGHT")
    report.place(25, 48, 70)
    report.wait("return document.activeElement === document.querySelector('.card')")
    report.press("ARROW_LEFT")
    report.place(1, 24, 70)
    report.wait("return document.activeElement === [...document.querySelectorAll('.card')].pop()")
    report.press("PAGE_DOWN")
    report.place(25, 48, 70)
    report.wait("return document.activeElement === document.querySelector('.card')")
    report.press("ENTER")
    assert report.find("#detail").is_displayed()
    title = "return document.querySelector('#detail-title').textContent"
    assert report.run(title) == keys_of(shown, [24])[0]
    report.press("ARROW_RIGHT")
    assert report.run(title) == keys_of(shown, [25])[0]
    report.press("ARROW_LEFT", "ARROW_LEFT")
    report.wait(f"{title} === arguments[0]", keys_of(shown, [23])[0])
    report.press("ESCAPE")
    assert not report.find("#detail").is_displayed()
    report.wait("return document.activeElement.matches('.card')")
    assert report.focused() == 23


def test_the_detail_shows_every_layer_and_target(report, shown):
    report.run("document.querySelectorAll('.card')[4].click()")
    report.wait(DRAWN % "#detail")
    captions = report.run(
        "return [...document.querySelectorAll('#detail figcaption')].map(e => e.innerText)"
    )
    target, score = shown.rows["target"][4], shown.rows["score"][4]
    expected = [
        f"class {target[k]} {score[k]:.2f}\n{layer}"
        for layer in ("stage.conv", "last")
        for k in range(2)
    ]
    assert captions == expected
    words = report.find("#detail").text
    height, width = shown.rows["image_size"][4]
    assert f"{width} \N{MULTIPLICATION SIGN} {height} pixels" in words
    assert len(report.run("return [...document.querySelectorAll('.predictions tr')]")) == 5


def test_average_maps(report):
    report.run("for (const d of document.querySelectorAll('.means')) d.open = true")
    report.wait(
        "return [...document.querySelectorAll('.mean-grid')].every(g => g.children.length > 1 &&"
        " [...g.querySelectorAll('img')].every(i => i.naturalWidth > 50))"
    )


def test_a_name_full_of_html_is_text(report, shown):
    assert report.files()[0] == keys_of(shown, [0])[0]
    report.press("TAB")
    report.run("document.querySelector('.card').click()")
    assert report.find("#detail-title").text == " ".join(keys_of(shown, [0])[0].split())
    assert report.run("return document.querySelectorAll('img[src=x], [onerror]').length") == 0


@pytest.mark.parametrize("form", ["file", "served"])
def test_without_photographs_the_heatmap_is_alone(browser, tmp_path, form):
    """A photograph that is gone: its heatmap covers all, whatever the slider says."""
    made = make_shown_run(tmp_path, shards=(3,))
    next((tmp_path / "photos").glob("0001*")).unlink()
    with opened_run(made.paths, photographs=True) as opened, served(opened) as address:
        if form == "file":
            write_page(opened, tmp_path / "page.html", 9)
            address = (tmp_path / "page.html").as_uri()
        report = Report(browser, address).open()
        report.wait("return document.querySelectorAll('.alone').length === 1")
        opacities = report.run(
            "return [...document.querySelectorAll('#grid .heat')]"
            ".map(e => getComputedStyle(e).opacity)"
        )
        assert opacities == ["0.5", "1", "0.5"]
        report.run("document.querySelectorAll('.card')[1].click()")
        report.wait("return document.querySelector('#detail .notice').checkVisibility()")
        assert "The photograph is not shown: " in report.find("#detail").text
        report.press("ARROW_RIGHT")
        report.wait(DRAWN % "#detail")
        assert "is not shown" not in report.find("#detail").text


def test_nothing_is_loaded_from_elsewhere(report, browser):
    report.find("#next").click()
    report.place(25, 48, 70)
    sent = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    asked = [
        m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"
    ]
    assert asked
    own = (report.address, "data:image/webp;", "data:,")
    assert [url[:80] for url in asked if not url.startswith(own)] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_no_width_scrolls_sideways(report, width, scheme):
    report.open(width, 800, scheme)
    wide = "return document.documentElement.scrollWidth <= innerWidth"
    assert report.run(wide)
    report.run("document.querySelector('.filtering').open = true")
    report.run("for (const d of document.querySelectorAll('details')) d.open = true")
    assert report.run(wide)
    report.run("document.querySelector('.card').click()")
    assert report.run(
        "const d = document.querySelector('#detail'); return d.scrollWidth <= d.clientWidth"
    )
    assert report.run(wide)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_their_ground(report, scheme):
    """Contrast of 4.5 to 1 at least, as WCAG asks of small text."""
    report.open(scheme=scheme)
    worst = report.run(
        """
        const canvas = document.createElement('canvas')
          .getContext('2d', {willReadFrequently: true});
        const light = (colour) => {
          canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
          const part = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((v) => v / 255)
            .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
          return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
        };
        const ground = (e) => {
          const own = getComputedStyle(e).backgroundColor;
          return own === 'rgba(0, 0, 0, 0)' && e.parentElement ? ground(e.parentElement) : own;
        };
        const texts = 'p, dt, dd, td, th, h1, h2, h3, a, label, .name, .key, .score, .link';
        const found = [...document.querySelectorAll(texts)]
          .filter((e) => e.checkVisibility() && e.innerText.trim())
          .map((e) => {
            const both = [light(getComputedStyle(e).color), light(ground(e))];
            const [a, b] = both.sort((x, y) => y - x);
            return [(a + 0.05) / (b + 0.05), e.outerHTML.slice(0, 80)];
          });
        return found.sort((x, y) => x[0] - y[0])[0];
        """
    )
    assert worst[0] >= 4.5, worst


@pytest.mark.parametrize("kind", ["file", "served"])
def test_images_at_their_own_size_are_drawn_in_their_proportions(browser, kind, tmp_path):
    extract(make_pictures(tmp_path / "pictures", 10), tmp_path / "run", *COPIES)
    with opened_run(RunDir(tmp_path / "run"), photographs=True) as opened, served(opened) as place:
        write_page(opened, tmp_path / "report.html", 100)
        browser.get_log("browser")
        page = place if kind == "served" else (tmp_path / "report.html").as_uri()
        report = Report(browser, page).open()
        report.wait(DRAWN % "#grid")
        shapes = report.run(
            "return [...document.querySelectorAll('#grid img')]"
            ".map(i => i.naturalWidth / i.naturalHeight)"
        )
        assert len(shapes) == 20
        expected = [width / height for height, width in SIZES]
        assert all(min(abs(one - x) for x in expected) < 0.01 for one in shapes)
        assert len({round(one, 2) for one in shapes}) == len(expected)
        report.find(".card").click()
        report.wait("return document.querySelector('dialog').open")
        assert not [line for line in browser.get_log("browser") if line["level"] != "INFO"]
