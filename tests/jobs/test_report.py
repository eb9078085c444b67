"""A report says what the files say, of runs in any state, and carries nothing it should not."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tracemalloc
from html.parser import HTMLParser
from zipfile import ZipFile

import cv2
import h5py
import numpy as np
import pytest

from shardcam import export
from shardcam.engine.analysis.row_filter import RowFilter
from shardcam.engine.pictures.imaging import view
from shardcam.engine.rundir.colormaps import colour_table
from shardcam.engine.rundir.event_log import EventLog
from shardcam.engine.rundir.events import ShardDone
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.types import Preprocessing
from shardcam.jobs.gallery.gallery_run import opened_run
from shardcam.jobs.gallery.heatmap_pictures import NoPhotograph, Photographs, view_size
from shardcam.jobs.gallery.html_file import write_page
from shardcam.jobs.gallery.row_columns import (
    ORDERS,
    Columns,
    in_order,
    read_columns,
    spread,
)
from shardcam.jobs.gallery.run_statistics import measure
from shardcam.jobs.source_pictures import GREY, cut
from shardcam.kernels import heatmap_u8
from tests.analysis.runs import LAYERS, make_run
from tests.jobs.command import ROOT, shardcam
from tests.jobs.shown import change_options, make_shown_run, picture_of

TEMPLATES = "jobs/gallery/templates"
IGNORED = (".git", ".venv", ".venv-torch", "build", "runs", "tests", "benchmarks", "docs")
VOID = {"meta", "link", "img", "input", "br"}
LOADING = ("src", "href", "srcset", "action", "poster", "data", "xlink:href", "style")


class Page(HTMLParser):
    """A page as a strict reader sees it: every element closed, in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts, self._shown = [], [], {}, []
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"{tag} has an attribute twice: {names}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)
            if self.open[-1] not in HIDDEN:
                self._shown.append(data)

    @property
    def words(self):
        """All that is shown, with single spaces."""
        return " ".join(" ".join(self._shown).split())

    @property
    def data(self):
        """What the script is given."""
        return json.loads(self.texts["script"][0])


HIDDEN = ("script", "style")


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    return make_shown_run(tmp_path_factory.mktemp("shown"))


