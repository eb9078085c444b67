"""Images whose logits are not numbers have no class, and are never right."""

import shutil

import h5py
import mxnet as mx
import numpy as np
import pytest

from shardcam import export, open_run
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.jobs.gallery.gallery_run import opened_run
from shardcam.jobs.gallery.server import Pages
from tests.jobs.command import CHECKPOINT, contents, shardcam
from tests.jobs.images import make_folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Of a network whose logits overflow."""
    base = tmp_path_factory.mktemp("no-class")
    shutil.copy(CHECKPOINT, base / "net-symbol.json")
    weights = mx.nd.load(str(CHECKPOINT.with_name("small-0000.params")))
    weights["arg:two_weight"] *= 1e6
    weights["arg:dense_weight"] *= 1e37
    mx.nd.save(str(base / "net-0000.params"), weights)
    make_folder(base / "images" / "0", 3)
    make_folder(base / "images" / "1", 3)
    code, out, err = shardcam(
        *("extract", base / "images", "--model", base / "net-symbol.json", "--image-size", 32),
        *("--out", base / "run", "--label-from-folder", "--save", "maps,logits,overlays"),
        *("--shard-size", 4, "--executor", "local"),
    )
    assert code == 0, err
    assert out.count("no class") == 6
    told = " ".join(out.split())
    assert "6 of 6 images: non-finite map; the network's outputs or gradients are not" in told
    assert "look at --mean, --std and the network" in told
    return base / "run"


def test_it_is_stored_so(run):
    rows = contents(run)
    assert not np.isfinite(rows["logits"].max(axis=1)).any()
    assert (rows["top_class"] == -1).all()
    assert (rows["target"] == -1).all()
    assert np.isnan(rows["top_score"]).all()
    assert np.isnan(rows["score"]).all()
    assert (rows["flags"] == 1).all()
    assert all(path.stem.endswith("two_relu-none") for path in (run / "overlays").iterdir())


@pytest.fixture
def of_first_version(run, tmp_path):
    """As version 0.1.0 stored it."""
    old = shutil.copytree(run, tmp_path / "run")
    for shard in (old / "shards").glob("*.h5"):
        with h5py.File(shard, "r+") as file:
            file["top_class"][:], file["target"][:] = range(5), 0
    return old


@pytest.mark.parametrize("version", ["run", "of_first_version"])
def test_it_is_never_class_0_nor_right(version, request):
    path = request.getfixturevalue(version)
    with open_run(path) as opened:
        assert opened["label"][:].tolist() == [0] * 3 + [1] * 3
        chosen = {predicted: len(opened.select(predicted=predicted)) for predicted in (0, -1)}
        assert chosen == {0: 0, -1: 6}
        assert [len(opened.select(correct=right)) for right in (True, False)] == [0, 6]
        assert (opened.table[[f"top_class_{k}" for k in range(5)]] == -1).all(axis=None)
        assert opened["top_class"][[5, 0], 1:3].tolist() == [[-1, -1]] * 2
        for by in ("predicted", "label"):
            assert export.class_means(opened, "two_relu", by).classes.tolist() == []


@pytest.mark.parametrize("version", ["run", "of_first_version"])
def test_the_report_says_so(version, request):
    with opened_run(RunDir(request.getfixturevalue(version)), photographs=False) as opened:
        gallery = opened.gallery(opened.columns, None, None)
        assert (gallery.statistics.labelled, gallery.statistics.correct) == (6, 0)
        assert gallery.statistics.classes == ()
        assert [(c.number, c.name, c.count) for c in gallery.choices] == [(-1, "no class", 6)]
        pages = Pages(opened)
        assert b'"total":0' in pages.answer("/items?predicted=0").body
        found = pages.answer("/items?predicted=-1").body
        assert b'"total":6' in found
        assert found.count(b'"predictions":[{"number":-1,"name":"no class","score":null}]') == 6
