"""Segmentation networks: a class is explained by its scores where it wins."""

import shutil

import numpy as np
import pytest
from onnx import helper

from shardcam.engine.models.layer_names import resolve_layer
from shardcam.engine.models.load_network import load_network
from tests.jobs.command import contents, shardcam
from tests.jobs.small_networks import SIZE, conv_of, extract, make_pictures, raw_maps
from tests.models.onnx_models import make, node, reference, weight

CLASSES = 4


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return make_pictures(tmp_path_factory.mktemp("pictures"))


def network(path, images, classes, tail, never=()):
    """A network of maps z, of which some classes never win; z, and its weights."""
    nodes = [node("Conv", "x w", "c"), node("Relu", "c", "r"), node("Conv", "r d b", "z")]
    weights = {"w": weight(8, 3, 3, 3), "d": weight(classes, 8, 1, 1)}
    weights |= {"b": np.zeros(classes, np.float32), "twice": np.array([1, 1, 2, 2], np.float32)}

    def model(nodes):
        used = {name for n in nodes for name in n.input}
        own = {name: value for name, value in weights.items() if name in used}
        shape = ("N", 3, SIZE, SIZE)
        return make(nodes, own, shape, flatten=False, output=nodes[-1].output[0], rank=4)

    weights["b"] = -reference(model(nodes), images).mean(axis=(0, 2, 3))
    weights["b"][list(never)] -= 1e3
    path.write_bytes(model([*nodes, *tail]).SerializeToString())
    return reference(model(nodes), images), weights


@pytest.mark.parametrize(
    ("tail", "link"),
    [
        ([], "softmax"),
        ([node("Softmax", "z", "y", axis=1)], "softmax"),
        ([node("Transpose", "z", "t", perm=[0, 2, 3, 1]), node("Softmax", "t", "y")], "softmax"),
        ([node("Sigmoid", "z", "y")], "sigmoid"),
    ],
)
def test_where_a_class_wins(tail, link, pictures, tmp_path):
    z, weights = network(tmp_path / "net.onnx", pictures[1], CLASSES, tail)
    save = ("--save", "maps,logits", "--layer", "r")
    code, out, err = extract(pictures, tmp_path, "--target", "class:2,0", *save)
    assert code == 0, err
    assert ("ends in maps without softmax" in out) == (not tail)
    rows = contents(tmp_path / "run")
    won = z > 0 if link == "sigmoid" else z == z.max(axis=1, keepdims=True)
    np.testing.assert_allclose(rows["logits"], (z * won).sum(axis=(2, 3)), rtol=1e-4, atol=1e-3)
    share = won.mean(axis=(2, 3))
    np.testing.assert_allclose(rows["score"], share[:, [2, 0]], atol=1e-6)
    seen = np.where(won.any(axis=1), z.argmax(axis=1), -1)
    np.testing.assert_array_equal(rows["prediction"], seen)
    np.testing.assert_array_equal(rows["top_class"][:, 0], share.argmax(axis=1))
    activation = np.maximum(reference(conv_of(weights), pictures[1]), 0)
    for k, number in enumerate((2, 0)):
        slope = share[:, number, None] * weights["d"][number, :, 0, 0]
        maps = np.einsum("nchw,nc->nhw", activation, slope)
        np.testing.assert_allclose(raw_maps(rows)[:, k], maps, atol=2e-3 * abs(maps).max())


def test_one_map_is_two_classes(pictures, tmp_path):
    z, weights = network(tmp_path / "net.onnx", pictures[1], 1, [node("Sigmoid", "z", "y")])
    code, _, err = extract(pictures, tmp_path, "--target", "class:0,1", "--layer", "r")
    assert code == 0, err
    rows = contents(tmp_path / "run")
    np.testing.assert_array_equal(rows["prediction"], z[:, 0] > 0)
    share = (z > 0).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(rows["score"], np.stack([1 - share, share], axis=1), atol=1e-6)
    activation = np.maximum(reference(conv_of(weights), pictures[1]), 0)
    maps = np.einsum("nchw,c->nhw", activation, weights["d"][0, :, 0, 0])
    signs = np.stack([-(1 - share), share], axis=1)[..., None, None]
    np.testing.assert_allclose(raw_maps(rows), signs * maps[:, None], atol=2e-3 * abs(maps).max())


def test_a_class_that_wins_nowhere(pictures, tmp_path):
    """Its map is zero, and it is none of the predicted ones."""
    network(tmp_path / "net.onnx", pictures[1], CLASSES, [], never=(1, 3))
    code, _, err = extract(pictures, tmp_path, "--target", "class:3", "--layer", "r")
    assert code == 0, err
    rows = contents(tmp_path / "run")
    assert not rows["score"].any() and (rows["flags"] & 2).all()
    assert {*rows["top_class"].ravel().tolist()} == {0, 2, -1}
    assert (rows["top_class"][:, 2:] == -1).all() and np.isnan(rows["top_score"][:, 2:]).all()
    shutil.rmtree(tmp_path / "run")
    code, _, err = extract(pictures, tmp_path, "--target", "top3", "--layer", "r")
    assert code == 0, err
    rows = contents(tmp_path / "run")
    assert (rows["target"][:, 2] == -1).all() and np.isnan(rows["score"][:, 2]).all()
    assert not (rows["flags"] & 2).any()
    shutil.rmtree(tmp_path / "run")
    code, _, err = extract(pictures, tmp_path, "--target", "above:0.4", "--layer", "r")
    assert code == 0, err
    rows = contents(tmp_path / "run")
    np.testing.assert_array_equal(rows["score"] > 0.4, rows["target"] >= 0)


def test_auto_is_no_part_of_enlarging_the_scores(pictures, tmp_path):
    sizes = helper.make_node("Resize", ["z", "", "twice"], ["y"], mode="linear")
    network(tmp_path / "net.onnx", pictures[1], CLASSES, [sizes])
    found = load_network(str(tmp_path / "net.onnx"))
    assert resolve_layer(found, "auto").name == "r"
    assert found.prediction.shape == (CLASSES, 2 * (SIZE - 2), 2 * (SIZE - 2))
    code, _, err = extract(pictures, tmp_path, "--target", "top1")
    assert code == 0, err


def test_means_of_maps_are_numbers(pictures, tmp_path):
    z, _ = network(tmp_path / "net.onnx", pictures[1], CLASSES, [])
    code, out, err = extract(pictures, tmp_path, "--link", "none", "--save", "logits,maps")
    assert code == 0, err
    assert "their means were taken" in out
    np.testing.assert_allclose(contents(tmp_path / "run")["logits"], z.mean(axis=(2, 3)), atol=1e-4)


def test_of_a_detector_it_is_said_what_to_cut(pictures, tmp_path):
    flat = node("Reshape", "z flat", "y")
    path = tmp_path / "net.onnx"
    model = make(
        [node("Conv", "x w", "z"), flat],
        {"w": weight(22, 3, 3, 3), "flat": np.array([0, 22, -1], np.int64)},
        *(("N", 3, SIZE, SIZE),),
        flatten=False,
        rank=3,
    )
    path.write_bytes(model.SerializeToString())
    code, _, err = shardcam("layers", path)
    assert code == 2
    assert "(22, 196) for each image is not a vector of logits" in err
    assert "onnx.utils.extract_model(FILE, NEW, ['x'], [TENSOR])" in err
