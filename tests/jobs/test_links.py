"""Runs of networks of one output, of several labels, and of numbers."""

import numpy as np
import pytest

from shardcam import open_run
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.jobs.gallery.gallery_run import opened_run
from shardcam.jobs.gallery.server import Pages
from tests.jobs.command import contents, shardcam
from tests.jobs.small_networks import conv_of, extract, make_pictures, network, raw_maps
from tests.models.onnx_models import node, reference

SIGMOID = [node("Sigmoid", "z", "y")]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return make_pictures(tmp_path_factory.mktemp("pictures"))


def test_one_output_is_two_classes(pictures, tmp_path):
    z, p, weights = network(tmp_path / "net.onnx", pictures[1], 1, SIGMOID)
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    options = ("--target", "class:0,1", "--save", "maps,logits,overlays")
    code, out, err = extract(pictures, tmp_path, *options, "--labels", tmp_path / "names.txt")
    assert code == 0, err
    rows = contents(tmp_path / "run")
    np.testing.assert_allclose(rows["logits"], z, rtol=1e-4)
    np.testing.assert_allclose(rows["score"], np.concatenate([1 - p, p], axis=1), atol=1e-6)
    assert rows["top_class"][:, 0].tolist() == (p[:, 0] > 0.5).tolist()
    assert 0 < rows["top_class"][:, 0].sum() < 6
    activation = np.maximum(reference(conv_of(weights), pictures[1]), 0)
    expected = np.einsum("nchw,c->nhw", activation, weights["d"][0]) / activation[0, 0].size
    maps = raw_maps(rows)
    np.testing.assert_allclose(maps[:, 1], expected, atol=2e-3 * abs(expected).max())
    np.testing.assert_array_equal(maps[:, 0], -maps[:, 1])
    assert "cat" in out and "dog" in out
    with open_run(tmp_path / "run") as run:
        right = (run["top_class"][:, 0] == run["label"][:]).sum()
        assert [len(run.select(correct=yes)) for yes in (True, False)] == [
            right,
            6 - right,
        ]
        assert run.config["link"] == "sigmoid"


def test_several_labels_of_an_image(pictures, tmp_path):
    z, p, _ = network(tmp_path / "net.onnx", pictures[1], 5, SIGMOID)
    code, _, err = extract(
        pictures, tmp_path, "--target", "above:0.6,3", "--save", "maps,logits,overlays,heatmaps"
    )
    assert code == 0, err
    rows = contents(tmp_path / "run")
    np.testing.assert_allclose(rows["logits"], z, rtol=1e-4)
    expected = [[c for c in np.argsort(-z[i]) if p[i, c] > 0.6][:3] for i in range(6)]
    assert {len(row) for row in expected} > {3}  # as many as may be, and fewer
    assert rows["target"].tolist() == [[*row, *[-1] * (3 - len(row))] for row in expected]
    none = rows["target"] == -1
    assert np.isnan(rows["score"][none]).all()
    np.testing.assert_allclose(
        rows["score"][~none], [p[i, c] for i, row in enumerate(expected) for c in row], rtol=1e-5
    )
    assert not rows["cam/r/scale"][none].any() and (rows["cam/r/scale"][~none] > 0).all()
    assert not (rows["flags"] & 1).any()
    np.testing.assert_allclose(rows["top_score"], -np.sort(-p, axis=1), atol=1e-6)
    names = {path.stem for path in (tmp_path / "run" / "overlays").iterdir()}
    assert len(names) == (~none).sum() + none[:, 0].sum()


@pytest.mark.parametrize(
    ("tail", "options"), [([], ("--link", "none")), ([node("Tanh", "z", "y")], ())]
)
def test_numbers_claim_no_class(tail, options, pictures, tmp_path):
    _, y, _ = network(tmp_path / "net.onnx", pictures[1], 1, tail)
    code, out, err = extract(pictures, tmp_path, "--save", "maps,logits", *options)
    assert code == 0, err
    assert "output 0" in out and "class 0" not in out
    rows = contents(tmp_path / "run")
    np.testing.assert_allclose(rows["score"], y, rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(rows["score"], rows["logits"])
    assert not rows["target"].any()
    assert (rows["top_class"] == -1).all() and np.isnan(rows["top_score"]).all()
    assert not (rows["flags"] & 1).any()
    with open_run(tmp_path / "run") as run:
        assert [len(run.select(correct=yes)) for yes in (True, False)] == [0, 0]
    with opened_run(RunDir(tmp_path / "run"), photographs=False) as opened:
        statistics = opened.gallery(opened.columns, None, None).statistics
        assert (statistics.claims, statistics.labelled) == (False, 0)
        body = Pages(opened).answer("/items").body
        assert body.count(b'"correct":null') == 6
        assert body.count(b'"name":"output 0"') == 12
        assert b"claims no class" in Pages(opened).answer("/").body
    refused = extract(pictures, tmp_path, "--target", "label", *options)
    assert refused[0] == 2 and "claims no class" in refused[2]


def test_the_link_belongs_to_the_run(pictures, tmp_path):
    network(tmp_path / "net.onnx", pictures[1], 5, [node("Softmax", "z", "y")])
    assert extract(pictures, tmp_path)[0] == 0
    numbers = read_manifest(RunDir(tmp_path / "run")).numbers
    assert "link" not in numbers  # as runs were that had nothing else
    assert extract(pictures, tmp_path, "--link", "softmax")[0] == 0
    code, _, err = extract(pictures, tmp_path, "--link", "sigmoid")
    assert code == 2 and "link: null there, sigmoid now" in err


def test_what_is_guessed_is_told_once(pictures, tmp_path):
    network(tmp_path / "net.onnx", pictures[1], 1, [])
    code, out, err = extract(pictures, tmp_path)
    assert code == 0, err
    assert out.count("one output and no sigmoid after it") == 1
    code, out, err = shardcam("layers", tmp_path / "net.onnx")
    facts = dict(line.split("  ", 1) for line in out.splitlines() if "  " in line)
    assert (facts["output"].strip(), facts["link"].strip()) == (
        "2 classes of one output",
        "sigmoid",
    )
    assert "one output and no sigmoid after it" in out
