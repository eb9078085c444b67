"""Pictures at their own size, at several scales and mirrored, as a person extracts their maps."""

import json
import re
import signal
import time
from contextlib import suppress
from pathlib import Path

import cv2
import h5py
import mxnet
import numpy as np
import pytest
from PIL import Image

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.mxnet_errors import in_one_line
from shardcam.engine.models.mxnet_network import BoundNetwork
from shardcam.engine.run import build_worker, own_size
from shardcam.engine.rundir.codec import PLAIN
from tests.jobs.command import (
    CHECKPOINT,
    LOCAL,
    ROOT,
    assert_same,
    contents,
    shardcam,
    shardcam_process,
    start,
)

NETWORK = ("--model", CHECKPOINT, "--resize", "none", "--method", "cam")
SCALES = (1, 0.5, 1.5, 2)
COPIES = ("--scales", "1,0.5,1.5,2", "--flip")
SIZES = ((40, 56), (33, 49), (56, 40), (24, 24), (61, 37))
LAYER = "cam/two_relu/"


def picture(rng, height, width):
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def make_pictures(folder, count=17, sizes=SIZES, seed=0):
    """Pictures of each size in turn, and one that cannot be read."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for i in range(count):
        picture(rng, *sizes[i % len(sizes)]).save(folder / f"{i:04d}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def convolved(x, weight, bias):
    """A convolution 3x3 of stride 2 with a border of one zero, and ReLU; (C,H,W)."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))[:, ::2, ::2]
    found = np.einsum("chwij,ocij->ohw", windows, weight) + bias[:, None, None]
    return np.maximum(found, 0)


class Reference:
    """The small network and the recipe, in NumPy and Pillow."""

    def __init__(self):
        network = load_network(str(CHECKPOINT), None, 32)
        values = {n: v.astype(np.float64) for n, v in network.parameters.items()}
        self.convolutions = [[values[f"{n}_{part}"] for part in ("weight", "bias")]
                             for n in ("one", "two")]  # fmt: skip
        self.weight, self.bias = values["dense_weight"], values["dense_bias"]
        own = network.preprocessing
        self.mean, self.std = np.array(own.mean), np.array(own.std)

    def run(self, pixels):
        """(H,W,3) -> activation (C,h,w) of the last layer, logits."""
        x = ((pixels - self.mean) / self.std).transpose(2, 0, 1)
        for weight, bias in self.convolutions:
            x = convolved(x, weight, bias)
        return x, self.weight @ x.mean(axis=(1, 2)) + self.bias

    def cam(self, pixels, classes):
        return np.einsum("kc,chw->khw", self.weight[classes], self.run(pixels)[0])

    def copies(self, image, classes, scales, flip):
        """Maps (K,h,w) at each scale; both are rectified before the mirrored one is added."""
        for scale in scales:
            size = round(image.width * scale), round(image.height * scale)
            pixels = np.asarray(
                image if scale == 1 else image.resize(size, Image.Resampling.BICUBIC), np.float64
            )
            plain = self.cam(pixels, classes)
            if flip:
                mirrored = self.cam(pixels[:, ::-1], classes)
                plain = np.maximum(plain, 0) + np.maximum(mirrored, 0)[..., ::-1]
            yield plain


@pytest.fixture(scope="module")
def reference():
    return Reference()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return make_pictures(tmp_path_factory.mktemp("own-size") / "pictures")


def extract(source, out, *options, run=shardcam):
    code, printed, err = run("extract", source, *NETWORK, *LOCAL, "--out", out, *options)
    assert code == 0, err
    return " ".join(printed.split())


def maps_of(run, layer=LAYER):
    """Of each key its classes, and raw maps (k,h,w) at each scale."""
    rows, found, start = contents(run), {}, 0
    cells, target = rows[f"{layer}cells"].astype(np.float32), rows["target"]
    for key, classes, grid, scale in zip(
        rows["key"], target, rows[f"{layer}grid"], rows[f"{layer}scale"], strict=True
    ):
        there = classes >= 0
        lengths = grid.prod(axis=1)
        stop = start + there.sum() * lengths.sum()
        flat = np.split(cells[start:stop].reshape(there.sum(), -1), lengths.cumsum()[:-1], axis=1)
        found[key.decode()] = (
            classes[there],
            [
                part.reshape(-1, *size) * scale[there, s, None, None]
                for s, (part, size) in enumerate(zip(flat, grid, strict=True))
            ],
        )
        start = stop
    assert start == len(cells)
    return found


