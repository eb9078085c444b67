"""``shardcam filters`` as a person uses it, and the top-activating rows of a real run."""

import json
import shutil

import cv2
import mxnet as mx
import numpy as np
import pytest
from PIL import Image

from shardcam import open_run
from shardcam.engine.analysis.top_activating import top_activating
from shardcam.engine.errors import ConfigError
from shardcam.engine.models.filter_weights import filters_of, stages
from shardcam.engine.models.load_network import load_network
from shardcam.engine.run.stored_options import stored_config
from shardcam.jobs.looking.filter_pictures import colour_filters, signed_filters
from shardcam.jobs.looking.top_crops import examples_of, view_share
from tests.jobs.command import contents, shardcam
from tests.jobs.images import make_folder
from tests.models.networks import every_tap_kind
from tests.models.onnx_models import ints, make, node, weight
from tests.models.small_checkpoint import write_checkpoint

LITE0 = ("efficientnet_lite0", "--image-size", "64")
LAYER, POOLED = "block3_expand_relu6", "block5_expand_relu6"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A run of 13 pictures in three shards, with activations; and one with pooled values."""
    base = tmp_path_factory.mktemp("filters")
    make_folder(base / "pictures", 14, bad=1)
    for name, save, layers in (
        ("run", "activations", (LAYER, "fc")),
        ("pooled", "pooled", (POOLED,)),
        ("neither", "maps", ()),
    ):
        options = [part for layer in layers for part in ("--activation-layer", layer)]
        code, _, err = shardcam(
            *("extract", base / "pictures", "--model", *LITE0, "--out", base / name),
            *("--executor", "local", "--shard-size", 5, "--save", save, *options),
        )
        assert code == 0, err
    return base


def size_of(path):
    with Image.open(path) as picture:
        return picture.size


def test_filters_of_the_first_and_of_deeper_convolutions(tmp_path):
    layers = ("stem_conv", "block2_depthwise_conv", "head_conv_output")
    chosen = [part for layer in layers for part in ("--layer", layer)]
    code, out, err = shardcam("filters", *LITE0, *chosen, "--count", 5, "--out", tmp_path)
    assert (code, err) == (0, "")
    files = ("stem_conv-filters", "block2_depthwise_conv-filters", "head_conv-filters")
    told = ("5 of 32 filters, each 3x3 on 3", "5 of 144 filters, each 3x3 on 1", "1x1 on 320")
    for line, file, words in zip(out.splitlines(), files, told):
        assert line.startswith(f"{tmp_path / file}.png: ")
        assert words in line
        assert size_of(tmp_path / f"{file}.png")[0] > 100


def test_colours_are_those_of_the_weights():
    """Zero is grey; the largest weight of each filter, in size, is the end of the scale."""
    weights = np.zeros((2, 3, 2, 2), np.float32)
    weights[1, 0, 0, 0], weights[1, 2, 1, 1] = 0.02, -0.01
    picture = colour_filters(weights, [1])
    colours = {tuple(c) for c in picture.reshape(-1, 3)}
    assert {(255, 128, 128), (128, 128, 64), (128, 128, 128)} <= colours


def test_deep_filters_show_their_strongest_inputs_first():
    weights = np.zeros((1, 40, 1, 1), np.float32)
    weights[0, 7], weights[0, 3] = -2, 1
    picture = signed_filters(weights, [0]).astype(int)
    inner = picture[:, 8:48]  # the first tile
    assert (inner[..., 2] - inner[..., 0]).max() > 100  # blue: the strongest is negative
    assert (inner[..., 0] - inner[..., 2]).max() < 20


def test_padding_is_no_part_of_a_filter():
    """Lite0's stem is stored with a first row and column of zeros, in the place of a Pad."""
    network = load_network("efficientnet_lite0", image_size=64)
    assert network.parameters["stem_conv_weight"].shape == (32, 3, 4, 4)
    name, weights = filters_of(network)
    assert name == "stem_conv"
    np.testing.assert_array_equal(weights, network.parameters["stem_conv_weight"][:, :, 1:, 1:])


def test_a_layer_for_each_resolution():
    assert stages(load_network("efficientnet_lite0")) == [
        *(f"block{number}_expand_relu6" for number in (1, 3, 5, 11)),
        "head_relu6",
        "fc",
    ]
    assert stages(every_tap_kind()) == ["concat", "e_relu", "dense"]


def test_top_activating_rows_are_those_of_plain_h5py(base):
    units = [5, 0, 77]
    values = contents(base / "run")[f"activation/{LAYER}"]
    with open_run(base / "run") as run:
        found = top_activating(run, LAYER, units, 4)
        some = top_activating(run.select(min_score=0.0), LAYER, units, 99)
    for k, unit in enumerate(units):
        peaks = values[:, unit].max(axis=(1, 2))
        assert found.rows[k].tolist() == np.argsort(-peaks, kind="stable")[:4].tolist()
        np.testing.assert_array_equal(found.values[k], peaks[found.rows[k]])
        for row, (y, x), value in zip(found.rows[k], found.places[k], found.values[k]):
            assert values[row, unit, y, x] == value
    assert some.rows.shape == (3, 13)


