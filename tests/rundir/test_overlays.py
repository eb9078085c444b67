"""Overlays against OpenCV: the colours, their share, the kind of file."""

import cv2
import numpy as np
import pytest

from shardcam.engine.rundir.overlays import OverlaySink, OverlayStyle, layer_names, picture_name
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.types import LayerMaps, ResultBatch, Sample, Shard, View

RNG = np.random.RandomState(1)
PICTURE = RNG.randint(0, 256, (32, 32, 3), np.uint8)
CODES = {
    "jet": cv2.COLORMAP_JET,
    "viridis": cv2.COLORMAP_VIRIDIS,
    "inferno": cv2.COLORMAP_INFERNO,
    "turbo": cv2.COLORMAP_TURBO,
}


def written(folder, style, layers=("conv",)):
    sample = Sample("a/b <c>.png", 7, -1, "", 0)
    batch = ResultBatch(
        samples=(sample,),
        views=(View(PICTURE, (32, 32), (0.0, 0.0, 32.0, 32.0)),),
        target=np.array([[3]], np.int32),
        score=np.ones((1, 1), np.float32),
        top_class=np.zeros((1, 1), np.int32),
        top_score=np.ones((1, 1), np.float32),
        flags=np.zeros(1, np.uint8),
        maps=dict.fromkeys(
            layers, LayerMaps(np.eye(4, dtype=np.float32)[None, None], np.ones((1, 1), "f4"))
        ),
        heatmap=np.zeros((1, 1, 32, 32), np.float16),
    )
    writer = OverlaySink(RunDir(folder), style).open(Shard(0, (sample,)))
    writer.write(batch)
    assert writer.commit(())
    return sorted((folder / "overlays").iterdir())


def drawn(folder, style):
    (file,) = written(folder, style)
    assert file.name == f"00000007-a-b-c--conv-3.{style.format}"
    return cv2.imread(str(file)).astype(int)


@pytest.mark.parametrize("colormap", CODES)
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_png_overlays_are_opencvs_blend(tmp_path, colormap, alpha):
    ours = drawn(tmp_path, OverlayStyle("png", colormap, alpha))
    heat = cv2.resize(np.eye(4, dtype=np.float32), (32, 32), interpolation=cv2.INTER_LINEAR)
    heat = (heat - heat.min()) / (heat.max() - heat.min())
    colours = cv2.applyColorMap((255 * heat).astype(np.uint8), CODES[colormap])
    photograph = cv2.cvtColor(PICTURE, cv2.COLOR_RGB2BGR)
    expected = cv2.addWeighted(colours, alpha, photograph, 1 - alpha, 0).astype(int)
    # One level of the table is at most 5 in the steepest of them; blending truncates.
    assert abs(ours - expected).max() <= 6
    assert abs(ours - expected).mean() < 1


def test_jpeg_overlays_are_the_same_picture(tmp_path):
    for name in ("png", "jpg"):
        (tmp_path / name).mkdir()
    png = drawn(tmp_path / "png", OverlayStyle("png", "viridis", 1.0))
    jpg = drawn(tmp_path / "jpg", OverlayStyle("jpg", "viridis", 1.0))
    assert 0 < abs(png - jpg).mean() < 4


def test_no_two_layers_share_a_picture(tmp_path):
    layers = ("a b", "a.b", "a/b", "A.b", "a.b.2", "fused", "x" * 300, "x" * 301)
    files = written(tmp_path, OverlayStyle(), layers)
    assert len({file.name.lower() for file in files}) == len(layers) + 1
    assert all(len(file.name) < 200 for file in files)
    assert layer_names(("a b", "a.b", "a/c")) == {"a.b": "a.b", "a b": "a.b.2", "a/c": "a.c"}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("a/b.jpg", "00000007-a-b"),
        ("../a.jpg", "00000007--a"),
        ("/a/b.jpg", "00000007--a-b"),
        ("/", "00000007--"),
        (".", "00000007--"),
        ("..", "00000007--"),
    ],
)
def test_any_key_gives_a_name(key, name):
    assert picture_name(7, key) == name