def assert_as_reference(found, reference, source, scales=(1,), flip=False):
    for key, (classes, maps) in found.items():
        image = Image.open(source / key).convert("RGB")
        expected = reference.copies(image, classes, scales, flip)
        for raw, wanted in zip(maps, expected, strict=True):
            assert raw.shape == wanted.shape
            np.testing.assert_allclose(raw, wanted, rtol=0, atol=1e-3 * abs(wanted).max())


@pytest.mark.parametrize(
    ("scales", "flip", "target"),
    [
        ((1,), False, "top1"),
        (SCALES, False, "top5"),
        (SCALES, True, "top5"),
        ((0.5, 1.7), True, "class:7,2"),
        ((1,), True, "above:0.2"),
    ],
)
def test_maps_are_those_of_the_recipe(pictures, tmp_path, reference, scales, flip, target):
    given = ["--scales", ",".join(map(str, scales)), *(["--flip"] if flip else ())]
    out = extract(pictures, tmp_path / "run", *given, "--target", target, "--save", "maps,logits")
    found = maps_of(tmp_path / "run")
    assert len(found) == 17
    assert_as_reference(found, reference, pictures, scales, flip)
    rows = contents(tmp_path / "run")
    assert rows["failure/error"].tolist() == [b"not an image"]
    first = 1 if 1 in scales else scales[0]
    for i, key in enumerate(rows["key"]):
        image = Image.open(pictures / key.decode()).convert("RGB")
        assert rows["image_size"][i].tolist() == [image.height, image.width]
        assert rows["crop"][i].tolist() == [0, 0, image.height, image.width]
        size = round(image.width * first), round(image.height * first)
        if first != 1:
            image = image.resize(size, Image.Resampling.BICUBIC)
        _, logits = reference.run(np.asarray(image, np.float64))
        np.testing.assert_allclose(rows["logits"][i], logits, rtol=1e-3, atol=1e-3)
        assert rows["top_class"][i, 0] == logits.argmax()
    assert ("scores are those of the images at scale 0.5" in out) == (1 not in scales)
    assert "5 sizes of images, the largest 37x61 pixels" in out


def test_batches_of_one_size_are_as_full_as_they_can_be(tmp_path):
    folder = make_pictures(tmp_path / "pictures", 40, SIZES[:1])
    out = extract(folder, tmp_path / "run", "--shard-size", 64, "--batch-size", 8)
    assert "batches were 100% full" in out
    make_pictures(tmp_path / "others", 8, SIZES[:4])
    out = extract(tmp_path / "others", tmp_path / "run2", "--batch-size", 8, "--shard-size", 9)
    assert "batches were 25% full: a size has 2.25 images, and batches end with" in out


def test_several_layers_and_what_else_is_saved(pictures, tmp_path, reference):
    layers = ("--layer", "two_relu", "--layer", "one_relu", "--save", "maps,overlays,pooled")
    extract(pictures, tmp_path / "run", *COPIES, *layers, "--method", "gradcam", "--overlay-format",
            "png")  # fmt: skip
    rows = contents(tmp_path / "run")
    for i, key in enumerate(rows["key"]):
        pixels = np.asarray(Image.open(pictures / key.decode()).convert("RGB"), np.float64)
        activation, _ = reference.run(pixels)
        expected = activation.mean(axis=(1, 2))
        np.testing.assert_allclose(rows["pooled/two_relu"][i], expected, rtol=1e-3, atol=1e-4)
    drawn = sorted((tmp_path / "run" / "overlays").iterdir())
    assert len(drawn) == 3 * 17
    for path in drawn:
        number, shown = int(path.name[:8]), cv2.imread(str(path))
        assert list(shown.shape[:2]) == rows["image_size"][rows["sample"] == number][0].tolist()


