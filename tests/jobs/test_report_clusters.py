"""A report shows clusters as they are stored, bounded in size, and says what it leaves out."""

import json
import shutil

import numpy as np
import pytest

import shardcam as product
from shardcam.engine.rundir.colormaps import colour_table
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.jobs.gallery.cluster_views import (
    FILE_CLASSES,
    FILE_PICTURES,
    POINTS,
    WIDEST,
    apart,
    class_view,
    file_classes,
    file_rows,
    thinned,
)
from shardcam.jobs.gallery.gallery_run import opened_run
from shardcam.jobs.gallery.heatmap_pictures import data_uri, draw_mean
from shardcam.jobs.gallery.html_file import write_page
from shardcam.jobs.gallery.run_clusters import SHOWN, ClassClusters, Cluster, RunClusters
from shardcam.jobs.gallery.server import Pages
from tests.jobs.shown import make_shown_run
from tests.jobs.test_report import Page


def make_clustered(base):
    """A run of 70 rows in two clusterings: maps by label, and pooled activations of all."""
    made = make_shown_run(base)
    run = made.paths.root
    product.cluster(run, by="label", clusters=2, executor="local")
    product.cluster(run, by="all", of="pooled", clusters=3, executor="local")
    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_clustered(tmp_path_factory.mktemp("clustered"))


@pytest.fixture
def run(made, tmp_path):
    """A copy to damage."""
    return shutil.copytree(made, tmp_path / "run")


def written(run, path, sample=1000):
    with opened_run(RunDir(run), photographs=False) as opened:
        write_page(opened, path, sample)
    return Page(path.read_text())


def served(run):
    """The page whose pictures are asked for: it draws none."""
    with opened_run(RunDir(run), photographs=False) as opened:
        return Page(Pages(opened).answer("/").body.decode())


@pytest.fixture(scope="module")
def page(made, tmp_path_factory):
    return written(made, tmp_path_factory.mktemp("page") / "page.html")


@pytest.fixture(scope="module")
def pages(made):
    with opened_run(RunDir(made), photographs=False) as opened:
        yield Pages(opened)


def summary_of(run):
    return json.loads((run / "clusters" / "summary.json").read_text())


def change_summary(run, change):
    stored = summary_of(run)
    change(stored)
    (run / "clusters" / "summary.json").write_text(json.dumps(stored))


def clustering(page, name):
    (found,) = (one for one in page.data["clusterings"] if one["name"] == name)
    return found


def test_clusters_are_those_of_the_summary(made, page):
    stored = summary_of(made)["label"]["classes"]
    held = clustering(page, "label")["held"]
    assert held.keys() == stored.keys() == {"0", "1", "2"}
    ranks = []
    for number, view in held.items():
        assert [view["count"], view["left_out"]] == [
            stored[number][name] for name in ("count", "left_out")
        ]
        figures = ("count", "unlikeness", "apart", "joined", "spread", "right", "score")
        for shown, one in zip(view["clusters"], stored[number]["clusters"], strict=True):
            assert shown["number"] == one["cluster"]
            assert [shown[name] for name in figures] == [one[name] for name in figures]
            assert f"{one['count']} of {view['count']} {one['unlikeness']:.2f}" in page.words
            ranks.append((shown["rank"], -one["unlikeness"]))
    assert [rank for rank, _ in sorted(ranks)] == list(range(1, len(ranks) + 1))
    assert np.all(np.diff([unlike for _, unlike in sorted(ranks)]) >= 0)


