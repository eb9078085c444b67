"""What is exported is what plain h5py gives; it stays in its folder; errors are one line."""

import json
import os
import resource
import shutil
import tracemalloc

import cv2
import h5py
import numpy as np
import pytest

from shardcam import export, open_run
from shardcam.engine.errors import ConfigError, DiskFull, RunDirectoryError
from tests.analysis.runs import LAST, MAP, make_run

THRESHOLDS = (0.2, 0.5, 0.8)


def raw_of(made, layer, target):
    scale = made.rows[f"cam/{layer}/scale"][:, target, None, None]
    return made.rows[f"cam/{layer}/map"][:, target].astype(np.float32) * scale


@pytest.mark.parametrize("target", [0, 1])
def test_npy(made, run, tmp_path, target):
    path = tmp_path / "new" / "maps.npy"
    assert export.npy(run, path, "stage/conv", target) == 12
    mapped = np.load(path, mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    assert mapped.dtype == np.float32
    np.testing.assert_array_equal(mapped, raw_of(made, MAP, target))
    assert os.listdir(path.parent) == ["maps.npy"]


def test_npy_of_a_selection_and_of_nothing(made, run, tmp_path):
    export.npy(run.select(flags=1), tmp_path / "some.npy", LAST)
    chosen = made.rows["flags"] == 1
    np.testing.assert_array_equal(np.load(tmp_path / "some.npy"), raw_of(made, LAST, 0)[chosen])
    assert export.npy(run.select(predicted=99), tmp_path / "none.npy", LAST) == 0
    assert np.load(tmp_path / "none.npy").shape == (0, 3, 3)


def mask_by_hand(run, i, threshold, target=0):
    return run.cam(MAP).on_original(i, target) / 255 >= threshold


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_masks(made, run, tmp_path, threshold):
    assert export.masks(run, tmp_path / "masks", MAP, threshold, target=1) == 12
    names = sorted(os.listdir(tmp_path / "masks"))
    assert len(names) == 12
    for i, name in enumerate(names):
        index, of_class = made.rows["sample"][i], made.rows["target"][i, 1]
        assert name == f"{index:08d}-gr-e-{index:04d}-stage.conv-{of_class}.png"
        mask = cv2.imread(str(tmp_path / "masks" / name), cv2.IMREAD_UNCHANGED)
        expected = mask_by_hand(run, i, threshold, 1)
        assert mask.dtype == np.uint8
        assert mask.shape == tuple(made.rows["image_size"][i])
        np.testing.assert_array_equal(mask, expected * 255)


def pixels_of(segmentation):
    """Decode COCO's run lengths."""
    counts = segmentation["counts"]
    values = np.repeat(np.arange(len(counts)) % 2, counts)
    return values.reshape(segmentation["size"], order="F").astype(bool)


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_coco(tmp_path, resize, threshold):
    made = make_run(tmp_path / "run", resize=resize)
    path = tmp_path / "regions.json"
    with open_run(made.paths.root) as run:
        count = export.coco(run, path, MAP, threshold, names=lambda number: f"kind {number}")
        usable = made.rows["flags"] & 7 == 0
        assert 0 < usable.sum() < len(run)
        masks = {
            run["sample"][i]: mask_by_hand(run, i, threshold) & usable[i] for i in range(len(run))
        }
    coco = json.loads(path.read_text())
    assert list(coco) == ["images", "annotations", "categories"]
    keys = [key.decode() for key in made.rows["key"]]
    sizes = made.rows["image_size"].tolist()
    samples = made.rows["sample"].tolist()
    assert coco["images"] == [
        {"id": i, "file_name": key, "height": h, "width": w}
        for i, key, (h, w) in zip(samples, keys, sizes)
    ]
    used = {note["category_id"] for note in coco["annotations"]}
    assert coco["categories"] == [{"id": n, "name": f"kind {n}"} for n in sorted(used)]
    assert [note["id"] for note in coco["annotations"]] == list(range(1, count + 1))
    covered = {sample: np.zeros_like(mask) for sample, mask in masks.items()}
    for note in coco["annotations"]:
        row = samples.index(note["image_id"])
        assert note["category_id"] == made.rows["target"][row, 0]
        assert note["score"] == made.rows["score"][row, 0].item()
        assert note["iscrowd"] == 0
        x, y, width, height = note["bbox"]
        region = pixels_of(note["segmentation"])
        assert region.shape == tuple(sizes[row])
        rows, columns = np.nonzero(region)
        assert (x, y) == (columns.min(), rows.min())
        assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)
        assert 0 <= x < x + width <= sizes[row][1]
        assert 0 <= y < y + height <= sizes[row][0]
        assert note["area"] == region.sum() > 0
        assert cv2.connectedComponents(region.astype(np.uint8))[0] == 2
        assert not (covered[note["image_id"]] & region).any()
        covered[note["image_id"]] |= region
    for sample, mask in masks.items():
        np.testing.assert_array_equal(covered[sample], mask)


