"""A report shows what was measured as it is stored, and says what is missing or damaged."""

import json
import re
import shutil

import cv2
import h5py
import numpy as np
import pytest

import shardcam as product
from shardcam.engine.errors import ConfigError
from shardcam.engine.evaluation.comparison import compare
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.jobs.gallery.gallery_run import opened_run
from shardcam.jobs.gallery.heatmap_pictures import data_uri, draw_heatmap, view_size
from shardcam.jobs.gallery.html_file import write_page
from shardcam.jobs.gallery.page import whole_options
from shardcam.jobs.gallery.server import Pages
from shardcam.kernels import IOU_UNIT, box_overlaps
from tests.jobs.command import shardcam
from tests.jobs.evaluated import IMAGES, METRICS, change_summary, evaluate, make_evaluated
from tests.jobs.test_report import Page


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_evaluated(tmp_path_factory.mktemp("evaluated"))


@pytest.fixture
def run(made, tmp_path):
    """A copy to damage."""
    return shutil.copytree(made.run, tmp_path / "run")


def written(run, path, beside=None, sample=1000, photographs=True):
    other = RunDir(beside) if beside else None
    with opened_run(RunDir(run), photographs, other) as opened:
        write_page(opened, path, sample)
    return Page(path.read_text())


@pytest.fixture(scope="module")
def page(made, tmp_path_factory):
    return written(made.run, tmp_path_factory.mktemp("page") / "page.html")


@pytest.fixture(scope="module")
def both(made, tmp_path_factory):
    return written(made.run, tmp_path_factory.mktemp("page") / "page.html", made.other)


def summary_of(run):
    return json.loads((run / "metrics" / "summary.json").read_text())


def test_the_table_is_that_of_the_summary(made, page):
    for name, one in summary_of(made.run).items():
        low, high = one["ci95"]
        assert f"{name} {one['mean']:.4g} {low:.4g} to {high:.4g}" in page.words
        assert one["convention"] in page.words
        for reason, count in one["left_out"].items():
            assert f"left out: {count} ({reason})" in page.words
    assert page.data["measures"] == sorted(METRICS.split(","))


def test_the_page_loads_nothing_and_has_no_style_of_its_own(page, both):
    for one in (page, both):
        assert {a["src"] for tag, a in one.elements if tag == "img" and "src" in a} == set()
        assert not [a for _, a in one.elements if "style" in a]


def test_histograms_count_every_value(made, page):
    with product.open_run(made.run) as run:
        for name in run.metrics:
            values = run.metric(name)
            count = np.isfinite(values).sum()
            told = re.search(rf"Histogram of {name}, 25 bins .*? of (\d+)\.", page.words)
            assert int(told[1]) == count > 0


def test_curves_have_their_bands(made, page):
    curve = summary_of(made.run)["insertion"]["details"]["curve"]
    lines = [a["points"] for tag, a in page.elements if tag == "polyline"]
    bands = [a["points"] for tag, a in page.elements if tag == "polygon"]
    assert len(lines) == len(bands) == 1
    assert len(lines[0].split()) == len(curve["mean"]) == len(bands[0].split()) / 2
    y = [float(point.split(",")[1]) for point in lines[0].split()]
    np.testing.assert_allclose(y, 170 - 156 * np.array(curve["mean"]), atol=0.06)


def test_items_have_the_values_and_their_extremes_are_in_the_file(made, page, tmp_path):
    with product.open_run(made.run) as run:
        values = [run.metric(name) for name in page.data["measures"]]
    for item in page.data["items"]:
        for found, column in zip(item["measured"], values):
            expected = [v if np.isfinite(v) else None for v in column[item["row"]].tolist()]
            assert found == expected
    shown = {i["row"] for i in written(made.run, tmp_path / "few.html", sample=1).data["items"]}
    for column in values:
        assert {np.nanargmin(column[:, 0]), np.nanargmax(column[:, 0])} <= shown
    assert len(written(made.run, tmp_path / "all.html", sample=1000).data["items"]) == IMAGES


def test_the_curve_of_thresholds_has_its_best_marked(run, tmp_path):
    curve = [0.2, 0.3, 0.5, 0.4, 0.1]

    def measured(summary):
        details = {"threshold": 0.5, "curve": curve}
        summary["insertion"] |= {"details": details}
        summary["miou"] = summary["insertion"]
        shutil.copytree(run / "metrics" / "insertion", run / "metrics" / "miou")

    change_summary(run, measured)
    page = written(run, tmp_path / "page.html")
    (mark,) = (a for tag, a in page.elements if tag == "circle" and a["class"] == "best s0")
    assert (mark["cx"], mark["cy"]) == ("222.0", f"{170 - 156 * 0.5 / 0.6:.1f}")
    assert "Mean IoU by the threshold:" in page.words and "miou: best 0.5 at 0.5" in page.words