def test_pooled_values_and_dense_layers_have_no_places(base):
    with open_run(base / "pooled") as run:
        found = top_activating(run, POOLED, [3], 2)
        means = contents(base / "pooled")[f"pooled/{POOLED}"][:, 3]
        assert found.places is None
        assert found.rows[0].tolist() == np.argsort(-means, kind="stable")[:2].tolist()
        with pytest.raises(ConfigError, match="units 0 to 239; there is no 240"):
            top_activating(run, POOLED, [240], 2)
    with open_run(base / "run") as run:
        assert top_activating(run, "fc", [999], 1).places is None


def test_examples_are_cut_where_the_unit_looked(base):
    """A crop is the very part of the picture, in the picture's own pixels."""
    with open_run(base / "run") as run:
        config = stored_config(base / "run", run.config).model_copy(
            update={"out": str(base / "run")}
        )
        part = (0.25, 0.5, 0.5, 0.75)
        ((first, *_),) = examples_of(run, config, LAYER, [5], 3, lambda place: part)
        row = top_activating(run, LAYER, [5], 1).rows[0, 0]
        picture = cv2.imread(str(base / "pictures" / run.keys[row]))[..., ::-1]
        top, left, bottom, right = run["crop"][row]
        down, across = bottom - top, right - left
        y0, x0, y1, x1 = (
            round(float(edge))
            for edge in (
                top + 0.25 * down,
                left + 0.5 * across,
                top + 0.5 * down,
                left + 0.75 * across,
            )
        )
        expected = picture[y0:y1, x0:x1].mean(axis=(0, 1))
        np.testing.assert_allclose(first.crop.mean(axis=(0, 1)), expected, atol=3)


def test_a_part_at_the_edge_is_moved_inside():
    assert view_share(None, 100, 100) == (0, 0, 1, 1)
    assert view_share((-10, 20, 10, 40), 100, 100) == pytest.approx((0, 0.2, 0.2, 0.4))
    assert view_share((90, -400, 110, 400), 100, 100) == pytest.approx((0.8, 0, 1, 1))


def test_examples_and_made_pictures_side_by_side(base, tmp_path):
    arguments = ("--examples", base / "run", "--channels", "0,77", "--out", tmp_path)
    code, out, err = shardcam("filters", *LITE0, *arguments, "--maximise", "--steps", 5)
    assert (code, err) == (0, "")
    first, second = out.splitlines()
    assert first.startswith(f"{tmp_path / LAYER}-examples.jpg: 2 of 144 channels; 0: ")
    assert "77 English setter" not in second
    assert "0 tench: " in second
    assert size_of(tmp_path / f"{LAYER}-examples.jpg")[0] > 112 * 4


def test_maximise_says_how_far_it_came(tmp_path):
    arguments = ("--maximise", "--layer", "fc", "--channels", "340", "--steps", 20)
    code, out, err = shardcam("filters", *LITE0, *arguments, "--out", tmp_path)
    assert (code, err) == (0, "")
    path, _, told = out.partition(": 1 of 1000 channels; 340 zebra: ")
    assert path == str(tmp_path / "fc-maximised.jpg")
    start, end = map(float, told.split(" -> "))
    assert end > 10 * abs(start)
    assert min(size_of(path)) >= 224


def test_pictures_are_made_for_the_input_that_the_run_gave(tmp_path):
    model = write_checkpoint(tmp_path, 32)
    make_folder(tmp_path / "pictures", 3)
    own = ("--image-size", 32, "--mean", "0,0,0", "--std", "255,255,255")
    command = ("extract", tmp_path / "pictures", "--model", model, "--out", tmp_path / "run", *own)
    code, _, err = shardcam(*command, "--executor", "local", "--save", "pooled")
    assert code == 0, err
    made = ("filters", model, "--maximise", "--layer", "two_relu", "--steps", 2, "--out", tmp_path)
    (_, given, _), (_, known, _), (_, assumed, _) = (
        shardcam(*made, *options)
        for options in (own, ("--examples", tmp_path / "run"), ("--image-size", 32))
    )
    rises = [told.partition("; ")[2] for told in (given, known, assumed)]
    assert rises[0] == rises[1] != rises[2]
    assert rises[0].count(" -> ") == 6


