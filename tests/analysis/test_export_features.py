"""Features in other programs' layouts, taken apart by hand; their own readers are in
test_export_readers.py."""

import json
import os
import struct
import zlib

import cv2
import numpy as np
import pandas
import pyarrow.parquet
import pytest
from scipy import ndimage

from shardcam import export, open_run
from shardcam.engine.analysis.placement import level_of
from shardcam.engine.errors import ConfigError
from tests.analysis.native_runs import make_native_run
from tests.analysis.runs import LAST, MAP
from tests.analysis.test_export import raw_of

POOLED = "pooled/last"


@pytest.fixture
def small_parts(monkeypatch):
    """Five rows of pooled features at a time."""
    monkeypatch.setattr("shardcam.engine.analysis.feature_rows._PART_BYTES", 5 * 4 * 4)
    monkeypatch.setattr("shardcam.engine.analysis.export_zarr._CHUNK_BYTES", 5 * 4 * 4)


def unit(rows):
    rows = rows.reshape(len(rows), -1)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)


def keys_of(made):
    return [key.decode() for key in made.rows["key"].tolist()]


def test_thingsvision(made, run, tmp_path, small_parts):
    assert export.thingsvision(run, tmp_path / "a", LAST) == 2
    assert sorted(os.listdir(tmp_path / "a")) == ["features.npy", "file_names.txt"]
    np.testing.assert_array_equal(np.load(tmp_path / "a" / "features.npy"), made.rows[POOLED])
    assert (tmp_path / "a" / "file_names.txt").read_text().splitlines() == keys_of(made)
    assert export.thingsvision(run, tmp_path / "a", MAP, "maps", 1) == 2
    np.testing.assert_array_equal(np.load(tmp_path / "a" / "features.npy"), raw_of(made, MAP, 1))


def test_clip_retrieval(made, run, tmp_path, small_parts):
    assert export.clip_retrieval(run, tmp_path, LAST, paths="/photos/{}.jpg".format) == 6
    assert sorted(os.listdir(tmp_path / "img_emb")) == [f"img_emb_{k}.npy" for k in range(3)]
    parts = [np.load(tmp_path / "img_emb" / f"img_emb_{k}.npy") for k in range(3)]
    assert [part.shape for part in parts] == [(5, 4), (5, 4), (2, 4)]
    assert parts[0].dtype == np.float16
    np.testing.assert_array_equal(np.concatenate(parts), unit(made.rows[POOLED]).astype("f2"))
    tables = [pyarrow.parquet.read_table(tmp_path / "metadata" / f"metadata_{k}.parquet")
              for k in range(3)]  # fmt: skip
    rows = [row for table in tables for row in table.to_pylist()]
    assert [row["key"] for row in rows] == keys_of(made)
    assert [row["image_path"] for row in rows] == [
        f"/photos/{number}.jpg" for number in made.rows["sample"]
    ]
    assert [row["top_class_0"] for row in rows] == made.rows["top_class"][:, 0].tolist()


def test_faiss(made, run, tmp_path, small_parts):
    assert export.faiss(run, tmp_path, LAST, "maps", 1) == 2
    data = (tmp_path / "flat.index").read_bytes()
    assert data[:4] == b"IxFI"
    assert struct.unpack("<iqqq?iQ", data[4:45]) == (9, 12, 1 << 20, 1 << 20, True, 0, 12 * 9)
    rows = np.frombuffer(data[45:], "<f4").reshape(12, 9)
    np.testing.assert_allclose(rows, unit(raw_of(made, LAST, 1)), rtol=1e-6)
    assert (tmp_path / "keys.txt").read_text().splitlines() == keys_of(made)


def test_parquet(made, run, tmp_path, small_parts):
    assert export.parquet(run, tmp_path, LAST, "maps") == 6
    names = [f"part-{k}.parquet" for k in range(6)]
    assert sorted(os.listdir(tmp_path)) == names
    tables = [pyarrow.parquet.read_table(tmp_path / name) for name in names]
    rows = np.concatenate([np.stack(table["maps"].to_numpy()) for table in tables])
    np.testing.assert_array_equal(rows.reshape(-1, 3, 3), raw_of(made, LAST, 0))
    about = tables[0].schema.field("maps").metadata
    assert about == {b"layer": b"last", b"shape": b"[3, 3]"}
    frame = pyarrow.concat_tables(tables).to_pandas().drop(columns="maps")
    pandas.testing.assert_frame_equal(frame, run.table[frame.columns], check_dtype=False)


def test_zarr(made, run, tmp_path, small_parts):
    assert export.zarr(run, tmp_path, LAST) > 3
    form = json.loads((tmp_path / "pooled" / ".zarray").read_text())
    assert (form["shape"], form["chunks"], form["dtype"]) == ([12, 4], [5, 4], "<f4")
    chunks = [zlib.decompress((tmp_path / "pooled" / f"{k}.0").read_bytes()) for k in range(3)]
    rows = np.frombuffer(b"".join(chunks), "<f4").reshape(15, 4)
    np.testing.assert_array_equal(rows[:12], made.rows[POOLED])
    assert json.loads((tmp_path / "pooled" / ".zattrs").read_text()) == {
        "_ARRAY_DIMENSIONS": ["sample", "channel"],
        "layer": "last",
    }
    stored = json.loads((tmp_path / ".zmetadata").read_text())["metadata"]
    assert stored["pooled/.zarray"] == form


