"""Seeds and the dictionaries of IRN and PSA: by hand from the maps, without PyTorch and resumed."""

import os
import pickletools
import sys
import types

import cv2
import numpy as np
import pytest
from PIL import Image

from shardcam import export, open_run
from shardcam.engine.analysis.class_scores import class_scores, grid_scores, one_map
from shardcam.engine.analysis.export_files import file_stems
from shardcam.engine.analysis.export_seeds import seed_of
from shardcam.engine.errors import ConfigError
from tests.analysis import native_runs
from tests.analysis.native_runs import FOUR, ONE, make_native_run
from tests.analysis.runs import MAP, make_run


def scores_by_hand(run, i, size=None, low=0.0):
    """(k,H,W) and classes, by OpenCV: what a run of a crop, whose edges are whole, shows of it."""
    height, width = run["image_size"][i].tolist()
    size = size or (height, width)
    order = np.argsort(run["target"][i])
    y0, x0, y1, x1 = (run["crop"][i] * np.tile(np.divide(size, (height, width)), 2)).tolist()
    assert (y0, x0, y1, x1) == (0, 0, *size)
    scores = []
    for raw in run.cam(MAP)[i][order]:
        high = cv2.resize(np.maximum(raw, 0), size[::-1], interpolation=cv2.INTER_LINEAR)
        scores.append(high / (high.max() + np.float32(1e-5)))
    return run["target"][i][order], np.array(scores)


@pytest.fixture
def squashed(tmp_path):
    made = make_run(tmp_path / "run", resize="squash", keys="2007_{:06d}.jpg")
    with open_run(made.paths.root) as run:
        yield run