def test_filters_on_bgr_are_drawn_in_their_colours(tmp_path):
    """Against the same weights in the order of RGB."""
    files = {}
    for order in ("rgb", "bgr"):
        (tmp_path / order).mkdir()
        model = write_checkpoint(tmp_path / order, 32)
        params = tmp_path / order / "small-0000.params"
        weights = mx.nd.load(str(params))
        if order == "bgr":
            weights["arg:one_weight"] = mx.nd.flip(weights["arg:one_weight"], axis=1)
            mx.nd.save(str(params), weights)
        out = tmp_path / order / "out"
        for what in ((), ("--maximise", "--layer", "one_relu", "--steps", 4)):
            code, _, err = shardcam("filters", model, *what, "--input-channels", order,
                                    "--image-size", 32, "--out", out)  # fmt: skip
            assert code == 0, err
        files[order] = [cv2.imread(str(path)).astype(int) for path in sorted(out.iterdir())]
    assert len(files["rgb"]) == 2
    for one, other in zip(files["rgb"], files["bgr"], strict=True):
        assert abs(one - other).max() <= 8


def test_outputs_of_a_network_that_claims_no_class(tmp_path):
    model = write_checkpoint(tmp_path, 32)
    what = ("--maximise", "--layer", "dense", "--channels", "3", "--steps", 1)
    for link, name in (("none", "3 output 3: "), ("softmax", "3 class 3: ")):
        code, out, err = shardcam("filters", model, *what, "--link", link, "--image-size", 32,
                                  "--out", tmp_path / "out")  # fmt: skip
        assert (code, err) == (0, "")
        assert name in out


def test_tokens_are_laid_out_as_in_the_run(tmp_path):
    """The graph does not say which tokens they are."""
    nodes = [
        node("Conv", "x k", "c"), node("Reshape", "c s", "r"), node("MatMul", "r w", "m"),
        node("Transpose", "m", "t", perm=[0, 2, 1]), node("Sigmoid", "t", "f"),
        node("MatMul", "f d", "e"), node("ReduceMean", "e", "y", axes=[1], keepdims=0),
    ]  # fmt: skip
    weights = {"k": weight(8, 3, 1, 1), "s": ints(0, 8, -1), "w": weight(96, 96)}
    weights["d"] = weight(8, 5)
    model = tmp_path / "net.onnx"
    made = make(nodes, weights, shape=("N", 3, 8, 12), flatten=False)
    model.write_bytes(made.SerializeToString())
    make_folder(tmp_path / "pictures", 3)
    code, _, err = shardcam(
        *("extract", tmp_path / "pictures", "--model", model, "--out", tmp_path / "run"),
        *("--tokens", 0, "--layer", "f", "--save", "activations", "--executor", "local"),
    )
    assert code == 0, err
    drawn = ("filters", model, "--examples", tmp_path / "run", "--out", tmp_path / "out")
    code, out, err = shardcam(*drawn)
    assert (code, err) == (0, "")
    assert "f-examples.jpg: 6 of 8 channels" in out
    code, _, err = shardcam(*drawn, "--tokens", 1)
    assert code == 2 and "--tokens: differs from that of the --examples run" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--layer", "hed_conv"), "has no layer 'hed_conv'; nearest: head_conv"),
        (("--layer", "stem_relu6"), "stem_relu6 has no filters of its own; convolutions near it"),
        (("--channels", "3,32"), "--channels 32: stem_conv has 0 to 31"),
        (("--channels", "three"), "--channels: numbers with commas"),
        (("--maximise", "--layer", "fc", "--channels", "1000"), "--channels 1000: fc has 0 to 999"),
        (("--examples", "RUN", "--layer", "stem_conv"), "no activations of layer 'stem_conv'"),
        (("--examples", "neither"), "--examples: this run has no activations"),
        (
            ("--examples", "RUN", "--image-size", "96"),
            "--image-size: differs from that of the --examples run",
        ),
        (
            ("--examples", "RUN", "--input-channels", "bgr"),
            "--input-channels: differs from that of the --examples run",
        ),
        (
            ("--examples", "RUN", "--mean", "1,2,3"),
            "--mean: differs from that of the --examples run",
        ),
        (("--mean", "1"), "--mean: efficientnet_lite0 takes 3 numbers"),
        (("--std", "0,1,1"), "--std: "),
        (("--examples", "nowhere"), "nowhere"),
    ],
    ids=str,
)
def test_wrong_usage_is_one_line(base, tmp_path, arguments, words):
    known = {"RUN": base / "run", "neither": base / "neither", "nowhere": base / "nowhere"}
    arguments = [known.get(word, word) for word in arguments]
    code, out, err = shardcam("filters", *LITE0, *arguments, "--out", tmp_path / "out")
    assert code == 2
    assert out == ""
    assert words in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_source_that_is_gone_is_one_line(base, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(base / "run", run)
    stored = json.loads((run / "run.json").read_text())
    stored["config"]["source"] = str(tmp_path / "gone")
    (run / "run.json").write_text(json.dumps(stored))
    code, _, err = shardcam("filters", *LITE0, "--examples", run, "--out", tmp_path / "out")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert str(tmp_path / "gone") in err


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = shardcam("filters", *LITE0, "--out", tmp_path / "file")
    assert code == 2
    assert err == f"shardcam: --out {tmp_path / 'file'}: is a file; name a folder\n"
