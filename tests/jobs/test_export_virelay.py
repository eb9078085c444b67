"""A project for ViRelAy: by plain h5py, and in ViRelAy 0.6.1's own loader."""

import json
import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from PIL import Image

from shardcam import open_run
from shardcam.kernels import upsample
from tests.analysis.test_export_readers import READERS
from tests.jobs.command import SMALL, shardcam
from tests.jobs.images import make_folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of 24 lossless pictures of 32x32 in shards of seven, with labels."""
    base = tmp_path_factory.mktemp("virelay")
    make_folder(base / "jpeg", 24)
    for i, path in enumerate(sorted((base / "jpeg").rglob("*.jpg"))):
        place = base / "pictures" / f"class{i % 2}" / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).resize((32, 32)).save(place)
    code, _, err = shardcam(
        *("extract", base / "pictures", *SMALL, "--out", base / "run", "--executor", "local"),
        *("--shard-size", 7, "--label-from-folder", "--save", "maps,logits"),
    )
    assert code == 0, err
    return base / "run"


def export(run, out, *more):
    code, text, err = shardcam("export", run, "--to", "virelay", "--out", out, *more)
    assert (code, err) == (0, "")
    return text


def view_of(run, key):
    return np.asarray(Image.open(run.parent / "pictures" / key))


def test_dataset_and_attributions(made, tmp_path):
    assert "4 files of " in (text := export(made, tmp_path / "out"))
    assert "analyses: none; see shardcam cluster" in text
    project = yaml.safe_load((tmp_path / "out" / "project.yaml").read_text())["project"]
    assert "analyses" not in project
    assert project["attributions"]["attribution_strategy"] == "predicted_label"
    with (
        open_run(made) as run,
        h5py.File(tmp_path / "out" / "dataset.h5") as dataset,
        h5py.File(tmp_path / "out" / "attributions.h5") as attributions,
    ):
        raw = run.cam(run.layers[0])[:, 0]
        found = attributions["attribution"][:]
        np.testing.assert_array_equal(found[:, 0], upsample(raw, (32, 32)))
        assert found.shape == (24, 2, 32, 32) and not found[:, 1].any()
        np.testing.assert_array_equal(attributions["prediction"][:], run["logits"][:])
        for i, key in enumerate(run.keys):
            np.testing.assert_array_equal(dataset["data"][i], view_of(made, key))
        for file in (dataset, attributions):
            np.testing.assert_array_equal(file["label"][:], run["label"][:])
        labels = json.loads((tmp_path / "out" / "labels.json").read_text())
        assert {one["index"] for one in labels} == {-1, *range(run["logits"].shape[1])}


def test_it_goes_on_and_has_the_clusters_of_the_run(made, tmp_path):
    run = shutil.copytree(made, tmp_path / "run")
    shutil.copytree(made.parent / "pictures", tmp_path / "pictures")
    out = tmp_path / "out"
    export(run, out)
    (out / "attributions.h5").unlink()
    before = (out / "dataset.h5").stat().st_mtime_ns
    assert "3 files of " in export(run, out)
    assert (out / "dataset.h5").stat().st_mtime_ns == before
    for by in ("label", "all"):
        code, _, err = shardcam("cluster", run, "--by", by, "--executor", "local")
        assert code == 0, err
    code, _, err = shardcam("export", run, "--to", "virelay", "--out", out)
    assert code == 2
    assert "holds another export (clusters: none there, all,label now); --force" in err
    assert "analyses: all, label" in export(run, out, "--force")
    with open_run(run) as opened, h5py.File(out / "analysis-label.h5") as analysis:
        found = opened.clusters["label"].cluster
        assert list(analysis) == ["00000000", "00000001"]
        for number, group in enumerate(analysis.values()):
            rows = group["index"][:]
            assert set(opened["label"][:][rows].tolist()) == {number}
            np.testing.assert_array_equal(group["cluster/kmeans"][:], found[rows])
            vectors = group["embedding/spectral"]
            assert len(vectors.attrs["eigenvalue"]) == vectors.shape[1]


def write_truth(run, out):
    with open_run(run) as opened:
        np.savez(
            out / "truth.npz",
            labels=opened["label"][:],
            view=np.stack([view_of(run, key) for key in opened.keys]),
            map=upsample(opened.cam(opened.layers[0])[:, 0], (32, 32)),
            top=opened["top_class"][:, 0],
            methods=np.array(list(opened.clusters)),
            **{name: one.cluster for name, one in opened.clusters.items()},
        )


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.skipif(READERS is None, reason="make test-all has ViRelAy")
@pytest.mark.parametrize("clustered", [False, True])
def test_virelay_opens_it(made, tmp_path, clustered):
    run, out = shutil.copytree(made, tmp_path / "run"), tmp_path / "out"
    shutil.copytree(made.parent / "pictures", tmp_path / "pictures")
    for by in ("label", "predicted", "all") if clustered else ():
        code, _, err = shardcam("cluster", run, "--by", by, "--executor", "local")
        assert code == 0, err
    export(run, out)
    write_truth(run, out)
    script = Path(__file__).with_name("read_virelay.py")
    done = subprocess.run([READERS, script, out], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("read" + " all label predicted" * clustered)