@pytest.mark.parametrize("threshold", [0.15, 0.4, (0.05, 0.3)])
def test_seeds(squashed, tmp_path, threshold):
    assert export.seeds(squashed, tmp_path / "seeds", MAP, threshold) == 12
    low, high = threshold if isinstance(threshold, tuple) else (threshold,) * 2
    for i, key in enumerate(squashed.keys):
        picture = Image.open(tmp_path / "seeds" / key.replace(".jpg", ".png"))
        assert picture.mode == "P"
        assert picture.getpalette()[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
        assert picture.getpalette()[3 * 21 : 3 * 22] == [128, 64, 128]
        assert picture.getpalette()[-3:] == [224, 224, 192]
        classes, scores = scores_by_hand(squashed, i)
        planes = [np.full(scores.shape[1:], np.float32(t))[None] for t in (high, low)]
        names = np.array([0, *(classes + 1)])
        sure, maybe = (names[np.concatenate([p, scores]).argmax(axis=0)] for p in planes)
        expected = sure.copy()  # as IRN's cam_to_ir_label
        expected[sure == 0] = 255
        expected[sure + maybe == 0] = 0
        assert (np.asarray(picture) != expected).mean() <= 0.01  # OpenCV rounds in another order
        assert picture.size[::-1] == tuple(squashed["image_size"][i])


def test_ties_and_limits_go_to_the_background_and_to_the_first_class():
    scores = np.array([[[0.5, 0.3, 0.05, 0.3]], [[0.5, 0.2, 0.05, 0.31]]], np.float32)
    classes = np.array([4, 7], np.int32)
    assert seed_of(classes, scores, 0.05, 0.3).tolist() == [[5, 255, 0, 8]]
    assert seed_of(classes, scores, 0.3, 0.3).tolist() == [[5, 0, 0, 8]]
    assert seed_of(classes[:0], scores[:0], 0.3, 0.3).tolist() == [[0] * 4]


class Fake(np.ndarray):
    """What a stand-in for PyTorch gives."""


@pytest.fixture
def stand_in(monkeypatch):
    module = types.ModuleType("torch")
    module.from_numpy = lambda array: array.view(Fake)
    monkeypatch.setitem(sys.modules, "torch", module)


def test_irn(squashed, tmp_path, stand_in):
    assert export.irn(squashed, tmp_path / "irn", MAP) == 12
    for i, key in enumerate(squashed.keys):
        path = tmp_path / "irn" / key.replace(".jpg", ".npy")
        found = np.load(path, allow_pickle=True).item()
        assert [*found] == ["keys", "cam", "high_res"]
        classes, high = scores_by_hand(squashed, i)
        small = tuple((-(-squashed["image_size"][i] // 4)).tolist())
        _, cam = scores_by_hand(squashed, i, small)
        assert [type(v) for v in found.values()] == [Fake, Fake, np.ndarray]
        assert [v.dtype for v in found.values()] == [np.int64, np.float32, np.float32]
        assert found["keys"].tolist() == classes.tolist() == sorted(classes.tolist())
        np.testing.assert_allclose(found["high_res"], high, atol=2e-5)
        if min(small) >= 5:  # OpenCV shrinks otherwise than PyTorch where pixels are lost
            np.testing.assert_allclose(found["cam"], cam, atol=2e-5)
        assert found["cam"].shape == (2, *small) and found["cam"].flags.writeable


def test_the_dictionary_names_what_every_numpy_has(squashed, tmp_path):
    export.irn(squashed, tmp_path / "irn", MAP)
    data = (tmp_path / "irn" / "2007_000000.npy").read_bytes()
    pickle = data[data.index(b"\n") + 1 :]
    asked = {argument for code, argument, _ in pickletools.genops(pickle) if code.name == "GLOBAL"}
    assert asked == {
        "numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype", "torch from_numpy"
    }  # fmt: skip
    assert len(data[: data.index(b"\n") + 1]) % 64 == 0


def test_psa(squashed, tmp_path):
    assert export.psa(squashed, tmp_path / "psa", MAP) == 12
    for i, key in enumerate(squashed.keys):
        found = np.load(tmp_path / "psa" / key.replace(".jpg", ".npy"), allow_pickle=True).item()
        classes, high = scores_by_hand(squashed, i)
        assert [*found] == classes.tolist() and {type(name) for name in found} == {int}
        for name, expected in zip(classes.tolist(), high):
            assert found[name].dtype == np.float32
            np.testing.assert_allclose(found[name], expected, atol=2e-5)


def test_whole_files_are_kept(squashed, tmp_path):
    export.seeds(squashed, tmp_path, MAP)
    names = [name for name in os.listdir(tmp_path) if name.endswith(".png")]
    (tmp_path / names[0]).unlink()
    (tmp_path / names[1]).write_bytes(b"mine")
    assert export.seeds(squashed, tmp_path, MAP, keep=True) == 1
    assert (tmp_path / names[1]).read_bytes() == b"mine"
    assert export.seeds(squashed, tmp_path, MAP) == 12
    assert (tmp_path / names[1]).read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["a/2007_1.jpg", "b/2007_2.jpg"], ["2007_1", "2007_2"]),
        (["a/1.jpg", "b/1.png"], ["00000000-a-1", "00000004-b-1"]),
        (["a.jpg", "A.jpg"], ["00000000-a", "00000004-A"]),
        (["a.jpg", "x/..jpg"], ["00000000-a", "00000004-x-jpg"]),
        (["a.jpg", "größe.jpg"], ["00000000-a", "00000004-gr-e"]),
        (["a.jpg", "b\n.jpg"], ["00000000-a", "00000004-b-"]),
    ],
)
def test_names_of_files(keys, expected):
    assert file_stems(keys, [0, 4]) == expected


@pytest.mark.parametrize("threshold", [-0.1, 1.1, (0.3, 0.05), float("nan")])
def test_bad_thresholds(squashed, tmp_path, threshold):
    with pytest.raises(ConfigError, match="threshold"):
        export.seeds(squashed, tmp_path / "seeds", MAP, threshold)
    assert not (tmp_path / "seeds").exists()


@pytest.fixture(params=[ONE, FOUR], ids=["one scale", "four scales"])
def native(tmp_path, request):
    """A run of pictures at their own sizes, and its copies of each."""
    made = make_native_run(tmp_path / "run", copies=request.param)
    with open_run(made.paths.root) as run:
        yield made, request.param.scales, run


def test_files_of_pictures_at_their_own_sizes(native, tmp_path, stand_in):
    made, scales, run = native
    for form in (export.irn, export.psa, export.seeds):
        assert form(run, tmp_path / form.__name__, native_runs.MAP) == len(run) == 6
    for i, key in enumerate(run.keys):
        name = key.removesuffix(".png")
        size = run["image_size"][i]
        rest = run["target"][i], np.array([0, 0, *size]), size
        classes, high = grid_scores(made.raw(i), scales, *rest)
        found = np.load(tmp_path / "irn" / f"{name}.npy", allow_pickle=True).item()
        assert found["keys"].tolist() == classes.tolist() == sorted(set(rest[0].tolist()) - {-1})
        np.testing.assert_array_equal(found["high_res"], high)
        small = -(-size // 4)
        _, cam = class_scores(
            one_map(made.raw(i), size.tolist()), rest[0], small[[0, 0, 0, 1]] * [0, 0, 1, 1], small
        )
        np.testing.assert_allclose(found["cam"], cam, atol=1e-6)
        levels = np.asarray(Image.open(tmp_path / "seeds" / f"{name}.png"))
        np.testing.assert_array_equal(levels, seed_of(classes, high, 0.15, 0.15))
        _, high = grid_scores(made.raw(i), scales, *rest, "psa")
        found = np.load(tmp_path / "psa" / f"{name}.npy", allow_pickle=True).item()
        assert [*found] == classes.tolist()
        for one, expected in zip(found.values(), high):
            np.testing.assert_array_equal(one, expected)
