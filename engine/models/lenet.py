"""The classic network for digits, and its training: two convolution layers, two dense ones.

LeCun et al. 1998 in the form that MXNet's MNIST example made known: convolution,
activation, max-pooling, twice; then 500 units, activation, and one logit for each class.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import mxnet as mx
import numpy as np

from shardcam.engine.models.checkpoint import MEAN, STD
from shardcam.engine.types import F4, I4, U1, Preprocessing

KERNEL, CHANNELS, HIDDEN = 5, (20, 50), 500
BATCH = 50
MOMENTUM, DECAY = 0.9, 1e-4
TURN, GROW, SHIFT = 12.0, 0.12, 2.0  # how far a digit is distorted: degrees, share, pixels


@dataclass(frozen=True)
class Training:
    """Options of training."""

    classes: int
    activation: str  # tanh or relu
    preprocessing: Preprocessing
    epochs: int
    learning_rate: float
    seed: int


@dataclass(frozen=True)
class Epoch:
    """Loss and accuracy of one pass over the digits."""

    number: int  # from 1
    loss: float  # mean cross-entropy, on distorted digits
    accuracy: float  # on those


@dataclass(frozen=True)
class Checkpoint:
    """The two files of a trained network."""

    symbol: str
    params: bytes


def lenet(training: Training) -> mx.sym.Symbol:
    """LeNet; its input declares the expected preprocessing."""
    expected = training.preprocessing
    x = mx.sym.var(
        "data",
        shape=(0, *expected.input_shape),
        attr={MEAN: _text(expected.mean), STD: _text(expected.std)},
    )
    kind = training.activation
    for i, channels in enumerate(CHANNELS, 1):
        kernel = (KERNEL, KERNEL)
        x = mx.sym.Convolution(x, name=f"conv{i}", kernel=kernel, num_filter=channels)
        x = mx.sym.Activation(x, name=f"{kind}{i}", act_type=kind)
        x = mx.sym.Pooling(x, name=f"pool{i}", kernel=(2, 2), stride=(2, 2), pool_type="max")
    x = mx.sym.Flatten(x, name="flatten")
    x = mx.sym.FullyConnected(x, name="dense1", num_hidden=HIDDEN)
    x = mx.sym.Activation(x, name=f"{kind}3", act_type=kind)
    x = mx.sym.FullyConnected(x, name="dense2", num_hidden=training.classes)
    return mx.sym.SoftmaxOutput(x, name="softmax")


def train(digits: U1, labels: I4, training: Training, watch: Callable[[Epoch], None]) -> Checkpoint:
    """Train on (N,H,W) digits with N labels, each digit distorted differently in every epoch.

    Stochastic gradient descent with momentum, its rate falling along a cosine. The seed
    decides everything that is random; on one machine and with one number of threads the
    same bytes come out.
    """
    rng = np.random.RandomState(training.seed)
    symbol = lenet(training)
    module = mx.mod.Module(symbol, context=mx.cpu())
    module.bind(
        [("data", (BATCH, *training.preprocessing.input_shape))], [("softmax_label", (BATCH,))]
    )
    module.init_params(arg_params=_first_values(symbol, training, rng), aux_params={})
    steps = len(digits) // BATCH * training.epochs
    rate = mx.lr_scheduler.CosineScheduler(steps, base_lr=training.learning_rate)
    options = {"lr_scheduler": rate, "learning_rate": training.learning_rate}
    module.init_optimizer(None, "sgd", {**options, "momentum": MOMENTUM, "wd": DECAY})
    for number in range(1, training.epochs + 1):
        watch(_epoch(module, number, _batches(digits, labels, training, rng)))
    return Checkpoint(symbol.tojson(), _params_file(module.get_params()[0]))


def _epoch(module: mx.mod.Module, number: int, batches: Iterator[tuple[F4, I4]]) -> Epoch:
    losses, right = [], []
    for images, labels in batches:
        batch = mx.io.DataBatch([mx.nd.array(images)], [mx.nd.array(labels)])
        module.forward_backward(batch)
        module.update()
        scores = module.get_outputs()[0].asnumpy()
        losses.append(-np.log(scores[np.arange(BATCH), labels] + 1e-12).mean())
        right.append((scores.argmax(axis=1) == labels).mean())
    return Epoch(number, float(np.mean(losses)), float(np.mean(right)))


def _batches(
    digits: U1, labels: I4, training: Training, rng: np.random.RandomState
) -> Iterator[tuple[F4, I4]]:
    """Whole batches in a new order: what is left over comes in another epoch."""
    mean, std = training.preprocessing.mean[0], training.preprocessing.std[0]
    order = rng.permutation(len(digits))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        chosen = order[start : start + BATCH]
        pixels = np.stack([_distorted(digits[i], rng) for i in chosen])
        yield ((pixels[:, None].astype(np.float32) - mean) / std), labels[chosen]


def _distorted(digit: U1, rng: np.random.RandomState) -> U1:
    """Turned, resized and moved a little, as another hand would have written it."""
    turn, grow = rng.uniform(-TURN, TURN), rng.uniform(1 - GROW, 1 + GROW)
    height, width = digit.shape
    centre = ((width - 1) / 2, (height - 1) / 2)
    turned = cv2.getRotationMatrix2D(centre, turn, grow)
    matrix = np.column_stack([turned[:, :2], turned[:, 2] + rng.uniform(-SHIFT, SHIFT, 2)])
    moved: U1 = cv2.warpAffine(digit, matrix, (width, height)).astype(np.uint8, copy=False)
    return moved


def _first_values(
    symbol: mx.sym.Symbol, training: Training, rng: np.random.RandomState
) -> dict[str, mx.nd.NDArray]:
    """Glorot's uniform distribution (Glorot and Bengio 2010), biases 0."""
    shapes, _, _ = symbol.infer_shape(data=(BATCH, *training.preprocessing.input_shape))
    values = {}
    for name, shape in zip(symbol.list_arguments(), shapes, strict=True):
        if name.endswith("weight"):
            area = int(np.prod(shape[2:]))
            bound = np.sqrt(6.0 / ((shape[0] + shape[1]) * area))
            values[name] = mx.nd.array(rng.uniform(-bound, bound, shape))
        elif name.endswith("bias"):
            values[name] = mx.nd.zeros(shape)
    return values


def _params_file(values: dict[str, mx.nd.NDArray]) -> bytes:
    """MXNet writes to a path only."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params"
        mx.nd.save(str(path), {f"arg:{name}": values[name] for name in sorted(values)})
        return path.read_bytes()


def _text(values: tuple[float, ...]) -> str:
    return ",".join(map(repr, values))
