"""`shardcam cluster`: what it writes, resumes, refuses and tells."""

import csv
import json
import re
import shutil
import signal
import sys
import time

import fsspec
import h5py
import numpy as np
import pytest

import shardcam as product
from shardcam.engine.clusters import clustering
from shardcam.engine.errors import ConfigError, RunDirectoryError
from shardcam.engine.rundir import results_folder
from tests.jobs.command import SMALL, shardcam, shardcam_process, start
from tests.jobs.images import make_folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of 40 pictures in five shards, with labels."""
    folder = tmp_path_factory.mktemp("clustered")
    make_folder(folder / "pictures", 40)
    code, _, err = shardcam(
        "extract", folder / "pictures", *SMALL, "--out", folder / "run", "--executor", "local",
        "--shard-size", 8, "--save", "maps,pooled", "--label-from-folder",
    )  # fmt: skip
    assert code == 0, err
    return folder / "run"


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def cluster(run, *more, by="label"):
    return shardcam("cluster", run, "--by", by, "--executor", "local", *more)


def shards(run, name):
    return {p.name: p.read_bytes() for p in sorted((run / "clusters" / name).glob("shards/*.h5"))}


def test_clusters_are_columns_of_the_run(run):
    code, out, err = cluster(run, "--clusters", 3, "--csv", run.parent / "table.csv", by="all")
    assert code == 0, err
    assert "3 clusters of 1 class" in out
    summary = json.loads((run / "clusters" / "summary.json").read_text())["all"]
    clusters = summary["classes"]["0"]["clusters"]
    with product.open_run(run) as opened:
        found = opened.clusters["all"]
        table = opened.table
        assert table["cluster"].tolist() == found.cluster.tolist()
        assert {"outlier", "embedding_0", "embedding_1"} <= set(table)
        assert found.embedding.shape == (len(opened), 2)
        for one in clusters:
            chosen = opened.select(cluster=one["cluster"])
            assert len(chosen) == one["count"] == (found.cluster == one["cluster"]).sum()
            assert set(one["nearest"]) <= set(chosen["sample"][:].tolist())
            near, far = (
                found.distance[np.isin(opened["sample"][:], one[name])]
                for name in ("nearest", "farthest")
            )
            assert near.min() <= far.min() and near.max() <= far.max()
            scores = chosen["score"][:, 0].astype(float)
            assert one["score"] == pytest.approx(scores.mean(), abs=1e-6)
        assert sum(one["count"] for one in clusters) == (found.cluster >= 0).sum()
        stored = found.of_class(0)
        assert stored["of_cluster/mean"].shape == (3, *opened.cam(opened.layers[0]).shape[2:])
        with pytest.raises(ConfigError, match="class 7 is not in it"):
            found.of_class(7)
    lines = (run.parent / "table.csv").read_text().splitlines()
    assert lines[0].startswith("class,name,cluster,count,unlikeness") and len(lines) == 4
    with product.open_run(run) as opened:
        key_of = dict(zip(opened["sample"][:].tolist(), opened.keys, strict=True))
    for row in csv.DictReader(lines):
        assert (row["class"], row["name"]) == ("", "all")
        nearest = [key_of[int(number)] for number in row["nearest"].split()]
        assert row["nearest_keys"].split(" | ") == nearest and nearest
    again = cluster(run, "--clusters", 3, "--csv", run.parent / "table.csv", by="all")
    assert again[0] == 2 and "table.csv: exists; --force replaces it" in again[2]


def test_json(run):
    code, out, err = cluster(run, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["name"] == "label"
    total = sum(one["count"] for one in found["classes"].values())
    assert total + sum(sum(c["left_out"].values()) for c in found["classes"].values()) == 40


def test_several_clusterings_are_named(run):
    assert cluster(run)[0] == cluster(run, "--of", "pooled", by="all")[0] == 0
    with product.open_run(run) as opened:
        assert set(opened.clusters) == {"all-pooled", "label"}
        assert {"cluster_label", "cluster_all-pooled"} <= set(opened.table)
        with pytest.raises(ConfigError, match="name one of all-pooled, label"):
            opened.select(cluster=0)
        with pytest.raises(ConfigError, match="no clustering 'x'"):
            opened.select(cluster=0, clustering="x")
        assert len(opened.select(cluster=0, clustering="all-pooled"))


def test_a_run_without_clusters_says_so(run):
    with product.open_run(run) as opened:
        assert opened.clusters == {} and "cluster" not in opened.table
        with pytest.raises(ConfigError, match="the run has no clusters; see shardcam cluster"):
            opened.select(cluster=0)


def test_the_run_is_not_touched_and_stays_good(run):
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()}
    cluster(run)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert shardcam("verify", "--deep", run)[0] == 0


def test_what_is_clustered_is_not_clustered_again(run):
    cluster(run)
    first = shards(run, "label")
    assert len(first) > 1
    (run / "clusters" / "label" / "shards" / min(first)).unlink()
    code, out, _ = cluster(run)
    assert code == 0 and f"resuming: {len(first) - 1} of {len(first)} classes done" in out
    assert shards(run, "label") == first


def test_some_classes_first(run):
    code, out, _ = cluster(run, "--classes", 1)
    assert code == 0 and "of 1 class;" in out and len(shards(run, "label")) == 1
    assert "resuming: 1 of" in cluster(run)[1]
    assert "no image has it" in cluster(run, "--classes", 99999)[2]


def test_classes_of_an_older_state_of_the_run_are_clustered_again(run):
    cluster(run)
    first = shards(run, "label")
    path = run / "clusters" / "label" / "shards" / min(first)
    with h5py.File(path, "r+") as file:
        file.attrs["source"] = "of an older state"
    code, out, _ = cluster(run)
    assert code == 0 and f"resuming: {len(first) - 1} of" in out
    assert shards(run, "label") == first


def test_other_settings_are_refused_and_replaced_when_asked(run):
    cluster(run)
    code, _, err = cluster(run, "--neighbours", 5)
    assert code == 2 and "(neighbours: 32 there, 5 now)" in err and "--replace" in err
    assert cluster(run, "--neighbours", 5, "--replace")[0] == 0
    assert cluster(run, "--neighbours", 7, "--name", "seven")[0] == 0


def test_damage_is_named_and_mended(run):
    cluster(run)
    path = next((run / "clusters" / "label" / "shards").glob("*.h5"))
    path.write_bytes(path.read_bytes()[:900])
    number = int(path.stem.removeprefix("shard-"))
    with product.open_run(run) as opened, pytest.raises(RunDirectoryError, match=path.name):
        opened.clusters["label"].of_class(number)
    assert path.name in shardcam("verify", "--deep", run)[1]
    code, _, err = cluster(run)
    assert code == 1 and path.name in err and "--replace" in err
    assert cluster(run, "--replace")[0] == 0
    assert shardcam("verify", "--deep", run)[0] == 0


def test_the_rows_of_all_classes_are_read_from_one_file(run, monkeypatch):
    cluster(run)
    rows = run / "clusters" / "label" / "rows.h5"

    def columns():
        opened_files = []
        with product.open_run(run) as opened, monkeypatch.context() as patch:
            reading = results_folder.reading
            patch.setattr(
                results_folder, "reading", lambda path: opened_files.append(path) or reading(path)
            )
            found = opened.clusters["label"].columns()
        return found, opened_files

    together, opened_files = columns()
    assert opened_files == [rows]
    whole = rows.read_bytes()
    rows.unlink()  # as while a class is being clustered
    each, opened_files = columns()
    assert opened_files == sorted(run.glob("clusters/label/shards/*.h5"))
    for name, values in each.items():
        assert np.array_equal(values, together[name], equal_nan=True)
    rows.write_bytes(whole[:900])
    assert "rows.h5: unreadable" in shardcam("verify", "--deep", run)[1]
    assert cluster(run)[0] == 0 and rows.read_bytes() == whole
    with h5py.File(rows, "r+") as file:
        file["sample"][:] = file["sample"][()][::-1]
    assert "sample is not in order" in shardcam("verify", "--deep", run)[1]


def test_what_the_run_does_not_hold_is_told_with_what_saves_it(tmp_path):
    make_folder(tmp_path / "pictures", 2)
    run = tmp_path / "run"
    shardcam("extract", tmp_path / "pictures", *SMALL, "--out", run, "--executor", "local")
    code, _, err = cluster(run, "--of", "pooled")
    told = f"{run}: has no pooled activations; extract with --save pooled"
    assert (code, err) == (2, f"shardcam: {told}\n")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--layer", "nothing"), "no maps of it; there are: two_relu"),
        (("--target", 3), "--target 3: 1 class explained of each image"),
        (("--clusters", 40), "needs --vectors 41 at least"),
        (("--classes", "a"), "takes class numbers"),
        (("--name", "../x"), "takes letters, digits"),
        (("--seed", -1), "takes a number from 0"),
        (
            ("--plane", "umap"),
            "--plane umap needs umap: install shardcam with its extra",
        ),
        (("--exact-to", 5), "has 14 images, whose neighbours are approximate: that needs pynn"),
        (
            ("--plane", "tsne"),
            "--plane tsne: compares up to 12 images, and class 0 has 14; --plane ",
        ),
        (("--clustering", "hdbscan"), "and class 0 has 14; --clustering kmeans takes any "),
    ],
)
def test_options_that_cannot_be_used(run, options, told, monkeypatch):
    monkeypatch.setattr(clustering, "MOST_ROWS", {"tsne": 12, "hdbscan": 13})
    for library in ("umap", "pynndescent"):
        monkeypatch.setitem(sys.modules, library, None)
    code, _, err = cluster(run, *options)
    assert code == 2 and told in err and err.count("\n") == 1
    assert not (run / "clusters").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"clusters": 40}, "clusters 40: needs vectors 41 at least"),
        ({"exact_to": 0}, "exact_to 0: takes a number from 1"),
        ({"exact_to": 5}, "exact_to 5: class 0 has 14 images"),
        ({"layer": "nothing"}, "layer nothing: no maps of it"),
        ({"neighbour": 3}, "neighbour: unknown option"),
    ],
)
def test_errors_of_the_function_name_its_keywords(run, options, told, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynndescent", None)
    with pytest.raises(ConfigError, match=f"^{re.escape(told)}"):
        product.cluster(run, by="label", executor="local", **options)


def test_a_clustering_that_has_no_class_yet_may_be_made_in_another_way(run):
    cluster(run)
    for path in run.glob("clusters/label/**/*.h5"):
        path.unlink()
    assert shardcam("verify", "--deep", run)[0] == 0
    assert cluster(run, "--neighbours", 5)[0] == 0


def test_a_run_at_a_url(run, s3, tmp_path, monkeypatch):
    monkeypatch.setenv("SHARDCAM_SCRATCH", str(tmp_path / "scratch"))
    cluster(run)
    fsspec.filesystem("s3").put(str(run), f"{s3.bucket}/run", recursive=True)
    fsspec.filesystem("s3").rm(f"{s3.bucket}/run/clusters", recursive=True)
    url = f"{s3.bucket}/run"
    code, _, err = cluster(url)
    assert code == 0, err
    fsspec.filesystem("s3").get(f"{url}/clusters", str(tmp_path / "found"), recursive=True)
    for name, contents in shards(run, "label").items():
        assert (tmp_path / "found" / "label" / "shards" / name).read_bytes() == contents
    with product.open_run(run) as here, product.open_run(url) as there:
        first, second = (one.clusters["label"] for one in (here, there))
        assert first.summary == second.summary
        for name, values in first.columns().items():
            assert np.array_equal(values, second.columns()[name], equal_nan=True)
        assert there.clusters["label"].of_class(0).keys() == first.of_class(0).keys()
    assert "resuming: 3 of 3 classes done" in cluster(url)[1]
    assert shardcam("verify", "--deep", url)[0] == 0


@pytest.mark.ray
def test_many_classes_on_ray(run):
    cluster(run)
    here = shards(run, "label")
    code, _, err = shardcam_process(
        "cluster", run, "--by", "label", "--name", "far", "--executor", "ray", "--workers", 2
    )
    assert code == 0, err
    there = shards(run, "far")
    assert there.keys() == here.keys()
    for name in here:
        with (
            h5py.File(run / "clusters" / "label" / "shards" / name) as one,
            h5py.File(run / "clusters" / "far" / "shards" / name) as other,
        ):
            for column in ("sample", "cluster", "embedding", "outlier", "of_cluster/unlikeness"):
                assert np.array_equal(one[column][()], other[column][()]), column


def test_predicted_classes(run):
    code, _, err = cluster(run, by="predicted")
    assert code == 0, err
    with product.open_run(run) as opened:
        found, predicted = opened.clusters["predicted"], opened["top_class"][:, 0]
        assert set(map(int, found.summary["classes"])) == set(predicted.tolist())


@pytest.mark.process
def test_killed_and_resumed_equals_undisturbed(run, tmp_path):
    cluster(run, "--plane", "tsne")
    undisturbed = shards(run, "label")
    other = shutil.copytree(run, tmp_path / "other")
    shutil.rmtree(other / "clusters")
    process = start("cluster", other, "--by", "label", "--executor", "local", "--plane", "tsne")
    deadline = time.monotonic() + 120
    while not shards(other, "label") and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert shards(other, "label")
    code, _, err = cluster(other, "--plane", "tsne")
    assert code == 0, err
    assert shards(other, "label") == undisturbed


def test_maps_of_images_at_their_own_sizes_are_refused_and_pooled_activations_taken(tmp_path):
    make_folder(tmp_path / "pictures", 12)
    code, _, err = shardcam(
        "extract", tmp_path / "pictures", "--model", "efficientnet_lite0", "--resize", "none",
        "--out", tmp_path / "run", "--executor", "local", "--save", "maps,pooled",
    )  # fmt: skip
    assert code == 0, err
    code, _, err = cluster(tmp_path / "run", by="all")
    assert code == 2 and "--resize none" in err and "--of pooled" in err and err.count("\n") == 1
    code, _, err = cluster(tmp_path / "run", "--of", "pooled", by="all")
    assert code == 0, err