def test_maps_pictures_and_points_are_those_that_are_stored(made, page):
    shown = {item["row"] for item in written(made, made / "few.html", sample=1).data["items"]}
    colours = colour_table("jet")
    with product.open_run(made) as run:
        stored, samples = run.clusters["label"], run["sample"][:]
        for number, view in clustering(page, "label")["held"].items():
            arrays = stored.of_class(int(number))
            for one in view["clusters"]:
                assert bool(one["farthest"]) == (one["count"] > len(one["nearest"]))
                for name in ("mean", "deviation"):
                    drawn = draw_mean(arrays[f"of_cluster/{name}"][one["number"]], colours)
                    assert one[name] == data_uri(drawn)
                for name in ("nearest", "farthest"):
                    expected = arrays[f"of_cluster/{name}"][one["number"]]
                    others = samples[one["nearest"]] if name == "farthest" else []
                    assert samples[one[name]].tolist() == [
                        one for one in expected if one >= 0 and one not in others
                    ]
                    assert set(one[name]) <= shown, "pictures are in the file, however few others"
            points = view["points"]
            assert samples[points["row"]].tolist() == arrays["sample"].tolist()
            assert points["cluster"] == arrays["cluster"].tolist()
            falling = np.sort(arrays["outlier"])[::-1][: len(view["outliers"])]
            np.testing.assert_array_equal(stored.outlier[view["outliers"]], falling)


def test_pooled_activations_have_no_map(page):
    (view,) = clustering(page, "all-pooled")["held"].values()
    assert {one["mean"] for one in view["clusters"]} == {None}
    assert len(view["clusters"]) == 3 and view["name"] == "all"


def test_items_say_where_they_belong_and_how_far_out_they_are(made, page):
    with product.open_run(made) as run:
        label, stored = run["label"][:], run.clusters
        for item in page.data["items"]:
            row = item["row"]
            pooled, own = stored["all-pooled"].cluster[row], stored["label"].cluster[row]
            assert item["clusters"] == [[0, pooled], [label[row], own]]
    assert page.data["measures"] == ["outlier (all-pooled)", "outlier (label)"]


def items_of(pages, query):
    answer = pages.answer(f"/items?{query}")
    assert answer.status == 200, answer.body
    found = json.loads(answer.body)
    return found["total"], [item["row"] for item in found["items"]]


@pytest.mark.parametrize("cluster", [0, 1, -1])
def test_pictures_are_filtered_by_cluster(made, pages, cluster):
    with product.open_run(made) as run:
        chosen = run.select(label=1, cluster=cluster, clustering="label")
        expected = np.flatnonzero(np.isin(run["sample"][:], chosen["sample"][:])).tolist()
    assert items_of(pages, f"group=1:1&cluster={cluster}") == (len(expected), expected[:24])
    assert expected


def test_a_class_is_a_filter_too(pages):
    every = [items_of(pages, f"group=1:1&cluster={one}")[0] for one in (0, 1, -1)]
    assert items_of(pages, "group=1:1")[0] == sum(every)


def test_the_server_gives_a_class_and_rows(pages, page):
    answer = pages.answer("/clusters/1/2")
    assert json.loads(answer.body) == clustering(page, "label")["held"]["2"]
    found = json.loads(pages.answer("/rows?rows=5,3,5").body)
    assert [item["row"] for item in found] == [5, 3, 5]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/clusters/1/7", 404),
        ("/clusters/2/0", 404),
        ("/items?group=2:0", 404),
        ("/items?group=1", 400),
        ("/items?group=a:b", 400),
        ("/items?group=1:1&cluster=x", 400),
        ("/items?cluster=1", 400),
        ("/rows", 400),
        ("/rows?rows=99999", 404),
        ("/rows?rows=" + ",".join(["1"] * 65), 400),
    ],
)
def test_bad_questions_are_answered(pages, path, status):
    assert pages.answer(path).status == status


def without_classes(stored):
    del stored["label"]["classes"]


