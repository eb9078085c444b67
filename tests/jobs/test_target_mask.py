"""SegFormer, its classes explained where they win and in a given mask, against PyTorch.

`fixtures/segformer` was written by tests/models/export_segformer.py.
"""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.kernels import normalize, upsample
from tests.jobs.command import contents, shardcam
from tests.jobs.small_networks import raw_maps
from tests.models.onnx_gradcam import relative_error

FIXTURES = Path(__file__).parent.parent / "fixtures"
FILES = {name: FIXTURES / "segformer" / f"{name}.onnx" for name in ("script", "dynamo")}
CLASSES = "class:0,1,2,3"


@pytest.fixture(scope="module")
def expected():
    with np.load(FIXTURES / "segformer" / "expected.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def folder(expected, tmp_path_factory):
    """Pictures and a mask."""
    place = tmp_path_factory.mktemp("segformer")
    (place / "pictures").mkdir()
    for number, picture in enumerate(expected["pictures"]):
        cv2.imwrite(str(place / "pictures" / f"{number}.png"), picture[..., ::-1])
    cv2.imwrite(str(place / "mask.png"), np.uint8(expected["mask"]))  # 0 and 1
    return place


def extract(folder, out, *options, model=FILES["script"]):
    return shardcam(
        *("extract", folder / "pictures", "--model", model, "--out", out, "--executor", "local"),
        *("--mean", "127.5,127.5,127.5", "--std", "64,64,64", *options),
    )


def layers_of(exporter):
    """The decoder's last, and the tokens that the third stage ends in."""
    code, out, err = shardcam("layers", FILES[exporter], "--json")
    assert (code, err) == (0, "")
    layers = json.loads(out)["layers"]
    (head,) = (layer["name"] for layer in layers if layer["auto"])
    norms = [layer for layer in layers if layer["operator"] == "LayerNorm"]
    tokens = [layer["name"] for layer in norms if layer["shape"] == [16, 4, 4]][-1]
    return {"head": head, "tokens": tokens}


def maps_of(rows, layer):
    return raw_maps(rows, layer.replace("/", "."))


@pytest.mark.parametrize("exporter", FILES)
def test_a_class_where_it_wins(exporter, folder, expected, tmp_path):
    layers = layers_of(exporter)
    named = (f"--layer={name}" for name in layers.values())
    options = ("--target", CLASSES, "--save", "maps,logits", *named)
    code, out, err = extract(folder, tmp_path / "run", *options, model=FILES[exporter])
    assert code == 0, out + err
    rows = contents(tmp_path / "run")
    assert relative_error(rows["logits"], expected["sums__won"]) < 1e-4
    np.testing.assert_array_equal(rows["prediction"], expected["best"])
    share = [(expected["best"] == k).mean((1, 2)) for k in range(4)]
    np.testing.assert_allclose(rows["score"].T, share, atol=1e-6)
    for layer, name in layers.items():
        raw = maps_of(rows, name)
        assert relative_error(raw, expected[f"won__{layer}"]) < 1e-3
        for k in range(4):
            ours = normalize(upsample(normalize(np.ascontiguousarray(raw[:, k])), (64, 64)))
            assert abs(ours - expected[f"cam__{layer}__{k}"]).max() < 4e-3


@pytest.mark.parametrize("kind", ["png", "npy"])
def test_a_class_in_a_mask(kind, folder, expected, tmp_path):
    layers = layers_of("script")
    np.save(folder / "mask.npy", expected["mask"] * 7.0)
    named = (f"--layer={name}" for name in layers.values())
    options = ("--target", CLASSES, "--save", "maps,logits", *named, "--target-mask")
    code, out, err = extract(folder, tmp_path / "run", *options, folder / f"mask.{kind}")
    assert code == 0, out + err
    rows = contents(tmp_path / "run")
    assert relative_error(rows["logits"], expected["sums__mask"]) < 1e-4
    np.testing.assert_array_equal(rows["prediction"], expected["best"])
    for layer, name in layers.items():
        raw = maps_of(rows, name)
        assert relative_error(raw, expected[f"mask__{layer}"]) < 1e-3

    shutil.copy(folder / f"mask.{kind}", tmp_path / f"moved.{kind}")
    assert extract(folder, tmp_path / "run", *options, tmp_path / f"moved.{kind}")[0] == 0
    assert len(read_manifest(RunDir(tmp_path / "run")).numbers["target_mask"]) == 64
    code, _, err = extract(folder, tmp_path / "run", *options[:-1])
    assert code == 2 and "target_mask" in err


def test_a_mask_is_fitted_as_the_pictures_are(folder, expected, tmp_path):
    """The sides that the centre crop takes off, and the border that pad adds, do not count."""
    wide = np.pad(expected["mask"], ((0, 0), (32, 32)), constant_values=True)
    np.save(tmp_path / "wide.npy", wide)
    options = ("--target", CLASSES, "--save", "logits", "--target-mask", tmp_path / "wide.npy")
    assert extract(folder, tmp_path / "run", *options)[0] == 0
    found = contents(tmp_path / "run")["logits"]
    assert relative_error(found, expected["sums__mask"]) < 1e-4
    np.save(tmp_path / "wide.npy", np.ones((32, 64)))
    assert extract(folder, tmp_path / "padded", *options, "--resize", "pad")[0] == 0
    found = contents(tmp_path / "padded")["logits"]
    assert relative_error(found, expected["logits"][:, :, 4:12].sum((2, 3))) < 1e-4


@pytest.mark.parametrize(
    ("stored", "options", "told"),
    [
        (np.zeros((64, 64)), (), "is black wherever the network looks"),
        (np.ones((1, 64, 64)), (), r"holds float64 \(1, 64, 64\); a mask is \(H,W\) of numbers"),
        (np.array([["a"]]), (), "a mask is"),
        (b"text", (), "no array of numbers"),
        (np.full((64, 64), np.nan), (), "holds NaN"),
        (np.ones((64, 64)), ("--max-pixels", 4000), r"64x64 pixels; at most 4000 are allowed"),
        (None, (), "No such file"),
        (np.ones((64, 64)), ("--smooth", "aug"), "--smooth aug mirrors images, but no mask"),
        (np.ones((64, 64)), ("--link", "none"), "gives no class for each pixel"),
        (np.ones((64, 64)), ("--model", FIXTURES / "ends" / "binary.onnx"), "gives no class"),
    ],
)
def test_a_mask_that_is_none(stored, options, told, folder, tmp_path):
    if isinstance(stored, bytes):
        (tmp_path / "m.npy").write_bytes(stored)
    elif stored is not None:
        np.save(tmp_path / "m.npy", stored)
    code, _, err = extract(folder, tmp_path / "run", "--target-mask", tmp_path / "m.npy", *options)
    assert code == 2
    assert not (tmp_path / "run").exists()
    assert re.search(f"--target-mask.*{told}", err)


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        ("m.jpg", "m.jpg: is a JPEG file; a mask is PNG or .npy, which keep black as it is"),
        ("m.webp", "m.webp: is a WEBP file; a mask is PNG"),
        ("https://server/m.png", "https://server/m.png: takes a file, not a URL"),
    ],
)
def test_a_mask_of_another_kind(mask, told, folder, tmp_path):
    """A JPEG file of black and white has greys beside the edges, which would count."""
    if not mask.startswith("https"):
        cv2.imwrite(str(tmp_path / mask), np.tri(64, dtype=np.uint8) * 255)
        mask = tmp_path / mask
    code, _, err = extract(folder, tmp_path / "run", "--target-mask", mask)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert told in err
