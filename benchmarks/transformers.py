"""Transformers of timm in MXNet, at each precision, beside ONNX Runtime on the same file.

    OMP_NUM_THREADS=1 python -m benchmarks.transformers --peers PYTHON_WITH_TORCH [--rounds N]

Whole networks with random weights, batches of 8, CPU time of one thread; all ways take their turn
in each round. Maps and first classes are compared with float32's on scikit-image's photographs and
textures, as in test_precision.
"""

from __future__ import annotations

import time
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

from benchmarks.all_cores import THREADS

# isort: split
import click
import numpy as np

from benchmarks.figures import saved_figures
from benchmarks.test_precision import PRECISIONS, prepared
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.engine.types import F4

NETWORKS = ("deit_tiny_patch16_224", "swin_tiny_patch4_window7_224")
PEER, EXPORTS = Path(__file__).parent / "peers" / "transformers.py", Path("build/transformers")
BATCH, SIZE = 8, 224


class Peer:
    """ONNX Runtime in a process of its own, which makes a pass when asked."""

    def __init__(self, python: str, network: str) -> None:
        command = [python, str(PEER), network, str(EXPORTS)]
        self._process = Popen(command, stdin=PIPE, stdout=PIPE, text=True)
        while not (said := self._said()).startswith("ready "):
            click.echo(said)
        self.version = said.partition(" ")[2]

    def passed(self, precision: str) -> tuple[float, F4]:
        """Seconds of CPU time, and logits."""
        assert self._process.stdin is not None
        print(precision, file=self._process.stdin, flush=True)
        return float(self._said()), np.load(EXPORTS / f"{precision}.npy")

    def _said(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{PEER} has ended")
        return line.strip()

    def end(self) -> None:
        """Wait for its end."""
        self._process.communicate()


def passed(network: MxnetNetwork, images: F4) -> tuple[float, F4]:
    """Seconds of CPU time of a pass, and logits."""
    start = time.process_time()
    logits = network.forward(images).logits
    return time.process_time() - start, logits


def measure(name: str, peer: Peer, rounds: int) -> dict[str, Any]:
    """Of each way the seconds of its passes, and how far it is from float32."""
    shape = BATCH, 3, SIZE, SIZE
    images = np.random.RandomState(0).standard_normal(shape).astype(np.float32)
    np.save(EXPORTS / "images.npy", images)
    ways = {f"onnxruntime, {way}": lambda way=way: peer.passed(way) for way in ("fp32", "int8")}
    found: dict[str, Any] = {way: {"seconds": []} for way in ways}
    for precision in PRECISIONS:
        definition, layer, calibration = prepared(str(EXPORTS / f"{name}.onnx"), precision)
        how = precision, calibration.quantization
        network = MxnetNetwork(definition, (layer,), BATCH, *how)
        ways[way := f"MXNet, {precision}"] = lambda network=network: passed(network, images)
        found[way] = {
            "seconds": [],
            "top1_agreement": calibration.top1_agreement,
            "map_correlation": calibration.map_correlation,
        }
    exact = peer.passed("fp32")[1]
    for turn in range(-1, rounds):
        for way, one in ways.items():
            seconds, logits = one()
            if turn >= 0:
                found[way]["seconds"].append(seconds)
                found[way]["logits_off"] = float(abs(logits - exact).max() / abs(exact).max())
    return found


@click.command()
@click.option("--peers", required=True, help="A Python that has torch, timm and onnxruntime.")
@click.option("--rounds", default=7)
def main(peers: str, rounds: int) -> None:
    """Measure, and save the figures for the summary."""
    if THREADS != 1:
        raise SystemExit("one thread is compared: OMP_NUM_THREADS=1")
    EXPORTS.mkdir(parents=True, exist_ok=True)
    for name in NETWORKS:
        peer = Peer(peers, name)
        found = measure(name, peer, rounds)
        peer.end()
        with saved_figures("transformers", {"onnxruntime": peer.version}) as figures:
            figures.setdefault("networks", {})[name] = found


if __name__ == "__main__":
    main()
