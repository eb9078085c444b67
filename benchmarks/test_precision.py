"""Forward passes in fp32, bf16 and int8: images per second, and agreement with fp32.

All cores, batches as they are by default; the backbone alone, whose precision it is, and the
whole network with its float32 head. The precisions take turns. Agreement is on scikit-image's
photographs and textures: half of them calibrate int8, the other half are compared. Networks
without real weights here have random ones, and their agreement says little. Of each image it is
drawn into build/precision.png.
"""

from __future__ import annotations

import time
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.all_cores import THREADS
from benchmarks.figures import saved_figures
from shardcam.engine.config import RunConfig
from shardcam.engine.methods import METHODS
from shardcam.engine.models.layer_names import auto_layer
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.mxnet_network import BATCH, MxnetNetwork
from shardcam.engine.pictures.decode_image import EXTENSIONS
from shardcam.engine.readers.folder import FolderReader
from shardcam.engine.run.calibration import Calibration, calibrate_on_source, views_of_source
from shardcam.engine.run.plan import make_plan
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.write_listing import run_listing
from shardcam.engine.types import Decoding

PLOT = Path("build/precision.png")
MODELS = {"efficientnet_lite0": None, "resnet50_v1": "random", "vgg16": "random"}
PRECISIONS, ROUNDS = ("fp32", "bf16", "int8"), 5
DECODING = Decoding(RunConfig.model_fields["max_pixels"].default)


@cache
def prepared(model: str, precision: str) -> tuple[Any, str, Calibration]:
    definition = load_network(model, MODELS.get(model))
    layer = auto_layer(definition)
    spec = find_spec("skimage")
    assert spec is not None and spec.origin is not None
    reader = FolderReader(Path(spec.origin).parent / "data", EXTENSIONS)
    with (
        TemporaryDirectory() as folder,
        run_listing(RunDir(Path(folder)), {}, reader.samples) as listing,
    ):
        plan = make_plan(listing, None)
        views = views_of_source(plan, reader, definition.preprocessing, DECODING)
    calibration = calibrate_on_source(
        definition, (layer,), METHODS["gradcam"], views, precision, threads=THREADS
    )
    return definition, layer, calibration


@pytest.mark.parametrize("part", ["backbone", "network"])
@pytest.mark.parametrize("model", MODELS)
def test_forward(model: str, part: str) -> None:
    networks, found = {}, dict[str, dict[str, Any]]()
    for precision in PRECISIONS:
        definition, layer, calibration = prepared(model, precision)
        networks[precision] = MxnetNetwork(
            definition, (layer,), BATCH, precision, calibration.quantization, threads=THREADS
        )
        found[precision] = {
            "rates": [],
            "top1_agreement": calibration.top1_agreement,
            "map_correlation": calibration.map_correlation,
        }
    shape = (BATCH, *definition.preprocessing.input_shape)
    images = np.random.RandomState(0).standard_normal(shape).astype(np.float32)
    for turn in range(-1, ROUNDS):
        for precision, network in networks.items():
            start = time.perf_counter()
            run = network.forward(images)
            result = run.logits if part == "network" else run.layer(layer).activation
            rate = BATCH / (time.perf_counter() - start)
            assert np.isfinite(result).all()
            if turn >= 0:
                found[precision]["rates"].append(rate)
    with saved_figures("precision") as figures:
        figures.setdefault("networks", {}).setdefault(model, {})[part] = found
    for precision, one in found.items():
        one = {**one, "rates": f"{np.median(one['rates']):.1f} images/s"}
        print(f"\n{model} {part} {precision}: {one}")


def test_correlation_of_each_map() -> None:
    """A dot for each image compared, and a line at the mean."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    ways = [(model, precision) for model in MODELS for precision in ("bf16", "int8")]
    for place, (model, precision) in enumerate(ways):
        each = prepared(model, precision)[2].correlations
        assert each
        assert all(-1 <= one <= 1.000001 for one in each)
        spread = np.linspace(-0.25, 0.25, len(each))
        axes.plot(place + spread, sorted(each), "o", color="#3b6ea5", alpha=0.7, markersize=5)
        axes.hlines(np.mean(each), place - 0.35, place + 0.35, color="#b2182b")
    weights = ["ImageNet" if MODELS[model] is None else "random" for model, _ in ways]
    names = [f"{m}\n{w} weights\n{p}" for (m, p), w in zip(ways, weights, strict=True)]
    axes.set_xticks(range(len(ways)), names, fontsize=8)
    axes.set_ylabel("correlation with float32's map")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    count = prepared(*ways[0])[2].held_out
    axes.set_title(f"Grad-CAMs of {count} images: a dot for each, a line at the mean", fontsize=10)
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, dpi=110)