@pytest.mark.parametrize("listed_by_size", ["first", "second"])
def test_classes_of_a_run_whose_images_are_in_another_order(pictures, tmp_path, listed_by_size):
    first, second = tmp_path / "first", tmp_path / "second"
    own, other = ("--resize", "none"), ("--resize", "squash", "--image-size", 32)
    sized = listed_by_size == "first"
    extract(pictures, first, "--target", "top2", *(own if sized else other))
    target = ("--target", f"from:{first}")
    extract(pictures, second, *target, *(other if sized else own))
    found = [dict(zip(rows["key"].tolist(), rows["target"].tolist(), strict=True))
             for rows in map(contents, (first, second))]  # fmt: skip
    assert found[0] == found[1] and list(found[0]) != list(found[1])
    assert "0 done now" in extract(pictures, second, *target, *(other if sized else own))
    others = make_pictures(tmp_path / "others", 17, seed=1)
    code, _, err = shardcam("extract", others, *NETWORK, *LOCAL, *target, "--out", tmp_path / "no")
    assert code == 2 and "a run of other images (18 of them; 18 here)" in err


def test_classes_of_labels_and_scores_of_several_labels(pictures, tmp_path, reference):
    rows = [f"{i:04d}.png,{i % 10};{(i + 3) % 10}" for i in range(8)]
    rows += [f"{i:04d}.png,{i % 10}" for i in range(8, 17)]
    (pictures / "labels.csv").write_text("\n".join(["path,labels", *rows]) + "\n")
    options = ("--target", "labels", "--link", "sigmoid", *COPIES)
    extract(pictures / "labels.csv", tmp_path / "run", *options)
    found = maps_of(tmp_path / "run")
    assert_as_reference(found, reference, pictures, SCALES, flip=True)
    assert {len(classes) for classes, _ in found.values()} == {1, 2}
    stored = contents(tmp_path / "run")
    for i, key in enumerate(stored["key"]):
        pixels = np.asarray(Image.open(pictures / key.decode()).convert("RGB"), np.float64)
        _, logits = reference.run(pixels)
        known = stored["target"][i] >= 0
        expected = 1 / (1 + np.exp(-logits[stored["target"][i][known]]))
        np.testing.assert_allclose(stored["score"][i][known], expected, rtol=1e-3)
    above = ("--target", "above:0.5", "--link", "sigmoid", "--scales", "0.5,1")
    extract(pictures, tmp_path / "above", *above)
    found = maps_of(tmp_path / "above")
    assert_as_reference(found, reference, pictures, (0.5, 1))
    stored = contents(tmp_path / "above")
    assert np.array_equal((stored["score"] > 0.5), stored["target"] >= 0)


def test_labels_are_those_of_their_rows_whatever_the_order(tmp_path):
    """Of pictures and boxes whose order is not that of sizes, and of the first of them."""
    folder = make_pictures(tmp_path / "pictures", 5)
    boxes = [(0, 0, 30, 30), (0, 0, 12, 20)]
    rows = [(f"{i:04d}.png", ("",) * 4, f"{i};{i + 5}") for i in (4, 0, 3, 1, 2)]
    rows += [("0002.png", box, str(7 + i)) for i, box in enumerate(boxes)]
    lines = [",".join([path, *map(str, box), labels]) for path, box, labels in rows]
    (folder / "list.csv").write_text("\n".join(["path,x0,y0,x1,y1,labels", *lines]) + "\n")
    for limit in (7, 4):
        out = tmp_path / str(limit)
        extract(folder / "list.csv", out, "--target", "labels", "--limit", limit)
        stored = contents(out)
        expected = {
            path if box == ("",) * 4 else f"{path}#{','.join(map(str, box))}": labels
            for path, box, labels in rows[:limit]
        }
        found = {
            key.decode(): ";".join(str(one) for one in target if one >= 0)
            for key, target in zip(stored["key"], stored["target"], strict=True)
        }
        assert found == expected
    lines = [f"000{i}.png,{i}" for i in (4, 3, 2, 1)]
    (folder / "list.csv").write_text("\n".join(["path,labels", *lines]) + "\n")
    code, _, err = shardcam(
        *("extract", folder / "list.csv", *NETWORK, *LOCAL, "--out", tmp_path / "4"),
        *("--target", "labels", "--limit", 4),
    )
    assert code == 2 and "has other rows now than when it was listed" in err


