"""Networks of embeddings, explained by the cosine of theirs and a given one."""

import re
import shutil

import numpy as np
import pytest

from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import read_manifest
from tests.jobs.command import contents
from tests.jobs.small_networks import conv_of, extract, make_pictures, network, raw_maps
from tests.models.onnx_models import reference


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return make_pictures(tmp_path_factory.mktemp("pictures"))


def by_hand(weights, images, vector):
    """(N,) cosines, (N,h,w) Grad-CAM of the layer before the pooling, in float64."""
    activation = np.maximum(reference(conv_of(weights), images), 0).astype(np.float64)
    embedding = activation.mean(axis=(2, 3)) @ weights["d"].T.astype(np.float64) + weights["b"]
    length = np.linalg.norm(embedding, axis=1, keepdims=True)
    unit, wanted = embedding / length, vector / np.linalg.norm(vector)
    cosine = unit @ wanted
    slope = (wanted - cosine[:, None] * unit) / length @ weights["d"]
    return cosine, np.einsum("nchw,nc->nhw", activation, slope) / activation[0, 0].size


def test_a_vector_and_a_picture(pictures, tmp_path):
    z, _, weights = network(tmp_path / "net.onnx", pictures[1], 6, [])
    vector = np.random.RandomState(1).standard_normal((6,))
    np.save(tmp_path / "v.npy", vector)
    options = ("--save", "maps,logits", "--target")
    code, out, err = extract(pictures, tmp_path, *options, f"similar:{tmp_path}/v.npy")
    assert code == 0, err
    assert "like v.npy" in out
    rows = contents(tmp_path / "run")
    cosine, maps = by_hand(weights, pictures[1], vector)
    np.testing.assert_allclose(rows["score"][:, 0], cosine, atol=1e-5)
    np.testing.assert_array_equal(rows["logits"], rows["score"])
    np.testing.assert_allclose(raw_maps(rows)[:, 0], maps, atol=2e-3 * abs(maps).max())
    assert (rows["top_class"] == -1).all()

    shutil.rmtree(tmp_path / "run")
    shutil.copy(pictures[0] / "0" / "2.png", tmp_path / "given.png")
    code, out, err = extract(pictures, tmp_path, *options, f"similar:{tmp_path}/given.png")
    assert code == 0, err
    rows = contents(tmp_path / "run")
    cosine, maps = by_hand(weights, pictures[1], z[2].astype(np.float64))
    np.testing.assert_allclose(rows["score"][:, 0], cosine, atol=1e-5)
    assert rows["score"][2, 0] == pytest.approx(1)
    np.testing.assert_allclose(raw_maps(rows)[[0, 1, 3], 0], maps[[0, 1, 3]], atol=2e-3)

    (tmp_path / "moved").mkdir()
    (tmp_path / "given.png").rename(tmp_path / "moved" / "given.png")
    again = extract(pictures, tmp_path, *options, f"similar:{tmp_path}/moved/given.png")
    assert again[0] == 0, again[2]  # the same run
    assert len(read_manifest(RunDir(tmp_path / "run")).numbers["target"]) == len("similar:") + 64


def test_several_vectors_are_several_targets(pictures, tmp_path):
    _, _, weights = network(tmp_path / "net.onnx", pictures[1], 6, [])
    vectors = np.random.RandomState(1).standard_normal((2, 6)).astype(np.float32)
    np.save(tmp_path / "v.npy", vectors)
    code, _, err = extract(pictures, tmp_path, "--target", f"similar:{tmp_path}/v.npy")
    assert code == 0, err
    rows = contents(tmp_path / "run")
    assert rows["target"].tolist() == [[0, 1]] * 6
    for k, vector in enumerate(vectors):
        cosine, _ = by_hand(weights, pictures[1], vector)
        np.testing.assert_allclose(rows["score"][:, k], cosine, atol=1e-5)


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        (np.ones(5), r"\(1, 5\); the network's embedding has 6 numbers"),
        (np.zeros(6), "a vector is 0 or not finite"),
        (np.full(6, np.nan), "a vector is 0 or not finite"),
        (np.array(["a"] * 6), "no array of numbers"),
        (b"text", "no array of numbers"),
        (b"PK\3\4 an archive", "no array of numbers"),
        ("folder", "is a directory, not a regular file"),
        (None, "No such file"),
    ],
)
def test_a_file_that_does_not_fit(stored, told, pictures, tmp_path):
    network(tmp_path / "net.onnx", pictures[1], 6, [])
    if isinstance(stored, str):
        (tmp_path / "v.npy").mkdir()
    elif isinstance(stored, bytes):
        (tmp_path / "v.npy").write_bytes(stored)
    elif stored is not None:
        np.save(tmp_path / "v.npy", stored)
    code, _, err = extract(pictures, tmp_path, "--target", f"similar:{tmp_path}/v.npy")
    assert code == 2
    assert not (tmp_path / "run").exists()
    assert re.search(f"--target similar:.*{told}", err)


def test_a_picture_that_is_none_and_a_network_of_one_output(pictures, tmp_path):
    network(tmp_path / "net.onnx", pictures[1], 6, [])
    (tmp_path / "p.png").write_bytes(b"no picture")
    code, _, err = extract(pictures, tmp_path, "--target", f"similar:{tmp_path}/p.png")
    assert code == 2 and "not a JPEG/PNG" in err
    code, _, err = extract(pictures, tmp_path, "--target", "similar:https://server/p.png")
    assert code == 2 and "--target similar:https://server/p.png: takes a file, not a URL" in err
    network(tmp_path / "net.onnx", pictures[1], 1, [])
    code, _, err = extract(pictures, tmp_path, "--target", f"similar:{tmp_path}/p.png")
    assert code == 2 and "one number, no embedding" in err
