"""How pictures become the network's input: order of the channels, size, fit, gray and bytes."""

import json

import cv2
import mxnet as mx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from shardcam import open_run
from tests.jobs.command import CHECKPOINT, assert_same, contents, shardcam
from tests.jobs.images import jpeg
from tests.models.onnx_models import reference_of_file, weight

SMALL = ("--model", CHECKPOINT, "--executor", "local", "--shard-size", 8)
SIZE = 32
FLOAT, UINT8 = TensorProto.FLOAT, TensorProto.UINT8


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """The same pictures in RGB, and with red and blue exchanged."""
    base, rng = tmp_path_factory.mktemp("photos"), np.random.RandomState(0)
    for folder in ("rgb", "bgr"):
        (base / folder).mkdir()
    for i in range(16):
        coarse = Image.fromarray(rng.randint(0, 256, (5, 7, 3), np.uint8))
        pixels = np.asarray(coarse.resize((60 + i, 90 - i), Image.Resampling.BICUBIC))
        Image.fromarray(pixels).save(base / "rgb" / f"{i:02d}.png")
        Image.fromarray(pixels[..., ::-1].copy()).save(base / "bgr" / f"{i:02d}.png")
    return base


def extracted(source, out, *options):
    code, _, err = shardcam("extract", source, *options, "--out", out)
    assert code == 0, err
    return contents(out)


@pytest.mark.parametrize(
    "options",
    [
        ("--precision", "bf16"),
        ("--precision", "int8"),
        ("--resize", "pad", "--interpolation", "bilinear"),
        ("--resize", "shorter:40,crop", "--fast-decode"),
        ("--resize", "squash", "--method", "ablationcam"),
    ],
    ids=" ".join,
)
def test_bgr_is_rgb_of_exchanged_colours(photos, tmp_path, options):
    given = (*SMALL, "--image-size", SIZE, "--save", "maps,logits,heatmaps", *options)
    mean, std = "120,110,90", "60,50,70"
    rows = extracted(photos / "rgb", tmp_path / "bgr", *given, "--channels", "bgr",
                     "--mean", mean, "--std", std)  # fmt: skip
    expected = extracted(photos / "bgr", tmp_path / "rgb", *given,
                         "--mean", "90,110,120", "--std", "70,50,60")  # fmt: skip
    assert_same(rows, expected)
    for run, order in (("bgr", "bgr"), ("rgb", None)):
        numbers = json.loads((tmp_path / run / "run.json").read_text())["numbers"]
        assert numbers["preprocessing"].get("channels") == order


def test_shorter_sees_the_same_however_it_is_decoded_and_listed(tmp_path):
    """Maps lie where torchvision's CenterCrop of Resize does, also in a box."""
    rng = np.random.RandomState(1)
    (tmp_path / "photo.jpg").write_bytes(jpeg(rng, 500, 371))
    (tmp_path / "list.csv").write_text("path,x0,y0,x1,y1\nphoto.jpg,,,,\nphoto.jpg,20,40,341,240\n")
    options = (*SMALL, "--image-size", "32,48", "--resize", "shorter:60,crop")
    options += ("--save", "maps,logits,overlays", "--overlay-format", "png")
    rows = extracted(tmp_path / "list.csv", tmp_path / "run", *options)
    y, x = 500 / 80, 371 / 60  # Resize(60) of 371x500: 60x80; 24 rows and 6 columns before
    whole = (24 * y, 6 * x, 56 * y, 54 * x)
    y, x = 200 / 60, 321 / 96  # of 321x200: 96x60
    box = (40 + 14 * y, 20 + 24 * x, 40 + 46 * y, 20 + 72 * x)
    np.testing.assert_allclose(rows["crop"], [whole, box], rtol=1e-6)
    assert rows["cam/two_relu/map"].shape[2:] == (8, 12)
    with open_run(tmp_path / "run") as run:
        placed = run.cam("two_relu").on_original(1)
    assert placed.shape == (500, 371)
    seen = np.argwhere(placed)
    assert (seen.min(axis=0) >= np.floor(box[:2])).all()
    assert (seen.max(axis=0) <= np.ceil(box[2:])).all()
    overlays = [cv2.imread(str(p)) for p in (tmp_path / "run" / "overlays").iterdir()]
    assert [overlay.shape for overlay in overlays] == [(32, 48, 3)] * 2
    fast = extracted(tmp_path / "list.csv", tmp_path / "fast", *options, "--fast-decode")
    np.testing.assert_allclose(fast["crop"], rows["crop"], rtol=1e-6)
    np.testing.assert_allclose(fast["logits"], rows["logits"], atol=0.1)
    assert (fast["logits"][0] != rows["logits"][0]).any()


def network(path, channels, dtype=FLOAT, size=(SIZE, SIZE)):
    """An ONNX file that begins with Cast where it takes whole numbers."""
    first = [helper.make_node("Cast", ["x"], ["f"], to=FLOAT)]
    names = ["x"] if dtype == FLOAT else ["f"]
    nodes = first * (dtype != FLOAT) + [
        helper.make_node("Conv", [*names, "w"], ["c"], name="conv", strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["q"]),
        helper.make_node("Gemm", ["q", "d"], ["y"], name="dense"),
    ]
    graph = helper.make_graph(
        nodes, "test",
        [helper.make_tensor_value_info("x", dtype, ["N", channels, *size])],
        [helper.make_tensor_value_info("y", FLOAT, ["N", 4])],
        [numpy_helper.from_array(weight(4, channels, 3, 3), "w"),
         numpy_helper.from_array(weight(4, 4), "d")],
    )  # fmt: skip
    ids = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=ids, ir_version=8), path)
    return path


