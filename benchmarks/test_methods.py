"""What each CAM method costs on top of the forward pass that every run makes.

All cores, the first class of each image, at the layer that `auto` takes; ResNet-50's head is
in closed form, VGG16's is not. Two images at once, one where a method makes a pass for each
channel. `make bench-peers` measures the same for pytorch-grad-cam and torchcam, and puts all of it
into one table.
"""

from __future__ import annotations

import time
from functools import cache

import numpy as np
import pytest

from benchmarks.figures import saved_figures
from shardcam.engine.methods import METHODS
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.engine.pipeline.targets import top_classes
from shardcam.engine.types import F4
from shardcam.kernels import warm_up

BATCH = 8
ROUNDS = 5
CASES = [
    (model, name)
    for name, method in METHODS.items()
    if not method.reads_attention
    for model in ("resnet50_v1", "vgg16")
    if (model, name) != ("vgg16", "cam")  # it needs global average pooling, which VGG16 lacks
]

warm_up()


@cache
def network(model: str, whole: bool) -> tuple[MxnetNetwork, F4]:
    definition = load_network(model, "random")
    layer = definition.input_name if whole else "auto"
    images = np.random.RandomState(0).standard_normal((BATCH, 3, 224, 224)).astype(np.float32)
    return MxnetNetwork(definition, (layer,), BATCH), images


def save(model: str, name: str, multiple: float) -> None:
    """Beside the figures of whole runs, for benchmarks/summary.py."""
    with saved_figures("costs") as figures:
        figures.setdefault("costs", {}).setdefault(name, {})[model] = multiple


@pytest.mark.parametrize(("model", "name"), CASES)
def test_cost(model: str, name: str) -> None:
    method = METHODS[name]
    multi_pass = method.multi_pass and name != "smoothgradcam++"
    net, images = network(model, method.explains_input)
    count = 1 if multi_pass else BATCH
    layer = net.layers[-1].name

    def forward() -> float:
        start = time.perf_counter()
        assert np.isfinite(net.forward(images).logits).all()
        return (time.perf_counter() - start) / BATCH

    def explain() -> float:
        run = net.forward(images[:count])
        targets = top_classes(run.logits, 1)
        start = time.perf_counter()
        maps = method(run.layer(layer), targets)
        assert np.isfinite(maps).all()
        return (time.perf_counter() - start) / count

    forward()
    if name != "scorecam":
        explain()
    passes, extra = [], []
    for _ in range(1 if name == "scorecam" else ROUNDS):
        passes.append(forward())
        extra.append(explain())
    multiple = 1 + float(np.median(extra) / np.median(passes))
    save(model, name, multiple)
    milliseconds = 1e3 * np.median(extra)
    print(
        f"\n{model} {name}: {multiple:.3g} forward passes, {milliseconds:.3g} ms beyond the first"
    )
