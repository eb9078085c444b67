"""Channels that oneDNN would run in another layout are filled up, and no value changes."""

import os
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

from shardcam.engine.models import mxnet_programs
from shardcam.engine.models.bound_program import backbone
from shardcam.engine.models.efficientnet_lite import efficientnet_lite0
from shardcam.engine.models.mxnet_programs import MxnetPrograms
from shardcam.engine.models.precision import BF16
from shardcam.engine.models.whole_blocks import with_whole_blocks
from shardcam.engine.processor.cpu_features import AVX512, features
from tests.models.networks import define

ROOT = Path(__file__).parent.parent.parent


def bottlenecks(narrow=24, kernel=(1, 1)):
    """Sums of narrow layers between wide ones, then 40 channels that a concatenation reads."""

    def conv_bn(x, name, channels, **more):
        kernel = more.pop("kernel", (1, 1))
        x = mx.sym.Convolution(x, name=name, num_filter=channels, kernel=kernel, **more)
        return mx.sym.BatchNorm(x, name=f"{name}_bn", fix_gamma=False)

    x = conv_bn(mx.sym.var("data"), "stem", 32, kernel=(3, 3))
    x = conv_bn(mx.sym.relu(x, name="stem_relu"), "narrow", narrow)
    pad = (kernel[0] // 2, kernel[0] // 2)
    for i in range(2):
        y = mx.sym.clip(
            conv_bn(x, f"wide{i}", 96, kernel=kernel, pad=pad), 0, 6, name=f"wide{i}_clip"
        )
        y = conv_bn(y, f"apart{i}", 96, kernel=(3, 3), pad=(1, 1), num_group=96)
        x = mx.sym.elemwise_add(conv_bn(y, f"narrow{i}", narrow, no_bias=True), x, name=f"add{i}")
    joined = conv_bn(x, "joined", 40)
    x = mx.sym.concat(joined, conv_bn(x, "beside", 40, num_group=2), name="concat", dim=1)
    x = mx.sym.FullyConnected(mx.sym.Flatten(x), name="dense", num_hidden=5)
    shapes, _, states = x.infer_shape(data=(1, 3, 12, 12))
    random = np.random.RandomState(0)
    names = [*zip(x.list_arguments(), shapes, strict=True)]
    names += zip(x.list_auxiliary_states(), states, strict=True)
    values = {name: random.uniform(0.5, 1.5, shape).astype(np.float32) for name, shape in names}
    values = {n: v if "_bn_" in n else (v - 1) / v[0].size ** 0.5 for n, v in values.items()}
    del values["data"]
    return define(x, values, channels=3, size=12)


def filled(definition, entries):
    """Names of what has other filters, and the values before and after."""
    images = mx.nd.array(np.random.RandomState(1).standard_normal((2, 3, 12, 12)))
    whole = with_whole_blocks(definition, entries)
    pairs = zip(definition.graph.nodes, whole.graph.nodes, strict=True)
    changed = {new.name: new.attrs["num_filter"] for old, new in pairs if old != new}
    values = []
    for network in (definition, whole):
        executor = backbone(network, entries, mx.cpu()).bind({"data": images})
        values.append([output.asnumpy() for output in executor.forward(is_train=False)])
    return changed, *values


def test_sums_of_24_channels_are_filled_up_to_32():
    definition = bottlenecks()
    changed, old, new = filled(definition, [(definition.graph.number("concat"), 0)])
    # what the concatenation and the groups read keeps its channels
    assert changed == {}
    changed, old, new = filled(definition, [(definition.graph.number("joined_bn"), 0)])
    assert changed == dict.fromkeys(("narrow", "narrow0", "narrow1"), "32")
    np.testing.assert_allclose(new[0], old[0], rtol=0, atol=1e-6 * np.abs(old[0]).max())


@pytest.mark.parametrize(
    ("before", "kernel", "after"),
    [
        (80, (1, 1), 96),
        (112, (1, 1), 128),
        (320, (1, 1), 336),
        (512, (1, 1), 528),
        (1024, (1, 1), 1056),
        (72, (1, 1), 80),  # 96 would be a third more
        (80, (3, 3), 80),
        (512, (3, 3), 512),
        (72, (3, 3), 80),
        *((whole, (1, 1), whole) for whole in (16, 32, 48, 64, 96, 144, 160, 240, 256, 384, 448)),
    ],
)
def test_filters_of_one_pixel_are_filled_up_to_what_is_computed_together(before, kernel, after):
    definition = bottlenecks(before, kernel)
    changed, old, new = filled(definition, [(definition.graph.number("joined_bn"), 0)])
    narrow = dict.fromkeys(("narrow", "narrow0", "narrow1"), str(after))
    assert changed == (narrow if after > before else {})
    np.testing.assert_allclose(new[0], old[0], rtol=0, atol=2e-6 * np.abs(old[0]).max())


LOGGED = """
import shardcam
from shardcam.engine.models.mxnet_programs import MxnetPrograms
from tests.models.test_whole_blocks import bottlenecks, mx
definition = bottlenecks(512)
programs = MxnetPrograms(definition, ("joined_bn",))
executor = programs.backbone.bind({"data": mx.nd.ones((2, 3, 12, 12))})
executor.forward(is_train=False)
mx.nd.waitall()
"""


@pytest.mark.process
@pytest.mark.skipif(not features() >= AVX512, reason="no AVX-512")
def test_no_convolution_of_one_pixel_runs_in_another_layout():
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DNNL_VERBOSE": "1"}
    environment.pop("DNNL_MAX_CPU_ISA", None)
    done = subprocess.run(
        [sys.executable, "-c", LOGGED],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "brgconv_1x1" in done.stdout
    assert "jit_1x1:avx512" not in done.stdout  # the last 40 filters are seen from outside


@pytest.mark.parametrize("tap", ["narrow_bn", "add0", "narrow1"])
def test_a_tap_keeps_its_channels(tap):
    definition = bottlenecks()
    entries = [(definition.graph.number(name), 0) for name in (tap, "joined_bn")]
    changed, old, new = filled(definition, entries)
    assert tap == "narrow1" or not changed
    for before, after in zip(old, new, strict=True):
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-6 * np.abs(before).max())


def test_weights_that_are_shared_stay_as_they_are():
    x = mx.sym.Convolution(mx.sym.var("data"), name="first", num_filter=24, kernel=(1, 1))
    weight = mx.sym.var("shared", shape=(24, 24, 1, 1))
    for name in ("second", "third", "fourth"):
        x = mx.sym.Convolution(x, weight, name=name, num_filter=24, kernel=(1, 1), no_bias=True)
    x = mx.sym.FullyConnected(mx.sym.Flatten(x), name="dense", num_hidden=2)
    shapes = dict(zip(x.list_arguments(), x.infer_shape(data=(1, 3, 12, 12))[0], strict=True))
    values = {name: np.ones(shape, np.float32) for name, shape in shapes.items() if name != "data"}
    definition = define(x, values, channels=3, size=12)
    changed, old, new = filled(definition, [(definition.graph.number("fourth"), 0)])
    assert not changed
    np.testing.assert_array_equal(new[0], old[0])


@pytest.mark.parametrize("known", [AVX512, frozenset({"avx2"})])
def test_efficientnet_has_its_channels_filled_up_in_float32_and_for_avx512(monkeypatch, known):
    monkeypatch.setattr(mxnet_programs, "features", lambda: known)
    definition = efficientnet_lite0()
    symbols = [MxnetPrograms(definition, ("auto",), p).backbone for p in ("fp32", BF16)]
    widths = [{v.shape[0] for v in s.arguments.values() if v.ndim == 4} for s in symbols]
    assert widths[1] - widths[0] == ({24, 40, 80, 112, 320} if known == AVX512 else set())