@pytest.mark.parametrize("name", ["thingsvision", "clip_retrieval", "faiss", "parquet", "zarr"])
def test_files_that_are_there_can_be_kept(run, tmp_path, name, small_parts):
    function, whole = getattr(export, name), run.take(slice(0, 12))
    count = function(whole, tmp_path / "a", LAST)

    def files():
        return {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}

    before = files()
    gone = next(p for p in sorted(before, reverse=True) if not p.name.startswith(".z"))
    gone.unlink()
    assert function(whole, tmp_path / "a", LAST, keep=True) == 1
    assert files() == before
    assert function(whole, tmp_path / "a", LAST) == count


def test_rows_without_a_direction(tmp_path, run, monkeypatch):
    rows = np.array([[3, 4, 0, 0], [0, 0, 0, 0], [1, np.inf, 0, 0]], np.float32)
    monkeypatch.setattr(
        "shardcam.engine.analysis.feature_rows.FeatureRows.read", lambda self, a, b: rows[a:b]
    )
    export.faiss(run.take(slice(0, 3)), tmp_path, LAST)
    found = np.frombuffer((tmp_path / "flat.index").read_bytes()[45:], "<f4").reshape(3, 4)
    np.testing.assert_allclose(found, [[0.6, 0.8, 0, 0], [0] * 4, [0] * 4], atol=1e-7)


def test_what_is_not_saved_is_told(run, tmp_path):
    for arguments, words in (
        ((None,), "--layer: choose one of the layers with pooled: stage.conv, last"),
        (("nose",), "no pooled of layer 'nose'; layers with pooled: stage.conv, last"),
        ((LAST, "activations"), "no activations; extract with --save activations; it has"),
    ):
        with pytest.raises(ConfigError, match=words):
            export.faiss(run, tmp_path / "x", *arguments)
    with pytest.raises(IndexError, match="target 2: 2 explained"):
        export.faiss(run, tmp_path / "x", LAST, "maps", 2)
    native = make_native_run(tmp_path / "native").paths.root
    with (
        open_run(native) as opened,
        pytest.raises(ConfigError, match="takes maps of one size"),
    ):
        export.faiss(opened, tmp_path / "x", opened.layers[0], "maps")
    assert not (tmp_path / "x").exists()


def test_a_package_that_is_missing_is_one_line(run, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    for function in (export.parquet, export.clip_retrieval):
        with pytest.raises(ConfigError, match=r"needs pyarrow: .* its extra parquet$"):
            function(run, tmp_path / "x", LAST)


def test_heatmaps_are_transparent(made, run, tmp_path):
    count = export.heatmaps(run, tmp_path / "heatmaps", MAP, target=1, colormap="viridis")
    shown = np.flatnonzero(made.rows["flags"] == 0)
    assert count == len(shown) == 4
    for i in shown:
        name = f"{made.rows['sample'][i]:04d}.png"
        picture = cv2.imread(str(tmp_path / "heatmaps" / name), cv2.IMREAD_UNCHANGED)
        levels = run.cam(MAP).on_original(i, 1)
        np.testing.assert_array_equal(picture[..., 3], levels)
        table = cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)
        np.testing.assert_array_equal(picture[..., :3], table)


def test_crops(made, run, tmp_path):
    """The box of the largest region, counted cell by cell, diagonals included."""
    rng = np.random.default_rng(0)
    sizes = made.rows["image_size"]
    pictures = {
        number: rng.integers(0, 256, (*size, 3), np.uint8)
        for number, size in zip(made.rows["sample"].tolist(), sizes.tolist())
    }

    def picture(shard, i):
        return pictures[int(shard["sample"][i])]

    count = export.crops(run, tmp_path / "crops", MAP, picture, threshold=0.6, target=1)
    shown = np.flatnonzero(made.rows["flags"] == 0)
    assert count == len(shown)
    for i in shown:
        number = int(made.rows["sample"][i])
        regions, _ = ndimage.label(run.cam(MAP).on_original(i, 1) >= level_of(0.6), np.ones((3, 3)))
        largest = np.bincount(regions.ravel())[1:].argmax()
        box = ndimage.find_objects(regions)[largest]
        found = cv2.imread(str(tmp_path / "crops" / f"{number:04d}.png"))[..., ::-1]
        np.testing.assert_array_equal(found, pictures[number][box])
    assert export.crops(run, tmp_path / "crops", MAP, picture, 0.6, 1, keep=True) == 0
    with pytest.raises(ConfigError, match="threshold"):
        export.crops(run, tmp_path / "x", MAP, picture, threshold=2)


def test_fiftyone(made, run, tmp_path):
    names, paths = "class {}".format, "/photos/{}.jpg".format
    assert export.fiftyone(run, tmp_path, MAP, names=names, paths=paths) == 12
    samples = json.loads((tmp_path / "samples.json").read_text())["samples"]
    assert [one["key"] for one in samples] == keys_of(made)
    for i, one in enumerate(samples):
        height, width = made.rows["image_size"][i].tolist()
        assert one["filepath"] == f"/photos/{made.rows['sample'][i]}.jpg"
        assert one["metadata"] == {"_cls": "ImageMetadata", "height": height, "width": width}
        assert one["prediction"]["label"] == names(made.rows["top_class"][i, 0])
        assert one["prediction"]["confidence"] == made.rows["top_score"][i, 0]
        label = made.rows["label"][i]
        assert ("ground_truth" in one) == (label >= 0)
        assert ("heatmap" in one) == (made.rows["flags"][i] == 0)
        if "heatmap" in one:
            assert one["heatmap"]["range"] == [0, 255]
            path = str(tmp_path / one["heatmap"]["map_path"])
            heat = cv2.imread(path, cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(heat, run.cam(MAP).on_original(i))
    np.testing.assert_array_equal(
        np.load(tmp_path / "embeddings.npy"), made.rows["pooled/stage.conv"]
    )
