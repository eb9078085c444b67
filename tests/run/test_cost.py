"""The guessed cost of many passes against the passes that a method makes."""

import numpy as np
import pytest

from shardcam.engine.config import RunConfig
from shardcam.engine.methods import METHODS
from shardcam.engine.models.layer_names import resolve_layer
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.engine.run.cost import run_cost
from tests.jobs.command import CHECKPOINT

WHOLE = 16 * 16 * 8 * 27 + 8 * 8 * 16 * 72 + 160  # multiply-adds of its layers
ABOVE_ONE = 8 * 8 * 16 * 72 + 160  # of those above the first


@pytest.fixture(scope="module")
def definition():
    return load_network(str(CHECKPOINT), image_size=32)


@pytest.mark.parametrize(
    ("method", "layer", "smooth", "passes", "each"),
    [
        ("gradcam", "one_relu", (), None, 0),
        ("scorecam", "one_relu", (), 8, WHOLE),
        ("scorecam", "two_relu", ("aug",), 96, WHOLE),
        ("ablationcam", "one_relu", (), 8, ABOVE_ONE),
        ("ablationcam", "two_relu", (), None, 0),  # in closed form
        ("smoothgradcam++", "two_relu", (), 4, WHOLE),
    ],
)
def test_the_passes_are_those_made(definition, method, layer, smooth, passes, each):
    config = RunConfig(source="s", model="m", out="o", method=method, smooth=smooth)
    cost = run_cost(config, definition, (resolve_layer(definition, layer),))
    if passes is None:
        assert cost is None
        return
    assert cost.passes == passes
    assert cost.multiply_adds == pytest.approx(passes * each)
    if smooth:
        return
    rows = []
    network = MxnetNetwork(definition, (layer,), 4)
    view = network.forward(np.zeros((1, 3, 32, 32), np.float32)).layer(layer)
    function = "of" if each == WHOLE else "at"
    plain = getattr(type(view), function)

    def counted(self, values, *others):
        rows.append(len(values))
        return plain(self, values, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(view), function, counted)
        METHODS[method](view, np.zeros((1, 1), np.int32))
    assert sum(rows) == passes