def test_boxes_and_turned_pictures(tmp_path, reference):
    """What is looked at decides the size, as it is shown."""
    folder = make_pictures(tmp_path / "pictures", 3)
    rng = np.random.default_rng(1)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(rng, 30, 50).save(folder / "turned.png", exif=exif)
    lines = ["path,x0,y0,x1,y1", "0000.png,3.5,2,30,37.2", "turned.png,,,,", "0001.png,,,,"]
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    extract(folder / "list.csv", tmp_path / "run", *COPIES, "--save", "maps")
    rows, found = contents(tmp_path / "run"), list(maps_of(tmp_path / "run").values())
    keys = [key.decode() for key in rows["key"]]
    assert [key.partition("#")[0] for key in keys] == ["0001.png", "0000.png", "turned.png"]
    assert rows["crop"].tolist() == [[0, 0, 33, 49], [2, 3, 38, 30], [0, 0, 50, 30]]
    whole = Image.open(folder / "0000.png").convert("RGB")
    expected = [*reference.copies(whole.crop((3, 2, 30, 38)), found[1][0], SCALES, True)]
    for raw, wanted in zip(found[1][1], expected, strict=True):
        np.testing.assert_allclose(raw, wanted, rtol=0, atol=1e-3 * abs(wanted).max())
    turned = Image.open(folder / "turned.png").convert("RGB").rotate(-90, expand=True)
    expected = [*reference.copies(turned, found[2][0], SCALES, True)]
    np.testing.assert_allclose(found[2][1][0], expected[0], rtol=0, atol=1e-3 * expected[0].max())


def test_pictures_of_sizes_that_the_network_cannot_take_fail(tmp_path, monkeypatch):
    folder = make_pictures(tmp_path / "pictures", 4, ((40, 56),))
    Image.new("RGB", (40, 4000)).save(folder / "long.png")

    def fits(definition):
        if definition.preprocessing.height >= 8000:
            raise ConfigError("--image-size 9: net needs 9 GB, and 1 GB are free; x")

    def limits_of(config, network, layers, here=True):
        return own_size.Limits(network, config.copies, fits)

    for module in (own_size, build_worker):
        monkeypatch.setattr(module, "limits_of", limits_of)
    out = extract(folder, tmp_path / "run", "--scales", "1,2")
    rows = contents(tmp_path / "run")
    failed = dict(zip(rows["failure/key"].tolist(), rows["failure/message"].tolist(), strict=True))
    assert failed[b"long.png"] == b"at 80x8000 pixels net needs 9 GB, and 1 GB are free"
    assert b"too large" in rows["failure/error"].tolist()
    assert len(rows["key"]) == 4
    assert "WARNING: images of 40x4000 pixels will fail" in out


def test_pictures_that_memory_does_not_suffice_for_fail(tmp_path, monkeypatch):
    """They alone: where it runs out at pictures of the usual size, the run stops."""
    folder = make_pictures(tmp_path / "pictures", 4, ((40, 56),))
    Image.new("RGB", (1200, 700)).save(folder / "large.png")
    passes = BoundNetwork.forward

    def forward(self, images):
        if images.shape[1] >= most:
            raise mxnet.MXNetError("MXNetError: could not create a memory object")
        return passes(self, images)

    monkeypatch.setattr(BoundNetwork, "forward", in_one_line(forward))
    most, run = 600, tmp_path / "run"
    out = extract(folder, run, "--scales", "0.5,1", "--flip", "--batch-size", 1)
    rows = contents(run)
    assert "batches were 100% full" in out
    assert b"large.png" not in rows["key"] and len(rows["key"]) == 4
    failed = dict(zip(rows["failure/key"].tolist(), rows["failure/message"].tolist(), strict=True))
    assert failed[b"large.png"] == b"at 1200x700 pixels memory ran out"
    most = 40
    code, _, err = shardcam("extract", folder, *NETWORK, *LOCAL, "--out", tmp_path / "stops")
    assert code == 1 and "out of memory" in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--image-size", 64), "--image-size: with --resize none each image has its own size"),
        (("--scales", "0"), "--scales: takes different numbers above 0 and up to 4"),
        (("--scales", "1,1"), "--scales: takes different numbers"),
        (("--scales", "1,nan"), "--scales: takes different numbers"),
        (("--scales", "1;2"), "--scales: takes different numbers"),
        (("--resize", "crop", "--scales", "1,2"), "--scales: is for images at their own size: add"),
        (("--resize", "crop", "--flip"), "--flip: is for images at their own size: add"),
        (("--save", "maps,heatmaps"), "--save heatmaps: with --resize none they have a size for"),
        (("--save", "activations"), "--save activations: with --resize none they have a size for"),
        (("--fast-decode",), "--fast-decode: with --resize none nothing is resized"),
        (("--interpolation", "bicubic"), "--interpolation: with --resize none nothing is resized"),
        (("--decode-processes", 2), "--decode-processes: with --resize none threads of the worker"),
        (("--runtime", "torch"), "--resize none: is for --runtime mxnet; give --image-size"),
        (("--target", "similar:x.npy"), "--target similar:x.npy: compares images of one size"),
    ],
)
def test_what_needs_one_size_is_refused_in_one_line(pictures, tmp_path, options, told):
    code, _, err = shardcam(
        "extract", pictures, *NETWORK, *LOCAL, "--out", tmp_path / "run", *options
    )
    assert (code, err.count("\n")) == (2, 1)
    assert told in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("given", ["1,0.5", [1, 0.5], (1.0, 0.5), ("1", "0.5")])
