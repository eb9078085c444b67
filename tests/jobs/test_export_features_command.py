"""Exports of features, heatmaps and crops by the command: what is kept, and what is refused."""

import json
import shutil
import sys
import tarfile

import cv2
import numpy as np
import pytest
from PIL import Image

from shardcam import open_run
from tests.jobs.command import SMALL, shardcam
from tests.jobs.images import make_folder


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Eight pictures as lossless files, padded, with maps and pooled features of one layer."""
    base = tmp_path_factory.mktemp("real")
    make_folder(base / "jpeg", 8)
    (base / "pictures").mkdir()
    for i, path in enumerate(sorted((base / "jpeg").rglob("*.jpg"))):
        Image.open(path).save(base / "pictures" / f"{i}.png")
    code, _, err = shardcam(
        *("extract", base / "pictures", *SMALL, "--resize", "pad", "--out", base / "run"),
        *("--save", "maps,pooled", "--target", "top2", "--shard-size", 3, "--executor", "local"),
    )
    assert code == 0, err
    return base


def export(real, form, out, *more):
    code, text, err = shardcam("export", real / "run", "--to", form, "--out", out, *more)
    assert err.count("\n") == (code != 0), err
    return code, text + err


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


FORMS = "thingsvision", "clip-retrieval", "faiss", "parquet", "zarr"


@pytest.mark.parametrize("form", FORMS)
def test_an_export_goes_on(real, tmp_path, form):
    out = tmp_path / "out"
    code, text = export(real, form, out)
    assert code == 0
    assert text.startswith("8 rows (pooled) of ")
    before = files(out)
    note = ".zattrs" if form == "zarr" else "export.json"
    made_of = json.loads((out / note).read_text())
    assert (made_of["to"], made_of["of"], made_of["images"]) == (form, "pooled", 8)
    max(path for path in before if not path.name.startswith(("export", ".z"))).unlink()
    code, text = export(real, form, out)
    assert (code, files(out)) == (0, before)
    assert ": 1 file written to" in text
    code, text = export(real, form, out, "--of", "maps")
    assert code == 2
    assert (
        "holds another export (of: pooled there, maps now; target: not given there, 0 now)" in text
    )
    assert files(out) == before
    assert export(real, form, out, "--of", "maps", "--force")[0] == 0
    assert json.loads((out / note).read_text())["of"] == "maps"
    if form == "zarr":
        assert not (out / "pooled" / ".zarray").exists()


def test_nothing_is_left_where_a_library_is_missing(real, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, text = export(real, "parquet", tmp_path / "out")
    assert code == 2 and "its extra parquet" in text
    assert not list(tmp_path.iterdir())


def test_paths_of_pictures(real, tmp_path):
    import pyarrow.parquet

    assert export(real, "clip-retrieval", tmp_path / "a")[0] == 0
    table = pyarrow.parquet.read_table(tmp_path / "a" / "metadata" / "metadata_0.parquet")
    paths = table["image_path"].to_pylist()
    assert paths == [str(real / "pictures" / f"{i}.png") for i in range(8)]
    code, text = export(real, "fiftyone", tmp_path / "b")
    assert code == 0
    assert text.startswith("8 samples of ")
    samples = json.loads((tmp_path / "b" / "samples.json").read_text())["samples"]
    assert [one["filepath"] for one in samples] == paths
    assert all(one["prediction"]["label"].startswith("class ") for one in samples)
    with open_run(real / "run") as run:
        assert len(samples) == len(run)


def test_crops_and_heatmaps(real, tmp_path):
    code, text = export(real, "crops", tmp_path / "crops", "--threshold", 0.6)
    assert code == 0, text
    assert export(real, "heatmaps", tmp_path / "heat", "--target-index", 1)[0] == 0
    with open_run(real / "run") as run:
        (layer,) = run.layers
        shown = np.flatnonzero(run["flags"][:] & 7 == 0)
        assert len(shown)
        assert f"{len(shown)} files of {layer} written" in text
        for i in shown:
            key = run.keys[i]
            levels = run.cam(layer).on_original(i)
            _, labels, stats, _ = cv2.connectedComponentsWithStats((levels >= 153).astype("u1"))
            most = 1 + stats[1:, cv2.CC_STAT_AREA].argmax()
            rows, columns = np.nonzero(labels == most)
            box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            picture = np.asarray(Image.open(real / "pictures" / key))
            np.testing.assert_array_equal(
                np.asarray(Image.open(tmp_path / "crops" / key)), picture[box]
            )
            heat = np.asarray(Image.open(tmp_path / "heat" / key))
            assert heat.shape == (*picture.shape[:2], 4)
            np.testing.assert_array_equal(heat[..., 3], run.cam(layer).on_original(i, 1))
    before = files(tmp_path / "crops")
    code, text = export(real, "crops", tmp_path / "crops", "--threshold", 0.6)
    assert (code, files(tmp_path / "crops")) == (0, before)
    assert f"0 files of {layer}" in text and f"{len(shown)} were there" in text
    code, text = export(real, "crops", tmp_path / "crops")
    assert code == 2 and "holds another export (threshold: 0.6 there, 0.5 now)" in text


def test_pictures_that_are_gone_or_no_files(real, tmp_path):
    moved = shutil.copytree(real / "pictures", tmp_path / "pictures")
    options = (*SMALL, "--executor", "local")
    shardcam("extract", moved, *options, "--out", tmp_path / "run")
    (moved / "2.png").unlink()
    code, text = export(tmp_path, "crops", tmp_path / "crops")
    assert code == 1
    assert "its picture '2.png' cannot be read any more: No such file" in text
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(moved / "1.png", "1.png")
    shardcam("extract", tmp_path / "a.tar", *options, "--out", tmp_path / "of-tar" / "run")
    code, text = export(tmp_path / "of-tar", "fiftyone", tmp_path / "b")
    assert code == 2
    assert "it takes pictures that are files, which" in text and "a.tar#" in text
    assert not (tmp_path / "b").exists()