@pytest.mark.parametrize("form", ["masks", "coco"])
def test_rows_are_not_read_one_by_one(run, tmp_path, form, monkeypatch):
    read, index = [], h5py.Dataset.__getitem__
    monkeypatch.setattr(
        h5py.Dataset, "__getitem__", lambda data, part: read.append(data.name) or index(data, part)
    )
    exports(run, tmp_path / "out")[form]()
    assert 0 < read.count(f"/cam/{MAP}/map") <= len(run._shards) < len(run)


def test_coco_of_nothing(run, tmp_path):
    assert export.coco(run.select(predicted=99), tmp_path / "none.json", MAP) == 0
    empty = {"images": [], "annotations": [], "categories": []}
    assert json.loads((tmp_path / "none.json").read_text()) == empty


KEYS = ["../../{:04d}/etc.png", "/abs/olute {:04d}.jpg", "a\\..\\b\n\t{:04d}", "." * 300 + "{:04d}"]


@pytest.mark.parametrize("keys", KEYS)
def test_keys_do_not_lead_out_of_the_folder(tmp_path, keys):
    made = make_run(tmp_path / "run", shards=(3,), failures=0, keys=keys)
    before = set(tmp_path.rglob("*"))
    with open_run(made.paths.root) as run:
        export.masks(run, tmp_path / "masks", MAP)
        export.coco(run, tmp_path / "coco.json", MAP)
    new = set(tmp_path.rglob("*")) - before - {tmp_path / "masks", tmp_path / "coco.json"}
    assert len(new) == 3
    assert {path.parent for path in new} == {tmp_path / "masks"}
    images = json.loads((tmp_path / "coco.json").read_text())["images"]
    assert [image["file_name"] for image in images] == [keys.format(i) for i in range(3)]


def exports(run, out):
    return {
        "npy": lambda **more: export.npy(run, out, more.get("layer", MAP), more.get("target", 0)),
        "masks": lambda layer=MAP, **more: export.masks(run, out, layer, **more),
        "coco": lambda layer=MAP, **more: export.coco(run, out, layer, **more),
    }


@pytest.mark.parametrize("form", ["npy", "masks", "coco"])
def test_bad_input_is_one_line_and_leaves_nothing(run, tmp_path, form):
    call = exports(run, tmp_path / "out")[form]
    with pytest.raises(ConfigError, match=r"no maps of layer 'first'; .*stage\.conv, last"):
        call(layer="first")
    with pytest.raises(IndexError, match="target 2: 2 explained of each sample, from 0"):
        call(target=2)
    for threshold in (0, 1, -3, float("nan")) if form != "npy" else ():
        with pytest.raises(ConfigError, match="threshold: expected a number between 0 and 1, got"):
            call(threshold=threshold)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("form", ["npy", "masks", "coco"])
def test_a_place_that_cannot_be_written_is_one_line(run, tmp_path, form):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder" / "masks").mkdir(parents=True)
    places = [tmp_path / "file" / "below"]
    places += [tmp_path / "file"] if form == "masks" else [tmp_path / "folder"]
    for place in places:
        with pytest.raises(RunDirectoryError, match="cannot be written: ") as caught:
            exports(run, place)[form]()
        assert str(caught.value).startswith(f"{tmp_path / place.relative_to(tmp_path).parts[0]}")
        assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.parametrize("form", ["npy", "coco"])
def test_a_full_disk_is_said_to_be_full(run, tmp_path, form):
    out, unlimited = tmp_path / "out", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, unlimited[1]))
    try:
        with pytest.raises(DiskFull, match=f"{out}: File too large"):
            exports(run, out)[form]()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("form", ["npy", "masks", "coco"])
def test_a_shard_that_is_damaged_on_the_way_leaves_what_was_there(tmp_path, form):
    made, out = make_run(tmp_path / "run"), tmp_path / "out"
    if form != "masks":
        out.write_text("of before")
    with open_run(made.paths.root) as run:
        made.paths.shard(3).write_bytes(b"")
        with pytest.raises(RunDirectoryError, match=r"shard-000003\.h5: unreadable"):
            exports(run, out)[form]()
    assert form == "masks" or out.read_text() == "of before"
    shutil.rmtree(made.paths.root)
    left = [p.name for p in tmp_path.rglob(".*")]
    assert left == []


def test_memory_does_not_grow_with_the_run(tmp_path):
    peaks = {}
    for shards in (4, 24):
        made = make_run(tmp_path / f"run{shards}", (20,) * shards, failures=0)
        with open_run(made.paths.root) as run:
            for form, call in exports(run, tmp_path / "out").items():
                shutil.rmtree(tmp_path / "out", ignore_errors=True)
                (tmp_path / "out").unlink(missing_ok=True)
                tracemalloc.start()
                call()
                peaks[form, shards] = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
    for form in ("npy", "masks", "coco"):
        assert peaks[form, 24] < 1.3 * peaks[form, 4] + 20_000, peaks