def test_boxes_are_those_that_were_measured(made, page):
    """The IoU of what is drawn is the one that is stored for the best threshold."""
    threshold = summary_of(made.run)["max_box_acc"]["details"]["threshold"]["0.5"]
    level = int((np.arange(0, 1, 0.001) * 255).astype(int)[round(threshold * 1000)])
    stored = {}
    for path in sorted((made.run / "metrics" / "max_box_acc" / "shards").glob("*.h5")):
        with h5py.File(path) as file:
            stored |= dict(zip(file["sample"][:].tolist(), file["column/iou"][:, :, level]))
    assert page.data["boxes"] == 0
    checked = 0
    with h5py.File(made.run / "index.h5") as index:
        crops, sizes = index["crop"][:].astype(float), index["image_size"][:]
    for item in page.data["items"]:
        width, height = item["view"]
        first = item["boxes"][0]
        ((x, y, w, h),) = first["found"]
        found = np.round(np.array([x, y, x + w, y + h]) * 32 / [width, height, width, height])
        y0, x0, y1, x1 = crops[item["row"]]
        side_y, side_x = sizes[item["row"]]
        truth = np.array([[0.1, 0.2, 0.6, 0.9], [0.5, 0.1, 0.9, 0.5]]) if first["truth"] else []
        if len(truth):
            truth = np.round(truth * [side_x, side_y, side_x, side_y], 2)
            in_view = (truth - [x0, y0, x0, y0]) * 32 / [x1 - x0, y1 - y0, x1 - x0, y1 - y0]
            drawn = np.array(first["truth"]) * 32 / [width, height, width, height]
            drawn[:, 2:] += drawn[:, :2]
            widest = sorted(in_view.tolist(), key=lambda b: -(b[2] - b[0]) * (b[3] - b[1]))
            np.testing.assert_allclose(drawn, widest, atol=0.1 * 32 / min(width, height))
            boxes = np.array([[0, *found]], np.int32)
            iou = box_overlaps(boxes, np.trunc(in_view).astype(np.int64))[0]
            assert iou == stored[item["sample"]][0]
            checked += iou > 0.1 * IOU_UNIT
        else:
            assert item["row"] == IMAGES - 1 or max(side_y, side_x) == 1  # as if in shares
    assert checked > 3


def test_names_that_would_be_markup_are_text(run, tmp_path):
    hostile = "<img src=x onerror=alert(1)>"
    change_summary(run, lambda s: s.update({hostile: dict(s["gini"])}))
    change_summary(
        run, lambda s: s["gini"].update(convention=hostile, baselines={hostile: dict(s["gini"])})
    )
    page = written(run, tmp_path / "page.html")
    assert [a for tag, a in page.elements if tag == "img" and a.get("src") == "x"] == []
    assert page.words.count(hostile) >= 3
    assert f"The metric {hostile} is not shown: " in page.words


def without_interval(stored):
    del stored["gini"]["ci95"]