@pytest.fixture(scope="module")
def page(shown, tmp_path_factory):
    """The report of all rows, as one file."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    with opened_run(shown.paths, photographs=True) as opened:
        assert write_page(opened, path, 1000) == len(shown.rows["key"])
    return Page(path.read_text())


def written(paths, path, **options):
    with opened_run(paths, photographs=options.pop("photographs", True)) as opened:
        write_page(opened, path, 1000)
    return Page(path.read_text())


def pixels(uri):
    form, _, data = uri.partition(";base64,")
    assert form == "data:image/webp"
    return cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), 1)[..., ::-1]


def test_statistics_are_those_of_plain_h5py(shown):
    with h5py.File(shown.paths.index) as file:
        label, flags = file["label"][:], file["flags"][:]
        first, score = file["top_class"][:, 0], file["top_score"][:, 0]
    with opened_run(shown.paths, photographs=False) as opened:
        found = measure(opened.columns, str)
    assert (found.rows, found.labelled) == (70, (label >= 0).sum())
    assert found.correct == ((label == first) & (label >= 0)).sum() > 0
    assert found.median == np.median(score)
    for number, one in enumerate(found.bins):
        here = (score >= number / 20) & (score < (number + 1) / 20)
        assert one.right == (here & (label == first)).sum()
        assert one.wrong == (here & (label != first) & (label >= 0)).sum()
        assert one.unlabelled == (here & (label < 0)).sum()
    counts = [count.count for count in found.classes]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == 70
    for count in found.classes:
        assert count.count == (first == count.number).sum()
        assert count.right == ((first == count.number) & (label == first)).sum()
    assert found.flags == {
        "non-finite map": (flags & 1 > 0).sum(),
        "all-zero map after ReLU": (flags & 2 > 0).sum(),
    }


def test_scores_that_are_no_number_are_counted_apart():
    score = np.array([np.nan, 0.5, np.inf, 1.0000001], np.float32)
    found = measure(Columns(*np.zeros((2, 4), np.int32), score, np.zeros(4, np.uint8)), str)
    assert (found.no_score, sum(one.count for one in found.bins)) == (2, 2)
    assert found.bins[-1].count == 1


FILTERS = [
    {},
    {"predicted": 3},
    {"label": 1},
    {"correct": True},
    {"correct": False, "flags": 0},
    {"min_score": 0.6, "max_score": 0.9},
    {"flag": 2},
    {"predicted": 0, "label": 0, "min_score": 0.1},
    {"predicted": 99},
]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("wanted", FILTERS, ids=str)
def test_filters(shown, wanted, order):
    rows = shown.rows

    def answers(i):
        label, first, score = rows["label"][i], rows["top_class"][i, 0], rows["top_score"][i, 0]
        tests = {
            "predicted": lambda v: first == v,
            "label": lambda v: label == v,
            "correct": lambda v: label >= 0 and (label == first) == v,
            "min_score": lambda v: score >= v,
            "max_score": lambda v: score <= v,
            "flags": lambda v: rows["flags"][i] == v,
            "flag": lambda v: rows["flags"][i] & v,
        }
        return all(tests[name](value) for name, value in wanted.items())

    expected = [i for i in range(70) if answers(i)]
    if order != "source":
        expected.sort(key=lambda i: rows["top_score"][i, 0], reverse=order == "surest")
    with opened_run(shown.paths, photographs=False) as opened:
        keep = RowFilter(**wanted).matching(opened.columns)
        assert in_order(opened.columns, keep, order).tolist() == expected


def test_a_sample_shows_rare_kinds_and_is_the_same_each_time():
    """One wrong prediction among a hundred thousand is shown, and so is one flag."""
    rng, many = np.random.default_rng(1), 100_000
    columns = Columns(
        np.zeros(many, np.int32),
        np.zeros(many, np.int32),
        rng.random(many).astype(np.float32),
        np.zeros(many, np.uint8),
    )
    columns.predicted[777] = 1
    columns.flags[99_999] = 1
    rows = spread(columns, 50)
    assert {777, 99_999} <= set(rows.tolist())
    assert len(set(rows.tolist())) == 50
    assert rows.tolist() == sorted(rows.tolist()) == spread(columns, 50).tolist()
    bands = np.bincount((columns.score[rows] * 5).astype(int))
    assert bands.min() >= 9
    assert spread(columns, many + 1).tolist() == list(range(many))


def test_the_page_is_whole_and_loads_nothing(page):
    policy = next(a["content"] for _, a in page.elements if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        digest = base64.b64encode(hashlib.sha256(page.texts[tag][-1].encode()).digest()).decode()
        assert f"{rule} 'sha256-{digest}'" in policy
    for tag, attributes in page.elements:
        for name in attributes:
            assert not name.startswith("on"), f"{tag} has {name}"
            loads = name in LOADING and not re.match(r"#|data:,", attributes[name] or "")
            assert not loads, f"{tag} loads {attributes[name]}"
    assert not re.search(r"url\(|@import|https?:", page.texts["style"][0] + page.texts["script"][1])


def test_hostile_names_are_text(shown, page):
    """No element comes of a name: neither of a sample's, nor of a failure's."""
    assert [a for tag, a in page.elements if tag == "img" and a.get("src") == "x"] == []
    keys = [key.decode() for key in shown.rows["key"]]
    assert [item["key"] for item in page.data["items"]] == keys
    failed = [key.decode() for key in shown.rows["failure/key"]]
    assert len(failed) == 4
    assert set(failed) < set(page.texts["bdi"])


def test_dots_of_a_legend_are_not_before_names_of_files(page):
    assert any(one.get("class") == "key" for _, one in page.elements)
    assert not re.search(r"\.key[^-\w{][^{]*::before|\.key::before", page.texts["style"][0])


def test_the_page_tells_the_account(page):
    assert "The account is closed: 74 listed = 70 ok + 4 failed." in page.words
    assert "empty decode 4" in page.words
    assert "Unfinished" not in page.words


def test_items_are_the_rows(shown, page):
    rows = shown.rows
    for i, item in enumerate(page.data["items"]):
        assert item["sample"] == rows["sample"][i]
        assert item["label"] == (None if rows["label"][i] < 0 else rows["label"][i])
        assert item["flags"] == rows["flags"][i]
        assert [p["number"] for p in item["predictions"]] == rows["top_class"][i].tolist()
        assert [p["score"] for p in item["targets"]] == rows["score"][i].tolist()
        assert [item["height"], item["width"]] == rows["image_size"][i].tolist()
        assert item["pictures"]["note"] is None


def test_every_layer_and_target_has_its_heatmap(shown, page):
    assert page.data["layers"] == [layer.name.replace("/", ".") for layer in LAYERS]
    for i in (0, 1, 5, 33, 69):
        item = page.data["items"][i]
        size = view_size(shown.rows["crop"][i])
        for layer, heats in zip(page.data["layers"], item["pictures"]["heat"]):
            maps = shown.rows[f"cam/{layer}/map"][i].astype(np.float32)
            assert len(heats) == len(maps) == 2
            for k, uri in enumerate(heats):
                expected = colour_table("jet")[heatmap_u8(maps[k : k + 1], size)[0]].astype(int)
                found = pixels(uri)
                assert found.shape[:2] == size
                assert np.abs(found - expected).mean() < 12  # WebP halves the colours' resolution


def test_average_maps(shown, page):
    with opened_run(shown.paths, photographs=False) as opened:
        means = export.class_means(opened.run.select(flags=0), "last")
    found = {m["number"]: m for m in page.data["means"]["last"]}
    assert {n: m["count"] for n, m in found.items()} == dict(zip(means.classes, means.counts))
    for number, mean in zip(means.classes.tolist(), means.maps.astype(np.float32)):
        picture = pixels(found[number]["picture"])
        expected = colour_table("jet")[heatmap_u8(mean[None], picture.shape[:2])[0]].astype(int)
        assert np.abs(picture - expected).mean() < 12


@pytest.mark.parametrize("resize", ["crop", "pad", "squash"])
def test_a_photograph_shows_what_the_network_saw(tmp_path, resize):
    """As imaging.view makes it, but for the colour of the padding and rounding."""
    made = make_shown_run(tmp_path, shards=(12,), resize=resize)
    with opened_run(made.paths, photographs=True) as opened:
        for row in range(12):
            picture = picture_of(int(made.rows["sample"][row]))
            found = opened.photographs.view(opened.run, row)
            if min(found.shape[:2]) < 20:  # hardly a picture
                continue
            settings = Preprocessing(*found.shape[:2], (127,) * 3, (1,) * 3, resize)
            expected = view(picture, settings).pixels
            assert found.shape == expected.shape
            assert np.abs(found.astype(int) - expected).mean() < 6, picture.shape


def test_large_jpeg_files_are_read_no_larger_than_shown(tmp_path):
    """A quarter of the resolution is decoded, and the same part of it shown."""
    made = make_shown_run(tmp_path, shards=(1,), keys="{}.png")
    rng = np.random.default_rng(0)
    large = cv2.resize(rng.integers(0, 256, (5, 7, 3)).astype(np.uint8), (1801, 1203))
    cv2.imwrite(str(tmp_path / "photos" / "0.jpg"), large[..., ::-1])
    (tmp_path / "photos" / "0.jpg").replace(tmp_path / "photos" / "0.png")

    class Rows(dict):
        """A run of that picture, of which the network saw a part."""

    crop = np.array([100, 300, 1100, 1700], np.float32)
    run = Rows(sample=[0], crop=[crop], image_size=[np.array([1203, 1801])])
    with opened_run(made.paths, photographs=True) as opened:
        found = opened.photographs.view(run, 0)
    expected = cut(large, crop, GREY, view_size(crop))
    assert found.shape == expected.shape == (160, 224, 3)
    assert np.abs(found.astype(int) - expected).mean() < 3


def test_a_source_that_is_gone_leaves_the_heatmaps(tmp_path):
    made = make_shown_run(tmp_path, shards=(5,))
    shutil.rmtree(tmp_path / "photos")
    page = written(made.paths, tmp_path / "page.html")
    assert f"There are no photographs: {tmp_path / 'photos'}: no such file" in page.words
    for item in page.data["items"]:
        assert item["pictures"]["photo"] is None
        assert len(item["pictures"]["heat"]) == 2


def test_photographs_that_changed_or_are_broken_are_not_shown(tmp_path):
    made = make_shown_run(tmp_path, shards=(4,), keys="{}.png")
    cv2.imwrite(str(tmp_path / "photos" / "1.png"), np.zeros((7, 7, 3)))
    (tmp_path / "photos" / "2.png").write_bytes(b"no picture")
    (tmp_path / "photos" / "3.png").unlink()
    page = written(made.paths, tmp_path / "page.html")
    notes = [item["pictures"]["note"] for item in page.data["items"]]
    assert notes[0] is None
    assert notes[1] == "the picture has changed: it was 60x80 pixels"
    assert notes[2].startswith("not a JPEG/PNG")
    assert notes[3] == "No such file or directory"


def test_no_photographs_reads_nothing_of_the_source(tmp_path):
    made = make_shown_run(tmp_path, shards=(4,))
    page = written(made.paths, tmp_path / "page.html", photographs=False)
    assert "The photographs were not asked for." in page.words
    assert all(item["pictures"]["photo"] is None for item in page.data["items"])


def test_a_listing_that_is_gone_is_told(tmp_path):
    made = make_shown_run(tmp_path, shards=(4,))
    made.paths.listing.unlink()
    with opened_run(made.paths, photographs=True) as opened:
        assert "listing.zip: missing" in opened.notes[0]
        with pytest.raises(NoPhotograph, match="missing"):
            opened.photographs.view(opened.run, 0)


def test_names_of_classes_are_those_that_the_run_keeps(tmp_path):
    """And never those of the file that run.json names."""
    made = make_shown_run(tmp_path, shards=(4,))
    names = tmp_path / "names <b>.txt"
    names.write_text("\n".join(f"secret {i}" for i in range(6)))
    change_options(made.paths, labels=str(names))
    kept = {str(i): f"</script><i>{i}" for i in range(6)}
    made.paths.class_names.write_text(json.dumps(kept))
    page = written(made.paths, tmp_path / "page.html")
    assert {p["name"] for item in page.data["items"] for p in item["predictions"]} == {
        f"</script><i>{i}" for i in range(6)
    }
    assert not [tag for tag, _ in page.elements if tag in ("b", "i")]
    assert "secret" not in (tmp_path / "page.html").read_text()
    made.paths.class_names.write_text("[" * 100_000)
    page = written(made.paths, tmp_path / "page.html")
    assert "class_names.json: damaged: it is nested too deep" in page.words
    made.paths.class_names.unlink()
    page = written(made.paths, tmp_path / "page.html")
    assert "The classes have no names: the run does not hold those of --labels" in page.words
    assert "secret" not in (tmp_path / "page.html").read_text()
    assert page.data["items"][0]["predictions"][0]["name"].startswith("class ")


def test_int8_is_told_with_its_agreement(tmp_path):
    made = make_shown_run(tmp_path, shards=(2,))
    compared = {
        "top1_agreement": 0.75,
        "map_correlation": 0.9,
        "correlations": [0.8, 1, 0.85, 0.95],
    }
    stored = {"ranges": {}, "keep_first": True, "images": 4, "held_out": 4, **compared}
    (made.paths.root / "calibration.json").write_text(json.dumps(stored))
    assert "Computed in" not in written(made.paths, tmp_path / "page.html").words
    change_options(made.paths, precision="int8")
    words = written(made.paths, tmp_path / "page.html").words
    told = "on 4 other images: first class 75% (95 % interval 30% to 95%), maps correlate 0.900"
    assert f"Computed in int8; agreement with float32 {told}, 0.800 at least." in words
    del stored["correlations"]  # as earlier versions wrote it
    (made.paths.root / "calibration.json").write_text(json.dumps(stored))
    assert f"{told}." in written(made.paths, tmp_path / "page.html").words


def test_heatmaps_have_the_colours_of_the_run(tmp_path):
    made = make_shown_run(tmp_path, shards=(2,))
    change_options(made.paths, colormap="viridis", alpha=0.3)
    page = written(made.paths, tmp_path / "page.html")
    levels = heatmap_u8(made.rows["cam/last/map"][1, :1].astype(np.float32), (112, 112))[0]
    table = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_VIRIDIS)
    found = pixels(page.data["items"][1]["pictures"]["heat"][1][0]).reshape(-1, 3).astype(int)
    expected = table[levels][..., 0, ::-1].reshape(-1, 3)
    assert np.abs(found.mean(axis=0) - expected.mean(axis=0)).max() < 12
    sliders = [a["value"] for _, a in page.elements if a.get("type") == "range"]
    assert sliders == ["30", "30"]


def test_stage_times_are_those_of_the_event_log(tmp_path):
    made = make_shown_run(tmp_path, shards=(2,))
    assert "The run has no event log." in written(made.paths, tmp_path / "page.html").words
    log = EventLog(made.paths)
    for seconds in ({"decode": 2.0, "wait": 1.0}, {"decode": 3.0, "wait": 0.5, "write": 0.1}):
        log.append(ShardDone(0, "a", 3, 0, True, 3.0, seconds))
    log.close()
    words = written(made.paths, tmp_path / "page.html").words
    assert "decode 5.0 s wait 1.5 s write 0.1 s" in words
    assert "decode-bound: the network waits for it 94% of the time" in words


def test_a_run_at_work_names_who_works(tmp_path):
    made = make_shown_run(tmp_path, shards=(4, 3))
    made.paths.shard(1).unlink()
    with made.paths.lock():
        words = written(made.paths, tmp_path / "page.html").words
    assert f"process {os.getpid()} on " in words
    assert "resumes the run" not in words


def stamps(root):
    """When everything below a folder was last changed."""
    return {path: path.stat().st_mtime_ns for path in (root, *root.rglob("*"))}


def test_an_unfinished_run_is_shown_as_far_as_it_is(tmp_path):
    """And only read: who looks at a run may have no right to write, and must not disturb it."""
    made = make_shown_run(tmp_path, shards=(4, 3, 5))
    made.paths.shard(1).unlink()
    made.paths.index.unlink()
    before = stamps(made.paths.root)
    page = written(made.paths, tmp_path / "page.html")
    assert stamps(made.paths.root) == before
    assert "2 of 3 shards done, with 11 of 15 images" in page.words
    assert "to do 4" in page.words
    assert "11 listed = 9 ok + 2 failed" in page.words
    assert "The account is closed" not in page.words
    assert [item["sample"] for item in page.data["items"]] == [0, 1, 2, 3, 9, 10, 11, 12, 13]


def test_a_run_with_all_its_shards_and_no_index_is_shown(tmp_path):
    made = make_shown_run(tmp_path, shards=(4, 3))
    made.paths.index.unlink()
    page = written(made.paths, tmp_path / "page.html")
    assert [item["sample"] for item in page.data["items"]] == made.rows["sample"].tolist()
    assert not made.paths.index.exists()


def test_one_shard_and_an_index_of_before_are_enough(tmp_path):
    made = make_shown_run(tmp_path, shards=(4, 3))
    made.paths.shard(1).unlink()
    before = stamps(made.paths.root)
    page = written(made.paths, tmp_path / "page.html")
    assert [item["sample"] for item in page.data["items"]] == [0, 1, 2, 3]
    assert stamps(made.paths.root) == before


def test_a_run_without_maps_or_samples(tmp_path):
    """Nothing but failures: there is still a page."""
    made = make_shown_run(tmp_path, shards=(0, 0))
    page = written(made.paths, tmp_path / "page.html")
    assert page.data["items"] == []
    assert "2 listed = 0 ok + 2 failed" in page.words


def test_memory_does_not_grow_with_the_maps(tmp_path):
    """Twelve more shards have 1.7 MB of maps; their columns have 80 KB."""
    peaks = []
    for count in (4, 16):
        made = make_run(tmp_path / str(count), (500,) * count, failures=0)
        with opened_run(made.paths, photographs=False) as opened:
            write_page(opened, tmp_path / "warm.html", 5)
            tracemalloc.start()
            write_page(opened, tmp_path / "page.html", 5)
            read_columns(opened.run)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] - peaks[0] < 700_000


def test_the_command(shown, tmp_path):
    code, out, err = shardcam("report", shown.paths.root, "--sample", 12)
    assert (code, err) == (0, "")
    path = shown.paths.root / "report.html"
    assert f"look at {path}  (12 of 70 images shown, " in out
    assert len(Page(path.read_text()).data["items"]) == 12
    assert "12 of 70 images, drawn evenly" in Page(path.read_text()).words
    for named in ((), ("--out", os.path.relpath(path))):
        path.write_text("of before")  # a part of the run, as its index is
        assert shardcam("report", shown.paths.root, "--sample", 12, *named)[0] == 0
        assert len(Page(path.read_text()).data["items"]) == 12
    mine = tmp_path / "mine.html"
    mine.write_text("mine")
    code, _, err = shardcam("report", shown.paths.root, "--out", mine)
    assert (code, err.count("\n"), mine.read_text()) == (2, 1, "mine")
    assert "exists; --force replaces it" in err
    assert shardcam("report", shown.paths.root, "--out", mine, "--force")[0] == 0
    assert len(Page(mine.read_text()).data["items"]) == 70


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--port", 0), "--port is for --serve"),
        (("--serve", "--sample", 3), "--out and --sample are for a file"),
        (("--out", "nowhere/x.html"), "there is no folder nowhere"),
        (("--sample", 0), "0 is not in the range x>=1"),
    ],
    ids=str,
)
def test_wrong_usage_is_one_line(shown, arguments, words):
    code, _, err = shardcam("report", shown.paths.root, *arguments)
    assert code == 2
    assert words in err.splitlines()[-1]


def test_what_is_no_run_is_one_line(tmp_path):
    code, _, err = shardcam("report", tmp_path)
    assert (code, err.count("\n")) == (2, 1)
    assert "not a run directory" in err
    made = make_shown_run(tmp_path, shards=(4,))
    for path in RunDir(made.paths.root).shards.glob("*.h5"):
        path.unlink()
    code, _, err = shardcam("report", made.paths.root)
    assert (code, err.count("\n")) == (1, 1)
    assert "no shard is done yet" in err
    assert not (made.paths.root / "report.html").exists()


@pytest.mark.slow
def test_a_wheel_holds_the_templates(tmp_path):
    """Who installs shardcam has all of the page."""
    project = shutil.copytree(ROOT, tmp_path / "project", ignore=lambda *_: IGNORED)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, project]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(ZipFile(wheel).namelist())
    parts = {f"shardcam/{p.relative_to(ROOT).as_posix()}" for p in (ROOT / TEMPLATES).iterdir()}
    assert len(parts) > 5
    assert parts <= held


def test_photographs_need_no_run_to_be_shardcam(shown):
    """The reason is said once, not for each photograph."""
    config_gone = shown.paths.root / "elsewhere"
    from shardcam.engine.config import RunConfig

    config = RunConfig(source=str(config_gone), model="m.onnx", out="x")
    assert "no such file or folder" in Photographs(shown.paths, config).missing
