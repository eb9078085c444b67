"""The CAM methods and how maps are joined, as a person asks for them."""

import cv2
import h5py
import numpy as np
import pytest

from shardcam.engine.methods import METHODS
from tests.jobs.command import contents, shardcam, shardcam_process
from tests.jobs.images import make_folder

LITE0 = ("--model", "efficientnet_lite0", "--image-size", "64", "--executor", "local")
TWO = ("--layer", "auto", "--layer", "block10_add")


@pytest.mark.process
def test_methods_are_listed():
    code, out, _ = shardcam_process("methods")
    assert code == 0
    assert all(f" {name} " in out for name in METHODS)
    assert "Selvaraju et al., ICCV 2017" in out
    assert "a forward pass per channel" in out
    assert "These do not depend on the class: eigencam, kpcacam, fem, attention, rollout." in out


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("methods") / "images"
    make_folder(folder, 3)
    random = np.random.RandomState(0)
    cv2.imwrite(str(folder / "wide.png"), random.randint(0, 256, (2000, 3000), np.uint8))
    return folder


@pytest.mark.parametrize("name", ["fullgrad", "ablationcam", "kpcacam"])
def test_a_run(images, tmp_path, name):
    command = ("extract", images, *LITE0, "--out", tmp_path / "run", "--method", name)
    code, out, err = shardcam(*command, "--save", "maps,heatmaps")
    assert code == 0, err
    assert "4 listed = 4 ok + 0 failed" in out
    rows = contents(tmp_path / "run")
    layer = "data" if name == "fullgrad" else "head_relu6"
    assert rows[f"cam/{layer}/map"].shape[2:] == ((64, 64) if name == "fullgrad" else (2, 2))
    assert not rows["flags"].any()
    assert rows["heatmap"].max() >= 254
    assert [2000, 3000] in rows["image_size"].tolist()


def test_smoothed_and_fused(images, tmp_path):
    command = (*LITE0, *TWO, "--smooth", "aug,eigen", "--target", "top2")
    for fuse in ("max", "product"):
        code, _, err = shardcam(
            "extract", images, *command, "--out", tmp_path / fuse, "--fuse", fuse, "--save",
            "maps,heatmaps,overlays",
        )  # fmt: skip
        assert code == 0, err
    most, product = (contents(tmp_path / fuse) for fuse in ("max", "product"))
    for layer in ("head_relu6", "block10_add"):
        maps = most[f"cam/{layer}/map"]
        np.testing.assert_array_equal(maps, product[f"cam/{layer}/map"])
        assert maps.min() >= 0  # means of stretched maps
    assert most["heatmap"].mean() > product["heatmap"].mean()
    pictures = sorted(p.name for p in (tmp_path / "max" / "overlays").glob("*-fused-*"))
    assert len(pictures) == 4 * 2
    with h5py.File(tmp_path / "max" / "index.h5") as index:
        assert index["target"].shape == (4, 2)


def test_activations_of_other_layers(images, tmp_path):
    """A dense layer and one that is not explained, in half precision."""
    command = ("extract", images, *LITE0, "--save", "maps,activations,pooled", "--out")
    layers = ("--activation-layer", "fc", "--activation-layer", "block7_add")
    code, _, err = shardcam(*command, tmp_path / "half", *layers, "--activation-dtype", "f2")
    assert code == 0, err
    half = contents(tmp_path / "half")
    kept = {name for name in half if name.startswith("activation/")}
    assert kept == {"activation/fc", "activation/block7_add"}
    assert half["activation/fc"].shape == (4, 1000)
    assert half["activation/fc"].dtype == np.float16
    assert not half["flags"].any()
    assert shardcam(*command, tmp_path / "whole", "--layer", "block7_add")[0] == 0
    whole = contents(tmp_path / "whole")
    values = whole["activation/block7_add"]
    np.testing.assert_allclose(half["activation/block7_add"], values, rtol=2e-3, atol=1e-3)
    np.testing.assert_allclose(half["pooled/block7_add"], whole["pooled/block7_add"], atol=1e-5)
    assert half["pooled/fc"].argmax(axis=1).tolist() == half["top_class"][:, 0].tolist()


def test_refinecam_is_the_product_of_two_layers(images, tmp_path):
    command = ("extract", images, *LITE0, *TWO, "--save", "maps,heatmaps", "--out")
    assert shardcam(*command, tmp_path / "refine", "--method", "refinecam")[0] == 0
    product = ("--method", "gradcam++", "--fuse", "product")
    assert shardcam(*command, tmp_path / "product", *product)[0] == 0
    assert shardcam(*command, tmp_path / "mean", "--method", "gradcam++")[0] == 0
    refine, same, mean = (contents(tmp_path / n)["heatmap"] for n in ("refine", "product", "mean"))
    np.testing.assert_array_equal(refine, same)
    assert (refine != mean).any()


def test_smoothing_does_not_change_what_else_is_saved(images, tmp_path):
    command = ("extract", images, *LITE0, "--save", "maps,activations,pooled,logits", "--out")
    assert shardcam(*command, tmp_path / "plain")[0] == 0
    assert shardcam(*command, tmp_path / "aug", "--smooth", "aug")[0] == 0
    plain, aug = contents(tmp_path / "plain"), contents(tmp_path / "aug")
    for name in ("activation/head_relu6", "pooled/head_relu6", "logits", "score", "target"):
        np.testing.assert_array_equal(plain[name], aug[name])
    assert (plain["cam/head_relu6/map"] != aug["cam/head_relu6/map"]).any()


@pytest.mark.parametrize("name", ["layercam", "ablationcam", "smoothgradcam++"])
def test_maps_do_not_depend_on_shard_or_batch(images, tmp_path, name):
    command = ("extract", images, *LITE0, "--layer", "block14_add", "--method", name)
    found = []
    for shard, batch in ((1, 1), (3, 2), (4, 8)):
        sizes = ("--shard-size", shard, "--batch-size", batch, "--out", tmp_path / str(shard))
        assert shardcam(*command, *sizes)[0] == 0
        rows = contents(tmp_path / str(shard))
        unit, scale = (rows[f"cam/block14_add/{part}"] for part in ("map", "scale"))
        found.append((rows["key"].tolist(), unit.astype(np.float32) * scale[..., None, None]))
    for keys, maps in found[1:]:
        assert keys == found[0][0]
        np.testing.assert_allclose(maps, found[0][1], atol=2e-3 * abs(maps).max())


def test_what_does_not_fit_is_one_line(images, tmp_path):
    cases = [
        (
            ("--method", "eigencam", "--smooth", "eigen"),
            "eigencam is not a sum of terms",
        ),
        (("--smooth", "twice"), "takes aug, eigen or aug,eigen; not twice"),
        (("--method", "refinecam"), "give --layer more than once"),
        (("--fuse", "max", *TWO), "add heatmaps or overlays to --save"),
        (("--method", "fullgrad", "--layer", "block10_add"), "leave --layer out"),
        (("--method", "fullgrad", "--precision", "int8"), "leave --precision out"),
        (("--activation-layer", "fc"), "add activations or pooled to --save"),
        (("--method", "kpcacam", "--layer", "stem_conv", "--image-size", "160"), "at most 1024"),
    ]
    for options, message in cases:
        code, _, err = shardcam("extract", images, *LITE0, "--out", tmp_path / "run", *options)
        assert code == 2, (options, err)
        assert message in err, (options, err)
        assert len(err.strip().splitlines()) == 1, err
        assert not (tmp_path / "run").exists()