def test_scales_are_given_in_any_form(given):
    config = RunConfig(source="s", model="m", out="o", resize="none", scales=given)
    assert config.scales == (1.0, 0.5) == RunConfig.of(**config.model_dump(mode="json")).scales


@pytest.mark.parametrize("given", [None, (), "", [None], {"a": 1}])
def test_other_scales_are_refused_in_one_line(given):
    with pytest.raises(ConfigError, match=r"^--scales: takes different numbers above 0"):
        RunConfig.of(source="s", model="m", out="o", resize="none", scales=given)


def test_a_run_cannot_grow_and_throughput_is_of_one_size(pictures, tmp_path):
    extract(pictures, tmp_path / "run", "--limit", 5)
    again = ("extract", pictures, *NETWORK, *LOCAL, "--out", tmp_path / "run", "--limit", 6)
    code, _, err = shardcam(*again)
    assert code == 2 and "was begun with --limit 5, and cannot grow with --resize none" in err
    code, _, err = shardcam(*again[:-1], 3)
    assert code == 2 and "was begun with --limit 5, and has 5 images already; give that" in err
    code, _, err = shardcam("throughput", pictures, *NETWORK, *LOCAL)
    assert code == 2 and "--resize none: images of one size are measured" in err
    names = ("insertion", "average_drop")
    for name in names:
        code, _, err = shardcam("evaluate", tmp_path / "run", "--metrics", name, *LOCAL)
        assert code == 2 and "keep their size (--resize none)" in err, err
    code, _, err = shardcam("mosaic", tmp_path / "run", "--out", tmp_path / "mosaics")
    assert code == 2 and "keep their size (--resize none)" in err


def test_what_was_told_of_sizes_is_told_again_and_nothing_is_measured_twice(
    pictures, tmp_path, monkeypatch
):
    out = extract(pictures, tmp_path / "run", *COPIES)
    assert "5 sizes of images" in out
    from shardcam.engine.run import order_by_size

    monkeypatch.setattr(order_by_size, "by_size", None)
    before = contents(tmp_path / "run")
    (tmp_path / "run" / "shards" / "shard-000001.h5").unlink()
    assert "5 sizes of images" in extract(pictures, tmp_path / "run", *COPIES)
    assert_same(before, contents(tmp_path / "run"))
    code, out, err = shardcam("status", tmp_path / "run")
    assert code == 0 and "5 sizes of images" in " ".join(out.split()), err
    assert shardcam("verify", tmp_path / "run", "--deep")[0] == 0


def test_failures_are_tried_again(tmp_path):
    folder = make_pictures(tmp_path / "pictures", 9)
    extract(folder, tmp_path / "run", *COPIES)
    (folder / "broken.jpg").write_bytes((folder / "0003.png").read_bytes())
    code, _, err = shardcam("retry-failed", tmp_path / "run", *LOCAL)
    assert code == 0, err
    found = maps_of(tmp_path / "run")
    assert len(found) == 10
    for one, other in zip(found["broken.jpg"][1], found["0003.png"][1], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3 * abs(other).max())


@pytest.mark.parametrize("codec", PLAIN)
def test_an_index_is_merged_and_its_rows_are_those_of_the_shards(pictures, tmp_path, codec):
    extract(pictures, tmp_path / "run", *COPIES, "--codec", codec)
    before = maps_of(tmp_path / "run")
    assert shardcam("index", tmp_path / "run", "--merge")[0] == 0
    after = maps_of(tmp_path / "run")
    assert before.keys() == after.keys()
    with h5py.File(tmp_path / "run" / "index.h5") as index:
        cells = index[f"{LAYER}cells"]
        assert not cells.is_virtual and cells.attrs["flip"]
        assert cells.attrs["scales"].tolist() == list(SCALES)