@pytest.mark.parametrize("kind", ["gray", "bytes"])
def test_gray_and_bytes_are_what_onnxruntime_is_given(photos, tmp_path, kind):
    dtype = UINT8 if kind == "bytes" else FLOAT
    model = network(tmp_path / "net.onnx", 1 if kind == "gray" else 3, dtype)
    (tmp_path / "squares").mkdir()
    files = sorted((photos / "rgb").iterdir())
    pictures = [Image.open(path).resize((SIZE, SIZE)) for path in files]
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / "squares" / f"{i:02d}.png")
    rows = extracted(tmp_path / "squares", tmp_path / "run", "--model", model, "--save", "logits",
                     "--executor", "local")  # fmt: skip
    pixels = np.stack([np.asarray(p.convert("L" if kind == "gray" else "RGB")) for p in pictures])
    pixels = pixels.reshape(16, SIZE, SIZE, -1).transpose(0, 3, 1, 2)
    given = (pixels / 255).astype(np.float32) if kind == "gray" else pixels.copy()
    expected = reference_of_file(model, given)
    scale = abs(expected).max()
    np.testing.assert_allclose(rows["logits"], expected, atol=5e-3 * scale)  # BT.601 is rounded


@pytest.mark.parametrize(
    ("channels", "dtype", "options", "message"),
    [
        (1, FLOAT, ("--channels", "bgr"), "--channels bgr: net takes one channel"),
        (4, FLOAT, (), "--model: net takes 4 channels; pictures have three, of wh"),
        (3, UINT8, ("--mean", "1,2,3"), "--mean: net takes pixels as whole numbers"),
        (
            3,
            FLOAT,
            ("--image-size", "32,x"),
            "--image-size: takes SIDE or HEIGHT,WIDTH",
        ),
        (3, FLOAT, ("--image-size", "32,4"), "each 8 to 4096; not 32,4"),
        (3, FLOAT, ("--image-size", "64,32"), "it takes images of 32 pixels, not 64"),
        (
            3,
            FLOAT,
            ("--resize", "shorter:256"),
            "or shorter:N,crop, such as",
        ),
        (3, FLOAT, ("--resize", "shorter:0,crop"), "not shorter:0,crop"),
        (3, FLOAT, ("--channels", "gbr"), "'gbr' is not one of 'rgb', 'bgr'"),
    ],
)
def test_what_does_not_fit_is_one_line(photos, tmp_path, channels, dtype, options, message):
    model = network(tmp_path / "net.onnx", channels, dtype)
    code, _, err = shardcam(
        "extract", photos / "rgb", "--model", model, "--executor", "local", *options, "--out",
        tmp_path / "run",
    )  # fmt: skip
    assert code == 2
    assert message in err
    assert not (tmp_path / "run").exists()


def test_sizes_of_yaml_and_python_and_commas():
    from shardcam.engine.config import RunConfig
    from shardcam.jobs.options import as_options

    for given, meant in ((224, 224), ("224", 224), ("48,192", (48, 192)), ([48, 192], (48, 192)),
                         ((64, 64), 64)):  # fmt: skip
        config = RunConfig.of(source="s", model="m", out="o", image_size=given)
        assert config.image_size == meant
        assert RunConfig.of(**config.model_dump(mode="json")) == config
        text = "48,192" if meant == (48, 192) else str(meant)
        assert f"--image-size={text}" in as_options(config)


def test_layers_as_json(tmp_path):
    code, out, err = shardcam("layers", network(tmp_path / "net.onnx", 4), "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert [row["name"] for row in found["layers"]] == ["conv", "relu"]
    row = found["layers"][1]
    assert (row["shape"], row["auto"], row["gradient"]) == ([4, 15, 15], True, "closed form")
    facts = found["detected"]
    assert facts["input"] == {"name": "x", "shape": [4, SIZE, SIZE]}
    assert facts["channels"] == 4
    assert facts["preprocessing"] == {"mean": [0] * 4, "std": [255] * 4, "assumed": True,
                                      "whole_numbers": False}  # fmt: skip
    assert (facts["scaling_inside"], facts["output"]) == (None, 4)


def test_layers_tells_what_was_found_out(tmp_path):
    data = mx.sym.var("data") * (1 / 255)
    net = mx.sym.Convolution(data, name="conv", num_filter=4, kernel=(3, 3))
    net = mx.sym.Flatten(mx.sym.Pooling(net, global_pool=True, kernel=(1, 1)))
    mx.sym.FullyConnected(net, num_hidden=5, name="dense").save(str(tmp_path / "net-symbol.json"))
    code, out, err = shardcam("layers", tmp_path / "net-symbol.json", "--params", "random",
                              "--image-size", "24,32")  # fmt: skip
    assert (code, err) == (0, "")
    facts = dict(line.split("  ", 1) for line in out.splitlines() if "  " in line)
    assert facts["input"].strip() == "data, 3x24x32"
    assert facts["scaling inside"].strip().endswith(", of pixels from 0 to 255")
    assert "(RGB - [0, 0, 0]) / [1, 1, 1], 0-255 scale: assumed" in facts["preprocessing"]
    assert facts["output"].strip() == "5 classes"