DAMAGE = {
    "no classes": without_classes,
    "a number": lambda s: s["label"]["classes"]["1"]["clusters"][0].update(unlikeness="high"),
    "no clusters": lambda s: s["label"]["classes"].update({"1": []}),
    "rows": lambda s: s["label"]["classes"]["1"]["clusters"][0].update(nearest="all"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_clustering_is_told_and_the_other_is_shown(run, damage):
    change_summary(run, DAMAGE[damage])
    page = served(run)
    told = "The clusters label are not shown: clusters/summary.json: label: damaged: "
    assert told in page.words
    assert [one["name"] for one in page.data["clusterings"]] == ["all-pooled"]


@pytest.mark.parametrize("text", ["nothing", "[]", '{"../../gini": {}}'])
def test_a_damaged_summary_is_told(run, text):
    (run / "clusters" / "summary.json").write_text(text)
    page = served(run)
    assert "are not shown: " in page.words
    assert page.data["clusterings"] == []


def test_damaged_rows_are_told(run):
    (run / "clusters" / "label" / "rows.h5").write_bytes(b"no HDF5")
    page = served(run)
    assert "The clusters label are not shown: " in page.words


def test_a_damaged_class_is_told(run, tmp_path):
    (run / "clusters" / "label" / "shards" / "shard-000001.h5").write_bytes(b"no HDF5")
    page = written(run, tmp_path / "page.html")
    assert "The clusters are not shown: " in page.words and "shard-000001.h5" in page.words
    assert page.data["clusterings"] == []
    with opened_run(RunDir(run), photographs=False) as opened:
        answer = Pages(opened).answer("/clusters/1/1")
    assert answer.status == 500 and b"shard-000001.h5: unreadable" in answer.body


def test_names_that_would_be_markup_are_text(run):
    hostile = "<img src=x onerror=alert(1)>"
    change_summary(run, lambda s: s["label"].update(layer=hostile))
    page = served(run)
    assert [a for tag, a in page.elements if tag == "img" and a.get("src") == "x"] == []
    assert f"maps of {hostile}" in page.words


def test_points_are_thinned_evenly_and_of_small_clusters_more():
    clusters = np.zeros(100_000, np.int32)
    clusters[5::3000] = 1
    kept = thinned(clusters, 2000)
    assert kept[clusters == 1].all()
    of_large = np.flatnonzero(kept & (clusters == 0))
    assert 1990 <= len(of_large) <= 2000
    assert np.ptp(np.diff(of_large)) <= 2
    assert thinned(np.arange(5000), 2000).sum() <= 2000
    assert not thinned(np.empty(0, np.int32), 2000).any()


class Stored:
    """A class of many rows, each in a place of its own."""

    def of_class(self, number):
        rows = np.arange(100_000)
        place = np.random.default_rng(number).random((len(rows), 2), np.float32)
        return {"sample": rows, "cluster": rows % 40, "embedding": place}


def made_of(classes, rows, clusters):
    """A clustering of many classes, each with clusters with 24 pictures."""
    every = {}
    for number in range(classes):
        some = tuple(
            Cluster(i, 1, 24, 0, 0, 0, 0, None, None, False, [*range(i, i + 12)], [*range(12)])
            for i in range(clusters)
        )
        every[number] = ClassClusters(number, "x", rows, {}, 0, some)
    columns = np.zeros(rows, np.int32), np.arange(rows) % 40, np.ones(rows, np.float32)
    return RunClusters("x", "all", "maps", "l", 0, every, *columns, Stored(), np.arange(rows))


def test_what_is_sent_of_a_large_class_is_bounded():
    view = class_view(made_of(1, 100_000, 100), 0, colour_table("jet"))
    assert len(view.points.row) <= POINTS + 1000
    assert (len(view.clusters), view.others) == (SHOWN, 100 - SHOWN)
    assert view.of == 100_000


def test_what_a_file_holds_is_bounded():
    every = [made_of(1000, 2000, 30)] * 2
    assert [len(classes) for classes in file_classes(every)] == [FILE_CLASSES // 2] * 2
    assert 0 < len(file_rows(every)) <= FILE_PICTURES
    assert len(file_rows([])) == 0


def test_points_in_one_place_are_spread():
    places = apart(np.zeros((500, 2)) + 300)
    assert len(np.unique(places.round(3), axis=0)) == 500
    assert np.hypot(*(places - 300).T).max() <= WIDEST
    alone = np.array([[1.0, 2], [700, 4]])
    np.testing.assert_array_equal(apart(alone), alone)