def test_the_lines_of_the_documentation_read_the_maps_of_an_image(pictures, tmp_path, monkeypatch):
    extract(pictures, tmp_path / "runs" / "voc", *COPIES, "--target", "above:0.15,3")
    page = (ROOT / "docs" / "run-directory.md").read_text()
    (block,) = (one for one in re.findall(r"```python\n(.*?)```", page, re.S) if "cells" in one)
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(block.replace("layer4", "two_relu"), found)
    rows = contents(tmp_path / "runs" / "voc")
    key, grid = rows["key"][7].decode(), rows[f"{LAYER}grid"][7]
    classes, expected = maps_of(tmp_path / "runs" / "voc")[key]
    scale = rows[f"{LAYER}scale"][7, : len(classes)]
    for s, part in enumerate(found["maps"]):
        raw = part.reshape(-1, *grid[s]) * scale[:, s, None, None]
        np.testing.assert_array_equal(raw, expected[s])


@pytest.mark.process
def test_a_killed_run_goes_on_to_the_byte(tmp_path):
    sizes = [(20 + i, 40 + 3 * (i % 4)) for i in range(30)]
    folder = make_pictures(tmp_path / "pictures", 150, sizes)
    command = ("extract", folder, *NETWORK, *LOCAL, *COPIES, "--shard-size", 8, "--out")
    assert shardcam_process(*command, tmp_path / "whole")[0] == 0
    process = start(*command, tmp_path / "killed")
    shards = tmp_path / "killed" / "shards"
    while process.poll() is None and len(list(shards.glob("*.h5"))) < 4:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 4 <= len(list(shards.glob("*.h5"))) < 19
    assert shardcam_process(*command, tmp_path / "killed")[0] == 0
    killed, whole = contents(tmp_path / "killed"), contents(tmp_path / "whole")
    assert killed.keys() == whole.keys()
    for name, rows in whole.items():
        assert killed[name].tobytes() == rows.tobytes(), name


@pytest.mark.slow
def test_memory_stays_flat_over_many_sizes(tmp_path):
    """2,000 pictures of 300 sizes: 1,200 shapes go through the network."""
    sizes = [(60 + 7 * i % 83, 50 + 11 * i % 97) for i in range(300)]
    assert len({*sizes}) == 300
    folder = make_pictures(tmp_path / "pictures", 2000, sizes)
    process = start("extract", folder, *NETWORK, *LOCAL, *COPIES, "--out", tmp_path / "run")
    shards, memory = tmp_path / "run" / "shards", {}
    while process.poll() is None:
        with suppress(OSError, TypeError):
            status = Path(f"/proc/{process.pid}/status").read_text()
            kilobytes = int(re.search(r"VmRSS:\s+(\d+)", status)[1])
            memory[len(list(shards.glob("*.h5")))] = kilobytes
        time.sleep(0.2)
    out, err = process.communicate()
    assert process.returncode == 0, err
    early, late = (max(v for n, v in memory.items() if n in some)
                   for some in (range(6, 12), range(24, 32)))  # fmt: skip
    assert late < 1.15 * early, memory
    assert re.search(r"batches were \d+% full: a size has 6.67 images", out)


@pytest.mark.ray
def test_workers_of_ray_make_the_same(pictures, tmp_path):
    extract(pictures, tmp_path / "here", *COPIES, "--shard-size", 8)
    code, _, err = shardcam_process(
        *("extract", pictures, *NETWORK, *COPIES, "--shard-size", 8, "--workers", 2),
        *("--out", tmp_path / "ray"),
    )
    assert code == 0, err
    one, other = maps_of(tmp_path / "here"), maps_of(tmp_path / "ray")
    assert one.keys() == other.keys()
    for key, (_, maps) in one.items():
        for a, b in zip(maps, other[key][1], strict=True):
            np.testing.assert_allclose(a, b, atol=2e-3 * abs(a).max())
    report = json.loads((tmp_path / "ray" / "report.json").read_text())
    assert any("full" in note["text"] for note in report["notes"])