DAMAGE = {
    "mean": lambda s: s["gini"].update(mean="high"),
    "interval": without_interval,
    "three sides": lambda s: s["gini"].update(ci95=[0, 1, 2]),
    "number": lambda s: s["gini"].update(n=[]),
    "details": lambda s: s["gini"].update(details=[]),
    "baselines": lambda s: s["gini"].update(baselines=[1]),
    "better": lambda s: s["gini"].update(higher_is_better=[]),
    "left out": lambda s: s["gini"].update(left_out={"x": "many"}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_metric_is_told_and_the_others_are_shown(run, tmp_path, damage):
    change_summary(run, DAMAGE[damage])
    page = written(run, tmp_path / "page.html")
    assert "The metric gini is not shown: metrics/summary.json: gini: damaged: " in page.words
    assert page.data["measures"] == ["complexity", "insertion", "max_box_acc", "pointing"]


@pytest.mark.parametrize("curve", [5, {}, {"mean": [1], "low": [1], "high": [1]}, {"mean": "high"}])
def test_a_damaged_curve_is_left_out(run, tmp_path, curve):
    change_summary(run, lambda s: s["insertion"]["details"].update(curve=curve))
    page = written(run, tmp_path / "page.html")
    assert not [tag for tag, _ in page.elements if tag == "polyline"]
    assert "insertion" in page.data["measures"]


def rewritten(run, **datasets):
    """A shard of gini's with other datasets."""
    path = run / "metrics" / "gini" / "shards" / "shard-000001.h5"
    changed = run / "changed.h5"
    shutil.copy(path, changed)
    with h5py.File(changed, "r+") as file:
        for name, values in datasets.items():
            del file[name]
            file[name] = values(file["sample"])
    changed.replace(path)


@pytest.mark.parametrize(
    "values",
    [
        lambda n: np.zeros((len(n), 5), np.float32),
        lambda n: np.zeros(len(n), np.float32),
        lambda n: np.zeros((len(n), 2), "S3"),
        lambda n: np.zeros((len(n) + 1, 2), np.float32),
    ],
    ids=["more classes", "a row", "texts", "more rows"],
)
def test_damaged_values_are_told(run, tmp_path, values):
    rewritten(run, value=values)
    page = written(run, tmp_path / "page.html")
    assert "The metric gini is not shown: " in page.words
    assert "gini" not in page.data["measures"]


@pytest.mark.parametrize("text", ["nothing", "[]", '{"../../gini": {}}', '{"..": {}}'])
def test_a_damaged_summary_is_told(run, tmp_path, text):
    (run / "metrics" / "summary.json").write_text(text)
    page = written(run, tmp_path / "page.html")
    assert "What was measured is not shown: " in page.words
    assert "Evaluation" not in page.words


def test_nothing_measured_is_nothing(run, tmp_path):
    for name in range(3):
        path = run / "metrics" / "gini" / "shards" / f"shard-00000{name}.h5"
        with h5py.File(path, "r+") as file:
            file["value"][...] = np.nan
    change_summary(run, lambda s: s["gini"].update(mean=None, ci95=[None, None], n=0))
    page = written(run, tmp_path / "page.html")
    assert "Nothing was measured." in page.words
    assert "gini \N{EN DASH}" in page.words
    gini = page.data["measures"].index("gini")
    assert {tuple(item["measured"][gini]) for item in page.data["items"]} == {(None, None)}


@pytest.mark.parametrize("state", ["gone", "changed", "empty"])
def test_a_truth_that_is_another_is_told(run, made, tmp_path, state):
    moved = tmp_path / "elsewhere" / made.truth.name
    moved.parent.mkdir()
    shutil.copy(made.truth, moved)
    evaluate(run, moved)
    metric = json.loads((run / "metrics" / "pointing" / "metric.json").read_text())
    assert metric["truth"] == str(moved), "where it is now"
    assert written(run, tmp_path / "page.html").data["boxes"] == 0
    lines = made.truth.read_text().splitlines()
    texts = {"changed": "\n".join(lines[:-1]), "empty": ""}
    moved.unlink() if state == "gone" else moved.write_text(texts[state])
    page = written(run, tmp_path / "page.html")
    assert f"The boxes of the truth are not shown: {moved}: " in page.words
    assert page.data["boxes"] is None


def test_a_file_that_a_run_names_is_not_quoted(run, tmp_path):
    """Whoever made the run may have named any file as its truth."""
    secret = tmp_path / "secret"
    secret.write_text("password,in,a,table,of,mine\nx,1,2,3,4,5\n")
    for path in (run / "metrics").glob("*/metric.json"):
        stored = json.loads(path.read_text())
        if stored["truth"]:
            path.write_text(json.dumps(stored | {"truth": str(secret)}))
    page = written(run, tmp_path / "page.html")
    assert f"{secret}: gone, or not what it was when max_box_acc was measured" in page.words
    assert "password" not in (tmp_path / "page.html").read_text()


def test_without_photographs_no_truth_is_read(made, tmp_path):
    page = written(made.run, tmp_path / "page.html", photographs=False)
    assert page.data["boxes"] is None
    assert "The boxes of the truth" not in page.words


def test_two_runs_are_beside_each_other(made, both):
    (compared,) = compare(made.run, made.other)
    other = summary_of(made.other)
    for name, figure in compared.metrics.items():
        assert f"{other[name]['mean']:.4g}" in both.words
        assert f"{figure.value:.4g} {figure.low:.4g} to {figure.high:.4g}" in both.words
    layer = both.data["layers"][0]
    assert both.data["maps"] == [f"run: {layer}", f"other: {layer}"]
    gini = both.data["measures"].index("gini")
    difference = both.data["measures"].index("gini: difference")
    with product.open_run(made.run) as run, product.open_run(made.other) as beside:
        for item in both.data["items"]:
            there = beside.take([beside.keys.index(run.keys[item["row"]])])
            same = np.flatnonzero(there["target"][0] == item["targets"][0]["number"])
            found = item["measured"][difference][0]
            if not len(same):
                assert found is None
                assert item["pictures"]["heat"][1][0] is None
                continue
            value = there.metric("gini")[0, same[0]]
            assert found == pytest.approx(value - item["measured"][gini][0], abs=1e-6)
            assert item["pictures"]["heat"][1][0].startswith("data:image/webp")


def test_both_runs_are_told_by_name_method_and_options(made, both):
    model = read_manifest(RunDir(made.run)).config["model"]
    methods = [read_manifest(RunDir(run)).config["method"] for run in (made.run, made.other)]
    assert both.texts["title"][0] == "run and other \N{EN DASH} shardcam"
    for name, method in zip(("run", "other"), methods, strict=True):
        assert f"{name} : {method} of {model} , layer" in both.words
    assert f"method run : {methods[0]} other : {methods[1]}" in both.words
    assert "Counts, failures and stages are of run ." in both.words


def test_options_are_not_broken_at_their_hyphens():
    assert whole_options("x-y or another --cpus-per-worker <1>.") == (
        'x-y or another <span class="whole">--cpus-per-worker</span> &lt;1&gt;.'
    )


def test_the_same_map_beside_itself_is_the_same_picture(made, tmp_path):
    with opened_run(RunDir(made.run), False, RunDir(made.run)) as opened:
        for row in range(IMAGES):
            mine = draw_heatmap(opened.run, row, opened.run.layers[0], 1, opened.colours)
            assert opened.heatmap(opened.run, row, row, 1, 1) == mine
        assert opened.maps[1].startswith(str(made.run)), "two runs of the same name"


def test_a_map_of_another_crop_lies_where_it_belongs(made):
    """The other run saw the whole picture; its map is cut as the photograph is."""
    with opened_run(RunDir(made.run), False, RunDir(made.other)) as opened:
        for row in range(IMAGES):
            drawn = opened.heatmap(opened.run, row, row, 1, 0)
            height, width = view_size(opened.run["crop"][row])
            if drawn is not None:
                pixels = cv2.imdecode(np.frombuffer(drawn, np.uint8), 1)
                assert pixels.shape[:2] == (height, width)


def test_runs_of_other_images_are_refused_or_told(made, run, tmp_path):
    pictures = tmp_path / "others"
    shutil.copytree(made.run.parent / "pictures", pictures)
    files = sorted(pictures.iterdir())
    for path in files[1:]:
        path.unlink()
    options = ("--model", json.loads((run / "run.json").read_text())["config"]["model"])
    options += ("--image-size", 32, "--executor", "local")
    assert shardcam("extract", pictures, *options, "--out", tmp_path / "one")[0] == 0
    page = written(made.run, tmp_path / "page.html", tmp_path / "one")
    assert f"one lacks {IMAGES - 1} images of this run." in page.words
    files[0].rename(pictures / "other.png")
    assert shardcam("extract", pictures, *options, "--out", tmp_path / "two")[0] == 0
    code, _, err = shardcam("report", made.run, tmp_path / "two", "--out", tmp_path / "no.html")
    assert code == ConfigError.exit_code
    assert err.count("\n") == 1 and "no image of this run" in err


def test_the_command_takes_two_runs(made, tmp_path):
    code, out, err = shardcam("report", made.run, made.other, "--out", tmp_path / "two.html")
    assert code == 0, err
    assert f"{IMAGES} of {IMAGES} images shown" in out


@pytest.fixture(scope="module")
def pages(made):
    with opened_run(RunDir(made.run), True, RunDir(made.other)) as opened:
        yield Pages(opened)


def rows_of(pages, query):
    answer = pages.answer(f"/items?{query}")
    assert answer.status == 200, answer.body
    return [item["row"] for item in json.loads(answer.body)["items"]]


def test_pictures_are_filtered_and_ordered_by_a_metric(made, pages):
    with product.open_run(made.run) as run:
        names = list(run.metrics)
        values = run.metric("max_box_acc")[:, 0]
    number = names.index("max_box_acc")
    measured = np.flatnonzero(np.isfinite(values))
    assert 0 < len(measured) < IMAGES
    assert rows_of(pages, f"measure={number}") == measured.tolist()
    lowest = measured[np.argsort(values[measured], kind="stable")]
    assert rows_of(pages, f"measure={number}&order=lowest") == lowest.tolist()
    middle = float(np.median(values[measured]))
    kept = [row for row in lowest[::-1].tolist() if values[row] >= middle]
    found = rows_of(pages, f"measure={number}&order=highest&least={middle}")
    assert sorted(found) == sorted(kept)
    assert (np.diff(values[found]) <= 0).all()
    assert rows_of(pages, f"measure={number}&most=-1") == []


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("order=lowest", 400),
        ("least=0.5", 400),
        ("measure=x", 400),
        ("measure=0&least=nan", 400),
        ("measure=0&most=inf", 400),
        ("measure=-1", 400),
        ("measure=99", 404),
    ],
)
def test_bad_questions_are_answered(pages, query, status):
    assert pages.answer(f"/items?{query}").status == status


def test_maps_of_the_other_run_are_served(pages, both):
    for item in both.data["items"]:
        expected = item["pictures"]["heat"][1][0]
        answer = pages.answer(f"/heat/1/0/{item['row']}.webp")
        assert answer.status == (404 if expected is None else 200)
        if expected is not None:
            assert data_uri(answer.body) == expected
    assert pages.answer("/heat/2/0/0.webp").status == 404
