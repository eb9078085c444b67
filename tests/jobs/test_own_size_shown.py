"""Runs of images at their own size, as a person looks at them, measures and exports them."""

import csv
import json
from base64 import b64decode

import cv2
import numpy as np
import pytest

from shardcam import open_run
from shardcam.engine.rundir.colormaps import colour_table
from shardcam.engine.rundir.listing import Listing
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.jobs.gallery.gallery_run import NO_AVERAGES, opened_run
from shardcam.jobs.gallery.html_file import write_page
from shardcam.jobs.gallery.server import Pages
from shardcam.jobs.looking.contact_sheet import draw_contact_sheet
from tests.jobs.command import CHECKPOINT, LOCAL, shardcam, words_of
from tests.jobs.test_own_size import COPIES, SIZES, extract, make_pictures

LAYER = "two_relu"
METRICS = "max_box_acc,pxap,pointing,energy,rank,complexity,gini"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    base = tmp_path_factory.mktemp("shown")
    pictures = make_pictures(base / "pictures", 10)
    extract(pictures, base / "run", *COPIES, "--target", "top2", "--shard-size", 4)
    return base / "run"


def write_truth(run, path):
    with open_run(run) as opened, path.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(("key", "class", "x0", "y0", "x1", "y1"))
        for key, classes, size in zip(opened.keys, opened["target"][:], opened["image_size"][:]):
            height, width = size.tolist()
            for label in classes.tolist():
                rows.writerow((key, label, width // 5, height // 4, width // 2, height - 3))
    return path


def shown(address):
    """(height,width,3) RGB of a picture that an address holds."""
    data = np.frombuffer(b64decode(address.partition(",")[2]), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].astype(int)


def test_images_of_one_size_have_the_figures_of_a_network_of_that_size(tmp_path):
    pictures = make_pictures(tmp_path / "pictures", 5, sizes=((40, 56),))
    tables, of_one = [], ("--model", CHECKPOINT, "--method", "cam", "--resize", "squash")
    same = ("--target", "top2", "--batch-size", 5)
    extract(pictures, tmp_path / "none", *same)
    code, _, err = shardcam(
        "extract", pictures, *of_one, "--image-size", "40,56", *same, *LOCAL,
        "--out", tmp_path / "squash",
    )  # fmt: skip
    assert code == 0, err
    truth = write_truth(tmp_path / "none", tmp_path / "truth.csv")
    for name in ("none", "squash"):
        code, _, err = shardcam(
            "evaluate", tmp_path / name, "--metrics", METRICS,
            "--truth", truth, "--baselines", "centre,uniform,edges", *LOCAL,
            "--csv", tmp_path / f"{name}.csv",
        )  # fmt: skip
        assert code == 0, err
        tables.append((tmp_path / f"{name}.csv").read_text())
    assert tables[0] == tables[1] and "edges" in tables[0]
    code, out, err = shardcam("compare", tmp_path / "none", tmp_path / "squash")
    assert code == 0 and "other parts" not in out + err


def test_the_report_shows_each_image_in_its_proportions(run, tmp_path):
    truth = write_truth(run, tmp_path / "truth.csv")
    metrics = ("--metrics", "max_box_acc,complexity", "--truth", truth)
    assert shardcam("evaluate", run, *metrics, *LOCAL)[0] == 0
    with opened_run(RunDir(run), photographs=True) as opened:
        assert write_page(opened, tmp_path / "report.html", 100) == 10
        text = (tmp_path / "report.html").read_text()
        assert NO_AVERAGES in words_of(tmp_path / "report.html")
        assert 'id="means"' not in text and "1.0, 0.5, 1.5, 2.0" in text
        data = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
        maps = opened.run.cam(LAYER)
        assert {(item["height"], item["width"]) for item in data["items"]} == set(SIZES)
        for item in data["items"]:
            width, height = item["view"]
            assert max(width, height) == 224
            assert width / height == pytest.approx(item["width"] / item["height"], rel=0.01)
            photo, heat = shown(item["pictures"]["photo"]), shown(item["pictures"]["heat"][0][1])
            assert photo.shape == heat.shape == (height, width, 3)
            expected = colour_table("jet")[maps.heatmap((height, width))[item["row"], 1]]
            assert np.abs(heat - expected).mean() < 12  # WebP halves the colours' resolution
            (x, y, across, down), *_ = item["boxes"][0]["truth"]
            sides = item["width"] / width, item["height"] / height
            found = x * sides[0], y * sides[1], (x + across) * sides[0], (y + down) * sides[1]
            box = item["width"] // 5, item["height"] // 4, item["width"] // 2, item["height"] - 3
            assert found == pytest.approx(box, abs=0.3)
        served = Pages(opened)
        assert served.answer("/heat/0/1/7.webp").status == 200
        answer = served.answer("/means?layer=0")
        assert answer.status == 500 and b"class means: takes maps of one size" in answer.body
    with open_run(run) as opened:
        draw_contact_sheet(opened, Listing(RunDir(run).listing), tmp_path / "sheet.png")
    assert cv2.imread(str(tmp_path / "sheet.png")).shape[0] > 300


def test_exports_have_the_size_of_each_image(run, tmp_path):
    code, _, err = shardcam("export", run, "--to", "npy", "--out", tmp_path / "maps.npy")
    assert code == 2 and err.count("\n") == 1
    assert "npy: takes maps of one size; those of two_relu have 5, 6x6 to" in err
    assert "a file of each (--to irn, --to psa)" in err and not (tmp_path / "maps.npy").exists()
    code, out, err = shardcam("export", run, "--to", "masks", "--out", tmp_path / "masks")
    assert code == 0 and "10 masks" in out, err
    with open_run(run) as opened:
        sizes = opened["image_size"][:].tolist()
    found = [cv2.imread(str(p)).shape[:2] for p in sorted((tmp_path / "masks").glob("*.png"))]
    assert [list(size) for size in found] == sizes
    code, out, err = shardcam("export", run, "--to", "coco", "--out", tmp_path / "boxes.json")
    assert code == 0 and "of 10 pictures" in out, err
